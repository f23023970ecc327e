# SPDX-License-Identifier: LGPL-2.1-or-later
"""The peer's daemon in miniature: replies as long as it expects, with what was asked for in them."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.doubles.peer_iscsid import (
    CONFIG_FILE,
    CONFIG_INAME,
    CONFIG_PATH,
    INITIATOR_NAME,
    LOGGED_IN,
    REPLY_BYTES,
    SESSION_INFO,
    SESSION_LOGIN,
    SESSION_LOGOUT,
    SESSION_STATS,
    STATISTICS,
    answer,
    serve,
)

UNKNOWN = 99


def request(command: int) -> bytes:
    return struct.pack("=II", command, 0).ljust(16104, b"\0")


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [
        (CONFIG_FILE, 0, CONFIG_PATH),
        (CONFIG_INAME, 0, INITIATOR_NAME),
        (SESSION_LOGIN, 8, b""),
        (SESSION_LOGOUT, 8, b""),
        (SESSION_STATS, 8, STATISTICS),
        (SESSION_INFO, 0, LOGGED_IN),
        (UNKNOWN, 0, b""),
    ],
)
def test_replies(command: int, error: int, text: bytes) -> None:
    reply = answer(request(command), 8)
    assert len(reply) == REPLY_BYTES
    assert reply == (struct.pack("=II", command, error) + text).ljust(REPLY_BYTES, b"\0")


def until_closed(listener: socket.socket) -> None:
    """It serves until it is killed; here its listener is closed below it."""
    with suppress(OSError):
        serve(listener, 0)


def test_it_serves_one_after_the_other_and_minds_no_client_that_leaves(tmp_path: Path) -> None:
    place = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        threading.Thread(target=until_closed, args=(listener,), daemon=True).start()
        for data in (b"", b"\1", request(SESSION_LOGIN)):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(place)
                client.sendall(data)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(place)
            client.sendall(request(CONFIG_FILE))
            with client.makefile("rb") as file:
                assert file.read() == answer(request(CONFIG_FILE), 0)
