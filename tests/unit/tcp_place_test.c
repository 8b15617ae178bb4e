/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: where agents listen is read from texts, told in metadata and believed from there only if it
 * makes sense. Method: tables of texts and of bytes; a double that has the interfaces that a test
 * gives it.
 */
#include "base/error.h"
#include "base/sys.h"
#include "transport/tcp/tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct lend_sys_ops faked;
static const char *const *fake_interfaces;
static int fake_count;

static int give_interfaces(struct sockaddr_storage *out, int capacity)
{
    if (fake_count < 0)
        return fake_count;
    assert_true(capacity >= fake_count);
    for (int i = 0; i < fake_count; i++) {
        struct lend_tcp_place place;

        assert_true(lend_tcp_place_parse(&place, fake_interfaces[i]));
        (void)lend_tcp_place_socket(&place, &out[i]);
    }
    return fake_count;
}

static void fake(const char *const *interfaces, int count)
{
    fake_interfaces = interfaces;
    fake_count = count;
    faked = lend_sys_real;
    faked.interfaces = give_interfaces;
    lend_sys = &faked;
}

static struct lend_tcp_place place_of(const char *text)
{
    struct lend_tcp_place place;

    assert_true(lend_tcp_place_parse(&place, text));
    return place;
}

static void test_texts_are_addresses(void **state)
{
    static const struct {
        const char *text, *again;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1:0"},
        {"10.1.2.3:7000", "10.1.2.3:7000"},
        {"0.0.0.0:65535", "0.0.0.0:65535"},
        {"::1", "[::1]:0"},
        {"::", "[::]:0"},
        {"[::1]", "[::1]:0"},
        {"[2001:db8::7]:1", "[2001:db8::7]:1"},
        {"[1234:1234:1234:1234:1234:1234:1234:1234]:65535",
         "[1234:1234:1234:1234:1234:1234:1234:1234]:65535"},
    };
    char text[LEND_TCP_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lend_tcp_place place = place_of(cases[i].text);

        lend_tcp_place_text(&place, text);
        assert_string_equal(text, cases[i].again);
    }
}

static void test_other_texts_are_none(void **state)
{
    static const char *const texts[] = {
        "",
        ":",
        ":7000",
        "localhost",
        "localhost:7000",
        "10.1.2",
        "10.1.2.3.4",
        "10.1.2.3:",
        "10.1.2.3:65536",
        "10.1.2.3:99999999",
        "10.1.2.3:-1",
        "10.1.2.3: 1",
        "10.1.2.3:1x",
        "10.1.2.3 ",
        "[10.1.2.3]:7000",
        "[::1",
        "::1]",
        "[::1]7000",
        "[::1]:",
        "[::1]]:7000",
        "[]:7000",
        "fe80::1%eth0",
        "1234:1234:1234:1234:1234:1234:1234:1234:1234:1234:1234:1234:1234:1234:1234",
    };
    struct lend_tcp_place place = {.port = 42};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (lend_tcp_place_parse(&place, texts[i]))
            fail_msg("\"%s\" was taken for an address", texts[i]);
        assert_int_equal(place.port, 42);
    }
}

static void expect_places(const struct lend_tcp_places *places, const char *const *wanted,
                          uint32_t count)
{
    char text[LEND_TCP_TEXT_BYTES];

    assert_int_equal(places->count, count);
    for (uint32_t i = 0; i < count; i++) {
        lend_tcp_place_text(&places->places[i], text);
        assert_string_equal(text, wanted[i]);
    }
}

static void test_wildcard_tells_the_addresses_of_the_machine(void **state)
{
    static const char *const machine[] = {"127.0.0.1",   "::1",      "192.168.1.5", "fe80::1",
                                          "2001:db8::5", "10.0.0.1", "169.254.3.4"};
    static const char *const v4[] = {"192.168.1.5:70", "10.0.0.1:70"};
    static const char *const both[] = {"192.168.1.5:70", "[2001:db8::5]:70", "10.0.0.1:70"};
    static const char *const alone[] = {"127.0.0.1:70"};
    struct lend_tcp_place wildcard = place_of("0.0.0.0:70");
    struct lend_tcp_places places;

    (void)state;
    fake(machine, 7);
    assert_int_equal(lend_tcp_places_find(&places, &wildcard, NULL, NULL), LEND_OK);
    expect_places(&places, v4, 2);
    fake(machine, 2); /* loopback alone */
    assert_int_equal(lend_tcp_places_find(&places, &wildcard, NULL, NULL), LEND_OK);
    expect_places(&places, alone, 1);
    wildcard = place_of("[::]:70");
    fake(machine, 7);
    assert_int_equal(lend_tcp_places_find(&places, &wildcard, NULL, NULL), LEND_OK);
    expect_places(&places, both, 3);
}

static void test_no_more_addresses_are_told_than_fit(void **state)
{
    static const char *const machine[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4",
                                          "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.8",
                                          "10.0.0.9", "10.0.0.10"};
    struct lend_tcp_place wildcard = place_of("0.0.0.0:70");
    struct lend_tcp_places places;

    (void)state;
    fake(machine, 10);
    assert_int_equal(lend_tcp_places_find(&places, &wildcard, NULL, NULL), LEND_OK);
    assert_int_equal(places.count, LEND_TCP_PLACES_MAX);
}

