/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include "base/sys.h"
#include "base/writer.h"

#include <unistd.h>

enum { ROUNDS = 200 };

static void on_log(void *context, int32_t level, const char *text)
{
    struct stage *stage = context;

    if (level > LEND_LOG_WARNING)
        return;
    stage->log_count++;
    (void)snprintf(stage->log, sizeof stage->log, "%s", text);
}

struct lend_agent *stage_agent(struct stage *stage, const char *name, const char *secret,
                               struct lend_error *error)
{
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_agent *agent = NULL;

    config.name = name;
    config.flags = LEND_AGENT_MANUAL_PROGRESS | stage->flags;
    config.local_directory = stage->directory;
    config.notification_window_bytes = 65536;
    config.connect_timeout_ns = stage->connect_timeout_ns;
    config.on_log = on_log;
    config.context = stage;
    config.secret = secret;
    config.secret_bytes = secret != NULL ? (uint32_t)strlen(secret) : 0;
    config.secret_plugin = LEND_TEST_SECRET_PLUGIN;
    return lend_agent_create(&config, &agent, error) == LEND_OK ? agent : NULL;
}

static struct lend_region *lend_bytes(struct lend_agent *agent, void *memory, const char *name)
{
    struct lend_region_desc desc = LEND_REGION_DESC_INIT;
    struct lend_region *region = NULL;

    assert_int_equal(lend_memory_system(memory, MEMORY_BYTES, &desc.memory, NULL), LEND_OK);
    desc.geometry.block_length_bytes = BLOCK_BYTES;
    desc.geometry.count = BLOCKS;
    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.name = name;
    assert_int_equal(lend_region_register(agent, &desc, 1, &region, NULL, NULL), LEND_OK);
    return region;
}

static void introduce(struct stage *stage)
{
    const struct lend_block_set set = {.regions = &stage->lent, .region_count = 1};
    struct lend_grant_desc desc = LEND_GRANT_DESC_INIT;
    uint8_t bytes[4096];
    size_t count;

    desc.access = LEND_ACCESS_READ | LEND_ACCESS_WRITE;
    desc.sets = &set;
    desc.set_count = 1;
    desc.consumer_count = 1;
    desc.time_to_live_ns = UINT64_C(3600000000000);
    assert_int_equal(lend_lease_grant(stage->owner, &desc, &stage->lease, NULL), LEND_OK);
    assert_int_equal(lend_metadata_export(stage->owner, bytes, sizeof bytes, &count, NULL),
                     LEND_OK);
    assert_int_equal(lend_peer_import(stage->reader, bytes, count, &stage->peer, NULL), LEND_OK);
    assert_int_equal(lend_ticket_export(stage->lease, bytes, sizeof bytes, &count, NULL), LEND_OK);
    assert_int_equal(lend_ticket_import(stage->peer, bytes, count, &stage->ticket, NULL), LEND_OK);
}

/* Flags of the owner, then of the reader. */
static void set_up(struct stage *stage, const char *owners_secret, const char *readers_secret,
                   const uint32_t flags[2])
{
    *stage = (struct stage){.directory = "/tmp/lend-secret-XXXXXX"};
    assert_non_null(mkdtemp(stage->directory));
    stage->lent_memory = calloc(1, MEMORY_BYTES);
    stage->kept_memory = calloc(1, MEMORY_BYTES);
    assert_true(stage->lent_memory != NULL && stage->kept_memory != NULL);
    stage->flags = flags[0];
    stage->owner = stage_agent(stage, "owner", owners_secret, NULL);
    stage->flags = flags[1];
    stage->reader = stage_agent(stage, "reader", readers_secret, NULL);
    assert_true(stage->owner != NULL && stage->reader != NULL);
    stage->lent = lend_bytes(stage->owner, stage->lent_memory, "lent");
    stage->kept = lend_bytes(stage->reader, stage->kept_memory, NULL);
    introduce(stage);
}

void stage_up_flagged(struct stage *stage, uint32_t owners_flags, uint32_t readers_flags)
{
    set_up(stage, OUR_SECRET, OUR_SECRET, (const uint32_t[]){owners_flags, readers_flags});
}

void stage_up(struct stage *stage, const char *owners_secret, const char *readers_secret)
{
    set_up(stage, owners_secret, readers_secret, (const uint32_t[]){0, 0});
}

