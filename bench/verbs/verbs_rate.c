/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast transport verbs reads, or writes, pieces of one size between two processes:
 *
 *     verbs_rate OWNER-DEVICE READER-DEVICE read|write PIECE-BYTES TOTAL-BYTES ROUNDS
 *
 * The owner lends TOTAL-BYTES in blocks of PIECE-BYTES; the reader transfers all of them in an
 * order in which no two that follow each other touch, ROUNDS times after one that warms up. It
 * prints the median, in millions of bytes a second, and the path. beside_perftest.py runs it.
 */
#include <lend/lend.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS_MAX = 1000, STEP = 7, BYTES_MAX = 8192 };

static const uint64_t patience_ns = 60000000000;

struct rate {
    const char *devices[2]; /* the owner's, the reader's */
    uint32_t direction;
    uint64_t piece_bytes, piece_count;
    uint32_t rounds;
    char folder[64];
};

/* What the reader is told: metadata, then a ticket. */
struct told {
    uint64_t region_id;
    size_t metadata_bytes, ticket_bytes;
    uint8_t metadata[BYTES_MAX], ticket[LEND_TICKET_BYTES_MAX];
};

static void must(bool is_so, const char *what, const struct lend_error *error)
{
    if (is_so)
        return;
    (void)fprintf(stderr, "%s: %s\n", what, error != NULL ? error->message : "failed");
    exit(1);
}

static struct lend_agent *open_agent(const struct rate *rate, bool is_owner,
                                     struct lend_region **out)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};
    size_t bytes = rate->piece_bytes * rate->piece_count;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    must(memory != MAP_FAILED, "memory", NULL);
    config.name = is_owner ? "owner" : "reader";
    config.transports = config.transports_required = "local,verbs";
    config.local_directory = rate->folder;
    config.verbs_devices = rate->devices[is_owner ? 0 : 1];
    must(lend_agent_create(&config, &agent, &error) == LEND_OK, config.name, &error);
    must(lend_memory_system(memory, bytes, &desc.memory, &error) == LEND_OK, "memory", &error);
    desc.geometry.block_length_bytes = rate->piece_bytes;
    desc.geometry.count = rate->piece_count;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    must(lend_region_register(agent, &desc, 1, out, NULL, &error) == LEND_OK, "region", &error);
    return agent;
}

/* Lend all of it until the reader hangs up. */
static int own(const struct rate *rate, int channel)
{
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_block_set set = {.region_count = 1};
    struct lend_region *region = NULL;
    struct lend_lease *lease = NULL;
    static struct told told;
    struct lend_error error = {0};
    uint8_t end;

    struct lend_agent *agent = open_agent(rate, true, &region);
    set.regions = &region;
    grant.sets = &set;
    grant.set_count = 1;
    grant.access = rate->direction == LEND_READ ? LEND_ACCESS_READ : LEND_ACCESS_WRITE;
    grant.time_to_live_ns = 10 * patience_ns;
    must(lend_lease_grant(agent, &grant, &lease, &error) == LEND_OK, "grant", &error);
    told.region_id = lend_region_id(region);
    must(lend_metadata_export(agent, told.metadata, sizeof told.metadata, &told.metadata_bytes,
                              &error) == LEND_OK &&
             lend_ticket_export(lease, told.ticket, sizeof told.ticket, &told.ticket_bytes,
                                &error) == LEND_OK,
         "export", &error);
    must(send(channel, &told, sizeof told, 0) == sizeof told, "telling the reader", NULL);
    (void)recv(channel, &end, sizeof end, 0);
    lend_lease_release(lease);
    lend_agent_destroy(agent);
    return 0;
}

static double now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int by_value(const void *one, const void *other)
{
    const double *a = one, *b = other;

    return (*a > *b) - (*a < *b);
}

