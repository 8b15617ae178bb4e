/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CALL_DESCS_MAX = 16,
    CALL_SETS_MAX = 4,
    CALL_REGIONS_MAX = 16,
    CALL_NUMBERS_BYTES = 64 << 10,
    CALL_BYTES = 256 << 10,
};

/* One call into the owner's process, flat, so that it can lie in shared memory. */
struct call {
    void (*function)(struct pair *pair, struct call *call);
    struct lend_region *region;
    struct lend_lease *lease;
    struct lend_peer *peer;
    struct lend_region_desc descs[CALL_DESCS_MAX];
    struct lend_region *regions[CALL_DESCS_MAX];
    struct lend_grant_desc grant;
    struct lend_block_set sets[CALL_SETS_MAX];
    struct lend_region *set_regions[CALL_SETS_MAX][CALL_REGIONS_MAX];
    uint8_t numbers[CALL_SETS_MAX][CALL_NUMBERS_BYTES];
    struct lend_region_info region_info;
    struct lend_lease_info lease_infos[CALL_DESCS_MAX];
    struct lend_notification_info notification;
    uint8_t bytes[CALL_BYTES];
    size_t byte_count;
    uint64_t timeout_ns;
    uint32_t mode;
    uint32_t count;
    void (*work)(struct pair *pair);
    enum lend_status status;
    struct lend_error error;
};

struct pair_shared {
    uint32_t slots_used;
    atomic_uint end_count;
    struct lend_lease_info ends[PAIR_ENDS_MAX];
    pair_tweak *tweak;
    struct call call;
};

_Static_assert(sizeof(struct pair_shared) <= PAIR_SLOT_BYTES, "the shared part lies in one slot");

uint64_t pair_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * SECONDS + (uint64_t)now.tv_nsec;
}

void pair_pump(struct pair *pair)
{
    if (!pair_is_manual(pair))
        return;
    (void)lend_agent_progress(pair->reader, 0, NULL);
    if (!pair_is_apart(pair) && pair->owner != NULL)
        (void)lend_agent_progress(pair->owner, 0, NULL);
}

enum lend_status pair_connect(struct pair *pair, struct lend_error *error)
{
    uint64_t deadline = pair_now_ns() + PAIR_PATIENCE_NS;
    enum lend_status status;

    if (!pair_is_manual(pair) || pair_is_apart(pair))
        return lend_peer_connect(pair->peer, 5 * SECONDS, error);
    while ((status = lend_peer_connect(pair->peer, 0, error)) == LEND_E_TIMEOUT &&
           pair_now_ns() < deadline)
        pair_pump(pair);
    return status;
}

static void note_end(void *context, const struct lend_lease_info *info)
{
    struct pair_shared *shared = context;
    unsigned index = atomic_load(&shared->end_count);

    /* One agent tells one end at a time: it has one progress. */
    if (index < PAIR_ENDS_MAX)
        shared->ends[index] = *info;
    atomic_store(&shared->end_count, index + 1);
}

void pair_name_transports(const struct pair *pair, struct lend_agent_config *config)
{
    config->transports = pair->setup->transports;
    config->verbs_devices = battery_nics[1];
    if (strcmp(config->transports, "ucx") != 0)
        return;
    config->ucx_devices = battery_device(pair->setup);
    config->ucx_transports = (pair->setup->flags & BATTERY_CHOICE) != 0 ? NULL : "tcp";
}

static struct lend_agent_config config_of(struct pair *pair, bool is_owner)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    config.name = is_owner ? "owner" : "reader";
    pair_name_transports(pair, &config);
    config.local_directory = pair->directory;
    config.local_is_abstract = (pair->setup->flags & BATTERY_ABSTRACT) != 0;
    if (is_owner)
        config.verbs_devices = battery_nics[0];
    if (strcmp(pair_carrier(pair), "tcp") == 0)
        config.listen = battery_address(pair->setup, is_owner);
    if (pair_is_manual(pair))
        config.flags |= LEND_AGENT_MANUAL_PROGRESS;
    config.secret = battery_secret(pair->setup, is_owner);
    config.secret_bytes = config.secret != NULL ? (uint32_t)strlen(config.secret) : 0;
    config.secret_plugin = LEND_TEST_SECRET_PLUGIN;
    if (is_owner) {
        config.flags |= LEND_AGENT_ALLOW_CROSS_MEMORY;
        config.on_lease_end = note_end;
        config.context = pair->shared;
    }
    if (pair->shared->tweak != NULL)
        pair->shared->tweak(&config, is_owner);
    return config;
}

