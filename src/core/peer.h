/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_PEER_H
#define LEND_CORE_PEER_H

#include "core/agent.h"
#include "wire/metadata.h"

enum { LEND_PEER_REACHES_MAX = 5 }; /* all their ways fit LEND_PATHS_MAX */

/* A transport by which a peer may be reached. */
struct lend_peer_reach {
    const struct lend_open_transport *transport;
    struct lend_metadata_transport address; /* where it finds the peer */
    struct lend_error why; /* of the latest try, if it led nowhere; else LEND_OK; agent's lock */
};

struct lend_peer {
    struct lend_pool_object object;
    struct lend_agent *agent;
    struct lend_list link; /* in lend_agent::peer_list */
    uint32_t handles;      /* given to the caller; agent's lock */
    uint32_t references;   /* the handles as one, transfers, tickets; agent's lock */
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    struct lend_metadata *metadata; /* owned; replaced under the agent's lock */
    uint64_t whole_serial;          /* of what told of all its regions; 0: nothing has; that lock */
    _Atomic uint64_t metadata_stamp; /* grows when it is replaced */
    struct lend_range_index ranges;  /* of its regions, values are indices + 1; agent's lock */
    /* What its first import asked for, and holds for its later metadata. */
    char wanted_tags[LEND_REGION_TAGS_BYTES_MAX + 1];
    uint32_t import_flags;           /* ::lend_import_flag */
    struct lend_secret secret;       /* that it gave, of connections to the peer; may be none */
    struct lend_peer_reach *reaches; /* owned; the preferred first, at least one */
    uint32_t reach_count;
    _Atomic uint32_t reach; /* that the latest connection took, or the next one tries first */
    const struct lend_open_transport *rail; /* of ours, that the peer has too; NULL: none */
    struct lend_metadata_transport rail_address;

    pthread_mutex_t lock;         /* guards the two below */
    struct lend_session *session; /* a reference; NULL: not connected */
    bool is_forgotten;
    _Atomic int32_t lost; /* why it is known to be dead; LEND_OK: it is not */
};

/* The transport that a peer is, or will be, reached by. */
static inline const struct lend_transport_ops *lend_peer_ops(const struct lend_peer *peer)
{
    /* Relaxed: what it stands for never changes. */
    uint32_t reach = atomic_load_explicit(&peer->reach, memory_order_relaxed);

    return peer->reaches[reach].transport->ops;
}

/* The secret that connections to the peer are held to. */
static inline const struct lend_secret *lend_peer_secret(const struct lend_peer *peer)
{
    return peer->secret.plugin != NULL ? &peer->secret : &peer->agent->secret;
}

/* Why none of a peer's transports led to it: what each of them said. */
enum lend_status lend_peer_explain(struct lend_peer *peer, struct lend_error *error);

/* One reference more, or less. The last frees. */
void lend_peer_retain(struct lend_peer *peer);
void lend_peer_release(struct lend_peer *peer);

/*
 * The peer's session with a reference for the caller, begun if there is none. LEND_E_PEER_DEAD,
 * _NO_PATH, _ACCESS, _NO_MEMORY, _SYSTEM. Give back with lend_session_release().
 */
enum lend_status lend_peer_session(struct lend_peer *peer, struct lend_session **out,
                                   struct lend_error *error);
/* The same for those who want to send: what keeps a connection from being begun is LEND_E_NO_PATH,
 * with its cause. LEND_E_PEER_DEAD, _NO_PATH. */
enum lend_status lend_peer_route(struct lend_peer *peer, struct lend_session **out,
                                 struct lend_error *error);

/* The session has died; forget it if it is the peer's. */
void lend_peer_lose(struct lend_peer *peer, struct lend_session *session);

/* The region with that id in the peer's metadata, or NULL. Under the agent's lock. */
const struct lend_metadata_region *lend_peer_find_locked(const struct lend_peer *peer, uint64_t id);

/* Newer metadata has come: refresh the peer of that incarnation, if there is one. */
void lend_peers_renew(struct lend_agent *agent, const void *bytes, size_t count);

void lend_peers_fini(struct lend_agent *agent);

/* An incarnation that we served was seen to die: so is the peer that it is to us. */
void lend_peers_mourn(struct lend_agent *agent, const uint8_t *incarnation);

#endif
