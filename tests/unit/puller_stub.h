/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PULLER_STUB_H
#define PULLER_STUB_H

/*
 * A process that owns memory for a puller to read, and reads that a test makes of it. Owner and
 * test are forked from one image, so that both know the addresses: what the test sees there are
 * zeros, the owner has filled its own. Programs that include it are built on their own.
 */

#include "base/sys.h"
#include "core/puller.h"
#include "core/slot.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum {
    OWNER_BYTES = 8 << 20,
    PAGE_BYTES = 4096,
    CHUNK_BYTES = 256 * 1024, /* the most that a call reads */
    GENERATION = 7,
    UNTOUCHED = 0xee,
};

struct owner {
    int pid;
    int socket; /* closes when the owner ends or is replaced by exec */
    uint8_t *memory;
    uint8_t *nonce_page; /* wiped in forked children */
    struct lend_process process;
};

/* What the owner does once it has filled its memory, by the byte that the test sends. */
typedef void owner_act(struct owner *owner, char command);

/* What an owner's memory holds; made before the first one is. */
static uint8_t pattern[OWNER_BYTES];

static inline void make_pattern(void)
{
    for (uint64_t i = 0; i < OWNER_BYTES; i++)
        pattern[i] = (uint8_t)((i * 0x9e3779b97f4a7c15U) >> 56);
}

static inline void fill_owner(struct owner *owner)
{
    memcpy(owner->memory, pattern, OWNER_BYTES);
    memcpy(owner->nonce_page, owner->process.nonce, LEND_NONCE_BYTES);
}

static inline void live_as_owner(struct owner *owner, int socket, owner_act *act)
{
    char command = 'r';

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    owner->socket = socket;
    fill_owner(owner);
    (void)!write(socket, &command, 1);
    while (read(socket, &command, 1) == 1)
        if (act != NULL)
            act(owner, command);
    _exit(0);
}

