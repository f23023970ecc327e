# SPDX-License-Identifier: LGPL-2.1-or-later
"""The prose of iscsiadm(8); options, modes, exit statuses and keys come from the product's tables.

Marks as in :mod:`tools.manual_roff`. Each table below is held against the product by tests/architecture/test_manual.py.
"""

from __future__ import annotations

from iscsiboot.errors import ExitCode

DESCRIPTION = """
*iscsiadm* finds iSCSI targets, keeps records of them, logs in to them and out of them, and shows what is there.

A {record} says how to log in to one target at one portal over one interface. Records lie in a database of small text
files below {/etc/iscsi} and begin with the settings of *iscsid.conf*(5). A {session} is a login that lasts; its disks
are the kernel's.

Files, words and exit statuses are those of open-iscsi 2.1.8, and both programs may work on one database in turn.
Results are on standard output. Standard error stays empty when a command succeeds, unless it is a terminal.
"""

MODES: dict[str, str] = {
    "discovery": """
Asks for targets and keeps a node record of each. With *-t sendtargets* the portal *-p* is asked, with the settings of
*iscsid.conf*(5); with *-t fw* the table the machine's firmware booted with. Each target found is a line
{portal},{tag} {target}; *-P 1* shows a tree.

*-o* says what becomes of records: *new* adds missing ones, *delete* removes those of this portal that are not there
any more, *update* sets those that are there anew from *iscsid.conf*(5), *nonpersistent* touches none. Without *-o*
missing ones are added and vanished ones removed, and in those that are there what an administrator set stays, while
what nobody changed follows *iscsid.conf*(5). *-I* finds through certain interfaces. *-l* logs in to what was found.

Without *-t* and *-p* the portals that were asked before are listed; *-P 1* lists what came of each. With *-p* alone
the stored settings of that portal are shown, *-D* asks it again with them, and *-o delete* forgets it together with
its node records.
""",
    "discoverydb": """
The same with stored settings: *-t* {type} *-p* {portal} names a discovery record. *-o new* makes it, *-o update* *-n*
{name} *-v* {value} changes it (a password for discovery, say), *-o delete* forgets it with its node records, *-D*
asks the portal, and without an operation the record is shown.
""",
    "node": """
Works on node records and on the sessions they lead to. Any of *-T*, *-p* and *-I* may be left out: every record that
fits what is given is meant. Without all three records are listed.

*-l* logs in, *-u* logs out, *-R* looks for new disks and sizes, *-s* prints statistics. *-L* and *-U* do so for all
records whose *node.startup* (or *node.conn[0].startup*) is {which}: *all*, *manual* or *automatic*, and for *-L* also
*onboot*. *-U* leaves sessions of records with *onboot* and of firmware alone.

Logins, logouts and statistics are done by *iscsid*(8) when it listens, or its socket unit does, and by the command
itself when nobody listens: but where *iscsid.conf*(5) sets *iscsid.startup*, that command is run first, and without a
daemon after it the status is 20. Ctrl-C takes back what is not done yet; a command that is killed leaves the daemon at
work on it.

*-o new* makes a record (*-T* and *-p*); one that is there begins anew with the settings of *iscsid.conf*(5). A portal
given without its tag has room for one record only: *-o new* with *-I* then replaces the record of another interface,
settings included. With the tag (*-p* {address}:{port},{tag}) each interface has a record of its own.

*-o update* changes a setting, *-o delete* removes records without a session, *-o show* prints them, secrets only with
*-S*. All names are checked before anything is changed.
""",
    "session": """
Shows sessions: a line for each, or a tree with *-P 1* (interface and states), *-P 2* (timeouts, CHAP, negotiated
parameters) and *-P 3* (disks). *-r* {sid} means one of them, by its number or its directory in sysfs. *-u*, *-R* and
*-s* without *-r* mean all. With *-r* also the session's record can be shown, changed or deleted, and *-o new* adds a
session to the same portal.

Showing never needs a daemon.
""",
    "iface": """
Works on interface records, which bind sessions to a network device. They are listed; *-I* {iface} shows one, *-P 1*
what is bound to it. *-o new* makes one (with *-n* and *-v*: and sets it), *-o update* changes it and the node records
bound to it, *-o delete* removes it and those. *default* and *iser* are always there and cannot be changed. *-o apply*
and *-o applyall* configure adapters that carry iSCSI by themselves.
""",
    "fw": """
Shows the targets of the table firmware booted the machine with (iBFT, an adapter's, Open Firmware's), secrets
included as open-iscsi does. *-l* logs in to all of them; *-n* and *-v* give these logins other settings.
""",
    "host": """
For adapters with sessions of their own. Not supported yet: it ends with status 27.
""",
}
"""Mode -> what it does."""

