/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include "tool/trouble.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* A few bytes to the other process and back, in three ways of lend's and three raw ones. */

static const char section[] = "notification";

enum { NOTE_BYTES = 64, TRIPS = 200, TRIPS_QUICK = 20 };
/* Looks before a processor is left to others, who may be the other side: some microseconds. */
enum { RING_LOOKS = 1000, LEND_LOOKS = 16 };

static const uint64_t progress_ns = 1000000;

enum carrier {
    LEND_WAITING,  /* manual progress; the thread that waits makes it */
    LEND_THREADED, /* the agents' own threads make it */
    LEND_POLLING,  /* manual progress, and nobody ever sleeps */
    RAW_SOCKET,
    RAW_HELPER, /* a thread reads the socket and wakes the one that waits */
    RAW_RING,   /* shared memory, and nobody ever sleeps */
    CARRIERS,
};

/* A place in memory that both processes have, for one note each way. */
struct slot {
    _Alignas(64) _Atomic uint64_t count; /* of notes that were put here */
    unsigned char note[NOTE_BYTES];
};

/* Reads a socket for somebody who waits for an event. */
struct helper {
    int socket;
    int event;
    unsigned char note[NOTE_BYTES];
    pthread_t thread;
};

struct end {
    struct lend_agent *agent;
    struct lend_peer *peer;
};

/* What each process has. */
struct side {
    struct pair pair;
    int sockets[2];        /* a pair for RAW_SOCKET; after the fork, [0] is ours */
    int helper_sockets[2]; /* the same for RAW_HELPER */
    struct slot *slots;    /* two that are shared; [0] is to us, after the fork */
    struct slot *to_us;
    struct slot *to_them;
    uint64_t received; /* notes from to_us */
    struct helper helper;
    struct end manual;
    struct end threaded;
};

struct order {
    uint32_t carrier;
    uint32_t count;
};

struct card {
    unsigned char metadata[2][4096];
    size_t counts[2];
};

/* --- one note --- */

static void send_socket(int socket, const unsigned char *note)
{
    must_sys(send(socket, note, NOTE_BYTES, MSG_NOSIGNAL) == NOTE_BYTES, "a raw note");
}

static void put(struct side *side, const unsigned char *note)
{
    struct slot *slot = side->to_them;
    uint64_t count = atomic_load_explicit(&slot->count, memory_order_relaxed);

    memcpy(slot->note, note, NOTE_BYTES);
    /* Release: the note is there before its count says so. */
    atomic_store_explicit(&slot->count, count + 1, memory_order_release);
}

static void take(struct side *side, unsigned char *note)
{
    struct slot *slot = side->to_us;
    uint64_t until_ns = now_ns() + bench_timeout_ns;

    /* Acquire: the note is read after its count was seen. */
    for (uint64_t i = 1; atomic_load_explicit(&slot->count, memory_order_acquire) == side->received;
         i++) {
        if (i % RING_LOOKS != 0)
            continue;
        (void)sched_yield();
        must_be_before(until_ns);
    }
    side->received++;
    memcpy(note, slot->note, NOTE_BYTES);
}

static void send_lend(const struct end *end, const unsigned char *note)
{
    struct lend_error error;

    must(lend_notification_send(end->peer, note, NOTE_BYTES, &error), &error);
}

static void receive_lend(const struct end *end, unsigned char *note, bool is_polling)
{
    uint64_t until_ns = now_ns() + bench_timeout_ns;
    enum lend_status status = LEND_E_ABSENT;
    struct lend_error error;
    size_t got = 0;

    for (uint64_t i = 1; status == LEND_E_ABSENT; i++) {
        status = lend_notification_receive(end->agent, note, NOTE_BYTES, &got, NULL,
                                           is_polling ? 0 : bench_timeout_ns, &error);
        if (status == LEND_OK || !is_polling || i % LEND_LOOKS != 0)
            continue;
        (void)sched_yield();
        must_be_before(until_ns);
        if (status != LEND_E_ABSENT)
            break;
    }
    must(status, &error);
}

static void send_note(struct side *side, enum carrier carrier, const unsigned char *note)
{
    switch (carrier) {
    case LEND_WAITING:
    case LEND_POLLING: send_lend(&side->manual, note); return;
    case LEND_THREADED: send_lend(&side->threaded, note); return;
    case RAW_SOCKET: send_socket(side->sockets[0], note); return;
    case RAW_HELPER: send_socket(side->helper_sockets[0], note); return;
    case RAW_RING: put(side, note); return;
    case CARRIERS:
    default: abort();
    }
}

