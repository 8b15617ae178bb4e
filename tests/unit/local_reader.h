/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCAL_READER_H
#define LOCAL_READER_H

/* An owner that shares files and a reader, both over local_stub.h. One test program includes it,
 * once. */

#include "local_stub.h"

#include <fcntl.h>
#include <sys/mman.h>

static const struct lend_transport_ops *const ops = &lend_transport_local;

enum { PAGE = 4096, FILE_BYTES = 4 * PAGE, WORDS_BYTES = PAGE };

static struct lend_agent client, server;
static _Atomic uint64_t *owners_words;
static int owners_words_fd;

/* A memory file of that many bytes with something in it. */
static inline int make_memory(size_t bytes, int seals)
{
    int fd = lend_sys_real.memfd_storage("test", bytes, false);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "what is shared", 14, PAGE), 14);
    assert_int_equal(lend_sys_real.seal(fd, seals), 0);
    return fd;
}

/* One that any reader may map. */
static inline struct lend_shared_file make_file(uint32_t number)
{
    int fd = make_memory(FILE_BYTES, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE);
    struct lend_shared_file file = {
        .number = number,
        .fd = lend_sys_real.reopen_read(fd),
        .backing = {.file_bytes = FILE_BYTES,
                    .is_fit_for_mapping = true,
                    .is_closed_to_writers = true,
                    .owner_uid = getuid()},
    };

    assert_true(file.fd >= 0);
    (void)close(fd);
    return file;
}

/* Two agents, not connected yet; the server has words. */
static inline void open_both(void)
{
    uint8_t incarnation[16] = {(uint8_t)(getpid() >> 8), (uint8_t)getpid(), 0x57, 2};
    struct lend_transport_open terms = stub_terms(&server);

    owners_words_fd = lend_sys_real.memfd("words", WORDS_BYTES);
    assert_true(owners_words_fd >= 0);
    void *memory = mmap(NULL, WORDS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, owners_words_fd, 0);
    assert_true(memory != MAP_FAILED);
    owners_words = memory;
    terms.incarnation = incarnation;
    terms.words_fd = owners_words_fd;
    terms.words_bytes = WORDS_BYTES;
    stub_open(&client, 1, false);
    stub_open_on(&server, &terms);
}

static inline void connect_both(void)
{
    assert_int_equal(stub_connect(&client, &server, NULL), LEND_OK);
    stub_settle(&client, &server);
    assert_int_equal(client.session_count, 1);
    assert_int_equal(server.session_count, 1);
}

static inline void close_both(void)
{
    stub_unpair(&client, &server);
    (void)munmap((void *)(uintptr_t)owners_words, WORDS_BYTES);
    (void)close(owners_words_fd);
}

static inline struct lend_channel *reader(void)
{
    return client.sessions[0].channel;
}

static inline int readers_socket(void)
{
    return stub_channel(&client)->socket.fd;
}

static inline int owners_socket(void)
{
    return stub_channel(&server)->socket.fd;
}

/* A step of the session, as far as it is the transport's. */
static inline void step_reader(void)
{
    uint8_t header[LEND_FRAME_HEADER_BYTES];

    assert_int_equal(ops->peek(reader(), header, NULL), LEND_PENDING);
}

static inline const uint8_t *expect_mapped(uint32_t number)
{
    struct lend_error why = {0};
    uint64_t bytes = 0;
    const uint8_t *memory = ops->mapped(reader(), number, &bytes, &why);

    if (memory == NULL)
        fail_msg("file %u: %s", number, why.message);
    assert_int_equal(bytes, FILE_BYTES);
    assert_memory_equal(memory + PAGE, "what is shared", 14);
    return memory;
}

static inline void expect_without(uint32_t number, enum lend_status status, const char *text)
{
    struct lend_error why = {0};
    uint64_t bytes = 77;

    assert_null(ops->mapped(reader(), number, &bytes, &why));
    assert_int_equal(bytes, 77);
    assert_int_equal(why.status, status);
    if (strstr(why.message, text) == NULL)
        fail_msg("file %u: no '%s' in '%s'", number, text, why.message);
}

static inline void expect_absent(uint32_t number, const char *text)
{
    expect_without(number, LEND_E_NO_PATH, text);
}

/* It may still come. */
static inline void expect_untold(uint32_t number)
{
    expect_without(number, LEND_PENDING, "on this connection yet");
}

static inline bool is_held(uint32_t number)
{
    char who[80] = "";
    bool held = ops->is_held(server.opened, number, who, sizeof who);

    assert_int_equal(who[0] != '\0', held);
    return held;
}

/* Is there anything at that address? */
static inline bool is_there(const void *memory)
{
    unsigned char pages[1];

    return mincore((void *)(uintptr_t)memory, PAGE, pages) == 0;
}

#endif
