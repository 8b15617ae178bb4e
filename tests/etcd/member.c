/* SPDX-License-Identifier: Apache-2.0 */
#include "member.h"

#include <time.h>

void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

/* --- members --- */

static void on_event(void *context, enum lend_directory_event event, const char *name,
                     const struct lend_found *found)
{
    struct member *member = context;

    (void)pthread_mutex_lock(&member->lock);
    if (member->count < EVENTS_MAX) {
        struct event *slot = &member->events[member->count++];

        slot->event = event;
        (void)snprintf(slot->name, sizeof slot->name, "%s", name);
        if (found != NULL && found->attachment_bytes < sizeof slot->attachment)
            (void)snprintf(slot->attachment, sizeof slot->attachment, "%.*s",
                           (int)found->attachment_bytes,
                           found->attachment != NULL ? (const char *)found->attachment : "");
    }
    (void)pthread_cond_broadcast(&member->came);
    (void)pthread_mutex_unlock(&member->lock);
}

static void on_log(void *context, int32_t level, const char *text)
{
    struct member *member = context;

    (void)text;
    (void)pthread_mutex_lock(&member->lock);
    member->warnings += level == LEND_LOG_WARNING;
    (void)pthread_cond_broadcast(&member->came);
    (void)pthread_mutex_unlock(&member->lock);
}

struct lend_directory_config config_of(struct member *member, const char *url)
{
    struct lend_directory_config config = LEND_DIRECTORY_CONFIG_INIT;

    config.url = url;
    config.plugin = LEND_TEST_ETCD_PLUGIN;
    config.time_to_live_ns = 2 * SECOND;
    config.timeout_ns = 20 * SECOND;
    config.on_event = on_event;
    config.context = member;
    return config;
}

struct member *make_member(const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct member *member = calloc(1, sizeof *member);
    struct lend_error error = {0};

    assert_non_null(member);
    (void)pthread_mutex_init(&member->lock, NULL);
    (void)pthread_cond_init(&member->came, NULL);
    config.name = name;
    config.transports = "loopback";
    config.flags = LEND_AGENT_NO_STATISTICS;
    config.on_log = on_log;
    config.context = member;
    check(lend_agent_create(&config, &member->agent, &error), &error);
    return member;
}

void enter_with(struct member *member, const struct lend_directory_config *config)
{
    struct lend_error error = {0};

    check(lend_directory_open(member->agent, config, &member->directory, &error), &error);
}

void leave(struct member *member)
{
    lend_directory_close(member->directory);
    lend_agent_destroy(member->agent);
    (void)pthread_mutex_destroy(&member->lock);
    (void)pthread_cond_destroy(&member->came);
    free(member);
}

static struct timespec patience(void)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_SECONDS;
    return until;
}

/* Wait for the next event, which must be that. */
void await_event(struct member *member, enum lend_directory_event event, const char *name,
                 const char *attachment)
{
    const struct timespec until = patience();
    int result = 0;

    (void)pthread_mutex_lock(&member->lock);
    while (member->seen == member->count && result == 0)
        result = pthread_cond_timedwait(&member->came, &member->lock, &until);
    if (member->seen == member->count)
        fail_msg("no event %d of %s", (int)event, name);
    const struct event *found = &member->events[member->seen++];
    if (found->event != event || strcmp(found->name, name) != 0)
        fail_msg("event %d of %s, not %d of %s", (int)found->event, found->name, (int)event, name);
    if (attachment != NULL)
        assert_string_equal(found->attachment, attachment);
    (void)pthread_mutex_unlock(&member->lock);
}

/* Wait until an event says that, whatever else comes before. */
void await_attachment(struct member *member, const char *name, const char *attachment)
{
    const struct timespec until = patience();
    bool is_found = false;
    int result = 0;

    (void)pthread_mutex_lock(&member->lock);
    while (!is_found && result == 0) {
        while (!is_found && member->seen < member->count) {
            const struct event *event = &member->events[member->seen++];

            is_found = event->event != LEND_DIRECTORY_LEFT && strcmp(event->name, name) == 0 &&
                       strcmp(event->attachment, attachment) == 0;
        }
        if (!is_found)
            result = pthread_cond_timedwait(&member->came, &member->lock, &until);
    }
    (void)pthread_mutex_unlock(&member->lock);
    if (!is_found)
        fail_msg("%s has not told of %s", name, attachment);
}

void publish(struct member *member, const char *attachment)
{
    struct lend_error error = {0};

    check(lend_agent_attach(member->agent, attachment, strlen(attachment), &error), &error);
    check(lend_directory_publish(member->directory, &error), &error);
}

void attach(struct member *member, const char *attachment)
{
    struct lend_error error = {0};

    check(lend_agent_attach(member->agent, attachment, strlen(attachment), &error), &error);
}

void expect_found(struct member *member, const char *name, const char *attachment)
{
    struct lend_found *found = NULL;
    struct lend_error error = {0};

    check(lend_directory_find(member->directory, name, 0, &found, &error), &error);
    assert_int_equal(found->attachment_bytes, strlen(attachment));
    assert_memory_equal(found->attachment, attachment, strlen(attachment));
    lend_found_release(found);
}

enum lend_status find_status(struct member *member, const char *name)
{
    struct lend_found *found = NULL;
    struct lend_error error = {0};

    enum lend_status status = lend_directory_find(member->directory, name, 0, &found, &error);
    assert_true((status == LEND_OK) == (found != NULL));
    lend_found_release(found);
    return status;
}

void await_warning(struct member *member, unsigned count)
{
    const struct timespec until = patience();
    int result = 0;

    (void)pthread_mutex_lock(&member->lock);
    while (member->warnings < count && result == 0)
        result = pthread_cond_timedwait(&member->came, &member->lock, &until);
    bool is_there = member->warnings >= count;
    (void)pthread_mutex_unlock(&member->lock);
    assert_true(is_there);
}

void await_news(struct member *member, uint64_t duration_ns)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)duration_ns;
    until.tv_sec += until.tv_nsec / (long)SECOND;
    until.tv_nsec %= (long)SECOND;
    (void)pthread_mutex_lock(&member->lock);
    (void)pthread_cond_timedwait(&member->came, &member->lock, &until);
    (void)pthread_mutex_unlock(&member->lock);
}
