# SPDX-License-Identifier: LGPL-2.1-or-later
r"""What client and daemon say to each other: one JSON object a line, ended by ``\n``. Pure: bytes in, bytes out.

A request, and what may follow it on the same connection, in any order with those of other requests::

    {"iscsiboot":1,"id":7,"do":"login","seconds":120,"record":{...},"wanted":1}
    {"id":7,"event":{...}}                          none, one or many
    {"id":7,"ok":true,"result":{...}}               exactly one of these two
    {"id":7,"ok":false,"code":8,"message":{"stage":...,"subject":...,"cause":...,"hint":...,"retryable":true}}

Either end ignores members it does not know. ``notes`` (worth knowing) and ``steps`` (what was done when, only with
``"trace":true``) are lists of lines beside ``result`` or ``message``. ``code`` is an :class:`ExitCode`.

* ``hello`` asks which versions there are: ``{"iscsiboot":[1,1],"do":"hello"}``, lowest and highest the client speaks.
  The answer is ``{"id":null,"ok":true,"iscsiboot":1,"capabilities":[...],"version":"...","pending":256}``: the version
  to use, words of ``do`` and names of features, the daemon's release, and how many requests of this connection may be
  at work. No more of it is read meanwhile, a ``cancel`` neither.
* ``"detach":true`` answers at once by ``{"accepted":true}``; what becomes of it is told in the daemon's log.
* ``cancel`` ends requests of the same connection (``"of":[id,...]``, all without it); each is answered when what it
  made is taken back.
* ``"patient":true`` of a ``login``: its seconds do not count while it waits for its turn and others get through. An
  event ``{"anew":true}`` says that they count from then on.
* The end of the connection cancels what only looks (:data:`LOOKS`). What changes something goes on to its end, as
  open-iscsi's daemon does when a command is killed.
* A line that is no request is answered with ``"id":null``, and ends the connection.

The client's first line is filled with blanks to :data:`HELLO_BYTES`. Under the same name open-iscsi's daemon may
listen, which reads a structure of some 16 KiB and stands still, with everything it guards, until it has it.

Both ends import this, iscsiadm among them: no dataclasses, no typing, json when the first line is made.
"""

from __future__ import annotations

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Object = dict[str, Any]

ADDRESS = "\0ISCSIADM_ABSTRACT_NAMESPACE"
"""Where iscsid listens: an abstract socket, so one in each network namespace."""
VERSIONS = (1, 1)
"""Lowest and highest version spoken here."""
REQUEST_MAX = 256 << 10
"""Bytes of the longest request; a record with every key is 6 KiB."""
ANSWER_MAX = 16 << 20
"""Bytes of the longest answer; the status of a session is 1 KiB."""
HELLO_BYTES = 32 << 10
SECONDS_MAX = 3600.0
NUMBER_MAX = (1 << 53) - 1
"""Numbers above it are no whole numbers to every reader of JSON."""

ACTIONS: dict[str, float] = {
    "hello": 5.0,
    "cancel": 5.0,
    "login": 600.0,
    "logout": 120.0,
    "rescan": 120.0,
    "settle": 60.0,
    "reconnect": 60.0,
    "set": 10.0,
    "stats": 10.0,
    "status": 10.0,
    "config": 5.0,
    "stop": 30.0,
    "watch": SECONDS_MAX,
}
"""Word of ``do``: the seconds it may take when it does not say."""
LOOKS = frozenset({"stats", "status", "watch", "config"})
"""What changes nothing, so nobody misses it when its client is gone."""


class Lines:
    """Bytes in, lines out. Never keeps more than one line of ``limit`` bytes and what came with it."""

    __slots__ = ("_bytes", "_limit", "_seen")

    def __init__(self, limit: int) -> None:
        self._bytes = bytearray()
        self._limit = limit
        self._seen = 0
        """So many bytes are known to hold no end of a line: bytes that come one by one are looked at once."""

    def feed(self, data: bytes) -> None:
        """More bytes."""
        self._bytes += data

    def take(self) -> bytes | None:
        """The next line without its end, None when it is not complete. IscsiBootError when it is too long."""
        end = self._bytes.find(b"\n", self._seen)
        if (len(self._bytes) if end < 0 else end) > self._limit:
            raise refusal(f"a line of more than {self._limit} bytes", code=ExitCode.INVAL)
        if end < 0:
            self._seen = len(self._bytes)
            return None
        line = bytes(self._bytes[:end])
        del self._bytes[: end + 1]
        self._seen = 0
        return line

    @property
    def begun(self) -> bytes:
        """The first 16 bytes, or as many as there are, of what has not been taken."""
        return bytes(self._bytes[:16])


