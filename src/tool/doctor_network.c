/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Checks of what it takes to reach other machines; each says nothing of what was not asked for. */

enum { NAME_BYTES = 64, PATH_BYTES = 160, BUFFER_LEAST = 1 << 20, BACKLOG_MAX = 256 };

typedef unsigned long long number; /* as printf() has it */

static const char *port_of(const char *address)
{
    const char *colon = strrchr(address, ':');

    return colon == NULL || strchr(colon, ']') != NULL ? "" : colon + 1;
}

/* The error of an agent tells those of its transports in words. */
static bool says(const struct lend_error *error, int cause)
{
    return strstr(error->message, strerrordesc_np(cause)) != NULL;
}

static void check_listen(const struct exam *exam, struct finding *out)
{
    struct lend_error error = {0};

    if (exam->listen == NULL) {
        found(out, SEVERITY_OK, "not asked for (--listen)");
        return;
    }
    enum lend_status status = exam->probe->listens(exam->listen, &error);
    if (status == LEND_OK) {
        found(out, SEVERITY_OK, "%s can be listened at", exam->listen);
        return;
    }
    found(out, SEVERITY_FAULT, "%s (%s)", error.message, lend_status_name(status));
    if (says(&error, EADDRNOTAVAIL))
        remedy(out, "an address of this machine, as `ip -brief address' shows them");
    else if (says(&error, EADDRINUSE))
        remedy(out, "another port, or end who has it: ss -ltnp 'sport = :%s'",
               port_of(exam->listen));
    else if (says(&error, EACCES))
        remedy(out,
               "a port of 1024 or more, or as root: sysctl -w "
               "net.ipv4.ip_unprivileged_port_start=%s",
               port_of(exam->listen));
    else if (status == LEND_E_UNSUPPORTED)
        remedy(out, "a build with transport tcp (-Dtransports=...,tcp)");
    else
        remedy(out, "a numeric ADDRESS, ADDRESS:PORT or [IPV6]:PORT of this machine");
}

/* Who connects while the queue is full waits for a second and more before the kernel tries again.
 */
static void check_backlog(const struct exam *exam, struct finding *out)
{
    uint64_t limit = 0;

    if (exam->listen == NULL) {
        found(out, SEVERITY_OK, "not asked for (--listen)");
        return;
    }
    if (probe_number(exam->probe, "/proc/sys/net/core/somaxconn", &limit) < 0) {
        found(out, SEVERITY_OK, "net.core.somaxconn cannot be read");
        return;
    }
    uint64_t wanted = exam->peers < BACKLOG_MAX ? exam->peers : BACKLOG_MAX;
    if (limit >= wanted) {
        found(out, SEVERITY_OK, "net.core.somaxconn is %llu", (number)limit);
        return;
    }
    found(out, SEVERITY_WARNING,
          "net.core.somaxconn is %llu: of %llu peers that connect at once some wait for a second",
          (number)limit, (number)exam->peers);
    remedy(out, "as root: sysctl -w net.core.somaxconn=%llu", (number)wanted);
}

/* The third number of a line such as "4096 131072 6291456". 0: there is none. */
static uint64_t read_maximum(const struct probe *probe, const char *path)
{
    char text[NAME_BYTES] = "";
    char *end = text;
    uint64_t value = 0;

    if (probe->read(path, text, sizeof text) < 0)
        return 0;
    for (int i = 0; i < 3; i++)
        value = strtoull(end, &end, 10);
    return value;
}

static void check_buffers(const struct exam *exam, struct finding *out)
{
    static const char *const names[] = {"tcp_rmem", "tcp_wmem"};
    char path[PATH_BYTES];

    for (size_t i = 0; exam->listen != NULL && i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "/proc/sys/net/ipv4/%s", names[i]);
        uint64_t most = read_maximum(exam->probe, path);

        if (most == 0 || most >= BUFFER_LEAST)
            continue;
        found(out, SEVERITY_WARNING,
              "net.ipv4.%s lets a connection have %llu bytes at most: too few for a fast or a long "
              "line",
              names[i], (number)most);
        remedy(out, "as root: sysctl -w net.ipv4.%s=\"4096 131072 6291456\"", names[i]);
        return;
    }
    if (exam->listen == NULL)
        found(out, SEVERITY_OK, "not asked for (--listen)");
    else
        found(out, SEVERITY_OK, "connections may have %d bytes and more under way", BUFFER_LEAST);
}

