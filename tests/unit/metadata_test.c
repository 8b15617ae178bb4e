/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: metadata says what it was made from, in few bytes, and bytes that an honest peer does not
 * send are refused whole, with their reason, at no more cost than they are worth. Method: metadata
 * is encoded from structs that say too much (the encoder checks nothing), or written by hand,
 * sealed with a right checksum, and decoded from copies of exactly their size. A double of the
 * system counts allocations, refuses them, or changes the bytes behind the decoder's back.
 */

#include "base/sys.h"
#include "base/writer.h"
#include "wire_samples.h"

#include <lend/peer.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { ROOM = 1 << 16, AGENT_AT = 6, VERSION_AT = 4 };

static void assert_reason(const struct lend_error *error, const char *reason)
{
    if (strstr(error->message, reason) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", reason, error->message);
}

/* The last four bytes are replaced by the checksum of the others. */
static enum lend_status decode_sealed(const uint8_t *bytes, size_t count,
                                      struct lend_metadata **out, struct lend_error *error)
{
    uint8_t *copy = copy_sealed(bytes, count);
    enum lend_status status = lend_metadata_decode(copy, count, out, error);

    free(copy);
    return status;
}

static void assert_bytes_refused(const uint8_t *bytes, size_t count, enum lend_status expected,
                                 const char *reason)
{
    struct lend_metadata *out = NULL;
    struct lend_error error;

    assert_int_equal(decode_sealed(bytes, count, &out, &error), expected);
    assert_null(out);
    assert_reason(&error, reason);
}

static void assert_refused(const struct lend_metadata *metadata, const char *reason)
{
    static uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(metadata, bytes, sizeof bytes);

    assert_in_range(count, 1, sizeof bytes);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, reason);
}

/* Returns how many bytes it took. */
static size_t assert_comes_back(const struct lend_metadata *metadata)
{
    size_t count = lend_metadata_encode(metadata, NULL, 0);
    uint8_t *bytes = malloc(count);
    struct lend_metadata *again = NULL;

    assert_non_null(bytes);
    assert_int_equal(lend_metadata_encode(metadata, bytes, count), count);
    assert_int_equal(lend_metadata_decode(bytes, count, &again, NULL), LEND_OK);
    assert_true(metadata_is_equal(metadata, again));
    lend_sys->release(again);
    free(bytes);
    return count;
}

/* ---- What it says ---- */

static void test_122_regions_take_less_than_2560_bytes(void **state)
{
    (void)state;
    struct lend_metadata *metadata = sample_layers(61);

    assert_int_equal(metadata->region_count, 122);
    assert_in_range(assert_comes_back(metadata), 122, 2560);
    free(metadata);
}

static void test_metadata_without_regions_or_transports_comes_back(void **state)
{
    (void)state;
    struct lend_metadata metadata = {.name = "a", .serial = UINT64_MAX};

    assert_comes_back(&metadata);
    metadata.is_partial = true;
    assert_comes_back(&metadata);
}

static const struct lend_geometry whole = {4096, 4096, 1, 4096, 1};

static struct lend_metadata_region region(uint64_t id, const char *name)
{
    return (struct lend_metadata_region){
        .id = id,
        .kind = LEND_MEMORY_SYSTEM,
        .access = LEND_ACCESS_READ,
        .address = 0x10000 * id,
        .length_bytes = 4096,
        .geometry = whole,
        .name = name,
        .tags = "",
    };
}

