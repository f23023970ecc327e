# SPDX-License-Identifier: LGPL-2.1-or-later
"""The DHCP codec: what goes out, what comes in, and what is left out of it with which reason."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from iscsiboot.network.dhcp_message import (
    MESSAGE_MIN,
    ClientMessage,
    MessageType,
    client_id,
    decode_server_message,
    lease_from,
)
from iscsiboot.network.dhcp_options import (
    LIST_MAX,
    ROUTES_MAX,
    DhcpError,
    Option,
    OptionReader,
    join_options,
    split_options,
)
from iscsiboot.network.lease import DhcpLease, LeaseRoute
from tests.unit.network.support import MAC_BYTES, lease, server_message


def reader(code: int, value: bytes) -> OptionReader:
    return OptionReader({code: value})


def test_discover_on_the_wire() -> None:
    data = ClientMessage(kind=MessageType.DISCOVER, xid=0x01020304, mac=MAC_BYTES, seconds=7).encode()
    assert len(data) == MESSAGE_MIN
    assert data[:12] == bytes.fromhex("01 01 06 00 01020304 0007 8000")
    assert data[12:28] == bytes(16), "all four addresses are zero"
    assert data[28:44] == MAC_BYTES + bytes(10)
    assert data[236:243] == bytes.fromhex("63825363 350101")
    assert data[243:252] == bytes.fromhex("3d07") + client_id(MAC_BYTES)
    wanted: dict[int, bytes] = {}
    split_options(data[240:], wanted, "the test")
    codes = wanted[Option.PARAMETER_LIST]
    assert codes.index(Option.CLASSLESS_ROUTES) < codes.index(Option.ROUTER), "RFC 3442"
    assert wanted[Option.MAX_MESSAGE_SIZE] == (1500).to_bytes(2, "big")


def test_seconds_do_not_overflow() -> None:
    data = ClientMessage(kind=MessageType.DISCOVER, xid=1, mac=MAC_BYTES, seconds=1 << 20).encode()
    assert data[8:10] == b"\xff\xff"


def test_full_lease() -> None:
    options: dict[int, bytes] = {
        Option.ROUTER: bytes((10, 0, 0, 1, 10, 0, 0, 2)),
        Option.DNS: bytes((10, 0, 0, 53)),
        Option.HOST_NAME: b"node7\0",
        Option.DOMAIN_NAME: b"boot.example.",
        Option.INTERFACE_MTU: (9000).to_bytes(2, "big"),
        Option.RENEWAL_TIME: (1800).to_bytes(4, "big"),
        Option.REBINDING_TIME: (3150).to_bytes(4, "big"),
        Option.ROOT_PATH: b"iscsi:10.0.0.1::::iqn.2020-01.example:x",
    }
    got = lease_from(decode_server_message(server_message(MessageType.ACK, 1, options=options)), now=5.0)
    assert got == DhcpLease(
        address=lease().address,
        server=IPv4Address("10.0.0.1"),
        client_id=client_id(MAC_BYTES),
        lease_seconds=3600,
        renewal_seconds=1800,
        rebinding_seconds=3150,
        obtained=5.0,
        routers=(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")),
        dns=(IPv4Address("10.0.0.53"),),
        domain="boot.example",
        hostname="node7",
        mtu=9000,
        root_path=b"iscsi:10.0.0.1::::iqn.2020-01.example:x",
    )


def test_lease_for_ever_and_without_mask() -> None:
    options: dict[int, bytes] = {Option.LEASE_TIME: b"\xff" * 4, Option.SUBNET_MASK: b"\xff\0\xff\0"}
    got = lease_from(decode_server_message(server_message(MessageType.ACK, 1, options=options)), now=0.0)
    assert (got.lease_seconds, str(got.address)) == (None, "10.0.0.5/32")
    assert got.ignored == ("SUBNET_MASK (1): 255.0.255.0 is no subnet mask",)


def test_classless_routes_replace_routers() -> None:
    value = bytes((0, 10, 0, 0, 1, 16, 10, 8, 10, 0, 0, 2, 25, 192, 168, 1, 128, 0, 0, 0, 0))
    options: dict[int, bytes] = {Option.CLASSLESS_ROUTES: value, Option.ROUTER: bytes((10, 0, 0, 9))}
    got = lease_from(decode_server_message(server_message(MessageType.ACK, 1, options=options)), now=0.0)
    assert got.routers == ()
    assert got.routes == (
        LeaseRoute(destination=IPv4Network("0.0.0.0/0"), gateway=IPv4Address("10.0.0.1")),
        LeaseRoute(destination=IPv4Network("10.8.0.0/16"), gateway=IPv4Address("10.0.0.2")),
        LeaseRoute(destination=IPv4Network("192.168.1.128/25"), gateway=None),
    )


@pytest.mark.parametrize(
    ("value", "count", "ignored"),
    [
        (b"", 0, 0),
        (bytes((33, 10, 0, 0, 0, 0, 10, 0, 0, 1)), 0, 1),
        (bytes((24, 10, 0, 0, 10, 0, 0)), 0, 1),
        (bytes((24,)), 0, 1),
        (bytes((0, 10, 0, 0, 1)) + bytes((24,)), 0, 1),
        (bytes((24, 10, 0, 0, 224, 0, 0, 1)), 0, 1),
        (bytes((8, 127, 10, 0, 0, 1)), 0, 1),
        (bytes((0, 10, 0, 0, 1)) * ROUTES_MAX, ROUTES_MAX, 0),
        (bytes((0, 10, 0, 0, 1)) * (ROUTES_MAX + 1), 0, 1),
        (bytes((24, 10, 1, 2, 10, 0, 0, 1)), 1, 0),
    ],
    ids=[
        "none",
        "prefix-33",
        "short",
        "only-prefix",
        "second-short",
        "multicast",
        "loopback",
        "most",
        "too-many",
        "one",
    ],
)
def test_classless_routes_are_all_or_nothing(value: bytes, count: int, ignored: int) -> None:
    read = reader(Option.CLASSLESS_ROUTES, value)
    assert (len(read.routes()), len(read.ignored)) == (count, ignored)


def test_overload_and_long_options_are_joined_in_order() -> None:
    """RFC 3396 section 5: the parts of one option, first those in options, then file, then sname."""
    message = server_message(
        MessageType.ACK,
        1,
        options={Option.OVERLOAD: b"\3", Option.ROOT_PATH: b"one-"},
        file=bytes((0, Option.ROOT_PATH, 4)) + b"two-" + b"\xff",
        sname=bytes((Option.ROOT_PATH, 5)) + b"three",
    )
    assert decode_server_message(message).options[Option.ROOT_PATH] == b"one-two-three"


@pytest.mark.parametrize(
    ("overload", "found"), [(b"\1", b"F"), (b"\2", b"S"), (b"\0", None)], ids=["file", "sname", "no"]
)
def test_only_overloaded_fields_are_read(overload: bytes, found: bytes | None) -> None:
    message = server_message(
        MessageType.ACK,
        1,
        options={Option.OVERLOAD: overload},
        file=bytes((Option.ROOT_PATH, 1)) + b"F",
        sname=bytes((Option.ROOT_PATH, 1)) + b"S",
    )
    assert decode_server_message(message).options.get(Option.ROOT_PATH) == found


def test_long_values_are_split_and_joined() -> None:
    area = join_options([(Option.ROOT_PATH, b"x" * 600), (Option.HOST_NAME, b"")])
    found: dict[int, bytes] = {}
    split_options(area, found, "the test")
    assert found == {Option.ROOT_PATH: b"x" * 600, Option.HOST_NAME: b""}
    with pytest.raises(ValueError, match="outside 1 to 254"):
        join_options([(255, b"")])


WHOLE = server_message(MessageType.ACK, 1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (WHOLE[:239], "no DHCP message"),
        (server_message(MessageType.ACK, 1, op=1), "operation 1 is no reply"),
        (WHOLE[:1] + b"\x20" + WHOLE[2:], "is no Ethernet"),
        (WHOLE[:2] + b"\xff" + WHOLE[3:], "255 bytes is no Ethernet"),
        (WHOLE[:236] + b"\0\0\0\0" + WHOLE[240:], "magic cookie"),
        (WHOLE[:240], "message type"),
        (server_message(9, 1), "message type"),
        (server_message(MessageType.DISCOVER, 1), "message type"),
        (server_message(MessageType.ACK, 1, options={Option.OVERLOAD: b"\4"}), "overload"),
        (server_message(MessageType.ACK, 1, options={Option.OVERLOAD: b""}), "overload"),
        (WHOLE[:-1] + b"\x06", "option 6 in the options has no length"),
        (WHOLE[:-1] + b"\x06\x04abc", "says 4 bytes, 3 are left"),
        (server_message(MessageType.ACK, 1, options={Option.OVERLOAD: b"\1"}, file=b"\x06\xff"), "in the file field"),
    ],
    ids=["short", "request", "token-ring", "long-mac", "no-magic", "no-options", "type-9", "client-type", "overload-4",
         "overload-empty", "no-length", "past-the-end", "past-the-file"],
)  # fmt: skip
def test_what_is_no_server_message(data: bytes, words: str) -> None:
    with pytest.raises(DhcpError, match=words):
        decode_server_message(data)


@pytest.mark.parametrize("cut", range(0, len(WHOLE), 7))
def test_every_truncation_is_an_error_or_a_message(cut: int) -> None:
    try:
        decode_server_message(WHOLE[:cut])
    except DhcpError:
        return
    assert cut > 240


@pytest.mark.parametrize(
    ("code", "value", "method"),
    [
        (Option.DNS, b"\x0a\0\0", "addresses"),
        (Option.DNS, b"\0\0\0\0", "addresses"),
        (Option.DNS, bytes(range(1, 1 + 4 * (LIST_MAX + 1))), "addresses"),
        (Option.SERVER_ID, b"\x0a\0\0\1\x0a\0\0\2", "address"),
        (Option.SERVER_ID, b"\xff\xff\xff\xff", "address"),
        (Option.HOST_NAME, b"../etc", "name"),
        (Option.HOST_NAME, b"a b", "name"),
        (Option.HOST_NAME, b"a\nb", "name"),
        (Option.HOST_NAME, b"-a", "name"),
        (Option.HOST_NAME, b"a..b", "name"),
        (Option.HOST_NAME, b"\0", "name"),
        (Option.HOST_NAME, b"\xc3\xa4", "name"),
        (Option.HOST_NAME, b"a" * 64, "name"),
        (Option.HOST_NAME, b"a." * 127 + b"a", "name"),
        (Option.INTERFACE_MTU, (575).to_bytes(2, "big"), "mtu"),
        (Option.INTERFACE_MTU, b"\5", "mtu"),
        (Option.SUBNET_MASK, b"\0\0\0\0", "prefix"),
        (Option.SUBNET_MASK, b"\xff\xff", "prefix"),
    ],
)
def test_malformed_options_are_left_out_with_their_reason(code: Option, value: bytes, method: str) -> None:
    read = reader(code, value)
    calls = {
        "addresses": lambda: len(read.addresses(code)) in (0, LIST_MAX),
        "address": lambda: read.address(code) is None,
        "name": lambda: read.name(code) is None,
        "mtu": lambda: read.mtu() is None,
        "prefix": lambda: read.prefix() is None,
    }
    assert calls[method]()
    (reason,) = read.ignored
    assert reason.startswith(code.name)
    assert reason.isprintable()


@pytest.mark.parametrize("code", [Option.HOST_NAME, Option.DNS, Option.SUBNET_MASK, Option.INTERFACE_MTU])
def test_absent_options_are_no_fault(code: Option) -> None:
    read = OptionReader({})
    assert (read.name(code), read.addresses(code), read.address(code), read.prefix(), read.mtu()) == (
        None,
        (),
        None,
        None,
        None,
    )
    assert read.ignored == []


def test_lease_survives_json() -> None:
    full = lease(
        routers=(IPv4Address("10.0.0.1"),),
        routes=(LeaseRoute(destination=IPv4Network("10.8.0.0/16"), gateway=None),
                LeaseRoute(destination=IPv4Network("0.0.0.0/0"), gateway=IPv4Address("10.0.0.1"))),
        dns=(IPv4Address("10.0.0.53"),), domain="a.example", hostname="a", mtu=1400, root_path=b"\0\xff",
        renewal_seconds=9,
    )  # fmt: skip
    assert DhcpLease.from_json(full.to_json()) == full


@pytest.mark.parametrize(
    ("key", "value"),
    [("address", "x"), ("lease_seconds", "9"), ("lease_seconds", True), ("domain", 5), ("routes", [["10.0.0.0/8"]]),
     ("client_id", "zz"), ("obtained", None)],
)  # fmt: skip
def test_lease_json_is_checked(key: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        DhcpLease.from_json({**lease().to_json(), key: value})
