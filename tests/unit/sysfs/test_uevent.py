# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's announcements: its own format, everything that is not it, who is believed, what is lost."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.sysfs.uevent import AT_ONCE, Uevent, UeventsLost, UeventSocket, parse, unit_of

UNIT = "/devices/platform/host2/session1/target2:0:0/2:0:0:1"
DATAGRAM = (
    f"change@{UNIT}\0ACTION=change\0DEVPATH={UNIT}\0SUBSYSTEM=scsi\0"
    "SDEV_UA=REPORTED_LUNS_DATA_HAS_CHANGED\0DEVTYPE=scsi_device\0MODALIAS=scsi:t-0x00\0SEQNUM=2431\0"
).encode()


def test_the_kernels_format() -> None:
    event = parse(DATAGRAM)
    assert event is not None
    assert (event.action, event.path, event.subsystem) == ("change", UNIT, "scsi")
    assert event.values["SDEV_UA"] == "REPORTED_LUNS_DATA_HAS_CHANGED"
    assert event.values["SEQNUM"] == "2431"


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0",
        b"change",
        b"@/devices/x\0ACTION=add",
        b"change@devices/x\0",
        b"change@\0",
        b"libudev\0\xfe\xed\xca\xfe\0\0\0\x28",
        b"\0" * 100,
        b"ACTION=change\0DEVPATH=/x",
    ],
)
def test_what_is_none_of_the_kernels(datagram: bytes) -> None:
    assert parse(datagram) is None


@pytest.mark.parametrize(
    ("datagram", "subsystem", "values"),
    [
        (b"add@/x", "", {}),
        (b"add@/x\0", "", {}),
        (b"add@/x\0SUBSYSTEM", "", {}),
        (b"add@/x\0=v\0A=b=c\0", "", {"A": "b=c"}),
        (b"add@/x\0SUBSYSTEM=a\0SUBSYSTEM=b", "a", {"SUBSYSTEM": "a"}),
        (b"add@/x\0N=\xff", "", {"N": "\udcff"}),
    ],
)
def test_half_a_datagram_is_taken_for_what_it_says(datagram: bytes, subsystem: str, values: dict[str, str]) -> None:
    event = parse(datagram)
    assert event is not None
    assert (event.subsystem, event.values) == (subsystem, values)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: DATAGRAM[:60] + tail))
def test_nothing_makes_the_parser_fail(datagram: bytes) -> None:
    event = parse(datagram)
    assert event is None or event.path.startswith("/")
    if event is not None:
        unit_of(event.path)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (UNIT, (1, "2:0:0:1")),
        (f"{UNIT}/block/sda", (1, "2:0:0:1")),
        ("/devices/pci0000:00/0000:00:03.0/host7/session12/target7:0:0/7:0:0:16384", (12, "7:0:0:16384")),
        ("/devices/platform/host2/session1/target2:0:0", None),
        ("/devices/platform/host2/session1/iscsi_session/session1", None),
        ("/devices/platform/host2/session1/connection1:0", None),
        ("/devices/platform/host2/session/target2:0:0/2:0:0:1", None),
        ("/devices/platform/host2/session1/target2:0:0/2:0:0", None),
        ("/devices/platform/host2/session1/target2:0:0/a:b:c:d", None),
        ("/devices/platform/host2/session1/target2:0:0/:::", None),
        ("/devices/platform/host2/session²/target2:0:0/2:0:0:1", None),
        ("/devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0", None),
        ("", None),
        ("/", None),
    ],
)
def test_which_unit_of_which_session(path: str, unit: tuple[int, str] | None) -> None:
    assert unit_of(path) == unit


class Netlink(socket.socket):
    """A pair of datagram sockets that says who sent, as netlink does; the senders are told to it."""

    senders: list[tuple[int, int]]
    faults: list[OSError]

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, tuple[int, int]]:
        if self.faults:
            raise self.faults.pop(0)
        data = self.recv(bufsize, flags)
        return data, self.senders.pop(0) if self.senders else (0, 1)


@pytest.fixture
def pair() -> tuple[UeventSocket, socket.socket, Netlink]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    kernel = Netlink(fileno=ours.detach())
    kernel.senders, kernel.faults = [], []
    return UeventSocket(kernel), theirs, kernel


Pair = tuple[UeventSocket, socket.socket, Netlink]


def test_the_socket_reads_what_is_there_and_does_not_wait(pair: Pair) -> None:
    listener, sender, _ = pair
    assert listener.read() == []
    for _ in range(3):
        sender.send(DATAGRAM)
    assert [event.path for event in listener.read() if isinstance(event, Uevent)] == [UNIT] * 3
    assert listener.read() == []
    listener.close()
    sender.close()


def test_a_process_is_not_believed(pair: Pair) -> None:
    listener, sender, kernel = pair
    kernel.senders[:] = [(4711, 1), (0, 1)]
    sender.send(DATAGRAM.replace(b"2:0:0:1", b"6:6:6:6"))
    sender.send(DATAGRAM)
    assert [event.path for event in listener.read() if isinstance(event, Uevent)] == [UNIT]
    listener.close()
    sender.close()


def test_a_full_socket_is_told_and_the_rest_is_read(pair: Pair) -> None:
    listener, sender, kernel = pair
    kernel.faults[:] = [OSError(errno.ENOBUFS, "No buffer space available")]
    sender.send(DATAGRAM)
    first, second = listener.read()
    assert isinstance(first, UeventsLost)
    assert isinstance(second, Uevent)
    listener.close()
    sender.close()


def test_any_other_failure_is_the_callers(pair: Pair) -> None:
    listener, sender, kernel = pair
    kernel.faults[:] = [OSError(errno.EBADF, "Bad file descriptor")]
    with pytest.raises(OSError, match="Bad file"):
        listener.read()
    listener.close()
    sender.close()


def test_a_storm_is_read_in_portions(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    listener, sender, kernel = pair
    endless: Callable[[int], tuple[bytes, tuple[int, int]]] = lambda size: (DATAGRAM, (0, 1))  # noqa: E731
    monkeypatch.setattr(kernel, "recvfrom", endless)
    assert len(listener.read()) == AT_ONCE
    listener.close()
    sender.close()
