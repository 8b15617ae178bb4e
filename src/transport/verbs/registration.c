/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/registration.h"

#include "base/error.h"
#include "base/list.h"
#include "base/sys.h"
#include "memory/cuda.h"
#include "transport/verbs/attach.h"

#include <stdatomic.h>
#include <string.h>

/* Memory regions of one range on all NICs, that one region or several use. */
struct registration {
    struct lend_list link; /* in the store; alone: its keys have ended */
    struct lend_verbs_range range;
    uint32_t rights;
    struct lend_verbs_attachment on[LEND_VERBS_NICS_MAX];
};

struct lend_verbs_store {
    const struct lend_verbs_ops *verbs;
    struct lend_verbs_nic *nics[LEND_VERBS_NICS_MAX];
    uint32_t nic_count;
    pthread_mutex_t lock; /* of all that follows; held while memory is pinned */
    struct lend_list registrations;
    struct lend_list regions;
    struct lend_list orphans; /* released regions that a NIC still holds */
    /* Of which registration a region has, taken inside the other, for no longer than a look. */
    pthread_mutex_t keys_lock;
};

struct lend_verbs_region {
    struct lend_list link;
    struct lend_verbs_store *store;
    struct lend_verbs_memory memory;
    struct registration *registration; /* NULL: it has none */
    struct registration *ended;        /* its last, that a NIC still holds */
    _Atomic uint64_t life;
    uint32_t privates;
    bool is_withdrawn;
    bool is_moving;            /* to a registration of its own */
    struct lend_error refusal; /* why it has no registration */
};

enum lend_status lend_verbs_store_open(const struct lend_verbs_ops *verbs,
                                       struct lend_verbs_nic *const *nics, uint32_t nic_count,
                                       struct lend_verbs_store **out, struct lend_error *error)
{
    if (nic_count == 0 || nic_count > LEND_VERBS_NICS_MAX)
        return lend_fail(error, LEND_E_INVALID, "%u NICs; 1 to %d will do", nic_count,
                         LEND_VERBS_NICS_MAX);
    struct lend_verbs_store *made = lend_sys->allocate(sizeof *made);
    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for the registrations of NICs");
    made->verbs = verbs;
    memcpy(made->nics, nics, nic_count * sizeof made->nics[0]);
    made->nic_count = nic_count;
    (void)pthread_mutex_init(&made->lock, NULL); /* cannot fail on Linux */
    (void)pthread_mutex_init(&made->keys_lock, NULL);
    lend_list_init(&made->registrations);
    lend_list_init(&made->regions);
    lend_list_init(&made->orphans);
    *out = made;
    return LEND_OK;
}

/* --- registrations --- */

static void free_registration(struct registration *registration)
{
    lend_list_remove(&registration->link);
    for (uint32_t i = 0; i < LEND_VERBS_NICS_MAX; i++)
        lend_verbs_attachment_forget(&registration->on[i]);
    lend_sys->release(registration);
}

static unsigned access_on(const struct lend_verbs_nic *nic, uint32_t rights)
{
    unsigned access = 0;

    if ((rights & (LEND_VERBS_MAY_WRITE | LEND_VERBS_MAY_LAND)) != 0)
        access |= LEND_VERBS_LOCAL_WRITE;
    if ((rights & LEND_VERBS_MAY_READ) != 0)
        access |= LEND_VERBS_REMOTE_READ;
    if ((rights & LEND_VERBS_MAY_WRITE) != 0 && nic->abilities.has_windows_2b)
        access |= LEND_VERBS_BIND;
    if ((rights & LEND_VERBS_IS_ORDERED) == 0 && nic->abilities.has_relaxed_ordering)
        access |= LEND_VERBS_RELAXED_ORDERING;
    return access;
}

/* On every NIC that takes it; at least on one. */
static enum lend_status attach_all(const struct lend_verbs_store *store,
                                   struct registration *registration, struct lend_error *error)
{
    struct lend_verbs_exports exports;
    enum lend_status first = LEND_OK;
    uint32_t count = 0;

