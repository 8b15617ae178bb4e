/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TESTS_FAKE_PIPE_H
#define LEND_TESTS_FAKE_PIPE_H

#include "core/session.h"
#include "core/transport.h"
#include "wire/message.h"

/*
 * A fake transport, "pipe", for agents under manual progress on one thread: frames go from queue to
 * queue, and whoever tests may stand between the ends, or be one of them. It takes the place of
 * every other transport in the program that is linked with it.
 */

enum pipe_side { PIPE_CLIENT, PIPE_SERVER };

struct pipe_frame;

/* One end of a connection. */
struct pipe_end {
    struct lend_channel base;
    enum pipe_side side;
    struct pipe_end *other;   /* NULL: it is closed */
    struct pipe_frame *first; /* that have come */
    size_t taken;             /* bytes of the data of the first */
    uint64_t sequence;        /* of the next frame that is said by hand */
};

/* Is called with each frame that is sent, by hand or not, and may change it: its header, checksums
 * included, is made after that. At most LEND_FRAME_PAYLOAD_MAX bytes; false: it is lost. */
typedef bool pipe_hook(void *context, enum pipe_side from, struct lend_frame *frame,
                       uint8_t *payload);
void pipe_watch(pipe_hook *hook, void *context); /* NULL: nobody */

/* The client's end, by hand, of a connection to that agent. */
struct pipe_end *pipe_dial(struct lend_agent *server);
/* From now on connections end at the hands of whoever tests: pipe_accepted() is the last one's
 * server end, NULL: there was none. */
void pipe_answer_by_hand(bool by_hand);
struct pipe_end *pipe_accepted(void);
void pipe_close(struct pipe_end *end);
/* From now on ends of that side are made as if the kernel vouched for the other end, or not. */
void pipe_make_private(enum pipe_side side, bool is_private);

/* Say a frame; its sequence is the next one. */
void pipe_say(struct pipe_end *end, uint8_t type, uint64_t request, const void *payload,
              size_t count);
/* Say what others have said: a header of theirs, whatever it says, and count bytes of payload. */
void pipe_say_bytes(struct pipe_end *end, const uint8_t *header, const void *payload, size_t count);
/* Take the next frame, if there is one; payload has room for LEND_FRAME_PAYLOAD_MAX. */
bool pipe_hear(struct pipe_end *end, struct lend_frame *out, uint8_t *payload);
/* Has the other end hung up? */
bool pipe_is_over(const struct pipe_end *end);

/* Progress of both (NULL: of one), until neither has anything to do. */
void pipe_pump(struct lend_agent *one, struct lend_agent *other);

#endif
