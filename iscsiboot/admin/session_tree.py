# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m session``: the flat list and the tree of ``-P 1`` to ``-P 3``, as lines.

The layout is open-iscsi's to the last tabulator; programs cut it by column and by word. Values come out as the kernel
has them, except control characters: a name is the target's to choose, and an escape sequence in it is not to reach the
terminal, nor a line break to make one session look like two. open-iscsi prints them raw.
"""

from __future__ import annotations

from iscsiboot.errors import printable
from iscsiboot.sysfs.listing import DEFAULT
from iscsiboot.sysfs.session_details import read_details

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from iscsiboot.sysfs.listing import SessionRow
    from iscsiboot.sysfs.session_details import SessionDetails

    States = Callable[[SessionRow], tuple[str, str]]

EMPTY = "<empty>"
STARS = "********"
NOT_KNOWN = "Unknown"

PARAMETERS = (
    ("HeaderDigest", "header_digest", ("None", "CRC32C")),
    ("DataDigest", "data_digest", ("None", "CRC32C")),
    ("MaxRecvDataSegmentLength", "max_recv_dlength", None),
    ("MaxXmitDataSegmentLength", "max_xmit_dlength", None),
    ("FirstBurstLength", "first_burst_len", None),
    ("MaxBurstLength", "max_burst_len", None),
    ("ImmediateData", "immediate_data", ("No", "Yes")),
    ("InitialR2T", "initial_r2t", ("No", "Yes")),
    ("MaxOutstandingR2T", "max_outstanding_r2t", None),
)
"""Name, attribute, and the words for zero and for anything else (None: the number itself), in the order printed."""

_TIMEOUTS = (("Target Reset", "tgt_reset_tmo"), ("LUN Reset", "lu_reset_tmo"), ("Abort", "abort_tmo"))


def shown(text: str) -> str:
    """``text`` with what could move a cursor, end a line or turn its direction escaped, as ``errors.printable`` does.

    Bytes that are no UTF-8 stay what they are, unless an old terminal takes them for a control character.
    """
    if text.isprintable():
        return text
    return "".join(char if "\udca0" <= char <= "\udcff" else printable(char) for char in text)


def flat_lines(rows: Iterable[SessionRow]) -> list[str]:
    """One line a session."""
    return [
        f"{shown(row.transport) or EMPTY}: [{row.sid}] {_persistent(row)} {shown(row.target)} ({_flash(row)})"
        for row in rows
    ]


def tree_lines(rows: Iterable[SessionRow], sysfs: str, level: int, states: States, *, reveal: bool) -> list[str]:
    """The tree of print level 1 to 3. Sessions that went away since they were listed are left out.

    ``states`` gives connection and internal state of a session; ``reveal`` shows CHAP secrets.
    """
    lines: list[str] = []
    last: SessionRow | None = None
    for row in rows:
        details = read_details(sysfs, row, level, reveal=reveal)
        if details is None:
            continue
        if last is None or last.target != row.target:
            lines.append(f"Target: {shown(row.target)} ({_flash(row)})")
            last = None
        if last is not None and (last.address, last.port) == (row.address, row.port):
            lines.append("")
        else:
            lines.append(f"\tCurrent Portal: {_host(row.address)}:{row.port},{row.tpgt}")
            lines.append(f"\tPersistent Portal: {_persistent(row)}")
        last = row
        lines += _interface_lines(row, details)
        connection, internal = states(row)
        lines.append(f"\t\tSID: {row.sid}")
        lines.append(f"\t\tiSCSI Connection State: {connection}")
        lines.append(f"\t\tiSCSI Session State: {shown(row.state) or NOT_KNOWN}")
        lines.append(f"\t\tInternal iscsid Session State: {internal}")
        if level >= 2:
            lines += _timeout_lines(details)
            lines += _chap_lines(details, reveal=reveal)
            lines += _parameter_lines(details)
        if level >= 3:
            lines += _device_lines(row, details)
    return lines


def version_lines(kernel: str | None) -> list[str]:
    """What stands above the tree of ``-P 3``: nothing when the kernel's module has no version."""
    if not kernel:
        return []
    from iscsiboot.database.record import COMPATIBLE  # with it come the tables of every key

    return [f"iSCSI Transport Class version {shown(kernel)}", f"version {COMPATIBLE}"]


