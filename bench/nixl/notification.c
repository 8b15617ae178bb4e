/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include "pair.h"

enum { MESSAGE_BYTES = 32, WARM_UP = 100 };

static const char message[MESSAGE_BYTES];
static const char *library_of_peer;

static void await(struct side *side, nixl_capi_notif_map_t map)
{
    size_t size = 0;

    while (size == 0) {
        DO(side->api.get_notifs(side->agent, map, NULL));
        DO(side->api.notif_map_size(map, &size));
    }
    DO(side->api.notif_map_clear(map));
}

static nixl_capi_notif_map_t meet(struct side *side, struct pair *pair, const char *name)
{
    nixl_capi_notif_map_t map;

    side_open(side, library_of_peer, name, 1 << 20);
    (void)pair_export(side, pair);
    (void)pair_import(side, pair);
    DO(side->api.create_notif_map(&map));
    return map;
}

static void serve(struct side *side, struct pair *pair, uint64_t count)
{
    char over;
    nixl_capi_notif_map_t map = meet(side, pair, "pong");

    for (uint64_t i = 0; i < count + WARM_UP; i++) {
        await(side, map);
        DO(side->api.gen_notif(side->agent, "ping", message, sizeof message, NULL));
    }
    pair_receive(pair, &over, sizeof over);
}

void measure_notification(const char *library, uint64_t count)
{
    struct side side;
    struct pair pair;

    library_of_peer = library;
    pair_start(&pair, count, serve);
    nixl_capi_notif_map_t map = meet(&side, &pair, "ping");

    for (uint64_t i = 0; i < count + WARM_UP; i++) {
        uint64_t began = now_ns();

        DO(side.api.gen_notif(side.agent, "pong", message, sizeof message, NULL));
        await(&side, map);
        if (i >= WARM_UP)
            sample_give("notification, round trip", 1, MESSAGE_BYTES, (double)(now_ns() - began));
    }
    pair_send(&pair, "", 1);
}
