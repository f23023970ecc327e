# SPDX-License-Identifier: LGPL-2.1-or-later
"""SendTargets answers: whole and byte by byte, every form of an address, and everything that can be wrong with one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from iscsiboot.initiator import discovery
from iscsiboot.initiator.discovery import PAIR_MAX, RecordRefused, SendTargetsParser
from iscsiboot.initiator.errors import Misuse, ProtocolViolation
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip

ASKED = Portal(address=parse_ip("192.0.2.1"), port=3261, tpgt=None)
LINK = Portal(address=parse_ip("fe80::9%eth0"))
ONE, TWO = "iqn.2004-01.com.example:one", "iqn.2004-01.com.example:two"
Results = list[DiscoveredTarget | RecordRefused]


def text(*pairs: str | bytes) -> bytes:
    return b"".join((pair.encode() if isinstance(pair, str) else pair) + b"\0" for pair in pairs)


def parse(data: bytes, *, asked: Portal | NamedPortal = ASKED, expected: str | None = None, step: int = 0) -> Results:
    """Everything an answer gives, fed in pieces of ``step`` bytes (0: at once)."""
    parser = SendTargetsParser(asked, tag=5, expected=expected)
    out: Results = []
    for at in range(0, len(data), step or len(data) or 1):
        out += parser.feed(data[at : at + (step or len(data))], False)
        assert parser.pending <= PAIR_MAX
    out += parser.feed(b"", True)
    assert parser.found == sum(isinstance(item, DiscoveredTarget) for item in out)
    return out


def targets(results: Results) -> dict[str, list[str]]:
    return {item.name: [str(p) for p in item.portals] for item in results if isinstance(item, DiscoveredTarget)}


def causes(results: Results) -> list[str]:
    refused = [item for item in results if isinstance(item, RecordRefused)]
    assert all(item.tag == 5 for item in refused)
    assert all(item.cause.isprintable() and len(item.cause) < 400 for item in refused)
    return [item.cause for item in refused]


def portal(address: str, port: int = 3260, tpgt: int | None = None) -> Portal:
    return Portal(address=parse_ip(address), port=port, tpgt=tpgt)


SEVERAL = text(
    f"TargetName={ONE}",
    "TargetAddress=10.0.0.1:3260,1",
    "TargetAddress=[2001:db8::1]:3261,1",
    "TargetAddress=storage.example.com,2",
    "TargetAlias=decoration",
    f"TargetName={TWO}",
    "TargetName=eui.02004567A425678D",
    "TargetAddress=10.0.0.2,65535",
)


@pytest.mark.parametrize("step", [0, 1, 2, 7, 48], ids=lambda step: f"step-{step or 'whole'}")
def test_several_targets_portals_and_groups(step: int) -> None:
    assert parse(SEVERAL, step=step) == [
        DiscoveredTarget(
            name=ONE,
            portals=(
                portal("10.0.0.1", 3260, 1),
                portal("2001:db8::1", 3261, 1),
                NamedPortal(host="storage.example.com", tpgt=2),
            ),
        ),
        DiscoveredTarget(name=TWO, portals=(ASKED,)),
        DiscoveredTarget(name="eui.02004567A425678D", portals=(portal("10.0.0.2", 3260, 65535),)),
    ]


def test_a_target_is_handed_out_when_the_next_begins() -> None:
    parser = SendTargetsParser(ASKED)
    assert parser.feed(text(f"TargetName={ONE}", "TargetAddress=10.0.0.1,1"), False) == []
    assert targets(parser.feed(text(f"TargetName={TWO}"), False)) == {ONE: ["10.0.0.1:3260,1"]}
    assert targets(parser.feed(b"", True)) == {TWO: ["192.0.2.1:3261"]}
    assert (parser.found, parser.refused) == (2, 0)
    with pytest.raises(Misuse):
        parser.feed(b"", True)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.0.45", portal("10.1.0.45")),
        ("10.1.0.45:5300", portal("10.1.0.45", 5300)),
        ("10.1.0.45,0", portal("10.1.0.45", 3260, 0)),
        ("10.1.0.45:5300,1", portal("10.1.0.45", 5300, 1)),
        ("[1080:0:0:0:8:800:200C:417A]", portal("1080::8:800:200c:417a")),
        ("[3ffe:2a00:100:7031::1]:5300", portal("3ffe:2a00:100:7031::1", 5300)),
        ("[::192.9.5.5],3", portal("::192.9.5.5", 3260, 3)),
        ("[::ffff:192.9.5.5]:1,3", portal("192.9.5.5", 1, 3)),
        ("[fe80::1]:3260,1", portal("fe80::1", 3260, 1)),
        ("computingcenter.acme.example.com", NamedPortal(host="computingcenter.acme.example.com")),
        ("Host-1:65535,2", NamedPortal(host="Host-1", port=65535, tpgt=2)),
    ],
)
def test_every_form_of_an_address(address: str, expected: Portal | NamedPortal) -> None:
    assert parse(text(f"TargetName={ONE}", f"TargetAddress={address}")) == [
        DiscoveredTarget(name=ONE, portals=(expected,))
    ]


@pytest.mark.parametrize(
    ("asked", "address", "expected"),
    [
        (LINK, "[fe80::1]:3260,1", "[fe80::1%eth0]:3260,1"),
        (LINK, "[2001:db8::1]:3260,1", "[2001:db8::1]:3260,1"),
        (LINK, "10.0.0.1:3260,1", "10.0.0.1:3260,1"),
        (LINK, "host:3260,1", "host:3260"),
        (ASKED, "[fe80::1]:3260,1", "[fe80::1]:3260,1"),
        (portal("2001:db8::9"), "[fe80::1]:3260,1", "[fe80::1]:3260,1"),
        (NamedPortal(host="asked"), "[fe80::1]:3260,1", "[fe80::1]:3260,1"),
    ],
)
def test_a_link_local_address_is_on_the_link_we_asked_on(
    asked: Portal | NamedPortal, address: str, expected: str
) -> None:
    assert targets(parse(text(f"TargetName={ONE}", f"TargetAddress={address}"), asked=asked)) == {ONE: [expected]}


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\0"], ids=["nothing", "one-nul", "padding"])
def test_an_empty_answer(data: bytes) -> None:
    assert parse(data) == []


def test_runs_of_nul_and_a_last_pair_without_its_own() -> None:
    data = b"\0\0" + text(f"TargetName={ONE}") + b"\0\0" + b"TargetAddress=10.0.0.1,1"
    assert targets(parse(data)) == {ONE: ["10.0.0.1:3260,1"]}


def test_records_of_one_name_in_a_row_are_one_target() -> None:
    results = parse(
        text(
            f"TargetName={ONE}",
            "TargetAddress=10.0.0.1,1",
            f"TargetName={ONE.upper().replace('IQN', 'iqn')}",
            "TargetAddress=10.0.0.2,1",
            "TargetAddress=10.0.0.1,1",
            f"TargetName={TWO}",
            f"TargetName={ONE}",
        )
    )
    assert [item.name for item in results if isinstance(item, DiscoveredTarget)] == [ONE, TWO, ONE]
    assert results[0] == DiscoveredTarget(name=ONE, portals=(portal("10.0.0.1", tpgt=1), portal("10.0.0.2", tpgt=1)))


def test_other_keys_are_passed_over() -> None:
    data = text("X-com.example.load=7", f"TargetName={ONE}", "TargetPortalGroupTag=1", "SendTargets=All", "A=")
    assert parse(data) == [DiscoveredTarget(name=ONE, portals=(ASKED,))]


HOSTILE_NAMES = [
    pytest.param(b"../../etc/passwd", id="path"),
    pytest.param(b"iqn.2004-01.com.example:../x", id="slash"),
    pytest.param(b"iqn.2004-01.com.example:a\nb", id="line-break"),
    pytest.param(b"iqn.2004-01.com.example:\x1b[2J", id="escape-sequence"),
    pytest.param(b"iqn.2004-01.com.example:\xff\xfe", id="not-utf-8"),
    pytest.param("iqn.2004-01.com.example:\u202etxt".encode(), id="right-to-left-override"),
    pytest.param(b"iqn.2004-01.com.example:" + b"a" * 200, id="224-bytes"),
    pytest.param(b"iqn.2004-01.com.example:" + b"a" * 100_000, id="100000-bytes"),
    pytest.param(b"", id="empty"),
    pytest.param(b"..", id="dots"),
    pytest.param(b"-l", id="an-option"),
]


@pytest.mark.parametrize("name", ["disk", "iqn.foo:disk", "iqn.2004-13.com.example:x", "iqn.2003-01.org.my_host:sn.1"])
def test_a_target_may_have_any_name_that_is_safe(name: str) -> None:
    """Served by tgt and ctld; LIO makes one with an underscore from the host's name. All are taken by open-iscsi."""
    results = parse(text(f"TargetName={name}", "TargetAddress=10.0.0.1,1"))
    assert targets(results) == {name: ["10.0.0.1:3260,1"]}
    assert causes(results) == []


@pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte-by-byte"])
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_costs_its_own_record_only(name: bytes, step: int) -> None:
    data = text(
        f"TargetName={ONE}",
        "TargetAddress=10.0.0.1,1",
        b"TargetName=" + name,
        "TargetAddress=10.0.0.66,1",
        f"TargetName={TWO}",
    )
    results = parse(data, step=step)
    assert targets(results) == {ONE: ["10.0.0.1:3260,1"], TWO: ["192.0.2.1:3261"]}
    assert len(causes(results)) == 1
    assert causes(results)[0].startswith(("TargetName=", "the text ", "the pair ", 'the pair "TargetName='))


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(b"10.0.0.256:3260,1", id="octet"),
        pytest.param(b"10.0.0.1:0,1", id="port-0"),
        pytest.param(b"10.0.0.1:65536,1", id="port"),
        pytest.param(b"10.0.0.1:3260,65536", id="tag"),
        pytest.param(b"2001:db8::1:3260,1", id="no-brackets"),
        pytest.param(b"[fe80::1%eth0]:3260,1", id="zone"),
        pytest.param(b"../../x", id="path"),
        pytest.param(b"host\x1b]0;x\x07:3260,1", id="escape-sequence"),
        pytest.param(b"\xff\xff", id="not-utf-8"),
        pytest.param(b"a" * 600, id="600-bytes"),
        pytest.param(b"a" * 70_000, id="70000-bytes"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_bad_address_is_left_out(address: bytes) -> None:
    good_too = parse(text(f"TargetName={ONE}", b"TargetAddress=" + address, "TargetAddress=10.0.0.1,1"))
    assert targets(good_too) == {ONE: ["10.0.0.1:3260,1"]}
    assert len(causes(good_too)) == 1
    alone = parse(text(f"TargetName={ONE}", b"TargetAddress=" + address, f"TargetName={TWO}"))
    assert targets(alone) == {TWO: ["192.0.2.1:3261"]}, "the portal that was asked is not made up for it"
    assert causes(alone)[1] == f'"{ONE}": none of its addresses can be used'


def test_an_address_before_any_name() -> None:
    results = parse(text("TargetAddress=10.0.0.66:3260,1", f"TargetName={ONE}"))
    assert targets(results) == {ONE: ["192.0.2.1:3261"]}
    assert causes(results) == ['"TargetAddress=10.0.0.66:3260,1" came before any TargetName']


@pytest.mark.parametrize(
    ("pair", "cause"),
    [
        (b"TargetName", "no equals sign"),
        (b"TargetAddress", "no equals sign"),
        (b"nonsense", "no equals sign"),
        (b"=value", "is not the name of a key"),
        (b"bad key=value", "is not the name of a key"),
        (b"X-key=\xff", "is not UTF-8"),
        (b"X-key=" + b"v" * PAIR_MAX, f"has {PAIR_MAX + 6} bytes, at most {PAIR_MAX}"),
        (b"SendTargets=Reject", "it does not serve this kind of discovery"),
        (b"SendTargets=NotUnderstood", "it does not serve this kind of discovery"),
    ],
)
def test_a_broken_pair_is_told(pair: bytes, cause: str) -> None:
    results = parse(text(f"TargetName={ONE}", "TargetAddress=10.0.0.1,1", pair))
    assert targets(results) == {ONE: ["10.0.0.1:3260,1"]}
    assert cause in causes(results)[0]


@pytest.mark.parametrize(("length", "refused"), [(PAIR_MAX, 0), (PAIR_MAX + 1, 1)])
@pytest.mark.parametrize("step", [0, 1, PAIR_MAX])
def test_the_limit_of_a_pair(length: int, refused: int, step: int) -> None:
    assert len(causes(parse(text(b"X-key=" + b"v" * (length - 6)), step=step))) == refused


def test_only_the_target_that_was_asked_for() -> None:
    results = parse(text(f"TargetName={TWO}", "TargetAddress=10.0.0.66,1", f"TargetName={ONE}"), expected=ONE)
    assert targets(results) == {ONE: ["192.0.2.1:3261"]}
    assert causes(results) == [f'the target named "{TWO}", asked for was "{ONE}"']


def test_too_many_portals_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "PORTALS_MAX", 3)
    addresses = [f"TargetAddress=10.0.0.{number},1" for number in range(6)]
    parser = SendTargetsParser(ASKED)
    results = parser.feed(text(f"TargetName={ONE}", *addresses, f"TargetName={TWO}", *addresses[:1]), True)
    assert targets(results) == {ONE: [f"10.0.0.{number}:3260,1" for number in range(3)], TWO: ["10.0.0.0:3260,1"]}
    assert [item.cause for item in results if isinstance(item, RecordRefused)] == [f'"{ONE}": more than 3 portals']
    assert parser.refused == 3


