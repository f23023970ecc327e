# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the print levels of ``iscsiadm -m session`` add to a session's row, each level read only when it is asked for.

As lean as :mod:`iscsiboot.sysfs.listing`, and by the same rules: what is missing is ``""`` or None, and a session that
went away meanwhile is None as a whole. Secrets are read only when they are to be shown.
"""

from __future__ import annotations

import os

from iscsiboot.sysfs.listing import (
    FIRST_OF_CONNECTION,
    FIRST_OF_SESSION,
    UNKNOWN,
    UNSET,
    Attributes,
    SessionRow,
    c_number,
    read_attribute,
)

TIMEOUTS = ("recovery_tmo", "tgt_reset_tmo", "lu_reset_tmo", "abort_tmo")
CHAP_NAMES = ("username", "username_in")
CHAP_SECRETS = ("password", "password_in")
CONNECTION_PARAMETERS = ("header_digest", "data_digest", "max_recv_dlength", "max_xmit_dlength")
SESSION_PARAMETERS = ("first_burst_len", "max_burst_len", "immediate_data", "initial_r2t", "max_outstanding_r2t")


class Unit:
    """A logical unit of a session. ``block`` is its disk (``sda``), ``""`` without one; ``state`` the SCSI layer's."""

    __slots__ = ("block", "channel", "host", "lun", "state", "target")

    def __init__(self, *, host: int, channel: int, target: int, lun: int, block: str, state: str) -> None:
        self.host = host
        self.channel = channel
        self.target = target
        self.lun = lun
        self.block = block
        self.state = state


class SessionDetails:
    """Everything below a session's row; what the level did not ask for is None or empty.

    Numbers that are negotiated (``parameters``, by attribute name) are None when the kernel has none or says -1.
    """

    __slots__ = (
        "chap",
        "hardware_address",
        "host_state",
        "initiator_name",
        "ip_address",
        "network_device",
        "parameters",
        "timeouts",
        "units",
    )

    def __init__(self, *, initiator_name: str, ip_address: str, hardware_address: str, network_device: str) -> None:
        self.initiator_name = initiator_name
        self.ip_address = ip_address
        self.hardware_address = hardware_address
        self.network_device = network_device
        self.timeouts: dict[str, int] = {}
        self.chap: dict[str, str] = {}
        self.parameters: dict[str, int | None] = {}
        self.host_state = ""
        self.units: list[Unit] = []

    def __repr__(self) -> str:
        # chap stays out: it may hold secrets.
        return f"SessionDetails(initiator_name={self.initiator_name!r}, units={len(self.units)})"


def read_details(sysfs: str, row: SessionRow, level: int, *, reveal: bool = False) -> SessionDetails | None:
    """What print level 1, 2 or 3 shows; ``reveal`` reads the CHAP secrets too. None when the session is gone."""
    base = f"{sysfs}/class/iscsi_session/session{row.sid}"
    try:
        with Attributes(f"{sysfs}/class/iscsi_host/host{row.host}") as host:
            details = SessionDetails(
                # A session that was given no name of its own logs in with its host's.
                initiator_name=row.initiator_name or host.text("initiatorname"),
                ip_address=host.text("ipaddress"),
                hardware_address=host.text("hwaddress"),
                network_device=host.text("netdev"),
            )
        if level >= 2:
            with Attributes(base, first=FIRST_OF_SESSION) as session:
                _read_settings(details, session, reveal=reveal)
                going = session.going
            link = f"{sysfs}/class/iscsi_connection/connection{row.sid}:0"
            with Attributes(link, first=FIRST_OF_CONNECTION) as connection:
                details.parameters |= {name: _negotiated(connection, name) for name in CONNECTION_PARAMETERS}
                going = going or connection.going
            if going:
                return None
        if level >= 3:
            state = read_attribute(f"{sysfs}/class/scsi_host/host{row.host}/state") or ""
            details.host_state = "" if state in UNSET else state
            details.units = _units(f"{base}/device")
    except OSError:
        return None
    return details if os.access(base, os.F_OK) else None


def _read_settings(details: SessionDetails, session: Attributes, *, reveal: bool) -> None:
    details.timeouts = {name: _timeout(session, name) for name in TIMEOUTS}
    details.chap = {name: session.text(name) for name in CHAP_NAMES + (CHAP_SECRETS if reveal else ())}
    details.parameters = {name: _negotiated(session, name) for name in SESSION_PARAMETERS}


def _timeout(session: Attributes, name: str) -> int:
    """Seconds; -1 for ever or unknown. The kernel prints the endless one as ``off``, where open-iscsi reads a 0."""
    text = session.raw(name)
    return UNKNOWN if text is None or text == "off" else c_number(text)


def _negotiated(attributes: Attributes, name: str) -> int | None:
    text = attributes.text(name)
    number = c_number(text) if text else UNKNOWN
    return None if number == UNKNOWN else number


def _units(device: str) -> list[Unit]:
    """The logical units below a session's device, by the bytes of their names as open-iscsi has them: 0, 1, 10, 2."""
    units = []
    for target in _names(device):
        if not target.startswith("target") or _numbers(target[len("target") :], 3) is None:
            continue
        for name in _names(f"{device}/{target}"):
            numbers = _numbers(name, 4)
            if numbers is not None:
                units.append(_unit(f"{device}/{target}/{name}", numbers))
    return units


def _unit(place: str, numbers: list[int]) -> Unit:
    host, channel, target, lun = numbers
    # A unit has no block device yet, or never (an array's controller), or one.
    block = next(iter(_names(f"{place}/block")), "")
    state = read_attribute(f"{place}/state") or ""
    return Unit(host=host, channel=channel, target=target, lun=lun, block=block, state="" if state in UNSET else state)


def _numbers(text: str, count: int) -> list[int] | None:
    """``2:0:0:1`` as so many numbers; None when it is anything else."""
    parts = text.split(":")
    if len(parts) != count or not all(part.isdecimal() and part.isascii() for part in parts):
        return None
    return [int(part) for part in parts]


def _names(folder: str) -> list[str]:
    """The entries of a directory in order; none when it is not there, or no more."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except OSError:
        return []
