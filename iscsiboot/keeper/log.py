# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the guards' lines go: levels as syslog numbers them, and the one call everybody is given."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum


class Level(IntEnum):
    """syslog's severities (RFC 5424 6.2.1), those in use."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


Log = Callable[[Level, str], None]
"""Takes one line without secrets; never blocks, never fails."""
