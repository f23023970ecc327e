# SPDX-License-Identifier: LGPL-2.1-or-later
"""open-iscsi's own lock: a hard link in ``/run/lock/iscsi`` that stays behind when its holder is killed.

We never take it, for ours is another (:mod:`iscsiboot.database.lock`); while it is left behind the peer's programs
wait half a minute for it and then fail, so ``db check`` looks.
"""

from __future__ import annotations

import os

from iscsiboot.database.failure import DatabaseError, failure
from iscsiboot.database.tree import Folder, open_root

LINK = "lock.write"
PROGRAMS = ("iscsiadm", "iscsid", "iscsistart")
_PROC_MAX = 1 << 20


def stale_lock(run: str, proc: str) -> str:
    """The path of the peer's lock when no running program can be holding it, "" when there is none or one may be.

    A holder is one of PROGRAMS that runs since before the link was made, which is when its inode last changed.
    """
    folder = open_root(f"{run}/lock/iscsi")
    if folder is None:
        return ""
    path = f"{folder.path}/{LINK}"
    with folder:
        try:
            made = os.stat(LINK, dir_fd=folder.fd, follow_symlinks=False).st_ctime
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise failure(error, path, "looking at open-iscsi's lock") from error
    return "" if _runs_since_before(made, proc) else path


def remove_lock(path: str) -> str:
    """Remove it; what was done, "" when it could not be."""
    folder = open_root(path.rpartition("/")[0])
    if folder is None:
        return ""
    with folder:
        try:
            os.unlink(LINK, dir_fd=folder.fd)
        except OSError:
            return ""
    return "removed"


def _runs_since_before(made: float, proc: str) -> bool:
    """Whether one of PROGRAMS was started before ``made``, in seconds since 1970."""
    place = open_root(proc)
    if place is None:
        return True
    with place:
        boot = _boot_time(place)
        tick = os.sysconf("SC_CLK_TCK")
        for entry in place.entries():
            if not entry.name.isdigit():
                continue
            started = _started(place, entry.name)
            # Both clocks are whole seconds or hundredths: in doubt it is held.
            if started is not None and boot + started / tick <= made + 1.0:
                return True
    return False


def _boot_time(place: Folder) -> float:
    """When the kernel started, in seconds since 1970; 0 when it does not say, and then every program is a holder."""
    for line in (place.read("stat", _PROC_MAX) or b"").split(b"\n"):
        if line.startswith(b"btime "):
            return float(line.split()[1])
    return 0.0


def _started(place: Folder, pid: str) -> int | None:
    """Ticks from boot to the start of a process, None when it is none of PROGRAMS or has ended."""
    try:
        folder = place.sub(pid)
        if folder is None:
            return None
        with folder:
            text = (folder.read("stat", _PROC_MAX) or b"").decode("ascii", "replace")
    except DatabaseError:
        return None
    # pid (name) state ...: the name may hold anything, so look from its last parenthesis. Start is field 22 (proc(5)).
    name, closed, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return int(fields[19]) if closed and name in PROGRAMS and len(fields) > 19 else None
