# SPDX-License-Identifier: LGPL-2.1-or-later
"""A runner that does what a test says, and a command's context with its streams."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from iscsiboot.admin.context import Context, Paths
from iscsiboot.admin.options import Options
from iscsiboot.admin.runner import LoginOrder, Result
from iscsiboot.database.names import NodeKey
from iscsiboot.database.record import Record, node_defaults
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.netlink.statistics import COUNTERS, ConnectionStatistics
from iscsiboot.sysfs.listing import SessionRow

TARGET = "iqn.2026-01.org.example:"
PORT = 3260


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def wishes(*, force: bool = False, wait_device: bool = False, timeout: float | None = None) -> Options:
    """A command line with the options these commands look at."""
    options = Options()
    options.force, options.wait_device, options.timeout = force, wait_device, timeout
    return options


class Streams:
    """A command's context over a made-up machine; what it wrote, in order, stderr lines marked ``E``."""

    def __init__(self, root: Path, *, terminal: bool = False, json: bool = False, debug: int = 0) -> None:
        self.both: list[str] = []
        self.out = _Tagged(self.both, "")
        self.err: io.StringIO = Terminal() if terminal else _Tagged(self.both, "E ")
        paths = Paths(
            config=str(root / "etc"),
            database=str(root / "etc"),
            sysfs=str(root / "sys"),
            proc=str(root / "proc"),
            run=str(root / "run"),
        )
        (root / "etc").mkdir(exist_ok=True)
        self.context = Context(paths=paths, out=self.out, err=self.err, json=json, debug=debug)

    @property
    def lines(self) -> list[str]:
        """What was written, line by line as it came."""
        return "".join(self.both).splitlines()


class _Tagged(io.StringIO):
    def __init__(self, both: list[str], mark: str) -> None:
        super().__init__()
        self._both = both
        self._mark = mark

    def write(self, text: str, /) -> int:
        self._both.append("".join(self._mark + line for line in text.splitlines(keepends=True)))
        return super().write(text)


class ScriptedRunner:
    """``results`` are given out in the order ``finish`` names the orders; the rest of a run is recorded."""

    def __init__(self, *results: ExitCode | Result, finish: Sequence[int] | None = None) -> None:
        self._results = results
        self._finish = finish
        self.orders: list[LoginOrder] = []
        self.later: list[LoginOrder] = []
        self.settled: list[NodeKey] = []
        self.leftover: Callable[[], list[str]] = list
        """Removes what is left over, and says so."""
        self.rows: list[SessionRow] = []
        self.insisted: bool | None = None
        self.seconds: float | None = None
        self.closed = False
        self.before_each: Callable[[int], None] = lambda index: None
        self.counters: dict[int, ConnectionStatistics | IscsiBootError] = {}

    def settle(self, pairs: Sequence[tuple[NodeKey, Record]]) -> Sequence[str]:
        self.settled += [key for key, _ in pairs]
        return self.leftover()

    def login(
        self,
        orders: Sequence[LoginOrder],
        *,
        seconds: float | None = None,
        tick: Callable[[], None] | None = None,
    ) -> Generator[tuple[int, Result], None, None]:
        self.orders, self.seconds = list(orders), seconds
        yield from self._give(len(orders), tick)

    def login_later(self, orders: Sequence[LoginOrder]) -> None:
        self.later = list(orders)

    def logout(
        self, rows: Sequence[SessionRow], *, insist: bool = False, seconds: float | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        self.rows, self.insisted, self.seconds = list(rows), insist, seconds
        yield from self._give(len(rows), None)

    def _give(self, count: int, tick: Callable[[], None] | None) -> Generator[tuple[int, Result], None, None]:
        try:
            for index in self._finish or range(count):
                if tick:
                    tick()
                self.before_each(index)
                item = self._results[index] if index < len(self._results) else ExitCode.SUCCESS
                yield index, item if isinstance(item, Result) else result(item, index + 1)
        finally:
            self.closed = True

    def statistics(self, row: SessionRow) -> ConnectionStatistics:
        found = self.counters.get(row.sid, statistics())
        if isinstance(found, IscsiBootError):
            raise found
        return found

    def state(self, row: SessionRow) -> tuple[str, str]:
        return "LOGGED IN", "NO CHANGE"


def statistics(*custom: tuple[str, int]) -> ConnectionStatistics:
    """Counters 0, 1, 2, ..."""
    return ConnectionStatistics(counters=tuple(zip(COUNTERS, range(21), strict=True)), custom=custom)


def result(code: ExitCode, sid: int, *notes: str) -> Result:
    """A result with this exit code."""
    if code is ExitCode.SUCCESS:
        return Result(sid=sid, notes=notes, seconds=0.25)
    return Result(failure=failure(code), notes=notes, seconds=0.5)


def failure(code: ExitCode) -> IscsiBootError:
    """A failure as an engine makes it."""
    return IscsiBootError(
        "the target does not want us",
        stage=Stage.LOGIN,
        subject="10.0.0.1:3260",
        hint="ask it why",
        exit_code=code,
    )


def pair(name: str, address: str = "10.0.0.1", **values: str) -> tuple[NodeKey, Record]:
    """A record of target ``name``; keys with ``__`` for ``.``."""
    key = NodeKey(TARGET + name, address, PORT, 1, values.pop("iface", "default"))
    named = {item.replace("__", "."): value for item, value in values.items()}
    base = {
        "node.name": key.target,
        "node.conn[0].address": address,
        "node.conn[0].port": str(PORT),
        "node.tpgt": "1",
        "iface.iscsi_ifacename": key.iface,
    }
    return key, node_defaults().changed({**base, **named})
