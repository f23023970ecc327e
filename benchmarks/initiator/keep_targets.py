# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our ``iscsiadm`` on a database of its own: ``python3 -IS keep_targets.py DATABASE ARGUMENT...``.

Started as ``make install`` starts our programs: no environment, no site; so it finds its checkout by itself.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(database: str, argv: list[str]) -> int:
    """Run one command line; its records are in ``database``, the machine's settings stay where they are."""
    from iscsiboot.admin.context import Paths  # once the path is known
    from iscsiboot.admin.main import main as iscsiadm

    Path(database).mkdir(mode=0o700, exist_ok=True)
    return iscsiadm(argv, sys.stdout, sys.stderr, Paths(database=database))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    sys.exit(main(sys.argv[1], sys.argv[2:]))
