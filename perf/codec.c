/* SPDX-License-Identifier: MIT */
/* codec: the command `weir-perf codec`: what weir's codecs cost for a message, apart from any connection.
 *
 * Road:    fill a buffer with sealed messages → check that cutting it gives them back, whole and in pieces → time each way over the whole
 *          buffer, again and again: cut whole, cut in pieces, seal, encode.
 * Ditches: a codec that cannot say a size (a length of two bytes and 64 KiB) → that row is left out, and standard error says so if the
 *          size was asked for; a cut that gives back anything but what was sealed → say so, exit 1. */
#include "command.h"
#include "option.h"
#include "report.h"
#include "slice.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/codec.h>
#include <weir/session.h>
#include <weir/websocket.h>

#define CODEC_BUFFER_BYTES   (256u * 1024) /* at least */
#define CODEC_MESSAGES_LEAST 16u
#define CODEC_BYTES_MOST     1048576u
#define CODEC_PIECE_BYTES    1448u /* what an Ethernet frame carries of a TCP stream */

enum {
    CODEC_CODEC = 256,
    CODEC_BYTES,
    CODEC_PIECE,
    CODEC_SECONDS,
    CODEC_JSON,
};

static const struct argp_option codec_options[] = {
    {"codec", CODEC_CODEC, "NAME", 0,
     "frame, frame-u8, frame-u16, frame-u64, varint, line, line-crlf, raw, websocket or websocket-text; may be repeated (all of them)", 2},
    {"bytes", CODEC_BYTES, "N", 0, "payload of a message; may be repeated (16 to 65536 in powers of four)", 2},
    {"piece", CODEC_PIECE, "N", 0, "what comes at once, when it comes in pieces (1448)", 2},
    {"seconds", CODEC_SECONDS, "S", 0, "measured time of each figure (0.02)", 2},
    {"json", CODEC_JSON, NULL, 0, "print one line of JSON for each codec and size instead of a table", 4},
    {0},
};

static const char codec_help[] =
    "Measures weir's codecs over a buffer of many messages: nanoseconds for each.\v"
    "Use it to choose a codec, or to see which part of a message's cost is the codec's. There is nothing to connect to: a codec is two "
    "pure "
    "functions, and they are called here as a connection calls them, with no socket.\n\n"
    "cut        finds the messages in bytes that are all there\n"
    "in pieces  the same while the bytes come --piece at a time: a message that is not whole is looked at again when as many more have "
    "come as "
    "the codec said it misses. Putting pieces together is the reader's part and not in it\n"
    "seal       says what goes before and behind a payload\n"
    "encode     seals, and copies head, payload and trailer to where they would be sent from\n\n"
    "frame and raw do not look at the payload, so their cut and seal cost the same for any size, and GB/s says only how far that is from "
    "being the limit; line searches each byte for the line's end, websocket unmasks each (what a server reads from a client), and "
    "websocket-text "
    "looks whether they are UTF-8 too: frame's encode, which copies, is what to compare these with. raw has no messages: it is handed "
    "--bytes at once, and shows the cost of "
    "a "
    "call.\n\n"
    "The exit code is 0 when every message came out as it went in, 1 when not, 2 when an option is wrong.";

/* --- codecs --- */

static int codec_make_frame(weir_codec *codec, weir_frame_length length)
{
    weir_frame_options options = {.length = length};
    return weir_codec_frame(codec, &options);
}

static int codec_make_u32(weir_codec *codec)
{
    return codec_make_frame(codec, WEIR_FRAME_U32);
}

static int codec_make_u8(weir_codec *codec)
{
    return codec_make_frame(codec, WEIR_FRAME_U8);
}

static int codec_make_u16(weir_codec *codec)
{
    return codec_make_frame(codec, WEIR_FRAME_U16);
}

static int codec_make_u64(weir_codec *codec)
{
    return codec_make_frame(codec, WEIR_FRAME_U64);
}

