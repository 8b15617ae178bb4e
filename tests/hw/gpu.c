/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what lend promises of memory of a GPU holds on one, and how fast it is.
 * Method: an owner, and a reader in a process of its own, on GPU 0 of whatever libcuda.so.1 the
 * loader finds. Every byte that moved is compared. Prints a row a test for run.sh to keep. Nothing
 * is skipped: what cannot be is a failure. No figure decides a test: one that is not what is wanted
 * says so.
 */
#include "driver.h"
#include "kinds.h"
#include "owner.h"
#include "rows.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TENSORS = 122, OLD_TICKETS = 10000, MIB = 1 << 20 };
enum { MOVE_BYTES = 2000 * 65536, FEW_BYTES = 200 * 65536 };

#define WANTED_NS UINT64_C(100000) /* to register tensors of an allocation that is known */

static bool is_few; /* little memory, and few rounds: of a fake driver no figure means anything */

/* --- tests --- */

/* One way to move blocks, and what is wanted of it. */
struct move {
    const char *name;
    const char *path;
    uint32_t direction;
    uint32_t memory; /* the reader's: a lend_memory_kind */
    uint32_t block_bytes;
    uint32_t percent; /* of one copy's rate by the driver alone; 0: nothing is wanted */
};

static void tell_rate(const struct move *move, const struct answer *answer, uint64_t bytes,
                      uint32_t blocks)
{
    double rate = (double)bytes / (double)answer->best_ns;
    double part = (double)answer->ceiling_ns / (double)answer->best_ns;

    if (move->percent == 0)
        tell(move->name, true, "%.2f GB/s", rate);
    else
        tell(move->name, true,
             "%.2f GB/s, %.2fx of one copy%s (%.2fx is wanted); post %.0f ns a "
             "block",
             rate, part, part * 100 < move->percent ? ": TOO LITTLE" : "",
             (double)move->percent / 100, (double)answer->post_ns / blocks);
}

static void withdraw(const struct move *move, struct loan *loan)
{
    uint64_t start = now_ns();
    enum lend_status status =
        lend_region_withdraw(loan->region, LEND_WITHDRAW_FORCE, PATIENCE_NS, &loan->error);

    if (status != LEND_OK)
        tell("withdraw after it", false, "%s", loan->error.message);
    else if (strcmp(move->path, "local/cuda") == 0 && move->block_bytes > 4096)
        tell("withdraw of what was open there", true, "%.1f us", (double)(now_ns() - start) / 1000);
}

static void test_move(struct lend_agent *agent, const struct move *move)
{
    static struct order order;
    uint64_t bytes = is_few ? FEW_BYTES : MOVE_BYTES;
    uint32_t count = (uint32_t)(bytes / move->block_bytes);
    struct loan loan = loan_make(2 * bytes);
    bool is_opened = strcmp(move->path, "local/cuda") == 0;
    struct answer answer = {.status = LEND_OK};

    order = (struct order){.direction = move->direction,
                           .memory = move->memory,
                           .block_bytes = move->block_bytes,
                           .block_count = count,
                           .rounds = 5,
                           .seed = move->direction == LEND_READ ? 1 : 9,
                           .wants_ceiling = move->percent != 0};
    (void)snprintf(order.paths, sizeof order.paths, "%s", move->path);
    answer.status =
        loan_enroll(agent, &loan, move->block_bytes, is_opened ? LEND_REGION_SHARE_DEVICE : 0);
    if (answer.status == LEND_OK)
        answer.status = loan_prepare(agent, &loan, &order);
    if (answer.status == LEND_OK)
        answer = reader_ask(&order);
    const char *why = answer.message[0] != '\0' ? answer.message : loan.error.message;
    bool is_good =
        answer.status == LEND_OK && answer.is_wrong == 0 && strcmp(answer.path, move->path) == 0;
    if (is_good && move->direction == LEND_WRITE)
        is_good = loan_is_filled(&loan, order.seed, move->block_bytes);
    if (is_good)
        tell_rate(move, &answer, bytes, count);
    else
        tell(move->name, false, "%s %s%s", lend_status_name((enum lend_status)answer.status), why,
             answer.is_wrong != 0 ? ", wrong bytes" : "");
    if (loan.region != NULL)
        withdraw(move, &loan);
    loan_release(&loan);
}