static void test_regions_with_nothing_in_common_come_back(void **state)
{
    (void)state;
    struct lend_metadata_region regions[] = {
        region(1, "a"),   region(2, ""),     region(3, ""),   region(4, "ab"),
        region(5, "abc"), region(90, "ab "), region(91, "b"), region(UINT64_MAX - 1, "c"),
    };
    struct lend_metadata metadata = {
        .name = "mixed", .region_count = 8, .regions = regions, .serial = 3};
    char tags[LEND_REGION_TAGS_BYTES_MAX + 1] = {0}, name[LEND_REGION_NAME_BYTES_MAX + 1] = {0};

    memset(tags, 't', sizeof tags - 1);
    memset(name, 'n', sizeof name - 1);
    regions[1].geometry = (struct lend_geometry){512, 1024, 4, 4096, 2};
    regions[1].length_bytes = LEND_MEMORY_BYTES_MAX;
    regions[2].kind = LEND_MEMORY_DEVICE;
    regions[2].device = 7;
    regions[3].kind = LEND_MEMORY_DISK;
    regions[3].device = INT32_MAX;
    regions[3].address = 0;
    regions[4].access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    regions[4].address = UINT64_MAX - 4096;
    regions[5].tags = tags;
    regions[6].tags = "\xc3\xa9"; /* UTF-8 */
    regions[7].name = name;
    regions[0].flags = LEND_REGION_PREFER_CROSS_MEMORY;
    regions[1].life = UINT32_MAX;
    regions[2].file = UINT32_MAX;
    regions[2].file_offset_bytes = LEND_MEMORY_BYTES_MAX;
    regions[6].file = 1;
    assert_comes_back(&metadata);
}

static void test_every_field_starts_another_row(void **state)
{
    (void)state;

    for (int field = 0; field < 11; field++) {
        struct lend_metadata_region regions[] = {region(1, "a"), region(2, "b")};
        struct lend_metadata metadata = {.name = "rows", .region_count = 2, .regions = regions};

        regions[0].kind = regions[1].kind = LEND_MEMORY_DEVICE;
        regions[0].length_bytes = regions[1].length_bytes = 65536;
        regions[0].geometry = regions[1].geometry = (struct lend_geometry){16, 64, 4, 1024, 2};
        uint64_t *const fields[] = {&regions[1].id,
                                    &regions[1].length_bytes,
                                    &regions[1].geometry.block_length_bytes,
                                    &regions[1].geometry.stride_bytes,
                                    &regions[1].geometry.count,
                                    &regions[1].geometry.inner_stride_bytes,
                                    &regions[1].geometry.inner_count};
        size_t alike = assert_comes_back(&metadata);

        switch (field) {
        case 7: regions[1].device = 1; break;
        case 8: regions[1].flags = LEND_REGION_PREFER_CROSS_MEMORY; break;
        case 9: regions[1].life = 1; break;
        case 10: regions[1].file = 1; break;
        default: *fields[field] += 1; break;
        }
        assert_true(assert_comes_back(&metadata) > alike + 10);
    }
}

static void test_missing_geometry_is_completed(void **state)
{
    (void)state;
    struct lend_metadata_region regions[] = {region(1, "a")};
    struct lend_metadata metadata = {.name = "zero", .region_count = 1, .regions = regions};
    uint8_t bytes[ROOM];
    struct lend_metadata *again = NULL;

    regions[0].geometry = (struct lend_geometry){0};
    size_t count = lend_metadata_encode(&metadata, bytes, sizeof bytes);
    assert_int_equal(lend_metadata_decode(bytes, count, &again, NULL), LEND_OK);
    assert_memory_equal(&again->regions[0].geometry, &whole, sizeof whole);
    lend_sys->release(again);
}

static void test_transports_come_back_as_they_were(void **state)
{
    (void)state;
    struct lend_metadata *metadata = sample_layers(0);

    metadata->transport_count = LEND_METADATA_TRANSPORTS_MAX;
    for (uint32_t i = 0; i < LEND_METADATA_TRANSPORTS_MAX; i++) {
        struct lend_metadata_transport *transport = &metadata->transports[i];

        (void)snprintf(transport->name, sizeof transport->name, "transport_%05u", i);
        transport->address_bytes = i * LEND_METADATA_ADDRESS_MAX / 15;
        memset(transport->address, (int)i, transport->address_bytes);
    }
    assert_comes_back(metadata);
    free(metadata);
}

/* ---- Damage ---- */

