# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sessions a guard finds when it begins: whose they are, how they stand, and what is known of them.

Read after the netlink socket is open (nothing that breaks meanwhile is missed) and after the guard before us has handed
over. Who made a session does not matter: our iscsistart and the real one, this daemon or another's.

===============================================  ===========  ======================================================
what the kernel shows                            verdict      what follows
===============================================  ===========  ======================================================
LOGGED_IN, its connection up (or untold: old     HEALTHY      guarded; nothing is sent and nothing is stopped
kernels)
LOGGED_IN with a broken connection; FAILED;      DOWN         guarded, recovered at once
FREE with units or a portal group (it worked)
FREE, never worked, its maker is gone            HALF_MADE    completed when somebody knows what it was to be, else
                                                              removed
being made by a living process; another driver;  FOREIGN      left alone
made by firmware; not to be read
===============================================  ===========  ======================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from iscsiboot.errors import IscsiBootError
from iscsiboot.keeper import hygiene
from iscsiboot.keeper.crowd import numbers
from iscsiboot.keeper.known_session import from_sysfs, of_record, record_name, told_of, unresolved_name
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.port import Hands
from iscsiboot.keeper.units import OFFLINE
from iscsiboot.keeper.values import Known, RecordName, Source
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.netlink.ports import OpenPort, open_ports
from iscsiboot.session import leftovers
from iscsiboot.session.login import UNRESOLVED
from iscsiboot.session.machine import TRANSPORT
from iscsiboot.session.values import AttachRequest, Environment
from iscsiboot.session.workers import Answer
from iscsiboot.sysfs.disks import UnitView, list_units
from iscsiboot.sysfs.sessions import LOGGED_IN, SessionView, list_sessions, read_session, read_transport

REMOVAL_SECONDS = 30.0
"""For the kernel to stop and destroy a session that never worked: nothing is queued in it."""
NAME_SECONDS = 20.0
"""For the name service; the resolver's own limit is about as long."""


class Verdict(Enum):
    """How a session stands; the table of the module."""

    HEALTHY = "healthy"
    DOWN = "down"
    HALF_MADE = "half made"
    FOREIGN = "not ours to guard"


@dataclass(frozen=True, kw_only=True, slots=True)
class Adopted:
    """One session that was found."""

    view: SessionView
    verdict: Verdict
    known: Known | None
    """What it takes to make its connection anew; None when it is foreign, or when too little of it is there."""
    words: str = ""
    """Why, where the verdict alone does not say."""
    notes: tuple[str, ...] = ()
    """What was passed over."""

    @property
    def sid(self) -> int:
        """Its number."""
        return self.view.sid

    @property
    def is_ours(self) -> bool:
        """Whether it is to be guarded, completed or removed."""
        return self.verdict is not Verdict.FOREIGN

    @property
    def to_be_removed(self) -> bool:
        """Nobody can complete it: it has no connection, or nothing but the kernel's halves says what it was to be."""
        if self.verdict is not Verdict.HALF_MADE:
            return False
        return self.known is None or self.known.source is Source.SYSFS


Records = Callable[[Sequence[RecordName]], Awaitable[Mapping[RecordName, Known]]]
"""Reads the records of sessions, those it finds; ``tpgt`` -1 fits any group."""


async def no_records(_: Sequence[RecordName]) -> Mapping[RecordName, Known]:
    """There are none: an initramfs, a guard process that must not read a disk."""
    return {}


def look(environment: Environment, *, handed: Mapping[int, Known], state: Mapping[int, Known]) -> tuple[Adopted, ...]:
    """Every session of the machine, by number. Reads sysfs, writes nothing and waits for nothing.

    ``known`` is None where neither ``handed`` nor ``state`` tell of it: :func:`complete` comes next.
    """
    # The order matters: sessions, then sockets, then each session again. A maker that finished and closed its socket
    # between the first two readings has left a state that only the third one shows.
    listed = list_sessions(environment.sysfs)
    if not listed:
        return ()
    try:
        ports: tuple[OpenPort, ...] | None = open_ports(environment.proc)
    except OSError:
        ports = None
    found = []
    for first in listed:
        view = first if first.state == LOGGED_IN else read_session(environment.sysfs, first.sid)
        if view is not None:
            candidates = (("the guard before us", handed.get(view.sid)), ("its state file", state.get(view.sid)))
            found.append(_look(view, environment, ports, candidates))
    return tuple(found)


