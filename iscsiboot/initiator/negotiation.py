# SPDX-License-Identifier: LGPL-2.1-or-later
"""Operational negotiation: what we offer, what an answer means, how an offer is answered, what holds in the end.

Rules (RFC 7143 section 6.2), applied by the table in :mod:`iscsiboot.initiator.keys`:

* an answer must be what the key's rule makes of both values. One that is not is remarked, and what the rule makes of
  it holds: never more than we offered, so nothing can go wrong by it. open-iscsi takes any answer, and targets are
  known only to have met that; DefaultTime2Retain=20 to our 0 is no reason not to boot. A digest we did not offer, more
  connections than one and another recovery level are protocol errors there and here;
* an offer that is not answered, or answered with NotUnderstood, Irrelevant or Reject, settles on what the rule makes of
  our offer and the RFC's default: never more than either side can do;
* a key is settled once; the attempt to settle it again is a protocol error (section 6.3);
* a key the target offers and we did not is answered by its row (:func:`answer`): an inadmissible value with Reject, a
  key that has no meaning here with Irrelevant, a name without a row with NotUnderstood.

What is offered, and in which order, is open-iscsi's: targets in the field have met exactly that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from iscsiboot.errors import quoted
from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.keys import (
    CONSTANTS,
    IRRELEVANT,
    KEYS,
    NO,
    NONE,
    NOT_UNDERSTOOD,
    REJECT,
    YES,
    KeySpec,
    Kind,
    Relevance,
    Scope,
    Sender,
    Use,
)
from iscsiboot.initiator.text import Pairs, parse_binary, parse_number
from iscsiboot.model.params import SessionParams

_BINARY_NUMBER_BYTES = 8
_SESSION_DEFAULTS = {
    name: spec.default for name, spec in KEYS.items() if spec.scope is Scope.SESSION and spec.default is not None
}
_RULE_WORDS = {
    Kind.MINIMUM: "the smaller value",
    Kind.MAXIMUM: "the larger value",
    Kind.AND: "Yes only when both say Yes",
    Kind.OR: "No only when both say No",
    Kind.LIST: "one of the offered values",
}
_BINDING = frozenset({"MaxConnections", "ErrorRecoveryLevel"})
"""Keys whose wrong answer says that the target has another kind of session in mind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Negotiated:
    """What both sides agreed on; what the kernel gets as session and connection parameters. Sizes in bytes."""

    header_digest: bool = False
    """CRC32C over every header."""
    data_digest: bool = False
    initial_r2t: bool
    immediate_data: bool
    max_burst_length: int
    first_burst_length: int
    """Never larger than ``max_burst_length``."""
    max_outstanding_r2t: int
    max_recv_data_segment_length: int = 8192
    """What we declared."""
    max_xmit_data_segment_length: int = 8192
    """What the target declared, cut to the caller's own limit when there is one."""
    default_time2wait: int
    """Seconds, as the next."""
    default_time2retain: int
    error_recovery_level: int
    max_connections: int
    data_pdu_in_order: bool
    data_sequence_in_order: bool


def boolean(value: bool) -> str:
    """``Yes`` or ``No``."""
    return YES if value else NO


def offer(params: SessionParams, *, discovery: bool = False, leading: bool = True) -> Pairs:
    """The operational keys in open-iscsi's order, markers refused as every driver today does.

    ``leading`` says that the connection is the first of its session: what the session agreed on is not offered again.
    """
    pairs = (
        ("HeaderDigest", params.header_digest.value),
        ("DataDigest", params.data_digest.value),
        ("DefaultTime2Wait", str(params.default_time2wait)),
        ("DefaultTime2Retain", str(params.default_time2retain)),
        ("IFMarker", NO),
        ("OFMarker", NO),
        ("ErrorRecoveryLevel", "0"),
        ("InitialR2T", boolean(params.initial_r2t)),
        ("ImmediateData", boolean(params.immediate_data)),
        ("MaxBurstLength", str(params.max_burst_length)),
        ("FirstBurstLength", str(params.first_burst_length)),
        ("MaxOutstandingR2T", str(params.max_outstanding_r2t)),
        ("MaxConnections", "1"),
        ("DataPDUInOrder", YES),
        ("DataSequenceInOrder", YES),
        ("MaxRecvDataSegmentLength", str(params.max_recv_data_segment_length)),
    )
    return tuple(
        (name, value)
        for name, value in pairs
        if relevant(KEYS[name], discovery) and (leading or KEYS[name].use is not Use.LEADING)
    )


