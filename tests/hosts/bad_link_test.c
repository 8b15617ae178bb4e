/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever a network does to tcp, no wrong byte is reported as success, nothing waits for
 * ever, nothing lands when it may not, and nothing leaks; and when the network is well again, so
 * are transfers. Who is cut off while nothing is under way is noticed, too, and given up.
 * Method: 100 transfers (LEND_TIMES=10: 1,000) between two hosts, in blocks chosen at random, whose
 * words tell their block and their generation. Most go over a link that delays, loses, doubles,
 * damages and swaps packets by a seed, some of them with a secret; at a random moment of a quarter
 * of them, or while they connect, it is cut without a word. The others go over a slow link, and the
 * owner's device is taken down in the middle of half of them. The lease is revoked, and the memory
 * used for something else, before the link is mended or after. Both processes count what they hold
 * before and after.
 */
#include "crossing.h"

enum {
    AGAIN = 0x5A, /* what both memories are used for, when a transfer is over */
    WARM = 12,    /* rounds before anything is counted */
    SPARE = 50,
    TRIES = 4, /* in which a transfer gets through when the link is well again */
};

#define HURRY_NS   (300 * ACTS_MS)    /* a deadline that a cut outlasts */
#define PATIENT_NS (12 * ACTS_SECOND) /* and one that outlasts the connection */
#define SLACK_NS   (8 * ACTS_SECOND)  /* beside a deadline, on a loaded machine */

enum way { NOTHING, SILENCE, UNPLUGGED };

/* One transfer. */
struct round {
    uint64_t generation;
    uint32_t direction;
    uint32_t count;
    int32_t ours[CROSSING_BLOCKS];
    int32_t theirs[CROSSING_BLOCKS];
    uint64_t timeout_ns;
};

struct trial {
    struct crossing crossing;
    struct acts_chance chance;
    struct acts_window windows[2];
    uint64_t generation;
    uint32_t rounds;
    uint32_t whole;  /* succeeded */
    uint32_t failed; /* by a cut */
    uint32_t caught; /* of them, with some blocks moved and some not */
    uint32_t dead;   /* of the failed, as PEER_DEAD */
    uint32_t again;  /* transfers that had to be tried again when the link was well */
    uint64_t longest_ns;
};

static uint8_t *block_of(const struct acts_region *region, int32_t number)
{
    return region->memory + (uint64_t)number * CROSSING_BLOCK;
}

static struct round plan_round(struct trial *trial, uint64_t timeout_ns)
{
    struct round round = {.generation = ++trial->generation, .timeout_ns = timeout_ns};

    round.direction = acts_chance_below(&trial->chance, 2) == 0 ? LEND_READ : LEND_WRITE;
    round.count = 2 + (uint32_t)acts_chance_below(&trial->chance, CROSSING_BLOCKS - 1);
    acts_choose(&trial->chance, round.ours, round.count, CROSSING_BLOCKS);
    acts_choose(&trial->chance, round.theirs, round.count, CROSSING_BLOCKS);
    return round;
}

/* The source tells its words, the destination has its former use. */
static void furnish(struct trial *trial, const struct round *round)
{
    bool is_read = round->direction == LEND_READ;
    const struct acts_region *from = is_read ? &trial->crossing.theirs : &trial->crossing.ours;

    /* Nothing has landed since the last one was over. */
    assert_true(acts_is_byte(trial->crossing.ours.memory, CROSSING_BYTES, AGAIN));
    assert_true(acts_is_byte(trial->crossing.theirs.memory, CROSSING_BYTES, AGAIN));
    for (uint32_t i = 0; i < round->count; i++)
        acts_fill(block_of(from, is_read ? round->theirs[i] : round->ours[i]), CROSSING_BLOCK,
                  round->generation, i);
}

