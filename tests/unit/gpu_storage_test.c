/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: storage of a GPU is made so that every path is open to it, and pinned storage lies next to
 * its GPU; where that cannot be it is the next best, and says so; and memory of a caller's is
 * pinned where it is. Method: the fake driver (tests/fake/cuda.c), which is told what its GPUs can
 * have, and what fails. Nothing here shows what a GPU does.
 */
#include "staged_world.h"

static void test_storage_of_a_gpu_is_zeroed_and_lent_like_other_memory(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_region_desc part = LEND_REGION_DESC_INIT;
    struct world world = make_world("loopback", true, true);
    struct lend_transfer_record record;
    struct lend_storage *storage = NULL;
    struct lend_error error = {0};

    (void)state;
    desc.kind = LEND_MEMORY_DEVICE;
    desc.length_bytes = BYTES;
    check(lend_storage_create(&desc, &storage, &error), &error);
    uint64_t address = (uint64_t)(uintptr_t)lend_storage_address(storage);
    assert_int_equal(lend_storage_fd(storage), -1);
    uint8_t *bytes = fake_cuda_bytes(address);
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(bytes[i], 0);
    check(lend_storage_describe(storage, 0, BYTES, &part, &error), &error);
    assert_int_equal(part.memory.kind, LEND_MEMORY_DEVICE);
    assert_int_equal(part.flags, 0); /* consent is for its owner to give */
    part.geometry.block_length_bytes = BLOCK;
    part.geometry.count = BLOCKS;
    part.access = LEND_ACCESS_READ;
    part.flags = LEND_REGION_SHARE_DEVICE; /* which it can have */
    check(lend_region_register(world.owner.agent, &part, 1, &world.owner.region, NULL, &error),
          &error);
    lend_peer_forget(world.peer);
    meet(&world);
    struct memory before = world.owner.memory;
    world.owner.memory.bytes = bytes;
    begin(&world, LEND_READ);
    check(finish(&world, &record, &error), &error);
    expect_moved(&world, LEND_READ);
    world.owner.memory = before;
    check(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, MINUTE, &error), &error);
    lend_storage_destroy(storage);
    assert_null(fake_cuda_bytes(address));
    end_world(&world);
}

static void test_storage_that_is_pinned_is_the_hosts(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_region_desc part = LEND_REGION_DESC_INIT;
    struct world world = make_world("loopback", false, false);
    struct lend_storage *storage = NULL;
    struct lend_error error = {0};

    (void)state;
    desc.kind = LEND_MEMORY_PINNED;
    desc.length_bytes = 5000;
    check(lend_storage_create(&desc, &storage, &error), &error);
    uint8_t *bytes = lend_storage_address(storage);
    for (size_t i = 0; i < lend_storage_length_bytes(storage); i++)
        assert_int_equal(bytes[i], 0);
    bytes[4999] = 7;
    check(lend_storage_describe(storage, 4096, 904, &part, &error), &error);
    assert_int_equal(part.memory.kind, LEND_MEMORY_PINNED);
    assert_int_equal(part.memory.address, (uintptr_t)bytes + 4096);
    lend_storage_destroy(storage);
    end_world(&world);
}

/* What it is made of, if that attribute of the GPU is so, and that call fails. */
static void expect_note(uint32_t kind, int attribute, int value, const char *fails,
                        const char *expected)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct world world = make_world("loopback", false, false);
    struct lend_storage *storage = NULL;
    struct lend_error error = {0};

    desc.kind = kind;
    desc.length_bytes = 50000;
    desc.device = 1;
    fake_cuda_attribute(attribute, value);
    if (fails != NULL)
        fake_cuda_fail_nth(fails, 0, LEND_CUDA_ERROR_NOT_SUPPORTED);
    check(lend_storage_create(&desc, &storage, &error), &error);
    assert_non_null(strstr(lend_storage_note(storage), expected));
    uint64_t address = (uint64_t)(uintptr_t)lend_storage_address(storage);
    const uint8_t *bytes =
        kind == LEND_MEMORY_DEVICE ? fake_cuda_bytes(address) : (const uint8_t *)address;
    for (size_t i = 0; i < 50000; i++)
        assert_int_equal(bytes[i], 0);
    lend_storage_destroy(storage);
    end_world(&world);
}

static void test_storage_is_what_its_gpu_can_have_and_says_what_that_is(void **state)
{
    (void)state;
    expect_note(LEND_MEMORY_DEVICE, 0, 0, NULL,
                "by cuMemCreate, for file descriptors, and for RDMA");
    expect_note(LEND_MEMORY_DEVICE, LEND_CUDA_DEVICE_RDMA_CHUNKS, 0, NULL, "not for RDMA");
    expect_note(LEND_MEMORY_DEVICE, LEND_CUDA_DEVICE_HAS_FABRIC, 1, NULL,
                "descriptors and fabrics");
    expect_note(LEND_MEMORY_DEVICE, LEND_CUDA_DEVICE_HAS_FABRIC, 1, "cuMemCreate",
                "for file descriptors, and for RDMA");
    expect_note(LEND_MEMORY_DEVICE, LEND_CUDA_DEVICE_HAS_CHUNKS, 0, NULL,
                "cuMemAlloc, as GPU 1 has no virtual memory");
    expect_note(LEND_MEMORY_DEVICE, LEND_CUDA_DEVICE_HAS_FD, 0, NULL,
                "exports no file descriptors");
    static const char *const fail[] = {"cuMemGetAllocationGranularity", "cuMemCreate",
                                       "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess"};
    for (size_t i = 0; i < sizeof fail / sizeof fail[0]; i++)
        expect_note(LEND_MEMORY_DEVICE, 0, 0, fail[i], "cuMemAlloc, as ");
    expect_note(LEND_MEMORY_PINNED, 0, 0, NULL, "on no certain node: its driver does not say");
    expect_note(LEND_MEMORY_PINNED, LEND_CUDA_DEVICE_HOST_NUMA_ID, 63, NULL,
                "binding to NUMA node 63");
    /* What mbind() is not allowed in, as in a container, is no node's. */
    expect_note(LEND_MEMORY_PINNED, LEND_CUDA_DEVICE_HOST_NUMA_ID, 0, NULL, "node");
    expect_note(LEND_MEMORY_PINNED, LEND_CUDA_DEVICE_HOST_NUMA_ID, 0, "cuMemHostRegister",
                "on no certain node");
}

