/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "base/sys.h"
#include "core/found.h"
#include "core/session.h"
#include "wire/found.h"

#include <assert.h>
#include <string.h>

/*
 * Asking an agent that listens for its metadata: a session of its own, whose client says FETCH
 * instead of HELLO, and hangs up when it has been told all.
 */

enum { ROOM_FIRST = 64 << 10 };

struct fetch {
    struct lend_session session;
    bool has_asked;
    uint32_t metadata_bytes;
    uint32_t attachment_bytes;
    uint8_t *bytes; /* of both, as they come; grows with them, and not with what is announced */
    uint32_t count;
    uint32_t room;
    _Atomic bool is_told; /* all of them are there */
};

static struct fetch *fetch_of(struct lend_session *session)
{
    return (struct fetch *)session;
}

/* --- the role --- */

static bool pump(struct lend_session *session)
{
    struct fetch *fetch = fetch_of(session);
    struct lend_fetch_message message = {
        .version_min = LEND_PROTOCOL_VERSION,
        .version_max = LEND_PROTOCOL_VERSION,
    };
    uint8_t bytes[128];

    if (fetch->has_asked)
        return false;
    memcpy(message.name, session->agent->name, sizeof message.name);
    size_t count = lend_fetch_encode(&message, bytes, sizeof bytes);
    assert(count <= sizeof bytes);
    fetch->has_asked = lend_session_send(session, LEND_FRAME_FETCH, 0, bytes, count);
    return fetch->has_asked;
}

/* Room for so many bytes more, of total in the end. */
static enum lend_status make_room(struct fetch *fetch, uint32_t more, uint32_t total,
                                  struct lend_error *error)
{
    uint32_t wanted = fetch->room == 0 ? (uint32_t)ROOM_FIRST : fetch->room * 2;

    if (more <= fetch->room - fetch->count)
        return LEND_OK;
    wanted = wanted < total ? wanted : total;
    uint8_t *grown = lend_sys->allocate(wanted);
    if (grown == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for %u bytes of metadata", wanted);
    if (fetch->count > 0)
        memcpy(grown, fetch->bytes, fetch->count);
    lend_sys->release(fetch->bytes);
    fetch->bytes = grown;
    fetch->room = wanted;
    return LEND_OK;
}

static enum lend_status take_found(struct fetch *fetch, const struct lend_frame *frame,
                                   const uint8_t *payload, struct lend_error *error)
{
    struct lend_found_part part;

    enum lend_status status = lend_found_decode(payload, frame->payload_bytes, &part, error);
    if (status != LEND_OK)
        return status;
    if (part.version != LEND_PROTOCOL_VERSION)
        return lend_fail(error, LEND_E_VERSION,
                         "the peer chose version %u of the protocol, we speak %d", part.version,
                         LEND_PROTOCOL_VERSION);
    if (fetch->count == 0) {
        fetch->metadata_bytes = part.metadata_bytes;
        fetch->attachment_bytes = part.attachment_bytes;
    }
    if (part.metadata_bytes != fetch->metadata_bytes ||
        part.attachment_bytes != fetch->attachment_bytes || part.offset != fetch->count)
        return lend_fail(error, LEND_E_CORRUPT, "a FOUND of byte %u where %u was due", part.offset,
                         fetch->count);
    uint32_t total = part.metadata_bytes + part.attachment_bytes;
    status = make_room(fetch, part.count, total, error);
    if (status != LEND_OK)
        return status;
    memcpy(fetch->bytes + fetch->count, part.bytes, part.count);
    fetch->count += part.count;
    if (fetch->count == total) {
        /* Release: who sees it sees the bytes. */
        atomic_store_explicit(&fetch->is_told, true, memory_order_release);
        lend_agent_announce(fetch->session.agent);
    }
    return LEND_OK;
}

static enum lend_status take_bye(const struct lend_frame *frame, const uint8_t *payload,
                                 struct lend_error *error)
{
    struct lend_verdict verdict;

