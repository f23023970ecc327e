# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the runner inside the command tells of its work: remarks always, the steps of ``-d`` when somebody asks.

A login is done by a child without standard files, so it keeps its lines, and its answer brings them back.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from iscsiboot.model.timeline import Mark
    from iscsiboot.session.login import LoginOrder


class Notes:
    """Keeps what is told, for the answer; nobody hears it in a child process."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self.lines: list[str] = []
        self.steps: list[str] = []
        """With ``now``: what was done, and how many seconds after the beginning."""
        self._now = now
        self._began = now() if now else 0.0

    def note(self, text: str) -> None:
        """Keep the line."""
        self.lines.append(text)

    def mark(self, mark: Mark, detail: str = "") -> None:
        """A step; nobody draws this login."""
        self.step(f"{mark.value} {detail}".rstrip())

    def step(self, what: str) -> None:
        """Keep the step and when it was."""
        if self._now:
            self.steps.append(f"{what} after {self._now() - self._began:.3f} s")


def trace_login(order: LoginOrder, trace: Callable[[int, str], None]) -> None:
    """Where a login goes and how, before it begins. Nothing of a secret."""
    from iscsiboot.orders.record_values import chap_words  # the order was made with it; nothing else here needs it

    request, params = order.request, order.request.params
    device = request.netdev or "any network device"
    times = f"{params.login_timeout} s for an attempt, the last one begins within {order.give_up:g} s"
    trace(1, f"login: {request.target_name} at {order.portal} through {device}, {times}")
    way = chap_words(request.credentials)
    digests = f"digests {params.header_digest.value} and {params.data_digest.value}"
    trace(2, f"login: {request.target_name}: {way}, {digests}, {'with' if order.scan else 'without'} a scan")
