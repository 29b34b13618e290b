/* SPDX-License-Identifier: MIT */
/* test_chat: weir-chat itself (tools/chat/) on the simulated kernel, with all its faults: people by lines and by WebSocket, fast, slow, deaf, rude, in two rooms.
 *
 *   always        what is heard was said, whole, each line once and in its speaker's order, without a gap while nobody moves; any two hear what both hear in one
 *                 order; in the end the hall has forgotten all who went, and nothing is left
 *   on good days  everybody hears everything that was said to the room
 *
 * WEIR_TEST_SEED=N plays one seed alone, with its trace. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/sim.h>
#include <weir/weir.h>

#include "must.h"
#include "tools/chat/errand.h"
#include "tools/chat/hall.h"
#include "tools/chat/member.h"
#include "tools/chat/web.h"

#if defined(__SANITIZE_THREAD__)
#define SEEDS 60
#elif defined(__SANITIZE_ADDRESS__)
#define SEEDS 300
#else
#define SEEDS 3000
#endif
#define GOOD_DAY_OF  5 /* seeds: how many have a good day */
#define STALLS_OF    3 /* seeds: in how many shards stall again and again */
#define TALKERS_MAX  8
#define SAYS_MAX     100
#define OUT_BYTES    (SAYS_MAX * 1200 + 2000)
#define IN_BYTES     4096
#define FILLER_MAX   900
#define TALK_FROM_NS (10 * WEIR_SECOND)
#define IDLE_NS_MAX  (100 * WEIR_MILLISECOND) /* who finds nothing to do comes less and less often */
#define LINES        "tcp://127.0.0.1:7000"
#define WEB          "tcp://127.0.0.1:7001"
#define HANDSHAKE                                                                                                                          \
    "GET /chat HTTP/1.1\r\nHost: 127.0.0.1:7001\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"             \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://127.0.0.1:7001\r\n\r\n"

enum manner { STAYS, QUITS, CLOSES, RESETS, MANNERS };

struct scene;

struct talker {
    struct scene *scene;
    uint32_t index;
    /* The plan. */
    bool web, moves;
    enum manner manner;
    char room;
    uint32_t says;
    uint64_t pace_ns_max, pace_ns, deaf_until_ns;
    uint32_t write_max_bytes, read_max_bytes;
    /* What has happened. */
    weir_sim_peer *peer;
    bool shaken, named, joined, over, close_heard;
    uint32_t said;
    uint32_t out_bytes, out_done, in_bytes;
    uint8_t out[OUT_BYTES], in[IN_BYTES];
    uint64_t received;
    uint32_t heard_count;
    uint16_t heard[TALKERS_MAX * SAYS_MAX]; /* who, and which */
    bool has_heard[TALKERS_MAX][SAYS_MAX];
};

static struct scene {
    uint64_t seed;
    weir_sim_world *world;
    weir_runtime *runtime;
    bool good, all_leave;
    uint32_t count;
    struct talker talkers[TALKERS_MAX];
} scene;

static struct totals {
    uint64_t heard, ended, good_days, webs;
} totals;

#define DEMAND(condition, ...) ((condition) ? (void)0 : ck_abort_msg(__VA_ARGS__))

static uint64_t below(uint64_t bound)
{
    return weir_sim_below(scene.world, bound);
}

/* --- what is said --- */

/* Bytes of filler behind "tN I ", the same for everybody. */
static uint32_t filler_bytes(uint32_t who, uint32_t which)
{
    uint64_t mixed = (scene.seed * 31 + who * 7 + which) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)((mixed >> 32) % (which % 3 != 0 ? FILLER_MAX : 20));
}

static uint32_t make_text(char to[TEXT_BYTES + 1], uint32_t who, uint32_t which)
{
    int bytes = snprintf(to, TEXT_BYTES, "t%u %u ", who, which);
    uint32_t filler = filler_bytes(who, which);
    for (uint32_t i = 0; i < filler; i++)
        to[bytes + (int)i] = (char)('a' + (who + which + i) % 26);
    to[bytes + (int)filler] = '\0';
    return (uint32_t)bytes + filler;
}

