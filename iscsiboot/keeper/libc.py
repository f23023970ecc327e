# SPDX-License-Identifier: LGPL-2.1-or-later
"""The few calls of the C library Python has no name for: locked memory, prctl(2), mount namespaces.

Each raises :class:`OSError` with the kernel's errno. The numbers are those of every Linux architecture
(``linux/mman.h``, ``linux/prctl.h``, ``linux/sched.h``, ``linux/mount.h``), but for pivot_root's, which glibc has no
function for: :func:`pivot_root`.
"""

from __future__ import annotations

import ctypes
import errno
import os

MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4

MADV_POPULATE_READ = 22
"""Linux 5.14."""

PR_SET_NAME = 15
PR_SET_IO_FLUSHER = 57
PR_GET_IO_FLUSHER = 58

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8

CLONE_NEWNS = 0x00020000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

_PIVOT_ROOT = {
    "x86_64": 155,
    "i686": 217,
    "aarch64": 41,
    "riscv64": 41,
    "loongarch64": 41,
    "armv7l": 218,
    "ppc64": 203,
    "ppc64le": 203,
    "s390x": 217,
}
"""System call numbers by ``uname -m`` (``arch/*/entry/syscalls``)."""


def _library() -> ctypes.CDLL:
    """The C library of this process; the loader has it already, so nothing is opened."""
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, call: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def mlockall(flags: int) -> None:
    """Lock all memory, present and future as ``flags`` say.

    EPERM without CAP_IPC_LOCK, ENOMEM above RLIMIT_MEMLOCK, EINVAL for flags the kernel lacks.
    """
    _checked(_library().mlockall(ctypes.c_int(flags)), "mlockall")


def madvise(address: int, length: int, advice: int) -> None:
    """Advice about a mapping of this process; EINVAL for advice the kernel does not know."""
    _checked(_library().madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), ctypes.c_int(advice)), "madvise")


def munlockall() -> None:
    """Take every lock back."""
    _checked(_library().munlockall(), "munlockall")


def prctl(option: int, argument: int | bytes = 0) -> int:
    """One option of this process, with a number or text; the other arguments are 0, as the newer options demand."""
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    zero = ctypes.c_ulong(0)
    return _checked(int(_library().prctl(ctypes.c_int(option), value, zero, zero, zero)), "prctl")


def mallopt(parameter: int, value: int) -> bool:
    """Set a parameter of glibc's heap; False where the library has none (musl) or refuses."""
    try:
        return bool(_library().mallopt(ctypes.c_int(parameter), ctypes.c_int(value)))
    except AttributeError:
        return False


def malloc_trim() -> bool:
    """Give free heap back to the kernel, with glibc. False where nothing was given back."""
    try:
        return bool(_library().malloc_trim(ctypes.c_size_t(0)))
    except AttributeError:
        return False


def write_memory(address: int, data: bytes) -> None:
    """Copy bytes to an address of this process. The caller vouches for address and length."""
    ctypes.memmove(address, data, len(data))


def unshare(flags: int) -> None:
    """Leave namespaces; EPERM without CAP_SYS_ADMIN."""
    _checked(_library().unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount ``source`` on ``target``; an empty kind or options is a null pointer."""
    names = [os.fsencode(text) if text else None for text in (source, target, kind)]
    data = os.fsencode(options) if options else None
    result = _library().mount(*(ctypes.c_char_p(name) for name in names), ctypes.c_ulong(flags), ctypes.c_char_p(data))
    _checked(int(result), f"mount {kind or source} on {target}")


def umount(target: str, flags: int = 0) -> None:
    """Unmount, umount2(2)."""
    _checked(int(_library().umount2(ctypes.c_char_p(os.fsencode(target)), ctypes.c_int(flags))), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Change the root mount. By the call's number: glibc has no function. ENOSYS where it is not known here."""
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"pivot_root: no system call number known for {os.uname().machine}")
    arguments = (ctypes.c_char_p(os.fsencode(path)) for path in (new_root, put_old))
    _checked(int(_library().syscall(ctypes.c_long(number), *arguments)), "pivot_root")
