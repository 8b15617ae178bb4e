/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_WIRE_METADATA_H
#define LEND_WIRE_METADATA_H

#include <lend/region.h>

#include <stdbool.h>

/*
 * The bytes of metadata:
 *
 *     "LNDM" | u16 version | sections | CRC-32C of all before
 *
 * A section is {u8 type | u32 length | body}. A reader skips types below 0x80 that it does not
 * know, so that later libraries can add them without another version; from 0x80 on it refuses them
 * (LEND_E_VERSION). The first three of these stand once each, in any order, and the last at most
 * once:
 *
 *     0x81 agent       name | incarnation | u64 serial
 *     0x82 transports  {name | u16 length | address} ..., to the end of the section
 *     0x83 regions     varint count of regions | rows
 *     0x84 partial     nothing: the regions are some of the agent's, and there may be others
 *
 * A name is {u8 length | bytes}. A row is a run of like regions, whose ids follow one another:
 *
 *     varint how many | varint first id, less the id before it | u8 kind | u8 access | u32 device |
 *     varint length | varint block length, stride, count, inner stride, inner count |
 *     varint flags | varint life | varint file | zigzag varint of file offset - address, if there
 *     is a file | tags {u8 length | bytes} | members
 *
 * and each member says wherein a region differs from the one before it, in this row or the last:
 *
 *     zigzag varint of the difference of addresses |
 *     u8 bytes that its name shares with the name before | u8 bytes of its own | those bytes
 */

enum {
    LEND_METADATA_VERSION = 1,
    LEND_METADATA_TRANSPORTS_MAX = 16,
    LEND_METADATA_ADDRESS_MAX = 512,
    LEND_METADATA_REGIONS_MAX = 1 << 20,
    LEND_TRANSPORT_NAME_MAX = 15,
};

/* What peers are told of a region's flags. */
enum { LEND_METADATA_FLAGS = LEND_REGION_PREFER_CROSS_MEMORY };

struct lend_metadata_transport {
    char name[LEND_TRANSPORT_NAME_MAX + 1];
    uint32_t address_bytes;
    uint8_t address[LEND_METADATA_ADDRESS_MAX];
};

/* A region as a peer sees it. The strings are never NULL; whose they are depends on who made the
 * struct. */
struct lend_metadata_region {
    uint64_t id; /* > 0, ascending in the list */
    uint32_t kind;
    int32_t device;
    uint32_t access;
    uint64_t address;
    uint64_t length_bytes;
    struct lend_geometry geometry; /* complete: lend_geometry_complete() has passed over it */
    uint32_t flags;                /* of ::lend_region_flag, those of LEND_METADATA_FLAGS */
    uint32_t life;                 /* how many times it was resumed */
    uint32_t file;                 /* the number of the agent's file that peers may map; 0: none */
    uint64_t file_offset_bytes;    /* of its first byte in that file */
    const char *name;              /* at most LEND_REGION_NAME_BYTES_MAX; "" for none */
    const char *tags;              /* at most LEND_REGION_TAGS_BYTES_MAX */
};

struct lend_metadata {
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint64_t serial; /* grows with every change of the agent's regions */
    bool is_partial; /* the regions are some of the agent's */
    uint32_t transport_count;
    struct lend_metadata_transport transports[LEND_METADATA_TRANSPORTS_MAX];
    uint32_t region_count;
    const struct lend_metadata_region *regions;
};

/* How many bytes it takes; written if that is at most capacity. */
size_t lend_metadata_encode(const struct lend_metadata *metadata, void *bytes, size_t capacity);

/*
 * Decode untrusted bytes into one allocation, with every region and string in it; give it back with
 * lend_sys->release(). It is made only for bytes whose regions are all in order, and never takes
 * more than 64 times count and what a struct lend_metadata takes.
 *
 * Of what is accepted: names and tags are printable, and region names that are not "" are unique.
 * Ids ascend. Every region has a valid range (no wrap, within LEND_MEMORY_BYTES_MAX), a known kind,
 * an access right, and a geometry that lend_geometry_complete() has passed over for its length.
 * LEND_E_CORRUPT, LEND_E_VERSION, LEND_E_NO_MEMORY: out is untouched.
 */
enum lend_status lend_metadata_decode(const void *bytes, size_t count, struct lend_metadata **out,
                                      struct lend_error *error);

/*
 * What is known of an agent, and what it told besides, as one, not partial; give it back as that of
 * lend_metadata_decode(). Of two lives of a region the later one stays, and of two regions of one
 * name that with the higher id, which was registered later. LEND_E_LIMIT: it is too much to be
 * told. LEND_E_CORRUPT, LEND_E_NO_MEMORY.
 */
enum lend_status lend_metadata_merge(const struct lend_metadata *known,
                                     const struct lend_metadata *told, struct lend_metadata **out,
                                     struct lend_error *error);

#endif
