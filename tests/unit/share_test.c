/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a file is shared exactly while all regions in it are lent, its owner gets memory back only
 * when nobody maps it or its pages were punched out, and no call leaves a descriptor behind.
 * Method: an agent over a fake transport, which counts what it is told and lets the test say who
 * holds what; real memfds; system calls that are counted, or answer what the test says.
 */
#include "base/sys.h"
#include "double.h"
#include "share_stub.h"
#include "wire/metadata.h"

#include <lend/lend.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { PAGES = 8 };

#define SECONDS UINT64_C(1000000000)

/* --- the system, counted --- */

static struct lend_sys_ops counting;
static int lists_read; /* of mappings */
static int ptrace_calls;
static int ptrace_result;
static int punch_result; /* 0: it is done */

static int open_counted(const char *path)
{
    lists_read += strstr(path, "maps") != NULL;
    return lend_sys_real.open_read(path);
}

static int allow_ptrace(void)
{
    ptrace_calls++;
    return ptrace_result;
}

static int punch(int fd, uint64_t offset, uint64_t bytes)
{
    return punch_result != 0 ? punch_result : lend_sys_real.punch(fd, offset, bytes);
}

/* --- what the tests stand on --- */

static size_t page;
static struct lend_agent *agent;
static char last_log[256];

static void keep_log(void *context, int32_t level, const char *text)
{
    (void)context;
    if (level == LEND_LOG_WARNING)
        (void)snprintf(last_log, sizeof last_log, "%s", text);
}

static enum lend_status create(uint32_t flags, struct lend_error *error)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    config.name = "owner";
    config.flags = LEND_AGENT_MANUAL_PROGRESS | flags;
    config.on_log = keep_log;
    return lend_agent_create(&config, &agent, error);
}

static int setup(void **state)
{
    (void)state;
    page = (size_t)sysconf(_SC_PAGESIZE);
    memset(&fake, 0, sizeof fake);
    last_log[0] = '\0';
    lists_read = ptrace_calls = ptrace_result = punch_result = 0;
    double_install(-1);
    counting = *lend_sys;
    counting.allow_ptrace = allow_ptrace;
    counting.punch = punch;
    lend_sys = &counting;
    return create(0, NULL) == LEND_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    lend_agent_destroy(agent);
    agent = NULL;
    assert_true(fake.is_closed);
    (void)double_remove();
    return 0;
}

/* A memfd of PAGES pages, and a mapping of it. */
struct piece {
    int fd;
    char *memory;
};

static struct piece make_piece(int seals)
{
    struct piece piece = {.fd = memfd_create("lend-test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};

    assert_true(piece.fd >= 0);
    assert_int_equal(ftruncate(piece.fd, (off_t)(PAGES * page)), 0);
    piece.memory = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED, piece.fd, 0);
    assert_ptr_not_equal(piece.memory, MAP_FAILED);
    assert_int_equal(fcntl(piece.fd, F_ADD_SEALS, seals), 0);
    memset(piece.memory, 7, PAGES * page);
    return piece;
}

static void drop_piece(const struct piece *piece)
{
    assert_int_equal(munmap(piece->memory, PAGES * page), 0);
    assert_int_equal(close(piece->fd), 0);
}

static struct lend_region_desc describe(const struct piece *piece, size_t first, size_t count)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;

    assert_int_equal(
        lend_memory_system(piece->memory + first * page, count * page, &desc.memory, NULL),
        LEND_OK);
    desc.access = LEND_ACCESS_READ;
    desc.flags = LEND_REGION_SHARE_FILE;
    desc.share_fd = piece->fd;
    desc.share_offset_bytes = first * page;
    return desc;
}

static struct lend_region *add(const struct lend_region_desc *desc)
{
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    if (lend_region_register(agent, desc, 1, &region, NULL, &error) != LEND_OK)
        fail_msg("%s", error.message);
    return region;
}

static struct lend_region *lend_pages(const struct piece *piece, size_t first, size_t count)
{
    const struct lend_region_desc desc = describe(piece, first, count);

    return add(&desc);
}

static void expect_refused(const struct lend_region_desc *desc, enum lend_status status,
                           const char *why)
{
    int descriptors = double_live_descriptors(), shares = fake.shares;
    struct lend_region *region = NULL;
    struct lend_error error = {0};

    assert_int_equal(lend_region_register(agent, desc, 1, &region, NULL, &error), status);
    if (strstr(error.message, why) == NULL)
        fail_msg("'%s' is not in '%s'", why, error.message);
    assert_null(region);
    assert_int_equal(double_live_descriptors(), descriptors);
    assert_int_equal(fake.shares, shares);
}

