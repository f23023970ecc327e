# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines and what is in them: whole, byte by byte, and made by chance."""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc import legacy
from iscsiboot.ipc.protocol import (
    ACTIONS,
    HELLO_BYTES,
    LOOKS,
    NUMBER_MAX,
    REQUEST_MAX,
    SECONDS_MAX,
    Answer,
    Lines,
    Request,
    answer_line,
    answer_of,
    decode,
    encode,
    event_line,
    failure_of,
    hello_line,
    number_of,
    request_line,
    request_of,
    version_wanted,
    welcome_line,
)
from iscsiboot.netlink.statistics import COUNTERS, decode_statistics

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


# Lines. ---------------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line)), st.lists(st.integers(1, 30)))
def test_lines_come_out_as_they_went_in_however_they_are_cut(wanted: list[bytes], cuts: list[int]) -> None:
    lines, whole = Lines(40), b"".join(line + b"\n" for line in wanted)
    found, at = [], 0
    for size in [*cuts, len(whole)]:
        lines.feed(whole[at : at + size])
        at += size
        while (line := lines.take()) is not None:
            found.append(line)
    assert found == wanted
    assert lines.begun == b""


def test_a_line_of_the_greatest_length_and_one_more() -> None:
    lines = Lines(10)
    lines.feed(b"0123456789\n")
    assert lines.take() == b"0123456789"
    lines.feed(b"0123456789")
    assert lines.take() is None
    lines.feed(b"A")
    with pytest.raises(IscsiBootError, match="a line of more than 10 bytes"):
        lines.take()
    lines = Lines(10)
    lines.feed(b"0123456789A\n")
    with pytest.raises(IscsiBootError, match="more than 10"):
        lines.take()


def test_bytes_are_looked_at_once() -> None:
    """256 KiB that come one by one cost no more than 256 Ki looks; the whole test is over in the blink of an eye."""
    lines = Lines(REQUEST_MAX)
    for _ in range(REQUEST_MAX):
        lines.feed(b"x")
        assert lines.take() is None
    assert lines._seen == REQUEST_MAX


# Objects. -------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_an_object_is_one_line_of_ascii_and_comes_back(item: dict[str, Any]) -> None:
    line = encode(item)
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert decode(line) == item


def test_bytes_of_a_record_that_are_no_utf_8_come_back() -> None:
    text = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert decode(encode({"name": text}))["name"] == text


@pytest.mark.parametrize(
    "line",
    [
        b"", b"x", b"[]", b"1", b"null", b'"text"', b"{", b'{"a":}', b'{"a":NaN}', b'{"a":Infinity}',
        b'{"a":-Infinity}', b"{} {}", b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b"[" * 200_000,
        b'{"a":' * 200_000, b'{"a":' + b"9" * 5000 + b"}", "{}".encode("utf-16"), b"{'a':1}", b'{"a":1,}',
        b'{"a":"\x01"}',
    ],
    ids=lambda line: repr(line[:12]),
)  # fmt: skip
def test_what_is_no_object(line: bytes) -> None:
    with pytest.raises(IscsiBootError, match="a line that is no JSON object") as caught:
        decode(line)
    assert caught.value.exit_code is ExitCode.INVAL


def test_nothing_of_a_bad_line_is_repeated() -> None:
    with pytest.raises(IscsiBootError) as caught:
        decode(b'{"node.session.auth.password":"topsecret"')
    assert "topsecret" not in caught.value.line()


