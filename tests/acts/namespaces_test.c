/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: lend needs nothing that owner and reader share but the folder of the socket.
 * Method: owner and reader in two PID namespaces, two network namespaces, two user namespaces, all
 * of these at once, and as two users; each time blocks are read, written and compared, a
 * notification comes, a lease is revoked, and the reader's death is seen. Two users without a right
 * to the socket are told so by its path and mode. What the kernel refuses to this user is skipped,
 * with the reason.
 */
#include "acts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 65536, BLOCKS = 16, SKIPPED = 77, OTHER_USER = 65534 };

struct scene {
    struct acts_directory directory;
    int namespaces; /* CLONE_NEW... that each of the two leaves its parent's for */
    bool other_user;
    uint32_t mode;       /* of the socket */
    bool expects_access; /* LEND_E_ACCESS, that is */
    struct acts_turn owner;
    struct acts_turn reader;
    struct acts_blob metadata;
    struct acts_blob ticket;
    uint64_t id;
    char reason[200]; /* why it was skipped */
};

static int refuse(struct scene *scene, const char *what)
{
    (void)snprintf(scene->reason, sizeof scene->reason, "%s: %s", what, strerror(errno));
    return SKIPPED;
}

static bool write_file(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    bool is_written = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);

    if (file >= 0)
        (void)close(file);
    return is_written;
}

/* Leave for namespaces of one's own; an ordinary user may through a user namespace. */
static int leave(struct scene *scene)
{
    bool needs_user = scene->namespaces != 0 && geteuid() != 0;
    int namespaces = scene->namespaces | (needs_user ? CLONE_NEWUSER : 0);
    unsigned user = geteuid(), group = getegid();
    char text[64];

    if (namespaces != 0 && unshare(namespaces) != 0)
        return refuse(scene, "unshare");
    if ((namespaces & CLONE_NEWUSER) != 0) {
        (void)write_file("/proc/self/setgroups", "deny");
        (void)snprintf(text, sizeof text, "0 %u 1", user);
        if (!write_file("/proc/self/uid_map", text))
            return refuse(scene, "uid_map");
        (void)snprintf(text, sizeof text, "0 %u 1", group);
        if (!write_file("/proc/self/gid_map", text))
            return refuse(scene, "gid_map");
    }
    return 0;
}

/* Run body as process 1 of the new PID namespace, if there is one. */
static int act_in_namespaces(struct scene *scene, int (*body)(void *context))
{
    int left = leave(scene);

    if (left != 0)
        return left;
    if ((scene->namespaces & CLONE_NEWPID) == 0)
        return body(scene);
    return acts_reap(acts_spawn(body, scene));
}

static int own(void *context)
{
    struct scene *scene = context;
    struct lend_agent_config config = acts_config("owner", &scene->directory);
    struct acts_region region = {
        .memory = acts_shared((size_t)BLOCK * BLOCKS), .block_bytes = BLOCK, .count = BLOCKS};
    struct lend_agent *agent = NULL;
    struct lend_lease *lease = NULL;
    struct lend_error error = {0};
    char text[16] = "";
    size_t count = 0;

    config.local_mode = scene->mode;
    for (uint64_t block = 0; block < BLOCKS; block++)
        acts_fill(region.memory + block * BLOCK, BLOCK, 1, block);
    if (!acts_ok(lend_agent_create(&config, &agent, &error), &error, "owner") ||
        !acts_register(agent, &region, LEND_ACCESS_READ | LEND_ACCESS_WRITE) ||
        !acts_grant(agent, &region, LEND_ACCESS_READ | LEND_ACCESS_WRITE, &lease, &scene->ticket) ||
        !acts_metadata(agent, &scene->metadata))
        return 1;
    scene->id = region.id;
    acts_turn_to(&scene->owner, 1);
    if (scene->expects_access)
        return acts_turn_await(&scene->reader, 3) ? 0 : 1;

    if (!acts_ok(lend_notification_receive(agent, text, sizeof text, &count, NULL, ACTS_PATIENCE_NS,
                                           &error),
                 &error, "notification") ||
        strcmp(text, "written") != 0 || !acts_is(region.memory, BLOCK, 2, 0) ||
        !acts_is(region.memory + BLOCK, BLOCK, 1, 1))
        return 2;
    if (!acts_ok(lend_lease_revoke(lease, &error), &error, "revoke"))
        return 3;
    memset(region.memory, 0, (size_t)BLOCK * BLOCKS);
    acts_turn_to(&scene->owner, 2);
    if (!acts_turn_await(&scene->reader, 3) ||
        !acts_ok(lend_region_withdraw(region.region, LEND_WITHDRAW_FORCE, ACTS_PATIENCE_NS, &error),
                 &error, "withdraw"))
        return 4;
    lend_agent_destroy(agent);
    return 0;
}

