/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_CORE_TRANSPORT_H
#define LEND_CORE_TRANSPORT_H

#include "base/list.h"
#include "core/cursor.h"
#include "memory/backing.h"
#include "wire/frame.h"
#include "wire/metadata.h"

#include <lend/agent.h>
#include <lend/nixl.h>

#include <stdbool.h>

/*
 * The face that core and transports turn to each other.
 *
 * A transport carries frames between agents, in order, over channels. A channel is one connection;
 * the agent that connected is its client and the other one its server, for good: requests go one
 * way. What the frames mean is core's business (core/session.h); how they travel is the
 * transport's.
 *
 * Locks. Channel operations are called with the channel's session locked, so a channel needs no
 * lock of its own; they must not block, and may call back only lend_session_wake() (of any
 * session). A watch's ready() is called by whoever polls, one at a time, with no session locked; it
 * may call everything below.
 */

struct lend_session;
struct lend_transport_ops;

enum { LEND_NONCE_BYTES = 16, LEND_FOREIGN_ADDRESS_MAX = 64 };

/* Whose memory to read. */
struct lend_process {
    int pid; /* in our name space */
    uint64_t nonce_address;
    uint8_t nonce[LEND_NONCE_BYTES]; /* random bytes that stand there: see core/puller.h */
};

/* How the bytes of a transfer get where they are to be; of a READ, unless it says otherwise. */
enum lend_way {
    LEND_WAY_SERVED = 0,       /* the owner copies them into the channel */
    LEND_WAY_MAPPED = 1,       /* the reader copies from a mapping of the owner's file */
    LEND_WAY_CROSS_MEMORY = 2, /* the reader's kernel copies out of the owner's process */
    LEND_WAY_STAGED = 3,       /* as served; memory of a GPU goes through the host's on its way */
    LEND_WAY_REMOTE = 4,       /* the reader's NIC asks the owner's: by a rail, beside a channel */
    LEND_WAY_WRITTEN = 5,      /* of a WRITE: the writer's NIC asks the owner's, by the same rail */
    LEND_WAY_DEVICE = 6,       /* the reader's GPU copies out of the owner's, which it has opened */
    LEND_WAYS,
};

static inline bool lend_way_is_remote(enum lend_way way)
{
    return way == LEND_WAY_REMOTE || way == LEND_WAY_WRITTEN;
}

/* A file behind regions, that the owner's peers may map. */
struct lend_shared_file {
    uint32_t number; /* > 0; unique within the agent for its life */
    int fd;          /* open for reading alone */
    struct lend_backing backing;
    bool consents_to_owner; /* peers of the file's own user are let in though a seal does not keep
                               them from writing (LEND_REGION_PUNCH_OUT) */
    bool is_device;         /* what stands in it lets a peer open memory of a GPU: for peers of our
                               own user, and held until they say otherwise or their process ends */

    /* A new descriptor of that part of a GPU's memory, for such a peer alone, which asks for one
     * after the other. Asks the driver; while the file is shared. NULL: it has none. */
    enum lend_status (*part)(const struct lend_shared_file *file, uint32_t index, int *out_fd,
                             struct lend_error *error);
};

/* One connection. A transport puts it first in its own struct, and fills in ops. */
struct lend_channel {
    const struct lend_transport_ops *ops;
    struct lend_session *session; /* set by core: before connect() is called, and by accept */

    /* Set by the transport before the first frame: the kernel says that at the other end is a
     * process of our own user, and keeps everybody else's hands off what is said. Never what the
     * other end says. */
    bool is_private;

    /* Set by core, for good, once it takes bytes for memory of a GPU: take_data() is to copy, and
     * begins nothing that it returns before the end of. It may return 0 until it can, if it sees
     * to it that the session is woken then. */
    bool wants_copies;

    /* Moves: what send_data() and take_data() of a READ have begun and not yet done with when they
     * return, so that the transport goes on reading or writing the memory of the cursor. How many
     * were begun; and of those, from the first on, how many are over. Changed by channel operations
     * alone: when a move is over, the session is woken, and peek() and room() count it. Both stay 0
     * in a transport that copies at once. */
    uint64_t begun;
    uint64_t settled;
};

