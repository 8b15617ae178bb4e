/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an agent's metadata and attachment come to whoever asks at its address, as they are then,
 * however large; what fails says why, in time; and what slow askers make it keep is bounded.
 * Method: agents of one process over loopback, whose addresses name incarnations; the asked ones
 * with a progress thread, or without one, so that they do not answer. Snapshots are taken by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "core/snapshot.h"

#define SECOND UINT64_C(1000000000)

static void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

static struct lend_agent *make_agent(const char *name, const char *transports, uint32_t flags)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.name = name;
    config.transports = transports;
    config.flags = flags | LEND_AGENT_NO_STATISTICS;
    check(lend_agent_create(&config, &agent, &error), &error);
    return agent;
}

static const char *address_of(const struct lend_agent *agent)
{
    static char text[64];
    uint8_t incarnation[LEND_INCARNATION_BYTES];

    lend_agent_incarnation(agent, incarnation);
    (void)snprintf(text, sizeof text, "loopback:");
    for (size_t i = 0; i < sizeof incarnation; i++)
        (void)snprintf(text + 9 + 2 * i, 3, "%02x", incarnation[i]);
    return text;
}

/* Regions of a page each, which have nothing in common that makes their rows short. */
static void lend_pages(struct lend_agent *agent, uint8_t *memory, size_t count)
{
    struct lend_region_desc *descs = calloc(count, sizeof *descs);
    struct lend_region **regions = calloc(count, sizeof(struct lend_region *));
    char(*names)[64] = calloc(count, sizeof *names);
    struct lend_error error = {0};

    assert_true(descs != NULL && regions != NULL && names != NULL);
    for (size_t i = 0; i < count; i++) {
        descs[i] = (struct lend_region_desc)LEND_REGION_DESC_INIT;
        check(lend_memory_system(memory + 4096 * i, 4096, &descs[i].memory, &error), &error);
        descs[i].geometry.block_length_bytes = 1 + i % 4096;
        descs[i].geometry.count = 1;
        descs[i].access = LEND_ACCESS_READ;
        (void)snprintf(names[i], sizeof names[i], "%zu-is-the-name-of-a-page", i * 7919 % count);
        descs[i].name = names[i];
    }
    check(lend_region_register(agent, descs, (uint32_t)count, regions, NULL, &error), &error);
    free(descs);
    free(regions);
    free(names);
}

static void test_what_an_agent_tells_can_be_imported(void **state)
{
    static uint8_t memory[16 * 4096] __attribute__((aligned(4096)));
    struct lend_agent *owner = make_agent("owner", "loopback", 0);
    struct lend_agent *asker = make_agent("asker", "loopback", 0);
    struct lend_error error = {0};
    struct lend_found *found = NULL;
    struct lend_peer *peer = NULL;

    (void)state;
    check(lend_fetch(asker, address_of(owner), 10 * SECOND, &found, &error), &error);
    assert_null(found->attachment);
    assert_int_equal(found->attachment_bytes, 0);
    lend_found_release(found);

    lend_pages(owner, memory, 16);
    check(lend_agent_attach(owner, "first", 5, &error), &error);
    check(lend_agent_attach(owner, "second", 6, &error), &error);
    check(lend_fetch(asker, address_of(owner), 10 * SECOND, &found, &error), &error);
    assert_int_equal(found->attachment_bytes, 6);
    assert_memory_equal(found->attachment, "second", 6);
    check(lend_peer_import(asker, found->metadata, found->metadata_bytes, &peer, &error), &error);
    struct lend_peer_info info = {.struct_size = sizeof info};
    check(lend_peer_describe(peer, &info, &error), &error);
    assert_string_equal(info.name, "owner");
    assert_int_equal(info.region_count, 16);
    lend_found_release(found);

    check(lend_agent_attach(owner, NULL, 0, &error), &error);
    check(lend_fetch(asker, address_of(owner), 10 * SECOND, &found, &error), &error);
    assert_null(found->attachment);
    lend_found_release(found);
    lend_found_release(NULL);
    lend_agent_destroy(asker);
    lend_agent_destroy(owner);
}

