# SPDX-License-Identifier: LGPL-2.1-or-later
"""CHAP of a record in words."""

from __future__ import annotations

import pytest

from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.orders.record_values import chap_words

OURS = Chap(name="us", secret=Secret(b"twelve bytes or more"))
THEIRS = Chap(name="them", secret=Secret(b"another twelve bytes"))


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (None, "without CHAP"),
        (Credentials(outgoing=OURS), "with CHAP"),
        (Credentials(outgoing=OURS, incoming=THEIRS), "with mutual CHAP"),
    ],
)
def test_who_proves_himself(credentials: Credentials | None, words: str) -> None:
    assert chap_words(credentials) == words