static void talker_say(struct talker *talker, const char *text)
{
    uint32_t bytes = (uint32_t)strlen(text), head = 2;
    uint8_t *to = talker->out + talker->out_bytes;
    MUST(talker->out_bytes + bytes + 16 < sizeof talker->out);
    if (!talker->web) {
        memcpy(to, text, bytes);
        to[bytes] = '\n';
        talker->out_bytes += bytes + 1;
        return;
    }
    to[0] = 0x81;
    to[1] = (uint8_t)(0x80 | (bytes < 126 ? bytes : 126));
    if (bytes >= 126) {
        to[2] = (uint8_t)(bytes >> 8);
        to[3] = (uint8_t)bytes;
        head = 4;
    }
    memcpy(to + head, "\x12\x34\x56\x78", 4);
    for (uint32_t i = 0; i < bytes; i++)
        to[head + 4 + i] = (uint8_t)text[i] ^ to[head + i % 4];
    talker->out_bytes += head + 4 + bytes;
}

/* --- what is heard --- */

static void talker_hear_said(struct talker *talker, const char *line)
{
    char text[TEXT_BYTES + 1];
    unsigned who, again, which;
    if (sscanf(line, "t%u: t%u %u ", &who, &again, &which) != 3)
        ck_abort_msg("seed %" PRIu64 ": t%u hears '%s'", scene.seed, talker->index, line);
    DEMAND(who < scene.count && who == again && which < scene.talkers[who].said && who != talker->index,
           "seed %" PRIu64 ": t%u hears what nobody has said: '%s'", scene.seed, talker->index, line);
    make_text(text, who, which);
    DEMAND(strcmp(strchr(line, ' ') + 1, text) == 0, "seed %" PRIu64 ": t%u hears '%s', and '%s' was said", scene.seed, talker->index, line,
           text);
    DEMAND(!talker->has_heard[who][which], "seed %" PRIu64 ": t%u hears '%s' twice", scene.seed, talker->index, line);
    talker->has_heard[who][which] = true;
    talker->heard[talker->heard_count++] = (uint16_t)(who << 8 | which);
    totals.heard++;
}

static void talker_hear(struct talker *talker, const char *line)
{
    char due[32];
    snprintf(due, sizeof due, "* you are t%u", talker->index);
    if (line[0] != '*')
        talker_hear_said(talker, line);
    else if (strcmp(line, due) == 0)
        talker->named = true;
    else if (strncmp(line, "* you are in ", 13) == 0)
        talker->joined = true;
    else
        DEMAND(strstr(line, " is taken") == NULL && strstr(line, "too long") == NULL && strstr(line, "no command") == NULL,
               "seed %" PRIu64 ": t%u hears '%s'", scene.seed, talker->index, line);
}

/* A line or a frame at the start of what came: its bytes; 0: not whole. */
static uint32_t talker_take_line(struct talker *talker, char line[IN_BYTES])
{
    const uint8_t *end = memchr(talker->in, '\n', talker->in_bytes);
    if (end == NULL)
        return 0;
    uint32_t bytes = (uint32_t)(end - talker->in);
    memcpy(line, talker->in, bytes);
    line[bytes] = '\0';
    return bytes + 1;
}

static uint32_t talker_take_frame(struct talker *talker, char line[IN_BYTES])
{
    uint32_t head = 2;
    line[0] = '\0';
    if (!talker->shaken) {
        const uint8_t *end = memmem(talker->in, talker->in_bytes, "\r\n\r\n", 4);
        talker->shaken = end != NULL;
        DEMAND(end == NULL || memcmp(talker->in, "HTTP/1.1 101 ", 13) == 0, "seed %" PRIu64 ": t%u is not let in", scene.seed,
               talker->index);
        return end == NULL ? 0 : (uint32_t)(end + 4 - talker->in);
    }
    if (talker->in_bytes < 2 || (talker->in[1] == 126 && talker->in_bytes < 4))
        return 0;
    uint32_t bytes = talker->in[1];
    if (bytes == 126) {
        bytes = (uint32_t)talker->in[2] << 8 | talker->in[3];
        head = 4;
    }
    if (talker->in_bytes < head + bytes)
        return 0;
    DEMAND(!talker->close_heard && (talker->in[0] == 0x81 || talker->in[0] == 0x88), "seed %" PRIu64 ": t%u hears a frame %02x%s",
           scene.seed, talker->index, talker->in[0], talker->close_heard ? " behind the Close" : "");
    talker->close_heard = talker->in[0] == 0x88;
    if (talker->close_heard)
        return head + bytes;
    memcpy(line, talker->in + head, bytes);
    line[bytes] = '\0';
    return head + bytes;
}

