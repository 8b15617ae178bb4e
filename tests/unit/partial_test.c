/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: metadata of some regions tells nothing of the others, and what several such blobs tell adds
 * up, in whatever order they come: what is told of all regions takes the place of what was told
 * before it, and of nothing that was told since; of two lives of a region the later one stays, and
 * of two regions of one name the later one. What makes no sense is refused. Method: agents of one
 * process over loopback, blobs kept and imported in all orders; and merges of structs by hand.
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

#include "base/sys.h"
#include "wire/metadata.h"

enum { PAGE = 4096, PAGES = 8, ROOM = 1 << 16 };

static uint8_t memory[PAGE * PAGES] __attribute__((aligned(PAGE)));

static void check(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

static struct lend_agent *make_agent(const char *name)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};

    config.name = name;
    config.transports = "loopback";
    config.flags = LEND_AGENT_NO_STATISTICS;
    check(lend_agent_create(&config, &agent, &error), &error);
    return agent;
}

static struct lend_region *lend_page(struct lend_agent *agent, int page, const char *name)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    check(lend_memory_system(&memory[PAGE * page], PAGE, &desc.memory, &error), &error);
    desc.access = LEND_ACCESS_READ;
    desc.name = name;
    check(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

struct blob {
    uint8_t bytes[ROOM];
    size_t count;
};

static void export_some(struct lend_agent *agent, struct lend_region *const *regions,
                        uint32_t count, struct blob *out)
{
    struct lend_export_desc desc = LEND_EXPORT_DESC_INIT;
    struct lend_error error = {0};

    desc.flags = LEND_EXPORT_PARTIAL;
    desc.regions = regions;
    desc.region_count = count;
    check(
        lend_metadata_export_with(agent, &desc, out->bytes, sizeof out->bytes, &out->count, &error),
        &error);
}

static void export_all(struct lend_agent *agent, struct blob *out)
{
    struct lend_error error = {0};

    check(lend_metadata_export(agent, out->bytes, sizeof out->bytes, &out->count, &error), &error);
}

static bool has_text(const struct blob *blob, const char *text)
{
    return memmem(blob->bytes, blob->count, text, strlen(text)) != NULL;
}

/* The names of the regions that are known of it, in a line. */
static const char *names_of(const struct lend_peer *peer)
{
    static char names[512];
    struct lend_peer_info info = {.struct_size = sizeof info};

    check(lend_peer_describe(peer, &info, NULL), NULL);
    names[0] = '\0';
    for (uint32_t i = 0; i < info.region_count; i++) {
        struct lend_region_info region = {.struct_size = sizeof region};

        check(lend_peer_region_at(peer, i, &region, NULL), NULL);
        (void)snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                       i > 0 ? " " : "", region.name);
    }
    return names;
}

static struct lend_peer *import(struct lend_agent *agent, const struct blob *blob)
{
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};

    check(lend_peer_import(agent, blob->bytes, blob->count, &peer, &error), &error);
    return peer;
}

static void refresh(struct lend_peer *peer, const struct blob *blob)
{
    struct lend_error error = {0};

    check(lend_peer_refresh(peer, blob->bytes, blob->count, &error), &error);
}

/* --- by agents --- */

static void test_a_part_tells_nothing_of_the_rest(void **state)
{
    static struct blob some, none, all;
    struct lend_agent *owner = make_agent("owner"), *reader = make_agent("reader");
    struct lend_region *regions[3] = {lend_page(owner, 0, "first"), lend_page(owner, 1, "hidden"),
                                      lend_page(owner, 2, "third")};
    struct lend_region *const chosen[] = {regions[2], regions[0], regions[2]};

    (void)state;
    export_some(owner, chosen, 3, &some); /* in any order, and twice */
    export_some(owner, NULL, 0, &none);
    export_all(owner, &all);
    assert_true(has_text(&all, "hidden") && !has_text(&some, "hidden"));
    assert_true(has_text(&some, "first") && !has_text(&none, "first"));

    struct lend_peer *peer = import(reader, &none);
    assert_string_equal(names_of(peer), "");
    refresh(peer, &some);
    assert_string_equal(names_of(peer), "first third");
    refresh(peer, &none); /* takes nothing away */
    assert_string_equal(names_of(peer), "first third");
    refresh(peer, &all);
    assert_string_equal(names_of(peer), "first hidden third");
    lend_peer_forget(peer);
    lend_agent_destroy(reader);
    lend_agent_destroy(owner);
}

static void test_a_withdrawn_region_is_not_told(void **state)
{
    static struct blob some;
    struct lend_agent *owner = make_agent("owner"), *reader = make_agent("reader");
    struct lend_region *regions[2] = {lend_page(owner, 0, "kept"), lend_page(owner, 1, "gone")};
    struct lend_error error = {0};

    (void)state;
    check(lend_region_withdraw(regions[1], LEND_WITHDRAW_FORCE, 0, &error), &error);
    export_some(owner, regions, 2, &some);
    struct lend_peer *peer = import(reader, &some);
    assert_string_equal(names_of(peer), "kept");
    lend_peer_forget(peer);
    lend_agent_destroy(reader);
    lend_agent_destroy(owner);
}

