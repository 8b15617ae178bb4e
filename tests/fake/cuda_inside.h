/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FAKE_CUDA_INSIDE_H
#define LEND_TESTS_FAKE_CUDA_INSIDE_H

#include "fake/cuda.h"

#include <stdbool.h>

/* What the files of the fake CUDA driver share. */

enum { FAKE_CUDA_ALLOCATIONS_MAX = 2500 };

/* Count a call of a function that needs a context; what it fails with, or 0. */
int fake_cuda_enter(const char *name);
/* And of one that needs none. */
int fake_cuda_enter_anywhere(const char *name);

void fake_cuda_lock(void);
void fake_cuda_unlock(void);
struct fake_cuda_allocation *fake_cuda_find_locked(uint64_t pointer);
bool fake_cuda_add_locked(const struct fake_cuda_allocation *allocation);
void fake_cuda_remove_locked(struct fake_cuda_allocation *allocation);
/* A copy between any two of what a processor reaches, and what a GPU does. */
int fake_cuda_put_one(uint64_t to, uint64_t from, size_t bytes, void *stream);
/* The same, of as many allocations as there are side by side. */
int fake_cuda_put(uint64_t to, uint64_t from, size_t bytes, void *stream);
/* Something was made that is to be given back; or was (-1). */
void fake_cuda_keep(int more);
/* Where a GPU has those bytes, which are its own; NULL: it has not all of them in one place. */
uint8_t *fake_cuda_reach_locked(uint64_t pointer, size_t bytes);
/* Is all of it memory of the host that was allocated to be pinned, and not given back? */
bool fake_cuda_is_pinned_locked(uint64_t address, size_t bytes);

/* A kernel that was launched, and where it finds what to copy. */
struct fake_cuda_launch {
    uint64_t table;
    uint32_t count;
};

int fake_cuda_put_launch(const struct fake_cuda_launch *launch, void *stream);
/* Copy. False: an address that a GPU does not reach, which ends its context. */
bool fake_cuda_run_locked(const struct fake_cuda_launch *launch);
/* How many of its copies read from there. */
int fake_cuda_count_rows_locked(const struct fake_cuda_launch *launch, uint64_t base,
                                uint64_t length_bytes);
/* Copies that are under way, and read from it. */
int fake_cuda_count_reading_locked(const struct fake_cuda_allocation *allocation);

/* The GPU whose context is current. */
int fake_cuda_ordinal(void);
/* One that no allocation of any process has. */
uint64_t fake_cuda_next_id(void);

void fake_cuda_reset_openings(void);
void fake_cuda_reset_remote(void);
/* What NICs have written is there, on that GPU; < 0: on all. */
void fake_cuda_arrive_locked(int ordinal);
void fake_cuda_reset_chunks(void);
/* What of the driver's chunks that attribute tells. */
int fake_cuda_chunk_attribute(int attribute);
/* The addresses are nobody's any more, and were opened by cuMemPoolImportPointer(). */
bool fake_cuda_close_imported_locked(uint64_t pointer);
/* Copies of it that are under way when it is closed are torn. */
void fake_cuda_note_torn_locked(const struct fake_cuda_allocation *allocation);
void fake_cuda_reset_pinned(void);

#endif