async def complete(
    found: tuple[Adopted, ...], environment: Environment, records: Records = no_records
) -> tuple[Adopted, ...]:
    """What nobody told of, by its record, else by what sysfs tells. ``records`` is asked once, and only if need be."""
    wanted = {item.sid: record_name(item.view) for item in found if item.known is None and item.is_ours}
    names = [name for name in wanted.values() if name is not None]
    recorded = await records(names) if names else {}
    return tuple(_complete(item, environment, wanted.get(item.sid), recorded) for item in found)


def at_once(found: tuple[Adopted, ...]) -> dict[int, Known]:
    """Those of :func:`look` that can be guarded now, while records, names and removals are still waited for: the disk
    with the records may be the very one that is down.
    """
    return {
        item.sid: item.known
        for item in found
        if item.known is not None and item.is_ours and not item.to_be_removed and unresolved_name(item.known) is None
    }


def waiting(found: tuple[Adopted, ...]) -> dict[int, Known]:
    """What is known of those that can be guarded only when their portal's name has an address."""
    return {
        item.sid: item.known
        for item in found
        if item.known is not None and item.is_ours and not item.to_be_removed and unresolved_name(item.known)
    }


def _look(
    view: SessionView,
    environment: Environment,
    ports: tuple[OpenPort, ...] | None,
    candidates: Sequence[tuple[str, Known | None]],
) -> Adopted:
    units = list_units(environment.sysfs, view.sid)
    verdict, words = judge(view, ports=ports, has_units=bool(units))
    if verdict is Verdict.FOREIGN:
        return Adopted(view=view, verdict=verdict, known=None, words=words)
    known, notes = told_of(view, candidates)
    if verdict is Verdict.HEALTHY:
        notes = (*notes, *_offline(units))
    return Adopted(view=view, verdict=verdict, known=known, words=words, notes=notes)


def _offline(units: Sequence[UnitView]) -> tuple[str, ...]:
    """What no recovery is going to mend. Who set it so, the kernel's error handler before the session worked again or
    an administrator, cannot be told: so it is told, and not undone.
    """
    given_up = [unit for unit in units if unit.state in OFFLINE]
    if not given_up:
        return ()
    state = f"/sys/bus/scsi/devices/{given_up[0].address}/state"
    more = f" and {len(given_up) - 1} more" if given_up[1:] else ""
    return (f"it works, but its unit {given_up[0].address}{more} is {given_up[0].state}; next: echo running > {state}",)


def _complete(
    item: Adopted, environment: Environment, name: RecordName | None, recorded: Mapping[RecordName, Known]
) -> Adopted:
    """With what record and kernel tell, where nobody else did."""
    if item.known is not None or not item.is_ours:
        return item
    known = from_sysfs(item.view, environment)
    record = None if name is None else recorded.get(name)
    if known is not None and record is not None:
        known = of_record(record, known)
    if known is None and item.verdict is not Verdict.HALF_MADE:
        words = "the kernel does not tell under which names or to which portal it runs"
        return replace(item, verdict=Verdict.FOREIGN, words=words)
    return replace(item, known=known)


def judge(view: SessionView, *, ports: tuple[OpenPort, ...] | None, has_units: bool) -> tuple[Verdict, str]:
    """The table, as a function of values, with the reason in words. ``ports`` None: they cannot be told."""
    if view.transport != TRANSPORT:
        return Verdict.FOREIGN, f"it is of the driver {view.transport or 'nobody knows which'}"
    if view.creator is None:
        return Verdict.FOREIGN, "firmware or the kernel made it"
    if view.state is None:
        return Verdict.FOREIGN, "its state cannot be read"
    if view.state == LOGGED_IN:
        broken = [item for item in view.connections if item.state not in (None, "up")]
        return (Verdict.DOWN, f"its connection is {broken[0].state}") if broken else (Verdict.HEALTHY, "")
    if view.target_name is not None and (view.state != "FREE" or has_units or view.tpgt):
        return Verdict.DOWN, f"its state is {view.state}"
    return _unfinished(view, ports, has_units)


