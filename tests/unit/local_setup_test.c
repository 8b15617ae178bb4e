/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: agents of one host find each other, whoever may not come in is kept out and told why, and
 * whatever a stranger sends to the socket costs one connection and nothing else. Method: clients
 * written by hand speak to a listening agent through a raw socket; a double of the system lies
 * about users and files, keeps the time, and runs out of descriptors.
 */
#include "local_stub.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const struct lend_transport_ops *const ops = &lend_transport_local;

enum { SETUP_BYTES = 16, NOBODY = 65534 };

static int raw_connect(struct lend_agent *to)
{
    struct lend_local_place place;
    struct sockaddr_un address;
    uint8_t bytes[512];
    size_t count = ops->address(to->opened, bytes);

    assert_true(lend_local_place_decode(&place, bytes, count));
    int fd = lend_sys_real.socket();
    assert_true(fd >= 0);
    socklen_t length = lend_local_place_socket(&place, &address);
    int result = lend_sys_real.connect(fd, (struct sockaddr *)&address, length);
    if (result == 0)
        return fd;
    (void)close(fd);
    return result;
}

/* What a hand-made first packet says, and brings; a zero means what a good one has there. */
struct setup {
    const char *what;
    uint32_t magic;
    uint16_t version;
    uint16_t flags;
    uint64_t ring_bytes;
    size_t bytes;
    int fds[4];
    int fd_count;
    enum lend_status status; /* that the answer names */
};

static void raw_send(int fd, const struct setup *setup)
{
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(4 * sizeof(int))];
    } control = {.bytes = {0}};
    const uint32_t magic = setup->magic != 0 ? setup->magic : 0x534c444e;
    const uint16_t version = setup->version != 0 ? setup->version : 2;
    const uint64_t ring_bytes = setup->ring_bytes != 0 ? setup->ring_bytes : RING_BYTES;
    uint8_t packet[300] = {0};
    struct iovec bytes = {.iov_base = packet,
                          .iov_len = setup->bytes != 0 ? setup->bytes : SETUP_BYTES};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    size_t fd_bytes = (size_t)setup->fd_count * sizeof(int);

    memcpy(packet, &magic, 4);
    memcpy(packet + 4, &version, 2);
    memcpy(packet + 6, &setup->flags, 2);
    memcpy(packet + 8, &ring_bytes, 8);
    if (setup->fd_count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(fd_bytes);
        struct cmsghdr *part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(fd_bytes);
        memcpy(CMSG_DATA(part), setup->fds, fd_bytes);
    }
    assert_int_equal(lend_sys_real.sendmsg(fd, &message), bytes.iov_len);
}

/* The status of the answer that waits; LEND_PENDING: none; 1 + LEND_PENDING: the connection was
 * closed. */
enum { CLOSED = 1 + LEND_PENDING };
static int raw_answer(int fd)
{
    struct lend_local_packet packet;
    struct lend_local_answer answer;

    do /* what the server tells of one-sided ways is for local_share_test.c */
        lend_local_receive(fd, true, &packet);
    while (packet.count > 0 && lend_local_is_notice(&packet));
    if (packet.count == -EAGAIN)
        return LEND_PENDING;
    if (packet.count == 0 || packet.count == -ECONNRESET)
        return CLOSED;
    assert_true(lend_local_answer_decode(&packet, &answer));
    assert_int_equal(packet.fd_count, answer.has_pidfd ? 1 : 0);
    for (uint32_t i = 0; i < packet.fd_count; i++)
        (void)close(packet.fds[i]);
    return answer.status;
}

static int memory_of(uint64_t bytes)
{
    int fd = lend_sys_real.memfd("test", bytes);

    assert_true(fd >= 0);
    return fd;
}

static int unsealed_memory(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)lend_local_file_bytes(RING_BYTES)), 0);
    return fd;
}

static int read_only_memory(void)
{
    char path[48];
    int fd = memory_of(lend_local_file_bytes(RING_BYTES));

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(again >= 0);
    (void)close(fd);
    return again;
}

static int good_memory(void)
{
    return memory_of(lend_local_file_bytes(RING_BYTES));
}

