/* SPDX-License-Identifier: Apache-2.0 */
#include "trap.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REGION_BYTES = TRAP_BLOCK * TRAP_BLOCKS };

bool trap_check(bool is_right, const char *what)
{
    if (!is_right)
        (void)fprintf(stderr, "not so: %s\n", what);
    return is_right;
}

/* --- the scene --- */

struct trap_scene *trap_scene_make(struct trap_how how)
{
    struct trap_scene *scene = acts_shared(sizeof *scene);

    *scene = (struct trap_scene){.directory = acts_directory_make(), .how = how};
    return scene;
}

bool trap_scene_end(struct trap_scene *scene)
{
    acts_directory_empty(&scene->directory);
    bool is_clean = acts_directory_remove(&scene->directory);

    acts_unshare(scene, sizeof *scene);
    return is_clean;
}

int trap_refuse(struct trap_scene *scene, const char *what)
{
    (void)snprintf(scene->reason, sizeof scene->reason, "%s: %s", what, strerror(errno));
    return TRAP_SKIPPED;
}

void trap_judge(struct trap_scene *scene, pid_t owner, pid_t reader)
{
    int reader_status = acts_reap(reader);
    if (reader_status != 0)
        acts_turn_to(&scene->reader, UINT32_MAX);
    int owner_status = acts_reap(owner);
    bool is_skipped = owner_status == TRAP_SKIPPED || reader_status == TRAP_SKIPPED;

    if (is_skipped)
        print_message("skipped: %s\n", scene->reason);
    assert_true(trap_scene_end(scene));
    if (is_skipped)
        skip();
    assert_int_equal(reader_status, 0);
    assert_int_equal(owner_status, 0);
}

/* --- the owner --- */

void trap_fill(struct trap_owner *owner, uint64_t generation)
{
    for (uint64_t block = 0; block < TRAP_BLOCKS; block++)
        acts_fill(owner->region.memory + block * TRAP_BLOCK, TRAP_BLOCK, generation, block);
}

static bool describe_storage(struct trap_owner *owner, struct lend_region_desc *desc)
{
    struct lend_storage_desc storage = LEND_STORAGE_DESC_INIT;
    struct lend_error error = {0};

    storage.length_bytes = REGION_BYTES;
    storage.name = TRAP_FILE_NAME;
    if (!acts_ok(lend_storage_create(&storage, &owner->storage, &error), &error, "storage") ||
        !acts_ok(lend_storage_describe(owner->storage, 0, REGION_BYTES, desc, &error), &error,
                 "describe"))
        return false;
    owner->region.memory = lend_storage_address(owner->storage);
    return true;
}

static bool describe_file(struct trap_owner *owner, const struct trap_how *how,
                          struct lend_region_desc *desc)
{
    owner->file = memfd_create(TRAP_FILE_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (owner->file < 0 || ftruncate(owner->file, REGION_BYTES) != 0 ||
        fchmod(owner->file, how->mode) != 0) {
        perror("memfd");
        return false;
    }
    /* Before the seals, of which one lets nobody map it for writing after. */
    owner->region.memory =
        mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, owner->file, 0);
    if (owner->region.memory == MAP_FAILED ||
        (how->seals != 0 && fcntl(owner->file, F_ADD_SEALS, how->seals) != 0)) {
        perror("map and seal");
        return false;
    }
    desc->flags |= LEND_REGION_SHARE_FILE;
    desc->share_fd = owner->file;
    return true;
}

static bool describe(struct trap_owner *owner, const struct trap_how *how,
                     struct lend_region_desc *desc)
{
    struct lend_error error = {0};

    desc->flags = how->flags;
    if (how->backing == TRAP_STORAGE && !describe_storage(owner, desc))
        return false;
    if (how->backing == TRAP_FILE && !describe_file(owner, how, desc))
        return false;
    if (owner->region.memory == NULL)
        owner->region.memory =
            mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return acts_ok(lend_memory_system(owner->region.memory, REGION_BYTES, &desc->memory, &error),
                   &error, "memory");
}

