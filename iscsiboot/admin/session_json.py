# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions as the objects of ``--json``: what the same print level shows as text, and null below that level.

Where open-iscsi prints something made up, the object has what is known: the interface's name is that of the session
also when the host has a MAC address, and a missing secret is null and not stars. Only commands with ``--json`` import
this.
"""

from __future__ import annotations

from iscsiboot.admin.json_objects import session_object
from iscsiboot.admin.runner import state
from iscsiboot.admin.session_tree import PARAMETERS
from iscsiboot.sysfs.session_details import read_details

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from iscsiboot.sysfs.listing import SessionRow
    from iscsiboot.sysfs.session_details import SessionDetails, Unit

    Object = dict[str, Any]


def session_objects(rows: Iterable[SessionRow], sysfs: str, level: int, *, reveal: bool) -> list[Object]:
    """One object a session, with what print level ``level`` shows; ``reveal`` adds the CHAP secrets.

    Sessions that went away since they were listed are left out.
    """
    if level == 0:
        return [session_object(row) for row in rows]
    found = ((row, read_details(sysfs, row, level, reveal=reveal)) for row in rows)
    return [_object(row, details, level) for row, details in found if details is not None]


def _object(row: SessionRow, details: SessionDetails, level: int) -> Object:
    connection, internal = state(row)
    blocks: Object = {
        "connection_state": connection,
        "internal_state": internal,
        "interface": {
            "name": row.iface_name or None,
            "transport": row.transport or None,
            "initiator_name": details.initiator_name or None,
            "ip_address": details.ip_address or None,
            "hardware_address": details.hardware_address or None,
            "network_device": details.network_device or None,
        },
    }
    if level >= 2:
        blocks["timeouts"] = _timeouts(details.timeouts)
        blocks["chap"] = {
            name: details.chap.get(name) or None for name in ("username", "password", "username_in", "password_in")
        }
        blocks["parameters"] = _parameters(details.parameters)
    if level >= 3:
        blocks["host_state"] = details.host_state or None
        blocks["devices"] = [_device(unit) for unit in details.units]
    return session_object(row, **blocks)


def _timeouts(found: dict[str, int]) -> Object:
    """Seconds. -1 is for ever where the kernel has such a timeout, and unknown where it has not."""

    def known(name: str) -> int | None:
        return None if found[name] < 0 else found[name]

    return {
        "recovery": found["recovery_tmo"],
        "target_reset": known("tgt_reset_tmo"),
        "lun_reset": known("lu_reset_tmo"),
        "abort": known("abort_tmo"),
    }


def _parameters(found: dict[str, int | None]) -> Object:
    """Words for digests, flags for yes and no, else numbers; null where the kernel says nothing."""
    made: Object = {}
    for name, attribute, words in PARAMETERS:
        number = found[attribute]
        if number is None or words is None:
            made[name] = number
        elif words == ("No", "Yes"):
            made[name] = number != 0
        else:
            made[name] = words[number != 0]
    return made


def _device(unit: Unit) -> Object:
    return {
        "host": unit.host,
        "channel": unit.channel,
        "id": unit.target,
        "lun": unit.lun,
        "name": unit.block or None,
        "state": unit.state or None,
    }