/* Which file does metadata tell of, and where in it is the region? */
static uint32_t told_file(const struct lend_region *region, uint64_t *out_offset)
{
    static uint8_t bytes[65536];
    struct lend_metadata *metadata = NULL;
    uint32_t file = UINT32_MAX;
    size_t count = 0;

    assert_int_equal(lend_metadata_export(agent, bytes, sizeof bytes, &count, NULL), LEND_OK);
    assert_int_equal(lend_metadata_decode(bytes, count, &metadata, NULL), LEND_OK);
    for (uint32_t i = 0; i < metadata->region_count; i++) {
        if (metadata->regions[i].id != lend_region_id(region))
            continue;
        file = metadata->regions[i].file;
        if (out_offset != NULL)
            *out_offset = metadata->regions[i].file_offset_bytes;
    }
    lend_sys->release(metadata);
    return file;
}

static void expect_busy(enum lend_status status, const struct lend_error *error, const char *why)
{
    assert_int_equal(status, LEND_E_BUSY);
    if (strstr(error->message, why) == NULL)
        fail_msg("'%s' is not in '%s'", why, error->message);
}

static enum lend_status withdraw(struct lend_region *region, struct lend_error *error)
{
    return lend_region_withdraw(region, LEND_WITHDRAW_DRAIN, 0, error);
}

static enum lend_status suspend(struct lend_region *region, struct lend_error *error)
{
    return lend_region_suspend(region, LEND_WITHDRAW_DRAIN, 0, error);
}

static void give_back(struct lend_region *region)
{
    assert_int_equal(withdraw(region, NULL), LEND_OK);
    assert_int_equal(lend_region_deregister(region, NULL), LEND_OK);
}

static void tear(struct lend_region *region, const struct piece *piece)
{
    give_back(region);
    drop_piece(piece);
}

#define MAPPED "process 123 of user 0 has its file mapped, and has not let go"

/* --- registering --- */

