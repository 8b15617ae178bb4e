/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_CONFORMANCE_PAIR_H
#define LEND_TESTS_CONFORMANCE_PAIR_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "battery.h"

enum { PAIR_SLOTS = 48, PAIR_SLOTS_SHARED = 2, PAIR_SLOT_BYTES = 2 << 20, PAIR_ENDS_MAX = 64 };

/* Whose something is. */
enum pair_end { PAIR_OWNER, PAIR_READER };

/*
 * A pair of agents: an owner that lends, and a reader in this process that pulls and pushes. The
 * owner lives beside it or in a process of its own, as the setup says; a test calls it through the
 * owner_... functions below, and cannot tell. What they are given by pointer within a description
 * must be literals, static data, or of the pair's arena, which both processes share.
 */
struct pair {
    const struct battery_setup *setup;
    struct pair_shared *shared;
    struct lend_agent *reader;
    struct lend_agent *owner; /* opaque where the owner is another process */
    struct lend_peer *peer;   /* the owner, as the reader knows it */
    uint32_t peer_references;
    uint8_t *arena;
    int slot_fds[PAIR_SLOTS]; /* the file of each slot of the arena, sealed */
    int child;
    int wire;
    char directory[64];
};

#define PAIR_PATIENCE_NS UINT64_C(20000000000)
#define SECONDS          UINT64_C(1000000000)

/* Changes a configuration before its agent is made; runs in the agent's process. */
typedef void pair_tweak(struct lend_agent_config *config, bool is_owner);

struct pair *pair_make(const struct battery_setup *setup, pair_tweak *tweak);
void pair_free(struct pair *pair);

/* Another reader of the same owner: use it as a pair, and end it before the pair. */
struct pair pair_join(struct pair *pair, const char *name);
void pair_leave(struct pair *joined);
/* As one that leaves without a word. */
void pair_die(struct pair *joined);

/* Have that done in the owner's process, which finds what it takes in the arena. */
void pair_at_owner(struct pair *pair, void (*work)(struct pair *pair));
/* Stop the owner's process, wholly, and let it go on. */
void pair_stop_owner(struct pair *pair);
void pair_continue_owner(struct pair *pair);

/* Where the memory of both comes from (arena.c), and a part of it that nobody has had. */
void pair_map_arena(struct pair *pair);
void pair_unmap_arena(struct pair *pair);
uint32_t pair_take_slot(struct pair *pair);
/* Memory for that end to lend, zeroed, with nothing right behind its last byte. Both ends see it,
 * by the memory_... functions alone: it may be a GPU's, and the pointer no more than a name. */
void *pair_memory(struct pair *pair, enum pair_end end, size_t bytes);
void memory_put(void *to, const void *from, uint64_t bytes);
void memory_get(void *to, const void *from, uint64_t bytes);
void memory_set(void *memory, int value, uint64_t bytes);
/* To be freed. */
uint8_t *memory_copy(const void *memory, uint64_t bytes);
/* Fails unless both have the same bytes. */
void same_at(const void *one, const void *other, uint64_t bytes, const char *file, int line);
#define EXPECT_SAME(one, other, bytes) same_at((one), (other), (bytes), __FILE__, __LINE__)
/* Is it memory of a GPU, that lend is given for it? The address that lend knows it by, and its
 * description. */
bool pair_is_device(const struct pair *pair);
uint64_t pair_address(const struct pair *pair, const void *memory);
enum lend_status pair_describe(const struct pair *pair, const void *memory, uint64_t bytes,
                               struct lend_memory *out, struct lend_error *error);

bool pair_is_manual(const struct pair *pair);
bool pair_is_apart(const struct pair *pair);
/* The owner serves reads; else the reader copies by itself, and needs nothing of an owner whose
 * lease it knows. */
