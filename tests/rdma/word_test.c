/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a reader that reads data, and after it the lease's word, is never wrong: if the word is
 * still that of the lease, all data that it has is of the lease. However the owner hurries to end
 * it and to use the memory again, and whatever the network loses. Method: an owner changes the
 * word, and then all of the data, at a random moment while a reader in another process has its
 * READs under way, on two queue pairs, with one READ of the word on each. That is fenced, and
 * posted with the others; on rxe, which forgets some fenced READs for good (docs/fencing.md), it is
 * posted when the others have completed. The reader judges by the words alone, and all that it
 * takes for proven is compared byte for byte. In each fourth round the lease outlives the READs,
 * and has to be proven; and there are rounds until the memory has changed under the reads of some.
 */
#include "scene.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ROUNDS = 1000,
    MORE_MAX = 20,  /* times as many rounds, until data was torn */
    LONG_ROUND = 4, /* each fourth: its lease outlives the READs */
    LINES = 2,
    BLOCKS = 4, /* of a round, on each line */
    BLOCK_BYTES = 4 * LINE_PACKET,
    DATA_BYTES = LINES * BLOCKS * BLOCK_BYTES,
    BYTES = DATA_BYTES + LINE_PACKET, /* the word has a page of its own */
    DELAY_NS = 2000000,
};

/* What a reader has seen in a round. */
struct seen {
    uint32_t is_well; /* all READs were answered */
    uint32_t is_proven;
    uint32_t wrong; /* bytes of proven data that are not the lease's */
    uint32_t other; /* bytes of data that it may not use, and which are the next lease's */
};

/* Either side. */
struct side {
    struct line_host host;
    struct line lines[LINES];
    uint8_t *memory;
    struct ibv_mr *region;
    int channel;
};

struct hello {
    struct line_end ends[LINES];
    uint64_t address;
    uint32_t key;
};

static volatile uint64_t *word_of(const struct side *side)
{
    return (volatile uint64_t *)(void *)(side->memory + DATA_BYTES);
}

static uint8_t byte_of(uint64_t generation)
{
    return (uint8_t)(1 + generation % 251);
}

