# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of iscsid.conf by subject, for the file that is installed and for iscsid.conf(5).

What a key is called decides where it stands, so that a new row of the product's table needs nothing here. Keys a record
is found by are left out: nobody sets them.
"""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.database.key import Key
from iscsiboot.database.keys import IFACE, ISCSID, ISNS, NODE, SENDTARGETS


@dataclass(frozen=True, kw_only=True)
class Group:
    """One subject."""

    heading: str
    text: str
    """What somebody should know who changes any of these; may be empty."""
    words: tuple[str, ...]
    """A key belongs here when its name contains one of them; of several groups the first takes it."""


GROUPS: tuple[Group, ...] = (
    Group(
        heading="Daemon",
        text="The daemon reads these when it starts; the first is for commands that find no daemon.",
        words=("iscsid.",),
    ),
    Group(
        heading="Start of sessions",
        text="",
        words=("startup", "leading_login", "nr_sessions", "session.scan"),
    ),
    Group(
        heading="CHAP",
        text=(
            "Name and password let this machine in at the target. With the pair of _in keys as well, the target has to "
            "prove itself too. Discovery has settings of its own. Secrets have 12 to 16 characters for most targets. "
            "CHAP is used when a name and a password are set, whatever authmethod says, as with open-iscsi. "
            "With one of the two alone no CHAP is offered: a target that does not ask for it lets this machine in, one "
            "that does refuses the login (exit status 24), and the line about that names the missing setting. With one "
            "of the _in keys alone, or without the first pair, nothing is begun."
        ),
        words=(".auth.",),
    ),
    Group(
        heading="Timeouts",
        text=(
            "For multipath a short replacement_timeout (5 to 15) hands commands to the other path soon. For a root "
            "disk without multipath a long one, or -1, keeps it waiting for its target instead of turning read-only."
        ),
        words=("timeout", "noop_out", "Time2", "initial_login_retry_max", "reopen"),
    ),
    Group(
        heading="Queues and performance",
        text="",
        words=("cmds_max", "queue_depth", "xmit_thread_priority", ".tcp.", "initial_cmdsn"),
    ),
    Group(
        heading="What is negotiated",
        text="The target has a word in each of these; session -P 2 shows what came of it.",
        words=(".iscsi.",),
    ),
    Group(
        heading="Repeated discovery",
        text="",
        words=("use_discoveryd", "discoveryd_poll_inval"),
    ),
)

EXAMPLES = {
    "username": "username",
    "password": "password",
    "username_in": "username_in",
    "password_in": "password_in",
    "congestion_control": "bbr",
}
"""What a line shows that is commented out and has no default, by the last part of its key."""


def file_keys() -> tuple[Key, ...]:
    """Every key somebody may set in iscsid.conf, once; those of interfaces stand in :data:`INTERFACE`."""
    found: dict[str, Key] = {}
    for key in (*ISCSID, *NODE, *SENDTARGETS, *ISNS):
        if not key.lookup and key.name != "discovery.startup":
            found.setdefault(key.name, key)
    return tuple(found.values())


INTERFACE: tuple[Key, ...] = tuple(key for key in IFACE if not key.lookup)
"""Settings of interface records; iscsid.conf may set them too, which hardly anybody wants."""


def grouped() -> list[tuple[Group, list[Key]]]:
    """Each group with its keys in the order of the table. LookupError names a key that belongs nowhere."""
    made: list[tuple[Group, list[Key]]] = [(group, []) for group in GROUPS]
    for key in file_keys():
        for group, keys in made:
            if any(word in key.name for word in group.words):
                keys.append(key)
                break
        else:
            raise LookupError(f"{key.name} belongs to no group of tools/settings.py")
    return made


def example(key: Key) -> str:
    """What a line of ``key`` shows: the value that is shipped, the default, or something that shows its form."""
    return key.shipped or key.default or EXAMPLES[key.name.rpartition(".")[2]]
