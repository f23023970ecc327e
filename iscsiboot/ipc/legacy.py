# SPDX-License-Identifier: LGPL-2.1-or-later
"""What open-iscsi's own iscsiadm says under the same name, as far as it can be answered. Pure: bytes in, bytes out.

It writes one structure of C in the machine's own byte order and alignment, some 16 KiB, whose size differs between its
releases; the reply has 2464 bytes in all of them (reference 7 and appendix B). What is answered here needs the first 16
bytes alone: the command, how much follows the structure, a session's number. So the size does not matter: the reply
goes out when these are there, and the rest is thrown away.

A login comes as a record of its own in that structure, which is different in each release: it is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from iscsiboot.errors import ExitCode
from iscsiboot.ipc.protocol import Request

REPLY_BYTES = 2464
HEAD_BYTES = 16
REQUEST_MAX = 160 << 10
"""Structure and payload; more than this is not read."""
_HEAD = struct.Struct("=IIi4x")
"""Command, bytes of payload, session."""
_REPLY = struct.Struct("=II")
_STATE = struct.Struct("=ii")
_COUNTERS = struct.Struct("=QQ19II")
_COUNTER = struct.Struct("=64sQ")
_UEVENT_BYTES = 56
_TEXT_BYTES = 255
COMMANDS_MAX = 63
"""Its commands end at 19. An opening brace is a larger number, in either byte order."""


class Command(IntEnum):
    """Those that are answered."""

    SESSION_LOGOUT = 2
    SESSION_STATS = 7
    CONFIG_INAME = 8
    CONFIG_IALIAS = 9
    CONFIG_FILE = 10
    IMMEDIATE_STOP = 11
    SESSION_INFO = 13


_ACTIONS = {
    Command.SESSION_LOGOUT: "logout",
    Command.SESSION_STATS: "stats",
    Command.CONFIG_INAME: "config",
    Command.CONFIG_IALIAS: "config",
    Command.CONFIG_FILE: "config",
    Command.IMMEDIATE_STOP: "stop",
    Command.SESSION_INFO: "status",
}
_OF_SESSION = frozenset({Command.SESSION_LOGOUT, Command.SESSION_STATS, Command.SESSION_INFO})
_TEXTS = {
    Command.CONFIG_INAME: "initiator_name",
    Command.CONFIG_IALIAS: "alias",
    Command.CONFIG_FILE: "config_file",
}

_LOGGED_IN, _WAITING, _IN_LOGIN, _IN_LOGOUT = 3, 1, 2, 4
_NO_CHANGE, _REOPEN = 0, 2
STATES = {
    "up": (_NO_CHANGE, _LOGGED_IN),
    "stopping": (_REOPEN, _WAITING),
    "waiting": (_REOPEN, _WAITING),
    "trying": (_REOPEN, _IN_LOGIN),
    "leaving": (_NO_CHANGE, _IN_LOGOUT),
}
"""Phase of a session: its recovery stage and the state of its connection, in the peer's numbers (reference 4.1)."""


_FIRST = struct.Struct("=I")


def is_legacy(begun: bytes) -> bool:
    """Whether a connection that begins with these four bytes or more is the peer's: they are a small number."""
    return len(begun) >= 4 and 0 < _FIRST.unpack_from(begun)[0] <= COMMANDS_MAX


def command_of(head: bytes) -> tuple[int, int]:
    """Command and session of the first :data:`HEAD_BYTES` bytes."""
    command, _, sid = _HEAD.unpack_from(head)
    return command, sid


def request_of(command: int, sid: int, *, uid: int) -> Request | None:
    """The same in our words, None when it cannot be answered."""
    if command not in _ACTIONS:
        return None
    known = Command(command)
    if known not in _OF_SESSION:
        return Request(_ACTIONS[known], {}, uid=uid)
    # The peer's own command asks for no such thing, and waits without an end.
    return Request(_ACTIONS[known], {"sid": sid}, uid=uid) if sid >= 0 else None


def reply(command: int, code: ExitCode, result: Mapping[str, Any] | None = None) -> bytes:
    """The reply; ``result`` is what the request of :func:`request_of` was answered."""
    body = b""
    if code is ExitCode.SUCCESS and result is not None and command in _ACTIONS:
        known = Command(command)
        if known in _TEXTS:
            text = str(result.get(_TEXTS[known]) or "").encode("utf-8", "surrogateescape")
            body = text[: _TEXT_BYTES - 1]
        elif known is Command.SESSION_STATS:
            body = _statistics(result)
        elif known is Command.SESSION_INFO:
            phase = _phase(result)
            if phase not in STATES:
                code = ExitCode.SESS_NOT_FOUND
            else:
                body = _STATE.pack(*STATES[phase])
    return (_REPLY.pack(command, code) + body).ljust(REPLY_BYTES, b"\0")


def _phase(result: Mapping[str, Any]) -> str:
    """Of the one session a status was asked for."""
    sessions = result.get("sessions")
    if not isinstance(sessions, list) or len(sessions) != 1 or not isinstance(sessions[0], Mapping):
        return ""
    return str(sessions[0].get("phase"))


def _statistics(result: Mapping[str, Any]) -> bytes:
    """``struct iscsi_stats`` behind the kernel's message head, which nobody looks at."""
    numbers = [value for _, value in result["counters"]]
    custom = list(result["custom"])[:32]
    counters = [min(value, (1 << (64 if at < 2 else 32)) - 1) for at, value in enumerate(numbers)]
    packed = _COUNTERS.pack(*counters, len(custom))
    rows = [_COUNTER.pack(name.encode("utf-8", "replace")[:63], value) for name, value in custom]
    return bytes(_UEVENT_BYTES) + packed + b"".join(rows)
