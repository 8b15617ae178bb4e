/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: peers are known by what they said of themselves, whole or not at all, and for one life.
 * Method: metadata and tickets out and in again, cut and flipped at every byte, and forged with a
 * good checksum; owners that restart, die, stop, or are forgotten; a fork.
 */
#include "pair.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 16, ALL = LEND_ACCESS_READ | LEND_ACCESS_WRITE };

struct blob {
    uint8_t bytes[64 << 10];
    size_t count;
};

static struct blob metadata_of(struct pair *pair)
{
    struct blob blob = {.count = 0};

    EXPECT(owner_metadata(pair, blob.bytes, sizeof blob.bytes, &blob.count), LEND_OK, NULL);
    return blob;
}

/* Import from a heap copy of just that size, so that a read past it is seen. */
static enum lend_status import_copy(struct lend_agent *agent, const uint8_t *bytes, size_t count,
                                    struct lend_peer **out, struct lend_error *error)
{
    uint8_t *copy = malloc(count > 0 ? count : 1);
    enum lend_status status;

    assert_non_null(copy);
    memcpy(copy, bytes, count);
    status = lend_peer_import(agent, copy, count, out, error);
    free(copy);
    return status;
}

static void test_metadata_tells_what_is_lent_and_nothing_else(void **state)
{
    struct pair *pair = *state;
    struct lend_geometry geometry = {.block_length_bytes = 100,
                                     .stride_bytes = 100,
                                     .count = 7,
                                     .inner_stride_bytes = 800,
                                     .inner_count = 3};
    struct loan named = lend_memory_of(pair, geometry, LEND_ACCESS_READ, "layers.3.v");
    struct loan own = lend_memory_of(pair, geometry, 0, "private");
    struct loan last = lend_memory_of(pair, geometry, ALL, NULL);
    struct lend_peer_info info = {.struct_size = sizeof info};
    struct lend_region_info region = {.struct_size = sizeof region};
    struct lend_error error = {0};
    uint64_t id = 0;

    EXPECT(lend_peer_describe(pair->peer, &info, &error), LEND_OK, &error);
    assert_string_equal(info.name, "owner");
    assert_int_equal(info.region_count, 2);
    assert_string_equal(info.transport, pair_carrier(pair));
    EXPECT(lend_peer_region_at(pair->peer, 0, &region, &error), LEND_OK, &error);
    assert_int_equal(region.id, named.id);
    assert_int_equal(region.access, LEND_ACCESS_READ);
    assert_string_equal(region.name, "layers.3.v");
    assert_int_equal(region.memory.address, pair_address(pair, named.memory));
    assert_int_equal(region.memory.length_bytes, named.bytes);
    assert_int_equal(region.geometry.block_length_bytes, 100);
    assert_int_equal(region.geometry.stride_bytes, 100);
    assert_int_equal(region.geometry.count, 7);
    assert_int_equal(region.geometry.inner_stride_bytes, 800);
    assert_int_equal(region.geometry.inner_count, 3);
    EXPECT(lend_peer_region_at(pair->peer, 1, &region, &error), LEND_OK, &error);
    assert_int_equal(region.id, last.id);
    EXPECT(lend_peer_region_at(pair->peer, 2, &region, &error), LEND_E_OUT_OF_RANGE, &error);

    EXPECT(lend_peer_region(pair->peer, "layers.3.v", &id, &error), LEND_OK, &error);
    assert_int_equal(id, named.id);
    EXPECT(lend_peer_region(pair->peer, "private", &id, &error), LEND_E_ABSENT, &error);
    SAYS(&error, "private");
    (void)own;
}

static void test_export_says_how_much_room_it_takes(void **state)
{
    struct pair *pair = *state;
    struct lend_error error = {0};
    uint8_t bytes[4096];
    size_t needed = 0, count = 0;

    EXPECT(lend_metadata_export(pair->reader, NULL, 0, &needed, &error), LEND_E_INVALID, &error);
    assert_in_range(needed, 1, sizeof bytes);
    memset(bytes, 0x5C, sizeof bytes);
    EXPECT(lend_metadata_export(pair->reader, bytes, needed - 1, &count, &error), LEND_E_INVALID,
           &error);
    assert_int_equal(count, needed);
    assert_true(is_filled(bytes + needed - 1, sizeof bytes - needed + 1, 0x5C));
    EXPECT(lend_metadata_export(pair->reader, bytes, needed, &count, &error), LEND_OK, &error);
    assert_int_equal(count, needed);
    assert_true(is_filled(bytes + needed, sizeof bytes - needed, 0x5C));
}

