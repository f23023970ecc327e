# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records the sessions anew, at tgt, istgt and LIO: ``/usr/bin/python3 -m tests.vectors.session.record`` as root."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from tests.doubles.istgt import Istgt
from tests.doubles.peers import Peer, TargetSpec, account
from tests.doubles.tgt import Tgtd
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.disk import one
from tests.qemu.harness.lio import Lio
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory
from tests.vectors.session.replay import HERE, OWN, TARGET, USER, Player, Recording

SECONDS = 20.0
DISK_MIB = 32
CRC = {"HeaderDigest": "CRC32C,None", "DataDigest": "CRC32C,None"}

PLAN = {
    "none": ("none", "none", "normal"),
    "digests": ("none", "both", "normal"),
    "chap": ("chap", "none", "none"),
    "mutual": ("mutual", "none", "none"),
    "mutual-digests": ("mutual", "both", "normal"),
    "discovery": ("none", "none", "discovery"),
    "refused": ("refused", "none", "none"),
}
"""File name's end: authentication, digests, script."""


def version(package: str) -> str:
    """Of an installed Debian package."""
    argv = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def spec(auth: str, disk: Path | None, keys: dict[str, str]) -> TargetSpec:
    """The target of one recording."""
    return TargetSpec(
        name=f"{TARGET}-{auth}",
        disk=disk,
        chap=account(USER) if auth != "none" else None,
        mutual=account(OWN) if auth == "mutual" else None,
        keys=keys,
    )


AUTHS = ("none", "chap", "mutual")


def record(recording: Recording, port: int) -> None:
    """Hold the session and keep it."""
    player = Player(recording)
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as sock:
        while True:
            if data := player.send():
                recording.add(">", data)
                sock.sendall(data)
            if player.done:
                break
            received = sock.recv(1 << 20)
            if not received:
                raise RuntimeError(f"{recording.peer} closed the connection: {player.events}")
            recording.add("<", received)
            player.receive(received)
    recording.ends = player.failed or "success"


def peers(disk: Path) -> Iterator[tuple[str, str, Callable[[], AbstractContextManager[Peer]]]]:
    """File name's start, provenance, and how to run it."""
    laboratory = Laboratory.at(default_root(), tell_stderr)
    kernel = one(laboratory.builder.tree() / "boot", "vmlinuz-*").name.removeprefix("vmlinuz-")
    yield "tgt", f"tgt {version('tgt')} on loopback", lambda: Tgtd(*(spec(auth, disk, CRC) for auth in AUTHS))
    yield "istgt", f"istgt {version('istgt')} on loopback", lambda: Istgt(*(spec(auth, disk, {}) for auth in AUTHS))
    lio = [spec(auth, None, CRC) for auth in AUTHS]
    yield "lio", f"LIO of Debian's kernel {kernel} in QEMU", lambda: Lio(*lio, laboratory=laboratory)


def main() -> None:
    """Record every session of the plan at every peer."""
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name) / "disk"
        disk.write_bytes(bytes(DISK_MIB << 20))
        for start, peer, run in peers(disk):
            with run() as target:
                for end, (auth, digests, script) in PLAN.items():
                    asked = "chap" if auth == "refused" else auth
                    credentials = "none" if auth == "refused" else auth
                    recording = Recording(
                        peer=peer,
                        auth=credentials,
                        digests=digests,
                        script=script,
                        lun=target.lun,
                        target=f"{TARGET}-{asked}",
                    )
                    if start == "tgt":
                        # It misreads a list with SHA-256: tests/vectors/login has that.
                        recording = replace(recording, algorithms=recording.algorithms[-1:])
                    record(recording, target.port)
                    recording.save(HERE / f"{start}-{end}.txt")


if __name__ == "__main__":
    main()
