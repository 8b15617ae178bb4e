/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: two releases that meet work together, or say which versions they are of: today's owner
 * serves a reader of an older release, and today's reader is served by an older owner, from the
 * greeting to the end of the lease; and what comes of a version that only the future knows is
 * refused with both versions named, on both sides.
 * Method: what a release's agents said to each other was recorded (record.c); each half is played
 * to today's other half. Greetings, frames, metadata and tickets of version 2 are made by hand.
 */
#include "talk.h"

#include "base/crc32c.h"
#include "base/writer.h"
#include "wire/metadata.h"
#include "wire/ticket.h"

enum { LINES_MAX = 64, LINE_BYTES_MAX = 1024 };

enum line_kind { LINE_STEP, LINE_METADATA, LINE_TICKET, LINE_CLIENT, LINE_SERVER };

struct line {
    enum line_kind kind;
    enum talk_step step;
    size_t count;
    uint8_t bytes[LINE_BYTES_MAX];
};

struct recording {
    uint32_t count;
    struct line lines[LINES_MAX];
};

/* --- recordings --- */

static uint8_t digit_of(char character)
{
    const char *const digits = "0123456789abcdef";
    const char *found = strchr(digits, character);

    assert_true(found != NULL && *found != '\0');
    return (uint8_t)(found - digits);
}

static void take_hex(struct line *line, const char *text)
{
    for (; text[0] != '\0' && text[0] != '\n'; text += 2) {
        assert_true(line->count < LINE_BYTES_MAX && text[1] != '\0');
        line->bytes[line->count++] = (uint8_t)(digit_of(text[0]) << 4 | digit_of(text[1]));
    }
}

static void take_line(struct recording *recording, const char *text)
{
    static const char *const kinds[] = {"step ", "metadata ", "ticket ", "client ", "server "};
    struct line *line = &recording->lines[recording->count];
    uint32_t steps = 0;

    for (uint32_t i = 0; i < recording->count; i++)
        steps += recording->lines[i].kind == LINE_STEP;
    for (int kind = 0; kind < 5; kind++) {
        size_t length = strlen(kinds[kind]);

        if (strncmp(text, kinds[kind], length) != 0)
            continue;
        assert_true(recording->count < LINES_MAX);
        *line = (struct line){.kind = (enum line_kind)kind, .step = (enum talk_step)steps};
        if (kind != LINE_STEP)
            take_hex(line, text + length);
        recording->count++;
        return;
    }
    assert_int_equal(text[0], '#');
}

static void load(struct recording *recording, const char *release)
{
    static char text[2 * LINE_BYTES_MAX + 32];
    char path[512];

    (void)snprintf(path, sizeof path, "%s/%s.hex", LEND_TEST_RECORDINGS, release);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    memset(recording, 0, sizeof *recording);
    while (fgets(text, sizeof text, file) != NULL)
        take_line(recording, text);
    assert_int_equal(fclose(file), 0);
    assert_true(recording->count > 0);
}

static const struct line *find_line(const struct recording *recording, enum line_kind kind)
{
    for (uint32_t i = 0; i < recording->count; i++)
        if (recording->lines[i].kind == kind)
            return &recording->lines[i];
    fail();
    return NULL;
}

static struct lend_frame frame_of(const struct line *line)
{
    struct lend_frame frame;

    assert_int_equal(lend_frame_decode(line->bytes, &frame, NULL), LEND_OK);
    assert_int_equal(frame.payload_bytes, line->count - LEND_FRAME_HEADER_BYTES);
    return frame;
}

static void say_line(struct pipe_end *end, const struct line *line)
{
    pipe_say_bytes(end, line->bytes, line->bytes + LEND_FRAME_HEADER_BYTES,
                   line->count - LEND_FRAME_HEADER_BYTES);
}

/* --- today's owner, a reader of then --- */

/* The owner says what it said then, where a reader looks: the type, the request, how it ended, and
 * bytes. */
