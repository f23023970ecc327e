# SPDX-License-Identifier: LGPL-2.1-or-later
"""The login by hand that times are compared with is one: a target that counts each breach of protocol grants it."""

from __future__ import annotations

import pytest

from tests.doubles.server import TargetServer, refusing_port
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script
from tests.qemu.daemon.control import login

HOST = "127.0.0.1"
NAME = "iqn.2026-01.org.example:two"


def test_it_is_a_login_like_any_other() -> None:
    with TargetServer(lambda: FullTarget(Plan())) as server:
        spent = [login((HOST, server.port), NAME, number) for number in range(2)]
        assert server.violations == []
        asked = [target.login.requests[0] for target in server.full_targets]
    assert all(seconds > 0 for seconds in spent)
    assert len({request.isid for request in asked}) == 2


@pytest.mark.parametrize("change", [{"status_class": 2, "status_detail": 3}, {"transit": False, "nsg": 0, "tsih": 0}])
def test_a_login_that_is_not_granted_is_no_measure(change: dict[str, int]) -> None:
    script = Script(faults={-1: lambda reply: reply.changed(**change)})
    with (
        TargetServer(lambda: FullTarget(Plan(login=script))) as server,
        pytest.raises(OSError, match="does not grant"),
    ):
        login((HOST, server.port), NAME, 0)


def test_nobody_there_is_no_measure_either() -> None:
    with refusing_port() as port, pytest.raises(ConnectionRefusedError):
        login((HOST, port), NAME, 0)