static void test_a_setup_made_by_hand_is_taken(void **state)
{
    static struct lend_agent server;
    struct setup setup = {.fds = {good_memory(), lend_sys->pidfd_self()}, .fd_count = 1};

    (void)state;
    for (int pidfds = 0; pidfds < (setup.fds[1] >= 0 ? 2 : 1); pidfds++) {
        setup.flags = (uint16_t)pidfds;
        setup.fd_count = 1 + pidfds;
        stub_open(&server, 1, false);
        int fd = raw_connect(&server);
        raw_send(fd, &setup);
        stub_settle(&server, NULL);
        assert_int_equal(server.session_count, 1);
        assert_int_equal(stub_channel(&server)->death.fd >= 0, pidfds);
        assert_int_equal(server.sessions[0].wakes, 1);
        assert_int_equal(server.warnings, 0);
        assert_int_equal(raw_answer(fd), LEND_OK);
        assert_int_equal(raw_answer(fd), LEND_PENDING);
        (void)close(fd);
        stub_await_end(&server, &server.sessions[0]);
        stub_close(&server);
    }
    (void)close(setup.fds[0]);
    if (setup.fds[1] >= 0)
        (void)close(setup.fds[1]);
}

static void test_a_bad_setup_costs_its_connection_and_nothing_else(void **state)
{
    static struct lend_agent client, server;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct setup setups[] = {
        {"an empty one", .bytes = 1, .status = LEND_E_CORRUPT},
        {"a cut one", .bytes = 15, .fds = {good_memory()}, .fd_count = 1},
        {"a long one", .bytes = 17, .fds = {good_memory()}, .fd_count = 1},
        {"one that is longer than we read", .bytes = 300, .fds = {good_memory()}, .fd_count = 1},
        {"another protocol", .magic = 0x20544547, .fds = {good_memory()}, .fd_count = 1},
        {"a later version", .version = 3, .fds = {good_memory()}, .fd_count = 1,
         .status = LEND_E_VERSION},
        {"an unknown flag", .flags = 2, .fds = {good_memory()}, .fd_count = 1},
        {"no descriptor", .fd_count = 0},
        {"no pidfd though it says so", .flags = 1, .fds = {good_memory()}, .fd_count = 1},
        {"one too many", .fds = {good_memory(), dup(null)}, .fd_count = 2},
        {"more than we take", .flags = 1, .fds = {good_memory(), dup(null), dup(null), dup(null)},
         .fd_count = 4},
        {"a file that is no memory", .fds = {dup(null)}, .fd_count = 1},
        {"memory that may shrink", .fds = {unsealed_memory()}, .fd_count = 1},
        {"memory that may not be written", .fds = {read_only_memory()}, .fd_count = 1,
         .status = LEND_E_NO_MEMORY},
        {"memory that is too short", .fds = {memory_of(RING_BYTES)}, .fd_count = 1},
        {"small rings", .ring_bytes = RING_BYTES / 2, .fds = {good_memory()}, .fd_count = 1},
        {"huge rings", .ring_bytes = UINT64_C(1) << 62, .fds = {good_memory()}, .fd_count = 1},
        {"rings that wrap", .ring_bytes = UINT64_C(1) << 63, .fds = {good_memory()}, .fd_count = 1},
        {"rings of no power of two", .ring_bytes = 3 * RING_BYTES, .fds = {good_memory()},
         .fd_count = 1},
    };

    (void)state;
    stub_pair(&client, &server);
    for (size_t i = 0; i < sizeof setups / sizeof setups[0]; i++) {
        struct setup *setup = &setups[i];
        int expected = setup->status != 0 ? (int)setup->status : LEND_E_CORRUPT;

        int fd = raw_connect(&server);
        raw_send(fd, setup);
        for (int j = 0; j < setup->fd_count; j++)
            (void)close(setup->fds[j]);
        stub_settle(&server, &client);
        int answer = raw_answer(fd);
        if (answer != expected)
            fail_msg("%s: answered %d, not %d", setup->what, answer, expected);
        assert_int_equal(raw_answer(fd), CLOSED);
        (void)close(fd);
    }
    (void)close(null);
    assert_int_equal(server.session_count, 1);
    assert_int_equal(server.warnings, 1); /* no stranger fills the log */

    /* Neither those who are connected nor those who come later noticed. */
    assert_int_equal(client.sessions[0].hung, LEND_OK);
    assert_int_equal(stub_connect(&client, &server, NULL), LEND_OK);
    stub_settle(&server, &client);
    assert_int_equal(server.session_count, 2);
    stub_unpair(&client, &server);
}

