# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text of login and text PDUs: ``key=value`` pairs, each ended by NUL (RFC 7143 section 6.1), and their values.

Limits: a text continued over several PDUs (C bit) has at most :data:`TEXT_MAX` bytes and :data:`KEYS_MAX` pairs,
whatever the peer sends. Pairs are checked by grammar here; what a key means is not known here.

Three tolerances, because open-iscsi has them and targets were written against it: runs of NUL between pairs, a last
pair without its NUL, and a TargetAlias in an older character set than UTF-8 are accepted.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable

from iscsiboot.errors import quoted
from iscsiboot.initiator.errors import ProtocolViolation

TEXT_MAX = 65536
"""Bytes of one logical text."""
KEYS_MAX = 256
"""Pairs of one logical text."""

Pairs = tuple[tuple[str, str], ...]

# A standard-label, with two additions: '#', which RFC 3720 had in extension keys (X#name), and a small first letter,
# since iSCSIProtocolLevel (RFC 7144) and the iSER keys break the rule of a capital one.
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9.\-+@_#]{0,62}")
_DECIMAL = re.compile(r"[0-9]{1,20}")
_HEX = re.compile(r"0[xX]([0-9A-Fa-f]+)")
_NUMBER_MAX = (1 << 64) - 1


def encode_pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    """``key=value`` NUL ``key=value`` NUL, in the order given."""
    return b"".join(f"{key}={value}\0".encode() for key, value in pairs)


def decode_pairs(text: bytes) -> Pairs:
    """The pairs of a whole text in their order; :class:`ProtocolViolation` names the rule one of them breaks."""
    pairs: list[tuple[str, str]] = []
    for item in text.split(b"\0"):
        if not item:
            continue
        if len(pairs) == KEYS_MAX:
            raise ProtocolViolation(f"the text has more than {KEYS_MAX} keys")
        pairs.append(_decode_pair(item))
    return tuple(pairs)


def _decode_pair(item: bytes) -> tuple[str, str]:
    try:
        # Somebody typed the alias into a web page of the array; nothing is ever compared with it.
        pair = item.decode("utf-8", "backslashreplace" if item.startswith(b"TargetAlias=") else "strict")
    except UnicodeDecodeError:
        raise ProtocolViolation(f"the text {quoted(item)} is not UTF-8") from None
    key, equals, value = pair.partition("=")
    if not equals:
        raise ProtocolViolation(f"the text {quoted(pair)} has no equals sign")
    if not _KEY.fullmatch(key):
        raise ProtocolViolation(f"{quoted(key)} is not the name of a key")
    return key, value


class TextAssembler:
    """Puts the data segments of PDUs with the C bit together to one text."""

    def __init__(self) -> None:
        self._parts = bytearray()

    def add(self, segment: bytes, *, more: bool) -> Pairs | None:
        """The pairs once the text is complete, None while ``more`` (the C bit) announces a continuation."""
        if len(self._parts) + len(segment) > TEXT_MAX:
            raise ProtocolViolation(f"the text has more than {TEXT_MAX} bytes")
        self._parts += segment
        if more:
            return None
        text = bytes(self._parts)
        self._parts.clear()
        return decode_pairs(text)


def split_text(text: bytes, limit: int) -> list[bytes]:
    """``text`` cut into data segments of at most ``limit`` bytes; at least one, empty for an empty text.

    Cut between pairs where that is possible. A pair may span PDUs (section 6.2), yet a peer that looks at each PDU by
    itself, as tshark does, understands it only this way.
    """
    chunks: list[bytes] = []
    while len(text) > limit:
        cut = text.rfind(b"\0", 0, limit) + 1 or limit
        chunks.append(text[:cut])
        text = text[cut:]
    return [*chunks, text] if text or not chunks else chunks


def parse_number(value: str) -> int:
    """A decimal or hexadecimal constant of at most 64 bits; :class:`ProtocolViolation` otherwise."""
    number = -1
    if _DECIMAL.fullmatch(value):
        number = int(value)
    elif len(value) <= 18 and (match := _HEX.fullmatch(value)):
        number = int(match[1], 16)
    if not 0 <= number <= _NUMBER_MAX:
        raise ProtocolViolation(f"{quoted(value)} is not a number")
    return number


def parse_binary(value: str, limit: int) -> bytes:
    """A hexadecimal (``0x``) or base64 (``0b``) constant of 1 to ``limit`` bytes.

    An odd number of hexadecimal digits reads as if a zero stood in front: a sender that prints the bytes as one number
    drops that digit. :class:`ProtocolViolation` for anything else.
    """
    # The encoded length bounds the decoded one, so a long value is refused before anything of its size is made.
    if len(value) > 2 + 2 * limit:
        raise ProtocolViolation(f"a binary value has more than {limit} bytes")
    prefix, digits = value[:2].lower(), value[2:]
    try:
        if prefix == "0x":
            data = binascii.unhexlify(digits if len(digits) % 2 == 0 else f"0{digits}")
        elif prefix == "0b":
            data = binascii.a2b_base64(digits, strict_mode=True)
        else:
            raise ProtocolViolation(f"{quoted(value)} is neither a hexadecimal (0x) nor a base64 (0b) constant")
    except ValueError:
        raise ProtocolViolation(f"{quoted(value)} is not a well-formed binary value") from None
    if not 1 <= len(data) <= limit:
        raise ProtocolViolation(f"a binary value has {len(data)} bytes, 1 to {limit} are allowed")
    return data
