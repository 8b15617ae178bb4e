/* SPDX-License-Identifier: Apache-2.0 */
#include "core/share.h"

#include "base/error.h"
#include "base/sort.h"
#include "base/sys.h"
#include "core/region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { WHO_BYTES = 96 };

static struct lend_file *file_of(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct lend_file, link);
}

static bool is_of(const struct lend_file *file, const struct lend_backing *backing)
{
    return file->device == NULL && file->shared.backing.device == backing->device &&
           file->shared.backing.inode == backing->inode;
}

/* Does who has the one reach bytes of the other? */
static bool is_same(const struct lend_file *file, const struct lend_file *other)
{
    if (file->device == NULL || other->device == NULL)
        return other->device == NULL && is_of(file, &other->shared.backing);
    return lend_device_common(file->device, other->device) > 0;
}

/* Has it all of these allocations? */
static bool has_all(const struct lend_file *file, const struct lend_device_memory *memory)
{
    return file->device != NULL &&
           lend_device_common(file->device, memory) == lend_device_end(memory) - memory->start;
}

static void close_descriptors(struct lend_file *file)
{
    if (file->write_fd >= 0)
        lend_sys->close(file->write_fd);
    if (file->shared.fd >= 0)
        lend_sys->close(file->shared.fd);
    file->write_fd = file->shared.fd = -1;
}

static void free_file(struct lend_file *file)
{
    lend_list_remove(&file->link);
    close_descriptors(file);
    lend_device_release(file->device);
    lend_sys->release(file);
}

/* --- what a call wants --- */

static enum lend_status open_descriptors(struct lend_file *file, int fd, struct lend_error *error)
{
    file->write_fd = lend_sys->duplicate(fd);
    if (file->write_fd < 0)
        return lend_fail_errno(error, -file->write_fd, "no duplicate of descriptor %d to share",
                               fd);
    file->shared.fd = lend_sys->reopen_read(fd);
    if (file->shared.fd < 0)
        return lend_fail_errno(error, -file->shared.fd,
                               "opening the file of descriptor %d anew, for reading alone", fd);
    return LEND_OK;
}

/* Made for this call already; NULL: it is not. */
static struct lend_file *find_made(const struct lend_wanted_files *wanted,
                                   const struct lend_backing *backing)
{
    for (struct lend_list *link = wanted->made.next; link != &wanted->made; link = link->next)
        if (is_of(file_of(link), backing))
            return file_of(link);
    return NULL;
}

/* One that is not open yet; NULL: no memory. */
static struct lend_file *add_file(struct lend_wanted_files *wanted,
                                  const struct lend_shared_file *shared)
{
    struct lend_file *file = lend_sys->allocate(sizeof *file);

    if (file == NULL)
        return NULL;
    *file = (struct lend_file){.shared = *shared, .write_fd = -1};
    lend_list_append(&wanted->made, &file->link);
    return file;
}

static enum lend_status make_file(const struct lend_region_desc *desc,
                                  const struct lend_backing *backing,
                                  struct lend_wanted_files *wanted, struct lend_file **out,
                                  struct lend_error *error)
{
    const struct lend_shared_file shared = {
        .fd = -1,
        .backing = *backing,
        .consents_to_owner = (desc->flags & LEND_REGION_PUNCH_OUT) != 0,
    };
    struct lend_file *file = add_file(wanted, &shared);

    if (file == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a file to share");
    enum lend_status status = open_descriptors(file, desc->share_fd, error);
    if (status != LEND_OK) {
        free_file(file);
        return status;
    }
    *out = file;
    return LEND_OK;
}

static enum lend_status want_file(const struct lend_region_desc *desc,
                                  const struct lend_backing *backing,
                                  struct lend_wanted_files *wanted, struct lend_file **out,
                                  struct lend_error *error)
{
    *out = find_made(wanted, backing);
    return *out != NULL ? LEND_OK : make_file(desc, backing, wanted, out, error);
}

static enum lend_status check_punch(const struct lend_region_desc *desc,
                                    const struct lend_backing *backing, struct lend_error *error)
{
    if ((desc->flags & LEND_REGION_PUNCH_OUT) == 0)
        return LEND_OK;
    if (backing->is_closed_to_writers)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "LEND_REGION_PUNCH_OUT: the kernel punches nothing out of a file that is "
                         "sealed against writers (as that of lend_storage_create() is)");
    if (backing->is_huge)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "LEND_REGION_PUNCH_OUT: huge pages that are punched out may be gone for "
                         "good; take ordinary ones");
    return LEND_OK;
}

