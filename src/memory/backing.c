/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/backing.h"
#include "base/error.h"
#include "base/sys.h"
#include "memory/maps.h"
#include "memory/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include <linux/magic.h>

enum {
    PERMISSION_BITS = 07777,
    WRITABLE_BY_MORE_THAN_OWNER = S_IWGRP | S_IWOTH,
    CLOSED_TO_WRITERS = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE,
    STAT_BLOCK_BYTES = 512,
};

/* The memory, proven from its start up to `next`, and the file that it is said to be. */
struct proof {
    const struct lend_memory *memory;
    const struct stat *file;
    uint64_t file_offset;
    uint64_t next;
    bool knows_seals;
    enum lend_status status;
    struct lend_error *error;
};

static uint64_t end_of(const struct lend_memory *memory)
{
    return memory->address + memory->length_bytes;
}

static enum lend_status fail_hole(const struct proof *proof)
{
    return lend_fail(
        proof->error, LEND_E_MEMORY, "0x%llx (byte %llu of %llu) is not mapped in this process",
        (unsigned long long)proof->next, (unsigned long long)(proof->next - proof->memory->address),
        (unsigned long long)proof->memory->length_bytes);
}

static enum lend_status fail_mapping(const struct proof *proof, const struct lend_mapping *mapping,
                                     uint64_t offset, const char *why)
{
    const struct stat *file = proof->file;

    return lend_fail(
        proof->error, LEND_E_MEMORY,
        "0x%llx (byte %llu) is mapped %s of %02x:%02x inode %llu at 0x%llx, %s: "
        "share_fd is %02x:%02x inode %llu, to be at 0x%llx",
        (unsigned long long)proof->next, (unsigned long long)(proof->next - proof->memory->address),
        mapping->rights, mapping->device_major, mapping->device_minor,
        (unsigned long long)mapping->inode, (unsigned long long)offset, why, major(file->st_dev),
        minor(file->st_dev), (unsigned long long)file->st_ino,
        (unsigned long long)(proof->file_offset + (proof->next - proof->memory->address)));
}

/*
 * Some file systems tell the list of mappings of another device than stat() tells of (btrfs,
 * overlayfs). No file of theirs knows seals, so that none will be mapped by a peer: let it pass.
 */
static bool is_that_file(const struct proof *proof, const struct lend_mapping *mapping)
{
    const struct stat *file = proof->file;
    bool is_same_device = mapping->device_major == major(file->st_dev) &&
                          mapping->device_minor == minor(file->st_dev);

    if (!is_same_device)
        return !proof->knows_seals && mapping->inode != 0;
    return mapping->inode == file->st_ino;
}

/* A lend_maps_visit of a struct proof: enough at the end of the memory, or at what is wrong. */
static bool step(void *context, const struct lend_mapping *mapping)
{
    struct proof *proof = context;
    uint64_t end = end_of(proof->memory);

    if (mapping->end <= proof->next)
        return true;
    if (mapping->start > proof->next) {
        proof->status = fail_hole(proof);
        return false;
    }
    uint64_t wanted = proof->file_offset + (proof->next - proof->memory->address);
    uint64_t offset = mapping->offset + (proof->next - mapping->start);
    const char *why = mapping->rights[3] != 's'       ? "private (not MAP_SHARED)"
                      : !is_that_file(proof, mapping) ? "another file"
                      : offset != wanted              ? "another place in the file"
                                                      : NULL;
    if (why != NULL) {
        proof->status = fail_mapping(proof, mapping, offset, why);
        return false;
    }
    proof->next = end < mapping->end ? end : mapping->end;
    return proof->next < end;
}

static enum lend_status prove(struct proof *proof)
{
    enum lend_status status = lend_maps_walk(step, proof, proof->error);

    if (status != LEND_OK)
        return status;
    if (proof->status == LEND_OK && proof->next < end_of(proof->memory))
        return fail_hole(proof);
    return proof->status;
}

/* Why a reader who maps the file could meet a missing page, and what to do; NULL: it cannot.
 * seals: negative if the file knows none. */
