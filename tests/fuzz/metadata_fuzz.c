/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: no metadata can crash us or make us allocate more than it is worth, what is accepted obeys
 * its invariants, and it says the same when it is written again. Method: the input is tried as it
 * is, and again with the right checksum. A double of the system counts allocations and can refuse
 * them.
 */

#include "fuzz/fuzz.h"
#include "base/geometry.h"
#include "base/sys.h"
#include "wire_samples.h"

static struct {
    size_t calls;
    size_t bytes;
    int refuses;
} allocations;

static void *count_allocation(size_t bytes)
{
    allocations.calls++;
    allocations.bytes += bytes;
    return allocations.refuses ? NULL : lend_sys_real.allocate(bytes);
}

static enum lend_status decode(const uint8_t *bytes, size_t count, struct lend_metadata **out,
                               struct lend_error *error)
{
    struct lend_sys_ops counting = lend_sys_real;

    counting.allocate = count_allocation;
    allocations.calls = 0;
    allocations.bytes = 0;
    lend_sys = &counting;
    enum lend_status status = lend_metadata_decode(bytes, count, out, error);
    lend_sys = &lend_sys_real;

    CHECK(allocations.calls <= 1);
    CHECK(allocations.bytes <= 64 * count + sizeof(struct lend_metadata));
    return status;
}

static void check_text(const char *text, size_t max)
{
    CHECK(strlen(text) <= max);
    for (; *text != '\0'; text++)
        CHECK((uint8_t)*text >= 0x20 && *text != 0x7f);
}

static void check_region(const struct lend_metadata_region *region)
{
    struct lend_geometry geometry = region->geometry;

    CHECK(region->kind >= LEND_MEMORY_SYSTEM && region->kind <= LEND_MEMORY_DISK);
    CHECK(region->device >= 0);
    CHECK(region->access >= 1 && region->access <= 3);
    CHECK(region->length_bytes > 0 && region->length_bytes <= LEND_MEMORY_BYTES_MAX);
    CHECK(region->address + region->length_bytes > region->address);
    CHECK(region->address > 0 || region->kind == LEND_MEMORY_DISK);
    CHECK(lend_geometry_complete(&geometry, region->length_bytes, NULL) == LEND_OK);
    CHECK(memcmp(&geometry, &region->geometry, sizeof geometry) == 0);
    check_text(region->name, LEND_REGION_NAME_BYTES_MAX);
    check_text(region->tags, LEND_REGION_TAGS_BYTES_MAX);
}

static void check_metadata(const struct lend_metadata *metadata)
{
    enum { PAIRS_MAX = 100 };
    uint32_t count = metadata->region_count;

    CHECK(metadata->name[0] != '\0');
    check_text(metadata->name, LEND_AGENT_NAME_BYTES_MAX);
    CHECK(metadata->transport_count <= LEND_METADATA_TRANSPORTS_MAX);
    for (uint32_t i = 0; i < metadata->transport_count; i++) {
        CHECK(metadata->transports[i].name[0] != '\0');
        check_text(metadata->transports[i].name, LEND_TRANSPORT_NAME_MAX);
        CHECK(metadata->transports[i].address_bytes <= LEND_METADATA_ADDRESS_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct lend_metadata_region *region = &metadata->regions[i];

        check_region(region);
        CHECK(region->id > (i == 0 ? 0 : metadata->regions[i - 1].id));
        for (uint32_t k = 0; k < i && k < PAIRS_MAX; k++)
            CHECK(region->name[0] == '\0' || strcmp(region->name, metadata->regions[k].name) != 0);
    }
}

static void check_again(const struct lend_metadata *metadata)
{
    size_t count = lend_metadata_encode(metadata, NULL, 0);
    uint8_t *written = malloc(count);
    struct lend_metadata *again = NULL;

    CHECK(written != NULL);
    CHECK(lend_metadata_encode(metadata, written, count) == count);
    CHECK(decode(written, count, &again, NULL) == LEND_OK);
    CHECK(metadata_is_equal(metadata, again));
    lend_sys->release(again);

    struct lend_metadata *none = NULL;
    allocations.refuses = 1;
    CHECK(decode(written, count, &none, NULL) == LEND_E_NO_MEMORY);
    allocations.refuses = 0;
    CHECK(none == NULL);
    free(written);
}

/* It says nothing new to who knows it. */
static void check_merged(const struct lend_metadata *metadata)
{
    struct lend_metadata *merged = NULL;

    CHECK(lend_metadata_merge(metadata, metadata, &merged, NULL) == LEND_OK);
    merged->is_partial = metadata->is_partial;
    CHECK(metadata_is_equal(metadata, merged));
    lend_sys->release(merged);
}

static void try_metadata(const uint8_t *bytes, size_t count)
{
    struct lend_metadata *metadata;
    struct lend_error error;

    memset(&metadata, PAINT, sizeof metadata);
    enum lend_status status = decode(bytes, count, &metadata, &error);
    if (status != LEND_OK) {
        CHECK(status == LEND_E_CORRUPT || status == LEND_E_VERSION);
        CHECK(error.status == status && error.message[0] != '\0');
        CHECK(is_painted(&metadata, sizeof metadata));
        return;
    }
    check_metadata(metadata);
    check_again(metadata);
    check_merged(metadata);
    lend_sys->release(metadata);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    try_metadata(bytes, count);
    if (count >= 4) {
        uint8_t *sealed = copy_sealed(bytes, count);

        try_metadata(sealed, count);
        free(sealed);
    }
    return 0;
}
