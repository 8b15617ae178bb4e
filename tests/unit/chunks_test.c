/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: mapped chunks of a GPU's memory (expandable segments), and allocations of a pool, are
 * opened as one that cudaMalloc made is: by descriptors, or by handles of a fabric; read by the
 * reader's GPU; and closed when they are wanted back, whatever of it the driver refuses. What
 * cannot be opened is refused with its address and its remedy. Method: two agents of one process,
 * and the fake driver, whose chunks are files in memory. Nothing here shows what a GPU does.
 */
#include "chunks_world.h"

#include "memory/mapped.h"

#include <dirent.h>

struct setup {
    const char *name;
    void (*make)(struct memory *memory);
    uint32_t types;
    int exported; /* descriptors, for a whole read */
};

static const struct setup setups[] = {
    {"chunks by descriptors", make_chunks, LEND_CUDA_HANDLE_FD, TOUCHED},
    {"chunks by either", make_chunks, LEND_CUDA_HANDLE_FD | LEND_CUDA_HANDLE_FABRIC, TOUCHED},
    {"chunks by fabric handles", make_chunks, LEND_CUDA_HANDLE_FABRIC, TOUCHED},
    {"a pool by a descriptor", make_pooled, LEND_CUDA_HANDLE_FD, 1},
    {"a pool by a fabric handle", make_pooled, LEND_CUDA_HANDLE_FABRIC, 1},
};

enum { SETUPS = sizeof setups / sizeof setups[0] };

static struct world make_world_of(const struct setup *setup)
{
    make_owner_memory = setup->make;
    chunk_types = setup->types;
    owner_flags = LEND_REGION_SHARE_DEVICE;
    struct world world = make_world("local", true, true);
    owner_flags = 0;
    fake_cuda_open_own(1);
    return world;
}

static void end_world_of(struct world *world)
{
    end_world(world);
    make_owner_memory = NULL;
}

static void begin_read(struct world *world, const char *paths)
{
    struct lend_error error = {0};

    fill(&world->owner.memory, 1);
    store(&world->owner.memory);
    fill(&world->reader.memory, 2);
    grant(world, LEND_ACCESS_READ);
    connect_both(world);
    check(prepare(world, LEND_READ, paths, &error), &error);
    check(post(world, &error), &error);
}

static int count_descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(all);
    while (readdir(all) != NULL)
        count++;
    (void)closedir(all);
    return count;
}

static void expect_nothing_open(const struct world *world, int chunks_before)
{
    (void)world;
    assert_int_equal(fake_cuda_opened(), 0);
    assert_int_equal(fake_cuda_chunks(), chunks_before);
    assert_int_equal(fake_cuda_torn(), 0);
}

static void test_all_kinds_are_opened_once_and_copied_from_gpu_to_gpu(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETUPS; i++) {
        struct world world = make_world_of(&setups[i]);
        struct lend_transfer_record record;
        struct lend_error error = {0};
        int chunks = fake_cuda_chunks(), pools = fake_cuda_pools();
        int pinned = fake_cuda_calls("cuMemHostAlloc"); /* for the tables of kernels */

        begin_read(&world, "local/cuda");
        int descriptors = count_descriptors();
        for (int turn = 0; turn < 3; turn++) {
            check(finish(&world, &record, &error), &error);
            expect_moved(&world, LEND_READ);
            assert_string_equal(record.path, "local/cuda");
            fill(&world.reader.memory, 2);
            check(post(&world, &error), &error);
        }
        check(finish(&world, &record, &error), &error);
        assert_int_equal(fake_cuda_calls("cuMemExportToShareableHandle") +
                             fake_cuda_calls("cuMemPoolExportToShareableHandle"),
                         setups[i].exported);
        assert_int_equal(fake_cuda_calls("cuMemImportFromShareableHandle") +
                             fake_cuda_calls("cuMemPoolImportPointer"),
                         setups[i].exported);
        assert_int_equal(fake_cuda_calls("cuMemcpyDtoHAsync"), 0);
        assert_int_equal(fake_cuda_calls("cuMemHostAlloc"), pinned);
        check(withdraw_region(&world, world.owner.region, &error), &error);
        expect_nothing_open(&world, chunks);
        assert_int_equal(fake_cuda_pools(), pools);
        assert_true(count_descriptors() <= descriptors);
        end_world_of(&world);
    }
}