/* What is told, in the order in which it was: {all: "a b"}, part "c", {all: "b c d"}, part "e". */
enum { ALL_AB, PART_C, ALL_BCD, PART_E, BLOBS };

static void tell_of_changes(struct lend_agent *owner, struct blob *blobs)
{
    struct lend_error error = {0};

    struct lend_region *a = lend_page(owner, 0, "a");
    (void)lend_page(owner, 1, "b");
    export_all(owner, &blobs[ALL_AB]);
    struct lend_region *c = lend_page(owner, 2, "c");
    export_some(owner, &c, 1, &blobs[PART_C]);
    check(lend_region_deregister(a, &error), &error);
    (void)lend_page(owner, 3, "d");
    export_all(owner, &blobs[ALL_BCD]);
    struct lend_region *e = lend_page(owner, 4, "e");
    export_some(owner, &e, 1, &blobs[PART_E]);
}

static void test_what_is_told_adds_up_in_any_order(void **state)
{
    static struct blob blobs[BLOBS];
    struct lend_agent *owner = make_agent("owner"), *reader = make_agent("reader");

    (void)state;
    tell_of_changes(owner, blobs);
    /* All orders of the four. */
    for (int code = 0; code < BLOBS * BLOBS * BLOBS * BLOBS; code++) {
        const int order[BLOBS] = {code % 4, code / 4 % 4, code / 16 % 4, code / 64};
        struct lend_peer *peer = NULL;
        unsigned told = 0;

        for (int i = 0; i < BLOBS; i++)
            told |= 1u << order[i];
        if (told != (1u << BLOBS) - 1)
            continue;
        peer = import(reader, &blobs[order[0]]);
        for (int i = 1; i < BLOBS; i++)
            refresh(peer, &blobs[order[i]]);
        /* That a is gone may be lost: it was not told by whom came last. */
        const char *names = names_of(peer);
        assert_string_equal(names + (names[0] == 'a' ? 2 : 0), "b c d e");
        lend_peer_forget(peer);
    }
    lend_agent_destroy(reader);
    lend_agent_destroy(owner);
}

static void test_what_was_told_since_stays_when_older_is_told_of_all(void **state)
{
    static struct blob blobs[BLOBS];
    struct lend_agent *owner = make_agent("owner"), *reader = make_agent("reader");

    (void)state;
    tell_of_changes(owner, blobs);
    struct lend_peer *peer = import(reader, &blobs[PART_E]);
    refresh(peer, &blobs[ALL_AB]);
    assert_string_equal(names_of(peer), "a b e");
    refresh(peer, &blobs[PART_C]);
    assert_string_equal(names_of(peer), "a b c e");
    lend_peer_forget(peer);

    peer = import(reader, &blobs[ALL_AB]);
    refresh(peer, &blobs[PART_C]);
    assert_string_equal(names_of(peer), "a b c");
    refresh(peer, &blobs[ALL_BCD]); /* takes away what is gone */
    assert_string_equal(names_of(peer), "b c d");
    refresh(peer, &blobs[ALL_AB]); /* and older is nothing new, */
    refresh(peer, &blobs[PART_C]);
    assert_string_equal(names_of(peer), "b c d");
    refresh(peer, &blobs[PART_E]);
    refresh(peer, &blobs[PART_E]);
    assert_string_equal(names_of(peer), "b c d e");
    lend_peer_forget(peer);
    lend_agent_destroy(reader);
    lend_agent_destroy(owner);
}