def relevant(spec: KeySpec, discovery: bool) -> bool:
    """Whether the key means anything in a session of this type."""
    return spec.relevance is Relevance.ALWAYS or (spec.relevance is Relevance.NORMAL and not discovery)


def number_of(spec: KeySpec, value: str) -> int:
    """The number a numeric key is given, in or out of its range; :class:`ProtocolViolation` when it is none."""
    if spec.kind is Kind.BINARY and value[:2] in ("0b", "0B"):
        return int.from_bytes(parse_binary(value, _BINARY_NUMBER_BYTES), "big")
    return parse_number(value)


def check_value(spec: KeySpec, value: str) -> None:
    """Whether ``value`` is legal for the key at all; :class:`ProtocolViolation` says why not."""
    if spec.numeric:
        number = number_of(spec, value)
        if not spec.low <= number <= spec.high:
            raise ProtocolViolation(f"{spec.name}={quoted(value)} is outside {spec.low} to {spec.high}")
    elif spec.kind in (Kind.AND, Kind.OR) and value not in (YES, NO):
        raise ProtocolViolation(f"{spec.name}={quoted(value)} is neither Yes nor No")


def combine(spec: KeySpec, proposed: str, responded: str) -> str | None:
    """What the key's rule makes of an offer and the other side's value; None when a list has nothing in common.

    Both are legal values of a negotiated key, except that ``proposed`` is a comma-separated list for a list key.
    """
    if spec.kind is Kind.MINIMUM:
        return str(min(parse_number(proposed), parse_number(responded)))
    if spec.kind is Kind.MAXIMUM:
        return str(max(parse_number(proposed), parse_number(responded)))
    if spec.kind is Kind.AND:
        return boolean(proposed == YES and responded == YES)
    if spec.kind is Kind.OR:
        return boolean(proposed == YES or responded == YES)
    return responded if responded in proposed.split(",") else None


def answer(spec: KeySpec, offered: str) -> str:
    """Our answer to a negotiated key the target offers and we did not: our value is the RFC's default.

    Reject for a value that is not legal for the key, and for a list without anything we have (section 6.2).
    """
    if spec.kind is Kind.OBSOLETE:
        return REJECT
    if spec.kind is Kind.LIST:
        return next((item for item in offered.split(",") if item in spec.choices), REJECT)
    try:
        check_value(spec, offered)
    except ProtocolViolation:
        return REJECT
    return combine(spec, offered, spec.default or "") or REJECT


def _check_constant(spec: KeySpec, value: str) -> None:
    """NotUnderstood, Irrelevant or Reject for a key that is not up for negotiation."""
    # A target that knows no InitiatorAlias, or likes none, loses nothing; without a name there is no session.
    if value == REJECT and spec.sender is Sender.INITIATOR and spec.name != "InitiatorAlias":
        raise ProtocolViolation(f"the target rejects our {spec.name}")
    if spec.sender is Sender.TARGET:
        raise ProtocolViolation(f"the target declared {spec.name}={value}, which is an answer and no value")


