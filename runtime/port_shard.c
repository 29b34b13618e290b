/* SPDX-License-Identifier: MIT */
/* port_shard: the shard's side of links: what goes back to the ports.
 *
 * Road:    answers are gathered while a link is drained -> at the end of the turn they go into the ring back, blobs into `returned` -> the port's bell.
 * Ditches: ring back full -> `back_waiting`: the port rings when it has collected, and until then no more of its records are read that may need an
 *          answer; port closed -> answers are counted, blobs freed here. */
#include "runtime/port.h"

struct w_link *w_port_link_here(struct w_core *here, uint32_t number)
{
    if (W_UNLIKELY(here->links[number] == NULL))
        /* Acquire: pairs with the making of the link. */
        here->links[number] = atomic_exchange_explicit(&here->newcomers[number], NULL, memory_order_acquire);
    return here->links[number];
}

void w_port_stir(struct w_core *here, struct w_link *link)
{
    if (link->stirred)
        return;
    link->stirred = true;
    link->next_stirred = here->stirred;
    here->stirred = link;
    if (W_UNLIKELY(!here->in_turn))
        here->engine->wake(here->io);
}

/* --- blobs --- */

void w_port_send_home(struct w_core *here, weir_blob *blob)
{
    weir_port *port = blob->port != NULL ? blob->port : blob->core->port;
    blob->next = NULL;
    /* Acquire: a closed port's pool stands still. */
    if (atomic_load_explicit(&port->closed, memory_order_acquire)) {
        w_port_free_orphans(port, blob);
        return;
    }
    struct w_link *link = here->links[port->number];
    W_ASSERT(link != NULL && link->port == port); /* it came over this link, and a port that is open keeps it */
    if (link->homeward_first == NULL)
        link->homeward_last = blob;
    blob->next = link->homeward_first;
    link->homeward_first = blob;
    w_port_stir(here, link);
}

/* Puts the link's chain where its port finds it, together with what it has not taken yet. */
static void link_return(struct w_link *link)
{
    weir_port *port = link->port;
    weir_blob *chain = link->homeward_first;
    /* Acquire and release: only this shard puts something there, so nothing is lost between taking back what the port has not taken and putting all. */
    link->homeward_last->next = atomic_exchange_explicit(&link->returned, NULL, memory_order_acquire);
    link->homeward_first = link->homeward_last = NULL;
    atomic_store_explicit(&link->returned, chain, memory_order_release);
    /* With the fence in w_port_orphan_blobs: we see closed, or it sees what is returned. */
    w_base_fence();
    if (W_UNLIKELY(atomic_load_explicit(&port->closed, memory_order_acquire)))
        w_port_free_orphans(port, atomic_exchange_explicit(&link->returned, NULL, memory_order_acquire));
}

/* --- answers --- */

/* False: no room, and the port rings when there is. */
static bool link_put_answer(struct w_link *link, const struct w_port_answer *answer)
{
    struct w_spsc *back = &link->back;
    uint8_t *room = w_spsc_reserve(back, sizeof *answer);
    if (W_UNLIKELY(room == NULL)) {
        /* back_waiting is stored, then head is looked at; port_collect_answers does it the other way round: one sees the other. */
        atomic_store(&link->back_waiting, true);
        w_base_fence();
        room = w_spsc_reserve(back, sizeof *answer);
        if (room == NULL)
            return false;
        atomic_store_explicit(&link->back_waiting, false, memory_order_relaxed);
    }
    *(struct w_port_answer *)(void *)room = *answer;
    w_spsc_commit(back, room, sizeof *answer);
    return true;
}

static bool link_put_undelivered(struct w_core *here, struct w_link *link)
{
    if (link->undelivered.kind == 0)
        return true;
    /* Relaxed: it is only not to fill a ring that nobody reads. */
    if (atomic_load_explicit(&link->port->closed, memory_order_relaxed))
        w_stats_add(&here->stats.messages_orphaned, link->undelivered.messages);
    else if (!link_put_answer(link, &link->undelivered))
        return false;
    link->undelivered.kind = 0;
    return true;
}

