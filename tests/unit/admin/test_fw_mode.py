# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-m fw`` and ``-t fw`` on a boot table as the kernel shows it.

What the table is printed as was compared with Debian's iscsiadm 2.1.8; tests/interop/test_admin_fw.py runs both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from iscsiboot.admin.context import Context
from iscsiboot.admin.options import Options
from iscsiboot.database.names import NodeKey
from iscsiboot.database.record import Record, iface_defaults
from tests.unit.admin.discovery_kit import Machine
from tests.unit.admin.json_documents import check
from tests.unit.firmware.trees import INITIATOR, NIC, TARGET

ONE, TWO = "iqn.2026-11.org.example:disk", "iqn.2026-11.org.example:second"
NAME = "iqn.2026-11.org.example:initiator"
CHAP = {
    "chap-type": "2\n",
    "chap-name": "user\n",
    "chap-secret": "secretsecret12\n",
    "rev-chap-name": "rev\n",
    "rev-chap-name-secret": "othersecret123\n",
}
NONE = "Could not get list of targets from firmware. (err 21)"


def show(machine: Machine, directory: str, values: Mapping[str, str], view: str = "ibft") -> None:
    """One structure of the kernel's view."""
    for name, text in values.items():
        path = machine.sysfs / "firmware" / view / directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    """A machine without a boot table."""
    return Machine(tmp_path)


@pytest.fixture
def machine(bare: Machine) -> Machine:
    """One that booted from the first of two targets, with mutual CHAP."""
    show(bare, "initiator", INITIATOR)
    show(bare, "ethernet0", NIC)
    show(bare, "target0", TARGET | CHAP)
    second = {"index": "1\n", "flags": "1\n", "target-name": f"{TWO}\n", "port": "3261\n", "ip-addr": "10.0.2.3\n"}
    show(bare, "target1", TARGET | second)
    return bare


def key(target: str, iface: str = "default") -> NodeKey:
    address, port = ("10.0.2.2", 3260) if target == ONE else ("10.0.2.3", 3261)
    return NodeKey(target, address, port, 1, iface)


# The table.


@pytest.mark.parametrize(
    ("devices", "shown"),
    [
        pytest.param({"eth0": "52:54:00:12:34:56"}, "iface.net_ifacename = eth0\n", id="one"),
        pytest.param({"eth0": "52:54:00:12:34:57", "lo": "00:00:00:00:00:00"}, "", id="none"),
        pytest.param({"bond0": "52:54:00:12:34:56", "eth0": "52:54:00:12:34:56"}, "", id="two"),
        pytest.param({}, "", id="no-network"),
    ],
)
def test_a_nic_without_a_pci_address_is_found_by_its_mac(machine: Machine, devices: dict[str, str], shown: str) -> None:
    for name, mac in devices.items():
        (machine.sysfs / "class/net" / name).mkdir(parents=True)
        (machine.sysfs / "class/net" / name / "address").write_text(f"{mac}\n")
    line = "".join(line for line in machine("-m fw").out.splitlines(keepends=True) if "net_ifacename" in line)
    assert line == shown * 2


def test_printing(machine: Machine) -> None:
    ran = machine("-m fw")
    assert (ran.status, ran.err) == (0, "")
    first, second = ran.out.split("# END RECORD\n")[:2]
    assert first == (
        "# BEGIN RECORD 2.1.8\n"
        f"iface.initiatorname = {NAME}\niface.transport_name = tcp\niface.hwaddress = 52:54:00:12:34:56\n"
        "iface.bootproto = STATIC\niface.ipaddress = 10.0.2.15\niface.prefix_len = 24\n"
        "iface.subnet_mask = 255.255.255.0\niface.vlan_id = 0\n"
        f"node.name = {ONE}\nnode.conn[0].address = 10.0.2.2\nnode.conn[0].port = 3260\n"
        "node.session.auth.username = user\nnode.session.auth.password = secretsecret12\n"
        "node.session.auth.username_in = rev\nnode.session.auth.password_in = othersecret123\n"
        "node.boot_lun = 01000000\n"
    )
    assert f"node.name = {TWO}\n" in second
    assert "auth" not in second


