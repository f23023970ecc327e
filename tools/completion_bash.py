# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bash completion of iscsiadm, see :mod:`tools.completion`."""

from __future__ import annotations

from collections.abc import Sequence

from iscsiboot.admin.options import MODES, OPTIONS
from tools.completion import BY_MODE, FIXED, check, choices, options_of

HEAD = """\
# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion of iscsiadm. Made from iscsiboot/admin/options.py and iscsiboot/database/keys.py by
# "python3 -m tools.manual"; change those, not this file.
#
# Names of records come from the network: they are compared and quoted here, never expanded. No process is started.
"""

BODY = r"""
# What the command line up to the cursor says: option is the one whose value is being typed.
_iscsiadm_read() {
    local letters rest index
    local -i at
    option=''
    for ((at = 1; at < ${#words[@]}; at++)); do
        rest=${words[at]}
        option=''
        if [[ $rest == --*=* ]]; then
            _iscsiadm_seen "${rest%%=*}" "${rest#*=}"
        elif [[ $rest == --* ]]; then
            _iscsiadm_takes_value "$rest" && option=${rest#--}
        elif [[ $rest == -?* ]]; then
            letters=${rest#-}
            for ((index = 0; index < ${#letters}; index++)); do
                if _iscsiadm_long "${letters:index:1}"; then
                    option=$REPLY
                    break
                fi
            done
            if [[ $option && ${letters:index+1} ]]; then
                _iscsiadm_seen "--$option" "${letters:index+1}"
                option=''
            fi
        fi
        if [[ $option && at -lt ${#words[@]}-1 ]]; then
            at+=1
            _iscsiadm_seen "--$option" "${words[at]}"
            option=''
        fi
    done
}

_iscsiadm_seen() {
    case $1 in
        --mode) mode=$2 ;;
        --targetname) target=${2//[\\\'\"]/} ;;
        --name) name=${2//[\\\'\"]/} ;;
    esac
}

_iscsiadm_takes_value() {
    [[ " $_iscsiadm_with_value " == *" ${1#--} "* ]]
}

# Records: nodes/TARGET/ADDRESS,PORT,TAG and send_targets/ADDRESS,PORT; portals as -p takes them.
_iscsiadm_portals() {
    local path portal address port
    for path in "$@"; do
        portal=${path##*/}
        address=${portal%%,*}
        port=${portal#*,}
        port=${port%%,*}
        [[ $portal == *,* ]] || continue
        [[ $address == *:* ]] && address="[$address]"
        found+=("$address:$port")
    done
}

_iscsiadm_values() {
    local path restore='shopt -u nullglob'
    shopt -q nullglob && restore=:
    shopt -s nullglob
    case $1 in
        targetname) for path in "$database"/nodes/*; do found+=("${path##*/}"); done ;;
        portal)
            if [[ $mode == node ]]; then
                if [[ $target && -d $database/nodes/$target ]]; then
                    _iscsiadm_portals "$database/nodes/$target"/*
                else
                    _iscsiadm_portals "$database"/nodes/*/*
                fi
            else
                _iscsiadm_portals "$database"/send_targets/* "$database"/isns/*
            fi
            ;;
        interface)
            found=(default iser)
            for path in "$database"/ifaces/*; do found+=("${path##*/}"); done
            ;;
        sid) for path in "$sysfs"/class/iscsi_session/session*; do found+=("${path##*/session}"); done ;;
        host) for path in "$sysfs"/class/iscsi_host/host*; do found+=("${path##*/host}"); done ;;
        *) _iscsiadm_fixed "$1" ;;
    esac
    $restore
}

# Offers those of found that begin as the word does. Readline parts words at some characters, so what stands before
# the last of them is left out again.
_iscsiadm_offer() {
    local word breaks='' mark kept='' quoted=''
    local -A offered=()
    case $cur in
        [\'\"]*) quoted=yes cur=${cur:1} ;;
        *) cur=${cur//\\/} ;;
    esac
    for mark in : = @; do
        [[ $COMP_WORDBREAKS == *"$mark"* ]] && breaks+=$mark
    done
    [[ $breaks && ! $quoted ]] && kept=${cur%"${cur##*["$breaks"]}"}
    for word in "${found[@]}"; do
        [[ $word == "$cur"* && $word != *[![:print:]]* && ! ${offered[x$word]} ]] || continue
        offered[x$word]=yes
        word=${word#"$kept"}
        [[ $quoted ]] || printf -v word %q "$word"
        COMPREPLY+=("$front$word")
    done
}

_iscsiadm() {
    local database=${_iscsiadm_etc:-/etc/iscsi} sysfs=${_iscsiadm_sys:-/sys}
    local line=${COMP_LINE:0:COMP_POINT} cur='' front='' option mode='' target='' name='' REPLY
    local -a words found=()
    COMPREPLY=()
    [[ -d $database/nodes || ! -d /var/lib/iscsi || ${_iscsiadm_etc-} ]] || database=/var/lib/iscsi
    read -ra words <<<"$line"
    if [[ $line != *[[:space:]] && ${#words[@]} -gt 1 ]]; then
        cur=${words[${#words[@]} - 1]}
        unset "words[${#words[@]}-1]"
    fi
    _iscsiadm_read
    if [[ ! $option && $cur == --*=* ]]; then
        option=${cur%%=*}
        option=${option#--}
        [[ $COMP_WORDBREAKS == *=* ]] || front="--$option="
        cur=${cur#*=}
    fi
    if [[ $option ]]; then
        _iscsiadm_values "$option"
    else
        _iscsiadm_options
    fi
    _iscsiadm_offer
}

complete -F _iscsiadm iscsiadm
"""


