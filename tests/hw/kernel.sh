#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The kernel for small pieces on a machine that has an NVIDIA GPU: does it copy right, and where
# does it pay? And leases behind a stream. Part of run.sh, which keeps its rows; takes a C compiler
# and the driver. It calls what the library hides, and so is linked with the library's sources.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sed 's/@declarations@/extern const struct lend_transport_ops lend_transport_loopback;/
    s/@entries@/    \&lend_transport_loopback,/' \
    "$here/src/transport/transports.c.in" >"$work/transports.c"
# shellcheck disable=SC2046,SC2086
"${CC:-cc}" -std=gnu11 ${CFLAGS:--O2 -g} -D_GNU_SOURCE -DLEND_BUILDING '-DLEND_VERSION="hardware"' \
    '-DLEND_PLUGIN_DIRECTORY="/nowhere"' -I "$here/include" -I "$here/src" \
    $(find "$here/src/base" "$here/src/memory" "$here/src/wire" "$here/src/core" \
        "$here/src/transport/loopback" -name '*.c') \
    "$work/transports.c" "$here/tests/hw/driver.c" "$here"/tests/hw/kernel/*.c -o "$work/kernel" \
    -pthread -ldl
"$work/kernel"
