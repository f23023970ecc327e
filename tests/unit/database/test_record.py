# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records: the real program's texts byte for byte, and what hand-edited files and other releases hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.database import record as module
from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.keys import BY_KIND, KINDS, NODE
from iscsiboot.database.record import (
    Record,
    compiled,
    discovery_defaults,
    iface_defaults,
    node_defaults,
)
from tests.unit.database.samples import node, peer_text, server

FILES = [
    ("node", "node-file"),
    ("sendtargets", "sendtargets-file"),
    ("isns", "isns-file"),
    ("iface", "iface-file"),
    ("iface", "iface6-file"),
    ("iface", "iface-full-file"),
    ("iface", "iface6-full-file"),
]


def parse(text: str, kind: str = "node") -> tuple[Record, list[str]]:
    return Record.parse(kind, text.encode(), path="FILE")


@pytest.mark.parametrize(("kind", "name"), FILES, ids=[name for _, name in FILES])
def test_the_peers_file_is_read_without_a_word_and_written_back_as_it_was(kind: str, name: str) -> None:
    text = peer_text(name)
    record, notices = parse(text, kind)
    assert notices == []
    assert record.file_text().decode() == text
    # The second time goes the short way.
    assert parse(text, kind)[0] == record
    assert parse(text, kind)[0].file_text().decode() == text


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (node(), "node-display"),
        (server(), "sendtargets-display"),
        (server("isns", port=3205), "isns-display"),
        (iface_defaults("if4"), "iface-display"),
        (iface_defaults("if-ipv6"), "iface6-display"),
        (iface_defaults("iser", "iser"), "iser-display"),
    ],
    ids=["node", "sendtargets", "isns", "iface", "iface6", "iser"],
)
def test_defaults_are_shown_as_the_peer_shows_its_own(made: Record, name: str) -> None:
    assert made.display() == peer_text(name)


@pytest.mark.parametrize(
    ("made", "name"),
    [(node(), "node-file"), (server(), "sendtargets-file"), (iface_defaults("if-ipv6"), "iface6-file")],
    ids=["node", "sendtargets", "iface6"],
)
def test_defaults_are_stored_as_the_peer_stores_its_own(made: Record, name: str) -> None:
    assert made.file_text().decode() == peer_text(name)


def test_a_node_records_interface_has_its_own_order_in_the_file() -> None:
    part = peer_text("node-iface-part")
    values = dict(line.split(" = ", 1) for line in part.splitlines())
    text = node().changed(values).file_text().decode()
    assert part in text


def test_secrets_are_stars_unless_revealed_and_never_in_a_repr() -> None:
    record = node(session__auth__password="hunter2hunter2")
    assert "node.session.auth.password = ********\n" in record.display()
    assert "node.session.auth.password_in = <empty>\n" in record.display()
    assert "node.session.auth.password = hunter2hunter2\n" in record.display(reveal=True)
    assert b"node.session.auth.password = hunter2hunter2\n" in record.file_text()
    assert "hunter2" not in repr(record)


def test_unknown_keys_stay_and_are_told() -> None:
    record, notices = parse("# BEGIN RECORD 2.1.11\nnode.name = t\nnode.new_thing = 7\nother = a = b\n# END RECORD\n")
    assert notices == [
        'FILE line 3: unknown key "node.new_thing" is kept as it is',
        'FILE line 4: unknown key "other" is kept as it is',
    ]
    text = record.changed({"node.startup": "automatic"}).file_text().decode()
    assert text.endswith("\nnode.new_thing = 7\nother = a = b\n# END RECORD\n")
    again, told = parse(text)
    assert (again.unknown, len(told)) == (record.unknown, 2)
    assert "new_thing" not in record.display()


@pytest.mark.parametrize(
    ("name", "value"),
    [("node.session.sess_reopen_log_freq", "3"), ("node.conn[0].tcp.congestion_control", "bbr")],
)
def test_keys_newer_than_our_release_are_shown_where_stored_alone(name: str, value: str) -> None:
    assert name not in node().display()
    assert name not in node().file_text().decode()
    record, notices = parse(node().changed({name: value}).file_text().decode())
    assert notices == []
    assert f"{name} = {value}\n" in record.display()
    assert record.get(name) == value
    assert node().get(name) == BY_KIND["node"][name].default