static void receive_note(struct side *side, enum carrier carrier, unsigned char *note)
{
    uint64_t count;

    switch (carrier) {
    case LEND_WAITING: receive_lend(&side->manual, note, false); return;
    case LEND_POLLING: receive_lend(&side->manual, note, true); return;
    case LEND_THREADED: receive_lend(&side->threaded, note, false); return;
    case RAW_SOCKET:
        must_sys(recv(side->sockets[0], note, NOTE_BYTES, 0) == NOTE_BYTES, "a raw note");
        return;
    case RAW_HELPER:
        must_sys(read(side->helper.event, &count, sizeof count) == sizeof count, "an event");
        memcpy(note, side->helper.note, NOTE_BYTES);
        return;
    case RAW_RING: take(side, note); return;
    case CARRIERS:
    default: abort();
    }
}

/* --- what each side needs --- */

static void *help(void *context)
{
    struct helper *helper = context;
    const uint64_t one = 1;

    while (recv(helper->socket, helper->note, NOTE_BYTES, 0) == NOTE_BYTES)
        must_sys(write(helper->event, &one, sizeof one) == sizeof one, "an event");
    return NULL;
}

static void start_helper(struct side *side)
{
    side->helper.socket = side->helper_sockets[0];
    side->helper.event = eventfd(0, EFD_CLOEXEC);
    must_sys(side->helper.event >= 0, "an event");
    must_sys(pthread_create(&side->helper.thread, NULL, help, &side->helper) == 0, "a thread");
}

static void exchange_cards(struct side *side, struct card *theirs)
{
    struct lend_agent *agents[2] = {side->manual.agent, side->threaded.agent};
    struct card *mine = must_allocate(1, sizeof *mine);
    struct lend_error error;

    for (int i = 0; i < 2; i++)
        must(lend_metadata_export(agents[i], mine->metadata[i], sizeof mine->metadata[i],
                                  &mine->counts[i], &error),
             &error);
    pair_say(&side->pair, mine, sizeof *mine);
    pair_hear(&side->pair, theirs, sizeof *theirs);
    free(mine);
}

/* Make progress until the other process has said something: it connects by our manual agent. */
static void progress_until_heard(struct side *side)
{
    struct pollfd heard = {.fd = side->pair.channel, .events = POLLIN};
    struct lend_error error;

    while (poll(&heard, 1, 0) == 0)
        (void)lend_agent_progress(side->manual.agent, progress_ns,
                                  &error); /* or its time is over */
}

static void connect_ends(struct side *side)
{
    struct card *theirs = must_allocate(1, sizeof *theirs);
    struct lend_error error;
    char word = 0;

    side->manual.agent = must_open_agent("bench-manual", LEND_AGENT_MANUAL_PROGRESS);
    side->threaded.agent = must_open_agent("bench-threaded", 0);
    exchange_cards(side, theirs);
    must(lend_peer_import(side->manual.agent, theirs->metadata[0], theirs->counts[0],
                          &side->manual.peer, &error),
         &error);
    must(lend_peer_import(side->threaded.agent, theirs->metadata[1], theirs->counts[1],
                          &side->threaded.peer, &error),
         &error);
    free(theirs);
    must(lend_peer_connect(side->threaded.peer, bench_timeout_ns, &error), &error);
    must(lend_peer_connect(side->manual.peer, bench_timeout_ns, &error), &error);
    pair_say(&side->pair, &word, sizeof word);
    progress_until_heard(side);
    pair_hear(&side->pair, &word, sizeof word);
}

static void open_side(struct side *side, bool is_other)
{
    int ours = is_other ? 1 : 0;

    (void)close(side->sockets[1 - ours]);
    (void)close(side->helper_sockets[1 - ours]);
    side->sockets[0] = side->sockets[ours];
    side->helper_sockets[0] = side->helper_sockets[ours];
    side->to_us = &side->slots[ours];
    side->to_them = &side->slots[1 - ours];
    start_helper(side);
    connect_ends(side);
}

