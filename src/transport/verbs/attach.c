/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/attach.h"

#include "base/error.h"
#include "base/sys.h"
#include "memory/cuda.h"

#include <errno.h>
#include <stdio.h>

static uint64_t page_of(uint64_t address)
{
    return address & ~(uint64_t)(lend_sys->page_bytes() - 1);
}

/* Its end, rounded up to a page; UINT64_MAX where that is beyond. */
static uint64_t page_end(uint64_t end)
{
    uint64_t page = lend_sys->page_bytes();

    return end > UINT64_MAX - page ? UINT64_MAX : page_of(end + page - 1);
}

/* --- exports --- */

void lend_verbs_exports_init(struct lend_verbs_exports *exports, const struct lend_verbs_range *of)
{
    *exports = (struct lend_verbs_exports){.start = page_of(of->address)};
    exports->by_flag[0].fd = exports->by_flag[1].fd = -1;
}

void lend_verbs_exports_fini(struct lend_verbs_exports *exports)
{
    for (unsigned i = 0; i < 2; i++) {
        if (exports->by_flag[i].fd >= 0)
            lend_sys->close(exports->by_flag[i].fd);
        exports->by_flag[i].fd = -1;
    }
}

/* The descriptor, made when it is first asked for; -1: by_flag[flag].error says why not. */
static int export_by(struct lend_verbs_exports *exports, const struct lend_verbs_range *range,
                     unsigned flag)
{
    uint64_t bytes = page_end(range->address + range->bytes) - exports->start;

    if (exports->by_flag[flag].is_tried)
        return exports->by_flag[flag].fd;
    exports->by_flag[flag].is_tried = true;
    if (lend_cuda_export(exports->start, bytes, range->device,
                         flag == 0 ? 0 : LEND_CUDA_HANDLE_BY_PCIE, &exports->by_flag[flag].fd,
                         &exports->by_flag[flag].error) != LEND_OK)
        exports->by_flag[flag].fd = -1;
    return exports->by_flag[flag].fd;
}

/* --- memory regions --- */

/* How a range is to be registered. */
struct attempt {
    const struct lend_verbs_nic *nic;
    const struct lend_verbs_range *range;
    unsigned access;
    int fd; /* of a dma-buf; -1: by its address */
};

static struct lend_verbs_mr *register_piece(const struct attempt *how, uint64_t start, uint64_t end,
                                            uint64_t base)
{
    const struct lend_verbs_ops *verbs = how->nic->verbs;

    if (how->fd >= 0)
        return verbs->reg_dmabuf_mr(how->nic->pd, start - base, end - start, start, how->fd,
                                    (int)how->access);
    return lend_verbs_reg_mr(verbs, how->nic->pd, (void *)(uintptr_t)start, end - start,
                             how->access);
}

void lend_verbs_attachment_forget(struct lend_verbs_attachment *attachment)
{
    lend_sys->release(attachment->pieces);
    attachment->pieces = NULL;
    attachment->piece_count = 0;
    attachment->means = 0;
}

static enum lend_status lay_out(const struct attempt *how, struct lend_verbs_attachment *out,
                                struct lend_error *error)
{
    uint64_t limit = how->nic->abilities.region_bytes_max;
    uint64_t end = how->range->address + how->range->bytes;

    out->address = how->range->address;
    out->bytes = how->range->bytes;
    out->base = page_of(out->address);
    /* The NIC counts whole pages. */
    out->piece_bytes = page_end(end) - out->base;
    if (out->piece_bytes > limit)
        out->piece_bytes = page_of(limit);
    uint64_t count = out->piece_bytes == 0 ? UINT64_MAX : (end - out->base - 1) / out->piece_bytes;
    if (count >= LEND_VERBS_PIECES_MAX)
        return lend_fail(error, LEND_E_LIMIT,
                         "%s takes %llu bytes a memory region, so that %llu would need more than "
                         "%d of them",
                         how->nic->name, (unsigned long long)limit, (unsigned long long)out->bytes,
                         LEND_VERBS_PIECES_MAX);
    out->pieces = lend_sys->allocate((count + 1) * sizeof(struct lend_verbs_mr *));
    if (out->pieces == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "%s: no memory for a registration",
                         how->nic->name);
    out->piece_count = (uint32_t)count + 1;
    return LEND_OK;
}