static int codec_make_varint(weir_codec *codec)
{
    return codec_make_frame(codec, WEIR_FRAME_VARINT);
}

static int codec_make_line(weir_codec *codec)
{
    return weir_codec_line(codec, CODEC_BYTES_MOST, false);
}

static int codec_make_line_crlf(weir_codec *codec)
{
    return weir_codec_line(codec, CODEC_BYTES_MOST, true);
}

/* Masks of zeros cost what others do, and leave a buffer that is cut again and again as it is. */
static bool codec_no_chance(void *user, uint8_t *to, uint32_t bytes)
{
    (void)user;
    memset(to, 0, bytes);
    return true;
}

static const weir_websocket_options codec_server = {.message_max_bytes = CODEC_BYTES_MOST};
static const weir_websocket_options codec_clients[] = {
    {.client = true, .host = "codec", .message_max_bytes = CODEC_BYTES_MOST, .random = codec_no_chance, .kind = WEIR_WEBSOCKET_BINARY},
    {.client = true, .host = "codec", .message_max_bytes = CODEC_BYTES_MOST, .random = codec_no_chance, .kind = WEIR_WEBSOCKET_TEXT},
};

static int codec_make_websocket(weir_codec *codec)
{
    return weir_codec_websocket(codec, &codec_clients[0]);
}

static int codec_make_websocket_text(weir_codec *codec)
{
    return weir_codec_websocket(codec, &codec_clients[1]);
}

static const char *const codec_names[] = {"frame",     "frame-u8", "frame-u16", "frame-u64",      "varint", "line",
                                          "line-crlf", "raw",      "websocket", "websocket-text", NULL};
static int (*const codec_makers[])(weir_codec *codec) = {
    codec_make_u32,  codec_make_u8,        codec_make_u16, codec_make_u64,       codec_make_varint,
    codec_make_line, codec_make_line_crlf, weir_codec_raw, codec_make_websocket, codec_make_websocket_text,
};
#define CODEC_KINDS (sizeof codec_makers / sizeof *codec_makers)

static const uint32_t codec_sizes[] = {16, 64, 256, 1024, 4096, 16384, 65536};
#define CODEC_SIZES_MOST 16u

/* --- one codec and one size --- */

/* What is timed works on this. `stream` holds `count` messages, sealed; `room` is as large. */
struct codec_bench {
    weir_codec codec, sealer;    /* that cuts, that seals: another one when the two sides differ */
    weir_session_state *session; /* of the one that cuts; NULL: it has none */
    uint32_t message_bytes, piece_bytes;
    uint32_t count;
    uint32_t stream_bytes;
    uint8_t *payload;
    uint8_t *stream;
    uint8_t *room;
    uint64_t seen_count, seen_bytes; /* messages cut, and their payload, in all */
    bool failed;                     /* true exactly when a codec has answered an error, or not all was a message */
};

/* The compiler is not to know that nobody reads what was written. */
static inline void codec_use(const void *memory)
{
    __asm__ volatile("" : : "r"(memory) : "memory");
}

static void codec_seen(struct codec_bench *bench, const uint8_t *frame, const weir_cut *cut)
{
    codec_use(frame + cut->payload_offset);
    if (bench->session != NULL)
        bench->session->frame = WEIR_SESSION_UNKNOWN;
    bench->seen_count++;
    bench->seen_bytes += cut->payload_bytes;
}

/* All at once; a stream without boundaries as much as a message would have. */
static void codec_cut_whole(void *user, uint64_t times)
{
    struct codec_bench *bench = user;
    const weir_codec *codec = &bench->codec;
    for (uint64_t i = 0; i < times; i++)
        for (uint32_t at = 0; at < bench->stream_bytes;) {
            weir_cut cut;
            cut.scanned_bytes = 0;
            cut.session = bench->session;
            uint32_t bytes = codec->boundaries ? bench->stream_bytes - at : bench->message_bytes;
            if (codec->cut(codec, bench->stream + at, bytes, &cut) != WEIR_CUT_MESSAGE) {
                bench->failed = true;
                return;
            }
            codec_seen(bench, bench->stream + at, &cut);
            at += cut.frame_bytes;
        }
}

