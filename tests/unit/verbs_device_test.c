/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a NIC can do is told as it is; where a path begins is chosen so that packets get
 * there; what is missing is named with its remedy; nothing leaks.
 * Method: a fake libibverbs with NICs as each test wants them; a double of the system for the
 * machine's routes and files.
 */
#include "base/sys.h"
#include "double.h"
#include "fake/verbs.h"
#include "transport/verbs/device.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static struct lend_sys_ops ops;
static const char *route_source; /* the answer to every question for a route; NULL: there is none */
static struct sockaddr_storage asked_for;
static const char *existing; /* the one path that exists */

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage address = {0};

    if (strchr(text, ':') == NULL) {
        address.ss_family = AF_INET;
        assert_int_equal(inet_pton(AF_INET, text, &((struct sockaddr_in *)&address)->sin_addr), 1);
    } else {
        address.ss_family = AF_INET6;
        assert_int_equal(inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&address)->sin6_addr),
                         1);
    }
    return address;
}

static int give_source(const struct sockaddr_storage *to, struct sockaddr_storage *out)
{
    asked_for = *to;
    if (route_source == NULL)
        return -ENETUNREACH;
    *out = address_of(route_source);
    return 0;
}

static int give_stat(const char *path, struct stat *out)
{
    memset(out, 0, sizeof *out);
    return existing != NULL && strcmp(path, existing) == 0 ? 0 : -ENOENT;
}

/* One file for all that is asked for. */
static const char *file_path, *file_text;

static int open_file(const char *path)
{
    return file_path != NULL && strstr(path, file_path) != NULL ? 1000000 : -ENOENT;
}

static ssize_t read_file(int fd, void *bytes, size_t count)
{
    size_t length = file_text != NULL ? strlen(file_text) : 0;

    assert_int_equal(fd, 1000000);
    assert_true(length <= count);
    if (length > 0)
        memcpy(bytes, file_text, length);
    file_text = NULL; /* the rest is empty */
    return (ssize_t)length;
}

static void close_file(int fd)
{
    assert_int_equal(fd, 1000000);
}

static int set_up(void **state)
{
    (void)state;
    fake_verbs_reset();
    ops = lend_sys_real;
    ops.source_address = give_source;
    ops.stat = give_stat;
    ops.open_read = open_file;
    ops.read = read_file;
    ops.close = close_file;
    route_source = existing = file_path = file_text = NULL;
    lend_sys = &ops;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lend_sys = &lend_sys_real;
    assert_int_equal(fake_verbs_kept(), 0);
    return 0;
}

static struct lend_verbs_nic *open_nic(const char *name)
{
    struct lend_verbs_nic *nic = NULL;
    struct lend_error error = {0};

    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, name, &nic, &error), LEND_OK);
    return nic;
}

static void close_nic(struct lend_verbs_nic *nic)
{
    assert_int_equal(lend_verbs_nic_close(nic, NULL), LEND_OK);
}

/* --- the list --- */

static void test_devices_are_listed_by_name(void **state)
{
    char names[2][LEND_VERBS_NAME_BYTES];
    uint32_t count = 0;
    struct lend_error error = {0};

    (void)state;
    fake_verbs.device_count = 3;
    assert_int_equal(lend_verbs_list(&fake_verbs_ops, names, 2, &count, &error), LEND_OK);
    assert_int_equal(count, 3);
    assert_string_equal(names[0], "fake0");
    assert_string_equal(names[1], "fake1");
}

static void test_absence_is_told_with_cause_and_remedy(void **state)
{
    uint32_t count = 0;
    struct lend_error error = {0};

    (void)state;
    fake_verbs.list_errno = ENOSYS;
    assert_int_equal(lend_verbs_list(&fake_verbs_ops, NULL, 0, &count, &error), LEND_E_ABSENT);
    assert_non_null(strstr(error.message, "this kernel has no RDMA: module ib_uverbs"));
    existing = "/sys/class/infiniband_verbs";
    fake_verbs.list_errno = 0;
    fake_verbs.device_count = 0;
    assert_int_equal(lend_verbs_list(&fake_verbs_ops, NULL, 0, &count, &error), LEND_E_ABSENT);
    assert_non_null(strstr(error.message, "rdma link add rxe0 type rxe"));
    fake_verbs.list_errno = EPERM;
    assert_int_equal(lend_verbs_list(&fake_verbs_ops, NULL, 0, &count, &error), LEND_E_SYSTEM);
}

