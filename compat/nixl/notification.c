/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/*
 * Notifications. Each is one or several of lend's, in order:
 *
 *     u8 0 | all of it
 *     u8 1 | number (u64) | bytes in all (u64) | a part           any number of those, and
 *     u8 2 | number (u64) | bytes in all (u64) | the last part
 *
 * What goes with a transfer is the last one alone: the parts before it are sent ahead, and are
 * dropped at the other end if the last one never comes.
 */

enum {
    KIND_WHOLE = 0,
    KIND_PART = 1,
    KIND_LAST = 2,
    HEAD_BYTES = 17,
    FRAME_BYTES = LEND_NOTIFICATION_BYTES_MAX,
    PART_BYTES = FRAME_BYTES - HEAD_BYTES,
    PARTIAL_MAX = 1024, /* messages that wait for their last part; the oldest goes */
};

/* --- sending --- */

static void write_head(uint8_t *to, uint8_t kind, uint64_t number, uint64_t total)
{
    number = htole64(number);
    total = htole64(total);
    to[0] = kind;
    memcpy(to + 1, &number, sizeof number);
    memcpy(to + 9, &total, sizeof total);
}

static nixl_capi_status_t send_frame(struct compat_peer *peer, const void *bytes, size_t count)
{
    struct lend_error error;
    nixl_capi_status_t status = compat_peer_enter(peer);

    if (status != NIXL_CAPI_SUCCESS)
        return status;
    enum lend_status result = lend_notification_send(peer->lend, bytes, count, &error);
    compat_peer_leave(peer);
    if (result == LEND_OK)
        return NIXL_CAPI_SUCCESS;
    if (result == LEND_E_PEER_DEAD)
        compat_peer_end(peer);
    (void)compat_fail_lend(result, &error, "a notification");
    return NIXL_CAPI_ERROR_BACKEND;
}

nixl_capi_status_t compat_notification_begin(struct compat_peer *peer,
                                             const struct compat_bytes *message,
                                             struct compat_envelope *out)
{
    static _Atomic uint64_t numbers;
    const uint8_t *from = message->bytes;
    size_t left = message->length_bytes;
    nixl_capi_status_t status = NIXL_CAPI_SUCCESS;

    if (left > COMPAT_NOTIFICATION_BYTES_MAX)
        return compat_fail(NIXL_CAPI_ERROR_BACKEND, "a notification of %zu bytes, over %d", left,
                           COMPAT_NOTIFICATION_BYTES_MAX);
    uint8_t *frame = malloc(left < FRAME_BYTES ? left + HEAD_BYTES : FRAME_BYTES);
    if (frame == NULL)
        return NIXL_CAPI_ERROR_BACKEND;
    out->bytes = frame;
    if (left < FRAME_BYTES) {
        frame[0] = KIND_WHOLE;
        if (left > 0)
            memcpy(frame + 1, from, left);
        out->count = left + 1;
        return NIXL_CAPI_SUCCESS;
    }
    uint64_t number = atomic_fetch_add_explicit(&numbers, 1, memory_order_relaxed);
    for (; status == NIXL_CAPI_SUCCESS && left > PART_BYTES;
         from += PART_BYTES, left -= PART_BYTES) {
        write_head(frame, KIND_PART, number, message->length_bytes);
        memcpy(frame + HEAD_BYTES, from, PART_BYTES);
        status = send_frame(peer, frame, FRAME_BYTES);
    }
    if (status != NIXL_CAPI_SUCCESS) {
        free(frame);
        out->bytes = NULL;
        return status;
    }
    write_head(frame, KIND_LAST, number, message->length_bytes);
    memcpy(frame + HEAD_BYTES, from, left);
    out->count = HEAD_BYTES + left;
    return NIXL_CAPI_SUCCESS;
}

nixl_capi_status_t compat_notification_send(struct compat_peer *peer,
                                            const struct compat_bytes *message)
{
    struct compat_envelope envelope = {0};

    nixl_capi_status_t status = compat_notification_begin(peer, message, &envelope);
    if (status == NIXL_CAPI_SUCCESS)
        status = send_frame(peer, envelope.bytes, envelope.count);
    free(envelope.bytes);
    return status;
}

