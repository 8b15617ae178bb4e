/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/nixl.h"

#undef NDEBUG /* what a caller does wrong is told in every build */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AGENTS_MAX = 8, ENTRIES_MAX = 2048, NOTES_MAX = 64, NAME_BYTES = 64, LOADED_MAX = 8 };

struct entry {
    uintptr_t address;
    size_t length;
};

struct list {
    int count;
    struct entry entries[ENTRIES_MAX];
};

struct note {
    char from[NAME_BYTES];
    size_t count;
    uint8_t bytes[20000];
};

struct agent {
    bool is_there;
    char name[NAME_BYTES];
    int incarnation;
    struct list registered;
    struct {
        char name[NAME_BYTES];
        int incarnation;
    } loaded[LOADED_MAX];
    int note_count;
    struct note *notes;
};

/* As NIXL's begins: with the agent's name. */
struct __attribute__((packed)) metadata {
    char head[16];
    uint64_t name_bytes;
    char name[NAME_BYTES];
    int incarnation;
};

struct request {
    struct request *next;
    struct agent *to;
    bool is_write;
    bool is_released;
    lend_nixl_result result;
    struct list local;
    struct list remote;
};

struct map {
    int count;
    struct note *notes;
};

struct fake_nixl fake_nixl;
static struct agent agents[AGENTS_MAX];
static struct request *held;
static int incarnations;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char head[] = "nixlSerDes|Agent";

/* Count a call; true: it fails. With the lock held from here on. */
static bool begin(enum fake_nixl_call call)
{
    (void)pthread_mutex_lock(&lock);
    int at = fake_nixl.calls[call]++;
    return fake_nixl.failing == call && at == fake_nixl.fail_at;
}

static lend_nixl_result end(lend_nixl_result result)
{
    (void)pthread_mutex_unlock(&lock);
    return result;
}

static struct agent *find(const char *name)
{
    for (int i = 0; i < AGENTS_MAX; i++)
        if (agents[i].is_there && strcmp(agents[i].name, name) == 0)
            return &agents[i];
    return NULL;
}

static struct agent *make(const char *name)
{
    for (int i = 0; i < AGENTS_MAX; i++) {
        if (agents[i].is_there)
            continue;
        struct note *notes = calloc(NOTES_MAX, sizeof *notes);

        agents[i] = (struct agent){.is_there = true, .incarnation = ++incarnations, .notes = notes};
        (void)snprintf(agents[i].name, sizeof agents[i].name, "%s", name);
        return &agents[i];
    }
    abort();
}

static void destroy(struct agent *agent)
{
    for (struct request *at = held; at != NULL; at = at->next)
        if (at->to == agent)
            at->to = NULL; /* nobody is reached by it any more */
    free(agent->notes);
    *agent = (struct agent){0};
}

static bool covers(const struct list *list, uintptr_t address, size_t length)
{
    for (int i = 0; i < list->count; i++)
        if (address >= list->entries[i].address &&
            address + length <= list->entries[i].address + list->entries[i].length)
            return true;
    return false;
}

/* --- agents --- */

static lend_nixl_result agent_create(const char *name, const struct lend_nixl_agent_config *config,
                                     void **out)
{
    if (begin(FAKE_NIXL_AGENT_CREATE))
        return end(LEND_NIXL_FAILURE);
    assert(!config->has_progress_thread && find(name) == NULL);
    fake_nixl.agents++;
    *out = make(name);
    return end(LEND_NIXL_OK);
}

static lend_nixl_result agent_destroy(void *agent)
{
    (void)pthread_mutex_lock(&lock);
    fake_nixl.agents--;
    fake_nixl.registered -= ((struct agent *)agent)->registered.count;
    /* What it had under way is over: its requests move nothing any more. */
    for (struct request **at = &held, *request; (request = *at) != NULL;) {
        assert(request->is_released);
        *at = request->next;
        free(request);
    }
    destroy(agent);
    return end(LEND_NIXL_OK);
}

