# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsid.conf(5): the file's form in prose, its settings from iscsiboot/database/keys.py."""

from __future__ import annotations

from iscsiboot.database.key import Key
from tools.manual_roff import bold, item, literal, page, paragraphs, section, subsection
from tools.settings import INTERFACE, grouped

DESCRIPTION = """
The settings new records of *iscsiadm*(8) begin with, and those of the daemon. The file may be missing: then the
defaults below hold.

A record keeps the settings it was made with. Changing this file changes none of them by itself; the next discovery of
the portal a record came from brings in what has changed here, except where somebody has set the record. To set one use

    iscsiadm -m node -T TARGET -o update -n NAME -v VALUE

or set it anew from this file by a discovery with *-o update*.
"""

FORM = """
Each line is {name} *=* {value}; blanks around both do not count. A line that begins with *#* is a comment. Of several
lines with one name the last counts, for names with *iscsid* the first. A name nobody knows is told and left out. A
value that cannot be meant is told with file, line, name and what the setting takes, and the default is used instead.
A number outside the range given here is used, as open-iscsi does, and told. *iscsiboot db check* tells all of it at
once.

The file may hold CHAP secrets and should be readable by root alone.
"""


def conf_page() -> str:
    """The whole page."""
    groups = grouped()
    return page(
        "ISCSID.CONF",
        5,
        [
            section("NAME", [literal("iscsid.conf") + " \\- " + literal("settings of iSCSI sessions")]),
            section("SYNOPSIS", [bold("/etc/iscsi/iscsid.conf")]),
            section("DESCRIPTION", paragraphs(DESCRIPTION)),
            section("FORM", paragraphs(FORM)),
            section(
                "SETTINGS",
                *(
                    subsection(
                        group.heading,
                        [literal(group.text)] if group.text else [],
                        *(_setting(key) for key in keys),
                    )
                    for group, keys in groups
                ),
            ),
            section(
                "INTERFACES",
                [literal("Settings of interface records, changed by "), bold("iscsiadm -m iface -o update") + "."],
                [literal("Software iSCSI (tcp) uses the first ones; the rest configures adapters that carry iSCSI.")],
                *(_setting(key) for key in INTERFACE),
            ),
            section("FILES", item(bold("/etc/iscsi/iscsid.conf"), "The file.")),
            section("SEE ALSO", paragraphs("*iscsiadm*(8), *iscsi-iname*(8), *iscsiboot-db*(8)")),
        ],
        source="iscsiboot/database/keys.py and tools/manual_conf.py",
    )


def _setting(key: Key) -> list[str]:
    """Name, meaning, values and default of one key."""
    said = [literal(key.meaning)]
    facts = [f"Takes {key.allowed}"]
    if key.family:
        facts.append(f"IPv{key.family} only")
    if key.default:
        facts.append(f"default {key.default}")
    if key.shipped is not None and key.shipped != key.default:
        facts.append(f"the installed file has {key.shipped}")
    if key.since:
        facts.append(f"since open-iscsi {key.since}")
    return [".TP", bold(key.name), *said, literal("; ".join(facts) + ".")]
