/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_network.h"

#include "tool/output.h"
#include "tool/trouble.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads between two hosts, or over the loopback device, beside plain sockets that move the same
 * pieces, and over ucx beside ucx_perftest, with messages of the same size: large ones, scattered
 * ones, small ones, many peers, and heartbeats under load. */

static const char section[] = "network";

enum {
    PIECES = 4096,
    SMALL_BLOCKS = 64,
    SMALL_SAMPLES = 200,
    SMALL_SAMPLES_QUICK = 10,
    PEERS = 64,
    PEERS_QUICK = 4,
    HEARTBEATS = 1000,
    HEARTBEATS_QUICK = 20,
    PEER_MEMORY_MAX = 1 << 20,
    PERFTEST_TRIPS = 1000,
};

static const uint64_t sizes[] = {64 << 10, 16 << 10, 4 << 10};
enum { SIZES = sizeof sizes / sizeof *sizes, LARGE = SIZES, SMALL, SMALLEST };
static const uint64_t small_bytes = 4096, smallest_bytes = 8;
static const uint64_t heartbeat_ns = 1000000;
static const double heartbeat_max_ns = 2e6;

struct stand {
    struct bench *bench;
    struct network *network;
    struct borrowing *borrowing;
    struct raw_receiver raw;
    struct progress progress;
};

/* --- one read beside plain sockets --- */

struct reading {
    uint32_t layout;
    const struct pieces *pieces;
    uint32_t samples;
    const char *what;
    enum measure measure;
    struct goal goal;
};

static bool is_ucx(const struct stand *stand)
{
    return strcmp(stand->network->endpoint.transports, "ucx") == 0;
}

static struct row *add_row(struct stand *stand, const struct reading *reading)
{
    struct row *row = report_row(stand->bench, section, reading->what);

    (void)snprintf(row->path, sizeof row->path, "%s", stand->network->path);
    row->direction = "read";
    row->block_bytes = reading->pieces->block_bytes;
    row->block_count = reading->pieces->count;
    row->measure = reading->measure;
    row->goal = reading->goal;
    return row;
}

/* The same bytes as messages of the blocks' size; or one there and back. 0: not measured. */
static double run_perftest(const struct stand *stand, const struct reading *reading)
{
    const struct pieces *pieces = reading->pieces;
    bool is_rate = reading->measure == MEASURE_RATE;
    const struct perftest test = {
        .name = is_rate ? "ucp_am_bw" : "ucp_am_lat",
        .bytes = pieces->block_bytes,
        .count = is_rate ? (uint32_t)pieces->count : PERFTEST_TRIPS,
    };

    if (!is_ucx(stand))
        return 0;
    return perftest_run(stand->network, &test) * (is_rate ? (double)pieces->count : 2);
}

static void measure(struct stand *stand, const struct reading *reading)
{
    struct borrowing *borrowing = stand->borrowing;
    struct row *row = add_row(stand, reading);
    struct samples ours = {0}, raw = {0}, ucx = {0};
    struct lend_transfer *transfer =
        borrowing_prepare(borrowing, reading->layout, LEND_READ, stand->network->path, &row->why);

    if (transfer != NULL)
        row->verified_bytes = borrowing_verify(borrowing, transfer, LEND_READ, reading->pieces,
                                               stand->network->path, &row->why);
    if (row->verified_bytes == 0) {
        (void)lend_transfer_release(transfer); /* complete, or NULL */
        return;
    }
    raw_receiver_prepare(&stand->raw, reading->pieces, borrowing->memory);
    for (uint32_t i = 0; i < reading->samples; i++) {
        samples_add(&raw, raw_receiver_read(&stand->raw));
        samples_add(&ours, borrowing_move(borrowing, transfer, reading->pieces, NULL));
        if (i % (reading->samples / stand->bench->rounds) != 0)
            continue;
        double took = run_perftest(stand, reading);
        if (took > 0)
            samples_add(&ucx, took);
    }
    (void)lend_transfer_release(transfer); /* complete */
    row->figure = samples_take(&ours, 1);
    row_beside(row, "ucx_perftest", &ucx, 1);
    row_beside(row, reading->measure == MEASURE_RATE ? "plain sockets" : "plain ping-pong", &raw,
               1);
    progress_step(&stand->progress);
}

