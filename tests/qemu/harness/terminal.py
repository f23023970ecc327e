# SPDX-License-Identifier: LGPL-2.1-or-later
"""A person at the serial console of a running machine: keys in, screen out, Ctrl-A X to leave."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import time
import tty
from collections.abc import Iterator

from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.machine import ConsoleBytes, Ended, Machine

ESCAPE = 0x01
"""Ctrl-A, as in QEMU's own multiplexer. Typed twice it is sent once."""
_DAY = 86400.0


class KeyFilter:
    """Finds the leave keys in what is typed; the rest goes to the machine. Keys may be split between calls."""

    def __init__(self) -> None:
        self._escaped = False
        self.left = False

    def feed(self, typed: bytes) -> bytes:
        """What to send; :attr:`left` is set once Ctrl-A X was typed, and nothing behind it is sent."""
        out = bytearray()
        for key in typed:
            if self._escaped:
                self._escaped = False
                if key in b"xX":
                    self.left = True
                    break
                out += bytes((key,)) if key == ESCAPE else bytes((ESCAPE, key))
            elif key == ESCAPE:
                self._escaped = True
            else:
                out.append(key)
        return bytes(out)


@contextlib.contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """The terminal hands over every key at once, Ctrl-C included; restored afterwards. A pipe is left as it is."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def interact(machine: Machine, *, keyboard: int, screen: int) -> None:
    """Join keyboard and screen (descriptors) to the console until the person leaves or the machine ends."""
    keys = KeyFilter()
    machine.watch(keyboard)
    deadline = Deadline.after(_DAY, now=time.monotonic(), reason="the person at the console to leave")
    with raw_mode(keyboard):
        machine.type(b"\r")  # the prompt was printed before anybody looked: ask for it again
        for event in machine.events(deadline):
            if isinstance(event, ConsoleBytes):
                _write_all(screen, event.data)
            elif event == keyboard:
                typed = os.read(keyboard, 4096)
                if typed:
                    machine.type(keys.feed(typed))
                if keys.left or not typed:
                    return
            elif isinstance(event, Ended):
                return


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def standard() -> tuple[int, int]:
    """Descriptors of this process's keyboard and screen."""
    return sys.stdin.fileno(), sys.stdout.fileno()
