/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: whatever comes to an end of a rail, in whatever state it is, costs no more than that rail:
 * nothing crashes or goes on for ever, an owner's memory changes only where it gave keys to write,
 * a READ never reports bytes that are not the owner's, and what was made on the NICs, and every
 * reference to a lease, is given back. Method: two ends of a rail on a fake libibverbs, without
 * sessions; the input is a script of what they hear, forged or from the other one, and of what is
 * done with them between (fuzz/rail.h).
 */

#include "fuzz/fuzz.h"
#include "fuzz/rail.h"

#include "core/agent.h"
#include "core/session.h"
#include "core/slot.h"
#include "fake/verbs.h"
#include "transport/verbs/verbs.h"

enum { WORDS = 512, MOVES = 4, SAID_MAX = 64, GENERATION = 0x1234, FIRST = 4096 };

static _Alignas(4096) uint64_t words[WORDS];
static _Alignas(4096) uint8_t lent[RAIL_REGIONS][RAIL_REGION_BYTES];
static _Alignas(4096) uint8_t landing[RAIL_REGIONS][RAIL_REGION_BYTES];

static struct {
    struct lend_agent *agent; /* for what the ends log, and wake */
    void *owner, *reader;     /* their transports */
    int mrs;                  /* that they have without rails */
} stations;

/* One run. */
static struct world {
    struct lend_session sessions[2];
    struct lend_rail *owner, *reader;
    struct lend_rail_move moves[MOVES];
    struct lend_extent theirs[MOVES], ours[MOVES];
    struct lend_rail_ends ends[MOVES];
    bool is_moving[MOVES];
    int grants; /* that have not ended */
    uint64_t notified;
} world;

static const struct lend_rail_ops *ops(void)
{
    return lend_transport_verbs.rail;
}

/* --- once --- */

static void expose(void *station, uint8_t *memory, uint64_t id, uint32_t life)
{
    const struct lend_exposure exposure = {
        .region_id = id,
        .address = (uintptr_t)memory,
        .length_bytes = RAIL_REGION_BYTES,
        .life = life,
        .access = id == 2 ? LEND_ACCESS_READ : LEND_ACCESS_READ | LEND_ACCESS_WRITE};

    CHECK(ops()->expose(station, &exposure, NULL) == LEND_OK);
}

static void *open_station(const char *device)
{
    const struct lend_transport_open open = {.agent = stations.agent,
                                             .words = words,
                                             .words_bytes = sizeof words,
                                             .verbs_devices = device};
    void *station = NULL;

    CHECK(lend_transport_verbs.open(&open, &station, NULL) == LEND_OK);
    return station;
}

static void begin_once(void)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    if (stations.agent != NULL)
        return;
    config.name = "fuzzed";
    config.transports = "loopback";
    config.flags = LEND_AGENT_MANUAL_PROGRESS | LEND_AGENT_NO_STATISTICS;
    CHECK(lend_agent_create(&config, &stations.agent, NULL) == LEND_OK);
    fake_verbs_reset();
    lend_verbs = &fake_verbs_ops;
    stations.owner = open_station("fake0");
    stations.reader = open_station("fake1");
    for (int i = 0; i < RAIL_REGIONS; i++) {
        expose(stations.owner, lent[i], (uint64_t)i + 1, 1);
        expose(stations.reader, landing[i], (uint64_t)i + 1, 1);
    }
    stations.mrs = fake_verbs.mrs;
}

/* --- a run --- */

static uint8_t lent_byte(int region, size_t at)
{
    return (uint8_t)(region * 71 + (int)at * 13 + 1);
}

/* In place of a server's. */
static enum lend_status notified(struct lend_session *session, uint64_t number, const void *bytes,
                                 size_t count, struct lend_error *error)
{
    CHECK(session == &world.sessions[0] && number > 0);
    CHECK(count <= LEND_VERBS_NOTE_BYTES - LEND_VERBS_NOTE_HEAD);
    free(copy_bytes(bytes, count));
    if (number % 64 != 63)
        return LEND_OK;
    error->status = LEND_E_CORRUPT;
    error->message[0] = '!';
    return LEND_E_CORRUPT;
}

