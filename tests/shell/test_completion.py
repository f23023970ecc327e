# SPDX-License-Identifier: LGPL-2.1-or-later
"""The completions of iscsiadm, asked in real shells: what the Tab key makes of a line somebody typed.

A shell runs on a terminal of its own. ``iscsiadm`` is a function there that prints the words it got, so the answer is
what the command would have been given, whatever the shell did with colons, brackets and quotes on the way.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsiboot.admin.options import MODES, OPERATIONS, OPTIONS
from iscsiboot.database.keys import BY_NAME, NODE
from iscsiboot.model.deadline import Deadline
from tools import completion

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "programs" / "completion"
TARGET = "iqn.2001-04.com.example:disk1"
WAIT = 60.0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database and a sysfs to complete from."""
    root = tmp_path_factory.mktemp("machine")
    for path in (
        f"etc/nodes/{TARGET}/10.0.0.9,3260,1/default",
        f"etc/nodes/{TARGET}/fd00::9,3261,1/default",
        "etc/nodes/iqn.2001-04.com.example:tape/10.0.0.7,3260,1/default",
        "etc/nodes/eui.0123456789abcdef/10.0.0.6,3260",
        "etc/nodes/evil;touch $(pwned)/10.0.0.5,3260,1/default",
        "etc/nodes/control\x1b[2J/10.0.0.4,3260,1/default",
        "etc/send_targets/192.168.1.1,3260/st_config",
        "etc/ifaces/bond0.100",
        "etc/ifaces/10.99.0.1:3260:pv0",
        "sys/class/iscsi_session/session17/targetname",
        "sys/class/iscsi_session/session3/targetname",
        "sys/class/iscsi_host/host4/ipaddress",
    ):
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    return root


def environment(machine: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(machine),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "INPUTRC": "/dev/null",
        "_iscsiadm_etc": str(machine / "etc"),
        "_iscsiadm_sys": str(machine / "sys"),
        "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
    }


# What bash offers


def offered(machine: Path, line: str, *, breaks: str = " \t\n\"'><=;|&(:") -> list[str]:
    """The candidates for the end of ``line``, as readline would get them."""
    code = 'COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDBREAKS=$2; source "$3"; _iscsiadm; printf "%s\\n" "${COMPREPLY[@]}"'
    run = subprocess.run(
        ["bash", "--norc", "-c", code, "bash", line, breaks, str(SCRIPTS / "iscsiadm.bash")],
        env=environment(machine),
        capture_output=True,
        text=True,
        check=False,
        cwd=machine,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return sorted(word for word in run.stdout.split("\n") if word)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("iscsiadm -m ", sorted(MODES)),
        ("iscsiadm -m d", ["discovery", "discoverydb"]),
        ("iscsiadm --mode=se", ["session"]),
        ("iscsiadm -m bogus -", None),
        ("iscsiadm -L", []),
        ("iscsiadm -m node -L ", ["all", "automatic", "manual", "onboot"]),
        ("iscsiadm -m node --logoutall=", ["all", "automatic", "manual"]),
        ("iscsiadm -m node -o ", ["delete", "new", "show", "update"]),
        ("iscsiadm -m iface -o app", ["apply", "applyall"]),
        ("iscsiadm -m session -P ", ["0", "1", "2", "3"]),
        ("iscsiadm -m node -P ", ["0", "1"]),
        ("iscsiadm -m discovery -t ", ["fw", "isns", "sendtargets", "st"]),
        ("iscsiadm -m discovery -t st -p ", ["192.168.1.1:3260"]),
        ("iscsiadm -m session -r ", ["17", "3"]),
        ("iscsiadm -m session -r 1", ["17"]),
        ("iscsiadm -m host -H ", ["4"]),
        ("iscsiadm -m iface -I ", ["10.99.0.1:3260:pv0", "bond0.100", "default", "iser"]),
        (f"iscsiadm -m node -T {TARGET} -p ", ["10.0.0.9:3260", r"\[fd00::9\]:3261"]),
        (f"iscsiadm -m node --targetname={TARGET} -p 10", ["10.0.0.9:3260"]),
        (f"iscsiadm -m node -T{TARGET} -p 10", ["10.0.0.9:3260"]),
        ("iscsiadm -m node -T iqn.2001-04.com.example:", ["disk1", "tape"]),
        ("iscsiadm -m node -T iqn", [TARGET, "iqn.2001-04.com.example:tape"]),
        ("iscsiadm -m node -T eui.0123456789abcdef -p ", ["10.0.0.6:3260"]),
        ("iscsiadm -m node -o update -n node.startup -v ", ["automatic", "manual", "onboot"]),
        ("iscsiadm -m node -n node.conn[0].startup -v a", ["automatic"]),
        (r"iscsiadm -m node -n node.conn\[0\].startup -v a", ["automatic"]),
        ("iscsiadm -m node -n 'node.conn[0].startup' -v a", ["automatic"]),
        ("iscsiadm -m node -n node.startup -v x -n node.session.scan -v ", ["auto", "manual"]),
        ("iscsiadm -m node -n node.session.queue_depth -v ", []),
        ("iscsiadm -m node -n node.conn[0].iscsi.HeaderD", [r"node.conn\[0\].iscsi.HeaderDigest"]),
        ("iscsiadm -m node -n 'node.conn[0].iscsi.HeaderD", ["node.conn[0].iscsi.HeaderDigest"]),
        ("iscsiadm -m node -n iface.", ["iface.transport_name"]),
        ("iscsiadm -m iface -n iface.net", ["iface.net_ifacename"]),
        ("iscsiadm -m node --no", ["--no_wait"]),
        ("iscsiadm -m session --wait", ["--wait-device"]),
        ("iscsiadm -lm node --js", ["--json"]),
        ("iscsiadm --ver", ["--version"]),
        ("iscsiadm -m node -T bogus:x", []),
        ("iscsiadm -m node -l --timeout ", []),
        ("iscsiadm -k ", ["0"]),
    ],
)  # fmt: skip
def test_bash_offers(machine: Path, line: str, words: list[str] | None) -> None:
    if words is None:
        assert "-m" in offered(machine, line)
    else:
        assert offered(machine, line) == words


