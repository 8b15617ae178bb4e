/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: metadata that was mangled on its way is refused, whatever became of it, and leaves nothing
 * behind; and metadata that was mangled on purpose, so that its checksum is right again, is at
 * least parsed within its bounds.
 * Method: the metadata of an agent with registrations, changed by a generator of random numbers
 * with a fixed seed, 200,000 times: bits flipped, bytes set, cut, doubled, moved, numbers made
 * extreme. Copies have their exact size, so that the address sanitizer sees who reads on.
 */
#include "stage.h"

#include "blob.h"

enum { MANGLED = 150000, FORGED = 50000, REGIONS = 5 };

static uint64_t word_state = 88172645463325252u;

static uint64_t random_word(void)
{
    word_state ^= word_state << 13;
    word_state ^= word_state >> 7;
    word_state ^= word_state << 17;
    return word_state;
}

static size_t random_below(size_t limit)
{
    return (size_t)(random_word() % limit);
}

/* Change a copy of `count` bytes, for which there is room for twice as many; how many there are
 * then. */
static size_t mangle(uint8_t *bytes, size_t count)
{
    static const uint64_t extremes[] = {0, 1, UINT32_MAX, UINT64_MAX, INT64_MAX, 1u << 31};
    size_t at = random_below(count), length = random_below(count - at) + 1;

    switch (random_below(7)) {
    case 0: bytes[at] ^= (uint8_t)(1u << random_below(8)); return count;
    case 1: bytes[at] = (uint8_t)(bytes[at] + 1 + random_below(255)); return count;
    case 2: return at > 0 ? at : 1; /* cut */
    case 3:                         /* a part is doubled */
        memmove(bytes + at + length, bytes + at, count - at);
        return count + length;
    case 4: /* a part is taken out */
        memmove(bytes + at, bytes + at + length, count - at - length);
        return count - length > 0 ? count - length : 1;
    case 5: /* bytes behind */ bytes[count] = (uint8_t)random_word(); return count + 1;
    default:
        if (count - at >= sizeof extremes[0])
            memcpy(bytes + at, &extremes[random_below(sizeof extremes / sizeof extremes[0])],
                   sizeof extremes[0]);
        return count;
    }
}

/* A mangled copy of exactly its size. */
static uint8_t *mangled(const uint8_t *bytes, size_t count, size_t *out_count)
{
    uint8_t *room = malloc(2 * count + 1);

    assert_non_null(room);
    memcpy(room, bytes, count);
    *out_count = mangle(room, count);
    if (random_below(4) == 0 && *out_count <= count)
        *out_count = mangle(room, *out_count);
    uint8_t *exact = malloc(*out_count);
    assert_non_null(exact);
    memcpy(exact, room, *out_count);
    free(room);
    return exact;
}

static uint8_t *export(nixl_capi_agent_t agent, size_t *count)
{
    void *bytes = NULL;

    OK(nixl_capi_get_local_md(agent, &bytes, count));
    return bytes;
}

static nixl_capi_agent_t lender(uint8_t *memory)
{
    nixl_capi_agent_t agent = stage_agent("lender");

    for (int i = 0; i < REGIONS; i++)
        stage_register(agent, memory + i * 8192, 4096);
    return agent;
}

static void test_mangled_metadata_is_refused_and_leaves_nothing(void **state)
{
    uint8_t *memory = stage_map(1 << 16);
    nixl_capi_agent_t agent = stage_agent("reader"), other = lender(memory);
    size_t count = 0, accepted = 0;
    uint8_t *bytes = export(other, &count);
    char *name = NULL;

    (void)state;
    for (int i = 0; i < MANGLED; i++) {
        size_t bad_count = 0;
        uint8_t *bad = mangled(bytes, count, &bad_count);

        if (bad_count == count && memcmp(bad, bytes, count) == 0) {
            free(bad);
            continue; /* two changes that undid each other */
        }
        accepted += nixl_capi_load_remote_md(agent, bad, bad_count, &name) == NIXL_CAPI_SUCCESS;
        free(bad);
    }
    assert_int_equal(accepted, 0);
    assert_int_equal(nixl_capi_check_remote_md(agent, "lender", NULL), NIXL_CAPI_ERROR_NOT_FOUND);
    OK(nixl_capi_load_remote_md(agent, bytes, count, &name));
    OK(nixl_capi_check_remote_md(agent, "lender", NULL));
    free(name);
    free(bytes);
    OK(nixl_capi_destroy_agent(agent));
    OK(nixl_capi_destroy_agent(other));
    stage_unmap(memory, 1 << 16);
}

static void test_checksum_is_castagnoli_s_with_and_without_the_processor_s_help(void **state)
{
    uint8_t bytes[64];

    (void)state;
    assert_int_equal(compat_crc32c("123456789", 9), 0xe3069283u); /* RFC 3720's check value */
    assert_int_equal(compat_crc32c_portable("123456789", 9), 0xe3069283u);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37 + 1);
    for (size_t from = 0; from < 8; from++)
        for (size_t count = 0; count <= sizeof bytes - from; count++)
            assert_int_equal(compat_crc32c(bytes + from, count),
                             compat_crc32c_portable(bytes + from, count));
}

/* Make the head and the checksum right again. */
static void forge(uint8_t *bytes, size_t count)
{
    uint64_t total = count;
    uint32_t crc;

    if (count < 20)
        return;
    memcpy(bytes + 8, &total, sizeof total);
    crc = compat_crc32c(bytes, count - 4);
    memcpy(bytes + count - 4, &crc, sizeof crc);
}

static void test_forged_metadata_is_parsed_within_its_bounds(void **state)
{
    uint8_t *memory = stage_map(1 << 16);
    nixl_capi_agent_t agent = stage_agent("reader"), other = lender(memory);
    size_t count = 0, refused = 0;
    uint8_t *bytes = export(other, &count);

    (void)state;
    for (int i = 0; i < FORGED; i++) {
        size_t bad_count = 0;
        uint8_t *bad = mangled(bytes, count, &bad_count);
        char *name = NULL;

        forge(bad, bad_count);
        refused += nixl_capi_load_remote_md(agent, bad, bad_count, &name) != NIXL_CAPI_SUCCESS;
        if (name != NULL)
            (void)nixl_capi_invalidate_remote_md(agent, name);
        free(name);
        free(bad);
    }
    assert_true(refused > FORGED / 2); /* lend's metadata has a checksum of its own, */
    assert_true(refused < FORGED);     /* and an address is as good as another */
    free(bytes);
    OK(nixl_capi_destroy_agent(agent));
    OK(nixl_capi_destroy_agent(other));
    stage_unmap(memory, 1 << 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksum_is_castagnoli_s_with_and_without_the_processor_s_help),
        cmocka_unit_test(test_mangled_metadata_is_refused_and_leaves_nothing),
        cmocka_unit_test(test_forged_metadata_is_parsed_within_its_bounds),
    };

    (void)setenv("NIXL_LOG_LEVEL", "FATAL", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
