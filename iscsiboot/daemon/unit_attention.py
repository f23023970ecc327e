# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units that came or grew, by the target's own word.

A target says so with a unit attention (SPC-4 5.14) on the next command; the kernel hands it on as an announcement of
the unit with ``SDEV_UA`` (drivers/scsi/scsi_lib.c):

* ``REPORTED_LUNS_DATA_HAS_CHANGED``: units came or went. The host is scanned, which adds the new ones. One that went is
  left to its administrator: somebody may be writing to it, and a target under repair reports less than it has.
* ``CAPACITY_DATA_HAS_CHANGED``: the unit is asked for its size again.

Each unit of a target says the same thing at the same time, and a storage system may say it for hours; so each session
and each unit has its own patience. A session whose record says ``node.session.scan = manual`` is told of and left
alone. A hand works on one unit, or one host: a unit that never answers holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from iscsiboot.daemon.debounce import Debounced
from iscsiboot.keeper.crowd import Crowd
from iscsiboot.keeper.errand import Errand
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.port import Hands
from iscsiboot.keeper.values import Known
from iscsiboot.session.workers import Answer, Job
from iscsiboot.sysfs.attributes import write_attribute
from iscsiboot.sysfs.uevent import Uevent, UeventsLost, unit_of
from iscsiboot.sysfs.units import scan_whole_host

LUNS_CHANGED = "REPORTED_LUNS_DATA_HAS_CHANGED"
CAPACITY_CHANGED = "CAPACITY_DATA_HAS_CHANGED"

SETTLE_SECONDS = 0.5
"""After the first announcement: the other units' come within the next commands."""
PAUSE_SECONDS = 5.0
"""Between two rescans of the same thing."""
RESCAN_SECONDS = 60.0
"""For one scan: SCSI commands time out after 30 s and are repeated once while the target is asked."""
TOLD_MAX = 10
TOLD_SECONDS = 3600.0
"""So many lines about one session in that time: some targets announce changes without end."""


class UnitAttention:
    """Hears the kernel's announcements, rescans by hands. Belongs to one loop.

    ``guarded`` tells the sessions there are, by id.
    """

    def __init__(self, *, sysfs: str, hands: Hands, log: Log, guarded: Callable[[], Mapping[int, Known]]) -> None:
        self._sysfs = sysfs
        self._hands = hands
        self._log = Crowd(log)
        self._told: dict[int, list[float]] = {}
        """When there were lines about a session."""
        self._guarded = guarded
        self._asked: dict[tuple[int, str], Debounced] = {}
        self._left_alone: set[int] = set()

    def uevent(self, event: Uevent | UeventsLost) -> None:
        """A listener of :class:`iscsiboot.daemon.uevents.Uevents`.

        Lost ones are not made up for: a scan of every session on the mere chance would be worse than to miss one.
        """
        if isinstance(event, UeventsLost) or event.subsystem != "scsi" or event.action != "change":
            return
        what = event.values.get("SDEV_UA", "")
        unit = unit_of(event.path)
        if unit is None or what not in (LUNS_CHANGED, CAPACITY_CHANGED):
            return
        sid, address = unit
        if what == LUNS_CHANGED:
            self.units_changed(sid, int(address.partition(":")[0]))
        elif self._may_rescan(sid, f"the size of unit {address} has changed"):
            self._ask(sid, address, Errand(_ask_size, (self._sysfs, address)))

    def units_changed(self, sid: int, host: int) -> None:
        """The target says that units of a session came or went."""
        if self._may_rescan(sid, "its units have changed"):
            self._ask(sid, f"host{host}", Errand(_scan, (self._sysfs, host)))

    def close(self) -> None:
        """Begin nothing any more."""
        for asked in self._asked.values():
            asked.close()
        self._asked.clear()
        self._log.flush()

    def _may_rescan(self, sid: int, what: str) -> bool:
        """Whether the session is ours and its record lets us; one line when it does not."""
        sessions = self._guarded()
        self._left_alone &= sessions.keys()
        known = sessions.get(sid)
        if known is None:
            return False
        if not known.scan and sid not in self._left_alone:
            self._left_alone.add(sid)
            text = f"{what}; node.session.scan is manual, so it is not rescanned"
            self._tell(Level.NOTICE, sid, f"{text}; next: iscsiadm -m session -r {sid} --rescan", kind="left alone")
        return known.scan

    def _ask(self, sid: int, where: str, job: Job) -> None:
        """Once things have settled, ``job`` in a hand; ``where`` is a host or a unit."""
        sessions = self._guarded()
        # Those too that rest: a target can have ever new units.
        for key in [key for key, asked in self._asked.items() if key[0] not in sessions or asked.rests]:
            self._asked.pop(key).close()
        self._told = {known: times for known, times in self._told.items() if known in sessions}
        asked = self._asked.get((sid, where))
        if asked is None:
            work = partial(self._rescan, sid, where, job)
            asked = self._asked[sid, where] = Debounced(work, settle=SETTLE_SECONDS, pause=PAUSE_SECONDS)
        asked.ask()

    async def _rescan(self, sid: int, where: str, job: Job) -> None:
        ended = await self._hands.run(job, seconds=RESCAN_SECONDS, what=f"the rescan of {where}")
        problem = ended.problem or (ended.answer or {}).get("problem", "")
        if problem:
            words = f"the rescan of {where} failed: {problem}; next: iscsiadm -m session -r {sid} --rescan"
            self._tell(Level.WARNING, sid, words, kind="failed")
        else:
            words = f"{where} was rescanned, because the target said that it changed"
            self._tell(Level.NOTICE, sid, words, kind="rescanned")

    def _tell(self, level: Level, sid: int, text: str, *, kind: str) -> None:
        """A line, unless there were many about this session; the last one before the silence says so."""
        now = asyncio.get_running_loop().time()
        times = [then for then in self._told.get(sid, ()) if now < then + TOLD_SECONDS]
        if len(times) < TOLD_MAX:
            self._told[sid] = [*times, now]
            more = "; this is told no more within the hour" if len(times) == TOLD_MAX - 1 else ""
            self._log.say(level, f"session {sid}: {text}{more}", kind=kind, sid=sid)


def _scan(sysfs: str, host: int) -> Answer:
    """A hand's errand."""
    return _written(scan_whole_host, Path(sysfs), host)


def _ask_size(sysfs: str, address: str) -> Answer:
    """A hand's errand."""
    return _written(write_attribute, Path(sysfs) / "bus" / "scsi" / "devices" / address / "rescan", "1")


def _written(write: Callable[..., None], *arguments: object) -> Answer:
    try:
        write(*arguments)
    except OSError as error:
        return {"problem": error.strerror or str(error)}
    return {}
