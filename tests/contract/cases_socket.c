/* SPDX-License-Identifier: MIT */
/* cases_socket: what the contract says about handles: listening, accepting, connecting, addresses, names, closing. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/contract/cases.h"

static const weir_socket_options no_options = {0};

static int listen_on(struct rig *rig, const struct w_io_address *address, enum w_io_sharing sharing)
{
    return rig->engine->listen(rig->engine->world, address, &no_options, sharing);
}

static void discard(struct rig *rig, int handle)
{
    rig->engine->discard(rig->engine->world, handle);
}

/* Accepts from some listening handles, restarting as io.h says. */
#define ACCEPTED_MAX 256
struct acceptor {
    int listening;
    uint64_t token;
    uint32_t seen;
    bool accepting, stopped;
    int handles[ACCEPTED_MAX];
    uint32_t count;
};

static void acceptor_look(struct rig *rig, struct acceptor *acceptor)
{
    while (acceptor->accepting && acceptor->seen < rig_of(rig, acceptor->token)->count) {
        const struct w_io_completion *completion = &rig_of(rig, acceptor->token)->completions[acceptor->seen++];
        ck_assert((completion->flags & W_IO_BUFFER) == 0);
        if (completion->result >= 0) {
            ck_assert_uint_lt(acceptor->count, ACCEPTED_MAX);
            for (uint32_t i = 0; i < acceptor->count; i++)
                ck_assert_int_ne(acceptor->handles[i], completion->result);
            acceptor->handles[acceptor->count++] = completion->result;
        } else {
            ck_assert_msg(completion->result == -EMFILE || completion->result == -ENFILE ||
                              (acceptor->stopped && completion->result == -ECANCELED),
                          "accept: %d", completion->result);
            ck_assert((completion->flags & W_IO_MORE) == 0);
        }
        if ((completion->flags & W_IO_MORE) == 0)
            acceptor->accepting = false;
    }
    if (!acceptor->accepting && !acceptor->stopped) {
        acceptor->accepting = true;
        acceptor->seen = 0;
        acceptor->token = rig_begin(rig);
        rig->engine->accept(rig->io, acceptor->listening, acceptor->token);
    }
}

/* Cancels the accept and waits for its end; who is accepted meanwhile counts. */
static void acceptor_stop(struct rig *rig, struct acceptor *acceptor)
{
    acceptor->stopped = true;
    if (acceptor->accepting)
        rig->engine->cancel(rig->io, acceptor->token);
    rig_until(rig, !acceptor->accepting, acceptor_look(rig, acceptor));
}

static void close_all(struct rig *rig, struct acceptor *acceptor)
{
    for (uint32_t i = 0; i < acceptor->count; i++)
        rig_close_handle(rig, acceptor->handles[i]);
    acceptor->count = 0;
}

static void finish_peers(struct rig *rig, struct outside_peer **peers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rig->outside->finish(&peers[i]);
}

/* The handle whose peer address is this peer's. */
static int handle_of(struct rig *rig, const struct acceptor *acceptor, struct outside_peer *peer)
{
    struct w_io_address mine, theirs;
    rig->outside->address(peer, &mine);
    for (uint32_t i = 0; i < acceptor->count; i++)
        if (rig->engine->peer_address(rig->engine->world, acceptor->handles[i], &theirs) == 0 && rig_port(&mine) == rig_port(&theirs))
            return acceptor->handles[i];
    return -1;
}

/* The peer says a word on its connection, and the handle receives it. */
static void check_word(struct rig *rig, int handle, struct outside_peer *peer, uint32_t salt)
{
    struct rig_stream stream;
    uint8_t word[40];
    rig_fill(word, sizeof word, salt);
    ck_assert_int_eq(rig->outside->write(peer, word, sizeof word), sizeof word);
    rig_stream_open(rig, &stream, handle);
    rig_until(rig, stream.bytes.count >= sizeof word, rig_stream_look(rig, &stream));
    rig_check(&stream.bytes, sizeof word, salt);
    rig_stream_close(rig, &stream);
}

