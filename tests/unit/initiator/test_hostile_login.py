# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lies of :mod:`test_login_faults` once more, through a whole connection and with the answers in pieces.

Whatever the pieces: the same words, phase and exit code, and nothing is sent or taken afterwards.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.connection import ConnectionPhase
from iscsiboot.initiator.errors import LoginError, Misuse
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.model.portal import Portal, parse_ip
from tests.doubles.conversation import OWN, USER, credentials
from tests.doubles.link import link
from tests.doubles.session import Plan
from tests.doubles.target import Script, closing, redirect, silent
from tests.unit.initiator.test_login_faults import CASES, Case

WITHOUT_BYTES = {"silence", "close", "data cut off"}
"""Cases that are about a driver: on a stream they are a matter of time or of its end, which have their own tests."""
IN_OTHER_WORDS = {
    "oversized": "announces 16777215 bytes of data, at most 8192 are allowed",
    "garbage": "unknown opcode 0x08 announces 3223089 bytes of data",
}
"""The stream refuses a length before anybody looks at the opcode."""

pieces = pytest.mark.parametrize("piece", [0, 1, 47], ids=["whole", "bytes", "47"])


@pieces
@pytest.mark.parametrize("case", [case for case in CASES if case.id not in WITHOUT_BYTES], ids=lambda case: case.id)
def test_lies(case: Case, piece: int) -> None:
    creds = None if case.auth == "none" else credentials(mutual=case.auth == "mutual")
    ours = link(Plan(login=case.script), piece=piece, credentials=creds)
    with pytest.raises(LoginError) as caught:
        ours.start()
    error = caught.value
    assert IN_OTHER_WORDS.get(case.id, case.says) in error.cause
    assert (error.phase, error.exit_code) == (case.phase, case.code)
    assert case.hint in error.hint
    assert error.line().isprintable()
    assert ours.events == []
    assert ours.machine.phase is ConnectionPhase.FAILED
    assert ours.machine.data_to_send() == b""
    with pytest.raises(Misuse):
        ours.machine.receive(b"\x23", ours.now)


@pieces
@pytest.mark.parametrize("number", range(4))
def test_closing_at_each_step(number: int, piece: int) -> None:
    script = Script(user=USER, own=OWN, faults={number: closing})
    ours = link(Plan(login=script), piece=piece, credentials=credentials(mutual=True))
    with pytest.raises(LoginError, match="the target closed the connection") as caught:
        ours.start()
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.LOGIN, True)
    assert caught.value.phase == ("operational negotiation" if number == 3 else "security negotiation")


@pytest.mark.parametrize("number", range(4))
def test_silence_at_each_step_is_left_to_the_driver(number: int) -> None:
    """A login has no timer of its own: how long it may take includes connecting, which is not done here."""
    script = Script(user=USER, own=OWN, faults={number: silent})
    ours = link(Plan(login=script), credentials=credentials(mutual=True))
    ours.start()
    assert ours.machine.phase is ConnectionPhase.LOGIN
    assert ours.machine.next_deadline() is None
    error = ours.machine.abandon("waited 15 s", hint="", exit_code=ExitCode.PDU_TIMEOUT, retryable=True)
    assert isinstance(error, LoginError)
    assert error.phase == ("operational negotiation" if number == 3 else "security negotiation")


@pieces
@pytest.mark.parametrize("length", [0, 1, 47, 48, 49, 60])
def test_closing_inside_an_answer(length: int, piece: int) -> None:
    script = Script(faults={0: lambda reply: replace(reply, pdu=reply.wire()[:length], close=True)})
    ours = link(Plan(login=script), piece=piece)
    with pytest.raises(LoginError, match="the target closed the connection"):
        ours.start()


@pieces
def test_nothing_behind_a_redirect_is_looked_at(piece: int) -> None:
    """A target that goes on talking after it has sent us away."""
    script = Script(
        faults={0: lambda reply: replace(reply, pdu=redirect("192.0.2.9:3261")(reply).wire() + b"\xff" * 100)}
    )
    ours = link(Plan(login=script), piece=piece)
    ours.start()
    assert ours.events == [LoginRedirected(portal=Portal(address=parse_ip("192.0.2.9"), port=3261), permanent=False)]
    assert ours.machine.phase is ConnectionPhase.REDIRECTED


@pieces
def test_an_honest_target_is_let_in(piece: int) -> None:
    """The control of the cases above."""
    ours = link(Plan(login=Script(user=USER, own=OWN)), piece=piece, credentials=credentials(mutual=True))
    ours.start()
    assert ours.until(LoginSucceeded).mutual
    assert ours.target.violations == []
