# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -k 0``: ask iscsid to stop at once.

The daemon of this project does not exist yet; until then nothing that could stop listens to this program. So it looks
whether a daemon is there and tells which of the two: none, or one of another make. Status 0 in all cases, as the
peer: shutdown scripts run this when there may be nothing to stop.
"""

from __future__ import annotations

from iscsiboot.errors import EXIT_TEXT, ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options

ADDRESS = "\0ISCSIADM_ABSTRACT_NAMESPACE"
"""Where iscsid listens: an abstract socket, so one in each network namespace."""
CONNECT_SECONDS = 1.0


def run(options: Options, context: Context, address: str = ADDRESS) -> int:
    """Ask for the stop; every failure is told and none changes the status."""
    if options.kill != 0:
        context.error(f"Invalid iscsid priority {options.kill}. Priority must be 0.")
        return ExitCode.SUCCESS
    number = _connect(address)
    if number:
        context.error(f"can not connect to iSCSI daemon ({number})!")
        reported = ExitCode.ISCSID_NOTCONN
    else:
        context.error("iscsid is running, but it is not one that this program can talk to")
        reported = ExitCode.ISCSID_COMM_ERR
    context.error(f"initiator reported error ({int(reported)} - {EXIT_TEXT[reported]})")
    context.error("Could not stop iscsid. Trying sending iscsid SIGTERM or SIGKILL signals manually")
    return ExitCode.SUCCESS


def _connect(address: str) -> int:
    """The errno of a connection to ``address``; 0 when something answers."""
    import socket  # the only option that needs it here

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(CONNECT_SECONDS)
        return link.connect_ex(address)