static void test_what_cannot_be_told_is_refused(void **state)
{
    static const char *const machine[] = {"fe80::1"};
    struct lend_tcp_place wildcard = place_of("[::]:70");
    struct lend_tcp_place link = place_of("[fe80::1]:70");
    struct lend_tcp_place multicast = place_of("224.0.0.1:70");
    struct lend_tcp_places places;
    struct lend_error error;

    (void)state;
    fake(machine, 1);
    assert_int_equal(lend_tcp_places_find(&places, &wildcard, NULL, &error), LEND_E_ABSENT);
    assert_non_null(strstr(error.message, "set advertise"));
    fake(machine, -EMFILE);
    assert_int_equal(lend_tcp_places_find(&places, &wildcard, NULL, &error), LEND_E_SYSTEM);
    assert_int_equal(lend_tcp_places_find(&places, &link, NULL, &error), LEND_E_INVALID);
    assert_int_equal(lend_tcp_places_find(&places, &multicast, NULL, &error), LEND_E_INVALID);
    assert_int_equal(lend_tcp_places_find(&places, &wildcard, "example.org", &error),
                     LEND_E_INVALID);
    assert_non_null(strstr(error.message, "example.org"));
    assert_int_equal(lend_tcp_places_find(&places, &wildcard, "0.0.0.0:7", &error), LEND_E_INVALID);
}

static void test_advertised_address_is_told_instead(void **state)
{
    static const char *const with_port[] = {"203.0.113.9:7000"};
    static const char *const without[] = {"203.0.113.9:70"};
    struct lend_tcp_place listens = place_of("0.0.0.0:70");
    struct lend_tcp_places places;

    (void)state;
    assert_int_equal(lend_tcp_places_find(&places, &listens, "203.0.113.9:7000", NULL), LEND_OK);
    expect_places(&places, with_port, 1);
    assert_int_equal(lend_tcp_places_find(&places, &listens, "203.0.113.9", NULL), LEND_OK);
    expect_places(&places, without, 1);
}

static void test_addresses_travel(void **state)
{
    struct lend_tcp_places places = {.count = 0}, again;
    uint8_t bytes[LEND_TCP_ADDRESS_MAX], same[LEND_TCP_ADDRESS_MAX];

    (void)state;
    for (uint32_t count = 0; count <= LEND_TCP_PLACES_MAX; count++) {
        size_t length = lend_tcp_places_encode(&places, bytes);

        assert_true(length <= sizeof bytes);
        assert_true(lend_tcp_places_decode(&again, bytes, length));
        assert_int_equal(lend_tcp_places_encode(&again, same), length);
        assert_memory_equal(same, bytes, length);
        /* Cut anywhere, or with a byte behind. */
        for (size_t cut = 0; cut < length; cut++) {
            uint8_t *exact = malloc(cut + 1);

            memcpy(exact, bytes, cut);
            assert_false(lend_tcp_places_decode(&again, exact, cut));
            free(exact);
        }
        if (length < sizeof bytes)
            assert_false(lend_tcp_places_decode(&again, bytes, length + 1));
        if (count < LEND_TCP_PLACES_MAX) {
            places.places[count] = place_of(count % 2 == 0 ? "[2001:db8::7]:1" : "10.0.0.1:65535");
            places.count++;
        }
    }
}

static void test_addresses_that_make_no_sense_reach_nobody(void **state)
{
    static const uint8_t bad[][9] = {
        {2, 1, 4, 1, 0, 10, 0, 0, 1},        /* another version */
        {1, 9, 4, 1, 0, 10, 0, 0, 1},        /* more than there can be */
        {1, 2, 4, 1, 0, 10, 0, 0, 1},        /* more than there are */
        {1, 0, 4, 1, 0, 10, 0, 0, 1},        /* fewer */
        {1, 1, 5, 1, 0, 10, 0, 0, 1},        /* no family */
        {1, 1, 4, 0, 0, 10, 0, 0, 1},        /* no port */
        {1, 1, 4, 1, 0, 0, 0, 0, 0},         /* no address */
        {1, 1, 4, 1, 0, 224, 0, 0, 1},       /* of many machines */
        {1, 1, 4, 1, 0, 255, 255, 255, 255}, /* of all */
    };
    static const uint8_t nowhere[] = {1, 0};
    struct lend_tcp_places places;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(lend_tcp_places_decode(&places, bad[i], sizeof bad[i]));
    assert_false(lend_transport_tcp.reaches(NULL, nowhere, sizeof nowhere));
    assert_false(lend_transport_tcp.reaches(NULL, nowhere, 0));
}

static void test_typed_address_becomes_one(void **state)
{
    uint8_t address[LEND_TCP_ADDRESS_MAX];
    size_t count = 0;

    (void)state;
    assert_true(lend_transport_tcp.parse(NULL, "10.0.0.1:7000", address, &count));
    assert_true(lend_transport_tcp.reaches(NULL, address, count));
    assert_true(lend_transport_tcp.parse(NULL, "[::1]:7000", address, &count));
    assert_true(lend_transport_tcp.reaches(NULL, address, count));
    assert_false(lend_transport_tcp.parse(NULL, "10.0.0.1", address, &count)); /* no port */
    assert_false(lend_transport_tcp.parse(NULL, "0.0.0.0:7000", address, &count));
    assert_false(lend_transport_tcp.parse(NULL, "somewhere:7000", address, &count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_are_addresses),
        cmocka_unit_test(test_other_texts_are_none),
        cmocka_unit_test(test_wildcard_tells_the_addresses_of_the_machine),
        cmocka_unit_test(test_no_more_addresses_are_told_than_fit),
        cmocka_unit_test(test_what_cannot_be_told_is_refused),
        cmocka_unit_test(test_advertised_address_is_told_instead),
        cmocka_unit_test(test_addresses_travel),
        cmocka_unit_test(test_addresses_that_make_no_sense_reach_nobody),
        cmocka_unit_test(test_typed_address_becomes_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
