/* SPDX-License-Identifier: Apache-2.0 */
#include "core/puller.h"

#include "base/error.h"
#include "base/sys.h"
#include "core/slot.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * A helper that works has a chunk of a pull: it reads it into its buffer (no lock), then copies it
 * on into place (no lock, but with a mark that cancel waits for), then judges the word. While it is
 * in the call it can be left behind at any time: it then belongs to no pull, and what it has read
 * goes nowhere.
 *
 * A helper that stays in a call for long, without anybody canceling its pull, is late: it no longer
 * counts as one of those that work, and another takes its place. So that this is noticed, there is
 * an idle helper that watches whenever something waits.
 */

enum {
    CHUNK_BYTES = 256 * 1024,
    PIECES_MAX = 1024, /* the kernel's IOV_MAX; the last is the nonce */
    BUFFER_ALIGNMENT = 4096,
    THREADS_MAX = LEND_PULLER_HELPERS + LEND_PULLER_STUCK_MAX + 1, /* one watches */
    GRACE_WAITS = 20,
};

/* No chunk takes that long, unless somebody makes it. */
static const uint64_t late_ns = 2000000;
/* Nor would a machine that has too much to do. */
static const uint64_t stuck_ns = 100000000;
static const uint64_t idle_ns = 1000000000;
static const uint64_t grace_ns = 1000000; /* of each of GRACE_WAITS */

enum call {
    CALL_OUT = 0,
    CALL_IN,
    CALL_ORPHANED, /* the puller is gone */
};

struct helper {
    struct lend_puller *puller;
    pthread_t thread;
    struct lend_list link;
    atomic_int call; /* an enum call; whoever takes it out of CALL_IN decides whose it is */

    /* Under the puller's lock: */
    struct lend_list busy;     /* among the helpers of its pull */
    struct lend_pull *pull;    /* whose chunk it has */
    struct lend_pull *telling; /* whose done() it calls */
    uint64_t began_ns;         /* the call, while in it */
    bool is_left;              /* behind, in a call */
    bool is_copying;

    /* The chunk; the helper's own: */
    struct lend_process process;
    struct lend_cursor to;
    uint64_t offset_bytes;
    uint64_t bytes;
    unsigned piece_count;
    struct iovec *pieces;
    uint8_t *buffer;
    void *storage; /* of both */
};

struct outcome {
    enum lend_status status;
    int sys_errno;
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A position in our memory, or in another's, as the system wants it. */
static struct iovec piece_at(uint64_t address, uint64_t bytes)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)address, .iov_len = bytes};
}

/* Reading a process */

/* What no call to read a process fails with: the nonce is not there, or is another one. */
enum { NO_NONCE = EPROTO };

/* 0, NO_NONCE or the errno. */
static int read_nonce(const struct lend_process *process)
{
    uint8_t nonce[LEND_NONCE_BYTES] = {0};
    struct iovec local = {.iov_base = nonce, .iov_len = sizeof nonce};
    struct iovec remote = piece_at(process->nonce_address, sizeof nonce);

    if (process->pid <= 0)
        return ESRCH;
    ssize_t count = lend_sys->read_process(process->pid, &local, 1, &remote, 1);
    if (count < 0 && count != -EFAULT)
        return (int)-count;
    if (count != (ssize_t)sizeof nonce || memcmp(nonce, process->nonce, sizeof nonce) != 0)
        return NO_NONCE;
    return 0;
}

enum lend_status lend_process_explain(const struct lend_process *process, int sys_errno,
                                      struct lend_error *error)
{
    if (process->pid <= 0)
        return lend_fail(error, LEND_E_NO_PATH,
                         "the owner's process has no number here: separate PID name spaces");
    switch (sys_errno) {
    case EPERM:
        return lend_fail(error, LEND_E_ACCESS,
                         "the memory of process %d may not be read: it must be dumpable and of our "
                         "user; ptrace_scope 1 wants LEND_AGENT_ALLOW_CROSS_MEMORY there, a "
                         "container CAP_SYS_PTRACE or another seccomp profile",
                         process->pid);
    case ESRCH:
        return lend_fail(error, LEND_E_PEER_DEAD,
                         "there is no process %d: it has ended, or it has that number in another "
                         "PID name space, which /proc here is of",
                         process->pid);
    case 0:
        return lend_fail(error, LEND_E_NO_PATH,
                         "the process with the number %d here is another one: separate PID name "
                         "spaces, or the owner was replaced by exec",
                         process->pid);
    case EFAULT:
        return lend_fail_errno(error, EFAULT, "process %d has no such memory any more",
                               process->pid);
    case ENOSYS:
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "no process_vm_readv() here: the kernel or a seccomp profile leaves it "
                         "out");
    default:
        return lend_fail_errno(error, sys_errno, "the memory of process %d cannot be read",
                               process->pid);
    }
}