bool trap_lend_again(struct trap_owner *owner, struct trap_scene *scene)
{
    if (owner->lease != NULL)
        lend_lease_release(owner->lease);
    owner->lease = NULL;
    return acts_grant(owner->agent, &owner->region, LEND_ACCESS_READ, &owner->lease,
                      &scene->ticket) &&
           acts_metadata(owner->agent, &scene->metadata);
}

bool trap_own(struct trap_owner *owner, struct trap_scene *scene, uint64_t generation)
{
    const char *name = scene->how.name != NULL ? scene->how.name : "owner";
    struct lend_agent_config config = acts_config(name, &scene->directory);
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    uint8_t *memory = owner->region.memory;
    struct lend_error error = {0};

    *owner = (struct trap_owner){
        .region = {.memory = memory, .block_bytes = TRAP_BLOCK, .count = TRAP_BLOCKS}, .file = -1};
    config.local_mode = scene->how.local_mode;
    if (!describe(owner, &scene->how, &desc))
        return false;
    if (memory == NULL) /* else who gave it knows what is in it */
        trap_fill(owner, generation);
    desc.geometry.block_length_bytes = TRAP_BLOCK;
    desc.geometry.count = TRAP_BLOCKS;
    desc.access = LEND_ACCESS_READ;
    if (!acts_ok(lend_agent_create(&config, &owner->agent, &error), &error, "owner") ||
        !acts_ok(lend_region_register(owner->agent, &desc, 1, &owner->region.region, NULL, &error),
                 &error, "register"))
        return false;
    scene->id = owner->region.id = lend_region_id(owner->region.region);
    return trap_lend_again(owner, scene);
}

void trap_disown(struct trap_owner *owner)
{
    lend_agent_destroy(owner->agent);
    if (owner->storage != NULL)
        lend_storage_destroy(owner->storage);
    else
        (void)munmap(owner->region.memory, REGION_BYTES);
    if (owner->file >= 0)
        (void)close(owner->file);
}

int trap_own_and_wait(void *context)
{
    struct trap_scene *scene = context;
    struct trap_owner owner = {0};

    if (!trap_own(&owner, scene, 1))
        return 1;
    acts_turn_to(&scene->owner, 1);
    if (!acts_turn_await(&scene->reader, 1))
        return 2;
    trap_disown(&owner);
    return 0;
}

/* --- the reader --- */

bool trap_reader_begin(struct trap_reader *reader, const struct trap_scene *scene, uint32_t flags)
{
    struct lend_agent_config config = acts_config("reader", &scene->directory);
    struct lend_error error = {0};

    *reader =
        (struct trap_reader){.region = {.memory = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE,
                                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                                        .block_bytes = TRAP_BLOCK,
                                        .count = TRAP_BLOCKS}};
    config.flags = flags;
    return acts_ok(lend_agent_create(&config, &reader->agent, &error), &error, "reader") &&
           acts_register(reader->agent, &reader->region, 0);
}

enum lend_status trap_prepare(struct trap_reader *reader, const struct trap_scene *scene,
                              const char *paths)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *made = NULL;

    desc.direction = LEND_READ;
    desc.peer = reader->peer;
    desc.region_count = 1;
    desc.local_regions = &reader->region.region;
    desc.remote_regions = &scene->id;
    desc.block_count_max = TRAP_BLOCKS;
    desc.paths = paths;
    enum lend_status status = lend_transfer_prepare(reader->agent, &desc, &made, &reader->why);
    if (status != LEND_OK)
        return status;
    (void)lend_transfer_release(reader->transfer);
    reader->transfer = made;
    return LEND_OK;
}

bool trap_take_ticket(struct trap_reader *reader, const struct trap_scene *scene)
{
    struct lend_error error = {0};

    if (reader->ticket != NULL)
        lend_ticket_release(reader->ticket);
    reader->ticket = NULL;
    return acts_ok(lend_ticket_import(reader->peer, scene->ticket.bytes, scene->ticket.count,
                                      &reader->ticket, &error),
                   &error, "import of a ticket");
}

