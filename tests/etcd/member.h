/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_ETCD_MEMBER_H
#define LEND_TESTS_ETCD_MEMBER_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include <pthread.h>

#define SECOND UINT64_C(1000000000)

enum { EVENTS_MAX = 8192, PATIENCE_SECONDS = 90 };

struct event {
    enum lend_directory_event event;
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    char attachment[32];
};

/* An agent in the directory, and what it was told. */
struct member {
    struct lend_agent *agent;
    struct lend_directory *directory;
    pthread_mutex_t lock;
    pthread_cond_t came;
    struct event events[EVENTS_MAX];
    unsigned count;
    unsigned seen; /* of them, by await_event() */
    unsigned warnings;
};

void check(enum lend_status status, const struct lend_error *error);
struct lend_directory_config config_of(struct member *member, const char *url);
/* An agent, that is in no directory yet. */
struct member *make_member(const char *name);
void enter_with(struct member *member, const struct lend_directory_config *config);
void leave(struct member *member);
/* Wait for the next event, which must be that. */
void await_event(struct member *member, enum lend_directory_event event, const char *name,
                 const char *attachment);
/* Wait until an event says that, whatever else comes before. */
void await_attachment(struct member *member, const char *name, const char *attachment);
void publish(struct member *member, const char *attachment);
/* Without a word to the directory. */
void attach(struct member *member, const char *attachment);
void expect_found(struct member *member, const char *name, const char *attachment);
enum lend_status find_status(struct member *member, const char *name);
/* Wait until there have been so many. */
void await_warning(struct member *member, unsigned count);
/* Wait for anything, for less than a second. */
void await_news(struct member *member, uint64_t duration_ns);

#endif
