# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: glibc's way of splitting, the peer's way through the options, and the table behind both.

That these are the peer's words and orders is what tests/interop/test_admin_arguments.py shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.admin.options import BY_LONG, MODES, OPTIONS, Options, Usage, parse
from iscsiboot.admin.usage import help_lines, synopsis
from iscsiboot.errors import ExitCode
from iscsiboot.model.getopt_long import Found, scan

TRY = "Try `iscsiadm --help' for more information."


def refused(*argv: str) -> Usage:
    with pytest.raises(Usage) as caught:
        parse(argv)
    return caught.value


def outcome(argv: Sequence[str]) -> Options | Usage:
    try:
        return parse(argv)
    except Usage as usage:
        return usage


def options(line: str) -> Options:
    return parse(line.split())


def split(*argv: str, in_order: bool = False) -> tuple[list[str], list[str]]:
    """``long=value`` or the complaint of each option; the words."""
    words: list[str] = []
    found = scan(argv, "prog", OPTIONS, in_order=in_order, words=words)
    return [_shown(item) for item in found], words


def _shown(item: Found) -> str:
    return item.complaint if item.spec is None else f"{item.spec.long}={item.value}"


@pytest.mark.parametrize(
    ("argv", "found", "words"),
    [
        ([], [], []),
        (["-m", "node"], ["mode=node"], []),
        (["-mnode"], ["mode=node"], []),
        (["--mode", "node"], ["mode=node"], []),
        (["--mode=node"], ["mode=node"], []),
        (["--mo", "node"], ["mode=node"], []),
        (["--m=node"], ["mode=node"], []),
        (["--target", "x"], ["targetname=x"], []),
        (["-Dl"], ["discover=", "login="], []),
        (["-SP1", "x"], ["show=", "print=1"], ["x"]),
        (["-lm", "node"], ["login=", "mode=node"], []),
        (["-p", "-Q"], ["portal=-Q"], []),
        (["-p", "--"], ["portal=--"], []),
        (["--portal", "-l"], ["portal=-l"], []),
        (["-n", "", "-v", ""], ["name=", "value="], []),
        (["--value="], ["value="], []),
        (["--value=a=b"], ["value=a=b"], []),
        (["x", "-l", "y"], ["login="], ["x", "y"]),
        (["-l", "--", "-u", "x"], ["login="], ["-u", "x"]),
        (["-", "-l", ""], ["login="], ["-", ""]),
        (["-lQ", "-u"], ["login=", "prog: invalid option -- 'Q'", "logout="], []),
        (["-lp"], ["login=", "prog: option requires an argument -- 'p'"], []),
        (["--po"], ["prog: option '--po' is ambiguous; possibilities: '--portal' '--portal_type'"], []),
        (
            ["--in=if0"],
            ["prog: option '--in=if0' is ambiguous; possibilities: '--interface' '--interval' '--index'"],
            [],
        ),
        (["--portal"], ["prog: option '--portal' requires an argument"], []),
        (["--login=1"], ["prog: option '--login' doesn't allow an argument"], []),
        (["--logi"], ["prog: option '--logi' is ambiguous; possibilities: '--login' '--loginall'"], []),
        (["--bogus=1"], ["prog: unrecognized option '--bogus=1'"], []),
        (["--json", "--wait-device", "--force"], ["json=", "wait-device=", "force="], []),
        (["--timeout", "5", "--timeout=6"], ["timeout=5", "timeout=6"], []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_splitting(argv: list[str], found: list[str], words: list[str]) -> None:
    assert split(*argv) == (found, words)


@pytest.mark.parametrize("word", ["--j", "--jso", "--wait", "--wait_device", "--forc", "--tim", "--time"])
def test_our_own_options_are_written_out(word: str) -> None:
    """An abbreviation of ours would be a word the peer refuses today, and could become ambiguous tomorrow."""
    assert split(word)[0] == [f"prog: unrecognized option '{word}'"]


def test_the_peers_ambiguities_name_none_of_ours() -> None:
    assert split("--t")[0] == ["prog: option '--t' is ambiguous; possibilities: '--targetname' '--type'"]


def test_in_order_ends_at_the_first_word() -> None:
    assert split("-l", "x", "-u", in_order=True) == (["login="], ["x", "-u"])


@given(st.lists(st.text(alphabet="-=mnodepTIl x\udcff", max_size=9), max_size=6))
def test_any_command_line_is_options_or_usage(argv: list[str]) -> None:
    found = outcome(argv)
    if isinstance(found, Usage):
        assert found.out or found.err
        assert found.exit_code in (ExitCode.SUCCESS, ExitCode.ERR, ExitCode.INVAL)
    else:
        assert found.mode in MODES or found.kill is not None


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("-m session", ""),
        ("-m session -u", "logout"),
        ("-m session -u -s", "statistics"),
        ("-m session -u -s -R", "rescan"),
        ("-m session -R", "rescan"),
    ],
)
def test_what_is_to_be_done_to_sessions(line: str, kind: str) -> None:
    assert options(line).on_sessions == kind


def test_what_is_not_given() -> None:
    found = options("-m node")
    plain = {name: getattr(found, name) for name in Options.__slots__ if getattr(found, name)}
    assert plain == {"mode": "node", "print_level": -1, "packet_size": 32, "count": 1}


PLACES: list[tuple[str, str, object]] = [
    ("-m node -p 192.0.2.1:3260", "portal", "192.0.2.1:3260"),
    ("-m node -p a -p b", "portal", "b"),
    ("-m node -T iqn.x:y", "target", "iqn.x:y"),
    ("-m node -I a -I b", "interfaces", ["a", "b"]),
    ("-m discovery -o new -o delete -o new", "ops", frozenset({"new", "delete"})),
    ("-m discovery -o new -o bogus", "ops", frozenset({"new"})),
    ("-m discovery -t st", "type", "sendtargets"),
    ("-m discovery -t sendtargets", "type", "sendtargets"),
    ("-m discovery -t isns", "type", "isns"),
    ("-m discovery -t fw", "type", "fw"),
    ("-m discovery -t slp", "type", "slp"),
    ("-m discovery -t bogus", "type", None),
    ("-m discovery -t st -t bogus", "type", None),
    ("-m node -n a -v 1 -n b -v 2", "params", [("a", "1"), ("b", "2")]),
    ("-m node -v 1 -n a", "params", [("a", "1")]),
    ("-m node -n a -n b -v 1 -v 2", "params", [("b", "1")]),
    ("-m node -n a", "params", []),
    ("-m session -r 7", "sid", "7"),
    ("-m session -r +7", "sid", "7"),
    ("-m host -H 3", "host", "3"),
    ("-m node -P 1", "print_level", 1),
    ("-m node -P x", "print_level", 0),
    ("-m node -P -1", "print_level", -1),
    ("-m node -P 4294967297", "print_level", 1),
    ("-m node -d 8", "debug", 8),
    ("-m node -R", "rescan", True),
    ("-m node -l", "login", True),
    ("-m node -u", "logout", True),
    ("-m node -L all", "loginall", "all"),
    ("-m node -U manual", "logoutall", "manual"),
    ("-m node -s", "stats", True),
    ("-m node -S", "show", True),
    ("-m node -W", "no_wait", True),
    ("-m discoverydb -D", "discover", True),
    ("-m iface -C ping", "submode", "ping"),
    ("-m iface -a 192.0.2.9", "ip", "192.0.2.9"),
    ("-m iface -b 64", "packet_size", 64),
    ("-m iface -c 3", "count", 3),
    ("-m iface -i 2", "interval", 2),
    ("-m host -x 5", "index", 5),
    ("-m host -A ipv6", "portal_type", "ipv6"),
    ("-m session --json", "json", True),
    ("-m node --wait-device", "wait_device", True),
    ("-m node --force", "force", True),
    ("-m node --timeout 30", "timeout", 30.0),
    ("-k 0", "kill", 0),
    ("-k 5", "kill", 5),
    ("-m session -m node", "mode", "node"),
    ("stray -m node stray", "mode", "node"),
]
"""A command line, the attribute it sets, and to what."""


@pytest.mark.parametrize(("line", "name", "value"), PLACES)
def test_each_option_has_its_place(line: str, name: str, value: object) -> None:
    assert getattr(options(line), name) == value


def test_every_option_is_among_these_cases() -> None:
    given_ones = {item.spec.long for line, _, _ in PLACES for item in scan(line.split(), "", OPTIONS) if item.spec}
    assert given_ones == {option.long for option in OPTIONS} - {"help", "version"}


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        ("", [TRY]),
        ("x", [TRY]),
        ("-W", [TRY]),
        ("-m bogus", ["iscsiadm: mode -1 is not yet supported"]),
        ("-m bogus -Q", ["iscsiadm: mode -1 is not yet supported"]),
        ("-m node -V", ["iscsiadm: node mode: option '-V' is not allowed/supported"]),
        ("-m session -h", ["iscsiadm: session mode: option '-h' is not allowed/supported"]),
        ("-m discoverydb -T x", ["iscsiadm: discovery mode: option '-T' is not allowed/supported"]),
        ("-m session -T x -Q", ["iscsiadm: session mode: option '-T' is not allowed/supported"]),
        ("-m iface --force", ["iscsiadm: iface mode: option '--force' is not allowed/supported"]),
        ("-Q", ["iscsiadm: invalid option -- 'Q'", "iscsiadm: unrecognized character 'Q'"]),
        ("--bogus", ["iscsiadm: unrecognized option '--bogus'", TRY]),
        (
            "--bogus -m node",
            [
                "iscsiadm: unrecognized option '--bogus'",
                "iscsiadm: unrecognized option '--bogus'",
                "iscsiadm: node mode: option '-?' is not allowed/supported",
            ],
        ),
        (
            "-Q --bogus",
            ["iscsiadm: invalid option -- 'Q'", "iscsiadm: unrecognized option '--bogus'", TRY],
        ),
        ("-o bogus", ["iscsiadm: can not recognize operation: 'bogus'"]),
        ("-k -1", ["iscsiadm: Invalid killiscsid priority -1 Priority must be greater than or equal to zero."]),
        ("-k 0 -m node", ["iscsiadm: node mode: option '-k' is not allowed/supported"]),
        ("-m node --timeout 0", ["iscsiadm: Invalid timeout 0. Must be from 1 to 86400 seconds."]),
        ("-m node --timeout 86401", ["iscsiadm: Invalid timeout 86401. Must be from 1 to 86400 seconds."]),
        ("-m node --timeout 1.5", ["iscsiadm: Invalid timeout 1.5. Must be from 1 to 86400 seconds."]),
        ("-m node --timeout ٣", ["iscsiadm: Invalid timeout ٣. Must be from 1 to 86400 seconds."]),
        ("-H 4294967296", ["iscsiadm: Invalid host no 4294967296. Numerical result out of range."]),
    ],
)
def test_refusals(argv: str, lines: list[str]) -> None:
    usage = refused(*argv.split())
    assert (usage.out, usage.err, usage.exit_code) == ([], lines, ExitCode.INVAL)