@pytest.mark.parametrize("options", ["-W", "-n bogus -v 1", "-d 0"])
def test_printing_whatever_else_is_given(machine: Machine, options: str) -> None:
    assert machine(f"-m fw {options}") == machine("-m fw")


def test_as_json(machine: Machine) -> None:
    objects = check(machine("-m fw --json").out)["objects"]
    assert [(item["target"], item["portal"]["port"]) for item in objects] == [(ONE, 3260), (TWO, 3261)]
    assert objects[0]["record"]["node.session.auth.username"] == "user"


@pytest.mark.parametrize(
    "mode", ["fw", "fw -l", "fw -l -W", "fw -l -n bogus -v 1", "discovery -t fw", "discoverydb -t fw -D"]
)
def test_without_a_table(bare: Machine, mode: str) -> None:
    """Dracut and udev ask every machine, so there is one line and no more."""
    ran = bare(f"-m {mode}")
    assert (ran.status, ran.out, ran.errors) == (21, "", [NONE])


@pytest.mark.parametrize("mode", ["fw", "discovery -t fw"])
def test_without_firmware_in_sysfs(bare: Machine, mode: str) -> None:
    (bare.sysfs / "firmware").rmdir()
    ran = bare(f"-m {mode}")
    assert (ran.status, ran.out) == (22, "")
    assert ran.errors == ["Could not get list of targets from firmware. (err 22)"]


def test_a_table_without_a_usable_target_says_why(machine: Machine) -> None:
    for target in ("target0", "target1"):
        (machine.sysfs / "firmware/ibft" / target / "target-name").write_text("../x\n")
    ran = machine("-m fw")
    assert (ran.status, ran.out) == (21, "")
    assert ran.errors[0] == NONE
    assert ran.errors[1].startswith("firmware: ")
    assert len(ran.errors) == 2


# Logins.


class Logins:
    """In place of the part that makes sessions."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.calls: list[tuple[NodeKey, Record, bool, tuple[str, str, str]]] = []
        self.summaries: set[str] = set()

    def __call__(
        self,
        pairs: Sequence[tuple[NodeKey, Record]],
        context: Context,
        options: Options,
        *,
        wait: bool,
        summary: str,
        boot: Mapping[NodeKey, tuple[str, str, str]],
    ) -> int:
        ((place, record),) = pairs
        self.calls.append((place, record, wait, boot[place]))
        self.summaries.add(summary)
        return self.codes.pop(0) if self.codes else 0


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> Logins:
    made = Logins()
    monkeypatch.setattr("iscsiboot.admin.login.login_nodes", made)
    return made


def values(record: Record, *names: str) -> list[str]:
    return [record.get(name) for name in names]


def test_logging_in(machine: Machine, logins: Logins) -> None:
    before = sorted(machine.iscsi.rglob("*"))
    ran = machine("-m fw -l")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert [(place, wait, boot) for place, _, wait, boot in logins.calls] == [
        (key(ONE), True, ("ibft", "ethernet0", "target0")),
        (key(TWO), True, ("ibft", "ethernet0", "target1")),
    ]
    assert logins.summaries == {""}, "the peer has no last line here"
    assert sorted(machine.iscsi.rglob("*")) == before, "nothing is stored"


def test_the_records_of_a_login(machine: Machine, logins: Logins) -> None:
    machine.configure(
        "node.session.auth.username = conf\nnode.session.auth.password = confsecret1234\n"
        "node.session.timeo.replacement_timeout = 77\nnode.conn[0].timeo.noop_out_interval = 9\n"
        "node.session.initial_login_retry_max = 3\nnode.session.scan = manual"
    )
    machine("-m fw -l")
    first, second = (record for _, record, _, _ in logins.calls)
    auth = ("username", "password", "username_in", "password_in")
    names = [f"node.session.auth.{name}" for name in auth]
    assert values(first, *names) == ["user", "secretsecret12", "rev", "othersecret123"]
    assert values(second, *names) == ["", "", "", ""], "iscsid.conf's secrets are for other targets"
    for record in (first, second):
        assert values(
            record,
            "iface.initiatorname",
            "node.session.timeo.replacement_timeout",
            "node.session.initial_login_retry_max",
            "node.conn[0].timeo.noop_out_interval",
            "node.conn[0].timeo.noop_out_timeout",
            "node.session.scan",
            "node.tpgt",
        ) == [NAME, "77", "30", "0", "0", "auto", "1"]


def test_values_of_the_command_line(machine: Machine, logins: Logins) -> None:
    pairs = (
        "-n node.session.scan -v manual -n node.conn[0].timeo.noop_out_interval -v 7 -n node.session.nr_sessions -v 2"
    )
    assert machine(f"-m fw -l {pairs} -n iface.initiatorname -v iqn.2004-01.com.example:o").status == 0
    for _, record, _, _ in logins.calls:
        assert values(
            record,
            "node.session.scan",
            "node.conn[0].timeo.noop_out_interval",
            "node.session.nr_sessions",
            "iface.initiatorname",
        ) == ["manual", "7", "2", "iqn.2004-01.com.example:o"]


def test_another_portal_by_the_command_line(machine: Machine, logins: Logins) -> None:
    """The record's place goes with its values, so that messages name what is logged in to."""
    machine("-m fw -l -n node.conn[0].address -v 10.9.9.9")
    assert [place.address for place, _, _, _ in logins.calls] == ["10.9.9.9"] * 2


