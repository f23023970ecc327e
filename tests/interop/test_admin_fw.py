# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-m fw`` and ``-t fw``: open-iscsi's iscsiadm and ours on the same boot table in sysfs.

What differs on purpose has tests of its own below: records from firmware are ``onboot`` (as in open-iscsi since
2.1.11), and a login that fails is the status of ``-m fw -l``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doubles.sysfs_tree import SysfsTree
from tests.interop.peer_admin import Program, Result, run, unavailable
from tests.unit.firmware.trees import INITIATOR, NIC, TARGET

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

CHAP = {"chap-type": "1\n", "chap-name": "user\n", "chap-secret": "secretsecret12\n"}
MUTUAL = CHAP | {"chap-type": "2\n", "rev-chap-name": "rev\n", "rev-chap-name-secret": "othersecret123\n"}
DHCP = {"origin": "3\n", "dhcp": "10.0.2.2\n", "gateway": "10.0.2.2\n", "primary-dns": "10.0.2.3\n"}
SECOND = {"index": "1\n", "flags": "1\n", "target-name": "iqn.2026-11.org.example:second\n", "port": "3261\n"}
PLAIN: dict[str, dict[str, str]] = {"initiator": INITIATOR, "ethernet0": NIC, "target0": TARGET}
DRIVERS = tuple(
    b"iscsiadm: Could not " + words for words in (b"get driver ", b"read proc_name for host", b"get transport for host")
)
"""What the peer says about drivers it asks for the NIC's name and the adapter's; ours needs neither for a table."""


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A machine with the software transport and no session."""
    root = SysfsTree(tmp_path / "sys").root
    (root / "firmware").mkdir(parents=True, exist_ok=True)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "iscsi"
    root.mkdir()
    (root / "iscsid.conf").write_text("node.session.timeo.replacement_timeout = 77\n")
    (root / "initiatorname.iscsi").write_text("InitiatorName=iqn.2004-01.com.example:me\n")
    return root


def show(sysfs: Path, table: dict[str, dict[str, str]], view: str = "ibft") -> None:
    """A boot table as the kernel shows it."""
    for directory, values in table.items():
        place = sysfs / "firmware" / view / directory
        place.mkdir(parents=True)
        for name, text in values.items():
            (place / name).write_text(text)


def words(result: Result) -> tuple[bytes, list[bytes], int]:
    err = [line for line in result.stderr.splitlines() if not line.startswith(DRIVERS)]
    return result.stdout, err, result.status


@pytest.mark.parametrize(
    "table",
    [
        PLAIN,
        PLAIN | {"target0": TARGET | CHAP},
        PLAIN | {"target0": TARGET | MUTUAL},
        PLAIN | {"ethernet0": NIC | DHCP | {"secondary-dns": "8.8.8.8\n"}},
        PLAIN | {"ethernet0": NIC | {"vlan": "7\n"}},
        PLAIN | {"ethernet0": NIC | {"prefix-len": "22\n", "subnet-mask": "255.255.252.0\n"}},
        PLAIN | {"target0": TARGET | {"port": "860\n", "lun": "00000000\n"}},
        {},
    ],
    ids=["plain", "chap", "mutual", "dhcp", "vlan", "prefix", "port-and-lun", "none"],
)
@pytest.mark.parametrize("view", ["ibft", "iscsi_boot0"])
def test_printing(
    peer_admin: Program, our_admin: Program, sysfs: Path, table: dict[str, dict[str, str]], view: str
) -> None:
    show(sysfs, table, view)
    commands = [["-m", "fw"], ["-m", "fw", "-W"], ["-m", "fw", "-n", "bogus", "-v", "1"]]
    theirs = run(peer_admin, commands, sysfs=sysfs, daemon=0)
    mine = run(our_admin, commands, sysfs=sysfs)
    assert [words(result) for result in mine.results] == [words(result) for result in theirs.results]


def test_two_targets(peer_admin: Program, our_admin: Program, sysfs: Path) -> None:
    """The peer takes directories as they come, ours by number."""
    show(sysfs, PLAIN | {"target1": TARGET | SECOND})
    (theirs,) = run(peer_admin, [["-m", "fw"]], sysfs=sysfs, daemon=0).results
    (mine,) = run(our_admin, [["-m", "fw"]], sysfs=sysfs).results
    records = [set(out.split(b"# END RECORD\n")) for out in (theirs.stdout, mine.stdout)]
    assert records[0] == records[1]
    assert len(records[0]) == 3


def test_without_firmware(peer_admin: Program, our_admin: Program, sysfs: Path) -> None:
    (sysfs / "firmware").rmdir()
    commands = [["-m", "fw"], ["-m", "fw", "-l", "-W"], ["-m", "discovery", "-t", "fw"]]
    theirs = run(peer_admin, commands, sysfs=sysfs, daemon=0)
    mine = run(our_admin, commands, sysfs=sysfs)
    assert [words(result) for result in mine.results] == [words(result) for result in theirs.results]
    assert [result.status for result in mine.results] == [22, 22, 22]


BAD_PARAMETERS = [
    ["-n", "bogus", "-v", "1"],
    ["-n", "iface.hwaddress", "-v", "1"],
    ["-n", "iface.net_ifacename", "-v", "1"],
    ["-n", "node.startup", "-v", "bogus"],
]


@pytest.mark.parametrize("options", [["-I", "default"], ["-P", "1"], ["-o", "show"], *BAD_PARAMETERS], ids=" ".join)
def test_arguments(peer_admin: Program, our_admin: Program, sysfs: Path, options: list[str]) -> None:
    show(sysfs, PLAIN)
    commands = [["-m", "fw", "-l", *options]]
    theirs = run(peer_admin, commands, sysfs=sysfs, daemon=0)
    mine = run(our_admin, commands, sysfs=sysfs)
    assert [words(result) for result in mine.results] == [words(result) for result in theirs.results]


@pytest.mark.parametrize(
    "mode", [["-m", "discovery", "-t", "fw"], ["-m", "discoverydb", "-t", "fw", "-D"]], ids=["d", "db"]
)
def test_discovery(peer_admin: Program, our_admin: Program, sysfs: Path, tree: Path, mode: list[str]) -> None:
    show(sysfs, PLAIN | {"target0": TARGET | MUTUAL})
    commands = [
        mode,
        [*mode, "-P", "1"],
        [*mode, "-P", "2"],
        ["-m", "discovery"],
        ["-m", "discovery", "-P", "1"],
        ["-m", "node"],
        [*mode, "-o", "nonpersistent"],
        [*mode, "-o", "new"],
        [*mode, "-I", "nosuch"],
        ["-m", "iface", "-I", "i1", "-o", "new"],
        [*mode, "-P", "1"],
        ["-m", "node", "-P", "1"],
        [*mode, "-I", "default", "-o", "new"],
        ["-m", "node", "-P", "1"],
    ]
    theirs = run(peer_admin, commands, tree=tree, sysfs=sysfs, daemon=0)
    mine = run(our_admin, commands, tree=tree, sysfs=sysfs)
    for one, other in zip(theirs.results, mine.results, strict=True):
        assert words(one) == words(other), f"peer:\n{one.shown()}\nours:\n{other.shown()}"
    files = [
        {name: entry for name, entry in outcome.tree.items() if entry[0] != "folder" and ".iscsiboot" not in name}
        for outcome in (theirs, mine)
    ]
    assert files[0].keys() == files[1].keys()
    for name, (kind, mode_bits, content) in files[0].items():
        if name.startswith("nodes/"):
            assert "startup = manual\n" in content
            content = content.replace("startup = manual\n", "startup = onboot\n")
        assert files[1][name] == (kind, mode_bits, content), name


def test_the_status_of_a_login(peer_admin: Program, our_admin: Program, sysfs: Path) -> None:
    """Without a kernel that knows iSCSI ours cannot log in and says so; the peer's status is 0 whatever happens."""
    show(sysfs, PLAIN)
    commands = [["-m", "fw", "-l"]]
    (theirs,) = run(peer_admin, commands, sysfs=sysfs, daemon=24).results
    (mine,) = run(our_admin, commands, sysfs=sysfs).results
    line = (
        b"iscsiadm: Could not login to [iface: default, target: iqn.2026-11.org.example:disk, portal: 10.0.2.2,3260]."
    )
    assert theirs.stdout == mine.stdout
    assert theirs.stdout.startswith(b"Logging in to [iface: default, ")
    assert line in theirs.stderr.splitlines()
    assert line in mine.stderr.splitlines()
    assert (theirs.status, mine.status) == (0, 12)
    assert b"Could not log into all portals" not in theirs.stderr + mine.stderr
