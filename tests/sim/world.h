/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_SIM_WORLD_H
#define LEND_TESTS_SIM_WORLD_H

#include "sim.h"

#include <stddef.h>

/* What the simulation knows. All of it is the test's own: lend is seen through its public face
 * alone. */

enum {
    PARTIES = 3,
    LOANS = 2,     /* regions that a party lends */
    TRANSFERS = 3, /* of a party at one time */
    BLOCKS_MAX = 24,
    LEASES_MAX = 64, /* in one history */
    STEPS = 600,
    LIVES_MAX = 16, /* of one party */
    SERIALS_MAX = 4096,
};

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)

/* A region that is lent, and what its memory must hold. */
struct loan {
    struct lend_region *handle; /* NULL: none */
    uint64_t id;
    uint32_t life; /* of this place */
    struct lend_geometry geometry;
    uint32_t access;
    bool is_withdrawn;
    uint64_t bytes;
    uint8_t *memory;
    uint8_t *shadow;
};

struct lease {
    struct lend_lease *handle; /* NULL: given back */
    uint32_t owner;
    uint32_t owner_life;
    uint32_t loan;
    uint32_t loan_life;
    uint32_t access;
    uint32_t blocks; /* a bit each */
    uint32_t consumer_count;
    int32_t named; /* the party that it is for, or -1 */
    uint32_t named_life;
    uint64_t expires_ns; /* the latest that it may have been; 0: never */
    uint8_t ticket[LEND_TICKET_BYTES_MAX];
    size_t ticket_bytes;
    struct lend_geometry owner_geometry;
    uint8_t *snapshot; /* of the loan's memory at the grant */
    bool has_ended;    /* we know */
    bool may_be_revoked;
    bool may_be_consumed;
    bool is_superseded; /* something was granted after it ended */
    bool is_written;    /* bytes of a failed WRITE may lie, or land, in its blocks */
    uint32_t end_calls;
    uint32_t writes; /* under way */
};

/* What became of a post. */
struct post {
    bool was_good;
    bool was_bad;
    bool has_notification;
    bool is_heard;
    uint32_t sender;
    uint32_t sender_life;
    uint32_t receiver;
    uint32_t receiver_life;
};

enum transfer_state { FREE = 0, READY, POSTED };

struct transfer {
    enum transfer_state state;
    struct lend_transfer *handle;
    struct lend_region *region; /* ours */
    struct lend_ticket *ticket;
    struct lease *lease;
    uint32_t party; /* whose it is */
    uint32_t owner;
    uint32_t owner_life;
    uint32_t direction;
    uint32_t flags;
    struct lend_geometry geometry; /* of our region */
    struct lend_slice slice;       /* of the peer's rows */
    uint64_t bytes;                /* of our region */
    uint8_t *memory;
    uint8_t fill; /* what all of it holds while it is idle */
    uint32_t count;
    int32_t local_blocks[BLOCKS_MAX];
    int32_t remote_blocks[BLOCKS_MAX];
    uint64_t deadline_ns;
    uint32_t serial; /* of the post */
    bool has_notification;
    bool is_outside;     /* it asks for a block that is not leased */
    bool is_wrong_way;   /* it writes under a lease to read, or reads under one to write */
    bool is_for_another; /* the lease is somebody else's */
    bool was_over;       /* the lease had ended when it was posted */
    bool was_canceled;
    bool is_forgotten;  /* its peer was */
    bool was_withdrawn; /* our own region was */
};

/* What one party knows of another. */
struct acquaintance {
    struct lend_peer *peer; /* NULL: none */
    uint32_t life;          /* of the other, as we know it */
    uint32_t sent;          /* notifications of our own accord, to that life */
};

struct party {
    uint32_t index;
    uint32_t life;
    struct lend_agent *agent;
    struct loan loans[LOANS];
    struct transfer transfers[TRANSFERS];
    struct acquaintance others[PARTIES];
    uint8_t incarnations[LIVES_MAX][LEND_INCARNATION_BYTES];
};