static void test_a_descriptor_that_is_no_pidfd_is_not_watched(void **state)
{
    static struct lend_agent server;
    int pipe_ends[2];

    (void)state;
    assert_int_equal(pipe(pipe_ends), 0);
    struct setup setup = {.flags = 1, .fds = {good_memory(), pipe_ends[0]}, .fd_count = 2};
    stub_open(&server, 1, false);
    int fd = raw_connect(&server);
    raw_send(fd, &setup);
    stub_settle(&server, NULL);
    assert_int_equal(server.session_count, 1);
    assert_int_equal(stub_channel(&server)->death.fd, -1);
    (void)close(pipe_ends[1]);
    stub_settle(&server, NULL);
    assert_int_equal(server.sessions[0].hung, LEND_OK);
    (void)close(fd);
    (void)close(pipe_ends[0]);
    (void)close(setup.fds[0]);
    stub_close(&server);
}

/* Half-open connections */

static struct lend_sys_ops lying;
static uint64_t lying_now_ns;

static uint64_t lie_now(void)
{
    return lying_now_ns;
}

static void lie_about_time(void)
{
    lying = lend_sys_real;
    lying.now_ns = lie_now;
    lying_now_ns = 1000000000000;
    lend_sys = &lying;
}

static void test_too_many_silent_connections_cost_the_oldest(void **state)
{
    static struct lend_agent server;
    int fds[LEND_LOCAL_HALF_OPEN_MAX + 3];
    const int count = (int)(sizeof fds / sizeof fds[0]);

    (void)state;
    stub_open(&server, 1, false);
    for (int i = 0; i < count; i++) {
        fds[i] = raw_connect(&server);
        assert_true(fds[i] >= 0);
        stub_settle(&server, NULL);
    }
    for (int i = 0; i < count; i++) {
        assert_int_equal(raw_answer(fds[i]), i < 3 ? (int)CLOSED : (int)LEND_PENDING);
        (void)close(fds[i]);
    }
    stub_settle(&server, NULL);
    assert_int_equal(server.session_count, 0);
    stub_close(&server);
}

static void test_a_silent_connection_is_closed_in_time(void **state)
{
    static struct lend_agent server;

    (void)state;
    lie_about_time();
    stub_open(&server, 1, false);
    int early = raw_connect(&server);
    stub_settle(&server, NULL);
    assert_int_equal(server.alarm_ns, lying_now_ns + 5000000000);
    lying_now_ns += 1000000000;
    int late = raw_connect(&server);
    stub_settle(&server, NULL);

    lying_now_ns += 3999999999;
    stub_settle(&server, NULL);
    assert_int_equal(raw_answer(early), LEND_PENDING);
    lying_now_ns += 1;
    stub_settle(&server, NULL);
    assert_int_equal(raw_answer(early), CLOSED);
    assert_int_equal(raw_answer(late), LEND_PENDING);
    assert_int_equal(server.alarm_ns, lying_now_ns + 1000000000);
    lying_now_ns += 1000000000;
    stub_settle(&server, NULL);
    assert_int_equal(raw_answer(late), CLOSED);
    assert_int_equal(server.alarm_ns, 0);
    (void)close(early);
    (void)close(late);
    stub_close(&server);
}

static bool accepts_fail;

static int lie_accept(int fd)
{
    return accepts_fail ? -EMFILE : lend_sys_real.accept(fd);
}