@given(st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_an_object_or_refused(line: bytes) -> None:
    try:
        found = decode(line)
    except IscsiBootError as error:
        code = error.exit_code
    else:
        assert isinstance(found, dict)
        return
    assert code is ExitCode.INVAL


@given(st.dictionaries(st.sampled_from(["iscsiboot", "id", "do", "seconds", "detach", "trace", "sid"]), VALUES))
def test_any_object_is_a_request_or_refused(item: dict[str, Any]) -> None:
    try:
        request = request_of(item, uid=0)
    except IscsiBootError as error:
        code = error.exit_code
    else:
        assert request.action in ACTIONS
        assert 0 < request.seconds <= SECONDS_MAX
        return
    assert code in (ExitCode.INVAL, ExitCode.INVALID_MGMT_REQ)


# Requests. ------------------------------------------------------------------------------------------------------------


def asked(**members: Any) -> Request:
    return request_of({"iscsiboot": 1, "id": 1, "do": "logout", **members}, uid=0)


def test_a_request_as_a_client_writes_it() -> None:
    line = request_line(5, "logout", {"sid": 3, "insist": True, "seconds": 9.5, "later": [1]})
    request = request_of(decode(line), uid=0)
    assert (request.number, request.action, request.seconds, request.uid) == (5, "logout", 9.5, 0)
    assert (request.integer("sid"), request.flag("insist"), request.detach, request.trace) == (3, True, False, False)
    assert repr(request) == "Request('logout', number=5)"


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_every_action_has_a_time(action: str) -> None:
    seconds = request_of({"iscsiboot": 1, "id": 1, "do": action}, uid=0).seconds
    assert seconds == ACTIONS[action]
    assert 0 < seconds <= SECONDS_MAX


def test_what_only_looks_is_known() -> None:
    assert set(ACTIONS) > LOOKS
    assert not LOOKS & {"login", "logout", "stop", "settle"}


@pytest.mark.parametrize(
    "seconds", [0, -1, SECONDS_MAX + 1, "5", None, True, [5], 10**400], ids=lambda value: repr(value)[:10]
)
def test_seconds_that_are_none(seconds: object) -> None:
    with pytest.raises(IscsiBootError, match=r"request logout: seconds is not a number") as caught:
        asked(seconds=seconds)
    assert caught.value.exit_code is ExitCode.INVAL


@pytest.mark.parametrize("number", [None, -1, 1.0, "1", True, NUMBER_MAX + 1, [1], {}])
def test_numbers_nobody_can_be_answered_by(number: object) -> None:
    assert number_of({"id": number}) is None
    with pytest.raises(IscsiBootError, match="without its number"):
        asked(id=number)


def test_hello_needs_no_number() -> None:
    assert request_of({"iscsiboot": [1, 1], "do": "hello"}, uid=0).number == 0


@pytest.mark.parametrize("action", [None, 1, ["login"], {}])
def test_an_action_that_is_none(action: object) -> None:
    with pytest.raises(IscsiBootError, match=r"without an action"):
        asked(do=action)


def test_an_action_of_later() -> None:
    with pytest.raises(IscsiBootError, match=r'unknown request "fly\\nhigh"') as caught:
        asked(do="fly\nhigh")
    assert caught.value.exit_code is ExitCode.INVALID_MGMT_REQ


WRONG: dict[str, tuple[object, ...]] = {
    "integer": (None, -1, 1.5, "1", True, 1 << 53, []),
    "real": (None, "1", True, 1 << 54, []),
    "flag": (None, 0, 1, "true", []),
    "text": (None, 0, True, [], {}),
    "texts": (None, 0, [], "a", {"a": 1}, {"a": "b", "c": None}),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_members_of_another_kind(name: str, value: object) -> None:
    request = asked(thing=value)
    with pytest.raises(IscsiBootError, match=r"request logout: thing is not (a|an|true) ") as caught:
        getattr(request, name)("thing")
    assert caught.value.exit_code is ExitCode.INVAL


def test_members_of_the_right_kind() -> None:
    request = asked(sid=3, most=1.5, whole=2, name="x", record={"a": "b"}, insist=True)
    assert (request.integer("sid"), request.real("most"), request.real("whole")) == (3, 1.5, 2.0)
    assert (request.text("name"), request.texts("record"), request.flag("insist")) == ("x", {"a": "b"}, True)
    assert (request.integer("a", 7), request.real("b", 0.5), request.text("c", ""), request.flag("d")) == (
        7, 0.5, "", False,
    )  # fmt: skip
    with pytest.raises(IscsiBootError, match="sid is not"):
        asked().integer("sid")


# Versions. ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [1, [1, 1], [0, 1], [1, 9], [0, 9]])
def test_versions_both_speak(wanted: object) -> None:
    assert version_wanted({"iscsiboot": wanted}) == 1


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (2, "the protocol is spoken here in versions 1 to 1, not in version 2"),
        (0, "the protocol is spoken here in versions 1 to 1, not in version 0"),
        ([2, 5], "the protocol is spoken here in versions 1 to 1, not in versions 2 to 5"),
        ([5, 2], "versions 5 to 2"),
        (None, "a request without its version"),
        ("1", "without its version"),
        (True, "without its version"),
        (1.0, "without its version"),
        ([1], "without its version"),
        ([1, 1, 1], "without its version"),
        ([1, None], "without its version"),
    ],
)
def test_versions_nobody_speaks(wanted: object, words: str) -> None:
    with pytest.raises(IscsiBootError) as caught:
        version_wanted({"iscsiboot": wanted})
    assert words in caught.value.cause
    assert caught.value.exit_code is ExitCode.INVALID_MGMT_REQ
    assert json.loads(answer_line(1, Answer(failure=caught.value)))["versions"] == [1, 1]


