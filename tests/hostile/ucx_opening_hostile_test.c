/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whoever asks for connections over UCX, in whatever name and from whatever place, takes
 * bounded means of the owner, and no connection of anybody else.
 * Method: openings by hand, sent by an unmodified UCX (parcel.h): in names that are made up, from
 * places where nobody answers, and as from the honest peer's; the stage of hostile.h is looked at
 * after each.
 */
#include "hostile.h"

#include "base/sys.h"
#include "wire/metadata.h"

#include <netinet/in.h>
#include <unistd.h>

/* --- names --- */

/* Ask for a channel, as one who is at that address, and is nobody that the owner knows. */
static void ask_as_stranger(struct wire *wire, const struct lend_ucx_address *address)
{
    struct lend_ucx_address named = *address;
    uint8_t bytes[LEND_METADATA_ADDRESS_MAX];

    assert_int_equal(lend_sys->random(named.incarnation, sizeof named.incarnation), 0);
    wire->ucx.ours.link = chance_number() | 1;
    parcel_ask(&wire->ucx, bytes, lend_ucx_encode_address(&named, bytes));
}

/* What was asked before has been answered, or let go. */
static void await_answers(struct wire *wire)
{
    uint64_t until = wall_ns() + PATIENCE;
    uint32_t seen = wire->ucx.refusals + wire->ucx.accepted;

    parcel_ask(&wire->ucx, wire->ucx.address, wire->ucx.address_bytes);
    while (wire->ucx.refusals + wire->ucx.accepted == seen) {
        assert_true(wall_ns() < until);
        parcel_work(&wire->ucx, true);
    }
}

static void test_openings_in_any_name_take_one_connection(void **state)
{
    enum { SOCKETS_MAX = 16 };
    struct stage *stage = *state;
    static struct wire wire;
    struct lend_ucx_address ours;

    wire_meet(&wire, stage);
    assert_true(lend_ucx_decode_address(wire.ucx.address, wire.ucx.address_bytes, &ours));
    const struct lend_ucx_greeting greeting = wire.ucx.ours;
    for (uint64_t i = 0, asked = scaled(1000); i < asked; i++) {
        ask_as_stranger(&wire, &ours);
        if (i % 64 != 63)
            continue;
        (void)honest_round(stage);
        assert_in_range(count_descriptors(), 1, stage->descriptors + SOCKETS_MAX);
    }
    wire.ucx.ours = greeting;
    await_answers(&wire);
    wire_close(&wire);
}

/* --- addresses of nobody --- */

enum { SOCKETS_SEEN = 1024, UUID_AT = 1 };

/* The port at which that descriptor listens; 0: it does not. */
static uint16_t listening_port(int fd)
{
    struct sockaddr_in name = {.sin_family = AF_UNSPEC};
    int listens = 0;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &(socklen_t){sizeof listens}) < 0 ||
        listens == 0 || getsockname(fd, (struct sockaddr *)&name, &(socklen_t){sizeof name}) < 0)
        return 0;
    return name.sin_family == AF_INET ? name.sin_port : 0;
}

