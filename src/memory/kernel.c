/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/kernel.h"

#include "memory/cuda.h"

#define NAME "lend_copy_pieces"

_Static_assert(LEND_KERNEL_TABLES <= 32, "a bit for each table");
_Static_assert(sizeof(struct lend_kernel_piece) == 24, "as the kernel steps over them");

static int load(struct lend_kernel *kernel, const struct lend_cuda_ops *cuda, const char **out_what)
{
    void *tables = NULL;
    int result;

    *out_what = "cuModuleLoadData";
    result = cuda->module_load(&kernel->module, lend_kernel_ptx);
    if (result != LEND_CUDA_SUCCESS) {
        kernel->module = NULL;
        return result;
    }
    *out_what = "cuModuleGetFunction";
    result = cuda->module_find(&kernel->function, kernel->module, NAME);
    if (result != LEND_CUDA_SUCCESS)
        return result;
    *out_what = "cuMemHostAlloc";
    result = cuda->host_allocate(
        &tables, LEND_KERNEL_TABLES * LEND_KERNEL_PIECES_MAX * sizeof *kernel->tables,
        LEND_CUDA_HOST_PORTABLE);
    if (result == LEND_CUDA_SUCCESS)
        kernel->tables = tables;
    return result;
}

int lend_kernel_load(struct lend_kernel *kernel, const struct lend_cuda_ops *cuda,
                     const char **out_what)
{
    int result = load(kernel, cuda, out_what);

    if (result != LEND_CUDA_SUCCESS)
        lend_kernel_unload(kernel, cuda);
    return result;
}

void lend_kernel_unload(struct lend_kernel *kernel, const struct lend_cuda_ops *cuda)
{
    /* Relaxed: whoever gave a table back is done with the agent. */
    if (kernel->module == NULL || atomic_load_explicit(&kernel->taken, memory_order_relaxed) != 0)
        return;
    (void)cuda->module_unload(kernel->module); /* what is not unloaded ends with the context */
    if (kernel->tables != NULL)
        (void)cuda->host_free(kernel->tables);
    kernel->module = NULL;
    kernel->tables = NULL;
}

static uint32_t take(struct lend_kernel *kernel)
{
    /* Acquire: whoever had it before has seen its work end. */
    uint32_t taken = atomic_load_explicit(&kernel->taken, memory_order_relaxed);

    while (taken != UINT32_MAX) {
        uint32_t first = (uint32_t)__builtin_ctz(~taken);

        if (atomic_compare_exchange_weak_explicit(&kernel->taken, &taken,
                                                  taken | UINT32_C(1) << first,
                                                  memory_order_acquire, memory_order_relaxed))
            return first + 1;
    }
    return 0;
}

static struct lend_kernel_piece *rows_of(const struct lend_kernel *kernel,
                                         const struct lend_kernel_table *table)
{
    return kernel->tables + (size_t)(table->number - 1) * LEND_KERNEL_PIECES_MAX + table->used;
}

struct lend_kernel_piece *lend_kernel_room(struct lend_kernel *kernel,
                                           struct lend_kernel_table *table, uint32_t count,
                                           uint32_t *out_count)
{
    uint32_t room = LEND_KERNEL_PIECES_MAX - table->used;

    *out_count = count < room ? count : room;
    if (!lend_kernel_is_there(kernel) || *out_count < LEND_KERNEL_PIECES_LEAST)
        return NULL;
    if (table->number == 0)
        table->number = take(kernel);
    return table->number != 0 ? rows_of(kernel, table) : NULL;
}

int lend_kernel_launch(struct lend_kernel *kernel, const struct lend_cuda_ops *cuda, void *stream,
                       struct lend_kernel_table *table, uint32_t count)
{
    const unsigned at_once = LEND_KERNEL_THREADS / 32;
    uint64_t rows = (uint64_t)(uintptr_t)rows_of(kernel, table);
    void *arguments[] = {&rows, &count};

    table->used += count; /* what was refused is not written over, either */
    int result = cuda->launch(kernel->function, (count + at_once - 1) / at_once, 1, 1,
                              LEND_KERNEL_THREADS, 1, 1, 0, stream, arguments, NULL);
    if (result == LEND_CUDA_ERROR_NOT_SUPPORTED)
        atomic_store_explicit(&kernel->is_off, true, memory_order_relaxed);
    return result;
}

void lend_kernel_give_back(struct lend_kernel *kernel, struct lend_kernel_table *table)
{
    if (table->number != 0) /* release: its work was seen to end */
        (void)atomic_fetch_and_explicit(&kernel->taken, ~(UINT32_C(1) << (table->number - 1)),
                                        memory_order_release);
    *table = (struct lend_kernel_table){0};
}
