/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an owner that breaks the protocol costs a reader nothing but the transfers from it: they
 * end in time, with LEND_E_PEER_DEAD or the documented cause, nothing outside of their destination
 * is written, nothing is written after their end, and the reader goes on with others. Method: a
 * fake owner, by hand, at a socket of its own, or above a UCX that is as it should be; the reader
 * is the honest one of the stage.
 */
#include "hostile.h"

#include "base/sys.h"
#include "base/writer.h"
#include "wire/metadata.h"
#include "wire/ticket.h"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    ANSWER_MAGIC = 0x414c444e,
    VICTIM_BLOCKS = 8,
    FIRST = 2,
    COUNT = 4,
    TOTAL = COUNT * BLOCK_BYTES
};

/* A fake owner, and what the reader has of it. */
struct fake {
    struct stage *stage;
    struct lend_local_place place; /* of the listener; over tcp */
    struct lend_tcp_place tcp_place;
    int listener;
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint8_t *victim; /* the reader's memory: blocks FIRST .. are the destination */
    struct lend_region *region;
    struct lend_peer *peer;
    struct lend_ticket *ticket;
    struct lend_transfer *reads, *writes;
    struct wire wire; /* the connection of this moment */
};

/* --- the fake owner --- */

static void listen_at_stream(struct fake *fake)
{
    struct sockaddr_storage address;

    assert_true(lend_tcp_place_parse(&fake->tcp_place, "127.0.0.1"));
    socklen_t count = lend_tcp_place_socket(&fake->tcp_place, &address);
    fake->listener = lend_sys->tcp_socket(AF_INET);
    assert_true(fake->listener >= 0);
    assert_int_equal(lend_sys->bind(fake->listener, (struct sockaddr *)&address, count), 0);
    assert_int_equal(lend_sys->listen(fake->listener, 8), 0);
    assert_int_equal(lend_sys->own_address(fake->listener, &address), 0);
    assert_true(lend_tcp_place_of(&fake->tcp_place, &address));
}

static void listen_at(struct fake *fake)
{
    struct sockaddr_un address;

    assert_int_equal(lend_sys->random(fake->incarnation, sizeof fake->incarnation), 0);
    if (over_tcp) {
        listen_at_stream(fake);
        return;
    }
    if (over_ucx) {
        fake->listener = -1;
        parcel_open(&fake->wire.ucx, fake->incarnation);
        fake->wire.is_let_in = fake->wire.ucx.is_alive = true;
        return;
    }
    int length =
        snprintf(fake->place.path, sizeof fake->place.path, "%s/fake.sock", fake->stage->directory);

    fake->place.length = (size_t)length;
    socklen_t count = lend_local_place_socket(&fake->place, &address);
    fake->listener = lend_sys->socket();
    assert_true(fake->listener >= 0);
    assert_int_equal(lend_sys->bind(fake->listener, (struct sockaddr *)&address, count), 0);
    assert_int_equal(lend_sys->listen(fake->listener, 8), 0);
}

static void name_transport(const struct fake *fake, struct lend_metadata_transport *out)
{
    const struct lend_tcp_places places = {.count = 1, .places = {fake->tcp_place}};

    (void)snprintf(out->name, sizeof out->name, "%s", over_what());
    if (over_ucx) {
        memcpy(out->address, fake->wire.ucx.address, sizeof out->address);
        out->address_bytes = (uint32_t)fake->wire.ucx.address_bytes;
    } else if (over_tcp) {
        out->address_bytes = (uint32_t)lend_tcp_places_encode(&places, out->address);
    } else {
        out->address_bytes = (uint32_t)lend_local_place_encode(&fake->place, out->address);
    }
}

