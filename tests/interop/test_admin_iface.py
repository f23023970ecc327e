# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-m iface``: open-iscsi's iscsiadm and ours run the same scripts on equal trees and say, answer and store the same.

What a comparison overlooks is in :mod:`tests.interop.admin_compare`; what differs on purpose is in :data:`ON_PURPOSE`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.sysfs_tree import SysfsTree, write
from tests.interop.admin_compare import Purpose, compare, script
from tests.interop.peer_admin import Program, run, unavailable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An /etc/iscsi with an empty configuration."""
    root = tmp_path / "iscsi"
    root.mkdir()
    (root / "iscsid.conf").write_text("# nothing set\n")
    return root


@pytest.fixture
def sysfs(tmp_path: Path) -> SysfsTree:
    """A machine with both software transports and no session."""
    made = SysfsTree(tmp_path / "sys")
    made.add_transport("iser")
    return made


LONGEST = "i" * 64

SCRIPTS = {
    "lists": f"""
        i
        i -P 0
        i -P 1
        i -P 2
        i -P x
        i -o show
        i -I default
        i -I iser
        i -I nothing
        i -I default -o show
        i -P 1 -I nothing
        i -P 2 -I nothing
        i -o new -I if1 -n iface.hwaddress -v 00:11:22:33:44:55
        i -o new -I 10.99.0.1:3260:pv0 -n iface.initiatorname -v iqn.2026-01.org.example:other
        i -o new -I {LONGEST}
        i -o new -I {LONGEST}x
        i -o new -I ''
        i -o new -I 'a b'
        i -o new -I ipv6x
        i
        i -I if1
        i -I 10.99.0.1:3260:pv0 -o show
        i -I {LONGEST}
        i -I 'a b'
        i -I ipv6x
        i -I if1 -I default
        i -C chap -I if1
        i -C nothing -I if1
        i -H 3
        i stray words
    """,
    "users": """
        i -o new -I if0
        n -o new -T iqn.x:t -p 10.0.0.1,1 -I if0
        n -o new -T iqn.x:t -p 10.0.0.2,1 -I if0
        n -o new -T iqn.x:u -p fe80::1,1 -I if0
        n -o new -T iqn.x:t -p 10.0.0.1,1
        n -o new -T iqn.x:t -p 10.0.0.3 -I iser
        i -P 1
        i -P 1 -I if0
        i -P 1 -I default
        i -P 1 -I nothing
        i -P 1 -o show
    """,
    "new": """
        i -o new
        i -o new -n iface.mtu -v 3
        i -o new -I default
        i -o new -I iser
        i -o new -I if0
        i -o new -I if0 -n iface.mtu -v 9000 -n iface.initiatorname -v iqn.a
        i -o new -I if0
        i -o new -I if3 -n iface.transport_name -v cxgb3i
        i -o new -I if5 -n iface.hwaddress -v 00:11:22:33:44:55 -n iface.net_ifacename -v eth0
        i
    """,
    "update": """
        i -o new -I if0
        i -o new -I if1 -n iface.hwaddress -v 00:11:22:33:44:55
        n -o new -T iqn.x:t -p 10.0.0.1,1 -I if0
        n -o new -T iqn.x:t -p 10.0.0.2 -I if0
        n -o new -T iqn.x:t -p 10.0.0.1,1
        i -o update
        i -o update -I if0
        i -o update -I if0 -n iface.mtu
        i -o update -n iface.mtu -v 3
        i -o update -I nothing -n iface.mtu -v 9000
        i -o update -I if0 -n iface.mtu -v 9000
        i -o update -I if0 -n iface.net_ifacename -v eth0 -n iface.vlan_id -v 7
        i -o update -I if0 -n iface.initiatorname -v iqn.b
        i -I if0
        n -o show
        i -o update -I if0 -n iface.initiatorname -v ''
        i -o update -I if1 -n iface.transport_name -v bogus
        i -o update -I if1 -n iface.transport_name -v tcp
        i -o update -I if0 -n iface.ipaddress -v 1.2.3.4 -n iface.gateway -v 1.1.1.1
        i
        n -o show
    """,
    "IP versions": """
        i -o new -I ipv6x
        i -o update -I ipv6x -n iface.ipv6_router -v fe80::1
        i -I ipv6x
        i -o update -I ipv6x -n iface.ipaddress -v fe80::1
        n -o new -T iqn.x:t -p 10.0.0.1,1 -I ipv6x
        n -I ipv6x
        i -o new -I dhcp -n iface.bootproto -v dhcp
        i -o update -I dhcp -n iface.ipaddress -v fe80::1
        i -o update -I dhcp -n iface.gateway -v 1.1.1.1
        i -I dhcp
    """,
    "delete": """
        i -o new -I if0
        i -o new -I if1
        n -o new -T iqn.x:t -p 10.0.0.1,1 -I if0
        n -o new -T iqn.x:t -p 10.0.0.2 -I if0
        n -o new -T iqn.x:t -p 10.0.0.1,1 -I if1
        i -o delete
        i -o delete -I nothing
        i -o delete -I iser
        i -o delete -I if0
        n -P 1
        i
        i -o delete -o update -I if1
        i -o login -I if1
        i -o nonpersistent -I if1
        i -o delete -I if1 -I if0
        i
    """,
    "apply": """
        i -o new -I if0 -n iface.mtu -v 9000
        i -o apply
        i -o apply -I nothing
        i -o apply -I if0
        i -o apply -I default
        i -o applyall
        i -o applyall -H 0
        i -o applyall -H 5
        i -o applyall -I if0
        i -o apply -o applyall
    """,
    "ping": """
        i -C ping
        i -C ping -I default
        i -C ping -I nothing -a 127.0.0.1
        i -C ping -I default -a 127.0.0.1 -b 0
        i -C ping -I default -a 127.0.0.1 -b -1
        i -C ping -I default -a 127.0.0.1 -c 0
        i -C ping -I default -a 127.0.0.1 -i -1
        i -C ping -I default -a no.such.host.invalid
        i -C ping -I default -a ''
        i -C ping -I default -a 10.0.0.1:3260
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(name: str, peer_admin: Program, our_admin: Program, tree: Path, sysfs: SysfsTree) -> None:
    compare(peer_admin, our_admin, script(SCRIPTS[name]), tree=tree, sysfs=sysfs.root)


