# SPDX-License-Identifier: LGPL-2.1-or-later
"""The target as commands, and a real tgtd on the loopback."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemu.harness.cases import INCOMING, OUTGOING, TARGET
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.target import LOOPBACK, Target, TargetSpec, admin_commands, free_port

needs_tgt = pytest.mark.skipif(
    shutil.which("tgtd") is None or os.geteuid() != 0, reason="needs root and the package tgt"
)


def test_commands_in_the_order_tgt_needs() -> None:
    spec = TargetSpec(name=TARGET, disk=Path("/d"), chap=OUTGOING, mutual=INCOMING)
    commands = [" ".join(words) for words in admin_commands(spec)]
    account = "--lld iscsi --mode account"
    assert commands == [
        f"--lld iscsi --mode target --op new --tid 1 --targetname {TARGET}",
        "--lld iscsi --mode logicalunit --op new --tid 1 --lun 1 -b /d",
        f"{account} --op new --user machine --password initiator-secret-16",
        f"{account} --op bind --tid 1 --user machine",
        f"{account} --op new --user storage --password target-secret-14",
        f"{account} --op bind --tid 1 --user storage --outgoing",
        "--lld iscsi --mode target --op bind --tid 1 -I ALL",
    ]


def test_without_chap_there_are_no_accounts() -> None:
    assert not any("account" in words for words in admin_commands(TargetSpec(name=TARGET, disk=Path("/d"))))


def test_a_free_port_is_free() -> None:
    port = free_port()
    with socket.socket() as listener:
        listener.bind((LOOPBACK, port))


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ib-", dir="/tmp") as name:
        (Path(name) / "disk").write_bytes(bytes(1 << 20))
        yield Path(name)


@pytest.mark.root
@pytest.mark.interop
@needs_tgt
def test_two_targets_at_once_and_nothing_left(runtime: Path) -> None:
    other = runtime / "other"
    other.mkdir()
    spec = TargetSpec(name=TARGET, disk=runtime / "disk", chap=OUTGOING, mutual=INCOMING)
    with Target(spec, runtime=runtime) as first, Target(spec, runtime=other) as second:
        for target in (first, second):
            with socket.create_connection((LOOPBACK, target.port), timeout=5):
                pass
        shown = first.admin("--lld", "iscsi", "--mode", "target", "--op", "show")
        controls = [first._control, second._control]
    assert TARGET in shown
    assert f"{INCOMING.name} (outgoing)" in shown
    for target in (first, second):
        with socket.socket() as probe:
            assert probe.connect_ex((LOOPBACK, target.port)) != 0
    for control in controls:
        assert not list(Path("/var/run/tgtd").glob(f"socket.{control}*"))


@pytest.mark.root
@pytest.mark.interop
@needs_tgt
def test_a_refused_operation_is_told_without_the_secret(runtime: Path) -> None:
    with Target(TargetSpec(name=TARGET, disk=runtime / "disk", chap=OUTGOING), runtime=runtime) as target:
        words = [
            "--lld",
            "iscsi",
            "--mode",
            "account",
            "--op",
            "new",
            "--user",
            OUTGOING.name,
            "--password",
            "s3cret-s3cret",
        ]
        with pytest.raises(HarnessError) as caught:
            target.admin(*words)
    assert "account" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.root
@pytest.mark.interop
@needs_tgt
def test_a_disk_that_is_not_there_ends_tgtd(runtime: Path) -> None:
    target = Target(TargetSpec(name=TARGET, disk=runtime / "none"), runtime=runtime)
    with pytest.raises(HarnessError, match="logicalunit"), target:
        pass
    with socket.socket() as probe:
        assert probe.connect_ex((LOOPBACK, target.port)) != 0
