# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the initiator name comes from: firmware, the file, the machine; and that it stays the same."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.admin.context import Paths
from iscsiboot.database.initiator_name import (
    DEBIAN_PREFIX,
    FILE_MAX_BYTES,
    PREFIX,
    Identity,
    InitiatorName,
    choose,
    find_identity,
    made_name,
    read_name_file,
)
from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.model.names import check_iscsi_name
from iscsiboot.orders.initiator import firmware_name, read_initiator_name

UUID = "4c4c4544-0042-3510-8052-b4c04f4d3332"
OTHER_UUID = "4c4c4544-0042-3510-8052-b4c04f4d3333"
MACHINE_ID = "3d1219c7c4c5404aaa1f6d2a48adfda4"
NAME = "iqn.2001-04.com.example:Host1"


class Machine:
    """A machine's files below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = Paths(
            config=f"{root}/etc/iscsi", etc=f"{root}/etc", sysfs=f"{root}/sys", proc=f"{root}/proc", run=f"{root}/run"
        )

    def put(self, path: str, text: str | bytes) -> Machine:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)
        return self

    def uuid(self, text: str = UUID) -> Machine:
        return self.put("sys/class/dmi/id/product_uuid", text + "\n")

    def machine_id(self, text: str = MACHINE_ID) -> Machine:
        return self.put("etc/machine-id", text + "\n")

    def serial(self, text: str = "10000000ab12cd34") -> Machine:
        return self.put("proc/device-tree/serial-number", text + "\0")

    def file(self, text: str | bytes) -> Machine:
        return self.put("etc/iscsi/initiatorname.iscsi", text)

    def firmware(self, name: str, table: str = "ibft") -> Machine:
        """A boot table as the kernel shows it."""
        self.put(f"sys/firmware/{table}/initiator/initiator-name", name + "\n")
        self.put(f"sys/firmware/{table}/initiator/flags", "3\n")
        self.put(f"sys/firmware/{table}/initiator/index", "0\n")
        for attribute, value in (
            ("flags", "3"),
            ("index", "0"),
            ("target-name", "iqn.2001-04.com.example:root"),
            ("ip-addr", "10.0.0.1"),
            ("port", "3260"),
            ("nic-assoc", "0"),
            ("lun", "01000000"),
        ):
            self.put(f"sys/firmware/{table}/target0/{attribute}", value + "\n")
        return self


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# The order


def test_the_file_names_the_machine(machine: Machine) -> None:
    machine.uuid().file(f"InitiatorName={NAME}\nInitiatorAlias=web one\n")
    assert read_initiator_name(machine.paths) == InitiatorName(NAME, "web one", machine.paths.initiator_name)


def test_firmware_comes_before_the_file_and_a_difference_is_noted(machine: Machine) -> None:
    machine.firmware("iqn.2001-04.com.example:fw").file(f"InitiatorName={NAME}\nInitiatorAlias=web\n")
    found = read_initiator_name(machine.paths)
    assert (found.name, found.alias, found.source) == ("iqn.2001-04.com.example:fw", "web", "firmware")
    (note,) = found.notes
    assert NAME in note
    assert "iqn.2001-04.com.example:fw" in note


def test_firmware_and_file_of_one_mind_need_no_note(machine: Machine) -> None:
    machine.firmware(NAME).file(f"InitiatorName={NAME}\n")
    assert read_initiator_name(machine.paths).notes == ()


def test_a_file_that_firmware_overrides_is_not_checked(machine: Machine) -> None:
    machine.firmware(NAME).file("InitiatorName=no name\n")
    assert read_initiator_name(machine.paths).name == NAME


def test_the_machine_names_itself_without_both(machine: Machine) -> None:
    found = read_initiator_name(machine.uuid().paths)
    assert found.source == "SMBIOS product UUID"
    assert found.alias == os.uname().nodename
    assert check_iscsi_name(found.name) == found.name


def test_nothing_at_all_is_one_clear_error(machine: Machine) -> None:
    with pytest.raises(IscsiBootError, match="iscsi-iname -g") as caught:
        read_initiator_name(machine.paths)
    assert caught.value.exit_code == ExitCode.INVAL
    assert caught.value.subject == machine.paths.initiator_name


def test_a_machine_without_a_boot_table_pays_nothing_for_it(machine: Machine) -> None:
    machine.file(f"InitiatorName={NAME}\n").put("sys/firmware/acpi/tables/FACP", b"")
    code = (
        "import sys; sys.path.insert(0, '.'); from iscsiboot.admin.context import Paths; "
        "from iscsiboot.orders.initiator import read_initiator_name; "
        f"print(read_initiator_name(Paths(config={machine.paths.config!r}, sysfs={machine.paths.sysfs!r}, "
        f"proc={machine.paths.proc!r}, etc={machine.paths.etc!r})).name); "
        "print([name for name in ('pathlib', 'dataclasses', 'typing', 'hashlib', 'hmac') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"{NAME}\n[]\n"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("sys/firmware/acpi/tables/iBFT", b"no table"),
        ("sys/firmware/ibft/acpi_header/oem_id", b"x"),
        ("sys/firmware/iscsi_boot0/initiator/flags", b"0\n"),
        ("proc/device-tree/chosen/bootpath", b"/vdevice/disk@0\0"),
    ],
    ids=["broken table", "empty view", "adapter", "another boot"],
)
def test_firmware_that_names_nobody_gives_way(machine: Machine, path: str, content: bytes) -> None:
    machine.put(path, content).file(f"InitiatorName={NAME}\n")
    assert firmware_name(machine.paths) is None
    assert read_initiator_name(machine.paths).name == NAME


def test_the_name_of_an_adapter_s_own_sessions_is_not_this_machine_s(machine: Machine) -> None:
    """Two initiators with one name end each other's sessions."""
    machine.firmware("iqn.2001-04.com.example:adapter", "iscsi_boot3").file(f"InitiatorName={NAME}\n")
    assert read_initiator_name(machine.paths) == InitiatorName(NAME, os.uname().nodename, machine.paths.initiator_name)
    machine.firmware("iqn.2001-04.com.example:fw")
    assert read_initiator_name(machine.paths).name == "iqn.2001-04.com.example:fw"


