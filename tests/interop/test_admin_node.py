# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-m node``: open-iscsi's iscsiadm and ours run the same scripts on equal trees and say, answer and store the same.

What a comparison overlooks is in :mod:`tests.interop.admin_compare`. What differs on purpose is in :data:`ON_PURPOSE`,
with the words of both and the reason; an entry that no longer differs fails.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.sysfs_tree import SysfsTree
from tests.interop.admin_compare import Purpose, compare, script
from tests.interop.peer_admin import Program, Result, materialize, run, unavailable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

CONF = """\
node.startup = manual
node.leading_login = No
node.session.timeo.replacement_timeout = 120
node.conn[0].timeo.login_timeout = 15
node.session.initial_login_retry_max = 8
node.session.auth.username = user
node.session.auth.password = not-so-secret
iface.mtu = 1400
"""
"""Settings that tell a record made from iscsid.conf from one made of compiled-in values."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An /etc/iscsi with a configuration and nothing else."""
    root = tmp_path / "iscsi"
    root.mkdir()
    (root / "iscsid.conf").write_text(CONF)
    return root


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A machine with both software transports and no session."""
    made = SysfsTree(tmp_path / "sys")
    made.add_transport("iser")
    return made.root


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """A machine with sessions to the portals of :data:`IN_USE`, and one nobody has a record for."""
    made = SysfsTree(tmp_path / "sessions")
    made.add_transport("iser")
    portals = (
        (1, "iqn.x:a", "10.0.0.1", "default"),
        (2, "iqn.x:b", "10.0.0.1", "if0"),
        (3, "iqn.x:a", "fe80::1", "default"),
        (10, "iqn.x:c", "10.0.0.3", "default"),
        (4, "iqn.x:d", "10.0.0.4", "default"),
        (5, "iqn.x:e", "10.0.0.5", "default"),
        (6, "iqn.x:f", "10.0.0.6", "default"),
    )
    for sid, target, address, iface in portals:
        portal = {"address": address, "port": "3260", "persistent_address": address, "persistent_port": "3260"}
        made.add_session(sid, targetname=target, tpgt="1", ifacename=iface, connection=portal)
    return made.root


SCRIPTS = {
    "nothing there": """
        n
        n -P 1
        n -P 2
        n -P x
        n -o show
        n -T iqn.x:t
        n -p 10.0.0.1
        n -I default
        n -I nothing
        n -o update
        n -o update -n node.startup -v manual
        n -o delete
        n -l
        n -u
        n -R
        n -s
        n -L all
        n -U all
    """,
    "new with and without tag": """
        n -o new -T iqn.x:t -p 10.0.0.1:3261,2
        n -o new -T iqn.x:t -p 10.0.0.1
        n -o new -T iqn.x:t -p 10.0.0.2,0
        n -o new -T iqn.x:u -p 10.0.0.2:3260
        n
        n -P 1
        n -P 0
        n -P -1
        n -P 2
        n -o show
        n -S -o show
        n -T iqn.x:t -p 10.0.0.1
        n -T iqn.x:t -p 10.0.0.1:3261
        n -T iqn.x:t -p 10.0.0.1:3261,9
        n -T iqn.x:t -P 1
        n -p 10.0.0.2
    """,
    "new again": """
        n -o new -T iqn.x:t -p 10.0.0.1,1
        n -o new -T iqn.x:t -p 10.0.0.2
        n -o new -T iqn.x:u -p 10.0.0.1,1
        n -o update -n node.startup -v automatic
        n -o new -T iqn.x:t
        n -o show
        n -o update -n node.startup -v onboot
        n -o new -p 10.0.0.1
        n -o update -n node.startup -v automatic -T iqn.x:u
        n -o new
        n -o show
        n -o new -T iqn.x:t -p 10.0.0.2,4
        n
        n -o new -T iqn.x:t -I iser
        n -P 1
        n -o new -T iqn.x:t -p 10.0.0.2
        n -P 1
    """,
    "portals in every notation": """
        n -o new -T iqn.x:t -p [fe80::1]:3260,1
        n -o new -T iqn.x:t -p fe80::2
        n -o new -T iqn.x:t -p fe80::3,7
        n -o new -T iqn.x:t -p [fe80::4],7
        n -o new -T iqn.x:t -p [fe80::5]
        n -o new -T iqn.x:t -p storage:99,7
        n -o new -T iqn.x:t -p storage.example.org,7
        n -o new -T iqn.x:t -p storage.example.org:3265
        n -o new -T iqn.x:t -p justahost
        n -o new -T iqn.x:t -p 1.2.3.4:abc
        n -o new -T iqn.x:t -p 1.2.3.5:
        n -o new -T iqn.x:t -p 1.2.3.6:3260,
        n -o new -T iqn.x:t -p 1.2.3.8:-1
        n -o new -T iqn.x:t -p [2001:db8::1%eth0]:3260,1
        n
        n -P 1
        n -p fe80::2
        n -p [fe80::2]
        n -p [fe80::2]:3260
        n -p fe80::2,9
        n -p fe80:0::2
        n -p [fe80::1]:3261
        n -p storage:99
        n -p storage
        n -p storage.example.org:3265
    """,
    "other spellings of an address": """
        n -o new -T iqn.x:t -p 127.0.0.1:3261,2
        n -o new -T iqn.x:t -p localhost
        n -o new -T iqn.x:t -p fe80::1
        n -p localhost:3261
        n -o update -p localhost:3261 -n node.startup -v automatic
        n -o show
        n -o update -p 127.0.0.1:3260 -n node.startup -v onboot
        n -o show
        n -o update -p fe80:0::1 -n node.startup -v automatic
        n -p fe80:0::1
        n -o show
        n -o delete -p [fe80:0:0::1]
        n -o delete -p no.such.host.invalid
        n
    """,
    "update": """
        n -o new -T iqn.x:t -p 10.0.0.1,1
        n -o new -T iqn.x:t -p 10.0.0.2
        n -o update
        n -o update -n node.startup
        n -o update -v 3
        n -o update -n foo -v bar
        n -o update -n node.name -v bar
        n -o update -n node.conn[0].address -v 1.1.1.1
        n -o update -n node.tpgt -v 5
        n -o update -n node.discovery_type -v fw
        n -o update -n node.startup -v bar
        n -o update -n node.startup -v automatic -n bla -v 3
        n -o update -n node.startup -v automatic -n node.leading_login -v yes
        n -o update -n node.startup -v automatic -n node.leading_login -v Yes
        n -o show
        n -o update -n iface.mtu -v 3
        n -o update -n iface.iscsi_ifacename -v x
        n -o update -n iface.nothing -v x
        n -o update -n discovery.startup -v manual
        n -o update -T iqn.zz -n node.startup -v automatic
        n -o update -T iqn.zz -n iface.mtu -v 3
        n -o update -T iqn.zz -n foo -v 3
        n -o update -v 64 -n node.session.queue_depth -T iqn.x:t -p 10.0.0.1
        n -o update -n node.session.timeo.replacement_timeout -v -1
        n -o update -n node.startup -n node.conn[0].startup -v onboot
        n -o update -n node.transport_name -v iser
        n -o update -n iface.transport_name -v tcp
        n -o update -n node.session.auth.password_length -v 7
        n -o update -n node.session.scan -v manual
        n -o update -n node.conn[0].iscsi.HeaderDigest -v CRC32C,None
        n -o update -n node.conn[0].iscsi.HeaderDigest -v None,None
        n -o show
    """,
    "texts and secrets": """
        n -o new -T iqn.x:t -p 10.0.0.1,1
        n -o update -n node.session.auth.username -v 'a b  c ' -n node.session.auth.username_in -v '#x'
        n -o update -n node.session.auth.password -v 'p = q' -n node.session.auth.password_in -v '='
        n -o show
        n -o show -S
        n -o update -n node.session.auth.username -v '' -n node.session.auth.password -v ''
        n -o show -S
        n -o update -n node.session.auth.username -v '<empty>'
        n -o show
    """,
    "lists of algorithms": """
        n -o new -T iqn.x:t -p 10.0.0.1,1
        n -o update -n node.session.auth.chap_algs -v SHA256,MD5
        n -o show
        n -o update -n node.session.auth.chap_algs -v foo,SHA256,SHA256
        n -o update -n node.session.auth.chap_algs -v 'MD5 SHA1,,SHA256'
        n -o show
        n -o update -n node.session.auth.chap_algs -v foo
        n -o show
        n -o update -n node.session.auth.chap_algs -v ''
        n -o show
        n -o update -n node.session.auth.chap_algs -v foo -n node.startup -v bar
    """,
    "interfaces": """
        i -o new -I if0 -n iface.hwaddress -v 00:11:22:33:44:55 -n iface.initiatorname -v iqn.i
        i -o new -I 10.99.0.1:3260:pv0
        n -o new -T iqn.x:t -p 10.0.0.1,1 -I if0
        n -o new -T iqn.x:t -p 10.0.0.1,1
        n -o new -T iqn.x:t -p 10.0.0.1,1 -I 10.99.0.1:3260:pv0
        n -o new -T iqn.x:t -p 10.0.0.2 -I iser
        n -o new -T iqn.x:t -p 10.0.0.2 -I nothing
        n -o new -T iqn.x:t -p 10.0.0.3,1 -I default -I if0
        n
        n -P 1
        n -I if0
        n -I 10.99.0.1:3260:pv0
        n -I default -I nothing
        n -I iser
        n -o update -I if0 -n node.startup -v automatic
        n -o update -T iqn.x:t -p 10.0.0.1 -I default -n node.startup -v onboot
        n -o show
        n -o update -I if0 -n iface.transport_name -v iser
        n -I if0
        n -o update -I if0 -n node.startup -v manual
        n -o delete -I 10.99.0.1:3260:pv0
        n -o delete -I default
        n -P 1
    """,
    "delete": """
        n -o new -T iqn.x:t -p 10.0.0.1,1
        n -o new -T iqn.x:t -p 10.0.0.1,2
        n -o new -T iqn.x:t -p 10.0.0.1
        n -o new -T iqn.x:u -p 10.0.0.2,1
        n -o new -T iqn.x:u -p 10.0.0.2:3261,1
        n -o delete -T iqn.nope
        n -o delete -T iqn.x:u -p 10.0.0.2
        n
        n -o delete -T iqn.x:t
        n
        n -o delete stray words
        n
        n -o delete
    """,
    "mixtures": """
        n -o new -T iqn.x:t -p 10.0.0.1,1
        n -l -u
        n -l -o show
        n -u -o update
        n -l -T nope
        n -o apply
        n -o new -o delete
        n -o delete -o update
        n -o show -o update
        n -o nonpersistent
        n -o login
        n -o logout -T iqn.x:t
        n -L foo
        n -U onboot
        n -U bogus
        n -L ''
        n -R -s
        n -R -l -u
        n extra words
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(name: str, peer_admin: Program, our_admin: Program, tree: Path, sysfs: Path) -> None:
    compare(peer_admin, our_admin, script(SCRIPTS[name]), tree=tree, sysfs=sysfs)


