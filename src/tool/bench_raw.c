/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include "tool/trouble.h"

#include <limits.h>
#include <string.h>
#include <sys/uio.h>

/* The same pieces by raw means: what there is to gain or to lose. */

double raw_copy_in(const struct pieces *pieces, unsigned char *to, const unsigned char *from,
                   uint32_t times)
{
    uint64_t bytes = pieces->block_bytes;
    uint64_t began = now_ns();

    for (uint32_t t = 0; t < times; t++) {
        for (uint64_t i = 0; i < pieces->count; i++)
            memcpy(to + (uint64_t)pieces->local[i] * bytes,
                   from + (uint64_t)pieces->remote[i] * bytes, bytes);
        __asm__ volatile("" : : "r"(to) : "memory"); /* every time counts */
    }
    return (double)(now_ns() - began) / times;
}

double raw_copy_out(const struct pieces *pieces, unsigned char *to, const unsigned char *from,
                    uint32_t times)
{
    const struct pieces turned = {
        .block_bytes = pieces->block_bytes,
        .count = pieces->count,
        .local = pieces->remote,
        .remote = pieces->local,
    };

    return raw_copy_in(&turned, to, from, times);
}

/* The pieces from `first` on, as many as one call takes. False: not all were moved. */
static bool cross(const struct borrowing *borrowing, uint32_t direction,
                  const struct pieces *pieces, uint64_t first)
{
    static struct iovec local[IOV_MAX], remote[IOV_MAX];
    uint64_t count = pieces->count - first < IOV_MAX ? pieces->count - first : IOV_MAX;
    uintptr_t theirs = (uintptr_t)borrowing->hello.address;
    uint64_t bytes = pieces->block_bytes;

    for (uint64_t i = 0; i < count; i++) {
        local[i] = (struct iovec){
            borrowing->memory + (uint64_t)pieces->local[first + i] * bytes,
            bytes,
        };
        remote[i] = (struct iovec){
            (void *)(theirs + (uint64_t)pieces->remote[first + i] * bytes),
            bytes,
        };
    }
    ssize_t moved = direction == LEND_READ
                        ? process_vm_readv(borrowing->pair.other, local, count, remote, count, 0)
                        : process_vm_writev(borrowing->pair.other, local, count, remote, count, 0);
    return moved == (ssize_t)(count * bytes);
}

void raw_cross(struct samples *samples, const struct borrowing *borrowing, uint32_t direction,
               const struct pieces *pieces)
{
    uint64_t began = now_ns();

    for (uint64_t first = 0; first < pieces->count; first += IOV_MAX)
        if (!cross(borrowing, direction, pieces, first))
            return;
    samples_add(samples, (double)(now_ns() - began));
}
