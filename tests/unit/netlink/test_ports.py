# SPDX-License-Identifier: LGPL-2.1-or-later
"""/proc/net/netlink of Debian's kernel 6.1, and lines it never printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.netlink.ports import OpenPort, open_ports

# Captured in a guest: a process (pid 282) with two NETLINK_ISCSI sockets, udev with its own family.
CAPTURED = """\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
00000000dc841f27 0   182        00000000 768      0        0     2        0        12429   
00000000ca7733b0 8   4045484847 00000001 0        0        0     2        0        14439   
00000000747234a6 8   282        00000001 0        0        0     2        0        14438   
00000000066f5a9d 8   0          00000000 0        0        0     2        0        13528   
00000000effdcdf7 15  170        00000001 0        0        0     2        0        13407   
"""  # noqa: W291  (the kernel's own blanks)


def make(root: Path, table: str, *, fds: tuple[str, ...] = ()) -> Path:
    (root / "net").mkdir()
    (root / "net" / "netlink").write_text(table)
    (root / "self" / "fd").mkdir(parents=True)
    for number, target in enumerate(fds):
        (root / "self" / "fd" / str(number)).symlink_to(target)
    return root


def test_the_captured_table(tmp_path: Path) -> None:
    proc = make(tmp_path, CAPTURED, fds=("/dev/null", "socket:[14438]", "pipe:[14439]"))
    assert open_ports(proc) == (
        OpenPort(port=4045484847, hears_events=True, ours=False),
        OpenPort(port=282, hears_events=True, ours=True),
    )


def test_a_socket_outside_the_group_hears_nothing(tmp_path: Path) -> None:
    proc = make(tmp_path, CAPTURED.replace("282        00000001", "282        00000002"))
    assert [port.hears_events for port in open_ports(proc)] == [True, False]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "0 8 1 1 0 0 0 0 0",
        "0 8 -5 00000001 0 0 0 2 0 77",
        "0 eight 5 00000001 0 0 0 2 0 77",
        "0 8 5 group 0 0 0 2 0 77",
    ],
    ids=["empty", "word", "short", "negative", "protocol", "groups"],
)
def test_strange_lines_are_skipped(tmp_path: Path, line: str) -> None:
    proc = make(tmp_path, CAPTURED + line + "\n")
    assert len(open_ports(proc)) == 2


def test_no_table_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "self" / "fd").mkdir(parents=True)
    with pytest.raises(FileNotFoundError):
        open_ports(tmp_path)


def test_this_machine_s_table_reads() -> None:
    assert all(port.port for port in open_ports(Path("/proc")))