static void import_fake(struct fake *fake)
{
    const struct lend_metadata_region region = {
        .id = 7,
        .kind = LEND_MEMORY_SYSTEM,
        .access = LEND_ACCESS_READ | LEND_ACCESS_WRITE,
        .address = 0x10000000,
        .length_bytes = VICTIM_BLOCKS * BLOCK_BYTES,
        .geometry = {.block_length_bytes = BLOCK_BYTES,
                     .stride_bytes = BLOCK_BYTES,
                     .count = VICTIM_BLOCKS,
                     .inner_stride_bytes = BLOCK_BYTES,
                     .inner_count = 1},
        .name = "fake",
        .tags = "",
    };
    struct lend_metadata metadata = {.name = "fake",
                                     .serial = 1,
                                     .transport_count = 1,
                                     .transports = {{.name = ""}},
                                     .region_count = 1,
                                     .regions = &region};
    struct lend_ticket_bytes ticket = {.agent = "fake", .access = 3};
    uint8_t bytes[4096];

    memcpy(metadata.incarnation, fake->incarnation, sizeof metadata.incarnation);
    memcpy(ticket.incarnation, fake->incarnation, sizeof ticket.incarnation);
    name_transport(fake, &metadata.transports[0]);
    size_t count = lend_metadata_encode(&metadata, bytes, sizeof bytes);
    assert_int_equal(lend_peer_import(fake->stage->honest, bytes, count, &fake->peer, NULL),
                     LEND_OK);
    count = lend_ticket_encode(&ticket, bytes, sizeof bytes);
    assert_int_equal(lend_ticket_import(fake->peer, bytes, count, &fake->ticket, NULL), LEND_OK);
}

static struct lend_transfer *prepare(struct fake *fake, uint32_t direction)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    const uint64_t id = 7;

    desc.direction = direction;
    desc.peer = fake->peer;
    desc.region_count = 1;
    desc.local_regions = &fake->region;
    desc.remote_regions = &id;
    desc.block_count_max = COUNT;
    assert_int_equal(lend_transfer_prepare(fake->stage->honest, &desc, &transfer, NULL), LEND_OK);
    return transfer;
}

static int fake_up(void **state)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct fake *fake = calloc(1, sizeof *fake);
    void *stage;

    assert_non_null(fake);
    (void)stage_up(&stage);
    fake->stage = stage;
    fake->victim = mmap(NULL, VICTIM_BLOCKS * BLOCK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(fake->victim != MAP_FAILED);
    listen_at(fake);
    assert_int_equal(
        lend_memory_system(fake->victim, VICTIM_BLOCKS * BLOCK_BYTES, &desc.memory, NULL), LEND_OK);
    desc.geometry.block_length_bytes = BLOCK_BYTES;
    desc.geometry.count = VICTIM_BLOCKS;
    assert_int_equal(lend_region_register(fake->stage->honest, &desc, 1, &fake->region, NULL, NULL),
                     LEND_OK);
    import_fake(fake);
    fake->reads = prepare(fake, LEND_READ);
    fake->writes = prepare(fake, LEND_WRITE);
    *state = fake;
    return 0;
}

static void stop_listening(struct fake *fake)
{
    if (over_ucx) {
        parcel_close(&fake->wire.ucx);
        return;
    }
    lend_sys->close(fake->listener);
    if (!over_tcp)
        lend_sys->unlink(fake->place.path);
}

static int fake_down(void **state)
{
    struct fake *fake = *state;
    void *stage = fake->stage;

    assert_int_equal(lend_transfer_release(fake->reads), LEND_OK);
    assert_int_equal(lend_transfer_release(fake->writes), LEND_OK);
    lend_ticket_release(fake->ticket);
    lend_peer_forget(fake->peer);
    stop_listening(fake);
    (void)stage_down(&stage);
    (void)munmap(fake->victim, VICTIM_BLOCKS * BLOCK_BYTES);
    free(fake);
    return 0;
}

#define FAKED(test) cmocka_unit_test_setup_teardown(test, fake_up, fake_down)

/* False: the reader has hung up. */
static bool answer(struct wire *wire, int32_t status)
{
    uint8_t bytes[16];
    struct lend_writer writer = lend_writer_init(bytes, sizeof bytes);

    lend_write_u32(&writer, ANSWER_MAGIC);
    lend_write_u16(&writer, 2);
    lend_write_u16(&writer, 0);
    lend_write_u32(&writer, (uint32_t)status);
    lend_write_u32(&writer, 0);
    return wire_packet(wire, bytes, sizeof bytes);
}

static void let_in_stream(struct fake *fake)
{
    struct pollfd look = {.fd = fake->listener, .events = POLLIN};
    uint8_t preamble[LEND_TCP_PREAMBLE_BYTES];

    memset(&fake->wire, 0, offsetof(struct wire, payload));
    assert_int_equal(poll(&look, 1, 20000), 1);
    stream_adopt(&fake->wire, lend_sys->accept(fake->listener));
    lend_tcp_preamble_encode(preamble);
    assert_true(stream_send(&fake->wire, preamble, sizeof preamble));
    expect_frame(&fake->wire, LEND_FRAME_HELLO);
}