static void measure_large(struct stand *stand)
{
    const struct layout *layout = &stand->borrowing->lending.layouts[LARGE];
    struct pieces pieces;

    pieces_line_up(&pieces, layout->block_bytes, layout->block_count);
    measure(stand, &(struct reading){LARGE,
                                     &pieces,
                                     stand->bench->rounds,
                                     "one large block",
                                     MEASURE_RATE,
                                     {.kind = GOAL_SHARE, .limit = 0.9}});
    pieces_free(&pieces);
}

static void measure_scattered(struct stand *stand, uint32_t which)
{
    const struct layout *layout = &stand->borrowing->lending.layouts[which];
    struct pieces pieces;

    pieces_scatter(&pieces, layout->block_bytes, layout->block_count);
    measure(stand, &(struct reading){
                       which,
                       &pieces,
                       stand->bench->rounds,
                       "scattered blocks",
                       MEASURE_RATE,
                       {.kind = GOAL_SHARE,
                        .limit = layout->block_bytes < (16 << 10) && !is_ucx(stand) ? 0.8 : 0.9}});
    pieces_free(&pieces);
}

static void measure_small(struct stand *stand, uint32_t which)
{
    int32_t local = 7, remote = 12;
    const struct pieces pieces = {
        .block_bytes = stand->borrowing->lending.layouts[which].block_bytes,
        .count = 1,
        .local = &local,
        .remote = &remote,
    };

    measure(stand,
            &(struct reading){which,
                              &pieces,
                              stand->bench->rounds *
                                  (stand->bench->is_quick ? SMALL_SAMPLES_QUICK : SMALL_SAMPLES),
                              "one small block, there and back",
                              MEASURE_TIME,
                              {.kind = is_ucx(stand) ? GOAL_NONE : GOAL_TIMES, .limit = 1.3}});
}

/* --- many peers --- */

struct peer {
    struct lend_agent *agent;
    struct lend_peer *owner;
    struct lend_ticket *ticket;
    struct lend_region *region;
    struct lend_transfer *transfer;
    struct pieces pieces; /* its share of all */
};

static void share_pieces(struct pieces *share, const struct pieces *all, uint32_t which,
                         uint32_t count)
{
    share->block_bytes = all->block_bytes;
    share->count = all->count / count;
    share->local = must_allocate(share->count, sizeof *share->local);
    share->remote = must_allocate(share->count, sizeof *share->remote);
    memcpy(share->local, all->local + which * share->count, share->count * sizeof *share->local);
    memcpy(share->remote, all->remote + which * share->count, share->count * sizeof *share->remote);
}

/* An agent that reads to the same memory as all of them, but to other blocks of it. */
static void open_peer(struct peer *peer, const struct stand *stand, uint32_t which)
{
    const struct borrowing *borrowing = stand->borrowing;
    const struct layout *layout = &borrowing->lending.layouts[0];
    const struct hello *hello = &borrowing->hello;
    struct lend_region_desc region = LEND_REGION_DESC_INIT;
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_error error;
    uint64_t remote = 0;
    char name[32];

    (void)snprintf(name, sizeof name, "bench-peer-%u", which + 1);
    peer->agent = network_open_agent(stand->network, NETWORK_READER, name);
    must(lend_memory_system(borrowing->memory, layout->block_bytes * layout->block_count,
                            &region.memory, &error),
         &error);
    region.geometry.block_length_bytes = layout->block_bytes;
    region.geometry.count = layout->block_count;
    must(lend_region_register(peer->agent, &region, 1, &peer->region, NULL, &error), &error);
    must(
        lend_peer_import(peer->agent, hello->metadata, hello->metadata_bytes, &peer->owner, &error),
        &error);
    must(lend_ticket_import(peer->owner, hello->ticket, hello->ticket_bytes, &peer->ticket, &error),
         &error);
    must(lend_peer_region(peer->owner, layout->name, &remote, &error), &error);
    must(lend_peer_connect(peer->owner, bench_timeout_ns, &error), &error);
    desc.direction = LEND_READ;
    desc.peer = peer->owner;
    desc.region_count = 1;
    desc.local_regions = &peer->region;
    desc.remote_regions = &remote;
    desc.block_count_max = peer->pieces.count;
    desc.paths = stand->network->path;
    must(lend_transfer_prepare(peer->agent, &desc, &peer->transfer, &error), &error);
}

