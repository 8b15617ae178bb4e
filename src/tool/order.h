/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_ORDER_H
#define LEND_TOOL_ORDER_H

#include "tool/endpoint.h"

#include <lend/status.h>

/*
 * The side channel of the demo: what its director tells the two processes on the stage, and what
 * they answer. It stands for the way that an application has of its own; metadata and tickets
 * travel on it. Between two hosts it carries an address in their place: the one who is to know them
 * asks the other's agent there.
 *
 * Each order is answered by one report; ORDER_MOVE by one with is_begun set before the transfer is
 * posted, and one when it has ended.
 */
enum order_verb {
    ORDER_OPEN =
        1, /* both: make the agent; the reader furnishes its cache, and reports its metadata */
    /* The owner's. */
    ORDER_LEND,    /* map, fill and register a cache; reports the metadata */
    ORDER_MEET,    /* import the reader's metadata, to grant leases by name */
    ORDER_GRANT,   /* end the lease before; reports the ticket */
    ORDER_STRAY,   /* reports a ticket of another agent, which is gone by then */
    ORDER_RESTART, /* end the agent, begin another of the same name and lend again; reports as LEND
                    */
    ORDER_REVOKE,  /* after delay_ns; then rewrite the drawn blocks if is_rewriting */
    ORDER_REUSE,   /* revoke, and grant until the slot has a newer life */
    ORDER_RECLAIM, /* take all back by force, poison and unmap */
    ORDER_FATE,    /* wait for the lease's end; reports how it ended */
    ORDER_RECEIVE, /* wait for a notification; reports it and when it came */
    ORDER_COPY,    /* memcpy of the pieces that MOVE would pull */
    ORDER_LOOK,    /* compare the cache with what it may hold after a write */
    ORDER_EXEC,    /* become another program; no report */
    /* The reader's. */
    ORDER_IMPORT, /* the owner's metadata, and prepare; with paths to insist on, connect between */
    ORDER_CONNECT,
    ORDER_TICKET, /* import a ticket */
    ORDER_MOVE,   /* post a transfer, wait for it or cancel it, and check every byte */
    ORDER_DONE,   /* this consumer is done with the ticket */
};

struct order {
    uint32_t verb;
    uint32_t direction; /* of MOVE, and of the lease to GRANT */
    uint32_t
        block_count; /* of each region: in a cache, or drawn; for GRANT with has_range, the first */
    uint32_t generation;     /* of the pattern; for MOVE, of the owner's */
    uint32_t owner;          /* MOVE: whose pattern; a process id */
    uint32_t consumer_count; /* GRANT */
    uint32_t leases_max;     /* OPEN */
    int32_t bad_block;       /* MOVE: asked for in place of one of the drawn; -1: none */
    bool has_range;          /* GRANT: a range in place of the drawn blocks */
    bool is_named;           /* GRANT: to the reader alone */
    bool is_rewriting;       /* REVOKE */
    bool is_written;         /* LOOK: the write ended well */
    bool is_canceled;        /* MOVE: after delay_ns */
    bool is_notified;        /* MOVE: with a notification */
    uint64_t slot_rest_ns;   /* OPEN */
    uint64_t seed;           /* of the drawn blocks */
    uint64_t delay_ns;
    uint64_t timeout_ns;
    uint64_t time_to_live_ns;
    char address[ENDPOINT_ADDRESS_BYTES]; /* MEET, IMPORT, TICKET: whom to ask; "": see the bytes */
    uint32_t byte_count;
    uint8_t bytes[ENDPOINT_BYTES_MAX];
};

struct report {
    int32_t status;  /* of the order; for MOVE, how the transfer ended */
    bool is_begun;   /* MOVE: it is about to be posted */
    bool is_refused; /* MOVE: by the post itself */
    uint64_t at_ns;  /* MOVE: the post; RECEIVE: the arrival */
    uint64_t elapsed_ns;
    uint64_t prepare_ns; /* IMPORT; elapsed_ns is what connecting took in it */
    uint64_t post_ns;
    uint64_t wire_ns;
    uint64_t quiet_ns;
    uint64_t bytes;        /* MOVE: proven by the record */
    uint64_t bytes_right;  /* checked */
    uint64_t pieces_wrong; /* checked, and not what they must be */
    uint64_t late_pieces;  /* changed after the transfer had said that it is quiet */
    char path[32];
    char device[128];                     /* LEND: the GPU's name; "": it is memory of the host */
    char address[ENDPOINT_ADDRESS_BYTES]; /* of the agent, if it listens */
    char text[240];                       /* why, if something is not as it should be */
    uint32_t byte_count;
    uint8_t bytes_sent[ENDPOINT_BYTES_MAX];
};

/* LEND_E_PEER_DEAD: the other end is closed. LEND_E_CORRUPT: not an order, or not a report. */
enum lend_status order_send(int channel, const struct order *order, struct lend_error *error);
enum lend_status order_receive(int channel, struct order *out, struct lend_error *error);
enum lend_status report_send(int channel, const struct report *report, struct lend_error *error);
enum lend_status report_receive(int channel, struct report *out, struct lend_error *error);

#endif