/* Of such memory, with that text and those handle types. */
static void expect_refusal(void (*make)(struct memory *memory), const char *what, const char *types,
                           const char *remedy)
{
    struct world world = make_world("local", true, true);
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct memory other = {0};
    struct lend_error error = {0};

    make(&other);
    desc.flags = LEND_REGION_SHARE_DEVICE;
    check(describe(&other, &desc, &error), &error);
    assert_int_equal(lend_region_register(world.owner.agent, &desc, 1, &region, NULL, &error),
                     LEND_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, what));
    assert_non_null(strstr(error.message, types));
    assert_non_null(strstr(error.message, remedy));
    desc.flags = 0; /* else it is lent as ever */
    check(lend_region_register(world.owner.agent, &desc, 1, &region, NULL, &error), &error);
    check(withdraw_region(&world, region, &error), &error);
    check(lend_region_deregister(region, &error), &error);
    other.free(&other);
    end_world(&world);
}

static void test_what_has_no_handle_is_refused_with_its_place_and_the_remedy(void **state)
{
    const char *remedy = "expandable_segments in docs/cuda.md, or cudaMalloc it";
    char what[64];
    uint64_t at = 0;

    (void)state;
    chunk_types = 0;
    expect_refusal(make_chunks, "(byte 0) is of a mapped chunk", "(handle types 0x0)", remedy);
    expect_refusal(make_pooled, "(byte 0) is of a memory pool", "(handle types 0x0)",
                   "handleTypes, or cudaMalloc it");
    chunk_types = LEND_CUDA_HANDLE_FD;
    odd_chunk_types = 2; /* of another system's, and so of none here */
    for (uint64_t i = 0; i < 7; i++)
        at += length_of_chunk(i);
    (void)snprintf(what, sizeof what, "(byte %llu) is of a mapped chunk",
                   (unsigned long long)(at - AHEAD));
    expect_refusal(make_chunks, what, "(handle types 0x2)", remedy);
    odd_chunk_types = 0;
}

/* What may fail, and whose it is. */
static const struct call {
    const char *name;
    bool is_owners; /* when it is registered */
} calls[] = {
    {"cuMemRetainAllocationHandle", true},
    {"cuMemExportToShareableHandle", true},
    {"cuMemPoolExportToShareableHandle", true},
    {"cuMemPoolExportPointer", true},
    {"cuMemAddressReserve", false},
    {"cuMemImportFromShareableHandle", false},
    {"cuMemMap", false},
    {"cuMemSetAccess", false},
    {"cuMemPoolImportFromShareableHandle", false},
    {"cuMemPoolSetAccess", false},
    {"cuMemPoolImportPointer", false},
    {"cuMemGetAddressRange", false},
};

/* True: that call came, and failed. */
static bool fail_once(const struct setup *setup, const struct call *call, int nth)
{
    struct world world = make_world_of(setup);
    struct lend_transfer_record record;
    struct lend_error error = {0};
    int chunks = fake_cuda_chunks(), pools = fake_cuda_pools();
    int before = fake_cuda_calls(call->name);

    fake_cuda_fail_nth(call->name, nth, LEND_CUDA_ERROR_INVALID_VALUE);
    begin_read(&world, NULL);
    check(finish(&world, &record, &error), &error);
    expect_moved(&world, LEND_READ);
    bool was_called = fake_cuda_calls(call->name) > before + nth;
    assert_string_equal(record.path, was_called ? "local/staged" : "local/cuda");
    fake_cuda_fail_nth(call->name, -1, 0);
    /* The next one opens it. */
    fill(&world.reader.memory, 2);
    check(post(&world, &error), &error);
    check(finish(&world, &record, &error), &error);
    expect_moved(&world, LEND_READ);
    assert_string_equal(record.path, "local/cuda");
    check(withdraw_region(&world, world.owner.region, &error), &error);
    expect_nothing_open(&world, chunks);
    assert_int_equal(fake_cuda_pools(), pools);
    end_world_of(&world);
    return was_called;
}

