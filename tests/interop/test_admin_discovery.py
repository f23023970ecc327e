# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-m discovery`` and ``-m discoverydb``: open-iscsi's iscsiadm and ours, the same commands, the same targets.

Both run in namespaces with the same scripted targets beside them. They print the same, exit with the same status and
leave the same files, except for what :data:`OVERLOOKED` names; what differs on purpose has tests of its own below, with
the words of both.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.doubles.peers import TargetSpec, account, free_port
from tests.doubles.sysfs_tree import SysfsTree
from tests.doubles.tgt import TGTD, Tgtd
from tests.interop.peer_admin import Outcome, Program, Result, materialize, run, unavailable
from tests.unit.admin.discovery_kit import Machine

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

OVERLOOKED = {
    "the line behind a failure": re.compile(rb"^iscsiadm: (?:connect|login|discovery): .*; next: .*$"),
    "what the peer says about its module loader": re.compile(rb"^(libkmod: ERROR |iscsiadm: Could not insert module )"),
    "redirects, which are no failure": re.compile(rb"^iscsiadm: discovery login \w+ redirected "),
}  # fmt: skip
"""Lines of stderr that one of the two has alone, and why."""

CHAP = "discovery.sendtargets.auth"
CONF = "discovery.sendtargets.reopen_max = 1\ndiscovery.sendtargets.timeo.login_timeout = 2\n"
CONF += "discovery.sendtargets.timeo.active_timeout = 2\ndiscovery.sendtargets.timeo.auth_timeout = 2\n"
ONE_WAY = f"{CHAP}.authmethod = CHAP\n{CHAP}.username = user\n{CHAP}.password = secretsecret12\n"
PROOF = f"{CHAP}.username_in = target\n{CHAP}.password_in = othersecret123\n"


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A machine with the software transport and no session."""
    return SysfsTree(tmp_path / "sys").root


def tree(tmp_path: Path, conf: str = "") -> Path:
    root = tmp_path / "iscsi"
    root.mkdir()
    (root / "iscsid.conf").write_text(CONF + conf)
    (root / "initiatorname.iscsi").write_text("InitiatorName=iqn.2004-01.com.example:me\n")
    return root


def script(text: str) -> list[list[str]]:
    """One command for each line: ``d`` is discovery mode, ``st`` a SendTargets run of it, ``db`` discoverydb mode.

    A portal ``@NAME`` is the scripted target of that name, see :mod:`tests.interop.discovery_child`.
    """
    modes = {
        "d": ["-m", "discovery"],
        "st": ["-m", "discovery", "-t", "st", "-p"],
        "db": ["-m", "discoverydb"],
        "n": ["-m", "node"],
        "i": ["-m", "iface"],
    }
    commands = []
    for line in filter(str.strip, text.splitlines()):
        first, *rest = shlex.split(line)
        commands.append(modes[first] + [f"127.0.0.1:{word}" if word.startswith("@") else word for word in rest])
    return commands


def words(result: Result) -> tuple[list[bytes], list[bytes], int]:
    """stdout, stderr without what is overlooked, status. Lists of directories have no order."""
    err = [line for line in result.stderr.splitlines() if not any(row.match(line) for row in OVERLOOKED.values())]
    out = result.stdout.splitlines()
    return (sorted(out) if "-t" not in result.argv else out), err, result.status


def files(outcome: Outcome) -> dict[str, tuple[str, str, str]]:
    """Files and links; what is ours alone has a folder of its own."""
    found = {name: entry for name, entry in outcome.tree.items() if entry[0] != "folder"}
    return {name: entry for name, entry in found.items() if not name.startswith(".iscsiboot/")}


def compare(
    peer: Program, ours: Program, text: str, root: Path, sysfs: Path, scenarios: str = "", *, tree: bool = True
) -> Outcome:
    """Run the script with both; AssertionError shows the first command that differs, or the files that do."""
    commands, served = script(text), scenarios.split()
    theirs = run(peer, commands, tree=root, sysfs=sysfs, daemon=0, scenarios=served)
    mine = run(ours, commands, tree=root, sysfs=sysfs, scenarios=served)
    for one, other in zip(theirs.results, mine.results, strict=True):
        assert words(one) == words(other), f"peer:\n{one.shown()}\nours:\n{other.shown()}"
    if tree:
        assert files(mine) == files(theirs)
    return mine


# Records of servers, and arguments.


def test_records(peer_admin: Program, our_admin: Program, tmp_path: Path, sysfs: Path) -> None:
    text = """