static lend_nixl_result params_create(void **out)
{
    if (begin(FAKE_NIXL_PARAMS_CREATE))
        return end(LEND_NIXL_FAILURE);
    fake_nixl.params++;
    *out = &fake_nixl.params;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result params_destroy(void *params)
{
    (void)params;
    (void)pthread_mutex_lock(&lock);
    fake_nixl.params--;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result params_add(void *params, const char *key, const char *value)
{
    (void)params;
    if (begin(FAKE_NIXL_PARAMS_ADD))
        return end(LEND_NIXL_FAILURE);
    assert(strcmp(key, "engine_config") == 0 && strstr(value, "NET_DEVICES=") == value);
    return end(LEND_NIXL_OK);
}

static lend_nixl_result backend_create(void *agent, const char *plugin, void *params, void **out)
{
    (void)params;
    if (begin(FAKE_NIXL_BACKEND_CREATE))
        return end(LEND_NIXL_FAILURE);
    assert(strcmp(plugin, "UCX") == 0);
    fake_nixl.backends++;
    *out = agent;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result backend_destroy(void *backend)
{
    (void)backend;
    (void)pthread_mutex_lock(&lock);
    fake_nixl.backends--;
    return end(LEND_NIXL_OK);
}

/* --- metadata --- */

static void tell(const struct agent *agent, struct metadata *out)
{
    *out = (struct metadata){.incarnation = agent->incarnation, .name_bytes = strlen(agent->name)};
    memcpy(out->head, head, sizeof out->head);
    memcpy(out->name, agent->name, sizeof out->name);
}

static lend_nixl_result metadata_get(void *agent, void **out_bytes, size_t *out_count)
{
    if (begin(FAKE_NIXL_METADATA_GET))
        return end(LEND_NIXL_FAILURE);
    *out_bytes = malloc(sizeof(struct metadata));
    *out_count = sizeof(struct metadata);
    tell(agent, *out_bytes);
    fake_nixl.bytes++;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result load(struct agent *agent, const struct metadata *metadata)
{
    int room = -1;

    if (memcmp(metadata->head, head, sizeof metadata->head) != 0 ||
        strcmp(metadata->name, agent->name) == 0)
        return LEND_NIXL_FAILURE;
    for (int i = 0; i < LOADED_MAX; i++) {
        if (strcmp(agent->loaded[i].name, metadata->name) == 0)
            return agent->loaded[i].incarnation == metadata->incarnation ? LEND_NIXL_OK
                                                                         : LEND_NIXL_FAILURE;
        if (agent->loaded[i].name[0] == '\0')
            room = i;
    }
    memcpy(agent->loaded[room].name, metadata->name, NAME_BYTES);
    agent->loaded[room].incarnation = metadata->incarnation;
    return LEND_NIXL_OK;
}

static lend_nixl_result metadata_load(void *agent, const void *bytes, size_t count, char **out)
{
    struct metadata metadata;

    if (begin(FAKE_NIXL_METADATA_LOAD) || count != sizeof metadata)
        return end(LEND_NIXL_FAILURE);
    memcpy(&metadata, bytes, sizeof metadata);
    lend_nixl_result result = load(agent, &metadata);
    if (result == LEND_NIXL_OK) {
        *out = strdup(metadata.name);
        fake_nixl.bytes++;
    }
    return end(result);
}

/* The loaded agent of that name, if it is the same still; NULL: it is not. */
static struct agent *reach(const struct agent *agent, const char *name)
{
    for (int i = 0; i < LOADED_MAX; i++) {
        struct agent *other = find(name);

        if (strcmp(agent->loaded[i].name, name) == 0)
            return other != NULL && other->incarnation == agent->loaded[i].incarnation ? other
                                                                                       : NULL;
    }
    return NULL;
}

static lend_nixl_result metadata_check(void *agent, const char *name, void *list)
{
    const struct list *wanted = list;

    (void)pthread_mutex_lock(&lock);
    const struct agent *other = reach(agent, name);
    bool is_good = other != NULL;
    for (int i = 0; is_good && wanted != NULL && i < wanted->count; i++)
        is_good = covers(&other->registered, wanted->entries[i].address, wanted->entries[i].length);
    return end(is_good ? LEND_NIXL_OK : LEND_NIXL_FAILURE);
}

static lend_nixl_result metadata_forget(void *agent, const char *name)
{
    struct agent *self = agent;

    (void)pthread_mutex_lock(&lock);
    for (int i = 0; i < LOADED_MAX; i++)
        if (strcmp(self->loaded[i].name, name) == 0)
            self->loaded[i].name[0] = '\0';
    return end(LEND_NIXL_OK);
}

/* --- lists --- */

static lend_nixl_result make_list(enum fake_nixl_call call, int *count, void **out)
{
    if (begin(call))
        return end(LEND_NIXL_FAILURE);
    (*count)++;
    *out = calloc(1, sizeof(struct list));
    return end(LEND_NIXL_OK);
}

static lend_nixl_result add(enum fake_nixl_call call, struct list *list, uintptr_t address,
                            size_t length)
{
    if (begin(call))
        return end(LEND_NIXL_FAILURE);
    assert(list->count < ENTRIES_MAX && length > 0);
    list->entries[list->count++] = (struct entry){.address = address, .length = length};
    return end(LEND_NIXL_OK);
}

static lend_nixl_result memory_list_create(int kind, void **out)
{
    assert(kind == LEND_NIXL_MEMORY_DRAM);
    return make_list(FAKE_NIXL_MEMORY_LIST_CREATE, &fake_nixl.memory_lists, out);
}

static lend_nixl_result memory_list_destroy(void *list)
{
    (void)pthread_mutex_lock(&lock);
    fake_nixl.memory_lists--;
    free(list);
    return end(LEND_NIXL_OK);
}

static lend_nixl_result memory_list_add(void *list, uintptr_t address, size_t length,
                                        uint64_t device, const void *extra, size_t extra_count)
{
    (void)device;
    (void)extra;
    (void)extra_count;
    return add(FAKE_NIXL_MEMORY_LIST_ADD, list, address, length);
}

static lend_nixl_result memory_register(void *agent, void *list, void *options)
{
    struct list *registered = &((struct agent *)agent)->registered;

    (void)options;
    if (begin(FAKE_NIXL_MEMORY_REGISTER))
        return end(LEND_NIXL_FAILURE);
    registered->entries[registered->count++] = ((struct list *)list)->entries[0];
    fake_nixl.registered++;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result memory_deregister(void *agent, void *list, void *options)
{
    struct list *registered = &((struct agent *)agent)->registered;
    const struct entry *gone = &((struct list *)list)->entries[0];

    (void)options;
    if (begin(FAKE_NIXL_MEMORY_DEREGISTER))
        return end(LEND_NIXL_FAILURE);
    for (int i = 0; i < registered->count; i++)
        if (registered->entries[i].address == gone->address) {
            registered->entries[i] = registered->entries[--registered->count];
            fake_nixl.registered--;
            return end(LEND_NIXL_OK);
        }
    return end(LEND_NIXL_FAILURE);
}

static lend_nixl_result list_create(int kind, void **out)
{
    assert(kind == LEND_NIXL_MEMORY_DRAM);
    return make_list(FAKE_NIXL_LIST_CREATE, &fake_nixl.lists, out);
}

static lend_nixl_result list_destroy(void *list)
{
    (void)pthread_mutex_lock(&lock);
    fake_nixl.lists--;
    free(list);
    return end(LEND_NIXL_OK);
}

static lend_nixl_result list_add(void *list, uintptr_t address, size_t length, uint64_t device)
{
    (void)device;
    return add(FAKE_NIXL_LIST_ADD, list, address, length);
}

/* --- requests --- */

static void carry_out(const struct request *request)
{
    for (int i = 0; request->to != NULL && i < request->local.count; i++) {
        void *local = (void *)request->local.entries[i].address;
        void *remote = (void *)request->remote.entries[i].address;

        memcpy(request->is_write ? remote : local, request->is_write ? local : remote,
               request->local.entries[i].length);
    }
}

static lend_nixl_result request_create(void *agent, int direction, void *local, void *remote,
                                       const char *name, void **out, void *options)
{
    const struct list *far = remote;

    (void)options;
    if (begin(FAKE_NIXL_REQUEST_CREATE))
        return end(LEND_NIXL_FAILURE);
    struct agent *to = reach(agent, name);
    for (int i = 0; to != NULL && i < far->count; i++)
        if (!covers(&to->registered, far->entries[i].address, far->entries[i].length))
            to = NULL;
    if (to == NULL)
        return end(LEND_NIXL_FAILURE);
    struct request *request = calloc(1, sizeof *request);
    request->to = to;
    request->is_write = direction == LEND_NIXL_WRITE;
    memcpy(&request->local, local, sizeof request->local);
    memcpy(&request->remote, far, sizeof request->remote);
    for (int i = 0; i < request->local.count; i++)
        assert(covers(&((struct agent *)agent)->registered, request->local.entries[i].address,
                      request->local.entries[i].length));
    fake_nixl.requests++;
    *out = request;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result request_post(void *agent, void *it, void *options)
{
    struct request *request = it;

    (void)agent;
    (void)options;
    if (begin(FAKE_NIXL_REQUEST_POST))
        return end(LEND_NIXL_FAILURE);
    if (!fake_nixl.holds) {
        carry_out(request);
        return end(LEND_NIXL_OK);
    }
    request->result = LEND_NIXL_IN_PROGRESS;
    request->next = held;
    held = request;
    return end(LEND_NIXL_IN_PROGRESS);
}

static lend_nixl_result request_status(void *agent, void *it)
{
    (void)agent;
    if (begin(FAKE_NIXL_REQUEST_STATUS))
        return end(LEND_NIXL_FAILURE);
    return end(((struct request *)it)->result);
}

/* As NIXL: it is good, whatever still goes on. */
static lend_nixl_result request_release(void *agent, void *it)
{
    (void)agent;
    (void)pthread_mutex_lock(&lock);
    ((struct request *)it)->is_released = true;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result request_destroy(void *it)
{
    struct request *request = it;
    bool is_held = false;

    (void)pthread_mutex_lock(&lock);
    assert(request->is_released);
    fake_nixl.requests--;
    for (const struct request *at = held; at != NULL; at = at->next)
        is_held |= at == request;
    if (!is_held)
        free(request);
    return end(LEND_NIXL_OK);
}

void fake_nixl_let_go(void)
{
    (void)pthread_mutex_lock(&lock);
    fake_nixl.holds = false;
    for (struct request *request; (request = held) != NULL;) {
        held = request->next;
        if (request->result == LEND_NIXL_IN_PROGRESS) {
            carry_out(request);
            request->result = LEND_NIXL_OK;
        }
        if (request->is_released) {
            fake_nixl.landed_late++;
            free(request);
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

void fake_nixl_kill(const char *name)
{
    (void)pthread_mutex_lock(&lock);
    struct agent *agent = find(name);
    for (struct request *at = held; at != NULL; at = at->next)
        if (at->to == agent)
            at->result = LEND_NIXL_FAILURE;
    if (agent != NULL)
        destroy(agent);
    (void)pthread_mutex_unlock(&lock);
}

/* --- notifications --- */

static bool note(const char *from, const char *to, const void *bytes, size_t count)
{
    struct agent *agent = find(to);

    if (agent == NULL || agent->note_count == NOTES_MAX)
        return false;
    struct note *made = &agent->notes[agent->note_count++];
    (void)snprintf(made->from, sizeof made->from, "%s", from);
    assert(count <= sizeof made->bytes);
    made->count = count;
    if (count > 0)
        memcpy(made->bytes, bytes, count);
    return true;
}

static lend_nixl_result notify(void *agent, const char *name, const void *bytes, size_t count,
                               void *options)
{
    (void)options;
    if (begin(FAKE_NIXL_NOTIFY) || reach(agent, name) == NULL)
        return end(LEND_NIXL_FAILURE);
    return end(note(((struct agent *)agent)->name, name, bytes, count) ? LEND_NIXL_OK
                                                                       : LEND_NIXL_FAILURE);
}

static lend_nixl_result notifications_create(void **out)
{
    struct map *map = calloc(1, sizeof *map);

    if (begin(FAKE_NIXL_NOTIFICATIONS_CREATE)) {
        free(map);
        return end(LEND_NIXL_FAILURE);
    }
    map->notes = calloc(NOTES_MAX, sizeof *map->notes);
    fake_nixl.maps++;
    *out = map;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result notifications_destroy(void *it)
{
    struct map *map = it;

    (void)pthread_mutex_lock(&lock);
    fake_nixl.maps--;
    free(map->notes);
    free(map);
    return end(LEND_NIXL_OK);
}

static lend_nixl_result notifications_clear(void *map)
{
    (void)pthread_mutex_lock(&lock);
    ((struct map *)map)->count = 0;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result notifications_get(void *it, void *to, void *options)
{
    struct agent *agent = it;
    struct map *map = to;

    (void)options;
    bool fails = begin(FAKE_NIXL_NOTIFICATIONS_GET);
    while (fake_nixl.is_stuck) {
        fake_nixl.is_waiting = true;
        (void)pthread_mutex_unlock(&lock);
        (void)sched_yield();
        (void)pthread_mutex_lock(&lock);
    }
    if (fails)
        return end(LEND_NIXL_FAILURE);
    for (int i = 0; i < agent->note_count && map->count < NOTES_MAX; i++)
        map->notes[map->count++] = agent->notes[i];
    agent->note_count = 0;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result notifications_size(void *map, size_t *out)
{
    if (begin(FAKE_NIXL_NOTIFICATIONS_SIZE))
        return end(LEND_NIXL_FAILURE);
    *out = 0;
    for (int i = 0; i < ((struct map *)map)->count; i++) {
        bool is_first = true;

        for (int j = 0; j < i; j++)
            is_first &=
                strcmp(((struct map *)map)->notes[i].from, ((struct map *)map)->notes[j].from) != 0;
        *out += is_first;
    }
    return end(LEND_NIXL_OK);
}

static lend_nixl_result notifications_name(void *it, size_t index, const char **out)
{
    struct map *map = it;
    size_t seen = 0;

    if (begin(FAKE_NIXL_NOTIFICATIONS_NAME))
        return end(LEND_NIXL_FAILURE);
    for (int i = 0; i < map->count; i++) {
        bool is_first = true;

        for (int j = 0; j < i; j++)
            is_first &= strcmp(map->notes[i].from, map->notes[j].from) != 0;
        if (is_first && seen++ == index) {
            *out = map->notes[i].from;
            return end(LEND_NIXL_OK);
        }
    }
    return end(LEND_NIXL_FAILURE);
}

static lend_nixl_result notifications_count(void *it, const char *name, size_t *out)
{
    const struct map *map = it;

    if (begin(FAKE_NIXL_NOTIFICATIONS_COUNT))
        return end(LEND_NIXL_FAILURE);
    *out = 0;
    for (int i = 0; i < map->count; i++)
        *out += strcmp(map->notes[i].from, name) == 0;
    return end(LEND_NIXL_OK);
}

static lend_nixl_result notifications_at(void *it, const char *name, size_t index,
                                         const void **out_bytes, size_t *out_count)
{
    struct map *map = it;
    size_t seen = 0;

    if (begin(FAKE_NIXL_NOTIFICATIONS_AT))
        return end(LEND_NIXL_FAILURE);
    for (int i = 0; i < map->count; i++)
        if (strcmp(map->notes[i].from, name) == 0 && seen++ == index) {
            *out_bytes = map->notes[i].bytes;
            *out_count = map->notes[i].count;
            return end(LEND_NIXL_OK);
        }
    return end(LEND_NIXL_FAILURE);
}

static void give_back(void *bytes)
{
    (void)pthread_mutex_lock(&lock);
    fake_nixl.bytes -= bytes != NULL;
    (void)pthread_mutex_unlock(&lock);
    free(bytes);
}

const struct lend_nixl_ops fake_nixl_ops = {
    .agent_create = agent_create,
    .agent_destroy = agent_destroy,
    .params_create = params_create,
    .params_destroy = params_destroy,
    .params_add = params_add,
    .backend_create = backend_create,
    .backend_destroy = backend_destroy,
    .metadata_get = metadata_get,
    .metadata_load = metadata_load,
    .metadata_check = metadata_check,
    .metadata_forget = metadata_forget,
    .memory_list_create = memory_list_create,
    .memory_list_destroy = memory_list_destroy,
    .memory_list_add = memory_list_add,
    .memory_register = memory_register,
    .memory_deregister = memory_deregister,
    .list_create = list_create,
    .list_destroy = list_destroy,
    .list_add = list_add,
    .request_create = request_create,
    .request_post = request_post,
    .request_status = request_status,
    .request_release = request_release,
    .request_destroy = request_destroy,
    .notify = notify,
    .notifications_create = notifications_create,
    .notifications_destroy = notifications_destroy,
    .notifications_clear = notifications_clear,
    .notifications_get = notifications_get,
    .notifications_size = notifications_size,
    .notifications_name = notifications_name,
    .notifications_count = notifications_count,
    .notifications_at = notifications_at,
    .free = give_back,
};

/* --- what a test does --- */

void fake_nixl_reset(void)
{
    (void)pthread_mutex_lock(&lock);
    for (int i = 0; i < AGENTS_MAX; i++)
        if (agents[i].is_there)
            destroy(&agents[i]);
    memset(&fake_nixl, 0, sizeof fake_nixl);
    fake_nixl.fail_at = -1;
    (void)pthread_mutex_unlock(&lock);
    lend_nixl = &fake_nixl_ops;
}

void fake_nixl_add(const char *name, void *memory, size_t length)
{
    (void)pthread_mutex_lock(&lock);
    struct agent *agent = make(name);
    agent->registered.entries[0] = (struct entry){.address = (uintptr_t)memory, .length = length};
    agent->registered.count = 1;
    (void)pthread_mutex_unlock(&lock);
}

void fake_nixl_tell(const char *name, void *bytes, size_t *out_count)
{
    struct metadata metadata;

    (void)pthread_mutex_lock(&lock);
    tell(find(name), &metadata);
    (void)pthread_mutex_unlock(&lock);
    memcpy(bytes, &metadata, sizeof metadata);
    *out_count = sizeof metadata;
}

bool fake_nixl_notify(const char *from, const char *to, const void *bytes, size_t count)
{
    (void)pthread_mutex_lock(&lock);
    bool is_there = note(from, to, bytes, count);
    (void)pthread_mutex_unlock(&lock);
    return is_there;
}

int fake_nixl_notified(const char *name, char *text, size_t capacity)
{
    (void)pthread_mutex_lock(&lock);
    const struct agent *agent = find(name);
    int count = agent != NULL ? agent->note_count : 0;
    if (count > 0)
        (void)snprintf(text, capacity, "%.*s", (int)agent->notes[count - 1].count,
                       (const char *)agent->notes[count - 1].bytes);
    (void)pthread_mutex_unlock(&lock);
    return count;
}

bool fake_nixl_store(const char *to, void *address, uint8_t value, size_t length)
{
    (void)pthread_mutex_lock(&lock);
    const struct agent *agent = find(to);
    bool is_there = agent != NULL && covers(&agent->registered, (uintptr_t)address, length);
    if (is_there)
        memset(address, value, length);
    (void)pthread_mutex_unlock(&lock);
    return is_there;
}