    lend_verbs_exports_init(&exports, &registration->range);
    for (uint32_t i = 0; i < store->nic_count; i++) {
        struct lend_verbs_attachment *on = &registration->on[i];

        registration->range.access = access_on(store->nics[i], registration->rights);
        enum lend_status status =
            lend_verbs_attach(store->nics[i], &registration->range, &exports, on);
        count += status == LEND_OK;
        if (status == LEND_OK || first != LEND_OK)
            continue;
        first = status;
        if (error != NULL)
            *error = on->refusal;
    }
    lend_verbs_exports_fini(&exports);
    return count > 0 ? LEND_OK : first;
}

static enum lend_status make_registration(struct lend_verbs_store *store,
                                          const struct lend_verbs_memory *memory, bool is_whole,
                                          struct registration **out, struct lend_error *error)
{
    struct registration *made = lend_sys->allocate(sizeof *made);

    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a registration");
    lend_list_init(&made->link);
    made->rights = memory->rights;
    made->range = (struct lend_verbs_range){.address = memory->address,
                                            .bytes = memory->bytes,
                                            .kind = memory->kind,
                                            .device = memory->device};
    if (is_whole && memory->allocation_bytes != 0) {
        made->range.address = memory->allocation_address;
        made->range.bytes = memory->allocation_bytes;
    }
    enum lend_status status = attach_all(store, made, error);
    if (status != LEND_OK) {
        free_registration(made);
        return status;
    }
    lend_list_append(&store->registrations, &made->link);
    *out = made;
    return LEND_OK;
}

/* One that has this memory already, with these rights. */
static struct registration *find_registration(struct lend_verbs_store *store,
                                              const struct lend_verbs_memory *memory)
{
    for (struct lend_list *at = store->registrations.next; at != &store->registrations;
         at = at->next) {
        struct registration *it = LEND_LIST_OWNER(at, struct registration, link);
        uint64_t offset = memory->address - it->range.address;

        if (it->range.kind == memory->kind && it->range.device == memory->device &&
            (memory->rights & ~it->rights) == 0 && (it->rights & LEND_VERBS_IS_ORDERED) == 0 &&
            memory->address >= it->range.address && offset < it->range.bytes &&
            memory->bytes <= it->range.bytes - offset)
            return it;
    }
    return NULL;
}

/* Give every NIC its memory regions back. LEND_OK: the registration is gone. */
static enum lend_status end_registration(const struct lend_verbs_store *store,
                                         struct registration *registration,
                                         struct lend_error *error)
{
    enum lend_status result = LEND_OK;

    for (uint32_t i = 0; i < store->nic_count; i++) {
        enum lend_status status = lend_verbs_detach(store->nics[i], &registration->on[i],
                                                    result == LEND_OK ? error : NULL);

        if (status != LEND_OK)
            result = status;
    }
    if (result == LEND_OK)
        free_registration(registration);
    return result;
}

/* --- regions --- */

static void set_registration(struct lend_verbs_region *region, struct registration *registration)
{
    (void)pthread_mutex_lock(&region->store->keys_lock);
    region->registration = registration;
    /* Release: who sees the new life looks its keys up anew. */
    atomic_fetch_add_explicit(&region->life, 1, memory_order_release);
    (void)pthread_mutex_unlock(&region->store->keys_lock);
}

static enum lend_status check_memory(const struct lend_verbs_memory *memory,
                                     struct lend_error *error)
{
    uint64_t offset = memory->address - memory->allocation_address;

    if (memory->bytes == 0 || memory->bytes > UINT64_MAX - memory->address ||
        memory->allocation_bytes > UINT64_MAX - memory->allocation_address)
        return lend_fail(error, LEND_E_INVALID, "memory at 0x%llx has %llu bytes",
                         (unsigned long long)memory->address, (unsigned long long)memory->bytes);
    if (memory->allocation_bytes != 0 &&
        (memory->address < memory->allocation_address || offset >= memory->allocation_bytes ||
         memory->bytes > memory->allocation_bytes - offset))
        return lend_fail(error, LEND_E_INVALID,
                         "memory at 0x%llx+%llu does not lie in its allocation 0x%llx+%llu",
                         (unsigned long long)memory->address, (unsigned long long)memory->bytes,
                         (unsigned long long)memory->allocation_address,
                         (unsigned long long)memory->allocation_bytes);
    return LEND_OK;
}