static void test_running_out_of_descriptors_pauses_and_does_not_spin(void **state)
{
    static struct lend_agent client, server;

    (void)state;
    lie_about_time();
    lying.accept = lie_accept;
    accepts_fail = true;
    stub_open(&client, 1, false);
    stub_open(&server, 2, false);
    assert_int_equal(stub_connect(&client, &server, NULL), LEND_OK);
    stub_settle(&client, &server);
    assert_int_equal(server.turns, 1);
    assert_true(server.alarm_ns > lying_now_ns);
    lying_now_ns = server.alarm_ns; /* still none: it pauses once more */
    stub_settle(&client, &server);
    assert_int_equal(server.turns, 2);
    accepts_fail = false;
    lying_now_ns = server.alarm_ns;
    stub_settle(&client, &server);
    assert_int_equal(server.session_count, 1);
    stub_unpair(&client, &server);
}

/* Being refused */

static void test_a_client_hears_why_it_was_refused(void **state)
{
    static struct lend_agent client, server;

    (void)state;
    stub_open(&client, 1, false);
    stub_open(&server, 2, false);
    server.refuses = true;
    assert_int_equal(stub_connect(&client, &server, NULL), LEND_OK);
    assert_int_equal(ops->room(client.sessions[0].channel), 0); /* nothing leaves before */
    stub_settle(&client, &server);
    assert_int_equal(client.sessions[0].hung, LEND_E_LIMIT);
    assert_non_null(strstr(client.sessions[0].reason, "LEND_E_LIMIT"));
    assert_non_null(strstr(server.warning, "no more than that"));
    stub_unpair(&client, &server);
}

static void expect_failure(struct lend_agent *client, const void *address, size_t count,
                           enum lend_status expected, const char *text)
{
    struct lend_channel *channel = NULL;
    struct lend_error error = {0};

    assert_int_equal(
        ops->connect(client->opened, address, count, &client->sessions[0], &channel, &error),
        expected);
    assert_null(channel);
    if (strstr(error.message, text) == NULL)
        fail_msg("no '%s' in '%s'", text, error.message);
}

static void test_nobody_there_is_told_with_the_path(void **state)
{
    static struct lend_agent client, server;
    uint8_t address[512] = {0};

    (void)state;
    stub_open(&client, 1, false);
    stub_open(&server, 2, false);
    size_t count = ops->address(server.opened, address);
    assert_true(ops->reaches(client.opened, address, count));
    stub_close(&server);
    expect_failure(&client, address, count, LEND_E_PEER_DEAD, (const char *)address + 18);
    expect_failure(&client, "\1\1nobody here", 13, LEND_E_PEER_DEAD, "@nobody here");

    /* A socket whose agent was killed stays in its folder. */
    struct lend_local_place place;
    struct sockaddr_un name;
    assert_true(lend_local_place_decode(&place, address, count));
    int fd = lend_sys->socket();
    socklen_t length = lend_local_place_socket(&place, &name);
    assert_int_equal(lend_sys->bind(fd, (struct sockaddr *)&name, length), 0);
    (void)close(fd);
    expect_failure(&client, address, count, LEND_E_PEER_DEAD, "Connection refused");
    lend_sys->unlink(place.path);
    stub_close(&client);
}

static void test_a_full_queue_is_busy(void **state)
{
    static struct lend_agent client, server;
    enum { QUEUE_MAX = 400 };
    int fds[QUEUE_MAX], count = 0;
    struct lend_error error;

    (void)state;
    stub_open(&client, 1, false);
    stub_open(&server, 2, false);
    while (count < QUEUE_MAX && (fds[count] = raw_connect(&server)) >= 0)
        count++;
    assert_true(count > 64 && count < QUEUE_MAX);
    assert_int_equal(stub_connect(&client, &server, &error), LEND_E_BUSY);
    while (count > 0)
        (void)close(fds[--count]);
    stub_settle(&client, &server);
    assert_int_equal(stub_connect(&client, &server, &error), LEND_OK);
    stub_unpair(&client, &server);
}

