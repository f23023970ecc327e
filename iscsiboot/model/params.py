# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a session offers in negotiation and which timers the kernel gets: open-iscsi's defaults, with their ranges.

Field names are RFC 7143's where there is one, else open-iscsi's record key in snake case.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SEGMENT_MIN = 512
SEGMENT_MAX = (1 << 24) - 1
_INT = (1 << 31) - 1
SEGMENTS = ("max_burst_length", "first_burst_length", "max_recv_data_segment_length")
"""Fields that are :data:`SEGMENT_MIN` to :data:`SEGMENT_MAX` bytes."""
RANGES = {
    "default_time2wait": (0, 3600),
    "default_time2retain": (0, 3600),
    "max_outstanding_r2t": (1, 65535),
    "initial_cmdsn": (0, (1 << 32) - 1),
    "queue_depth": (1, 1024),
    "replacement_timeout": (-_INT - 1, _INT),
    "abort_timeout": (0, _INT),
    "lu_reset_timeout": (0, _INT),
    "tgt_reset_timeout": (0, _INT),
    "login_timeout": (1, 3600),
    "tcp_window_size": (0, _INT),
}
"""Field: smallest and largest legal value of the plain numbers."""


class Digest(Enum):
    """What is offered for HeaderDigest or DataDigest; the value is the text on the wire, best first."""

    NONE = "None"
    CRC32C = "CRC32C"
    PREFER_CRC32C = "CRC32C,None"
    PREFER_NONE = "None,CRC32C"


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionParams:
    """Everything about a session that is neither a name, an address nor a secret. Times in seconds, sizes in bytes."""

    header_digest: Digest = Digest.NONE
    data_digest: Digest = Digest.NONE
    default_time2wait: int = 2
    default_time2retain: int = 0
    initial_r2t: bool = False
    immediate_data: bool = True
    max_burst_length: int = 16776192
    first_burst_length: int = 262144
    max_outstanding_r2t: int = 1
    max_recv_data_segment_length: int = 262144
    max_xmit_data_segment_length: int = 0
    """0 takes what the target declares."""
    initial_cmdsn: int = 0
    cmds_max: int = 128
    queue_depth: int = 32
    replacement_timeout: int = 120
    """0 fails queued I/O at once, a negative value queues for ever."""
    fast_abort: bool = True
    abort_timeout: int = 15
    lu_reset_timeout: int = 30
    tgt_reset_timeout: int = 30
    noop_out_interval: int = 0
    """iscsistart forces 0 (no pings): nobody listens for the kernel's report until a daemon has the session."""
    noop_out_timeout: int = 0
    login_timeout: int = 15
    """One attempt, from connect to full feature phase."""
    tcp_window_size: int = 524288

    def __post_init__(self) -> None:
        for name in SEGMENTS:
            value = getattr(self, name)
            if not SEGMENT_MIN <= value <= SEGMENT_MAX:
                raise ValueError(f"{name} {value} is outside {SEGMENT_MIN} to {SEGMENT_MAX}")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} {value} is outside {low} to {high}")
        if self.first_burst_length > self.max_burst_length:
            raise ValueError("first_burst_length is larger than max_burst_length (RFC 7143 section 13.14)")
        if self.max_xmit_data_segment_length and not SEGMENT_MIN <= self.max_xmit_data_segment_length <= SEGMENT_MAX:
            raise ValueError(f"max_xmit_data_segment_length is neither 0 nor {SEGMENT_MIN} to {SEGMENT_MAX}")
        # libiscsi_tcp and the kernel take powers of two only and answer EINVAL or round silently otherwise.
        if not 2 <= self.cmds_max <= 2048 or self.cmds_max & (self.cmds_max - 1):
            raise ValueError(f"cmds_max {self.cmds_max} is not a power of two from 2 to 2048")
