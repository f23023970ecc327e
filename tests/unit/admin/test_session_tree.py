# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lines of ``-m session``, against what open-iscsi printed in a guest and on trees like these."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.admin.session_state import states
from iscsiboot.admin.session_tree import flat_lines, shown, tree_lines, version_lines
from iscsiboot.sysfs.listing import SessionRow, list_rows
from tests.doubles.sysfs_tree import UNREADABLE, SysfsTree, Value, Values

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "sysfs"


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path)


def state_of(row: SessionRow) -> tuple[str, str]:
    return states(row.state, row.connection_state)


def flat(tree: SysfsTree) -> list[str]:
    return flat_lines(list_rows(str(tree)))


def lines(tree: SysfsTree, level: int = 3, *, reveal: bool = False) -> list[str]:
    return tree_lines(list_rows(str(tree)), str(tree), level, state_of, reveal=reveal)


def values(tree: SysfsTree, *, level: int = 3, reveal: bool = False) -> dict[str, str]:
    """The lines of one session that have a name, by name; a later one of the same name replaces an earlier."""
    parts = (line.strip().partition(": ") for line in lines(tree, level, reveal=reveal))
    return {name: value for name, sign, value in parts if sign}


def recorded(name: str) -> str:
    return (VECTORS / name).read_text()


@pytest.fixture
def three(tree: SysfsTree) -> SysfsTree:
    """The sessions of tests/vectors/sysfs/three-sessions*.txt."""
    disks = iter("abcdefghi")
    for sid, target in ((1, "a"), (2, "b"), (3, "a")):
        portal = {"port": "56803", "persistent_port": "56803"}
        tree.add_session(sid, targetname=f"iqn.2026-01.org.example:{target}", initial_r2t="1", connection=portal)
        for lun in (0, 1, 2, 10):
            block = f"sd{next(disks)}" if lun else None
            tree.add_unit(sid, lun, block=block, partitions=2)
    return tree


def test_flat_list_of_a_real_machine(three: SysfsTree) -> None:
    assert "\n".join(flat(three)) + "\n" == recorded("three-sessions.txt")


def test_tree_of_a_real_machine(three: SysfsTree) -> None:
    # The kernel names disks as it finds them; there LUN 2 came before LUN 10, as here.
    found = [*version_lines("2.0-870"), *lines(three)]
    assert "\n".join(found) + "\n" == recorded("three-sessions-P3.txt")


@pytest.mark.parametrize("level", [1, 2])
def test_a_lower_level_is_the_upper_part_of_each_session(three: SysfsTree, level: int) -> None:
    end = {1: "Timeouts:", 2: "Attached SCSI devices:"}[level]
    expected: list[str] = []
    skipping = False
    for line in recorded("three-sessions-P3.txt").splitlines()[2:]:
        if line.strip() == end:
            # The stars above the heading have been taken already.
            expected.pop()
        skipping = (skipping or line.strip() == end) and not line.startswith("Target:")
        if not skipping:
            expected.append(line)
    assert lines(three, level) == expected


def test_tree_of_a_lost_connection(tree: SysfsTree) -> None:
    lost: Values = {
        "state": "failed",
        "address": UNREADABLE,
        "port": UNREADABLE,
        "persistent_port": "35707",
    }
    for sid, target in ((1, "a"), (2, "b")):
        tree.add_host(sid + 1, ipaddress=UNREADABLE)
        tree.add_session(sid, targetname=f"iqn.2026-01.org.example:{target}", state="FAILED", connection=lost)
    assert "\n".join(lines(tree, 1)) + "\n" == recorded("recovery-P1.txt")


A, B = "iqn.2026-01.org.example:a", "iqn.2026-01.org.example:b"
P, Q = "10.0.0.1", "10.0.0.2"


@pytest.mark.parametrize(
    ("second", "heads"),
    [
        ((A, P, P), [""]),
        ((A, Q, P), [""]),
        ((A, P, Q), [f"\tCurrent Portal: {Q}:3260,1", f"\tPersistent Portal: {P}:3260,1"]),
        ((B, P, P), [f"Target: {B} (non-flash)", f"\tCurrent Portal: {P}:3260,1", f"\tPersistent Portal: {P}:3260,1"]),
    ],
    ids=["same", "other-persistent", "other-current", "other-target"],
)
def test_head_of_a_session_after_another(tree: SysfsTree, second: tuple[str, str, str], heads: list[str]) -> None:
    for sid, (target, persistent, current) in enumerate([(A, P, P), second], 1):
        tree.add_session(sid, targetname=target, connection={"persistent_address": persistent, "address": current})
    found = lines(tree, 1)
    start = found.index("\t\tInternal iscsid Session State: NO CHANGE") + 1
    assert found[start : found.index("\t\t**********", start)] == heads


