# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a session waits for what: when something is due, and what it is. No clock of its own."""

from __future__ import annotations

from iscsiboot.initiator.fullfeature_states import Phase
from iscsiboot.initiator.sending import Slot
from iscsiboot.initiator.session_state import SessionState
from iscsiboot.initiator.tasks import AnyTask, PingTask
from iscsiboot.initiator.timers import Timers


class Watch:
    """The timers of one session; ``pings`` says whether it may send any."""

    def __init__(self, state: SessionState, timers: Timers, *, pings: bool, now: float) -> None:
        self._state = state
        self._interval = timers.ping_interval if pings else 0
        self._heard = now

    def heard(self, now: float) -> None:
        """The target sent something."""
        self._heard = now

    def next_deadline(self) -> float | None:
        """The earliest time at which something is due; None while nothing can be."""
        times = [at for task in self._state.sender.timed if (at := self._due(task)) is not None]
        if (ping := self._ping_at()) is not None:
            times.append(ping)
        return min(times, default=None)

    def late(self, now: float) -> AnyTask | None:
        """A task whose answer should have come by now."""
        for task in self._state.sender.timed:
            at = self._due(task)
            if at is not None and at <= now:
                return task
        return None

    def ping_due(self, now: float) -> bool:
        """Whether the target was silent for so long that it is to be pinged."""
        at = self._ping_at()
        return at is not None and at <= now

    def _ping_at(self) -> float | None:
        # While another answer is waited for its own time is enough, and the ping would only wait for the slot.
        if not self._interval or self._state.phase is not Phase.FULL_FEATURE or not self._state.sender.free(Slot.OTHER):
            return None
        return self._heard + self._interval

    def _due(self, task: AnyTask) -> float | None:
        if not task.timeout:
            return None
        # A target that sends anything is alive: its NOP-In may stand behind a long transfer.
        since = max(task.started, self._heard) if isinstance(task, PingTask) else task.started
        return since + task.timeout
