# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m node -L`` and ``-U``: what starts with the machine, and what ends with it.

Either of ``node.startup`` and ``node.conn[0].startup`` says when a record is meant. ``-L`` logs in to the ordinary
records at once. Those with ``node.leading_login`` need one session for each portal: interface after interface is tried,
each only where there is none yet.

``-U`` ends a session only when its record is found and says so. Records that firmware or the boot made are left alone:
their session carries the root file system.
"""

from __future__ import annotations

from iscsiboot.admin.matching import Addresses, iface_matches, transport_of, uses_portal
from iscsiboot.admin.node_list import NO_RECORDS
from iscsiboot.admin.node_mode import open_database
from iscsiboot.admin.options import TRY_HELP, Usage
from iscsiboot.database.names import UNKNOWN_TAG, NodeKey, Pattern
from iscsiboot.errors import ExitCode
from iscsiboot.sysfs.listing import list_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options
    from iscsiboot.database.record import Record
    from iscsiboot.database.store import Database
    from iscsiboot.sysfs.listing import SessionRow

    Pair = tuple[NodeKey, Record]

LOGIN_WORDS = ("all", "manual", "automatic", "onboot")
LOGOUT_WORDS = ("all", "manual", "automatic")
_STARTUP_KEYS = ("node.startup", "node.conn[0].startup")


def login_all(word: str, options: Options, context: Context) -> int:
    """``-L``: log in to every record that starts at ``word``. Returns the exit status, the first failure's."""
    _check_word(word, LOGIN_WORDS, "loginall", context)
    database = open_database(context)
    ordinary: list[Pair] = []
    leading: list[Pair] = []
    for key, record in database.nodes(Pattern()):
        if _starts_at(record, word):
            (leading if record.get("node.leading_login") == "Yes" else ordinary).append((key, record))
    if not ordinary and not leading:
        context.error(NO_RECORDS)
        return ExitCode.NO_OBJS_FOUND
    # The login engine and all it stands on is for those who have something to log in to.
    from iscsiboot.admin.login import login_nodes

    status = 0
    if ordinary:
        status = login_nodes(ordinary, context, options, wait=not options.no_wait)
    if leading and not _lead(leading, database, options, context):
        context.error("Could not login all leading-login portals")
        status = status or ExitCode.FATAL_LOGIN
    return status


def _lead(pairs: list[Pair], database: Database, options: Options, context: Context) -> bool:
    """Give each portal of ``pairs`` one session; whether all have one in the end.

    open-iscsi tries the stored interfaces alone, so that a machine without any never logs in to such a record; here the
    two that need no file come last.
    """
    from iscsiboot.admin.login import login_nodes

    addresses = Addresses()
    for iface in database.ifaces():
        name = iface.get("iface.iscsi_ifacename")
        pattern = Pattern(iface=name, transport=transport_of(iface))
        rows = list_rows(context.paths.sysfs)
        wanted = [
            (key, record)
            for key, record in pairs
            if iface_matches(pattern, key.iface, transport_of(record)) and not _has_session(key, rows, addresses)
        ]
        if wanted:
            summary = f"Could not log into all portals on {name}, trying next interface"
            login_nodes(wanted, context, options, wait=True, summary=summary)
    rows = list_rows(context.paths.sysfs)
    return all(_has_session(key, rows, addresses) for key, _ in pairs)


def _has_session(key: NodeKey, rows: list[SessionRow], addresses: Addresses) -> bool:
    return any(uses_portal(key, row, addresses) for row in rows)


def logout_all(word: str, options: Options, context: Context) -> int:
    """``-U``: end every session whose record starts at ``word``. Returns the exit status, the first failure's."""
    _check_word(word, LOGOUT_WORDS, "logoutall", context)
    database = open_database(context)
    rows = [row for row in list_rows(context.paths.sysfs) if _ends_with(row, word, database)]
    if not rows:
        context.error("No matching sessions found")
        return ExitCode.NO_OBJS_FOUND
    from iscsiboot.admin.logout import logout_sessions

    return logout_sessions(rows, context, options)


def _ends_with(row: SessionRow, word: str, database: Database) -> bool:
    record = record_of(row, database)
    return (
        record is not None
        and transport_of(record) == row.transport
        and record.get("node.startup") != "onboot"
        and record.get("node.discovery_type") != "fw"
        and _starts_at(record, word)
    )


def record_of(row: SessionRow, database: Database) -> Record | None:
    """The record a session was made from: that of its portal, tag and interface, or one without a tag at its portal."""
    portal = Pattern(target=row.target, address=row.persistent_address, port=row.persistent_port)
    for key in database.node_keys(portal):
        if key.tpgt == UNKNOWN_TAG or (key.tpgt, key.iface) == (row.tpgt, row.iface_name):
            return database.read_node(key)
    return None


def _starts_at(record: Record, word: str) -> bool:
    return word == "all" or any(record.get(name) == word for name in _STARTUP_KEYS)


def _check_word(word: str, words: tuple[str, ...], option: str, context: Context) -> None:
    if word not in words:
        first = f"{context.program}: Invalid {option} option {word}."
        raise Usage(err=[first, TRY_HELP], exit_code=ExitCode.INVAL)