static void make_owner(struct pair *pair, struct call *call)
{
    struct lend_agent_config config = config_of(pair, true);

    lend_agent_destroy(pair->owner);
    pair->owner = NULL;
    call->status = lend_agent_create(&config, &pair->owner, &call->error);
}

static void destroy_owner(struct pair *pair, struct call *call)
{
    lend_agent_destroy(pair->owner);
    pair->owner = NULL;
    call->status = LEND_OK;
}

/* The owner's process: make progress if that is manual, and do as told until the wire is cut. */
static void serve(struct pair *pair, int wire)
{
    char byte;

    for (;;) {
        struct pollfd look = {.fd = wire, .events = POLLIN};
        bool has_to_drive = pair_is_manual(pair) && pair->owner != NULL;

        if (poll(&look, 1, has_to_drive ? 0 : -1) == 0) {
            (void)lend_agent_progress(pair->owner, SECONDS / 1000, NULL);
            continue;
        }
        if (read(wire, &byte, 1) != 1)
            break;
        pair->shared->call.function(pair, &pair->shared->call);
        if (write(wire, &byte, 1) != 1)
            break;
    }
    lend_agent_destroy(pair->owner);
    _exit(0);
}

static void part(struct pair *pair)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        fail_msg("socketpair: %s", strerror(errno));
    (void)fflush(NULL);
    pair->child = fork();
    if (pair->child < 0)
        fail_msg("fork: %s", strerror(errno));
    if (pair->child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(ends[0]);
        if (!battery_enter_owner(pair->setup))
            _exit(1);
        serve(pair, ends[1]);
    }
    (void)close(ends[1]);
    pair->wire = ends[0];
}

static struct call *call_begin(struct pair *pair)
{
    struct call *call = &pair->shared->call;

    memset(&call->error, 0, sizeof call->error);
    call->status = LEND_E_INVALID;
    return call;
}

static enum lend_status call_owner(struct pair *pair,
                                   void (*function)(struct pair *pair, struct call *call),
                                   struct lend_error *error)
{
    struct call *call = &pair->shared->call;
    char byte = 0;

    call->function = function;
    if (!pair_is_apart(pair))
        function(pair, call);
    else if (write(pair->wire, &byte, 1) != 1 || read(pair->wire, &byte, 1) != 1)
        fail_msg("the owner's process is gone");
    if (error != NULL)
        *error = call->error;
    return call->status;
}

static void do_work(struct pair *pair, struct call *call)
{
    call->work(pair);
}

void pair_at_owner(struct pair *pair, void (*work)(struct pair *pair))
{
    call_begin(pair)->work = work;
    (void)call_owner(pair, do_work, NULL);
}

struct pair *pair_make(const struct battery_setup *setup, pair_tweak *tweak)
{
    struct pair *pair = calloc(1, sizeof *pair);
    struct lend_error error = {0};

    assert_non_null(pair);
    pair->setup = setup;
    pair->wire = -1;
    pair_map_arena(pair);
    pair->shared = (void *)pair->arena;
    pair->shared->tweak = tweak;
    pair->shared->slots_used = PAIR_SLOTS_SHARED;
    (void)snprintf(pair->directory, sizeof pair->directory, "/tmp/lend-battery-XXXXXX");
    assert_non_null(mkdtemp(pair->directory));
    if (pair_is_apart(pair))
        part(pair);

    (void)call_begin(pair);
    EXPECT(call_owner(pair, make_owner, &error), LEND_OK, &error);

    struct lend_agent_config config = config_of(pair, false);

    EXPECT(lend_agent_create(&config, &pair->reader, &error), LEND_OK, &error);
    return pair;
}

