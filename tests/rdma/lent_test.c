/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what an owner of lend has taken back is out of a hostile peer's reach, by its provider and
 * nothing else. The peer keeps the keys that the owner's agent gave it, and writes and reads with
 * them as fast as it can, with work requests under way at the moment when the owner takes back;
 * once lend_lease_revoke() or lend_region_withdraw() has returned, not one byte of the memory
 * changes, and what the owner writes then is read by nobody.
 * Method: the peer is an agent of lend under manual progress, in a process of its own. What its
 * rail was told (GRANT, KEYS) it uses in raw work requests on the rail's own queue pairs, while its
 * agent, which would heed the owner, gets no progress. The owner uses the memory at once for
 * something else, and compares it byte for byte when all of the peer's work requests have ended.
 * 100 rounds of each (1,000 with LEND_TIMES=10; LEND_SCALE). In each the agent has transferred by
 * verbs before, by other keys; at the end the key of the first round is tried once more.
 */
#include "../acts/acts.h"
#include "hostile.h"

#include "core/peer.h"
#include "core/session.h"
#include "transport/verbs/verbs.h"

#include <sched.h>

enum {
    ROUNDS = 100,
    DELAY_NS = 300000,
    IDLE_MAX = 4, /* rounds to do again for each that counts */
    BLOCKS = HOSTILE_BYTES / LINE_PACKET,
    BYTES = HOSTILE_BYTES,
    FIRST_BYTE = 0x11,
    LENT_BYTE = 0x22, /* what the peer writes while it may, */
    READ_BYTE = 0x33, /* and what it reads */
};

enum order { IMPORT, TRANSFER, FLOOD, LATE, LEAVE };

/* What both processes see. */
struct shared {
    struct acts_turn asked, answered;
    enum order order;
    uint32_t direction; /* of TRANSFER and FLOOD */
    uint64_t region_id;
    struct acts_blob metadata, ticket;
    atomic_uint begun; /* the owner takes back */
    struct hostile_report report;
    bool is_good;
    uint8_t memory[BYTES]; /* the peer's */
};

/* --- the hostile peer --- */

struct peer {
    struct shared *shared;
    struct lend_agent *agent;
    struct lend_region *region;
    struct lend_peer *owner;
    struct ibv_mr *local; /* of that memory, for raw work */
    struct hostile_keys kept[2], first[2];
};

static struct lend_verbs_rail *rail_of(const struct peer *peer)
{
    return lend_verbs_rail_of(peer->owner->session->rail);
}

static bool open_peer(struct peer *peer, const struct acts_directory *directory)
{
    struct lend_agent_config config = acts_config("hostile", directory);
    struct acts_region region = {
        .memory = peer->shared->memory, .block_bytes = LINE_PACKET, .count = BLOCKS};
    struct lend_error error = {0};

    config.transports = config.transports_required = "local,verbs";
    config.verbs_devices = line_device(1);
    config.flags = LEND_AGENT_MANUAL_PROGRESS;
    if (!acts_ok(lend_agent_create(&config, &peer->agent, &error), &error, "agent") ||
        !acts_register(peer->agent, &region, LEND_ACCESS_READ | LEND_ACCESS_WRITE))
        return false;
    peer->region = region.region;
    return true;
}

/* The owner's metadata as it is now, and queue pairs. */
static bool import(struct peer *peer)
{
    const struct acts_blob *blob = &peer->shared->metadata;
    struct lend_error error = {0};
    enum lend_status status;

    status = peer->owner == NULL
                 ? lend_peer_import(peer->agent, blob->bytes, blob->count, &peer->owner, &error)
                 : lend_peer_refresh(peer->owner, blob->bytes, blob->count, &error);
    if (status == LEND_OK)
        status = lend_peer_connect(peer->owner, ACTS_PATIENCE_NS, &error);
    return acts_ok(status, &error, "import");
}

static bool prepare(struct peer *peer, struct lend_transfer **out)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error = {0};

    desc.peer = peer->owner;
    desc.direction = peer->shared->direction;
    desc.local_regions = &peer->region;
    desc.remote_regions = &peer->shared->region_id;
    desc.region_count = 1;
    desc.block_count_max = BLOCKS;
    desc.paths = desc.direction == LEND_READ ? "verbs/read" : "verbs/write";
    return acts_ok(lend_transfer_prepare(peer->agent, &desc, out, &error), &error, "prepare");
}

