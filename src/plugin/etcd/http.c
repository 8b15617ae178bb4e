/* SPDX-License-Identifier: Apache-2.0 */
#include "http.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS UINT64_C(1000000)

/* One look at what happens takes so long at most; an interruption ends it at once. */
enum { LOOK_MS = 500, KEEP_ALIVE_SECONDS = 5, SILENCE_MS = 15000 };

#define PROBE_NS (3000 * MS) /* between two questions to an endpoint whose answer is silent */

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

/* --- life --- */

static CURLcode initialised;

static void initialise(void)
{
    initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
}

enum lend_status http_open(struct http *http, uint64_t timeout_ns, struct lend_error *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, initialise);
    if (initialised != CURLE_OK)
        return fail(error, LEND_E_SYSTEM, "libcurl: %s", curl_easy_strerror(initialised));
    http->timeout_ns = timeout_ns;
    http->multi = curl_multi_init();
    http->easy = curl_easy_init();
    http->probe.easy = curl_easy_init();
    http->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (http->multi == NULL || http->easy == NULL || http->probe.easy == NULL ||
        http->headers == NULL)
        return fail(error, LEND_E_NO_MEMORY, "no memory for a connection to etcd");
    return LEND_OK;
}

void http_close(struct http *http)
{
    if (http->multi != NULL)
        (void)curl_multi_cleanup(http->multi);
    if (http->easy != NULL)
        curl_easy_cleanup(http->easy);
    if (http->probe.easy != NULL)
        curl_easy_cleanup(http->probe.easy);
    curl_slist_free_all(http->headers);
    free(http->answer.start);
}

void http_interrupt(struct http *http)
{
    atomic_store(&http->is_interrupted, true);
    (void)curl_multi_wakeup(http->multi);
}

void http_begin(struct http *http)
{
    uint64_t now = now_ns();

    http->until_ns = http->timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + http->timeout_ns;
}

void http_turn(struct http *http)
{
    http->endpoint = (http->endpoint + 1) % http->place.endpoint_count;
}

/* --- one request --- */

/* Append to the answer. False: it becomes too long, or there is no memory. */
static bool append(struct http *http, const char *bytes, size_t count)
{
    struct bytes *answer = &http->answer;

    if (count > http->answer_bytes_max - answer->count) {
        http->is_too_long = true;
        return false;
    }
    if (answer->count + count + 1 > answer->room) {
        size_t room = (answer->count + count + 1) * 2;
        char *grown = realloc(answer->start, room);

        if (grown == NULL)
            return false;
        answer->start = grown;
        answer->room = room;
    }
    memcpy(answer->start + answer->count, bytes, count);
    answer->count += count;
    answer->start[answer->count] = '\0';
    return true;
}

static size_t take(char *bytes, size_t size, size_t count, void *context)
{
    return append(context, bytes, size * count) ? size * count : 0;
}

/* What an endpoint says when it is probed is of no interest. */
static size_t ignore(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes;
    (void)context;
    return size * count;
}

/* A host that is gone is noticed though nothing is under way. */
static int prepare_socket(void *context, curl_socket_t fd, curlsocktype purpose)
{
    const unsigned silence_ms = SILENCE_MS;

    (void)context;
    (void)purpose;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof silence_ms);
    return CURL_SOCKOPT_OK;
}

static CURLcode first_failure(const CURLcode *codes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (codes[i] != CURLE_OK)
            return codes[i];
    return CURLE_OK;
}

/* What all requests have in common. */
static CURLcode set_up_one(const struct http *http, CURL *easy, const char *path, const char *body)
{
    char url[ENDPOINT_BYTES_MAX + 64];

    (void)snprintf(url, sizeof url, "%s://%s%s", http->place.is_tls ? "https" : "http",
                   http->place.endpoints[http->endpoint], path);
    curl_easy_reset(easy);
    const CURLcode codes[] = {
        curl_easy_setopt(easy, CURLOPT_URL, url),
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, http->place.is_tls ? "https" : "http"),
        curl_easy_setopt(easy, CURLOPT_PROXY, ""), /* the environment has no say */
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L),
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, http->headers),
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body)),
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body),
        curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, prepare_socket),
        curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L),
        curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEP_ALIVE_SECONDS),
        curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEP_ALIVE_SECONDS),
#if LIBCURL_VERSION_NUM >= 0x075700
        /* Who looks names up may be left to itself; see meson.build. */
        curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L),