static void forget_peer(struct pair *pair)
{
    for (; pair->peer_references > 0; pair->peer_references--)
        lend_peer_forget(pair->peer);
}

void pair_free(struct pair *pair)
{
    int exit_status = 0;

    forget_peer(pair);
    lend_agent_destroy(pair->reader);
    if (pair_is_apart(pair)) {
        (void)kill(pair->child, SIGCONT); /* where a test that failed left it stopped */
        (void)close(pair->wire);
        assert_int_equal(waitpid(pair->child, &exit_status, 0), pair->child);
    } else {
        lend_agent_destroy(pair->owner);
    }
    pair_unmap_arena(pair);
    /* An agent leaves nothing behind in the folder of its socket. */
    int removed = rmdir(pair->directory);

    free(pair);
    assert_int_equal(exit_status, 0);
    assert_int_equal(removed, 0);
}

struct pair pair_join(struct pair *pair, const char *name)
{
    struct pair joined = *pair;
    struct lend_agent_config config = config_of(pair, false);
    struct lend_error error = {0};

    config.name = name;
    joined.reader = NULL;
    joined.peer = NULL;
    joined.peer_references = 0;
    EXPECT(lend_agent_create(&config, &joined.reader, &error), LEND_OK, &error);
    meet(&joined);
    return joined;
}

void pair_leave(struct pair *joined)
{
    forget_peer(joined);
    lend_agent_destroy(joined->reader);
    joined->reader = NULL;
}

void pair_die(struct pair *joined)
{
    joined->peer_references = 0;
    lend_agent_destroy(joined->reader);
    joined->reader = NULL;
}

void pair_stop_owner(struct pair *pair)
{
    int status = 0;

    assert_int_equal(kill(pair->child, SIGSTOP), 0);
    assert_int_equal(waitpid(pair->child, &status, WUNTRACED), pair->child);
    assert_true(WIFSTOPPED(status));
}

void pair_continue_owner(struct pair *pair)
{
    assert_int_equal(kill(pair->child, SIGCONT), 0);
}

uint32_t pair_take_slot(struct pair *pair)
{
    return pair->shared->slots_used++;
}

uint32_t pair_end_count(struct pair *pair)
{
    return atomic_load(&pair->shared->end_count);
}

struct lend_lease_info pair_end(struct pair *pair, uint32_t index)
{
    assert_true(index < PAIR_ENDS_MAX);
    return pair->shared->ends[index];
}

/* The owner's consent to map what lies in the arena. */
static void share(const struct pair *pair, struct lend_region_desc *desc)
{
    uint64_t offset = desc->memory.address - (uint64_t)(uintptr_t)pair->arena;

    if (pair_is_opened(pair) && desc->memory.kind == LEND_MEMORY_DEVICE)
        desc->flags |= LEND_REGION_SHARE_DEVICE;
    if (!pair_is_mapped(pair) || offset >= (uint64_t)PAIR_SLOTS * PAIR_SLOT_BYTES ||
        (desc->flags & LEND_REGION_PUNCH_OUT) != 0)
        return;
    desc->flags |= LEND_REGION_SHARE_FILE;
    desc->share_fd = pair->slot_fds[offset / PAIR_SLOT_BYTES];
    desc->share_offset_bytes = offset % PAIR_SLOT_BYTES;
}

static void do_register(struct pair *pair, struct call *call)
{
    for (uint32_t index = 0; index < call->count; index++)
        share(pair, &call->descs[index]);
    call->status = lend_region_register(pair->owner, call->descs, call->count, call->regions, NULL,
                                        &call->error);
}

enum lend_status owner_register(struct pair *pair, const struct lend_region_desc *descs,
                                uint32_t count, struct lend_region **out, struct lend_error *error)
{
    struct call *call = call_begin(pair);

    assert_true(count <= CALL_DESCS_MAX);
    memcpy(call->descs, descs, count * sizeof *descs);
    call->count = count;
    if (call_owner(pair, do_register, error) == LEND_OK)
        memcpy(out, call->regions, count * sizeof *out);
    return call->status;
}

/* A file that the reader has mapped comes back when it makes progress. Where that is ours to make,
 * ask again and again. */
