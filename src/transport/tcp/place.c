/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/tcp/tcp.h"

#include "base/error.h"
#include "base/reader.h"
#include "base/sys.h"
#include "base/writer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

/* An address: u8 version, u8 count, and of each place u8 family (4, 6), u16 port, its bytes. */
enum { ADDRESS_VERSION = 1, V4_BYTES = 4, V6_BYTES = 16, INTERFACES_MAX = 64, PORT_DIGITS = 5 };

static size_t bytes_of(const struct lend_tcp_place *place)
{
    return place->is_v6 ? V6_BYTES : V4_BYTES;
}

/* Texts */

/* Decimal digits to the end; false for anything else. */
static bool parse_port(const char *text, uint16_t *out)
{
    size_t digits = strspn(text, "0123456789");
    uint32_t value = 0;

    if (digits == 0 || digits > PORT_DIGITS || text[digits] != '\0')
        return false;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (uint32_t)(text[i] - '0');
    *out = (uint16_t)value;
    return value <= UINT16_MAX;
}

bool lend_tcp_place_parse(struct lend_tcp_place *out, const char *text)
{
    struct lend_tcp_place place = {0};
    char host[INET6_ADDRSTRLEN];
    bool has_brackets = text[0] == '[';
    const char *start = has_brackets ? text + 1 : text;
    const char *colon = strchr(start, ':');
    /* Two colons and no brackets: an IPv6 address, and no port. */
    bool is_bare_v6 = !has_brackets && colon != NULL && strchr(colon + 1, ':') != NULL;
    size_t length = strcspn(start, has_brackets ? "]" : is_bare_v6 ? "" : ":");
    const char *rest = start + length;

    if (has_brackets && *rest++ != ']')
        return false;
    if (length >= sizeof host)
        return false;
    memcpy(host, start, length);
    host[length] = '\0';
    place.is_v6 = has_brackets || is_bare_v6;
    if (inet_pton(place.is_v6 ? AF_INET6 : AF_INET, host, place.bytes) != 1)
        return false;
    if (*rest != '\0' && (*rest != ':' || !parse_port(rest + 1, &place.port)))
        return false;
    *out = place;
    return true;
}

void lend_tcp_place_text(const struct lend_tcp_place *place, char *text)
{
    char host[INET6_ADDRSTRLEN] = "?";

    (void)inet_ntop(place->is_v6 ? AF_INET6 : AF_INET, place->bytes, host, sizeof host);
    (void)snprintf(text, LEND_TCP_TEXT_BYTES, place->is_v6 ? "[%s]:%u" : "%s:%u", host,
                   (unsigned)place->port);
}

/* Kinds of addresses */

static bool is_zero(const uint8_t *bytes, size_t count)
{
    uint8_t any = 0;

    for (size_t i = 0; i < count; i++)
        any |= bytes[i];
    return any == 0;
}

bool lend_tcp_place_is_wildcard(const struct lend_tcp_place *place)
{
    return is_zero(place->bytes, bytes_of(place));
}

static bool is_loopback(const struct lend_tcp_place *place)
{
    if (!place->is_v6)
        return place->bytes[0] == 127;
    return is_zero(place->bytes, V6_BYTES - 1) && place->bytes[V6_BYTES - 1] == 1;
}

/* It means something on one link alone. */
static bool is_link_local(const struct lend_tcp_place *place)
{
    const uint8_t *bytes = place->bytes;

    if (!place->is_v6)
        return bytes[0] == 169 && bytes[1] == 254;
    return bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
}

/* Of no single machine, or of one that would have to be told the link too. */
static bool is_untellable(const struct lend_tcp_place *place)
{
    if (lend_tcp_place_is_wildcard(place))
        return true;
    if (!place->is_v6)
        return place->bytes[0] == 0 || place->bytes[0] >= 224;
    return place->bytes[0] == 0xff || is_link_local(place);
}

/* Of the system */

bool lend_tcp_place_of(struct lend_tcp_place *out, const struct sockaddr_storage *from)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    *out = (struct lend_tcp_place){.is_v6 = from->ss_family == AF_INET6};
    if (from->ss_family == AF_INET) {
        memcpy(&v4, from, sizeof v4);
        out->port = ntohs(v4.sin_port);
        memcpy(out->bytes, &v4.sin_addr, V4_BYTES);
    } else if (from->ss_family == AF_INET6) {
        memcpy(&v6, from, sizeof v6);
        out->port = ntohs(v6.sin6_port);
        memcpy(out->bytes, &v6.sin6_addr, V6_BYTES);
    } else {
        return false;
    }
    return true;
}

socklen_t lend_tcp_place_socket(const struct lend_tcp_place *place, struct sockaddr_storage *out)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(place->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(place->port)};

    memset(out, 0, sizeof *out);
    if (place->is_v6) {
        memcpy(&v6.sin6_addr, place->bytes, V6_BYTES);
        memcpy(out, &v6, sizeof v6);
        return sizeof v6;
    }
    memcpy(&v4.sin_addr, place->bytes, V4_BYTES);
    memcpy(out, &v4, sizeof v4);
    return sizeof v4;
}

