/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a cancel that says CANCELED is quiet: not one more byte lands, whatever path reads take.
 * Method: 12,500 times a READ or a WRITE between two processes is canceled at a random moment, and
 * both buffers are reused at once: the destination filled with a byte of its own, the source with
 * another. READs are served by shared memory (5,000 transfers) or by tcp, mapped, or read across;
 * WRITEs are always served. A later transfer passes over the same connection; then the destination
 * must be as it was filled. The moment is tuned so that many are caught in the middle, and the test
 * fails if they are few.
 */
#include "acts.h"

#include "built.h"
#include "transport/ucx/ucx.h"

#include <sched.h>

enum { SHAPES = 3, BLOCKS_MAX = 256 };

static const struct {
    uint64_t block_bytes;
    uint32_t count; /* a power of two, see acts_choose() */
} shapes[SHAPES] = {{4096, 256}, {16384, 64}, {65536, 32}};

struct stage {
    struct acts_directory directory;
    struct acts_turn ready;
    struct acts_turn ended;
    struct acts_blob metadata;
    struct acts_blob tickets[SHAPES];
    uint64_t ids[SHAPES];
    const char *path;                   /* of READs */
    struct acts_region regions[SHAPES]; /* the owner's, whose memory both processes see */
};

static int owner_main(void *context)
{
    struct stage *stage = context;
    struct lend_agent_config config =
        acts_config_for("owner", &stage->directory, stage->path, NULL);
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.flags |= LEND_AGENT_ALLOW_CROSS_MEMORY;
    if (!acts_ok(lend_agent_create(&config, &agent, &error), &error, "owner"))
        return 1;
    for (uint32_t shape = 0; shape < SHAPES; shape++) {
        struct acts_region region = stage->regions[shape];
        struct lend_lease *lease = NULL;

        if (!acts_register(agent, &region, LEND_ACCESS_READ | LEND_ACCESS_WRITE) ||
            !acts_grant(agent, &region, LEND_ACCESS_READ | LEND_ACCESS_WRITE, &lease,
                        &stage->tickets[shape]))
            return 1;
        stage->ids[shape] = region.id;
        lend_lease_release(lease);
    }
    if (!acts_metadata(agent, &stage->metadata))
        return 1;
    acts_turn_to(&stage->ready, 1);
    while (atomic_load(&stage->ended.reached) == 0)
        (void)acts_turn_await(&stage->ended, 1);
    lend_agent_destroy(agent);
    return 0;
}

struct reader {
    struct stage *stage;
    struct lend_agent *agent;
    struct lend_peer *peer;
    struct acts_region regions[SHAPES];
    struct lend_ticket *tickets[SHAPES];
    struct lend_transfer *transfers[SHAPES][2]; /* READ, WRITE */
    struct lend_transfer *passing;              /* reads one block into: */
    struct acts_region aside;
    struct acts_window windows[SHAPES][2];
    struct acts_chance chance;
    uint32_t canceled;
    uint32_t caught;
    uint32_t reads_caught;
    uint32_t pending; /* cancels that had to be asked again */
};

/* path: NULL, to write. */
static void reader_prepare(struct reader *reader, const struct acts_region *local, uint64_t id,
                           const char *path, struct lend_transfer **out)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error = {0};

    desc.peer = reader->peer;
    desc.direction = path != NULL ? LEND_READ : LEND_WRITE;
    desc.paths = path;
    desc.region_count = 1;
    desc.local_regions = &local->region;
    desc.remote_regions = &id;
    desc.block_count_max = local->count;
    assert_true(
        acts_ok(lend_transfer_prepare(reader->agent, &desc, out, &error), &error, "prepare"));
}

static struct acts_region reader_region(struct reader *reader, uint64_t block_bytes, uint64_t count)
{
    struct acts_region region = {
        .memory = acts_shared(block_bytes * count), .block_bytes = block_bytes, .count = count};

    assert_true(acts_register(reader->agent, &region, 0));
    return region;
}

