/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/view.h"

#include "base/error.h"
#include "base/sys.h"
#include "wire/field.h"

#include <lend/region.h>

#include <string.h>

enum {
    FORM_SPAN = 0,
    FORM_BITMAP = 1,
    SETS_MAX = 8192, /* each takes three bytes at least, and a part that names it four */
    PARTS_MAX = 65536,
    ACCESS_ALL = LEND_ACCESS_READ | LEND_ACCESS_WRITE,
};

/* ---- Encoding ---- */

static void write_set(struct lend_writer *writer, const struct lend_view_set *set)
{
    uint64_t bytes = set->bitmap != NULL ? (set->span + 7) / 8 : 0;

    lend_write_u8(writer, set->bitmap != NULL ? FORM_BITMAP : FORM_SPAN);
    lend_write_varint(writer, set->first);
    lend_write_varint(writer, set->span);
    if (bytes > writer->capacity) {
        writer->count += bytes; /* counted at once: it may be very long */
        return;
    }
    for (uint64_t i = 0; i < bytes; i++)
        lend_write_u8(writer, (uint8_t)(set->bitmap[i / 8] >> i % 8 * 8));
}

static void write_parts(struct lend_writer *writer, const struct lend_view *view)
{
    const struct lend_view_part *parts = view->parts;
    uint64_t last = 0;
    uint32_t length;

    lend_write_varint(writer, view->part_count);
    for (uint32_t i = 0; i < view->part_count; i += length) {
        for (length = 1; i + length < view->part_count; length++) {
            const struct lend_view_part *part = &parts[i + length];

            if (part->region_id != parts[i].region_id + length || part->life != parts[i].life ||
                part->set != parts[i].set)
                break;
        }
        lend_write_varint(writer, parts[i].region_id - last);
        lend_write_varint(writer, length);
        lend_write_varint(writer, parts[i].life);
        lend_write_varint(writer, parts[i].set);
        last = parts[i].region_id + length - 1;
    }
}

size_t lend_view_encode(const struct lend_view *view, void *bytes, size_t capacity)
{
    struct lend_writer writer = lend_writer_init(bytes, capacity);
    size_t text_bytes = strnlen(view->text, LEND_MESSAGE_TEXT_MAX);

    lend_write_u32(&writer, (uint32_t)view->status);
    lend_write_u8(&writer, (uint8_t)text_bytes);
    lend_write_bytes(&writer, view->text, text_bytes);
    if (view->status != LEND_OK)
        return writer.count;
    lend_write_u8(&writer, (uint8_t)view->access);
    lend_write_varint(&writer, view->set_count);
    for (uint32_t i = 0; i < view->set_count && lend_writer_fits(&writer); i++)
        write_set(&writer, &view->sets[i]);
    if (lend_writer_fits(&writer))
        write_parts(&writer, view);
    return writer.count;
}

/* ---- Decoding ---- */

/* Walked twice: to measure, and then to fill one allocation. */
struct walk {
    struct lend_reader reader;
    struct lend_view_set *sets; /* NULL when measuring */
    struct lend_view_part *parts;
    uint64_t *words;
    uint64_t word_count; /* of all bitmaps so far */
};

static enum lend_status read_set(struct walk *walk, uint32_t at, struct lend_error *error)
{
    struct lend_reader *reader = &walk->reader;
    uint8_t form = lend_read_u8(reader);
    struct lend_view_set set = {.first = lend_read_varint(reader),
                                .span = lend_read_varint(reader)};

    if (reader->bad || form > FORM_BITMAP || set.span == 0 || set.span > LEND_REGION_BLOCKS_MAX ||
        set.first > LEND_REGION_BLOCKS_MAX - set.span)
        return lend_fail(error, LEND_E_CORRUPT, "set %u of a VIEW: form %u, blocks %llu + %llu", at,
                         form, (unsigned long long)set.first, (unsigned long long)set.span);
    if (form == FORM_BITMAP) {
        uint64_t count = (set.span + 7) / 8;
        const uint8_t *bytes = count <= reader->left ? lend_read_span(reader, count) : NULL;

        if (bytes == NULL)
            return lend_fail(error, LEND_E_CORRUPT, "a VIEW is cut in the blocks of set %u", at);
        set.bitmap = walk->words != NULL ? walk->words + walk->word_count : NULL;
        for (uint64_t i = 0; walk->words != NULL && i < count; i++)
            walk->words[walk->word_count + i / 8] |= (uint64_t)bytes[i] << i % 8 * 8;
        walk->word_count += (set.span + 63) / 64;
    }
    if (walk->sets != NULL)
        walk->sets[at] = set;
    return LEND_OK;
}