static enum lend_status end_access(struct pair *pair,
                                   void (*function)(struct pair *pair, struct call *call),
                                   uint64_t timeout_ns, struct lend_error *error)
{
    uint64_t deadline = pair_now_ns() + timeout_ns;
    bool asks_again = pair_is_manual(pair) && pair_is_shared(pair);
    enum lend_status status;

    pair->shared->call.timeout_ns = asks_again ? 0 : timeout_ns;
    while ((status = call_owner(pair, function, error)) == LEND_E_BUSY && asks_again &&
           pair_now_ns() < deadline)
        pair_pump(pair);
    return status;
}

static void do_withdraw(struct pair *pair, struct call *call)
{
    (void)pair;
    call->status = lend_region_withdraw(call->region, call->mode, call->timeout_ns, &call->error);
}

enum lend_status owner_withdraw(struct pair *pair, struct lend_region *region, uint32_t mode,
                                uint64_t timeout_ns, struct lend_error *error)
{
    struct call *call = call_begin(pair);

    call->region = region;
    call->mode = mode;
    return end_access(pair, do_withdraw, timeout_ns, error);
}

static void do_suspend(struct pair *pair, struct call *call)
{
    (void)pair;
    call->status = lend_region_suspend(call->region, call->mode, call->timeout_ns, &call->error);
}

enum lend_status owner_suspend(struct pair *pair, struct lend_region *region, uint32_t mode,
                               uint64_t timeout_ns, struct lend_error *error)
{
    struct call *call = call_begin(pair);

    call->region = region;
    call->mode = mode;
    return end_access(pair, do_suspend, timeout_ns, error);
}

static void do_resume(struct pair *pair, struct call *call)
{
    struct lend_region_desc *desc = &call->descs[0];
    struct lend_region_info info = {.struct_size = sizeof info};
    bool is_elsewhere = desc->memory.struct_size != 0;

    desc->flags = 0;
    desc->share_fd = -1;
    desc->share_offset_bytes = 0;
    if (!is_elsewhere && lend_region_describe(call->region, &info, NULL) == LEND_OK)
        desc->memory = info.memory;
    share(pair, desc);
    call->status = lend_region_resume(call->region, is_elsewhere ? &desc->memory : NULL,
                                      desc->share_fd, desc->share_offset_bytes, &call->error);
}

enum lend_status owner_resume(struct pair *pair, struct lend_region *region, void *address,
                              uint64_t bytes, struct lend_error *error)
{
    struct call *call = call_begin(pair);

    call->region = region;
    memset(&call->descs[0].memory, 0, sizeof call->descs[0].memory);
    if (address != NULL)
        EXPECT(pair_describe(pair, address, bytes, &call->descs[0].memory, error), LEND_OK, error);
    return call_owner(pair, do_resume, error);
}

static void do_deregister(struct pair *pair, struct call *call)
{
    (void)pair;
    call->status = lend_region_deregister(call->region, &call->error);
}

enum lend_status owner_deregister(struct pair *pair, struct lend_region *region,
                                  struct lend_error *error)
{
    call_begin(pair)->region = region;
    return call_owner(pair, do_deregister, error);
}

static void do_describe_region(struct pair *pair, struct call *call)
{
    (void)pair;
    call->region_info.struct_size = sizeof call->region_info;
    call->status = lend_region_describe(call->region, &call->region_info, &call->error);
}

enum lend_status owner_describe_region(struct pair *pair, struct lend_region *region,
                                       struct lend_region_info *out)
{
    struct call *call = call_begin(pair);

    call->region = region;
    (void)call_owner(pair, do_describe_region, NULL);
    *out = call->region_info;
    return call->status;
}

static void do_metadata(struct pair *pair, struct call *call)
{
    call->status = lend_metadata_export(pair->owner, call->bytes, sizeof call->bytes,
                                        &call->byte_count, &call->error);
}

enum lend_status owner_metadata(struct pair *pair, void *bytes, size_t capacity, size_t *out_count)
{
    struct call *call = call_begin(pair);