static void test_device_that_is_not_there_or_not_ours_is_told_apart(void **state)
{
    struct lend_verbs_nic *nic = NULL;
    struct lend_error error = {0};

    (void)state;
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, "mlx5_0", &nic, &error), LEND_E_ABSENT);
    assert_string_equal(error.message, "there is no RDMA device mlx5_0: see `rdma link'");
    fake_verbs.open_errno = EACCES;
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, "fake0", &nic, &error), LEND_E_ACCESS);
    assert_non_null(strstr(error.message, "--device=/dev/infiniband"));
    fake_verbs.open_errno = EIO;
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_ops, "fake0", &nic, &error), LEND_E_DEVICE);
    assert_null(nic);
}

/* --- abilities --- */

static void test_abilities_are_those_of_the_device(void **state)
{
    (void)state;
    struct lend_verbs_nic *nic = open_nic("fake1");
    assert_string_equal(nic->name, "fake1");
    assert_string_equal(nic->firmware, "1.2.3 of a fake");
    assert_true(nic->abilities.has_windows_2b);
    assert_true(nic->abilities.has_on_demand);
    assert_true(nic->abilities.has_relaxed_ordering);
    assert_true(nic->abilities.has_dma_buf);
    assert_int_equal(nic->abilities.windows_max, 1024);
    assert_int_equal(nic->abilities.read_pieces_max, 16);
    assert_int_equal(nic->port_count, 1);
    assert_int_equal(nic->ports[0].state, LEND_VERBS_PORT_ACTIVE);
    assert_int_equal(nic->ports[0].gid_count, 4);
    assert_int_equal(lend_verbs_mtu_bytes(nic->ports[0].mtu), 1024);
    assert_int_equal(nic->numa_node, -1);
    close_nic(nic);
}

static void test_what_a_device_has_not_is_not_told(void **state)
{
    const unsigned without_invalidate =
        (unsigned)LEND_VERBS_DEVICE_MEMORY_WINDOW | (unsigned)LEND_VERBS_DEVICE_WINDOW_2B;
    const unsigned type_2a = (unsigned)LEND_VERBS_DEVICE_MEMORY_WINDOW |
                             (unsigned)LEND_VERBS_DEVICE_WINDOW_2A |
                             (unsigned)LEND_VERBS_DEVICE_LOCAL_INVALIDATE;

    (void)state;
    fake_verbs.devices[0].capabilities = without_invalidate;
    fake_verbs.devices[0].odp_rc = LEND_VERBS_ODP_READ;
    fake_verbs.devices[0].has_dma_buf = false;
    struct lend_verbs_nic *nic = open_nic("fake0");
    assert_false(nic->abilities.has_windows_2b);
    assert_false(nic->abilities.has_on_demand);
    assert_false(nic->abilities.has_dma_buf);
    close_nic(nic);
    fake_verbs.devices[0].capabilities = type_2a;
    nic = open_nic("fake0");
    assert_false(nic->abilities.has_windows_2b);
    close_nic(nic);
}

static void test_library_of_long_ago_tells_less_and_serves(void **state)
{
    struct lend_verbs_nic *nic = NULL;
    struct lend_error error = {0};

    (void)state;
    fake_verbs.devices[0].is_old = true;
    file_path = "/ports/1/gid_attrs/types/3";
    file_text = "RoCE v2\n";
    assert_int_equal(lend_verbs_nic_open(&fake_verbs_old_ops, "fake0", &nic, &error), LEND_OK);
    assert_false(nic->abilities.has_dma_buf);
    assert_false(nic->abilities.has_relaxed_ordering);
    assert_false(nic->abilities.has_on_demand);
    assert_int_equal(nic->ports[0].gid_count, 4);
    assert_int_equal(nic->ports[0].gids[2].type, LEND_VERBS_GID_ROCE_V1);
    assert_int_equal(nic->ports[0].gids[3].type, LEND_VERBS_GID_ROCE_V2);
    close_nic(nic);
}