/* Every proven block is right, and no other than those of the transfer was touched. */
static void check(struct trial *trial, const struct round *round,
                  const struct lend_transfer_record *record, bool *out_caught)
{
    bool is_read = round->direction == LEND_READ;
    const struct acts_region *to = is_read ? &trial->crossing.ours : &trial->crossing.theirs;
    const int32_t *blocks = is_read ? round->ours : round->theirs;
    uint64_t proven = record->status == LEND_OK ? round->count : record->blocks;
    bool is_of_it[CROSSING_BLOCKS] = {false};
    uint32_t landed = 0;

    assert_true(proven <= round->count);
    for (uint32_t i = 0; i < round->count; i++) {
        const uint8_t *block = block_of(to, blocks[i]);

        is_of_it[blocks[i]] = true;
        landed += !acts_is_byte(block, 64, AGAIN);
        if (i < proven)
            assert_true(acts_is(block, CROSSING_BLOCK, round->generation, i));
    }
    for (int32_t i = 0; i < CROSSING_BLOCKS; i++)
        if (!is_of_it[i])
            assert_true(acts_is_byte(block_of(to, i), CROSSING_BLOCK, AGAIN));
    *out_caught = record->status != LEND_OK && landed > 0 && landed < round->count;
}

static void post(struct trial *trial, const struct round *round, struct lend_ticket *ticket)
{
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    post.ticket = ticket;
    post.local_blocks = round->ours;
    post.remote_blocks = round->theirs;
    post.block_count = round->count;
    post.timeout_ns = round->timeout_ns;
    enum lend_status status =
        lend_transfer_post(trial->crossing.transfers[round->direction - 1], &post, &error);
    if (status != LEND_OK)
        fail_msg("post: %s: %s", lend_status_name(status), error.message);
}

static struct lend_transfer_record finish(struct trial *trial, const struct round *round)
{
    struct lend_transfer *transfer = trial->crossing.transfers[round->direction - 1];
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_error why = {0};
    uint64_t began_ns = acts_now_ns();
    enum lend_status status = lend_transfer_wait(transfer, round->timeout_ns + SLACK_NS);
    uint64_t spent_ns = acts_now_ns() - began_ns;

    if (status == LEND_PENDING)
        fail_msg("a transfer of %.1f s is not over", (double)round->timeout_ns / 1e9);
    assert_int_equal(lend_transfer_describe(transfer, &record, &why), LEND_OK);
    if (status != LEND_OK && status != LEND_E_PEER_DEAD && status != LEND_E_TIMEOUT)
        fail_msg("%s: %s", lend_status_name(status), why.message);
    if (spent_ns > trial->longest_ns)
        trial->longest_ns = spent_ns;
    return record;
}

static void use_again(struct trial *trial)
{
    memset(trial->crossing.ours.memory, AGAIN, CROSSING_BYTES);
    memset(trial->crossing.theirs.memory, AGAIN, CROSSING_BYTES);
}

static void cut(struct trial *trial, enum way way)
{
    if (way == SILENCE)
        atomic_store(&trial->crossing.link.counts->is_cut, 1);
    if (way == UNPLUGGED)
        crossing_unplug(&trial->crossing);
}

static void mend(struct trial *trial, enum way way)
{
    if (way == SILENCE)
        atomic_store(&trial->crossing.link.counts->is_cut, 0);
    if (way == UNPLUGGED)
        crossing_plug(&trial->crossing);
}

/* A transfer while the link is as well as it ever is. The connection may have died of what was
 * before, and that may show late: then the next one makes another. */
static void pass(struct trial *trial)
{
    struct lend_transfer_record record;
    bool is_caught;

    for (uint32_t tries = 0;; tries++) {
        struct round round = plan_round(trial, PATIENT_NS);
        struct lend_ticket *ticket = crossing_grant(&trial->crossing, trial->crossing.peer);

        furnish(trial, &round);
        post(trial, &round, ticket);
        record = finish(trial, &round);
        check(trial, &round, &record, &is_caught);
        crossing_revoke(&trial->crossing);
        use_again(trial);
        lend_ticket_release(ticket);
        if (record.status == LEND_OK)
            break;
        trial->again++;
        if (tries == TRIES)
            fail_msg("the link is well, and no transfer gets through: %s",
                     lend_status_name((enum lend_status)record.status));
    }
    trial->whole++;
}

