# SPDX-License-Identifier: LGPL-2.1-or-later
"""A target that lies, in every way the script knows: each ends in one LoginError that says what happened."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.chap import OUR_CHALLENGE_BYTES, ChapAlgorithm
from iscsiboot.initiator.conversation import EXCHANGES_MAX
from iscsiboot.initiator.errors import AlgorithmsRejected, LoginError
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.states import State
from iscsiboot.initiator.status import STATUSES
from iscsiboot.initiator.text import KEYS_MAX
from tests.doubles.conversation import (
    OWN,
    TARGET,
    USER,
    Transcript,
    config,
    converse,
    credentials,
    fixed_entropy,
)
from tests.doubles.target import (
    Reply,
    Script,
    ScriptedTarget,
    closing,
    endless,
    header,
    raw,
    redirect,
    silent,
    status,
    text,
    text_of,
    with_keys,
)

MUTUAL = Script(user=USER, own=OWN)
ONE_WAY = Script(user=USER)


def fail(script: Script, *, auth: str = "none", transcript: Transcript | None = None) -> LoginError:
    """Run a login that must fail; ``auth`` is none, chap or mutual."""
    creds = None if auth == "none" else credentials(mutual=auth == "mutual")
    machine = LoginMachine(config(credentials=creds), entropy=fixed_entropy)
    with pytest.raises(LoginError) as caught:
        converse(machine, ScriptedTarget(script), transcript)
    error = caught.value
    assert machine.state is State.FAILED
    assert machine.outcome is None
    assert error.subject == f"{TARGET} at 192.0.2.1:3260"
    line = error.line()
    assert line.isprintable()
    assert len(line) < 600
    for secret in (USER[1], OWN[1]):
        assert secret.decode() not in line
    return error


@dataclass(frozen=True)
class Case:
    """One lie and what must be said about it."""

    id: str
    script: Script
    says: str
    auth: str = "none"
    phase: str = "operational negotiation"
    code: ExitCode = ExitCode.FATAL_LOGIN
    hint: str = field(default="")


SECURITY = "security negotiation"
CASES = [
    # Mutual CHAP.
    Case(
        "wrong mutual secret",
        replace(MUTUAL, own=(OWN[0], b"wrong secret")),
        "wrong secret (mutual CHAP)",
        "mutual",
        SECURITY,
        hint="mutual CHAP (incoming)",
    ),
    Case("wrong mutual name", replace(MUTUAL, own=("evil", OWN[1])), 'names itself "evil"', "mutual", SECURITY),
    Case("no mutual proof", replace(MUTUAL, skip_proof=True), "did not prove who it is", "mutual", SECURITY),
    Case(
        "no mutual proof, hesitating",
        replace(MUTUAL, skip_proof=True, hesitate=2),
        "did not prove who it is",
        "mutual",
        SECURITY,
    ),
    Case(
        "mutual secret is ours",
        replace(MUTUAL, own=(OWN[0], USER[1])),
        "wrong secret (mutual CHAP): with the initiator's own",
        "mutual",
        SECURITY,
        hint="two different secrets",
    ),
    Case(
        "reflected challenge",
        replace(MUTUAL, challenge=fixed_entropy(OUR_CHALLENGE_BYTES)),
        "reflection",
        "mutual",
        SECURITY,
    ),
    Case("downgrade to None", Script(), "wants no CHAP", "mutual", SECURITY, hint="set up mutual CHAP"),
    Case("downgrade by silence", replace(MUTUAL, faults={0: text(b"")}), "wants no CHAP", "mutual", SECURITY),
    Case(
        "method rejected",
        replace(MUTUAL, faults={0: text(b"AuthMethod=Reject\0")}),
        '(AuthMethod="Reject")',
        "mutual",
        SECURITY,
    ),
    # One-way CHAP.
    Case(
        "wrong secret",
        replace(ONE_WAY, user=(USER[0], b"other secret")),
        "02/01 (authentication failure)",
        "chap",
        SECURITY,
        ExitCode.LOGIN_AUTH_FAILED,
    ),
    Case(
        "wrong user",
        replace(ONE_WAY, user=("other", USER[1])),
        "02/01 (authentication failure)",
        "chap",
        SECURITY,
        ExitCode.LOGIN_AUTH_FAILED,
    ),
    Case(
        "CHAP demanded, none configured",
        ONE_WAY,
        "02/01",
        "none",
        code=ExitCode.LOGIN_AUTH_FAILED,
        hint="configure CHAP user name",
    ),
    Case(
        "unknown method",
        replace(ONE_WAY, faults={0: text(b"AuthMethod=KRB5\0")}),
        'AuthMethod="KRB5"',
        "chap",
        SECURITY,
    ),
    Case("no method", replace(ONE_WAY, faults={0: text(b"")}), "chose no authentication method", "chap", SECURITY),
    Case(
        "CHAP and away, then a refusal",
        replace(ONE_WAY, faults={0: header(transit=True, nsg=1)}),
        "02/01",
        "chap",
        "operational negotiation",
        ExitCode.LOGIN_AUTH_FAILED,
    ),
    Case(
        "proof nobody asked for",
        replace(ONE_WAY, faults={2: with_keys(("CHAP_N", "x"), ("CHAP_R", "0x00"))}),
        "no proof was asked",
        "chap",
        SECURITY,
    ),
    Case(
        "CHAP keys too early",
        replace(ONE_WAY, faults={0: with_keys(("CHAP_A", "5"))}),
        "CHAP_A when it was not due",
        "chap",
        SECURITY,
    ),
    Case(
        "challenge with the method",
        replace(ONE_WAY, faults={0: with_keys(("CHAP_I", "1"), ("CHAP_C", "0x01"))}),
        "CHAP_I when it was not due",
        "chap",
        SECURITY,
    ),
    Case(
        "second challenge",
        replace(ONE_WAY, faults={2: with_keys(("CHAP_C", "0x01"))}),
        "twice in one login",
        "chap",
        SECURITY,
    ),
    Case(
        "operational key in security",
        replace(ONE_WAY, faults={1: with_keys(("ImmediateData", "Yes"))}),
        "ImmediateData during security",
        "chap",
        SECURITY,
    ),
    Case(
        "security key in operational",
        Script(faults={0: with_keys(("AuthMethod", "None"))}),
        "AuthMethod when it was not due",
    ),
    Case(
        "another method's key",
        replace(ONE_WAY, faults={0: with_keys(("KRB_AP_REP", "0x00"))}),
        "KRB_AP_REP when it was not due",
        "chap",
        SECURITY,
    ),
    Case(
        "an extension method",
        replace(ONE_WAY, faults={0: text(b"AuthMethod=Z-com.example.trust\0")}),
        'AuthMethod="Z-com.example.trust"',
        "chap",
        SECURITY,
    ),
    Case("SendTargets backwards", Script(keys={"SendTargets": "All"}), "SendTargets, which only an initiator"),
    Case("an extension digest", Script(keys={"HeaderDigest": "Y-com.example.crc64"}), "one of the offered values"),
    Case("huge challenge", replace(ONE_WAY, challenge=bytes(1025)), "more than 1024 bytes", "chap", SECURITY),
    # Header fields.
    Case("version", Script(faults={0: header(version_active=1)}), "speaks version 1"),
    Case("C and T", Script(faults={0: header(cont=True)}), "more text and the next stage at once"),
    Case(
        "stage",
        Script(faults={0: header(csg=0)}),
        "answered in stage 0, we asked in stage 1",
        hint="seems to want CHAP",
    ),
    Case("reserved stage", Script(faults={0: header(csg=2)}), "answered in stage 2"),
    Case(
        "skips a stage",
        replace(ONE_WAY, faults={2: header(nsg=3)}),
        "moves to stage 3, which we did not offer",
        "chap",
        SECURITY,
    ),
    Case("goes back", Script(faults={0: header(nsg=0)}), "moves to stage 0"),
    Case(
        "moves unasked",
        replace(MUTUAL, faults={0: header(transit=True, nsg=1)}),
        "moves to stage 1, which we did not offer",
        "mutual",
        SECURITY,
    ),
    Case(
        "moves with the challenge",
        replace(ONE_WAY, faults={1: header(transit=True, nsg=1)}),
        "moves to stage 1, which",
        "chap",
        SECURITY,
    ),
    Case(
        "task tag changes",
        replace(ONE_WAY, faults={1: header(itt=5)}),
        "task tag changed during login from 0x0 to 0x5",
        "chap",
        SECURITY,
    ),
    # Bytes.
    Case(
        "garbage",
        Script(faults={0: raw(b"HTTP/1.1 400 Bad Request".ljust(60))}),
        "no place in a login",
        hint="iSCSI target",
    ),
    Case("NOP-In", Script(faults={0: raw(b"\x20" + bytes(47))}), "no place in a login: NOP-In"),
    Case(
        "our own request back", Script(faults={0: raw(b"\x43\x87" + bytes(46))}), "no place in a login: Login Request"
    ),
    Case("reject", Script(faults={0: raw(Reject(reason=4).encode())}), "rejected our PDU: protocol error"),
    Case(
        "additional header", Script(faults={0: raw(b"\x23\x87\0\0\x01" + bytes(47))}), "4 bytes of additional headers"
    ),
    Case(
        "oversized",
        Script(faults={0: raw(b"\x23\x87\0\0\0\xff\xff\xff" + bytes(40))}),
        "16777215 bytes of data, at most 8192",
    ),
    Case(
        "data cut off",
        Script(faults={0: raw(b"\x23\x87\0\0\0\0\0\x09" + bytes(44))}),
        "4 bytes of data came, the header announces 9",
    ),
    Case("silence", Script(faults={0: silent}), "no answer", code=ExitCode.PDU_TIMEOUT),
    Case("close", Script(faults={0: closing}), "no answer", code=ExitCode.PDU_TIMEOUT),
    # Text.
    Case("endless text", Script(faults={-1: endless}), f"not over after {EXCHANGES_MAX} answers"),
    Case(
        "endless promises",
        Script(faults={-1: lambda r: replace(r.changed(cont=True, transit=False, nsg=0), text=b"")}),
        f"not over after {EXCHANGES_MAX} answers",
    ),
    Case(
        "endless full segments",
        Script(faults={-1: lambda r: replace(r.changed(cont=True, transit=False), text=b"a" * 8192)}),
        "more than 65536 bytes",
    ),
    Case("never moves on", Script(hesitate=1000), "not over after"),
    Case("too many keys", Script(faults={0: text(b"A=1\0" * 257)}), "more than 256 keys"),
    Case("no text", Script(faults={0: text(b"\x1b[2J\n no key\0")}), "has no equals sign"),
    Case("not UTF-8", Script(faults={0: text(b"TargetAddress=\xff\0")}), "is not UTF-8"),
    Case("duplicate", Script(faults={0: with_keys(("MaxBurstLength", "512"))}), '"MaxBurstLength" twice'),
    Case("renegotiation", Script(hesitate=1, faults={1: with_keys(("ImmediateData", "No"))}), '"ImmediateData" twice'),
    Case(
        "renewed method",
        replace(ONE_WAY, faults={2: with_keys(("AuthMethod", "None"))}),
        '"AuthMethod" twice',
        "chap",
        SECURITY,
    ),
    Case("inadmissible", Script(keys={"MaxConnections": "8"}), "MaxConnections"),
    Case("recovery level", Script(keys={"ErrorRecoveryLevel": "2"}), "ErrorRecoveryLevel"),
    Case("initiator's key", Script(keys={"InitiatorName": "iqn.2001-04.com.example:x"}), "only an initiator may send"),
    # Redirects.
    Case("redirect without address", Script(faults={0: status(1, 1)}), "does not say where"),
    Case("redirect to a path", Script(faults={0: redirect("../../etc/passwd")}), "names no host"),
    Case("redirect to a link of its own", Script(faults={0: redirect("[fe80::1%eth0]:3260")}), "names no host"),
    Case("redirect to port 0", Script(faults={0: redirect("192.0.2.1:0")}), "port 0"),
    Case("redirect to nothing", Script(faults={0: redirect("")}), "has not the form"),
    Case("redirect to half an address", Script(faults={0: redirect("[2001:db8::1")}), "has not the form"),
    Case("redirect to a long name", Script(faults={0: redirect("x" * 8000)}), "(8000 characters)"),
    Case("redirect of an unknown kind", Script(faults={0: status(1, 0x55)}), "does not say where"),
    Case("redirect to a terminal escape", Script(faults={0: redirect("\x1b[2J")}), "TargetAddress"),
    Case("redirect with a bad text", Script(faults={0: status(1, 1, b"\xff")}), "is not UTF-8"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_lies(case: Case) -> None:
    error = fail(case.script, auth=case.auth)
    assert case.says in error.cause
    assert error.phase == case.phase
    assert error.exit_code == case.code
    assert case.hint in error.hint


@pytest.mark.parametrize(
    "answered",
    [key for key in STATUSES if key[0] >= 2] + [(2, 0x55), (3, 0x55), (7, 1)],
    ids=lambda key: f"{key[0]:02x}-{key[1]:02x}",
)
@pytest.mark.parametrize(
    ("auth", "number"), [("none", 0), ("chap", 0), ("chap", 2), ("mutual", 3)], ids=["first", "method", "proof", "last"]
)
def test_every_status_at_every_step(answered: tuple[int, int], auth: str, number: int) -> None:
    base = {"none": Script(), "chap": ONE_WAY, "mutual": MUTUAL}[auth]
    error = fail(replace(base, faults={number: status(*answered)}), auth=auth)
    assert error.status == answered
    assert f"the target answered {answered[0]:02x}/{answered[1]:02x} (" in error.cause
    assert error.hint
    assert error.retryable == (answered[0] == 3)
    if answered in STATUSES:
        assert error.exit_code == STATUSES[answered].exit_code
        assert STATUSES[answered].cause in error.cause


@pytest.mark.parametrize(
    ("auth", "number", "hint"),
    [
        ("none", 0, "none are set here"),
        ("chap", 0, "before it saw a CHAP name or secret"),
        ("mutual", 0, "before it saw a CHAP name or secret"),
        ("chap", 2, "compare CHAP user name and secret"),
    ],
)
def test_what_to_do_depends_on_what_the_target_has_seen(auth: str, number: int, hint: str) -> None:
    """Real targets (tgt, istgt) refuse CHAP with 02/01 when they have no account for it."""
    assert hint in fail(replace(ONE_WAY, faults={number: status(2, 1)}), auth=auth).hint


@pytest.mark.parametrize("answered", [(2, 0), (2, 1), (2, 7), (2, 11)], ids=str)
def test_a_refusal_on_the_offer_of_algorithms_is_about_the_algorithms(answered: tuple[int, int]) -> None:
    error = fail(replace(ONE_WAY, faults={1: status(*answered)}), auth="chap")
    assert isinstance(error, AlgorithmsRejected)
    assert error.status == answered
    assert "offer MD5 alone" in error.hint


def test_a_target_that_cannot_read_the_response_it_asked_for() -> None:
    """What tgt does when SHA256 (7) is offered; a plain wrong secret must not look like it."""
    error = fail(replace(ONE_WAY, faults={2: status(2, 0)}), auth="chap")
    assert isinstance(error, AlgorithmsRejected)
    assert error.retry_with is ChapAlgorithm.MD5
    for script in (
        replace(ONE_WAY, faults={2: status(2, 1)}),
        replace(ONE_WAY, algorithms=(5,), faults={2: status(2, 0)}),
    ):
        assert not isinstance(fail(script, auth="chap"), AlgorithmsRejected)


@pytest.mark.parametrize("answered", [(2, 2), (2, 3), (3, 1)], ids=str)
def test_other_refusals_on_the_offer_are_what_they_say(answered: tuple[int, int]) -> None:
    error = fail(replace(ONE_WAY, faults={1: status(*answered)}), auth="chap")
    assert not isinstance(error, AlgorithmsRejected)


def test_a_long_refused_value_is_cut() -> None:
    error = fail(Script(faults={0: text(text_of([("MaxBurstLength", "9" * 8000)]))}))
    assert "8000 characters" in error.cause


def test_deviations_without_harm_are_remarked_but_not_without_bound() -> None:
    faults = {-1: lambda reply: reply.changed(isid=bytes(6), statsn=5, tsih=0)}
    machine = LoginMachine(config(credentials=credentials()), entropy=fixed_entropy)
    outcome = converse(machine, ScriptedTarget(replace(ONE_WAY, faults=faults, hesitate=9)))
    assert outcome is machine.outcome
    remarks = getattr(outcome, "remarks", ())
    assert remarks == (
        "the target answered with ISID 000000000000, ours is 00023d000001",
        "the target sent StatSN 5, 6 was due",
        "the target gave the session no handle (TSIH 0)",
    )


def test_remarks_are_bounded() -> None:
    late = [(f"X-com.example.{number}", "1") for number in range(100)]
    machine = LoginMachine(config(), entropy=fixed_entropy)
    outcome = converse(machine, ScriptedTarget(Script(faults={0: with_keys(*late)})))
    assert len(getattr(outcome, "remarks", ())) == 16


def test_an_answer_before_our_text_is_complete_is_refused() -> None:
    keys = {f"X-com.example.{'k' * 40}.{number:03}": "1" for number in range(200)}
    transcript = Transcript()
    late = with_keys(("TargetAlias", "too early"))
    error = fail(Script(keys=keys, hesitate=1, faults={2: late}), transcript=transcript)
    assert "before our text was complete" in error.cause
    assert transcript.flags()[2] & 0x40


FULL = text(b"".join(b"X-%d=NotUnderstood\0" % number for number in range(KEYS_MAX)))


def test_the_last_key_and_the_last_answer_that_are_taken() -> None:
    for script in (Script(hesitate=1, faults={0: FULL, 1: text(b"")}), Script(hesitate=EXCHANGES_MAX - 1)):
        machine = LoginMachine(config(), entropy=fixed_entropy)
        converse(machine, ScriptedTarget(script))
        assert machine.state is State.SUCCEEDED


def test_the_first_key_and_the_first_answer_too_many() -> None:
    error = fail(Script(hesitate=1, faults={0: FULL, 1: text(b"X-more=Reject\0")}))
    assert "more than 256 keys in one login" in error.cause
    assert "not over after" in fail(Script(hesitate=EXCHANGES_MAX)).cause


def test_keys_are_counted_over_the_whole_login() -> None:
    number = iter(range(10**6))

    def more(reply: Reply) -> Reply:
        return with_keys(*((f"X-{next(number)}", "NotUnderstood") for _ in range(20)))(reply)

    error = fail(Script(hesitate=1000, faults={-1: more}))
    assert "more than 256 keys in one login" in error.cause
