/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COMPAT_NIXL_AGENT_H
#define COMPAT_NIXL_AGENT_H

#include "index.h"
#include "lists.h"

#include <lend/lend.h>
#include <pthread.h>
#include <stdatomic.h>

/*
 * What is behind an agent's handle, and behind those that belong to it.
 *
 *     agent ---- lend's agent, with one standing lease on all that is registered
 *       |`- registered: an index of descriptors, each with a region of lend's
 *       |`- peers, by name: lend's peer, the ticket of its lease, an index of its descriptors
 *        `- assembly: notifications that come in parts
 *
 * Who holds a backend, a prepared list or a request holds the agent's struct, and of a remote side
 * the peer's struct, though the agent is destroyed or the peer forgotten: then every call fails,
 * and nothing dangles.
 *
 * Locks, each before those that follow it: an agent's life (shared by every call, exclusive to end
 * it), a request's, that of receiving, a peer's use, the agent's. None is held while one waits for
 * a peer, but a request's, the shared life and the shared use.
 */

enum { COMPAT_KEY_BYTES = 16 };

/* A remote agent, as its metadata told of it. */
struct compat_peer {
    _Atomic uint32_t references;
    nixl_capi_agent_t agent;  /* a reference */
    struct compat_peer *next; /* in the agent's list; its lock */
    char *name;
    bool is_self;
    bool is_followed;       /* its metadata came by the directory; agent's lock */
    bool is_withdrawn;      /* and was taken out of it; agent's lock */
    pthread_rwlock_t use;   /* shared by who uses what follows, exclusive to end it */
    bool is_gone;           /* invalidated, replaced, dead, or our agent is over */
    struct lend_peer *lend; /* NULL once it is gone, and so is its ticket */
    struct lend_ticket *ticket;
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint64_t serial;           /* of the latest whole metadata; agent's lock */
    struct compat_index index; /* of what it registered; agent's lock; ourselves: not used */
    uint8_t *last;             /* the bytes that were loaded last: to load them again is nothing */
    size_t last_bytes;
};

struct compat_assembly; /* notification.c */
struct compat_post;     /* post.c */

struct nixl_capi_agent_s {
    _Atomic uint32_t references; /* the handle's, and those of what belongs to it */
    pthread_rwlock_t life;
    bool is_over; /* under the life's lock */
    char *name;
    nixl_capi_agent_config_t config;

    pthread_mutex_t lock;
    struct lend_agent *_Atomic lend; /* NULL: it has no backend yet; once it is there it stays */
    struct lend_lease *lease;
    uint8_t ticket[LEND_TICKET_BYTES_MAX];
    size_t ticket_bytes;
    uint8_t key[COMPAT_KEY_BYTES]; /* who comes by a network must know it */
    bool has_key;
    nixl_capi_params_t params; /* of the backend */
    struct compat_index registered;
    uint64_t serial;               /* grows with every change of what is registered */
    _Atomic size_t metadata_bytes; /* of lend's, the last time */
    struct compat_peer *peers;
    struct compat_peer *self; /* ourselves as a peer, made when it is asked for */
    uint64_t self_serial;     /* of what that one knows */
    struct compat_assembly *assembly;
    struct compat_post *office;    /* by which metadata goes to listeners; NULL: not yet */
    struct compat_post *directory; /* and to etcd */
};

struct nixl_capi_backend_s {
    nixl_capi_agent_t agent; /* a reference */
};
nixl_capi_backend_t compat_backend_create(nixl_capi_agent_t agent); /* NULL: no memory */

struct nixl_capi_xfer_dlist_handle_s {
    nixl_capi_agent_t agent;      /* a reference */
    struct compat_peer *peer;     /* a reference; NULL: our own memory, as the local side */
    struct lend_range_list *lend; /* NULL: of no descriptors */
    struct lend_range *ranges;    /* a copy, one each */
    size_t count;
    bool is_even;   /* all are of one length */
    bool has_empty; /* some are of no bytes */
};

/* Life (agent.c) -------------------------------------------------------------------------------*/

/* Enter a call: false if the agent is over. Leave it with compat_leave(). */
bool compat_enter(nixl_capi_agent_t agent);
void compat_leave(nixl_capi_agent_t agent);

void compat_agent_retain(nixl_capi_agent_t agent);
void compat_agent_release(nixl_capi_agent_t agent);

/* One whose writers are not kept waiting by readers who come and go. Nobody reads twice at a time.
 */
void compat_rwlock_init(pthread_rwlock_t *lock);

/* Do the options name only backends of this agent? NIXL_CAPI_ERROR_INVALID_PARAM. */
nixl_capi_status_t compat_check_backends(nixl_capi_agent_t agent,
                                         const struct nixl_capi_opt_args_s *opt_args);

/* Talking (talk.c) -----------------------------------------------------------------------------*/

enum compat_level { COMPAT_FATAL, COMPAT_ERROR, COMPAT_WARNING, COMPAT_INFO, COMPAT_DEBUG };

/* To the standard error, if NIXL_LOG_LEVEL (FATAL, ERROR, WARN, INFO, DEBUG, TRACE; WARN if it is
 * not set) asks for that level. */
