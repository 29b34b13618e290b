/* SPDX-License-Identifier: MIT */
/* replay: gives a fuzz target every file that is named, or that lies in a directory that is named, each once. Where it stops, the last name printed is
 * the file that does it.
 *
 * In every build, so that what a fuzzer has once found is looked at by every compiler and sanitizer, without libFuzzer. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

static void fail(const char *path)
{
    fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
    exit(2);
}

/* In memory of exactly its size, so that a look beyond it is found. */
static void replay_file(const char *path)
{
    struct stat status;
    FILE *file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &status) != 0)
        fail(path);
    size_t bytes = (size_t)status.st_size;
    uint8_t *data = malloc(bytes);
    if (fread(data, 1, bytes, file) != bytes)
        fail(path);
    fclose(file);
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, bytes);
    free(data);
}

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Answers how many files there were. */
static uint32_t replay(const char *path)
{
    struct stat status;
    struct dirent **entries;
    if (stat(path, &status) != 0)
        fail(path);
    if (!S_ISDIR(status.st_mode)) {
        replay_file(path);
        return 1;
    }
    int count = scandir(path, &entries, is_shown, alphasort);
    uint32_t files = 0;
    if (count < 0)
        fail(path);
    for (int i = 0; i < count; i++) {
        char *below;
        if (asprintf(&below, "%s/%s", path, entries[i]->d_name) < 0)
            fail(path);
        files += replay(below);
        free(below);
        free(entries[i]);
    }
    free(entries);
    return files;
}

int main(int argc, char **argv)
{
    uint32_t files = 0;
    for (int i = 1; i < argc; i++)
        files += replay(argv[i]);
    printf("replay: %u files\n", files);
    return files > 0 ? 0 : 1;
}