static void test_every_cut_and_every_flipped_bit_is_seen(void **state)
{
    (void)state;
    struct lend_metadata *metadata = sample_layers(2), *out = NULL;
    static uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(metadata, bytes, sizeof bytes);

    for (size_t length = 0; length < count; length++) {
        uint8_t *copy = copy_bytes(bytes, length);

        assert_int_equal(lend_metadata_decode(copy, length, &out, NULL), LEND_E_CORRUPT);
        free(copy);
    }
    for (size_t bit = 0; bit < 8 * count; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(lend_metadata_decode(bytes, count, &out, NULL), LEND_E_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_null(out);
    free(metadata);
}

/* Cut and sealed again, so that only the structure can tell. */
static void test_every_sealed_cut_is_seen(void **state)
{
    (void)state;
    struct lend_metadata *metadata = sample_layers(2), *out = NULL;
    static uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(metadata, bytes, sizeof bytes);

    for (size_t length = 4; length < count; length++)
        assert_int_equal(decode_sealed(bytes, length, &out, NULL), LEND_E_CORRUPT);
    assert_null(out);
    free(metadata);
}

static void test_encoding_measures_what_does_not_fit(void **state)
{
    (void)state;
    struct lend_metadata *metadata = sample_layers(2);
    size_t count = lend_metadata_encode(metadata, NULL, 0);

    for (size_t capacity = 0; capacity < count; capacity++) {
        uint8_t *small = malloc(capacity);

        assert_int_equal(lend_metadata_encode(metadata, small, capacity), count);
        free(small);
    }
    free(metadata);
}

static void test_longer_than_any_metadata_is_refused_unread(void **state)
{
    (void)state;
    struct lend_metadata *out = NULL;
    struct lend_error error;

    /* Not one byte is there to be read. */
    assert_int_equal(lend_metadata_decode(NULL, LEND_METADATA_BYTES_MAX + 1, &out, &error),
                     LEND_E_CORRUPT);
    assert_reason(&error, "16777217 bytes, over the limit of 16777216");
    assert_null(out);
}

static void test_another_version_is_named_beside_ours(void **state)
{
    (void)state;
    struct lend_metadata metadata = {.name = "later"};
    uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(&metadata, bytes, sizeof bytes);

    bytes[VERSION_AT] = 9;
    assert_bytes_refused(bytes, count, LEND_E_VERSION,
                         "metadata of version 9, and this library reads version 1");
}

/* ---- Sections ---- */

/* Put a section before the others; returns the new count. */
static size_t insert_section(uint8_t *bytes, size_t count, uint8_t type, uint32_t length)
{
    memmove(bytes + AGENT_AT + 5 + length, bytes + AGENT_AT, count - AGENT_AT);

    struct lend_writer writer = lend_writer_init(bytes + AGENT_AT, 5 + length);
    lend_write_u8(&writer, type);
    lend_write_u32(&writer, length);
    memset(bytes + AGENT_AT + 5, 'x', length);
    return count + 5 + length;
}

static void test_later_section_is_skipped_unless_it_is_required(void **state)
{
    (void)state;
    struct lend_metadata *metadata = sample_layers(2);
    static const uint8_t types[] = {0x00, 0x01, 0x03, 0x7f};
    static uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(metadata, bytes, sizeof bytes);

    for (size_t i = 0; i < sizeof types; i++) {
        struct lend_metadata *again = NULL;

        count = insert_section(bytes, count, types[i], (uint32_t)(100 * i));
        assert_int_equal(decode_sealed(bytes, count, &again, NULL), LEND_OK);
        assert_true(metadata_is_equal(metadata, again));
        lend_sys->release(again);
    }
    count = insert_section(bytes, count, 0x85, 3);
    assert_bytes_refused(bytes, count, LEND_E_VERSION,
                         "version 1 needs section 0x85 to be understood, and this library's "
                         "version 1 knows none above 0x84");
    bytes[AGENT_AT] = 0x80;
    assert_bytes_refused(bytes, count, LEND_E_VERSION, "section 0x80");
    bytes[AGENT_AT] = 0xff;
    assert_bytes_refused(bytes, count, LEND_E_VERSION, "section 0xff");
    free(metadata);
}

static void test_each_section_stands_there_once(void **state)
{
    (void)state;
    struct lend_metadata metadata = {.name = "once"};
    uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(&metadata, bytes, sizeof bytes);

    for (uint8_t type = 0x81; type <= 0x83; type++) {
        uint8_t twice[ROOM];
        char reason[64];

        memcpy(twice, bytes, count);
        size_t twice_count = insert_section(twice, count, type, 0);
        (void)snprintf(reason, sizeof reason, "section 0x%02x of metadata comes twice", type);
        assert_bytes_refused(twice, twice_count, LEND_E_CORRUPT, reason);
    }
    metadata.is_partial = true;
    count = lend_metadata_encode(&metadata, bytes, sizeof bytes);
    count = insert_section(bytes, count, 0x84, 0);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "section 0x84 of metadata comes twice");
    metadata.is_partial = false;
    count = lend_metadata_encode(&metadata, bytes, sizeof bytes);
    count = insert_section(bytes, count, 0x84, 1);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "comes twice, or long");
    count = lend_metadata_encode(&metadata, bytes, sizeof bytes);
    bytes[AGENT_AT] = 0x01; /* now it is one that may be skipped */
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "metadata without section 0x81");
    assert_bytes_refused(bytes, AGENT_AT + 4, LEND_E_CORRUPT, "metadata without section 0x81");
}

