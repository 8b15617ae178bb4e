/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_UNIT_VERBS_STUB_H
#define LEND_TESTS_UNIT_VERBS_STUB_H

/* The stage of the tests of registrations: two fake NICs, a store, memory of host and GPU. */

#include "base/sys.h"
#include "fake/cuda.h"
#include "fake/verbs.h"
#include "memory/cuda.h"
#include "transport/verbs/registration.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { PAGE = 4096, NICS = 2 };
#define DEVICE_BASE UINT64_C(0x7f0000200000)

static _Alignas(PAGE) uint8_t memory[16 * PAGE];
static uint8_t device_bytes[16 * PAGE];

struct stage {
    struct lend_verbs_nic *nics[NICS];
    struct lend_verbs_store *store;
    struct lend_error error;
};

static inline void open_nics(struct stage *stage)
{
    memset(stage, 0, sizeof *stage);
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, "fake0", &stage->nics[0], &stage->error),
                     LEND_OK);
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, "fake1", &stage->nics[1], &stage->error),
                     LEND_OK);
}

static inline void open_store(struct stage *stage)
{
    assert_int_equal(
        lend_verbs_store_open(&fake_verbs_ops, stage->nics, NICS, &stage->store, &stage->error),
        LEND_OK);
    fake_verbs.registrations = 0;
    fake_verbs.fail_at = -1;
}

static inline void close_nics(struct stage *stage)
{
    for (int i = 0; i < NICS; i++)
        assert_int_equal(lend_verbs_nic_close(stage->nics[i], &stage->error), LEND_OK);
    assert_int_equal(fake_verbs_kept(), 0);
}

static inline void close_stage(struct stage *stage)
{
    assert_int_equal(lend_verbs_store_close(stage->store, &stage->error), LEND_OK);
    close_nics(stage);
}

static inline int set_up(void **state)
{
    (void)state;
    fake_verbs_reset();
    fake_cuda_reset();
    lend_cuda = &fake_cuda_ops;
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    lend_cuda = NULL;
    lend_sys = &lend_sys_real;
    fake_cuda_reset();
    return 0;
}

static inline struct lend_verbs_memory host(uint32_t first, uint32_t pages, uint32_t rights)
{
    return (struct lend_verbs_memory){.address = (uintptr_t)memory + first * (uint64_t)PAGE,
                                      .bytes = pages * (uint64_t)PAGE,
                                      .kind = LEND_MEMORY_SYSTEM,
                                      .rights = rights};
}

static inline struct lend_verbs_memory within(struct lend_verbs_memory memory_, uint32_t pages)
{
    memory_.allocation_address = (uintptr_t)memory;
    memory_.allocation_bytes = pages * (uint64_t)PAGE;
    return memory_;
}

static inline struct lend_verbs_region *put(struct stage *stage, struct lend_verbs_memory what)
{
    struct lend_verbs_region *region = NULL;

    assert_int_equal(lend_verbs_region_register(stage->store, &what, &region, &stage->error),
                     LEND_OK);
    return region;
}

static inline enum lend_status refuse(struct stage *stage, struct lend_verbs_memory what)
{
    struct lend_verbs_region *region = NULL;
    enum lend_status status =
        lend_verbs_region_register(stage->store, &what, &region, &stage->error);

    assert_null(region);
    assert_int_equal(stage->error.status, status);
    return status;
}

static inline struct lend_verbs_keys keys_at(const struct lend_verbs_region *region, uint32_t nic,
                                             uint64_t address, uint64_t bytes)
{
    struct lend_verbs_keys keys = {0};

    assert_true(lend_verbs_region_keys(region, nic, address, bytes, &keys));
    assert_int_equal(keys.address, address);
    assert_true(keys.bytes > 0 && keys.bytes <= bytes);
    assert_int_equal(keys.rkey, keys.mr->rkey);
    return keys;
}

/* Does a NIC know that key still? */
static inline bool is_known(const struct stage *stage, uint32_t rkey)
{
    return fake_verbs_knows(stage->nics[0]->context, rkey) ||
           fake_verbs_knows(stage->nics[1]->context, rkey);
}

static inline struct lend_verbs_memory device(uint64_t offset, uint64_t bytes, uint32_t rights)
{
    return (struct lend_verbs_memory){.address = DEVICE_BASE + offset,
                                      .bytes = bytes,
                                      .kind = LEND_MEMORY_DEVICE,
                                      .rights = rights};
}

static inline void put_device_memory(void)
{
    fake_cuda_add(&(struct fake_cuda_allocation){.base = DEVICE_BASE,
                                                 .length_bytes = sizeof device_bytes,
                                                 .buffer_id = 7,
                                                 .type = LEND_CUDA_MEMORY_DEVICE,
                                                 .bytes = device_bytes});
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