def test_another_port_is_another_portal(tree: SysfsTree) -> None:
    for sid, port in ((1, "3260"), (2, "3261")):
        tree.add_session(sid, targetname=A, connection={"port": port})
    portals = [line for line in lines(tree, 1) if line.startswith("\tCurrent") or not line]
    assert portals == ["\tCurrent Portal: 10.0.2.2:3260,1", "\tCurrent Portal: 10.0.2.2:3261,1"]


def test_a_target_comes_again_after_another(tree: SysfsTree) -> None:
    for sid, target in enumerate([A, B, A], 1):
        tree.add_session(sid, targetname=target)
    heads = [line for line in lines(tree, 1) if line.startswith(("Target:", "\tCurrent")) or not line]
    assert heads == [
        f"Target: {A} (non-flash)",
        "\tCurrent Portal: 10.0.2.2:3260,1",
        f"Target: {B} (non-flash)",
        "\tCurrent Portal: 10.0.2.2:3260,1",
        f"Target: {A} (non-flash)",
        "\tCurrent Portal: 10.0.2.2:3260,1",
    ]


@pytest.mark.parametrize(
    ("address", "portal"),
    [
        ("10.0.0.1", "10.0.0.1:3260,1"),
        ("2001:db8::1", "[2001:db8::1]:3260,1"),
        ("fe80::1%eth0", "[fe80::1%eth0]:3260,1"),
        ("storage", "[storage]:3260,1"),
        ("storage.example.org", "storage.example.org:3260,1"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1:3260,1"),
        ("", "[]:3260,1"),
    ],
)
def test_brackets_are_for_what_has_no_dot(tree: SysfsTree, address: str, portal: str) -> None:
    tree.add_session(1, connection={"persistent_address": address, "address": address})
    assert flat(tree) == [f"tcp: [1] {portal} iqn.2026-01.org.example:kernel (non-flash)"]
    assert values(tree)["Current Portal"] == values(tree)["Persistent Portal"] == portal


def test_client_4_the_line_ends_in_a_word_after_the_target(tree: SysfsTree) -> None:
    """Proxmox's expression, which needs one more word behind the name; libvirt and OCF take it with or without."""
    import re

    tree.add_session(1, connection={"persistent_address": "2001:db8::1"})
    tree.add_session(2, creator="-1", tpgt="257")
    proxmox = re.compile(r"^tcp:\s+\[(\S+)\]\s+((?:\[[0-9a-fA-F:]+\]|[0-9.]+):\d+),(\d+)\s+(\S+)\s+\S+?\s*$")
    found = [proxmox.match(line) for line in flat(tree)]
    assert [match.groups() for match in found if match] == [
        ("1", "[2001:db8::1]:3260", "1", "iqn.2026-01.org.example:kernel"),
        ("2", "10.0.2.2:3260", "257", "iqn.2026-01.org.example:kernel"),
    ]
    assert flat(tree)[1].endswith(" (flash)")


def test_client_15_the_rows_are_what_programs_read_from_sysfs(tree: SysfsTree) -> None:
    """kubelet, libvirt, vdsm, multipath and udev read these attributes; the list says the same of each session."""
    portal = {"persistent_address": P, "persistent_port": "3261", "address": Q, "port": "3262"}
    tree.add_session(
        7, host=9, targetname=A, tpgt="5", ifacename="10.99.0.1:3260:pv0", initiatorname=B, connection=portal
    )
    (row,) = list_rows(str(tree))
    view, connection = tree.view_path(7), tree.root / "class/iscsi_connection/connection7:0"
    read = {name: (view / name).read_text().strip() for name in ("targetname", "tpgt", "ifacename", "initiatorname")}
    assert read == {
        "targetname": row.target,
        "tpgt": str(row.tpgt),
        "ifacename": row.iface_name,
        "initiatorname": row.initiator_name,
    }
    named = {"address": row.address, "port": row.port}
    named |= {"persistent_address": row.persistent_address, "persistent_port": row.persistent_port}
    assert {name: (connection / name).read_text().strip() for name in named} == {
        name: str(value) for name, value in named.items()
    }
    assert values(tree)["Iface Name"] == "10.99.0.1:3260:pv0"
    assert values(tree)["Iface Initiatorname"] == B


@pytest.mark.parametrize(
    ("host", "session", "expected"),
    [
        ({}, {}, {"Iface Name": "default", "Iface HWaddress": "default", "Iface Netdev": "default"}),
        ({"netdev": "eth1"}, {"ifacename": "iface0"}, {"Iface Name": "iface0", "Iface Netdev": "eth1"}),
        (
            {"hwaddress": "02:00:00:00:00:01"},
            {"ifacename": "iface0"},
            {"Iface Name": "tcp.02:00:00:00:00:01.ipv4.0", "Iface HWaddress": "02:00:00:00:00:01"},
        ),
        (
            {"hwaddress": "02:00:00:00:00:01", "ipaddress": "2001:db8::2"},
            {},
            {"Iface Name": "tcp.02:00:00:00:00:01.ipv6.0", "Iface IPaddress": "[2001:db8::2]"},
        ),
        ({"ipaddress": "(null)"}, {}, {"Iface IPaddress": "[default]"}),
        ({"initiatorname": "(null)"}, {"initiatorname": None}, {"Iface Initiatorname": "<empty>"}),
    ],
    ids=["nothing", "netdev", "mac", "mac-v6", "no-address", "no-initiator"],
)
def test_interface(
    tree: SysfsTree, host: dict[str, Value], session: dict[str, Value], expected: dict[str, str]
) -> None:
    tree.add_host(2, scsi=None, parent="platform", bare=False, **host)
    tree.add_session(1, host=2, connection={}, **session)
    assert values(tree).items() >= expected.items()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"recovery_tmo": "off"}, {"Recovery Timeout": "-1"}),
        ({"recovery_tmo": None}, {"Recovery Timeout": "-1"}),
        ({"recovery_tmo": "0"}, {"Recovery Timeout": "0"}),
        ({"tgt_reset_tmo": None}, {"Target Reset Timeout": "<empty>", "LUN Reset Timeout": "30"}),
        ({"lu_reset_tmo": "-1"}, {"LUN Reset Timeout": "<empty>"}),
        ({"abort_tmo": UNREADABLE}, {"Abort Timeout": "<empty>"}),
        ({"immediate_data": "0", "initial_r2t": "1"}, {"ImmediateData": "No", "InitialR2T": "Yes"}),
        ({"state": None}, {"iSCSI Session State": "Unknown", "iSCSI Connection State": "Unknown"}),
        ({"username": "me", "username_in": "it"}, {"username": "me", "username_in": "it"}),
        ({"username": "(null)"}, {"username": "<empty>", "password": "********", "password_in": "********"}),
    ],
)
def test_values_of_a_session(tree: SysfsTree, changes: dict[str, Value], expected: dict[str, str]) -> None:
    tree.add_session(1, host=2, connection={}, **changes)
    assert values(tree).items() >= expected.items()


