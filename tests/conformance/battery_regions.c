/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: regions are what their owner said, or are refused with the reason and nothing changed.
 * Method: one agent of the pair, its memory known to the byte; what is registered is described and
 * compared, what is refused is looked for afterwards.
 */
#include "pair.h"

#include <sys/mman.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 16, ALL = LEND_ACCESS_READ | LEND_ACCESS_WRITE };

static struct lend_region_desc desc_of(const struct pair *pair, const void *memory, uint64_t bytes)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_error error = {0};

    EXPECT(pair_describe(pair, memory, bytes, &desc.memory, &error), LEND_OK, &error);
    desc.geometry.block_length_bytes = bytes >= BLOCK ? BLOCK : bytes;
    desc.geometry.count = bytes / desc.geometry.block_length_bytes;
    desc.access = ALL;
    return desc;
}

static struct lend_region_desc some_memory(struct pair *pair, uint64_t bytes)
{
    return desc_of(pair, pair_memory(pair, PAIR_READER, bytes), bytes);
}

static struct lend_region_info describe(const struct lend_region *region)
{
    struct lend_region_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};

    EXPECT(lend_region_describe(region, &info, &error), LEND_OK, &error);
    return info;
}

/* How many regions of the reader its metadata offers: what a failed call must not have changed. */
static uint32_t offered(struct pair *pair)
{
    static uint8_t bytes[256 << 10];
    struct lend_peer_info info = {.struct_size = sizeof info};
    struct lend_peer *self = NULL;
    struct lend_error error = {0};
    size_t count = 0;

    EXPECT(lend_metadata_export(pair->reader, bytes, sizeof bytes, &count, &error), LEND_OK,
           &error);
    EXPECT(lend_peer_import(pair->reader, bytes, count, &self, &error), LEND_OK, &error);
    EXPECT(lend_peer_describe(self, &info, &error), LEND_OK, &error);
    lend_peer_forget(self);
    return info.region_count;
}

static enum lend_status register_one(struct pair *pair, const struct lend_region_desc *desc,
                                     struct lend_region **out, struct lend_error *error)
{
    return lend_region_register(pair->reader, desc, 1, out, NULL, error);
}

static void refuse(struct pair *pair, const struct lend_region_desc *desc, enum lend_status wanted)
{
    struct lend_region *untouched = (struct lend_region *)(void *)pair, *region = untouched;
    struct lend_error error = {0};

    EXPECT(register_one(pair, desc, &region, &error), wanted, &error);
    assert_ptr_equal(region, untouched);
    assert_int_equal(offered(pair), 0);
}

static void test_registered_region_is_described_as_registered(void **state)
{
    struct pair *pair = *state;
    struct lend_region_desc desc = some_memory(pair, BLOCK * BLOCKS);
    struct lend_region *region = NULL;
    struct lend_memory memory = {.struct_size = sizeof memory};
    struct lend_transfer_descriptor descriptor;
    struct lend_error error = {0};

    desc.name = "layers.0.k";
    desc.tags = "model=a dtype=bf16";
    EXPECT(lend_memory_descriptor(&desc.memory, &descriptor, &error), LEND_E_ABSENT, &error);
    EXPECT(register_one(pair, &desc, &region, &error), LEND_OK, &error);

    struct lend_region_info info = describe(region);
    assert_string_equal(info.name, "layers.0.k");
    assert_string_equal(info.tags, "model=a dtype=bf16");
    assert_int_equal(info.access, ALL);
    assert_int_equal(info.id, lend_region_id(region));
    assert_true(info.id != 0);
    assert_int_equal(info.geometry.block_length_bytes, BLOCK);
    assert_int_equal(info.geometry.stride_bytes, BLOCK);
    assert_int_equal(info.geometry.count, BLOCKS);
    assert_int_equal(info.geometry.inner_count, 1);
    assert_int_equal(info.is_withdrawn, 0);
    assert_int_equal(info.is_shared, 0);

    EXPECT(lend_region_memory(region, &memory, &error), LEND_OK, &error);
    assert_int_equal(memory.is_registered, 1);
    assert_int_equal(lend_memory_address(&memory), desc.memory.address);
    EXPECT(lend_memory_descriptor(&memory, &descriptor, &error), LEND_OK, &error);
    assert_int_equal(descriptor.address, desc.memory.address);
    assert_int_equal(descriptor.length_bytes, BLOCK * BLOCKS);
    assert_int_equal(descriptor.memory_type,
                     pair_is_device(pair) ? LEND_MEMORY_TYPE_VRAM : LEND_MEMORY_TYPE_DRAM);
    assert_int_equal(offered(pair), 1);

    EXPECT(lend_region_deregister(region, &error), LEND_OK, &error);
    assert_int_equal(offered(pair), 0);
}

