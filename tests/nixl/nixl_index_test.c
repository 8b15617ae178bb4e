/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a descriptor is covered if it lies within one registration, however many there are, in
 * which order they came, and however they nest, overlap and repeat. Method: a history of additions
 * and removals from a fixed seed, more than chunks hold by far, against a list that is searched
 * from end to end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "index.h"

enum { MANY = 3000, WIDE = 1 << 14, LONGEST = 64, STEPS = 20000, QUESTIONS = 20 };

static struct {
    struct compat_desc desc;
    bool is_there;
} model[MANY];

static uint64_t draw(uint64_t bound)
{
    static uint64_t seed = 3;

    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 33) % bound;
}

/* Now and then one that covers much, so that what covers lies far before what is asked for. */
static struct compat_desc random_desc(void)
{
    struct compat_desc desc = {.address = 1 + draw(WIDE), .device = draw(2)};

    desc.length_bytes = draw(200) == 0 ? draw(WIDE) : draw(LONGEST);
    return desc;
}

static bool is_covered(const struct compat_desc *desc)
{
    for (size_t i = 0; i < MANY; i++)
        if (model[i].is_there && model[i].desc.device == desc->device &&
            model[i].desc.address <= desc->address &&
            model[i].desc.address + model[i].desc.length_bytes >=
                desc->address + desc->length_bytes)
            return true;
    return false;
}

static void ask(const struct compat_index *index)
{
    const struct compat_desc desc = random_desc();
    const struct compat_space *space = compat_index_space(index, NIXL_CAPI_MEM_DRAM, desc.device);
    const struct compat_entry *entry = space != NULL ? compat_space_cover(space, &desc) : NULL;

    assert_int_equal(entry != NULL, is_covered(&desc));
    if (entry == NULL)
        return;
    assert_true(entry->address <= desc.address);
    assert_true(entry->address + entry->length_bytes >= desc.address + desc.length_bytes);
}

static void add(struct compat_index *index, size_t i, struct compat_desc desc)
{
    model[i].desc = desc;
    model[i].is_there = true;
    assert_true(compat_index_add(index, NIXL_CAPI_MEM_DRAM, &desc, &model[i]));
}

static void drop(struct compat_index *index, size_t i)
{
    struct compat_place place;

    assert_true(compat_index_find(index, NIXL_CAPI_MEM_DRAM, &model[i].desc, &model[i], &place));
    assert_ptr_equal(compat_index_at(&place)->region, &model[i]);
    compat_index_remove(index, &place);
    assert_false(compat_index_find(index, NIXL_CAPI_MEM_DRAM, &model[i].desc, &model[i], &place));
    model[i].is_there = false;
}

/* What chunks know of their entries is true. */
static void check_chunks(const struct compat_index *index)
{
    for (size_t i = 0; i < index->space_count; i++) {
        const struct compat_space *space = &index->spaces[i];

        for (size_t j = 0; j < space->chunk_count; j++) {
            const struct compat_chunk *chunk = &space->chunks[j];
            uintptr_t end_max = 0;

            assert_true(chunk->count > 0);
            assert_int_equal(chunk->first_address, chunk->at[0].address);
            for (uint32_t k = 0; k < chunk->count; k++) {
                uintptr_t end = chunk->at[k].address + chunk->at[k].length_bytes;

                if (chunk->is_apart)
                    assert_true(end_max <= chunk->at[k].address);
                end_max = end > end_max ? end : end_max;
            }
            assert_int_equal(chunk->end_max, end_max);
        }
    }
}

static void test_random_history_is_that_of_a_list(void **state)
{
    struct compat_index index = {0};

    (void)state;
    memset(model, 0, sizeof model);
    for (int step = 0; step < STEPS; step++) {
        size_t i = (size_t)draw(MANY);

        if (model[i].is_there)
            drop(&index, i);
        else
            add(&index, i, random_desc());
        if (step % QUESTIONS != 0)
            continue;
        check_chunks(&index);
        for (int k = 0; k < QUESTIONS; k++)
            ask(&index);
    }
    for (size_t i = 0; i < MANY; i++)
        if (model[i].is_there)
            drop(&index, i);
    assert_int_equal(index.count, 0);
    ask(&index);
    compat_index_fini(&index);
}

static void in_order(struct compat_index *index, bool descends)
{
    for (size_t i = 0; i < MANY; i++) {
        size_t at = descends ? MANY - 1 - i : i;

        add(index, i, (struct compat_desc){.address = 1 + at * 4, .length_bytes = 4});
    }
    for (int k = 0; k < 1000; k++)
        ask(index);
    for (size_t i = 0; i < MANY; i++) {
        drop(index, i);
        if (i % 64 == 0)
            check_chunks(index);
    }
    assert_int_equal(index->count, 0);
}

static void test_ascending_and_descending_are_as_good(void **state)
{
    struct compat_index index = {0};

    (void)state;
    in_order(&index, false);
    in_order(&index, true);
    in_order(&index, false);
    compat_index_fini(&index);
}

static void test_equal_ones_are_told_apart_by_their_regions(void **state)
{
    struct compat_index index = {0};
    const struct compat_desc desc = {.address = 100, .length_bytes = 10};
    struct compat_place place;

    (void)state;
    for (size_t i = 0; i < MANY; i++)
        add(&index, i, desc);
    assert_true(compat_index_find(&index, NIXL_CAPI_MEM_DRAM, &desc, NULL, &place));
    for (size_t i = 0; i < MANY; i += 7)
        drop(&index, i);
    ask(&index);
    for (size_t i = 0; i < MANY; i++)
        if (model[i].is_there)
            drop(&index, i);
    assert_false(compat_index_find(&index, NIXL_CAPI_MEM_DRAM, &desc, NULL, &place));
    compat_index_fini(&index);
}

static void test_a_range_that_wraps_is_not_covered(void **state)
{
    struct compat_index index = {0};
    const struct compat_desc high = {.address = UINTPTR_MAX - 10, .length_bytes = 10};
    const struct compat_desc wraps = {.address = UINTPTR_MAX - 5, .length_bytes = 10};

    (void)state;
    memset(model, 0, sizeof model);
    add(&index, 0, high);
    const struct compat_space *space = compat_index_space(&index, NIXL_CAPI_MEM_DRAM, 0);
    assert_non_null(compat_space_cover(space, &high));
    assert_null(compat_space_cover(space, &wraps));
    assert_null(compat_index_space(&index, NIXL_CAPI_MEM_VRAM, 0));
    compat_index_fini(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_history_is_that_of_a_list),
        cmocka_unit_test(test_ascending_and_descending_are_as_good),
        cmocka_unit_test(test_equal_ones_are_told_apart_by_their_regions),
        cmocka_unit_test(test_a_range_that_wraps_is_not_covered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
