# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cases as values, and the watcher that follows a machine: with a scripted machine, so every ending is tried."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.cases import BOOTS, CASES, CONTROLS, INCOMING, MUTUAL, BootCase, Fault
from tests.qemu.harness.console import LineSplitter
from tests.qemu.harness.errors import CHECKOUT, BootFailed
from tests.qemu.harness.firmware import NOBODY_ADDRESS, Lane
from tests.qemu.harness.machine import ConsoleLine, Ended, Event, Machine, VerdictBytes
from tests.qemu.harness.run import (
    ABSENT_LUN,
    ABSENT_MAC,
    Watcher,
    firmware_spec,
    kernel_arguments,
    no_observer,
    target_credentials,
)
from tests.unit.harness.test_verdict import EXPECTED, SAID

PORT = 3999


def control(fault: Fault) -> BootCase:
    return next(case for case in CONTROLS if case.fault is fault)


def test_every_fault_has_one_control_with_its_stage_and_words() -> None:
    assert sorted(case.fault.name for case in CONTROLS if case.fault) == sorted(fault.name for fault in Fault)
    for case in CONTROLS:
        assert case.failure is not None
        re.compile(case.failure.words)


def test_boots_have_no_fault_and_cover_the_lanes_and_variants() -> None:
    assert all(case.fault is None and case.failure is None for case in BOOTS)
    assert {case.lane for case in BOOTS} >= {Lane.TABLE, Lane.IPXE_BIOS}
    assert {case.variant.value for case in BOOTS} == {"systemd", "shell"}
    assert {case.dhcp for case in BOOTS} == {True, False}


def test_names_are_unique_and_fit_a_command_line() -> None:
    assert len(CASES) == len(BOOTS) + len(CONTROLS)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in CASES)


def test_every_argument_that_ends_a_lost_machine_is_there() -> None:
    arguments = kernel_arguments(BOOTS[0], nonce="abc", extra=("iscsiboot.stay",))
    assert {"panic=-1", "rd.shell=0", "rd.emergency=poweroff", "iscsiboot.nonce=abc"} <= set(arguments)
    assert arguments[-1] == "iscsiboot.stay"
    assert not any(word.startswith("rd.iscsiboot") for word in arguments)


def test_controls_are_bounded() -> None:
    for case in CONTROLS:
        assert "rd.iscsiboot.timeout=20" in kernel_arguments(case, nonce="n")


def faulty_values(fault: Fault | None) -> dict[str, Any]:
    spec = firmware_spec(BOOTS[1] if fault is None else control(fault), PORT)
    return {
        "target": spec.target,
        "address": spec.address,
        "port": spec.port == PORT,
        "lun": spec.lun,
        "mac": spec.mac,
        "checksum": spec.checksum_ok,
    }