/* 1. One accept brings many; each is its own connection, with its peer's address. */
START_TEST(accept_many)
{
    struct rig rig;
    struct acceptor acceptor = {0};
    struct outside_peer *peers[40];
    struct w_io_address address, local;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    acceptor.listening = rig_listen(&rig, &address);
    for (uint32_t i = 0; i < W_COUNT(peers); i++)
        peers[i] = rig.outside->connect(&address);
    rig_until(&rig, acceptor.count == W_COUNT(peers), acceptor_look(&rig, &acceptor));
    acceptor_stop(&rig, &acceptor);
    for (uint32_t i = 0; i < W_COUNT(peers); i++) {
        rig_until(&rig, rig.outside->is_open(peers[i]), (void)0);
        int handle = handle_of(&rig, &acceptor, peers[i]);
        ck_assert_int_ge(handle, 0);
        ck_assert_int_eq(rig.engine->local_address(rig.engine->world, handle, &local), 0);
        ck_assert_uint_eq(rig_port(&local), rig_port(&address));
        if (i % 8 == 0)
            check_word(&rig, handle, peers[i], i);
    }
    ck_assert_uint_eq(acceptor.count, W_COUNT(peers));
    close_all(&rig, &acceptor);
    finish_peers(&rig, peers, W_COUNT(peers));
    rig_close_handle(&rig, acceptor.listening);
    rig_close(&rig);
}
END_TEST

/* An accept of one brings one and is over; the others wait. Cancelled, it brings none. */
START_TEST(accept_one)
{
    struct rig rig;
    struct outside_peer *peers[6];
    struct w_io_address address;
    uint32_t accepted = 0;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    int listening = rig_listen(&rig, &address);
    uint64_t token = rig_begin(&rig);
    rig.engine->accept_one(rig.io, listening, token);
    rig_turn(&rig, 0);
    ck_assert_int_eq(rig_cancel(&rig, token), -ECANCELED);
    for (uint32_t i = 0; i < W_COUNT(peers); i++)
        peers[i] = rig.outside->connect(&address);
    while (accepted < W_COUNT(peers)) {
        token = rig_begin(&rig);
        rig.engine->accept_one(rig.io, listening, token);
        int32_t handle = rig_wait(&rig, token);
        ck_assert_uint_eq(rig_of(&rig, token)->count, 1);
        ck_assert_msg(handle >= 0 || handle == -EMFILE || handle == -ENFILE, "accept: %d", handle);
        accepted += handle >= 0;
        if (handle >= 0)
            rig_close_handle(&rig, handle);
        ck_assert_uint_eq(rig.in_flight, 0);
    }
    finish_peers(&rig, peers, W_COUNT(peers));
    rig_close_handle(&rig, listening);
    rig_close(&rig);
}
END_TEST

/* 6. An accept that is cancelled while somebody connects loses nobody. */
START_TEST(cancel_accept)
{
    struct rig rig;
    struct acceptor acceptor = {0};
    struct outside_peer *peers[30];
    struct w_io_address address;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    acceptor.listening = rig_listen(&rig, &address);
    for (uint32_t i = 0; i < W_COUNT(peers); i++) {
        acceptor_look(&rig, &acceptor);
        rig_turn(&rig, 0);
        peers[i] = rig.outside->connect(&address);
        rig_turn(&rig, i % 4 * 20 * WEIR_MICROSECOND);
        acceptor_look(&rig, &acceptor);
        acceptor_stop(&rig, &acceptor);
        acceptor.stopped = false;
    }
    rig_until(&rig, acceptor.count == W_COUNT(peers), acceptor_look(&rig, &acceptor));
    acceptor_stop(&rig, &acceptor);
    ck_assert_uint_eq(acceptor.count, W_COUNT(peers));
    close_all(&rig, &acceptor);
    finish_peers(&rig, peers, W_COUNT(peers));
    rig_close_handle(&rig, acceptor.listening);
    rig_close(&rig);
}
END_TEST

/* A port is one listener's, until it is closed; port 0 is a free one. */
START_TEST(listen_alone)
{
    struct rig rig;
    struct w_io_address address, other;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    int listening = rig_listen(&rig, &address);
    int second = rig_listen(&rig, &other);
    ck_assert_uint_ne(rig_port(&address), rig_port(&other));
    ck_assert_int_eq(listen_on(&rig, &address, W_IO_ALONE), -EADDRINUSE);
    ck_assert_int_eq(listen_on(&rig, &address, W_IO_SHARED_FIRST), -EADDRINUSE);
    discard(&rig, listening);
    listening = listen_on(&rig, &address, W_IO_ALONE);
    ck_assert_int_ge(listening, 0);
    discard(&rig, listening);
    discard(&rig, second);
    rig_close(&rig);
}
END_TEST

