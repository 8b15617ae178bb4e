/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a name of a lease is never given twice, a word tells each generation its own cause, and a
 * slot serves again only after its rest. Method: times are arguments, so that the test is the
 * clock; memory and randomness fail under the double.
 */
#include "core/slot.h"
#include "double.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { LIMIT = 300, REST = 5000000 };

/* Slot and generation of a lease. */
struct name {
    uint32_t slot;
    uint64_t generation;
};

static struct name take(struct lend_slots *slots, void *lease, uint64_t now)
{
    struct lend_error error = {0};
    struct name name;

    if (lend_slots_take(slots, lease, now, &name.slot, &name.generation, &error) != LEND_OK)
        fail_msg("refused: %s", error.message);
    return name;
}

static void refuse(struct lend_slots *slots, uint64_t now, enum lend_status wanted, const char *why)
{
    struct lend_error error = {0};
    struct name name = {.slot = 77, .generation = 78};
    uint32_t made = slots->made_count;

    assert_int_equal(lend_slots_take(slots, slots, now, &name.slot, &name.generation, &error),
                     wanted);
    assert_int_equal(error.status, wanted);
    if (strstr(error.message, why) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", why, error.message);
    assert_true(name.slot == 77 && name.generation == 78);
    assert_int_equal(slots->made_count, made);
}

static enum lend_status judge(const struct lend_slots *slots, uint32_t slot, uint64_t generation)
{
    return lend_slot_judge(atomic_load(lend_slots_word(slots, slot)), generation);
}

static void test_each_state_is_judged_by_its_cause(void **state)
{
    static const enum lend_status causes[] = {
        [LEND_SLOT_UNUSED] = LEND_E_UNKNOWN,    [LEND_SLOT_LIVE] = LEND_OK,
        [LEND_SLOT_REVOKED] = LEND_E_REVOKED,   [LEND_SLOT_EXPIRED] = LEND_E_EXPIRED,
        [LEND_SLOT_CONSUMED] = LEND_E_CONSUMED, [LEND_SLOT_PEER_DEAD] = LEND_E_PEER_DEAD,
    };
    const uint64_t last = (UINT64_C(1) << 56) - 1, generations[] = {1, 1000, last};

    (void)state;
    for (uint64_t value = 0; value <= 0xff; value++) {
        enum lend_status cause = value <= LEND_SLOT_PEER_DEAD ? causes[value] : LEND_E_UNKNOWN;

        for (int i = 0; i < 3; i++) {
            uint64_t word = generations[i] << LEND_SLOT_STATE_BITS | value;

            assert_int_equal(lend_slot_judge(word, generations[i]), cause);
            assert_int_equal(lend_slot_judge(word, generations[i] - 1), LEND_E_STALE);
            assert_int_equal(lend_slot_judge(word, 0), LEND_E_STALE);
            assert_int_equal(lend_slot_judge(word, generations[i] + 1), LEND_E_UNKNOWN);
            assert_int_equal(lend_slot_judge(word, UINT64_MAX), LEND_E_UNKNOWN);
        }
    }
}

static void test_lives_of_one_slot_are_told_apart(void **state)
{
    struct lend_slots slots;
    int lease;
    uint64_t now = 1000, before = 0;

    (void)state;
    double_install(-1);
    assert_int_equal(lend_slots_init(&slots, 1, REST, NULL), LEND_OK);
    for (int life = 0; life < 50; life++) {
        struct name name = take(&slots, &lease, now);
        enum lend_slot_state cause = (enum lend_slot_state)(LEND_SLOT_REVOKED + life % 4);

        assert_int_equal(name.slot, 0);
        assert_int_equal(judge(&slots, 0, name.generation), LEND_OK);
        assert_int_equal(judge(&slots, 0, name.generation + 1), LEND_E_UNKNOWN);
        assert_ptr_equal(lend_slots_at(&slots, 0)->lease, &lease);
        if (life > 0) {
            assert_true(name.generation > before);
            assert_int_equal(judge(&slots, 0, before), LEND_E_STALE);
        }
        before = name.generation;
        lend_slots_end(&slots, 0, cause, now);
        assert_null(lend_slots_at(&slots, 0)->lease);
        assert_int_equal(atomic_load(lend_slots_word(&slots, 0)), lend_slot_word(before, cause));
        now += REST;
    }
    lend_slots_fini(&slots);
    assert_false(double_remove());
}

static void test_slot_rests_before_it_serves_again(void **state)
{
    struct lend_slots slots;
    const uint64_t ended = 7;

    (void)state;
    assert_int_equal(lend_slots_init(&slots, 2, REST, NULL), LEND_OK);
    struct name first = take(&slots, &slots, 0);
    lend_slots_end(&slots, first.slot, LEND_SLOT_REVOKED, ended);
    /* One that rests is passed over while there are fresh ones. */
    struct name second = take(&slots, &slots, ended + REST - 1);
    assert_int_not_equal(second.slot, first.slot);
    refuse(&slots, ended + REST - 1, LEND_E_LIMIT,
           "all 2 leases (leases_max) live, or ended less "
           "than 5 ms ago (slot_rest_ns)");
    assert_int_equal(judge(&slots, first.slot, first.generation), LEND_E_REVOKED);
    assert_int_equal(take(&slots, &slots, ended + REST).slot, first.slot);
    lend_slots_fini(&slots);
}

static void test_slots_serve_again_in_the_order_of_their_ends(void **state)
{
    struct lend_slots slots;

    (void)state;
    assert_int_equal(lend_slots_init(&slots, LIMIT, REST, NULL), LEND_OK);
    for (uint32_t i = 0; i < LIMIT; i++)
        assert_int_equal(take(&slots, &slots, 0).slot, i);
    refuse(&slots, UINT64_MAX, LEND_E_LIMIT, "all 300 leases (leases_max) live");
    for (uint32_t i = 0; i < LIMIT; i++)
        lend_slots_end(&slots, i * 7 % LIMIT, LEND_SLOT_CONSUMED, i);
    for (uint32_t i = 0; i < LIMIT; i++) {
        refuse(&slots, i + REST - 1, LEND_E_LIMIT, "leases_max");
        assert_int_equal(take(&slots, &slots, i + REST).slot, i * 7 % LIMIT);
    }
    lend_slots_fini(&slots);
}

static void test_words_keep_their_places_while_slots_are_made(void **state)
{
    static struct lend_slot *places[LIMIT];
    struct lend_slots slots;

    (void)state;
    assert_int_equal(lend_slots_init(&slots, LIMIT, REST, NULL), LEND_OK);
    assert_null(lend_slots_at(&slots, 0));
    for (uint32_t i = 0; i < LIMIT; i++)
        places[i] = lend_slots_at(&slots, take(&slots, &places[i], 0).slot);
    for (uint32_t i = 0; i < LIMIT; i++) {
        assert_ptr_equal(lend_slots_at(&slots, i), places[i]);
        assert_ptr_equal(places[i]->lease, &places[i]);
    }
    assert_null(lend_slots_at(&slots, LIMIT));
    assert_null(lend_slots_at(&slots, LEND_SLOT_NONE));
    lend_slots_fini(&slots);
}

static void test_first_generations_differ_and_leave_room_to_grow(void **state)
{
    struct lend_slots slots;
    uint64_t before = 0;

    (void)state;
    assert_int_equal(lend_slots_init(&slots, LIMIT, REST, NULL), LEND_OK);
    for (uint32_t i = 0; i < 20; i++) {
        struct name name = take(&slots, &slots, 0);

        assert_true(name.generation > 0 && name.generation <= UINT64_C(1) << 40);
        assert_true(name.generation != before);
        before = name.generation;
    }
    lend_slots_fini(&slots);
}

/* What a region's suspension ended is outdated when it is resumed, and nothing else is. */
static void test_what_a_suspension_ended_is_outdated(void **state)
{
    struct lend_slots slots;
    struct name ended, other, lives;

    (void)state;
    double_install(-1);
    assert_int_equal(lend_slots_init(&slots, LIMIT, REST, NULL), LEND_OK);
    ended = take(&slots, &slots, 0);
    other = take(&slots, &slots, 0);
    lives = take(&slots, &slots, 0);
    lend_slots_end(&slots, ended.slot, LEND_SLOT_REVOKED, 0);
    lend_slots_note(&slots, ended.slot, 7);
    lend_slots_end(&slots, other.slot, LEND_SLOT_REVOKED, 0);
    lend_slots_note(&slots, other.slot, 8);
    assert_int_equal(judge(&slots, ended.slot, ended.generation), LEND_E_REVOKED);

    lend_slots_outdate(&slots, 7);
    assert_int_equal(judge(&slots, ended.slot, ended.generation), LEND_E_STALE);
    assert_int_equal(judge(&slots, ended.slot, ended.generation + 1), LEND_E_UNKNOWN);
    assert_int_equal(judge(&slots, other.slot, other.generation), LEND_E_REVOKED);
    assert_int_equal(judge(&slots, lives.slot, lives.generation), LEND_OK);
    /* Once is enough. */
    uint64_t word = atomic_load(lend_slots_word(&slots, ended.slot));
    lend_slots_outdate(&slots, 7);
    assert_int_equal(atomic_load(lend_slots_word(&slots, ended.slot)), word);

    /* It rests as before, and whoever takes it has a name of its own. */
    struct name next = take(&slots, &slots, REST);
    assert_int_equal(next.slot, ended.slot);
    assert_true(next.generation > ended.generation + 1);
    /* The other one is taken before its region comes back: that is not touched. */
    next = take(&slots, &slots, REST);
    assert_int_equal(next.slot, other.slot);
    lend_slots_outdate(&slots, 8);
    assert_int_equal(judge(&slots, next.slot, next.generation), LEND_OK);
    lend_slots_fini(&slots);
    assert_false(double_remove());
}

static void test_largest_limit_has_a_table_of_its_size(void **state)
{
    struct lend_slots slots;

    (void)state;
    assert_int_equal(lend_slots_init(&slots, UINT32_MAX, REST, NULL), LEND_OK);
    assert_int_equal(slots.page_capacity, UINT32_MAX / 128 + 1);
    lend_slots_fini(&slots);
}

static void test_faults_leave_the_table_as_it_was(void **state)
{
    static const char *why[] = {"no memory for a table of 300 leases",
                                "no memory file for the words of 300 leases",
                                "the words of 300 leases cannot be mapped",
                                "the words of leases cannot be sealed",
                                "no random bytes for a lease",
                                "no memory for 128 more leases"};
    static const enum lend_status wanted[] = {LEND_E_NO_MEMORY, LEND_E_SYSTEM, LEND_E_NO_MEMORY,
                                              LEND_E_SYSTEM,    LEND_E_SYSTEM, LEND_E_NO_MEMORY};

    (void)state;
    for (int nth = 0; nth < 6; nth++) {
        struct lend_error error = {0};
        struct lend_slots slots;

        double_install(nth);
        enum lend_status status = lend_slots_init(&slots, LIMIT, REST, &error);
        if (nth < 4) {
            assert_int_equal(status, wanted[nth]);
            assert_true(strncmp(error.message, why[nth], strlen(why[nth])) == 0);
        } else {
            assert_int_equal(status, LEND_OK);
            refuse(&slots, 0, wanted[nth], why[nth]);
            assert_int_equal(take(&slots, &slots, 0).slot, 0);
        }
        lend_slots_fini(&slots);
        assert_int_equal(double_live_allocations(), 0);
        assert_true(double_remove());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_state_is_judged_by_its_cause),
        cmocka_unit_test(test_lives_of_one_slot_are_told_apart),
        cmocka_unit_test(test_slot_rests_before_it_serves_again),
        cmocka_unit_test(test_slots_serve_again_in_the_order_of_their_ends),
        cmocka_unit_test(test_words_keep_their_places_while_slots_are_made),
        cmocka_unit_test(test_first_generations_differ_and_leave_room_to_grow),
        cmocka_unit_test(test_what_a_suspension_ended_is_outdated),
        cmocka_unit_test(test_largest_limit_has_a_table_of_its_size),
        cmocka_unit_test(test_faults_leave_the_table_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