OPTIONS: dict[str, str] = {
    "mode": "It decides which other options are allowed, and stands anywhere among them.",
    "portal": (
        "An IPv4 address, a host name or an IPv6 address; IPv6 with a port stands in brackets. "
        "The port is 3260 unless given, in node mode any when there is no portal at all."
    ),
    "interface": "In discovery it may be given several times.",
    "op": "Several may be given in discovery.",
    "name": "Pairs of *-n* and *-v* may be repeated; all are checked before one is set.",
    "value": "An empty value clears the setting.",
    "sid": "A path such as {/sys/class/iscsi_session/session3} means the session in it.",
    "print": "See the modes for the levels.",
    "loginall": "*all*, *manual*, *automatic* or *onboot*.",
    "logoutall": (
        "*all*, *manual* or *automatic*. A session the system stands on ({/}, {/usr}, {/var}, {/boot}, swap and the "
        "like) is kept, and told; see *--force*."
    ),
    "killiscsid": "The only priority is 0.",
    "debug": (
        "Steps go to standard error: 1 tells each stage and what it is about (records, portals, addresses, attempts, "
        "answers), 2 also how it is done, 3 also what was looked at and left. No level tells a secret. With 1 or more "
        "hints are told too, which else only a terminal gets."
    ),
    "no_wait": "The login goes on by itself; its result is in the system's log.",
    "json": "See *JSON*. Words on standard error and the exit status do not change.",
    "wait-device": (
        "Without it a login ends as soon as the session is there, and its disks follow a moment later. "
        "The links below {/dev/disk/by-path} are waited for too."
    ),
    "force": "Without it such a session is never ended, whatever was asked for.",
    "timeout": "The whole command's time for logins and for *--wait-device*.",
}
"""Long name -> what help has no room for."""

JSON = """
With *--json* standard output holds one JSON document and nothing else, also when the command fails or the command
line is wrong. Its members are *schema* (iscsiboot.iscsiadm/1), *kind*, *objects*, *messages*, *notices*, *errors*,
*exit_code* and *exit_text*. Each object has its *kind*. Every field is described in
{/usr/share/doc/iscsiboot/admin-json.md}. Within a schema fields are only ever added.

    # iscsiadm -m session --json | jq -r '.objects[].target'
"""