/* What an agent tells a transport when it opens it. Valid for as long as the transport is open. */
enum { LEND_QUEUE_PAIRS_MAX = 15 };

struct lend_transport_open {
    struct lend_agent *agent;
    const char *name; /* the agent's */
    const uint8_t *incarnation;
    int words_fd; /* the words of its leases: a file sealed against resizing and new writers, */
    uint64_t words_bytes;        /* its length, */
    const void *words;           /* and where it is mapped */
    const char *local_directory; /* as in lend_agent_config, NULL if not given */
    uint32_t local_mode;         /* defaults filled in */
    bool local_is_abstract;
    uint64_t ring_bytes;
    uint64_t connect_timeout_ns;
    uint64_t transfer_timeout_ns;
    const char *listen;    /* as in lend_agent_config, NULL if not given, */
    const char *advertise; /* and so these */
    const char *ucx_devices;
    const char *ucx_transports;
    const char *ucx_library;
    const char *nixl_devices;
    const char *nixl_transports;
    const char *nixl_library;
    const char *verbs_devices;
    uint32_t verbs_queue_pairs; /* at most LEND_QUEUE_PAIRS_MAX; 0: as the transport likes */
    uint32_t notification_window_bytes;
    uint32_t flags;  /* as in lend_agent_config */
    bool has_secret; /* peers prove that they have it */
};

/* A peer that is no agent of lend, as its importer describes it. */
struct lend_foreign_peer {
    const void *bytes; /* that its own library gave */
    size_t byte_count;
    const struct lend_metadata_region *regions; /* with ascending ids */
    uint32_t region_count;
};

/* And as the transport knows it from then on. */
struct lend_foreign_identity {
    char name[LEND_AGENT_NAME_BYTES_MAX + 1];
    uint8_t incarnation[LEND_INCARNATION_BYTES]; /* that it was given: it has none */
    uint64_t serial;                             /* grows with each time that it is met */
    size_t address_bytes;
    uint8_t address[LEND_FOREIGN_ADDRESS_MAX]; /* for reaches() and connect() */
};

/* Memory of ours that such peers, or the NICs of others, may reach by themselves. */
struct lend_exposure {
    uint64_t region_id;
    uint64_t address;
    uint64_t length_bytes;
    uint32_t life;          /* of the region, */
    uint32_t access;        /* and what peers may do with it */
    struct lend_lane *lane; /* of the GPU whose memory it is, as long as the agent is; NULL:
                               memory of the host */
};

/*
 * What a transport does whose peers are no agents of lend, but of another library, which it has in
 * this process. To core it plays those peers: its channels take the frames of a client, carry out
 * what they ask for by that library, and answer as a server would.
 */
struct lend_foreign_ops {
    /* Find that library: the named file, or where it usually is. As lend_nixl_library_find(). */
    enum lend_status (*find)(const char *library, struct lend_nixl_library *out,
                             struct lend_error *error);

    /* What such peers need to know of us, in their library's own bytes. LEND_E_LIMIT: there is no
     * room, and out_count says how much it takes. May block, as the next two; under no lock. */
    enum lend_status (*tell)(void *transport, void *bytes, size_t capacity, size_t *out_count,
                             struct lend_error *error);
    /* Get to know a peer. */
    enum lend_status (*meet)(void *transport, const struct lend_foreign_peer *peer,
                             struct lend_foreign_identity *out, struct lend_error *error);

    /* Let such peers reach memory, which stays until is_exposed() says no after conceal(). What is
     * exposed may not overlap: LEND_E_OVERLAP. */
    enum lend_status (*expose)(void *transport, const struct lend_exposure *exposure,
                               struct lend_error *error);
    /* Let nobody reach it any more; by force: though peers were told of it, so that all that the
     * library has to do with them must end. Any thread, under the agent's lock. */
    void (*conceal)(void *transport, uint64_t region_id, bool by_force);
    /* May it still be reached? Then by whom. Under the agent's lock. */
    bool (*is_exposed)(void *transport, uint64_t region_id, char *who, size_t capacity);
};

