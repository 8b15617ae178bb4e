/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever an owner sends about the files that it shares, a reader maps none that could fail
 * under it, and takes what makes no sense for the end of the connection; and so does the owner with
 * what a reader sends. Method: packets made by hand go into the sockets of two connected agents of
 * a stub of core.
 */
#include "local_reader.h"
#include "pidfds.h"

enum { FDS_SENT_MAX = 3 };

/* Packets that no agent sends */

struct packet {
    const char *what;
    uint32_t type;
    uint32_t number;
    uint64_t bytes; /* of a file, or of words */
    int fds[FDS_SENT_MAX];
    int fd_count;
    size_t cut;   /* bytes that are missing, */
    size_t extra; /* or too many */
    const char *text;
    const char *refusal; /* the file is not mapped, for that reason; NULL: the connection is cut */
};

static void put(uint8_t *packet, size_t *count, const void *bytes, size_t length)
{
    memcpy(packet + *count, bytes, length);
    *count += length;
}

static void send_raw(int socket, const struct packet *packet)
{
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(FDS_SENT_MAX * sizeof(int))];
    } control = {.bytes = {0}};
    const uint32_t magic = 0x4e4c444e;
    const uint32_t text_bytes = packet->text != NULL ? (uint32_t)strlen(packet->text) : 0;
    uint8_t bytes[400] = {0};
    size_t count = 0, fd_bytes = (size_t)packet->fd_count * sizeof(int);

    put(bytes, &count, &magic, 4);
    put(bytes, &count, &packet->type, 4);
    if (packet->type != LEND_LOCAL_WORDS && packet->type != LEND_LOCAL_READY &&
        packet->type != LEND_LOCAL_PROBE)
        put(bytes, &count, &packet->number, 4);
    if (packet->type >= LEND_LOCAL_WANT_PART)
        count += 4; /* the first */
    if (packet->type == LEND_LOCAL_FILE || packet->type == LEND_LOCAL_WORDS)
        put(bytes, &count, &packet->bytes, 8);
    if (packet->type == LEND_LOCAL_PROBE)
        count += 24;
    if (packet->type == LEND_LOCAL_NO_FILE || packet->type == LEND_LOCAL_NO_PART) {
        put(bytes, &count, &text_bytes, 4);
        if (text_bytes > 0)
            put(bytes, &count, packet->text, text_bytes);
    }
    struct iovec part = {.iov_base = bytes, .iov_len = count - packet->cut + packet->extra};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_bytes > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(fd_bytes);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fd_bytes);
        memcpy(CMSG_DATA(rights), packet->fds, fd_bytes);
    }
    assert_int_equal(lend_sys_real.sendmsg(socket, &message), part.iov_len);
}

/* The reader's LEFT has come to the owner's socket. */
static void expect_left(uint32_t number)
{
    struct lend_local_packet packet;
    struct lend_local_notice notice;

    lend_local_receive(owners_socket(), false, &packet);
    assert_true(packet.count > 0);
    assert_true(lend_local_notice_decode(&packet, &notice));
    assert_int_equal(notice.type, LEND_LOCAL_LEFT);
    assert_int_equal(notice.number, number);
}

static void give_reader(const struct packet *packet)
{
    struct lend_shared_file file = make_file(1), unfit = make_file(2);

    unfit.backing.is_fit_for_mapping = false;
    open_both();
    ops->share(server.opened, &file);
    ops->share(server.opened, &unfit);
    connect_both();
    send_raw(owners_socket(), packet);
    stub_settle(&client, NULL);
    enum lend_status expected = packet->refusal == NULL ? LEND_E_CORRUPT : LEND_OK;
    if (client.sessions[0].hung != expected)
        fail_msg("%s: ended with %d (%s)", packet->what, client.sessions[0].hung,
                 client.sessions[0].reason);
    if (packet->refusal != NULL) {
        expect_absent(5, packet->refusal);
        step_reader();
        expect_left(5);
    }
    (void)expect_mapped(1); /* until it is closed, all else is as it was */
    close_both();
    (void)close(file.fd);
    (void)close(unfit.fd);
}