#endif
    };

    return first_failure(codes, sizeof codes / sizeof codes[0]);
}

static CURLcode set_up(struct http *http, const char *path, const char *body)
{
    http->answer.count = 0;
    http->is_too_long = false;
    http->code = 0;
    http->why[0] = '\0';
    const CURLcode codes[] = {
        set_up_one(http, http->easy, path, body),
        curl_easy_setopt(http->easy, CURLOPT_ERRORBUFFER, http->why),
        curl_easy_setopt(http->easy, CURLOPT_WRITEFUNCTION, take),
        curl_easy_setopt(http->easy, CURLOPT_WRITEDATA, http),
        append(http, "", 0) ? CURLE_OK : CURLE_OUT_OF_MEMORY,
    };

    return first_failure(codes, sizeof codes / sizeof codes[0]);
}

/* --- the probe --- */

static void end_probe(struct http *http)
{
    if (http->probe.is_asked)
        (void)curl_multi_remove_handle(http->multi, http->probe.easy);
    http->probe.is_asked = false;
    http->probe.due_ns = now_ns() + PROBE_NS;
}

/* It has been answered, or not. What a server says of its own trouble is 5xx. */
static CURLcode take_probe(struct http *http, CURLcode code)
{
    long said = 0;

    (void)curl_easy_getinfo(http->probe.easy, CURLINFO_RESPONSE_CODE, &said);
    end_probe(http);
    return code == CURLE_OK && said >= 500 ? CURLE_HTTP_RETURNED_ERROR : code;
}

/* Probe when it is time to. */
static enum lend_status probe(struct http *http, const struct http_listener *listener, uint64_t now,
                              struct lend_error *error)
{
    const char *endpoint = http->place.endpoints[http->endpoint];

    if (now < http->probe.due_ns)
        return LEND_OK;
    if (http->probe.is_asked)
        return fail(error, LEND_E_TIMEOUT,
                    "etcd at %s tells nothing, and does not answer in %llu ms whether it is there",
                    endpoint, (unsigned long long)(http->timeout_ns / MS));
    if (set_up_one(http, http->probe.easy, listener->probe_path, listener->probe_body) !=
            CURLE_OK ||
        curl_easy_setopt(http->probe.easy, CURLOPT_WRITEFUNCTION, ignore) != CURLE_OK ||
        curl_multi_add_handle(http->multi, http->probe.easy) != CURLM_OK)
        return fail(error, LEND_E_NO_MEMORY, "no memory to ask %s", endpoint);
    http->probe.is_asked = true;
    http_begin(http);
    http->probe.due_ns = http->until_ns;
    return LEND_OK;
}

/* --- the course of a request --- */

/* How libcurl says that the request has ended; CURLE_OK with *out_is_over false: it has not. */
static CURLcode look(struct http *http, bool *out_is_over)
{
    int running = 0, left = 0;
    const CURLMcode code = curl_multi_perform(http->multi, &running);
    CURLcode result = CURLE_OK;
    const CURLMsg *message;

    *out_is_over = code != CURLM_OK;
    if (code != CURLM_OK)
        return CURLE_FAILED_INIT;
    while (!*out_is_over && (message = curl_multi_info_read(http->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE)
            continue;
        *out_is_over = message->easy_handle == http->easy;
        /* The message goes with its handle. */
        result = message->data.result;
        if (!*out_is_over)
            result = take_probe(http, result);
        *out_is_over |= result != CURLE_OK;
    }
    return result;
}

static enum lend_status explain(struct http *http, CURLcode code, struct lend_error *error)
{
    const char *endpoint = http->place.endpoints[http->endpoint];

    if (code == CURLE_OUT_OF_MEMORY)
        return fail(error, LEND_E_NO_MEMORY, "no memory to ask %s", endpoint);
    if (http->is_too_long)
        return fail(error, LEND_E_NO_PATH, "%s answers with more than %zu bytes", endpoint,
                    http->answer_bytes_max);
    return fail(error, code == CURLE_OPERATION_TIMEDOUT ? LEND_E_TIMEOUT : LEND_E_NO_PATH,
                "etcd at %s: %s", endpoint,
                http->why[0] != '\0' ? http->why : curl_easy_strerror(code));
}

/* Wait for something to happen, at most until then. */
static void wait_until(struct http *http, uint64_t now, uint64_t until_ns)
{
    uint64_t left = until_ns > now ? (until_ns - now) / MS + 1 : 1;

    (void)curl_multi_poll(http->multi, NULL, 0, left < LOOK_MS ? (int)left : LOOK_MS, NULL);
}

/* Give a listener the lines that are there; the rest stays. */
static enum lend_status give_lines(struct http *http, struct http_listener *listener,
                                   struct lend_error *error)
{
    struct bytes *answer = &http->answer;
    enum lend_status status = LEND_OK;
    size_t given = 0;

    while (status == LEND_OK) {
        const char *at = answer->start + given;
        const char *end = memchr(at, '\n', answer->count - given);

        if (end == NULL)
            break;
        status = listener->line(listener->context, at, (size_t)(end - at), error);
        given += (size_t)(end - at) + 1;
    }
    answer->count -= given;
    memmove(answer->start, answer->start + given, answer->count + 1);
    return status;
}

/* The request is over. */
static enum lend_status conclude(struct http *http, CURLcode code, bool is_listening,
                                 struct lend_error *error)
{
    if (code != CURLE_OK)
        return explain(http, code, error);
    (void)curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &http->code);
    return is_listening ? fail(error, LEND_E_NO_PATH, "etcd at %s has ended the watch",
                               http->place.endpoints[http->endpoint])
                        : LEND_OK;
}

