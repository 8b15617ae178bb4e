/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_OPTIONS_H
#define LEND_TOOL_OPTIONS_H

#include "tool/endpoint.h"

#include <argp.h>

/* Options that several sub-commands share. A value that is none ends the program with EXIT_USAGE.
 */

struct options {
    struct endpoint endpoint;
    uint64_t memory_bytes; /* 0: as much as suits the machine */
    uint64_t blocks;       /* to pull, over all regions */
    uint64_t seed;
    bool has_seed;
    bool is_json;
};

enum { OPTION_PIECES_DEFAULT = 2000 };

/* Parsers of options in common, as children of a sub-command's: input is a struct options. */
extern const struct argp options_common; /* --transport --ucx-... --verbs-... --json --verbose */
extern const struct argp options_cache;  /* --model --memory */
extern const struct argp options_pull;   /* --blocks --seed --path */
extern const struct argp options_socket; /* --socket-directory */
extern const struct argp options_secret; /* --secret-file --secret-plugin */

void options_init(struct options *options);

/* A whole number of 1 .. max; with a unit K, M, G (of 1024) behind it where has_unit says so. */
uint64_t options_number(struct argp_state *state, const char *option, const char *text,
                        uint64_t max, bool has_unit);

/* The kind of memory that --memory names, and its name. False: it names none. */
bool options_kind(const char *text, uint32_t *out_kind);
const char *options_kind_name(uint32_t kind);

/* How many blocks each region's cache has for that memory, of which `spare` bytes are for other
 * things. At least `least`, or it fails and says what it takes. */
enum lend_status options_size_cache(const struct options *options, uint64_t spare_bytes,
                                    uint32_t least, uint32_t *out_block_count,
                                    struct lend_error *error);

/* How many block numbers make that many pieces, over the regions of the model. */
uint32_t options_block_count(const struct options *options);

#endif