static void test_whatever_the_driver_refuses_is_staged_and_leaves_nothing_open(void **state)
{
    const int turns[] = {0, 1, TOUCHED / 2, TOUCHED - 1};
    int failed = 0;

    (void)state;
    for (size_t i = 0; i < SETUPS; i++)
        for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++)
            for (size_t t = 0; t < sizeof turns / sizeof turns[0]; t++) {
                /* What an owner exports as bytes it does when it registers. */
                bool is_early = calls[c].is_owners && (setups[i].types & 1) == 0;

                if (!is_early)
                    failed += fail_once(&setups[i], &calls[c], turns[t]);
            }
    assert_true(failed > 30);
}

static void test_a_driver_that_does_not_close_leaves_the_owner_waiting(void **state)
{
    static const char *const closing[] = {"cuMemUnmap", "cuMemFree"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world world = make_world_of(&setups[i * 3]);
        struct lend_transfer_record record;
        struct lend_error error = {0};

        begin_read(&world, "local/cuda");
        check(finish(&world, &record, &error), &error);
        /* Of chunks it is enough if one stays. */
        fake_cuda_fail_nth(closing[i], i == 0 ? 5 : 0, LEND_CUDA_ERROR_INVALID_CONTEXT);
        assert_int_equal(withdraw_region(&world, world.owner.region, &error), LEND_E_BUSY);
        assert_non_null(strstr(error.message, "has its GPU memory open"));
        assert_int_equal(lend_transfer_release(world.transfer), LEND_OK);
        abandon_world(&world);
        make_owner_memory = NULL;
    }
}

static void test_what_is_wanted_back_while_it_is_opened_is_closed(void **state)
{
    (void)state;
    for (int parts = 0; parts < TOUCHED; parts += 3) {
        struct world world = make_world_of(&setups[0]);
        struct lend_transfer_record record;
        struct lend_error error = {0};
        int chunks = fake_cuda_chunks();

        begin_read(&world, "local/cuda");
        for (int i = 0; i < STEPS_MAX && fake_cuda_calls("cuMemImportFromShareableHandle") < parts;
             i++)
            step(&world);
        int mapped = fake_cuda_calls("cuMemMap");
        check(withdraw_region(&world, world.owner.region, &error), &error);
        expect_nothing_open(&world, chunks);
        assert_true(fake_cuda_calls("cuMemMap") <= mapped + 1);
        assert_int_equal(finish(&world, &record, &error), LEND_E_REVOKED);
        assert_true(record.blocks == 0);
        end_world_of(&world);
    }
}

static void test_other_memory_in_place_of_a_chunk_is_not_handed_over(void **state)
{
    struct world world = make_world_of(&setups[0]);
    struct lend_transfer_record record;
    struct lend_error error = {0};
    uint64_t second = world.owner.memory.allocation + length_of_chunk(0);

    (void)state;
    begin_read(&world, "local/cuda");
    /* In breach of its word: unmapped, and other memory mapped, before anybody opened it. */
    assert_int_equal(cuMemUnmap(second, length_of_chunk(1)), 0);
    map_chunk(second, length_of_chunk(1), LEND_CUDA_HANDLE_FD);
    open_chunks(second, length_of_chunk(1));
    assert_int_equal(finish(&world, &record, &error), LEND_E_NO_PATH);
    assert_non_null(strstr(error.message, "was freed"));
    assert_true(record.blocks == 0);
    assert_int_equal(fake_cuda_calls("cuMemMap"), CHUNK_COUNT + 1 + 1); /* the reader's one */
    assert_int_equal(fake_cuda_calls("cuMemRelease"), CHUNK_COUNT + 1 + 2 + 1);
    end_world_of(&world);
}

