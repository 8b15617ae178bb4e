/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_ACTS_TRAP_H
#define LEND_TESTS_ACTS_TRAP_H

#include "acts.h"

/*
 * What the tests of traps share: an owner that lends one region in one of several ways, and a
 * reader of another process that reads it by itself and can tell how.
 */

#define TRAP_MAPPED    "local/mapped"
#define TRAP_CROSS     "local/cross-memory"
#define TRAP_SERVED    "local/served"
/* What the kernel's list of mappings calls a file that an owner of ours shares. */
#define TRAP_FILE_NAME "lend-trap"

enum { TRAP_BLOCK = 65536, TRAP_BLOCKS = 16, TRAP_SKIPPED = 77, TRAP_NOBODY = 65534 };

enum trap_backing {
    TRAP_PRIVATE = 0, /* memory of the owner's process alone */
    TRAP_STORAGE,     /* lend_storage_create() */
    TRAP_FILE,        /* a memfd of its own */
};

/* How the owner lends. */
struct trap_how {
    enum trap_backing backing;
    unsigned seals;      /* of a TRAP_FILE */
    unsigned mode;       /* of a TRAP_FILE */
    uint32_t flags;      /* of the region, beside LEND_REGION_SHARE_FILE */
    uint32_t local_mode; /* of the socket */
    const char *name;    /* of the agent; NULL: "owner" */
};

/* What both see. */
struct trap_scene {
    struct acts_directory directory;
    struct trap_how how;
    struct acts_turn owner;
    struct acts_turn reader;
    struct acts_blob metadata;
    struct acts_blob ticket;
    uint64_t id;
    pid_t reader_process;
    bool is_to_be_killed; /* the reader, by the test */
    char reason[200];     /* why it was skipped */
};

struct trap_scene *trap_scene_make(struct trap_how how);
/* False: something was left in the folder. */
bool trap_scene_end(struct trap_scene *scene);
/* TRAP_SKIPPED, and the reason with errno's. */
int trap_refuse(struct trap_scene *scene, const char *what);
/* Both processes have ended well; skips the test if one could not play. */
void trap_judge(struct trap_scene *scene, pid_t owner, pid_t reader);

struct trap_owner {
    struct lend_agent *agent;
    struct acts_region region;
    struct lend_lease *lease;
    struct lend_storage *storage;
    int file; /* -1: none of ours */
};

/* Lend TRAP_BLOCKS blocks, with words of that generation, and tell of them in the scene. Memory
 * that is there already is taken. */
bool trap_own(struct trap_owner *owner, struct trap_scene *scene, uint64_t generation);
/* A new lease and what peers need, once more. */
bool trap_lend_again(struct trap_owner *owner, struct trap_scene *scene);
void trap_fill(struct trap_owner *owner, uint64_t generation);
void trap_disown(struct trap_owner *owner);
/* What most owners do, in a process of their own, with the scene: lend, and stay until the reader
 * is through. */
int trap_own_and_wait(void *context);

struct trap_reader {
    struct lend_agent *agent;
    struct acts_region region;
    struct lend_peer *peer;
    struct lend_ticket *ticket;
    struct lend_transfer *transfer;
    struct lend_error why; /* of what went wrong last */
};

/* Make the agent, and a region of its own. */
bool trap_reader_begin(struct trap_reader *reader, const struct trap_scene *scene, uint32_t flags);
/* Import, connect, and prepare a read by those paths. */
bool trap_meet(struct trap_reader *reader, const struct trap_scene *scene, const char *paths);
/* A read by those paths in place of the one before. */
enum lend_status trap_prepare(struct trap_reader *reader, const struct trap_scene *scene,
                              const char *paths);
/* Take the scene's ticket in place of the one before. */
bool trap_take_ticket(struct trap_reader *reader, const struct trap_scene *scene);
/* Wipe the region, and read these blocks into it. */
enum lend_status trap_post(struct trap_reader *reader, int32_t first, uint32_t count,
                           uint64_t timeout_ns);
enum lend_status trap_read(struct trap_reader *reader, int32_t first, uint32_t count);
/* As trap_read(); false, and said: it did not succeed by that path with words of the generation. */
bool trap_reads(struct trap_reader *reader, const char *path, uint64_t generation);
bool trap_holds(const struct trap_reader *reader, int32_t first, uint32_t count,
                uint64_t generation);
/* False, and said: the last read did not take that path. */
bool trap_took(struct trap_reader *reader, const char *path);
/* False, and said: explain does not tell that status of the path, with such words in its reason. */
bool trap_explains(struct trap_reader *reader, const struct trap_scene *scene, const char *path,
                   enum lend_status status, const char *words);
void trap_reader_end(struct trap_reader *reader);

/* Where this process has mapped a file whose name has these words, from then on; false: nowhere
 * (more). rights has five bytes. */
struct trap_mapping {
    uint64_t start;
    uint64_t end;
    char rights[5];
    char name[160];
};
bool trap_find_mapping(const char *words, struct trap_mapping *out, uint64_t from);
/* False, and said. */
bool trap_check(bool is_right, const char *what);

#endif
