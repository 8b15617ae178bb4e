/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/order.h"

#include "tool/trouble.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Both ends are one program, so a struct travels as it lies, cut behind the bytes that it carries.
 */

static enum lend_status send_cut(int channel, const void *message, size_t head, uint32_t byte_count,
                                 struct lend_error *error)
{
    ssize_t sent = 0;

    if (byte_count > ENDPOINT_BYTES_MAX)
        return trouble(error, LEND_E_LIMIT, "%u bytes do not fit the side channel", byte_count);
    do {
        sent = send(channel, message, head + byte_count, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
        return trouble(error, LEND_E_PEER_DEAD, "the side channel is closed");
    if (sent < 0)
        return trouble_errno(error, "the side channel takes nothing");
    return LEND_OK;
}

static enum lend_status receive_cut(int channel, void *message, size_t size, size_t head,
                                    struct lend_error *error)
{
    ssize_t count = 0;

    do {
        count = recv(channel, message, size, 0);
    } while (count < 0 && errno == EINTR);
    if (count == 0 || (count < 0 && errno == ECONNRESET))
        return trouble(error, LEND_E_PEER_DEAD, "the side channel is closed");
    if (count < 0)
        return trouble_errno(error, "the side channel gives nothing");
    if ((size_t)count < head)
        return trouble(error, LEND_E_CORRUPT, "the side channel gave %zd bytes of %zu", count,
                       head);
    return LEND_OK;
}

enum lend_status order_send(int channel, const struct order *order, struct lend_error *error)
{
    return send_cut(channel, order, offsetof(struct order, bytes), order->byte_count, error);
}

enum lend_status order_receive(int channel, struct order *out, struct lend_error *error)
{
    return receive_cut(channel, out, sizeof *out, offsetof(struct order, bytes), error);
}

enum lend_status report_send(int channel, const struct report *report, struct lend_error *error)
{
    return send_cut(channel, report, offsetof(struct report, bytes_sent), report->byte_count,
                    error);
}

enum lend_status report_receive(int channel, struct report *out, struct lend_error *error)
{
    return receive_cut(channel, out, sizeof *out, offsetof(struct report, bytes_sent), error);
}
