/* SPDX-License-Identifier: Apache-2.0 */
#include "take_back.h"

enum { SHAPES = 3, BLOCKS_MAX = 256, POISON = 0xD7 };

static const struct {
    uint64_t block_bytes;
    uint32_t count; /* a power of two, see acts_choose() */
} shapes[SHAPES] = {{4096, 256}, {16384, 64}, {65536, 32}};

/* One iteration, in memory that both processes see. */
struct round {
    uint32_t shape;
    bool is_write;
    uint64_t generation; /* of the words in the region when the lease was granted */
    struct acts_blob ticket;
    /* The reader's word to the owner: */
    int32_t blocks[BLOCKS_MAX];
    uint32_t count;
    uint64_t revoke_at_ns;
    /* The owner's word to the reader: */
    bool was_in_place; /* every block of the write, when revoke had returned */
};

struct stage {
    struct acts_directory directory;
    struct acts_turn granted; /* the owner: a round is ready */
    struct acts_turn posted;  /* the reader: its transfer starts now */
    struct acts_turn revoked; /* the owner: it is over */
    struct acts_turn ended;   /* the reader: the transfer is complete and looked at */
    struct acts_blob metadata;
    uint64_t ids[SHAPES];
    struct round round;
    atomic_uint landed_late;
    struct take_back_plan plan;
};

/* The generations of owner and writer never meet. */
static uint64_t owner_generation(uint32_t iteration)
{
    return UINT64_C(1) + iteration;
}

static uint64_t writer_generation(uint32_t iteration)
{
    return (UINT64_C(1) << 40) + iteration;
}

static void rewrite(const struct acts_region *region, uint64_t generation)
{
    for (uint64_t block = 0; block < region->count; block++)
        acts_fill(region->memory + block * region->block_bytes, region->block_bytes, generation,
                  block);
}

static bool is_whole(const struct acts_region *region, uint64_t generation)
{
    for (uint64_t block = 0; block < region->count; block++)
        if (!acts_is(region->memory + block * region->block_bytes, region->block_bytes, generation,
                     block))
            return false;
    return true;
}

static bool is_written(const struct acts_region *region, const struct round *round,
                       uint64_t generation)
{
    for (uint32_t index = 0; index < round->count; index++)
        if (!acts_is(region->memory + (uint64_t)round->blocks[index] * region->block_bytes,
                     region->block_bytes, generation, index))
            return false;
    return true;
}

static void wait_until(uint64_t at_ns)
{
    uint64_t now = acts_now_ns();

    if (at_ns > now)
        acts_delay(at_ns - now);
}

/* One round of the owner: grant, wait for the moment, take back, rewrite. */
static bool owner_round(struct stage *stage, struct lend_agent *agent, struct acts_region *regions,
                        uint32_t iteration)
{
    struct round *round = &stage->round;
    struct acts_region *region = &regions[round->shape];
    uint64_t next = owner_generation(iteration + 1);
    uint32_t access = round->is_write ? LEND_ACCESS_WRITE : LEND_ACCESS_READ;
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};

    if (!acts_grant(agent, region, access, &lease, &round->ticket))
        return false;
    acts_turn_to(&stage->granted, iteration + 1);
    if (!acts_turn_await(&stage->posted, iteration + 1))
        return false;

    wait_until(round->revoke_at_ns);
    if (stage->plan.rewrites_first)
        rewrite(region, next);
    if (!acts_ok(lend_lease_revoke(lease, &error), &error, "revoke"))
        return false;
    round->was_in_place =
        round->is_write && is_written(region, round, writer_generation(iteration));
    rewrite(region, next);
    lend_lease_release(lease);
    acts_turn_to(&stage->revoked, iteration + 1);

    if (!acts_turn_await(&stage->ended, iteration + 1))
        return false;
    if (!is_whole(region, next))
        atomic_fetch_add(&stage->landed_late, 1);
    return true;
}

static void plan_round(struct stage *stage, struct acts_chance *chance, uint64_t *generations)
{
    struct round *round = &stage->round;

    round->shape = (uint32_t)acts_chance_below(chance, SHAPES);
    round->is_write = !stage->plan.rewrites_first && acts_chance_below(chance, 6) == 0;
    round->generation = generations[round->shape];
}