SITUATIONS: dict[ExitCode, str] = {
    ExitCode.SUCCESS: "All of it was done.",
    ExitCode.ERR: "No other status fits; a bad value of *-r*; Ctrl-C.",
    ExitCode.SESS_NOT_FOUND: "There is no such session any more.",
    ExitCode.NOMEM: "No memory; in node mode also an interface record that is not there.",
    ExitCode.TRANS: "The portal's name has no address, or the connection broke.",
    ExitCode.LOGIN: "The login failed; another try may help.",
    ExitCode.IDBM: "The database cannot be read or written, or the record is not in it.",
    ExitCode.INVAL: "The command line or a value is wrong.",
    ExitCode.TRANS_TIMEOUT: "No connection to the portal in time.",
    ExitCode.INTERNAL: "The kernel or this program refused a step that should work.",
    ExitCode.LOGOUT: "The logout failed.",
    ExitCode.PDU_TIMEOUT: "Connected, but no answer in time.",
    ExitCode.TRANS_NOT_FOUND: "The kernel has no driver for the transport.",
    ExitCode.ACCESS: "The daemon does not let this user in.",
    ExitCode.TRANS_CAPS: "The driver cannot do that.",
    ExitCode.SESS_EXISTS: "There are enough sessions already, or a session uses the record.",
    ExitCode.INVALID_MGMT_REQ: "The daemon does not know the request.",
    ExitCode.ISNS_UNAVAILABLE: "Discovery by iSNS, which is not supported yet.",
    ExitCode.ISCSID_COMM_ERR: "The daemon went away meanwhile.",
    ExitCode.FATAL_LOGIN: "The target refuses the login for good; another try does not help.",
    ExitCode.ISCSID_NOTCONN: "There is no daemon, and it could not be started.",
    ExitCode.NO_OBJS_FOUND: "There is no such record, session, portal or target.",
    ExitCode.SYSFS_LOOKUP: "The session is not in sysfs.",
    ExitCode.HOST_NOT_FOUND: "The interface record belongs to an adapter that is not there.",
    ExitCode.LOGIN_AUTH_FAILED: "The target does not let us in: wrong name or secret.",
    ExitCode.ISNS_QUERY: "The iSNS server did not answer the query.",
    ExitCode.ISNS_REG_FAILED: "The iSNS server did not take the registration.",
    ExitCode.OP_NOT_SUPP: "Not supported.",
    ExitCode.BUSY: "What should go is in use.",
    ExitCode.AGAIN: "Not now; try again.",
    ExitCode.UNKNOWN_DISCOVERY_TYPE: "The daemon does not know the way of discovery.",
    ExitCode.CHILD_TERMINATED: "A process that looked for disks was killed.",
    ExitCode.SESSION_NOT_CONNECTED: "The session is not connected, so it cannot be ended in good order.",
    ExitCode.REQ_TIMEDOUT: "The daemon did not answer in time.",
}
"""Exit status -> when it comes."""

EXIT_STATUS = """
Of several objects the first failure decides, and the others are dealt with all the same.
"""

EXAMPLES: tuple[tuple[str, str], ...] = (
    ("iscsiadm -m discovery -t st -p 10.0.0.9", "Ask a portal; a record of each target is kept."),
    ("iscsiadm -m node", "List the records."),
    (
        "iscsiadm -m node -T iqn.2001-04.com.example:disk1 -p 10.0.0.9 -l --wait-device",
        "Log in and wait for the disks.",
    ),
    ("iscsiadm -m session -P 3", "Show sessions with their disks."),
    (
        "iscsiadm -m node -T iqn.2001-04.com.example:disk1 -o update -n node.startup -v automatic",
        "Log in at each boot.",
    ),
    (
        "iscsiadm -m node -T iqn.2001-04.com.example:disk1 -o update -n node.session.auth.username -v me "
        "-n node.session.auth.password -v secret",
        "Log in with CHAP. Other users can read a secret on a command line; *iscsid.conf*(5) is the safer place.",
    ),
    ("iscsiadm -m node -R", "See disks that were added or have grown."),
    ("iscsiadm -m node -U all", "Log out of everything this machine does not stand on."),
    ("iscsiadm -m node -T iqn.2001-04.com.example:old -o delete", "Forget a target."),
    ("iscsiadm -m iface -I eth1 -o new -n iface.net_ifacename -v eth1", "An interface record bound to a device."),
)
"""Command line -> what it does."""

FILES: tuple[tuple[str, str], ...] = (
    ("/etc/iscsi/iscsid.conf", "Settings of new records, see *iscsid.conf*(5)."),
    (
        "/etc/iscsi/initiatorname.iscsi",
        "This machine's name: *InitiatorName=* and *InitiatorAlias=*. Without it a name is made from the machine's "
        "identity, see *iscsi-iname*(8). The name firmware booted with comes first.",
    ),
    ("/etc/iscsi/nodes, send_targets, isns, static, fw, ifaces", "The database, for root alone."),
    ("/var/lib/iscsi", "The database where only that directory is there, as on Fedora and SUSE."),
)
"""Path -> what it is."""

SEE_ALSO = (
    "*iscsid.conf*(5), *iscsid*(8), *iscsi-iname*(8), *iscsi_discovery*(8), *iscsiboot-db*(8), *iscsiboot-status*(8), "
    "*iscsistart*(8)"
)
