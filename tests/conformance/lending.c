/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include <sched.h>

void expect_at(enum lend_status got, enum lend_status wanted, const struct lend_error *error,
               const char *file, int line)
{
    const char *message = error != NULL ? error->message : "";

    if (got != wanted) {
        print_error("%s, not %s: %s\n", lend_status_name(got), lend_status_name(wanted), message);
        _fail(file, line);
    }
    if (got < 0 && error != NULL && (message[0] == '\0' || error->status != (int32_t)got)) {
        print_error("%s with status %d and the message \"%s\"\n", lend_status_name(got),
                    error->status, message);
        _fail(file, line);
    }
}

void says_at(const struct lend_error *error, const char *text, const char *file, int line)
{
    if (strstr(error->message, text) == NULL) {
        print_error("\"%s\" does not say \"%s\"\n", error->message, text);
        _fail(file, line);
    }
}

static uint64_t pattern_word(uint64_t seed, uint64_t index)
{
    uint64_t mixed = (seed * UINT64_C(0x9E3779B97F4A7C15)) ^ (index * UINT64_C(0xD1B54A32D192ED03));

    mixed ^= mixed >> 29;
    mixed *= UINT64_C(0xBF58476D1CE4E5B9);
    return mixed ^ (mixed >> 32);
}

static uint8_t pattern_byte(uint64_t seed, uint64_t offset)
{
    return (uint8_t)(pattern_word(seed, offset / 8) >> (offset % 8 * 8));
}

static uint8_t *room_for(uint64_t bytes)
{
    uint8_t *room = malloc(bytes);

    if (room == NULL)
        abort(); /* and no assertion: threads of tests come here */
    return room;
}

uint8_t *memory_copy(const void *memory, uint64_t bytes)
{
    uint8_t *copy = room_for(bytes);

    memory_get(copy, memory, bytes);
    return copy;
}

void memory_set(void *memory, int value, uint64_t bytes)
{
    uint8_t *copy = room_for(bytes);

    memset(copy, value, bytes);
    memory_put(memory, copy, bytes);
    free(copy);
}

bool is_filled(const void *memory, uint64_t bytes, uint8_t value)
{
    uint8_t *copy = memory_copy(memory, bytes);
    uint64_t right = 0;

    while (right < bytes && copy[right] == value)
        right++;
    free(copy);
    return right == bytes;
}

void pattern_fill(void *memory, uint64_t bytes, uint64_t seed)
{
    uint8_t *copy = room_for(bytes);

    for (uint64_t offset = 0; offset < bytes; offset++)
        copy[offset] = pattern_byte(seed, offset);
    memory_put(memory, copy, bytes);
    free(copy);
}

bool pattern_is(const void *memory, uint64_t bytes, uint64_t seed)
{
    uint8_t *copy = memory_copy(memory, bytes);
    uint64_t right = 0;

    while (right < bytes && copy[right] == pattern_byte(seed, right))
        right++;
    free(copy);
    return right == bytes;
}

void same_at(const void *one, const void *other, uint64_t bytes, const char *file, int line)
{
    uint8_t *first = memory_copy(one, bytes), *second = memory_copy(other, bytes);
    uint64_t same = 0;

    while (same < bytes && first[same] == second[same])
        same++;
    if (same < bytes) {
        print_error("byte %llu of %llu: 0x%02x, not 0x%02x\n", (unsigned long long)same,
                    (unsigned long long)bytes, first[same], second[same]);
        _fail(file, line);
    }
    free(first);
    free(second);
}

void meet(struct pair *pair)
{
    static uint8_t bytes[256 << 10];
    struct lend_import_desc desc = battery_import(pair->setup, true);
    struct lend_error error = {0};
    struct lend_peer *peer = NULL;
    size_t count = 0;

    EXPECT(owner_metadata(pair, bytes, sizeof bytes, &count), LEND_OK, NULL);
    EXPECT(lend_peer_import_with(pair->reader, bytes, count, &desc, &peer, &error), LEND_OK,
           &error);
    if (pair->peer_references > 0)
        assert_ptr_equal(peer, pair->peer);
    pair->peer = peer;
    pair->peer_references++;
}

/* From the first byte of the first block to the last one of the last. */
static uint64_t extent_of(struct lend_geometry *geometry)
{
    if (geometry->inner_count == 0)
        geometry->inner_count = 1;
    if (geometry->stride_bytes == 0)
        geometry->stride_bytes = geometry->block_length_bytes * geometry->inner_count;
    return (geometry->count - 1) * geometry->stride_bytes +
           (geometry->inner_count - 1) * geometry->inner_stride_bytes +
           geometry->block_length_bytes;
}

