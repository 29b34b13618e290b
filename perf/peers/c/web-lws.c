/* SPDX-License-Identifier: MIT */
/* web-lws: a WebSocket echo on libwebsockets, with one service thread. No extensions; its log is silent.
 *
 * Fragments of a message (libwebsockets hands on what has come, in pieces of its receive buffer, which has 64 KiB here) are put together; whole messages wait in the
 * connection's queue, each with the room in front that lws_write wants, until it is writeable. Then as many are written as the socket takes
 * (lws_send_pipe_choked), not one for each turn of the loop. A queue over 1 MiB stops its reading. */
#include "echo-peer.h"

#include <errno.h>
#include <libwebsockets.h>
#include <stdlib.h>
#include <string.h>

#define WEB_RECEIVE_BYTES 65536
#define WEB_QUEUE_MOST    (1u << 20)

struct web_message {
    struct web_message *next;
    size_t bytes, room;
    bool binary;
    uint8_t data[]; /* LWS_PRE bytes, and then the payload */
};

struct web_session {
    struct web_message *first, **last; /* to be written */
    struct web_message *begun;         /* not yet whole; NULL: none */
    size_t queued_bytes;
    bool stopped; /* it reads nothing now */
};

static struct web_message *web_message_append(struct web_message *message, const void *data, size_t bytes, size_t to_come)
{
    size_t have = message == NULL ? 0 : message->bytes, wanted = have + bytes + to_come;
    if (message == NULL || wanted > message->room) {
        struct web_message *larger = realloc(message, sizeof *message + LWS_PRE + wanted);
        if (larger == NULL)
            return NULL;
        if (message == NULL)
            *larger = (struct web_message){.next = NULL};
        larger->room = wanted;
        message = larger;
    }
    memcpy(message->data + LWS_PRE + have, data, bytes);
    message->bytes += bytes;
    return message;
}

static int web_receive(struct lws *wsi, struct web_session *session, const void *data, size_t bytes)
{
    struct web_message *message = web_message_append(session->begun, data, bytes, lws_remaining_packet_payload(wsi));
    if (message == NULL)
        return -1;
    session->begun = message;
    if (!lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi) > 0)
        return 0;
    session->begun = NULL;
    message->binary = lws_frame_is_binary(wsi) != 0;
    *session->last = message;
    session->last = &message->next;
    session->queued_bytes += message->bytes;
    if (session->queued_bytes > WEB_QUEUE_MOST && !session->stopped) {
        session->stopped = true;
        lws_rx_flow_control(wsi, 0);
    }
    lws_callback_on_writable(wsi);
    return 0;
}

static int web_write(struct lws *wsi, struct web_session *session)
{
    while (session->first != NULL && !lws_send_pipe_choked(wsi)) {
        struct web_message *message = session->first;
        if (lws_write(wsi, message->data + LWS_PRE, message->bytes, message->binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT) < 0)
            return -1;
        session->first = message->next;
        if (session->first == NULL)
            session->last = &session->first;
        session->queued_bytes -= message->bytes;
        free(message);
    }
    if (session->stopped && session->queued_bytes < WEB_QUEUE_MOST / 2) {
        session->stopped = false;
        lws_rx_flow_control(wsi, 1);
    }
    if (session->first != NULL)
        lws_callback_on_writable(wsi);
    return 0;
}

static void web_close(struct web_session *session)
{
    while (session->first != NULL) {
        struct web_message *message = session->first;
        session->first = message->next;
        free(message);
    }
    free(session->begun);
}

static int web_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *data, size_t bytes)
{
    struct web_session *session = user;
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        *session = (struct web_session){.last = &session->first};
        return 0;
    case LWS_CALLBACK_RECEIVE:
        return web_receive(wsi, session, data, bytes);
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return web_write(wsi, session);
    case LWS_CALLBACK_CLOSED:
        web_close(session);
        return 0;
    default:
        return 0;
    }
}

int main(int argc, char **argv)
{
    static const struct lws_protocols protocols[] = {
        {"echo", web_callback, sizeof(struct web_session), WEB_RECEIVE_BYTES, 0, NULL, 0},
        {NULL, NULL, 0, 0, 0, NULL, 0},
    };
    struct echo_peer peer = {0};
    echo_peer_begin(&peer, argc, argv, "A WebSocket echo on libwebsockets.");
    if (peer.threads > 1) {
        fprintf(stderr, "web-lws: --threads: it has one\n");
        return 2;
    }
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo((const struct sockaddr *)&peer.address.storage, peer.address.storage_bytes, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return 1;
    lws_set_log_level(LLL_ERR, NULL);
    struct lws_context_creation_info info = {.port = atoi(port),
                                             .iface = host,
                                             .protocols = protocols,
                                             .options = LWS_SERVER_OPTION_DISABLE_IPV6,
                                             .pt_serv_buf_size = WEB_RECEIVE_BYTES};
    struct lws_context *context = lws_create_context(&info);
    if (context == NULL)
        return 1;
    printf("listening on tcp://%s:%d\n", host, lws_get_vhost_listen_port(lws_get_vhost_by_name(context, "default")));
    fflush(stdout);
    while (lws_service(context, 0) >= 0)
        ;
    lws_context_destroy(context);
    return 0;
}
