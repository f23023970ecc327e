# SPDX-License-Identifier: LGPL-2.1-or-later
"""What keeps a guard alive and at work while the disk below the system is gone.

========================  ============================================================================================
locked memory             its code and data stay in memory: what would be read back is on the disk it brings back
PR_SET_IO_FLUSHER         memory it asks the kernel for is not made free by writing to a disk (Linux 5.6)
OOM score -1000           a full memory, which a stalled root makes, does not end who ends the stall
nice -10                  as open-iscsi's daemon
name                      ``iscsid`` in ``ps`` and ``pgrep``; a title that begins with ``@`` is left alone by systemd
                          when it kills what is left at switch-root and shutdown (systemd's "Storage Daemons for the
                          Root File System")
========================  ============================================================================================

None of it is worth not starting for (a container refuses most): every refusal is one warning that says what it costs.

Memory locks and the title belong to one process and are not handed to a child; the other three are. A child that may
wait for a disk, or opens one, takes the flusher mark back (:func:`for_child`): the kernel reads partition tables in the
name of who opens a disk, and with the mark it would do so under conditions meant for those who write. Its priority is
an ordinary process's.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import sys
import threading
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import cast

from iscsiboot.keeper import libc
from iscsiboot.keeper.log import Level, Log

OOM_SCORE = -1000
NICE = -10
COMM_BYTES = 15
"""TASK_COMM_LEN without its end."""
_ARG_START, _ARG_END = 48, 49
"""Fields of /proc/PID/stat (proc_pid_stat(5)), counted from 1."""
THREAD_STACK_BYTES = 256 << 10
PROC = Path("/proc")
_OWN_HASHES = (("_md5",), ("_sha1",), ("_sha256", "_sha2"), ("_sha3",))
"""Modules of the hashes CHAP may want, by their names in the Python versions there are."""


def harden(log: Log, *, comm: str, title: Sequence[str] = (), proc: Path = PROC) -> None:
    """All of it, for a process that has loaded what it needs. No ``title``: the command line stays as it is."""
    set_comm(comm)
    if title:
        _tried(
            log,
            "the name in the process list",
            "systemd may end it at switch-root and shutdown",
            lambda: set_title(title, proc=proc),
        )
    settle_memory()
    _ask(log, proc, lock_memory)


def again(log: Log, *, proc: Path = PROC) -> None:
    """What a fork of a guard that will guard itself has to ask for anew; its parent settled the heap.

    Its memory is locked as :func:`lock_shared_memory` does it.
    """
    _ask(log, proc, lambda: lock_shared_memory(proc=proc))


def _ask(log: Log, proc: Path, lock: Callable[[], None]) -> None:
    _tried(log, f"nice {NICE}", "a busy machine delays recoveries", raise_priority)
    _tried(log, f"OOM score {OOM_SCORE}", "a full memory may end it", lambda: protect_from_oom(proc=proc))
    _tried(log, "locked memory", "a stalled root disk may stop it (CAP_IPC_LOCK and RLIMIT_MEMLOCK allow it)", lock)
    _tried(
        log,
        "PR_SET_IO_FLUSHER",
        "it may wait for the disk it brings back when memory is full",
        lambda: set_io_flusher(True),
    )


def for_child() -> None:
    """In a fork that works for a guard and may wait for a disk: without the flusher mark, whatever is refused.

    And in nobody's way: units asked for their size by a hundred such forks, as urgent as their guard, keep it from the
    sessions that are still down.
    """
    with suppress(OSError):
        set_io_flusher(False)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))


def for_requests() -> None:
    """In such a child, when it makes requests to the kernel's iSCSI: with the mark again, whatever is refused.

    One that waited there for memory would keep every other request waiting (:mod:`.port`), those that bring back the
    disk the memory is to be written to included.
    """
    with suppress(OSError):
        set_io_flusher(True)


def close_descriptors(keep: Container[int]) -> None:
    """In a fork: hold nothing of the parent's. A socket held by a process that hangs keeps its address from the next.

    Without /proc those below 1024 are closed, which is more than a guard has.
    """
    try:
        open_now = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    except OSError:
        open_now = list(range(1024))
    for descriptor in open_now:
        if descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the listing's own


def set_comm(name: str) -> None:
    """The name in ``/proc/PID/comm``, cut to 15 bytes."""
    libc.prctl(libc.PR_SET_NAME, name.encode()[:COMM_BYTES])


def set_title(words: Sequence[str], *, proc: Path = PROC) -> None:
    """Write ``words`` over the command line of this process, as ``ps`` and systemd read it; cut to what it took before.

    OSError when /proc does not tell where it is; ValueError for text that is none of its own.
    """
    start, end = argument_area((proc / "self" / "stat").read_text())
    room = end - start
    if room < 2:
        raise OSError(errno.ENOSPC, "no room in the command line")
    text = b"\0".join(word.encode() for word in words)[: room - 1]
    # The last byte stays 0: otherwise the kernel takes what follows, the environment, for more of the title.
    libc.write_memory(start, text.ljust(room, b"\0"))


def argument_area(stat: str) -> tuple[int, int]:
    """Where the arguments of a process begin and end, from its ``/proc/PID/stat``.

    OSError when the fields are not there, or 0, as the kernel shows them to who may not know.
    """
    # The second field is the name in brackets, and a name may hold both blanks and brackets.
    fields = stat.rpartition(")")[2].split()
    try:
        start, end = int(fields[_ARG_START - 3]), int(fields[_ARG_END - 3])
    except (IndexError, ValueError):
        start = end = 0
    if not 0 < start <= end:
        raise OSError(errno.ENOSYS, "the kernel does not tell where the command line is")
    return start, end


def without_openssl(*, proc: Path = PROC) -> None:
    """Before asyncio and hashlib are imported: keep OpenSSL out, five megabytes that would be locked for nothing.

    asyncio asks for ``ssl`` and does without. hashlib has hashes of its own, unless the distribution left them out
    (Fedora) or the machine is to use certified ones only (FIPS); then it keeps OpenSSL's.
    """
    sys.modules.setdefault("ssl", cast(ModuleType, None))
    try:
        certified = (proc / "sys" / "crypto" / "fips_enabled").read_text().strip() == "1"
    except OSError:
        certified = False
    if not certified and all(any(map(find_spec, names)) for names in _OWN_HASHES):
        sys.modules.setdefault("_hashlib", cast(ModuleType, None))


def load_quietly() -> None:
    """Until :func:`settle_memory`: nothing is garbage while modules are loaded, and looking for it again and again is a
    twentieth of the start.
    """
    gc.disable()


def settle_memory() -> None:
    """Make the heap small and steady before it is locked and before children are forked from it.

    * What has been loaded is never garbage: :func:`gc.freeze` keeps the collector from writing to every page of it,
      which in a child would make a copy of each. Where it rested meanwhile (:func:`load_quietly`), it begins again.
    * A thread's stack is locked whole, eight megabytes by default. A guard starts none; a library's shall cost less.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    libc.malloc_trim()
    libc.mallopt(libc.M_ARENA_MAX, 1)
    threading.stack_size(THREAD_STACK_BYTES)