static void test_place_in_the_machine_is_read_from_the_kernels_files(void **state)
{
    (void)state;
    file_path = "/device/numa_node";
    file_text = "1\n";
    struct lend_verbs_nic *nic = open_nic("fake0");
    assert_int_equal(nic->numa_node, 1);
    assert_string_equal(nic->pci, "");
    close_nic(nic);
    file_path = "/device/uevent";
    file_text = "DRIVER=mlx5_core\nPCI_SLOT_NAME=0000:3b:00.0\nMODALIAS=pci\n";
    nic = open_nic("fake0");
    assert_string_equal(nic->pci, "0000:3b:00.0");
    assert_int_equal(nic->numa_node, -1);
    close_nic(nic);
}

static void test_port_is_looked_at_again_after_an_event(void **state)
{
    struct lend_error error = {0};

    (void)state;
    struct lend_verbs_nic *nic = open_nic("fake0");
    fake_verbs.devices[0].port_state = LEND_VERBS_PORT_DOWN;
    fake_verbs.devices[0].gid_count = 2;
    assert_int_equal(lend_verbs_port_refresh(nic, 1, &error), LEND_OK);
    assert_int_equal(nic->ports[0].state, LEND_VERBS_PORT_DOWN);
    assert_int_equal(nic->ports[0].gid_count, 2);
    assert_int_equal(lend_verbs_port_refresh(nic, 2, &error), LEND_E_ABSENT);
    fake_verbs.fail_at = fake_verbs.calls;
    assert_int_equal(lend_verbs_port_refresh(nic, 1, &error), LEND_E_DEVICE);
    assert_int_equal(nic->ports[0].gid_count, 2); /* as it was */
    close_nic(nic);
}

/* --- where paths begin --- */

struct choice {
    struct lend_verbs_nic *nics[2];
    struct lend_verbs_wish wish;
    struct lend_verbs_place place;
    struct lend_error error;
};

static struct choice open_both(void)
{
    return (struct choice){.nics = {open_nic("fake0"), open_nic("fake1")}};
}

static void close_both(const struct choice *choice)
{
    close_nic(choice->nics[0]);
    close_nic(choice->nics[1]);
}

static enum lend_status choose(struct choice *choice)
{
    return lend_verbs_choose(choice->nics, 2, &choice->wish, &choice->place, &choice->error);
}

static void test_gid_from_which_the_route_leads_to_the_peer_is_chosen(void **state)
{
    uint8_t peer[LEND_VERBS_GID_BYTES];
    struct sockaddr_storage far = address_of("10.77.0.9"), near = address_of("10.77.0.1");
    struct choice choice = open_both();
    char text[INET6_ADDRSTRLEN];

    (void)state;
    assert_true(lend_verbs_gid_of(&far, peer));
    choice.wish.peer_gid = peer;
    choice.wish.local = &near; /* says otherwise, and counts less */
    route_source = "10.77.0.2";
    assert_int_equal(choose(&choice), LEND_OK);
    assert_ptr_equal(choice.place.nic, choice.nics[1]);
    assert_int_equal(choice.place.gid.index, 3);
    assert_int_equal(choice.place.gid.type, LEND_VERBS_GID_ROCE_V2);
    lend_verbs_gid_text(choice.place.gid.gid, text, sizeof text);
    assert_string_equal(text, "::ffff:10.77.0.2");
    assert_int_equal(asked_for.ss_family, AF_INET);
    assert_memory_equal(&((struct sockaddr_in *)&asked_for)->sin_addr,
                        &((struct sockaddr_in *)&far)->sin_addr, 4);
    close_both(&choice);
}

static void test_own_address_of_the_control_channel_decides_where_no_route_does(void **state)
{
    struct sockaddr_storage near = address_of("10.77.0.2");
    struct choice choice = open_both();

    (void)state;
    choice.wish.local = &near;
    assert_int_equal(choose(&choice), LEND_OK);
    assert_ptr_equal(choice.place.nic, choice.nics[1]);
    assert_int_equal(choice.place.gid.index, 3);
    close_both(&choice);
}

