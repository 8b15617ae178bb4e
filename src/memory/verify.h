/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_VERIFY_H
#define LEND_MEMORY_VERIFY_H

#include <lend/memory.h>

#include "memory/device.h"
#include "memory/maps.h"

/* What registration wants to know of a piece of external memory. */
struct lend_verify {
    struct lend_memory memory;
    bool needs_write;    /* it will be lent for writing */
    bool wants_device;   /* of device memory: fill in device, too */
    uint64_t buffer_id;  /* out: the driver's id of the allocation; 0 for host memory */
    uint64_t allocation; /* out: base address of the device allocation; 0 for host memory */
    struct lend_device_memory *device; /* out: owned by the caller; NULL for host memory */
    enum lend_status status;           /* out */
    struct lend_error error;           /* out: filled if status is a failure */
};

/*
 * Ask the kernel, or the driver, whether each description is true. One look at the kernel's list of
 * mappings serves all of the host ones; who keeps it open says so, others give NULL. Returns the
 * first failure, or LEND_OK. LEND_E_MEMORY, LEND_E_UNSUPPORTED, LEND_E_SYSTEM, LEND_E_DEVICE,
 * LEND_E_NO_MEMORY.
 */
enum lend_status lend_memory_verify(struct lend_maps *maps, struct lend_verify *items,
                                    uint32_t count);

/* Look at the numbers of a description alone. LEND_E_INVALID, LEND_E_VERSION. */
enum lend_status lend_memory_check(const struct lend_memory *memory, struct lend_error *error);

#endif