def _unfinished(view: SessionView, ports: tuple[OpenPort, ...] | None, has_units: bool) -> tuple[Verdict, str]:
    """A session that never worked: :func:`iscsiboot.session.leftovers.judge` tells whether it is being made."""
    if ports is None:
        return Verdict.FOREIGN, "whether its maker is still at work cannot be told: there is no /proc/net/netlink"
    request = AttachRequest(
        # Of any target: an unfinished session is looked at for its maker alone.
        initiator_name=view.initiator_name or "",
        target_name=view.target_name or "",
        iface_name=view.iface_name or "default",
        portal=next((portal for item in view.connections for portal in item.portals), Portal(address=UNRESOLVED)),
        lun=None,
    )
    verdict = leftovers.judge(view, request, transport=TRANSPORT, ports=ports, has_units=has_units)
    if verdict is leftovers.Verdict.REMOVE:
        return Verdict.HALF_MADE, "who made it is gone"
    return Verdict.FOREIGN, "who made it is still at work on it"


async def settle(found: tuple[Adopted, ...], *, environment: Environment, hands: Hands, log: Log) -> dict[int, Known]:
    """What is to be guarded of ``found``, after the rest is done: half-made sessions removed, host names resolved,
    what was assumed told. All of it at once, in hands; a failure is told and costs its own session only.
    """
    _tell(found, log)
    done = await asyncio.gather(*(_settle(item, environment, hands, log) for item in found))
    return {item.sid: known for item, known in zip(found, done, strict=True) if known is not None}


def _tell(found: tuple[Adopted, ...], log: Log) -> None:
    """Sessions of which the same is to be told share a line: somebody else may have made hundreds."""
    assumed: dict[str, list[int]] = {}
    for item in found:
        for note in item.notes:
            log(Level.WARNING, f"session {item.sid}: {note}")
        if item.verdict is Verdict.FOREIGN:
            log(Level.NOTICE, f"session {item.sid} is left alone: {item.words}")
        elif item.known is not None and item.known.unknown and not item.to_be_removed:
            text = f"known from {item.known.source.value}; assumed: {', '.join(item.known.unknown)}"
            assumed.setdefault(text, []).append(item.sid)
    for text, sids in assumed.items():
        which = "session" if len(sids) == 1 else "sessions"
        step = "next: make the node record, then have iscsid read it (systemctl reload iscsid)"
        log(Level.WARNING, f"{which} {numbers(sids)}: {text}; {step}")


async def _settle(item: Adopted, environment: Environment, hands: Hands, log: Log) -> Known | None:
    if item.to_be_removed:
        ended = await hands.run(
            lambda: _remove(item.view, environment), seconds=REMOVAL_SECONDS, what=f"removal of session {item.sid}"
        )
        problem = ended.problem or (ended.answer or {}).get("problem", "")
        if problem:
            log(Level.WARNING, f"session {item.sid}, left half made by a process that is gone, stays: {problem}")
        else:
            log(Level.NOTICE, f"session {item.sid} was left half made by a process that is gone, and is removed")
        return None
    known = item.known
    name = None if known is None else unresolved_name(known)
    if known is None or name is None:
        return known
    ended = await hands.run(
        lambda: _resolve(name, environment), seconds=NAME_SECONDS, what=f"look-up of session {item.sid}'s portal"
    )
    answer = ended.answer or {}
    if "address" not in answer:
        problem = ended.problem or answer.get("problem", "")
        log(Level.ERROR, f"session {item.sid} is not guarded: its portal {name} has no address: {problem}")
        return None
    portal = replace(known.request.portal, address=parse_ip(str(answer["address"])))
    return replace(known, request=replace(known.request, portal=portal))


def _remove(view: SessionView, environment: Environment) -> Answer:
    """In a hand."""
    hygiene.for_requests()
    transport = read_transport(environment.sysfs, TRANSPORT)
    if transport is None:
        return {"problem": "the kernel's transport cannot be read"}
    try:
        with environment.open_netlink() as netlink:
            leftovers.remove(view, netlink=netlink, transport=transport, now=environment.now)
    except IscsiBootError as error:
        return {"problem": error.line()}
    return {}


def _resolve(name: NamedPortal, environment: Environment) -> Answer:
    """In a hand."""
    try:
        return {"address": str(environment.resolve(name).address)}
    except IscsiBootError as error:
        return {"problem": error.cause}
