/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_REGISTRATION_H
#define LEND_TRANSPORT_VERBS_REGISTRATION_H

#include "transport/verbs/device.h"

#include <lend/memory.h>

#include <pthread.h>

/*
 * Memory as the NICs know it.
 *
 * A *region* here is memory that the agent lent, or moves bytes to and from by itself. Regions
 * inside one allocation share one *registration*: on every NIC of the agent, memory regions
 * (ibv_mr) that together cover it, in *pieces* where the NIC's limit is below. A registration
 * carries local access, remote read if it is lent for that, and the right to bind windows; never
 * remote write: that is a window (window.h), or a private registration of the leased blocks alone.
 *
 * When one region of a shared registration is withdrawn, its keys have to end, and they are the
 * others' too: lend_verbs_region_withdraw() deregisters all of it, and registers what remains,
 * each region for itself and with keys of its own, whose `life` has grown. Whoever told peers the
 * old keys sees that by the life, and tells them the new ones; meanwhile their accesses are refused
 * (LEND_VERBS_WC_REMOTE_ACCESS), although their leases live.
 *
 * Any thread may call, and each call may block as long as the kernel pins or unpins memory. Keys
 * may be looked up (lend_verbs_region_keys()) while no other call on the same region runs.
 */

enum { LEND_VERBS_MESSAGE_BYTES_MAX = 1 << 30 }; /* of ours, where a NIC would have 2 GiB */

enum lend_verbs_right {
    LEND_VERBS_MAY_READ = 1,   /* peers, one-sided */
    LEND_VERBS_MAY_WRITE = 2,  /* peers, one-sided, by a window: the shared one may bind them */
    LEND_VERBS_MAY_LAND = 4,   /* we do, as the destination of a READ or of a receive: the memory is
                                  writable */
    LEND_VERBS_IS_ORDERED = 8, /* the order of stores counts (the page of words): no relaxed
                                  ordering, and shared with nobody */
};

struct lend_verbs_memory {
    uint64_t address;
    uint64_t bytes;
    uint32_t kind;   /* ::lend_memory_kind: system, pinned, device */
    int32_t device;  /* of a GPU */
    uint32_t rights; /* ::lend_verbs_right */
    uint32_t reserved;
    /* Where it lies: registered as a whole, so that its other regions need nothing of their own.
     * allocation_bytes 0: it is registered by itself. Of device memory, lend_verbs_allocation()
     * tells it. */
    uint64_t allocation_address;
    uint64_t allocation_bytes;
};

enum lend_verbs_means {
    LEND_VERBS_BY_PAGES = 1,       /* ibv_reg_mr of the host's pages */
    LEND_VERBS_BY_DMA_BUF = 2,     /* ibv_reg_dmabuf_mr */
    LEND_VERBS_BY_PEER_MEMORY = 3, /* ibv_reg_mr of device memory, by nvidia_peermem */
};

struct lend_verbs_store; /* all the registrations of an agent */
struct lend_verbs_region;

/* The NICs stay the caller's, and outlive the store. */
enum lend_status lend_verbs_store_open(const struct lend_verbs_ops *verbs,
                                       struct lend_verbs_nic *const *nics, uint32_t nic_count,
                                       struct lend_verbs_store **out, struct lend_error *error);
/* Ends what is left. LEND_E_BUSY: a NIC did not let go of something; says what; it stays pinned
 * until the NIC is closed. NULL is a no-op. */
enum lend_status lend_verbs_store_close(struct lend_verbs_store *store, struct lend_error *error);
/* In a forked child: free the memory alone. */
void lend_verbs_store_forget(struct lend_verbs_store *store);

/*
 * Make memory known to the NICs, or find that it is. It succeeds if at least one NIC took it;
 * lend_verbs_region_refusal() tells why another did not.
 * LEND_E_LIMIT: RLIMIT_MEMLOCK, or the NIC's regions; with values and remedy. LEND_E_MEMORY: the
 * kernel or NIC cannot take this memory. LEND_E_UNSUPPORTED: device memory, and neither way is
 * there. LEND_E_NO_MEMORY, LEND_E_DEVICE, LEND_E_SYSTEM.
 */
enum lend_status lend_verbs_region_register(struct lend_verbs_store *store,
                                            const struct lend_verbs_memory *memory,
                                            struct lend_verbs_region **out,
                                            struct lend_error *error);