def test_interfaces_that_sessions_use(peer_admin: Program, our_admin: Program, tree: Path, sysfs: SysfsTree) -> None:
    portal = {"address": "10.0.0.1", "port": "3260", "persistent_address": "10.0.0.1", "persistent_port": "3260"}
    sysfs.add_session(1, targetname="iqn.x:b", tpgt="1", ifacename="if0", connection=portal)
    sysfs.add_session(2, targetname="iqn.x:c", tpgt="1", ifacename="default", connection=portal)
    commands = script(
        """
        i -o new -I if0
        i -o new -I if0
        i -o new -I default
        i -o new -I if1
        n -o new -T iqn.x:b -p 10.0.0.1,1 -I if0
        n -o new -T iqn.x:b -p 10.0.0.2,1 -I if0
        i -o update -I if0 -n iface.mtu -v 3
        i -o delete -I if0
        i
        n -P 1
        """
    )
    compare(peer_admin, our_admin, commands, tree=tree, sysfs=sysfs.root)


def offload_machine(sysfs: SysfsTree) -> None:
    """Two adapters whose driver shows network interfaces, one whose driver shows none, one host of software iSCSI."""
    for name in ("qla4xxx", "be2iscsi", "bnx2i"):
        sysfs.add_transport(name)
    sysfs.add_host(3)
    sysfs.add_host(
        7, scsi={"proc_name": "qla4xxx"}, hwaddress="00:0e:1e:04:8b:2e", ipaddress="192.168.1.5", initiatorname="iqn.q"
    )
    sysfs.add_host(
        8,
        scsi={"proc_name": "bnx2i"},
        hwaddress="00:10:18:aa:bb:cc",
        ipaddress="0.0.0.0",
        netdev="eth4",
        initiatorname="",
    )
    sysfs.add_host(9, scsi={"proc_name": "be2iscsi"}, hwaddress="00:90:fa:11:22:33", ipaddress="10.1.1.1")
    add_interface(
        sysfs, "ipv4-iface-7-0", ipaddress="192.168.1.5", subnet="255.255.255.0", gateway="192.168.1.1",
        bootproto="static", enabled="true", mtu="1500", port="3260", vlan_id="0", vlan_priority="0",
        vlan_enabled="disabled", tos="3", tcp_nagle_disable="disable", first_burst_len="8192",
    )  # fmt: skip
    add_interface(
        sysfs, "ipv6-iface-7-1", ipaddress="fe80::5", link_local_addr="fe80::5", router_addr="::", router_state="auto",
        ipaddr_autocfg="nd", link_local_autocfg="auto", enabled="true", mtu="1500", hop_limit="64",
    )  # fmt: skip
    for number in (0, 1):
        add_interface(
            sysfs, f"ipv4-iface-9-{number}", ipaddress="10.1.1.1", bootproto="dhcp", enabled="true", mtu="9000",
            vlan_id="3", vlan_priority="1", vlan_enabled="enabled", dhcp_vendor_id="v",
        )  # fmt: skip


