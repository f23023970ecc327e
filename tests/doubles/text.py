# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text negotiation in full feature phase, the target's side (RFC 7143 sections 6.3, 11.10 and 11.11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from iscsiboot.initiator.pdu.control import TextRequest, TextResponse
from iscsiboot.initiator.pdu.header import RESERVED_TAG
from tests.doubles.directory import Records, segments
from tests.doubles.target import Pairs, pairs_of, text_of
from tests.doubles.wire import Outgoing

CONTINUED_LUN = bytes.fromhex("0007000000000000")
"""What a response that is to be continued has as its LUN; it means nothing and has to come back (section 11.10.4)."""


class TextExchange:
    """One exchange at a time: requests may be of many parts, and so may answers."""

    def __init__(
        self,
        records: Records,
        *,
        session: str | None,
        limit: int,
        we_take: int,
        whole_pairs: bool,
        note: Callable[[str], None],
    ) -> None:
        """``session`` is the target of this session, None in a discovery session; ``limit`` bytes fit in an answer."""
        self._records = records
        self._session = session
        self._limit = limit
        self._we_take = we_take
        self._whole_pairs = whole_pairs
        self._note = note
        self._asked = b""
        self._itt = RESERVED_TAG
        self._ttt = RESERVED_TAG
        self._answer: Iterator[tuple[bytes, bool]] | None = None
        self._tags = 0x2000

    def request(self, pdu: TextRequest, data: bytes) -> Outgoing:
        """What one Text Request is answered with."""
        self._must(not (pdu.final and pdu.cont), "TextRequest: F and C at once")
        self._must(pdu.itt != RESERVED_TAG, "TextRequest: without a task tag")
        lun = bytes(8) if pdu.ttt == RESERVED_TAG else CONTINUED_LUN
        self._must(pdu.lun == lun, f"TextRequest: LUN {pdu.lun.hex()}, {lun.hex()} was due")
        if pdu.ttt == RESERVED_TAG:
            # A request without our tag begins anew, whatever was going on (section 11.10.4).
            self._asked, self._answer = b"", None
        else:
            self._must(pdu.ttt == self._ttt, f"TextRequest: tag {pdu.ttt:#x}, {self._ttt:#x} was due")
            self._must(pdu.itt == self._itt, f"TextRequest: task tag {pdu.itt:#x}, {self._itt:#x} was due")
        self._itt, self._ttt = pdu.itt, RESERVED_TAG
        if self._answer is not None:
            self._must(not data, "TextRequest: keys while an answer goes on")
            return self._part(self._answer)
        self._asked += data
        if pdu.cont:
            return self._response(b"", more=True, cont=False)
        pairs, self._asked = pairs_of(self._asked), b""
        answer = segments(self._answers(pairs), self._limit, whole_pairs=self._whole_pairs)
        return self._part(answer)

    def _part(self, answer: Iterator[tuple[bytes, bool]]) -> Outgoing:
        part, last = next(answer)
        self._answer = None if last else answer
        # A pair that is cut needs the C bit, whichever way the parts are announced (section 6.2).
        between = self._whole_pairs and part.endswith(b"\0")
        return self._response(part, more=not last, cont=not last and not between)

    def _response(self, data: bytes, *, more: bool, cont: bool) -> Outgoing:
        if more:
            self._tags += 1
            self._ttt = self._tags
        tag, lun = (self._ttt, CONTINUED_LUN) if more else (RESERVED_TAG, bytes(8))
        return Outgoing(pdu=TextResponse(final=not more, cont=cont, lun=lun, itt=self._itt, ttt=tag), data=data)

    def _answers(self, pairs: Pairs) -> Iterator[bytes]:
        for key, value in pairs:
            if key == "SendTargets":
                # All is for discovery; a session of a target may ask about that target (appendix C).
                if value == "All" and self._session is not None:
                    yield text_of([(key, "Reject")])
                else:
                    yield from self._records(value or self._session or "")
            elif key == "MaxRecvDataSegmentLength":
                yield text_of([(key, str(self._we_take))])
            else:
                yield text_of([(key, "NotUnderstood")])

    def _must(self, holds: bool, text: str) -> None:
        if not holds:
            self._note(text)
