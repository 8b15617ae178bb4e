/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

/* What the setup of a pair says of it. */

bool pair_is_manual(const struct pair *pair)
{
    return (pair->setup->flags & BATTERY_MANUAL) != 0;
}

bool pair_is_apart(const struct pair *pair)
{
    return (pair->setup->flags & BATTERY_APART) != 0;
}

const char *pair_carrier(const struct pair *pair)
{
    if (!pair_is_remote(pair))
        return pair->setup->transports;
    return strncmp(pair->setup->transports, "local,", 6) == 0 ? "local"
           : strncmp(pair->setup->transports, "tcp,", 4) == 0 ? "tcp"
                                                              : "loopback";
}

bool pair_is_remote(const struct pair *pair)
{
    return strncmp(pair->setup->path, "verbs/", 6) == 0;
}

const char *pair_served_path(const struct pair *pair)
{
    const char *carrier = pair_carrier(pair);

    if (pair_is_remote(pair) && strcmp(carrier, "loopback") == 0)
        return pair_is_device(pair) ? "loopback/staged" : "loopback";
    if (pair_is_remote(pair) && strcmp(carrier, "tcp") == 0)
        return pair_is_device(pair) ? "tcp/staged" : "tcp/served";
    if (strcmp(carrier, "local") != 0)
        return pair->setup->path;
    return pair_is_device(pair) ? "local/staged" : "local/served";
}

const char *pair_path(const struct pair *pair, uint32_t direction)
{
    if (direction == LEND_READ)
        return pair->setup->path;
    return pair_is_remote(pair) ? "verbs/write" : pair_served_path(pair);
}

bool pair_is_served(const struct pair *pair)
{
    return strcmp(pair->setup->path, pair_served_path(pair)) == 0;
}

bool pair_is_straight(const struct pair *pair)
{
    return (pair->setup->flags & BATTERY_STRAIGHT) != 0;
}

bool pair_is_mapped(const struct pair *pair)
{
    return strcmp(pair->setup->path, "local/mapped") == 0;
}

bool pair_is_device(const struct pair *pair)
{
    return (pair->setup->flags & BATTERY_DEVICE) != 0;
}

const char *pair_must_name(const struct pair *pair)
{
    bool is_far = strcmp(pair_carrier(pair), "tcp") == 0 || strcmp(pair_carrier(pair), "ucx") == 0;

    if (!pair_is_device(pair) || !is_far)
        return NULL;
    return pair_is_remote(pair) ? "verbs/read,verbs/write,tcp/staged" : pair->setup->path;
}

bool pair_is_slow(const struct pair *pair)
{
    return pair_must_name(pair) != NULL && !pair_is_remote(pair);
}

bool pair_is_opened(const struct pair *pair)
{
    return strcmp(pair->setup->path, "local/cuda") == 0;
}

bool pair_is_shared(const struct pair *pair)
{
    return pair_is_mapped(pair) || pair_is_opened(pair);
}
