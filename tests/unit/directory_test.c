/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what lend does with a directory's service keeps to its deadlines, whatever the service
 * does: a call has one, of which waiting for its turn is a part; so has closing, though the keeper
 * is under way; who waits within a callback does not keep it from being closed; what is unpublished
 * is left alone; regions may be left out; and slow askers of the agent do not keep it from being
 * published.
 * Method: a fake service in the place of the plugin, whose calls wait to be let go, and take all
 * the time that they are given: of a clock that is set forward, not of ours.
 */
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
#include <lend/plugin.h>

#include "base/sys.h"
#include "core/snapshot.h"
#include "wire/entry.h"
#include "wire/metadata.h"

#include <pthread.h>
#include <stdatomic.h>

#define SECOND          UINT64_C(1000000000)
/* Beside them, what really passes is nothing. */
#define TIMEOUT_NS      (1000 * SECOND)
#define TIME_TO_LIVE_NS (30000 * SECOND)
#define NOTHING_NS      (100 * SECOND)

enum call { PUT = 1, KEEP, TAKE_BACK, FIND };

/* The fake service: of one directory, with the two handles of it. */
static struct service {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct handle {
        uint64_t limit_ns;
        bool is_interrupted;
    } handles[2]; /* for calling, and for watching */
    int handle_count;
    enum call held;    /* calls of that kind wait until it is something else, */
    enum call waiting; /* as this one does */
    enum call silent;  /* this one is not answered */
    uint64_t slow_ns;  /* so long takes a KEEP */
    uint8_t *entry;    /* for the watch to tell; NULL: it is told */
    size_t entry_bytes;
    unsigned told;     /* entries, by the watch */
    uint8_t put[8192]; /* the latest entry */
    size_t put_bytes;
    unsigned counts[5]; /* of each kind of call */
    uint64_t limits[5]; /* of the last one */
} service = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* --- the system --- */

static struct lend_sys_ops hooked;
static _Atomic uint64_t ahead_ns; /* of the real clock */
static _Atomic bool time_flies;   /* for who waits for long */

static uint64_t now_ns(void)
{
    return lend_sys_real.now_ns() + atomic_load(&ahead_ns);
}

static void wait_or_fly(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t duration_ns)
{
    bool flies = duration_ns > SECOND && atomic_load(&time_flies);

    lend_sys_real.wait(condition, mutex, flies ? SECOND / 1000 : duration_ns);
    if (flies)
        atomic_fetch_add(&ahead_ns, NOTHING_NS);
}

/* --- the fake service --- */

static enum lend_status answer(struct handle *handle, enum call call, struct lend_error *error)
{
    (void)pthread_mutex_lock(&service.lock);
    service.counts[call]++;
    service.limits[call] = handle->limit_ns;
    service.waiting = call;
    (void)pthread_cond_broadcast(&service.changed);
    while (service.held == call)
        (void)pthread_cond_wait(&service.changed, &service.lock);
    service.waiting = 0;
    bool is_silent = service.silent == call;
    uint64_t takes_ns = is_silent ? handle->limit_ns : call == KEEP ? service.slow_ns : 0;
    (void)pthread_mutex_unlock(&service.lock);
    atomic_fetch_add(&ahead_ns, takes_ns);
    if (is_silent && error != NULL) {
        *error = (struct lend_error){.status = LEND_E_TIMEOUT};
        (void)snprintf(error->message, sizeof error->message, "the fake service is silent");
    }
    return is_silent ? LEND_E_TIMEOUT : LEND_OK;
}

static enum lend_status fake_open(const struct lend_directory_plugin_open *open, void **out,
                                  struct lend_error *error)
{
    struct handle *handle = &service.handles[service.handle_count++];

    (void)error;
    handle->limit_ns = open->timeout_ns;
    *out = handle;
    return LEND_OK;
}

static void fake_close(void *handle)
{
    (void)handle;
}

static enum lend_status fake_put(void *handle, const char *name, const void *bytes, uint64_t count,
                                 struct lend_error *error)
{
    (void)name;
    (void)pthread_mutex_lock(&service.lock);
    assert_true(count <= sizeof service.put);
    memcpy(service.put, bytes, count);
    service.put_bytes = count;
    (void)pthread_mutex_unlock(&service.lock);
    return answer(handle, PUT, error);
}

static enum lend_status fake_keep(void *handle, struct lend_error *error)
{
    return answer(handle, KEEP, error);
}

static enum lend_status fake_take_back(void *handle, struct lend_error *error)
{
    return answer(handle, TAKE_BACK, error);
}

