# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a session in full feature phase is made of; the machine's calls and its reactions to PDUs share it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.fullfeature_states import Phase
from iscsiboot.initiator.negotiation import Negotiated
from iscsiboot.initiator.sending import Sender
from iscsiboot.initiator.session_events import CommandFailed, Remark, SessionEvent
from iscsiboot.initiator.tasks import AnyTask, CommandTask, TaskTable
from iscsiboot.initiator.windows import CommandWindow, StatusSequence

REMARKS_MAX = 16
"""Different remarks of one session; what comes after them is a repetition in other words."""


class SessionState:
    """The parts, and what several callers do with them."""

    def __init__(self, login: LoginSucceeded, *, cmdsn: int, cid: int) -> None:
        self.negotiated: Negotiated = login.negotiated
        self.cid = cid
        self.phase = Phase.FULL_FEATURE
        self.window = CommandWindow(cmdsn=cmdsn, exp_cmdsn=login.exp_cmdsn, max_cmdsn=login.max_cmdsn)
        self.status = StatusSequence(login.statsn)
        self.tasks = TaskTable()
        self.sender = Sender(self.window, self.status, limit=self.negotiated.max_xmit_data_segment_length)
        self.events: deque[SessionEvent] = deque()
        self._remarks: set[str] = set()

    def tell(self, event: SessionEvent) -> None:
        """Queue an event."""
        self.events.append(event)

    def remark(self, text: str) -> None:
        """Queue a remark, each text once and at most :data:`REMARKS_MAX`; none for an empty text."""
        if text and text not in self._remarks and len(self._remarks) < REMARKS_MAX:
            self._remarks.add(text)
            self.tell(Remark(text=text))

    def end(self, task: AnyTask, now: float, *, remember: bool = False) -> None:
        """Take a task out of everything; the caller tells how it ended."""
        self.sender.forget(task, now)
        self.tasks.end(task, remember=remember)

    def fail_commands(self, cause: str, now: float, which: Callable[[CommandTask], bool] | None = None) -> None:
        """End SCSI commands without a status; those that were sent may still be answered."""
        for task in self.tasks.commands():
            if which is None or which(task):
                self.end(task, now, remember=task.sent)
                self.tell(CommandFailed(tag=task.itt, cause=cause))

    def close(self, phase: Phase, cause: str, now: float) -> None:
        """Nothing goes on: end all tasks, send nothing more."""
        self.phase = phase
        self.fail_commands(cause, now)
        self.sender.close()
        self.tasks.clear()
