/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_ROSTER_H
#define LEND_CORE_ROSTER_H

#include <lend/discovery.h>

#include <stdbool.h>

/*
 * The agents that a directory has told of, by name: enough to tell what is new of one. It is its
 * user's to lock.
 */

enum { LEND_ROSTER_MAX = 1 << 16 };

struct lend_roster_row {
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES];
    uint32_t crc;   /* of the entry */
    uint32_t bytes; /* of it */
    bool is_stale;  /* not told again yet, since the watch began anew */
};

struct lend_roster {
    struct lend_roster_row *rows; /* by name */
    uint32_t count;
    uint32_t room;
};

/* The row of that name; NULL: there is none. */
struct lend_roster_row *lend_roster_find(const struct lend_roster *roster, const char *name);

/* Take an entry in. Says what that means in out_event, 0: nothing is new. LEND_E_LIMIT,
 * LEND_E_NO_MEMORY. */
enum lend_status lend_roster_enter(struct lend_roster *roster, const struct lend_roster_row *row,
                                   int *out_event, struct lend_error *error);
/* The entry is gone. True if there was one. */
bool lend_roster_leave(struct lend_roster *roster, const char *name);

/* The watch begins anew: whoever is not told again until it is listed has left. */
void lend_roster_doubt(struct lend_roster *roster);
/* One of those, taken out, with its name; false: there is none. */
bool lend_roster_take_stale(struct lend_roster *roster, char *out_name);

void lend_roster_fini(struct lend_roster *roster);

#endif
