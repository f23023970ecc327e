# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bound on a run, the kernel's log, the timeline file."""

from __future__ import annotations

import fcntl
import io
import json
from pathlib import Path

import pytest

from iscsiboot.boot.console import TIMELINE, ConsoleReport, boottime, process_start
from iscsiboot.boot.kernel_log import read_kernel_log
from iscsiboot.boot.limits import kernel_timeout, read_cmdline, total_seconds
from iscsiboot.boot.lock import exclusive
from iscsiboot.model.timeline import Mark


@pytest.mark.parametrize(
    ("cmdline", "seconds"),
    [
        ("root=LABEL=x quiet", None),
        ("rd.iscsiboot.timeout=20", 20),
        ("rd.iscsiboot.timeout=20 rd.iscsiboot.timeout=30", 30),
        ("rd.iscsiboot.timeout=0", None),
        ("rd.iscsiboot.timeout=", None),
        ("rd.iscsiboot.timeout=-5", None),
        ("rd.iscsiboot.timeout=999999", None),
        ("xrd.iscsiboot.timeout=20", None),
    ],
)
def test_the_kernel_command_line(cmdline: str, seconds: float | None) -> None:
    assert kernel_timeout(cmdline) == seconds


def test_who_wins() -> None:
    assert total_seconds(argument=5, cmdline="rd.iscsiboot.timeout=20", default=450) == 5
    assert total_seconds(argument=None, cmdline="rd.iscsiboot.timeout=20", default=450) == 20
    assert total_seconds(argument=None, cmdline="", default=450) == 450


def test_no_proc_is_an_empty_command_line(tmp_path: Path) -> None:
    assert read_cmdline(tmp_path) == ""


def test_a_kernel_log_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    assert read_kernel_log(tmp_path / "absent") == ()


def test_records_of_the_kernel_log(tmp_path: Path) -> None:
    # A file gives everything in one read; the device one record a read. What is taken of a record is the same.
    (tmp_path / "kmsg").write_bytes(b"3,1,2,-;iBFT has incorrect checksum (0x7)!\n SUBSYSTEM=acpi\n")
    assert read_kernel_log(tmp_path / "kmsg") == ("iBFT has incorrect checksum (0x7)!",)


def test_marks_are_appended_and_notes_are_lines(tmp_path: Path) -> None:
    stream = io.StringIO()
    times = iter([1.5, 2.25, 3.0])
    for marks in ([Mark.STARTED, Mark.LINK], [Mark.LOGIN]):
        report = ConsoleReport(stream, program="iscsistart", clock=lambda: next(times))
        for mark in marks:
            report.mark(mark, 'a "detail"')
        report.note("two\nlines")
        report.save(tmp_path)
        report.save(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / TIMELINE).read_text().splitlines()]
    assert [(line["mark"], line["at"]) for line in lines] == [("started", 1.5), ("link", 2.25), ("login", 3.0)]
    assert stream.getvalue() == "iscsistart: two\\nlines\n" * 2


def test_a_timeline_that_cannot_be_kept_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "iscsiboot").write_text("in the way")
    stream = io.StringIO()
    report = ConsoleReport(stream, program="iscsistart")
    report.mark(Mark.STARTED)
    report.save(tmp_path)
    assert "the timeline is not kept" in stream.getvalue()


def test_the_timeline_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "iscsiboot").mkdir()
    (tmp_path / TIMELINE).symlink_to(tmp_path / "elsewhere")
    report = ConsoleReport(io.StringIO(), program="iscsistart")
    report.mark(Mark.STARTED)
    report.save(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_excludes_and_is_given_back(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path, "nic0"),
        (tmp_path / "iscsiboot/nic0.lock").open() as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "iscsiboot/nic0.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_process_knows_when_it_began(tmp_path: Path) -> None:
    began = process_start(Path("/proc"))
    assert began is not None
    assert 0 < began <= boottime() + 0.01
    assert process_start(tmp_path) is None
    (tmp_path / "self").mkdir()
    (tmp_path / "self/stat").write_text("1 (a ) b) S 2 3")
    assert process_start(tmp_path) is None


def test_verbose_tells_each_mark() -> None:
    stream = io.StringIO()
    report = ConsoleReport(stream, program="iscsistart", clock=lambda: 2.5)
    report.mark(Mark.LINK, "eth0")
    report.verbose = True
    report.mark(Mark.ADDRESS, "eth0 10.0.2.15/24")
    assert stream.getvalue() == "iscsistart: 2.500 s: address: eth0 10.0.2.15/24\n"
