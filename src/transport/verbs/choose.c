/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/device.h"

#include "base/error.h"
#include "base/sys.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Where paths begin: which port of which NIC, with which GID. */

enum family { FAMILY_NONE, FAMILY_V4, FAMILY_V6, FAMILY_LINK };

/* How well a place serves; the higher, the better. */
enum { SCORE_LINK = 1, SCORE_V6 = 2, SCORE_V4 = 3, SCORE_LOCAL = 4, SCORE_ROUTE = 5 };

static enum family family_of(const uint8_t *gid)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t zero[LEND_VERBS_GID_BYTES];

    if (memcmp(gid, zero, sizeof zero) == 0)
        return FAMILY_NONE;
    if (memcmp(gid, mapped, sizeof mapped) == 0)
        return FAMILY_V4;
    return gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80 ? FAMILY_LINK : FAMILY_V6;
}

bool lend_verbs_gid_address(const uint8_t *gid, struct sockaddr_storage *out)
{
    enum family family = family_of(gid);

    if (family == FAMILY_NONE)
        return false;
    memset(out, 0, sizeof *out);
    if (family == FAMILY_V4) {
        struct sockaddr_in *to = (struct sockaddr_in *)out;

        to->sin_family = AF_INET;
        memcpy(&to->sin_addr, gid + 12, sizeof to->sin_addr);
        return true;
    }
    struct sockaddr_in6 *to = (struct sockaddr_in6 *)out;
    to->sin6_family = AF_INET6;
    memcpy(&to->sin6_addr, gid, LEND_VERBS_GID_BYTES);
    return true;
}