static void test_what_makes_no_sense_is_not_exported(void **state)
{
    static struct blob blob;
    struct lend_agent *owner = make_agent("owner"), *other = make_agent("other");
    struct lend_region *region = lend_page(owner, 0, "a"), *strange = lend_page(other, 1, "b");
    struct lend_region *none = NULL;
    struct lend_export_desc descs[] = {
        {.struct_size = 4},
        {.struct_size = sizeof descs[0], .flags = 2},
        {.struct_size = sizeof descs[0], .reserved = 1},
        {.struct_size = sizeof descs[0], .regions = &region, .region_count = 1},
        {.struct_size = sizeof descs[0], .flags = LEND_EXPORT_PARTIAL, .region_count = 1},
        {.struct_size = sizeof descs[0],
         .flags = LEND_EXPORT_PARTIAL,
         .regions = &strange,
         .region_count = 1},
        {.struct_size = sizeof descs[0],
         .flags = LEND_EXPORT_PARTIAL,
         .regions = &none,
         .region_count = 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof descs / sizeof descs[0]; i++)
        assert_int_equal(
            lend_metadata_export_with(owner, &descs[i], blob.bytes, ROOM, &blob.count, NULL),
            i == 0 ? LEND_E_VERSION : LEND_E_INVALID);
    lend_export_desc_init(&descs[0]);
    assert_int_equal(descs[0].struct_size, sizeof descs[0]);
    assert_int_equal(
        lend_metadata_export_with(owner, &descs[0], blob.bytes, ROOM, &blob.count, NULL), LEND_OK);
    assert_true(has_text(&blob, "owner"));
    assert_int_equal(lend_metadata_export_with(owner, &descs[0], NULL, 0, &blob.count, NULL),
                     LEND_E_INVALID); /* and says what it takes */
    assert_true(blob.count > 0);
    lend_export_desc_init(NULL);
    lend_agent_destroy(other);
    lend_agent_destroy(owner);
}

/* --- by hand --- */

static struct lend_metadata_region region(uint64_t id, const char *name, uint32_t life)
{
    return (struct lend_metadata_region){
        .id = id,
        .kind = LEND_MEMORY_SYSTEM,
        .access = LEND_ACCESS_READ,
        .address = 0x10000 * id,
        .length_bytes = 4096,
        .geometry = {4096, 4096, 1, 4096, 1},
        .life = life,
        .name = name,
        .tags = "",
    };
}

static enum lend_status merge(const struct lend_metadata_region *known, uint32_t known_count,
                              const struct lend_metadata_region *told, uint32_t told_count,
                              struct lend_metadata **out)
{
    static struct lend_metadata first, second;

    first = (struct lend_metadata){
        .name = "agent", .serial = 7, .regions = known, .region_count = known_count};
    second = (struct lend_metadata){.name = "agent",
                                    .serial = 5,
                                    .is_partial = true,
                                    .regions = told,
                                    .region_count = told_count};
    return lend_metadata_merge(&first, &second, out, NULL);
}

static void test_the_later_life_and_the_later_bearer_of_a_name_stay(void **state)
{
    const struct lend_metadata_region known[] = {region(1, "x", 0), region(2, "y", 3),
                                                 region(4, "", 0), region(9, "z", 1)};
    const struct lend_metadata_region told[] = {region(2, "y", 2), region(3, "z", 0),
                                                region(4, "", 6), region(5, "", 0),
                                                region(8, "x", 0)};
    struct lend_metadata *merged = NULL;

    (void)state;
    assert_int_equal(merge(known, 4, told, 5, &merged), LEND_OK);
    assert_int_equal(merged->serial, 7);
    assert_false(merged->is_partial);
    assert_int_equal(merged->region_count, 5);
    const uint64_t ids[] = {2, 4, 5, 8, 9};
    const uint32_t lives[] = {3, 6, 0, 0, 1};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(merged->regions[i].id, ids[i]);
        assert_int_equal(merged->regions[i].life, lives[i]);
    }
    lend_sys->release(merged);
    assert_int_equal(merge(known, 0, told, 0, &merged), LEND_OK);
    assert_int_equal(merged->region_count, 0);
    lend_sys->release(merged);
}

static void test_more_than_can_be_told_is_refused(void **state)
{
    enum { HALF = LEND_METADATA_REGIONS_MAX / 2 + 1 };
    struct lend_metadata_region *known = calloc(HALF, sizeof *known);
    struct lend_metadata_region *told = calloc(HALF, sizeof *told);
    struct lend_metadata *merged = NULL;

    (void)state;
    assert_true(known != NULL && told != NULL);
    for (uint32_t i = 0; i < HALF; i++) {
        known[i] = region(1 + i, "", 0);
        told[i] = region(1 + HALF + i, "", 0);
    }
    assert_int_equal(merge(known, HALF, told, HALF, &merged), LEND_E_LIMIT);
    assert_null(merged);
    free(known);
    free(told);
}

static void test_it_is_said_once_that_it_is_a_part(void **state)
{
    struct lend_metadata part = {.name = "part", .is_partial = true}, *again = NULL;
    uint8_t bytes[256];

    (void)state;
    size_t count = lend_metadata_encode(&part, bytes, sizeof bytes);
    assert_int_equal(lend_metadata_decode(bytes, count, &again, NULL), LEND_OK);
    assert_true(again->is_partial);
    lend_sys->release(again);
    part.is_partial = false;
    assert_int_equal(lend_metadata_encode(&part, NULL, 0), count - 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_part_tells_nothing_of_the_rest),
        cmocka_unit_test(test_a_withdrawn_region_is_not_told),
        cmocka_unit_test(test_what_is_told_adds_up_in_any_order),
        cmocka_unit_test(test_what_was_told_since_stays_when_older_is_told_of_all),
        cmocka_unit_test(test_what_makes_no_sense_is_not_exported),
        cmocka_unit_test(test_the_later_life_and_the_later_bearer_of_a_name_stay),
        cmocka_unit_test(test_more_than_can_be_told_is_refused),
        cmocka_unit_test(test_it_is_said_once_that_it_is_a_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