d
d -P 1
d -P 5
d -o new
d -o nonpersistent
d -p 10.0.0.9
d -p 10.0.0.9 -D
d -t st
d -t isns
d -t bogus
d -t slp
d -t fw
db
db -o new
db -p 10.0.0.9
db -p 10.0.0.9 -o show
db -t st
db -t st -p 10.0.0.9
db -t st -p 10.0.0.9 -o update
db -t st -p 10.0.0.9 -o delete
db -t st -p 10.0.0.1 -o new
db -t st -p 10.0.0.1 -o new
db -t st -p 10.0.0.1:3261,7 -o new
db -t st -p [fd00::1]:3262 -o new
db -t st -p fd00::2 -o new
db -t st -p disks.example:3263 -o new
db -t isns -p 10.0.0.2 -o new
db -t st -p 10.0.0.1
db -t isns -p 10.0.0.2
db -t st -p 10.0.0.1 -o update
db -t st -p 10.0.0.1 -o update -n discovery.sendtargets.reopen_max -v 3
db -t st -p 10.0.0.1 -o update -n discovery.sendtargets.address -v x
db -t st -p 10.0.0.1 -o update -n discovery.sendtargets.port -v 1
db -t st -p 10.0.0.1 -o update -n discovery.type -v isns
db -t st -p 10.0.0.1 -o update -n discovery.bogus -v 1
db -t st -p 10.0.0.1 -o update -n discovery.startup -v bogus
db -t st -p 10.0.0.1 -o update -n node.session.auth.chap_algs -v SHA1,MD5,MD5,foo
db -t st -p 10.0.0.1 -o update -n discovery.sendtargets.auth.username -v me -n discovery.sendtargets.auth.password -v x
db -t isns -p 10.0.0.2 -o update -n discovery.isns.use_discoveryd -v Yes
db -t isns -p 10.0.0.2 -o update -n discovery.sendtargets.reopen_max -v 1
db -t st -p 10.0.0.1
db -t st -p 10.0.0.1 -S
d -p 10.0.0.1 -S
d -p 10.0.0.1 -o new
d -p 10.0.0.1 -o nonpersistent
db -t st -p 10.0.0.1 -o update -n discovery.sendtargets.auth.password -v ''
db -t st -p 10.0.0.1 -o apply
db -t st -p 10.0.0.1 -l
db -t fw
db -t slp -p 10.0.0.1
d
db -P 1
db -t isns -p 10.0.0.2 -o delete
db -t st -p 10.0.0.1 -o delete
d -p [fd00::1]:3262 -o delete
db
"""
    compare(peer_admin, our_admin, text, tree(tmp_path), sysfs)


# Discoveries.

I1 = "i -I i1 -o new\n"
TWICE = "st @two\nst @two -P 1\nst @two -P 2\n"


@pytest.mark.parametrize(
    ("scenarios", "text"),
    [
        ("two", f"{TWICE}d\nd -P 1\nn\nn -P 1\nd -p @two -D\nd -p @two -o delete\nd\nn"),
        ("two", "st @two,1 -P 0\nst localhost:@two\nd\nd -P 1"),
        ("two", "st @two -o nonpersistent\nd\nn\nst @two -o show\nn\nst @two -o apply\nn"),
        ("two", f"{I1}i -I i2 -o new\ni -I i2 -o update -n iface.net_ifacename -v lo\nst @two -P 1\nd -P 1"),
        ("two", f"{I1}st @two\nst @two -I default\nst @two -I i1 -I default\nn -P 1"),
        ("two", "st @two -I nosuch\nd\nst @two -I nosuch -I default"),
        ("two", "db -t st -p @two -D\nd\nn\ndb -t st -p @two -D -P 1\ndb -t st -p @two -o delete\nn"),
        ("two", "db -t st -p @two -D -o nonpersistent\nd\nn\ndb -t st -p @two -D -o update\nn"),
        ("zoned", "st [fe80::77%v0]:@zoned -P 1\nd\nd -P 1\nd -p [fe80::77%v0]:@zoned -o delete\nn"),
        ("bare", "st @bare\nst localhost:@bare -o new\nn\nd -P 1"),
        ("names", "st @names\nn\nd -P 1"),
        ("none", "st @none\nd\nst @none -o nonpersistent"),
        ("many", "st @many\nn"),
        ("pieces", "st @pieces\nn"),
        ("changing", "st @changing\nst @changing -o new\nn\nst @changing -o delete\nn"),
        ("changing", "st @changing\nst @changing -o delete\nn\nst @changing -o update\nn"),
        ("changing", "st @changing\nst @changing -o new -o delete\nn\nst @changing\nn"),
        ("changing", "st @changing\nst localhost:@changing -o new\nd -P 1\nst localhost:@changing -o update\nd -P 1"),
    ],
    ids=[
        *("plain", "name", "nothing-kept", "ifaces", "chosen", "nosuch", "discoverydb", "discoverydb-o", "zone"),
        "bare",
        *("names", "none", "many", "pieces", "new", "delete", "both", "two-servers"),
    ],
)  # fmt: skip
def test_discoveries(
    peer_admin: Program, our_admin: Program, tmp_path: Path, sysfs: Path, scenarios: str, text: str
) -> None:
    compare(peer_admin, our_admin, text, tree(tmp_path), sysfs, scenarios)


@pytest.mark.parametrize(
    "scenario",
    ["refused", "hole", "closing", "silent", "garbage", "deaf", "cut", "s20", "s21", "s22", "s23", "s30", "s31"],
)
def test_failures(peer_admin: Program, our_admin: Program, tmp_path: Path, sysfs: Path, scenario: str) -> None:
    """The same words as often, the same status, the record of the server left behind; and one line of ours behind."""
    mine = compare(peer_admin, our_admin, f"st @{scenario}\nd\nn", tree(tmp_path), sysfs, scenario)
    last = mine.results[0].stderr.decode().splitlines()[-1]
    assert "; next: " in last
    assert f"127.0.0.1:@{scenario}" in last


@pytest.mark.parametrize(
    "text",
    [
        "st disks.invalid\nd",
        f"{I1}i -I i1 -o update -n iface.net_ifacename -v nope0\nst @two -I i1",
        f"{I1}i -I i1 -o update -n iface.transport_name -v bnx2i\nst @two -I i1\nst @two",
    ],
    ids=["name", "netdev", "no-driver"],
)
def test_failures_before_a_connection(
    peer_admin: Program, our_admin: Program, tmp_path: Path, sysfs: Path, text: str
) -> None:
    compare(peer_admin, our_admin, text, tree(tmp_path), sysfs, "two")


@pytest.mark.parametrize(
    ("scenario", "conf"),
    [
        ("chap", ONE_WAY),
        ("chap", ONE_WAY.replace("CHAP", "None")),
        ("chap", ONE_WAY.replace("secretsecret12", "wrongsecret123")),
        ("chap", ""),
        ("chap", ONE_WAY.replace(f"{CHAP}.password = secretsecret12\n", "")),
        ("mutual", ONE_WAY),
        ("mutual", ONE_WAY + PROOF),
        ("two", ONE_WAY),
        ("two", PROOF),
        ("twin", ONE_WAY + PROOF.replace("othersecret123", "secretsecret12")),
        ("two", f"{CHAP}.username = user\n"),
        ("two", f"{CHAP}.password = secretsecret12\n"),
        ("chap", f"{CHAP}.password = secretsecret12\n"),
        ("two", f"{CHAP}.username_in = target\n"),
        ("mutual", f"{CHAP}.username = user\n{CHAP}.username_in = target\n"),
        ("mutual", f"{ONE_WAY}{CHAP}.username_in = target\n"),
        ("mutual", f"{ONE_WAY}{CHAP}.password_in = othersecret123\n"),
    ],
    ids=[
        *(
            "chap",
            "authmethod-none",
            "wrong",
            "missing",
            "half",
            "unasked-proof",
            "mutual",
            "unasked",
            "incoming-alone",
        ),
        "same",
        "name-unasked",
        "secret-unasked",
        "secret-alone",
        "incoming-name-alone",
        "names-alone",
        "no-incoming-secret",
        "no-incoming-name",
    ],
)
def test_chap(peer_admin: Program, our_admin: Program, tmp_path: Path, sysfs: Path, scenario: str, conf: str) -> None:
    compare(peer_admin, our_admin, f"st @{scenario}\nn", tree(tmp_path, conf), sysfs, scenario)


# What differs on purpose: both programs, and the words of each.


def both(peer: Program, ours: Program, text: str, root: Path, sysfs: Path, scenarios: str) -> tuple[Outcome, Outcome]:
    served = scenarios.split()
    theirs = run(peer, script(text), tree=root, sysfs=sysfs, daemon=0, scenarios=served)
    return theirs, run(ours, script(text), tree=root, sysfs=sysfs, scenarios=served)


def test_settings_are_kept_without_o(peer_admin: Program, our_admin: Program, tmp_path: Path, sysfs: Path) -> None:
    target = "iqn.2004-01.com.example:a"
    text = f"st @two\nn -T {target} -o update -n node.startup -v automatic\nst @two\n"
    theirs, mine = both(peer_admin, our_admin, f"{text}n -T {target}", tree(tmp_path), sysfs, "two")
    assert b"node.startup = manual\n" in theirs.results[-1].stdout
    assert b"node.startup = automatic\n" in mine.results[-1].stdout
    compare(peer_admin, our_admin, f"{text}st @two -o update", tmp_path / "iscsi", sysfs, "two")


def test_redirects_say_nothing(peer_admin: Program, our_admin: Program, tmp_path: Path, sysfs: Path) -> None:
    text = "st @redirect"
    theirs, mine = both(peer_admin, our_admin, text, tree(tmp_path), sysfs, "two redirect")
    assert theirs.results[0].stdout == mine.results[0].stdout
    assert b"redirected" in theirs.results[0].stderr
    assert mine.results[0].stderr == b""
    assert files(theirs) == files(mine)


def test_link_local_addresses_get_their_link(
    peer_admin: Program, our_admin: Program, tmp_path: Path, sysfs: Path
) -> None:
    """A target cannot know what we call our interfaces; without that name nobody can connect to what it says."""
    text = "st [fe80::77%v0]:@linklocal"
    theirs, mine = both(peer_admin, our_admin, text, tree(tmp_path), sysfs, "linklocal")
    target = b"iqn.2004-01.com.example:a\n"
    assert theirs.results[0].stdout == b"[fe80::77]:3260,1 " + target
    assert mine.results[0].stdout == b"[fe80::77%v0]:3260,1 " + target


def test_a_wrong_proof(peer_admin: Program, our_admin: Program, tmp_path: Path, sysfs: Path) -> None:
    """The peer also tells which part was wrong, in words that name no target; ours say it in the line behind."""
    root = tree(tmp_path, ONE_WAY + PROOF.replace("othersecret123", "wrongsecret123"))
    theirs, mine = both(peer_admin, our_admin, "st @mutual", root, sysfs, "mutual")
    assert theirs.results[0].status == mine.results[0].status == 19
    assert set(words(mine.results[0])[1]) <= set(words(theirs.results[0])[1])
    assert b"wrong secret" in mine.results[0].stderr


def test_each_reads_what_the_other_wrote(peer_admin: Program, our_admin: Program, tmp_path: Path, sysfs: Path) -> None:
    theirs, mine = both(peer_admin, our_admin, "st @two\nd -P 1\nn -P 1", tree(tmp_path), sysfs, "two")
    for outcome, other in ((theirs, our_admin), (mine, peer_admin)):
        # A port has to be a number again.
        numbered = {
            name.replace("@two", "3299"): (kind, mode, content.replace("@two", "3299"))
            for name, (kind, mode, content) in outcome.tree.items()
        }
        place = materialize(numbered, tmp_path / other.name)
        again = run(other, script("d -P 1\nn -P 1"), tree=place, sysfs=sysfs)
        for first, second in zip(outcome.results[1:], again.results, strict=True):
            assert [line.replace(b"@two", b"3299") for line in words(first)[0]] == words(second)[0]
            assert second.stderr == b""


# Ours against a target of the real world.


@pytest.mark.skipif(TGTD is None, reason="tgt is not installed")
@pytest.mark.parametrize("mutual", [False, True], ids=["chap", "mutual"])
def test_tgt_with_many_targets(tmp_path: Path, mutual: bool) -> None:
    """Tgt asks for CHAP in discovery sessions when it has an account for them."""
    machine = Machine(tmp_path)
    names = [f"iqn.2004-01.com.example:disk{number:03}" for number in range(60)]
    with Tgtd(*[TargetSpec(name=name) for name in names], port=free_port()) as target:
        line = f"-m discovery -t st -p {target.address}:{target.port}"
        assert machine(line).out.splitlines() == [f"127.0.0.1:{target.port},1 {name}" for name in names]
        user, prover = account(("user", "secretsecret12")), account(("prover", "othersecret123"))
        for chap, direction in ((user, []), (prover, ["--outgoing"])) if mutual else ((user, []),):
            secret = chap.secret.reveal().decode()
            base = ["--lld", "iscsi", "--mode", "account", "--op"]
            target.admin(*base, "new", "--user", chap.name, "--password", secret)
            target.admin(*base, "bind", "--user", chap.name, *direction)
        ran = machine(f"{line} -o new")
        assert ran.status == 24, ran.err
        values = {"auth__username": "user", "auth__password": "secretsecret12"}
        if mutual:
            values |= {"auth__username_in": "prover", "auth__password_in": "othersecret123"}
        machine.configure(**values)
        assert len(machine(line).out.splitlines()) == 60
        machine.configure(**(values | {"auth__password": "wrongsecret123"}))
        assert machine(line).status == 24
        assert len(machine.targets) == 60, "a failed discovery takes nothing away"
