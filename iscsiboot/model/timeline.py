# SPDX-License-Identifier: LGPL-2.1-or-later
"""Marks of a boot: what happened when, written by the boot path, drawn by ``iscsiboot timeline``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Mark(Enum):
    """The steps a boot is told in, in their usual order. The value is the word in files and tables."""

    KERNEL = "kernel"
    STARTED = "started"
    """iscsistart's process began."""
    IMPORTED = "imported"
    """Its modules are loaded and it begins to work."""
    TABLE_READ = "table read"
    LINK = "link"
    ADDRESS = "address"
    CONNECTED = "connected"
    LOGIN = "login"
    DISK = "disk"
    KEEPER = "keeper"
    """The process that guards the sessions stands alone; the root may be mounted before."""
    ROOT_MOUNTED = "root mounted"
    MULTI_USER = "multi-user"


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineEntry:
    """One mark."""

    mark: Mark
    at: float
    """Seconds since the kernel started (CLOCK_BOOTTIME)."""
    detail: str = ""
    """What it happened to: a NIC, a portal, a device. Never a secret."""
