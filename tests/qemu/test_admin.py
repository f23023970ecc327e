# SPDX-License-Identifier: LGPL-2.1-or-later
"""The proof that iscsiadm is a drop-in: one script, open-iscsi's and ours, every difference judged.

What makes sessions runs in two guests side by side, each section with both programs in one of them; the sections that
make none run on this machine (tests/qemu/admin/native.py). ``make check-all`` plays everything in one guest.
"""

from __future__ import annotations

import os
import re

import pytest

from tests.interop.peer_admin import our_program, peer_program
from tests.qemu.admin.compare import differences
from tests.qemu.admin.differences import ROWS, judge
from tests.qemu.admin.guest import CONTROL, OURS, PEER, SCRIPT, Transcript, play, play_at_once
from tests.qemu.admin.native import EVERYTHING, joined, play_natively, sections_of_the_guest
from tests.qemu.admin.steps import Step, parse
from tests.qemu.harness.machine import TWO
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory

pytestmark = [pytest.mark.boot, pytest.mark.root]

SECONDS = 1800.0
"""About eight minutes beside other tests; in one guest of two processors, with everything, ten when it is alone."""
CONTROL_STEP = "iscsiadm -m session"


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    return parse(SCRIPT.read_text())


@pytest.fixture(scope="module")
def played(
    laboratory: Laboratory, steps: list[Step], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Transcript]:
    """Three rounds: the peer, ours, and the peer with one word altered."""
    log, script = laboratory.log_path("admin"), SCRIPT.read_text()
    if os.environ.get(EVERYTHING):
        rounds = (PEER, OURS, CONTROL)
        return play(laboratory.cache, script, rounds, seconds=SECONDS, log=log, tell=tell_stderr, processors=TWO)
    natively = play_natively(script, peer_program(tell_stderr), our_program(tmp_path_factory.mktemp("iscsiadm")))
    in_guests = play_at_once(
        laboratory.cache,
        script,
        (PEER, OURS),
        sections_of_the_guest(steps),
        seconds=SECONDS,
        log=log,
        tell=tell_stderr,
    )
    return joined(natively, in_guests)


def test_both_ran_every_step(played: dict[str, Transcript], steps: list[Step]) -> None:
    """A comparison of nothing would find no difference."""
    wanted = {step.line for step in steps if step.compared}
    for name in (PEER, OURS):
        assert wanted == played[name].keys(), name
        assert not [result.failed for result in played[name].values() if result.failed]


def test_every_difference_is_explained(played: dict[str, Transcript], steps: list[Step]) -> None:
    judgement = judge(differences(steps, played[PEER], played[OURS]))
    assert not judgement.unexplained, "\n".join(map(str, judgement.unexplained))


def test_every_row_of_the_table_is_needed(played: dict[str, Transcript], steps: list[Step]) -> None:
    judgement = judge(differences(steps, played[PEER], played[OURS]))
    assert not [row.name for row in judgement.unused]


def test_a_program_with_one_wrong_word_is_found(played: dict[str, Transcript], steps: list[Step]) -> None:
    """The control: the peer's own binary that says ``No active sessionz.``, through the same comparison."""
    there = [step for step in steps if step.line in played[CONTROL]]
    judgement = judge(differences(there, played[PEER], played[CONTROL]), ROWS)
    found = [difference for difference in judgement.unexplained if difference.step.words == CONTROL_STEP]
    assert found
    assert found[0].stream == "stderr"
    assert found[0].peer == ("iscsiadm: No active sessions.",)
    assert found[0].ours == ("iscsiadm: No active sessionz.",)
    # And nothing else is wrong with it: a comparison that finds everything different proves as little.
    assert {difference.ours for difference in judgement.unexplained} == {("iscsiadm: No active sessionz.",)}


# -- the everyday path ------------------------------------------------------------------------------------------------

EVERYDAY = "everyday path"
NAME = r"iqn\.2026-01\.org\.example:"
PORTAL = r"10\.1\.0\.1:3261"
BY_PATH = rf"ip-{PORTAL}-iscsi-{NAME}"


@pytest.mark.parametrize(
    ("words", "which", "said"),
    [
        pytest.param(
            r"discovery -t sendtargets",
            0,
            rf"{PORTAL},1 {NAME}guarded\n{PORTAL},1 {NAME}archive\n{PORTAL},1 {NAME}obsolete\n",
            id="discover-with-the-four-settings-of-discovery",
        ),
        pytest.param(r":obsolete .* -o delete", 0, r"", id="delete-an-obsolete-target"),
        pytest.param(
            r"-L all",
            0,
            rf"(Logging in to .*\n){{2}}(Login to \[.*{NAME}\w+, .*\] successful\.\n){{2}}",
            id="login-all",
        ),
        pytest.param(
            r"session -P 3",
            0,
            r"([\s\S]*username: machine\n[\s\S]*username_in: storage\n"
            r"[\s\S]*Attached scsi disk sd[ab]\t\tState: running\n){2}",
            id="see-the-disks-and-the-four-settings-of-sessions",
        ),
        pytest.param(r"iscsiadm -m node$", 0, rf"{PORTAL},1 {NAME}archive\n{PORTAL},1 {NAME}guarded\n", id="list"),
        pytest.param(r"by-path", 0, rf"{BY_PATH}archive-lun-1\n{BY_PATH}guarded-lun-1\n", id="names-of-the-disks"),
        pytest.param(r"sort .*size", 0, r"16384\n16384\n", id="size-before"),
        pytest.param(r":guarded -R", 0, rf"Rescanning session \[sid: [12], target: {NAME}guarded, .*\n", id="rescan"),
        pytest.param(r"sort .*size", 1, r"16384\n49152\n", id="size-after"),
        pytest.param(
            r"-U all",
            0,
            rf"(Logging out .*\n){{2}}(Logout of \[.*{NAME}\w+, .*\] successful\.\n){{2}}",
            id="logout-all",
        ),
        pytest.param(r"--login$", 0, rf"Logging in .*\nLogin to .*{NAME}guarded, .* successful\.\n", id="login-one"),
        pytest.param(r"by-path", 2, rf"{BY_PATH}guarded-lun-1\n", id="name-of-the-disk"),
        pytest.param(
            r"--logout$", 0, rf"Logging out .*\nLogout of .*{NAME}guarded, .* successful\.\n", id="logout-one"
        ),
    ],
)
def test_the_path_of_a_wiki_reader_works(
    played: dict[str, Transcript], steps: list[Step], words: str, which: int, said: str
) -> None:
    """Each sentence by itself: what it promises is on standard output, nothing on standard error, status 0."""
    there = [step for step in steps if step.section == EVERYDAY and step.compared and re.search(words, step.words)]
    result = played[OURS][there[which].line]
    assert re.fullmatch(said, result.stdout), result.stdout
    assert (result.stderr, result.status) == ("", 0)


def test_an_obsolete_target_is_deleted_and_nothing_is_left_logged_in(
    played: dict[str, Transcript], steps: list[Step]
) -> None:
    there = [step for step in steps if step.section == EVERYDAY]
    deleted = next(step for step in there if ":obsolete" in step.words)
    gone = played[OURS][deleted.line].tree
    assert "nodes/iqn.2026-01.org.example:obsolete" in gone
    assert set(gone.values()) == {None}
    last = next(step for step in reversed(there) if step.words == "iscsiadm -m session")
    assert played[OURS][last.line].status == 21
