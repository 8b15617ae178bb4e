/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the two hosts that the demonstration and the tests between machines stand on are two: they
 * reach each other by the link alone, over IPv4 and IPv6; a cut link carries nothing and a mended
 * one does; a bad link does what it is told and counts it; and nothing of it is left.
 * Method: real namespaces with plain sockets in them, no lend. Datagrams are counted at both ends
 * and beside what the link says. Where the kernel or this user's rights do not give them, the test
 * is skipped, with the reason.
 */
#include "link.h"

#include "tool/trouble.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { PORT = 7669, DATAGRAMS = 2000, DATAGRAM_BYTES = 200, PATIENCE_MS = 10000, QUIET_MS = 100 };

/* --- what is common --- */

static void must_be_well(enum lend_status status, const struct lend_error *error)
{
    if (status != LEND_OK)
        fail_msg("%s: %s", lend_status_name(status), error->message);
}

/* Open both hosts, joined or apart, or skip. */
static void open_or_skip(struct hosts *hosts,
                         enum lend_status (*open_hosts)(struct hosts *, struct lend_error *))
{
    struct lend_error error = {0};
    enum lend_status status = open_hosts(hosts, &error);

    if (status == LEND_E_ACCESS || status == LEND_E_ABSENT) {
        print_message("skipped: %s\n", error.message);
        skip();
    }
    must_be_well(status, &error);
}

static socklen_t address_of(int family, int host, struct sockaddr_storage *out)
{
    struct sockaddr_in *four = (struct sockaddr_in *)out;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof *out);
    out->ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        four->sin_port = htons(PORT);
        assert_int_equal(inet_pton(AF_INET, hosts_ipv4[host], &four->sin_addr), 1);
        return sizeof *four;
    }
    six->sin6_port = htons(PORT);
    assert_int_equal(inet_pton(AF_INET6, hosts_ipv6[host], &six->sin6_addr), 1);
    return sizeof *six;
}