/* A request that has been set up, until its end. */
static enum lend_status run(struct http *http, uint64_t until_ns, struct http_listener *listener,
                            struct lend_error *error)
{
    const uint64_t began_ns = now_ns();

    http->probe.due_ns = began_ns + PROBE_NS;
    for (;;) {
        bool is_over = false;
        uint64_t now = now_ns();

        if (atomic_load(&http->is_interrupted))
            return fail(error, LEND_E_CANCELED, "interrupted");
        CURLcode code = look(http, &is_over);
        if (listener != NULL && http->answer.count > 0) {
            enum lend_status status = give_lines(http, listener, error);

            if (status != LEND_OK)
                return status;
        }
        if (is_over)
            return conclude(http, code, listener != NULL, error);

        bool is_silent = listener != NULL && listener->has_begun;
        uint64_t end_ns = is_silent ? began_ns + listener->life_ns : until_ns;
        if (now >= end_ns)
            return is_silent ? LEND_OK
                             : fail(error, LEND_E_TIMEOUT, "etcd at %s does not answer",
                                    http->place.endpoints[http->endpoint]);
        if (is_silent) {
            enum lend_status status = probe(http, listener, now, error);

            if (status != LEND_OK)
                return status;
            end_ns = http->probe.due_ns < end_ns ? http->probe.due_ns : end_ns;
        }
        wait_until(http, now, end_ns);
    }
}

static enum lend_status ask_one(struct http *http, const char *path, const char *body,
                                uint64_t until_ns, struct http_listener *listener,
                                struct lend_error *error)
{
    const CURLcode code = set_up(http, path, body);

    if (code != CURLE_OK)
        return explain(http, code, error);
    if (curl_multi_add_handle(http->multi, http->easy) != CURLM_OK)
        return fail(error, LEND_E_NO_MEMORY, "no memory to ask etcd");
    enum lend_status status = run(http, until_ns, listener, error);
    end_probe(http);
    (void)curl_multi_remove_handle(http->multi, http->easy);
    return status;
}

/* Is it for the next endpoint to answer? What it says of a server's own trouble is 5xx. */
static bool is_for_next(const struct http *http, enum lend_status status)
{
    return status == LEND_E_TIMEOUT || status == LEND_E_NO_PATH ||
           (status == LEND_OK && http->code >= 500);
}

enum lend_status http_ask(struct http *http, const char *path, const char *body,
                          struct lend_error *error)
{
    enum lend_status status = LEND_E_TIMEOUT;

    for (unsigned left = http->place.endpoint_count; left > 0; left--) {
        uint64_t now = now_ns();
        uint64_t share_ns = now < http->until_ns ? (http->until_ns - now) / left : 0;

        status = ask_one(http, path, body, now + share_ns, NULL, error);
        if (!is_for_next(http, status))
            break;
        http_turn(http);
    }
    return status;
}

enum lend_status http_listen(struct http *http, const char *path, const char *body,
                             struct http_listener *listener, struct lend_error *error)
{
    return ask_one(http, path, body, http->until_ns, listener, error);
}
