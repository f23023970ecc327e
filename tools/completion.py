# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the completions of all shells offer: options by mode, and the values of each.

Values that are the machine's own (targets, portals, interfaces, sessions) are looked up by the shell when it is asked;
everything else is in the product's tables and becomes a list in the script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iscsiboot.admin.options import MODES, OPERATIONS, OPTIONS, TYPES, Option
from iscsiboot.database.keys import BY_NAME, IFACE, ISNS, NODE, NODE_ALIASES, SENDTARGETS

OPERATIONS_OF: Mapping[str, Sequence[str]] = {
    "discovery": ("new", "delete", "update", "nonpersistent", "show"),
    "discoverydb": ("new", "delete", "update", "nonpersistent", "show"),
    "node": ("new", "delete", "update", "show"),
    "session": ("new", "delete", "update", "show"),
    "iface": ("new", "delete", "update", "show", "apply", "applyall"),
    "host": ("new", "delete", "update", "show", "login", "logout"),
    "fw": (),
}
"""The operations of each mode; tests hold that each is one of OPERATIONS, and that none is missing everywhere."""

SUBMODES_OF: Mapping[str, Sequence[str]] = {"iface": ("ping",), "host": ("chap", "flashnode", "stats")}

LEVELS_OF: Mapping[str, int] = {"discovery": 1, "discoverydb": 1, "node": 1, "session": 3, "iface": 1, "host": 4}
"""The highest print level."""

LOOKED_UP = ("portal", "targetname", "interface", "sid", "host")
"""Options whose values the shell finds on the machine."""

FREE = ("ip", "packetsize", "count", "interval", "index", "timeout")
"""Options whose values nobody can guess."""

FIXED: Mapping[str, Sequence[str]] = {
    "mode": MODES,
    "type": [word for word in TYPES if word != "slp"],
    "loginall": ("all", "manual", "automatic", "onboot"),
    "logoutall": ("all", "manual", "automatic"),
    "killiscsid": ("0",),
    "debug": [str(level) for level in range(9)],
    "portal_type": ("ipv4", "ipv6"),
}
"""Options with the same values in every mode."""

BY_MODE: Mapping[str, Mapping[str, Sequence[str]]] = {
    "op": OPERATIONS_OF,
    "submode": SUBMODES_OF,
    "print": {mode: [str(level) for level in range(high + 1)] for mode, high in LEVELS_OF.items()},
    "name": {
        "node": [*(key.name for key in NODE if not key.lookup), *NODE_ALIASES, "iface.transport_name"],
        "session": [key.name for key in NODE if not key.lookup],
        "fw": [key.name for key in NODE if not key.lookup],
        "iface": [key.name for key in IFACE if not key.lookup],
        "discoverydb": list(dict.fromkeys(key.name for key in (*SENDTARGETS, *ISNS) if not key.lookup)),
    },
}
"""Options whose values depend on the mode."""


def choices() -> dict[tuple[str, ...], list[str]]:
    """Values of ``-v`` -> the names they are for; what is no choice is not in it."""
    found: dict[tuple[str, ...], list[str]] = {}
    for key in BY_NAME.values():
        if not key.lookup and key.kind in ("enum", "list"):
            found.setdefault(key.choices, []).append(key.name)
    return found


def options_of(mode: str) -> list[Option]:
    """What may stand beside ``-m mode``; without a mode those that need none."""
    if not mode:
        return [option for option in OPTIONS if option.modes >= set(MODES) or not option.modes]
    return [option for option in OPTIONS if mode in option.modes and option.long != "mode"]


def check() -> None:
    """LookupError when an option with a value is in no list above: a new one needs a decision."""
    known = {*LOOKED_UP, *FREE, *FIXED, *BY_MODE, "value"}
    for option in OPTIONS:
        if option.takes_value and option.long not in known:
            raise LookupError(f"--{option.long} is in no list of tools/completion.py")
    if missing := set(OPERATIONS) - {word for words in OPERATIONS_OF.values() for word in words}:
        raise LookupError(f"no mode has the operation {', '.join(sorted(missing))}")