@pytest.mark.parametrize("mode", MODES)
def test_bash_offers_every_option_of_a_mode_and_no_other(machine: Path, mode: str) -> None:
    expected = {
        word
        for option in OPTIONS
        if mode in option.modes and option.long != "mode"
        for word in (f"-{option.letter}" if option.letter else "", f"--{option.long}")
        if word
    }
    assert set(offered(machine, f"iscsiadm -m {mode} -")) == expected


def test_bash_offers_every_setting_of_a_node_and_each_word_of_each() -> None:
    names = {key.name for key in NODE if not key.lookup}
    assert set(completion.BY_MODE["name"]["node"]) >= names
    by_name = {name: values for values, all_names in completion.choices().items() for name in all_names}
    for key in BY_NAME.values():
        if key.choices and not key.lookup:
            assert by_name[key.name] == key.choices


@pytest.mark.parametrize(
    ("breaks", "word"),
    [(" \t\n", "--portal=10.0.0.9:3260"), (" \t\n=", "10.0.0.9:3260"), (" \t\n=:", "10.0.0.9:3260")],
    ids=["neither", "equals", "both"],
)  # fmt: skip
def test_bash_gives_what_readline_replaces(machine: Path, breaks: str, word: str) -> None:
    assert offered(machine, f"iscsiadm -m node -T {TARGET} --portal=10", breaks=breaks) == [word]


@pytest.mark.parametrize(("breaks", "word"), [(" \t\n", TARGET), (" \t\n:", "disk1")], ids=["no colon", "colon"])
def test_bash_and_colons(machine: Path, breaks: str, word: str) -> None:
    assert offered(machine, "iscsiadm -m node -T iqn.2001-04.com.example:d", breaks=breaks) == [word]


def test_names_of_the_network_are_quoted_and_controls_left_out(machine: Path) -> None:
    words = offered(machine, "iscsiadm -m node -T e")
    assert words == ["eui.0123456789abcdef", r"evil\;touch\ \$\(pwned\)"]
    assert offered(machine, "iscsiadm -m node -T c") == []
    assert not (machine / "pwned").exists()


def test_a_reader_without_rights_gets_nothing_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    assert offered(tmp_path, "iscsiadm -m node -T ") == []
    assert offered(tmp_path, "iscsiadm -m node -p ") == []
    assert offered(tmp_path, "iscsiadm -m session -r ") == []
    assert offered(tmp_path, "iscsiadm -m iface -I ") == ["default", "iser"]


