# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of a target and of one logical unit, in which order, as generators without I/O.

A generator yields a :class:`~iscsiboot.initiator.scsi.Request`, takes the :class:`Answer` to it and returns a value;
``yield from`` joins them, and whoever drives one knows LUN, connection and clock. All of them go through :func:`ask`,
which retries what a fresh nexus has to be asked twice (unit attentions) and is the one place where an answer becomes
:class:`ScsiError`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator import scsi
from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.scsi import Capacity, Identifier, Inquiry, Request
from iscsiboot.initiator.scsi_sense import Decision, Sense, SenseKey, Status, decide, hint, may_pass, parse_sense
from iscsiboot.model.lun import Lun

T = TypeVar("T")
ASKED_MAX = 3
"""How often a list of LUNs is asked for again because it grew."""


class Answer(Protocol):
    """A finished command; :class:`iscsiboot.initiator.session_events.ScsiResult` is one."""

    @property
    def status(self) -> int:
        """SAM status."""

    @property
    def data(self) -> bytes:
        """What was read."""

    @property
    def sense(self) -> bytes:
        """Sense data without its length field."""


Steps = Generator[Request[Any], Answer, T]
"""A conversation with one logical unit that ends in a value."""


class ScsiError(IscsiBootError):
    """A command was answered, and not with what it was sent for. ``sense`` is None when the target gave none."""

    def __init__(
        self,
        cause: str,
        *,
        subject: str,
        hint: str = "",
        status: int = Status.GOOD,
        sense: Sense | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(
            cause,
            stage=Stage.DEVICE,
            subject=subject,
            hint=hint,
            exit_code=ExitCode.AGAIN if retryable else ExitCode.ERR,
            retryable=retryable,
        )
        self.status = status
        self.sense = sense

    @property
    def unsupported(self) -> bool:
        """The unit does not know the command, or a field of it: another way may do."""
        return self.sense is not None and self.sense.key == SenseKey.ILLEGAL_REQUEST and self.sense.asc in (0x20, 0x24)


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who a logical unit says it is."""

    inquiry: Inquiry
    serial: str = ""
    identifiers: tuple[Identifier, ...] = ()


def ask(request: Request[T], *, subject: str) -> Steps[T]:
    """One command, again as long as :func:`decide` says so. :class:`ScsiError` when it does not succeed."""
    attempt = 1
    while True:
        answer = yield request
        sense = parse_sense(answer.sense) if answer.status == Status.CHECK_CONDITION else None
        decision = decide(answer.status, sense, attempt=attempt)
        if decision is Decision.DONE:
            break
        if decision is Decision.FAILED:
            words = Status.words(answer.status)
            told = f"{words}, {sense.words}" if sense else words
            tries = f" ({attempt} times)" if attempt > 1 else ""
            raise ScsiError(
                f"{request.name} was answered with {told}{tries}",
                subject=subject,
                hint=hint(answer.status, sense),
                status=answer.status,
                sense=sense,
                retryable=may_pass(answer.status, sense),
            )
        attempt += 1
    try:
        return request.parse(answer.data[: request.length])
    except ProtocolViolation as violation:
        raise ScsiError(
            f"{request.name}: {violation.cause}",
            subject=subject,
            hint=violation.hint or "report this with the target's make and version",
        ) from violation


def list_luns(*, subject: str) -> Steps[tuple[Lun, ...]]:
    """The LUNs a target shows us. Sent to LUN 0, which always answers REPORT LUNS (SAM-5 section 4.7.5).

    A list longer than the space for it is asked for again with as much as it needs. A target without the command has
    LUN 0.
    """
    request = scsi.report_luns()
    try:
        found = yield from ask(request, subject=subject)
        for _ in range(ASKED_MAX):
            larger = scsi.report_luns(found.needed)
            if found.needed <= request.length or larger.length == request.length:
                break
            request = larger
            found = yield from ask(request, subject=subject)
    except ScsiError as error:
        if error.unsupported:
            return (Lun.from_number(0),)
        raise
    return found.luns


def identify(*, subject: str) -> Steps[Identity]:
    """INQUIRY, then serial number and names where the unit offers them; those are decoration and may be missing."""
    inquiry = yield from ask(scsi.inquiry(), subject=subject)
    if not inquiry.present:
        return Identity(inquiry=inquiry)
    pages = yield from _optional(scsi.vital_pages(), frozenset(), subject)
    serial = (yield from _optional(scsi.serial_number(), "", subject)) if 0x80 in pages else ""
    names = (yield from _optional(scsi.identification(), (), subject)) if 0x83 in pages else ()
    return Identity(inquiry=inquiry, serial=serial, identifiers=names)


def _optional(request: Request[T], otherwise: T, subject: str) -> Steps[T]:
    try:
        return (yield from ask(request, subject=subject))
    except ScsiError:
        return otherwise


def measure(*, subject: str) -> Steps[Capacity]:
    """The size of a disk: READ CAPACITY(10), and (16) when ten bytes do not reach."""
    capacity = yield from ask(scsi.read_capacity_10(), subject=subject)
    if capacity is None:
        capacity = yield from ask(scsi.read_capacity_16(), subject=subject)
    return capacity


def ready(*, subject: str) -> Steps[None]:
    """TEST UNIT READY, with the unit attentions of a fresh nexus taken."""
    yield from ask(scsi.test_unit_ready(), subject=subject)


def read_bytes(capacity: Capacity, offset: int, length: int, *, subject: str) -> Steps[bytes]:
    """``length`` bytes at ``offset``, cut at the disk's end, in commands of at most :data:`scsi.READ_MAX` bytes."""
    block = capacity.block_size
    end = min(offset + length, capacity.size)
    if offset < 0 or length < 0:
        raise ValueError("offset and length are not negative")
    if offset >= end:
        return b""
    first, last = offset // block, -(-end // block)
    step = max(1, scsi.READ_MAX // block)
    parts = []
    for lba in range(first, last, step):
        parts.append((yield from ask(scsi.read(lba, min(step, last - lba), block), subject=subject)))
    start = offset - first * block
    return b"".join(parts)[start : start + end - offset]
