# SPDX-License-Identifier: LGPL-2.1-or-later
"""The text of ``iscsiadm -h``, made from the table of options: one line for each mode, one for each option."""

from __future__ import annotations

from iscsiboot.admin.options import MODES, OPTIONS, Option

_ORDER = ("discoverydb", *(mode for mode in MODES if mode != "discoverydb"))
_COLUMN = 27


def _word(option: Option) -> str:
    """``[-p PORTAL]``, ``[-I IFACE]...``, ``[--json]``."""
    text = f"{option.spelled} {option.argument}".rstrip()
    return f"[{text}]..." if option.repeats else f"[{text}]"


def synopsis(mode: str) -> str:
    """``iscsiadm -m node [-p PORTAL] ...``: every option the mode takes, in the order of the table."""
    words = [_word(option) for option in OPTIONS if mode in option.modes and option.long not in ("mode", "value")]
    # A name without its value does nothing, so the two are shown as one.
    pair = "[-n NAME -v VALUE]..."
    return " ".join(["iscsiadm", "-m", mode, *(pair if word == "[-n NAME]..." else word for word in words)])


def help_lines() -> list[str]:
    """The whole text, a string for each line."""
    lines = [synopsis(mode) for mode in _ORDER]
    lines += ["iscsiadm -k 0", "iscsiadm -h | -V", ""]
    for option in OPTIONS:
        short = f"-{option.letter}, " if option.letter else "    "
        left = f"  {short}--{option.long}" + (f"={option.argument}" if option.argument else "")
        lines.append(f"{left:<{_COLUMN + 2}} {option.meaning}")
    return lines