class OperationalNegotiation:
    """One negotiation: offers once, takes the target's keys one by one, gives the result.

    ``session`` is what holds in the session this connection joins; None when it is the session's first.
    """

    def __init__(self, params: SessionParams, *, discovery: bool = False, session: Negotiated | None = None) -> None:
        self._params = params
        self._discovery = discovery
        self._session = session
        self.offer = offer(params, discovery=discovery, leading=session is None)
        """What is sent, once."""
        self._offered = dict(self.offer)
        self._settled: dict[str, str] = {}
        self._declared: dict[str, str] = {}
        self.remarks: list[str] = []
        """Answers that do not follow the rule of their key, at most one for each key we offered."""

    def declared(self, name: str) -> str | None:
        """What the target declared for a key that is told, not negotiated."""
        return self._declared.get(name)

    def take(self, name: str, value: str) -> str | None:
        """Take one key of the target; the value to answer it with, None when no answer is due.

        The caller sees to it that no key comes twice. :class:`ProtocolViolation` for an illegal or inadmissible value.
        """
        spec = KEYS.get(name)
        if spec is None:
            # An answer to a key we never sent would be answered again by a peer as confused as that: end it here.
            return None if value in CONSTANTS else NOT_UNDERSTOOD
        if name in self._offered and not spec.declared:
            self._settle(spec, value)
            return None
        if value in CONSTANTS:
            _check_constant(spec, value)
            return None
        if spec.sender is Sender.INITIATOR:
            raise ProtocolViolation(f"the target sent {name}, which only an initiator may send")
        if spec.declared:
            if relevant(spec, self._discovery):
                check_value(spec, value)
                self._declared[name] = value
            return None
        if not relevant(spec, self._discovery):
            return IRRELEVANT
        if spec.use is Use.LEADING and self._session is not None:
            return REJECT
        return answer(spec, value)

    def _settle(self, spec: KeySpec, value: str) -> None:
        proposed = self._offered[spec.name]
        if value in CONSTANTS:
            self._settled[spec.name] = self._unanswered(spec, value)
            return
        check_value(spec, value)
        result = combine(spec, proposed, value)
        # Compared as values: a target may write 8192 as 0x2000.
        if result is None or (parse_number(result) != parse_number(value) if spec.numeric else result != value):
            odd = f"the target answered {spec.name}={quoted(value)} to our {proposed}, "
            odd += f"the rule is {_RULE_WORDS[spec.kind]}"
            if result is None or spec.name in _BINDING:
                raise ProtocolViolation(odd, hint=_advice(spec, proposed))
            self.remarks.append(f"{odd}: {result} holds")
        self._settled[spec.name] = result

    def _unanswered(self, spec: KeySpec, how: str) -> str:
        """The value of a key that got no value in return."""
        result = combine(spec, self._offered[spec.name], spec.default or "")
        if result is None:
            raise ProtocolViolation(
                f"{spec.name}={self._offered[spec.name]} is demanded and the target's answer is: {how}",
                hint=_advice(spec, self._offered[spec.name]),
            )
        return result

    def finish(self) -> Negotiated:
        """The result, once the target has agreed to full feature phase."""
        value = {
            name: self._settled.get(name) or self._unanswered(KEYS[name], "none")
            for name in self._offered
            if not KEYS[name].declared
        }
        max_xmit = parse_number(self._declared.get("MaxRecvDataSegmentLength", "8192"))
        if self._params.max_xmit_data_segment_length:
            max_xmit = min(max_xmit, self._params.max_xmit_data_segment_length)
        return replace(
            self._session or _session_wide(value),
            header_digest=value["HeaderDigest"] == "CRC32C",
            data_digest=value["DataDigest"] == "CRC32C",
            max_recv_data_segment_length=self._params.max_recv_data_segment_length,
            max_xmit_data_segment_length=max_xmit,
        )


def _advice(spec: KeySpec, proposed: str) -> str:
    """What to do about an answer we cannot live with."""
    if spec.kind is Kind.LIST and NONE not in proposed.split(","):
        return f"allow None for {spec.name}, or switch it on at the target"
    return f"compare {spec.name} here with what the target allows"


def _session_wide(settled: dict[str, str]) -> Negotiated:
    """What the leading connection agreed on for its session; a key that was not negotiated has its default."""
    value = _SESSION_DEFAULTS | settled
    max_burst_length = int(value["MaxBurstLength"])
    return Negotiated(
        initial_r2t=value["InitialR2T"] == YES,
        immediate_data=value["ImmediateData"] == YES,
        max_burst_length=max_burst_length,
        # Each is negotiated by itself, so a target can leave the first burst above the burst (section 13.14
        # forbids that). The sender is us: sending less is always allowed.
        first_burst_length=min(int(value["FirstBurstLength"]), max_burst_length),
        max_outstanding_r2t=int(value["MaxOutstandingR2T"]),
        default_time2wait=int(value["DefaultTime2Wait"]),
        default_time2retain=int(value["DefaultTime2Retain"]),
        error_recovery_level=int(value["ErrorRecoveryLevel"]),
        max_connections=int(value["MaxConnections"]),
        data_pdu_in_order=value["DataPDUInOrder"] == YES,
        data_sequence_in_order=value["DataSequenceInOrder"] == YES,
    )
