/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_BENCH_NETWORK_H
#define LEND_TOOL_BENCH_NETWORK_H

#include "tool/bench_pair.h"
#include "tool/endpoint.h"
#include "tool/hosts.h"

#include <pthread.h>
#include <sys/uio.h>

/* Owner and reader with a network between them: two hosts, or the loopback device of this one. */

enum { NETWORK_OWNER = 0, NETWORK_READER = 1 }; /* which host */

struct network {
    struct endpoint endpoint; /* how the agents are made */
    char path[32];            /* that reads take */
    bool has_hosts;
    struct hosts hosts;
};

/* Move this process to its host, if there are hosts. */
void network_enter(const struct network *network, int which);
/* Its address there. */
const char *network_address(const struct network *network, int which);
struct lend_agent *network_open_agent(const struct network *network, int which, const char *name);

/* --- what the owner does for the one that measures (bench_network_owner.c) --- */

enum network_verb {
    NETWORK_HEARTBEATS = 1, /* receive so many notifications; tells how long each was on its way */
    NETWORK_RAW_HEARTBEATS, /* the same by plain sockets; tells its port before that */
    NETWORK_MEMORY,         /* tells how many bytes of memory of its own it uses */
};
struct network_order {
    uint32_t verb;
    uint32_t count;
};

/* Serve orders until the channel is closed. */
void network_attend(const struct network *network, const struct pair *pair,
                    struct lend_agent *agent);

/* --- the same by plain sockets (bench_raw_network.c) --- */

/* The sender: one connection, one thread. */
struct raw_sender {
    int listener;
    uint16_t port;
    const unsigned char *memory;
    pthread_t thread;
};
void raw_sender_begin(struct raw_sender *sender, const char *address, const unsigned char *memory);
void raw_sender_end(struct raw_sender *sender);

/* The receiver: pieces as they were prepared last, straight into place. */
struct raw_receiver {
    int socket;
    struct iovec *places;
    uint64_t count;
    uint64_t block_bytes;
};
void raw_receiver_begin(struct raw_receiver *receiver, const char *address, uint16_t port);
void raw_receiver_end(struct raw_receiver *receiver);
void raw_receiver_prepare(struct raw_receiver *receiver, const struct pieces *pieces,
                          unsigned char *memory);
/* The nanoseconds that it took. */
double raw_receiver_read(struct raw_receiver *receiver);

/* --- heartbeats by plain sockets (bench_raw_heartbeat.c) --- */

/* The owner's side: tells its port, then how long each was on its way. */
void raw_heartbeats_receive(const struct pair *pair, const char *address, uint32_t count);
/* The reader's: hears the port, and leaves the times to be heard. The receiver pulls meanwhile. */
void raw_heartbeats_send(const struct pair *pair, const char *address,
                         struct raw_receiver *receiver, uint32_t count, uint64_t apart_ns);

/* --- the same by UCX's own program (bench_perftest.c) --- */

enum { PERFTEST_MISSING = 127 }; /* how a child ends where there is none */

struct perftest {
    const char *name; /* of ucx_perftest's tests */
    uint64_t bytes;   /* of a message */
    uint32_t count;   /* of messages */
};

/* The nanoseconds of one message, of so many; 0: it is not there, or did not do it. */
double perftest_run(const struct network *network, const struct perftest *test);

#endif
