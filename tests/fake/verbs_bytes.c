/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "fake/verbs_objects.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The bytes that the fake's NICs move: of the host's memory, and, behind the addresses that they
 * were registered by, of the fake GPUs'. */

const struct fake_mr *fake_verbs_find_mr(uint32_t key)
{
    const struct fake_mr *it = fake_verbs_table.mrs;

    while (it != NULL && it->mr.rkey != key)
        it = it->next;
    return it;
}

bool fake_verbs_is_freed(const struct fake_mr *mr)
{
    uint64_t end;

    return mr != NULL && mr->device_id != 0 && fake_cuda_id(mr->device, &end) != mr->device_id;
}

static void move_bytes(uint8_t *to, const uint8_t *from, size_t count)
{
    const struct iovec source = {.iov_base = (void *)(uintptr_t)from, .iov_len = count};
    const struct iovec target = {.iov_base = to, .iov_len = count};

    if (!fake_verbs.is_beside)
        memmove(to, from, count);
    else if (syscall(SYS_process_vm_writev, getpid(), &source, 1L, &target, 1L, 0L) != (long)count)
        abort();
}

/* Where that region has the byte of that address in memory of a GPU; 0: it is the host's. */
static uint64_t device_at(const struct fake_mr *mr, uint64_t address)
{
    return mr != NULL && mr->device != 0 ? mr->device + (address - (uintptr_t)mr->mr.addr) : 0;
}

/* To memory of a GPU, or from there, no more at once than lies in one allocation. */
static void copy_device(const struct fake_reach *to, const struct fake_reach *from, size_t count)
{
    uint64_t source = device_at(from->mr, from->address), target = device_at(to->mr, to->address);
    uint8_t *bytes = malloc(count);

    for (size_t done = 0; done < count;) {
        uint64_t end = 0;
        size_t piece = count - done;
        const uint8_t *there = (const uint8_t *)(uintptr_t)(from->address + done);

        if (source != 0 && !fake_verbs_is_freed(from->mr)) {
            (void)fake_cuda_id(source + done, &end);
            piece = end - (source + done) < piece ? (size_t)(end - (source + done)) : piece;
            there = fake_cuda_remote_read(source + done);
        }
        if (source != 0 && fake_verbs_is_freed(from->mr))
            memset(bytes + done, 0xEE, piece);
        else
            move_bytes(bytes + done, there, piece);
        done += piece;
    }
    for (size_t done = 0; target != 0 && !fake_verbs_is_freed(to->mr) && done < count;) {
        uint64_t end = 0;

        (void)fake_cuda_id(target + done, &end);
        size_t left = end - (target + done), piece = left < count - done ? left : count - done;
        fake_cuda_remote_write(target + done, bytes + done, piece);
        done += piece;
    }
    if (target == 0)
        move_bytes((uint8_t *)(uintptr_t)to->address, bytes, count);
    free(bytes);
}

void fake_verbs_copy(const struct fake_reach *to, const struct fake_reach *from, size_t count)
{
    if (device_at(to->mr, to->address) != 0 || device_at(from->mr, from->address) != 0)
        copy_device(to, from, count);
    else
        move_bytes((uint8_t *)(uintptr_t)to->address, (const uint8_t *)(uintptr_t)from->address,
                   count);
}