def test_newer_keys_stand_where_the_newer_release_has_them() -> None:
    lines = node().changed({"node.session.sess_reopen_log_freq": "3"}).display().splitlines()
    at = lines.index("node.session.sess_reopen_log_freq = 3")
    assert (lines[at - 1], lines[at + 1]) == ("node.session.reopen_max = 0", "node.conn[0].address = 10.0.0.1")


@pytest.mark.parametrize(
    ("line", "name", "effective", "told"),
    [
        ("node.startup = Automatic", "node.startup", "manual", 'manual, automatic or onboot; "manual" is used'),
        ("node.session.queue_depth = many", "node.session.queue_depth", "32", "a number from 1 to 1024"),
        ("node.session.cmds_max = 12abc", "node.session.cmds_max", "128", "a number from 2 to 2048"),
        ("node.session.nr_sessions = 99999999999", "node.session.nr_sessions", "1", "a number"),
        ("iface.mtu = 70000", "iface.mtu", "0", "a number from 0 to 65535"),
        ("iface.tos = -1", "iface.tos", "0", "a number from 0 to 255"),
        ("node.session.auth.chap_algs = md5", "node.session.auth.chap_algs", "MD5", '"md5" is unknown or repeated'),
        ("node.session.auth.chap_algs = SHA256, MD5,x", "node.session.auth.chap_algs", "SHA256,MD5", '"x" is unknown'),
        ("iface.net_ifacename = abcdefghijklmnopq", "iface.net_ifacename", "", "text of at most 15 bytes"),
        ("node.session.iscsi.ERL = = 4", "node.session.iscsi.ERL", "0", "a number from 0 to 2"),
    ],
    ids=lambda value: value.split(" ")[0] if " = " in str(value) else None,
)
def test_a_value_that_fits_nothing_leaves_the_default_and_stays_in_the_file(
    line: str, name: str, effective: str, told: str
) -> None:
    record, notices = parse(f"node.name = t\n{line}\n")
    assert record.get(name) == effective
    assert len(notices) == 1
    assert told in notices[0]
    assert notices[0].startswith("FILE line 2: ")
    assert f"\n{line}\n" in record.file_text().decode()
    assert f"{name} = {effective or '<empty>'}\n" in record.display()


def test_setting_a_bad_value_anew_forgets_it() -> None:
    record, _ = parse("node.startup = Automatic\n")
    text = record.changed({"node.startup": "onboot"}).file_text().decode()
    assert "Automatic" not in text
    assert "node.startup = onboot\n" in text


def test_a_number_outside_its_documented_range_is_used_as_the_peer_does_and_told() -> None:
    record, notices = parse("node.session.iscsi.FirstBurstLength = 100\n")
    assert record.get("node.session.iscsi.FirstBurstLength") == "100"
    assert notices == ["FILE line 1: node.session.iscsi.FirstBurstLength: it takes a number from 512 to 16777215"]


@pytest.mark.parametrize(
    ("text", "notices"),
    [
        ("node.startup = automatic", 0),
        ("node.startup = automatic\r\n", 0),
        ("  node.startup\t=\tautomatic  \n", 0),
        ("# comment\n\n   # another\nnode.startup = automatic\n", 0),
        ("node.startup = manual\nnode.startup = automatic\n", 0),
        ("node.startup = bogus\nnode.startup = automatic\n", 1),
        ("node.startup=automatic\n", 1),
        ("node.startup =automatic\n", 0),
        ("node.startup = automatic\nnode.session.auth.password_length = 5\n", 0),
        ("node.startup = automatic\nnode.conn[0].startup =\n", 1),
        ("node.startup = automatic\nfoo\n", 1),
        (f"node.startup = automatic\n{'x' * 3000}\n", 1),
        ("# BEGIN RECORD 2.0-870\nnode.startup = automatic\n", 1),
    ],
    ids=[
        "no line end",
        "dos",
        "blanks",
        "comments",
        "last counts",
        "last counts after a bad one",
        "no blanks",
        "no blank behind",
        "hidden",
        "no value",
        "no sign",
        "overlong",
        "no end",
    ],
)
def test_hand_edited_files_are_read(text: str, notices: int) -> None:
    record, told = parse(text)
    assert record.get("node.startup") == "automatic"
    assert len(told) == notices
    assert record.raw == {}