def test_too_many_targets_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "TARGETS_MAX", 4)
    parser = SendTargetsParser(ASKED)
    results = parser.feed(text(*(f"TargetName={ONE}{number}" for number in range(9))), True)
    assert list(targets(results)) == [f"{ONE}{number}" for number in range(4)]
    assert [item.cause for item in results if isinstance(item, RecordRefused)] == ["more than 4 targets"]
    assert (parser.found, parser.refused) == (4, 5)


def test_too_many_refusals_are_counted() -> None:
    parser = SendTargetsParser(ASKED)
    results = parser.feed(text(*("TargetName=../" for _ in range(1000))), True)
    assert len(results) == discovery.REFUSALS_TOLD_MAX
    told = [item.cause for item in results if isinstance(item, RecordRefused)]
    assert told[-1].endswith("; further refusals are only counted")
    assert not told[-2].endswith("counted")
    assert parser.refused == 1000


@pytest.mark.parametrize("piece", [text(f"TargetName={ONE}"), b"a" * 100], ids=["targets", "one-pair"])
def test_an_endless_answer_ends(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(discovery, "ANSWER_MAX", 10 * len(piece))
    parser = SendTargetsParser(ASKED)
    for _ in range(10):
        parser.feed(piece, False)
    with pytest.raises(ProtocolViolation, match="is not over after"):
        parser.feed(b"a", False)


def answer(count: int, segment: int) -> Iterator[bytes]:
    """``count`` targets of two portals, in segments, made as they are asked for."""
    data = bytearray()
    for number in range(count):
        data += text(
            f"TargetName={ONE}.{number:08d}", f"TargetAddress=10.0.{number % 7}.5:3260,1", "TargetAddress=[fd00::5],2"
        )
        while len(data) >= segment:
            yield bytes(data[:segment])
            del data[:segment]
    yield bytes(data)


def peak_of(count: int) -> int:
    """Bytes the parser holds at most while it reads ``count`` targets."""
    parser = SendTargetsParser(ASKED)
    tracemalloc.start()
    try:
        found = sum(len(parser.feed(segment, False)) for segment in answer(count, 8192))
        found += len(parser.feed(b"", True))
        assert found == parser.found == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_ten_thousand_targets_take_the_memory_of_a_thousand() -> None:
    few, many = peak_of(1000), peak_of(10_000)
    assert many < few + 16384
    assert many < 200_000


def test_one_endless_pair_takes_no_memory() -> None:
    parser, piece = SendTargetsParser(ASKED), b"a" * 8192
    parser.feed(b"TargetName=", False)
    tracemalloc.start()
    try:
        for _ in range(1000):
            parser.feed(piece, False)
        assert tracemalloc.get_traced_memory()[1] < 4 * PAIR_MAX + 16384
    finally:
        tracemalloc.stop()
    (refused,) = parser.feed(b"", True)
    assert isinstance(refused, RecordRefused)
    assert "has 8192011 bytes" in refused.cause


def test_addresses_that_differ_all_the_time_are_not_kept() -> None:
    parser = SendTargetsParser(ASKED)
    for number in range(3000):
        parser.feed(text(f"TargetName={ONE}{number}", f"TargetAddress=10.1.{number >> 8}.{number & 255},1"), False)
        assert len(parser._known) <= discovery.PORTALS_MAX
