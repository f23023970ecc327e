# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m host``: SCSI hosts, their CHAP tables and flashnodes. Its issue is not done; this says so.

Nothing is listed rather than a part: a program that got some hosts would take them for all.
"""

from __future__ import annotations

from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options


def run(options: Options, context: Context) -> int:
    """Say in one line that this is not there yet."""
    what = f"host mode: {options.submode}" if options.submode else "host mode"
    context.error(f"{what} is not supported yet; session -P 1 shows the interface of each session")
    return ExitCode.OP_NOT_SUPP
