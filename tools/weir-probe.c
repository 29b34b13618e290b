/* SPDX-License-Identifier: MIT */
/* weir-probe: shows what this kernel, its limits and its container give weir, and the exact line that mends what is missing.
 * Exit status: 0 weir can run here, 1 it cannot, 2 the command line is wrong.
 *
 * Road:    options → weir_probe → a table, or JSON.
 * Ditches: weir cannot run → the same table, what mends it, exit status 1. */
#include <argp.h>
#include <stdio.h>
#include <string.h>

#include <weir/probe.h>

#define EXIT_CANNOT_RUN 1
#define EXIT_USAGE      2

const char *argp_program_version; /* argp's own names */
error_t argp_err_exit_status = EXIT_USAGE;

static const char documentation[] =
    "Shows what this kernel, its limits and its container give weir, and the line that mends what is missing.\v"
    "The marks: + there, - switched off, ~ not there and weir does without, ! missing and weir cannot run.\n"
    "WEIR_DISABLE=NAME,NAME switches optional features off. Exit status 0: weir can run here.";

static const struct argp_option options[] = {
    {"json", 'j', NULL, 0, "Print JSON for a program instead of a table", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    bool *json = state->input;
    (void)argument;
    if (key == 'j') {
        *json = true;
        return 0;
    }
    if (key == ARGP_KEY_ARG)
        argp_error(state, "'%s' is not expected", argument);
    return ARGP_ERR_UNKNOWN;
}

static const struct {
    char mark;
    const char *word;
} states[] = {
    [WEIR_PROBE_YES] = {'+', "yes"},
    [WEIR_PROBE_OFF] = {'-', "off"},
    [WEIR_PROBE_WITHOUT] = {'~', "without"},
    [WEIR_PROBE_MISSING] = {'!', "missing"},
};

static void print_table(const weir_probe_row *rows, uint32_t row_count, int code)
{
    for (uint32_t i = 0; i < row_count; i++) {
        printf("  %c  %-20s %s\n", states[rows[i].state].mark, rows[i].name, rows[i].sentence);
        if (rows[i].mend[0] != '\0')
            printf("     %-20s   mend: %s\n", "", rows[i].mend);
    }
    if (code == 0)
        printf("\nweir can run here.\n");
    else
        printf("\nweir cannot run here: %s.\n", weir_strerror(code));
}

static void print_json_text(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\u%04x", (unsigned)*text);
        else
            putchar(*text);
    }
    putchar('"');
}

static void print_json(const weir_probe_row *rows, uint32_t row_count, int code)
{
    printf("{\"can_run\": %s, \"code\": %d, \"rows\": [", code == 0 ? "true" : "false", code);
    for (uint32_t i = 0; i < row_count; i++) {
        printf("%s\n  {\"name\": ", i == 0 ? "" : ",");
        print_json_text(rows[i].name);
        printf(", \"state\": \"%s\", \"mandatory\": %s, \"sentence\": ", states[rows[i].state].word, rows[i].mandatory ? "true" : "false");
        print_json_text(rows[i].sentence);
        printf(", \"mend\": ");
        print_json_text(rows[i].mend);
        putchar('}');
    }
    printf("\n]}\n");
}

int main(int argument_count, char **arguments)
{
    const struct argp parser = {.options = options, .parser = parse_option, .doc = documentation};
    weir_probe_row rows[WEIR_PROBE_ROWS_MAX];
    uint32_t row_count = 0;
    char version[32];
    bool json = false;

    snprintf(version, sizeof version, "weir %d.%d.%d", WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR, WEIR_VERSION_PATCH);
    argp_program_version = version;
    argp_parse(&parser, argument_count, arguments, 0, NULL, &json);
    int code = weir_probe(NULL, rows, &row_count);
    if (json)
        print_json(rows, row_count, code);
    else
        print_table(rows, row_count, code);
    return code == 0 ? 0 : EXIT_CANNOT_RUN;
}
