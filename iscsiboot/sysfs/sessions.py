# SPDX-License-Identifier: LGPL-2.1-or-later
"""Transports, sessions, connections and hosts of the iSCSI transport class (drivers/scsi/scsi_transport_iscsi.c).

Every function takes the root of sysfs. Listings read object by object, so they are no snapshot: a session that
disappears while it is read is left out, an attribute that cannot be read is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.model.credentials import Secret
from iscsiboot.model.portal import IpAddress, Portal, parse_ip
from iscsiboot.sysfs.attributes import numbered, read_flag, read_int, read_text

_SESSION = re.compile(r"session(\d+)")
_CONNECTION = re.compile(r"connection(\d+):(\d+)")
_HOST = re.compile(r"host(\d+)")

LOGGED_IN = "LOGGED_IN"
"""``state`` of a session whose connection was started and works."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransportView:
    """A transport class driver: ``tcp``, ``iser``."""

    name: str
    handle: int
    """The number every netlink request names the transport by."""
    caps: int
    """A set of :class:`iscsiboot.netlink.uapi.Cap` bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionView:
    """A connection of a session."""

    sid: int
    cid: int
    state: str | None
    """``up``, ``bound``, ``down``, ``failed``; None on kernels before 5.14."""
    persistent_address: str | None
    """What user space stored: the portal the login was asked for, before redirects."""
    persistent_port: int | None
    address: str | None
    """Where the socket really leads; None without a socket."""
    port: int | None
    exp_statsn: int | None
    ping_tmo: int | None
    recv_tmo: int | None
    header_digest: bool | None
    data_digest: bool | None
    max_recv_dlength: int | None
    max_xmit_dlength: int | None

    @property
    def portals(self) -> tuple[Portal, ...]:
        """The stored portal and the connected one, whichever are known; equal ones once."""
        pairs = ((self.persistent_address, self.persistent_port), (self.address, self.port))
        known = [portal for portal in (_portal(*pair) for pair in pairs) if portal is not None]
        return tuple(dict.fromkeys(known))


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionView:
    """A session, however far it has come: one that was only just created has numbers and nothing else."""

    sid: int
    host: int
    transport: str | None
    target_name: str | None
    tpgt: int | None
    initiator_name: str | None
    iface_name: str | None
    state: str | None
    """``LOGGED_IN``, ``FAILED`` (was logged in), ``FREE`` (never was, or the recovery timeout passed)."""
    creator: int | None
    """Port id of the netlink socket it was made with, unsigned; None when the kernel or firmware made it."""
    recovery_tmo: int | None
    """Seconds; -1 is for ever."""
    abort_tmo: int | None
    lu_reset_tmo: int | None
    tgt_reset_tmo: int | None
    username: str | None
    username_in: str | None
    boot_root: str | None
    boot_nic: str | None
    boot_target: str | None
    initial_r2t: bool | None
    immediate_data: bool | None
    first_burst_len: int | None
    max_burst_len: int | None
    max_outstanding_r2t: int | None
    data_pdu_in_order: bool | None
    data_seq_in_order: bool | None
    erl: int | None
    connections: tuple[ConnectionView, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class HostView:
    """The SCSI host of a session (software transports: one each)."""

    number: int
    transport: str | None
    state: str | None
    initiator_name: str | None
    netdev: str | None
    hwaddress: str | None
    address: str | None


def read_transport(sysfs: Path, name: str) -> TransportView | None:
    """The transport, or None when its module is not loaded."""
    base = sysfs / "class" / "iscsi_transport" / name
    handle, caps = read_int(base / "handle"), read_int(base / "caps", 16)
    return None if handle is None else TransportView(name=name, handle=handle, caps=caps or 0)


def list_sessions(sysfs: Path) -> tuple[SessionView, ...]:
    """Every session, by number."""
    found = numbered(sysfs / "class" / "iscsi_session", _SESSION)
    connections: dict[int, list[ConnectionView]] = {}
    # One pass: a listing of all connections for each session would be n^2.
    for numbers, path in numbered(sysfs / "class" / "iscsi_connection", _CONNECTION) if found else ():
        connections.setdefault(numbers[0], []).append(_connection(path, *numbers))
    views = (_session(sysfs, numbers[0], tuple(connections.get(numbers[0], ()))) for numbers, _ in found)
    return tuple(view for view in views if view is not None)


def read_session(sysfs: Path, sid: int) -> SessionView | None:
    """One session, or None when it is not (or no longer) there."""
    return _session(sysfs, sid, None)


def has_session(sysfs: Path, sid: int) -> bool:
    """Whether the kernel has the session; reads nothing."""
    return (sysfs / "class" / "iscsi_session" / f"session{sid}").exists()


def read_session_host(sysfs: Path, sid: int) -> int | None:
    """The number of a session's SCSI host, or None when the session is not there; reads nothing else."""
    return _host_of(sysfs / "class" / "iscsi_session" / f"session{sid}")


def read_connection(sysfs: Path, sid: int, cid: int = 0) -> ConnectionView | None:
    """One connection, or None when it is not there; does not look at those of other sessions."""
    base = sysfs / "class" / "iscsi_connection" / f"connection{sid}:{cid}"
    return _connection(base, sid, cid) if base.is_dir() else None


@dataclass(frozen=True, slots=True)
class LoginStart:
    """What of a connection a login begins with."""

    exp_statsn: int | None
    """The number its first request acknowledges; None when the kernel does not show it."""
    has_ping: bool
    """This kernel sends NOP-Outs by itself, and can be told how often."""


