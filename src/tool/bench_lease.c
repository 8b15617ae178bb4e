/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include "tool/bench_load.h"
#include "tool/trouble.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

/* Leases: to grant and to revoke them, to withdraw what is lent, and what checking them costs. */

static const char section[] = "lease";

enum {
    KEY_BYTES = 16,
    IDLE_SAMPLES = 200,
    IDLE_SAMPLES_QUICK = 20,
    LOAD_SAMPLES = 8,
    LOAD_SAMPLES_QUICK = 2,
    CHECK_BYTES = 64,
    CHECK_BLOCKS = 4096,
    CHECK_COPIES = 16,
};

/* --- idle: nobody uses what ends --- */

struct idle {
    struct lend_agent *agent;
    struct lend_region *region;
    unsigned char *memory;
    unsigned char *apart;
    struct samples grants, keys, revokes, stores, withdraws;
};

static double draw_key(void)
{
    unsigned char key[KEY_BYTES];
    uint64_t began = now_ns();

    must_sys(getrandom(key, sizeof key, 0) == sizeof key, "random bytes");
    return (double)(now_ns() - began);
}

/* What ending a lease is at the least. */
static double store_word(void)
{
    static _Atomic uint64_t word;
    uint64_t began = now_ns();

    atomic_store_explicit(&word, began, memory_order_relaxed);
    /* As a lease's end is: whatever follows is seen after the word. */
    atomic_thread_fence(memory_order_seq_cst);
    return (double)(now_ns() - began);
}

