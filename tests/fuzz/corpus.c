/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Makes what the fuzz targets begin with, one file an input:
 *
 *     corpus FOLDER          write FOLDER/challenge/..., found/..., frame/..., message/...,
 *                            metadata/..., rail/..., rail_message/..., tcp/..., ticket/...
 *     corpus --check FOLDER  compare instead; a difference means that the format has changed
 */

#include "fuzz/fuzz.h"
#include "fuzz/rail.h"
#include "transport/tcp/tcp.h"
#include "wire/challenge.h"
#include "wire_samples.h"

#include <lend/lease.h>
#include <lend/transfer.h>

#include <errno.h>
#include <sys/stat.h>

enum { ROOM = 1 << 16 };

static struct {
    const char *folder;
    int checks;
    unsigned differences;
} options;

static void compare_file(const char *path, const void *bytes, size_t count)
{
    static uint8_t before[ROOM];
    FILE *file = fopen(path, "rb");
    size_t length = file == NULL ? 0 : fread(before, 1, sizeof before, file);

    if (file == NULL || length != count || memcmp(before, bytes, count) != 0) {
        fprintf(stderr, "%s: is not what would be written now\n", path);
        options.differences++;
    }
    if (file != NULL)
        fclose(file);
}

static void put(const char *target, const char *name, const void *bytes, size_t count)
{
    char path[4096];

    CHECK(count <= ROOM);
    (void)snprintf(path, sizeof path, "%s/%s", options.folder, target);
    if (!options.checks)
        CHECK(mkdir(path, 0777) == 0 || errno == EEXIST);
    (void)snprintf(path, sizeof path, "%s/%s/%s", options.folder, target, name);
    if (options.checks) {
        compare_file(path, bytes, count);
        return;
    }

    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK(fwrite(bytes, 1, count, file) == count);
    CHECK(fclose(file) == 0);
}

/* ---- Frames ---- */

static void put_frame(const char *name, const struct lend_frame *frame, const void *payload)
{
    uint8_t bytes[LEND_FRAME_HEADER_BYTES + 256];

    CHECK(frame->payload_bytes <= 256);
    lend_frame_encode(frame, frame->type == LEND_FRAME_DATA ? NULL : payload, bytes);
    memcpy(bytes + LEND_FRAME_HEADER_BYTES, payload, frame->payload_bytes);
    put("frame", name, bytes, LEND_FRAME_HEADER_BYTES + frame->payload_bytes);
}

static void put_frames(void)
{
    struct lend_hello hello = sample_hello();
    uint8_t payload[256];
    uint32_t count = (uint32_t)lend_hello_encode(&hello, payload, sizeof payload);

    put_frame("hello", &(struct lend_frame){.type = LEND_FRAME_HELLO, .payload_bytes = count},
              payload);
    put_frame("cancel",
              &(struct lend_frame){.type = LEND_FRAME_CANCEL, .sequence = 7, .request = 3}, "");
    put_frame("data",
              &(struct lend_frame){
                  .type = LEND_FRAME_DATA, .payload_bytes = 16, .sequence = 8, .request = 3},
              "sixteen bytes...");
    put_frame(
        "notify",
        &(struct lend_frame){.type = LEND_FRAME_NOTIFY, .payload_bytes = 5, .sequence = UINT64_MAX},
        "ready");
}

/* ---- Messages: the first byte chooses the decoder, see message_fuzz.c ---- */

static uint8_t message[ROOM];
static uint8_t *const payload = message + 1;
enum { PAYLOAD_ROOM = ROOM - 1 };

static void put_message(uint8_t which, const char *name, size_t count)
{
    message[0] = which;
    put("message", name, message, count + 1);
}

static void put_requests(void)
{
    static const uint64_t consecutive[] = {5, 6, 7}, scattered[] = {9, 2, UINT64_MAX - 1};
    struct lend_request request = sample_request();

    put_message(3, "request", lend_request_encode(&request, consecutive, payload, PAYLOAD_ROOM));
    request.direction = LEND_WRITE;
    request.slice_offset_bytes = request.slice_length_bytes = 0;
    put_message(3, "request-scattered",
                lend_request_encode(&request, scattered, payload, PAYLOAD_ROOM));
    request.has_ranges = true;
    request.region_count = 0;
    put_message(3, "request-ranges", lend_request_encode(&request, NULL, payload, PAYLOAD_ROOM));
}

