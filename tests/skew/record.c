/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes down what two agents of a release say to each other: how skew/RELEASE.hex is made.
 *
 * With that release's sources in OLD, built in BUILD (meson setup BUILD OLD; ninja -C BUILD
 * liblend.a), and these ones here:
 *
 *     cc -std=gnu11 -D_GNU_SOURCE -DRELEASE='"COMMIT"' -I OLD/include -I OLD/src -I tests \
 *        tests/skew/record.c tests/skew/talk.c tests/fake/pipe.c BUILD/liblend.a -lcmocka \
 *        -o record && ./record >tests/skew/COMMIT.hex
 *
 * A line is a step that the reader takes, or its owner's metadata or ticket, or a frame of the
 * client or the server, header and payload.
 */
#include "talk.h"

static const char *const steps[TALK_STEPS] = {
    [TALK_CONNECT] = "connect", [TALK_WRITE] = "write", [TALK_READ] = "read",
    [TALK_NOTIFY] = "notify",   [TALK_DONE] = "done",
};

static void print_bytes(const char *what, const uint8_t *bytes, size_t count)
{
    printf("%s ", what);
    for (size_t i = 0; i < count; i++)
        printf("%02x", bytes[i]);
    printf("\n");
}

static bool record(void *context, enum pipe_side from, struct lend_frame *frame, uint8_t *payload)
{
    uint8_t bytes[LEND_FRAME_HEADER_BYTES + LEND_FRAME_PAYLOAD_MAX];

    (void)context;
    lend_frame_encode(frame, frame->type == LEND_FRAME_DATA ? NULL : payload, bytes);
    memcpy(bytes + LEND_FRAME_HEADER_BYTES, payload, frame->payload_bytes);
    print_bytes(from == PIPE_CLIENT ? "client" : "server", bytes,
                LEND_FRAME_HEADER_BYTES + frame->payload_bytes);
    return true;
}

int main(void)
{
    static struct talk talk;

    printf("# What two agents of %s said to each other: see record.c.\n", RELEASE);
    talk_owner(&talk);
    talk_reader(&talk, talk.metadata, talk.metadata_count, talk.ticket_bytes, talk.ticket_count);
    print_bytes("metadata", talk.metadata, talk.metadata_count);
    print_bytes("ticket", talk.ticket_bytes, talk.ticket_count);
    pipe_watch(record, NULL);
    for (int step = 0; step < TALK_STEPS; step++) {
        printf("step %s\n", steps[step]);
        talk_begin(&talk, (enum talk_step)step);
        pipe_pump(talk.owner, talk.reader);
        assert_true(talk_is_well(&talk, (enum talk_step)step));
    }
    pipe_watch(NULL, NULL);
    talk_end(&talk);
    return 0;
}