@pytest.mark.parametrize(("text", "word"), [("0", "None"), ("1", "CRC32C"), ("2", "CRC32C")])
def test_digests(tree: SysfsTree, text: str, word: str) -> None:
    tree.add_session(1, connection={"header_digest": text, "data_digest": text})
    assert (values(tree)["HeaderDigest"], values(tree)["DataDigest"]) == (word, word)


def test_what_was_not_negotiated_has_no_line(tree: SysfsTree) -> None:
    names = ("first_burst_len", "max_burst_len", "immediate_data", "max_outstanding_r2t")
    connection: Values = {
        "max_recv_dlength": "-1",
        **dict.fromkeys(("header_digest", "data_digest", "max_xmit_dlength")),
    }
    tree.add_session(1, host=2, connection=connection, **{"initial_r2t": "(null)", **dict.fromkeys(names)})
    found = lines(tree, 2)
    assert found[-2:] == ["\t\tNegotiated iSCSI params:", "\t\t************************"]


def test_secrets_stay_hidden_until_they_are_asked_for(tree: SysfsTree) -> None:
    tree.add_session(1, username="u", password="first secret", username_in="v", password_in="second secret")
    assert "secret" not in "\n".join(lines(tree))
    start = lines(tree, reveal=True).index("\t\tusername: u")
    assert lines(tree, reveal=True)[start : start + 4] == [
        "\t\tusername: u",
        "\t\tpassword: first secret",
        "\t\tusername_in: v",
        "\t\tpassword: second secret",
    ]


