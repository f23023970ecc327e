# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of a machine, argument by argument, and a machine's life with a stand-in for QEMU."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.machine import (
    TWO,
    ConsoleLine,
    Ended,
    Machine,
    MachineSpec,
    VerdictBytes,
    command_line,
)

SPEC = MachineSpec(accel=("-accel", "tcg"))
RUNTIME, LOG = Path("/r"), Path("/l/x.console")


def option(argv: list[str], name: str) -> list[str]:
    """The values of every ``name``."""
    return [argv[place + 1] for place, word in enumerate(argv) if word == name]


def test_the_least_machine() -> None:
    argv = command_line(SPEC, RUNTIME, LOG)
    assert argv[:2] == ["qemu-system-x86_64", "-machine"]
    assert option(argv, "-accel") == ["tcg"]
    assert option(argv, "-m") == ["1024"]
    assert option(argv, "-smp") == ["1"]
    assert option(argv, "-netdev") == ["user,id=net0"]
    assert "virtio-net-pci,netdev=net0,mac=52:54:00:69:73:63,romfile=" in option(argv, "-device")
    assert "-no-reboot" in argv
    assert "-nodefaults" in argv
    for absent in ("-kernel", "-append", "-initrd", "-acpitable", "-drive", "-boot"):
        assert absent not in argv


def test_a_machine_with_two_processors() -> None:
    assert option(command_line(replace(SPEC, processors=TWO), RUNTIME, LOG), "-smp") == ["2"]


def test_channels_connect_to_the_harness() -> None:
    argv = command_line(SPEC, RUNTIME, LOG)
    assert option(argv, "-chardev") == [
        "socket,id=console,path=/r/console,logfile=/l/x.console",
        "socket,id=qmp,path=/r/qmp",
        "socket,id=verdict,path=/r/verdict",
    ]
    assert "virtserialport,chardev=verdict,name=iscsiboot.verdict" in option(argv, "-device")


def test_kernel_and_table() -> None:
    spec = replace(SPEC, kernel=Path("/k"), initrd=Path("/i"), append=("a=1", "b"), acpi_table=Path("/t"))
    argv = command_line(spec, RUNTIME, LOG)
    assert option(argv, "-kernel") == ["/k"]
    assert option(argv, "-append") == ["a=1 b"]
    assert option(argv, "-initrd") == ["/i"]
    assert option(argv, "-acpitable") == ["file=/t"]


def test_low_memory_is_loaded_as_it_is() -> None:
    argv = command_line(replace(SPEC, low_memory=(Path("/t"), 0x90000)), RUNTIME, LOG)
    assert "loader,file=/t,addr=0x90000,force-raw=on" in option(argv, "-device")


def test_network_boot_keeps_the_rom() -> None:
    argv = command_line(replace(SPEC, tftp=(Path("/d"), "boot.ipxe")), RUNTIME, LOG)
    assert option(argv, "-netdev") == ["user,id=net0,tftp=/d,bootfile=boot.ipxe"]
    assert option(argv, "-boot") == ["n"]
    assert not any("romfile" in device for device in option(argv, "-device"))


def test_a_port_of_the_guest_is_shown_on_loopback_only() -> None:
    argv = command_line(replace(SPEC, forward=(33260, 3260)), RUNTIME, LOG)
    assert option(argv, "-netdev") == ["user,id=net0,hostfwd=tcp:127.0.0.1:33260-:3260"]


def test_a_comma_in_a_path_is_doubled() -> None:
    argv = command_line(replace(SPEC, disk=Path("/a,b")), Path("/r,r"), LOG)
    assert option(argv, "-drive") == ["file=/a,,b,format=raw,if=virtio,snapshot=on"]
    assert "socket,id=qmp,path=/r,,r/qmp" in option(argv, "-chardev")


STAND_IN = """#!/usr/bin/python3
import json, os, re, socket, sys, time
paths = dict(re.findall(r"socket,id=(\\w+),path=([^, ]+)", " ".join(sys.argv)))
ends = {}
for name in ("console", "verdict", "qmp"):
    ends[name] = socket.socket(socket.AF_UNIX)
    ends[name].connect(paths[name])
qmp = ends["qmp"].makefile("rwb", buffering=0)
qmp.write(b'{"QMP": {}}\\n')
qmp.write(json.dumps({"return": {}, "id": json.loads(qmp.readline())["id"]}).encode() + b"\\n")
"""


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ib-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def qemu(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of QEMU's name first in PATH; the test writes it."""
    programs = runtime / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    path = programs / "qemu-system-x86_64"
    path.touch()
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def within(seconds: float) -> Deadline:
    return Deadline.after(seconds, now=time.monotonic(), reason="the test")


def test_everything_said_before_the_end_is_delivered_in_front_of_it(runtime: Path, qemu: Path) -> None:
    qemu.write_text(
        STAND_IN + "ends['console'].sendall(b'one\\ntwo\\nthree')\nends['verdict'].sendall(b'{}')\nsys.exit(3)\n"
    )
    with Machine(SPEC, runtime=runtime, log=runtime / "log") as machine:
        events = list(machine.events(within(20)))
    assert [event.text for event in events if isinstance(event, ConsoleLine)] == ["one", "two"]
    assert machine.lines.partial == "three"
    assert [event.data for event in events if isinstance(event, VerdictBytes)] == [b"{}"]
    last = events[-1]
    assert isinstance(last, Ended)
    assert last.status == 3


def test_the_deadline_ends_a_silent_machine_and_leaving_the_block_ends_qemu(runtime: Path, qemu: Path) -> None:
    qemu.write_text(STAND_IN + "time.sleep(60)\n")
    with Machine(SPEC, runtime=runtime, log=runtime / "log") as machine:
        pid = machine._process.child.pid
        assert list(machine.events(within(0.2))) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_channel_closed_early_does_not_spin(runtime: Path, qemu: Path) -> None:
    qemu.write_text(STAND_IN + "ends['verdict'].close()\ntime.sleep(60)\n")
    with Machine(SPEC, runtime=runtime, log=runtime / "log") as machine:
        before = time.process_time()
        assert list(machine.events(within(0.5))) == []
        assert time.process_time() - before < 0.3


def test_typing_reaches_the_console(runtime: Path, qemu: Path) -> None:
    qemu.write_text(STAND_IN + "ends['console'].sendall(b'got ' + ends['console'].recv(100))\n")
    with Machine(SPEC, runtime=runtime, log=runtime / "log") as machine:
        machine.type(b"hello\n")
        events = list(machine.events(within(20)))
    assert [event.text for event in events if isinstance(event, ConsoleLine)] == ["got hello"]


def test_qemu_that_does_not_start_says_why(runtime: Path, qemu: Path) -> None:
    qemu.write_text("#!/bin/sh\necho 'no such device' >&2\nexit 1\n")
    with pytest.raises(HarnessError, match="no such device"), Machine(SPEC, runtime=runtime, log=runtime / "log"):
        pass


def test_an_exception_inside_ends_qemu(runtime: Path, qemu: Path) -> None:
    qemu.write_text(STAND_IN + "time.sleep(60)\n")
    seen: list[int] = []

    def interrupted() -> None:
        with Machine(SPEC, runtime=runtime, log=runtime / "log") as machine:
            seen.append(machine._process.child.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)
