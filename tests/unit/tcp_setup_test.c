/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: connections of transport tcp come to be in bounded time or fail with their cause; strangers
 * are told apart at once, get nothing, and cost little; where an agent cannot listen it says why.
 * Method: agents of a stub of core against plain sockets held by hand, with a clock of the test's
 * own where time matters, and a double that fails what the kernel would seldom fail.
 */
#include "tcp_stub.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/wait.h>

static struct lend_agent client, server;
static struct lend_sys_ops faked;
static uint64_t ahead_ns; /* of the real clock */
static int connect_results[4], connects, options_failing, accept_failure;

static uint64_t fake_now_ns(void)
{
    return lend_sys_real.now_ns() + ahead_ns;
}

static int fake_connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
    int result = connects < 4 ? connect_results[connects] : 0;

    connects++;
    return result != 0 ? result : lend_sys_real.connect(fd, address, bytes);
}

static int fake_set_option(int fd, int level, int name, int value)
{
    return options_failing > 0 ? -ENOPROTOOPT : lend_sys_real.set_option(fd, level, name, value);
}

static int fake_accept(int fd)
{
    return accept_failure != 0 ? accept_failure : lend_sys_real.accept(fd);
}

static void fake(void)
{
    faked = lend_sys_real;
    faked.now_ns = fake_now_ns;
    faked.connect = fake_connect;
    faked.set_option = fake_set_option;
    faked.accept = fake_accept;
    ahead_ns = 0;
    memset(connect_results, 0, sizeof connect_results);
    connects = options_failing = accept_failure = 0;
    lend_sys = &faked;
}

/* The address of a plain listener at loopback, as metadata would have it; its descriptor. */
static int listen_plainly(uint8_t *address, size_t *count)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_storage storage;
    struct lend_tcp_places places = {.count = 1};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(lend_sys_real.own_address(fd, &storage), 0);
    assert_true(lend_tcp_place_of(&places.places[0], &storage));
    *count = lend_tcp_places_encode(&places, address);
    return fd;
}

/* A plain connection to an agent. */
static int dial(struct lend_agent *agent)
{
    const struct lend_tcp *tcp = agent->opened;
    struct sockaddr_storage address;
    socklen_t count = lend_tcp_place_socket(&tcp->told.places[0], &address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, count), 0);
    return fd;
}

/* The other end closes without a byte, sooner or later. */
static void expect_closed(int fd, struct lend_agent *agent)
{
    uint64_t until = lend_sys_real.now_ns() + PATIENCE_NS;
    struct pollfd look = {.fd = fd, .events = POLLIN};
    uint8_t byte;

    while (poll(&look, 1, 0) == 0) {
        assert_true(lend_sys_real.now_ns() < until);
        (void)stub_turn(agent, 1000000);
    }
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    (void)close(fd);
}

static size_t make_greeting(uint8_t *bytes)
{
    static const uint8_t payload[FIRST_BYTES] = {1, 2, 3};
    const struct lend_frame frame = {.type = LEND_FRAME_HELLO, .payload_bytes = FIRST_BYTES};

    lend_tcp_preamble_encode(bytes);
    lend_frame_encode(&frame, payload, bytes + LEND_TCP_PREAMBLE_BYTES);
    memcpy(bytes + LEND_TCP_PREAMBLE_BYTES + LEND_FRAME_HEADER_BYTES, payload, FIRST_BYTES);
    return LEND_TCP_PREAMBLE_BYTES + LEND_FRAME_HEADER_BYTES + FIRST_BYTES;
}

static uint32_t half_open(const struct lend_agent *agent)
{
    return ((const struct lend_tcp *)agent->opened)->half_open_count;
}

static void test_two_agents_meet(void **state)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];
    struct lend_error error;

    (void)state;
    stub_pair(&client, &server);
    stub_greet(server.sessions[0].channel);
    STUB_UNTIL(ops->peek(client.sessions[0].channel, header, &error) == LEND_OK, &client, &server);
    stub_take_greeting(client.sessions[0].channel);
    assert_int_equal(half_open(&server), 0);
    assert_int_equal(server.warnings, 0);
    stub_unpair(&client, &server);
}

