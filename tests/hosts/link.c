/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include "tool/trouble.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PACKET_BYTES = 2048, QUEUE_DEFAULT = 1000, QUEUE_MAX = 4096, HEADERS_BYTES = 40 };

static const uint64_t million = 1000000;
static const uint64_t second_ns = 1000000000;

/* A packet on its way, and when it is there. */
struct packet {
    uint64_t due_ns;
    uint64_t number; /* in the order of arrival */
    size_t count;
    uint8_t bytes[PACKET_BYTES];
};

/* One way: the packets that wait, not in order. */
struct lane {
    int from;
    int to;
    uint64_t arrived;
    uint64_t given;    /* the highest number that was given */
    uint64_t free_ns;  /* when the wire has sent what is before */
    uint32_t capacity; /* of packets */
    uint32_t waiting;
    struct packet *packets;
};

struct relay {
    struct impairment impairment;
    struct link_counts *counts;
    uint64_t dice;
    struct lane lanes[HOSTS];
};

/* splitmix64 */
static uint64_t roll(struct relay *relay)
{
    uint64_t value = relay->dice += UINT64_C(0x9E3779B97F4A7C15);

    value = (value ^ value >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ value >> 27) * UINT64_C(0x94D049BB133111EB);
    return value ^ value >> 31;
}

static bool happens(struct relay *relay, uint32_t per_million)
{
    return roll(relay) % million < per_million;
}

static void count(_Atomic uint64_t *counter)
{
    /* Relaxed: nothing is read by it but the count. */
    (void)atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void put(struct relay *relay, struct lane *lane, const uint8_t *bytes, size_t length)
{
    const struct impairment *impairment = &relay->impairment;
    uint64_t now = now_ns();

    if (lane->waiting == lane->capacity) {
        count(&relay->counts->lost);
        return;
    }
    lane->free_ns = lane->free_ns > now ? lane->free_ns : now;
    if (impairment->rate_bytes_a_second != 0)
        lane->free_ns += length * second_ns / impairment->rate_bytes_a_second;

    uint64_t jitter_us = impairment->jitter_us == 0 ? 0 : roll(relay) % impairment->jitter_us;
    struct packet *packet = &lane->packets[lane->waiting++];
    packet->due_ns = lane->free_ns + (impairment->delay_us + jitter_us) * 1000;
    packet->number = ++lane->arrived;
    packet->count = length;
    memcpy(packet->bytes, bytes, length);
}

static void take_in(struct relay *relay, struct lane *lane)
{
    uint8_t bytes[PACKET_BYTES];
    ssize_t length = read(lane->from, bytes, sizeof bytes);

    if (length <= 0)
        return;
    if (atomic_load_explicit(&relay->counts->is_cut, memory_order_relaxed) != 0 ||
        happens(relay, relay->impairment.lost_per_million)) {
        count(&relay->counts->lost);
        return;
    }
    if (length > HEADERS_BYTES && happens(relay, relay->impairment.damaged_per_million)) {
        size_t at = HEADERS_BYTES + roll(relay) % ((size_t)length - HEADERS_BYTES);

        bytes[at] ^= (uint8_t)(1U << roll(relay) % 8);
        count(&relay->counts->damaged);
    }
    put(relay, lane, bytes, (size_t)length);
    if (happens(relay, relay->impairment.doubled_per_million)) {
        count(&relay->counts->doubled);
        put(relay, lane, bytes, (size_t)length);
    }
}

/* The packet that is due first; NULL: none waits. */
static struct packet *first_of(const struct lane *lane)
{
    struct packet *first = NULL;

    for (uint32_t i = 0; i < lane->waiting; i++) {
        struct packet *packet = &lane->packets[i];

        if (first == NULL || packet->due_ns < first->due_ns ||
            (packet->due_ns == first->due_ns && packet->number < first->number))
            first = packet;
    }
    return first;
}

/* Give what is due. Returns when the next one is; UINT64_MAX: none waits. */
static uint64_t give_out(struct relay *relay, struct lane *lane)
{
    for (;;) {
        struct packet *packet = first_of(lane);

        if (packet == NULL)
            return UINT64_MAX;
        if (packet->due_ns > now_ns())
            return packet->due_ns;
        if (packet->number < lane->given)
            count(&relay->counts->swapped);
        lane->given = packet->number > lane->given ? packet->number : lane->given;
        if (write(lane->to, packet->bytes, packet->count) == (ssize_t)packet->count)
            count(&relay->counts->carried);
        else
            count(&relay->counts->lost); /* the device is full, or down */
        lane->waiting--;
        if (packet != &lane->packets[lane->waiting])
            *packet = lane->packets[lane->waiting];
    }
}

/* The process that is the link; it lives until its maker kills it, or dies. */
static void be_link(struct relay *relay)
{
    struct pollfd waits[HOSTS];

    for (;;) {
        uint64_t next_ns = UINT64_MAX;
        uint64_t now;

        for (int i = 0; i < HOSTS; i++) {
            uint64_t due_ns = give_out(relay, &relay->lanes[i]);

            next_ns = due_ns < next_ns ? due_ns : next_ns;
            waits[i] = (struct pollfd){.fd = relay->lanes[i].from, .events = POLLIN};
        }
        now = now_ns();
        uint64_t left_ns = next_ns > now ? next_ns - now : 0;
        struct timespec wait = {.tv_sec = (time_t)(left_ns / second_ns),
                                .tv_nsec = (long)(left_ns % second_ns)};
        if (ppoll(waits, HOSTS, next_ns == UINT64_MAX ? NULL : &wait, NULL) <= 0)
            continue;
        for (int i = 0; i < HOSTS; i++)
            if (waits[i].revents != 0)
                take_in(relay, &relay->lanes[i]);
    }
}

/* A device on one of the hosts, and the end of it that the link has. */
static enum lend_status open_device(const struct hosts *hosts, int which, int *out,
                                    struct lend_error *error)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    enum lend_status status = hosts_enter(hosts, which, error);
    struct lend_error ignored;

    if (status != LEND_OK)
        return status;
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, HOSTS_DEVICE);
    *out = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (*out < 0)
        status = trouble(error, errno == ENOENT ? LEND_E_UNSUPPORTED : LEND_E_ACCESS,
                         "/dev/net/tun: %s", strerrordesc_np(errno));
    else if (ioctl(*out, TUNSETIFF, &request) != 0)
        status = trouble(error, LEND_E_ACCESS, "no TUN device: %s", strerrordesc_np(errno));
    enum lend_status back = hosts_leave(hosts, status == LEND_OK ? error : &ignored);
    if (status == LEND_OK)
        status = back;
    if (status == LEND_OK) /* what the link does not read in time shall wait, not be lost unseen */
        status = hosts_run(hosts, which, error, "ip link set " HOSTS_DEVICE " txqueuelen 10000");
    return status == LEND_OK ? hosts_plug(hosts, which, error) : status;
}

