/* SPDX-License-Identifier: MIT */
/* sim_text: peers, servers and names by text, as a user writes them; what they come to is in sim_peer.c. */
#include <arpa/inet.h>
#include <string.h>

#include "runtime/io/address.h"
#include "runtime/io/sim_world.h"

static void look_up(struct weir_sim_world *world, const char *text, struct w_address *address)
{
    uint64_t delay_ns = 0;
    struct w_io_resolve resolve = {.port = address->port};
    memcpy(resolve.host, address->host, sizeof resolve.host);
    int count = w_sim_peer_look_up(world, &resolve, &delay_ns);
    W_SIM_REQUIRE(world, count > 0, "weir_sim_connect: nobody knows the host of %s: see weir_sim_set_name()", text);
    address->socket = resolve.addresses[0];
}

struct weir_sim_peer *weir_sim_connect(struct weir_sim_world *world, const char *text)
{
    struct w_address address;
    weir_error error;
    W_SIM_REQUIRE(world, w_address_parse_dial(text, &address, &error) == 0, "weir_sim_connect: %s", error.sentence);
    if (address.kind == W_ADDRESS_NAME)
        look_up(world, text, &address);
    return weir_sim_peer_connect(world, &address.socket);
}

struct weir_sim_peer *weir_sim_serve(struct weir_sim_world *world, const char *text, enum weir_sim_server manner)
{
    struct w_address address;
    weir_error error;
    W_SIM_REQUIRE(world, w_address_parse(text, &address, &error) == 0, "weir_sim_serve: %s", error.sentence);
    W_SIM_REQUIRE(world, address.kind == W_ADDRESS_NUMERIC, "weir_sim_serve: %s: only numbers and unix sockets are understood here", text);
    return weir_sim_server(world, &address.socket, manner);
}

int weir_sim_peer_name(const struct weir_sim_peer *peer, char *text, size_t text_bytes)
{
    struct w_io_address address;
    weir_sim_peer_address(peer, &address);
    return w_address_text(&address, text, text_bytes);
}

static bool read_number(const char *text, struct w_io_address *address)
{
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    *address = (struct w_io_address){0};
    if (inet_pton(AF_INET, text, &four.sin_addr) == 1) {
        memcpy(&address->socket, &four, sizeof four);
        address->bytes = sizeof four;
    } else if (inet_pton(AF_INET6, text, &six.sin6_addr) == 1) {
        memcpy(&address->socket, &six, sizeof six);
        address->bytes = sizeof six;
    }
    return address->bytes != 0;
}

void weir_sim_set_name(struct weir_sim_world *world, const char *host, uint64_t delay_ns, const char *addresses, int error)
{
    struct w_io_address found[W_IO_RESOLVE_MAX];
    char text[64 * W_IO_RESOLVE_MAX], *rest = NULL;
    int count = 0;
    W_SIM_REQUIRE(world, addresses != NULL || error < 0, "weir_sim_set_name: neither an address nor an error for %s", host);
    if (addresses == NULL) {
        weir_sim_name(world, host, delay_ns, error, NULL);
        return;
    }
    W_SIM_REQUIRE(world, strlen(addresses) < sizeof text, "weir_sim_set_name: too many addresses for %s", host);
    strcpy(text, addresses);
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        W_SIM_REQUIRE(world, count < W_IO_RESOLVE_MAX, "weir_sim_set_name: more than %d addresses for %s", W_IO_RESOLVE_MAX, host);
        W_SIM_REQUIRE(world, read_number(word, &found[count]), "weir_sim_set_name: %s is not an address without a port", word);
        count++;
    }
    weir_sim_name(world, host, delay_ns, count, found);
}