/* Without a lock. */
static enum lend_status find_or_make(struct lend_verbs_store *store,
                                     struct lend_verbs_region *region, struct lend_error *error)
{
    struct registration *found = NULL;

    if ((region->memory.rights & LEND_VERBS_IS_ORDERED) == 0)
        found = find_registration(store, &region->memory);
    if (found == NULL) {
        enum lend_status status = make_registration(store, &region->memory, true, &found, error);

        if (status != LEND_OK)
            return status;
    }
    set_registration(region, found);
    return LEND_OK;
}

enum lend_status lend_verbs_region_register(struct lend_verbs_store *store,
                                            const struct lend_verbs_memory *memory,
                                            struct lend_verbs_region **out,
                                            struct lend_error *error)
{
    enum lend_status status = check_memory(memory, error);

    if (status != LEND_OK)
        return status;
    struct lend_verbs_region *made = lend_sys->allocate(sizeof *made);
    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a registration");
    made->store = store;
    made->memory = *memory;
    (void)pthread_mutex_lock(&store->lock);
    status = find_or_make(store, made, error);
    if (status == LEND_OK)
        lend_list_append(&store->regions, &made->link);
    (void)pthread_mutex_unlock(&store->lock);
    if (status != LEND_OK) {
        lend_sys->release(made);
        return status;
    }
    *out = made;
    return LEND_OK;
}

/* Nobody finds that registration any more. */
static void leave_registration(struct lend_verbs_store *store, struct lend_verbs_region *leaver,
                               const struct registration *left)
{
    (void)pthread_mutex_lock(&store->keys_lock);
    for (struct lend_list *at = store->regions.next; at != &store->regions; at = at->next) {
        struct lend_verbs_region *it = LEND_LIST_OWNER(at, struct lend_verbs_region, link);

        if (it->registration != left)
            continue;
        it->registration = NULL;
        it->is_moving = it != leaver;
    }
    (void)pthread_mutex_unlock(&store->keys_lock);
}

/* Each of the others gets a registration by itself: the allocation holds what was taken back. */
static void move_others(struct lend_verbs_store *store)
{
    for (struct lend_list *at = store->regions.next; at != &store->regions; at = at->next) {
        struct lend_verbs_region *it = LEND_LIST_OWNER(at, struct lend_verbs_region, link);
        struct registration *own = NULL;

        if (!it->is_moving)
            continue;
        it->is_moving = false;
        it->refusal = (struct lend_error){0};
        /* NULL: refusal says why, to whoever looks for the keys. */
        (void)make_registration(store, &it->memory, false, &own, &it->refusal);
        set_registration(it, own);
    }
}

/* The others are moved when it has ended, not before, as what is pinned counts against a limit. */
static enum lend_status end_keys(struct lend_verbs_store *store, struct lend_verbs_region *region,
                                 struct lend_error *error)
{
    struct registration *registration = region->registration;

    lend_list_remove(&registration->link);
    leave_registration(store, region, registration);
    region->ended = registration;
    enum lend_status status = end_registration(store, registration, error);
    if (status == LEND_OK)
        region->ended = NULL;
    move_others(store);
    return status;
}

static enum lend_status withdraw(struct lend_verbs_store *store, struct lend_verbs_region *region,
                                 struct lend_error *error)
{
    enum lend_status status = LEND_OK;

    region->is_withdrawn = true;
    if (region->privates > 0)
        return lend_fail(error, LEND_E_BUSY,
                         "%u private registrations of blocks lent for writing are there",
                         region->privates);
    if (region->registration != NULL)
        return end_keys(store, region, error);
    if (region->ended != NULL)
        status = end_registration(store, region->ended, error);
    if (status == LEND_OK)
        region->ended = NULL;
    return status;
}

enum lend_status lend_verbs_region_withdraw(struct lend_verbs_region *region,
                                            struct lend_error *error)
{
    struct lend_verbs_store *store = region->store;