def add_interface(sysfs: SysfsTree, name: str, **attributes: str) -> None:
    """What an offload driver shows of one of its network interfaces, by class and below its host."""
    host = name.split("-")[2]
    device = sysfs.root / "devices" / "platform" / f"host{host}"
    write(device / "iscsi_iface" / name, attributes)
    sysfs._classify(device / "iscsi_iface" / name, "iscsi_iface", device=device)


OFFLOAD = {
    "records are made": """
        i
        i
        i -I qla4xxx.00:0e:1e:04:8b:2e.ipv4.0
        i -I qla4xxx.00:0e:1e:04:8b:2e.ipv6.1
        i -I bnx2i.00:10:18:aa:bb:cc.ipv4.0
        i -o apply -I bnx2i.00:10:18:aa:bb:cc
        i
        n -o new -T iqn.x:t -p 10.0.0.1,1 -I be2iscsi.00:90:fa:11:22:33.ipv4.0
        i -P 1
    """,
    "records are edited": """
        i -o update -I qla4xxx.00:0e:1e:04:8b:2e.ipv4.0 -n iface.mtu -v 9000
        i -o update -I qla4xxx.00:0e:1e:04:8b:2e.ipv6.1 -n iface.hop_limit -v 9
        i -o delete -I bnx2i.00:10:18:aa:bb:cc.ipv4.0
        i -I qla4xxx.00:0e:1e:04:8b:2e.ipv4.0
        i -I qla4xxx.00:0e:1e:04:8b:2e.ipv6.1
    """,
    "one VLAN for a port": """
        i
        i -o update -I be2iscsi.00:90:fa:11:22:33.ipv4.0 -n iface.vlan_id -v 9 -n iface.mtu -v 1500
        i -o update -I be2iscsi.00:90:fa:11:22:33.ipv4.0 -n iface.mtu -v 1400
        i -o update -I be2iscsi.00:90:fa:11:22:33.ipv4.0 -n iface.vlan_state -v disable
    """,
}


@pytest.mark.parametrize("name", OFFLOAD)
def test_adapters(name: str, peer_admin: Program, our_admin: Program, tree: Path, sysfs: SysfsTree) -> None:
    offload_machine(sysfs)
    compare(peer_admin, our_admin, script(OFFLOAD[name]), tree=tree, sysfs=sysfs.root)


