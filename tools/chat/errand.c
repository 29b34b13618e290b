/* SPDX-License-Identifier: MIT */
/* errand: what the chat's shards say to each other. */
#include "errand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static weir_runtime *runtime;

/* Each shard's line of errands that found no room. */
static struct line {
    struct errand *first, *last;
} lines[SHARDS_MAX];

void *errand_allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (memory == NULL) {
        fputs("weir-chat: no memory\n", stderr);
        abort();
    }
    return memory;
}

void errand_free(struct errand *errand)
{
    if (errand->kind == COME && !errand->known)
        free(errand->person);
    free(errand);
}

void errand_open(weir_runtime *of)
{
    runtime = of;
}

void errand_close(void)
{
    for (uint32_t i = 0; i < SHARDS_MAX; i++)
        for (struct errand *errand; (errand = lines[i].first) != NULL;) {
            lines[i].first = errand->next;
            errand_free(errand);
        }
}

weir_runtime *errand_runtime(void)
{
    return runtime;
}

weir_shard *errand_shard(uint32_t index)
{
    return weir_shard_at(runtime, index);
}

void errand_start(weir_shard *shard, struct errand *errand, int (*step)(weir_shard *shard, struct errand *errand))
{
    struct line *line = &lines[weir_shard_index(shard)];
    errand->step = step;
    if (line->first == NULL && step(shard, errand) != -EAGAIN)
        return;
    errand->next = NULL;
    *(line->first == NULL ? &line->first : &line->last->next) = errand;
    line->last = errand;
}

int errand_post(weir_shard *from, weir_shard *to, weir_post_function function, struct errand *errand)
{
    int result = weir_post(weir_shard_port(from), to, function, errand);
    if (result != 0 && result != -EAGAIN)
        errand_free(errand); /* that shard has stopped */
    return result;
}

void errand_port_event(weir_shard *shard, const weir_port_event *event)
{
    struct line *line = &lines[weir_shard_index(shard)];
    if (event->kind == WEIR_PORT_NOT_RUN)
        errand_free(event->user); /* an errand to a shard that has stopped */
    if (event->kind == WEIR_PORT_UNDELIVERED)
        weir_end_id(shard, event->id); /* there was no memory for its join */
    while (event->kind == WEIR_PORT_ROOM && line->first != NULL) {
        struct errand *next = line->first->next; /* read while it is ours */
        if (line->first->step(shard, line->first) == -EAGAIN)
            break;
        line->first = next;
    }
}
