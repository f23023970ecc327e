# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine for tests of node and iface mode: a database, a /sys, and ``iscsiadm`` on it."""

from __future__ import annotations

import io
import shlex
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.admin.context import Paths
from iscsiboot.admin.main import main
from iscsiboot.database.names import NodeKey, Pattern
from iscsiboot.database.record import Record
from iscsiboot.database.store import Database
from tests.doubles.sysfs_tree import SysfsTree


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a command left on its streams, and its exit status."""

    out: str
    err: str
    status: int


class Machine:
    """Everything below one folder; software transports are loaded, no session is there."""

    def __init__(self, root: Path) -> None:
        self.root = root / "iscsi"
        self.root.mkdir()
        self.sysfs = SysfsTree(root / "sys")
        self.sysfs.add_transport("iser")
        self.paths = Paths(
            config=str(self.root), database=str(self.root), sysfs=str(self.sysfs.root), run=str(root / "run")
        )
        self.database = Database(str(self.root))

    def run(self, line: str) -> Answer:
        """A command line without the program's name, quoted as for a shell."""
        out, err = io.StringIO(), io.StringIO()
        status = main(shlex.split(line), out, err, self.paths)
        return Answer(out=out.getvalue(), err=err.getvalue(), status=status)

    def good(self, line: str) -> str:
        """The same, for a command that must succeed without a word on stderr; its stdout."""
        answer = self.run(line)
        assert (answer.status, answer.err) == (0, ""), answer
        return answer.out

    def session(
        self,
        sid: int,
        target: str,
        address: str = "10.0.0.1",
        *,
        port: int = 3260,
        tpgt: int = 1,
        iface: str = "default",
    ) -> None:
        """A session that is up."""
        portal = {
            "address": address,
            "port": str(port),
            "persistent_address": address,
            "persistent_port": str(port),
        }
        self.sysfs.add_session(sid, targetname=target, tpgt=str(tpgt), ifacename=iface, connection=portal)

    def places(self) -> list[NodeKey]:
        """Every node record's place."""
        return self.database.node_keys()

    def record(self, target: str, address: str = "", iface: str = "") -> Record:
        """The one record of a target, portal and interface."""
        ((_, record),) = self.database.nodes(Pattern(target=target, address=address, iface=iface))
        return record