RECORDS_IN_USE = """
    i -o new -I if0
    n -o new -T iqn.x:a -p 10.0.0.1,1
    n -o new -T iqn.x:a -p fe80::1,1
    n -o new -T iqn.x:b -p 10.0.0.1,1 -I if0
    n -o new -T iqn.x:c -p 10.0.0.3
    n -o new -T iqn.x:d -p 10.0.0.4,1
    n -o new -T iqn.x:e -p 10.0.0.5,9
    n -o new -T iqn.x:z -p 10.0.0.9,9
    n -o update -T iqn.x:d -n node.startup -v onboot
"""

WITH_SESSIONS = {
    "delete is refused": """
        n -o delete -T iqn.x:a -p 10.0.0.1
        n -o delete -T iqn.x:a
        n -o delete -p 10.0.0.1
        n -o delete -I if0
        n -o delete
        n
    """,
    "transport is refused": """
        n -o update -T iqn.x:a -n node.transport_name -v iser
        n -o update -T iqn.x:zz -n node.transport_name -v iser
        n -o update -n node.startup -v manual -n iface.transport_name -v iser
        n -o update -n iface.mtu -v 3 -n iface.transport_name -v iser
        n -o update -T iqn.x:z -n iface.transport_name -v iser
        n -o show
    """,
    "rescan": """
        n -R -T iqn.x:a -p 10.0.0.1
        n -R -T iqn.x:a -p 10.0.0.1:1
        n -R -I if0
        n -R -I iser
        n -R -T iqn.x:zz
    """,
    "log in where there is a session": """
        n -o delete -T iqn.x:z
        n -l -T iqn.x:a
        n -L all
        n -L manual
        n -L onboot
        n -L automatic
    """,
}


