# SPDX-License-Identifier: LGPL-2.1-or-later
"""LIO, the kernel's own target, in a guest: the host has no modules, so a small machine of Debian's kernel serves it.

The guest is a kernel and an initramfs of busybox, the modules LIO needs, and two scripts: tests/qemu/guest/lio-init.sh
and the targets as mkdir, printf and ln in configfs, which is LIO's own interface. It takes about four seconds emulated.
QEMU's user network shows the guest's port 3260 as a port of the host's loopback. All targets of a guest have the same
disk in memory. "Ready" is a line on the console with the run's nonce.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from types import TracebackType

from iscsiboot.model.deadline import Deadline
from tests.doubles.peers import LOOPBACK, TargetSpec, free_port, runtime_directory
from tests.qemu.harness.disk import one
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.machine import ConsoleLine, Ended, Machine, MachineSpec
from tests.qemu.harness.run import Laboratory

GUEST_PORT = 3260
GUEST_ADDRESS = "10.0.2.15"
"""What LIO calls itself in an answer to SendTargets; from the host it is reached only through the forwarded port."""
DISK_LUN = 0
DISK_MIB = 32
READY_SECONDS = 120.0
"""About four on a quiet machine."""
BUSYBOX = Path("/bin/busybox")
MODULES = ("virtio_pci", "virtio_net", "crc32c_generic", "sha3_generic", "target_core_mod", "iscsi_target_mod")
"""Digests and CHAP algorithms are modules of their own, which LIO would ask modprobe for."""
_GUEST = Path(__file__).resolve().parent.parent / "guest"


def module_order(dependencies: str, wanted: Iterable[str]) -> list[str]:
    """Paths of modules such that each comes after what it needs. ``dependencies`` is modules.dep(5).

    ``wanted`` names modules as lsmod does. HarnessError when one is not there.
    """
    needs = {path: rest.split() for path, _, rest in (line.partition(":") for line in dependencies.splitlines())}
    by_name = {PurePosixPath(path).name.partition(".")[0].replace("-", "_"): path for path in needs}
    order: dict[str, None] = {}

    def add(path: str) -> None:
        for need in needs[path]:
            add(need)
        order[path] = None

    for name in wanted:
        if name not in by_name:
            raise HarnessError(f"the guest's kernel has no module {name}")
        add(by_name[name])
    return list(order)


def target_script(specs: Sequence[TargetSpec]) -> str:
    """Shell commands, to be run with ``-eu``, that make one disk in memory and the targets on it.

    One name is one user with one secret in a test, but LIO keeps accounts with each target, so it does not care.
    """
    disk = "core/rd_mcp_0/disk"
    lines = [
        "cd /sys/kernel/config/target",
        f"mkdir -p {disk} iscsi",
        f"echo rd_pages={(DISK_MIB << 20) // 4096} >{disk}/control",
        f"echo 1 >{disk}/enable",
    ]
    for spec in specs:
        group = f"iscsi/{spec.name}/tpgt_1"
        lines.append(f"mkdir -p {shlex.quote(group)}")
        for lun in (DISK_LUN,) if spec.luns is None else spec.luns:
            lines.append(f"mkdir {shlex.quote(f'{group}/lun/lun_{lun}')}")
            lines.append(f'ln -s "$PWD/{disk}" {shlex.quote(f"{group}/lun/lun_{lun}/disk")}')
        lines.append(f"mkdir {shlex.quote(f'{group}/np/0.0.0.0:{GUEST_PORT}')}")
        # Not echo: LIO takes the newline into user names and secrets.
        lines += [f"printf %s {shlex.quote(text)} >{shlex.quote(f'{group}/{file}')}" for file, text in _settings(spec)]
        lines.append(f"echo 1 >{shlex.quote(f'{group}/enable')}")
    return "\n".join(lines) + "\n"


def _settings(spec: TargetSpec) -> list[tuple[str, str]]:
    # Any initiator may log in and write: who it is must be decided by CHAP alone, as with the other peers.
    attributes: Mapping[str, str] = {
        "authentication": "0" if spec.chap is None else "1",
        "generate_node_acls": "1",
        "demo_mode_write_protect": "0",
    }
    found = [(f"attrib/{name}", text) for name, text in attributes.items()]
    for chap, suffix in ((spec.chap, ""), (spec.mutual, "_mutual")):
        if chap is not None:
            found.append((f"auth/userid{suffix}", chap.name))
            found.append((f"auth/password{suffix}", chap.secret.reveal().decode()))
    for key, text in spec.keys.items():
        found.append((f"param/{key}", text))
        if key == "MaxRecvDataSegmentLength":
            # Also what it declares: its own MaxRecvDataSegmentLength never reaches the wire.
            found.append(("param/MaxXmitDataSegmentLength", text))
    return found


def lay_out(root: Path, tree: Path, specs: Sequence[TargetSpec], nonce: str) -> None:
    """The guest's file system below ``root``, from the Debian tree ``tree``."""
    if not BUSYBOX.exists():
        raise HarnessError("busybox is not installed (package busybox-static): sh tools/setup.sh check")
    modules = next(iter(sorted((tree / "lib/modules").iterdir())))
    for name in ("bin", "dev", "modules", "proc", "sys"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    shutil.copy(_GUEST / "lio-init.sh", root / "init")
    order = module_order((modules / "modules.dep").read_text(), MODULES)
    for path in order:
        shutil.copy(modules / path, root / "modules")
    (root / "modules/order").write_text("".join(f"{PurePosixPath(path).name}\n" for path in order))
    (root / "targets.sh").write_text(target_script(specs))
    (root / "nonce").write_text(nonce)


def pack(root: Path, image: Path) -> None:
    """The directory as an initramfs, uncompressed: the emulated processor would unpack it slower than QEMU copies."""
    names = "".join(f"{path.relative_to(root)}\0" for path in sorted(root.rglob("*")))
    argv = ["cpio", "--null", "--create", "--format=newc", "--quiet", "--owner=0:0"]
    with image.open("wb") as output:
        done = subprocess.run(argv, input=names.encode(), stdout=output, stderr=subprocess.PIPE, cwd=root, check=False)
    if done.returncode:
        raise HarnessError(f"cpio: {done.stderr.decode(errors='replace').strip()}")


class Lio:
    """The guest with these targets for the time of a ``with`` block."""

    def __init__(self, *specs: TargetSpec, laboratory: Laboratory) -> None:
        self._specs = specs
        self._laboratory = laboratory
        self._stack = ExitStack()
        self.address = LOOPBACK
        self.port = 0
        self.lun = DISK_LUN
        self.log = laboratory.log_path("lio")
        """The whole console, where LIO says why it refuses somebody."""

    def __enter__(self) -> Lio:
        tree = self._laboratory.builder.tree()
        nonce = secrets.token_hex(16)
        with ExitStack() as stack:
            runtime = runtime_directory(stack)
            lay_out(runtime / "root", tree, self._specs, nonce)
            pack(runtime / "root", runtime / "initramfs")
            self.port = free_port()
            spec = MachineSpec(
                accel=accelerator(self._laboratory.cache.root, runtime),
                memory_mib=512,
                kernel=one(tree / "boot", "vmlinuz-*"),
                initrd=runtime / "initramfs",
                append=("console=ttyS0,115200", "loglevel=4", "edd=off", "panic=-1"),
                forward=(self.port, GUEST_PORT),
            )
            machine = stack.enter_context(Machine(spec, runtime=runtime, log=self.log))
            self._await_ready(machine, nonce)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _await_ready(self, machine: Machine, nonce: str) -> None:
        deadline = Deadline.after(READY_SECONDS, now=time.monotonic(), reason="LIO to be ready")
        for event in machine.events(deadline):
            if isinstance(event, ConsoleLine):
                if event.text.strip() == f"lio: ready {nonce}":
                    return
                if event.text.startswith(f"lio: failed {nonce}"):
                    raise HarnessError(f"LIO: {event.text.strip()}, see {self.log}")
            elif isinstance(event, Ended):
                raise HarnessError(f"LIO: QEMU ended (status {event.status}), see {self.log}")
        raise HarnessError(f"waited {READY_SECONDS:.0f} s for {deadline.reason}, see {self.log}")
