/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory on etcd (3.4 and later), through the JSON gateway that every server of it has.
 *
 *     PREFIX/agents/NAME    the entry, under an etcd lease of the time to live
 *
 * An entry is written in a transaction: only over none, or over the revision that we wrote or read
 * as ours, so that of two agents of one name the first keeps it. A watch begins with a listing, in
 * pages of one revision, and goes on behind it. While it is silent the server is asked now and
 * then, on another connection, for a key that nobody has, so that one that has stopped, or has lost
 * the others of its cluster, is noticed. What has been compacted away is listed anew by whoever
 * called.
 */
#include "http.h"

#include <lend/plugin.h>

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)

enum {
    PAGE_ENTRIES = 16,
    PUT_TRIES = 4,                /* while another changes what we compare with */
    ANSWER_BYTES_MAX = 128 << 20, /* a page of the largest entries of a usual server */
    WATCH_SECONDS = 300,          /* then it is begun anew, whatever has become of it */
    /* Of gRPC, as the gateway tells them. */
    CODE_INVALID = 3,
    CODE_NOT_FOUND = 5,
    CODE_EXHAUSTED = 8,
};

struct handle {
    struct http http;
    uint64_t time_to_live_ns;
    uint64_t entry_bytes_max;
    uint64_t owner_bytes;
    json_int_t lease;    /* 0: none */
    json_int_t revision; /* of our entry; 0: we know of none */
};

/* --- JSON --- */

/* 64-bit numbers are strings there, and zeros are left out. */
static json_int_t number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    char *end = NULL;

    if (json_is_integer(value))
        return json_integer_value(value);
    if (!json_is_string(value))
        return 0;
    errno = 0;
    long long number = strtoll(json_string_value(value), &end, 10);
    return errno == 0 && *end == '\0' ? number : 0;
}

/* Bytes in base64; NULL: no memory, or they are none. An absent value is empty. */
static unsigned char *bytes_of(const json_t *object, const char *key, size_t *out_count)
{
    const json_t *value = json_object_get(object, key);

    if (value == NULL)
        return base64_decode("", 0, out_count);
    return json_is_string(value)
               ? base64_decode(json_string_value(value), json_string_length(value), out_count)
               : NULL;
}

static json_t *json_bytes(const void *bytes, size_t count)
{
    char *text = base64_encode(bytes, count);
    json_t *value = text != NULL ? json_string(text) : NULL;

    free(text);
    return value;
}

/* The text of a body, which becomes ours; NULL: no memory. Free it. */
static char *text_of(json_t *body)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;

    json_decref(body);
    return text;
}

/* What a refusal of etcd's is to us. */
static enum lend_status refuse(const struct handle *handle, const json_t *answer,
                               struct lend_error *error)
{
    const char *text = json_string_value(json_object_get(answer, "error"));
    json_int_t code = number_of(answer, "code");
    enum lend_status status = LEND_E_NO_PATH;

    if (code == CODE_NOT_FOUND)
        status = LEND_E_STALE;
    if (code == CODE_EXHAUSTED ||
        (code == CODE_INVALID && text != NULL && strstr(text, "too large") != NULL))
        status = LEND_E_LIMIT;
    return fail(error, status, "etcd at %s refuses, with code %ld: %.120s",
                handle->http.place.endpoints[handle->http.endpoint], handle->http.code,
                text != NULL ? text : "it does not say why");
}

/* Ask, with a body that becomes ours; the answer is a JSON object, to be given back. */
static enum lend_status ask(struct handle *handle, const char *path, json_t *body, json_t **out,
                            struct lend_error *error)
{
    struct http *http = &handle->http;
    char *text = text_of(body);

    if (text == NULL)
        return fail(error, LEND_E_NO_MEMORY, "no memory to ask etcd");
    enum lend_status status = http_ask(http, path, text, error);
    free(text);
    if (status != LEND_OK)
        return status;
    json_t *answer =
        json_loadb(http->answer.start, http->answer.count, JSON_DISABLE_EOF_CHECK, NULL);
    if (!json_is_object(answer)) {
        json_decref(answer);
        return fail(error, LEND_E_NO_PATH, "what answers at %s, with code %ld, is not etcd",
                    http->place.endpoints[http->endpoint], http->code);
    }
    if (http->code != 200) {
        status = refuse(handle, answer, error);
        json_decref(answer);
        return status;
    }
    *out = answer;
    return LEND_OK;
}