def test_the_first_words() -> None:
    line = hello_line()
    assert (len(line), line.count(b"\n")) == (HELLO_BYTES, 1)
    assert decode(line) == {"iscsiboot": [1, 1], "id": 0, "do": "hello"}
    welcome = decode(welcome_line(None, 1, ["watch", "login"], "0.5", 9))
    about = {"iscsiboot": 1, "capabilities": ["login", "watch"], "version": "0.5", "pending": 9}
    assert welcome == {"id": None, "ok": True, **about}


# Answers. -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [code for code in ExitCode if code])
@pytest.mark.parametrize("stage", Stage)
def test_a_failure_comes_back_whole(code: ExitCode, stage: Stage) -> None:
    error = IscsiBootError("c", stage=stage, subject="s", hint="h", exit_code=code, retryable=code % 2 == 0)
    back = failure_of(decode(answer_line(4, Answer(failure=error))))
    assert (back.cause, back.stage, back.subject, back.hint, back.exit_code, back.retryable) == (
        "c", stage, "s", "h", code, code % 2 == 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "item",
    [
        {}, {"code": 0}, {"code": 999}, {"code": "8"}, {"code": []}, {"message": "no"}, {"message": {"stage": []}},
        {"message": {"stage": "later", "cause": None}}, {"message": {"cause": ["x"]}, "code": 3.5},
    ],
)  # fmt: skip
def test_a_failure_that_says_little_is_one_all_the_same(item: dict[str, Any]) -> None:
    error = failure_of(item)
    assert error.exit_code is ExitCode.ERR
    assert error.stage is Stage.DAEMON
    assert error.cause


def test_answers_and_events() -> None:
    item = decode(answer_line(4, Answer({"sid": 1}, notes=["n"], steps=["s"])))
    answer = answer_of(item)
    assert answer is not None
    assert (item["id"], answer.result, answer.failure, answer.notes, answer.steps) == (
        4,
        {"sid": 1},
        None,
        ("n",),
        ("s",),
    )
    event = decode(event_line(4, {"up": 1}))
    assert (answer_of(event), event) == (None, {"id": 4, "event": {"up": 1}})
    odd = answer_of({"ok": True, "result": [], "notes": "n", "steps": [1, "s"]})
    assert odd is not None
    assert (odd.result, odd.notes, odd.steps) == ({}, (), ("s",))
    vague = answer_of({"ok": 1})
    assert vague is not None
    assert vague.failure is not None


# The peer's. ----------------------------------------------------------------------------------------------------------


def head(command: int, sid: int = 0, payload: int = 0) -> bytes:
    return struct.pack("=IIi4x", command, payload, sid)


