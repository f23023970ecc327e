# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of :func:`iscsiboot.session.attach.attach`, what it answers, and what it needs of the machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from iscsiboot.model.params import SessionParams
from iscsiboot.session.resolve import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from iscsiboot.initiator.chap import ChapAlgorithm
    from iscsiboot.model.credentials import Credentials
    from iscsiboot.model.deadline import Deadline
    from iscsiboot.model.lun import Lun
    from iscsiboot.model.portal import NamedPortal, Portal
    from iscsiboot.netlink.socket import IscsiNetlink
else:
    Protocol = object


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachRequest:
    """One path to one target."""

    initiator_name: str
    target_name: str
    portal: Portal
    lun: Lun | None
    """The unit to boot from; None takes every unit the target reports."""
    params: SessionParams = field(default_factory=SessionParams)
    credentials: Credentials | None = None
    chap_algorithms: tuple[ChapAlgorithm, ...] | None = None
    """What to offer, in this order; None for the engine's own choice."""
    initiator_alias: str = ""
    iface_name: str = "default"
    """Name of the interface record, kept in the kernel: it tells two paths to one portal apart."""
    netdev: str | None = None
    """Bind the connection to this network interface."""
    hwaddress: str = ""
    """MAC address of that interface when the record binds by it: kept in the kernel for who looks at sysfs."""
    stored_address: str = ""
    """The portal's address as the record spells it (a host name, perhaps): sessions and records are matched by this
    text, so the kernel keeps it letter by letter. Empty: the number of ``portal``."""
    boot_root: str = ""
    """Name of the firmware object this boot came from (``iscsi_boot0``), its NIC and target: kept in the kernel."""
    boot_nic: str = ""
    boot_target: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockDevice:
    """A disk of the session."""

    name: str
    """``sda``."""
    lun: Lun
    ready: bool
    """udev has handled it, so its links in /dev/disk exist."""

    @property
    def path(self) -> str:
        """``/dev/sda``."""
        return f"/dev/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attached:
    """A session that works."""

    sid: int
    host: int
    portal: Portal
    """Where the connection leads: after redirects, perhaps not the portal asked for."""
    tpgt: int | None
    reused: bool
    """It was there before; no login was made."""
    devices: tuple[BlockDevice, ...]
    algorithm: ChapAlgorithm | None = None
    """Of CHAP, where the target refused the request's list and took this one: to be offered alone from now on."""


class DiskMonitor(Protocol):
    """Tells when udev has handled a block device. Open it before the scan, or its events are missed."""

    def wait(self, deadline: Deadline) -> bool:
        """Something about a disk has changed; False when the deadline passes first."""

    def settled(self, name: str) -> bool:
        """Whether udev has handled the block device ``name``."""

    def close(self) -> None:
        """Stop listening."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """The machine: everything that would need a kernel, a clock or chance."""

    open_netlink: Callable[[], IscsiNetlink]
    open_monitor: Callable[[], DiskMonitor]
    resolve: Callable[[NamedPortal], Portal] = resolve
    sysfs: Path = Path("/sys")
    proc: Path = Path("/proc")
    now: Callable[[], float] = time.monotonic
    entropy: Callable[[int], bytes] = os.urandom
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set by the caller to end waits between attempts at once."""
    pause: Callable[[threading.Event, float], bool] = threading.Event.wait
    """Wait for ``cancelled`` at most so many seconds; True when it is set."""