/* The same while the stream comes piece by piece. */
static void codec_cut_pieces_once(struct codec_bench *bench)
{
    const weir_codec *codec = &bench->codec;
    weir_cut cut = {.session = bench->session};
    uint32_t at = 0, wanted = 1; /* the unfinished message's start; how far the stream has to be there before it is looked at again */
    for (uint32_t there = 0; there < bench->stream_bytes;) {
        there += bench->stream_bytes - there < bench->piece_bytes ? bench->stream_bytes - there : bench->piece_bytes;
        while (at < there && wanted <= there) {
            int result = codec->cut(codec, bench->stream + at, there - at, &cut);
            if (result == WEIR_CUT_MORE) {
                wanted = there + cut.missing_bytes;
                continue;
            }
            if (result < 0) {
                bench->failed = true;
                return;
            }
            codec_seen(bench, bench->stream + at, &cut);
            at += cut.frame_bytes;
            wanted = at + 1;
            cut.scanned_bytes = 0;
        }
    }
    bench->failed = bench->failed || at != bench->stream_bytes;
}

static void codec_cut_pieces(void *user, uint64_t times)
{
    struct codec_bench *bench = user;
    for (uint64_t i = 0; i < times && !bench->failed; i++)
        codec_cut_pieces_once(bench);
}

static void codec_seal(void *user, uint64_t times)
{
    struct codec_bench *bench = user;
    for (uint64_t i = 0; i < times; i++)
        for (uint32_t k = 0; k < bench->count; k++) {
            weir_seal seal;
            if (bench->sealer.seal(&bench->sealer, bench->payload, bench->message_bytes, &seal) != 0)
                bench->failed = true;
            codec_use(&seal);
        }
}

/* Writes all messages to `to`; answers how many bytes that were, 0 when the codec refuses. */
static uint32_t codec_encode_to(struct codec_bench *bench, uint8_t *to)
{
    uint32_t at = 0;
    for (uint32_t k = 0; k < bench->count; k++) {
        weir_seal seal;
        if (bench->sealer.seal(&bench->sealer, bench->payload, bench->message_bytes, &seal) != 0)
            return 0;
        memcpy(to + at, seal.head, seal.head_bytes);
        if (bench->sealer.copy != NULL)
            bench->sealer.copy(&seal, to + at + seal.head_bytes, bench->payload, bench->message_bytes, 0);
        else
            memcpy(to + at + seal.head_bytes, bench->payload, bench->message_bytes);
        memcpy(to + at + seal.head_bytes + bench->message_bytes, seal.trailer, seal.trailer_bytes);
        at += seal.head_bytes + bench->message_bytes + seal.trailer_bytes;
    }
    return at;
}

static void codec_encode(void *user, uint64_t times)
{
    struct codec_bench *bench = user;
    for (uint64_t i = 0; i < times; i++) {
        if (codec_encode_to(bench, bench->room) != bench->stream_bytes)
            bench->failed = true;
        codec_use(bench->room);
    }
}

static void codec_bench_destroy(struct codec_bench *bench)
{
    free(bench->session);
    free(bench->payload);
    free(bench->stream);
    free(bench->room);
}

/* What a client has sealed, a server cuts: one whose handshake is done. False: no memory. */
static bool codec_bench_serve(struct codec_bench *bench)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: codec\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    static weir_session_answer answer;
    uint8_t head[sizeof request];
    bench->sealer = bench->codec;
    if (bench->codec.session == NULL)
        return true;
    if (weir_codec_websocket(&bench->codec, &codec_server) != 0)
        return false;
    bench->session = calloc(1, bench->codec.session->bytes);
    if (bench->session == NULL)
        return false;
    memcpy(head, request, sizeof request);
    return bench->codec.session->take(&bench->codec, bench->session, head, sizeof request - 1, &answer) == WEIR_SESSION_OPEN;
}

