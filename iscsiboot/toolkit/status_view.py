# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who guards the sessions of this machine and how they are, from whoever can tell: as values.

In this order: iscsid, over its socket; the keeper of the initramfs or iscsid's standby, which answers where guards hand
over; the kernel, in sysfs, which knows whether a session works and nothing of what is done about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, printable
from iscsiboot.ipc.client import NobodyListens, OtherDaemon
from iscsiboot.keeper.role import role_words, roles
from iscsiboot.keeper.values import Source, Status
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.sysfs.block_stack import BlockStack
from iscsiboot.sysfs.disks import list_units
from iscsiboot.sysfs.multipath import multipath_disks
from iscsiboot.sysfs.sessions import LOGGED_IN, ConnectionView, SessionView, list_sessions, read_host

DOWN = "down"
"""``phase`` of a session that does not work when only the kernel can be asked."""
UP = "up"
_WORKING = frozenset({None, "up"})
"""``state`` of a connection that works; kernels before 5.14 have none."""


class Kind(Enum):
    """Who guards."""

    DAEMON = "iscsid"
    KEEPER = "keeper"
    """What iscsistart left, or iscsid's standby."""
    FOREIGN = "other"
    """Another program's daemon, which is not asked."""
    UNKNOWN = "unknown"
    """Somebody is there and does not say."""
    NOBODY = "nobody"


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """Who guards the sessions."""

    kind: Kind
    pid: int | None = None
    version: str | None = None
    since: float | None = None
    """Unix time it began."""
    ready: bool = True
    """Has taken over what there was."""
    kernel: bool = True
    """Has found iSCSI in the kernel; without it no session can be."""
    standby: int | None = None
    """The process that guards when this one is gone."""
    behind: int | None = None
    """Of a guard that does not act: the process that does."""
    hanging: tuple[str, ...] = ()
    """Work that hangs in the kernel, in words."""
    problem: IscsiBootError | None = None
    """Why it could not be asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """All of it."""

    guard: Guard
    sessions: tuple[Status, ...] = ()
    """By number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where to look. The calls return the members of the answer, and None when no guard is there."""

    ask_daemon: Callable[[], Mapping[str, Any]]
    """:class:`NobodyListens`, :class:`OtherDaemon`, or another IscsiBootError."""
    ask_keeper: Callable[[], Mapping[str, Any] | None] | None
    """None when we may not: guards answer root alone, and note who else asks."""
    sysfs: Path = Path("/sys")
    proc: Path = Path("/proc")
    run: Path = Path("/run")


def look(machine: Machine) -> View:
    """How things stand now. Nothing is raised: whoever cannot be asked is told in the view."""
    try:
        answer = machine.ask_daemon()
        return View(guard=_daemon(_object(answer.get("daemon"))), sessions=_statuses(answer.get("sessions")))
    except NobodyListens:
        guard = Guard(kind=Kind.NOBODY)
    except OtherDaemon as error:
        guard = Guard(kind=Kind.FOREIGN, problem=error)
    except IscsiBootError as error:
        guard = Guard(kind=Kind.UNKNOWN, problem=error)
    if machine.ask_keeper is None:
        if guard.kind is Kind.NOBODY:
            guard = Guard(kind=Kind.UNKNOWN, problem=_not_told())
    elif (kept := machine.ask_keeper()) is not None:
        keeper = Guard(kind=Kind.KEEPER, pid=_whole(kept, "pid"), behind=_whole(kept, "behind"), problem=guard.problem)
        if kept.get("acts") is True:
            return View(guard=keeper, sessions=_statuses(kept.get("status")))
        guard = replace(guard, kind=Kind.UNKNOWN, pid=keeper.behind, standby=keeper.pid)
    return View(guard=guard, sessions=from_kernel(machine))


def _not_told() -> IscsiBootError:
    return IscsiBootError(
        "it does not run, and whether another guard does is told to root alone",
        stage=Stage.DAEMON,
        subject="iscsid",
        hint="run it as root",
        exit_code=ExitCode.ACCESS,
    )


# What guards say. -----------------------------------------------------------------------------------------------------


def _daemon(about: Mapping[str, Any]) -> Guard:
    hanging = about.get("hanging")
    return Guard(
        kind=Kind.DAEMON,
        pid=_whole(about, "pid"),
        version=_text(about, "version") or None,
        since=_real(about, "since") or None,
        ready=about.get("ready") is not False,
        kernel=about.get("kernel") is not False,
        standby=_whole(about, "standby"),
        hanging=tuple(printable(str(item)) for item in hanging) if isinstance(hanging, list) else (),
    )


def _statuses(said: object) -> tuple[Status, ...]:
    found = [status for item in said if (status := status_of(item)) is not None] if isinstance(said, list) else []
    return tuple(sorted(found, key=lambda status: status.sid))


def status_of(said: object) -> Status | None:
    """A status as a guard sent it: members of a later version are left out, absent ones are unknown; None without a
    session number. Texts are made printable.
    """
    if not isinstance(said, dict) or _whole(said, "sid") is None:
        return None
    return Status(**{member.name: _READERS[str(member.type)](said, member.name) for member in fields(Status)})


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(said: Mapping[str, Any], name: str) -> int | None:
    value = said.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _real(said: Mapping[str, Any], name: str) -> float:
    value = said.get(name)
    # NaN compares false; no time is beyond the year 5000.
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11 else 0.0


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return printable(value) if isinstance(value, str) else ""


def _texts(said: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = said.get(name)
    return tuple(printable(item) for item in value if isinstance(item, str)) if isinstance(value, list) else ()


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], Any]] = {
    "int": lambda said, name: _whole(said, name) or 0,
    "int | None": _whole,
    "float": _real,
    "str": _text,
    "tuple[str, ...]": _texts,
}
"""How the members of :class:`Status` are read, by their annotation."""


# What the kernel says. ------------------------------------------------------------------------------------------------


def from_kernel(machine: Machine) -> tuple[Status, ...]:
    """Every session as sysfs shows it; its role by what is mounted."""
    sessions = list_sessions(machine.sysfs)
    if not sessions:
        return ()
    disks = {
        session.sid: [name for unit in list_units(machine.sysfs, session.sid) for name in unit.blocks]
        for session in sessions
    }
    uses = BlockStack(str(machine.sysfs), str(machine.proc), str(machine.run)).uses()
    carried = roles(uses, disks, multipath_disks(str(machine.sysfs)))
    found = []
    for session in sessions:
        role = carried[session.sid]
        found.append(replace(_session(session, machine.sysfs), role=role_words(role), uses=role.system))
    return tuple(found)


def _session(session: SessionView, sysfs: Path) -> Status:
    connection = next(iter(session.connections), None)
    works = session.state == LOGGED_IN and connection is not None and connection.state in _WORKING
    host = read_host(sysfs, session.host)
    return Status(
        sid=session.sid,
        host=session.host,
        target=_safe(session.target_name),
        portal="" if connection is None else _endpoint(connection.persistent_address, connection.persistent_port),
        connected="" if connection is None else _endpoint(connection.address, connection.port),
        iface=_safe(session.iface_name),
        initiator=_safe(session.initiator_name or (host.initiator_name if host else None)),
        role="",
        uses=(),
        phase=UP if works else DOWN,
        detail="" if works else _kernel_words(session, connection),
        since=0.0,
        source=Source.SYSFS.value,
        unknown=(),
        recoveries=0,
        attempts=0,
        last_error="",
        last_error_at=0.0,
        recovery_tmo=session.recovery_tmo,
        noop_interval=None if connection is None else connection.recv_tmo,
        noop_timeout=None if connection is None else connection.ping_tmo,
    )


def _kernel_words(session: SessionView, connection: ConnectionView | None) -> str:
    state = f"session {_safe(session.state) or 'without a state'}"
    if connection is None:
        return f"{state}, no connection"
    return f"{state}, connection {_safe(connection.state)}" if connection.state else state


def _safe(text: str | None) -> str:
    return printable(text or "")


def _endpoint(address: str | None, port: int | None) -> str:
    """``10.0.0.1:3260``; a name as it is."""
    if address is None:
        return ""
    try:
        return Portal(address=parse_ip(address), port=port or 0).endpoint
    except ValueError:
        return printable(address if port is None else f"{address}:{port}")
