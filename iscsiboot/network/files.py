# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two files a bring-up leaves: ``network.json`` for later takeover, ``resolv.conf`` for this boot.

``<run>/iscsiboot/network.json``, version 1, mode 0600, replaced atomically::

    {"version": 1, "nics": [{"mac": ..., "netdev": ..., "vlan": ..., "method": ..., "addresses": [...], "dns": [...],
                             "changed": ..., "lease": {...} or null, "error": text or null}]}

Who takes the network over (systemd-networkd, NetworkManager, ifupdown) learns from it what must be kept and which lease
must be renewed with which client id.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from iscsiboot.network.lease import DhcpLease
from iscsiboot.network.steps import WriteResolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
_STATE_MAX = 1 << 20


def state_path(run: Path) -> Path:
    """``<run>/iscsiboot/network.json``."""
    return run / "iscsiboot" / "network.json"


def write_state(run: Path, nics: Sequence[Mapping[str, Any]]) -> None:
    """Replace ``network.json``. OSError when the directory cannot be written."""
    import json

    path = state_path(run)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = json.dumps({"version": VERSION, "nics": list(nics)}, indent=1, ensure_ascii=True) + "\n"
    _replace(path, text.encode("ascii"), 0o600)


def read_leases(run: Path) -> dict[tuple[str, str], DhcpLease]:
    """Leases an earlier run of this boot wrote down, by device and address (``("eth0", "10.0.0.5")``).

    Empty when there is no file, or one that is damaged, foreign or of another version: a lease is a help, not a need.
    """
    import json

    try:
        with state_path(run).open("rb") as file:
            data = json.loads(file.read(_STATE_MAX))
    except (OSError, ValueError, RecursionError):
        return {}
    found: dict[tuple[str, str], DhcpLease] = {}
    if not isinstance(data, dict) or data.get("version") != VERSION or not isinstance(data.get("nics"), list):
        return found
    for nic in data["nics"]:
        try:
            lease = DhcpLease.from_json(nic["lease"])
            found[str(nic["netdev"]), str(lease.address.ip)] = lease
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return found


def resolver_state(etc: Path) -> tuple[bool, str]:
    """Whether ``resolv.conf`` may be written, and when not, why.

    It may when it is missing or an empty regular file. A symbolic link belongs to whoever manages its end
    (systemd-resolved, NetworkManager), also while that end does not exist yet: it is neither followed nor replaced.
    """
    path = etc / "resolv.conf"
    try:
        found = path.lstat()
    except FileNotFoundError:
        return True, ""
    except OSError as error:
        return False, os.strerror(error.errno or errno.EIO)
    if stat.S_ISLNK(found.st_mode):
        return False, "it is a symbolic link and belongs to the manager of its end"
    if not stat.S_ISREG(found.st_mode):
        return False, "it is no regular file"
    return found.st_size == 0, "" if found.st_size == 0 else "it has contents already"


def write_resolver(etc: Path, step: WriteResolver) -> None:
    """Write ``resolv.conf`` (resolv.conf(5)), mode 0644. OSError when ``etc`` cannot be written.

    The resolver reads three servers only; the rest follow as comments, for people.
    """
    lines = ["# Written by iscsiboot from firmware and DHCP"]
    lines += [f"nameserver {server}" for server in step.servers[:3]]
    lines += [f"# nameserver {server}" for server in step.servers[3:]]
    if step.search:
        lines.append("search " + " ".join(step.search))
    _replace(etc / "resolv.conf", ("\n".join(lines) + "\n").encode("ascii"), 0o644)


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Write a new file beside ``path`` and rename it over: a reader sees the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
