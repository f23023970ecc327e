# SPDX-License-Identifier: LGPL-2.1-or-later
"""The answer to SendTargets, read as it comes (RFC 7143 appendix C): targets out, memory bounded whatever the length.

Rules, in the order they matter:

* A target is handed out as soon as the next one begins, so the parser holds one target, not the answer.
* What is wrong with one record is told and costs that record, at most; the rest of the answer is used. open-iscsi drops
  everything after the first bad entry, which hides a whole array behind one odd name.
* A name or address goes no further than a quoted piece of a :class:`RecordRefused` unless it passed its grammar.
* A target without any TargetAddress is served where it was asked for; one whose addresses were all refused is served
  nowhere: the portal that was asked is then not made up for it.
* Everything is counted against a limit: bytes of a pair, portals of a target, targets and bytes of the answer, refusals
  that are told. What is over a limit is counted and not kept.

Two records of one name that follow each other are one target: several targets repeat the name for each portal. A name
that comes again later is handed out again; whoever keeps a list has the names to compare with, this module has not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from iscsiboot.errors import quoted
from iscsiboot.initiator.errors import Misuse, ProtocolViolation
from iscsiboot.initiator.events import parse_target_address
from iscsiboot.initiator.keys import CONSTANTS
from iscsiboot.initiator.text import decode_pairs
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.names import InvalidName, check_target_name
from iscsiboot.model.portal import NamedPortal, Portal, on_link_of

ALL = "All"
"""The value of SendTargets that asks for every target of the portal's target node."""

PAIR_MAX = 1024
"""Bytes of one ``key=value``: a name has 223, an address 512 at most, and no other key matters here."""
PORTALS_MAX = 256
"""Portals of one target."""
TARGETS_MAX = 131_072
"""Targets of one answer."""
ANSWER_MAX = 64 << 20
"""Bytes of one answer: :data:`TARGETS_MAX` targets with the longest name and an address or two."""
REFUSALS_TOLD_MAX = 64
"""Refusals that are told one by one; the rest is counted."""