IFACE = "Cannot override interface parameters for firmware logins"


@pytest.mark.parametrize(
    ("pairs", "lines"),
    [
        ("-n iface.hwaddress -v 1", [IFACE]),
        ("-n iface.net_ifacename -v eth0", [IFACE]),
        ("-n iface.transport_name -v tcp", [IFACE]),
        ("-n bogus -v 1", ["Unknown parameter bogus."]),
        (
            "-n node.startup -v bogus",
            ["unknown value format 'bogus' for parameter name 'node.startup'", "Unknown parameter node.startup."],
        ),
    ],
    ids=["hwaddress", "netdev", "transport", "name", "value"],
)
def test_values_that_cannot_be_used(machine: Machine, logins: Logins, pairs: str, lines: list[str]) -> None:
    ran = machine(f"-m fw -l -n node.session.nr_sessions -v 1 {pairs}")
    assert (ran.status, ran.out, ran.errors) == (7, "", [*lines, "Could not merge user params"])
    assert logins.calls == [], "nobody is logged in to with half of what was asked for"


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ("-n iface.hwaddress -v 1", "iface.hwaddress is what the machine was booted through; leave it out"),
        ("-n node.startupp -v 1", 'node records have no setting "node.startupp"; did you mean node.startup'),
        ("-n node.transport_name -v iser", "node.transport_name is what the machine was booted through; leave it out"),
        ("-n '' -v 1", 'node records have no setting ""; '),
        ("-n node.startup -v x", "node.startup takes manual, automatic or onboot; "),
    ],
)
def test_what_is_refused_is_explained_to_a_person(machine: Machine, logins: Logins, pair: str, told: str) -> None:
    ran = machine(f"-m fw -l -d 1 {pair}")
    assert ran.errors[-1].startswith(told)
    assert machine(f"-m fw -l {pair}").errors[-1] == "Could not merge user params"


def test_a_number_that_is_none_says_what_it_takes(machine: Machine, logins: Logins) -> None:
    ran = machine("-m fw -l -n node.session.nr_sessions -v many")
    assert ran.status == 7
    assert "number" in ran.errors[0]


def test_a_secret_stays_out_of_the_words(machine: Machine, logins: Logins) -> None:
    ran = machine(f"-m fw -l -n node.session.auth.password -v {'x' * 400}")
    assert ran.status == 7
    assert "xxx" not in ran.err


def test_not_waiting(machine: Machine, logins: Logins) -> None:
    assert machine("-m fw -l -W").status == 0
    assert [wait for _, _, wait, _ in logins.calls] == [False, False]


@pytest.mark.parametrize(
    ("codes", "status"),
    [
        ((0, 0), 0),
        ((15, 15), 0),
        ((15, 24), 24),
        ((24, 15), 24),
        ((8, 24), 8),
        ((0, 19), 19),
    ],
    ids=str,
)
def test_the_status_is_the_first_failure(machine: Machine, logins: Logins, codes: tuple[int, ...], status: int) -> None:
    """A session that is there is none: udev runs this for each target. dracut takes 7 for "-W is not known"."""
    logins.codes = list(codes)
    assert machine("-m fw -l").status == status
    assert len(logins.calls) == 2, "one that fails keeps no other from its turn"