bool pair_is_served(const struct pair *pair);
/* The owner's regions are shared for mapping. */
/* The transports of the setup, and what they want to be told. */
void pair_name_transports(const struct pair *pair, struct lend_agent_config *config);
/* Do reads land where they belong without a copy by their reader? */
bool pair_is_straight(const struct pair *pair);
bool pair_is_mapped(const struct pair *pair);
/* The reader's GPU copies out of what was opened. */
bool pair_is_opened(const struct pair *pair);
/* Either. */
bool pair_is_shared(const struct pair *pair);
/* For a lend_transfer_desc, where nothing more is wanted: the setup's paths if there is one that
 * must be named, else NULL. */
const char *pair_must_name(const struct pair *pair);
/* Is that the path of reads? */
bool pair_is_slow(const struct pair *pair);
/* The transport that carries the frames. */
const char *pair_carrier(const struct pair *pair);
/* The reader's NIC reads, and writes. */
bool pair_is_remote(const struct pair *pair);
/* The path that a transfer takes whose owner copies, */
const char *pair_served_path(const struct pair *pair);
/* and one in that direction. */
const char *pair_path(const struct pair *pair, uint32_t direction);
/* Connect ahead of use, whoever makes the progress. */
enum lend_status pair_connect(struct pair *pair, struct lend_error *error);
/* Progress of whatever needs it from this process. */
void pair_pump(struct pair *pair);
uint64_t pair_now_ns(void);

/* The leases of the owner that have ended, as its callback was told. */
uint32_t pair_end_count(struct pair *pair);
struct lend_lease_info pair_end(struct pair *pair, uint32_t index);

/* The owner's side. Each is the function of lend that its name says. */
enum lend_status owner_register(struct pair *pair, const struct lend_region_desc *descs,
                                uint32_t count, struct lend_region **out, struct lend_error *error);
enum lend_status owner_withdraw(struct pair *pair, struct lend_region *region, uint32_t mode,
                                uint64_t timeout_ns, struct lend_error *error);
enum lend_status owner_suspend(struct pair *pair, struct lend_region *region, uint32_t mode,
                               uint64_t timeout_ns, struct lend_error *error);
/* address NULL: where it was. */
enum lend_status owner_resume(struct pair *pair, struct lend_region *region, void *address,
                              uint64_t bytes, struct lend_error *error);
enum lend_status owner_deregister(struct pair *pair, struct lend_region *region,
                                  struct lend_error *error);
enum lend_status owner_describe_region(struct pair *pair, struct lend_region *region,
                                       struct lend_region_info *out);
enum lend_status owner_metadata(struct pair *pair, void *bytes, size_t capacity, size_t *out_count);
enum lend_status owner_import(struct pair *pair, struct lend_peer **out);
void owner_forget(struct pair *pair, struct lend_peer *peer);
enum lend_status owner_grant(struct pair *pair, const struct lend_grant_desc *desc,
                             struct lend_lease **out, struct lend_error *error);
enum lend_status owner_renew(struct pair *pair, struct lend_lease *lease, uint64_t time_to_live_ns,
                             struct lend_error *error);
enum lend_status owner_revoke(struct pair *pair, struct lend_lease *lease,
                              struct lend_error *error);
enum lend_status owner_revoke_blocks(struct pair *pair, const struct lend_block_set *set,
                                     uint32_t *out_count, struct lend_error *error);
enum lend_status owner_describe_lease(struct pair *pair, struct lend_lease *lease,
                                      struct lend_lease_info *out);
enum lend_status owner_list(struct pair *pair, struct lend_lease_info *infos, uint32_t capacity,
                            uint32_t *out_count);
void owner_release(struct pair *pair, struct lend_lease *lease);
enum lend_status owner_export(struct pair *pair, struct lend_lease *lease, void *bytes,
                              size_t *out_count);
enum lend_status owner_send(struct pair *pair, struct lend_peer *peer, const void *bytes,
                            size_t count, struct lend_error *error);
/* Waits for at most timeout_ns, whatever the progress. */
enum lend_status owner_receive(struct pair *pair, void *bytes, size_t *out_count,
                               struct lend_notification_info *info, uint64_t timeout_ns);
