/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: nothing that a peer writes into the memory that it shares with the owner, at whatever
 * moment, and no sequence of frames whose checksums are right, does more than end its connection.
 * Method: positions of the rings and headers of frames are rewritten by hand, and by a thread while
 * the owner reads them; frames whose fields are chosen by a seed, which LEND_SEED replays.
 */
#include "hostile.h"

#include "base/crc32c.h"

#include <pthread.h>
#include <stdatomic.h>

/* --- positions --- */

static void test_positions_that_cannot_be_cut_the_connection(void **state)
{
    enum { HEADS = 6 };
    struct stage *stage = *state;
    static struct wire wire;

    if (over_tcp || over_ucx) {
        print_message("skipped: over tcp and ucx no memory is shared\n");
        skip();
    }
    for (int i = 0; i < HEADS + 2; i++) {
        wire_meet(&wire, stage);
        struct lend_ring *out = &wire.channel->out, *in = &wire.channel->in;
        const uint64_t heads[HEADS] = {
            out->position + 1,  out->position + 63,
            out->position - 64, out->position + RING_BYTES + 64,
            UINT64_MAX,         0,
        };

        if (i < HEADS)
            atomic_store(&out->shared->head, heads[i]);
        else
            atomic_store(&in->shared->tail, in->position + (i == HEADS ? 64 : UINT64_MAX / 2));
        (void)wire_packet(&wire, "b", 1); /* an owner that is looking has cut us before */
        if (i >= HEADS) {                 /* it is looked at when the owner has something to say */
            struct asking asking = ask_read(stage, 0, 1);

            (void)wire_ask(&wire, &asking);
        }
        /* A BYE, where our ring can still take it. */
        while (wire_take(&wire))
            ;
        wire_close(&wire);
        check_stage(stage);
    }
}

/* --- headers that change under the reader's eyes --- */

struct rewriter {
    uint8_t *header;
    atomic_bool stop;
    uint64_t seed;
};

static void *rewrite(void *context)
{
    struct rewriter *rewriter = context;
    struct chance chance = {.state = rewriter->seed | 1};

    while (!atomic_load(&rewriter->stop)) {
        volatile uint8_t *header = rewriter->header;
        uint64_t at = chance_below(&chance, LEND_FRAME_HEADER_BYTES);
        uint8_t before = header[at];

        header[at] = (uint8_t)chance_next(&chance);
        header[4 + chance_below(&chance, 4)] ^= 0x41; /* the length */
        header[4 + chance_below(&chance, 4)] ^= 0x41;
        header[at] = before;
    }
    return NULL;
}

