#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write down what programs that were compiled against lend rely on: `make abi`.
#
#     scripts/abi.sh                    build the library, and write abi/liblend-0.1.*
#     scripts/abi.sh dump LIBRARY FILE  functions, and the types of include/lend/ that they use
#     scripts/abi.sh constants FILE     enumerators and limits, by name and value
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
stored=$here/abi/liblend-0.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is defined elsewhere is opaque to users. The label is what makes abidw keep the names of such
# types. Its own option, --headers-dir, takes src/core/agent.h for include/lend/agent.h.
dump() {
    cat >"$work/private.abignore" <<'END'
[suppress_type]
label = Artificial private types suppression specification
source_location_not_regexp = include/lend/
drop = true
END
    abidw --exported-interfaces-only --suppressions "$work/private.abignore" --no-architecture \
        --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-parameter-names \
        --type-id-style hash --out-file "$work/dump" "$1"
    sed "s|path='[^']*/src/|path='src/|" "$work/dump" >"$2"
}

# Preprocessed, the headers have no other such words than enumerators.
constants() {
    echo '#include <lend/lend.h>' >"$work/lend.c"
    {
        ${CC:-cc} -I "$here/include" -E -P "$work/lend.c" | grep -oE '\bLEND_[A-Z0-9_]+\b'
        ${CC:-cc} -I "$here/include" -E -dM "$work/lend.c" |
            sed -nE 's/^#define (LEND_[A-Z0-9_]+) .*/\1/p' |
            grep -vE '_(INIT|API|MUST_USE|H)$'
    } | LC_ALL=C sort -u >"$work/names"
    {
        printf '#include <lend/lend.h>\n#include <stdio.h>\nint main(void)\n{\n'
        sed -E 's/.*/printf("%s %lld\\n", "&", (long long)(&));/' "$work/names"
        printf 'return 0;\n}\n'
    } >"$work/print.c"
    ${CC:-cc} -I "$here/include" -o "$work/print" "$work/print.c"
    "$work/print" >"$1"
}

case "${1:-}" in
dump)
    dump "$2" "$3"
    ;;
constants)
    constants "$2"
    ;;
'')
    cd "$here"
    [ -e build-abi/build.ninja ] ||
        CC=gcc meson setup build-abi -Dtests=disabled -Dtool=disabled -Dexamples=false >/dev/null
    ninja -C build-abi liblend.so.0.1.0 >/dev/null
    dump build-abi/liblend.so.0.1.0 "$stored.abi"
    constants "$stored.constants"
    echo "abi: wrote $stored.abi and $stored.constants; see what changed with: git diff abi"
    ;;
*)
    echo "usage: $0 [dump LIBRARY FILE | constants FILE]" >&2
    exit 2
    ;;
esac
