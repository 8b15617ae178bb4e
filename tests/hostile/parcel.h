/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_HOSTILE_PARCEL_H
#define LEND_TESTS_HOSTILE_PARCEL_H

#include "transport/ucx/door.h"
#include "transport/ucx/message.h"

/*
 * A hostile peer's end of transport `ucx`: a worker of the real UCX, used as it is meant to be, and
 * above it lend's messages, made by hand.
 */

/* A frame that has come. */
struct parcel {
    struct parcel *next; /* of a higher position */
    struct lend_ucx_message message;
    size_t length;
    uint8_t bytes[];
};

struct parcel_end {
    void *worker;
    void *endpoint; /* NULL: none yet */
    int fd;         /* tells of what comes to the worker */
    bool is_deaf;   /* it lets its UCX do nothing more */
    bool is_lost;   /* UCX says so */
    bool is_alive;  /* it answers PINGs */
    uint32_t pending;
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint8_t address[LEND_METADATA_ADDRESS_MAX]; /* what OPEN says of us */
    size_t address_bytes;
    struct lend_ucx_greeting ours;
    struct lend_ucx_greeting peers;            /* channel 0: it has not accepted, or asked */
    uint8_t caller[LEND_METADATA_ADDRESS_MAX]; /* where who asked wants to be answered */
    size_t caller_bytes;
    enum lend_status refused;
    uint32_t accepted, refusals; /* such messages that came */
    uint64_t position;           /* of the next frame that we send */
    uint64_t sent, sent_taken;   /* costs, and what of them the peer has taken */
    uint64_t due, taken, told;   /* of what it sends */
    uint64_t arrived;
    uint64_t end; /* its CLOSE's position */
    struct parcel *first;
};

/* Is there a UCX? If not, why is told. */
bool parcel_can(void);
/* A worker; its address, with that incarnation. */
void parcel_open(struct parcel_end *end, const uint8_t *incarnation);
/* An endpoint to who has that address, as metadata have it. */
void parcel_connect(struct parcel_end *end, const uint8_t *address, size_t count);
/* Wait for who wants a channel, and give one; what was of an earlier one is gone. False: nobody
 * came. */
bool parcel_let_in(struct parcel_end *end, uint64_t timeout_ns);
/* Close the channel, as an honest peer does it. Who closes its endpoint alone is not seen: UCX has
 * another one for what comes. */
void parcel_end_channel(struct parcel_end *end);
/* Let what was sent go out, for a while; then close the endpoint by force. */
void parcel_hang_up(struct parcel_end *end);
/* The same, and the worker. */
void parcel_close(struct parcel_end *end);

/* Let UCX work; wait a little if it has nothing to do. */
void parcel_work(struct parcel_end *end, bool waits);
/* Send an active message, whatever it says. `how`: flags of lend_ucx_operation. */
void parcel_send(struct parcel_end *end, const struct iovec *header, const struct iovec *payload,
                 uint32_t how);
/* A right message of that kind to the peer's channel; a frame is counted. */
struct lend_ucx_message parcel_write(struct parcel_end *end, enum lend_ucx_kind kind);
void parcel_post(struct parcel_end *end, const struct lend_ucx_message *message,
                 const void *payload, size_t count);
/* Ask for a channel, as whoever `address` names. */
void parcel_ask(struct parcel_end *end, const uint8_t *address, size_t count);
/* Answer who has asked. */
void parcel_accept(struct parcel_end *end);
bool parcel_has_room(const struct parcel_end *end, size_t count);
/* The next frame, which is to be given to free(); NULL: it has not come. */
struct parcel *parcel_take(struct parcel_end *end);
bool parcel_is_over(const struct parcel_end *end);

#endif
