/* SPDX-License-Identifier: MIT */
/* test_metrics: the statistics as text: each of them is in it, for each shard, and as it is. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

#include "must.h"
#include "rig.h"

static char text[65536];

static uint32_t count_lines(const char *beginning)
{
    uint32_t count = 0;
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1)
        count += strncmp(line, beginning, strlen(beginning)) == 0;
    return count;
}

static void must_say(const char *line)
{
    if (strstr(text, line) == NULL)
        ck_abort_msg("'%s' is not in\n%s", line, text);
}

START_TEST(all_of_them)
{
    rig_open();
    rig_connect(1, &rig.frames);
    MUST_EQUAL(send(rig.peers[0], "\1\0\0\0x", 5, 0), 5);
    rig_turn();
    size_t bytes = weir_metrics_text(rig.runtime, text, sizeof text);
    MUST(bytes < sizeof text && bytes == strlen(text) && text[bytes - 1] == '\n');
    must_say("\n# TYPE weir_messages_in_total counter\nweir_messages_in_total{shard=\"0\"} 0\nweir_messages_in_total{shard=\"1\"} 1\n");
    must_say("\n# TYPE weir_connections gauge\nweir_connections{shard=\"0\"} 0\nweir_connections{shard=\"1\"} 1\n");
    must_say("\nweir_bytes_in_total{shard=\"1\"} 5\n");
    must_say("\nweir_closed_total{shard=\"1\",reason=\"peer\"} 0\n");
    must_say("\nweir_messages_orphaned_total 0\n");
    /* Each counter of weir_stats: `closed` is many of them, and its lines are one. */
    uint32_t fields = sizeof(weir_stats) / sizeof(uint64_t) - WEIR_REASON_COUNT + 1;
    MUST_EQUAL(count_lines("# HELP weir_"), fields);
    MUST_EQUAL(count_lines("# TYPE weir_"), fields);
    MUST_EQUAL(count_lines("weir_"), (fields - 2) * RIG_SHARDS + (WEIR_REASON_COUNT - 1) * RIG_SHARDS + 1);
    rig_close();
}
END_TEST

START_TEST(less_room_than_it_needs)
{
    static char part[65536];
    rig_open();
    size_t bytes = weir_metrics_text(rig.runtime, NULL, 0);
    MUST_EQUAL(weir_metrics_text(rig.runtime, text, sizeof text), bytes);
    for (size_t room = 1; room <= bytes + 1; room += 97) {
        memset(part, 'x', sizeof part);
        MUST_EQUAL(weir_metrics_text(rig.runtime, part, room), bytes);
        size_t written = room <= bytes ? room - 1 : bytes;
        MUST(strlen(part) == written && memcmp(part, text, written) == 0 && part[room] == 'x');
    }
    rig_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *tests = tcase_create("metrics");
    tcase_add_test(tests, all_of_them);
    tcase_add_test(tests, less_room_than_it_needs);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
