# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a boot may try: argument, kernel command line, or the peer's own product of two parameters."""

from __future__ import annotations

from pathlib import Path

TIMEOUT_KEY = "rd.iscsiboot.timeout"
CMDLINE_MAX_BYTES = 64 * 1024


def kernel_timeout(cmdline: str) -> float | None:
    """Seconds of ``rd.iscsiboot.timeout=N`` (1 to 86400), the last one winning; None when absent or not legal."""
    found: float | None = None
    for word in cmdline.split():
        key, _, value = word.partition("=")
        if key == TIMEOUT_KEY and value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= 86400:
            found = float(value)
    return found


def read_cmdline(proc: Path) -> str:
    """``/proc/cmdline``, empty when it cannot be read (a chroot without /proc)."""
    try:
        with (proc / "cmdline").open("rb") as file:
            return file.read(CMDLINE_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def total_seconds(*, argument: float | None, cmdline: str, default: float) -> float:
    """The bound on one whole run: ``--timeout``, else the kernel's command line, else ``default``."""
    if argument is not None:
        return argument
    return kernel_timeout(cmdline) or default