    enum lend_status status = lend_verdict_decode(payload, frame->payload_bytes, &verdict, error);
    if (status != LEND_OK)
        return status;
    switch (verdict.status) {
    case LEND_E_NO_MEMORY:
    case LEND_E_LIMIT:
    case LEND_E_ACCESS:
    case LEND_E_VERSION: status = (enum lend_status)verdict.status; break;
    case LEND_E_BUSY: status = LEND_E_LIMIT; break;
    default: status = LEND_E_PEER_DEAD;
    }
    return lend_fail(error, status, "the peer hung up: %s", verdict.text);
}

static enum lend_status control(struct lend_session *session, const struct lend_frame *frame,
                                const uint8_t *payload, struct lend_error *error)
{
    if (frame->type == LEND_FRAME_BYE)
        return take_bye(frame, payload, error);
    if (frame->type == LEND_FRAME_FOUND && !fetch_of(session)->is_told)
        return take_found(fetch_of(session), frame, payload, error);
    return lend_fail(error, LEND_E_CORRUPT, "frame type %u in answer to a FETCH", frame->type);
}

static enum lend_status data(struct lend_session *session, size_t count, size_t *out_taken,
                             struct lend_error *error)
{
    (void)session;
    (void)out_taken;
    return lend_fail(error, LEND_E_CORRUPT, "%zu bytes of data in answer to a FETCH", count);
}

static uint64_t timers(struct lend_session *session, uint64_t now_ns)
{
    (void)session;
    (void)now_ns;
    return UINT64_MAX;
}

static void die(struct lend_session *session)
{
    lend_agent_announce(session->agent);
}

static void buried(struct lend_session *session)
{
    (void)session;
}

static void fini(struct lend_session *session)
{
    lend_sys->release(fetch_of(session)->bytes);
}

static const struct lend_session_role role = {
    .bytes = sizeof(struct fetch),
    .is_client = true,
    .control = control,
    .data = data,
    .pump = pump,
    .timers = timers,
    .die = die,
    .buried = buried,
    .fini = fini,
};

/* --- asking --- */

/* What there is to know of one question. */
struct question {
    struct lend_agent *agent;
    const char *text;
    uint64_t until_ns;
    const struct lend_open_transport *transport;
    uint8_t address[LEND_METADATA_ADDRESS_MAX];
    size_t address_bytes;
};

/* The preferred of our transports that understand the text. */
static enum lend_status find_transport(struct question *question, struct lend_error *error)
{
    struct lend_agent *agent = question->agent;
    bool has_any = false;

    for (uint32_t i = 0; i < agent->transport_count; i++) {
        const struct lend_open_transport *ours = &agent->transports[i];
        uint8_t address[LEND_METADATA_ADDRESS_MAX];
        size_t count = 0;

        if (ours->ops->parse == NULL)
            continue;
        has_any = true;
        if (!ours->ops->parse(ours->transport, question->text, address, &count) ||
            (question->transport != NULL && question->transport->ops->rank <= ours->ops->rank))
            continue;
        question->transport = ours;
        question->address_bytes = count;
        memcpy(question->address, address, count);
    }
    if (!has_any)
        return lend_fail(error, LEND_E_UNSUPPORTED,
                         "%s has no transport open that takes an address; open tcp", agent->name);
    if (question->transport == NULL)
        return lend_fail(error, LEND_E_INVALID,
                         "\"%.80s\" is no numeric \"ADDRESS:PORT\" or \"[IPV6]:PORT\"",
                         question->text);
    return LEND_OK;
}

static enum lend_status begin(const struct question *question, struct lend_session **out,
                              struct lend_error *error)
{
    struct lend_agent *agent = question->agent;
    const struct lend_open_transport *by = question->transport;
    struct lend_session *session = lend_session_create(agent, &role, &agent->secret);
    struct lend_channel *channel = NULL;

    if (session == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for a connection to %.80s",
                         question->text);
    session->greet_until_ns = question->until_ns;
    enum lend_status status = by->ops->connect(by->transport, question->address,
                                               question->address_bytes, session, &channel, error);
    if (status != LEND_OK) {
        lend_session_release(session);
        if (status == LEND_E_NO_PATH && error != NULL)
            error->status = LEND_E_PEER_DEAD; /* no route there: what it says of that stays */
        return status == LEND_E_NO_PATH ? LEND_E_PEER_DEAD : status;
    }
    lend_session_begin(session, channel);
    *out = session;
    return LEND_OK;
}

static bool is_over(void *subject)
{
    struct fetch *fetch = subject;

    return atomic_load_explicit(&fetch->is_told, memory_order_acquire) ||
           atomic_load_explicit(&fetch->session.is_dead, memory_order_acquire);
}

static void await(struct lend_session *session, uint64_t until_ns)
{
    struct lend_agent *agent = session->agent;

    if (!lend_agent_is_manual(agent)) {
        lend_agent_await(agent, until_ns, is_over, session);
        return;
    }
    while (!is_over(session)) {
        uint64_t now = lend_sys->now_ns();

        (void)lend_poller_progress(&agent->poller, until_ns > now ? until_ns - now : 0);
        if (lend_sys->now_ns() >= until_ns)
            break;
    }
}

/* Hang up, and say what came of it. */
static enum lend_status end(struct lend_session *session, const struct question *question,
                            struct lend_error *error)
{
    enum lend_status status = LEND_OK;
    struct lend_error bye;

