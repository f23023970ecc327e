# SPDX-License-Identifier: LGPL-2.1-or-later
"""One boot from power-on to its verdict: :func:`boot` puts the parts together for a case.

Everything a boot needs lives in one ExitStack (a directory, a copy of the disk, the target, the machine), so whatever
ends it, an exception or Ctrl-C, all of it is gone afterwards but the console log.
"""

from __future__ import annotations

import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.deadline import Deadline
from tests.doubles.tgt import DISK_LUN, TargetSpec, Tgtd, free_port
from tests.qemu.harness import console
from tests.qemu.harness.cable import Cable
from tests.qemu.harness.cache import Cache, prune_files
from tests.qemu.harness.cases import ATTACH_SECONDS, INITIATOR, TARGET, BootCase, Fault
from tests.qemu.harness.disk import LABEL, BootFiles, DiskBuilder
from tests.qemu.harness.errors import BootFailed, Evidence, HarnessError
from tests.qemu.harness.firmware import HOST_ADDRESS, NOBODY_ADDRESS, FirmwareSpec, with_firmware
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.machine import (
    DEFAULT_MAC,
    ONE,
    ConsoleLine,
    Ended,
    Event,
    Machine,
    MachineSpec,
    VerdictBytes,
)
from tests.qemu.harness.process import Tell
from tests.qemu.harness.verdict import BadVerdict, Expected, Verdict, VerdictReader, objections

LOGS_KEPT = 60
POWEROFF_SECONDS = 60.0
ABSENT_MAC = "52:54:00:00:ab:5e"
ABSENT_LUN = 7

Observer = Callable[[Machine, Event | int], None]
"""Sees everything a running machine does, in order."""


def no_observer(machine: Machine, event: Event | int) -> None:
    """Looks away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BootResult:
    """A boot that reached its verdict."""

    verdict: Verdict
    log: Path
    lines: tuple[ConsoleLine, ...]
    powered_off: bool
    """The machine ended by itself after the verdict, in time."""
    seconds: float
    """Power-on to QEMU's end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Laboratory:
    """What all boots of a run share."""

    cache: Cache
    builder: DiskBuilder
    tell: Tell

    @classmethod
    def at(cls, root: Path, tell: Tell) -> Laboratory:
        """The laboratory with its cache at ``root``."""
        cache = Cache(root, tell)
        return cls(cache=cache, builder=DiskBuilder(cache, tell=tell), tell=tell)

    def log_path(self, name: str) -> Path:
        """A new console log; old ones beyond the newest :data:`LOGS_KEPT` go."""
        logs = self.cache.root / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        prune_files(logs, keep=LOGS_KEPT)
        return logs / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}.console"


def common_arguments(nonce: str) -> tuple[str, ...]:
    """What every machine's kernel gets."""
    arguments = (
        f"root=LABEL={LABEL}",
        "rw",
        "console=ttyS0,115200",
        "loglevel=4",
        "edd=off",
        f"iscsiboot.nonce={nonce}",
    )
    # Whatever fails ends the machine: panic=-1 with QEMU's -no-reboot, and dracut's emergency action.
    return (*arguments, "panic=-1", "rd.shell=0", "rd.emergency=poweroff", "systemd.show_status=1")