static void test_memory_of_ours_is_pinned_where_it_is(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct world world = make_world("loopback", false, false);
    struct lend_storage *storage = NULL;
    struct lend_region_desc part = LEND_REGION_DESC_INIT;
    struct lend_error error = {0};
    uint8_t *ours = malloc(5000);

    (void)state;
    assert_non_null(ours);
    memset(ours, 7, 5000);
    desc.kind = LEND_MEMORY_PINNED;
    desc.memory = ours;
    desc.length_bytes = 5000;
    check(lend_storage_create(&desc, &storage, &error), &error);
    assert_int_equal(fake_cuda_calls("cuMemHostRegister"), 1);
    assert_ptr_equal(lend_storage_address(storage), ours);
    assert_int_equal(lend_storage_length_bytes(storage), 5000); /* and no byte more */
    assert_int_equal(ours[4999], 7);
    check(lend_storage_describe(storage, 4096, 904, &part, &error), &error);
    assert_int_equal(part.memory.kind, LEND_MEMORY_PINNED);
    lend_storage_destroy(storage);
    assert_int_equal(fake_cuda_calls("cuMemHostUnregister"), 1);
    assert_int_equal(ours[0], 7);
    storage = NULL;
    fake_cuda_fail_nth("cuMemHostRegister", 0, 712);
    assert_int_equal(lend_storage_create(&desc, &storage, &error), LEND_E_INVALID);
    assert_non_null(strstr(error.message, "pinned already"));
    fake_cuda_fail_nth("cuMemHostRegister", 0, LEND_CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(lend_storage_create(&desc, &storage, &error), LEND_E_DEVICE);
    desc.flags = LEND_STORAGE_ON_NODE; /* it is where it is */
    assert_int_equal(lend_storage_create(&desc, &storage, &error), LEND_E_INVALID);
    desc.flags = 0;
    desc.kind = LEND_MEMORY_DEVICE;
    assert_int_equal(lend_storage_create(&desc, &storage, &error), LEND_E_INVALID);
    /* Who was compiled before there was such a thing has no such field. */
    desc.kind = LEND_MEMORY_PINNED;
    desc.struct_size = offsetof(struct lend_storage_desc, memory);
    check(lend_storage_create(&desc, &storage, &error), &error);
    assert_ptr_not_equal(lend_storage_address(storage), ours);
    lend_storage_destroy(storage);
    assert_null(lend_storage_note(NULL));
    free(ours);
    end_world(&world);
}

static void test_storage_of_a_driver_that_fails_leaves_nothing(void **state)
{
    static const char *const functions[] = {
        "cuMemAlloc",    "cuMemsetD8Async",          "cuStreamCreate",
        "cuEventCreate", "cuDevicePrimaryCtxRetain",
    };
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct world world = make_world("loopback", false, false);
    struct lend_storage *storage = NULL;
    struct lend_error error = {0};

    (void)state;
    desc.length_bytes = 4096;
    desc.kind = LEND_MEMORY_DISK;
    assert_int_equal(lend_storage_create(&desc, &storage, &error), LEND_E_INVALID);
    desc.kind = LEND_MEMORY_DEVICE;
    desc.device = 5;
    assert_int_equal(lend_storage_create(&desc, &storage, &error), LEND_E_DEVICE);
    desc.device = 1;
    desc.flags = LEND_STORAGE_ON_NODE;
    assert_int_equal(lend_storage_create(&desc, &storage, &error), LEND_E_INVALID);
    desc.flags = 0;
    fake_cuda_attribute(LEND_CUDA_DEVICE_HAS_CHUNKS, 0);
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        fake_cuda_fail(functions[i], LEND_CUDA_ERROR_NOT_FOUND);
        assert_int_equal(lend_storage_create(&desc, &storage, &error), LEND_E_DEVICE);
        fake_cuda_fail(functions[i], 0);
    }
    fake_cuda_fail("cuMemAlloc", LEND_CUDA_ERROR_OUT_OF_MEMORY);
    assert_int_equal(lend_storage_create(&desc, &storage, &error), LEND_E_NO_MEMORY);
    assert_non_null(strstr(error.message, "GPU 1"));
    assert_null(storage);
    end_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_storage_of_a_gpu_is_zeroed_and_lent_like_other_memory),
        cmocka_unit_test(test_storage_that_is_pinned_is_the_hosts),
        cmocka_unit_test(test_storage_is_what_its_gpu_can_have_and_says_what_that_is),
        cmocka_unit_test(test_memory_of_ours_is_pinned_where_it_is),
        cmocka_unit_test(test_storage_of_a_driver_that_fails_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
