/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a GPU copies by itself out of a peer's allocation that it has opened, once and for all
 * reads; whoever withdraws that gets it back closed, or hears who has it; and nothing is closed
 * under a copy. And who finds nothing to open because its owner has died hears that. Method: two
 * agents of one process under manual progress, and the fake driver (tests/fake/cuda.c), which is
 * told to let a process open its own; and a reader, or an owner, in a process of its own, which is
 * stopped and killed. Nothing here shows what a GPU does.
 */
#include "chunks_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

static void make_plain(struct memory *memory)
{
    make_memory(memory, true);
}

static struct world make_open_world(void)
{
    owner_flags = LEND_REGION_SHARE_DEVICE;
    struct world world = make_world("local", true, true);
    owner_flags = 0;
    fake_cuda_open_own(1);
    return world;
}

static void begin_read(struct world *world, const char *paths)
{
    struct lend_error error = {0};

    fill(&world->owner.memory, 1);
    fill(&world->reader.memory, 2);
    grant(world, LEND_ACCESS_READ);
    connect_both(world);
    check(prepare(world, LEND_READ, paths, &error), &error);
    check(post(world, &error), &error);
}

static void hold_under_way(struct world *world)
{
    fake_cuda_hold(1);
    for (int i = 0; i < STEPS_MAX && fake_cuda_under_way() == 0; i++)
        step(world);
    assert_true(fake_cuda_under_way() > 0);
}

static enum lend_status withdraw(struct world *world, struct lend_error *error)
{
    return withdraw_region(world, world->owner.region, error);
}

static void test_a_read_is_copied_from_gpu_to_gpu(void **state)
{
    struct world world = make_open_world();
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    begin_read(&world, "local/cuda");
    int pinned = fake_cuda_calls("cuMemHostAlloc"); /* for the tables of kernels */
    for (int turn = 0; turn < 3; turn++) {
        check(finish(&world, &record, &error), &error);
        expect_moved(&world, LEND_READ);
        assert_string_equal(record.path, "local/cuda");
        assert_true(record.bytes == BYTES);
        fill(&world.reader.memory, 2);
        check(post(&world, &error), &error);
    }
    check(finish(&world, &record, &error), &error);
    assert_int_equal(fake_cuda_calls("cuIpcOpenMemHandle"), 1);
    assert_true(fake_cuda_calls("cuMemcpyBatchAsync") + fake_cuda_calls("cuMemcpyDtoDAsync") > 0);
    assert_int_equal(fake_cuda_calls("cuMemcpyDtoHAsync"), 0);
    assert_int_equal(fake_cuda_calls("cuMemHostAlloc"), pinned);
    check(withdraw(&world, &error), &error);
    assert_int_equal(fake_cuda_opened(), 0);
    end_world(&world);
}

/* Copies end where one of ours does, and a flight goes to so many of them. */
static void test_a_read_goes_to_many_allocations_side_by_side(void **state)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    has_mosaics = true; /* the reader */
    make_owner_memory = make_plain;
    struct world world = make_open_world();
    begin_read(&world, "local/cuda");
    check(finish(&world, &record, &error), &error);
    expect_moved(&world, LEND_READ);
    assert_string_equal(record.path, "local/cuda");
    end_world(&world);
    has_mosaics = false;
    make_owner_memory = NULL;
}

static void test_a_thousand_pieces_are_few_calls(void **state)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    for (int driver = 0; driver < 3; driver++) { /* one with our kernel, without, and an old one */
        has_no_kernel = driver == 1;
        has_old_driver = driver == 2;
        struct world world = make_open_world();
        owner_flags = LEND_REGION_SHARE_DEVICE;
        begin_pieces(&world, NULL);
        owner_flags = 0;
        check(finish(&world, &record, &error), &error);
        assert_string_equal(record.path, "local/cuda");
        expect_pieces(&world);
        assert_int_equal(fake_cuda_calls("cuLaunchKernel"), driver == 0);
        assert_int_equal(fake_cuda_calls("cuMemcpyBatchAsync"), driver == 1 ? 4 : 0);
        assert_int_equal(fake_cuda_calls("cuMemcpyDtoDAsync"), driver == 2 ? PIECES : 0);
        assert_int_equal(fake_cuda_calls("cuEventRecord"), driver == 0 ? 1 : 4);
        has_no_kernel = has_old_driver = false;
        end_world(&world);
    }
}

