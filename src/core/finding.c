/* SPDX-License-Identifier: Apache-2.0 */
#include "core/finding.h"

#include "base/crc32c.h"
#include "base/error.h"
#include "base/sys.h"
#include "wire/entry.h"
#include "wire/metadata.h"

#include <string.h>

/* Is that what an agent of that name would publish? */
static enum lend_status judge_metadata(const struct lend_entry *entry, const char *name,
                                       struct lend_error *error)
{
    struct lend_metadata *metadata = NULL;

    enum lend_status status =
        lend_metadata_decode(entry->bytes, entry->metadata_bytes, &metadata, error);
    if (status != LEND_OK)
        return status;
    if (strcmp(metadata->name, name) != 0)
        status = lend_fail(error, LEND_E_CORRUPT, "the entry of %s is the metadata of %s", name,
                           metadata->name);
    else if (memcmp(metadata->incarnation, entry->incarnation, LEND_INCARNATION_BYTES) != 0)
        status = lend_fail(error, LEND_E_CORRUPT,
                           "the entry of %s and the metadata in it are of two incarnations", name);
    lend_sys->release(metadata);
    return status;
}

enum lend_status lend_finding_judge(struct lend_finding *finding, const char *name,
                                    const void *bytes, uint64_t count)
{
    struct lend_error *error = &finding->error;
    struct lend_entry entry;

    if (count > LEND_ENTRY_BYTES_MAX)
        return lend_fail(error, LEND_E_CORRUPT, "the entry of %s has %llu bytes, over %u", name,
                         (unsigned long long)count, LEND_ENTRY_BYTES_MAX);
    enum lend_status status = lend_entry_decode(bytes, (size_t)count, &entry, error);
    if (status == LEND_OK)
        status = judge_metadata(&entry, name, error);
    if (status == LEND_OK)
        status = lend_found_make(entry.bytes, entry.metadata_bytes, entry.attachment_bytes,
                                 &finding->found, error);
    if (status != LEND_OK)
        return status;
    /* Not of all: with the checksum that an entry ends with, every entry's would be the same. */
    finding->row = (struct lend_roster_row){.crc = lend_crc32c(0, bytes, (size_t)count - 4),
                                            .bytes = (uint32_t)count};
    memcpy(finding->row.name, name, strlen(name) + 1);
    memcpy(finding->row.incarnation, entry.incarnation, LEND_INCARNATION_BYTES);
    return LEND_OK;
}
