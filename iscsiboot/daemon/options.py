# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of ``iscsid``: open-iscsi's options, letters, long names, words and exit statuses (reference 1.12).

One table (:data:`OPTIONS`) drives the parser, the help and iscsid(8). Options act in their order, as there: ``-v``
before a mistake prints the version, behind it the mistake is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from iscsiboot.errors import quoted
from iscsiboot.model.getopt_long import OptionSpec, scan

PROGRAM = "iscsid"
TRY_HELP = f"Try `{PROGRAM} --help' for more information."
PID_FILE = "/run/iscsid.pid"
CONFIG_FILE = "iscsid.conf"
NAME_FILE = "initiatorname.iscsi"
DEBUG_MAX = 8
ID_MAX = (1 << 32) - 2
"""The last user and group number; the one above means "none" to the kernel."""


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table."""

    letter: str
    long: str
    argument: str
    meaning: str

    @property
    def spec(self) -> OptionSpec:
        """The row as the scanner takes it."""
        return OptionSpec(self.letter, self.long, takes_value=bool(self.argument))

    @property
    def usage(self) -> str:
        """Its line of the help."""
        long = f"--{self.long}={self.argument}" if self.argument else f"--{self.long}"
        return f"  -{self.letter}, {long:<24} {self.meaning}"


OPTIONS = (
    Option("c", "config", "PATH", "settings of the daemon and of new records (/etc/iscsi/iscsid.conf)"),
    Option("i", "initiatorname", "PATH", "file with this machine's name (/etc/iscsi/initiatorname.iscsi)"),
    Option("f", "foreground", "", "stay in the foreground, log to standard error"),
    Option("d", "debug", "LEVEL", f"0 to {DEBUG_MAX}: how much is logged"),
    Option("u", "uid", "UID", "run as this user once everything is open (default: as started)"),
    Option("g", "gid", "GID", "run as this group once everything is open (default: as started)"),
    Option("n", "no-pid-file", "", "write no pid file"),
    Option("p", "pid", "PATH", f"pid file ({PID_FILE})"),
    Option("h", "help", "", "this text"),
    Option("v", "version", "", "the version"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """A command line that is legal."""

    config: str | None = None
    """None for the usual place, which may be empty."""
    initiatorname: str | None = None
    foreground: bool = False
    debug: int = 0
    uid: int = 0
    """0 keeps the user the daemon was started as."""
    gid: int = 0
    no_pid_file: bool = False
    pid: str | None = None

    def whole(self) -> Options:
        """With whole paths: the daemon leaves the folder it was started in. OSError when that folder is gone."""
        return replace(self, config=_whole(self.config), initiatorname=_whole(self.initiatorname), pid=_whole(self.pid))

    def pid_file(self, *, supervised: bool) -> str | None:
        """Where the pid goes, None for nowhere. ``supervised``: a service manager started us and waits to be notified.

        The peer writes none in the foreground. Debian's scripts at shutdown take a missing one for a daemon that is
        not there, and a unit starts the daemon in the foreground; so there it is written.
        """
        if self.no_pid_file or (self.foreground and not supervised):
            return None
        return self.pid or PID_FILE


class Answered(Exception):
    """The run is over with this text on standard output and status 0."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class UsageError(Exception):
    """The run is over with these lines on standard error and status 1, as the peer's."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.text = f"{line}\n{TRY_HELP}\n"


def help_text() -> str:
    """What ``-h`` prints."""
    lines = [f"Usage: {PROGRAM} [OPTION]", "Guards this machine's iSCSI sessions and makes new ones on request."]
    return "\n".join([*lines, *(option.usage for option in OPTIONS)]) + "\n"


def parse(argv: Sequence[str], version: str, *, program: str = PROGRAM) -> Options:
    """The options of a command line without the program's name, which mistakes are told with.

    :class:`Answered` for ``-h`` and ``-v``, :class:`UsageError` for a mistake, whichever comes first. Words that are
    no options are ignored, as the peer does.
    """
    values: dict[str, str] = {}
    for found in scan(argv, program, [option.spec for option in OPTIONS]):
        if found.spec is None:
            raise UsageError(found.complaint)
        if found.spec.long == "help":
            raise Answered(help_text())
        if found.spec.long == "version":
            raise Answered(f"{PROGRAM} version {version}\n")
        if found.spec.long in ("uid", "gid"):
            _number(found.spec.long, found.value)
        values[found.spec.long] = found.value
    options = Options(
        config=values.get("config"),
        initiatorname=values.get("initiatorname"),
        foreground="foreground" in values,
        debug=_level(values.get("debug", "")),
        uid=int(values.get("uid", 0)),
        gid=int(values.get("gid", 0)),
        no_pid_file="no-pid-file" in values,
        pid=values.get("pid"),
    )
    if options.pid is not None and options.no_pid_file:
        raise UsageError("error: Conflicting PID-file options requested")
    if options.pid is not None and options.foreground:
        raise UsageError("error: PID file specified but unused in foreground mode")
    return options


def _whole(path: str | None) -> str | None:
    return str(Path(path).absolute()) if path else path


def _level(text: str) -> int:
    """What is no number is 0, as the peer's: a slip in how much is logged is no reason to leave a root unguarded."""
    digits = re.match("[0-9]+", text)
    return min(int(digits[0].lstrip("0")[:3] or "0"), DEBUG_MAX) if digits else 0


def _number(name: str, text: str) -> None:
    """Refuse what is no number: the peer takes it for 0, which for a user is root."""
    if not (text.isascii() and text.isdigit() and int(text.lstrip("0")[:12] or "0") <= ID_MAX):
        raise UsageError(f"error: --{name} takes a number, not {quoted(text)}")
