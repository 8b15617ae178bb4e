/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/act.h"

#include "tool/trouble.h"

#include <lend/transfer.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/*
 * Act 4: one of the two is killed, stopped, or becomes another program, or, on two hosts, the link
 * is cut, at a random moment of a read. The other one is told in bounded time, and the owner, if it
 * lives, gets its memory back.
 */

enum { GENERATION = 1 };

static const uint64_t deadline_ns = 2000000000;
static const uint64_t stopped_deadline_ns = 200000000;
static const uint64_t grace_ns = 1000000000; /* beyond a deadline, on a busy machine */

/* Fresh processes, and a read that is just beginning. */
static enum lend_status begin_read(struct acts *acts, bool is_named, uint64_t timeout_ns,
                                   struct lend_error *error)
{
    struct stage *stage = acts->stage;
    uint64_t seed = dice_roll(&acts->dice);
    enum lend_status status = act_open(acts, 0, 0, error);

    if (status == LEND_OK) {
        (void)stage_order(stage, ORDER_MEET);
        stage_carry(stage);
        status = stage_ask(stage, &stage->owner, error);
    }
    if (status == LEND_OK)
        status = act_lend(acts, 2 * acts->block_count, GENERATION, error);
    if (status == LEND_OK) {
        (void)stage_order(stage, ORDER_CONNECT);
        status = stage_ask(stage, &stage->reader, error);
    }
    if (status != LEND_OK)
        return status;

    struct order *order = stage_order(stage, ORDER_GRANT);
    order->direction = LEND_READ;
    order->seed = seed;
    order->block_count = acts->block_count;
    order->time_to_live_ns = is_named ? 0 : 10 * deadline_ns;
    order->is_named = is_named;
    status = act_grant(acts, error);
    if (status != LEND_OK)
        return status;
    order = act_move(acts, LEND_READ, seed, GENERATION);
    order->timeout_ns = timeout_ns;
    return act_move_send(acts, error);
}

/* The same, and then a random moment of it. */
static enum lend_status begin(struct acts *acts, bool is_named, uint64_t timeout_ns,
                              struct lend_error *error)
{
    enum lend_status status = begin_read(acts, is_named, timeout_ns, error);

    sleep_until_ns(now_ns() + act_moment_ns(acts));
    return status;
}

/* Has the reader been told? */
static bool is_told(const struct report *report)
{
    return report->status == LEND_OK || report->status == LEND_E_PEER_DEAD ||
           report->status == LEND_E_TIMEOUT;
}

/* Note how the read ended: in time, and if well then with right bytes. */
static enum lend_status end_read(struct acts *acts, struct act_row *row, uint64_t since_ns,
                                 uint64_t timeout_ns, struct lend_error *error)
{
    const struct report *report = &acts->stage->report;
    enum lend_status status = act_move_end(acts, error);

    if (status != LEND_OK)
        return status;
    bool is_in_time = report->elapsed_ns <= timeout_ns + grace_ns;
    bool is_right = is_in_time && report->pieces_wrong == 0 && is_told(report);
    act_note(acts, row, report->status, is_right,
             is_in_time ? report->text : "not within the deadline");
    act_note_path(row, report->path);
    if (report->at_ns + report->elapsed_ns > since_ns)
        act_note_time(row, report->at_ns + report->elapsed_ns - since_ns);
    return LEND_OK;
}

/* The owner takes everything back, whatever the reader does; a failure is noted in the row. */
static enum lend_status reclaim(struct acts *acts, struct act_row *row, struct lend_error *error)
{
    struct stage *stage = acts->stage;

    stage_order(stage, ORDER_RECLAIM)->timeout_ns = deadline_ns;
    enum lend_status status = stage_send(stage, &stage->owner, error);
    if (status == LEND_OK)
        status = stage_await(stage, &stage->owner, error);
    if (status == LEND_OK && stage->report.status != LEND_OK)
        act_note(acts, row, stage->report.status, false, stage->report.text);
    return status;
}

