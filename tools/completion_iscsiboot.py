# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completions of iscsiboot for three shells, from the table of subcommands and the help each of them gives."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from iscsiboot.__main__ import SUBCOMMANDS, main

_OPTION = re.compile(r"(--[a-z][a-z-]*)(?: ([A-Z]+)\b)?")
_FILES = frozenset({"FILE", "PATH", "DIR", "P"})
"""Placeholders of the help whose values are in the file system."""

FIRST: Mapping[str, tuple[str, ...]] = {"db": ("check",)}
"""Subcommands that begin with a word of their own."""
TAKES_FILES = frozenset({"timeline"})
"""Subcommands whose arguments are files."""

HEAD = (
    "# SPDX-License-Identifier: LGPL-2.1-or-later\n"
    '# {shell} completion of iscsiboot. Made from the help of its subcommands by "python3 -m tools.manual"; change\n'
    "# those, not this file.\n"
)


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a subcommand."""

    name: str
    value: str
    """Its placeholder in the help; empty when it takes none."""

    @property
    def is_file(self) -> bool:
        """Whether its value is in the file system."""
        return self.value in _FILES


def options_of(subcommand: str) -> list[Option]:
    """What the help of a subcommand names, by name. LookupError for nothing: then the help has another form."""
    out = io.StringIO()
    # argparse's own help goes to the process's stream and ends it.
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([subcommand, "--help"], out, out)
    found = {"--help": ""}
    for name, value in _OPTION.findall(out.getvalue()):
        found[name] = value or found.get(name, "")
    if len(found) == 1:
        raise LookupError(f"iscsiboot {subcommand} --help shows no option")
    return [Option(name, found[name]) for name in sorted(found)]


def _each() -> Iterator[tuple[str, list[Option]]]:
    for name in SUBCOMMANDS:
        yield name, options_of(name)


def bash() -> str:
    """programs/completion/iscsiboot.bash."""
    files, others, words = [], [], []
    for name, options in _each():
        files += [f"{name}:{option.name}" for option in options if option.is_file]
        others += [f"{name}:{option.name}" for option in options if option.value and not option.is_file]
        offered = " ".join([*FIRST.get(name, ()), *(option.name for option in options)])
        words.append(f"            {name}) words='{offered}' ;;")
    return "\n".join(
        [
            HEAD.format(shell="bash"),
            "_iscsiboot() {",
            "    local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=''",
            "    COMPREPLY=()",
            "    if ((COMP_CWORD == 1)); then",
            f"        words='{' '.join([*SUBCOMMANDS, '--help', '--version'])}'",
            "    else",
            "        case ${COMP_WORDS[1]}:$before in",
            f"            {' | '.join(files)}) _iscsiboot_files; return ;;",
            f"            {' | '.join(others)}) return ;;",
            "        esac",
            "        case ${COMP_WORDS[1]}:$cur in",
            f"            {' | '.join(f'{name}:-*' for name in sorted(TAKES_FILES))}) ;;",
            f"            {' | '.join(f'{name}:*' for name in sorted(TAKES_FILES))}) _iscsiboot_files; return ;;",
            "        esac",
            "        case ${COMP_WORDS[1]} in",
            *words,
            "        esac",
            "    fi",
            '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")',
            "}",
            "",
            "_iscsiboot_files() {",
            "    compopt -o filenames 2>/dev/null",
            '    mapfile -t COMPREPLY < <(compgen -f -- "$cur")',
            "}",
            "",
            "complete -F _iscsiboot iscsiboot",
            "",
        ]
    )


def zsh() -> str:
    """programs/completion/iscsiboot.zsh."""
    described = [f"        '{name}:{_plain(sub.summary)}'" for name, sub in SUBCOMMANDS.items()]
    cases = []
    for name, options in _each():
        words = [*(f"'1:word:({word})'" for word in FIRST.get(name, ())), *(_zsh_option(option) for option in options)]
        words += ["'*:file:_files'"] if name in TAKES_FILES else []
        cases.append(f"        {name}) _arguments {' '.join(words)} ;;")
    return "\n".join(
        [
            "#compdef iscsiboot",
            HEAD.format(shell="zsh"),
            "_iscsiboot() {",
            "    local -a subcommands=(",
            *described,
            "    )",
            "    if ((CURRENT == 2)); then",
            "        _describe subcommand subcommands",
            "        return",
            "    fi",
            "    shift words",
            "    ((CURRENT -= 1))",
            "    case $words[1] in",
            *cases,
            "    esac",
            "}",
            "",
            '_iscsiboot "$@"',
            "",
        ]
    )


def _zsh_option(option: Option) -> str:
    if not option.value:
        return f"'{option.name}'"
    return f"'{option.name}:{option.value}:{'_files' if option.is_file else ''}'"


def fish() -> str:
    """programs/completion/iscsiboot.fish."""
    lines = [HEAD.format(shell="fish"), "complete -c iscsiboot -f"]
    for name, sub in SUBCOMMANDS.items():
        lines.append(f"complete -c iscsiboot -n __fish_use_subcommand -a {name} -d '{_plain(sub.summary)}'")
    for name, options in _each():
        seen = f"complete -c iscsiboot -n '__fish_seen_subcommand_from {name}'"
        lines += [f"{seen} -a {word}" for word in FIRST.get(name, ())]
        lines += [f"{seen} -F"] if name in TAKES_FILES else []
        for option in options:
            value = "" if not option.value else " -r -F" if option.is_file else " -x"
            lines.append(f"{seen} -l {option.name[2:]}{value}")
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    """A summary inside single quotes of a shell; zsh parts name and description at the first colon alone."""
    return text.replace("'", "’")
