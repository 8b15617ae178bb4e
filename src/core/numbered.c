/* SPDX-License-Identifier: Apache-2.0 */
#include "core/numbered.h"

#include "base/sys.h"

#include <string.h>

/* The peer's window bounds how many there are. */
struct early {
    struct lend_list link;
    uint64_t number;
    uint32_t count;
    uint8_t bytes[];
};

static struct early *early_at(struct lend_list *link)
{
    return LEND_LIST_OWNER(link, struct early, link);
}

void lend_numbered_init(struct lend_numbered *numbered)
{
    numbered->last = 0;
    lend_list_init(&numbered->early);
}

void lend_numbered_fini(struct lend_numbered *numbered)
{
    for (struct lend_list *link; (link = lend_list_take_first(&numbered->early)) != NULL;)
        lend_sys->release(early_at(link));
}

bool lend_numbered_has(const struct lend_numbered *numbered, uint64_t number)
{
    if (number != 0 && number <= numbered->last)
        return true;
    for (struct lend_list *link = numbered->early.next; link != &numbered->early; link = link->next)
        if (early_at(link)->number == number)
            return true;
    return false;
}

static enum lend_status keep(struct lend_numbered *numbered, uint64_t number, const void *bytes,
                             uint32_t count)
{
    struct lend_list *before = numbered->early.previous;
    struct early *made = lend_sys->allocate(sizeof *made + count);

    if (made == NULL)
        return LEND_E_NO_MEMORY;
    made->number = number;
    made->count = count;
    if (count > 0)
        memcpy(made->bytes, bytes, count);
    while (before != &numbered->early && early_at(before)->number > number)
        before = before->previous;
    lend_list_append(before->next, &made->link); /* ahead of what comes behind it */
    return LEND_OK;
}

enum lend_status lend_numbered_take(struct lend_numbered *numbered, uint64_t number,
                                    const void *bytes, uint32_t count,
                                    enum lend_status (*give)(struct lend_session *session,
                                                             const void *bytes, uint32_t count),
                                    struct lend_session *session)
{
    if (number != 0 && number != numbered->last + 1)
        return keep(numbered, number, bytes, count);

    enum lend_status status = give(session, bytes, count);
    if (status != LEND_OK)
        return status;
    numbered->last++;
    while (!lend_list_is_empty(&numbered->early) &&
           early_at(numbered->early.next)->number == numbered->last + 1) {
        struct early *first = early_at(numbered->early.next);

        status = give(session, first->bytes, first->count);
        if (status != LEND_OK)
            return status;
        numbered->last++;
        lend_list_remove(&first->link);
        lend_sys->release(first);
    }
    return LEND_OK;
}
