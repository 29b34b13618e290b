/* SPDX-License-Identifier: MIT */
/* fuzz_service: any settings that are allowed, on the simulated kernel: an echo service opens with them or says why not, echoes what a client sends, and stops, with every
 * connection told of its end and all memory home, and never more of it out than weir_memory_bound() says. Where no setting asks for anything else, all comes back.
 *
 * Input: [seed: 2][which flags][which allocation is refused: 2][shards][numbers of the config ...][codec][numbers of codec and limits ...][payloads ...]; a number is a byte, 0:
 * the default, else so many bits. flags: faults in bit 0, unix 1. A payload is [bytes]; its bytes are made up. */
#include <errno.h>
#include <string.h>

#include <weir/sim.h>
#include <weir/weir.h>

#include "fuzz.h"
#include "runtime/limits.h"

#define MEMORY_MAX_BYTES  (UINT64_C(8) << 20)
#define STREAM_MAX_BYTES  8192
#define STEPS             40
#define STEP_NS           (25 * WEIR_MILLISECOND)
#define PATIENT_NS        (2 * STEPS * STEP_NS)
#define PAYLOAD_MAX_BYTES 256

static struct service {
    uint64_t allocations, refused_allocation, refusals; /* allocations so far; which one is refused, 0: none; how many were */
    uint64_t memory_bytes, memory_peak_bytes;
    uint64_t opened, closed;
    bool easy; /* true exactly when all that was sent has to come back */
    uint8_t stream[STREAM_MAX_BYTES];
    uint32_t stream_bytes, written_bytes, read_bytes;
} service;

/* --- memory --- */

static void *take_memory(void *user, size_t bytes, size_t alignment)
{
    struct service *s = user;
    void *memory = NULL;
    bool refused = ++s->allocations == s->refused_allocation || bytes > MEMORY_MAX_BYTES - s->memory_bytes;
    if (refused || posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) != 0) {
        s->refusals++;
        return NULL;
    }
    s->memory_bytes += bytes;
    if (s->memory_bytes > s->memory_peak_bytes)
        s->memory_peak_bytes = s->memory_bytes;
    return memory;
}

static void give_memory(void *user, void *memory, size_t bytes)
{
    struct service *s = user;
    FUZZ_CHECK(s->memory_bytes >= bytes);
    s->memory_bytes -= bytes;
    free(memory);
}

/* --- settings --- */

/* A power of two, or one less, from `least` to `most`; 0: the default. */
static uint64_t take_number(struct fuzz_input *input, uint64_t least, uint64_t most)
{
    uint8_t byte = fuzz_take_u8(input);
    uint64_t value = (UINT64_C(1) << (byte & 63)) - (byte >> 7);
    if (byte == 0)
        return 0;
    return value < least ? least : value > most ? most : value;
}

/* The same for what has to be a power of two. */
static uint32_t take_power(struct fuzz_input *input, uint32_t least, uint32_t most)
{
    uint32_t value = (uint32_t)take_number(input, least, most);
    return (value & (value - 1)) == 0 ? value : value + 1;
}

static uint64_t take_duration(struct fuzz_input *input)
{
    uint64_t value = take_number(input, 1, UINT64_MAX);
    return value == UINT64_C(1) << 63 ? WEIR_FOREVER : value;
}

static weir_config take_config(struct fuzz_input *input)
{
    weir_config config = {.shards = 1 + fuzz_take_u8(input) % 3};
    config.connections = (uint32_t)take_number(input, 1, 1 << 20);
    config.listeners = (uint32_t)take_number(input, 1, 1024);
    config.dials = (uint32_t)take_number(input, 1, 65536);
    config.ports = (uint32_t)take_number(input, 1, 4096);
    config.channels = (uint32_t)take_number(input, 1, 65536);
    config.groups = (uint32_t)take_number(input, 1, 65536);
    config.memory_bytes = take_number(input, 1 << 20, UINT64_C(1) << 40);
    config.assembly_bytes = take_number(input, 64 << 10, config.memory_bytes != 0 ? config.memory_bytes : 64 << 20);
    config.port_bytes = take_number(input, 64 << 10, UINT64_C(1) << 40);
    config.ring_bytes = take_power(input, 16 << 10, 16 << 20);
    config.send_bytes = (uint32_t)take_number(input, 4 << 10, 1 << 30);
    config.receive_buffers = take_power(input, 8, 32768);
    config.receive_buffer_bytes = (uint32_t)take_number(input, 4 << 10, 1 << 20);
    config.spin_ns = take_duration(input);
    config.stop_ns = take_duration(input);
    config.long_turn_ns = take_duration(input);
    config.allocator = (weir_allocator){.allocate = take_memory, .release = give_memory, .user = &service};
    return config;
}