def test_a_bad_interface_is_told_on_stdout_and_a_bad_session_ends_with_1() -> None:
    iface, sid = refused("-I", ""), refused("-r", "0")
    assert (iface.out, iface.err) == (["Invalid iface name . Must be from 1 to 64 characters."], [])
    assert (sid.err, sid.exit_code) == (["iscsiadm: 0 is an invalid session ID or path"], ExitCode.ERR)


@pytest.mark.parametrize("line", ["-V", "-V -m node", "-V -Q", "-d 8 -V", "x --version", "-k 1 -V", "-o show -o x -V"])
def test_the_version_ends_the_run_where_it_stands(line: str) -> None:
    usage = refused(*line.split())
    assert (usage.out, usage.err, usage.exit_code) == (["iscsiadm version 2.1.8"], [], ExitCode.SUCCESS)


def test_mistakes_before_the_version_are_told_and_do_not_count() -> None:
    usage = refused("-Q", "-V")
    assert (usage.err, usage.exit_code) == (["iscsiadm: invalid option -- 'Q'"], ExitCode.SUCCESS)


def test_an_unknown_long_option_does_not_save_iscsid() -> None:
    found = options("--bogus -k 0")
    assert (found.kill, found.complaints) == (0, ["iscsiadm: unrecognized option '--bogus'"])


