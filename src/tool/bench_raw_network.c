/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_network.h"

#include "tool/trouble.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * What there is to reach: one TCP connection, a sender that gathers pieces from where they lie, and
 * a receiver that scatters them to where they belong, as many a call as the kernel takes. Nobody
 * checks anything.
 */

/* What the receiver asks for. With numbers: the pieces to come from now on. Without: send them. */
struct request {
    uint64_t block_bytes;
    uint64_t count;
    uint32_t has_numbers;
    uint32_t padding;
};

/* Move all of them, a window of at most IOV_MAX after the other. */
static bool move_all(int socket, const struct iovec *places, uint64_t count, bool is_sending)
{
    struct iovec window[IOV_MAX];

    for (uint64_t first = 0; first < count; first += IOV_MAX) {
        uint64_t left = count - first < IOV_MAX ? count - first : IOV_MAX;
        struct iovec *next = window;

        memcpy(window, places + first, left * sizeof *window);
        while (left > 0) {
            struct msghdr message = {.msg_iov = next, .msg_iovlen = left};
            ssize_t moved = is_sending ? sendmsg(socket, &message, MSG_NOSIGNAL)
                                       : recvmsg(socket, &message, MSG_WAITALL);
            if (moved <= 0)
                return false;
            for (; left > 0 && (size_t)moved >= next->iov_len; next++, left--)
                moved -= (ssize_t)next->iov_len;
            if (left > 0) {
                next->iov_base = (unsigned char *)next->iov_base + moved;
                next->iov_len -= (size_t)moved;
            }
        }
    }
    return true;
}

static bool move_bytes(int socket, void *bytes, size_t count, bool is_sending)
{
    const struct iovec place = {bytes, count};

    return move_all(socket, &place, 1, is_sending);
}

/* Where the pieces lie. */
static struct iovec *place_all(const int32_t *numbers, uint64_t count, uint64_t block_bytes,
                               const unsigned char *memory)
{
    struct iovec *places = must_allocate(count, sizeof *places);

    for (uint64_t i = 0; i < count; i++)
        places[i] = (struct iovec){(void *)(uintptr_t)(memory + (uint64_t)numbers[i] * block_bytes),
                                   block_bytes};
    return places;
}

static void set_no_delay(int socket)
{
    int one = 1;

    must_sys(setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0, "TCP_NODELAY");
}

/* --- the sender --- */

static struct iovec *take_numbers(int socket, const struct request *request,
                                  const unsigned char *memory)
{
    int32_t *numbers = must_allocate(request->count, sizeof *numbers);
    struct iovec *places = NULL;

    if (move_bytes(socket, numbers, request->count * sizeof *numbers, false))
        places = place_all(numbers, request->count, request->block_bytes, memory);
    free(numbers);
    return places;
}

static void *send_until_closed(void *context)
{
    struct raw_sender *sender = context;
    int socket = accept4(sender->listener, NULL, NULL, SOCK_CLOEXEC);
    struct iovec *places = NULL;
    struct request request;

    if (socket < 0)
        return NULL;
    set_no_delay(socket);
    while (move_bytes(socket, &request, sizeof request, false)) {
        if (request.has_numbers != 0) {
            free(places);
            places = take_numbers(socket, &request, sender->memory);
        }
        if (places == NULL || !move_all(socket, places, request.count, true))
            break;
    }
    free(places);
    (void)close(socket);
    return NULL;
}

void raw_sender_begin(struct raw_sender *sender, const char *address, const unsigned char *memory)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t length = sizeof name;

    sender->memory = memory;
    sender->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must_sys(sender->listener >= 0, "a raw socket");
    must_sys(inet_pton(AF_INET, address, &name.sin_addr) == 1, "an address");
    must_sys(bind(sender->listener, (struct sockaddr *)&name, sizeof name) == 0 &&
                 listen(sender->listener, 1) == 0 &&
                 getsockname(sender->listener, (struct sockaddr *)&name, &length) == 0,
             "a raw socket that listens");
    sender->port = ntohs(name.sin_port);
    must_sys(pthread_create(&sender->thread, NULL, send_until_closed, sender) == 0, "a thread");
}

void raw_sender_end(struct raw_sender *sender)
{
    (void)shutdown(sender->listener, SHUT_RDWR); /* if nobody came */
    (void)pthread_join(sender->thread, NULL);
    (void)close(sender->listener);
}

/* --- the receiver --- */

void raw_receiver_begin(struct raw_receiver *receiver, const char *address, uint16_t port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};

    *receiver = (struct raw_receiver){.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    must_sys(receiver->socket >= 0, "a raw socket");
    must_sys(inet_pton(AF_INET, address, &name.sin_addr) == 1, "an address");
    must_sys(connect(receiver->socket, (struct sockaddr *)&name, sizeof name) == 0,
             "the raw sender");
    set_no_delay(receiver->socket);
}

void raw_receiver_end(struct raw_receiver *receiver)
{
    (void)close(receiver->socket);
    free(receiver->places);
    *receiver = (struct raw_receiver){0};
}

static void take_all(const struct raw_receiver *receiver)
{
    must_sys(move_all(receiver->socket, receiver->places, receiver->count, false),
             "what the raw sender sends");
}

void raw_receiver_prepare(struct raw_receiver *receiver, const struct pieces *pieces,
                          unsigned char *memory)
{
    struct request request = {pieces->block_bytes, pieces->count, 1, 0};

    free(receiver->places);
    receiver->places = place_all(pieces->local, pieces->count, pieces->block_bytes, memory);
    receiver->count = pieces->count;
    receiver->block_bytes = pieces->block_bytes;
    must_sys(move_bytes(receiver->socket, &request, sizeof request, true) &&
                 move_bytes(receiver->socket, pieces->remote,
                            pieces->count * sizeof *pieces->remote, true),
             "the raw sender does not listen");
    take_all(receiver); /* the first time is not counted */
}

double raw_receiver_read(struct raw_receiver *receiver)
{
    struct request request = {receiver->block_bytes, receiver->count, 0, 0};
    uint64_t began = now_ns();

    must_sys(move_bytes(receiver->socket, &request, sizeof request, true),
             "the raw sender does not listen");
    take_all(receiver);
    return (double)(now_ns() - began);
}