static void test_shared_region_is_told_to_transports_and_in_metadata(void **state)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_region_desc part = LEND_REGION_DESC_INIT;
    struct lend_storage *storage = NULL;
    uint64_t offset = 0;

    (void)state;
    desc.length_bytes = PAGES * page;
    part.access = LEND_ACCESS_READ;
    assert_int_equal(lend_storage_create(&desc, &storage, NULL), LEND_OK);
    assert_int_equal(lend_storage_describe(storage, 100, page, &part, NULL), LEND_OK);
    struct lend_region *region = add(&part);
    assert_int_equal(fake.shares, 1);
    assert_non_null(fake.files[1]);
    assert_int_equal(fcntl(fake.files[1]->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_true(fake.files[1]->backing.is_fit_for_mapping);
    assert_false(fake.files[1]->consents_to_owner);
    assert_int_equal(told_file(region, &offset), 1);
    assert_int_equal(offset, 100);
    give_back(region);
    assert_null(fake.files[1]);
    lend_storage_destroy(storage);
}

static void test_regions_of_one_file_share_it_once(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    const struct piece other = make_piece(F_SEAL_SHRINK);
    const struct lend_region_desc descs[] = {describe(&piece, 0, 1), describe(&other, 0, 1),
                                             describe(&piece, 2, 1)};
    struct lend_region *regions[3];
    uint64_t offset = 0;

    (void)state;
    assert_int_equal(lend_region_register(agent, descs, 3, regions, NULL, NULL), LEND_OK);
    struct lend_region *later = lend_pages(&piece, 4, 2);
    assert_int_equal(fake.shares, 2);
    assert_int_equal(told_file(regions[0], NULL), 1);
    assert_int_equal(told_file(regions[1], NULL), 2);
    assert_int_equal(told_file(regions[2], NULL), 1);
    assert_int_equal(told_file(later, &offset), 1);
    assert_int_equal(offset, 4 * page);
    drop_piece(&piece);
    drop_piece(&other);
}

static void test_file_that_is_not_fit_is_told_with_its_reason(void **state)
{
    const struct piece piece = make_piece(F_SEAL_GROW);
    struct lend_region *region = lend_pages(&piece, 0, 1);

    (void)state;
    assert_int_equal(fake.shares, 1);
    assert_false(fake.files[1]->backing.is_fit_for_mapping);
    assert_non_null(strstr(fake.files[1]->backing.why_not, "could shrink"));
    assert_int_equal(told_file(region, NULL), 1); /* by which readers ask for the reason */
    tear(region, &piece);
}

static void test_call_that_is_refused_leaves_no_file(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region_desc descs[] = {describe(&piece, 0, 1), describe(&piece, 1, 1),
                                       describe(&piece, 2, 1)};
    struct lend_region *regions[3] = {NULL};
    int descriptors = double_live_descriptors();
    struct lend_error error = {0};
    int32_t results[3];

    (void)state;
    descs[0].name = descs[2].name = "twice"; /* told when the first two are in already */
    assert_int_equal(lend_region_register(agent, descs, 3, regions, results, &error),
                     LEND_E_INVALID);
    assert_int_equal(double_live_descriptors(), descriptors);
    descs[2].name = NULL;
    descs[1].share_offset_bytes += page;
    assert_int_equal(lend_region_register(agent, descs, 3, regions, results, &error),
                     LEND_E_MEMORY);
    assert_non_null(strstr(error.message, "region 1 "));
    assert_int_equal(results[0], LEND_OK);
    assert_int_equal(results[1], LEND_E_MEMORY);
    assert_int_equal(results[2], LEND_OK);
    assert_int_equal(double_live_descriptors(), descriptors);
    assert_int_equal(fake.shares, 0);
    assert_null(regions[0]);
    drop_piece(&piece);
}

static void test_what_cannot_be_shared_is_refused(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    const struct piece sealed = make_piece(F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE);
    struct lend_region_desc desc = describe(&piece, 0, 1);

    (void)state;
    desc.memory.kind = LEND_MEMORY_DEVICE;
    expect_refused(&desc, LEND_E_INVALID, "is for host memory");
    desc = describe(&piece, 0, 1);
    desc.share_fd = -1;
    expect_refused(&desc, LEND_E_INVALID, "is not open");
    desc = describe(&sealed, 0, 1);
    desc.flags |= LEND_REGION_PUNCH_OUT;
    expect_refused(&desc, LEND_E_UNSUPPORTED, "sealed against writers");
    struct lend_region *region = lend_pages(&piece, 0, 1);
    desc = describe(&piece, 1, 1);
    desc.flags |= LEND_REGION_PUNCH_OUT;
    expect_refused(&desc, LEND_E_INVALID, "others of this one have it not");
    drop_piece(&sealed);
    tear(region, &piece);
}

static void test_many_regions_of_one_storage_cost_one_look(void **state)
{
    enum { COUNT = 10000, BYTES = 64 };
    struct lend_storage_desc storage_desc = LEND_STORAGE_DESC_INIT;
    struct lend_region_desc *descs = calloc(COUNT, sizeof *descs);
    struct lend_region **regions = calloc(COUNT, sizeof(struct lend_region *));
    struct lend_storage *storage = NULL;

    (void)state;
    assert_non_null(descs);
    assert_non_null(regions);
    storage_desc.length_bytes = COUNT * BYTES;
    assert_int_equal(lend_storage_create(&storage_desc, &storage, NULL), LEND_OK);
    for (uint64_t i = 0; i < COUNT; i++) {
        lend_region_desc_init(&descs[i]);
        assert_int_equal(
            lend_storage_describe(storage, (COUNT - 1 - i) * BYTES, BYTES, &descs[i], NULL),
            LEND_OK);
    }
    counting.open_read = open_counted;
    assert_int_equal(lend_region_register(agent, descs, COUNT, regions, NULL, NULL), LEND_OK);
    assert_int_equal(lists_read, 2); /* is it mapped; is it of that file */
    assert_int_equal(fake.shares, 1);
    free(descs);
    free(regions);
    lend_agent_destroy(agent);
    agent = NULL;
    lend_storage_destroy(storage);
}

static void test_regions_with_a_hole_between_are_checked_by_themselves(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    const struct lend_region_desc descs[] = {describe(&piece, 0, 2), describe(&piece, 3, 2)};
    struct lend_region *regions[2];

    (void)state;
    assert_int_equal(munmap(piece.memory + 2 * page, page), 0);
    assert_int_equal(lend_region_register(agent, descs, 2, regions, NULL, NULL), LEND_OK);
    assert_int_equal(fake.shares, 1);
    assert_int_equal(told_file(regions[1], NULL), 1);
    drop_piece(&piece);
}

/* --- taking back --- */

static void test_withdrawing_waits_for_who_maps_the_file(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *region = lend_pages(&piece, 0, 1);
    struct lend_error error = {0};

    (void)state;
    fake.is_held[1] = true;
    expect_busy(withdraw(region, &error), &error, MAPPED);
    expect_busy(withdraw(region, &error), &error, MAPPED);
    expect_busy(lend_region_deregister(region, &error), &error, "withdraw it first");
    assert_int_equal(fake.unshares, 1);
    fake.looks_left = 3;
    assert_int_equal(lend_region_withdraw(region, LEND_WITHDRAW_DRAIN, 60 * SECONDS, &error),
                     LEND_OK);
    assert_int_equal(fake.looks_left, 0);
    assert_int_equal(fake.unshares, 1);
    assert_string_equal(last_log, "");
    tear(region, &piece);
}

static struct lend_lease *grant(struct lend_region *region)
{
    const struct lend_block_set set = {.regions = &region, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    struct lend_lease *lease = NULL;

    desc.sets = &set;
    desc.set_count = 1;
    desc.access = LEND_ACCESS_READ;
    desc.time_to_live_ns = 3600 * SECONDS;
    assert_int_equal(lend_lease_grant(agent, &desc, &lease, NULL), LEND_OK);
    return lease;
}

static void test_file_is_shared_while_leases_drain(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *region = lend_pages(&piece, 0, 1);
    struct lend_lease *lease = grant(region);
    struct lend_error error = {0};

    (void)state;
    expect_busy(withdraw(region, &error), &error, "lives");
    assert_int_equal(fake.unshares, 0);
    fake.is_held[1] = true;
    expect_busy(lend_region_withdraw(region, LEND_WITHDRAW_FORCE, 0, &error), &error, MAPPED);
    assert_int_equal(fake.unshares, 1);
    fake.is_held[1] = false;
    lend_lease_release(lease);
    tear(region, &piece);
}

static void test_file_is_shared_again_when_its_last_region_is_resumed(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *a = lend_pages(&piece, 0, 1), *b = lend_pages(&piece, 1, 1),
                       *c = lend_pages(&piece, 2, 1);

    (void)state;
    assert_int_equal(suspend(a, NULL), LEND_OK);
    assert_int_equal(suspend(b, NULL), LEND_OK);
    assert_int_equal(fake.unshares, 1);
    assert_int_equal(told_file(c, NULL), 0);
    assert_int_equal(lend_region_resume(a, NULL, piece.fd, 0, NULL), LEND_OK);
    assert_int_equal(fake.shares, 1);
    assert_int_equal(lend_region_resume(b, NULL, piece.fd, page, NULL), LEND_OK);
    assert_int_equal(fake.shares, 2);
    assert_int_equal(told_file(a, NULL), 1);
    assert_int_equal(told_file(c, NULL), 1);
    drop_piece(&piece);
}

static void test_file_of_suspended_regions_is_kept_alive_by_nobody(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *a = lend_pages(&piece, 0, 1), *b = lend_pages(&piece, 1, 1);
    int descriptors = double_live_descriptors();

    (void)state;
    assert_int_equal(suspend(a, NULL), LEND_OK);
    assert_int_equal(double_live_descriptors(), descriptors);
    assert_int_equal(suspend(b, NULL), LEND_OK);
    assert_int_equal(double_live_descriptors(), descriptors - 2);
    assert_int_equal(lend_region_resume(a, NULL, piece.fd, 0, NULL), LEND_OK);
    assert_int_equal(fake.shares, 1); /* b is not lent, and in the same file */
    assert_int_equal(lend_region_resume(b, NULL, piece.fd, page, NULL), LEND_OK);
    assert_int_equal(fake.shares, 2);
    assert_int_equal(double_live_descriptors(), descriptors);
    drop_piece(&piece);
}

static void test_region_is_resumed_in_another_file(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK), other = make_piece(F_SEAL_SHRINK);
    struct lend_region *region = lend_pages(&piece, 0, 1);
    const struct lend_region_desc there = describe(&other, 3, 1);
    struct lend_error error = {0};
    uint64_t offset = 0;

    (void)state;
    assert_int_equal(suspend(region, NULL), LEND_OK);
    assert_int_equal(lend_region_resume(region, &there.memory, piece.fd, 0, &error), LEND_E_MEMORY);
    assert_non_null(strstr(error.message, "another file"));
    assert_int_equal(lend_region_resume(region, &there.memory, -1, 0, &error), LEND_E_INVALID);
    assert_int_equal(lend_region_resume(region, &there.memory, other.fd, 3 * page, &error),
                     LEND_OK);
    assert_int_equal(told_file(region, &offset), 2);
    assert_int_equal(offset, 3 * page);
    assert_int_equal(fake.shares, 2);
    drop_piece(&piece);
    tear(region, &other);
}

static void test_file_is_spent_once_a_region_of_it_is_given_back(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *a = lend_pages(&piece, 0, 1), *b = lend_pages(&piece, 1, 1);

    (void)state;
    give_back(a);
    assert_int_equal(suspend(b, NULL), LEND_OK);
    a = lend_pages(&piece, 0, 1);
    assert_int_equal(lend_region_resume(b, NULL, piece.fd, page, NULL), LEND_OK);
    assert_int_equal(fake.shares, 1);
    assert_int_equal(told_file(a, NULL), 0);
    assert_int_equal(told_file(b, NULL), 0);
    give_back(a);
    give_back(b);
    a = lend_pages(&piece, 0, 1); /* nobody is in it any more: it begins anew */
    assert_int_equal(fake.shares, 2);
    assert_int_equal(told_file(a, NULL), 2);
    tear(a, &piece);
}

static void test_deregistering_asks_for_the_file_back(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *a = lend_pages(&piece, 0, 1), *b = lend_pages(&piece, 1, 1);
    struct lend_error error = {0};

    (void)state;
    fake.is_held[1] = true;
    expect_busy(lend_region_deregister(a, &error), &error, MAPPED ": withdraw it first");
    assert_int_equal(fake.unshares, 1);
    assert_int_equal(told_file(b, NULL), 0);
    fake.is_held[1] = false;
    assert_int_equal(lend_region_deregister(a, &error), LEND_OK);
    assert_int_equal(told_file(b, NULL), 0);
    assert_int_equal(fake.unshares, 1);
    tear(b, &piece);
}

/* --- punching --- */

static struct lend_region *lend_to_punch(const struct piece *piece, size_t first, size_t count)
{
    struct lend_region_desc desc = describe(piece, first, count);

    desc.flags |= LEND_REGION_PUNCH_OUT;
    return add(&desc);
}

static void test_pages_are_punched_out_at_the_deadline(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *region = lend_to_punch(&piece, 1, 2);
    struct lend_lease *lease = grant(region);
    struct lend_error error = {0};

    (void)state;
    assert_true(fake.files[1]->consents_to_owner);
    fake.is_held[1] = true;
    expect_busy(withdraw(region, &error), &error, "lives"); /* not while all else is not quiet */
    lend_lease_release(lease);
    assert_int_equal(lend_region_withdraw(region, LEND_WITHDRAW_FORCE, 0, &error), LEND_OK);
    assert_int_equal(piece.memory[page - 1], 7);
    for (size_t at = page; at < 3 * page; at++)
        assert_int_equal(piece.memory[at], 0);
    assert_int_equal(piece.memory[3 * page], 7);
    (void)lend_agent_progress(agent, 0, NULL);
    assert_non_null(strstr(last_log, "process 123 of user 0"));
    punch_result = -EIO; /* it is done once */
    tear(region, &piece);
}

static void test_who_lets_go_in_time_loses_no_pages(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *region = lend_to_punch(&piece, 0, 1);

    (void)state;
    fake.is_held[1] = true;
    fake.looks_left = 3;
    assert_int_equal(lend_region_withdraw(region, LEND_WITHDRAW_DRAIN, 60 * SECONDS, NULL),
                     LEND_OK);
    assert_int_equal(piece.memory[0], 7);
    tear(region, &piece);
}

static void test_punch_that_cannot_be_done_is_told_with_the_holder(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *region = lend_to_punch(&piece, 0, 2), *part = lend_to_punch(&piece, 1, 1);
    struct lend_error error = {0};

    (void)state;
    fake.is_held[1] = true;
    expect_busy(withdraw(region, &error), &error, MAPPED);
    assert_non_null(strstr(error.message, "its pages are also of region"));
    punch_result = -EIO;
    expect_busy(withdraw(part, &error), &error, MAPPED); /* its host is withdrawn */
    assert_non_null(strstr(error.message, "cannot be punched out: Input/output error"));
    assert_int_equal(piece.memory[0], 7);
    punch_result = 0;
    assert_int_equal(withdraw(part, &error), LEND_OK);
    assert_int_equal(withdraw(region, &error), LEND_OK);
    assert_int_equal(piece.memory[0], 0);
    drop_piece(&piece);
}

static void test_who_was_late_once_is_waited_for_in_the_next_life(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *region = lend_to_punch(&piece, 0, 1);
    struct lend_error error = {0};

    (void)state;
    fake.is_held[1] = true;
    assert_int_equal(suspend(region, &error), LEND_OK);
    assert_int_equal(lend_region_resume(region, NULL, piece.fd, 0, &error), LEND_OK);
    assert_int_equal(told_file(region, NULL), 2);
    punch_result = -EIO;
    expect_busy(suspend(region, &error), &error, MAPPED);
    assert_int_equal(fake.unshares, 2);
    fake.is_held[1] = false;
    assert_int_equal(suspend(region, &error), LEND_OK);
    tear(region, &piece);
}

/* --- the rest --- */

static void test_agent_ends_while_files_are_mapped(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *gone = lend_to_punch(&piece, 0, 1);

    (void)state;
    fake.is_held[1] = true;
    give_back(gone); /* punched: of use to the transport alone */
    (void)lend_to_punch(&piece, 1, 1);
    lend_agent_destroy(agent); /* see close_fake() */
    agent = NULL;
    drop_piece(&piece);
}

static void test_forked_child_closes_its_descriptors_and_no_more(void **state)
{
    const struct piece piece = make_piece(F_SEAL_SHRINK);
    struct lend_region *region = lend_pages(&piece, 0, 1);
    int fd = fake.files[1]->fd, status = 0;

    (void)state;
    pid_t child = fork();
    if (child == 0) {
        lend_agent_destroy(agent);
        _exit(fcntl(fd, F_GETFD) == -1 && fake.unshares == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    assert_int_equal(told_file(region, NULL), 1);
    tear(region, &piece);
}

static void test_withdrawing_memory_of_no_file_calls_no_system(void **state)
{
    static char memory[64];
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;

    (void)state;
    desc.access = LEND_ACCESS_READ;
    assert_int_equal(lend_memory_system(memory, sizeof memory, &desc.memory, NULL), LEND_OK);
    struct lend_region *region = add(&desc);
    assert_int_equal(told_file(region, NULL), 0);
    int calls = double_calls();
    assert_int_equal(withdraw(region, NULL), LEND_OK);
    assert_int_equal(double_calls(), calls);
    assert_int_equal(fake.shares, 0);
}

static void test_cross_memory_is_allowed_where_it_is_asked_for(void **state)
{
    struct lend_error error = {0};

    (void)state;
    assert_int_equal(ptrace_calls, 0);
    lend_agent_destroy(agent);
    agent = NULL;
    ptrace_result = -EPERM;
    assert_int_equal(create(LEND_AGENT_ALLOW_CROSS_MEMORY, &error), LEND_E_SYSTEM);
    assert_int_equal(error.sys_errno, EPERM);
    ptrace_result = -EINVAL; /* no Yama */
    assert_int_equal(create(LEND_AGENT_ALLOW_CROSS_MEMORY | LEND_AGENT_NO_STATISTICS, &error),
                     LEND_OK);
    assert_int_equal(ptrace_calls, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_shared_region_is_told_to_transports_and_in_metadata),
        TEST(test_regions_of_one_file_share_it_once),
        TEST(test_file_that_is_not_fit_is_told_with_its_reason),
        TEST(test_call_that_is_refused_leaves_no_file),
        TEST(test_what_cannot_be_shared_is_refused),
        TEST(test_many_regions_of_one_storage_cost_one_look),
        TEST(test_regions_with_a_hole_between_are_checked_by_themselves),
        TEST(test_withdrawing_waits_for_who_maps_the_file),
        TEST(test_file_is_shared_while_leases_drain),
        TEST(test_file_is_shared_again_when_its_last_region_is_resumed),
        TEST(test_file_of_suspended_regions_is_kept_alive_by_nobody),
        TEST(test_region_is_resumed_in_another_file),
        TEST(test_file_is_spent_once_a_region_of_it_is_given_back),
        TEST(test_deregistering_asks_for_the_file_back),
        TEST(test_pages_are_punched_out_at_the_deadline),
        TEST(test_who_lets_go_in_time_loses_no_pages),
        TEST(test_punch_that_cannot_be_done_is_told_with_the_holder),
        TEST(test_who_was_late_once_is_waited_for_in_the_next_life),
        TEST(test_agent_ends_while_files_are_mapped),
        TEST(test_forked_child_closes_its_descriptors_and_no_more),
        TEST(test_withdrawing_memory_of_no_file_calls_no_system),
        TEST(test_cross_memory_is_allowed_where_it_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
