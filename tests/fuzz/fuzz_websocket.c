/* SPDX-License-Identifier: MIT */
/* fuzz_websocket: any bytes at an open WebSocket of either role, and at the handshake of either: the frames are those that a decoder by the book finds, however the
 * bytes are divided; a frame that is asked for twice is the same; what comes out comes out again when the other role has sealed it.
 *
 * Input: [how][message_max_bytes: 2][sizes of pieces ...][the stream ...]; how: the number of sizes in bits 0 to 2, 3: a client's, 4: before the handshake,
 * 5: few fragments, 6: a small head, 7: messages may be packed (RFC 7692; what is in them: fuzz_deflate.c). */
#include <errno.h>
#include <string.h>

#include <weir/websocket.h>

#include "fuzz.h"
#include "proto/websocket.h"

#define STREAM_MAX 400
#define SAID_MAX   8192
#define FEW        3

/* What a stream came to: one line for each frame, and how it ended. */
struct said {
    uint8_t data[SAID_MAX];
    size_t bytes;
};

static void say(struct said *said, char what, const void *data, size_t bytes)
{
    FUZZ_CHECK(said->bytes + bytes + 3 <= sizeof said->data);
    said->data[said->bytes++] = (uint8_t)what;
    said->data[said->bytes++] = (uint8_t)(bytes >> 8);
    said->data[said->bytes++] = (uint8_t)bytes;
    if (bytes > 0)
        memcpy(said->data + said->bytes, data, bytes);
    said->bytes += bytes;
}

static void say_number(struct said *said, char what, int32_t number)
{
    say(said, what, &number, sizeof number);
}

/* --- the codec --- */

static uint8_t next_random;

static bool not_random(void *user, uint8_t *to, uint32_t bytes)
{
    (void)user;
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = next_random += 37;
    return true;
}

static weir_websocket_options options;
static bool may_be_packed;

struct ear {
    weir_codec codec;
    struct w_websocket ws;
    uint8_t stream[STREAM_MAX]; /* what has come, as the codec has left it */
    uint32_t begin, end;        /* of the frame that is coming; of what has come */
    uint32_t scanned_bytes;
    bool over;
};

static void ear_start(struct ear *ear, bool client, bool open)
{
    memset(ear, 0, sizeof *ear);
    options.client = client;
    FUZZ_CHECK(weir_codec_websocket(&ear->codec, &options) == 0);
    FUZZ_CHECK(ear->codec.session->bytes == sizeof ear->ws);
    if (open) {
        ear->ws.stage = W_WEBSOCKET_OPEN;
    } else if (client) {
        weir_session_answer answer = {.bytes = 0};
        FUZZ_CHECK(ear->codec.session->begin(&ear->codec, &ear->ws, &answer) == WEIR_SESSION_GO_ON && answer.bytes > 0);
    }
    ear->ws.state.packs = may_be_packed;
}

/* In memory of exactly that size, so that whoever looks beyond it is found. */
static int ear_cut(struct ear *ear, weir_cut *cut)
{
    uint32_t bytes = ear->end - ear->begin;
    uint8_t *exactly = malloc(bytes);
    FUZZ_CHECK(exactly != NULL);
    memcpy(exactly, ear->stream + ear->begin, bytes);
    cut->session = &ear->ws;
    int answer = ear->codec.cut(&ear->codec, exactly, bytes, cut);
    memcpy(ear->stream + ear->begin, exactly, bytes);
    free(exactly);
    return answer;
}

static void ear_own(struct ear *ear, struct said *said, uint8_t *payload, uint32_t bytes)
{
    weir_session_answer answer = {.bytes = 0};
    uint8_t *exactly = malloc(bytes + 1);
    FUZZ_CHECK(exactly != NULL);
    memcpy(exactly, payload, bytes);
    int verdict = ear->codec.session->take(&ear->codec, &ear->ws, exactly + 0, bytes, &answer);
    free(exactly);
    FUZZ_CHECK(answer.bytes <= sizeof answer.data && (!answer.control || answer.bytes <= 256));
    say_number(said, 'v', verdict);
    say_number(said, 'p', answer.peer_code);
    say(said, 'a', answer.data, answer.bytes);
    ear->over = verdict < 0 || verdict == WEIR_SESSION_END;
}

