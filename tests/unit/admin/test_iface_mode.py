# SPDX-License-Identifier: LGPL-2.1-or-later
"""Interface mode on a database of its own. Its words are held against open-iscsi's in tests/interop."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.admin.iface_apply import has_settings
from iscsiboot.admin.iface_offload import BOTH, IPV4, IPV6
from iscsiboot.database.keys import BY_KIND
from iscsiboot.database.record import iface_defaults
from tests.doubles.sysfs_tree import write
from tests.unit.admin.json_documents import check
from tests.unit.admin.records_kit import Machine

MAC = "00:0e:1e:04:8b:2e"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def bound(machine: Machine) -> Machine:
    """Interface if0 with two node records, and one record of default."""
    machine.good("-m iface -o new -I if0")
    for place in ("iqn.x:a -p 10.0.0.1,1 -I if0", "iqn.x:a -p 10.0.0.2 -I if0", "iqn.x:a -p 10.0.0.1,1"):
        machine.good(f"-m node -o new -T {place}")
    return machine


def test_lists_say_empty_for_what_is_not_set(machine: Machine) -> None:
    machine.good("-m iface -o new -I if0 -n iface.hwaddress -v 00:11:22:33:44:55")
    assert machine.good("-m iface") == (
        "if0 tcp,00:11:22:33:44:55,<empty>,<empty>,<empty>\n"
        "default tcp,<empty>,<empty>,<empty>,<empty>\n"
        "iser iser,<empty>,<empty>,<empty>,<empty>\n"
    )


def test_looking_writes_nothing(machine: Machine) -> None:
    for line in ("-m iface", "-m iface -I default", "-m iface -P 1", "-m iface -o apply -I default"):
        machine.run(line)
    assert list(machine.root.iterdir()) == []


def test_an_interface_nobody_knows_is_the_librarys_failure(machine: Machine) -> None:
    answer = machine.run("-m iface -I nobody")
    assert (answer.out, answer.status) == ("", 6)
    path = machine.root / "ifaces/nobody"
    assert answer.err == f"iSCSI ERROR: Failed to open {path} using read mode: 2 No such file or directory\n"
    assert check(machine.run("-m iface -I nobody --json").out)["errors"][0]["text"].startswith("Failed to open")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../nodes", "a\nb"])
@pytest.mark.parametrize("operation", ["new", "update", "delete", "apply", "show"])
def test_no_name_leads_out_of_the_folder(name: str, operation: str, machine: Machine) -> None:
    answer = machine.run(f"-m iface -I '{name}' -o {operation} -n iface.mtu -v 9000")
    assert answer.status in (6, 7)
    assert answer.err
    assert [path for path in machine.root.rglob("*") if path.is_file()] == []


# New


def test_new_with_a_bad_setting_makes_nothing(machine: Machine) -> None:
    """The peer makes it, and says so, with status 0."""
    answer = machine.run("-m iface -o new -I if0 -n iface.nothing -v 1")
    assert (answer.out, answer.status) == ("", 7)
    assert answer.err == (
        "iscsiadm: Cannot modify iface.nothing. Invalid param name.\n"
        "iscsiadm: Could not update iface if0: invalid parameter\n"
        "iscsiadm: Could not create new interface if0.\n"
    )
    assert machine.database.iface_names() == []


def test_new_again_starts_from_nothing_and_nodes_keep_theirs(machine: Machine) -> None:
    bound(machine)
    machine.good("-m iface -o update -I if0 -n iface.mtu -v 9000")
    machine.good("-m iface -o new -I if0 -n iface.port -v 99")
    record = machine.database.read_iface("if0")
    assert record is not None
    assert (record.get("iface.mtu"), record.get("iface.port")) == ("0", "99")
    node = machine.record("iqn.x:a", address="10.0.0.1", iface="if0")
    assert (node.get("iface.mtu"), node.get("iface.port")) == ("9000", "99")


# Update


def test_update_reaches_every_node_record_and_no_other(machine: Machine) -> None:
    bound(machine)
    assert machine.good("-m iface -o update -I if0 -n iface.initiatorname -v iqn.i") == "if0 updated.\n"
    names = {key: record.get("iface.initiatorname") for key, record in machine.database.nodes()}
    assert [(key.iface, name) for key, name in names.items()] == [("default", ""), ("if0", "iqn.i"), ("if0", "iqn.i")]


def test_update_of_the_transport_reaches_the_nodes(machine: Machine) -> None:
    """In the peer they keep the old one, and no command finds them by their interface any more."""
    bound(machine)
    machine.good("-m iface -o update -I if0 -n iface.transport_name -v iser")
    assert machine.record("iqn.x:a", address="10.0.0.1", iface="if0").get("iface.transport_name") == "iser"
    machine.good("-m node -I if0 -o update -n node.startup -v automatic")


@pytest.mark.parametrize(
    ("pair", "line"),
    [
        ("iface.nothing -v 1", "Cannot modify iface.nothing. Invalid param name."),
        ("node.startup -v manual", "Cannot modify node.startup. Invalid param name."),
        ("iface.iscsi_ifacename -v x", "Can not update iface.iscsi_ifacename. Delete it, and then create a new one."),
        (
            "iface.mtu -v 70000",
            "unknown value format '70000' for parameter name 'iface.mtu': it takes a number from 0 to 65535",
        ),
        (
            "iface.mtu -v abc",
            "unknown value format 'abc' for parameter name 'iface.mtu': it takes a number from 0 to 65535",
        ),
        (
            "iface.hwaddress -v 00:11:22:33:44:55:66",
            "unknown value format '00:11:22:33:44:55:66' for parameter name 'iface.hwaddress': "
            "it takes text of at most 17 bytes",
        ),
        ("iface.hop_limit -v 3", "Cannot modify iface.hop_limit. Invalid param name."),
    ],
)
def test_a_bad_update_changes_nothing_and_is_a_failure(pair: str, line: str, machine: Machine) -> None:
    """The peer exits with 0 here; numbers it cannot read it stores as 0."""
    bound(machine)
    before = machine.good("-m iface -I if0") + machine.good("-m node -o show")
    answer = machine.run(f"-m iface -o update -I if0 -n iface.vlan_id -v 7 -n {pair}")
    assert (answer.out, answer.status) == ("", 7)
    assert answer.err == f"iscsiadm: {line}\niscsiadm: Could not update iface if0: invalid parameter\n"
    assert machine.good("-m iface -I if0") + machine.good("-m node -o show") == before


@pytest.mark.parametrize("name", ["default", "iser"])
def test_interfaces_without_a_file_cannot_be_changed(name: str, machine: Machine) -> None:
    answer = machine.run(f"-m iface -o update -I {name} -n iface.mtu -v 3")
    assert answer.status == 7
    assert answer.err == (
        f"iscsiadm: iface {name} is a special interface and cannot be modified.\n"
        f"iscsiadm: Could not update iface {name}: invalid parameter\n"
    )


@pytest.mark.parametrize(("first", "then"), [("hwaddress", "net_ifacename"), ("net_ifacename", "hwaddress")])
def test_a_binding_does_not_change_its_kind(first: str, then: str, machine: Machine) -> None:
    machine.good(f"-m iface -o new -I if0 -n iface.{first} -v 00:11:22:33:44")
    answer = machine.run(f"-m iface -o update -I if0 -n iface.{then} -v x")
    assert answer.status == 7
    assert f"Can not update interface binding from {first} to {then}." in answer.err
    machine.good(f"-m iface -o update -I if0 -n iface.{first} -v ''")
    machine.good(f"-m iface -o update -I if0 -n iface.{then} -v x")


def test_a_driver_nobody_knows_is_told(machine: Machine) -> None:
    machine.good("-m iface -o new -I if0 -n iface.transport_name -v future")
    answer = machine.run("-m iface -o update -I if0 -n iface.mtu -v 3")
    assert (answer.err, answer.status) == ("iscsiadm: Cound not locate transport for iface if0\n", 7)
    machine.sysfs.add_transport("future")
    machine.good("-m iface -o update -I if0 -n iface.mtu -v 3")


def test_sessions_keep_what_they_were_made_with_and_an_update_says_so(machine: Machine) -> None:
    bound(machine)
    machine.session(1, "iqn.x:a", iface="if0")
    answer = machine.run("-m iface -o update -I if0 -n iface.mtu -v 3")
    assert (answer.out, answer.status) == ("if0 updated.\n", 0)
    assert answer.err.startswith("iscsiadm: Updating iface while iscsi sessions are using it. ")


# Delete


def test_delete_takes_the_node_records_along(machine: Machine) -> None:
    bound(machine)
    assert machine.good("-m iface -o delete -I if0") == "if0 unbound and deleted.\n"
    assert [key.iface for key in machine.places()] == ["default"]
    assert machine.database.iface_names() == []


@pytest.mark.parametrize("name", ["default", "iser"])
def test_delete_of_what_cannot_be_deleted_takes_nothing_along(name: str, machine: Machine) -> None:
    """The peer deletes every node record of ``default`` before it says that ``default`` cannot be deleted."""
    machine.good(f"-m node -o new -T iqn.x:a -p 10.0.0.1,1 -I {name}")
    answer = machine.run(f"-m iface -o delete -I {name}")
    assert answer.status == 7
    assert f"iface {name} is a special interface and cannot be deleted." in answer.err
    assert len(machine.places()) == 1


def test_delete_stops_at_a_record_in_use(machine: Machine) -> None:
    bound(machine)
    machine.session(1, "iqn.x:a", "10.0.0.1", iface="if0")
    answer = machine.run("-m iface -o delete -I if0")
    assert (answer.out, answer.status) == ("", 15)
    assert machine.database.iface_names() == ["if0"]
    assert [(key.address, key.iface) for key in machine.places()] == [("10.0.0.1", "default"), ("10.0.0.1", "if0")]


# Apply and ping


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"mtu": "9000", "vlan_id": "3"}, False),
        ({"state": "disable"}, True),
        ({"bootproto": "dhcp"}, True),
        ({"bootproto": "static"}, False),
        ({"ipaddress": "10.0.0.1"}, True),
        ({"ipaddress": "fe80::1"}, True),
        ({"ipv6_autocfg": "nd"}, False),
    ],
    ids=repr,
)
def test_what_configures_a_network(settings: dict[str, str], expected: bool) -> None:
    values = {f"iface.{name}": value for name, value in settings.items()}
    assert has_settings(iface_defaults("if0").changed(values)) is expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, False), ({"ipv6_autocfg": "nd"}, True), ({"linklocal_autocfg": "auto"}, True), ({"ipv6_router": "::"}, True)],
    ids=repr,
)
def test_what_configures_an_ipv6_network(settings: dict[str, str], expected: bool) -> None:
    values = {f"iface.{name}": value for name, value in settings.items()}
    assert has_settings(iface_defaults("q.ipv6.0").changed(values)) is expected


@pytest.mark.parametrize("line", ["-o apply -I if0", "-o applyall", "-o applyall -H 3"])
def test_a_network_that_cannot_be_configured_is_told(line: str, machine: Machine) -> None:
    machine.sysfs.add_host(3)
    machine.good("-m iface -o new -I if0 -n iface.ipaddress -v 10.0.0.1")
    answer = machine.run(f"-m iface {line}")
    assert (answer.out, answer.status) == ("", 1)
    assert answer.err.endswith("iscsiadm: Could not apply net configuration: operation not supported\n")


def test_software_interfaces_have_nothing_to_configure(machine: Machine) -> None:
    machine.sysfs.add_host(3)
    answer = machine.run("-m iface -o applyall -H 3")
    assert (answer.out, answer.err) == (
        "Applied settings to ifaces attached to host3.\n",
        "iscsiadm: Nothing to configure.\n",
    )


def test_ping_answers_for_each_attempt(machine: Machine) -> None:
    answer = machine.run("-m iface -I default -C ping -a 127.0.0.1 -c 3 -i 60")
    assert answer.out == "".join(f"Ping {number} failed: operation not supported\n" for number in (1, 2, 3))
    assert (answer.err, answer.status) == ("", 27)


# Adapters


def adapter(machine: Machine, **attributes: str) -> None:
    """A qla4xxx host whose driver shows one IPv4 interface with ``attributes``."""
    machine.sysfs.add_transport("qla4xxx")
    machine.sysfs.add_host(7, scsi={"proc_name": "qla4xxx"}, hwaddress=MAC)
    write(machine.sysfs.root / "class/iscsi_iface/ipv4-iface-7-0", attributes)


def test_an_adapter_gets_a_record_once(machine: Machine) -> None:
    adapter(machine, ipaddress="10.0.0.7", vlan_id="x", mtu="1500")
    name = f"qla4xxx.{MAC}.ipv4.0"
    assert f"{name} qla4xxx,{MAC},10.0.0.7,default," in machine.good("-m iface")
    machine.good(f"-m iface -o update -I {name} -n iface.mtu -v 9000")
    machine.good("-m iface")
    record = machine.database.read_iface(name)
    assert record is not None
    assert (record.get("iface.mtu"), record.get("iface.vlan_id")) == ("9000", "0")


@pytest.mark.parametrize("odd", ["-5", "70000", "9" * 30, "a\x1bb", "x" * 300], ids=lambda odd: repr(odd[:8]))
def test_odd_words_of_a_driver_are_left_out(odd: str, machine: Machine) -> None:
    adapter(machine, tos=odd, hop_limit=odd, bootproto=odd, ipaddress="10.0.0.7")
    assert f"qla4xxx.{MAC}.ipv4.0 qla4xxx,{MAC},10.0.0.7,default," in machine.good("-m iface")
    record = machine.database.read_iface(f"qla4xxx.{MAC}.ipv4.0")
    assert record is not None
    assert record.get("iface.tos") == "0"


def test_what_a_driver_does_not_tell_is_not_vlan_0(machine: Machine) -> None:
    adapter(machine)
    machine.good("-m iface")
    record = machine.database.read_iface(f"qla4xxx.{MAC}.ipv4.0")
    assert record is not None
    assert (record.get("iface.vlan_id"), record.get("iface.vlan_priority")) == ("65535", "255")


def test_an_adapters_interface_can_be_named_before_it_was_listed(machine: Machine) -> None:
    adapter(machine)
    machine.good(f"-m node -o new -T iqn.x:a -p 10.0.0.1,1 -I qla4xxx.{MAC}.ipv4.0")


@pytest.mark.parametrize("hwaddress", ["(null)", None, "../../evil"])
def test_an_adapter_without_a_usable_address_gets_none(hwaddress: str | None, machine: Machine) -> None:
    machine.sysfs.add_host(7, scsi={"proc_name": "bnx2i"}, hwaddress=hwaddress)
    answer = machine.run("-m iface")
    assert "bnx2i" not in answer.out
    assert not list(machine.root.rglob("*bnx2i*"))


def test_hosts_of_software_iscsi_get_none(machine: Machine) -> None:
    """The peer stores a record nothing can use once a session is bound to a MAC address."""
    machine.sysfs.add_host(7, hwaddress=MAC)
    assert machine.good("-m iface").count("\n") == 2


def test_every_setting_of_an_adapter_exists_and_has_its_family() -> None:
    for family, names in ((4, IPV4), (6, IPV6), (0, BOTH)):
        assert {BY_KIND["iface"][f"iface.{name}"].family for name in names} == {family}
    told = {f"iface.{name}" for name in (*IPV4, *IPV6, *BOTH)}
    apart = {"iscsi_ifacename", "net_ifacename", "ipaddress", "prefix_len", "hwaddress", "transport_name"}
    assert set(BY_KIND["iface"]) - told == {f"iface.{name}" for name in (*apart, "initiatorname", "iface_num")}


# JSON


def test_json_of_interfaces(machine: Machine) -> None:
    bound(machine)
    listed = check(machine.good("-m iface --json"))
    assert [item["name"] for item in listed["objects"]] == ["if0", "default", "iser"]
    shown = check(machine.good("-m iface -I if0 --json"))["objects"][0]
    assert shown["record"]["iface.transport_name"] == "tcp"
    users = check(machine.good("-m iface -P 1 --json"))["objects"]
    assert [len(item["nodes"]) for item in users] == [2, 1, 0]
    changed = check(machine.good("-m iface -o update -I if0 -n iface.mtu -v 3 --json"))
    assert [item["name"] for item in changed["objects"]] == ["if0"]
    assert changed["messages"] == ["if0 updated."]