static void test_greeting_may_come_byte_by_byte(void **state)
{
    uint8_t bytes[256], header[LEND_FRAME_HEADER_BYTES];
    size_t count = make_greeting(bytes);

    (void)state;
    stub_open(&server, "127.0.0.1");
    int fd = dial(&server), one = 1;
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), 0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(server.session_count, 0);
        assert_int_equal(send(fd, bytes + i, 1, MSG_NOSIGNAL), 1);
        while (stub_turn(&server, 0))
            ;
        assert_int_equal(recv(fd, header, 1, MSG_DONTWAIT), -1); /* nothing is said */
    }
    STUB_UNTIL(server.session_count == 1, &server, (struct lend_agent *)NULL);
    stub_take_greeting(server.sessions[0].channel);
    (void)close(fd);
    stub_close(&server);
}

static void test_bytes_of_strangers_are_refused_at_once(void **state)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01",
                                        "SSH-2.0-x\r\n", "\0\0\0\0\0\0\0\0"};
    uint8_t bytes[256];

    (void)state;
    stub_open(&server, "127.0.0.1");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int fd = dial(&server);
        size_t count = strlen(texts[i]) > 8 ? strlen(texts[i]) : 8;

        memset(bytes, 0, sizeof bytes);
        memcpy(bytes, texts[i], strlen(texts[i]));
        assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), count);
        expect_closed(fd, &server);
    }
    /* A right preamble, and no frame behind; or one that no first frame is. */
    for (int i = 0; i < 2; i++) {
        const struct lend_frame frame = {.type = LEND_FRAME_DATA, .payload_bytes = 100000};
        int fd = dial(&server);

        memset(bytes, 'x', sizeof bytes);
        lend_tcp_preamble_encode(bytes);
        if (i == 1)
            lend_frame_encode(&frame, NULL, bytes + LEND_TCP_PREAMBLE_BYTES);
        assert_int_equal(
            send(fd, bytes, LEND_TCP_PREAMBLE_BYTES + LEND_FRAME_HEADER_BYTES, MSG_NOSIGNAL),
            LEND_TCP_PREAMBLE_BYTES + LEND_FRAME_HEADER_BYTES);
        expect_closed(fd, &server);
    }
    assert_int_equal(server.session_count, 0);
    assert_int_equal(server.warnings, 1); /* of six: no stranger fills the log */
    assert_non_null(strstr(server.warning, "127.0.0.1:"));
    stub_close(&server);
}

static void test_other_version_is_told_ours(void **state)
{
    uint8_t bytes[256], answer[64];
    size_t count = make_greeting(bytes);
    uint16_t version;

    (void)state;
    stub_open(&server, "127.0.0.1");
    int fd = dial(&server);
    bytes[4]++;
    assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), count);
    STUB_UNTIL(server.warnings == 1, &server, (struct lend_agent *)NULL);
    assert_non_null(strstr(server.warning, "speaks version 2"));
    assert_int_equal(recv(fd, answer, sizeof answer, 0), LEND_TCP_PREAMBLE_BYTES);
    assert_int_equal(lend_tcp_preamble_decode(answer, &version), LEND_TCP_IS_OURS);
    (void)close(fd);
    stub_close(&server);
}

/* What answers a client with count bytes; how that ends. */
static void expect_answer(const uint8_t *bytes, size_t count, enum lend_status status,
                          const char *says)
{
    uint8_t address[512], header[LEND_FRAME_HEADER_BYTES];
    struct lend_error error = {0};
    size_t length;
    int listener = listen_plainly(address, &length);

    stub_open(&client, NULL);
    assert_int_equal(stub_connect(&client, address, length, &error), LEND_OK);
    STUB_UNTIL(ops->room(client.sessions[0].channel) > 0, &client, (struct lend_agent *)NULL);
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), count);
    enum lend_status got;
    uint64_t until = lend_sys_real.now_ns() + PATIENCE_NS;
    while ((got = ops->peek(client.sessions[0].channel, header, &error)) == LEND_PENDING)
        assert_true(lend_sys_real.now_ns() < until);
    assert_int_equal(got, status);
    assert_non_null(strstr(error.message, says));
    assert_non_null(strstr(error.message, "127.0.0.1:"));
    (void)close(fd);
    (void)close(listener);
    stub_close(&client);
}