static void ear_frame(struct ear *ear, struct said *said, const weir_cut *cut)
{
    uint8_t *payload = ear->stream + ear->begin + cut->payload_offset;
    weir_cut again = {0};
    uint8_t frame = ear->ws.state.frame, kind = ear->ws.state.kind;
    FUZZ_CHECK(frame != WEIR_SESSION_UNKNOWN && cut->frame_bytes > 0 && cut->frame_bytes <= ear->end - ear->begin);
    FUZZ_CHECK(cut->payload_offset + cut->payload_bytes <= cut->frame_bytes);
    uint8_t before[STREAM_MAX];
    memcpy(before, ear->stream, sizeof before);
    FUZZ_CHECK(ear_cut(ear, &again) == WEIR_CUT_MESSAGE && again.frame_bytes == cut->frame_bytes);
    FUZZ_CHECK(again.payload_offset == cut->payload_offset && again.payload_bytes == cut->payload_bytes);
    FUZZ_CHECK(memcmp(before, ear->stream, sizeof before) == 0 && ear->ws.state.frame == frame && ear->ws.state.kind == kind);
    if (frame == WEIR_SESSION_OWN) {
        say(said, 'o', NULL, 0);
        ear_own(ear, said, payload, cut->payload_bytes);
    } else {
        say(said, frame == WEIR_SESSION_MESSAGE ? 'm' : frame == WEIR_SESSION_PART ? 'c' : 'l', payload, cut->payload_bytes);
        say_number(said, 'k', kind | (ear->ws.state.packed ? 0x40 : 0));
    }
    ear->ws.state.frame = WEIR_SESSION_UNKNOWN;
    ear->begin += cut->frame_bytes;
    ear->scanned_bytes = 0;
}

static void ear_hear(struct ear *ear, struct said *said, const uint8_t *data, uint32_t bytes)
{
    memcpy(ear->stream + ear->end, data, bytes);
    ear->end += bytes;
    while (!ear->over && ear->begin < ear->end) {
        weir_cut cut = {.scanned_bytes = ear->scanned_bytes};
        int answer = ear_cut(ear, &cut);
        ear->scanned_bytes = cut.scanned_bytes;
        if (answer == WEIR_CUT_MORE) {
            FUZZ_CHECK(cut.missing_bytes > 0);
            return;
        }
        if (answer < 0) {
            say_number(said, 'e', answer);
            ear->over = true;
            return;
        }
        ear_frame(ear, said, &cut);
    }
}

static void run(struct said *said, bool client, bool open, const uint8_t *stream, uint32_t bytes, const uint8_t *sizes, uint32_t count)
{
    static struct ear ear;
    uint32_t done = 0;
    said->bytes = 0;
    next_random = 0;
    ear_start(&ear, client, open);
    for (uint32_t i = 0; done < bytes; i++) {
        uint32_t piece = count == 0 ? bytes : sizes[i % count] + 1U;
        piece = piece < bytes - done ? piece : bytes - done;
        ear_hear(&ear, said, stream + done, piece);
        done += piece;
    }
}

/* --- by the book: an open connection --- */

struct book {
    struct said *said;
    uint8_t text[STREAM_MAX]; /* of the message that is coming */
    uint32_t text_bytes, message_bytes, parts;
    uint8_t kind; /* of that; 0: none */
    bool packed;
};

/* Table 3-7 of the Unicode Standard. 0: it is UTF-8; 1: and may go on; -1: it is none. */
static int book_utf8(const uint8_t *text, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes;) {
        uint8_t first = text[i];
        uint32_t length = first < 0x80                     ? 1
                          : first >= 0xc2 && first <= 0xdf ? 2
                          : first >= 0xe0 && first <= 0xef ? 3
                          : first >= 0xf0 && first <= 0xf4 ? 4
                                                           : 0;
        if (length == 0)
            return -1;
        for (uint32_t k = 1; k < length; k++) {
            if (i + k == bytes)
                return 1;
            uint8_t low = k > 1 ? 0x80 : first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
            uint8_t high = k > 1 ? 0xbf : first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
            if (text[i + k] < low || text[i + k] > high)
                return -1;
        }
        i += length;
    }
    return 0;
}

static bool book_may_close_by(uint32_t code)
{
    return code >= 1000 && code < 5000 && code != 1004 && code != 1005 && code != 1006 && (code < 1015 || code >= 3000);
}

