/* SPDX-License-Identifier: Apache-2.0 */
#include "hostile.h"

#include "base/crc32c.h"
#include "base/sys.h"
#include "base/writer.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The hostile peer's end of a connection. */

enum { SETUP_MAGIC = 0x534c444e, FRAME_MAGIC = 0x464c };

/* --- the connection --- */

bool over_tcp;
bool over_ucx;

const char *over_what(void)
{
    return over_ucx ? "ucx" : over_tcp ? "tcp" : "local";
}

void wire_dial(struct wire *wire, const struct stage *stage)
{
    struct sockaddr_un address;
    socklen_t count = lend_local_place_socket(&stage->place, &address);

    memset(wire, 0, offsetof(struct wire, payload));
    assert_int_equal(lend_sys->random(wire->incarnation, sizeof wire->incarnation), 0);
    if (over_ucx) {
        parcel_open(&wire->ucx, wire->incarnation);
        parcel_connect(&wire->ucx, stage->ucx_address, stage->ucx_address_bytes);
        return;
    }
    if (over_tcp) {
        stream_dial(wire, &stage->tcp_place);
        return;
    }
    wire->channel = lend_local_channel_create(NULL);
    assert_non_null(wire->channel);
    wire->channel->socket.fd = lend_sys->socket();
    assert_true(wire->channel->socket.fd >= 0);
    assert_int_equal(
        lend_sys->connect(wire->channel->socket.fd, (const struct sockaddr *)&address, count), 0);
}

static void send_setup(struct wire *wire, int memory)
{
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    uint8_t packet[16];
    struct lend_writer writer = lend_writer_init(packet, sizeof packet);
    struct iovec bytes = {.iov_base = packet, .iov_len = sizeof packet};
    struct msghdr message = {.msg_iov = &bytes,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *part = CMSG_FIRSTHDR(&message);

    lend_write_u32(&writer, SETUP_MAGIC);
    lend_write_u16(&writer, 2);
    lend_write_u16(&writer, 0);
    lend_write_u64(&writer, RING_BYTES);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof memory);
    memcpy(CMSG_DATA(part), &memory, sizeof memory);
    assert_int_equal(lend_sys->sendmsg(wire->channel->socket.fd, &message), sizeof packet);
}

/* Wait for something at the socket, and take it. False: nothing came for a while. */
static bool take_packet(struct wire *wire, struct lend_local_packet *packet)
{
    struct pollfd look = {.fd = wire->channel->socket.fd, .events = POLLIN};

    if (poll(&look, 1, 20) <= 0)
        return false;
    lend_local_receive(look.fd, false, packet);
    if (packet->count == 0 || (packet->count < 0 && packet->count != -EAGAIN))
        wire->is_over = true;
    return packet->count > 0;
}

/* All that the owner tells of one-sided ways, up to its end. */
static void await_ready(struct wire *wire)
{
    struct lend_local_notice notice = {.number = 0};
    struct lend_local_packet packet;
    uint64_t until = wall_ns() + PATIENCE;

    while (notice.type != LEND_LOCAL_READY) {
        assert_true(wall_ns() < until && !wire->is_over);
        if (take_packet(wire, &packet) && packet.count > 1)
            assert_true(lend_local_notice_decode(&packet, &notice));
    }
    atomic_store(&wire->channel->is_ready, true);
}

static enum lend_status ask_over_ucx(struct parcel_end *end)
{
    uint64_t until = wall_ns() + PATIENCE;

    parcel_ask(end, end->address, end->address_bytes);
    while (end->peers.channel == 0 && !parcel_is_over(end)) {
        assert_true(wall_ns() < until);
        parcel_work(end, true);
    }
    return end->is_lost ? LEND_E_PEER_DEAD : end->refused;
}

enum lend_status wire_set_up(struct wire *wire)
{
    uint8_t preamble[LEND_TCP_PREAMBLE_BYTES];
    struct lend_local_packet packet;
    struct lend_local_answer answer;
    uint64_t until = wall_ns() + PATIENCE;

