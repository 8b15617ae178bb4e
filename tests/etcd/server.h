/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_ETCD_SERVER_H
#define LEND_TESTS_ETCD_SERVER_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <sys/types.h>

/* An etcd-server of the test's own, on free ports of the loopback address, with its data in a
 * temporary folder. */

struct etcd {
    pid_t pid;
    char folder[48];
    char client[64]; /* "127.0.0.1:PORT" */
    char peer[64];
};

/* Is there one to be started? */
bool etcd_is_installed(void);

void etcd_start(struct etcd *etcd);
/* Several, which are one service. */
void etcd_start_cluster(struct etcd *members, int count);
/* The same ports, and the same data, or none. */
void etcd_restart(struct etcd *etcd, bool is_empty);
void etcd_signal(const struct etcd *etcd, int number);
/* SIGKILL, and it is gone. */
void etcd_kill(struct etcd *etcd);
/* And its folder with it. */
void etcd_end(struct etcd *etcd);

/* Run etcdctl with those arguments (at most 6, up to a NULL), the file `in` as its input and its
 * output to the file `out`, each in the folder; NULL: nothing. Fails the test if it does. */
void etcd_control(const struct etcd *etcd, const char *in, const char *out,
                  const char *const *arguments);

/* How often it was asked for what there is, so far. */
unsigned long etcd_range_count(const struct etcd *etcd);

/* A free port of the loopback address. */
int free_port(void);

#endif
