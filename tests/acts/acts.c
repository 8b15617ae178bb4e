/* SPDX-License-Identifier: Apache-2.0 */
#include "acts.h"
#include "built.h"
#include "sanitizer.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL || *text == '\0' ? otherwise : strtoull(text, NULL, 0);
}

uint32_t acts_count(uint32_t count)
{
    uint64_t scaled = count * from_environment("LEND_TIMES", 1) / from_environment("LEND_SCALE", 1);

    return scaled < 20 ? 20 : (uint32_t)scaled;
}

uint64_t acts_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * ACTS_SECOND + (uint64_t)now.tv_nsec;
}

void acts_delay(uint64_t duration_ns)
{
    uint64_t end = acts_now_ns() + duration_ns;

    /* Sleep through most of a long one, for there may be one processor for all of us; then look. */
    if (duration_ns > 200000) {
        struct timespec nap = {.tv_sec = (time_t)((duration_ns - 100000) / ACTS_SECOND),
                               .tv_nsec = (long)((duration_ns - 100000) % ACTS_SECOND)};

        (void)nanosleep(&nap, NULL);
    }
    while (acts_now_ns() < end)
        (void)sched_yield();
}

struct acts_chance acts_chance_begin(const char *test)
{
    struct acts_chance chance = {from_environment("LEND_SEED", acts_now_ns())};

    print_message("%s: LEND_SEED=%llu\n", test, (unsigned long long)chance.state);
    (void)fflush(NULL);
    return chance;
}

static uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94D049BB133111EB);
    return value ^ (value >> 31);
}

uint64_t acts_chance_below(struct acts_chance *chance, uint64_t limit)
{
    chance->state += UINT64_C(0x9E3779B97F4A7C15);
    return limit == 0 ? 0 : mix(chance->state) % limit;
}

void *acts_shared(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        perror("mmap of shared memory");
        abort();
    }
    return memory;
}

void acts_unshare(void *memory, size_t bytes)
{
    (void)munmap(memory, bytes);
}