static struct loan describe_loan(struct pair *pair, struct lend_geometry geometry,
                                 enum pair_end end, struct lend_region_desc *desc)
{
    struct loan loan = {.bytes = extent_of(&geometry), .geometry = geometry};
    struct lend_error error = {0};

    loan.memory = pair_memory(pair, end, loan.bytes);
    EXPECT(pair_describe(pair, loan.memory, loan.bytes, &desc->memory, &error), LEND_OK, &error);
    desc->geometry = geometry;
    return loan;
}

struct loan lend_memory_of(struct pair *pair, struct lend_geometry geometry, uint32_t access,
                           const char *name)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct loan loan = describe_loan(pair, geometry, PAIR_OWNER, &desc);
    struct lend_region_info info = {0};
    struct lend_error error = {0};

    desc.access = access;
    desc.name = name;
    EXPECT(owner_register(pair, &desc, 1, &loan.region, &error), LEND_OK, &error);
    EXPECT(owner_describe_region(pair, loan.region, &info), LEND_OK, NULL);
    loan.id = info.id;
    meet(pair);
    return loan;
}

struct lend_ticket *fetch_ticket(struct pair *pair, struct lend_lease *lease)
{
    uint8_t bytes[LEND_TICKET_BYTES_MAX];
    struct lend_ticket *ticket = NULL;
    struct lend_error error = {0};
    size_t count = 0;

    EXPECT(owner_export(pair, lease, bytes, &count), LEND_OK, NULL);
    EXPECT(lend_ticket_import(pair->peer, bytes, count, &ticket, &error), LEND_OK, &error);
    return ticket;
}

void lend_range(struct pair *pair, struct loan *loan, uint32_t access, uint64_t first,
                uint64_t count)
{
    struct lend_block_set set = {
        .regions = &loan->region, .region_count = 1, .first = first, .count = count};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_error error = {0};

    grant.sets = &set;
    grant.set_count = 1;
    grant.access = access;
    grant.time_to_live_ns = 60 * SECONDS;
    EXPECT(owner_grant(pair, &grant, &loan->lease, &error), LEND_OK, &error);
    loan->ticket = fetch_ticket(pair, loan->lease);
}

struct loan lend_blocks(struct pair *pair, uint64_t block_bytes, uint64_t count, uint32_t access)
{
    struct lend_geometry geometry = {.block_length_bytes = block_bytes, .count = count};
    struct loan loan = lend_memory_of(pair, geometry, access, NULL);

    pattern_fill(loan.memory, loan.bytes, 1);
    lend_range(pair, &loan, access, 0, 0);
    return loan;
}

static struct lend_region *kept; /* the last that the reader has registered */

struct loan keep_geometry(struct pair *pair, struct lend_geometry geometry)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct loan loan = describe_loan(pair, geometry, PAIR_READER, &desc);
    struct lend_error error = {0};

    EXPECT(lend_region_register(pair->reader, &desc, 1, &loan.region, NULL, &error), LEND_OK,
           &error);
    loan.id = lend_region_id(loan.region);
    assert_true(loan.id != 0);
    kept = loan.region;
    return loan;
}

struct loan keep_blocks(struct pair *pair, uint64_t block_bytes, uint64_t count)
{
    return keep_geometry(pair,
                         (struct lend_geometry){.block_length_bytes = block_bytes, .count = count});
}

void drop(struct loan *loan)
{
    lend_ticket_release(loan->ticket);
    loan->ticket = NULL;
}

/* Can it be taken, or never? What tells of it may still be on its way. */
static bool is_path_known(struct pair *pair, const char *name, uint32_t direction,
                          uint64_t remote_region)
{
    struct lend_path_info infos[LEND_PATHS_MAX] = {{.struct_size = sizeof infos[0]}};
    uint32_t count = 0;

    /* Both ends are to be memory of GPUs. */
    if (lend_explain(pair->peer, pair_is_opened(pair) ? kept : NULL, remote_region, direction,
                     infos, LEND_PATHS_MAX, &count, NULL) != LEND_OK)
        return true;
    for (uint32_t index = 0; index < count; index++)
        if (strcmp(infos[index].name, name) == 0)
            return infos[index].status != LEND_PENDING && infos[index].status != LEND_E_NO_PATH;
    return true;
}