/* --- keys --- */

static json_t *key_of(const struct handle *handle, const char *name)
{
    char key[sizeof handle->http.place.prefix + 256];
    int length = snprintf(key, sizeof key, "%s%s", handle->http.place.prefix, name);

    return length > 0 && (size_t)length < sizeof key ? json_bytes(key, (size_t)length) : NULL;
}

/* Behind all keys of the prefix: its last byte, which is a slash, and one more. */
static json_t *end_of_keys(const struct handle *handle)
{
    char key[sizeof handle->http.place.prefix];
    size_t length = strlen(handle->http.place.prefix);

    memcpy(key, handle->http.place.prefix, length);
    key[length - 1]++;
    return json_bytes(key, length);
}

/* --- telling what there is --- */

/* The name that a key ends with; NULL: it is no key of ours. */
static const char *name_of(const struct handle *handle, const unsigned char *key, size_t count,
                           uint64_t *out_count)
{
    size_t length = strlen(handle->http.place.prefix);

    if (count <= length || memcmp(key, handle->http.place.prefix, length) != 0)
        return NULL;
    *out_count = count - length;
    return (const char *)key + length;
}

/* Tell of a key: what is there, or that it is gone. False: it makes no sense, or no memory. */
static bool tell(const struct handle *handle, const json_t *kv, bool is_gone,
                 const struct lend_directory_watcher *watcher)
{
    size_t key_bytes = 0, count = 0;
    uint64_t name_bytes = 0;
    unsigned char *key = bytes_of(kv, "key", &key_bytes);
    const char *name = key != NULL ? name_of(handle, key, key_bytes, &name_bytes) : NULL;
    unsigned char *value = name != NULL && !is_gone ? bytes_of(kv, "value", &count) : NULL;
    bool makes_sense = name != NULL && (is_gone || value != NULL);

    if (makes_sense && is_gone)
        watcher->gone(watcher->context, name, name_bytes);
    else if (makes_sense && count <= handle->entry_bytes_max)
        watcher->entry(watcher->context, name, name_bytes, value, count);
    free(key);
    free(value);
    return makes_sense;
}

/* --- the table: life --- */

static void etcd_close(void *object)
{
    struct handle *handle = object;

    if (handle == NULL)
        return;
    http_close(&handle->http);
    free(handle);
}

static enum lend_status etcd_open(const struct lend_directory_plugin_open *open, void **out,
                                  struct lend_error *error)
{
    if (open->struct_size < sizeof *open)
        return fail(error, LEND_E_VERSION, "lend is older than its plugin for etcd");
    struct handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL)
        return fail(error, LEND_E_NO_MEMORY, "no memory for a connection to etcd");
    handle->time_to_live_ns = open->time_to_live_ns;
    handle->entry_bytes_max = open->entry_bytes_max;
    handle->owner_bytes = open->owner_bytes;
    handle->http.answer_bytes_max = ANSWER_BYTES_MAX;
    enum lend_status status = place_parse(&handle->http.place, open->url, error);
    if (status == LEND_OK)
        status = http_open(&handle->http, open->timeout_ns, error);
    if (status != LEND_OK) {
        etcd_close(handle);
        return status;
    }
    *out = handle;
    return LEND_OK;
}

static void etcd_limit(void *object, uint64_t timeout_ns)
{
    struct handle *handle = object;

    handle->http.timeout_ns = timeout_ns;
}

static void etcd_interrupt(void *object)
{
    struct handle *handle = object;

    http_interrupt(&handle->http);
}

/* --- the table: our entry --- */

static enum lend_status grant(struct handle *handle, struct lend_error *error)
{
    json_int_t seconds = (json_int_t)((handle->time_to_live_ns + SECOND - 1) / SECOND);
    json_t *answer = NULL;

    enum lend_status status =
        ask(handle, "/v3/lease/grant", json_pack("{s:I}", "TTL", seconds), &answer, error);
    if (status != LEND_OK)
        return status;
    handle->lease = number_of(answer, "ID");
    json_decref(answer);
    return handle->lease != 0 ? LEND_OK
                              : fail(error, LEND_E_NO_PATH, "etcd grants a lease without a number");
}

