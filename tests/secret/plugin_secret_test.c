/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the plugin of the shared secret makes what its head says that it makes, so that two
 * releases of it agree; takes a proof or a MAC for what it is only if every bit is right; and keeps
 * several secrets at one time.
 * Method: answers that were made by another implementation, Python's hashlib and hmac:
 *
 *     kept = blake2b(SECRET, digest_size=32, key=b"lend: the shared secret, first form").digest()
 *     subkey = lambda n: blake2b(b"", digest_size=32, key=kept, salt=pack("<Q", n) + bytes(8),
 *                                person=b"lendkeys" + bytes(8)).digest()
 *     transcript = b"lend secret" + pack("<II", 1, 1) + bytes(range(64))
 *     proof = hmac.new(subkey(1 + role), transcript, sha512).digest()[:32]
 *     key = blake2b(transcript, digest_size=32, key=subkey(17 + role)).digest()
 *     mac = blake2b(pack("<IIQQ", 9, 21, 7, 0) + b"hello", digest_size=16, key=key).digest()
 */
#include "base/sys.h"
#include "wire/challenge.h"
#include "wire/frame.h"

#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define SECRET "a secret of thirty-two bytes, ok"

static const uint8_t proofs[2][LEND_SECRET_PROOF_BYTES] = {
    {0x78, 0x70, 0xcf, 0x62, 0x3f, 0xab, 0xab, 0x3f, 0xb1, 0x09, 0x0f,
     0x79, 0x31, 0x35, 0x0e, 0x6d, 0x16, 0xec, 0x0a, 0x64, 0x3c, 0xc8,
     0x0e, 0x7b, 0x73, 0x4d, 0x3c, 0xcc, 0x2e, 0x62, 0x6e, 0xe1},
    {0xb9, 0xdf, 0xc4, 0xd7, 0x01, 0x9b, 0x19, 0x62, 0x92, 0x59, 0x1a,
     0x7d, 0x63, 0x11, 0x01, 0x01, 0x31, 0x09, 0xe6, 0xce, 0x60, 0xe3,
     0x22, 0xaf, 0x6c, 0x1e, 0x50, 0xae, 0x4a, 0x97, 0x41, 0x23},
};
static const uint8_t macs[2][LEND_SECRET_MAC_BYTES] = {
    {0x88, 0x60, 0xcd, 0xa3, 0xd1, 0x03, 0x17, 0x95, 0xf3, 0x30, 0x70, 0x86, 0xfc, 0x9b, 0x94,
     0x3a},
    {0x9d, 0xef, 0xf2, 0xf3, 0xe3, 0x71, 0xc9, 0x6a, 0x26, 0x2a, 0x08, 0x50, 0x3a, 0x96, 0xd6,
     0xeb},
};
/* A frame of type 9, 5 bytes and their MAC, sequence 7, request 0. */
static const uint8_t header[LEND_SEALED_HEADER_BYTES] = {9, 0, 0, 0, 21, 0, 0, 0, 7};

struct world {
    void *library;
    const struct lend_secret_plugin *plugin;
    void *kept;
    void *keys;
    uint8_t transcript[LEND_TRANSCRIPT_BYTES];
};

static int set_up(void **state)
{
    static struct world world;
    struct lend_challenge ends[2] = {{.version = 1}, {.version = 1}};
    lend_secret_plugin_entry *entry;
    char why[200];

    for (unsigned i = 0; i < 64; i++)
        ends[i / 32].nonce[i % 32] = (uint8_t)i;
    lend_transcript_encode(&ends[0], &ends[1], true, world.transcript);
    world.library = lend_sys->load(LEND_TEST_SECRET_PLUGIN, why, sizeof why);
    assert_non_null(world.library);
    void *symbol = lend_sys->symbol(world.library, LEND_SECRET_PLUGIN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry);
    world.plugin = entry();
    assert_int_equal(world.plugin->keep(SECRET, strlen(SECRET), &world.kept, NULL), LEND_OK);
    assert_int_equal(world.plugin->derive(world.kept, world.transcript, sizeof world.transcript,
                                          &world.keys, NULL),
                     LEND_OK);
    *state = &world;
    return 0;
}

static int take_down(void **state)
{
    struct world *world = *state;

    world->plugin->discard(world->keys);
    world->plugin->forget(world->kept);
    lend_sys->unload(world->library);
    return 0;
}

static void test_table_is_of_this_interface(void **state)
{
    const struct world *world = *state;

    assert_int_equal(world->plugin->struct_size, sizeof *world->plugin);
    assert_int_equal(world->plugin->abi, LEND_SECRET_PLUGIN_ABI);
    assert_memory_equal(world->plugin->name, "libsodium ", 10);
}