/* Post the same again and again. */
static void measure(const struct rate *rate, struct lend_transfer *transfer,
                    struct lend_ticket *ticket)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    uint32_t *blocks = calloc(2 * rate->piece_count, sizeof *blocks);
    static double rates[ROUNDS_MAX];
    struct lend_error error = {0};

    must(blocks != NULL, "memory", NULL);
    for (uint32_t i = 0; i < rate->piece_count; i++) {
        blocks[i] = i;
        blocks[rate->piece_count + i] = (uint32_t)(i * STEP % rate->piece_count);
    }
    post.ticket = ticket;
    post.local_blocks = blocks;
    post.remote_blocks = blocks + rate->piece_count;
    post.block_count = rate->piece_count;
    post.index_bits = 32;
    post.timeout_ns = patience_ns;
    for (uint32_t round = 0; round <= rate->rounds; round++) {
        double begun = now_ns();

        must(lend_transfer_post(transfer, &post, &error) == LEND_OK, "post", &error);
        enum lend_status status = lend_transfer_wait(transfer, patience_ns);
        double taken = now_ns() - begun;
        must(lend_transfer_describe(transfer, &record, &error) == LEND_OK && status == LEND_OK,
             "transfer", &error);
        if (round > 0)
            rates[round - 1] = (double)(rate->piece_bytes * rate->piece_count) * 1e3 / taken;
    }
    qsort(rates, rate->rounds, sizeof rates[0], by_value);
    (void)printf("%.1f %s\n", rates[rate->rounds / 2], record.path);
    free(blocks);
}

static int borrow(const struct rate *rate, int channel)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_region *region = NULL;
    struct lend_ticket *ticket = NULL;
    struct lend_peer *owner = NULL;
    static struct told told;
    struct lend_error error = {0};

    struct lend_agent *agent = open_agent(rate, false, &region);
    must(recv(channel, &told, sizeof told, 0) == sizeof told, "hearing the owner", NULL);
    must(lend_peer_import(agent, told.metadata, told.metadata_bytes, &owner, &error) == LEND_OK &&
             lend_ticket_import(owner, told.ticket, told.ticket_bytes, &ticket, &error) ==
                 LEND_OK &&
             lend_peer_connect(owner, patience_ns, &error) == LEND_OK,
         "the owner", &error);
    desc.peer = owner;
    desc.direction = rate->direction;
    desc.local_regions = &region;
    desc.remote_regions = &told.region_id;
    desc.region_count = 1;
    desc.block_count_max = rate->piece_count;
    desc.paths = rate->direction == LEND_READ ? "verbs/read" : "verbs/write";
    must(lend_transfer_prepare(agent, &desc, &transfer, &error) == LEND_OK, "prepare", &error);
    measure(rate, transfer, ticket);
    (void)lend_transfer_release(transfer);
    lend_ticket_release(ticket);
    lend_peer_forget(owner);
    lend_agent_destroy(agent);
    return 0;
}

int main(int argc, char **argv)
{
    struct rate rate = {.folder = "/tmp/verbs-rate-XXXXXX"};
    int ends[2];

    if (argc != 7) {
        (void)fprintf(stderr, "usage: verbs_rate OWNER-DEVICE READER-DEVICE read|write PIECE-BYTES "
                              "TOTAL-BYTES ROUNDS\n");
        return 2;
    }
    rate.devices[0] = argv[1];
    rate.devices[1] = argv[2];
    rate.direction = strcmp(argv[3], "read") == 0 ? LEND_READ : LEND_WRITE;
    rate.piece_bytes = strtoull(argv[4], NULL, 10);
    must(rate.piece_bytes > 0, "PIECE-BYTES", NULL);
    rate.piece_count = strtoull(argv[5], NULL, 10) / rate.piece_bytes;
    rate.rounds = (uint32_t)strtoul(argv[6], NULL, 10);
    must(rate.piece_count > STEP && rate.piece_count % STEP != 0 && rate.rounds > 0 &&
             rate.rounds <= ROUNDS_MAX,
         "TOTAL-BYTES or ROUNDS", NULL);
    must(mkdtemp(rate.folder) != NULL, "a folder for sockets", NULL);
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0, "a channel", NULL);

    pid_t owner = fork();
    must(owner >= 0, "a process", NULL);
    if (owner == 0) {
        (void)prctl(PR_SET_PDEATHSIG, 9);
        (void)close(ends[0]);
        exit(own(&rate, ends[1]));
    }
    (void)close(ends[1]);
    int result = borrow(&rate, ends[0]);
    (void)close(ends[0]);
    (void)waitpid(owner, NULL, 0);
    (void)rmdir(rate.folder);
    return result;
}