static void test_section_longer_than_the_metadata_is_refused(void **state)
{
    (void)state;
    struct lend_metadata metadata = {.name = "long"};
    uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(&metadata, bytes, sizeof bytes);

    memset(bytes + AGENT_AT + 1, 0xff, 4);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "section 0x81 of metadata is cut");
}

static void test_agent_section_is_exact(void **state)
{
    (void)state;
    struct lend_metadata metadata = {.name = "agent", .incarnation = {'x'}};
    uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(&metadata, bytes, sizeof bytes);

    assert_int_equal(bytes[AGENT_AT + 5], 5); /* how long the name is */
    bytes[AGENT_AT + 5] = 4;
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "the agent's section");
    bytes[AGENT_AT + 5] = 6;
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "the agent's section");
    bytes[AGENT_AT + 5] = 0;
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "the agent's name is empty");
}

static void test_transports_are_in_range(void **state)
{
    (void)state;
    struct lend_metadata *metadata = sample_layers(0);
    static uint8_t bytes[ROOM];

    memcpy(metadata->transports[1].name, "Local", 6);
    assert_refused(metadata, "a transport named \"Local\"");
    memcpy(metadata->transports[1].name, "a b", 4);
    assert_refused(metadata, "a transport named \"a b\"");
    metadata->transports[1].name[0] = '\0';
    assert_refused(metadata, "the transport's name is empty");
    free(metadata);

    /* One transport whose address is longer than there may be, or than there is. */
    struct lend_metadata one = {.name = "a", .transport_count = 1};
    memcpy(one.transports[0].name, "tcp", 4);
    size_t count = lend_metadata_encode(&one, bytes, sizeof bytes);
    uint8_t *address = bytes + AGENT_AT + 5 + 2 + 16 + 8 + 5 + 4;
    address[0] = 1;
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "the address of transport tcp is cut");
    address[1] = 2;
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "tcp of 513 bytes, over the limit of 512");
}

static void test_transports_have_a_limit(void **state)
{
    (void)state;
    enum { TOO_MANY = LEND_METADATA_TRANSPORTS_MAX + 1, EACH = 4 };
    struct lend_metadata metadata = {.name = "many"};
    uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(&metadata, bytes, sizeof bytes);

    bytes[AGENT_AT + 5 + 5 + 16 + 8] = 0x00; /* the empty section of transports: skip it */
    count = insert_section(bytes, count, 0x82, TOO_MANY * EACH);
    for (size_t i = 0; i < TOO_MANY; i++)
        memcpy(bytes + AGENT_AT + 5 + i * EACH, "\1t\0", EACH);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "more than 16 transports");
}

