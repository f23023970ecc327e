# SPDX-License-Identifier: LGPL-2.1-or-later
"""-L and -U: which records and sessions, in which turns. Engines are replaced by lists of what they were given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from iscsiboot.database.names import NodeKey
from iscsiboot.database.record import Record
from iscsiboot.sysfs.listing import SessionRow
from tests.unit.admin.records_kit import Machine

LEADING = "Could not log into all portals on {}, trying next interface"


class Engines:
    """What login and logout were asked for; logins to ``works`` make a session, others fail with ``status``."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.logins: list[tuple[list[str], str, bool]] = []
        self.logouts: list[list[int]] = []
        self.works: set[str] | None = None
        self.status = 8
        self._sid = 100

    def login(
        self,
        pairs: Sequence[tuple[NodeKey, Record]],
        context: object,
        options: object,
        *,
        wait: bool = True,
        summary: str = "Could not log into all portals",
    ) -> int:
        names = [f"{key.target}@{key.address}/{key.iface}" for key, _ in pairs]
        self.logins.append((names, summary, wait))
        failed = False
        for name, (key, _) in zip(names, pairs, strict=True):
            if self.works is None or name in self.works:
                self._sid += 1
                self.machine.session(self._sid, key.target, key.address, port=key.port, iface=key.iface)
            else:
                failed = True
        return self.status if failed else 0

    def logout(self, rows: Sequence[SessionRow], context: object, options: object) -> int:
        self.logouts.append([row.sid for row in rows])
        return 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    for name in ("if0", "if1"):
        made.good(f"-m iface -o new -I {name}")
    return made