static void hear_like(struct pipe_end *end, const struct line *line)
{
    static uint8_t payload[LEND_FRAME_PAYLOAD_MAX];
    const uint8_t *then = line->bytes + LEND_FRAME_HEADER_BYTES;
    struct lend_frame wanted = frame_of(line), heard;
    struct lend_verdict verdict;
    struct lend_welcome welcome;

    assert_true(pipe_hear(end, &heard, payload));
    assert_int_equal(heard.type, wanted.type);
    assert_true(heard.sequence == wanted.sequence && heard.request == wanted.request);
    if (heard.type == LEND_FRAME_WELCOME) {
        assert_int_equal(lend_welcome_decode(payload, heard.payload_bytes, &welcome, NULL),
                         LEND_OK);
        assert_int_equal(heard.payload_bytes, wanted.payload_bytes);
        assert_int_equal(welcome.version, 1);
    } else if (heard.type == LEND_FRAME_DONE) {
        assert_int_equal(lend_verdict_decode(payload, heard.payload_bytes, &verdict, NULL),
                         LEND_OK);
        assert_int_equal(verdict.status, LEND_OK);
        assert_true(verdict.bytes == TALK_BYTES);
    } else if (heard.type == LEND_FRAME_DATA) {
        assert_int_equal(heard.payload_bytes, wanted.payload_bytes);
        assert_memory_equal(payload, then, heard.payload_bytes);
    } else {
        fail_msg("a frame of type %u was recorded, which nobody looks at", heard.type);
    }
}

static void expect_all_done(struct talk *talk)
{
    struct lend_notification_info info = {.struct_size = sizeof info};
    struct lend_lease_info lease = {.struct_size = sizeof lease};
    uint8_t bytes[64];
    size_t count;

    for (size_t i = 0; i < TALK_BYTES; i++)
        assert_int_equal(talk->lent_memory[i], talk_written(i));
    assert_int_equal(
        lend_notification_receive(talk->owner, bytes, sizeof bytes, &count, &info, 0, NULL),
        LEND_OK);
    assert_int_equal(count, sizeof TALK_NOTIFICATION);
    assert_memory_equal(bytes, TALK_NOTIFICATION, count);
    assert_string_equal(info.peer, "reader");
    assert_int_equal(lend_lease_describe(talk->lease, &lease, NULL), LEND_OK);
    assert_int_equal(lease.status, LEND_E_CONSUMED);
}

static void test_owner_serves_a_reader_of_an_older_release(void **state)
{
    static struct recording recording;
    struct talk talk = {.owner = NULL};
    uint32_t heard = 0;

    load(&recording, *state);
    talk_owner(&talk);
    struct pipe_end *end = pipe_dial(talk.owner);
    for (uint32_t i = 0; i < recording.count; i++) {
        const struct line *line = &recording.lines[i];

        if (line->kind == LINE_CLIENT)
            say_line(end, line);
        pipe_pump(talk.owner, NULL);
        if (line->kind == LINE_SERVER) {
            hear_like(end, line);
            heard++;
        }
    }
    assert_true(heard >= 4);
    assert_false(pipe_is_over(end));
    expect_all_done(&talk);
    pipe_close(end);
    talk_end(&talk);
}

/* --- today's reader, an owner of then --- */

static void test_reader_is_served_by_an_owner_of_an_older_release(void **state)
{
    static uint8_t payload[LEND_FRAME_PAYLOAD_MAX];
    static struct recording recording;
    struct talk talk = {.owner = NULL};
    struct pipe_end *end = NULL;
    uint32_t heard = 0;

    load(&recording, *state);
    const struct line *metadata = find_line(&recording, LINE_METADATA);
    const struct line *ticket = find_line(&recording, LINE_TICKET);
    pipe_answer_by_hand(true);
    talk_reader(&talk, metadata->bytes, metadata->count, ticket->bytes, ticket->count);
    for (uint32_t i = 0; i < recording.count; i++) {
        const struct line *line = &recording.lines[i];
        struct lend_frame frame;

        if (line->kind == LINE_STEP) {
            talk_begin(&talk, line->step);
            end = pipe_accepted();
            assert_non_null(end);
        }
        if (line->kind == LINE_SERVER)
            say_line(end, line);
        pipe_pump(talk.reader, NULL);
        if (line->kind == LINE_CLIENT) {
            assert_true(pipe_hear(end, &frame, payload));
            assert_int_equal(frame.type, frame_of(line).type);
            heard++;
        }
        if (i + 1 == recording.count || recording.lines[i + 1].kind == LINE_STEP)
            assert_true(line->kind < LINE_CLIENT || talk_is_well(&talk, line->step - 1));
    }
    assert_true(heard >= 8);
    pipe_close(end);
    talk_end(&talk);
    pipe_answer_by_hand(false);
}