static int owner_main(void *context)
{
    struct stage *stage = context;
    struct acts_chance chance = {stage->plan.chance.state ^ 1};
    struct lend_agent_config config =
        acts_config_for("owner", &stage->directory, stage->plan.path, NULL);
    struct acts_region regions[SHAPES] = {{0}};
    uint64_t generations[SHAPES] = {0};
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.flags |= LEND_AGENT_ALLOW_CROSS_MEMORY;
    config.slot_rest_ns = ACTS_MS;
    config.leases_max = 64; /* so that slots are used again and again */
    if (!acts_ok(lend_agent_create(&config, &agent, &error), &error, "owner"))
        return 1;
    for (uint32_t shape = 0; shape < SHAPES; shape++) {
        regions[shape].block_bytes = shapes[shape].block_bytes;
        regions[shape].count = shapes[shape].count;
        if (!acts_furnish(&regions[shape], stage->plan.path))
            return 1;
        rewrite(&regions[shape], generations[shape] = owner_generation(0));
        if (!acts_register(agent, &regions[shape], LEND_ACCESS_READ | LEND_ACCESS_WRITE))
            return 1;
        stage->ids[shape] = regions[shape].id;
    }
    if (!acts_metadata(agent, &stage->metadata))
        return 1;

    for (uint32_t iteration = 0; iteration < stage->plan.iterations; iteration++) {
        plan_round(stage, &chance, generations);
        if (!owner_round(stage, agent, regions, iteration))
            return 1;
        generations[stage->round.shape] = owner_generation(iteration + 1);
        /* Nothing lands later either, in any of them. */
        if (iteration % 64 == 0)
            for (uint32_t shape = 0; shape < SHAPES; shape++)
                if (!is_whole(&regions[shape], generations[shape]))
                    atomic_fetch_add(&stage->landed_late, 1);
    }
    lend_agent_destroy(agent);
    return 0;
}

struct reader {
    struct stage *stage;
    struct lend_agent *agent;
    struct lend_peer *peer;
    struct acts_region regions[SHAPES];
    struct lend_transfer *transfers[SHAPES][2]; /* READ, WRITE */
    struct acts_window windows[SHAPES][2];
    struct acts_chance chance;
    struct take_back_result *result;
};

static bool reader_meet(struct reader *reader)
{
    struct lend_error error = {0};

    if (!acts_import(reader->agent, &reader->stage->metadata, &reader->peer) ||
        !acts_ok(lend_peer_connect(reader->peer, 5 * ACTS_SECOND, &error), &error, "connect"))
        return false;
    for (uint32_t shape = 0; shape < SHAPES; shape++) {
        struct acts_region *region = &reader->regions[shape];
        struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;

        region->block_bytes = shapes[shape].block_bytes;
        region->count = shapes[shape].count;
        region->memory = acts_shared(region->block_bytes * region->count);
        memset(region->memory, POISON, region->block_bytes * region->count);
        if (!acts_register(reader->agent, region, 0))
            return false;
        desc.peer = reader->peer;
        desc.region_count = 1;
        desc.local_regions = &region->region;
        desc.remote_regions = &reader->stage->ids[shape];
        desc.block_count_max = region->count;
        for (uint32_t direction = LEND_READ; direction <= LEND_WRITE; direction++) {
            desc.direction = direction;
            desc.paths = direction == LEND_READ ? reader->stage->plan.path : NULL;
            if (!acts_ok(lend_transfer_prepare(reader->agent, &desc,
                                               &reader->transfers[shape][direction - 1], &error),
                         &error, "prepare"))
                return false;
            reader->windows[shape][direction - 1].span_ns = ACTS_MS / 3;
        }
    }
    return true;
}

/* How many of the first blocks of the destination no longer begin with poison. */
static uint32_t count_landed(const struct acts_region *region, uint32_t count)
{
    uint32_t landed = 0;

    for (uint32_t index = 0; index < count; index++)
        landed += !acts_is_byte(region->memory + index * region->block_bytes, 64, POISON);
    return landed;
}

static void judge_read(struct reader *reader, const struct acts_region *region,
                       const struct lend_transfer_record *record)
{
    const struct round *round = &reader->stage->round;
    struct take_back_result *result = reader->result;
    uint32_t proven = record->status == LEND_OK ? round->count : (uint32_t)record->blocks;
    uint32_t landed = count_landed(region, round->count);
    bool is_foreign = proven > round->count;

    for (uint32_t index = 0; index < proven && index < round->count; index++)
        is_foreign = is_foreign ||
                     !acts_is(region->memory + index * region->block_bytes, region->block_bytes,
                              round->generation, (uint64_t)round->blocks[index]);
    if (record->status == LEND_OK)
        result->foreign += is_foreign;
    else
        result->foreign_leading += is_foreign;
    result->caught += record->status != LEND_OK && landed > 0 && landed < round->count;
}

static void judge(struct reader *reader, struct acts_region *region,
                  const struct lend_transfer_record *record)
{
    const struct round *round = &reader->stage->round;
    struct take_back_result *result = reader->result;
    uint64_t total = round->count * region->block_bytes;

    if (record->status != LEND_OK)
        result->revoked++;
    if (record->status != LEND_OK && record->status != LEND_E_REVOKED &&
        record->status != LEND_E_STALE) {
        (void)fprintf(stderr, "a transfer ended as %s\n", lend_status_name(record->status));
        result->wrong_status++;
    }
    if (round->is_write) {
        result->writes++;
        result->lost += record->status == LEND_OK && !round->was_in_place;
        result->caught += record->status != LEND_OK && record->bytes > 0 && record->bytes < total;
    } else {
        result->reads++;
        judge_read(reader, region, record);
    }
}