static void let_in_parcels(struct fake *fake)
{
    struct wire *wire = &fake->wire;

    wire->sequence = wire->request = 0;
    wire->is_over = false;
    assert_true(parcel_let_in(&wire->ucx, PATIENCE));
    expect_frame(wire, LEND_FRAME_HELLO);
}

static void let_in_packets(struct fake *fake)
{
    static const struct lend_local_notice ready = {.type = LEND_LOCAL_READY};
    struct wire *wire = &fake->wire;
    struct pollfd look = {.fd = fake->listener, .events = POLLIN};
    struct lend_local_packet packet;

    memset(wire, 0, offsetof(struct wire, payload));
    wire->channel = lend_local_channel_create(NULL);
    assert_non_null(wire->channel);
    assert_int_equal(poll(&look, 1, 20000), 1);
    look.fd = wire->channel->socket.fd = lend_sys->accept(fake->listener);
    assert_true(look.fd >= 0);
    assert_int_equal(poll(&look, 1, 20000), 1);
    lend_local_receive(look.fd, true, &packet);
    assert_int_equal(packet.count, 16);
    assert_int_equal(packet.fd_count, 2);
    assert_int_equal(lend_local_channel_map(wire->channel, packet.fds[0], RING_BYTES, false, NULL),
                     LEND_OK);
    /* Not by threads of lend's: while 64 of them wait, it takes no descriptors. */
    lend_sys->close(packet.fds[0]);
    lend_sys->close(packet.fds[1]);
    assert_true(answer(wire, LEND_OK));
    assert_true(lend_local_notice_send(wire->channel->socket.fd, &ready, -1) > 0);
    expect_frame(wire, LEND_FRAME_HELLO);
}

/* Let the reader in, up to its HELLO. */
static void let_in(struct fake *fake)
{
    (over_ucx ? let_in_parcels : over_tcp ? let_in_stream : let_in_packets)(fake);
}

static void send_welcome(struct fake *fake, const struct lend_welcome *welcome)
{
    uint8_t bytes[128];
    size_t count = lend_welcome_encode(welcome, bytes, sizeof bytes);

    (void)wire_send(&fake->wire, LEND_FRAME_WELCOME, 0, bytes, count);
}

/* The end of a connection: the reader has seen it, so that its next post makes another. */
static void part(struct fake *fake)
{
    struct lend_peer_info info = {.struct_size = sizeof info};
    uint64_t until = wall_ns() + PATIENCE;

    wire_close(&fake->wire);
    do {
        assert_true(wall_ns() < until);
        assert_int_equal(lend_peer_describe(fake->peer, &info, NULL), LEND_OK);
    } while (info.status >= LEND_OK);
}

static struct lend_welcome right_welcome(const struct fake *fake)
{
    struct lend_welcome welcome = {
        .version = 1, .requests_max = 8, .notification_window_bytes = WINDOW_BYTES};

    memcpy(welcome.incarnation, fake->incarnation, sizeof welcome.incarnation);
    return welcome;
}

static void post(struct fake *fake, uint32_t direction, uint64_t timeout_ns)
{
    static const int32_t local[COUNT] = {FIRST, FIRST + 1, FIRST + 2, FIRST + 3};
    static const int32_t remote[COUNT] = {0, 1, 2, 3};
    struct lend_post_desc desc = LEND_POST_DESC_INIT;

    memset(fake->victim, 0x5a, VICTIM_BLOCKS * BLOCK_BYTES);
    desc.ticket = fake->ticket;
    desc.local_blocks = local;
    desc.remote_blocks = remote;
    desc.block_count = COUNT;
    desc.timeout_ns = timeout_ns;
    assert_int_equal(
        lend_transfer_post(direction == LEND_READ ? fake->reads : fake->writes, &desc, NULL),
        LEND_OK);
}

/* A transfer, up to its request and its runs; the request's number. */
static uint64_t await_request(struct fake *fake)
{
    expect_frame(&fake->wire, LEND_FRAME_REQUEST);
    expect_frame(&fake->wire, LEND_FRAME_RUNS);
    fake->wire.request = fake->wire.frame.request;
    return fake->wire.request;
}

