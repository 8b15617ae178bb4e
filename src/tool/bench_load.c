/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_load.h"

#include "tool/trouble.h"

#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TRANSFERS = 2, LOADED = 4, NAME_BYTES = 16 };

/* What both processes see while one ends what the other uses. */
struct watch {
    _Atomic uint32_t using;  /* the puller uses the region of this number */
    _Atomic uint32_t pulled; /* how many transfers were complete in all */
    _Atomic uint32_t is_given_up;
};

/* What the owner tells of one region. */
struct voucher {
    size_t ticket_bytes;
    unsigned char ticket[LEND_TICKET_BYTES_MAX];
};

struct puller_report {
    uint64_t verified_bytes;
    struct lend_error why;
};

struct load {
    const char *path;
    bool is_withdraw;
    uint32_t count;
    struct pair pair;
    struct watch *watch; /* shared */

    /* Of the owner. */
    struct lend_agent *agent;
    struct lent *lents;
    struct lend_region **regions;
    struct lend_lease **leases;

    /* Of the puller. */
    unsigned char *memory; /* of TRANSFERS regions */
    struct lend_region *own[TRANSFERS];
    struct lend_peer *owner;
    struct voucher *vouchers;
    struct puller_report report;
};

static const int32_t blocks[LOAD_BLOCKS] = {3, 14, 9, 0, 6, 11, 1, 12, 7, 2, 15, 8, 4, 13, 10, 5};

/* --- the puller --- */

static void know_owner(struct load *load)
{
    unsigned char *metadata = NULL;
    size_t count = 0;
    struct lend_error error;

    pair_hear(&load->pair, &count, sizeof count);
    metadata = must_allocate(1, count);
    pair_hear(&load->pair, metadata, count);
    load->vouchers = must_allocate(load->count, sizeof *load->vouchers);
    pair_hear(&load->pair, load->vouchers, load->count * sizeof *load->vouchers);
    must(lend_peer_import(load->agent, metadata, count, &load->owner, &error), &error);
    must(lend_peer_connect(load->owner, bench_timeout_ns, &error), &error);
    free(metadata);
}

static void register_own(struct load *load)
{
    struct lend_region_desc descs[TRANSFERS];
    struct lend_error error;

    load->memory = must_map(TRANSFERS * (uint64_t)LOAD_REGION_BYTES);
    for (int i = 0; i < TRANSFERS; i++) {
        lend_region_desc_init(&descs[i]);
        must(lend_memory_system(load->memory + (uint64_t)i * LOAD_REGION_BYTES, LOAD_REGION_BYTES,
                                &descs[i].memory, &error),
             &error);
        descs[i].geometry.block_length_bytes = LOAD_BLOCK_BYTES;
        descs[i].geometry.count = LOAD_BLOCKS;
    }
    must(lend_region_register(load->agent, descs, TRANSFERS, load->own, NULL, &error), &error);
}

/* What lent memory holds is the same in every region. */
static void verify(struct load *load, int which)
{
    const unsigned char *got = load->memory + (uint64_t)which * LOAD_REGION_BYTES;
    struct lent expected;
    struct lend_error error;

    lent_open(&expected, LOAD_REGION_BYTES);
    if (memcmp(got, expected.address, LOAD_REGION_BYTES) != 0)
        must(trouble(&error, LEND_E_CORRUPT, "%s: wrong bytes after a transfer that succeeded",
                     load->path),
             &error);
    lent_close(&expected);
    load->report.verified_bytes += LOAD_REGION_BYTES;
}

static bool is_by_path(struct load *load, struct lend_transfer *transfer)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_error error;

    must(lend_transfer_describe(transfer, &record, &error), &error);
    if (strcmp(record.path, load->path) == 0)
        return true;
    (void)trouble(&load->report.why, LEND_E_NO_PATH, "it took %s instead", record.path);
    return false;
}

static struct lend_transfer *prepare(struct load *load, uint32_t region, int which)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    char name[NAME_BYTES];
    uint64_t remote = 0;
    struct lend_error error;

    (void)snprintf(name, sizeof name, "%u", region);
    must(lend_peer_region(load->owner, name, &remote, &error), &error);
    desc.direction = LEND_READ;
    desc.peer = load->owner;
    desc.region_count = 1;
    desc.local_regions = &load->own[which];
    desc.remote_regions = &remote;
    desc.block_count_max = LOAD_BLOCKS;
    desc.paths = load->path;
    enum lend_status status =
        lend_transfer_prepare(load->agent, &desc, &transfer, &load->report.why);
    if (status != LEND_E_NO_PATH && status != LEND_E_UNSUPPORTED)
        must(status, &load->report.why);
    return transfer;
}