    if (over_ucx)
        return ask_over_ucx(&wire->ucx);
    if (over_tcp) {
        lend_tcp_preamble_encode(preamble);
        return stream_send(wire, preamble, sizeof preamble) ? LEND_OK : LEND_E_PEER_DEAD;
    }
    int memory = lend_sys->memfd("hostile", lend_local_file_bytes(RING_BYTES));
    assert_true(memory >= 0);
    assert_int_equal(lend_local_channel_map(wire->channel, memory, RING_BYTES, true, NULL),
                     LEND_OK);
    send_setup(wire, memory);
    lend_sys->close(memory);
    while (!take_packet(wire, &packet)) {
        assert_false(wire->is_over);
        assert_true(wall_ns() < until);
    }
    packet.is_whole = true; /* we refuse its descriptor, so that it is cut */
    assert_true(lend_local_answer_decode(&packet, &answer));
    if (answer.status == LEND_OK)
        await_ready(wire);
    return (enum lend_status)answer.status;
}

void wire_say_hello(struct wire *wire, const struct stage *stage)
{
    struct lend_hello hello = {.version_min = 1, .version_max = 1, .name = "hostile"};
    uint8_t bytes[256];

    memcpy(hello.incarnation, wire->incarnation, sizeof hello.incarnation);
    memcpy(hello.wanted, stage->incarnation, sizeof hello.wanted);
    size_t count = lend_hello_encode(&hello, bytes, sizeof bytes);
    assert_true(wire_send(wire, LEND_FRAME_HELLO, 0, bytes, count));
}

void wire_meet(struct wire *wire, const struct stage *stage)
{
    wire_dial(wire, stage);
    assert_int_equal(wire_set_up(wire), LEND_OK);
    wire_say_hello(wire, stage);
    expect_frame(wire, LEND_FRAME_WELCOME);
}

void wire_close(struct wire *wire)
{
    if (over_ucx) {
        (wire->is_let_in ? parcel_end_channel : parcel_close)(&wire->ucx);
        return;
    }
    if (over_tcp) {
        lend_sys->close(wire->stream);
        return;
    }
    lend_local_channel_destroy(wire->channel, false);
    wire->channel = NULL;
}

void wire_shutdown(struct wire *wire)
{
    if (over_ucx)
        (wire->is_let_in ? parcel_end_channel : parcel_hang_up)(&wire->ucx);
    else
        lend_sys->shutdown(over_tcp ? wire->stream : wire->channel->socket.fd);
}

bool wire_is_full(struct wire *wire)
{
    int waiting = 0;

    if (over_ucx) {
        parcel_work(&wire->ucx, true);
        return wire->ucx.arrived - wire->ucx.taken >= RING_BYTES - 32768;
    }
    if (!over_tcp)
        return lend_ring_available(&wire->channel->in) >= RING_BYTES - 32768;
    assert_int_equal(ioctl(wire->stream, FIONREAD, &waiting), 0);
    return waiting > 0;
}

bool wire_packet(struct wire *wire, const void *bytes, size_t count)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (over_ucx) {
        parcel_send(&wire->ucx, &part, &(struct iovec){.iov_len = 0}, LEND_UCX_SEND_EAGER);
        return true;
    }
    return lend_sys->sendmsg(over_tcp ? wire->stream : wire->channel->socket.fd, &message) ==
           (ssize_t)count;
}

/* --- frames out --- */

struct forged forge(const struct wire *wire, uint8_t type, uint64_t request, const void *payload,
                    size_t count)
{
    return (struct forged){
        .magic = FRAME_MAGIC,
        .version = LEND_PROTOCOL_VERSION,
        .type = type,
        .payload_bytes = (uint32_t)count,
        .sequence = wire->sequence,
        .request = request,
        .payload_crc = type != LEND_FRAME_DATA ? lend_crc32c(0, payload, count) : 0,
    };
}

bool wire_has_room(struct wire *wire, size_t count)
{
    if (over_ucx) {
        parcel_work(&wire->ucx, false);
        return parcel_has_room(&wire->ucx, count);
    }
    if (over_tcp)
        return poll(&(struct pollfd){.fd = wire->stream, .events = POLLOUT}, 1, 0) > 0;
    size_t room = lend_local_room(&wire->channel->base);
    return room > 0 && room >= count;
}

