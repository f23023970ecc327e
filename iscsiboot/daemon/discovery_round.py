# SPDX-License-Identifier: LGPL-2.1-or-later
"""One round of the discovery daemon: ask a server through each interface, and what node records follow. For a hand.

The settings are the stored SendTargets record's, one attempt a round: the next round is the retry. Records that are in
the database are used as they are; for the others iscsid.conf's defaults are, and none is written (as open-iscsi's).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from iscsiboot.daemon.discoveryd import KIND, PREFIX
from iscsiboot.daemon.settings import Places, Settings
from iscsiboot.database.record import Record
from iscsiboot.database.store import Database
from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.params import SEGMENT_MAX, SEGMENT_MIN
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.orders.record_values import AUTH, chap_algorithms, credentials_of
from iscsiboot.session.discover import DISCOVERY_PARAMS, discover, discovery_config
from iscsiboot.session.open_link import THIS_MACHINE, LinkEnvironment
from iscsiboot.session.resolve import resolve_all
from iscsiboot.session.workers import Answer
from iscsiboot.sysfs.netdevs import netdev_of

ANSWER_SECONDS = 120.0
"""For one whole answer; ten thousand targets take seconds."""
LOGIN_DEFAULT = 30
_TCP = "tcp"


def discovery_round(address: str, port: int, settings: Settings, places: Places) -> Answer:
    """A hand's job: ``records`` (their values) of every portal found, ``failures`` in words, one an interface."""
    notes: list[str] = []
    failures: list[str] = []
    found: dict[tuple[str, ...], dict[str, str]] = {}
    try:
        database = Database(places.database, notice=notes.append)
        record = database.read_discovery(KIND, address, port)
        if record is None:
            return {"records": [], "failures": [], "notes": notes}
        for iface in _ifaces(database):
            try:
                for node in _found(record, iface, settings, places, database, notes):
                    found.setdefault(_identity(node), dict(node.values))
            except (IscsiBootError, ValueError) as error:
                failures.append(error.line() if isinstance(error, IscsiBootError) else str(error))
    except IscsiBootError as error:
        failures.append(error.line())
    return {"records": list(found.values()), "failures": failures, "notes": notes}


def _identity(node: Record) -> tuple[str, ...]:
    key = node.node_key
    return key.target, key.address, str(key.port), key.iface


def _ifaces(database: Database) -> Sequence[Record]:
    """Every stored interface over TCP, else the one that binds nothing."""
    stored = [item for item in database.ifaces(stored_only=True) if item.get("iface.transport_name") == _TCP]
    default = database.read_iface("default")
    return stored or ([] if default is None else [default])


def _found(
    record: Record, iface: Record, settings: Settings, places: Places, database: Database, notes: list[str]
) -> list[Record]:
    """The node records of what the server names through one interface; IscsiBootError when it does not answer."""
    targets: list[DiscoveredTarget] = []
    login = record.number(f"{PREFIX}timeo.login_timeout")
    length = record.number(f"{PREFIX}iscsi.MaxRecvDataSegmentLength")
    in_range = SEGMENT_MIN <= length <= SEGMENT_MAX
    initiator = settings.initiator
    config = discovery_config(
        initiator_name=iface.get("iface.initiatorname") or ("" if initiator is None else initiator.name),
        initiator_alias="" if initiator is None else initiator.alias,
        entropy=os.urandom,
        credentials=credentials_of(record, f"{PREFIX}auth.", notes.append),
        chap_algorithms=chap_algorithms(record.get(f"{AUTH}chap_algs"), notes.append),
        params=replace(
            DISCOVERY_PARAMS,
            login_timeout=login if login > 0 else LOGIN_DEFAULT,
            max_recv_data_segment_length=(length if in_range else DISCOVERY_PARAMS.max_recv_data_segment_length),
        ),
    )
    asked = _portal(record)
    discover(
        asked,
        config,
        deadline=Deadline.after(ANSWER_SECONDS, now=time.monotonic(), reason="a discovery round"),
        on_target=targets.append,
        on_refused=notes.append,
        on_restart=targets.clear,
        timers=Timers(auth_timeout=float(max(0, record.number(f"{PREFIX}timeo.auth_timeout")))),
        environment=_environment(iface, places),
    )
    named = (
        (target.name, _host(portal, asked, record), portal.port, -1 if portal.tpgt is None else portal.tpgt)
        for target in targets
        for portal in target.portals
    )
    return [_node(iface, settings, database, *place) for place in named]


def _portal(record: Record) -> Portal:
    """Where the server is; a name is asked for in each round."""
    address, port = record.get(f"{PREFIX}address"), record.number(f"{PREFIX}port")
    try:
        return Portal(address=parse_ip(address), port=port)
    except ValueError:
        return resolve_all(NamedPortal(host=address, port=port))[0]


def _host(portal: Portal | NamedPortal, asked: Portal, record: Record) -> str:
    """An address as records have it; the server's own in the words it was asked by."""
    if portal == asked:
        return record.get(f"{PREFIX}address")
    return portal.host if isinstance(portal, NamedPortal) else str(portal.address)


def _environment(iface: Record, places: Places) -> LinkEnvironment:
    """With the network device the interface is bound to."""
    netdev, mac = iface.get("iface.net_ifacename"), iface.get("iface.hwaddress")
    if netdev not in ("", "default"):
        return replace(THIS_MACHINE, netdev=netdev)
    if mac in ("", "default"):
        return THIS_MACHINE
    found = netdev_of(mac, places.sysfs)
    if found is None:
        raise IscsiBootError(
            "no network interface of this machine has its hardware address",
            stage=Stage.DISCOVERY,
            subject=f"interface {iface.get('iface.iscsi_ifacename')}",
            hint="compare iface.hwaddress with `ip link`",
        )
    return replace(THIS_MACHINE, netdev=found)


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
