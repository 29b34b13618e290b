/* SPDX-License-Identifier: MIT */
/* errand: what the chat's shards say to each other. All of them agree on names, rooms and who is where because only shard 0, where the hall is, knows: a member's shard sends
 * an errand there, and it comes home with an answer.
 *
 * Ditches: -EAGAIN, some ring is full -> the errand waits in its shard's line, others behind it, until WEIR_PORT_ROOM. A member is not read
 *          while its errand is under way, so all lines together hold at most two errands for each connection. */
#ifndef CHAT_ERRAND_H
#define CHAT_ERRAND_H

#include <weir/weir.h>

#define NAME_BYTES 24                            /* hall_hear() knows it too */
#define TEXT_BYTES 1000                          /* of what is said at once */
#define LINE_BYTES (NAME_BYTES + 2 + TEXT_BYTES) /* "NAME: " goes before it */
#define SHARDS_MAX 1024

struct person;

/* Belongs to one shard at a time: posting it gives it away. */
struct errand {
    struct errand *next;                                   /* behind it in its shard's line */
    int (*step)(weir_shard *shard, struct errand *errand); /* -EAGAIN: again when there is room; else it is given away, or over */
    enum errand_kind { COME, TYPED, GO } kind;
    weir_shard *home;
    weir_post_function back; /* what it does there */
    weir_id id;
    struct person *person;       /* the hall's, from COME to GO; at home no more than a name for it */
    bool known;                  /* COME: the hall has it */
    char text[LINE_BYTES + 1];   /* what was typed, or how it goes */
    char answer[LINE_BYTES + 1]; /* empty: none */
};

/* The chat is this runtime's, until errand_close(), behind weir_close(). One chat in a process. */
void errand_open(weir_runtime *runtime);
void errand_close(void);
weir_runtime *errand_runtime(void);
weir_shard *errand_shard(uint32_t index);

/* Does its step, now or when those before it are over and there is room. */
void errand_start(weir_shard *shard, struct errand *errand, int (*step)(weir_shard *shard, struct errand *errand));
/* Gives it to another shard: 0, or -EAGAIN. */
int errand_post(weir_shard *from, weir_shard *to, weir_post_function function, struct errand *errand);
/* It is over; with it a person whom the hall has never heard of. */
void errand_free(struct errand *errand);
/* config.on_port_event. */
void errand_port_event(weir_shard *shard, const weir_port_event *event);

/* Zeroed; without memory a chat has to end. */
void *errand_allocate(size_t bytes);

#endif