static void test_a_reader_believes_no_packet(void **state)
{
    int good = make_memory(FILE_BYTES, F_SEAL_SHRINK);
    int open_ended = make_memory(FILE_BYTES, F_SEAL_GROW);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    char long_text[LEND_LOCAL_TEXT_MAX + 2];
    const struct packet packets[] = {
        {"no type", .type = 0},
        {"an unknown type", .type = 8},
        {"a cut one", LEND_LOCAL_FILE, 5, FILE_BYTES, {good}, 1, .cut = 1},
        {"a long one", LEND_LOCAL_FILE, 5, FILE_BYTES, {good}, 1, .extra = 1},
        {"one longer than we read", LEND_LOCAL_FILE, 5, FILE_BYTES, {good}, 1, .extra = 300},
        {"the magic alone", LEND_LOCAL_READY, .cut = 4},
        {"no number", LEND_LOCAL_FILE, 0, FILE_BYTES, {good}, .fd_count = 1},
        {"no length", LEND_LOCAL_FILE, 5, 0, {good}, .fd_count = 1},
        {"no descriptor", LEND_LOCAL_FILE, 5, .bytes = FILE_BYTES},
        {"two descriptors", LEND_LOCAL_FILE, 5, FILE_BYTES, {good, null}, .fd_count = 2},
        {"three descriptors", LEND_LOCAL_FILE, 5, FILE_BYTES, {good, null, good}, .fd_count = 3},
        {"a file twice", LEND_LOCAL_FILE, 1, FILE_BYTES, {good}, .fd_count = 1},
        {"no file that is there", LEND_LOCAL_NO_FILE, 1, .text = "no"},
        {"no file twice", LEND_LOCAL_NO_FILE, 2, .text = "no"},
        {"a file after all", LEND_LOCAL_FILE, 2, FILE_BYTES, {good}, .fd_count = 1},
        {"a text that is no text", LEND_LOCAL_NO_FILE, 5, .text = "\033[31m"},
        {"a text that is too long", LEND_LOCAL_NO_FILE, 5, .text = long_text},
        {"a text that is cut", LEND_LOCAL_NO_FILE, 5, .text = "text", .cut = 1},
        {"no file with a descriptor", LEND_LOCAL_NO_FILE, 5, 0, {null}, 1, .text = "no"},
        {"ready twice", .type = LEND_LOCAL_READY},
        {"words when all is told", LEND_LOCAL_WORDS, 0, FILE_BYTES, {good}, .fd_count = 1},
        {"a probe when all is told", .type = LEND_LOCAL_PROBE},
        {"let go of what is not there", LEND_LOCAL_LET_GO, .number = 5},
        {"let go of what never was", LEND_LOCAL_LET_GO, .number = 2},
        {"what readers send", LEND_LOCAL_LEFT, .number = 1},
        {"what readers send last", LEND_LOCAL_LEFT_ALL, .number = 0},
        {"what readers ask", LEND_LOCAL_WANT_PART, .number = 1},
        {"a part unasked", LEND_LOCAL_PART, 1, 0, {good}, .fd_count = 1},
        {"no part unasked", LEND_LOCAL_NO_PART, 1, .text = "no"},
        {"something else", LEND_LOCAL_FILE, 5, FILE_BYTES, {null}, 1, .refusal = "no memory file"},
        {"what may shrink",
         LEND_LOCAL_FILE,
         5,
         FILE_BYTES,
         {open_ended},
         1,
         .refusal = "could shrink"},
        {"too short a file", LEND_LOCAL_FILE, 5, FILE_BYTES + 1, {good}, 1, .refusal = "length"},
        {"too long a file", LEND_LOCAL_FILE, 5, FILE_BYTES - 1, {good}, 1, .refusal = "length"},
        {"all there is", LEND_LOCAL_FILE, 5, UINT64_MAX, {good}, 1, .refusal = "too long"},
    };

    (void)state;
    memset(long_text, 'a', sizeof long_text);
    long_text[sizeof long_text - 1] = '\0';
    for (size_t i = 0; i < sizeof packets / sizeof packets[0]; i++)
        give_reader(&packets[i]);
    (void)close(good);
    (void)close(open_ended);
    (void)close(null);
}

