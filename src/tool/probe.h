/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_PROBE_H
#define LEND_TOOL_PROBE_H

#include "tool/probe_rdma.h"

#include <lend/nixl.h>
#include <lend/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>

/*
 * The door through which `info' and `doctor' look at the machine. A test puts a table of its own in
 * its place, and so plants what the machine at hand cannot have.
 *
 * Functions that return int give 0 or a negative errno, unless they say otherwise. None of them
 * leaves anything behind.
 */

/* Is called with each name or line, and may end the walk by returning false. */
typedef bool probe_visitor(void *context, const char *text);

/* What was seen of UCX. */
struct probe_ucx {
    char version[32];
    char path[128];       /* of its libucp */
    char transports[160]; /* that it has on this machine, by name, separated by commas */
    char why[160];        /* if it cannot be had */
    uint32_t copies;      /* of libucp in one process */
};

#define PROBE_UCX_DEFAULT "libucp.so.0"

struct probe {
    uid_t (*user)(void);
    pid_t (*pid)(void);

    /* Read a small file, without the white space at its end: how many bytes, or a negative errno.
     */
    ssize_t (*read)(const char *path, char *text, size_t capacity);
    int (*lines)(const char *path, probe_visitor *visit, void *context);
    int (*names)(const char *path, probe_visitor *visit, void *context); /* of a folder */
    int (*stat)(const char *path, struct stat *out);                     /* of a link itself */
    int (*link)(const char *path, char *out, size_t capacity);           /* where it leads */
    int (*free_bytes)(const char *path, uint64_t *out, bool *out_is_read_only);
    int (*limit)(int resource, struct rlimit *out);

    int (*bind_socket)(const char *path);              /* and remove it */
    int (*write_file)(const char *path, size_t bytes); /* and remove it */
    int (*is_listening)(const char *path);             /* 1, 0; the listener is not disturbed */
    int (*is_locked)(const char *path);                /* 1, 0: by flock() */

    int (*memfd)(void);        /* make one, and seal it as lend does */
    int (*pidfd)(void);        /* open one of our own process */
    int (*cross_memory)(void); /* let a child read from our memory */
    int (*is_dumpable)(void);  /* 1, 0: our own process */
    int (*cuda)(char *why, size_t capacity);
    uint64_t (*boot_ns)(void);

    const char *(*library_version)(void);
    /* Make an agent with that transport alone. */
    enum lend_status (*open_transport)(const char *name, const char *directory,
                                       struct lend_error *error);
    /* Lend a block from one agent to another of this process, over transport `local', and read it;
     * the path that it took goes to path, of 32 bytes. */
    enum lend_status (*round_trip)(const char *directory, char *path, struct lend_error *error);

    /* Make an agent that listens there. */
    enum lend_status (*listens)(const char *address, struct lend_error *error);
    /* Make an agent with the secret in that file; NULL: with one of our own. */
    enum lend_status (*secret)(const char *path, struct lend_error *error);
    /* Enter a directory, and leave it. */
    enum lend_status (*reach)(const char *url, struct lend_error *error);
    /* Load a libucp (NULL: the default one), and make a context. -ENOENT: why says why not. */
    int (*ucx)(const char *library, struct probe_ucx *out);
    /* Load a libibverbs (NULL: the default one), and look at its devices. -ENOENT: why says why
     * not.
     */
    int (*rdma)(const char *library, struct probe_rdma *out);
    /* As lend_nixl_library_find(). */
    enum lend_status (*nixl)(const char *library, struct lend_nixl_library *out,
                             struct lend_error *error);
};

extern const struct probe probe_real;

/* Read a number that stands alone in a file. */
int probe_number(const struct probe *probe, const char *path, uint64_t *out);
/* Read the number behind a label that begins a line, such as "MemFree:". -ENOENT: no such label. */
int probe_field(const struct probe *probe, const char *path, const char *label, uint64_t *out);
/* The same for a text; label and white space are left out. */
int probe_text(const struct probe *probe, const char *path, const char *label, char *out,
               size_t capacity);
/* Is this capability in the effective set? */
bool probe_capability(const struct probe *probe, unsigned number);
/* The lowest memory limit of the control groups that we are in, and what that one uses. -ENOENT:
 * there is none. */
int probe_memory_limit(const struct probe *probe, uint64_t *out_limit, uint64_t *out_used);
/* Is /proc there, and of our own PID namespace? 0; -ENOENT: not mounted; -EXDEV: of another. */
int probe_proc(const struct probe *probe);
/* The mode under which /proc hides processes, or "" if it does not. */
void probe_proc_hidden(const struct probe *probe, char *out, size_t capacity);
/* The default folder of sockets. */
void probe_directory(const struct probe *probe, char *out, size_t capacity);

/* Is the kernel's way from a NIC to memory of a GPU without dma-buf there? */
bool probe_peer_memory(const struct probe *probe);

#endif
