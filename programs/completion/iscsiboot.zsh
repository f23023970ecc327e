#compdef iscsiboot
# SPDX-License-Identifier: LGPL-2.1-or-later
# zsh completion of iscsiboot. Made from the help of its subcommands by "python3 -m tools.manual"; change
# those, not this file.

_iscsiboot() {
    local -a subcommands=(
        'explain:each boot value, where it came from, what was ignored and why'
        'status:who guards the sessions of this machine, and how they are'
        'probe:what could be booted from a target; no kernel modules, any user'
        'timeline:what happened when during a boot'
        'db:is the record database in order; --fix mends what is safe to mend'
        'image:what goes into an initramfs, why, and what it costs'
    )
    if ((CURRENT == 2)); then
        _describe subcommand subcommands
        return
    fi
    shift words
    ((CURRENT -= 1))
    case $words[1] in
        explain) _arguments '--help' '--json' '--proc-root:P:_files' '--sysfs-root:P:_files' '--table:FILE:_files' ;;
        status) _arguments '--help' '--json' '--watch' ;;
        probe) _arguments '--all-portals' '--digest:WORD:' '--discovery-mutual-secret-file:FILE:_files' '--discovery-mutual-user:NAME:' '--discovery-secret-file:FILE:_files' '--discovery-user:NAME:' '--help' '--initiator-name:IQN:' '--json' '--lun:N:' '--mutual-secret-file:FILE:_files' '--mutual-user:NAME:' '--no-read' '--secret-file:FILE:_files' '--timeout:SECONDS:' '--user:NAME:' ;;
        timeline) _arguments '--help' '--svg:FILE:_files' '*:file:_files' ;;
        db) _arguments '1:word:(check)' '--fix' '--help' '--json' '--root:DIR:_files' '--timeout:SECONDS:' ;;
        image) _arguments '--help' '--host-only' '--json' '--launcher:PATH:_files' '--list' '--report' '--stage:DIR:_files' '--sysroot:DIR:_files' ;;
    esac
}

_iscsiboot "$@"
