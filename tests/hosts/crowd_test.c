/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: one owner serves 64 peers at once by tcp, all bytes right, in under 1 MiB of its memory for
 * each; and a heartbeat does not wait for a pull to end.
 * Method: 64 agents on the second host read all blocks of an owner on the first at one time, again
 * and again; the owner counts its heap and its pages before the first came, and while all of them
 * are served. Then, over a link so slow that a pull takes long whatever the machine does, a reader
 * sends a heartbeat and awaits the owner's answer, several times in each pull: the answer is there,
 * and the pull is not over.
 */
#include "crossing.h"
#include "sanitizer.h"

enum { PEERS = 64, PULL_BLOCKS = 1024, BEATS = 3, PULLS = 4 };

/* A reader of the crowd. */
struct reader {
    struct lend_agent *agent;
    struct acts_region region;
    struct lend_peer *owner;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
};

static void must(enum lend_status status, const struct lend_error *error, const char *what)
{
    assert_true(acts_ok(status, error, what));
}

static void reader_begin(struct crossing *crossing, struct reader *reader, uint32_t number,
                         uint64_t blocks)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error = {0};
    uint64_t id = crossing_region(crossing);
    char name[32];

    (void)snprintf(name, sizeof name, "reader-%u", number);
    struct lend_agent_config config = crossing_config(crossing, name);
    config.transfer_timeout_ns = ACTS_PATIENCE_NS;
    must(lend_agent_create(&config, &reader->agent, &error), &error, name);
    reader->region = (struct acts_region){.memory = acts_shared(blocks * CROSSING_BLOCK),
                                          .block_bytes = CROSSING_BLOCK,
                                          .count = blocks};
    assert_true(acts_register(reader->agent, &reader->region, 0));
    assert_true(acts_import(reader->agent, crossing_metadata(crossing), &reader->owner));
    desc.peer = reader->owner;
    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.local_regions = &reader->region.region;
    desc.remote_regions = &id;
    desc.block_count_max = blocks;
    must(lend_transfer_prepare(reader->agent, &desc, &reader->transfer, &error), &error, "prepare");
}

static void reader_end(struct reader *reader)
{
    assert_int_equal(lend_transfer_release(reader->transfer), LEND_OK);
    lend_ticket_release(reader->ticket);
    lend_peer_forget(reader->owner);
    lend_agent_destroy(reader->agent);
    acts_unshare(reader->region.memory, reader->region.count * CROSSING_BLOCK);
}

/* The owner's blocks again and again, in an order that depends on the reader. */
static int32_t remote_of(uint64_t block, uint32_t number)
{
    return (int32_t)((block * 5 + number) % CROSSING_BLOCKS);
}

static void reader_post(struct reader *reader, uint32_t number)
{
    static int32_t ours[PULL_BLOCKS], theirs[PULL_BLOCKS];
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    memset(reader->region.memory, 0, reader->region.count * CROSSING_BLOCK);
    for (uint64_t block = 0; block < reader->region.count; block++) {
        ours[block] = (int32_t)block;
        theirs[block] = remote_of(block, number);
    }
    post.ticket = reader->ticket;
    post.local_blocks = ours;
    post.remote_blocks = theirs;
    post.block_count = reader->region.count;
    must(lend_transfer_post(reader->transfer, &post, &error), &error, "post");
}

static void reader_check(struct reader *reader, uint32_t number, uint64_t generation)
{
    enum lend_status status = lend_transfer_wait(reader->transfer, 2 * ACTS_PATIENCE_NS);
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_error why = {0};

    (void)lend_transfer_describe(reader->transfer, &record, &why);
    must(status, &why, "read");
    for (uint64_t block = 0; block < reader->region.count; block++)
        assert_true(acts_is(reader->region.memory + block * CROSSING_BLOCK, CROSSING_BLOCK,
                            generation, (uint64_t)remote_of(block, number)));
}

static void lend_generation(struct crossing *crossing, uint64_t generation)
{
    for (uint64_t block = 0; block < CROSSING_BLOCKS; block++)
        acts_fill(crossing->theirs.memory + block * CROSSING_BLOCK, CROSSING_BLOCK, generation,
                  block);
}