static enum lend_status kill_reader(struct acts *acts, struct act_row *row,
                                    struct lend_error *error)
{
    struct stage *stage = acts->stage;
    enum lend_status status = begin(acts, true, deadline_ns, error);
    if (status != LEND_OK)
        return status;

    stage_strike(&stage->reader, SIGKILL);
    stage_order(stage, ORDER_FATE)->timeout_ns = deadline_ns;
    status = stage_send(stage, &stage->owner, error);
    if (status == LEND_OK)
        status = stage_await(stage, &stage->owner, error);
    if (status != LEND_OK)
        return status;
    act_note(acts, row, stage->report.status, stage->report.status == LEND_E_PEER_DEAD,
             stage->report.text);
    act_note_time(row, stage->report.elapsed_ns);
    return reclaim(acts, row, error);
}

static enum lend_status kill_owner(struct acts *acts, struct act_row *row, struct lend_error *error)
{
    enum lend_status status = begin(acts, false, deadline_ns, error);
    if (status != LEND_OK)
        return status;

    uint64_t since_ns = now_ns();
    stage_strike(&acts->stage->owner, SIGKILL);
    return end_read(acts, row, since_ns, deadline_ns, error);
}

static enum lend_status replace_owner(struct acts *acts, struct act_row *row,
                                      struct lend_error *error)
{
    struct stage *stage = acts->stage;
    enum lend_status status = begin(acts, false, deadline_ns, error);
    if (status != LEND_OK)
        return status;

    uint64_t since_ns = now_ns();
    (void)stage_order(stage, ORDER_EXEC);
    stage->owner.is_struck = true; /* the process lives on, as another program */
    status = stage_send(stage, &stage->owner, error);
    return status == LEND_OK ? end_read(acts, row, since_ns, deadline_ns, error) : status;
}

static enum lend_status stop_owner(struct acts *acts, struct act_row *row, struct lend_error *error)
{
    enum lend_status status = begin(acts, false, stopped_deadline_ns, error);
    if (status != LEND_OK)
        return status;

    uint64_t since_ns = now_ns();
    stage_strike(&acts->stage->owner, SIGSTOP);
    status = end_read(acts, row, since_ns, stopped_deadline_ns, error);
    stage_strike(&acts->stage->owner, SIGCONT);
    return status == LEND_OK ? reclaim(acts, row, error) : status;
}

/* What is wrong with the owner's withdrawal while the reader is stopped, or NULL. It is LEND_OK if
 * the reader has nothing of it, else LEND_E_BUSY, and names the reader: its process if it maps the
 * memory, its agent if something is under way to it. text has room for what is told. */
static const char *judge_withdrawal(const struct report *report, pid_t reader, char *text,
                                    size_t capacity)
{
    char holder[40];

    if (report->status == LEND_OK)
        return NULL;
    (void)snprintf(text, capacity, "%s", report->text);
    if (report->status != LEND_E_BUSY)
        return text;
    (void)snprintf(holder, sizeof holder, "process %d ", (int)reader);
    if (strstr(text, holder) != NULL || strstr(text, " for reader ") != NULL)
        return NULL;
    (void)snprintf(text, capacity, "BUSY, and the reader is not named: %s", report->text);
    return text;
}

/* The reader goes on: it lets go of the memory, and its read ends as in act 1. */
static enum lend_status resume_reader(struct acts *acts, struct act_row *row, int32_t withdrawn,
                                      const char *wrong, struct lend_error *error)
{
    struct stage *stage = acts->stage;
    const struct report *report = &stage->report;
    enum lend_status status = LEND_OK;

    stage_strike(&stage->reader, SIGCONT);
    if (withdrawn != LEND_OK) {
        stage_order(stage, ORDER_RECLAIM)->timeout_ns = deadline_ns;
        status = stage_send(stage, &stage->owner, error);
        if (status == LEND_OK)
            status = stage_await(stage, &stage->owner, error);
        if (status == LEND_OK && report->status != LEND_OK && wrong == NULL)
            wrong = "the memory did not come back";
        act_note_time(row, report->elapsed_ns);
    }
    if (status == LEND_OK)
        status = act_move_end(acts, error);
    if (status != LEND_OK)
        return status;
    bool is_expected =
        is_told(report) || report->status == LEND_E_REVOKED || report->status == LEND_E_STALE;
    bool is_right = wrong == NULL && is_expected && report->pieces_wrong == 0;
    act_note(acts, row, withdrawn, is_right, wrong != NULL ? wrong : report->text);
    act_note_path(row, report->path);
    return LEND_OK;
}