static void test_region_without_geometry_is_one_block(void **state)
{
    struct pair *pair = *state;
    struct lend_region_desc desc = some_memory(pair, 1000);
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    memset(&desc.geometry, 0, sizeof desc.geometry);
    EXPECT(register_one(pair, &desc, &region, &error), LEND_OK, &error);

    struct lend_region_info info = describe(region);
    assert_int_equal(info.geometry.block_length_bytes, 1000);
    assert_int_equal(info.geometry.count, 1);
    assert_int_equal(info.geometry.inner_count, 1);
}

static void test_withdrawn_region_is_offered_no_more(void **state)
{
    struct pair *pair = *state;
    struct lend_region_desc desc = some_memory(pair, BLOCK);
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    EXPECT(register_one(pair, &desc, &region, &error), LEND_OK, &error);
    EXPECT(lend_region_withdraw(region, LEND_WITHDRAW_DRAIN, 0, &error), LEND_OK, &error);
    assert_int_equal(describe(region).is_withdrawn, 1);
    assert_int_equal(offered(pair), 0);
    EXPECT(lend_region_withdraw(region, LEND_WITHDRAW_FORCE, 0, &error), LEND_OK, &error);
    EXPECT(lend_region_deregister(region, &error), LEND_OK, &error);
}

static void test_returned_region_is_refused_everywhere(void **state)
{
    struct pair *pair = *state;
    struct lend_region_desc desc = some_memory(pair, BLOCK);
    struct lend_region *region = NULL;
    struct lend_region_info info = {.struct_size = sizeof info};
    struct lend_memory memory = {.struct_size = sizeof memory};
    struct lend_error error = {0};

    EXPECT(register_one(pair, &desc, &region, &error), LEND_OK, &error);
    EXPECT(lend_region_deregister(region, &error), LEND_OK, &error);

    EXPECT(lend_region_deregister(region, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_withdraw(region, LEND_WITHDRAW_FORCE, 0, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_describe(region, &info, &error), LEND_E_INVALID, &error);
    EXPECT(lend_region_memory(region, &memory, &error), LEND_E_INVALID, &error);
    assert_int_equal(lend_region_id(region), 0);
}

static void test_many_regions_are_registered_all_or_none(void **state)
{
    struct pair *pair = *state;
    uint8_t *memory = pair_memory(pair, PAIR_READER, 3 * BLOCK);
    struct lend_region_desc descs[3];
    struct lend_region *regions[3] = {NULL, NULL, NULL};
    int32_t results[3] = {9, 9, 9};
    struct lend_error error = {0};

    for (size_t index = 0; index < 3; index++)
        descs[index] = desc_of(pair, memory + index * BLOCK, BLOCK);
    descs[1].geometry.count = 2; /* one too many */

    EXPECT(lend_region_register(pair->reader, descs, 3, regions, results, &error), LEND_E_INVALID,
           &error);
    assert_int_equal(results[0], LEND_OK);
    assert_int_equal(results[1], LEND_E_INVALID);
    assert_int_equal(results[2], LEND_OK);
    SAYS(&error, "1");
    assert_null(regions[0]);
    assert_null(regions[2]);
    assert_int_equal(offered(pair), 0);

    descs[1].geometry.count = 1;
    EXPECT(lend_region_register(pair->reader, descs, 3, regions, results, &error), LEND_OK, &error);
    for (size_t index = 0; index < 3; index++) {
        assert_int_equal(results[index], LEND_OK);
        assert_int_equal(describe(regions[index]).memory.address,
                         pair_address(pair, memory + index * BLOCK));
    }
    assert_int_equal(offered(pair), 3);
}

/* Register good memory and pages of which one is unmapped, between as many mapped ones. Another
 * thread may map something just there (a sanitizer's allocator does): then it is tried again
 * elsewhere. */
static enum lend_status register_a_hole(struct pair *pair, size_t around, int32_t *results,
                                        uint8_t **out_hole, struct lend_error *error)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = page * (2 * around + 1);
    struct lend_region_desc descs[2] = {some_memory(pair, BLOCK)};

    for (int attempt = 0; attempt < 100; attempt++) {
        struct lend_region *regions[2] = {NULL, NULL};
        unsigned char is_resident;
        uint8_t *memory =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_true(memory != MAP_FAILED);
        *out_hole = memory + around * page;
        assert_int_equal(munmap(*out_hole, page), 0);
        descs[1] = desc_of(pair, memory, bytes);
        enum lend_status status =
            lend_region_register(pair->reader, descs, 2, regions, results, error);
        bool is_taken = mincore(*out_hole, page, &is_resident) == 0;
        if (around > 0) {
            assert_int_equal(munmap(memory, around * page), 0);
            assert_int_equal(munmap(*out_hole + page, around * page), 0);
        }
        if (!is_taken)
            return status;
        for (size_t i = 0; status == LEND_OK && i < 2; i++)
            EXPECT(lend_region_deregister(regions[i], error), LEND_OK, error);
    }
    fail_msg("every page that was unmapped was mapped again at once");
    return LEND_OK;
}

static void test_memory_that_fails_verification_has_its_own_result(void **state)
{
    struct pair *pair = *state;
    int32_t results[2] = {9, 9};
    struct lend_error error = {0};
    uint8_t *hole;

    EXPECT(register_a_hole(pair, 1, results, &hole, &error), LEND_E_MEMORY, &error);
    assert_int_equal(results[0], LEND_OK);
    assert_int_equal(results[1], LEND_E_MEMORY);

    /* The message has the first address that is wrong. */
    char bad[32];
    (void)snprintf(bad, sizeof bad, "%llx", (unsigned long long)(uintptr_t)hole);
    SAYS(&error, bad);
    assert_int_equal(offered(pair), 0);
}

static void test_memory_needs_the_rights_it_is_lent_with(void **state)
{
    struct pair *pair = *state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *memory = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct lend_region_desc desc;
    struct lend_region *region = NULL;
    struct lend_error error = {0};
    int32_t results[2];
    uint8_t *hole;

    assert_true(memory != MAP_FAILED);
    desc = desc_of(pair, memory, page);
    refuse(pair, &desc, LEND_E_MEMORY);
    desc.access = LEND_ACCESS_READ;
    EXPECT(register_one(pair, &desc, &region, &error), LEND_OK, &error);
    EXPECT(lend_region_deregister(region, &error), LEND_OK, &error);

    assert_int_equal(mprotect(memory, page, PROT_NONE), 0);
    refuse(pair, &desc, LEND_E_MEMORY);
    assert_int_equal(munmap(memory, page), 0);
    EXPECT(register_a_hole(pair, 0, results, &hole, &error), LEND_E_MEMORY, &error);
    assert_int_equal(offered(pair), 0);
}

static void test_duplicate_and_view_share_and_partial_overlap_is_refused(void **state)
{
    struct pair *pair = *state;
    uint8_t *memory = pair_memory(pair, PAIR_READER, BLOCK * BLOCKS);
    struct lend_region_desc desc = desc_of(pair, memory + BLOCK, BLOCK * 8);
    struct lend_region *first = NULL, *same = NULL, *view = NULL, *partial = NULL;
    struct lend_error error = {0};

    desc.name = "the first";
    EXPECT(register_one(pair, &desc, &first, &error), LEND_OK, &error);
    desc.name = "the same again";
    EXPECT(register_one(pair, &desc, &same, &error), LEND_OK, &error);
    assert_int_equal(describe(same).is_shared, 1);
    assert_true(lend_region_id(same) != lend_region_id(first));

    desc = desc_of(pair, memory + BLOCK * 2, BLOCK * 3);
    desc.name = "the view";
    EXPECT(register_one(pair, &desc, &view, &error), LEND_OK, &error);
    assert_int_equal(describe(view).is_shared, 1);

    desc = desc_of(pair, memory, BLOCK * 4);
    EXPECT(register_one(pair, &desc, &partial, &error), LEND_E_OVERLAP, &error);
    SAYS(&error, "region the ");
    assert_null(partial);
    desc = desc_of(pair, memory + BLOCK * 7, BLOCK * 9);
    EXPECT(register_one(pair, &desc, &partial, &error), LEND_E_OVERLAP, &error);

    desc.flags = LEND_REGION_ALLOW_OVERLAP;
    EXPECT(register_one(pair, &desc, &partial, &error), LEND_OK, &error);
    assert_int_equal(describe(partial).is_shared, 0);

    /* The sharer outlives what it shares. */
    EXPECT(lend_region_deregister(first, &error), LEND_OK, &error);
    assert_int_equal(describe(view).memory.length_bytes, BLOCK * 3);
    EXPECT(lend_region_deregister(view, &error), LEND_OK, &error);
    EXPECT(lend_region_deregister(same, &error), LEND_OK, &error);
    EXPECT(lend_region_deregister(partial, &error), LEND_OK, &error);
    assert_int_equal(offered(pair), 0);
}

static void test_regions_of_one_call_that_overlap_are_refused(void **state)
{
    struct pair *pair = *state;
    uint8_t *memory = pair_memory(pair, PAIR_READER, BLOCK * 4);
    struct lend_region_desc descs[2] = {desc_of(pair, memory, BLOCK * 2),
                                        desc_of(pair, memory + BLOCK, BLOCK * 2)};
    struct lend_region *regions[2] = {NULL, NULL};
    int32_t results[2] = {9, 9};
    struct lend_error error = {0};

    EXPECT(lend_region_register(pair->reader, descs, 2, regions, results, &error), LEND_E_OVERLAP,
           &error);
    assert_true(results[0] == LEND_E_OVERLAP || results[1] == LEND_E_OVERLAP);
    assert_int_equal(offered(pair), 0);
}

static void test_name_that_is_taken_is_free_again_after_deregister(void **state)
{
    struct pair *pair = *state;
    uint8_t *memory = pair_memory(pair, PAIR_READER, BLOCK * 2);
    struct lend_region_desc one = desc_of(pair, memory, BLOCK),
                            two = desc_of(pair, memory + BLOCK, BLOCK);
    struct lend_region *first = NULL, *second = NULL;
    struct lend_error error = {0};

    one.name = two.name = "taken";
    EXPECT(register_one(pair, &one, &first, &error), LEND_OK, &error);
    EXPECT(register_one(pair, &two, &second, &error), LEND_E_INVALID, &error);
    SAYS(&error, "taken");
    EXPECT(lend_region_deregister(first, &error), LEND_OK, &error);
    EXPECT(register_one(pair, &two, &second, &error), LEND_OK, &error);
}

struct count {
    int retained;
    int released;
};

static void retain(void *token)
{
    ((struct count *)token)->retained++;
}

static void release(void *token)
{
    ((struct count *)token)->released++;
}

static void test_owner_token_is_retained_and_released_once(void **state)
{
    struct pair *pair = *state;
    struct lend_region_desc desc = some_memory(pair, BLOCK);
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_region *region = NULL;
    struct lend_agent *agent = NULL;
    struct count count = {0, 0};
    struct lend_error error = {0};

    desc.owner = (struct lend_owner){.token = &count, .retain = retain, .release = release};
    desc.geometry.inner_stride_bytes = 1; /* rows that overlap */
    desc.geometry.inner_count = 2;
    refuse(pair, &desc, LEND_E_INVALID);
    assert_int_equal(count.retained, count.released);

    count = (struct count){0, 0};
    desc.geometry.inner_stride_bytes = 0;
    desc.geometry.inner_count = 0;
    EXPECT(register_one(pair, &desc, &region, &error), LEND_OK, &error);
    assert_int_equal(count.retained, 1);
    EXPECT(lend_region_withdraw(region, LEND_WITHDRAW_FORCE, 0, &error), LEND_OK, &error);
    EXPECT(lend_region_deregister(region, &error), LEND_OK, &error);
    assert_int_equal(count.retained, 1);
    assert_int_equal(count.released, 1);

    config.name = "short-lived";
    pair_name_transports(pair, &config);
    config.local_directory = pair->directory;
    EXPECT(lend_agent_create(&config, &agent, &error), LEND_OK, &error);
    EXPECT(lend_region_register(agent, &desc, 1, &region, NULL, &error), LEND_OK, &error);
    lend_agent_destroy(agent);
    assert_int_equal(count.retained, 2);
    assert_int_equal(count.released, 2);
}

static void test_impossible_geometry_is_refused(void **state)
{
    static const struct lend_geometry impossible[] = {
        {.block_length_bytes = BLOCK, .count = BLOCKS + 1},
        {.block_length_bytes = 0, .count = 3},
        {.block_length_bytes = BLOCK, .count = 0, .stride_bytes = BLOCK},
        {.block_length_bytes = BLOCK, .count = 4, .stride_bytes = BLOCK - 1},
        {.block_length_bytes = BLOCK, .count = 2, .stride_bytes = UINT64_MAX - 10},
        {.block_length_bytes = UINT64_MAX, .count = 2},
        {.block_length_bytes = 1, .count = LEND_REGION_BLOCKS_MAX + 1},
        {.block_length_bytes = BLOCK, .count = UINT64_MAX / BLOCK + 2},
        {.block_length_bytes = BLOCK, .count = 2, .inner_count = 2, .inner_stride_bytes = 1},
        {.block_length_bytes = BLOCK,
         .count = 2,
         .inner_count = UINT64_MAX,
         .inner_stride_bytes = BLOCK * 2},
        {.block_length_bytes = 1,
         .count = 1,
         .inner_count = LEND_REGION_ROWS_MAX + 1,
         .inner_stride_bytes = 1},
        {.block_length_bytes = BLOCK,
         .count = 8,
         .inner_count = 2,
         .inner_stride_bytes = BLOCK * 9},
        /* Neither do blocks follow one another, nor do rows cover all of them. */
        {.block_length_bytes = BLOCK,
         .count = 4,
         .stride_bytes = BLOCK,
         .inner_count = 2,
         .inner_stride_bytes = BLOCK * 2},
    };
    struct pair *pair = *state;
    struct lend_region_desc desc = some_memory(pair, BLOCK * BLOCKS);

    for (size_t index = 0; index < sizeof impossible / sizeof impossible[0]; index++) {
        struct lend_region *region = NULL;
        struct lend_error error = {0};

        desc.geometry = impossible[index];
        if (register_one(pair, &desc, &region, &error) != LEND_E_INVALID)
            fail_msg("geometry %zu: %s", index, error.message);
        assert_true(error.message[0] != '\0');
        assert_null(region);
    }
    assert_int_equal(offered(pair), 0);
}

static void test_region_with_a_live_lease_is_busy(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct lend_error error = {0};

    EXPECT(owner_deregister(pair, loan.region, &error), LEND_E_BUSY, &error);
    EXPECT(owner_withdraw(pair, loan.region, LEND_WITHDRAW_DRAIN, SECONDS / 100, &error),
           LEND_E_BUSY, &error);

    /* Withdrawn for new work all the same. */
    struct lend_block_set set = {.regions = &loan.region, .region_count = 1};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_lease *lease = NULL;

    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = SECONDS;
    EXPECT(owner_grant(pair, &grant, &lease, &error), LEND_E_REVOKED, &error);

    EXPECT(owner_revoke(pair, loan.lease, &error), LEND_OK, &error);
    EXPECT(owner_withdraw(pair, loan.region, LEND_WITHDRAW_DRAIN, SECONDS, &error), LEND_OK,
           &error);
    EXPECT(owner_deregister(pair, loan.region, &error), LEND_OK, &error);
    drop(&loan);
}

static void test_force_ends_every_lease_of_the_region(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_lease_info info = {0};
    struct lend_error error = {0};

    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_OK);
    EXPECT(owner_withdraw(pair, loan.region, LEND_WITHDRAW_FORCE, 5 * SECONDS, &error), LEND_OK,
           &error);
    EXPECT(owner_describe_lease(pair, loan.lease, &info), LEND_OK, NULL);
    assert_int_equal(info.status, LEND_E_REVOKED);
    assert_int_equal(read_blocks(pair, &local, &loan, BLOCKS), LEND_E_REVOKED);
    EXPECT(owner_deregister(pair, loan.region, &error), LEND_OK, &error);
    memory_set(loan.memory, 0xEE, loan.bytes); /* the owner's alone */

    enum lend_status late = read_blocks(pair, &local, &loan, BLOCKS);
    assert_true(late == LEND_E_REVOKED || late == LEND_E_STALE || late == LEND_E_UNKNOWN);
    drop(&loan);
}

