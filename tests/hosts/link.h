/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TEST_LINK_H
#define LEND_TEST_LINK_H

#include "tool/hosts.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * A bad link between two hosts: it delays, loses, doubles and swaps packets, and has a rate.
 *
 * The kernel's `netem` does it where the kernel has that. Elsewhere, and where a seed shall decide
 * what is lost, a process of ours stands in for it: each host gets a TUN device, and what one sends
 * that process gives to the other, or not. The packets are real ones either way.
 */

struct impairment {
    uint64_t seed;
    uint32_t delay_us;
    uint32_t jitter_us;           /* more delay, at random; packets overtake each other by it */
    uint32_t lost_per_million;    /* each way, here and below */
    uint32_t doubled_per_million; /* sent twice */
    uint32_t damaged_per_million; /* one bit turned: the checksum of the packet tells */
    uint64_t rate_bytes_a_second; /* 0: as fast as it goes */
    uint32_t queue_packets;       /* that wait at most, each way; the next is lost; 0: 1,000 */
};

/* What the link did, all counted by the process that is the link. */
struct link_counts {
    _Atomic uint64_t carried;
    _Atomic uint64_t lost;
    _Atomic uint64_t doubled;
    _Atomic uint64_t damaged;
    _Atomic uint64_t swapped; /* given after one that came later */
    _Atomic uint32_t is_cut;  /* set it: everything is lost, and no device goes down */
};

struct link {
    struct link_counts *counts; /* shared with the process */
    pid_t pid;
};

/* Join hosts that were opened apart. LEND_E_ACCESS, LEND_E_UNSUPPORTED: TUN devices cannot be had.
 */
enum lend_status link_open(struct link *link, const struct hosts *hosts,
                           const struct impairment *impairment, struct lend_error *error);
void link_close(struct link *link);

/* The same by the kernel, on hosts that were opened together. LEND_E_UNSUPPORTED: it has no netem.
 */
enum lend_status link_netem(const struct hosts *hosts, const struct impairment *impairment,
                            struct lend_error *error);

#endif