static enum lend_status start(struct link *link, struct relay *relay, struct lend_error *error)
{
    pid_t parent = getpid();

    for (int i = 0; i < HOSTS; i++) {
        struct lane *lane = &relay->lanes[i];
        uint32_t queue = relay->impairment.queue_packets;

        lane->to = relay->lanes[1 - i].from;
        lane->capacity = queue == 0 ? QUEUE_DEFAULT : queue < QUEUE_MAX ? queue : QUEUE_MAX;
        lane->packets = calloc(lane->capacity, sizeof *lane->packets);
        if (lane->packets == NULL)
            return trouble(error, LEND_E_NO_MEMORY, "no memory for a link");
    }
    (void)fflush(NULL);
    link->pid = fork();
    if (link->pid < 0)
        return trouble_errno(error, "no process for a link");
    if (link->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            be_link(relay);
        _exit(1);
    }
    return LEND_OK;
}

enum lend_status link_open(struct link *link, const struct hosts *hosts,
                           const struct impairment *impairment, struct lend_error *error)
{
    struct relay relay = {.impairment = *impairment, .dice = impairment->seed};
    enum lend_status status = LEND_OK;

    *link = (struct link){0};
    relay.lanes[0].from = relay.lanes[1].from = -1;
    link->counts =
        mmap(NULL, sizeof *link->counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (link->counts == MAP_FAILED) {
        link->counts = NULL;
        return trouble_errno(error, "no memory to count in");
    }
    relay.counts = link->counts;
    for (int i = 0; status == LEND_OK && i < HOSTS; i++)
        status = open_device(hosts, i, &relay.lanes[i].from, error);
    if (status == LEND_OK)
        status = start(link, &relay, error);
    for (int i = 0; i < HOSTS; i++) {
        free(relay.lanes[i].packets);
        if (relay.lanes[i].from >= 0)
            (void)close(relay.lanes[i].from); /* the process has them */
    }
    if (status != LEND_OK)
        link_close(link);
    return status;
}

void link_close(struct link *link)
{
    if (link->pid > 0) {
        (void)kill(link->pid, SIGKILL);
        (void)waitpid(link->pid, NULL, 0);
    }
    if (link->counts != NULL)
        (void)munmap(link->counts, sizeof *link->counts);
    *link = (struct link){0};
}

enum lend_status link_netem(const struct hosts *hosts, const struct impairment *impairment,
                            struct lend_error *error)
{
    uint32_t queue = impairment->queue_packets == 0 ? QUEUE_DEFAULT : impairment->queue_packets;

    for (int i = 0; i < HOSTS; i++) {
        char rate[64] = "";

        if (impairment->rate_bytes_a_second != 0)
            (void)snprintf(rate, sizeof rate, "rate %llubps",
                           (unsigned long long)impairment->rate_bytes_a_second);
        enum lend_status status = hosts_run(
            hosts, i, error,
            "tc qdisc replace dev " HOSTS_DEVICE
            " root netem limit %u delay %uus %uus loss %u.%04u%% duplicate %u.%04u%% "
            "corrupt %u.%04u%% %s",
            queue, impairment->delay_us, impairment->jitter_us,
            impairment->lost_per_million / 10000, impairment->lost_per_million % 10000,
            impairment->doubled_per_million / 10000, impairment->doubled_per_million % 10000,
            impairment->damaged_per_million / 10000, impairment->damaged_per_million % 10000, rate);

        if (status == LEND_E_SYSTEM && strstr(error->message, "qdisc kind is unknown") != NULL)
            return trouble(error, LEND_E_UNSUPPORTED, "this kernel has no netem (sch_netem)");
        if (status != LEND_OK)
            return status;
    }
    return LEND_OK;
}
