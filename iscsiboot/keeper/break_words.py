# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the lines of a guard are made of: the kernel's reasons for a break, and lengths of time, for people."""

from __future__ import annotations

from collections.abc import Mapping

from iscsiboot.keeper.situation import TargetWish
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

_WISHES: Mapping[TargetWish, str] = {
    TargetWish.LOGOUT: "the target asks for a logout",
    TargetWish.DROP_CONNECTION: "the target drops the connection",
    TargetWish.DROP_ALL: "the target drops all connections",
    TargetWish.RENEGOTIATE: "the target asks for a new negotiation",
}


def break_words(error: int) -> str:
    """Why a connection broke, with the kernel's number to look it up by, and what to do where that is known."""
    if not error:
        return "the kernel has no connection any more"
    try:
        known = IscsiErr(error)
    except ValueError:
        return f"the kernel reports error {error}"
    cause, hint = _BREAKS.get(known, ("the kernel gave it up", ""))
    name = known.name.removeprefix("ISCSI_ERR_")
    return f"{cause} ({error} {name})" + (f"; next: {hint}" if hint else "")


def wish_words(wish: TargetWish) -> str:
    """What an Async Message of the target asks for."""
    return _WISHES[wish]


def duration(seconds: float) -> str:
    """A length of time with the two digits that matter: ``0.3 s``, ``45 s``, ``12 min``, ``3 h``, ``2 days``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    for size, unit, limit in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172800)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
