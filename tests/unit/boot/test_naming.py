# SPDX-License-Identifier: LGPL-2.1-or-later
"""One machine, one initiator name: iscsistart and iscsiadm on every combination of what could name it."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iscsiboot.boot import iscsistart, keeper
from iscsiboot.boot.iscsistart import Host, main
from iscsiboot.database.initiator_name import Identity, InitiatorName, made_name
from iscsiboot.errors import IscsiBootError
from iscsiboot.orders.initiator import read_initiator_name
from iscsiboot.session.attach import Attached, AttachRequest
from tests.unit.admin.test_iname_source import MACHINE_ID, NAME, OTHER_UUID, UUID, Machine

FIRMWARE = "iqn.2001-04.com.example:fw"
LOGIN = ["-g", "1", "-t", "iqn.2001-04.com.example:root", "-a", "10.0.0.1"]
FILES = {
    "absent": None,
    "named": f"InitiatorName={NAME}\nInitiatorAlias=web\n",
    "generate": "GenerateName=yes\n",
    "empty": "",
    "copied": f"InitiatorName={made_name(Identity(OTHER_UUID, ''))}\n",
    "twice": f"InitiatorName={NAME}\nInitiatorName=iqn.2001-04.com.example:b\n",
    "wrong": "InitiatorName=no name\n",
}


class Booted:
    """What a run of iscsistart did on a machine of files."""

    def __init__(self, root: Path, *argv: str) -> None:
        self.requests: list[AttachRequest] = []
        self.out, self.err = io.StringIO(), io.StringIO()
        places = {name: root / name for name in ("proc", "run", "etc")}
        host = Host(sysfs=root / "sys", **places, environ={}, now=lambda: 1000.0, entropy=bytes, user=0)
        (root / "run").mkdir(parents=True, exist_ok=True)
        (root / "sys/class/iscsi_transport/tcp").mkdir(parents=True, exist_ok=True)

        def attach(request: AttachRequest, **_: object) -> Attached:
            self.requests.append(request)
            return Attached(sid=1, host=1, portal=request.portal, tpgt=1, reused=False, devices=())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(iscsistart, "attach", attach)
            patch.setattr(keeper, "leave", lambda *_, **__: None)
            patch.setattr(iscsistart, "_catch_signals", lambda: None)
            patch.setattr(iscsistart, "_ignore_ends", lambda: None)
            patch.setattr(iscsistart, "read_kernel_log", lambda: ())
            self.status = main(argv, self.out, self.err, host)

    @property
    def name(self) -> str | None:
        return self.requests[0].initiator_name if self.requests else None

    @property
    def lines(self) -> list[str]:
        """The console without the program's name and version."""
        return [line.removeprefix("iscsistart: ") for line in self.err.getvalue().splitlines()[1:]]


def furnish(
    root: Path, *, table: str, name_file: str, uuid: str, serial: bool, machine_id: bool, initrd: bool
) -> Machine:
    machine = Machine(root)
    if table != "none":
        machine.firmware(FIRMWARE, "iscsi_boot3" if table == "adapter" else "ibft")
    if table == "nameless":
        shutil.rmtree(root / "sys/firmware/ibft/initiator")
    text = FILES[name_file]
    if text is not None:
        machine.file(text)
    if uuid:
        machine.uuid(uuid)
    if serial:
        machine.serial()
    if machine_id:
        machine.machine_id()
    if initrd:
        machine.put("etc/initrd-release", "")
    return machine


def asked(machine: Machine) -> InitiatorName | IscsiBootError:
    """What iscsiadm would log in by."""
    try:
        return read_initiator_name(machine.paths)
    except IscsiBootError as error:
        return error