/* The stopped reader cannot be told anything. If it does not map the memory yet, the owner has it
 * back without it; else the owner learns who keeps it, and has it back when that one goes on. */
static enum lend_status stop_reader(struct acts *acts, struct act_row *row,
                                    struct lend_error *error)
{
    struct stage *stage = acts->stage;
    char text[320];
    enum lend_status status = begin(acts, false, deadline_ns, error);
    if (status != LEND_OK)
        return status;

    stage_strike(&stage->reader, SIGSTOP);
    stage_order(stage, ORDER_RECLAIM)->timeout_ns = stopped_deadline_ns;
    status = stage_send(stage, &stage->owner, error);
    if (status == LEND_OK)
        status = stage_await(stage, &stage->owner, error);
    if (status != LEND_OK)
        return status;
    int32_t withdrawn = stage->report.status;
    if (withdrawn == LEND_OK)
        act_note_time(row, stage->report.elapsed_ns);
    const char *wrong = judge_withdrawal(&stage->report, stage->reader.pid, text, sizeof text);
    return resume_reader(acts, row, withdrawn, wrong, error);
}

/* Nobody dies, but neither hears of the other any more: each takes the other for dead, long before
 * the read's own time is over. */
static enum lend_status cut_link(struct acts *acts, struct act_row *row, struct lend_error *error)
{
    struct stage *stage = acts->stage;
    /* It takes a moment by itself to cut it, as long as it takes to run a program. */
    enum lend_status status = begin_read(acts, false, 5 * deadline_ns, error);
    if (status != LEND_OK)
        return status;

    uint64_t since_ns = now_ns();
    status = hosts_unplug(&stage->hosts, error);
    if (status == LEND_OK)
        status = end_read(acts, row, since_ns, 2 * STAGE_SILENCE_NS, error);
    if (status == LEND_OK)
        status = reclaim(acts, row, error);
    struct lend_error ignored; /* the first reason is enough */
    enum lend_status plugged = hosts_plug(&stage->hosts, 0, status == LEND_OK ? error : &ignored);
    return status == LEND_OK ? plugged : status;
}

enum lend_status act_death(struct acts *acts, struct lend_error *error)
{
    static const char reader_told[] = "PEER_DEAD or TIMEOUT in time; OK only with right bytes";
    static const struct {
        const char *done;
        const char *expected;
        enum lend_status (*strike)(struct acts *, struct act_row *, struct lend_error *);
        bool needs_hosts;
    } cases[] = {
        {"reader killed", "the lease ends as PEER_DEAD; memory back", kill_reader, false},
        {"owner killed", reader_told, kill_owner, false},
        {"reader stopped, memory withdrawn",
         "BUSY, naming the reader, if it maps it; back when it goes on", stop_reader, false},
        {"owner stopped", reader_told, stop_owner, false},
        {"owner replaced by exec", reader_told, replace_owner, false},
        {"link cut", "PEER_DEAD in time; memory back; OK only with right bytes", cut_link, true},
    };
    enum lend_status status = LEND_OK;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].needs_hosts && !acts->stage->has_hosts)
            continue;
        struct act_row *row = act_row_add(acts, "4 death", cases[i].done, cases[i].expected);

        for (uint32_t k = 0; status == LEND_OK && k < acts->iterations; k++) {
            status = cases[i].strike(acts, row, error);
            if (status == LEND_OK)
                status = stage_clear(acts->stage, error);
        }
    }
    return status;
}