/*
 * A rail: what two agents that are connected have beside their channel, so that the reader's NIC
 * reads the owner's memory, or writes it. The transport that has rails carries no frames: what the
 * two ends of a rail have to say to each other travels as frames of whatever channel the session
 * has.
 */
struct lend_rail_ops;

/* One end. A transport puts it first in its own struct. */
struct lend_rail {
    const struct lend_rail_ops *ops;
    struct lend_session *session; /* whose lock guards it */
};

/* What a rail has to know of the memory of an extent, at both ends of it; its own. */
struct lend_rail_ends {
    const void *theirs;
    const void *ours;
};

/* Bytes of one side that follow one another, in one extent. */
struct lend_rail_reach {
    struct lend_segment left;
    uint64_t extent;
};

/* One READ or WRITE. The caller fills in what is above the line; its own again once done() was
 * called, or stop() has said true. What it points to stays for as long. */
struct lend_rail_move {
    struct lend_cursor theirs;         /* addresses as the owner's metadata says them */
    struct lend_cursor ours;           /* as many bytes */
    const struct lend_rail_ends *ends; /* by extent of these; theirs only of a READ */
    bool is_write;                     /* by keys that writes() has said are there; */
    uint32_t gpus;                     /* bit n: memory of the owner's GPU n is among it */
    uint64_t total_bytes;
    uint32_t slot; /* of its lease */
    uint64_t generation;
    /* What that slot's word says of that generation: LEND_OK while it lives, else the cause. */
    enum lend_status (*judge)(uint64_t word, uint64_t generation);
    /* It is over, and not one more byte lands; but where the rail broke under a WRITE, it may until
     * the owner has heard what the rail says next: see is_behind(). And what came in for a GPU of
     * ours is seen by it when that has been flushed. Within pump() or halt(). */
    void (*done)(struct lend_rail_move *move);

    /* ---- */
    enum lend_status status; /* LEND_OK: all landed, and the word lived after that. As judge() says.
                                LEND_E_CANCELED: stop(). LEND_E_PEER_DEAD: the peer's NIC answered
                                nothing. LEND_E_NO_PATH: it refused, or the rail broke for another
                                reason; whether the lease lives is not known. LEND_E_DEVICE: ours
                                failed. */
    int32_t code;            /* of the work completion that ended it, or 0 */
    uint64_t proven_bytes;   /* leading ones that landed under a live word */

    /* The rail's: */
    struct lend_list link;
    struct lend_list flying;      /* its work that is under way, oldest first */
    struct lend_rail_reach there; /* what comes next of either side: the cursors are behind it */
    struct lend_rail_reach here;
    uint64_t posted_bytes;
    bool is_ending; /* nothing more of it is begun */
};

/* Did the rail break under it? Else the word has spoken, or it was ended. */
static inline bool lend_rail_has_broken(enum lend_status status, int32_t code)
{
    return status == LEND_E_NO_PATH || status == LEND_E_DEVICE ||
           (status == LEND_E_PEER_DEAD && code != 0);
}

/* Bytes of a region that follow one another. */
struct lend_rail_span {
    uint64_t region_id;
    uint64_t address; /* as metadata says it */
    uint64_t length_bytes;
};

/* What a lease lets a peer write. Spans are valid during the call. */
struct lend_rail_grant {
    uint32_t slot;
    uint64_t generation;
    const struct lend_rail_span *spans;
    uint32_t span_count; /* 0: the peer is told of none, and why */
    const char *why_none;
    void *lease;
    /* Nothing is written by it any more. Under no lock of the transport; from any thread. */
    void (*ended)(void *lease);
};

enum { LEND_RAIL_SPANS_MAX = 16384, LEND_RAIL_GPUS_MAX = 32 };

struct lend_rail_desc {
    struct lend_session *session;
    bool is_client;         /* then: */
    const uint8_t *address; /* of the peer's, as its metadata tells it */
    size_t address_bytes;
};

struct lend_rail_ops {
    uint32_t kinds; /* bit n set: memory of lend_memory_kind n can be exposed */

