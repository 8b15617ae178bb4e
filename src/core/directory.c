/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "base/sys.h"
#include "core/finding.h"
#include "core/peer.h"
#include "core/roster.h"
#include "core/service.h"
#include "core/snapshot.h"
#include "wire/entry.h"
#include "wire/field.h"

#include <string.h>

/*
 * A directory: what lend does with a service that keeps entries under names, and which a plugin
 * speaks to. Two threads: the keeper publishes our entry when it has changed, and keeps it alive;
 * the watcher is told of those of others. Each of them, and the callers, find the service gone at
 * times: they say so once, and try again, more and more seldom.
 *
 * The service is asked by one thread at a time, for which there is a turn. The lock is a leaf; no
 * callback of the application runs under it, nor in a turn.
 */

#define MS            UINT64_C(1000000)
#define SECOND        UINT64_C(1000000000)
#define LOOK_NS       (200 * MS) /* how often the keeper looks whether we have changed */
#define PAUSE_FIRST   (100 * MS)
#define PAUSE_LAST    (5 * SECOND)
#define FIND_AGAIN_NS SECOND /* while one waits, though the watch tells nothing */

struct lend_directory {
    struct lend_agent *agent;
    struct lend_directory_config config; /* defaults filled in; strings are gone */
    struct lend_service service;
    void *watching; /* the watcher's handle */
    pthread_t watcher, keeper;
    bool has_watcher, has_keeper;

    void *calling;               /* a handle; it and the next are whose turn it is */
    bool has_entry;              /* one of ours is there, new or old */
    bool is_published;           /* it says what we are */
    uint64_t serial, attachment; /* of what is published */
    uint64_t keep_ns;            /* when to keep it alive */
    uint64_t retry_ns;           /* when to try again */
    uint64_t pause_ns;           /* before the next try, after one that led to nothing; 0: none */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    pthread_cond_t turn_over;
    bool is_calling; /* it is somebody's turn */
    struct lend_roster roster;
    bool is_closing;
    bool wants_published;
    bool is_name_free;    /* our name's entry is gone: look at once */
    bool is_listed;       /* since the watch began: it works */
    int32_t first_status; /* of the first watch: LEND_PENDING until it is known */
    struct lend_error first_error;
};

void lend_directory_config_init(struct lend_directory_config *config)
{
    if (config != NULL)
        *config = (struct lend_directory_config)LEND_DIRECTORY_CONFIG_INIT;
}

/* How long to pause after one more try that led to nothing. */
static uint64_t longer(uint64_t pause_ns)
{
    if (pause_ns == 0)
        return PAUSE_FIRST;
    return pause_ns * 2 < PAUSE_LAST ? pause_ns * 2 : PAUSE_LAST;
}

/* --- watching: on the watcher's thread --- */

/* A name of the service's, copied to out; false: no agent has such a one. */
static bool take_name(const char *name, uint64_t bytes, char *out)
{
    if (bytes == 0 || bytes > LEND_AGENT_NAME_BYTES_MAX ||
        !lend_text_is_printable(name, (size_t)bytes))
        return false;
    memcpy(out, name, (size_t)bytes);
    out[bytes] = '\0';
    return true;
}

static void tell(struct lend_directory *directory, int event, const char *name,
                 const struct lend_found *found)
{
    if (directory->config.on_event != NULL)
        directory->config.on_event(directory->config.context, (enum lend_directory_event)event,
                                   name, found);
    lend_agent_dispatch(directory->agent);
}

static bool is_our_name(const struct lend_directory *directory, const char *name)
{
    return strcmp(name, directory->agent->name) == 0;
}

