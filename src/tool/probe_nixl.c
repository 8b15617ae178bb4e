/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/probe_agents.h"

#include <stdio.h>
#include <string.h>

/* Which libnixl_capi there is, and whose: in a child, as NVIDIA's brings much with it. */

struct answer {
    enum lend_status status;
    struct lend_nixl_library library;
    struct lend_error error;
};

static void look(const void *file, void *out)
{
    struct answer *answer = out;

    answer->status = lend_nixl_library_find(file, &answer->library, &answer->error);
}

enum lend_status probe_nixl_find(const char *file, struct lend_nixl_library *out,
                                 struct lend_error *error)
{
    struct answer answer = {.status = LEND_PENDING, .library = {.struct_size = sizeof *out}};

    if (probe_in_child(look, file, &answer, sizeof answer) != 0 || answer.status == LEND_PENDING) {
        answer.status = LEND_E_ABSENT;
        (void)snprintf(answer.error.message, sizeof answer.error.message,
                       "it did not come to an end when it was loaded");
    }
    *out = answer.library;
    *error = answer.error;
    error->status = answer.status;
    return answer.status;
}