static void test_the_path_is_told_and_taken_without_being_named(void **state)
{
    struct world world = make_open_world();
    struct lend_transfer_record record;
    struct lend_error error = {0};
    char text[2048];
    size_t count = 0;

    (void)state;
    begin_read(&world, NULL);
    check(finish(&world, &record, &error), &error);
    assert_string_equal(record.path, "local/cuda");
    check(lend_explain_text(world.peer, world.reader.region, world.region_id, LEND_READ, text,
                            sizeof text, &count, &error),
          &error);
    assert_non_null(strstr(text, "* local/cuda\n"));
    assert_non_null(strstr(text, "  local/staged\n"));
    check(lend_explain_text(world.peer, world.reader.region, world.region_id, LEND_WRITE, text,
                            sizeof text, &count, &error),
          &error);
    assert_non_null(strstr(text, "* local/staged\n"));
    end_world(&world);
}

static void expect_end(struct world *world, enum lend_status status, const char *path)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};

    assert_int_equal(finish(world, &record, &error), status);
    assert_string_equal(record.path, path);
}

static void test_what_ends_before_its_way_is_chosen_has_none(void **state)
{
    struct world world = make_open_world();
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_error error = {0};

    (void)state;
    grant(&world, LEND_ACCESS_READ);
    check(prepare(&world, LEND_READ, NULL, &error), &error);
    check(post(&world, &error), &error);
    check(lend_transfer_describe(world.transfer, &record, &error), &error);
    assert_string_equal(record.path, "none"); /* there is no connection yet */
    assert_int_equal(lend_transfer_cancel(world.transfer, 0), LEND_E_CANCELED);
    expect_end(&world, LEND_E_CANCELED, "none");
    check(post(&world, &error), &error);
    expect_end(&world, LEND_OK, "local/cuda");
    end_world(&world);

    world = make_open_world();
    grant(&world, LEND_ACCESS_READ);
    check(prepare(&world, LEND_READ, NULL, &error), &error);
    check(post(&world, &error), &error);
    check(withdraw_region(&world, world.reader.region, &error), &error);
    expect_end(&world, LEND_E_REVOKED, "none");
    end_world(&world);
}

static void test_without_consent_it_is_staged(void **state)
{
    struct world world = make_world("local", true, true);
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    begin_read(&world, NULL);
    check(finish(&world, &record, &error), &error);
    assert_string_equal(record.path, "local/staged");
    assert_int_equal(prepare(&world, LEND_READ, "local/cuda", &error), LEND_E_NO_PATH);
    assert_non_null(strstr(error.message, "LEND_REGION_SHARE_DEVICE"));
    assert_int_equal(fake_cuda_calls("cuIpcGetMemHandle"), 0);
    end_world(&world);
}

static void test_memory_that_nobody_can_open_is_refused_with_the_remedy(void **state)
{
    struct world world = make_open_world();
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;
    struct memory mosaic = {0};
    struct lend_error error = {0};

    (void)state;
    make_mosaic(&mosaic);
    check(describe(&mosaic, &desc, &error), &error);
    desc.flags = LEND_REGION_SHARE_DEVICE;
    assert_int_equal(lend_region_register(world.owner.agent, &desc, 1, &region, NULL, &error),
                     LEND_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "(byte 0) is of a mapped chunk"));
    assert_non_null(strstr(error.message, "(handle types 0x0)"));
    assert_non_null(strstr(error.message, "expandable_segments"));
    check(lend_memory_system(world.context, 1, &desc.memory, &error), &error);
    assert_int_equal(lend_region_register(world.owner.agent, &desc, 1, &region, NULL, &error),
                     LEND_E_INVALID);
    end_world(&world);
    free_memory(&mosaic);
}