static void put_runs(void)
{
    static const struct lend_run runs[] = {{0, 1}, {16383, 1}, {7, 1000}, {0x7fffffff, 1}};
    static const struct lend_run_range ranges[] = {
        {1, 0, 4096}, {122, UINT64_C(1) << 45, UINT64_C(1) << 45}, {UINT64_MAX, 1, 1}};

    lend_runs_encode(runs, 4, payload);
    put_message(4, "runs", sizeof runs);
    lend_run_ranges_encode(ranges, 3, payload);
    put_message(5, "ranges", sizeof ranges);
}

static void put_messages(void)
{
    struct lend_hello hello = sample_hello();
    struct lend_welcome welcome = sample_welcome();
    struct lend_verdict verdict = sample_verdict();
    struct lend_lease_name name = sample_lease_name();

    put_message(0, "hello", lend_hello_encode(&hello, payload, PAYLOAD_ROOM));
    put_message(1, "welcome", lend_welcome_encode(&welcome, payload, PAYLOAD_ROOM));
    put_message(2, "verdict", lend_verdict_encode(&verdict, payload, PAYLOAD_ROOM));
    verdict = (struct lend_verdict){.status = LEND_OK, .bytes = UINT64_MAX};
    put_message(2, "verdict-ok", lend_verdict_encode(&verdict, payload, PAYLOAD_ROOM));
    put_requests();
    put_runs();
    put_message(6, "credit", lend_credit_encode(262144, payload, PAYLOAD_ROOM));
    put_message(7, "lease-name", lend_lease_name_encode(&name, payload, PAYLOAD_ROOM));
}

static void put_challenges(void)
{
    struct lend_challenge challenge = {.version = LEND_CHALLENGE_VERSION};

    memset(challenge.nonce, 0x17, sizeof challenge.nonce);
    memset(challenge.proof, 0x71, sizeof challenge.proof);
    message[0] = 0;
    lend_challenge_encode(&challenge, payload);
    put("challenge", "challenge", message, 1 + LEND_CHALLENGE_BYTES);
    message[0] = 1;
    lend_answer_encode(&challenge, payload);
    put("challenge", "answer", message, 1 + LEND_ANSWER_BYTES);
}

static void put_found(void)
{
    struct lend_fetch_message fetch = sample_fetch();
    struct lend_found_part part = sample_found();

    message[0] = 0;
    put("found", "fetch", message, 1 + lend_fetch_encode(&fetch, payload, PAYLOAD_ROOM));
    message[0] = 1;
    put("found", "part", message, 1 + lend_found_encode(&part, payload, PAYLOAD_ROOM));
}

/* ---- Tickets and metadata ---- */

static void put_tickets(void)
{
    struct lend_ticket_bytes ticket = sample_ticket();
    uint8_t bytes[LEND_TICKET_BYTES_MAX];

    put("ticket", "bearer", bytes, lend_ticket_encode(&ticket, bytes, sizeof bytes));
    ticket.expires_ns = 0;
    ticket.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    memset(ticket.agent, 'a', LEND_AGENT_NAME_BYTES_MAX);
    put("ticket", "long-name", bytes, lend_ticket_encode(&ticket, bytes, sizeof bytes));
}

static void put_one_metadata(const char *name, const struct lend_metadata *metadata)
{
    static uint8_t bytes[ROOM];

    put("metadata", name, bytes, lend_metadata_encode(metadata, bytes, sizeof bytes));
}

/* Regions that have nothing in common, and every kind of memory. */
static void put_mixed_metadata(void)
{
    static const struct lend_geometry whole = {4096, 4096, 1, 4096, 1};
    static const struct lend_geometry halves = {512, 1024, 4, 4096, 2};
    const struct lend_metadata_region regions[] = {
        {1, LEND_MEMORY_SYSTEM, 0, 1, 0x7f0000001000, 4096, whole, 0, 0, 0, 0, "weights", ""},
        {2, LEND_MEMORY_PINNED, 0, 2, 0x7f0000009000, 65536, halves, 8, 3, 2, 0, "",
         "pinned scratch"},
        {9, LEND_MEMORY_DEVICE, 7, 3, 0x7e0000000000, 65536, halves, 0, 0, 0, 0, "kv", "layer=0"},
        {10, LEND_MEMORY_DISK, 5, 1, 0, 65536, halves, 0, 0, 0, 0, "kv.spill", "layer=0"},
        {UINT64_MAX - 1, LEND_MEMORY_SYSTEM, 0, 1, 1, 4096, whole, 0, 0, UINT32_MAX, 1 << 20,
         "kv.spilled", ""},
    };
    struct lend_metadata metadata = {
        .name = "mixed", .serial = UINT64_MAX, .region_count = 5, .regions = regions};

    put_one_metadata("mixed", &metadata);
}

