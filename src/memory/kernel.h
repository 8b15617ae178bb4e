/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_KERNEL_H
#define LEND_MEMORY_KERNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A kernel of our own that copies many small pieces by one launch: within device memory, and
 * between that and pinned memory of the host, which a GPU reaches by the same address.
 *
 * What it is to copy stands in a table, which the GPU reads while it copies: a table is taken for a
 * launch, and given back when the work is known to be over. One whose end was never heard of is
 * never given back, and neither it nor the kernel's code is freed then.
 */

enum {
    LEND_KERNEL_BYTES_MAX = 16 << 10, /* of a piece that is small, */
    LEND_KERNEL_PIECES_LEAST = 8,     /* and of them, fewer are copied one by one: docs/cuda.md */
    LEND_KERNEL_PIECES_MAX = 1024,    /* that a table has room for */
    LEND_KERNEL_TABLES = 32,
    LEND_KERNEL_THREADS = 128, /* of a block, 32 for each piece */
};

struct lend_cuda_ops;

/* A row of a table, as the kernel reads it. */
struct lend_kernel_piece {
    uint64_t to;
    uint64_t from;
    uint64_t bytes;
};

struct lend_kernel {
    void *module; /* NULL: there is none */
    void *function;
    struct lend_kernel_piece *tables; /* pinned */
    _Atomic uint32_t taken;           /* a bit each */
    _Atomic bool is_off;              /* the driver has loaded it, and does not run it */
};

/* Part of a mark: the table that what is under way reads. */
struct lend_kernel_table {
    uint32_t number; /* from 1 on; 0: none */
    uint32_t used;
};

/* The text of the kernel, for the driver to translate. */
extern const char lend_kernel_ptx[];

/* Have the driver load it. Returns a CUresult, and on failure which call it is of; there is no
 * kernel then. This and the next two: with the context current. */
int lend_kernel_load(struct lend_kernel *kernel, const struct lend_cuda_ops *cuda,
                     const char **out_what);
void lend_kernel_unload(struct lend_kernel *kernel, const struct lend_cuda_ops *cuda);

/* Room for up to count pieces in the table, which is taken if there is none yet; NULL: there is
 * none, or no kernel. *out_count is never less than LEND_KERNEL_PIECES_LEAST. */
struct lend_kernel_piece *lend_kernel_room(struct lend_kernel *kernel,
                                           struct lend_kernel_table *table, uint32_t count,
                                           uint32_t *out_count);
/* Launch it for the next count pieces of the table, which were written there. A CUresult. */
int lend_kernel_launch(struct lend_kernel *kernel, const struct lend_cuda_ops *cuda, void *stream,
                       struct lend_kernel_table *table, uint32_t count);
/* All that was launched with it is over. */
void lend_kernel_give_back(struct lend_kernel *kernel, struct lend_kernel_table *table);

static inline bool lend_kernel_is_there(const struct lend_kernel *kernel)
{
    /* Relaxed: it orders nothing; module is set before anybody copies. */
    return kernel->module != NULL && !atomic_load_explicit(&kernel->is_off, memory_order_relaxed);
}

#endif