static void test_words_that_are_not_what_they_should_be_are_not_mapped(void **state)
{
    int good = lend_sys_real.memfd("words", WORDS_BYTES);
    int open_ended = make_memory(FILE_BYTES, F_SEAL_GROW);
    const struct packet packets[] = {
        {"what may shrink", LEND_LOCAL_WORDS, 0, FILE_BYTES, {open_ended}, 1, .refusal = ""},
        {"too short a file", LEND_LOCAL_WORDS, 0, 2 * WORDS_BYTES, {good}, 1, .refusal = ""},
        {"no descriptor", LEND_LOCAL_WORDS, 0, .bytes = WORDS_BYTES},
        {"two descriptors", LEND_LOCAL_WORDS, 0, WORDS_BYTES, {good, good}, .fd_count = 2},
        {"too many", LEND_LOCAL_WORDS, 0, UINT64_C(1) << 40, {good}, .fd_count = 1},
    };
    struct lend_error why;
    uint32_t count;

    (void)state;
    for (size_t i = 0; i < sizeof packets / sizeof packets[0]; i++) {
        open_both();
        connect_both();
        /* As if nothing had been told: the words are unmapped, and asked for once more. */
        ops->close_channel(reader(), false);
        client.session_count = 0;
        stub_await_end(&server, &server.sessions[0]);
        struct lend_local *local = server.opened;
        int words_fd = local->words_fd;
        local->words_fd = -1;
        assert_int_equal(stub_connect(&client, &server, NULL), LEND_OK);
        client.sessions[0].hung = LEND_OK;
        assert_true(stub_turn(&server, 0)); /* accepted */
        struct lend_list *half_open = local->half_open.next;
        assert_true(half_open != &local->half_open);
        int fd = LEND_LIST_OWNER(half_open, struct lend_local_channel, half_open)->socket.fd;
        struct lend_local_channel *answering =
            LEND_LIST_OWNER(half_open, struct lend_local_channel, half_open);
        assert_true(lend_local_answer(answering, LEND_OK));
        send_raw(fd, &packets[i]);
        stub_settle(&client, NULL);
        local->words_fd = words_fd;
        enum lend_status expected = packets[i].refusal == NULL ? LEND_E_CORRUPT : LEND_OK;
        if (client.sessions[0].hung != expected)
            fail_msg("%s: ended with %d (%s)", packets[i].what, client.sessions[0].hung,
                     client.sessions[0].reason);
        assert_null(ops->words(reader(), &count, &why));
        close_both();
    }
    (void)close(good);
    (void)close(open_ended);
}

static void test_more_files_than_are_allowed_end_the_connection(void **state)
{
    int good = make_memory(FILE_BYTES, F_SEAL_SHRINK);
    struct packet packet = {"a file", LEND_LOCAL_FILE, 0, FILE_BYTES, {good}, .fd_count = 1};

    (void)state;
    open_both();
    connect_both();
    for (packet.number = 1; packet.number <= LEND_LOCAL_FILES_MAX; packet.number++) {
        send_raw(owners_socket(), &packet);
        stub_settle(&client, NULL);
        (void)expect_mapped(packet.number);
    }
    send_raw(owners_socket(), &packet);
    stub_settle(&client, NULL);
    assert_int_equal(client.sessions[0].hung, LEND_E_CORRUPT);
    close_both();
    (void)close(good);
}

static void test_refusals_without_end_are_forgotten_and_take_no_room(void **state)
{
    struct packet packet = {"no file", LEND_LOCAL_NO_FILE, .text = "no reason"};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)state;
    open_both();
    connect_both();
    for (packet.number = 1; packet.number <= 3 * LEND_LOCAL_ABSENT_MAX; packet.number++) {
        send_raw(owners_socket(), &packet);
        stub_settle(&client, NULL);
        expect_absent(packet.number, "no reason");
    }
    expect_absent(1, "shares no file");
    packet = (struct packet){"a bad file", LEND_LOCAL_FILE, 0, FILE_BYTES, {null}, .fd_count = 1};
    for (packet.number = 1000; packet.number < 1000 + 3 * LEND_LOCAL_FILES_MAX; packet.number++) {
        send_raw(owners_socket(), &packet);
        stub_settle(&client, NULL);
        step_reader();
        expect_left(packet.number);
        expect_absent(packet.number, "no memory file");
        while (lend_local_closing_count() > 0) /* while many are closed, none is taken */
            (void)sched_yield();
    }
    assert_int_equal(client.sessions[0].hung, LEND_OK);
    close_both();
    (void)close(null);
}

