# SPDX-License-Identifier: LGPL-2.1-or-later
"""What logins and discoveries read from a record in the same way: secrets and the list of CHAP algorithms."""

from __future__ import annotations

from collections.abc import Callable

from iscsiboot.errors import quoted
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.model.credentials import Secret

AUTH = "node.session.auth."
_ALGORITHMS = {algorithm.name.replace("_", "-"): algorithm for algorithm in ChapAlgorithm}


def chap_algorithms(text: str, remark: Callable[[str], None]) -> tuple[ChapAlgorithm, ...]:
    """``SHA256,MD5`` as a list to offer, in that order; unknown and repeated words are left out, none leaves MD5."""
    found: dict[ChapAlgorithm, None] = {}
    for word in text.replace(",", " ").split():
        algorithm = _ALGORITHMS.get(word)
        if algorithm is None:
            remark(f"{AUTH}chap_algs: {quoted(word)} is left out")
        else:
            found[algorithm] = None
    return tuple(found) or (ChapAlgorithm.MD5,)


def secret_of(text: str) -> Secret:
    """A secret as a record has it, byte for byte. ValueError for one that is too long or empty."""
    return Secret(text.encode("utf-8", "surrogateescape"))