Where = Portal | NamedPortal


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetFound:
    """A discovery found a target."""

    tag: int
    """Of the discovery, as the call that started it gave it."""
    target: DiscoveredTarget


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordRefused:
    """Something in the answer is not used; the rest of it is."""

    tag: int
    cause: str
    """A whole clause, safe to print."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscoveryFinished:
    """The answer is complete."""

    tag: int
    found: int
    """Targets handed out."""
    refused: int
    """Names, addresses and pairs not used, those included that were not told one by one."""


def question(what: str, *, discovery: bool, own: str) -> tuple[str, str | None]:
    """The value of SendTargets for ``what``, and the only name that may come back (None: any).

    ``what`` is ``All`` in a ``discovery`` session, nothing in a normal one (its ``own`` target is meant), or the name
    of a target in either; :class:`Misuse` for anything else.
    """
    if what == ALL:
        if not discovery:
            raise Misuse("SendTargets=All belongs to discovery sessions (RFC 7143 appendix C)")
        return ALL, None
    if not what:
        if discovery:
            raise Misuse("an empty SendTargets asks for the target of a session, and a discovery session has none")
        return "", own.lower()
    try:
        name = check_target_name(what)
    except InvalidName as invalid:
        raise Misuse(f"SendTargets={quoted(what)}: {invalid}") from None
    return name, name


class _At(Enum):
    START = "before the first TargetName"
    TARGET = "in a target"
    REFUSED = "in a target whose name was refused"


class SendTargetsParser:
    """One answer. ``asked`` is the portal the question went to, ``expected`` the only name that may come.

    :meth:`feed` raises :class:`ProtocolViolation` when the answer as a whole is past :data:`ANSWER_MAX`.
    """

    def __init__(self, asked: Where, *, tag: int = 0, expected: str | None = None) -> None:
        self._asked = asked
        self._tag = tag
        self._expected = expected
        self._out: list[DiscoveredTarget | RecordRefused] = []
        self._pending = bytearray()
        self._length = 0
        self._taken = 0
        self._finished = False
        self._at = _At.START
        self._name = ""
        self._portals: dict[Where, None] = {}
        self._useless = False
        self._crowded = False
        self._overflowing = False
        self._known: dict[str, Where] = {}
        self._found = 0
        self._refused = 0
        self._told = 0

    @property
    def found(self) -> int:
        """Targets handed out so far."""
        return self._found

    @property
    def refused(self) -> int:
        """Refusals so far, told or not."""
        return self._refused

    @property
    def pending(self) -> int:
        """Bytes kept of a pair that is not complete, at most :data:`PAIR_MAX`."""
        return len(self._pending)

    def feed(self, data: bytes, final: bool) -> list[DiscoveredTarget | RecordRefused]:
        """Take the next part of the answer, cut anywhere; what became complete by it. ``final``: nothing follows."""
        if self._finished:
            raise Misuse("the answer to SendTargets is complete")
        self._taken += len(data)
        if self._taken > ANSWER_MAX:
            raise ProtocolViolation(
                f"the answer to SendTargets is not over after {ANSWER_MAX} bytes",
                hint="ask for one target by its name, or suspect who answers there",
            )
        # Runs of NUL, and a last pair without its own, are tolerated here as in every text.
        begin = 0
        while (end := data.find(b"\0", begin)) >= 0:
            self._keep(data[begin:end])
            self._end_pair()
            begin = end + 1
        self._keep(data[begin:])
        if final:
            self._finished = True
            self._end_pair()
            self._end_record()
        out, self._out = self._out, []
        return out

    def _keep(self, piece: bytes) -> None:
        self._length += len(piece)
        self._pending += piece[: PAIR_MAX - len(self._pending)]

    def _end_pair(self) -> None:
        if not self._length:
            return
        item, length = bytes(self._pending), self._length
        self._pending.clear()
        self._length = 0
        key = item.partition(b"=")[0]
        if key == b"TargetName":
            self._begin_record(item, length)
        elif key == b"TargetAddress":
            self._add_portal(item, length)
        else:
            self._pass_over(item, length)

    # One method per kind of pair.

    def _begin_record(self, item: bytes, length: int) -> None:
        try:
            name = self._checked_name(_value(item, length))
        except ProtocolViolation as violation:
            self._end_record()
            self._at = _At.REFUSED
            self._refuse(violation.cause)
            return
        if self._at is _At.TARGET and name.lower() == self._name.lower():
            return
        self._end_record()
        self._at, self._name = _At.TARGET, name

    def _checked_name(self, value: str) -> str:
        try:
            name = check_target_name(value)
        except InvalidName as invalid:
            raise ProtocolViolation(f"TargetName={quoted(value)} is no target's name: {invalid}") from None
        if self._expected is not None and name.lower() != self._expected.lower():
            raise ProtocolViolation(f"the target named {quoted(name)}, asked for was {quoted(self._expected)}")
        return name

    def _add_portal(self, item: bytes, length: int) -> None:
        if self._at is _At.REFUSED:
            return
        if self._at is _At.START:
            self._refuse(f"{quoted(item)} came before any TargetName")
            return
        if len(self._portals) == PORTALS_MAX:
            self._refuse(f"{quoted(self._name)}: more than {PORTALS_MAX} portals", tell=not self._crowded)
            self._crowded = True
            return
        try:
            self._portals[self._portal(_value(item, length))] = None
        except ProtocolViolation as violation:
            self._useless = True
            self._refuse(f"{quoted(self._name)}: {violation.cause}")

    def _portal(self, value: str) -> Where:
        """The portal an address stands for. An array names the same few portals for thousands of targets."""
        portal = self._known.get(value)
        if portal is None:
            portal = self._scoped(parse_target_address(value))
            if len(self._known) == PORTALS_MAX:
                self._known.clear()
            self._known[value] = portal
        return portal

    def _scoped(self, portal: Where) -> Where:
        if not (isinstance(portal, Portal) and isinstance(self._asked, Portal)):
            return portal
        return replace(portal, address=on_link_of(portal.address, self._asked.address))

    def _pass_over(self, item: bytes, length: int) -> None:
        """A key without a meaning here is ignored, as section 6.1 asks of declarations; a broken pair is told."""
        try:
            value = _value(item, length)
        except ProtocolViolation as violation:
            self._refuse(violation.cause)
            return
        if item.startswith(b"SendTargets=") and value in CONSTANTS:
            self._refuse(f"the target answered SendTargets={value}: it does not serve this kind of discovery")

    # Ends of records, and refusals.

    def _end_record(self) -> None:
        """Hand the target out."""
        if self._at is _At.TARGET:
            if self._found == TARGETS_MAX:
                self._refuse(f"more than {TARGETS_MAX} targets", tell=not self._overflowing)
                self._overflowing = True
            elif self._portals or not self._useless:
                self._found += 1
                portals = tuple(self._portals) or (self._asked,)
                self._out.append(DiscoveredTarget(name=self._name, portals=portals))
            else:
                self._refuse(f"{quoted(self._name)}: none of its addresses can be used")
        self._portals.clear()
        self._useless = self._crowded = False

    def _refuse(self, cause: str, *, tell: bool = True) -> None:
        self._refused += 1
        if tell and self._told < REFUSALS_TOLD_MAX:
            self._told += 1
            more = "; further refusals are only counted" if self._told == REFUSALS_TOLD_MAX else ""
            self._out.append(RecordRefused(tag=self._tag, cause=f"{cause}{more}"))


def _value(item: bytes, length: int) -> str:
    """The value of a pair of which ``item`` was kept; :class:`ProtocolViolation` unless it is a well-formed one."""
    if length > len(item):
        raise ProtocolViolation(f"the pair {quoted(item)} has {length} bytes, at most {PAIR_MAX} are looked at")
    ((_, value),) = decode_pairs(item)
    return value
