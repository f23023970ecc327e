# SPDX-License-Identifier: LGPL-2.1-or-later
"""The status for people and for programs; docs/status-json.md is the schema of the latter. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from iscsiboot.errors import IscsiBootError, printable
from iscsiboot.keeper.break_words import duration
from iscsiboot.keeper.values import Status
from iscsiboot.toolkit.status_view import UP, Guard, Kind, View

SCHEMA = "iscsiboot.status/1"

_STATES: Mapping[str, str] = {
    "up": "connected",
    "stopping": "broken",
    "waiting": "waiting",
    "trying": "connecting",
    "leaving": "logging out",
    "gone": "gone",
    "down": "not connected",
}
_RECOVERING = frozenset({"stopping", "waiting", "trying"})
_HEAD = ("SID", "STATE", "FOR", "ROLE", "HEALED", "TARGET", "PORTAL")
_TEXTS = ("target", "portal", "connected", "iface", "initiator", "last_error")
"""Of a session; empty for not known."""
_INDENT = " " * 5


# For people. ----------------------------------------------------------------------------------------------------------


def text(view: View, now: float) -> str:
    """The whole view; ``now`` is Unix time."""
    lines = list(headlines(view, now))
    if view.sessions:
        lines += ["", *_table(view, now)]
    return "\n".join(lines) + "\n"


def headlines(view: View, now: float) -> Iterator[str]:
    """Who guards, and how many of the sessions work."""
    guard = view.guard
    yield _who(guard, _count(view), now)
    if not guard.ready:
        yield "It is still taking over what it found."
    elif not guard.kernel:
        yield "It found no iSCSI in the kernel and looks again when a session is asked for; next: modprobe iscsi_tcp"
    if guard.kind is Kind.DAEMON and guard.standby is not None:
        yield f"Process {guard.standby} takes its place when it is gone."
    for work in guard.hanging:
        yield f"Hangs in the kernel: {work}."


def _count(view: View) -> str:
    """``3 sessions, 1 not connected``."""
    number = len(view.sessions)
    if not number:
        return "no session"
    down = sum(status.phase != UP for status in view.sessions)
    return f"{number} session{'' if number == 1 else 's'}" + (f", {down} not connected" if down else "")


def _who(guard: Guard, count: str, now: float) -> str:
    process = "" if guard.pid is None else f" (process {guard.pid})"
    if guard.kind is Kind.DAEMON:
        release = f" {guard.version}" if guard.version else ""
        facts = [f"process {guard.pid}"] if guard.pid is not None else []
        if guard.since is not None:
            facts.append(f"up {duration(now - guard.since)}")
        return f"iscsid{release}{_bracketed(facts)} guards {count}."
    if guard.kind is Kind.KEEPER:
        return f"The keeper{process} guards {count}; iscsid does not answer requests."
    if guard.kind is Kind.FOREIGN:
        return f"Another program's iscsid runs; the kernel shows {count}."
    if guard.kind is Kind.UNKNOWN:
        return f"Who guards is not known; the kernel shows {count}."
    if count == "no session":
        return "There is no session, and iscsid does not run."
    return f"Nobody guards: {count}. A connection that breaks stays broken; next: systemctl start iscsid.service"


def _bracketed(facts: list[str]) -> str:
    return f" ({', '.join(facts)})" if facts else ""


def _table(view: View, now: float) -> Iterator[str]:
    rows = [_HEAD, *(_row(status, now) for status in view.sessions)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for number, row in enumerate(rows):
        rest = (cell.ljust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        cells = [row[0].rjust(widths[0]), *rest]
        yield "  ".join(cells).rstrip()
        if number:
            yield from (f"{_INDENT}{line}" for line in _details(view.sessions[number - 1], now))


def _row(status: Status, now: float) -> tuple[str, ...]:
    since = duration(now - status.since) if status.since else "-"
    return (
        str(status.sid),
        _STATES.get(status.phase, status.phase),
        since,
        status.role or "-",
        str(status.recoveries),
        status.target or "-",
        _portal(status),
    )


def _portal(status: Status) -> str:
    """Where the connection was asked for, and where a redirect led."""
    if status.connected and status.portal and status.connected != status.portal:
        return f"{status.portal} -> {status.connected}"
    return status.portal or status.connected or "-"


def _details(status: Status, now: float) -> Iterator[str]:
    """What is worth a line of its own."""
    yield from status.uses
    # Where it matters now, or will; a table of hundreds that work stays a table.
    if (status.uses or status.phase != UP) and (timers := _timers(status)):
        yield timers
    if status.phase != UP and status.detail:
        yield status.detail
    if status.last_error:
        when = f" {duration(now - status.last_error_at)} ago" if status.last_error_at else ""
        yield f"last error{when}: {status.last_error}"
    if status.unknown:
        yield f"known from {status.source}; not known: {', '.join(status.unknown)}"


def _timers(status: Status) -> str:
    """How long commands wait for a broken connection, and how a silent one is noticed; as the kernel has it."""
    parts = []
    if status.recovery_tmo is not None:
        wait = "for ever" if status.recovery_tmo < 0 else f"{status.recovery_tmo} s, then they fail"
        parts.append(f"commands wait for a connection {wait}")
    if status.noop_interval and status.noop_timeout:
        parts.append(f"pings every {status.noop_interval} s, answered within {status.noop_timeout} s")
    elif status.noop_interval is not None and status.noop_timeout is not None:
        parts.append("no pings")
    return "; ".join(parts)


def change(before: Status | None, after: Status, clock: str) -> str | None:
    """One line about a change of a session, None when it is none for people: each attempt of an outage is not."""
    if before is not None and _said(before) == _said(after):
        return None
    parts = [f"session {after.sid}", f"({after.role})" if after.role else "", after.target, _state(after)]
    if before is None:
        parts.append("(new)" if after.phase == UP else "")
    elif before.role != after.role:
        parts.append(f"(was {before.role})")
    if after.last_error and after.phase != UP and (before is None or before.last_error != after.last_error):
        parts.append(f"- {after.last_error}")
    return f"{clock} {' '.join(part for part in parts if part)}"


def gone(before: Status, clock: str) -> str:
    """One line about a session that is no longer there."""
    return f"{clock} session {before.sid} {before.target} is gone"


def guard_change(view: View, clock: str, now: float) -> str:
    """One line about another guard."""
    return f"{clock} {_who(view.guard, _count(view), now)}"


def _state(status: Status) -> str:
    return "recovering" if status.phase in _RECOVERING else _STATES.get(status.phase, status.phase)


def _said(status: Status) -> tuple[object, ...]:
    error = "" if status.phase == UP else status.last_error
    return (_state(status), status.role, status.target, error, status.recoveries)


# For programs. --------------------------------------------------------------------------------------------------------


def document(view: View) -> str:
    """The whole view as one line of JSON."""
    return _line({"guard": guard_object(view.guard), "sessions": [session_object(one) for one in view.sessions]})


def event(at: float, **members: Any) -> str:
    """One event of ``--watch --json``."""
    return _line({"at": round(at, 3), **members})


def _line(members: Mapping[str, Any]) -> str:
    return json.dumps({"schema": SCHEMA, **members}) + "\n"


def guard_object(guard: Guard) -> dict[str, Any]:
    """A guard for programs."""
    return {
        "kind": guard.kind.value,
        "pid": guard.pid,
        "version": guard.version,
        "since": guard.since,
        "ready": guard.ready,
        "kernel": guard.kernel,
        "standby": guard.standby,
        "behind": guard.behind,
        "hanging": list(guard.hanging),
        "problem": None if guard.problem is None else _problem(guard.problem),
    }


def _problem(error: IscsiBootError) -> dict[str, Any]:
    return {
        "subject": printable(error.subject),
        "cause": printable(error.cause),
        "hint": printable(error.hint),
        "exit_code": int(error.exit_code),
    }


def session_object(status: Status) -> dict[str, Any]:
    """A session for programs: what is not known is null."""
    members = asdict(status)
    absent = {name: None for name in _TEXTS if not members[name]}
    times = {name: members[name] or None for name in ("since", "last_error_at")}
    return {**members, **absent, **times}