static bool is_patient(uint64_t duration_ns)
{
    return duration_ns == 0 || duration_ns >= PATIENT_NS;
}

static void take_limits(struct fuzz_input *input, weir_protocol *protocol)
{
    weir_limits *limits = &protocol->limits;
    limits->high_water_bytes = (uint32_t)take_number(input, 1, WEIR_MESSAGE_MAX_BYTES);
    limits->low_water_bytes = (uint32_t)take_number(input, 1, UINT32_MAX);
    limits->hard_limit_bytes = (uint32_t)take_number(input, 1, UINT32_MAX);
    limits->slow_peer.queued_bytes_max = take_number(input, 1, UINT64_MAX);
    limits->slow_peer.stalled_ns_max = take_duration(input);
    limits->first_ns = take_duration(input);
    limits->message_ns = take_duration(input);
    limits->idle_ns = take_duration(input);
    limits->drain_ns = take_duration(input);
    service.easy = service.easy && limits->slow_peer.queued_bytes_max == 0 && is_patient(limits->slow_peer.stalled_ns_max) &&
                   is_patient(limits->first_ns) && is_patient(limits->message_ns) && is_patient(limits->idle_ns);
    if (!protocol->codec.boundaries) /* a piece may be more than there will ever be room for */
        service.easy = service.easy && limits->hard_limit_bytes == 0;
}

static int take_codec(struct fuzz_input *input, weir_codec *codec)
{
    uint8_t how = fuzz_take_u8(input);
    uint32_t message_max_bytes = (uint32_t)take_number(input, 1, WEIR_MESSAGE_MAX_BYTES);
    weir_frame_options options = {.length = (weir_frame_length)(how >> 2 & 7),
                                  .big_endian = how & 0x40,
                                  .counts_itself = how & 0x80,
                                  .message_max_bytes = message_max_bytes};
    switch (how & 3) {
    case 0:
        return weir_codec_raw(codec);
    case 1:
        return weir_codec_line(codec, message_max_bytes, how & 0x80);
    default:
        return weir_codec_frame(codec, &options);
    }
}

/* What the client will send: only what the codec can carry. */
static void take_stream(struct fuzz_input *input, const weir_codec *codec)
{
    static uint8_t payload[PAYLOAD_MAX_BYTES];
    weir_seal seal;
    while (input->bytes > 0 && service.stream_bytes < STREAM_MAX_BYTES - 2 * PAYLOAD_MAX_BYTES) {
        uint32_t bytes = fuzz_take_u8(input);
        memset(payload, 'a' + (int)bytes % 26, bytes);
        if (codec->seal(codec, payload, bytes, &seal) != 0)
            continue;
        uint8_t *to = service.stream + service.stream_bytes;
        memcpy(to, seal.head, seal.head_bytes);
        memcpy(to + seal.head_bytes, payload, bytes);
        memcpy(to + seal.head_bytes + bytes, seal.trailer, seal.trailer_bytes);
        service.stream_bytes += seal.head_bytes + bytes + seal.trailer_bytes;
    }
}

/* --- handlers --- */

static int on_open(weir_conn *conn)
{
    (void)conn;
    service.opened++;
    return 0;
}

static uint64_t queued_bytes(const weir_conn *conn)
{
    weir_conn_stats stats;
    FUZZ_CHECK(weir_conn_stats_get(weir_shard_runtime(weir_conn_shard(conn)), weir_conn_id(conn), &stats) == 0);
    return stats.queued_bytes;
}

