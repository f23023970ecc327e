# SPDX-License-Identifier: LGPL-2.1-or-later
"""A report in both forms: what is in it, that it is printable, and that the schema's page describes it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.errors import ExitCode, Stage
from iscsiboot.initiator.scsi import Capacity
from iscsiboot.model.lun import Lun
from iscsiboot.toolkit.media_values import Content, Role
from iscsiboot.toolkit.probe_json import SCHEMA, render_json
from iscsiboot.toolkit.probe_render import HEAD, render_text
from iscsiboot.toolkit.probe_report import DiscoveryReport, ProbeReport, Step, UnitReport
from iscsiboot.toolkit.probe_words import boots_by, content_text, lun_text, size_text, step_text, summary, time_text
from tests.doubles.disk import LogicalUnit
from tests.doubles.scsi import BECOMING_READY, Identity
from tests.unit.toolkit.media_support import LINUX, Part, gpt_disk, mbr, mbr_entry, place
from tests.unit.toolkit.probe_support import NAME, OTHER, World, at, bootable, failure, found

SCHEMA_PAGE = Path(__file__).resolve().parents[3] / "docs" / "probe-json.md"
REFUSED = failure(Stage.CONNECT, "connection refused\x1b[2J", ExitCode.TRANS_TIMEOUT)


def many() -> bytes:
    """An MBR with an extended partition in it, and a code nobody knows."""
    data = bytearray(2 << 20)
    place(data, 0, mbr(mbr_entry(0x83, 64, 1 << 20, active=True), mbr_entry(0x05, 200, 2000), code=b"\xfa"))
    place(data, 200 * 512, mbr(mbr_entry(0x82, 8, 20)))
    return bytes(data)


def world() -> World:
    """Something of everything: a disk, a hostile one, an unready one, a dead portal, a redirect, remarks."""
    hostile = gpt_disk(Part(LINUX, 64, 127, "\x1b]0;owned\x07"), *(Part(LINUX, 200 + n, 200 + n) for n in range(6)))
    units = {
        0: LogicalUnit(identity=Identity(device_type=0x0C)),
        1: LogicalUnit(image=bootable()),
        2: LogicalUnit(image=bytes(hostile), identity=Identity(vendor="\x1b[2J", serial="")),
        3: LogicalUnit(image=bytes(1 << 20), instead={0x00: BECOMING_READY}),
        4: LogicalUnit(image=many()),
        5: LogicalUnit(identity=Identity(qualifier=3, device_type=0x1F)),
    }
    return World(
        units=units,
        targets=[found(NAME, at("10.0.0.1"), at("10.0.0.2"), at("10.0.0.3")), found(OTHER, at("fd00::1", 3261))],
        refused=['name "\\x1b" is no name'],
        broken={"10.0.0.3": REFUSED},
        mute=True,
    )


def report() -> ProbeReport:
    return world().run("10.0.0.1", "--all-portals")


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_the_table() -> None:
    text = render_text(report())
    table = lines(text.split("\n\n")[0])
    assert table[0].split() == " ".join(HEAD).split()
    columns = [table[0].index(name) for name in HEAD]
    assert len(table) == 1 + 3 * 6 + 1
    for line in table[1:]:
        assert all(line[column - 1] == " " and line[column] != " " for column in columns[1:])
    row = next(line for line in table if line.startswith(NAME) and line[columns[2] :].startswith("1 "))
    assert row[columns[1] :].startswith("10.0.0.1:3260")
    assert row[columns[3] :].startswith("4.0 MiB")
    assert row[columns[4] :].startswith("gpt")
    assert row[columns[5] :].startswith("UEFI, kernel  ")
    assert row[columns[6] :] == '1 vfat "ESP" (EFI system), 2 ext4 "root"'
    assert [line[columns[5] :].split("  ")[0] for line in table if "failed" in line] == [
        "failed: device",
        "failed: device",
        "failed: connect",
        "failed: device",
    ]


@pytest.mark.parametrize("width", [80, 60, 20])
def test_a_narrow_terminal_has_the_place_above_its_units(width: int) -> None:
    table = lines(render_text(report(), width).split("\n\n")[0])
    places = [line for line in table if not line.startswith(" ")]
    assert places == [f"{path.path}" for path in report().paths]
    assert table[0].split() == " ".join(HEAD[2:]).split()
    cells = [line for line in table if line.startswith(" ")]
    content = table[0].index("CONTENT")
    assert all(line[content - 1 : content] in (" ", "") for line in cells)
    assert max(map(len, cells)) <= max(width, content + 12)
    assert sum(line.endswith("...") for line in cells) >= 2


def test_a_wide_terminal_has_everything_as_a_file_has() -> None:
    made = report()
    assert render_text(made, 500) == render_text(made)


def test_failures_say_stage_object_cause_and_next_step_in_one_line() -> None:
    text = render_text(report())
    failures = [line for line in lines(text) if line.startswith("failed: ")]
    assert "failed: connect: there: connection refused\\x1b[2J; next: look there" in failures
    assert [
        line for line in failures if f"device: {NAME} at 10.0.0.1:3260, LUN 3: TEST UNIT READY was answered" in line
    ]
    assert len(failures) == 4
    assert text.count("connection refused") == 1


def test_details() -> None:
    text = render_text(report())
    for words in (
        "Discovery at 10.0.0.1:3260: 2 targets",
        'not used: name "\\x1b" is no name',
        "boots by UEFI: yes: EFI/BOOT/BOOTX64.EFI (x64) in EFI system partition 1",
        "boots by BIOS: no: there is no boot code",
        'boots by kernel: yes: ext4 "root" in partition 2',
        "remark: logout: no answer to our logout",
        "  remark: an odd number",
        "LUN 1: the same as at 10.0.0.1:3260",
        'named "\\x1b]0;owned\\x07"',
        "authentication: none",
        "TEST UNIT READY",
        "5: 10.0 KiB at 104 KiB, Linux swap, content unknown",
        "mbr partition table",
        "controller EXAMPLE SCRIPTED DISK 1",
    ):
        assert words in text, words
    assert re.search(r"^  [0-9.]+ ms: connect [0-9.]+ ms, login [0-9.]+ ms, REPORT LUNS", text, re.MULTILINE)


def test_every_line_is_printable() -> None:
    assert all(line.isprintable() for line in lines(render_text(report())))


def test_a_discovery_that_failed() -> None:
    text = render_text(World(broken={"10.0.0.1": REFUSED}).run("10.0.0.1"))
    assert text == "", "it is told on stderr"


def test_a_discovery_that_failed_half_way_has_its_times() -> None:
    steps = (Step(name="connect", seconds=0.25),)
    failed = DiscoveryReport(portal=at("10.0.0.1"), steps=steps, failure=REFUSED)
    made = ProbeReport(asked="x", initiator_name=NAME, discovery=failed)
    assert lines(render_text(made)) == ["Discovery at 10.0.0.1:3260: failed", "  250.0 ms: connect 250.0 ms"]
    assert made.nothing_because == (REFUSED,)


def test_one_path_that_nobody_answered_at_leaves_nothing_to_report_on() -> None:
    alone = World(broken={"10.0.0.1": REFUSED}).run("10.0.0.1", NAME)
    assert alone.nothing_because == (alone.paths[0].failure,)
    assert render_text(alone) == ""
    assert report().nothing_because == ()


def test_a_redirect_is_told() -> None:
    text = render_text(World(redirect=at("10.0.0.7")).run("10.0.0.1", NAME))
    assert "  redirected to 10.0.0.7:3260" in lines(text)


def test_units_of_different_targets_are_never_the_same() -> None:
    both = World(targets=[found(NAME, at("10.0.0.1")), found(OTHER, at("10.0.0.1"))]).run("10.0.0.1")
    assert "the same as at" not in render_text(both)


# JSON, against its page.


def schema() -> dict[str, dict[str, str]]:
    """The tables of the page: object to field to type."""
    tables: dict[str, dict[str, str]] = {}
    name = ""
    for line in SCHEMA_PAGE.read_text().splitlines():
        if line.startswith("## "):
            name = line[3:]
            tables[name] = {}
        elif match := re.fullmatch(r"\| `([a-z_]+)` \| ([^|]+) \|.*", line):
            tables[name][match[1]] = match[2]
    return tables


TABLES = schema()
PLAIN = {"text": (str,), "number": (int, float), "true/false": (bool,)}


def check(value: Any, kind: str, where: str, seen: set[str]) -> None:
    """Whether a value is of a type of the page; ``seen`` collects the fields that were not null."""
    if kind.endswith("?"):
        if value is None:
            return
        kind = kind[:-1]
    if kind.startswith("["):
        assert isinstance(value, list), where
        for item in value:
            check(item, kind[1:-1], where, seen)
    elif kind in PLAIN:
        assert isinstance(value, PLAIN[kind]), where
        assert kind == "true/false" or not isinstance(value, bool), where
        assert not isinstance(value, str) or value.isprintable(), where
    else:
        assert isinstance(value, dict), where
        assert list(value) == list(TABLES[kind]), where
        for field, inner in TABLES[kind].items():
            if value[field] not in (None, []):
                seen.add(f"{kind}.{field}")
            check(value[field], inner, f"{where}.{field}", seen)


def test_json_is_what_its_page_says() -> None:
    seen: set[str] = set()
    plain = report()
    (first, *rest) = plain.paths
    unit = first.units[1]
    assert unit.media is not None
    whole = replace(unit.media, found=replace(unit.media.found, content=Content(kind="LVM2", role=Role.CONTAINER)))
    extended = replace(
        plain,
        failure=REFUSED,
        paths=(
            replace(first, alias="alias\x1b", failure=REFUSED, units=(*first.units, replace(unit, media=whole))),
            *rest,
        ),
    )
    for item in (plain, extended, World(broken={"10.0.0.1": REFUSED}).run("10.0.0.1")):
        check(json.loads(render_json(item)), "report", "report", seen)
    described = {f"{name}.{field}" for name, fields in TABLES.items() for field in fields}
    # Everything the page names was seen with a value, so nothing of it is untested.
    assert described - seen == set()


def test_json_values() -> None:
    document = json.loads(render_json(report()))
    assert document["schema"] == SCHEMA == "iscsiboot.probe/1"
    assert document["exit_code"] == ExitCode.AGAIN
    path = document["paths"][0]
    assert (path["target"], path["portal"], path["authentication"]) == (NAME, "10.0.0.1:3260", "none")
    lun = path["luns"][1]
    assert (lun["lun"], lun["lun_wire"], lun["size"]) == ("1", "0001000000000000", 4 << 20)
    assert lun["media"]["boots_by"]["uefi"]["outcome"] == "yes"
    assert lun["media"]["partition_table"]["partitions"][0]["efi_loaders"] == ["BOOTX64.EFI"]
    assert document["paths"][2]["failure"]["exit_code"] == ExitCode.TRANS_TIMEOUT
    assert document["paths"][2]["reached"] is None


# Words.


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1536, "1.5 KiB"),
        (64 << 20, "64.0 MiB"),
        (500 << 30, "500 GiB"),
        (1 << 60, "1.0 EiB"),
        (1 << 80, "1048576 EiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_times() -> None:
    assert (time_text(0.00042), time_text(1.254)) == ("0.4 ms", "1.25 s")
    assert step_text(Step(name="READ(10)", seconds=0.5, times=4)) == "READ(10) 500.0 ms (4 times)"


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ("0000000000000000", "0"),
        ("000a000000000000", "10"),
        ("412c000000000000", "300"),
        ("0001000200000000", "0001-0002"),
        ("0105000000000000", "105"),
        ("c101000000000000", "c101"),
    ],
)
def test_luns(wire: str, text: str) -> None:
    assert lun_text(Lun(bytes.fromhex(wire))) == text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (Content(kind="ext4", label="root"), 'ext4 "root"'),
        (Content(kind="vfat", detail="FAT32"), "vfat"),
        (Content(kind="Linux RAID", detail="level 1", role=Role.CONTAINER), "Linux RAID level 1"),
    ],
)
def test_contents(content: Content, text: str) -> None:
    assert content_text(content) == text


def test_a_unit_nothing_is_known_of() -> None:
    unit = UnitReport(lun=Lun.from_number(1))
    assert summary(unit) == ("-", "-", "-")
    assert not unit.same_as(unit)
    sized = replace(unit, capacity=Capacity(blocks=8, block_size=512, physical_block_size=512))
    text = render_text(ProbeReport(asked="x", initiator_name=NAME))
    assert text == ""
    assert summary(sized)[0] == "-"


def test_who_boots_it() -> None:
    (path,) = World(units={1: LogicalUnit(image=bytes(1 << 20))}).run("10.0.0.1", NAME).paths
    assert path.units[0].media is not None
    assert boots_by(path.units[0].media) == "nothing"
    assert summary(path.units[0]) == ("none", "nothing known", "nothing")
