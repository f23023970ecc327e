# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: whatever a target answers to a SCSI command, the conversation ends in a value or one ScsiError, after a
bounded number of commands; texts are printable and one line.

A fixed budget runs here; ISCSIBOOT_FUZZ_EXAMPLES sets another one for a long run.
"""

from __future__ import annotations

import os
from itertools import cycle
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iscsiboot.initiator.scsi import BLOCK_MAX, BLOCK_MIN, LUNS_MAX, Capacity
from iscsiboot.initiator.scsi_sense import ATTEMPTS_MAX, parse_sense
from iscsiboot.initiator.scsi_unit import ASKED_MAX, Identity, ScsiError, Steps, identify, list_luns, measure, ready
from iscsiboot.initiator.session_events import ScsiResult

SETTINGS = settings(
    max_examples=int(os.environ.get("ISCSIBOOT_FUZZ_EXAMPLES", "200")),
    deadline=None,
    derandomize="ISCSIBOOT_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)

lengths = st.sampled_from([0, 1, 4, 8, 16, 31, 255, 0xFFFF])
pages = st.builds(
    lambda first, code, length, body: bytes([first, code]) + length.to_bytes(2, "big") + body,
    st.integers(0, 255),
    st.sampled_from([0, 0x80, 0x83]),
    lengths,
    st.one_of(st.binary(max_size=60), st.just(bytes([0x00, 0x80, 0x83]))),
)
lists = st.builds(
    lambda length, body: length.to_bytes(4, "big") + bytes(4) + body,
    st.one_of(lengths, st.integers(0, 0xFFFFFFFF)),
    st.binary(max_size=200),
)
data = st.one_of(st.binary(max_size=64), pages, lists)
senses = st.one_of(
    st.binary(max_size=30),
    st.builds(lambda key, asc: bytes([0x72, key, asc, 0]), st.integers(0, 255), st.integers(0, 255)),
)
answers = st.builds(
    ScsiResult, status=st.sampled_from([0, 0, 0, 0, 2, 2, 4, 8, 0x18, 0x28, 0x40, 0x77]), data=data, sense=senses
)
MOST = ATTEMPTS_MAX * (2 + ASKED_MAX)
"""The longest conversation: identity's four commands are fewer than a list of LUNs that grows."""


def run(steps: Steps[Any], given_: list[ScsiResult]) -> Any:
    source = cycle(given_)
    sent = 0
    try:
        next(steps)
        while True:
            sent += 1
            assert sent <= MOST
            steps.send(next(source))
    except StopIteration as done:
        return done.value


@SETTINGS
@given(st.lists(answers, min_size=1, max_size=6), st.sampled_from(["luns", "identity", "capacity", "ready"]))
def test_any_target(given_: list[ScsiResult], what: str) -> None:
    conversation: dict[str, Any] = {"luns": list_luns, "identity": identify, "capacity": measure, "ready": ready}
    try:
        value = run(conversation[what](subject="LUN 1"), given_)
    except ScsiError as error:
        value = error
    if isinstance(value, ScsiError):
        assert value.line().isprintable()
    elif isinstance(value, Identity):
        texts = [value.serial, value.inquiry.vendor, value.inquiry.product, value.inquiry.revision]
        assert all(text.isprintable() for text in [*texts, *(item.text for item in value.identifiers)])
    elif isinstance(value, Capacity):
        assert BLOCK_MIN <= value.block_size <= BLOCK_MAX
        assert value.blocks >= 1
    elif value is not None:
        assert len(value) <= LUNS_MAX


@SETTINGS
@given(st.binary(max_size=260))
def test_any_sense_data(raw: bytes) -> None:
    sense = parse_sense(raw)
    assert sense is None or sense.words.isprintable()