static const struct lend_session_role server = {.notified = notified}, client;

static struct lend_rail *open_rail(void *station, struct lend_session *session, bool is_client)
{
    uint8_t address[LEND_METADATA_ADDRESS_MAX];
    const struct lend_rail_desc desc = {
        .session = session,
        .is_client = is_client,
        .address = address,
        .address_bytes = is_client ? lend_transport_verbs.address(stations.owner, address) : 0};
    struct lend_rail *rail = NULL;

    *session = (struct lend_session){
        .agent = stations.agent, .role = is_client ? &client : &server, .is_closed = true};
    CHECK(ops()->open(station, &desc, &rail, NULL) == LEND_OK);
    return rail;
}

static void begin(void)
{
    begin_once();
    memset(&world, 0, sizeof world);
    for (int i = 0; i < WORDS; i++)
        words[i] = (uint64_t)GENERATION << LEND_SLOT_STATE_BITS | LEND_SLOT_LIVE;
    for (int i = 0; i < RAIL_REGIONS; i++)
        for (size_t at = 0; at < RAIL_REGION_BYTES; at++)
            lent[i][at] = lent_byte(i, at);
    fake_verbs.holds = false;
    fake_verbs.status_at = -1;
    world.owner = open_rail(stations.owner, &world.sessions[0], false);
    world.reader = open_rail(stations.reader, &world.sessions[1], true);
}

static void end(void)
{
    fake_verbs.status_at = -1;
    ops()->halt(world.reader);
    for (int i = 0; i < MOVES; i++)
        CHECK(!world.is_moving[i]);
    ops()->close(world.reader, false);
    ops()->close(world.owner, false);
    CHECK(world.grants == 0);
    CHECK(fake_verbs.qps == 0 && fake_verbs.cqs == 0 && fake_verbs.unacknowledged == 0);
    CHECK(fake_verbs.mrs == stations.mrs);
    for (size_t at = 0; at < RAIL_REGION_BYTES; at++)
        CHECK(lent[1][at] == lent_byte(1, at)); /* the region that is only read, */
    for (int i = 0; i < RAIL_REGIONS; i++)      /* and what no lease names */
        for (size_t at = 0; at < FIRST; at++)
            CHECK(lent[i][at] == lent_byte(i, at));
}

/* --- its steps --- */

struct script {
    const uint8_t *at;
    size_t left;
};

static uint8_t next(struct script *script)
{
    if (script->left == 0)
        return 0;
    script->left--;
    return *script->at++;
}

/* False: the session would end. */
static bool hear(struct lend_rail *rail, const uint8_t *bytes, size_t count)
{
    uint8_t *exact = copy_bytes(bytes, count);
    struct lend_error error = {0};
    enum lend_status status = ops()->hear(rail, exact, count, &error);

    free(exact);
    CHECK(status == LEND_OK || (status == LEND_E_CORRUPT && error.message[0] != '\0'));
    return status == LEND_OK;
}

static bool forge(struct script *script, struct lend_rail *to)
{
    size_t count = next(script);

    count |= (size_t)next(script) << 8;
    if (count > script->left)
        count = script->left;
    const uint8_t *bytes = script->at;
    script->at += count;
    script->left -= count;
    return count > LEND_FRAME_MESSAGE_MAX || hear(to, bytes, count); /* which core sees to */
}

/* The answer to a call that was forged, for a leg that is not there. */
static bool is_for_nobody(const struct lend_rail *to, const uint8_t *bytes, size_t count)
{
    uint32_t leg = lend_verbs_message_leg(bytes, count);

    return ((const struct lend_verbs_rail *)to)->legs[leg % LEND_VERBS_LEGS_MAX] == NULL;
}

