# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsid's command line: the peer's options, words and exit statuses (open-iscsi 2.1.8, observed)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.daemon import iscsid
from iscsiboot.daemon.options import OPTIONS, PID_FILE, Answered, Options, UsageError, help_text, parse

TRY = "Try `iscsid --help' for more information.\n"


def read(line: str) -> Options:
    return parse(line.split(), "2.1.8", program="/usr/sbin/iscsid")


def refused(line: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(line)
    return caught.value.text


def answered(line: str) -> str:
    with pytest.raises(Answered) as caught:
        read(line)
    return caught.value.text


def test_without_options_it_is_a_daemon_with_its_usual_files() -> None:
    assert read("") == Options()
    assert read("").pid_file(supervised=False) == PID_FILE


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("-c /x/iscsid.conf", Options(config="/x/iscsid.conf")),
        ("--config=/x", Options(config="/x")),
        ("--conf /x", Options(config="/x")),
        ("-i /x/name", Options(initiatorname="/x/name")),
        ("-f", Options(foreground=True)),
        ("--fore", Options(foreground=True)),
        ("-d 8", Options(debug=8)),
        ("-d99", Options(debug=8)),
        ("-d much", Options()),
        ("-d -5", Options()),
        ("--debug=", Options()),
        ("-d 2x", Options(debug=2)),
        ("-d 003", Options(debug=3)),
        ("-u 65534 -g 100", Options(uid=65534, gid=100)),
        ("-u 00000000000000000005", Options(uid=5)),
        ("-n", Options(no_pid_file=True)),
        ("-p /x/pid", Options(pid="/x/pid")),
        ("-fd3", Options(foreground=True, debug=3)),
        ("-f -n", Options(foreground=True, no_pid_file=True)),
        ("word -f", Options(foreground=True)),
        ("-- -x", Options()),
        ("-c /a -c /b", Options(config="/b")),
    ],
)
def test_what_is_taken(line: str, options: Options) -> None:
    assert read(line) == options


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-x", "/usr/sbin/iscsid: invalid option -- 'x'\n"),
        ("-V", "/usr/sbin/iscsid: invalid option -- 'V'\n"),
        ("--foo", "/usr/sbin/iscsid: unrecognized option '--foo'\n"),
        ("-p", "/usr/sbin/iscsid: option requires an argument -- 'p'\n"),
        ("-d", "/usr/sbin/iscsid: option requires an argument -- 'd'\n"),
        ("--pid", "/usr/sbin/iscsid: option '--pid' requires an argument\n"),
        ("--foreground=1", "/usr/sbin/iscsid: option '--foreground' doesn't allow an argument\n"),
        ("-p /x -n", "error: Conflicting PID-file options requested\n"),
        ("-n -p /x", "error: Conflicting PID-file options requested\n"),
        ("-p /x -f", "error: PID file specified but unused in foreground mode\n"),
        ("-x -v", "/usr/sbin/iscsid: invalid option -- 'x'\n"),
        ("-u root", 'error: --uid takes a number, not "root"\n'),
        ("-g -1", 'error: --gid takes a number, not "-1"\n'),
        ("-u 000000000000999999999999", 'error: --uid takes a number, not "000000000000999999999999"\n'),
        ("-u 4294967295", 'error: --uid takes a number, not "4294967295"\n'),
    ],
)
def test_what_is_refused_and_how(line: str, words: str) -> None:
    assert refused(line) == words + TRY


@pytest.mark.parametrize("line", ["-v", "--version", "--v -x", "-v -x", "-n -v", "-n -p x -v", "-fv"])
def test_the_version_wins_over_what_is_wrong_behind_it(line: str) -> None:
    assert answered(line) == "iscsid version 2.1.8\n"


@pytest.mark.parametrize("line", ["-h", "--help", "-h -x", "-p x -n -h"])
def test_the_help_names_every_option(line: str) -> None:
    text = answered(line)
    assert text == help_text()
    assert text.startswith("Usage: iscsid [OPTION]\n")
    assert all(f"-{option.letter}, --{option.long}" in text for option in OPTIONS)


def test_the_options_are_the_peers() -> None:
    assert "".join(option.letter for option in OPTIONS) == "cifdugnphv"
    assert [option.long for option in OPTIONS if not option.argument] == [
        *("foreground", "no-pid-file", "help", "version"),
    ]


@pytest.mark.parametrize(
    ("line", "supervised", "path"),
    [
        ("", False, PID_FILE),
        ("-n", True, None),
        ("-p /x", False, "/x"),
        ("-f", False, None),
        ("-f", True, PID_FILE),
        ("-f -n", True, None),
    ],
)
def test_a_unit_has_a_pid_file_also_in_the_foreground(line: str, supervised: bool, path: str | None) -> None:
    """Debian's logout-all.sh takes a missing file for a daemon that does not run (clients.md 6)."""
    assert read(line).pid_file(supervised=supervised) == path


@given(
    st.lists(
        st.text(max_size=12)
        | st.sampled_from([f"-{option.letter}" for option in OPTIONS])
        | st.from_regex(r"[0-9]{1,30}"),
        max_size=6,
    )
)
def test_any_command_line_is_taken_answered_or_refused(words: list[str]) -> None:
    try:
        options = parse(words, "2.1.8")
    except (Answered, UsageError):
        return
    assert 0 <= options.debug <= 8
    assert 0 <= options.uid < 1 << 32


def test_status_and_streams_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert iscsid.main(["-v"], environ={}) == 0
    assert capsys.readouterr() == ("iscsid version 2.1.8\n", "")
    assert iscsid.main(["-h"], environ={}) == 0
    assert capsys.readouterr() == (help_text(), "")
    assert iscsid.main(["-x"], environ={}) == 1
    assert capsys.readouterr() == ("", f"iscsid: invalid option -- 'x'\n{TRY}")
