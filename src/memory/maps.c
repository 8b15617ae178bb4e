/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/maps.h"
#include "base/error.h"
#include "base/sys.h"

#include <errno.h>
#include <string.h>
#define MAPS_PATH "/proc/self/maps"

enum { BUFFER_BYTES = 4096, RIGHTS_BYTES = 4 };

/* In the order in which they stand in a line: "start-end rights offset major:minor inode name". */
enum field {
    FIELD_START,
    FIELD_END,
    FIELD_RIGHTS,
    FIELD_GAP, /* behind the rights */
    FIELD_OFFSET,
    FIELD_MAJOR,
    FIELD_MINOR,
    FIELD_INODE,
    FIELD_REST,
};

/* A line, as far as it was read. */
struct line {
    struct lend_mapping mapping;
    uint64_t number; /* the field that is being read, if it is one */
    uint32_t rights_count;
    enum field field;
};

/* Add the digit; false if it is none. */
static bool add_digit(uint64_t *value, char byte, unsigned base)
{
    unsigned digit = base;

    if (byte >= '0' && byte <= '9')
        digit = (unsigned)(byte - '0');
    else if (byte >= 'a' && byte <= 'f')
        digit = (unsigned)(byte - 'a') + 10;
    if (digit >= base)
        return false;
    *value = *value * base + digit;
    return true;
}

static void keep_number(struct line *line)
{
    struct lend_mapping *mapping = &line->mapping;

    switch (line->field) {
    case FIELD_START: mapping->start = line->number; break;
    case FIELD_END: mapping->end = line->number; break;
    case FIELD_OFFSET: mapping->offset = line->number; break;
    case FIELD_MAJOR: mapping->device_major = (uint32_t)line->number; break;
    case FIELD_MINOR: mapping->device_minor = (uint32_t)line->number; break;
    case FIELD_INODE: mapping->inode = line->number; break;
    case FIELD_RIGHTS:
    case FIELD_GAP:
    case FIELD_REST: break;
    }
    line->number = 0;
}

/* A digit of the number, or the byte behind it, which opens the next field. */
static bool take_number(struct line *line, char byte, char behind)
{
    if (byte != behind)
        return add_digit(&line->number, byte, line->field == FIELD_INODE ? 10 : 16);
    keep_number(line);
    line->field++;
    return true;
}

/* Take the next byte of a line. False if it is not what the kernel writes there. */
static bool take_byte(struct line *line, char byte)
{
    switch (line->field) {
    case FIELD_START: return take_number(line, byte, '-');
    case FIELD_MAJOR: return take_number(line, byte, ':');
    case FIELD_END:
    case FIELD_OFFSET:
    case FIELD_MINOR:
    case FIELD_INODE: return take_number(line, byte, ' ');
    case FIELD_RIGHTS:
        line->mapping.rights[line->rights_count++] = byte;
        if (line->rights_count == RIGHTS_BYTES)
            line->field = FIELD_GAP;
        return byte > ' ';
    case FIELD_GAP: line->field = FIELD_OFFSET; return byte == ' ';
    case FIELD_REST: return true;
    }
    return false;
}

/* What has been read of the list, and who is told of it. */
struct walk {
    struct line line;
    lend_maps_visit *visit;
    void *context;
    bool is_over;
};

/* Pass some bytes of the list. False if they are none of it. */
static bool pass_bytes(struct walk *walk, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count && !walk->is_over; i++) {
        if (bytes[i] == '\n' && walk->line.field >= FIELD_INODE) {
            keep_number(&walk->line);
            walk->is_over = !walk->visit(walk->context, &walk->line.mapping);
            walk->line = (struct line){.field = FIELD_START};
        } else if (!take_byte(&walk->line, bytes[i])) {
            return false;
        }
    }
    return true;
}

static enum lend_status read_list(struct walk *walk, int fd, struct lend_error *error)
{
    char buffer[BUFFER_BYTES];

    while (!walk->is_over) {
        ssize_t got = lend_sys->read(fd, buffer, sizeof buffer);

        if (got < 0)
            return lend_fail_errno(error, (int)-got, "reading " MAPS_PATH);
        if (got == 0)
            break;
        if (!pass_bytes(walk, buffer, (size_t)got))
            return lend_fail(error, LEND_E_SYSTEM,
                             MAPS_PATH " has a line behind 0x%llx that is none of a mapping",
                             (unsigned long long)walk->line.mapping.start);
    }
    return LEND_OK;
}

