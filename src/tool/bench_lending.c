/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_network.h"

#include "tool/pattern.h"
#include "tool/trouble.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CELL_BYTES = 512 };

const char *const bench_paths[BENCH_PATHS] = {"local/served", "local/mapped", "local/cross-memory"};

void lending_add(struct lending *lending, uint64_t block_bytes, uint64_t block_count)
{
    uint32_t which = lending->layout_count++;
    struct layout *layout = &lending->layouts[which];

    *layout = (struct layout){.block_bytes = block_bytes, .block_count = block_count};
    (void)snprintf(layout->name, sizeof layout->name, "%" PRIu32 ":%" PRIu64, which, block_bytes);
    if (block_bytes * block_count > lending->bytes)
        lending->bytes = block_bytes * block_count;
}

static void describe(const struct layout *layout, uint32_t access, struct lend_region_desc *desc)
{
    desc->geometry.block_length_bytes = layout->block_bytes;
    desc->geometry.count = layout->block_count;
    desc->access = access;
    desc->name = layout->name;
}

/* --- the owner --- */

static void register_lent(struct lend_agent *agent, const struct lending *lending,
                          const struct lent *lent, struct lend_region **out)
{
    struct lend_region_desc descs[BENCH_LAYOUTS_MAX];
    struct lend_error error;

    for (uint32_t i = 0; i < lending->layout_count; i++) {
        const struct layout *layout = &lending->layouts[i];

        lend_region_desc_init(&descs[i]);
        lent_describe(lent, &descs[i], layout->block_bytes * layout->block_count);
        describe(layout, LEND_ACCESS_READ | LEND_ACCESS_WRITE, &descs[i]);
    }
    must(lend_region_register(agent, descs, lending->layout_count, out, NULL, &error), &error);
}

static struct lend_agent *open_agent(const struct lending *lending, int which, const char *name)
{
    if (lending->network == NULL)
        return must_open_agent(name, 0);
    network_enter(lending->network, which);
    return network_open_agent(lending->network, which, name);
}

/* The owner's whole life: lend, tell, and wait until the channel is closed. */
static void lend_until_closed(struct pair *pair, void *context)
{
    struct borrowing *borrowing = context;
    struct lending *lending = &borrowing->lending;
    struct hello *hello = &borrowing->hello;
    struct lend_region *regions[BENCH_LAYOUTS_MAX];
    const struct network *network = lending->network;
    struct raw_sender sender;
    struct lend_error error;
    struct lent lent;
    char nothing;

    lent_open(&lent, lending->bytes);
    struct lend_agent *agent = open_agent(lending, NETWORK_OWNER, "bench-owner");
    register_lent(agent, lending, &lent, regions);
    struct lend_lease *lease =
        must_grant(agent, regions, lending->layout_count, LEND_ACCESS_READ | LEND_ACCESS_WRITE);
    must(lend_metadata_export(agent, hello->metadata, sizeof hello->metadata,
                              &hello->metadata_bytes, &error),
         &error);
    must(lend_ticket_export(lease, hello->ticket, sizeof hello->ticket, &hello->ticket_bytes,
                            &error),
         &error);
    hello->address = (uintptr_t)lent.address;
    hello->fd = lend_storage_fd(lent.storage);
    if (network != NULL) {
        raw_sender_begin(&sender, network_address(network, NETWORK_OWNER), lent.address);
        hello->raw_port = sender.port;
    }
    pair_say(pair, hello, sizeof *hello);
    if (network == NULL) {
        (void)pair_hears(pair, &nothing, sizeof nothing);
    } else {
        network_attend(network, pair, agent);
        raw_sender_end(&sender);
    }
    lend_agent_destroy(agent);
    lent_close(&lent);
    free(borrowing);
}

/* --- the borrower --- */