/* Write the entry, if the revision of what is there is that which we know. */
static json_t *write_if_known(struct handle *handle, const char *name, const void *bytes,
                              uint64_t count)
{
    char revision[32], lease[32];

    (void)snprintf(revision, sizeof revision, "%lld", (long long)handle->revision);
    (void)snprintf(lease, sizeof lease, "%lld", (long long)handle->lease);
    return json_pack("{s:[{s:s, s:s, s:o, s:s}], s:[{s:{s:o, s:o, s:s}}], s:[{s:{s:o}}]}",
                     "compare", "target", "MOD", "result", "EQUAL", "key", key_of(handle, name),
                     "mod_revision", revision, "success", "request_put", "key",
                     key_of(handle, name), "value", json_bytes(bytes, (size_t)count), "lease",
                     lease, "failure", "request_range", "key", key_of(handle, name));
}

/* The transaction found another revision than we know: is it ours, after all, or gone? */
static enum lend_status adopt(struct handle *handle, const json_t *answer, const char *name,
                              const void *bytes, struct lend_error *error)
{
    const json_t *range =
        json_object_get(json_array_get(json_object_get(answer, "responses"), 0), "response_range");
    const json_t *kv = json_array_get(json_object_get(range, "kvs"), 0);
    size_t count = 0;

    if (kv == NULL) {
        handle->revision = 0;
        return LEND_OK;
    }
    unsigned char *value = bytes_of(kv, "value", &count);
    bool is_ours = value != NULL && count >= handle->owner_bytes &&
                   memcmp(value, bytes, (size_t)handle->owner_bytes) == 0;
    free(value);
    if (!is_ours)
        return fail(error, LEND_E_BUSY,
                    "another agent is published under the name %s; it is taken over when that "
                    "one's entry goes",
                    name);
    handle->revision = number_of(kv, "mod_revision");
    return LEND_OK;
}

/* One try. LEND_PENDING: another one may do. */
static enum lend_status try_to_put(struct handle *handle, const char *name, const void *bytes,
                                   uint64_t count, struct lend_error *error)
{
    json_t *answer = NULL;
    enum lend_status status = handle->lease == 0 ? grant(handle, error) : LEND_OK;

    if (status == LEND_OK)
        status =
            ask(handle, "/v3/kv/txn", write_if_known(handle, name, bytes, count), &answer, error);
    if (status == LEND_E_STALE) { /* the lease is over */
        handle->lease = 0;
        return LEND_PENDING;
    }
    if (status != LEND_OK)
        return status;
    if (json_is_true(json_object_get(answer, "succeeded"))) {
        handle->revision = number_of(json_object_get(answer, "header"), "revision");
    } else {
        status = adopt(handle, answer, name, bytes, error);
        status = status == LEND_OK ? LEND_PENDING : status;
    }
    json_decref(answer);
    return status;
}

static enum lend_status etcd_put(void *object, const char *name, const void *bytes, uint64_t count,
                                 struct lend_error *error)
{
    struct handle *handle = object;
    enum lend_status status = LEND_PENDING;

    http_begin(&handle->http);
    for (int i = 0; i < PUT_TRIES && status == LEND_PENDING; i++)
        status = try_to_put(handle, name, bytes, count, error);
    if (status == LEND_PENDING)
        return fail(error, LEND_E_NO_PATH, "the entry of %s changes under our hands", name);
    if (status == LEND_E_LIMIT)
        return fail(error, status,
                    "etcd at %s does not take an entry of %llu bytes (code %ld): its limits are "
                    "--max-request-bytes (1.5 MiB, if nothing else was said) and, for all entries, "
                    "--quota-backend-bytes",
                    handle->http.place.endpoints[handle->http.endpoint], (unsigned long long)count,
                    handle->http.code);
    return status;
}

static enum lend_status etcd_keep(void *object, struct lend_error *error)
{
    struct handle *handle = object;
    json_t *answer = NULL;
    char lease[32];

    if (handle->lease == 0)
        return fail(error, LEND_E_STALE, "nothing is published");
    http_begin(&handle->http);
    (void)snprintf(lease, sizeof lease, "%lld", (long long)handle->lease);
    enum lend_status status =
        ask(handle, "/v3/lease/keepalive", json_pack("{s:s}", "ID", lease), &answer, error);
    if (status == LEND_E_STALE)
        handle->lease = 0;
    if (status != LEND_OK)
        return status;
    bool is_alive = number_of(json_object_get(answer, "result"), "TTL") > 0;
    json_decref(answer);
    if (is_alive)
        return LEND_OK;
    handle->lease = 0;
    return fail(error, LEND_E_STALE, "the time of our entry has run out, or etcd has lost it");
}

