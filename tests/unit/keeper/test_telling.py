# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which lines are written, by the words people read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.keeper import policy
from iscsiboot.keeper.situation import (
    Broke,
    Due,
    Failed,
    Failure,
    Happening,
    Line,
    OrderedToLeave,
    Phase,
    Situation,
    StopFailed,
    Stopped,
    Succeeded,
    Vanished,
)
from iscsiboot.keeper.telling import errno_words

WORDS = "connect: 10.0.0.1:3260: connection refused; next: check that the target runs"


class Story:
    """A session told in happenings; the lines so far with their times."""

    def __init__(self) -> None:
        self.situation: Situation = policy.begin(now=0.0)
        self.lines: list[tuple[float, str]] = []
        self._now = 0.0

    def at(self, now: float, *happenings: Happening) -> list[str]:
        """The lines of these happenings; Due waits for its time, what follows is no earlier."""
        said = []
        for happening in happenings:
            now = max(now, self._now)
            if isinstance(happening, Due) and self.situation.wake is not None:
                now = max(now, self.situation.wake)
            self._now = now
            decision = policy.decide(self.situation, happening, now=now, chance=0.5)
            self.situation = decision.situation
            said += [f"{line.level.name} {_whole(line)}" for line in decision.lines]
        self.lines += [(now, text) for text in said]
        return said


def _whole(line: Line) -> str:
    """As it is in the log, with short words for the session's name."""
    head = line.head.format(sid=1, place="[T]", iface="default")
    return f"{head}: {line.text}" if line.text else head


@pytest.fixture
def broken() -> Story:
    story = Story()
    assert story.at(100, Broke(1022), Stopped()) == [
        "WARNING Kernel reported iSCSI connection 1:0 error (1022 - ISCSI_ERR_NOP_TIMEDOUT: the target does not answer "
        "pings) state (3) [T]: connecting again; next: check the network and the target"
    ]
    return story


def unreachable(words: str = WORDS) -> Failed:
    return Failed(Failure.UNREACHABLE, words)


def test_a_short_restart_is_two_lines(broken: Story) -> None:
    assert broken.at(101, unreachable(), Due()) == []
    assert broken.at(101.5, Succeeded(2.0)) == [
        "NOTICE connection1:0 is operational after recovery (2 attempts) [T]: it took 1.5 s"
    ]


def test_an_outage_is_told_at_growing_intervals(broken: Story) -> None:
    for now in range(101, 100 + 3 * 86400, 30):
        broken.at(now, unreachable(), Due())
    hours = [(now - 100) / 3600 for now, _ in broken.lines]
    assert hours == pytest.approx([0, 0, 0.25, 1, 4, 16, 40, 64], rel=0.03, abs=0.01)
    assert broken.lines[1][1] == f"WARNING session 1 [T]: no connection for 31 s, 2 attempts: {WORDS}; trying on"
    assert broken.lines[2][1].startswith("WARNING session 1 [T]: no connection for 15 min, 31 attempts: ")


def test_an_answer_is_told_at_once_with_what_becomes_of_it(broken: Story) -> None:
    words = "login: iqn.x: authentication failed (02/01); next: correct the secret"
    denied = Failed(Failure.DENIED, words, rejected=True)
    assert broken.at(101, denied, Due()) == [
        f"ERROR connection1:0 login rejected [T]: no connection for 1.0 s, 1 attempt: {words}; "
        "the record is read again and tried every half minute"
    ]
    assert broken.at(120, denied, Due()) == []
    refused = Failed(Failure.REFUSED, "login: iqn.x: no such target (02/03)")
    assert broken.at(140, refused)[0].endswith("(02/03); tried again every half minute")


def test_failures_that_take_turns_are_told_once_each(broken: Story) -> None:
    for now in range(101, 800, 4):
        broken.at(now, unreachable(), Due(), unreachable(), Due())
        broken.at(now + 1, Failed(Failure.BROKEN, "x"), Due(), Failed(Failure.BROKEN, "x"), Due())
    assert len(broken.lines) == 3


def test_another_address_is_told(broken: Story) -> None:
    assert broken.at(101, Succeeded(2.0, address_changed=True)) == [
        "NOTICE connection1:0 is operational after recovery (1 attempts) [T]: it took 1.0 s; "
        "the target has another address now"
    ]


def test_a_connection_that_does_not_hold_is_told_rarely(broken: Story) -> None:
    broken.at(101, Succeeded(2.0))
    for now in range(110, 1200, 10):
        broken.at(now, Broke(1020), Stopped(), Due(), Succeeded(2.0))
    assert [text for _, text in broken.lines[2:]] == [
        "WARNING Kernel reported iSCSI connection 1:0 error (1020 - ISCSI_ERR_TCP_CONN_CLOSE: the target closed the "
        "connection) state (3) [T]: the connection does not hold (91 breaks in 15 min); connecting again"
    ]