static enum lend_status fake_find(void *handle, const char *name,
                                  const struct lend_directory_watcher *watcher,
                                  struct lend_error *error)
{
    enum lend_status status = answer(handle, FIND, error);

    (void)name;
    (void)watcher;
    return status == LEND_OK ? LEND_E_ABSENT : status;
}

static enum lend_status fake_watch(void *object, const struct lend_directory_watcher *watcher,
                                   struct lend_error *error)
{
    struct handle *handle = object;

    watcher->listed(watcher->context);
    (void)pthread_mutex_lock(&service.lock);
    while (!handle->is_interrupted) {
        uint8_t *entry = service.entry;

        service.entry = NULL;
        if (entry == NULL) {
            (void)pthread_cond_wait(&service.changed, &service.lock);
            continue;
        }
        (void)pthread_mutex_unlock(&service.lock);
        watcher->entry(watcher->context, "other", 5, entry, service.entry_bytes);
        free(entry);
        (void)pthread_mutex_lock(&service.lock);
        service.told++;
        (void)pthread_cond_broadcast(&service.changed);
    }
    (void)pthread_mutex_unlock(&service.lock);
    *error = (struct lend_error){.status = LEND_E_CANCELED};
    return LEND_E_CANCELED;
}

static void fake_limit(void *object, uint64_t timeout_ns)
{
    struct handle *handle = object;

    handle->limit_ns = timeout_ns;
}

/* The directory is being closed: whoever is held goes on. */
static void fake_interrupt(void *object)
{
    struct handle *handle = object;

    (void)pthread_mutex_lock(&service.lock);
    handle->is_interrupted = true;
    service.held = 0;
    (void)pthread_cond_broadcast(&service.changed);
    (void)pthread_mutex_unlock(&service.lock);
}

static const struct lend_directory_plugin *fake_plugin(void)
{
    static const struct lend_directory_plugin plugin = {
        .struct_size = sizeof plugin,
        .abi = LEND_DIRECTORY_PLUGIN_ABI,
        .name = "fake",
        .open = fake_open,
        .close = fake_close,
        .put = fake_put,
        .keep = fake_keep,
        .take_back = fake_take_back,
        .find = fake_find,
        .watch = fake_watch,
        .limit = fake_limit,
        .interrupt = fake_interrupt,
    };

    return &plugin;
}

static void *load_nothing(const char *path, char *why, size_t capacity)
{
    (void)path;
    (void)why;
    (void)capacity;
    return &service;
}

static void *symbol_of_fake(void *library, const char *name)
{
    lend_directory_plugin_entry *entry = fake_plugin;
    void *symbol;

    (void)library;
    (void)name;
    memcpy(&symbol, &entry, sizeof symbol);
    return symbol;
}

static void unload_nothing(void *library)
{
    (void)library;
}

/* Wait until a call of that kind is held. */
static void await_held(enum call call)
{
    (void)pthread_mutex_lock(&service.lock);
    while (service.waiting != call)
        (void)pthread_cond_wait(&service.changed, &service.lock);
    (void)pthread_mutex_unlock(&service.lock);
}

/* Wait until there have been that many of a kind. */
static void await_count(enum call call, unsigned count)
{
    (void)pthread_mutex_lock(&service.lock);
    while (service.counts[call] < count)
        (void)pthread_cond_wait(&service.changed, &service.lock);
    (void)pthread_mutex_unlock(&service.lock);
}

/* Wait until the watch has told its entry. */
static void await_told(void)
{
    (void)pthread_mutex_lock(&service.lock);
    while (service.told == 0)
        (void)pthread_cond_wait(&service.changed, &service.lock);
    (void)pthread_mutex_unlock(&service.lock);
}

static void hold(enum call call)
{
    (void)pthread_mutex_lock(&service.lock);
    service.held = call;
    (void)pthread_cond_broadcast(&service.changed);
    (void)pthread_mutex_unlock(&service.lock);
}

/* --- the stage --- */

struct stage {
    struct lend_agent *agent;
    struct lend_directory *directory;
    enum lend_status found; /* by look_for_who_never_comes() */
    enum lend_status unpublished;
    uint32_t flags; /* of the directory */
};

static void attach(struct stage *stage, const char *text)
{
    assert_int_equal(lend_agent_attach(stage->agent, text, strlen(text), NULL), LEND_OK);
}