def kernel_arguments(case: BootCase, *, nonce: str, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The machine's kernel command line."""
    arguments = [*common_arguments(nonce)]
    if case.fault is not None:
        arguments.append(f"rd.iscsiboot.timeout={ATTACH_SECONDS}")
    return (*arguments, *extra)


def firmware_spec(case: BootCase, port: int) -> FirmwareSpec:
    """What the table says in this case, the fault of a control included."""
    fault = case.fault
    return FirmwareSpec(
        initiator=INITIATOR,
        target=f"{TARGET}-wrong" if fault is Fault.WRONG_NAME else TARGET,
        address=NOBODY_ADDRESS if fault is Fault.TARGET_OFF else HOST_ADDRESS,
        port=free_port() if fault is Fault.PORT_CLOSED else port,
        lun=ABSENT_LUN if fault is Fault.LUN_ABSENT else DISK_LUN,
        mac=ABSENT_MAC if fault is Fault.NIC_ABSENT else DEFAULT_MAC,
        dhcp=case.dhcp,
        credentials=case.credentials,
        checksum_ok=fault is not Fault.BAD_CHECKSUM,
    )


def target_credentials(case: BootCase) -> Credentials | None:
    """What the target knows: the case's credentials, or others where the case is about wrong ones."""
    known = case.credentials
    if known is None:
        return None
    if case.fault is Fault.WRONG_SECRET:
        return Credentials(outgoing=Chap(name=known.outgoing.name, secret=Secret(b"another-secret-17")))
    if case.fault is Fault.WRONG_MUTUAL_SECRET and known.incoming is not None:
        liar = Chap(name=known.incoming.name, secret=Secret(b"not-its-secret-1"))
        return Credentials(outgoing=known.outgoing, incoming=liar)
    return known


def boot(
    case: BootCase,
    laboratory: Laboratory,
    *,
    extra: Sequence[str] = (),
    observer: Observer = no_observer,
    visit: Callable[[Machine], None] | None = None,
    files: BootFiles | None = None,
    cable: Callable[[Cable], None] | None = None,
    disk: Callable[[Path], None] | None = None,
    processors: int = ONE,
) -> BootResult:
    """Boot ``case`` and return its verdict; :class:`.BootFailed` when there is none or it is not the wanted one.

    ``extra`` are more kernel arguments; ``iscsiboot.stay`` among them keeps the machine up after its verdict, and
    ``visit`` is called with it then. ``files`` are booted instead of those the case's variant has. With ``cable`` the
    target is reached through a :class:`.Cable`, which is handed to it before the machine starts. ``disk`` is handed the
    copy of the root disk that this boot has, before the target has it.
    """
    files = files or laboratory.builder.files(case.variant)
    log = laboratory.log_path(case.name)
    nonce = secrets.token_hex(16)
    with ExitStack() as stack:
        # A short path: a Unix socket's may have 107 bytes.
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iscsiboot-", dir="/tmp")))
        scratch = stack.enter_context(laboratory.cache.scratch())
        known = target_credentials(case)
        copy = copy_disk(files.disk, scratch / "disk.img")
        if disk is not None:
            disk(copy)
        target_spec = TargetSpec(
            name=TARGET,
            disk=copy,
            chap=known.outgoing if known else None,
            mutual=known.incoming if known else None,
        )
        target = stack.enter_context(Tgtd(target_spec, runtime=runtime))
        port = target.port
        if cable is not None:
            between = stack.enter_context(Cable(port))
            cable(between)
            port = between.port
        firmware = firmware_spec(case, port)
        spec = with_firmware(
            MachineSpec(accel=accelerator(laboratory.cache.root, runtime), processors=processors),
            case.lane,
            firmware,
            kernel=files.kernel,
            initramfs=files.initramfs,
            arguments=kernel_arguments(case, nonce=nonce, extra=extra),
            runtime=runtime,
        )
        expected = expectation(firmware, files, nonce)
        machine = stack.enter_context(Machine(spec, runtime=runtime, log=log))
        result = Watcher(case, machine, log, expected, observer).run()
        if visit is not None:
            visit(machine)
        return result


def expectation(firmware: FirmwareSpec, files: BootFiles, nonce: str) -> Expected:
    """The verdict the boot must give."""
    return Expected(
        nonce=nonce,
        disk_nonce=files.disk_nonce,
        target=firmware.target,
        address=str(firmware.address),
        port=firmware.port,
        lun=firmware.lun,
        initiator=firmware.initiator,
    )


def copy_disk(disk: Path, to: Path) -> Path:
    """A copy for one boot: shared blocks where the file system can, holes kept."""
    argv = ["cp", "--reflink=auto", "--sparse=always", str(disk), str(to)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HarnessError(f"the root disk cannot be copied: {done.stderr.strip()}")
    return to


class Watcher:
    """Follows a running machine to its verdict and its end."""

    def __init__(self, case: BootCase, machine: Machine, log: Path, expected: Expected, observer: Observer) -> None:
        self._case = case
        self._machine = machine
        self._log = log
        self._expected = expected
        self._observer = observer
        self._reader = VerdictReader()
        self._lines: list[ConsoleLine] = []
        self._verdict: Verdict | None = None

    def run(self) -> BootResult:
        """The result; :class:`.BootFailed` with the evidence otherwise."""
        deadline = Deadline.after(self._case.seconds, now=time.monotonic(), reason="a verdict")
        ended = self._follow(deadline, until_verdict=True)
        if self._verdict is None:
            why = f"QEMU ended (status {ended.status})" if ended else f"{self._case.seconds:.0f} s have passed"
            raise self.failed(f"no verdict: {why}")
        against = objections(self._verdict, self._expected)
        if against:
            raise self.failed("; ".join(against))
        if ended is None and "iscsiboot.stay" not in self._verdict.said["cmdline"].split():
            rest = Deadline.after(POWEROFF_SECONDS, now=time.monotonic(), reason="the machine to power off")
            ended = self._follow(rest, until_verdict=False)
        return BootResult(
            verdict=self._verdict,
            log=self._log,
            lines=tuple(self._lines),
            powered_off=ended is not None and ended.status == 0,
            seconds=self._machine.age,
        )

    def _follow(self, deadline: Deadline, *, until_verdict: bool) -> Ended | None:
        for event in self._machine.events(deadline):
            self._observer(self._machine, event)
            if isinstance(event, ConsoleLine):
                self._lines.append(event)
                if until_verdict and console.FATAL.search(event.text):
                    raise self.failed(f"the console says: {event.text.strip()}")
            elif isinstance(event, VerdictBytes):
                self._take(event)
                if until_verdict and self._verdict is not None:
                    return None
            elif isinstance(event, Ended):
                return event
        return None

    def _take(self, event: VerdictBytes) -> None:
        try:
            self._verdict = self._reader.feed(event.data, event.at) or self._verdict
        except BadVerdict as error:
            raise self.failed(str(error)) from error

    def failed(self, cause: str) -> BootFailed:
        """The failure with what is known of this boot."""
        return BootFailed(
            cause,
            Evidence(
                case=self._case.name,
                log=self._log,
                lines=tuple(line.text for line in self._lines),
                tail=self._machine.lines.last_lines(),
                seconds=self._machine.age,
                verdict=self._verdict is not None,
            ),
        )