/* A transfer in the middle of which the link is cut. */
static void break_off(struct trial *trial, enum way way, uint64_t timeout_ns)
{
    struct round round = plan_round(trial, timeout_ns);
    struct acts_window *window = &trial->windows[round.direction - 1];
    struct lend_ticket *ticket = crossing_grant(&trial->crossing, trial->crossing.peer);
    bool is_mended_first = acts_chance_below(&trial->chance, 2) == 0;
    bool connects = acts_chance_below(&trial->chance, 4) == 0;
    bool is_caught = false;

    if (connects) {
        crossing_part(&trial->crossing);
        crossing_meet(&trial->crossing);
        lend_ticket_release(ticket);
        ticket = crossing_same_ticket(&trial->crossing, trial->crossing.peer);
    }
    furnish(trial, &round);
    post(trial, &round, ticket);
    acts_delay(acts_window_pick(window, &trial->chance));
    cut(trial, way);

    struct lend_transfer_record record = finish(trial, &round);
    if (!connects)
        acts_window_learn(window, record.status == LEND_OK);
    if (is_mended_first)
        mend(trial, way);
    /* A WRITE that failed may land until its lease ends, and no longer. */
    crossing_revoke(&trial->crossing);
    check(trial, &round, &record, &is_caught);
    use_again(trial);
    if (!is_mended_first)
        mend(trial, way);
    lend_ticket_release(ticket);
    trial->whole += record.status == LEND_OK;
    trial->failed += record.status != LEND_OK;
    trial->dead += record.status == LEND_E_PEER_DEAD;
    trial->caught += is_caught;
}

static void run_round(struct trial *trial, enum way way, uint32_t of)
{
    uint64_t dice = acts_chance_below(&trial->chance, of);

    if (dice > 0)
        pass(trial);
    else
        break_off(trial, way, acts_chance_below(&trial->chance, 8) == 0 ? PATIENT_NS : HURRY_NS);
}

/* One round in so many is broken off in that way. */
static void run(struct trial *trial, enum way way, uint32_t of)
{
    struct acts_holdings before = {0};

    crossing_begin(&trial->crossing);
    crossing_meet(&trial->crossing);
    trial->windows[0].span_ns = trial->windows[1].span_ns = 10 * ACTS_MS;
    use_again(trial);
    for (uint32_t round = 0; round < WARM; round++)
        run_round(trial, way, 3);
    pass(trial);
    before = acts_holdings_now();
    (void)crossing_note_holdings(&trial->crossing);

    /* A few more, if none of so few was caught. */
    for (uint32_t round = 0;
         round < trial->rounds || (trial->caught == 0 && round < trial->rounds + SPARE); round++)
        run_round(trial, way, of);
    pass(trial);
    print_message("%u transfers succeeded; %u were broken off, %u of them in the middle, %u by the "
                  "connection's death; %u had to be tried again; the longest wait was %.1f s\n",
                  trial->whole, trial->failed, trial->caught, trial->dead, trial->again,
                  (double)trial->longest_ns / 1e9);
    assert_true(acts_holdings_came_back(&before, 256 << 10));
    assert_true(crossing_holdings_came_back(&trial->crossing));
    assert_true(trial->caught > 0);
    crossing_part(&trial->crossing);
    crossing_end(&trial->crossing);
}