static void say_done(struct fake *fake, uint64_t request, int32_t status, uint64_t moved_bytes)
{
    const struct lend_verdict verdict = {
        .status = status, .bytes = moved_bytes, .text = "so be it"};
    uint8_t bytes[512];
    size_t count = lend_verdict_encode(&verdict, bytes, sizeof bytes);

    (void)wire_send(&fake->wire, LEND_FRAME_DONE, request, bytes, count);
}

static void send_data(struct fake *fake, uint64_t request, size_t count)
{
    static uint8_t bytes[LEND_FRAME_PAYLOAD_MAX];

    memset(bytes, 0xdd, sizeof bytes);
    (void)wire_send(&fake->wire, LEND_FRAME_DATA, request, bytes, count);
}

/* Nothing outside of the destination was written. */
static void check_victim(const struct fake *fake)
{
    assert_true(is_all(fake->victim, FIRST * BLOCK_BYTES, 0x5a));
    assert_true(is_all(fake->victim + (FIRST + COUNT) * BLOCK_BYTES,
                       (VICTIM_BLOCKS - FIRST - COUNT) * BLOCK_BYTES, 0x5a));
}

static void expect_end(const struct fake *fake, uint32_t direction, enum lend_status status)
{
    struct lend_transfer *transfer = direction == LEND_READ ? fake->reads : fake->writes;
    struct lend_error why = {0};
    struct lend_transfer_record record = {.struct_size = sizeof record};
    enum lend_status got = lend_transfer_wait(transfer, PATIENCE);

    assert_string_equal(lend_status_name(got), lend_status_name(status));
    assert_int_equal(lend_transfer_describe(transfer, &record, &why), LEND_OK);
    assert_true(record.blocks < COUNT);
    assert_string_not_equal(why.message, "");
    check_victim(fake);
}

/* --- before the welcome is over --- */

static void welcome_of_another(struct fake *fake)
{
    struct lend_welcome welcome = right_welcome(fake);

    welcome.incarnation[0] ^= 1;
    send_welcome(fake, &welcome);
}

static void welcome_of_another_version(struct fake *fake)
{
    struct lend_welcome welcome = right_welcome(fake);

    welcome.version = 2;
    send_welcome(fake, &welcome);
}

static void welcome_to_nothing(struct fake *fake)
{
    struct lend_welcome welcome = right_welcome(fake);

    welcome.requests_max = 0;
    send_welcome(fake, &welcome);
}

static void welcome_to_too_much(struct fake *fake)
{
    struct lend_welcome welcome = right_welcome(fake);

    welcome.requests_max = LEND_WELCOME_REQUESTS_MAX + 1;
    send_welcome(fake, &welcome);
}

static void welcome_twice(struct fake *fake)
{
    const struct lend_welcome welcome = right_welcome(fake);

    send_welcome(fake, &welcome);
    send_welcome(fake, &welcome);
}

static void data_at_once(struct fake *fake)
{
    send_data(fake, 1, BLOCK_BYTES);
}

static void done_at_once(struct fake *fake)
{
    say_done(fake, 1, LEND_OK, TOTAL);
}

static void answer_twice(struct fake *fake)
{
    (void)answer(&fake->wire, LEND_OK);
    (void)answer(&fake->wire, LEND_OK);
}

static void refuse_after_all(struct fake *fake)
{
    (void)answer(&fake->wire, LEND_E_LIMIT);
}

static void talk_nonsense(struct fake *fake)
{
    assert_true(wire_packet(&fake->wire, "neither bell nor answer nor frame of any kind", 45));
}

static void hang_up(struct fake *fake)
{
    wire_shutdown(&fake->wire);
}

static void say_bye(struct fake *fake, int32_t status)
{
    const struct lend_verdict verdict = {.status = status, .text = "enough"};
    uint8_t bytes[512];
    size_t count = lend_verdict_encode(&verdict, bytes, sizeof bytes);

    (void)wire_send(&fake->wire, LEND_FRAME_BYE, 0, bytes, count);
}

static void bye_ok(struct fake *fake)
{
    say_bye(fake, LEND_OK);
}

static void bye_limit(struct fake *fake)
{
    say_bye(fake, LEND_E_LIMIT);
}

static void bye_forked(struct fake *fake)
{
    say_bye(fake, LEND_E_FORKED);
}

