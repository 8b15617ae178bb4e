/* SPDX-License-Identifier: Apache-2.0 */
#include "built.h"

#include "core/transport.h"

#include <stdio.h>
#include <string.h>

bool built_with(const char *transport)
{
    for (size_t i = 0; lend_transports[i] != NULL; i++)
        if (strcmp(lend_transports[i]->name, transport) == 0)
            return true;
    (void)printf("SKIP: transport %s is not in this build\n", transport);
    (void)fflush(stdout);
    return false;
}