def bash() -> str:
    """programs/completion/iscsiadm.bash."""
    check()
    with_value = " ".join(option.long for option in OPTIONS if option.takes_value)
    letters = [
        f"        {option.letter}) REPLY='{option.long}' ;;"
        for option in OPTIONS
        if option.letter and option.takes_value
    ]
    return (
        "\n".join(
            [
                HEAD,
                f"_iscsiadm_with_value={_quoted(with_value)}",
                "",
                "# The long name of a letter that takes a value, in REPLY.",
                "_iscsiadm_long() {",
                "    case $1 in",
                *letters,
                "        *) return 1 ;;",
                "    esac",
                "}",
                "",
                "_iscsiadm_options() {",
                "    case $mode in",
                *_options(),
                "    esac",
                "}",
                "",
                "# Values that are no records: by option, by mode, and for -v by the name before it.",
                "_iscsiadm_fixed() {",
                "    case $1:$mode in",
                *_fixed(),
                "        value:*)",
                "            case $name in",
                *_choices(),
                "            esac",
                "            ;;",
                "    esac",
                "}",
            ]
        )
        + "\n"
        + BODY
    )


def _quoted(text: str) -> str:
    return f"'{text}'"


def _found(words: Sequence[str]) -> str:
    return "found=(" + " ".join(_quoted(word) if set(word) & set("[,") else word for word in words) + ")"


def _options() -> list[str]:
    lines = []
    for mode in (*MODES, ""):
        words = [
            *(f"-{option.letter}" for option in options_of(mode) if option.letter),
            *(f"--{option.long}" for option in options_of(mode)),
        ]
        lines += [f"        {mode or '*'})", f"            {_found(words)}", "            ;;"]
    return lines


def _fixed() -> list[str]:
    lines = [f"        {option}:*) {_found(words)} ;;" for option, words in FIXED.items()]
    for option, modes in BY_MODE.items():
        for mode, words in modes.items():
            if words:
                lines += [f"        {option}:{mode})", f"            {_found(words)}", "            ;;"]
    return lines


def _choices() -> list[str]:
    lines = []
    for values, names in choices().items():
        patterns = " | ".join(_quoted(name) for name in names)
        lines += [f"                {patterns})", f"                    {_found(values)}", "                    ;;"]
    return lines