class Request:
    """One request. ``fields`` is everything it says; secrets may be among it, so nothing of it is ever shown."""

    __slots__ = ("action", "detach", "fields", "number", "seconds", "trace", "uid")

    def __init__(self, action: str, fields: Mapping[str, Any], *, number: int = 0, uid: int = 0) -> None:
        """A request made here. IscsiBootError when ``seconds``, ``detach`` or ``trace`` are not what they can be."""
        self.action = action
        self.fields = fields
        self.number = number
        """``id``."""
        self.uid = uid
        """Who asks."""
        seconds = self.real("seconds", ACTIONS.get(action, SECONDS_MAX))
        if not 0 < seconds <= SECONDS_MAX:
            raise self.wrong("seconds", f"a number above 0, at most {SECONDS_MAX:g}")
        self.seconds = seconds
        """How long it may take in all."""
        self.detach = self.flag("detach")
        self.trace = self.flag("trace")

    def __repr__(self) -> str:
        return f"Request({self.action!r}, number={self.number})"

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number, 0 or more. IscsiBootError (invalid) when it is absent without a default, or is none."""
        value = self.fields.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= NUMBER_MAX:
            raise self.wrong(name, "a whole number, 0 or more")
        return value

    def real(self, name: str, default: float | None = None) -> float:
        """A number."""
        value = self.fields.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not -NUMBER_MAX <= value <= NUMBER_MAX:
            raise self.wrong(name, "a number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """``true`` or ``false``."""
        value = self.fields.get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A text; bytes that were no UTF-8 are in it as ``surrogateescape`` has them."""
        value = self.fields.get(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def texts(self, name: str) -> dict[str, str]:
        """An object whose values are texts, as a record is."""
        value = self.fields.get(name)
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.wrong(name, "an object of texts")
        return value

    def wrong(self, name: str, kind: str) -> IscsiBootError:
        """What to raise about a member that is absent or something else than ``kind``."""
        return refusal(f"{name} is not {kind}", subject=f"request {self.action}", code=ExitCode.INVAL)


class Answer:
    """The end of one request."""

    __slots__ = ("failure", "notes", "result", "steps")

    def __init__(
        self,
        result: Object | None = None,
        failure: IscsiBootError | None = None,
        *,
        notes: Sequence[str] = (),
        steps: Sequence[str] = (),
    ) -> None:
        self.result: Object = result or {}
        self.failure = failure
        """None is success."""
        self.notes = tuple(notes)
        self.steps = tuple(steps)


def refusal(cause: str, *, code: ExitCode, subject: str = "iscsid", hint: str = "") -> IscsiBootError:
    """A failure of the talk itself."""
    hint = hint or "iscsiadm and iscsid should be of one version"
    return IscsiBootError(cause, stage=Stage.DAEMON, subject=subject, hint=hint, exit_code=code)


# Lines. ---------------------------------------------------------------------------------------------------------------


def encode(item: Mapping[str, Any]) -> bytes:
    """An object as a line, its end included. ASCII alone, whatever the texts hold."""
    import json  # lists and shows never talk to the daemon

    return json.dumps(item, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def decode(line: bytes) -> Object:
    """The object of a line. IscsiBootError that repeats nothing of it when there is none."""
    import json  # as above

    try:
        item = json.loads(line.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        item = None
    if not isinstance(item, dict):
        raise refusal("a line that is no JSON object", code=ExitCode.INVAL)
    return item


def _no_number(text: str) -> None:
    raise ValueError(text)


def request_line(number: int, action: str, fields: Mapping[str, Any]) -> bytes:
    """A request. IscsiBootError when it is longer than a daemon takes."""
    line = encode({"iscsiboot": VERSIONS[1], "id": number, "do": action, **fields})
    if len(line) > REQUEST_MAX:
        raise refusal(f"the request has {len(line)} bytes, {REQUEST_MAX} are taken", code=ExitCode.INVAL)
    return line


def hello_line(versions: tuple[int, int] = VERSIONS) -> bytes:
    """The first line of a client."""
    line = encode({"iscsiboot": list(versions), "id": 0, "do": "hello"})
    return line[:-1].ljust(HELLO_BYTES - 1) + b"\n"


def welcome_line(number: int | None, spoken: int, capabilities: Iterable[str], version: str, pending: int) -> bytes:
    """What ``hello`` is answered; ``pending``: requests of one connection that may be at work before it is read on."""
    members = {"iscsiboot": spoken, "capabilities": sorted(capabilities), "version": version, "pending": pending}
    return encode({"id": number, "ok": True, **members})


def event_line(number: int, event: Mapping[str, Any]) -> bytes:
    """Something that happened."""
    return encode({"id": number, "event": event})


def answer_line(number: int | None, answer: Answer) -> bytes:
    """The end of a request."""
    item: Object = {"id": number, "ok": answer.failure is None}
    if answer.failure is None:
        item["result"] = answer.result
    else:
        item |= failure_members(answer.failure)
        if answer.failure.exit_code is ExitCode.INVALID_MGMT_REQ:
            item["versions"] = list(VERSIONS)
    for name, lines in (("notes", answer.notes), ("steps", answer.steps)):
        if lines:
            item[name] = list(lines)
    return encode(item)


# What a daemon is told. -----------------------------------------------------------------------------------------------


def number_of(item: Mapping[str, Any]) -> int | None:
    """``id`` of a line, None when it has none that can be answered."""
    number = item.get("id")
    whole = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= NUMBER_MAX
    return number if whole else None


def version_wanted(item: Mapping[str, Any]) -> int:
    """The version a request is in; of a ``hello``, the highest both sides speak.

    IscsiBootError (``Unknown request``) when there is none, with the versions that are spoken here.
    """
    wanted = item.get("iscsiboot")
    pair = wanted if isinstance(wanted, list) and len(wanted) == 2 else [wanted, wanted]
    if not all(isinstance(version, int) and not isinstance(version, bool) for version in pair):
        raise refusal('a request without its version ("iscsiboot":1)', code=ExitCode.INVALID_MGMT_REQ)
    low, high = max(pair[0], VERSIONS[0]), min(pair[1], VERSIONS[1])
    if low > high:
        theirs = f"version {pair[0]}" if pair[0] == pair[1] else f"versions {pair[0]} to {pair[1]}"
        raise refusal(
            f"the protocol is spoken here in versions {VERSIONS[0]} to {VERSIONS[1]}, not in {theirs}",
            code=ExitCode.INVALID_MGMT_REQ,
        )
    return int(high)


def request_of(item: Mapping[str, Any], *, uid: int) -> Request:
    """The request of a line. IscsiBootError when it is none, or none of a version spoken here."""
    version_wanted(item)
    number, action = number_of(item), item.get("do")
    if not isinstance(action, str):
        raise refusal('a request without an action ("do")', code=ExitCode.INVAL)
    if action not in ACTIONS:
        raise refusal(f"unknown request {quoted(action)}", code=ExitCode.INVALID_MGMT_REQ)
    if number is None and action != "hello":
        raise refusal('a request without its number ("id")', code=ExitCode.INVAL)
    return Request(action, item, number=number or 0, uid=uid)


# What a client is told. -----------------------------------------------------------------------------------------------


def failure_members(error: IscsiBootError) -> Object:
    """A failure on its way."""
    message = error.parts()
    return {"code": message.pop("exit_code"), "message": message}


def failure_of(item: Mapping[str, Any]) -> IscsiBootError:
    """The inverse. A stage or code of a later version is still a failure."""
    message = item.get("message")
    parts: Mapping[str, Any] = message if isinstance(message, dict) else {}
    code, stage = item.get("code"), parts.get("stage")
    known = {str(item.value): item for item in Stage}
    return IscsiBootError(
        str(parts.get("cause") or "it failed without a word"),
        stage=known.get(stage, Stage.DAEMON) if isinstance(stage, str) else Stage.DAEMON,
        subject=str(parts.get("subject") or ""),
        hint=str(parts.get("hint") or ""),
        exit_code=ExitCode(code) if isinstance(code, int) and 0 < code <= max(ExitCode) else ExitCode.ERR,
        retryable=parts.get("retryable") is True,
    )


def answer_of(item: Mapping[str, Any]) -> Answer | None:
    """The end of a request, None when the line is an event."""
    if "ok" not in item:
        return None
    notes, steps = (_texts(item.get(name)) for name in ("notes", "steps"))
    if item["ok"] is not True:
        return Answer(failure=failure_of(item), notes=notes, steps=steps)
    result = item.get("result")
    return Answer(result if isinstance(result, dict) else {}, notes=notes, steps=steps)


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