/* --- the future --- */

static void expect_bye(struct pipe_end *end, const char *words)
{
    static uint8_t payload[LEND_FRAME_PAYLOAD_MAX];
    struct lend_verdict verdict;
    struct lend_frame frame;

    assert_true(pipe_hear(end, &frame, payload));
    assert_int_equal(frame.type, LEND_FRAME_BYE);
    assert_int_equal(lend_verdict_decode(payload, frame.payload_bytes, &verdict, NULL), LEND_OK);
    assert_int_equal(verdict.status, LEND_E_VERSION);
    if (strstr(verdict.text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", verdict.text, words);
    assert_true(pipe_is_over(end));
    pipe_close(end);
}

static void test_client_of_the_future_is_told_both_versions(void **state)
{
    struct lend_hello hello = {.version_min = 2, .version_max = 2, .name = "future"};
    struct talk talk = {.owner = NULL};
    uint8_t bytes[256];

    (void)state;
    talk_owner(&talk);
    struct pipe_end *end = pipe_dial(talk.owner);
    lend_agent_incarnation(talk.owner, hello.wanted);
    pipe_say(end, LEND_FRAME_HELLO, 0, bytes, lend_hello_encode(&hello, bytes, sizeof bytes));
    pipe_pump(talk.owner, NULL);
    expect_bye(end, "future speaks versions 2 to 2 of the protocol, owner speaks 1");
    talk_end(&talk);
}

/* A frame's header with another version, and a right checksum. */
static void forge_version(uint8_t *header, uint8_t version)
{
    struct lend_writer writer = lend_writer_init(header + 28, 4);

    header[2] = version;
    lend_write_u32(&writer, lend_crc32c(0, header, 28));
}

static void test_frame_of_the_future_is_answered_with_both_versions(void **state)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    const struct lend_frame frame = {.type = LEND_FRAME_HELLO};
    struct talk talk = {.owner = NULL};

    (void)state;
    talk_owner(&talk);
    struct pipe_end *end = pipe_dial(talk.owner);
    lend_frame_encode(&frame, NULL, header);
    forge_version(header, 2);
    pipe_say_bytes(end, header, NULL, 0);
    pipe_pump(talk.owner, NULL);
    expect_bye(end, "protocol version 2, and this library speaks version 1");
    talk_end(&talk);
}

/* Connect to a server by hand, which has heard HELLO. */
static struct pipe_end *begin_connect(struct talk *talk, const struct recording *recording)
{
    static uint8_t payload[LEND_FRAME_PAYLOAD_MAX];
    const struct line *metadata = find_line(recording, LINE_METADATA);
    const struct line *ticket = find_line(recording, LINE_TICKET);
    struct lend_frame frame;

    pipe_answer_by_hand(true);
    talk_reader(talk, metadata->bytes, metadata->count, ticket->bytes, ticket->count);
    talk_begin(talk, TALK_CONNECT);
    assert_true(pipe_hear(pipe_accepted(), &frame, payload));
    assert_int_equal(frame.type, LEND_FRAME_HELLO);
    return pipe_accepted();
}

static void test_server_of_the_future_is_told_both_versions(void **state)
{
    struct lend_welcome welcome = {
        .version = 2, .requests_max = 1, .notification_window_bytes = 65536};
    static struct recording recording;
    struct talk talk = {.owner = NULL};
    struct lend_error why;
    uint8_t bytes[128];

    load(&recording, *state);
    struct pipe_end *end = begin_connect(&talk, &recording);
    memset(welcome.incarnation, 0x11, sizeof welcome.incarnation);
    pipe_say(end, LEND_FRAME_WELCOME, 0, bytes, lend_welcome_encode(&welcome, bytes, sizeof bytes));
    assert_int_equal(lend_peer_connect(talk.peer, UINT64_C(1000000), &why), LEND_E_VERSION);
    assert_non_null(strstr(why.message, "chose version 2 of the protocol, we speak 1"));
    pipe_pump(talk.reader, NULL);
    expect_bye(end, "chose version 2 of the protocol, we speak 1");
    talk_end(&talk);
    pipe_answer_by_hand(false);
}

static void test_goodbye_of_the_future_reaches_the_application(void **state)
{
    const struct lend_verdict verdict = {.status = LEND_E_VERSION,
                                         .text = "reader speaks versions 1 to 1, owner speaks 2"};
    static struct recording recording;
    struct talk talk = {.owner = NULL};
    struct lend_error why;
    uint8_t bytes[512];

    load(&recording, *state);
    struct pipe_end *end = begin_connect(&talk, &recording);
    pipe_say(end, LEND_FRAME_BYE, 0, bytes, lend_verdict_encode(&verdict, bytes, sizeof bytes));
    assert_int_equal(lend_peer_connect(talk.peer, UINT64_C(1000000), &why), LEND_E_VERSION);
    assert_non_null(strstr(why.message, verdict.text));
    pipe_close(end);
    talk_end(&talk);
    pipe_answer_by_hand(false);
}

/* Metadata and tickets begin with a magic number of 4 bytes and a version of 2, and end in their
 * checksum. */
static void make_version_2(uint8_t *bytes, size_t count)
{
    struct lend_writer version = lend_writer_init(bytes + 4, 2);
    struct lend_writer checksum = lend_writer_init(bytes + count - 4, 4);

    assert_int_equal(bytes[4] | bytes[5] << 8, 1);
    lend_write_u16(&version, 2);
    lend_write_u32(&checksum, lend_crc32c(0, bytes, count - 4));
}

static void test_metadata_and_tickets_of_the_future_are_refused_with_both_versions(void **state)
{
    struct talk talk = {.owner = NULL};
    struct lend_peer *peer = NULL;
    struct lend_ticket *ticket = NULL;
    struct lend_error why;

    (void)state;
    talk_owner(&talk);
    talk_reader(&talk, talk.metadata, talk.metadata_count, talk.ticket_bytes, talk.ticket_count);
    make_version_2(talk.metadata, talk.metadata_count);
    make_version_2(talk.ticket_bytes, talk.ticket_count);
    assert_int_equal(lend_peer_import(talk.reader, talk.metadata, talk.metadata_count, &peer, &why),
                     LEND_E_VERSION);
    assert_non_null(strstr(why.message, "version 2"));
    assert_non_null(strstr(why.message, "version 1"));
    assert_int_equal(
        lend_ticket_import(talk.peer, talk.ticket_bytes, talk.ticket_count, &ticket, &why),
        LEND_E_VERSION);
    assert_non_null(strstr(why.message, "version 2"));
    assert_non_null(strstr(why.message, "version 1"));
    talk_end(&talk);
}

int main(void)
{
    static char release[] = "3dba2c3";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_owner_serves_a_reader_of_an_older_release, release),
        cmocka_unit_test_prestate(test_reader_is_served_by_an_owner_of_an_older_release, release),
        cmocka_unit_test(test_client_of_the_future_is_told_both_versions),
        cmocka_unit_test(test_frame_of_the_future_is_answered_with_both_versions),
        cmocka_unit_test_prestate(test_server_of_the_future_is_told_both_versions, release),
        cmocka_unit_test_prestate(test_goodbye_of_the_future_reaches_the_application, release),
        cmocka_unit_test(test_metadata_and_tickets_of_the_future_are_refused_with_both_versions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
