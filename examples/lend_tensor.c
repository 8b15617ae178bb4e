/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lend a tensor that this program owns, wait until a reader has what it wants, and take it back.
 *
 *     lend_tensor | pull_blocks
 *
 * What the reader must be told (the agent's metadata and a ticket) goes to the standard output:
 * lend leaves it to the application how such bytes travel.
 */
#include <lend/lend.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 65536, BLOCK_COUNT = 64 };

static const uint64_t SECOND_NS = 1000000000;

/* End the program with the reason, unless all is well. */
static void check(enum lend_status status, const struct lend_error *error)
{
    if (status == LEND_OK)
        return;
    fprintf(stderr, "lend_tensor: %s: %s\n", lend_status_name(status), error->message);
    exit(1);
}

/* One byte string, with its length before it. */
static void say(const void *bytes, uint64_t count)
{
    if (fwrite(&count, sizeof count, 1, stdout) == 1 && fwrite(bytes, 1, count, stdout) == count)
        return;
    perror("lend_tensor: standard output");
    exit(1);
}

/* How to reach the agent, and what its regions are. One region takes far less than 4 KiB. */
static void say_metadata(struct lend_agent *agent)
{
    struct lend_error error;
    unsigned char metadata[4096];
    size_t count = 0;

    check(lend_metadata_export(agent, metadata, sizeof metadata, &count, &error), &error);
    say(metadata, count);
}

int main(void)
{
    struct lend_error error;

    /* The tensor: memory that lend knows nothing of. */
    uint64_t bytes = (uint64_t)BLOCK_BYTES * BLOCK_COUNT;
    unsigned char *pointer = malloc(bytes);
    if (pointer == NULL)
        return 1;
    for (uint64_t i = 0; i < bytes; i++)
        pointer[i] = (unsigned char)(i / BLOCK_BYTES);

    struct lend_agent *agent = NULL;
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    config.name = "engine-0";
    check(lend_agent_create(&config, &agent, &error), &error);

    /* Lend it. The memory is verified here, not at the first transfer. */
    struct lend_region *region = NULL;
    struct lend_region_desc tensor = LEND_REGION_DESC_INIT;
    check(lend_memory_system(pointer, bytes, &tensor.memory, &error), &error);
    tensor.geometry.block_length_bytes = BLOCK_BYTES;
    tensor.geometry.count = BLOCK_COUNT;
    tensor.access = LEND_ACCESS_READ;
    tensor.name = "layers.0.k";
    check(lend_region_register(agent, &tensor, 1, &region, NULL, &error), &error);

    /* Let whoever bears the ticket read every block of it, for 30 seconds at most. */
    struct lend_lease *lease = NULL;
    struct lend_block_set set = {.regions = &region, .region_count = 1, .count = BLOCK_COUNT};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    grant.sets = &set;
    grant.set_count = 1;
    grant.access = LEND_ACCESS_READ;
    grant.time_to_live_ns = 30 * SECOND_NS;
    check(lend_lease_grant(agent, &grant, &lease, &error), &error);

    unsigned char ticket[LEND_TICKET_BYTES_MAX];
    size_t ticket_bytes = 0;
    check(lend_ticket_export(lease, ticket, sizeof ticket, &ticket_bytes, &error), &error);
    say_metadata(agent);
    say(ticket, ticket_bytes);
    fclose(stdout);

    /* The reader notifies us behind its data. */
    char text[64];
    size_t text_bytes = 0;
    struct lend_notification_info from = {.struct_size = sizeof from};
    check(lend_notification_receive(agent, text, sizeof text, &text_bytes, &from, 30 * SECOND_NS,
                                    &error),
          &error);
    fprintf(stderr, "lend_tensor: %s says: %.*s\n", from.peer, (int)text_bytes, text);

    /* Take it back: the blocks may be overwritten after the first, and freed after the second. */
    check(lend_lease_revoke(lease, &error), &error);
    memset(pointer, 0xff, bytes);
    check(lend_region_withdraw(region, LEND_WITHDRAW_FORCE, 5 * SECOND_NS, &error), &error);
    check(lend_region_deregister(region, &error), &error);
    free(pointer);

    lend_lease_release(lease);
    lend_agent_destroy(agent);
    fprintf(stderr, "lend_tensor: %" PRIu64 " bytes are ours again\n", bytes);
    return 0;
}
