# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: those of tests/fuzz/ipc_invariant.py, of what clients send the daemon and what it answers.

A fixed budget runs here; ISCSIBOOT_FUZZ_EXAMPLES sets another one for a long run.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.ipc.protocol import ACTIONS, encode
from tests.fuzz.budget import budget
from tests.fuzz.discovery_invariant import ACCEPTED, REFUSED
from tests.fuzz.ipc_invariant import SECRET, client, clients, daemon, daemons

BUDGET = budget(200)

seeds = st.integers(0, 1 << 32)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(SECRET) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
requests: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"do": st.sampled_from(sorted(ACTIONS)) | values, "id": st.integers(0, 9) | values},
    optional={
        "iscsiboot": st.sampled_from([1, [1, 1], 2, [0, 9]]) | values,
        "seconds": st.floats(0.1, 10) | values,
        "detach": values,
        "of": values,
        "record": values,
    },
)


def _line(item: dict[str, Any]) -> bytes:
    try:
        return encode({"iscsiboot": 1, **item})
    except ValueError:
        return b'{"a":NaN}\n'  # what JSON has no number for


@BUDGET
@given(st.lists(requests.map(_line), max_size=6), seeds)
def test_any_requests_cut_anywhere(lines: list[bytes], seed: int) -> None:
    client(b"".join(lines), random.Random(seed))


@BUDGET
@given(st.binary(max_size=300), seeds)
def test_any_bytes_of_a_client(data: bytes, seed: int) -> None:
    client(data, random.Random(seed))


@BUDGET
@given(st.sampled_from(clients()), st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=6))), seeds)
def test_requests_with_some_bytes_spoilt(data: bytes, spoilt: list[tuple[int, bytes]], seed: int) -> None:
    wire = bytearray(data)
    for at, other in spoilt:
        wire[at % len(wire) : at % len(wire) + len(other)] = other
    client(bytes(wire), random.Random(seed))


def test_what_clients_say_is_accepted_or_refused_as_it_should_be() -> None:
    """Without this a connection that refuses everything would pass."""
    found = [client(data, random.Random(1)) for data in clients()]
    assert found.count(REFUSED) == 3, "the peer's login, its unknown request, a version of the future"
    assert found.count(ACCEPTED) == len(found) - 3


@BUDGET
@given(st.binary(max_size=300) | st.sampled_from(daemons()) | requests.map(_line), seeds)
def test_any_bytes_of_a_daemon(data: bytes, seed: int) -> None:
    daemon(data, random.Random(seed))


def test_what_daemons_answer_is_accepted() -> None:
    assert {daemon(data, random.Random(1)) for data in daemons()} == {ACCEPTED}