static void see_entry(void *context, const char *name, uint64_t name_bytes, const void *bytes,
                      uint64_t count)
{
    struct lend_directory *directory = context;
    struct lend_finding finding = {0};
    char text[LEND_AGENT_NAME_BYTES_MAX + 1];
    int event = 0;

    if (!take_name(name, name_bytes, text) || is_our_name(directory, text))
        return;
    enum lend_status status = lend_finding_judge(&finding, text, bytes, count);
    if (status == LEND_OK) {
        (void)pthread_mutex_lock(&directory->lock);
        status = lend_roster_enter(&directory->roster, &finding.row, &event, &finding.error);
        (void)pthread_cond_broadcast(&directory->changed);
        (void)pthread_mutex_unlock(&directory->lock);
    }
    if (status != LEND_OK)
        lend_agent_log(directory->agent, LEND_LOG_WARNING, "an entry of the directory: %s",
                       finding.error.message);
    lend_agent_dispatch(directory->agent);
    if (status == LEND_OK && event != 0) {
        lend_peers_renew(directory->agent, finding.found->metadata, finding.found->metadata_bytes);
        tell(directory, event, text, finding.found);
    }
    lend_found_release(finding.found);
}

static void see_gone(void *context, const char *name, uint64_t name_bytes)
{
    struct lend_directory *directory = context;
    char text[LEND_AGENT_NAME_BYTES_MAX + 1];

    if (!take_name(name, name_bytes, text))
        return;
    (void)pthread_mutex_lock(&directory->lock);
    bool was_there = lend_roster_leave(&directory->roster, text);
    directory->is_name_free |= is_our_name(directory, text);
    (void)pthread_cond_broadcast(&directory->changed);
    (void)pthread_mutex_unlock(&directory->lock);
    if (was_there)
        tell(directory, LEND_DIRECTORY_LEFT, text, NULL);
}

static void see_listed(void *context)
{
    struct lend_directory *directory = context;
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    bool is_left = true;

    while (is_left) {
        (void)pthread_mutex_lock(&directory->lock);
        is_left = lend_roster_take_stale(&directory->roster, name);
        (void)pthread_mutex_unlock(&directory->lock);
        if (is_left)
            tell(directory, LEND_DIRECTORY_LEFT, name, NULL);
    }
    (void)pthread_mutex_lock(&directory->lock);
    directory->is_listed = true;
    if (directory->first_status == LEND_PENDING)
        directory->first_status = LEND_OK;
    directory->is_name_free = true; /* it may have gone while we did not look */
    (void)pthread_cond_broadcast(&directory->changed);
    (void)pthread_mutex_unlock(&directory->lock);
}

/* Pause, unless the directory is closed before. Under the lock. */
static void pause_locked(struct lend_directory *directory, uint64_t duration_ns)
{
    uint64_t until = lend_deadline(lend_sys->now_ns(), duration_ns);

    for (uint64_t now; !directory->is_closing && (now = lend_sys->now_ns()) < until;)
        lend_sys->wait(&directory->changed, &directory->lock, until - now);
}

/* One watch, from its beginning to its end. Returns how it ended. */
static enum lend_status watch_once(struct lend_directory *directory, struct lend_error *error)
{
    const struct lend_directory_watcher watcher = {
        .struct_size = sizeof watcher,
        .context = directory,
        .entry = see_entry,
        .listed = see_listed,
        .gone = see_gone,
    };

    (void)pthread_mutex_lock(&directory->lock);
    lend_roster_doubt(&directory->roster);
    directory->is_listed = false;
    (void)pthread_mutex_unlock(&directory->lock);
    return directory->service.plugin->watch(directory->watching, &watcher, error);
}

/* The first watch has begun well, or not at all: lend_directory_open() waits to know. Under the
 * lock. */
static void note_first_locked(struct lend_directory *directory, enum lend_status status,
                              const struct lend_error *error)
{
    if (directory->first_status != LEND_PENDING)
        return;
    directory->first_status = status;
    directory->first_error = *error;
    (void)pthread_cond_broadcast(&directory->changed);
}

static void *watch(void *context)
{
    struct lend_directory *directory = context;
    bool is_closing = false;
    uint64_t pause_ns = 0;

    while (!is_closing) {
        struct lend_error error = {0};
        enum lend_status status = watch_once(directory, &error);

        (void)pthread_mutex_lock(&directory->lock);
        note_first_locked(directory, status, &error);
        pause_ns = directory->is_listed ? 0 : pause_ns;
        is_closing = directory->is_closing;
        (void)pthread_mutex_unlock(&directory->lock);
        if (pause_ns == 0 && !is_closing)
            lend_agent_log(directory->agent, LEND_LOG_WARNING,
                           "the directory is out of sight, and will be sought again: %s",
                           error.message);
        lend_agent_dispatch(directory->agent);

        pause_ns = longer(pause_ns);
        (void)pthread_mutex_lock(&directory->lock);
        pause_locked(directory, pause_ns);
        is_closing = directory->is_closing;
        (void)pthread_mutex_unlock(&directory->lock);
    }
    return NULL;
}

