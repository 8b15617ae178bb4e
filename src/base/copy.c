/* SPDX-License-Identifier: Apache-2.0 */
#include "base/copy.h"

#include <stdint.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LEND_HAS_TSAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define LEND_HAS_TSAN 1
#endif

#if defined(LEND_HAS_TSAN)

/* Thread sanitizer's own entry, by which our side of the copy stays watched. */
void __tsan_write_range(void *address, long count);
/* And those by which it is told to look away from what this thread reads. */
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);

/* Eight bytes at any address. */
typedef uint64_t __attribute__((may_alias, aligned(1))) loose_word;

/* Volatile, so that the compiler does not make the loop a call of memcpy, which would be watched.
 */
__attribute__((no_sanitize("thread"), noinline)) static void copy_unwatched(
    volatile uint8_t *destination, const volatile uint8_t *source, size_t count)
{
    for (; count >= sizeof(loose_word); count -= sizeof(loose_word)) {
        *(volatile loose_word *)destination = *(const volatile loose_word *)source;
        source += sizeof(loose_word);
        destination += sizeof(loose_word);
    }
    for (; count > 0; count--)
        *destination++ = *source++;
}

void lend_copy_racing(void *destination, const void *source, size_t count)
{
    if (count == 0)
        return;
    __tsan_write_range(destination, (long)count);
    copy_unwatched(destination, source, count);
}

void lend_racing_begin(void)
{
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
}

void lend_racing_end(void)
{
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

#else

void lend_copy_racing(void *destination, const void *source, size_t count)
{
    if (count > 0)
        memcpy(destination, source, count);
}

void lend_racing_begin(void)
{
}

void lend_racing_end(void)
{
}

#endif