static void close_peer(struct peer *peer)
{
    (void)lend_transfer_release(peer->transfer); /* complete */
    lend_ticket_release(peer->ticket);
    lend_peer_forget(peer->owner);
    lend_agent_destroy(peer->agent);
    pieces_free(&peer->pieces);
}

/* All at once: from the first post until the last is there. */
static double pull_all(struct peer *peers, uint32_t count)
{
    struct lend_error error = {0};
    uint64_t began = now_ns();

    for (uint32_t i = 0; i < count; i++) {
        struct lend_post_desc post = LEND_POST_DESC_INIT;

        post.ticket = peers[i].ticket;
        post.local_blocks = peers[i].pieces.local;
        post.remote_blocks = peers[i].pieces.remote;
        post.block_count = peers[i].pieces.count;
        must(lend_transfer_post(peers[i].transfer, &post, &error), &error);
    }
    for (uint32_t i = 0; i < count; i++) {
        enum lend_status status = lend_transfer_wait(peers[i].transfer, bench_timeout_ns);

        if (status != LEND_OK)
            must(trouble(&error, status, "peer %u of %u did not get its blocks", i + 1, count),
                 &error);
    }
    return (double)(now_ns() - began);
}

/* Every byte that all of them read together. */
static uint64_t verify_all(const struct borrowing *borrowing, const struct peer *peers,
                           uint32_t count)
{
    uint64_t bytes = 0;
    struct lend_error error;

    for (uint32_t i = 0; i < count; i++) {
        const struct pieces *pieces = &peers[i].pieces;

        for (uint64_t k = 0; k < pieces->count; k++, bytes += pieces->block_bytes)
            if (memcmp(borrowing->memory + (uint64_t)pieces->local[k] * pieces->block_bytes,
                       borrowing->seen + (uint64_t)pieces->remote[k] * pieces->block_bytes,
                       pieces->block_bytes) != 0)
                must(trouble(&error, LEND_E_CORRUPT, "peer %u read wrong bytes", i + 1), &error);
    }
    return bytes;
}

static uint64_t ask_memory(const struct pair *pair)
{
    const struct network_order order = {.verb = NETWORK_MEMORY};
    uint64_t bytes = 0;

    pair_say(pair, &order, sizeof order);
    pair_hear(pair, &bytes, sizeof bytes);
    return bytes;
}

static void report_memory(struct stand *stand, uint32_t count, uint64_t before, uint64_t after)
{
    struct row *row =
        report_row(stand->bench, section, "memory of the owner for one of many peers");
    struct samples samples = {0};

    samples_add(&samples, after > before ? (double)(after - before) / count : 0);
    (void)snprintf(row->path, sizeof row->path, "%s", stand->network->path);
    row->measure = MEASURE_BYTES;
    row->goal = (struct goal){.kind = GOAL_TIME, .limit = PEER_MEMORY_MAX};
    row->figure = samples_take(&samples, 1);
    row->how = "its own resident memory after all have read, less that before they came; what the "
               "kernel holds for their sockets is not in it";
}