/* --- turns --- */

static uint64_t call_deadline(const struct lend_directory *directory)
{
    return lend_deadline(lend_sys->now_ns(), directory->config.timeout_ns);
}

/* Wait until it is our turn, at most until then. LEND_E_TIMEOUT. */
static enum lend_status begin_turn(struct lend_directory *directory, uint64_t until_ns,
                                   struct lend_error *error)
{
    (void)pthread_mutex_lock(&directory->lock);
    for (uint64_t now; directory->is_calling && (now = lend_sys->now_ns()) < until_ns;)
        lend_sys->wait(&directory->turn_over, &directory->lock, until_ns - now);
    bool is_ours = !directory->is_calling;
    directory->is_calling = true;
    (void)pthread_mutex_unlock(&directory->lock);
    return is_ours ? LEND_OK
                   : lend_fail(error, LEND_E_TIMEOUT,
                               "the directory was being asked for something else for all of the "
                               "%llu ms",
                               (unsigned long long)(directory->config.timeout_ns / MS));
}

static void end_turn(struct lend_directory *directory)
{
    (void)pthread_mutex_lock(&directory->lock);
    directory->is_calling = false;
    (void)pthread_cond_broadcast(&directory->turn_over);
    (void)pthread_mutex_unlock(&directory->lock);
}

/* The next call of the service has what is left until then. */
static void limit(struct lend_directory *directory, uint64_t until_ns)
{
    uint64_t now = lend_sys->now_ns();

    directory->service.plugin->limit(directory->calling, until_ns > now ? until_ns - now : 0);
}

/* --- publishing: in a turn --- */

static enum lend_status put(struct lend_directory *directory, const struct lend_snapshot *snapshot,
                            struct lend_error *error)
{
    struct lend_agent *agent = directory->agent;
    struct lend_entry entry = {.metadata_bytes = snapshot->metadata_bytes,
                               .attachment_bytes = snapshot->attachment_bytes,
                               .bytes = snapshot->bytes};

    memcpy(entry.incarnation, agent->incarnation, sizeof entry.incarnation);
    size_t count = lend_entry_encode(&entry, NULL, 0);
    uint8_t *bytes = lend_sys->allocate(count);
    if (bytes == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for an entry of %zu bytes", count);
    (void)lend_entry_encode(&entry, bytes, count);
    enum lend_status status =
        directory->service.plugin->put(directory->calling, agent->name, bytes, count, error);
    lend_sys->release(bytes);
    return status;
}

static bool is_bare(const struct lend_directory *directory)
{
    return (directory->config.flags & LEND_DIRECTORY_NO_REGIONS) != 0;
}

static enum lend_status publish(struct lend_directory *directory, uint64_t until_ns,
                                struct lend_error *error)
{
    struct lend_snapshot *snapshot = NULL;

    enum lend_status status =
        lend_snapshot_take(directory->agent, UINT32_MAX, is_bare(directory), &snapshot, error);
    if (status != LEND_OK)
        return status;
    limit(directory, until_ns);
    status = put(directory, snapshot, error);
    directory->is_published = status == LEND_OK;
    if (status == LEND_OK) {
        if (!directory->has_entry) /* what is put again does not live longer by that */
            directory->keep_ns = lend_sys->now_ns() + directory->config.time_to_live_ns / 3;
        directory->has_entry = true;
        directory->serial = snapshot->serial;
        directory->attachment = snapshot->attachment;
    }
    lend_snapshot_release(directory->agent, snapshot);
    return status;
}

/* When to try again: after a pause, if it led to nothing. */
static void note_outcome(struct lend_directory *directory, enum lend_status status)
{
    directory->pause_ns = status == LEND_OK ? 0 : longer(directory->pause_ns);
    directory->retry_ns = lend_sys->now_ns() + directory->pause_ns;
}

static bool has_changed(struct lend_directory *directory)
{
    const struct lend_snapshot seen = {.serial = directory->serial,
                                       .attachment = directory->attachment,
                                       .is_bare = is_bare(directory)};

    return lend_snapshot_is_old(directory->agent, &seen);
}

/* Keep the entry that is there alive, new or old: what is newer may not be taken for a while. */
static enum lend_status keep_alive(struct lend_directory *directory, uint64_t until_ns,
                                   struct lend_error *error)
{
    limit(directory, until_ns);
    enum lend_status status = directory->service.plugin->keep(directory->calling, error);