static void stage_up(struct stage *stage,
                     void (*on_event)(void *context, enum lend_directory_event event,
                                      const char *name, const struct lend_found *found))
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_directory_config entering = LEND_DIRECTORY_CONFIG_INIT;
    struct lend_error error = {0};

    hooked = lend_sys_real;
    hooked.now_ns = now_ns;
    hooked.wait = wait_or_fly;
    hooked.load = load_nothing;
    hooked.symbol = symbol_of_fake;
    hooked.unload = unload_nothing;
    lend_sys = &hooked;
    service =
        (struct service){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    atomic_store(&time_flies, false);
    config.name = "one";
    config.transports = "loopback";
    config.flags = LEND_AGENT_NO_STATISTICS;
    assert_int_equal(lend_agent_create(&config, &stage->agent, &error), LEND_OK);
    entering.url = "fake://";
    entering.timeout_ns = TIMEOUT_NS;
    entering.time_to_live_ns = TIME_TO_LIVE_NS;
    entering.on_event = on_event;
    entering.context = stage;
    entering.flags = stage->flags;
    assert_int_equal(lend_directory_open(stage->agent, &entering, &stage->directory, &error),
                     LEND_OK);
}

static void stage_down(struct stage *stage)
{
    lend_directory_close(stage->directory);
    lend_agent_destroy(stage->agent);
    lend_sys = &lend_sys_real;
}

/* --- tests --- */

static void test_closing_has_one_deadline_for_the_keepers_call_and_its_own(void **state)
{
    struct stage stage = {0};

    (void)state;
    stage_up(&stage, NULL);
    assert_int_equal(lend_directory_publish(stage.directory, NULL), LEND_OK);
    service.silent = PUT;
    hold(PUT);
    attach(&stage, "changed");
    await_held(PUT); /* the keeper, which goes on when we begin to close */
    uint64_t began_ns = now_ns();
    lend_directory_close(stage.directory);
    stage.directory = NULL;
    assert_true(now_ns() - began_ns < TIMEOUT_NS + NOTHING_NS);
    /* And of what was left it was taken back, or there was nothing left. */
    assert_true(service.counts[TAKE_BACK] == 0 || service.limits[TAKE_BACK] < NOTHING_NS);
    stage_down(&stage);
}

static void test_an_entry_is_taken_back_in_what_is_left_of_the_time(void **state)
{
    struct stage stage = {0};

    (void)state;
    stage_up(&stage, NULL);
    assert_int_equal(lend_directory_publish(stage.directory, NULL), LEND_OK);
    hold(KEEP);
    service.slow_ns = TIMEOUT_NS / 2;
    atomic_fetch_add(&ahead_ns, TIME_TO_LIVE_NS / 3);
    await_held(KEEP);
    lend_directory_close(stage.directory);
    stage.directory = NULL;
    assert_int_equal(service.counts[TAKE_BACK], 1);
    assert_true(service.limits[TAKE_BACK] <= TIMEOUT_NS / 2);
    assert_true(service.limits[TAKE_BACK] > TIMEOUT_NS / 2 - NOTHING_NS);
    stage_down(&stage);
}

static void test_keeping_alive_and_publishing_share_one_deadline(void **state)
{
    struct stage stage = {0};

    (void)state;
    stage_up(&stage, NULL);
    assert_int_equal(lend_directory_publish(stage.directory, NULL), LEND_OK);
    assert_true(service.limits[PUT] > TIMEOUT_NS - NOTHING_NS);
    service.slow_ns = TIMEOUT_NS / 2;
    hold(KEEP);
    atomic_fetch_add(&ahead_ns, TIME_TO_LIVE_NS / 3);
    await_held(KEEP);
    attach(&stage, "changed");
    hold(0);
    await_count(PUT, 2);
    assert_true(service.limits[KEEP] > TIMEOUT_NS - NOTHING_NS);
    assert_true(service.limits[PUT] <= TIMEOUT_NS / 2);
    stage_down(&stage);
}

static void test_waiting_for_a_turn_is_a_part_of_the_time(void **state)
{
    struct stage stage = {0};
    struct lend_found *found = NULL;
    struct lend_error error = {0};

    (void)state;
    stage_up(&stage, NULL);
    assert_int_equal(lend_directory_publish(stage.directory, NULL), LEND_OK);
    hold(PUT);
    attach(&stage, "changed");
    await_held(PUT); /* the keeper has its turn for as long as we want */
    atomic_store(&time_flies, true);
    uint64_t began_ns = now_ns();
    assert_int_equal(lend_directory_find(stage.directory, "other", 0, &found, &error),
                     LEND_E_TIMEOUT);
    assert_non_null(strstr(error.message, "asked for something else"));
    assert_int_equal(lend_directory_publish(stage.directory, &error), LEND_E_TIMEOUT);
    assert_true(now_ns() - began_ns < 3 * TIMEOUT_NS);
    assert_int_equal(service.counts[FIND], 0);
    atomic_store(&time_flies, false);
    hold(0);
    assert_int_equal(lend_directory_find(stage.directory, "other", 0, &found, &error),
                     LEND_E_ABSENT);
    stage_down(&stage);
}