/* What the rail was told, of that direction. */
static bool keep(struct peer *peer)
{
    bool is_read = peer->shared->direction == LEND_READ;
    struct lend_verbs_rail *rail = rail_of(peer);
    const struct lend_verbs_piece *piece = NULL;

    for (uint32_t i = 0; is_read && i < rail->bucket_count; i++)
        for (const struct lend_verbs_far *it = rail->buckets[i]; it != NULL; it = it->next)
            if (it->told.region_id == peer->shared->region_id)
                piece = &it->told.pieces[0];
    for (uint32_t i = 0; !is_read && i < LEND_VERBS_ENTRY_BUCKETS; i++)
        for (const struct lend_verbs_entry *it = rail->entries[i]; it != NULL; it = it->next)
            if (it->piece_count == 1)
                piece = &it->pieces[0];
    if (piece == NULL || piece->bytes < BYTES)
        return false;
    peer->kept[is_read] =
        (struct hostile_keys){.address = piece->address, .key = piece->rkey, .bytes = BYTES};
    if (peer->first[is_read].bytes == 0)
        peer->first[is_read] = peer->kept[is_read];
    return true;
}

/* As honest peers do; then keep the keys. */
static bool transfer(struct peer *peer)
{
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_ticket *ticket = NULL;
    struct lend_transfer *transfer = NULL;
    struct lend_error error = {0};
    int32_t blocks[BLOCKS];

    for (int32_t i = 0; i < BLOCKS; i++)
        blocks[i] = i;
    memset(peer->shared->memory, LENT_BYTE, BYTES);
    if (!acts_ok(lend_ticket_import(peer->owner, peer->shared->ticket.bytes,
                                    peer->shared->ticket.count, &ticket, &error),
                 &error, "ticket") ||
        !prepare(peer, &transfer))
        return false;
    post.ticket = ticket;
    post.local_blocks = post.remote_blocks = blocks;
    post.block_count = BLOCKS;
    enum lend_status status = lend_transfer_post(transfer, &post, &error);
    if (status == LEND_OK)
        status = lend_transfer_wait(transfer, ACTS_PATIENCE_NS);
    struct lend_transfer_record record = {.struct_size = sizeof record};
    if (status != LEND_OK)
        (void)lend_transfer_describe(transfer, &record, &error);
    bool is_good = acts_ok(status, &error, "transfer") && keep(peer);
    (void)lend_transfer_release(transfer);
    lend_ticket_release(ticket);
    return is_good;
}

/* The rail's own queue pair, behind its agent's back: that which the transfer before went by, so
 * that it works. */
static struct line line_of(struct peer *peer, bool is_read)
{
    const struct lend_verbs_rail *rail = rail_of(peer);
    const uint32_t reads = rail->lane_count - 1;
    const uint32_t last = 1 + (rail->next_lane + reads - 1) % reads;
    uint32_t lane = is_read ? last : (uint32_t)LEND_VERBS_WRITE_LANE;

    return (struct line){.completions = (struct ibv_cq *)(void *)rail->cq,
                         .pair = (struct ibv_qp *)(void *)rail->pairs[lane]};
}

static bool register_raw(struct peer *peer)
{
    if (peer->local == NULL)
        peer->local = ibv_reg_mr((struct ibv_pd *)(void *)rail_of(peer)->place.nic->pd,
                                 peer->shared->memory, BYTES, IBV_ACCESS_LOCAL_WRITE);
    return peer->local != NULL;
}

static bool flood(struct peer *peer)
{
    bool is_read = peer->shared->direction == LEND_READ;
    struct line line = line_of(peer, is_read);

    peer->shared->report =
        hostile_flood(&line, peer->local, &peer->kept[is_read],
                      is_read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, &peer->shared->begun);
    return peer->shared->report.is_done;
}

/* With the key of the first round, on queue pairs that work. */
static bool come_late(struct peer *peer)
{
    bool is_read = peer->shared->direction == LEND_READ;
    const struct hostile_keys *keys = &peer->first[is_read];
    struct line line = line_of(peer, is_read);
    struct line_work work = {is_read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE,
                             peer->local,
                             keys->address,
                             keys->key,
                             keys->bytes,
                             0};

    peer->shared->report = (struct hostile_report){.status = line_do(&line, &work), .is_done = 1};
    return true;
}

static bool obey(struct peer *peer)
{
    switch (peer->shared->order) {
    case IMPORT: return import(peer);
    case TRANSFER: return transfer(peer) && register_raw(peer);
    case FLOOD: return flood(peer);
    case LATE: return come_late(peer);
    case LEAVE:
    default: return true;
    }
}

