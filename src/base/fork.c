/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fork.h"
#include "base/sys.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { PAGE_BYTES = 4096 };

typedef _Atomic int64_t life_word;

/* The page; shared by name with the child, wiped there. Made once, and never given back. */
static life_word *_Atomic page;
/* The last number given, here or in a forebear: a child is copied with it, so that its own is new.
 */
static life_word last_life;

/* Two threads may both come first: one page wins, the other goes back. */
static int make_page(void)
{
    life_word *expected = NULL;
    void *made = NULL;
    int result = lend_sys->map_wiped(PAGE_BYTES, &made);

    if (result < 0)
        return result;
    /* Acquire, release: whoever finds the page finds it as the kernel made it. */
    if (!atomic_compare_exchange_strong_explicit(&page, &expected, made, memory_order_acq_rel,
                                                 memory_order_acquire))
        lend_sys->unmap_wiped(made, PAGE_BYTES);
    return 0;
}

int64_t lend_fork_life(void)
{
    life_word *word = atomic_load_explicit(&page, memory_order_acquire);
    int64_t life = 0;

    if (word == NULL) {
        int result = make_page();

        if (result < 0)
            return result;
        word = atomic_load_explicit(&page, memory_order_acquire);
    }
    /* Relaxed: a number orders nothing. On failure life is the number that another thread stored.
     */
    int64_t next = atomic_fetch_add_explicit(&last_life, 1, memory_order_relaxed) + 1;
    if (atomic_compare_exchange_strong_explicit(word, &life, next, memory_order_relaxed,
                                                memory_order_relaxed))
        life = next;
    return life;
}

int lend_fork_is_same(int64_t life)
{
    /* Relaxed, both: the caller got its number from a call that saw the page. */
    life_word *word = atomic_load_explicit(&page, memory_order_relaxed);

    return word != NULL && atomic_load_explicit(word, memory_order_relaxed) == life;
}