static void reader_begin(struct reader *reader)
{
    struct stage *stage = reader->stage;
    struct lend_agent_config config =
        acts_config_for("reader", &stage->directory, stage->path, NULL);
    struct lend_error error = {0};

    assert_true(acts_ok(lend_agent_create(&config, &reader->agent, &error), &error, "reader"));
    assert_true(acts_turn_await(&stage->ready, 1));
    assert_true(acts_import(reader->agent, &stage->metadata, &reader->peer));
    assert_true(
        acts_ok(lend_peer_connect(reader->peer, ACTS_PATIENCE_NS, &error), &error, "connect"));
    for (uint32_t shape = 0; shape < SHAPES; shape++) {
        reader->regions[shape] =
            reader_region(reader, shapes[shape].block_bytes, shapes[shape].count);
        assert_true(acts_ok(lend_ticket_import(reader->peer, stage->tickets[shape].bytes,
                                               stage->tickets[shape].count, &reader->tickets[shape],
                                               &error),
                            &error, "import of a ticket"));
        for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
            reader_prepare(reader, &reader->regions[shape], stage->ids[shape],
                           direction == LEND_READ ? stage->path : NULL,
                           &reader->transfers[shape][direction - 1]);
            reader->windows[shape][direction - 1].span_ns = ACTS_MS / 12;
        }
    }
    reader->aside = reader_region(reader, shapes[0].block_bytes, 1);
    reader_prepare(reader, &reader->aside, stage->ids[0], acts_path_served(stage->path),
                   &reader->passing);
}

static void reader_end(struct reader *reader)
{
    for (uint32_t shape = 0; shape < SHAPES; shape++) {
        assert_int_equal(lend_transfer_release(reader->transfers[shape][0]), LEND_OK);
        assert_int_equal(lend_transfer_release(reader->transfers[shape][1]), LEND_OK);
        lend_ticket_release(reader->tickets[shape]);
    }
    assert_int_equal(lend_transfer_release(reader->passing), LEND_OK);
    lend_peer_forget(reader->peer);
    lend_agent_destroy(reader->agent);
    for (uint32_t shape = 0; shape < SHAPES; shape++)
        acts_unfurnish(&reader->regions[shape]);
    acts_unfurnish(&reader->aside);
}

/* Whatever was under way on the connection has passed when this one is through. */
static void let_pass(struct reader *reader)
{
    static const int32_t block = 0;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    post.ticket = reader->tickets[0];
    post.local_blocks = post.remote_blocks = &block;
    post.block_count = 1;
    assert_true(acts_ok(lend_transfer_post(reader->passing, &post, &error), &error, "post"));
    assert_int_equal(lend_transfer_wait(reader->passing, ACTS_PATIENCE_NS), LEND_OK);
}

static enum lend_status cancel(struct reader *reader, struct lend_transfer *transfer)
{
    uint64_t timeout_ns = acts_chance_below(&reader->chance, 2) * ACTS_SECOND;
    uint64_t deadline = acts_now_ns() + ACTS_PATIENCE_NS;
    enum lend_status status = lend_transfer_cancel(transfer, timeout_ns);

    if (status == LEND_PENDING)
        reader->pending++;
    while (status == LEND_PENDING && acts_now_ns() < deadline) {
        (void)sched_yield();
        status = lend_transfer_cancel(transfer, timeout_ns);
    }
    return status;
}

/* A side of an iteration: the memory, and its blocks in the order of the transfer. */
struct side {
    uint8_t *memory;
    const int32_t *blocks;
};

static uint32_t count_landed(const struct side *to, uint32_t shape, uint32_t count,
                             uint8_t untouched)
{
    uint32_t landed = 0;

    for (uint32_t index = 0; index < count; index++)
        landed += !acts_is_byte(
            to->memory + (uint64_t)to->blocks[index] * shapes[shape].block_bytes, 64, untouched);
    return landed;
}

static void check_whole(const struct side *to, uint32_t shape, uint32_t count, uint64_t generation)
{
    for (uint32_t index = 0; index < count; index++)
        assert_true(acts_is(to->memory + (uint64_t)to->blocks[index] * shapes[shape].block_bytes,
                            shapes[shape].block_bytes, generation, index));
}