static void test_punching_out_is_of_files_alone(void **state)
{
    struct pair *pair = *state;
    struct lend_region_desc desc = some_memory(pair, BLOCK);

    desc.flags = LEND_REGION_PUNCH_OUT;
    refuse(pair, &desc, LEND_E_INVALID);
    desc.flags = UINT32_C(1) << 31;
    refuse(pair, &desc, LEND_E_INVALID);
}

static void two_regions(struct lend_agent_config *config, bool is_owner)
{
    (void)is_owner;
    config->regions_max = 2;
}

static void test_limit_of_regions_is_named(void **state)
{
    struct pair *pair = pair_make(battery_current, two_regions);
    uint8_t *memory = pair_memory(pair, PAIR_READER, BLOCK * 3);
    struct lend_region_desc descs[3] = {desc_of(pair, memory, BLOCK),
                                        desc_of(pair, memory + BLOCK, BLOCK),
                                        desc_of(pair, memory + BLOCK * 2, BLOCK)};
    struct lend_region *regions[3] = {NULL, NULL, NULL};
    struct lend_error error = {0};

    (void)state;
    EXPECT(lend_region_register(pair->reader, descs, 3, regions, NULL, &error), LEND_E_LIMIT,
           &error);
    SAYS(&error, "2");
    assert_int_equal(offered(pair), 0);
    EXPECT(lend_region_register(pair->reader, descs, 2, regions, NULL, &error), LEND_OK, &error);
    EXPECT(register_one(pair, &descs[2], &regions[2], &error), LEND_E_LIMIT, &error);
    EXPECT(lend_region_deregister(regions[0], &error), LEND_OK, &error);
    EXPECT(register_one(pair, &descs[2], &regions[2], &error), LEND_OK, &error);
    pair_free(pair);
}

