# SPDX-License-Identifier: LGPL-2.1-or-later
"""``/run/iscsiboot/sessions/SID.json``: what is known of a session, for whoever guards it when nobody can be asked.

Written by who makes a session or learns something new of it, read at an adoption. The folder is root's alone (0700, the
files 0600); a file appears whole or not at all (written beside it and renamed), and is on a tmpfs: no disk is waited
for, and none of it is there after a reboot, when the numbers of sessions begin anew.

A file may still be about another session of the same number: the kernel counts from 1 again when its module was loaded
anew. :mod:`iscsiboot.keeper.adoption` compares names and portals for that reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from iscsiboot.keeper import document
from iscsiboot.keeper.rights import own_folder
from iscsiboot.keeper.values import Known, Role, Source
from iscsiboot.private import SecretsError, read_private

FOLDER = "sessions"
_FILE = re.compile(r"([0-9]{1,10})\.json", re.ASCII)
_FILES_MAX = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What the files say."""

    known: dict[int, Known] = field(default_factory=dict)
    roles: dict[int, Role] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """Files that could not be used, in words."""


def write(run: Path, sid: int, known: Known, role: Role | None = None) -> None:
    """Write the file of a session, in place of an older one. OSError; then the older one is still there."""
    os.close(own_folder(run, make=True))
    folder = own_folder(run / FOLDER, make=True, mode=0o700)
    try:
        data = document.dump({sid: known}, {} if role is None else {sid: role})
        # One name for a process: who died in between left at most one, and nobody reads it.
        temporary = f".{sid}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.rename(temporary, f"{sid}.json", src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            _unlink(temporary, folder)
            raise
    finally:
        os.close(folder)


def remove(run: Path, sid: int) -> None:
    """Remove the file of a session; that there is none is fine. OSError otherwise."""
    try:
        (run / FOLDER / f"{sid}.json").unlink()
    except (FileNotFoundError, NotADirectoryError):
        return


def read(run: Path) -> State:
    """Every file. Never raises for what is there: what others could have written is not believed, and told."""
    folder = run / FOLDER
    try:
        for path in (run, folder):
            os.close(own_folder(path, make=False))
        names = sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return State()
    except OSError as error:
        return State(problems=(f"{folder}: {error.strerror}: what is there is not believed",))
    known: dict[int, Known] = {}
    roles: dict[int, Role] = {}
    problems = []
    for name in names[:_FILES_MAX]:
        match = _FILE.fullmatch(name)
        if match is None:
            continue
        sid = int(match[1])
        try:
            found = document.read(read_private(folder / name, limit=document.LIMIT), source=Source.STATE)
        except SecretsError as error:
            problems.append(error.line())
            continue
        problems += [f"{folder / name}: {problem}" for problem in found.problems]
        # The name says whose it is; nothing else in it is believed.
        if sid in found.known:
            known[sid] = found.known[sid]
        elif not found.problems:
            problems.append(f"{folder / name}: it is about no session {sid}")
        if sid in found.roles:
            roles[sid] = found.roles[sid]
    return State(known=known, roles=roles, problems=tuple(problems))


def prune(run: Path, alive: Container[int]) -> None:
    """Remove the files of sessions that are not there any more, and what a killed writer left. What cannot be removed
    stays: it is no reason not to guard.
    """
    folder = run / FOLDER
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return
    for name in names:
        match = _FILE.fullmatch(name)
        if name.startswith(".") or (match is not None and int(match[1]) not in alive):
            with suppress(OSError):
                (folder / name).unlink()


def _unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
