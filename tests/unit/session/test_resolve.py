# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host names: the resolver's order is kept, what it says is passed on, and nothing it answers gets by unchecked."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.portal import NamedPortal
from iscsiboot.session.resolve import ADDRESSES_MAX, resolve, resolve_all

THERE = NamedPortal(host="storage.example", port=3261, tpgt=4)


def answering(monkeypatch: pytest.MonkeyPatch, answer: Sequence[str] | Exception) -> None:
    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert (host, port) == (THERE.host, THERE.port)
        if isinstance(answer, Exception):
            raise answer
        return [(None, None, None, "", (address, port)) for address in answer]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_the_resolvers_order_is_kept_and_each_address_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, ["2001:db8::2", "192.0.2.9", "2001:db8::2", "192.0.2.1"])
    assert [portal.endpoint for portal in resolve_all(THERE)] == [
        "[2001:db8::2]:3261",
        "192.0.2.9:3261",
        "192.0.2.1:3261",
    ]
    assert resolve(THERE) == resolve_all(THERE)[0]
    assert resolve(THERE).tpgt == THERE.tpgt


def test_only_so_many_addresses_are_worth_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, [f"192.0.2.{number}" for number in range(40)])
    assert len(resolve_all(THERE)) == ADDRESSES_MAX


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(socket.gaierror(-2, "Name or service not known"), "Name or service not known", id="unknown"),
        pytest.param(OSError("no resolver"), "no resolver", id="without-words"),
        pytest.param(UnicodeError("label too long"), "label too long", id="no-host-name"),
        pytest.param([], "the resolver's answer is empty", id="empty"),
        pytest.param(["storage.example"], "storage.example", id="no-address"),
    ],
)
def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch, answer: list[str] | Exception, reason: str) -> None:
    answering(monkeypatch, answer)
    for call, words in ((resolve_all, "the name has no address: "), (resolve, "that name has no address: ")):
        with pytest.raises(IscsiBootError) as caught:
            call(THERE)
        error = caught.value
        assert words in error.cause
        assert reason in error.cause
        assert (error.stage, error.exit_code, error.retryable) == (Stage.CONNECT, ExitCode.TRANS, True)
        assert error.subject == str(THERE)
        assert error.hint


def test_a_name_every_machine_has() -> None:
    found = resolve_all(NamedPortal(host="localhost", port=99, tpgt=3))
    assert found
    assert all(portal.address.is_loopback and (portal.port, portal.tpgt) == (99, 3) for portal in found)