static void wait_over_ucx(struct wire *wire)
{
    parcel_work(&wire->ucx, true);
    wire->is_over = parcel_is_over(&wire->ucx);
}

static bool await_room(struct wire *wire, size_t count)
{
    uint64_t until = wall_ns() + PATIENCE;
    struct lend_local_packet packet;

    while (!wire_has_room(wire, count)) {
        if (wire->is_over)
            return false;
        assert_true(wall_ns() < until);
        if (over_ucx)
            wait_over_ucx(wire);
        else if (lend_ring_sleep_producer(&wire->channel->out, 64 + count))
            (void)take_packet(wire, &packet);
    }
    return true;
}

void wire_encode(const struct forged *forged, uint8_t *header)
{
    struct lend_writer writer = lend_writer_init(header, LEND_FRAME_HEADER_BYTES);

    lend_write_u16(&writer, forged->magic);
    lend_write_u8(&writer, forged->version);
    lend_write_u8(&writer, forged->type);
    lend_write_u32(&writer, forged->payload_bytes);
    lend_write_u64(&writer, forged->sequence);
    lend_write_u64(&writer, forged->request);
    lend_write_u32(&writer, forged->payload_crc);
    lend_write_u32(&writer, lend_crc32c(0, header, 28) + forged->header_crc_error);
}

bool wire_send_forged(struct wire *wire, const struct forged *forged, const void *payload,
                      size_t count)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    if (!over_tcp && !await_room(wire, count))
        return false;
    wire_encode(forged, header);
    wire->sequence++;
    if (over_tcp)
        return stream_send(wire, header, sizeof header) && stream_send(wire, payload, count);
    if (over_ucx) {
        struct lend_ucx_message message = parcel_write(&wire->ucx, LEND_UCX_FRAME);

        memcpy(message.frame, header, sizeof header);
        parcel_post(&wire->ucx, &message, payload, count);
        return true;
    }
    lend_local_send(&wire->channel->base, header, payload, count);
    lend_local_flush(&wire->channel->base);
    return true;
}

bool wire_send(struct wire *wire, uint8_t type, uint64_t request, const void *payload, size_t count)
{
    struct forged forged = forge(wire, type, request, payload, count);

    return wire_send_forged(wire, &forged, payload, count);
}

/* --- frames in --- */

static bool take_over_ucx(struct wire *wire)
{
    struct parcel *parcel = parcel_take(&wire->ucx);

    wire->is_over = parcel_is_over(&wire->ucx);
    if (parcel == NULL)
        return false;
    assert_int_equal(lend_frame_decode(parcel->message.frame, &wire->frame, NULL), LEND_OK);
    assert_int_equal(wire->frame.payload_bytes, parcel->length);
    memcpy(wire->payload, parcel->bytes, parcel->length);
    free(parcel);
    assert_int_equal(lend_frame_check(&wire->frame, wire->payload, NULL), LEND_OK);
    return true;
}

bool wire_take_now(struct wire *wire)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    if (over_ucx)
        return take_over_ucx(wire);
    if (over_tcp)
        return stream_take_now(wire);
    struct lend_channel *channel = &wire->channel->base;
    if (wire->channel->shared == NULL || lend_local_peek(channel, header, NULL) != LEND_OK)
        return false;
    assert_int_equal(lend_frame_decode(header, &wire->frame, NULL), LEND_OK);
    assert_int_equal(lend_local_take(channel, wire->payload, wire->frame.payload_bytes, NULL),
                     LEND_OK);
    assert_int_equal(lend_frame_check(&wire->frame, wire->payload, NULL), LEND_OK);
    lend_local_flush(channel);
    return true;
}

bool wire_take(struct wire *wire)
{
    uint64_t until = wall_ns() + PATIENCE;
    struct lend_local_packet packet;

    while (!wire_take_now(wire)) {
        if (wire->is_over)
            return wire_take_now(wire);
        assert_true(wall_ns() < until);
        if (over_ucx)
            wait_over_ucx(wire);
        else if (over_tcp)
            stream_wait(wire, POLLIN);
        else if (wire->channel->shared == NULL || wire->channel->in.is_broken ||
                 lend_ring_sleep_consumer(&wire->channel->in))
            (void)take_packet(wire, &packet);
    }
    return true;
}