static void test_unknown_peer_gets_an_address_of_ip_of_version_4_first(void **state)
{
    struct choice choice = open_both();

    (void)state;
    assert_int_equal(choose(&choice), LEND_OK);
    assert_ptr_equal(choice.place.nic, choice.nics[0]);
    assert_int_equal(choice.place.gid.index, 3); /* neither RoCE v1, nor the link's own */
    close_both(&choice);
}

static void test_peer_of_another_family_is_not_reached(void **state)
{
    uint8_t peer[LEND_VERBS_GID_BYTES];
    struct sockaddr_storage far = address_of("2001:db8::9");
    struct choice choice = open_both();

    (void)state;
    assert_true(lend_verbs_gid_of(&far, peer));
    choice.wish.peer_gid = peer;
    assert_int_equal(choose(&choice), LEND_E_NO_PATH);
    assert_non_null(
        strstr(choice.error.message, "fake0:1 has no RoCE v2 GID of the peer's family"));
    assert_non_null(strstr(choice.error.message, "fake1:1"));
    close_both(&choice);
}

static void test_port_that_is_down_is_named(void **state)
{
    (void)state;
    fake_verbs.devices[0].port_state = fake_verbs.devices[1].port_state = LEND_VERBS_PORT_DOWN;
    struct choice choice = open_both();
    assert_int_equal(choose(&choice), LEND_E_NO_PATH);
    assert_string_equal(choice.error.message,
                        "no RDMA port will do: fake0:1 is not active (state 1): see `rdma link'; "
                        "fake1:1 is not active (state 1): see `rdma link'");
    close_both(&choice);
}

static void test_iwarp_is_left_alone(void **state)
{
    (void)state;
    fake_verbs.devices[0].transport_type = LEND_VERBS_TRANSPORT_IWARP;
    struct choice choice = open_both();
    assert_int_equal(choose(&choice), LEND_OK);
    assert_ptr_equal(choice.place.nic, choice.nics[1]);
    assert_int_equal(lend_verbs_choose(choice.nics, 1, &choice.wish, &choice.place, &choice.error),
                     LEND_E_NO_PATH);
    assert_non_null(strstr(choice.error.message, "fake0 is iWARP"));
    close_both(&choice);
}

static void test_infiniband_has_a_gid_of_its_own_kind(void **state)
{
    (void)state;
    fake_verbs.devices[0].link_layer = LEND_VERBS_LINK_INFINIBAND;
    fake_verbs.devices[0].gid_count = 1;
    fake_verbs.devices[0].gids[0].gid_type = LEND_VERBS_GID_IB;
    fake_verbs.device_count = 1;
    struct lend_verbs_nic *nic = open_nic("fake0");
    struct lend_verbs_wish wish = {.peer_gid = NULL};
    struct lend_verbs_place place;
    struct lend_error error = {0};

    assert_int_equal(lend_verbs_choose(&nic, 1, &wish, &place, &error), LEND_OK);
    assert_int_equal(place.gid.index, 0);
    assert_int_equal(place.port.lid, 7);
    close_nic(nic);
}

static void test_gids_and_addresses_are_each_others(void **state)
{
    static const char *const texts[] = {"10.77.0.1", "2001:db8::1", "fe80::1"};
    uint8_t gid[LEND_VERBS_GID_BYTES], zero[LEND_VERBS_GID_BYTES] = {0};
    struct sockaddr_storage back, unix_address = {.ss_family = AF_UNIX};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct sockaddr_storage address = address_of(texts[i]);

        assert_true(lend_verbs_gid_of(&address, gid));
        assert_true(lend_verbs_gid_address(gid, &back));
        assert_memory_equal(&back, &address, sizeof address);
    }
    assert_false(lend_verbs_gid_address(zero, &back));
    assert_false(lend_verbs_gid_of(&unix_address, gid));
    assert_int_equal(lend_verbs_mtu_bytes(0), 0);
    assert_int_equal(lend_verbs_mtu_bytes(LEND_VERBS_MTU_4096), 4096);
    assert_int_equal(lend_verbs_mtu_bytes(6), 0);
}

