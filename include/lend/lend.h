/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_LEND_H
#define LEND_LEND_H

/**
 * @file
 * The whole public API of lend.
 *
 * Lend a tensor that you own, in ten lines (error handling left out; examples/lend_tensor.c has
 * it):
 *
 *     struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
 *     config.name = "engine-0";
 *     lend_agent_create(&config, &agent, &error);
 *     struct lend_region_desc tensor = LEND_REGION_DESC_INIT;
 *     lend_memory_system(pointer, bytes, &tensor.memory, &error);
 *     tensor.geometry.block_length_bytes = 65536, tensor.geometry.count = bytes / 65536;
 *     tensor.access = LEND_ACCESS_READ, tensor.name = "layers.0.k";
 *     lend_region_register(agent, &tensor, 1, &region, NULL, &error);
 *     struct lend_block_set set = {.regions = &region, .region_count = 1, .first = 0, .count = 64};
 *     struct lend_grant_desc grant = LEND_GRANT_DESC_INIT;
 *     grant.sets = &set, grant.set_count = 1, grant.access = LEND_ACCESS_READ;
 *     grant.time_to_live_ns = 30000000000;
 *     lend_lease_grant(agent, &grant, &lease, &error);
 *     lend_ticket_export(lease, ticket, sizeof ticket, &ticket_bytes, &error);
 *
 * and take it back: lend_lease_revoke(lease, &error) before you overwrite the blocks, and
 * lend_region_withdraw(region, LEND_WITHDRAW_FORCE, timeout_ns, &error) before you free them.
 */

#include <lend/agent.h>
#include <lend/discovery.h>
#include <lend/explain.h>
#include <lend/lease.h>
#include <lend/memory.h>
#include <lend/nixl.h>
#include <lend/notification.h>
#include <lend/peer.h>
#include <lend/region.h>
#include <lend/statistics.h>
#include <lend/status.h>
#include <lend/storage.h>
#include <lend/transfer.h>

#endif
