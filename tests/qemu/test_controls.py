# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boots that must fail: at their stage, for their cause, in bounded time, and without a verdict."""

from __future__ import annotations

import re

import pytest

from tests.qemu.harness.cases import ATTACH_SECONDS, CONTROLS, BootCase
from tests.qemu.harness.errors import BootFailed, Evidence
from tests.qemu.harness.run import Laboratory, boot

pytestmark = [pytest.mark.boot, pytest.mark.root]

FAILURE = re.compile(
    r"(?:^|\s)iscsistart: (?P<stage>arguments|firmware|modules|network|connect|login|handoff|scan|device|image): "
    r"(?P<cause>.*?)(?:; next: (?P<hint>.+))?$"
)
"""``iscsistart: stage: subject: cause; next: hint``; the journal's prefix may stand before it."""


def failures(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Stage, subject with cause, and hint of every failure line on the console."""
    found = filter(None, map(FAILURE.search, evidence.lines))
    return [(match["stage"], match["cause"], match["hint"] or "") for match in found]


@pytest.mark.parametrize("case", CONTROLS, ids=lambda case: case.name)
def test_fails_with_stage_and_cause_in_bounded_time(case: BootCase, laboratory: Laboratory) -> None:
    assert case.failure is not None
    with pytest.raises(BootFailed) as caught:
        boot(case, laboratory)
    failure, evidence = caught.value, caught.value.evidence
    assert not evidence.verdict, failure
    assert "have passed" not in failure.cause, f"it did not end by itself: {failure}"
    assert evidence.seconds < case.seconds

    told = failures(evidence)
    assert told, f"no line of iscsistart with a stage: {failure}"
    right = [line for line in told if line[0] == case.failure.stage.value and re.search(case.failure.words, line[1])]
    assert right, f"{told} has no {case.failure.stage.value}: .*{case.failure.words}: {failure}"
    assert all(hint for _, _, hint in right), "a failure says what to do next"
    assert not any("Traceback" in line for line in evidence.lines), failure
    secrets = () if case.credentials is None else (case.credentials.outgoing, case.credentials.incoming)
    for chap in filter(None, secrets):
        assert chap.secret.reveal().decode() not in evidence.log.read_text(errors="replace")


def test_a_failed_attach_ends_within_its_own_bound(laboratory: Laboratory) -> None:
    """``rd.iscsiboot.timeout`` holds where it matters most: nobody answers at all."""
    case = next(case for case in CONTROLS if case.name == "control-target-off")
    with pytest.raises(BootFailed) as caught:
        boot(case, laboratory)
    started = [at for at, line in console_times(caught.value.evidence) if "iscsistart: version" in line]
    failed = [at for at, line in console_times(caught.value.evidence) if FAILURE.search(line)]
    assert started
    assert failed
    assert failed[-1] - started[0] < ATTACH_SECONDS + 10


def console_times(evidence: Evidence) -> list[tuple[float, str]]:
    """Kernel-stamped lines (``[   12.345678] text``), which is how the journal writes to the console."""
    found = ((re.match(r"\[\s*([0-9]+\.[0-9]+)\] (.*)", line)) for line in evidence.lines)
    return [(float(match[1]), match[2]) for match in found if match]
