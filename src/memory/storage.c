/* SPDX-License-Identifier: Apache-2.0 */
#include <lend/storage.h>

#include "base/error.h"
#include "base/sys.h"
#include "memory/gpu_storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define MEMINFO_PATH "/proc/meminfo"

enum {
    LIVE_TAG = 0x6c73746f,
    NAME_BYTES_MAX = 249, /* the kernel's limit for a memfd */
    MEMINFO_BYTES = 8192,
    LINE_UNIT_BYTES = 1024, /* /proc/meminfo counts in kB */
    FLAGS_ALL = LEND_STORAGE_HUGE_PAGES | LEND_STORAGE_ON_NODE,
    /* Future writes: ours is mapped already, and it alone writes. The last: no more seals. */
    SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL,
};

struct lend_storage {
    uint32_t live_tag; /* LIVE_TAG until destroyed */
    int fd;            /* -1 until made */
    void *memory;      /* NULL until mapped */
    uint64_t length_bytes;
    struct lend_gpu_storage *gpu; /* it is the driver's; NULL: it is not, and has a file */
};

LEND_AUTO_DEFINE(lend_storage, lend_storage_destroy)

/* What the kernel says of its default huge pages; zeros if it has none. */
struct huge_pages {
    uint64_t page_bytes;
    uint64_t free;
};

static bool is_live(const struct lend_storage *storage)
{
    return storage != NULL && storage->live_tag == LIVE_TAG;
}

void lend_storage_desc_init(struct lend_storage_desc *desc)
{
    if (desc != NULL)
        *desc = (struct lend_storage_desc)LEND_STORAGE_DESC_INIT;
}

static bool is_gpu(const struct lend_storage_desc *desc)
{
    return desc->kind == LEND_MEMORY_DEVICE || desc->kind == LEND_MEMORY_PINNED;
}

/* The caller's, which may be of a version that knew no kinds. */
static enum lend_status copy_desc(const struct lend_storage_desc *desc,
                                  struct lend_storage_desc *out, struct lend_error *error)
{
    const size_t first = offsetof(struct lend_storage_desc, device);
    const size_t before = offsetof(struct lend_storage_desc, memory);

    if (desc->struct_size != sizeof *desc && desc->struct_size != before &&
        desc->struct_size != first)
        return lend_fail(error, LEND_E_VERSION, "lend_storage_desc is %u bytes, not %zu",
                         desc->struct_size, sizeof *desc);
    *out = (struct lend_storage_desc)LEND_STORAGE_DESC_INIT;
    memcpy(out, desc, desc->struct_size);
    return LEND_OK;
}

static enum lend_status check_desc(const struct lend_storage_desc *desc, struct lend_error *error)
{
    if ((desc->flags & ~(uint32_t)FLAGS_ALL) != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x of storage", desc->flags);
    if (desc->reserved != 0)
        return lend_fail(error, LEND_E_INVALID, "lend_storage_desc.reserved is %u, not 0",
                         desc->reserved);
    if (desc->kind != 0 && desc->kind != LEND_MEMORY_SYSTEM && !is_gpu(desc))
        return lend_fail(error, LEND_E_INVALID, "storage of kind %u of memory", desc->kind);
    bool is_pinned = desc->kind == LEND_MEMORY_PINNED;
    uint32_t may = is_pinned ? LEND_STORAGE_ON_NODE : 0;
    if (is_gpu(desc) ? (desc->flags & ~may) != 0 || desc->device < 0 : desc->device != 0)
        return lend_fail(error, LEND_E_INVALID,
                         "storage of kind %u with flags 0x%x, on device %d: flags are for the "
                         "host's, and a device for a GPU's or pinned memory",
                         desc->kind, desc->flags, desc->device);
    if (desc->memory != NULL && (!is_pinned || desc->flags != 0))
        return lend_fail(error, LEND_E_INVALID,
                         "lend_storage_desc.memory with kind %u and flags 0x%x: it is for memory "
                         "of the host that is to be pinned (LEND_MEMORY_PINNED) where it is",
                         desc->kind, desc->flags);
    if (desc->length_bytes == 0 || desc->length_bytes > LEND_MEMORY_BYTES_MAX)
        return lend_fail(error, LEND_E_INVALID, "storage of %llu bytes; 1 to %llu can be had",
                         (unsigned long long)desc->length_bytes,
                         (unsigned long long)LEND_MEMORY_BYTES_MAX);
    if (desc->name != NULL && strnlen(desc->name, NAME_BYTES_MAX + 1) > NAME_BYTES_MAX)
        return lend_fail(error, LEND_E_INVALID, "a name of storage has at most %d bytes",
                         NAME_BYTES_MAX);
    return LEND_OK;
}

/* The number behind the key at the start of a line; 0 if there is none. */
static uint64_t find_number(const char *text, const char *key)
{
    const char *line = strstr(text, key);

    return line == NULL ? 0 : strtoull(line + strlen(key), NULL, 10);
}

static enum lend_status read_huge_pages(struct huge_pages *out, struct lend_error *error)
{
    char text[MEMINFO_BYTES + 1];
    size_t count = 0;
    ssize_t got;
    int fd = lend_sys->open_read(MEMINFO_PATH);

