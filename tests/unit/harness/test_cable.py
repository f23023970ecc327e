# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cable between a guest and its target: what it counts, what a cut does."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.doubles.peers import LOOPBACK
from tests.qemu.harness.cable import Cable

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
