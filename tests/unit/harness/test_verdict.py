# SPDX-License-Identifier: LGPL-2.1-or-later
"""A verdict cannot say yes by accident: every single deviation is an objection."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.model.timeline import Mark
from tests.qemu.harness.verdict import BadVerdict, Expected, Verdict, VerdictReader, objections, parse

EXPECTED = Expected(
    nonce="n1", disk_nonce="d1", target="iqn.t", address="10.0.2.2", port=3261, lun=1, initiator="iqn.i"
)
SAID: dict[str, Any] = {
    "nonce": "n1",
    "disk_nonce": "d1",
    "root": {"device": "8:0", "type": "ext4", "source": "/dev/sda", "options": "rw"},
    "session": {
        "name": "session1",
        "targetname": "iqn.t",
        "initiatorname": "iqn.i",
        "state": "LOGGED_IN",
        "persistent_address": "10.0.2.2",
        "persistent_port": "3261",
        "lun": "1",
    },
    "sessions": 1,
    "cmdline": "root=LABEL=x",
    "kernel": "6.1.0",
    "open_iscsi": False,
    "packages": 161,
    "timeline": ['{"mark": "login", "at": 7.5, "detail": "10.0.2.2:3261"}', '{"mark": "table read", "at": 6.0}'],
    "root_mounted_at": 9.25,
    "multi_user_at": 30,
    "failed": [],
    "boottime": 31.0,
}
VERDICT = Verdict(said=SAID, received_at=40.0)

Change = Callable[[dict[str, Any]], object]


def test_the_wanted_boot() -> None:
    assert objections(VERDICT, EXPECTED) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said: said.update(nonce="n2"), "another run"),
        (lambda said: said.update(disk_nonce=""), "disk_nonce"),
        (lambda said: said.update(session={}), "not on iSCSI but on /dev/sda"),
        (lambda said: said["session"].update(targetname="iqn.other"), "target:"),
        (lambda said: said["session"].update(persistent_address="10.0.2.3"), "address:"),
        (lambda said: said["session"].update(persistent_port="3260"), "port:"),
        (lambda said: said["session"].update(lun="0"), "LUN:"),
        (lambda said: said["session"].update(initiatorname=""), "initiator:"),
        (lambda said: said["session"].update(state="FAILED"), "session state:"),
        (lambda said: said["session"].pop("state"), "session state:"),
        (lambda said: said.update(sessions=2), "number of sessions:"),
        (lambda said: said.update(open_iscsi=True), "open-iscsi"),
        (lambda said: said.update(packages=0), "package list is empty"),
        (lambda said: said.update(failed=["iscsid.service"]), "iscsid.service"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_deviation_is_an_objection(change: Change, words: str) -> None:
    said = copy.deepcopy(SAID)
    change(said)
    found = objections(Verdict(said=said, received_at=40.0), EXPECTED)
    assert len(found) == 1
    assert words in found[0]


def test_reader_takes_any_chunks() -> None:
    reader = VerdictReader()
    data = json.dumps(SAID).encode() + b"\n"
    for place in range(len(data) - 1):
        assert reader.feed(data[place : place + 1], 1.0) is None
    verdict = reader.feed(data[-1:], 2.5)
    assert verdict == Verdict(said=SAID, received_at=2.5)


def test_half_a_verdict_is_none() -> None:
    assert VerdictReader().feed(json.dumps(SAID).encode(), 1.0) is None


def test_a_flood_ends() -> None:
    with pytest.raises(BadVerdict, match="without end"):
        VerdictReader().feed(b"x" * (2 << 20), 1.0)


@pytest.mark.parametrize("name", sorted(SAID))
def test_every_member_is_needed_and_typed(name: str) -> None:
    without = {key: value for key, value in SAID.items() if key != name}
    with pytest.raises(BadVerdict, match=name):
        parse(json.dumps(without).encode())
    with pytest.raises(BadVerdict, match=name):
        parse(json.dumps({**SAID, name: {"a": 1} if not isinstance(SAID[name], dict) else 1}).encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(BadVerdict):
        parse(data)


def test_firmware_is_the_time_before_the_guests_clock() -> None:
    assert VERDICT.firmware_seconds == pytest.approx(9.0)
    assert Verdict(said=SAID, received_at=5.0).firmware_seconds == 0.0


def test_timeline_joins_the_boot_paths_marks_and_the_systems() -> None:
    marks = [(entry.mark, entry.at) for entry in VERDICT.timeline()]
    assert marks == [
        (Mark.KERNEL, 0.0),
        (Mark.TABLE_READ, 6.0),
        (Mark.LOGIN, 7.5),
        (Mark.ROOT_MOUNTED, 9.25),
        (Mark.MULTI_USER, 30.0),
    ]


def test_a_mark_of_the_boot_path_is_not_doubled() -> None:
    said = {**SAID, "timeline": ['{"mark": "root mounted", "at": 9.1, "detail": ""}'], "multi_user_at": None}
    marks = [(entry.mark, entry.at) for entry in Verdict(said=said, received_at=40.0).timeline()]
    assert marks == [(Mark.KERNEL, 0.0), (Mark.ROOT_MOUNTED, 9.1)]