def read_login_start(sysfs: Path, sid: int, cid: int = 0) -> LoginStart | None:
    """Of one connection, or None when it is not there; all of :func:`read_connection` is seven times as much."""
    base = sysfs / "class" / "iscsi_connection" / f"connection{sid}:{cid}"
    ping = read_int(base / "ping_tmo")
    if ping is None and not base.is_dir():
        return None
    return LoginStart(exp_statsn=read_int(base / "exp_statsn"), has_ping=ping is not None)


def _session(sysfs: Path, sid: int, connections: tuple[ConnectionView, ...] | None) -> SessionView | None:
    """The session; its connections are looked for when the caller does not have them."""
    base = sysfs / "class" / "iscsi_session" / f"session{sid}"
    host = _host_of(base)
    if host is None:
        return None
    creator = read_int(base / "creator")
    return SessionView(
        sid=sid,
        host=host,
        transport=_transport_of(sysfs, host),
        target_name=read_text(base / "targetname"),
        tpgt=read_int(base / "tpgt"),
        initiator_name=read_text(base / "initiatorname"),
        iface_name=read_text(base / "ifacename"),
        state=read_text(base / "state"),
        # The kernel keeps a u32 and prints it signed; -1 is its mark for "no process".
        creator=None if creator is None or creator == -1 else creator & 0xFFFFFFFF,
        recovery_tmo=read_int(base / "recovery_tmo"),
        abort_tmo=read_int(base / "abort_tmo"),
        lu_reset_tmo=read_int(base / "lu_reset_tmo"),
        tgt_reset_tmo=read_int(base / "tgt_reset_tmo"),
        username=read_text(base / "username"),
        username_in=read_text(base / "username_in"),
        boot_root=read_text(base / "boot_root"),
        boot_nic=read_text(base / "boot_nic"),
        boot_target=read_text(base / "boot_target"),
        initial_r2t=read_flag(base / "initial_r2t"),
        immediate_data=read_flag(base / "immediate_data"),
        first_burst_len=read_int(base / "first_burst_len"),
        max_burst_len=read_int(base / "max_burst_len"),
        max_outstanding_r2t=read_int(base / "max_outstanding_r2t"),
        data_pdu_in_order=read_flag(base / "data_pdu_in_order"),
        data_seq_in_order=read_flag(base / "data_seq_in_order"),
        erl=read_int(base / "erl"),
        connections=list_connections(sysfs, sid) if connections is None else connections,
    )


def read_session_secret(sysfs: Path, sid: int, *, incoming: bool = False) -> Secret | None:
    """The CHAP secret the kernel keeps for whoever recovers the session: ours, or the one the target has to prove."""
    text = read_text(sysfs / "class" / "iscsi_session" / f"session{sid}" / ("password_in" if incoming else "password"))
    return None if text is None else Secret(text.encode("utf-8", "surrogateescape"))


def list_connections(sysfs: Path, sid: int) -> tuple[ConnectionView, ...]:
    """The connections of a session, by cid (every software session has at most one, cid 0)."""
    found = numbered(sysfs / "class" / "iscsi_connection", _CONNECTION)
    return tuple(_connection(path, *numbers) for numbers, path in found if numbers[0] == sid)


def read_host(sysfs: Path, number: int) -> HostView | None:
    """A SCSI host with its iSCSI attributes, or None."""
    base = sysfs / "class" / "iscsi_host" / f"host{number}"
    if not base.is_dir():
        return None
    return HostView(
        number=number,
        transport=_transport_of(sysfs, number),
        state=read_text(sysfs / "class" / "scsi_host" / f"host{number}" / "state"),
        initiator_name=read_text(base / "initiatorname"),
        netdev=read_text(base / "netdev"),
        hwaddress=read_text(base / "hwaddress"),
        address=read_text(base / "ipaddress"),
    )


def _connection(base: Path, sid: int, cid: int) -> ConnectionView:
    return ConnectionView(
        sid=sid,
        cid=cid,
        state=read_text(base / "state"),
        persistent_address=read_text(base / "persistent_address"),
        persistent_port=read_int(base / "persistent_port"),
        address=read_text(base / "address"),
        port=read_int(base / "port"),
        exp_statsn=read_int(base / "exp_statsn"),
        ping_tmo=read_int(base / "ping_tmo"),
        recv_tmo=read_int(base / "recv_tmo"),
        header_digest=read_flag(base / "header_digest"),
        data_digest=read_flag(base / "data_digest"),
        max_recv_dlength=read_int(base / "max_recv_dlength"),
        max_xmit_dlength=read_int(base / "max_xmit_dlength"),
    )


def _host_of(session: Path) -> int | None:
    """``.../host2/session1/iscsi_session/session1``: the number in the nearest ``hostN`` above."""
    try:
        real = session.resolve(strict=True)
    except OSError:
        return None
    for part in reversed(real.parts):
        match = _HOST.fullmatch(part)
        if match:
            return int(match.group(1))
    return None


def _transport_of(sysfs: Path, host: int) -> str | None:
    name = read_text(sysfs / "class" / "scsi_host" / f"host{host}" / "proc_name")
    return None if name is None else name.removeprefix("iscsi_")


def _portal(address: str | None, port: int | None) -> Portal | None:
    if address is None or port is None:
        return None
    try:
        ip: IpAddress = parse_ip(address)
        return Portal(address=ip, port=port)
    except ValueError:
        return None
