/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BENCH_H
#define LEND_BENCH_H

#include <lend/lend.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What the benchmark of the served path shares: two processes, the owner and the reader, which
 * measures; and the memory that both have, divided in several ways.
 */

#define NS_PER_S UINT64_C(1000000000)

enum { LAYOUTS_MAX = 8, HELLO_BYTES_MAX = 16384 };

/* One way to divide the memory: a region of its own, found by its name. */
struct layout {
    const char *name;
    uint64_t block_bytes;
    uint64_t block_count;
};

extern const struct layout layouts[];
extern const uint32_t layout_count;

/* The bytes that all layouts have room in. */
uint64_t memory_bytes(void);

/* What one process tells the other by the pair of sockets between them. */
enum order {
    ORDER_ECHO = 1, /* send the next `count` notifications back */
    ORDER_END,      /* revoke and withdraw `count` times, and report the medians */
    ORDER_QUIT,
};
struct command {
    uint32_t order;
    uint32_t count;
};
struct end_report {
    uint64_t revoke_ns;
    uint64_t withdraw_ns;
};

/* An agent's metadata and a ticket for all of its regions, from the owner; metadata alone, from the
 * reader. */
struct hello {
    size_t metadata_bytes;
    size_t ticket_bytes;
    unsigned char metadata[HELLO_BYTES_MAX];
    unsigned char ticket[LEND_TICKET_BYTES_MAX];
};

/* pair.c */
void check(enum lend_status status, const struct lend_error *error);
void say(int fd, const void *bytes, size_t count);
void hear(int fd, void *bytes, size_t count);
uint64_t now_ns(void);
uint64_t median(uint64_t *samples, size_t count);
/* Memory of that many bytes, every page of it touched. */
unsigned char *take_memory(uint64_t bytes, unsigned char fill);
struct lend_agent *open_agent(const char *name, uint32_t ring_bytes);
/* Register the memory once in each layout. */
void register_layouts(struct lend_agent *agent, unsigned char *memory, uint32_t access,
                      struct lend_region **out);
void export_metadata(struct lend_agent *agent, struct hello *out);

/* owner.c: the owner's whole life. Never returns. */
_Noreturn void be_owner(int fd, uint32_t ring_bytes);

#endif