bool lend_verbs_gid_of(const struct sockaddr_storage *address, uint8_t *gid)
{
    if (address->ss_family == AF_INET) {
        memset(gid, 0, LEND_VERBS_GID_BYTES);
        gid[10] = gid[11] = 0xff;
        memcpy(gid + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
        return true;
    }
    if (address->ss_family != AF_INET6)
        return false;
    memcpy(gid, &((const struct sockaddr_in6 *)address)->sin6_addr, LEND_VERBS_GID_BYTES);
    return true;
}

void lend_verbs_gid_text(const uint8_t *gid, char *text, size_t capacity)
{
    if (inet_ntop(AF_INET6, gid, text, (socklen_t)capacity) == NULL && capacity > 0)
        text[0] = '\0';
}

uint32_t lend_verbs_mtu_bytes(uint8_t mtu)
{
    return mtu >= LEND_VERBS_MTU_256 && mtu <= LEND_VERBS_MTU_4096 ? 128U << mtu : 0;
}

/* A search among our places, and why those before did not do. */
struct search {
    const struct lend_verbs_wish *wish;
    uint8_t route[LEND_VERBS_GID_BYTES]; /* the GID from which the machine's routes lead there */
    bool has_route;
    uint8_t local[LEND_VERBS_GID_BYTES];
    bool has_local;
    int best;
    struct lend_verbs_place place;
    char reasons[160];
};

__attribute__((format(printf, 2, 3))) static void note(struct search *search, const char *format,
                                                       ...)
{
    size_t used = strlen(search->reasons);
    va_list arguments;

    if (used > 0 && used + 2 < sizeof search->reasons) {
        memcpy(search->reasons + used, "; ", 3);
        used += 2;
    }
    va_start(arguments, format);
    (void)vsnprintf(search->reasons + used, sizeof search->reasons - used, format, arguments);
    va_end(arguments);
}

static bool has_named_gid(const struct lend_verbs_nic *nic)
{
    return nic->named.has_index || nic->named.has_gid;
}

/* 0: not at all. */
static int score(const struct search *search, const struct lend_verbs_nic *nic,
                 const struct lend_verbs_gid_row *row)
{
    enum family family = family_of(row->gid);

    if (family == FAMILY_NONE)
        return 0;
    if (search->wish->peer_gid != NULL && family != family_of(search->wish->peer_gid))
        return 0;
    if (has_named_gid(nic)) /* who names one knows why */
        return SCORE_ROUTE;
    if (search->has_route && memcmp(search->route, row->gid, sizeof row->gid) == 0)
        return SCORE_ROUTE;
    if (search->has_local && memcmp(search->local, row->gid, sizeof row->gid) == 0)
        return SCORE_LOCAL;
    return family == FAMILY_V4 ? SCORE_V4 : family == FAMILY_V6 ? SCORE_V6 : SCORE_LINK;
}

/* No GID of the port serves. */
static void note_absence(struct search *search, const struct lend_verbs_nic *nic,
                         const struct lend_verbs_port *port)
{
    bool has_peer = search->wish->peer_gid != NULL;
    struct lend_error why;

    if (lend_verbs_named_check(nic, &why) != LEND_OK)
        note(search, "%.120s", why.message);
    else if (has_named_gid(nic))
        note(search, "the GID named of %s:%u is not of the peer's family", nic->name, port->number);
    else
        note(search, "%s:%u has no RoCE v2 GID%s: give its network device %s address", nic->name,
             port->number, has_peer ? " of the peer's family" : "", has_peer ? "such an" : "an");
}

static void take_best(struct search *search, struct lend_verbs_nic *nic,
                      const struct lend_verbs_port *port)
{
    bool is_ethernet = port->link_layer == LEND_VERBS_LINK_ETHERNET, is_found = false;

    for (uint32_t i = 0; i < port->gid_count; i++) {
        const struct lend_verbs_gid_row *row = &port->gids[i];

        if (!lend_verbs_named_allows(nic, port, row))
            continue;
        int points = is_ethernet ? score(search, nic, row) : SCORE_V4;
        is_found |= points > 0;
        if (points <= search->best) /* the first of the best */
            continue;
        search->best = points;
        search->place = (struct lend_verbs_place){.nic = nic, .port = *port, .gid = *row};
        search->place.port.gids = NULL;
    }
    if (!is_found)
        note_absence(search, nic, port);
}

static void try_port(struct search *search, struct lend_verbs_nic *nic,
                     const struct lend_verbs_port *port)
{
    if (nic->named.port != 0 && nic->named.port != port->number)
        return;
    if (atomic_load_explicit(&nic->is_dead, memory_order_relaxed))
        note(search, "%s has told of a fatal error: the agent has to be made anew", nic->name);
    else if (nic->is_iwarp)
        note(search, "%s is iWARP, which lend does not drive", nic->name);
    else if (port->state != LEND_VERBS_PORT_ACTIVE)
        note(search, "%s:%u is not active (state %u): see `rdma link'", nic->name, port->number,
             port->state);
    else
        take_best(search, nic, port);
}

static void find_addresses(struct search *search)
{
    const struct lend_verbs_wish *wish = search->wish;
    struct sockaddr_storage to, from;

    if (wish->local != NULL)
        search->has_local = lend_verbs_gid_of(wish->local, search->local);
    if (wish->peer_gid == NULL || family_of(wish->peer_gid) == FAMILY_LINK ||
        !lend_verbs_gid_address(wish->peer_gid, &to))
        return;
    search->has_route =
        lend_sys->source_address(&to, &from) == 0 && lend_verbs_gid_of(&from, search->route);
}

enum lend_status lend_verbs_choose(struct lend_verbs_nic *const *nics, uint32_t count,
                                   const struct lend_verbs_wish *wish, struct lend_verbs_place *out,
                                   struct lend_error *error)
{
    struct search search = {.wish = wish};

    find_addresses(&search);
    for (uint32_t i = 0; i < count; i++) {
        (void)pthread_mutex_lock(&nics[i]->lock);
        for (uint8_t j = 0; j < nics[i]->port_count; j++)
            try_port(&search, nics[i], &nics[i]->ports[j]);
        (void)pthread_mutex_unlock(&nics[i]->lock);
    }
    if (search.best > 0) {
        *out = search.place;
        return LEND_OK;
    }
    return lend_fail(error, LEND_E_NO_PATH, "no RDMA port will do: %s",
                     search.reasons[0] != '\0' ? search.reasons : "there is none");
}
