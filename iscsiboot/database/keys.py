# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of every setting: records, iscsid.conf, ``-o update``, help, completion and the manual derive from it.

``NODE``, ``IFACE``, ``SENDTARGETS``, ``ISNS`` and ``ISCSID`` hold the rows; :func:`shown` and :func:`stored` give the
order of a kind of record on the terminal and in its file. The two differ in a node record's interface part alone.
"""

from __future__ import annotations

from iscsiboot.database.key import Key, advice, check_value, known_words
from iscsiboot.database.keys_iface import IFACE, NODE_FILE_HEAD
from iscsiboot.database.keys_node import (
    AUTH_METHOD,
    CHAP_ALGS_KEY,
    IFACE_AFTER,
    NO_YES,
    NODE,
    SEGMENT_MAX,
    SEGMENT_MIN,
    USER,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BY_KIND",
    "BY_NAME",
    "HIDDEN",
    "IFACE",
    "ISCSID",
    "ISNS",
    "KINDS",
    "NODE",
    "NODE_ALIASES",
    "SENDTARGETS",
    "Key",
    "advice",
    "check_value",
    "known_words",
    "shown",
    "stored",
]

_STARTUP = Key(
    "discovery.startup", "enum", "manual", "Kept for compatibility; nothing reads it.", choices=("manual", "automatic")
)
_TYPE = Key(
    "discovery.type",
    "enum",
    "sendtargets",
    "Kind of discovery.",
    choices=("sendtargets", "isns", "offload_send_targets", "slp", "static", "fw"),
    lookup=True,
)
_ADDRESS = Key("discovery.sendtargets.address", "str", "", "Address or name of the server.", length=1024, lookup=True)


def _chap(name: str, meaning: str, *, secret: bool = False) -> Key:
    return Key(f"discovery.sendtargets.auth.{name}", "str", "", meaning, length=USER, secret=secret)


def _number(name: str, default: str, meaning: str, *, low: int | None = 0) -> Key:
    return Key(f"discovery.sendtargets.{name}", "int", default, meaning, low=low)


def _port(default: str) -> Key:
    meaning = "TCP port of the server."
    return Key("discovery.sendtargets.port", "int", default, meaning, low=1, high=65535, lookup=True)


SENDTARGETS: tuple[Key, ...] = (
    _STARTUP,
    _TYPE,
    _ADDRESS,
    _port("3260"),
    Key(
        "discovery.sendtargets.auth.authmethod",
        "enum",
        "None",
        "Kept for compatibility: CHAP is used when a name and a password are set.",
        choices=AUTH_METHOD,
    ),
    _chap("username", "CHAP name of this initiator in discovery sessions."),
    _chap("password", "CHAP secret of this initiator.", secret=True),
    _chap("username_in", "CHAP name the server must prove (mutual CHAP)."),
    _chap("password_in", "CHAP secret of the server.", secret=True),
    CHAP_ALGS_KEY,
    _number("timeo.login_timeout", "15", "Seconds to wait for a login."),
    Key(
        "discovery.sendtargets.use_discoveryd",
        "enum",
        "No",
        "Yes lets the daemon repeat this discovery.",
        choices=NO_YES,
    ),
    _number("discoveryd_poll_inval", "30", "Seconds between the daemon's discoveries; 0 for one alone.", low=None),
    _number("reopen_max", "5", "Attempts after the first failed one."),
    _number("timeo.auth_timeout", "45", "Seconds an authentication may take."),
    _number("timeo.active_timeout", "30", "Seconds to wait for each answer."),
    Key(
        "discovery.sendtargets.iscsi.MaxRecvDataSegmentLength",
        "int",
        "32768",
        "Most bytes to take in one PDU of a discovery session.",
        shipped="32768",
        low=SEGMENT_MIN,
        high=SEGMENT_MAX,
    ),
)

ISNS: tuple[Key, ...] = (
    _STARTUP,
    _TYPE,
    _ADDRESS,
    _port("3205"),
    Key("discovery.isns.use_discoveryd", "enum", "No", "Yes lets the daemon repeat this query.", choices=NO_YES),
    Key(
        "discovery.isns.discoveryd_poll_inval",
        "int",
        "-1",
        "Seconds between the daemon's queries; 0 for one alone, -1 for the server's own period.",
    ),
)
"""The peer's own names: address and port of an iSNS server are called ``discovery.sendtargets.*`` too."""

ISCSID: tuple[Key, ...] = (
    Key(
        "iscsid.startup",
        "str",
        "",
        "Command that starts the daemon when a client finds none running.",
        shipped="/bin/systemctl start iscsid.socket",
        length=1000,
    ),
    Key(
        "iscsid.safe_logout",
        "enum",
        "No",
        "Yes refuses to log out of a session whose disks are in use.",
        choices=NO_YES,
    ),
    Key(
        "iscsid.ipc_auth_uid",
        "enum",
        "No",
        "Of open-iscsi's daemon; ours lets clients in by user id alone.",
        choices=NO_YES,
    ),
)
"""Settings of the daemon; they stand in iscsid.conf only."""

KINDS: Mapping[str, tuple[Key, ...]] = {
    "node": NODE,
    "iface": IFACE,
    "sendtargets": SENDTARGETS,
    "isns": ISNS,
    "iscsid": ISCSID,
}

NODE_ALIASES: Mapping[str, str] = {"node.transport_name": "iface.transport_name"}
"""Names ``node -o update`` takes for another; a file knows the second name alone."""

HIDDEN = frozenset(
    f"{prefix}.{name}"
    for prefix in ("node.session.auth", "discovery.sendtargets.auth")
    for name in ("password_length", "password_in_length")
)
"""Names a file may carry that say nothing: both programs read them, neither shows or writes them."""

_NODE_AT = next(index for index, key in enumerate(NODE) if key.name == IFACE_AFTER) + 1

BY_KIND: Mapping[str, Mapping[str, Key]] = {
    kind: {key.name: key for key in ((*NODE, *IFACE) if kind == "node" else rows)} for kind, rows in KINDS.items()
}
"""What a file of each kind may say, by name. A node record says its interface's settings too."""

BY_NAME: Mapping[str, Key] = {key.name: key for rows in reversed(tuple(KINDS.values())) for key in rows}
"""Every name once, for help and completion; a name of several kinds (``node.session.auth.chap_algs``) is node's."""


def _iface_rows(family: int) -> tuple[Key, ...]:
    return tuple(key for key in IFACE if key.family in (0, family))


def shown(kind: str, family: int = 4) -> tuple[Key, ...]:
    """The settings of a record of ``kind`` in the order of the terminal; ``family`` 4 or 6 is its interface's."""
    if kind == "node":
        return (*NODE[:_NODE_AT], *_iface_rows(family), *NODE[_NODE_AT:])
    return _iface_rows(family) if kind == "iface" else KINDS[kind]


def stored(kind: str, family: int = 4) -> tuple[Key, ...]:
    """The same in the order of the file."""
    if kind != "node":
        return shown(kind, family)
    rows = {key.name: key for key in _iface_rows(family)}
    head = [rows.pop(name) for name in NODE_FILE_HEAD if name in rows]
    return (*NODE[:_NODE_AT], *head, *rows.values(), *NODE[_NODE_AT:])
