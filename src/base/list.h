/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_LIST_H
#define LEND_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* A doubly linked ring of members that lie inside other structs. The head is a member like any
 * other. */
struct lend_list {
    struct lend_list *next;
    struct lend_list *previous;
};

#define LEND_LIST_OWNER(link, type, member)                                                        \
    ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void lend_list_init(struct lend_list *list)
{
    list->next = list->previous = list;
}

static inline bool lend_list_is_empty(const struct lend_list *list)
{
    return list->next == list;
}

static inline void lend_list_append(struct lend_list *list, struct lend_list *link)
{
    link->previous = list->previous;
    link->next = list;
    list->previous->next = link;
    list->previous = link;
}

/* Unlink; safe to repeat, as the link is left alone in a ring of its own. */
static inline void lend_list_remove(struct lend_list *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    lend_list_init(link);
}

/* Unlink and return the first, or NULL. */
static inline struct lend_list *lend_list_take_first(struct lend_list *list)
{
    struct lend_list *first = list->next;

    if (first == list)
        return NULL;
    lend_list_remove(first);
    return first;
}

#endif
