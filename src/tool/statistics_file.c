/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/statistics_file.h"

#include "tool/trouble.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILES_MAX = 256 };

static const char suffix[] = ".stats";

/* --- text from a page --- */

/* A copy that ends, of bytes that a terminal and every format take as they are. */
static void print_text(char *out, size_t capacity, const char *text, size_t count)
{
    size_t at = 0;

    for (; at < count && at + 1 < capacity && text[at] != '\0'; at++)
        out[at] = text[at] < ' ' || text[at] > '~' ? '?' : text[at];
    out[at] = '\0';
}

#define TIDY(field) print_text((field), sizeof(field), (field), sizeof(field))

/* The name that the agent of this page gives its file. */
static void expected_name(const struct lend_statistics *page, char *out, size_t capacity)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const uint8_t *id = page->incarnation;
    char name[sizeof page->name] = {0};

    for (size_t i = 0; i + 1 < sizeof name && page->name[i] != '\0'; i++)
        name[i] = strchr(safe, page->name[i]) != NULL ? page->name[i] : '_';
    if (name[0] == '.')
        name[0] = '_';
    (void)snprintf(out, capacity, "%s-%02x%02x%02x%02x%s", name, id[0], id[1], id[2], id[3],
                   suffix);
}

/* --- reading --- */

/* All of them, or false. */
static bool read_at(int fd, void *out, size_t count, size_t offset)
{
    char *into = out;

    while (count > 0) {
        ssize_t got = pread(fd, into, count, (off_t)offset);

        if (got <= 0) {
            if (got < 0 && errno == EINTR)
                continue;
            return false;
        }
        into += got;
        offset += (size_t)got;
        count -= (size_t)got;
    }
    return true;
}

/* Copy a row, which begins with its sequence, as it was at one moment: false if there was none. */
static bool read_row(int fd, void *out, size_t count, size_t offset)
{
    for (int tries = 0; tries < STATISTICS_ROW_TRIES; tries++) {
        uint64_t before, within, after;

        if (!read_at(fd, &before, sizeof before, offset))
            return false;
        atomic_thread_fence(memory_order_acquire);
        if (before % 2 == 0) {
            if (!read_at(fd, out, count, offset))
                return false;
            atomic_thread_fence(memory_order_acquire);
            if (!read_at(fd, &after, sizeof after, offset))
                return false;
            memcpy(&within, out, sizeof within);
            if (before == after && within == before)
                return true;
        }
        (void)sched_yield(); /* never fails on Linux */
    }
    return false;
}

/* Rows that were in use at the first look, once more and carefully. */
static void read_rows(int fd, struct statistics_file *file)
{
    struct lend_statistics *page = file->page;

    for (size_t i = 0; i < LEND_STATISTICS_LEASES; i++) {
        struct lend_statistics_lease *row = &page->lease_rows[i];

        if (row->id == 0)
            continue;
        if (!read_row(fd, row, sizeof *row, (size_t)((char *)row - (char *)page))) {
            row->id = 0;
            file->rows_skipped++;
        }
        TIDY(row->region);
        TIDY(row->peer);
        TIDY(row->last_user);
    }
    for (size_t i = 0; i < LEND_STATISTICS_PEERS; i++) {
        struct lend_statistics_peer *row = &page->peer_rows[i];

        if (row->id == 0)
            continue;
        if (!read_row(fd, row, sizeof *row, (size_t)((char *)row - (char *)page))) {
            row->id = 0;
            file->rows_skipped++;
        }
        TIDY(row->name);
    }
}

static enum lend_status refuse(struct statistics_file *file, const char *reason)
{
    file->state = STATISTICS_UNREADABLE;
    (void)snprintf(file->reason, sizeof file->reason, "%s", reason);
    return LEND_OK;
}

/* Is it a page that we know? What stands at its beginning does not change. */
static bool check_head(int fd, struct statistics_file *file)
{
    struct {
        uint64_t magic;
        uint32_t version;
        uint32_t bytes;
    } head;
    struct stat found;

    if (fstat(fd, &found) != 0 || !S_ISREG(found.st_mode)) {
        (void)refuse(file, "is not a file");
        return false;
    }
    if (!read_at(fd, &head, sizeof head, 0) || head.magic == 0) {
        (void)refuse(file, "is empty: it is being made, or its agent was killed then");
        return false;
    }
    if (head.magic != LEND_STATISTICS_MAGIC) {
        (void)refuse(file, "is no statistics page");
        return false;
    }
    if (head.version != LEND_STATISTICS_VERSION || head.bytes != sizeof(struct lend_statistics)) {
        (void)snprintf(file->reason, sizeof file->reason,
                       "has version %u and %u bytes; this command knows version %d of %zu bytes",
                       head.version, head.bytes, LEND_STATISTICS_VERSION,
                       sizeof(struct lend_statistics));
        file->state = STATISTICS_UNREADABLE;
        return false;
    }
    return true;
}

/* A live agent has it locked. Shared, so that two who watch do not take each other for agents; and
 * only once the page has its magic, so that we do not lock an agent out of its own. */
static bool is_live(int fd)
{
    return flock(fd, LOCK_SH | LOCK_NB) != 0;
}