# The file


@pytest.mark.parametrize(
    ("text", "name", "alias", "generate"),
    [
        (f"InitiatorName={NAME}", NAME, "", False),
        (f"InitiatorName={NAME}\r\nInitiatorAlias=a\r\n", NAME, "a", False),
        (f"  InitiatorName \t=  {NAME}  \n", NAME, "", False),
        (f"# InitiatorName=iqn.x\n#InitiatorName=iqn.y\nInitiatorName={NAME}\n", NAME, "", False),
        (f"OldInitiatorName=iqn.1999-01.com.old:x\nInitiatorName={NAME}\n", NAME, "", False),
        (f"initiatorname=iqn.1999-01.com.old:x\nInitiatorName={NAME}\n", NAME, "", False),
        (f"InitiatorName={NAME}\nInitiatorAlias=a=b # c\n", NAME, "a=b # c", False),
        ("GenerateName=yes\n", "", "", True),
        ("GenerateName=no\n", "", "", False),
        ("#GenerateName=yes\n", "", "", False),
        ("InitiatorName=\n", "", "", False),
        ("InitiatorName\n", "", "", False),
        ("", "", "", False),
        ("\n\n\n", "", "", False),
    ],
    ids=[
        "no line break", "carriage returns", "blanks", "comments", "longer key", "other case", "equals in a value",
        "generate", "do not generate", "generate in a comment", "empty", "no equals", "empty file", "empty lines",
    ],
)  # fmt: skip
def test_the_file_is_read_line_by_line(machine: Machine, text: str, name: str, alias: str, generate: bool) -> None:
    file = read_name_file(machine.file(text).paths.initiator_name)
    assert (file.name, file.alias, file.generate, file.notes) == (name, alias, generate, ())


def test_of_two_names_the_first_counts_and_that_is_told(machine: Machine) -> None:
    machine.file(f"InitiatorName={NAME}\nInitiatorName=iqn.2001-04.com.example:b\nInitiatorName=c\n")
    found = read_initiator_name(machine.paths)
    assert found.name == NAME
    (note,) = found.notes
    assert "more than once" in note


