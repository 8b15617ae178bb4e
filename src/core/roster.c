/* SPDX-License-Identifier: Apache-2.0 */
#include "core/roster.h"

#include "base/error.h"
#include "base/sys.h"

#include <string.h>

/* The place of the first row whose name is not before that one. */
static uint32_t place_of(const struct lend_roster *roster, const char *name)
{
    uint32_t low = 0, high = roster->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (strcmp(roster->rows[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct lend_roster_row *lend_roster_find(const struct lend_roster *roster, const char *name)
{
    uint32_t at = place_of(roster, name);

    return at < roster->count && strcmp(roster->rows[at].name, name) == 0 ? &roster->rows[at]
                                                                          : NULL;
}

static enum lend_status make_room(struct lend_roster *roster, struct lend_error *error)
{
    uint32_t room = roster->room > 0 ? roster->room * 2 : 16;

    if (roster->count < roster->room)
        return LEND_OK;
    if (roster->count == LEND_ROSTER_MAX)
        return lend_fail(error, LEND_E_LIMIT, "the directory tells of more than %d agents",
                         LEND_ROSTER_MAX);
    struct lend_roster_row *rows = lend_sys->allocate(room * sizeof *rows);
    if (rows == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for %u agents of a directory", room);
    if (roster->count > 0)
        memcpy(rows, roster->rows, roster->count * sizeof *rows);
    lend_sys->release(roster->rows);
    roster->rows = rows;
    roster->room = room;
    return LEND_OK;
}

enum lend_status lend_roster_enter(struct lend_roster *roster, const struct lend_roster_row *row,
                                   int *out_event, struct lend_error *error)
{
    uint32_t at = place_of(roster, row->name);
    struct lend_roster_row *known = lend_roster_find(roster, row->name);

    if (known != NULL) {
        if (memcmp(known->incarnation, row->incarnation, sizeof row->incarnation) != 0)
            *out_event = LEND_DIRECTORY_CAME;
        else
            *out_event =
                known->crc != row->crc || known->bytes != row->bytes ? LEND_DIRECTORY_CHANGED : 0;
        *known = *row;
        return LEND_OK;
    }
    enum lend_status status = make_room(roster, error);
    if (status != LEND_OK)
        return status;
    memmove(&roster->rows[at + 1], &roster->rows[at],
            (roster->count - at) * sizeof roster->rows[0]);
    roster->rows[at] = *row;
    roster->count++;
    *out_event = LEND_DIRECTORY_CAME;
    return LEND_OK;
}

static void remove_at(struct lend_roster *roster, uint32_t at)
{
    roster->count--;
    memmove(&roster->rows[at], &roster->rows[at + 1],
            (roster->count - at) * sizeof roster->rows[0]);
}

bool lend_roster_leave(struct lend_roster *roster, const char *name)
{
    struct lend_roster_row *row = lend_roster_find(roster, name);

    if (row == NULL)
        return false;
    remove_at(roster, (uint32_t)(row - roster->rows));
    return true;
}

void lend_roster_doubt(struct lend_roster *roster)
{
    for (uint32_t i = 0; i < roster->count; i++)
        roster->rows[i].is_stale = true;
}

bool lend_roster_take_stale(struct lend_roster *roster, char *out_name)
{
    for (uint32_t i = roster->count; i > 0; i--) {
        if (!roster->rows[i - 1].is_stale)
            continue;
        memcpy(out_name, roster->rows[i - 1].name, sizeof roster->rows[0].name);
        remove_at(roster, i - 1);
        return true;
    }
    return false;
}

void lend_roster_fini(struct lend_roster *roster)
{
    lend_sys->release(roster->rows);
    *roster = (struct lend_roster){0};
}
