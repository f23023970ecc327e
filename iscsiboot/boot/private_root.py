# SPDX-License-Identifier: LGPL-2.1-or-later
"""A root directory of the keeper's own: what switch-root deletes, moves and unmounts is then somebody else's.

switch-root deletes every file of the initramfs and moves ``/proc``, ``/sys``, ``/dev``, ``/run`` into the new root: who
stays finds an empty directory where sysfs was. And a process that holds the old mounts, ``/sysroot`` with the root disk
among them, keeps shutdown from letting go of them. So the keeper goes into a mount namespace whose root is a small file
system in memory with its own proc and sysfs, the two devices it writes to, the folder it shares with the daemon, and
nothing else.

pivot_root(2) does that everywhere but where it is needed: it refuses while ``/`` is the kernel's rootfs, in which an
initramfs lies (EINVAL). There it is done as switch_root itself does: every other mount is let go first, then the new
root is moved over the old one, which holds nothing but the initramfs.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from iscsiboot.keeper import libc
from iscsiboot.sysfs.tables import lines_of, unescaped

DEVICES = (("null", 1, 3, 0o666), ("kmsg", 1, 11, 0o644))
"""Name, major, minor, mode (Documentation/admin-guide/devices.txt)."""
_QUIET = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC


def enter(run: Path) -> None:
    """Move this process into it; ``run``, a folder, stays visible under its path and the same as everybody's.

    OSError when the kernel refuses: the process then sees what it saw, or less.
    """
    libc.unshare(libc.CLONE_NEWNS)
    # Without this each step below would be copied into the namespace of everybody else.
    libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
    mounts = other_mounts(Path("/proc/self/mountinfo").read_bytes())
    place = building_place(mounts)
    _build(place, run)
    os.chdir(place)
    try:
        # The kernel puts the old root on top of the new one, and there it is let go with all that hangs on it.
        libc.pivot_root(".", ".")
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        _move_over(mounts)
    else:
        libc.umount(".", libc.MNT_DETACH)
    os.chdir("/")


def building_place(mounts: Sequence[str], root: Path = Path("/")) -> Path:
    """A directory below ``/`` to build on, seen so in the new namespace only.

    None that is a mount point or has one below: that would be hidden and could not be let go. OSError without any.
    """
    for path in sorted(root.iterdir()):
        taken = any(mount == str(path) or mount.startswith(f"{path}/") for mount in mounts)
        if not taken and path.is_dir() and not path.is_symlink():
            return path
    raise OSError(errno.ENOENT, "there is no directory to build a root in")


def _build(place: Path, run: Path) -> None:
    options = "mode=0755,size=64k,nr_inodes=32"
    libc.mount("iscsiboot-keeper", str(place), "tmpfs", libc.MS_NOSUID | libc.MS_NOEXEC, options)
    proc, sysfs, devices, shared = (place / path for path in ("proc", "sys", "dev", str(run).lstrip("/")))
    for path in (proc, sysfs, devices, shared):
        path.mkdir(mode=0o755, parents=True)
    libc.mount("proc", str(proc), "proc", _QUIET)
    libc.mount("sysfs", str(sysfs), "sysfs", _QUIET)
    libc.mount(str(run), str(shared), "", libc.MS_BIND)
    for name, major, minor, mode in DEVICES:
        os.mknod(devices / name, stat.S_IFCHR | mode, os.makedev(major, minor))
        (devices / name).chmod(mode)


def _move_over(mounts: Sequence[str]) -> None:
    """What switch_root(8) does, without the deleting."""
    # The last made first: whatever stands on a mount goes before it.
    for path in reversed(mounts):
        try:
            libc.umount(path, libc.MNT_DETACH)
        except OSError:
            continue  # gone with what it stood on
    libc.mount(".", "/", "", libc.MS_MOVE)
    os.chroot(".")


def other_mounts(mountinfo: bytes) -> list[str]:
    """The mount points of ``/proc/self/mountinfo`` (proc(5), field 5) but for ``/``, in its order: the oldest first."""
    paths = (unescaped(line.split(" ", 5)[4]) for line in lines_of(mountinfo))
    return [path for path in paths if path != "/"]
