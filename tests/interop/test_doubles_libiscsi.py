# SPDX-License-Identifier: LGPL-2.1-or-later
"""The scripted target judged by an initiator and a conformance test we did not write: libiscsi's (libiscsi-bin).

A double that is wrong in the way our initiator is would prove nothing; libiscsi does not share our mistakes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.doubles.directory import Served, directory
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.limits import Limits
from tests.doubles.server import TargetServer
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("iscsi-test-cu") is None, reason="libiscsi-bin is not installed"),
]

NAME = "iqn.2004-01.com.example:disk"
LIMITS = {
    "defaults": Limits(),
    "unsolicited": Limits(initial_r2t=False, max_recv_data_segment_length=65536),
    "small": Limits(immediate_data=False, max_burst_length=8192, first_burst_length=4096),
}


@contextmanager
def served(limits: Limits) -> Iterator[TargetServer]:
    def make() -> FullTarget:
        units = Device({0: LogicalUnit(bytes(1 << 20)), 1: LogicalUnit(blocks=1 << 16)})
        records = directory([Served(NAME, [f"127.0.0.1:{server.port},1"])])
        return FullTarget(Plan(login=Script(limits=limits), device=units, records=records))

    with TargetServer(make) as server:
        yield server


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def failures(told: str) -> int:
    """Tests that failed, by the summary: the lines above it also tell of pages a disk need not have."""
    row = re.search(r"^ +tests +(\d+) +(\d+) +(\d+) +(\d+) ", told, re.MULTILINE)
    assert row is not None, told
    total, ran, _, failed = map(int, row.groups())
    assert total == ran > 0
    return failed


@pytest.mark.parametrize("limits", LIMITS)
def test_it_finds_targets_and_their_units(limits: str) -> None:
    with served(LIMITS[limits]) as server:
        listed = run("iscsi-ls", "-s", f"iscsi://127.0.0.1:{server.port}")
        assert f"Target:{NAME} Portal:127.0.0.1:{server.port},1" in listed
        # libiscsi gives the place of the last block, cut to whole units, for the size.
        assert "Lun:0    Type:DIRECT_ACCESS (Size:1023k)" in listed
        assert "Lun:1    Type:DIRECT_ACCESS (Size:31M)" in listed
        assert "Product:SCRIPTED DISK" in run("iscsi-inq", f"iscsi://127.0.0.1:{server.port}/{NAME}/1")
        # What libiscsi does is legal here: the double sees no mistake where there is none.
        assert server.violations == []


OF_DATA = ("iSCSI.iSCSIResiduals", "SCSI.Read10", "SCSI.Write10")
OF_THE_DISK = (
    "SCSI.Read16",
    "SCSI.Write16",
    "SCSI.ReadCapacity10",
    "SCSI.ReadCapacity16",
    "SCSI.TestUnitReady",
    "SCSI.Inquiry.Standard",
    "SCSI.Inquiry.AllocLength",
    "SCSI.Inquiry.EVPD",
    "SCSI.Inquiry.SupportedVPD",
    "SCSI.Inquiry.MandatoryVPDSBC",
)
RUNS = [(suite, limits) for suite in OF_DATA for limits in LIMITS] + [(suite, "defaults") for suite in OF_THE_DISK]


@pytest.mark.parametrize(("suite", "limits"), RUNS, ids=["-".join(run) for run in RUNS])
def test_it_passes_its_conformance_test(suite: str, limits: str) -> None:
    with served(LIMITS[limits]) as server:
        told = run("iscsi-test-cu", "--dataloss", "-t", suite, f"iscsi://127.0.0.1:{server.port}/{NAME}/1")
    assert failures(told) == 0, told


def test_it_ignores_commands_outside_the_window() -> None:
    with served(LIMITS["defaults"]) as server:
        told = run("iscsi-test-cu", "-t", "iSCSI.iSCSIcmdsn", f"iscsi://127.0.0.1:{server.port}/{NAME}/1")
        assert failures(told) == 0, told
        assert any("is beyond MaxCmdSN" in text for text in server.violations)
