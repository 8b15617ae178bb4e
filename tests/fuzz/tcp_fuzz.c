/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Goal: no bytes of a peer that transport tcp parses by itself can crash us, and what is accepted
 * as an address is the only way to write it. Method: the input as an address of metadata, as a
 * preamble, and as a text that somebody typed.
 */

#include "fuzz/fuzz.h"
#include "transport/tcp/tcp.h"

static void try_address(const uint8_t *bytes, size_t count)
{
    uint8_t written[LEND_TCP_ADDRESS_MAX];
    struct lend_tcp_places places;

    memset(&places, PAINT, sizeof places);
    if (!lend_tcp_places_decode(&places, bytes, count)) {
        CHECK(is_painted(&places, sizeof places));
        CHECK(!lend_transport_tcp.reaches(NULL, bytes, count));
        return;
    }
    CHECK(places.count <= LEND_TCP_PLACES_MAX);
    for (uint32_t i = 0; i < places.count; i++) {
        CHECK(places.places[i].port != 0);
        CHECK(!lend_tcp_place_is_wildcard(&places.places[i]));
    }
    CHECK(lend_tcp_places_encode(&places, written) == count);
    CHECK(memcmp(written, bytes, count) == 0);
}

static void try_preamble(const uint8_t *bytes, size_t count)
{
    uint8_t written[LEND_TCP_PREAMBLE_BYTES];
    uint16_t version;

    if (count < sizeof written)
        return;
    lend_tcp_preamble_encode(written);
    /* The last two bytes are for versions to come. */
    CHECK((lend_tcp_preamble_decode(bytes, &version) == LEND_TCP_IS_OURS) ==
          (memcmp(written, bytes, sizeof written - 2) == 0));
}

static void try_text(const uint8_t *bytes, size_t count)
{
    char written[LEND_TCP_TEXT_BYTES];
    struct lend_tcp_place place, again;
    char *text = malloc(count + 1);

    CHECK(text != NULL);
    memcpy(text, bytes, count);
    text[count] = '\0';
    if (lend_tcp_place_parse(&place, text)) {
        lend_tcp_place_text(&place, written);
        CHECK(lend_tcp_place_parse(&again, written));
        CHECK(place.is_v6 == again.is_v6 && place.port == again.port);
        CHECK(memcmp(place.bytes, again.bytes, sizeof place.bytes) == 0);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    try_address(bytes, count);
    try_preamble(bytes, count);
    try_text(bytes, count);
    return 0;
}
