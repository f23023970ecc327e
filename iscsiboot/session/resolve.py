# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host name a target redirected to, as an address."""

from __future__ import annotations

import socket

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip


def resolve(there: NamedPortal) -> Portal:
    """The first address of a host name a target redirected to; the resolver's own time-outs bound it."""
    try:
        found = socket.getaddrinfo(there.host, there.port, type=socket.SOCK_STREAM)
        return Portal(address=parse_ip(str(found[0][4][0])), port=there.port, tpgt=there.tpgt)
    except (OSError, ValueError, IndexError) as error:
        raise IscsiBootError(
            f"the target is at {there} now, and that name has no address: {error}",
            stage=Stage.CONNECT,
            subject=str(there),
            hint="check DNS, or let the target redirect to an address",
            exit_code=ExitCode.TRANS,
            retryable=True,
        ) from error