static void test_withdraw_is_busy_by_name_until_the_copy_is_over_and_the_reader_has_closed(
    void **state)
{
    struct world world = make_open_world();
    struct lend_transfer_record record;
    struct lend_error error = {0};
    char who[32];

    (void)state;
    begin_read(&world, "local/cuda");
    hold_under_way(&world);
    (void)snprintf(who, sizeof who, "process %d of user", (int)getpid());
    assert_int_equal(withdraw(&world, &error), LEND_E_BUSY);
    assert_non_null(strstr(error.message, who));
    assert_non_null(strstr(error.message, "has its GPU memory open, and has not let go"));
    assert_int_equal(fake_cuda_opened(), 1);
    fake_cuda_hold(0);
    assert_int_equal(finish(&world, &record, &error), LEND_E_REVOKED);
    check(withdraw(&world, &error), &error);
    assert_int_equal(fake_cuda_opened(), 0);
    end_world(&world);
}

static void test_a_lease_that_ends_under_the_copy_makes_no_success(void **state)
{
    struct world world = make_open_world();
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    begin_read(&world, "local/cuda");
    hold_under_way(&world);
    check(lend_lease_revoke(world.lease, &error), &error);
    memset(world.owner.memory.bytes, 0x5A, BYTES); /* the owner may */
    fake_cuda_hold(0);
    assert_int_equal(finish(&world, &record, &error), LEND_E_REVOKED);
    assert_true(record.blocks == 0);
    end_world(&world);
}

static void test_a_cancel_is_pending_until_nothing_lands(void **state)
{
    struct world world = make_open_world();
    uint8_t *then = malloc(BYTES);
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    assert_non_null(then);
    begin_read(&world, "local/cuda");
    hold_under_way(&world);
    assert_int_equal(lend_transfer_cancel(world.transfer, 0), LEND_PENDING);
    fake_cuda_hold(0);
    assert_int_equal(finish(&world, &record, &error), LEND_E_CANCELED);
    assert_int_equal(fake_cuda_under_way(), 0);
    memcpy(then, world.reader.memory.bytes, BYTES);
    for (int i = 0; i < 1000; i++)
        step(&world);
    assert_memory_equal(world.reader.memory.bytes, then, BYTES);
    /* The connection and what was opened go on. */
    check(post(&world, &error), &error);
    check(finish(&world, &record, &error), &error);
    expect_moved(&world, LEND_READ);
    assert_int_equal(fake_cuda_calls("cuIpcOpenMemHandle"), 1);
    free(then);
    end_world(&world);
}

static void test_an_agent_that_ends_closes_what_it_has_open(void **state)
{
    struct world world = make_open_world();
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    begin_read(&world, "local/cuda");
    check(finish(&world, &record, &error), &error);
    assert_int_equal(fake_cuda_opened(), 1);
    lend_ticket_release(LEND_TAKE(world.ticket));
    assert_int_equal(lend_transfer_release(LEND_TAKE(world.transfer)), LEND_OK);
    lend_peer_forget(LEND_TAKE(world.peer));
    lend_agent_destroy(LEND_TAKE(world.reader.agent));
    assert_int_equal(fake_cuda_opened(), 0);
    check(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, MINUTE, &error), &error);
    end_world(&world);
}

static void test_memory_of_ours_that_goes_is_no_success(void **state)
{
    struct world world = make_open_world();
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    begin_read(&world, "local/cuda");
    hold_under_way(&world);
    fake_cuda_renew(world.reader.memory.address);
    fake_cuda_hold(0);
    assert_int_equal(finish(&world, &record, &error), LEND_E_STALE);
    assert_true(record.blocks == 0);
    end_world(&world);
}

static void test_what_was_freed_is_stale_to_a_reader_that_asks_nobody(void **state)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};
    uint64_t usual = lend_freed_look_ns;

    (void)state;
    lend_freed_look_ns = 1; /* not a second */
    struct world world = make_open_world();
    begin_read(&world, "local/cuda,local/staged");
    check(finish(&world, &record, &error), &error);
    assert_int_equal(fake_cuda_opened(), 1);
    fake_cuda_renew(world.owner.memory.address);
    for (int i = 0; i < STEPS_MAX && fake_cuda_opened() > 0; i++)
        step(&world);
    assert_int_equal(fake_cuda_opened(), 0); /* its owner has asked for it */
    check(post(&world, &error), &error);
    assert_int_equal(finish(&world, &record, &error), LEND_E_STALE);
    assert_true(record.blocks == 0);
    lend_freed_look_ns = usual;
    end_world(&world);
}