static void test_headers_may_change_while_they_are_read(void **state)
{
    struct stage *stage = *state;
    struct chance chance = chance_begin("headers that change");
    static struct wire wire;

    if (over_tcp || over_ucx) {
        print_message("skipped: over tcp and ucx no memory is shared\n");
        skip();
    }
    for (uint64_t round = 0, rounds = scaled(150); round < rounds; round++) {
        struct asking asking = ask_write(stage, 0, 1);
        struct rewriter rewriter = {.seed = chance_next(&chance)};
        pthread_t thread;

        wire_meet(&wire, stage);
        uint64_t request = wire_ask(&wire, &asking);
        rewriter.header = lend_ring_write_at(&wire.channel->out);
        assert_int_equal(pthread_create(&thread, NULL, rewrite, &rewriter), 0);
        (void)wire_send(&wire, LEND_FRAME_DATA, request, stage->shadow, BLOCK_BYTES);
        for (int i = 0; i < 20 && !wire.is_over; i++)
            (void)wire_send(&wire, LEND_FRAME_CANCEL, request, NULL, 0);
        atomic_store(&rewriter.stop, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        wire_close(&wire);
    }
    check_stage(stage);
}

/* --- frames by chance --- */

static struct asking ask_by_chance(const struct stage *stage, struct chance *chance)
{
    uint32_t first = (uint32_t)chance_below(chance, QUARTER);
    uint32_t count = 1 + (uint32_t)chance_below(chance, QUARTER - first);
    struct asking asking = chance_below(chance, 3) == 0   ? ask_write(stage, first, count)
                           : chance_below(chance, 3) == 0 ? ask_range(stage, first, count)
                                                          : ask_read(stage, first, count);
    struct lend_request *request = &asking.request;
    uint64_t wild = chance_next(chance) >> chance_below(chance, 64);

    switch (chance_below(chance, 16)) {
    case 0: request->direction = (uint8_t)chance_below(chance, 4); break;
    case 1: request->has_ranges = !request->has_ranges; break;
    case 2: request->lease.slot = (uint32_t)wild; break;
    case 3: request->lease.generation += wild; break;
    case 4: request->lease = stage->counted; break;
    case 5: request->slice_offset_bytes = wild; break;
    case 6: request->slice_length_bytes = wild; break;
    case 7: request->run_count = wild; break;
    case 8: request->total_bytes = wild; break;
    case 9: request->total_bytes = chance_below(chance, 2 * BLOCK_BYTES); break;
    case 10: asking.region_ids[0] = chance_below(chance, 6); break;
    case 11: asking.runs[0].first = (uint32_t)wild; break;
    case 12: asking.runs[0].count = (uint32_t)wild; break;
    case 13: asking.ranges[0].offset_bytes = wild; break;
    case 14: asking.ranges[0].length_bytes = wild; break;
    default: break; /* a right one */
    }
    asking.run_count = (uint32_t)chance_below(chance, 12) < 10 ? 1 : 2;
    return asking;
}

static void send_by_chance(struct wire *wire, const struct stage *stage, struct chance *chance)
{
    static uint8_t bytes[LEND_FRAME_PAYLOAD_MAX];
    uint64_t request = wire->request - chance_below(chance, 3) + chance_below(chance, 16) / 15;

    switch (chance_below(chance, 12)) {
    case 0:
    case 1:
    case 2:
    case 3: {
        const struct asking asking = ask_by_chance(stage, chance);

        (void)wire_ask(wire, &asking);
        break;
    }
    case 4:
    case 5:
    case 6:
        memset(bytes, (int)chance_below(chance, 256), sizeof bytes);
        (void)wire_send(wire, LEND_FRAME_DATA, request, bytes,
                        1 + chance_below(chance, chance_below(chance, 4) == 0 ? 65536 : 4096));
        break;
    case 7: (void)wire_send(wire, LEND_FRAME_CANCEL, request, NULL, 0); break;
    case 8: (void)wire_send(wire, LEND_FRAME_NOTIFY, 0, bytes, chance_below(chance, 900)); break;
    case 9: (void)wire_packet(wire, "b", 1); break;
    default:
        for (size_t i = 0; i < 96; i++)
            bytes[i] = (uint8_t)chance_next(chance);
        (void)wire_send(wire, (uint8_t)(LEND_FRAME_HELLO + chance_below(chance, 12)), request,
                        bytes, 1 + chance_below(chance, 96));
        break;
    }
}

static void take_notifications(struct stage *stage)
{
    uint8_t bytes[LEND_NOTIFICATION_BYTES_MAX];
    size_t count;

    while (lend_notification_receive(stage->owner, bytes, sizeof bytes, &count, NULL, 0, NULL) ==
           LEND_OK)
        assert_true(count < 900 || count <= sizeof bytes);
}

static void test_frames_by_chance_reach_nothing(void **state)
{
    struct stage *stage = *state;
    struct chance chance = chance_begin("a client's frames by chance");
    static struct wire wire;
    uint64_t cuts = 0;

    wire_meet(&wire, stage);
    for (uint64_t round = 0, rounds = scaled(20000); round < rounds; round++) {
        send_by_chance(&wire, stage, &chance);
        if (chance_below(&chance, 8) > 0)
            while (wire_take_now(&wire))
                ;
        if (wire.is_over || chance_below(&chance, 256) == 0 || !wire_has_room(&wire, 65536)) {
            cuts++;
            wire_close(&wire);
            take_notifications(stage);
            wire_meet(&wire, stage);
        }
        if (round % 512 == 511)
            (void)honest_round(stage);
    }
    wire_close(&wire);
    take_notifications(stage);
    assert_true(cuts > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGED(test_positions_that_cannot_be_cut_the_connection),
        STAGED(test_headers_may_change_while_they_are_read),
        STAGED(test_frames_by_chance_reach_nothing),
    };
    RUN_OVER_EACH(tests);
}
