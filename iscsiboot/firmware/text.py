# SPDX-License-Identifier: LGPL-2.1-or-later
"""Texts of sysfs and the device tree to the values an iBFT's structures hold. All raise ValueError for other text."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, ip_address

from iscsiboot.ibft.structures import STRING_MAX, decode_address
from iscsiboot.model.credentials import Secret
from iscsiboot.model.portal import IpAddress

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_DIGITS_MAX = 10
"""Decimal digits worth converting; the largest number here has five."""


def number_up_to(largest: int) -> Callable[[str], int]:
    """A reader of decimal numbers from 0 to ``largest``."""

    def read_number(text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
        if not digits or int(text) > largest:
            raise ValueError(f"not a number from 0 to {largest}")
        return int(text)

    return read_number


def read_address(text: str) -> IpAddress | None:
    """An address without scope, IPv4-mapped reduced to IPv4; None for the unspecified one, which means "not set"."""
    packed = ip_address(text).packed
    return decode_address(packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed)


def read_netmask(text: str) -> int:
    """The prefix length of an IPv4 netmask."""
    return IPv4Network(f"0.0.0.0/{text}").prefixlen


def read_mac(text: str) -> bytes | None:
    """Six bytes; None for all zero."""
    if not _MAC.fullmatch(text.lower()):
        raise ValueError("not six bytes as hexadecimal digits with colons")
    raw = bytes.fromhex(text.replace(":", ""))
    return raw if any(raw) else None


def read_string(text: str) -> str:
    """Text that can be shown."""
    if not text.isprintable():
        raise ValueError("it has control characters or is not UTF-8")
    if len(text.encode("utf-8")) > STRING_MAX:
        raise ValueError(f"it has more than {STRING_MAX} bytes")
    return text


def read_secret(text: str) -> Secret:
    """Any bytes but NUL; undecodable ones came in as surrogates and leave as they were."""
    if "\0" in text:
        raise ValueError("it has a NUL inside")
    return Secret(text.encode("utf-8", "surrogateescape"))
