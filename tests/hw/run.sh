#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What lend promises of memory of a GPU, on a machine that has an NVIDIA GPU: `make test-gpu`. It
# takes a C compiler and the driver, and no network: liblend is compiled here from its sources.
#
#     tests/hw/run.sh           build, run, and keep the table in docs/hardware.md
#     tests/hw/run.sh PROGRAM   run that one, which is built already, and print the table
#
# A fake driver (build/tests/libcuda.so.1 in LD_LIBRARY_PATH) is told apart by the name of its GPU,
# and is never kept.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

find_compiler() {
    for name in ${CC:-} cc gcc clang; do
        command -v "$name" >/dev/null 2>&1 && echo "$name" && return
    done
    echo "tests/hw: no C compiler here (cc, gcc, clang, or name one in CC)" >&2
    exit 2
}

build() {
    compiler=$(find_compiler)
    declarations= entries=
    for name in local loopback tcp; do
        declarations="${declarations}extern const struct lend_transport_ops lend_transport_$name;\\
"
        entries="$entries    \\&lend_transport_$name,\\
"
    done
    sed "s/@declarations@/$declarations/; s/@entries@/$entries/" \
        "$here/src/transport/transports.c.in" >"$work/transports.c"
    # shellcheck disable=SC2086,SC2046
    "$compiler" -std=gnu11 -O2 -g -D_GNU_SOURCE -DLEND_BUILDING '-DLEND_VERSION="hardware"' \
        '-DLEND_PLUGIN_DIRECTORY="/nowhere"' -I "$here/include" -I "$here/src" \
        $(find "$here/src/base" "$here/src/memory" "$here/src/wire" "$here/src/core" \
            "$here/src/transport/local" "$here/src/transport/loopback" "$here/src/transport/tcp" \
            -name '*.c') \
        "$work/transports.c" "$here"/tests/hw/*.c -o "$work/gpu" -pthread -ldl
    echo "$work/gpu"
}

program=${1:-$(build)}
status=0
"$program" >"$work/rows" || status=$?
[ -s "$work/rows" ] || exit "$status"
machine=$(sed -n 's/^# //p' "$work/rows")
{
    echo "$machine, Linux $(uname -r), $(date -u +%Y-%m-%d):"
    echo
    echo "| test | result | figure |"
    echo "| --- | --- | --- |"
    grep '^|' "$work/rows" || true
} >"$work/table"
cat "$work/table"
case $machine in
'fake GPU'*)
    echo
    echo "A fake driver: its figures mean nothing, and nothing is kept."
    ;;
*)
    if [ $# -eq 0 ]; then
        page=$here/docs/hardware.md
        sed '/^<!-- table -->$/q' "$page" >"$work/page"
        { cat "$work/page" && echo && cat "$work/table"; } >"$page"
        echo "kept in $page"
    fi
    ;;
esac
exit "$status"
