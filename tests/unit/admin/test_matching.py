# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a pattern means: addresses in every spelling, sessions, records."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.admin import matching
from iscsiboot.admin.matching import Addresses, iface_matches, pattern_of, records_of, rows_of, uses_portal
from iscsiboot.database.names import NodeKey, Pattern
from iscsiboot.sysfs.listing import SessionRow
from tests.unit.admin.records_kit import Machine

NAMES = {"storage": "10.0.0.1", "both": "10.0.0.1", "six": "fe80::1"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts the resolver was asked for; it knows :data:`NAMES` and numbers."""
    texts: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: None, *, type: int) -> object:
        texts.append(host)
        if host == "gone":
            raise socket.gaierror(socket.EAI_AGAIN, "later")
        return real(NAMES.get(host, host), port, type=type, flags=socket.AI_NUMERICHOST)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return texts


@pytest.mark.parametrize(
    ("wanted", "address", "same"),
    [
        ("", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "10.0.0.11", False),
        ("storage", "10.0.0.1", True),
        ("10.0.0.1", "storage", True),
        ("storage", "both", True),
        ("storage", "10.0.0.2", False),
        ("storage", "six", False),
        ("fe80::1", "fe80:0::1", True),
        ("FE80::1", "fe80::1", True),
        ("fe80::1", "fe80::2", False),
        ("fe80::1", "10.0.0.1", False),
        ("gone", "10.0.0.1", False),
        ("gone", "gone", True),
        ("gone", "gone-too", False),
        ("x" * 300, "10.0.0.1", False),
        ("a..b", "10.0.0.1", False),
        ("\udcff", "10.0.0.1", False),
    ],
)
def test_addresses(wanted: str, address: str, same: bool, asked: list[str]) -> None:
    assert Addresses().same(wanted, address) is same


def test_numbers_need_no_resolver(asked: list[str]) -> None:
    addresses = Addresses()
    assert not addresses.same("192.0.2.1", "192.0.2.2")
    assert not addresses.same("10.0.0.0", "0.0.0.0")
    assert asked == []


def test_a_name_is_looked_up_once_for_all_records(asked: list[str]) -> None:
    addresses = Addresses()
    for number in range(200):
        addresses.same("storage", f"10.1.0.{number}")
    assert asked.count("storage") == 1


@given(st.tuples(*[st.integers(0, 255)] * 4), st.tuples(*[st.integers(0, 255)] * 4))
def test_two_plain_addresses_are_the_same_when_their_numbers_are(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    texts = [".".join(map(str, numbers)) for numbers in (one, other)]
    assert Addresses().same(*texts) is (one == other)


def row(target: str = "iqn.x:a", address: str = "10.0.0.1", **changes: object) -> SessionRow:
    values: dict[str, object] = {
        "sid": 1,
        "host": 2,
        "transport": "tcp",
        "target": target,
        "tpgt": 1,
        "persistent_address": address,
        "persistent_port": 3260,
        "address": "192.0.2.99",
        "port": 3999,
    }
    return SessionRow(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (Pattern(), True),
        (Pattern(target="iqn.x:a"), True),
        (Pattern(target="iqn.x"), False),
        (Pattern(address="10.0.0.1"), True),
        (Pattern(address="192.0.2.99"), False),
        (Pattern(port=3260), True),
        (Pattern(port=3999), False),
        (Pattern(tpgt=7), True),
        (Pattern(iface="default"), True),
        (Pattern(iface="default", transport="iser"), True),
        (Pattern(iface="if0"), False),
    ],
    ids=repr,
)
def test_a_session_is_compared_by_the_portal_that_was_asked_for(pattern: Pattern, matches: bool) -> None:
    assert bool(rows_of(pattern, [row()])) is matches


def test_no_pattern_means_every_session_in_their_order() -> None:
    rows = [row("iqn.x:b", sid=2), row("iqn.x:a", sid=1)]
    assert rows_of(None, rows) == rows


@pytest.mark.parametrize(
    ("name", "transport", "matches"),
    [("if0", "tcp", True), ("if0", "iser", False), ("if1", "tcp", False), ("default", "tcp", False)],
)
def test_an_interface_is_its_name_and_its_transport(name: str, transport: str, matches: bool) -> None:
    assert iface_matches(Pattern(iface="if0", transport="tcp"), name, transport) is matches


def test_default_stands_for_any_transport_as_older_tools_wrote_it() -> None:
    assert iface_matches(Pattern(iface="default", transport="tcp"), "default", "iser")


def test_the_pattern_of_a_record_means_its_session_and_no_other() -> None:
    key = NodeKey("iqn.x:a", "10.0.0.1", 3260, 1, "if0")
    pattern = pattern_of(key, "tcp")
    assert rows_of(pattern, [row(iface_name="if0")])
    assert not rows_of(pattern, [row(iface_name="if0", transport="iser")])
    assert not rows_of(pattern, [row()])


def test_a_portal_is_used_through_any_interface() -> None:
    key = NodeKey("iqn.x:a", "10.0.0.1", 3260, 1, "if0")
    assert uses_portal(key, row(iface_name="if9"), Addresses())
    assert not uses_portal(key, row(persistent_port=3261), Addresses())
    assert not uses_portal(key, row("iqn.x:b"), Addresses())


def test_records_by_a_name_for_their_address(tmp_path: Path, asked: list[str]) -> None:
    machine = Machine(tmp_path)
    for line in ("iqn.x:a -p 10.0.0.1,1", "iqn.x:a -p storage,1", "iqn.x:b -p 10.0.0.2,1"):
        machine.good(f"-m node -o new -T {line}")
    found = records_of(machine.database, Pattern(address="storage", port=3260))
    assert [(key.target, key.address) for key in found] == [("iqn.x:a", "10.0.0.1"), ("iqn.x:a", "storage")]


def test_records_of_an_interface_of_another_transport_are_left_out(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.good("-m iface -o new -I if0")
    machine.good("-m node -o new -T iqn.x:a -p 10.0.0.1,1 -I if0")
    assert len(records_of(machine.database, Pattern(iface="if0", transport="tcp"))) == 1
    assert records_of(machine.database, Pattern(iface="if0", transport="iser")) == []


def test_no_heavy_module_is_needed_to_compare_numbers() -> None:
    assert not {"socket", "ipaddress"} & set(vars(matching))