void stage_down(struct stage *stage)
{
    lend_ticket_release(stage->ticket);
    lend_peer_forget(stage->peer);
    lend_lease_release(stage->lease);
    lend_agent_destroy(stage->reader);
    lend_agent_destroy(stage->owner);
    free(stage->lent_memory);
    free(stage->kept_memory);
    assert_int_equal(rmdir(stage->directory), 0);
    pipe_watch(NULL, NULL);
    pipe_answer_by_hand(false);
}

void stage_pump(struct stage *stage)
{
    pipe_pump(stage->owner, stage->reader);
}

enum lend_status stage_connect(struct stage *stage, struct lend_error *error)
{
    enum lend_status status = LEND_E_TIMEOUT;

    for (int i = 0; i < ROUNDS && status == LEND_E_TIMEOUT; i++) {
        status = lend_peer_connect(stage->peer, 0, error);
        if (status == LEND_E_TIMEOUT)
            (void)lend_agent_progress(stage->owner, 0, NULL);
    }
    return status;
}

struct lend_transfer *stage_post(struct stage *stage, uint32_t direction)
{
    static const int32_t blocks[BLOCKS] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct lend_transfer_desc desc = LEND_TRANSFER_DESC_INIT;
    struct lend_post_desc post = LEND_POST_DESC_INIT;
    struct lend_transfer *transfer = NULL;
    uint64_t remote = lend_region_id(stage->lent);

    desc.direction = direction;
    desc.peer = stage->peer;
    desc.region_count = 1;
    desc.local_regions = &stage->kept;
    desc.remote_regions = &remote;
    desc.block_count_max = BLOCKS;
    assert_int_equal(lend_transfer_prepare(stage->reader, &desc, &transfer, NULL), LEND_OK);
    post.ticket = stage->ticket;
    post.index_bits = 32;
    post.local_blocks = blocks;
    post.remote_blocks = blocks;
    post.block_count = BLOCKS;
    assert_int_equal(lend_transfer_post(transfer, &post, NULL), LEND_OK);
    return transfer;
}

enum lend_status stage_finish(struct stage *stage, struct lend_transfer *transfer)
{
    enum lend_status status = LEND_PENDING;

    for (int i = 0; i < ROUNDS && status == LEND_PENDING; i++) {
        stage_pump(stage);
        status = lend_transfer_test(transfer);
    }
    assert_int_not_equal(status, LEND_PENDING);
    assert_int_equal(lend_transfer_release(transfer), LEND_OK);
    return status;
}

enum lend_status stage_move(struct stage *stage, uint32_t direction)
{
    return stage_finish(stage, stage_post(stage, direction));
}

const struct lend_statistics *page_of(const struct lend_agent *agent)
{
    assert_non_null(agent->statistics.page);
    return agent->statistics.page;
}

/* --- by hand --- */

void speaker_up(struct speaker *speaker, uint32_t role, const char *secret)
{
    lend_secret_plugin_entry *entry;
    char why[200];

    memset(speaker, 0, offsetof(struct speaker, payload));
    speaker->role = role;
    speaker->library = lend_sys->load(LEND_TEST_SECRET_PLUGIN, why, sizeof why);
    assert_non_null(speaker->library);
    void *symbol = lend_sys->symbol(speaker->library, LEND_SECRET_PLUGIN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry);
    speaker->plugin = entry();
    assert_int_equal(speaker->plugin->keep(secret, strlen(secret), &speaker->kept, NULL), LEND_OK);
}

void speaker_down(struct speaker *speaker)
{
    if (speaker->end != NULL)
        pipe_close(speaker->end);
    speaker->plugin->discard(speaker->keys);
    speaker->plugin->forget(speaker->kept);
    lend_sys->unload(speaker->library);
}

bool speaker_hear(struct speaker *speaker)
{
    if (!pipe_hear(speaker->end, &speaker->heard, speaker->payload))
        return false;
    speaker->heard_count++;
    return true;
}

void speaker_prove(const struct speaker *speaker, uint32_t role, uint8_t *out)
{
    uint8_t transcript[LEND_TRANSCRIPT_BYTES];

    lend_transcript_encode(&speaker->challenge, &speaker->answer, !speaker->has_no_macs,
                           transcript);
    speaker->plugin->prove(speaker->kept, role, transcript, sizeof transcript, out);
}