    if (call_owner(pair, do_metadata, NULL) != LEND_OK)
        return call->status;
    assert_true(call->byte_count <= capacity);
    memcpy(bytes, call->bytes, call->byte_count);
    *out_count = call->byte_count;
    return LEND_OK;
}

static void do_import(struct pair *pair, struct call *call)
{
    struct lend_import_desc desc = battery_import(pair->setup, false);

    call->status = lend_peer_import_with(pair->owner, call->bytes, call->byte_count, &desc,
                                         &call->peer, &call->error);
}

enum lend_status owner_import(struct pair *pair, struct lend_peer **out)
{
    struct call *call = call_begin(pair);
    struct lend_error error = {0};

    EXPECT(lend_metadata_export(pair->reader, call->bytes, sizeof call->bytes, &call->byte_count,
                                &error),
           LEND_OK, &error);
    (void)call_owner(pair, do_import, NULL);
    *out = call->peer;
    return call->status;
}

static void do_forget(struct pair *pair, struct call *call)
{
    (void)pair;
    lend_peer_forget(call->peer);
}

void owner_forget(struct pair *pair, struct lend_peer *peer)
{
    call_begin(pair)->peer = peer;
    (void)call_owner(pair, do_forget, NULL);
}

static void copy_set(struct call *call, uint32_t index, const struct lend_block_set *set)
{
    size_t bytes = (size_t)set->count * set->index_bits / 8;

    assert_true(index < CALL_SETS_MAX);
    call->sets[index] = *set;
    if (set->regions != NULL) {
        assert_true(set->region_count <= CALL_REGIONS_MAX);
        memcpy(call->set_regions[index], set->regions, set->region_count * sizeof(void *));
        call->sets[index].regions = call->set_regions[index];
    }
    if (set->blocks != NULL) {
        assert_true(bytes <= CALL_NUMBERS_BYTES);
        memcpy(call->numbers[index], set->blocks, bytes);
        call->sets[index].blocks = call->numbers[index];
    }
}

static void do_grant(struct pair *pair, struct call *call)
{
    call->status = lend_lease_grant(pair->owner, &call->grant, &call->lease, &call->error);
}

enum lend_status owner_grant(struct pair *pair, const struct lend_grant_desc *desc,
                             struct lend_lease **out, struct lend_error *error)
{
    struct call *call = call_begin(pair);

    call->grant = *desc;
    call->grant.sets = desc->sets != NULL ? call->sets : NULL;
    for (uint32_t index = 0; index < desc->set_count; index++)
        copy_set(call, index, &desc->sets[index]);
    if (call_owner(pair, do_grant, error) == LEND_OK)
        *out = call->lease;
    return call->status;
}

static void do_renew(struct pair *pair, struct call *call)
{
    (void)pair;
    call->status = lend_lease_renew(call->lease, call->timeout_ns, &call->error);
}

enum lend_status owner_renew(struct pair *pair, struct lend_lease *lease, uint64_t time_to_live_ns,
                             struct lend_error *error)
{
    struct call *call = call_begin(pair);

    call->lease = lease;
    call->timeout_ns = time_to_live_ns;
    return call_owner(pair, do_renew, error);
}

static void do_revoke(struct pair *pair, struct call *call)
{
    (void)pair;
    call->status = lend_lease_revoke(call->lease, &call->error);
}

enum lend_status owner_revoke(struct pair *pair, struct lend_lease *lease, struct lend_error *error)
{
    call_begin(pair)->lease = lease;
    return call_owner(pair, do_revoke, error);
}

static void do_revoke_blocks(struct pair *pair, struct call *call)
{
    call->status =
        lend_lease_revoke_blocks(pair->owner, &call->sets[0], &call->count, &call->error);
}

enum lend_status owner_revoke_blocks(struct pair *pair, const struct lend_block_set *set,
                                     uint32_t *out_count, struct lend_error *error)
{
    struct call *call = call_begin(pair);

    copy_set(call, 0, set);
    (void)call_owner(pair, do_revoke_blocks, error);
    *out_count = call->count;
    return call->status;
}

