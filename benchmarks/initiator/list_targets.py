# SPDX-License-Identifier: LGPL-2.1-or-later
"""List the targets of a portal, one line each, as ``iscsi-ls`` does: ``python3 -IS list_targets.py HOST PORT``.

Started as ``make install`` starts our programs: no environment, no site; so it finds its checkout by itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iscsiboot.model.discovered import DiscoveredTarget


def main(host: str, port: int) -> int:
    """Print a line for each portal of each target, as it is found."""
    from benchmarks.initiator.ours import discover  # once the path is known

    def tell(target: DiscoveredTarget) -> None:
        sys.stdout.write("".join(f"Target:{target.name} Portal:{place}\n" for place in target.portals))

    discover(host, port, tell)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
