/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/metadata.h"

#include "base/error.h"
#include "base/geometry.h"
#include "base/sys.h"
#include "wire/field.h"

#include <lend/peer.h>

#include <assert.h>
#include <inttypes.h>
#include <string.h>

static const struct lend_envelope envelope = {
    .what = "metadata",
    .magic = {'L', 'N', 'D', 'M'},
    .version = LEND_METADATA_VERSION,
};

enum {
    SECTION_REQUIRED = 0x80,
    SECTION_AGENT = SECTION_REQUIRED | 1,
    SECTION_TRANSPORTS = SECTION_REQUIRED | 2,
    SECTION_REGIONS = SECTION_REQUIRED | 3,
    SECTION_COUNT = 3,
    SECTION_PARTIAL = SECTION_REQUIRED | 4,

    MEMBER_BYTES_MIN = 3, /* of a region in a row: address, shared and own bytes of its name */
    ACCESS_ALL = LEND_ACCESS_READ | LEND_ACCESS_WRITE,
};

/* ---- Encoding ---- */

/* Returns where the section's body begins; its length stands in the four bytes before. */
static size_t begin_section(struct lend_writer *writer, uint8_t type)
{
    lend_write_u8(writer, type);
    lend_write_u32(writer, 0);
    return writer->count;
}

static void end_section(struct lend_writer *writer, size_t body)
{
    if (!lend_writer_fits(writer))
        return;

    struct lend_writer length = lend_writer_init(writer->start + body - 4, 4);
    lend_write_u32(&length, (uint32_t)(writer->count - body));
}

static void write_transport(struct lend_writer *writer,
                            const struct lend_metadata_transport *transport)
{
    assert(transport->address_bytes <= LEND_METADATA_ADDRESS_MAX);

    lend_name_encode(writer, transport->name, LEND_TRANSPORT_NAME_MAX);
    lend_write_u16(writer, (uint16_t)transport->address_bytes);
    lend_write_bytes(writer, transport->address, transport->address_bytes);
}

/* Could b stand in one row with a, the region before it? */
static bool is_alike(const struct lend_metadata_region *a, const struct lend_metadata_region *b)
{
    return b->id == a->id + 1 && b->kind == a->kind && b->device == a->device &&
           b->access == a->access && b->length_bytes == a->length_bytes &&
           memcmp(&b->geometry, &a->geometry, sizeof a->geometry) == 0 && b->flags == a->flags &&
           b->life == a->life && b->file == a->file &&
           (b->file == 0 ||
            b->file_offset_bytes - b->address == a->file_offset_bytes - a->address) &&
           strcmp(b->tags, a->tags) == 0;
}

static void write_row(struct lend_writer *writer, const struct lend_metadata_region *first,
                      uint32_t count, uint64_t previous_id)
{
    const struct lend_geometry *geometry = &first->geometry;
    size_t tags_bytes = strnlen(first->tags, LEND_REGION_TAGS_BYTES_MAX);

    lend_write_varint(writer, count);
    lend_write_varint(writer, first->id - previous_id);
    lend_write_u8(writer, (uint8_t)first->kind);
    lend_write_u8(writer, (uint8_t)first->access);
    lend_write_u32(writer, (uint32_t)first->device);
    lend_write_varint(writer, first->length_bytes);
    lend_write_varint(writer, geometry->block_length_bytes);
    lend_write_varint(writer, geometry->stride_bytes);
    lend_write_varint(writer, geometry->count);
    lend_write_varint(writer, geometry->inner_stride_bytes);
    lend_write_varint(writer, geometry->inner_count);
    lend_write_varint(writer, first->flags);
    lend_write_varint(writer, first->life);
    lend_write_varint(writer, first->file);
    if (first->file != 0)
        lend_write_varint(writer, lend_zigzag(first->file_offset_bytes - first->address));
    lend_write_u8(writer, (uint8_t)tags_bytes);
    lend_write_bytes(writer, first->tags, tags_bytes);
}

static void write_member(struct lend_writer *writer, const struct lend_metadata_region *region,
                         const struct lend_metadata_region *previous)
{
    size_t name_bytes = strnlen(region->name, LEND_REGION_NAME_BYTES_MAX);
    size_t shared = 0;

    while (shared < name_bytes && previous != NULL &&
           region->name[shared] == previous->name[shared])
        shared++;
    lend_write_varint(writer,
                      lend_zigzag(region->address - (previous == NULL ? 0 : previous->address)));
    lend_write_u8(writer, (uint8_t)shared);
    lend_write_u8(writer, (uint8_t)(name_bytes - shared));
    lend_write_bytes(writer, region->name + shared, name_bytes - shared);
}