static enum lend_status move(struct lend_transfer *transfer, struct lend_ticket *ticket,
                             uint64_t blocks, const char *notification)
{
    static const int32_t numbers[BLOCKS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_error error = {0};

    post.ticket = ticket;
    post.local_blocks = post.remote_blocks = numbers;
    post.block_count = blocks;
    post.notification = notification;
    post.notification_bytes = notification != NULL ? strlen(notification) + 1 : 0;
    if (!acts_ok(lend_transfer_post(transfer, &post, &error), &error, "post"))
        return error.status;
    return lend_transfer_wait(transfer, ACTS_PATIENCE_NS);
}

static int pull_and_push(struct scene *scene, struct lend_agent *agent, struct lend_peer *peer)
{
    struct acts_region region = {
        .memory = acts_shared((size_t)BLOCK * BLOCKS), .block_bytes = BLOCK, .count = BLOCKS};
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *reading = NULL, *writing = NULL;
    struct lend_ticket *ticket = NULL;
    struct lend_error error = {0};

    desc.peer = peer;
    desc.region_count = 1;
    desc.local_regions = &region.region;
    desc.remote_regions = &scene->id;
    desc.block_count_max = BLOCKS;
    desc.direction = LEND_READ;
    if (!acts_register(agent, &region, 0) ||
        !acts_ok(
            lend_ticket_import(peer, scene->ticket.bytes, scene->ticket.count, &ticket, &error),
            &error, "import of a ticket") ||
        !acts_ok(lend_transfer_prepare(agent, &desc, &reading, &error), &error, "prepare"))
        return 1;
    desc.direction = LEND_WRITE;
    if (!acts_ok(lend_transfer_prepare(agent, &desc, &writing, &error), &error, "prepare") ||
        !acts_ok(move(reading, ticket, BLOCKS, NULL), NULL, "read"))
        return 1;
    for (uint64_t block = 0; block < BLOCKS; block++)
        if (!acts_is(region.memory + block * BLOCK, BLOCK, 1, block))
            return 2;
    acts_fill(region.memory, BLOCK, 2, 0);
    if (!acts_ok(move(writing, ticket, 1, "written"), NULL, "write") ||
        !acts_turn_await(&scene->owner, 2))
        return 3;
    if (move(reading, ticket, BLOCKS, NULL) != LEND_E_REVOKED ||
        move(writing, ticket, 1, NULL) != LEND_E_REVOKED)
        return 4;
    return 0;
}

static int read_and_write(void *context)
{
    struct scene *scene = context;
    struct lend_agent_config config = acts_config("reader", &scene->directory);
    struct lend_agent *agent = NULL;
    struct lend_peer *peer = NULL;
    struct lend_error error = {0};
    int wrong = 0;

    if (!acts_turn_await(&scene->owner, 1) ||
        !acts_ok(lend_agent_create(&config, &agent, &error), &error, "reader") ||
        !acts_import(agent, &scene->metadata, &peer))
        return 1;
    if (scene->expects_access) {
        enum lend_status status = lend_peer_connect(peer, 5 * ACTS_SECOND, &error);

        if (status != LEND_E_ACCESS || strstr(error.message, scene->directory.path) == NULL) {
            (void)fprintf(stderr, "%s: %s\n", lend_status_name(status), error.message);
            wrong = 5;
        }
    } else {
        wrong = pull_and_push(scene, agent, peer);
    }
    acts_turn_to(&scene->reader, 3);
    /* No destroy: the owner sees this one die. */
    return wrong;
}

static int owner_main(void *context)
{
    return act_in_namespaces(context, own);
}

static int reader_main(void *context)
{
    struct scene *scene = context;

    if (scene->other_user && (setgid(OTHER_USER) != 0 || setuid(OTHER_USER) != 0))
        return refuse(scene, "setuid");
    return act_in_namespaces(scene, read_and_write);
}

static void play(struct scene scene)
{
    struct scene *shared = acts_shared(sizeof *shared);

    *shared = scene;
    shared->directory = acts_directory_make();
    /* A folder that both may enter; the reader's own socket goes there, too. */
    assert_int_equal(chmod(shared->directory.path, scene.other_user ? 01777 : 0700), 0);

    pid_t owner = acts_spawn(owner_main, shared), reader = acts_spawn(reader_main, shared);
    int reader_status = acts_reap(reader);
    if (reader_status != 0)
        acts_turn_to(&shared->reader, 3);
    int owner_status = acts_reap(owner);

    acts_directory_empty(&shared->directory);
    assert_true(acts_directory_remove(&shared->directory));
    if (owner_status == SKIPPED || reader_status == SKIPPED) {
        print_message("skipped: %s\n", shared->reason);
        acts_unshare(shared, sizeof *shared);
        skip();
    }
    acts_unshare(shared, sizeof *shared);
    assert_int_equal(reader_status, 0);
    assert_int_equal(owner_status, 0);
}

static void test_two_pid_namespaces(void **state)
{
    (void)state;
    play((struct scene){.namespaces = CLONE_NEWPID});
}

static void test_two_network_namespaces(void **state)
{
    (void)state;
    play((struct scene){.namespaces = CLONE_NEWNET});
}

static void test_two_user_namespaces(void **state)
{
    (void)state;
    play((struct scene){.namespaces = CLONE_NEWUSER});
}

static void test_every_namespace_at_once(void **state)
{
    (void)state;
    play((struct scene){.namespaces = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                                      CLONE_NEWUTS | CLONE_NEWNS});
}

static void test_two_users(void **state)
{
    (void)state;
    play((struct scene){.other_user = true, .mode = 0666});
}

static void test_another_user_without_the_right_is_told_so(void **state)
{
    (void)state;
    play((struct scene){.other_user = true, .mode = 0600, .expects_access = true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_pid_namespaces),
        cmocka_unit_test(test_two_network_namespaces),
        cmocka_unit_test(test_two_user_namespaces),
        cmocka_unit_test(test_every_namespace_at_once),
        cmocka_unit_test(test_two_users),
        cmocka_unit_test(test_another_user_without_the_right_is_told_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