static void test_sixty_four_peers_are_served_at_once(void **state)
{
    static struct reader readers[PEERS];
    uint32_t rounds = acts_count(20), most = 0;
    struct acts_holdings before, during = {0};
    struct crossing crossing;

    (void)state;
    crossing_open(&crossing, NULL, 0);
    before = crossing_note_holdings(&crossing);
    uint64_t pages = crossing_own_bytes(&crossing);
    for (uint32_t i = 0; i < PEERS; i++) {
        reader_begin(&crossing, &readers[i], i, CROSSING_BLOCKS);
        if (i == 0)
            readers[i].ticket = crossing_grant(&crossing, readers[i].owner);
        else
            readers[i].ticket = crossing_same_ticket(&crossing, readers[i].owner);
    }
    for (uint32_t round = 1; round <= rounds; round++) {
        uint32_t running = 0;

        lend_generation(&crossing, round);
        for (uint32_t i = 0; i < PEERS; i++)
            reader_post(&readers[i], i);
        for (uint32_t i = 0; i < PEERS; i++)
            running += lend_transfer_test(readers[i].transfer) == LEND_PENDING;
        during = crossing_note_holdings(&crossing);
        most = running > most ? running : most;
        for (uint32_t i = 0; i < PEERS; i++)
            reader_check(&readers[i], i, round);
    }
    uint64_t heap = during.heap_bytes - before.heap_bytes;
    uint64_t own = crossing_own_bytes(&crossing) - pages;
    print_message("%u rounds, %u transfers under way at one time; for each peer the owner has %llu "
                  "bytes of heap more, %llu of pages, %.1f descriptors\n",
                  rounds, most, (unsigned long long)heap / PEERS, (unsigned long long)own / PEERS,
                  (double)(during.descriptors - before.descriptors) / PEERS);
    assert_int_equal(during.descriptors - before.descriptors, PEERS);
    assert_int_equal(during.threads, before.threads);
    assert_true(heap < (uint64_t)PEERS << 20);
    assert_true(UNDER_ASAN || UNDER_TSAN || own < (uint64_t)PEERS << 20);
    for (uint32_t i = 0; i < PEERS; i++)
        reader_end(&readers[i]);
    before.maps = UINT32_MAX / 2; /* what the C library and sanitizers keep for later */
    crossing_note_as(&crossing, &before);
    assert_true(crossing_holdings_came_back(&crossing));
    crossing_close(&crossing);
}

/* Send a heartbeat, and await the owner's answer. */
static void beat(struct reader *reader, uint8_t number)
{
    uint8_t bytes[4096] = {number}, answer = 0;
    struct lend_error error = {0};
    size_t count = 0;

    must(lend_metadata_export(reader->agent, bytes + 1, sizeof bytes - 1, &count, &error), &error,
         "export");
    must(lend_notification_send(reader->owner, bytes, 1 + count, &error), &error, "heartbeat");
    must(lend_notification_receive(reader->agent, &answer, 1, &count, NULL, ACTS_PATIENCE_NS,
                                   &error),
         &error, "answer");
    assert_int_equal(answer, number);
}

static void test_heartbeats_do_not_wait_for_pulls(void **state)
{
    const struct impairment slow = {.seed = 1, .rate_bytes_a_second = 24000000};
    struct reader reader = {0};
    struct crossing crossing;
    uint32_t within = 0;

    (void)state;
    crossing_open(&crossing, &slow, 0);
    crossing_echo(&crossing);
    reader_begin(&crossing, &reader, 0, PULL_BLOCKS);
    reader.ticket = crossing_grant(&crossing, reader.owner);
    beat(&reader, 200); /* so that both are connected */
    for (uint32_t pull = 1; pull <= PULLS; pull++) {
        lend_generation(&crossing, pull);
        reader_post(&reader, 0);
        for (uint32_t i = 0; i < BEATS; i++) {
            beat(&reader, (uint8_t)(pull * BEATS + i));
            within += lend_transfer_test(reader.transfer) == LEND_PENDING;
        }
        reader_check(&reader, 0, pull);
    }
    print_message("%u heartbeats in %u pulls; %u were answered while it went on\n", PULLS * BEATS,
                  PULLS, within);
    assert_int_equal(within, PULLS * BEATS);
    reader_end(&reader);
    crossing_close(&crossing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sixty_four_peers_are_served_at_once),
        cmocka_unit_test(test_heartbeats_do_not_wait_for_pulls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
