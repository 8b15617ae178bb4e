/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_TOP_H
#define LEND_TOOL_TOP_H

#include "tool/statistics_file.h"

#include <jansson.h>

/* Two looks at the pages of a folder, and what moved between them. */
struct top_view {
    const struct statistics_list *now;
    const struct statistics_list *before;
};

/* How much a second, of a number that grows; 0 where the earlier look knows nothing of it. */
double top_rate(const struct top_view *view, uint64_t now, uint64_t before);

/* The row of the same connection, or path, at the earlier look; NULL: it is new. */
const struct lend_statistics_peer *top_peer_before(const struct top_view *view,
                                                   const struct statistics_file *file, size_t at);
const struct lend_statistics_path *top_path_before(const struct top_view *view,
                                                   const struct statistics_file *file, size_t at);

/* All of it, for programs; NULL: no memory. */
json_t *top_json(const struct top_view *view);

#endif