static void look_for_who_never_comes(void *context, enum lend_directory_event event,
                                     const char *name, const struct lend_found *found)
{
    struct stage *stage = context;
    struct lend_found *other = NULL;

    (void)event;
    (void)name;
    (void)found;
    stage->found = lend_directory_find(stage->directory, "nobody", UINT64_MAX, &other, NULL);
}

/* The watch tells that an agent of that name has come. */
static void let_come(const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_snapshot *snapshot = NULL;
    struct lend_entry entry = {0};

    config.name = name;
    config.transports = "loopback";
    config.flags = LEND_AGENT_NO_STATISTICS;
    assert_int_equal(lend_agent_create(&config, &agent, NULL), LEND_OK);
    assert_int_equal(lend_snapshot_take(agent, 1, false, &snapshot, NULL), LEND_OK);
    lend_agent_incarnation(agent, entry.incarnation);
    entry.metadata_bytes = snapshot->metadata_bytes;
    entry.bytes = snapshot->bytes;
    size_t count = lend_entry_encode(&entry, NULL, 0);
    uint8_t *bytes = malloc(count);
    assert_non_null(bytes);
    (void)lend_entry_encode(&entry, bytes, count);
    lend_snapshot_release(agent, snapshot);
    lend_agent_destroy(agent);

    (void)pthread_mutex_lock(&service.lock);
    service.entry = bytes;
    service.entry_bytes = count;
    (void)pthread_cond_broadcast(&service.changed);
    (void)pthread_mutex_unlock(&service.lock);
}

static void test_who_waits_in_a_callback_does_not_keep_it_from_being_closed(void **state)
{
    struct stage stage = {0};

    (void)state;
    stage_up(&stage, look_for_who_never_comes);
    let_come("other");
    await_count(FIND, 1); /* it waits for ever */
    lend_directory_close(stage.directory);
    stage.directory = NULL;
    assert_int_equal(stage.found, LEND_E_ABSENT);
    stage_down(&stage);
}

static void *unpublish(void *context)
{
    struct stage *stage = context;

    stage->unpublished = lend_directory_unpublish(stage->directory, NULL);
    return NULL;
}

static void test_what_is_unpublished_stays_so_until_it_is_published_again(void **state)
{
    struct stage stage = {0};
    pthread_t other;

    (void)state;
    assert_int_equal(lend_directory_unpublish(NULL, NULL), LEND_E_INVALID);
    stage_up(&stage, NULL);
    assert_int_equal(lend_directory_unpublish(stage.directory, NULL), LEND_OK);
    assert_int_equal(service.counts[TAKE_BACK], 0); /* nothing was there */
    assert_int_equal(lend_directory_publish(stage.directory, NULL), LEND_OK);
    hold(PUT);
    attach(&stage, "changed");
    await_held(PUT); /* the keeper's; we wait for our turn, and so may the keeper again */
    assert_int_equal(pthread_create(&other, NULL, unpublish, &stage), 0);
    hold(0);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(stage.unpublished, LEND_OK);
    assert_int_equal(service.counts[TAKE_BACK], 1);
    attach(&stage, "changed again");
    let_come("other"); /* which wakes the keeper */
    await_told();
    assert_int_equal(service.counts[PUT], 2);

    assert_int_equal(lend_directory_publish(stage.directory, NULL), LEND_OK);
    assert_int_equal(service.counts[PUT], 3);
    lend_directory_close(stage.directory);
    stage.directory = NULL;
    assert_int_equal(service.counts[TAKE_BACK], 2);
    assert_int_equal(service.counts[PUT], 3);
    stage_down(&stage);
}