/* What one says is heard by the other: an end that is well never breaks the session. */
static bool say(struct lend_rail *from, struct lend_rail *to)
{
    uint8_t bytes[LEND_FRAME_MESSAGE_MAX];
    int said = 0;

    for (size_t count; (count = from->ops->say(from, bytes)) > 0; said++) {
        CHECK(count <= sizeof bytes && said < SAID_MAX);
        if (!is_for_nobody(to, bytes, count))
            CHECK(hear(to, bytes, count));
    }
    return true;
}

static void grant_ended(void *lease)
{
    (void)lease;
    world.grants--;
}

static void grant(uint8_t which)
{
    const uint32_t slot = which % RAIL_LEASES;
    const struct lend_rail_span spans[] = {
        {1, (uintptr_t)lent[0] + FIRST, RAIL_BLOCK_BYTES},
        {3, (uintptr_t)lent[2] + FIRST + slot * RAIL_BLOCK_BYTES, RAIL_BLOCK_BYTES}};
    const struct lend_rail_grant what = {.slot = slot,
                                         .generation = GENERATION,
                                         .spans = spans,
                                         .span_count = which >= 0x80 ? 0 : 2,
                                         .ended = grant_ended};

    world.grants++;
    if (!ops()->grant(world.owner, &what))
        world.grants--;
}

static void revoke(uint8_t which)
{
    CHECK(ops()->revoke(stations.owner, which % RAIL_LEASES, GENERATION, NULL) == LEND_OK);
}

static void move_done(struct lend_rail_move *move)
{
    int index = (int)(move - world.moves);
    const uint64_t from = world.theirs[index].address, to = world.ours[index].address;

    CHECK(world.is_moving[index]);
    world.is_moving[index] = false;
    CHECK(move->proven_bytes <= move->total_bytes);
    CHECK((move->status == LEND_OK) == (move->proven_bytes == move->total_bytes) ||
          move->status != LEND_OK);
    if (move->status == LEND_OK && !move->is_write)
        CHECK(memcmp((const void *)(uintptr_t)to, (const void *)(uintptr_t)from,
                     move->total_bytes) == 0);
}

static void submit(uint8_t which, bool is_write)
{
    static const struct lend_run run = {0, 8};
    struct lend_rail *rail = world.reader;
    const uint32_t slot = which % RAIL_LEASES, region = which / RAIL_LEASES % RAIL_REGIONS;
    struct lend_error why;
    int i = 0;

    while (i < MOVES && world.is_moving[i])
        i++;
    if (i == MOVES || ops()->judge(rail, &why) != LEND_OK)
        return;
    const void *theirs = is_write ? NULL : ops()->theirs(rail, region + 1, 1, &why);
    const void *ours = ops()->ours(rail, region + 1, true, &why);
    if (ours == NULL || (theirs == NULL && !is_write) ||
        (is_write && ops()->writes(rail, slot, GENERATION, &why) != LEND_OK))
        return;
    world.ends[i] = (struct lend_rail_ends){theirs, ours};
    world.theirs[i] = (struct lend_extent){.address = (uintptr_t)lent[region],
                                           .row_bytes = RAIL_BLOCK_BYTES,
                                           .stride_bytes = 2 * RAIL_BLOCK_BYTES,
                                           .inner_stride_bytes = RAIL_BLOCK_BYTES,
                                           .inner_count = 1};
    world.ours[i] = world.theirs[i];
    world.ours[i].address = (uintptr_t)landing[region];
    world.moves[i] = (struct lend_rail_move){.ends = &world.ends[i],
                                             .is_write = is_write,
                                             .total_bytes = RAIL_BLOCK_BYTES,
                                             .slot = slot,
                                             .generation = GENERATION,
                                             .judge = lend_slot_judge,
                                             .done = move_done};
    lend_cursor_init(&world.moves[i].theirs, &world.theirs[i], 1, &run, 1);
    lend_cursor_init(&world.moves[i].ours, &world.ours[i], 1, &run, 1);
    if (is_write) /* of what the lease names */
        lend_cursor_skip(&world.moves[i].theirs, FIRST / 2);
    world.is_moving[i] = true;
    ops()->submit(rail, &world.moves[i]);
}