static void describe_device(uint64_t address, uint64_t bytes, int32_t device,
                            struct lend_memory *out)
{
    struct lend_error error = {0};

    if (lend_memory_device(address, bytes, device, out, &error) != LEND_OK)
        abort(); /* it looks at the numbers alone */
}

/* --- what was freed --- */

/* Free it, and have as much anew: where the driver gives the same address, nothing shows but its
 * id. True: it did. */
static bool renew(struct loan *loan)
{
    uint64_t before = loan->device;

    driver_must(driver.free(loan->device), "cuMemFree");
    driver_must(driver.allocate(&loan->device, loan->bytes), "cuMemAlloc");
    return loan->device == before;
}

/* Lend, free, allocate again, and let the reader pull with the old ticket. Withdrawn first, as it
 * shall be, and lent anew: the lease was revoked, or its slot serves another by then. Or not, which
 * is a breach that its owner notices. */
static void test_old_tickets(struct lend_agent *agent, bool is_withdrawn)
{
    static struct order order;
    struct loan loan = loan_make(MIB);
    const uint32_t rounds = is_few ? OLD_TICKETS / 100 : OLD_TICKETS;
    uint32_t same = 0, stale = 0, revoked = 0;
    struct answer answer = {.status = LEND_OK};

    for (uint32_t round = 0; round < rounds && stale + revoked == round; round++) {
        order = (struct order){.direction = LEND_READ,
                               .memory = LEND_MEMORY_DEVICE,
                               .block_bytes = 4096,
                               .block_count = 8,
                               .rounds = 1};
        answer.status = loan_enroll(agent, &loan, 4096, 0);
        if (answer.status != LEND_OK || loan_prepare(agent, &loan, &order) != LEND_OK ||
            (is_withdrawn && loan_give_back(&loan) != LEND_OK))
            break;
        same += renew(&loan);
        if (is_withdrawn && loan_enroll(agent, &loan, 4096, 0) != LEND_OK)
            break;
        answer = reader_ask(&order);
        stale += answer.status == LEND_E_STALE;
        revoked += is_withdrawn && answer.status == LEND_E_REVOKED;
        if (loan_give_back(&loan) != LEND_OK)
            break;
    }
    tell(is_withdrawn ? "old tickets, of memory withdrawn, freed, allocated and lent anew"
                      : "old tickets, of memory freed and allocated anew without a withdraw",
         stale + revoked == rounds,
         "%u STALE, %u REVOKED, of %u; at the same address %u times; last: %s%s", stale, revoked,
         rounds, same, answer.message, loan.error.message);
    loan_release(&loan);
}

/* An engine that sleeps: it suspends, frees, and wakes with other memory, which is lent anew. */
static const char *sleep_and_wake(struct lend_agent *agent, struct loan *loan, struct order *old,
                                  struct order *order)
{
    struct lend_memory memory;

    if (reader_ask(old).status != LEND_OK)
        return "it is not read before";
    if (lend_region_suspend(loan->region, LEND_WITHDRAW_FORCE, PATIENCE_NS, &loan->error) !=
        LEND_OK)
        return "it is not suspended";
    (void)renew(loan);
    loan_fill(loan, 5);
    describe_device(loan->device, loan->bytes, 0, &memory);
    lend_lease_release(loan->lease);
    loan->lease = NULL;
    if (lend_region_resume(loan->region, &memory, -1, 0, &loan->error) != LEND_OK)
        return "it is not resumed";
    old->paths[0] = '\0'; /* there is none to it any more */
    enum lend_status late = reader_ask(old).status;
    if (late != LEND_E_REVOKED && late != LEND_E_STALE)
        return "the old ticket is not refused";
    if (loan_grant(agent, loan) != LEND_OK || loan_prepare(agent, loan, order) != LEND_OK)
        return "it is not lent anew";
    order->seed = 5;
    const struct answer answer = reader_ask(order);
    return answer.status == LEND_OK && answer.is_wrong == 0 ? NULL : "it is not read after";
}

