# SPDX-License-Identifier: LGPL-2.1-or-later
"""One virtual machine: what it is (:class:`MachineSpec`), its QEMU command line (pure), its life (:class:`Machine`).

Console, verdict port and QMP are stream sockets the harness listens on *before* QEMU starts, so QEMU connects to them
and nothing has to be waited for with polling; nothing a guest says early can be lost either.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.console import LineSplitter
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.process import Process
from tests.qemu.harness.qmp import Qmp, QmpError

VERDICT_PORT = "iscsiboot.verdict"
"""The virtio-serial port's name; in the guest ``/dev/virtio-ports/iscsiboot.verdict``."""
DEFAULT_MAC = "52:54:00:69:73:63"
CONNECT_SECONDS = 20.0
ONE, TWO = 1, 2
"""Processors of a machine. One is what the short tests have: two machines, or a machine and the other tests, share this
host's two. A boot that takes 38 s of them alone with two processors and 51 s with one takes 72 s and 46 s beside
another. And a machine with two was seen to stand still for ever in QEMU 7.2's emulation, each waiting for the other
(``soft lockup - CPU#0 stuck``, then CPU#1). Long tests and benchmarks have two, as the machines of people have.
"""
_SOCKETS = ("console", "verdict", "qmp")


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineSpec:
    """A machine in the terms of the tests; :func:`command_line` puts it into QEMU's."""

    accel: tuple[str, ...]
    """QEMU's options for the processor, from :func:`.kvm.accelerator`."""
    processors: int = ONE
    memory_mib: int = 1024
    mac: str = DEFAULT_MAC
    kernel: Path | None = None
    """None leaves loading to the firmware."""
    initrd: Path | None = None
    append: tuple[str, ...] = ()
    """Kernel arguments; only with ``kernel``."""
    acpi_table: Path | None = None
    """An ACPI table handed to the guest. QEMU rewrites its checksum."""
    low_memory: tuple[Path, int] | None = None
    """A file put at a physical address before the machine starts, as it is."""
    tftp: tuple[Path, str] | None = None
    """Directory and boot file of the user network's TFTP server; the NIC's firmware boots from it."""
    forward: tuple[int, int] | None = None
    """A port of the host's loopback and the guest's port that connections to it reach."""
    disk: Path | None = None
    """A local virtio disk, thrown-away writes; the tests of the harness itself boot from it."""


def command_line(spec: MachineSpec, runtime: Path, log: Path) -> list[str]:
    """QEMU's arguments. ``runtime`` holds the listening sockets, ``log`` takes the whole serial console."""
    # graphics=off makes SeaBIOS, and through it iPXE, talk on the serial line.
    argv = ["qemu-system-x86_64", "-machine", "pc,graphics=off", *spec.accel]
    argv += ["-smp", str(spec.processors), "-m", str(spec.memory_mib)]
    argv += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    argv += ["-chardev", f"socket,id=console,path={_escape(runtime / 'console')},logfile={_escape(log)}"]
    argv += ["-serial", "chardev:console"]
    argv += ["-chardev", f"socket,id=qmp,path={_escape(runtime / 'qmp')}", "-mon", "chardev=qmp,mode=control"]
    argv += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=verdict,path={_escape(runtime / 'verdict')}"]
    argv += ["-device", f"virtserialport,chardev=verdict,name={VERDICT_PORT}"]
    argv += ["-device", "virtio-rng-pci"]
    netdev = "user,id=net0"
    if spec.tftp is not None:
        netdev += f",tftp={_escape(spec.tftp[0])},bootfile={spec.tftp[1]}"
        argv += ["-boot", "n"]
    if spec.forward is not None:
        netdev += f",hostfwd=tcp:127.0.0.1:{spec.forward[0]}-:{spec.forward[1]}"
    argv += ["-netdev", netdev, "-device", _nic(spec)]
    if spec.kernel is not None:
        argv += ["-kernel", str(spec.kernel), "-append", " ".join(spec.append)]
    if spec.initrd is not None:
        argv += ["-initrd", str(spec.initrd)]
    if spec.acpi_table is not None:
        argv += ["-acpitable", f"file={_escape(spec.acpi_table)}"]
    if spec.low_memory is not None:
        path, address = spec.low_memory
        argv += ["-device", f"loader,file={_escape(path)},addr={address:#x},force-raw=on"]
    if spec.disk is not None:
        argv += ["-drive", f"file={_escape(spec.disk)},format=raw,if=virtio,snapshot=on"]
    return argv


def _nic(spec: MachineSpec) -> str:
    # The boot ROM costs seconds under emulation, so only machines that boot from the network get it.
    rom = "" if spec.tftp is not None else ",romfile="
    return f"virtio-net-pci,netdev=net0,mac={spec.mac}{rom}"