static void test_what_takes_many_frames_comes_whole(void **state)
{
    enum { PAGES = 20000 };
    uint8_t *memory = aligned_alloc(4096, (size_t)PAGES * 4096);
    struct lend_agent *owner = make_agent("owner", "loopback", 0);
    struct lend_agent *asker = make_agent("asker", "loopback", 0);
    uint8_t *attachment = malloc(LEND_ATTACHMENT_BYTES_MAX + 1);
    struct lend_error error = {0};
    struct lend_found *found = NULL;
    struct lend_peer *peer = NULL;

    (void)state;
    assert_true(memory != NULL && attachment != NULL);
    for (uint32_t i = 0; i <= LEND_ATTACHMENT_BYTES_MAX; i++)
        attachment[i] = (uint8_t)(i * 13);
    lend_pages(owner, memory, PAGES);
    assert_int_equal(lend_agent_attach(owner, attachment, LEND_ATTACHMENT_BYTES_MAX + 1, &error),
                     LEND_E_LIMIT);
    check(lend_agent_attach(owner, attachment, LEND_ATTACHMENT_BYTES_MAX, &error), &error);
    check(lend_fetch(asker, address_of(owner), 60 * SECOND, &found, &error), &error);
    assert_true(found->metadata_bytes > 512 << 10); /* more than the ring holds at a time */
    assert_int_equal(found->attachment_bytes, LEND_ATTACHMENT_BYTES_MAX);
    assert_memory_equal(found->attachment, attachment, LEND_ATTACHMENT_BYTES_MAX);
    check(lend_peer_import(asker, found->metadata, found->metadata_bytes, &peer, &error), &error);
    struct lend_peer_info info = {.struct_size = sizeof info};
    check(lend_peer_describe(peer, &info, &error), &error);
    assert_int_equal(info.region_count, PAGES);
    lend_found_release(found);
    lend_agent_destroy(asker);
    lend_agent_destroy(owner);
    free(attachment);
    free(memory);
}

static void test_a_question_that_cannot_be_answered_says_why(void **state)
{
    struct lend_agent *silent = make_agent("silent", "loopback", LEND_AGENT_MANUAL_PROGRESS);
    struct lend_agent *asker = make_agent("asker", "loopback", 0);
    struct lend_agent *local = make_agent("local", "local", 0);
    struct lend_found *found = NULL;
    struct lend_error error = {0};
    char gone[64], text[64];

    (void)state;
    struct lend_agent *dead = make_agent("dead", "loopback", 0);
    (void)snprintf(gone, sizeof gone, "%s", address_of(dead));
    lend_agent_destroy(dead);
    assert_int_equal(lend_fetch(asker, gone, SECOND, &found, &error), LEND_E_PEER_DEAD);
    assert_int_equal(lend_fetch(asker, address_of(silent), SECOND / 50, &found, &error),
                     LEND_E_TIMEOUT);
    assert_int_equal(lend_fetch(asker, address_of(silent), 0, &found, &error), LEND_E_TIMEOUT);
    assert_int_equal(lend_fetch(asker, "somewhere", SECOND, &found, &error), LEND_E_INVALID);
    assert_non_null(strstr(error.message, "somewhere"));
    assert_int_equal(lend_fetch(asker, NULL, SECOND, &found, &error), LEND_E_INVALID);
    assert_int_equal(lend_fetch(asker, gone, SECOND, NULL, &error), LEND_E_INVALID);
    assert_int_equal(lend_fetch(local, gone, SECOND, &found, &error), LEND_E_UNSUPPORTED);
    assert_int_equal(lend_fetch(NULL, gone, SECOND, &found, &error), LEND_E_INVALID);
    assert_null(found);

    assert_int_equal(lend_agent_address(asker, text, sizeof text, &error), LEND_E_ABSENT);
    assert_int_equal(lend_agent_address(asker, NULL, 0, &error), LEND_E_INVALID);
    assert_int_equal(lend_agent_attach(asker, NULL, 3, &error), LEND_E_INVALID);
    lend_agent_destroy(local);
    lend_agent_destroy(asker);
    lend_agent_destroy(silent);
}