struct sim {
    const struct sim_options *options;
    struct sim_report *report;
    uint64_t random;
    uint64_t random_of_fabric;
    uint64_t random_of_system;
    uint64_t version; /* of the last rewrite */
    struct party parties[PARTIES];
    struct lease leases[LEASES_MAX];
    uint32_t lease_count;
    uint32_t serial;                /* of the last post */
    struct post posts[SERIALS_MAX]; /* by serial */
    /* The connection between these two, as they live now, may be lost: it was forgotten, or it
     * storms. */
    bool is_lost[PARTIES][PARTIES];
    uint32_t heard[PARTIES][PARTIES]; /* the last of its own accord: [receiver][sender] */
};

/* world.c: agents, the clock, the fabric, chance */
uint64_t draw(struct sim *sim, uint64_t bound);
bool chance(struct sim *sim, uint32_t percent);
/* Make the history bad, for that reason; the first counts. Returns false. */
bool complain(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Say what happens, where that is wanted. */
void tell(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Was this what could be expected? If not, complain. */
bool expect(struct sim *sim, enum lend_status status, enum lend_status wanted, const char *what,
            const struct lend_error *error);
/* Let the history remember it. */
void note(struct sim *sim, uint64_t what);
uint64_t now_ns(void);
void advance(uint64_t duration_ns);
void progress(struct sim *sim, struct party *party, uint32_t times);
bool open_world(struct sim *sim, uint64_t seed);
void close_world(struct sim *sim);
bool start_party(struct sim *sim, struct party *party);
/* The agent is destroyed; silently: its links die first, and nobody is told. */
void stop_party(struct sim *sim, struct party *party, bool is_silent);
void cut_links(struct sim *sim, struct party *party, bool is_loud);

/* model.c: what must hold */
struct loan *loan_of(struct sim *sim, const struct lease *lease); /* NULL: it is no more */
bool may_be_consumed(const struct sim *sim, const struct lease *lease);
bool lease_lives(struct sim *sim, struct lease *lease);
/* The lease has ended, and so has what peers may do to its blocks. */
void end_lease(struct sim *sim, struct lease *lease);
/* The leases of a region, or of some blocks of it, end as revoked. */
void revoke_leases(struct sim *sim, uint32_t owner, uint32_t loan, uint32_t blocks);
uint64_t block_bytes(const struct lend_geometry *geometry);
/* Copy the selected bytes of a block, of a slice of its rows, out or in. */
void copy_block(const struct lend_geometry *geometry, const struct lend_slice *slice,
                uint8_t *memory, uint64_t block, uint8_t *bytes, bool is_out);
void rewrite_block(struct sim *sim, struct loan *loan, uint64_t block);
/* What a WRITE writes. */
uint8_t source_byte(const struct transfer *transfer, uint64_t at);
bool check_loan(struct sim *sim, struct party *party, struct loan *loan);
bool check_idle(struct sim *sim, struct transfer *transfer);
bool check_all(struct sim *sim);
/* A transfer is complete: was that right? Then it is idle. */
bool settle(struct sim *sim, struct transfer *transfer, enum lend_status status);
bool hear(struct sim *sim, struct party *party, const struct lend_notification_info *info,
          const uint8_t *bytes, size_t count);

/* What notifications carry. */
struct message {
    uint32_t sender;
    uint32_t sender_life;
    uint32_t receiver_life;
    uint32_t serial; /* of the post, or 0 */
    uint32_t number; /* of those that were sent of the sender's own accord, or 0 */
};

/* steps.c, moves.c: what happens */
bool step(struct sim *sim);
bool step_lending(struct sim *sim, struct party *party);
bool step_transfer(struct sim *sim, struct party *party);
bool finish(struct sim *sim);
void free_transfer(struct transfer *transfer);
bool test_transfer(struct sim *sim, struct transfer *transfer);

#endif