    if (status == LEND_E_STALE)
        directory->has_entry = directory->is_published = false;
    directory->keep_ns = lend_sys->now_ns();
    if (status == LEND_OK)
        directory->keep_ns += directory->config.time_to_live_ns / 3;
    return status;
}

/* See to our entry: keep it alive in time, and publish it when it is not there, or not as we are.
 * All of that until then. */
static void look_after(struct lend_directory *directory, bool is_gone, uint64_t until_ns)
{
    bool was_in_trouble = directory->pause_ns > 0, is_over = false;
    bool is_paused = lend_sys->now_ns() < directory->retry_ns;
    enum lend_status status = LEND_PENDING;
    struct lend_error error = {0};

    if (directory->has_entry && lend_sys->now_ns() >= directory->keep_ns) {
        status = keep_alive(directory, until_ns, &error);
        is_over = status == LEND_E_STALE;
    }
    bool is_old = is_gone || !directory->is_published || has_changed(directory);
    if (is_old && (is_gone || is_over || !is_paused) &&
        (status == LEND_OK || status == LEND_PENDING || is_over))
        status = publish(directory, until_ns, &error);
    if (status == LEND_PENDING || (status == LEND_OK && is_old && is_paused && !is_gone))
        return; /* nothing was due; or kept alive, while what is newer waits */
    if (status != LEND_OK && !was_in_trouble)
        lend_agent_log(directory->agent, LEND_LOG_WARNING,
                       "the directory does not take our entry, and will be asked again: %s",
                       error.message);
    if (status == LEND_OK && was_in_trouble)
        lend_agent_log(directory->agent, LEND_LOG_INFO, "the directory has our entry again");
    note_outcome(directory, status);
}

static bool is_wanted(struct lend_directory *directory)
{
    (void)pthread_mutex_lock(&directory->lock);
    bool wants = directory->wants_published;
    (void)pthread_mutex_unlock(&directory->lock);
    return wants;
}

static void *keep(void *context)
{
    struct lend_directory *directory = context;

    (void)pthread_mutex_lock(&directory->lock);
    while (!directory->is_closing) {
        bool wants = directory->wants_published, is_name_free = directory->is_name_free;

        directory->is_name_free = false;
        (void)pthread_mutex_unlock(&directory->lock);
        uint64_t until = call_deadline(directory);
        bool is_turn = wants && begin_turn(directory, until, NULL) == LEND_OK;
        if (is_turn) {
            if (is_wanted(directory)) /* it may have been unpublished while we waited */
                look_after(directory, is_name_free, until);
            end_turn(directory);
            lend_agent_dispatch(directory->agent);
        }
        (void)pthread_mutex_lock(&directory->lock);
        directory->is_name_free |= is_name_free && wants && !is_turn;
        if (!directory->is_closing && !directory->is_name_free)
            lend_sys->wait(&directory->changed, &directory->lock, LOOK_NS);
    }
    (void)pthread_mutex_unlock(&directory->lock);
    return NULL;
}

enum lend_status lend_directory_publish(struct lend_directory *directory, struct lend_error *error)
{
    if (directory == NULL)
        return lend_fail(error, LEND_E_INVALID, "the directory is NULL");
    enum lend_status status = lend_agent_check(directory->agent, error);
    if (status != LEND_OK)
        return status;
    uint64_t until = call_deadline(directory);
    status = begin_turn(directory, until, error);
    if (status == LEND_OK) {
        (void)pthread_mutex_lock(&directory->lock);
        directory->is_name_free = false; /* what went before is put now */
        (void)pthread_mutex_unlock(&directory->lock);
        status = publish(directory, until, error);
        note_outcome(directory, status);
        end_turn(directory);
    }
    (void)pthread_mutex_lock(&directory->lock);
    directory->wants_published = true;
    (void)pthread_mutex_unlock(&directory->lock);
    return status;
}

enum lend_status lend_directory_unpublish(struct lend_directory *directory,
                                          struct lend_error *error)
{
    if (directory == NULL)
        return lend_fail(error, LEND_E_INVALID, "the directory is NULL");
    enum lend_status status = lend_agent_check(directory->agent, error);
    if (status != LEND_OK)
        return status;
    (void)pthread_mutex_lock(&directory->lock);
    directory->wants_published = false; /* also if it cannot be taken back: nobody keeps it alive */
    (void)pthread_mutex_unlock(&directory->lock);
    uint64_t until = call_deadline(directory);
    status = begin_turn(directory, until, error);
    if (status != LEND_OK)
        return status;
    if (directory->has_entry) {
        limit(directory, until);
        status = directory->service.plugin->take_back(directory->calling, error);
    }
    directory->has_entry = directory->has_entry && status != LEND_OK;
    directory->is_published = false;
    end_turn(directory);
    return status;
}

/* --- finding --- */

static void take_entry(void *context, const char *name, uint64_t name_bytes, const void *bytes,
                       uint64_t count)
{
    struct lend_finding *finding = context;

    (void)name;
    (void)name_bytes;
    if (finding->found == NULL)
        finding->status = lend_finding_judge(finding, finding->name, bytes, count);
}

static void ignore_listed(void *context)
{
    (void)context;
}

static void ignore_gone(void *context, const char *name, uint64_t name_bytes)
{
    (void)context;
    (void)name;
    (void)name_bytes;
}

static enum lend_status find_once(struct lend_directory *directory, const char *name,
                                  struct lend_found **out, struct lend_error *error)
{
    struct lend_finding finding = {.name = name, .status = LEND_PENDING};
    const struct lend_directory_watcher watcher = {
        .struct_size = sizeof watcher,
        .context = &finding,
        .entry = take_entry,
        .listed = ignore_listed,
        .gone = ignore_gone,
    };

