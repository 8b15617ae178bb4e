/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_CONFORMANCE_GPU_H
#define LEND_TESTS_CONFORMANCE_GPU_H

#include <stddef.h>
#include <stdint.h>

/*
 * The GPU of which a battery has memory: the fake one that is linked to it (gpu_fake.c), or GPU 0
 * of whichever libcuda.so.1 the loader finds (tests/hw/battery.c). An engine's side of it, of which
 * lend knows nothing; each function is for any thread, and leaves its context as it was or current.
 */

/* A pair begins, before its processes part: a driver survives no fork. */
void battery_gpu_begin(void);
/* Each process allocates for itself, and may be given an address that the other has as well. */
uint64_t battery_gpu_allocate(size_t bytes);
void battery_gpu_free(uint64_t address);
/* It is there, or here, when they return. */
void battery_gpu_put(uint64_t to, const void *from, size_t bytes);
void battery_gpu_get(void *to, uint64_t from, size_t bytes);
/* The pair has ended, and holds nothing of the driver. */
void battery_gpu_end(void);

#endif
