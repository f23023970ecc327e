# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host names as addresses. The resolver's own time-outs bound every call."""

from __future__ import annotations

import socket

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip

ADDRESSES_MAX = 8


def resolve(there: NamedPortal) -> Portal:
    """The first address of a host name a target redirected to."""
    return resolve_all(
        there,
        told=f"the target is at {there} now, and that name has no address",
        hint="check DNS, or let the target redirect to an address",
    )[0]


def resolve_all(
    named: NamedPortal,
    *,
    told: str = "the name has no address",
    hint: str = "check the name and DNS, or give an address",
) -> list[Portal]:
    """The addresses of a host name in the order of preference, at least one and at most :data:`ADDRESSES_MAX`.

    Exit code 4, as iscsiadm for a name that does not resolve; the error says ``told`` and the resolver's reason.
    """
    try:
        found = socket.getaddrinfo(named.host, named.port, type=socket.SOCK_STREAM)
        portals = [Portal(address=parse_ip(str(item[4][0])), port=named.port, tpgt=named.tpgt) for item in found]
        if not portals:
            raise ValueError("the resolver's answer is empty")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise IscsiBootError(
            f"{told}: {reason}",
            stage=Stage.CONNECT,
            subject=str(named),
            hint=hint,
            exit_code=ExitCode.TRANS,
            retryable=True,
        ) from error
    return list(dict.fromkeys(portals))[:ADDRESSES_MAX]