    (void)pthread_mutex_lock(&store->lock);
    enum lend_status status = withdraw(store, region, error);
    (void)pthread_mutex_unlock(&store->lock);
    return status;
}

enum lend_status lend_verbs_region_renew(struct lend_verbs_region *region, struct lend_error *error)
{
    struct lend_verbs_store *store = region->store;
    struct registration *own = NULL;
    enum lend_status status = LEND_OK;

    (void)pthread_mutex_lock(&store->lock);
    if (region->is_withdrawn)
        status = lend_fail(error, LEND_E_REVOKED, "the region has been withdrawn");
    else if (region->registration == NULL)
        status = make_registration(store, &region->memory, false, &own, error);
    if (own != NULL)
        set_registration(region, own);
    (void)pthread_mutex_unlock(&store->lock);
    return status;
}

static void retry_orphans(struct lend_verbs_store *store)
{
    struct lend_list *next;

    for (struct lend_list *at = store->orphans.next; at != &store->orphans; at = next) {
        struct lend_verbs_region *it = LEND_LIST_OWNER(at, struct lend_verbs_region, link);

        next = at->next;
        if (withdraw(store, it, NULL) != LEND_OK)
            continue;
        lend_list_remove(&it->link);
        lend_sys->release(it);
    }
}

enum lend_status lend_verbs_region_release(struct lend_verbs_region *region,
                                           struct lend_error *error)
{
    struct lend_verbs_store *store = region->store;

    (void)pthread_mutex_lock(&store->lock);
    enum lend_status status = withdraw(store, region, error);
    lend_list_remove(&region->link);
    if (status == LEND_OK)
        lend_sys->release(region);
    else
        lend_list_append(&store->orphans, &region->link);
    if (status == LEND_OK)
        retry_orphans(store);
    (void)pthread_mutex_unlock(&store->lock);
    return status;
}

enum lend_status lend_verbs_store_close(struct lend_verbs_store *store, struct lend_error *error)
{
    enum lend_status result = LEND_OK;

    if (store == NULL)
        return LEND_OK;
    for (struct lend_list *at = lend_list_take_first(&store->regions); at != NULL;
         at = lend_list_take_first(&store->regions)) {
        struct lend_verbs_region *it = LEND_LIST_OWNER(at, struct lend_verbs_region, link);

        it->registration = NULL; /* ended below, with those that share it */
        lend_list_append(&store->orphans, &it->link);
    }
    for (struct lend_list *at = store->registrations.next; at != &store->registrations;) {
        struct registration *it = LEND_LIST_OWNER(at, struct registration, link);

        at = at->next;
        enum lend_status status = end_registration(store, it, result == LEND_OK ? error : NULL);
        if (status != LEND_OK)
            result = status;
    }
    for (struct lend_list *at = store->orphans.next; at != &store->orphans; at = at->next) {
        struct lend_verbs_region *it = LEND_LIST_OWNER(at, struct lend_verbs_region, link);

        if (it->ended == NULL)
            continue;
        enum lend_status status =
            end_registration(store, it->ended, result == LEND_OK ? error : NULL);
        if (status == LEND_OK)
            it->ended = NULL;
        else
            result = status;
    }
    lend_verbs_store_forget(store);
    return result;
}

static void forget_regions(struct lend_list *list)
{
    for (struct lend_list *at = lend_list_take_first(list); at != NULL;
         at = lend_list_take_first(list)) {
        struct lend_verbs_region *it = LEND_LIST_OWNER(at, struct lend_verbs_region, link);

        if (it->ended != NULL)
            free_registration(it->ended);
        lend_sys->release(it);
    }
}

void lend_verbs_store_forget(struct lend_verbs_store *store)
{
    if (store == NULL)
        return;
    forget_regions(&store->regions);
    forget_regions(&store->orphans);
    while (!lend_list_is_empty(&store->registrations))
        free_registration(LEND_LIST_OWNER(store->registrations.next, struct registration, link));
    (void)pthread_mutex_destroy(&store->lock);
    (void)pthread_mutex_destroy(&store->keys_lock);
    lend_sys->release(store);
}

/* --- looking --- */

