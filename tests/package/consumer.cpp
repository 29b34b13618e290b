/* SPDX-License-Identifier: MIT */
/* consumer: consumer.c's steps in C++17. */
#include <weir/weir.h>

#include <cstdio>
#include <string>

int main()
{
    weir_config config{};
    weir_protocol protocol{};
    weir_runtime *runtime = nullptr;
    weir_listener listener = 0;
    weir_error error{};
    char address[WEIR_ADDRESS_MAX_BYTES];

    config.shards = 1;
    if (weir_codec_line(&protocol.codec, 0, false) != 0)
        return 1;
    protocol.on_message = [](weir_conn *conn, const weir_message *message) { return weir_forward(conn, message, conn); };
    if (weir_open(&config, &runtime, &error) != 0 ||
        weir_listen(runtime, "tcp://127.0.0.1:0", &protocol, nullptr, &listener, &error) != 0) {
        std::fprintf(stderr, "consumer: %s\n", error.sentence);
        weir_close(&runtime);
        return 1;
    }
    if (weir_listener_address(runtime, listener, address, sizeof(address)) != 0)
        return 1;
    weir_close(&runtime);
    std::printf("weir %d.%d.%d listened on %s\n", WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR, WEIR_VERSION_PATCH, address);
    const std::string text = address;
    return text.rfind("tcp://127.0.0.1:", 0) == 0 && text != "tcp://127.0.0.1:0" ? 0 : 1;
}