/* Several sockets on one address: everybody is accepted by one of them. */
START_TEST(listen_shared)
{
    struct rig rig;
    struct acceptor acceptors[2] = {{0}, {0}};
    struct outside_peer *peers[40];
    struct w_io_address address = rig_loopback(0);
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    acceptors[0].listening = listen_on(&rig, &address, W_IO_SHARED_FIRST);
    ck_assert_int_ge(acceptors[0].listening, 0);
    ck_assert_int_eq(rig.engine->local_address(rig.engine->world, acceptors[0].listening, &address), 0);
    acceptors[1].listening = listen_on(&rig, &address, W_IO_SHARED_NEXT);
    ck_assert_int_ge(acceptors[1].listening, 0);
    ck_assert_int_eq(listen_on(&rig, &address, W_IO_ALONE), -EADDRINUSE);
    ck_assert_int_eq(listen_on(&rig, &address, W_IO_SHARED_FIRST), -EADDRINUSE);
    for (uint32_t i = 0; i < W_COUNT(peers); i++)
        peers[i] = rig.outside->connect(&address);
    rig_until(&rig, acceptors[0].count + acceptors[1].count == W_COUNT(peers),
              (acceptor_look(&rig, &acceptors[0]), acceptor_look(&rig, &acceptors[1])));
    ck_assert_uint_gt(acceptors[0].count, 0); /* 40 of 40 to one socket: once in 2^39 */
    ck_assert_uint_gt(acceptors[1].count, 0);
    for (int i = 0; i < 2; i++) {
        acceptor_stop(&rig, &acceptors[i]);
        close_all(&rig, &acceptors[i]);
        rig_close_handle(&rig, acceptors[i].listening);
    }
    finish_peers(&rig, peers, W_COUNT(peers));
    rig_close(&rig);
}
END_TEST

static struct w_io_address unix_address(const char *path)
{
    struct w_io_address address = {.socket.unix_path = {.sun_family = AF_UNIX}};
    size_t bytes = strlen(path);
    ck_assert_uint_lt(bytes, sizeof address.socket.unix_path.sun_path);
    memcpy(address.socket.unix_path.sun_path, path, bytes + 1);
    bool abstract = path[0] == '@';
    if (abstract)
        address.socket.unix_path.sun_path[0] = '\0';
    address.bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes + (abstract ? 0 : 1));
    return address;
}

static void check_unix(struct rig *rig, const char *path)
{
    struct acceptor acceptor = {0};
    struct w_io_address address = unix_address(path), theirs;
    acceptor.listening = listen_on(rig, &address, W_IO_ALONE);
    ck_assert_msg(acceptor.listening >= 0, "listening on %s: %d", path, acceptor.listening);
    struct outside_peer *peer = rig->outside->connect(&address);
    rig_until(rig, acceptor.count == 1, acceptor_look(rig, &acceptor));
    acceptor_stop(rig, &acceptor);
    ck_assert_int_eq(rig->engine->peer_address(rig->engine->world, acceptor.handles[0], &theirs), 0);
    ck_assert_int_eq(theirs.socket.any.sa_family, AF_UNIX);
    rig_until(rig, rig->outside->is_open(peer), (void)0);
    check_word(rig, acceptor.handles[0], peer, 3);
    ck_assert_int_eq(listen_on(rig, &address, W_IO_ALONE), -EADDRINUSE); /* (an engine may find out by connecting) */
    close_all(rig, &acceptor);
    rig->outside->finish(&peer);
    rig_close_handle(rig, acceptor.listening);
}

/* Unix sockets: a name is one listener's; a file left behind is replaced, and removed when that is asked for. */
START_TEST(listen_unix)
{
    struct rig rig;
    char path[64], name[64];
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    snprintf(path, sizeof path, "/tmp/weir-contract-%d-%d", (int)getpid(), _i);
    snprintf(name, sizeof name, "@weir-contract-%d-%d", (int)getpid(), _i);
    check_unix(&rig, path);
    check_unix(&rig, path); /* the file of the first is still there */
    struct w_io_address address = unix_address(path);
    rig.engine->remove_address(rig.engine->world, &address);
    ck_assert_int_ne(access(path, F_OK), 0);
    check_unix(&rig, name);
    check_unix(&rig, name);
    rig_close(&rig);
}
END_TEST

