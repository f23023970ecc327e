# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fixtures that run real targets: ready when they say so, one beside the other, gone without a trace."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.istgt import ISTGT, Istgt, IstgtFailed
from tests.doubles.peers import LOOPBACK, TargetSpec, account, await_word
from tests.doubles.tgt import RUN, TGTD, Tgtd, TgtFailed, TgtTarget
from tests.qemu.harness.errors import HarnessError

pytestmark = [pytest.mark.interop]
needs_tgt = pytest.mark.skipif(TGTD is None or os.geteuid() != 0, reason="needs root and the package tgt")
needs_istgt = pytest.mark.skipif(ISTGT is None, reason="istgt is not installed (package istgt)")

NAME = "iqn.2026-11.example.iscsiboot:peers"
USER, OWN = ("user", "initiator-secret"), ("tgt", "secret-of-the-target")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    return path


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) != 0


@pytest.mark.root
@needs_tgt
def test_two_tgtd_at_once_and_nothing_left(disk: Path) -> None:
    mutual = TgtTarget(name=NAME, backing=disk, chap=USER, mutual=OWN)
    with mutual as first, Tgtd(TargetSpec(name=f"{NAME}-1"), TargetSpec(name=f"{NAME}-2")) as second:
        for target in (first, second):
            socket.create_connection((LOOPBACK, target.port), timeout=5).close()
        shown = [target.admin("--lld", "iscsi", "--mode", "target", "--op", "show") for target in (first, second)]
    assert f"Target 1: {NAME}\n" in shown[0]
    assert f"{OWN[0]} (outgoing)" in shown[0]
    assert f"Target 2: {NAME}-2\n" in shown[1]
    assert refuses(first.port)
    assert refuses(second.port)
    assert not list(RUN.glob(f"socket.{first.control}*")) + list(RUN.glob(f"socket.{second.control}*"))


@pytest.mark.root
@needs_tgt
def test_a_control_number_in_use_is_noticed_and_its_owner_unharmed(disk: Path) -> None:
    with TgtTarget(name=NAME, backing=disk) as owner:
        with pytest.raises(TgtFailed, match="ended with status"):
            TgtTarget(name=f"{NAME}-2", control=owner.control).start()
        assert owner.initiators() == []


@pytest.mark.root
@needs_tgt
def test_a_refused_operation_is_told_without_the_secret(disk: Path) -> None:
    with TgtTarget(name=NAME, backing=disk, chap=USER) as target:
        words = ["--mode", "account", "--op", "new", "--user", USER[0], "--password", "s3cret-s3cret"]
        with pytest.raises(TgtFailed) as caught:
            target.admin("--lld", "iscsi", *words)
    assert "account new" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.root
@needs_tgt
def test_a_disk_that_is_not_there_ends_tgtd(tmp_path: Path) -> None:
    target = TgtTarget(name=NAME, backing=tmp_path / "none")
    with pytest.raises(HarnessError, match="logicalunit"), target:
        pass
    assert refuses(target.port)
    assert not list(RUN.glob(f"socket.{target.control}*"))


@needs_istgt
def test_two_istgt_at_once_and_nothing_left(disk: Path) -> None:
    spec = TargetSpec(name=NAME, disk=disk, chap=account(USER), mutual=account(OWN))
    with Istgt(spec) as first, Istgt(TargetSpec(name=f"{NAME}-2", disk=disk)) as second:
        for target in (first, second):
            socket.create_connection((LOOPBACK, target.port), timeout=5).close()
    assert refuses(first.port)
    assert refuses(second.port)


@needs_istgt
def test_what_istgt_does_not_like_is_told(disk: Path) -> None:
    target = Istgt(TargetSpec(name=NAME, disk=disk, keys={"InitialR2T": "No"}))
    with pytest.raises(IstgtFailed, match=r"(?s)status 1.*not supported value No"), target:
        pass
    assert refuses(target.port)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_word_is_told_from_an_end(pipe: tuple[int, int]) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        os.write(pipe[1], b"x")
        assert await_word(pipe[0], child.pid, reason="a word")
    os.read(pipe[0], 1)
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        assert not await_word(pipe[0], child.pid, reason="a word")


@pytest.mark.root
@needs_istgt
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_istgt_needs_no_root(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    code = (
        "import pathlib, socket, tempfile\n"
        "from tests.doubles.istgt import Istgt\n"
        "from tests.doubles.peers import TargetSpec\n"
        "with tempfile.TemporaryDirectory() as name:\n"
        "    disk = pathlib.Path(name) / 'disk'\n"
        "    disk.write_bytes(bytes(1 << 20))\n"
        f"    with Istgt(TargetSpec(name={NAME!r}, disk=disk)) as target:\n"
        "        socket.create_connection((target.address, target.port), timeout=5).close()\n"
        "        print('served')\n"
    )
    done = subprocess.run(
        # The test's own interpreter may lie where nobody cannot look.
        ["/usr/bin/python3", "-B", "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr
