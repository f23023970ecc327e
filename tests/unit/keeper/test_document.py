# SPDX-License-Identifier: LGPL-2.1-or-later
"""What guards tell each other: everything comes back as it was, and what is damaged costs itself only."""

from __future__ import annotations

import base64
import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.keeper import document
from iscsiboot.keeper.values import Known, RecordName, Role, Source, Timers
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.values import AttachRequest

INITIATOR = "iqn.2026-01.org.example:guest"
TARGET = "iqn.2026-01.org.example:disk"
SECRET = b"\x00\xff secret with any byte\n"


def plain(**changes: Any) -> Known:
    request = AttachRequest(
        initiator_name=INITIATOR, target_name=TARGET, portal=Portal(address=parse_ip("10.0.0.1")), lun=None
    )
    return replace(Known(request=request, source=Source.KEEPER), **changes)


FULL = Known(
    request=AttachRequest(
        initiator_name=INITIATOR,
        target_name=TARGET,
        portal=Portal(address=parse_ip("fe80::1%eth0"), port=3261, tpgt=2),
        lun=Lun.from_number(300),
        params=SessionParams(
            header_digest=Digest.PREFER_CRC32C,
            data_digest=Digest.CRC32C,
            default_time2wait=7,
            initial_r2t=True,
            immediate_data=False,
            max_burst_length=65536,
            first_burst_length=4096,
            max_outstanding_r2t=4,
            max_recv_data_segment_length=8192,
            max_xmit_data_segment_length=16384,
            initial_cmdsn=(1 << 32) - 1,
            cmds_max=256,
            queue_depth=64,
            replacement_timeout=-1,
            fast_abort=False,
            abort_timeout=1,
            noop_out_interval=5,
            noop_out_timeout=6,
            login_timeout=30,
            tcp_window_size=0,
        ),
        credentials=Credentials(
            outgoing=Chap(name="gäst", secret=Secret(SECRET)), incoming=Chap(name="t", secret=Secret(b"other secret"))
        ),
        chap_algorithms=(ChapAlgorithm.SHA256, ChapAlgorithm.MD5),
        initiator_alias="ä machine",
        iface_name="iface0",
        netdev="eth0",
        hwaddress="00:11:22:33:44:55",
        stored_address="target.example.org",
        boot_root="iscsi_boot0",
        boot_nic="ethernet0",
        boot_target="target0",
    ),
    source=Source.STATE,
    unknown=("the login timeout",),
    record=RecordName(target=TARGET, tpgt=-1, address="target.example.org", port=3261, iface="iface0"),
    tpgt=2,
    time2wait=0.5,
    reopen_max=3,
    scan=False,
    pinned=Timers(recovery=-1, noop_interval=5, noop_timeout=0),
    algorithm=ChapAlgorithm.MD5,
    retries=(("3:0:0:1", 5), ("3:0:0:2", -1)),
)


def test_everything_comes_back() -> None:
    found = document.read(document.dump({3: FULL, 4_000_000_000: plain()}), source=Source.STATE)
    assert found.known == {3: FULL, 4_000_000_000: plain(source=Source.STATE)}
    assert found.problems == ()


def test_the_full_example_leaves_nothing_at_its_default() -> None:
    """Or a field that is not carried would not be missed."""
    for kind, value in ((Known, FULL), (AttachRequest, FULL.request)):
        for item in fields(kind):
            if item.name not in ("request", "source", "portal", "params"):
                assert getattr(value, item.name) != getattr(
                    plain() if kind is Known else plain().request, item.name
                ) or (item.name in ("initiator_name", "target_name")), item.name


def test_load_gives_the_sessions_alone() -> None:
    assert document.load(document.dump({3: plain()})) == {3: plain()}


def test_the_source_is_who_hands_it_on() -> None:
    assert document.load(document.dump({1: plain(source=Source.ORDER)}))[1].source is Source.KEEPER


def test_roles_travel_with_their_sessions() -> None:
    roles = {
        1: Role(system=("sda1 is mounted on /",), multipath=True, carries=("/",)),
        2: Role(),
        9: Role(system=("no such session",)),
    }
    found = document.read(document.dump({1: plain(), 2: plain(), 3: plain()}, roles))
    assert found.roles == {1: roles[1], 2: roles[2]}


def test_every_value_is_written_also_defaults() -> None:
    """A keeper of an older version had other defaults: what it means must not depend on ours."""
    entry = json.loads(document.dump({1: plain()}))["sessions"]["1"]
    assert set(entry["request"]["params"]) == {item.name for item in fields(SessionParams)}
    assert set(entry["request"]) == {item.name for item in fields(AttachRequest)}
    assert set(entry) == {item.name for item in fields(Known)}


def test_secrets_show_nowhere_but_in_their_place() -> None:
    data = document.dump({1: FULL})
    assert base64.b64encode(SECRET) in data
    found = document.read(data)
    assert "any byte" not in repr(found)


def test_missing_values_are_our_defaults_and_unknown_ones_are_passed_over() -> None:
    least = {
        "request": {
            "initiator_name": INITIATOR,
            "target_name": TARGET,
            "portal": {"address": "10.0.0.1", "port": 3260},
            "new": [1],
        },
        "later": {"x": 1},
    }
    found = document.read(json.dumps({"iscsiboot-sessions": 1, "sessions": {"1": least}, "more": 1}).encode())
    assert found.problems == ()
    assert found.known == {1: plain()}


def test_an_algorithm_of_a_later_version_is_left_out() -> None:
    whole = json.loads(document.dump({1: FULL}))
    whole["sessions"]["1"]["request"]["chap_algorithms"] = [99, 7]
    assert document.load(json.dumps(whole).encode())[1].request.chap_algorithms == (ChapAlgorithm.SHA256,)
    whole["sessions"]["1"]["request"]["chap_algorithms"] = [99]
    assert document.load(json.dumps(whole).encode())[1].request.chap_algorithms is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"iscsiboot-sessions": 2, "sessions": {}}',
        b'{"iscsiboot-sessions": "1", "sessions": {}}',
        b'{"iscsiboot-sessions": true, "sessions": {}}',
        b'{"iscsiboot-sessions": 1}',
        b'{"iscsiboot-sessions": 1, "sessions": []}',
        b"[" * 200_000,
        b"\xff\xfe\x00",
        b" " * (document.LIMIT + 1),
    ],
    ids=range(14),
)
def test_what_is_no_document_is_told_and_nothing_else_happens(data: bytes) -> None:
    found = document.read(data)
    assert found.known == {}
    assert len(found.problems) == 1


BAD: list[tuple[tuple[str, ...], Any]] = [
    ((), None),
    ((), []),
    (("request",), None),
    (("request",), "text"),
    (("request", "initiator_name"), None),
    (("request", "initiator_name"), "no name"),
    (("request", "target_name"), "../../etc"),
    (("request", "target_name"), ""),
    (("request", "portal"), None),
    (("request", "portal", "address"), "here"),
    (("request", "portal", "address"), 5),
    (("request", "portal", "port"), 0),
    (("request", "portal", "port"), 70000),
    (("request", "portal", "port"), True),
    (("request", "portal", "port"), "3260"),
    (("request", "portal", "tpgt"), -1),
    (("request", "lun"), "zz"),
    (("request", "lun"), "00"),
    (("request", "params"), []),
    (("request", "params", "cmds_max"), 3),
    (("request", "params", "max_burst_length"), 1 << 40),
    (("request", "params", "first_burst_length"), 1 << 24),
    (("request", "params", "header_digest"), "MD5"),
    (("request", "params", "initial_r2t"), 1),
    (("request", "params", "login_timeout"), 0),
    (("request", "params", "login_timeout"), 1.5),
    (("request", "credentials"), "secret"),
    (("request", "credentials", "outgoing"), None),
    (("request", "credentials", "outgoing", "secret"), "not base64 !"),
    (("request", "credentials", "outgoing", "secret"), ""),
    (("request", "credentials", "outgoing", "secret"), base64.b64encode(b"x" * 256).decode()),
    (("request", "credentials", "outgoing", "name"), ""),
    (("request", "credentials", "incoming", "secret"), base64.b64encode(SECRET).decode()),
    (("request", "chap_algorithms"), 7),
    (("request", "chap_algorithms"), ["7"]),
    (("request", "chap_algorithms"), [1] * 65),
    (("request", "netdev"), 5),
    (("request", "iface_name"), "with\0nul"),
    (("request", "boot_root"), "x" * 5000),
    (("unknown",), "text"),
    (("unknown",), [1]),
    (("record",), []),
    (("record", "port"), 0),
    (("tpgt",), 65536),
    (("time2wait",), -1),
    (("time2wait",), float("nan")),
    (("time2wait",), float("inf")),
    (("time2wait",), True),
    (("reopen_max",), -1),
    (("scan",), 0),
    (("pinned",), {"recovery": -2}),
    (("algorithm",), "MD5"),
    (("algorithm",), 256),
]


@pytest.mark.parametrize(
    ("path", "value"), BAD, ids=[f"{'.'.join(path)}-{index}" for index, (path, _) in enumerate(BAD)]
)
def test_a_damaged_session_costs_itself_only(path: tuple[str, ...], value: Any) -> None:
    whole = json.loads(document.dump({1: FULL, 2: plain()}))
    place: Any = whole["sessions"]
    for key in ("1", *path)[:-1]:
        place = place[key]
    place[("1", *path)[-1]] = value
    found = document.read(json.dumps(whole).encode())
    assert found.known == {2: plain()}
    assert len(found.problems) == 1
    assert found.problems[0].startswith("session '1' cannot be used: ")
    assert base64.b64encode(SECRET).decode() not in found.problems[0]


@pytest.mark.parametrize("name", ["", "-1", "01", "1.0", "x", "4294967296", "٣", " 1", "9" * 100])
def test_a_number_that_is_none_costs_its_session_only(name: str) -> None:
    whole = json.loads(document.dump({2: plain()}))
    whole["sessions"][name] = whole["sessions"]["2"]
    found = document.read(json.dumps(whole).encode())
    assert found.known == {2: plain()}
    assert len(found.problems) == 1


def test_a_damaged_role_leaves_its_session() -> None:
    whole = json.loads(document.dump({1: plain()}, {1: Role(system=("x",))}))
    whole["sessions"]["1"]["role"]["multipath"] = "yes"
    found = document.read(json.dumps(whole).encode())
    assert found.known == {1: plain()}
    assert found.roles == {}
    assert len(found.problems) == 1


def test_a_document_stays_below_its_limit_and_the_system_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "LIMIT", 20_000)
    sessions = {sid: plain() for sid in range(1, 101)}
    data = document.dump(sessions, {77: Role(system=("root",))})
    assert len(data) <= 20_000
    found = document.read(data)
    assert 77 in found.known
    assert 8 < len(found.known) < 100
    assert found.problems == ()


def test_two_thousand_sessions_fit() -> None:
    data = document.dump(dict.fromkeys(range(2000), FULL))
    assert len(data) < document.LIMIT
    assert len(document.load(data)) == 2000


def test_a_writer_says_again_what_it_said_and_what_is_new() -> None:
    writer = document.Writer()
    first = {1: plain(), 2: plain()}
    assert writer.dump(first) == document.dump(first)
    second = {2: first[2], 3: FULL}
    assert writer.dump(second, {3: Role(system=("x",))}) == document.dump(second, {3: Role(system=("x",))})
    changed = {2: replace(first[2], tpgt=9), 3: FULL}
    assert writer.dump(changed) == document.dump(changed)


TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)
PARAMS = st.builds(
    SessionParams,
    header_digest=st.sampled_from(Digest),
    data_digest=st.sampled_from(Digest),
    initial_r2t=st.booleans(),
    replacement_timeout=st.integers(-(1 << 31), (1 << 31) - 1),
    login_timeout=st.integers(1, 3600),
    initial_cmdsn=st.integers(0, (1 << 32) - 1),
    cmds_max=st.sampled_from([2, 128, 2048]),
)
REQUESTS = st.builds(
    AttachRequest,
    initiator_name=st.just(INITIATOR),
    target_name=st.just(TARGET),
    portal=st.builds(
        Portal,
        address=st.ip_addresses().map(str).map(parse_ip),
        port=st.integers(1, 65535),
        tpgt=st.none() | st.integers(0, 65535),
    ),
    lun=st.none() | st.binary(min_size=8, max_size=8).map(Lun),
    params=PARAMS,
    credentials=st.none()
    | st.builds(
        Credentials,
        outgoing=st.builds(Chap, name=st.just("name"), secret=st.binary(min_size=1, max_size=255).map(Secret)),
    ),
    chap_algorithms=st.none() | st.lists(st.sampled_from(ChapAlgorithm), min_size=1, max_size=4).map(tuple),
    initiator_alias=TEXT,
    iface_name=TEXT,
    stored_address=TEXT,
    boot_root=TEXT,
)
SESSIONS = st.dictionaries(
    st.integers(0, (1 << 32) - 1),
    st.builds(
        Known,
        request=REQUESTS,
        source=st.just(Source.KEEPER),
        unknown=st.lists(TEXT, max_size=3).map(tuple),
        tpgt=st.none() | st.integers(0, 65535),
        time2wait=st.floats(0, 3600),
        scan=st.booleans(),
        algorithm=st.none() | st.sampled_from(ChapAlgorithm),
    ),
    max_size=4,
)


def test_a_remembered_algorithm_of_a_later_version_is_forgotten() -> None:
    whole = json.loads(document.dump({1: FULL}))
    whole["sessions"]["1"]["algorithm"] = 200
    assert document.load(json.dumps(whole).encode())[1] == replace(FULL, source=Source.KEEPER, algorithm=None)


@given(SESSIONS)
def test_whatever_is_written_is_read_back(sessions: dict[int, Known]) -> None:
    found = document.read(document.dump(sessions))
    assert found.problems == ()
    assert found.known == sessions


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=200))
def test_no_bytes_do_any_harm(data: bytes) -> None:
    document.read(data)


@given(st.sampled_from([path for path, _ in BAD if path]), JSON)
def test_no_value_does_any_harm(path: tuple[str, ...], value: Any) -> None:
    whole = json.loads(document.dump({1: FULL, 2: plain()}))
    place = whole["sessions"]["1"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert document.read(json.dumps(whole).encode()).known[2] == plain()