    /* Regions: every one of these kinds is exposed, so that peers read it, and transfers land in
     * it. As in lend_foreign_ops; but what is exposed may overlap, and a failure is no more than
     * that there is no such way to the region. */
    enum lend_status (*expose)(void *transport, const struct lend_exposure *exposure,
                               struct lend_error *error);
    void (*conceal)(void *transport, uint64_t region_id);
    bool (*is_exposed)(void *transport, uint64_t region_id, char *who, size_t capacity);

    /* Could a rail lead to who told that address in its metadata? */
    bool (*leads)(void *transport, const uint8_t *address, size_t count);

    /* Begin the end of a session's rail; the client's speaks first. It has no power over the
     * session: what goes wrong later is told by judge(). LEND_E_NO_MEMORY. All that follows is
     * called under the session's lock. */
    enum lend_status (*open)(void *transport, const struct lend_rail_desc *desc,
                             struct lend_rail **out, struct lend_error *error);
    /* It was halted, or the process has forked. */
    void (*close)(struct lend_rail *rail, bool forked);
    /* The next message for the other end, at most LEND_FRAME_MESSAGE_MAX bytes; 0: none. */
    size_t (*say)(struct lend_rail *rail, uint8_t *bytes);
    /* One has come. LEND_E_CORRUPT: it breaks the session. */
    enum lend_status (*hear)(struct lend_rail *rail, const uint8_t *bytes, size_t count,
                             struct lend_error *error);

    /* Server: the peer has shown a lease on that region; say where it is. */
    void (*tell)(struct lend_rail *rail, uint64_t region_id);

    /* Server: the peer has shown a lease that lets it write, and lives: give it keys for that, and
     * say them, or that there are none, and why. Many are made in steps, by pump(). True: they are
     * new, and ended() will be called, once. */
    bool (*grant)(struct lend_rail *rail, const struct lend_rail_grant *grant);
    /* End all keys of that lease, whichever peer has them. LEND_OK: nothing is written by them any
     * more. LEND_E_BUSY: a NIC keeps them, by its name; it may be called again. Any thread, under
     * no lock; waits for a NIC, as long as it ends some, and for a second at most when it does not.
     */
    enum lend_status (*revoke)(void *transport, uint32_t slot, uint64_t generation,
                               struct lend_error *error);

    /* Client: can it carry anything? LEND_OK; LEND_PENDING: it is being made, and the session is
     * woken; LEND_E_NO_PATH, and why. */
    enum lend_status (*judge)(struct lend_rail *rail, struct lend_error *why);
    /* Client: does that lease let our NIC write? LEND_OK; LEND_E_NO_PATH: its owner says that it
     * does not; LEND_E_UNKNOWN: it has said nothing yet, in this making of the rail;
     * LEND_PENDING: the rail is to be made anew. */
    enum lend_status (*writes)(struct lend_rail *rail, uint32_t slot, uint64_t generation,
                               struct lend_error *why);
    /* Changes with what theirs() and ours() say, of any rail of the transport, and with judge(). */
    uint64_t (*stamp)(struct lend_rail *rail);
    /* A region of the peer in that life, or of ours, in which bytes are to land or not; NULL, and
     * why. Valid until the stamp changes. */
    const void *(*theirs)(struct lend_rail *rail, uint64_t region_id, uint32_t life,
                          struct lend_error *why);
    const void *(*ours)(struct lend_rail *rail, uint64_t region_id, bool lands,
                        struct lend_error *why);

    /* Client: is there something that the owner must hear before anything is asked of it that comes
     * after a WRITE? */
    bool (*is_behind)(struct lend_rail *rail);

    /* Client: a notification for the other end, ahead of none that came before. True: it comes
     * there, maybe twice, and whatever breaks, unless the connection ends. False: not by this rail,
     * or not now. */
    bool (*notify)(struct lend_rail *rail, uint64_t number, const void *bytes, size_t count);
    /* Client: what was taken so, and the other end has not confirmed, is said next, once more. */
    void (*repeat)(struct lend_rail *rail);

