# SPDX-License-Identifier: LGPL-2.1-or-later
"""What we put on the wire, byte for byte, against captures with provenance (tests/vectors/login/README.md)."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from iscsiboot.initiator.errors import LoginError
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.pdu.login import LoginRequest
from tests.doubles.conversation import INITIATOR, TARGET, Transcript, config, converse, fixed_entropy
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


def capture(path: Path, pdus: list[bytes]) -> None:
    """A pcap of raw IPv4 with one TCP segment per PDU, written by hand: no capture rights needed."""
    records, sequence = b"", 1
    for pdu in pdus:
        tcp = struct.pack(">HHIIBBHHH", 40000, 3260, sequence, 1, 5 << 4, 0x18, 65535, 0, 0)
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(pdu), 0, 0, 64, 6, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
        packet = ip + tcp + pdu
        records += struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet
        sequence += len(pdu)
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101) + records)


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_finds_nothing_wrong_with_what_we_send(tmp_path: Path) -> None:
    pdus = [sent for path in RECORDINGS for sent, _ in Recording.load(path).exchanges]
    keys = {f"X-com.example.{'k' * 40}.{number:03}": "1" for number in range(200)}
    transcript = Transcript()
    converse(LoginMachine(config(), entropy=fixed_entropy), ScriptedTarget(Script(keys=keys, hesitate=1)), transcript)
    pdus += [bhs + data for bhs, data in transcript.sent]
    file = tmp_path / "login.pcap"
    capture(file, pdus)
    command = ["tshark", "-r", str(file), "-T", "fields", "-E", "separator=|"]
    fields = ["iscsi.opcode", "iscsi.datasegmentlength", "iscsi.login.csg", "_ws.expert.message", "_ws.malformed"]
    for name in fields:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    expected = [LoginRequest.decode(pdu[:48]) for pdu in pdus]
    lines = done.stdout.splitlines()
    assert len(lines) == len(expected)
    for line, request in zip(lines, expected, strict=True):
        assert line.split("|") == ["0x03", str(request.data_length), f"0x{request.csg:02x}", "", ""]
