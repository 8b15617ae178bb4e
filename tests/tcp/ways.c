/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: what docs/tcp.md says of the ways to send that transport tcp does not take.
 * Method: plain sockets over the loopback device, a process at each end and a thread a connection;
 * 1 GiB in chunks of 256 KiB, the size of a frame, by each way in turns; the medians of the rounds,
 * and the processor time of both ends. Not a test: `tests/tcp_ways` prints a table.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

enum { CHUNK_BYTES = 256 << 10, ROUNDS = 9, CONNECTIONS_MAX = 4, IN_FLIGHT_MAX = 64 };
static const uint64_t total_bytes = UINT64_C(1) << 30;

struct end {
    int socket;
    uint64_t bytes;
    unsigned char *memory;
    void (*run)(const struct end *end);
};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- sending --- */

static void send_copying(const struct end *end)
{
    for (uint64_t sent = 0; sent < end->bytes; sent += CHUNK_BYTES)
        for (size_t done = 0; done < CHUNK_BYTES;) {
            ssize_t took = send(end->socket, end->memory + done, CHUNK_BYTES - done, MSG_NOSIGNAL);
            must(took > 0, "send");
            done += (size_t)took;
        }
}

/* Take what the kernel says it is done with; returns how many sends. */
static uint32_t take_done(int socket)
{
    unsigned char control[128];
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};

    if (recvmsg(socket, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return 0;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header == NULL)
        return 0;
    struct sock_extended_err done;
    memcpy(&done, CMSG_DATA(header), sizeof done);
    return done.ee_origin == SO_EE_ORIGIN_ZEROCOPY ? done.ee_data - done.ee_info + 1 : 0;
}

static void wait_done(int socket, uint32_t *in_flight, uint32_t most)
{
    while (*in_flight > most) {
        uint32_t done = take_done(socket);
        struct pollfd errors = {.fd = socket};

        *in_flight -= done;
        if (done == 0)
            must(poll(&errors, 1, 10000) > 0, "the kernel's word that it is done");
    }
}

static void send_in_place(const struct end *end)
{
    uint32_t in_flight = 0;
    int one = 1;

    must(setsockopt(end->socket, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one) == 0, "SO_ZEROCOPY");
    for (uint64_t sent = 0; sent < end->bytes; sent += CHUNK_BYTES)
        for (size_t done = 0; done < CHUNK_BYTES;) {
            wait_done(end->socket, &in_flight, IN_FLIGHT_MAX - 1);
            ssize_t took = send(end->socket, end->memory + done, CHUNK_BYTES - done,
                                MSG_NOSIGNAL | MSG_ZEROCOPY);
            if (took < 0 && errno == ENOBUFS) {
                wait_done(end->socket, &in_flight, in_flight - 1);
                continue;
            }
            must(took > 0, "send with MSG_ZEROCOPY");
            done += (size_t)took;
            in_flight++;
        }
    wait_done(end->socket, &in_flight, 0);
}

#ifdef HAVE_LIBURING
/* One chunk is under way at a time: a frame that is taken in part must go on before the next. */
static void send_by_ring(const struct end *end)
{
    struct io_uring ring;

    must(io_uring_queue_init(8, &ring, 0) == 0, "io_uring");
    for (uint64_t sent = 0; sent < end->bytes; sent += CHUNK_BYTES)
        for (size_t done = 0; done < CHUNK_BYTES;) {
            struct io_uring_cqe *completion = NULL;

            io_uring_prep_send(io_uring_get_sqe(&ring), end->socket, end->memory + done,
                               CHUNK_BYTES - done, MSG_NOSIGNAL);
            must(io_uring_submit_and_wait(&ring, 1) >= 0, "io_uring_submit_and_wait");
            must(io_uring_wait_cqe(&ring, &completion) == 0 && completion->res > 0, "its send");
            done += (size_t)completion->res;
            io_uring_cqe_seen(&ring, completion);
        }
    io_uring_queue_exit(&ring);
}
#endif

