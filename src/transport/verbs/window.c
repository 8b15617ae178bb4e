/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/verbs/window.h"

#include "base/error.h"
#include "base/sys.h"

#include <assert.h>
#include <errno.h>

enum { BINDINGS_MAX = 255 }; /* after so many the last byte of the key comes round */

void lend_verbs_windows_init(struct lend_verbs_windows *windows, struct lend_verbs_nic *nic,
                             uint32_t limit, uint32_t keep)
{
    *windows = (struct lend_verbs_windows){.nic = nic, .keep = keep, .limit = limit};
    if (limit == 0 || limit > nic->abilities.windows_max)
        windows->limit = nic->abilities.windows_max;
}

/* Let the provider have it back; it stays as it is if that fails. */
static bool destroy(struct lend_verbs_windows *windows, struct lend_verbs_window *window)
{
    int number = lend_verbs_dealloc_mw(window->mw);

    if (number != 0) {
        windows->failure = number;
        return false;
    }
    lend_sys->release(window);
    windows->made--;
    return true;
}

enum lend_status lend_verbs_windows_fini(struct lend_verbs_windows *windows,
                                         struct lend_error *error)
{
    struct lend_verbs_window *left = NULL;

    while (windows->worn != NULL) {
        struct lend_verbs_window *window = windows->worn;

        windows->worn = window->next;
        window->next = windows->free;
        windows->free = window;
        windows->free_count++;
    }
    while (windows->free != NULL) {
        struct lend_verbs_window *window = windows->free;

        windows->free = window->next;
        windows->free_count--;
        if (!destroy(windows, window)) {
            window->next = left;
            left = window;
        }
    }
    for (struct lend_verbs_window *next = left; next != NULL; next = next->next)
        windows->free_count++;
    windows->free = left;
    if (windows->free_count > 0)
        return lend_fail(error, LEND_E_BUSY,
                         "%s: the provider kept %u memory windows (ibv_dealloc_mw: errno %d)",
                         windows->nic->name, windows->free_count, windows->failure);
    if (windows->made > 0)
        return lend_fail(error, LEND_E_BUSY, "%s: %u memory windows are in use", windows->nic->name,
                         windows->made);
    return LEND_OK;
}

static void forget(struct lend_verbs_window *first)
{
    for (struct lend_verbs_window *next; first != NULL; first = next) {
        next = first->next;
        lend_sys->release(first);
    }
}

void lend_verbs_windows_forget(struct lend_verbs_windows *windows)
{
    forget(windows->free);
    forget(windows->worn);
    windows->free = windows->worn = NULL;
    windows->free_count = 0;
}

static enum lend_status make(struct lend_verbs_windows *windows, struct lend_verbs_window **out,
                             struct lend_error *error)
{
    struct lend_verbs_nic *nic = windows->nic;
    struct lend_verbs_window *made = lend_sys->allocate(sizeof *made);

    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "%s: no memory for a memory window", nic->name);
    made->mw = lend_verbs_alloc_mw(nic->pd, LEND_VERBS_WINDOW_TYPE_2);
    if (made->mw == NULL) {
        int number = errno;

        lend_sys->release(made);
        if (number == ENOMEM)
            return lend_fail(error, LEND_E_LIMIT,
                             "%s has no more memory windows: %u are in use here, and it has %u in "
                             "all",
                             nic->name, windows->made, nic->abilities.windows_max);
        return lend_verbs_fail(error, number, "%s: a memory window", nic->name);
    }
    made->rkey = made->mw->rkey;
    windows->made++;
    *out = made;
    return LEND_OK;
}

enum lend_status lend_verbs_window_take(struct lend_verbs_windows *windows,
                                        struct lend_verbs_window **out, struct lend_error *error)
{
    struct lend_verbs_window *window = windows->free;

    if (!windows->nic->abilities.has_windows_2b)
        return lend_fail(error, LEND_E_UNSUPPORTED, "%s has no memory windows of type 2B",
                         windows->nic->name);
    if (window == NULL && windows->made >= windows->limit)
        return lend_fail(error, LEND_E_LIMIT, "%s: all %u memory windows are in use",
                         windows->nic->name, windows->limit);
    if (window == NULL)
        return make(windows, out, error);
    windows->free = window->next;
    windows->free_count--;
    window->next = NULL;
    *out = window;
    return LEND_OK;
}

