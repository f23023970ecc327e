# SPDX-License-Identifier: LGPL-2.1-or-later
"""GET_STATS: the request's bytes, the multicast answer among other events, the structure, and damaged ones."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.model.deadline import Deadline
from iscsiboot.netlink.messages import RecvPdu, Statistics, decode, get_stats
from iscsiboot.netlink.socket import IscsiNetlink, NetlinkError, RequestRefused
from iscsiboot.netlink.statistics import COUNTERS, CUSTOM_MAX, decode_statistics
from iscsiboot.netlink.uapi import KEvent
from tests.doubles.iscsi_kernel import HANDLE, FakeKernel, kernel_event, statistics_event


def structure(*custom: tuple[str, int], count: int | None = None) -> bytes:
    """``struct iscsi_stats``, its counters 1000, 1001, ..."""
    fixed = struct.pack("=QQ19II", *range(1000, 1021), len(custom) if count is None else count)
    return fixed + b"".join(name.encode().ljust(64, b"\0") + struct.pack("=Q", value) for name, value in custom)


def test_the_structures_layout() -> None:
    found = decode_statistics(structure(("eh_abort_cnt", 1 << 40)))
    assert found.counters == tuple(zip(COUNTERS, range(1000, 1021), strict=True))
    assert found.custom == (("eh_abort_cnt", 1 << 40),)
    assert len(structure()) == 96, "struct iscsi_stats without its tail has 96 bytes"


def test_what_follows_the_last_counter_is_not_read() -> None:
    assert decode_statistics(structure(("a", 1), ("b", 2), count=1) + bytes(8)).custom == (("a", 1),)


@pytest.mark.parametrize(
    "data",
    [b"", structure()[:-1], structure(("a", 1))[:-1], structure(count=CUSTOM_MAX + 1) + bytes(72 * 40)],
    ids=["nothing", "short", "short tail", "more than the kernel allows"],
)
def test_damaged(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"struct iscsi_stats|further counters"):
        decode_statistics(data)


@given(st.binary(max_size=400))
def test_any_bytes_end_in_numbers_or_valueerror(data: bytes) -> None:
    try:
        found = decode_statistics(data)
    except ValueError:
        return
    assert len(found.counters) == 21
    assert len(data) >= 96 + 72 * len(found.custom)


def test_names_the_driver_wrote_badly_are_shown() -> None:
    data = structure(count=1) + b"\xff\xfe" + bytes(62) + struct.pack("=Q", 3)
    assert decode_statistics(data).custom == ((r"\xff\xfe", 3),)


def test_the_request_and_its_answer() -> None:
    request = get_stats(HANDLE, sid=3, cid=0)
    packed = request.pack(1)
    assert packed[4:6] == b"\x14\x00"
    assert struct.unpack_from("=II", packed, 32) == (3, 0)
    assert request.describe() == "GET_STATS sid=3 cid=0"
    (answer,) = decode(statistics_event(3, 0, b"abcd"))
    assert answer == Statistics(sid=3, cid=0, data=b"abcd")


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    made = FakeKernel(tmp_path)
    made.leftover(creator=1, state="LOGGED_IN", connection="up")
    made.statistics = structure()
    return made


def ask(kernel: FakeKernel, netlink: IscsiNetlink, sid: int = 1) -> Statistics:
    return netlink.statistics(get_stats(HANDLE, sid=sid, cid=0), Deadline(at=200.0, reason="a test"))


def test_other_events_wait_and_other_sessions_counters_are_not_ours(kernel: FakeKernel) -> None:
    transport = kernel.transport()
    with IscsiNetlink(transport, now=lambda: 100.0) as netlink:
        kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_RECV_PDU, 7, 0, data=bytes(48)))
        kernel.multicast(statistics_event(7, 0, b"no"))
        answer = ask(kernel, netlink)
        assert answer.data == structure()
        event = netlink.next_event(Deadline(at=100.0, reason="a test"))
    assert isinstance(event, RecvPdu)


def test_counters_asked_for_before_are_stale(kernel: FakeKernel) -> None:
    with IscsiNetlink(kernel.transport(), now=lambda: 100.0) as netlink:
        kernel.multicast(statistics_event(1, 0, b"stale"))
        assert ask(kernel, netlink).data == structure()


def test_a_refusal(kernel: FakeKernel) -> None:
    with IscsiNetlink(kernel.transport(), now=lambda: 100.0) as netlink, pytest.raises(RequestRefused) as caught:
        ask(kernel, netlink, sid=99)
    assert caught.value.errno == errno.EINVAL


def test_silence_ends(kernel: FakeKernel) -> None:
    transport = kernel.transport()
    transport.sendto = lambda data, address, /: len(data)  # type: ignore[method-assign]
    with IscsiNetlink(transport, now=lambda: 300.0) as netlink, pytest.raises(NetlinkError, match="no answer to GET_S"):
        ask(kernel, netlink)
