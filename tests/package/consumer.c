/* SPDX-License-Identifier: MIT */
/* consumer: the least program that shows that weir was found, linked and works: opens, listens, reads the address, closes. */
#include <weir/weir.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    weir_codec codec;
    weir_protocol protocol;
    weir_config config;
    weir_runtime *runtime = NULL;
    weir_listener listener;
    weir_error error;
    char address[WEIR_ADDRESS_MAX_BYTES];

    memset(&protocol, 0, sizeof(protocol));
    memset(&config, 0, sizeof(config));
    config.shards = 1;
    if (weir_codec_frame(&codec, NULL) != 0)
        return 1;
    protocol.codec = codec;
    if (weir_open(&config, &runtime, &error) != 0 || weir_listen(runtime, "tcp://127.0.0.1:0", &protocol, NULL, &listener, &error) != 0) {
        fprintf(stderr, "consumer: %s\n", error.sentence);
        weir_close(&runtime);
        return 1;
    }
    if (weir_listener_address(runtime, listener, address, sizeof(address)) != 0)
        return 1;
    weir_close(&runtime);
    printf("weir %d.%d.%d listened on %s\n", WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR, WEIR_VERSION_PATCH, address);
    return strncmp(address, "tcp://127.0.0.1:", 16) == 0 && strcmp(address + 16, "0") != 0 ? 0 : 1;
}