/* A section that no version knows, and that a reader may skip: before the checksum. */
static void put_later_metadata(const struct lend_metadata *metadata)
{
    static const uint8_t section[] = {0x01, 3, 0, 0, 0, 'n', 'e', 'w'};
    uint8_t bytes[4096];
    size_t count = lend_metadata_encode(metadata, bytes, sizeof bytes) - 4;

    memcpy(bytes + count, section, sizeof section);
    uint8_t *sealed = copy_sealed(bytes, count + sizeof section + 4);
    put("metadata", "later-section", sealed, count + sizeof section + 4);
    free(sealed);
}

static void put_metadata(void)
{
    struct lend_metadata *layers = sample_layers(61);

    put_one_metadata("layers-61", layers);
    layers->region_count = 5;
    put_one_metadata("layers", layers);
    put_later_metadata(layers);
    layers->region_count = 0;
    layers->transport_count = 0;
    put_one_metadata("empty", layers);
    put_mixed_metadata();
    free(layers);
}

/* ---- What transport tcp parses by itself ---- */

static void put_tcp(void)
{
    static const char *const texts[] = {"10.0.0.1:7000", "[2001:db8::7]:65535", "127.0.0.1", "::1"};
    struct lend_tcp_places places = {.count = 0};
    uint8_t bytes[LEND_TCP_ADDRESS_MAX];

    put("tcp", "nowhere", bytes, lend_tcp_places_encode(&places, bytes));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        CHECK(lend_tcp_place_parse(&places.places[i], texts[i]));
        if (places.places[i].port == 0)
            places.places[i].port = (uint16_t)(i + 1);
    }
    places.count = sizeof texts / sizeof texts[0];
    put("tcp", "addresses", bytes, lend_tcp_places_encode(&places, bytes));
    put("tcp", "text-v4", texts[0], strlen(texts[0]));
    put("tcp", "text-v6", texts[1], strlen(texts[1]));
    lend_tcp_preamble_encode(bytes);
    put("tcp", "preamble", bytes, LEND_TCP_PREAMBLE_BYTES);
}

/* ---- What the ends of a rail hear: messages, and scripts of rail_fuzz.c ---- */

static const struct lend_verbs_offer offered = {
    .round = 1,
    .gid = {[10] = 0xff, 0xff, 10, 77, 0, 2},
    .link_layer = 2,
    .mtu = 3,
    .reads = 16,
    .lane_count = 3,
    .lanes = {{1, 7}, {2, 8}, {3, 9}},
    .rate_mbps = 100000,
    .words_address = UINT64_C(0x7f0000001000),
    .words_bytes = 4096,
    .words_rkey = 0x100,
    .note_count = 32,
};
static const struct lend_verbs_told told = {
    .region_id = 1,
    .life = 1,
    .piece_count = 2,
    .distance = 3,
    .pieces = {{UINT64_C(0x7f0000010000), 4096, 0x200}, {UINT64_C(0x7f0000011000), 4096, 0x300}},
};
static const struct lend_verbs_granted granted = {
    .slot = 1,
    .generation = 0x1234,
    .total = 3,
    .piece_count = 2,
    .pieces = {{UINT64_C(0x7f0000010000), 1024, 0x401}, {UINT64_C(0x7f0000020000), 1024, 0x501}},
};
static const struct lend_verbs_granted granted_rest = {
    .slot = 1,
    .generation = 0x1234,
    .total = 3,
    .first = 2,
    .piece_count = 1,
    .pieces = {{UINT64_C(0x7f0000030000), 1024, 0x601}},
};
static const struct lend_verbs_granted granted_none = {
    .slot = 1, .generation = 0x1234, .why = "too many runs"};