@pytest.mark.parametrize("name", WITH_SESSIONS)
def test_scripts_with_sessions(name: str, peer_admin: Program, our_admin: Program, tree: Path, sessions: Path) -> None:
    compare(peer_admin, our_admin, script(RECORDS_IN_USE + WITH_SESSIONS[name]), tree=tree, sysfs=sessions)


LOGINS = """
    i -o new -I if0
    i -o new -I if1
    n -o new -T iqn.x:a -p 10.0.0.1,1
    n -o new -T iqn.x:a -p 10.0.0.1,1 -I if0
    n -o new -T iqn.x:a -p 10.0.0.2,1 -I if0
    n -o new -T iqn.x:b -p 10.0.0.1,1 -I if0
    n -o new -T iqn.x:b -p 10.0.0.1,1 -I if1
    n -o new -T iqn.x:d -p 10.0.0.1,1
    n -o new -T iqn.x:z -p 10.0.0.9
    n -o new -T iqn.x:w -p 10.0.0.8,1
    n -o update -T iqn.x:a -n node.leading_login -v Yes
    n -o update -T iqn.x:b -n node.leading_login -v Yes
    n -o update -T iqn.x:z -n node.conn[0].startup -v automatic
    n -o update -T iqn.x:w -n node.conn[0].startup -v onboot -n node.startup -v onboot
"""