    /* Begin a READ or WRITE, while judge() says LEND_OK. */
    void (*submit)(struct lend_rail *rail, struct lend_rail_move *move);
    /* End it. True: nothing of it lands any more, and done() is not called. False: it will be. */
    bool (*stop)(struct lend_rail *rail, struct lend_rail_move *move);
    /* Look what has landed, begin more. True if anything moved. */
    bool (*pump)(struct lend_rail *rail);
    /* We go to sleep: see that the session is woken when there is something to look at. False:
     * there may be already, or nobody would tell. */
    bool (*sleep)(struct lend_rail *rail);
    /* The time at which it is to be looked at though nothing has happened; UINT64_MAX: never. */
    uint64_t (*due)(struct lend_rail *rail);
    /* See by force that nothing lands any more: what is under way ends as LEND_E_NO_PATH. */
    void (*halt)(struct lend_rail *rail);
};

struct lend_transport_ops {
    const char *name;             /* [a-z0-9_]+, at most LEND_TRANSPORT_NAME_MAX bytes */
    const char *paths[LEND_WAYS]; /* by lend_way; NULL: it has not that one. "local/served" */
    uint32_t rank;                /* lower is preferred where several reach a peer */
    uint32_t kinds;               /* bit n set: it moves memory of lend_memory_kind n */
    bool is_unfenced;             /* nothing keeps a peer from what it was once given */
    bool staged_is_asked;         /* its staged path is for those alone who name it: nobody shall be
                                     on it unawares */

    /* NULL: all its peers are agents of lend. */
    const struct lend_foreign_ops *foreign;

    /* Not NULL: it has rails, and carries no frames. It reaches() nobody, so that of what follows
     * it needs no more than is_wanted(), open(), close() and close_forked(), and address(). */
    const struct lend_rail_ops *rail;

    /* Do settings ask for it, beyond its name? Then the agent is not made without it. NULL: none
     * do. */
    bool (*is_wanted)(const struct lend_transport_open *open);

    /* Make ready to connect and to be connected to. On failure nothing is left behind.
     * LEND_E_INVALID: a setting makes no sense. LEND_E_ABSENT: none asks for it. */
    enum lend_status (*open)(const struct lend_transport_open *open, void **out,
                             struct lend_error *error);

    /* Undo open(). Every channel of it that core knows is closed already. */
    void (*close)(void *transport);

    /* In a forked child: free what is the child's copy, disturb nothing that the parent shares (no
     * unlink, no message, no publish). Channels: close_channel() has been called with `forked`. */
    void (*close_forked)(void *transport);

    /* How peers reach us: written to bytes (LEND_METADATA_ADDRESS_MAX of room); returns the count.
     */
    size_t (*address)(void *transport, uint8_t *bytes);

    /* Could an address like this, from untrusted metadata, be connected to? Looks at bytes alone.
     */
    bool (*reaches)(void *transport, const uint8_t *address, size_t count);

    /* Make an address of a text that somebody typed, "ADDRESS:PORT". False: it is none. NULL: this
     * transport has no such texts. */
    bool (*parse)(void *transport, const char *text, uint8_t *address, size_t *count);
    /* Where peers reach us, as such a text with its NUL. False: nowhere, or it does not fit. */
    bool (*describe)(void *transport, char *text, size_t capacity);

    /* What one should know who has others to choose from, as the rest of a sentence that says that
     * this one is used; "" for nothing. NULL: nothing, ever. */
    const char *(*remark)(void *transport);

    /* Begin a connection; frames may be sent as soon as room() says so. On failure nothing is left
     * behind. LEND_E_PEER_DEAD: nobody is there. LEND_E_ACCESS: we may not. */
    enum lend_status (*connect)(void *transport, const uint8_t *address, size_t count,
                                struct lend_session *session, struct lend_channel **out,
                                struct lend_error *error);

    /* Free the channel. No callback for it comes after. Not under the session's lock: core calls it
     * when nobody else uses the channel, where watches may be removed (the poller's turn, or the
     * end of the agent). `forked`: as close_forked(). */
    void (*close_channel)(struct lend_channel *channel, bool forked);

