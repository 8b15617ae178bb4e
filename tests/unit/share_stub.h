/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_SHARE_STUB_H
#define LEND_TESTS_SHARE_STUB_H

/*
 * A fake transport in place of the build's, for share_test.c alone. It carries nothing: it counts
 * what it is told of files, and lets the test say who holds what.
 */

#include "core/transport.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { NUMBERS = 8 };

static struct {
    const struct lend_shared_file *files[NUMBERS]; /* by number; those that are shared */
    const struct lend_shared_file *known[NUMBERS]; /* that ever were */
    int shares;
    int unshares;
    bool is_held[NUMBERS];
    int looks_left; /* then everybody lets go; 0: nobody ever does by itself */
    bool is_closed;
} fake;

static enum lend_status open_fake(const struct lend_transport_open *open, void **out,
                                  struct lend_error *error)
{
    (void)open;
    (void)error;
    *out = &fake;
    return LEND_OK;
}

/* What is held, or shared, is there until now. */
static void close_fake(void *transport)
{
    assert_ptr_equal(transport, &fake);
    for (int i = 0; i < NUMBERS; i++)
        if (fake.is_held[i] || fake.files[i] != NULL)
            assert_true(fcntl(fake.known[i]->fd, F_GETFD) >= 0);
    fake.is_closed = true;
}

static void close_forked(void *transport)
{
    (void)transport;
}

static size_t address(void *transport, uint8_t *bytes)
{
    (void)transport;
    bytes[0] = 0;
    return 1;
}

static void share_fake(void *transport, const struct lend_shared_file *file)
{
    assert_ptr_equal(transport, &fake);
    assert_in_range(file->number, 1, NUMBERS - 1);
    assert_null(fake.files[file->number]);
    fake.files[file->number] = fake.known[file->number] = file;
    fake.shares++;
}

static void unshare_fake(void *transport, uint32_t number)
{
    assert_ptr_equal(transport, &fake);
    assert_non_null(fake.files[number]);
    fake.files[number] = NULL;
    fake.unshares++;
}

static bool is_held(void *transport, uint32_t number, char *who, size_t capacity)
{
    assert_ptr_equal(transport, &fake);
    if (fake.looks_left > 0 && --fake.looks_left == 0)
        memset(fake.is_held, 0, sizeof fake.is_held);
    if (fake.is_held[number])
        (void)snprintf(who, capacity, "process 123 of user 0");
    return fake.is_held[number];
}

static const struct lend_transport_ops fake_ops = {
    .name = "fake",
    .paths = {[LEND_WAY_SERVED] = "fake"},
    .rank = 1,
    .kinds = 1U << LEND_MEMORY_SYSTEM,
    .open = open_fake,
    .close = close_fake,
    .close_forked = close_forked,
    .address = address,
    .share = share_fake,
    .unshare = unshare_fake,
    .is_held = is_held,
};

const struct lend_transport_ops *const lend_transports[] = {&fake_ops, NULL};

#endif
