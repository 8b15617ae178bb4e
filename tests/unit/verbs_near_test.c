/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: how far a NIC is from a GPU is told by the bridges that they have in common, else by their
 * NUMA nodes; and where one of them is not known it is not told at all.
 * Method: a folder of files and links as the kernel has them below /sys, and names of devices in
 * it; the fake driver's GPU 0 is at 0000:6A:00.0.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "fake/cuda.h"
#include "memory/cuda.h"
#include "memory/lane.h"
#include "transport/verbs/device.h"
#include "transport/verbs/near.h"

enum { PATH_BYTES = 400 };

static char root[32];
static char folder[64];

static void write_file(const char *path, const char *name, const char *text)
{
    char whole[PATH_BYTES + 32];

    (void)snprintf(whole, sizeof whole, "%s/%s", path, name);
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* A device in the folder of the one above it; node NULL: the kernel does not say. */
static void add(const char *above, const char *name, const char *node)
{
    char path[PATH_BYTES], link[PATH_BYTES], text[128];

    (void)snprintf(path, sizeof path, "%s/devices/%s/%s", root, above, name);
    (void)snprintf(link, sizeof link, "%s/%s", folder, name);
    (void)snprintf(text, sizeof text, "DRIVER=x\nPCI_SLOT_NAME=%s\nMODALIAS=y\n", name);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(symlink(path, link), 0);
    write_file(path, "uevent", text);
    if (node != NULL)
        write_file(path, "numa_node", node);
}

/* A switch with a GPU and a NIC behind ports of its own, and NICs elsewhere. */
static int make_tree(void **state)
{
    char path[PATH_BYTES];

    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/lend-near-XXXXXX");
    assert_non_null(mkdtemp(root));
    (void)snprintf(folder, sizeof folder, "%s/by-name", root);
    assert_int_equal(mkdir(folder, 0700), 0);
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"devices", "devices/pci0000:60", "devices/pci0000:a0"};

        (void)snprintf(path, sizeof path, "%s/%s", root, names[i]);
        assert_int_equal(mkdir(path, 0700), 0);
        if (i > 0)
            write_file(path, "uevent", "");
    }
    add("pci0000:60", "0000:60:01.0", "0\n");
    add("pci0000:60/0000:60:01.0", "0000:61:00.0", "0\n");
    add("pci0000:60/0000:60:01.0/0000:61:00.0", "0000:62:00.0", "0\n");
    add("pci0000:60/0000:60:01.0/0000:61:00.0", "0000:62:04.0", "0\n");
    add("pci0000:60/0000:60:01.0/0000:61:00.0/0000:62:00.0", "0000:6a:00.0", "0\n");
    add("pci0000:60/0000:60:01.0/0000:61:00.0/0000:62:04.0", "0000:63:00.0", "0\n");
    add("pci0000:60/0000:60:01.0", "0000:64:00.0", "0\n");
    add("pci0000:60", "0000:60:02.0", "0\n");
    add("pci0000:60/0000:60:02.0", "0000:70:00.0", "0\n");
    add("pci0000:a0", "0000:a0:01.0", "1\n");
    add("pci0000:a0/0000:a0:01.0", "0000:a1:00.0", "1\n");
    add("pci0000:a0/0000:a0:01.0", "0000:a2:00.0", "-1\n");
    add("pci0000:a0/0000:a0:01.0", "0000:a3:00.0", NULL);
    lend_verbs_pci_folder = folder;
    return 0;
}

static int remove_tree(void **state)
{
    char command[64];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

static void test_what_has_a_bridge_in_common_is_nearer_the_nearer_that_is(void **state)
{
    const char *gpu = "0000:6a:00.0";

    (void)state;
    assert_int_equal(lend_verbs_distance(gpu, gpu), 1);
    assert_int_equal(lend_verbs_distance("0000:63:00.0", gpu), 5); /* up to the switch, and down */
    assert_int_equal(lend_verbs_distance(gpu, "0000:63:00.0"), 5);
    assert_int_equal(lend_verbs_distance("0000:64:00.0", gpu), 5); /* up to the root port */
    assert_int_equal(lend_verbs_distance("0000:62:00.0", gpu), 2); /* its own bridge */
}

static void test_else_the_node_tells(void **state)
{
    const char *gpu = "0000:6a:00.0";

    (void)state;
    assert_int_equal(lend_verbs_distance("0000:70:00.0", gpu), LEND_VERBS_ON_NODE);
    assert_int_equal(lend_verbs_distance("0000:a1:00.0", gpu), LEND_VERBS_ACROSS_NODES);
    assert_int_equal(lend_verbs_distance("0000:a2:00.0", gpu), LEND_VERBS_ACROSS_NODES);
    assert_int_equal(lend_verbs_distance("0000:a3:00.0", gpu), LEND_VERBS_ACROSS_NODES);
    assert_true(LEND_VERBS_ON_NODE > 2 * 12); /* than any steps over bridges */
}

static void test_what_is_not_known_is_not_told(void **state)
{
    (void)state;
    assert_int_equal(lend_verbs_distance("0000:99:00.0", "0000:6a:00.0"), 0);
    assert_int_equal(lend_verbs_distance("0000:6a:00.0", ""), 0);
    assert_int_equal(lend_verbs_distance("../..", "0000:6a:00.0"), 0);
}

static void test_the_driver_says_where_a_gpu_is(void **state)
{
    struct lend_verbs_nic nic = {.pci = "0000:63:00.0"}, nowhere = {.pci = ""};
    const struct lend_lane lane = {.cuda = &fake_cuda_ops, .ordinal = 0};

    (void)state;
    fake_cuda_reset();
    assert_int_equal(cuInit(0), 0);
    assert_int_equal(lend_verbs_distance_of_gpu(&nic, &lane), 5);
    assert_int_equal(lend_verbs_distance_of_gpu(&nowhere, &lane), 0);
    fake_cuda_fail("cuDeviceGetPCIBusId", LEND_CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(lend_verbs_distance_of_gpu(&nic, &lane), 0);
    fake_cuda_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_has_a_bridge_in_common_is_nearer_the_nearer_that_is),
        cmocka_unit_test(test_else_the_node_tells),
        cmocka_unit_test(test_what_is_not_known_is_not_told),
        cmocka_unit_test(test_the_driver_says_where_a_gpu_is),
    };

    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
