/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_HOSTILE_HOSTILE_H
#define LEND_TESTS_HOSTILE_HOSTILE_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lend/lend.h>

#include "transport/local/local.h"
#include "transport/tcp/tcp.h"
#include "wire/message.h"

#include "built.h"
#include "parcel.h"

/*
 * Peers that break the protocol by hand, over transport `local`, over `tcp`, and over `ucx`, and
 * what they are played against.
 *
 * The stage: an owner that lends, and an honest reader beside it, both with a thread of their own.
 * The arena is all of the owner's memory: guards, and three regions. Of `kv` the hostile peer may
 * read the first quarter and write the second; the honest one reads the third and writes the last.
 * Of `gaps`, whose blocks do not touch, the hostile one may read all but the last four. `closed` is
 * leased to the honest peer alone, once: to one counted consumer.
 */
enum {
    BLOCK_BYTES = 4096,
    KV_BLOCKS = 256,
    QUARTER = KV_BLOCKS / 4,
    KV_BYTES = KV_BLOCKS * BLOCK_BYTES,
    GAP_BLOCKS = 32,
    GAP_BLOCK_BYTES = 512,
    GAP_STRIDE = 1024,
    GAP_BYTES = GAP_BLOCKS * GAP_STRIDE,
    CLOSED_BYTES = 65536,
    GUARD_BYTES = 65536,
    ARENA_BYTES = 4 * GUARD_BYTES + KV_BYTES + GAP_BYTES + CLOSED_BYTES,
    HONEST_BLOCKS = 16, /* of a transfer of the honest peer */
    REQUESTS_MAX = 4,
    WINDOW_BYTES = 65536,
    RING_BYTES = 131072,
    UCX_POOL_BYTES = 64 << 20, /* that UCX makes at one go, for frames that wait, and keeps */
};

#define MS       UINT64_C(1000000)
#define PATIENCE (UINT64_C(20000) * MS) /* within which everything bounded has ended */
#define GREETING (UINT64_C(5000) * MS)  /* connect_timeout_ns of the stage's agents */

struct stage {
    uint8_t *arena;
    uint8_t *shadow; /* what the arena must hold */
    char directory[64];
    struct lend_agent *owner;
    struct lend_region *kv, *gaps, *closed;
    uint64_t kv_id, gaps_id, closed_id;
    uint8_t *kv_memory, *gaps_memory, *closed_memory; /* in the arena */
    struct lend_lease *leases[4];
    struct lend_lease_name reading, writing, gapped, counted; /* as the wire names them */
    struct lend_local_place place;                            /* of the owner; over tcp */
    struct lend_tcp_place tcp_place;                          /* this, */
    uint8_t ucx_address[LEND_METADATA_ADDRESS_MAX];           /* and over ucx this */
    size_t ucx_address_bytes;
    uint8_t incarnation[LEND_INCARNATION_BYTES];

    struct lend_agent *honest;
    uint8_t *kept_memory; /* HONEST_BLOCKS to read to, and as many to write from */
    struct lend_region *kept;
    struct lend_peer *peer;
    struct lend_ticket *read_ticket, *write_ticket, *counted_ticket;
    struct lend_transfer *reads, *writes;
    uint32_t rounds;
    bool is_withdrawn; /* kv: there is nothing left to be honest with */

    size_t heap_bytes; /* in use, and descriptors, before anybody hostile came */
    int descriptors;
};

/* Which transport the tests are over at this moment (neither: local), and all of them over each. */
extern bool over_tcp;
extern bool over_ucx;
const char *over_what(void);
#define RUN_OVER(name, tests, failed)                                                              \
    do {                                                                                           \
        over_tcp = strcmp(name, "tcp") == 0;                                                       \
        over_ucx = strcmp(name, "ucx") == 0;                                                       \
        if (built_with(name) && (!over_ucx || parcel_can()))                                       \
            failed += cmocka_run_group_tests_name(name, tests, NULL, NULL);                        \
    } while (0)
#define RUN_OVER_EACH(tests)                                                                       \
    do {                                                                                           \
        int failed_ = 0;                                                                           \
        RUN_OVER("local", tests, failed_);                                                         \
        RUN_OVER("tcp", tests, failed_);                                                           \
        RUN_OVER("ucx", tests, failed_);                                                           \
        return failed_;                                                                            \
    } while (0)

/* cmocka's fixtures: *state is the stage. The end looks at it once more. */
int stage_up(void **state);
int stage_down(void **state);
#define STAGED(test) cmocka_unit_test_setup_teardown(test, stage_up, stage_down)

/* The honest peer reads and writes, and it is right; the time that it took. */
uint64_t honest_round(struct stage *stage);
/* The owner lives, nothing but what was leased to the hostile peer has changed, the honest peer is
 * served, and what the hostile ones took of memory and descriptors is given back. */
void check_stage(struct stage *stage);