def selected(result: Result) -> list[bytes]:
    """The objects a command began to log in to or out of, whatever came of it."""
    return sorted(line for line in result.stdout.split(b"\n") if line.startswith(b"Logging "))


LOGIN_COMMANDS = (
    "-L all",
    "-L manual",
    "-L automatic",
    "-L onboot",
    "-L manual -W",
    "-l",
    "-l -T iqn.x:b",
    "-l -I if0 -W",
    "-l -p 10.0.0.1",
)
LOGOUT_COMMANDS = (
    "-U all",
    "-U manual",
    "-U automatic",
    "-u",
    "-u -T iqn.x:a",
    "-u -I if0",
    "-u -T iqn.x:a -p fe80:0::1",
)


def both_select(
    peer: Program, ours: Program, commands: tuple[str, ...], before: str, tree: Path, sysfs: Path, status: int = 0
) -> None:
    """Each command on the tree that ``before`` leaves begins with the same objects in both programs."""
    start = materialize(run(peer, script(before), tree=tree, sysfs=sysfs, daemon=0).tree, tree.parent / "start")
    argv = [["-m", "node", *command.split()] for command in commands]
    theirs = run(peer, argv, tree=start, sysfs=sysfs, fresh=True, daemon=status).results
    mine = run(ours, argv, tree=start, sysfs=sysfs, fresh=True).results
    assert any(map(selected, theirs))
    for one, other in zip(theirs, mine, strict=True):
        assert selected(other) == selected(one), one.shown()


@pytest.mark.parametrize("status", [0, 8], ids=["logins work", "logins fail"])
def test_which_records_are_logged_in_to(
    status: int, peer_admin: Program, our_admin: Program, tree: Path, tmp_path: Path
) -> None:
    """What the kernel of neither program could do here; the portal of iqn.x:a at 10.0.0.1 has a session."""
    made = SysfsTree(tmp_path / "sys")
    portal = {"address": "10.0.0.1", "port": "3260", "persistent_address": "10.0.0.1", "persistent_port": "3260"}
    made.add_session(1, targetname="iqn.x:a", tpgt="1", ifacename="default", connection=portal)
    both_select(peer_admin, our_admin, LOGIN_COMMANDS, LOGINS, tree, made.root, status)


