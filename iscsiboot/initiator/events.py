# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a login ends well: in full feature phase, or with the address to go to instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

from iscsiboot.errors import quoted
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.negotiation import Negotiated
from iscsiboot.model.portal import ISCSI_PORT, NamedPortal, Portal, parse_ip


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginSucceeded:
    """The connection is in full feature phase."""

    negotiated: Negotiated
    tsih: int
    """The target's handle of the session."""
    tpgt: int | None
    """The portal group the target says it is, else the one the caller named."""
    target_alias: str | None
    """Printable characters only."""
    statsn: int
    """Of the last Login Response; the next response carries one more."""
    exp_cmdsn: int
    max_cmdsn: int
    algorithm: ChapAlgorithm | None = None
    """How we proved ourselves; None when the target wanted no authentication."""
    mutual: bool = False
    """Whether the target proved itself too."""
    remarks: tuple[str, ...] = ()
    """What the target did differently from the RFC or from what one would expect, without harm: lines for a log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginRedirected:
    """The target is elsewhere; nothing of this connection is of use any more."""

    portal: Portal | NamedPortal
    permanent: bool


# A zone (fe80::1%eth0) names an interface of this host, which no target can know, and ipaddress lets any character
# stand in it: only the digits of an address come through here.
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\]")
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.(?!-)[A-Za-z0-9-]{1,63})*\.?")
_ADDRESS = re.compile(r"(\[[^\[\]]*\]|[^:,\[\]]+)(?::([0-9]{1,5}))?(?:,([0-9]{1,5}))?")


def parse_target_address(value: str) -> Portal | NamedPortal:
    """``host[:port][,tag]`` with an IPv4 address, an IPv6 address in brackets or a host name (section 13.8)."""
    match = _ADDRESS.fullmatch(value) if len(value) <= 512 else None
    if match is None:
        raise ProtocolViolation(f"TargetAddress={quoted(value)} has not the form host[:port][,tag]")
    host, port_text, tag_text = match.groups()
    port = ISCSI_PORT if port_text is None else int(port_text)
    tag = None if tag_text is None else int(tag_text)
    if not 1 <= port <= 65535 or (tag is not None and tag > 65535):
        raise ProtocolViolation(f"TargetAddress={quoted(value)} has a port or tag above 65535, or port 0")
    bracketed = _IPV6.fullmatch(host)
    # A last label of digits is no host name (RFC 1123): it has to be a whole IPv4 address.
    numeric = host.rstrip(".").rpartition(".")[2].isdigit()
    if bracketed is None and not numeric:
        if not _HOST.fullmatch(host) or len(host) > 253:
            raise ProtocolViolation(f"TargetAddress={quoted(value)} names no host")
        return NamedPortal(host=host, port=port, tpgt=tag)
    try:
        address = parse_ip(bracketed[1] if bracketed else host)
    except ValueError:
        raise ProtocolViolation(f"TargetAddress={quoted(value)} holds no address") from None
    return Portal(address=address, port=port, tpgt=tag)