    uint64_t until = call_deadline(directory);
    enum lend_status status = begin_turn(directory, until, error);
    if (status != LEND_OK)
        return status;
    limit(directory, until);
    status = directory->service.plugin->find(directory->calling, name, &watcher, error);
    end_turn(directory);
    if (status != LEND_OK) {
        lend_found_release(finding.found);
        return status;
    }
    if (finding.status == LEND_PENDING)
        return lend_fail(error, LEND_E_ABSENT, "the directory has no agent %s", name);
    if (finding.status != LEND_OK) {
        if (error != NULL)
            *error = finding.error;
        return finding.status == LEND_E_VERSION ? LEND_E_CORRUPT : finding.status;
    }
    *out = finding.found;
    return LEND_OK;
}

/* Wait until the watch has told of it, but not for long: it may tell nothing. False: the directory
 * is being closed, and waits for the callback that we are in. */
static bool await_entry(struct lend_directory *directory, const char *name, uint64_t until_ns)
{
    uint64_t now = lend_sys->now_ns(), again = lend_deadline(now, FIND_AGAIN_NS);

    (void)pthread_mutex_lock(&directory->lock);
    until_ns = until_ns < again ? until_ns : again;
    if (lend_roster_find(&directory->roster, name) != NULL) /* it was, or the service is gone */
        pause_locked(directory, PAUSE_FIRST);
    while (!directory->is_closing && lend_roster_find(&directory->roster, name) == NULL &&
           (now = lend_sys->now_ns()) < until_ns)
        lend_sys->wait(&directory->changed, &directory->lock, until_ns - now);
    bool is_open = !directory->is_closing;
    (void)pthread_mutex_unlock(&directory->lock);
    return is_open;
}

/* May it be otherwise in a while? */
static bool may_change(enum lend_status status)
{
    return status == LEND_E_ABSENT || status == LEND_E_TIMEOUT || status == LEND_E_NO_PATH;
}

enum lend_status lend_directory_find(struct lend_directory *directory, const char *name,
                                     uint64_t wait_ns, struct lend_found **out,
                                     struct lend_error *error)
{
    if (directory == NULL || name == NULL || out == NULL)
        return lend_fail(error, LEND_E_INVALID, "directory, name or out is NULL");
    enum lend_status status = lend_agent_check(directory->agent, error);
    if (status != LEND_OK)
        return status;
    size_t length = strnlen(name, LEND_AGENT_NAME_BYTES_MAX + 1);
    char checked[LEND_AGENT_NAME_BYTES_MAX + 1];
    if (!take_name(name, length, checked))
        return lend_fail(error, LEND_E_INVALID, "an agent's name has 1 to %d printable bytes",
                         LEND_AGENT_NAME_BYTES_MAX);