/* ---- Regions that no honest peer has ---- */

static void refuse_region(const struct lend_metadata_region *bad, const char *reason)
{
    const struct lend_metadata_region regions[] = {region(1, "first"), *bad};
    struct lend_metadata metadata = {.name = "bad", .region_count = 2, .regions = regions};

    assert_refused(&metadata, reason);
}

static void test_region_is_of_a_known_kind_with_its_device(void **state)
{
    (void)state;
    struct lend_metadata_region bad = region(2, "bad");

    bad.kind = 0;
    refuse_region(&bad, "region 1 of metadata is of unknown kind 0");
    bad.kind = 5;
    refuse_region(&bad, "unknown kind 5");
    bad.kind = LEND_MEMORY_DEVICE;
    bad.device = -1;
    refuse_region(&bad, "device -1");
    bad.kind = LEND_MEMORY_PINNED;
    bad.device = 1;
    refuse_region(&bad, "device 1");
}

static void test_region_has_an_access_right(void **state)
{
    (void)state;
    struct lend_metadata_region bad = region(2, "bad");

    bad.access = 0;
    refuse_region(&bad, "region 1 of metadata has access 0x0");
    bad.access = 4;
    refuse_region(&bad, "access 0x4");
}

static void test_region_has_a_valid_range(void **state)
{
    (void)state;
    struct lend_metadata_region bad = region(2, "bad");

    bad.address = 0;
    refuse_region(&bad, "region 1 of metadata is 4096 bytes at 0x0");
    bad.address = UINT64_MAX - 4095;
    refuse_region(&bad, "4096 bytes at 0xfffffffffffff000");
    bad.kind = LEND_MEMORY_DISK;
    refuse_region(&bad, "4096 bytes at 0xfffffffffffff000");
    bad = region(2, "bad");
    bad.length_bytes = 0;
    refuse_region(&bad, "has 0 bytes");
    bad.length_bytes = LEND_MEMORY_BYTES_MAX + 1;
    refuse_region(&bad, "has 70368744177665 bytes");
}

static void test_region_has_known_flags_and_a_place_in_its_file(void **state)
{
    (void)state;
    struct lend_metadata_region bad = region(2, "bad");

    bad.flags = LEND_REGION_SHARE_FILE;
    refuse_region(&bad, "region 1 of metadata has flags 0x2");
    bad.flags = 0;
    bad.file = 1;
    bad.file_offset_bytes = LEND_MEMORY_BYTES_MAX + 1;
    refuse_region(&bad, "lies at 70368744177665 of file 1");
}

static void test_region_has_a_possible_geometry(void **state)
{
    (void)state;
    struct lend_metadata_region bad = region(2, "bad");

    bad.geometry.count = 2;
    refuse_region(&bad, "region 1 of metadata: block 1 ends beyond the region's 4096 bytes");
    bad.geometry.count = UINT64_MAX;
    refuse_region(&bad, "region 1 of metadata: geometry has 18446744073709551615 blocks");
    bad.geometry = (struct lend_geometry){64, 32, 4, 64, 1};
    refuse_region(&bad, "region 1 of metadata: blocks overlap");
}

static void test_region_ids_ascend(void **state)
{
    (void)state;
    struct lend_metadata_region bad = region(1, "bad");

    refuse_region(&bad, "region 1 of metadata has an id 0 after 1");
    bad.id = 0;
    refuse_region(&bad, "region 1 of metadata has an id 18446744073709551615 after 1");
    bad.id = UINT64_MAX;
    refuse_region(&bad, "has an id 18446744073709551614 after 1");
}

static void test_region_name_and_tags_are_printable(void **state)
{
    (void)state;
    struct lend_metadata_region bad = region(2, "a\tb");

    refuse_region(&bad, "region 1 of metadata has a control character in its name");
    bad.name = "b";
    bad.tags = "\x7f";
    refuse_region(&bad, "region 1 of metadata has a control character in its tags");
}

