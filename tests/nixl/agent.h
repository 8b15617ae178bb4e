/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_NIXL_AGENT_H
#define LEND_TESTS_NIXL_AGENT_H

#include <stdint.h>
#include <sys/types.h>

/*
 * A plain NIXL program in a process of its own: it has NVIDIA's library and nothing of lend. It
 * does what it is told over a pipe, one order at a time, and says how that ended.
 */

enum { NIXL_BYTES_MAX = 65536, NIXL_MEMORY_BYTES = 4 << 20 };

enum nixl_verb {
    NIXL_TELL = 1, /* its metadata */
    NIXL_LOAD,     /* load metadata that is given: answered with the name */
    NIXL_READ,     /* of the loaded agent: address, to offset, length */
    NIXL_WRITE,    /* the same, from offset */
    NIXL_NOTIFY,   /* the loaded agent, with bytes */
    NIXL_AWAIT,    /* a notification; bytes: sender, 0, message */
    NIXL_FILL,     /* its memory with a pattern of that seed */
    NIXL_SHOW,     /* bytes of its memory: at offset, of length */
    NIXL_ADDRESS,  /* of its memory */
    NIXL_FORGET,   /* the loaded agent */
    NIXL_STORM,    /* as NIXL_WRITE, again and again until one fails */
};

struct nixl_order {
    uint32_t verb;
    uint32_t byte_count;
    uint64_t address;
    uint64_t offset;
    uint64_t length;
    uint8_t bytes[NIXL_BYTES_MAX];
};

struct nixl_answer {
    int32_t result; /* of NIXL's last call; 0: good */
    uint32_t byte_count;
    uint64_t address;
    uint8_t bytes[NIXL_BYTES_MAX];
};

struct nixl_agent {
    pid_t pid;
    int to;
    int from;
};

/* How this program is called to be one: it may not be forked off with a NIXL in it. Its main() then
 * calls nixl_agent_serve() with the two arguments that follow. */
#define NIXL_AGENT_WORD "--nixl-agent"
void nixl_agent_serve(const char *library, const char *name);

/* Begin one, with that library. -1: it cannot be begun, and why stands on standard error. */
int nixl_agent_begin(struct nixl_agent *agent, const char *library, const char *name);
/* Give an order; have its answer; or both. -1: it is dead. */
int nixl_agent_order(const struct nixl_agent *agent, const struct nixl_order *order);
int nixl_agent_answer(const struct nixl_agent *agent, struct nixl_answer *answer);
int nixl_agent_tell(const struct nixl_agent *agent, const struct nixl_order *order,
                    struct nixl_answer *answer);
/* End it: with a signal, or by hanging up if that is 0. */
void nixl_agent_end(struct nixl_agent *agent, int signal);

/* Byte number at of the pattern of a seed. */
static inline uint8_t nixl_pattern(uint64_t seed, uint64_t at)
{
    return (uint8_t)((at * 2654435761u + seed * 40503u) >> 7);
}

#endif