    uint64_t until = lend_deadline(lend_sys->now_ns(), wait_ns);
    for (;;) {
        status = find_once(directory, name, out, error);
        if (!may_change(status) || lend_sys->now_ns() >= until ||
            !await_entry(directory, name, until))
            return status;
    }
}

/* --- entering and leaving --- */

static enum lend_status check_config(const struct lend_directory_config *config,
                                     struct lend_error *error)
{
    if (config->struct_size != sizeof *config)
        return lend_fail(error, LEND_E_VERSION, "lend_directory_config is %u bytes, not %zu",
                         config->struct_size, sizeof *config);
    if ((config->flags & ~(uint32_t)LEND_DIRECTORY_NO_REGIONS) != 0)
        return lend_fail(error, LEND_E_INVALID, "unknown flags 0x%x", config->flags);
    if (config->url == NULL)
        return lend_fail(error, LEND_E_INVALID, "the directory's url is NULL");
    if (config->time_to_live_ns != 0 && config->time_to_live_ns < SECOND)
        return lend_fail(error, LEND_E_INVALID, "a time to live of %llu ns, under a second",
                         (unsigned long long)config->time_to_live_ns);
    return LEND_OK;
}

static enum lend_status open_handles(struct lend_directory *directory, const char *url,
                                     struct lend_error *error)
{
    const struct lend_directory_plugin_open open = {
        .struct_size = sizeof open,
        .url = url,
        .time_to_live_ns = directory->config.time_to_live_ns,
        .timeout_ns = directory->config.timeout_ns,
        .entry_bytes_max = LEND_ENTRY_BYTES_MAX,
        .owner_bytes = LEND_ENTRY_OWNER_BYTES,
    };

    enum lend_status status = directory->service.plugin->open(&open, &directory->calling, error);
    return status == LEND_OK ? directory->service.plugin->open(&open, &directory->watching, error)
                             : status;
}

static enum lend_status start(struct lend_directory *directory, struct lend_error *error)
{
    int result = lend_sys->thread(&directory->watcher, watch, directory, "lend-watch");

    if (result < 0)
        return lend_fail_errno(error, -result, "no thread to watch the directory");
    directory->has_watcher = true;
    result = lend_sys->thread(&directory->keeper, keep, directory, "lend-keep");
    if (result < 0)
        return lend_fail_errno(error, -result, "no thread to keep our entry alive");
    directory->has_keeper = true;
    return LEND_OK;
}

/* Until the first watch has listed what is there, or has found that it cannot. */
static enum lend_status await_first(struct lend_directory *directory, struct lend_error *error)
{
    uint64_t until = lend_deadline(lend_sys->now_ns(), directory->config.timeout_ns);

