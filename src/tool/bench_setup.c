/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/bench_pair.h"

#include "tool/trouble.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* What comes before the first transfer: agents, regions, metadata, and preparing. */

static const char section[] = "setup";

enum {
    MODEL_REGIONS = 122,
    MODEL_BLOCKS = 16384,
    MODEL_BLOCK_BYTES = 512,
    MANY_REGIONS = 10000,
    MANY_APART_BYTES = 8192,
    MANY_BYTES = 4096,
    RAW_PAGES = 16384,
};

/* --- an agent --- */

static double create_agent(void)
{
    uint64_t began = now_ns();
    struct lend_agent *agent = must_open_agent("bench-agent", 0);
    double took = (double)(now_ns() - began);

    lend_agent_destroy(agent);
    return took;
}

static void *wait_for_event(void *context)
{
    uint64_t count;

    must_sys(read(*(int *)context, &count, sizeof count) == sizeof count, "an event");
    return NULL;
}

/* What no agent does without: a socket that listens, a page to share, a way to wake, a thread. */
static double create_raw(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    pthread_t thread;
    uint64_t wake = 1;
    uint64_t began = now_ns();
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int watch = epoll_create1(EPOLL_CLOEXEC);
    int event = eventfd(0, EFD_CLOEXEC);
    int file = memfd_create("bench", MFD_CLOEXEC);

    must_sys(listener >= 0 && watch >= 0 && event >= 0 && file >= 0, "descriptors");
    must_sys(bind(listener, (struct sockaddr *)&address, sizeof address.sun_family) == 0 &&
                 listen(listener, 16) == 0,
             "a socket that listens");
    must_sys(ftruncate(file, RAW_PAGES) == 0, "a page to share");
    void *page = mmap(NULL, RAW_PAGES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    must_sys(page != MAP_FAILED, "a page to share");
    must_sys(pthread_create(&thread, NULL, wait_for_event, &event) == 0, "a thread");
    double took = (double)(now_ns() - began);

    must_sys(write(event, &wake, sizeof wake) == sizeof wake, "an event");
    (void)pthread_join(thread, NULL);
    (void)munmap(page, RAW_PAGES);
    (void)close(file);
    (void)close(event);
    (void)close(watch);
    (void)close(listener);
    return took;
}

static void measure_agent(struct bench *bench)
{
    struct samples ours = {0}, raw = {0};

    for (uint32_t i = 0; i < bench->rounds; i++) {
        samples_add(&ours, create_agent());
        samples_add(&raw, create_raw());
    }
    struct row *row = report_row(bench, section, "create an agent");
    row->figure = samples_take(&ours, 1);
    row_beside(row, "socket, epoll, eventfd, memfd, thread", &raw, 1);
}

/* --- regions --- */

/* The time that the kernel takes to list the mappings of this process. */
static double list_mappings(void)
{
    enum { LIST_BYTES = 1 << 16 };
    static char text[LIST_BYTES];
    uint64_t began = now_ns();
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

    must_sys(file >= 0, "the list of mappings");
    while (read(file, text, sizeof text) > 0)
        continue;
    (void)close(file);
    return (double)(now_ns() - began);
}

struct registering {
    struct lend_agent *agent;
    struct lend_region_desc *descs;
    struct lend_region **regions;
};

static double register_some(const struct registering *registering, uint32_t count)
{
    struct lend_error error;
    uint64_t began = now_ns();
    enum lend_status status = lend_region_register(registering->agent, registering->descs, count,
                                                   registering->regions, NULL, &error);
    double took = (double)(now_ns() - began);

    must(status, &error);
    for (uint32_t i = 0; i < count; i++)
        must(lend_region_deregister(registering->regions[i], &error), &error);
    return took;
}

static void measure_registers(struct bench *bench, const struct registering *registering)
{
    struct samples one = {0}, many = {0}, list_one = {0}, list_many = {0};

    for (uint32_t i = 0; i < bench->rounds; i++) {
        samples_add(&list_one, list_mappings());
        samples_add(&one, register_some(registering, 1));
        samples_add(&list_many, list_mappings());
        samples_add(&many, register_some(registering, MANY_REGIONS));
    }
    struct row *row = report_row(bench, section, "register one region");
    row->figure = samples_take(&one, 1);
    row_beside(row, "listing /proc/self/maps", &list_one, 1);
    row->goal = (struct goal){.kind = GOAL_PLUS, .limit = 100e3};

    row = report_row(bench, section, "register 10,000 regions in a call, each");
    row->figure = samples_take(&many, MANY_REGIONS);
    row_beside(row, "its share of listing /proc/self/maps", &list_many, MANY_REGIONS);
    row->goal = (struct goal){.kind = GOAL_TIME, .limit = 500};
}

static void measure_regions(struct bench *bench)
{
    uint64_t bytes = (uint64_t)MANY_REGIONS * MANY_APART_BYTES;
    unsigned char *memory = must_map(bytes);
    struct registering registering = {
        .agent = must_open_agent("bench-owner", 0),
        .descs = must_allocate(MANY_REGIONS, sizeof *registering.descs),
        .regions = must_allocate(MANY_REGIONS, sizeof(struct lend_region *)),
    };
    struct lend_error error;

    for (uint32_t i = 0; i < MANY_REGIONS; i++) {
        struct lend_region_desc *desc = &registering.descs[i];

        lend_region_desc_init(desc);
        desc->access = LEND_ACCESS_READ;
        must(lend_memory_system(memory + (uint64_t)i * MANY_APART_BYTES, MANY_BYTES, &desc->memory,
                                &error),
             &error);
    }
    measure_registers(bench, &registering);
    lend_agent_destroy(registering.agent);
    free(registering.descs);
    free(registering.regions);
    (void)munmap(memory, bytes);
}

/* --- metadata and preparing --- */

/* An agent with the regions of a model, of memory that is never touched. */
struct model_agent {
    struct lend_agent *agent;
    unsigned char *memory;
    struct lend_region *regions[MODEL_REGIONS];
};

static const uint64_t model_region_bytes = (uint64_t)MODEL_BLOCKS * MODEL_BLOCK_BYTES;

static void open_model(struct model_agent *model, const char *name)
{
    struct lend_region_desc *descs = must_allocate(MODEL_REGIONS, sizeof *descs);
    char names[MODEL_REGIONS][16];
    struct lend_error error;

    model->agent = must_open_agent(name, 0);
    model->memory = mmap(NULL, MODEL_REGIONS * model_region_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must_sys((void *)model->memory != MAP_FAILED, "addresses for 122 regions");
    for (uint32_t i = 0; i < MODEL_REGIONS; i++) {
        (void)snprintf(names[i], sizeof names[i], "tensor.%u", i);
        lend_region_desc_init(&descs[i]);
        must(lend_memory_system(model->memory + i * model_region_bytes, model_region_bytes,
                                &descs[i].memory, &error),
             &error);
        descs[i].geometry.block_length_bytes = MODEL_BLOCK_BYTES;
        descs[i].geometry.count = MODEL_BLOCKS;
        descs[i].access = LEND_ACCESS_READ;
        descs[i].name = names[i];
    }
    must(lend_region_register(model->agent, descs, MODEL_REGIONS, model->regions, NULL, &error),
         &error);
    free(descs);
}

static void close_model(struct model_agent *model)
{
    lend_agent_destroy(model->agent);
    (void)munmap(model->memory, MODEL_REGIONS * model_region_bytes);
}

struct blob {
    size_t count;
    unsigned char bytes[BENCH_METADATA_MAX];
};

static double export_model(const struct model_agent *model, struct blob *out)
{
    struct lend_error error;
    uint64_t began = now_ns();
    enum lend_status status =
        lend_metadata_export(model->agent, out->bytes, sizeof out->bytes, &out->count, &error);
    double took = (double)(now_ns() - began);

    must(status, &error);
    return took;
}

/* Returns the time of both, and in out_prepare_ns that of preparing alone. */
static double import_model(struct model_agent *model, const struct blob *blob,
                           double *out_prepare_ns)
{
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    struct lend_peer *peer = NULL;
    uint64_t remote[MODEL_REGIONS];
    struct lend_error error;
    uint64_t began = now_ns();

    must(lend_peer_import(model->agent, blob->bytes, blob->count, &peer, &error), &error);
    uint64_t imported = now_ns();
    for (uint32_t i = 0; i < MODEL_REGIONS; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "tensor.%u", i);
        must(lend_peer_region(peer, name, &remote[i], &error), &error);
    }
    desc.direction = LEND_READ;
    desc.peer = peer;
    desc.region_count = MODEL_REGIONS;
    desc.local_regions = model->regions;
    desc.remote_regions = remote;
    desc.block_count_max = MODEL_BLOCKS;
    enum lend_status status = lend_transfer_prepare(model->agent, &desc, &transfer, &error);
    uint64_t ended = now_ns();

    must(status, &error);
    must(lend_transfer_release(transfer), &error);
    lend_peer_forget(peer);
    *out_prepare_ns = (double)(ended - imported);
    return (double)(ended - began);
}

/* A descriptor for every block: what a library of lists has its user fill on one side. */
static double list_blocks(struct lend_transfer_descriptor *list, const unsigned char *memory)
{
    uint64_t began = now_ns();

    for (uint64_t i = 0; i < (uint64_t)MODEL_REGIONS * MODEL_BLOCKS; i++)
        list[i] = (struct lend_transfer_descriptor){
            .address = (uintptr_t)memory + i * MODEL_BLOCK_BYTES,
            .length_bytes = MODEL_BLOCK_BYTES,
        };
    return (double)(now_ns() - began);
}

static double copy_blob(const struct blob *blob)
{
    static unsigned char copy[BENCH_METADATA_MAX];
    uint64_t began = now_ns();

    memcpy(copy, blob->bytes, blob->count);
    __asm__ volatile("" : : "r"(copy) : "memory");
    return (double)(now_ns() - began);
}

static void measure_model(struct bench *bench)
{
    struct lend_transfer_descriptor *list =
        must_allocate((uint64_t)MODEL_REGIONS * MODEL_BLOCKS, sizeof *list);
    struct samples exports = {0}, copies = {0}, prepares = {0}, both = {0}, lists = {0};
    struct blob *blob = must_allocate(1, sizeof *blob);
    struct model_agent owner, reader;

    open_model(&owner, "bench-owner");
    open_model(&reader, "bench-reader");
    (void)list_blocks(list, reader.memory); /* once, so that its pages are there */
    for (uint32_t i = 0; i < bench->rounds; i++) {
        double prepare_ns = 0;

        samples_add(&exports, export_model(&owner, blob));
        samples_add(&copies, copy_blob(blob));
        samples_add(&both, import_model(&reader, blob, &prepare_ns));
        samples_add(&prepares, prepare_ns);
        samples_add(&lists, list_blocks(list, reader.memory));
    }
    close_model(&reader);
    close_model(&owner);
    free(blob);
    free(list);

    struct row *row = report_row(bench, section, "export 122 regions of 16,384 blocks");
    row->figure = samples_take(&exports, 1);
    row_beside(row, "memcpy of the metadata", &copies, 1);
    struct row *whole = report_row(bench, section, "import and prepare 122 regions");
    whole->figure = samples_take(&both, 1);
    row_beside(whole, "writing a descriptor a block", &lists, 1);
    whole->goal = (struct goal){.kind = GOAL_TIME, .limit = 1e6};
    row = report_row(bench, section, "of that, prepare");
    row->figure = samples_take(&prepares, 1);
    row_share_besides(row, whole);
}

void bench_setup(struct bench *bench)
{
    measure_agent(bench);
    measure_regions(bench);
    measure_model(bench);
}