static int dial(struct rig *rig, const struct w_io_address *address, uint64_t *token)
{
    int handle;
    while ((handle = rig->engine->socket(rig->io, address, &no_options)) < 0)
        ck_assert(handle == -EMFILE || handle == -ENFILE);
    *token = rig_begin(rig);
    rig->engine->connect(rig->io, handle, address, *token);
    return handle;
}

START_TEST(connect_and_talk)
{
    struct rig rig;
    struct w_io_address address = rig_loopback(0), local, remote, accepted;
    uint64_t token;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    struct outside_peer *server = rig.outside->serve(&address), *peer = NULL;
    int handle = dial(&rig, &address, &token);
    ck_assert_int_eq(rig_wait(&rig, token), 0);
    rig_until(&rig, peer != NULL, peer = rig.outside->accept(server));
    ck_assert_int_eq(rig.engine->peer_address(rig.engine->world, handle, &remote), 0);
    ck_assert_uint_eq(rig_port(&remote), rig_port(&address));
    ck_assert_int_eq(rig.engine->local_address(rig.engine->world, handle, &local), 0);
    rig.outside->address(peer, &accepted);
    ck_assert_uint_eq(rig_port(&accepted), rig_port(&address));
    check_word(&rig, handle, peer, 5);
    rig_close_handle(&rig, handle);
    rig.outside->finish(&peer);
    rig.outside->finish(&server);
    rig_close(&rig);
}
END_TEST

START_TEST(connect_refused)
{
    struct rig rig;
    struct w_io_address address;
    uint64_t token;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    int listening = rig_listen(&rig, &address);
    discard(&rig, listening); /* nobody listens there now */
    int handle = dial(&rig, &address, &token);
    ck_assert_int_eq(rig_wait(&rig, token), -ECONNREFUSED);
    ck_assert_int_eq(rig.engine->peer_address(rig.engine->world, handle, &address), -ENOTCONN);
    rig_close_handle(&rig, handle);
    rig_close(&rig);
}
END_TEST

/* 6. A connect that is cancelled ends once, whichever way. */
START_TEST(cancel_connect)
{
    struct rig rig;
    struct w_io_address address = rig_loopback(0);
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    struct outside_peer *server = rig.outside->serve(&address), *peer;
    for (int round = 0; round < 10; round++) {
        uint64_t token;
        int handle = dial(&rig, &address, &token);
        if (round % 2 == 0)
            rig_turn(&rig, 0);
        int32_t result = rig_of(&rig, token)->over ? rig_result(&rig, token) : rig_cancel(&rig, token);
        ck_assert_msg(result == 0 || result == -ECANCELED, "cancelled connect: %d", result);
        rig_close_handle(&rig, handle);
    }
    rig_turn(&rig, 5 * WEIR_MILLISECOND);
    while ((peer = rig.outside->accept(server)) != NULL)
        rig.outside->finish(&peer);
    rig.outside->finish(&server);
    rig_close(&rig);
}
END_TEST

/* Sockets from elsewhere. */
START_TEST(adopt_and_inherit)
{
    struct rig rig;
    struct acceptor acceptor = {0};
    struct outside_peer *peer;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    int handle = rig.outside->adoptable(&peer);
    ck_assert_int_eq(rig.engine->adopt(rig.io, handle, &no_options), 0);
    check_word(&rig, handle, peer, 9);
    rig.outside->finish(&peer);
    struct w_io_address address = rig_loopback(0);
    acceptor.listening = rig.outside->inheritable(&address);
    ck_assert_int_eq(rig.engine->adopt(rig.io, acceptor.listening, &no_options), -EINVAL);
    ck_assert_int_eq(rig.engine->listen_inherited(rig.engine->world, handle, &no_options), -EINVAL);
    ck_assert_int_eq(rig.engine->listen_inherited(rig.engine->world, 9999, &no_options), -EBADF);
    ck_assert_int_eq(rig.engine->listen_inherited(rig.engine->world, -1, &no_options), -EBADF);
    ck_assert_int_eq(rig.engine->listen_inherited(rig.engine->world, acceptor.listening, &no_options), acceptor.listening);
    peer = rig.outside->connect(&address);
    rig_until(&rig, acceptor.count == 1, acceptor_look(&rig, &acceptor));
    acceptor_stop(&rig, &acceptor);
    close_all(&rig, &acceptor);
    rig.outside->finish(&peer);
    rig_close_handle(&rig, acceptor.listening);
    rig_close_handle(&rig, handle);
    rig_close(&rig);
}
END_TEST