/* False when memory is short. A codec that cannot say the size leaves stream_bytes 0. */
static bool codec_bench_create(struct codec_bench *bench, uint32_t kind, uint32_t message_bytes, uint32_t piece_bytes)
{
    *bench = (struct codec_bench){.message_bytes = message_bytes, .piece_bytes = piece_bytes};
    bench->count = CODEC_BUFFER_BYTES / message_bytes;
    if (bench->count < CODEC_MESSAGES_LEAST)
        bench->count = CODEC_MESSAGES_LEAST;
    size_t room_bytes = (size_t)bench->count * (WEIR_HEAD_MAX_BYTES + message_bytes + WEIR_TRAILER_MAX_BYTES);
    bench->payload = malloc(message_bytes);
    bench->stream = malloc(room_bytes);
    bench->room = malloc(room_bytes);
    if (bench->payload == NULL || bench->stream == NULL || bench->room == NULL || codec_makers[kind](&bench->codec) != 0 ||
        !codec_bench_serve(bench))
        return false;
    for (uint32_t i = 0; i < message_bytes; i++)
        bench->payload[i] = (uint8_t)('a' + i % 26);
    memset(bench->room, 0, room_bytes);
    bench->stream_bytes = codec_encode_to(bench, bench->stream);
    return true;
}

/* Whether both ways of cutting give back what was sealed: so many messages, of so many bytes. (raw has no messages, its pieces are
 * others.) */
static bool codec_bench_holds(struct codec_bench *bench)
{
    uint64_t payload_bytes = (uint64_t)bench->count * bench->message_bytes;
    codec_cut_whole(bench, 1);
    bool whole = bench->seen_count == bench->count && bench->seen_bytes == payload_bytes;
    bench->seen_count = bench->seen_bytes = 0;
    codec_cut_pieces(bench, 1);
    bool pieces = (bench->seen_count == bench->count || !bench->codec.boundaries) && bench->seen_bytes == payload_bytes;
    bench->seen_count = bench->seen_bytes = 0;
    return whole && pieces && !bench->failed;
}

/* --- the program --- */

struct codec_result {
    double cut_ns, pieces_ns, seal_ns, encode_ns; /* for a message */
};

struct codec {
    uint32_t kinds; /* bits; 0: all */
    uint32_t sizes[CODEC_SIZES_MOST];
    uint32_t size_count;
    bool sized; /* true exactly when --bytes was given */
    uint32_t piece_bytes;
    uint64_t measure_ns;
    bool json;
};

