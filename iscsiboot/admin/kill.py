# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -k 0``: have iscsid stop at once. No session is touched by that.

Status 0 in all cases, as the peer: shutdown scripts run this when there may be nothing to stop.
"""

from __future__ import annotations

from iscsiboot.errors import EXIT_TEXT, ExitCode, IscsiBootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options

CONNECT_SECONDS = 3.0
"""For the daemon's first words."""
STOP_SECONDS = 10.0


def run(options: Options, context: Context, address: str | None = None) -> int:
    """Ask for the stop at ``address``, the machine's own without it; every failure is told, none changes the status."""
    if options.kill != 0:
        context.error(f"Invalid iscsid priority {options.kill}. Priority must be 0.")
        return ExitCode.SUCCESS
    from iscsiboot.ipc.protocol import ADDRESS  # the only option that needs it here

    failure = _stop(address or context.paths.daemon or ADDRESS, context)
    if failure is not None:
        context.error(f"initiator reported error ({int(failure)} - {EXIT_TEXT[failure]})")
        context.error("Could not stop iscsid. Trying sending iscsid SIGTERM or SIGKILL signals manually")
    return ExitCode.SUCCESS


def _stop(address: str, context: Context) -> ExitCode | None:
    """The failure a client of the peer's is told; None when the daemon stops."""
    from iscsiboot.ipc.client import NobodyListens, OtherDaemon, connect  # as above

    try:
        client = connect(address, seconds=CONNECT_SECONDS)
    except (NobodyListens, OtherDaemon) as error:
        context.error(error.cause, error)
        return error.exit_code
    except IscsiBootError as error:
        context.error(error.line(), error)
        # What says nothing may be anything; the peer's "timed out" is for a daemon that has taken the order.
        silent = error.exit_code is ExitCode.REQ_TIMEDOUT
        return ExitCode.ISCSID_COMM_ERR if silent else error.exit_code
    with client:
        try:
            client.ask("stop", seconds=STOP_SECONDS)
        except IscsiBootError as error:
            context.error(error.line(), error)
            return error.exit_code
    return None
