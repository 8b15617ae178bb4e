/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_NIXL_STAGE_H
#define LEND_TESTS_NIXL_STAGE_H

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

#include <nixl_capi.h>
#include <sys/types.h>

/* What tests of agents by NIXL's C ABI are made of. Whatever fails ends the test. */

#define OK(call) assert_int_equal(call, NIXL_CAPI_SUCCESS)

enum { STAGE_PATIENCE_S = 30 };

/* An agent with a backend, of the parameters "key=value" up to a NULL. */
nixl_capi_agent_t stage_agent(const char *name);
nixl_capi_agent_t stage_agent_with(const char *name, const char *key, const char *value);

/* Memory that several processes may look at. */
uint8_t *stage_map(size_t bytes);
void stage_unmap(void *memory, size_t bytes);
void stage_fill(uint8_t *memory, size_t bytes, uint32_t seed);
bool stage_is(const uint8_t *memory, size_t bytes, uint32_t seed);

/* A list of that one range, or of a range cut into pieces. */
nixl_capi_reg_dlist_t stage_reg(const void *memory, size_t bytes);
nixl_capi_xfer_dlist_t stage_xfer(const void *memory, size_t bytes);
nixl_capi_xfer_dlist_t stage_pieces(const void *memory, size_t piece_bytes, size_t count);

void stage_register(nixl_capi_agent_t agent, const void *memory, size_t bytes);
nixl_capi_status_t stage_deregister(nixl_capi_agent_t agent, const void *memory, size_t bytes);

/* Let one agent know another one of this process. */
void stage_load(nixl_capi_agent_t agent, nixl_capi_agent_t other);

/* A request for one range on each side. */
nixl_capi_xfer_req_t stage_request(nixl_capi_agent_t agent, nixl_capi_xfer_op_t operation,
                                   const char *peer, const void *local, const void *remote,
                                   size_t bytes);
/* Post it and wait for its end. */
nixl_capi_status_t stage_run(nixl_capi_agent_t agent, nixl_capi_xfer_req_t request);
nixl_capi_status_t stage_wait(nixl_capi_agent_t agent, nixl_capi_xfer_req_t request);
void stage_end(nixl_capi_agent_t agent, nixl_capi_xfer_req_t request);

/* Wait until so many notifications have come from an agent. */
void stage_await_notifications(nixl_capi_agent_t agent, nixl_capi_notif_map_t map, const char *from,
                               size_t count);

/* Another process, with a pipe each way. */
struct stage_child {
    pid_t pid;
    int in;  /* what it writes */
    int out; /* what it reads */
};

/* Run the other side in a process of its own; it ends with what `act` returns. */
struct stage_child stage_fork(int (*act)(int in, int out, void *context), void *context);
/* Wait for its end: the status that it gave to exit(), or minus the signal that ended it. */
int stage_join(struct stage_child *child);
void stage_await_stop(const struct stage_child *child);

void stage_write(int fd, const void *bytes, size_t count);
void stage_read(int fd, void *bytes, size_t count);

/* Metadata over a pipe. */
void stage_tell(int fd, nixl_capi_agent_t agent);
void stage_learn(int fd, nixl_capi_agent_t agent, const char *name);

#endif
