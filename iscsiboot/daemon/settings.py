# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the daemon looks and writes, and what iscsid.conf and initiatorname.iscsi tell it.

Neither file need exist, and nothing in them stops the daemon: an image without iscsid.conf has to boot (dracut's are
so), and a wrong line must not leave a root without its guard. What could not be used is told in one line each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.daemon.options import CONFIG_FILE, NAME_FILE, Options
from iscsiboot.database.config import Config, parse_config, read_config_text
from iscsiboot.database.initiator_name import InitiatorName
from iscsiboot.errors import IscsiBootError, quoted
from iscsiboot.ipc.protocol import failure_members, failure_of
from iscsiboot.model.record_root import CONFIG_ROOT, record_root
from iscsiboot.orders.initiator import read_initiator_name
from iscsiboot.session.workers import Answer

Notice = Callable[[str], None]
PATH_SHOWN = 400
"""Characters of a path in a line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """The files and roots of one daemon; tests give others."""

    config: str = f"{CONFIG_ROOT}/{CONFIG_FILE}"
    initiator_name: str = f"{CONFIG_ROOT}/{NAME_FILE}"
    database: str = CONFIG_ROOT
    etc: str = "/etc"
    sysfs: str = "/sys"
    proc: str = "/proc"
    run: str = "/run"
    named: frozenset[str] = frozenset()
    """Those a command line names: that one is not there is a mistake, and told."""

    @classmethod
    def of(cls, options: Options) -> Places:
        """The usual places, apart from those a command line names."""
        usual = cls(database=record_root(lambda path: os.access(path, os.F_OK)))
        return cls(
            config=options.config or usual.config,
            initiator_name=options.initiatorname or usual.initiator_name,
            database=usual.database,
            named=frozenset(path for path in (options.config, options.initiatorname) if path),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the two files say."""

    config: Config
    initiator: InitiatorName | None
    """None when nothing names this machine; ``unnamed`` says why, and logins are refused with it."""
    unnamed: IscsiBootError | None = None

    @property
    def safe_logout(self) -> bool:
        """Whether a session with a mounted file system is kept unless somebody insists."""
        return self.config.iscsid("iscsid.safe_logout") == "Yes"


def read_settings(places: Places, notice: Notice, warn: Notice | None = None) -> Settings:
    """Read both files. Never fails: ``notice`` is told what is wrong, the defaults stand in for it.

    ``warn`` is told of a file that a command line names and that is not there; ``notice`` if nothing is given.
    """
    return settings_from(read_files(places), places, notice, warn)


def read_files(places: Places) -> Answer:
    """What the two files hold, as a job of a hand: they lie on a disk that may be gone when they are read again."""
    answer: Answer = {"notes": [], "missing": _missing(places)}
    try:
        answer["config"] = read_config_text(places.config)
    except IscsiBootError as error:
        answer["config"] = None
        answer["notes"].append(f"{error.line()}; the built-in settings are used")
    try:
        initiator = read_initiator_name(places)
    except IscsiBootError as error:
        answer["notes"].append(f"{error.line()}; sessions that are there are guarded, new ones need a name")
        return {**answer, "unnamed": failure_members(error)}
    answer["notes"] += initiator.notes
    return {**answer, "initiator": [initiator.name, initiator.alias, initiator.source]}


def _missing(places: Places) -> list[str]:
    """A line for each file that is wanted by name and is not there: a slip must not mean the defaults in silence."""
    lines = []
    for option, path, instead in (
        ("-c", places.config, "the built-in settings are used"),
        ("-i", places.initiator_name, "this machine's name comes from its firmware or identity"),
    ):
        try:
            if path in places.named:
                Path(path).stat()
        except FileNotFoundError:
            lines.append(f"{option} {quoted(path, PATH_SHOWN)}: there is no such file; {instead}")
        except OSError:
            continue  # told by who reads it
    return lines


def settings_from(answer: Answer, places: Places, notice: Notice, warn: Notice | None = None) -> Settings:
    """The settings in what :func:`read_files` has read; ``warn`` as in :func:`read_settings`."""
    for line in answer["missing"]:
        (warn or notice)(line)
    for note in answer["notes"]:
        notice(note)
    config = parse_config(places.config, answer["config"], notice=notice)
    if "unnamed" in answer:
        return Settings(config=config, initiator=None, unnamed=failure_of(answer["unnamed"]))
    name, alias, source = answer["initiator"]
    return Settings(config=config, initiator=InitiatorName(name, alias, source))