/* A datagram socket on each host, with its own address, to talk to the other's. */
static void open_sockets(const struct hosts *hosts, int family, int *sockets)
{
    struct sockaddr_storage address;
    struct lend_error error = {0};
    int room = 4 << 20;

    for (int i = 0; i < HOSTS; i++) {
        must_be_well(hosts_enter(hosts, i, &error), &error);
        sockets[i] = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(sockets[i] >= 0);
        (void)setsockopt(sockets[i], SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
        socklen_t length = address_of(family, i, &address);
        assert_int_equal(bind(sockets[i], (struct sockaddr *)&address, length), 0);
        must_be_well(hosts_leave(hosts, &error), &error);
    }
    for (int i = 0; i < HOSTS; i++) {
        socklen_t length = address_of(family, 1 - i, &address);

        assert_int_equal(connect(sockets[i], (struct sockaddr *)&address, length), 0);
    }
}

static void close_sockets(const int *sockets)
{
    for (int i = 0; i < HOSTS; i++)
        (void)close(sockets[i]);
}

/* Does a datagram come within that time? It goes to number. */
static bool comes(int socket, int wait_ms, uint32_t *number)
{
    uint8_t bytes[DATAGRAM_BYTES];
    struct pollfd wait = {.fd = socket, .events = POLLIN};

    for (;;) { /* an error that an earlier packet met may be told first */
        if (poll(&wait, 1, wait_ms) != 1)
            return false;
        ssize_t count = recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
        if (count == DATAGRAM_BYTES) {
            memcpy(number, bytes, sizeof *number);
            return true;
        }
        if (count >= 0)
            return false;
    }
}

static bool is_sent(int socket, uint32_t number)
{
    uint8_t bytes[DATAGRAM_BYTES] = {0};

    memcpy(bytes, &number, sizeof number);
    return send(socket, bytes, sizeof bytes, 0) == DATAGRAM_BYTES;
}

static uint64_t network_of_ours(void)
{
    struct stat network;

    assert_int_equal(stat("/proc/self/ns/net", &network), 0);
    return network.st_ino;
}

/* --- the tests --- */

static void check_both_ways(const struct hosts *hosts, int family)
{
    int sockets[HOSTS];
    uint32_t number = 0;

    open_sockets(hosts, family, sockets);
    for (uint32_t i = 0; i < HOSTS; i++) {
        assert_true(is_sent(sockets[i], 40 + i));
        do /* one that waited while the link was cut may be first */
            assert_true(comes(sockets[1 - i], PATIENCE_MS, &number));
        while (number != 40 + i);
    }
    close_sockets(sockets);
}

static void test_two_hosts_reach_each_other(void **state)
{
    struct hosts hosts;

    (void)state;
    open_or_skip(&hosts, hosts_open);
    check_both_ways(&hosts, AF_INET);
    check_both_ways(&hosts, AF_INET6);
    hosts_close(&hosts);
}

static void test_they_are_on_networks_of_their_own(void **state)
{
    struct lend_error error = {0};
    uint64_t networks[HOSTS];
    struct hosts hosts;

    (void)state;
    open_or_skip(&hosts, hosts_open);
    uint64_t home = network_of_ours();
    for (int i = 0; i < HOSTS; i++) {
        must_be_well(hosts_enter(&hosts, i, &error), &error);
        networks[i] = network_of_ours();
        assert_true(if_nametoindex(HOSTS_DEVICE) != 0);
        must_be_well(hosts_leave(&hosts, &error), &error);
    }
    assert_true(networks[0] != networks[1]);
    assert_true(networks[0] != home);
    assert_true(network_of_ours() == home);
    hosts_close(&hosts);
    if (networks[1] != home) /* else we are on the second one, and keep it */
        assert_int_equal(if_nametoindex(HOSTS_DEVICE), 0);
}

static void test_a_cut_link_carries_nothing_until_it_is_mended(void **state)
{
    struct lend_error error = {0};
    struct hosts hosts;
    int sockets[HOSTS];
    uint32_t number = 0;

    (void)state;
    open_or_skip(&hosts, hosts_open);
    for (int family = AF_INET; family != 0; family = family == AF_INET ? AF_INET6 : 0) {
        open_sockets(&hosts, family, sockets);
        must_be_well(hosts_unplug(&hosts, &error), &error);
        (void)is_sent(sockets[0], 1); /* perhaps it is told that there is no way */
        (void)is_sent(sockets[1], 2);
        assert_false(comes(sockets[1], QUIET_MS, &number));
        assert_false(comes(sockets[0], 0, &number));
        close_sockets(sockets);

        must_be_well(hosts_plug(&hosts, 0, &error), &error);
        check_both_ways(&hosts, family);
    }
    hosts_close(&hosts);
}

static void test_what_a_program_says_is_told(void **state)
{
    struct lend_error error = {0};
    struct hosts hosts;

    (void)state;
    open_or_skip(&hosts, hosts_open_apart);
    assert_int_equal(hosts_run(&hosts, 0, &error, "ip link set nowhere up"), LEND_E_SYSTEM);
    assert_non_null(strstr(error.message, "nowhere"));
    assert_int_equal(hosts_run(&hosts, 0, &error, "lend-no-such-program"), LEND_E_ABSENT);
    assert_non_null(strstr(error.message, "iproute2"));
    hosts_close(&hosts);
}

static void open_link_or_skip(struct link *link, struct hosts *hosts,
                              const struct impairment *impairment)
{
    struct lend_error error = {0};

    open_or_skip(hosts, hosts_open_apart);
    enum lend_status status = link_open(link, hosts, impairment, &error);
    if (status == LEND_E_ACCESS || status == LEND_E_UNSUPPORTED) {
        print_message("skipped: %s\n", error.message);
        hosts_close(hosts);
        skip();
    }
    must_be_well(status, &error);
}

static void test_a_good_link_of_ours_carries_all_in_order(void **state)
{
    const struct impairment none = {.seed = 1};
    struct hosts hosts;
    struct link link;

    (void)state;
    open_link_or_skip(&link, &hosts, &none);
    check_both_ways(&hosts, AF_INET);
    check_both_ways(&hosts, AF_INET6);
    assert_true(atomic_load(&link.counts->carried) >= 4);
    assert_int_equal(atomic_load(&link.counts->swapped), 0);
    link_close(&link);
    hosts_close(&hosts);
}

static void test_a_bad_link_loses_doubles_and_swaps_as_it_counts(void **state)
{
    const struct impairment bad = {
        .seed = 7,
        .delay_us = 200,
        .jitter_us = 2000,
        .lost_per_million = 100000,
        .doubled_per_million = 50000,
        .damaged_per_million = 50000,
        .queue_packets = 4096,
    };
    static uint8_t seen[DATAGRAMS];
    struct hosts hosts;
    struct link link;
    int sockets[HOSTS];
    uint32_t number = 0, came = 0, late = 0, last = 0, twice = 0, never = 0;

    (void)state;
    open_link_or_skip(&link, &hosts, &bad);
    open_sockets(&hosts, AF_INET, sockets);
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < DATAGRAMS; i++)
        assert_true(is_sent(sockets[0], i));
    for (; comes(sockets[1], 10 * QUIET_MS, &number); came++) {
        assert_true(number < DATAGRAMS);
        late += number < last;
        last = number;
        seen[number] = (uint8_t)(seen[number] + 1);
    }
    for (uint32_t i = 0; i < DATAGRAMS; i++) {
        never += seen[i] == 0;
        twice += seen[i] == 2;
    }
    /* A damaged one is dropped by its receiver's checksum. */
    uint64_t carried = atomic_load(&link.counts->carried);
    assert_true(came > 0 && came < carried);
    assert_true(late > 0 && atomic_load(&link.counts->swapped) > 0);
    assert_true(twice > 0 && twice <= atomic_load(&link.counts->doubled));
    assert_true(never > 0);
    assert_true(atomic_load(&link.counts->lost) > DATAGRAMS / 20);
    assert_true(atomic_load(&link.counts->damaged) > 0);

    /* Cut without a device going down: nothing is told, and nothing comes. */
    atomic_store(&link.counts->is_cut, 1);
    assert_true(is_sent(sockets[0], 0));
    assert_false(comes(sockets[1], QUIET_MS, &number));
    close_sockets(sockets);
    link_close(&link);
    hosts_close(&hosts);
}