static enum lend_status etcd_take_back(void *object, struct lend_error *error)
{
    struct handle *handle = object;
    json_t *answer = NULL;
    char lease[32];

    if (handle->lease == 0)
        return LEND_OK;
    http_begin(&handle->http);
    (void)snprintf(lease, sizeof lease, "%lld", (long long)handle->lease);
    enum lend_status status =
        ask(handle, "/v3/lease/revoke", json_pack("{s:s}", "ID", lease), &answer, error);
    json_decref(answer);
    handle->lease = 0;
    return status == LEND_E_STALE ? LEND_OK : status; /* it has gone by itself */
}

/* --- the table: those of others --- */

static enum lend_status etcd_find(void *object, const char *name,
                                  const struct lend_directory_watcher *watcher,
                                  struct lend_error *error)
{
    struct handle *handle = object;
    json_t *answer = NULL;

    http_begin(&handle->http);
    enum lend_status status = ask(handle, "/v3/kv/range",
                                  json_pack("{s:o}", "key", key_of(handle, name)), &answer, error);
    if (status != LEND_OK)
        return status;
    const json_t *kv = json_array_get(json_object_get(answer, "kvs"), 0);
    if (kv == NULL)
        status = fail(error, LEND_E_ABSENT, "etcd has no entry of %s", name);
    else if (!tell(handle, kv, false, watcher))
        status = fail(error, LEND_E_NO_PATH, "etcd's answer for %s makes no sense", name);
    json_decref(answer);
    return status;
}

/* The key behind the last of a page; NULL: there is none, or no memory. */
static json_t *key_behind(const json_t *kvs)
{
    const json_t *kv = json_array_get(kvs, json_array_size(kvs) - 1);
    size_t count = 0;
    unsigned char *key = json_array_size(kvs) > 0 ? bytes_of(kv, "key", &count) : NULL;
    /* With the NUL behind it, it is the next key that there could be. */
    json_t *next = key != NULL ? json_bytes(key, count + 1) : NULL;

    free(key);
    return next;
}

/* Tell a page of the listing from that key on, which becomes ours; the next one's key, or NULL. */
static enum lend_status tell_page(struct handle *handle,
                                  const struct lend_directory_watcher *watcher, json_t **key,
                                  json_int_t *revision, struct lend_error *error)
{
    json_t *answer = NULL;
    json_t *body = json_pack("{s:o, s:o, s:i, s:I}", "key", *key, "range_end", end_of_keys(handle),
                             "limit", (int)PAGE_ENTRIES, "revision", *revision);
    *key = NULL;
    http_begin(&handle->http);
    enum lend_status status = ask(handle, "/v3/kv/range", body, &answer, error);
    if (status != LEND_OK)
        return status == LEND_E_STALE ? fail(error, LEND_E_NO_PATH, "etcd lists nothing") : status;
    const json_t *kvs = json_object_get(answer, "kvs");
    for (size_t i = 0; i < json_array_size(kvs); i++)
        (void)tell(handle, json_array_get(kvs, i), false, watcher);
    if (*revision == 0)
        *revision = number_of(json_object_get(answer, "header"), "revision");
    if (json_is_true(json_object_get(answer, "more"))) {
        *key = key_behind(kvs);
        if (*key == NULL)
            status = fail(error, LEND_E_NO_PATH, "etcd's listing makes no sense");
    }
    json_decref(answer);
    if (status == LEND_OK && *revision <= 0)
        status = fail(error, LEND_E_NO_PATH, "etcd's listing is of no revision");
    return status;
}

static enum lend_status list(struct handle *handle, const struct lend_directory_watcher *watcher,
                             json_int_t *out_revision, struct lend_error *error)
{
    json_t *key = key_of(handle, "");
    enum lend_status status = LEND_OK;

    *out_revision = 0;
    do {
        if (atomic_load(&handle->http.is_interrupted))
            status = fail(error, LEND_E_CANCELED, "interrupted");
        else
            status = tell_page(handle, watcher, &key, out_revision, error);
    } while (status == LEND_OK && key != NULL);
    json_decref(key);
    if (status == LEND_OK)
        watcher->listed(watcher->context);
    return status;
}

