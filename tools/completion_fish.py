# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fish completion of iscsiadm, see :mod:`tools.completion`."""

from __future__ import annotations

from collections.abc import Sequence

from iscsiboot.admin.options import MODES, OPTIONS, Option
from tools.completion import BY_MODE, FIXED, LOOKED_UP, check, choices

BODY = r"""# SPDX-License-Identifier: LGPL-2.1-or-later
# fish completion of iscsiadm. Made from iscsiboot/admin/options.py and iscsiboot/database/keys.py by
# "python3 -m tools.manual"; change those, not this file.

function __iscsiadm_database
    if set -q _iscsiadm_etc
        echo $_iscsiadm_etc
    else if test -d /var/lib/iscsi; and not test -d /etc/iscsi/nodes
        echo /var/lib/iscsi
    else
        echo /etc/iscsi
    end
end

# The last value given to an option: its letter, its long name.
function __iscsiadm_given
    set -l words (commandline -opc)
    set -l found
    for at in (seq 2 (count $words))
        switch $words[$at]
            case "-$argv[1]" "--$argv[2]"
                set found $words[(math $at + 1)]
            case "--$argv[2]=*"
                set found (string replace -- "--$argv[2]=" '' $words[$at])
            case "-$argv[1]*"
                set found (string sub -s 3 -- $words[$at])
        end
    end
    printf '%s\n' $found
end

function __iscsiadm_in
    contains -- (__iscsiadm_given m mode) $argv
end

function __iscsiadm_targetname
    set -l paths (__iscsiadm_database)/nodes/*
    string replace -r '.*/' '' -- $paths
end

# nodes/TARGET/ADDRESS,PORT,TAG and send_targets/ADDRESS,PORT; portals as -p takes them.
function __iscsiadm_portal
    set -l database (__iscsiadm_database)
    set -l paths
    if __iscsiadm_in node
        set -l target (__iscsiadm_given T targetname)
        if test -n "$target"
            set paths $database/nodes/$target/*
        else
            set paths $database/nodes/*/*
        end
    else
        set paths $database/send_targets/* $database/isns/*
    end
    for portal in (string replace -r '.*/' '' -- $paths)
        set -l parts (string split , -- $portal)
        test (count $parts) -ge 2; or continue
        string match -q '*:*' -- $parts[1]; and set parts[1] "[$parts[1]]"
        echo "$parts[1]:$parts[2]"
    end
end

function __iscsiadm_interface
    printf '%s\n' default iser
    set -l paths (__iscsiadm_database)/ifaces/*
    string replace -r '.*/' '' -- $paths
end

function __iscsiadm_sysfs
    set -q _iscsiadm_sys; and echo $_iscsiadm_sys; or echo /sys
end

function __iscsiadm_sid
    set -l paths (__iscsiadm_sysfs)/class/iscsi_session/session*
    string replace -r '.*/session' '' -- $paths
end

function __iscsiadm_host
    set -l paths (__iscsiadm_sysfs)/class/iscsi_host/host*
    string replace -r '.*/host' '' -- $paths
end
"""


def fish() -> str:
    """programs/completion/iscsiadm.fish."""
    check()
    lines = [BODY, *_functions(), "complete -c iscsiadm -f"]
    lines += [_line(option) for option in OPTIONS]
    return "\n".join(lines) + "\n"


def _functions() -> list[str]:
    lines = []
    for option, modes in BY_MODE.items():
        lines += [f"function __iscsiadm_{option}", "    switch (__iscsiadm_given m mode)"]
        for mode, words in modes.items():
            if words:
                lines += [f"        case {mode}", f"            printf '%s\\n' {_words(words)}"]
        lines += ["    end", "end", ""]
    lines += ["function __iscsiadm_value", "    switch (__iscsiadm_given n name)"]
    for values, names in choices().items():
        lines += [f"        case {_words(names)}", f"            printf '%s\\n' {_words(values)}"]
    return [*lines, "    end", "end", ""]


def _words(words: Sequence[str]) -> str:
    return " ".join(f"'{word}'" if set(word) & set("[]*?,") else word for word in words)


def _line(option: Option) -> str:
    parts = ["complete -c iscsiadm"]
    if option.long == "mode":
        pass
    elif not option.modes:
        parts.append("-n 'test -z (__iscsiadm_given m mode)'")
    elif option.modes != set(MODES):
        modes = " ".join(mode for mode in MODES if mode in option.modes)
        parts.append(f"-n '__iscsiadm_in {modes}'")
    if option.letter:
        parts.append(f"-s {option.letter}")
    parts.append(f"-l {option.long}")
    if option.takes_value:
        parts.append("-x")
        if option.long in FIXED:
            parts.append(f"-a '{' '.join(FIXED[option.long])}'")
        elif option.long in LOOKED_UP or option.long in BY_MODE or option.long == "value":
            parts.append(f"-a '(__iscsiadm_{option.long})'")
    meaning = option.meaning.replace("\\", "\\\\").replace("'", "\\'")
    parts.append(f"-d '{meaning}'")
    return " ".join(parts)
