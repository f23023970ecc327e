# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the lines of a guard are made of: the kernel's reasons for a break, and lengths of time, for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iscsiboot.keeper.situation import SESSION, Asked, TargetWish
from iscsiboot.netlink.uapi import IscsiErr

_DIGESTS = "cables, NICs and checksum offloads on the way may damage data"
_PEER = "the target broke a rule of the protocol; its maker should know"

_BREAKS: Mapping[IscsiErr, tuple[str, str]] = {
    IscsiErr.ISCSI_ERR_DATASN: ("data came out of order", _PEER),
    IscsiErr.ISCSI_ERR_DATA_OFFSET: ("data came for a wrong place", _PEER),
    IscsiErr.ISCSI_ERR_MAX_CMDSN: ("the target's MaxCmdSN is wrong", _PEER),
    IscsiErr.ISCSI_ERR_EXP_CMDSN: ("the target's ExpCmdSN is wrong", _PEER),
    IscsiErr.ISCSI_ERR_BAD_OPCODE: ("a PDU has an opcode nobody knows", _PEER),
    IscsiErr.ISCSI_ERR_DATALEN: ("a PDU is longer than was agreed", _PEER),
    IscsiErr.ISCSI_ERR_AHSLEN: ("a PDU's additional header is too long", _PEER),
    IscsiErr.ISCSI_ERR_PROTO: ("a PDU breaks the protocol", _PEER),
    IscsiErr.ISCSI_ERR_LUN: ("a PDU names a wrong unit", _PEER),
    IscsiErr.ISCSI_ERR_BAD_ITT: ("an answer belongs to no command", _PEER),
    IscsiErr.ISCSI_ERR_CONN_FAILED: ("the connection failed", ""),
    IscsiErr.ISCSI_ERR_R2TSN: ("requests for data came out of order", _PEER),
    IscsiErr.ISCSI_ERR_SESSION_FAILED: ("the session failed", ""),
    IscsiErr.ISCSI_ERR_HDR_DGST: ("a header arrived damaged", _DIGESTS),
    IscsiErr.ISCSI_ERR_DATA_DGST: ("data arrived damaged", _DIGESTS),
    IscsiErr.ISCSI_ERR_PARAM_NOT_FOUND: ("the kernel misses a parameter", ""),
    IscsiErr.ISCSI_ERR_NO_SCSI_CMD: ("data came for a command that is over", _PEER),
    IscsiErr.ISCSI_ERR_INVALID_HOST: ("its SCSI host is going away", ""),
    IscsiErr.ISCSI_ERR_XMIT_FAILED: ("nothing could be sent any more", ""),
    IscsiErr.ISCSI_ERR_TCP_CONN_CLOSE: ("the target closed the connection", ""),
    IscsiErr.ISCSI_ERR_SCSI_EH_SESSION_RST: (
        "commands were not answered in time, and the kernel gave the connection up",
        "look at the load and the disks of the target",
    ),
    IscsiErr.ISCSI_ERR_NOP_TIMEDOUT: ("the target does not answer pings", "check the network and the target"),
}


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a connection is made anew, as the lines about it are made of it."""

    head: str = SESSION
    """How the line of the break begins: open-iscsi's words where there are any, for who looks for those."""
    words: str = ""
    """What the head does not say."""
    hint: str = ""
    """The next step, where one is known."""


def break_cause(error: int) -> Cause:
    """Why a connection broke, with the kernel's number to look it up by."""
    if not error:
        return Cause(words="the kernel has no connection any more")
    cause, hint, name = "the kernel gave it up", "", ""
    try:
        known = IscsiErr(error)
    except ValueError:
        pass
    else:
        cause, hint = _BREAKS.get(known, (cause, hint))
        name = f"{known.name}: "
    # Its last number is open-iscsi's for a connection that was logged in.
    head = f"Kernel reported iSCSI connection {{sid}}:0 error ({error} - {name}{cause}) state (3) {{place}}"
    return Cause(head, hint=hint)


def wish_cause(asked: Asked) -> Cause:
    """What an Async Message of the target asks for."""
    again = f"reconnect min {asked.wait:g} max {asked.within:g}"
    match asked.wish:
        case TargetWish.LOGOUT:
            return Cause(words=f"Target requests logout within {asked.within:g} seconds")
        case TargetWish.DROP_CONNECTION:
            return Cause(words=f"Target dropping connection 0, {again}")
        case TargetWish.DROP_ALL:
            return Cause(words=f"Target dropping all connections, {again}")
        case TargetWish.RENEGOTIATE:
            return Cause(words="the target asks for a new negotiation")


def duration(seconds: float) -> str:
    """A length of time with the two digits that matter: ``0.3 s``, ``45 s``, ``12 min``, ``3 h``, ``2 days``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    for size, unit, limit in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172800)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