static void test_what_cannot_be_unpublished_is_not_kept_alive(void **state)
{
    struct stage stage = {0};
    struct lend_found *found = NULL;

    (void)state;
    stage_up(&stage, NULL);
    assert_int_equal(lend_directory_publish(stage.directory, NULL), LEND_OK);
    service.silent = TAKE_BACK;
    assert_int_equal(lend_directory_unpublish(stage.directory, NULL), LEND_E_TIMEOUT);
    service.silent = 0;
    atomic_fetch_add(&ahead_ns, TIME_TO_LIVE_NS / 3);
    let_come("other");
    await_told();
    assert_int_equal(lend_directory_find(stage.directory, "nobody", 0, &found, NULL),
                     LEND_E_ABSENT);
    assert_int_equal(service.counts[KEEP], 0);
    lend_directory_close(stage.directory); /* and it is tried once more */
    stage.directory = NULL;
    assert_int_equal(service.counts[TAKE_BACK], 2);
    assert_int_equal(service.counts[KEEP], 0);
    stage_down(&stage);
}

static void lend_bytes(struct stage *stage, uint8_t *bytes, size_t count)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;

    assert_int_equal(lend_memory_system(bytes, count, &desc.memory, NULL), LEND_OK);
    desc.access = LEND_ACCESS_READ;
    assert_int_equal(lend_region_register(stage->agent, &desc, 1, &region, NULL, NULL), LEND_OK);
}

/* What the latest entry tells of regions, and of how they are told. */
static uint32_t regions_put(bool *out_is_partial)
{
    struct lend_metadata *metadata = NULL;
    struct lend_entry entry;

    assert_int_equal(lend_entry_decode(service.put, service.put_bytes, &entry, NULL), LEND_OK);
    assert_int_equal(lend_metadata_decode(entry.bytes, entry.metadata_bytes, &metadata, NULL),
                     LEND_OK);
    uint32_t count = metadata->region_count;
    *out_is_partial = metadata->is_partial;
    lend_sys->release(metadata);
    return count;
}

static void test_regions_may_be_left_out(void **state)
{
    static uint8_t memory[8192];
    struct stage stage = {.flags = LEND_DIRECTORY_NO_REGIONS};
    bool is_partial = false;

    (void)state;
    stage_up(&stage, NULL);
    lend_bytes(&stage, memory, 4096);
    assert_int_equal(lend_directory_publish(stage.directory, NULL), LEND_OK);
    assert_int_equal(regions_put(&is_partial), 0);
    assert_true(is_partial);
    lend_bytes(&stage, memory + 4096, 4096); /* nobody is told */
    let_come("other");
    await_told();
    assert_int_equal(service.counts[PUT], 1);
    attach(&stage, "changed");
    await_count(PUT, 2);
    lend_directory_close(stage.directory);
    stage.directory = NULL;
    assert_int_equal(service.counts[PUT], 2);
    assert_int_equal(regions_put(&is_partial), 0);
    stage_down(&stage);

    stage = (struct stage){0};
    stage_up(&stage, NULL);
    lend_bytes(&stage, memory, 4096);
    assert_int_equal(lend_directory_publish(stage.directory, NULL), LEND_OK);
    assert_int_equal(regions_put(&is_partial), 1);
    assert_false(is_partial);
    stage_down(&stage);
}

static void test_slow_askers_do_not_keep_an_agent_from_being_published(void **state)
{
    struct lend_snapshot *snapshots[LEND_SNAPSHOTS_MAX];
    struct stage stage = {0};
    char text[16];

    (void)state;
    stage_up(&stage, NULL);
    for (int i = 0; i < LEND_SNAPSHOTS_MAX; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        attach(&stage, text);
        assert_int_equal(
            lend_snapshot_take(stage.agent, LEND_SNAPSHOTS_MAX, false, &snapshots[i], NULL),
            LEND_OK);
    }
    attach(&stage, "the latest");
    assert_int_equal(lend_directory_publish(stage.directory, NULL), LEND_OK);
    for (int i = 0; i < LEND_SNAPSHOTS_MAX; i++)
        lend_snapshot_release(stage.agent, snapshots[i]);
    stage_down(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closing_has_one_deadline_for_the_keepers_call_and_its_own),
        cmocka_unit_test(test_an_entry_is_taken_back_in_what_is_left_of_the_time),
        cmocka_unit_test(test_keeping_alive_and_publishing_share_one_deadline),
        cmocka_unit_test(test_waiting_for_a_turn_is_a_part_of_the_time),
        cmocka_unit_test(test_who_waits_in_a_callback_does_not_keep_it_from_being_closed),
        cmocka_unit_test(test_what_is_unpublished_stays_so_until_it_is_published_again),
        cmocka_unit_test(test_what_cannot_be_unpublished_is_not_kept_alive),
        cmocka_unit_test(test_regions_may_be_left_out),
        cmocka_unit_test(test_slow_askers_do_not_keep_an_agent_from_being_published),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