static void test_an_owner_believes_no_packet(void **state)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct packet packets[] = {
        {"left what it never had", LEND_LOCAL_LEFT, .number = 5},
        {"left what it may not have", LEND_LOCAL_LEFT, .number = 2},
        {"left nothing", LEND_LOCAL_LEFT, .number = 0},
        {"a cut one", LEND_LOCAL_LEFT, 1, .cut = 1},
        {"a long one", LEND_LOCAL_LEFT, 1, .extra = 1},
        {"one with a descriptor", LEND_LOCAL_LEFT, 1, 0, {null}, .fd_count = 1},
        {"a part of what it has not", LEND_LOCAL_WANT_PART, .number = 5},
        {"a part of a file of the host's", LEND_LOCAL_WANT_PART, .number = 1},
        {"a part", LEND_LOCAL_PART, 1, 0, {null}, .fd_count = 1},
        {"a file", LEND_LOCAL_FILE, 5, FILE_BYTES, {null}, .fd_count = 1},
        {"no file", LEND_LOCAL_NO_FILE, 5, .text = "no"},
        {"let go", LEND_LOCAL_LET_GO, .number = 1},
        {"ready", .type = LEND_LOCAL_READY},
        {"probe", .type = LEND_LOCAL_PROBE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof packets / sizeof packets[0]; i++) {
        struct lend_shared_file file = make_file(1), unfit = make_file(2);

        unfit.backing.is_fit_for_mapping = false;
        open_both();
        ops->share(server.opened, &file);
        ops->share(server.opened, &unfit);
        connect_both();
        send_raw(readers_socket(), &packets[i]);
        stub_settle(&server, NULL);
        if (server.sessions[0].hung != LEND_E_CORRUPT)
            fail_msg("%s: ended with %d", packets[i].what, server.sessions[0].hung);
        assert_true(is_held(1)); /* it has never said that it left */
        close_both();
        (void)close(file.fd);
        (void)close(unfit.fd);
    }
    (void)close(null);
}

static void test_leaving_twice_is_an_offence(void **state)
{
    const struct packet left = {"left", LEND_LOCAL_LEFT, .number = 1};
    struct lend_shared_file file = make_file(1);

    (void)state;
    open_both();
    ops->share(server.opened, &file);
    connect_both();
    send_raw(readers_socket(), &left);
    stub_settle(&server, NULL);
    assert_int_equal(server.sessions[0].hung, LEND_OK);
    assert_false(is_held(1)); /* it is a reader's right to leave early */
    send_raw(readers_socket(), &left);
    stub_settle(&server, NULL);
    assert_int_equal(server.sessions[0].hung, LEND_E_CORRUPT);
    close_both();
    (void)close(file.fd);
}

/* --- parts of a GPU's memory --- */

static int parts_made;

static enum lend_status make_part(const struct lend_shared_file *file, uint32_t index, int *out_fd,
                                  struct lend_error *error)
{
    (void)file;
    if (index == 7)
        return lend_fail(error, LEND_E_DEVICE, "no part %u", index);
    *out_fd = make_memory(FILE_BYTES, F_SEAL_SHRINK);
    parts_made++;
    return LEND_OK;
}

static struct lend_shared_file make_parted(void)
{
    struct lend_shared_file file = make_file(1);

    file.is_device = true;
    file.part = make_part;
    return file;
}

/* Until it is here, or does not come. */
static enum lend_status await_part(uint32_t number, uint32_t index, int *out_fd,
                                   struct lend_error *why)
{
    enum lend_status status = ops->part(reader(), number, index, out_fd, why);

    for (int i = 0; i < 3 && status == LEND_PENDING; i++) {
        stub_settle(&server, NULL);
        stub_settle(&client, NULL);
        status = ops->part(reader(), number, index, out_fd, why);
    }
    return status;
}