    if (fd < 0)
        return lend_fail_errno(error, -fd, "opening " MEMINFO_PATH);
    do {
        got = lend_sys->read(fd, text + count, MEMINFO_BYTES - count);
        if (got > 0)
            count += (size_t)got;
    } while (got > 0 && count < MEMINFO_BYTES);
    lend_sys->close(fd);
    if (got < 0)
        return lend_fail_errno(error, (int)-got, "reading " MEMINFO_PATH);
    text[count] = '\0';
    *out = (struct huge_pages){
        .page_bytes = find_number(text, "\nHugepagesize:") * LINE_UNIT_BYTES,
        .free = find_number(text, "\nHugePages_Free:"),
    };
    return LEND_OK;
}

/* Pages of which the storage is made. */
static enum lend_status choose_pages(const struct lend_storage_desc *desc, struct huge_pages *out,
                                     uint64_t *page_bytes, struct lend_error *error)
{
    *page_bytes = lend_sys->page_bytes();
    if ((desc->flags & LEND_STORAGE_HUGE_PAGES) == 0)
        return LEND_OK;
    enum lend_status status = read_huge_pages(out, error);
    if (status != LEND_OK)
        return status;
    /* A size that is no power of two is none that we understand. */
    if (out->page_bytes < *page_bytes || (out->page_bytes & (out->page_bytes - 1)) != 0 ||
        out->page_bytes > LEND_MEMORY_BYTES_MAX)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "this kernel has no huge pages (no Hugepagesize in " MEMINFO_PATH
                         "); leave LEND_STORAGE_HUGE_PAGES out");
    *page_bytes = out->page_bytes;
    return LEND_OK;
}

static enum lend_status fail_huge(const struct lend_storage *storage,
                                  const struct huge_pages *pages, struct lend_error *error)
{
    unsigned long long wanted = storage->length_bytes / pages->page_bytes;

    return lend_fail(error, LEND_E_NO_MEMORY,
                     "storage takes %llu huge pages of %llu KiB, and %llu are free: raise "
                     "vm.nr_hugepages by %llu (sysctl; see hugetlb limits of the control group)",
                     wanted, (unsigned long long)pages->page_bytes / LINE_UNIT_BYTES,
                     (unsigned long long)pages->free,
                     wanted > pages->free ? wanted - pages->free : wanted);
}

static enum lend_status make_file(struct lend_storage *storage,
                                  const struct lend_storage_desc *desc,
                                  const struct huge_pages *pages, struct lend_error *error)
{
    bool is_huge = (desc->flags & LEND_STORAGE_HUGE_PAGES) != 0;
    const char *name = desc->name != NULL ? desc->name : "lend-storage";

    storage->fd = lend_sys->memfd_storage(name, storage->length_bytes, is_huge);
    if (storage->fd >= 0)
        return LEND_OK;
    if (storage->fd == -ENOMEM || storage->fd == -ENOSPC)
        return is_huge ? fail_huge(storage, pages, error)
                       : lend_fail(error, LEND_E_NO_MEMORY, "no memory for storage of %llu bytes",
                                   (unsigned long long)storage->length_bytes);
    if (is_huge && (storage->fd == -EINVAL || storage->fd == -ENODEV))
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "this kernel makes no memfd of huge pages that can be sealed (Linux 4.16 "
                         "and CONFIG_HUGETLBFS do); leave LEND_STORAGE_HUGE_PAGES out");
    return lend_fail_errno(error, -storage->fd, "making a memfd of %llu bytes",
                           (unsigned long long)storage->length_bytes);
}

