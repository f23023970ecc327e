# SPDX-License-Identifier: LGPL-2.1-or-later
"""Figures to text: ratios the right way round, gaps told, the picture well formed, the document renewed in place."""

from __future__ import annotations

import itertools
import json
from xml.etree import ElementTree

import pytest

from benchmarks.charts import Chart, decades, render_svg
from benchmarks.document import ratio_text, renewed, seconds_text
from benchmarks.initiator import report
from benchmarks.initiator.__main__ import PICTURE, Figures, arguments, charts, describe
from benchmarks.initiator.blackholes import Probe, addresses, network_script, probe_command, tally
from benchmarks.initiator.contest import LIBISCSI, OPEN_ISCSI, OURS, Case, Run
from benchmarks.initiator.guest import kernel_words, read_runs
from benchmarks.initiator.libiscsi import LibIscsi, LibIscsiError
from benchmarks.initiator.rates import Rate, pace, rates
from iscsiboot.errors import IscsiBootError, Stage
from tests.qemu.harness.errors import HarnessError


def run(contestant: str, seconds: float, *, size: int = 1000, kib: int = 20480, failure: str = "") -> Run:
    return Run(
        family="tgt", size=size, contestant=contestant, seconds=seconds, peak_kib=kib, listed=size, failure=failure
    )


RUNS = [
    *(run(OURS, 0.2), run(LIBISCSI, 0.1, kib=2048), run(OPEN_ISCSI, 4.0, kib=40960)),
    *(run(OURS, 0.3), run(LIBISCSI, 0.1, kib=2048), run(OPEN_ISCSI, 2.0, kib=40960)),
    *(run(OURS, 3.0, size=10_000), run(LIBISCSI, 0.0, size=10_000, failure="exit status 10: flags")),
]
RATES = [
    *(
        Rate(work="login", contestant=OURS, per_second=2000.0),
        Rate(work="login", contestant=LIBISCSI, per_second=4000.0),
    ),
    Rate(work="other", contestant=LIBISCSI, per_second=0.0, failure="no such thing"),
]
PROBES = [Probe(portals=64, dark=32, timeout=5.0, seconds=5.5)]
FIGURES = Figures(rates=RATES, native=RUNS[:2], guest=RUNS, memory=RUNS[:2], probe=PROBES)


@pytest.mark.parametrize(
    ("ours", "peer", "text"),
    [
        ([1.0], [2.0], "0.50 (0.50 to 0.50)"),
        ([1.0, 3.0, 2.0], [1.0, 1.0, 4.0], "1.00 (0.50 to 3.00)"),
        ([1.0, 1.0], [2.0], "0.50 (0.50 to 0.50)"),
        ([], [1.0], "-"),
        ([1.0], [], "-"),
    ],
)
def test_ratios_are_taken_round_by_round(ours: list[float], peer: list[float], text: str) -> None:
    assert ratio_text(ours, peer) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [([], "-"), ([0.0124], "12 ms"), ([0.5, 9.0, 0.7], "700 ms"), ([1.0], "1.0 s"), ([65.0], "65.0 s")],
)
def test_seconds(values: list[float], text: str) -> None:
    assert seconds_text(values) == text


def test_times() -> None:
    assert report.times_table(RUNS).splitlines() == [
        "| targets | iscsiboot | iscsi-ls | ratio | open-iscsi | ratio |",
        "|---|---|---|---|---|---|",
        "| 1,000 | 250 ms | 100 ms | 2.50 (2.00 to 3.00) | 3.0 s | 0.10 (0.05 to 0.15) |",
        "| 10,000 | 3.0 s | - | - | - | - |",
    ]


def test_memory() -> None:
    line = report.memory_table(RUNS).splitlines()[2]
    assert line == "| 1,000 | 20.0 MiB | 2.0 MiB | 10.00 (10.00 to 10.00) | 40.0 MiB | 0.50 (0.50 to 0.50) |"


