# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines out of console bytes however they arrive, and which of them mean that a boot is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.qemu.harness.console import FATAL, LINE_LIMIT, TAIL_LINES, LineSplitter, plain

STREAM = b"\x1b[2J\x1b[01;01HSeaBIOS\r\n\r\n[  \x1b[0;32mOK\x1b[0m  ] Started x.\r\nprogress 1\rprogress 2\r\nlogin: "
LINES = ["SeaBIOS", "[  OK  ] Started x.", "progress 1", "progress 2"]


def test_whole_stream() -> None:
    splitter = LineSplitter()
    assert splitter.feed(STREAM) == LINES
    assert splitter.partial == "login: "
    assert splitter.last_lines() == (*LINES, "login: ")


@given(st.lists(st.integers(1, 9), min_size=1))
def test_any_chunks_give_the_same_lines(sizes: list[int]) -> None:
    splitter = LineSplitter()
    got: list[str] = []
    rest = STREAM
    for size in sizes * len(STREAM):
        got += splitter.feed(rest[:size])
        rest = rest[size:]
    assert not rest
    assert got == LINES
    assert splitter.partial == "login: "


@given(st.binary(max_size=400))
def test_no_bytes_break_it_and_no_control_character_gets_out(data: bytes) -> None:
    splitter = LineSplitter()
    for line in [*splitter.feed(data), *splitter.feed(b"\n")]:
        assert not any(ord(char) < 32 and char != "\t" for char in line)


def test_a_line_without_end_is_cut() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"x" * (LINE_LIMIT + 1)) == ["x" * (LINE_LIMIT + 1)]
    assert splitter.partial == ""


def test_the_tail_is_bounded() -> None:
    splitter = LineSplitter()
    splitter.feed(b"".join(b"line %d\n" % number for number in range(100)))
    assert len(splitter.tail) == TAIL_LINES
    assert splitter.last_lines()[-1] == "line 99"


def test_tabs_stay() -> None:
    assert plain("a\tb\x07\x1b]0;title\x07c") == "a\tbc"


@pytest.mark.parametrize(
    "line",
    [
        "[    5.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        "You are in emergency mode. After logging in, type ...",
        "Entering emergency mode. Exit the shell to continue.",
        'Generating "/run/initramfs/rdsosreport.txt"',
        "[  OK  ] Started emergency.service - Emergency Shell.",
        "Cannot open access to console, the root account is locked.",
        "dracut: FATAL: iscsiboot: no root disk",
        "dracut: Refusing to continue",
    ],
)
def test_lost(line: str) -> None:
    assert FATAL.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "[  OK  ] Reached target emergency-free.target",
        "         Starting dracut-emergency-check",
        "[  OK  ] Reached target initrd-root-device.target - Initrd Root Device.",
        "Conflicts=shutdown.target emergency.target",
        "iscsistart: connect: 10.0.2.2:3260: connection refused; next: start the target",
        "kernel: panic=-1",
    ],
)
def test_not_lost(line: str) -> None:
    assert not FATAL.search(line)