/* Which blocks; and the words to write, or the poison that a read must find. */
static void choose_blocks(struct reader *reader, const struct acts_region *region,
                          uint32_t iteration)
{
    struct round *round = &reader->stage->round;
    uint32_t limit = shapes[round->shape].count;

    round->count = 2 + (uint32_t)acts_chance_below(&reader->chance, limit - 1);
    acts_choose(&reader->chance, round->blocks, round->count, limit);
    if (!acts_is_byte(region->memory, region->block_bytes * region->count, POISON))
        reader->result->read_late++;
    for (uint32_t index = 0; round->is_write && index < round->count; index++)
        acts_fill(region->memory + index * region->block_bytes, region->block_bytes,
                  writer_generation(iteration), index);
}

/* Agree on the moment: the transfer starts shortly, the revoke comes so much later. */
static void post_on_time(struct reader *reader, uint32_t iteration)
{
    struct round *round = &reader->stage->round;
    struct acts_window *window = &reader->windows[round->shape][round->is_write];
    uint64_t start = acts_now_ns() + 60000;

    round->revoke_at_ns = start + acts_window_pick(window, &reader->chance);
    acts_turn_to(&reader->stage->posted, iteration + 1);
    while (acts_now_ns() < start)
        continue;
}

static bool reader_round(struct reader *reader, uint32_t iteration)
{
    static int32_t in_order[BLOCKS_MAX];
    struct round *round = &reader->stage->round;
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    if (!acts_turn_await(&reader->stage->granted, iteration + 1) ||
        !acts_ok(lend_ticket_import(reader->peer, round->ticket.bytes, round->ticket.count,
                                    &post.ticket, &error),
                 &error, "import of a ticket"))
        return false;
    struct acts_region *region = &reader->regions[round->shape];
    struct lend_transfer *transfer = reader->transfers[round->shape][round->is_write];

    choose_blocks(reader, region, iteration);
    for (uint32_t index = 0; index < round->count; index++)
        in_order[index] = (int32_t)index;
    post.local_blocks = in_order;
    post.remote_blocks = round->blocks;
    post.block_count = round->count;
    post_on_time(reader, iteration);
    if (!acts_ok(lend_transfer_post(transfer, &post, &error), &error, "post"))
        return false;
    if (lend_transfer_wait(transfer, ACTS_PATIENCE_NS) == LEND_PENDING) {
        (void)fprintf(stderr, "a transfer whose lease was revoked does not end\n");
        return false;
    }
    (void)lend_transfer_describe(transfer, &record, NULL);
    acts_window_learn(&reader->windows[round->shape][round->is_write], record.status == LEND_OK);
    if (!acts_turn_await(&reader->stage->revoked, iteration + 1))
        return false;
    judge(reader, region, &record);
    memset(region->memory, POISON, region->block_bytes * region->count);
    lend_ticket_release(post.ticket);
    acts_turn_to(&reader->stage->ended, iteration + 1);
    return true;
}

static bool reader_main(struct reader *reader)
{
    struct stage *stage = reader->stage;
    struct lend_agent_config config =
        acts_config_for("reader", &stage->directory, stage->plan.path, NULL);
    struct lend_error error = {0};
    bool is_right;

    if (!acts_ok(lend_agent_create(&config, &reader->agent, &error), &error, "reader"))
        return false;
    is_right = acts_turn_await(&stage->granted, 1) && reader_meet(reader);
    for (uint32_t iteration = 0; is_right && iteration < stage->plan.iterations; iteration++)
        is_right = reader_round(reader, iteration);
    for (uint32_t shape = 0; shape < SHAPES; shape++)
        for (uint32_t direction = 0; direction < 2; direction++)
            (void)lend_transfer_release(reader->transfers[shape][direction]);
    lend_peer_forget(reader->peer);
    lend_agent_destroy(reader->agent);
    for (uint32_t shape = 0; shape < SHAPES; shape++)
        if (reader->regions[shape].memory != NULL)
            acts_unshare(reader->regions[shape].memory,
                         shapes[shape].block_bytes * shapes[shape].count);
    return is_right;
}

bool take_back_run(const struct take_back_plan *plan, struct take_back_result *out)
{
    struct stage *stage = acts_shared(sizeof *stage);
    struct reader reader = {.stage = stage, .chance = plan->chance, .result = out};
    pid_t owner;
    bool is_right;

    memset(out, 0, sizeof *out);
    stage->plan = *plan;
    stage->directory = acts_directory_make();
    owner = acts_spawn(owner_main, stage);
    is_right = reader_main(&reader);
    is_right = acts_reap(owner) == 0 && is_right;
    is_right = acts_directory_remove(&stage->directory) && is_right;
    out->landed_late = atomic_load(&stage->landed_late);
    acts_unshare(stage, sizeof *stage);
    return is_right;
}
