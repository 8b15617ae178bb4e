/* SPDX-License-Identifier: Apache-2.0 */
#include "wire_samples.h"

#include "base/crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fill(uint8_t *bytes, size_t count, uint8_t first)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(first + 7 * i);
}

struct lend_fetch_message sample_fetch(void)
{
    return (struct lend_fetch_message){.version_min = 1, .version_max = 3, .name = "asker"};
}

struct lend_found_part sample_found(void)
{
    static const char some[] = "some of the bytes of what an agent tells";

    return (struct lend_found_part){
        .version = 1,
        .metadata_bytes = 70000,
        .attachment_bytes = 120,
        .offset = 65536,
        .count = sizeof some,
        .bytes = (const uint8_t *)some,
    };
}

struct lend_hello sample_hello(void)
{
    struct lend_hello hello = {.version_min = 1, .version_max = 3, .name = "decode-7"};

    fill(hello.incarnation, sizeof hello.incarnation, 1);
    fill(hello.wanted, sizeof hello.wanted, 2);
    return hello;
}

struct lend_welcome sample_welcome(void)
{
    struct lend_welcome welcome = {
        .version = 1, .requests_max = 16, .notification_window_bytes = 262144};

    fill(welcome.incarnation, sizeof welcome.incarnation, 3);
    return welcome;
}

struct lend_verdict sample_verdict(void)
{
    return (struct lend_verdict){
        .status = LEND_E_REVOKED,
        .bytes = 131072,
        .text = "the owner took lease 7 back",
    };
}

struct lend_lease_name sample_lease_name(void)
{
    struct lend_lease_name name = {.slot = 41, .generation = UINT64_C(0x123456789abcdef0)};

    fill(name.key, sizeof name.key, 4);
    return name;
}

struct lend_request sample_request(void)
{
    return (struct lend_request){
        .direction = 1, /* LEND_READ */
        .lease = sample_lease_name(),
        .slice_offset_bytes = 4096,
        .slice_length_bytes = 2048,
        .run_count = 2000,
        .total_bytes = UINT64_C(3) * 2000 * 2048,
        .region_count = 3,
    };
}

struct lend_ticket_bytes sample_ticket(void)
{
    struct lend_ticket_bytes ticket = {
        .agent = "prefill-0",
        .lease = sample_lease_name(),
        .access = LEND_ACCESS_READ,
        .expires_ns = UINT64_C(123456789012345),
    };

    fill(ticket.incarnation, sizeof ticket.incarnation, 5);
    return ticket;
}

struct layers {
    struct lend_metadata metadata;
    char (*names)[LEND_REGION_NAME_BYTES_MAX + 1];
    struct lend_metadata_region regions[];
};

static struct lend_metadata_transport transport(const char *name, const char *address)
{
    struct lend_metadata_transport made = {.address_bytes = (uint32_t)strlen(address)};

    (void)snprintf(made.name, sizeof made.name, "%s", name);
    memcpy(made.address, address, made.address_bytes);
    return made;
}

struct lend_metadata *sample_layers(uint32_t layers)
{
    uint32_t count = 2 * layers;
    size_t name_bytes = LEND_REGION_NAME_BYTES_MAX + 1;
    size_t regions_bytes = count * sizeof(struct lend_metadata_region);
    struct layers *made = calloc(1, sizeof *made + regions_bytes + count * name_bytes);
    uint64_t chance = 88172645463325252u;

    if (made == NULL)
        abort();
    made->names = (void *)((char *)made + sizeof *made + regions_bytes);
    for (uint32_t i = 0; i < count; i++) {
        chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
        (void)snprintf(made->names[i], name_bytes, "layers.%u.%c", i / 2, i % 2 == 0 ? 'k' : 'v');
        made->regions[i] = (struct lend_metadata_region){
            .id = 1 + i,
            .kind = LEND_MEMORY_SYSTEM,
            .access = LEND_ACCESS_READ | LEND_ACCESS_WRITE,
            .address = chance >> 1,
            .length_bytes = UINT64_C(1) << 30,
            .geometry = {.block_length_bytes = 65536,
                         .stride_bytes = 65536,
                         .count = 16384,
                         .inner_stride_bytes = 65536,
                         .inner_count = 1},
            .name = made->names[i],
            .tags = "kv",
        };
    }
    made->metadata = (struct lend_metadata){
        .name = "prefill-0",
        .serial = 12,
        .transport_count = 2,
        .transports = {transport("local", "/tmp/lend-1000/prefill-0"), transport("loopback", "")},
        .region_count = count,
        .regions = made->regions,
    };
    fill(made->metadata.incarnation, sizeof made->metadata.incarnation, 6);
    return &made->metadata;
}