static const struct lend_verbs_attachment *attachment_of(const struct lend_verbs_region *region,
                                                         uint32_t nic)
{
    return region->registration != NULL && nic < region->store->nic_count
               ? &region->registration->on[nic]
               : NULL;
}

bool lend_verbs_region_piece(const struct lend_verbs_region *region, uint32_t nic, uint64_t address,
                             struct lend_verbs_keys *out)
{
    const struct lend_verbs_memory *memory = &region->memory;
    uint64_t from = 0, to = 0;
    struct lend_verbs_mr *mr = NULL;

    if (address < memory->address || address - memory->address >= memory->bytes)
        return false;
    (void)pthread_mutex_lock(&region->store->keys_lock);
    const struct lend_verbs_attachment *on = attachment_of(region, nic);
    if (on != NULL)
        mr = lend_verbs_attachment_at(on, address, &from, &to);
    if (mr != NULL)
        *out = (struct lend_verbs_keys){.mr = mr, .lkey = mr->lkey, .rkey = mr->rkey};
    (void)pthread_mutex_unlock(&region->store->keys_lock);
    if (mr == NULL)
        return false;
    out->address = from > memory->address ? from : memory->address;
    out->bytes = to - out->address < memory->address + memory->bytes - out->address
                     ? to - out->address
                     : memory->address + memory->bytes - out->address;
    return true;
}

bool lend_verbs_region_keys(const struct lend_verbs_region *region, uint32_t nic, uint64_t address,
                            uint64_t bytes, struct lend_verbs_keys *out)
{
    if (!lend_verbs_region_piece(region, nic, address, out))
        return false;
    uint64_t left = out->bytes - (address - out->address);
    out->address = address;
    out->bytes = bytes < left ? bytes : left;
    if (out->bytes > LEND_VERBS_MESSAGE_BYTES_MAX)
        out->bytes = LEND_VERBS_MESSAGE_BYTES_MAX;
    return true;
}

uint64_t lend_verbs_region_life(const struct lend_verbs_region *region)
{
    /* Acquire: the keys of that life are there. */
    return atomic_load_explicit(&region->life, memory_order_acquire);
}

int32_t lend_verbs_region_gpu(const struct lend_verbs_region *region)
{
    return region->memory.kind == LEND_MEMORY_DEVICE ? region->memory.device : -1;
}

enum lend_verbs_means lend_verbs_region_means(const struct lend_verbs_region *region, uint32_t nic)
{
    (void)pthread_mutex_lock(&region->store->keys_lock);
    const struct lend_verbs_attachment *on = attachment_of(region, nic);
    enum lend_verbs_means means = on != NULL ? on->means : 0;
    (void)pthread_mutex_unlock(&region->store->keys_lock);
    return means;
}

bool lend_verbs_region_can_bind(const struct lend_verbs_region *region, uint32_t nic)
{
    (void)pthread_mutex_lock(&region->store->keys_lock);
    const struct lend_verbs_attachment *on = attachment_of(region, nic);
    bool can_bind = on != NULL && on->can_bind;
    (void)pthread_mutex_unlock(&region->store->keys_lock);
    return can_bind;
}

bool lend_verbs_region_refusal(const struct lend_verbs_region *region, uint32_t nic,
                               struct lend_error *out)
{
    struct lend_verbs_store *store = region->store;

    (void)pthread_mutex_lock(&store->keys_lock);
    const struct lend_verbs_attachment *on = attachment_of(region, nic);
    *out = on != NULL ? on->refusal : region->refusal;
    (void)pthread_mutex_unlock(&store->keys_lock);
    return out->status != LEND_OK;
}

enum lend_status lend_verbs_allocation(struct lend_verbs_memory *memory, struct lend_error *error)
{
    uint64_t base = 0, end = 0;
    enum lend_status status =
        lend_cuda_allocation(memory->address, memory->device, &base, &end, error);

    if (status != LEND_OK)
        return status;
    if (end - memory->address < memory->bytes)
        return LEND_OK; /* chunks that are mapped side by side */
    memory->allocation_address = base;
    memory->allocation_bytes = end - base;
    return LEND_OK;
}

/* --- private ones --- */

