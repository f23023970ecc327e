# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is wrong with a table, as values: every finding names the structure, the offset and the field."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FINDINGS_MAX = 200
"""More than this from one table is noise: a lying control structure can list 32,000 offsets."""


class Severity(Enum):
    """How much a finding matters."""

    ERROR = "error"
    """The value, the structure or the whole table is not used."""
    WARNING = "warning"
    """Against the specification, used nevertheless."""
    INFO = "info"
    """Worth knowing, harmless."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong. ``problem`` never holds a secret, and untrusted text in it is quoted."""

    severity: Severity
    structure: str
    """``header``, ``control``, ``initiator 0``, ``NIC 1``, ``target 0``, ``extensions 0``."""
    field: str
    problem: str
    offset: int | None = None
    """Bytes from the start of the table; None for a source that has no bytes (sysfs)."""

    def __str__(self) -> str:
        """``error: target 0, port, offset 0x1b2: ...``."""
        place = [self.structure, self.field] + ([] if self.offset is None else [f"offset {self.offset:#x}"])
        return f"{self.severity.value}: {', '.join(place)}: {self.problem}"


class FindingLog:
    """Collects findings in the order they are met, at most :data:`FINDINGS_MAX` and a line that says how many more."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._dropped = 0

    def add(self, severity: Severity, structure: str, field: str, problem: str, offset: int | None = None) -> None:
        """Note one finding."""
        if len(self._kept) >= FINDINGS_MAX:
            self._dropped += 1
            return
        self._kept.append(Finding(severity=severity, structure=structure, field=field, problem=problem, offset=offset))

    def error(self, structure: str, field: str, problem: str, offset: int | None = None) -> None:
        """Note something that is not used."""
        self.add(Severity.ERROR, structure, field, problem, offset)

    def warning(self, structure: str, field: str, problem: str, offset: int | None = None) -> None:
        """Note something used against the specification."""
        self.add(Severity.WARNING, structure, field, problem, offset)

    def info(self, structure: str, field: str, problem: str, offset: int | None = None) -> None:
        """Note something harmless."""
        self.add(Severity.INFO, structure, field, problem, offset)

    def about(self, structure: str, field: str) -> bool:
        """Whether something is known about a field, so that its consequences need not be told too."""
        return any(finding.structure == structure and finding.field == field for finding in self._kept)

    def result(self) -> tuple[Finding, ...]:
        """Everything noted."""
        if not self._dropped:
            return tuple(self._kept)
        more = Finding(
            severity=Severity.ERROR,
            structure="table",
            field="findings",
            problem=f"{self._dropped} more findings are not listed",
        )
        return (*self._kept, more)