@pytest.fixture
def engines(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Engines:
    made = Engines(machine)
    monkeypatch.setattr("iscsiboot.admin.login.login_nodes", made.login)
    monkeypatch.setattr("iscsiboot.admin.logout.logout_sessions", made.logout)
    return made


def add(machine: Machine, target: str, address: str = "10.0.0.1", iface: str = "default", **settings: str) -> None:
    machine.good(f"-m node -o new -T {target} -p {address},1 -I {iface}")
    for name, value in settings.items():
        key = {"startup": "node.startup", "conn": "node.conn[0].startup", "leading": "node.leading_login"}[name]
        machine.good(f"-m node -T {target} -p {address} -I {iface} -o update -n {key} -v {value}")


@pytest.mark.parametrize(
    ("word", "targets"),
    [
        ("all", ["a", "b", "c", "d"]),
        ("manual", ["a", "c"]),
        ("automatic", ["b", "c"]),
        ("onboot", ["d"]),
    ],
)
def test_either_of_two_settings_says_when_a_record_is_meant(
    word: str, targets: list[str], machine: Machine, engines: Engines
) -> None:
    add(machine, "iqn.x:a")
    add(machine, "iqn.x:b", startup="automatic", conn="automatic")
    add(machine, "iqn.x:c", conn="automatic")
    add(machine, "iqn.x:d", startup="onboot", conn="onboot")
    assert machine.run(f"-m node -L {word}").status == 0
    assert engines.logins == [
        ([f"iqn.x:{name}@10.0.0.1/default" for name in targets], "Could not log into all portals", True)
    ]


@pytest.mark.parametrize("word", ["", "ALL", "onboots", "all "])
def test_a_word_nobody_knows(word: str, machine: Machine, engines: Engines) -> None:
    answer = machine.run(f"-m node -L '{word}'")
    assert answer.status == 7
    assert answer.err == (f"iscsiadm: Invalid loginall option {word}.\nTry `iscsiadm --help' for more information.\n")
    assert engines.logins == []


def test_logoutall_takes_no_onboot(machine: Machine, engines: Engines) -> None:
    assert machine.run("-m node -U onboot").status == 7
    assert engines.logouts == []


def test_nothing_to_log_in_to(machine: Machine, engines: Engines) -> None:
    answer = machine.run("-m node -L automatic")
    assert (answer.err, answer.status) == ("iscsiadm: No records found\n", 21)


def test_the_status_is_the_engines(machine: Machine, engines: Engines) -> None:
    add(machine, "iqn.x:a")
    engines.works = set()
    engines.status = 24
    assert machine.run("-m node -L all").status == 24


def test_without_waiting_only_ordinary_logins_are_left_behind(machine: Machine, engines: Engines) -> None:
    add(machine, "iqn.x:a")
    add(machine, "iqn.x:b", iface="if0", leading="Yes")
    assert machine.run("-m node -L all -W").status == 0
    assert [wait for _, _, wait in engines.logins] == [False, True]


def test_leading_logins_come_last_and_stop_at_the_first_interface_that_works(
    machine: Machine, engines: Engines
) -> None:
    for iface in ("if0", "if1"):
        add(machine, "iqn.x:b", iface=iface, leading="Yes")
    add(machine, "iqn.x:a")
    assert machine.run("-m node -L all").status == 0
    assert [names for names, _, _ in engines.logins] == [["iqn.x:a@10.0.0.1/default"], ["iqn.x:b@10.0.0.1/if0"]]


def test_the_next_interface_is_tried_where_one_failed(machine: Machine, engines: Engines) -> None:
    for iface in ("if0", "if1"):
        add(machine, "iqn.x:b", iface=iface, leading="Yes")
        add(machine, "iqn.x:c", iface=iface, leading="Yes")
    engines.works = {"iqn.x:b@10.0.0.1/if0", "iqn.x:c@10.0.0.1/if1"}
    answer = machine.run("-m node -L all")
    assert (answer.err, answer.status) == ("", 0)
    assert engines.logins == [
        (["iqn.x:b@10.0.0.1/if0", "iqn.x:c@10.0.0.1/if0"], LEADING.format("if0"), True),
        (["iqn.x:c@10.0.0.1/if1"], LEADING.format("if1"), True),
    ]


def test_a_portal_nobody_reaches_is_19_unless_something_failed_before(machine: Machine, engines: Engines) -> None:
    add(machine, "iqn.x:b", iface="if0", leading="Yes")
    engines.works = set()
    answer = machine.run("-m node -L all")
    assert (answer.err, answer.status) == ("iscsiadm: Could not login all leading-login portals\n", 19)
    add(machine, "iqn.x:a")
    assert machine.run("-m node -L all").status == 8


def test_a_portal_with_a_session_through_any_interface_is_served(machine: Machine, engines: Engines) -> None:
    add(machine, "iqn.x:b", iface="if0", leading="Yes")
    add(machine, "iqn.x:b", "10.0.0.2", iface="if0", leading="Yes")
    machine.session(1, "iqn.x:b", "10.0.0.1", iface="if9")
    assert machine.run("-m node -L all").status == 0
    assert [names for names, _, _ in engines.logins] == [["iqn.x:b@10.0.0.2/if0"]]


def test_the_interface_without_a_file_leads_too(machine: Machine, engines: Engines) -> None:
    """The peer tries stored interfaces alone, and can never log in to this record."""
    add(machine, "iqn.x:b", leading="Yes")
    assert machine.run("-m node -L all").status == 0
    assert [names for names, _, _ in engines.logins] == [["iqn.x:b@10.0.0.1/default"]]


def firmware(machine: Machine, target: str) -> None:
    """Let a record say that it came from firmware."""
    path = machine.root / "nodes" / target / "10.0.0.1,3260,1" / "default"
    path.write_text(path.read_text().replace("node.discovery_type = static", "node.discovery_type = fw"))


def test_which_sessions_end(machine: Machine, engines: Engines) -> None:
    for sid, name in enumerate("abcdefg", 1):
        machine.session(sid, f"iqn.x:{name}")
    add(machine, "iqn.x:a")
    add(machine, "iqn.x:b", startup="automatic", conn="automatic")
    add(machine, "iqn.x:c", startup="onboot")
    add(machine, "iqn.x:d")
    firmware(machine, "iqn.x:d")
    machine.good("-m node -o new -T iqn.x:e -p 10.0.0.1,2")
    machine.good("-m node -o new -T iqn.x:f -p 10.0.0.1")
    assert machine.run("-m node -U all").status == 0
    assert machine.run("-m node -U manual").status == 0
    assert machine.run("-m node -U automatic").status == 0
    assert engines.logouts == [[1, 2, 6], [1, 6], [2]]


def test_a_record_of_another_transport_is_not_the_sessions(machine: Machine, engines: Engines) -> None:
    add(machine, "iqn.x:a")
    machine.good("-m node -T iqn.x:a -o update -n iface.transport_name -v iser")
    machine.session(1, "iqn.x:a")
    answer = machine.run("-m node -U all")
    assert (answer.err, answer.status) == ("iscsiadm: No matching sessions found\n", 21)


def test_a_session_without_a_record_is_left_alone(machine: Machine, engines: Engines) -> None:
    machine.session(1, "iqn.x:a")
    assert machine.run("-m node -U all").status == 21
    assert engines.logouts == []