static void talker_read(struct talker *talker)
{
    char line[IN_BYTES];
    uint32_t room = (uint32_t)sizeof talker->in - talker->in_bytes, most = 1 + (uint32_t)below(talker->read_max_bytes), taken;
    if (weir_sim_now_ns(scene.world) < talker->deaf_until_ns)
        return;
    int64_t got = weir_sim_peer_read(talker->peer, talker->in + talker->in_bytes, most < room ? most : room);
    if (got == -EAGAIN)
        return;
    if (got <= 0) {
        talker->over = true;
        return;
    }
    talker->in_bytes += (uint32_t)got;
    talker->received += (uint64_t)got;
    while ((taken = talker->web ? talker_take_frame(talker, line) : talker_take_line(talker, line)) > 0) {
        memmove(talker->in, talker->in + taken, talker->in_bytes - taken);
        talker->in_bytes -= taken;
        if (line[0] != '\0')
            talker_hear(talker, line);
    }
}

/* --- a talker's life --- */

static void talker_leave(struct talker *talker, bool resets)
{
    if (resets)
        weir_sim_peer_reset(&talker->peer);
    else
        weir_sim_peer_close(&talker->peer);
    talker->over = true;
}

static void talker_go_on(struct talker *talker)
{
    char text[TEXT_BYTES + 1];
    uint64_t now_ns = weir_sim_now_ns(scene.world);
    if (talker->joined && now_ns >= TALK_FROM_NS && talker->said < talker->says && below(3) == 0) {
        make_text(text, talker->index, talker->said++);
        talker_say(talker, text);
    } else if (talker->moves && talker->said > talker->says / 2) {
        talker->moves = false;
        talker_say(talker, talker->room == 'a' ? "/join b" : "/join a");
    } else if (talker->said == talker->says && talker->manner == QUITS) {
        talker->manner = STAYS;
        talker_say(talker, "/quit");
    } else if (talker->said == talker->says && (talker->manner == CLOSES || talker->manner == RESETS)) {
        talker_leave(talker, talker->manner == RESETS);
    }
}

static void talker_act(weir_sim_world *world, void *user)
{
    struct talker *talker = user;
    if (talker->over)
        return;
    if (talker->peer == NULL) {
        char line[32];
        talker->peer = weir_sim_connect(world, talker->web ? WEB : LINES);
        if (talker->web) {
            memcpy(talker->out, HANDSHAKE, sizeof HANDSHAKE - 1);
            talker->out_bytes = sizeof HANDSHAKE - 1;
        }
        snprintf(line, sizeof line, "/name t%u", talker->index);
        talker_say(talker, line);
        snprintf(line, sizeof line, "/join %c", talker->room);
        talker_say(talker, line);
    }
    enum weir_sim_peer_state state = weir_sim_peer_state(talker->peer);
    if (state == WEIR_SIM_PEER_FAILED || (scene.all_leave && state != WEIR_SIM_PEER_CONNECTING)) {
        talker_leave(talker, false);
        return;
    }
    uint64_t moved = talker->out_done + talker->out_bytes + talker->received;
    if (state != WEIR_SIM_PEER_CONNECTING) {
        uint32_t rest = talker->out_bytes - talker->out_done, most = 1 + (uint32_t)below(talker->write_max_bytes);
        int64_t wrote = rest == 0 ? 0 : weir_sim_peer_write(talker->peer, talker->out + talker->out_done, rest < most ? rest : most);
        talker->out_done += wrote > 0 ? (uint32_t)wrote : 0;
        talker_read(talker);
        if (!talker->over)
            talker_go_on(talker);
    }
    bool idle = moved == talker->out_done + talker->out_bytes + talker->received;
    talker->pace_ns = !idle ? talker->pace_ns_max : talker->pace_ns * 2 > IDLE_NS_MAX ? IDLE_NS_MAX : talker->pace_ns * 2;
    if (!talker->over)
        weir_sim_schedule(world, 1 + below(talker->pace_ns), talker_act, talker);
}