def _heading(title: str, width: int | None = None) -> list[str]:
    stars = "\t\t" + "*" * (width or len(title))
    return [stars, f"\t\t{title}", stars]


def _flash(row: SessionRow) -> str:
    return "flash" if row.flash else "non-flash"


def _host(address: str) -> str:
    """An address in brackets unless it has a dot: that is open-iscsi's test for IPv6."""
    return shown(address) if "." in address else f"[{shown(address)}]"


def _persistent(row: SessionRow) -> str:
    return f"{_host(row.persistent_address)}:{row.persistent_port},{row.tpgt}"


def _interface_name(row: SessionRow, details: SessionDetails) -> str:
    """The name in ``ifacename``, unless the host has a MAC address: open-iscsi then makes one of that, always."""
    if not details.hardware_address:
        return row.iface_name
    family = "ipv6" if ":" in details.ip_address else "ipv4"
    return f"{row.transport}.{details.hardware_address}.{family}.0"


def _interface_lines(row: SessionRow, details: SessionDetails) -> list[str]:
    return [
        *_heading("Interface:"),
        f"\t\tIface Name: {shown(_interface_name(row, details))}",
        f"\t\tIface Transport: {shown(row.transport) or EMPTY}",
        f"\t\tIface Initiatorname: {shown(details.initiator_name) or EMPTY}",
        # The word "default" has no dot either.
        f"\t\tIface IPaddress: {_host(details.ip_address or DEFAULT)}",
        f"\t\tIface HWaddress: {shown(details.hardware_address) or DEFAULT}",
        f"\t\tIface Netdev: {shown(details.network_device) or DEFAULT}",
    ]


def _timeout_lines(details: SessionDetails) -> list[str]:
    found = details.timeouts
    return [
        *_heading("Timeouts:"),
        f"\t\tRecovery Timeout: {found['recovery_tmo']}",
        *(f"\t\t{name} Timeout: {EMPTY if found[key] < 0 else found[key]}" for name, key in _TIMEOUTS),
    ]


def _chap_lines(details: SessionDetails, *, reveal: bool) -> list[str]:
    found = details.chap

    def secret(name: str) -> str:
        # Stars also where there is no secret: that is open-iscsi's, and it tells nobody whether there is one.
        return shown(found[name]) or EMPTY if reveal else STARS

    return [
        *_heading("CHAP:"),
        f"\t\tusername: {shown(found['username']) or EMPTY}",
        f"\t\tpassword: {secret('password')}",
        f"\t\tusername_in: {shown(found['username_in']) or EMPTY}",
        # With -S the label is wrong in open-iscsi, and has been in every release; programs count on the line.
        f"\t\t{'password' if reveal else 'password_in'}: {secret('password_in')}",
    ]


def _parameter_lines(details: SessionDetails) -> list[str]:
    lines = _heading("Negotiated iSCSI params:")
    for name, attribute, words in PARAMETERS:
        number = details.parameters[attribute]
        if number is not None:
            lines.append(f"\t\t{name}: {number if words is None else words[number != 0]}")
    return lines


def _device_lines(row: SessionRow, details: SessionDetails) -> list[str]:
    lines = _heading("Attached SCSI devices:", 24)
    lines.append(f"\t\tHost Number: {row.host}\tState: {shown(details.host_state) or NOT_KNOWN}")
    for unit in details.units:
        lines.append(f"\t\tscsi{unit.host} Channel {unit.channel:02d} Id {unit.target} Lun: {unit.lun}")
        if unit.block:
            state = shown(unit.state) or NOT_KNOWN
            lines.append(f"\t\t\tAttached scsi disk {shown(unit.block)}\t\tState: {state}")
    return lines
