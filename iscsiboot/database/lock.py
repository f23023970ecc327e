# SPDX-License-Identifier: LGPL-2.1-or-later
"""The writers' lock: flock(2) on the root folder itself.

It needs no file, it works across mount namespaces and containers that share the tree, and it dies with the process
that holds it, however that ends. (The peer's lock is a hard link that stays behind when its holder is killed.) Readers
take none.
"""

from __future__ import annotations

import errno
import fcntl
import os

from iscsiboot.database.failure import DatabaseError, failure
from iscsiboot.database.tree import open_root
from iscsiboot.errors import ExitCode, printable

COMMAND_SHOWN = 80
_PROC_MAX = 1 << 20


def lock(fd: int, root: str, *, timeout: float, proc: str = "/proc") -> None:
    """Lock the open root folder ``fd`` exclusively, waiting up to ``timeout`` seconds; it lasts until ``fd`` is closed.

    DatabaseError (exit status 28, busy) names the holder. Nothing polls: a helper thread waits in flock itself.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
            raise failure(error, root, "locking the database") from error
    else:
        return
    if not _wait(fd, timeout):
        raise DatabaseError(
            f"another program is writing to it for more than {timeout:g} s: {holder(fd, proc) or 'unknown'}",
            subject=root,
            hint="wait for that program, or end it if it hangs",
            exit_code=ExitCode.BUSY,
        )


def is_locked(root: str) -> bool:
    """Whether somebody is writing just now. It says nothing about the next moment."""
    folder = open_root(root)
    if folder is None:
        return False
    with folder:
        try:
            fcntl.flock(folder.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _wait(fd: int, timeout: float) -> bool:
    """Whether the lock came in time. flock takes no timeout and a signal would need the main thread.

    The thread holds a descriptor of its own for the same open folder, so a lock that comes too late ends with it.
    """
    import threading  # only under contention

    from iscsiboot.model.deadline import Deadline

    own = os.dup(fd)
    state = {"given_up": False}
    decided = threading.Lock()
    done = threading.Event()

    def wait_for_lock() -> None:
        try:
            fcntl.flock(own, fcntl.LOCK_EX)
            with decided:
                done.set()
                if state["given_up"]:
                    fcntl.flock(own, fcntl.LOCK_UN)
        finally:
            os.close(own)

    # A daemon thread: a command that gave up ends although the thread is still in the kernel.
    threading.Thread(target=wait_for_lock, name="iscsiboot-lock", daemon=True).start()
    deadline = Deadline.after(timeout, now=0.0, reason="the database's lock")
    if done.wait(deadline.remaining(0.0)):
        return True
    with decided:
        state["given_up"] = not done.is_set()
    return done.is_set()


def holder(fd: int, proc: str) -> str:
    """``pid 812 (iscsiadm)`` of whoever holds the lock on ``fd``, "" when the kernel does not tell."""
    try:
        state = os.fstat(fd)
        text = _read(proc, "locks")
    except (OSError, DatabaseError):
        return ""
    # Waiters have "->" for their second word. A place is major:minor:inode; on btrfs and overlays the device differs
    # from what fstat says, so the inode alone is the second choice.
    rows = [words for words in map(str.split, text.splitlines()) if len(words) > 5 and words[1] == "FLOCK"]
    exact = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"
    for ending in (exact, f":{state.st_ino}"):
        for words in rows:
            if words[5].endswith(ending):
                return f"pid {words[4]}{_command(proc, words[4])}"
    return ""


def _read(folder: str, name: str) -> str:
    """A file of proc, "" when it is missing."""
    place = open_root(folder)
    if place is None:
        return ""
    with place:
        return (place.read(name, _PROC_MAX) or b"").decode("utf-8", "replace")


def _command(proc: str, pid: str) -> str:
    """`` (name of the program)``; no arguments, for they may hold a secret. Behind an interpreter stands its script."""
    try:
        words = _read(f"{proc}/{pid}", "cmdline").split("\0")
    except DatabaseError:
        return ""
    names = [word.rpartition("/")[2] for word in words if word and not word.startswith("-")]
    if len(names) > 1 and names[0].startswith("python"):
        names = names[1:]
    return f" ({printable(names[0][:COMMAND_SHOWN])})" if names else ""
