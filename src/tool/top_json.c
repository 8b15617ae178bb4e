/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/statistics_fields.h"
#include "tool/top.h"

#include <inttypes.h>
#include <lend/region.h>
#include <stdio.h>

/* What `lend top --json` prints: one object, with every number of the pages. */

static json_t *whole(uint64_t value)
{
    return json_integer(value < INT64_MAX ? (json_int_t)value : INT64_MAX);
}

static json_t *seconds(uint64_t ns)
{
    return json_real((double)ns / 1e9);
}

static json_t *lease_json(const struct top_view *view, const struct lend_statistics_lease *row)
{
    uint64_t now = view->now->taken_ns;
    char id[24];

    (void)snprintf(id, sizeof id, "%" PRIx64, row->id);
    return json_pack("{s:s, s:s, s:o, s:o, s:b, s:b, s:s?, s:s?, s:o, s:o?, s:o, s:o}", "id", id,
                     "region", row->region, "regions", whole(row->region_count), "blocks",
                     whole(row->block_count), "reads", (row->access & LEND_ACCESS_READ) != 0,
                     "writes", (row->access & LEND_ACCESS_WRITE) != 0, "peer",
                     row->peer[0] != '\0' ? row->peer : NULL, "last_user",
                     row->last_user[0] != '\0' ? row->last_user : NULL, "age_s",
                     seconds(statistics_age_ns(now, row->granted_ns)), "expires_in_s",
                     row->expires_ns != 0 ? seconds(statistics_age_ns(row->expires_ns, now)) : NULL,
                     "requests", whole(row->requests), "bytes", whole(row->bytes));
}

static json_t *peer_json(const struct top_view *view, const struct statistics_file *file, size_t at)
{
    const struct lend_statistics_peer *row = &file->page->peer_rows[at];
    const struct lend_statistics_peer *old = top_peer_before(view, file, at);

    return json_pack(
        "{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:f, s:f}", "id", whole(row->id), "peer", row->name,
        "age_s", seconds(statistics_age_ns(view->now->taken_ns, row->connected_ns)), "requests",
        whole(row->requests), "requests_active", whole(row->requests_active), "bytes_read",
        whole(row->bytes_read), "bytes_written", whole(row->bytes_written), "read_bytes_per_second",
        old != NULL ? top_rate(view, row->bytes_read, old->bytes_read) : 0.0,
        "written_bytes_per_second",
        old != NULL ? top_rate(view, row->bytes_written, old->bytes_written) : 0.0);
}

static json_t *path_json(const struct top_view *view, const struct statistics_file *file, size_t at)
{
    const struct lend_statistics_path *row = &file->page->paths[at];
    const struct lend_statistics_path *old = top_path_before(view, file, at);

    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:f, s:f}", "path", row->name, "transfers",
                     whole(row->transfers), "transfers_failed", whole(row->transfers_failed),
                     "bytes_read", whole(row->bytes_read), "bytes_written",
                     whole(row->bytes_written), "read_bytes_per_second",
                     old != NULL ? top_rate(view, row->bytes_read, old->bytes_read) : 0.0,
                     "written_bytes_per_second",
                     old != NULL ? top_rate(view, row->bytes_written, old->bytes_written) : 0.0);
}

/* Each append fails where there was no memory for what it appends. */
static int add_rows(const struct top_view *view, const struct statistics_file *file, json_t *agent)
{
    json_t *leases = json_array(), *peers = json_array(), *paths = json_array();
    const struct lend_statistics *page = file->page;
    int failed = 0;

    for (size_t i = 0; i < LEND_STATISTICS_LEASES; i++)
        if (page->lease_rows[i].id != 0)
            failed |= json_array_append_new(leases, lease_json(view, &page->lease_rows[i]));
    for (size_t i = 0; i < LEND_STATISTICS_PEERS; i++)
        if (page->peer_rows[i].id != 0)
            failed |= json_array_append_new(peers, peer_json(view, file, i));
    for (size_t i = 0; i < LEND_STATISTICS_PATHS; i++)
        if (statistics_path_is_told(page, i))
            failed |= json_array_append_new(paths, path_json(view, file, i));
    failed |= json_object_set_new(agent, "lease_rows", leases);
    failed |= json_object_set_new(agent, "peer_rows", peers);
    return failed | json_object_set_new(agent, "paths", paths);
}

static json_t *agent_json(const struct top_view *view, const struct statistics_file *file)
{
    const struct lend_statistics *page = file->page;
    json_t *agent = json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:o, s:i}", "file", file->name,
                              "state", file->state == STATISTICS_LIVE ? "live" : "stale", "agent",
                              page->name, "incarnation", file->incarnation, "pid", whole(page->pid),
                              "version", page->library_version, "uptime_s",
                              seconds(statistics_age_ns(view->now->taken_ns, page->started_ns)),
                              "rows_skipped", (int)file->rows_skipped);
    int failed = agent == NULL;

    for (size_t i = 0; i < statistics_fields_count; i++)
        failed |= json_object_set_new(agent, statistics_fields[i].name,
                                      whole(statistics_field_of(page, i)));
    if (file->state == STATISTICS_LIVE)
        failed |= add_rows(view, file, agent);
    if (failed == 0)
        return agent;
    json_decref(agent);
    return NULL;
}

json_t *top_json(const struct top_view *view)
{
    json_t *agents = json_array(), *unreadable = json_array();
    const struct statistics_list *now = view->now;
    int failed = 0;

    for (uint64_t i = 0; i < now->files_count; i++) {
        const struct statistics_file *file = &now->files[i];

        if (file->page != NULL)
            failed |= json_array_append_new(agents, agent_json(view, file));
        else
            failed |= json_array_append_new(
                unreadable, json_pack("{s:s, s:s}", "file", file->name, "reason", file->reason));
    }
    json_t *result =
        json_pack("{s:s, s:f, s:o, s:o, s:o}", "directory", now->directory, "interval_s",
                  (double)statistics_age_ns(now->taken_ns, view->before->taken_ns) / 1e9, "agents",
                  agents, "unreadable", unreadable, "files_omitted", whole(now->omitted));
    if (failed == 0)
        return result;
    json_decref(result);
    return NULL;
}