def test_a_break_long_after_another_is_a_new_trouble(broken: Story) -> None:
    broken.at(101, Succeeded(2.0))
    broken.at(140, Broke(1020), Stopped())
    assert len(broken.at(141, unreachable(), Due(), unreachable())) == 1
    assert broken.at(150, Due(), Succeeded(2.0)) == [
        "NOTICE connection1:0 is operational after recovery (3 attempts) [T]: it took 10 s"
    ]


@pytest.mark.parametrize("period", [1, 5, 20, 31, 45, 61, 90, 150, 300, 600])
@pytest.mark.parametrize("fails", [False, True])
def test_however_it_flaps_lines_are_few(period: int, fails: bool) -> None:
    """A whole day of breaks, each followed by a recovery with or without failures before it."""
    story = Story()
    failures = (unreachable(), Due(), unreachable(), Due()) if fails else ()
    for now in range(100, 100 + 86400, period):
        story.at(now, Broke(1020), Stopped(), *failures, Succeeded(2.0))
    hours = [sum(1 for now, _ in story.lines if hour <= (now - 100) / 3600 < hour + 1) for hour in range(24)]
    a_trouble = 3 if fails else 2
    assert hours[0] <= 6 * a_trouble, hours
    assert sum(hours) <= 9 * a_trouble, hours


def test_an_outage_after_much_flapping_is_told_as_long_as_it_lasts() -> None:
    story = Story()
    for now in range(100, 100 + 4 * 86400, 600):
        story.at(now, Broke(1020), Stopped(), unreachable(), Due(), unreachable(), Due(), Succeeded(2.0))
    began = 100 + 4 * 86400
    story.lines.clear()
    story.at(began, Broke(1020), Stopped())
    for now in range(began, began + 18000, 30):
        story.at(now, unreachable(), Due())
    story.at(began + 18000, Succeeded(2.0))
    hours = [(now - began) / 3600 for now, _ in story.lines]
    assert hours == pytest.approx([0.25, 1, 4, 5], rel=0.03)
    assert story.lines[0][1].startswith("WARNING session 1 [T]: no connection for 15 min, ")
    assert story.lines[-1][1].endswith("[T]: it took 5 h")


def test_after_an_hour_of_peace_a_break_is_a_new_trouble() -> None:
    story = Story()
    for now in range(100, 100 + 7200, 60):
        story.at(now, Broke(1020), Stopped(), Succeeded(2.0))
    (steady,) = story.at(11000, Due())
    assert steady.startswith("NOTICE session 1 [T]: the connection holds again (")
    for now in (15000, 15040):
        assert len(story.at(now, Broke(1020), Stopped(), Succeeded(2.0))) == 2


def test_a_refused_stop_is_told_like_a_failed_attempt() -> None:
    story = Story()
    story.at(100, Broke(1020))
    assert story.at(101, StopFailed(16)) == []
    assert story.at(102, Due(), StopFailed(16)) == [
        "WARNING session 1 [T]: no connection for 2.0 s, no attempt: the kernel did not stop the broken connection "
        "(EBUSY: Device or resource busy); trying on"
    ]


def test_an_end_is_told() -> None:
    story = Story()
    assert story.at(100, OrderedToLeave()) == []
    assert story.at(101, Vanished()) == ["NOTICE Connection1:0 to [T] through [iface: default] is shutdown."]
    story = Story()
    assert story.at(100, Vanished()) == [
        "WARNING session 1 [T]: the session is no longer in the kernel: another program removed it"
    ]


def test_the_words_of_the_last_failure_stay(broken: Story) -> None:
    broken.at(101, unreachable(), Due(), Succeeded(2.0))
    assert broken.situation.words == WORDS
    assert broken.situation.phase is Phase.UP
    assert replace(broken.situation, words="").failure is None


def test_error_numbers_have_words() -> None:
    assert errno_words(22) == "EINVAL: Invalid argument"
    assert errno_words(99999).startswith("99999: ")


@pytest.mark.parametrize("page", ["docs/daemon.md", "docs/man/iscsid.8"])
def test_the_words_people_look_for_are_in_the_manual(page: str) -> None:
    text = (Path(__file__).resolve().parents[3] / page).read_text().replace("\\-", "-")
    said = Story()
    said.at(100, Broke(1020), Stopped(), Failed(Failure.DENIED, "x", rejected=True), Due(), Due(), Succeeded(2.0))
    said.at(200, OrderedToLeave(), Vanished())
    heads = [line.partition(" ")[2].partition(" (")[0].partition(" [")[0] for _, line in said.lines]
    assert len(heads) == 4
    for head in heads:
        assert head in text, head
