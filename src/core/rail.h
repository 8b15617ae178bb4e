/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_RAIL_H
#define LEND_CORE_RAIL_H

#include "core/peer.h"
#include "core/session.h"

struct lend_device_memory;
struct lend_region;

/*
 * Rails beside sessions: core's part (the transport's is struct lend_rail_ops). A client opens its
 * end once the greeting is over, if the peer's metadata says that it has rails of the same kind;
 * the server opens its own with the first frame that comes of it. All of it under the session's
 * lock, where nothing else is said.
 */

/* Client: open our end, if there is to be one, once. */
void lend_rail_begin(struct lend_session *session, struct lend_peer *peer);

/* A frame of it has come. LEND_E_CORRUPT: it breaks the session. */
enum lend_status lend_rail_take(struct lend_session *session, const uint8_t *payload, size_t count,
                                struct lend_error *error);

/* Say what it has to say, and let it go on. True if anything moved. */
bool lend_rail_pump(struct lend_session *session);
/* We go to sleep. False: there may be something to look at, which nobody would tell. */
bool lend_rail_sleep(struct lend_session *session);
/* See that it is looked at when it is due; when that is. */
uint64_t lend_rail_timers(struct lend_session *session, uint64_t now_ns);
/* Say it; false: there was no room for all. */
bool lend_rail_say(struct lend_session *session);

/* Client: must the peer hear what it has to say before anything else? */
bool lend_rail_is_behind(const struct lend_session *session);

/* Nothing lands any more by it. */
void lend_rail_halt(struct lend_session *session);
/* The session ends. Not under its lock: nobody else has it. */
void lend_rail_end(struct lend_session *session, bool forked);

/* The transport of ours that has rails; NULL: none has. */
const struct lend_open_transport *lend_rail_transport(const struct lend_agent *agent);

/* The path of that way where a peer is reached by that transport; NULL: there is none. */
const char *lend_rail_path(const struct lend_peer *peer, const struct lend_transport_ops *ops,
                           enum lend_way way);

/*
 * A region is to be lent at that memory, in that life. First it is reserved: false: no rail is for
 * it. Then it is exposed, not under the agent's lock, as that may block; a failure is logged, and
 * there is no such way to the region. Then it is settled: it is lent, or was not after all. Whoever
 * withdraws it between the first and the last hears LEND_E_BUSY.
 */
bool lend_rail_reserve_locked(struct lend_region *region);
void lend_rail_expose(struct lend_region *region, const struct lend_memory *memory,
                      const struct lend_device_memory *device, uint32_t life);
void lend_rail_settle_locked(struct lend_region *region, bool is_lent);
/* All of that for regions that are lent already, and that the application does not know yet. */
void lend_rail_expose_all(struct lend_agent *agent, struct lend_region *const *regions,
                          uint32_t count);
/* And no more, as lend_foreign_conceal_locked(): LEND_E_BUSY while a NIC may still reach it. */
enum lend_status lend_rail_conceal_locked(struct lend_region *region, struct lend_error *error);

/* Client: send a notification by the rail, behind all that has been proven. False: it goes by the
 * channel: there is no rail, or it takes none now, or nobody could tell who sent it. */
bool lend_rail_notify(struct lend_session *session, uint64_t number, const void *bytes,
                      size_t count);
/* Client: say by the channel again what went by the rail, and is not known to have arrived, ahead
 * of a frame that is not to overtake it. False: there is not enough room. */
bool lend_rail_repeat(struct lend_session *session);

#endif
