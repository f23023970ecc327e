# SPDX-License-Identifier: LGPL-2.1-or-later
"""The counters of a connection as the kernel packs them (``struct iscsi_stats``, include/scsi/iscsi_if.h).

Two numbers of 64 bits, 19 of 32, then how many counters of the driver's own follow: each a text of 64 bytes and a
number of 64 bits. ``iscsi_tcp`` has three of those.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

COUNTERS = (
    "txdata_octets",
    "rxdata_octets",
    "noptx_pdus",
    "scsicmd_pdus",
    "tmfcmd_pdus",
    "login_pdus",
    "text_pdus",
    "dataout_pdus",
    "logout_pdus",
    "snack_pdus",
    "noprx_pdus",
    "scsirsp_pdus",
    "tmfrsp_pdus",
    "textrsp_pdus",
    "datain_pdus",
    "logoutrsp_pdus",
    "r2t_pdus",
    "async_pdus",
    "rjt_pdus",
    "digest_err",
    "timeout_err",
)
"""The kernel's names, in its order."""

CUSTOM_MAX = 32
"""ISCSI_STATS_CUSTOM_MAX."""

_FIXED = struct.Struct("=QQ19II")
_CUSTOM = struct.Struct("=64sQ")


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionStatistics:
    """The counters of one connection since it was made."""

    counters: tuple[tuple[str, int], ...]
    """Every name of :data:`COUNTERS` with its value, in that order."""
    custom: tuple[tuple[str, int], ...]
    """The driver's own, with its descriptions."""


def decode_statistics(data: bytes) -> ConnectionStatistics:
    """The structure in ``data``; ValueError when it is shorter than it says."""
    if len(data) < _FIXED.size:
        raise ValueError(f"struct iscsi_stats has {_FIXED.size} bytes, these are {len(data)}")
    *numbers, count = _FIXED.unpack_from(data)
    if count > CUSTOM_MAX or len(data) < _FIXED.size + count * _CUSTOM.size:
        raise ValueError(f"{count} further counters do not fit {len(data)} bytes")
    custom = []
    for index in range(count):
        text, number = _CUSTOM.unpack_from(data, _FIXED.size + index * _CUSTOM.size)
        custom.append((text.partition(b"\0")[0].decode("utf-8", "backslashreplace"), number))
    return ConnectionStatistics(counters=tuple(zip(COUNTERS, numbers, strict=True)), custom=tuple(custom))