static void test_same_incarnation_is_the_same_peer_and_news_win(void **state)
{
    struct pair *pair = *state;
    struct lend_geometry geometry = {.block_length_bytes = BLOCK, .count = BLOCKS};
    struct loan one = lend_memory_of(pair, geometry, ALL, "one");
    struct blob old = metadata_of(pair);
    struct loan two = lend_memory_of(pair, geometry, ALL, "two");
    struct lend_peer *again = NULL;
    struct lend_error error = {0};
    uint64_t id = 0;

    EXPECT(lend_peer_region(pair->peer, "two", &id, &error), LEND_OK, &error);
    /* An older blob that comes late is no news. */
    EXPECT(import_copy(pair->reader, old.bytes, old.count, &again, &error), LEND_OK, &error);
    assert_ptr_equal(again, pair->peer);
    EXPECT(lend_peer_region(pair->peer, "two", &id, &error), LEND_OK, &error);
    lend_peer_forget(again);

    EXPECT(owner_withdraw(pair, one.region, LEND_WITHDRAW_FORCE, SECONDS, &error), LEND_OK, &error);
    meet(pair);
    EXPECT(lend_peer_region(pair->peer, "one", &id, &error), LEND_E_ABSENT, &error);
    EXPECT(lend_peer_region(pair->peer, "two", &id, &error), LEND_OK, &error);
    assert_int_equal(id, two.id);
}

/* A region of the owner's with those tags. */
static void lend_tagged(struct pair *pair, const char *name, const char *tags)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    EXPECT(pair_describe(pair, pair_memory(pair, PAIR_OWNER, BLOCK), BLOCK, &desc.memory, &error),
           LEND_OK, &error);
    desc.access = LEND_ACCESS_READ;
    desc.flags = LEND_REGION_PREFER_CROSS_MEMORY;
    desc.name = name;
    desc.tags = tags;
    EXPECT(owner_register(pair, &desc, 1, &region, &error), LEND_OK, &error);
}

static enum lend_status import_wanting(struct pair *pair, const char *tags, struct lend_peer **out,
                                       struct lend_error *error)
{
    struct lend_import_desc desc = battery_import(pair->setup, true);
    struct blob blob = metadata_of(pair);

    desc.tags = tags;
    return lend_peer_import_with(pair->reader, blob.bytes, blob.count, &desc, out, error);
}

static void test_wanted_tags_that_are_there_let_the_peer_in(void **state)
{
    static const char *const wanted[] = {NULL, "", "  ", "model=a", "dtype=bf16 model=a", "empty="};
    struct pair *pair = *state;
    struct lend_region_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};

    lend_tagged(pair, "k", "model=a dtype=bf16 empty= draft");
    lend_tagged(pair, "v", "draft empty=  dtype=bf16 model=a");
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        struct lend_peer *peer = NULL;

        EXPECT(import_wanting(pair, wanted[i], &peer, &error), LEND_OK, &error);
        EXPECT(lend_peer_region_at(peer, 0, &info, &error), LEND_OK, &error);
        assert_int_equal(info.flags, LEND_REGION_PREFER_CROSS_MEMORY);
        lend_peer_forget(peer);
    }
}

static void test_tags_that_differ_keep_the_peer_out(void **state)
{
    static const struct {
        const char *wanted;
        const char *says;
    } cases[] = {
        {"model=b", "region v (2) of owner: model is a, and wanted is b"},
        {"layout=3", "region v (2) of owner: layout is not told, and wanted is 3"},
        {"dtype=bf16 dtype=fp8", "region k (1) of owner: dtype is bf16, and wanted is fp8"},
        {"mode=a", "region v (2) of owner: mode is not told, and wanted is a"},
        {"model=", "region k (1) of owner: model is b, and wanted is "},
        {"draft=", "region k (1) of owner: draft is not told, and wanted is "},
    };
    struct pair *pair = *state;
    struct lend_peer *untouched = (struct lend_peer *)(void *)pair, *peer = untouched;
    struct lend_error error = {0};

    lend_tagged(pair, "k", "model=b dtype=bf16 layout=3 mode=a");
    lend_tagged(pair, "v", "model=a dtype=bf16 draft");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        EXPECT(import_wanting(pair, cases[i].wanted, &peer, &error), LEND_E_MISMATCH, &error);
        SAYS(&error, cases[i].says);
        assert_ptr_equal(peer, untouched);
    }
    /* Nothing was kept: whoever wants nothing is the first. */
    EXPECT(import_wanting(pair, NULL, &peer, &error), LEND_OK, &error);
    lend_peer_forget(peer);
}

static void test_conditions_of_the_first_import_hold(void **state)
{
    struct pair *pair = *state;
    struct lend_peer *peer = NULL, *again = NULL;
    struct lend_peer_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};
    uint64_t id = 0;

    lend_tagged(pair, "k", "model=a");
    EXPECT(import_wanting(pair, "model=a", &peer, &error), LEND_OK, &error);
    lend_tagged(pair, "v", "model=b");
    struct blob worse = metadata_of(pair);
    EXPECT(lend_peer_refresh(peer, worse.bytes, worse.count, &error), LEND_E_MISMATCH, &error);
    SAYS(&error, "region v");
    EXPECT(import_wanting(pair, NULL, &again, &error), LEND_E_MISMATCH, &error);
    EXPECT(import_copy(pair->reader, worse.bytes, worse.count, &again, &error), LEND_E_MISMATCH,
           &error);
    EXPECT(lend_peer_region(peer, "v", &id, &error), LEND_E_ABSENT, &error);
    EXPECT(lend_peer_describe(peer, &info, &error), LEND_OK, &error);
    assert_int_equal(info.region_count, 1);
    lend_peer_forget(peer);

    /* A peer that was forgotten is met for the first time again. */
    EXPECT(import_wanting(pair, NULL, &peer, &error), LEND_OK, &error);
    EXPECT(import_wanting(pair, "model=a", &again, &error), LEND_E_MISMATCH, &error);
    lend_peer_forget(peer);
}

static void test_conditions_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"model", "=a", "model=a dtype", "model=\n", "a=1 =2"};
    struct pair *pair = *state;
    struct lend_import_desc desc;
    struct blob blob = metadata_of(pair);
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};
    char tags[LEND_REGION_TAGS_BYTES_MAX + 2];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        EXPECT(import_wanting(pair, bad[i], &peer, &error), LEND_E_INVALID, &error);
    memset(tags, 'x', sizeof tags);
    tags[1] = '=';
    tags[sizeof tags - 1] = '\0';
    EXPECT(import_wanting(pair, tags, &peer, &error), LEND_E_INVALID, &error);

    lend_import_desc_init(&desc);
    desc.flags = 0x80;
    EXPECT(lend_peer_import_with(pair->reader, blob.bytes, blob.count, &desc, &peer, &error),
           LEND_E_INVALID, &error);
    lend_import_desc_init(&desc);
    desc.struct_size--;
    EXPECT(lend_peer_import_with(pair->reader, blob.bytes, blob.count, &desc, &peer, &error),
           LEND_E_VERSION, &error);
    assert_null(peer);
}

static void few_bytes(struct lend_agent_config *config, bool is_owner)
{
    if (is_owner)
        config->bytes_per_peer_max = 4 * BLOCK;
}

static void test_quota_of_bytes_is_named(void **state)
{
    struct pair *pair = pair_make(battery_current, few_bytes);
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    int32_t blocks[] = {0, 1, 2, 3, 4};
    struct move move = {.direction = LEND_READ,
                        .local = &local,
                        .remote = &loan,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 5};

    (void)state;
    /* The quota is of what the owner serves; readers that copy by themselves ask for no bytes. */
    enum lend_status wanted = pair_is_served(pair) ? LEND_E_LIMIT : LEND_OK;
    EXPECT(move_all(pair, &move), wanted, &move.error);
    if (wanted == LEND_E_LIMIT) {
        SAYS(&move.error, "reader asks for 20480 bytes");
        SAYS(&move.error, "bytes_per_peer_max is 16384");
    }
    /* It is of what is asked for at one time, not of all that ever was. */
    for (int round = 0; round < 3; round++)
        assert_int_equal(read_blocks(pair, &local, &loan, 4), LEND_OK);
    assert_int_equal(read_blocks(pair, &local, &loan, 5), wanted);
    drop(&loan);
    pair_free(pair);
}

static void few_peers(struct lend_agent_config *config, bool is_owner)
{
    if (!is_owner)
        config->peers_max = 1;
}

static void test_damaged_metadata_is_refused_whole(void **state)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xFF};
    struct pair *pair = pair_make(battery_current, few_peers);
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;

    (void)state;
    EXPECT(pair_describe(pair, pair_memory(pair, PAIR_OWNER, 4 * BLOCK), 4 * BLOCK, &desc.memory,
                         &error),
           LEND_OK, &error);
    desc.name = "layers.0.k";
    desc.tags = "bf16";
    desc.access = ALL;
    EXPECT(owner_register(pair, &desc, 1, &region, &error), LEND_OK, &error);

    struct blob good = metadata_of(pair);
    for (size_t cut = 0; cut < good.count; cut++)
        EXPECT(import_copy(pair->reader, good.bytes, cut, &peer, &error), LEND_E_CORRUPT, &error);
    for (size_t index = 0; index < good.count; index++)
        for (size_t flip = 0; flip < sizeof flips; flip++) {
            struct blob bad = good;
            enum lend_status status;

            bad.bytes[index] ^= flips[flip];
            memset(&error, 0, sizeof error);
            status = import_copy(pair->reader, bad.bytes, bad.count, &peer, &error);
            assert_true(status == LEND_E_CORRUPT || status == LEND_E_VERSION);
            EXPECT(status, status, &error);
        }
    good.bytes[good.count] = 0;
    EXPECT(import_copy(pair->reader, good.bytes, good.count + 1, &peer, &error), LEND_E_CORRUPT,
           &error);
    assert_null(peer);

    /* One peer may be known, and none is yet. */
    EXPECT(import_copy(pair->reader, good.bytes, good.count, &peer, &error), LEND_OK, &error);
    lend_peer_forget(peer);
    pair_free(pair);
}

static void test_limit_of_peers_is_named(void **state)
{
    struct pair *pair = pair_make(battery_current, few_peers);
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};
    struct blob first = metadata_of(pair), second;

    (void)state;
    EXPECT(import_copy(pair->reader, first.bytes, first.count, &peer, &error), LEND_OK, &error);
    owner_restart(pair);
    second = metadata_of(pair);

    struct lend_peer *other = NULL;
    EXPECT(import_copy(pair->reader, second.bytes, second.count, &other, &error), LEND_E_LIMIT,
           &error);
    SAYS(&error, "1");
    lend_peer_forget(peer);
    pair_pump(pair);
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    while (import_copy(pair->reader, second.bytes, second.count, &other, &error) != LEND_OK &&
           pair_now_ns() < deadline)
        pair_pump(pair); /* a connection that closes still counts */
    assert_non_null(other);
    lend_peer_forget(other);
    pair_free(pair);
}

static enum lend_status import_ticket(struct pair *pair, const uint8_t *bytes, size_t count,
                                      struct lend_ticket **out, struct lend_error *error)
{
    uint8_t *copy = malloc(count > 0 ? count : 1);
    enum lend_status status;

    assert_non_null(copy);
    memcpy(copy, bytes, count);
    status = lend_ticket_import(pair->peer, copy, count, out, error);
    free(copy);
    return status;
}

static void test_damaged_ticket_is_refused(void **state)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xFF};
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct lend_ticket *ticket = NULL;
    struct lend_error error = {0};
    uint8_t good[LEND_TICKET_BYTES_MAX + 1] = {0}, bad[LEND_TICKET_BYTES_MAX + 1];
    size_t count = 0;

    EXPECT(owner_export(pair, loan.lease, good, &count), LEND_OK, NULL);
    assert_in_range(count, 1, LEND_TICKET_BYTES_MAX);
    for (size_t cut = 0; cut < count; cut++)
        EXPECT(import_ticket(pair, good, cut, &ticket, &error), LEND_E_CORRUPT, &error);
    EXPECT(import_ticket(pair, good, count + 1, &ticket, &error), LEND_E_CORRUPT, &error);
    for (size_t index = 0; index < count; index++)
        for (size_t flip = 0; flip < sizeof flips; flip++) {
            enum lend_status status;

            memcpy(bad, good, sizeof bad);
            bad[index] ^= flips[flip];
            status = import_ticket(pair, bad, count, &ticket, &error);
            assert_true(status == LEND_E_CORRUPT || status == LEND_E_VERSION);
        }
    assert_null(ticket);
    EXPECT(import_ticket(pair, good, count, &ticket, &error), LEND_OK, &error);
    lend_ticket_release(ticket);
    drop(&loan);
}

/* The checksum of tickets (CRC-32C), as an attacker computes it. */
static uint32_t crc32c(const uint8_t *bytes, size_t count)
{
    uint32_t crc = UINT32_MAX;

    for (size_t index = 0; index < count; index++) {
        crc ^= bytes[index];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? UINT32_C(0x82F63B78) : 0);
    }
    return ~crc;
}

static void seal(uint8_t *bytes, size_t count)
{
    uint32_t crc = crc32c(bytes, count - 4);

    for (size_t index = 0; index < 4; index++)
        bytes[count - 4 + index] = (uint8_t)(crc >> (8 * index));
}

static void test_forged_ticket_opens_nothing(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    uint8_t good[LEND_TICKET_BYTES_MAX], forged[LEND_TICKET_BYTES_MAX];
    struct lend_error error = {0};
    uint32_t unknown = 0, accepted = 0;
    size_t count = 0;

    drop(&loan);
    EXPECT(owner_export(pair, loan.lease, good, &count), LEND_OK, NULL);
    memcpy(forged, good, count);
    seal(forged, count);
    assert_memory_equal(forged, good, count); /* or this test forges badly */

    for (size_t index = 0; index < count - 4; index++) {
        enum lend_status status;

        memcpy(forged, good, count);
        forged[index] ^= 0x41;
        seal(forged, count);
        status = import_ticket(pair, forged, count, &loan.ticket, &error);
        if (status != LEND_OK) {
            assert_true(status == LEND_E_CORRUPT || status == LEND_E_VERSION ||
                        status == LEND_E_UNKNOWN);
            continue;
        }
        accepted++;
        memory_set(local.memory, 0, local.bytes);
        status = read_blocks(pair, &local, &loan, 2);
        if (status != LEND_OK)
            assert_true(is_filled(local.memory, local.bytes, 0));
        unknown += status == LEND_E_UNKNOWN;
        assert_true(status == LEND_OK || status == LEND_E_UNKNOWN || status == LEND_E_STALE ||
                    status == LEND_E_ACCESS || status == LEND_E_EXPIRED);
        drop(&loan);
    }
    /* At the least every byte of the key must have been refused by the owner. */
    assert_true(accepted > 16);
    assert_true(unknown >= 16);
}

static void test_ticket_of_another_agent_is_unknown(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct lend_peer *other = NULL;
    struct lend_ticket *ticket = NULL;
    struct lend_error error = {0};
    static uint8_t bytes[64 << 10];
    size_t count = 0;

    EXPECT(lend_metadata_export(pair->reader, bytes, sizeof bytes, &count, &error), LEND_OK,
           &error);
    EXPECT(lend_peer_import(pair->reader, bytes, count, &other, &error), LEND_OK, &error);
    EXPECT(owner_export(pair, loan.lease, bytes, &count), LEND_OK, NULL);
    EXPECT(lend_ticket_import(other, bytes, count, &ticket, &error), LEND_E_UNKNOWN, &error);
    SAYS(&error, "owner");
    SAYS(&error, "reader");
    assert_null(ticket);
    lend_peer_forget(other);
    drop(&loan);
}

static void test_restarted_owner_is_another_peer(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_peer *old = pair->peer;
    struct lend_ticket *ticket = NULL;
    struct lend_error error = {0};
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    uint32_t references = pair->peer_references;
    size_t count = 0;

    assert_int_equal(read_blocks(pair, &local, &loan, 4), LEND_OK);
    EXPECT(owner_export(pair, loan.lease, bytes, &count), LEND_OK, NULL);
    owner_restart(pair);
    enum lend_status status = read_blocks(pair, &local, &loan, 4);
    /* An owner that ends well revokes first; who looks at the lease by itself may see that first.
     */
    assert_true(status == LEND_E_PEER_DEAD || (status == LEND_E_REVOKED && !pair_is_served(pair)));

    pair->peer_references = 0;
    pair->peer = NULL;
    struct loan fresh = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    assert_ptr_not_equal(pair->peer, old);
    EXPECT(lend_ticket_import(pair->peer, bytes, count, &ticket, &error), LEND_E_UNKNOWN, &error);
    assert_int_equal(read_blocks(pair, &local, &fresh, 4), LEND_OK);

    /* The old life's ticket does not travel over the new one's connection. */
    struct loan crossed = fresh;
    crossed.ticket = loan.ticket;
    assert_int_equal(read_blocks(pair, &local, &crossed, 4), LEND_E_INVALID);
    drop(&loan);
    drop(&fresh);
    for (; references > 0; references--)
        lend_peer_forget(old);
}

static void test_owner_that_restarts_before_it_is_met_is_dead(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct lend_error error = {0};

    owner_restart(pair);
    /* Where the connection is only begun by the post, its record tells. */
    assert_int_equal(read_blocks(pair, &local, &loan, 4), LEND_E_PEER_DEAD);
    owner_destroy(pair);
    EXPECT(lend_peer_connect(pair->peer, SECONDS, &error), LEND_E_PEER_DEAD, &error);
    drop(&loan);
}

static void test_connect_ahead_of_use(void **state)
{
    struct pair *pair = *state;
    struct lend_peer_info info = {.struct_size = sizeof info};
    struct lend_error error = {0};

    meet(pair);
    EXPECT(lend_peer_describe(pair->peer, &info, &error), LEND_OK, &error);
    assert_int_equal(info.status, LEND_PENDING);
    EXPECT(pair_connect(pair, &error), LEND_OK, &error);
    EXPECT(lend_peer_describe(pair->peer, &info, &error), LEND_OK, &error);
    assert_int_equal(info.status, LEND_OK);
    EXPECT(lend_peer_connect(pair->peer, 0, &error), LEND_OK, &error);
}

static void test_stopped_owner_does_not_hold_up_a_connect(void **state)
{
    struct pair *pair = *state;
    struct lend_error error = {0};
    uint64_t before;

    meet(pair);
    if (pair_is_apart(pair)) {
        pair_stop_owner(pair);
        before = pair_now_ns();
        EXPECT(lend_peer_connect(pair->peer, SECONDS / 10, &error), LEND_E_TIMEOUT, &error);
        assert_in_range(pair_now_ns() - before, SECONDS / 10, 3 * SECONDS);
        pair_continue_owner(pair);
    }
}

static void test_forgotten_peer_ends_its_transfers(void **state)
{
    static const int32_t blocks[] = {0, 1};
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = {.direction = LEND_READ,
                        .local = &local,
                        .remote = &loan,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 2};
    struct lend_transfer *transfer = NULL;
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    enum lend_status status;

    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    for (; pair->peer_references > 0; pair->peer_references--)
        lend_peer_forget(pair->peer);
    while ((status = lend_transfer_test(transfer)) == LEND_PENDING && pair_now_ns() < deadline)
        pair_pump(pair);
    assert_true(status == LEND_OK || status == LEND_E_CANCELED || status == LEND_E_PEER_DEAD);
    memory_set(local.memory, 0x33, local.bytes);

    status = move_post(&move, transfer);
    assert_true(status == LEND_E_PEER_DEAD);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    drop(&loan);

    /* It may be met again. */
    pair->peer = NULL;
    struct loan again = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan other = keep_blocks(pair, BLOCK, BLOCKS);
    assert_int_equal(read_blocks(pair, &other, &again, 4), LEND_OK);
    EXPECT_SAME(other.memory, again.memory, 4 * BLOCK);
    assert_true(is_filled(local.memory, local.bytes, 0x33));
    drop(&again);
}