/* True: it goes on. */
static bool book_control(struct book *book, bool client, uint8_t opcode, const uint8_t *payload, uint32_t bytes)
{
    uint8_t answer[160];
    uint32_t answer_bytes = 0, code = bytes < 2 ? 0 : (uint32_t)payload[0] << 8 | payload[1];
    int verdict = WEIR_SESSION_GO_ON, peer_code = 0;
    say(book->said, 'o', NULL, 0);
    if (opcode == 8) {
        bool bad = bytes == 1 || (bytes >= 2 && !book_may_close_by(code));
        verdict = bad ? -EBADMSG : bytes > 2 && book_utf8(payload + 2, bytes - 2) != 0 ? -EILSEQ : WEIR_SESSION_END;
        peer_code = verdict < 0 ? 0 : bytes == 0 ? 1005 : (int)code;
    } else if (opcode == 9) {
        uint8_t key[4] = {0};
        answer[answer_bytes++] = 0x8a;
        answer[answer_bytes++] = (uint8_t)((client ? 0x80 : 0) | bytes);
        if (client) {
            not_random(NULL, key, sizeof key);
            memcpy(answer + answer_bytes, key, sizeof key);
            answer_bytes += sizeof key;
        }
        for (uint32_t i = 0; i < bytes; i++)
            answer[answer_bytes++] = payload[i] ^ key[i % 4];
    }
    say_number(book->said, 'v', verdict);
    say_number(book->said, 'p', peer_code);
    say(book->said, 'a', answer, answer_bytes);
    return verdict == WEIR_SESSION_GO_ON;
}

static bool book_error(struct book *book, int error)
{
    say_number(book->said, 'e', error);
    return false;
}

/* The payload of a data frame, or as much of it as there is. True: it goes on. */
static bool book_data(struct book *book, bool last, uint8_t opcode, bool packed, const uint8_t *payload, uint32_t bytes, bool whole)
{
    bool first = opcode != 0;
    uint8_t kind = first ? opcode : book->kind;
    if (first) {
        book->text_bytes = book->message_bytes = book->parts = 0;
        book->packed = packed;
    }
    if (kind == 1 && !book->packed) {
        memcpy(book->text + book->text_bytes, payload, bytes);
        book->text_bytes += bytes;
        int utf8 = book_utf8(book->text, book->text_bytes);
        if (utf8 < 0 || (whole && last && utf8 != 0))
            return book_error(book, -EILSEQ);
    }
    if (!whole)
        return false;
    say(book->said, last && first && !book->packed ? 'm' : last ? 'l' : 'c', payload, bytes);
    say_number(book->said, 'k', kind | (book->packed ? 0x40 : 0));
    book->kind = last ? 0 : kind;
    book->message_bytes += bytes;
    book->parts++;
    return true;
}

static bool book_may_stand(const struct book *book, uint8_t first)
{
    uint8_t opcode = first & 15;
    uint8_t reserved = may_be_packed && (opcode == 1 || opcode == 2) ? 0x30 : 0x70;
    return (first & reserved) == 0 && (opcode <= 2 || (opcode >= 8 && opcode <= 10 && first >= 0x80)) &&
           (opcode >= 8 || (opcode == 0) == (book->kind != 0));
}

/* One frame: 0: the end of what there is, or of everything; else its bytes. */
static uint32_t book_frame(struct book *book, bool client, const weir_codec *codec, const uint8_t *data, uint32_t bytes)
{
    uint8_t first = data[0], opcode = first & 15, payload[STREAM_MAX];
    if (!book_may_stand(book, first) || (bytes > 1 && ((data[1] >= 0x80) == client || (opcode >= 8 && (data[1] & 0x7f) > 125))))
        return book_error(book, -EBADMSG);
    uint32_t more = bytes < 2 ? 0 : (data[1] & 0x7f) == 126 ? 2 : (data[1] & 0x7f) == 127 ? 8 : 0, head = 2 + more;
    if (bytes < 2 || bytes < head)
        return 0;
    uint64_t length = more == 0 ? data[1] & 0x7f : 0;
    for (uint32_t i = 0; i < more; i++)
        length = length << 8 | data[2 + i];
    if ((more == 2 && length < 126) || (more == 8 && (length < 65536 || length >> 63 != 0)))
        return book_error(book, -EBADMSG);
    uint32_t before = opcode == 0 ? book->message_bytes : 0, parts = opcode == 0 ? book->parts : 0;
    bool alone = opcode != 0 && first >= 0x80, packed = opcode == 0 ? book->packed : (first & 0x40) != 0;
    uint64_t most = codec->message_max_bytes + (packed ? codec->message_max_bytes / 128 + 64 : 0);
    if (opcode < 8 && (length > most - before || (!alone && parts >= (options.fragments_max != 0 ? options.fragments_max : 1024))))
        return book_error(book, -EMSGSIZE);
    const uint8_t *key = data + head;
    head += client ? 0 : 4;
    if (bytes < head)
        return 0;
    bool whole = bytes - head >= length;
    uint32_t there = whole ? (uint32_t)length : bytes - head;
    for (uint32_t i = 0; i < there; i++)
        payload[i] = client ? data[head + i] : data[head + i] ^ key[i % 4];
    if (opcode >= 8)
        return whole && book_control(book, client, opcode, payload, there) ? head + there : 0;
    return book_data(book, first >= 0x80, opcode, packed, payload, there, whole) ? head + there : 0;
}

