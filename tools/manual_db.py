# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsiboot-db(8): prose here; options, statuses, findings and the JSON document from iscsiboot/admin/db_command.py."""

from __future__ import annotations

import re

from iscsiboot.admin.db_command import DOCUMENT, FINDING, KINDS, OPTIONS, STATUSES
from tools.manual_roff import bold, italic, item, literal, page, paragraphs, section, subsection

DESCRIPTION = """
Reads every record *iscsiadm*(8) and open-iscsi keep (nodes, discoveries, interfaces, and the links between them), and
tells what is not as it should be, a line for each finding and one with the count. Without *--root* the configuration,
*iscsid.conf*(5) and {initiatorname.iscsi}, is looked at too. Without *--fix* nothing is changed, and the database may
be on a disk that is mounted read-only.

With *--fix* no record that can be read is lost. What is no record is moved to {.iscsiboot/damaged} below the root and
never deleted. What needs a decision, such as two records that contradict each other, is left and told. Programs that
write at the same time wait; those that read do not.
"""

JSON = """
With *--json* standard output holds one document. Every text in it is printable: what is not, or is no UTF-8, is escaped
as \\x1b. Its members:
"""

EXAMPLES: tuple[tuple[str, str], ...] = (
    ("iscsiboot db check", "Is this machine's database in order?"),
    ("iscsiboot db check --fix", "Mend what is safe to mend, then look at what is left."),
    ("iscsiboot db check --root /mnt/etc/iscsi", "The database of a disk that is mounted in a rescue system."),
    (
        "iscsiboot db check --json | jq -r '.findings[] | select(.note == false) | .path'",
        "Files that need somebody.",
    ),
)
"""Command line -> what it does."""


def db_page() -> str:
    """The whole page."""
    synopsis = bold("iscsiboot db check")
    for name, value, _ in OPTIONS:
        synopsis += f" [{bold(name)}" + (f" {italic(value)}]" if value else "]")
    return page(
        "ISCSIBOOT-DB",
        8,
        [
            section("NAME", [literal("iscsiboot-db") + " \\- " + literal("is the iSCSI record database in order")]),
            section("SYNOPSIS", [synopsis]),
            section("DESCRIPTION", paragraphs(DESCRIPTION)),
            section("OPTIONS", *(_option(*row) for row in OPTIONS)),
            section("FINDINGS", *(item(bold(kind), _marked(text)) for kind, text in KINDS.items())),
            section("EXIT STATUS", *(item(bold(str(int(code))), _marked(text)) for code, text in STATUSES.items())),
            section(
                "JSON",
                paragraphs(JSON),
                *(item(bold(name), _marked(text)) for name, text in DOCUMENT),
                subsection("Each finding", *(item(bold(name), _marked(text)) for name, text in FINDING)),
            ),
            section("EXAMPLES", *(item(bold(line), text) for line, text in EXAMPLES)),
            section("SEE ALSO", paragraphs("*iscsiadm*(8), *iscsid.conf*(5)")),
        ],
        source="iscsiboot/admin/db_command.py and tools/manual_db.py",
    )


def _option(name: str, value: str, meaning: str) -> list[str]:
    head = bold(name) + (f" {italic(value)}" if value else "")
    return item(head, _marked(f"{meaning[:1].upper()}{meaning[1:]}."))


def _marked(text: str) -> str:
    """The text of a table with its options in bold."""
    return re.sub(r"--[a-z]+", r"*\g<0>*", text)