static void test_no_two_regions_have_one_name(void **state)
{
    (void)state;
    enum { COUNT = 33 };
    struct lend_metadata_region regions[COUNT];
    char names[COUNT][8];
    struct lend_metadata metadata = {.name = "twins", .region_count = COUNT, .regions = regions};

    for (uint32_t i = 0; i < COUNT; i++) {
        /* In an order that is neither ascending nor descending. */
        (void)snprintf(names[i], sizeof names[i], "%u", i * 13 % COUNT);
        regions[i] = region(1 + i, names[i]);
    }
    assert_comes_back(&metadata);
    for (uint32_t a = 0; a < COUNT; a++) {
        for (uint32_t b = 0; b < a; b++) {
            char reason[64];

            regions[b].name = names[a];
            (void)snprintf(reason, sizeof reason, "two regions of metadata are named \"%s\"",
                           names[a]);
            assert_refused(&metadata, reason);
            regions[b].name = "";
            assert_comes_back(&metadata);
            regions[b].name = names[b];
        }
    }
}

/* ---- Rows written by hand ---- */

/* Metadata with a section of regions that begins with a count and a row of that many; members
 * follow. */
static size_t write_rows(uint8_t *bytes, uint64_t count, uint64_t row_count, const char *members,
                         size_t members_count)
{
    struct lend_metadata metadata = {.name = "hand"};
    size_t empty = lend_metadata_encode(&metadata, bytes, ROOM);
    struct lend_writer writer = lend_writer_init(bytes, ROOM);

    writer.count = empty - 4 - 1; /* over the checksum and the count of no regions */
    size_t body = writer.count;
    lend_write_varint(&writer, count);
    lend_write_varint(&writer, row_count);
    lend_write_varint(&writer, 1); /* id */
    lend_write_u8(&writer, LEND_MEMORY_SYSTEM);
    lend_write_u8(&writer, LEND_ACCESS_READ);
    lend_write_u32(&writer, 0); /* device */
    lend_write_varint(&writer, 4096);
    for (int i = 0; i < 5 + 3; i++)
        lend_write_u8(&writer, 0); /* geometry; flags, life, file */
    lend_write_u8(&writer, 0);     /* tags */
    lend_write_bytes(&writer, members, members_count);

    struct lend_writer length = lend_writer_init(bytes + body - 4, 4);
    lend_write_u32(&length, (uint32_t)(writer.count - body));
    return writer.count + 4;
}

/* A member: its address is 8,192 more than the one before, its name as the arguments say. */
#define MEMBER(shared, own) "\x80\x80\x01" shared own

static void test_count_of_regions_is_bounded_by_their_bytes(void **state)
{
    (void)state;
    static const char members[] = MEMBER("\0", "\1a") MEMBER("\0", "\1b");
    uint8_t bytes[ROOM];
    struct lend_metadata *out = NULL;
    size_t count = write_rows(bytes, 2, 2, members, sizeof members - 1);

    assert_int_equal(decode_sealed(bytes, count, &out, NULL), LEND_OK);
    assert_int_equal(out->region_count, 2);
    assert_string_equal(out->regions[1].name, "b");
    assert_true(out->regions[1].address == 2 * 8192);
    lend_sys->release(out);

    count = write_rows(bytes, UINT64_MAX, 2, members, sizeof members - 1);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT,
                         "metadata of 18446744073709551615 regions, and there is room for");
    count = write_rows(bytes, 3, 3, members, sizeof members - 1);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "metadata is cut in region 2");
    count = write_rows(bytes, 1, 1, members, sizeof members - 1);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "6 bytes after its 1 regions");
    count = write_rows(bytes, 3, 2, members, sizeof members - 1);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "metadata is cut in the row of region 2");
}