static void test_what_answers_is_told_apart(void **state)
{
    uint8_t other[LEND_TCP_PREAMBLE_BYTES];

    (void)state;
    lend_tcp_preamble_encode(other);
    other[4] = 7;
    expect_answer(other, sizeof other, LEND_E_VERSION, "version 7");
    expect_answer((const uint8_t *)"HTTP/1.1 400 Bad", 16, LEND_E_PEER_DEAD, "no agent of lend");
}

static void test_silent_connections_are_closed_in_time(void **state)
{
    uint8_t bytes[256];
    size_t count = make_greeting(bytes);

    (void)state;
    fake();
    stub_open(&server, "127.0.0.1");
    int silent = dial(&server), slow = dial(&server);
    assert_int_equal(send(slow, bytes, count - 1, MSG_NOSIGNAL), count - 1);
    STUB_UNTIL(half_open(&server) == 2, &server, (struct lend_agent *)NULL);
    while (stub_turn(&server, 0))
        ;
    assert_int_equal(half_open(&server), 2);
    assert_true(server.alarm_ns != 0);
    ahead_ns += UINT64_C(6000000000);
    (void)stub_turn(&server, 0);
    assert_int_equal(half_open(&server), 0);
    expect_closed(silent, &server);
    expect_closed(slow, &server);
    assert_non_null(strstr(server.warning, "no greeting in time"));
    stub_close(&server);
}

static void test_flood_of_connections_costs_the_oldest(void **state)
{
    enum { FLOOD = LEND_TCP_HALF_OPEN_MAX + 20 };
    int fds[FLOOD];

    (void)state;
    stub_open(&server, "127.0.0.1");
    for (int i = 0; i < FLOOD; i++) {
        fds[i] = dial(&server);
        while (stub_turn(&server, 0))
            assert_true(half_open(&server) <= LEND_TCP_HALF_OPEN_MAX);
    }
    STUB_UNTIL(half_open(&server) == LEND_TCP_HALF_OPEN_MAX, &server, (struct lend_agent *)NULL);
    for (int i = 0; i < 20; i++)
        expect_closed(fds[i], &server);
    for (int i = 20; i < FLOOD; i++)
        (void)close(fds[i]);
    stub_close(&server);
}

static void test_refused_session_closes_its_connection(void **state)
{
    uint8_t bytes[256];
    size_t count = make_greeting(bytes);

    (void)state;
    stub_open(&server, "127.0.0.1");
    server.refuses = true;
    int fd = dial(&server);
    assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), count);
    expect_closed(fd, &server);
    assert_non_null(strstr(server.warning, "no more than that"));
    stub_close(&server);
}

static void test_lack_of_descriptors_is_waited_out(void **state)
{
    (void)state;
    fake();
    stub_open(&server, "127.0.0.1");
    accept_failure = -EMFILE;
    int fd = dial(&server);
    STUB_UNTIL(server.warnings == 1, &server, (struct lend_agent *)NULL);
    uint32_t turns = server.turns;
    assert_false(stub_turn(&server, 0)); /* it does not look without end */
    assert_int_equal(server.turns, turns);
    accept_failure = 0;
    ahead_ns += UINT64_C(200000000);
    STUB_UNTIL(half_open(&server) == 1, &server, (struct lend_agent *)NULL);
    (void)close(fd);
    stub_close(&server);
}

static void test_errors_of_one_connection_do_not_stop_the_others(void **state)
{
    (void)state;
    fake();
    stub_open(&server, "127.0.0.1");
    accept_failure = -ENETUNREACH;
    int fd = dial(&server);
    (void)stub_turn(&server, 100000000);
    assert_int_equal(server.warnings, 0);
    accept_failure = 0;
    STUB_UNTIL(half_open(&server) == 1, &server, (struct lend_agent *)NULL);
    (void)close(fd);
    stub_close(&server);
}

/* Where nobody listens any more. */
static size_t make_empty_address(uint8_t *address)
{
    size_t count;

    (void)close(listen_plainly(address, &count));
    return count;
}