def test_bash_changes_no_setting_of_the_shell(machine: Path) -> None:
    code = (
        'source "$1"; shopt -u nullglob; before=$(shopt; set -o; compgen -v); COMP_LINE="iscsiadm -m node -T " '
        "COMP_POINT=20; COMPREPLY=(); _iscsiadm; unset COMPREPLY COMP_LINE COMP_POINT; after=$(shopt; set -o); "
        '[[ $before == "$after"* ]] && echo same'
    )
    for state in ("-u", "-s"):
        run = subprocess.run(
            ["bash", "--norc", "-c", code.replace("-u nullglob", f"{state} nullglob"), "bash",
             str(SCRIPTS / "iscsiadm.bash")],
            env=environment(machine), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert run.stdout == "same\n"


# What the Tab key does


class Terminal:
    """A shell on a terminal."""

    def __init__(self, argv: list[str], environ: dict[str, str], directory: Path) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(directory)
                os.execvpe(argv[0], argv, environ)
            finally:
                os._exit(127)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The next output that matches; what was printed up to it is forgotten."""
        deadline = Deadline.after(WAIT, now=time.monotonic(), reason=pattern)
        while True:
            if found := re.search(pattern, self.seen):
                self.seen = self.seen[found.end() :]
                return found
            ready, _, _ = select.select([self.descriptor], [], [], deadline.remaining(now=time.monotonic()))
            assert ready, f"no {pattern!r} in {self.seen!r}"
            try:
                self.seen += os.read(self.descriptor, 65536).decode(errors="replace")
            except OSError as error:
                raise AssertionError(f"the shell ended: {self.seen!r}") from error

    def close(self) -> None:
        os.close(self.descriptor)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def start(shell: str, machine: Path, tmp: Path) -> Terminal:
    """``shell`` with the completion loaded, at its first prompt."""
    program = shutil.which(shell)
    if program is None:
        if shell == "bash":
            pytest.fail("bash is not installed")
        pytest.skip(f"{shell} is not installed")
    environ = environment(machine)
    source = SCRIPTS / f"iscsiadm.{shell}"
    function = "iscsiadm() { printf 'WORDS'; printf '<%s>' \"$@\"; printf 'END\\n'; }\n"
    if shell == "bash":
        (tmp / "rc").write_text(f"PS1='READY> '\nsource {source}\n{function}")
        argv = [program, "--rcfile", str(tmp / "rc"), "-i"]
    elif shell == "zsh":
        (tmp / "_iscsiadm").write_text(source.read_text())
        (tmp / ".zshrc").write_text(
            f"PS1='READY> '\nunsetopt zle_bracketed_paste 2>/dev/null\nfpath=({tmp} $fpath)\n"
            f"autoload -Uz compinit\ncompinit -u -D\n{function}"
        )
        environ["ZDOTDIR"] = str(tmp)
        argv = [program, "-d", "-i"]
    else:
        (tmp / "init.fish").write_text(
            f"source {source}\nfunction fish_prompt; echo 'READY> '; end\nset -g fish_greeting\n"
            "function iscsiadm; printf 'WORDS'; printf '<%s>' $argv; printf 'END\\n'; end\n"
        )
        argv = [program, "--no-config", "-i", "-C", f"source {tmp / 'init.fish'}"]
    terminal = Terminal(argv, environ, tmp)
    terminal.wait_for("READY> ")
    return terminal


@pytest.fixture(scope="module", params=["bash", "zsh", "fish"])
def terminal(
    request: pytest.FixtureRequest, machine: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Terminal]:
    made = start(request.param, machine, tmp_path_factory.mktemp("shell"))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("iscsiadm -m nod", ["-m", "node"]),
        ("iscsiadm --mode=nod", ["--mode=node"]),
        ("iscsiadm -m node -T iqn.2001-04.com.example:di", ["-m", "node", "-T", TARGET]),
        (f"iscsiadm -m node -T {TARGET} -p 10", ["-m", "node", "-T", TARGET, "-p", "10.0.0.9:3260"]),
        ("iscsiadm -m node -T eui.0123456789abcdef -p 10", ["-m", "node", "-T", "eui.0123456789abcdef", "-p",
                                                            "10.0.0.6:3260"]),
        ("iscsiadm -m session -r 1", ["-m", "session", "-r", "17"]),
        ("iscsiadm -m iface -I bo", ["-m", "iface", "-I", "bond0.100"]),
        ("iscsiadm -m iface -I 10.99", ["-m", "iface", "-I", "10.99.0.1:3260:pv0"]),
        ("iscsiadm -m node -n node.conn[0].iscsi.HeaderD", ["-m", "node", "-n", "node.conn[0].iscsi.HeaderDigest"]),
        ("iscsiadm -m node -n node.startup -v au", ["-m", "node", "-n", "node.startup", "-v", "automatic"]),
        ("iscsiadm -m node -T evil", ["-m", "node", "-T", "evil;touch $(pwned)"]),
        ("iscsiadm -m discovery -t st -p 192", ["-m", "discovery", "-t", "st", "-p", "192.168.1.1:3260"]),
        ("iscsiadm -m node --no", ["-m", "node", "--no_wait"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_tab(terminal: Terminal, typed: str, words: list[str]) -> None:
    terminal.type(f"{typed}\t\r")
    found = terminal.wait_for(r"WORDS((?:<[^<>]*>)*)END")
    terminal.wait_for("READY> ")
    assert re.findall(r"<([^<>]*)>", found[1]) == words


def test_without_the_completion_tab_does_nothing_of_this(machine: Path, tmp_path: Path) -> None:
    """The control: what the rows above show does not come from the shell's own completion of files."""
    shell = start("bash", machine, tmp_path)
    try:
        shell.type("complete -r iscsiadm\r")
        shell.wait_for("READY> ")
        shell.type("iscsiadm -m nod\t\r")
        assert shell.wait_for(r"WORDS((?:<[^<>]*>)*)END")[1] == "<-m><nod>"
    finally:
        shell.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_s_parser_takes_the_script(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    run = subprocess.run(
        [program, "-n", str(SCRIPTS / f"iscsiadm.{shell}")], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_shellcheck_finds_nothing() -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    run = subprocess.run(
        [program, "--shell=bash", "--exclude=SC2034", str(SCRIPTS / "iscsiadm.bash")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stdout == ""


# The tables


def test_every_option_with_a_value_and_every_operation_has_its_words() -> None:
    completion.check()
    for words in completion.OPERATIONS_OF.values():
        assert set(words) <= set(OPERATIONS)
    for modes in completion.BY_MODE.values():
        assert set(modes) <= set(MODES)