/* --- names --- */

static void ask(struct w_io_resolve *resolve, const char *host, uint16_t port)
{
    memset(resolve, 0, sizeof *resolve);
    snprintf(resolve->host, sizeof resolve->host, "%s", host);
    resolve->port = port;
}

static void check_loopback(const struct w_io_resolve *resolve, int32_t count)
{
    ck_assert_int_ge(count, 1);
    ck_assert_int_le(count, W_IO_RESOLVE_MAX);
    bool found = false;
    for (int i = 0; i < count; i++) {
        const struct w_io_address *address = &resolve->addresses[i];
        if (address->socket.any.sa_family == AF_INET) {
            const struct sockaddr_in *socket = (const struct sockaddr_in *)&address->socket.storage;
            found = found || socket->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
            ck_assert_uint_eq(ntohs(socket->sin_port), resolve->port);
            ck_assert_uint_eq(address->bytes, sizeof *socket);
        }
    }
    ck_assert(found);
}

START_TEST(resolve_names)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "::1", "nonexistent.invalid"};
    struct rig rig;
    struct w_io_resolve *asked = calloc(W_COUNT(hosts), sizeof *asked);
    uint64_t tokens[W_COUNT(hosts)];
    ck_assert_ptr_nonnull(asked);
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    rig.patience_ns = 40 * WEIR_SECOND; /* a name server that does not answer is asked for long */
    for (size_t i = 0; i < W_COUNT(hosts); i++) {
        ask(&asked[i], hosts[i], (uint16_t)(7000 + i));
        tokens[i] = rig_begin(&rig);
        rig.engine->resolve(rig.io, &asked[i], tokens[i]);
    }
    check_loopback(&asked[0], rig_wait(&rig, tokens[0]));
    check_loopback(&asked[1], rig_wait(&rig, tokens[1]));
    ck_assert_int_eq(rig_wait(&rig, tokens[2]), 1);
    ck_assert_int_eq(asked[2].addresses[0].socket.any.sa_family, AF_INET6);
    int32_t none = rig_wait(&rig, tokens[3]);
    ck_assert_msg(none == -EHOSTUNREACH || none == -EAGAIN, "nonexistent.invalid: %d", none);
    ask(&asked[0], "localhost", 1);
    check_loopback(&asked[0], rig.engine->resolve_now(rig.engine->world, &asked[0]));
    ask(&asked[0], "192.0.2.1", 1);
    ck_assert_int_eq(rig.engine->resolve_now(rig.engine->world, &asked[0]), 1);
    free(asked);
    rig_close(&rig);
}
END_TEST

/* 6. A look-up that is cancelled ends once; its memory is the caller's again. */
START_TEST(cancel_resolve)
{
    struct rig rig;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    for (int round = 0; round < 8; round++) {
        struct w_io_resolve *asked = malloc(sizeof *asked);
        ck_assert_ptr_nonnull(asked);
        ask(asked, round % 2 == 0 ? "localhost" : "nonexistent.invalid", 80);
        uint64_t token = rig_begin(&rig);
        rig.engine->resolve(rig.io, asked, token);
        if (round % 4 < 2)
            rig_turn(&rig, 0);
        int32_t result = rig_of(&rig, token)->over ? rig_result(&rig, token) : rig_cancel(&rig, token);
        ck_assert_msg(result > 0 || result == -ECANCELED || result == -EHOSTUNREACH || result == -EAGAIN, "cancelled look-up: %d", result);
        free(asked);
    }
    rig_close(&rig);
}
END_TEST

/* --- many, and numbers used again --- */

