/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_TRIAL_H
#define LEND_TRANSPORT_VERBS_TRIAL_H

#include "memory/lane.h"
#include "transport/verbs/device.h"

/*
 * Memory of a GPU is exported to NICs (dma-buf) in two ways: as the driver does by default, and by
 * PCIe. Which of them leads to the GPU is a matter of how both are joined, and NICs register
 * either: so it is tried.
 */

/*
 * Have the NIC read what the GPU holds, by an export with that flag (0 or LEND_CUDA_HANDLE_BY_PCIE)
 * and a queue pair that is joined to itself. Waits for the GPU, and up to a second for the NIC.
 * LEND_E_CORRUPT: it read other bytes, or none. Any other status: it could not be tried, or is not
 * there, and says nothing of the way.
 */
enum lend_status lend_verbs_try_export(struct lend_verbs_nic *nic, struct lend_lane *lane,
                                       unsigned flag, struct lend_error *error);

#endif
