# SPDX-License-Identifier: Apache-2.0
# Completion of the lend command for fish. The command itself is asked what there is.

function __lend_commands
    lend --help 2>/dev/null | string replace -rf '^  ([a-z][a-z-]*) +(.*)' '$1\t$2'
end

function __lend_options
    set -l words (commandline -opc)
    lend $words[2] --help 2>/dev/null | string replace -rf '^ .*(--[a-z][a-z-]*)(=\S+)? +(.*)' '$1\t$3'
end

complete -c lend -n 'test (count (commandline -opc)) -eq 1' -f -a '(__lend_commands)'
complete -c lend -n 'test (count (commandline -opc)) -gt 1' -a '(__lend_options)'
