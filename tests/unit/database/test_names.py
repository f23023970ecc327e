# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes a path and what never does; names of places and links read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.names import (
    NodeKey,
    Pattern,
    check_component,
    parse_link_name,
    parse_portal_dir,
    usable,
)
from iscsiboot.errors import ExitCode

BAD = ["", ".", "..", "a/b", "/", "../x", "a\0b", "a\nb", "\x7f", "a\x9b2J", "x" * 256, "é" * 128]


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_bad_components_are_refused(text: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        check_component(text, "target name")
    assert caught.value.exit_code == ExitCode.INVAL
    assert "target name" in caught.value.line()
    assert "\n" not in caught.value.line()
    assert not usable(text)


@pytest.mark.parametrize(
    "text", ["iqn.2000-01.a:t1", "...", "10.99.0.1:3260:pv0", "fe80::1%eth0,3260,1", "é", "a b", "x" * 255]
)
def test_good_components_are_kept(text: str) -> None:
    assert check_component(text, "x") == text
    assert usable(text)


@given(st.text(max_size=300))
def test_the_quick_look_agrees_with_the_careful_one(text: str) -> None:
    try:
        check_component(text, "x")
    except (DatabaseError, UnicodeEncodeError):
        good = False
    else:
        good = True
    try:
        assert usable(text) == good
    except UnicodeEncodeError:
        assert not good


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("10.0.0.1,3260,1", ("10.0.0.1", 3260, 1)),
        ("10.0.0.1,3260", ("10.0.0.1", 3260, -1)),
        ("fe80::1%eth0,3260,65535", ("fe80::1%eth0", 3260, 65535)),
        ("host.example,3261,0", ("host.example", 3261, 0)),
        ("10.0.0.1", None),
        (",3260,1", None),
        ("10.0.0.1,3260,", None),
        ("10.0.0.1,,1", None),
        ("10.0.0.1,3260,1,2", None),
        ("10.0.0.1,03260,1", None),
        ("10.0.0.1,3260,-1", None),
        ("10.0.0.1,٣,1", None),
        ("10.0.0.1,999999,1", None),
    ],
)
def test_portal_folders(text: str, parts: tuple[str, int, int] | None) -> None:
    assert parse_portal_dir(text) == parts
    if parts is not None:
        assert NodeKey("t", *parts).portal_dir == text


@pytest.mark.parametrize(
    "key",
    [
        NodeKey("iqn.a:b", "10.0.0.1", 3260, 1, "default"),
        NodeKey("iqn.a,b,c", "fe80::1", 3260, 0, "if,1,2,3"),
        NodeKey("iqn.a:b", "10.0.0.1", 3260, -1, "10.99.0.1:3260:pv0"),
    ],
    ids=repr,
)
def test_link_names_are_read_back(key: NodeKey) -> None:
    assert parse_link_name(key.link_name) == key


@pytest.mark.parametrize("text", ["st_config", "a,b,c,d,e", "iqn.a:b,10.0.0.1,3260,1", "", ",,,,"])
def test_other_names_are_no_links(text: str) -> None:
    assert parse_link_name(text) is None


def test_keys_are_ordered_by_bytes_as_the_peer_lists() -> None:
    keys = [
        NodeKey("iqn.b", "10.0.0.1", 3260, 1),
        NodeKey("iqn.a", "10.0.0.10", 3260, 1),
        NodeKey("iqn.a", "10.0.0.9", 3260, 1),
        NodeKey("iqn.a", "10.0.0.9", 3260, 1, "Z"),
        NodeKey("iqn.é", "10.0.0.1", 3260, 1),
        NodeKey("iqn.a", "10.0.0.9", 3260),
    ]
    assert [repr(key) for key in sorted(keys)] == [repr(keys[index]) for index in (1, 5, 3, 2, 0, 4)]


def test_keys_are_values() -> None:
    assert NodeKey("a", "b", 1, 2, "c") == NodeKey("a", "b", 1, 2, "c")
    assert len({NodeKey("a", "b", 1), NodeKey("a", "b", 1), NodeKey("a", "b", 2)}) == 2
    assert NodeKey("a", "b", 1) != "a"


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (Pattern(), True),
        (Pattern(target="iqn.a"), True),
        (Pattern(target="iqn"), False),
        (Pattern(address="10.0.0.1"), True),
        (Pattern(address="10.0.0.1", port=3261), False),
        (Pattern(port=3260, iface="default"), True),
        (Pattern(iface="iser"), False),
        (Pattern(tpgt=7), True),
        (Pattern(transport="iser"), True),
    ],
    ids=repr,
)
def test_patterns(pattern: Pattern, matches: bool) -> None:
    assert pattern.matches(NodeKey("iqn.a", "10.0.0.1", 3260, 1)) is matches