enum lend_status lend_maps_walk(lend_maps_visit *visit, void *context, struct lend_error *error)
{
    struct walk walk = {.line = {.field = FIELD_START}, .visit = visit, .context = context};
    int fd = lend_sys->open_read(MAPS_PATH);

    if (fd < 0)
        return lend_fail_errno(error, -fd, "opening " MAPS_PATH);
    enum lend_status status = read_list(&walk, fd, error);
    lend_sys->close(fd);
    return status;
}

/* --- few addresses --- */

/* Who is told of what, from where on. */
struct question {
    lend_maps_visit *visit;
    lend_maps_next *next;
    void *context;
    bool is_answered; /* out: by the kernel, address by address */
};

/* Where the list gives no answers, nobody was told of any mapping. */
static enum lend_status ask_list(struct question *question, int fd, struct lend_error *error)
{
    struct lend_sys_mapping found;
    int result = lend_sys->mapping(fd, question->next(question->context), &found);

    question->is_answered = result == 0 || result == -ENOENT;
    for (; result == 0; result = lend_sys->mapping(fd, question->next(question->context), &found)) {
        struct lend_mapping mapping = {.start = found.start, .end = found.end};

        memcpy(mapping.rights, found.rights, sizeof mapping.rights);
        if (!question->visit(question->context, &mapping))
            return LEND_OK;
    }
    if (result == -ENOENT || !question->is_answered)
        return LEND_OK;
    return lend_fail_errno(error, -result, "asking " MAPS_PATH);
}

void lend_maps_init(struct lend_maps *maps)
{
    *maps = (struct lend_maps){.fd = -1};
    (void)pthread_mutex_init(&maps->lock, NULL);
}

/* Is it still the file that we opened? */
static bool is_ours(const struct lend_maps *maps)
{
    struct stat now;

    return maps->fd >= 0 && lend_sys->file_stat(maps->fd, &now) == 0 &&
           now.st_dev == maps->device && now.st_ino == maps->inode;
}

void lend_maps_fini(struct lend_maps *maps, bool forked)
{
    if (is_ours(maps))
        lend_sys->close(maps->fd);
    maps->fd = -1;
    if (!forked)
        (void)pthread_mutex_destroy(&maps->lock);
}

/* Keep the file that has answered; false: it cannot be told from others. */
static bool keep(struct lend_maps *maps, int fd)
{
    struct stat now;

    if (lend_sys->file_stat(fd, &now) < 0)
        return false;
    maps->fd = fd;
    maps->device = now.st_dev;
    maps->inode = now.st_ino;
    return true;
}

/* Open the list, ask it, and keep it open if there is who keeps it and it answered; else read it.
 */
static enum lend_status ask_anew(struct lend_maps *maps, struct question *question,
                                 struct lend_error *error)
{
    struct walk walk = {
        .line = {.field = FIELD_START}, .visit = question->visit, .context = question->context};
    int fd = lend_sys->open_read(MAPS_PATH);

    if (fd < 0)
        return lend_fail_errno(error, -fd, "opening " MAPS_PATH);
    enum lend_status status = ask_list(question, fd, error);
    if (!question->is_answered)
        status = read_list(&walk, fd, error);
    if (maps == NULL || !question->is_answered || !keep(maps, fd))
        lend_sys->close(fd);
    return status;
}

enum lend_status lend_maps_walk_few(struct lend_maps *maps, lend_maps_visit *visit,
                                    lend_maps_next *next, void *context, struct lend_error *error)
{
    struct question question = {.visit = visit, .next = next, .context = context};
    enum lend_status status = LEND_OK;

    if (maps == NULL)
        return ask_anew(NULL, &question, error);
    (void)pthread_mutex_lock(&maps->lock);
    if (maps->fd >= 0)
        status = ask_list(&question, maps->fd, error);
    if (!question.is_answered) {
        /* Kept is what has answered once. If it does no more, then somebody closed it: the number
         * is another file's by now, or nobody's. */
        maps->fd = -1;
        status = ask_anew(maps, &question, error);
    }
    (void)pthread_mutex_unlock(&maps->lock);
    return status;
}