/* How far the mapping of the file is from the file: alike wherever one mapping goes on. */
static uint64_t step_of(const struct lend_region_desc *desc)
{
    return desc->share_offset_bytes - desc->memory.address;
}

static bool shares(const struct lend_region_desc *desc)
{
    return (desc->flags & LEND_REGION_SHARE_FILE) != 0;
}

static bool shares_device(const struct lend_region_desc *desc)
{
    return (desc->flags & LEND_REGION_SHARE_DEVICE) != 0;
}

/* How many descriptions from the first on could be of one mapping of one file. */
static uint32_t run_of(const struct lend_region_desc *descs, uint32_t count)
{
    uint32_t length = 1;

    while (length < count && shares(&descs[length]) &&
           descs[length].share_fd == descs[0].share_fd && step_of(&descs[length]) == step_of(descs))
        length++;
    return length;
}

/* Is everything from the first byte of a run to its last in the file? One look at the kernel's list
 * of mappings, however many there are. */
static enum lend_status check_run(const struct lend_region_desc *descs, uint32_t count,
                                  struct lend_backing *out, struct lend_error *error)
{
    struct lend_memory whole = descs[0].memory;
    uint64_t end = whole.address + whole.length_bytes;

    for (uint32_t i = 1; i < count; i++) {
        const struct lend_memory *memory = &descs[i].memory;

        if (memory->address < whole.address)
            whole.address = memory->address;
        if (memory->address + memory->length_bytes > end)
            end = memory->address + memory->length_bytes;
    }
    whole.length_bytes = end - whole.address;
    return lend_backing_check(descs[0].share_fd, whole.address + step_of(descs), &whole, out,
                              error);
}

static enum lend_status want_run(const struct lend_region_desc *descs, struct lend_verify *items,
                                 uint32_t count, struct lend_wanted_files *wanted,
                                 struct lend_file **out)
{
    enum lend_status first = LEND_OK;
    struct lend_backing backing;
    bool is_one = count > 1 && check_run(descs, count, &backing, NULL) == LEND_OK;

    for (uint32_t i = 0; i < count; i++) {
        struct lend_error *error = &items[i].error;
        enum lend_status status = is_one ? LEND_OK : check_run(&descs[i], 1, &backing, error);

        if (status == LEND_OK)
            status = check_punch(&descs[i], &backing, error);
        if (status == LEND_OK && is_one && i > 0 && out[i - 1] != NULL)
            out[i] = out[i - 1];
        else if (status == LEND_OK)
            status = want_file(&descs[i], &backing, wanted, &out[i], error);
        items[i].status = status;
        first = first == LEND_OK ? status : first;
    }
    return first;
}

/* --- what it wants of GPUs --- */

/* A file of which nothing is ours but what it says: how memory of a GPU is opened. */
static enum lend_status write_share(struct lend_file *file, const struct lend_device_share *share,
                                    struct lend_error *error)
{
    size_t page_bytes = lend_sys->page_bytes(), told = lend_device_share_bytes(share);
    size_t bytes = (told + page_bytes - 1) / page_bytes * page_bytes;
    int fd = lend_sys->memfd_storage("lend-gpu", bytes, false);

