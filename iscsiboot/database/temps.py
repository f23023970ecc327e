# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our files in the work folder, which hold records that are not in their place yet, and getting them on the disk.

A file that was a record until it was swapped with its successor is used again for another record (spare): making and
freeing a file costs more than all else that a change does to it. What makes it safe is the disk's order, which only a
synchronization gives:

- a new content is on the disk before its file becomes a record (one that began after it was written has ended);
- a swap is on the disk before the old file is written to (one that began after the swap has ended), for nothing there
  may lead to it as a record any more.

So there are three groups of files, each as large as a batch: one is written while the disk takes the second, and the
third waits for its swaps to be there.
"""

from __future__ import annotations

import _thread  # the module "threading" adds a millisecond to the start of a command and nothing that is used here

from iscsiboot.database.failure import DatabaseError
from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.database.files import Files

TEMP = "new-"


class Syncing:
    """One synchronization of a whole file system, under way in a thread: waiting for the disk is not our work."""

    def __init__(self, files: Files, fd: int) -> None:
        self._files = files
        self._fd = fd
        self._ended = _thread.allocate_lock()
        self._done: bool | None = None
        self._error: BaseException | None = None
        self._ended.acquire()
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:
            # No thread is to be had (a limit of processes): then it is waited for here.
            self._run()
            if isinstance(self._error, KeyboardInterrupt):
                # Nobody may ever wait for the result, and this is not one.
                raise self._error from None

    def _run(self) -> None:
        try:
            self._done = self._files.sync_all(self._fd)
        except BaseException as error:  # noqa: BLE001  (raised again in the thread that waits)
            self._error = error
        finally:
            self._ended.release()

    def settle(self) -> None:
        """Wait for its end, however it ends; the descriptor may be closed then."""
        with self._ended:
            pass

    def wait(self) -> bool:
        """Wait for its end; OSError when the disk failed, False when this system cannot do it."""
        self.settle()
        if self._error is not None:
            raise self._error
        if self._done is None:
            raise DatabaseError("a synchronization ended without a result", exit_code=ExitCode.INTERNAL)
        return self._done


class Temps:
    """The temps of one change, below an open work folder given to each method. The root is what is synchronized."""

    def __init__(self, files: Files, root: int) -> None:
        self._files = files
        self._root = root
        self._number = 0
        self._made: set[str] = set()
        """All that are there, whatever they hold."""
        self._swapped: list[str] = []
        """Old records out of their place, on the disk perhaps not yet."""
        self._leaving: list[str] = []
        """Those of them that the synchronization under way is for."""
        self._spare: list[str] = []
        """Those that may be written to."""
        self._syncing: Syncing | None = None

    def fill(self, work: int, data: bytes, *, durable: bool) -> str:
        """The name of a temp with ``data``: a record's old file where one can be had, else a new one."""
        if self._spare:
            name = self._spare.pop()
            if self._files.overwrite(work, name, data, durable=durable):
                return name
            self._files.unlink(work, name)
            self._made.discard(name)
        self._number += 1
        name = f"{TEMP}{self._number}"
        self._made.add(name)
        self._files.create(work, name, data, durable=durable)
        return name

    def left(self, name: str) -> None:
        """A temp was renamed: it is a record now."""
        self._made.discard(name)

    def swapped(self, name: str) -> None:
        """A temp was swapped with a record: its name leads to the old file now."""
        self._swapped.append(name)

    def begin_sync(self) -> None:
        """Start to put on the disk what was written and swapped so far."""
        self._leaving, self._swapped = self._swapped, []
        self._syncing = Syncing(self._files, self._root)

    def end_sync(self) -> bool:
        """Wait for what was begun, if anything was; False when the file system cannot be synchronized as a whole."""
        if self._syncing is None:
            return True
        done = self._syncing.wait()
        # Not before: who is interrupted as he waits here still has it to settle.
        self._syncing = None
        if done:
            self._spare += self._leaving
        self._leaving = []
        return done

    def settle(self) -> None:
        """Nothing is under way any more, and nothing is told of how it ended: for who gives up."""
        if self._syncing is not None:
            self._syncing.settle()
            self._syncing = None

    def drop(self, work: int) -> None:
        """Remove what is left: old contents of records."""
        for name in sorted(self._made):
            try:
                self._files.unlink(work, name)
            except FileNotFoundError:
                continue
        self._made.clear()