void acts_turn_to(struct acts_turn *turn, uint32_t value)
{
    atomic_store(&turn->reached, value);
    (void)syscall(SYS_futex, &turn->reached, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static bool await(struct acts_turn *turn, uint32_t value, uint64_t deadline)
{
    uint32_t seen;

    while ((seen = atomic_load(&turn->reached)) < value) {
        struct timespec nap = {.tv_sec = 1};

        if (acts_now_ns() > deadline) {
            (void)fprintf(stderr, "turn %u did not come; %u did\n", value, seen);
            return false;
        }
        (void)syscall(SYS_futex, &turn->reached, FUTEX_WAIT, seen, &nap, NULL, 0);
    }
    return true;
}

bool acts_turn_await(struct acts_turn *turn, uint32_t value)
{
    return await(turn, value, acts_now_ns() + ACTS_PATIENCE_NS);
}

void acts_turn_sleep(struct acts_turn *turn, uint32_t value)
{
    (void)await(turn, value, UINT64_MAX);
}

struct acts_directory acts_directory_make(void)
{
    const char *parent = getenv("LEND_DIRECTORY");
    struct acts_directory directory;

    (void)snprintf(directory.path, sizeof directory.path, "%s/lend-acts-XXXXXX",
                   parent != NULL ? parent : "/tmp");
    if (mkdtemp(directory.path) == NULL) {
        perror(directory.path);
        abort();
    }
    return directory;
}

void acts_directory_empty(const struct acts_directory *directory)
{
    DIR *entries = opendir(directory->path);
    struct dirent *entry;

    while (entries != NULL && (entry = readdir(entries)) != NULL)
        if (entry->d_type == DT_SOCK || strstr(entry->d_name, ".stats") != NULL)
            (void)unlinkat(dirfd(entries), entry->d_name, 0);
    if (entries != NULL)
        (void)closedir(entries);
}

bool acts_directory_remove(const struct acts_directory *directory)
{
    if (rmdir(directory->path) == 0)
        return true;
    (void)fprintf(stderr, "%s: %s\n", directory->path, strerror(errno));
    return false;
}

pid_t acts_spawn(int (*body)(void *context), void *context)
{
    (void)fflush(NULL);
    pid_t parent = getpid(), child = fork();

    if (child < 0) {
        perror("fork");
        abort();
    }
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* 0: the parent lives in another PID namespace. */
        if (getppid() != parent && getppid() != 0)
            _exit(125);
        int status = body(context);
        (void)fflush(NULL);
        _exit(status);
    }
    return child;
}

int acts_reap(pid_t child)
{
    int status = 0;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    if (WIFSIGNALED(status))
        (void)fprintf(stderr, "a child ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool acts_ok(enum lend_status status, const struct lend_error *error, const char *what)
{
    if (status == LEND_OK)
        return true;
    (void)fprintf(stderr, "%s: %s: %s\n", what, lend_status_name(status),
                  error != NULL ? error->message : "");
    return false;
}

struct lend_agent_config acts_config(const char *name, const struct acts_directory *directory)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;

    config.name = name;
    config.transports = "local";
    config.local_directory = directory->path;
    return config;
}

static bool is_by_tcp(const char *path)
{
    return strncmp(path, "tcp/", 4) == 0;
}

static bool is_by_ucx(const char *path)
{
    return strncmp(path, "ucx/", 4) == 0;
}

bool acts_has_ucx(void)
{
    if (!built_with("ucx"))
        return false;
    if (UNDER_TSAN) {
        print_message("SKIP: " UCX_TSAN_REASON "\n");
        return false;
    }
    if (dlopen("libucp.so.0", RTLD_NOW | RTLD_LOCAL) != NULL)
        return true;
    print_message("SKIP: %s (Debian: libucx0)\n", dlerror());
    return false;
}

struct lend_agent_config acts_config_for(const char *name, const struct acts_directory *directory,
                                         const char *path, const char *address)
{
    struct lend_agent_config config = acts_config(name, directory);

    if (is_by_tcp(path)) {
        config.transports = "tcp";
        config.listen = address != NULL ? address : "127.0.0.1";
    } else if (is_by_ucx(path)) {
        config.transports = "ucx";
        config.ucx_devices = "lo";
        config.ucx_transports = "tcp";
    }
    return config;
}

const char *acts_path_served(const char *path)
{
    if (is_by_ucx(path))
        return "ucx/served";
    return is_by_tcp(path) ? "tcp/served" : "local/served";
}

bool acts_path_is_by_kernel(const char *path)
{
    return is_by_tcp(path) || is_by_ucx(path);
}

bool acts_path_copies(const char *path)
{
    return strcmp(path, acts_path_served(path)) != 0;
}

bool acts_furnish(struct acts_region *region, const char *path)
{
    struct lend_storage_desc desc = LEND_STORAGE_DESC_INIT;
    struct lend_error error = {0};

    desc.length_bytes = region->block_bytes * region->count;
    if (strcmp(path, "local/mapped") != 0) {
        region->memory = acts_shared(desc.length_bytes);
        return true;
    }
    if (!acts_ok(lend_storage_create(&desc, &region->storage, &error), &error, "storage"))
        return false;
    region->memory = lend_storage_address(region->storage);
    return true;
}

void acts_unfurnish(struct acts_region *region)
{
    if (region->storage != NULL)
        lend_storage_destroy(region->storage);
    else
        acts_unshare(region->memory, region->block_bytes * region->count);
}

bool acts_register(struct lend_agent *agent, struct acts_region *region, uint32_t access)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_error error = {0};

    if (!acts_ok(lend_memory_system(region->memory, region->block_bytes * region->count,
                                    &desc.memory, &error),
                 &error, "describe"))
        return false;
    if (region->storage != NULL &&
        !acts_ok(lend_storage_describe(region->storage, 0, region->block_bytes * region->count,
                                       &desc, &error),
                 &error, "describe"))
        return false;
    desc.geometry.block_length_bytes = region->block_bytes;
    desc.geometry.count = region->count;
    desc.access = access;
    if (!acts_ok(lend_region_register(agent, &desc, 1, &region->region, NULL, &error), &error,
                 "register"))
        return false;
    region->id = lend_region_id(region->region);
    return true;
}

bool acts_grant(struct lend_agent *agent, struct acts_region *region, uint32_t access,
                struct lend_lease **out, struct acts_blob *out_ticket)
{
    struct lend_block_set set = {.regions = &region->region, .region_count = 1};
    struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
    struct lend_error error = {0};

    grant.sets = &set;
    grant.set_count = 1;
    grant.access = access;
    grant.time_to_live_ns = 600 * ACTS_SECOND;
    return acts_ok(lend_lease_grant(agent, &grant, out, &error), &error, "grant") &&
           acts_ok(lend_ticket_export(*out, out_ticket->bytes, sizeof out_ticket->bytes,
                                      &out_ticket->count, &error),
                   &error, "export of a ticket");
}

bool acts_metadata(struct lend_agent *agent, struct acts_blob *out)
{
    struct lend_error error = {0};

    return acts_ok(lend_metadata_export(agent, out->bytes, sizeof out->bytes, &out->count, &error),
                   &error, "export of metadata");
}

bool acts_import(struct lend_agent *agent, const struct acts_blob *blob, struct lend_peer **out)
{
    struct lend_error error = {0};

    return acts_ok(lend_peer_import(agent, blob->bytes, blob->count, out, &error), &error,
                   "import of metadata");
}

static uint64_t first_word(uint64_t generation, uint64_t number)
{
    return mix(mix(generation) + number);
}

void acts_fill(void *block, uint64_t bytes, uint64_t generation, uint64_t number)
{
    uint64_t *words = block, word = first_word(generation, number);

    for (uint64_t index = 0; index < bytes / 8; index++)
        words[index] = word + index * UINT64_C(0x100000001B3);
}

bool acts_is(const void *block, uint64_t bytes, uint64_t generation, uint64_t number)
{
    const uint64_t *words = block;
    uint64_t word = first_word(generation, number), wrong = 0;

    for (uint64_t index = 0; index < bytes / 8; index++)
        wrong |= words[index] ^ (word + index * UINT64_C(0x100000001B3));
    return wrong == 0;
}

bool acts_is_byte(const void *memory, uint64_t bytes, uint8_t value)
{
    const uint8_t *at = memory;
    uint8_t wrong = 0;

    for (uint64_t index = 0; index < bytes; index++)
        wrong |= at[index] ^ value;
    return wrong == 0;
}

static uint32_t count_entries(const char *path)
{
    DIR *directory = opendir(path);
    uint32_t count = 0;

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    if (directory != NULL)
        (void)closedir(directory);
    return count;
}

static uint32_t count_maps(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uint32_t count = 0;

    for (int byte; maps != NULL && (byte = getc(maps)) != EOF;)
        count += byte == '\n';
    if (maps != NULL)
        (void)fclose(maps);
    return count;
}

struct acts_holdings acts_holdings_now(void)
{
    struct mallinfo2 heap = mallinfo2();

    return (struct acts_holdings){
        .descriptors = count_entries("/proc/self/fd"),
        .threads = count_entries("/proc/self/task"),
        .maps = count_maps(),
        .heap_bytes = heap.uordblks + heap.hblkhd,
    };
}

bool acts_holdings_came_back(const struct acts_holdings *before, uint64_t heap_slack_bytes)
{
    uint64_t deadline = acts_now_ns() + 10 * ACTS_SECOND;
    struct acts_holdings now;

    do {
        now = acts_holdings_now();
        /* A stack or an arena that the C library keeps for later is one map or two, not a leak;
         * and sanitizers have ever more of their own. */
        if (now.descriptors <= before->descriptors && now.threads <= before->threads &&
            (UNDER_ASAN || UNDER_TSAN || now.maps <= before->maps + 16) &&
            now.heap_bytes <= before->heap_bytes + heap_slack_bytes)
            return true;
        (void)sched_yield();
    } while (acts_now_ns() < deadline);
    (void)fprintf(stderr,
                  "held before and now: descriptors %u %u, threads %u %u, maps %u %u, heap %llu "
                  "%llu\n",
                  before->descriptors, now.descriptors, before->threads, now.threads, before->maps,
                  now.maps, (unsigned long long)before->heap_bytes,
                  (unsigned long long)now.heap_bytes);
    return false;
}

void acts_choose(struct acts_chance *chance, int32_t *out, uint32_t count, uint32_t limit)
{
    /* Start anywhere and step by an odd number: all different where limit is a power of two. */
    uint64_t at = acts_chance_below(chance, limit), step = acts_chance_below(chance, limit) | 1;

    for (uint32_t index = 0; index < count; index++, at += step)
        out[index] = (int32_t)(at % limit);
}

uint64_t acts_window_pick(struct acts_window *window, struct acts_chance *chance)
{
    return acts_chance_below(chance, window->span_ns + 1);
}

void acts_window_learn(struct acts_window *window, bool was_late)
{
    window->span_ns = was_late ? window->span_ns - window->span_ns / 16
                               : window->span_ns + window->span_ns / 24 + 500;
    if (window->span_ns > 50 * ACTS_MS)
        window->span_ns = 50 * ACTS_MS;
}
