/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_STAGE_H
#define LEND_TOOL_STAGE_H

#include "tool/actor.h"
#include "tool/hosts.h"

#include <sys/types.h>

/*
 * The demo from outside: a director, who has no part in the job, and the two processes that do it.
 * The director gives orders, kills and stops, and sees to it that no process and no file is left
 * behind.
 */

/* With two hosts: how long they put up with one another's silence. */
#define STAGE_SILENCE_NS UINT64_C(2000000000)

struct player {
    const char *name;
    pid_t pid;      /* 0: there is none */
    int channel;    /* -1: closed */
    bool is_struck; /* killed or stopped by the director, or another program by its order */
};

struct stage {
    struct endpoint endpoint;
    char directory[96];      /* of the sockets; made by stage_open() */
    const char *reader_nics; /* its verbs_devices, if they are others; set before stage_open() */
    bool has_hosts;          /* owner and reader are on two */
    struct hosts hosts;
    int signals; /* a descriptor on which SIGINT and its like arrive; -1: not made */
    struct player owner;
    struct player reader;
    struct order order;   /* to give next */
    struct report report; /* got last */
};

/* Make a directory of the stage's own, and catch the signals that end the program. `endpoint` is
 * copied, and gets the directory. has_hosts: make two hosts, too. */
enum lend_status stage_open(struct stage *stage, const struct endpoint *endpoint, bool has_hosts,
                            struct lend_error *error);

/* End whatever still runs, and remove the directory. Also a stage that was not opened to the end.
 */
void stage_close(struct stage *stage);

/* Start both processes. */
enum lend_status stage_raise(struct stage *stage, struct lend_error *error);

/* End both processes: orderly if they live, and collect them. Says so if one had died by itself. */
enum lend_status stage_clear(struct stage *stage, struct lend_error *error);

/* Begin an order: the stage's, with defaults and that verb. */
struct order *stage_order(struct stage *stage, enum order_verb verb);

/* Let the order carry the bytes of the last report, or the address where they can be had. */
void stage_carry(struct stage *stage);

/* Give the order; wait for the next report; or both. The first two fail only if the side channel
 * does, or if the user ends the program; stage_ask() also with what the report says. */
enum lend_status stage_send(struct stage *stage, struct player *player, struct lend_error *error);
enum lend_status stage_await(struct stage *stage, struct player *player, struct lend_error *error);
enum lend_status stage_ask(struct stage *stage, struct player *player, struct lend_error *error);

/* Send a signal to a player's process. */
void stage_strike(struct player *player, int number);

#endif