/* Metadata that is many times as long as what is on its way at one time. */
static void test_an_agent_that_goes_away_meanwhile_is_dead(void **state)
{
    struct lend_agent *silent = make_agent("silent", "loopback", LEND_AGENT_MANUAL_PROGRESS);
    struct lend_agent *asker = make_agent("asker", "loopback", LEND_AGENT_MANUAL_PROGRESS);
    struct lend_found *found = NULL;
    struct lend_error error = {0};

    (void)state;
    /* It has answered, but we have not looked; then it is gone. What it told before counts. */
    assert_int_equal(lend_fetch(asker, address_of(silent), 0, &found, &error), LEND_E_TIMEOUT);
    for (int i = 0; i < 100; i++) {
        (void)lend_agent_progress(silent, 0, NULL);
        (void)lend_agent_progress(asker, 0, NULL);
    }
    assert_true(lend_list_is_empty(&silent->snapshots)); /* who asked has hung up */
    assert_true(lend_list_is_empty(&silent->sessions));
    assert_true(lend_list_is_empty(&asker->sessions));
    lend_agent_destroy(asker);
    lend_agent_destroy(silent);
}

/* An agent gives back what an asker held when it sees that one's end: soon, on its own thread. */
static void await_no_snapshots(struct lend_agent *agent)
{
    bool is_empty = false;

    for (uint64_t until = lend_sys->now_ns() + 10 * SECOND;
         !is_empty && lend_sys->now_ns() < until;) {
        lend_sys->yield();
        (void)pthread_mutex_lock(&agent->lock);
        is_empty = lend_list_is_empty(&agent->snapshots);
        (void)pthread_mutex_unlock(&agent->lock);
    }
    assert_true(is_empty);
}

static void test_what_slow_askers_hold_is_bounded(void **state)
{
    struct lend_agent *agent = make_agent("told", "loopback", 0);
    struct lend_snapshot *held[LEND_SNAPSHOTS_MAX], *again, *other = NULL;
    struct lend_error error = {0};

    (void)state;
    for (int i = 0; i < LEND_SNAPSHOTS_MAX; i++) {
        check(lend_agent_attach(agent, &i, sizeof i, &error), &error);
        check(lend_snapshot_take(agent, LEND_SNAPSHOTS_MAX, false, &held[i], &error), &error);
        assert_memory_equal(held[i]->bytes + held[i]->metadata_bytes, &i, sizeof i);
        assert_false(lend_snapshot_is_old(agent, held[i]));
        assert_true(i == 0 || lend_snapshot_is_old(agent, held[i - 1]));
    }
    /* The newest is shared; one more that is different is not to be had. */
    check(lend_snapshot_take(agent, LEND_SNAPSHOTS_MAX, false, &again, &error), &error);
    assert_ptr_equal(again, held[LEND_SNAPSHOTS_MAX - 1]);
    check(lend_agent_attach(agent, "newer", 5, &error), &error);
    assert_int_equal(lend_snapshot_take(agent, LEND_SNAPSHOTS_MAX, false, &other, &error),
                     LEND_E_BUSY);
    assert_null(other);

    struct lend_agent *asker = make_agent("asker", "loopback", 0);
    struct lend_found *found = NULL;
    assert_int_equal(lend_fetch(asker, address_of(agent), 10 * SECOND, &found, &error),
                     LEND_E_LIMIT);
    lend_snapshot_release(agent, held[1]);
    check(lend_fetch(asker, address_of(agent), 10 * SECOND, &found, &error), &error);
    assert_memory_equal(found->attachment, "newer", 5);
    lend_found_release(found);
    lend_agent_destroy(asker);

    lend_snapshot_release(agent, again);
    lend_snapshot_release(agent, held[0]);
    lend_snapshot_release(agent, held[2]);
    lend_snapshot_release(agent, held[3]);
    lend_snapshot_release(agent, NULL);
    await_no_snapshots(agent);
    lend_agent_destroy(agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_an_agent_tells_can_be_imported),
        cmocka_unit_test(test_what_takes_many_frames_comes_whole),
        cmocka_unit_test(test_a_question_that_cannot_be_answered_says_why),
        cmocka_unit_test(test_an_agent_that_goes_away_meanwhile_is_dead),
        cmocka_unit_test(test_what_slow_askers_hold_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