/* A boot id that is not known. */
#define NOWHERE "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static void test_addresses_are_looked_at_byte_by_byte(void **state)
{
    static const struct {
        const char *bytes;
        size_t count;
        bool is_good;
    } addresses[] = {
        {"\1\0/a", 4, true},
        {"\1\1a", 3, true},
        {"\1\0a", 3, false},
        {"\1\0", 2, false},
        {"\1", 1, false},
        {"", 0, false},
        {"\3\0/a", 4, false},
        {"\1\2/a", 4, false},
        {"\1\0/\0a", 5, false},
        {"\1\0/a\nb", 6, false},
        {"\1\0/\177", 4, false},
        {"\2\0" NOWHERE "/a", 20, true},
        {"\2\0" NOWHERE, 18, false},
        {"\2\0" NOWHERE "a", 19, false},
        {"\2\0/a", 4, false},
    };
    uint8_t longest[2 + LEND_LOCAL_PATH_MAX + 1] = {1, 0};
    static struct lend_agent client;

    (void)state;
    stub_open(&client, 1, false);
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        /* A copy of exactly that size, so that a look past the end is seen by the sanitizer. */
        uint8_t *exact = malloc(addresses[i].count + 1);
        assert_non_null(exact);
        exact = realloc(exact, addresses[i].count > 0 ? addresses[i].count : 1);
        assert_non_null(exact);
        memcpy(exact, addresses[i].bytes, addresses[i].count);
        assert_int_equal(ops->reaches(client.opened, exact, addresses[i].count),
                         addresses[i].is_good);
        free(exact);
    }
    memset(longest + 2, '/', sizeof longest - 2);
    assert_true(ops->reaches(client.opened, longest, sizeof longest - 1));
    assert_false(ops->reaches(client.opened, longest, sizeof longest));
    stub_close(&client);
}

static void test_an_address_of_another_machine_is_not_reached(void **state)
{
    static struct lend_agent client, server;
    uint8_t address[512] = {0};

    (void)state;
    stub_open(&client, 1, false);
    stub_open(&server, 2, false);
    size_t count = ops->address(server.opened, address);
    assert_true(ops->reaches(client.opened, address, count));
    address[2 + 7] ^= 0x40; /* another machine, or this one before it booted */
    bool is_known = memcmp(address + 2, NOWHERE, 16) != 0;
    assert_true(is_known); /* Linux tells it */
    assert_false(ops->reaches(client.opened, address, count));
    memset(address + 2, 0, 16); /* one that does not tell */
    assert_true(ops->reaches(client.opened, address, count));
    stub_close(&server);
    stub_close(&client);
}

/* A kernel that does not tell its boot id, or not as one. */
static const char *boot_id_text;

static int open_boot_id(const char *path)
{
    if (strstr(path, "boot_id") == NULL)
        return lend_sys_real.open_read(path);
    return boot_id_text != NULL ? 4711 : -ENOENT;
}

static ssize_t read_boot_id(int fd, void *bytes, size_t count)
{
    if (fd != 4711)
        return lend_sys_real.read(fd, bytes, count);
    assert_true(strlen(boot_id_text) <= count);
    memcpy(bytes, boot_id_text, strlen(boot_id_text));
    return (ssize_t)strlen(boot_id_text);
}

static void close_boot_id(int fd)
{
    if (fd != 4711)
        lend_sys_real.close(fd);
}

static void test_a_boot_id_is_zeros_where_it_is_not_known(void **state)
{
    static const struct {
        const char *text;
        uint8_t first, last;
    } cases[] = {
        {NULL, 0, 0},
        {"", 0, 0},
        {"12345678-1234", 0, 0},
        {"1a345678-1234-1234-1234-1234567890xy\n", 0, 0},
        {"1a345678-1234-1234-1234-1234567890abcd\n", 0, 0},
        {"1a345678-1234-1234-1234-1234567890ab\n", 0x1a, 0xab},
    };
    const struct lend_sys_ops *before = lend_sys;
    struct lend_sys_ops faked = *before;

    (void)state;
    faked.open_read = open_boot_id;
    faked.read = read_boot_id;
    faked.close = close_boot_id;
    lend_sys = &faked;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct lend_agent agent;
        uint8_t address[512] = {0};

        boot_id_text = cases[i].text;
        stub_open(&agent, 1, false);
        assert_true(ops->address(agent.opened, address) > 18);
        assert_int_equal(address[2], cases[i].first);
        assert_int_equal(address[17], cases[i].last);
        stub_close(&agent);
    }
    lend_sys = before;
}

