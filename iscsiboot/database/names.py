# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a node record is found by, and which text may become part of a path.

A record's place in the tree is its key: ``nodes/<target>/<address>,<port>,<tag>/<interface>``. Target names and
addresses come from the network, interface names from a command line, so every one passes :func:`check_component`
before it touches the file system: the peer's missing check here was CVE-2026-44943.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache

from iscsiboot.database.failure import DatabaseError
from iscsiboot.errors import ExitCode, quoted

NAME_MAX = 255
"""Bytes in one component of a path (limits.h)."""

_PLAIN = re.compile(r"[!-.0-~]{1,255}")
"""Names without a blank or a slash, which nearly all are: thousands are looked at."""

UNKNOWN_TAG = -1
"""The portal group tag of a record nobody has told one for."""


def check_component(text: str, what: str) -> str:
    """``text`` itself when it can be one component of a path, else DatabaseError (exit status 7) naming ``what``."""
    size = len(os.fsencode(text))
    if not text:
        problem = "it is empty"
    elif text in (".", ".."):
        problem = "it names a folder that is always there"
    elif "/" in text:
        problem = 'it contains "/"'
    elif size > NAME_MAX:
        problem = f"it has {size} bytes, at most {NAME_MAX} can be stored"
    elif any(char < " " or "\x7f" <= char <= "\x9f" for char in text):
        problem = "it contains a control character"
    else:
        return text
    raise DatabaseError(f"{what} {quoted(text)} cannot be stored: {problem}", exit_code=ExitCode.INVAL)


@lru_cache(1024)
def usable(text: str) -> bool:
    """Whether ``text`` can be one component of a path; if not, no record has that name."""
    if _PLAIN.fullmatch(text):
        return text not in (".", "..")
    try:
        check_component(text, "name")
    except DatabaseError:
        return False
    return True


class NodeKey:
    """One node record's place: target, portal and interface. Hashable; ordered as open-iscsi lists, by bytes."""

    __slots__ = ("address", "iface", "port", "target", "tpgt")

    def __init__(self, target: str, address: str, port: int, tpgt: int = UNKNOWN_TAG, iface: str = "default") -> None:
        self.target = target
        self.address = address
        self.port = port
        self.tpgt = tpgt
        """0 to 65535, or -1 while unknown: such a record is a file at the portal's place (old style)."""
        self.iface = iface

    @property
    def portal_dir(self) -> str:
        """``10.0.0.1,3260,1``; ``10.0.0.1,3260`` without a tag. IPv6 addresses stand without brackets."""
        portal = f"{self.address},{self.port}"
        return portal if self.tpgt < 0 else f"{portal},{self.tpgt}"

    @property
    def link_name(self) -> str:
        """What a discovery's symbolic link to this record is called."""
        return f"{self.target},{self.address},{self.port},{self.tpgt},{self.iface}"

    def checked(self) -> NodeKey:
        """The key itself when each part may become a path, else DatabaseError."""
        check_component(self.target, "target name")
        check_component(self.portal_dir, "portal")
        check_component(self.iface, "interface name")
        return self

    def _sort_key(self) -> tuple[bytes, bytes, bytes]:
        return os.fsencode(self.target), os.fsencode(self.portal_dir), os.fsencode(self.iface)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NodeKey):
            return NotImplemented
        return self._parts() == other._parts()

    def __lt__(self, other: NodeKey) -> bool:
        return self._sort_key() < other._sort_key()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[str, str, int, int, str]:
        return self.target, self.address, self.port, self.tpgt, self.iface

    def __repr__(self) -> str:
        return f"NodeKey({self.target!r}, {self.address!r}, {self.port}, {self.tpgt}, {self.iface!r})"


class Pattern:
    """Which records a command means: an empty text or a port of -1 means any. The tag is not compared, as in the peer.

    ``transport`` is a value of the record, not of its place: :meth:`matches` does not look at it, and
    ``Database.nodes`` does.
    """

    __slots__ = ("address", "iface", "port", "target", "tpgt", "transport")

    def __init__(
        self,
        target: str = "",
        address: str = "",
        port: int = -1,
        tpgt: int = UNKNOWN_TAG,
        iface: str = "",
        transport: str = "",
    ) -> None:
        self.target = target
        self.address = address
        self.port = port
        self.tpgt = tpgt
        """Kept for commands that create a record; never compared."""
        self.iface = iface
        self.transport = transport

    def matches(self, key: NodeKey) -> bool:
        """Whether ``key`` is meant."""
        return (
            self.target in ("", key.target)
            and self.address in ("", key.address)
            and self.port in (-1, key.port)
            and self.iface in ("", key.iface)
        )

    def __repr__(self) -> str:
        return f"Pattern({self.target!r}, {self.address!r}, {self.port}, {self.tpgt}, {self.iface!r})"


@lru_cache(1024)
def parse_portal_dir(text: str) -> tuple[str, int, int] | None:
    """``address,port[,tag]`` of a folder or file below a target as (address, port, tag or -1); None when it is not one.

    Split from the left: an address has no comma. Numbers are plain digits, as both programs write them, so that the
    name made again from the parts is the name that was read.
    """
    parts = text.split(",")
    if not 2 <= len(parts) <= 3 or not parts[0]:
        return None
    numbers = []
    for part in parts[1:]:
        if not (part.isascii() and part.isdigit() and len(part) <= 5 and (part == "0" or part[0] != "0")):
            return None
        numbers.append(int(part))
    return parts[0], numbers[0], numbers[1] if len(numbers) == 2 else UNKNOWN_TAG


def parse_link_name(text: str) -> NodeKey | None:
    """The record a discovery's link is for; None when the name is none of ours.

    A target name may hold commas (tgt allows it) and so may an interface name, an address may not. The name is read
    as the first split in which port and tag are numbers.
    """
    parts = text.split(",")
    for at in range(1, len(parts) - 3):
        port, tag = parts[at + 1], parts[at + 2]
        portal = (
            parse_portal_dir(f"{parts[at]},{port}") if tag == "-1" else parse_portal_dir(",".join(parts[at : at + 3]))
        )
        if portal is not None:
            return NodeKey(",".join(parts[:at]), *portal, ",".join(parts[at + 3 :]))
    return None


class Source:
    """Which discovery a node record came from, so that the record can be found and removed through it."""

    __slots__ = ("address", "kind", "port")

    def __init__(self, kind: str, address: str = "", port: int = 0) -> None:
        self.kind = kind
        """``sendtargets``, ``isns``, ``static`` or ``fw``."""
        self.address = address
        self.port = port

    def __repr__(self) -> str:
        return f"Source({self.kind!r}, {self.address!r}, {self.port})"
