/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_ACT_H
#define LEND_TOOL_ACT_H

#include "tool/dice.h"
#include "tool/progress.h"
#include "tool/stage.h"

/*
 * The four acts of the demo: what goes wrong in real life, done on purpose and at random moments,
 * each with the outcomes that it may have.
 */

enum { ACT_SEEN_MAX = 12, ACT_ROWS_MAX = 16, ACT_PATHS_MAX = 4 };

/* One thing that was done a number of times, and what came of it. */
struct act_row {
    const char *act;
    const char *done;
    const char *expected;
    struct {
        int32_t status;
        uint32_t count;
    } seen[ACT_SEEN_MAX];
    uint32_t seen_count;
    struct {
        char name[32];
        uint32_t count;
    } paths[ACT_PATHS_MAX]; /* that its transfers took, as their records say */
    uint32_t path_count;
    uint32_t repetitions;
    uint32_t wrong;      /* repetitions that did not come out as they must */
    uint64_t slowest_ns; /* until the outcome that the row is about was there */
    char reason[240];    /* what was wrong, the first time */
};

struct acts {
    struct stage *stage;
    struct dice dice;
    uint32_t iterations;
    uint32_t block_count; /* of each region, in one pull */
    uint64_t pull_ns;     /* what an undisturbed pull takes */
    struct act_row rows[ACT_ROWS_MAX];
    uint32_t row_count;
    struct progress progress;
};

/* Run all four. A failure is one of the demo's own; what the acts saw stands in the rows. */
enum lend_status acts_run(struct acts *acts, struct lend_error *error);

/* How many repetitions were not as they must be. */
uint32_t acts_count_wrong(const struct acts *acts);

/* The statuses of a row, such as "REVOKED 7, OK 3". Returns text. */
const char *act_row_seen(const struct act_row *row, char *text, size_t capacity);

/* "right", "wrong", or "cut short" if it was not done as often as it should. */
const char *act_row_verdict(const struct act_row *row, uint32_t iterations);

/* One act each; the stage is empty before and after. */
enum lend_status act_take_back(struct acts *acts, struct lend_error *error);
enum lend_status act_references(struct acts *acts, struct lend_error *error);
enum lend_status act_abort(struct acts *acts, struct lend_error *error);
enum lend_status act_death(struct acts *acts, struct lend_error *error);

/* What the acts are made of. */

/* Begin a row; valid until the acts' end. */
struct act_row *act_row_add(struct acts *acts, const char *act, const char *done,
                            const char *expected);

/* Note one repetition: its outcome, how long that took, and, if it was wrong, why ("" for the
 * status alone). */
void act_note(struct acts *acts, struct act_row *row, int32_t status, bool is_right,
              const char *reason);
void act_note_time(struct act_row *row, uint64_t ns);
/* Note the path of the transfer that ended; "": it took none. */
void act_note_path(struct act_row *row, const char *path);

/* Put on the stage an owner and a reader that have opened their agents. leases_max and slot_rest_ns
 * are of the owner's, 0 for the default. */
enum lend_status act_open(struct acts *acts, uint32_t leases_max, uint64_t slot_rest_ns,
                          struct lend_error *error);

/* The owner lends a cache of block_count blocks a region, and the reader imports the metadata. */
enum lend_status act_lend(struct acts *acts, uint32_t block_count, uint32_t generation,
                          struct lend_error *error);

/* The owner carries out the grant that is the stage's order, and the reader imports the ticket. */
enum lend_status act_grant(struct acts *acts, struct lend_error *error);

/* Grant a lease on the blocks that the seed draws, for ten seconds. */
enum lend_status act_grant_drawn(struct acts *acts, uint32_t direction, uint64_t seed,
                                 struct lend_error *error);

/* Begin the stage's order for a transfer of those blocks; its flags can be set before
 * act_move_send(). */
struct order *act_move(struct acts *acts, uint32_t direction, uint64_t seed, uint32_t generation);

/* Send it, and return when it is about to be posted; wait for its end. */
enum lend_status act_move_send(struct acts *acts, struct lend_error *error);
enum lend_status act_move_end(struct acts *acts, struct lend_error *error);

/* How far into a pull to strike: at random, sometimes after its end. */
uint64_t act_moment_ns(struct acts *acts);

/* Measure an undisturbed pull; fails if it does. */
enum lend_status act_calibrate(struct acts *acts, uint32_t generation, struct lend_error *error);

#endif
