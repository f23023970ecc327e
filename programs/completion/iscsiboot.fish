# SPDX-License-Identifier: LGPL-2.1-or-later
# fish completion of iscsiboot. Made from the help of its subcommands by "python3 -m tools.manual"; change
# those, not this file.

complete -c iscsiboot -f
complete -c iscsiboot -n __fish_use_subcommand -a explain -d 'each boot value, where it came from, what was ignored and why'
complete -c iscsiboot -n __fish_use_subcommand -a status -d 'who guards the sessions of this machine, and how they are'
complete -c iscsiboot -n __fish_use_subcommand -a probe -d 'what could be booted from a target; no kernel modules, any user'
complete -c iscsiboot -n __fish_use_subcommand -a timeline -d 'what happened when during a boot'
complete -c iscsiboot -n __fish_use_subcommand -a db -d 'is the record database in order; --fix mends what is safe to mend'
complete -c iscsiboot -n __fish_use_subcommand -a image -d 'what goes into an initramfs, why, and what it costs'
complete -c iscsiboot -n '__fish_seen_subcommand_from explain' -l help
complete -c iscsiboot -n '__fish_seen_subcommand_from explain' -l json
complete -c iscsiboot -n '__fish_seen_subcommand_from explain' -l proc-root -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from explain' -l sysfs-root -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from explain' -l table -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from status' -l help
complete -c iscsiboot -n '__fish_seen_subcommand_from status' -l json
complete -c iscsiboot -n '__fish_seen_subcommand_from status' -l watch
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l all-portals
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l digest -x
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l discovery-mutual-secret-file -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l discovery-mutual-user -x
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l discovery-secret-file -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l discovery-user -x
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l help
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l initiator-name -x
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l json
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l lun -x
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l mutual-secret-file -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l mutual-user -x
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l no-read
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l secret-file -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l timeout -x
complete -c iscsiboot -n '__fish_seen_subcommand_from probe' -l user -x
complete -c iscsiboot -n '__fish_seen_subcommand_from timeline' -F
complete -c iscsiboot -n '__fish_seen_subcommand_from timeline' -l help
complete -c iscsiboot -n '__fish_seen_subcommand_from timeline' -l svg -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from db' -a check
complete -c iscsiboot -n '__fish_seen_subcommand_from db' -l fix
complete -c iscsiboot -n '__fish_seen_subcommand_from db' -l help
complete -c iscsiboot -n '__fish_seen_subcommand_from db' -l json
complete -c iscsiboot -n '__fish_seen_subcommand_from db' -l root -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from db' -l timeout -x
complete -c iscsiboot -n '__fish_seen_subcommand_from image' -l help
complete -c iscsiboot -n '__fish_seen_subcommand_from image' -l host-only
complete -c iscsiboot -n '__fish_seen_subcommand_from image' -l json
complete -c iscsiboot -n '__fish_seen_subcommand_from image' -l launcher -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from image' -l list
complete -c iscsiboot -n '__fish_seen_subcommand_from image' -l report
complete -c iscsiboot -n '__fish_seen_subcommand_from image' -l stage -r -F
complete -c iscsiboot -n '__fish_seen_subcommand_from image' -l sysroot -r -F
