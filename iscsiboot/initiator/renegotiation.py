# SPDX-License-Identifier: LGPL-2.1-or-later
"""Negotiation in full feature phase: what may still be said there, and what it changes (RFC 7143 sections 6.2 and 13).

Only keys of use ALL may be sent after login; MaxRecvDataSegmentLength is the one that changes anything. A key whose
time was the login is answered with Reject and the agreed value stays, which is what section 7.12 asks of a negotiation
that fails: the session goes on with what it had. SendTargets is a question and no negotiation: it is discovery's.

A target cannot begin. It asks for a negotiation by an asynchronous message and then makes its offers in the answers to
our text requests, so the machine that sends those calls :meth:`TextNegotiation.offer` once and
:meth:`TextNegotiation.take` for each whole text that comes back; the pairs it returns are the next request.
"""

from __future__ import annotations

from dataclasses import replace

from iscsiboot.errors import quoted
from iscsiboot.initiator.errors import Misuse, ProtocolViolation
from iscsiboot.initiator.keys import CONSTANTS, IRRELEVANT, KEYS, NOT_UNDERSTOOD, REJECT, REPEATABLE, Sender, Use
from iscsiboot.initiator.negotiation import Negotiated, check_value, relevant
from iscsiboot.initiator.text import KEYS_MAX, Pairs, parse_number

_OURS = frozenset({Sender.INITIATOR, Sender.BOTH})


class TextNegotiation:
    """One negotiation after login.

    ``max_xmit`` is the caller's own limit of what it sends, in bytes, 0 for none, as in ``SessionParams``.
    """

    def __init__(self, negotiated: Negotiated, *, max_xmit: int = 0, discovery: bool = False) -> None:
        self.negotiated = negotiated
        """What holds now. A segment length we offered holds from the answer on: until then the target may send either
        size, so receive with the larger."""
        self.answers: dict[str, str] = {}
        """What the target said to the keys we offered, constants too; extension keys are the caller's to judge."""
        self._max_xmit = max_xmit
        self._discovery = discovery
        self._offered: dict[str, str] | None = None
        self._seen: set[str] = set()

    def offer(self, pairs: Pairs = ()) -> Pairs:
        """The first text: ``pairs``, or nothing when it is the target that wants something.

        :class:`Misuse` when it was called before, or for a key no initiator may send after login.
        """
        if self._offered is not None:
            raise Misuse("offer(): this negotiation has begun")
        for name, value in pairs:
            spec = KEYS.get(name)
            if spec is None:
                continue
            if name == "SendTargets" or spec.use not in (Use.ALL, Use.FULL_FEATURE) or spec.sender not in _OURS:
                raise Misuse(f"offer(): {name} is not negotiated in full feature phase")
            if spec.numeric:
                check_value(spec, value)
        self._offered = dict(pairs)
        return pairs

    def take(self, pairs: Pairs) -> Pairs:
        """Take a whole text of the target; the answers that are due, nothing when it is content.

        :class:`ProtocolViolation` for what cannot be answered: the connection is of no use then.
        """
        if self._offered is None:
            raise Misuse("take(): this negotiation has not begun")
        owed: list[tuple[str, str]] = []
        for name, value in pairs:
            if name in self._seen and name not in REPEATABLE:
                raise ProtocolViolation(f"the target sent the key {quoted(name)} twice in one negotiation")
            self._seen.add(name)
            if len(self._seen) > KEYS_MAX:
                raise ProtocolViolation(f"the target sent more than {KEYS_MAX} keys in one negotiation")
            answer = self._take_one(name, value)
            if answer is not None:
                owed.append((name, answer))
        own = self._offered.pop("MaxRecvDataSegmentLength", None)
        if own is not None and self.answers.get("MaxRecvDataSegmentLength") not in CONSTANTS:
            self.negotiated = replace(self.negotiated, max_recv_data_segment_length=parse_number(own))
        return tuple(owed)

    def _take_one(self, name: str, value: str) -> str | None:
        if self._offered is not None and name in self._offered:
            self.answers[name] = value
        if value in CONSTANTS:
            return None
        spec = KEYS.get(name)
        if spec is None:
            return None if name in self.answers else NOT_UNDERSTOOD
        if spec.sender is Sender.INITIATOR:
            raise ProtocolViolation(f"the target sent {name}, which only an initiator may send here")
        if not relevant(spec, self._discovery):
            return IRRELEVANT
        if spec.use is not Use.ALL:
            return REJECT
        check_value(spec, value)
        if name == "MaxRecvDataSegmentLength":
            size = parse_number(value)
            limit = min(size, self._max_xmit) if self._max_xmit else size
            self.negotiated = replace(self.negotiated, max_xmit_data_segment_length=limit)
        return None