void expect_frame(struct wire *wire, uint8_t type)
{
    assert_true(wire_take(wire));
    assert_int_equal(wire->frame.type, type);
}

void expect_cut(struct wire *wire, enum lend_status status)
{
    enum lend_status said = LEND_OK;

    while (wire_take(wire)) {
        struct lend_verdict verdict;

        if (wire->frame.type != LEND_FRAME_BYE)
            continue;
        assert_int_equal(
            lend_verdict_decode(wire->payload, wire->frame.payload_bytes, &verdict, NULL), LEND_OK);
        said = (enum lend_status)verdict.status;
        assert_string_not_equal(verdict.text, "");
    }
    assert_string_equal(lend_status_name(said), lend_status_name(status));
}

enum lend_status await_done(struct wire *wire, uint64_t request, uint64_t *out_data_bytes)
{
    uint64_t bytes = 0;

    while (wire_take(wire)) {
        struct lend_verdict verdict;

        if (wire->frame.type == LEND_FRAME_DATA && wire->frame.request == request)
            bytes += wire->frame.payload_bytes;
        if (wire->frame.type != LEND_FRAME_DONE || wire->frame.request != request)
            continue;
        assert_int_equal(
            lend_verdict_decode(wire->payload, wire->frame.payload_bytes, &verdict, NULL), LEND_OK);
        if (out_data_bytes != NULL)
            *out_data_bytes = bytes;
        return (enum lend_status)verdict.status;
    }
    fail_msg("the connection was cut before request %llu was done", (unsigned long long)request);
    return LEND_E_PEER_DEAD;
}

/* --- requests --- */

struct asking ask_read(const struct stage *stage, uint32_t first, uint32_t count)
{
    return (struct asking){
        .request = {.direction = LEND_READ,
                    .lease = stage->reading,
                    .run_count = 1,
                    .total_bytes = (uint64_t)count * BLOCK_BYTES,
                    .region_count = 1},
        .region_ids = {stage->kv_id},
        .run_count = 1,
        .runs = {{.first = first, .count = count}},
    };
}

struct asking ask_write(const struct stage *stage, uint32_t first, uint32_t count)
{
    struct asking asking = ask_read(stage, QUARTER + first, count);

    asking.request.direction = LEND_WRITE;
    asking.request.lease = stage->writing;
    return asking;
}

struct asking ask_range(const struct stage *stage, uint64_t offset, uint64_t length)
{
    return (struct asking){
        .request = {.direction = LEND_READ,
                    .has_ranges = true,
                    .lease = stage->gapped,
                    .run_count = 1,
                    .total_bytes = length},
        .run_count = 1,
        .ranges = {{.region_id = stage->gaps_id, .offset_bytes = offset, .length_bytes = length}},
    };
}

void wire_send_runs(struct wire *wire, uint64_t request, const struct asking *asking)
{
    uint8_t bytes[256];
    struct lend_writer writer = lend_writer_init(bytes, sizeof bytes);

    for (uint32_t i = 0; i < asking->run_count; i++) {
        if (asking->request.has_ranges) {
            lend_write_u64(&writer, asking->ranges[i].region_id);
            lend_write_u64(&writer, asking->ranges[i].offset_bytes);
            lend_write_u64(&writer, asking->ranges[i].length_bytes);
        } else {
            lend_write_u32(&writer, asking->runs[i].first);
            lend_write_u32(&writer, asking->runs[i].count);
        }
    }
    if (asking->run_count > 0)
        (void)wire_send(wire, LEND_FRAME_RUNS, request, bytes, writer.count);
}

uint64_t wire_ask(struct wire *wire, const struct asking *asking)
{
    uint8_t bytes[256];
    uint64_t request = ++wire->request;
    size_t count = lend_request_encode(&asking->request, asking->region_ids, bytes, sizeof bytes);

    assert_true(count <= sizeof bytes);
    (void)wire_send(wire, LEND_FRAME_REQUEST, request, bytes, count);
    wire_send_runs(wire, request, asking);
    return request;
}
