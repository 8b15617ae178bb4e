/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_BENCH_PAIR_H
#define LEND_TOOL_BENCH_PAIR_H

#include "tool/bench.h"

#include <lend/lend.h>
#include <sys/types.h>

/*
 * Two processes: the one that measures, and another one that it has made; and the owner that lends
 * while the other borrows, as most sections have it.
 */

enum { BENCH_METADATA_MAX = 1 << 16, BENCH_LAYOUTS_MAX = 8 };

static const uint64_t bench_timeout_ns = 30 * BENCH_SECOND_NS;

/* --- two processes --- */

/* Each has one: the channel is to the other process. */
struct pair {
    int channel;
    pid_t other;
};

/* Make the other process: it runs live(), with the same context, and ends. */
void pair_begin(struct pair *pair, void (*live)(struct pair *pair, void *context), void *context);
/* Close the channel, and see the other process end well. */
void pair_end(struct pair *pair);
void pair_say(const struct pair *pair, const void *bytes, size_t count);
void pair_hear(const struct pair *pair, void *bytes, size_t count);
/* False: the other one has closed its end, and wants no more. */
bool pair_hears(const struct pair *pair, void *bytes, size_t count);

/* An agent of transport local, found through the abstract name space: no file is left behind. */
struct lend_agent *must_open_agent(const char *name, uint32_t flags);
/* A lease for any bearer on all blocks of some regions. */
struct lend_lease *must_grant(struct lend_agent *agent, struct lend_region *const *regions,
                              uint32_t count, uint32_t access);

/* --- memory to lend (bench_storage.c) --- */

/* lend's storage, so that each path can be had, with a pattern that tells every cell from others.
 */
struct lent {
    struct lend_storage *storage;
    unsigned char *address;
    uint64_t bytes;
};
void lent_open(struct lent *lent, uint64_t bytes);
void lent_describe(const struct lent *lent, struct lend_region_desc *desc, uint64_t bytes);
void lent_close(struct lent *lent);

/* --- lending and borrowing (bench_lending.c) --- */

/* One way to divide the memory: a region of its own, found by its name. */
struct layout {
    char name[24];
    uint64_t block_bytes;
    uint64_t block_count;
};

/* What both sides know before there are two. */
struct lending {
    struct layout layouts[BENCH_LAYOUTS_MAX];
    uint32_t layout_count;
    uint64_t bytes;                /* that all layouts have room in */
    const struct network *network; /* between the two; NULL: they are processes of one host */
};
void lending_add(struct lending *lending, uint64_t block_bytes, uint64_t block_count);

/* What the owner tells. */
struct hello {
    size_t metadata_bytes;
    size_t ticket_bytes;
    uint64_t address;  /* of its memory, in its own address space */
    int fd;            /* of its memory, by its own number */
    uint16_t raw_port; /* of its plain sockets, with a network */
    unsigned char metadata[BENCH_METADATA_MAX];
    unsigned char ticket[LEND_TICKET_BYTES_MAX];
};

/* The block numbers of both sides: pair i is local[i] and remote[i]. */
struct pieces {
    uint64_t block_bytes;
    uint64_t count;
    int32_t *local;
    int32_t *remote;
};
void pieces_scatter(struct pieces *pieces, uint64_t block_bytes, uint64_t count);
/* Neighbours follow one another on both sides. */
void pieces_line_up(struct pieces *pieces, uint64_t block_bytes, uint64_t count);
void pieces_free(struct pieces *pieces);

struct borrowing {
    struct lending lending;
    struct pair pair;
    struct hello hello;
    struct lend_agent *agent;
    struct lend_peer *owner;
    struct lend_ticket *ticket;
    struct lend_region *regions[BENCH_LAYOUTS_MAX];
    unsigned char *memory;     /* ours: what reads land in and writes come from */
    unsigned char *scratch;    /* where copies beside writes land */
    const unsigned char *seen; /* the owner's, mapped for reading by raw means */
    uint32_t generation;       /* of the last pattern that was written */
};

/* The paths that are measured, the one that always works first. */
enum { BENCH_PATHS = 3 };
extern const char *const bench_paths[BENCH_PATHS];

/* lending is set before; the owner's process is made here. */
void borrowing_begin(struct borrowing *borrowing);
void borrowing_end(struct borrowing *borrowing);
/* Forget the owner, and know it anew: what was mapped is mapped anew. */
void borrowing_meet_again(struct borrowing *borrowing);
/* Map the owner's memory anew for reading; give it back with munmap(). */
const unsigned char *borrowing_map(const struct borrowing *borrowing);

/* A transfer of one layout by one path. NULL: the path cannot be taken; why says why. */
struct lend_transfer *borrowing_prepare(struct borrowing *borrowing, uint32_t layout,
                                        uint32_t direction, const char *path,
                                        struct lend_error *why);
/* Post, wait, and see that it was a success. Returns the nanoseconds of both; out_post_ns may be
 * NULL. */
double borrowing_move(struct borrowing *borrowing, struct lend_transfer *transfer,
                      const struct pieces *pieces, double *out_post_ns);
/* Move once and compare every byte, and the path. How many bytes were right: all, or the program
 * ends. 0: it took another path; why says which. */
uint64_t borrowing_verify(struct borrowing *borrowing, struct lend_transfer *transfer,
                          uint32_t direction, const struct pieces *pieces, const char *path,
                          struct lend_error *why);

/* --- raw means (bench_raw.c) --- */

/* memcpy() from remote to local places, or the other way, so many times over (small ones are
 * shorter than a look at the clock). Returns the nanoseconds of one time. */
double raw_copy_in(const struct pieces *pieces, unsigned char *to, const unsigned char *from,
                   uint32_t times);
double raw_copy_out(const struct pieces *pieces, unsigned char *to, const unsigned char *from,
                    uint32_t times);
/* process_vm_readv() or process_vm_writev(), with as many pieces a call as there may be; adds
 * nothing where the kernel does not allow it. */
void raw_cross(struct samples *samples, const struct borrowing *borrowing, uint32_t direction,
               const struct pieces *pieces);

/* --- every path beside the raw means (bench_ways.c) --- */

enum { BENCH_DIRECTIONS = 2 };

/* A path and a direction. */
struct way {
    struct lend_transfer *transfer; /* NULL: it cannot be had */
    struct lend_error why;
    struct samples samples;
    uint64_t verified_bytes;
};

struct ways {
    struct way ways[BENCH_PATHS][BENCH_DIRECTIONS];
    struct samples copies[BENCH_DIRECTIONS];
    struct samples crossings[BENCH_DIRECTIONS];
};

/* Prepare and verify each. */
void ways_prepare(struct ways *ways, struct borrowing *borrowing, uint32_t layout,
                  const struct pieces *pieces);
/* One sample of each: the copy is the mean of `copies' in a row. */
void ways_take_turns(struct ways *ways, struct borrowing *borrowing, const struct pieces *pieces,
                     uint32_t copies);
/* A row of one way, but for its name, direction and raw peers. */
struct row *way_report(struct bench *bench, const char *section, struct way *way, const char *path,
                       const struct pieces *pieces);
/* BENCH_DIRECTIONS * BENCH_PATHS rows that follow one another, but for their names; the first.
 * Takes the samples. */
struct row *ways_report(struct bench *bench, const char *section, struct ways *ways,
                        const struct pieces *pieces);
void ways_release(struct ways *ways);

#endif
