# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the bring-up needs from outside: roots, clock, entropy, and the two kinds of socket behind protocols.

Tests pass fakes; a boot takes the defaults. Nothing here opens anything before it is called.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.network.facts import NetworkFacts
from iscsiboot.network.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class RtnlPort(Protocol):
    """rtnetlink as the bring-up sees it: wake-ups, pictures, changes."""

    def fileno(self) -> int:
        """Readable when links, addresses or routes changed."""

    def drain(self) -> None:
        """Throw pending notifications away; the next :meth:`snapshot` holds what they announced."""

    def snapshot(self) -> NetworkFacts:
        """Everything as it is now. OSError when the kernel refuses."""

    def execute(self, step: Step) -> bool:
        """Carry one step out; False when it turned out to be done already. OSError when the kernel refuses."""

    def close(self) -> None:
        """Close the sockets."""


class DhcpPort(Protocol):
    """A socket that sends and receives DHCP payloads on one device that has no address yet."""

    def fileno(self) -> int:
        """Readable when a payload may be waiting."""

    def send(self, payload: bytes) -> None:
        """Broadcast one client message. OSError when the device is down."""

    def receive(self) -> bytes | None:
        """The payload of one datagram from a server, None when the next frame was none or nothing waits."""

    def close(self) -> None:
        """Close the socket."""


class UdevPort(Protocol):
    """udev as the bring-up sees it."""

    def fileno(self) -> int:
        """Readable when udev has handled some device."""

    def drain(self) -> None:
        """Throw pending messages away."""

    def done_with(self, index: int) -> bool:
        """Whether the device may be set up: udev will not rename it any more."""

    def close(self) -> None:
        """Stop listening."""


def _open_rtnl(sysfs: Path) -> RtnlPort:
    """The kernel's rtnetlink; pyroute2 is imported here, late, because it costs."""
    from iscsiboot.network.rtnl import Rtnl

    return Rtnl(sysfs=sysfs)


def _open_dhcp(index: int) -> DhcpPort:
    """A packet socket on the device ``index``."""
    from iscsiboot.network.dhcp_socket import DhcpSocket

    return DhcpSocket(index)


def _open_udev(run: Path) -> UdevPort:
    """Listens to the udevd of this machine."""
    from iscsiboot.network.udev import Udev

    return Udev(run)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkEnvironment:
    """Everything the bring-up touches."""

    sysfs: Path = Path("/sys")
    run: Path = Path("/run")
    """``network.json`` goes to ``<run>/iscsiboot/``."""
    etc: Path = Path("/etc")
    """``resolv.conf`` is here."""
    now: Callable[[], float] = time.monotonic
    """The clock deadlines are on, seconds."""
    entropy: Callable[[int], bytes] = os.urandom
    """That many random bytes: transaction ids and jitter, nothing secret."""
    open_rtnl: Callable[[Path], RtnlPort] = _open_rtnl
    """Called once, with ``sysfs``."""
    open_dhcp: Callable[[int], DhcpPort] = _open_dhcp
    """Called with the index of a device that has carrier."""
    open_udev: Callable[[Path], UdevPort] = _open_udev
    """Called once, with ``run``."""
    open_selector: Callable[[], selectors.BaseSelector] = selectors.DefaultSelector
    udev_seconds: float = 10.0
    """How long udev may take to handle a NIC that is there; without its word the NIC is then used as it is."""
    straggler_seconds: float = 20.0
    """How long the other NICs may still take once one that reaches a target is up: a cut second path does not hold
    the boot until the whole deadline has passed."""