def test_a_pace_twice_as_fast_is_half_the_time() -> None:
    assert report.rates_table(RATES).splitlines()[2:] == [
        "| login | 2,000.0/s | 4,000.0/s | 2.00 (2.00 to 2.00) |",
        "| other | - | - | - |",
    ]


def test_failures_are_told() -> None:
    assert report.failures([*RUNS, *RUNS], RATES) == (
        "* iscsi-ls, 10,000 targets (tgt): exit status 10: flags\n* iscsi-ls, other: no such thing\n"
    )


def test_probes() -> None:
    assert report.probes_table(PROBES).splitlines()[2] == "| 64 | 32 | 5 s | 5.50 s | 1.10 |"


def test_points_are_medians_of_what_counts() -> None:
    assert report.points(RUNS, OURS, lambda each: each.seconds) == [(1000.0, 0.25), (10_000.0, 3.0)]
    assert report.points(RUNS, LIBISCSI, lambda each: each.seconds) == [(1000.0, 0.1)]
    assert report.points(RUNS, "nobody", lambda each: each.seconds) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0], (0, 1)), ([0.03, 65.0], (-2, 2)), ([100.0, 100_000.0], (2, 5)), ([20.1, 20.2], (1, 2))],
)
def test_decades_hold_every_value(values: list[float], expected: tuple[int, int]) -> None:
    assert decades(values) == expected


def test_the_picture_is_well_formed_and_inside_itself() -> None:
    text = render_svg([Chart(title="a < b", unit="s", lines={"x & y": [(100, 0.5), (1, 20)]}), *charts(FIGURES)])
    root = ElementTree.fromstring(text)
    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    circles = [element for element in root.iter() if element.tag.endswith("circle")]
    assert len(circles) == 2 + 2 + 1 + 1 + 1 + 1 + 1
    assert all(0 < float(circle.attrib["cx"]) < width for circle in circles)
    assert all(0 < float(circle.attrib["cy"]) < height for circle in circles)
    # Ten times more is the same distance everywhere, upwards and to the right.
    (x1, y1), (x2, y2) = ((float(c.attrib["cx"]), float(c.attrib["cy"])) for c in circles[:2])
    assert x1 < x2
    assert y1 < y2


def test_a_chart_without_figures_says_so() -> None:
    assert "not measured" in render_svg([Chart(title="t", unit="s", lines={"a": []})])


def test_the_text_has_every_part() -> None:
    text = describe(FIGURES, "KVM", "command --line")
    for part in ("one process", "on the host: time", "in a guest (KVM)", "generated answer", "many portals", PICTURE):
        assert part in text
    assert "`command --line`" in text
    assert "Could not be done:" in text


def test_what_was_not_measured_is_not_in_the_text() -> None:
    text = describe(Figures(probe=PROBES), "KVM", "c")
    assert "### Probe" in text
    assert text.count("###") == 1
    assert "Could not be done" not in text


def test_the_document_is_renewed_between_its_markers() -> None:
    begin, end = "<!-- a.b: begin -->\n", "<!-- a.b: end -->\n"
    first = renewed("# P\n\nwords\n", "a.b", "one\n")
    assert first == f"# P\n\nwords\n\n{begin}one\n{end}"
    assert renewed(f"{first}\nafter\n", "a.b", "two\n") == f"# P\n\nwords\n\n{begin}two\n{end}\nafter\n"
    assert renewed(first, "a.c", "other\n").startswith(first)


