# SPDX-License-Identifier: LGPL-2.1-or-later
"""Timeline: file to entries, entries to table and picture, and the command."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.boot.console import json_line
from iscsiboot.errors import ExitCode
from iscsiboot.model.timeline import Mark, TimelineEntry
from iscsiboot.toolkit.timeline import in_order, main, parse_lines, render_svg, render_table, tick_seconds

ENTRIES = [
    TimelineEntry(mark=Mark.KERNEL, at=0.0),
    TimelineEntry(mark=Mark.TABLE_READ, at=6.25, detail="acpi-ibft"),
    TimelineEntry(mark=Mark.LOGIN, at=7.5, detail="10.0.2.2:3260"),
    TimelineEntry(mark=Mark.MULTI_USER, at=30.0),
]
SVG = "{http://www.w3.org/2000/svg}"

entries_strategy = st.lists(
    st.builds(
        TimelineEntry,
        mark=st.sampled_from(Mark),
        at=st.floats(0, 1e6, allow_nan=False),
        detail=st.text(max_size=80),
    ),
    max_size=12,
)


def test_what_the_boot_path_writes_is_read_back() -> None:
    assert parse_lines("".join(json_line(entry) for entry in ENTRIES)) == ENTRIES


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "7",
        '{"mark": "login"}',
        '{"mark": "unheard of", "at": 1}',
        '{"mark": "login", "at": "1"}',
        '{"mark": "login", "at": true}',
        '{"mark": "login", "at": -1}',
        '{"mark": "login", "at": NaN}',
        '{"mark": "login", "at": Infinity}',
        '{"mark": "login", "at": 1e400}',
        '{"mark": "login", "at": 1, "detail": 5}',
        '{"mark": ["login"], "at": 1}',
    ],
)
def test_lines_that_hold_no_mark_are_skipped(line: str) -> None:
    good = json_line(ENTRIES[2])
    assert parse_lines(f"{good}{line}\n{good}") == [ENTRIES[2], ENTRIES[2]]


@given(st.text(max_size=200))
def test_any_text_is_parsed_without_an_error(text: str) -> None:
    parse_lines(text)


def test_order_is_time_then_the_boots_own() -> None:
    login = TimelineEntry(mark=Mark.LOGIN, at=5.0)
    link = TimelineEntry(mark=Mark.LINK, at=5.0)
    late = TimelineEntry(mark=Mark.KERNEL, at=9.0)
    assert in_order([late, login, link]) == [link, login, late]


def test_table_from_the_kernels_start() -> None:
    assert render_table(ENTRIES) == (
        "step         seconds     took  (seconds since kernel start)\n"
        "kernel          0.00     0.00\n"
        "table read      6.25     6.25  acpi-ibft\n"
        "login           7.50     1.25  10.0.2.2:3260\n"
        "multi-user     30.00    22.50\n"
    )


def test_table_from_power_on() -> None:
    lines = render_table(ENTRIES, firmware=10.0).splitlines()
    assert lines[0].endswith("(seconds since power-on)")
    assert lines[1].split() == ["firmware", "0.00", "0.00", "power-on"]
    assert lines[2].split() == ["kernel", "10.00", "10.00"]
    assert lines[-1].split() == ["multi-user", "40.00", "22.50"]


def test_table_of_nothing() -> None:
    assert render_table([]).splitlines() == ["step   seconds     took  (seconds since kernel start)"]


def test_hostile_details_do_not_move_the_cursor() -> None:
    table = render_table([TimelineEntry(mark=Mark.LOGIN, at=1.0, detail="a\x1b[2J\nb" + "x" * 100)])
    assert "\x1b" not in table
    assert len(table.splitlines()) == 2
    assert max(map(len, table.splitlines())) < 100


@given(entries_strategy, st.none() | st.floats(0, 100))
def test_every_picture_is_well_formed_and_has_a_bar_for_each_row(
    entries: list[TimelineEntry], firmware: float | None
) -> None:
    root = ElementTree.fromstring(render_svg(entries, firmware=firmware, title="<a> & \x00"))
    bars = [item for item in root.iter(f"{SVG}rect") if "bar" in item.get("class", "")]
    assert len(bars) == len(entries) + (firmware is not None)
    for bar in bars:
        assert float(bar.get("width", "0")) > 0
        assert 0 <= float(bar.get("x", "-1")) <= 130 + 620


def test_bars_follow_each_other() -> None:
    root = ElementTree.fromstring(render_svg(ENTRIES, firmware=10.0))
    bars = [item for item in root.iter(f"{SVG}rect") if "bar" in item.get("class", "")]
    login, multi_user = bars[3], bars[4]
    end_of_login = float(login.get("x", "")) + float(login.get("width", ""))
    assert float(multi_user.get("x", "")) == pytest.approx(end_of_login, abs=0.2)
    ratio = float(multi_user.get("width", "")) / float(login.get("width", ""))
    assert ratio == pytest.approx(22.5 / 1.25, rel=0.02)


@pytest.mark.parametrize(
    ("span", "tick"), [(0, 1.0), (8, 1.0), (10, 1.0), (11, 2.0), (45, 5.0), (99, 10.0), (0.5, 0.05)]
)
def test_ticks_are_round(span: float, tick: float) -> None:
    assert tick_seconds(span) == pytest.approx(tick)


@given(st.floats(1e-3, 1e9))
def test_ticks_are_about_ten(span: float) -> None:
    assert 3.9 <= span / tick_seconds(span) <= 10.001


def run(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(argv, out, err), out.getvalue(), err.getvalue()


def test_command(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json_line(entry) for entry in ENTRIES))
    picture = tmp_path / "t.svg"
    assert run(str(file), "--svg", str(picture)) == (0, render_table(ENTRIES), "")
    assert picture.read_text() == render_svg(ENTRIES)


def test_command_without_a_file(tmp_path: Path) -> None:
    status, out, err = run(str(tmp_path / "none"))
    assert (status, out) == (ExitCode.ERR, "")
    assert err == f"iscsiboot timeline: {tmp_path / 'none'}: No such file or directory\n"


def test_command_with_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "t"
    file.write_text("nothing\n")
    status, out, err = run(str(file))
    assert (status, out) == (ExitCode.NO_OBJS_FOUND, "")
    assert "no marks" in err


def test_command_with_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "t"
    file.write_text(json_line(ENTRIES[0]))
    status, _, err = run(str(file), "--svg", str(tmp_path / "no/where.svg"))
    assert status == ExitCode.ERR
    assert "where.svg: No such file or directory" in err
