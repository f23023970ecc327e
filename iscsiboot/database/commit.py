# SPDX-License-Identifier: LGPL-2.1-or-later
"""Putting a set of changes on the disk so that at any instant every record there is a complete one.

The order, and what a machine that stops in between leaves:

1. the new contents, each in a file of ``<root>/.iscsiboot/`` (not beside the record: the peer takes every file in a
   portal's folder for an interface), then all of them on the disk: nothing has changed yet;
2. folders for them: empty ones, which no program minds;
3. each content renamed to its place: old or new, never a mixture;
4. links to new records: a record without its link is found by everything but its discovery, and ``db check`` makes it;
5. removals of files, a record before the links to it: a link that leads nowhere is passed over, and deleting its
   discovery again finishes; then of folders they leave empty;
6. the folders, on the disk.

One record costs two or three fsync calls. For many, a journal commit for each would take minutes, so the whole file
system is synchronized instead, once before the renames and once at the end.

Replacing thousands of records costs what their files cost to make and to free, which is more than all else together.
So they go in batches: a new file is swapped with the old one, the swap is put on the disk, and the old one, which no
path leads to any more, takes the contents of a record of a later batch (:mod:`iscsiboot.database.temps`). The disk
takes a batch, and the swaps of the one before, while the next is written:

    write 1   sync 1                                     write 1: contents 1 into files that are no records
              write 2   put 1   sync 2                   put 1:   swap files 1 with their records, once sync 1 has ended
                                write 3   put 2   ...    sync 2:  contents 2 and swaps 1
                                                         write 4: into the files that swaps 1 left

Batches begin small, because each of their files costs, and grow where the disk is what is waited for.
"""

from __future__ import annotations

import errno
import os
import time

from iscsiboot.database.failure import DatabaseError, failure
from iscsiboot.database.files import Files
from iscsiboot.database.reading import WORK
from iscsiboot.database.temps import TEMP, Temps
from iscsiboot.database.tree import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

FOLDER = f"{TEMP}folder"

MANY = 24
"""Files from which on the file system is synchronized as a whole."""

BATCH = 48
"""Records of the first batch. Each costs one synchronization; three times as many files are made and freed."""

BATCH_MAX = 1000
"""How far batches grow where the disk is what is waited for."""

SLOW = 0.02
"""Seconds of waiting for the disk after which the next batch is twice as large: there, synchronizing is what costs."""

_NO_EXCHANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})

_OPEN_MAX = 64
"""Folders kept open at once."""

Path = tuple[str, ...]
"""Names below the root."""


class Plan:
    """What is to change. Paths are names below the root; a later word about a path replaces an earlier one."""

    __slots__ = ("folders", "links", "removals", "there", "unfold", "writes")

    def __init__(self) -> None:
        self.writes: dict[Path, bytes] = {}
        self.there: set[Path] = set()
        """Those of the writes whose folder was seen."""
        self.unfold: dict[Path, None] = {}
        """Files that give way to a folder of their name, in which the plan writes one file: what they held."""
        self.removals: dict[Path, None] = {}
        """Files and links to remove, in order; missing ones are no failure."""
        self.folders: dict[Path, None] = {}
        """Folders to remove if they are empty then, in order."""
        self.links: dict[Path, str] = {}
        """Symbolic links to be there, with what they say."""

    def write(self, path: Path, data: bytes, *, there: bool = False) -> None:
        """A file is to hold ``data``; ``there`` when its folder is known to be."""
        self.removals.pop(path, None)
        if there:
            self.there.add(path)
        self.writes[path] = data

    def remove(self, path: Path) -> None:
        """A file or link is to be gone, with its folder and that folder's if nothing else is in them."""
        self.writes.pop(path, None)
        self.links.pop(path, None)
        self.removals[path] = None

    def link(self, path: Path, target: str) -> None:
        """A link is to be there."""
        self.removals.pop(path, None)
        self.links[path] = target

    def __bool__(self) -> bool:
        return bool(self.writes or self.removals or self.folders or self.links)


