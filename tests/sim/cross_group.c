/* SPDX-License-Identifier: MIT */
/* cross_group: groups, and a slow and obvious model of who is in them.
 *
 * The model keeps all that was done with a group, in order. Order is promised within one port only: so a client that one producer alone has made join and leave (its
 * keeper) must get what the keeper sent while it was in, unless it is counted as refused, and may get nothing else of the keeper's. Of what others sent it may get
 * anything, once somebody has made it join. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cross.h"

static void add_deed(struct cross_run *run, struct cross_group *group, const struct cross_actor *actor, enum cross_group_verb verb,
                     int client)
{
    if (group->count == group->capacity) {
        group->capacity = group->capacity == 0 ? 32 : group->capacity * 2;
        group->deeds = realloc(group->deeds, group->capacity * sizeof *group->deeds);
        CROSS_CHECK(run, group->deeds != NULL, "no memory for a group");
    }
    uint32_t producer = actor->producer->number;
    group->deeds[group->count++] =
        (struct cross_group_deed){.producer = producer, .order = actor->producer->order, .verb = verb, .client = client};
    if (verb == CROSS_SEND)
        return;
    int *keeper = &group->keeper[client];
    *keeper = *keeper == CROSS_NOBODY || *keeper == (int)producer ? (int)producer : CROSS_MANY;
}

/* Is the client in, by what `producer` did before its deed of that order? */
static bool is_in(const struct cross_group *group, int client, uint32_t producer, uint32_t order)
{
    bool in = false;
    for (uint32_t i = 0; i < group->count; i++) {
        const struct cross_group_deed *deed = &group->deeds[i];
        if (deed->producer == producer && deed->order < order && deed->client == client && deed->verb != CROSS_SEND)
            in = deed->verb == CROSS_JOIN;
    }
    return in;
}

static bool has_joined(const struct cross_group *group, int client)
{
    for (uint32_t i = 0; i < group->count; i++)
        if (group->deeds[i].verb == CROSS_JOIN && group->deeds[i].client == client)
            return true;
    return false;
}

/* --- what actors do --- */

static void open_one(struct cross_run *run, struct cross_group *group, uint32_t number)
{
    int code = weir_group_open(run->runtime, &group->name);
    cross_note(run, "group %u opens: %d, %llx", number, code, (unsigned long long)group->name.value);
    CROSS_CHECK(run, code == 0 || code == -ENOSPC, "weir_group_open answers %d", code);
    if (code != 0)
        return;
    for (uint32_t i = 0; i < CROSS_CLIENTS_MAX; i++)
        group->keeper[i] = CROSS_NOBODY;
    group->number = number;
    group->opened = true;
}

static void close_one(struct cross_run *run, struct cross_group *group)
{
    weir_group_stats stats;
    int code = weir_group_stats_get(run->runtime, group->name, &stats);
    CROSS_CHECK(run, code == (group->closed ? -ESTALE : 0), "statistics of group %u: %d", group->number, code);
    run->feats[CROSS_GROUP_CLOSED] += code == 0 && stats.members > 0;
    code = weir_group_close(run->runtime, group->name);
    cross_note(run, "group %u closes: %d, with %llu members", group->number, code, (unsigned long long)stats.members);
    CROSS_CHECK(run, code == (group->closed ? -ESTALE : 0), "weir_group_close answers %d", code);
    group->closed = true;
}

static void change_one(struct cross_actor *actor, struct cross_group *group, bool joins)
{
    struct cross_run *run = actor->run;
    int index = cross_act_choose_client(actor);
    if (index < 0)
        return;
    /* Mostly those that nobody else has touched: about these the model knows everything. */
    int keeper = group->keeper[index];
    if (keeper != CROSS_NOBODY && keeper != (int)actor->producer->number && cross_below(run, 8) != 0)
        return;
    struct cross_client *client = &run->clients[index];
    actor->producer->order++;
    int code = joins ? weir_group_join(actor->port, group->name, client->id) : weir_group_leave(actor->port, group->name, client->id);
    cross_note(run, "actor %u, deed %u: client %d %s group %u: %d", actor->index, actor->producer->order, index, joins ? "joins" : "leaves",
               group->number, code);
    if (code == -ESTALE && group->closed)
        return;
    CROSS_CHECK(run, code != 0 || !group->closed, "a closed group is joined");
    cross_actor_check_code(actor, "joining or leaving", code, index, (int)client->shard);
    if (code == -EAGAIN)
        cross_actor_owe(actor, -1, (int)client->shard);
    if (code == 0)
        add_deed(run, group, actor, joins ? CROSS_JOIN : CROSS_LEAVE, index);
}

static void send_one(struct cross_actor *actor, struct cross_group *group)
{
    struct cross_run *run = actor->run;
    uint8_t data[CROSS_PAYLOAD_MAX];
    uint32_t least = sizeof(struct cross_head);
    uint32_t bytes = cross_permille(run, run->plan.big_permille) ? 4096 + (uint32_t)cross_below(run, CROSS_PAYLOAD_MAX - 4096 + 1)
                                                                 : least + (uint32_t)cross_magnitude(run, 0, 2000);
    struct cross_head head = {
        .producer = actor->producer->number, .order = ++actor->producer->order, .bytes = bytes, .group = (uint16_t)(group->number + 1)};
    cross_message_make(&head, data);
    int except = cross_one_of(run, 4) ? cross_act_choose_client(actor) : -1;
    weir_id id = {except < 0 ? 0 : run->clients[except].id.value};
    int code = weir_group_send(actor->port, group->name, data, bytes, id);
    cross_note(run, "actor %u sends message %u to group %u but client %d, %u bytes: %d", actor->index, head.order, group->number, except,
               bytes, code);
    if (code == -ESTALE && group->closed)
        return;
    CROSS_CHECK(run, code != 0 || !group->closed, "a closed group is sent to");
    cross_actor_check_code(actor, "a send to a group", code, -1, -1);
    if (code == -EAGAIN) {
        cross_actor_owe(actor, -1, -1);
        run->feats[CROSS_GROUP_REFUSED]++;
    }
    if (code == 0)
        add_deed(run, group, actor, CROSS_SEND, except);
}

void cross_group_act(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    uint32_t number = (uint32_t)cross_below(run, run->plan.group_count), burst = 1 + (uint32_t)cross_magnitude(run, 0, 10);
    struct cross_group *group = &run->groups[number];
    if (!group->opened) {
        open_one(run, group, number);
        return;
    }
    uint64_t choice = cross_below(run, 16);
    if (choice == 0 && run->plan.change_permille > 0 && cross_one_of(run, 2))
        close_one(run, group);
    else if (choice < 6 && run->plan.group_count < 3)
        for (burst = 1 + (uint32_t)cross_below(run, 4); burst > 0; burst--)
            change_one(actor, group, cross_one_of(run, 2) || group->count < 8);
    else if (choice < 6)
        change_one(actor, group, cross_below(run, 4) != 0);
    else
        while (burst-- > 0)
            send_one(actor, group);
}

void cross_group_doubt(struct cross_run *run, uint32_t client)
{
    for (uint32_t i = 0; i < CROSS_GROUPS_MAX; i++)
        run->groups[i].keeper[client] = CROSS_MANY;
}

void cross_group_lose(struct cross_run *run, uint32_t producer)
{
    for (uint32_t i = 0; i < CROSS_GROUPS_MAX; i++)
        for (uint32_t k = 0; k < CROSS_CLIENTS_MAX; k++)
            if (run->groups[i].keeper[k] == (int)producer)
                run->groups[i].keeper[k] = CROSS_MANY;
}

/* --- what comes of it --- */