static inline void start_owner(struct owner *owner, owner_act *act)
{
    int sockets[2];
    void *nonce_page;
    char ready;

    if (pattern[1] == 0)
        make_pattern();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    owner->memory =
        mmap(NULL, OWNER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(owner->memory != MAP_FAILED);
    assert_int_equal(lend_sys_real.map_wiped(PAGE_BYTES, &nonce_page), 0);
    owner->nonce_page = nonce_page;
    assert_int_equal(lend_sys_real.random(owner->process.nonce, LEND_NONCE_BYTES), 0);
    owner->process.nonce_address = (uintptr_t)owner->nonce_page + 100;
    owner->nonce_page += 100;
    owner->pid = fork();
    assert_true(owner->pid >= 0);
    if (owner->pid == 0)
        live_as_owner(owner, sockets[1], act);
    (void)close(sockets[1]);
    owner->socket = sockets[0];
    owner->process.pid = owner->pid;
    assert_int_equal(read(owner->socket, &ready, 1), 1);
}

static inline void tell_owner(const struct owner *owner, char command)
{
    assert_int_equal(write(owner->socket, &command, 1), 1);
}

static inline void bury_owner(struct owner *owner)
{
    assert_int_equal(kill(owner->pid, SIGKILL), 0);
    assert_int_equal(waitpid(owner->pid, NULL, 0), owner->pid);
}

static inline void free_owner(struct owner *owner)
{
    (void)close(owner->socket);
    (void)munmap(owner->memory, OWNER_BYTES);
    (void)munmap(owner->nonce_page - 100, PAGE_BYTES);
}

static inline void end_owner(struct owner *owner)
{
    bury_owner(owner);
    free_owner(owner);
}

/* A READ of count blocks, which lie stride bytes apart at the owner's, to as many that touch here,
 * in an order of its own. */
struct reading {
    struct lend_pull pull;
    struct lend_extent from;
    struct lend_extent to;
    struct lend_run *from_runs;
    struct lend_run *to_runs;
    uint64_t count;
    uint64_t block_bytes;
    uint64_t stride_bytes;
    uint64_t first_byte; /* of the owner's memory */
    uint8_t *destination;
    _Atomic uint64_t word;
    sem_t is_done;
    atomic_int times_done;
};

static inline void reading_done(struct lend_pull *pull)
{
    struct reading *reading = (struct reading *)(void *)pull;

    atomic_fetch_add(&reading->times_done, 1);
    (void)sem_post(&reading->is_done);
}

static inline void make_reading(struct reading *reading, const struct owner *owner,
                                uint64_t first_byte, const uint64_t shape[3])
{
    memset(reading, 0, sizeof *reading);
    reading->count = shape[0];
    reading->block_bytes = shape[1];
    reading->stride_bytes = shape[2];
    reading->first_byte = first_byte;
    reading->from = (struct lend_extent){.address = (uintptr_t)owner->memory + first_byte,
                                         .row_bytes = shape[1],
                                         .stride_bytes = shape[2],
                                         .inner_count = 1};
    reading->destination = malloc(shape[0] * shape[1]);
    reading->from_runs = calloc(shape[0], sizeof *reading->from_runs);
    reading->to_runs = calloc(shape[0], sizeof *reading->to_runs);
    assert_true(reading->destination != NULL && reading->from_runs != NULL &&
                reading->to_runs != NULL);
    memset(reading->destination, UNTOUCHED, shape[0] * shape[1]);
    reading->to = (struct lend_extent){.address = (uintptr_t)reading->destination,
                                       .row_bytes = shape[1],
                                       .stride_bytes = shape[1],
                                       .inner_count = 1};
    for (uint64_t i = 0; i < shape[0]; i++) {
        reading->from_runs[i] = (struct lend_run){.first = (uint32_t)i, .count = 1};
        reading->to_runs[i] = (struct lend_run){.first = (uint32_t)i, .count = 1};
    }
    reading->pull.process = owner->process;
    reading->pull.total_bytes = shape[0] * shape[1];
    reading->pull.word = &reading->word;
    reading->pull.generation = GENERATION;
    reading->pull.done = reading_done;
    atomic_init(&reading->word, lend_slot_word(GENERATION, LEND_SLOT_LIVE));
    assert_int_equal(sem_init(&reading->is_done, 0, 0), 0);
}

/* Owner's blocks in a scattered order. */
static inline void permute(struct reading *reading)
{
    for (uint64_t i = reading->count; i > 1; i--) {
        uint64_t other = (i * 0x9e3779b97f4a7c15U >> 33) % i;
        struct lend_run taken = reading->from_runs[i - 1];

        reading->from_runs[i - 1] = reading->from_runs[other];
        reading->from_runs[other] = taken;
    }
}

static inline enum lend_status submit(struct lend_puller *puller, struct reading *reading)
{
    lend_cursor_init(&reading->pull.from, &reading->from, 1, reading->from_runs, reading->count);
    lend_cursor_init(&reading->pull.to, &reading->to, 1, reading->to_runs, reading->count);
    return lend_puller_submit(puller, &reading->pull, NULL);
}

static inline enum lend_status await(struct reading *reading)
{
    while (sem_wait(&reading->is_done) != 0)
        assert_int_equal(errno, EINTR);
    return reading->pull.status;
}

static inline enum lend_status read_through(struct lend_puller *puller, struct reading *reading)
{
    assert_int_equal(submit(puller, reading), LEND_OK);
    return await(reading);
}

/* The leading bytes are the owner's. */
static inline void assert_landed(const struct reading *reading, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += reading->block_bytes) {
        uint64_t block = reading->from_runs[at / reading->block_bytes].first;
        uint64_t left = bytes - at;

        assert_memory_equal(reading->destination + at,
                            pattern + reading->first_byte + block * reading->stride_bytes,
                            left < reading->block_bytes ? left : reading->block_bytes);
    }
}

static inline void assert_untouched(const struct reading *reading)
{
    const uint8_t *bytes = reading->destination;

    assert_int_equal(bytes[0], UNTOUCHED);
    assert_int_equal(memcmp(bytes, bytes + 1, reading->pull.total_bytes - 1), 0); /* all alike */
}

static inline void free_reading(struct reading *reading)
{
    (void)sem_destroy(&reading->is_done);
    free(reading->destination);
    free(reading->from_runs);
    free(reading->to_runs);
}

#endif