static void book_run(struct said *said, bool client, const uint8_t *stream, uint32_t bytes)
{
    static struct ear ear;
    static struct book book;
    ear_start(&ear, client, true);
    said->bytes = 0;
    next_random = 0;
    book = (struct book){.said = said};
    for (uint32_t done = 0, frame; done < bytes; done += frame)
        if ((frame = book_frame(&book, client, &ear.codec, stream + done, bytes - done)) == 0)
            return;
}

/* --- sealed and cut again --- */

static void check_seal(bool client, const uint8_t *payload, uint32_t bytes)
{
    static struct ear ear, other;
    static struct said said;
    uint8_t frame[STREAM_MAX + WEIR_HEAD_MAX_BYTES];
    weir_seal seal;
    ear_start(&ear, client, true);
    options.kind = bytes % 2 == 0 ? WEIR_WEBSOCKET_TEXT : WEIR_WEBSOCKET_BINARY;
    FUZZ_CHECK(weir_codec_websocket(&ear.codec, &options) == 0);
    int answer = ear.codec.seal(&ear.codec, payload, bytes, &seal);
    bool too_big = bytes > ear.codec.message_max_bytes, bad = options.kind == WEIR_WEBSOCKET_TEXT && book_utf8(payload, bytes) != 0;
    FUZZ_CHECK(answer == (too_big ? -EMSGSIZE : bad ? -EBADMSG : 0));
    if (answer != 0 || seal.head_bytes + bytes > STREAM_MAX)
        return;
    FUZZ_CHECK(seal.trailer_bytes == 0 && seal.head_bytes <= ear.codec.head_max_bytes);
    memcpy(frame, seal.head, seal.head_bytes);
    memcpy(frame + seal.head_bytes, payload, bytes);
    if (ear.codec.copy != NULL) /* in two parts, the second where it stands */
        for (uint32_t done = 0, part; done < bytes; done += part) {
            part = done == 0 ? bytes / 2 + 1 : bytes - done;
            part = part < bytes - done ? part : bytes - done;
            ear.codec.copy(&seal, frame + seal.head_bytes + done, frame + seal.head_bytes + done, part, done);
        }
    said.bytes = 0;
    ear_start(&other, !client, true);
    ear_hear(&other, &said, frame, seal.head_bytes + bytes);
    FUZZ_CHECK(said.bytes == 3 + bytes + 3 + 4 && said.data[0] == 'm' && memcmp(said.data + 3, payload, bytes) == 0);
    FUZZ_CHECK(said.data[3 + bytes + 3] == options.kind);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const uint8_t one = 0;
    static struct said whole, other;
    struct fuzz_input input = {data, bytes};
    uint8_t how = fuzz_take_u8(&input);
    uint32_t message_max_bytes = (uint32_t)fuzz_take(&input, 2), count = how & 7;
    count = count < input.bytes ? count : (uint32_t)input.bytes;
    const uint8_t *sizes = input.data, *stream = input.data + count;
    size_t stream_bytes = input.bytes - count;
    bool client = how & 8, open = (how & 16) == 0;
    if (stream_bytes > STREAM_MAX || stream_bytes == 0)
        return 0;
    options = (weir_websocket_options){.host = "fuzz", .message_max_bytes = message_max_bytes, .random = not_random};
    options.fragments_max = how & 32 ? FEW : 0;
    options.head_max_bytes = how & 64 ? 200 : 0;
    may_be_packed = how & 128;
    run(&whole, client, open, stream, (uint32_t)stream_bytes, NULL, 0);
    run(&other, client, open, stream, (uint32_t)stream_bytes, &one, 1);
    FUZZ_CHECK(whole.bytes == other.bytes && memcmp(whole.data, other.data, whole.bytes) == 0);
    run(&other, client, open, stream, (uint32_t)stream_bytes, sizes, count);
    FUZZ_CHECK(whole.bytes == other.bytes && memcmp(whole.data, other.data, whole.bytes) == 0);
    if (open) {
        book_run(&other, client, stream, (uint32_t)stream_bytes);
        FUZZ_CHECK(whole.bytes == other.bytes && memcmp(whole.data, other.data, whole.bytes) == 0);
    }
    check_seal(client, stream, (uint32_t)stream_bytes);
    return 0;
}
