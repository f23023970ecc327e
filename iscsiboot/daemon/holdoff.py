# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon that fails again and again, under a service manager that starts it again and again.

The unit starts it one second after each failure, for ever: a root may depend on it, and what kept it from starting may
pass. What does not pass would fill the journal with six lines a second. So a run that fails ends late: it waits for a
quarter of the time the daemon has been failing, and at most :data:`LONGEST_SECONDS`. The first failure is told at once,
20 come in the first four minutes, then one a minute. It is done here because systemd can do it since release 254 only
(RestartSteps=), and nowhere for starts by a socket with a client that waits.

What only a change of the unit can mend has a status of its own, which the unit does not start again after
(RestartPreventExitStatus=). Guards that were there before go on meanwhile: the standby, or the keeper of the initramfs.
So who waits holds nothing of what they wait for (:func:`iscsiboot.daemon.iscsid.let_go`).
"""

from __future__ import annotations

import json
import signal
import time
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

from iscsiboot.daemon.notify import Notifier

FILE = "failing"
"""In /run/iscsiboot, which a restart of the machine empties."""
SHARE = 0.25
LONGEST_SECONDS = 60.0
SOUND_SECONDS = 60.0
"""A run, or a pause between two, that lasts so long ends a series of failures."""
BLIND_SECONDS = 5.0
"""Where nothing can be remembered."""
ENDING = (signal.SIGTERM, signal.SIGINT)


class Lasting(IntEnum):
    """Exit statuses of failures that stay until somebody changes the unit (sysexits.h); systemd shows the names.

    Not 2, which Python ends with when it cannot read its program: that may pass.
    """

    USAGE = 64
    NOPERM = 77
    CONFIG = 78


@dataclass(frozen=True, slots=True)
class Series:
    """Failures one after the other; monotonic seconds."""

    first: float
    """When it began."""
    last: float
    """When the last run that failed had ended."""


def after(series: Series | None, *, began: float, now: float) -> Series:
    """The series with a failure ``now`` of a run that ``began`` then; its end is when the run is to end."""
    if series is None or began - series.last >= SOUND_SECONDS or now - began >= SOUND_SECONDS:
        return Series(now, now)
    return Series(series.first, now + min(LONGEST_SECONDS, SHARE * (now - series.first)))


def hold(run: str, began: float, notifier: Notifier) -> None:
    """Wait, if this is not the first failure. A signal ends the wait and the series: somebody is at work on it."""
    path = Path(run) / "iscsiboot" / FILE
    now = time.monotonic()
    series = after(_read(path, now), began=began, now=now)
    seconds = series.last - now
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.write_text(json.dumps(asdict(series)))
    except OSError:
        seconds = BLIND_SECONDS
    if seconds <= 0:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    notifier.extended(f"It failed, see the log. The next try is in {seconds:.0f} s", seconds)
    if signal.sigtimedwait(ENDING, seconds) is not None:
        path.unlink(missing_ok=True)


def _read(path: Path, now: float) -> Series | None:
    """What was written last; None for nothing, and for what cannot be."""
    try:
        said = json.loads(path.read_text())
        series = Series(float(said["first"]), float(said["last"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return series if 0 <= series.first <= series.last <= now + LONGEST_SECONDS else None