/* --- what owners say, and what they may lend --- */

static void test_what_an_owner_says_of_its_chunks_is_not_believed(void **state)
{
    enum { PARTS = 3 };
    static const struct {
        uint32_t kind, type, parts;
        uint64_t bytes, first, told; /* first: of the first part; told: all that is there, or 0 */
    } lies[] = {
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, PARTS, 3 * GRAIN, GRAIN, 20},
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, PARTS, 3 * GRAIN, GRAIN, 300},
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, UINT32_MAX, 3 * GRAIN, GRAIN, 0},
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, LEND_DEVICE_PARTS_MAX + 1, 3 * GRAIN, GRAIN, 0},
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, 0, 3 * GRAIN, GRAIN, 0},
        {LEND_DEVICE_CHUNKS, 3, PARTS, 3 * GRAIN, GRAIN, 0},
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, PARTS, 3 * GRAIN, 0, 0},
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, PARTS, 3 * GRAIN, 2 * GRAIN, 0},
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, PARTS, 4 * GRAIN, GRAIN, 0},
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, PARTS, 3 * GRAIN, UINT64_MAX, 0},
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, PARTS, UINT64_MAX, UINT64_MAX - 2 * GRAIN, 0},
        {LEND_DEVICE_CHUNKS, LEND_CUDA_HANDLE_FD, PARTS, 0, 0, 0},
        {LEND_DEVICE_POOLED, LEND_CUDA_HANDLE_FD, PARTS, 3 * GRAIN, GRAIN, 0},
        {LEND_DEVICE_ALLOCATION, 0, PARTS, 3 * GRAIN, GRAIN, 0},
        {9, LEND_CUDA_HANDLE_FD, PARTS, 3 * GRAIN, GRAIN, 0},
    };
    const size_t whole = sizeof(struct lend_device_share) + PARTS * sizeof(struct lend_device_part);
    const struct lend_lane lane = {.cuda = &fake_cuda_ops};
    struct lend_mapped *mapped = NULL;
    struct lend_error error = {0};

    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        size_t told = lies[i].told != 0 ? lies[i].told : whole;
        struct lend_device_share *share = calloc(1, whole);
        void *exact = malloc(told); /* so that a look behind it is seen */

        assert_non_null(share);
        assert_non_null(exact);
        share->kind = lies[i].kind;
        share->handle_type = lies[i].type;
        share->part_count = lies[i].parts;
        share->bytes = lies[i].bytes;
        for (uint32_t p = 0; p < PARTS; p++)
            share->parts[p].bytes = p == 0 ? lies[i].first : GRAIN;
        memcpy(exact, share, told);
        if (lend_mapped_begin(&lane, exact, told, &mapped, &error) != LEND_E_UNSUPPORTED)
            fail_msg("lie %zu was believed", i);
        free(exact);
        free(share);
    }
    assert_null(mapped);
}

static void test_more_chunks_than_a_share_has_room_for_are_refused(void **state)
{
    struct world world = make_world_of(&setups[0]);
    struct lend_lane lane = {.cuda = &fake_cuda_ops};
    struct lend_device_memory *memory = NULL;
    struct lend_device_way way;
    struct lend_error error = {0};

    (void)state;
    for (uint64_t i = 0; i <= LEND_DEVICE_PARTS_MAX; i++)
        check(lend_device_note(&memory, world.owner.memory.address + (i + 1) * GRAIN, i, &error),
              &error);
    memory->start = world.owner.memory.address;
    memory->lane = &lane;
    assert_int_equal(lend_device_judge(memory, &way, &error), LEND_E_LIMIT);
    assert_non_null(strstr(error.message, "8193 chunks"));
    lend_device_release(memory);
    end_world_of(&world);
}

