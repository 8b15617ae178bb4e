/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_BORROWER_H
#define LEND_TOOL_BORROWER_H

#include "tool/cache.h"
#include "tool/endpoint.h"

#include <lend/transfer.h>

enum { BORROWER_PATHS_BYTES = 256 };

/* The reader's half: a cache of its own to pull into, and what it knows of one owner. */
struct borrower {
    struct lend_agent *agent;
    struct cache cache;
    struct lend_region *regions[MODEL_REGIONS_MAX];
    /* That READs and WRITEs may take, NULL: any; into the names. */
    const char *read_paths, *write_paths;
    char path_names[2][BORROWER_PATHS_BYTES];
    struct lend_peer *owner;
    uint64_t connect_ns; /* within the last borrower_import(); 0: it did not */
    uint32_t owner_block_count;
    struct lend_transfer *read;
    struct lend_transfer *write;
    struct lend_ticket *ticket;
};

/* What its transfers may take, with commas: those that end in /write are for WRITEs; a direction of
 * which none is named may take any. NULL: both may. LEND_E_INVALID: too many. */
enum lend_status borrower_take_paths(struct borrower *borrower, const char *paths,
                                     struct lend_error *error);

/* Map a cache of the endpoint's model and kind of memory, and register its regions, for this
 * agent's own use alone. */
enum lend_status borrower_furnish(struct borrower *borrower, const struct endpoint *endpoint,
                                  uint32_t block_count, struct lend_error *error);

/* Import an owner's metadata, in place of what was known before, and prepare transfers of at most
 * block_count_max blocks of each region. With paths to insist on it connects first. */
enum lend_status borrower_import(struct borrower *borrower, const void *bytes, size_t count,
                                 struct lend_error *error);

/* Import a ticket, in place of the one before. */
enum lend_status borrower_take_ticket(struct borrower *borrower, const void *bytes, size_t count,
                                      struct lend_error *error);

/* What to move: the blocks `local` of every region of ours, and `remote` of the owner's. */
struct move {
    uint32_t direction; /* a lend_direction */
    bool is_canceled;   /* after cancel_after_ns */
    uint64_t cancel_after_ns;
    uint64_t timeout_ns;
    const int32_t *local;
    const int32_t *remote;
    uint32_t count;
    const char *notification;        /* for the owner, after the data; NULL for none */
    void (*on_begin)(void *context); /* called just before the post; NULL for nothing */
    void *context;
};

/* What became of it. */
struct outcome {
    int32_t status;      /* how it ended */
    bool is_refused;     /* by the post itself */
    uint64_t begun_ns;   /* by now_ns() */
    uint64_t elapsed_ns; /* from just before the post until we knew */
    uint64_t quiet_ns;   /* from the cancel until it was quiet */
    struct lend_transfer_record record;
    char text[240]; /* why it failed, or "" */
};

void borrower_move(struct borrower *borrower, const struct move *move, struct outcome *out);

/* End the agent and free all. */
void borrower_close(struct borrower *borrower);

#endif