static void test_suspend_takes_it_back_and_resume_lends_it_anew(void **state)
{
    struct world world = make_open_world();
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    begin_read(&world, "local/cuda");
    check(finish(&world, &record, &error), &error);
    for (int turn = 1; turn < 3; turn++) {
        enum lend_status status = LEND_E_BUSY;

        for (int i = 0; i < STEPS_MAX && status == LEND_E_BUSY; i++) {
            status = lend_region_suspend(world.owner.region, LEND_WITHDRAW_FORCE, 0, &error);
            step(&world);
        }
        check(status, &error);
        assert_int_equal(fake_cuda_opened(), 0);
        fake_cuda_renew(
            world.owner.memory.address); /* an engine that slept has other memory there */
        check(lend_region_resume(world.owner.region, NULL, -1, 0, &error), &error);
        assert_int_equal(lend_transfer_release(world.transfer), LEND_OK);
        lend_ticket_release(world.ticket);
        lend_lease_release(world.lease);
        lend_peer_forget(world.peer);
        meet(&world);
        begin_read(&world, "local/cuda");
        check(finish(&world, &record, &error), &error);
        expect_moved(&world, LEND_READ);
        assert_string_equal(record.path, "local/cuda");
        assert_int_equal(fake_cuda_calls("cuIpcOpenMemHandle"), 1 + turn);
    }
    end_world(&world);
}

static void test_what_cannot_be_opened_is_staged_or_refused(void **state)
{
    struct lend_transfer_record record;
    struct lend_error error = {0};

    (void)state;
    for (int is_named = 0; is_named < 2; is_named++)
        for (int lies = 0; lies < 2; lies++) {
            struct world world = make_open_world();

            if (lies) /* the driver says that it is shorter than the peer does */
                fake_cuda_fail("cuMemGetAddressRange", LEND_CUDA_ERROR_NOT_FOUND);
            else
                fake_cuda_fail("cuIpcOpenMemHandle", LEND_CUDA_ERROR_INVALID_CONTEXT);
            begin_read(&world, is_named ? "local/cuda" : NULL);
            enum lend_status status = finish(&world, &record, &error);
            assert_int_equal(status, is_named ? LEND_E_NO_PATH : LEND_OK);
            if (is_named)
                assert_non_null(strstr(error.message, lies ? "NOT_FOUND" : "cuIpcOpenMemHandle"));
            else
                assert_string_equal(record.path, "local/staged");
            assert_int_equal(fake_cuda_opened(), 0);
            check(withdraw(&world, &error), &error);
            fake_cuda_fail("cuMemGetAddressRange", 0);
            end_world(&world);
        }
}

static void test_a_gpu_that_hangs_keeps_what_is_open(void **state)
{
    struct world world = make_open_world();
    struct lend_error error = {0};

    (void)state;
    begin_read(&world, "local/cuda");
    hold_under_way(&world);
    assert_int_equal(lend_transfer_cancel(world.transfer, 0), LEND_PENDING);
    for (int i = 0; i < STEPS_MAX && lend_transfer_test(world.transfer) == LEND_PENDING &&
                    strstr(error.message, "connected no more") == NULL;
         i++) {
        step(&world);
        assert_int_equal(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, 0, &error),
                         LEND_E_BUSY);
    }
    /* The reader has given its connection up, and not what it has open: it cannot. */
    assert_int_equal(lend_transfer_test(world.transfer), LEND_PENDING);
    assert_non_null(strstr(error.message, "which is connected no more"));
    assert_int_equal(fake_cuda_opened(), 1);
    fake_cuda_drop();
    fake_cuda_hold(0);
    world.transfer = NULL; /* it never ends */
    abandon_world(&world);
}

/* --- a reader that is another process --- */

static void send_all(int fd, const void *bytes, size_t count)
{
    if (write(fd, bytes, count) != (ssize_t)count)
        abort();
}

static void receive_all(int fd, void *bytes, size_t count)
{
    for (size_t at = 0; at < count;) {
        ssize_t got = read(fd, (uint8_t *)bytes + at, count - at);

        if (got <= 0)
            _exit(3);
        at += (size_t)got;
    }
}

struct letter {
    uint64_t region_id;
    size_t metadata_count;
    size_t ticket_count;
    uint8_t metadata[8192];
    uint8_t ticket[LEND_TICKET_BYTES_MAX];
};