static void test_two_allocations_that_touch_are_not_one(void **state)
{
    struct world world = make_world("local", true, true);
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};
    uint64_t address = world.owner.memory.allocation;
    struct fake_cuda_allocation next = {
        .base = address + BYTES + 2 * AHEAD,
        .length_bytes = AHEAD,
        .buffer_id = 77,
        .type = LEND_CUDA_MEMORY_DEVICE,
    };

    (void)state;
    fake_cuda_add(&next);
    check(lend_memory_device(next.base - AHEAD, 2 * AHEAD, 0, &desc.memory, &error), &error);
    desc.geometry.block_length_bytes = AHEAD;
    desc.geometry.count = 2;
    desc.access = LEND_ACCESS_READ;
    desc.flags = LEND_REGION_SHARE_DEVICE;
    assert_int_equal(lend_region_register(world.owner.agent, &desc, 1, &region, NULL, &error),
                     LEND_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "several allocations"));
    end_world(&world);
}

/* --- several regions of the same chunks --- */

enum { HALF = BLOCKS / 2 };

static struct lend_region_desc describe_part(const struct memory *memory, uint64_t first_block,
                                             uint64_t blocks)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_error error = {0};

    desc.geometry.block_length_bytes = BLOCK;
    desc.geometry.count = blocks;
    desc.access = LEND_ACCESS_READ;
    desc.flags = LEND_REGION_SHARE_DEVICE;
    check(lend_memory_device(memory->address + first_block * BLOCK, blocks * BLOCK, 0, &desc.memory,
                             &error),
          &error);
    return desc;
}

struct halves {
    struct world world;
    struct lend_region *regions[2];
};

static struct halves make_halves(bool is_one_call)
{
    struct halves it = {.world = make_world_of(&setups[0])};
    struct lend_region_desc descs[2];
    struct lend_error error = {0};

    check(withdraw_region(&it.world, it.world.owner.region, &error), &error);
    check(lend_region_deregister(it.world.owner.region, &error), &error);
    it.world.owner.region = NULL;
    for (uint64_t i = 0; i < 2; i++)
        descs[i] = describe_part(&it.world.owner.memory, i * HALF, HALF);
    for (uint32_t i = 0; i < (is_one_call ? 1 : 2); i++)
        check(lend_region_register(it.world.owner.agent, &descs[is_one_call ? 0 : i],
                                   is_one_call ? 2 : 1, &it.regions[i], NULL, &error),
              &error);
    lend_peer_forget(it.world.peer);
    return it;
}

/* Read one half anew; the path that it went. */
static void read_half(struct halves *it, int which, char *path, size_t capacity)
{
    struct world *world = &it->world;
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post_desc = LEND_POST_DESC_INIT;
    struct lend_transfer_record record;
    struct lend_error error = {0};
    int32_t here[HALF], there[HALF];

    world->owner.region = it->regions[which];
    fill(&world->owner.memory, 1);
    store(&world->owner.memory);
    fill(&world->reader.memory, 2);
    meet(world);
    grant(world, LEND_ACCESS_READ);
    connect_both(world);
    desc.direction = LEND_READ;
    desc.region_count = 1;
    desc.peer = world->peer;
    desc.local_regions = &world->reader.region;
    desc.remote_regions = &world->region_id;
    desc.block_count_max = HALF;
    check(lend_transfer_prepare(world->reader.agent, &desc, &world->transfer, &error), &error);
    for (int32_t i = 0; i < HALF; i++)
        here[i] = there[i] = i;
    post_desc.ticket = world->ticket;
    post_desc.local_blocks = here;
    post_desc.remote_blocks = there;
    post_desc.block_count = HALF;
    check(lend_transfer_post(world->transfer, &post_desc, &error), &error);
    check(finish(world, &record, &error), &error);
    assert_memory_equal(world->reader.memory.bytes,
                        world->owner.memory.bytes + (size_t)which * HALF * BLOCK, HALF * BLOCK);
    (void)snprintf(path, capacity, "%s", record.path);
    assert_int_equal(lend_transfer_release(LEND_TAKE(world->transfer)), LEND_OK);
    lend_ticket_release(LEND_TAKE(world->ticket));
    check(lend_lease_revoke(world->lease, &error), &error);
    lend_lease_release(LEND_TAKE(world->lease));
    lend_peer_forget(LEND_TAKE(world->peer));
}