/* Many are entered by address; what comes out is in the caller's order all the same. */
static void test_many_regions_in_any_order_keep_the_callers(void **state)
{
    enum { COUNT = 600 };
    static struct lend_region_desc descs[COUNT];
    static struct lend_region *regions[COUNT];
    static char names[COUNT][16];
    const struct pair *pair = *state;
    struct lend_error error = {0};
    uint8_t *memory = pair_memory(*state, PAIR_READER, COUNT * 64);

    for (int order = 0; order < 3; order++) {
        for (uint64_t i = 0; i < COUNT; i++) {
            uint64_t at = order == 0 ? i : order == 1 ? COUNT - 1 - i : i * 7 % COUNT;

            descs[i] = desc_of(pair, memory + at * 64, 64);
            (void)snprintf(names[i], sizeof names[i], "r%d.%u", order, (unsigned)i);
            descs[i].name = names[i];
        }
        EXPECT(lend_region_register(pair->reader, descs, COUNT, regions, NULL, &error), LEND_OK,
               &error);
        for (uint64_t i = 0; i < COUNT; i++) {
            struct lend_region_info info = {.struct_size = sizeof info};

            EXPECT(lend_region_describe(regions[i], &info, &error), LEND_OK, &error);
            assert_string_equal(info.name, names[i]);
            assert_true(info.memory.address == descs[i].memory.address);
            assert_true(i == 0 || info.id == lend_region_id(regions[i - 1]) + 1);
        }
        /* One that is wrong takes back all. */
        descs[COUNT / 2].memory.address += 32;
        for (uint64_t i = 0; i < COUNT; i++)
            EXPECT(lend_region_deregister(regions[i], &error), LEND_OK, &error);
        EXPECT(lend_region_register(pair->reader, descs, COUNT, regions, NULL, &error),
               LEND_E_OVERLAP, &error);
    }
    descs[COUNT / 2] = descs[COUNT / 2 - 1];
    descs[COUNT / 2].name = names[COUNT / 2];
    EXPECT(lend_region_register(pair->reader, descs, COUNT, regions, NULL, &error), LEND_OK,
           &error);
    for (uint64_t i = COUNT; i > 0; i--)
        EXPECT(lend_region_deregister(regions[i - 1], &error), LEND_OK, &error);
}

const struct CMUnitTest *battery_regions(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_many_regions_in_any_order_keep_the_callers),
        PAIRED(test_registered_region_is_described_as_registered),
        PAIRED(test_region_without_geometry_is_one_block),
        PAIRED(test_withdrawn_region_is_offered_no_more),
        PAIRED(test_returned_region_is_refused_everywhere),
        PAIRED(test_many_regions_are_registered_all_or_none),
        PAIRED(test_memory_that_fails_verification_has_its_own_result),
        PAIRED(test_memory_needs_the_rights_it_is_lent_with),
        PAIRED(test_duplicate_and_view_share_and_partial_overlap_is_refused),
        PAIRED(test_regions_of_one_call_that_overlap_are_refused),
        PAIRED(test_name_that_is_taken_is_free_again_after_deregister),
        PAIRED(test_owner_token_is_retained_and_released_once),
        PAIRED(test_impossible_geometry_is_refused),
        PAIRED(test_region_with_a_live_lease_is_busy),
        PAIRED(test_force_ends_every_lease_of_the_region),
        cmocka_unit_test(test_limit_of_regions_is_named),
        PAIRED(test_punching_out_is_of_files_alone),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