static void test_row_holds_one_region_or_more_but_not_more_than_are_left(void **state)
{
    (void)state;
    static const char members[] = MEMBER("\0", "\1a");
    uint8_t bytes[ROOM];
    size_t count = write_rows(bytes, 1, 0, members, sizeof members - 1);

    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "region 0 of metadata begins a row of 0");
    count = write_rows(bytes, 1, 2, members, sizeof members - 1);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "begins a row of 2, and 1 are left");
    count = write_rows(bytes, 1, UINT64_MAX, members, sizeof members - 1);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "begins a row of 18446744073709551615");
}

static void test_name_shares_no_more_than_there_is(void **state)
{
    (void)state;
    static const char first[] = MEMBER("\1", "\1a");
    static const char second[] = MEMBER("\0", "\1a") MEMBER("\2", "\1b");
    static const char exact[] = MEMBER("\0", "\1a") MEMBER("\1", "\1b");
    char longest[3 + 2 + 64] = MEMBER("\0", "\x40");
    uint8_t bytes[ROOM];
    struct lend_metadata *out = NULL;
    size_t count = write_rows(bytes, 1, 1, first, sizeof first - 1);

    assert_bytes_refused(bytes, count, LEND_E_CORRUPT,
                         "region 0 of metadata has a name of 1 and 1 bytes, after one of 0");
    count = write_rows(bytes, 2, 2, second, sizeof second - 1);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "name of 2 and 1 bytes, after one of 1");
    count = write_rows(bytes, 2, 2, exact, sizeof exact - 1);
    assert_int_equal(decode_sealed(bytes, count, &out, NULL), LEND_OK);
    assert_string_equal(out->regions[1].name, "ab");
    lend_sys->release(out);

    memset(longest + 5, 'n', 64);
    count = write_rows(bytes, 1, 1, longest, sizeof longest);
    assert_bytes_refused(bytes, count, LEND_E_CORRUPT, "name of 0 and 64 bytes");
}

/* ---- What it costs ---- */

static struct {
    size_t calls;
    size_t bytes;
    uint8_t *change_at; /* set to change_to at an allocation, if not NULL */
    uint8_t change_to;
    bool refuses;
} allocations;

static void *allocate(size_t bytes)
{
    allocations.calls++;
    allocations.bytes += bytes;
    if (allocations.change_at != NULL)
        *allocations.change_at = allocations.change_to;
    return allocations.refuses ? NULL : lend_sys_real.allocate(bytes);
}

static enum lend_status decode_counted(const void *bytes, size_t count, struct lend_metadata **out,
                                       struct lend_error *error)
{
    struct lend_sys_ops counting = lend_sys_real;

    counting.allocate = allocate;
    allocations.calls = allocations.bytes = 0;
    lend_sys = &counting;
    enum lend_status status = lend_metadata_decode(bytes, count, out, error);
    lend_sys = &lend_sys_real;
    return status;
}

static void test_decoding_allocates_once_in_proportion(void **state)
{
    (void)state;
    struct lend_metadata *metadata = sample_layers(61), *again = NULL;
    static uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(metadata, bytes, sizeof bytes);

    assert_int_equal(decode_counted(bytes, count, &again, NULL), LEND_OK);
    assert_int_equal(allocations.calls, 1);
    assert_in_range(allocations.bytes, 1, 64 * count + sizeof(struct lend_metadata));
    lend_sys->release(again);
    free(metadata);
}

static void test_no_memory_is_said_and_leaves_out_alone(void **state)
{
    (void)state;
    struct lend_metadata *metadata = sample_layers(61), *again = NULL;
    static uint8_t bytes[ROOM];
    size_t count = lend_metadata_encode(metadata, bytes, sizeof bytes);
    struct lend_error error;

    allocations.refuses = true;
    assert_int_equal(decode_counted(bytes, count, &again, &error), LEND_E_NO_MEMORY);
    allocations.refuses = false;
    assert_reason(&error, "no memory for metadata of 122 regions");
    assert_null(again);
    free(metadata);
}

