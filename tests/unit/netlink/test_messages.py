# SPDX-License-Identifier: LGPL-2.1-or-later
"""Requests byte by byte against include/scsi/iscsi_if.h, and decoding of anything a socket may give."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.netlink import messages
from iscsiboot.netlink.messages import (
    ConnError,
    EventsLost,
    Malformed,
    OtherEvent,
    RecvPdu,
    Refusal,
    Reply,
    Request,
    SessionEvent,
    decode,
)
from iscsiboot.netlink.uapi import REQUEST_LAYOUTS, HostParam, IscsiErr, KEvent, Param, StopFlag, UEvent, name_of
from tests.doubles.iscsi_kernel import kernel_event

H = 0x1122334455667788

# request, its number, then (offset in struct iscsi_uevent, struct format, value) of each field, then the data
CASES = [
    pytest.param(
        messages.create_session(H, initial_cmdsn=5, cmds_max=128, queue_depth=32),
        11,
        [(16, "I", 5), (20, "H", 128), (22, "H", 32)],
        b"",
        id="create-session",
    ),
    pytest.param(messages.destroy_session(H, sid=9), 12, [(16, "I", 9)], b"", id="destroy-session"),
    pytest.param(messages.destroy_session_async(H, sid=9), 43, [(16, "I", 9)], b"", id="destroy-session-async"),
    pytest.param(messages.unbind_session(H, sid=9), 27, [(16, "I", 9)], b"", id="unbind-session"),
    pytest.param(messages.create_conn(H, sid=9, cid=1), 13, [(16, "I", 9), (20, "I", 1)], b"", id="create-conn"),
    pytest.param(messages.destroy_conn(H, sid=9, cid=1), 14, [(16, "I", 9), (20, "I", 1)], b"", id="destroy-conn"),
    pytest.param(messages.start_conn(H, sid=9, cid=1), 17, [(16, "I", 9), (20, "I", 1)], b"", id="start-conn"),
    pytest.param(messages.get_stats(H, sid=9, cid=1), 20, [(16, "I", 9), (20, "I", 1)], b"", id="get-stats"),
    pytest.param(
        messages.bind_conn(H, sid=9, cid=1, endpoint=7),
        15,
        [(16, "I", 9), (20, "I", 1), (24, "Q", 7), (32, "I", 1)],
        b"",
        id="bind-conn",
    ),
    pytest.param(
        messages.stop_conn(H, sid=9, cid=1, flag=StopFlag.STOP_CONN_RECOVER),
        18,
        [(16, "I", 9), (20, "I", 1), (24, "Q", 0), (32, "I", 3)],
        b"",
        id="stop-conn",
    ),
    pytest.param(
        messages.set_param(H, sid=9, cid=1, param=Param.ISCSI_PARAM_TPGT, value="17"),
        16,
        [(16, "I", 9), (20, "I", 1), (24, "I", 16), (28, "I", 3)],
        b"17\0",
        id="set-param",
    ),
    pytest.param(
        messages.set_host_param(H, host=4, param=HostParam.ISCSI_HOST_PARAM_NETDEV_NAME, value="eth0"),
        26,
        [(16, "I", 4), (20, "I", 2), (24, "I", 5)],
        b"eth0\0",
        id="set-host-param",
    ),
    pytest.param(
        messages.send_pdu(H, sid=9, cid=1, bhs=b"B" * 48, data=b"data"),
        19,
        [(16, "I", 9), (20, "I", 1), (24, "I", 48), (28, "I", 4)],
        b"B" * 48 + b"data",
        id="send-pdu",
    ),
]


@pytest.mark.parametrize(("request_", "number", "fields", "data"), CASES)
def test_request_bytes(request_: Request, number: int, fields: list[tuple[int, str, int]], data: bytes) -> None:
    packed = request_.pack(0xF0000001)
    expected = bytearray(56)
    for offset, form, value in [(0, "I", number), (8, "Q", H), *fields]:
        struct.pack_into(f"={form}", expected, offset, value)
    assert packed == struct.pack("=IHHII", len(packed), number, 0, 0, 0xF0000001) + bytes(expected) + data
    assert Request.unpack(packed) == request_


@pytest.mark.parametrize(("request_", "number", "fields", "data"), CASES)
def test_a_cut_request_is_refused_at_every_length(
    request_: Request, number: int, fields: list[tuple[int, str, int]], data: bytes
) -> None:
    packed = request_.pack(1)
    for length in range(len(packed)):
        with pytest.raises(ValueError):
            Request.unpack(packed[:length])


def test_every_request_has_a_case() -> None:
    assert {case.values[0].type for case in CASES} == set(REQUEST_LAYOUTS) == set(UEvent)  # type: ignore[union-attr]  # params built above


def test_secrets_never_show() -> None:
    request = messages.set_param(H, sid=1, cid=0, param=Param.ISCSI_PARAM_PASSWORD, value=b"open sesame")
    assert b"open sesame\0" in request.pack(1)
    for text in (repr(request), str(request), request.describe()):
        assert "sesame" not in text
    assert request.describe() == "SET_PARAM sid=1 cid=0 param=ISCSI_PARAM_PASSWORD len=12"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: messages.set_param(H, sid=1, cid=0, param=Param.ISCSI_PARAM_TPGT, value="a\0b"), id="nul"),
        pytest.param(lambda: messages.send_pdu(H, sid=1, cid=0, bhs=b"x" * 47, data=b""), id="short-bhs"),
        pytest.param(lambda: messages.send_pdu(H, sid=1, cid=0, bhs=b"x" * 48, data=b"abc"), id="unpadded"),
        pytest.param(lambda: messages.destroy_session(H, sid=1 << 32).pack(1), id="sid-33-bits"),
        pytest.param(lambda: messages.destroy_session(H, sid=-1).pack(1), id="sid-negative"),
        pytest.param(lambda: messages.destroy_session(1 << 64, sid=1).pack(1), id="handle-65-bits"),
        pytest.param(
            lambda: messages.create_session(H, initial_cmdsn=0, cmds_max=65536, queue_depth=1).pack(1), id="cmds-max"
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: object) -> None:
    with pytest.raises(ValueError):
        make()  # type: ignore[operator]  # a lambda from the table


PDU = kernel_event(KEvent.ISCSI_KEVENT_RECV_PDU, 3, 0, data=b"H" * 48 + b"text")
EVENTS = [
    pytest.param(PDU, RecvPdu(sid=3, cid=0, bhs=b"H" * 48, data=b"text"), id="recv-pdu"),
    pytest.param(
        kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 3, 1, 1020), ConnError(sid=3, cid=1, error=1020), id="conn-error"
    ),
    pytest.param(
        kernel_event(KEvent.ISCSI_KEVENT_UNBIND_SESSION, 3, 12),
        SessionEvent(kind=KEvent.ISCSI_KEVENT_UNBIND_SESSION, sid=3, host=12),
        id="unbind",
    ),
    pytest.param(
        kernel_event(KEvent.ISCSI_KEVENT_DESTROY_SESSION, 12, 3),  # this one has the host first
        SessionEvent(kind=KEvent.ISCSI_KEVENT_DESTROY_SESSION, sid=3, host=12),
        id="destroy",
    ),
    pytest.param(kernel_event(KEvent.ISCSI_KEVENT_PING_COMP, 1, 1), OtherEvent(type=111), id="ping"),
    pytest.param(kernel_event(4711, 1, 1), OtherEvent(type=4711), id="of-a-later-kernel"),
]


@pytest.mark.parametrize(("datagram", "event"), EVENTS)
def test_events(datagram: bytes, event: object) -> None:
    assert list(decode(datagram)) == [event]
    assert list(decode(datagram + datagram)) == [event, event]


@pytest.mark.parametrize(("datagram", "event"), EVENTS)
def test_a_cut_event_is_malformed_at_every_length(datagram: bytes, event: object) -> None:
    for length in range(1, len(datagram)):
        (only,) = decode(datagram[:length])
        assert isinstance(only, Malformed)


def test_pdu_text_stays_out_of_messages() -> None:
    (event,) = decode(PDU)
    assert "text" not in repr(event)


def test_answers() -> None:
    head = struct.pack("=IHHII", 72, 11, 0, 0, 0)
    done = head + struct.pack("=IIQ", 11, 0, H) + bytes(24) + struct.pack("=IIII", 5, 14, 0, 0)
    refused = head + struct.pack("=IIQ", 103, -16 & 0xFFFFFFFF, H) + bytes(40)
    assert list(decode(done + refused)) == [Reply(request=11, first=5, second=14), Refusal(request=11, errno=16)]


@pytest.mark.parametrize(("first", "retcode"), [(0, 0), (1, 1), (0xFFFFFF95, -107)])
def test_retcode_is_signed(first: int, retcode: int) -> None:
    assert Reply(request=15, first=first, second=0).retcode == retcode


@pytest.mark.parametrize(
    "length", [pytest.param(0, id="zero"), pytest.param(15, id="short"), pytest.param(1 << 31, id="huge")]
)
def test_a_lying_length_ends_the_datagram(length: int) -> None:
    datagram = struct.pack("=IHHII", length, 0, 0, 0, 0) + bytes(100)
    _, only = decode(PDU + datagram)
    assert isinstance(only, Malformed)
    assert str(length) in only.why


@given(st.binary(max_size=400))
def test_random_bytes_end_in_values(datagram: bytes) -> None:
    found = list(decode(datagram))
    assert len(found) <= len(datagram) // 16 + 1
    assert not any(isinstance(event, EventsLost) for event in found)


@given(st.integers(0, 130), st.binary(max_size=120), st.integers(0, 0xFFFF))
def test_any_body_under_a_right_header_ends_in_one_value(number: int, rest: bytes, kind: int) -> None:
    body = struct.pack("=I", number) + rest
    (only,) = decode(struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4))
    assert isinstance(only, Malformed) == (len(body) < 56 or (number == 101 and len(body) < 56 + 48))


def test_names_of_unknown_numbers_are_the_numbers() -> None:
    assert name_of(IscsiErr, 1020) == "ISCSI_ERR_TCP_CONN_CLOSE"
    assert name_of(IscsiErr, 1999) == "1999"
