# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions as guards tell of them, and a machine that says what a test wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc.client import NobodyListens
from iscsiboot.keeper.values import Status
from iscsiboot.toolkit.status_view import Machine

NOW = 1_800_000_000.0
TARGET = "iqn.2026-01.org.example:root"


def status(sid: int = 1, **changes: Any) -> Status:
    """A session that works."""
    values: dict[str, Any] = {
        "sid": sid,
        "host": sid + 1,
        "target": TARGET,
        "portal": "10.0.0.1:3260",
        "connected": "10.0.0.1:3260",
        "iface": "default",
        "initiator": "iqn.2026-01.org.example:host",
        "role": "root",
        "uses": ("sda1 on sda is mounted on /",),
        "phase": "up",
        "detail": "",
        "since": NOW - 7200,
        "source": "the guard before us",
        "unknown": (),
        "recoveries": 2,
        "attempts": 0,
        "last_error": "",
        "last_error_at": 0.0,
        "recovery_tmo": -1,
        "noop_interval": 5,
        "noop_timeout": 10,
    }
    return Status(**(values | changes))


def told(*statuses: Status) -> list[dict[str, Any]]:
    """As they come over a socket."""
    return [
        {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(one).items()}
        for one in statuses
    ]


def absent() -> Mapping[str, Any]:
    """No daemon."""
    raise NobodyListens(
        "can not connect to iSCSI daemon (111)!",
        stage=Stage.DAEMON,
        subject="iscsid",
        hint="start it",
        exit_code=ExitCode.ISCSID_NOTCONN,
    )


def refusing(error: IscsiBootError) -> Callable[[], Mapping[str, Any]]:
    """A daemon that cannot be asked."""

    def ask() -> Mapping[str, Any]:
        raise error

    return ask


def machine(
    root: Path,
    *,
    daemon: Callable[[], Mapping[str, Any]] = absent,
    keeper: Callable[[], Mapping[str, Any] | None] | None = lambda: None,
) -> Machine:
    """Its roots lie below ``root``."""
    return Machine(ask_daemon=daemon, ask_keeper=keeper, sysfs=root / "sys", proc=root / "proc", run=root / "run")