def _escape(path: Path) -> str:
    """A path inside a QEMU option list, where a comma is written twice."""
    return str(path).replace(",", ",,")


@dataclass(frozen=True, slots=True)
class ConsoleLine:
    """A complete line of the serial console, ``at`` seconds after power-on."""

    text: str
    at: float


@dataclass(frozen=True, slots=True)
class VerdictBytes:
    """Bytes the guest wrote to the verdict port, ``at`` seconds after power-on."""

    data: bytes
    at: float


@dataclass(frozen=True, slots=True)
class ConsoleBytes:
    """The same console, raw: for a person who watches or types."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """QEMU is gone."""

    status: int
    at: float


Event = ConsoleLine | ConsoleBytes | VerdictBytes | Ended


class Machine:
    """A running machine for the time of a ``with`` block; :meth:`events` tells what it does."""

    def __init__(self, spec: MachineSpec, *, runtime: Path, log: Path) -> None:
        self._spec = spec
        self._runtime = runtime
        self._log = log
        self._stack = ExitStack()
        self._peers: dict[str, socket.socket] = {}
        self._process = Process(command_line(spec, runtime, log), log=runtime / "qemu.log")
        self.lines = LineSplitter()
        self._selector = selectors.DefaultSelector()
        self._power_on = 0.0

    def __enter__(self) -> Machine:
        with ExitStack() as stack:
            stack.enter_context(self._selector)
            listeners = {name: stack.enter_context(_listen(self._runtime / name)) for name in _SOCKETS}
            stack.enter_context(self._process)
            self._power_on = time.monotonic()
            self._ended = os.pidfd_open(self._process.child.pid)
            stack.callback(os.close, self._ended)
            deadline = Deadline.after(CONNECT_SECONDS, now=self._power_on, reason="QEMU to connect its channels")
            for name, listener in listeners.items():
                self._peers[name] = stack.enter_context(self._accept(listener, deadline))
            self.qmp = Qmp(self._peers["qmp"], time.monotonic)
            self._greet(deadline)
            self._selector.register(self._peers["console"], selectors.EVENT_READ)
            self._selector.register(self._peers["verdict"], selectors.EVENT_READ)
            self._selector.register(self._ended, selectors.EVENT_READ)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _greet(self, deadline: Deadline) -> None:
        try:
            self.qmp.greet(deadline)
        except QmpError as error:
            raise HarnessError(f"QEMU: {error}: {self._process.output().strip()}") from error

    def _accept(self, listener: socket.socket, deadline: Deadline) -> socket.socket:
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._ended, selectors.EVENT_READ)
            ready = {key.fd for key, _ in selector.select(deadline.remaining(time.monotonic()))}
        if listener.fileno() not in ready:
            said = self._process.output().strip() or "it says nothing"
            raise HarnessError(f"QEMU does not start: {said}")
        return listener.accept()[0]

    @property
    def age(self) -> float:
        """Seconds since power-on."""
        return time.monotonic() - self._power_on

    def type(self, data: bytes) -> None:
        """Bytes into the serial console, as if typed."""
        self._peers["console"].sendall(data)

    def answer(self, data: bytes) -> None:
        """Bytes into the verdict port, for an agent in the guest that asks."""
        self._peers["verdict"].sendall(data)

    def watch(self, fd: int) -> None:
        """Wake :meth:`events` up (with no event) when ``fd`` becomes readable: a person's keyboard."""
        self._selector.register(fd, selectors.EVENT_READ)

    def events(self, deadline: Deadline) -> Iterator[Event | int]:
        """What happens until QEMU ends or the deadline passes; a plain int is a watched descriptor become readable.

        All output is delivered before :class:`Ended`, which is always the last event. Passing the deadline just ends
        the iteration: what that means is the caller's to say.
        """
        while not deadline.passed(time.monotonic()):
            ready = {key.fd for key, _ in self._selector.select(deadline.remaining(time.monotonic()))}
            ended = self._ended in ready
            for name in ("console", "verdict"):
                if ended or self._peers[name].fileno() in ready:
                    yield from self._read(name, drain=ended)
            if ended:
                yield Ended(self._process.child.wait(), self.age)
                return
            yield from ready - {self._peers[name].fileno() for name in ("console", "verdict")}

    def _read(self, name: str, *, drain: bool) -> Iterator[Event]:
        peer = self._peers[name]
        while True:
            try:
                data = peer.recv(65536, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionResetError):
                return
            if not data:
                if not drain and peer in {key.fileobj for key in self._selector.get_map().values()}:
                    self._selector.unregister(peer)
                return
            if name == "verdict":
                yield VerdictBytes(data, self.age)
            else:
                yield ConsoleBytes(data)
                for line in self.lines.feed(data):
                    yield ConsoleLine(line, self.age)
            if not drain:
                return


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(str(path))
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise HarnessError(f"{path}: cannot listen: {error.strerror}") from error
    return listener
