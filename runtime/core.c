/* SPDX-License-Identifier: MIT */
/* core: whose thread it is, and what the log is told. */
#include "runtime/core.h"

#include <stdio.h>
#include <unistd.h>

/* Its address names the thread. */
_Thread_local char w_core_thread_mark;

const void *w_core_self(void)
{
    return &w_core_thread_mark;
}

void w_core_wrong_thread(const struct w_core *core, const char *function)
{
    if (core->owner == NULL)
        w_base_misuse(function, "shard %u has not been turned yet: this call is for its own thread, in on_start at the earliest",
                      core->index);
    w_base_misuse(function, "shard %u belongs to thread %d, the call came from thread %d", core->index,
                  __atomic_load_n(&core->owner_thread, __ATOMIC_RELAXED), (int)gettid());
}

void w_core_log(const struct w_core *core, weir_log_level level, const char *format, ...)
{
    if (core->config->log == NULL || level < core->config->log_level)
        return;
    char sentence[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    core->config->log(core->config->log_user, level, sentence);
}
