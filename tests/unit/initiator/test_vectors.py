# SPDX-License-Identifier: LGPL-2.1-or-later
"""What we put on the wire, byte for byte, against captures with provenance (tests/vectors/login/README.md)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from iscsiboot.initiator.errors import LoginError
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.pdu.login import LoginRequest
from tests.doubles.conversation import INITIATOR, TARGET, Transcript, config, converse, fixed_entropy
from tests.doubles.pcap import dissect, write_capture
from tests.doubles.target import Script, ScriptedTarget
from tests.vectors.login.replay import HERE, Recording

RECORDINGS = sorted(HERE.glob("tgt-*.txt"))


def test_the_first_request_is_open_iscsis() -> None:
    first_bytes, *expected = (HERE / "open-iscsi-normal.txt").read_text().splitlines()
    names = {"InitiatorName": INITIATOR, "InitiatorAlias": "host", "TargetName": TARGET}
    lines = [f"{line}={names[line]}" if line in names else line for line in expected]
    machine = LoginMachine(config(initiator_alias="host"), entropy=fixed_entropy)
    machine.start()
    request = machine.next_request()
    assert request is not None
    bhs, data = request
    text = "".join(f"{line}\0" for line in lines).encode()
    assert bhs[:4] == bytes.fromhex(first_bytes)
    assert int.from_bytes(bhs[5:8], "big") == len(text)
    assert data == text.ljust(-(-len(text) // 4) * 4, b"\0")
    assert bhs[8:] == bytes.fromhex("00023d000001 0000 00000000 0000 0000 00000001 00000000") + bytes(16)


def test_there_are_recordings_of_each_kind() -> None:
    assert sorted(path.stem for path in RECORDINGS) == [
        "tgt-chap",
        "tgt-chap-misread-list",
        "tgt-mutual",
        "tgt-none",
        "tgt-unknown-target",
    ]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "bare"])
def test_replay(path: Path, padded: bool) -> None:
    recording = Recording.load(path)
    machine = recording.machine()
    machine.start()
    ends = ""
    for sent, answered in recording.exchanges:
        request = machine.next_request()
        assert request is not None
        assert b"".join(request) == sent
        bhs, data = answered[:48], answered[48:]
        assert machine.following(bhs) == len(data)
        try:
            machine.receive(bhs, data if padded else data[: int.from_bytes(bhs[5:8], "big")])
        except LoginError as error:
            ends = error.cause
    assert machine.next_request() is None
    if isinstance(machine.outcome, LoginSucceeded):
        ends = "success"
        assert machine.outcome.mutual == (recording.auth == "mutual")
    assert ends == recording.ends


def test_a_recording_survives_its_own_format(tmp_path: Path) -> None:
    for path in RECORDINGS:
        Recording.load(path).save(tmp_path / path.name)
        assert (tmp_path / path.name).read_text() == path.read_text()


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_finds_nothing_wrong_with_what_we_send(tmp_path: Path) -> None:
    pdus = [sent for path in RECORDINGS for sent, _ in Recording.load(path).exchanges]
    keys = {f"X-com.example.{'k' * 40}.{number:03}": "1" for number in range(200)}
    transcript = Transcript()
    converse(LoginMachine(config(), entropy=fixed_entropy), ScriptedTarget(Script(keys=keys, hesitate=1)), transcript)
    pdus += [bhs + data for bhs, data in transcript.sent]
    file = tmp_path / "login.pcap"
    write_capture(file, pdus)
    expected = [LoginRequest.decode(pdu[:48]) for pdu in pdus]
    dissected = dissect(file)
    assert len(dissected) == len(expected)
    for seen, request in zip(dissected, expected, strict=True):
        assert not seen.complaints
        assert seen.numbers("iscsi.opcode") == [3]
        assert seen.numbers("iscsi.datasegmentlength") == [request.data_length]
        assert seen.numbers("iscsi.login.csg") == [request.csg]