static void receive_all(const struct end *end)
{
    for (uint64_t came = 0; came < end->bytes;) {
        size_t room = CHUNK_BYTES - came % CHUNK_BYTES;
        ssize_t took = recv(end->socket, end->memory + came % CHUNK_BYTES, room, 0);

        must(took > 0, "recv");
        came += (uint64_t)took;
    }
}

/* --- a round --- */

struct way {
    const char *name;
    uint32_t connections;
    void (*send)(const struct end *end);
};

static const struct way ways[] = {
    {"one connection, send()", 1, send_copying}, {"two connections", 2, send_copying},
    {"four connections", 4, send_copying},       {"one, MSG_ZEROCOPY", 1, send_in_place},
#ifdef HAVE_LIBURING
    {"one, io_uring", 1, send_by_ring},
#endif
};
enum { WAYS = sizeof ways / sizeof *ways };

static void *run_end(void *context)
{
    const struct end *end = context;

    end->run(end);
    return NULL;
}

static void run_all(const int *sockets, uint32_t count, void (*run)(const struct end *end))
{
    struct end ends[CONNECTIONS_MAX];
    pthread_t threads[CONNECTIONS_MAX];

    for (uint32_t i = 0; i < count; i++) {
        unsigned char *memory = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        must(memory != MAP_FAILED, "memory");
        ends[i] = (struct end){sockets[i], total_bytes / count, memory, run};
        must(pthread_create(&threads[i], NULL, run_end, &ends[i]) == 0, "a thread");
    }
    for (uint32_t i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
        (void)munmap(ends[i].memory, CHUNK_BYTES);
    }
}

static void connect_pair(int listener, int *out_sender, int *out_receiver)
{
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    int one = 1;

    must(getsockname(listener, (struct sockaddr *)&name, &length) == 0, "getsockname");
    *out_sender = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(*out_sender >= 0 && connect(*out_sender, (struct sockaddr *)&name, sizeof name) == 0,
         "connect");
    *out_receiver = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    must(*out_receiver >= 0, "accept4");
    must(setsockopt(*out_sender, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0, "TCP_NODELAY");
}

static double now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double used_s(int who)
{
    struct rusage usage;

    (void)getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Seconds; and those of processors, of both ends. */
static double run_round(int listener, const struct way *way, double *out_used_s)
{
    int senders[CONNECTIONS_MAX], receivers[CONNECTIONS_MAX], status = 0;
    double before_s = used_s(RUSAGE_SELF) + used_s(RUSAGE_CHILDREN);

    for (uint32_t i = 0; i < way->connections; i++)
        connect_pair(listener, &senders[i], &receivers[i]);
    double began_s = now_s();
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        run_all(receivers, way->connections, receive_all);
        _exit(0);
    }
    run_all(senders, way->connections, way->send);
    must(waitpid(child, &status, 0) == child && status == 0, "the receiver");
    double took_s = now_s() - began_s;
    for (uint32_t i = 0; i < way->connections; i++) {
        (void)close(senders[i]);
        (void)close(receivers[i]);
    }
    *out_used_s = used_s(RUSAGE_SELF) + used_s(RUSAGE_CHILDREN) - before_s;
    return took_s;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, compare);
    return values[ROUNDS / 2];
}

int main(void)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    double took_s[WAYS][ROUNDS], used[WAYS][ROUNDS];

    must(listener >= 0 && bind(listener, (struct sockaddr *)&name, sizeof name) == 0 &&
             listen(listener, CONNECTIONS_MAX) == 0,
         "a socket that listens");
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < WAYS; i++)
            took_s[i][round] = run_round(listener, &ways[i], &used[i][round]);
    for (int i = 0; i < WAYS; i++)
        (void)printf("%-24s %5.2f GB/s, %.2f s of processors a GB\n", ways[i].name,
                     (double)total_bytes / 1e9 / median(took_s[i]),
                     median(used[i]) * 1e9 / (double)total_bytes);
    (void)close(listener);
    return 0;
}
