/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_ACTS_DEATH_H
#define LEND_TESTS_ACTS_DEATH_H

#include "acts.h"

/*
 * The act of dying: readers and owners, each in a process of its own, are killed, stopped, or
 * replaced by exec at a random moment of a running transfer, while one agent of this process
 * survives them all.
 *
 * As owner it withdraws the region by force, and makes the memory inaccessible the moment that this
 * has returned OK, or, where the kernel moves the blocks, fills it and looks later what landed. As
 * reader it checks the status, the time it took, and every word of what succeeded, and takes its
 * memory for something else at once. Half of those that were stopped go on when they have been
 * given up, and die then. At the end the survivor's descriptors, threads, mappings and heap are
 * what they were.
 *
 * The victims are forked by a nursery that never had an agent or a second thread.
 */

struct death_plan {
    uint32_t deaths;
    const char *path; /* that READs take */
    /* Where tcp listens; NULL: on loopback. */
    const char *victim_address;
    const char *survivor_address;
    /* Takes this process to the host where it shall be; NULL: there is but one. */
    bool (*go)(bool is_victim);
};

/* Fails the test that calls it if anything is wrong. */
void death_run(const struct death_plan *plan);

#endif