/* The message of that kind; returns its length. */
static size_t write_rail_message(enum lend_verbs_message kind, uint8_t *bytes, size_t capacity)
{
    switch (kind) {
    case LEND_VERBS_CALL: return lend_verbs_offer_encode(&offered, false, bytes, capacity);
    case LEND_VERBS_ANSWER: return lend_verbs_offer_encode(&offered, true, bytes, capacity);
    case LEND_VERBS_REFUSAL: return lend_verbs_refusal_encode(1, "no room", bytes, capacity);
    case LEND_VERBS_KEYS:
        bytes[0] = LEND_VERBS_KEYS;
        lend_verbs_told_encode(&told, bytes + 1, capacity - 1);
        return 1 + lend_verbs_told_bytes(&told);
    case LEND_VERBS_GRANT: return lend_verbs_granted_encode(&granted, bytes, capacity);
    case LEND_VERBS_HALT: return lend_verbs_halt_encode(1, bytes, capacity);
    case LEND_VERBS_WISH: return lend_verbs_wish_encode(1, 0x1234, bytes, capacity);
    case LEND_VERBS_NOTE: return lend_verbs_note_encode(1, "landed", 6, bytes, capacity);
    case LEND_VERBS_NOTED: return lend_verbs_noted_encode(1, bytes, capacity);
    default: return 0;
    }
}

static void put_rail_messages(void)
{
    static const char *const names[] = {"call", "answer", "refusal", "keys", "grant",
                                        "halt", "wish",   "note",    "noted"};

    for (int i = 0; i < 9; i++) {
        enum lend_verbs_message kind = (enum lend_verbs_message)(LEND_VERBS_CALL + i);

        put("rail_message", names[i], message, write_rail_message(kind, message, ROOM));
    }
    put("rail_message", "grant-rest", message,
        lend_verbs_granted_encode(&granted_rest, message, ROOM));
    put("rail_message", "grant-none", message,
        lend_verbs_granted_encode(&granted_none, message, ROOM));
}

/* A script: its letters are steps, and digits behind them what they say. */
static size_t write_script(const char *text)
{
    static const char letters[] = "<>osTGRrwpjFSHWXNM"; /* in the order of the steps */
    size_t count = 0;

    for (; *text != '\0'; text++) {
        const char *letter = strchr(letters, *text);

        if (letter == NULL) { /* a digit: 5 stands for 0x85, a lease in too many pieces */
            CHECK(*text >= '0' && *text <= '9');
            message[count++] = (uint8_t)(*text - '0' + (*text == '5' ? 0x80 : 0));
            continue;
        }
        message[count++] = (uint8_t)(letter - letters);
        if (*text != '<' && *text != '>' && *text != 'M')
            continue;
        const size_t head = *text == 'M' ? 1 : 2; /* of the length */
        /* Forged: the digit is its kind. */
        size_t bytes = write_rail_message((enum lend_verbs_message)(*++text - '0'),
                                          message + count + head, ROOM - count - head);
        message[count] = (uint8_t)bytes;
        if (head > 1)
            message[count + 1] = (uint8_t)(bytes >> 8);
        count += head + bytes;
    }
    return count;
}

static void put_rails(void)
{
    static const struct {
        const char *name;
        const char *script;
    } scripts[] = {
        {"reads", "soT1T2T3or0r4r8pppr1p"},
        {"writes", "soT1G0G1ow0w1w8ppR0w0pR1"},
        {"held", "soT1G0oH1r0w0H2pS0W0H0pp"},
        {"breaks", "soT1oF04r0pjsoT1or0pF09r0pjsoX"},
        {"ends", "soG0G1G2G3G5oR0W2w0R3X"},
        {"calls-again-and-again", "<1<1<6o<6so<1r0p"},
        {"answers-that-nobody-asked-for", ">2>4so>2>5r0w1pjs>3jo"},
        {"forged-answer", ">2T1o>4>5r0w1pppj"},
        {"halts", "so<6T1G0o<6r0w0psoj<6so"},
        {"wishes", "so<7oG1o<7o<7R1<7oG1<7o"},
        {"notifies", "soN1N2N3ppoN9N8N7N6N5N4N3N2N1psopp"},
        {"notifies-and-breaks", "soN1F13N2N4psjsoN1>9>9N2p<8<8M8pM9N1pjs"},
        {"wrong-way", "so<2"},
        {"wrong-way-back", "so>1"},
    };

    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++)
        put("rail", scripts[i].name, message, write_script(scripts[i].script));
}

int main(int argc, char **argv)
{
    options.checks = argc == 3 && strcmp(argv[1], "--check") == 0;
    if (argc != 2 + options.checks) {
        fprintf(stderr, "usage: corpus [--check] FOLDER\n");
        return 2;
    }
    options.folder = argv[argc - 1];
    put_frames();
    put_messages();
    put_challenges();
    put_tcp();
    put_found();
    put_tickets();
    put_metadata();
    put_rail_messages();
    put_rails();
    return options.differences > 0;
}
