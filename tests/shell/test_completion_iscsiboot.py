# SPDX-License-Identifier: LGPL-2.1-or-later
"""The completions of iscsiboot, in the shells they are for: every subcommand, every option of its help, files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from iscsiboot.__main__ import SUBCOMMANDS
from tools import completion_iscsiboot
from tools.completion_iscsiboot import FIRST, TAKES_FILES, Option, options_of

SCRIPTS = Path(__file__).resolve().parents[2] / "programs" / "completion"


def shell(name: str, code: str, *words: str, cwd: Path) -> list[str]:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    run = subprocess.run(
        [program, *flags, "-c", code, *([] if name == "fish" else [name]), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "TERM": "dumb", "LC_ALL": "C.UTF-8"},
    )
    assert (run.returncode, run.stderr) == (0, "")
    return sorted(line for line in run.stdout.split("\n") if line)


def bash(cwd: Path, *words: str) -> list[str]:
    code = f"source '{SCRIPTS}/iscsiboot.bash'; COMP_WORDS=(iscsiboot \"$@\"); COMP_CWORD=$#; _iscsiboot; "
    return shell("bash", code + 'printf "%s\\n" "${COMPREPLY[@]}"', *words, cwd=cwd)


def fish(cwd: Path, *words: str) -> list[str]:
    code = f"source '{SCRIPTS}/iscsiboot.fish'; complete -C \"iscsiboot $argv\""
    return sorted({line.split("\t")[0] for line in shell("fish", code, *words, cwd=cwd)})


def zsh(cwd: Path, *words: str) -> list[str]:
    """What the completion system is told; it offers that by itself."""
    stubs = "_describe() { print -rl -- ${(P)2} }; _arguments() { print -rl -- $@ }; "
    code = f"{stubs} words=(iscsiboot \"$@\"); CURRENT=$#words; source '{SCRIPTS}/iscsiboot.zsh'"
    return [line.partition(":")[0] for line in shell("zsh", code, *words, cwd=cwd)]


@pytest.mark.parametrize("ask", [bash, zsh, fish])
def test_every_subcommand_is_offered(tmp_path: Path, ask: Callable[[Path, str], list[str]]) -> None:
    assert set(ask(tmp_path, "")) - {"--help", "--version"} == set(SUBCOMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_option_of_the_help_is_offered(tmp_path: Path, name: str) -> None:
    names = {option.name for option in options_of(name)}
    assert set(bash(tmp_path, name, "-")) == names
    assert set(fish(tmp_path, name, "--")) == names
    assert {word for word in zsh(tmp_path, name, "-") if word.startswith("--")} == names


def test_a_beginning_is_enough(tmp_path: Path) -> None:
    assert bash(tmp_path, "st") == ["status"]
    assert bash(tmp_path, "status", "--w") == ["--watch"]
    assert bash(tmp_path, "bogus", "") == []
    assert bash(tmp_path, "db", "") == ["--fix", "--help", "--json", "--root", "--timeout", "check"]
    assert fish(tmp_path, "status", "--w") == ["--watch"]


@pytest.mark.parametrize(("words", "files"), [(("timeline", ""), True), (("timeline", "--svg", ""), True),
                                              (("probe", "--secret-file", ""), True), (("probe", "--lun", ""), False),
                                              (("status", ""), False)])  # fmt: skip
def test_files_are_offered_where_they_belong(tmp_path: Path, words: tuple[str, ...], files: bool) -> None:
    (tmp_path / "a file.svg").touch()
    assert ("a file.svg" in bash(tmp_path, *words)) is files
    if words[-2:] != ("timeline", ""):
        assert any(word.startswith("a") for word in fish(tmp_path, *words)) is files


def test_what_the_help_says_becomes_options() -> None:
    assert options_of("status") == [Option("--help", ""), Option("--json", ""), Option("--watch", "")]
    values = {option.name: option for option in options_of("probe")}
    assert values["--secret-file"].is_file
    assert values["--lun"].value == "N"
    assert not values["--lun"].is_file
    assert {option.name: option.value for option in options_of("db")}["--root"] == "DIR"


def test_words_of_subcommands_are_about_those_there_are() -> None:
    assert set(FIRST) | TAKES_FILES <= set(SUBCOMMANDS)


def test_a_help_without_options_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion_iscsiboot, "main", lambda argv, out, err: 0)
    with pytest.raises(LookupError, match="status --help shows no option"):
        options_of("status")
