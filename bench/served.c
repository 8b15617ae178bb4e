/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The speed of the served path: two processes on one machine, one lends and the other pulls and
 * pushes, beside a memcpy of the same pieces by one thread, all in turn within one run.
 *
 *     lend-bench-served [--json] [--rounds N] [--ring BYTES]
 */
#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS_MAX = 101, SMALL_ROUNDS = 2001 };

struct options {
    bool is_json;
    uint32_t rounds;
    uint32_t ring_bytes; /* 0: the default */
};

/* Medians of one layout. */
struct speed {
    uint64_t copy_ns;
    uint64_t read_ns;
    uint64_t write_ns;
    uint64_t read_post_ns;
};

struct reader {
    int fd;
    struct lend_agent *agent;
    struct lend_peer *owner;
    struct lend_ticket *ticket;
    struct lend_region *regions[LAYOUTS_MAX];
    unsigned char *memory;
    unsigned char *source; /* of the copies beside */
};

/* --- one transfer --- */

/* Prepared for one layout; slice_bytes 0: whole blocks. */
static struct lend_transfer *prepare(struct reader *reader, uint32_t layout, uint32_t direction,
                                     uint64_t slice_bytes)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error error;
    uint64_t remote = 0;

    check(lend_peer_region(reader->owner, layouts[layout].name, &remote, &error), &error);
    desc.direction = direction;
    desc.peer = reader->owner;
    desc.region_count = 1;
    desc.local_regions = &reader->regions[layout];
    desc.remote_regions = &remote;
    desc.local_slice.length_bytes = slice_bytes;
    desc.remote_slice.length_bytes = slice_bytes;
    desc.block_count_max = layouts[layout].block_count;
    check(lend_transfer_prepare(reader->agent, &desc, &transfer, &error), &error);
    return transfer;
}

/* The block numbers of both sides, in random order. */
struct pieces {
    uint64_t count;
    int32_t *local;
    int32_t *remote;
};

/* Post, wait, and see that it was a success. Returns the time of both. */
static uint64_t move(struct reader *reader, struct lend_transfer *transfer,
                     const struct pieces *pieces, uint64_t *out_post_ns)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_post_desc desc = LEND_POST_DESC_INIT;
    struct lend_error error;

    desc.ticket = reader->ticket;
    desc.local_blocks = pieces->local;
    desc.remote_blocks = pieces->remote;
    desc.block_count = pieces->count;
    uint64_t began = now_ns();
    check(lend_transfer_post(transfer, &desc, &error), &error);
    enum lend_status status = lend_transfer_wait(transfer, 30 * NS_PER_S);
    uint64_t took = now_ns() - began;

    check(lend_transfer_describe(transfer, &record, &error), &error);
    check(status, &error);
    *out_post_ns = record.post_ns;
    return took;
}

static uint64_t copy(const struct reader *reader, const struct pieces *pieces, uint64_t block_bytes)
{
    uint64_t began = now_ns();

    for (uint64_t i = 0; i < pieces->count; i++)
        memcpy(reader->memory + (uint64_t)pieces->local[i] * block_bytes,
               reader->source + (uint64_t)pieces->remote[i] * block_bytes, block_bytes);
    return now_ns() - began;
}

/* --- many --- */

static int32_t *permute(uint64_t count, uint64_t seed)
{
    int32_t *numbers = calloc(count, sizeof *numbers);

    if (numbers == NULL)
        exit(1);
    for (uint64_t i = 0; i < count; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint64_t at = (seed >> 33) % (i + 1);

        numbers[i] = numbers[at];
        numbers[at] = (int32_t)i;
    }
    return numbers;
}

/* Copies, reads and writes of one layout in turn. */
static struct speed measure_layout(struct reader *reader, uint32_t at, uint32_t rounds)
{
    const struct layout *layout = &layouts[at];
    struct pieces pieces = {.count = layout->block_count,
                            .local = permute(layout->block_count, 1),
                            .remote = permute(layout->block_count, 2)};
    struct lend_transfer *read = prepare(reader, at, LEND_READ, 0);
    struct lend_transfer *write = prepare(reader, at, LEND_WRITE, 0);
    uint64_t copies[ROUNDS_MAX], reads[ROUNDS_MAX], writes[ROUNDS_MAX], posts[ROUNDS_MAX], unused;

    /* One round that is not counted: first touches, and the connection. */
    (void)copy(reader, &pieces, layout->block_bytes);
    (void)move(reader, read, &pieces, &unused);
    (void)move(reader, write, &pieces, &unused);
    for (uint32_t i = 0; i < rounds; i++) {
        copies[i] = copy(reader, &pieces, layout->block_bytes);
        reads[i] = move(reader, read, &pieces, &posts[i]);
        writes[i] = move(reader, write, &pieces, &unused);
    }
    (void)lend_transfer_release(read); /* complete, so not busy; and the next one as well */
    (void)lend_transfer_release(write);
    free(pieces.local);
    free(pieces.remote);
    return (struct speed){
        .copy_ns = median(copies, rounds),
        .read_ns = median(reads, rounds),
        .write_ns = median(writes, rounds),
        .read_post_ns = median(posts, rounds),
    };
}

