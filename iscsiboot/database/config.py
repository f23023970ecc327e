# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsid.conf``: the defaults of new records and the settings of the daemon.

Read as open-iscsi reads it: any key of any record is a default, the last line about it counts, and a daemon's setting
(``iscsid.*``) is what the first line says. What cannot be used leaves the default in effect and is told with file,
line, key and what the key takes; nothing in this file stops a command.
"""

from __future__ import annotations

import os
import stat

from iscsiboot.database.failure import DatabaseError, failure
from iscsiboot.database.keys import BY_KIND, BY_NAME, HIDDEN
from iscsiboot.database.lines import Line, judge, read_lines
from iscsiboot.database.record import Record, compiled
from iscsiboot.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CONFIG_MAX = 1 << 20
"""Bytes of the longest file that is read."""

_RECORDS = ("node", "iface", "sendtargets", "isns")


class Config:
    """What the file says. A file that does not exist says nothing."""

    __slots__ = ("_iscsid", "_values", "path", "present", "problems")

    def __init__(self, path: str, lines: Iterable[Line], *, present: bool = True) -> None:
        self.path = path
        self.present = present
        self.problems: list[str] = []
        """What could not be used, or not as it was meant: one line each, with file and line number."""
        self._values: dict[str, dict[str, str]] = {kind: {} for kind in _RECORDS}
        self._iscsid: dict[str, str] = {}
        for line in lines:
            problem = self._take(line)
            if problem:
                self.problems.append(f"{path} line {line.number}: {problem}")

    def _take(self, line: Line) -> str:
        """One line; what to tell about it, "" for nothing."""
        key = BY_NAME.get(line.name)
        if key is None:
            if line.name in HIDDEN:
                return ""
            return line.problem or f"unknown key {quoted(line.name)}{_meant(line.name)}"
        if not line.value:
            return f"{key.name} has no value"
        value, problem = judge(key, line.value)
        if value is None:
            problem += f"; {quoted(key.default) if key.default else 'no value'} is used"
        if line.name in BY_KIND["iscsid"]:
            self._iscsid.setdefault(line.name, key.default if value is None else value)
        for kind in _RECORDS:
            if line.name not in BY_KIND[kind]:
                continue
            self._values[kind].pop(line.name, None)
            if value is not None:
                self._values[kind][line.name] = value
        return problem or line.problem

    def _record(self, kind: str) -> Record:
        return Record(kind, {**compiled(kind), **self._values[kind]})

    def node(self) -> Record:
        """A new node record before its target and portal are filled in."""
        return self._record("node")

    def iface(self) -> Record:
        """A new interface record before its name is filled in."""
        return self._record("iface")

    def sendtargets(self) -> Record:
        """A new SendTargets record before its server is filled in."""
        return self._record("sendtargets")

    def isns(self) -> Record:
        """A new iSNS record before its server is filled in."""
        return self._record("isns")

    def iscsid(self, name: str) -> str:
        """A setting of the daemon; KeyError for a name that is none."""
        return self._iscsid.get(name, BY_KIND["iscsid"][name].default)


def _meant(name: str) -> str:
    """A known name that differs in case alone."""
    for known in BY_NAME:
        if known.lower() == name.lower():
            return f"; is {known} meant?"
    return ""


def read_config(path: str, *, notice: Callable[[str], None] | None = None) -> Config:
    """Read the file at ``path`` (links are followed: some systems keep the real one elsewhere).

    DatabaseError when it is there and cannot be read. ``notice`` is told every problem.
    """
    return parse_config(path, read_config_text(path), notice=notice)


def parse_config(path: str, text: str | None, *, notice: Callable[[str], None] | None = None) -> Config:
    """What ``text`` says, which is what the file at ``path`` holds; None: there is no file."""
    config = Config(path, read_lines(text or ""), present=text is not None)
    if notice is not None:
        for problem in config.problems:
            notice(problem)
    return config


def read_config_text(path: str) -> str | None:
    """What the file holds, None when there is none; DatabaseError when it cannot be read."""
    data = _read(path)
    return None if data is None else data.decode("utf-8", "surrogateescape")


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise failure(error, path, "opening the configuration") from error
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode) or state.st_size > CONFIG_MAX:
            raise DatabaseError(f"this is no file of at most {CONFIG_MAX} bytes", subject=path)
        return os.read(fd, CONFIG_MAX)
    except OSError as error:
        raise failure(error, path, "reading the configuration") from error
    finally:
        os.close(fd)