enum lend_status lend_process_probe(const struct lend_process *process, struct lend_error *error)
{
    int result = read_nonce(process);

    if (result == 0)
        return LEND_OK;
    return lend_process_explain(process, result == NO_NONCE ? 0 : result, error);
}

/* The call has failed or was short: is it that process at all? It may be one that was replaced by
 * exec, or that took the number, and has nothing at these addresses. */
static struct outcome look_why(const struct lend_process *process, int sys_errno)
{
    if (sys_errno == EFAULT) {
        int result = read_nonce(process);

        if (result == NO_NONCE)
            return (struct outcome){.status = LEND_E_PEER_DEAD};
        if (result != 0)
            sys_errno = result;
    }
    return (struct outcome){.status = sys_errno == ESRCH ? LEND_E_PEER_DEAD : LEND_E_SYSTEM,
                            .sys_errno = sys_errno};
}

/* In the call: nothing here may touch the pull, or the puller. */
static struct outcome read_chunk(struct helper *helper)
{
    size_t wanted = helper->bytes + LEND_NONCE_BYTES;
    struct iovec local = {.iov_base = helper->buffer, .iov_len = wanted};

    if (helper->process.pid <= 0)
        return (struct outcome){.status = LEND_E_PEER_DEAD, .sys_errno = ESRCH};
    ssize_t count =
        lend_sys->read_process(helper->process.pid, &local, 1, helper->pieces, helper->piece_count);
    if (count < 0)
        return look_why(&helper->process, (int)-count);
    if ((size_t)count != wanted)
        return look_why(&helper->process, EFAULT);
    /* The kernel took the address space once for all the pieces: if the nonce is the owner's, then
     * the bytes are. */
    if (memcmp(helper->buffer + helper->bytes, helper->process.nonce, LEND_NONCE_BYTES) != 0)
        return (struct outcome){.status = LEND_E_PEER_DEAD};
    return (struct outcome){.status = LEND_OK};
}

static enum lend_status judge(const struct lend_pull *pull)
{
    if (pull->word == NULL)
        return LEND_OK;
    /* Acquire: the bytes were read before the word. If it lives, they are of its generation. */
    atomic_thread_fence(memory_order_acquire);
    return lend_slot_judge(atomic_load_explicit(pull->word, memory_order_relaxed),
                           pull->generation);
}

/* Copy the chunk into place. The helper has its mark, so that the pull and its memory stay. */
static struct outcome land_chunk(struct helper *helper, const struct lend_pull *pull)
{
    lend_cursor_scatter(&helper->to, helper->buffer, helper->bytes);
    return (struct outcome){.status = judge(pull)};
}

/* Helpers; all of these with the lock held */

/* It has been in its call for longer than that. */
static bool is_in_call_for(const struct helper *helper, uint64_t duration_ns, uint64_t now_ns)
{
    return (helper->pull != NULL || helper->is_left) && !helper->is_copying &&
           now_ns > helper->began_ns + duration_ns;
}

/* The one after that, or after none the first; NULL at the end. */
static struct helper *next_helper(struct lend_puller *puller, struct helper *helper)
{
    struct lend_list *link = helper == NULL ? puller->helpers.next : helper->link.next;

    return link == &puller->helpers ? NULL : LEND_LIST_OWNER(link, struct helper, link);
}

/* Those that work and are not late. */
static uint32_t count_working(struct lend_puller *puller, uint64_t now_ns)
{
    uint32_t count = 0;

    for (struct helper *helper = NULL; (helper = next_helper(puller, helper)) != NULL;)
        count += helper->pull != NULL && !is_in_call_for(helper, late_ns, now_ns);
    return count;
}

