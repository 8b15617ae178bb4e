/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_WIRE_VIEW_H
#define LEND_WIRE_VIEW_H

#include "wire/message.h"

/*
 * LOOK: a client that copies by itself asks what a lease permits; its payload is the lease's name.
 * A name of zeros is no lease's: whoever sends it wants to know that what it said before was heard.
 * VIEW: the answer.
 *
 *     verdict's status | text {u8 length | bytes}, and if that is LEND_OK
 *     u8 access | varint sets | {u8 form | varint first | varint span | bitmap} ... |
 *     varint regions | {varint first id, less the last id before | varint how many follow one
 *     another | varint life | varint set} ...
 *
 * A form of 0 is the whole span, 1 is followed by a bit a block, in ceil(span / 8) bytes. Ids
 * ascend. What does not fit one frame cannot be said: then the owner answers LEND_E_LIMIT, and is
 * asked to copy itself.
 */

/* Blocks first .. first + span - 1, or those of them whose bit is set. */
struct lend_view_set {
    uint64_t first;
    uint64_t span;
    const uint64_t *bitmap; /* NULL: all of them */
};

struct lend_view_part {
    uint64_t region_id;
    uint32_t life; /* of the region, that the lease is for */
    uint32_t set;  /* index of its blocks */
};

struct lend_view {
    int32_t status;
    char text[LEND_MESSAGE_TEXT_MAX + 1]; /* why, if it is not LEND_OK */
    uint32_t access;
    uint32_t set_count;
    uint32_t part_count;
    const struct lend_view_set *sets;
    const struct lend_view_part *parts; /* ids ascend */
};

/* How many bytes it takes; written if that is at most capacity. */
size_t lend_view_encode(const struct lend_view *view, void *bytes, size_t capacity);

/* Decode untrusted bytes into one allocation; give it back with lend_sys->release().
 * LEND_E_CORRUPT, LEND_E_NO_MEMORY: out is untouched. */
enum lend_status lend_view_decode(const void *bytes, size_t count, struct lend_view **out,
                                  struct lend_error *error);

#endif
