/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory of a GPU that was freed, and allocated anew at the same address, is never read by
 * who had a lease on what was there: whether its owner withdrew it first, or broke its word.
 * Method: 10,000 rounds each (a tenth of chunks, and with suspend; LEND_SCALE divides them) of
 * lend, read, withdraw or suspend or neither, free, allocate at the same address, lend again, read
 * with the old ticket; over the host's memory and from GPU to GPU. The fake driver gives the
 * address out again at once. An owner that breaks its word is seen by its look at what it has lent,
 * which is every second; here it looks at each step.
 */
#include "chunks_world.h"

enum { ROUNDS = 10000, FEWER = 10, PARTS = 2, SMALL = PARTS * BLOCK };

_Static_assert(SMALL % GRAIN == 0, "a chunk can be so long");

enum manner { BREAKS_ITS_WORD, WITHDRAWS, SUSPENDS, MANNERS };

static const char *const manners[] = {"not withdrawn", "withdrawn", "suspended"};

struct course {
    const char *path;
    bool is_chunks;
    enum manner manner;
    struct world world;
    struct memory memory; /* of the owner: what is lent, SMALL of it */
    uint64_t range;       /* of addresses, for chunks */
    struct lend_region *region;
    struct lend_lease *lease;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    uint32_t refused;
};

static void allocate(struct course *it, uint8_t value)
{
    if (it->is_chunks) {
        map_chunk(it->range, SMALL, LEND_CUDA_HANDLE_FD);
        open_chunks(it->range, SMALL);
        it->memory.address = it->range;
    } else {
        uint64_t before = it->memory.address;

        assert_int_equal(cuMemAlloc_v2(&it->memory.address, SMALL), 0);
        assert_true(before == 0 || it->memory.address == before);
    }
    memset(fake_cuda_bytes(it->memory.address), value, SMALL);
}

static void release(struct course *it)
{
    if (it->is_chunks)
        assert_int_equal(cuMemUnmap(it->range, SMALL), 0);
    else
        assert_int_equal(cuMemFree_v2(it->memory.address), 0);
}