struct arguments {
    struct shared *shared;
    const struct acts_directory *directory;
};

/* Between orders it makes progress as any agent does. */
static int run(void *context)
{
    const struct arguments *arguments = context;
    struct peer peer = {.shared = arguments->shared};
    bool has_left = false;

    if (!open_peer(&peer, arguments->directory))
        return 1;
    for (uint32_t turn = 1; !has_left; turn++) {
        while (atomic_load(&peer.shared->asked.reached) < turn)
            (void)lend_agent_progress(peer.agent, ACTS_MS, NULL);
        peer.shared->is_good = obey(&peer);
        has_left = peer.shared->order == LEAVE;
        acts_turn_to(&peer.shared->answered, turn);
    }
    if (peer.local != NULL)
        (void)ibv_dereg_mr(peer.local);
    lend_agent_destroy(peer.agent);
    return 0;
}

/* --- the owner --- */

struct owner {
    struct acts_directory directory;
    struct shared *shared;
    uint32_t turn;
    pid_t process;
    struct lend_agent *agent;
    struct acts_region region;
    struct lend_lease *lease;
    uint64_t lent_ns; /* when it last made a lease */
    uint32_t rounds, again, under_way, refused;
};

static void ask(struct owner *owner, enum order order)
{
    owner->shared->order = order;
    acts_turn_to(&owner->shared->asked, ++owner->turn);
}

static void await(struct owner *owner)
{
    assert_true(acts_turn_await(&owner->shared->answered, owner->turn));
    assert_true(owner->shared->is_good);
}

static void lend_region(struct owner *owner)
{
    assert_true(acts_register(owner->agent, &owner->region, LEND_ACCESS_READ | LEND_ACCESS_WRITE));
    assert_true(acts_metadata(owner->agent, &owner->shared->metadata));
    owner->shared->region_id = owner->region.id;
    ask(owner, IMPORT);
    await(owner);
}

static void open_owner(struct owner *owner)
{
    *owner = (struct owner){.directory = acts_directory_make(),
                            .shared = acts_shared(sizeof *owner->shared)};
    struct arguments arguments = {.shared = owner->shared, .directory = &owner->directory};
    struct lend_agent_config config = acts_config("owner", &owner->directory);
    struct lend_error error = {0};

    owner->process = acts_spawn(run, &arguments); /* before this process has a device open */
    config.transports = config.transports_required = "local,verbs";
    config.verbs_devices = line_device(0);
    if (lend_agent_create(&config, &owner->agent, &error) != LEND_OK)
        fail_msg("%s", error.message);
    owner->region = (struct acts_region){
        .memory = acts_shared(BYTES), .block_bytes = LINE_PACKET, .count = BLOCKS};
    lend_region(owner);
}

static void close_owner(struct owner *owner)
{
    ask(owner, LEAVE);
    await(owner);
    assert_int_equal(acts_reap(owner->process), 0);
    lend_lease_release(owner->lease);
    lend_agent_destroy(owner->agent);
    acts_unshare(owner->region.memory, BYTES);
    acts_unshare(owner->shared, sizeof *owner->shared);
    assert_true(acts_directory_remove(&owner->directory));
}

/* In each round the peer loses its queue pairs, and calls for others: not more often than an owner
 * answers. */
static void rest(struct owner *owner)
{
    const uint64_t until = owner->lent_ns + 2 * UINT64_C(1000000000) / LEND_VERBS_CALLS_MAX;
    const uint64_t now = acts_now_ns();

    if (now < until)
        acts_delay(until - now);
    owner->lent_ns = acts_now_ns();
}

/* A lease, by which the peer transfers, and whose keys it keeps. */
static void grant(struct owner *owner, uint32_t access)
{
    rest(owner);
    lend_lease_release(owner->lease);
    owner->lease = NULL;
    assert_true(
        acts_grant(owner->agent, &owner->region, access, &owner->lease, &owner->shared->ticket));
    memset(owner->region.memory, FIRST_BYTE, BYTES);
    owner->shared->direction = access == LEND_ACCESS_READ ? LEND_READ : LEND_WRITE;
    ask(owner, TRANSFER);
    await(owner);
    if (access == LEND_ACCESS_WRITE)
        assert_true(acts_is_byte(owner->region.memory, BYTES, LENT_BYTE));
}