    (void)pthread_mutex_lock(&directory->lock);
    for (uint64_t now;
         directory->first_status == LEND_PENDING && (now = lend_sys->now_ns()) < until;)
        lend_sys->wait(&directory->changed, &directory->lock, until - now);
    enum lend_status status = (enum lend_status)directory->first_status;
    if (status == LEND_PENDING)
        status = lend_fail(error, LEND_E_TIMEOUT, "the directory has not answered in %llu ms",
                           (unsigned long long)(directory->config.timeout_ns / MS));
    else if (status != LEND_OK && error != NULL)
        *error = directory->first_error;
    (void)pthread_mutex_unlock(&directory->lock);
    return status;
}

/* The last turn: the keeper is gone. What it was doing when we began to leave has its end before
 * then. */
static void take_back(struct lend_directory *directory, uint64_t until_ns)
{
    struct lend_error error = {0};
    enum lend_status status = LEND_E_TIMEOUT;

    if (!directory->has_entry)
        return;
    if (lend_sys->now_ns() < until_ns) {
        limit(directory, until_ns);
        status = directory->service.plugin->take_back(directory->calling, &error);
    } else {
        (void)lend_fail(&error, status, "the directory did not answer");
    }
    if (status != LEND_OK)
        lend_agent_log(directory->agent, LEND_LOG_WARNING,
                       "our entry stays in the directory until its time is out: %s", error.message);
}

static void leave(struct lend_directory *directory)
{
    uint64_t until = call_deadline(directory);

    (void)pthread_mutex_lock(&directory->lock);
    directory->is_closing = true;
    (void)pthread_cond_broadcast(&directory->changed);
    (void)pthread_mutex_unlock(&directory->lock);
    if (directory->has_watcher) {
        directory->service.plugin->interrupt(directory->watching);
        (void)pthread_join(directory->watcher, NULL);
    }
    if (directory->has_keeper)
        (void)pthread_join(directory->keeper, NULL);
    take_back(directory, until);
    if (directory->service.plugin != NULL) {
        directory->service.plugin->close(directory->watching);
        directory->service.plugin->close(directory->calling);
    }
    lend_service_unload(&directory->service);
    lend_roster_fini(&directory->roster);
    (void)pthread_mutex_destroy(&directory->lock);
    (void)pthread_cond_destroy(&directory->changed);
    (void)pthread_cond_destroy(&directory->turn_over);
    lend_sys->release(directory);
}

static struct lend_directory *create(struct lend_agent *agent,
                                     const struct lend_directory_config *config)
{
    struct lend_directory *directory = lend_sys->allocate(sizeof *directory);

    if (directory == NULL)
        return NULL;
    directory->agent = agent;
    directory->config = *config;
    directory->config.url = directory->config.plugin = NULL;
    if (config->time_to_live_ns == 0)
        directory->config.time_to_live_ns = 10 * SECOND;
    if (config->timeout_ns == 0)
        directory->config.timeout_ns = 5 * SECOND;
    directory->first_status = LEND_PENDING;
    (void)pthread_mutex_init(&directory->lock, NULL);
    (void)pthread_cond_init(&directory->changed, NULL);
    (void)pthread_cond_init(&directory->turn_over, NULL);
    return directory;
}

enum lend_status lend_directory_open(struct lend_agent *agent,
                                     const struct lend_directory_config *config,
                                     struct lend_directory **out, struct lend_error *error)
{
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    if (config == NULL || out == NULL)
        return lend_fail(error, LEND_E_INVALID, "config or out is NULL");
    status = check_config(config, error);
    if (status != LEND_OK)
        return status;
    struct lend_directory *directory = create(agent, config);
    if (directory == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a directory");
    status = lend_service_load(&directory->service, config->plugin, error);
    if (status == LEND_OK)
        status = open_handles(directory, config->url, error);
    if (status == LEND_OK)
        status = start(directory, error);
    if (status == LEND_OK)
        status = await_first(directory, error);
    if (status != LEND_OK) {
        leave(directory);
        return status;
    }
    *out = directory;
    return LEND_OK;
}

void lend_directory_close(struct lend_directory *directory)
{
    /* A forked child has none of the threads, and its parent's connections are not to be touched.
     */
    if (directory == NULL || lend_agent_check(directory->agent, NULL) != LEND_OK)
        return;
    struct lend_agent *agent = directory->agent;
    leave(directory);
    lend_agent_dispatch(agent);
}
