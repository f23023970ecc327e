# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the real targets of the tests have in common: how one is described, and how its process is waited for.

A target is described once (:class:`TargetSpec`); tgt, istgt and LIO are each set up from that.
"""

from __future__ import annotations

import os
import selectors
import socket
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from iscsiboot.model.credentials import Chap, Secret
from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.errors import HarnessError

LOOPBACK = "127.0.0.1"
START_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSpec:
    """One target: its name, what it asks for, what it proves, and the session keys it is set to."""

    name: str
    disk: Path | None = None
    """Exported writable: give it a copy. None where the peer brings memory of its own, or has no LUN at all."""
    luns: tuple[int, ...] | None = None
    """The LUNs ``disk`` appears as; None is the one LUN this kind of target gives a disk."""
    chap: Chap | None = None
    """What an initiator must prove."""
    mutual: Chap | None = None
    """What the target proves in return."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys of RFC 7143 chapter 13 and the target's own values for them."""

    def __post_init__(self) -> None:
        if self.mutual is not None and self.chap is None:
            raise ValueError("a target proves itself only to an initiator that does")


class Peer(Protocol):
    """A real target that runs: where it listens and which LUN its disks are."""

    @property
    def address(self) -> str:
        """The address to connect to."""

    @property
    def port(self) -> int:
        """The port to connect to."""

    @property
    def lun(self) -> int:
        """The LUN of each target's disk."""


def account(pair: tuple[str, str]) -> Chap:
    """A user name and a test's secret as they are written down in a test."""
    return Chap(name=pair[0], secret=Secret(pair[1].encode()))


def free_port(address: str = LOOPBACK) -> int:
    """A TCP port nobody listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def runtime_directory(stack: ExitStack) -> Path:
    """A directory that ends with ``stack``, with a short path: a Unix socket's may have 107 bytes."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peer-", dir="/tmp")))


def await_word(word: int, pid: int, *, reason: str) -> bool:
    """Wait until the descriptor ``word`` is readable (True) or process ``pid``, a child of ours, has ended (False).

    :class:`HarnessError` when neither happens in :data:`START_SECONDS`.
    """
    deadline = Deadline.after(START_SECONDS, now=time.monotonic(), reason=reason)
    ended = os.pidfd_open(pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(word, selectors.EVENT_READ)
            selector.register(ended, selectors.EVENT_READ)
            ready = {key.fd for key, _ in selector.select(deadline.remaining(time.monotonic()))}
    finally:
        os.close(ended)
    if not ready:
        raise HarnessError(f"waited {START_SECONDS:.0f} s for {deadline.reason}")
    return word in ready
