/* SPDX-License-Identifier: Apache-2.0 */
#include "owner.h"

#include "driver.h"
#include "rows.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int child, to_child, from_child; /* the reader's process */

void loan_fill(struct loan *loan, uint32_t seed)
{
    for (uint64_t i = 0; i < loan->bytes; i++)
        loan->copy[i] = pattern_at(i, seed);
    if (loan->host != NULL)
        memcpy(loan->host, loan->copy, loan->bytes);
    else
        driver_put(loan->device, loan->copy, loan->bytes);
}

void loan_look(struct loan *loan)
{
    if (loan->host != NULL)
        memcpy(loan->copy, loan->host, loan->bytes);
    else
        driver_must(driver.to_host(loan->copy, loan->device, loan->bytes), "cuMemcpyDtoH");
}

bool loan_is_filled(struct loan *loan, uint32_t seed, uint64_t block_bytes)
{
    loan_look(loan);
    for (uint64_t i = 0; i < loan->bytes; i++)
        if (i / block_bytes % 2 == 0 && loan->copy[i] != pattern_at(i, seed))
            return false;
    return true;
}

enum lend_status loan_grant(struct lend_agent *agent, struct loan *loan)
{
    struct lend_block_set set = {.regions = &loan->region, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;

    desc.sets = &set;
    desc.set_count = 1;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.time_to_live_ns = 60 * PATIENCE_NS;
    return lend_lease_grant(agent, &desc, &loan->lease, &loan->error);
}

enum lend_status loan_enroll(struct lend_agent *agent, struct loan *loan, uint64_t block_bytes,
                             uint32_t flags)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;

    enum lend_status status =
        loan->storage != NULL
            ? lend_storage_describe(loan->storage, 0, loan->bytes, &desc, &loan->error)
            : lend_memory_device(loan->device, loan->bytes, 0, &desc.memory, &loan->error);
    desc.geometry.block_length_bytes = block_bytes;
    desc.geometry.count = loan->bytes / block_bytes;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.flags |= flags;
    if (status == LEND_OK)
        status = lend_region_register(agent, &desc, 1, &loan->region, NULL, &loan->error);
    return status == LEND_OK ? loan_grant(agent, loan) : status;
}

static void give_to_driver(struct loan *loan)
{
    driver_must(driver.free(loan->device), "cuMemFree");
}

struct loan loan_make(uint64_t bytes)
{
    struct loan loan = {.bytes = bytes, .copy = malloc(bytes), .give = give_to_driver};

    if (loan.copy == NULL)
        abort();
    driver_must(driver.allocate(&loan.device, bytes), "cuMemAlloc");
    loan_fill(&loan, 1);
    return loan;
}

void loan_release(struct loan *loan)
{
    lend_lease_release(loan->lease);
    if (loan->region != NULL && lend_region_deregister(loan->region, &loan->error) != LEND_OK)
        tell("giving a region back", false, "%s", loan->error.message);
    if (loan->give != NULL)
        loan->give(loan);
    free(loan->copy);
}

enum lend_status loan_prepare(struct lend_agent *agent, struct loan *loan, struct order *order)
{
    size_t count = 0;
    enum lend_status status =
        lend_metadata_export(agent, order->metadata, sizeof order->metadata, &count, &loan->error);

    order->region_id = lend_region_id(loan->region);
    order->metadata_bytes = count;
    if (status == LEND_OK)
        status = lend_ticket_export(loan->lease, order->ticket, sizeof order->ticket, &count,
                                    &loan->error);
    order->ticket_bytes = count;
    return status;
}

struct answer reader_ask(const struct order *order)
{
    struct answer answer = {.status = LEND_E_PEER_DEAD};

    if (write(to_child, order, sizeof *order) != (ssize_t)sizeof *order)
        return answer;
    for (size_t at = 0; at < sizeof answer;) {
        ssize_t got = read(from_child, (uint8_t *)&answer + at, sizeof answer - at);

        if (got <= 0)
            return (struct answer){.status = LEND_E_PEER_DEAD};
        at += (size_t)got;
    }
    return answer;
}

void reader_begin(const char *program, const char *directory)
{
    int orders[2], answers[2];

    if (pipe(orders) != 0 || pipe(answers) != 0)
        abort();
    child = fork();
    if (child == 0) {
        (void)dup2(orders[0], STDIN_FILENO);
        (void)dup2(answers[1], STDOUT_FILENO);
        for (int i = 0; i < 2; i++) {
            (void)close(orders[i]);
            (void)close(answers[i]);
        }
        (void)execl(program, program, "reader", directory, (char *)NULL);
        _exit(3);
    }
    (void)close(orders[0]);
    (void)close(answers[1]);
    to_child = orders[1];
    from_child = answers[0];
}

enum lend_status loan_give_back(struct loan *loan)
{
    enum lend_status status =
        lend_region_withdraw(loan->region, LEND_WITHDRAW_FORCE, PATIENCE_NS, &loan->error);

    lend_lease_release(loan->lease);
    loan->lease = NULL;
    if (status == LEND_OK)
        status = lend_region_deregister(loan->region, &loan->error);
    loan->region = status == LEND_OK ? NULL : loan->region;
    return status;
}

void reader_end(void)
{
    (void)close(to_child);
    (void)waitpid(child, NULL, 0);
}
