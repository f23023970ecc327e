# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsid(8): prose here, options from iscsiboot/daemon/options.py."""

from __future__ import annotations

from iscsiboot.daemon.options import OPTIONS, Option
from tools.manual_roff import bold, italic, item, literal, page, paragraphs, section, subsection

DESCRIPTION = """
*iscsid* guards the iSCSI sessions of this machine and makes new ones for *iscsiadm*(8). A session is the kernel's; the
daemon makes its connection anew when it breaks, for as long as it takes when the system stands on it.

Starting, stopping, restarting, upgrading or killing it touches no session. It takes over what it finds, made by
*iscsistart*(8) in the initramfs, by open-iscsi's programs or by the daemon before it. Sessions that work are not even
spoken to; only those the kernel reports down are recovered, all at once.

It runs from locked memory and needs no disk, name service or log to recover a session. On a kernel without iSCSI it
says so, answers, and tries again when a session is asked for.

With open-iscsi's daemon it shares options, socket name and pid file, so only one of the two runs at a time. The second
one says which process is there, and ends with status 1.
"""

STANDBY = """
Behind a daemon that guards the disk of the system stands a process whose command line is {@iscsiboot-keeper}. It sleeps
until the daemon is gone, however that ended, and then guards in its place until the next daemon takes over. The process
*iscsistart*(8) leaves in the initramfs is of the same kind. systemd leaves both alone at the end of a shutdown, so the
root is guarded until it is mounted read-only.

At most one process acts on the sessions at any time: the right to do so is a lock on {/run/iscsiboot/guard.lock}.
"""

ROLES = """
What a session carries decides how long the kernel waits for it. Mounts, swap and the device stack are looked at
whenever they change.
"""

ROLE_ROWS = (
    (
        "The system, one path",
        "The kernel waits for ever: an I/O error would make the root read-only. The session is not logged out without "
        "*--force*.",
    ),
    ("Below multipath", "The path fails within ten seconds, so that another one takes over."),
    ("Data", "What the record says (*node.session.timeo.replacement_timeout*)."),
)

SIGNALS = (
    ("SIGTERM", "Ends it; the standby guards from then on. *SIGINT* does the same."),
    ("SIGHUP", "Has it read its settings, the names and secrets of all records, and the discovery records again."),
)

DISCOVERY = """
Servers whose discovery record says *discovery.sendtargets.use_discoveryd* = Yes are asked every
*discovery.sendtargets.discoveryd_poll_inval* seconds (30 for a negative number, once for 0). New portals are logged in
to, behind the rounds: one that nobody answers at delays none. The sessions of portals that no server names any more are
logged out when the daemon has made them so and nothing is mounted on them; a list that is empty counts when it comes
twice. Of one server 1024 portals are used. A round that fails changes nothing, and the end of the daemon neither;
open-iscsi's logs out of all.
"""

FILES = (
    ("/etc/iscsi/iscsid.conf", "Settings, see *iscsid.conf*(5). It need not exist."),
    (
        "/etc/iscsi/initiatorname.iscsi",
        "The name of this machine. Without it the name is made of the machine's identity.",
    ),
    (
        "/run/iscsid.pid",
        "The daemon's process, locked while it runs. Where it cannot be written the daemon warns and goes on; a file"
        " named by *-p* has to be there.",
    ),
    (
        "/run/iscsiboot/sessions",
        "What is known of each session, secrets included, for whoever guards it next. For root alone, in memory.",
    ),
    ("@ISCSIADM_ABSTRACT_NAMESPACE", "The socket, in the abstract namespace; requests are taken from root only."),
    ("iscsid.service, iscsid.socket", "The units. The first *iscsiadm*(8) that needs the daemon starts it."),
    (
        "iscsi.service",
        "Logs in to the nodes with *node.startup* = automatic and does not hold up the boot for those that cannot be "
        "reached. At its stop it logs out of them, but of none the system stands on.",
    ),
)

DIFFERENCES = """
From open-iscsi's: with *-f* under a service manager the pid file is written, for scripts that look for it. In the
background the command returns when the daemon is ready, or with its failure. Paths are those of the folder it was
started in, also in the background. *-u* and *-g* take numbers only; a daemon that is not root any more guards nothing
on kernels that take requests from root alone (since 5.12), and gives up its locked memory where {RLIMIT_MEMLOCK} cannot
be lifted.
"""

UNIT_FAULTS = (
    "In place of 1 under a service manager, where only a change of the unit helps: a wrong option, another user than "
    "root, other sockets than its own. The unit is not started again after these."
)

LOG = """
In the background lines go to syslog, facility daemon, in the foreground to standard error. Where open-iscsi has a line
the same words come first, so that searches go on finding them:
{Connection1:0 to [...] is operational now},
{Kernel reported iSCSI connection 1:0 error}, {connection1:0 login rejected},
{connection1:0 is operational after recovery (3 attempts)}, {is shutdown.} Cause and next step follow.

There is a line for a transition, none for an attempt, and reminders at growing intervals while something stays broken.
What many sessions say alike within ten seconds is gathered from the ninth on: {192 more sessions (9-200) likewise}. No
line has a secret. A standby writes to the kernel's log.
"""

EXAMPLES = (
    (
        "systemctl enable --now iscsid.socket iscsid.service iscsi.service",
        "Guard, and log in at the start of the machine.",
    ),
    ("iscsiboot status", "What is guarded, and how it stands."),
    ("systemctl restart iscsid", "After an upgrade: no session notices."),
    ("iscsid -f -d 1", "In the foreground, with more words."),
)


def iscsid_page() -> str:
    """The whole page."""
    synopsis = bold("iscsid") + "".join(f" [{_head(option)}]" for option in OPTIONS)
    return page(
        "ISCSID",
        8,
        [
            section("NAME", [literal("iscsid") + " \\- " + literal("guard iSCSI sessions and make new ones")]),
            section("SYNOPSIS", [synopsis]),
            section("DESCRIPTION", paragraphs(DESCRIPTION), subsection("The standby", paragraphs(STANDBY))),
            section("ROLES", paragraphs(ROLES), *(item(bold(name), text) for name, text in ROLE_ROWS)),
            section("OPTIONS", *(item(_head(option, long=True), _sentence(option.meaning)) for option in OPTIONS)),
            section("SIGNALS", *(item(bold(name), text) for name, text in SIGNALS)),
            section("REPEATED DISCOVERY", paragraphs(DISCOVERY)),
            section(
                "EXIT STATUS",
                item(bold("0"), "It was told to end, or printed what was asked for."),
                item(bold("1"), "It could not begin, or ended by a fault; one line on standard error or in the log."),
                item(bold("64, 77, 78"), UNIT_FAULTS),
            ),
            section("LOG", paragraphs(LOG)),
            section("FILES", *(item(bold(path), text) for path, text in FILES)),
            section("DIFFERENCES", paragraphs(DIFFERENCES)),
            section("EXAMPLES", *(item(bold(line), text) for line, text in EXAMPLES)),
            section(
                "SEE ALSO",
                paragraphs(
                    "*iscsiadm*(8), *iscsistart*(8), *iscsid.conf*(5), *iscsiboot-status*(8), *systemd.service*(5)"
                ),
            ),
        ],
        source="iscsiboot/daemon/options.py and tools/manual_iscsid.py",
    )


def _head(option: Option, *, long: bool = False) -> str:
    short = bold(f"-{option.letter}")
    if not long:
        return f"{short} {italic(option.argument)}" if option.argument else short
    name = bold(f"--{option.long}") + (f"={italic(option.argument)}" if option.argument else "")
    return f"{short}, {name}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