/* What the owner lends, for the reader. */
static void write_letter(struct world *world, struct letter *letter)
{
    struct lend_block_set set = {.regions = &world->owner.region, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_error error = {0};

    desc.sets = &set;
    desc.set_count = 1;
    desc.access = LEND_ACCESS_READ;
    desc.time_to_live_ns = MINUTE;
    check(lend_lease_grant(world->owner.agent, &desc, &world->lease, &error), &error);
    check(lend_ticket_export(world->lease, letter->ticket, sizeof letter->ticket,
                             &letter->ticket_count, &error),
          &error);
    check(lend_metadata_export(world->owner.agent, letter->metadata, sizeof letter->metadata,
                               &letter->metadata_count, &error),
          &error);
    letter->region_id = lend_region_id(world->owner.region);
}

static void read_letter(struct world *world, int in)
{
    struct lend_error error = {0};
    struct letter letter;

    receive_all(in, &letter, sizeof letter);
    check(lend_peer_import(world->reader.agent, letter.metadata, letter.metadata_count,
                           &world->peer, &error),
          &error);
    check(
        lend_ticket_import(world->peer, letter.ticket, letter.ticket_count, &world->ticket, &error),
        &error);
    world->region_id = letter.region_id;
}

/* Reads once, reads again until the copy is under way, says so, and goes on for ever. */
static void run_reader(struct world *world, int in, int out)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};
    struct lend_error error = {0};

    make_side(world, &world->reader, "reader", true);
    read_letter(world, in);
    check(prepare(world, LEND_READ, "local/cuda", &error) == LEND_E_NO_PATH ? LEND_OK
                                                                            : LEND_E_STALE,
          &error); /* of which only a connection can tell */
    check(lend_peer_connect(world->peer, MINUTE, &error), &error);
    check(prepare(world, LEND_READ, "local/cuda", &error), &error);
    check(post(world, &error), &error);
    while (lend_transfer_test(world->transfer) == LEND_PENDING)
        (void)lend_agent_progress(world->reader.agent, 1000000, NULL);
    check(lend_transfer_describe(world->transfer, &record, &error), &error);
    assert_int_equal(record.status, LEND_OK);
    assert_string_equal(record.path, "local/cuda");
    expect_moved(world, LEND_READ);
    check(post(world, &error), &error);
    fake_cuda_hold(1);
    while (fake_cuda_under_way() == 0)
        (void)lend_agent_progress(world->reader.agent, 0, NULL);
    send_all(out, "!", 1);
    for (;;)
        (void)lend_agent_progress(world->reader.agent, 1000000, NULL);
}

/* Until a copy of the reader's is under way. */
static void await_sign(struct world *world, pid_t reader, int from)
{
    char sign;

    assert_int_equal(fcntl(from, F_SETFL, O_NONBLOCK), 0);
    while (read(from, &sign, 1) != 1) {
        assert_int_equal(waitpid(reader, NULL, WNOHANG), 0); /* it lives */
        (void)lend_agent_progress(world->owner.agent, 1000000, NULL);
    }
}

/* Who was killed leaves its socket behind. */
static void empty(const char *directory)
{
    DIR *all = opendir(directory);

    assert_non_null(all);
    for (const struct dirent *entry; (entry = readdir(all)) != NULL;)
        (void)unlinkat(dirfd(all), entry->d_name, 0);
    (void)closedir(all);
}

/* What both processes have, before they part. */
static void open_stage(struct world *world)
{
    world->transport = "local";
    fake_cuda_reset();
    lend_cuda = &fake_cuda_ops;
    assert_int_equal(cuInit(0), 0);
    assert_int_equal(cuDevicePrimaryCtxRetain(&world->context, 0), 0);
    assert_int_equal(cuCtxSetCurrent(world->context), 0);
    (void)snprintf(world->directory, sizeof world->directory, "/tmp/lend-staged-XXXXXX");
    assert_non_null(mkdtemp(world->directory));
}