static void talker_plan(struct talker *talker, uint32_t index)
{
    *talker = (struct talker){
        .scene = &scene,
        .index = index,
        .web = below(2) == 0,
        .room = below(4) == 0 ? 'b' : 'a',
        .says = (uint32_t)below(below(3) == 0 ? SAYS_MAX + 1 : 20),
        .pace_ns_max = WEIR_MICROSECOND << below(17),
        .write_max_bytes = 1U << (4 + below(9)),
        .read_max_bytes = 1U << (6 + below(7)),
    };
    talker->pace_ns = talker->pace_ns_max += 500 * WEIR_MICROSECOND;
    totals.webs += talker->web;
    if (!scene.good) {
        talker->manner = (enum manner)below(MANNERS);
        talker->moves = below(4) == 0;
        talker->deaf_until_ns = below(3) == 0 ? below(90 * WEIR_SECOND) : 0;
    }
    weir_sim_schedule(scene.world, below(WEIR_SECOND), talker_act, talker);
}

/* --- what has to be so --- */

static bool has_heard(const struct talker *talker, uint16_t what)
{
    return talker->has_heard[what >> 8][what & 255];
}

/* Each line once, in its speaker's order, without gaps. `moved` of both is asked beforehand: gaps are theirs. */
static void check_listener(const struct talker *talker, const bool moved[])
{
    int last[TALKERS_MAX];
    for (uint32_t i = 0; i < TALKERS_MAX; i++)
        last[i] = -1;
    for (uint32_t i = 0; i < talker->heard_count; i++) {
        uint32_t who = talker->heard[i] >> 8;
        int which = talker->heard[i] & 255;
        bool gap = last[who] >= 0 && which != last[who] + 1 && !moved[who] && !moved[talker->index];
        DEMAND(which > last[who] && !gap, "seed %" PRIu64 ": t%u hears %d of t%u behind %d", scene.seed, talker->index, which, who,
               last[who]);
        last[who] = which;
    }
}

/* What both hear, both hear in one order. */
static void check_pair(const struct talker *a, const struct talker *b)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < a->heard_count; i++) {
        if (!has_heard(b, a->heard[i]))
            continue;
        while (k < b->heard_count && !has_heard(a, b->heard[k]))
            k++;
        DEMAND(k < b->heard_count && b->heard[k] == a->heard[i], "seed %" PRIu64 ": t%u and t%u hear %04x and %04x in different orders",
               scene.seed, a->index, b->index, a->heard[i], b->heard[k]);
        k++;
    }
}

static void check_good_day(const struct talker *talker)
{
    uint32_t due = 0;
    for (uint32_t i = 0; i < scene.count; i++)
        due += i != talker->index && scene.talkers[i].room == talker->room ? scene.talkers[i].says : 0;
    DEMAND(talker->named && talker->joined && talker->said == talker->says && talker->heard_count == due,
           "seed %" PRIu64 ": a good day, and t%u has said %u of %u and heard %u of %u%s", scene.seed, talker->index, talker->said,
           talker->says, talker->heard_count, due, talker->over ? "; it was ended" : "");
}

/* Somebody new finds an empty hall: nobody who went is still in a room. */
static void check_hall(void)
{
    static struct talker witness;
    char line[IN_BYTES], said[4][IN_BYTES] = {""};
    uint32_t lines = 0, taken;
    witness = (struct talker){.scene = &scene};
    witness.peer = weir_sim_connect(scene.world, LINES);
    weir_sim_run(scene.world, scene.runtime, WEIR_SECOND);
    weir_sim_peer_write(witness.peer, "/rooms\n", 7);
    weir_sim_run(scene.world, scene.runtime, WEIR_SECOND);
    int64_t got = weir_sim_peer_read(witness.peer, witness.in, sizeof witness.in);
    witness.in_bytes = got > 0 ? (uint32_t)got : 0;
    for (; (taken = talker_take_line(&witness, line)) > 0 && lines < 4; lines++) {
        memcpy(said[lines], line, sizeof line);
        memmove(witness.in, witness.in + taken, witness.in_bytes - taken);
        witness.in_bytes -= taken;
    }
    DEMAND(lines == 4 && strcmp(said[3], "* there are no rooms") == 0, "seed %" PRIu64 ": all have gone, and the hall says '%s' (line %u)",
           scene.seed, said[3], lines);
    weir_sim_peer_close(&witness.peer);
}

static void trace_line(void *user, const char *text)
{
    (void)user;
    fprintf(stderr, "%s\n", text);
}