def test_lines_that_cannot_be_read_stay_in_the_file() -> None:
    record, _ = parse(f"node.startup = automatic\nfoo\n{'x' * 3000}\n")
    assert record.file_text().decode().endswith(f"\nfoo\n{'x' * 3000}\n# END RECORD\n")


def test_a_line_about_a_password_is_not_repeated() -> None:
    _, notices = parse("node.session.auth.password hunter2\nnode.name = t\n")
    assert len(notices) == 1
    assert "hunter2" not in notices[0]
    _, notices = parse(f"node.session.auth.password = {'hunter2' * 40}\n")
    assert len(notices) == 1
    assert "hunter2" not in notices[0]


@pytest.mark.parametrize(
    "data", [b"", b"\n\n  \n", b"node.name = a\0b\n", bytes(4096)], ids=["empty", "blank", "nul", "zeros"]
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(DatabaseError) as caught:
        Record.parse("node", data, path="FILE")
    assert caught.value.subject == "FILE"
    assert "this is no record" in caught.value.line()


def test_settings_of_the_other_ip_version_are_kept_where_somebody_set_them() -> None:
    # The peer writes an address's zeros of the other version and then cannot list the file: those go.
    text = peer_text("iface-file").replace("# END", "iface.hop_limit = 0\niface.mld = enable\n# END")
    record, _ = parse(text, "iface")
    assert record.file_text().decode() == peer_text("iface-file").replace("# END", "iface.mld = enable\n# END")


def test_a_line_break_in_a_value_is_never_written() -> None:
    record = Record("node", {**node().values, "node.name": "a\nnode.startup = onboot"})
    with pytest.raises(DatabaseError):
        record.file_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("node.session.auth.username", "a\nb"),
        ("node.session.auth.username", "x" * 256),
        ("node.session.queue_depth", ""),
        ("node.session.queue_depth", "0x10"),
        ("node.session.queue_depth", "٣"),
        ("node.startup", "Manual"),
        ("node.session.auth.chap_algs", "MD5,MD5"),
    ],
)
def test_changed_refuses_what_does_not_fit(name: str, text: str) -> None:
    with pytest.raises(ValueError, match="it takes"):
        node().changed({name: text})


def test_changed_knows_its_names() -> None:
    with pytest.raises(KeyError):
        node().changed({"node.bogus": "1"})
    assert node().changed({"node.session.auth.username": ""}).get("node.session.auth.username") == ""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "iscsid"])
def test_every_default_is_a_value_of_its_key_and_survives_the_file(kind: str) -> None:
    made = {"node": node_defaults(), "iface": iface_defaults("x")}.get(kind) or discovery_defaults(kind)
    assert Record.parse(kind, made.file_text())[0] == made
    assert set(compiled(kind)) == {name for name, key in BY_KIND[kind].items() if not key.since}


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\x85\u2028"), max_size=60).map(
    str.strip
)
SETTABLE = [key for key in NODE if key.kind == "str" and not key.lookup]


@given(st.dictionaries(st.sampled_from([key.name for key in SETTABLE if key.length > 200]), TEXT))
def test_any_text_survives_the_file(values: dict[str, str]) -> None:
    record = node().changed(values)
    again, notices = Record.parse("node", record.file_text())
    assert (again, notices) == (record, [])


@given(st.lists(st.sampled_from([*peer_text("node-file").splitlines(), "x = y", "", "#", "node.startup = no", "a=b"])))
def test_the_short_way_reads_what_the_long_way_reads(lines: list[str]) -> None:
    """Both ways over any mixture of lines, and what is written is read again as the same."""
    data = "\n".join(["# BEGIN RECORD 2.1.8", *lines, "# END RECORD", ""]).encode()
    record, _ = Record.parse("node", data)
    slow, _ = module._read_carefully("node", data.decode(), "", compiled("node"))
    assert record == slow
    again, _ = Record.parse("node", record.file_text())
    assert again == record
    assert again.changed({"node.startup": "onboot"}) == slow.changed({"node.startup": "onboot"})
    assert again.changed({"node.startup": "onboot"}).file_text() == slow.changed({"node.startup": "onboot"}).file_text()


@given(st.binary(max_size=400))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    try:
        record, _ = Record.parse("node", data)
    except DatabaseError:
        assert b"\0" in data or not data.decode("utf-8", "surrogateescape").strip()
        return
    once = record.file_text()
    assert Record.parse("node", once)[0].file_text() == once
