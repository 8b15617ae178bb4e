/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_AGENT_H
#define LEND_CORE_AGENT_H

#include "base/list.h"
#include "base/pool.h"
#include "core/poller.h"
#include "core/puller.h"
#include "core/range_index.h"
#include "core/region_table.h"
#include "core/secret.h"
#include "core/slot.h"
#include "core/statistics.h"
#include "core/transport.h"
#include "memory/lane.h"
#include "memory/maps.h"
#include "wire/metadata.h"

#include <lend/lend.h>

/*
 * The agent, as the rest of core sees it.
 *
 * Locks, each taken before those that follow it, and never after:
 *
 *     poller's turn > peer > session > agent > leaves (poller's hot list, logs, completions)
 *
 * No callback of the application runs under any of them: what it is to be told is queued, and
 * lend_agent_dispatch() tells it.
 */

/* What a handle points at says so in lend_pool_object::live_tag. */
enum lend_tag {
    LEND_TAG_REGION = 0x6c6e6401,
    LEND_TAG_LEASE,
    LEND_TAG_LEASE_UNHELD, /* it lives on, or is still in use, without its handle */
    LEND_TAG_PEER,
    LEND_TAG_PEER_FORGOTTEN, /* still referred to by transfers and tickets */
    LEND_TAG_TICKET,
    LEND_TAG_TRANSFER,
    LEND_TAG_RANGE_LIST,
    LEND_TAG_RANGE_LIST_UNHELD, /* still referred to by transfers */
};

enum { LEND_LOGS_MAX = 64, LEND_LOG_BYTES = 320 };

/* A transport that this agent has opened. */
struct lend_open_transport {
    const struct lend_transport_ops *ops;
    void *transport;
};

/* A line for the application's log, waiting to be told. */
struct lend_log_line {
    struct lend_list link;
    int32_t level;
    char text[LEND_LOG_BYTES];
};

struct lend_agent {
    uint64_t magic;
    int64_t life; /* of the process; see base/fork.h */
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    struct lend_agent_config config;  /* defaults filled in; strings NULL or owned */
    struct lend_secret_keeper keeper; /* loaded at the beginning, or under the lock, once */
    struct lend_secret secret;        /* our own */
    _Atomic uint64_t refusal_told_ns; /* when somebody without it was last logged */
    _Atomic uint64_t refusals_untold; /* those since then */
    struct lend_transport_open open;  /* what the transports were told */
    uint32_t transport_count;
    struct lend_open_transport transports[LEND_METADATA_TRANSPORTS_MAX];

    struct lend_poller poller;
    struct lend_puller puller;
    struct lend_statistics_writer statistics;

    pthread_mutex_t lock;          /* guards all below, up to the next lock */
    uint64_t serial;               /* of the metadata */
    _Atomic uint64_t forced_count; /* withdrawals by force that found standing requests */
    uint8_t *attachment;           /* NULL: none */
    uint32_t attachment_bytes;
    uint64_t attachment_serial; /* grows when it changes */
    struct lend_list snapshots; /* of both, that are being told: struct lend_snapshot */
    struct lend_pool regions;
    struct lend_pool registrations;
    struct lend_region_table table; /* of the regions, */
    struct lend_range_index ranges; /* and of where they are, */
    uint64_t places_stamp;          /* which grows when one is withdrawn, or there no more */
    struct lend_list files;         /* that peers may map, or still do: struct lend_file */
    uint32_t file_number_last;      /* the latest number of one */
    struct lend_slots slots;
    struct lend_pool leases;
    struct lend_list live_leases;
    struct lend_list ended_leases; /* whose end on_lease_end is still to be told */
    uint64_t lease_expiry_ns;      /* the earliest; UINT64_MAX: none */
    uint64_t freed_look_at_ns;     /* when to look for memory that was freed; UINT64_MAX: never */
    uint32_t freed_looked;         /* allocations that the last look has come by */
    struct lend_list awaited;      /* what leases wait for: struct lend_awaited */
    struct lend_pool peers;
    struct lend_list peer_list;
    struct lend_pool tickets;
    struct lend_pool transfers;
    struct lend_list transfer_list;
    struct lend_pool range_lists;
    struct lend_list sessions;           /* all that are not yet reaped */
    uint32_t served_count;               /* of them, those that we serve */
    struct lend_list notifications;      /* for the application, oldest first */
    _Atomic uint32_t notification_count; /* of them; changed under the lock */
    struct lend_session *last_notifier;  /* a reference; NULL: none, or it is dead */

    pthread_mutex_t zero_lock;
    struct lend_list zeroing; /* transfers that failed, and whose destination is to be zeroed */
    _Atomic uint32_t zeroing_count;
    struct lend_lane_mark zero_mark; /* zeros that a GPU was told to write; zero_lock */

    struct lend_maps maps;      /* of this process, to verify memory by */
    struct lend_lanes lanes;    /* for copies of GPU memory */
    pthread_mutex_t stage_lock; /* a leaf */
    struct lend_list stages;    /* of sessions that move such memory */
    struct lend_list stuck; /* allocations of peers from which a GPU copies for ever; stage_lock */

    _Atomic bool has_news; /* lend_agent_dispatch() has something to tell */

    pthread_mutex_t log_lock;
    struct lend_list logs;
    uint32_t log_count;
    uint32_t logs_lost;

    pthread_mutex_t completion_lock;
    pthread_cond_t completion;           /* a transfer completed, a notification came */
    _Atomic uint32_t completion_waiters; /* changed under the lock */
    _Atomic bool event_is_set;           /* the application's descriptor is readable */
    int event_fd;
};

/* NULL, not an agent, forked: LEND_E_INVALID or LEND_E_FORKED. */
enum lend_status lend_agent_check(const struct lend_agent *agent, struct lend_error *error);

/* A live handle of that kind, of an agent that is well; what names it in the message. */
enum lend_status lend_handle_check(const void *handle, enum lend_tag tag, struct lend_error *error);

/* A caller's struct, which begins with its size: there, and of the version that we know.
 * LEND_E_INVALID, LEND_E_VERSION. */
enum lend_status lend_struct_check(const void *it, const char *name, size_t bytes,
                                   struct lend_error *error);

/* Tell the application what was queued for it. With no lock held. */
void lend_agent_dispatch(struct lend_agent *agent);

/* Something completed or came: wake who waits, and make the descriptor readable. */
void lend_agent_announce(struct lend_agent *agent);
/* Let who waits look again, and nothing more. */
void lend_agent_rouse(struct lend_agent *agent);

/* Wait until lend_agent_announce() is next called, at most until then; is_over is asked under the
 * completion lock before each wait. */
void lend_agent_wait(struct lend_agent *agent, uint64_t until_ns, bool (*is_over)(void *subject),
                     void *subject);
/* The same; but in a callback on the progress thread, make progress: nobody else does. */
void lend_agent_await(struct lend_agent *agent, uint64_t until_ns, bool (*is_over)(void *subject),
                      void *subject);

static inline bool lend_agent_is_manual(const struct lend_agent *agent)
{
    return (agent->config.flags & LEND_AGENT_MANUAL_PROGRESS) != 0;
}

/* now + timeout, without wrapping. */
static inline uint64_t lend_deadline(uint64_t now_ns, uint64_t timeout_ns)
{
    return timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
}

#endif
