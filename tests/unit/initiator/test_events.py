# SPDX-License-Identifier: LGPL-2.1-or-later
"""TargetAddress in every form of RFC 7143 section 13.8, and what must not get through."""

from __future__ import annotations

import pytest

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.events import parse_target_address
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip


@pytest.mark.parametrize(
    ("value", "portal"),
    [
        ("192.0.2.7", Portal(address=parse_ip("192.0.2.7"))),
        ("192.0.2.7:3261", Portal(address=parse_ip("192.0.2.7"), port=3261)),
        ("192.0.2.7:3261,1", Portal(address=parse_ip("192.0.2.7"), port=3261, tpgt=1)),
        ("192.0.2.7,65535", Portal(address=parse_ip("192.0.2.7"), tpgt=65535)),
        ("[2001:db8::7]", Portal(address=parse_ip("2001:db8::7"))),
        ("[2001:db8::7]:3261,0", Portal(address=parse_ip("2001:db8::7"), port=3261, tpgt=0)),
        ("[::ffff:192.0.2.7]:3260", Portal(address=parse_ip("192.0.2.7"))),
        ("storage.example.com:3260,2", NamedPortal(host="storage.example.com", port=3260, tpgt=2)),
        ("storage", NamedPortal(host="storage")),
        ("7of9.example", NamedPortal(host="7of9.example")),
    ],
)
def test_forms(value: str, portal: Portal | NamedPortal) -> None:
    assert parse_target_address(value) == portal


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":3260",
        "192.0.2.7:",
        "192.0.2.7:0",
        "192.0.2.7:65536",
        "192.0.2.7:3260,65536",
        "192.0.2.7:3260,1,2",
        "192.0.2.256",
        "192.0.2",
        "2001:db8::7",
        "[2001:db8::7",
        "[2001:db8::g]",
        "[fe80::1%eth0]",
        "[fe80::1%../../etc]",
        "[storage]",
        "-storage",
        "sto rage",
        "storage/../etc",
        "storage\n192.0.2.7",
        "bücher.example",
        "a." * 127 + "toolong",
        "x" * 64,
        "x" * 10000,
        "192.0.2.7:３２６０",
    ],
)
def test_bad_forms(value: str) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        parse_target_address(value)
    assert caught.value.cause.isprintable()
    assert len(caught.value.cause) < 300


def test_a_named_portal_reads_like_an_endpoint() -> None:
    assert str(NamedPortal(host="storage.example.com", port=3261)) == "storage.example.com:3261"