REFUSED = "the peer says what it refuses and exits with 0, so that a script goes on with another binding than it set"
ON_PURPOSE = (
    Purpose(
        name="a refused update",
        reason=REFUSED,
        before="i -o new -I if0",
        command="i -o update -I if0 -n iface.nothing -v 1",
        peer=(
            "",
            "iscsiadm: Cannot modify iface.nothing. Invalid param name.\n"
            "iscsiadm: Could not update iface if0: invalid parameter\n",
            0,
        ),
        ours=(
            "",
            "iscsiadm: Cannot modify iface.nothing. Invalid param name.\n"
            "iscsiadm: Could not update iface if0: invalid parameter\n",
            7,
        ),
    ),
    Purpose(
        name="an interface without its settings",
        reason="the peer makes it without the settings it refused, and says that it was added",
        command="i -o new -I if0 -n iface.mtu -v 9000 -n iface.nothing -v 1",
        peer=(
            "New interface if0 added\n",
            "iscsiadm: Cannot modify iface.nothing. Invalid param name.\n"
            "iscsiadm: Could not update iface if0: invalid parameter\n",
            0,
        ),
        ours=(
            "",
            "iscsiadm: Cannot modify iface.nothing. Invalid param name.\n"
            "iscsiadm: Could not update iface if0: invalid parameter\n"
            "iscsiadm: Could not create new interface if0.\n",
            7,
        ),
    ),
    Purpose(
        name="a number that does not fit",
        reason="the peer stores what is left of it in 16 bits, here 24464",
        before="i -o new -I if0",
        command="i -o update -I if0 -n iface.mtu -v 90000",
        peer=("if0 updated.\n", "", 0),
        ours=(
            "",
            "iscsiadm: unknown value format '90000' for parameter name 'iface.mtu': it takes a number from 0 to 65535\n"
            "iscsiadm: Could not update iface if0: invalid parameter\n",
            7,
        ),
    ),
    Purpose(
        name="an IPv6 address under another name",
        reason="the peer's command writes a file its own library cannot read, and every list of interfaces fails",
        before="i -o new -I v6 -n iface.ipaddress -v fe80::7",
        command="i",
        peer=("", "iSCSI ERROR: Unknown parameter name iface.dup_addr_detect_cnt ", 7),
        ours=(
            "v6 tcp,<empty>,fe80::7,<empty>,<empty>\n"
            "default tcp,<empty>,<empty>,<empty>,<empty>\n"
            "iser iser,<empty>,<empty>,<empty>,<empty>\n",
            "",
            0,
        ),
    ),
    Purpose(
        name="a new transport",
        reason="the peer changes the interface and not the records bound to it, which no command finds by it any more",
        before="i -o new -I if0\nn -o new -T iqn.x:t -p 10.0.0.1,1 -I if0\n"
        "i -o update -I if0 -n iface.transport_name -v iser",
        command="n -I if0 -o update -n node.startup -v automatic",
        peer=("", "iscsiadm: No records found\n", 21),
        ours=("", "", 0),
    ),
    Purpose(
        name="the records of default",
        reason="the peer deletes them all before it says that default cannot be deleted",
        before="n -o new -T iqn.x:t -p 10.0.0.1,1\ni -o delete -I default",
        command="n",
        peer=("", "iscsiadm: No records found\n", 21),
        ours=("10.0.0.1:3260,1 iqn.x:t\n", "", 0),
    ),
    Purpose(
        name="an interface outside its folder",
        reason="the peer writes wherever the name leads",
        command="i -o new -I ../evil",
        peer=("../evil updated.\nNew interface ../evil added\n", "", 0),
        ours=("", "iscsiadm: database: interface name", 7),
    ),
    Purpose(
        name="a driver that cannot be loaded",
        reason="the peer tries to load it, with the words of the module loader in front",
        before="i -o new -I if0 -n iface.transport_name -v bogus",
        command="i -o update -I if0 -n iface.mtu -v 3",
        peer=("", "libkmod: ERROR ", 7),
        ours=("", "iscsiadm: Cound not locate transport for iface if0\n", 7),
    ),
    Purpose(
        name="a network to configure",
        reason="configuring an adapter is not supported; without a kernel's answer the peer has none either",
        before="i -o new -I if0 -n iface.ipaddress -v 1.2.3.4",
        command="i -o apply -I if0",
        peer=("", "iscsiadm: can not create NETLINK_ISCSI socket", 1),
        ours=("", "iscsiadm: Could not apply net configuration: operation not supported\n", 1),
    ),
    Purpose(
        name="a ping",
        reason="no software driver knows it: that is what the kernel says to the peer, and said here without asking",
        command="i -C ping -I default -a 127.0.0.1 -c 2",
        peer=(
            "Ping 1 failed: unknown error\nPing 2 failed: unknown error\n",
            "iscsiadm: can not create NETLINK_ISCSI socket",
            1,
        ),
        ours=("Ping 1 failed: operation not supported\nPing 2 failed: operation not supported\n", "", 27),
    ),
)


@pytest.mark.parametrize("case", ON_PURPOSE, ids=lambda case: case.name)
def test_what_differs_on_purpose(
    case: Purpose, peer_admin: Program, our_admin: Program, tree: Path, sysfs: SysfsTree
) -> None:
    case.check(peer_admin, our_admin, tree=tree, sysfs=sysfs.root)


def test_a_host_of_software_iscsi_makes_no_interface(
    peer_admin: Program, our_admin: Program, tree: Path, sysfs: SysfsTree
) -> None:
    """A session bound to a MAC address has such a host; the peer stores a record for it that nothing can use."""
    sysfs.add_host(3, hwaddress="00:0e:1e:04:8b:2e")
    (theirs,) = run(peer_admin, [["-m", "iface"]], tree=tree, sysfs=sysfs.root).results
    (mine,) = run(our_admin, [["-m", "iface"]], tree=tree, sysfs=sysfs.root).results
    assert theirs.stdout.endswith(mine.stdout)
    assert theirs.stdout.startswith(b"tcp.00:0e:1e:04:8b:2e.ipv4.0 ")


def test_a_node_record_keeps_its_settings_of_ipv6(
    peer_admin: Program, our_admin: Program, tree: Path, sysfs: SysfsTree
) -> None:
    """The peer reads a node record as one of IPv4 when it changes it, and loses what belongs to IPv6."""
    commands = script(
        """
        i -o new -I ipv6x -n iface.hop_limit -v 7
        n -o new -T iqn.x:t -p 10.0.0.1,1 -I ipv6x
        n -o update -n node.startup -v automatic
        """
    )
    name = "nodes/iqn.x:t/10.0.0.1,3260,1/ipv6x"
    theirs = run(peer_admin, commands, tree=tree, sysfs=sysfs.root, daemon=0).tree[name][2]
    mine = run(our_admin, commands, tree=tree, sysfs=sysfs.root).tree[name][2]
    assert "iface.hop_limit = 7\n" in mine
    assert "iface.hop_limit = 7\n" not in theirs