static void measure_peers(struct stand *stand)
{
    struct borrowing *borrowing = stand->borrowing;
    const struct layout *layout = &borrowing->lending.layouts[0];
    uint32_t count = stand->bench->is_quick ? PEERS_QUICK : PEERS;
    struct peer *peers = must_allocate(count, sizeof *peers);
    struct samples all = {0}, one = {0};
    struct pieces pieces;
    struct row *row = report_row(stand->bench, section, "many peers at once");
    struct lend_transfer *transfer =
        borrowing_prepare(borrowing, 0, LEND_READ, stand->network->path, &row->why);

    pieces_scatter(&pieces, layout->block_bytes, layout->block_count);
    uint64_t before = ask_memory(&borrowing->pair);
    for (uint32_t i = 0; transfer != NULL && i < count; i++) {
        share_pieces(&peers[i].pieces, &pieces, i, count);
        open_peer(&peers[i], stand, i);
    }
    for (uint32_t i = 0; transfer != NULL && i < stand->bench->rounds; i++) {
        samples_add(&one, borrowing_move(borrowing, transfer, &pieces, NULL));
        memset(borrowing->memory, 0, borrowing->lending.bytes);
        samples_add(&all, pull_all(peers, count));
        if (i == 0)
            row->verified_bytes = verify_all(borrowing, peers, count);
    }
    (void)snprintf(row->path, sizeof row->path, "%s", stand->network->path);
    row->direction = "read";
    row->block_bytes = layout->block_bytes;
    row->block_count = layout->block_count / count * count;
    row->measure = MEASURE_RATE;
    row->goal = (struct goal){.kind = GOAL_SHARE, .limit = 0.9};
    row->figure = samples_take(&all, 1);
    row_beside(row, "one peer", &one, 1);
    if (transfer != NULL)
        report_memory(stand, count, before, ask_memory(&borrowing->pair));
    for (uint32_t i = 0; transfer != NULL && i < count; i++)
        close_peer(&peers[i]);
    (void)lend_transfer_release(transfer); /* complete, or NULL */
    pieces_free(&pieces);
    free(peers);
    progress_step(&stand->progress);
}

/* --- heartbeats --- */

static void post_pull(const struct borrowing *borrowing, struct lend_transfer *transfer,
                      const struct pieces *pieces)
{
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_error error;

    post.ticket = borrowing->ticket;
    post.local_blocks = pieces->local;
    post.remote_blocks = pieces->remote;
    post.block_count = pieces->count;
    must(lend_transfer_post(transfer, &post, &error), &error);
}

static void take_times(const struct pair *pair, uint32_t count, struct samples *samples)
{
    double *took_ns = must_allocate(count, sizeof *took_ns);

    pair_hear(pair, took_ns, count * sizeof *took_ns);
    for (uint32_t i = 0; i < count; i++)
        samples_add(samples, took_ns[i]);
    free(took_ns);
}

/* Send so many, one a millisecond; with a transfer that is posted again whenever it is there. */
static void beat(const struct borrowing *borrowing, struct lend_transfer *transfer,
                 const struct pieces *pieces, uint32_t count, struct samples *samples)
{
    const struct network_order order = {.verb = NETWORK_HEARTBEATS, .count = count};
    struct lend_error error = {0};

    pair_say(&borrowing->pair, &order, sizeof order);
    if (transfer != NULL)
        post_pull(borrowing, transfer, pieces);
    for (uint32_t i = 0; i < count; i++) {
        sleep_until_ns(now_ns() + heartbeat_ns);
        enum lend_status status = transfer == NULL ? LEND_PENDING : lend_transfer_test(transfer);
        if (status == LEND_OK)
            post_pull(borrowing, transfer, pieces);
        else if (status != LEND_PENDING)
            must(trouble(&error, status, "the pull beside the heartbeats did not end well"),
                 &error);
        uint64_t sent_ns = now_ns();
        must(lend_notification_send(borrowing->owner, &sent_ns, sizeof sent_ns, &error), &error);
    }
    if (transfer != NULL)
        must(lend_transfer_wait(transfer, bench_timeout_ns), &error);
    take_times(&borrowing->pair, count, samples);
}