static struct lend_region *register_one(struct lend_agent *agent, unsigned char *memory)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error;

    must(lend_memory_system(memory, LOAD_REGION_BYTES, &desc.memory, &error), &error);
    desc.geometry.block_length_bytes = LOAD_BLOCK_BYTES;
    desc.geometry.count = LOAD_BLOCKS;
    desc.access = LEND_ACCESS_READ;
    must(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

static void grant_and_revoke(struct idle *idle)
{
    struct lend_error error;

    samples_add(&idle->keys, draw_key());
    uint64_t began = now_ns();
    struct lend_lease *lease = must_grant(idle->agent, &idle->region, 1, LEND_ACCESS_READ);
    uint64_t granted = now_ns();
    enum lend_status status = lend_lease_revoke(lease, &error);
    uint64_t revoked = now_ns();

    must(status, &error);
    lend_lease_release(lease);
    samples_add(&idle->grants, (double)(granted - began));
    samples_add(&idle->revokes, (double)(revoked - granted));
    samples_add(&idle->stores, store_word());
}

static void withdraw(struct idle *idle)
{
    struct lend_region *region = register_one(idle->agent, idle->apart);
    struct lend_error error;
    uint64_t began = now_ns();
    enum lend_status status =
        lend_region_withdraw(region, LEND_WITHDRAW_DRAIN, BENCH_SECOND_NS, &error);
    double took = (double)(now_ns() - began);

    must(status, &error);
    must(lend_region_deregister(region, &error), &error);
    samples_add(&idle->withdraws, took);
}

static void report_idle(struct bench *bench, struct idle *idle)
{
    struct row *row = report_row(bench, section, "grant a read lease");
    row->figure = samples_take(&idle->grants, 1);
    row_beside(row, "getrandom of 16 bytes", &idle->keys, 1);
    struct row *revoke = report_row(bench, section, "revoke a read lease, idle");
    revoke->figure = samples_take(&idle->revokes, 1);
    row_beside(revoke, "an atomic store and a fence", &idle->stores, 1);
    revoke->goal = (struct goal){.kind = GOAL_TIME, .limit = 200};
    row = report_row(bench, section, "withdraw a region, idle");
    row->figure = samples_take(&idle->withdraws, 1);
    row_share_besides(row, revoke);
    row->goal = (struct goal){.kind = GOAL_TIME, .limit = 50e3};
}

static void measure_idle(struct bench *bench)
{
    uint32_t count = bench->rounds * (bench->is_quick ? IDLE_SAMPLES_QUICK : IDLE_SAMPLES);
    struct idle idle = {
        .agent = must_open_agent("bench-owner", 0),
        .memory = must_map(LOAD_REGION_BYTES),
        .apart = must_map(LOAD_REGION_BYTES),
    };

    idle.region = register_one(idle.agent, idle.memory);
    for (uint32_t i = 0; i < count; i++) {
        grant_and_revoke(&idle);
        withdraw(&idle);
    }
    lend_agent_destroy(idle.agent);
    (void)munmap(idle.memory, LOAD_REGION_BYTES);
    (void)munmap(idle.apart, LOAD_REGION_BYTES);
    report_idle(bench, &idle);
}

/* --- under load: a peer pulls as fast as it can from what ends --- */

static void measure_load(struct bench *bench, const char *path, bool is_withdraw)
{
    struct load_result result = {0};

    load_measure(path, is_withdraw,
                 bench->rounds * (bench->is_quick ? LOAD_SAMPLES_QUICK : LOAD_SAMPLES), &result);
    struct row *row = report_row(bench, section,
                                 is_withdraw ? "withdraw a region, under load"
                                             : "revoke a read lease, under load");
    (void)snprintf(row->path, sizeof row->path, "%s", path);
    row->why = result.why;
    row->verified_bytes = result.verified_bytes;
    row->figure = samples_take(&result.ends, 1);
    row_beside(row, "memcpy of a chunk of 64 KiB", &result.chunks, 1);
    if (is_withdraw)
        row->goal = (struct goal){.kind = GOAL_TIMES, .limit = 1.2};
}

/* --- what checking costs --- */

struct check {
    struct borrowing *borrowing;
    struct pieces one;  /* of 8 bytes */
    struct pieces many; /* as they are many */
    struct lend_transfer *transfers[2];
    struct samples differences[2]; /* of one and of many */
    struct samples copies[2];
    uint64_t verified_bytes[2];
    struct lend_error why;
};

static bool prepare_checks(struct check *check)
{
    for (uint32_t i = 0; i < 2; i++) {
        const struct pieces *pieces = i == 0 ? &check->one : &check->many;

        check->transfers[i] =
            borrowing_prepare(check->borrowing, i, LEND_READ, "local/mapped", &check->why);
        if (check->transfers[i] == NULL)
            return false;
        check->verified_bytes[i] = borrowing_verify(check->borrowing, check->transfers[i],
                                                    LEND_READ, pieces, "local/mapped", &check->why);
        if (check->verified_bytes[i] == 0)
            return false;
    }
    return true;
}

static void take_turns(struct check *check)
{
    struct borrowing *borrowing = check->borrowing;

    for (int i = 0; i < 2; i++) {
        const struct pieces *pieces = i == 0 ? &check->one : &check->many;
        double copied =
            raw_copy_in(pieces, borrowing->memory, borrowing->seen, i == 0 ? CHECK_COPIES : 1);
        double moved = borrowing_move(borrowing, check->transfers[i], pieces, NULL);

        samples_add(&check->copies[i], copied);
        samples_add(&check->differences[i], moved > copied ? moved - copied : 0);
    }
}

static void report_checks(struct bench *bench, struct check *check)
{
    static const char *const names[2] = {"lease check, a transfer", "lease check, a block"};
    static const char *const hows[2] = {
        "derived: the time of a read of one block of 8 bytes less that of its memcpy, each sample "
        "with its own; it holds all that lend adds, so that the check alone is less",
        "derived: the time of a read of 4,096 scattered blocks of 64 bytes less that of their "
        "memcpy, by 4,096; it holds planning and all else that lend adds, so that the check alone "
        "is less",
    };

    for (int i = 0; i < 2; i++) {
        const struct pieces *pieces = i == 0 ? &check->one : &check->many;
        struct row *row = report_row(bench, section, names[i]);

        (void)snprintf(row->path, sizeof row->path, "local/mapped");
        row->direction = "read";
        row->measure = i == 0 ? MEASURE_TIME : MEASURE_PER_BLOCK;
        row->block_bytes = pieces->block_bytes;
        row->block_count = pieces->count;
        row->why = check->why;
        row->how = hows[i];
        row->verified_bytes = check->verified_bytes[i];
        row->figure = samples_take(&check->differences[i], (double)pieces->count);
        row_beside(row, "memcpy", &check->copies[i], (double)pieces->count);
        row->goal = (struct goal){.kind = GOAL_TIME, .limit = i == 0 ? 1000 : 5};
    }
}

static void measure_checks(struct bench *bench)
{
    uint32_t count = bench->rounds * (bench->is_quick ? IDLE_SAMPLES_QUICK : IDLE_SAMPLES);
    struct check check = {.borrowing = must_allocate(1, sizeof *check.borrowing)};

    lending_add(&check.borrowing->lending, sizeof(uint64_t), CHECK_BLOCKS);
    lending_add(&check.borrowing->lending, CHECK_BYTES, CHECK_BLOCKS);
    borrowing_begin(check.borrowing);
    pieces_scatter(&check.one, sizeof(uint64_t), 1);
    pieces_scatter(&check.many, CHECK_BYTES, CHECK_BLOCKS);
    if (prepare_checks(&check))
        for (uint32_t i = 0; i < count; i++)
            take_turns(&check);
    for (int i = 0; i < 2; i++)
        (void)lend_transfer_release(check.transfers[i]); /* complete, or NULL */
    borrowing_end(check.borrowing);
    free(check.borrowing);
    report_checks(bench, &check);
    pieces_free(&check.one);
    pieces_free(&check.many);
}

void bench_lease(struct bench *bench)
{
    measure_idle(bench);
    for (int is_withdraw = 0; is_withdraw < 2; is_withdraw++)
        for (int p = 0; p < BENCH_PATHS; p++)
            measure_load(bench, bench_paths[p], is_withdraw != 0);
    measure_checks(bench);
}
