# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names and values of an update: what is taken, what is said, and that nothing is taken when anything is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.admin.node_values import check_pairs
from iscsiboot.database.key import check_value
from iscsiboot.database.keys import BY_KIND
from iscsiboot.database.record import node_defaults

NODE = BY_KIND["node"]
IFACE = BY_KIND["iface"]
ALGORITHMS = "node.session.auth.chap_algs"


def test_values_are_stored_in_canonical_form_and_the_last_counts() -> None:
    checked = check_pairs(
        [("node.session.queue_depth", "+064"), ("node.startup", "onboot"), ("node.startup", "manual")], NODE
    )
    assert checked.values == {"node.session.queue_depth": "64", "node.startup": "manual"}
    assert (checked.lines, checked.refused, checked.advice) == ([], False, [])


def test_names_are_looked_at_before_values() -> None:
    """The peer tells the name even where the value before it is bad."""
    checked = check_pairs([("node.startup", "never"), ("node.nothing", "1"), ("node.name", "x")], NODE)
    assert checked.refused
    assert checked.lines == ["Cannot modify node.nothing. Invalid param name."]


def test_the_first_bad_value_ends_it() -> None:
    checked = check_pairs([("node.startup", "never"), ("node.leading_login", "maybe")], NODE)
    assert checked.lines == [
        "unknown value format 'never' for parameter name 'node.startup'",
        "Unknown parameter node.startup.",
    ]


def test_interface_mode_has_no_closing_line() -> None:
    checked = check_pairs([("iface.mtu", "x")], IFACE, closing=False)
    assert checked.lines == [
        "unknown value format 'x' for parameter name 'iface.mtu': it takes a number from 0 to 65535"
    ]


@pytest.mark.parametrize(
    ("text", "stored", "dropped"),
    [
        ("", "", []),
        ("MD5", "MD5", []),
        (" MD5 ,SHA1\nSHA256", "MD5,SHA1,SHA256", []),
        ("SHA3-256,,SHA1", "SHA3-256,SHA1", []),
        ("md5", "", ["unknown value 'md5'"]),
        ("MD5,MD5,SHA2", "MD5", ["repeated value 'MD5'", "unknown value 'SHA2'"]),
    ],
)
def test_words_of_a_list(text: str, stored: str, dropped: list[str]) -> None:
    checked = check_pairs([(ALGORITHMS, text)], NODE)
    assert checked.values == {ALGORITHMS: stored}
    assert checked.lines == [f"Ignoring {line} for '{ALGORITHMS}'" for line in dropped]
    assert not checked.refused


@pytest.mark.parametrize("name", ["node.session.auth.password_length", "node.session.auth.password_in_length"])
def test_hidden_keys_of_a_node_come_to_nothing(name: str) -> None:
    assert check_pairs([(name, "12")], NODE).values == {}
    assert check_pairs([(name, "12")], IFACE).refused
    assert check_pairs([("discovery.sendtargets.auth.password_length", "12")], NODE).refused


@given(st.lists(st.tuples(st.sampled_from([*NODE, "node.nothing", ""]), st.text(max_size=12)), max_size=6))
def test_whatever_is_taken_fits_a_record(pairs: list[tuple[str, str]]) -> None:
    checked = check_pairs(pairs, NODE)
    if checked.refused:
        assert checked.lines
        return
    assert all(check_value(NODE[name], value) == value for name, value in checked.values.items())
    assert not any(NODE[name].lookup for name in checked.values)
    record = node_defaults().changed(checked.values)
    assert record.file_text().count(b"\n") < 200


@given(st.text(max_size=300))
def test_a_secret_is_never_in_a_line(secret: str) -> None:
    text = f"begin{secret}end"
    checked = check_pairs([("node.session.auth.password", text)], NODE)
    assert not any(text in line for line in (*checked.lines, *checked.advice))