/* The median time of a read of one block, or of the first bytes of one. */
static uint64_t measure_small(struct reader *reader, uint64_t slice_bytes)
{
    static uint64_t samples[SMALL_ROUNDS];
    int32_t block = 7;
    const struct pieces pieces = {.count = 1, .local = &block, .remote = &block};
    uint32_t at = 0;
    uint64_t unused;

    while (layouts[at].block_bytes != 4096)
        at++;
    struct lend_transfer *transfer = prepare(reader, at, LEND_READ, slice_bytes);
    for (uint32_t i = 0; i < SMALL_ROUNDS; i++)
        samples[i] = move(reader, transfer, &pieces, &unused);
    (void)lend_transfer_release(transfer); /* complete, so not busy */
    return median(samples, SMALL_ROUNDS);
}

static uint64_t measure_notifications(struct reader *reader)
{
    static uint64_t samples[SMALL_ROUNDS];
    const struct command command = {.order = ORDER_ECHO, .count = SMALL_ROUNDS};
    struct lend_error error;
    char bytes[64];
    size_t got = 0;

    say(reader->fd, &command, sizeof command);
    for (uint32_t i = 0; i < SMALL_ROUNDS; i++) {
        uint64_t began = now_ns();

        check(lend_notification_send(reader->owner, "ping", 4, &error), &error);
        check(lend_notification_receive(reader->agent, bytes, sizeof bytes, &got, NULL,
                                        10 * NS_PER_S, &error),
              &error);
        samples[i] = now_ns() - began;
    }
    return median(samples, SMALL_ROUNDS);
}

static struct end_report measure_ends(struct reader *reader)
{
    const struct command command = {.order = ORDER_END, .count = SMALL_ROUNDS};
    struct end_report report;

    say(reader->fd, &command, sizeof command);
    hear(reader->fd, &report, sizeof report);
    return report;
}

/* --- telling --- */

struct results {
    struct speed speeds[LAYOUTS_MAX];
    uint64_t read_8_bytes_ns;
    uint64_t read_4_kib_ns;
    uint64_t notification_round_trip_ns;
    struct end_report ends;
};

static void read_cpu_model(char *model, size_t bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];

    (void)snprintf(model, bytes, "unknown");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *value = strchr(line, ':');

        if (strncmp(line, "model name", 10) != 0 || value == NULL || strlen(value) < 3)
            continue;
        (void)snprintf(model, bytes, "%.*s", (int)strcspn(value + 2, "\"\\\n"), value + 2);
        break;
    }
    if (file != NULL)
        (void)fclose(file);
}

static double gigabytes_per_second(const struct layout *layout, uint64_t ns)
{
    return (double)(layout->block_bytes * layout->block_count) / (double)ns;
}

static double beside_copy(const struct speed *speed, uint64_t ns)
{
    return (double)speed->copy_ns / (double)ns;
}

static void print_table(const struct options *options, const struct results *results)
{
    printf("%-9s %7s %12s %12s %12s %8s %8s %14s\n", "blocks", "count", "memcpy GB/s", "read GB/s",
           "write GB/s", "read", "write", "post ns/block");
    for (uint32_t i = 0; i < layout_count; i++) {
        const struct layout *layout = &layouts[i];
        const struct speed *speed = &results->speeds[i];

        printf("%-9s %7" PRIu64 " %12.2f %12.2f %12.2f %7.2fx %7.2fx %14.1f\n", layout->name,
               layout->block_count, gigabytes_per_second(layout, speed->copy_ns),
               gigabytes_per_second(layout, speed->read_ns),
               gigabytes_per_second(layout, speed->write_ns), beside_copy(speed, speed->read_ns),
               beside_copy(speed, speed->write_ns),
               (double)speed->read_post_ns / (double)layout->block_count);
    }
    printf("\nmedians of %" PRIu32 " rounds above, of %d below\n\n", options->rounds, SMALL_ROUNDS);
    printf("read of 8 bytes             %8.2f us\n", (double)results->read_8_bytes_ns / 1e3);
    printf("read of 4 KiB               %8.2f us\n", (double)results->read_4_kib_ns / 1e3);
    printf("notification, there and back%8.2f us\n",
           (double)results->notification_round_trip_ns / 1e3);
    printf("revoke of a read lease      %8.2f us\n", (double)results->ends.revoke_ns / 1e3);
    printf("withdraw of an idle region  %8.2f us\n", (double)results->ends.withdraw_ns / 1e3);
}

