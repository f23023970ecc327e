# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a connection waits for what, in seconds; 0 switches a timer off. All but one are the full feature phase's.

SCSI commands have no timer here: how long a disk may take is known to whoever sent the command, and what to do then
(abort the task, reset the LUN) is a decision of theirs too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Timers:
    """open-iscsi's defaults. ValueError for a negative value or one above an hour."""

    auth_timeout: float = 0.0
    """From the connection to the end of the login's security stage, beside the limit of the whole login
    (``discovery.sendtargets.timeo.auth_timeout``). Whoever drives the connection watches it, as all of a login."""
    ping_interval: float = 5.0
    """Silence of the target after which it is pinged (``noop_out_interval``). Normal sessions alone: a discovery
    session takes no ping (RFC 7143 section 4.3)."""
    ping_timeout: float = 5.0
    """Silence after a ping that ends the session (``noop_out_timeout``). Any PDU breaks the silence: a target that
    sends data is alive, however late its NOP-In is."""
    text_timeout: float = 30.0
    """Wait for each part of an answer to Text Requests (``discovery.sendtargets.iscsi``'s ``active_timeout``)."""
    logout_timeout: float = 15.0
    abort_timeout: float = 15.0
    """Wait for the answer to ABORT TASK and the other functions that reset nothing."""
    reset_timeout: float = 30.0
    """The same for resets of a LUN or a target."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 3600:
                raise ValueError(f"{field.name} {value} is outside 0 to 3600 seconds")
