# SPDX-License-Identifier: LGPL-2.1-or-later
"""The benchmark's own instruments against a real tgtd: both contestants do all of the work, and nothing is left."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.initiator import ours
from benchmarks.initiator.blackholes import in_namespace
from benchmarks.initiator.contest import LIBISCSI, OURS, Case, contest
from benchmarks.initiator.farm import LOOPBACK, SECRET, USER, Farm
from benchmarks.initiator.guest import overlay
from benchmarks.initiator.libiscsi import LibIscsi, LibIscsiError
from benchmarks.initiator.rates import discovery_works, login_works, rates
from iscsiboot.initiator.errors import LoginError
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.discover import discover, discovery_config
from tests.doubles.directory import numbered
from tests.doubles.server import TargetServer
from tests.doubles.session import FullTarget, Plan
from tests.qemu.harness.errors import HarnessError

pytestmark = [
    pytest.mark.root,
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("tgtd") is None or os.geteuid() != 0, reason="needs root and the package tgt"),
]
needs_libiscsi = pytest.mark.skipif(
    ctypes.util.find_library("iscsi") is None or shutil.which("iscsi-ls") is None or shutil.which("time") is None,
    reason="needs the packages libiscsi-bin and time",
)


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    with Farm(120, tell=lambda _: None, chap=True) as made:
        yield made


def test_every_target_is_found_once(farm: Farm) -> None:
    found: list[DiscoveredTarget] = []
    assert ours.discover(LOOPBACK, farm.port, found.append) == 120
    assert {target.name for target in found} == {Farm.name(number) for number in range(1, 121)}


@pytest.mark.parametrize("segment", [512, 1024, 4096])
def test_an_answer_of_many_pdus_is_whole(farm: Farm, segment: int) -> None:
    """A pair that begins in one PDU ends in the next: tgt cuts anywhere, and without the C bit."""
    found: list[str] = []
    done = discover(
        Portal(address=parse_ip(LOOPBACK), port=farm.port),
        discovery_config(
            initiator_name=ours.INITIATOR,
            entropy=os.urandom,
            params=SessionParams(max_recv_data_segment_length=segment),
        ),
        deadline=Deadline.after(20, now=time.monotonic(), reason="a discovery"),
        on_target=lambda target: found.append(target.name),
    )
    assert (done.found, done.refused) == (120, 0)
    assert set(found) == {Farm.name(number) for number in range(1, 121)}


def test_the_last_target_demands_chap_and_the_first_does_not(farm: Farm) -> None:
    ours.login(LOOPBACK, farm.port, Farm.name(1))
    ours.login(LOOPBACK, farm.port, Farm.name(120), (USER, SECRET))
    with pytest.raises(LoginError):
        ours.login(LOOPBACK, farm.port, Farm.name(120))


@needs_libiscsi
def test_libiscsi_does_the_same(farm: Farm) -> None:
    library, portal = LibIscsi(), f"{LOOPBACK}:{farm.port}"
    assert library.discover(portal, ours.INITIATOR) == 120
    library.login(portal, ours.INITIATOR, Farm.name(120), (USER, SECRET))
    with pytest.raises(LibIscsiError, match=r"iscsi_login_sync: .*[Aa]uth"):
        library.login(portal, ours.INITIATOR, Farm.name(120))


@needs_libiscsi
def test_an_answer_of_two_pdus_is_more_than_libiscsi_reads() -> None:
    """The reason why there is no C figure for 10,000 targets; when this fails, there can be one."""
    plan = Plan(records=numbered(10_000))
    with TargetServer(lambda: FullTarget(plan)) as server:
        assert ours.discover(LOOPBACK, server.port, lambda _: None) == 10_000
        with pytest.raises(LibIscsiError, match=r"iscsi_discovery_sync: .*text reply"):
            LibIscsi().discover(f"{LOOPBACK}:{server.port}", ours.INITIATOR)


@needs_libiscsi
def test_paces_of_all_works(farm: Farm) -> None:
    library = LibIscsi()
    works = {**login_works(farm, library), **discovery_works(farm, library)}
    found = rates(works, rounds=1, seconds=0.01, tell=lambda _: None)
    assert [rate.contestant for rate in found] == [OURS, LIBISCSI] * 3
    assert all(rate.per_second > 1 and not rate.failure for rate in found)


@needs_libiscsi
def test_both_commands_list_them_all(farm: Farm) -> None:
    case = Case(family="tgt", size=farm.size, port=farm.port)
    runs = list(contest(LOOPBACK, [case], rounds=1, open_iscsi=False))
    assert [(run.contestant, run.listed, run.failure) for run in runs] == [(OURS, 120, ""), (LIBISCSI, 120, "")]
    assert all(1000 < run.peak_kib < 60_000 for run in runs)


def test_nothing_is_left(tmp_path: Path) -> None:
    sockets = Path("/var/run/tgtd")
    before = set(sockets.glob("*")) if sockets.exists() else set()
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    with Farm(1, tell=lambda _: None, backing=tmp_path / "disk") as farm:
        mine = set(sockets.glob("*")) - before
        assert mine
        ours.login(LOOPBACK, farm.port, Farm.name(1))
    assert not mine & set(sockets.glob("*"))


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs the package nftables")
def test_dark_portals_cost_one_timeout_together() -> None:
    probe = in_namespace(6, 3, 1.0)
    assert (probe.portals, probe.dark) == (6, 3)
    # One after the other they would cost three.
    assert 1.0 < probe.seconds < 2.5


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs the package nftables")
def test_a_probe_that_cannot_be_measured_is_an_error() -> None:
    with pytest.raises(HarnessError, match="could not be measured: status 2"):
        in_namespace(2, 3, 1.0)


def test_the_guest_s_archive_runs_the_contest(tmp_path: Path) -> None:
    archive = overlay(tmp_path)
    out = subprocess.run(
        ["cpio", "-tv", "--quiet"], stdin=archive.open("rb"), capture_output=True, text=True, check=True
    )
    entries = {line.split()[-1]: line for line in out.stdout.splitlines()}
    assert entries["init"].startswith("-rwxr-xr-x")
    assert {"bench/benchmarks/initiator/contest.py", "bench/iscsiboot/session/discover.py"} <= set(entries)
    assert any(name.startswith("bench/iscsiboot/session/__pycache__/discover.") for name in entries)
    assert not any(name.startswith("bench/tests") for name in entries)
    listed = subprocess.run(
        [sys.executable, "-m", "benchmarks.initiator.contest", "--help"],
        cwd=tmp_path / "overlay/bench",
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "FAMILY:SIZE:PORT" in listed.stdout
