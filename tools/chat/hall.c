/* SPDX-License-Identifier: MIT */
/* hall: names, rooms, and who is where.
 *
 * Road:    an errand comes in -> the room is told, the hall changed -> the errand goes home with an answer.
 * Ditches: what can answer -EAGAIN comes before what changes the hall, and moving twice is moving once: an errand that has waited is begun again. */
#include "hall.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct room {
    struct room *next;
    char name[NAME_BYTES + 1];
    weir_group group;
    uint32_t people;
};

struct person {
    struct person *next;
    char name[NAME_BYTES + 1];
    struct room *room; /* NULL exactly when in none */
};

static struct room *rooms;
static struct person *people;
static uint64_t guests; /* that there have been */

void hall_close(void)
{
    guests = 0;
    for (struct person *person; (person = people) != NULL; free(person))
        people = person->next;
    for (struct room *room; (room = rooms) != NULL; free(room))
        rooms = room->next;
}

struct person *hall_stranger(void)
{
    return errand_allocate(sizeof(struct person));
}

static struct person *hall_find(const char *name)
{
    struct person *person = people;
    while (person != NULL && strcmp(person->name, name) != 0)
        person = person->next;
    return person;
}

static void hall_answer(struct errand *errand, const char *format, ...)
{
    size_t bytes = strlen(errand->answer);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(errand->answer + bytes, sizeof errand->answer - bytes, format, arguments); /* cut where it is full */
    va_end(arguments);
}

static weir_port *hall_port(void)
{
    return weir_shard_port(errand_shard(0));
}

/* Tells all in the room but who is on the errand. */
static int hall_tell(const struct errand *errand, const struct room *room, const char *format, ...)
{
    char text[LINE_BYTES + 1];
    va_list arguments;
    if (room == NULL)
        return 0;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return weir_group_send(hall_port(), room->group, text, (uint32_t)strlen(text), errand->id);
}

static void hall_come(struct errand *errand)
{
    struct person *person = errand->person;
    do
        snprintf(person->name, sizeof person->name, "guest%llu", (unsigned long long)++guests);
    while (hall_find(person->name) != NULL);
    person->next = people;
    people = person;
    errand->known = true;
    hall_answer(errand, "* you are %s, and in no room", person->name);
}

/* With its last person the room goes too. */
static int hall_leave(struct errand *errand, const char *how)
{
    struct person *person = errand->person;
    struct room *room = person->room, **place = &rooms;
    if (room == NULL)
        return 0;
    if (weir_group_leave(hall_port(), room->group, errand->id) == -EAGAIN ||
        hall_tell(errand, room, "* %s has left%s", person->name, how) == -EAGAIN)
        return -EAGAIN;
    person->room = NULL;
    if (--room->people > 0)
        return 0;
    while (*place != room)
        place = &(*place)->next;
    *place = room->next;
    weir_group_close(errand_runtime(), room->group);
    free(room);
    return 0;
}

static int hall_go(struct errand *errand)
{
    struct person **place = &people;
    if (hall_leave(errand, errand->text) == -EAGAIN)
        return -EAGAIN;
    while (*place != errand->person)
        place = &(*place)->next;
    *place = errand->person->next;
    free(errand->person);
    return 0;
}

static int hall_join(struct errand *errand, const char *name)
{
    struct room *room = rooms;
    while (room != NULL && strcmp(room->name, name) != 0)
        room = room->next;
    if (room == NULL) {
        weir_group group;
        if (weir_group_open(errand_runtime(), &group) != 0) {
            hall_answer(errand, "* there are too many rooms already");
            return 0;
        }
        room = errand_allocate(sizeof *room);
        *room = (struct room){.next = rooms, .group = group};
        strcpy(room->name, name);
        rooms = room;
    }
    if (room != errand->person->room) {
        if (hall_leave(errand, "") == -EAGAIN || weir_group_join(hall_port(), room->group, errand->id) == -EAGAIN ||
            hall_tell(errand, room, "* %s has joined", errand->person->name) == -EAGAIN)
            return -EAGAIN;
        errand->person->room = room;
        room->people++;
    }
    hall_answer(errand, "* you are in %s, with %u others", name, room->people - 1);
    return 0;
}

static int hall_rename(struct errand *errand, const char *name)
{
    struct person *person = errand->person, *other = hall_find(name);
    if (other == NULL && hall_tell(errand, person->room, "* %s is now %s", person->name, name) == -EAGAIN)
        return -EAGAIN;
    if (other == NULL)
        strcpy(person->name, name);
    hall_answer(errand, other == NULL || other == person ? "* you are %s" : "* %s is taken", name);
    return 0;
}

/* Is there room for one of a list, and for what is said of those that there is none for? */
static bool hall_has_room(const struct errand *errand)
{
    return strlen(errand->answer) + NAME_BYTES + 40 < sizeof errand->answer;
}

static void hall_list_rooms(struct errand *errand)
{
    uint32_t more = 0;
    hall_answer(errand, rooms == NULL ? "* there are no rooms" : "* rooms:");
    for (const struct room *room = rooms; room != NULL; room = room->next)
        if (hall_has_room(errand))
            hall_answer(errand, " %s (%u)", room->name, room->people);
        else
            more++;
    if (more > 0)
        hall_answer(errand, " and %u more", more);
}

static void hall_list_people(struct errand *errand)
{
    const struct room *here = errand->person->room;
    uint32_t more = 0;
    hall_answer(errand, here == NULL ? "* you are in no room" : "* here are");
    for (const struct person *person = people; here != NULL && person != NULL; person = person->next) {
        if (person->room == here && hall_has_room(errand))
            hall_answer(errand, " %s", person->name);
        else
            more += person->room == here;
    }
    if (more > 0)
        hall_answer(errand, " (%u more)", more);
}

static int hall_hear(struct errand *errand)
{
    const char *text = errand->text;
    const struct person *person = errand->person;
    char name[NAME_BYTES + 1], more;
    if (text[0] != '/' && person->room != NULL)
        return hall_tell(errand, person->room, "%s: %s", person->name, text);
    if (sscanf(text, "/name%*1[ ]%24[!-~]%c", name, &more) == 1) /* a blank, printable characters, nothing more */
        return hall_rename(errand, name);
    if (sscanf(text, "/join%*1[ ]%24[!-~]%c", name, &more) == 1)
        return hall_join(errand, name);
    bool leaves = strcmp(text, "/leave") == 0;
    if (leaves && hall_leave(errand, "") == -EAGAIN)
        return -EAGAIN;
    if (leaves || text[0] != '/' || strcmp(text, "/who") == 0)
        hall_list_people(errand); /* to the first two, that there is no room */
    else if (strcmp(text, "/rooms") == 0)
        hall_list_rooms(errand);
    else
        hall_answer(errand, "* that is no command, or a name that is not 1 to %d printable characters", NAME_BYTES);
    return 0;
}

/* Back to where it came from: errand->back is what it does there. */
static int return_step(weir_shard *shard, struct errand *errand)
{
    return errand_post(shard, errand->home, errand->back, errand);
}

static int hall_step(weir_shard *shard, struct errand *errand)
{
    int result = 0;
    switch (errand->kind) {
    case COME:
        hall_come(errand);
        break;
    case TYPED:
        result = hall_hear(errand);
        break;
    case GO:
        result = hall_go(errand);
        break;
    }
    if (result == -EAGAIN)
        return result;
    errand->step = return_step;
    return return_step(shard, errand);
}

void hall_take(weir_shard *shard, void *user)
{
    errand_start(shard, user, hall_step);
}