static void close_side(struct side *side)
{
    lend_peer_forget(side->manual.peer);
    lend_peer_forget(side->threaded.peer);
    lend_agent_destroy(side->manual.agent);
    lend_agent_destroy(side->threaded.agent);
    (void)shutdown(side->helper.socket, SHUT_RDWR); /* the helper ends */
    (void)pthread_join(side->helper.thread, NULL);
    (void)close(side->helper.event);
    (void)close(side->sockets[0]);
    (void)close(side->helper_sockets[0]);
    (void)munmap(side->slots, 2 * sizeof *side->slots);
}

/* --- the other process --- */

static void echo_until_closed(struct pair *pair, void *context)
{
    struct side *side = context;
    struct order order;

    (void)pair; /* it is the side's */
    open_side(side, true);
    while (pair_hears(&side->pair, &order, sizeof order)) {
        for (uint32_t i = 0; i < order.count; i++) {
            unsigned char note[NOTE_BYTES];

            receive_note(side, order.carrier, note);
            send_note(side, order.carrier, note);
        }
    }
    close_side(side);
}

/* --- this one --- */

static void ping(struct side *side, enum carrier carrier, uint32_t count, struct samples *samples)
{
    const struct order order = {.carrier = carrier, .count = count};
    unsigned char note[NOTE_BYTES] = {0}, answer[NOTE_BYTES];
    struct lend_error error;

    pair_say(&side->pair, &order, sizeof order);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(note, &i, sizeof i);
        note[NOTE_BYTES - 1] = (unsigned char)carrier;
        uint64_t began = now_ns();
        send_note(side, carrier, note);
        receive_note(side, carrier, answer);
        samples_add(samples, (double)(now_ns() - began));
        if (memcmp(note, answer, sizeof note) != 0)
            must(trouble(&error, LEND_E_CORRUPT, "another note came back than was sent"), &error);
    }
}

static void report(struct bench *bench, struct samples *samples)
{
    static const struct {
        const char *what;
        struct goal goal;
    } ways[] = {
        [LEND_WAITING] = {"there and back, the waiting thread makes progress",
                          {.kind = GOAL_TIMES, .limit = 1.5, .beside = 0}},
        [LEND_THREADED] = {"there and back, behind the progress thread",
                           {.kind = GOAL_TIMES, .limit = 2.5, .beside = 0}},
        [LEND_POLLING] = {"there and back, both sides poll", {.kind = GOAL_TIME, .limit = 2000}},
    };
    struct row *rows[RAW_SOCKET] = {NULL};

    for (int i = LEND_WAITING; i < RAW_SOCKET; i++) {
        rows[i] = report_row(bench, section, ways[i].what);
        rows[i]->goal = ways[i].goal;
        rows[i]->verified_bytes = samples[i].count * NOTE_BYTES;
        rows[i]->figure = samples_take(&samples[i], 1);
    }
    row_beside(rows[LEND_WAITING], "UNIX socket", &samples[RAW_SOCKET], 1);
    row_share_besides(rows[LEND_THREADED], rows[LEND_WAITING]);
    row_beside(rows[LEND_THREADED], "UNIX socket and a thread", &samples[RAW_HELPER], 1);
    row_beside(rows[LEND_POLLING], "polled shared memory", &samples[RAW_RING], 1);
}

static void open_shared(struct side *side)
{
    void *slots = mmap(NULL, 2 * sizeof *side->slots, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    must_sys(slots != MAP_FAILED, "memory to share");
    side->slots = slots;
    must_sys(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, side->sockets) == 0 &&
                 socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, side->helper_sockets) == 0,
             "pairs of sockets");
}

void bench_notification(struct bench *bench)
{
    uint32_t trips = bench->is_quick ? TRIPS_QUICK : TRIPS;
    struct samples samples[CARRIERS] = {0}, unused = {0};
    struct side side = {0};

    open_shared(&side);
    pair_begin(&side.pair, echo_until_closed, &side);
    open_side(&side, false);
    for (uint32_t carrier = 0; carrier < CARRIERS; carrier++)
        ping(&side, carrier, trips, &unused); /* what the first ones cost is not counted */
    (void)samples_take(&unused, 1);
    for (uint32_t round = 0; round < bench->rounds; round++)
        for (uint32_t carrier = 0; carrier < CARRIERS; carrier++)
            ping(&side, carrier, trips, &samples[carrier]);
    pair_end(&side.pair);
    close_side(&side);
    report(bench, samples);
}
