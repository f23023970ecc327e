# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verdict: what the booted root said about itself, and whether that is the boot the test wanted.

Only this makes a boot a success. It comes over a port of its own, carries this run's nonce and the disk's own, and
names the iSCSI session that carries ``/``; QEMU's exit status or a word on the console can never stand in for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iscsiboot.model.timeline import Mark, TimelineEntry
from iscsiboot.toolkit.timeline import in_order, parse_lines

_LIMIT = 1 << 20


class BadVerdict(Exception):
    """The bytes on the port are no verdict."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """The boot the test wants."""

    nonce: str
    disk_nonce: str
    target: str
    address: str
    port: int
    lun: int
    initiator: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A verdict as the guest gave it (tests/qemu/guest/verdict.py), and when it came."""

    said: dict[str, Any]
    received_at: float
    """Seconds after power-on."""

    @property
    def session(self) -> dict[str, str]:
        """The iSCSI session that carries ``/``; empty when none does."""
        return dict(self.said["session"])

    @property
    def firmware_seconds(self) -> float:
        """Power-on to kernel start: the guest's clock started that much later than ours."""
        return max(0.0, self.received_at - float(self.said["boottime"]))

    def timeline(self) -> list[TimelineEntry]:
        """The marks of the boot path, and those only the running system knows."""
        entries = [TimelineEntry(mark=Mark.KERNEL, at=0.0, detail=str(self.said["kernel"]))]
        entries += parse_lines("\n".join(self.said["timeline"]))
        known = {entry.mark for entry in entries}
        root = f"{self.said['root'].get('source', '?')} on /"
        for mark, key, detail in (
            (Mark.ROOT_MOUNTED, "root_mounted_at", root),
            (Mark.MULTI_USER, "multi_user_at", ""),
        ):
            at = self.said[key]
            if mark not in known and at is not None:
                entries.append(TimelineEntry(mark=mark, at=float(at), detail=detail))
        return in_order(entries)


class VerdictReader:
    """Collects the port's bytes until a line is complete."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes, at: float) -> Verdict | None:
        """The verdict when this chunk completed it. :class:`BadVerdict` when it is none."""
        self._buffer += data
        if len(self._buffer) > _LIMIT:
            raise BadVerdict("the guest writes without end to the verdict port")
        line, newline, self._buffer = self._buffer.partition(b"\n")
        if not newline:
            self._buffer = line
            return None
        return Verdict(said=parse(line), received_at=at)


_MEMBERS: dict[str, tuple[type, ...]] = {
    "nonce": (str,),
    "disk_nonce": (str,),
    "root": (dict,),
    "session": (dict,),
    "sessions": (int,),
    "cmdline": (str,),
    "kernel": (str,),
    "open_iscsi": (bool,),
    "packages": (int,),
    "timeline": (list,),
    "root_mounted_at": (float, int, type(None)),
    "multi_user_at": (float, int, type(None)),
    "failed": (list,),
    "boottime": (float, int),
}


def parse(line: bytes) -> dict[str, Any]:
    """The verdict's members, checked for presence and type."""
    try:
        said = json.loads(line)
    except ValueError as error:
        raise BadVerdict(f"no JSON on the verdict port: {error}") from error
    if not isinstance(said, dict):
        raise BadVerdict("the verdict is no JSON object")
    for name, kinds in _MEMBERS.items():
        if name not in said or not isinstance(said[name], kinds):
            raise BadVerdict(f"the verdict has no usable member {name!r}")
    return said


def objections(verdict: Verdict, expected: Expected) -> Sequence[str]:
    """Why this verdict is not the boot the test wanted; empty when it is."""
    said, session = verdict.said, verdict.session
    if said["nonce"] != expected.nonce:
        return ["the verdict is of another run (nonce)"]
    if not session:
        return [f"the root is not on iSCSI but on {said['root'].get('source', '?')}"]
    wanted = {
        "disk_nonce": (said["disk_nonce"], expected.disk_nonce),
        "target": (session.get("targetname"), expected.target),
        "address": (session.get("persistent_address"), expected.address),
        "port": (session.get("persistent_port"), str(expected.port)),
        "LUN": (session.get("lun"), str(expected.lun)),
        "initiator": (session.get("initiatorname"), expected.initiator),
        "session state": (session.get("state"), "LOGGED_IN"),
        "number of sessions": (said["sessions"], 1),
        "open-iscsi installed": (said["open_iscsi"], False),
    }
    found = [f"{what}: {is_!r} instead of {should!r}" for what, (is_, should) in wanted.items() if is_ != should]
    if not said["packages"]:
        found.append("the disk's package list is empty, so the absence of open-iscsi says nothing")
    if said["failed"]:
        found.append(f"failed units: {', '.join(said['failed'])}")
    return found
