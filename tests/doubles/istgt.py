# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real target, istgt (Debian's package), run for one test from a configuration of its own.

istgt writes its pid file after it listens: inotify makes an event of that, so nobody has to try until it answers. (A
FIFO in the file's place would do without inotify, but istgt removes what is there first and insists on it.) The limits
of a session are one setting for the whole process (section ``Global``), so all targets of one :class:`Istgt` share
them. A target is ``LogicalUnitN`` in istgt's words, and its disk is LUN 0.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from iscsiboot.model.credentials import Chap
from tests.doubles.peers import LOOPBACK, TargetSpec, await_word, free_port, runtime_directory
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.process import Process

DISK_LUN = 0
ISTGT = shutil.which("istgt", path="/usr/sbin:/usr/bin:/sbin:/bin")

LIMITS = {
    "MaxOutstandingR2T": "1",
    "DefaultTime2Wait": "2",
    "DefaultTime2Retain": "0",
    "FirstBurstLength": "65536",
    "MaxBurstLength": "262144",
    "MaxRecvDataSegmentLength": "65536",
    "InitialR2T": "Yes",
    "ImmediateData": "Yes",
    "DataPDUInOrder": "Yes",
    "DataSequenceInOrder": "Yes",
    "ErrorRecoveryLevel": "0",
}
"""Keys of section ``Global`` where a test says nothing else. istgt refuses to start with InitialR2T No."""

_IN_CLOSE_WRITE = 8


class IstgtFailed(HarnessError):
    """istgt did not start; the message holds what it printed."""


def configuration(specs: Sequence[TargetSpec], *, portal: str, control: str, runtime: Path) -> str:
    """``istgt.conf`` for the targets. ValueError when they do not agree in keys, or one has no disk."""
    if any(spec.keys != specs[0].keys for spec in specs):
        raise ValueError("the targets of one istgt have the same keys")
    lines = [
        "[Global]",
        f"  PidFile {runtime / 'pid' / 'istgt.pid'}",
        f"  AuthFile {runtime / 'auth.conf'}",
        # NopInInterval 0 is refused; istgt's own pings would make captures depend on the time they take.
        *("  Timeout 60", "  NopInInterval 60", "  DiscoveryAuthMethod Auto", "  DiscoveryAuthGroup None"),
        *("  MaxSessions 64", "  MaxConnections 1", "  MaxR2T 16"),
        *(f"  {key} {text}" for key, text in {**LIMITS, **_limits(specs)}.items()),
        # istgt does not start without the port of istgtcontrol; nobody uses it here.
        *("[UnitControl]", "  AuthMethod Auto", "  AuthGroup None", f"  Portal UC1 {control}", "  Netmask ALL"),
        *("[PortalGroup1]", f"  Portal DA1 {portal}"),
        *("[InitiatorGroup1]", '  InitiatorName "ALL"', "  Netmask ALL"),
    ]
    for number, spec in enumerate(specs, 1):
        if spec.disk is None:
            raise ValueError(f"{spec.name} has no disk; istgt needs one")
        lines += [
            f"[LogicalUnit{number}]",
            f"  TargetName {spec.name}",
            "  Mapping PortalGroup1 InitiatorGroup1",
            f"  AuthMethod {'None' if spec.chap is None else 'CHAP Mutual' if spec.mutual else 'CHAP'}",
            f"  AuthGroup {f'AuthGroup{number}' if spec.chap else 'None'}",
            f"  UseDigest {spec.keys.get('UseDigest', 'Auto')}",
            "  UnitType Disk",
            *(f"  LUN{lun} Storage {spec.disk} {spec.disk.stat().st_size >> 20}MB" for lun in spec.luns or (DISK_LUN,)),
        ]
    return "\n".join(lines) + "\n"


def _limits(specs: Sequence[TargetSpec]) -> Mapping[str, str]:
    return {key: text for key, text in specs[0].keys.items() if key != "UseDigest"}


def accounts(specs: Sequence[TargetSpec]) -> str:
    """``auth.conf``: one group for each target that asks for CHAP."""
    lines: list[str] = []
    for number, spec in enumerate(specs, 1):
        pairs = [_quoted(chap) for chap in (spec.chap, spec.mutual) if chap is not None]
        if pairs:
            lines += [f"[AuthGroup{number}]", f"  Auth {' '.join(pairs)}"]
    return "\n".join(lines) + "\n"


def _quoted(chap: Chap) -> str:
    return f'"{chap.name}" "{chap.secret.reveal().decode()}"'


@contextmanager
def _written(directory: Path) -> Iterator[int]:
    """A descriptor that becomes readable when a file was written in ``directory`` and closed (inotify(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if watch < 0:
        raise IstgtFailed(f"inotify: {os.strerror(ctypes.get_errno())}")
    try:
        if libc.inotify_add_watch(watch, os.fsencode(directory), _IN_CLOSE_WRITE) < 0:
            raise IstgtFailed(f"inotify: {os.strerror(ctypes.get_errno())}")
        yield watch
    finally:
        os.close(watch)


class Istgt:
    """istgt with these targets; a context manager. The process dies by its own id, and with its parent."""

    def __init__(self, *specs: TargetSpec, port: int | None = None) -> None:
        self._specs = specs
        self._stack = ExitStack()
        self.address = LOOPBACK
        self.port = free_port() if port is None else port
        self.lun = DISK_LUN

    def __enter__(self) -> Istgt:
        if ISTGT is None:
            raise IstgtFailed("istgt is not installed (package istgt)")
        with ExitStack() as stack:
            runtime = runtime_directory(stack)
            portal, control = f"{self.address}:{self.port}", f"{LOOPBACK}:{free_port()}"
            text = configuration(self._specs, portal=portal, control=control, runtime=runtime)
            (runtime / "istgt.conf").write_text(text)
            (runtime / "auth.conf").write_text(accounts(self._specs))
            (runtime / "pid").mkdir()
            word = stack.enter_context(_written(runtime / "pid"))
            argv = [ISTGT, "-D", "-c", str(runtime / "istgt.conf")]
            process = stack.enter_context(Process(argv, log=runtime / "istgt.log", graceful=False))
            if not await_word(word, process.child.pid, reason="istgt to be ready"):
                status = process.child.wait()
                raise IstgtFailed(f"istgt ended with status {status}: {process.output().strip()}")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