static const char *find_why_not(const struct lend_backing *backing, const struct stat *file,
                                int seals)
{
    if (seals < 0)
        return "not a memfd, and so could shrink: take a memfd sealed with F_SEAL_SHRINK, or "
               "lend_storage_create()";
    if ((seals & F_SEAL_SHRINK) == 0 && (seals & F_SEAL_SEAL) != 0)
        return "could shrink, and takes no more seals: take a memfd sealed with F_SEAL_SHRINK, or "
               "lend_storage_create()";
    if ((seals & F_SEAL_SHRINK) == 0)
        return "could shrink: seal it with F_SEAL_SHRINK, or take lend_storage_create()";
    if (backing->is_huge && !backing->is_closed_to_writers)
        return "huge pages that could be punched out, and may be gone for good: seal it with "
               "F_SEAL_FUTURE_WRITE, or take lend_storage_create()";
    if (backing->is_huge && (uint64_t)file->st_blocks * STAT_BLOCK_BYTES < backing->file_bytes)
        return "huge pages that are not all taken, and may lack: touch all of them first, or take "
               "lend_storage_create()";
    return NULL;
}

static enum lend_status judge(int fd, const struct stat *file, int seals, struct lend_backing *out,
                              struct lend_error *error)
{
    struct statfs file_system;
    int result = lend_sys->file_system(fd, &file_system);

    if (result < 0)
        return lend_fail_errno(error, -result, "asking for the file system of descriptor %d", fd);
    *out = (struct lend_backing){
        .device = file->st_dev,
        .inode = file->st_ino,
        .file_bytes = (uint64_t)file->st_size,
        .is_huge = file_system.f_type == HUGETLBFS_MAGIC,
        .mode = file->st_mode & PERMISSION_BITS,
        .owner_uid = file->st_uid,
        .is_closed_to_writers = seals >= 0 && (seals & CLOSED_TO_WRITERS) != 0,
    };
    const char *why_not = find_why_not(out, file, seals);
    out->is_fit_for_mapping = why_not == NULL;
    if (why_not != NULL)
        (void)snprintf(out->why_not, sizeof out->why_not, "%s", why_not);
    return LEND_OK;
}

static enum lend_status check_numbers(int fd, uint64_t file_offset,
                                      const struct lend_memory *memory, struct lend_error *error)
{
    enum lend_status status = lend_memory_check(memory, error);

    if (status != LEND_OK)
        return status;
    if (!lend_memory_is_host(memory))
        return lend_fail(error, LEND_E_INVALID,
                         "memory of kind %u shares no file; host memory can (descriptor %d)",
                         memory->kind, fd);
    if (file_offset > INT64_MAX - memory->length_bytes)
        return lend_fail(error, LEND_E_INVALID, "no file reaches from 0x%llx on over %llu bytes",
                         (unsigned long long)file_offset, (unsigned long long)memory->length_bytes);
    return LEND_OK;
}

enum lend_status lend_backing_check(int fd, uint64_t file_offset, const struct lend_memory *memory,
                                    struct lend_backing *out, struct lend_error *error)
{
    struct lend_backing backing;
    struct stat file;
    enum lend_status status = check_numbers(fd, file_offset, memory, error);

    if (status != LEND_OK)
        return status;
    /* The seals first: what a sealed file is long, it stays long. */
    int seals = lend_sys->seals(fd);
    int result = lend_sys->file_stat(fd, &file);
    if (result == -EBADF)
        return lend_fail(error, LEND_E_INVALID, "descriptor %d of the file to share is not open",
                         fd);
    if (result < 0)
        return lend_fail_errno(error, -result, "asking about descriptor %d to share", fd);

    struct proof proof = {
        .memory = memory,
        .file = &file,
        .file_offset = file_offset,
        .next = memory->address,
        .knows_seals = seals >= 0,
        .error = error,
    };
    status = prove(&proof);
    if (status == LEND_OK)
        status = judge(fd, &file, seals, &backing, error);
    if (status != LEND_OK)
        return status;
    if (file_offset + memory->length_bytes > backing.file_bytes)
        return lend_fail(error, LEND_E_MEMORY,
                         "the file to share ends at 0x%llx, and the memory in it at 0x%llx: "
                         "lengthen it with ftruncate(), or lend less",
                         (unsigned long long)backing.file_bytes,
                         (unsigned long long)(file_offset + memory->length_bytes));
    *out = backing;
    return LEND_OK;
}

bool lend_backing_is_writable_by(const struct lend_backing *backing, uid_t uid)
{
    if (backing->is_closed_to_writers)
        return false;
    return uid == 0 || uid == backing->owner_uid ||
           (backing->mode & WRITABLE_BY_MORE_THAN_OWNER) != 0;
}
