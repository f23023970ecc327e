# SPDX-License-Identifier: LGPL-2.1-or-later
"""The invariant of the kernel's announcements: whatever comes is a value that stands in the datagram, or nothing."""

from __future__ import annotations

from iscsiboot.sysfs.uevent import parse, unit_of

UNIT = "/devices/pci0000:00/0000:00:03.0/host7/session12/target7:0:0/7:0:0:1"


def datagram(action: str, path: str, **values: str) -> bytes:
    """As the kernel writes it."""
    fields = {"ACTION": action, "DEVPATH": path, **values, "SEQNUM": "4711"}
    text = "\0".join([f"{action}@{path}", *(f"{name}={value}" for name, value in fields.items())])
    return f"{text}\0".encode()


def datagrams() -> list[bytes]:
    """The corpus."""
    return [
        datagram("change", UNIT, SUBSYSTEM="scsi", SDEV_UA="CAPACITY_DATA_HAS_CHANGED", DEVTYPE="scsi_device"),
        datagram("add", f"{UNIT}/block/sda", SUBSYSTEM="block", MAJOR="8", MINOR="0", DEVNAME="sda", DEVTYPE="disk"),
        datagram("remove", "/devices/virtual/block/dm-0", SUBSYSTEM="block", DM_NAME="a=b"),
        datagram("change", "/devices/platform/host2/session1/iscsi_session/session1", SUBSYSTEM="iscsi_session"),
        b"libudev\0\xfe\xed\xca\xfe\0\0\0\x28\0\0\0\x28\0\0\1\0",
        b"",
    ]


def announcement(data: bytes) -> str:
    """One datagram of anybody's."""
    event = parse(data)
    if event is None:
        return "refused"
    head = f"{event.action}@{event.path}".encode("utf-8", "surrogateescape")
    assert data.split(b"\0")[0] == head
    assert event.action
    assert event.path.startswith("/")
    assert event.subsystem == event.values.get("SUBSYSTEM", "")
    for name, value in event.values.items():
        assert name
        assert "=" not in name
        assert f"{name}={value}".encode("utf-8", "surrogateescape") in data.split(b"\0")[1:]
    unit = unit_of(event.path)
    if unit is not None:
        sid, address = unit
        assert sid >= 0
        assert address in event.path.split("/")
        assert [part.isdigit() for part in address.split(":")] == [True] * 4
    return "accepted"