static enum lend_status read_parts(struct walk *walk, uint32_t part_count, uint32_t set_count,
                                   struct lend_error *error)
{
    struct lend_reader *reader = &walk->reader;
    uint64_t last = 0;
    uint64_t length;

    for (uint32_t i = 0; i < part_count; i += (uint32_t)length) {
        uint64_t step = lend_read_varint(reader);

        length = lend_read_varint(reader);
        uint64_t life = lend_read_varint(reader), set = lend_read_varint(reader);
        if (reader->bad || step == 0 || step > UINT64_MAX - last || length == 0 ||
            length > part_count - i || length > UINT64_MAX - last - step || life > UINT32_MAX ||
            set >= set_count)
            return lend_fail(error, LEND_E_CORRUPT, "a VIEW is cut or wrong at region %u of %u", i,
                             part_count);
        for (uint32_t k = 0; walk->parts != NULL && k < length; k++)
            walk->parts[i + k] = (struct lend_view_part){
                .region_id = last + step + k, .life = (uint32_t)life, .set = (uint32_t)set};
        last += step + length - 1;
    }
    return LEND_OK;
}

static enum lend_status read_all(struct walk *walk, struct lend_view *view,
                                 struct lend_error *error)
{
    uint64_t sets = lend_read_varint(&walk->reader);

    if (walk->reader.bad || sets == 0 || sets > SETS_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "a VIEW of %llu sets", (unsigned long long)sets);
    view->set_count = (uint32_t)sets;
    for (uint32_t i = 0; i < sets; i++) {
        enum lend_status status = read_set(walk, i, error);
        if (status != LEND_OK)
            return status;
    }
    uint64_t parts = lend_read_varint(&walk->reader);
    if (walk->reader.bad || parts == 0 || parts > PARTS_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "a VIEW of %llu regions",
                         (unsigned long long)parts);
    view->part_count = (uint32_t)parts;
    enum lend_status status = read_parts(walk, view->part_count, view->set_count, error);
    if (status == LEND_OK && !lend_reader_done(&walk->reader))
        status =
            lend_fail(error, LEND_E_CORRUPT, "a VIEW with %zu bytes too many", walk->reader.left);
    return status;
}

static enum lend_status read_head(struct lend_reader *reader, struct lend_view *out,
                                  struct lend_error *error)
{
    int32_t status = (int32_t)lend_read_u32(reader);
    uint8_t text_bytes = lend_read_u8(reader);
    const uint8_t *text = lend_read_span(reader, text_bytes);

    if (text == NULL || text_bytes > LEND_MESSAGE_TEXT_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "a VIEW with a text of %u bytes", text_bytes);
    out->status = status == LEND_OK ? LEND_OK : lend_status_from_wire(status);
    for (uint8_t i = 0; i < text_bytes; i++)
        out->text[i] = lend_text_is_printable(&text[i], 1) ? (char)text[i] : '?';
    if (out->status != LEND_OK)
        return lend_reader_done(reader)
                   ? LEND_OK
                   : lend_fail(error, LEND_E_CORRUPT, "a VIEW that refuses, and %zu bytes more",
                               reader->left);
    out->access = lend_read_u8(reader);
    if (reader->bad || out->access == 0 || out->access > ACCESS_ALL)
        return lend_fail(error, LEND_E_CORRUPT, "a VIEW with access 0x%x", out->access);
    return LEND_OK;
}

enum lend_status lend_view_decode(const void *bytes, size_t count, struct lend_view **out,
                                  struct lend_error *error)
{
    struct walk walk = {.reader = lend_reader_init(bytes, count)};
    struct lend_view view = {0};

    enum lend_status status = read_head(&walk.reader, &view, error);
    if (status != LEND_OK)
        return status;
    struct lend_reader body = walk.reader;
    if (view.status == LEND_OK)
        status = read_all(&walk, &view, error);
    if (status != LEND_OK)
        return status;

    size_t sets_bytes = view.set_count * sizeof(struct lend_view_set);
    size_t parts_bytes = view.part_count * sizeof(struct lend_view_part);
    struct lend_view *made = lend_sys->allocate(sizeof *made + sets_bytes + parts_bytes +
                                                walk.word_count * sizeof(uint64_t));
    if (made == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for what a lease permits");
    *made = view;
    if (view.status == LEND_OK) {
        walk = (struct walk){.reader = body};
        walk.sets = (struct lend_view_set *)(made + 1);
        walk.parts = (struct lend_view_part *)(walk.sets + view.set_count);
        walk.words = (uint64_t *)(walk.parts + view.part_count);
        status = read_all(&walk, made, error);
        LEND_INVARIANT(status == LEND_OK); /* the bytes are a private copy, and were read before */
        made->sets = walk.sets;
        made->parts = walk.parts;
    }
    *out = made;
    return LEND_OK;
}
