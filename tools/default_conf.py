# SPDX-License-Identifier: LGPL-2.1-or-later
"""The iscsid.conf that is installed: every setting with its meaning; set are those Debian's open-iscsi sets, alike."""

from __future__ import annotations

import textwrap

from iscsiboot.database.key import Key
from tools.settings import example, grouped

WIDTH = 98
HEAD = """\
# Settings of iscsiadm and iscsid, see iscsid.conf(5). Made from iscsiboot/database/keys.py.
#
# Records are made with these settings. To change a record that exists:
#     iscsiadm -m node -T TARGET -o update -n NAME -v VALUE
# `iscsiboot db check` tells what is wrong with this file. It may hold secrets, so let nobody but
# root read it.
"""


def default_conf() -> str:
    """The whole file."""
    parts = [HEAD]
    for group, keys in grouped():
        bar = "#" * (len(group.heading) + 4)
        block = f"{bar}\n# {group.heading} #\n{bar}\n"
        parts.append(block + (_comment(group.text) + "\n" if group.text else ""))
        parts += [_entry(key) for key in keys]
    return "\n".join(parts)


def _comment(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False))


def _entry(key: Key) -> str:
    """The comment and the line of one setting."""
    said = [key.meaning, f"It takes {key.allowed}."]
    if key.shipped is None and key.default:
        said.append(f"The default is {key.default}.")
    elif key.shipped is not None and key.shipped != key.default:
        said.append(f"Without this line it is {key.default}." if key.default else "Without this line there is none.")
    if key.since:
        said.append(f"open-iscsi knows it since {key.since}.")
    return f"{_comment(' '.join(said))}\n{'' if key.shipped is not None else '#'}{key.name} = {example(key)}\n"
