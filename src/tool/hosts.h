/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_HOSTS_H
#define LEND_TOOL_HOSTS_H

#include <lend/status.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Two hosts on one machine: two network namespaces, joined by a pair of virtual Ethernet devices.
 *
 * They have no name in the file system, so they are gone with the last process in them and the last
 * descriptor of them, and the devices with them: whatever way the program ends.
 *
 * iproute2's `ip` sets them up. A user who is not root gets them within a user namespace, where the
 * kernel allows that.
 */

enum { HOSTS = 2 };

#define HOSTS_DEVICE "lend0" /* on each of them */

struct hosts {
    int namespaces[HOSTS]; /* descriptors; -1: closed */
    int home;              /* where this process is */
};

extern const char *const hosts_ipv4[HOSTS];
extern const char *const hosts_ipv6[HOSTS];

/* Make both and the link. LEND_E_ACCESS: this user may not. LEND_E_ABSENT: there is no `ip`. The
 * process must have one thread alone; it stays on the network that it is on, but for a user who is
 * not root: that one's is on the second host then. */
enum lend_status hosts_open(struct hosts *hosts, struct lend_error *error);

/* The same without a link: each has its loopback device alone. */
enum lend_status hosts_open_apart(struct hosts *hosts, struct lend_error *error);

/* Move this thread, and the processes that it makes from now on, to one of them. */
enum lend_status hosts_enter(const struct hosts *hosts, int which, struct lend_error *error);

/* The same for good, for a process with one thread: /sys tells of that host's devices, too, which
 * UCX goes by, where we may mount it. */
enum lend_status hosts_move_to(const struct hosts *hosts, int which, struct lend_error *error);

/* Move it back to where it was before. */
enum lend_status hosts_leave(const struct hosts *hosts, struct lend_error *error);

/* Run a program on one of them; its words are parted by spaces. LEND_E_SYSTEM: it said that; what
 * it printed stands in the message. LEND_E_ABSENT: there is no such program. */
enum lend_status hosts_run(const struct hosts *hosts, int which, struct lend_error *error,
                           const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Give the device of one of them its addresses, and set it up. */
enum lend_status hosts_plug(const struct hosts *hosts, int which, struct lend_error *error);

/* Cut the link, as if the first host's cable were pulled; hosts_plug() it in again. */
enum lend_status hosts_unplug(const struct hosts *hosts, struct lend_error *error);

void hosts_close(struct hosts *hosts);

#endif