/*
 * End the keys of this region for good: once it returned LEND_OK no NIC reaches the memory by any
 * of them. Windows bound to it must be gone (window.h). LEND_E_BUSY: a NIC still holds it
 * (ibv_dereg_mr said so), by name; the keys count as ended for lookups, and it may be called
 * again. Regions that shared are registered anew; one that cannot be has no keys from then on, and
 * lend_verbs_region_refusal() tells why.
 */
enum lend_status lend_verbs_region_withdraw(struct lend_verbs_region *region,
                                            struct lend_error *error);
/* Try again what was refused, after lend_verbs_region_withdraw() of another: with a new life. */
enum lend_status lend_verbs_region_renew(struct lend_verbs_region *region,
                                         struct lend_error *error);
/* Free a region: withdraws it if that was not done. LEND_E_BUSY: as there, and it is the store's
 * from here on, which tries again when something else is withdrawn, and at its end. The caller's
 * handle is void in any case. */
enum lend_status lend_verbs_region_release(struct lend_verbs_region *region,
                                           struct lend_error *error);

/* What is needed to name bytes to a NIC. */
struct lend_verbs_keys {
    struct lend_verbs_mr *mr;
    uint64_t address;
    uint64_t
        bytes; /* from address on that this piece covers, at least 1 and at most as asked for */
    uint32_t lkey;
    uint32_t rkey;
};

/* The keys at an address, on the NIC of that index; transfers go on behind `bytes` with the next
 * lookup. False: not in this region, or this NIC has it not. Takes a short lock (its neighbours may
 * be withdrawn): look up once, and again when its life has grown. mr stays for as long as the life.
 */
bool lend_verbs_region_keys(const struct lend_verbs_region *region, uint32_t nic, uint64_t address,
                            uint64_t bytes, struct lend_verbs_keys *out);
/* The same of all that the keys at that address cover: out->address may be before it. */
bool lend_verbs_region_piece(const struct lend_verbs_region *region, uint32_t nic, uint64_t address,
                             struct lend_verbs_keys *out);
/* May windows be bound to it on this NIC? Else a write lease needs lend_verbs_private_begin(). */
bool lend_verbs_region_can_bind(const struct lend_verbs_region *region, uint32_t nic);
/* How often its keys were made; the keys of another life are void. Any time; no lock. */
uint64_t lend_verbs_region_life(const struct lend_verbs_region *region);
/* The GPU whose memory it is; -1: the host's. */
int32_t lend_verbs_region_gpu(const struct lend_verbs_region *region);
/* How this NIC has it; 0: not at all. */
enum lend_verbs_means lend_verbs_region_means(const struct lend_verbs_region *region, uint32_t nic);
/* Why this NIC has it not, or has it by the second-best way only. False: it has it by the best. */
bool lend_verbs_region_refusal(const struct lend_verbs_region *region, uint32_t nic,
                               struct lend_error *out);

/* Fill in the allocation that device memory lies in, if all of it lies in one; else it is
 * registered by itself, as memory of the host is. LEND_E_UNSUPPORTED, LEND_E_DEVICE: the driver's
 * answer. */
enum lend_status lend_verbs_allocation(struct lend_verbs_memory *memory, struct lend_error *error);

/*
 * A private registration of one range on one NIC, which peers may write: for a NIC or memory
 * without windows. The range lies in the region, and may come in pieces as the region does. It ends
 * with lend_verbs_private_end(), whose LEND_OK is the fence, and which frees it; LEND_E_BUSY: the
 * NIC holds it, and it may be called again. A region cannot be withdrawn while it has any.
 */
struct lend_verbs_private;
enum lend_status lend_verbs_private_begin(struct lend_verbs_region *region, uint32_t nic,
                                          uint64_t address, uint64_t bytes,
                                          struct lend_verbs_private **out,
                                          struct lend_error *error);
bool lend_verbs_private_keys(const struct lend_verbs_private *private, uint64_t address,
                             uint64_t bytes, struct lend_verbs_keys *out);
enum lend_status lend_verbs_private_end(struct lend_verbs_private *private,
                                        struct lend_error *error);
/* In a forked child: free the memory alone. */
void lend_verbs_private_forget(struct lend_verbs_private *private);

#endif