static void test_nobody_there_is_told_with_the_address(void **state)
{
    static const struct {
        int result;
        enum lend_status status;
    } cases[] = {{-ECONNREFUSED, LEND_E_PEER_DEAD}, {-EHOSTUNREACH, LEND_E_PEER_DEAD},
                 {-ENETUNREACH, LEND_E_PEER_DEAD},  {-ETIMEDOUT, LEND_E_TIMEOUT},
                 {-EPERM, LEND_E_ACCESS},           {-EADDRNOTAVAIL, LEND_E_SYSTEM}};
    uint8_t address[512];
    size_t count = make_empty_address(address);
    struct lend_error error = {0};

    (void)state;
    fake();
    stub_open(&client, NULL);
    assert_int_equal(stub_connect(&client, address, count, &error), LEND_E_PEER_DEAD);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        connects = 0;
        connect_results[0] = cases[i].result;
        assert_int_equal(stub_connect(&client, address, count, &error), cases[i].status);
        assert_int_equal(error.sys_errno, -cases[i].result);
        assert_non_null(strstr(error.message, "no connection to 127.0.0.1:"));
    }
    options_failing = 1;
    assert_int_equal(stub_connect(&client, address, count, &error), LEND_E_SYSTEM);
    assert_int_equal(stub_connect(&client, address, 3, &error), LEND_E_CORRUPT);
    assert_int_equal(client.session_count, 0);
    stub_close(&client);
}

static void test_addresses_are_tried_one_after_the_other(void **state)
{
    uint8_t address[512];
    struct lend_tcp_places places;
    struct lend_error error = {0};

    (void)state;
    fake();
    stub_open(&server, "127.0.0.1");
    stub_open(&client, NULL);
    size_t count = ops->address(server.opened, address);
    assert_true(lend_tcp_places_decode(&places, address, count));
    places.count = 3;
    places.places[1] = places.places[2] = places.places[0];
    connect_results[0] = -EHOSTUNREACH;
    connect_results[1] = -ECONNREFUSED;
    count = lend_tcp_places_encode(&places, address);
    assert_int_equal(stub_connect(&client, address, count, &error), LEND_OK);
    assert_int_equal(connects, 3);
    STUB_UNTIL(ops->room(client.sessions[0].channel) > 0, &client, &server);
    stub_unpair(&client, &server);
}

static int pending_failures; /* of the questions to come */

static int fake_pending(int fd)
{
    return pending_failures-- > 0 ? -ETIMEDOUT : lend_sys_real.pending_error(fd);
}

static void test_place_that_fails_later_gives_way_to_the_next(void **state)
{
    uint8_t address[512];
    struct lend_tcp_places places;
    struct lend_error error = {0};

    (void)state;
    for (uint32_t count = 1; count <= 2; count++) {
        fake();
        faked.pending_error = fake_pending;
        pending_failures = 0;
        stub_open(&server, "127.0.0.1");
        stub_open(&client, NULL);
        (void)lend_tcp_places_decode(&places, address, ops->address(server.opened, address));
        places.count = count;
        places.places[1] = places.places[0];
        assert_int_equal(
            stub_connect(&client, address, lend_tcp_places_encode(&places, address), &error),
            LEND_OK);
        pending_failures = 1; /* what the first has come to, when it is looked at */
        struct lend_session *session = &client.sessions[0];
        STUB_UNTIL(ops->room(session->channel) > 0 || session->hung != LEND_OK, &client, &server);
        assert_int_equal(connects, count);
        assert_int_equal(session->hung, count == 1 ? LEND_E_TIMEOUT : LEND_OK);
        if (count == 1)
            assert_non_null(strstr(session->reason, "no connection to 127.0.0.1:"));
        stub_unpair(&client, &server);
        lend_sys = &lend_sys_real;
    }
}