static void register_own(struct borrowing *borrowing)
{
    struct lend_region_desc descs[BENCH_LAYOUTS_MAX];
    const struct lending *lending = &borrowing->lending;
    struct lend_error error;

    for (uint32_t i = 0; i < lending->layout_count; i++) {
        const struct layout *layout = &lending->layouts[i];

        lend_region_desc_init(&descs[i]);
        must(lend_memory_system(borrowing->memory, layout->block_bytes * layout->block_count,
                                &descs[i].memory, &error),
             &error);
        describe(layout, 0, &descs[i]);
    }
    must(lend_region_register(borrowing->agent, descs, lending->layout_count, borrowing->regions,
                              NULL, &error),
         &error);
}

static void meet(struct borrowing *borrowing)
{
    const struct hello *hello = &borrowing->hello;
    struct lend_error error;

    must(lend_peer_import(borrowing->agent, hello->metadata, hello->metadata_bytes,
                          &borrowing->owner, &error),
         &error);
    must(lend_ticket_import(borrowing->owner, hello->ticket, hello->ticket_bytes,
                            &borrowing->ticket, &error),
         &error);
    must(lend_peer_connect(borrowing->owner, bench_timeout_ns, &error), &error);
}

static void part(struct borrowing *borrowing)
{
    lend_ticket_release(borrowing->ticket);
    lend_peer_forget(borrowing->owner);
}

void borrowing_meet_again(struct borrowing *borrowing)
{
    part(borrowing);
    meet(borrowing);
}

const unsigned char *borrowing_map(const struct borrowing *borrowing)
{
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)borrowing->pair.other,
                   borrowing->hello.fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    must_sys(fd >= 0, "the owner's file, to be mapped beside");
    void *seen = mmap(NULL, borrowing->lending.bytes, PROT_READ, MAP_SHARED, fd, 0);
    must_sys(seen != MAP_FAILED, "the owner's file, to be mapped beside");
    (void)close(fd);
    return seen;
}

void borrowing_begin(struct borrowing *borrowing)
{
    pair_begin(&borrowing->pair, lend_until_closed, borrowing);
    borrowing->memory = must_map(borrowing->lending.bytes);
    borrowing->scratch = must_map(borrowing->lending.bytes);
    borrowing->agent = open_agent(&borrowing->lending, NETWORK_READER, "bench-reader");
    register_own(borrowing);
    pair_hear(&borrowing->pair, &borrowing->hello, sizeof borrowing->hello);
    borrowing->seen = borrowing_map(borrowing);
    meet(borrowing);
}

static void unmap(const unsigned char *memory, uint64_t bytes)
{
    (void)munmap((void *)(uintptr_t)memory, bytes);
}

void borrowing_end(struct borrowing *borrowing)
{
    part(borrowing);
    lend_agent_destroy(borrowing->agent);
    pair_end(&borrowing->pair);
    unmap(borrowing->memory, borrowing->lending.bytes);
    unmap(borrowing->scratch, borrowing->lending.bytes);
    unmap(borrowing->seen, borrowing->lending.bytes);
}

/* --- pieces --- */

void pieces_scatter(struct pieces *pieces, uint64_t block_bytes, uint64_t count)
{
    *pieces = (struct pieces){
        .block_bytes = block_bytes,
        .count = count,
        .local = must_permute(count, 1),
        .remote = must_permute(count, 2),
    };
}

void pieces_line_up(struct pieces *pieces, uint64_t block_bytes, uint64_t count)
{
    *pieces = (struct pieces){
        .block_bytes = block_bytes,
        .count = count,
        .local = must_allocate(count, sizeof *pieces->local),
        .remote = must_allocate(count, sizeof *pieces->remote),
    };
    for (uint64_t i = 0; i < count; i++)
        pieces->local[i] = pieces->remote[i] = (int32_t)i;
}

void pieces_free(struct pieces *pieces)
{
    free(pieces->local);
    free(pieces->remote);
    *pieces = (struct pieces){0};
}

/* --- transfers --- */

