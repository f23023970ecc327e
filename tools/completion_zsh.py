# SPDX-License-Identifier: LGPL-2.1-or-later
"""Zsh completion of iscsiadm, see :mod:`tools.completion`."""

from __future__ import annotations

from collections.abc import Sequence

from iscsiboot.admin.options import MODES, OPTIONS, Option
from tools.completion import BY_MODE, FIXED, LOOKED_UP, check, choices, options_of

HEAD = """\
#compdef iscsiadm
# SPDX-License-Identifier: LGPL-2.1-or-later
# zsh completion of iscsiadm. Made from iscsiboot/admin/options.py and iscsiboot/database/keys.py by
# "python3 -m tools.manual"; change those, not this file.

_iscsiadm_targetname() {
    local -a found=($database/nodes/*(N:t))
    compadd -a found
}

# nodes/TARGET/ADDRESS,PORT,TAG and send_targets/ADDRESS,PORT; portals as -p takes them.
_iscsiadm_portal() {
    local -a paths found
    local portal address port
    if [[ $mode == node ]]; then
        paths=($database/nodes/${target:-*}/*(N:t))
        [[ -n $target ]] || paths=($database/nodes/*/*(N:t))
    else
        paths=($database/send_targets/*(N:t) $database/isns/*(N:t))
    fi
    for portal in $paths; do
        [[ $portal == *,* ]] || continue
        address=${portal%%,*}
        port=${${portal#*,}%%,*}
        [[ $address == *:* ]] && address="[$address]"
        found+=("$address:$port")
    done
    compadd -a found
}

_iscsiadm_interface() {
    local -a found=(default iser $database/ifaces/*(N:t))
    compadd -a found
}

_iscsiadm_sid() {
    local -a found=($sysfs/class/iscsi_session/session*(N:t))
    found=(${found#session})
    compadd -a found
}

_iscsiadm_host() {
    local -a found=($sysfs/class/iscsi_host/host*(N:t))
    found=(${found#host})
    compadd -a found
}
"""

TAIL = """
_iscsiadm() {
    local database=${_iscsiadm_etc:-/etc/iscsi} sysfs=${_iscsiadm_sys:-/sys} mode target name curcontext=$curcontext
    local -a options
    local -i at
    [[ -d $database/nodes || ! -d /var/lib/iscsi || -n $_iscsiadm_etc ]] || database=/var/lib/iscsi
    for ((at = 2; at < CURRENT; at++)); do
        case ${words[at]} in
            -m | --mode) mode=${words[at + 1]} ;;
            -m?*) mode=${words[at]#-m} ;;
            --mode=*) mode=${words[at]#--mode=} ;;
            -T | --targetname) target=${(Q)words[at + 1]} ;;
            --targetname=*) target=${(Q)words[at]#--targetname=} ;;
            -n | --name) name=${(Q)words[at + 1]} ;;
            --name=*) name=${(Q)words[at]#--name=} ;;
        esac
    done
    # What is still being typed is no mode yet.
    [[ $mode == (@MODES@) ]] || mode=
    _iscsiadm_specs
    _arguments -s -S $options
}
"""


def zsh() -> str:
    """programs/completion/iscsiadm.zsh, installed as _iscsiadm."""
    check()
    return "\n".join([HEAD, *_values(), *_specs()]) + TAIL.replace("@MODES@", "|".join(MODES)) + '\n_iscsiadm "$@"\n'


def _words(words: Sequence[str]) -> str:
    return " ".join(f"'{word}'" if set(word) & set("[]*") else word for word in words)


def _values() -> list[str]:
    """A function for each option whose values depend on the mode or on another option."""
    lines = []
    for option, modes in BY_MODE.items():
        lines += [f"_iscsiadm_{option}() {{", "    local -a found", "    case $mode in"]
        for mode, words in modes.items():
            if words:
                lines += [f"        {mode}) found=({_words(words)}) ;;"]
        lines += ["    esac", "    compadd -a found", "}", ""]
    lines += ["_iscsiadm_value() {", "    local -a found", "    case $name in"]
    for values, names in choices().items():
        lines += [f"        {' | '.join(_pattern(name) for name in names)}) found=({_words(values)}) ;;"]
    return [*lines, "    esac", "    compadd -a found", "}", ""]


def _pattern(text: str) -> str:
    return f"'{text}'"


def _specs() -> list[str]:
    lines = ["_iscsiadm_specs() {", "    case $mode in"]
    for mode in (*MODES, ""):
        lines += [f"        {mode or '*'})", "            options=("]
        shown = options_of(mode)
        if mode:
            shown = [next(option for option in OPTIONS if option.long == "mode"), *shown]
        lines += [f"                {_spec(option)}" for option in shown]
        lines += ["            )", "            ;;"]
    return [*lines, "    esac", "}"]


def _spec(option: Option) -> str:
    """``'(-p --portal)'{-p+,--portal=}'[meaning]:portal:_iscsiadm_portal'``."""
    meaning = option.meaning.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("'", "'\\''")
    action = ""
    if option.takes_value:
        message = option.argument.lower()
        if option.long in FIXED:
            action = f":{message}:({' '.join(FIXED[option.long])})"
        elif option.long in LOOKED_UP or option.long in BY_MODE or option.long == "value":
            action = f":{message}:_iscsiadm_{option.long}"
        else:
            action = f":{message}: "
    long = f"--{option.long}{'=' if option.takes_value else ''}"
    tail = f"'[{meaning}]{action}'"
    if not option.letter:
        return f"{long}{tail}"
    pair = f"{{-{option.letter}{'+' if option.takes_value else ''},{long}}}"
    if option.repeats:
        return f"'*'{pair}{tail}"
    return f"'(-{option.letter} --{option.long})'{pair}{tail}"
