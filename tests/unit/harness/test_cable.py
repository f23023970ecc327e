# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cable between a guest and its target: what it counts, what a cut does."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.doubles.peers import LOOPBACK
from tests.qemu.harness.cable import Cable, Log, Pdus

LOGIN, NOP_OUT = b"\x43\x87" + bytes(46), b"\x40\x80" + bytes(46)
"""First PDUs: a login request with its I bit (as every one has), and something else."""


@pytest.fixture
def target() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as listener:
        listener.settimeout(10)
        yield listener


@pytest.fixture
def cable(target: socket.socket) -> Iterator[Cable]:
    with Cable(target.getsockname()[1]) as between:
        yield between


def connect(cable: Cable) -> socket.socket:
    return socket.create_connection((LOOPBACK, cable.port), timeout=10)


def test_bytes_go_both_ways_and_only_logins_count(cable: Cable, target: socket.socket) -> None:
    for first, logins in ((NOP_OUT, 0), (LOGIN, 1), (LOGIN, 2)):
        with connect(cable) as guest, target.accept()[0] as served:
            guest.sendall(first)
            assert served.recv(100) == first
            served.sendall(b"answer")
            assert guest.recv(100) == b"answer"
            guest.sendall(LOGIN)
            assert served.recv(100) == LOGIN, "only the first PDU of a connection says what it is for"
            assert len(cable.log.logins) == logins


def test_who_hangs_up_is_heard_of_on_the_other_side(cable: Cable, target: socket.socket) -> None:
    with connect(cable) as guest, target.accept()[0] as served:
        guest.close()
        served.settimeout(10)
        with pytest.raises(ConnectionResetError):
            served.recv(1)


def test_a_cut_resets_and_refuses_until_it_is_mended(cable: Cable, target: socket.socket) -> None:
    with connect(cable) as guest, target.accept()[0] as served:
        cable.cut()
        for end in (guest, served):
            end.settimeout(10)
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(cable)
    cable.mend()
    with connect(cable) as guest, target.accept()[0] as served:
        guest.sendall(b"x")
        assert served.recv(1) == b"x"
    ((began, ended),) = cable.log.cuts
    assert began < ended


def test_a_target_that_is_not_there_hangs_up(target: socket.socket) -> None:
    port = target.getsockname()[1]
    target.close()
    with Cable(port) as cable, connect(cable) as guest:
        assert guest.recv(1) == b""


def pdu(opcode: int, flags: int = 0x80, data: bytes = b"", ahs: bytes = b"") -> bytes:
    """A PDU with its padding."""
    header = bytes([opcode, flags, 0, 0, len(ahs) // 4]) + len(data).to_bytes(3, "big") + bytes(40)
    return header + ahs + data + bytes(-len(data) % 4)


WRITE, READ = pdu(0x01, 0xA1, b"x" * 4095), pdu(0x01, 0xC1)
LOGOUT, RESPONSE, DATA_IN = pdu(0x46), pdu(0x21), pdu(0x25, data=b"y" * 513, ahs=bytes(8))


@pytest.mark.parametrize("size", [1, 7, 47, 48, 49, 5000])
def test_headers_are_found_however_the_bytes_are_cut(size: int) -> None:
    sent = [WRITE, LOGIN, DATA_IN, READ, RESPONSE]
    stream, found = b"".join(sent), Pdus()
    heads = [head for at in range(0, len(stream), size) for head in found.feed(stream[at : at + size])]
    assert heads == [one[:48] for one in sent]


def test_writes_logouts_and_first_answers_are_noted(cable: Cable, target: socket.socket) -> None:
    log = cable.log
    for times in (1, 2):
        with connect(cable) as guest, target.accept()[0] as served:
            for sent in (LOGIN, WRITE, READ, LOGOUT):
                guest.sendall(sent)
                assert served.recv(len(sent), socket.MSG_WAITALL) == sent
            for answer in (pdu(0x23), RESPONSE, DATA_IN):
                served.sendall(answer)
                assert guest.recv(len(answer), socket.MSG_WAITALL) == answer
            assert [len(each) for each in (log.logins, log.writes, log.logouts, log.answers)] == [times] * 4


def test_a_recovery_is_from_the_mended_cable_to_the_disk_s_answer() -> None:
    log = Log(cuts=[(1.0, 2.0), (5.0, 6.0), (7.0, 8.0)], answers=[0.5, 3.5, 9.0, 9.5], logins=[0.25, 2.5, 6.0])
    assert log.returns() == [0.5, 0.0, None]
    assert log.recoveries() == [1.5, None, 1.0], "an answer behind the next cut is the next cut's"
    assert Log().recoveries() == []
