# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sections of the script that make no session, played on this machine: seconds instead of minutes in emulation.

Both programs run in namespaces of their own (mounts, network, processes) with the guest's targets, the guest's
configuration on the same file system, and a /sys that shows an iSCSI transport and no session. In place of the peer's
daemon, which does not start without such a kernel, stands :mod:`tests.doubles.peer_iscsid`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.doubles.sysfs_tree import SysfsTree
from tests.interop.peer_admin import Program
from tests.qemu.admin.guest import CONTROL, INITIATOR, OURS, PEER, Transcript, database_image, read
from tests.qemu.admin.steps import NATIVE, Step
from tests.qemu.harness.errors import CHECKOUT, HarnessError

EVERYTHING = "ISCSIBOOT_CHECK_ALL"
"""Set in the environment, the whole script is played in the guest (``make check-all``)."""
SECONDS = 300.0
NONCE = "native"
SAID, SAYS = b"No active sessions.", b"No active sessionz."
"""The control's one wrong word."""


def play_natively(script: str, peer: Program, ours: Program) -> dict[str, Transcript]:
    """The transcripts of :data:`.steps.NATIVE` by round: the peer, ours, and the control. HarnessError without them."""
    with tempfile.TemporaryDirectory(prefix="iscsiadm-", dir="/tmp") as name:
        work = Path(name)
        (work / "script.txt").write_text(script)
        database_image(work / "database.img")
        (work / "start").mkdir()
        shutil.copy(peer.directory.parent / "etc/iscsi/iscsid.conf", work / "start")
        (work / "start/initiatorname.iscsi").write_text(f"InitiatorName={INITIATOR}\n")
        SysfsTree(work / "sys").add_transport("tcp")
        programs = {PEER: peer, OURS: ours, CONTROL: control(peer, work / "control")}
        request = {
            "work": str(work),
            "nonce": NONCE,
            "programs": {name: _described(program) for name, program in programs.items()},
        }
        return read(_run(json.dumps(request)), NONCE)


def sections_of_the_guest(steps: Sequence[Step]) -> list[str]:
    """The titles that are left, in the script's order."""
    return list(dict.fromkeys(step.section for step in steps if step.section not in NATIVE))


def joined(natively: Mapping[str, Transcript], in_guest: Mapping[str, Transcript]) -> dict[str, Transcript]:
    """Both parts of the script as one transcript for each round."""
    return {name: {**natively[name], **in_guest.get(name, {})} for name in natively}


def control(peer: Program, directory: Path) -> Program:
    """The peer's own binary with one word altered: what a comparison has to find."""
    directory.mkdir()
    altered = directory / "iscsiadm"
    binary = (peer.directory / "iscsiadm").read_bytes()
    if SAID not in binary:
        raise HarnessError("the peer's program does not hold the control's word")
    altered.write_bytes(binary.replace(SAID, SAYS))
    altered.chmod(0o755)
    return Program(name=CONTROL, directory=directory, environment=peer.environment)


def _described(program: Program) -> Mapping[str, object]:
    return {"directory": str(program.directory), "environment": dict(program.environment)}


def _run(request: str) -> bytes:
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "setpriv"]
    command += ["--bounding-set", "-sys_module", "--inh-caps", "-sys_module"]
    command += [sys.executable, "-m", "tests.qemu.admin.native_child"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        command, input=request.encode(), capture_output=True, check=False, env=environment, timeout=SECONDS
    )
    if done.returncode:
        raise HarnessError(f"the sections could not be played here: {done.stderr.decode(errors='replace')[-800:]}")
    return done.stdout
