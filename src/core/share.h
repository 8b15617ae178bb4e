/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_SHARE_H
#define LEND_CORE_SHARE_H

#include "core/agent.h"
#include "memory/mapped.h"
#include "memory/verify.h"

struct lend_region;

/*
 * The owner's side of files that peers may map (LEND_REGION_SHARE_FILE), and of allocations of a
 * GPU that they may open (LEND_REGION_SHARE_DEVICE): of such a one a peer maps a file as well, in
 * which a struct lend_device_share stands.
 *
 * Whoever maps a file maps the whole of it, so that a file is shared only while every region in it
 * is lent: the first that is withdrawn or suspended closes it, and it is shared again when the last
 * of those was resumed. What was deregistered after it was withdrawn is its owner's for good: then
 * the file is spent, and is never shared again for as long as regions are in it.
 *
 * Of mapped chunks of a GPU's memory, those that regions of one call touch, and that lie side by
 * side, are one such file. Regions of a later call may lie in some of its chunks and in others, and
 * are in a file of their own then; of files that have a chunk in common, one is closed with the
 * other.
 *
 * A descriptor keeps the memory of its file alive, so that a file all of whose regions are closed,
 * and that nobody maps any more, gives its descriptors up; the next region in it brings new ones.
 */
struct lend_file {
    struct lend_list link; /* in agent->files, or in a call's lend_wanted_files */
    struct lend_shared_file shared;
    int write_fd; /* a duplicate of the caller's, to punch with; -1: there is none */
    struct lend_device_memory *device; /* it tells of these whole allocations; NULL: of no GPU's, */
    struct lend_device_way way;        /* and how they are opened */
    uint32_t references; /* regions that lie in it; 0: of use to transports alone, or to nobody */
    uint32_t closed;     /* regions of it that are withdrawn or suspended */
    bool is_told;        /* transports share it */
    bool may_be_held;    /* it was shared, and not everybody is known to have let go */
    bool is_spent;       /* never to be shared again */
};

/* The files that one call's descriptions name: each once, made ready, and not yet the agent's. */
struct lend_wanted_files {
    struct lend_list made;
    struct lend_file **of; /* by description; NULL if none of them shares a file */
};

/*
 * Check what descriptions say of their files, and make those ready. items[i] takes the status and
 * error of description i, on success too. Memory was verified. Give back with lend_files_drop(),
 * whatever is returned. Under no lock.
 * LEND_E_INVALID, LEND_E_MEMORY, LEND_E_UNSUPPORTED, LEND_E_NO_MEMORY, LEND_E_SYSTEM: the first.
 */
enum lend_status lend_files_want(const struct lend_region_desc *descs, struct lend_verify *items,
                                 uint32_t count, struct lend_wanted_files *out);
void lend_files_drop(struct lend_wanted_files *wanted);

/* Seat the region in the agent's file that is the same as the wanted one, or in that one; whatever
 * file it was in before, it leaves. On failure all stays as it was. LEND_E_INVALID. */
enum lend_status lend_file_attach_locked(struct lend_region *region, struct lend_file *wanted,
                                         uint64_t offset_bytes, struct lend_error *error);
/* The region leaves its file, if it is in one, for good. */
void lend_file_detach_locked(struct lend_region *region);

/* Tell the transports of every file that may be shared, and is not. */
void lend_files_share_locked(struct lend_agent *agent);

/* The region is to be reached by nobody: share its file no longer, if it is in one. */
void lend_file_close_locked(struct lend_region *region);
/* After that: does nobody map the file any more? LEND_E_BUSY: who does. If the region's owner
 * allows it and it is_late, the pages are punched out of the file: LEND_OK. */
enum lend_status lend_file_await_locked(struct lend_region *region, bool is_late,
                                        struct lend_error *error);

/* What metadata tells of the region's file: its number, or 0. */
uint32_t lend_file_number_locked(const struct lend_region *region);

/* At the agent's end, and in a forked child: when no transport is open any more. */
void lend_files_fini(struct lend_agent *agent);

#endif
