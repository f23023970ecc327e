# SPDX-License-Identifier: LGPL-2.1-or-later
"""PDUs on a byte stream: where one ends and the next begins, digests and padding (RFC 7143 sections 11.1 and 11.2).

A PDU is 48 bytes of header, additional headers, a digest of both, the data padded to four bytes, and a digest of the
padded data; either digest is there only when it was negotiated. What the fields mean is not known here, except the
two lengths.

Memory is bounded by what a peer may send and not by what it announces: a header is refused as soon as its 48 bytes are
there, before any digest, when it announces more data than we declared to take (MaxRecvDataSegmentLength).
"""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.initiator.digest import DIGEST_LENGTH, crc32c, digest
from iscsiboot.initiator.errors import Misuse, ProtocolViolation
from iscsiboot.initiator.pdu.header import BHS_LENGTH, Header, Opcode, pad, padded_length

_BROKEN_WIRE = "check cables, switches and network cards between here and the target: one of them damages data"


@dataclass(frozen=True, slots=True)
class RawPdu:
    """One PDU in its three parts, without padding of the data and without digests."""

    bhs: bytes
    """48 bytes."""
    ahs: bytes = b""
    """Additional headers, whole words; :mod:`iscsiboot.initiator.pdu.ahs` reads them."""
    data: bytes = b""


def frame(
    bhs: bytes, data: bytes = b"", ahs: bytes = b"", *, header_digest: bool = False, data_digest: bool = False
) -> bytes:
    """The bytes of one PDU on the stream. :class:`Misuse` when the header announces other lengths than its parts have.

    An empty data segment has no digest (section 11.2.3).
    """
    if len(bhs) != BHS_LENGTH:
        raise Misuse(f"frame(): a header has {BHS_LENGTH} bytes, not {len(bhs)}")
    header = Header.decode(bhs)
    if (header.ahs_length, header.data_length) != (len(ahs), len(data)):
        raise Misuse(
            f"frame(): the header announces {header.ahs_length} and {header.data_length} bytes, "
            f"{len(ahs)} and {len(data)} are to follow"
        )
    parts = [bhs, ahs]
    if header_digest:
        parts.append(digest(bhs + ahs))
    if data:
        padded = pad(data)
        parts.append(padded)
        if data_digest:
            parts.append(digest(padded))
    return b"".join(parts)


class StreamDecoder:
    """Cuts the bytes of a connection into PDUs. Used up by the first violation: there is no finding the way back.

    After each :meth:`feed` call :meth:`next_pdu` until it gives None; then at most one incomplete PDU is kept.
    """

    def __init__(self, *, data_limit: int, header_digest: bool = False, data_digest: bool = False) -> None:
        self._buffer = bytearray()
        self._violation: ProtocolViolation | None = None
        self.reconfigure(data_limit=data_limit, header_digest=header_digest, data_digest=data_digest)

    @property
    def pending(self) -> int:
        """Bytes kept that have not left in a PDU."""
        return len(self._buffer)

    def reconfigure(self, *, data_limit: int, header_digest: bool, data_digest: bool) -> None:
        """Other rules for every PDU not handed out yet, also when bytes of it are here already.

        A target may send the first PDU of full feature phase right behind its last Login Response, in one segment.
        """
        self._data_limit = data_limit
        self._header_digest = header_digest
        self._data_digest = data_digest
        # The header of the next PDU, once it was found good; a change of rules makes it one to be looked at again.
        self._header: Header | None = None
        self._wanted = BHS_LENGTH

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes of the stream, in pieces of any size."""
        if self._violation is None:
            self._buffer += data

    def next_pdu(self) -> RawPdu | None:
        """The next whole PDU, None until more is fed; :class:`ProtocolViolation` now and ever after when it is bad."""
        if self._violation is not None:
            raise self._violation
        if len(self._buffer) < self._wanted:
            return None
        try:
            if self._header is None:
                self._header = self._take_header()
            if self._header is None or len(self._buffer) < self._wanted:
                return None
            return self._take_pdu(self._header)
        except ProtocolViolation as violation:
            self._violation = violation
            self._buffer.clear()
            raise

    def _take_header(self) -> Header | None:
        """The header once everything about it was checked; None while its additional headers or digest are missing."""
        header = Header.decode(bytes(self._buffer[:BHS_LENGTH]))
        if header.data_length > self._data_limit:
            raise ProtocolViolation(
                f"{Opcode.words(header.opcode)} announces {header.data_length} bytes of data, "
                f"at most {self._data_limit} are allowed"
            )
        covered = BHS_LENGTH + header.ahs_length
        if self._header_digest:
            self._wanted = covered + DIGEST_LENGTH
            if len(self._buffer) < self._wanted:
                return None
            self._check(0, covered, f"the header of a PDU ({Opcode.words(header.opcode)})")
        self._wanted = covered + self._trailer(header)
        return header

    def _trailer(self, header: Header) -> int:
        """Bytes behind the additional headers: digests, data, padding."""
        length = DIGEST_LENGTH if self._header_digest else 0
        if header.data_length:
            length += padded_length(header.data_length) + (DIGEST_LENGTH if self._data_digest else 0)
        return length

    def _take_pdu(self, header: Header) -> RawPdu:
        end = BHS_LENGTH + header.ahs_length
        start = end + (DIGEST_LENGTH if self._header_digest else 0)
        if self._data_digest and header.data_length:
            padded = start + padded_length(header.data_length)
            self._check(start, padded, f"the data of a PDU ({Opcode.words(header.opcode)})")
        with memoryview(self._buffer) as view:
            pdu = RawPdu(
                bytes(view[:BHS_LENGTH]),
                bytes(view[BHS_LENGTH:end]),
                bytes(view[start : start + header.data_length]),
            )
        # The front of a bytearray goes without moving the rest.
        del self._buffer[: self._wanted]
        self._header, self._wanted = None, BHS_LENGTH
        return pdu

    def _check(self, start: int, end: int, what: str) -> None:
        """Compare a digest with the bytes before it."""
        with memoryview(self._buffer) as view:
            expected = crc32c(view[start:end])
            sent = int.from_bytes(view[end : end + DIGEST_LENGTH], "little")
        if sent != expected:
            raise ProtocolViolation(
                f"{what} came with digest {sent:#010x}, its bytes give {expected:#010x}",
                hint=_BROKEN_WIRE,
                retryable=True,
            )