static void end_halves(struct halves *it)
{
    it->world.owner.region = NULL;
    end_world_of(&it->world);
}

static void test_regions_of_one_call_that_touch_are_opened_as_one(void **state)
{
    struct halves it = make_halves(true);
    struct lend_error error = {0};
    char path[32];

    (void)state;
    meet(&it.world); /* one peer all along, so that what is open stays so */
    struct lend_peer *first = it.world.peer;
    for (int i = 0; i < 2; i++) {
        read_half(&it, i, path, sizeof path);
        assert_string_equal(path, "local/cuda");
    }
    assert_int_equal(fake_cuda_calls("cuMemImportFromShareableHandle"), TOUCHED);
    check(withdraw_region(&it.world, it.regions[0], &error), &error);
    expect_nothing_open(&it.world, CHUNK_COUNT + 1);
    read_half(&it, 1, path, sizeof path);
    assert_string_equal(path, "local/staged");
    lend_peer_forget(first);
    end_halves(&it);
}

static void test_regions_that_share_a_chunk_are_taken_back_with_each_other(void **state)
{
    struct halves it = make_halves(false);
    struct lend_error error = {0};
    char path[32];

    (void)state;
    meet(&it.world);
    struct lend_peer *first = it.world.peer;
    for (int i = 0; i < 2; i++) {
        read_half(&it, i, path, sizeof path);
        assert_string_equal(path, "local/cuda");
    }
    /* The chunk in the middle is open twice: it must be closed by both. */
    assert_int_equal(fake_cuda_calls("cuMemImportFromShareableHandle"), TOUCHED + 1);
    enum lend_status status = LEND_E_BUSY;
    for (int i = 0; i < STEPS_MAX && status == LEND_E_BUSY; i++) {
        status = lend_region_suspend(it.regions[0], LEND_WITHDRAW_FORCE, 0, &error);
        step(&it.world);
    }
    check(status, &error);
    expect_nothing_open(&it.world, CHUNK_COUNT + 1);
    read_half(&it, 1, path, sizeof path);
    assert_string_equal(path, "local/staged");
    check(lend_region_resume(it.regions[0], NULL, -1, 0, &error), &error);
    for (int i = 0; i < 2; i++) {
        read_half(&it, i, path, sizeof path);
        assert_string_equal(path, "local/cuda");
    }
    check(withdraw_region(&it.world, it.regions[0], &error), &error);
    expect_nothing_open(&it.world, CHUNK_COUNT + 1);
    /* That half is its owner's for good. */
    check(lend_region_deregister(it.regions[0], &error), &error);
    read_half(&it, 1, path, sizeof path);
    assert_string_equal(path, "local/staged");
    lend_peer_forget(first);
    end_halves(&it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_kinds_are_opened_once_and_copied_from_gpu_to_gpu),
        cmocka_unit_test(test_what_has_no_handle_is_refused_with_its_place_and_the_remedy),
        cmocka_unit_test(test_whatever_the_driver_refuses_is_staged_and_leaves_nothing_open),
        cmocka_unit_test(test_a_driver_that_does_not_close_leaves_the_owner_waiting),
        cmocka_unit_test(test_what_is_wanted_back_while_it_is_opened_is_closed),
        cmocka_unit_test(test_other_memory_in_place_of_a_chunk_is_not_handed_over),
        cmocka_unit_test(test_what_an_owner_says_of_its_chunks_is_not_believed),
        cmocka_unit_test(test_more_chunks_than_a_share_has_room_for_are_refused),
        cmocka_unit_test(test_two_allocations_that_touch_are_not_one),
        cmocka_unit_test(test_regions_of_one_call_that_touch_are_opened_as_one),
        cmocka_unit_test(test_regions_that_share_a_chunk_are_taken_back_with_each_other),
    };

    if (is_without_pidfds())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
