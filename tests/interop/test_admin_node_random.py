# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random commands of node and iface mode: open-iscsi's iscsiadm and ours say, answer and store the same after each.

The commands are right and wrong, and none is of the kind that differs on purpose (the tables ON_PURPOSE beside this).
A failure names its seed and shows the commands before it.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from tests.doubles.sysfs_tree import SysfsTree
from tests.interop.admin_compare import compare
from tests.interop.peer_admin import Program, unavailable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

TARGETS = ("iqn.x:a", "iqn.x:b", "iqn.2026-01.org.example:c,d")
PORTALS = ("10.0.0.1", "10.0.0.1:3261,2", "10.0.0.2,0", "[fe80::1]:3260,1", "fe80::2", "storage.example.org:99,7")
"""Each portal always with the same tag or always without: what both together mean depends on the file system."""
IFACES = ("default", "iser", "if0", "if1", "10.99.0.1:3260:pv0", "nobody")
NODE_PAIRS = (
    ("node.startup", "automatic"),
    ("node.startup", "onboot"),
    ("node.startup", "never"),
    ("node.leading_login", "Yes"),
    ("node.leading_login", "yes"),
    ("node.session.queue_depth", "64"),
    ("node.session.timeo.replacement_timeout", "-1"),
    ("node.session.auth.username", "a b"),
    ("node.session.auth.username", ""),
    ("node.session.auth.password", "secret = 1"),
    ("node.session.auth.chap_algs", "SHA256,MD5"),
    ("node.session.auth.chap_algs", "MD4,SHA1 SHA1"),
    ("node.session.scan", "manual"),
    ("node.conn[0].iscsi.DataDigest", "CRC32C,None"),
    ("node.conn[0].startup", "automatic"),
    ("node.transport_name", "iser"),
    ("iface.transport_name", "tcp"),
    ("iface.mtu", "1500"),
    ("node.name", "iqn.x:z"),
    ("node.session.nothing", "1"),
)
IFACE_PAIRS = (
    ("iface.initiatorname", "iqn.i"),
    ("iface.initiatorname", ""),
    ("iface.mtu", "9000"),
    ("iface.vlan_id", "7"),
    ("iface.ipaddress", "192.0.2.1"),
    ("iface.ipaddress", ""),
    ("iface.gateway", "192.0.2.254"),
    ("iface.state", "disable"),
    ("iface.iface_num", "3"),
)


def some(random: Random, option: str, values: tuple[str, ...], odds: float) -> list[str]:
    return [option, random.choice(values)] if random.random() < odds else []


def pairs(random: Random, choices: tuple[tuple[str, str], ...]) -> list[str]:
    return [
        word
        for name, text in random.choices(choices, k=random.choice((1, 1, 2, 3)))
        for word in ("-n", name, "-v", text)
    ]


def any_command(random: Random) -> list[str]:
    """A command of node or iface mode, right or wrong, none of :data:`ON_PURPOSE`."""
    pattern = some(random, "-T", TARGETS, 0.6) + some(random, "-p", PORTALS, 0.5) + some(random, "-I", IFACES, 0.2)
    place = ["-T", random.choice(TARGETS), "-p", random.choice(PORTALS), *some(random, "-I", IFACES, 0.4)]
    name = ["-I", random.choice(IFACES[2:])]
    kinds = (
        (6, ["-m", "node", "-o", "new", *place]),
        (4, ["-m", "node", *some(random, "-P", ("0", "1", "2"), 0.5)]),
        (3, ["-m", "node", *pattern]),
        (1, ["-m", "node", "-o", "show", "-S", *pattern]),
        (6, ["-m", "node", "-o", "update", *pattern, *pairs(random, NODE_PAIRS)]),
        (1, ["-m", "node", "-o", "delete", "-T", random.choice(TARGETS), *pattern]),
        (1, ["-m", "node", random.choice(("-R", "-s", "-u", "-U all")), *pattern]),
        (3, ["-m", "iface", "-o", "new", *name, *(pairs(random, IFACE_PAIRS) if random.random() < 0.5 else [])]),
        (3, ["-m", "iface", "-o", "update", *name, *pairs(random, IFACE_PAIRS)]),
        (1, ["-m", "iface", "-o", "delete", *name]),
        (2, ["-m", "iface", *some(random, "-P", ("0", "1", "2"), 0.5)]),
        (1, ["-m", "iface", "-I", random.choice(IFACES)]),
    )
    (command,) = random.choices([argv for _, argv in kinds], weights=[weight for weight, _ in kinds])
    return [word for part in command for word in (part.split() if part.startswith("-U") else [part])]


COMMANDS = 60
SEEDS = int(os.environ.get("ISCSIBOOT_ADMIN_SEEDS", "3"))
"""More for a long run; a failure names its seed."""


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_commands(seed: int, peer_admin: Program, our_admin: Program, tmp_path: Path) -> None:
    tree = tmp_path / "iscsi"
    tree.mkdir()
    (tree / "iscsid.conf").write_text("node.session.auth.password = not-so-secret\niface.mtu = 1400\n")
    machine = SysfsTree(tmp_path / "sys")
    machine.add_transport("iser")
    random = Random(seed)
    compare(peer_admin, our_admin, [any_command(random) for _ in range(COMMANDS)], tree=tree, sysfs=machine.root)
