/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"
#include "sanitizer.h"

#include "tool/hosts.h"

enum { OWNER, READER }; /* the two hosts */

const struct battery_setup *battery_current;
const char *battery_nics[2];

static struct hosts hosts;

const char *battery_address(const struct battery_setup *setup, bool is_owner)
{
    static char text[HOSTS][64];
    int host = is_owner ? OWNER : READER;
    bool is_v6 = (setup->flags & BATTERY_IPV6) != 0;

    if ((setup->flags & BATTERY_HOSTS) == 0)
        return is_v6 ? "[::1]" : "127.0.0.1";
    (void)snprintf(text[host], sizeof text[host], is_v6 ? "[%s]" : "%s",
                   is_v6 ? hosts_ipv6[host] : hosts_ipv4[host]);
    return text[host];
}

const char *battery_secret(const struct battery_setup *setup, bool of_owner)
{
    if ((setup->flags & BATTERY_SECRETS) != 0)
        return of_owner ? "what the owner wants to hear" : "what the reader wants to hear";
    return (setup->flags & BATTERY_SECRET) != 0 ? "what the two of them know" : NULL;
}

struct lend_import_desc battery_import(const struct battery_setup *setup, bool of_owner)
{
    struct lend_import_desc desc = LEND_IMPORT_DESC_INIT;

    if ((setup->flags & BATTERY_SECRETS) != 0) {
        desc.secret = battery_secret(setup, of_owner);
        desc.secret_bytes = (uint32_t)strlen(desc.secret);
    }
    return desc;
}

const char *battery_device(const struct battery_setup *setup)
{
    return (setup->flags & BATTERY_HOSTS) != 0 ? HOSTS_DEVICE : "lo";
}

/* UCX goes by /sys, and has to see that host's. */
static enum lend_status enter(const struct battery_setup *setup, int host, struct lend_error *error)
{
    return strcmp(setup->transports, "ucx") == 0 ? hosts_move_to(&hosts, host, error)
                                                 : hosts_enter(&hosts, host, error);
}

bool battery_enter_owner(const struct battery_setup *setup)
{
    struct lend_error error = {0};

    if ((setup->flags & BATTERY_HOSTS) == 0 || enter(setup, OWNER, &error) == LEND_OK)
        return true;
    (void)fprintf(stderr, "%s: %s\n", setup->name, error.message);
    return false;
}

/* Make both hosts, and go to the reader's. False: this setup is left out, or has failed. */
static bool go_to_hosts(int *failures)
{
    struct lend_error error = {0};
    enum lend_status status = hosts_open(&hosts, &error);

    if (status == LEND_E_ACCESS || status == LEND_E_ABSENT) {
        print_message("%s: left out: %s\n", battery_current->name, error.message);
        return false;
    }
    if (status == LEND_OK)
        status = enter(battery_current, READER, &error);
    if (status == LEND_OK)
        return true;
    print_error("%s: %s\n", battery_current->name, error.message);
    ++*failures;
    return false;
}

static void leave_hosts(int *failures)
{
    struct lend_error error = {0};

    if (hosts_leave(&hosts, &error) != LEND_OK) {
        print_error("%s: %s\n", battery_current->name, error.message);
        ++*failures;
    }
    hosts_close(&hosts);
}

int battery_pair_up(void **state)
{
    *state = pair_make(battery_current, NULL);
    return *state == NULL ? -1 : 0;
}

int battery_pair_down(void **state)
{
    pair_free(*state);
    return 0;
}

static int run_part(const char *part, const struct CMUnitTest *tests, size_t count)
{
    char title[96];

    (void)snprintf(title, sizeof title, "%s: %s", battery_current->name, part);
    return _cmocka_run_group_tests(title, tests, count, NULL, NULL);
}

/* All of the current setup; the number of failures. */
static int run_setup(void)
{
    static const struct {
        const char *name;
        const struct CMUnitTest *(*tests)(size_t *out_count);
    } parts[] = {
        {"regions", battery_regions},     {"lives", battery_lives},
        {"geometry", battery_geometry},   {"leases", battery_leases},
        {"transfers", battery_transfers}, {"standing leases", battery_standing},
        {"sums", battery_sums},           {"notifications", battery_notifications},
        {"peers", battery_peers},         {"input", battery_input},
        {"paths", battery_paths},
    };
    const char *only = getenv("LEND_PART");
    int failures = 0;

    for (size_t part = 0; part < sizeof parts / sizeof parts[0]; part++) {
        size_t test_count = 0;
        const struct CMUnitTest *tests = parts[part].tests(&test_count);

        /* Where a processor cannot reach the blocks, checksums are refused (staged_test.c). */
        if ((battery_current->flags & BATTERY_DEVICE) != 0 && parts[part].tests == battery_sums)
            continue;
        if ((battery_current->flags & (BATTERY_HOST_OWNER | BATTERY_HOST_READER)) != 0 &&
            parts[part].tests != battery_geometry && parts[part].tests != battery_leases &&
            parts[part].tests != battery_transfers)
            continue;
        if (only == NULL || strcmp(only, parts[part].name) == 0)
            failures += run_part(parts[part].name, tests, test_count);
    }
    return failures;
}

int battery_run(const struct battery_setup *setups, size_t count)
{
    /* For whoever debugs: one setup, one part, tests by a pattern of their names. */
    const char *only_setup = getenv("LEND_SETUP");
    int failures = 0;

    if (getenv("LEND_TEST") != NULL)
        cmocka_set_test_filter(getenv("LEND_TEST"));

    for (size_t setup = 0; setup < count; setup++) {
        battery_current = &setups[setup];
        if (only_setup != NULL && strcmp(only_setup, battery_current->name) != 0)
            continue;
        if (battery_secret(battery_current, true) != NULL && LEND_TEST_SECRET_PLUGIN[0] == '\0') {
            print_message("%s: left out: libsodium was not there to build the plugin\n",
                          battery_current->name);
            continue;
        }
        if (UNDER_TSAN && (battery_current->flags & BATTERY_MANUAL) != 0) {
            print_message("%s: left out under the thread sanitizer: one thread does it all\n",
                          battery_current->name);
            continue;
        }
        bool has_hosts = (battery_current->flags & BATTERY_HOSTS) != 0;
        if (has_hosts && !go_to_hosts(&failures))
            continue;
        failures += run_setup();
        if (has_hosts)
            leave_hosts(&failures);
    }
    return failures;
}
