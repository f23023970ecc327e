# SPDX-License-Identifier: LGPL-2.1-or-later
"""iSCSI names and their grammar (RFC 7143 section 4.2.7, RFC 3722).

A name that passed :func:`check_target_name` (any form) or :func:`check_iscsi_name` is safe as one path component, in a
text key and on a terminal: that is why the check stands at the wire, not where the name is used. RFC 3722 folds names
to lower case, yet a name is kept as it was written: tgt compares byte by byte, so a target made there with an
upper-case name is found under that name alone, and firmware that booted with the name sent it unfolded too.
"""

from __future__ import annotations

import re

NAME_MAX_BYTES = 223
"""RFC 7143 section 4.2.7.1: the longest iSCSI name, in bytes of UTF-8."""

# ASCII, or the sign of Kelvin would pass for a k.
_ANY_CASE = re.IGNORECASE | re.ASCII
_IQN = re.compile(r"iqn\.[0-9]{4}-(?:0[1-9]|1[0-2])\.[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?::.+)?", _ANY_CASE)
_EUI = re.compile(r"eui\.[0-9a-f]{16}", _ANY_CASE)
_NAA = re.compile(r"naa\.(?:[0-9a-f]{16}|[0-9a-f]{32})", _ANY_CASE)
_ALLOWED_ASCII = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.:")
# Targets in the field use these although RFC 3722 forbids them (LIO makes its names from the host's, underscores and
# all; several arrays take more). None of them is special to a path, a text key or a terminal.
_TOLERATED_ASCII = frozenset("_+=@,~")
_PLAIN = re.compile(r"[A-Za-z0-9.:_+=@,~-]+")
"""A name of those characters alone, which nearly every name is: a discovery checks ten thousand of them."""


class InvalidName(ValueError):
    """The text is not an iSCSI name; the message says which rule it breaks and never contains the text itself."""


def check_iscsi_name(text: str) -> str:
    """``text`` itself when it is an iSCSI name, in whichever case, else :class:`InvalidName`.

    Non-ASCII letters are let through when they are printable (RFC 3722 allows most of Unicode); separators, controls,
    blanks and slashes are not, so ``../`` or a line break never gets further than the error.
    """
    check_target_name(text)
    if not (_IQN.fullmatch(text) or _EUI.fullmatch(text) or _NAA.fullmatch(text)):
        raise InvalidName("it has neither the form iqn.YYYY-MM.domain[:text] nor eui.16HEX nor naa.16HEX or naa.32HEX")
    return text


def check_target_name(text: str) -> str:
    """``text`` itself when a target may have it as its name, else :class:`InvalidName`.

    A target is called what somebody called it: tgt and ctld serve a target named ``disk1``, and open-iscsi logs in to
    it. So any form will do, and only what makes a name unsafe, or no name, is refused.
    """
    length = len(text.encode("utf-8", "surrogatepass"))
    if not text:
        raise InvalidName("the name is empty")
    if length > NAME_MAX_BYTES:
        raise InvalidName(f"the name has {length} bytes, at most {NAME_MAX_BYTES} are allowed")
    if not _PLAIN.fullmatch(text):
        _check_characters(text)
    if not text[0].isalnum():
        raise InvalidName("it begins with neither a letter nor a digit")
    return text


def _check_characters(name: str) -> None:
    """Look at each character; :class:`InvalidName` tells the first that may not stand in a name."""
    for position, char in enumerate(name):
        if char.isascii():
            legal = char in _ALLOWED_ASCII or char in _TOLERATED_ASCII
        else:
            legal = char.isprintable() and not char.isspace()
        if not legal:
            raise InvalidName(f"character U+{ord(char):04X} at position {position} is not allowed in an iSCSI name")