/* Where an agent listens */

static void test_an_abstract_socket_leaves_no_file_and_connects(void **state)
{
    static struct lend_agent client, server;
    uint8_t address[512];

    (void)state;
    stub_open(&client, 1, false);
    stub_open(&server, 2, true);
    assert_true(ops->address(server.opened, address) > 2);
    assert_int_equal(address[1], 1);
    assert_int_equal(stub_connect(&client, &server, NULL), LEND_OK);
    stub_settle(&client, &server);
    assert_int_equal(server.session_count, 1);
    stub_unpair(&client, &server);
}

static void expect_no_listener(const struct lend_transport_open *terms, enum lend_status expected,
                               const char *text)
{
    struct lend_agent *agent = terms->agent;
    struct lend_error error = {0};

    *agent = (struct lend_agent){.epoll = lend_sys->epoll()};
    assert_int_equal(ops->open(terms, &agent->opened, &error), expected);
    assert_null(agent->opened);
    if (strstr(error.message, text) == NULL)
        fail_msg("no '%s' in '%s'", text, error.message);
    lend_sys->close(agent->epoll);
}

static void test_the_socket_has_its_mode_and_a_name_that_is_safe(void **state)
{
    static struct lend_agent agent;
    struct lend_transport_open terms = stub_terms(&agent);
    uint8_t address[512] = {0};
    struct stat found;

    (void)state;
    terms.local_mode = 0640;
    stub_open_on(&agent, &terms);
    (void)ops->address(agent.opened, address);
    const char *path = (const char *)address + 18;
    assert_string_equal(path + strlen(terms.local_directory), "/a_gent_..-fedcba98.sock");
    assert_int_equal(lend_sys->stat(path, &found), 0);
    assert_int_equal(found.st_mode, S_IFSOCK | 0640);

    /* One agent, one socket: the second is told, and does not take the file away. */
    static struct lend_agent second;
    terms.agent = &second;
    expect_no_listener(&terms, LEND_E_SYSTEM, path);
    assert_int_equal(lend_sys->stat(path, &found), 0);
    stub_close(&agent);
    assert_int_equal(lend_sys->stat(path, &found), -ENOENT);
}

static void test_a_directory_that_cannot_be_is_refused(void **state)
{
    static struct lend_agent agent;
    char name[] =
        "/tmp/a-directory-whose-name-alone-is-much-longer-than-a-socket-can-have-one-and-so"
        "-no-agent-will-ever-listen-there";
    struct lend_transport_open terms = stub_terms(&agent);

    (void)state;
    terms.local_directory = "tmp";
    expect_no_listener(&terms, LEND_E_INVALID, "must begin with /");
    terms.local_directory = name;
    expect_no_listener(&terms, LEND_E_LIMIT, "107");
    terms.local_directory = "/tmp/there is no such folder";
    expect_no_listener(&terms, LEND_E_SYSTEM, "local_directory");
    (void)rmdir(stub_terms(&agent).local_directory);
}

static uid_t lying_user;
static uid_t lying_owner;

static void lie_self(struct ucred *out)
{
    lend_sys_real.self(out);
    out->uid = lying_user;
}

static int lie_stat(const char *path, struct stat *out)
{
    int result = lend_sys_real.stat(path, out);

    out->st_uid = lying_owner;
    return result;
}

