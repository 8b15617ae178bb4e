/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_WIRE_SAMPLES_H
#define LEND_TESTS_WIRE_SAMPLES_H

/* Messages to test with, and whether two of them say the same (field by field: structs have
 * padding). */

#include "wire/found.h"
#include "wire/frame.h"
#include "wire/message.h"
#include "wire/metadata.h"
#include "wire/ticket.h"

struct lend_hello sample_hello(void);
struct lend_welcome sample_welcome(void);
struct lend_verdict sample_verdict(void);
struct lend_lease_name sample_lease_name(void);
struct lend_request sample_request(void); /* for 3 regions */
struct lend_ticket_bytes sample_ticket(void);
struct lend_fetch_message sample_fetch(void);
struct lend_found_part sample_found(void);

/* An agent with two transports and `layers` layers of K and V: regions of 16,384 blocks of 64 KiB,
 * named "layers.17.k", at addresses that have nothing in common. Free it. */
struct lend_metadata *sample_layers(uint32_t layers);

/* Did a decoder that refused its input leave its out as it was? Fill it with PAINT before. */
enum { PAINT = 0xa5 };
bool is_painted(const void *object, size_t count);

/* A copy of exactly that size, so that address sanitizer sees a read past its end. Free it. */
uint8_t *copy_bytes(const void *bytes, size_t count);

/* The same, with the checksum of the rest in the last four bytes, so that a change gets past it. */
uint8_t *copy_sealed(const void *bytes, size_t count);

bool hellos_are_equal(const struct lend_hello *a, const struct lend_hello *b);
bool welcomes_are_equal(const struct lend_welcome *a, const struct lend_welcome *b);
bool verdicts_are_equal(const struct lend_verdict *a, const struct lend_verdict *b);
bool lease_names_are_equal(const struct lend_lease_name *a, const struct lend_lease_name *b);
bool requests_are_equal(const struct lend_request *a, const struct lend_request *b);
bool tickets_are_equal(const struct lend_ticket_bytes *a, const struct lend_ticket_bytes *b);
bool metadata_is_equal(const struct lend_metadata *a, const struct lend_metadata *b);

#endif