/* 7. From close() on the number may name another connection, even before the close's completion. */
START_TEST(handle_used_again)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    for (uint32_t round = 0; round < 10; round++) {
        struct acceptor acceptor = {.listening = pair.listening};
        struct outside_peer *next = rig->outside->connect(&pair.address);
        uint64_t closing = rig_begin(rig);
        rig->engine->close_handle(rig->io, pair.handle, closing);
        rig_until(rig, acceptor.count == 1, acceptor_look(rig, &acceptor));
        acceptor_stop(rig, &acceptor);
        rig_until(rig, rig->outside->is_open(next), (void)0);
        check_word(rig, acceptor.handles[0], next, round);
        ck_assert_int_eq(rig_wait(rig, closing), 0);
        rig->outside->finish(&pair.peer);
        pair.peer = next;
        pair.handle = acceptor.handles[0];
    }
    cases_pair_close(&pair);
}
END_TEST

static void start_each(struct rig *rig, const struct acceptor *acceptor, uint64_t *tokens, char what)
{
    for (uint32_t i = 0; i < acceptor->count; i++) {
        tokens[i] = rig_begin(rig);
        if (what == 'r')
            rig->engine->receive(rig->io, acceptor->handles[i], tokens[i]);
        else if (what == 's')
            rig->engine->send(rig->io, acceptor->handles[i], "one", 3, tokens[i]);
        else
            rig->engine->close_handle(rig->io, acceptor->handles[i], tokens[i]);
    }
}

/* 4. More operations between two submits than any queue of the kernel's holds. */
START_TEST(many_at_once)
{
    struct rig rig;
    struct acceptor *acceptor = calloc(1, sizeof *acceptor);
    struct outside_peer *peers[200];
    uint64_t receives[ACCEPTED_MAX], sends[ACCEPTED_MAX], closes[ACCEPTED_MAX];
    struct w_io_address address;
    ck_assert_ptr_nonnull(acceptor);
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    acceptor->listening = rig_listen(&rig, &address);
    for (uint32_t i = 0; i < W_COUNT(peers); i++)
        peers[i] = rig.outside->connect(&address);
    rig_until(&rig, acceptor->count == W_COUNT(peers), acceptor_look(&rig, acceptor));
    acceptor_stop(&rig, acceptor);
    start_each(&rig, acceptor, receives, 'r');
    start_each(&rig, acceptor, sends, 's');
    for (uint64_t i = 0; i < 5000; i++)
        rig.engine->cancel(rig.io, 7000000 + i);
    for (uint32_t i = 0; i < acceptor->count; i++)
        rig.engine->cancel(rig.io, receives[i]);
    for (uint32_t i = 0; i < acceptor->count; i++) {
        ck_assert_int_gt(rig_wait(&rig, sends[i]), 0);
        int32_t result = rig_wait(&rig, receives[i]);
        ck_assert_msg(result == -ECANCELED || result == -ENOBUFS, "receive: %d", result);
    }
    start_each(&rig, acceptor, closes, 'c');
    for (uint32_t i = 0; i < acceptor->count; i++)
        ck_assert_int_eq(rig_wait(&rig, closes[i]), 0);
    finish_peers(&rig, peers, W_COUNT(peers));
    rig_close_handle(&rig, acceptor->listening);
    free(acceptor);
    rig_close(&rig);
}
END_TEST

void cases_socket_add(TCase *tcase, int seeds)
{
    tcase_add_loop_test(tcase, accept_many, 0, seeds);
    tcase_add_loop_test(tcase, accept_one, 0, seeds);
    tcase_add_loop_test(tcase, cancel_accept, 0, seeds);
    tcase_add_loop_test(tcase, listen_alone, 0, seeds);
    tcase_add_loop_test(tcase, listen_shared, 0, seeds);
    tcase_add_loop_test(tcase, listen_unix, 0, seeds);
    tcase_add_loop_test(tcase, connect_and_talk, 0, seeds);
    tcase_add_loop_test(tcase, connect_refused, 0, seeds);
    tcase_add_loop_test(tcase, cancel_connect, 0, seeds);
    tcase_add_loop_test(tcase, adopt_and_inherit, 0, seeds);
    tcase_add_loop_test(tcase, resolve_names, 0, seeds);
    tcase_add_loop_test(tcase, cancel_resolve, 0, seeds);
    tcase_add_loop_test(tcase, handle_used_again, 0, seeds);
    tcase_add_loop_test(tcase, many_at_once, 0, seeds);
}