nixl_capi_status_t nixl_capi_gen_notif(nixl_capi_agent_t agent, const char *remote_agent,
                                       const void *data, size_t len, nixl_capi_opt_args_t opt_args)
{
    struct compat_peer *peer = NULL;

    if (agent == NULL || remote_agent == NULL || (data == NULL && len > 0) || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    /* It is only read. */
    const struct compat_bytes message = {.bytes = (void *)(uintptr_t)data, .length_bytes = len};
    nixl_capi_status_t status = compat_check_backends(agent, opt_args);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_peer_find(agent, remote_agent, &peer);
    if (status == NIXL_CAPI_SUCCESS)
        status = compat_notification_send(peer, &message);
    compat_peer_release(peer);
    compat_leave(agent);
    return status;
}

/* --- receiving --- */

/* A message whose last part has not come. */
struct partial {
    struct partial *next;
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint64_t number;
    size_t total;
    size_t count;
    size_t room;
    uint8_t *bytes; /* grows with what comes, not with what is announced */
};

struct compat_assembly {
    pthread_mutex_t lock; /* of receiving: parts are taken in the order in which they came */
    struct partial *oldest;
    size_t count;
};

struct compat_assembly *compat_assembly_create(void)
{
    struct compat_assembly *made = calloc(1, sizeof *made);

    if (made != NULL)
        (void)pthread_mutex_init(&made->lock, NULL);
    return made;
}

static void drop(struct compat_assembly *assembly, struct partial **at)
{
    struct partial *gone = *at;

    *at = gone->next;
    assembly->count--;
    free(gone->bytes);
    free(gone);
}

void compat_assembly_destroy(struct compat_assembly *assembly)
{
    if (assembly == NULL)
        return;
    while (assembly->oldest != NULL)
        drop(assembly, &assembly->oldest);
    (void)pthread_mutex_destroy(&assembly->lock);
    free(assembly);
}

/* What has come: a frame, and from whom. */
struct arrival {
    struct lend_notification_info info;
    const uint8_t *bytes;
    size_t count;
    uint64_t number;
    uint64_t total;
};

/* Where the message of that frame is, or would be: behind the last. */
static struct partial **find_partial(struct compat_assembly *assembly,
                                     const struct arrival *arrival)
{
    struct partial **at = &assembly->oldest;

    while (*at != NULL &&
           ((*at)->number != arrival->number ||
            memcmp((*at)->incarnation, arrival->info.incarnation, LEND_INCARNATION_BYTES) != 0))
        at = &(*at)->next;
    return at;
}

/* Take in a part; NULL: it is none of any message, or memory ran out. */
static struct partial **take_part(struct compat_assembly *assembly, const struct arrival *arrival)
{
    struct partial **at = find_partial(assembly, arrival);
    size_t bytes = arrival->count - HEAD_BYTES;

    if (*at == NULL) {
        if (assembly->count == PARTIAL_MAX) {
            drop(assembly, &assembly->oldest);
            at = find_partial(assembly, arrival);
        }
        *at = calloc(1, sizeof **at);
        if (*at == NULL)
            return NULL;
        assembly->count++;
        (*at)->number = arrival->number;
        (*at)->total = arrival->total;
        memcpy((*at)->incarnation, arrival->info.incarnation, LEND_INCARNATION_BYTES);
    }

    struct partial *message = *at;
    if (message->total != arrival->total || bytes > message->total - message->count ||
        !compat_reserve((void **)&message->bytes, &message->room, message->count + bytes, 1)) {
        drop(assembly, at);
        return NULL;
    }
    memcpy(message->bytes + message->count, arrival->bytes + HEAD_BYTES, bytes);
    message->count += bytes;
    return at;
}

static bool read_head(struct arrival *arrival)
{
    if (arrival->count < HEAD_BYTES)
        return false;
    memcpy(&arrival->number, arrival->bytes + 1, sizeof arrival->number);
    memcpy(&arrival->total, arrival->bytes + 9, sizeof arrival->total);
    arrival->number = le64toh(arrival->number);
    arrival->total = le64toh(arrival->total);
    return arrival->total <= COMPAT_NOTIFICATION_BYTES_MAX;
}

/* Put a frame where it belongs. False: memory ran out. */
static bool sort_in(struct compat_assembly *assembly, struct arrival *arrival,
                    nixl_capi_notif_map_t map)
{
    uint8_t kind = arrival->count > 0 ? arrival->bytes[0] : UINT8_MAX;

    if (kind == KIND_WHOLE)
        return compat_notif_map_add(map, arrival->info.peer, arrival->bytes + 1,
                                    arrival->count - 1);
    if ((kind != KIND_PART && kind != KIND_LAST) || !read_head(arrival)) {
        compat_log(COMPAT_WARNING, "a notification of %s that is none of NIXL's was dropped",
                   arrival->info.peer);
        return true;
    }
    struct partial **at = take_part(assembly, arrival);
    if (at == NULL || kind == KIND_PART)
        return true;
    bool is_well = true;
    if ((*at)->count == (*at)->total)
        is_well = compat_notif_map_add(map, arrival->info.peer, (*at)->bytes, (*at)->count);
    drop(assembly, at);
    return is_well;
}

static nixl_capi_status_t receive_locked(struct lend_agent *lend, struct compat_assembly *assembly,
                                         uint64_t wait_ns, nixl_capi_notif_map_t map)
{
    struct lend_error error;
    uint8_t bytes[FRAME_BYTES];

    for (;; wait_ns = 0) {
        struct arrival arrival = {.info = {.struct_size = sizeof arrival.info}, .bytes = bytes};

        enum lend_status status = lend_notification_receive(
            lend, bytes, sizeof bytes, &arrival.count, &arrival.info, wait_ns, &error);
        if (status == LEND_E_ABSENT)
            return NIXL_CAPI_SUCCESS;
        if (status != LEND_OK)
            return compat_fail_lend(status, &error, "notifications");
        if (!sort_in(assembly, &arrival, map))
            return NIXL_CAPI_ERROR_BACKEND;
    }
}

nixl_capi_status_t compat_receive(struct lend_agent *lend, struct compat_assembly *assembly,
                                  uint64_t wait_ns, nixl_capi_notif_map_t map)
{
    (void)pthread_mutex_lock(&assembly->lock);
    nixl_capi_status_t status = receive_locked(lend, assembly, wait_ns, map);
    (void)pthread_mutex_unlock(&assembly->lock);
    return status;
}

nixl_capi_status_t nixl_capi_get_notifs(nixl_capi_agent_t agent, nixl_capi_notif_map_t notif_map,
                                        nixl_capi_opt_args_t opt_args)
{
    if (agent == NULL || notif_map == NULL || !compat_enter(agent))
        return NIXL_CAPI_ERROR_INVALID_PARAM;
    struct lend_agent *lend = atomic_load(&agent->lend);
    nixl_capi_status_t status = compat_check_backends(agent, opt_args);
    if (status == NIXL_CAPI_SUCCESS && lend != NULL)
        status = compat_receive(lend, agent->assembly, 0, notif_map);
    compat_leave(agent);
    return status;
}