static bool open_side(struct side *side, uint32_t device)
{
    side->memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (side->memory == MAP_FAILED || !line_host_open(&side->host, line_device(device)))
        return false;
    side->region = ibv_reg_mr(side->host.domain, side->memory, BYTES,
                              IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
    for (uint32_t i = 0; i < LINES; i++)
        if (!line_open(&side->lines[i], &side->host))
            return false;
    return side->region != NULL;
}

static bool join(struct side *side, struct hello *theirs)
{
    struct hello ours = {.address = (uintptr_t)side->memory, .key = side->region->rkey};
    uint8_t ready = 1;

    for (uint32_t i = 0; i < LINES; i++)
        ours.ends[i] = line_end(&side->lines[i]);
    if (send(side->channel, &ours, sizeof ours, MSG_NOSIGNAL) != sizeof ours ||
        recv(side->channel, theirs, sizeof *theirs, 0) != sizeof *theirs)
        return false;
    for (uint32_t i = 0; i < LINES; i++)
        if (!line_join(&side->lines[i], &theirs->ends[i], 1))
            return false;
    return send(side->channel, &ready, 1, MSG_NOSIGNAL) == 1 &&
           recv(side->channel, &ready, 1, 0) == 1;
}

static void close_side(struct side *side)
{
    for (uint32_t i = 0; i < LINES; i++)
        line_close(&side->lines[i]);
    (void)ibv_dereg_mr(side->region);
    line_host_close(&side->host);
    (void)munmap(side->memory, BYTES);
    (void)close(side->channel);
}

/* The reader. */

static bool post(struct side *side, const struct hello *owner, uint32_t number, uint64_t at,
                 uint32_t bytes, unsigned flags)
{
    struct ibv_sge local = {(uintptr_t)side->memory + at, bytes, side->region->lkey};
    struct ibv_send_wr *bad,
        request = {
            .sg_list = &local,
            .num_sge = 1,
            .opcode = IBV_WR_RDMA_READ,
            .send_flags = flags | IBV_SEND_SIGNALED,
            /* Where a line's word lands is the reader's; there is one at the owner. */
            .wr.rdma = {owner->address + (at < DATA_BYTES ? at : DATA_BYTES), owner->key},
        };

    return ibv_post_send(side->lines[number].pair, &request, &bad) == 0;
}

static bool await(struct side *side, uint32_t count)
{
    for (uint32_t i = 0; i < LINES; i++)
        for (uint32_t k = 0; k < count; k++) {
            enum ibv_wc_status status = line_await(&side->lines[i]);

            if (status != IBV_WC_SUCCESS) {
                (void)fprintf(stderr, "%s\n", ibv_wc_status_str(status));
                return false;
            }
        }
    return true;
}

static bool read_all(struct side *side, const struct hello *owner)
{
    bool is_fenced = !line_is_rxe(&side->host);

    for (uint32_t i = 0; i < LINES; i++)
        for (uint32_t k = 0; k < BLOCKS; k++)
            if (!post(side, owner, i, (uint64_t)(i * BLOCKS + k) * BLOCK_BYTES, BLOCK_BYTES, 0))
                return false;
    if (!is_fenced && !await(side, BLOCKS))
        return false;
    for (uint32_t i = 0; i < LINES; i++)
        if (!post(side, owner, i, DATA_BYTES + i * sizeof(uint64_t), sizeof(uint64_t),
                  is_fenced ? IBV_SEND_FENCE : 0))
            return false;
    return await(side, is_fenced ? BLOCKS + 1 : 1);
}

static struct seen look(struct side *side, const struct hello *owner, uint64_t generation)
{
    struct seen seen = {.is_well = read_all(side, owner)};
    uint32_t others = 0;

    seen.is_proven = seen.is_well;
    for (uint32_t i = 0; i < LINES; i++)
        seen.is_proven &= word_of(side)[i] == generation;
    for (uint32_t i = 0; i < DATA_BYTES; i++)
        others += side->memory[i] != byte_of(generation);
    seen.wrong = seen.is_proven ? others : 0;
    seen.other = seen.is_proven ? 0 : others;
    return seen;
}

static int read_on(void *context)
{
    struct side *side = context;
    struct hello owner;
    uint64_t generation;

    if (!open_side(side, 1) || !join(side, &owner))
        return 1;
    while (recv(side->channel, &generation, sizeof generation, 0) == sizeof generation &&
           generation != 0) {
        struct seen seen = look(side, &owner, generation);

        if (send(side->channel, &seen, sizeof seen, MSG_NOSIGNAL) != sizeof seen)
            return 1;
    }
    close_side(side);
    return 0;
}

/* The owner. */

static void lend_out(struct side *side, uint64_t generation)
{
    memset(side->memory, byte_of(generation), DATA_BYTES);
    atomic_thread_fence(memory_order_seq_cst);
    *word_of(side) = generation;
    assert_int_equal(send(side->channel, &generation, sizeof generation, MSG_NOSIGNAL),
                     sizeof generation);
}

/* The lease ends by its word, and the memory is used for something else at once. */
static void end_lease(struct side *side, uint64_t generation)
{
    *word_of(side) = generation + 1;
    atomic_thread_fence(memory_order_seq_cst);
    memset(side->memory, byte_of(generation + 1), DATA_BYTES);
}

static struct seen lend_once(struct side *owner, uint64_t generation, bool is_long,
                             uint64_t delay_ns)
{
    struct seen seen;

    lend_out(owner, generation);
    if (!is_long) {
        acts_delay(delay_ns);
        end_lease(owner, generation);
    }
    assert_int_equal(recv(owner->channel, &seen, sizeof seen, 0), sizeof seen);
    if (is_long)
        end_lease(owner, generation);
    return seen;
}

static void begin(struct side *owner, struct side *reader, pid_t *process)
{
    struct timeval patience = {.tv_sec = ACTS_PATIENCE_NS / ACTS_SECOND};
    struct hello theirs;
    int ends[2];

    memset(owner, 0, sizeof *owner);
    memset(reader, 0, sizeof *reader);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    reader->channel = ends[1];
    *process = acts_spawn(read_on, reader);
    (void)close(ends[1]);
    owner->channel = ends[0];
    assert_true(open_side(owner, 0));
    assert_true(join(owner, &theirs));
}

static void test_data_is_the_leases_if_its_word_that_was_read_afterwards_says_so(void **state)
{
    struct acts_chance chance = acts_chance_begin("words");
    uint32_t rounds = acts_count(ROUNDS), done = 0, proven = 0, torn = 0;
    struct side owner, reader;
    pid_t process;
    (void)state;

    begin(&owner, &reader, &process);
    for (; done < rounds || (torn == 0 && done < MORE_MAX * rounds); done++) {
        bool is_long = done % LONG_ROUND == 0;
        struct seen seen = lend_once(&owner, 2 * (uint64_t)done + 1, is_long,
                                     acts_chance_below(&chance, DELAY_NS));

        assert_true(seen.is_well);
        assert_int_equal(seen.wrong, 0);
        assert_true(seen.is_proven || !is_long);
        proven += seen.is_proven;
        torn += seen.other > 0 && seen.other < DATA_BYTES;
    }
    print_message("words: %u rounds, %u proven, %u of the others torn\n", done, proven, torn);
    assert_true(torn > 0);
    uint64_t last = 0;
    assert_int_equal(send(owner.channel, &last, sizeof last, MSG_NOSIGNAL), sizeof last);
    assert_int_equal(acts_reap(process), 0);
    close_side(&owner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_is_the_leases_if_its_word_that_was_read_afterwards_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