static void test_handles_that_were_given_back_are_refused(void **state)
{
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct lend_peer_info info = {.struct_size = sizeof info};
    struct lend_ticket *ticket = loan.ticket;
    struct lend_peer *peer = pair->peer;
    struct lend_error error = {0};
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    size_t count = 0;

    EXPECT(owner_export(pair, loan.lease, bytes, &count), LEND_OK, NULL);
    drop(&loan);
    EXPECT(lend_ticket_done(ticket, &error), LEND_E_INVALID, &error);
    lend_ticket_release(ticket);
    for (; pair->peer_references > 0; pair->peer_references--)
        lend_peer_forget(peer);
    EXPECT(lend_peer_describe(peer, &info, &error), LEND_E_INVALID, &error);
    EXPECT(lend_peer_connect(peer, 0, &error), LEND_E_INVALID, &error);
    EXPECT(lend_notification_send(peer, "x", 1, &error), LEND_E_INVALID, &error);
    EXPECT(lend_ticket_import(peer, bytes, count, &ticket, &error), LEND_E_INVALID, &error);
    lend_peer_forget(peer);
    pair->peer = NULL;
}

static void test_peer_without_a_common_transport_has_no_path(void **state)
{
    struct pair *pair = *state;
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *stranger = NULL;
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};
    struct blob metadata = metadata_of(pair);

    config.name = "stranger";
    config.transports = strcmp(pair_carrier(pair), "local") == 0 ? "loopback" : "local";
    config.local_directory = pair->directory;
    EXPECT(lend_agent_create(&config, &stranger, &error), LEND_OK, &error);
    EXPECT(import_copy(stranger, metadata.bytes, metadata.count, &peer, &error), LEND_E_NO_PATH,
           &error);
    SAYS(&error, config.transports);
    SAYS(&error, pair_carrier(pair));
    assert_null(peer);
    lend_agent_destroy(stranger);
}

/* What the child of a fork sees; the exit status counts what is wrong. */
static int look_as_child(struct pair *pair, struct loan *local, struct lend_transfer *transfer,
                         struct lend_ticket *ticket)
{
    struct lend_error error = {0};
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct lend_peer *peer = NULL;
    struct lend_lease_info info = {.struct_size = sizeof info};
    uint8_t bytes[256];
    size_t count = 0;
    uint32_t listed = 0;
    int wrong = 0;

    wrong += lend_agent_progress(pair->reader, 0, &error) != LEND_E_FORKED;
    wrong += error.message[0] == '\0';
    wrong += lend_agent_arm(pair->reader, &error) != LEND_E_FORKED;
    wrong += lend_agent_fd(pair->reader) != -1;
    wrong += pair_describe(pair, local->memory, local->bytes, &desc.memory, &error) != LEND_OK;
    wrong += lend_region_register(pair->reader, &desc, 1, &region, NULL, &error) != LEND_E_FORKED;
    wrong += lend_region_withdraw(local->region, LEND_WITHDRAW_FORCE, 0, &error) != LEND_E_FORKED;
    wrong += lend_region_deregister(local->region, &error) != LEND_E_FORKED;
    wrong +=
        lend_metadata_export(pair->reader, bytes, sizeof bytes, &count, &error) != LEND_E_FORKED;
    wrong += lend_peer_import(pair->reader, bytes, 8, &peer, &error) != LEND_E_FORKED;
    wrong += lend_peer_connect(pair->peer, 0, &error) != LEND_E_FORKED;
    wrong += lend_lease_list(pair->reader, &info, 1, &listed, &error) != LEND_E_FORKED;
    wrong += lend_ticket_done(ticket, &error) != LEND_E_FORKED;
    wrong += lend_notification_send(pair->peer, "x", 1, &error) != LEND_E_FORKED;
    wrong += lend_notification_receive(pair->reader, bytes, sizeof bytes, &count, NULL, 0,
                                       &error) != LEND_E_FORKED;
    wrong += lend_transfer_test(transfer) != LEND_E_FORKED;
    wrong += lend_transfer_wait(transfer, 0) != LEND_E_FORKED;
    wrong += lend_transfer_cancel(transfer, 0) != LEND_E_FORKED;
    /* The memory is as usable as before. A GPU's is not: its driver survives no fork. */
    if (!pair_is_device(pair))
        memory_set(local->memory, 0x42, 1);
    lend_agent_destroy(pair->reader);
    if (!pair_is_apart(pair))
        lend_agent_destroy(pair->owner);
    return wrong;
}