static void test_sleep(struct lend_agent *agent)
{
    static struct order old, order;
    struct loan loan = loan_make(MIB);
    const char *wrong = "it is not lent";

    old = (struct order){.direction = LEND_READ,
                         .memory = LEND_MEMORY_DEVICE,
                         .block_bytes = 4096,
                         .block_count = 8,
                         .rounds = 1,
                         .seed = 1,
                         .paths = "local/cuda"};
    order = old;
    if (loan_enroll(agent, &loan, 4096, LEND_REGION_SHARE_DEVICE) == LEND_OK &&
        loan_prepare(agent, &loan, &old) == LEND_OK)
        wrong = sleep_and_wake(agent, &loan, &old, &order);
    tell("suspended, freed, resumed with other memory, local/cuda", wrong == NULL, "%s %s",
         wrong == NULL ? "read before and after" : wrong, loan.error.message);
    if (loan.region != NULL && loan_give_back(&loan) != LEND_OK)
        tell("withdraw after it", false, "%s", loan.error.message);
    loan_release(&loan);
}

static void *register_alone(void *context)
{
    struct loan *loan = context;
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    void *current = NULL;

    config.name = "alone";
    config.transports = "loopback";
    bool is_good = lend_agent_create(&config, &agent, &loan->error) == LEND_OK &&
                   loan_enroll(agent, loan, 4096, 0) == LEND_OK && loan_give_back(loan) == LEND_OK;
    lend_agent_destroy(agent);
    driver_must(driver.context_get(&current), "cuCtxGetCurrent");
    return is_good ? current : loan; /* which is no context */
}

/* The thread's own context, and none where there is none. */
static void test_context(void)
{
    struct loan loan = loan_make(MIB);
    void *before = NULL, *after = NULL, *none = NULL;
    pthread_t thread;

    driver_must(driver.context_get(&before), "cuCtxGetCurrent");
    after = register_alone(&loan);
    if (pthread_create(&thread, NULL, register_alone, &loan) != 0)
        abort();
    (void)pthread_join(thread, &none);
    tell("the current context is the caller's after it", before != NULL && after == before,
         "registered, granted, withdrawn %s", loan.error.message);
    tell("a thread without a context has none after it", none == NULL,
         "registered, granted, withdrawn %s", loan.error.message);
    loan_release(&loan);
}

static void test_descriptions(void)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_agent *agent = NULL;
    struct lend_region *region = NULL;
    struct lend_error error = {0};
    struct loan loan = loan_make(MIB);

    config.name = "alone";
    config.transports = "loopback";
    if (lend_agent_create(&config, &agent, &error) != LEND_OK)
        abort();
    describe_device(loan.device, loan.bytes + 64 * (uint64_t)MIB, 0, &desc.memory);
    enum lend_status beyond = lend_region_register(agent, &desc, 1, &region, NULL, &error);
    tell("a range beyond its allocation is refused",
         beyond == LEND_E_MEMORY || beyond == LEND_E_DEVICE, "%s", error.message);
    describe_device(loan.device, loan.bytes, 1, &desc.memory);
    enum lend_status other = lend_region_register(agent, &desc, 1, &region, NULL, &error);
    tell("another GPU's ordinal is refused", other == LEND_E_MEMORY, "%s", error.message);
    describe_device((uint64_t)(uintptr_t)&loan, 8, 0, &desc.memory);
    enum lend_status host = lend_region_register(agent, &desc, 1, &region, NULL, &error);
    tell("memory of the host is refused", host == LEND_E_MEMORY, "%s", error.message);
    lend_agent_destroy(agent);
    loan_release(&loan);
}