struct lend_transfer *borrowing_prepare(struct borrowing *borrowing, uint32_t layout,
                                        uint32_t direction, const char *path,
                                        struct lend_error *why)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error;
    uint64_t remote = 0;

    must(lend_peer_region(borrowing->owner, borrowing->lending.layouts[layout].name, &remote,
                          &error),
         &error);
    desc.direction = direction;
    desc.peer = borrowing->owner;
    desc.region_count = 1;
    desc.local_regions = &borrowing->regions[layout];
    desc.remote_regions = &remote;
    desc.block_count_max = borrowing->lending.layouts[layout].block_count;
    desc.paths = path;

    enum lend_status status = lend_transfer_prepare(borrowing->agent, &desc, &transfer, why);
    if (status == LEND_E_NO_PATH || status == LEND_E_UNSUPPORTED)
        return NULL;
    must(status, why);
    return transfer;
}

double borrowing_move(struct borrowing *borrowing, struct lend_transfer *transfer,
                      const struct pieces *pieces, double *out_post_ns)
{
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    struct lend_error error;

    desc.ticket = borrowing->ticket;
    desc.local_blocks = pieces->local;
    desc.remote_blocks = pieces->remote;
    desc.block_count = pieces->count;
    uint64_t began = now_ns();
    enum lend_status status = lend_transfer_post(transfer, &desc, &error);
    uint64_t posted = now_ns();
    must(status, &error);
    status = lend_transfer_wait(transfer, bench_timeout_ns);
    uint64_t ended = now_ns();

    if (status != LEND_OK) {
        struct lend_transfer_record record = {.struct_size = sizeof record};

        error = (struct lend_error){.status = status, .message = "the transfer did not end"};
        (void)lend_transfer_describe(transfer, &record, &error);
        must(status, &error);
    }
    if (out_post_ns != NULL)
        *out_post_ns = (double)(posted - began);
    return (double)(ended - began);
}

static void fill(unsigned char *memory, uint64_t bytes, uint32_t generation)
{
    for (uint64_t at = 0; at + CELL_BYTES <= bytes; at += CELL_BYTES) {
        uint64_t cell = at / CELL_BYTES;
        struct mark mark = {.owner = 1,
                            .region = (uint32_t)(cell / PATTERN_BLOCKS_MAX),
                            .block = (uint32_t)(cell % PATTERN_BLOCKS_MAX),
                            .generation = generation};

        pattern_fill(memory + at, CELL_BYTES, &mark);
    }
}

uint64_t borrowing_verify(struct borrowing *borrowing, struct lend_transfer *transfer,
                          uint32_t direction, const struct pieces *pieces, const char *path,
                          struct lend_error *why)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};
    uint64_t block_bytes = pieces->block_bytes;
    struct lend_error error;

    if (direction == LEND_READ)
        memset(borrowing->memory, 0, borrowing->lending.bytes);
    else
        fill(borrowing->memory, borrowing->lending.bytes, ++borrowing->generation);
    (void)borrowing_move(borrowing, transfer, pieces, NULL);
    must(lend_transfer_describe(transfer, &record, &error), &error);
    if (strcmp(record.path, path) != 0) {
        (void)trouble(why, LEND_E_NO_PATH, "it took %s instead", record.path);
        return 0;
    }
    for (uint64_t i = 0; i < pieces->count; i++) {
        const unsigned char *ours = borrowing->memory + (uint64_t)pieces->local[i] * block_bytes;
        const unsigned char *theirs = borrowing->seen + (uint64_t)pieces->remote[i] * block_bytes;

        if (memcmp(ours, theirs, block_bytes) != 0)
            must(trouble(&error, LEND_E_CORRUPT,
                         "%s: the bytes of block %" PRId32 " are wrong after a transfer that "
                         "succeeded",
                         record.path, pieces->remote[i]),
                 &error);
    }
    if (record.bytes != pieces->count * block_bytes)
        must(trouble(&error, LEND_E_CORRUPT, "%s: %" PRIu64 " bytes were told, not %" PRIu64,
                     record.path, record.bytes, pieces->count * block_bytes),
             &error);
    return record.bytes;
}
