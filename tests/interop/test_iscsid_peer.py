# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of iscsid: open-iscsi's daemon and ours say the same on the same words, apart from what is listed.

Everything that is decided before a daemon works, each in a place of its own: options, pid files, a second daemon, a
user who is not root. An entry of :data:`DIFFERENCES` that no longer differs fails too.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.iscsid_lab import PYTHON, Place, rendered
from tests.interop.peer_admin import Program, unavailable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

LINES = (
    *("-v", "--version", "--v", "-fv", "-vh", "-vx", "-n -v", "-n -p /x -v", "word -v", "-- -v -x -p"),
    *("-c /x -v", "--conf /x -v", "--config=/x -v", "-i /x -v", "--init=/x -v", "-p /x -v"),
    *("--fore -v", "-d 8 -v", "-d abc -v", "-d -5 -v", "--debug= -v", "-d99 -v", "-u 1 -g 1 -v"),
    *("-x", "-V", "-W", "-?", "-:", "-x -v", "-xh", "--foo", "--foo=1", "--c", "--p", "--vv"),
    *("-c", "-i", "-p", "-d", "-u", "-g", "--config", "--initiatorname", "--pid", "--debug", "--uid", "--gid"),
    *("--foreground=1", "--no-pid-file=1", "--version=1", "--help=1"),
    *("-p /x -n", "-n -p /x", "-p /x -f", "-f -p /x", "-f -n -p /x", "-np/x", "-p /x -n -x"),
)
"""Each ends before there is a daemon."""

HELP = "the help is our own sentences"
NUMBERS = "what is no user is no reason to go on as root"
WHO = "it says who runs, or what to do, also in the background, where the peer is silent"
UNHEARD = "the peer's parent may be gone before its child fails, so its status is 0 or 1; ours waits and says why"
DIFFERENCES = {
    **dict.fromkeys(("-h", "--help", "--he", "-hv", "-h -x"), HELP),
    **dict.fromkeys(("-u abc -v", "--uid= -v", "-u -5 -v", "-g abc -v", "-g -1 -v"), NUMBERS),
    **dict.fromkeys(("second", "second -f", "second -n", "second -p /run/x"), WHO),
    "user -f": WHO,
    **dict.fromkeys(("-p /none/x.pid", "user"), UNHEARD),
}
"""Command lines that differ in words, and why. The status is the same but for :data:`NUMBERS` and :data:`UNHEARD`."""

SQUATTER = (
    "import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('\\0ISCSIADM_ABSTRACT_NAMESPACE'); s.listen();"
    " print('ready', flush=True); time.sleep(60)"
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a run left."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def programs(peer_admin: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """open-iscsi's and ours, where a user may run them."""
    folder = Path(tempfile.mkdtemp(prefix="iscsid-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "peer").mkdir()
    shutil.copy(peer_admin.directory / "iscsid", folder / "peer" / "iscsid")
    for library in Path(peer_admin.environment["LD_LIBRARY_PATH"]).glob("lib*.so*"):
        shutil.copy(library, folder / "peer")
    (folder / "ours").mkdir()
    rendered(folder / "ours")
    yield folder / "peer" / "iscsid", folder / "ours" / "iscsid"
    shutil.rmtree(folder)


def said(program: Path, line: str) -> Said:
    """Run one line: ``second`` beside a daemon, ``user`` as nobody."""
    words = line.split()
    before: tuple[str, ...] = ("timeout", "10")
    with Place() as place:
        if words[:1] == ["second"]:
            squatter = place.spawn(PYTHON, "-c", SQUATTER)
            assert squatter.stdout is not None
            assert squatter.stdout.readline() == "ready\n"
            del words[0]
        elif words[:1] == ["user"]:
            before += ("setpriv", "--reuid=65534", "--clear-groups")
            del words[0]
        return ran(place, program, before, words)


def ran(place: Place, program: Path, before: tuple[str, ...], words: list[str]) -> Said:
    # The libraries not as a variable of a child: a program that changes its user is asked the same way.
    before += ("env", f"LD_LIBRARY_PATH={program.parent}")
    status, out, err = place.run(*before, str(program), *words)
    return Said(status, out, err.replace(str(program), "PROGRAM"))


def both(programs: tuple[Path, Path], lines: tuple[str, ...]) -> dict[str, tuple[Said, Said]]:
    with ThreadPoolExecutor(4) as pool:
        made = {line: [pool.submit(said, program, line) for program in programs] for line in lines}
        return {line: (peer.result(), ours.result()) for line, (peer, ours) in made.items()}


def test_both_say_the_same(programs: tuple[Path, Path]) -> None:
    peer, ours = programs
    with Place() as place, ThreadPoolExecutor(4) as pool:
        pairs = pool.map(lambda line: [ran(place, program, (), line.split()) for program in (peer, ours)], LINES)
        assert not {line: pair for line, pair in zip(LINES, pairs, strict=True) if pair[0] != pair[1]}


def test_what_differs_on_purpose_does(programs: tuple[Path, Path]) -> None:
    for line, (peer, ours) in both(programs, tuple(DIFFERENCES)).items():
        why = DIFFERENCES[line]
        assert peer != ours, line
        if why == NUMBERS:
            assert (peer.status, ours.status) == (0, 1), line
        elif why == UNHEARD:
            assert (peer.status in (0, 1), ours.status) == (True, 1), line
        else:
            assert peer.status == ours.status, line
        if why in (WHO, UNHEARD):
            assert ours.err.startswith("iscsid: "), line
            assert ours.err.count("\n") == 1, line


def test_a_kernel_without_iscsi_ends_the_peer_and_not_us(programs: tuple[Path, Path]) -> None:
    peer, ours = (said(program, "-f") for program in programs)
    if peer.status == 124:
        pytest.skip("this kernel has iSCSI")
    assert (peer.status, peer.err) == (1, "iscsid: can not create NETLINK_ISCSI socket [Protocol not supported]\n")
    assert ours.status == 124, "the kernel may get its iSCSI later"
