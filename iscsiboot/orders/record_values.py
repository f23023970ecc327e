# SPDX-License-Identifier: LGPL-2.1-or-later
"""What logins and discoveries read from a record in the same way: CHAP's names, secrets and algorithms."""

from __future__ import annotations

from collections.abc import Callable

from iscsiboot.database.record import Record
from iscsiboot.errors import quoted
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.model.credentials import Credentials, Secret, whole_credentials

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


def credentials_of(record: Record, prefix: str, remark: Callable[[str], None]) -> Credentials | None:
    """CHAP of the settings that begin with ``prefix``: used when it is set, whatever ``authmethod`` says, as there.

    What :func:`~iscsiboot.model.credentials.whole_credentials` raises, and ValueError for a secret that is too long.
    """
    return whole_credentials(
        record.get(f"{prefix}username"),
        _secret(record.get(f"{prefix}password")),
        record.get(f"{prefix}username_in"),
        _secret(record.get(f"{prefix}password_in")),
        prefix=prefix,
        remark=remark,
    )


def _secret(text: str) -> Secret | None:
    """A secret as a record has it, byte for byte."""
    return Secret(text.encode("utf-8", "surrogateescape")) if text else None


def chap_words(credentials: Credentials | None) -> str:
    """Who proves whose identity, for a trace: ``without CHAP``, ``with CHAP``, ``with mutual CHAP``."""
    if credentials is None:
        return "without CHAP"
    return "with CHAP" if credentials.incoming is None else "with mutual CHAP"


def chap_half(record: Record, prefix: str) -> str:
    """The setting for want of which no CHAP is offered although its other half is there; empty when it is not so."""
    halves = [f"{prefix}{name}" for name in ("username", "password")]
    absent = [name for name in halves if not record.get(name)]
    return absent[0] if len(absent) == 1 else ""


def half_hint(missing: str) -> str:
    """What to do about a target that refused who did not use CHAP, because ``missing`` is not set."""
    return f"set {missing}: without it no CHAP is offered, though its other half is set"