static void write_regions(struct lend_writer *writer, const struct lend_metadata *metadata)
{
    const struct lend_metadata_region *regions = metadata->regions;
    const struct lend_metadata_region *previous = NULL;
    uint32_t length;

    lend_write_varint(writer, metadata->region_count);
    for (uint32_t i = 0; i < metadata->region_count; i += length) {
        for (length = 1; i + length < metadata->region_count; length++) {
            if (!is_alike(&regions[i + length - 1], &regions[i + length]))
                break;
        }
        write_row(writer, &regions[i], length, previous == NULL ? 0 : previous->id);
        for (uint32_t k = i; k < i + length; k++) {
            write_member(writer, &regions[k], previous);
            previous = &regions[k];
        }
    }
}

size_t lend_metadata_encode(const struct lend_metadata *metadata, void *bytes, size_t capacity)
{
    assert(metadata->transport_count <= LEND_METADATA_TRANSPORTS_MAX);
    assert(metadata->region_count <= LEND_METADATA_REGIONS_MAX);

    struct lend_writer writer = lend_writer_init(bytes, capacity);
    lend_envelope_begin(&writer, &envelope);

    size_t body = begin_section(&writer, SECTION_AGENT);
    lend_name_encode(&writer, metadata->name, LEND_AGENT_NAME_BYTES_MAX);
    lend_write_bytes(&writer, metadata->incarnation, sizeof metadata->incarnation);
    lend_write_u64(&writer, metadata->serial);
    end_section(&writer, body);

    body = begin_section(&writer, SECTION_TRANSPORTS);
    for (uint32_t i = 0; i < metadata->transport_count; i++)
        write_transport(&writer, &metadata->transports[i]);
    end_section(&writer, body);

    body = begin_section(&writer, SECTION_REGIONS);
    write_regions(&writer, metadata);
    end_section(&writer, body);

    if (metadata->is_partial)
        (void)begin_section(&writer, SECTION_PARTIAL);
    lend_envelope_end(&writer);
    return writer.count;
}

/* ---- Decoding: sections ---- */

struct sections {
    struct lend_reader bodies[SECTION_COUNT];
    bool found[SECTION_COUNT];
    bool is_partial;
};

static enum lend_status note_partial(struct sections *out, uint32_t length,
                                     struct lend_error *error)
{
    if (out->is_partial || length > 0)
        return lend_fail(error, LEND_E_CORRUPT, "section 0x%02x of metadata comes twice, or long",
                         SECTION_PARTIAL);
    out->is_partial = true;
    return LEND_OK;
}

static enum lend_status find_sections(struct lend_reader *reader, struct sections *out,
                                      struct lend_error *error)
{
    while (reader->left > 0) {
        uint8_t type = lend_read_u8(reader);
        uint32_t length = lend_read_u32(reader);
        const uint8_t *body = lend_read_span(reader, length);

        if (body == NULL)
            return lend_fail(error, LEND_E_CORRUPT, "section 0x%02x of metadata is cut", type);
        if (type >= SECTION_AGENT && type < SECTION_AGENT + SECTION_COUNT) {
            if (out->found[type - SECTION_AGENT])
                return lend_fail(error, LEND_E_CORRUPT, "section 0x%02x of metadata comes twice",
                                 type);
            out->found[type - SECTION_AGENT] = true;
            out->bodies[type - SECTION_AGENT] = lend_reader_init(body, length);
        } else if (type == SECTION_PARTIAL) {
            enum lend_status status = note_partial(out, length, error);

            if (status != LEND_OK)
                return status;
        } else if (type & SECTION_REQUIRED) {
            return lend_fail(error, LEND_E_VERSION,
                             "metadata of version %d needs section 0x%02x to be understood, and "
                             "this library's version %d knows none above 0x%02x",
                             LEND_METADATA_VERSION, type, LEND_METADATA_VERSION, SECTION_PARTIAL);
        }
    }
    for (int i = 0; i < SECTION_COUNT; i++) {
        if (!out->found[i])
            return lend_fail(error, LEND_E_CORRUPT, "metadata without section 0x%02x",
                             SECTION_AGENT + i);
    }
    return LEND_OK;
}

