/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a callback may call lend, and wait there: for metadata, for a connection, for a transfer,
 * though the thread that it runs on is the one that makes progress.
 * Method: agents of one process over loopback, with progress threads; a lease whose time is out,
 * and all of that in the callback which tells so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include <semaphore.h>

#define SECOND UINT64_C(1000000000)

enum { BYTES = 4096 };

struct scene {
    struct lend_agent *owner, *reader;
    struct lend_region *lent, *kept;
    uint8_t lent_memory[BYTES], kept_memory[BYTES];
    uint8_t ticket[512];
    size_t ticket_bytes;
    /* of the callback: */
    const char *doing; /* the first that failed, or the last */
    enum lend_status status;
    struct lend_error error;
    sem_t is_over;
};

static bool did(struct scene *scene, const char *doing, enum lend_status status)
{
    scene->doing = doing;
    scene->status = status;
    return status == LEND_OK;
}

static bool fetch(struct scene *scene, struct lend_found **out)
{
    char address[64] = "loopback:";
    uint8_t incarnation[LEND_INCARNATION_BYTES];

    lend_agent_incarnation(scene->owner, incarnation);
    for (size_t i = 0; i < sizeof incarnation; i++)
        (void)snprintf(address + 9 + 2 * i, 3, "%02x", incarnation[i]);
    return did(scene, "fetch", lend_fetch(scene->reader, address, 60 * SECOND, out, &scene->error));
}

static void pull(struct scene *scene, struct lend_peer *peer)
{
    static const int32_t block = 0;
    const uint64_t remote = lend_region_id(scene->lent);
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_error *error = &scene->error;

    desc.direction = LEND_READ;
    desc.peer = peer;
    desc.region_count = 1;
    desc.local_regions = &scene->kept;
    desc.remote_regions = &remote;
    desc.block_count_max = 1;
    post.index_bits = 32;
    post.local_blocks = post.remote_blocks = &block;
    post.block_count = 1;
    if (did(scene, "import the ticket",
            lend_ticket_import(peer, scene->ticket, scene->ticket_bytes, &post.ticket, error)) &&
        did(scene, "prepare", lend_transfer_prepare(scene->reader, &desc, &transfer, error)) &&
        did(scene, "post", lend_transfer_post(transfer, &post, error)))
        (void)did(scene, "wait", lend_transfer_wait(transfer, 60 * SECOND));
    if (transfer != NULL)
        (void)!lend_transfer_release(transfer);
    lend_ticket_release(post.ticket);
}

static void call_back(void *context, const struct lend_lease_info *info)
{
    struct scene *scene = context;
    struct lend_found *found = NULL;
    struct lend_peer *peer = NULL;

    (void)info;
    if (fetch(scene, &found) &&
        did(scene, "import",
            lend_peer_import(scene->reader, found->metadata, found->metadata_bytes, &peer,
                             &scene->error)) &&
        did(scene, "connect", lend_peer_connect(peer, 60 * SECOND, &scene->error)))
        pull(scene, peer);
    lend_found_release(found);
    (void)sem_post(&scene->is_over);
}

/* --- */

static struct lend_agent *make(const char *name, struct scene *scene)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;

    config.name = name;
    config.transports = "loopback";
    config.flags = LEND_AGENT_NO_STATISTICS;
    config.on_lease_end = scene != NULL ? call_back : NULL;
    config.context = scene;
    config.slot_rest_ns = 1;
    assert_int_equal(lend_agent_create(&config, &agent, NULL), LEND_OK);
    return agent;
}

static struct lend_region *lend(struct lend_agent *agent, void *memory)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;

    assert_int_equal(lend_memory_system(memory, BYTES, &desc.memory, NULL), LEND_OK);
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    assert_int_equal(lend_region_register(agent, &desc, 1, &region, NULL, NULL), LEND_OK);
    return region;
}

static struct lend_lease *grant(struct lend_agent *agent, struct lend_region *region,
                                uint64_t time_to_live_ns)
{
    const struct lend_block_set set = {.regions = &region, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_lease *lease = NULL;

    desc.access = LEND_ACCESS_READ;
    desc.sets = &set;
    desc.set_count = 1;
    desc.time_to_live_ns = time_to_live_ns;
    assert_int_equal(lend_lease_grant(agent, &desc, &lease, NULL), LEND_OK);
    return lease;
}

static void test_a_callback_on_the_progress_thread_may_wait(void **state)
{
    static struct scene scene;

    (void)state;
    assert_int_equal(sem_init(&scene.is_over, 0, 0), 0);
    memset(scene.lent_memory, 0x5a, BYTES);
    scene.owner = make("owner", NULL);
    scene.reader = make("reader", &scene);
    scene.lent = lend(scene.owner, scene.lent_memory);
    scene.kept = lend(scene.reader, scene.kept_memory);
    struct lend_lease *lease = grant(scene.owner, scene.lent, 3600 * SECOND);
    assert_int_equal(
        lend_ticket_export(lease, scene.ticket, sizeof scene.ticket, &scene.ticket_bytes, NULL),
        LEND_OK);
    /* Nobody calls anything when its time is out: it is the thread that tells so. */
    struct lend_lease *brief = grant(scene.reader, scene.kept, SECOND / 1000);
    while (sem_wait(&scene.is_over) != 0)
        continue;
    if (scene.status != LEND_OK)
        fail_msg("%s: %s: %s", scene.doing, lend_status_name(scene.status), scene.error.message);
    assert_string_equal(scene.doing, "wait");
    assert_memory_equal(scene.kept_memory, scene.lent_memory, BYTES);
    lend_lease_release(brief);
    lend_lease_release(lease);
    lend_agent_destroy(scene.reader);
    lend_agent_destroy(scene.owner);
    (void)sem_destroy(&scene.is_over);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_callback_on_the_progress_thread_may_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
