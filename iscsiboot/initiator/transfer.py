# SPDX-License-Identifier: LGPL-2.1-or-later
"""The data of one SCSI command: what came, what is still to go, and whether it adds up.

RFC 7143 sections 4.2.5, 11.4, 11.7 and 11.8. Data that is read comes in order, without gap or overlay, and never beyond
what was asked for, so that a buffer grows by real data alone. Data that is written goes out unasked only as far as was
negotiated, and else where an R2T asks for it: forward and never twice, so that no target can make us send for ever.

A burst of more than MaxBurstLength that is read is a remark and no error: tgt and istgt send each command as one burst,
and nothing here depends on it.

DataPDUInOrder and DataSequenceInOrder are always Yes here: we offer Yes, and the rule of both keys is OR.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.negotiation import Negotiated
from iscsiboot.initiator.pdu.header import NO_LUN, RESERVED_TAG
from iscsiboot.initiator.pdu.scsi import DataIn, DataOut, ReadyToTransfer, ScsiResponse
from iscsiboot.initiator.session_events import GOOD, ScsiResult

SENSE_MAX = 252
"""Bytes of sense data SPC allows; what a target sends beyond them is not sense."""


@dataclass(slots=True)
class Sequence:
    """A run of Data-Out PDUs: the unsolicited one, or what one R2T asked for."""

    ttt: int
    lun: bytes
    offset: int
    """Where the next PDU begins."""
    end: int
    datasn: int = 0

    @property
    def done(self) -> bool:
        """Whether its last PDU was handed out."""
        return self.offset >= self.end


class Transfer:
    """Both directions of one command. Methods that take a PDU raise :class:`ProtocolViolation`."""

    def __init__(self, *, read_length: int, data_out: bytes, negotiated: Negotiated) -> None:
        self.read_length = read_length
        self._out = data_out
        self._received = bytearray()
        self._burst = 0
        # Data-In and R2T of a bidirectional command share one numbering (section 4.2.2.3); of others there is only one.
        self._next_sn = 0
        self._max_burst = negotiated.max_burst_length
        self._max_outstanding = negotiated.max_outstanding_r2t
        self._asked: deque[Sequence] = deque()
        self._negotiated = negotiated
        self._sent = 0

    def begin(self, limit: int) -> tuple[bytes, Sequence | None]:
        """What goes out unasked: data along with the command, and the Data-Out that follows it.

        ``limit``: bytes the target takes in one data segment. Unsolicited Data-Out, once there is any, fills the first
        burst (section 11.3.4).
        """
        first = min(self._negotiated.first_burst_length, len(self._out))
        immediate = self._out[: min(first, limit)] if self._negotiated.immediate_data else b""
        self._sent = len(immediate)
        if self._negotiated.initial_r2t or len(immediate) == first:
            return immediate, None
        self._sent = first
        return immediate, Sequence(RESERVED_TAG, NO_LUN, len(immediate), first)

    @property
    def bidirectional(self) -> bool:
        """Whether the command moves data both ways."""
        return bool(self.read_length and self._out)

    @property
    def writes(self) -> bool:
        """Whether the command has data for the target."""
        return bool(self._out)

    @property
    def expected_length(self) -> int:
        """The field of that name in the command (section 11.3.4)."""
        return len(self._out) or self.read_length

    @property
    def received(self) -> int:
        """Bytes read so far."""
        return len(self._received)

    def take_data(self, pdu: DataIn, data: bytes) -> str:
        """One Data-In PDU; a clause for a remark, empty when all is well."""
        if not self.read_length:
            raise ProtocolViolation("the target sends data for a command that reads nothing")
        self._count("DataSN", pdu.datasn)
        if pdu.buffer_offset != len(self._received):
            raise ProtocolViolation(
                f"the target sends data for offset {pdu.buffer_offset}, {len(self._received)} was due"
            )
        if len(self._received) + len(data) > self.read_length:
            raise ProtocolViolation(
                f"the target sends {len(self._received) + len(data)} bytes, {self.read_length} were asked for"
            )
        self._received += data
        burst = self._burst + len(data)
        self._burst = 0 if pdu.final else burst
        if pdu.status_present and not pdu.final:
            return "the target sends a status in data that it does not call the last (S bit without F bit)"
        return (
            f"the target sends bursts of more than MaxBurstLength={self._max_burst}" if burst > self._max_burst else ""
        )

    def take_ready(self, pdu: ReadyToTransfer) -> Sequence:
        """One R2T: what is to be sent for it, in the order the R2Ts came."""
        if not self._out:
            raise ProtocolViolation("the target asks for data of a command that writes nothing")
        self._count("R2TSN", pdu.r2tsn)
        if pdu.ttt == RESERVED_TAG:
            raise ProtocolViolation("the target asks for data and gives no transfer tag (TTT ffffffff)")
        length, offset = pdu.desired_length, pdu.buffer_offset
        if not 1 <= length <= self._max_burst:
            raise ProtocolViolation(f"the target asks for {length} bytes at once, 1 to {self._max_burst} are agreed")
        if offset < self._sent:
            raise ProtocolViolation(f"the target asks for data from offset {offset}, up to {self._sent} it was sent")
        if offset + length > len(self._out):
            raise ProtocolViolation(
                f"the target asks for data up to offset {offset + length}, the command has {len(self._out)} bytes"
            )
        while self._asked and self._asked[0].done:
            self._asked.popleft()
        if len(self._asked) >= self._max_outstanding:
            raise ProtocolViolation(
                f"the target asks before it was answered (MaxOutstandingR2T={self._max_outstanding})"
            )
        sequence = Sequence(pdu.ttt, pdu.lun, offset, offset + length)
        self._asked.append(sequence)
        self._sent = sequence.end
        return sequence

    def next_data(self, sequence: Sequence, *, itt: int, exp_statsn: int, limit: int) -> tuple[DataOut, bytes]:
        """The next PDU of a sequence that is not done, with at most ``limit`` bytes of data."""
        offset, end = sequence.offset, min(sequence.offset + limit, sequence.end)
        data = self._out[offset:end]
        pdu = DataOut(
            final=end == sequence.end,
            lun=sequence.lun,
            itt=itt,
            ttt=sequence.ttt,
            exp_statsn=exp_statsn,
            datasn=sequence.datasn,
            buffer_offset=offset,
            data_length=len(data),
        )
        sequence.offset = end
        sequence.datasn += 1
        return pdu, data

    def result(self, pdu: ScsiResponse | DataIn, sense: bytes = b"") -> tuple[ScsiResult, str]:
        """How the command ended, by the PDU that carried its status; the text is a remark, empty when all is well.

        Nobody is told that data came which did not: when a good status and the residual do not fit what was received,
        what was received counts (section 11.4.5; targets are known that forget the U bit).
        """
        overflow, underflow, residual = _residual(pdu.overflow, pdu.underflow, pdu.residual, self.expected_length)
        remark = ""
        if underflow and residual < pdu.residual:
            remark = f"the target announces {pdu.residual} bytes missing of {self.expected_length}"
        back = (False, False, 0)
        if isinstance(pdu, ScsiResponse) and self.bidirectional:
            back = _residual(pdu.bidi_overflow, pdu.bidi_underflow, pdu.bidi_residual, self.read_length)
        reading = back if self.bidirectional else (overflow, underflow, residual)
        missing = self.read_length - len(self._received)
        announced = reading[2] if reading[1] else 0
        if self.read_length and pdu.status == GOOD and missing != announced:
            came = f"{len(self._received)} of {self.read_length} bytes"
            remark = f"the target sent {came} and announces {announced} as missing"
            reading = (False, missing > 0, missing)
        if self.bidirectional:
            back = reading
        else:
            overflow, underflow, residual = reading
        result = ScsiResult(
            status=pdu.status,
            data=bytes(self._received),
            sense=sense,
            residual=residual,
            overflow=overflow,
            underflow=underflow,
            read_overflow=back[0],
            read_underflow=back[1],
            read_residual=back[2],
        )
        return result, remark

    def _count(self, name: str, number: int) -> None:
        if number != self._next_sn:
            raise ProtocolViolation(f"the target sent {name} {number}, {self._next_sn} was due")
        self._next_sn += 1


def _residual(overflow: bool, underflow: bool, residual: int, expected: int) -> tuple[bool, bool, int]:
    """The three fields of one direction, checked; the count is 0 when neither bit is set (section 11.4.5.1).

    More missing than there was to come is cut to that: Linux fails the command for it and keeps the session.
    """
    if overflow and underflow:
        raise ProtocolViolation("the target announces overflow and underflow of one transfer (O and U bit)")
    if underflow:
        return overflow, underflow, min(residual, expected)
    return overflow, underflow, residual if overflow else 0


def parse_sense(data: bytes) -> tuple[bytes, str]:
    """Sense data out of a data segment that begins with SenseLength (section 11.4.7); the text is a remark or empty.

    A length that lies is no reason to lose the session: what is there is taken, and never more.
    """
    if not data:
        return b"", ""
    if len(data) < 2:
        return b"", "the target sent a data segment too short for SenseLength"
    length = int.from_bytes(data[:2], "big")
    remark = ""
    if length > len(data) - 2:
        remark = f"the target announces {length} bytes of sense data, {len(data) - 2} came"
    elif length > SENSE_MAX:
        remark = f"the target sent {length} bytes of sense data, {SENSE_MAX} are kept"
    return data[2 : 2 + min(length, SENSE_MAX)], remark