def test_which_sessions_are_logged_out_of(peer_admin: Program, our_admin: Program, tree: Path, sessions: Path) -> None:
    """-U: none whose record is missing, has another tag, or starts at boot."""
    before = RECORDS_IN_USE + "n -o update -T iqn.x:c -n node.startup -v automatic -n node.conn[0].startup -v automatic"
    both_select(peer_admin, our_admin, LOGOUT_COMMANDS, before, tree, sessions)


ON_PURPOSE = (
    Purpose(
        name="nothing to make again",
        reason="the peer ends the line without a reason, and exits with 0 although nothing was done",
        command="n -o new -T iqn.x:t",
        peer=("", "iscsiadm: Error while adding record: \n", 0),
        ours=("", "iscsiadm: Error while adding record: no objects found\n", 21),
    ),
    Purpose(
        name="a number that is none",
        reason="the peer stores 0, here a queue that takes no command",
        before="n -o new -T iqn.x:t -p 10.0.0.1,1",
        command="n -o update -n node.session.queue_depth -v abc",
        peer=("", "", 0),
        ours=(
            "",
            "iscsiadm: unknown value format 'abc' for parameter name 'node.session.queue_depth': "
            "it takes a number from 1 to 1024\n"
            "iscsiadm: Unknown parameter node.session.queue_depth.\n"
            "iscsiadm: Could not execute operation on all records: invalid parameter\n",
            7,
        ),
    ),
    Purpose(
        name="a number with a tail",
        reason="the peer stores 12 for 12abc",
        before="n -o new -T iqn.x:t -p 10.0.0.1,1",
        command="n -o update -n node.conn[0].timeo.noop_out_interval -v 12abc",
        peer=("", "", 0),
        ours=(
            "",
            "iscsiadm: unknown value format '12abc' for parameter name 'node.conn[0].timeo.noop_out_interval': "
            "it takes a number from 0 to 2147483647\n"
            "iscsiadm: Unknown parameter node.conn[0].timeo.noop_out_interval.\n"
            "iscsiadm: Could not execute operation on all records: invalid parameter\n",
            7,
        ),
    ),
    Purpose(
        name="a line break in a value",
        reason="the peer writes it into the record, where what follows is a setting of its own",
        before="n -o new -T iqn.x:t -p 10.0.0.1,1",
        command="n -o update -n node.session.auth.username -v 'a\\nnode.startup = automatic'",
        peer=("", "", 0),
        ours=(
            "",
            "iscsiadm: unknown value format 'a\\nnode.startup = automatic' for parameter name "
            "'node.session.auth.username': it takes text without control characters\n"
            "iscsiadm: Unknown parameter node.session.auth.username.\n"
            "iscsiadm: Could not execute operation on all records: invalid parameter\n",
            7,
        ),
    ),
    Purpose(
        name="a bracket that is not closed",
        reason="the peer forgets the portal and acts on every record",
        before="n -o new -T iqn.x:t -p 10.0.0.1,1",
        command="n -o delete -p '[fe80::1'",
        peer=("", "", 0),
        ours=("", "iscsiadm: arguments: invalid portal", 7),
    ),
    Purpose(
        name="a path for a target's name",
        reason="the peer writes outside its database (CVE-2026-44943)",
        command="n -o new -T ../../evil -p 10.0.0.1,1",
        peer=("New iSCSI node [tcp:[hw=,ip=,net_if=,iscsi_if=default] 10.0.0.1,3260,1 ../../evil] added\n", "", 0),
        ours=("", "iscsiadm: database: target name", 7),
    ),
)


@pytest.mark.parametrize("case", ON_PURPOSE, ids=lambda case: case.name)
def test_what_differs_on_purpose(
    case: Purpose, peer_admin: Program, our_admin: Program, tree: Path, sysfs: Path
) -> None:
    case.check(peer_admin, our_admin, tree=tree, sysfs=sysfs)