static void iterate(struct reader *reader, uint32_t iteration)
{
    uint32_t shape = (uint32_t)acts_chance_below(&reader->chance, SHAPES);
    bool is_write = acts_chance_below(&reader->chance, 2) == 1;
    uint32_t limit = shapes[shape].count;
    uint32_t count = 2 + (uint32_t)acts_chance_below(&reader->chance, limit - 1);
    uint64_t bytes = shapes[shape].block_bytes * limit, generation = iteration + 1;
    uint8_t before = (uint8_t)(iteration * 2 + 1), after = (uint8_t)(before + 1);
    struct acts_window *window = &reader->windows[shape][is_write];
    struct lend_transfer *transfer = reader->transfers[shape][is_write];
    int32_t ours[BLOCKS_MAX], theirs[BLOCKS_MAX];
    struct side local = {reader->regions[shape].memory, ours};
    struct side remote = {reader->stage->regions[shape].memory, theirs};
    struct side from = is_write ? local : remote, to = is_write ? remote : local;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    acts_choose(&reader->chance, ours, count, limit);
    acts_choose(&reader->chance, theirs, count, limit);
    memset(to.memory, before, bytes);
    for (uint32_t index = 0; index < count; index++)
        acts_fill(from.memory + (uint64_t)from.blocks[index] * shapes[shape].block_bytes,
                  shapes[shape].block_bytes, generation, index);
    post.ticket = reader->tickets[shape];
    post.local_blocks = ours;
    post.remote_blocks = theirs;
    post.block_count = count;
    assert_true(acts_ok(lend_transfer_post(transfer, &post, &error), &error, "post"));
    acts_delay(acts_window_pick(window, &reader->chance));

    enum lend_status status = cancel(reader, transfer);
    uint32_t landed = count_landed(&to, shape, count, before);

    if (status == LEND_OK)
        check_whole(&to, shape, count, generation);
    /* Both buffers are somebody else's now. */
    memset(to.memory, after, bytes);
    memset(from.memory, (uint8_t)~after, bytes);
    assert_true(status == LEND_OK || status == LEND_E_CANCELED);
    acts_window_learn(window, status == LEND_OK);
    reader->canceled += status == LEND_E_CANCELED;
    if (status == LEND_E_CANCELED && landed > 0 && landed < count) {
        reader->caught++;
        reader->reads_caught += !is_write;
    }
    let_pass(reader);
    assert_true(acts_is_byte(to.memory, bytes, after));
}

static void cancel_on(const char *path, uint32_t count)
{
    struct stage *stage = acts_shared(sizeof *stage);
    struct reader reader = {.stage = stage, .chance = acts_chance_begin("cancel")};
    uint32_t iterations = acts_count(count);
    pid_t owner;

    stage->path = path;
    stage->directory = acts_directory_make();
    for (uint32_t shape = 0; shape < SHAPES; shape++) {
        stage->regions[shape].block_bytes = shapes[shape].block_bytes;
        stage->regions[shape].count = shapes[shape].count;
        assert_true(acts_furnish(&stage->regions[shape], path));
    }
    owner = acts_spawn(owner_main, stage);
    reader_begin(&reader);
    for (uint32_t iteration = 0; iteration < iterations; iteration++)
        iterate(&reader, iteration);
    print_message("%s: %u transfers; %u canceled, %u of them (%.1f %% of all; %u reads) in the "
                  "middle; %u had to wait for quiet\n",
                  path, iterations, reader.canceled, reader.caught,
                  100.0 * reader.caught / iterations, reader.reads_caught, reader.pending);
    reader_end(&reader);
    acts_turn_to(&stage->ended, 1);
    assert_int_equal(acts_reap(owner), 0);
    assert_true(acts_directory_remove(&stage->directory));
    /* A run too short to tune the moment must have caught one. */
    assert_true(reader.caught > 0);
    if (iterations >= 1000)
        assert_true(reader.caught * 100 >= iterations * 3);
    assert_true(reader.reads_caught >= iterations / 500);
    assert_true(reader.canceled < iterations);
    for (uint32_t shape = 0; shape < SHAPES; shape++)
        acts_unfurnish(&stage->regions[shape]);
    acts_unshare(stage, sizeof *stage);
}

static void test_nothing_served_lands_after_canceled(void **state)
{
    (void)state;
    cancel_on("local/served", 5000);
}

static void test_nothing_mapped_lands_after_canceled(void **state)
{
    (void)state;
    cancel_on("local/mapped", 2500);
}

static void test_nothing_that_is_read_across_lands_after_canceled(void **state)
{
    (void)state;
    cancel_on("local/cross-memory", 2500);
}

static void test_nothing_by_tcp_lands_after_canceled(void **state)
{
    (void)state;
    if (!built_with("tcp"))
        skip();
    cancel_on("tcp/served", 2500);
}

static void test_nothing_by_ucx_lands_after_canceled(void **state)
{
    (void)state;
    if (!acts_has_ucx())
        skip();
    cancel_on("ucx/served", 1500);
}

/* Straight into place, as on fabrics where that pays. */
static void test_nothing_by_rendezvous_of_ucx_lands_after_canceled(void **state)
{
    (void)state;
    if (!acts_has_ucx())
        skip();
    lend_ucx_rendezvous_bytes = 1;
    cancel_on("ucx/served", 1500);
    lend_ucx_rendezvous_bytes = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_served_lands_after_canceled),
        cmocka_unit_test(test_nothing_mapped_lands_after_canceled),
        cmocka_unit_test(test_nothing_that_is_read_across_lands_after_canceled),
        cmocka_unit_test(test_nothing_by_tcp_lands_after_canceled),
        cmocka_unit_test(test_nothing_by_ucx_lands_after_canceled),
        cmocka_unit_test(test_nothing_by_rendezvous_of_ucx_lands_after_canceled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
