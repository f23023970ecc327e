# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: those of tests/fuzz/discovery_invariant.py, of an answer to SendTargets and of a whole connection.

A fixed budget runs here; ISCSIBOOT_FUZZ_EXAMPLES sets another one for a long run.
"""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.model.discovered import DiscoveredTarget
from tests.fuzz.budget import budget
from tests.fuzz.discovery_invariant import ACCEPTED, ASKED, NAME, Where, answer, connection, connections, parse

BUDGET = budget(200)

names = st.one_of(
    st.sampled_from([NAME, f"{NAME}1", NAME.upper(), "eui.0123456789abcdef", "naa.0123456789abcdef", "", "../", "x"]),
    st.from_regex(r"iqn\.20[0-9]{2}-(0[1-9]|1[0-9])\.[a-z.-]{1,10}(:[a-z0-9./ -]{0,10})?", fullmatch=True),
    st.text(max_size=30).map(lambda tail: f"{NAME}{tail}"),
    st.integers(200, 1200).map(lambda length: NAME.ljust(length, "n")),
).map(lambda name: name.encode("utf-8", "surrogatepass"))
addresses = st.one_of(
    st.sampled_from([b"10.0.0.1:3260,1", b"[fe80::1]:3260,1", b"[2001:db8::1],2", b"host.example", b"10.0.0.256", b""]),
    st.from_regex(r"\[?[0-9a-f:.%]{0,12}\]?(:[0-9]{0,6})?(,[0-9]{0,6})?", fullmatch=True).map(str.encode),
    st.binary(max_size=20),
    st.integers(500, 1200).map(lambda length: b"a" * length),
)
pairs = st.one_of(
    names.map(lambda value: b"TargetName=" + value),
    names.map(lambda value: b"TargetName=" + value),
    addresses.map(lambda value: b"TargetAddress=" + value),
    addresses.map(lambda value: b"TargetAddress=" + value),
    st.sampled_from([b"SendTargets=Reject", b"X-other=1", b"TargetName", b"=", b"TargetAddress", b"bad key=1", b""]),
    st.binary(max_size=30),
)
answers = st.one_of(
    st.binary(max_size=300),
    st.tuples(st.lists(pairs, max_size=60), st.sampled_from([b"\0", b"\0\0", b"\n"])).map(lambda it: it[1].join(it[0])),
    st.lists(pairs, max_size=20).map(lambda items: b"".join(item + b"\0" for item in items * 8)),
)
seeds = st.integers(0, 1 << 32)


@BUDGET
@given(answers, seeds, st.sampled_from(ASKED), st.sampled_from([None, NAME]))
def test_any_answer_cut_anywhere(data: bytes, seed: int, asked: Where, expected: str | None) -> None:
    answer(data, random.Random(seed), asked, expected)


@BUDGET
@given(st.lists(st.tuples(names, st.lists(addresses, max_size=3)), max_size=8))
def test_one_bad_record_spoils_no_other(records: list[tuple[bytes, list[bytes]]]) -> None:
    """Each record by itself gives what it gives between two good ones."""
    for name, places in records:
        items = [b"TargetName=" + name, *(b"TargetAddress=" + place for place in places)]
        record = b"".join(item.replace(b"\0", b"?") + b"\0" for item in items)
        alone, _, _ = parse([record], ASKED[0], None)
        first, last = (f"TargetName=eui.{digit * 16}\0TargetAddress=10.0.0.{digit},1\0".encode() for digit in "12")
        between, _, _ = parse([first + record + last], ASKED[0], None)
        assert between[1:-1] == alone
        assert [item.name for item in (between[0], between[-1]) if isinstance(item, DiscoveredTarget)] == [
            "eui.1111111111111111",
            "eui.2222222222222222",
        ]


def test_what_honest_targets_say_is_accepted() -> None:
    """Without this a connection that refuses everything would pass."""
    for data in connections():
        assert connection(data, random.Random(1)) == ACCEPTED


@BUDGET
@given(st.binary(max_size=400), seeds)
def test_any_bytes_on_a_connection(data: bytes, seed: int) -> None:
    connection(data, random.Random(seed))


@BUDGET
@given(
    st.sampled_from(connections()),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=12), st.booleans()), max_size=4),
    seeds,
)
def test_a_connection_with_some_bytes_spoilt(data: bytes, spoilt: list[tuple[int, bytes, bool]], seed: int) -> None:
    wire = bytearray(data)
    for at, other, replace in spoilt:
        place = 1 + at % max(1, len(wire) - 1)
        wire[place : place + (len(other) if replace else 0)] = other
    connection(bytes(wire), random.Random(seed))
