/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_SANITIZER_H
#define LEND_TESTS_SANITIZER_H

/* Which sanitizer a test was built with, for those that it changes: gcc says it by macros, and
 * clang by features. */
#if defined(__has_feature)
#define LEND_HAS_SANITIZER(name) __has_feature(name)
#else
#define LEND_HAS_SANITIZER(name) 0
#endif

#if defined(__SANITIZE_THREAD__) || LEND_HAS_SANITIZER(thread_sanitizer)
enum { UNDER_TSAN = 1 };
#else
enum { UNDER_TSAN = 0 };
#endif

#if defined(__SANITIZE_ADDRESS__) || LEND_HAS_SANITIZER(address_sanitizer)
enum { UNDER_ASAN = 1 };
#else
enum { UNDER_ASAN = 0 };
#endif

/* Why what goes through UCX is left out under the thread sanitizer. */
#define UCX_TSAN_REASON                                                                            \
    "UCX's hooks of memory calls and the thread sanitizer do not get on: it ends in SIGSEGV"

#endif