static void test_parts_come_when_they_are_asked_for_one_by_one(void **state)
{
    struct lend_error why = {0};
    int fd = -1;

    (void)state;
    skip_without_pidfds();
    struct lend_shared_file file = make_parted();
    open_both();
    ops->share(server.opened, &file);
    connect_both();
    parts_made = 0;
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(await_part(1, i, &fd, &why), LEND_OK);
        assert_true(lend_sys_real.seals(fd) > 0);
        assert_int_equal(close(fd), 0);
        assert_int_equal(parts_made, i + 1);
    }
    assert_int_equal(await_part(1, 7, &fd, &why), LEND_E_NO_PATH);
    assert_string_equal(why.message, "no part 7");
    assert_int_equal(await_part(5, 0, &fd, &why), LEND_E_NO_PATH); /* it is told of no such file */
    /* One that nobody waits for any more goes when another is wanted, */
    assert_int_equal(ops->part(reader(), 1, 0, &fd, &why), LEND_PENDING);
    assert_int_equal(await_part(1, 1, &fd, &why), LEND_OK);
    assert_int_equal(close(fd), 0);
    /* or its file is wanted back; and then none comes. */
    int descriptors = stub_count_fds();
    assert_int_equal(ops->part(reader(), 1, 0, &fd, &why), LEND_PENDING);
    stub_settle(&server, NULL);
    stub_settle(&client, NULL);
    assert_int_equal(stub_count_fds(), descriptors + 1);
    parts_made = 0;
    ops->unshare(server.opened, 1);
    stub_settle(&client, NULL);
    assert_int_equal(stub_count_fds(), descriptors);
    assert_int_equal(await_part(1, 0, &fd, &why), LEND_E_NO_PATH);
    assert_int_equal(parts_made, 0);
    assert_int_equal(client.sessions[0].hung, LEND_OK);
    assert_int_equal(server.sessions[0].hung, LEND_OK);
    close_both();
    (void)close(file.fd);
}

static void test_a_part_that_crosses_the_wish_to_have_it_back_is_refused(void **state)
{
    struct lend_error why = {0};
    int fd = -1;

    (void)state;
    skip_without_pidfds();
    struct lend_shared_file file = make_parted();
    open_both();
    ops->share(server.opened, &file);
    connect_both();
    parts_made = 0;
    assert_int_equal(ops->part(reader(), 1, 0, &fd, &why), LEND_PENDING);
    ops->unshare(server.opened, 1); /* before the owner has seen what is asked */
    stub_settle(&server, NULL);
    stub_settle(&client, NULL);
    assert_int_equal(parts_made, 0);
    assert_int_equal(client.sessions[0].hung, LEND_OK);
    step_reader();
    stub_settle(&server, NULL);
    assert_false(is_held(1));
    close_both();
    (void)close(file.fd);
}

static void test_a_part_with_two_descriptors_or_none_ends_the_connection(void **state)
{
    (void)state;
    skip_without_pidfds();
    int good = make_memory(FILE_BYTES, F_SEAL_SHRINK);
    const struct packet packets[] = {
        {"two", LEND_LOCAL_PART, 1, 0, {good, good}, .fd_count = 2},
        {"none", LEND_LOCAL_PART, 1, 0, {-1}, .fd_count = 0},
        {"no part with one", LEND_LOCAL_NO_PART, 1, 0, {good}, .fd_count = 1, .text = "no"},
        {"a text that is no text", LEND_LOCAL_NO_PART, 1, .text = "\033[31m"},
    };
    struct lend_error why = {0};
    int fd = -1;

    for (size_t i = 0; i < sizeof packets / sizeof packets[0]; i++) {
        struct lend_shared_file file = make_parted();

        open_both();
        ops->share(server.opened, &file);
        connect_both();
        assert_int_equal(ops->part(reader(), 1, 0, &fd, &why), LEND_PENDING);
        send_raw(owners_socket(), &packets[i]);
        stub_settle(&client, NULL);
        if (client.sessions[0].hung != LEND_E_CORRUPT)
            fail_msg("%s: ended with %d", packets[i].what, client.sessions[0].hung);
        close_both();
        (void)close(file.fd);
    }
    (void)close(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STUB_TEST(test_a_reader_believes_no_packet),
        STUB_TEST(test_words_that_are_not_what_they_should_be_are_not_mapped),
        STUB_TEST(test_more_files_than_are_allowed_end_the_connection),
        STUB_TEST(test_refusals_without_end_are_forgotten_and_take_no_room),
        STUB_TEST(test_an_owner_believes_no_packet),
        STUB_TEST(test_leaving_twice_is_an_offence),
        STUB_TEST(test_parts_come_when_they_are_asked_for_one_by_one),
        STUB_TEST(test_a_part_that_crosses_the_wish_to_have_it_back_is_refused),
        STUB_TEST(test_a_part_with_two_descriptors_or_none_ends_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