/* A send is accepted while there is room, and only then. */
static int on_message(weir_conn *conn, const weir_message *message)
{
    const weir_protocol *protocol = weir_conn_protocol(conn);
    uint64_t before_bytes = queued_bytes(conn);
    int result = weir_send(conn, message->data, message->bytes);
    FUZZ_CHECK(result != 0 || before_bytes < w_limits_high_water(protocol));
    FUZZ_CHECK(queued_bytes(conn) <= w_limits_hard(protocol));
    return result == -EAGAIN ? WEIR_LATER : result;
}

static void on_close(weir_conn *conn, const weir_close_event *event)
{
    (void)conn;
    FUZZ_CHECK(event->reason > WEIR_REASON_NONE && event->reason < WEIR_REASON_COUNT);
    FUZZ_CHECK(event->error <= 0);
    service.closed++;
}

/* --- the run --- */

/* What comes back is what was sent. */
static void read_echo(weir_sim_peer *peer)
{
    uint8_t bytes[1024];
    int64_t count;
    while ((count = weir_sim_peer_read(peer, bytes, sizeof bytes)) > 0) {
        FUZZ_CHECK((uint64_t)count <= service.written_bytes - service.read_bytes);
        FUZZ_CHECK(memcmp(bytes, service.stream + service.read_bytes, (size_t)count) == 0);
        service.read_bytes += (uint32_t)count;
    }
}

static void echo(weir_sim_world *world, weir_runtime *runtime, const char *address)
{
    weir_sim_peer *peer = weir_sim_connect(world, address);
    for (int i = 0; i < STEPS && service.read_bytes < service.stream_bytes; i++) {
        int64_t count = weir_sim_peer_write(peer, service.stream + service.written_bytes, service.stream_bytes - service.written_bytes);
        service.written_bytes += count > 0 ? (uint32_t)count : 0;
        weir_sim_run(world, runtime, STEP_NS);
        read_echo(peer);
    }
    FUZZ_CHECK(!service.easy || service.refusals > 0 || service.read_bytes == service.stream_bytes);
    weir_sim_peer_close(&peer);
}

static void serve(weir_sim_world *world, weir_runtime *runtime, const weir_protocol *protocol, const char *address)
{
    weir_error error = {.code = 0};
    int result = weir_listen(runtime, address, protocol, NULL, NULL, &error);
    if (result == 0)
        echo(world, runtime, address);
    else
        FUZZ_CHECK(error.code == result && error.sentence[0] != '\0' && (result == -EINVAL || !service.easy || service.refusals > 0));
    weir_sim_set_faults(world, NULL);
    weir_stop(runtime);
    FUZZ_CHECK(weir_sim_run(world, runtime, WEIR_FOREVER) == WEIR_SIM_OVER);
    FUZZ_CHECK(service.opened == service.closed);
    FUZZ_CHECK(service.memory_peak_bytes <= weir_memory_bound(runtime));
    weir_close(&runtime);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input input = {data, bytes};
    weir_protocol protocol = {.name = "echo", .on_open = on_open, .on_message = on_message, .on_close = on_close};
    weir_runtime *runtime;
    weir_error error = {.code = 0};
    weir_sim_faults faults = {.socket_bytes_min = 0};
    uint64_t seed = fuzz_take(&input, 2);
    uint8_t flags = fuzz_take_u8(&input);
    service = (struct service){.refused_allocation = fuzz_take(&input, 2), .easy = !(flags & 1)};
    weir_config config = take_config(&input);
    if (take_codec(&input, &protocol.codec) != 0)
        return 0;
    take_limits(&input, &protocol);
    take_stream(&input, &protocol.codec);
    if (flags & 1)
        weir_sim_faults_mix(seed, &faults);
    weir_sim_world *world = weir_sim_world_create(seed, &faults);
    int result = weir_sim_open(world, &config, &runtime, &error);
    FUZZ_CHECK((result == 0) == (runtime != NULL));
    if (result == 0)
        serve(world, runtime, &protocol, flags & 2 ? "unix://@echo" : "tcp://127.0.0.1:7000");
    else
        FUZZ_CHECK(error.code == result && error.sentence[0] != '\0' && (!service.easy || service.refusals > 0));
    FUZZ_CHECK(service.memory_bytes == 0);
    weir_sim_world_destroy(&world);
    return 0;
}