static void check_secret(const struct exam *exam, struct finding *out)
{
    struct lend_error error = {0};

    if (exam->secret_file == NULL) {
        found(out, SEVERITY_OK, "not asked for (--secret-file)");
        return;
    }
    enum lend_status status = exam->probe->secret(exam->secret_file, &error);
    if (status == LEND_OK) {
        found(out, SEVERITY_OK, "%s is ours alone, and the plugin for it is there",
              exam->secret_file);
        return;
    }
    found(out, SEVERITY_FAULT, "%s (%s)", error.message, lend_status_name(status));
    if (status == LEND_E_ACCESS)
        remedy(out, "chmod 600 %s", exam->secret_file);
    else if (status == LEND_E_INVALID)
        remedy(out, "(umask 077; head -c 32 /dev/urandom | base64 > %s)", exam->secret_file);
    else
        remedy(out, "as its message says; the plugin is of the package lend-plugins");
}

static void check_etcd(const struct exam *exam, struct finding *out)
{
    struct lend_error error = {0};

    if (exam->etcd == NULL) {
        found(out, SEVERITY_OK, "not asked for (--etcd)");
        return;
    }
    enum lend_status status = exam->probe->reach(exam->etcd, &error);
    if (status == LEND_OK) {
        found(out, SEVERITY_OK, "%s answers", exam->etcd);
        return;
    }
    found(out, SEVERITY_FAULT, "%s (%s)", error.message, lend_status_name(status));
    if (status == LEND_E_ABSENT || status == LEND_E_UNSUPPORTED)
        remedy(out, "the package lend-plugins has the plugin for etcd");
    else
        remedy(out, "etcdctl --endpoints HOST:PORT endpoint health, from here");
}

/* The first of the devices that this machine does not have; NULL: it has all. */
static const char *find_missing(const struct exam *exam, char *name)
{
    struct stat ignored;
    char path[PATH_BYTES];

    for (const char *at = exam->ucx_devices; *at != '\0';) {
        size_t length = strcspn(at, ",");

        (void)snprintf(name, NAME_BYTES, "%.*s", (int)strcspn(at, ":,"), at);
        (void)snprintf(path, sizeof path, "/sys/class/net/%s", name);
        bool is_there = exam->probe->stat(path, &ignored) == 0;
        (void)snprintf(path, sizeof path, "/sys/class/infiniband/%s", name);
        if (!is_there && exam->probe->stat(path, &ignored) != 0)
            return name;
        at += length + (at[length] == ',');
    }
    return NULL;
}

static void check_ucx(const struct exam *exam, struct finding *out)
{
    char name[NAME_BYTES];
    struct probe_ucx ucx;

    if (exam->ucx_devices == NULL) {
        found(out, SEVERITY_OK, "not asked for (--ucx-devices)");
        return;
    }
    if (exam->probe->ucx(exam->ucx_library, &ucx) != 0) {
        found(out, SEVERITY_FAULT, "%s", ucx.why);
        remedy(out, "as root: apt-get install libucx0; or name another: --ucx-library FILE");
        return;
    }
    if (ucx.copies > 1) {
        found(out, SEVERITY_FAULT, "%u copies of libucp are in one process, beside %s", ucx.copies,
              ucx.path);
        remedy(out, "one of them: see LD_PRELOAD and LD_LIBRARY_PATH, or --ucx-library FILE");
        return;
    }
    if (find_missing(exam, name) != NULL) {
        found(out, SEVERITY_FAULT, "UCX %s is there, and this machine has no device %s",
              ucx.version, name);
        remedy(out, "a device that `ls /sys/class/net /sys/class/infiniband' shows");
        return;
    }
    found(out, SEVERITY_OK, "UCX %s (%s), with %s", ucx.version, ucx.path, ucx.transports);
}

const struct check checks_network[] = {
    {"listen", check_listen},
    {"listen-backlog", check_backlog},
    {"tcp-buffers", check_buffers},
    {"secret", check_secret},
    {"etcd", check_etcd},
    {"ucx", check_ucx},
    {NULL, NULL},
};
