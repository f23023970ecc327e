# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two meanings kept apart: the boot under test failed, or the harness could not do its job.

A test that expects a boot to fail catches :class:`BootFailed` only; a :class:`HarnessError` always ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
"""The project's top directory."""


class HarnessError(Exception):
    """The laboratory broke: a program is missing, QEMU does not start, a disk cannot be built. The text is one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What is left of a boot that failed."""

    case: str
    """The case's name: ``python3 -m tests.qemu.replay CASE`` runs it again."""
    log: Path
    """The whole serial console."""
    lines: tuple[str, ...]
    """All of its lines, without terminal escapes."""
    tail: tuple[str, ...]
    """The last lines, one without an end included."""
    seconds: float
    """From power-on to the failure."""
    verdict: bool
    """Whether the booted root reported at all."""


class BootFailed(Exception):
    """The machine did not reach the verdict. Prints the last lines, how to replay it and where the console log is."""

    def __init__(self, cause: str, evidence: Evidence) -> None:
        super().__init__(cause)
        self.cause = cause
        self.evidence = evidence

    def __str__(self) -> str:
        lines = [f"boot {self.evidence.case} failed: {self.cause}", *(f"  | {line}" for line in self.evidence.tail)]
        lines.append(f"replay:  cd {CHECKOUT} && /usr/bin/python3 -m tests.qemu.replay {self.evidence.case}")
        lines.append(f"console: {self.evidence.log}")
        return "\n".join(lines)
