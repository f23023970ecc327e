# SPDX-License-Identifier: LGPL-2.1-or-later
"""Objects of ``--json`` from the values the modes have; the fields are those of json_schema. Pure.

Only commands with ``--json`` import this. What is empty or unknown is null, so that nobody has to know ``<empty>``.
"""

from __future__ import annotations

from iscsiboot.admin.json_out import failure_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from iscsiboot.database.names import NodeKey
    from iscsiboot.database.record import Record
    from iscsiboot.errors import IscsiBootError
    from iscsiboot.sysfs.listing import SessionRow

    Object = dict[str, Any]

EMPTY = "<empty>"


def portal_object(address: str, port: int, tpgt: int = -1) -> Object:
    """Where a target listens; port and tag are null while unknown (-1)."""
    return {
        "address": address.strip("[]"),
        "port": None if port < 0 else port,
        "tpgt": None if tpgt < 0 else tpgt,
    }


def place_object(key: NodeKey) -> Object:
    """A node record's name."""
    return {"target": key.target, "portal": portal_object(key.address, key.port, key.tpgt), "iface": key.iface}


def record_object(record: Record, reveal: bool = False) -> Mapping[str, str]:
    """Keys and values as they are shown, an empty value as an empty text; secrets are stars unless ``reveal``."""
    found = {}
    for line in record.display(reveal=reveal).split("\n"):
        if line and not line.startswith("#"):
            name, _, value = line.partition(" = ")
            found[name] = "" if value == EMPTY else value
    return found


def node_object(key: NodeKey, record: Record | None = None, reveal: bool = False) -> Object:
    """Kind ``node``: listed without ``record``, shown with it."""
    return {**place_object(key), "record": None if record is None else record_object(record, reveal)}


def iface_object(
    record: Record, *, shown: bool = False, reveal: bool = False, nodes: Iterable[NodeKey] | None = None
) -> Object:
    """Kind ``iface``: ``shown`` with all keys, else listed; ``nodes`` are those bound to it (``-P 1``)."""
    return {
        "name": record.get("iface.iscsi_ifacename"),
        "transport": record.get("iface.transport_name"),
        "hwaddress": record.get("iface.hwaddress") or None,
        "ipaddress": record.get("iface.ipaddress") or None,
        "net_ifacename": record.get("iface.net_ifacename") or None,
        "initiatorname": record.get("iface.initiatorname") or None,
        "record": record_object(record, reveal) if shown else None,
        "nodes": None if nodes is None else [place_object(key) for key in nodes],
    }


def discovery_object(
    kind: str,
    address: str = "",
    port: int = 0,
    *,
    record: Record | None = None,
    reveal: bool = False,
    nodes: Iterable[NodeKey] | None = None,
) -> Object:
    """Kind ``discovery``. ``kind`` is ``sendtargets``, ``isns``, ``static`` or ``fw``; the last two have no portal."""
    return {
        "type": kind,
        "address": address or None,
        "port": port if address else None,
        "record": None if record is None else record_object(record, reveal),
        "nodes": None if nodes is None else [place_object(key) for key in nodes],
    }


def target_object(key: NodeKey, kind: str) -> Object:
    """Kind ``target``: found by a discovery of ``kind``."""
    return {**place_object(key), "type": kind}


def session_object(row: SessionRow, **blocks: object) -> Object:
    """Kind ``session``. ``blocks`` are the fields of higher print levels by name; a TypeError for another name."""
    made: Object = {
        "sid": row.sid,
        "host": row.host if row.host >= 0 else None,
        "transport": _known(row.transport),
        "target": _known(row.target),
        "persistent_portal": portal_object(row.persistent_address, row.persistent_port, row.tpgt),
        "portal": portal_object(row.address, row.port, row.tpgt) if _known(row.address) else None,
        "flash": row.flash,
        "iface": _known(row.iface_name),
        "initiator_name": _known(row.initiator_name),
        "session_state": _known(row.state),
    }
    names = (
        *("interface", "connection_state", "internal_state", "timeouts", "chap", "parameters"),
        *("host_state", "devices"),
    )
    if wrong := set(blocks) - set(names):
        raise TypeError(f"no field of a session: {', '.join(sorted(wrong))}")
    return {**made, **{name: blocks.get(name) for name in names}}


def login_object(
    key: NodeKey,
    result: str,
    *,
    sid: int | None = None,
    devices: Iterable[str] | None = None,
    seconds: float | None = None,
    exit_code: int = 0,
    failure: IscsiBootError | None = None,
) -> Object:
    """Kind ``login``; ``result`` is ``done``, ``present``, ``sent`` or ``failed``."""
    return {
        **place_object(key),
        "result": result,
        "sid": sid,
        "devices": None if devices is None else list(devices),
        "seconds": None if seconds is None else round(seconds, 3),
        "exit_code": int(exit_code),
        "failure": failure_object(failure),
    }


def logout_object(row: SessionRow, result: str, *, exit_code: int = 0, failure: IscsiBootError | None = None) -> Object:
    """Kind ``logout``; ``result`` is ``done``, ``kept`` or ``failed``."""
    return {**_session(row), "result": result, "exit_code": int(exit_code), "failure": failure_object(failure)}


def rescan_object(row: SessionRow, exit_code: int = 0) -> Object:
    """Kind ``rescan``."""
    return {**_session(row), "exit_code": int(exit_code)}


def statistics_object(row: SessionRow, snmp: Mapping[str, int], extended: Mapping[str, int]) -> Object:
    """Kind ``statistics``."""
    return {**_session(row), "snmp": dict(snmp), "extended": dict(extended)}


def firmware_object(target: str, address: str, port: int, record: Mapping[str, str]) -> Object:
    """Kind ``firmware``; a boot table has no portal group tag."""
    return {"target": target, "portal": portal_object(address, port), "record": dict(record)}


def _session(row: SessionRow) -> Object:
    return {
        "sid": row.sid,
        "target": _known(row.target),
        "portal": portal_object(row.persistent_address, row.persistent_port, row.tpgt),
    }


def _known(text: str) -> str | None:
    return text if text and text != EMPTY else None
