/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

const struct battery_setup *battery_current;

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

int battery_run(const struct battery_setup *setups, size_t count)
{
    static const struct {
        const char *name;
        const struct CMUnitTest *(*tests)(size_t *out_count);
    } parts[] = {
        {"regions", battery_regions},
        {"lives", battery_lives},
        {"geometry", battery_geometry},
        {"leases", battery_leases},
        {"transfers", battery_transfers},
        {"sums", battery_sums},
        {"notifications", battery_notifications},
        {"peers", battery_peers},
        {"input", battery_input},
        {"paths", battery_paths},
    };
    /* For whoever debugs: one setup, one part, tests by a pattern of their names. */
    const char *only_setup = getenv("LEND_SETUP"), *only = getenv("LEND_PART");
    int failures = 0;

    if (getenv("LEND_TEST") != NULL)
        cmocka_set_test_filter(getenv("LEND_TEST"));

    for (size_t setup = 0; setup < count; setup++) {
        battery_current = &setups[setup];
        if (only_setup != NULL && strcmp(only_setup, battery_current->name) != 0)
            continue;
        if ((battery_current->flags & BATTERY_SECRET) != 0 && LEND_TEST_SECRET_PLUGIN[0] == '\0') {
            print_message("%s: left out: libsodium was not there to build the plugin\n",
                          battery_current->name);
            continue;
        }
        for (size_t part = 0; part < sizeof parts / sizeof parts[0]; part++) {
            size_t test_count = 0;
            const struct CMUnitTest *tests = parts[part].tests(&test_count);

            if (only == NULL || strcmp(only, parts[part].name) == 0)
                failures += run_part(parts[part].name, tests, test_count);
        }
    }
    return failures;
}