    if (fd < 0)
        return lend_fail_errno(error, -fd, "no memory file to tell of GPU memory by");
    void *memory = lend_sys->map_file(fd, 0, bytes, true, false);
    int result = -ENOMEM;
    if (memory != NULL) {
        memcpy(memory, share, told);
        lend_sys->unmap(memory, bytes);
        result = lend_sys->seal(fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    }
    if (result == 0)
        result = file->shared.fd = lend_sys->reopen_read(fd);
    lend_sys->close(fd);
    if (result < 0)
        return lend_fail_errno(error, -result, "a file that tells of GPU memory");
    file->shared.backing.file_bytes = bytes;
    return LEND_OK;
}

/* A transport's question, while it shares the file: the memory is there, or its owner is in breach
 * of its word, which is seen. */
static enum lend_status export_part(const struct lend_shared_file *shared, uint32_t index,
                                    int *out_fd, struct lend_error *error)
{
    const struct lend_file *file =
        (const struct lend_file *)(const void *)((const char *)shared -
                                                 offsetof(struct lend_file, shared));

    return lend_device_export_part(file->device, &file->way, index, out_fd, error);
}

/* Add what of the item's chunks goes beyond the file's. */
static enum lend_status extend(struct lend_file *file, const struct lend_device_memory *memory,
                               struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    for (uint32_t i = 0; status == LEND_OK && i < memory->buffer_count; i++)
        if (file->device == NULL || memory->buffers[i].end > lend_device_end(file->device))
            status = lend_device_note(&file->device, memory->buffers[i].end, memory->buffers[i].id,
                                      error);
    return status;
}

/* One of the item's allocations, whole, of which nothing is written down yet. */
static enum lend_status add_device_file(const struct lend_verify *item,
                                        const struct lend_device_way *way,
                                        struct lend_wanted_files *wanted, struct lend_file **out,
                                        struct lend_error *error)
{
    const struct lend_shared_file shared = {
        .fd = -1,
        .backing = {.is_fit_for_mapping = true, .is_closed_to_writers = true},
        .is_device = true,
        .part = export_part};
    struct lend_file *file = add_file(wanted, &shared);

    if (file == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for an allocation to share");
    enum lend_status status = extend(file, item->device, error);
    if (status != LEND_OK) {
        free_file(file);
        return status;
    }
    file->device->start = item->allocation;
    file->device->ordinal = item->device->ordinal;
    file->device->lane = item->device->lane;
    file->way = *way;
    *out = file;
    return LEND_OK;
}

/* Do the item's chunks lie in the file's, or go on behind them, and are opened as those are? */
static bool goes_on(const struct lend_file *file, const struct lend_verify *item,
                    const struct lend_device_way *way)
{
    return file != NULL && file->way.kind == LEND_DEVICE_CHUNKS &&
           way->kind == LEND_DEVICE_CHUNKS && file->way.handle_types == way->handle_types &&
           file->device->ordinal == item->device->ordinal &&
           item->allocation <= lend_device_end(file->device) &&
           file->device->buffer_count + item->device->buffer_count <= LEND_DEVICE_PARTS_MAX;
}

/* The file of one item, of which those before it in the order of addresses have theirs. */
static enum lend_status seat(struct lend_verify *item, struct lend_wanted_files *wanted,
                             struct lend_file **last)
{
    struct lend_device_way way;
    enum lend_status status = lend_device_judge(item->device, &way, &item->error);

    if (status != LEND_OK)
        return status;
    if (goes_on(*last, item, &way))
        return extend(*last, item->device, &item->error);
    if (*last != NULL && has_all(*last, item->device))
        return LEND_OK; /* several, of one allocation */
    return add_device_file(item, &way, wanted, last, &item->error);
}

static enum lend_status write_all(struct lend_verify *items, uint32_t count,
                                  struct lend_wanted_files *wanted)
{
    enum lend_status first = LEND_OK;

    for (uint32_t i = 0; first == LEND_OK && i < count; i++) {
        struct lend_device_share *share = NULL;
        struct lend_file *file = wanted->of[i];

        if (file == NULL || file->device == NULL || file->shared.fd >= 0)
            continue;
        first = lend_device_export(file->device, &file->way, &share, &items[i].error);
        if (first == LEND_OK)
            first = write_share(file, share, &items[i].error);
        lend_sys->release(share);
        items[i].status = first;
    }
    return first;
}

static enum lend_status want_devices(const struct lend_region_desc *descs,
                                     struct lend_verify *items, uint32_t count,
                                     struct lend_wanted_files *wanted)
{
    struct lend_sorted *places = lend_sys->allocate(2 * (size_t)count * sizeof *places);
    enum lend_status first = LEND_OK;
    struct lend_file *last = NULL;
    size_t found = 0;

