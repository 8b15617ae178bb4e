/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_BASE_DIRECTORY_H
#define LEND_BASE_DIRECTORY_H

#include <lend/agent.h>

#include <stddef.h>

/* Where an agent puts its files, and what they are called: its socket, its statistics page. */

enum {
    LEND_DIRECTORY_DEFAULT_BYTES = 32,                     /* "/tmp/lend-UID", and the NUL */
    LEND_FILE_STEM_BYTES = LEND_AGENT_NAME_BYTES_MAX + 10, /* "NAME-xxxxxxxx", and the NUL */
};

/*
 * The folder: the one given, which must be an absolute path, or, for NULL, /tmp/lend-UID, made if
 * it is missing and checked to be ours alone. *out is the given one, or `made`, which has
 * LEND_DIRECTORY_DEFAULT_BYTES. LEND_E_INVALID, LEND_E_ACCESS, LEND_E_SYSTEM.
 */
enum lend_status lend_directory_choose(const char *given, char *made, const char **out,
                                       struct lend_error *error);

/* The agent's name as it may stand in a file name, and the first four bytes of its incarnation; out
 * has LEND_FILE_STEM_BYTES. */
void lend_file_stem(const char *name, const uint8_t *incarnation, char *out);

#endif