    /* Payload bytes that one frame could carry now; 0 if not even an empty one has room (or the
     * channel is still being set up). */
    size_t (*room)(struct lend_channel *channel);

    /* Queue a frame for which room() was enough. */
    void (*send)(struct lend_channel *channel, const uint8_t *header, const void *payload,
                 size_t count);
    /* The same, with a payload of the next count bytes of the cursor, which steps past them. */
    void (*send_data)(struct lend_channel *channel, const uint8_t *header, struct lend_cursor *from,
                      size_t count);

    /* Publish what was queued and what was taken; wake the other end if it sleeps. Called once
     * after a batch. */
    void (*flush)(struct lend_channel *channel);

    /* The header of the frame that has arrived: LEND_OK; LEND_PENDING: none. Otherwise the channel
     * is broken. The same frame until it was taken whole. A control frame is shown only when all
     * that take_data() has begun before is settled. */
    enum lend_status (*peek)(struct lend_channel *channel, uint8_t *header,
                             struct lend_error *error);

    /* See that no move goes on, by force: the connection ends. The peer is told of it or not, no
     * frame comes or goes any more, and all that was begun is settled; if it is not, the transport
     * has no power over it. Needed where moves are begun. close_channel() does the same. */
    void (*halt)(struct lend_channel *channel);

    /* Take the payload of the frame peeked at, count bytes, a private copy. LEND_PENDING: not all
     * of it has arrived. */
    enum lend_status (*take)(struct lend_channel *channel, void *payload, size_t count,
                             struct lend_error *error);

    /* Take the next bytes, at most count, of a DATA frame whose payload is total bytes, to the
     * cursor, or to nowhere if it is NULL. Returns how many; the frame is done when total were
     * taken. */
    size_t (*take_data)(struct lend_channel *channel, struct lend_cursor *to, size_t count,
                        size_t total);

    /* We go to sleep: see that lend_session_wake() is called when a frame arrives, and, if
     * wants_room, when there is room for wanted bytes of payload. False: there is already; nothing
     * was changed. */
    bool (*sleep)(struct lend_channel *channel, bool wants_room, size_t wanted);

    /* We are up again, and look by ourselves: nobody need call lend_session_wake() any more, though
     * one more call does no harm. Called before we look for the first time after a sleep(). */
    void (*awake)(struct lend_channel *channel);

    /* --- One-sided ways. All NULL in a transport whose owner always copies. --- */

    /* Owner: let peers that are connected, and those to come, map the file. It is valid until
     * is_held() says no after unshare(). Under the agent's lock. */
    void (*share)(void *transport, const struct lend_shared_file *file);
    /* Owner: let nobody map it any more, and ask those who did to let go. Under the agent's lock.
     */
    void (*unshare)(void *transport, uint32_t number);
    /* Owner: has a peer not yet let go of it? Then who: a name, or what is known of it. */
    bool (*is_held)(void *transport, uint32_t number, char *who, size_t capacity);

    /* Reader: the words of the owner's leases; NULL, and why, if they cannot be had. */
    const _Atomic uint64_t *(*words)(struct lend_channel *channel, uint32_t *out_count,
                                     struct lend_error *why);
    /* Reader: where the owner's file is mapped, and its length; NULL, and why not. Valid until
     * mapping_stamp() changes. LEND_PENDING: the owner has not told of it yet; the session is woken
     * when it does. */
    const uint8_t *(*mapped)(struct lend_channel *channel, uint32_t file, uint64_t *out_bytes,
                             struct lend_error *why);
    /* Reader: do not let go of the file that is mapped until this is told again with false,
     * whatever its owner wants: what was opened by it is not closed yet. False: it is not mapped
     * any more. */
    bool (*keep)(struct lend_channel *channel, uint32_t file, bool keeps);
    /* Reader: the owner's descriptor of that part of what the file lets us open; the caller's to
     * close. LEND_PENDING: it was asked for, and the session is woken when it is here; why is left
     * alone. One at a time. LEND_E_NO_PATH: it does not come; why. */
    enum lend_status (*part)(struct lend_channel *channel, uint32_t file, uint32_t index,
                             int *out_fd, struct lend_error *why);
    /* Reader: changes with every file that is mapped, wanted back or let go; never 0. */
    uint64_t (*mapping_stamp)(struct lend_channel *channel);
    /* Reader: how to read the owner's process, if it can be named at all. LEND_E_NO_PATH. */
    enum lend_status (*process)(struct lend_channel *channel, struct lend_process *out,
                                struct lend_error *why);
    /* Reader: one look, without waiting: is the owner's process there, and the program that we are
     * connected to? */
    bool (*is_alive)(struct lend_channel *channel);
    /* Reader: touch about so many bytes of what is mapped and was not touched yet; false: all was.
     */
    bool (*prefault)(struct lend_channel *channel, uint64_t bytes);
};