/* A watch under way. */
struct stream {
    struct handle *handle;
    const struct lend_directory_watcher *watcher;
    struct http_listener listener;
    json_int_t next; /* the revision that is to be told next */
};

static void tell_events(struct stream *stream, const json_t *result)
{
    const json_t *events = json_object_get(result, "events");

    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);
        const char *type = json_string_value(json_object_get(event, "type"));
        const json_t *kv = json_object_get(event, "kv");

        (void)tell(stream->handle, kv, type != NULL && strcmp(type, "DELETE") == 0,
                   stream->watcher);
        if (number_of(kv, "mod_revision") >= stream->next)
            stream->next = number_of(kv, "mod_revision") + 1;
    }
}

static enum lend_status take_line(void *context, const char *line, size_t length,
                                  struct lend_error *error)
{
    struct stream *stream = context;
    enum lend_status status = LEND_OK;
    json_t *answer = json_loadb(line, length, 0, NULL);
    const json_t *result = json_object_get(answer, "result");

    if (!json_is_object(result))
        status = fail(error, LEND_E_NO_PATH, "etcd ends the watch: %.120s",
                      json_is_object(answer) ? "an error" : "an answer that makes no sense");
    else if (json_is_true(json_object_get(result, "canceled")))
        status = fail(error, LEND_E_NO_PATH,
                      "etcd ends the watch; what it was to tell may be compacted away (revision "
                      "%lld)",
                      (long long)number_of(result, "compact_revision"));
    else
        tell_events(stream, result);
    stream->listener.has_begun = true;
    json_decref(answer);
    return status;
}

/* Once, for as long as a watch lives. */
static enum lend_status listen_once(struct stream *stream, struct lend_error *error)
{
    struct handle *handle = stream->handle;
    char revision[32];

    (void)snprintf(revision, sizeof revision, "%lld", (long long)stream->next);
    char *text =
        text_of(json_pack("{s:{s:o, s:o, s:s}}", "create_request", "key", key_of(handle, ""),
                          "range_end", end_of_keys(handle), "start_revision", revision));
    /* The key of an agent without a name; and the answer is one of the whole cluster. */
    char *probe = text_of(json_pack("{s:o}", "key", key_of(handle, "")));
    enum lend_status status = LEND_E_NO_MEMORY;

    stream->listener = (struct http_listener){
        .line = take_line,
        .context = stream,
        .probe_path = "/v3/kv/range",
        .probe_body = probe,
        .life_ns = WATCH_SECONDS * SECOND,
    };
    http_begin(&handle->http);
    if (text != NULL && probe != NULL)
        status = http_listen(&handle->http, "/v3/watch", text, &stream->listener, error);
    else
        (void)fail(error, status, "no memory to watch etcd");
    free(text);
    free(probe);
    return status;
}

static enum lend_status etcd_watch(void *object, const struct lend_directory_watcher *watcher,
                                   struct lend_error *error)
{
    struct handle *handle = object;
    struct stream stream = {.handle = handle, .watcher = watcher};

    enum lend_status status = list(handle, watcher, &stream.next, error);
    stream.next++;
    while (status == LEND_OK)
        status = listen_once(&stream, error);
    if (status == LEND_E_TIMEOUT || status == LEND_E_NO_PATH)
        http_turn(&handle->http);
    return status;
}

/* --- the one exported function --- */

__attribute__((visibility("default"))) lend_directory_plugin_entry lend_directory_plugin_1;

const struct lend_directory_plugin *lend_directory_plugin_1(void)
{
    static const struct lend_directory_plugin plugin = {
        .struct_size = sizeof plugin,
        .abi = LEND_DIRECTORY_PLUGIN_ABI,
        .name = "etcd, by libcurl " LIBCURL_VERSION,
        .open = etcd_open,
        .close = etcd_close,
        .put = etcd_put,
        .keep = etcd_keep,
        .take_back = etcd_take_back,
        .find = etcd_find,
        .watch = etcd_watch,
        .limit = etcd_limit,
        .interrupt = etcd_interrupt,
    };

    return &plugin;
}