def lock_memory() -> None:
    """Lock what is there and what will be (mlockall(2)); OSError when the system refuses."""
    _lift_limit()
    libc.mlockall(libc.MCL_CURRENT | libc.MCL_FUTURE)


def _lift_limit() -> None:
    """Lift RLIMIT_MEMLOCK; where that is refused, put it at 0, so that mlockall(2) asks for CAP_IPC_LOCK.

    Below a limit without that capability the lock itself may still be granted, and later all further memory refused.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, hard))


def lock_shared_memory(*, proc: Path = PROC) -> None:
    """Lock what a fork shares with its locked parent, without a copy of it; OSError when the system refuses.

    mlockall(2) by itself writes to every private page, so it copies all of a fork's heap: that doubles what a daemon
    and its standby hold. Locked on fault instead, what is there stays there and stays one. Nothing is missing when the
    parent is gone: pages that were shared are then this process's alone, and a write to them needs no new memory. What
    comes from files is not passed on by a fork; it is read in here, while the parent still keeps it in memory.
    """
    try:
        for start, end in file_mappings((proc / "self" / "maps").read_text(encoding="utf-8", errors="replace")):
            _populate(start, end - start)
        _lift_limit()
        libc.mlockall(libc.MCL_CURRENT | libc.MCL_FUTURE | libc.MCL_ONFAULT)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        lock_memory()  # before Linux 5.14, or no /proc: all of it, at the price of the copy


def file_mappings(maps: str) -> list[tuple[int, int]]:
    """Start and end of each mapping of a file that can be read, from ``/proc/PID/maps``; other lines are not."""
    found = []
    for line in maps.splitlines():
        fields = line.split(None, 5)
        if len(fields) < 6 or not fields[1].startswith("r") or fields[4] == "0":
            continue
        start, _, end = fields[0].partition("-")
        try:
            found.append((int(start, 16), int(end, 16)))
        except ValueError:
            continue
    return found


def _populate(start: int, length: int) -> None:
    try:
        libc.madvise(start, length, libc.MADV_POPULATE_READ)
    except OSError as error:
        if error.errno not in (errno.EFAULT, errno.ENOMEM):
            raise  # those two: the file ends before its mapping does, or the mapping went away meanwhile


def protect_from_oom(*, proc: Path = PROC) -> None:
    """The OOM killer passes it over; OSError without CAP_SYS_RESOURCE."""
    descriptor = os.open(proc / "self" / "oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(OOM_SCORE).encode())
    finally:
        os.close(descriptor)


def set_io_flusher(on: bool) -> None:
    """PR_SET_IO_FLUSHER; OSError without CAP_SYS_RESOURCE, EINVAL before Linux 5.6."""
    libc.prctl(libc.PR_SET_IO_FLUSHER, int(on))


def raise_priority() -> None:
    """Nice -10, wherever it started; OSError without CAP_SYS_NICE."""
    os.setpriority(os.PRIO_PROCESS, 0, NICE)


def _tried(log: Log, what: str, cost: str, step: Callable[[], None]) -> None:
    try:
        step()
    except OSError as error:
        log(Level.WARNING, f"{what} was refused: {error.strerror}; {cost}")
