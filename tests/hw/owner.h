/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_HW_OWNER_H
#define LEND_TESTS_HW_OWNER_H

#include "reader.h"

/* The owner of the hardware tests: what it lends of GPU 0, and what it has the reader do. */

#define PATIENCE_NS UINT64_C(20000000000)

/* Something lent. */
struct loan {
    uint64_t device; /* where it is in the GPU's memory, */
    uint8_t *host;   /* or in the host's */
    uint64_t bytes;
    uint8_t *copy;                   /* of its bytes */
    struct lend_storage *storage;    /* of which it is; NULL: it is the driver's */
    void (*give)(struct loan *loan); /* back to where it is from; NULL: it was */
    struct lend_region *region;
    struct lend_lease *lease;
    struct lend_error error;
};

/* Allocated by the driver, and filled; and given back, with what lend has of it. */
struct loan loan_make(uint64_t bytes);
void loan_release(struct loan *loan);
/* Its pattern; and whether every second block has it. */
void loan_fill(struct loan *loan, uint32_t seed);
void loan_look(struct loan *loan); /* what it has, into its copy */
bool loan_is_filled(struct loan *loan, uint32_t seed, uint64_t block_bytes);
/* Registered and leased; and withdrawn, released and deregistered. */
enum lend_status loan_enroll(struct lend_agent *agent, struct loan *loan, uint64_t block_bytes,
                             uint32_t flags);
enum lend_status loan_grant(struct lend_agent *agent, struct loan *loan);
enum lend_status loan_give_back(struct loan *loan);
/* Tell the reader of the region and the lease, as they are now. */
enum lend_status loan_prepare(struct lend_agent *agent, struct loan *loan, struct order *order);

/* Begin its process, before a driver is opened: none survives a fork. */
void reader_begin(const char *program, const char *directory);
struct answer reader_ask(const struct order *order);
void reader_end(void);

#endif