/* Another thread makes a name longer after the strings were measured: they may not overflow. */
static void test_bytes_that_change_while_they_are_read_do_no_harm(void **state)
{
    (void)state;
    static const char members[] = MEMBER("\0", "\x02zy") MEMBER("\0", "\x01x");
    uint8_t bytes[ROOM];
    size_t count = write_rows(bytes, 2, 2, members, sizeof members - 1);
    uint8_t *sealed = copy_sealed(bytes, count);
    struct lend_metadata *out = NULL;
    struct lend_error error;

    allocations.change_at = sealed + count - 4 - 3; /* what the second name shares: 0, then 2 */
    allocations.change_to = 2;
    assert_int_equal(decode_counted(sealed, count, &out, &error), LEND_E_CORRUPT);
    allocations.change_at = NULL;
    assert_reason(&error, "metadata changed while it was read");
    assert_null(out);
    free(sealed);
}

/* Comparing every name with every other would take minutes. */
static void test_many_names_in_the_worst_order_are_no_burden(void **state)
{
    (void)state;
    enum { COUNT = 200000, NAME_BYTES = 16 };
    struct lend_metadata_region *regions = calloc(COUNT, sizeof *regions);
    char(*names)[NAME_BYTES] = calloc(COUNT, NAME_BYTES);
    struct lend_metadata metadata = {.name = "many", .region_count = COUNT, .regions = regions};

    assert_true(regions != NULL && names != NULL);
    for (uint32_t i = 0; i < COUNT; i++) {
        (void)snprintf(names[i], NAME_BYTES, "block.%08x", COUNT - i);
        regions[i] = region(1 + i, names[i]);
    }
    assert_comes_back(&metadata);
    free(names);
    free(regions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_122_regions_take_less_than_2560_bytes),
        cmocka_unit_test(test_metadata_without_regions_or_transports_comes_back),
        cmocka_unit_test(test_regions_with_nothing_in_common_come_back),
        cmocka_unit_test(test_every_field_starts_another_row),
        cmocka_unit_test(test_missing_geometry_is_completed),
        cmocka_unit_test(test_transports_come_back_as_they_were),
        cmocka_unit_test(test_every_cut_and_every_flipped_bit_is_seen),
        cmocka_unit_test(test_every_sealed_cut_is_seen),
        cmocka_unit_test(test_encoding_measures_what_does_not_fit),
        cmocka_unit_test(test_longer_than_any_metadata_is_refused_unread),
        cmocka_unit_test(test_another_version_is_named_beside_ours),
        cmocka_unit_test(test_later_section_is_skipped_unless_it_is_required),
        cmocka_unit_test(test_each_section_stands_there_once),
        cmocka_unit_test(test_section_longer_than_the_metadata_is_refused),
        cmocka_unit_test(test_agent_section_is_exact),
        cmocka_unit_test(test_transports_are_in_range),
        cmocka_unit_test(test_transports_have_a_limit),
        cmocka_unit_test(test_region_is_of_a_known_kind_with_its_device),
        cmocka_unit_test(test_region_has_an_access_right),
        cmocka_unit_test(test_region_has_a_valid_range),
        cmocka_unit_test(test_region_has_known_flags_and_a_place_in_its_file),
        cmocka_unit_test(test_region_has_a_possible_geometry),
        cmocka_unit_test(test_region_ids_ascend),
        cmocka_unit_test(test_region_name_and_tags_are_printable),
        cmocka_unit_test(test_no_two_regions_have_one_name),
        cmocka_unit_test(test_count_of_regions_is_bounded_by_their_bytes),
        cmocka_unit_test(test_row_holds_one_region_or_more_but_not_more_than_are_left),
        cmocka_unit_test(test_name_shares_no_more_than_there_is),
        cmocka_unit_test(test_decoding_allocates_once_in_proportion),
        cmocka_unit_test(test_no_memory_is_said_and_leaves_out_alone),
        cmocka_unit_test(test_bytes_that_change_while_they_are_read_do_no_harm),
        cmocka_unit_test(test_many_names_in_the_worst_order_are_no_burden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