def test_secrets_that_are_not_there(tree: SysfsTree) -> None:
    tree.add_session(1)
    assert lines(tree).count("\t\tpassword: ********") == 1
    assert lines(tree, reveal=True).count("\t\tpassword: <empty>") == 2


@pytest.mark.parametrize("state", ["running", "blocked", "offline", "transport-offline", "quiesce", "created"])
def test_states_of_disks(tree: SysfsTree, state: str) -> None:
    tree.add_session(1)
    tree.add_unit(1, 1, block="sda", partitions=3, state=state)
    assert lines(tree)[-2:] == [
        "\t\tscsi2 Channel 00 Id 0 Lun: 1",
        f"\t\t\tAttached scsi disk sda\t\tState: {state}",
    ]


def test_host_and_disk_without_state(tree: SysfsTree) -> None:
    tree.add_host(2, scsi={"state": "(null)"})
    tree.add_session(1)
    tree.add_unit(1, 1, block="sda", state=None)
    tree.add_unit(1, 2)
    assert lines(tree)[-4:] == [
        "\t\tHost Number: 2\tState: Unknown",
        "\t\tscsi2 Channel 00 Id 0 Lun: 1",
        "\t\t\tAttached scsi disk sda\t\tState: Unknown",
        "\t\tscsi2 Channel 00 Id 0 Lun: 2",
    ]


def test_a_transport_without_name(tree: SysfsTree) -> None:
    tree.add_host(2, scsi={"proc_name": "(null)"})
    tree.add_session(1)
    assert flat(tree)[0].startswith("<empty>: [1] ")
    assert values(tree)["Iface Transport"] == "<empty>"


@pytest.mark.parametrize(("version", "count"), [("2.0-870", 2), ("", 0), (None, 0)])
def test_versions_stand_above_or_not_at_all(version: str | None, count: int) -> None:
    expected = ["iSCSI Transport Class version 2.0-870", "version 2.1.8"][:count]
    assert version_lines(version) == expected


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("iqn.2026-01.org.example:disk", "iqn.2026-01.org.example:disk"),
        ("schön", "schön"),
        ("\udcff", "\udcff"),
        ("\udc9b[31m", "\\udc9b[31m"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nTarget: b", "a\\nTarget: b"),
        ("\x7f\x85\x9f\0", "\\x7f\\x85\\x9f\\x00"),
        ("a\u2028b\u202eb", "a\\u2028b\\u202eb"),
    ],
)
def test_control_characters_are_shown_as_such(text: str, safe: str) -> None:
    assert shown(text) == safe


def test_no_attribute_can_move_the_cursor_or_end_a_line(tree: SysfsTree) -> None:
    evil = "x\x1b]0;y\x07\nTarget: z"
    names = ("targetname", "ifacename", "initiatorname", "state", "username", "password", "username_in", "password_in")
    host = dict.fromkeys(("hwaddress", "ipaddress", "netdev"), evil)
    tree.add_host(2, scsi={"state": evil, "proc_name": "evil\r"}, parent="platform", bare=False, **host)
    tree.add_session(
        1,
        host=2,
        connection=dict.fromkeys(("address", "persistent_address", "state"), evil),
        **dict.fromkeys(names, evil),
    )
    tree.add_unit(1, 1, block="sda", state=evil)
    for line in [*flat(tree), *lines(tree, reveal=True), *version_lines(evil)]:
        assert not set(line) & {"\x1b", "\x07", "\n"}


def test_sessions_that_went_away_leave_no_gap(tree: SysfsTree) -> None:
    for sid in (1, 2, 3):
        tree.add_session(sid)
    rows = list_rows(str(tree))
    expected = [line.replace("SID: 2", "SID: 3") for line in tree_lines(rows[:2], str(tree), 3, state_of, reveal=False)]
    expected = [line.replace("Host Number: 3", "Host Number: 4") for line in expected]
    tree.remove_session(2)
    assert tree_lines(rows, str(tree), 3, state_of, reveal=False) == expected
    tree.remove_session(1)
    tree.remove_session(3)
    assert tree_lines(rows, str(tree), 3, state_of, reveal=False) == []