static void close_stage(struct world *world)
{
    empty(world->directory);
    assert_int_equal(rmdir(world->directory), 0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    assert_int_equal(cuDevicePrimaryCtxRelease_v2(0), 0);
    assert_int_equal(fake_cuda_held(), 0);
    assert_int_equal(fake_cuda_kept(), 0);
    assert_int_equal(fake_cuda_chunks(), 0);
    lend_cuda = NULL;
}

/* With an owner of such memory. */
static void stop_and_kill_a_reader(void (*make)(struct memory *memory))
{
    struct world world = {0};
    struct lend_error error = {0};
    struct letter letter = {0};
    int there[2], back[2];
    char name[48];

    open_stage(&world);
    make(&world.owner.memory); /* before they part; chunks and pools are opened as others' are */
    fill(&world.owner.memory, 1);
    store(&world.owner.memory);
    assert_int_equal(pipe(there), 0);
    assert_int_equal(pipe(back), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        run_reader(&world, there[0], back[1]);
        _exit(0);
    }
    owner_flags = LEND_REGION_SHARE_DEVICE;
    make_side(&world, &world.owner, "owner", true);
    owner_flags = 0;
    write_letter(&world, &letter);
    send_all(there[1], &letter, sizeof letter);
    await_sign(&world, child, back[0]);

    assert_int_equal(kill(child, SIGSTOP), 0);
    (void)snprintf(name, sizeof name, "process %d of user", (int)child);
    assert_int_equal(
        lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, MINUTE / 600, &error),
        LEND_E_BUSY);
    assert_non_null(strstr(error.message, name));
    assert_non_null(strstr(error.message, "has its GPU memory open"));

    assert_int_equal(kill(child, SIGKILL), 0);
    check(lend_region_withdraw(world.owner.region, LEND_WITHDRAW_FORCE, MINUTE, &error), &error);
    assert_int_equal(waitpid(child, NULL, 0), child);
    for (int i = 0; i < 2; i++) {
        (void)close(there[i]);
        (void)close(back[i]);
    }
    lend_lease_release(world.lease);
    end_side(&world.owner);
    close_stage(&world);
}

static void test_a_reader_that_is_stopped_is_named_and_one_that_died_is_noticed(void **state)
{
    (void)state;
    stop_and_kill_a_reader(make_plain);
}

static void test_the_same_of_a_reader_of_chunks(void **state)
{
    (void)state;
    chunk_types = LEND_CUDA_HANDLE_FD;
    stop_and_kill_a_reader(make_chunks);
    chunk_types = LEND_CUDA_HANDLE_FABRIC;
    stop_and_kill_a_reader(make_chunks);
}

static void test_the_same_of_a_reader_of_a_pool(void **state)
{
    (void)state;
    chunk_types = LEND_CUDA_HANDLE_FD;
    stop_and_kill_a_reader(make_pooled);
}

static void test_chunks_are_opened_across_name_spaces_of_processes(void **state)
{
    int before = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_true(before >= 0);
    if (unshare(CLONE_NEWPID) != 0) {
        print_message("no PID name space can be made here\n");
        assert_int_equal(close(before), 0);
        skip();
    }
    chunk_types = LEND_CUDA_HANDLE_FD;
    stop_and_kill_a_reader(make_chunks);
    /* In a name space whose first process has ended no other begins, nor a sanitizer's thread. */
    assert_int_equal(setns(before, CLONE_NEWPID), 0);
    assert_int_equal(close(before), 0);
}

/* --- an owner that is another process --- */

static void run_owner(struct world *world, int out)
{
    struct letter letter = {0};

    owner_flags = LEND_REGION_SHARE_DEVICE;
    make_side(world, &world->owner, "owner", true);
    write_letter(world, &letter);
    send_all(out, &letter, sizeof letter);
    for (;;)
        (void)lend_agent_progress(world->owner.agent, 1000000, NULL);
}

static enum lend_status finish_alone(struct world *world, struct lend_error *error)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};

    while (lend_transfer_test(world->transfer) == LEND_PENDING)
        (void)lend_agent_progress(world->reader.agent, 1000000, NULL);
    check(lend_transfer_describe(world->transfer, &record, error), error);
    assert_string_equal(record.path, "none"); /* it found none */
    return (enum lend_status)record.status;
}

/* A read that finds nothing to open, of an owner that is stopped, and then gets that signal. */
static enum lend_status read_of_the_lost(int signal, struct lend_error *error)
{
    struct world world = {0};
    int there[2], state = 0;

