# SPDX-License-Identifier: LGPL-2.1-or-later
"""Behind a command that failed, for a person: which of ``-T`` and ``-p`` is likely wrong, and what there is instead.

Only a command that failed, with somebody who is told (:attr:`iscsiboot.admin.context.Context.attentive`), imports this.
"""

from __future__ import annotations

import socket

from iscsiboot.admin import hints
from iscsiboot.admin.arguments import parse_portal
from iscsiboot.admin.node_list import portal_text
from iscsiboot.admin.node_startup import LOGIN_WORDS, LOGOUT_WORDS
from iscsiboot.database.store import Database
from iscsiboot.errors import ExitCode, IscsiBootError, printable, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options
    from iscsiboot.database.names import NodeKey

PORTALS_MAX = 4
LIST = "iscsiadm -m node lists the records"


def tell(options: Options, context: Context, status: int) -> None:
    """One line, or none when there is nothing to add. A database that cannot be read has been told already."""
    said = hints.place(options.portal, options.target)
    if not said and status:
        try:
            said = _missing(options, Database(context.paths.database), status)
        except IscsiBootError:
            return
    if said:
        context.notice(said)


def _missing(options: Options, database: Database, status: int) -> str:
    """What a failed command asked for and is not there."""
    for letter, word, words in (("L", options.loginall, LOGIN_WORDS), ("U", options.logoutall, LOGOUT_WORDS)):
        if word is not None and word not in words:
            return f"-{letter} takes {', '.join(words[:-1])} or {words[-1]}"
    for name in options.interfaces if "new" not in options.ops else ():
        if database.read_iface(name) is None:
            names = [record.get("iface.iscsi_ifacename") for record in database.ifaces()]
            return hints.sentence(f"there is no interface {quoted(name)}", name, names, "iscsiadm -m iface lists them")
    if options.mode == "session" and status == ExitCode.SYSFS_LOOKUP:
        return f"there is no session {options.sid}; iscsiadm -m session lists them"
    if options.mode in ("discovery", "discoverydb") and options.portal is not None:
        return _no_discovery(options, database)
    # The same status is a login's whose disk did not come.
    if options.mode == "node" and status == ExitCode.NO_OBJS_FOUND and not options.wait_device:
        return _not_found(options, database.node_keys())
    return ""


def _no_discovery(options: Options, database: Database) -> str:
    """A stored discovery was asked for; empty when it is there, or when a portal was asked anew."""
    kind = options.type or "sendtargets"
    if kind != "sendtargets" or (options.type is not None and (options.mode == "discovery" or options.discover)):
        return ""
    host, port, _ = parse_portal(options.portal or "")
    port = hints.ISCSI_PORT if port < 0 else port
    if not host or database.read_discovery(kind, host, port) is not None:
        return ""
    place = portal_text(host, port) if host.count(":") > 1 else f"{host}:{port}"
    return (
        f"no record is of a discovery at {printable(place)}; iscsiadm -m discovery lists those there are, with "
        f"-t sendtargets -p {printable(place)} it asks that portal"
    )


def _not_found(options: Options, keys: Sequence[NodeKey]) -> str:
    """Why no record fits; empty when one does, so that it is its session that is not there."""
    if not keys:
        return "no target is known yet: iscsiadm -m discovery -t sendtargets -p PORTAL asks a portal for its targets"
    if options.target:
        fitting = [key for key in keys if key.target == options.target]
        if not fitting:
            names = dict.fromkeys(key.target for key in keys)
            return hints.sentence(f"no record is of target {quoted(options.target)}", options.target, names, LIST)
        keys = fitting
    if options.loginall is not None:
        word = options.loginall
        return f"no record has node.startup {word}; -o update -n node.startup -v {word} gives it to some"
    # A name would have to be looked up, and nobody shall wait for the name service only to be helped.
    if options.portal is None or not hints.is_address(options.portal):
        return ""
    host, port, _ = parse_portal(options.portal)
    wanted = _number(host), hints.ISCSI_PORT if port < 0 else port
    if any((_number(key.address), key.port) == wanted for key in keys):
        return ""
    places = list(dict.fromkeys(portal_text(key.address, key.port) for key in keys))
    more = ", ..." if len(places) > PORTALS_MAX else ""
    what = f"target {quoted(options.target)} is" if options.target else "the known targets are"
    return f"no record is of portal {quoted(options.portal)}; {what} at {', '.join(places[:PORTALS_MAX])}{more}"


def _number(address: str) -> bytes | str:
    """An address in the one form all its spellings have; a name is itself."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
    return address