static void test_machine_tells_from_where_it_would_send(void **state)
{
    struct sockaddr_storage to = address_of("127.0.0.1"), from = {0};

    (void)state;
    assert_int_equal(lend_sys_real.source_address(&to, &from), 0);
    assert_int_equal(from.ss_family, AF_INET);
    assert_int_equal(((struct sockaddr_in *)&from)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    to.ss_family = AF_UNSPEC;
    assert_true(lend_sys_real.source_address(&to, &from) < 0);
}

/* --- fork, peer memory --- */

static void test_fork_needs_a_kernel_that_copies_or_consent(void **state)
{
    struct lend_error error = {0};

    (void)state;
    assert_int_equal(lend_verbs_check_fork(&fake_verbs_ops, false, &error), LEND_OK);
    fake_verbs.fork_status = LEND_VERBS_FORK_ENABLED;
    assert_int_equal(lend_verbs_check_fork(&fake_verbs_ops, false, &error), LEND_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "ibv_fork_init() was called"));
    assert_non_null(strstr(error.message, "LEND_AGENT_NEVER_FORKS"));
    assert_int_equal(lend_verbs_check_fork(&fake_verbs_ops, true, &error), LEND_OK);
    fake_verbs.fork_status = LEND_VERBS_FORK_DISABLED;
    assert_int_equal(lend_verbs_check_fork(&fake_verbs_ops, false, &error), LEND_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "before 5.12"));
    assert_int_equal(lend_verbs_check_fork(&fake_verbs_old_ops, false, &error), LEND_E_UNSUPPORTED);
    assert_int_equal(lend_verbs_check_fork(&fake_verbs_old_ops, true, &error), LEND_OK);
}

static void test_peer_memory_is_a_module_of_the_kernel(void **state)
{
    char why[160] = "";

    (void)state;
    assert_false(lend_verbs_has_peer_memory(why, sizeof why));
    assert_non_null(strstr(why, "modprobe nvidia-peermem"));
    existing = "/sys/module/nvidia_peermem";
    assert_true(lend_verbs_has_peer_memory(why, sizeof why));
    existing = "/sys/kernel/mm/memory_peers/nv_mem";
    assert_true(lend_verbs_has_peer_memory(why, sizeof why));
}

static void test_each_call_may_fail_and_nothing_leaks(void **state)
{
    (void)state;
    for (int nth = 0;; nth++) {
        struct lend_verbs_nic *nic = NULL;
        struct lend_error error = {0};

        fake_verbs_reset();
        fake_verbs.is_swept = true;
        double_install(nth);
        enum lend_status status = lend_verbs_nic_open(&fake_verbs_ops, "fake0", &nic, &error);
        if (status == LEND_OK)
            close_nic(nic);
        else
            assert_int_equal(error.status, status);
        bool was_reached = double_remove();
        fake_verbs.is_swept = false;
        assert_int_equal(fake_verbs_kept(), 0);
        if (!was_reached) {
            assert_int_equal(status, LEND_OK);
            assert_true(nth > 5);
            return;
        }
        assert_true(status == LEND_OK || status == LEND_E_NO_MEMORY || status == LEND_E_DEVICE);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_devices_are_listed_by_name),
        TEST(test_absence_is_told_with_cause_and_remedy),
        TEST(test_device_that_is_not_there_or_not_ours_is_told_apart),
        TEST(test_abilities_are_those_of_the_device),
        TEST(test_what_a_device_has_not_is_not_told),
        TEST(test_library_of_long_ago_tells_less_and_serves),
        TEST(test_place_in_the_machine_is_read_from_the_kernels_files),
        TEST(test_port_is_looked_at_again_after_an_event),
        TEST(test_gid_from_which_the_route_leads_to_the_peer_is_chosen),
        TEST(test_own_address_of_the_control_channel_decides_where_no_route_does),
        TEST(test_unknown_peer_gets_an_address_of_ip_of_version_4_first),
        TEST(test_peer_of_another_family_is_not_reached),
        TEST(test_port_that_is_down_is_named),
        TEST(test_iwarp_is_left_alone),
        TEST(test_infiniband_has_a_gid_of_its_own_kind),
        TEST(test_gids_and_addresses_are_each_others),
        TEST(test_machine_tells_from_where_it_would_send),
        TEST(test_fork_needs_a_kernel_that_copies_or_consent),
        TEST(test_peer_memory_is_a_module_of_the_kernel),
        TEST(test_each_call_may_fail_and_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
