/* SPDX-License-Identifier: Apache-2.0 */
#include "hostile.h"

#include "base/sys.h"

#include <errno.h>
#include <poll.h>

/* The hostile peer's end of a connection over tcp: bytes of a socket, held by hand. */

void stream_adopt(struct wire *wire, int fd)
{
    assert_true(fd >= 0);
    wire->stream = fd;
    wire->owes_preamble = true;
    wire->in_count = 0;
}

void stream_dial(struct wire *wire, const struct lend_tcp_place *place)
{
    struct sockaddr_storage address;
    socklen_t count = lend_tcp_place_socket(place, &address);
    int fd = lend_sys->tcp_socket(AF_INET);
    struct pollfd look = {.fd = fd, .events = POLLOUT};

    /* Little room, so that who does not read is soon full. */
    assert_int_equal(lend_sys->set_option(fd, SOL_SOCKET, SO_RCVBUF, 16384), 0);
    int result = lend_sys->connect(fd, (const struct sockaddr *)&address, count);
    assert_true(result == 0 || result == -EINPROGRESS);
    assert_int_equal(poll(&look, 1, 20000), 1);
    assert_int_equal(lend_sys->pending_error(fd), 0);
    stream_adopt(wire, fd);
}

void stream_wait(struct wire *wire, int16_t events)
{
    (void)poll(&(struct pollfd){.fd = wire->stream, .events = events}, 1, 20);
}

/* All of them, or false: the other end takes nothing any more. */
bool stream_send(struct wire *wire, const void *bytes, size_t count)
{
    uint64_t until = wall_ns() + PATIENCE;
    const uint8_t *next = bytes;

    while (count > 0) {
        struct iovec part = {.iov_base = (void *)(uintptr_t)next, .iov_len = count};
        const struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t sent = lend_sys->sendmsg(wire->stream, &message);

        if (sent < 0 && sent != -EAGAIN)
            return false;
        if (sent > 0) {
            next += sent;
            count -= (size_t)sent;
            continue;
        }
        assert_true(wall_ns() < until);
        stream_wait(wire, POLLOUT);
    }
    return true;
}

/* Have so many bytes in hand. */
static bool gather(struct wire *wire, size_t count)
{
    while (wire->in_count < count && !wire->is_over) {
        struct iovec part = {.iov_base = wire->in + wire->in_count,
                             .iov_len = count - wire->in_count};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t came = lend_sys->recvmsg(wire->stream, &message);

        if (came == -EAGAIN)
            return false;
        if (came <= 0)
            wire->is_over = true;
        else
            wire->in_count += (size_t)came;
    }
    return wire->in_count >= count;
}

bool stream_take_now(struct wire *wire)
{
    uint16_t version;

    if (wire->owes_preamble) {
        if (!gather(wire, LEND_TCP_PREAMBLE_BYTES))
            return false;
        assert_int_equal(lend_tcp_preamble_decode(wire->in, &version), LEND_TCP_IS_OURS);
        wire->owes_preamble = false;
        wire->in_count = 0;
    }
    if (!gather(wire, LEND_FRAME_HEADER_BYTES))
        return false;
    assert_int_equal(lend_frame_decode(wire->in, &wire->frame, NULL), LEND_OK);
    if (!gather(wire, LEND_FRAME_HEADER_BYTES + wire->frame.payload_bytes))
        return false;
    memcpy(wire->payload, wire->in + LEND_FRAME_HEADER_BYTES, wire->frame.payload_bytes);
    assert_int_equal(lend_frame_check(&wire->frame, wire->payload, NULL), LEND_OK);
    wire->in_count = 0;
    return true;
}