static enum lend_status read_agent(struct lend_reader reader, struct lend_metadata *out,
                                   struct lend_error *error)
{
    enum lend_status status =
        lend_name_decode(&reader, "agent", out->name, LEND_AGENT_NAME_BYTES_MAX, error);

    if (status != LEND_OK)
        return status;
    lend_read_bytes(&reader, out->incarnation, sizeof out->incarnation);
    out->serial = lend_read_u64(&reader);
    if (!lend_reader_done(&reader))
        return lend_fail(error, LEND_E_CORRUPT, "the agent's section of metadata is cut or long");
    return LEND_OK;
}

static bool is_transport_name(const char *name)
{
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

static enum lend_status read_transports(struct lend_reader reader, struct lend_metadata *out,
                                        struct lend_error *error)
{
    while (reader.left > 0) {
        if (out->transport_count == LEND_METADATA_TRANSPORTS_MAX)
            return lend_fail(error, LEND_E_CORRUPT, "metadata with more than %d transports",
                             LEND_METADATA_TRANSPORTS_MAX);

        struct lend_metadata_transport *transport = &out->transports[out->transport_count++];
        enum lend_status status =
            lend_name_decode(&reader, "transport", transport->name, LEND_TRANSPORT_NAME_MAX, error);
        if (status != LEND_OK)
            return status;
        if (!is_transport_name(transport->name))
            return lend_fail(error, LEND_E_CORRUPT, "a transport named \"%s\"", transport->name);

        transport->address_bytes = lend_read_u16(&reader);
        if (transport->address_bytes > LEND_METADATA_ADDRESS_MAX)
            return lend_fail(error, LEND_E_CORRUPT,
                             "an address of transport %s of %u bytes, over the limit of %d",
                             transport->name, transport->address_bytes, LEND_METADATA_ADDRESS_MAX);
        lend_read_bytes(&reader, transport->address, transport->address_bytes);
        if (reader.bad)
            return lend_fail(error, LEND_E_CORRUPT, "the address of transport %s is cut",
                             transport->name);
    }
    return LEND_OK;
}

/* ---- Decoding: regions ---- */

/*
 * The regions are walked twice: to measure, with regions NULL, and to fill in. Both walks check
 * everything, so that the second is safe even from bytes that changed between them.
 */
struct unpacking {
    struct lend_reader reader;
    struct lend_metadata_region *regions;
    uint32_t region_room; /* in the first walk, the most that are allowed */
    uint32_t region_count;
    char *text; /* all the strings, each with its NUL; the first one is "" */
    size_t text_room;
    size_t text_bytes;

    uint64_t file_step; /* of the row: from an address to its place in the file */
    uint64_t id;        /* of the region before */
    uint64_t address;
    const char *name;
    size_t name_bytes;
};

/* Put together a string of two parts. NULL when measuring, and also if there is no room left, which
 * unpack_regions() asks afterwards. */
static const char *put_text(struct unpacking *unpacking, const char *shared, size_t shared_bytes,
                            const uint8_t *own, size_t own_bytes)
{
    size_t count = shared_bytes + own_bytes;
    size_t at = count == 0 ? 0 : unpacking->text_bytes;

    if (count > 0)
        unpacking->text_bytes += count + 1;
    if (unpacking->regions == NULL || unpacking->text_bytes > unpacking->text_room)
        return NULL;

    char *text = unpacking->text + at;
    if (shared_bytes > 0)
        memcpy(text, shared, shared_bytes);
    if (own_bytes > 0)
        memcpy(text + shared_bytes, own, own_bytes);
    text[count] = '\0';
    return text;
}

static enum lend_status check_row(struct lend_metadata_region *row, uint32_t at,
                                  struct lend_error *error)
{
    bool is_host = row->kind == LEND_MEMORY_SYSTEM || row->kind == LEND_MEMORY_PINNED;
    struct lend_error reason;

    if (row->kind < LEND_MEMORY_SYSTEM || row->kind > LEND_MEMORY_DISK)
        return lend_fail(error, LEND_E_CORRUPT, "region %u of metadata is of unknown kind %u", at,
                         row->kind);
    if (row->device < 0 || (is_host && row->device != 0))
        return lend_fail(error, LEND_E_CORRUPT, "region %u of metadata has device %d", at,
                         row->device);
    if (row->access == 0 || row->access > ACCESS_ALL)
        return lend_fail(error, LEND_E_CORRUPT, "region %u of metadata has access 0x%x", at,
                         row->access);
    if (row->length_bytes == 0 || row->length_bytes > LEND_MEMORY_BYTES_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "region %u of metadata has %" PRIu64 " bytes", at,
                         row->length_bytes);
    if (lend_geometry_complete(&row->geometry, row->length_bytes, &reason) != LEND_OK)
        return lend_fail(error, LEND_E_CORRUPT, "region %u of metadata: %s", at, reason.message);
    return LEND_OK;
}

/* What the regions of a row have in common, and how many there are. */
static enum lend_status read_row(struct unpacking *unpacking, struct lend_metadata_region *row,
                                 uint32_t *out_count, struct lend_error *error)
{
    struct lend_reader *reader = &unpacking->reader;
    uint32_t at = unpacking->region_count;
    uint64_t count = lend_read_varint(reader);
    uint64_t step = lend_read_varint(reader);

    row->kind = lend_read_u8(reader);
    row->access = lend_read_u8(reader);
    row->device = (int32_t)lend_read_u32(reader);
    row->length_bytes = lend_read_varint(reader);
    row->geometry.block_length_bytes = lend_read_varint(reader);
    row->geometry.stride_bytes = lend_read_varint(reader);
    row->geometry.count = lend_read_varint(reader);
    row->geometry.inner_stride_bytes = lend_read_varint(reader);
    row->geometry.inner_count = lend_read_varint(reader);
    uint64_t flags = lend_read_varint(reader), life = lend_read_varint(reader);
    uint64_t file = lend_read_varint(reader);
    unpacking->file_step = file != 0 ? lend_unzigzag(lend_read_varint(reader)) : 0;
    uint8_t tags_bytes = lend_read_u8(reader);
    const uint8_t *tags = lend_read_span(reader, tags_bytes);

    if (tags == NULL)
        return lend_fail(error, LEND_E_CORRUPT, "metadata is cut in the row of region %u", at);
    if ((flags & ~(uint64_t)LEND_METADATA_FLAGS) != 0 || life > UINT32_MAX || file > UINT32_MAX)
        return lend_fail(error, LEND_E_CORRUPT,
                         "region %u of metadata has flags 0x%" PRIx64 ", life %" PRIu64
                         " and file %" PRIu64,
                         at, flags, life, file);
    if (count == 0 || count > unpacking->region_room - at)
        return lend_fail(error, LEND_E_CORRUPT,
                         "region %u of metadata begins a row of %" PRIu64 ", and %u are left", at,
                         count, unpacking->region_room - at);
    if (step == 0 || step > UINT64_MAX - unpacking->id || count > UINT64_MAX - unpacking->id - step)
        return lend_fail(error, LEND_E_CORRUPT,
                         "region %u of metadata has an id %" PRIu64 " after %" PRIu64, at, step,
                         unpacking->id);
    if (!lend_text_is_printable(tags, tags_bytes))
        return lend_fail(error, LEND_E_CORRUPT,
                         "region %u of metadata has a control character in its tags", at);

    row->id = unpacking->id + step;
    row->flags = (uint32_t)flags;
    row->life = (uint32_t)life;
    row->file = (uint32_t)file;
    row->tags = put_text(unpacking, NULL, 0, tags, tags_bytes);
    *out_count = (uint32_t)count;
    return check_row(row, at, error);
}

static bool range_is_valid(const struct lend_metadata_region *region)
{
    return (region->address > 0 || region->kind == LEND_MEMORY_DISK) &&
           region->address <= UINT64_MAX - region->length_bytes;
}

/* The next region of a row: region holds what the row has, and its id. */
static enum lend_status read_member(struct unpacking *unpacking,
                                    struct lend_metadata_region *region, struct lend_error *error)
{
    struct lend_reader *reader = &unpacking->reader;
    uint32_t at = unpacking->region_count;

    region->address = unpacking->address + lend_unzigzag(lend_read_varint(reader));
    uint8_t shared_bytes = lend_read_u8(reader);
    uint8_t own_bytes = lend_read_u8(reader);
    const uint8_t *own = lend_read_span(reader, own_bytes);

    if (own == NULL)
        return lend_fail(error, LEND_E_CORRUPT, "metadata is cut in region %u", at);
    if (!range_is_valid(region))
        return lend_fail(error, LEND_E_CORRUPT,
                         "region %u of metadata is %" PRIu64 " bytes at 0x%" PRIx64, at,
                         region->length_bytes, region->address);
    region->file_offset_bytes = region->file != 0 ? region->address + unpacking->file_step : 0;
    if (region->file_offset_bytes > LEND_MEMORY_BYTES_MAX)
        return lend_fail(error, LEND_E_CORRUPT,
                         "region %u of metadata lies at %" PRIu64 " of file %u", at,
                         region->file_offset_bytes, region->file);
    if (shared_bytes > unpacking->name_bytes ||
        shared_bytes + own_bytes > LEND_REGION_NAME_BYTES_MAX)
        return lend_fail(error, LEND_E_CORRUPT,
                         "region %u of metadata has a name of %u and %u bytes, after one of %zu",
                         at, shared_bytes, own_bytes, unpacking->name_bytes);
    if (!lend_text_is_printable(own, own_bytes))
        return lend_fail(error, LEND_E_CORRUPT,
                         "region %u of metadata has a control character in its name", at);

    region->name = put_text(unpacking, unpacking->name, shared_bytes, own, own_bytes);
    unpacking->id = region->id;
    unpacking->address = region->address;
    unpacking->name = region->name;
    unpacking->name_bytes = (size_t)shared_bytes + own_bytes;
    return LEND_OK;
}

static enum lend_status unpack_row(struct unpacking *unpacking, struct lend_error *error)
{
    struct lend_metadata_region region = {0};
    uint32_t members = 0;
    enum lend_status status = read_row(unpacking, &region, &members, error);

    for (; status == LEND_OK && members > 0; members--, region.id++) {
        status = read_member(unpacking, &region, error);
        if (status != LEND_OK)
            break;
        if (unpacking->regions != NULL) {
            if (unpacking->text_bytes > unpacking->text_room)
                return lend_fail(error, LEND_E_CORRUPT, "metadata changed while it was read");
            unpacking->regions[unpacking->region_count] = region;
        }
        unpacking->region_count++;
    }
    return status;
}

/* One walk over the section. */
static enum lend_status unpack_regions(struct unpacking *unpacking, struct lend_error *error)
{
    uint64_t count = lend_read_varint(&unpacking->reader);

    if (count > unpacking->region_room)
        return lend_fail(error, LEND_E_CORRUPT,
                         "metadata of %" PRIu64 " regions, and there is room for %u", count,
                         unpacking->region_room);
    unpacking->region_room = (uint32_t)count;
    unpacking->text_bytes = 1;

    while (unpacking->region_count < count) {
        enum lend_status status = unpack_row(unpacking, error);
        if (status != LEND_OK)
            return status;
    }
    if (!lend_reader_done(&unpacking->reader))
        return lend_fail(error, LEND_E_CORRUPT, "metadata has %zu bytes after its %u regions",
                         unpacking->reader.left, unpacking->region_count);
    return LEND_OK;
}

/* ---- Decoding: names are unique ---- */

/* A merge sort of indices by name: in order already, as neighbours mostly are, costs one look. */
struct sorting {
    const struct lend_metadata_region *regions;
    uint32_t *from;
    uint32_t *to;
};

static int compare_names(const struct sorting *sorting, uint32_t a, uint32_t b)
{
    return strcmp(sorting->regions[sorting->from[a]].name, sorting->regions[sorting->from[b]].name);
}

/* Merge the ascending runs [first, middle) and [middle, end). Returns one of two regions with the
 * same name, or UINT32_MAX. */
static uint32_t merge(const struct sorting *sorting, uint32_t first, uint32_t middle, uint32_t end)
{
    uint32_t left = first, right = middle, out = first;
    bool is_sorted = middle == end || compare_names(sorting, middle - 1, middle) < 0;

    while (!is_sorted && left < middle && right < end) {
        int order = compare_names(sorting, left, right);

        if (order == 0)
            return sorting->from[right];
        sorting->to[out++] = sorting->from[order < 0 ? left++ : right++];
    }
    if (left == middle)
        left = right;
    memcpy(&sorting->to[out], &sorting->from[left], (end - out) * sizeof *sorting->to);
    return UINT32_MAX;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Names that are not empty are unique. order is room for two indices a region. */
static enum lend_status check_names(const struct lend_metadata *metadata, uint32_t *order,
                                    struct lend_error *error)
{
    struct sorting sorting = {.regions = metadata->regions, .from = order};
    uint32_t count = 0;

    for (uint32_t i = 0; i < metadata->region_count; i++) {
        if (metadata->regions[i].name[0] != '\0')
            order[count++] = i;
    }
    sorting.to = order + count;
    for (uint32_t run = 1; run < count; run *= 2) {
        for (uint32_t first = 0; first < count; first += 2 * run) {
            uint32_t twice = merge(&sorting, first, min_u32(first + run, count),
                                   min_u32(first + 2 * run, count));

            if (twice != UINT32_MAX)
                return lend_fail(error, LEND_E_CORRUPT, "two regions of metadata are named \"%s\"",
                                 metadata->regions[twice].name);
        }
        uint32_t *from = sorting.from;
        sorting.from = sorting.to;
        sorting.to = from;
    }
    return LEND_OK;
}

/* ---- Decoding: the whole ---- */

static void destroy_metadata(struct lend_metadata *metadata)
{
    lend_sys->release(metadata);
}
LEND_AUTO_DEFINE(lend_metadata, destroy_metadata)

/* Allocate once: the metadata, its regions, the order of their names, the strings. */
static struct lend_metadata *allocate_metadata(struct unpacking *unpacking, uint32_t **out_order)
{
    size_t count = unpacking->region_count;
    size_t order_at = sizeof(struct lend_metadata) + count * sizeof(struct lend_metadata_region);
    size_t text_at = order_at + 2 * count * sizeof(uint32_t);
    uint8_t *memory = lend_sys->allocate(text_at + unpacking->text_bytes);

    if (memory == NULL)
        return NULL;
    *out_order = (uint32_t *)(void *)(memory + order_at);
    *unpacking = (struct unpacking){
        .regions = (struct lend_metadata_region *)(void *)(memory + sizeof(struct lend_metadata)),
        .region_room = unpacking->region_count,
        .text = (char *)(memory + text_at),
        .text_room = unpacking->text_bytes,
    };
    return (struct lend_metadata *)(void *)memory;
}

static enum lend_status fill_in(struct lend_metadata *made, const struct sections *sections,
                                struct unpacking *unpacking, struct lend_error *error)
{
    enum lend_status status =
        read_agent(sections->bodies[SECTION_AGENT - SECTION_AGENT], made, error);

    if (status == LEND_OK)
        status = read_transports(sections->bodies[SECTION_TRANSPORTS - SECTION_AGENT], made, error);
    if (status == LEND_OK)
        status = unpack_regions(unpacking, error);
    made->is_partial = sections->is_partial;
    made->regions = unpacking->regions;
    made->region_count = unpacking->region_count;
    return status;
}

enum lend_status lend_metadata_decode(const void *bytes, size_t count, struct lend_metadata **out,
                                      struct lend_error *error)
{
    struct lend_reader reader;
    struct sections sections = {0};

    if (count > LEND_METADATA_BYTES_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "metadata of %zu bytes, over the limit of %u",
                         count, LEND_METADATA_BYTES_MAX);
    enum lend_status status = lend_envelope_open(&envelope, bytes, count, &reader, error);
    if (status == LEND_OK)
        status = find_sections(&reader, &sections, error);
    if (status != LEND_OK)
        return status;

    struct lend_reader regions = sections.bodies[SECTION_REGIONS - SECTION_AGENT];
    struct unpacking unpacking = {
        .reader = regions,
        .region_room =
            min_u32(LEND_METADATA_REGIONS_MAX, (uint32_t)regions.left / MEMBER_BYTES_MIN),
    };
    status = unpack_regions(&unpacking, error);
    if (status != LEND_OK)
        return status;

    uint32_t *order = NULL;
    LEND_AUTO(lend_metadata) struct lend_metadata *made = allocate_metadata(&unpacking, &order);
    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for metadata of %u regions",
                         unpacking.region_count);
    unpacking.reader = regions;
    status = fill_in(made, &sections, &unpacking, error);
    if (status == LEND_OK)
        status = check_names(made, order, error);
    if (status != LEND_OK)
        return status;

    *out = LEND_TAKE(made);
    return LEND_OK;
}