struct lend_verbs_private {
    struct lend_verbs_region *region;
    uint32_t nic;
    struct lend_verbs_attachment on;
};

static enum lend_status check_private(const struct lend_verbs_region *region, uint32_t nic,
                                      uint64_t address, uint64_t bytes, struct lend_error *error)
{
    uint64_t offset = address - region->memory.address;

    if (nic >= region->store->nic_count)
        return lend_fail(error, LEND_E_INVALID, "there is no NIC %u", nic);
    if ((region->memory.rights & LEND_VERBS_MAY_WRITE) == 0)
        return lend_fail(error, LEND_E_ACCESS, "the region is not lent for writing");
    if (address < region->memory.address || offset >= region->memory.bytes || bytes == 0 ||
        bytes > region->memory.bytes - offset)
        return lend_fail(error, LEND_E_OUT_OF_RANGE, "0x%llx+%llu does not lie in the region",
                         (unsigned long long)address, (unsigned long long)bytes);
    return LEND_OK;
}

enum lend_status lend_verbs_private_begin(struct lend_verbs_region *region, uint32_t nic,
                                          uint64_t address, uint64_t bytes,
                                          struct lend_verbs_private **out, struct lend_error *error)
{
    struct lend_verbs_store *store = region->store;
    struct lend_verbs_range range = {.address = address,
                                     .bytes = bytes,
                                     .kind = region->memory.kind,
                                     .device = region->memory.device,
                                     .access = (unsigned)LEND_VERBS_LOCAL_WRITE |
                                               (unsigned)LEND_VERBS_REMOTE_WRITE};
    struct lend_verbs_exports exports;
    enum lend_status status = check_private(region, nic, address, bytes, error);

    if (status != LEND_OK)
        return status;
    struct lend_verbs_private *made = lend_sys->allocate(sizeof *made);
    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a registration");
    if (store->nics[nic]->abilities.has_relaxed_ordering)
        range.access |= LEND_VERBS_RELAXED_ORDERING;
    lend_verbs_exports_init(&exports, &range);
    (void)pthread_mutex_lock(&store->lock);
    status = region->is_withdrawn
                 ? lend_fail(&made->on.refusal, LEND_E_REVOKED, "the region has been withdrawn")
                 : lend_verbs_attach(store->nics[nic], &range, &exports, &made->on);
    region->privates += status == LEND_OK;
    (void)pthread_mutex_unlock(&store->lock);
    lend_verbs_exports_fini(&exports);
    made->region = region;
    made->nic = nic;
    if (status == LEND_OK) {
        *out = made;
        return LEND_OK;
    }
    if (error != NULL)
        *error = made->on.refusal;
    lend_sys->release(made);
    return status;
}

bool lend_verbs_private_keys(const struct lend_verbs_private *private, uint64_t address,
                             uint64_t bytes, struct lend_verbs_keys *out)
{
    uint64_t start = 0, end = 0;
    struct lend_verbs_mr *mr = lend_verbs_attachment_at(&private->on, address, &start, &end);

    if (mr == NULL)
        return false;
    if (bytes > end - address)
        bytes = end - address;
    if (bytes > LEND_VERBS_MESSAGE_BYTES_MAX)
        bytes = LEND_VERBS_MESSAGE_BYTES_MAX;
    *out = (struct lend_verbs_keys){
        .mr = mr, .address = address, .bytes = bytes, .lkey = mr->lkey, .rkey = mr->rkey};
    return true;
}

enum lend_status lend_verbs_private_end(struct lend_verbs_private *private,
                                        struct lend_error *error)
{
    struct lend_verbs_store *store = private->region->store;

    (void)pthread_mutex_lock(&store->lock);
    enum lend_status status = lend_verbs_detach(store->nics[private->nic], &private->on, error);
    private->region->privates -= status == LEND_OK;
    (void)pthread_mutex_unlock(&store->lock);
    if (status != LEND_OK)
        return status;
    lend_verbs_attachment_forget(&private->on);
    lend_sys->release(private);
    return LEND_OK;
}

void lend_verbs_private_forget(struct lend_verbs_private *private)
{
    lend_verbs_attachment_forget(&private->on);
    lend_sys->release(private);
}
