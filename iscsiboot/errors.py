# SPDX-License-Identifier: LGPL-2.1-or-later
"""The root exception, the exit codes, and the one line every failure is reported in.

Boot code runs where nobody can log in, so a failure has four parts and all four reach the console in one line:

* *stage*: how far the boot had come (:class:`Stage`);
* *subject*: the object it happened to (a NIC, a portal, a table, a LUN);
* *cause*: what went wrong, in words;
* *hint*: what to do next.

Rules: library code raises, only entry points turn an exception into text and an exit status; nothing in this package
calls ``sys.exit`` outside them. A cause never contains a secret. Text that came from a peer, a table or a file goes
through :func:`quoted` before it enters a message.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class ExitCode(IntEnum):
    """Exit statuses of open-iscsi's programs, same numbers, so scripts can go on branching on them."""

    SUCCESS = 0
    ERR = 1
    SESS_NOT_FOUND = 2
    NOMEM = 3
    TRANS = 4
    LOGIN = 5
    IDBM = 6
    INVAL = 7
    TRANS_TIMEOUT = 8
    INTERNAL = 9
    LOGOUT = 10
    PDU_TIMEOUT = 11
    TRANS_NOT_FOUND = 12
    ACCESS = 13
    TRANS_CAPS = 14
    SESS_EXISTS = 15
    INVALID_MGMT_REQ = 16
    ISNS_UNAVAILABLE = 17
    ISCSID_COMM_ERR = 18
    FATAL_LOGIN = 19
    ISCSID_NOTCONN = 20
    NO_OBJS_FOUND = 21
    SYSFS_LOOKUP = 22
    HOST_NOT_FOUND = 23
    LOGIN_AUTH_FAILED = 24
    ISNS_QUERY = 25
    ISNS_REG_FAILED = 26
    OP_NOT_SUPP = 27
    BUSY = 28
    AGAIN = 29
    UNKNOWN_DISCOVERY_TYPE = 30
    CHILD_TERMINATED = 31
    SESSION_NOT_CONNECTED = 32
    REQ_TIMEDOUT = 33


EXIT_TEXT: dict[ExitCode, str] = {
    ExitCode.SUCCESS: "",
    ExitCode.ERR: "unknown error",
    ExitCode.SESS_NOT_FOUND: "session not found",
    ExitCode.NOMEM: "no available memory",
    ExitCode.TRANS: "encountered connection failure",
    ExitCode.LOGIN: "encountered iSCSI login failure",
    ExitCode.IDBM: "encountered iSCSI database failure",
    ExitCode.INVAL: "invalid parameter",
    ExitCode.TRANS_TIMEOUT: "connection timed out",
    ExitCode.INTERNAL: "internal error",
    ExitCode.LOGOUT: "encountered iSCSI logout failure",
    ExitCode.PDU_TIMEOUT: "iSCSI PDU timed out",
    ExitCode.TRANS_NOT_FOUND: "iSCSI driver not found. Please make sure it is loaded, and retry the operation",
    ExitCode.ACCESS: "daemon access denied",
    ExitCode.TRANS_CAPS: "iSCSI driver does not support requested capability.",
    ExitCode.SESS_EXISTS: "session exists",
    ExitCode.INVALID_MGMT_REQ: "Unknown request",
    ExitCode.ISNS_UNAVAILABLE: "iSNS service not supported",
    ExitCode.ISCSID_COMM_ERR: "could not communicate to iscsid",
    ExitCode.FATAL_LOGIN: "encountered non-retryable iSCSI login failure",
    ExitCode.ISCSID_NOTCONN: "could not connect to iscsid",
    ExitCode.NO_OBJS_FOUND: "no objects found",
    ExitCode.SYSFS_LOOKUP: "sysfs lookup failure",
    ExitCode.HOST_NOT_FOUND: "host not found",
    ExitCode.LOGIN_AUTH_FAILED: "iSCSI login failed due to authorization failure",
    ExitCode.ISNS_QUERY: "iSNS query failed",
    ExitCode.ISNS_REG_FAILED: "iSNS registration failed",
    ExitCode.OP_NOT_SUPP: "operation not supported",
    ExitCode.BUSY: "device or resource in use",
    ExitCode.AGAIN: "operation failed but retry may succeed",
    ExitCode.UNKNOWN_DISCOVERY_TYPE: "unknown discovery type",
    ExitCode.CHILD_TERMINATED: "child process terminated",
    ExitCode.SESSION_NOT_CONNECTED: "target likely not connected",
    ExitCode.REQ_TIMEDOUT: "iscsid request timed out",
}
"""What open-iscsi prints in ``initiator reported error (N - TEXT)``: programs read these words."""


class Stage(Enum):
    """How far a boot, or a command, had come. The value is the word printed on the console."""

    ARGUMENTS = "arguments"
    FIRMWARE = "firmware"
    MODULES = "modules"
    NETWORK = "network"
    CONNECT = "connect"
    LOGIN = "login"
    DISCOVERY = "discovery"
    SESSION = "session"
    HANDOFF = "handoff"
    SCAN = "scan"
    DEVICE = "device"
    IMAGE = "image"
    DATABASE = "database"
    DAEMON = "daemon"


class IscsiBootError(Exception):
    """A failure somebody outside has to act on.

    ``retryable`` says that the same step may succeed later without any change here (a target that is down, a cable
    that is out); a wrong secret is not retryable.
    """

    def __init__(
        self,
        cause: str,
        *,
        stage: Stage,
        subject: str = "",
        hint: str = "",
        exit_code: ExitCode = ExitCode.ERR,
        retryable: bool = False,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.stage = stage
        self.subject = subject
        self.hint = hint
        self.exit_code = exit_code
        self.retryable = retryable

    def parts(self) -> dict[str, object]:
        """Everything of it as JSON can hold it, under the names of the arguments."""
        return {
            "stage": self.stage.value,
            "subject": self.subject,
            "cause": self.cause,
            "hint": self.hint,
            "exit_code": int(self.exit_code),
            "retryable": self.retryable,
        }

    def line(self) -> str:
        """``stage: subject: cause; next: hint``, without line breaks whatever the parts held."""
        parts = [self.stage.value, self.subject, self.cause]
        text = ": ".join(part for part in parts if part)
        return printable(f"{text}; next: {self.hint}" if self.hint else text)

    def __str__(self) -> str:
        return self.line()


def printable(text: str) -> str:
    """``text`` with every character that could move a terminal's cursor or end the line replaced by an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def printable_values(value: object) -> object:
    """A value of JSON with every text in it made :func:`printable`: a program may print what it finds there."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable_values(key): printable_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable_values(item) for item in value]
    return value


def quoted(untrusted: str | bytes, limit: int = 80) -> str:
    """Untrusted text made safe for a message: quoted, escaped, and cut at ``limit`` characters with its full length."""
    text = untrusted.decode("utf-8", "backslashreplace") if isinstance(untrusted, bytes) else untrusted
    safe = printable(text[:limit]).replace('"', '\\"')
    return f'"{safe}"' if len(text) <= limit else f'"{safe}..." ({len(text)} characters)'
