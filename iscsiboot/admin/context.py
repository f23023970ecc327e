# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every mode of ``iscsiadm`` is given: where things are, and where words go.

Words go where open-iscsi sends them: results bare to stdout, everything else to stderr behind ``iscsiadm: ``. Programs
take any word on stderr for a failure (clients such as os-brick do), so what is only worth knowing goes through
:meth:`Context.notice`, which speaks to a person at a terminal and to nobody else.

With ``--json`` stdout carries one document and nothing else: what is said, noticed and reported meanwhile is kept here
until :func:`iscsiboot.admin.json_out.finish` writes it. stderr and the exit status are the same with and without.

This module is imported by every command, also by the one that lists nothing: it imports nothing that costs.
"""

from __future__ import annotations

import os

from iscsiboot.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from iscsiboot.errors import IscsiBootError


DAEMON = "\0ISCSIADM_ABSTRACT_NAMESPACE"
""":data:`iscsiboot.ipc.protocol.ADDRESS`, without a module that lists have no use for."""


class Paths:
    """The roots this program reads and writes below. Tests and rescue systems give others."""

    __slots__ = ("config", "daemon", "database", "etc", "proc", "run", "sysfs")

    def __init__(
        self,
        *,
        config: str = "/etc/iscsi",
        database: str = "/etc/iscsi",
        etc: str = "/etc",
        sysfs: str = "/sys",
        proc: str = "/proc",
        run: str = "/run",
        daemon: str = "",
    ) -> None:
        self.config = config
        self.database = database
        self.etc = etc
        self.sysfs = sysfs
        self.proc = proc
        self.run = run
        self.daemon = daemon
        """The socket of this machine's iscsid; empty: none is looked for, the command does everything itself."""

    @classmethod
    def of_this_machine(cls) -> Paths:
        """The usual roots."""
        from iscsiboot.model.record_root import record_root  # who gives other roots does not ask

        return cls(database=record_root(lambda path: os.access(path, os.F_OK)), daemon=DAEMON)

    @property
    def iscsid_conf(self) -> str:
        """Defaults of new records and settings of the daemon."""
        return f"{self.config}/iscsid.conf"

    @property
    def initiator_name(self) -> str:
        """``InitiatorName=`` and ``InitiatorAlias=`` of this machine."""
        return f"{self.config}/initiatorname.iscsi"


class Context:
    """One run of the command."""

    __slots__ = ("_noticed", "debug", "err", "failures", "json", "kind", "objects", "out", "paths", "program", "said")

    def __init__(
        self, *, paths: Paths, out: TextIO, err: TextIO, program: str = "iscsiadm", debug: int = 0, json: bool = False
    ) -> None:
        self.paths = paths
        self.out = out
        self.err = err
        self.program = program
        self.debug = debug
        self.json = json
        self.said: list[str] = []
        """With ``--json``: lines of result that have no object."""
        self.kind = ""
        """With ``--json``: what the document's objects are, the first kind that was given."""
        self.objects: list[tuple[str, dict[str, Any]]] = []
        """With ``--json``: kind and fields of each object, see :mod:`iscsiboot.admin.json_out`."""
        self.failures: list[tuple[str, IscsiBootError | None]] = []
        """With ``--json``: each line of :meth:`error` and what it is about."""
        self._noticed: dict[str, None] = {}

    @property
    def notices(self) -> list[str]:
        """With ``--json``, ``-d`` or at a terminal: what was worth knowing, each line once, in order."""
        return list(self._noticed)

    def say(self, line: str) -> None:
        """One line of result, or several, on stdout.

        Byte for byte into a file or a pipe; at a terminal what would move its cursor is shown instead, for names come
        from targets.
        """
        if self.json:
            self.said.append(line)
            return
        if not line.isprintable() and self.out.isatty():
            line = "\n".join("\t".join(map(printable, part.split("\t"))) for part in line.split("\n"))
        self.out.write(line + "\n")

    def error(self, line: str, cause: IscsiBootError | None = None) -> None:
        """One line about a failure, on stderr with the program's name; what stood on stdout before it comes first.

        ``cause`` is the failure the line tells of, for programs that want its parts.
        """
        if self.json:
            self.failures.append((line, cause))
        self._tell(line)

    @property
    def attentive(self) -> bool:
        """Whether anybody is told what is worth knowing: what costs to find out need not be looked for otherwise."""
        return self._spoken or self.json

    @property
    def _spoken(self) -> bool:
        return bool(self.debug) or self.err.isatty()

    def about(self, kind: str) -> None:
        """With ``--json``: the command lists or makes objects of this kind, also when there will be none."""
        self.kind = self.kind or kind

    def trace(self, level: int, line: str) -> None:
        """One step of the work, on stderr from ``-d LEVEL`` on. Never a secret, at no level.

        1 is every stage and what it is about, 2 what decides how it is done, 3 what was looked at and left.
        """
        if self.debug >= level:
            self._tell(line)

    def notice(self, line: str) -> None:
        """One line worth knowing that is no failure: once, and only to a terminal or to who asked by ``-d``."""
        spoken = self._spoken
        if line not in self._noticed and (spoken or self.json):
            self._noticed[line] = None
            if spoken:
                self._tell(line)

    def _tell(self, line: str) -> None:
        self.out.flush()
        self.err.write(f"{self.program}: {printable(line)}\n")