static void bye_canceled(struct fake *fake)
{
    say_bye(fake, LEND_E_CANCELED);
}

static void say_nothing(struct fake *fake)
{
    (void)fake;
}

/* --- after the request --- */

static void data_for_nobody(struct fake *fake)
{
    send_data(fake, fake->wire.request + 1, BLOCK_BYTES);
}

static void data_for_request_zero(struct fake *fake)
{
    send_data(fake, 0, BLOCK_BYTES);
}

static void data_beyond_the_end(struct fake *fake)
{
    send_data(fake, fake->wire.request, TOTAL + 1);
}

static void data_beyond_the_end_by_pieces(struct fake *fake)
{
    for (int i = 0; i < COUNT; i++)
        send_data(fake, fake->wire.request, BLOCK_BYTES);
    send_data(fake, fake->wire.request, 1);
}

static void done_for_nobody(struct fake *fake)
{
    say_done(fake, fake->wire.request + 1, LEND_OK, TOTAL);
}

static void done_too_early(struct fake *fake)
{
    send_data(fake, fake->wire.request, TOTAL - 1);
    say_done(fake, fake->wire.request, LEND_OK, TOTAL - 1);
}

static void done_without_a_byte(struct fake *fake)
{
    say_done(fake, fake->wire.request, LEND_OK, 0);
}

static void done_with_bytes_that_never_came(struct fake *fake)
{
    send_data(fake, fake->wire.request, BLOCK_BYTES);
    say_done(fake, fake->wire.request, LEND_E_REVOKED, TOTAL - 1);
}

static void done_and_why(struct fake *fake)
{
    send_data(fake, fake->wire.request, BLOCK_BYTES);
    say_done(fake, fake->wire.request, LEND_E_REVOKED, BLOCK_BYTES);
}

static void done_with_a_status_that_is_not(struct fake *fake)
{
    say_done(fake, fake->wire.request, -9999, 0);
}

static void credit_for_nothing(struct fake *fake)
{
    uint8_t bytes[16];
    size_t count = lend_credit_encode(1, bytes, sizeof bytes);

    (void)wire_send(&fake->wire, LEND_FRAME_CREDIT, 0, bytes, count);
}

static void a_request_back(struct fake *fake)
{
    const struct asking asking = ask_read(fake->stage, 0, 1);

    (void)wire_ask(&fake->wire, &asking);
}

static void a_notification_back(struct fake *fake)
{
    (void)wire_send(&fake->wire, LEND_FRAME_NOTIFY, 0, "hello", 5);
}

static void a_hello_back(struct fake *fake)
{
    (void)wire_send(&fake->wire, LEND_FRAME_HELLO, 0, "hello", 5);
}

static void a_gap(struct fake *fake)
{
    fake->wire.sequence++;
    send_data(fake, fake->wire.request, BLOCK_BYTES);
}

static void a_bad_checksum(struct fake *fake)
{
    struct forged forged = forge(&fake->wire, LEND_FRAME_DONE, fake->wire.request, "bytes", 5);

    forged.payload_crc++;
    (void)wire_send_forged(&fake->wire, &forged, "bytes", 5);
}

static void a_head_beyond_the_ring(struct fake *fake)
{
    struct lend_ring *out = &fake->wire.channel->out;

    atomic_store(&out->shared->head, out->position + RING_BYTES + 64);
    (void)wire_packet(&fake->wire, "b", 1);
}

static void a_tail_beyond_the_head(struct fake *fake)
{
    struct lend_ring *in = &fake->wire.channel->in;

    atomic_store(&in->shared->tail, in->position + 64);
    (void)wire_packet(&fake->wire, "b", 1);
    credit_for_nothing(fake);
}

static void half_the_data_and_an_end(struct fake *fake)
{
    send_data(fake, fake->wire.request, TOTAL / 2);
    hang_up(fake);
}

struct act {
    const char *what;
    void (*act)(struct fake *fake);
    enum lend_status status;
};

/* What only transport local has: answers of its own, and rings. */
static bool is_of_local(const struct act *act)
{
    return act->act == answer_twice || act->act == refuse_after_all ||
           act->act == a_head_beyond_the_ring || act->act == a_tail_beyond_the_head;
}

