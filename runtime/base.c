/* SPDX-License-Identifier: MIT */
/* base: asserts that stay on, and the sentences for codes and reasons. */
#include "runtime/base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void w_base_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "weir: internal error: %s does not hold (%s:%d); please report this\n", condition, file, line);
    abort();
}

void w_base_misuse(const char *function, const char *format, ...)
{
    char sentence[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    fprintf(stderr, "weir: misuse of %s: %s\n", function, sentence);
    abort();
}

int w_base_fail(weir_error *error, int code, const char *format, ...)
{
    if (error == NULL)
        return code;
    error->code = code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->sentence, sizeof error->sentence, format, arguments);
    va_end(arguments);
    return code;
}

struct w_base_quoted w_base_quote(const char *start, size_t bytes)
{
    struct w_base_quoted quoted;
    size_t room = sizeof quoted.text - 1, most = bytes <= room ? bytes : room - 3;
    for (size_t i = 0; i < most; i++) {
        unsigned char byte = (unsigned char)start[i];
        quoted.text[i] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
    }
    if (most == bytes)
        quoted.text[most] = '\0';
    else
        memcpy(quoted.text + most, "...", 4);
    return quoted;
}

/* What codes mean when weir answers them; any other errno has the C library's sentence. */
static const struct {
    int code;
    const char *sentence;
} sentences[] = {
    {0, "no error"},
    {EAGAIN, "no room now: wait for on_ready, then send again"},
    {EMSGSIZE, "the message is larger than its codec or its connection's limits allow"},
    {EBADMSG, "the codec cannot carry this payload, or what came is not of its format"},
    {EPIPE, "the connection is ending: nothing more goes out on it"},
    {ENOTCONN, "the connection is not open (any more)"},
    {ESTALE, "the connection that this id names has ended"},
    {EXDEV, "the connection that this id names lives on another shard"},
    {ESHUTDOWN, "the runtime is stopping, or has stopped"},
    {EDEADLK, "a turn cannot be entered from inside itself"},
    {EPERM, "not permitted: a shard's call from a thread that is not its own, or io_uring is forbidden here (run weir-probe)"},
    {ENOSYS, "the kernel has no io_uring, or hides it (run weir-probe)"},
    {EOPNOTSUPP, "the kernel is older than Linux 6.1, or lacks a feature weir must have (run weir-probe)"},
    {ENOMEM, "no memory: the allocator has none, or the locked-memory limit is spent (ulimit -l; run weir-probe)"},
    {EMFILE, "no more descriptors for this process (ulimit -n)"},
    {ENFILE, "no more descriptors on this machine (fs.file-max)"},
    {ENOSPC, "a table or a buffer that has a configured size is full"},
    {EINVAL, "a value is not understood or out of its range"},
    {EADDRINUSE, "somebody listens on this address already"},
    {EHOSTUNREACH, "the name has no address, or no way leads there"},
    {EBUSY, "it runs already"},
};

const char *weir_strerror(int code)
{
    for (size_t i = 0; i < W_COUNT(sentences); i++)
        if (code == -sentences[i].code)
            return sentences[i].sentence;
    const char *description = code < 0 && code > -4096 ? strerrordesc_np(-code) : NULL;
    return description != NULL ? description : "not an error code of weir";
}

static const struct {
    const char *name, *sentence;
} reasons[WEIR_REASON_COUNT] = {
    [WEIR_REASON_NONE] = {"none", "the connection has not ended"},
    [WEIR_REASON_LOCAL] = {"local", "this program ended it, after everything was sent"},
    [WEIR_REASON_ABORTED] = {"aborted", "this program aborted it"},
    [WEIR_REASON_REFUSED] = {"refused", "on_open refused it"},
    [WEIR_REASON_STOPPED] = {"stopped", "the runtime was stopped"},
    [WEIR_REASON_PEER] = {"peer", "the peer finished at a message boundary"},
    [WEIR_REASON_TRUNCATED] = {"truncated", "the peer finished inside a message"},
    [WEIR_REASON_RESET] = {"reset", "the peer reset the connection"},
    [WEIR_REASON_NETWORK] = {"network", "the kernel gave the connection up"},
    [WEIR_REASON_TOO_BIG] = {"too-big", "the peer sent or announced a message over the limit"},
    [WEIR_REASON_BAD_MESSAGE] = {"bad-message", "the peer sent what its codec forbids"},
    [WEIR_REASON_HANDLER] = {"handler", "on_message answered with an error"},
    [WEIR_REASON_FIRST_LATE] = {"first-late", "no first message came in time"},
    [WEIR_REASON_MESSAGE_LATE] = {"message-late", "a message that had begun was not whole in time"},
    [WEIR_REASON_IDLE] = {"idle", "nothing moved either way for the idle time"},
    [WEIR_REASON_DRAIN_LATE] = {"drain-late", "sending the rest and the peer's end took too long"},
    [WEIR_REASON_SLOW_BYTES] = {"slow-bytes", "slow peer: too many bytes queued for it"},
    [WEIR_REASON_SLOW_TIME] = {"slow-time", "slow peer: no progress for too long"},
    [WEIR_REASON_MEMORY] = {"memory", "the shard's memory budget is spent and this connection held the most"},
    [WEIR_REASON_NO_MEMORY] = {"no-memory", "the allocator had no memory for it"},
    [WEIR_REASON_DIAL_FAILED] = {"dial-failed", "dialling did not connect"},
    [WEIR_REASON_DIAL_LATE] = {"dial-late", "dialling did not connect in time"},
    [WEIR_REASON_NAME] = {"name", "the host name has no address"},
    [WEIR_REASON_HANDSHAKE] = {"handshake", "the handshake was refused, or is none of this protocol"},
    [WEIR_REASON_HANDSHAKE_LATE] = {"handshake-late", "the handshake was not done in time"},
};

const char *weir_reason_name(weir_reason reason)
{
    return (unsigned)reason < WEIR_REASON_COUNT ? reasons[reason].name : "unknown";
}

const char *weir_reason_sentence(weir_reason reason)
{
    return (unsigned)reason < WEIR_REASON_COUNT ? reasons[reason].sentence : "not a reason of weir";
}
