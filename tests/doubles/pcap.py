# SPDX-License-Identifier: LGPL-2.1-or-later
"""Captures written by hand, and what tshark, whose dissector others wrote, reads in them.

A capture is a file of ours and not of an interface, so neither rights nor packets are needed.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

INITIATOR_PORT, TARGET_PORT = 40000, 3260
_LOOPBACK = b"\x7f\0\0\1"
_RAW_IPV4 = 101


@dataclass(frozen=True)
class Piece:
    """What one side sends in one TCP segment."""

    data: bytes
    from_target: bool = False


@dataclass(frozen=True)
class Dissected:
    """One PDU, as tshark sees it."""

    fields: dict[str, list[str]]
    """The values shown for each ``iscsi.`` field, in the order of the bytes."""
    names: dict[str, list[str]]
    """The same with tshark's words, ``HeaderDigest: 0x... (Good CRC32)``."""
    complaints: tuple[str, ...]
    """Expert messages of any severity, malformed marks, and digests that tshark finds wrong."""

    def numbers(self, name: str) -> list[int]:
        """The values of a numeric field."""
        return [int(value, 0) for value in self.fields.get(name, [])]


def write_capture(path: Path, pieces: Iterable[Piece | bytes]) -> None:
    """A pcap of raw IPv4 with one TCP segment for each piece; bare bytes are the initiator's."""
    records, sent = b"", {False: 1, True: 1}
    for number, item in enumerate(pieces):
        piece = item if isinstance(item, Piece) else Piece(item)
        ports = (TARGET_PORT, INITIATOR_PORT) if piece.from_target else (INITIATOR_PORT, TARGET_PORT)
        sequence, acknowledged = sent[piece.from_target], sent[not piece.from_target]
        tcp = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, 0x18, 65535, 0, 0)
        length = 40 + len(piece.data)
        packet = struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, 6, 0, _LOOPBACK, _LOOPBACK) + tcp + piece.data
        records += struct.pack("<IIII", 0, number, len(packet), len(packet)) + packet
        sent[piece.from_target] += len(piece.data)
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, _RAW_IPV4) + records)


def dissect(path: Path) -> list[Dissected]:
    """Every iSCSI PDU tshark finds in a capture, in order."""
    command = ["tshark", "-r", str(path), "-T", "pdml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = []
    for packet in ElementTree.fromstring(done.stdout).iter("packet"):
        pdus = [proto for proto in packet.findall("proto") if proto.get("name") == "iscsi"]
        # A mark of another dissector (SCSI, malformed packet) stands beside the iSCSI one: it goes to the last PDU.
        marks = tuple(
            element.get("showname") or element.get("name") or "?"
            for element in packet.iter()
            if element.get("name") in ("_ws.malformed", "_ws.expert.message")
        )
        found += [_dissected(pdu, marks if pdu is pdus[-1] else ()) for pdu in pdus]
    return found


def _dissected(proto: ElementTree.Element, marks: tuple[str, ...]) -> Dissected:
    fields: dict[str, list[str]] = {}
    names: dict[str, list[str]] = {}
    for element in proto.iter("field"):
        name = element.get("name", "")
        if name.startswith(("iscsi.", "scsi.")):
            fields.setdefault(name, []).append(element.get("show", ""))
            names.setdefault(name, []).append(element.get("showname", ""))
    wrong = tuple(text for texts in names.values() for text in texts if "Bad CRC32" in text)
    return Dissected(fields, names, marks + wrong)
