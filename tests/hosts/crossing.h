/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TEST_CROSSING_H
#define LEND_TEST_CROSSING_H

#include "acts/acts.h"
#include "link.h"

/*
 * An owner on the first of two hosts, in a process of its own that does as it is told, and a reader
 * on the second, in this process; they meet by tcp. What the owner is told and answers goes through
 * memory that both see, and not by the link: that may be cut.
 */

enum { CROSSING_BLOCK = 16384, CROSSING_BLOCKS = 64, CROSSING_BYTES = 1 << 20 };

/* What the connections stand: see lend_agent_config. */
#define CROSSING_CONNECT_NS  (2 * ACTS_SECOND)
#define CROSSING_TRANSFER_NS (1 * ACTS_SECOND)

struct crossing_shared;

struct crossing {
    struct hosts hosts;
    struct link link; /* of ours, if there is one */
    struct crossing_shared *shared;
    pid_t keeper;
    uint32_t orders;
    uint32_t lives;
    struct acts_region theirs; /* the owner's memory, as this process sees it */

    struct lend_agent *agent;
    struct acts_region ours;
    struct lend_peer *peer;             /* the present owner */
    struct lend_transfer *transfers[2]; /* READ, WRITE */
};

enum crossing_flag {
    CROSSING_SECRET = 1, /* both have the same one; the test is skipped where there is no plugin */
};

/* Make the hosts, joined by a pair of devices, or, with an impairment, by a process of ours; and
 * the owner. Skips the test where there can be no hosts. This process stays where it is. */
void crossing_open(struct crossing *crossing, const struct impairment *impairment, uint32_t flags);
void crossing_close(struct crossing *crossing);

/* The configuration of an agent on the second host, and this thread's way there. */
struct lend_agent_config crossing_config(struct crossing *crossing, const char *name);

/* Make the reader; meet the owner as it is now, and take leave of it. */
void crossing_begin(struct crossing *crossing);
void crossing_meet(struct crossing *crossing);
void crossing_part(struct crossing *crossing);
void crossing_end(struct crossing *crossing);

/* The metadata of the present owner, and the id of its region. */
const struct acts_blob *crossing_metadata(const struct crossing *crossing);
uint64_t crossing_region(const struct crossing *crossing);

/* Orders to the owner. */
struct lend_ticket *crossing_grant(struct crossing *crossing, struct lend_peer *peer);
/* The ticket of the last grant once more, for another reader. */
struct lend_ticket *crossing_same_ticket(struct crossing *crossing, struct lend_peer *peer);
void crossing_revoke(struct crossing *crossing);
/* Look what it holds now, for later; and then: does it hold no more? */
struct acts_holdings crossing_note_holdings(struct crossing *crossing);
bool crossing_holdings_came_back(struct crossing *crossing);
/* As if it had noted these. */
void crossing_note_as(struct crossing *crossing, const struct acts_holdings *holdings);
/* Bytes of the owner's pages, when it noted last, that are of no file and shared with nobody. */
uint64_t crossing_own_bytes(const struct crossing *crossing);
/* From now on it answers notifications: the first byte goes back to the agent whose metadata is
 * behind it. */
void crossing_echo(struct crossing *crossing);
/* Kill it, and start another of its name. */
void crossing_restart(struct crossing *crossing);

/* The cable of the first host. */
void crossing_unplug(struct crossing *crossing);
void crossing_plug(struct crossing *crossing);

#endif
