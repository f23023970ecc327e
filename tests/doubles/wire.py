# SPDX-License-Identifier: LGPL-2.1-or-later
"""The target's side of the byte stream: frames in, frames out, and what the driver of a double is asked to do.

A second implementation of RFC 7143 section 11.1 and of the digests (section 13.1): with the initiator's own, a mistake
would be made on both sides and never show. Shared are only the PDU classes and the CRC, which the RFC's vectors hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from iscsiboot.initiator.digest import crc32c
from iscsiboot.initiator.pdu.header import BHS_LENGTH, Pdu

FLIP = b"\x01\0\0\0"


@dataclass(frozen=True)
class Send:
    """Put these bytes on the wire."""

    data: bytes


@dataclass(frozen=True)
class Wait:
    """Do nothing for this long, or until the test lets the target go on; ``inf``: until then alone."""

    seconds: float


@dataclass(frozen=True)
class Close:
    """End the connection."""


Action = Send | Wait | Close


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One PDU of the initiator."""

    bhs: bytes
    ahs: bytes
    data: bytes
    padding: bytes
    header_intact: bool = True
    """Whether the header digest was right; True without one."""
    data_intact: bool = True


class Framer:
    """Cuts the initiator's bytes into frames."""

    def __init__(self) -> None:
        self.header_digest = False
        self.data_digest = False
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._buffer += data

    def next(self) -> Frame | None:
        """The next whole frame; the digests must be set as they hold for it."""
        if len(self._buffer) < BHS_LENGTH:
            return None
        ahs_length = self._buffer[4] * 4
        length = int.from_bytes(self._buffer[5:8], "big")
        ahs_end = BHS_LENGTH + ahs_length
        data_start = ahs_end + 4 * self.header_digest
        data_end = data_start + length
        padded = data_start + -(-length // 4) * 4
        end = padded + 4 * (self.data_digest and length > 0)
        if len(self._buffer) < end:
            return None
        whole = bytes(self._buffer[:end])
        del self._buffer[:end]
        return Frame(
            bhs=whole[:BHS_LENGTH],
            ahs=whole[BHS_LENGTH:ahs_end],
            data=whole[data_start:data_end],
            padding=whole[data_end:padded],
            header_intact=whole[ahs_end:data_start] in (b"", digest(whole[:ahs_end])),
            data_intact=whole[padded:end] in (b"", digest(whole[data_start:padded])),
        )


def digest(data: bytes) -> bytes:
    """CRC32C as it stands on the wire (section 13.1: the least significant byte first)."""
    return crc32c(data).to_bytes(4, "little")


def _flipped(four: bytes) -> bytes:
    return bytes(have ^ flip for have, flip in zip(four, FLIP, strict=True))


Override = int | bool | bytes | Callable[[int], int]


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """One PDU of the target before it is numbered and put into bytes; a fault makes a worse one of it."""

    pdu: Pdu
    data: bytes = b""
    ahs: bytes = b""
    overrides: Mapping[str, Override] = field(default_factory=dict)
    """Header fields that replace the honest ones after numbering; a function gets the honest value."""
    announced: int | None = None
    """A DataSegmentLength that is not the data's."""
    announced_ahs: int | None = None
    """Bytes of additional headers that are not there."""
    spoil: str = ""
    """``header`` or ``data``: the digest that comes out wrong."""
    copies: int = 1
    """How often it is sent, with the same numbers; 0: it uses its numbers up and is never seen."""
    cut: int | None = None
    """Bytes after which the connection ends."""

    def changed(self, **overrides: Override) -> Outgoing:
        """The same with other header fields."""
        return replace(self, overrides={**self.overrides, **overrides})

    def actions(self, numbered: Pdu, *, header_digest: bool, data_digest: bool) -> list[Action]:
        """What is sent, once ``numbered`` has its StatSN, ExpCmdSN and MaxCmdSN."""
        changes = {
            name: value(getattr(numbered, name)) if callable(value) else value for name, value in self.overrides.items()
        }
        length = len(self.data) if self.announced is None else self.announced
        ahs_length = len(self.ahs) if self.announced_ahs is None else self.announced_ahs
        whole = replace(numbered, **{"data_length": length, "ahs_length": ahs_length, **changes})  # type: ignore[arg-type]  # any field
        header = whole.encode() + self.ahs
        wire = header
        if header_digest:
            wire += _flipped(digest(header)) if self.spoil == "header" else digest(header)
        if self.data:
            padded = self.data.ljust(-(-len(self.data) // 4) * 4, b"\0")
            wire += padded
            if data_digest:
                wire += _flipped(digest(padded)) if self.spoil == "data" else digest(padded)
        if self.cut is not None:
            return [Send(wire[: self.cut]), Close()]
        return [Send(wire)] * self.copies


Item = Outgoing | Action
"""What a step of the target comes to; an Outgoing still has to be numbered."""