void compat_log(enum compat_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The status for a caller, and with NIXL_LOG_LEVEL the reason. */
nixl_capi_status_t compat_fail(nixl_capi_status_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same of a failure of lend's. */
nixl_capi_status_t compat_fail_lend(enum lend_status status, const struct lend_error *error,
                                    const char *what);

/* Backends (backend.c) -------------------------------------------------------------------------*/

/* Open lend's agent, if there is none yet, by the parameters. */
nixl_capi_status_t compat_engine_open(nixl_capi_agent_t agent, nixl_capi_params_t params);
void compat_engine_close(nixl_capi_agent_t agent);

/* Memory (registration.c) ----------------------------------------------------------------------*/

/* The name of a kind of memory for messages. */
const char *compat_type_name(nixl_capi_mem_type_t type);
/* Does the backend move memory of that type? */
bool compat_is_moved(nixl_capi_mem_type_t type);

/* Peers (peer.c) -------------------------------------------------------------------------------*/

/* The peer of that name, with a reference; ourselves for our own name. NIXL_CAPI_ERROR_NOT_FOUND.
 */
nixl_capi_status_t compat_peer_find(nixl_capi_agent_t agent, const char *name,
                                    struct compat_peer **out);
void compat_peer_retain(struct compat_peer *peer);
void compat_peer_release(struct compat_peer *peer);

/* Use what the peer has of lend's: NIXL_CAPI_ERROR_NOT_FOUND if it is gone. */
nixl_capi_status_t compat_peer_enter(struct compat_peer *peer);
void compat_peer_leave(struct compat_peer *peer);

/* Make one, with a reference for the caller, that has taken lend's handles; NULL: no memory. */
struct compat_peer *compat_peer_create(nixl_capi_agent_t agent, const char *name,
                                       struct lend_peer *lend, struct lend_ticket *ticket);
/* Forget it, whoever has it still: take it off the list, and give lend's handles back. */
void compat_peer_end(struct compat_peer *peer);
/* Nobody finds it any more, though it stays in the list for who invalidates it, too. */
void compat_peer_withdraw(struct compat_peer *peer);
/* The peer in the list, whatever has become of it, with a reference; NULL: none of that name. */
struct compat_peer *compat_peer_listed(nixl_capi_agent_t agent, const char *name);

/* Metadata of lend's, for free(): of all that is registered; or as described, in about as much
 * room.
 */
nixl_capi_status_t compat_lend_metadata(nixl_capi_agent_t agent, struct compat_bytes *out);
nixl_capi_status_t compat_lend_metadata_with(nixl_capi_agent_t agent,
                                             const struct lend_export_desc *desc, size_t room,
                                             struct compat_bytes *out);

/* Bring ourselves as a peer up to date with what is registered. */
nixl_capi_status_t compat_peer_refresh_self(struct compat_peer *peer);
/* Forget all, at the agent's end. */
void compat_peers_forget(nixl_capi_agent_t agent);

/* Metadata (metadata.c, blob.c) ----------------------------------------------------------------*/

nixl_capi_status_t compat_metadata_export(nixl_capi_agent_t agent,
                                          const struct compat_descs *partial, void **out,
                                          size_t *out_bytes);
/* Load it; *out_name is for free(). */
nixl_capi_status_t compat_metadata_load(nixl_capi_agent_t agent, const void *bytes, size_t count,
                                        char **out_name);

/* Tables (table.c) -----------------------------------------------------------------------------*/

/* Is every descriptor registered, with us (peer NULL) or a peer? NIXL_CAPI_ERROR_NOT_FOUND names
 * the one that is not. */
nixl_capi_status_t compat_descs_check(nixl_capi_agent_t agent, const struct compat_peer *peer,
                                      const struct compat_descs *descs);
/* The same, and make a list of them. */
nixl_capi_status_t compat_list_create(nixl_capi_agent_t agent, struct compat_peer *peer,
                                      const struct compat_descs *descs,
                                      nixl_capi_xfer_dlist_handle_t *out);
/* Has the caller entered its agent? If not it is destroyed. NULL is a no-op. */
void compat_list_destroy(nixl_capi_xfer_dlist_handle_t list, bool has_agent);

/* Notifications (notification.c) ---------------------------------------------------------------*/

enum { COMPAT_NOTIFICATION_BYTES_MAX = 16 << 20, COMPAT_NOTIFICATION_WINDOW = 64 << 20 };

/* How the last frame of a notification looks: the one that may go with a transfer. */
struct compat_envelope {
    uint8_t *bytes; /* for free() */
    size_t count;
};

/* Send all of a notification but its last frame, and give that one. */
nixl_capi_status_t compat_notification_begin(struct compat_peer *peer,
                                             const struct compat_bytes *message,
                                             struct compat_envelope *out);
nixl_capi_status_t compat_notification_send(struct compat_peer *peer,
                                            const struct compat_bytes *message);

/* What puts notifications together that come in parts. */
struct compat_assembly *compat_assembly_create(void); /* NULL: out of memory */
void compat_assembly_destroy(struct compat_assembly *assembly);
/* Take all that has come to an agent of lend's, and wait at most wait_ns for the first. */
nixl_capi_status_t compat_receive(struct lend_agent *lend, struct compat_assembly *assembly,
                                  uint64_t wait_ns, nixl_capi_notif_map_t map);

/* Metadata by way of listeners and directories (post.c) ----------------------------------------*/

/* Listen for what peers send and ask for. */
nixl_capi_status_t compat_post_open(nixl_capi_agent_t agent);
void compat_post_close(nixl_capi_agent_t agent);

/* The environment's word on a setting of lend's (backend.c); NULL: none. */
const char *compat_setting(const char *key);
/* A log line of lend's, as of lend_agent_config::on_log. */
void compat_on_log(void *context, int32_t level, const char *text);

#endif
