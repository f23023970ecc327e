# SPDX-License-Identifier: LGPL-2.1-or-later
"""Logins at tgt, a target we did not write, over loopback."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.chap import STRONGEST_FIRST, ChapAlgorithm
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.connection import Connection
from iscsiboot.initiator.errors import AlgorithmsRejected, LoginError
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.tcp import TcpLink
from tests.doubles.tgt import TGTD, TgtFailed, TgtTarget, free_port

pytestmark = [
    pytest.mark.root,
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="tgtd needs root"),
    pytest.mark.skipif(TGTD is None or shutil.which("tgtadm") is None, reason="tgt is not installed"),
]

NAME = "iqn.2026-11.example.iscsiboot:interop"
USER, OWN = ("user", "initiator-secret"), ("tgt", "secret-of-the-target")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tgt") / "disk.img"
    with path.open("wb") as file:
        file.truncate(1 << 20)
    return path


@pytest.fixture(scope="module")
def open_target(disk: Path) -> Iterator[TgtTarget]:
    parameters = {"MaxRecvDataSegmentLength": "65536", "FirstBurstLength": "131072", "DataDigest": "CRC32C,None"}
    with TgtTarget(port=free_port(), name=NAME, backing=disk, parameters=parameters) as target:
        yield target


@pytest.fixture(scope="module")
def chap_target(disk: Path) -> Iterator[TgtTarget]:
    with TgtTarget(port=free_port(), name=NAME, backing=disk, chap=USER) as target:
        yield target


@pytest.fixture(scope="module")
def mutual_target(disk: Path) -> Iterator[TgtTarget]:
    with TgtTarget(port=free_port(), name=NAME, backing=disk, chap=USER, mutual=OWN) as target:
        yield target


def creds(outgoing: tuple[str, str] = USER, incoming: tuple[str, str] | None = None) -> Credentials:
    def one(pair: tuple[str, str]) -> Chap:
        return Chap(name=pair[0], secret=Secret(pair[1].encode()))

    return Credentials(outgoing=one(outgoing), incoming=one(incoming) if incoming else None)


def login(
    target: TgtTarget,
    *,
    credentials: Credentials | None = None,
    name: str = NAME,
    algorithms: tuple[ChapAlgorithm, ...] = (ChapAlgorithm.MD5,),
    params: SessionParams | None = None,
) -> tuple[LoginSucceeded | LoginRedirected, list[str]]:
    """The outcome, and the initiators tgt knows while the connection is up."""
    config = LoginConfig(
        initiator_name="iqn.2026-11.example.iscsiboot:tests",
        target_name=name,
        isid=bytes.fromhex("00023d000007"),
        params=params or SessionParams(),
        credentials=credentials,
        chap_algorithms=algorithms,
        portal=Portal(address=parse_ip(target.address), port=target.port),
    )
    deadline = Deadline.after(10, now=time.monotonic(), reason="an answer of tgt")
    sock = socket.create_connection((target.address, target.port), timeout=10)
    with TcpLink(sock, Connection(config, entropy=os.urandom), now=time.monotonic) as link:
        link.start()
        outcome = link.next_event(deadline)
        assert isinstance(outcome, LoginSucceeded | LoginRedirected)
        return outcome, target.initiators()


def test_without_authentication(open_target: TgtTarget) -> None:
    outcome, initiators = login(open_target)
    assert isinstance(outcome, LoginSucceeded)
    assert outcome.tsih
    assert outcome.tpgt == 1
    assert outcome.remarks == ()
    assert initiators == ["iqn.2026-11.example.iscsiboot:tests"]
    assert outcome.negotiated.max_xmit_data_segment_length == 65536
    assert outcome.negotiated.first_burst_length == 131072
    assert outcome.negotiated.initial_r2t


def test_digests(open_target: TgtTarget) -> None:
    outcome, _ = login(open_target, params=SessionParams(data_digest=Digest.PREFER_CRC32C))
    assert isinstance(outcome, LoginSucceeded)
    assert (outcome.negotiated.header_digest, outcome.negotiated.data_digest) == (False, True)


def test_credentials_nobody_asks_for(open_target: TgtTarget) -> None:
    outcome, _ = login(open_target, credentials=creds())
    assert isinstance(outcome, LoginSucceeded)
    assert outcome.remarks == ("CHAP is configured, the target wanted no authentication",)


def test_mutual_chap_is_not_given_up(open_target: TgtTarget) -> None:
    with pytest.raises(LoginError) as caught:
        login(open_target, credentials=creds(incoming=OWN))
    assert caught.value.phase == "security negotiation"


def test_chap(chap_target: TgtTarget) -> None:
    outcome, _ = login(chap_target, credentials=creds())
    assert isinstance(outcome, LoginSucceeded)
    assert (outcome.algorithm, outcome.mutual) == (ChapAlgorithm.MD5, False)


def test_mutual_chap(mutual_target: TgtTarget) -> None:
    outcome, initiators = login(mutual_target, credentials=creds(incoming=OWN))
    assert isinstance(outcome, LoginSucceeded)
    assert (outcome.algorithm, outcome.mutual) == (ChapAlgorithm.MD5, True)
    assert initiators == ["iqn.2026-11.example.iscsiboot:tests"]


def test_a_list_without_sha256_is_taken(chap_target: TgtTarget) -> None:
    algorithms = (ChapAlgorithm.SHA3_256, ChapAlgorithm.SHA1, ChapAlgorithm.MD5)
    outcome, _ = login(chap_target, credentials=creds(), algorithms=algorithms)
    assert isinstance(outcome, LoginSucceeded)
    assert outcome.algorithm is ChapAlgorithm.MD5


@pytest.mark.parametrize("algorithm", [ChapAlgorithm.SHA3_256, ChapAlgorithm.SHA1], ids=str)
def test_what_the_target_cannot_do_is_rejected(chap_target: TgtTarget, algorithm: ChapAlgorithm) -> None:
    with pytest.raises(AlgorithmsRejected, match="02/00") as caught:
        login(chap_target, credentials=creds(), algorithms=(algorithm,))
    assert caught.value.retry_with is None


def test_a_list_with_sha256_is_misread_by_tgt_and_one_retry_helps(chap_target: TgtTarget) -> None:
    """To tgt 7 is SHA1: it picks it, cannot read our SHA256 response, and answers 02/00."""
    with pytest.raises(AlgorithmsRejected) as caught:
        login(chap_target, credentials=creds(), algorithms=STRONGEST_FIRST)
    assert caught.value.retry_with is ChapAlgorithm.MD5
    assert isinstance(login(chap_target, credentials=creds(), algorithms=(caught.value.retry_with,))[0], LoginSucceeded)


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param(None, id="none"),
        pytest.param(creds(("user", "another-secret")), id="secret"),
        pytest.param(creds(("nobody", "initiator-secret")), id="name"),
    ],
)
def test_the_target_refuses_us(chap_target: TgtTarget, credentials: Credentials | None) -> None:
    with pytest.raises(LoginError, match="02/01") as caught:
        login(chap_target, credentials=credentials)
    assert caught.value.exit_code == ExitCode.LOGIN_AUTH_FAILED
    assert chap_target.initiators() == []


@pytest.mark.parametrize(
    ("incoming", "cause"),
    [
        pytest.param(("tgt", "not-the-right-one"), "proved itself with a wrong secret", id="secret"),
        pytest.param(("other", OWN[1]), 'names itself "tgt" in CHAP, "other" is expected', id="name"),
    ],
)
def test_we_refuse_the_target(mutual_target: TgtTarget, incoming: tuple[str, str], cause: str) -> None:
    with pytest.raises(LoginError, match=cause) as caught:
        login(mutual_target, credentials=creds(incoming=incoming))
    assert caught.value.exit_code == ExitCode.FATAL_LOGIN
    assert not caught.value.retryable


def test_a_target_without_a_name_of_its_own_cannot_prove_itself(chap_target: TgtTarget) -> None:
    with pytest.raises(LoginError) as caught:
        login(chap_target, credentials=creds(incoming=OWN))
    assert caught.value.phase == "security negotiation"


def test_unknown_target(open_target: TgtTarget) -> None:
    with pytest.raises(LoginError, match=r"02/03 \(not found\)") as caught:
        login(open_target, name=NAME + "-absent")
    assert caught.value.exit_code == ExitCode.FATAL_LOGIN
    assert f"{NAME}-absent at 127.0.0.1:{open_target.port}" in caught.value.line()


def test_the_fixture_notices_a_control_number_in_use(open_target: TgtTarget) -> None:
    with pytest.raises(TgtFailed, match="ended with status"):
        TgtTarget(port=free_port(), control=open_target.control, name=NAME).start()
    assert isinstance(login(open_target)[0], LoginSucceeded)