static enum lend_status map(struct lend_storage *storage, const struct lend_storage_desc *desc,
                            const struct huge_pages *pages, struct lend_error *error)
{
    storage->memory = lend_sys->map_file(storage->fd, 0, storage->length_bytes, true, false);
    if (storage->memory != NULL)
        return LEND_OK;
    if ((desc->flags & LEND_STORAGE_HUGE_PAGES) != 0)
        return fail_huge(storage, pages, error);
    return lend_fail(error, LEND_E_NO_MEMORY,
                     "no room to map storage of %llu bytes: see RLIMIT_AS (ulimit -v), "
                     "vm.max_map_count and vm.overcommit_memory",
                     (unsigned long long)storage->length_bytes);
}

static enum lend_status bind_to_node(struct lend_storage *storage,
                                     const struct lend_storage_desc *desc, struct lend_error *error)
{
    if ((desc->flags & LEND_STORAGE_ON_NODE) == 0)
        return LEND_OK;
    int result = lend_sys->bind_node(storage->memory, storage->length_bytes, desc->numa_node);
    switch (result) {
    case 0: return LEND_OK;
    case -EINVAL:
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "no NUMA node %u with memory that this process may use: see Mems_allowed "
                         "in /proc/self/status and /sys/devices/system/node/has_memory",
                         desc->numa_node);
    case -ENOSYS:
    case -EPERM:
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "mbind() to NUMA node %u: %s; a container's seccomp profile must allow it "
                         "(Docker: --cap-add SYS_NICE), and the kernel have CONFIG_NUMA",
                         desc->numa_node, result == -EPERM ? "not permitted" : "not there");
    case -ENOMEM:
        return lend_fail(error, LEND_E_NO_MEMORY, "the kernel has no memory to bind to node %u",
                         desc->numa_node);
    default: return lend_fail_errno(error, -result, "binding to NUMA node %u", desc->numa_node);
    }
}

/*
 * Huge pages are taken now. Later the lack of one, of the node's or within the control group's
 * limit, would be a signal to whoever touches it first.
 */
static enum lend_status take_huge_pages(struct lend_storage *storage,
                                        const struct lend_storage_desc *desc,
                                        const struct huge_pages *pages, struct lend_error *error)
{
    if ((desc->flags & LEND_STORAGE_HUGE_PAGES) == 0)
        return LEND_OK;
    int result = lend_sys->populate(storage->memory, storage->length_bytes);
    switch (result) {
    case 0: return LEND_OK;
    case -EINVAL:
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "storage of huge pages takes Linux 5.14 (MADV_POPULATE_WRITE); leave "
                         "LEND_STORAGE_HUGE_PAGES out");
    case -ENOMEM:
    case -EFAULT: /* the touch would have been a SIGBUS */
        if ((desc->flags & LEND_STORAGE_ON_NODE) != 0)
            return lend_fail(
                error, LEND_E_NO_MEMORY,
                "NUMA node %u has not the %llu huge pages of %llu KiB: write their "
                "number to nr_hugepages under /sys/devices/system/node/node%u/hugepages",
                desc->numa_node, (unsigned long long)(storage->length_bytes / pages->page_bytes),
                (unsigned long long)pages->page_bytes / LINE_UNIT_BYTES, desc->numa_node);
        return fail_huge(storage, pages, error);
    default: return lend_fail_errno(error, -result, "taking huge pages");
    }
}

static enum lend_status seal(struct lend_storage *storage, struct lend_error *error)
{
    int result = lend_sys->seal(storage->fd, SEALS);

    if (result == -EINVAL)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "this kernel does not seal files against new writers "
                         "(F_SEAL_FUTURE_WRITE, Linux 5.1): lend memory of your own instead");
    if (result < 0)
        return lend_fail_errno(error, -result, "sealing storage");
    return LEND_OK;
}

static enum lend_status create(const struct lend_storage_desc *desc, struct lend_storage **out,
                               struct lend_error *error)
{
    struct huge_pages pages = {0};
    uint64_t page_bytes = 0;

    enum lend_status status = check_desc(desc, error);
    if (status == LEND_OK)
        status = choose_pages(desc, &pages, &page_bytes, error);
    if (status != LEND_OK)
        return status;

    LEND_AUTO(lend_storage) struct lend_storage *made = lend_sys->allocate(sizeof *made);
    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for the handle of storage");
    made->live_tag = LIVE_TAG;
    made->fd = -1;
    made->length_bytes = (desc->length_bytes + page_bytes - 1) & ~(page_bytes - 1);
    if (desc->memory != NULL)
        made->length_bytes = desc->length_bytes; /* what is behind it is none of ours */

