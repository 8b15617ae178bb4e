/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an entry of a directory comes back as it was, and is refused where it is cut, damaged or
 * over its limits; and the roster tells what is new of an agent, whoever was not told again, and
 * stays in order. Method: entries in copies of exactly their size; agents in an order of their own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "core/roster.h"
#include "wire/entry.h"
#include "wire_samples.h"

static const uint8_t some[] = "metadata, and an attachment";

static struct lend_entry sample(void)
{
    struct lend_entry entry = {.metadata_bytes = 8, .attachment_bytes = 20, .bytes = some};

    memset(entry.incarnation, 7, sizeof entry.incarnation);
    return entry;
}

static void assert_refused(const void *bytes, size_t count)
{
    uint8_t *copy = copy_bytes(bytes, count);
    struct lend_entry out;
    struct lend_error error;

    memset(&out, PAINT, sizeof out);
    assert_int_equal(lend_entry_decode(copy, count, &out, &error), LEND_E_CORRUPT);
    assert_true(is_painted(&out, sizeof out));
    free(copy);
}

static void test_an_entry_comes_back_as_it_was(void **state)
{
    struct lend_entry entry = sample(), again;
    uint8_t bytes[128], other[128];
    size_t count = lend_entry_encode(&entry, bytes, sizeof bytes);

    (void)state;
    assert_int_equal(count, LEND_ENTRY_OVERHEAD_BYTES + 28);
    assert_int_equal(lend_entry_decode(bytes, count, &again, NULL), LEND_OK);
    assert_int_equal(again.metadata_bytes, 8);
    assert_int_equal(again.attachment_bytes, 20);
    assert_memory_equal(again.incarnation, entry.incarnation, sizeof entry.incarnation);
    assert_memory_equal(again.bytes, some, 28);
    for (size_t length = 0; length < count; length++)
        assert_refused(bytes, length);
    for (size_t i = 0; i < count; i++) {
        if (i == 4 || i == 5) /* the version */
            continue;
        bytes[i] ^= 0x10;
        assert_refused(bytes, count);
        bytes[i] ^= 0x10;
    }

    /* Its first bytes say whose it is. */
    entry.metadata_bytes = 7;
    (void)lend_entry_encode(&entry, other, sizeof other);
    assert_memory_equal(bytes, other, LEND_ENTRY_OWNER_BYTES);
    entry.incarnation[LEND_INCARNATION_BYTES - 1]++;
    (void)lend_entry_encode(&entry, other, sizeof other);
    assert_memory_not_equal(bytes, other, LEND_ENTRY_OWNER_BYTES);
}

static void test_an_entry_has_limits(void **state)
{
    const struct lend_entry none = {.attachment_bytes = 20, .bytes = some};
    uint8_t bytes[128], *sealed;
    struct lend_entry entry = sample();
    size_t count = lend_entry_encode(&none, bytes, sizeof bytes);

    (void)state;
    assert_refused(bytes, count); /* no metadata */
    count = lend_entry_encode(&entry, bytes, sizeof bytes);
    for (int i = 0; i < 8; i++) { /* lengths that are not so, under a good checksum */
        bytes[LEND_ENTRY_OWNER_BYTES + i] ^= 0xff;
        sealed = copy_sealed(bytes, count);
        assert_refused(sealed, count);
        free(sealed);
        bytes[LEND_ENTRY_OWNER_BYTES + i] ^= 0xff;
    }
}

static int enter(struct lend_roster *roster, const char *name, uint8_t incarnation, uint32_t crc)
{
    struct lend_roster_row row = {.crc = crc, .bytes = 100};
    struct lend_error error;
    int event = -1;

    (void)snprintf(row.name, sizeof row.name, "%s", name);
    memset(row.incarnation, incarnation, sizeof row.incarnation);
    assert_int_equal(lend_roster_enter(roster, &row, &event, &error), LEND_OK);
    return event;
}

static void test_the_roster_tells_what_is_new(void **state)
{
    struct lend_roster roster = {0};

    (void)state;
    assert_null(lend_roster_find(&roster, "a"));
    assert_false(lend_roster_leave(&roster, "a"));
    assert_int_equal(enter(&roster, "a", 1, 10), LEND_DIRECTORY_CAME);
    assert_int_equal(enter(&roster, "a", 1, 10), 0);
    assert_int_equal(enter(&roster, "a", 1, 11), LEND_DIRECTORY_CHANGED);
    assert_int_equal(enter(&roster, "a", 2, 11), LEND_DIRECTORY_CAME); /* another life */
    assert_true(lend_roster_leave(&roster, "a"));
    assert_int_equal(enter(&roster, "a", 2, 11), LEND_DIRECTORY_CAME);
    lend_roster_fini(&roster);
}

static void test_who_is_not_told_again_has_left(void **state)
{
    enum { MANY = 100 };
    struct lend_roster roster = {0};
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    bool was_taken[MANY] = {false};

    (void)state;
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof name, "%d", i * 37 % MANY);
        assert_int_equal(enter(&roster, name, 1, 1), LEND_DIRECTORY_CAME);
    }
    assert_int_equal(roster.count, MANY);
    for (uint32_t i = 1; i < roster.count; i++)
        assert_true(strcmp(roster.rows[i - 1].name, roster.rows[i].name) < 0);
    assert_false(lend_roster_take_stale(&roster, name));
    lend_roster_doubt(&roster);
    for (int i = 0; i < MANY; i += 2) {
        (void)snprintf(name, sizeof name, "%d", i);
        assert_int_equal(enter(&roster, name, 1, 1), 0);
    }
    for (int i = 0; i < MANY / 2; i++) {
        assert_true(lend_roster_take_stale(&roster, name));
        int which = (int)strtol(name, NULL, 10);
        assert_true(which % 2 == 1 && !was_taken[which]);
        was_taken[which] = true;
    }
    assert_false(lend_roster_take_stale(&roster, name));
    assert_int_equal(roster.count, MANY / 2);
    lend_roster_fini(&roster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_entry_comes_back_as_it_was),
        cmocka_unit_test(test_an_entry_has_limits),
        cmocka_unit_test(test_the_roster_tells_what_is_new),
        cmocka_unit_test(test_who_is_not_told_again_has_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
