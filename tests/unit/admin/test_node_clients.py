# SPDX-License-Identifier: LGPL-2.1-or-later
"""What programs of others rely on in node and iface mode, line by line of their list of requirements.

Each test is named after the number of its line. Who needs it stands in the docstring.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from iscsiboot.admin import main as main_module
from tests.unit.admin.records_kit import Machine

TARGET = "iqn.2026-01.org.example:disk"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.good(f"-m node -o new -T {TARGET} -p 10.0.0.1:3260,1")
    return made


@pytest.mark.parametrize(
    "line",
    [
        "-m node",
        f"-m node -T {TARGET} -p 10.0.0.1:3260",
        f"-m node -T {TARGET} -p 10.0.0.1:3260 --op update -n node.session.scan -v manual",
        f"-m node -T {TARGET} -p 10.0.0.1 --interface default --op new",
        f"-m node -T {TARGET} -p 10.0.0.1 -o delete",
        "-m iface",
        "-m iface -I if0 --op new",
        "-m iface -I default",
    ],
)
def test_client_02_stderr_is_empty_on_success(line: str, machine: Machine) -> None:
    """os-brick takes any word on stderr for "no record", YaST for a failure; records may be odd all the same."""
    odd = machine.root / "nodes" / TARGET / "10.0.0.1,3260,1" / "default"
    odd.write_text(odd.read_text().replace("# END RECORD", "node.session.of_the_future = 1\n# END RECORD"))
    (machine.root / "iscsid.conf").write_text("node.session.of_the_future = 1\nnode.startup=manual")
    answer = machine.run(line)
    assert (answer.status, answer.err) == (0, "")


def test_client_02_no_warning_of_python_reaches_stderr(machine: Machine) -> None:
    """The same in a process of its own, with every warning asked for."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from iscsiboot.admin.context import Paths\n"
        "from iscsiboot.admin.main import main; root = sys.argv.pop(1)\n"
        "sys.exit(main(sys.argv[1:], sys.stdout, sys.stderr, Paths(database=root, config=root, sysfs=root)))"
    )
    source = Path(main_module.__file__).parents[2]
    command = [sys.executable, "-W", "always", "-c", code, str(source), str(machine.root), "-m", "node"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "line",
    [
        f"--mode node --target {TARGET} --portal 10.0.0.1:3260",
        f"--mode=node --targetname={TARGET} --portal=10.0.0.1:3260,1",
        f"--portal 10.0.0.1 --mode node --targetn {TARGET} --op show",
        f"-p 10.0.0.1 -T {TARGET} -m node -o show -o show",
    ],
)
def test_client_08_options_in_any_spelling_and_order(line: str, machine: Machine) -> None:
    """So libvirt: ``--target``; dracut, vdsm, curtin and xapi write options in their own ways."""
    assert machine.good(line).startswith("# BEGIN RECORD 2.1.8\nnode.name = iqn.2026-01.org.example:disk\n")


def test_client_08_several_names_and_values_and_interfaces(machine: Machine) -> None:
    """One call sets several parameters; of several interfaces the first counts."""
    names = "--name node.startup --value automatic --name=node.session.auth.authmethod --value=CHAP"
    machine.good(f"--mode node --target {TARGET} --op=update {names}")
    record = machine.record(TARGET)
    assert (record.get("node.startup"), record.get("node.session.auth.authmethod")) == ("automatic", "CHAP")
    answer = machine.run(f"-m node --target {TARGET} -I default -I if9")
    assert answer.status == 0
    assert answer.out.startswith("# BEGIN RECORD")


def test_client_09_an_empty_value_is_a_value(machine: Machine) -> None:
    """So xapi and infi.iscsiapi take a user name away with ``-v ""``."""
    for value in ("user", ""):
        machine.good(f"-m node -T {TARGET} --op update -n node.session.auth.username -v '{value}'")
    assert "node.session.auth.username = <empty>\n" in machine.good(f"-m node -T {TARGET}")


def test_client_10_a_stray_word_is_no_mistake_and_no_target(machine: Machine) -> None:
    """infi.iscsiapi writes ``-o delete IQN``: the word is not looked at, so every record is meant."""
    machine.good("-m node -o new -T iqn.x:other -p 10.0.0.2,1")
    machine.good(f"-m node -o delete {TARGET}")
    assert machine.places() == []