static void test_many(struct lend_agent *agent)
{
    struct loan loan = loan_make((uint64_t)TENSORS * MIB / (is_few ? 16 : 1));
    uint64_t each = loan.bytes / TENSORS;
    static struct lend_region_desc descs[TENSORS];
    struct lend_region *regions[TENSORS] = {NULL};
    enum lend_status status = LEND_OK;

    if (loan_enroll(agent, &loan, each, 0) != LEND_OK) { /* the first, which is not timed */
        tell("122 tensors of one allocation", false, "%s", loan.error.message);
        loan_release(&loan);
        return;
    }
    for (int i = 0; i < TENSORS; i++) {
        descs[i] = (struct lend_region_desc)LEND_REGION_DESC_INIT;
        describe_device(loan.device + (uint64_t)i * each, each, 0, &descs[i].memory);
        descs[i].access = LEND_ACCESS_READ;
    }
    uint64_t start = now_ns();
    status = lend_region_register(agent, descs, TENSORS, regions, NULL, &loan.error);
    uint64_t taken = now_ns() - start;
    tell("122 tensors of one allocation, registered", status == LEND_OK,
         "%.1f us%s (100 us is wanted)", (double)taken / 1000,
         taken > WANTED_NS ? ": TOO LONG" : "");
    for (int i = 0; i < TENSORS && status == LEND_OK; i++)
        status = lend_region_deregister(regions[i], &loan.error);
    if (status != LEND_OK)
        tell("122 tensors, given back", false, "%s", loan.error.message);
    if (lend_region_withdraw(loan.region, LEND_WITHDRAW_FORCE, PATIENCE_NS, &loan.error) != LEND_OK)
        tell("withdraw of 122 tensors", false, "%s", loan.error.message);
    loan_release(&loan);
}

static void test_all(struct lend_agent *agent)
{
    enum { WHOLE = 65536, SMALL = 4096 };
    static const struct move moves[] = {
        {"read, GPU to GPU, scattered pieces of 64 KiB, local/cuda", "local/cuda", LEND_READ,
         LEND_MEMORY_DEVICE, WHOLE, 80},
        {"read, GPU to GPU, scattered pieces of 4 KiB, local/cuda", "local/cuda", LEND_READ,
         LEND_MEMORY_DEVICE, SMALL, 50},
        {"read, GPU to GPU, scattered pieces of 64 KiB, local/staged", "local/staged", LEND_READ,
         LEND_MEMORY_DEVICE, WHOLE, 0},
        {"read, GPU to host, scattered pieces of 64 KiB, local/staged", "local/staged", LEND_READ,
         LEND_MEMORY_SYSTEM, WHOLE, 0},
        {"read, GPU to pinned host, scattered pieces of 64 KiB, local/staged", "local/staged",
         LEND_READ, LEND_MEMORY_PINNED, WHOLE, 90},
        {"write, GPU to GPU, scattered pieces of 64 KiB, local/staged", "local/staged", LEND_WRITE,
         LEND_MEMORY_DEVICE, WHOLE, 0},
        {"write, host to GPU, scattered pieces of 64 KiB, local/staged", "local/staged", LEND_WRITE,
         LEND_MEMORY_SYSTEM, WHOLE, 0},
        {"write, pinned host to GPU, scattered pieces of 64 KiB, local/staged", "local/staged",
         LEND_WRITE, LEND_MEMORY_PINNED, WHOLE, 90},
    };

    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++)
        test_move(agent, &moves[i]);
    test_many(agent);
    test_sleep(agent);
    test_context();
    test_old_tickets(agent, true);
    test_old_tickets(agent, false);
    test_descriptions();
    test_kinds(agent);
}

int main(int argc, char **argv)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;
    struct lend_error error = {0};
    char directory[] = "/tmp/lend-hw-XXXXXX", name[128] = "";
    int version = 0;

    if (argc == 3 && strcmp(argv[1], "reader") == 0)
        return read_on_order(argv[2]);
    if (mkdtemp(directory) == NULL)
        abort();
    reader_begin("/proc/self/exe", directory); /* before the driver: it survives no fork */
    driver_open();
    driver_must(driver.device_name(name, sizeof name, 0), "cuDeviceGetName");
    driver_must(driver.version(&version), "cuDriverGetVersion");
    is_few = is_small() || strncmp(name, "fake GPU", 8) == 0;
    (void)printf("# %s, driver of CUDA %d.%d\n", name, version / 1000, version % 1000 / 10);
    config.name = "owner";
    config.transports = "local";
    config.local_directory = directory;
    if (lend_agent_create(&config, &agent, &error) != LEND_OK) {
        (void)fprintf(stderr, "the owner has no agent: %s\n", error.message);
        return 2;
    }
    test_all(agent);
    reader_end();
    lend_agent_destroy(agent);
    (void)rmdir(directory);
    return tell_failures() > 0;
}