static void print_json(const struct options *options, const struct results *results)
{
    printf("\"rounds\": %" PRIu32 ", \"layouts\": [", options->rounds);
    for (uint32_t i = 0; i < layout_count; i++) {
        const struct speed *speed = &results->speeds[i];

        printf("%s{\"block_bytes\": %" PRIu64 ", \"block_count\": %" PRIu64
               ", \"memcpy_ns\": %" PRIu64 ", \"read_ns\": %" PRIu64 ", \"write_ns\": %" PRIu64
               ", \"read_post_ns\": %" PRIu64
               ", \"read_beside_memcpy\": %.3f, \"write_beside_memcpy\": %.3f}",
               i > 0 ? ", " : "", layouts[i].block_bytes, layouts[i].block_count, speed->copy_ns,
               speed->read_ns, speed->write_ns, speed->read_post_ns,
               beside_copy(speed, speed->read_ns), beside_copy(speed, speed->write_ns));
    }
    printf("], \"read_8_bytes_ns\": %" PRIu64 ", \"read_4_kib_ns\": %" PRIu64
           ", \"notification_round_trip_ns\": %" PRIu64 ", \"revoke_ns\": %" PRIu64
           ", \"withdraw_ns\": %" PRIu64 "}\n",
           results->read_8_bytes_ns, results->read_4_kib_ns, results->notification_round_trip_ns,
           results->ends.revoke_ns, results->ends.withdraw_ns);
}

static void print(const struct options *options, const struct results *results)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct utsname kernel = {0};
    char model[128];

    read_cpu_model(model, sizeof model);
    (void)uname(&kernel); /* left empty if it cannot be told */
    if (options->is_json) {
        printf("{\"processor\": \"%s\", \"processors\": %ld, \"kernel\": \"%s\", ", model,
               processors, kernel.release);
        print_json(options, results);
    } else {
        printf("%s, %ld processors, Linux %s\n\n", model, processors, kernel.release);
        print_table(options, results);
    }
}

/* --- the whole --- */

static void begin(struct reader *reader, const struct options *options)
{
    static struct hello mine, theirs;
    struct lend_error error;

    reader->memory = take_memory(memory_bytes(), 1);
    reader->source = take_memory(memory_bytes(), 2);
    reader->agent = open_agent("bench-reader", options->ring_bytes);
    register_layouts(reader->agent, reader->memory, 0, reader->regions);
    hear(reader->fd, &theirs, sizeof theirs);
    check(lend_peer_import(reader->agent, theirs.metadata, theirs.metadata_bytes, &reader->owner,
                           &error),
          &error);
    check(lend_ticket_import(reader->owner, theirs.ticket, theirs.ticket_bytes, &reader->ticket,
                             &error),
          &error);
    export_metadata(reader->agent, &mine);
    say(reader->fd, &mine, sizeof mine);
    check(lend_peer_connect(reader->owner, 5 * NS_PER_S, &error), &error);
}

static void be_reader(int fd, const struct options *options)
{
    const struct command quit = {.order = ORDER_QUIT};
    struct reader reader = {.fd = fd};
    struct results results = {0};

    begin(&reader, options);
    for (uint32_t i = 0; i < layout_count; i++)
        results.speeds[i] = measure_layout(&reader, i, options->rounds);
    results.read_8_bytes_ns = measure_small(&reader, 8);
    results.read_4_kib_ns = measure_small(&reader, 0);
    results.notification_round_trip_ns = measure_notifications(&reader);
    results.ends = measure_ends(&reader);
    say(fd, &quit, sizeof quit);
    lend_agent_destroy(reader.agent);
    print(options, &results);
}

static struct options parse(int count, char **arguments)
{
    struct options options = {.rounds = 9};

    for (int i = 1; i < count; i++) {
        bool has_value = i + 1 < count;

        if (strcmp(arguments[i], "--json") == 0) {
            options.is_json = true;
        } else if (strcmp(arguments[i], "--rounds") == 0 && has_value) {
            options.rounds = (uint32_t)strtoul(arguments[++i], NULL, 10);
        } else if (strcmp(arguments[i], "--ring") == 0 && has_value) {
            options.ring_bytes = (uint32_t)strtoul(arguments[++i], NULL, 10);
        } else {
            fprintf(stderr, "usage: %s [--json] [--rounds N] [--ring BYTES]\n", arguments[0]);
            exit(2);
        }
    }
    if (options.rounds < 1 || options.rounds > ROUNDS_MAX) {
        fprintf(stderr, "lend-bench-served: 1 to %d rounds\n", ROUNDS_MAX);
        exit(2);
    }
    return options;
}

int main(int count, char **arguments)
{
    struct options options = parse(count, arguments);
    int ends[2], status = 0;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        perror("lend-bench-served: socketpair");
        return 1;
    }
    pid_t owner = fork();
    if (owner < 0) {
        perror("lend-bench-served: fork");
        return 1;
    }
    if (owner == 0) {
        (void)close(ends[1]);
        be_owner(ends[0], options.ring_bytes);
    }
    (void)close(ends[0]);
    be_reader(ends[1], &options);
    return waitpid(owner, &status, 0) == owner && status == 0 ? 0 : 1;
}