def test_glibcs_lines_carry_the_name_of_the_caller() -> None:
    with pytest.raises(Usage) as caught:
        parse(["-Q"], "name")
    assert caught.value.err == ["name: invalid option -- 'Q'", "iscsiadm: unrecognized character 'Q'"]


ACCEPTED = {
    "discovery": "DSIPdmntplov",
    "discoverydb": "DSIPdmntplov",
    "node": "RsPIdmlSonvupTULW",
    "session": "PiRdrmusonSv",
    "host": "CHdmPotnvxA",
    "iface": "HIdnvmPoCabci",
    "fw": "dmlWnv",
}
"""The peer's letters, as chapter 1.1 of the reference has them; ``m`` belongs to all."""


@pytest.mark.parametrize("mode", MODES)
def test_the_table_of_modes_is_the_peers(mode: str) -> None:
    letters = {option.letter for option in OPTIONS if option.letter and mode in option.modes}
    assert letters == set(ACCEPTED[mode]) | {"m"}


def test_long_names_letters_and_attributes_are_unique() -> None:
    letters = [option.letter for option in OPTIONS if option.letter]
    assert len(set(letters)) == len(letters)
    assert len(BY_LONG) == len(OPTIONS)
    assert all(option.modes <= set(MODES) for option in OPTIONS)


def test_the_help_shows_every_option_once_and_in_its_modes() -> None:
    lines = help_lines()
    assert [line.split()[2] for line in lines[: len(MODES)]] == ["discoverydb", *_without(MODES, "discoverydb")]
    for option in OPTIONS:
        described = [line for line in lines if f"--{option.long}" in line and line.endswith(f" {option.meaning}")]
        assert len(described) == 1
        for mode in MODES:
            shown = f"{option.spelled} " in synopsis(mode) or f"{option.spelled}]" in synopsis(mode)
            assert shown == (mode in option.modes), (mode, option.long)
    assert refused("-h").out == lines
    assert refused("--help", "-m", "bogus").exit_code is ExitCode.SUCCESS
    assert max(len(line) for line in lines[len(MODES) + 2 :]) <= 132


def _without(items: Sequence[str], item: str) -> list[str]:
    return [other for other in items if other != item]