static void expect_refusal(const char *listen, const char *advertise, enum lend_status status,
                           const char *says)
{
    struct lend_agent agent = {.epoll = -1};
    struct lend_transport_open terms = stub_terms(&agent, listen);
    struct lend_error error = {0};
    void *transport = NULL;

    terms.advertise = advertise;
    assert_true(ops->is_wanted(&terms));
    assert_int_equal(ops->open(&terms, &transport, &error), status);
    assert_null(transport);
    if (strstr(error.message, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.message, says);
}

static void test_bad_settings_are_refused_with_the_remedy(void **state)
{
    uint8_t address[512];
    char text[LEND_TCP_TEXT_BYTES];

    (void)state;
    expect_refusal("localhost:7000", NULL, LEND_E_INVALID, "numeric ADDRESS");
    expect_refusal("127.0.0.1:123456", NULL, LEND_E_INVALID, "127.0.0.1:123456");
    expect_refusal("127.0.0.1", "nowhere", LEND_E_INVALID, "advertise is \"nowhere\"");
    expect_refusal(NULL, "127.0.0.1", LEND_E_INVALID, "listen is not");
    expect_refusal("192.0.2.1:7000", NULL, LEND_E_SYSTEM, "no address of this machine");

    stub_open(&server, "127.0.0.1");
    assert_true(ops->describe(server.opened, text, sizeof text));
    assert_false(ops->describe(server.opened, text, strlen(text)));
    assert_true(ops->describe(server.opened, text, strlen(text) + 1));
    expect_refusal(text, NULL, LEND_E_SYSTEM, "taken by another program");
    size_t count = ops->address(server.opened, address);
    assert_true(ops->reaches(server.opened, address, count));
    stub_close(&server);
}

static void test_agent_without_a_listener_is_reached_by_nobody(void **state)
{
    uint8_t address[512];
    char text[LEND_TCP_TEXT_BYTES];
    const struct lend_transport_open terms = stub_terms(&client, NULL);

    (void)state;
    assert_false(ops->is_wanted(&terms));
    stub_open(&client, NULL);
    assert_false(ops->describe(client.opened, text, sizeof text));
    assert_false(ops->reaches(client.opened, address, ops->address(client.opened, address)));
    stub_close(&client);
}

static void test_port_is_free_again_for_who_restarts(void **state)
{
    char text[LEND_TCP_TEXT_BYTES];

    (void)state;
    stub_pair(&client, &server);
    assert_true(ops->describe(server.opened, text, sizeof text));
    stub_close(&server); /* first, so that it is its end that lingers */
    stub_close(&client);
    stub_open(&server, text);
    stub_close(&server);
}

static void test_forked_child_disturbs_nothing(void **state)
{
    uint8_t payload[FIRST_BYTES] = {0}, header[LEND_FRAME_HEADER_BYTES];
    struct lend_error error;

    (void)state;
    stub_pair(&client, &server);
    int silent = dial(&server);
    STUB_UNTIL(half_open(&server) == 1, &server, &client);
    /* As in a child: on copies of what the parent goes on with, but for the descriptors. */
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ops->close_channel(server.sessions[0].channel, true);
        ops->close_forked(server.opened);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(ops->sleep(server.sessions[0].channel, false, 0));
    stub_greet(client.sessions[0].channel);
    uint32_t wakes = server.sessions[0].wakes;
    STUB_UNTIL(server.sessions[0].wakes > wakes, &server, &client);
    assert_int_equal(ops->peek(server.sessions[0].channel, header, &error), LEND_OK);
    assert_int_equal(ops->take(server.sessions[0].channel, payload, sizeof payload, &error),
                     LEND_OK);
    assert_int_equal(half_open(&server), 1);
    (void)close(silent);
    STUB_UNTIL(half_open(&server) == 0, &server, &client);
    stub_unpair(&client, &server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STUB_TEST(test_two_agents_meet),
        STUB_TEST(test_greeting_may_come_byte_by_byte),
        STUB_TEST(test_bytes_of_strangers_are_refused_at_once),
        STUB_TEST(test_other_version_is_told_ours),
        STUB_TEST(test_what_answers_is_told_apart),
        STUB_TEST(test_silent_connections_are_closed_in_time),
        STUB_TEST(test_flood_of_connections_costs_the_oldest),
        STUB_TEST(test_refused_session_closes_its_connection),
        STUB_TEST(test_lack_of_descriptors_is_waited_out),
        STUB_TEST(test_errors_of_one_connection_do_not_stop_the_others),
        STUB_TEST(test_nobody_there_is_told_with_the_address),
        STUB_TEST(test_addresses_are_tried_one_after_the_other),
        STUB_TEST(test_place_that_fails_later_gives_way_to_the_next),
        STUB_TEST(test_bad_settings_are_refused_with_the_remedy),
        STUB_TEST(test_agent_without_a_listener_is_reached_by_nobody),
        STUB_TEST(test_port_is_free_again_for_who_restarts),
        STUB_TEST(test_forked_child_disturbs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