static void test_the_default_directory_must_be_ours_alone(void **state)
{
    static struct lend_agent agent;
    struct lend_transport_open terms = stub_terms(&agent);
    char path[64];
    struct stat found;

    (void)state;
    (void)rmdir(terms.local_directory);
    terms.local_directory = NULL;
    lying = lend_sys_real;
    lying.self = lie_self;
    lying.stat = lie_stat;
    lying_owner = lying_user = 3000000000u + (uid_t)getpid();
    lend_sys = &lying;
    (void)snprintf(path, sizeof path, "/tmp/lend-%u", lying_user);

    stub_open_on(&agent, &terms); /* it is made */
    assert_int_equal(lend_sys_real.stat(path, &found), 0);
    assert_int_equal(found.st_mode, S_IFDIR | 0700);
    ops->close(agent.opened);
    lend_sys->close(agent.epoll);

    terms.local_mode = 0666; /* and others can never come in there */
    stub_open_on(&agent, &terms);
    assert_int_equal(agent.warnings, 1);
    ops->close(agent.opened);
    lend_sys->close(agent.epoll);
    agent.opened = NULL;

    lying_owner++;
    expect_no_listener(&terms, LEND_E_ACCESS, "belongs to user");
    lying_owner--;
    assert_int_equal(chmod(path, 0720), 0);
    expect_no_listener(&terms, LEND_E_ACCESS, "may be written by others");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("/tmp", path), 0);
    expect_no_listener(&terms, LEND_E_ACCESS, "is a link");
    assert_int_equal(unlink(path), 0);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    expect_no_listener(&terms, LEND_E_ACCESS, "is not a directory");
    (void)close(fd);
    assert_int_equal(unlink(path), 0);
}

/* Other users */

/* What a process of user nobody is told when it connects. */
static int connect_as_nobody(struct lend_agent *server)
{
    int result = -1;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        static struct lend_agent client;
        struct lend_error error;

        if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
            _exit(100);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        stub_open(&client, 1, true);
        enum lend_status status = stub_connect(&client, server, &error);
        while (status == LEND_OK && client.sessions[0].hung == LEND_OK &&
               !stub_channel(&client)->is_answered)
            (void)stub_turn(&client, 100000000);
        _exit(status != LEND_OK ? -(int)status : -(int)client.sessions[0].hung);
    }
    uint64_t until = lend_sys_real.now_ns() + DEADLINE_NS;
    while (waitpid(child, &result, WNOHANG) == 0) {
        assert_true(lend_sys_real.now_ns() < until);
        (void)stub_turn(server, 1000000);
    }
    assert_true(WIFEXITED(result));
    return -WEXITSTATUS(result);
}

static void test_another_user_comes_in_only_where_the_mode_says_so(void **state)
{
    static const struct {
        bool is_abstract;
        uint32_t mode;
        int status;
    } cases[] = {
        {false, 0600, LEND_E_ACCESS},   {false, 0666, LEND_OK},
        {true, 0600, LEND_E_PEER_DEAD}, /* nothing but the owner can tell it why */
        {true, 0660, LEND_E_PEER_DEAD}, {true, 0666, LEND_OK},
    };
    static struct lend_agent server;

    (void)state;
    if (geteuid() != 0) {
        print_message("only root can become another user: skipped\n");
        skip();
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lend_transport_open terms = stub_terms(&server);

        terms.local_mode = cases[i].mode;
        terms.local_is_abstract = cases[i].is_abstract;
        stub_open_on(&server, &terms);
        assert_int_equal(connect_as_nobody(&server), cases[i].status);
        stub_close(&server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STUB_TEST(test_a_setup_made_by_hand_is_taken),
        STUB_TEST(test_a_bad_setup_costs_its_connection_and_nothing_else),
        STUB_TEST(test_a_descriptor_that_is_no_pidfd_is_not_watched),
        STUB_TEST(test_too_many_silent_connections_cost_the_oldest),
        STUB_TEST(test_a_silent_connection_is_closed_in_time),
        STUB_TEST(test_running_out_of_descriptors_pauses_and_does_not_spin),
        STUB_TEST(test_a_client_hears_why_it_was_refused),
        STUB_TEST(test_nobody_there_is_told_with_the_path),
        STUB_TEST(test_a_full_queue_is_busy),
        STUB_TEST(test_addresses_are_looked_at_byte_by_byte),
        STUB_TEST(test_an_address_of_another_machine_is_not_reached),
        STUB_TEST(test_a_boot_id_is_zeros_where_it_is_not_known),
        STUB_TEST(test_an_abstract_socket_leaves_no_file_and_connects),
        STUB_TEST(test_the_socket_has_its_mode_and_a_name_that_is_safe),
        STUB_TEST(test_a_directory_that_cannot_be_is_refused),
        STUB_TEST(test_the_default_directory_must_be_ours_alone),
        STUB_TEST(test_another_user_comes_in_only_where_the_mode_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
