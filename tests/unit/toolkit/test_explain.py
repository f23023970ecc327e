# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot explain``: what is printed, in both forms, and the exit status."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.firmware.report import FirmwareReport
from iscsiboot.ibft.builder import build
from iscsiboot.toolkit.explain import HIDDEN, SCHEMA, main, render_json, render_text
from tests.unit.firmware.trees import Tree
from tests.vectors.ibft import make

SECRETS = ("initiator secret", "target secret 22", "initiatorSecret1", "targetSecret22")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def run(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = main(argv, out, err)
    return status, out.getvalue(), err.getvalue()


def vector(name: str) -> str:
    return str(make.HERE / f"{name}.bin")


def rows(text: str) -> dict[str, list[str]]:
    """The lines of the first table by what they are about."""
    block = text.split("\n\n")[0].splitlines()[3:]
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in block]
    return {line[0]: line[1:] for line in cells}


def test_values_and_their_sources() -> None:
    status, out, err = run("--table", vector("built-two-paths"))
    assert (status, err) == (0, "")
    table = rows(out)
    assert table["initiator name"] == [
        "iqn.2026-11.org.example:initiator",
        "ibft-file (initiator 0, initiator name, offset 0x8e)",
    ]
    assert table["NIC 1 VLAN"][0] == "100"
    assert table["NIC 0 DNS 2"][0] == "10.0.2.4"
    assert table["NIC 0"] == ["boot selected"]
    assert table["NIC 1"] == ["valid"]
    assert table["NIC 0 DHCP"][0] == "no"
    assert table["target 1 LUN"][0] == "4752-3a4f-6b7e-2f99"
    assert table["target 1 CHAP secret"][0] == HIDDEN
    assert table["target 1 reverse CHAP name"][0] == "target"


def test_columns_line_up() -> None:
    _, out, _ = run("--table", vector("built-plain"))
    lines = out.splitlines()[1:]
    head, rule = lines[0], lines[1]
    for title in ("what", "value", "source"):
        assert rule[head.index(title)] == "-"
        assert rule[head.index(title) - 1] == " "
    starts = [line.index("ibft-file (") for line in lines if "ibft-file (" in line]
    assert set(starts) == {head.index("source")}


def test_ignored_findings_and_sources_are_shown() -> None:
    status, out, _ = run("--table", vector("broken-vlan-5000"))
    assert status == 0
    assert "NIC 0 VLAN 5000" in out
    assert "outside 1 to 4094" in out
    assert "ibft-file: error: NIC 0, VLAN, offset 0xf0: 5000 is outside 0 to 4094" in out
    assert "Sources looked at" in out
    assert vector("broken-vlan-5000") in out


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("broken-bad-checksum", "checksum is wrong"),
        ("broken-cut-off", "cut off"),
        ("broken-revision-2", "revision 2"),
        ("built-no-targets", "no target that can be used"),
    ],
)
def test_nothing_to_boot_from(name: str, cause: str) -> None:
    status, out, err = run("--table", vector(name))
    assert status == ExitCode.NO_OBJS_FOUND
    assert cause in err
    assert err.count("\n") == 1
    assert vector(name) in out


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize("name", ["built-two-paths", "built-chap", "captured-ipxe-bios-mutual", "broken-bad-checksum"])
def test_secrets_are_never_shown(name: str, form: list[str]) -> None:
    _, out, err = run("--table", vector(name), *form)
    assert out
    assert not [secret for secret in SECRETS if secret in out + err]


def test_json() -> None:
    status, out, _ = run("--json", "--table", vector("built-two-paths"))
    assert status == 0
    document: dict[str, Any] = json.loads(out)
    assert document["schema"] == SCHEMA == "iscsiboot.explain/1"
    nic, target = document["config"]["nics"][1], document["config"]["targets"][1]
    assert nic["vlan"] == {"value": 100, "source": {"kind": "ibft-file", "where": "NIC 1, VLAN, offset 0x190"}}
    assert nic["address"]["value"] == "2001:db8:1::15"
    assert nic["netdev"] is None
    assert nic["dns"][0]["value"] == "2001:db8::53"
    assert document["config"]["nics"][0]["dhcp"]["value"] is False
    assert target["credentials"]["chap_secret"] == HIDDEN
    assert target["credentials"]["reverse_chap_name"] == "target"
    assert document["config"]["targets"][0]["credentials"] is None
    assert document["ignored"][0]["what"] == "SLP server 10.0.2.10"
    assert document["sources"][0]["state"] == "present"
    assert document["findings"] == []


def test_json_of_a_broken_table() -> None:
    status, out, _ = run("--json", "--table", vector("broken-bad-checksum"))
    assert status == ExitCode.NO_OBJS_FOUND
    document = json.loads(out)
    assert document["config"] is None
    assert document["findings"][0] == {
        "source": "ibft-file",
        "severity": "error",
        "structure": "header",
        "field": "checksum",
        "offset": 9,
        "problem": document["findings"][0]["problem"],
    }


def test_this_machine_by_its_roots(tree: Tree) -> None:
    tree.captured("ipxe-bios-mutual")
    status, out, err = run("--sysfs-root", str(tree.roots.sysfs), "--proc-root", str(tree.roots.proc))
    assert (status, err) == (0, "")
    assert rows(out)["NIC 0 network device"][0] == "eth0"
    assert "device-tree" in out
    assert "absent" in out


def test_a_machine_without_table(tree: Tree) -> None:
    status, out, err = run("--sysfs-root", str(tree.roots.sysfs), "--proc-root", str(tree.roots.proc))
    assert status == ExitCode.NO_OBJS_FOUND
    assert "no firmware boot table at all" in err
    assert "none" in out


def test_findings_of_a_source_without_bytes(tree: Tree) -> None:
    tree.plain_view()
    tree.view("ethernet0", {"vlan": "\x1b[31m\n"})
    status, out, _ = run("--sysfs-root", str(tree.roots.sysfs), "--proc-root", str(tree.roots.proc))
    assert status == 0
    assert "\x1b" not in out
    assert 'error: ethernet0, VLAN: "\\x1b[31m"' in out


@pytest.mark.parametrize(
    "argv",
    [["--no-such-option"], ["--table"], ["left over"]],
    ids=["unknown option", "no value", "argument"],
)
def test_wrong_arguments(argv: list[str]) -> None:
    status, out, err = run(*argv)
    assert (status, out) == (ExitCode.INVAL, "")
    assert err.startswith("iscsiboot explain: ")
    assert err.count("\n") == 1


def test_help_goes_to_out() -> None:
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    assert "--table FILE" in out


@pytest.mark.parametrize("make_it", ["missing", "directory", "large"])
def test_a_file_that_cannot_be_read(tmp_path: Path, make_it: str) -> None:
    path = tmp_path / "table"
    if make_it == "directory":
        path.mkdir()
    elif make_it == "large":
        path.write_bytes(bytes((16 << 16) + 1))
    status, out, err = run("--table", str(path))
    assert (status, out) == (ExitCode.INVAL, "")
    assert str(path) in err


def test_a_dump_of_memory_is_a_table_with_more_behind(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(build(make.PLAIN) + bytes(100_000))
    status, out, _ = run("--table", str(path))
    assert status == 0
    assert "100000 bytes follow the table" in out


def test_rendering_is_pure_and_an_empty_report_has_a_form() -> None:
    report = FirmwareReport(config=None)
    assert render_text(report) == render_text(report)
    assert render_text(report).endswith("\n")
    assert json.loads(render_json(report)) == {
        "schema": SCHEMA,
        "config": None,
        "ignored": [],
        "findings": [],
        "sources": [],
    }