/* Register all pieces, or none; out_errno is that of the one that failed, or 0. */
static enum lend_status register_all(const struct attempt *how, struct lend_verbs_attachment *out,
                                     int *out_errno, struct lend_error *error)
{
    uint64_t end = how->range->address + how->range->bytes;
    enum lend_status status = lay_out(how, out, error);

    *out_errno = 0;
    if (status != LEND_OK)
        return status;
    for (uint32_t i = 0; i < out->piece_count; i++) {
        uint64_t from = i == 0 ? out->address : out->base + i * out->piece_bytes;
        uint64_t to = i + 1 == out->piece_count ? end : out->base + (i + 1) * out->piece_bytes;

        errno = 0;
        out->pieces[i] = register_piece(how, from, to, out->base);
        if (out->pieces[i] != NULL)
            continue;
        *out_errno = errno != 0 ? errno : EIO;
        /* Keys that nobody was told of: what the NIC keeps of them does no harm but hold memory. */
        (void)lend_verbs_detach(how->nic, out, NULL);
        lend_verbs_attachment_forget(out);
        return lend_verbs_fail(error, *out_errno, "%s: registering 0x%llx+%llu", how->nic->name,
                               (unsigned long long)out->address, (unsigned long long)out->bytes);
    }
    return LEND_OK;
}

/* What the kernel and the provider mean by refusing memory of the host. */
static enum lend_status explain_pages(const struct attempt *how, int number,
                                      struct lend_error *error)
{
    unsigned long long address = how->range->address, bytes = how->range->bytes;
    const char *name = how->nic->name;

    if (number == ENOMEM) {
        enum lend_status status = lend_verbs_check_memlock(bytes, error);

        if (status != LEND_OK)
            return status;
        return lend_fail(error, LEND_E_LIMIT,
                         "%s: no room for %llu more bytes: its %u memory regions, locked memory "
                         "(RLIMIT_MEMLOCK, in a user namespace too), or the kernel's memory",
                         name, bytes, how->nic->abilities.regions_max);
    }
    if (number == EFAULT && (how->access & LEND_VERBS_LOCAL_WRITE) != 0)
        return lend_fail(error, LEND_E_MEMORY,
                         "%s: 0x%llx+%llu cannot be pinned for writing: part of it is not mapped, "
                         "not writable, or a shared mapping of a file on a disk (Linux 6.5 and "
                         "later pin none)",
                         name, address, bytes);
    if (number == EFAULT)
        return lend_fail(error, LEND_E_MEMORY,
                         "%s: 0x%llx+%llu cannot be pinned: part of it is not mapped or not "
                         "readable (before Linux 6.2 it has to be writable, too)",
                         name, address, bytes);
    return lend_fail(error, LEND_E_MEMORY, "%s takes no such memory: 0x%llx+%llu (rights 0x%x)",
                     name, address, bytes, how->access);
}

static enum lend_status attach_pages(const struct attempt *how, struct lend_verbs_attachment *out,
                                     struct lend_error *error)
{
    int number;
    enum lend_status status = lend_verbs_check_memlock(how->range->bytes, error);

    if (status != LEND_OK)
        return status;
    status = register_all(how, out, &number, error);
    if (number == ENOMEM || number == EFAULT || number == EINVAL || number == EOPNOTSUPP)
        return explain_pages(how, number, error);
    if (status != LEND_OK)
        return status;
    out->means = LEND_VERBS_BY_PAGES;
    out->can_bind = (how->access & LEND_VERBS_BIND) != 0;
    return LEND_OK;
}

/* With the descriptor of that flag; how->fd is its. */
static enum lend_status attach_export(struct attempt *how, struct lend_verbs_attachment *out,
                                      struct lend_error *error)
{
    int number;
    enum lend_status status = register_all(how, out, &number, error);

    /* Kernels know no windows over a dma-buf: without them, private registrations serve. */
    if (number == EINVAL && (how->access & LEND_VERBS_BIND) != 0) {
        how->access &= ~(unsigned)LEND_VERBS_BIND;
        status = register_all(how, out, &number, error);
    }
    if (status == LEND_OK) {
        out->means = LEND_VERBS_BY_DMA_BUF;
        out->can_bind = (how->access & LEND_VERBS_BIND) != 0;
    }
    return status;
}

enum lend_status lend_verbs_attach_export(const struct lend_verbs_nic *nic,
                                          const struct lend_verbs_range *range,
                                          struct lend_verbs_exports *exports, unsigned flag,
                                          struct lend_verbs_attachment *out,
                                          struct lend_error *error)
{
    struct attempt how = {.nic = nic, .range = range, .access = range->access};

    how.fd = export_by(exports, range, flag);
    if (how.fd >= 0)
        return attach_export(&how, out, error);
    *error = exports->by_flag[flag].error;
    return (enum lend_status)error->status;
}

/* By those that are fit for that GPU; the default's reason counts. */
static enum lend_status attach_dma_buf(const struct lend_verbs_nic *nic,
                                       const struct lend_verbs_range *range,
                                       struct lend_verbs_exports *exports,
                                       struct lend_verbs_attachment *out, struct lend_error *error)
{
    enum lend_status status = LEND_E_UNSUPPORTED;
    const uint32_t ordinal = (uint32_t)range->device;
    const unsigned unfit =
        ordinal < LEND_VERBS_ORDINALS_MAX
            ? atomic_load_explicit(&nic->unfit_exports[ordinal], memory_order_relaxed)
            : 0;
    bool is_tried = false;