    if (is_gpu(desc)) {
        const struct lend_gpu_wish wish = {
            .kind = (enum lend_memory_kind)desc->kind,
            .ordinal = desc->device,
            .bytes = made->length_bytes,
            .node = (desc->flags & LEND_STORAGE_ON_NODE) != 0 ? (int64_t)desc->numa_node : -1,
            .memory = desc->memory,
        };
        status = lend_gpu_storage_create(&wish, &made->gpu, error);
        if (status == LEND_OK)
            *out = LEND_TAKE(made);
        return status;
    }
    status = make_file(made, desc, &pages, error);
    if (status == LEND_OK)
        status = map(made, desc, &pages, error);
    if (status == LEND_OK)
        status = bind_to_node(made, desc, error);
    if (status == LEND_OK)
        status = take_huge_pages(made, desc, &pages, error);
    if (status == LEND_OK)
        status = seal(made, error);
    if (status == LEND_OK)
        *out = LEND_TAKE(made);
    return status;
}

enum lend_status lend_storage_create(const struct lend_storage_desc *desc,
                                     struct lend_storage **out, struct lend_error *error)
{
    struct lend_storage_desc own;

    if (desc == NULL || out == NULL)
        return lend_fail(error, LEND_E_INVALID, "%s is NULL", desc == NULL ? "desc" : "out");
    enum lend_status status = copy_desc(desc, &own, error);
    return status == LEND_OK ? create(&own, out, error) : status;
}

void *lend_storage_address(const struct lend_storage *storage)
{
    if (is_live(storage) && storage->gpu != NULL)
        return (void *)(uintptr_t)lend_gpu_storage_address(storage->gpu);
    return is_live(storage) ? storage->memory : NULL;
}

uint64_t lend_storage_length_bytes(const struct lend_storage *storage)
{
    return is_live(storage) ? storage->length_bytes : 0;
}

int32_t lend_storage_fd(const struct lend_storage *storage)
{
    return is_live(storage) ? storage->fd : -1;
}

const char *lend_storage_note(const struct lend_storage *storage)
{
    if (!is_live(storage))
        return NULL;
    return storage->gpu != NULL ? lend_gpu_storage_note(storage->gpu) : "a sealed memfd";
}

enum lend_status lend_storage_describe(const struct lend_storage *storage, uint64_t offset_bytes,
                                       uint64_t length_bytes, struct lend_region_desc *desc,
                                       struct lend_error *error)
{
    if (desc == NULL)
        return lend_fail(error, LEND_E_INVALID, "nowhere to put the description: desc is NULL");
    if (!is_live(storage))
        return lend_fail(error, LEND_E_INVALID, "%p is not live storage", (const void *)storage);
    if (desc->struct_size != sizeof *desc)
        return lend_fail(error, LEND_E_VERSION, "lend_region_desc is %u bytes, not %zu",
                         desc->struct_size, sizeof *desc);
    if (length_bytes == 0)
        return lend_fail(error, LEND_E_INVALID, "a part of storage of 0 bytes");
    if (offset_bytes > storage->length_bytes || length_bytes > storage->length_bytes - offset_bytes)
        return lend_fail(error, LEND_E_OUT_OF_RANGE,
                         "%llu bytes from %llu on are no part of storage of %llu bytes",
                         (unsigned long long)length_bytes, (unsigned long long)offset_bytes,
                         (unsigned long long)storage->length_bytes);
    if (storage->gpu != NULL)
        return lend_gpu_storage_describe(storage->gpu, offset_bytes, length_bytes, &desc->memory,
                                         error);
    enum lend_status status = lend_memory_system((const char *)storage->memory + offset_bytes,
                                                 length_bytes, &desc->memory, error);
    if (status != LEND_OK)
        return status;
    desc->flags |= LEND_REGION_SHARE_FILE;
    desc->share_fd = storage->fd;
    desc->share_offset_bytes = offset_bytes;
    return LEND_OK;
}

/* In a forked child: of its mapping, descriptor and handle alone, which are copies. */
void lend_storage_destroy(struct lend_storage *storage)
{
    if (!is_live(storage))
        return;
    storage->live_tag = 0;
    lend_gpu_storage_destroy(storage->gpu);
    lend_sys->unmap(storage->memory, storage->length_bytes);
    if (storage->fd >= 0)
        lend_sys->close(storage->fd);
    lend_sys->release(storage);
}