static void test_fork_leaves_the_parent_as_it_was(void **state)
{
    static const int32_t blocks[] = {0, 1};
    struct pair *pair = *state;
    struct loan loan = lend_blocks(pair, BLOCK, BLOCKS, ALL);
    struct loan local = keep_blocks(pair, BLOCK, BLOCKS);
    struct move move = {.direction = LEND_READ,
                        .local = &local,
                        .remote = &loan,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = 2};
    struct lend_transfer *transfer = NULL;
    int exit_status = 0;

    EXPECT(move_prepare(pair, &move, &transfer), LEND_OK, &move.error);
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
    (void)fflush(NULL);

    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(look_as_child(pair, &local, transfer, loan.ticket));
    assert_int_equal(waitpid(child, &exit_status, 0), child);
    assert_true(WIFEXITED(exit_status));
    assert_int_equal(WEXITSTATUS(exit_status), 0);

    memory_set(local.memory, 0, local.bytes);
    EXPECT(move_post(&move, transfer), LEND_OK, &move.error);
    EXPECT(move_finish(pair, &move, transfer), LEND_OK, &move.error);
    EXPECT_SAME(local.memory, loan.memory, 2 * BLOCK);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    /* And it can still be met by others. */
    struct pair second = pair_join(pair, "second");
    struct loan theirs = loan, kept = keep_blocks(&second, BLOCK, BLOCKS);

    theirs.ticket = fetch_ticket(&second, loan.lease);
    assert_int_equal(read_blocks(&second, &kept, &theirs, 2), LEND_OK);
    drop(&theirs);
    pair_leave(&second);
    drop(&loan);
}

const struct CMUnitTest *battery_peers(size_t *out_count)
{
    static const struct CMUnitTest tests[] = {
        PAIRED(test_metadata_tells_what_is_lent_and_nothing_else),
        PAIRED(test_export_says_how_much_room_it_takes),
        PAIRED(test_same_incarnation_is_the_same_peer_and_news_win),
        PAIRED(test_wanted_tags_that_are_there_let_the_peer_in),
        PAIRED(test_tags_that_differ_keep_the_peer_out),
        PAIRED(test_conditions_of_the_first_import_hold),
        PAIRED(test_conditions_that_are_none_are_refused),
        cmocka_unit_test(test_quota_of_bytes_is_named),
        cmocka_unit_test(test_damaged_metadata_is_refused_whole),
        cmocka_unit_test(test_limit_of_peers_is_named),
        PAIRED(test_damaged_ticket_is_refused),
        PAIRED(test_forged_ticket_opens_nothing),
        PAIRED(test_ticket_of_another_agent_is_unknown),
        PAIRED(test_restarted_owner_is_another_peer),
        PAIRED(test_owner_that_restarts_before_it_is_met_is_dead),
        PAIRED(test_connect_ahead_of_use),
        PAIRED(test_stopped_owner_does_not_hold_up_a_connect),
        PAIRED(test_forgotten_peer_ends_its_transfers),
        PAIRED(test_handles_that_were_given_back_are_refused),
        PAIRED(test_peer_without_a_common_transport_has_no_path),
        PAIRED(test_fork_leaves_the_parent_as_it_was),
    };

    *out_count = sizeof tests / sizeof tests[0];
    return tests;
}