/* Keep both transfers going until one ends otherwise. False: it is not by this path. */
static bool pull_on(struct load *load, uint32_t region, struct lend_transfer **transfers,
                    struct lend_ticket *ticket)
{
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    struct lend_error error;
    enum lend_status status = LEND_OK;

    desc.ticket = ticket;
    desc.local_blocks = blocks;
    desc.remote_blocks = blocks;
    desc.block_count = LOAD_BLOCKS;
    for (uint32_t i = 0; status == LEND_OK; i++) {
        struct lend_transfer *transfer = transfers[i % TRANSFERS];

        if (i >= TRANSFERS)
            status = lend_transfer_wait(transfer, bench_timeout_ns);
        if (i == TRANSFERS && status == LEND_OK) {
            if (!is_by_path(load, transfer))
                return false;
            if (region == 0)
                verify(load, 0);
            atomic_store(&load->watch->using, region + 1);
        }
        if (i >= TRANSFERS && status == LEND_OK)
            (void)atomic_fetch_add(&load->watch->pulled, 1);
        if (status == LEND_OK)
            status = lend_transfer_post(transfer, &desc, &error);
    }
    return true;
}

static void pull_region(struct load *load, uint32_t region)
{
    const struct voucher *voucher = &load->vouchers[region];
    struct lend_transfer *transfers[TRANSFERS] = {NULL};
    struct lend_ticket *ticket = NULL;
    struct lend_error error;
    bool is_had = true;

    must(lend_ticket_import(load->owner, voucher->ticket, voucher->ticket_bytes, &ticket, &error),
         &error);
    for (int i = 0; i < TRANSFERS; i++) {
        transfers[i] = prepare(load, region, i);
        is_had = is_had && transfers[i] != NULL;
    }
    if (!is_had || !pull_on(load, region, transfers, ticket))
        atomic_store(&load->watch->is_given_up, 1);
    for (int i = 0; i < TRANSFERS; i++) {
        while (lend_transfer_release(transfers[i]) == LEND_E_BUSY)
            (void)lend_transfer_cancel(transfers[i], bench_timeout_ns);
    }
    lend_ticket_release(ticket);
}

static void pull_until_all_have_ended(struct pair *pair, void *context)
{
    struct load *load = context;
    char nothing;

    (void)pair; /* it is the load's */
    load->agent = must_open_agent("bench-puller", 0);
    register_own(load);
    know_owner(load);
    for (uint32_t i = 0; i < load->count && atomic_load(&load->watch->is_given_up) == 0; i++)
        pull_region(load, i);
    pair_say(&load->pair, &load->report, sizeof load->report);
    (void)pair_hears(&load->pair, &nothing, sizeof nothing);
    lend_peer_forget(load->owner);
    lend_agent_destroy(load->agent);
    (void)munmap(load->memory, TRANSFERS * (uint64_t)LOAD_REGION_BYTES);
    (void)munmap(load->watch, sizeof *load->watch);
    free(load->vouchers);
}

/* --- the owner --- */

static void lend_all(struct load *load)
{
    struct lend_region_desc *descs = must_allocate(load->count, sizeof *descs);
    char(*names)[NAME_BYTES] = must_allocate(load->count, sizeof *names);
    struct lend_error error;

    load->lents = must_allocate(load->count, sizeof *load->lents);
    load->regions = must_allocate(load->count, sizeof(struct lend_region *));
    load->leases = must_allocate(load->count, sizeof(struct lend_lease *));
    for (uint32_t i = 0; i < load->count; i++) {
        lent_open(&load->lents[i], LOAD_REGION_BYTES);
        lend_region_desc_init(&descs[i]);
        lent_describe(&load->lents[i], &descs[i], LOAD_REGION_BYTES);
        (void)snprintf(names[i], sizeof names[i], "%u", i);
        descs[i].geometry.block_length_bytes = LOAD_BLOCK_BYTES;
        descs[i].geometry.count = LOAD_BLOCKS;
        descs[i].access = LEND_ACCESS_READ;
        descs[i].name = names[i];
    }
    must(lend_region_register(load->agent, descs, load->count, load->regions, NULL, &error),
         &error);
    for (uint32_t i = 0; i < load->count; i++)
        load->leases[i] = must_grant(load->agent, &load->regions[i], 1, LEND_ACCESS_READ);
    free(descs);
    free(names);
}