static void test_bad_greetings_end_the_transfer(void **state)
{
    static const struct act acts[] = {
        {"a welcome of another incarnation", welcome_of_another, LEND_E_PEER_DEAD},
        {"a welcome of another version", welcome_of_another_version, LEND_E_VERSION},
        {"a welcome to no request", welcome_to_nothing, LEND_E_PEER_DEAD},
        {"a welcome to too many requests", welcome_to_too_much, LEND_E_PEER_DEAD},
        {"two welcomes", welcome_twice, LEND_E_PEER_DEAD},
        {"data", data_at_once, LEND_E_PEER_DEAD},
        {"DONE", done_at_once, LEND_E_PEER_DEAD},
        {"two answers", answer_twice, LEND_E_PEER_DEAD},
        {"a refusal", refuse_after_all, LEND_E_LIMIT},
        {"nonsense at the socket", talk_nonsense, LEND_E_PEER_DEAD},
        {"the end", hang_up, LEND_E_PEER_DEAD},
        {"a BYE without a cause", bye_ok, LEND_E_PEER_DEAD},
        {"a BYE with a cause", bye_limit, LEND_E_LIMIT},
        {"a BYE in the name of our own fork", bye_forked, LEND_E_PEER_DEAD},
        {"a BYE in the name of our own cancel", bye_canceled, LEND_E_PEER_DEAD},
        {"nothing", say_nothing, LEND_E_TIMEOUT},
    };
    struct fake *fake = *state;

    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        if ((over_tcp || over_ucx) && is_of_local(&acts[i]))
            continue;
        print_message("%s\n", acts[i].what);
        post(fake, LEND_READ, PATIENCE / 2);
        let_in(fake);
        acts[i].act(fake);
        /* A message of UCX that is none of ours is dropped, and the reader waits on. */
        bool is_dropped = over_ucx && acts[i].act == talk_nonsense;
        expect_end(fake, LEND_READ, is_dropped ? LEND_E_TIMEOUT : acts[i].status);
        part(fake);
    }
}

static const struct act acts_on_requests[] = {
    {"data of no request", data_for_nobody, LEND_E_PEER_DEAD},
    {"data of request 0", data_for_request_zero, LEND_E_PEER_DEAD},
    {"data beyond the end", data_beyond_the_end, LEND_E_PEER_DEAD},
    {"data beyond the end, by pieces", data_beyond_the_end_by_pieces, LEND_E_PEER_DEAD},
    {"DONE of no request", done_for_nobody, LEND_E_PEER_DEAD},
    {"DONE too early", done_too_early, LEND_E_PEER_DEAD},
    {"DONE with bytes that never came", done_with_bytes_that_never_came, LEND_E_PEER_DEAD},
    {"DONE with a status that is none", done_with_a_status_that_is_not, LEND_E_PEER_DEAD},
    {"credit for nothing", credit_for_nothing, LEND_E_PEER_DEAD},
    {"a request", a_request_back, LEND_E_PEER_DEAD},
    {"a notification", a_notification_back, LEND_E_PEER_DEAD},
    {"a HELLO", a_hello_back, LEND_E_PEER_DEAD},
    {"a gap", a_gap, LEND_E_PEER_DEAD},
    {"a bad checksum", a_bad_checksum, LEND_E_PEER_DEAD},
    {"a head beyond the ring", a_head_beyond_the_ring, LEND_E_PEER_DEAD},
    {"a tail beyond the head", a_tail_beyond_the_head, LEND_E_PEER_DEAD},
    {"half the data, and the end", half_the_data_and_an_end, LEND_E_PEER_DEAD},
    {"DONE, and why", done_and_why, LEND_E_REVOKED},
    {"DONE without a byte", done_without_a_byte, LEND_E_PEER_DEAD},
};

static void play_on_request(struct fake *fake, const struct act *act, uint32_t direction)
{
    struct lend_welcome welcome = right_welcome(fake);

    if ((over_tcp || over_ucx) && is_of_local(act))
        return;
    print_message("%s\n", act->what);
    post(fake, direction, PATIENCE / 2);
    let_in(fake);
    send_welcome(fake, &welcome);
    (void)await_request(fake);
    act->act(fake);
    expect_end(fake, direction, act->status);
    part(fake);
}

static void test_bad_answers_end_the_read(void **state)
{
    for (size_t i = 0; i < sizeof acts_on_requests / sizeof acts_on_requests[0]; i++)
        play_on_request(*state, &acts_on_requests[i], LEND_READ);
}

