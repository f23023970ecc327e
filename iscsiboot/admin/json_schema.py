# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fields of ``--json``: one row each. Tests hold every document against it, docs/admin-json.md is made from it.

Types are words: ``text``, ``number``, ``flag`` (true or false), ``texts`` (an object of texts by key), ``numbers``
(an object of numbers by key) or the name of a shape in :data:`SHAPES`; ``[x]`` is a list of x, ``x?`` is x or null.

Nothing here runs when a document is written; :mod:`iscsiboot.admin.json_objects` makes what this describes.
"""

from __future__ import annotations

Row = tuple[str, str, str]
"""Field, type, meaning."""

DOCUMENT: tuple[Row, ...] = (
    ("schema", "text", "`iscsiboot.iscsiadm/1`"),
    (
        "kind",
        "text?",
        "what the command lists or does, a kind below, also where there is none; null for a refused command line, "
        "`-k` and `-m host`",
    ),
    ("objects", "[object]", "in the order of the words without `--json`; each has `kind` and that kind's fields"),
    ("messages", "[text]", "lines of result that are not objects, such as `New interface eth1 added`"),
    ("notices", "[text]", "what is worth knowing and no failure"),
    ("errors", "[error]", "what failed, in order; stderr has the same lines"),
    ("exit_code", "number", "the exit status, iscsiadm's numbers"),
    ("exit_text", "text", "its meaning in iscsiadm's words, empty for 0"),
)

SHAPES: dict[str, tuple[Row, ...]] = {
    "error": (
        ("text", "text", "the line on stderr, without the program's name"),
        ("failure", "failure?", "its parts; null when there is only the line"),
    ),
    "failure": (
        ("stage", "text", "`arguments`, `connect`, `login`, `discovery`, `session`, `scan`, `device`, ..."),
        ("subject", "text", "what it happened to"),
        ("cause", "text", "what went wrong, with the target's own words"),
        ("hint", "text", "what to do next; may be empty"),
        ("exit_code", "number", "iscsiadm's number for it"),
        ("retryable", "flag", "whether trying again may help without any change"),
    ),
    "portal": (
        ("address", "text", "IPv4, IPv6 without brackets, or a host name"),
        ("port", "number?", "null while unknown"),
        ("tpgt", "number?", "target portal group tag; null while unknown"),
    ),
    "interface": (
        ("name", "text?", "name of the iface record"),
        ("transport", "text?", ""),
        ("initiator_name", "text?", ""),
        ("ip_address", "text?", ""),
        ("hardware_address", "text?", ""),
        ("network_device", "text?", ""),
    ),
    "timeouts": (
        ("recovery", "number?", "seconds until a dead session fails its commands; -1 never"),
        ("target_reset", "number?", "seconds"),
        ("lun_reset", "number?", "seconds"),
        ("abort", "number?", "seconds"),
    ),
    "chap": (
        ("username", "text?", ""),
        ("password", "text?", "null unless `--show` is given"),
        ("username_in", "text?", ""),
        ("password_in", "text?", "null unless `--show` is given"),
    ),
    "parameters": (
        ("HeaderDigest", "text?", "`None`, `CRC32C`"),
        ("DataDigest", "text?", ""),
        ("MaxRecvDataSegmentLength", "number?", "bytes"),
        ("MaxXmitDataSegmentLength", "number?", "bytes"),
        ("FirstBurstLength", "number?", "bytes"),
        ("MaxBurstLength", "number?", "bytes"),
        ("ImmediateData", "flag?", ""),
        ("InitialR2T", "flag?", ""),
        ("MaxOutstandingR2T", "number?", ""),
    ),
    "device": (
        ("host", "number", "SCSI host"),
        ("channel", "number", ""),
        ("id", "number", "SCSI target"),
        ("lun", "number", ""),
        ("name", "text?", "`sda`; null when the LUN has no disk"),
        ("state", "text?", "`running`, `blocked`, `offline`, ..."),
    ),
    "place": (
        ("target", "text", ""),
        ("portal", "portal", ""),
        ("iface", "text", "name of the iface record"),
    ),
}
"""What objects are made of."""

KINDS: dict[str, tuple[str, tuple[Row, ...]]] = {
    "session": (
        "`-m session`. Higher print levels fill more fields; below theirs they are null.",
        (
            ("sid", "number", "session id"),
            ("host", "number?", "SCSI host of the session"),
            ("transport", "text?", "`tcp`, `iser`, ..."),
            ("target", "text?", ""),
            ("persistent_portal", "portal", "where the login was asked for"),
            ("portal", "portal?", "where it ended; another one after a redirect"),
            ("flash", "flag", "whether the adapter's firmware made it"),
            ("iface", "text?", "name of the iface record"),
            ("initiator_name", "text?", ""),
            ("session_state", "text?", "the kernel's: `LOGGED_IN`, `FAILED`, `FREE`"),
            ("interface", "interface?", "`-P 1`"),
            ("connection_state", "text?", "`-P 1`: `LOGGED IN`, `TRANSPORT WAIT`, ..."),
            ("internal_state", "text?", "`-P 1`: the daemon's, `NO CHANGE`, `REOPEN`, ..."),
            ("timeouts", "timeouts?", "`-P 2`"),
            ("chap", "chap?", "`-P 2`"),
            ("parameters", "parameters?", "`-P 2`: as negotiated"),
            ("host_state", "text?", "`-P 3`"),
            ("devices", "[device]?", "`-P 3`: attached LUNs"),
        ),
    ),
    "node": (
        "`-m node`: records, listed or shown; with `-o new`, `update` and `delete` those that were changed.",
        (
            ("target", "text", ""),
            ("portal", "portal", ""),
            ("iface", "text", "name of the iface record"),
            ("record", "texts?", "null in a list; shown: every key in order, see iscsid.conf(5)"),
        ),
    ),
    "iface": (
        "`-m iface`: records, listed or shown, or those that were changed.",
        (
            ("name", "text", ""),
            ("transport", "text", ""),
            ("hwaddress", "text?", ""),
            ("ipaddress", "text?", ""),
            ("net_ifacename", "text?", ""),
            ("initiatorname", "text?", ""),
            ("record", "texts?", "null in a list; shown: every key in order"),
            ("nodes", "[place]?", "`-P 1`: node records bound to it"),
        ),
    ),
    "discovery": (
        "`-m discovery` and `-m discoverydb` without a run: discovery records, or the one that was changed.",
        (
            ("type", "text", "`sendtargets`, `isns`; with `-P 1` also `static`, `fw`"),
            ("address", "text?", "null for static and fw"),
            ("port", "number?", ""),
            ("record", "texts?", "null in a list; shown: every key in order"),
            ("nodes", "[place]?", "`-P 1`: node records that came from it"),
        ),
    ),
    "target": (
        "A discovery that was run: one object for each portal and iface. Logins of `-l` follow as `login` objects.",
        (
            ("target", "text", ""),
            ("portal", "portal", ""),
            ("iface", "text", "the iface it was found through"),
            ("type", "text", "`sendtargets`, `isns`, `fw`"),
        ),
    ),
    "login": (
        "Each login that was asked for.",
        (
            ("target", "text", ""),
            ("portal", "portal", ""),
            ("iface", "text", ""),
            ("result", "text", "`done`, `present` (there are enough sessions), `sent` (`-W`), `failed`"),
            ("sid", "number?", "of the session that was made"),
            ("devices", "[text]?", "`--wait-device`: block devices such as `/dev/sda`"),
            ("seconds", "number?", "how long it took"),
            ("exit_code", "number", "0, or the code of this login's failure"),
            ("failure", "failure?", ""),
        ),
    ),
    "logout": (
        "Each logout that was asked for.",
        (
            ("sid", "number", ""),
            ("target", "text?", ""),
            ("portal", "portal", "the persistent one"),
            ("result", "text", "`done`, `kept` (the machine stands on it, see `--force`), `failed`"),
            ("exit_code", "number", "0, or the code of this logout's failure"),
            ("failure", "failure?", ""),
        ),
    ),
    "rescan": (
        "`-R`: each session.",
        (
            ("sid", "number", ""),
            ("target", "text?", ""),
            ("portal", "portal", "the persistent one"),
            ("exit_code", "number", "0, or the code of the failure"),
        ),
    ),
    "statistics": (
        "`-s`: each session.",
        (
            ("sid", "number", ""),
            ("target", "text?", ""),
            ("portal", "portal", "the persistent one"),
            ("snmp", "numbers", "iSCSI counters, by the names of the words without `--json`"),
            ("extended", "numbers", "the driver's own counters"),
        ),
    ),
    "firmware": (
        "`-m fw`: one object for each target of the boot table.",
        (
            ("target", "text", ""),
            ("portal", "portal", ""),
            ("record", "texts", "the lines without `--json`, in their order; secrets as there"),
        ),
    ),
}
"""Kind -> when it comes, and its fields."""
