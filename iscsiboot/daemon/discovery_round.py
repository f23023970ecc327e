# SPDX-License-Identifier: LGPL-2.1-or-later
"""One round of the discovery daemon: ask a server through each interface, and what node records follow. For a hand.

The settings are the stored SendTargets record's, one attempt a round: the next round is the retry. Records that are in
the database are used as they are; for the others iscsid.conf's defaults are, and none is written (as open-iscsi's).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from iscsiboot.daemon.discoveryd import KIND
from iscsiboot.daemon.settings import Places, Settings
from iscsiboot.database.record import Record
from iscsiboot.database.store import Database
from iscsiboot.errors import IscsiBootError
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.orders.discovery import DiscoverySettings, bound_netdev, discovery_settings
from iscsiboot.session.discover import discover
from iscsiboot.session.open_link import THIS_MACHINE
from iscsiboot.session.resolve import resolve_all
from iscsiboot.session.workers import Answer

ANSWER_SECONDS = 120.0
"""For one whole answer; ten thousand targets take seconds."""
PLACES_MAX = 1024
"""Portals of one round that are used: more sessions than a machine has, and few enough for every answer on the way."""
_TCP = "tcp"


class _TooMany(Exception):
    """The answer is not read to its end."""


def discovery_round(address: str, port: int, settings: Settings, places: Places) -> Answer:
    """A hand's job: ``records`` of every portal found (what is not as in a new record), ``failures`` in words, one an
    interface. An answer with more than :data:`PLACES_MAX` portals is a failure too: nobody knows what it leaves out.
    """
    notes: list[str] = []
    failures: list[str] = []
    found: dict[tuple[str, ...], dict[str, str]] = {}
    base = settings.config.node()
    try:
        database = Database(places.database, notice=notes.append)
        record = database.read_discovery(KIND, address, port)
        if record is None:
            return {"records": [], "failures": [], "notes": notes}
        for iface in _ifaces(database):
            try:
                for node in _found(record, iface, settings, places, database, notes):
                    if len(found) == PLACES_MAX:
                        raise _TooMany
                    found.setdefault(_identity(node), _difference(node, base))
            except _TooMany:
                failures.append(f"more than {PLACES_MAX} portals are named; as many are used, and none is logged out")
                break
            except (IscsiBootError, ValueError) as error:
                failures.append(error.line() if isinstance(error, IscsiBootError) else str(error))
    except IscsiBootError as error:
        failures.append(error.line())
    return {"records": list(found.values()), "failures": failures, "notes": notes}


def _identity(node: Record) -> tuple[str, ...]:
    key = node.node_key
    return key.target, key.address, str(key.port), key.iface


def _difference(node: Record, base: Record) -> dict[str, str]:
    """What makes ``node`` of ``base``: a thousand whole records are megabytes, and nearly all is in every one."""
    names = node.values.keys() | base.values.keys()
    return {name: node.get(name) for name in sorted(names) if node.get(name) != base.values.get(name)}


def _ifaces(database: Database) -> Sequence[Record]:
    """Every stored interface over TCP, else the one that binds nothing."""
    stored = [item for item in database.ifaces(stored_only=True) if item.get("iface.transport_name") == _TCP]
    default = database.read_iface("default")
    return stored or ([] if default is None else [default])


def _found(
    record: Record, iface: Record, settings: Settings, places: Places, database: Database, notes: list[str]
) -> Iterator[Record]:
    """The node records of what the server names through one interface; IscsiBootError when it does not answer.

    :class:`_TooMany` behind the last one that is used.
    """
    targets: list[DiscoveredTarget] = []
    too_many = False

    def take(target: DiscoveredTarget) -> None:
        targets.append(target)
        if len(targets) > PLACES_MAX:
            raise _TooMany

    wanted = discovery_settings(record, notes.append)
    initiator = settings.initiator
    config = wanted.login(
        initiator_name=iface.get("iface.initiatorname") or ("" if initiator is None else initiator.name),
        initiator_alias="" if initiator is None else initiator.alias,
    )
    asked = _portal(wanted)
    try:
        discover(
            asked,
            config,
            deadline=Deadline.after(ANSWER_SECONDS, now=time.monotonic(), reason="a discovery round"),
            on_target=take,
            on_refused=notes.append,
            on_restart=targets.clear,
            timers=Timers(auth_timeout=float(wanted.auth_timeout)),
            environment=replace(THIS_MACHINE, netdev=bound_netdev(iface, places.sysfs) or None),
        )
    except _TooMany:
        too_many = True
    for target in targets[:PLACES_MAX]:
        for portal in target.portals:
            tpgt = -1 if portal.tpgt is None else portal.tpgt
            yield _node(iface, settings, database, target.name, wanted.address_of(portal, asked), portal.port, tpgt)
    if too_many:
        raise _TooMany


def _portal(wanted: DiscoverySettings) -> Portal:
    """Where the server is; a name is asked for in each round."""
    try:
        return Portal(address=parse_ip(wanted.address), port=wanted.port)
    except ValueError:
        return resolve_all(NamedPortal(host=wanted.address, port=wanted.port))[0]


def _node(
    iface: Record, settings: Settings, database: Database, target: str, address: str, port: int, tpgt: int
) -> Record:
    """The record in the database, or one of the defaults."""
    bound = {name: value for name, value in iface.values.items() if name.startswith("iface.")}
    fresh = (
        settings.config.node()
        .changed(bound)
        .changed(
            {
                "node.name": target,
                "node.tpgt": str(tpgt),
                "node.conn[0].address": address,
                "node.conn[0].port": str(port),
            }
        )
    )
    return database.read_node(fresh.node_key) or fresh
