# SPDX-License-Identifier: LGPL-2.1-or-later
"""One text negotiation in full feature phase: requests and responses in turn (RFC 7143 sections 11.10 and 11.11).

The F bit says that a side has said everything, the C bit that a text goes on in its next PDU; a response without F
carries a target transfer tag, and our next request gives it back. A request with the reserved tag begins anew, which
is how a negotiation is given up: the target forgets what it still had to say.

A target has to come to an end: besides the limits of a whole text, :data:`EMPTY_MAX` responses in succession may
carry nothing while we have nothing more to say either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.control import TextResponse
from iscsiboot.initiator.pdu.header import NO_LUN, RESERVED_TAG
from iscsiboot.initiator.text import KEYS_MAX, TEXT_MAX, Pairs, TextAssembler, encode_pairs, split_text

EMPTY_MAX = 16
"""Responses in succession that may say nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What the next Text Request says."""

    data: bytes
    final: bool
    cont: bool
    ttt: int
    lun: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """What a Text Response said."""

    data: bytes
    """For a stream; the end of a text has its NUL."""
    final: bool
    """The negotiation is over; otherwise :meth:`TextExchange.turn` is due."""
    remark: str = ""


class _Reset(Enum):
    """How far giving up a negotiation has come."""

    NO = 0
    WANTED = 1
    """The next response is listened to no more."""
    ASKED = 2
    """The request that resets was made; its answer ends the task."""


class TextExchange:
    """One negotiation from the first request to the last response."""

    def __init__(self, pairs: Iterable[tuple[str, str]], *, limit: int, stream: bool = False) -> None:
        self._unsent = deque(split_text(encode_pairs(pairs), limit))
        self.stream = stream
        """Whether the caller takes the answer in parts, so that nothing is kept here."""
        self._ttt = RESERVED_TAG
        self._lun = NO_LUN
        self._said_all = False
        self._answered = False
        self._reset = _Reset.NO
        self._assembler = TextAssembler()
        self._pairs: list[tuple[str, str]] = []
        self._heard = 0
        self._empty = 0
        self._open = False
        """Whether the last pair still lacks its NUL."""

    @property
    def pairs(self) -> Pairs:
        """The whole answer once it is complete; nothing for a stream, or when it was given up."""
        return tuple(self._pairs)

    @property
    def given_up(self) -> bool:
        """Whether :meth:`give_up` was called."""
        return self._reset is not _Reset.NO

    @property
    def answered(self) -> bool:
        """Whether the target has said anything yet."""
        return self._answered

    def give_up(self) -> None:
        """Listen no longer: the next request resets the negotiation, unless the next response ends it."""
        if self._reset is _Reset.NO:
            self._reset = _Reset.WANTED
        self._unsent.clear()
        self._pairs.clear()

    def turn(self) -> Turn:
        """The next request; it says nothing but "go on" when we have nothing more to say."""
        if self._reset is _Reset.WANTED:
            self._reset = _Reset.ASKED
            self._ttt, self._lun = RESERVED_TAG, NO_LUN
        data = self._unsent.popleft() if self._unsent else b""
        self._said_all = not self._unsent
        return Turn(data=data, final=self._said_all, cont=not self._said_all, ttt=self._ttt, lun=self._lun)

    def take(self, response: TextResponse, data: bytes) -> Heard:
        """One response; :class:`ProtocolViolation` when it is not the target's turn to say that."""
        if response.final and response.cont:
            raise ProtocolViolation("the target ends its text and announces more of it (F and C bit)")
        if response.final and not self._said_all:
            raise ProtocolViolation("the target ended the negotiation before our text was complete")
        if not response.final and response.ttt == RESERVED_TAG:
            raise ProtocolViolation("the target announces more text and gives no transfer tag to ask for it")
        self._ttt, self._lun, self._answered = response.ttt, response.lun, True
        if self._reset is not _Reset.NO:
            if self._reset is _Reset.ASKED and not response.final:
                raise ProtocolViolation("the target goes on with a negotiation that was reset")
            return Heard(data=b"", final=response.final)
        if not self._said_all and (data or response.cont):
            raise ProtocolViolation("the target answered before our text was complete")
        self._check_progress(response, data)
        # tgt cuts its answer to SendTargets wherever the segment is full and never sets the C bit: a pair without its
        # NUL goes on in the next response, whatever that bit says, as long as there is one (F bit).
        goes_on = response.cont or not (response.final or data.endswith(b"\0"))
        self._open = not data.endswith(b"\0") if data else self._open
        if self._open and not goes_on:
            data += b"\0"
        if not self.stream:
            self._keep(data, more=goes_on)
        # A target that has said everything needs no tag; some leave the one of the response before.
        remark = "the target ended a text and left a transfer tag in it"
        odd = response.final and response.ttt != RESERVED_TAG
        return Heard(data=data, final=response.final, remark=remark if odd else "")

    def _check_progress(self, response: TextResponse, data: bytes) -> None:
        self._empty = 0 if data or response.final or not self._said_all else self._empty + 1
        if self._empty > EMPTY_MAX:
            raise ProtocolViolation(f"the target announced more text {self._empty} times and sent none")

    def _keep(self, data: bytes, *, more: bool) -> None:
        self._heard += len(data)
        if self._heard > TEXT_MAX:
            raise ProtocolViolation(f"the text has more than {TEXT_MAX} bytes")
        self._pairs.extend(self._assembler.add(data, more=more) or ())
        if len(self._pairs) > KEYS_MAX:
            raise ProtocolViolation(f"the text has more than {KEYS_MAX} keys")