/* Those that have been in a call for that long, in this process; pid 0: in any. */
static uint32_t count_in_call(struct lend_puller *puller, int pid, uint64_t duration_ns,
                              uint64_t now_ns)
{
    uint32_t count = 0;

    for (struct helper *helper = NULL; (helper = next_helper(puller, helper)) != NULL;)
        count +=
            (pid == 0 || helper->process.pid == pid) && is_in_call_for(helper, duration_ns, now_ns);
    return count;
}

static void *run(void *context);

static enum lend_status make_helper(struct lend_puller *puller, struct lend_error *error)
{
    const size_t pieces_bytes = PIECES_MAX * sizeof(struct iovec);
    struct helper *made = lend_sys->allocate(sizeof *made);
    void *storage =
        lend_sys->allocate(BUFFER_ALIGNMENT + pieces_bytes + CHUNK_BYTES + LEND_NONCE_BYTES);
    int result = -ENOMEM;

    if (made != NULL && storage != NULL) {
        uintptr_t start =
            ((uintptr_t)storage + BUFFER_ALIGNMENT - 1) & ~(uintptr_t)(BUFFER_ALIGNMENT - 1);

        *made = (struct helper){.puller = puller, .storage = storage};
        made->pieces = (struct iovec *)start;
        made->buffer = (uint8_t *)start + pieces_bytes;
        lend_list_init(&made->busy);
        lend_list_append(&puller->helpers, &made->link);
        result = lend_sys->thread(&made->thread, run, made, "lend-pull");
        if (result == 0) {
            puller->helper_count++;
            puller->idle_count++; /* until it has begun */
            return LEND_OK;
        }
        lend_list_remove(&made->link);
    }
    lend_sys->release(storage);
    lend_sys->release(made);
    if (result == -ENOMEM)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a helper of %d bytes",
                         CHUNK_BYTES);
    return lend_fail_errno(error, -result, "no thread for a helper");
}

/* If something waits: see to it that somebody takes it up, or watches those who are to. */
static enum lend_status call_help(struct lend_puller *puller, uint64_t now_ns,
                                  struct lend_error *error)
{
    if (lend_list_is_empty(&puller->waiting))
        return LEND_OK;
    if (puller->is_watched && count_working(puller, now_ns) >= LEND_PULLER_HELPERS)
        return LEND_OK;
    if (puller->idle_count > 0) {
        (void)pthread_cond_signal(&puller->work);
        return LEND_OK;
    }
    if (puller->helper_count >= THREADS_MAX)
        return LEND_OK;
    return make_helper(puller, error);
}

/* Pulls; all of these with the lock held */

/* What a helper may work at: the one that has waited longest, unless its process has made too many
 * helpers late already. */
static struct lend_pull *next_pull(struct lend_puller *puller, uint64_t now_ns)
{
    struct lend_list *waiting = &puller->waiting;

    if (count_working(puller, now_ns) >= LEND_PULLER_HELPERS)
        return NULL;
    for (struct lend_list *link = waiting->next; link != waiting; link = link->next) {
        struct lend_pull *pull = LEND_LIST_OWNER(link, struct lend_pull, link);

        if (count_in_call(puller, pull->process.pid, late_ns, now_ns) <
            LEND_PULLER_STUCK_IN_ONE_MAX)
            return pull;
    }
    return NULL;
}

static void skip(struct lend_cursor *cursor, uint64_t bytes)
{
    struct lend_segment segment;

    while (bytes > 0 && lend_cursor_next(cursor, bytes, &segment))
        bytes -= segment.length_bytes;
}

/* The last in the line, if another helper may work at it. */
static void queue(struct lend_puller *puller, struct lend_pull *pull)
{
    lend_list_remove(&pull->link);
    if (!pull->is_taken && !pull->is_ending && pull->busy_count < LEND_PULLER_HELPERS)
        lend_list_append(&puller->waiting, &pull->link);
}