    if (places == NULL)
        return items[0].status = lend_fail(&items[0].error, LEND_E_NO_MEMORY,
                                           "no memory to sort %u regions", count);
    for (uint32_t i = 0; i < count; i++)
        if (shares_device(&descs[i]))
            places[found++] = (struct lend_sorted){items[i].memory.address, &items[i]};
    const struct lend_sorted *sorted = lend_sort(places, found);
    for (size_t i = 0; i < found; i++) {
        struct lend_verify *item = sorted[i].value;

        item->status = seat(item, wanted, &last);
        first = first == LEND_OK ? item->status : first;
        wanted->of[item - items] = item->status == LEND_OK ? last : NULL;
    }
    lend_sys->release(places);
    return first == LEND_OK ? write_all(items, count, wanted) : first;
}

enum lend_status lend_files_want(const struct lend_region_desc *descs, struct lend_verify *items,
                                 uint32_t count, struct lend_wanted_files *out)
{
    enum lend_status first = LEND_OK;
    bool has_device = false;
    uint32_t at = 0;

    *out = (struct lend_wanted_files){0};
    lend_list_init(&out->made);
    while (at < count && !shares(&descs[at]) && !shares_device(&descs[at]))
        at++;
    if (at == count)
        return LEND_OK;
    out->of = lend_sys->allocate(count * sizeof(struct lend_file *));
    if (out->of == NULL) {
        items[at].status = lend_fail(&items[at].error, LEND_E_NO_MEMORY,
                                     "no memory for the files of %u regions", count);
        return LEND_E_NO_MEMORY;
    }
    while (at < count) {
        uint32_t length = 1;

        if (shares(&descs[at])) {
            length = run_of(&descs[at], count - at);
            enum lend_status status = want_run(&descs[at], &items[at], length, out, &out->of[at]);
            first = first == LEND_OK ? status : first;
        } else if (shares_device(&descs[at])) {
            has_device = true;
        }
        at += length;
    }
    enum lend_status status = has_device ? want_devices(descs, items, count, out) : LEND_OK;
    return first == LEND_OK ? status : first;
}

void lend_files_drop(struct lend_wanted_files *wanted)
{
    if (wanted->made.next == NULL) /* nothing was wanted */
        return;
    while (!lend_list_is_empty(&wanted->made))
        free_file(file_of(wanted->made.next));
    lend_sys->release(wanted->of);
    wanted->of = NULL;
}

/* --- who maps it --- */

/* Under that number, by a peer of any transport. */
static bool is_mapped_locked(struct lend_agent *agent, struct lend_file *file, char *who)
{
    if (!file->may_be_held)
        return false;
    for (uint32_t i = 0; i < agent->transport_count; i++) {
        const struct lend_open_transport *slot = &agent->transports[i];

        if (slot->ops->is_held != NULL &&
            slot->ops->is_held(slot->transport, file->shared.number, who, WHO_BYTES))
            return true;
    }
    file->may_be_held = file->is_told;
    return false;
}

/* Under any of its numbers: who was late to let go once may map it still, when it is shared anew.
 */
static bool is_held_locked(struct lend_agent *agent, const struct lend_file *file, char *who)
{
    for (struct lend_list *link = agent->files.next; link != &agent->files; link = link->next)
        if (is_same(file_of(link), file) && is_mapped_locked(agent, file_of(link), who))
            return true;
    return false;
}

static void share_locked(struct lend_agent *agent, struct lend_file *file)
{
    for (uint32_t i = 0; i < agent->transport_count; i++) {
        const struct lend_open_transport *slot = &agent->transports[i];

        if (slot->ops->share == NULL)
            continue;
        slot->ops->share(slot->transport, &file->shared);
        file->is_told = file->may_be_held = true;
    }
}

/* Is every region lent that lies in it, or in another that has bytes of it? */
static bool may_be_shared_locked(struct lend_agent *agent, const struct lend_file *file)
{
    for (struct lend_list *link = agent->files.next; link != &agent->files; link = link->next) {
        const struct lend_file *other = file_of(link);

        bool is_taken = other->closed > 0 || (other->is_spent && other->references > 0);

        if (is_taken && is_same(other, file))
            return false;
    }
    return true;
}

void lend_files_share_locked(struct lend_agent *agent)
{
    for (struct lend_list *link = agent->files.next; link != &agent->files; link = link->next) {
        struct lend_file *file = file_of(link);

        if (file->references > 0 && !file->is_told && may_be_shared_locked(agent, file))
            share_locked(agent, file);
    }
}

static void unshare_locked(struct lend_agent *agent, struct lend_file *file)
{
    for (uint32_t i = 0; i < agent->transport_count; i++) {
        const struct lend_open_transport *slot = &agent->transports[i];

        if (slot->ops->share != NULL)
            slot->ops->unshare(slot->transport, file->shared.number);
    }
    file->is_told = false;
    agent->serial++; /* its other regions are told of without it */
}

/* --- regions in it --- */

/* Free the files that transports alone had to do with, and have no more. */
static void sweep_locked(struct lend_agent *agent)
{
    char who[WHO_BYTES];
    struct lend_list *next;

    for (struct lend_list *link = agent->files.next; link != &agent->files; link = next) {
        next = link->next;
        if (file_of(link)->references == 0 && !is_mapped_locked(agent, file_of(link), who))
            free_file(file_of(link));
    }
}

static void leave_locked(struct lend_region *region)
{
    struct lend_file *file = region->file;

    if (region->is_file_closed)
        file->closed--;
    file->references--;
    region->file = NULL;
    region->is_file_closed = false;
    region->is_punched = false;
}

/* The agent's file that it is, not counting one that only this region is in. */
static struct lend_file *find_locked(const struct lend_region *region,
                                     const struct lend_file *wanted)
{
    struct lend_list *const files = &region->agent->files;

    for (struct lend_list *link = files->next; link != files; link = link->next) {
        struct lend_file *file = file_of(link);

        bool is_it = wanted->device != NULL ? has_all(file, wanted->device) : is_same(file, wanted);

        if (is_it && file->references > (region->file == file ? 1 : 0))
            return file;
    }
    return NULL;
}

/* All of its regions are closed, and its descriptors given up: it lives anew from those. */
static void revive(struct lend_file *file, struct lend_file *from)
{
    file->write_fd = from->write_fd;
    file->shared.fd = from->shared.fd;
    file->shared.backing = from->shared.backing;
    from->write_fd = from->shared.fd = -1;
}

enum lend_status lend_file_attach_locked(struct lend_region *region, struct lend_file *wanted,
                                         uint64_t offset_bytes, struct lend_error *error)
{
    struct lend_agent *agent = region->agent;
    bool may_punch = (region->flags & LEND_REGION_PUNCH_OUT) != 0;
    struct lend_file *file = find_locked(region, wanted);

    if ((file != NULL ? file : wanted)->shared.consents_to_owner != may_punch)
        return lend_fail(error, LEND_E_INVALID,
                         "LEND_REGION_PUNCH_OUT is for all regions of one file, or for none: "
                         "others of this one have it %s",
                         may_punch ? "not" : "set");
    if (region->file != NULL)
        leave_locked(region);
    if (file == NULL) {
        file = wanted;
        lend_list_remove(&file->link);
        sweep_locked(agent);
        file->shared.number = ++agent->file_number_last;
        lend_list_append(&agent->files, &file->link);
    } else if (file->shared.fd < 0) {
        revive(file, wanted);
    }
    file->references++;
    region->file = file;
    region->file_offset_bytes =
        file->device != NULL ? region->memory.address - file->device->start : offset_bytes;
    return LEND_OK;
}

void lend_file_detach_locked(struct lend_region *region)
{
    const struct lend_agent *agent = region->agent;
    struct lend_file *file = region->file;

    if (file == NULL)
        return;
    for (struct lend_list *link = agent->files.next; link != &agent->files; link = link->next)
        if (region->is_file_closed && is_same(file_of(link), file))
            file_of(link)->is_spent = true;
    leave_locked(region);
    if (file->references == 0)
        sweep_locked(region->agent);
}

uint32_t lend_file_number_locked(const struct lend_region *region)
{
    return region->file != NULL && region->file->is_told ? region->file->shared.number : 0;
}

/* --- taking it back --- */

void lend_file_close_locked(struct lend_region *region)
{
    struct lend_agent *agent = region->agent;
    struct lend_file *file = region->file;

    if (file == NULL || region->is_file_closed)
        return;
    region->is_file_closed = true;
    file->closed++;
    for (struct lend_list *link = agent->files.next; link != &agent->files; link = link->next)
        if (file_of(link)->is_told && is_same(file_of(link), file))
            unshare_locked(agent, file_of(link));
}

/* A region that is still lent, and has bytes of the file in common with this one; or NULL. */
static const struct lend_region *find_sharer_locked(const struct lend_region *region)
{
    const struct lend_agent *agent = region->agent;
    uint64_t start = region->file_offset_bytes, end = start + region->memory.length_bytes;

    for (uint32_t i = 0; i < agent->table.place_count; i++) {
        const struct lend_region *other = agent->table.places[i].region;

        if (other != NULL && other->file == region->file && !other->is_file_closed &&
            other->file_offset_bytes < end &&
            other->file_offset_bytes + other->memory.length_bytes > start)
            return other;
    }
    return NULL;
}

/* Those who map the file find zeros there from now on, and so does the owner. */
static enum lend_status punch_locked(struct lend_region *region, const char *who,
                                     struct lend_error *error)
{
    struct lend_file *file = region->file;
    const struct lend_region *sharer = find_sharer_locked(region);