static void tell_all(struct load *load)
{
    unsigned char *metadata = must_allocate(1, LEND_METADATA_BYTES_MAX);
    struct lend_error error;
    size_t count = 0;

    must(lend_metadata_export(load->agent, metadata, LEND_METADATA_BYTES_MAX, &count, &error),
         &error);
    pair_say(&load->pair, &count, sizeof count);
    pair_say(&load->pair, metadata, count);
    free(metadata);
    for (uint32_t i = 0; i < load->count; i++) {
        struct voucher voucher = {0};

        must(lend_ticket_export(load->leases[i], voucher.ticket, sizeof voucher.ticket,
                                &voucher.ticket_bytes, &error),
             &error);
        pair_say(&load->pair, &voucher, sizeof voucher);
    }
}

/* Wait until the puller is in the middle of it. False: it has given up. */
static bool await_load(struct load *load, uint32_t region)
{
    struct watch *watch = load->watch;
    uint64_t until_ns = now_ns() + bench_timeout_ns;
    bool is_using = false;
    uint32_t pulled = 0;
    struct pollfd heard = {.fd = load->pair.channel, .events = POLLIN};

    while (atomic_load(&watch->is_given_up) == 0) {
        if (!is_using && atomic_load(&watch->using) == region + 1) {
            is_using = true;
            pulled = atomic_load(&watch->pulled);
        }
        if (is_using && atomic_load(&watch->pulled) - pulled >= LOADED)
            return true;
        if (poll(&heard, 1, 0) != 0)
            return false; /* it tells why, or has ended */
        must_be_before(until_ns);
        (void)sched_yield();
    }
    return false;
}

static double copy_chunk(const struct lent *lent, unsigned char *to)
{
    uint64_t began = now_ns();

    memcpy(to, lent->address, LOAD_BLOCK_BYTES);
    __asm__ volatile("" : : "r"(to) : "memory");
    return (double)(now_ns() - began);
}

static void end_one(struct load *load, uint32_t region, unsigned char *scratch,
                    struct load_result *result)
{
    struct lend_error error;
    double chunk_ns = copy_chunk(&load->lents[region], scratch);
    uint64_t began = now_ns();
    enum lend_status status = load->is_withdraw
                                  ? lend_region_withdraw(load->regions[region], LEND_WITHDRAW_FORCE,
                                                         BENCH_SECOND_NS, &error)
                                  : lend_lease_revoke(load->leases[region], &error);
    double took = (double)(now_ns() - began);

    must(status, &error);
    samples_add(&result->ends, took);
    samples_add(&result->chunks, chunk_ns);
}

static void end_all(struct load *load, struct load_result *result)
{
    unsigned char *scratch = must_map(LOAD_BLOCK_BYTES);

    for (uint32_t i = 0; i < load->count && await_load(load, i); i++)
        end_one(load, i, scratch, result);
    (void)munmap(scratch, LOAD_BLOCK_BYTES);
}

static void take_all_back(struct load *load)
{
    lend_agent_destroy(load->agent);
    for (uint32_t i = 0; i < load->count; i++)
        lent_close(&load->lents[i]);
    (void)munmap(load->watch, sizeof *load->watch);
    free(load->lents);
    free(load->regions);
    free(load->leases);
}

void load_measure(const char *path, bool is_withdraw, uint32_t count, struct load_result *result)
{
    struct load load = {.path = path, .is_withdraw = is_withdraw, .count = count};
    void *watch =
        mmap(NULL, sizeof *load.watch, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    must_sys(watch != MAP_FAILED, "memory to share");
    load.watch = watch;
    pair_begin(&load.pair, pull_until_all_have_ended, &load);
    load.agent = must_open_agent("bench-owner", 0);
    lend_all(&load);
    tell_all(&load);
    end_all(&load, result);
    pair_hear(&load.pair, &load.report, sizeof load.report);
    result->verified_bytes = load.report.verified_bytes;
    result->why = load.report.why;
    pair_end(&load.pair);
    take_all_back(&load);
}