@pytest.mark.parametrize("command", [*range(1, 20), 63])
def test_the_peers_requests_are_known_by_their_first_bytes(command: int) -> None:
    assert legacy.is_legacy(head(command)[:4])
    assert not legacy.is_legacy(head(command)[:3])
    assert legacy.command_of(head(command, 77)) == (command, 77)


@pytest.mark.parametrize(
    "begun",
    [b'{"is', b"\0\0\0\0", b"GET ", b"\n{}\n", b"    ", b"\xff\xff\xff\xff", b"{\0\0\0", b"\0\0\0{", b"@\0\0\0"],
)
def test_nothing_else_is_taken_for_one(begun: bytes) -> None:
    assert not legacy.is_legacy(begun)


def test_what_the_peer_asks_in_our_words() -> None:
    found = {
        command: legacy.request_of(command, 5, uid=0) for command in range(256)
    }  # fmt: skip
    actions = {command: (asked.action, dict(asked.fields)) for command, asked in found.items() if asked}
    assert actions == {
        2: ("logout", {"sid": 5}),
        7: ("stats", {"sid": 5}),
        8: ("config", {}),
        9: ("config", {}),
        10: ("config", {}),
        11: ("stop", {}),
        13: ("status", {"sid": 5}),
    }
    assert legacy.request_of(2, -1, uid=0) is None


@pytest.mark.parametrize("command", range(0, 256, 5))
@pytest.mark.parametrize("code", [ExitCode.SUCCESS, ExitCode.BUSY])
def test_every_reply_has_the_peers_size(command: int, code: ExitCode) -> None:
    reply = legacy.reply(command, code, {"counters": [], "custom": []} if code else {})
    assert len(reply) == 2464
    assert reply[:4] == command.to_bytes(4, sys.byteorder)


def test_texts_of_the_configuration() -> None:
    result = {"initiator_name": "iqn.x", "alias": "a" * 400, "config_file": None}
    assert legacy.reply(8, ExitCode.SUCCESS, result)[4:16] == b"\0\0\0\0iqn.x\0\0\0"
    assert legacy.reply(9, ExitCode.SUCCESS, result)[8:] == (b"a" * 254).ljust(2456, b"\0")
    assert legacy.reply(10, ExitCode.SUCCESS, result)[8:] == bytes(2456)


@pytest.mark.parametrize(("phase", "stage", "state"), [(name, *row) for name, row in legacy.STATES.items()])
def test_states_of_a_session(phase: str, stage: int, state: int) -> None:
    reply = legacy.reply(13, ExitCode.SUCCESS, {"sessions": [{"sid": 3, "phase": phase}]})
    assert struct.unpack_from("=IIii", reply) == (13, 0, stage, state)


@pytest.mark.parametrize("sessions", [None, [], [{"phase": "gone"}], [{}], [1], [{"phase": "up"}, {"phase": "up"}]])
def test_a_session_that_is_not_there(sessions: object) -> None:
    assert struct.unpack_from("=II", legacy.reply(13, ExitCode.SUCCESS, {"sessions": sessions})) == (13, 2)


def test_counters_in_the_kernels_structure() -> None:
    result = {"counters": [[name, at * 3] for at, name in enumerate(COUNTERS)], "custom": [["eh_abort_cnt", 9]] * 40}
    reply = legacy.reply(7, ExitCode.SUCCESS, result)
    found = decode_statistics(reply[8 + 56 :])
    assert found.counters == tuple((name, at * 3) for at, name in enumerate(COUNTERS))
    assert found.custom == (("eh_abort_cnt", 9),) * 32
    assert len(reply) == 2464


def test_a_counter_that_has_outgrown_the_structure() -> None:
    reply = legacy.reply(7, ExitCode.SUCCESS, {"counters": [[name, 1 << 70] for name in COUNTERS], "custom": []})
    values = [value for _, value in decode_statistics(reply[64:]).counters]
    assert values == [(1 << 64) - 1] * 2 + [(1 << 32) - 1] * 19
