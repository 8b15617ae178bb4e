/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_network.h"

#include "tool/trouble.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * What a heartbeat under a full pull costs here whoever sends it: plain sockets that pull all the
 * time, and beside them a connection of its own for the heartbeats, with a thread at its end that
 * does nothing but wait for them.
 */

/* A pull that begins again whenever it is there. */
struct pull {
    struct raw_receiver *receiver;
    _Atomic bool is_over; /* relaxed: it orders nothing */
};

static void *pull_until_over(void *context)
{
    struct pull *pull = context;

    while (!atomic_load_explicit(&pull->is_over, memory_order_relaxed))
        (void)raw_receiver_read(pull->receiver);
    return NULL;
}

/* --- the owner --- */

static int listen_on(const char *address, uint16_t *out_port)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t length = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must_sys(listener >= 0, "a raw socket");
    must_sys(inet_pton(AF_INET, address, &name.sin_addr) == 1, "an address");
    must_sys(bind(listener, (struct sockaddr *)&name, sizeof name) == 0 &&
                 listen(listener, 1) == 0 &&
                 getsockname(listener, (struct sockaddr *)&name, &length) == 0,
             "a raw socket that listens");
    *out_port = ntohs(name.sin_port);
    return listener;
}

void raw_heartbeats_receive(const struct pair *pair, const char *address, uint32_t count)
{
    double *took_ns = must_allocate(count, sizeof *took_ns);
    uint16_t port = 0;
    int listener = listen_on(address, &port);

    pair_say(pair, &port, sizeof port);
    int heart = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    must_sys(heart >= 0, "a connection for heartbeats");
    for (uint32_t i = 0; i < count; i++) {
        uint64_t sent_ns = 0;

        must_sys(recv(heart, &sent_ns, sizeof sent_ns, MSG_WAITALL) == sizeof sent_ns,
                 "a heartbeat by plain sockets");
        took_ns[i] = (double)(now_ns() - sent_ns);
    }
    (void)close(heart);
    (void)close(listener);
    pair_say(pair, took_ns, count * sizeof *took_ns);
    free(took_ns);
}

/* --- the reader --- */

static int connect_to(const char *address, uint16_t port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    int heart = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    must_sys(heart >= 0, "a raw socket");
    must_sys(inet_pton(AF_INET, address, &name.sin_addr) == 1, "an address");
    must_sys(connect(heart, (struct sockaddr *)&name, sizeof name) == 0,
             "the owner's plain socket for heartbeats");
    must_sys(setsockopt(heart, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0, "TCP_NODELAY");
    return heart;
}

void raw_heartbeats_send(const struct pair *pair, const char *address,
                         struct raw_receiver *receiver, uint32_t count, uint64_t apart_ns)
{
    struct pull pull = {.receiver = receiver};
    pthread_t thread;
    uint16_t port = 0;

    pair_hear(pair, &port, sizeof port);
    int heart = connect_to(address, port);
    must_sys(pthread_create(&thread, NULL, pull_until_over, &pull) == 0, "a thread");
    for (uint32_t i = 0; i < count; i++) {
        sleep_until_ns(now_ns() + apart_ns);
        uint64_t sent_ns = now_ns();
        must_sys(send(heart, &sent_ns, sizeof sent_ns, MSG_NOSIGNAL) == sizeof sent_ns,
                 "a heartbeat by plain sockets");
    }
    atomic_store_explicit(&pull.is_over, true, memory_order_relaxed);
    (void)pthread_join(thread, NULL);
    (void)close(heart);
}