@pytest.mark.parametrize(
    ("fault", "field", "value"),
    [
        (Fault.TARGET_OFF, "address", NOBODY_ADDRESS),
        (Fault.PORT_CLOSED, "port", False),
        (Fault.WRONG_NAME, "target", "iqn.2025-01.org.example:root-wrong"),
        (Fault.LUN_ABSENT, "lun", ABSENT_LUN),
        (Fault.NIC_ABSENT, "mac", ABSENT_MAC),
        (Fault.BAD_CHECKSUM, "checksum", False),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_a_fault_changes_one_value_of_the_table(fault: Fault, field: str, value: object) -> None:
    right, wrong = faulty_values(None), faulty_values(fault)
    assert wrong[field] == value
    assert {key for key in right if right[key] != wrong[key]} == {field}


@pytest.mark.parametrize("fault", [Fault.WRONG_SECRET, Fault.WRONG_MUTUAL_SECRET, Fault.NO_ISCSI_TCP])
def test_other_faults_leave_the_table_right(fault: Fault) -> None:
    assert faulty_values(fault) == faulty_values(None)


def test_the_target_knows_what_the_table_says() -> None:
    assert target_credentials(BootCase(name="x", credentials=MUTUAL)) == MUTUAL
    assert target_credentials(BootCase(name="x")) is None


def test_a_wrong_secret_is_wrong_at_the_target_only() -> None:
    case = control(Fault.WRONG_SECRET)
    known = target_credentials(case)
    assert known is not None
    assert case.credentials is not None
    assert known.outgoing.name == case.credentials.outgoing.name
    assert known.outgoing.secret != case.credentials.outgoing.secret


def test_a_lying_target_accepts_us_and_answers_wrong() -> None:
    known = target_credentials(control(Fault.WRONG_MUTUAL_SECRET))
    assert known is not None
    assert known.incoming is not None
    assert known.outgoing == MUTUAL.outgoing
    assert known.incoming.name == INCOMING.name
    assert known.incoming.secret != INCOMING.secret


VERDICT_LINE = json.dumps(SAID).encode() + b"\n"
POWER_OFF = [Ended(0, 50.0)]


class ScriptedMachine:
    """Gives events from a list; one call of ``events`` goes on where the last one stopped."""

    age = 12.5

    def __init__(self, events: list[Event]) -> None:
        self._rest = iter(events)
        self.lines = LineSplitter()

    def events(self, deadline: Deadline) -> Iterator[Event]:
        yield from self._rest


def watch(*events: Event) -> Any:
    machine = cast("Machine", ScriptedMachine(list(events)))
    return Watcher(BootCase(name="test-case"), machine, Path("/logs/x"), EXPECTED, no_observer).run()


def test_verdict_and_power_off() -> None:
    result = watch(ConsoleLine("hello", 1.0), VerdictBytes(VERDICT_LINE, 40.0), ConsoleLine("bye", 41.0), *POWER_OFF)
    assert result.powered_off
    assert [line.text for line in result.lines] == ["hello", "bye"]
    assert result.verdict.received_at == 40.0


def test_a_machine_that_does_not_power_off_is_told_of() -> None:
    assert not watch(VerdictBytes(VERDICT_LINE, 40.0)).powered_off


def test_a_verdict_in_pieces() -> None:
    pieces = [VerdictBytes(VERDICT_LINE[:100], 40.0), VerdictBytes(VERDICT_LINE[100:], 40.1)]
    assert watch(*pieces, *POWER_OFF).verdict.received_at == 40.1


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        ([], "no verdict: 300 s have passed"),
        ([Ended(0, 9.0)], r"no verdict: QEMU ended \(status 0\)"),
        ([ConsoleLine("multi-user reached", 1.0), Ended(0, 9.0)], "no verdict"),
        (
            [ConsoleLine("You are in emergency mode.", 1.0), VerdictBytes(VERDICT_LINE, 2.0)],
            "the console says: You are",
        ),
        ([ConsoleLine("Kernel panic - not syncing: x", 1.0)], "the console says: Kernel panic"),
        ([VerdictBytes(VERDICT_LINE[:-1], 1.0), Ended(0, 9.0)], "no verdict"),
        ([VerdictBytes(b"yes\n", 1.0)], "no JSON"),
        ([VerdictBytes(VERDICT_LINE.replace(b'"n1"', b'"n2"'), 1.0)], "another run"),
    ],
    ids=["silence", "ended", "only words", "emergency", "panic", "half", "no json", "old nonce"],
)
def test_everything_else_is_a_failure(events: list[Event], cause: str) -> None:
    with pytest.raises(BootFailed, match=cause) as caught:
        watch(*events)
    text = str(caught.value)
    assert f"replay:  cd {CHECKOUT} && /usr/bin/python3 -m tests.qemu.replay test-case" in text
    assert "console: /logs/x" in text
    assert caught.value.evidence.seconds == 12.5


def test_the_staying_machine_is_not_waited_for() -> None:
    said = {**SAID, "cmdline": "root=x iscsiboot.stay"}
    machine = cast("Machine", ScriptedMachine([VerdictBytes(json.dumps(said).encode() + b"\n", 1.0), *POWER_OFF]))
    result = Watcher(BootCase(name="x"), machine, Path("/l"), EXPECTED, no_observer).run()
    assert not result.powered_off
    assert list(machine.events(Deadline(at=0.0, reason=""))) == POWER_OFF


def test_the_observer_sees_everything() -> None:
    seen: list[object] = []
    events: list[Event] = [ConsoleLine("a", 1.0), VerdictBytes(VERDICT_LINE, 2.0), *POWER_OFF]
    machine = cast("Machine", ScriptedMachine(events))
    Watcher(BootCase(name="x"), machine, Path("/l"), EXPECTED, lambda _, event: seen.append(event)).run()
    assert seen == events