static void suffer(uint32_t rounds, uint32_t flags)
{
    struct trial trial = {.chance = acts_chance_begin("bad link"), .rounds = rounds};
    const struct impairment bad = {
        .seed = trial.chance.state,
        .delay_us = 100,
        .jitter_us = 400,
        .lost_per_million = 3000,
        .doubled_per_million = 5000,
        .damaged_per_million = 1000,
    };

    crossing_open(&trial.crossing, &bad, flags);
    run(&trial, SILENCE, 4);

    struct link_counts *counts = trial.crossing.link.counts;
    print_message("the link carried %llu packets, lost %llu, doubled %llu, damaged %llu, and gave "
                  "%llu out of order\n",
                  (unsigned long long)counts->carried, (unsigned long long)counts->lost,
                  (unsigned long long)counts->doubled, (unsigned long long)counts->damaged,
                  (unsigned long long)counts->swapped);
    assert_true(counts->lost > 0 && counts->doubled > 0 && counts->swapped > 0);
    crossing_close(&trial.crossing);
}

static void test_bad_link_that_is_cut_in_silence_gives_no_wrong_byte(void **state)
{
    (void)state;
    suffer(acts_count(60), 0);
}

static void test_bad_link_between_those_with_a_secret_gives_no_wrong_byte(void **state)
{
    (void)state;
    suffer(acts_count(20), CROSSING_SECRET);
}

static void test_device_that_goes_down_gives_no_wrong_byte(void **state)
{
    struct trial trial = {.chance = acts_chance_begin("unplugged"), .rounds = acts_count(20)};
    /* So slow that a command that takes the device down finds most of a transfer not done. */
    const struct impairment slow = {.seed = 1, .rate_bytes_a_second = 16000000};

    (void)state;
    crossing_open(&trial.crossing, &slow, 0);
    run(&trial, UNPLUGGED, 2);
    crossing_close(&trial.crossing);
}

/* Why the owner is lost, when it is. */
static enum lend_status await_loss(const struct crossing *crossing)
{
    struct lend_peer_info info = {.struct_size = sizeof info, .status = LEND_OK};
    uint64_t deadline = acts_now_ns() + SLACK_NS;
    struct lend_error error = {0};

    while (info.status == LEND_OK && acts_now_ns() < deadline) {
        assert_int_equal(lend_peer_describe(crossing->peer, &info, &error), LEND_OK);
        acts_delay(10 * ACTS_MS);
    }
    return (enum lend_status)info.status;
}

static void test_who_is_cut_off_while_idle_is_given_up(void **state)
{
    struct trial trial = {.chance = acts_chance_begin("idle")};
    const struct impairment none = {.seed = 1};
    struct crossing *crossing = &trial.crossing;
    struct lend_error error = {0};

    (void)state;
    crossing_open(crossing, &none, 0);
    crossing_begin(crossing);
    crossing_meet(crossing);
    use_again(&trial);
    struct acts_holdings before = crossing_note_holdings(crossing);
    pass(&trial);
    assert_int_equal(crossing_note_holdings(crossing).descriptors, before.descriptors + 1);

    cut(&trial, SILENCE);
    assert_int_equal(await_loss(crossing), LEND_E_PEER_DEAD);
    /* The owner has given up the reader, whom it owed nothing. */
    crossing_note_as(crossing, &before);
    assert_true(crossing_holdings_came_back(crossing));

    uint64_t began_ns = acts_now_ns();
    enum lend_status status = lend_peer_connect(crossing->peer, ACTS_PATIENCE_NS, &error);
    assert_true(status == LEND_E_TIMEOUT || status == LEND_E_PEER_DEAD);
    assert_true(error.message[0] != '\0');
    assert_true(acts_now_ns() - began_ns < CROSSING_CONNECT_NS + SLACK_NS);
    mend(&trial, SILENCE);
    pass(&trial);
    crossing_part(crossing);
    crossing_end(crossing);
    crossing_close(crossing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_link_that_is_cut_in_silence_gives_no_wrong_byte),
        cmocka_unit_test(test_bad_link_between_those_with_a_secret_gives_no_wrong_byte),
        cmocka_unit_test(test_device_that_goes_down_gives_no_wrong_byte),
        cmocka_unit_test(test_who_is_cut_off_while_idle_is_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