/* Another agent of the same name takes the owner's place. */
void owner_restart(struct pair *pair);
/* The owner is destroyed. */
void owner_destroy(struct pair *pair);

/* Something lent by the owner, and what the reader knows of it. */
struct loan {
    uint8_t *memory;
    uint64_t bytes;
    struct lend_geometry geometry;
    struct lend_region *region; /* the owner's */
    uint64_t id;
    struct lend_lease *lease;   /* the owner's */
    struct lend_ticket *ticket; /* the reader's */
};

/* Register, and make it known to the reader. A geometry with count 0 is completed as one block. */
struct loan lend_memory_of(struct pair *pair, struct lend_geometry geometry, uint32_t access,
                           const char *name);
/* The same with blocks that touch, and a bearer lease of a minute on all of them. */
struct loan lend_blocks(struct pair *pair, uint64_t block_bytes, uint64_t count, uint32_t access);
/* A lease over the range first .. first + count - 1, and its ticket, into the loan. */
void lend_range(struct pair *pair, struct loan *loan, uint32_t access, uint64_t first,
                uint64_t count);
struct lend_ticket *fetch_ticket(struct pair *pair, struct lend_lease *lease);
/* Fetch and import the owner's metadata: again, or for the first time. */
void meet(struct pair *pair);
/* The reader's own region, of blocks that touch or of any geometry. */
struct loan keep_blocks(struct pair *pair, uint64_t block_bytes, uint64_t count);
struct loan keep_geometry(struct pair *pair, struct lend_geometry geometry);

/* Connect, if that can be; and for a lend_transfer_desc, the paths to hold a transfer to. NULL
 * where the setup has but one, or there is no connection; with "local/served" where the region has
 * no other any more, so that it is the owner who says why. */
const char *pair_paths(struct pair *pair, uint32_t direction, const struct loan *remote);

/* A transfer from its description to its end. */
struct move {
    uint32_t direction;
    uint32_t flags;
    const struct loan *local;
    const struct loan *remote;
    struct lend_ticket *ticket; /* NULL: the remote's */
    struct lend_slice local_slice;
    struct lend_slice remote_slice;
    const void *local_blocks;
    const void *remote_blocks;
    uint64_t count;
    uint32_t index_bits;
    const void *notification;
    uint64_t notification_bytes;
    uint64_t timeout_ns;
    uint64_t user_data;
    bool may_be_served;                 /* out: the path of the setup is none any more */
    struct lend_transfer_record record; /* out */
    struct lend_error error;            /* out: of whatever failed */
};

enum lend_status move_prepare(struct pair *pair, struct move *move, struct lend_transfer **out);
enum lend_status move_post(struct move *move, struct lend_transfer *transfer);
/* Wait to the end and fill the record. */
enum lend_status move_finish(struct pair *pair, struct move *move, struct lend_transfer *transfer);
enum lend_status move_all(struct pair *pair, struct move *move);
/* A read of the blocks 0 .. count - 1 with a ticket, into the same of local: its final status. */
enum lend_status read_blocks(struct pair *pair, const struct loan *local, const struct loan *remote,
                             uint64_t count);
/* Give back what a loan has at the reader's. */
void drop(struct loan *loan);

/* Bytes that tell where they belong, of any memory. */
void pattern_fill(void *memory, uint64_t bytes, uint64_t seed);
bool pattern_is(const void *memory, uint64_t bytes, uint64_t seed);
bool is_filled(const void *memory, uint64_t bytes, uint8_t value);

/* Fails unless the status is as wanted, and a failure has a message. */
void expect_at(enum lend_status got, enum lend_status wanted, const struct lend_error *error,
               const char *file, int line);
#define EXPECT(got, wanted, error) expect_at((got), (wanted), (error), __FILE__, __LINE__)
/* The message contains the text. */
void says_at(const struct lend_error *error, const char *text, const char *file, int line);
#define SAYS(error, text) says_at((error), (text), __FILE__, __LINE__)

#endif