@pytest.mark.parametrize(
    "name",
    [
        "example", "iqn.2001-04", "iqn.2001-13.com.example:x", "iqn.2001-04.com.example:a b",
        "iqn.2001-04.com.example:../x", "eui.123", "naa.12", "iqn.2001-04.com.example:" + "x" * 200,
        "iqn.2001-04.com.example:\x1b[2J", "iqn.2001-04.com.example:\udcff", '"iqn.2001-04.com.example:x"',
    ],
    ids=["word", "short", "month", "blank", "path", "eui", "naa", "long", "escape", "bytes", "quotes"],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_the_place(machine: Machine, name: str) -> None:
    machine.uuid().file(f"InitiatorName={name}\n")
    with pytest.raises(IscsiBootError, match="is no iSCSI name") as caught:
        read_initiator_name(machine.paths)
    assert caught.value.subject == machine.paths.initiator_name
    assert caught.value.line().isprintable()


@pytest.mark.parametrize(
    "name",
    [
        "iqn.1993-08.org.debian:01:abc123", "iqn.2016-04.com.open-iscsi", "IQN.2001-04.COM.EXAMPLE:X",
        "eui.0123456789ABCDEF", "naa.0123456789abcdef0123456789ABCDEF", "iqn.2004-10.com.ubuntu:01:a_b",
    ],
)  # fmt: skip
def test_names_of_the_field_are_taken_as_they_are_written(machine: Machine, name: str) -> None:
    assert read_initiator_name(machine.file(f"InitiatorName={name}\n").paths).name == name


@pytest.mark.parametrize(
    "alias", ["x" * 256, "a\x1bb", "a\udcffb", "\u00fc" * 128], ids=["long", "escape", "bytes", "long text"]
)
def test_an_alias_that_cannot_be_sent_is_left_out_and_told(machine: Machine, alias: str) -> None:
    found = read_initiator_name(machine.file(f"InitiatorName={NAME}\nInitiatorAlias={alias}\n").paths)
    assert found.alias == os.uname().nodename
    (note,) = found.notes
    assert "InitiatorAlias" in note
    assert note.isprintable()


def test_an_alias_may_have_255_bytes(machine: Machine) -> None:
    alias = "\u00fc" * 127 + "x"
    found = read_initiator_name(machine.file(f"InitiatorName={NAME}\nInitiatorAlias={alias}\n").paths)
    assert (found.alias, found.notes) == (alias, ())


def test_debian_s_generate_name_is_a_made_name_with_debian_s_prefix(machine: Machine) -> None:
    machine.uuid().file("## DO NOT EDIT\nGenerateName=yes\n")
    found = read_initiator_name(machine.paths)
    assert found.name.startswith(f"{DEBIAN_PREFIX}:machine.")
    assert found.source == "SMBIOS product UUID"
    assert (machine.root / "etc/iscsi/initiatorname.iscsi").read_text().endswith("GenerateName=yes\n")


def test_a_name_beats_generate_name(machine: Machine) -> None:
    machine.uuid().file(f"GenerateName=yes\nInitiatorName={NAME}\n")
    assert read_initiator_name(machine.paths).name == NAME


@pytest.mark.parametrize("text", ["", "InitatorName=iqn.2001-04.com.example:a\n", "#InitiatorName=x\n", b"\0\xff" * 99])
def test_a_file_that_names_nobody_is_told_with_the_name_that_is_used(machine: Machine, text: str | bytes) -> None:
    """A slip in the word, or another file: the target refuses a name that nobody has given it."""
    found = read_initiator_name(machine.uuid().file(text).paths)
    assert found.source == "SMBIOS product UUID"
    assert found.notes == (
        f"{machine.paths.initiator_name} has no line InitiatorName=: {found.name} is used, made of SMBIOS product UUID",
    )


def test_no_file_firmware_or_generate_name_is_no_slip(machine: Machine) -> None:
    assert read_initiator_name(machine.uuid().paths).notes == ()
    assert read_initiator_name(machine.file("GenerateName=yes\n").paths).notes == ()
    machine.firmware("iqn.2001-04.com.example:fw").file("")
    assert read_initiator_name(machine.paths).notes == ()


def test_a_huge_file_is_not_read_to_its_end(machine: Machine) -> None:
    machine.file(b"#" * FILE_MAX_BYTES + f"\nInitiatorName={NAME}\n".encode())
    assert read_name_file(machine.paths.initiator_name).name == ""


def test_a_file_that_cannot_be_read_is_an_error_and_not_another_name(machine: Machine) -> None:
    """Going on would make a second name for a machine that has one."""
    machine.uuid()
    (machine.root / "etc/iscsi/initiatorname.iscsi").mkdir(parents=True)
    with pytest.raises(IscsiBootError, match=r"cannot be read: Is a directory; next: put a file"):
        read_initiator_name(machine.paths)


def test_a_link_to_itself_is_an_error_and_not_another_name(machine: Machine) -> None:
    machine.uuid()
    (machine.root / "etc/iscsi").mkdir(parents=True)
    (machine.root / "etc/iscsi/initiatorname.iscsi").symlink_to("initiatorname.iscsi")
    with pytest.raises(IscsiBootError, match="cannot be read"):
        read_initiator_name(machine.paths)


def test_a_pipe_in_the_file_s_place_does_not_hang(machine: Machine) -> None:
    (machine.root / "etc/iscsi").mkdir(parents=True)
    os.mkfifo(machine.paths.initiator_name)
    assert read_name_file(machine.paths.initiator_name).name == ""


@given(st.binary(max_size=400))
def test_any_file_is_read(data: bytes) -> None:
    read, write = os.pipe()
    try:
        os.write(write, data)
        os.close(write)
        file = read_name_file(f"/proc/self/fd/{read}")
    finally:
        os.close(read)
    assert "\n" not in file.name
    assert file.name == file.name.strip()


# The machine


def test_each_identity_in_its_order(machine: Machine) -> None:
    assert find_identity(machine.machine_id().paths).source == "machine-id"
    assert find_identity(machine.serial().paths).source == "device tree serial number"
    assert find_identity(machine.uuid().paths).source == "SMBIOS product UUID"


@pytest.mark.parametrize(
    "uuid",
    [
        "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009", "Not Settable", "Not Present", "", UUID[:-1],
    ],
)  # fmt: skip
def test_a_product_uuid_nobody_filled_in_is_none(machine: Machine, uuid: str) -> None:
    assert find_identity(machine.uuid(uuid).machine_id().paths).source == "machine-id"


@pytest.mark.parametrize("serial", ["", "0000000000000000", "0", "000-000", "ab1", "\x01\x02\x03\x04"])
def test_a_serial_number_nobody_filled_in_is_none(machine: Machine, serial: str) -> None:
    assert find_identity(machine.serial(serial).machine_id().paths).source == "machine-id"


@pytest.mark.parametrize(
    "text",
    ["uninitialized", "", "0" * 32, MACHINE_ID[:-1], MACHINE_ID + "0", "g" * 32, MACHINE_ID[:16]],
)
def test_a_machine_id_that_is_not_there_yet_is_none(machine: Machine, text: str) -> None:
    with pytest.raises(IscsiBootError, match="nothing tells this machine from others"):
        find_identity(machine.machine_id(text).paths)


@pytest.mark.parametrize("path", ["sys/class/dmi/id/product_uuid", "proc/device-tree/serial-number"])
def test_an_identity_that_cannot_be_read_as_a_file_is_none(machine: Machine, path: str) -> None:
    (machine.root / path).mkdir(parents=True)
    assert find_identity(machine.machine_id().paths).source == "machine-id"


def test_spelling_does_not_change_the_name(machine: Machine, tmp_path: Path) -> None:
    upper = Machine(tmp_path / "upper").uuid(UUID.upper())
    assert choose(machine.uuid().paths).name == choose(upper.paths).name


def test_the_made_name_never_changes() -> None:
    """These digits are in access lists: a change of the way to make them would lock machines out."""
    assert made_name(Identity(UUID, "")) == "iqn.2016-04.com.open-iscsi:machine.ae8340b66a6ca6e4"
    assert (
        made_name(Identity(MACHINE_ID, ""), "iqn.2001-04.com.example")
        == "iqn.2001-04.com.example:machine.9c10f1ae6918edcf"
    )


def test_a_made_name_does_not_show_the_machine_id(machine: Machine) -> None:
    """machine-id(5): it is to be kept from the network."""
    name = choose(machine.machine_id().paths).name
    assert not any(MACHINE_ID[at : at + 6] in name for at in range(27))


def test_the_name_is_the_same_in_the_initramfs_and_later(machine: Machine, tmp_path: Path) -> None:
    """In an initramfs machine-id is missing, or systemd made one up for this boot alone."""
    later = choose(machine.uuid().machine_id().paths)
    for number, early in enumerate(
        (
            Machine(tmp_path / "without").uuid(),
            Machine(tmp_path / "transient").uuid().machine_id("f" * 31 + "0").put("etc/initrd-release", ""),
        )
    ):
        assert choose(early.paths).name == later.name, number


def test_a_made_up_machine_id_of_an_initramfs_is_not_taken(machine: Machine) -> None:
    machine.machine_id().put("etc/initrd-release", "")
    with pytest.raises(IscsiBootError, match="nothing tells this machine"):
        choose(machine.paths)


def test_copies_of_one_disk_get_names_of_their_own(tmp_path: Path) -> None:
    first = Machine(tmp_path / "a").machine_id().uuid(UUID)
    second = Machine(tmp_path / "b").machine_id().uuid(OTHER_UUID)
    assert choose(first.paths).name != choose(second.paths).name


def test_a_copied_file_with_a_made_name_is_noticed(tmp_path: Path) -> None:
    first = Machine(tmp_path / "a").uuid(UUID)
    name = choose(first.paths).name
    first.file(f"InitiatorName={name}\n")
    assert choose(first.paths).notes == ()
    second = Machine(tmp_path / "b").uuid(OTHER_UUID).file(f"InitiatorName={name}\n")
    found = choose(second.paths)
    assert found.name == name
    (note,) = found.notes
    assert "was copied from another machine" in note
    assert made_name(Identity(OTHER_UUID, "")) in note


def test_a_made_name_with_another_prefix_is_this_machine_s_too(machine: Machine) -> None:
    name = made_name(Identity(UUID, ""), DEBIAN_PREFIX)
    assert choose(machine.uuid().file(f"InitiatorName={name}\n").paths).notes == ()


def test_a_name_somebody_chose_is_never_called_a_copy(machine: Machine) -> None:
    for name in (NAME, f"{PREFIX}:0123456789ab", f"{PREFIX}:machine.0123", f"{PREFIX}:machine.0123456789abcdefg"):
        assert choose(machine.uuid().file(f"InitiatorName={name}\n").paths).notes == ()


def test_a_copy_is_not_claimed_where_the_machine_cannot_be_told(machine: Machine) -> None:
    machine.file(f"InitiatorName={PREFIX}:machine.0123456789abcdef\n")
    assert choose(machine.paths).notes == ()


def test_nothing_is_written(machine: Machine) -> None:
    """/etc is read-only when the name is first needed."""
    machine.uuid().machine_id().file("GenerateName=yes\n")
    before = {path: path.stat().st_mtime_ns for path in machine.root.rglob("*")}
    read_initiator_name(machine.paths)
    assert {path: path.stat().st_mtime_ns for path in machine.root.rglob("*")} == before


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_who_may_not_read_the_identity_gets_no_other_name() -> None:
    """Only root reads the product UUID; another user must not be told the name machine-id would make."""
    with tempfile.TemporaryDirectory() as directory:
        machine = Machine(Path(directory)).uuid().machine_id()
        (machine.root / "sys/class/dmi/id/product_uuid").chmod(stat.S_IRUSR)
        machine.root.chmod(0o755)
        roots = {name: getattr(machine.paths, name) for name in ("config", "etc", "sysfs", "proc")}
        code = (
            "import os, sys; sys.path.insert(0, '.'); from iscsiboot.admin.context import Paths; "
            "from iscsiboot.database.initiator_name import choose; from iscsiboot.errors import IscsiBootError\n"
            "os.setgid(65534); os.setuid(65534)\n"
            f"try: choose(Paths(**{roots!r}))\n"
            "except IscsiBootError as error: print(error.line())"
        )
        run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert "product_uuid: cannot be read: Permission denied; next: only root may read it" in run.stdout


def test_the_value_compares_and_shows_itself() -> None:
    one = InitiatorName(NAME, "a", "firmware", ("n",))
    assert one == InitiatorName(NAME, "a", "firmware", ("n",))
    assert one != InitiatorName(NAME, "b", "firmware", ("n",))
    assert one != NAME
    assert len({one, InitiatorName(NAME, "a", "firmware", ("n",))}) == 1
    assert NAME in repr(one)