static void stop(uint8_t which)
{
    int i = which % MOVES;

    if (world.is_moving[i] && ops()->stop(world.reader, &world.moves[i]))
        world.is_moving[i] = false;
}

static void hold(uint8_t count)
{
    fake_verbs.holds = count > 0;
    (void)fake_verbs_let_go(count > 0 ? count : 1 << 20);
}

static void notify(uint8_t length)
{
    uint8_t bytes[4 * UINT8_MAX] = {length};

    (void)ops()->notify(world.reader, ++world.notified, bytes, 4u * length);
}

static void send_forged(struct script *script)
{
    struct lend_verbs_rail *rail = (struct lend_verbs_rail *)world.reader;
    size_t count = next(script) % (LEND_VERBS_BATCHES * sizeof(uint64_t) + 1);
    struct lend_verbs_sge sge = {
        .addr = (uintptr_t)rail->landing, .length = (uint32_t)count, .lkey = rail->landing_lkey};
    struct lend_verbs_send *bad = NULL, work = {.wr_id = LEND_VERBS_BATCHES,
                                                .sg_list = &sge,
                                                .num_sge = 1,
                                                .opcode = LEND_VERBS_SEND_SEND};

    for (size_t i = 0; i < count; i++)
        ((uint8_t *)rail->landing)[i] = next(script);
    if (rail->state == LEND_VERBS_RAIL_UP)
        (void)lend_verbs_post_send(rail->pairs[LEND_VERBS_NOTE_LANE], &work, &bad);
}

/* As core does it: nothing new, leases ended, then the memory. */
static void withdraw(uint8_t which)
{
    const uint64_t id = which % RAIL_REGIONS + 1;
    char who[200];

    for (uint8_t i = 0; i < RAIL_LEASES; i++)
        revoke(i);
    ops()->conceal(stations.owner, id);
    CHECK(!ops()->is_exposed(stations.owner, id, who, sizeof who));
    expose(stations.owner, lent[id - 1], id, 1);
}

static bool take_step(struct script *script)
{
    switch ((enum rail_step)(next(script) % RAIL_STEPS)) {
    case RAIL_TO_OWNER: return forge(script, world.owner);
    case RAIL_TO_READER: return forge(script, world.reader);
    case RAIL_OWNER_SAYS: return say(world.owner, world.reader);
    case RAIL_READER_SAYS: return say(world.reader, world.owner);
    case RAIL_TELL: ops()->tell(world.owner, next(script) % 5u); break;
    case RAIL_GRANT: grant(next(script)); break;
    case RAIL_REVOKE: revoke(next(script)); break;
    case RAIL_READ: submit(next(script), false); break;
    case RAIL_WRITE: submit(next(script), true); break;
    case RAIL_PUMP:
        (void)ops()->pump(world.reader);
        (void)ops()->pump(world.owner);
        break;
    case RAIL_JUDGE: (void)ops()->judge(world.reader, &(struct lend_error){0}); break;
    case RAIL_FAIL:
        fake_verbs.status_at = fake_verbs.works + next(script);
        fake_verbs.status = 1 + next(script) % (LEND_VERBS_WC_STATUSES - 1);
        break;
    case RAIL_STOP: stop(next(script)); break;
    case RAIL_HOLD: hold(next(script)); break;
    case RAIL_WITHDRAW: withdraw(next(script)); break;
    case RAIL_HALT: ops()->halt(world.reader); break;
    case RAIL_NOTIFY: notify(next(script)); break;
    case RAIL_SEND: send_forged(script); break;
    case RAIL_STEPS: break;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct script script = {.at = bytes, .left = count};

    begin();
    while (script.left > 0 && take_step(&script)) {
    }
    end();
    return 0;
}
