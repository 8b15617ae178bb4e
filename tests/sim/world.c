/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include "double.h"
#include "transport/loopback/fabric.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The fabric and the system have one context each, and a history runs alone. */
static struct sim *current;
static struct lend_sys_ops seeded;

static uint64_t next(uint64_t *random)
{
    uint64_t z = (*random += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t draw(struct sim *sim, uint64_t bound)
{
    return next(&sim->random) % bound;
}

bool chance(struct sim *sim, uint32_t percent)
{
    return draw(sim, 100) < percent;
}

bool complain(struct sim *sim, const char *format, ...)
{
    va_list arguments;

    if (sim->report->is_good) {
        va_start(arguments, format);
        (void)vsnprintf(sim->report->why, sizeof sim->report->why, format, arguments);
        va_end(arguments);
    }
    sim->report->is_good = false;
    return false;
}

void tell(struct sim *sim, const char *format, ...)
{
    va_list arguments;

    if (!sim->options->is_told)
        return;
    va_start(arguments, format);
    (void)printf("%10.3f ms  ", (double)now_ns() / (double)MS - 1000);
    (void)vprintf(format, arguments);
    (void)printf("\n");
    va_end(arguments);
}

bool expect(struct sim *sim, enum lend_status status, enum lend_status wanted, const char *what,
            const struct lend_error *error)
{
    note(sim, (uint64_t)(int64_t)status);
    if (status == wanted)
        return true;
    return complain(sim, "%s: %s (%s), not %s", what, lend_status_name(status),
                    status < 0 ? error->message : "", lend_status_name(wanted));
}

void note(struct sim *sim, uint64_t what)
{
    sim->report->history = (sim->report->history ^ what) * UINT64_C(0x100000001b3);
}

uint64_t now_ns(void)
{
    return lend_sys->now_ns();
}

void advance(uint64_t duration_ns)
{
    double_clock_advance(duration_ns);
    lend_fabric_tick();
}

void progress(struct sim *sim, struct party *party, uint32_t times)
{
    struct lend_error error;

    for (uint32_t i = 0; i < times; i++) {
        lend_fabric_tick();
        enum lend_status status = lend_agent_progress(party->agent, 0, &error);
        if (status != LEND_OK && status != LEND_E_TIMEOUT)
            (void)expect(sim, status, LEND_OK, "progress", &error);
        note(sim, status == LEND_OK);
    }
}

/* --- the fabric --- */

static struct lend_fabric_verdict storm(struct sim *sim, const struct lend_fabric_frame *frame)
{
    struct lend_fabric_verdict verdict = {.action = LEND_FABRIC_DELIVER};
    uint64_t luck = next(&sim->random_of_fabric) % 1000;

    if (luck < 4)
        verdict.action = LEND_FABRIC_DROP;
    else if (luck < 8)
        verdict.action = LEND_FABRIC_SWAP;
    else if (luck < 12)
        verdict.action = LEND_FABRIC_CORRUPT;
    else
        return verdict;
    tell(sim, "frame of type %u is lost, swapped or corrupt (%u)", frame->header[3],
         verdict.action);
    verdict.until_ns = now_ns() + 3 * MS;
    /* Data carry no checksum: what carries them is trusted to keep them whole. */
    verdict.bit = (uint32_t)next(&sim->random_of_fabric);
    if (frame->header[3] == LEND_FRAME_DATA)
        verdict.bit %= LEND_FRAME_HEADER_BYTES * 8;
    return verdict;
}

static struct lend_fabric_verdict judge(void *context, const struct lend_fabric_frame *frame)
{
    struct sim *sim = *(struct sim **)context;
    uint64_t luck = next(&sim->random_of_fabric) % 100;

    note(sim, luck << 32 | frame->count);
    if (sim->report->weather != SIM_FAIR && luck < 20)
        return (struct lend_fabric_verdict){.action = LEND_FABRIC_DELAY,
                                            .until_ns =
                                                now_ns() + next(&sim->random_of_fabric) % (2 * MS)};
    if (sim->report->weather == SIM_STORMY)
        return storm(sim, frame);
    return (struct lend_fabric_verdict){.action = LEND_FABRIC_DELIVER};
}

static const struct lend_fabric fabric = {.judge = judge, .context = &current};

void cut_links(struct sim *sim, struct party *party, bool is_loud)
{
    for (uint32_t i = 0; i < PARTIES; i++)
        sim->is_lost[i][party->index] = sim->is_lost[party->index][i] = true;
    tell(sim, "the links of party %u are cut%s", party->index, is_loud ? "" : ", in silence");
    lend_fabric_cut(party->incarnations[party->life], is_loud);
}

/* --- the system --- */

static int seeded_random(void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)next(&current->random_of_system);
    return 0;
}

bool open_world(struct sim *sim, uint64_t seed)
{
    current = sim;
    sim->random = seed;
    sim->random_of_fabric = seed ^ UINT64_C(0xfab41c);
    sim->random_of_system = seed ^ UINT64_C(0x575e8);
    sim->report->weather = (uint32_t)draw(sim, 3);
    for (uint32_t i = 0; i < PARTIES * PARTIES; i++)
        sim->is_lost[i / PARTIES][i % PARTIES] = sim->report->weather == SIM_STORMY;

    double_install(-1);
    double_clock_set(1000 * MS, 50);
    seeded = *lend_sys;
    seeded.random = seeded_random;
    lend_sys = &seeded;
    lend_fabric_install(&fabric);
    for (uint32_t i = 0; i < PARTIES; i++) {
        sim->parties[i].index = i;
        if (!start_party(sim, &sim->parties[i]))
            return false;
    }
    return true;
}

void close_world(struct sim *sim)
{
    for (uint32_t i = 0; i < PARTIES; i++)
        stop_party(sim, &sim->parties[i], false);
    for (uint32_t i = 0; i < sim->lease_count; i++)
        free(sim->leases[i].snapshot);
    lend_fabric_install(NULL);
    (void)double_remove(); /* fails the test if anything was leaked */
    current = NULL;
}

/* --- agents --- */

/* May its owner think that the peer is dead for which the lease is? */
static bool was_left(const struct sim *sim, const struct lease *lease)
{
    return lease->named >= 0 && (lease->named_life != sim->parties[lease->named].life ||
                                 sim->is_lost[lease->owner][lease->named]);
}

static void hear_of_end(void *context, const struct lend_lease_info *info)
{
    struct sim *sim = context;
    struct lease *lease = &sim->leases[info->user_data];

    note(sim, info->user_data << 8 | (uint8_t)-info->status);
    tell(sim, "lease %u has ended: %s", (unsigned)info->user_data, lend_status_name(info->status));
    if (lease->end_calls++ > 0)
        (void)complain(sim, "lease %u was told to have ended twice", (unsigned)info->user_data);
    if (info->status == LEND_OK || info->status == LEND_PENDING)
        (void)complain(sim, "lease %u has ended as %s", (unsigned)info->user_data,
                       lend_status_name(info->status));
    if (info->status == LEND_E_REVOKED && !lease->may_be_revoked)
        (void)complain(sim, "lease %u was revoked by nobody", (unsigned)info->user_data);
    if (info->status == LEND_E_EXPIRED &&
        (lease->expires_ns == 0 || lend_sys->now_ns() < lease->expires_ns))
        (void)complain(sim, "lease %u expired before its time", (unsigned)info->user_data);
    if (info->status == LEND_E_CONSUMED && !may_be_consumed(sim, lease))
        (void)complain(sim, "lease %u was consumed by nobody", (unsigned)info->user_data);
    if (info->status == LEND_E_PEER_DEAD && !was_left(sim, lease))
        (void)complain(sim, "lease %u ended by the death of nobody", (unsigned)info->user_data);
    if (lease->owner_life == sim->parties[lease->owner].life)
        end_lease(sim, lease);
}

bool start_party(struct sim *sim, struct party *party)
{
    char name[16];
    struct lend_agent_config config = LEND_AGENT_CONFIG_INIT;
    struct lend_error error;

    (void)snprintf(name, sizeof name, "party-%u", party->index);
    config.name = name;
    config.flags = LEND_AGENT_MANUAL_PROGRESS;
    config.transports = "loopback";
    config.on_lease_end = hear_of_end;
    config.context = sim;
    config.leases_max = 8;
    config.slot_rest_ns = 2 * MS;
    config.local_ring_bytes = 131072;
    config.notification_window_bytes = 8192;
    config.spin_ns = 1;
    /* In a storm the greeting may be lost. */
    config.connect_timeout_ns = sim->report->weather == SIM_STORMY ? 50 * MS : 60000 * MS;
    enum lend_status status = lend_agent_create(&config, &party->agent, &error);
    if (!expect(sim, status, LEND_OK, "create", &error))
        return false;
    lend_agent_incarnation(party->agent, party->incarnations[party->life]);
    return true;
}

/* What others may now see of a party that dies, and what is left of its own. */
static void bury(struct sim *sim, struct party *party)
{
    bool is_stormy = sim->report->weather == SIM_STORMY;

    for (uint32_t i = 0; i < TRANSFERS; i++)
        free_transfer(&party->transfers[i]);
    for (uint32_t i = 0; i < LOANS; i++) {
        free(party->loans[i].memory);
        free(party->loans[i].shadow);
        party->loans[i] = (struct loan){.life = party->loans[i].life + 1};
    }
    for (uint32_t i = 0; i < PARTIES; i++) {
        party->others[i] = (struct acquaintance){0};
        sim->is_lost[i][party->index] = sim->is_lost[party->index][i] = is_stormy;
        sim->heard[i][party->index] = sim->heard[party->index][i] = 0;
    }
    for (uint32_t i = 0; i < sim->lease_count; i++)
        if (sim->leases[i].owner == party->index)
            sim->leases[i].handle = NULL;
}

void stop_party(struct sim *sim, struct party *party, bool is_silent)
{
    if (party->agent == NULL)
        return;
    tell(sim, "party %u dies%s", party->index, is_silent ? " unseen" : "");
    if (is_silent)
        cut_links(sim, party, false);
    for (uint32_t i = 0; i < LOANS; i++)
        revoke_leases(sim, party->index, i, UINT32_MAX);
    for (uint32_t i = 0; i < sim->lease_count; i++) /* a death counts as done, where it is seen */
        sim->leases[i].may_be_consumed = true;
    lend_agent_destroy(party->agent);
    party->agent = NULL;
    for (uint32_t i = 0; i < LOANS; i++)
        (void)check_loan(sim, party, &party->loans[i]);
    bury(sim, party);
    party->life++;
}