bool is_painted(const void *object, size_t count)
{
    const uint8_t *bytes = object;

    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != PAINT)
            return false;
    }
    return true;
}

uint8_t *copy_bytes(const void *bytes, size_t count)
{
    uint8_t *copy = malloc(count);

    if (copy == NULL && count > 0)
        abort();
    if (count > 0)
        memcpy(copy, bytes, count);
    return copy;
}

uint8_t *copy_sealed(const void *bytes, size_t count)
{
    uint8_t *copy = copy_bytes(bytes, count);

    if (count < 4)
        abort();
    uint32_t crc = lend_crc32c(0, copy, count - 4);
    for (size_t i = 0; i < 4; i++)
        copy[count - 4 + i] = (uint8_t)(crc >> (8 * i));
    return copy;
}

bool hellos_are_equal(const struct lend_hello *a, const struct lend_hello *b)
{
    return a->version_min == b->version_min && a->version_max == b->version_max &&
           strcmp(a->name, b->name) == 0 &&
           memcmp(a->incarnation, b->incarnation, sizeof a->incarnation) == 0 &&
           memcmp(a->wanted, b->wanted, sizeof a->wanted) == 0;
}

bool welcomes_are_equal(const struct lend_welcome *a, const struct lend_welcome *b)
{
    return a->version == b->version && a->requests_max == b->requests_max &&
           a->notification_window_bytes == b->notification_window_bytes &&
           memcmp(a->incarnation, b->incarnation, sizeof a->incarnation) == 0;
}

bool verdicts_are_equal(const struct lend_verdict *a, const struct lend_verdict *b)
{
    return a->status == b->status && a->bytes == b->bytes && strcmp(a->text, b->text) == 0;
}

bool lease_names_are_equal(const struct lend_lease_name *a, const struct lend_lease_name *b)
{
    return a->slot == b->slot && a->generation == b->generation &&
           memcmp(a->key, b->key, sizeof a->key) == 0;
}

bool requests_are_equal(const struct lend_request *a, const struct lend_request *b)
{
    return a->direction == b->direction && a->has_ranges == b->has_ranges &&
           a->wants_sums == b->wants_sums && lease_names_are_equal(&a->lease, &b->lease) &&
           a->slice_offset_bytes == b->slice_offset_bytes &&
           a->slice_length_bytes == b->slice_length_bytes && a->run_count == b->run_count &&
           a->total_bytes == b->total_bytes && a->region_count == b->region_count;
}

bool tickets_are_equal(const struct lend_ticket_bytes *a, const struct lend_ticket_bytes *b)
{
    return memcmp(a->incarnation, b->incarnation, sizeof a->incarnation) == 0 &&
           strcmp(a->agent, b->agent) == 0 && lease_names_are_equal(&a->lease, &b->lease) &&
           a->access == b->access && a->expires_ns == b->expires_ns;
}

static bool transports_are_equal(const struct lend_metadata_transport *a,
                                 const struct lend_metadata_transport *b)
{
    return strcmp(a->name, b->name) == 0 && a->address_bytes == b->address_bytes &&
           memcmp(a->address, b->address, a->address_bytes) == 0;
}

static bool regions_are_equal(const struct lend_metadata_region *a,
                              const struct lend_metadata_region *b)
{
    return a->id == b->id && a->kind == b->kind && a->device == b->device &&
           a->access == b->access && a->address == b->address &&
           a->length_bytes == b->length_bytes &&
           memcmp(&a->geometry, &b->geometry, sizeof a->geometry) == 0 && a->flags == b->flags &&
           a->life == b->life && a->file == b->file &&
           a->file_offset_bytes == b->file_offset_bytes && strcmp(a->name, b->name) == 0 &&
           strcmp(a->tags, b->tags) == 0;
}

bool metadata_is_equal(const struct lend_metadata *a, const struct lend_metadata *b)
{
    if (strcmp(a->name, b->name) != 0 || a->serial != b->serial || a->is_partial != b->is_partial ||
        memcmp(a->incarnation, b->incarnation, sizeof a->incarnation) != 0 ||
        a->transport_count != b->transport_count || a->region_count != b->region_count)
        return false;
    for (uint32_t i = 0; i < a->transport_count; i++) {
        if (!transports_are_equal(&a->transports[i], &b->transports[i]))
            return false;
    }
    for (uint32_t i = 0; i < a->region_count; i++) {
        if (!regions_are_equal(&a->regions[i], &b->regions[i]))
            return false;
    }
    return true;
}