void speaker_challenge(struct speaker *speaker, struct stage *stage)
{
    uint8_t bytes[LEND_CHALLENGE_BYTES], proof[LEND_SECRET_PROOF_BYTES];

    speaker->challenge.version = LEND_CHALLENGE_VERSION;
    assert_int_equal(lend_sys->random(speaker->challenge.nonce, LEND_CHALLENGE_NONCE_BYTES), 0);
    lend_challenge_encode(&speaker->challenge, bytes);
    pipe_say(speaker->end, LEND_FRAME_CHALLENGE, 0, bytes, sizeof bytes);
    stage_pump(stage);
    assert_true(speaker_hear(speaker));
    assert_int_equal(speaker->heard.type, LEND_FRAME_ANSWER);
    assert_int_equal(
        lend_answer_decode(speaker->payload, speaker->heard.payload_bytes, &speaker->answer, NULL),
        LEND_OK);
    speaker_prove(speaker, LEND_SECRET_SERVER, proof);
    assert_memory_equal(proof, speaker->answer.proof, sizeof proof);
}

void speaker_derive(struct speaker *speaker)
{
    uint8_t transcript[LEND_TRANSCRIPT_BYTES];

    lend_transcript_encode(&speaker->challenge, &speaker->answer, !speaker->has_no_macs,
                           transcript);
    assert_int_equal(
        speaker->plugin->derive(speaker->kept, transcript, sizeof transcript, &speaker->keys, NULL),
        LEND_OK);
}

void speaker_meet(struct speaker *speaker, struct stage *stage)
{
    uint8_t proof[LEND_SECRET_PROOF_BYTES];

    speaker_challenge(speaker, stage);
    speaker_prove(speaker, LEND_SECRET_CLIENT, proof);
    pipe_say(speaker->end, LEND_FRAME_PROOF, 0, proof, sizeof proof);
    speaker_derive(speaker);
}

static struct lend_secret_message message_of(const struct lend_frame *frame, uint32_t role,
                                             const uint8_t *payload, uint8_t *header)
{
    struct lend_writer writer = lend_writer_init(header, LEND_SEALED_HEADER_BYTES);

    lend_write_u32(&writer, frame->type);
    lend_write_u32(&writer, frame->payload_bytes);
    lend_write_u64(&writer, frame->sequence);
    lend_write_u64(&writer, frame->request);
    return (struct lend_secret_message){
        .struct_size = sizeof(struct lend_secret_message),
        .role = role,
        .header = header,
        .header_bytes = LEND_SEALED_HEADER_BYTES,
        .payload = payload,
        .payload_bytes = frame->payload_bytes - LEND_SECRET_MAC_BYTES,
    };
}

void speaker_say_sealed(struct speaker *speaker, uint32_t role, uint8_t type, uint64_t request,
                        const void *payload, size_t count)
{
    uint8_t header[LEND_SEALED_HEADER_BYTES], bytes[4096];
    const struct lend_frame frame = {.type = type,
                                     .payload_bytes = (uint32_t)(count + LEND_SECRET_MAC_BYTES),
                                     .sequence = speaker->end->sequence,
                                     .request = request};

    assert_true(frame.payload_bytes <= sizeof bytes);
    if (count > 0)
        memcpy(bytes, payload, count);
    const struct lend_secret_message message = message_of(&frame, role, bytes, header);
    speaker->plugin->seal(speaker->keys, &message, bytes + count);
    pipe_say(speaker->end, type, request, bytes, frame.payload_bytes);
}

bool speaker_unseal(struct speaker *speaker, uint32_t role)
{
    uint8_t header[LEND_SEALED_HEADER_BYTES];

    if (speaker->heard.payload_bytes < LEND_SECRET_MAC_BYTES)
        return false;
    const struct lend_secret_message message =
        message_of(&speaker->heard, role, speaker->payload, header);
    if (speaker->plugin->verify(speaker->keys, &message,
                                speaker->payload + message.payload_bytes) != 1)
        return false;
    speaker->heard.payload_bytes -= LEND_SECRET_MAC_BYTES;
    return true;
}

size_t encode_hello(const struct stage *stage, uint8_t *out, size_t capacity)
{
    struct lend_hello hello = {.version_min = 1, .version_max = 1, .name = "speaker"};

    memset(hello.incarnation, 0x77, sizeof hello.incarnation);
    lend_agent_incarnation(stage->owner, hello.wanted);
    return lend_hello_encode(&hello, out, capacity);
}