static void take_chunk(struct helper *helper, struct lend_pull *pull)
{
    uint64_t max = smaller(pull->total_bytes - pull->taken_bytes, CHUNK_BYTES);
    struct lend_segment segment;
    unsigned count = 0;

    helper->process = pull->process;
    helper->to = pull->to;
    helper->offset_bytes = pull->taken_bytes;
    helper->bytes = 0;
    while (count < PIECES_MAX - 1 && lend_cursor_next(&pull->from, max - helper->bytes, &segment)) {
        helper->pieces[count++] = piece_at(segment.address, segment.length_bytes);
        helper->bytes += segment.length_bytes;
    }
    assert(helper->bytes > 0 || max == 0); /* the stream was shorter than its caller had counted */
    helper->pieces[count++] = piece_at(pull->process.nonce_address, LEND_NONCE_BYTES);
    helper->piece_count = count;

    skip(&pull->to, helper->bytes);
    pull->taken_bytes += helper->bytes;
    pull->is_taken = pull->taken_bytes == pull->total_bytes;
    pull->busy_count++;
    lend_list_append(&pull->busy, &helper->busy);
    helper->pull = pull;
    queue(helper->puller, pull);
}

static void give_chunk(struct helper *helper)
{
    helper->pull->busy_count--;
    lend_list_remove(&helper->busy);
    helper->pull = NULL;
}

/* No more of it, and for that reason; helpers that copy are yet to leave. */
static void end_pull(struct lend_puller *puller, struct lend_pull *pull, struct outcome outcome)
{
    struct lend_list *link = pull->busy.next;

    if (!pull->is_ending) {
        pull->is_ending = true;
        pull->status = outcome.status;
        pull->sys_errno = outcome.sys_errno;
    }
    lend_list_remove(&pull->link);
    while (link != &pull->busy) {
        struct helper *helper = LEND_LIST_OWNER(link, struct helper, busy);

        link = link->next;
        if (helper->is_copying)
            continue;
        pull->end_bytes = smaller(pull->end_bytes, helper->offset_bytes);
        give_chunk(helper);
        helper->is_left = true;
        puller->stuck_count++;
    }
}

static void close_pull(struct lend_pull *pull)
{
    pull->is_under_way = false;
    /* All that was taken and did not fail has landed. */
    pull->proven_bytes = smaller(pull->end_bytes, pull->taken_bytes);
}

/* The helper is through with its chunk: back to the line, or to the caller. */
static void finish_chunk(struct helper *helper, struct outcome outcome)
{
    struct lend_puller *puller = helper->puller;
    struct lend_pull *pull = helper->pull;

    give_chunk(helper);
    if (outcome.status != LEND_OK) {
        pull->end_bytes = smaller(pull->end_bytes, helper->offset_bytes);
        end_pull(puller, pull, outcome);
    }
    if (pull->busy_count > 0 || !(pull->is_taken || pull->is_ending)) {
        queue(puller, pull);
        return;
    }
    if (pull->is_canceled) {
        (void)pthread_cond_broadcast(&puller->quiet);
        return;
    }
    close_pull(pull);
    helper->telling = pull;
    (void)pthread_mutex_unlock(&puller->lock);
    pull->done(pull);
    (void)pthread_mutex_lock(&puller->lock);
    helper->telling = NULL;
    (void)pthread_cond_broadcast(&puller->quiet);
}

/* The thread of a helper */

static void release(struct helper *helper)
{
    lend_sys->release(helper->storage);
    lend_sys->release(helper);
}

/* The whole life of a chunk. False: the puller is gone; the lock is held otherwise. */
static bool work(struct helper *helper, struct lend_pull *pull, uint64_t now_ns)
{
    struct lend_puller *puller = helper->puller;
    int expected = CALL_IN;

    take_chunk(helper, pull);
    helper->began_ns = now_ns;
    (void)call_help(puller, now_ns, NULL); /* if there is none, we take it up in the end */
    atomic_store_explicit(&helper->call, CALL_IN, memory_order_relaxed); /* the lock orders it */
    (void)pthread_mutex_unlock(&puller->lock);

    struct outcome outcome = read_chunk(helper);

    /* Acquire: an orphan's memory is its own, and the puller has looked at it for the last time. */
    if (!atomic_compare_exchange_strong_explicit(&helper->call, &expected, CALL_OUT,
                                                 memory_order_acq_rel, memory_order_acquire))
        return false;
    (void)pthread_mutex_lock(&puller->lock);
    if (helper->is_left) {
        helper->is_left = false;
        puller->stuck_count--;
        return true;
    }
    if (outcome.status == LEND_OK) {
        helper->is_copying = true;
        (void)pthread_mutex_unlock(&puller->lock);
        outcome = land_chunk(helper, pull);
        (void)pthread_mutex_lock(&puller->lock);
        helper->is_copying = false;
    } else {
        enum lend_status cause = judge(pull);

        if (cause != LEND_OK) /* then this is why it could not be read */
            outcome = (struct outcome){.status = cause};
    }
    finish_chunk(helper, outcome);
    return true;
}

