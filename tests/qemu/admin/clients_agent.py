# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: real clients attach and detach disks through our iscsiadm. One JSON object a check on standard output.

The clients are strangers, so each check says what it saw; :mod:`tests.qemu.test_admin_clients` judges it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TARGET = "iqn.2026-01.org.example:one"
CHAP_TARGET = "iqn.2026-01.org.example:chap"
PORTALS = ("10.1.0.1:3260", "10.1.0.2:3260")
POOL_INITIATOR = "iqn.2026-01.org.example:pool"
SETTLE_SECONDS = 60.0
VIRSH = ("virsh", "-q", "-c", "storage:///system")

MULTIPATH_CONF = """\
defaults {
    find_multipaths no
    user_friendly_names yes
    path_selector "round-robin 0"
}
"""


def note(text: str) -> None:
    """A line for the console."""
    sys.stderr.write(f"guest: {text}\n")
    sys.stderr.flush()


def emit(record: dict[str, Any]) -> None:
    """A line for the host."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def output(*argv: str) -> str:
    """What a command says; CalledProcessError with its words when it fails."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def daemon(*argv: str) -> Iterator[None]:
    """A daemon in the foreground for the time of a ``with`` block; what it says goes to the console."""
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr) as child:
        try:
            yield
        finally:
            child.terminate()


def answers(*argv: str) -> str:
    """What a command of a daemon says once the daemon is ready; RuntimeError when it never is."""
    ends = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            return output(*argv)
        except RuntimeError:
            if time.monotonic() > ends:
                raise
        time.sleep(0.5)  # neither daemon tells a process that is not systemd when it is ready


def sessions() -> list[str]:
    """Target and portal of each session the kernel has."""
    found = []
    for session in sorted(Path("/sys/class/iscsi_session").glob("session*")):
        connection = Path("/sys/class/iscsi_connection", f"connection{session.name.removeprefix('session')}:0")
        address = (connection / "persistent_address").read_text().strip()
        found.append(f"{(session / 'targetname').read_text().strip()} {address}")
    return found


def records() -> list[str]:
    """The node records there are."""
    return sorted(str(path) for path in Path("/etc/iscsi/nodes").rglob("*") if path.is_file())


# -- os-brick ---------------------------------------------------------------------------------------------------------


def brick(multipath: bool) -> Any:
    """An os-brick connector that runs its privileged parts in this process: it is root."""
    # By name: only the guest has these packages.
    privileged = importlib.import_module("os_brick.privileged")
    connector = importlib.import_module("os_brick.initiator.connector")
    configuration = importlib.import_module("oslo_config.cfg").CONF
    configuration([], project="iscsiboot")
    importlib.import_module("oslo_concurrency.lockutils").set_defaults("/tmp/locks")
    importlib.import_module("os_brick").setup(configuration)
    for context in (privileged.default, privileged.brick_privsep_hide_output):
        context.set_client_mode(False)
    return connector.InitiatorConnector.factory("ISCSI", None, use_multipath=multipath, device_scan_attempts=5)


def attach(properties: dict[str, Any], *, multipath: bool) -> dict[str, Any]:
    """Connect a volume, look at everything, disconnect it."""
    there = brick(multipath)
    device = there.connect_volume(dict(properties))
    seen = {
        "device": device["path"],
        "real": os.path.realpath(device["path"]),
        "size": int(output("blockdev", "--getsize64", device["path"])),
        "sessions": sessions(),
        "records": records(),
        "disks": sorted(path.name for path in Path("/sys/block").glob("sd*")),
        "paths": [str(path) for path in there.get_volume_paths(dict(properties))],
    }
    there.disconnect_volume(dict(properties), device)
    return {**seen, "sessions after": sessions(), "records after": records()}


def os_brick_manual_scan() -> dict[str, Any]:
    """Whether os-brick believes that our iscsiadm can scan by hand: it greps the program for a word at import."""
    return {"manual scan": importlib.import_module("os_brick.initiator.utils").check_manual_scan()}