bool w_port_tell_undelivered(struct w_core *here, struct w_link *link, uint64_t id, int error, uint32_t messages, uint64_t bytes)
{
    struct w_port_answer *answer = &link->undelivered;
    w_port_stir(here, link);
    if (answer->kind != 0 && (answer->id != id || answer->error != error) && !link_put_undelivered(here, link))
        return false;
    if (answer->kind == 0)
        *answer = (struct w_port_answer){.kind = WEIR_PORT_UNDELIVERED, .id = id, .error = error};
    answer->messages += messages;
    answer->bytes += bytes;
    return true;
}

void w_port_tell_ready(struct w_core *here, struct w_port_note *note)
{
    struct w_link *link = here->links[note->port];
    if (link == NULL || link->port->serial != note->serial) { /* nobody is there any more */
        w_pool_give(&here->pool, note, sizeof *note);
        return;
    }
    note->next = NULL;
    if (link->notes_first == NULL)
        link->notes_first = note;
    else
        link->notes_last->next = note;
    link->notes_last = note;
    w_port_stir(here, link);
}

bool w_port_answer_ready(struct w_core *here, struct w_link *link, uint64_t id, const struct w_port_want *want)
{
    struct w_port_note *note = w_pool_take(&here->pool, sizeof *note);
    if (note == NULL)
        return false;
    *note = (struct w_port_note){
        .port = link->port->number,
        .serial = link->port->serial,
        .answer = {.kind = WEIR_PORT_READY, .id = id, .want = *want},
    };
    w_port_tell_ready(here, note);
    return true;
}

static void link_put_notes(struct w_core *here, struct w_link *link)
{
    struct w_port_note *note;
    bool closed = atomic_load_explicit(&link->port->closed, memory_order_relaxed);
    while ((note = link->notes_first) != NULL && (closed || link_put_answer(link, &note->answer))) {
        link->notes_first = note->next;
        w_pool_give(&here->pool, note, sizeof *note);
    }
}

void w_port_release_there(struct w_link *link)
{
    struct w_spsc *there = &link->there;
    w_spsc_release_read(there);
    /* head is stored, then `waiting` is looked at; w_port_reserve does it the other way round: one sees the other. */
    w_base_fence();
    if (!atomic_load_explicit(&link->waiting, memory_order_relaxed) || there->tail_seen - there->read > there->bytes / 2)
        return;
    if (atomic_exchange(&link->waiting, false))
        w_port_ring_back(link->port, link->port->answers_number + link->shard);
}

static void link_flush(struct w_core *here, struct w_link *link)
{
    weir_port *port = link->port;
    bool returns = link->homeward_first != NULL;
    if (returns)
        link_return(link);
    link_put_undelivered(here, link);
    link_put_notes(here, link);
    bool answers = !w_spsc_is_published(&link->back);
    if (answers)
        w_spsc_publish(&link->back);
    if (returns || answers)
        w_port_ring_back(port, port->answers_number + link->shard);
    w_port_release_there(link);
}

void w_port_flush_back(struct w_core *here)
{
    struct w_link *link;
    while ((link = here->stirred) != NULL) {
        here->stirred = link->next_stirred;
        link->stirred = false;
        link_flush(here, link);
    }
}

/* --- the end --- */

void w_port_over(struct w_core *here)
{
    struct w_port_table *table = here->ports;
    w_port_flush_back(here);
    /* Sequentially consistent: whoever has put something there and rung after this sees it (port_publish_link), and has it back by itself; so does who closes. */
    atomic_store(&here->over, true);
    w_base_fence();
    for (uint32_t number = 0; number < table->capacity; number++) {
        struct w_link *link = w_port_link_here(here, number);
        if (link == NULL)
            continue;
        while (link->notes_first != NULL) { /* whom they are for sees that the shard is over */
            struct w_port_note *note = link->notes_first;
            link->notes_first = note->next;
            w_pool_give(&here->pool, note, sizeof *note);
        }
        here->links[number] = NULL;
        atomic_store_explicit(&link->waiting, false, memory_order_relaxed);
        w_port_ring_back(link->port, link->port->answers_number + link->shard);
        w_port_part(link);
    }
}
