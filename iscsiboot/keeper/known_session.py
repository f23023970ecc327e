# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known of a session that is there: from who guarded it, from a state file, from its record, from sysfs.

Whoever knows it best wins as a whole; two halves of two sources may fit no login that ever worked. Two things are
always the kernel's: under which names the session runs (a login under another one would be another session to the
target, and the kernel's would be left without a connection), and what it was asked for, which is how records and
commands find it.

A source may speak of another session with the same number (the kernel counts from 1 again when its module was loaded
anew, a record was changed since): what does not fit the session is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from iscsiboot.keeper.values import Known, RecordName, Source
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.names import InvalidName, check_iscsi_name, check_target_name
from iscsiboot.model.params import RANGES, SEGMENT_MAX, SEGMENT_MIN, Digest, SessionParams
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.session.login import UNRESOLVED
from iscsiboot.session.values import AttachRequest, Environment
from iscsiboot.sysfs.netdevs import netdev_of
from iscsiboot.sysfs.sessions import ConnectionView, SessionView, read_host, read_session_secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ASSUMED = ("the login timeout", "whether new units are to be looked for")
"""What sysfs does not tell of any session."""
_DEFAULTS = SessionParams()


def told_of(view: SessionView, candidates: Sequence[tuple[str, Known | None]]) -> tuple[Known | None, tuple[str, ...]]:
    """The first of ``candidates`` (who says so, and what) that is about this session, and in words which are not."""
    notes: list[str] = []
    for who, known in candidates:
        if known is None or not view.connections:
            continue
        difference = _difference(view, known.request)
        if not difference:
            return (known if known.tpgt is not None else replace(known, tpgt=_tpgt(view))), tuple(notes)
        notes.append(f"what {who} says is about another session ({difference} differs) and is not used")
    return None, tuple(notes)


def record_name(view: SessionView) -> RecordName | None:
    """What the record of a session is found by (``tpgt`` -1: the kernel does not tell); None when it does not say."""
    if not view.connections:
        return None
    connection = view.connections[0]
    address, port = _asked_for(connection)
    if view.target_name is None or address is None or port is None:
        return None
    return RecordName(
        target=view.target_name,
        tpgt=-1 if view.tpgt is None else view.tpgt,
        address=address,
        port=port,
        iface=view.iface_name or "default",
    )


def from_sysfs(view: SessionView, environment: Environment) -> Known | None:
    """What the kernel shows of a session: names, portal, secrets, negotiated values, timers; None without a portal.

    The portal is :data:`UNRESOLVED` when all that is known of it is a host name (``request.stored_address``).
    Negotiated values are offered again: each is one both sides have taken before. A digest in use is offered in front
    of none, as open-iscsi does it.
    """
    try:
        initiator = check_iscsi_name(view.initiator_name or "")
        target = check_target_name(view.target_name or "")
    except InvalidName:
        return None
    if not view.connections:
        return None
    connection = view.connections[0]
    address, port = _asked_for(connection)
    if address is None or port is None or not 1 <= port <= 0xFFFF:
        return None
    credentials, unknown = _credentials(view, environment)
    host = read_host(environment.sysfs, view.host)
    netdev = None if host is None or host.netdev in (None, "default") else host.netdev
    hwaddress = "" if host is None or host.hwaddress is None else host.hwaddress
    # An interface may be called something else now than in the initramfs; its hardware address stays.
    by_address = netdev_of(hwaddress, str(environment.sysfs)) if hwaddress and netdev else None
    request = AttachRequest(
        initiator_name=initiator,
        target_name=target,
        portal=_portal(address, port, connection),
        lun=None,
        params=_params(view, connection),
        credentials=credentials,
        iface_name=view.iface_name or "default",
        netdev=by_address or netdev,
        hwaddress=hwaddress,
        stored_address=address,
        boot_root=view.boot_root or "",
        boot_nic=view.boot_nic or "",
        boot_target=view.boot_target or "",
    )
    return Known(
        request=request,
        source=Source.SYSFS,
        unknown=(*ASSUMED, *unknown),
        record=record_name(view),
        tpgt=_tpgt(view),
        time2wait=float(request.params.default_time2wait),
    )


def unresolved_name(known: Known) -> NamedPortal | None:
    """The host name that has to be resolved before a connection can be made; None when there is an address."""
    request = known.request
    if request.portal.address != UNRESOLVED:
        return None
    return NamedPortal(host=request.stored_address, port=request.portal.port, tpgt=request.portal.tpgt)


def _tpgt(view: SessionView) -> int | None:
    """0 is what the kernel shows before a login has set it, and no target is known to use it."""
    return view.tpgt if view.tpgt and 0 < view.tpgt <= 0xFFFF else None


def _asked_for(connection: ConnectionView) -> tuple[str | None, int | None]:
    """The portal of the order; where a driver shows only the connected one, that."""
    return connection.persistent_address or connection.address, connection.persistent_port or connection.port


