/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TRANSPORT_VERBS_NEAR_H
#define LEND_TRANSPORT_VERBS_NEAR_H

#include "memory/lane.h"

#include <stdbool.h>
#include <stdint.h>

struct lend_verbs_nic;

/* How far NICs are from GPUs, as the kernel tells where PCI devices are. */

enum {                                /* at most UINT8_MAX, as they are told in a byte */
       LEND_VERBS_ON_NODE = 100,      /* under other root ports, of one NUMA node */
       LEND_VERBS_ACROSS_NODES = 200, /* or of two, or it is not known */
};

/* Where the kernel tells of each PCI device by its name. A test points it elsewhere. */
extern const char *lend_verbs_pci_folder;

/* The PCI device of a folder of the kernel's. False: it is none, and the name is as it was. */
bool lend_verbs_pci_name(const char *folder, char name[LEND_PCI_BYTES]);
/* The steps between two PCI devices ("0000:3b:00.0") over bridges that they have in common; 1 for
 * one and the same. 0: it is not known of one of them where it is. */
uint32_t lend_verbs_distance(const char *one, const char *other);
/* That between a NIC and the GPU of a lane. Asks the driver, and reads files. */
uint32_t lend_verbs_distance_of_gpu(const struct lend_verbs_nic *nic, const struct lend_lane *lane);

#endif
