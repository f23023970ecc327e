# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion of iscsiboot. Made from the help of its subcommands by "python3 -m tools.manual"; change
# those, not this file.

_iscsiboot() {
    local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=''
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        words='explain status probe timeline db image --help --version'
    else
        case ${COMP_WORDS[1]}:$before in
            explain:--proc-root | explain:--sysfs-root | explain:--table | probe:--discovery-mutual-secret-file | probe:--discovery-secret-file | probe:--mutual-secret-file | probe:--secret-file | timeline:--svg | db:--root | image:--launcher | image:--stage | image:--sysroot) _iscsiboot_files; return ;;
            probe:--digest | probe:--discovery-mutual-user | probe:--discovery-user | probe:--initiator-name | probe:--lun | probe:--mutual-user | probe:--timeout | probe:--user | db:--timeout) return ;;
        esac
        case ${COMP_WORDS[1]}:$cur in
            timeline:-*) ;;
            timeline:*) _iscsiboot_files; return ;;
        esac
        case ${COMP_WORDS[1]} in
            explain) words='--help --json --proc-root --sysfs-root --table' ;;
            status) words='--help --json --watch' ;;
            probe) words='--all-portals --digest --discovery-mutual-secret-file --discovery-mutual-user --discovery-secret-file --discovery-user --help --initiator-name --json --lun --mutual-secret-file --mutual-user --no-read --secret-file --timeout --user' ;;
            timeline) words='--help --svg' ;;
            db) words='check --fix --help --json --root --timeout' ;;
            image) words='--help --host-only --json --launcher --list --report --stage --sysroot' ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

_iscsiboot_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

complete -F _iscsiboot iscsiboot
