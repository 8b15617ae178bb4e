/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_GPU_H
#define LEND_TOOL_GPU_H

#include <lend/memory.h>

/*
 * Memory of GPU 0, or pinned for it, as an engine has it: by the CUDA driver alone, which is opened
 * by its name when it is first wanted. lend has no part in it: it is what lend is told of later.
 *
 * All of it is for the one thread that allocates first, and no process that has called it may fork.
 * Every copy and every fill is over when it returns, gpu_copy() excepted. Where the driver says no
 * to one, its context has broken down: the process says so, and ends.
 */

/* "" until something was allocated. */
const char *gpu_name(void);

/* kind is LEND_MEMORY_DEVICE or LEND_MEMORY_PINNED. LEND_E_UNSUPPORTED: there is no driver, or no
 * GPU; LEND_E_NO_MEMORY: not so much memory. */
enum lend_status gpu_allocate(uint32_t kind, size_t bytes, unsigned char **out,
                              struct lend_error *error);
void gpu_free(uint32_t kind, unsigned char *memory);

/* From the host's memory to the GPU's, and back. */
void gpu_put(unsigned char *to, const void *from, size_t bytes);
void gpu_get(void *to, const unsigned char *from, size_t bytes);
void gpu_set(unsigned char *to, int byte, size_t bytes);
/* Within the GPU; gpu_finish() waits for it. */
void gpu_copy(unsigned char *to, const unsigned char *from, size_t bytes);
void gpu_finish(void);

#endif
