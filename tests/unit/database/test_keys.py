# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of settings and the checks that come from it."""

from __future__ import annotations

import pytest

from iscsiboot.database.key import advice, check_value, known_words
from iscsiboot.database.keys import BY_KIND, BY_NAME, HIDDEN, IFACE, KINDS, NODE, NODE_ALIASES, shown, stored
from tests.unit.database.samples import peer_text

ROWS = [(kind, key) for kind, rows in KINDS.items() for key in rows]


def names_in(text: str) -> list[str]:
    return [line.split(" = ")[0] for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    ("kind", "family", "name"),
    [
        ("node", 4, "node-display"),
        ("iface", 4, "iface-display"),
        ("iface", 6, "iface6-display"),
        ("sendtargets", 4, "sendtargets-display"),
        ("isns", 4, "isns-display"),
    ],
)
def test_the_order_on_the_terminal_is_the_peers(kind: str, family: int, name: str) -> None:
    assert [key.name for key in shown(kind, family) if not key.since] == names_in(peer_text(name))


def test_the_order_in_files_differs_for_a_nodes_interface_alone() -> None:
    assert {key.name for key in stored("node")} == {key.name for key in shown("node")}
    part = names_in(peer_text("node-iface-part"))
    in_file = [key.name for key in stored("node") if key.name.startswith("iface.")]
    assert in_file == part
    for kind in ("iface", "sendtargets", "isns"):
        assert stored(kind) == shown(kind)


def test_no_name_stands_twice_in_a_kind_and_every_name_is_found() -> None:
    for kind, rows in KINDS.items():
        assert len({key.name for key in rows}) == len(rows)
        assert all(BY_KIND[kind][key.name] is key for key in rows)
    assert set(BY_NAME) == {key.name for _, key in ROWS}
    assert all(BY_NAME[key.name] is key for key in (*NODE, *IFACE))
    assert HIDDEN.isdisjoint(BY_NAME)
    assert set(NODE_ALIASES.values()) <= set(BY_KIND["node"])


@pytest.mark.parametrize(("kind", "key"), ROWS, ids=[f"{kind}:{key.name}" for kind, key in ROWS])
def test_each_row_is_whole(kind: str, key: object) -> None:
    row = BY_KIND[kind][getattr(key, "name", "")]
    assert row.meaning.endswith(".")
    assert row.meaning[0].isupper() or row.meaning.split()[0] in ("auto", "enable")
    assert bool(row.choices) == (row.kind in ("enum", "list"))
    assert bool(row.length) == (row.kind == "str")
    for value in (row.default, row.shipped):
        if value is not None:
            assert check_value(row, value) == value
            assert advice(row, value) == ""
    assert row.secret == row.name.endswith((".password", ".password_in"))


@pytest.mark.parametrize(
    ("name", "text", "canonical"),
    [
        ("node.session.queue_depth", "+7", "7"),
        ("node.session.queue_depth", "007", "7"),
        ("node.session.timeo.replacement_timeout", "-1", "-1"),
        ("node.session.auth.chap_algs", "SHA256, MD5", "SHA256,MD5"),
        ("node.session.auth.chap_algs", "", ""),
        ("node.session.initial_cmdsn", "-1", "4294967295"),
        ("node.session.initial_cmdsn", "4294967295", "4294967295"),
        ("node.session.auth.username", " two words ", "two words"),
        ("node.session.queue_depth", "5000", "5000"),
    ],
)
def test_values_become_canonical(name: str, text: str, canonical: str) -> None:
    assert check_value(BY_NAME[name], text) == canonical


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("node.startup", "boot", "it takes manual, automatic or onboot"),
        ("node.session.auth.authmethod", "chap", "it takes None or CHAP"),
        ("node.session.queue_depth", "x", "it takes a number from 1 to 1024"),
        ("node.session.queue_depth", "1" * 5000, "it takes a number from 1 to 1024"),
        ("iface.vlan_id", "65536", "it takes a number from 0 to 65535"),
        ("iface.flow_label", "-1", "it takes a number from 0 to 4294967295"),
        ("node.session.auth.chap_algs", "MD5,SHA512", "MD5, SHA1, SHA256, SHA3-256"),
        ("node.conn[0].tcp.congestion_control", "x" * 16, "it takes text of at most 15 bytes"),
        ("node.session.auth.username", "é" * 128, "it takes text of at most 255 bytes"),
        ("node.session.auth.password", "secret\x1b[2J", "control characters"),
    ],
)
def test_values_that_cannot_be_meant_are_refused_with_what_can(name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match="it takes") as caught:
        check_value(BY_NAME[name], text)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_advice_names_the_documented_range() -> None:
    assert advice(BY_NAME["node.session.queue_depth"], "5000") == "it takes a number from 1 to 1024"
    assert advice(BY_NAME["node.session.queue_depth"], "1024") == ""
    assert advice(BY_NAME["node.startup"], "anything") == ""
    assert advice(BY_NAME["iface.iface_num"], "-5") == ""


def test_words_of_a_list_are_sorted_out() -> None:
    key = BY_NAME["node.session.auth.chap_algs"]
    assert known_words(key, "SHA256 MD5,,foo\nMD5") == ("SHA256,MD5", ["foo", "MD5"])
    assert known_words(key, " ,") == ("", [])