static void play(uint64_t seed)
{
    weir_sim_faults faults;
    weir_error error;
    bool moved[TALKERS_MAX];
    scene = (struct scene){.seed = seed, .good = seed % GOOD_DAY_OF == 0};
    weir_sim_faults_mix(seed, &faults);
    if (seed % STALLS_OF == 1) /* so that rings are full, and errands wait */
        faults.chance_ppm[WEIR_SIM_STALL] = 20000;
    scene.world = weir_sim_world_create(seed, scene.good ? NULL : &faults);
    if (getenv("WEIR_TEST_SEED") != NULL)
        weir_sim_set_trace(scene.world, trace_line, NULL);
    const weir_config config = {.shards = 1 + (uint32_t)below(3),
                                .connections = 32,
                                .ring_bytes = seed % STALLS_OF == 1 ? 16384 : 16384U << below(4),
                                .on_port_event = errand_port_event};
    DEMAND(weir_sim_open(scene.world, &config, &scene.runtime, &error) == 0, "seed %" PRIu64 ": %s", seed, error.sentence);
    errand_open(scene.runtime);
    DEMAND(weir_listen(scene.runtime, LINES, &member_lines, NULL, NULL, &error) == 0, "seed %" PRIu64 ": %s", seed, error.sentence);
    DEMAND(weir_listen(scene.runtime, WEB, &member_web, NULL, NULL, &error) == 0, "seed %" PRIu64 ": %s", seed, error.sentence);
    scene.count = 2 + (uint32_t)below(TALKERS_MAX - 1);
    for (uint32_t i = 0; i < scene.count; i++) {
        talker_plan(&scene.talkers[i], i);
        moved[i] = scene.talkers[i].moves;
    }
    weir_sim_run(scene.world, scene.runtime, 30 * WEIR_SECOND);
    weir_sim_set_faults(scene.world, NULL);
    weir_sim_run(scene.world, scene.runtime, 300 * WEIR_SECOND);
    for (uint32_t i = 0; i < scene.count; i++) {
        check_listener(&scene.talkers[i], moved);
        totals.ended += scene.talkers[i].over;
        for (uint32_t k = 0; k < scene.count; k++)
            check_pair(&scene.talkers[i], &scene.talkers[k]);
        if (scene.good)
            check_good_day(&scene.talkers[i]);
    }
    totals.good_days += scene.good;
    scene.all_leave = true;
    weir_sim_run(scene.world, scene.runtime, 100 * WEIR_SECOND);
    for (uint32_t i = 0; i < scene.count; i++) /* whom the service has ended has not closed yet */
        weir_sim_peer_close(&scene.talkers[i].peer);
    weir_sim_run(scene.world, scene.runtime, 100 * WEIR_SECOND);
    check_hall();
    if (seed % 2 == 0) /* the others are closed with all that is under way */
        weir_stop(scene.runtime);
    DEMAND(seed % 2 != 0 || weir_sim_run(scene.world, scene.runtime, 60 * WEIR_SECOND) == WEIR_SIM_OVER,
           "seed %" PRIu64 ": it does not stop", seed);
    weir_close(&scene.runtime);
    errand_close();
    hall_close();
    weir_sim_world_destroy(&scene.world);
}

START_TEST(everybody_talks)
{
    static weir_runtime *nobody; /* /metrics is not asked for */
    MUST_EQUAL(weir_codec_line(&member_lines.codec, LINE_BYTES, false), 0);
    MUST_EQUAL(web_codec(&member_web.codec, &nobody), 0);
    memset(&totals, 0, sizeof totals);
    const char *wanted = getenv("WEIR_TEST_SEED");
    uint64_t from = (uint64_t)_i * SEEDS / 4, to = (uint64_t)(_i + 1) * SEEDS / 4;
    if (wanted != NULL) {
        play(strtoull(wanted, NULL, 0));
        return;
    }
    for (uint64_t seed = from; seed < to; seed++)
        play(seed);
    DEMAND(totals.heard > 20 * (to - from) && totals.ended > (to - from) / 2 && totals.good_days > 0 && totals.webs > (to - from),
           "heard %" PRIu64 ", ended %" PRIu64 ", good days %" PRIu64 ", webs %" PRIu64, totals.heard, totals.ended, totals.good_days,
           totals.webs);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chat");
    TCase *tests = tcase_create("chat");
    tcase_set_timeout(tests, 200);
    tcase_add_loop_test(tests, everybody_talks, 0, 4);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