    (void)pthread_mutex_lock(&session->lock);
    if (fetch_of(session)->is_told) {
        status = LEND_OK;
    } else if (session->is_dead && session->why.status != LEND_E_TIMEOUT) {
        status = (enum lend_status)session->why.status;
        if (error != NULL)
            *error = session->why;
    } else {
        status = lend_fail(error, LEND_E_TIMEOUT, "%.80s did not answer in time", question->text);
    }
    if (!session->is_dead) {
        (void)lend_fail(&bye, LEND_E_CANCELED, "the question is over");
        if (session->channel != NULL)
            lend_session_bye(session, &bye);
        else
            lend_session_die(session, LEND_E_CANCELED, "%s", bye.message);
    }
    (void)pthread_mutex_unlock(&session->lock);
    return status;
}

/* --- what was found --- */

enum lend_status lend_found_make(const void *bytes, size_t metadata_bytes, size_t attachment_bytes,
                                 struct lend_found **out, struct lend_error *error)
{
    struct lend_found *found =
        lend_sys->allocate(sizeof *found + metadata_bytes + attachment_bytes);

    if (found == NULL)
        return lend_fail(error, LEND_E_NO_MEMORY, "no memory for %zu bytes of metadata",
                         metadata_bytes);
    uint8_t *copy = (uint8_t *)(found + 1);
    memcpy(copy, bytes, metadata_bytes + attachment_bytes);
    *found = (struct lend_found){
        .metadata = copy,
        .metadata_bytes = metadata_bytes,
        .attachment = attachment_bytes > 0 ? copy + metadata_bytes : NULL,
        .attachment_bytes = attachment_bytes,
    };
    *out = found;
    return LEND_OK;
}

void lend_found_release(struct lend_found *found)
{
    lend_sys->release(found);
}

/* It is checked here, and decoded again where it is imported. */
static enum lend_status take_out(const struct fetch *fetch, struct lend_found **out,
                                 struct lend_error *error)
{
    struct lend_metadata *metadata = NULL;

    enum lend_status status =
        lend_metadata_decode(fetch->bytes, fetch->metadata_bytes, &metadata, error);
    if (status != LEND_OK)
        return status;
    lend_sys->release(metadata);
    return lend_found_make(fetch->bytes, fetch->metadata_bytes, fetch->attachment_bytes, out,
                           error);
}

enum lend_status lend_fetch(struct lend_agent *agent, const char *address, uint64_t timeout_ns,
                            struct lend_found **out, struct lend_error *error)
{
    struct question question = {.agent = agent, .text = address};
    struct lend_session *session = NULL;
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    if (address == NULL || out == NULL)
        return lend_fail(error, LEND_E_INVALID, "address or out is NULL");
    question.until_ns = lend_deadline(lend_sys->now_ns(), timeout_ns);
    status = find_transport(&question, error);
    if (status == LEND_OK)
        status = begin(&question, &session, error);
    if (status != LEND_OK)
        return status;
    await(session, question.until_ns);
    status = end(session, &question, error);
    if (status == LEND_OK)
        status = take_out(fetch_of(session), out, error);
    lend_session_release(session);
    return status;
}

enum lend_status lend_agent_address(const struct lend_agent *agent, char *text, size_t capacity,
                                    struct lend_error *error)
{
    enum lend_status status = lend_agent_check(agent, error);

    if (status != LEND_OK)
        return status;
    if (text == NULL || capacity == 0)
        return lend_fail(error, LEND_E_INVALID, "no room for an address");
    for (uint32_t i = 0; i < agent->transport_count; i++) {
        const struct lend_open_transport *ours = &agent->transports[i];
        char whole[128];

        if (ours->ops->describe == NULL ||
            !ours->ops->describe(ours->transport, whole, sizeof whole))
            continue;
        if (strlen(whole) >= capacity)
            return lend_fail(error, LEND_E_INVALID,
                             "the address takes %zu bytes, there is room "
                             "for %zu",
                             strlen(whole) + 1, capacity);
        memcpy(text, whole, strlen(whole) + 1);
        return LEND_OK;
    }
    return lend_fail(error, LEND_E_ABSENT, "%s listens nowhere: set listen in its configuration",
                     agent->name);
}