@settings(max_examples=100, deadline=None)
@given(
    table=st.sampled_from(["none", "ibft", "nameless", "adapter"]),
    name_file=st.sampled_from(sorted(FILES)),
    uuid=st.sampled_from(["", UUID, UUID.upper(), "Not Settable"]),
    serial=st.booleans(),
    machine_id=st.booleans(),
    initrd=st.booleans(),
)
def test_iscsistart_and_iscsiadm_are_of_one_mind(
    table: str, name_file: str, uuid: str, serial: bool, machine_id: bool, initrd: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        machine = furnish(
            root,
            table=table,
            name_file=name_file,
            uuid=uuid,
            serial=serial,
            machine_id=machine_id,
            initrd=initrd,
        )
        expected = asked(machine)
        booted = Booted(root, *LOGIN)
        if isinstance(expected, IscsiBootError):
            assert (booted.name, booted.status, booted.lines) == (None, 7, [expected.line()])
            return
        assert booted.status == 0
        assert booted.name == expected.name
        assert expected.source in booted.lines[0]
        if expected.source != "firmware":
            assert booted.lines[1:] == list(expected.notes)
        if table in ("ibft", "nameless"):
            assert Booted(root, "-b").name == expected.name


@settings(max_examples=40, deadline=None)
@given(
    name_file=st.sampled_from(["absent", "named", "generate"]), uuid=st.sampled_from(["", UUID]), serial=st.booleans()
)
def test_the_name_of_the_initramfs_is_the_name_of_the_running_system(name_file: str, uuid: str, serial: bool) -> None:
    """The initramfs has the file (what the image is made of sees to that) and the hardware, but no machine-id."""
    with tempfile.TemporaryDirectory() as directory:
        early, late = Path(directory, "early"), Path(directory, "late")
        common = {"table": "none", "name_file": name_file, "uuid": uuid, "serial": serial}
        furnish(early, **common, machine_id=True, initrd=True)  # type: ignore[arg-type]  # a table of arguments
        expected = asked(furnish(late, **common, machine_id=True, initrd=False))  # type: ignore[arg-type]
        assert isinstance(expected, InitiatorName)
        if expected.source == "machine-id":
            assert Booted(early, *LOGIN).status == 7, "no name beats one that changes"
        else:
            assert Booted(early, *LOGIN).name == expected.name


@pytest.mark.parametrize(
    ("prepare", "argv", "line"),
    [
        (lambda machine: machine.firmware(FIRMWARE), ["-b"], f"initiator name {FIRMWARE}, from firmware (sysfs-ibft)"),
        (lambda machine: machine.firmware(FIRMWARE), LOGIN, f"initiator name {FIRMWARE}, from firmware (sysfs-ibft)"),
        (
            lambda machine: machine.firmware(FIRMWARE, "iscsi_boot3"),
            ["-b"],
            f"initiator name {FIRMWARE}, from firmware (iscsi_boot3)",
        ),
        (
            lambda machine: machine.file(FILES["named"]),
            LOGIN,
            f"initiator name {NAME}, from ROOT/etc/iscsi/initiatorname.iscsi",
        ),
        (
            lambda machine: machine.uuid(),
            LOGIN,
            f"initiator name {made_name(Identity(UUID, ''))}, from SMBIOS product UUID",
        ),
        (
            lambda machine: machine.firmware(FIRMWARE).file(FILES["named"]),
            [*LOGIN, "-i", "iqn.2001-04.com.example:i"],
            "initiator name iqn.2001-04.com.example:i, from the command line",
        ),
        (
            lambda machine: machine.firmware(FIRMWARE),
            ["-b", "-i", "iqn.2001-04.com.example:i"],
            "initiator name iqn.2001-04.com.example:i, from the command line",
        ),
    ],
    ids=["table", "login beside a table", "adapter's table", "file", "machine", "argument", "argument over the table"],
)
def test_one_line_says_where_the_name_is_from(prepare: object, argv: list[str], line: str, tmp_path: Path) -> None:
    assert callable(prepare)
    prepare(Machine(tmp_path))
    booted = Booted(tmp_path, *argv)
    assert booted.status == 0
    line = line.replace("ROOT", str(tmp_path))
    assert [said for said in booted.lines if said.startswith("initiator name ")] == [line]
    assert booted.name == line.split(", from ")[0].removeprefix("initiator name ")


def test_a_file_that_cannot_be_read_keeps_no_table_from_booting(tmp_path: Path) -> None:
    Machine(tmp_path).firmware(FIRMWARE)
    (tmp_path / "etc/iscsi/initiatorname.iscsi").mkdir(parents=True)
    assert Booted(tmp_path, "-b").name == FIRMWARE
    assert Booted(tmp_path, *LOGIN).name == FIRMWARE


def test_a_table_with_a_name_pays_nothing_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "iscsiboot.database.initiator_name", None)
    Machine(tmp_path).firmware(FIRMWARE)
    assert Booted(tmp_path, "-b").name == FIRMWARE
    with pytest.raises(ModuleNotFoundError):
        Booted(tmp_path / "none", *LOGIN)


def test_without_any_name_nobody_logs_in_and_the_way_out_is_told(tmp_path: Path) -> None:
    Machine(tmp_path).machine_id(MACHINE_ID).put("etc/initrd-release", "")
    booted = Booted(tmp_path, *LOGIN)
    assert booted.status == 7
    (line,) = booted.lines
    assert "iscsi-iname -g" in line


def test_an_argument_that_is_no_name(tmp_path: Path) -> None:
    Machine(tmp_path).firmware(FIRMWARE)
    for argv in (["-b"], LOGIN):
        booted = Booted(tmp_path, *argv, "-i", "../etc")
        assert (booted.status, booted.requests) == (7, [])
        assert 'InitiatorName: "../etc" is no iSCSI name' in booted.lines[-1]


def test_the_network_alone_needs_no_name(tmp_path: Path) -> None:
    Machine(tmp_path).firmware(FIRMWARE)
    shutil.rmtree(tmp_path / "sys/firmware/ibft/initiator")
    booted = Booted(tmp_path, "-N")
    assert not [line for line in booted.lines if "initiator name" in line.lower()]
