# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each session carries, and the time-outs that follow from it.

* **The system, and no other path**: the kernel queues for ever. An I/O error would make root read-only, and there is
  nothing to gain by one.
* **Below a multipath device with another path**: fail fast, so that the other path takes over within ten seconds also
  when the network swallows everything. What happens when no path is left is multipathd's own policy.
* **Data**: what the record says.

What is the system's is told by :data:`iscsiboot.sysfs.block_stack.SYSTEM_MOUNTS`. Pure; the stack is read there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iscsiboot.keeper.values import Role, Timers
from iscsiboot.model.params import SessionParams
from iscsiboot.sysfs.block_stack import Use

FOR_EVER = -1
MULTIPATH_RECOVERY = 5
MULTIPATH_NOOP = 2
"""Seconds. Silence is noticed after interval and timeout, so a path fails 9 s after its last sign of life.
libmultipath's own ``fast_io_fail_tmo`` is 5 s, too."""
SYSTEM_NOOP_INTERVAL = 5
SYSTEM_NOOP_TIMEOUT = 10
"""Seconds, where nothing else was asked for. Without pings a network that swallows everything is noticed by TCP alone,
whose repetitions come minutes apart by then; a timeout that is too short makes a slow target log in again and again."""


def roles(uses: Sequence[Use], disks: Mapping[int, Sequence[str]], multipath: frozenset[str]) -> dict[int, Role]:
    """The role of each session of ``disks`` (its disks by kernel name, ``sda``), by session id.

    ``multipath``: disks below a multipath device with another path
    (:func:`iscsiboot.sysfs.multipath.multipath_disks`).
    """
    return {sid: _role(uses, frozenset(names), multipath) for sid, names in disks.items()}


def _role(uses: Sequence[Use], disks: frozenset[str], multipath: frozenset[str]) -> Role:
    system = [use for use in uses if use.disk in disks and use.is_system]
    matter = frozenset(use.disk for use in system) or disks
    carries = dict.fromkeys("swap" if use.kind == "swap" else use.where for use in system)
    return Role(
        system=tuple(dict.fromkeys(use.words for use in system)),
        multipath=bool(matter) and matter <= multipath,
        carries=tuple(carries),
    )


def timers(role: Role, params: SessionParams) -> Timers:
    """The live values of a session of this role whose record or order says ``params``."""
    interval, timeout = params.noop_out_interval, params.noop_out_timeout
    if role.multipath:
        asked = params.replacement_timeout
        return Timers(
            recovery=asked if 0 <= asked < MULTIPATH_RECOVERY else MULTIPATH_RECOVERY,
            noop_interval=min(interval or MULTIPATH_NOOP, MULTIPATH_NOOP),
            noop_timeout=min(timeout or MULTIPATH_NOOP, MULTIPATH_NOOP),
        )
    if role.waits_for_ever:
        # iscsistart turns pings off, because nobody hears them; a session with a guard is better off with them.
        own = bool(interval and timeout)
        return Timers(
            recovery=FOR_EVER,
            noop_interval=interval if own else SYSTEM_NOOP_INTERVAL,
            noop_timeout=timeout if own else SYSTEM_NOOP_TIMEOUT,
        )
    return Timers(recovery=params.replacement_timeout, noop_interval=interval, noop_timeout=timeout)


def role_words(role: Role) -> str:
    """``root``, ``root, swap, multipath``, ``data``: what people are told."""
    parts = ["root" if what == "/" else what for what in role.carries]
    if not parts:
        parts = ["system" if role.system else "data"]
    if role.multipath:
        parts.append("multipath")
    return ", ".join(parts)