def test_an_adapters_own_table(bare: Machine, logins: Logins) -> None:
    for directory, content in (("initiator", INITIATOR), ("ethernet0", NIC), ("target0", TARGET)):
        show(bare, directory, content, view="iscsi_boot3")
    bare("-m fw -l")
    assert [boot for _, _, _, boot in logins.calls] == [("iscsi_boot3", "ethernet0", "target0")]


# Discovery.


@pytest.mark.parametrize("line", ["discovery -t fw", "discovery -t fw -p 10.9.9.9", "discoverydb -t fw -D"])
def test_discovery(machine: Machine, line: str) -> None:
    ran = machine(f"-m {line}")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"10.0.2.2:3260,1 {ONE}\n10.0.2.3:3261,1 {TWO}\n"
    assert machine.database.node_keys() == [key(ONE), key(TWO)]
    assert machine.links == [f"fw/{ONE},10.0.2.2,3260,1,default", f"fw/{TWO},10.0.2.3,3261,1,default"]
    record = machine.record(key(ONE))
    assert values(record, "node.startup", "node.conn[0].startup", "node.discovery_type", "iface.initiatorname") == [
        "onboot",
        "onboot",
        "fw",
        NAME,
    ]
    assert values(record, "node.session.auth.username", "node.session.scan") == ["user", "auto"]
    assert f"FIRMWARE:\nTarget: {ONE}\n" in machine("-m discovery -P 1").out
    document = check(machine(f"-m {line} --json").out)
    assert {item["type"] for item in document["objects"]} == {"fw"}


def test_discovery_through_interfaces(machine: Machine) -> None:
    with machine.database.change() as change:
        change.put_iface(iface_defaults("i1"))
        change.put_iface(iface_defaults("hba").changed({"iface.transport_name": "bnx2i"}))
    assert machine("-m discovery -t fw").out.count("\n") == 2
    assert machine.database.node_keys() == [key(ONE, "i1"), key(TWO, "i1")]
    assert machine.record(key(ONE, "i1")).get("iface.initiatorname") == NAME
    ran = machine("-m discovery -t fw -I default -I i1 -P 1")
    assert ran.out.count("Iface Name: default") == ran.out.count("Iface Name: i1") == 2
    ran = machine("-m discovery -t fw -I nosuch")
    assert ran.status == 0
    assert len(ran.errors) == 1
    assert machine.database.node_keys() == [key(ONE), key(TWO)], "as the peer: the default one instead"


def test_discovery_again(machine: Machine) -> None:
    """Settings stay, what firmware knows is brought up to date, targets that are gone go."""
    machine("-m discovery -t fw")
    machine(f"-m node -T {ONE} -o update -n node.session.timeo.replacement_timeout -v 7 -n node.startup -v manual")
    (machine.sysfs / "firmware/ibft/target0/chap-secret").write_text("changedsecret1\n")
    for path in (machine.sysfs / "firmware/ibft/target1").iterdir():
        path.unlink()
    assert machine("-m discovery -t fw").status == 0
    assert machine.database.node_keys() == [key(ONE)]
    names = ("node.session.timeo.replacement_timeout", "node.startup", "node.session.auth.password")
    assert values(machine.record(key(ONE)), *names) == ["7", "manual", "changedsecret1"]
    machine("-m discovery -t fw -o update")
    assert values(machine.record(key(ONE)), *names) == ["120", "onboot", "changedsecret1"]


@pytest.mark.parametrize(("ops", "count"), [("nonpersistent", 0), ("delete", 0), ("show", 0), ("new", 2)])
def test_discovery_with_an_operation(machine: Machine, ops: str, count: int) -> None:
    ran = machine(f"-m discovery -t fw -o {ops}")
    assert (ran.status, ran.out.count("\n")) == (0, 2)
    assert len(machine.database.node_keys()) == count


def test_records_of_others_stay(machine: Machine) -> None:
    machine("-m node -o new -T iqn.2004-01.com.example:other -p 10.0.0.1:3260,1")
    machine("-m discovery -t fw")
    assert len(machine.database.node_keys()) == 3
