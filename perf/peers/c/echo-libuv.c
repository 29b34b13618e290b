/* SPDX-License-Identifier: MIT */
/* echo-libuv: an echo server on libuv.
 *
 * Each thread has a loop and a listening socket of its own (SO_REUSEPORT). A connection reads into a buffer of 64 KiB that it has only
 * while it holds bytes: empty ones go back to their loop's spare ones, last in, first out. All whole messages of a read are answered with
 * one uv_try_write, which costs no request and no callback; only what it does not take goes into a uv_write.
 *
 * Road:    readable → read → cut → uv_try_write → what is left of a message stays in the buffer.
 * Ditches: short write → uv_write the rest out of the same buffer, and read no more until it is out; a message longer than the buffer →
 *          the buffer grows for it; a wrong length, an error, the end → close; no descriptor left → libuv turns the client away. */
#include "echo-input.h"

#include <signal.h>
#include <stdbool.h>
#include <uv.h>

struct conn {
    uv_tcp_t tcp; /* first: libuv hands it back as the connection */
    uv_write_t rest;
    struct echo_input input;
};

struct server {
    uv_loop_t loop; /* first: a handle's loop is its server */
    uv_thread_t thread;
    uv_tcp_t listener;
    uv_signal_t signals[2];
    enum pattern_framing framing;
    struct echo_spares spares;
};

static void check(int result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "echo-libuv: %s: %s\n", what, uv_strerror(result));
    exit(1);
}

/* --- connections --- */

static struct server *conn_server(const struct conn *conn)
{
    return (struct server *)conn->tcp.loop;
}

static void conn_closed(uv_handle_t *handle)
{
    struct conn *conn = (struct conn *)handle;
    echo_input_release(&conn->input, &conn_server(conn)->spares);
    free(conn);
}

static void conn_close(struct conn *conn)
{
    if (!uv_is_closing((uv_handle_t *)&conn->tcp))
        uv_close((uv_handle_t *)&conn->tcp, conn_closed);
}

static void conn_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct conn *conn = (struct conn *)handle;
    struct echo_input *input = &conn->input;
    (void)suggested;
    if (echo_input_reserve(input, &conn_server(conn)->spares, 0))
        *buffer = uv_buf_init((char *)input->bytes + input->filled, (unsigned)(input->room - input->filled));
    else
        *buffer = uv_buf_init(NULL, 0); /* conn_read hears of UV_ENOBUFS */
}

static void conn_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer);

static void conn_written(uv_write_t *rest, int result)
{
    struct conn *conn = (struct conn *)rest->handle;
    if (result < 0) {
        conn_close(conn);
        return;
    }
    echo_input_answered(&conn->input, &conn_server(conn)->spares);
    uv_read_start((uv_stream_t *)&conn->tcp, conn_room, conn_read);
}

/* What a write has left goes when the peer has made room for it; until then nothing is read. */
static void conn_write_rest(struct conn *conn, size_t written)
{
    uv_buf_t rest = uv_buf_init((char *)conn->input.bytes + written, (unsigned)(conn->input.whole - written));
    uv_read_stop((uv_stream_t *)&conn->tcp);
    if (uv_write(&conn->rest, (uv_stream_t *)&conn->tcp, &rest, 1, conn_written) < 0)
        conn_close(conn);
}

static void conn_answer(struct conn *conn)
{
    uv_buf_t whole = uv_buf_init((char *)conn->input.bytes, (unsigned)conn->input.whole);
    int written = whole.len == 0 ? 0 : uv_try_write((uv_stream_t *)&conn->tcp, &whole, 1);
    if (written == UV_EAGAIN)
        written = 0;
    if (written < 0)
        conn_close(conn);
    else if ((size_t)written < whole.len)
        conn_write_rest(conn, (size_t)written);
    else
        echo_input_answered(&conn->input, &conn_server(conn)->spares);
}

static void conn_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct conn *conn = (struct conn *)stream;
    struct server *server = conn_server(conn);
    (void)buffer;
    if (count < 0 || !echo_input_take(&conn->input, &server->spares, server->framing, (size_t)count))
        conn_close(conn);
    else
        conn_answer(conn);
}

/* --- the loop --- */

static void server_accept(uv_stream_t *listener, int status)
{
    struct conn *conn = status < 0 ? NULL : calloc(1, sizeof *conn);
    if (conn == NULL)
        return;
    uv_tcp_init(listener->loop, &conn->tcp);
    uv_tcp_nodelay(&conn->tcp, 1);
    if (uv_accept(listener, (uv_stream_t *)&conn->tcp) < 0 || uv_read_start((uv_stream_t *)&conn->tcp, conn_room, conn_read) < 0)
        conn_close(conn);
}

static void server_close_handle(uv_handle_t *handle, void *user)
{
    struct server *server = user;
    bool own = handle->type == UV_SIGNAL || handle == (uv_handle_t *)&server->listener;
    if (!uv_is_closing(handle))
        uv_close(handle, own ? NULL : conn_closed);
}

/* Each loop hears each signal. */
static void server_stop(uv_signal_t *handle, int number)
{
    (void)number;
    uv_walk(handle->loop, server_close_handle, handle->loop);
}

static void server_listen(struct server *server, struct echo_peer *peer)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    int on = 1, listener;
    server->framing = peer->framing;
    check(uv_loop_init(&server->loop), "loop");
    check(uv_tcp_init_ex(&server->loop, &server->listener, peer->address.storage.ss_family), "socket");
    check(uv_fileno((uv_handle_t *)&server->listener, &listener), "socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    check(uv_tcp_bind(&server->listener, (const struct sockaddr *)&peer->address.storage, 0), "bind");
    check(uv_listen((uv_stream_t *)&server->listener, ECHO_PEER_BACKLOG, server_accept), "listen");
    echo_peer_bound(peer, listener);
    for (unsigned i = 0; i < 2; i++) {
        check(uv_signal_init(&server->loop, &server->signals[i]), "signal");
        check(uv_signal_start(&server->signals[i], server_stop, numbers[i]), "signal");
    }
}

static void server_run(void *argument)
{
    struct server *server = argument;
    uv_run(&server->loop, UV_RUN_DEFAULT);
    check(uv_loop_close(&server->loop), "loop");
    echo_spares_free(&server->spares);
}

int main(int argc, char **argv)
{
    struct echo_peer peer;
    echo_peer_begin(&peer, argc, argv, "Echoes what it receives: a libuv server, that weir is measured against.");
    struct server *servers = calloc(peer.threads, sizeof *servers);
    if (servers == NULL)
        return 1;
    for (uint32_t i = 0; i < peer.threads; i++)
        server_listen(&servers[i], &peer);
    for (uint32_t i = 1; i < peer.threads; i++)
        check(uv_thread_create(&servers[i].thread, server_run, &servers[i]), "thread");
    echo_peer_say(&peer);
    server_run(&servers[0]);
    for (uint32_t i = 1; i < peer.threads; i++)
        uv_thread_join(&servers[i].thread);
    free(servers);
    return 0;
}