@pytest.mark.parametrize("value", ["manual", "auto"])
def test_client_12_manual_scan_can_be_set(value: str, machine: Machine) -> None:
    """As kubelet and os-brick set it before they log in: a word on stderr means it is not supported."""
    machine.good(f"-m node -T {TARGET} -p 10.0.0.1 -o update -n node.session.scan -v {value}")
    assert machine.record(TARGET).get("node.session.scan") == value


def test_client_13_an_interface_name_may_hold_colons(machine: Machine) -> None:
    """The name kubelet gives its clone of an interface: ``10.99.0.1:3260:pv0``."""
    name = "10.99.0.1:3260:pv0"
    machine.good(f"-m iface -I {name} -o new")
    machine.good(f"-m iface -I {name} -o update -n iface.initiatorname -v iqn.2026-01.org.example:clone")
    machine.good(f"-m node -o new -T {TARGET} -p 10.0.0.1,1 -I {name}")
    machine.good(f"-m node -T {TARGET} -p 10.0.0.1 -I {name} -o update -n node.session.scan -v manual")
    assert (machine.root / "ifaces" / name).is_file()
    assert (machine.root / "nodes" / TARGET / "10.0.0.1,3260,1" / name).is_file()
    assert f"iface.iscsi_ifacename = {name}\n" in machine.good(f"-m node -T {TARGET} -p 10.0.0.1 -I {name}")
    machine.good(f"-m iface -I {name} -o delete")
    assert [key.iface for key in machine.places()] == ["default"]


def test_client_14_records_of_other_releases_are_read_and_kept(machine: Machine) -> None:
    """Longhorn's records of a newer release ended every listing; a type of an older one did after an upgrade."""
    path = machine.root / "nodes" / TARGET / "10.0.0.1,3260,1" / "default"
    text = path.read_text().replace("node.discovery_type = static", "node.discovery_type = slp")
    path.write_text(text.replace("# END", "node.conn[0].conn_reopen_log_freq = 5\n# END"))
    assert machine.good("-m node") == f"10.0.0.1:3260,1 {TARGET}\n"
    assert "node.conn[0].address = 10.0.0.1\n" in machine.good(f"-m node -T {TARGET}")
    machine.good(f"-m node -T {TARGET} -o update -n node.startup -v automatic")
    assert "node.conn[0].conn_reopen_log_freq = 5\n" in path.read_text()


def test_client_14_records_without_a_tag_are_read_and_written(machine: Machine) -> None:
    """The layout of the first releases, which a login without discovery still makes."""
    machine.good("-m node -o new -T iqn.x:old -p 10.0.0.9")
    assert (machine.root / "nodes/iqn.x:old/10.0.0.9,3260").is_file()
    machine.good("-m node -T iqn.x:old -p 10.0.0.9 -o update -n node.startup -v automatic")
    assert "node.startup = automatic\n" in machine.good("-m node -T iqn.x:old -p 10.0.0.9:3260")
    machine.good("-m node -T iqn.x:old -p 10.0.0.9 -o delete")
    assert not (machine.root / "nodes/iqn.x:old").exists()


@pytest.mark.parametrize(
    "line", ["-m node", "-m node -o show", "-m iface", "-m iface -I default", "-m iface -I a -o new"]
)
def test_client_20_no_word_of_failure_on_stdout(line: str, machine: Machine) -> None:
    """Where longhorn looks for "Could not" and avocado for "Invalid"."""
    out = machine.good(line)
    assert "Could not" not in out
    assert "Invalid" not in out


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("-m node", 0),
        ("-m node -o new -T iqn.x:n -p 10.0.0.1 -I nobody", 3),
        ("-m iface -I nobody", 6),
        ("-m iface -I nobody -o apply", 6),
        ("-m node -P 2", 7),
        ("-m node -o apply", 7),
        ("-m node -o update -n node.nothing -v 1", 7),
        ("-m iface -I nobody -o delete", 7),
        ("-m iface -I default -o delete", 7),
        ("-m iface -o new -I iser", 7),
        (f"-m node -o delete -T {TARGET}", 15),
        (f"-m node -o update -T {TARGET} -n iface.transport_name -v iser", 15),
        ("-m node -L automatic", 21),
        ("-m node -T iqn.x:nobody", 21),
        ("-m iface -o new", 22),
        ("-m iface -I default -C ping -a 127.0.0.1", 27),
    ],
)
def test_exit_codes_clients_branch_on(line: str, status: int, machine: Machine) -> None:
    machine.session(1, TARGET)
    assert machine.run(line).status == status