    open_stage(&world);
    assert_int_equal(pipe(there), 0);
    pid_t owner = fork();
    assert_true(owner >= 0);
    if (owner == 0)
        run_owner(&world, there[1]);
    make_side(&world, &world.reader, "reader", true);
    read_letter(&world, there[0]);
    check(lend_peer_connect(world.peer, MINUTE, error), error);
    check(prepare(&world, LEND_READ, "local/cuda", error), error);
    assert_int_equal(kill(owner, SIGSTOP), 0);
    assert_int_equal(waitpid(owner, &state, WUNTRACED), owner);
    assert_true(WIFSTOPPED(state));
    fake_cuda_fail("cuIpcOpenMemHandle", LEND_CUDA_ERROR_INVALID_VALUE);
    check(post(&world, error), error);
    while (fake_cuda_calls("cuIpcOpenMemHandle") == 0)
        (void)lend_agent_progress(world.reader.agent, 1000000, NULL);
    for (int i = 0; i < 100; i++) { /* it is not known what it means */
        (void)lend_agent_progress(world.reader.agent, 0, NULL);
        assert_int_equal(lend_transfer_test(world.transfer), LEND_PENDING);
    }
    assert_int_equal(kill(owner, signal), 0);
    enum lend_status status = finish_alone(&world, error);
    assert_int_equal(kill(owner, SIGKILL), 0);
    assert_int_equal(waitpid(owner, NULL, 0), owner);
    check(lend_transfer_release(world.transfer), error);
    lend_ticket_release(world.ticket);
    lend_peer_forget(world.peer);
    end_side(&world.reader);
    (void)close(there[0]);
    (void)close(there[1]);
    close_stage(&world);
    return status;
}

static void test_who_finds_nothing_of_a_dead_owner_hears_that_it_died(void **state)
{
    struct lend_error error = {0};

    (void)state;
    assert_int_equal(read_of_the_lost(SIGKILL, &error), LEND_E_PEER_DEAD);
    assert_non_null(strstr(error.message, "died"));
    assert_int_equal(read_of_the_lost(SIGCONT, &error), LEND_E_NO_PATH);
    assert_non_null(strstr(error.message, "cuIpcOpenMemHandle"));
    assert_int_equal(error.device_code, LEND_CUDA_ERROR_INVALID_VALUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_read_is_copied_from_gpu_to_gpu),
        cmocka_unit_test(test_a_read_goes_to_many_allocations_side_by_side),
        cmocka_unit_test(test_a_thousand_pieces_are_few_calls),
        cmocka_unit_test(test_the_path_is_told_and_taken_without_being_named),
        cmocka_unit_test(test_what_ends_before_its_way_is_chosen_has_none),
        cmocka_unit_test(test_without_consent_it_is_staged),
        cmocka_unit_test(test_memory_that_nobody_can_open_is_refused_with_the_remedy),
        cmocka_unit_test(
            test_withdraw_is_busy_by_name_until_the_copy_is_over_and_the_reader_has_closed),
        cmocka_unit_test(test_a_lease_that_ends_under_the_copy_makes_no_success),
        cmocka_unit_test(test_a_cancel_is_pending_until_nothing_lands),
        cmocka_unit_test(test_an_agent_that_ends_closes_what_it_has_open),
        cmocka_unit_test(test_memory_of_ours_that_goes_is_no_success),
        cmocka_unit_test(test_what_was_freed_is_stale_to_a_reader_that_asks_nobody),
        cmocka_unit_test(test_suspend_takes_it_back_and_resume_lends_it_anew),
        cmocka_unit_test(test_what_cannot_be_opened_is_staged_or_refused),
        cmocka_unit_test(test_a_gpu_that_hangs_keeps_what_is_open),
        cmocka_unit_test(test_a_reader_that_is_stopped_is_named_and_one_that_died_is_noticed),
        cmocka_unit_test(test_the_same_of_a_reader_of_chunks),
        cmocka_unit_test(test_the_same_of_a_reader_of_a_pool),
        cmocka_unit_test(test_chunks_are_opened_across_name_spaces_of_processes),
        cmocka_unit_test(test_who_finds_nothing_of_a_dead_owner_hears_that_it_died),
    };

    if (is_without_pidfds())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
