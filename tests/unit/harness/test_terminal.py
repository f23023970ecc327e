# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keys of a person at the console."""

from __future__ import annotations

import os
import pty
import termios

import pytest

from tests.qemu.harness.terminal import KeyFilter, raw_mode


@pytest.mark.parametrize(
    ("typed", "sent", "left"),
    [
        (b"ls\r", b"ls\r", False),
        (b"\x03", b"\x03", False),
        (b"a\x01xb", b"a", True),
        (b"\x01X", b"", True),
        (b"\x01\x01", b"\x01", False),
        (b"\x01k", b"\x01k", False),
        (b"\x01\x01x", b"\x01x", False),
        (b"\x01", b"", False),
    ],
    ids=["plain", "ctrl-c", "leave", "leave upper", "ctrl-a itself", "other key", "escaped then x", "half"],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "key by key"])
def test_keys(typed: bytes, sent: bytes, left: bool, at_once: bool) -> None:
    keys = KeyFilter()
    chunks = [typed] if at_once else [bytes((key,)) for key in typed]
    out = b""
    for chunk in chunks:
        if not keys.left:
            out += keys.feed(chunk)
    assert (out, keys.left) == (sent, left)


def test_raw_mode_is_undone() -> None:
    master, slave = pty.openpty()
    try:
        before = termios.tcgetattr(slave)
        with raw_mode(slave):
            assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def test_a_pipe_is_left_alone() -> None:
    reading, writing = os.pipe()
    try:
        with raw_mode(reading):
            pass
    finally:
        os.close(reading)
        os.close(writing)