static void test_data_for_a_write_ends_it(void **state)
{
    struct fake *fake = *state;

    /* The last ones need not be wrong for a write, whose bytes may all have left. */
    for (size_t i = 0; i < 4; i++)
        play_on_request(fake, &acts_on_requests[i], LEND_WRITE);
    assert_true(is_all(fake->victim, VICTIM_BLOCKS * BLOCK_BYTES, 0x5a));
}

/* --- too late --- */

static void test_nothing_lands_after_the_end(void **state)
{
    struct fake *fake = *state;
    const struct lend_welcome welcome = right_welcome(fake);

    post(fake, LEND_READ, 300 * MS);
    let_in(fake);
    send_welcome(fake, &welcome);
    uint64_t late = await_request(fake);
    send_data(fake, late, BLOCK_BYTES);
    expect_end(fake, LEND_READ, LEND_E_TIMEOUT);
    expect_frame(&fake->wire, LEND_FRAME_CANCEL);

    post(fake, LEND_READ, PATIENCE); /* which fills the memory anew */
    uint64_t next = await_request(fake);
    send_data(fake, late, TOTAL - BLOCK_BYTES);
    say_done(fake, late, LEND_OK, TOTAL);
    say_done(fake, next, LEND_E_EXPIRED, 0);
    expect_end(fake, LEND_READ, LEND_E_EXPIRED);
    assert_true(is_all(fake->victim, VICTIM_BLOCKS * BLOCK_BYTES, 0x5a));
    part(fake);
}

/* --- by chance --- */

static void send_by_chance(struct fake *fake, struct chance *chance)
{
    static uint8_t bytes[LEND_FRAME_PAYLOAD_MAX];
    uint64_t request = fake->wire.request + chance_below(chance, 8) / 7;

    switch (chance_below(chance, 8)) {
    case 0: send_data(fake, request, 1 + chance_below(chance, TOTAL + 64)); break;
    case 1: send_data(fake, request, 1 + chance_below(chance, 700)); break;
    case 2:
        say_done(fake, request, -(int32_t)chance_below(chance, 60), chance_below(chance, TOTAL));
        break;
    case 3: {
        struct lend_welcome welcome = right_welcome(fake);

        welcome.requests_max = (uint32_t)chance_below(chance, 70);
        send_welcome(fake, &welcome);
        break;
    }
    case 4: {
        size_t count = lend_credit_encode(chance_below(chance, 3), bytes, sizeof bytes);

        (void)wire_send(&fake->wire, LEND_FRAME_CREDIT, 0, bytes, count);
        break;
    }
    default:
        for (size_t i = 0; i < 64; i++)
            bytes[i] = (uint8_t)chance_next(chance);
        (void)wire_send(&fake->wire, (uint8_t)chance_below(chance, 14), request, bytes,
                        1 + chance_below(chance, 64));
        break;
    }
}

static void test_frames_by_chance_end_in_time(void **state)
{
    struct fake *fake = *state;
    const struct lend_welcome welcome = right_welcome(fake);
    struct chance chance = chance_begin("a server's frames by chance");

    for (uint64_t round = 0, rounds = scaled(600); round < rounds; round++) {
        uint32_t direction = chance_below(&chance, 2) == 0 ? LEND_READ : LEND_WRITE;
        struct lend_transfer *transfer = direction == LEND_READ ? fake->reads : fake->writes;

        post(fake, direction, PATIENCE / 2);
        let_in(fake);
        if (chance_below(&chance, 8) > 0) {
            send_welcome(fake, &welcome);
            (void)await_request(fake);
        }
        for (int i = 0; i < 30 && lend_transfer_test(transfer) == LEND_PENDING; i++)
            send_by_chance(fake, &chance);
        hang_up(fake);
        assert_int_not_equal(lend_transfer_wait(transfer, PATIENCE), LEND_PENDING);
        check_victim(fake);
        part(fake);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKED(test_bad_greetings_end_the_transfer), FAKED(test_bad_answers_end_the_read),
        FAKED(test_data_for_a_write_ends_it),       FAKED(test_nothing_lands_after_the_end),
        FAKED(test_frames_by_chance_end_in_time),
    };

    RUN_OVER_EACH(tests);
}