static error_t codec_parse(int key, char *text, struct argp_state *state)
{
    struct codec *codec = state->input;
    switch (key) {
    case CODEC_CODEC:
        codec->kinds |= 1u << option_choice(state, "--codec", text, codec_names);
        return 0;
    case CODEC_BYTES:
        if (codec->size_count == CODEC_SIZES_MOST)
            argp_error(state, "--bytes may be given %u times", CODEC_SIZES_MOST);
        codec->sizes[codec->size_count++] = (uint32_t)option_count(state, "--bytes", text, 1, CODEC_BYTES_MOST);
        codec->sized = true;
        return 0;
    case CODEC_PIECE:
        codec->piece_bytes = (uint32_t)option_count(state, "--piece", text, 1, CODEC_BYTES_MOST);
        return 0;
    case CODEC_SECONDS:
        codec->measure_ns = option_seconds_ns(state, "--seconds", text, 0.001, 3600);
        return 0;
    case CODEC_JSON:
        codec->json = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static double codec_gigabytes(const struct codec_bench *bench, double ns)
{
    return ns > 0 ? bench->message_bytes / ns : 0;
}

static void codec_print(const struct codec *codec, uint32_t kind, const struct codec_bench *bench, const struct codec_result *result)
{
    const struct {
        const char *name;
        double ns;
    } figures[] = {{"cut", result->cut_ns}, {"pieces", result->pieces_ns}, {"seal", result->seal_ns}, {"encode", result->encode_ns}};
    if (codec->json)
        printf("{\"tool\":\"codec\",\"codec\":\"%s\",\"bytes\":%u,\"piece\":%u,\"messages\":%u", codec_names[kind], bench->message_bytes,
               bench->piece_bytes, bench->count);
    else
        printf("%-10s %8u", codec_names[kind], bench->message_bytes);
    for (unsigned i = 0; i < sizeof figures / sizeof *figures; i++)
        if (codec->json)
            printf(",\"%s_ns\":%.3f,\"%s_gigabytes_per_second\":%.3f", figures[i].name, figures[i].ns, figures[i].name,
                   codec_gigabytes(bench, figures[i].ns));
        else
            printf("  %9.1f %8.1f", figures[i].ns, codec_gigabytes(bench, figures[i].ns));
    puts(codec->json ? "}" : "");
    fflush(stdout);
}

/* False when messages did not come out as they went in, or memory is short. */
static bool codec_measure(const struct codec *codec, uint32_t kind, uint32_t message_bytes)
{
    struct codec_bench bench;
    struct codec_result result;
    bool created = codec_bench_create(&bench, kind, message_bytes, codec->piece_bytes);
    bool says = created && bench.stream_bytes > 0;
    bool good = created && (!says || codec_bench_holds(&bench));
    if (good && says) {
        result.cut_ns = slice_median_ns(codec_cut_whole, &bench, codec->measure_ns) / bench.count;
        result.pieces_ns = slice_median_ns(codec_cut_pieces, &bench, codec->measure_ns) / bench.count;
        result.seal_ns = slice_median_ns(codec_seal, &bench, codec->measure_ns) / bench.count;
        result.encode_ns = slice_median_ns(codec_encode, &bench, codec->measure_ns) / bench.count;
        good = !bench.failed;
    }
    if (good && says)
        codec_print(codec, kind, &bench, &result);
    else if (good && codec->sized)
        fprintf(stderr, "weir-perf: %s cannot say that a message has %u bytes\n", codec_names[kind], message_bytes);
    else if (!good)
        fprintf(stderr, "weir-perf: %s, %u bytes: %s\n", codec_names[kind], message_bytes,
                created ? "messages did not come out as they went in" : "no memory for it");
    codec_bench_destroy(&bench);
    return good;
}

int codec_command(int argc, char **argv)
{
    static const struct argp argp = {.options = codec_options, .parser = codec_parse, .doc = codec_help};
    struct codec codec = {.piece_bytes = CODEC_PIECE_BYTES, .measure_ns = 20000000};
    bool good = true;
    argp_parse(&argp, argc, argv, 0, NULL, &codec);
    if (codec.size_count == 0) {
        codec.size_count = sizeof codec_sizes / sizeof *codec_sizes;
        memcpy(codec.sizes, codec_sizes, sizeof codec_sizes);
    }
    if (!codec.json) {
        printf("%-10s %8s  %18s  %18s  %18s  %18s\n", "", "", "cut", "in pieces", "seal", "encode");
        printf("%-10s %8s", "codec", "bytes");
        for (int i = 0; i < 4; i++)
            printf("  %9s %8s", "ns", "GB/s");
        puts("");
    }
    for (uint32_t kind = 0; kind < CODEC_KINDS; kind++)
        for (uint32_t i = 0; i < codec.size_count; i++)
            if (codec.kinds == 0 || (codec.kinds & 1u << kind) != 0)
                good = codec_measure(&codec, kind, codec.sizes[i]) && good;
    return good ? 0 : 1;
}
