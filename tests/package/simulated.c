/* SPDX-License-Identifier: MIT */
/* simulated: README's lines about weir::sim as a program: an echo of one's own on the simulated kernel, a hundred seeds. */
#include <weir/sim.h>
#include <weir/weir.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int echo(weir_conn *conn, const weir_message *message)
{
    return weir_send(conn, message->data, message->bytes);
}

/* 0: as it should be. */
static int simulate(unsigned seed, const weir_config *config, const weir_protocol *protocol)
{
    weir_sim_faults faults;
    weir_runtime *runtime;
    weir_error error;
    char bytes[6];
    int64_t written;
    int lost;

    weir_sim_faults_mix(seed, &faults);
    weir_sim_world *world = weir_sim_world_create(seed, &faults);
    if (weir_sim_open(world, config, &runtime, &error) != 0)
        return fprintf(stderr, "seed %u: %s\n", seed, error.sentence);
    if (weir_listen(runtime, "tcp://127.0.0.1:7000", protocol, NULL, NULL, &error) != 0)
        return fprintf(stderr, "seed %u: %s\n", seed, error.sentence);
    weir_sim_peer *peer = weir_sim_connect(world, "tcp://127.0.0.1:7000");
    weir_sim_run(world, runtime, WEIR_SECOND);
    written = weir_sim_peer_write(peer, "hello\n", 6);
    weir_sim_run(world, runtime, WEIR_SECOND);
    weir_sim_set_faults(world, NULL);
    weir_sim_run(world, runtime, WEIR_FOREVER);
    lost = written == 6 && weir_sim_peer_read(peer, bytes, 6) == -EAGAIN;
    if (lost)
        fprintf(stderr, "seed %u: neither an answer nor an end\n", seed);
    weir_close(&runtime);
    weir_sim_world_destroy(&world);
    return lost;
}

int main(void)
{
    weir_protocol protocol;
    weir_config config;
    unsigned seed;

    memset(&protocol, 0, sizeof(protocol));
    memset(&config, 0, sizeof(config));
    config.shards = 2;
    protocol.on_message = echo;
    if (weir_codec_line(&protocol.codec, 0, false) != 0)
        return 1;
    for (seed = 1; seed <= 100; seed++)
        if (simulate(seed, &config, &protocol) != 0)
            return 1;
    printf("100 seeds, and nothing was lost\n");
    return 0;
}
