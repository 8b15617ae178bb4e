#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The kernel for small pieces on a machine that has an NVIDIA GPU: does it copy right, and where
# does it pay? Part of `make test-gpu`; takes a C compiler and the driver, and keeps nothing.
# A fake driver (build/tests/libcuda.so.1) is told apart by its GPU's name: its figures mean
# nothing.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${CC:-cc}" -std=gnu11 -O2 -g -D_GNU_SOURCE -DLEND_BUILDING -I "$here/include" -I "$here/src" \
    "$here"/src/base/*.c "$here"/src/memory/*.c "$here/tests/hw/driver.c" \
    "$here/tests/hw/kernel/kernel.c" -o "$work/kernel" -pthread -ldl
"$work/kernel"
