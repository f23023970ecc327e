# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a machine keeps its records: the choice is the peer's at compile time, and ours by what exists."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG_ROOT = "/etc/iscsi"
"""Configuration; Debian, and open-iscsi before 2.1.9, keep the records there too."""
STATE_ROOT = "/var/lib/iscsi"
"""Records on Fedora and SUSE."""


def record_root(exists: Callable[[str], bool]) -> str:
    """The folder with the records: /etc/iscsi, unless only /var/lib/iscsi is there. ``exists`` tells of a path."""
    if exists(STATE_ROOT) and not exists(f"{CONFIG_ROOT}/nodes"):
        return STATE_ROOT
    return CONFIG_ROOT