void lend_verbs_window_bind(struct lend_verbs_window *window, const struct lend_verbs_qp *qp,
                            struct lend_verbs_mr *mr, uint64_t address, uint64_t bytes,
                            struct lend_verbs_send *work)
{
    LEND_INVARIANT(window->state == LEND_VERBS_WINDOW_FREE);
    window->state = LEND_VERBS_WINDOW_BINDING;
    window->rkey = lend_verbs_next_rkey(window->mw->rkey);
    window->qp_num = qp->qp_num;
    window->mr = mr;
    window->address = address;
    window->bytes = bytes;
    work->opcode = LEND_VERBS_SEND_BIND_WINDOW;
    work->sg_list = NULL;
    work->num_sge = 0;
    work->bind.mw = window->mw;
    work->bind.rkey = window->rkey;
    work->bind.info = (struct lend_verbs_bind){
        .mr = mr, .addr = address, .length = bytes, .access = LEND_VERBS_REMOTE_WRITE};
}

bool lend_verbs_window_bound(struct lend_verbs_window *window, int wc_status, bool was_posted)
{
    LEND_INVARIANT(window->state == LEND_VERBS_WINDOW_BINDING);
    if (was_posted && wc_status == LEND_VERBS_WC_SUCCESS) {
        /* Providers take the key that holds from here when they bind again. */
        window->mw->rkey = window->rkey;
        window->bindings++;
        window->state = LEND_VERBS_WINDOW_BOUND;
        return true;
    }
    window->state = was_posted ? LEND_VERBS_WINDOW_BROKEN : LEND_VERBS_WINDOW_FREE;
    window->rkey = window->mw->rkey;
    return false;
}

void lend_verbs_window_end(struct lend_verbs_window *window, struct lend_verbs_send *work)
{
    LEND_INVARIANT(window->state == LEND_VERBS_WINDOW_BOUND);
    window->state = LEND_VERBS_WINDOW_ENDING;
    work->opcode = LEND_VERBS_SEND_LOCAL_INVALIDATE;
    work->send_flags |= (unsigned)LEND_VERBS_FENCE | (unsigned)LEND_VERBS_SIGNALED;
    work->sg_list = NULL;
    work->num_sge = 0;
    work->invalidate_rkey = window->rkey;
}

bool lend_verbs_window_ended(struct lend_verbs_window *window, int wc_status, bool was_posted)
{
    LEND_INVARIANT(window->state == LEND_VERBS_WINDOW_ENDING);
    if (!was_posted)
        window->state = LEND_VERBS_WINDOW_BOUND;
    else if (wc_status != LEND_VERBS_WC_SUCCESS)
        window->state = LEND_VERBS_WINDOW_BROKEN;
    else
        window->state = LEND_VERBS_WINDOW_FREE;
    return window->state == LEND_VERBS_WINDOW_FREE;
}

void lend_verbs_window_give(struct lend_verbs_windows *windows, struct lend_verbs_window *window)
{
    LEND_INVARIANT(window->state == LEND_VERBS_WINDOW_FREE);
    window->mr = NULL;
    window->owner = NULL;
    /* A key that came round would be an old one's; a new window has keys of its own. */
    bool is_worn = window->bindings >= BINDINGS_MAX;
    if ((is_worn || windows->free_count >= windows->keep) && destroy(windows, window))
        return;
    if (is_worn) {
        window->next = windows->worn;
        windows->worn = window;
        return;
    }
    window->next = windows->free;
    windows->free = window;
    windows->free_count++;
}

enum lend_status lend_verbs_window_drop(struct lend_verbs_windows *windows,
                                        struct lend_verbs_window *window, struct lend_error *error)
{
    if (destroy(windows, window))
        return LEND_OK;
    window->state = LEND_VERBS_WINDOW_BROKEN;
    return lend_fail(error, LEND_E_BUSY,
                     "%s: the provider keeps a memory window (ibv_dealloc_mw: errno %d)",
                     windows->nic->name, windows->failure);
}
