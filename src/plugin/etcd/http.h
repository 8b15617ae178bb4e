/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_PLUGIN_ETCD_HTTP_H
#define LEND_PLUGIN_ETCD_HTTP_H

#include "text.h"

#include <curl/curl.h>
#include <stdatomic.h>
#include <stdint.h>

/*
 * Asking one of several endpoints over HTTP: the one that answered last, and should it not answer,
 * the next. Every call has a deadline, and can be interrupted from another thread. Each may ask
 * several times: http_begin() says when it begins.
 */

struct bytes {
    char *start;
    size_t count;
    size_t room;
};

/* A second connection, on which an endpoint whose answer is silent is asked whether it is there. */
struct probe {
    CURL *easy;
    bool is_asked;
    uint64_t due_ns; /* the answer, if it is asked; if not, the next question */
};

struct http {
    struct place place;
    uint64_t timeout_ns; /* of a call */
    uint64_t until_ns;   /* of the one that is under way */
    size_t answer_bytes_max;
    CURLM *multi;
    CURL *easy;
    struct probe probe;
    struct curl_slist *headers;
    unsigned endpoint; /* in use */
    _Atomic bool is_interrupted;
    struct bytes answer;
    bool is_too_long; /* the answer */
    long code;        /* of HTTP */
    char why[CURL_ERROR_SIZE];
};

enum lend_status http_open(struct http *http, uint64_t timeout_ns, struct lend_error *error);
void http_close(struct http *http);
void http_interrupt(struct http *http);

/* A call begins: all that is asked from now on ends within timeout_ns. */
void http_begin(struct http *http);

/* Ask, and have the whole answer in http->answer, with a NUL behind it, and its code.
 * LEND_E_TIMEOUT, LEND_E_NO_PATH, LEND_E_CANCELED, LEND_E_NO_MEMORY. */
enum lend_status http_ask(struct http *http, const char *path, const char *body,
                          struct lend_error *error);

/* Somebody to whom the lines of an answer without an end are given, as they come. Whatever is not
 * LEND_OK ends it, and LEND_PENDING without it being a failure. */
struct http_listener {
    enum lend_status (*line)(void *context, const char *line, size_t length,
                             struct lend_error *error);
    void *context;
    const char *probe_path; /* what is asked now and then, */
    const char *probe_body; /* while the answer may be silent */
    bool has_begun;   /* set by line(): the answer is under way, and may be silent from now on */
    uint64_t life_ns; /* end it after that time */
};

/* LEND_OK: its life is over. LEND_E_TIMEOUT: it does not begin in time, or it is silent, and so is
 * the endpoint when it is asked. */
enum lend_status http_listen(struct http *http, const char *path, const char *body,
                             struct http_listener *listener, struct lend_error *error);

/* The next endpoint is to be asked, whatever this one says. */
void http_turn(struct http *http);

#endif
