/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/demo.h"

#include "tool/output.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { TEXT_BYTES = 160 };

static void add(struct libscols_table *table, const char *what, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add(struct libscols_table *table, const char *what, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    table_row(table, (const char *const[]){what, text});
}

static void add_ns(struct libscols_table *table, const char *what, int64_t ns)
{
    char text[32];

    add(table, what, "%s", print_ns(text, sizeof text, ns));
}

/* A transfer of the job's bytes in that time. */
static void add_pull(struct libscols_table *table, const char *what, const struct job *job,
                     uint64_t ns)
{
    char time[32];
    char rate[32];

    add(table, what, "%s, %s", print_ns(time, sizeof time, (int64_t)ns),
        print_rate(rate, sizeof rate, rate_of(job->bytes, ns)));
}

/* How many times as fast as the copy the pull was; 0: nothing was measured. */
static double times_of(uint64_t copy_ns, uint64_t pull_ns)
{
    return pull_ns == 0 ? 0.0 : (double)copy_ns / (double)pull_ns;
}

/* What the owner does for comparison: with memory of a GPU, it is the driver's work. */
static const char *name_copy(const struct options *options)
{
    return options->endpoint.memory_kind == LEND_MEMORY_DEVICE ? "cuMemcpyDtoDAsync" : "memcpy";
}

static void print_copies(struct libscols_table *table, const struct options *options,
                         const struct job *job)
{
    const char *copy = name_copy(options);
    char first[64], warm[64], beside[64];

    (void)snprintf(first, sizeof first, "%s of the same, first", copy);
    (void)snprintf(warm, sizeof warm, "%s of the same, warm", copy);
    (void)snprintf(beside, sizeof beside, "pull beside %s", copy);
    add_pull(table, "pull, first", job, job->cold_pull_ns);
    add_pull(table, "pull, warm", job, job->pull_ns);
    add_pull(table, first, job, job->cold_copy_ns);
    add_pull(table, warm, job, job->copy_ns);
    add(table, beside, "%.2fx first, %.2fx warm", times_of(job->cold_copy_ns, job->cold_pull_ns),
        times_of(job->copy_ns, job->pull_ns));
}

static void print_job(const struct options *options, const struct job *job)
{
    const struct model *model = options->endpoint.model;
    struct libscols_table *table =
        table_create((const char *const[]){"the main job", "measured"}, 2);
    char lent[32];
    char moved[32];
    char block[32];

    add(table, "model", "%s: %u layers, %u tensors of %u blocks of %s (%d tokens, bf16)",
        model->name, model->layers, model_region_count(model), job->owner_block_count,
        print_bytes(block, sizeof block, model_block_bytes(model)), MODEL_BLOCK_TOKENS);
    add(table, "lent", "%s", print_bytes(lent, sizeof lent, job->lent_bytes));
    if (job->device[0] != '\0')
        add(table, "memory", "%s: %s", options_kind_name(options->endpoint.memory_kind),
            job->device);
    add(table, "pulled", "%" PRIu64 " scattered blocks (%u of each tensor), %s; seed %" PRIu64,
        job->pieces, job->block_count, print_bytes(moved, sizeof moved, job->bytes), options->seed);
    add(table, "checked", "%" PRIu64 " bytes in %d rounds, %" PRIu64 " blocks wrong",
        job->bytes_right, DEMO_ROUNDS, job->pieces_wrong);
    add(table, "path", "%s", job->path);
    add_ns(table, "register all tensors", (int64_t)job->register_ns);
    add(table, "metadata", "%" PRIu64 " bytes", job->metadata_bytes);
    add(table, "ticket", "%" PRIu64 " bytes", job->ticket_bytes);
    add_ns(table, "import and prepare", (int64_t)job->prepare_ns);
    add_ns(table, "connect", (int64_t)job->connect_ns);
    add_ns(table, "post", (int64_t)job->post_ns);
    print_copies(table, options, job);
    add_ns(table, "notification after the data", job->notify_ns);
    table_print(table);
}

static void print_acts(const struct acts *acts)
{
    struct libscols_table *table = table_create(
        (const char *const[]){"act", "done", "expected", "seen", ">slowest", "verdict"}, 6);

    for (uint32_t i = 0; i < acts->row_count; i++) {
        const struct act_row *row = &acts->rows[i];
        char seen[TEXT_BYTES];
        char slowest[32];

        table_row(table,
                  (const char *const[]){row->act, row->done, row->expected,
                                        act_row_seen(row, seen, sizeof seen),
                                        print_ns(slowest, sizeof slowest, (int64_t)row->slowest_ns),
                                        act_row_verdict(row, acts->iterations)});
    }
    table_print(table);
    (void)printf("Slowest: the revoke (act 1), the answer (2), from cancel to quiet (3), "
                 "until the other side was told, or the memory was back (4).\n");
    for (uint32_t i = 0; i < acts->row_count; i++) {
        if (acts->rows[i].wrong > 0)
            (void)printf("wrong %u of %u: %s: %s\n", acts->rows[i].wrong, acts->rows[i].repetitions,
                         acts->rows[i].done, acts->rows[i].reason);
    }
}

void demo_print(const struct options *options, const struct job *job, const struct acts *acts)
{
    print_job(options, job);
    print_acts(acts);
    (void)fflush(stdout);
}

static json_int_t number(uint64_t value)
{
    return (json_int_t)value;
}

static json_t *describe_job(const struct options *options, const struct job *job)
{
    json_t *made = json_pack("{s:s, s:s?, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I}",
                             "memory", options_kind_name(options->endpoint.memory_kind), "device",
                             job->device[0] == '\0' ? NULL : job->device, "blocks_per_region",
                             number(job->block_count), "pieces", number(job->pieces), "bytes",
                             number(job->bytes), "lent_bytes", number(job->lent_bytes), "path",
                             job->path, "register_ns", number(job->register_ns), "metadata_bytes",
                             number(job->metadata_bytes), "ticket_bytes", number(job->ticket_bytes),
                             "prepare_ns", number(job->prepare_ns), "connect_ns",
                             number(job->connect_ns), "post_ns", number(job->post_ns));
    json_t *times =
        json_pack("{s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:i, s:I, s:I}", "cold_pull_ns",
                  number(job->cold_pull_ns), "pull_ns", number(job->pull_ns), "cold_memcpy_ns",
                  number(job->cold_copy_ns), "memcpy_ns", number(job->copy_ns),
                  "pull_bytes_per_second", rate_of(job->bytes, job->pull_ns),
                  "memcpy_bytes_per_second", rate_of(job->bytes, job->copy_ns),
                  "cold_pull_to_memcpy", times_of(job->cold_copy_ns, job->cold_pull_ns),
                  "pull_to_memcpy", times_of(job->copy_ns, job->pull_ns), "notification_ns",
                  (json_int_t)job->notify_ns, "rounds", DEMO_ROUNDS, "bytes_right",
                  number(job->bytes_right), "pieces_wrong", number(job->pieces_wrong));

    if (made != NULL && times != NULL)
        (void)json_object_update(made, times);
    json_decref(times);
    return made;
}

static json_t *describe_row(const struct act_row *row, uint32_t iterations)
{
    json_t *seen = json_object();
    json_t *paths = json_object();

    for (uint32_t i = 0; i < row->seen_count; i++)
        (void)json_object_set_new(seen, lend_status_name(row->seen[i].status),
                                  json_integer(row->seen[i].count));
    for (uint32_t i = 0; i < row->path_count; i++)
        (void)json_object_set_new(paths, row->paths[i].name, json_integer(row->paths[i].count));
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:i, s:i, s:I, s:s, s:s}", "act", row->act, "done",
                     row->done, "expected", row->expected, "seen", seen, "paths", paths,
                     "repetitions", (int)row->repetitions, "wrong", (int)row->wrong, "slowest_ns",
                     number(row->slowest_ns), "reason", row->reason, "verdict",
                     act_row_verdict(row, iterations));
}

enum lend_status demo_print_json(const struct options *options, const struct job *job,
                                 const struct acts *acts, const char *failure,
                                 struct lend_error *error)
{
    bool is_right = failure == NULL && acts_count_wrong(acts) == 0;
    const struct model *model = options->endpoint.model;
    json_t *rows = json_array();

    for (uint32_t i = 0; i < acts->row_count; i++)
        (void)json_array_append_new(rows, describe_row(&acts->rows[i], acts->iterations));
    json_t *shape = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:s}", "name", model->name, "layers",
                              (int)model->layers, "regions", (int)model_region_count(model),
                              "blocks_per_region", (int)job->owner_block_count, "block_bytes",
                              (int)model_block_bytes(model), "block_tokens", MODEL_BLOCK_TOKENS,
                              "source", model->source);
    json_t *all =
        json_pack("{s:s, s:I, s:o, s:o, s:o, s:s?, s:s}", "version", lend_version(), "seed",
                  number(options->seed), "model", shape, "job", describe_job(options, job), "acts",
                  rows, "failure", failure, "verdict", is_right ? "right" : "wrong");

    return json_show(all, false, error);
}