void cross_group_came(struct cross_client *client, const struct cross_head *head)
{
    struct cross_run *run = client->run;
    CROSS_CHECK(run, head->group <= CROSS_GROUPS_MAX && run->groups[head->group - 1].opened, "a message of group %d", (int)head->group - 1);
    struct cross_group *group = &run->groups[head->group - 1];
    const struct cross_group_deed *deed = NULL;
    for (uint32_t i = 0; i < group->count && deed == NULL; i++)
        if (group->deeds[i].verb == CROSS_SEND && group->deeds[i].producer == head->producer && group->deeds[i].order == head->order)
            deed = &group->deeds[i];
    CROSS_CHECK(run, deed != NULL, "message %u of producer %u to group %u was not accepted, and client %u got it", head->order,
                head->producer, group->number, client->index);
    CROSS_CHECK(run, deed->client != (int)client->index, "client %u was excepted from message %u of producer %u, and got it", client->index,
                head->order, head->producer);
    int keeper = group->keeper[client->index];
    bool may = keeper == (int)head->producer ? is_in(group, (int)client->index, head->producer, head->order)
                                             : has_joined(group, (int)client->index);
    CROSS_CHECK(run, may, "client %u got message %u of producer %u to group %u, in which it was not (keeper %d)", client->index,
                head->order, head->producer, group->number, keeper);
    group->of_keeper[client->index] += keeper == (int)head->producer;
    group->received++;
    client->group_received++;
}

static bool is_living(const struct cross_client *client)
{
    return client->opened && !client->closed && !client->finished;
}

struct sums {
    uint64_t expected, missing, members_least, members_most;
    bool exact;
};

static void add_client(const struct cross_run *run, const struct cross_group *group, uint32_t index, struct sums *sums)
{
    int keeper = group->keeper[index];
    uint64_t expected = 0;
    if (!has_joined(group, (int)index))
        return;
    if (!is_living(&run->clients[index]) || keeper < 0) {
        sums->exact = false;
        sums->members_most += is_living(&run->clients[index]);
        return;
    }
    for (uint32_t i = 0; i < group->count; i++) {
        const struct cross_group_deed *deed = &group->deeds[i];
        if (deed->verb != CROSS_SEND)
            continue;
        if (deed->producer != (uint32_t)keeper)
            sums->exact = false;
        else if (deed->client != (int)index && is_in(group, (int)index, deed->producer, deed->order))
            expected++;
    }
    bool in = is_in(group, (int)index, (uint32_t)keeper, UINT32_MAX);
    sums->members_least += in;
    sums->members_most += in;
    sums->expected += expected;
    CROSS_CHECK(run, group->of_keeper[index] <= expected, "client %u got %u of %llu messages of group %u", index, group->of_keeper[index],
                (unsigned long long)expected, group->number);
    sums->missing += expected - group->of_keeper[index];
}

static void check_group(struct cross_run *run, const struct cross_group *group)
{
    struct sums sums = {.exact = true};
    weir_group_stats stats;
    CROSS_CHECK(run, weir_group_stats_get(run->runtime, group->name, &stats) == 0, "no statistics of group %u", group->number);
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        add_client(run, group, i, &sums);
    CROSS_CHECK(run, sums.missing <= stats.refused, "members of group %u missed %llu messages, and %llu are counted as refused",
                group->number, (unsigned long long)sums.missing, (unsigned long long)stats.refused);
    CROSS_CHECK(run, group->received <= stats.delivered, "members of group %u got %llu messages, and %llu were delivered", group->number,
                (unsigned long long)group->received, (unsigned long long)stats.delivered);
    CROSS_CHECK(run, !sums.exact || (stats.delivered == group->received && stats.delivered + stats.refused == sums.expected),
                "group %u: %llu messages were due, %llu delivered, %llu refused; %llu came", group->number,
                (unsigned long long)sums.expected, (unsigned long long)stats.delivered, (unsigned long long)stats.refused,
                (unsigned long long)group->received);
    CROSS_CHECK(run, sums.members_least <= stats.members && stats.members <= sums.members_most,
                "group %u has %llu members, and should have %llu to %llu", group->number, (unsigned long long)stats.members,
                (unsigned long long)sums.members_least, (unsigned long long)sums.members_most);
    run->feats[CROSS_GROUP_MISSED] += sums.missing > 0;
}

void cross_groups_check(struct cross_run *run)
{
    for (uint32_t i = 0; i < CROSS_GROUPS_MAX; i++)
        if (run->groups[i].opened && !run->groups[i].closed)
            check_group(run, &run->groups[i]);
}
