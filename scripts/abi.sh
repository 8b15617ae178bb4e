#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write down what programs that were compiled against lend rely on: `make abi`.
#
#     scripts/abi.sh                    build both libraries, and write abi/*
#     scripts/abi.sh dump LIBRARY FILE  functions, and the types of public headers that they use
#     scripts/abi.sh constants FILE     enumerators and limits of lend/lend.h, by name and value
#     scripts/abi.sh constants FILE nixl_capi    the same of nixl_capi.h
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
stored=$here/abi/liblend-0.1
stored_nixl=$here/abi/libnixl_capi-0
include="-I $here/include -I $here/compat/nixl/include"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is defined elsewhere is opaque to users. The label is what makes abidw keep the names of such
# types. Its own option, --headers-dir, takes src/core/agent.h for include/lend/agent.h.
dump() {
    cat >"$work/private.abignore" <<'END'
[suppress_type]
label = Artificial private types suppression specification
source_location_not_regexp = include/(lend/|nixl_capi)
drop = true
END
    abidw --exported-interfaces-only --suppressions "$work/private.abignore" --no-architecture \
        --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-parameter-names \
        --type-id-style hash --out-file "$work/dump" "$1"
    sed "s#path='[^']*/\\(src\\|compat\\)/#path='\\1/#" "$work/dump" >"$2"
}

# Preprocessed, the headers have no other such words than enumerators.
constants() {
    header=lend/lend.h words=LEND_
    [ "${2:-lend}" = lend ] || header=nixl_capi.h words=NIXL_CAPI_
    echo "#include <$header>" >"$work/header.c"
    {
        # shellcheck disable=SC2086
        ${CC:-cc} $include -E -P "$work/header.c" | grep -oE "\b$words[A-Z0-9_]+\b"
        # shellcheck disable=SC2086
        ${CC:-cc} $include -E -dM "$work/header.c" |
            sed -nE "s/^#define ($words[A-Z0-9_]+) .*/\1/p" |
            { grep -vE '_(INIT|API|MUST_USE|H)$' || true; }
    } | LC_ALL=C sort -u >"$work/names"
    {
        printf '#include <%s>\n#include <stdio.h>\nint main(void)\n{\n' "$header"
        sed -E 's/.*/printf("%s %lld\\n", "&", (long long)(&));/' "$work/names"
        printf 'return 0;\n}\n'
    } >"$work/print.c"
    # shellcheck disable=SC2086
    ${CC:-cc} $include -o "$work/print" "$work/print.c"
    "$work/print" >"$1"
}

case "${1:-}" in
dump)
    dump "$2" "$3"
    ;;
constants)
    constants "$2" "${3:-lend}"
    ;;
'')
    cd "$here"
    [ -e build-abi/build.ninja ] ||
        CC=gcc meson setup build-abi -Dtests=disabled -Dtool=disabled -Dexamples=false >/dev/null
    ninja -C build-abi liblend.so.0.1.0 compat/nixl/libnixl_capi.so.0.1.0 >/dev/null
    dump build-abi/liblend.so.0.1.0 "$stored.abi"
    constants "$stored.constants"
    dump build-abi/compat/nixl/libnixl_capi.so.0.1.0 "$stored_nixl.abi"
    constants "$stored_nixl.constants" nixl_capi
    echo "abi: wrote $here/abi; see what changed with: git diff abi"
    ;;
*)
    echo "usage: $0 [dump LIBRARY FILE | constants FILE [nixl_capi]]" >&2
    exit 2
    ;;
esac
