#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What lend promises of memory of a GPU, on a machine that has an NVIDIA GPU: `make test-gpu`. It
# takes a C compiler and the driver, and no network: all is compiled here from its sources. With
# python3 that has PyTorch, its tensors are lent; with compute-sanitizer, all is done once more
# under it. Either that is missing is a row that FAILED, and says how it can be had or left out.
#
#     tests/hw/run.sh                     build, run, and keep the table in docs/hardware.md
#     tests/hw/run.sh GPU ACTS BATTERY LIBLEND
#                                         run these, which are built, and print the table
#
#     CC, CFLAGS             the compiler, and what it is told (default: -O2 -g)
#     PYTHON                 the python3 that has PyTorch
#     LEND_HW_TORCH=no       leave its tensors out; =stand-in: memory of the driver's in their place
#     LEND_HW_SANITIZER=no   leave compute-sanitizer out; else its name or path
#     LEND_HW_SMALL=1        little of everything
#     LEND_HW_SECONDS        how long a program may take (default: 1200)
#
# A fake driver (build/tests/libcuda.so.1 in LD_LIBRARY_PATH) is told apart by the name of its GPU,
# and is never kept.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
# A program that hangs is to leave a table.
limit="timeout --foreground -k 10 ${LEND_HW_SECONDS:-1200}"

find_compiler() {
    for name in ${CC:-} cc gcc clang; do
        command -v "$name" >/dev/null 2>&1 && echo "$name" && return
    done
    echo "tests/hw: no C compiler here (cc, gcc, clang, or name one in CC)" >&2
    exit 2
}

# --- building ---

compile() { # ARGUMENTS
    # shellcheck disable=SC2086
    "$compiler" -std=gnu11 ${CFLAGS:--O2 -g} -D_GNU_SOURCE -I "$here/include" -I "$here/src" "$@"
}

build_library() {
    declarations= entries=
    for name in local loopback tcp; do
        declarations="${declarations}extern const struct lend_transport_ops lend_transport_$name;\\
"
        entries="$entries    \\&lend_transport_$name,\\
"
    done
    sed "s/@declarations@/$declarations/; s/@entries@/$entries/" \
        "$here/src/transport/transports.c.in" >"$work/transports.c"
    # shellcheck disable=SC2046
    compile -shared -fPIC -fvisibility=hidden -Wl,-soname,liblend.so.0 -DLEND_BUILDING \
        '-DLEND_VERSION="hardware"' '-DLEND_PLUGIN_DIRECTORY="/nowhere"' \
        $(find "$here/src/base" "$here/src/memory" "$here/src/wire" "$here/src/core" \
            "$here/src/transport/local" "$here/src/transport/loopback" "$here/src/transport/tcp" \
            -name '*.c') \
        "$work/transports.c" -o "$work/liblend.so.0" -pthread -ldl
}

build() {
    compiler=$(find_compiler)
    build_library
    set --
    for name in gpu driver kinds owner reader rows; do
        set -- "$@" "$here/tests/hw/$name.c"
    done
    compile "$@" "$work/liblend.so.0" -o "$work/gpu" "-Wl,-rpath,$work" -pthread -ldl
    # The demo but for its output, which takes libraries.
    set --
    for name in borrower cache dice endpoint gpu hosts job lender models order owner_orders \
        pattern progress reader_orders secret_file stage trouble; do
        set -- "$@" "$here/src/tool/$name.c"
    done
    compile "$here"/tests/hw/acts.c "$here"/tests/hw/rows.c "$here"/src/tool/act*.c "$@" \
        "$work/liblend.so.0" -o "$work/acts" "-Wl,-rpath,$work" -ldl
    # The battery but for the tests of each transport, and for the fake GPU.
    set -- "$here/src/tool/hosts.c" "$here/src/tool/trouble.c"
    for name in "$here"/tests/conformance/*.c; do
        case $name in *_test.c | */gpu_fake.c) ;; *) set -- "$@" "$name" ;; esac
    done
    for name in battery cmocka driver rows; do
        set -- "$@" "$here/tests/hw/$name.c"
    done
    compile '-DLEND_TEST_SECRET_PLUGIN=""' -I "$here/tests/hw" -I "$here/tests" "$@" \
        "$work/liblend.so.0" -o "$work/battery" "-Wl,-rpath,$work" -pthread -ldl
}

# --- running ---

tell() { # NAME RESULT FIGURE
    echo "| $1 | $2 | $3 |" >>"$work/rows"
    case $2 in FAILED) status=1 ;; esac
}