class Commit:
    """One run over a plan, below an open root whose lock is held. Use it in a ``with`` statement."""

    def __init__(self, root: Folder, files: Files, *, now: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._files = files
        self._now = now
        self._batch = BATCH
        self._open: dict[Path, Folder] = {(): root}
        self._made: list[Path] = []
        self._touched: dict[Path, None] = {}
        self._done = 0
        self._temps = Temps(files, root.fd)
        self._names: dict[Path, str] = {}
        """Temps that hold the contents of records that are not in their place yet."""
        self._can_swap = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The root is the caller's to close, and may not be while it is synchronized.
        self._temps.settle()
        self._close()

    def _close(self) -> None:
        # The root is the first. Each is forgotten first: an interruption must not have one closed twice.
        while len(self._open) > 1:
            os.close(self._open.popitem()[1].fd)

    def _folder(self, path: Path) -> Folder | None:
        """The open folder at ``path``, None when it is missing. A bounded number stays open: there may be thousands."""
        found = self._open.get(path)
        if found is not None:
            return found
        above = self._folder(path[:-1])
        if above is None:
            return None
        found = above.sub(path[-1])
        if found is not None:
            self._open[path] = found
        return found

    def _rest(self) -> None:
        """Between two steps, when no folder is in use: let go of the open ones before they are too many."""
        if len(self._open) > _OPEN_MAX:
            self._close()

    def _make(self, path: Path) -> Folder:
        """The open folder at ``path``, made with those above it where missing."""
        found = self._folder(path)
        if found is not None:
            return found
        above = self._make(path[:-1])
        self._touched[path[:-1]] = None
        self._files.mkdir(above.fd, path[-1])
        self._made.append(path)
        made = self._folder(path)
        if made is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return made

    def clean(self) -> None:
        """Remove what a run that was killed left in our folder. The lock is ours, so nobody is using it."""
        work = self._folder((WORK,))
        if work is None:
            return
        for entry in work.entries():
            if entry.name == FOLDER and entry.kind == "folder":
                self._drop_folder(work)
            elif entry.name.startswith(TEMP) and entry.kind in ("file", "link"):
                self._files.unlink(work.fd, entry.name)

    def _drop_folder(self, work: Folder) -> None:
        """Remove a folder that was to take a file's place, with the file in it."""
        folder = work.sub(FOLDER)
        if folder is not None:
            with folder:
                for entry in folder.entries():
                    self._files.unlink(folder.fd, entry.name)
            self._files.rmdir(work.fd, FOLDER)

    def run(self, plan: Plan) -> None:
        """Carry the plan out; DatabaseError tells what failed and whether anything was changed."""
        try:
            for path in (*plan.writes, *plan.links):
                if path not in plan.there and path[:-1] not in plan.unfold:
                    self._make(path[:-1])
                    self._rest()
            self._replace(plan)
            for path, target in plan.links.items():
                self._link(path, target)
                self._rest()
            self._remove(plan)
            self._drop_temps()
            self._sync()
        except OSError as error:
            self._give_up()
            raise self._failure(error, len(plan.writes)) from error
        except DatabaseError:
            self._give_up()
            raise

    def _replace(self, plan: Plan) -> None:
        """All writes, batch after batch; one is written while the disk takes the one before."""
        # New records cost nothing to replace and go with the first batch.
        new = [path for path in plan.writes if path not in plan.there]
        paths = new + [path for path in plan.writes if path in plan.there]
        waiting: list[Path] = []
        start, end = 0, len(new) + self._batch
        while start < len(paths):
            batch = paths[start:end]
            self._write(plan, batch)
            self._put(plan, waiting, swap=True)
            if len(batch) >= MANY:
                self._temps.begin_sync()
            waiting, start = batch, end
            end = start + self._batch
        self._put(plan, waiting, swap=len(waiting) < len(paths))

    def _write(self, plan: Plan, paths: list[Path]) -> None:
        """The new contents of a batch, none in its place. Few are put on the disk at once, many by the next sync."""
        work = self._make((WORK,)).fd
        durable = len(paths) < MANY
        for path in paths:
            self._names[path] = self._temps.fill(work, plan.writes[path], durable=durable)

    def _sync_file(self, folder: Folder, name: str) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd)
        try:
            self._files.sync(fd)
        finally:
            os.close(fd)

    def _unfold(self, path: Path, new: Path) -> None:
        """Put a folder with the temp of ``new`` in the place of a file, which is there until the folder is."""
        work, above = self._make((WORK,)), self._make(path[:-1])
        self._files.mkdir(work.fd, FOLDER)
        folder = self._make((WORK, FOLDER))
        name = self._names.pop(new)
        self._files.rename(work.fd, name, folder.fd, new[-1])
        self._temps.left(name)
        self._files.sync(folder.fd)
        os.close(self._open.pop((WORK, FOLDER)).fd)
        try:
            self._files.exchange(work.fd, FOLDER, above.fd, path[-1])
        except OSError as error:
            if error.errno not in _NO_EXCHANGE:
                raise
            # There is no other way on this file system, and the peer goes it on all of them.
            self._files.unlink(above.fd, path[-1])
            self._files.rename(work.fd, FOLDER, above.fd, path[-1])
        else:
            self._files.unlink(work.fd, FOLDER)
        self._touched[path[:-1]] = None
        self._done += 1

    def _put(self, plan: Plan, paths: list[Path], *, swap: bool) -> None:
        """Each content of a batch to its place, once all of them are on the disk."""
        if not paths:
            return
        work = self._make((WORK,))
        began = self._now()
        done = self._temps.end_sync()
        if self._now() - began > SLOW:
            self._batch = min(2 * self._batch, BATCH_MAX)
        if not done:
            # Nothing says when an old file may be written to, so none is used again.
            self._can_swap = False
            for path in paths:
                self._sync_file(work, self._names[path])
        for path in paths:
            if path[:-1] in plan.unfold:
                self._unfold(path[:-1], path)
                continue
            folder = self._make(path[:-1])
            name = self._names.pop(path)
            if not (swap and path in plan.there and self._swap(work, name, folder, path[-1])):
                self._files.rename(work.fd, name, folder.fd, path[-1])
                self._temps.left(name)
            self._touched[path[:-1]] = None
            self._done += 1
            if len(self._open) > _OPEN_MAX:
                self._close()
                work = self._make((WORK,))

    def _swap(self, work: Folder, name: str, folder: Folder, record: str) -> bool:
        """Put a temp into a record's place and keep the old file; whether that is possible here."""
        if not self._can_swap:
            return False
        try:
            self._files.exchange(work.fd, name, folder.fd, record)
        except FileNotFoundError:
            # The peer, which has another lock, removed the record since it was read.
            return False
        except OSError as error:
            if error.errno not in _NO_EXCHANGE:
                raise
            self._can_swap = False
            return False
        self._temps.swapped(name)
        return True

    def _drop_temps(self) -> None:
        work = self._folder((WORK,))
        if work is not None:
            self._temps.drop(work.fd)

    def _link(self, path: Path, target: str) -> None:
        folder = self._make(path[:-1])
        try:
            self._files.symlink(folder.fd, path[-1], target)
        except FileExistsError:
            if folder.kind_of(path[-1]) == "link" and os.readlink(path[-1], dir_fd=folder.fd) == target:
                return
            work = self._make((WORK,))
            self._files.symlink(work.fd, f"{TEMP}link", target)
            self._files.rename(work.fd, f"{TEMP}link", folder.fd, path[-1])
        self._touched[path[:-1]] = None

    def _remove(self, plan: Plan) -> None:
        for path in plan.removals:
            folder = self._folder(path[:-1])
            if folder is None:
                continue
            try:
                self._files.unlink(folder.fd, path[-1])
            except FileNotFoundError:
                continue
            self._touched[path[:-1]] = None
            self._done += 1
            self._rest()
        for path in plan.folders:
            self._remove_folder(path)

    def _remove_folder(self, path: Path) -> None:
        """Remove a folder when nothing is in it any more."""
        folder = self._folder(path[:-1])
        if folder is None:
            return
        try:
            self._files.rmdir(folder.fd, path[-1])
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            return
        gone = self._open.pop(path, None)
        if gone is not None:
            os.close(gone.fd)
        self._touched.pop(path, None)
        self._touched[path[:-1]] = None
        self._rest()

    def _sync(self) -> None:
        """The changed folders on the disk."""
        if len(self._touched) >= MANY and self._files.sync_all(self._root.fd):
            return
        for path in self._touched:
            folder = self._folder(path)
            if folder is not None:
                self._files.sync(folder.fd)
            self._rest()

    def _give_up(self) -> None:
        """Take back what can be: temps, and new folders that are still empty. The next writer removes what stays."""
        try:
            self.clean()
        except (OSError, DatabaseError):
            pass
        for path in reversed(self._made):
            try:
                self._remove_folder(path)
            except (OSError, DatabaseError):
                continue

    def _failure(self, error: OSError, writes: int) -> DatabaseError:
        told = failure(error, self._root.path, "writing the database")
        if self._done:
            total = f" of {writes}" if writes else ""
            told.hint = f"{self._done}{total} changes were made, each of them whole; mend the cause and run it again"
        return told
