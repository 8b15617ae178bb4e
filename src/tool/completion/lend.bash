# SPDX-License-Identifier: Apache-2.0
# Completion of the lend command for bash. The command itself is asked what there is, so that
# nothing here can be out of date.

_lend_commands() {
    "$1" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'
}

_lend_options() {
    "$1" "$2" --help 2>/dev/null |
        sed -n 's/^ \{1,\}\(-.,\)\{0,1\} *\(--[a-z][a-z-]*=\{0,1\}\).*/\2/p'
}

_lend() {
    local lend=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}

    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_lend_commands "$lend") --help --version" -- "$word")
        return
    fi
    # A value: bash takes "--option=value" for three words.
    if [ "$word" = "=" ]; then
        word=
    elif [ "$before" = "=" ]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    fi
    case $before in
    --path)
        mapfile -t COMPREPLY < <(compgen -W "local/mapped local/cross-memory local/served local/cuda local/staged tcp/served verbs/read verbs/write" -- "$word")
        return
        ;;
    --transport)
        mapfile -t COMPREPLY < <(compgen -W "local tcp ucx verbs" -- "$word")
        return
        ;;
    --memory)
        mapfile -t COMPREPLY < <(compgen -W "host pinned cuda" -- "$word")
        return
        ;;
    --hosts)
        mapfile -t COMPREPLY < <(compgen -W "1 2" -- "$word")
        return
        ;;
    --from | --listen | --advertise | --name | --etcd)
        return
        ;;
    --ucx-devices)
        mapfile -t COMPREPLY < <(compgen -W "$(ls /sys/class/net 2>/dev/null)" -- "$word")
        return
        ;;
    --verbs-devices | --reader-verbs-devices)
        mapfile -t COMPREPLY < <(compgen -W "$(ls /sys/class/infiniband 2>/dev/null)" -- "$word")
        return
        ;;
    --directory | --socket-directory)
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        return
        ;;
    --export | --import | --output | --secret-file | --secret-plugin | --directory-plugin | --ucx-library)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    esac
    case $word in
    -*)
        mapfile -t COMPREPLY < <(compgen -W "$(_lend_options "$lend" "${COMP_WORDS[1]}")" -- "$word")
        case ${COMPREPLY[0]-} in
        *=) compopt -o nospace 2>/dev/null ;;
        esac
        ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    esac
}

complete -o filenames -F _lend lend
