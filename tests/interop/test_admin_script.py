# SPDX-License-Identifier: LGPL-2.1-or-later
"""The part of the comparison's script that makes no session, with both programs on this machine.

tests/qemu/test_admin.py puts it together with the guest's part and judges the whole, unused rows of the table too.
"""

from __future__ import annotations

import re

import pytest

from tests.interop.peer_admin import Program, unavailable
from tests.qemu.admin.compare import differences
from tests.qemu.admin.differences import judge
from tests.qemu.admin.guest import CONTROL, OURS, PEER, SCRIPT, Transcript
from tests.qemu.admin.native import play_natively, sections_of_the_guest
from tests.qemu.admin.steps import NATIVE, Step, parse

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

NEEDS_A_GUEST = r"\b(modprobe|systemctl|udevadm|mount|/sys/block|/dev/disk)\b"


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    return [step for step in parse(SCRIPT.read_text()) if step.section in NATIVE]


@pytest.fixture(scope="module")
def played(peer_admin: Program, our_admin: Program) -> dict[str, Transcript]:
    return play_natively(SCRIPT.read_text(), peer_admin, our_admin)


def test_no_section_is_left_out() -> None:
    whole = parse(SCRIPT.read_text())
    titles = {step.section for step in whole}
    assert titles > NATIVE, "a section has another name"
    assert set(sections_of_the_guest(whole)) == titles - NATIVE


def test_nothing_here_needs_a_kernel(steps: list[Step]) -> None:
    """The kernel's view is compared in the guest, and whatever asks it for something runs there."""
    assert not [step.words for step in steps if step.words == "kernel" or re.search(NEEDS_A_GUEST, step.words)]


def test_both_ran_every_step(played: dict[str, Transcript], steps: list[Step]) -> None:
    wanted = {step.line for step in steps if step.compared}
    for name in (PEER, OURS):
        assert wanted == played[name].keys(), name
        assert not [result.failed for result in played[name].values() if result.failed]
        assert not any(result.sessions for result in played[name].values())


def test_every_difference_is_explained(played: dict[str, Transcript], steps: list[Step]) -> None:
    judgement = judge(differences(steps, played[PEER], played[OURS]))
    assert not judgement.unexplained, "\n".join(map(str, judgement.unexplained))
    assert judgement.explained


def test_a_program_with_one_wrong_word_is_found(played: dict[str, Transcript], steps: list[Step]) -> None:
    there = [step for step in steps if step.line in played[CONTROL]]
    judgement = judge(differences(there, played[PEER], played[CONTROL]))
    assert {difference.ours for difference in judgement.unexplained} == {("iscsiadm: No active sessionz.",)}
    assert {difference.peer for difference in judgement.unexplained} == {("iscsiadm: No active sessions.",)}
