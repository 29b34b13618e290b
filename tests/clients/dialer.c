/* SPDX-License-Identifier: MIT */
/* dialer: weir's WebSocket client, at a stranger's echo server (run.py). Sends one message of each size and kind after the other, and compares what comes back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

static const uint32_t sizes[] = {0, 1, 125, 126, 127, 4095, 4096, 65535, 65536, 300000};
#define SIZES (sizeof sizes / sizeof *sizes)

static struct {
    weir_runtime *runtime;
    const char *address;
    size_t next; /* the next message: each size as text, then each as bytes; then one that comes back in fragments */
    bool good;
} dialer;

static char text[300000];
static const char please[] = "in fragments, please";

static void fail(const char *sentence)
{
    fprintf(stderr, "dialer: message %zu: %s\n", dialer.next, sentence);
    weir_stop(dialer.runtime);
}

static void send_next(weir_conn *conn)
{
    int result = dialer.next < 2 * SIZES ? weir_send_kind(conn, dialer.next < SIZES ? WEIR_WEBSOCKET_TEXT : WEIR_WEBSOCKET_BINARY, text,
                                                          sizes[dialer.next % SIZES])
                                         : weir_send(conn, please, sizeof please - 1);
    if (result != 0)
        fail(weir_strerror(result));
}

static int on_open(weir_conn *conn)
{
    const char *subprotocol = weir_websocket_subprotocol(conn);
    if (subprotocol == NULL || strcmp(subprotocol, "echo") != 0)
        fail("the server did not choose the sub-protocol");
    if (weir_send_control_kind(conn, WEIR_WEBSOCKET_PING, "from weir", 9) != 0)
        fail("no ping");
    send_next(conn);
    return 0;
}

static int on_message(weir_conn *conn, const weir_message *message)
{
    if (dialer.next == 2 * SIZES) {
        dialer.good = message->bytes == 12 && memcmp(message->data, "in fragments", 12) == 0;
        weir_websocket_end(conn, 4711);
        return WEIR_TAKEN;
    }
    uint32_t bytes = sizes[dialer.next % SIZES];
    uint8_t kind = dialer.next < SIZES ? WEIR_WEBSOCKET_TEXT : WEIR_WEBSOCKET_BINARY;
    if (message->bytes != bytes || message->kind != kind || memcmp(message->data, text, bytes) != 0)
        fail("it came back changed");
    dialer.next++;
    send_next(conn);
    return WEIR_TAKEN;
}

static void on_close(weir_conn *conn, const weir_close_event *event)
{
    (void)conn;
    if (event->reason != WEIR_REASON_LOCAL)
        fprintf(stderr, "dialer: %s, %s, the peer says %u\n", weir_reason_sentence(event->reason), weir_strerror(event->error),
                event->peer_code);
    dialer.good &= event->reason == WEIR_REASON_LOCAL && event->undelivered_bytes == 0;
    weir_stop(dialer.runtime);
}

static weir_protocol protocol = {.on_open = on_open, .on_message = on_message, .on_close = on_close};

static void on_start(weir_shard *shard)
{
    weir_error error;
    if (weir_dial(shard, dialer.address, &protocol, NULL, NULL, &error) != 0)
        fail(error.sentence);
}

int main(int argc, char **argv)
{
    static const char *const subprotocols[] = {"other", "echo", NULL};
    char address[WEIR_ADDRESS_MAX_BYTES];
    weir_error error;
    if (argc != 2)
        return 2;
    snprintf(address, sizeof address, "tcp://%s", argv[1]);
    dialer.address = address;
    memset(text, 'x', sizeof text);
    weir_websocket_options options = {.client = true,
                                      .host = argv[1],
                                      .target = "/echo?of=weir",
                                      .origin = "http://example.org",
                                      .subprotocols = subprotocols,
                                      .fields = "Cookie: a=b\r\n"};
    const weir_config config = {.shards = 1, .on_start = on_start};
    if (weir_codec_websocket(&protocol.codec, &options) != 0 || weir_open(&config, &dialer.runtime, &error) != 0) {
        fprintf(stderr, "dialer: cannot begin\n");
        return 1;
    }
    weir_run(dialer.runtime);
    weir_close(&dialer.runtime);
    puts(dialer.good ? "dialer: all is as it should be" : "dialer: it went wrong");
    return dialer.good ? 0 : 1;
}