/* Core's side. */

/* A peer has connected: make the session that serves it. The channel is core's from here on, and
 * channel->session is set before any operation on it is called. LEND_E_LIMIT, LEND_E_NO_MEMORY: the
 * transport closes the channel. Called from ready() or with no lock held. */
enum lend_status lend_session_accept(struct lend_agent *agent, struct lend_channel *channel,
                                     struct lend_error *error);

/* Something arrived, or room appeared: let the session be stepped soon. From any thread, under any
 * lock of a transport or session. */
void lend_session_wake(struct lend_session *session);

/* The other end is gone, for that reason. What it had published before is still taken. From any
 * thread, under any lock of a transport or session. The first reason counts. */
void lend_session_hang_up(struct lend_session *session, enum lend_status status, const char *reason)
    __attribute__((nonnull));

/* A descriptor that the agent's poller watches (level-triggered). */
struct lend_watch {
    void (*ready)(struct lend_watch *watch, uint32_t events); /* EPOLLIN, EPOLLHUP, ... */
    int fd;
};

/* Begin to watch for events (EPOLLIN, EPOLLOUT; hang-up is always told); the caller owns fd and
 * watch. */
enum lend_status lend_agent_watch(struct lend_agent *agent, struct lend_watch *watch,
                                  uint32_t events, struct lend_error *error);

/* Tell other events from now on: those alone, so EPOLLIN | EPOLLRDHUP. With EPOLLONESHOT the first
 * that comes is told, and then none until this is called again; what is there already counts. From
 * any thread, as long as nobody unwatches it. */
enum lend_status lend_agent_rewatch(struct lend_agent *agent, struct lend_watch *watch,
                                    uint32_t events, struct lend_error *error);

/* Stop. From a ready(), or from close_channel(), or close(): ready() is not called after. */
void lend_agent_unwatch(struct lend_agent *agent, struct lend_watch *watch);

/* Be called back by the poller at or after that time (CLOCK_BOOTTIME), at least once; for limits on
 * set-up within a transport. expired() is called as a ready() is. One alarm a transport; 0 clears
 * it. */
void lend_agent_alarm(struct lend_agent *agent, uint64_t at_ns, void (*expired)(void *transport),
                      void *transport);

/* Server: a notification has come by the session's rail, with the number that notify() was given;
 * untrusted, and maybe not for the first time. What it goes with is in place: the sender's NIC has
 * read the lease's word behind it before it sent this. All that is to happen before the application
 * sees it, for memory of a GPU say, belongs here. LEND_E_LIMIT: beyond the window. LEND_E_CORRUPT,
 * LEND_E_NO_MEMORY: it was not taken. Under the session's lock. */
enum lend_status lend_session_notified(struct lend_session *session, uint64_t number,
                                       const void *bytes, size_t count, struct lend_error *error);

/* Tell the application; a level of ::lend_log_level. With any lock held: it is delivered later. */
void lend_agent_log(struct lend_agent *agent, int32_t level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Does it move between memory of those kinds? LEND_E_UNSUPPORTED, and what to do. */
enum lend_status lend_transport_check_kinds(const struct lend_transport_ops *ops, uint32_t one,
                                            uint32_t other, struct lend_error *error);

/* The transports of this build, in a file that the build writes; ends with NULL. */
extern const struct lend_transport_ops *const lend_transports[];

#endif