def os_brick_single() -> dict[str, Any]:
    """One path."""
    return attach({"target_portal": PORTALS[0], "target_iqn": TARGET, "target_lun": 1}, multipath=False)


def os_brick_chap() -> dict[str, Any]:
    """One path with CHAP."""
    properties = {
        "target_portal": PORTALS[0],
        "target_iqn": CHAP_TARGET,
        "target_lun": 1,
        "auth_method": "CHAP",
        "auth_username": "machine",
        "auth_password": "initiator-secret",
    }
    return attach(properties, multipath=False)


def os_brick_multipath() -> dict[str, Any]:
    """Two portals of one target, as one device of multipathd."""
    Path("/etc/multipath.conf").write_text(MULTIPATH_CONF)
    with daemon("multipathd", "-d", "-s"):
        answers("multipathd", "show", "status")
        properties = {
            "target_portals": list(PORTALS),
            "target_iqns": [TARGET] * len(PORTALS),
            "target_luns": [1] * len(PORTALS),
            "target_discovered": False,
        }
        return attach(properties, multipath=True)


# -- libvirt ----------------------------------------------------------------------------------------------------------


def virsh(*words: str) -> str:
    """A command of libvirt's shell against the daemon's storage driver."""
    return output(*VIRSH, *words)


def pool_xml(name: str, initiator: str = "") -> str:
    """A pool on the target; with ``initiator`` libvirt makes an interface of its own for it."""
    address, port = PORTALS[0].split(":")
    own = f"<initiator><iqn name='{initiator}'/></initiator>" if initiator else ""
    return (
        f"<pool type='iscsi'><name>{name}</name><source><host name='{address}' port='{port}'/>"
        f"<device path='{TARGET}'/>{own}</source><target><path>/dev/disk/by-path</path></target></pool>"
    )


def libvirt_pool(initiator: str = "") -> dict[str, Any]:
    """Find the targets, start a pool, list its volumes, refresh and stop it."""
    for name in ("log", "lib", "cache"):
        Path("/var", name, "libvirt").mkdir(parents=True, exist_ok=True)
    with daemon("libvirtd"):
        answers(*VIRSH, "uri")
        return pool_life(initiator)


def pool_life(initiator: str) -> dict[str, Any]:
    """What :func:`libvirt_pool` does when the daemon runs."""
    found = virsh("find-storage-pool-sources-as", "iscsi", *PORTALS[0].split(":"))
    xml = Path("/tmp/pool.xml")
    xml.write_text(pool_xml("disks", initiator))
    virsh("pool-create", str(xml))
    seen = {
        "found": found,
        "volumes": virsh("vol-list", "disks"),
        "sessions": sessions(),
        "names": sorted(
            {path.read_text().strip() for path in Path("/sys/class/iscsi_session").glob("*/initiatorname")}
        ),
        "interfaces": output("iscsiadm", "-m", "iface"),
    }
    virsh("pool-refresh", "disks")
    seen["refreshed"] = virsh("vol-list", "disks")
    virsh("pool-destroy", "disks")
    return {**seen, "sessions after": sessions()}


def libvirt_pool_initiator() -> dict[str, Any]:
    """The same with an initiator name of the pool's own."""
    return libvirt_pool(POOL_INITIATOR)


CHECKS: tuple[Callable[[], dict[str, Any]], ...] = (
    os_brick_manual_scan,
    os_brick_single,
    os_brick_chap,
    os_brick_multipath,
    libvirt_pool,
    libvirt_pool_initiator,
)


def main() -> int:
    """Every check, then the nonce."""
    for check in CHECKS:
        started = time.monotonic()
        note(f"{check.__name__}: starts")
        try:
            said: dict[str, Any] = check()
        except Exception as error:  # noqa: BLE001  # a stranger's code may raise anything, and that is the finding
            traceback.print_exc()
            said = {"failed": f"{type(error).__name__}: {error}"}
        spent = time.monotonic() - started
        note(f"{check.__name__}: {'failed' if 'failed' in said else 'done'} in {spent:.0f} s")
        emit({"check": check.__name__, "seconds": round(spent, 1), **said})
    emit({"end": Path("/harness/nonce").read_text()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