static void test_proofs_are_those_of_another_implementation(void **state)
{
    const struct world *world = *state;
    uint8_t proof[LEND_SECRET_PROOF_BYTES];

    for (uint32_t role = 0; role < 2; role++) {
        world->plugin->prove(world->kept, role, world->transcript, sizeof world->transcript, proof);
        assert_memory_equal(proof, proofs[role], sizeof proof);
    }
}

static int32_t check(const struct world *world, uint32_t role, const uint8_t *proof)
{
    return world->plugin->check(world->kept, role, world->transcript, sizeof world->transcript,
                                proof);
}

static void test_proof_with_any_bit_changed_is_none(void **state)
{
    const struct world *world = *state;
    uint8_t proof[LEND_SECRET_PROOF_BYTES];

    memcpy(proof, proofs[0], sizeof proof);
    assert_int_equal(check(world, LEND_SECRET_CLIENT, proof), 1);
    assert_int_equal(check(world, LEND_SECRET_SERVER, proof), 0);
    for (size_t bit = 0; bit < 8 * sizeof proof; bit++) {
        proof[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(check(world, LEND_SECRET_CLIENT, proof), 0);
        proof[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_proof_of_another_transcript_is_none(void **state)
{
    const struct world *world = *state;
    uint8_t transcript[LEND_TRANSCRIPT_BYTES];

    memcpy(transcript, world->transcript, sizeof transcript);
    for (size_t at = 0; at < sizeof transcript; at++) {
        transcript[at] ^= 1;
        assert_int_equal(world->plugin->check(world->kept, LEND_SECRET_CLIENT, transcript,
                                              sizeof transcript, proofs[0]),
                         0);
        transcript[at] ^= 1;
    }
}

static struct lend_secret_message message_of(uint32_t role)
{
    return (struct lend_secret_message){.struct_size = sizeof(struct lend_secret_message),
                                        .role = role,
                                        .header = header,
                                        .header_bytes = sizeof header,
                                        .payload = (const uint8_t *)"hello",
                                        .payload_bytes = 5};
}

static void test_macs_are_those_of_another_implementation(void **state)
{
    const struct world *world = *state;
    uint8_t mac[LEND_SECRET_MAC_BYTES];

    for (uint32_t role = 0; role < 2; role++) {
        struct lend_secret_message message = message_of(role);

        world->plugin->seal(world->keys, &message, mac);
        assert_memory_equal(mac, macs[role], sizeof mac);
        assert_int_equal(world->plugin->verify(world->keys, &message, macs[role]), 1);
        assert_int_equal(world->plugin->verify(world->keys, &message, macs[1 - role]), 0);
    }
}

static void test_mac_covers_every_byte_of_header_and_payload(void **state)
{
    const struct world *world = *state;
    struct lend_secret_message message = message_of(0);
    uint8_t changed[LEND_SEALED_HEADER_BYTES];

    memcpy(changed, header, sizeof changed);
    message.header = changed;
    for (size_t at = 0; at < sizeof changed; at++) {
        changed[at] ^= 0x80;
        assert_int_equal(world->plugin->verify(world->keys, &message, macs[0]), 0);
        changed[at] ^= 0x80;
    }
    assert_int_equal(world->plugin->verify(world->keys, &message, macs[0]), 1);
    message.payload_bytes--;
    assert_int_equal(world->plugin->verify(world->keys, &message, macs[0]), 0);
    message.payload_bytes = 0;
    message.payload = NULL;
    assert_int_equal(world->plugin->verify(world->keys, &message, macs[0]), 0);
}

static void test_several_secrets_are_kept_at_one_time(void **state)
{
    const struct world *world = *state;
    uint8_t proof[LEND_SECRET_PROOF_BYTES];
    void *others[3] = {NULL};

    for (size_t i = 0; i < 3; i++)
        assert_int_equal(world->plugin->keep(SECRET, 16 + i, &others[i], NULL), LEND_OK);
    for (size_t i = 0; i < 3; i++) {
        world->plugin->prove(others[i], 0, world->transcript, sizeof world->transcript, proof);
        for (size_t j = 0; j < 3; j++)
            assert_int_equal(world->plugin->check(others[j], 0, world->transcript,
                                                  sizeof world->transcript, proof),
                             i == j);
    }
    for (size_t i = 0; i < 3; i++)
        world->plugin->forget(others[i]);
    assert_int_equal(check(world, LEND_SECRET_CLIENT, proofs[0]), 1);
    world->plugin->forget(NULL);
    world->plugin->discard(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_of_this_interface),
        cmocka_unit_test(test_proofs_are_those_of_another_implementation),
        cmocka_unit_test(test_proof_with_any_bit_changed_is_none),
        cmocka_unit_test(test_proof_of_another_transcript_is_none),
        cmocka_unit_test(test_macs_are_those_of_another_implementation),
        cmocka_unit_test(test_mac_covers_every_byte_of_header_and_payload),
        cmocka_unit_test(test_several_secrets_are_kept_at_one_time),
    };

    return cmocka_run_group_tests(tests, set_up, take_down);
}
