/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/statistics_fields.h"

#include <lend/statistics.h>
#include <string.h>

#define GAUGE(field, metric, help)                                                                 \
    {                                                                                              \
#field, metric, NULL, NULL, help, false, offsetof(struct lend_statistics, field)           \
    }
#define TOTAL(field, metric, label, value, help)                                                   \
    {                                                                                              \
#field, metric, label, value, help, true, offsetof(struct lend_statistics, field)          \
    }

static const char ended[] = "Leases that have ended, by cause.";
static const char served[] = "Bytes moved for peers, by direction.";

const struct statistics_field statistics_fields[] = {
    GAUGE(regions, "lend_regions", "Regions that are registered."),
    GAUGE(region_bytes, "lend_region_bytes", "Bytes of the registered regions."),
    GAUGE(regions_withdrawn, "lend_regions_withdrawn",
          "Regions that are withdrawn, and still registered."),
    GAUGE(leases, "lend_leases", "Leases that live."),
    GAUGE(leases_omitted, "lend_leases_omitted", "Live leases without a row on the page."),
    GAUGE(peers_imported, "lend_peers_imported", "Peers that were imported."),
    GAUGE(peers_served, "lend_peers_served", "Connections of peers that are served."),
    GAUGE(peers_omitted, "lend_peers_omitted", "Served connections without a row on the page."),
    GAUGE(transfers_prepared, "lend_transfers_prepared", "Transfers that are prepared."),
    GAUGE(notifications_waiting, "lend_notifications_waiting",
          "Notifications that the application has not taken yet."),
    TOTAL(leases_granted, "lend_leases_granted_total", NULL, NULL, "Leases that were granted."),
    TOTAL(leases_revoked, "lend_leases_ended_total", "cause", "revoked", ended),
    TOTAL(leases_expired, "lend_leases_ended_total", "cause", "expired", ended),
    TOTAL(leases_consumed, "lend_leases_ended_total", "cause", "consumed", ended),
    TOTAL(leases_peer_dead, "lend_leases_ended_total", "cause", "peer_dead", ended),
    TOTAL(requests_served, "lend_requests_served_total", NULL, NULL,
          "Requests of peers that ended well."),
    TOTAL(requests_refused, "lend_requests_refused_total", NULL, NULL,
          "Requests of peers that ended otherwise."),
    TOTAL(bytes_served_read, "lend_served_bytes_total", "direction", "read", served),
    TOTAL(bytes_served_written, "lend_served_bytes_total", "direction", "write", served),
    TOTAL(notifications_sent, "lend_notifications_sent_total", NULL, NULL,
          "Notifications that were sent."),
    TOTAL(notifications_received, "lend_notifications_received_total", NULL, NULL,
          "Notifications that came."),
    TOTAL(sessions_broken, "lend_sessions_broken_total", NULL, NULL,
          "Connections that were cut because the peer broke the protocol."),
    TOTAL(secrets_refused, "lend_secrets_refused_total", NULL, NULL,
          "Connections that ended before they proved to have the agent's secret."),
};
const size_t statistics_fields_count = sizeof statistics_fields / sizeof statistics_fields[0];

uint64_t statistics_field_of(const struct lend_statistics *page, size_t index)
{
    uint64_t value;

    memcpy(&value, (const char *)page + statistics_fields[index].offset, sizeof value);
    return value;
}
