/* SPDX-License-Identifier: MIT */
/* guest: the other end of a connection, a plain socket that does not block, and that may be cut off at any time. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "world.h"

#define FRAME_MAX_BYTES (256 * 1024)

static uint8_t out[4 + FRAME_MAX_BYTES], in[4 + FRAME_MAX_BYTES], wanted[FRAME_MAX_BYTES];

void world_fill(uint8_t *data, uint32_t bytes, char command, uint64_t seed)
{
    for (uint32_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8) + seed * 37);
    if (bytes > 0)
        data[0] = (uint8_t)command;
}

struct guest *guest_new(struct world *world)
{
    MUST(world->guest_count < WORLD_GUESTS);
    struct guest *guest = &world->guests[world->guest_count++];
    *guest = (struct guest){.world = world, .descriptor = -1, .seat = -1};
    return guest;
}

static socklen_t address_of(const char *text, struct sockaddr_storage *storage)
{
    memset(storage, 0, sizeof *storage);
    if (strncmp(text, "unix://", 7) == 0) {
        struct sockaddr_un *path = (struct sockaddr_un *)(void *)storage;
        path->sun_family = AF_UNIX;
        strncpy(path->sun_path, text + 7, sizeof path->sun_path - 1);
        return sizeof *path;
    }
    struct sockaddr_in *tcp = (struct sockaddr_in *)(void *)storage;
    tcp->sin_family = AF_INET;
    tcp->sin_port = htons((uint16_t)atoi(strrchr(text, ':') + 1));
    tcp->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof *tcp;
}

struct guest *guest_dial(struct world *world, const char *address)
{
    struct guest *guest = guest_new(world);
    struct sockaddr_storage storage;
    socklen_t bytes = address_of(address, &storage);
    guest->descriptor = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(guest->descriptor >= 0);
    while (connect(guest->descriptor, (struct sockaddr *)&storage, bytes) != 0)
        if (errno != EINTR && errno != EALREADY) {
            if (errno != EISCONN)
                guest_lacks(guest);
            break;
        }
    MUST_EQUAL(fcntl(guest->descriptor, F_SETFL, O_NONBLOCK), 0);
    return guest;
}

struct guest *guest_seat(struct world *world, uint32_t shard)
{
    struct guest *guest = guest_new(world);
    int pair[2];
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    MUST_EQUAL(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
    guest->seat = pair[0];
    guest->shard = shard;
    guest->descriptor = pair[1];
    return guest;
}

struct guest *guest_accepted(struct world *world, int descriptor)
{
    struct guest *guest = guest_new(world);
    guest->descriptor = descriptor;
    MUST_EQUAL(fcntl(descriptor, F_SETFL, O_NONBLOCK), 0);
    return guest;
}

void guest_lacks(struct guest *guest)
{
    guest->world->cut += !guest->cut;
    guest->cut = guest->is_ended = true;
}

/* Nothing to be had now, but there may be soon. */
static bool is_waiting(const struct guest *guest, ssize_t result)
{
    return result < 0 && (errno == EAGAIN || errno == EINTR) && !guest->is_ended;
}

bool guest_send(struct guest *guest, const void *data, size_t bytes)
{
    const uint8_t *from = data;
    for (size_t done = 0; done < bytes && !guest->is_ended;) {
        ssize_t sent = -1;
        if (WORLD_UNTIL(guest->world, !is_waiting(guest, sent = send(guest->descriptor, from + done, bytes - done, MSG_NOSIGNAL))) &&
            sent >= 0)
            done += (size_t)sent;
        else
            guest_lacks(guest);
    }
    return !guest->is_ended;
}

bool guest_read(struct guest *guest, void *data, size_t bytes)
{
    uint8_t *to = data;
    for (size_t done = 0; done < bytes && !guest->is_ended;) {
        ssize_t got = -1;
        bool answered = WORLD_UNTIL(guest->world, !is_waiting(guest, got = recv(guest->descriptor, to + done, bytes - done, 0)));
        if (answered && got > 0) {
            done += (size_t)got;
            guest->heard_bytes += (size_t)got;
        } else {
            guest->world->unheard |= got < 0 && errno != EAGAIN;
            guest_lacks(guest);
        }
    }
    return !guest->is_ended;
}

bool guest_say(struct guest *guest, char command, uint32_t bytes, uint64_t seed)
{
    MUST(bytes <= FRAME_MAX_BYTES);
    memcpy(out, &(uint32_t){htole32(bytes)}, 4);
    world_fill(out + 4, bytes, command, seed);
    return guest_send(guest, out, 4 + (size_t)bytes);
}

int guest_read_frame(struct guest *guest, uint8_t *data, uint32_t max)
{
    uint32_t bytes;
    if (!guest_read(guest, &bytes, 4))
        return -1;
    bytes = le32toh(bytes);
    WORLD_MUST(guest->world, bytes <= max);
    return guest_read(guest, data, bytes) ? (int)bytes : -1;
}

bool guest_hear(struct guest *guest, char command, uint32_t bytes, uint64_t seed)
{
    int got = guest_read_frame(guest, in, FRAME_MAX_BYTES);
    if (got < 0)
        return false;
    world_fill(wanted, bytes, command, seed);
    WORLD_MUST(guest->world, (uint32_t)got == bytes);
    WORLD_MUST(guest->world, memcmp(in, wanted, bytes) == 0);
    return true;
}

bool guest_talk(struct guest *guest, char command, uint32_t bytes, uint64_t seed)
{
    return guest_say(guest, command, bytes, seed) && guest_hear(guest, command, bytes, seed);
}

void guest_leave(struct guest *guest)
{
    struct world *world = guest->world;
    ssize_t got = -1;
    if (guest->descriptor < 0)
        return;
    (void)shutdown(guest->descriptor, SHUT_WR);
    /* A seat that was never taken has its own end still open; and who turned nobody's shard has nobody to end it. */
    while (world->runtime != NULL && guest->seat < 0 && got != 0) {
        guest->is_ended = false;
        bool answered = WORLD_UNTIL(world, !is_waiting(guest, got = recv(guest->descriptor, in, sizeof in, 0)));
        if (!answered || got < 0) {
            world->unheard = true;
            break;
        }
        guest->heard_bytes += (size_t)got;
        WORLD_MUST(world, guest->cut || got == 0);
    }
    close(guest->descriptor);
    guest->descriptor = -1;
    guest->is_ended = true;
}