@pytest.mark.parametrize("words", [["--parts=rates,nothing"], ["--sizes=1,x"], ["--rounds=many"], ["stray"]])
def test_bad_arguments_end_it(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments(words)
    assert caught.value.code == 2


def test_arguments() -> None:
    options = arguments(["--parts=probe,rates", "--sizes=1,30"])
    assert (options.parts, options.sizes, options.dry) == (("probe", "rates"), (1, 30), False)


def test_a_pace_counts_what_was_done_in_its_time() -> None:
    clock = itertools.count(step=0.25)
    done: list[int] = []
    assert pace(lambda: done.append(1), 1.0, now=lambda: next(clock)) == 4.0
    assert len(done) == 4


def test_a_pace_is_at_least_one() -> None:
    clock = itertools.count(step=10.0)
    assert pace(lambda: None, 1.0, now=lambda: next(clock)) == 0.1


def test_paces_in_turn_and_who_cannot_is_left_out() -> None:
    ran: list[str] = []

    def works(name: str) -> None:
        ran.append(name)

    def fails() -> None:
        raise LibIscsiError("too long")

    def fails_too() -> None:
        raise IscsiBootError("too late", stage=Stage.LOGIN)

    calls = {
        "a": {OURS: lambda: works("ours"), LIBISCSI: lambda: works("peer")},
        "b": {OURS: fails_too, LIBISCSI: fails},
    }
    found = rates(calls, rounds=2, seconds=0.0, tell=lambda _: None)
    assert [(rate.work, rate.contestant) for rate in found if not rate.failure] == [
        *(("a", OURS), ("a", LIBISCSI), ("a", LIBISCSI), ("a", OURS)),
    ]
    assert ran == ["ours", "peer", "ours", "peer", "peer", "ours"]
    assert [rate.failure for rate in found if rate.failure] == ["login: too late", "too long"]


def test_a_library_that_is_not_there() -> None:
    with pytest.raises(LibIscsiError, match=r"libnothere\.so cannot be loaded"):
        LibIscsi("libnothere.so")


def test_kernel_words_become_the_contest_s_arguments() -> None:
    words = kernel_words([Case(family="tgt", size=5, port=6)], 3)
    assert [word.removeprefix("bench.") for word in words if word.startswith("bench.")] == [
        *("--open-iscsi", "--host=10.0.2.2", "--rounds=3", "tgt:5:6"),
    ]


def test_runs_come_out_of_the_guest_whole() -> None:
    lines = "".join(json.dumps({name: getattr(each, name) for name in Run.__slots__}) + "\n" for each in RUNS)
    assert read_runs(lines.encode()) == RUNS


@pytest.mark.parametrize("data", [b"{", b"\xff\n", b'{"family": "tgt"}\n', b"[]\n", b"3\n"])
def test_a_result_that_is_none(data: bytes) -> None:
    with pytest.raises(HarnessError, match="the guest's result cannot be read"):
        read_runs(data)


def test_dark_portals_are_dropped_and_live_ones_are_not() -> None:
    one, two, three = addresses(3)
    lines = network_script([one, two], [three]).splitlines()
    assert [line for line in lines if "addr add" in line] == [
        f"ip addr add {each}/32 dev lo" for each in (one, two, three)
    ]
    (rule,) = [line for line in lines if "drop" in line]
    assert three in rule
    assert one not in rule
    assert "nft" not in network_script([one], [])


def test_addresses_are_different_and_of_one_network() -> None:
    assert len(set(addresses(64))) == 64
    assert all(address.startswith("10.64.0.") for address in addresses(64))


def test_the_probe_is_told_its_timeout() -> None:
    argv = probe_command("10.64.1.1:3260", 2.5)
    assert argv[argv.index("--timeout") + 1] == "2.5"
    assert {"10.64.1.1:3260", "--all-portals", "--json"} <= set(argv)


def test_portals_are_counted_by_what_became_of_them() -> None:
    paths = [{"failure": None}, {"failure": {"stage": "connect"}}, {"failure": {"stage": "login"}}, {"failure": None}]
    assert tally(json.dumps({"paths": paths})) == (2, 1)


@pytest.mark.parametrize("said", ["", "no json", "[]", "{}", '{"paths": [{}]}', '{"paths": 3}'])
def test_no_report_is_an_error(said: str) -> None:
    with pytest.raises(HarnessError, match="no report"):
        tally(said)
