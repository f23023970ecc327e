# SPDX-License-Identifier: LGPL-2.1-or-later
"""Taking back in reverse, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.session.undo import UndoStack
from tests.unit.session.conftest import RecordingReport


def failing(error: BaseException) -> Callable[[], None]:
    def undo() -> None:
        raise error

    return undo


def end_badly(report: RecordingReport, end: BaseException, *undos: Callable[[], None]) -> UndoStack:
    """Push the undos and leave by an exception; gives the stack when it was the one that came out."""
    stack = UndoStack(report)
    with pytest.raises(type(end)):
        _push_and_raise(stack, end, undos)
    return stack


def _push_and_raise(stack: UndoStack, end: BaseException, undos: tuple[Callable[[], None], ...]) -> None:
    with stack:
        for number, undo in enumerate(undos):
            stack.push(f"step {number}", undo)
        raise end


@pytest.mark.parametrize("end", [KeyboardInterrupt(), ValueError("x")], ids=["interrupted", "failed"])
def test_last_first(end: BaseException) -> None:
    done: list[int] = []
    end_badly(RecordingReport(), end, lambda: done.append(0), lambda: done.append(1), lambda: done.append(2))
    assert done == [2, 1, 0]


def test_keep_forgets() -> None:
    done: list[int] = []
    with UndoStack(RecordingReport()) as undo:
        undo.push("one", lambda: done.append(1))
        undo.keep()
        undo.push("two", lambda: done.append(2))
    assert done == [2], "what is pushed after keep() is taken back"


def test_take_back_then_go_on() -> None:
    done: list[int] = []
    with UndoStack(RecordingReport()) as undo:
        undo.push("one", lambda: done.append(1))
        undo.take_back()
        undo.push("two", lambda: done.append(2))
        undo.keep()
    assert done == [1]


@pytest.mark.parametrize(
    "error", [IscsiBootError("broken", stage=Stage.HANDOFF), OSError(5, "Input/output error")], ids=["ours", "os"]
)
def test_failures_are_told_and_the_cause_goes_on(error: Exception) -> None:
    done: list[int] = []
    report = RecordingReport()
    stack = end_badly(report, ValueError("the cause"), lambda: done.append(0), failing(error), lambda: done.append(2))
    assert done == [2, 0]
    assert len(report.notes) == len(stack.failures) == 1
    assert report.notes[0].startswith("clean-up: step 1 failed: ")


def test_a_second_interruption_does_not_stop_the_rest() -> None:
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        _push_and_raise(
            UndoStack(RecordingReport()), ValueError("x"), (lambda: done.append(0), failing(KeyboardInterrupt()))
        )
    assert done == [0]