static void test_the_kernel_can_make_a_link_bad_where_it_has_netem(void **state)
{
    const struct impairment bad = {.delay_us = 1000, .lost_per_million = 500000};
    struct lend_error error = {0};
    struct hosts hosts;
    int sockets[HOSTS];
    uint32_t number = 0, came = 0;

    (void)state;
    open_or_skip(&hosts, hosts_open);
    enum lend_status status = link_netem(&hosts, &bad, &error);
    if (status == LEND_E_UNSUPPORTED || status == LEND_E_ABSENT) {
        print_message("skipped: %s\n", error.message);
        hosts_close(&hosts);
        skip();
    }
    must_be_well(status, &error);
    open_sockets(&hosts, AF_INET, sockets);
    for (uint32_t i = 0; i < DATAGRAMS; i++)
        (void)is_sent(sockets[0], i);
    while (comes(sockets[1], 10 * QUIET_MS, &number))
        came++;
    assert_true(came > 0 && came < DATAGRAMS);
    close_sockets(sockets);
    hosts_close(&hosts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_hosts_reach_each_other),
        cmocka_unit_test(test_they_are_on_networks_of_their_own),
        cmocka_unit_test(test_a_cut_link_carries_nothing_until_it_is_mended),
        cmocka_unit_test(test_what_a_program_says_is_told),
        cmocka_unit_test(test_a_good_link_of_ours_carries_all_in_order),
        cmocka_unit_test(test_a_bad_link_loses_doubles_and_swaps_as_it_counts),
        cmocka_unit_test(test_the_kernel_can_make_a_link_bad_where_it_has_netem),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
