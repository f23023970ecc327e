# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests of discovery share: a machine of files, and commands run on it."""

from __future__ import annotations

import io
import itertools
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.admin.context import Paths
from iscsiboot.admin.main import main
from iscsiboot.database.names import NodeKey
from iscsiboot.database.record import Record
from iscsiboot.database.store import Database
from tests.doubles.directory import Served, directory
from tests.doubles.server import TargetServer
from tests.doubles.session import FullTarget, Plan

NAME = "iqn.2004-01.com.example:initiator"
A, B, C = (f"iqn.2004-01.com.example:{letter}" for letter in "abc")
QUICK = {"reopen_max": "0", "timeo.login_timeout": "5", "timeo.active_timeout": "5"}


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of stderr without the program's name."""
        return [line.removeprefix("iscsiadm: ") for line in self.err.splitlines()]


class Machine:
    """A file system with a configuration, and ``iscsiadm`` on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.iscsi = root / "iscsi"
        self.sysfs = root / "sys"
        self.paths = Paths(
            config=str(self.iscsi),
            database=str(self.iscsi),
            etc=str(root / "etc"),
            sysfs=str(self.sysfs),
            proc=str(root / "proc"),
            run=str(root / "run"),
        )
        for path in (self.iscsi, self.sysfs / "firmware", self.sysfs / "class", root / "proc", root / "run"):
            path.mkdir(parents=True)
        (self.iscsi / "initiatorname.iscsi").write_text(f"InitiatorName={NAME}\n")
        self.configure()

    def configure(self, text: str = "", **discovery: str) -> None:
        """Write iscsid.conf: ``text``, and settings of SendTargets discovery (``auth__username``), quick ones first."""
        settings = QUICK | {name.replace("__", "."): value for name, value in discovery.items()}
        lines = [f"discovery.sendtargets.{name} = {value}" for name, value in settings.items()]
        (self.iscsi / "iscsid.conf").write_text("\n".join([*lines, text, ""]))

    def __call__(self, line: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        status = main(shlex.split(line), out, err, self.paths)
        return Ran(int(status), out.getvalue(), err.getvalue())

    @property
    def database(self) -> Database:
        """The records."""
        return Database(str(self.iscsi))

    def record(self, key: NodeKey) -> Record:
        """One node record, which must be there."""
        record = self.database.read_node(key)
        assert record is not None, key
        return record

    @property
    def links(self) -> list[str]:
        """Every link of a discovery, by folder."""
        found = []
        for folder, _, _ in os.walk(self.iscsi):
            for path in Path(folder).iterdir():
                if path.is_symlink():
                    found.append(str(path.relative_to(self.iscsi)))
        return sorted(found)

    @property
    def targets(self) -> list[str]:
        """Targets with a record."""
        return list(dict.fromkeys(key.target for key in self.database.node_keys()))


@contextmanager
def serving(*plans: Plan, host: str = "127.0.0.1") -> Iterator[TargetServer]:
    """A scripted target, one plan for each connection, the last one again and again."""
    turn = itertools.chain(plans, itertools.repeat(plans[-1]))
    with TargetServer(lambda: FullTarget(next(turn)), host=host) as server:
        yield server


def offering(*served: Served) -> Plan:
    """An honest portal with these targets."""
    return Plan(records=directory(served))


def at(target: str, *addresses: str) -> Served:
    """A target at these addresses, at one nobody reaches by default."""
    return Served(target, addresses or ("192.0.2.1:3260,1",))