    if (!nic->abilities.has_dma_buf)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "%s takes no dma-buf (it needs rdma-core 34, Linux 5.12 and a driver that "
                         "knows it)",
                         nic->name);
    for (unsigned flag = 0; flag < 2; flag++) {
        struct lend_error why = {0};

        if ((unfit >> flag & 1) != 0)
            continue;
        enum lend_status result = lend_verbs_attach_export(nic, range, exports, flag, out, &why);
        if (result == LEND_OK)
            return LEND_OK;
        if (!is_tried || exports->by_flag[flag].fd >= 0) {
            status = result;
            *error = why;
        }
        is_tried = true;
    }
    if (!is_tried)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "%s reaches memory of GPU %d by no dma-buf: what it tried is in the log",
                         nic->name, range->device);
    return status;
}

static enum lend_status attach_device(const struct lend_verbs_nic *nic,
                                      const struct lend_verbs_range *range,
                                      struct lend_verbs_exports *exports,
                                      struct lend_verbs_attachment *out, struct lend_error *error)
{
    const struct attempt how = {.nic = nic, .range = range, .access = range->access, .fd = -1};
    char why[160];
    int number;
    enum lend_status status = attach_dma_buf(nic, range, exports, out, error);

    if (status == LEND_OK || status == LEND_E_NO_MEMORY)
        return status;
    status = register_all(&how, out, &number, &(struct lend_error){0});
    if (status == LEND_OK) {
        out->means = LEND_VERBS_BY_PEER_MEMORY;
        out->can_bind = (how.access & LEND_VERBS_BIND) != 0;
        return LEND_OK; /* error has why the better way was not to be had */
    }
    if (lend_verbs_has_peer_memory(why, sizeof why))
        (void)snprintf(why, sizeof why, "nvidia_peermem is loaded, and refused it (errno %d)",
                       number);
    return lend_fail(error, LEND_E_UNSUPPORTED, "%s; and %s", error->message, why);
}

enum lend_status lend_verbs_attach(const struct lend_verbs_nic *nic,
                                   const struct lend_verbs_range *range,
                                   struct lend_verbs_exports *exports,
                                   struct lend_verbs_attachment *out)
{
    const struct attempt how = {.nic = nic, .range = range, .access = range->access, .fd = -1};
    enum lend_status status;

    *out = (struct lend_verbs_attachment){0};
    if (range->kind == LEND_MEMORY_DEVICE)
        status = attach_device(nic, range, exports, out, &out->refusal);
    else
        status = attach_pages(&how, out, &out->refusal);
    if (status == LEND_OK && out->means != LEND_VERBS_BY_PEER_MEMORY)
        out->refusal.status = LEND_OK;
    return status;
}

enum lend_status lend_verbs_detach(const struct lend_verbs_nic *nic,
                                   struct lend_verbs_attachment *attachment,
                                   struct lend_error *error)
{
    uint32_t kept = 0;
    int number = 0;

    for (uint32_t i = 0; i < attachment->piece_count; i++) {
        if (attachment->pieces[i] == NULL)
            continue;
        int result = lend_verbs_errno(nic->verbs->dereg_mr(attachment->pieces[i]));

        if (result == 0) {
            attachment->pieces[i] = NULL;
            continue;
        }
        number = result;
        kept++;
    }
    if (kept > 0)
        return lend_fail(error, LEND_E_BUSY,
                         "%s still holds 0x%llx+%llu: ibv_dereg_mr of %u memory regions returned "
                         "errno %d%s",
                         nic->name, (unsigned long long)attachment->address,
                         (unsigned long long)attachment->bytes, kept, number,
                         number == EBUSY || number == EINVAL ? " (memory windows are bound to it)"
                                                             : "");
    return LEND_OK;
}

struct lend_verbs_mr *lend_verbs_attachment_at(const struct lend_verbs_attachment *attachment,
                                               uint64_t address, uint64_t *out_start,
                                               uint64_t *out_end)
{
    uint64_t end = attachment->address + attachment->bytes;

    if (attachment->means == 0 || address < attachment->address || address >= end)
        return NULL;
    uint64_t index = (address - attachment->base) / attachment->piece_bytes;
    uint64_t from = attachment->base + index * attachment->piece_bytes;
    uint64_t to = from + attachment->piece_bytes;
    *out_start = index == 0 ? attachment->address : from;
    *out_end = index + 1 == attachment->piece_count ? end : to;
    return attachment->pieces[index];
}