static void do_describe_lease(struct pair *pair, struct call *call)
{
    (void)pair;
    call->lease_infos[0].struct_size = sizeof call->lease_infos[0];
    call->status = lend_lease_describe(call->lease, &call->lease_infos[0], &call->error);
}

enum lend_status owner_describe_lease(struct pair *pair, struct lend_lease *lease,
                                      struct lend_lease_info *out)
{
    struct call *call = call_begin(pair);

    call->lease = lease;
    (void)call_owner(pair, do_describe_lease, NULL);
    *out = call->lease_infos[0];
    return call->status;
}

static void do_list(struct pair *pair, struct call *call)
{
    call->lease_infos[0].struct_size = sizeof call->lease_infos[0];
    call->status =
        lend_lease_list(pair->owner, call->lease_infos, call->mode, &call->count, &call->error);
}

enum lend_status owner_list(struct pair *pair, struct lend_lease_info *infos, uint32_t capacity,
                            uint32_t *out_count)
{
    struct call *call = call_begin(pair);

    assert_true(capacity <= CALL_DESCS_MAX);
    call->mode = capacity;
    (void)call_owner(pair, do_list, NULL);
    memcpy(infos, call->lease_infos, capacity * sizeof *infos);
    *out_count = call->count;
    return call->status;
}

static void do_release(struct pair *pair, struct call *call)
{
    (void)pair;
    lend_lease_release(call->lease);
}

void owner_release(struct pair *pair, struct lend_lease *lease)
{
    call_begin(pair)->lease = lease;
    (void)call_owner(pair, do_release, NULL);
}

static void do_export(struct pair *pair, struct call *call)
{
    (void)pair;
    call->status = lend_ticket_export(call->lease, call->bytes, LEND_TICKET_BYTES_MAX,
                                      &call->byte_count, &call->error);
}

enum lend_status owner_export(struct pair *pair, struct lend_lease *lease, void *bytes,
                              size_t *out_count)
{
    struct call *call = call_begin(pair);

    call->lease = lease;
    if (call_owner(pair, do_export, NULL) != LEND_OK)
        return call->status;
    memcpy(bytes, call->bytes, call->byte_count);
    *out_count = call->byte_count;
    return LEND_OK;
}

static void do_send(struct pair *pair, struct call *call)
{
    (void)pair;
    call->status = lend_notification_send(call->peer, call->bytes, call->byte_count, &call->error);
}

enum lend_status owner_send(struct pair *pair, struct lend_peer *peer, const void *bytes,
                            size_t count, struct lend_error *error)
{
    struct call *call = call_begin(pair);

    assert_true(count <= sizeof call->bytes);
    call->peer = peer;
    memcpy(call->bytes, bytes, count);
    call->byte_count = count;
    return call_owner(pair, do_send, error);
}

static void do_receive(struct pair *pair, struct call *call)
{
    call->notification.struct_size = sizeof call->notification;
    call->status =
        lend_notification_receive(pair->owner, call->bytes, sizeof call->bytes, &call->byte_count,
                                  &call->notification, call->timeout_ns, &call->error);
}

enum lend_status owner_receive(struct pair *pair, void *bytes, size_t *out_count,
                               struct lend_notification_info *info, uint64_t timeout_ns)
{
    struct call *call = call_begin(pair);
    uint64_t deadline = pair_now_ns() + timeout_ns;

    /* Where both progress by this thread's hand, look and drive in turns. */
    call->timeout_ns = pair_is_manual(pair) ? 0 : timeout_ns;
    while (call_owner(pair, do_receive, NULL) == LEND_E_ABSENT && pair_now_ns() < deadline)
        pair_pump(pair);
    if (call->status == LEND_OK) {
        memcpy(bytes, call->bytes, call->byte_count);
        *out_count = call->byte_count;
        if (info != NULL)
            *info = call->notification;
    }
    return call->status;
}

void owner_restart(struct pair *pair)
{
    struct lend_error error = {0};

    (void)call_begin(pair);
    EXPECT(call_owner(pair, make_owner, &error), LEND_OK, &error);
}

void owner_destroy(struct pair *pair)
{
    (void)call_begin(pair);
    (void)call_owner(pair, destroy_owner, NULL);
    pair->owner = NULL;
}