/* A socket that takes what comes, and never answers. */
static int listen_mutely(void)
{
    const struct sockaddr_in any = {.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(listen(fd, 4096), 0);
    return fd;
}

/* An address as UCX makes it, but for the port, which is that of a mute socket. */
static int make_address(struct lend_ucx_address *out, uint8_t *bytes)
{
    const uint8_t nobody[LEND_INCARNATION_BYTES] = {0};
    bool was[SOCKETS_SEEN];
    struct parcel_end end;
    uint32_t found = 0;

    for (int fd = 0; fd < SOCKETS_SEEN; fd++)
        was[fd] = listening_port(fd) != 0;
    parcel_open(&end, nobody);
    assert_true(lend_ucx_decode_address(end.address, end.address_bytes, out));
    memcpy(bytes, out->bytes, out->count);
    out->bytes = bytes;
    int mute = listen_mutely();
    const uint16_t ours = listening_port(mute);
    for (int fd = 0; fd < SOCKETS_SEEN; fd++) {
        const uint16_t port = was[fd] || fd == mute ? 0 : listening_port(fd);

        for (size_t at = UUID_AT + 8; port != 0 && at + sizeof port <= out->count; at++) {
            if (memcmp(bytes + at, &port, sizeof port) != 0)
                continue;
            memcpy(bytes + at, &ours, sizeof ours);
            found++;
        }
    }
    assert_int_equal(found, 1);
    parcel_close(&end);
    return mute;
}

static void test_openings_from_nowhere_take_bounded_means(void **state)
{
    enum { SOCKETS_MAX = 300 };
    struct stage *stage = *state;
    static struct wire wire;
    struct lend_ucx_address nowhere;
    uint8_t address[LEND_UCX_ADDRESS_MAX];
    size_t heap = count_heap();
    int most = 0;

    int mute = make_address(&nowhere, address);
    wire_meet(&wire, stage);
    const struct lend_ucx_greeting greeting = wire.ucx.ours;
    for (uint64_t i = 0, asked = scaled(4000); i < asked; i++) {
        memcpy(address + UUID_AT, &(uint64_t){chance_number()}, sizeof(uint64_t));
        ask_as_stranger(&wire, &nowhere);
        if (i % 64 != 63)
            continue;
        (void)honest_round(stage);
        most = count_descriptors() > most ? count_descriptors() : most;
        assert_in_range(most, 1, stage->descriptors + SOCKETS_MAX);
        assert_true(count_heap() < heap + UCX_POOL_BYTES);
    }
    wire.ucx.ours = greeting;
    await_answers(&wire);
    print_message("%d descriptors at most, %d before\n", most, stage->descriptors);
    wire_close(&wire);
    (void)close(mute);
}

/* --- addresses of others --- */

static void test_who_names_anothers_place_does_not_cut_it_off(void **state)
{
    struct stage *stage = *state;
    static struct wire wire;
    struct lend_metadata *metadata = NULL;
    struct lend_ucx_address honest;
    uint8_t bytes[4096];
    size_t count;

    assert_int_equal(lend_metadata_export(stage->honest, bytes, sizeof bytes, &count, NULL),
                     LEND_OK);
    assert_int_equal(lend_metadata_decode(bytes, count, &metadata, NULL), LEND_OK);
    assert_true(lend_ucx_decode_address(metadata->transports[0].address,
                                        metadata->transports[0].address_bytes, &honest));
    wire_meet(&wire, stage);
    const struct lend_ucx_greeting greeting = wire.ucx.ours;
    for (int i = 0; i < 20; i++) {
        ask_as_stranger(&wire, &honest);
        wire.ucx.ours = greeting;
        parcel_ask(&wire.ucx, metadata->transports[0].address,
                   metadata->transports[0].address_bytes);
        (void)honest_round(stage);
    }
    await_answers(&wire);
    lend_sys->release(metadata);
    wire_close(&wire);
}

static void test_an_opening_again_and_again_is_one_more_connection_each(void **state)
{
    struct stage *stage = *state;
    static struct wire wire;
    uint64_t until = wall_ns() + PATIENCE;

    wire_meet(&wire, stage);
    for (int i = 0; i < 50; i++)
        parcel_ask(&wire.ucx, wire.ucx.address, wire.ucx.address_bytes);
    while (wire.ucx.accepted + wire.ucx.refusals < 51) {
        assert_true(wall_ns() < until);
        parcel_work(&wire.ucx, true);
    }
    assert_true(wire.ucx.refusals > 0);
    wire_close(&wire);
}

static void test_who_takes_anothers_name_does_not_take_its_place(void **state)
{
    struct stage *stage = *state;
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    static struct wire wire;

    lend_agent_incarnation(stage->honest, incarnation);
    wire_dial(&wire, stage);
    wire_close(&wire);
    for (int i = 0; i < 3; i++) {
        parcel_open(&wire.ucx, incarnation);
        parcel_connect(&wire.ucx, stage->ucx_address, stage->ucx_address_bytes);
        assert_int_equal(wire_set_up(&wire), LEND_OK);
        (void)honest_round(stage); /* over the connection that it had */
        wire_close(&wire);
        (void)honest_round(stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGED(test_openings_in_any_name_take_one_connection),
        STAGED(test_openings_from_nowhere_take_bounded_means),
        STAGED(test_who_names_anothers_place_does_not_cut_it_off),
        STAGED(test_an_opening_again_and_again_is_one_more_connection_each),
        STAGED(test_who_takes_anothers_name_does_not_take_its_place),
    };
    int failed = 0;

    if (!parcel_can())
        return 77;
    RUN_OVER("ucx", tests, failed);
    return failed;
}