/* The same by plain sockets, which pull the same pieces. */
static void beat_raw(struct stand *stand, const struct pieces *pieces, uint32_t count,
                     struct samples *samples)
{
    const struct network_order order = {.verb = NETWORK_RAW_HEARTBEATS, .count = count};
    struct borrowing *borrowing = stand->borrowing;

    raw_receiver_prepare(&stand->raw, pieces, borrowing->memory);
    pair_say(&borrowing->pair, &order, sizeof order);
    raw_heartbeats_send(&borrowing->pair, network_address(stand->network, NETWORK_OWNER),
                        &stand->raw, count, heartbeat_ns);
    take_times(&borrowing->pair, count, samples);
}

static void measure_heartbeats(struct stand *stand)
{
    struct borrowing *borrowing = stand->borrowing;
    const struct layout *layout = &borrowing->lending.layouts[LARGE];
    uint32_t count = stand->bench->is_quick ? HEARTBEATS_QUICK : HEARTBEATS;
    struct samples loaded = {0}, idle = {0}, raw = {0};
    struct row *row = report_row(stand->bench, section, "notification during a full pull");
    struct lend_transfer *transfer =
        borrowing_prepare(borrowing, LARGE, LEND_READ, stand->network->path, &row->why);
    struct pieces pieces;

    pieces_line_up(&pieces, layout->block_bytes, layout->block_count);
    if (transfer != NULL) {
        beat(borrowing, NULL, NULL, count, &idle);
        beat(borrowing, transfer, &pieces, count, &loaded);
        beat_raw(stand, &pieces, count, &raw);
    }
    (void)lend_transfer_release(transfer); /* complete, or NULL */
    pieces_free(&pieces);
    (void)snprintf(row->path, sizeof row->path, "%s", stand->network->path);
    row->goal = (struct goal){.kind = GOAL_P99, .limit = heartbeat_max_ns};
    row->figure = samples_take(&loaded, 1);
    row->how = "one a millisecond over the connection that is pulling, from the send until the "
               "owner's application has it; by plain sockets over a connection of their own beside "
               "one that pulls";
    row_beside(row, "without a pull", &idle, 1);
    row_beside(row, "plain sockets", &raw, 1);
    progress_step(&stand->progress);
}

/* --- the section --- */

static void lay_out(struct lending *lending, const struct bench *bench)
{
    for (int i = 0; i < SIZES; i++) {
        uint64_t fit = bench->bytes / sizes[i];

        lending_add(lending, sizes[i], fit == 0 ? 1 : fit < PIECES ? fit : PIECES);
    }
    lending_add(lending, bench->bytes, 1);
    lending_add(lending, small_bytes, SMALL_BLOCKS);
    lending_add(lending, smallest_bytes, SMALL_BLOCKS);
}

void bench_network(struct bench *bench)
{
    struct network *network = bench->network;
    struct borrowing *borrowing = must_allocate(1, sizeof *borrowing);
    struct stand stand = {.bench = bench, .network = network, .borrowing = borrowing};
    struct lend_error error;

    if (network->has_hosts)
        must(hosts_open(&network->hosts, &error), &error);
    lay_out(&borrowing->lending, bench);
    borrowing->lending.network = network;
    stand.progress = progress_start(section, SIZES + 5);
    borrowing_begin(borrowing);
    raw_receiver_begin(&stand.raw, network_address(network, NETWORK_OWNER),
                       borrowing->hello.raw_port);
    measure_large(&stand);
    for (uint32_t i = 0; i < SIZES; i++)
        measure_scattered(&stand, i);
    measure_small(&stand, SMALLEST);
    measure_small(&stand, SMALL);
    measure_peers(&stand);
    measure_heartbeats(&stand);
    raw_receiver_end(&stand.raw);
    borrowing_end(borrowing);
    progress_end(&stand.progress);
    if (network->has_hosts) {
        must(hosts_leave(&network->hosts, &error), &error);
        hosts_close(&network->hosts);
    }
    free(borrowing);
}