/* Wait for work, or watch those who have it. False: there was none for long enough. */
static bool rest(struct lend_puller *puller, uint64_t since_ns, uint64_t now_ns)
{
    bool is_needed = !lend_list_is_empty(&puller->waiting);
    bool watches = is_needed && !puller->is_watched;

    if (!is_needed && now_ns - since_ns >= idle_ns)
        return false;
    puller->idle_count++;
    if (watches)
        puller->is_watched = true;
    lend_sys->wait(&puller->work, &puller->lock, watches ? late_ns : idle_ns);
    if (watches)
        puller->is_watched = false;
    puller->idle_count--;
    return true;
}

static void *run(void *context)
{
    struct helper *helper = context;
    struct lend_puller *puller = helper->puller;

    (void)pthread_mutex_lock(&puller->lock);
    puller->idle_count--;
    uint64_t now_ns = lend_sys->now_ns();
    uint64_t since_ns = now_ns;
    while (!puller->is_over) {
        struct lend_pull *pull = next_pull(puller, now_ns);

        if (pull != NULL) {
            if (!work(helper, pull, now_ns)) {
                release(helper);
                return NULL;
            }
            since_ns = lend_sys->now_ns();
        } else if (!rest(puller, since_ns, now_ns)) {
            break;
        }
        now_ns = lend_sys->now_ns();
    }
    lend_list_remove(&helper->link);
    lend_list_append(&puller->ended, &helper->link);
    puller->helper_count--;
    (void)pthread_cond_broadcast(&puller->quiet);
    (void)pthread_mutex_unlock(&puller->lock);
    lend_sys->release(LEND_TAKE(helper->storage)); /* whoever joins frees the rest */
    return NULL;
}

/* Join those that have ended, with the lock held; they need it no more. */
static void join_ended(struct lend_puller *puller)
{
    struct lend_list *link;

    while ((link = lend_list_take_first(&puller->ended)) != NULL) {
        struct helper *helper = LEND_LIST_OWNER(link, struct helper, link);

        (void)pthread_join(helper->thread, NULL);
        release(helper);
    }
}

/* The puller's callers */

void lend_puller_init(struct lend_puller *puller)
{
    *puller = (struct lend_puller){0};
    (void)pthread_mutex_init(&puller->lock, NULL);
    (void)pthread_cond_init(&puller->work, NULL);
    (void)pthread_cond_init(&puller->quiet, NULL);
    lend_list_init(&puller->waiting);
    lend_list_init(&puller->helpers);
    lend_list_init(&puller->ended);
}

static void free_all(struct lend_list *helpers)
{
    struct lend_list *link;

    while ((link = lend_list_take_first(helpers)) != NULL)
        release(LEND_LIST_OWNER(link, struct helper, link));
}

/* In a forked child. Whoever held the lock is not here, and what it was about is left alone. */
static void fini_forked(struct lend_puller *puller)
{
    if (pthread_mutex_trylock(&puller->lock) != 0)
        return;
    free_all(&puller->helpers);
    free_all(&puller->ended);
    (void)pthread_mutex_unlock(&puller->lock);
}

