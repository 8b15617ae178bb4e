#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run the two examples as a pair: pair.sh LEND_TENSOR PULL_BLOCKS. Both must end well.
set -u
status=$(mktemp)
trap 'rm -f "$status"' EXIT
{
    "$1"
    echo $? >"$status"
} | "$2" || exit 1
test "$(cat "$status")" = 0