def _portal(address: str, port: int, connection: ConnectionView) -> Portal:
    try:
        return Portal(address=parse_ip(address), port=port)
    except ValueError:
        pass
    try:
        # It is a host name. Where it led is better than to ask again, and can be asked for while the network is down.
        return Portal(address=parse_ip(connection.address or ""), port=port)
    except ValueError:
        return Portal(address=UNRESOLVED, port=port)


def _difference(view: SessionView, request: AttachRequest) -> str:
    """In what a description does not fit a session; empty when it does. What the kernel does not tell fits."""
    connection = view.connections[0]
    address, port = _asked_for(connection)
    spelled = request.stored_address or str(request.portal.address)
    pairs: tuple[tuple[str, object, object], ...] = (
        ("the target", view.target_name, request.target_name),
        ("the initiator", view.initiator_name, request.initiator_name),
        ("the interface", view.iface_name, request.iface_name),
        ("the port", port, request.portal.port),
        ("the address", None if address is None else _comparable(address), _comparable(spelled)),
    )
    return next((what for what, shown, told in pairs if shown is not None and shown != told), "")


def _comparable(address: str) -> str:
    try:
        return str(parse_ip(address))
    except ValueError:
        return address


def of_record(record: Known, kernel: Known) -> Known:
    """A record under the names the session runs under; without CHAP in the record, with the session's own secrets."""
    theirs, ours = kernel.request, record.request
    resolved = ours.portal.address != UNRESOLVED
    request = replace(
        ours,
        initiator_name=theirs.initiator_name,
        target_name=theirs.target_name,
        iface_name=theirs.iface_name,
        stored_address=theirs.stored_address,
        portal=ours.portal if resolved else theirs.portal,
        credentials=ours.credentials or theirs.credentials,
        boot_root=theirs.boot_root,
        boot_nic=theirs.boot_nic,
        boot_target=theirs.boot_target,
    )
    return replace(
        record,
        request=request,
        source=Source.RECORD,
        record=record.record or kernel.record,
        tpgt=kernel.tpgt if kernel.tpgt is not None else record.tpgt,
    )


def _credentials(view: SessionView, environment: Environment) -> tuple[Credentials | None, tuple[str, ...]]:
    """CHAP as the kernel keeps it for whoever recovers the session, and what of it is not to be had."""
    own, own_missing = _chap(view, environment, view.username, incoming=False)
    target, target_missing = _chap(view, environment, view.username_in, incoming=True)
    missing = (*own_missing, *target_missing)
    if own is None:
        return None, missing
    assumed = (*missing, "the CHAP algorithms")
    try:
        return Credentials(outgoing=own, incoming=target), assumed
    except ValueError:
        # One secret for both directions: an old daemon let it pass. The session is worth more than the demand.
        return Credentials(outgoing=own), (*assumed, "the target's CHAP secret (it is our own, which proves nothing)")


def _chap(
    view: SessionView, environment: Environment, name: str | None, *, incoming: bool
) -> tuple[Chap | None, tuple[str, ...]]:
    whose = "the CHAP secret of the target" if incoming else "our CHAP secret"
    secret: Secret | None
    try:
        secret = read_session_secret(environment.sysfs, view.sid, incoming=incoming)
        if secret is not None and name is not None:
            return Chap(name=name, secret=secret), ()
    except ValueError:
        return None, (whose,)  # longer than CHAP has it, or a name that cannot be sent
    return None, (whose,) if name is not None or secret is not None else ()


def _params(view: SessionView, connection: ConnectionView) -> SessionParams:
    """What the kernel tells, each value only where it is one; the default for the others."""
    told: dict[str, Any] = {
        "initial_r2t": view.initial_r2t,
        "immediate_data": view.immediate_data,
        "max_burst_length": _size(view.max_burst_len),
        "first_burst_length": _size(view.first_burst_len),
        "max_outstanding_r2t": view.max_outstanding_r2t,
        "max_recv_data_segment_length": _size(connection.max_recv_dlength),
        "replacement_timeout": view.recovery_tmo,
        "abort_timeout": view.abort_tmo,
        "lu_reset_timeout": view.lu_reset_tmo,
        "tgt_reset_timeout": view.tgt_reset_tmo,
        "noop_out_interval": connection.recv_tmo,
        "noop_out_timeout": connection.ping_tmo,
        "header_digest": _digest(connection.header_digest),
        "data_digest": _digest(connection.data_digest),
    }
    values = {name: value for name, value in told.items() if value is not None and _in_range(name, value)}
    first = values.get("first_burst_length", _DEFAULTS.first_burst_length)
    longest = values.get("max_burst_length", _DEFAULTS.max_burst_length)
    return SessionParams(**{**values, "first_burst_length": min(first, longest)})


def _in_range(name: str, value: object) -> bool:
    low, high = RANGES.get(name, (None, None))
    return low is None or high is None or (isinstance(value, int) and low <= value <= high)


def _size(value: int | None) -> int | None:
    return value if value is not None and SEGMENT_MIN <= value <= SEGMENT_MAX else None


def _digest(used: bool | None) -> Digest | None:
    return None if used is None else Digest.PREFER_CRC32C if used else Digest.NONE