bool trap_meet(struct trap_reader *reader, const struct trap_scene *scene, const char *paths)
{
    struct lend_error error = {0};

    return acts_import(reader->agent, &scene->metadata, &reader->peer) &&
           acts_ok(lend_peer_connect(reader->peer, ACTS_PATIENCE_NS, &error), &error, "connect") &&
           trap_take_ticket(reader, scene) &&
           acts_ok(trap_prepare(reader, scene, paths), &reader->why, "prepare");
}

enum lend_status trap_post(struct trap_reader *reader, int32_t first, uint32_t count,
                           uint64_t timeout_ns)
{
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    int32_t numbers[TRAP_BLOCKS];

    for (uint32_t i = 0; i < count; i++)
        numbers[i] = first + (int32_t)i;
    memset(reader->region.memory, 0, REGION_BYTES);
    post.ticket = reader->ticket;
    post.local_blocks = post.remote_blocks = numbers;
    post.block_count = count;
    post.timeout_ns = timeout_ns;
    return lend_transfer_post(reader->transfer, &post, &reader->why);
}

enum lend_status trap_read(struct trap_reader *reader, int32_t first, uint32_t count)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};
    enum lend_status status = trap_post(reader, first, count, 0);

    if (status != LEND_OK)
        return status;
    status = lend_transfer_wait(reader->transfer, ACTS_PATIENCE_NS);
    if (status != LEND_OK)
        (void)lend_transfer_describe(reader->transfer, &record, &reader->why);
    return status;
}

bool trap_took(struct trap_reader *reader, const char *path)
{
    struct lend_transfer_record record = {.struct_size = sizeof record};

    (void)lend_transfer_describe(reader->transfer, &record, NULL);
    if (strcmp(record.path, path) == 0)
        return true;
    (void)fprintf(stderr, "it took %s, not %s\n", record.path, path);
    return false;
}

bool trap_holds(const struct trap_reader *reader, int32_t first, uint32_t count,
                uint64_t generation)
{
    for (uint64_t block = (uint64_t)first; block < (uint64_t)first + count; block++) {
        if (!acts_is(reader->region.memory + block * TRAP_BLOCK, TRAP_BLOCK, generation, block)) {
            (void)fprintf(stderr, "block %" PRIu64 " is not of generation %" PRIu64 "\n", block,
                          generation);
            return false;
        }
    }
    return true;
}

bool trap_reads(struct trap_reader *reader, const char *path, uint64_t generation)
{
    return acts_ok(trap_read(reader, 0, TRAP_BLOCKS), &reader->why, path) &&
           trap_took(reader, path) && trap_holds(reader, 0, TRAP_BLOCKS, generation);
}

bool trap_explains(struct trap_reader *reader, const struct trap_scene *scene, const char *path,
                   enum lend_status status, const char *words)
{
    struct lend_path_info infos[LEND_PATHS_MAX] = {{.struct_size = sizeof infos[0]}};
    struct lend_error error = {0};
    uint32_t count = 0;

    if (!acts_ok(lend_explain(reader->peer, reader->region.region, scene->id, LEND_READ, infos,
                              LEND_PATHS_MAX, &count, &error),
                 &error, "explain"))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(infos[i].name, path) != 0)
            continue;
        if (infos[i].status == (int32_t)status && strstr(infos[i].why, words) != NULL)
            return true;
        (void)fprintf(stderr, "%s is explained as %s, \"%s\", not as %s, \"%s\"\n", path,
                      lend_status_name((enum lend_status)infos[i].status), infos[i].why,
                      lend_status_name(status), words);
        return false;
    }
    return trap_check(false, path);
}

void trap_reader_end(struct trap_reader *reader)
{
    lend_agent_destroy(reader->agent);
    (void)munmap(reader->region.memory, REGION_BYTES);
}

/* --- mappings --- */

bool trap_find_mapping(const char *words, struct trap_mapping *out, uint64_t from)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    bool is_found = false;
    char line[400];

    while (maps != NULL && !is_found && fgets(line, sizeof line, maps) != NULL) {
        out->name[0] = '\0';
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %*s %159[^\n]", &out->start,
                   &out->end, out->rights, out->name) < 3)
            continue;
        is_found = out->start >= from && strstr(out->name, words) != NULL;
    }
    if (maps != NULL)
        (void)fclose(maps);
    return is_found;
}