    if (sharer != NULL)
        return lend_fail(error, LEND_E_BUSY,
                         "region %s (%llu): %s has its file mapped, and has not let go; its pages "
                         "are also of region %s (%llu), which is lent",
                         region->name, (unsigned long long)region->id, who, sharer->name,
                         (unsigned long long)sharer->id);
    /* Under the agent's lock: it is the last resort, and nobody is to lend the pages meanwhile. */
    int result =
        lend_sys->punch(file->write_fd, region->file_offset_bytes, region->memory.length_bytes);
    if (result < 0)
        return lend_fail(error, LEND_E_BUSY,
                         "region %s (%llu): %s has its file mapped, and has not let go; its pages "
                         "cannot be punched out: %s",
                         region->name, (unsigned long long)region->id, who,
                         strerrordesc_np(-result));
    region->is_punched = true;
    file->is_spent = true;
    lend_agent_log(region->agent, LEND_LOG_WARNING,
                   "region %s (%llu): %s has not let go of its file in time; %llu bytes were "
                   "punched out of it",
                   region->name, (unsigned long long)region->id, who,
                   (unsigned long long)region->memory.length_bytes);
    return LEND_OK;
}

enum lend_status lend_file_await_locked(struct lend_region *region, bool is_late,
                                        struct lend_error *error)
{
    struct lend_file *file = region->file;
    char who[WHO_BYTES] = "somebody";

    if (file == NULL || region->is_punched)
        return LEND_OK;
    if (is_held_locked(region->agent, file, who)) {
        if (is_late && (region->flags & LEND_REGION_PUNCH_OUT) != 0)
            return punch_locked(region, who, error);
        return lend_fail(error, LEND_E_BUSY, "region %s (%llu): %s has its %s, and has not let go",
                         region->name, (unsigned long long)region->id, who,
                         file->shared.is_device ? "GPU memory open" : "file mapped");
    }
    if (file->closed == file->references && file->device == NULL) /* which keeps no memory alive */
        close_descriptors(file);
    return LEND_OK;
}

/* --- the end --- */

void lend_files_fini(struct lend_agent *agent)
{
    while (!lend_list_is_empty(&agent->files))
        free_file(file_of(agent->files.next));
}