static enum lend_status read_page(int fd, const char *name, struct statistics_file *file,
                                  struct lend_error *error)
{
    struct lend_statistics *page;
    char expected[sizeof page->name + 32];

    if (!check_head(fd, file))
        return LEND_OK;
    page = file->page = malloc(sizeof *page);
    if (page == NULL)
        return trouble(error, LEND_E_NO_MEMORY, "no memory for a statistics page");
    file->state = is_live(fd) ? STATISTICS_LIVE : STATISTICS_STALE;
    if (!read_at(fd, page, sizeof *page, 0))
        return refuse(file, "is cut");
    page->name[sizeof page->name - 1] = '\0';
    expected_name(page, expected, sizeof expected);
    if (strcmp(expected, name) != 0)
        return refuse(file, "is of another agent than its name says");

    TIDY(page->name);
    TIDY(page->library_version);
    for (size_t i = 0; i < LEND_STATISTICS_PATHS; i++)
        TIDY(page->paths[i].name);
    (void)snprintf(file->incarnation, sizeof file->incarnation, "%02x%02x%02x%02x",
                   page->incarnation[0], page->incarnation[1], page->incarnation[2],
                   page->incarnation[3]);
    read_rows(fd, file);
    return LEND_OK;
}

static enum lend_status read_file(int directory, const char *name, struct statistics_file *file,
                                  struct lend_error *error)
{
    /* Not to wait for whoever would write to a pipe of that name. */
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    print_text(file->name, sizeof file->name, name, strlen(name));
    if (fd < 0)
        return refuse(file, strerror(errno));
    enum lend_status status = read_page(fd, name, file, error);
    (void)close(fd);
    if (file->state == STATISTICS_UNREADABLE) {
        free(file->page);
        file->page = NULL;
    }
    return status;
}

/* --- the folder --- */

/* The folder's descriptor; -1 and LEND_OK: the default one is not there. */
static enum lend_status open_directory(const char *given, struct statistics_list *list, int *out,
                                       struct lend_error *error)
{
    struct stat found;
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (given == NULL ? O_NOFOLLOW : 0);

    list->directory = given;
    if (given == NULL) {
        (void)snprintf(list->made, sizeof list->made, "/tmp/lend-%u", (unsigned)geteuid());
        list->directory = list->made;
    }
    *out = open(list->directory, flags);
    if (*out < 0) {
        if (given == NULL && errno == ENOENT)
            return LEND_OK;
        return trouble_errno(error, "%.180s cannot be read", list->directory);
    }
    /* What anybody may have put into /tmp before us is not our agents' word. */
    if (given == NULL && (fstat(*out, &found) != 0 || found.st_uid != geteuid())) {
        (void)close(*out);
        return trouble(error, LEND_E_ACCESS, "%s is not ours: name another --directory",
                       list->directory);
    }
    return LEND_OK;
}

static bool is_page_name(const char *name)
{
    size_t length = strlen(name);

    return length > sizeof suffix - 1 && strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
}

static int by_name(const void *one, const void *other)
{
    const struct statistics_file *a = one, *b = other;

    return strcmp(a->name, b->name);
}

static enum lend_status read_all(DIR *folder, struct statistics_list *list,
                                 struct lend_error *error)
{
    list->files = calloc(FILES_MAX, sizeof *list->files);
    if (list->files == NULL)
        return trouble(error, LEND_E_NO_MEMORY, "no memory for a list of files");
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (!is_page_name(entry->d_name))
            continue;
        if (list->files_count == FILES_MAX) {
            list->omitted++;
            continue;
        }
        enum lend_status status =
            read_file(dirfd(folder), entry->d_name, &list->files[list->files_count++], error);
        if (status != LEND_OK)
            return status;
    }
    qsort(list->files, list->files_count, sizeof *list->files, by_name);
    return LEND_OK;
}

enum lend_status statistics_list_read(const char *directory, struct statistics_list *out,
                                      struct lend_error *error)
{
    struct timespec now;
    int fd = -1;

    *out = (struct statistics_list){0};
    enum lend_status status = open_directory(directory, out, &fd, error);
    (void)clock_gettime(CLOCK_BOOTTIME, &now); /* cannot fail for this clock */
    out->taken_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    if (status != LEND_OK || fd < 0)
        return status;

    DIR *folder = fdopendir(fd);
    if (folder == NULL) {
        status = trouble_errno(error, "%.180s cannot be read", out->directory);
        (void)close(fd);
        return status;
    }
    status = read_all(folder, out, error);
    (void)closedir(folder);
    if (status != LEND_OK)
        statistics_list_fini(out);
    return status;
}

void statistics_list_fini(struct statistics_list *list)
{
    for (uint64_t i = 0; i < list->files_count; i++)
        free(list->files[i].page);
    free(list->files);
    list->files = NULL;
    list->files_count = 0;
}

const struct statistics_file *statistics_list_find(const struct statistics_list *list,
                                                   const struct statistics_file *file)
{
    for (uint64_t i = 0; i < list->files_count; i++)
        if (list->files[i].page != NULL && strcmp(list->files[i].name, file->name) == 0)
            return &list->files[i];
    return NULL;
}

bool statistics_path_is_told(const struct lend_statistics *page, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (strcmp(page->paths[i].name, page->paths[index].name) == 0)
            return false;
    return page->paths[index].name[0] != '\0';
}
