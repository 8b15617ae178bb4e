/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_WIRE_MESSAGE_H
#define LEND_WIRE_MESSAGE_H

#include <lend/agent.h>
#include <lend/status.h>

#include <stdbool.h>
#include <stddef.h>

/*
 * The payloads of control frames. Each encoder returns how many bytes the message takes, and has
 * written them if that is at most capacity (LEND_FRAME_MESSAGE_MAX always suffices, except where
 * noted). Each decoder takes untrusted bytes, and leaves `out` untouched unless it returns LEND_OK;
 * it refuses trailing bytes, values out of range, and names that are empty, too long or
 * unprintable.
 */

enum { LEND_KEY_BYTES = 16, LEND_MESSAGE_TEXT_MAX = 200, LEND_REQUEST_REGIONS_MAX = 2048 };

/* HELLO */
struct lend_hello {
    uint32_t version_min; /* of the protocol, that the client speaks */
    uint32_t version_max;
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES]; /* the client's */
    uint8_t wanted[LEND_INCARNATION_BYTES];      /* the server's, as the client knows it */
};
size_t lend_hello_encode(const struct lend_hello *hello, void *bytes, size_t capacity);
enum lend_status lend_hello_decode(const void *bytes, size_t count, struct lend_hello *out,
                                   struct lend_error *error);

/* WELCOME */
enum { LEND_WELCOME_REQUESTS_MAX = 64 };
struct lend_welcome {
    uint32_t version;      /* to speak */
    uint32_t requests_max; /* 1 .. LEND_WELCOME_REQUESTS_MAX */
    uint64_t notification_window_bytes;
    uint8_t incarnation[LEND_INCARNATION_BYTES]; /* the server's */
};
size_t lend_welcome_encode(const struct lend_welcome *welcome, void *bytes, size_t capacity);
enum lend_status lend_welcome_decode(const void *bytes, size_t count, struct lend_welcome *out,
                                     struct lend_error *error);

/* BYE and DONE: a status with its reason. `bytes` is 0 in BYE; in DONE it is how many bytes were
 * moved while the lease was live. `text` is made printable by the decoder (other bytes become '?').
 */
struct lend_verdict {
    int32_t status; /* LEND_OK or a failure; decoded by lend_status_from_wire() */
    uint64_t bytes;
    char text[LEND_MESSAGE_TEXT_MAX + 1];
};
size_t lend_verdict_encode(const struct lend_verdict *verdict, void *bytes, size_t capacity);
enum lend_status lend_verdict_decode(const void *bytes, size_t count, struct lend_verdict *out,
                                     struct lend_error *error);

/* What names a lease on the wire, in a ticket and in a request. */
struct lend_lease_name {
    uint32_t slot;
    uint64_t generation;
    uint8_t key[LEND_KEY_BYTES]; /* random; proves that the bearer was given the ticket */
};

/* REQUEST. The region ids lie in the message; consecutive ones are packed. */
struct lend_request {
    uint8_t direction; /* LEND_READ or LEND_WRITE, as the client sees it */
    bool has_ranges;   /* its RUNS are ranges, and region_count is 0 */
    bool wants_sums;   /* not the bytes, but a CRC-32C of each block or range: DATA to the client */
    struct lend_lease_name lease;
    uint64_t slice_offset_bytes;
    uint64_t slice_length_bytes;
    uint64_t run_count;    /* in the RUNS frames that follow, 1 .. LEND_REQUEST_RUNS_MAX */
    uint64_t total_bytes;  /* that the client will send or expects; > 0 */
    uint32_t region_count; /* 1 .. LEND_REQUEST_REGIONS_MAX, or 0 with ranges */
};
enum { LEND_REQUEST_RUNS_MAX = 32768 };
size_t lend_request_encode(const struct lend_request *request, const uint64_t *region_ids,
                           void *bytes, size_t capacity);
/* region_ids has room for LEND_REQUEST_REGIONS_MAX. */
enum lend_status lend_request_decode(const void *bytes, size_t count, struct lend_request *out,
                                     uint64_t *region_ids, struct lend_error *error);

/* RUNS: 8 bytes a block run {u32 first, u32 count}, or 24 bytes a range {u64 region id, u64 offset
 * in the region, u64 length}; as many as fit the frame. Counts and lengths are > 0 and first +
 * count <= 2^31; offset + length <= 2^46. */
struct lend_run {
    uint32_t first;
    uint32_t count;
};
struct lend_run_range {
    uint64_t region_id;
    uint64_t offset_bytes;
    uint64_t length_bytes;
};
enum { LEND_RUN_BYTES = 8, LEND_RUN_RANGE_BYTES = 24 };
void lend_runs_encode(const struct lend_run *runs, size_t count, void *bytes);
void lend_run_ranges_encode(const struct lend_run_range *ranges, size_t count, void *bytes);
/* count bytes of payload; at most capacity runs are accepted; out_count says how many there were.
 */
enum lend_status lend_runs_decode(const void *bytes, size_t count, struct lend_run *out,
                                  size_t capacity, size_t *out_count, struct lend_error *error);
enum lend_status lend_run_ranges_decode(const void *bytes, size_t count, struct lend_run_range *out,
                                        size_t capacity, size_t *out_count,
                                        struct lend_error *error);

/* CREDIT: notification bytes that the application has taken since the session began. */
size_t lend_credit_encode(uint64_t taken_bytes, void *bytes, size_t capacity);
enum lend_status lend_credit_decode(const void *bytes, size_t count, uint64_t *out_taken_bytes,
                                    struct lend_error *error);

/* What a notification costs of the window, so that empty ones are bounded too. */
static inline uint64_t lend_notification_cost(size_t count)
{
    return count + 64;
}

/* TICKET_DONE */
size_t lend_lease_name_encode(const struct lend_lease_name *name, void *bytes, size_t capacity);
enum lend_status lend_lease_name_decode(const void *bytes, size_t count,
                                        struct lend_lease_name *out, struct lend_error *error);

#endif
