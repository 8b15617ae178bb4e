/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_CONFORMANCE_BATTERY_H
#define LEND_TESTS_CONFORMANCE_BATTERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lend/lend.h>

struct CMUnitTest;

/*
 * The conformance battery: what every transport shall do, written once on the public API. A
 * transport's test file is its name: an array of the ways in which it can join two agents.
 */

enum battery_flag {
    BATTERY_MANUAL = 1,    /* both agents under manual progress */
    BATTERY_APART = 2,     /* the owner in a process of its own */
    BATTERY_ABSTRACT = 4,  /* the socket in the abstract name space */
    BATTERY_IPV6 = 8,      /* by IPv6 */
    BATTERY_SECRET = 16,   /* both agents have the same one; left out where there is no plugin */
    BATTERY_HOSTS = 32,    /* with BATTERY_APART: each process on a host of its own, that is, in a
                              network namespace; left out where there can be none */
    BATTERY_STRAIGHT = 64, /* reads land without a copy by their reader */
    BATTERY_CHOICE = 128,  /* UCX chooses its transports */
    BATTERY_SECRETS = 256, /* each agent has one of its own, and imports the other with that */
    BATTERY_DEVICE = 512,  /* what both lend is memory of a GPU (gpu.h); */
    BATTERY_HOST_OWNER = 1024,  /* with that: but for the owner's, or */
    BATTERY_HOST_READER = 2048, /* the reader's; of the battery, what moves bytes */
};

struct battery_setup {
    const char *name;       /* "local, two processes" */
    const char *transports; /* for the configuration of both agents */
    const char *path;       /* that completion records of reads shall name; if the reader copies by
                               itself, reads are held to it, and writes are served */
    uint32_t flags;
};

/* Run the whole battery over each setup; the number of failures, for main() to return. */
int battery_run(const struct battery_setup *setups, size_t count);

/* The parts of it; each gives its list of tests. */
const struct CMUnitTest *battery_regions(size_t *out_count);
const struct CMUnitTest *battery_lives(size_t *out_count);
const struct CMUnitTest *battery_geometry(size_t *out_count);
const struct CMUnitTest *battery_leases(size_t *out_count);
const struct CMUnitTest *battery_transfers(size_t *out_count);
const struct CMUnitTest *battery_standing(size_t *out_count);
const struct CMUnitTest *battery_sums(size_t *out_count);
const struct CMUnitTest *battery_notifications(size_t *out_count);
const struct CMUnitTest *battery_peers(size_t *out_count);
const struct CMUnitTest *battery_paths(size_t *out_count);
const struct CMUnitTest *battery_input(size_t *out_count);

/* What runs now. */
extern const struct battery_setup *battery_current;
/* The devices of transport verbs, which goes beside another one: the owner's, and the reader's. */
extern const char *battery_nics[2];
/* Where an agent listens if its transport is tcp. */
const char *battery_address(const struct battery_setup *setup, bool is_owner);
/* An agent's secret; NULL: none. And how one is imported that has it. */
const char *battery_secret(const struct battery_setup *setup, bool of_owner);
struct lend_import_desc battery_import(const struct battery_setup *setup, bool of_owner);
/* The network device between the owner and the reader. */
const char *battery_device(const struct battery_setup *setup);
/* Go to the owner's host, if it has one. False, and says why: that cannot be. */
bool battery_enter_owner(const struct battery_setup *setup);
/* For tests: make *state the default pair of the current setup, and take it down. */
int battery_pair_up(void **state);
int battery_pair_down(void **state);
#define PAIRED(test) cmocka_unit_test_setup_teardown(test, battery_pair_up, battery_pair_down)

#endif
