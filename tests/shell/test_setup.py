# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tools/setup.sh`` with stand-ins for the programs it asks: one clear line for each thing that is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools/setup.sh"
DEBIAN = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n'


@dataclass
class Machine:
    """The machine setup.sh believes to be on; ``run`` starts it there."""

    root: Path
    uid: int = 0
    os_release: str = DEBIAN
    architecture: str = "x86_64"
    memory_kib: int = 8 << 20
    disk_kib: int = 50 << 20
    installed: list[str] | None = None
    """None means every package."""
    apt_status: int = 0
    cached: bool = False
    calls: list[str] = field(default_factory=list)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        programs = self.root / "bin"
        programs.mkdir(exist_ok=True)
        log, policy = self.root / "calls", self.root / "policy-rc.d"
        installed = (
            ":" if self.installed is None else f'case " {" ".join(self.installed)} " in *" $4 "*) ;; *) exit 1;; esac'
        )
        apt_end = f"echo E: word; exit {self.apt_status}"
        scripts = {
            "id": f"echo {self.uid}",
            "uname": f"echo {self.architecture}",
            "df": f"printf 'head\\nfs 1 2 {self.disk_kib} 4%% /\\n'",
            "dpkg-query": f"{installed}; printf installed",
            "apt-get": f'echo "apt-get $*" >>{log}; test -x {policy} && echo policy >>{log}; {apt_end}',
        }
        for name, body in scripts.items():
            path = programs / name
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(0o755)
        (self.root / "os-release").write_text(self.os_release)
        (self.root / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {self.memory_kib} kB\n")
        if self.cached:
            (self.root / "cache/iscsiboot/base-1234").mkdir(parents=True, exist_ok=True)
        env = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "SETUP_OS_RELEASE": str(self.root / "os-release"),
            "SETUP_MEMINFO": str(self.root / "meminfo"),
            "SETUP_POLICY": str(policy),
        }
        done = subprocess.run(["sh", str(SCRIPT), *arguments], env=env, capture_output=True, text=True, check=False)
        self.calls = log.read_text().splitlines() if log.exists() else []
        assert not policy.exists(), "the file that keeps services from starting is removed whatever happens"
        return done


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("purpose", ["demo", "check"])
def test_a_ready_machine_is_silent_and_nothing_is_installed(machine: Machine, purpose: str) -> None:
    done = machine.run(purpose)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.calls == []


Change = Callable[[Machine], object]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: setattr(m, "uid", 1000), "this needs root"),
        (lambda m: setattr(m, "os_release", "ID=fedora\nVERSION_ID=40\n"), "needs Debian 12 (found: fedora 40)"),
        (lambda m: setattr(m, "os_release", 'ID=debian\nVERSION_ID="11"\n'), "needs Debian 12 (found: debian 11)"),
        (lambda m: setattr(m, "os_release", ""), "needs Debian 12 (found: unknown )"),
        (lambda m: setattr(m, "architecture", "aarch64"), "x86_64 machine (found: aarch64)"),
        (lambda m: setattr(m, "memory_kib", 1 << 20), "2048 MiB of free memory (available: 1024 MiB)"),
        (lambda m: setattr(m, "disk_kib", 4 << 20), "6144 MiB of free disk space"),
    ],
    ids=["user", "fedora", "debian 11", "no os-release", "arm", "memory", "disk"],
)
def test_one_line_says_what_is_needed(machine: Machine, change: Change, words: str) -> None:
    change(machine)
    done = machine.run("demo")
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert machine.calls == [], "nothing is installed on a machine that cannot run it"


def test_with_the_disk_in_the_cache_less_space_is_enough(machine: Machine) -> None:
    machine.disk_kib, machine.cached = 4 << 20, True
    assert machine.run("demo").returncode == 0
    machine.disk_kib = 2 << 20
    assert "2560 MiB" in machine.run("demo").stderr


def test_only_missing_packages_are_installed_and_no_service_starts(machine: Machine) -> None:
    ready = ["qemu-system-x86", "ipxe-qemu", "seabios", "e2fsprogs", "util-linux", "mount", "procps", "python3", "make"]
    machine.installed = [*ready, "python3-pyroute2", "python3-pyudev", "python3-pyelftools"]
    done = machine.run("demo")
    assert done.returncode == 0
    assert machine.calls == [
        "apt-get update",
        "policy",
        "apt-get install --yes --no-install-recommends mmdebstrap tgt",
        "policy",
    ]
    assert "installing packages: mmdebstrap tgt" in done.stderr


def test_check_needs_more_than_demo(machine: Machine) -> None:
    machine.installed = []
    machine.run("demo")
    demo = set(machine.calls[2].split())
    machine.run("check")
    check = set(machine.calls[-2].split())
    assert demo < check
    assert {"shellcheck", "dnsmasq-base", "tshark", "istgt", "busybox-static"} <= check - demo


def test_demo_brings_what_make_install_looks_for(machine: Machine) -> None:
    """programs/render.py refuses an interpreter without them; a machine with git and make only has none."""
    machine.installed = []
    machine.run("demo")
    assert {"python3-pyroute2", "python3-pyudev", "python3-pyelftools"} <= set(machine.calls[2].split())


def test_open_iscsi_is_never_installed(machine: Machine) -> None:
    machine.installed = []
    machine.run("check")
    assert "open-iscsi" not in " ".join(machine.calls)


def test_a_failing_apt_is_told_with_its_words(machine: Machine) -> None:
    machine.installed, machine.apt_status = [], 100
    done = machine.run("demo")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("iscsiboot: apt-get cannot install: qemu-system-x86")
    assert "E: word" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("other",)], ids=["none", "unknown"])
def test_usage(machine: Machine, arguments: tuple[str, ...]) -> None:
    done = machine.run(*arguments)
    assert (done.returncode, done.stderr) == (2, "usage: setup.sh demo|check\n")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("script", ["tools/setup.sh", "tests/qemu/harness/in-tree.sh"])
def test_shellcheck(script: str) -> None:
    done = subprocess.run(["shellcheck", SCRIPT.parents[1] / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
