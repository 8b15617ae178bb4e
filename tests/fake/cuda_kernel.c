/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "fake/cuda_inside.h"
#include "memory/cuda.h"
#include "memory/kernel.h"

#include <stdlib.h>
#include <string.h>

/*
 * Of the fake CUDA driver: code. It knows one kernel, by its name, and does by hand what that is
 * to do: tests/unit/kernel_test.py carries out the text itself. The table is read when the copies
 * are made, and not when the kernel is launched, as by a GPU.
 */

enum { INVALID_PTX = 218 };

int cuModuleLoadData(void **out_module, const void *text)
{
    int result = fake_cuda_enter("cuModuleLoadData");

    if (result != 0)
        return result;
    if (strstr(text, ".version ") != text || strstr(text, ".entry lend_copy_pieces(") == NULL)
        return INVALID_PTX;
    *out_module = malloc(1);
    fake_cuda_keep(1);
    return LEND_CUDA_SUCCESS;
}

int cuModuleUnload(void *module)
{
    int result = fake_cuda_enter("cuModuleUnload");

    if (result != 0)
        return result;
    free(module);
    fake_cuda_keep(-1);
    return LEND_CUDA_SUCCESS;
}

int cuModuleGetFunction(void **out_function, void *module, const char *name)
{
    int result = fake_cuda_enter("cuModuleGetFunction");

    if (result != 0)
        return result;
    if (strcmp(name, "lend_copy_pieces") != 0)
        return LEND_CUDA_ERROR_NOT_FOUND;
    *out_function = module;
    return LEND_CUDA_SUCCESS;
}

int cuLaunchKernel(void *function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z,
                   unsigned threads_x, unsigned threads_y, unsigned threads_z,
                   unsigned shared_bytes, void *stream, void **arguments, void **extra)
{
    int result = fake_cuda_enter("cuLaunchKernel");
    struct fake_cuda_launch launch;

    if (result != 0)
        return result;
    if (function == NULL || blocks_x == 0 || blocks_y != 1 || blocks_z != 1 || threads_x == 0 ||
        threads_x % 32 != 0 || threads_x > 1024 || threads_y != 1 || threads_z != 1 ||
        shared_bytes != 0 || extra != NULL)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    memcpy(&launch.table, arguments[0], sizeof launch.table);
    memcpy(&launch.count, arguments[1], sizeof launch.count);
    return fake_cuda_put_launch(&launch, stream);
}

/* Where the bytes of one end are; NULL: the GPU does not reach all of them. */
static uint8_t *reach(uint64_t address, uint64_t bytes)
{
    uint8_t *inside = fake_cuda_reach_locked(address, bytes);

    if (inside == NULL && fake_cuda_is_pinned_locked(address, bytes))
        inside = (uint8_t *)(uintptr_t)address;
    return inside;
}

bool fake_cuda_run_locked(const struct fake_cuda_launch *launch)
{
    const struct lend_kernel_piece *pieces = (const void *)(uintptr_t)launch->table;

    if (!fake_cuda_is_pinned_locked(launch->table, launch->count * sizeof *pieces))
        return false;
    for (uint32_t i = launch->count; i > 0; i--) { /* in no order that anybody may count on */
        const struct lend_kernel_piece *piece = &pieces[i - 1];
        uint8_t *to = reach(piece->to, piece->bytes), *from = reach(piece->from, piece->bytes);

        if (to == NULL || from == NULL)
            return false;
        memcpy(to, from, piece->bytes);
    }
    return true;
}

int fake_cuda_count_rows_locked(const struct fake_cuda_launch *launch, uint64_t base,
                                uint64_t length_bytes)
{
    const struct lend_kernel_piece *pieces = (const void *)(uintptr_t)launch->table;
    int count = 0;

    for (uint32_t i = 0; i < launch->count; i++)
        count += pieces[i].from >= base && pieces[i].from - base < length_bytes;
    return count;
}