/* The peer floods; return in the middle of that. */
static void await_flood(struct owner *owner, struct acts_chance *chance)
{
    bool is_read = owner->shared->direction == LEND_READ;
    const volatile uint8_t *lands = is_read ? owner->shared->memory : owner->region.memory;
    uint64_t end = acts_now_ns() + ACTS_PATIENCE_NS;

    memset(owner->region.memory, READ_BYTE, BYTES);
    atomic_store(&owner->shared->begun, 0);
    ask(owner, FLOOD);
    while (*lands != (is_read ? READ_BYTE : HOSTILE_BYTE) &&
           atomic_load(&owner->shared->answered.reached) < owner->turn) {
        assert_true(acts_now_ns() < end);
        (void)sched_yield();
    }
    acts_delay(acts_chance_below(chance, DELAY_NS));
    atomic_store(&owner->shared->begun, 1);
}

/* It is the owner's alone: use it, and see that it is. */
static void use(struct owner *owner)
{
    const struct hostile_report *report = &owner->shared->report;

    memset(owner->region.memory, HOSTILE_OWNERS_BYTE, BYTES);
    await(owner);
    assert_true(acts_is_byte(owner->region.memory, BYTES, HOSTILE_OWNERS_BYTE));
    assert_int_equal(report->leaked, 0);
    assert_true(owner->again < IDLE_MAX * (owner->rounds + 10));
    if (report->early) { /* something else had stopped it before */
        owner->again++;
        return;
    }
    assert_int_not_equal(report->status, IBV_WC_SUCCESS);
    assert_true(report->others > 0);
    owner->rounds++;
    owner->under_way += report->others;
    owner->refused += report->status == IBV_WC_REM_ACCESS_ERR;
}

static void tell(const struct owner *owner, const char *what)
{
    print_message("%s: %u rounds with %u work requests under way, %u refused, %u unanswered; %u "
                  "rounds were done again\n",
                  what, owner->rounds, owner->under_way, owner->refused,
                  owner->rounds - owner->refused, owner->again);
    assert_true(owner->refused > 0);
}

/* The peer has queue pairs that work, and a key of long ago. */
static void refuse_late(struct owner *owner, uint32_t direction)
{
    grant(owner, direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE);
    memset(owner->region.memory, HOSTILE_OWNERS_BYTE, BYTES);
    ask(owner, LATE);
    await(owner);
    assert_int_not_equal(owner->shared->report.status, IBV_WC_SUCCESS);
    if (!line_is_lossy())
        assert_int_equal(owner->shared->report.status, IBV_WC_REM_ACCESS_ERR);
    assert_true(acts_is_byte(owner->region.memory, BYTES, HOSTILE_OWNERS_BYTE));
}

static void test_after_the_end_of_a_write_lease_nothing_lands(void **state)
{
    struct acts_chance chance = acts_chance_begin("write leases");
    uint32_t rounds = acts_count(ROUNDS);
    struct owner owner;
    (void)state;

    open_owner(&owner);
    while (owner.rounds < rounds) {
        struct lend_error error = {0};

        grant(&owner, LEND_ACCESS_WRITE);
        await_flood(&owner, &chance);
        if (lend_lease_revoke(owner.lease, &error) != LEND_OK)
            fail_msg("%s", error.message);
        use(&owner);
    }
    refuse_late(&owner, LEND_WRITE);
    tell(&owner, "write leases");
    close_owner(&owner);
}

/* Reads and writes in turn. */
static void test_after_a_withdrawal_nothing_is_read_and_nothing_lands(void **state)
{
    struct acts_chance chance = acts_chance_begin("withdrawals");
    uint32_t rounds = acts_count(ROUNDS);
    struct owner owner;
    (void)state;

    open_owner(&owner);
    while (owner.rounds < rounds) {
        struct lend_error error = {0};

        grant(&owner, owner.rounds % 2 == 0 ? LEND_ACCESS_READ : LEND_ACCESS_WRITE);
        await_flood(&owner, &chance);
        if (lend_region_withdraw(owner.region.region, LEND_WITHDRAW_FORCE, ACTS_PATIENCE_NS,
                                 &error) != LEND_OK)
            fail_msg("%s", error.message);
        use(&owner);
        if (lend_region_deregister(owner.region.region, &error) != LEND_OK)
            fail_msg("%s", error.message);
        lend_region(&owner);
    }
    refuse_late(&owner, LEND_READ);
    tell(&owner, "withdrawals");
    close_owner(&owner);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_after_the_end_of_a_write_lease_nothing_lands),
        cmocka_unit_test(test_after_a_withdrawal_nothing_is_read_and_nothing_lands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