bool is_all(const uint8_t *bytes, size_t count, uint8_t value);
uint64_t wall_ns(void);
int count_descriptors(void);
size_t count_heap(void);

/* A number that a seed decides; xorshift. */
struct chance {
    uint64_t state;
};
uint64_t chance_next(struct chance *chance);
uint64_t chance_below(struct chance *chance, uint64_t bound);
/* One that nothing decides. */
uint64_t chance_number(void);
/* LEND_SEED, or another one each time, told; count divided by LEND_SCALE. */
struct chance chance_begin(const char *test);
uint64_t scaled(uint64_t count);

/* One end of a connection, held by hand. */
struct wire {
    struct lend_local_channel *channel; /* NULL over tcp and ucx, */
    struct parcel_end ucx;              /* where it is this, */
    bool is_let_in;                     /* over ucx: whose worker outlives the connection, */
    int stream;                         /* and this socket, */
    bool owes_preamble;                 /* whose first bytes have not come, */
    size_t in_count;                    /* and these have, and were not taken */
    uint64_t sequence;                  /* of the next frame that we send */
    uint64_t request;                   /* the last one that we named */
    bool is_over;                       /* the other end has hung up */
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    struct lend_frame frame; /* the last that was taken, and its payload */
    uint8_t payload[LEND_FRAME_DATA_MAX];
    uint8_t in[LEND_FRAME_HEADER_BYTES + LEND_FRAME_DATA_MAX];
};

/* Connect; nothing is said yet. */
void wire_dial(struct wire *wire, const struct stage *stage);
/* Give the rings, and take the answer; over tcp, the preamble. */
enum lend_status wire_set_up(struct wire *wire);
void wire_say_hello(struct wire *wire, const struct stage *stage);
/* dial, set up, HELLO, WELCOME. */
void wire_meet(struct wire *wire, const struct stage *stage);
void wire_close(struct wire *wire);
/* Hang up, though it is not closed yet. */
void wire_shutdown(struct wire *wire);
/* So much has come, untaken, that the owner waits for us; over tcp, that something has. */
bool wire_is_full(struct wire *wire);

/* Send bytes to the socket, as they are. False: it takes no more now. */
bool wire_packet(struct wire *wire, const void *bytes, size_t count);

/* stream.c: the same over tcp */
void stream_dial(struct wire *wire, const struct lend_tcp_place *place);
/* Take over an accepted connection. */
void stream_adopt(struct wire *wire, int fd);
bool stream_send(struct wire *wire, const void *bytes, size_t count);
bool stream_take_now(struct wire *wire);
void stream_wait(struct wire *wire, int16_t events);

/* A header with its checksum, whatever it says. */
struct forged {
    uint16_t magic;
    uint8_t version;
    uint8_t type;
    uint32_t payload_bytes;
    uint64_t sequence;
    uint64_t request;
    uint32_t payload_crc;
    uint32_t header_crc_error; /* added to the right one */
};
struct forged forge(const struct wire *wire, uint8_t type, uint64_t request, const void *payload,
                    size_t count);
void wire_encode(const struct forged *forged, uint8_t *header);
/* Publish it with count bytes of payload. False: the other end hung up, or takes nothing. */
bool wire_send_forged(struct wire *wire, const struct forged *forged, const void *payload,
                      size_t count);
bool wire_send(struct wire *wire, uint8_t type, uint64_t request, const void *payload,
               size_t count);
bool wire_has_room(struct wire *wire, size_t count);

/* Take the next frame; false: the other end has hung up, and there is none left. Fails the test if
 * neither happens in time. */
bool wire_take(struct wire *wire);
/* Take it only if it is there. */
bool wire_take_now(struct wire *wire);
/* Take the next, which is of this type. */
void expect_frame(struct wire *wire, uint8_t type);

/* Frames are taken until the connection is cut: with a BYE of that status, or without one if the
 * status is LEND_OK. */
void expect_cut(struct wire *wire, enum lend_status status);
/* Frames are taken until that request is DONE; its status. */
enum lend_status await_done(struct wire *wire, uint64_t request, uint64_t *out_data_bytes);

/* A request with its runs. */
struct asking {
    struct lend_request request;
    uint64_t region_ids[4];
    uint32_t run_count; /* that are sent */
    struct lend_run runs[4];
    struct lend_run_range ranges[4];
};
/* A right one: read, or write, blocks first .. of the quarter that the hostile peer may. */
struct asking ask_read(const struct stage *stage, uint32_t first, uint32_t count);
struct asking ask_write(const struct stage *stage, uint32_t first, uint32_t count);
/* A read by ranges: of `gaps`. */
struct asking ask_range(const struct stage *stage, uint64_t offset, uint64_t length);
/* Send it under the next number, which is returned. */
uint64_t wire_ask(struct wire *wire, const struct asking *asking);
void wire_send_runs(struct wire *wire, uint64_t request, const struct asking *asking);

#endif
