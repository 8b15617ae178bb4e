/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FAKE_NIXL_H
#define LEND_TESTS_FAKE_NIXL_H

#include "transport/nixl/door.h"

#include <stdbool.h>

/*
 * A fake NIXL: agents of this process that copy between each other's memory. It does what a test
 * tells it, so that each call fails once, and bytes land late, or after they were given up; what
 * NIXL itself does is shown with NIXL alone (tests/nixl).
 *
 * The agent of lend makes its calls from its helper thread; everything here is under one lock.
 */

/* The calls that may fail. */
enum fake_nixl_call {
    FAKE_NIXL_AGENT_CREATE,
    FAKE_NIXL_PARAMS_CREATE,
    FAKE_NIXL_PARAMS_ADD,
    FAKE_NIXL_BACKEND_CREATE,
    FAKE_NIXL_METADATA_GET,
    FAKE_NIXL_METADATA_LOAD,
    FAKE_NIXL_MEMORY_LIST_CREATE,
    FAKE_NIXL_MEMORY_LIST_ADD,
    FAKE_NIXL_MEMORY_REGISTER,
    FAKE_NIXL_MEMORY_DEREGISTER,
    FAKE_NIXL_LIST_CREATE,
    FAKE_NIXL_LIST_ADD,
    FAKE_NIXL_REQUEST_CREATE,
    FAKE_NIXL_REQUEST_POST,
    FAKE_NIXL_REQUEST_STATUS,
    FAKE_NIXL_NOTIFY,
    FAKE_NIXL_NOTIFICATIONS_CREATE,
    FAKE_NIXL_NOTIFICATIONS_GET,
    FAKE_NIXL_NOTIFICATIONS_SIZE,
    FAKE_NIXL_NOTIFICATIONS_NAME,
    FAKE_NIXL_NOTIFICATIONS_COUNT,
    FAKE_NIXL_NOTIFICATIONS_AT,
    FAKE_NIXL_CALLS,
};

struct fake_nixl {
    _Atomic bool holds;          /* requests stay in progress until fake_nixl_let_go() */
    _Atomic bool is_stuck;       /* a look for notifications goes on until this is false, */
    _Atomic bool is_waiting;     /* and does so */
    enum fake_nixl_call failing; /* that call fails, */
    int fail_at;                 /* when it is made for that time, counted from 0; -1: never */
    _Atomic int calls[FAKE_NIXL_CALLS]; /* since the reset */
    /* Not given back. */
    int agents, backends, params, memory_lists, lists, requests, maps, bytes, registered;
    int landed_late; /* requests that were released in progress, and moved their bytes after */
};
extern struct fake_nixl fake_nixl;
extern const struct lend_nixl_ops fake_nixl_ops;

void fake_nixl_reset(void);
/* Carry out what was held, released or not. */
void fake_nixl_let_go(void);
/* All that is, or will be, under way to that agent ends in failure, and its metadata is forgotten.
 */
void fake_nixl_kill(const char *name);

/* Another agent, with memory of the caller's; and its metadata, of *out_count bytes. Those of an
 * agent that is made again under the same name are others. */
void fake_nixl_add(const char *name, void *memory, size_t length);
void fake_nixl_tell(const char *name, void *bytes, size_t *out_count);
/* It notifies the agent of that name; false: it is not there. */
bool fake_nixl_notify(const char *from, const char *to, const void *bytes, size_t count);
/* How many notifications an agent has got that nobody made a map for, and the last. */
int fake_nixl_notified(const char *name, char *text, size_t capacity);
/* As one-sided as NIXL: it stores to memory that another agent has registered; false: it has not.
 */
bool fake_nixl_store(const char *to, void *address, uint8_t value, size_t length);

#endif
