# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helpers and the installed iscsid.conf beside Debian's: same words, same commands, same records."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TextIO

import pytest

from iscsiboot.admin import discovery_helper, iname
from iscsiboot.admin.context import Paths
from iscsiboot.admin.main import main as iscsiadm
from tests.doubles.tgt import TGTD, TgtTarget
from tests.interop.peer_admin import Program, peer_program, run, unavailable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

ROOT = Path(__file__).resolve().parents[2]
A = "iqn.2001-04.com.example:a"


@pytest.fixture(scope="module")
def peer() -> Program:
    return peer_program(print)


# iscsi-iname


def masked(text: str) -> str:
    """Without the part that is chance: the peer's has six to twelve digits."""
    return re.sub(r":[0-9a-f]{6,12}\n", ":DIGITS\n", text)


@pytest.mark.parametrize(
    "argv",
    [
        [], ["-h"], ["--help"], ["--h"], ["-g"], ["--gen"], ["-p", "foo"], ["-pfoo"], ["--prefix=a"], ["--pre", "a"],
        ["-gp", "a"], ["-p", ""], ["-p"], ["--prefix"], ["-x"], ["-x", "-h"], ["-h", "-x"], ["--bogus"], ["--help=3"],
        ["a"], ["-"], ["--"], ["--", "-p"], ["a", "-p", "b"], ["-p", "a", "-p", "b"], ["-p", "x" * 210],
        ["-p", "x" * 211], ["-p", "x" * 211, "-h"],
    ],
    ids=lambda argv: " ".join(argv)[:20],
)  # fmt: skip
def test_iscsi_iname_says_the_same(peer: Program, argv: list[str]) -> None:
    theirs = subprocess.run(
        ["iscsi-iname", *argv],
        executable=peer.directory / "iscsi-iname",
        env=peer.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    out, err = StringIO(), StringIO()
    status = iname.main(argv, out, err, program="iscsi-iname")
    assert (status, masked(out.getvalue()), err.getvalue()) == (
        theirs.returncode,
        masked(theirs.stdout),
        theirs.stderr,
    )


# iscsi_discovery

FAKE = """\
#!/bin/sh
# iscsiadm for both: one target, whose login fails unless works has the transport that was set last.
cd "$(dirname "$0")" || exit 9
echo "$@" >> calls
case "$*" in
    "-m session") cat sessions; [ -s sessions ] || exit 21 ;;
    "-m discovery"*) cat found; [ -s found ] || exit 11 ;;
    *"--op update -n iface.transport_name -v "*) echo "$*" | sed 's/.* //' > transport ;;
    *"--login"*) grep -qx "$(cat transport)" works ;;
    *"--logout"*) echo "Logging out" ;;
    "-m node -p "*) echo "iface.transport_name = tcp" ;;
esac
"""


class Machine:
    """A directory on PATH with a false iscsiadm and pidof."""

    def __init__(self, root: Path, *, found: str, works: str, sessions: str) -> None:
        self.root = root
        for name, text in (("found", found), ("works", works), ("sessions", sessions), ("calls", "")):
            (root / name).write_text(text)
        for name, text in (("iscsiadm", FAKE), ("pidof", "#!/bin/sh\n")):
            (root / name).write_text(text)
            (root / name).chmod(0o755)

    def __call__(self, argv: Sequence[str], out: TextIO, err: TextIO) -> int:
        done = subprocess.run([self.root / "iscsiadm", *argv], capture_output=True, text=True, check=False)
        out.write(done.stdout)
        err.write(done.stderr)
        return done.returncode

    def calls(self) -> list[str]:
        """What iscsiadm was asked, without the question by which the script finds the name of a setting."""
        return [line for line in (self.root / "calls").read_text().splitlines() if not line.startswith("-m node -p ")]


@pytest.mark.parametrize(
    ("argv", "found", "works", "sessions"),
    [
        ([], "", "", ""),
        (["foo"], "", "", ""),
        (["1.2.3"], "", "", ""),
        (["-h"], "", "", ""),
        (["10.0.0.1", "-x"], "", "", ""),
        (["10.0.0.1", "--help"], "", "", ""),
        (["10.0.0.1", "-t"], "", "", ""),
        (["10.0.0.1"], f"10.0.0.1:3260,1 {A}\n", "tcp\n", ""),
        (["10.0.0.1", "-l"], f"10.0.0.1:3260,1 {A}\n", "tcp\n", ""),
        (["10.0.0.1", "-p", "3261", "-d"], f"10.0.0.1:3261,1 {A}\n", "tcp\n", ""),
        (["10.0.0.1", "word", "-x"], f"10.0.0.1:3260,1 {A}\n", "tcp\n", ""),
        (["10.0.0.1", "-f"], f"10.0.0.1:3260,1 {A}\n", "", ""),
        (["10.0.0.1", "-m", "-f"], f"10.0.0.1:3260,1 {A}\n", "", ""),
        (["10.0.0.1", "-t", "iser"], f"10.0.0.1:3260,1 {A}\n", "iser\n", ""),
        (["10.0.0.1", "-d", "-t", "iser"], f"10.0.0.1:3260,1 {A}\n", "tcp\n", ""),
        (["10.0.0.1", "-t", "iser", "-f"], f"10.0.0.1:3260,1 {A}\n", "tcp\n", ""),
        (["10.0.0.1", "-t", "cxgb3i"], f"10.0.0.1:3260,1 {A}\n", "cxgb3i\n", ""),
        (["10.0.0.1"], f"10.0.0.1:3260,1 {A}\n", "tcp\n", f"tcp: [1] 10.0.0.1:3260,1 {A} (non-flash)\n"),
        (["10.0.0.1"], f"10.0.0.1:3260,1 {A}\n", "tcp\n", f"tcp: [1] 10.0.0.2:3260,1 {A} (non-flash)\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_iscsi_discovery_says_and_does_the_same(
    peer: Program, tmp_path: Path, argv: list[str], found: str, works: str, sessions: str
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    theirs = Machine(tmp_path / "theirs", found=found, works=works, sessions=sessions)
    script = peer.directory / "iscsi_discovery"
    done = subprocess.run(
        ["bash", script, *argv],
        env={"PATH": f"{theirs.root}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = Machine(tmp_path / "ours", found=found, works=works, sessions=sessions)
    out, err = StringIO(), StringIO()
    status = discovery_helper.main(argv, out, err, ours, program=str(script))
    assert (status, out.getvalue(), err.getvalue()) == (done.returncode, done.stdout, done.stderr)
    assert ours.calls() == theirs.calls()


# iscsid.conf


@pytest.mark.parametrize("discovery", [False, True], ids=["node", "discovery"])
def test_records_from_the_installed_file_are_those_of_debian_s(peer: Program, tmp_path: Path, discovery: bool) -> None:
    """The peer itself reads both."""
    debian = next(peer.directory.parent.glob("**/etc/iscsi/iscsid.conf"))
    command = (
        ["-m", "discoverydb", "-t", "st", "-p", "10.0.0.1", "-o", "new"]
        if discovery
        else ["-m", "node", "-o", "new", "-T", A, "-p", "10.0.0.1:3260,1"]
    )
    trees = []
    for name, source in (("debian", debian), ("ours", ROOT / "etc/iscsid.conf"), ("none", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "iscsid.conf").write_bytes(source.read_bytes() if source else b"")
        outcome = run(peer, [command], tree=tmp_path / name, daemon=0)
        assert outcome.results[0].status == 0
        assert outcome.results[0].stderr == b""
        trees.append({path: entry for path, entry in outcome.tree.items() if path != "iscsid.conf"})
    assert trees[0] == trees[1]
    if not discovery:
        assert trees[0] != trees[2], "the peer did not read the file at all"


# iscsi_discovery with our iscsiadm


@pytest.mark.skipif(TGTD is None or shutil.which("tgtadm") is None, reason="tgt is not installed")
def test_iscsi_discovery_through_our_iscsiadm(tmp_path: Path) -> None:
    """A real target is asked and real records are changed; only the login is not made, it would be this machine's."""
    for name in ("iscsi", "run", "sys", "proc"):
        (tmp_path / name).mkdir()
    (tmp_path / "iscsi/initiatorname.iscsi").write_text("InitiatorName=iqn.2001-04.com.example:host\n")
    paths = Paths(
        config=str(tmp_path / "iscsi"),
        database=str(tmp_path / "iscsi"),
        etc=str(tmp_path),
        sysfs=str(tmp_path / "sys"),
        proc=str(tmp_path / "proc"),
        run=str(tmp_path / "run"),
    )
    logins: list[list[str]] = []

    def command(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
        if "--login" in argv:
            logins.append(list(argv))
            return 8
        return iscsiadm(argv, out, err, paths)

    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    with TgtTarget(name=A, backing=tmp_path / "disk") as target:
        port = str(target.port)
        out, err = StringIO(), StringIO()
        status = discovery_helper.main([target.address, "-p", port], out, err, command)
    where = f"{target.address}:{port}"
    assert (status, out.getvalue(), err.getvalue()) == (
        0,
        f"Cannot login over tcp to portal {where}\ndiscovered 1 targets at {target.address}\n",
        "",
    )
    assert logins == [["-m", "node", "--targetname", A, "--portal", where, "--login"]]
    shown = StringIO()
    assert iscsiadm(["-m", "node", "-T", A], shown, StringIO(), paths) == 0
    assert "node.conn[0].startup = manual\n" in shown.getvalue()
    assert "iface.transport_name = tcp\n" in shown.getvalue()
