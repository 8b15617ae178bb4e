/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_MEMORY_BACKING_H
#define LEND_MEMORY_BACKING_H

#include <lend/memory.h>

#include <stdbool.h>
#include <sys/types.h>

/* The file behind memory that an owner consents to share, and what peers may do with it. */
struct lend_backing {
    uint64_t device;
    uint64_t inode;
    uint64_t file_bytes;
    bool is_fit_for_mapping; /* a reader who maps it can be sure that nothing takes pages away */
    bool is_huge;
    uint32_t mode; /* permission bits */
    uint32_t owner_uid;
    bool is_closed_to_writers; /* nobody gets a new writable mapping, nor writes by write() */
    char why_not[160];         /* not fit: why, and what to do; else "" */
};

/*
 * Is each byte of the memory a shared mapping of that file, the first at that offset? Then say what
 * kind of file it is. A file that is true but not fit for mapping is a success: its memory is lent
 * by other paths.
 * LEND_E_INVALID: no such descriptor, not host memory. LEND_E_MEMORY: not mapped from there, with
 * the first address; or the file ends before. LEND_E_SYSTEM.
 */
enum lend_status lend_backing_check(int fd, uint64_t file_offset, const struct lend_memory *memory,
                                    struct lend_backing *out, struct lend_error *error);

/*
 * Might a process of that user write to the file, had it a descriptor to read it? The owner always
 * might, and so might root. Groups are not asked: a process may have many, and change them, so that
 * a right of the file's group or of others counts for everybody.
 */
bool lend_backing_is_writable_by(const struct lend_backing *backing, uid_t uid);

#endif