static struct lend_region *lend(struct course *it)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = PARTS;
    desc.access = LEND_ACCESS_READ;
    desc.flags = strcmp(it->path, "local/cuda") == 0 ? LEND_REGION_SHARE_DEVICE : 0;
    check(lend_memory_device(it->memory.address, SMALL, 0, &desc.memory, &error), &error);
    check(lend_region_register(it->world.owner.agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

static struct lend_lease *grant_all(struct course *it, struct lend_region *region)
{
    struct lend_block_set set = {.regions = &region, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};

    desc.sets = &set;
    desc.set_count = 1;
    desc.access = LEND_ACCESS_READ;
    desc.time_to_live_ns = MINUTE;
    check(lend_lease_grant(it->world.owner.agent, &desc, &lease, &error), &error);
    return lease;
}

/* The reader learns of the region, and has a ticket for all of it, and a transfer. */
static void tell(struct course *it)
{
    static uint8_t metadata[8192];
    uint8_t ticket[LEND_TICKET_BYTES_MAX];
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error = {0};
    uint64_t id = lend_region_id(it->region);
    size_t count = 0;

    check(lend_metadata_export(it->world.owner.agent, metadata, sizeof metadata, &count, &error),
          &error);
    check(lend_peer_refresh(it->world.peer, metadata, count, &error), &error);
    check(lend_ticket_export(it->lease, ticket, sizeof ticket, &count, &error), &error);
    check(lend_ticket_import(it->world.peer, ticket, count, &it->ticket, &error), &error);
    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.peer = it->world.peer;
    desc.local_regions = &it->world.reader.region;
    desc.remote_regions = &id;
    desc.block_count_max = PARTS;
    desc.paths = it->path;
    enum lend_status status = LEND_E_NO_PATH;
    for (int i = 0; i < 1000 && status == LEND_E_NO_PATH; i++) { /* until its file is told of */
        step(&it->world);
        status = lend_transfer_prepare(it->world.reader.agent, &desc, &it->transfer, &error);
    }
    check(status, &error);
}

static enum lend_status read_all(struct course *it, struct lend_transfer_record *record)
{
    static const int32_t blocks[PARTS] = {0, 1};
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    struct lend_error error = {0};
    enum lend_status status = LEND_PENDING;

    desc.ticket = it->ticket;
    desc.local_blocks = blocks;
    desc.remote_blocks = blocks;
    desc.block_count = PARTS;
    memset(it->world.reader.memory.bytes, 9, SMALL);
    check(lend_transfer_post(it->transfer, &desc, &error), &error);
    for (int i = 0; i < STEPS_MAX && status == LEND_PENDING; i++) {
        step(&it->world);
        status = lend_transfer_test(it->transfer);
    }
    *record = (struct lend_transfer_record){.struct_size = sizeof *record};
    check(lend_transfer_describe(it->transfer, record, &error), &error);
    return status;
}

static void take_back(struct course *it)
{
    struct lend_error error = {0};

    check(withdraw_region(&it->world, it->region, &error), &error);
    check(lend_region_deregister(it->region, &error), &error);
}

static void suspend(struct course *it)
{
    enum lend_status status = LEND_E_BUSY;
    struct lend_error error = {0};

    for (int i = 0; i < 1000 && status == LEND_E_BUSY; i++) {
        status = lend_region_suspend(it->region, LEND_WITHDRAW_FORCE, 0, &error);
        step(&it->world);
    }
    check(status, &error);
}

static void run_round(struct course *it)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};

    allocate(it, 1);
    it->region = lend(it);
    it->lease = grant_all(it, it->region);
    tell(it);
    assert_int_equal(read_all(it, &record), LEND_OK);
    assert_string_equal(record.path, it->path);
    assert_int_equal(it->world.reader.memory.bytes[SMALL - 1], 1);

    struct lend_lease *newer = NULL;
    if (it->manner == WITHDRAWS)
        take_back(it);
    else if (it->manner == SUSPENDS)
        suspend(it);
    release(it);
    allocate(it, 2);
    if (it->manner == WITHDRAWS)
        it->region = lend(it);
    else if (it->manner == SUSPENDS)
        check(lend_region_resume(it->region, NULL, -1, 0, &error), &error);
    if (it->manner != BREAKS_ITS_WORD)
        newer = grant_all(it, it->region);
    step(&it->world);
    enum lend_status status = read_all(it, &record);
    /* Of a region that is gone its owner knows no newer life: it was taken back. */
    if (status != (it->manner == WITHDRAWS ? LEND_E_REVOKED : LEND_E_STALE))
        fail_msg("a read of what was freed ended as %s", lend_status_name(status));
    assert_true(record.blocks == 0);
    it->refused++;

    assert_int_equal(lend_transfer_release(it->transfer), LEND_OK);
    lend_ticket_release(it->ticket);
    lend_lease_release(it->lease);
    take_back(it);
    if (newer != NULL)
        lend_lease_release(newer);
    release(it);
}

static void run(const char *path, bool is_chunks, enum manner manner)
{
    const char *scale = getenv("LEND_SCALE");
    int divisor = scale != NULL ? (int)strtol(scale, NULL, 10) : 1;
    struct course it = {.path = path, .is_chunks = is_chunks, .manner = manner};
    uint64_t usual = lend_freed_look_ns;

    lend_freed_look_ns = 1;
    it.world = make_world("local", true, true);
    fake_cuda_open_own(1);
    connect_both(&it.world);
    if (is_chunks)
        assert_int_equal(cuMemAddressReserve(&it.range, SMALL, 0, 0, 0), 0);
    if (is_chunks || manner == SUSPENDS)
        divisor *= FEWER;
    for (int i = 0; i < ROUNDS / (divisor > 0 ? divisor : 1); i++)
        run_round(&it);
    if (is_chunks)
        assert_int_equal(cuMemAddressFree(it.range, SMALL), 0);
    print_message("%s, %s, %s: %u reads, all %s\n", path, is_chunks ? "chunks" : "cudaMalloc",
                  manners[manner], it.refused, manner == WITHDRAWS ? "REVOKED" : "STALE");
    end_world(&it.world);
    lend_freed_look_ns = usual;
}

static void test_over_the_hosts_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * MANNERS; i++)
        run("local/staged", i / MANNERS != 0, (enum manner)(i % MANNERS));
}

static void test_from_gpu_to_gpu(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * MANNERS; i++)
        run("local/cuda", i / MANNERS != 0, (enum manner)(i % MANNERS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_over_the_hosts_memory),
        cmocka_unit_test(test_from_gpu_to_gpu),
    };

    if (is_without_pidfds())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
