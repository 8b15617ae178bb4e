/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/named.h"

#include "base/error.h"
#include "transport/verbs/device.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum { PORT_MAX = 255, INDEX_MAX = 255, WORD_BYTES = 64, KNOWN_BYTES = 100 };

/* --- what was written --- */

static bool parse_number(const char *text, unsigned max, uint8_t *out)
{
    unsigned value = 0;

    if (*text == '\0')
        return false;
    for (; *text >= '0' && *text <= '9' && value <= max; text++)
        value = value * 10 + (unsigned)(*text - '0');
    if (*text != '\0' || value > max)
        return false;
    *out = (uint8_t)value;
    return true;
}

static bool parse_address(const char *text, uint8_t *gid)
{
    struct sockaddr_storage address = {.ss_family = AF_INET};

    if (inet_pton(AF_INET, text, &((struct sockaddr_in *)&address)->sin_addr) == 1)
        return lend_verbs_gid_of(&address, gid);
    return inet_pton(AF_INET6, text, gid) == 1;
}

/* The next word of a name, to that character, which *at steps behind; *at is NULL after the last.
 * False: it is empty, or too long. */
static bool take_word(const char **at, char stop, char word[WORD_BYTES])
{
    const char *found = stop != '\0' ? strchr(*at, stop) : NULL;
    size_t length = found != NULL ? (size_t)(found - *at) : strlen(*at);

    if (length == 0 || length >= WORD_BYTES)
        return false;
    memcpy(word, *at, length);
    word[length] = '\0';
    *at = found != NULL ? found + 1 : NULL;
    return true;
}

static bool parse(const char *at, struct lend_verbs_named *out)
{
    char word[WORD_BYTES];

    if (!take_word(&at, ':', out->device))
        return false;
    if (at == NULL)
        return true;
    if (!take_word(&at, ':', word) || !parse_number(word, PORT_MAX, &out->port) || out->port == 0)
        return false;
    if (at == NULL)
        return true;
    if (!take_word(&at, '\0', word)) /* an address has colons of its own */
        return false;
    out->has_index = parse_number(word, INDEX_MAX, &out->index);
    out->has_gid = !out->has_index && parse_address(word, out->gid);
    return out->has_index || out->has_gid;
}

enum lend_status lend_verbs_named_parse(const char *text, struct lend_verbs_named *out,
                                        struct lend_error *error)
{
    struct lend_verbs_named named = {.port = 0};

    if (!parse(text, &named))
        return lend_fail(error, LEND_E_INVALID,
                         "verbs_devices: \"%.63s\" is no DEVICE[:PORT[:GID]], such as mlx5_0, "
                         "mlx5_0:1, mlx5_0:1:3 (an index) or mlx5_0:1:10.0.0.1 (an address)",
                         text);
    *out = named;
    return LEND_OK;
}

/* --- what there is of it --- */

static bool is_ethernet(const struct lend_verbs_port *port)
{
    return port->link_layer == LEND_VERBS_LINK_ETHERNET;
}

static bool is_named(const struct lend_verbs_named *named, const struct lend_verbs_gid_row *row)
{
    if (named->has_index)
        return row->index == named->index;
    return !named->has_gid || memcmp(row->gid, named->gid, sizeof row->gid) == 0;
}

bool lend_verbs_named_allows(const struct lend_verbs_nic *nic, const struct lend_verbs_port *port,
                             const struct lend_verbs_gid_row *row)
{
    return (!is_ethernet(port) || row->type == LEND_VERBS_GID_ROCE_V2) &&
           is_named(&nic->named, row);
}

/* Those that would do, as far as there is room: "1 (fe80::1), 3 (::ffff:10.0.0.1)". */
static void list_usable(const struct lend_verbs_port *port, char text[KNOWN_BYTES])
{
    size_t used = 0;

    (void)snprintf(text, KNOWN_BYTES, "none is");
    for (uint32_t i = 0; i < port->gid_count; i++) {
        char gid[INET6_ADDRSTRLEN];

        if (is_ethernet(port) && port->gids[i].type != LEND_VERBS_GID_ROCE_V2)
            continue;
        lend_verbs_gid_text(port->gids[i].gid, gid, sizeof gid);
        int count = snprintf(text + used, KNOWN_BYTES - used, "%s%u (%s)", used > 0 ? ", " : "",
                             port->gids[i].index, gid);
        if (count < 0 || (size_t)count >= KNOWN_BYTES - used) {
            text[used] = '\0';
            return;
        }
        used += (size_t)count;
    }
}

static enum lend_status explain_absence(const struct lend_verbs_nic *nic,
                                        const struct lend_verbs_port *port,
                                        struct lend_error *error)
{
    const struct lend_verbs_named *named = &nic->named;
    char text[INET6_ADDRSTRLEN], usable[KNOWN_BYTES];

    list_usable(port, usable);
    if (named->has_index && named->index >= port->gid_capacity)
        return lend_fail(error, LEND_E_ABSENT,
                         "%s:%u has no GID of index %u: it has room for %u; usable: %s", nic->name,
                         port->number, named->index, port->gid_capacity, usable);
    if (named->has_index)
        return lend_fail(error, LEND_E_ABSENT,
                         "GID %u of %s:%u is not set: give its network device an address, or name "
                         "another; usable: %s",
                         named->index, nic->name, port->number, usable);
    lend_verbs_gid_text(named->gid, text, sizeof text);
    return lend_fail(error, LEND_E_ABSENT,
                     "%s:%u has no GID %s: give its network device that address, or name another; "
                     "usable: %s",
                     nic->name, port->number, text, usable);
}

/* It is there, but of RoCE v1. */
static enum lend_status explain_type(const struct lend_verbs_nic *nic,
                                     const struct lend_verbs_port *port,
                                     const struct lend_verbs_gid_row *row, struct lend_error *error)
{
    char text[INET6_ADDRSTRLEN], usable[KNOWN_BYTES];

    list_usable(port, usable);
    lend_verbs_gid_text(row->gid, text, sizeof text);
    return lend_fail(error, LEND_E_INVALID,
                     "GID %u of %s:%u (%s) is of RoCE v1, which lend does not use; of RoCE v2: %s",
                     row->index, nic->name, port->number, text, usable);
}

enum lend_status lend_verbs_named_check(const struct lend_verbs_nic *nic, struct lend_error *error)
{
    const struct lend_verbs_named *named = &nic->named;
    const struct lend_verbs_gid_row *other = NULL;

    if (named->port > nic->port_count)
        return lend_fail(error, LEND_E_ABSENT, "%s has no port %u: it has %u", nic->name,
                         named->port, nic->port_count);
    if (!named->has_index && !named->has_gid)
        return LEND_OK;
    const struct lend_verbs_port *port = &nic->ports[named->port - 1];
    for (uint32_t i = 0; i < port->gid_count; i++) {
        if (lend_verbs_named_allows(nic, port, &port->gids[i]))
            return LEND_OK;
        if (is_named(named, &port->gids[i]))
            other = &port->gids[i];
    }
    return other != NULL ? explain_type(nic, port, other, error)
                         : explain_absence(nic, port, error);
}
