/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_DOCTOR_H
#define LEND_TOOL_DOCTOR_H

#include "tool/probe.h"

/*
 * The checks of `lend doctor': each looks at one thing that has gone wrong for somebody, and says
 * what it found, with values, and what to do. docs/doctor.md has the table of them.
 */

enum severity {
    SEVERITY_OK,
    SEVERITY_WARNING, /* lend works, but slower, or not for all that was asked */
    SEVERITY_FAULT,   /* lend does not work, or not for what was asked */
};

/* How the command ends: 0, 1 and 2 are the worst severity; these are none. */
enum { DOCTOR_EXIT_TROUBLE = 3, DOCTOR_EXIT_USAGE = 64 };

enum { DOCTOR_TEXT_BYTES = 480, DOCTOR_PEERS_DEFAULT = 64 };

/* What to examine. */
struct exam {
    const struct probe *probe;
    const char *directory; /* of the sockets; never NULL */
    const char *word;      /* the same, as a shell has to be given it */
    bool is_default;       /* it is the library's own */
    uint32_t socket_mode;
    uint64_t bytes;            /* that are to be lent; 0: it was not said */
    bool is_huge;              /* in huge pages */
    uint64_t peers;            /* that are to be served */
    const char *listen;        /* where an agent is to listen; NULL: nowhere */
    const char *secret_file;   /* NULL: there is no secret */
    const char *etcd;          /* the URL of a directory; NULL: there is none */
    const char *ucx_devices;   /* that ucx is to use; NULL: no ucx */
    const char *ucx_library;   /* NULL: the default */
    const char *verbs_devices; /* that verbs is to use; NULL: no verbs */
    pid_t peer;                /* a process that shall reach us, or be reached; 0: none */
};

struct finding {
    enum severity severity;
    char found[DOCTOR_TEXT_BYTES];
    char remedy[DOCTOR_TEXT_BYTES]; /* "" if nothing is to be done */
};

struct check {
    const char *id;
    void (*run)(const struct exam *exam, struct finding *out);
};

/* Lists of checks, each ended by an id of NULL, in the order in which they are told. */
extern const struct check checks_folder[];
extern const struct check checks_limits[];
extern const struct check checks_kernel[];
extern const struct check checks_process[];
extern const struct check checks_network[];
extern const struct check checks_rdma[];
extern const struct check checks_peer[]; /* with a peer alone */

/* Fill a finding: what was found, and then, for anything but OK, the remedy. */
void found(struct finding *out, enum severity severity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void remedy(struct finding *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The text as one word of a shell: in quotes where it needs them. Returns out. */
const char *shell_word(char *out, size_t capacity, const char *text);

#endif