void lend_tcp_peer_text(int fd, char *text)
{
    struct sockaddr_storage address;
    struct lend_tcp_place place;

    if (lend_sys->peer_address(fd, &address) == 0 && lend_tcp_place_of(&place, &address))
        lend_tcp_place_text(&place, text);
    else
        (void)snprintf(text, LEND_TCP_TEXT_BYTES, "an unknown address");
}

/* Where peers reach us */

static void add(struct lend_tcp_places *places, struct lend_tcp_place place, uint16_t port)
{
    if (places->count == LEND_TCP_PLACES_MAX)
        return;
    place.port = port;
    places->places[places->count++] = place;
}

/* All addresses of the machine that reach a wildcard; those of loopback only if there are no
 * others. */
static enum lend_status add_interfaces(struct lend_tcp_places *out,
                                       const struct lend_tcp_place *listens,
                                       struct lend_error *error)
{
    struct sockaddr_storage found[INTERFACES_MAX];
    struct lend_tcp_place place;

    int count = lend_sys->interfaces(found, INTERFACES_MAX);
    if (count < 0)
        return lend_fail_errno(error, -count, "list the addresses of this machine");
    for (int loopback = 0; loopback <= 1 && out->count == 0; loopback++) {
        for (int i = 0; i < count; i++) {
            if (!lend_tcp_place_of(&place, &found[i]) || is_untellable(&place) ||
                is_link_local(&place) || is_loopback(&place) != (loopback == 1))
                continue;
            if (!place.is_v6 || listens->is_v6) /* a wildcard of IPv6 takes both */
                add(out, place, listens->port);
        }
    }
    if (out->count == 0)
        return lend_fail(error, LEND_E_ABSENT,
                         "this machine has no address that peers could be told: set advertise");
    return LEND_OK;
}

enum lend_status lend_tcp_places_find(struct lend_tcp_places *out,
                                      const struct lend_tcp_place *listens, const char *advertise,
                                      struct lend_error *error)
{
    struct lend_tcp_place place = *listens;

    out->count = 0;
    if (!lend_tcp_place_is_wildcard(listens) && is_untellable(listens))
        return lend_fail(error, LEND_E_INVALID,
                         "listen names an address that no peer could connect to: give one of this "
                         "machine that is not of one link alone");
    if (advertise == NULL && lend_tcp_place_is_wildcard(listens))
        return add_interfaces(out, listens, error);
    if (advertise != NULL) {
        if (!lend_tcp_place_parse(&place, advertise))
            return lend_fail(error, LEND_E_INVALID,
                             "advertise is \"%.80s\": give a numeric ADDRESS, ADDRESS:PORT or "
                             "[IPV6]:PORT",
                             advertise);
        if (is_untellable(&place))
            return lend_fail(error, LEND_E_INVALID,
                             "advertise is \"%.80s\", which no peer could connect to", advertise);
    }
    add(out, place, place.port != 0 ? place.port : listens->port);
    return LEND_OK;
}

size_t lend_tcp_places_encode(const struct lend_tcp_places *places, uint8_t *bytes)
{
    struct lend_writer writer = lend_writer_init(bytes, LEND_TCP_ADDRESS_MAX);

    lend_write_u8(&writer, ADDRESS_VERSION);
    lend_write_u8(&writer, (uint8_t)places->count);
    for (uint32_t i = 0; i < places->count; i++) {
        const struct lend_tcp_place *place = &places->places[i];

        lend_write_u8(&writer, place->is_v6 ? 6 : 4);
        lend_write_u16(&writer, place->port);
        lend_write_bytes(&writer, place->bytes, bytes_of(place));
    }
    assert(lend_writer_fits(&writer));
    return writer.count;
}

bool lend_tcp_places_decode(struct lend_tcp_places *out, const uint8_t *bytes, size_t count)
{
    struct lend_reader reader = lend_reader_init(bytes, count);
    struct lend_tcp_places places = {0};

    if (lend_read_u8(&reader) != ADDRESS_VERSION)
        return false;
    places.count = lend_read_u8(&reader);
    if (places.count > LEND_TCP_PLACES_MAX)
        return false;
    for (uint32_t i = 0; i < places.count; i++) {
        struct lend_tcp_place *place = &places.places[i];
        uint8_t family = lend_read_u8(&reader);

        place->is_v6 = family == 6;
        place->port = lend_read_u16(&reader);
        lend_read_bytes(&reader, place->bytes, bytes_of(place));
        if ((family != 4 && family != 6) || place->port == 0 || is_untellable(place))
            return false;
    }
    if (!lend_reader_done(&reader))
        return false;
    *out = places;
    return true;
}
