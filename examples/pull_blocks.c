/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pull scattered blocks of a tensor that lend_tensor lends, and check every byte.
 *
 *     lend_tensor | pull_blocks
 */
#include <lend/lend.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK_BYTES = 65536, BLOCK_COUNT = 4 };

static const uint64_t SECOND_NS = 1000000000;

/* End the program with the reason, unless all is well. */
static void check(enum lend_status status, const struct lend_error *error)
{
    if (status == LEND_OK)
        return;
    fprintf(stderr, "pull_blocks: %s: %s\n", lend_status_name(status), error->message);
    exit(1);
}

/* Take one byte string from the standard input; the caller frees it. */
static void *hear(uint64_t *out_count)
{
    uint64_t count = 0;

    if (fread(&count, sizeof count, 1, stdin) == 1 && count <= LEND_METADATA_BYTES_MAX) {
        void *bytes = malloc(count);
        if (bytes != NULL && fread(bytes, 1, count, stdin) == count) {
            *out_count = count;
            return bytes;
        }
        free(bytes);
    }
    fprintf(stderr, "pull_blocks: the standard input is not what lend_tensor writes\n");
    exit(1);
}

/* Memory of our own for the blocks, known to the agent, and no business of any peer. */
static struct lend_region *prepare_memory(struct lend_agent *agent, unsigned char *memory)
{
    struct lend_error error;
    struct lend_region *region = NULL;
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;

    check(lend_memory_system(memory, (uint64_t)BLOCK_BYTES * BLOCK_COUNT, &desc.memory, &error),
          &error);
    desc.geometry.block_length_bytes = BLOCK_BYTES;
    desc.geometry.count = BLOCK_COUNT;
    check(lend_region_register(agent, &desc, 1, &region, NULL, &error), &error);
    return region;
}

/* Pull blocks `theirs` of the region of that name, to our blocks 0, 1, 2, ... */
static void pull(struct lend_agent *agent, struct lend_peer *peer, struct lend_ticket *ticket,
                 struct lend_region *region, const int32_t *theirs)
{
    static const int32_t ours[BLOCK_COUNT] = {0, 1, 2, 3};
    struct lend_error error;
    uint64_t tensor = 0;

    check(lend_peer_region(peer, "layers.0.k", &tensor, &error), &error);
    struct lend_transfer *transfer = NULL;
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    desc.direction = LEND_READ;
    desc.peer = peer;
    desc.local_regions = &region;
    desc.remote_regions = &tensor;
    desc.region_count = 1;
    desc.block_count_max = BLOCK_COUNT;
    check(lend_transfer_prepare(agent, &desc, &transfer, &error), &error);

    struct lend_post_desc post = LEND_POST_DESC_INIT;
    post.ticket = ticket;
    post.local_blocks = ours;
    post.remote_blocks = theirs;
    post.block_count = BLOCK_COUNT;
    post.notification = "thank you";
    post.notification_bytes = 9;
    check(lend_transfer_post(transfer, &post, &error), &error);

    enum lend_status status = lend_transfer_wait(transfer, 30 * SECOND_NS);
    struct lend_transfer_record record = {.struct_size = sizeof record};
    check(lend_transfer_describe(transfer, &record, &error), &error);
    check(status, &error);
    printf("pull_blocks: %" PRIu64 " blocks, %" PRIu64 " bytes, by %s\n", record.blocks,
           record.bytes, record.path);
    (void)lend_transfer_release(transfer); /* it is complete, so that it cannot be busy */
}

int main(void)
{
    static const int32_t theirs[BLOCK_COUNT] = {41, 7, 63, 8};
    struct lend_error error;
    uint64_t metadata_bytes = 0;
    uint64_t ticket_bytes = 0;
    void *metadata = hear(&metadata_bytes);
    void *told = hear(&ticket_bytes);

    struct lend_agent *agent = NULL;
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    config.name = "reader-0";
    check(lend_agent_create(&config, &agent, &error), &error);

    struct lend_peer *peer = NULL;
    struct lend_ticket *ticket = NULL;
    check(lend_peer_import(agent, metadata, metadata_bytes, &peer, &error), &error);
    check(lend_ticket_import(peer, told, ticket_bytes, &ticket, &error), &error);

    unsigned char *memory = calloc(BLOCK_COUNT, BLOCK_BYTES);
    if (memory == NULL)
        return 1;
    struct lend_region *region = prepare_memory(agent, memory);
    pull(agent, peer, ticket, region, theirs);

    uint64_t wrong = 0;
    for (uint64_t i = 0; i < (uint64_t)BLOCK_BYTES * BLOCK_COUNT; i++)
        wrong += memory[i] != (unsigned char)theirs[i / BLOCK_BYTES];
    printf("pull_blocks: %" PRIu64 " wrong bytes\n", wrong);

    check(lend_region_deregister(region, &error), &error);
    lend_ticket_release(ticket);
    lend_peer_forget(peer);
    lend_agent_destroy(agent);
    free(memory);
    free(told);
    free(metadata);
    return wrong == 0 ? 0 : 1;
}