/* Let go of those that are in a call, with the lock held. */
static void orphan_helpers(struct lend_puller *puller)
{
    struct lend_list *link;

    while ((link = lend_list_take_first(&puller->helpers)) != NULL) {
        struct helper *helper = LEND_LIST_OWNER(link, struct helper, link);
        pthread_t thread = helper->thread;
        int expected = CALL_IN;

        /* Release: our last look at it. From here on it frees itself. */
        if (atomic_compare_exchange_strong_explicit(&helper->call, &expected, CALL_ORPHANED,
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            (void)pthread_detach(thread);
            puller->helper_count--;
        }
    }
}

void lend_puller_fini(struct lend_puller *puller, bool forked)
{
    if (forked) {
        fini_forked(puller);
        return;
    }
    (void)pthread_mutex_lock(&puller->lock);
    assert(lend_list_is_empty(&puller->waiting));
    puller->is_over = true;
    (void)pthread_cond_broadcast(&puller->work);
    for (int i = 0; i < GRACE_WAITS && puller->helper_count > 0; i++)
        lend_sys->wait(&puller->quiet, &puller->lock, grace_ns);
    orphan_helpers(puller);
    while (puller->helper_count > 0)
        lend_sys->wait(&puller->quiet, &puller->lock, idle_ns);
    join_ended(puller);
    (void)pthread_mutex_unlock(&puller->lock);
    (void)pthread_cond_destroy(&puller->quiet);
    (void)pthread_cond_destroy(&puller->work);
    (void)pthread_mutex_destroy(&puller->lock);
}

static enum lend_status check_stuck(struct lend_puller *puller, int pid, uint64_t now_ns,
                                    struct lend_error *error)
{
    uint32_t here = count_in_call(puller, pid, stuck_ns, now_ns);
    uint32_t all = count_in_call(puller, 0, stuck_ns, now_ns);

    if (here >= LEND_PULLER_STUCK_IN_ONE_MAX)
        return lend_fail(error, LEND_E_LIMIT,
                         "%u helper threads wait in the memory of process %d, which answers no "
                         "page fault (userfaultfd, FUSE)",
                         here, pid);
    if (all < LEND_PULLER_STUCK_MAX)
        return LEND_OK;
    for (struct helper *helper = NULL; (helper = next_helper(puller, helper)) != NULL;)
        if (is_in_call_for(helper, stuck_ns, now_ns))
            return lend_fail(error, LEND_E_LIMIT,
                             "%u helper threads wait in the memory of other processes, which "
                             "answer no page faults (userfaultfd, FUSE); look at process %d",
                             all, helper->process.pid);
    return LEND_OK;
}

enum lend_status lend_puller_submit(struct lend_puller *puller, struct lend_pull *pull,
                                    struct lend_error *error)
{
    assert(pull->done != NULL);
    assert(pull->word != NULL || pull->total_bytes == 0);

    uint64_t now_ns = lend_sys->now_ns();

    pull->status = LEND_OK;
    pull->sys_errno = 0;
    pull->proven_bytes = pull->taken_bytes = 0;
    pull->end_bytes = UINT64_MAX;
    pull->busy_count = 0;
    pull->is_taken = pull->is_ending = pull->is_canceled = false;
    lend_list_init(&pull->link);
    lend_list_init(&pull->busy);

    (void)pthread_mutex_lock(&puller->lock);
    join_ended(puller);
    enum lend_status status = check_stuck(puller, pull->process.pid, now_ns, error);
    if (status == LEND_OK) {
        queue(puller, pull);
        status = call_help(puller, now_ns, error);
        if (status != LEND_OK && puller->helper_count > puller->stuck_count)
            status = LEND_OK; /* those that are there come to it */
        if (status != LEND_OK)
            lend_list_remove(&pull->link);
    }
    pull->is_under_way = status == LEND_OK;
    (void)pthread_mutex_unlock(&puller->lock);
    return status;
}

static bool is_told(struct lend_puller *puller, const struct lend_pull *pull)
{
    for (struct helper *helper = NULL; (helper = next_helper(puller, helper)) != NULL;)
        if (helper->telling == pull)
            return true;
    return false;
}

bool lend_puller_cancel(struct lend_puller *puller, struct lend_pull *pull)
{
    const struct outcome canceled = {.status = LEND_E_CANCELED};

    (void)pthread_mutex_lock(&puller->lock);
    while (is_told(puller, pull))
        lend_sys->wait(&puller->quiet, &puller->lock, idle_ns);
    bool was_under_way = pull->is_under_way;
    if (was_under_way) {
        pull->is_canceled = true;
        end_pull(puller, pull, canceled);
        while (pull->busy_count > 0)
            lend_sys->wait(&puller->quiet, &puller->lock, idle_ns);
        close_pull(pull);
        /* A place is free; if nobody can be had to take it, those that are there come to it. */
        (void)call_help(puller, lend_sys->now_ns(), NULL);
    }
    (void)pthread_mutex_unlock(&puller->lock);
    return was_under_way;
}
