/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COMPAT_NIXL_POST_H
#define COMPAT_NIXL_POST_H

#include "agent.h"

/*
 * Metadata by way of listeners and directories.
 *
 * The *office* is an agent of lend's beside that of the backend. All offices that belong together
 * have one secret, without which nobody is told anything: the metadata has the key to the memory in
 * it. They send each other notifications:
 *
 *     'M' metadata of NIXL's agent     take it
 *     'F' metadata of the office       send yours there
 *     'I'                              forget me
 *
 * Calls leave orders, which a thread carries out one by one; another one takes what comes.
 */
enum { COMPAT_SECRET_BYTES_MAX = 64, COMPAT_OFFICE_PEERS = 64, COMPAT_PORT = 8888 };

struct compat_order {
    struct compat_order *next;
    char kind;                                /* 'M', 'F' or 'I' */
    char address[64];                         /* "ADDRESS:PORT"; "": by the directory */
    char name[LEND_AGENT_NAME_BYTES_MAX + 1]; /* whose metadata, of an 'F' */
    struct compat_bytes message;              /* of an 'M': with the letter before it */
};

struct compat_post {
    nixl_capi_agent_t agent;
    struct lend_agent *office;
    struct compat_assembly *assembly;
    struct lend_directory *_Atomic directory;       /* the sender opens it; NULL: not open */
    struct compat_peer *peers[COMPAT_OFFICE_PEERS]; /* of the taker, who asked; the oldest goes */
    size_t peer_next;
    _Atomic bool is_over;
    bool has_taker;
    bool has_sender;
    pthread_t taker;
    pthread_t sender;

    pthread_mutex_t lock; /* of the orders */
    pthread_cond_t changed;
    struct compat_order *first;
};

/* The secret of all offices (secret.c): LEND_NIXL_SECRET, or what is in a file of this user's on
 * this host, made by the first who needs it. How many bytes; 0: there is none, and it was said why.
 */
size_t compat_secret(uint8_t out[COMPAT_SECRET_BYTES_MAX]);

/* In the sender's thread (directory.c). */
nixl_capi_status_t compat_directory_carry_out(struct compat_post *post,
                                              const struct compat_order *order);
/* Is one configured? */
bool compat_directory_is_there(void);

#endif
