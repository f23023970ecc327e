# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/compatibility.md from the table: ``python3 -m tests.qemu.admin.document >docs/compatibility.md``."""

from __future__ import annotations

import sys

from tests.qemu.admin.compare import ORDERS, RULES
from tests.qemu.admin.differences import AT_TERMINAL, ELSEWHERE, ROWS, Row, Why
from tests.qemu.admin.guest import SCRIPT
from tests.qemu.admin.steps import NATIVE, parse
from tests.qemu.harness.errors import CHECKOUT

DOCUMENT = CHECKOUT / "docs" / "compatibility.md"

_HEAD = """\
<!-- SPDX-License-Identifier: LGPL-2.1-or-later -->
<!-- Made by python3 -m tests.qemu.admin.document: change tests/qemu/admin/differences.py instead. -->
# iscsiadm beside open-iscsi's

The measure is Debian's open-iscsi 2.1.8. One script of {compared} commands in {sections} sections
(tests/qemu/admin/script.txt) runs first with Debian's iscsiadm, then with ours, against the same targets and from the
same database. The {guest} sections that make sessions run in a guest with the kernel, each round with the iscsid that
belongs to its iscsiadm; the others need neither and run in namespaces of the machine that tests. `make check-all` plays
all of them in one guest. Standard output, standard error, the exit status and every change of the database (names,
modes, text, links) are compared byte for byte, and so is what the kernel shows of each session in sysfs.
`tests/qemu/test_admin.py` fails for a difference that is not below, and for one
below that is no longer there.
"""

NUMBERS = (
    "numbers",
    "which of several logins at once gets the next session number, and which disk the next letter, is chance; sessions,"
    " hosts and disks are compared by what they stand for",
)
_EXEMPT = """
## What is not compared

"""


def text() -> str:
    """The whole document."""
    steps = parse(SCRIPT.read_text())
    sections = {step.section for step in steps}
    compared = sum(step.compared for step in steps)
    parts = [_HEAD.format(compared=compared, sections=len(sections), guest=len(sections - NATIVE))]
    for why in Why:
        rows = [row for row in ROWS if row.why is why]
        if rows:
            parts.append(f"\n## {why.value}\n")
            parts += [_paragraph(row) for row in rows]
    parts.append("\n## At a terminal\n")
    for name, reason in AT_TERMINAL:
        parts.append("\n".join(["", f"### {name}", "", *_wrapped(reason), ""]))
    parts.append("\n## Logins and discoveries\n")
    for name, reason in ELSEWHERE:
        parts.append("\n".join(["", f"### {name}", "", *_wrapped(reason), ""]))
    parts.append(_EXEMPT)
    for name, reason in [(rule.name, rule.why) for rule in (*RULES, *ORDERS)] + [NUMBERS]:
        parts += [f"{line}\n" for line in _wrapped(f"- {name}: {reason}.")]
    return "".join(parts)


def _paragraph(row: Row) -> str:
    return "\n".join(["", f"### {row.name}", "", *_wrapped(row.reason), ""])


def _wrapped(reason: str, width: int = 120) -> list[str]:
    lines: list[str] = []
    for word in reason.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def main() -> int:
    """Write the document to standard output."""
    sys.stdout.write(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