# A program that tells its rows. That it ended badly is one, unless it has told of what failed.
run() { # NAME COMMAND...
    name=$1 ended=0
    shift
    $limit "$@" >"$work/told" 2>"$work/said" || ended=$?
    cat "$work/said" >&2
    grep '^|' "$work/told" >>"$work/rows" || true
    if [ "$ended" -ne 0 ]; then
        status=1
        grep -q '| FAILED |' "$work/told" ||
            tell "$name" FAILED "it ended with $ended: $(tail -n 1 "$work/said" | tr '|' /)"
    fi
}

# The same, a row for all of it: what matters is what the sanitizer says of it.
run_under() { # SANITIZER NAME COMMAND...
    sanitizer=$1 name="$2, once more under compute-sanitizer (memcheck)" ended=0
    shift 2
    LEND_HW_SMALL=1 $limit "$sanitizer" --tool memcheck --target-processes all --error-exitcode 99 \
        --report-api-errors no --log-file "$work/memcheck" "$@" >"$work/told" 2>"$work/said" ||
        ended=$?
    cat "$work/said" >&2
    right=$(grep -c '| passed |' "$work/told" || true)
    wrong=$(grep -m 1 '| FAILED |' "$work/told" | tr '|' / || true)
    found=$(grep -h -m 1 -v -e 'COMPUTE-SANITIZER' -e 'ERROR SUMMARY: 0' "$work"/memcheck* \
        2>/dev/null | tr '|' / || true)
    if [ "$ended" -eq 0 ] && [ -z "$wrong" ] && [ "$right" -gt 0 ]; then
        tell "$name" passed "$right rows, no error of memory"
    else
        tell "$name" FAILED \
            "it ended with $ended, $right rows passed; ${wrong:-${found:-nothing said}}"
    fi
    rm -f "$work"/memcheck*
}

# What lends tensors, to "$@"; or a row that says why there is none.
run_tensors() { # RUNNER...
    python=${PYTHON:-python3}
    options=
    case ${LEND_HW_TORCH:-yes} in
    no)
        tell "tensors of PyTorch" "left out" "LEND_HW_TORCH=no"
        return
        ;;
    stand-in) options=--stand-in ;;
    *)
        if ! "$python" -c 'import torch' 2>"$work/said"; then
            tell "tensors of PyTorch" FAILED "$(tail -n 1 "$work/said" | tr '|' /): a python3 with\
 PyTorch (pip install torch) is wanted, by its path in PYTHON; LEND_HW_TORCH=no leaves it out"
            return
        fi
        ;;
    esac
    # shellcheck disable=SC2086
    "$@" env PYTHONPATH="$here/bindings/python" PYTHONDONTWRITEBYTECODE=1 LEND_LIBRARY="$library" \
        "$python" "$here/tests/hw/tensors.py" $options
}

# A run for each setup, so that one that hangs is a row, and the others are told.
run_battery() {
    "$battery" list >"$work/setups"
    while read -r setup; do
        run "conformance battery, $setup" "$battery" "$setup" </dev/null
    done <"$work/setups"
}

run_sanitizer() {
    sanitizer=${LEND_HW_SANITIZER:-compute-sanitizer}
    if [ "$sanitizer" = no ]; then
        tell "compute-sanitizer" "left out" "LEND_HW_SANITIZER=no"
    elif ! command -v "$sanitizer" >/dev/null 2>&1; then
        tell "compute-sanitizer" FAILED "there is no $sanitizer: it comes with the CUDA toolkit,\
 and is named in LEND_HW_SANITIZER where it is not in PATH; =no leaves it out"
    else
        run_under "$sanitizer" "one GPU, two processes" "$gpu"
        run_under "$sanitizer" "the demo" "$acts"
        [ "${LEND_HW_TORCH:-yes}" = no ] || run_tensors run_under "$sanitizer" "tensors"
    fi
}

if [ $# -eq 0 ]; then
    build
    gpu=$work/gpu acts=$work/acts battery=$work/battery library=$work/liblend.so.0
else
    gpu=$1 acts=$2 battery=$3 library=$4
fi
: >"$work/rows"
run "one GPU, two processes" "$gpu"
machine=$(sed -n 's/^# //p' "$work/told")
[ -n "$machine" ] || exit 2 # no driver: it has said so
run "the demo" "$acts"
run_battery
[ $# -gt 0 ] || run "the kernel for small pieces" "$here/tests/hw/kernel.sh"
run_tensors run "tensors"
run_sanitizer
{
    echo "$machine, Linux $(uname -r), $(date -u +%Y-%m-%d):"
    echo
    echo "| test | result | figure |"
    echo "| --- | --- | --- |"
    cat "$work/rows"
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