/* Is the region another one by now than the reader knows? */
static bool has_moved_on(struct pair *pair, const struct loan *remote)
{
    struct lend_region_info info = {0}, known = {0};

    if (owner_describe_region(pair, remote->region, &info) != LEND_OK || info.is_withdrawn != 0)
        return true;
    for (uint32_t index = 0; known.id != remote->id; index++) {
        known.struct_size = sizeof known;
        if (lend_peer_region_at(pair->peer, index, &known, NULL) != LEND_OK)
            return true;
    }
    return known.life != info.life;
}

const char *pair_paths(struct pair *pair, uint32_t direction, const struct loan *remote)
{
    const char *path = pair_path(pair, direction);
    uint64_t deadline = pair_now_ns() + 2 * SECONDS;

    if ((direction != LEND_READ && !pair_is_remote(pair)) || pair_is_served(pair) ||
        pair_connect(pair, NULL) != LEND_OK)
        return pair_must_name(pair);
    while (!is_path_known(pair, path, direction, remote->id) && pair_now_ns() < deadline) {
        if (pair_is_shared(pair) && has_moved_on(pair, remote))
            return pair_is_opened(pair) ? "local/cuda,local/staged" : "local/mapped,local/served";
        pair_pump(pair);
        (void)sched_yield();
    }
    /* A write to blocks in many pieces is served. */
    return direction == LEND_READ ? path : pair_must_name(pair);
}

enum lend_status move_prepare(struct pair *pair, struct move *move, struct lend_transfer **out)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;

    desc.flags = move->flags;
    desc.direction = move->direction;
    desc.region_count = 1;
    desc.peer = pair->peer;
    desc.local_regions = &move->local->region;
    desc.remote_regions = &move->remote->id;
    desc.local_slice = move->local_slice;
    desc.remote_slice = move->remote_slice;
    desc.block_count_max = move->count;
    desc.paths = pair_paths(pair, move->direction, move->remote);
    move->may_be_served = desc.paths != NULL && strchr(desc.paths, ',') != NULL;
    return lend_transfer_prepare(pair->reader, &desc, out, &move->error);
}

enum lend_status move_post(struct move *move, struct lend_transfer *transfer)
{
    struct lend_post_desc post = LEND_POST_DESC_INIT;

    post.index_bits = move->index_bits;
    post.ticket = move->ticket != NULL ? move->ticket : move->remote->ticket;
    post.local_blocks = move->local_blocks;
    post.remote_blocks = move->remote_blocks;
    post.block_count = move->count;
    post.notification = move->notification;
    post.notification_bytes = move->notification_bytes;
    post.timeout_ns = move->timeout_ns;
    post.user_data = move->user_data;
    return lend_transfer_post(transfer, &post, &move->error);
}

enum lend_status move_finish(struct pair *pair, struct move *move, struct lend_transfer *transfer)
{
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    enum lend_status status = LEND_PENDING;

    if (pair_is_manual(pair) && !pair_is_apart(pair)) {
        while ((status = lend_transfer_test(transfer)) == LEND_PENDING && pair_now_ns() < deadline)
            pair_pump(pair);
    } else {
        status = lend_transfer_wait(transfer, PAIR_PATIENCE_NS);
    }
    if (status == LEND_PENDING)
        fail_msg("still under way after %llu s", (unsigned long long)(PAIR_PATIENCE_NS / SECONDS));

    memset(&move->error, 0, sizeof move->error);
    move->record.struct_size = sizeof move->record;
    EXPECT(lend_transfer_describe(transfer, &move->record, &move->error), LEND_OK, NULL);
    assert_int_equal(move->record.status, status);
    EXPECT(status, status, &move->error);
    if (status == LEND_OK && !move->may_be_served)
        assert_string_equal(move->record.path, pair_path(pair, move->direction));
    return status;
}

enum lend_status move_all(struct pair *pair, struct move *move)
{
    struct lend_transfer *transfer = NULL;
    enum lend_status status = move_prepare(pair, move, &transfer);

    if (status != LEND_OK)
        return status;
    status = move_post(move, transfer);
    if (status == LEND_OK)
        status = move_finish(pair, move, transfer);
    EXPECT(lend_transfer_release(transfer), LEND_OK, NULL);
    return status;
}

enum lend_status read_blocks(struct pair *pair, const struct loan *local, const struct loan *remote,
                             uint64_t count)
{
    static int32_t blocks[65536];
    struct move move = {.direction = LEND_READ,
                        .local = local,
                        .remote = remote,
                        .local_blocks = blocks,
                        .remote_blocks = blocks,
                        .count = count};

    assert_true(count <= sizeof blocks / sizeof blocks[0]);
    for (uint64_t index = 0; index < count; index++)
        blocks[index] = (int32_t)index;
    return move_all(pair, &move);
}
