/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/near.h"

#include "transport/verbs/device.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 12, PATH_BYTES = 384, TEXT_BYTES = 1024 };

const char *lend_verbs_pci_folder = "/sys/bus/pci/devices";

/* A PCI device and the bridges above it, up to the root complex. */
struct chain {
    uint32_t count;
    char names[DEPTH_MAX][LEND_PCI_BYTES];
    long numa_node; /* -1: not known */
};

bool lend_verbs_pci_name(const char *folder, char name[LEND_PCI_BYTES])
{
    static const char key[] = "PCI_SLOT_NAME=";
    char path[PATH_BYTES], text[TEXT_BYTES];

    (void)snprintf(path, sizeof path, "%s/uevent", folder);
    if (!lend_verbs_read_text(path, text, sizeof text))
        return false;
    const char *at = strstr(text, key);
    if (at == NULL)
        return false;
    at += sizeof key - 1;
    (void)snprintf(name, LEND_PCI_BYTES, "%.*s", (int)strcspn(at, "\n"), at);
    return true;
}

/* The folder of a device lies in that of the bridge above it, wherever one got to it by a link. */
static void read_chain(const char *name, struct chain *out)
{
    char folder[PATH_BYTES - 16], path[PATH_BYTES], text[TEXT_BYTES];
    int length = snprintf(folder, sizeof folder, "%s/%s", lend_verbs_pci_folder, name);

    out->count = 0;
    (void)snprintf(path, sizeof path, "%s/numa_node", folder);
    out->numa_node = lend_verbs_read_text(path, text, sizeof text) ? strtol(text, NULL, 10) : -1;
    while (out->count < DEPTH_MAX && (size_t)length + 3 < sizeof folder &&
           lend_verbs_pci_name(folder, out->names[out->count])) {
        out->count++;
        length += snprintf(folder + length, sizeof folder - (size_t)length, "/..");
    }
}

uint32_t lend_verbs_distance(const char *one, const char *other)
{
    struct chain ours, theirs;

    read_chain(one, &ours);
    read_chain(other, &theirs);
    if (ours.count == 0 || theirs.count == 0)
        return 0;
    for (uint32_t i = 0; i < ours.count; i++)
        for (uint32_t j = 0; j < theirs.count; j++)
            if (strcmp(ours.names[i], theirs.names[j]) == 0)
                return 1 + i + j;
    return ours.numa_node >= 0 && ours.numa_node == theirs.numa_node ? LEND_VERBS_ON_NODE
                                                                     : LEND_VERBS_ACROSS_NODES;
}

uint32_t lend_verbs_distance_of_gpu(const struct lend_verbs_nic *nic, const struct lend_lane *lane)
{
    char name[LEND_PCI_BYTES];

    if (nic->pci[0] == '\0' || !lend_lane_pci(lane, name))
        return 0;
    for (char *at = name; *at != '\0'; at++)
        *at = (char)tolower((unsigned char)*at); /* as the kernel writes it */
    return lend_verbs_distance(nic->pci, name);
}
