# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of iscsistart: the peer's options and words, and no secret in any message."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.boot.options import OPTIONS, Action, UsageError, help_text, parse

LOGIN = ["-i", "iqn.2001-04.com.example:i", "-g", "1", "-t", "iqn.2001-04.com.example:t", "-a", "10.0.2.2"]


def without(*letters: str) -> list[str]:
    pairs = [LOGIN[index : index + 2] for index in range(0, len(LOGIN), 2)]
    return [word for pair in pairs if pair[0] not in letters for word in pair]


def test_the_letters_are_the_peers() -> None:
    assert {option.letter for option in OPTIONS if option.letter} == set("citgapuwUWdbNfPhv")


@pytest.mark.parametrize(
    ("letter", "long"),
    [
        ("c", "config"),
        ("i", "initiatorname"),
        ("t", "targetname"),
        ("g", "tgpt"),
        ("a", "address"),
        ("p", "port"),
        ("u", "username"),
        ("w", "password"),
        ("U", "username_in"),
        ("W", "password_in"),
        ("d", "debug"),
        ("b", "fwparam_connect"),
        ("N", "fwparam_network"),
        ("f", "fwparam_print"),
        ("P", "param"),
        ("h", "help"),
        ("v", "version"),
    ],
)
def test_the_long_names_are_the_peers(letter: str, long: str) -> None:
    assert next(option.long for option in OPTIONS if option.letter == letter) == long


def test_a_whole_login() -> None:
    chap = ["-u", "user", "-w", "secret-1", "-U", "target", "-W", "secret-2"]
    params = ["-P", "node.session.queue_depth=64", "--param=node.session.cmds_max=64"]
    options = parse([*LOGIN, *chap, *params, "-p", "3261", "-d", "8", "-c", "/x"])
    assert options.action is Action.LOGIN
    assert (options.port, options.tpgt, options.debug, options.config) == (3261, 1, 8, "/x")
    assert options.params == (("node.session.queue_depth", "64"), ("node.session.cmds_max", "64"))
    assert options.password is not None
    assert options.password.reveal() == b"secret-1"
    assert "secret" not in repr(options).replace("Secret(********)", "")


@pytest.mark.parametrize(
    ("argv", "action"),
    [
        (["-h"], Action.HELP),
        (["--help"], Action.HELP),
        (["-v"], Action.VERSION),
        (["--ver"], Action.VERSION),
        (["-f"], Action.PRINT),
        (["-b"], Action.BOOT),
        (["-N"], Action.BOOT),
        (["-N", "-b"], Action.BOOT),
        (["--fwparam_connect"], Action.BOOT),
        (["-f", "-b"], Action.PRINT),
        (["stray", "-b", "words"], Action.BOOT),
    ],
)
def test_actions(argv: list[str], action: Action) -> None:
    assert parse(argv).action is action


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "InitiatorName not set. Exiting iscsistart"),
        (without("-i", "-g"), "InitiatorName not set. Exiting iscsistart"),
        (without("-g"), "Portal Group not set. Exiting iscsistart"),
        (without("-t"), "TargetName not set. Exiting iscsistart"),
        (without("-a"), "IP Address not set. Exiting iscsistart"),
        (without("-i", "-g", "-t", "-a"), "InitiatorName not set. Exiting iscsistart"),
        (without("-g", "-a"), "Portal Group not set. Exiting iscsistart"),
        (["-Z"], 'unknown option "Z"'),
        (["--nonsense"], 'unknown option "nonsense"'),
        (["--pass=x"], "option '--pass' is ambiguous"),
        (["-t"], "option 't' requires an argument"),
        (["-P", "foo"], 'Invalid --param "foo". Missing value.'),
        (["-P", "foo="], 'Invalid --param "foo". Missing value.'),
        (["-P", "=1"], 'Invalid --param "". Missing value.'),
        ([*LOGIN, "-p", "0"], 'invalid port "0". It is a number from 1 to 65535.'),
        ([*LOGIN, "-p", "١"], 'invalid port "١". It is a number from 1 to 65535.'),
        ([*LOGIN, "-g", "65536"], 'invalid tgpt "65536". It is a number from 0 to 65535.'),
        ([*LOGIN, "-d", "-1"], 'invalid debug "-1". It is a number from 0 to 8.'),
        ([*LOGIN, "--timeout", "9" * 5000], "invalid timeout"),
        (["-t", "x" * 224], "Max targetname length is 223."),
        (["-u", "x" * 256], "Max username length is 255."),
        ([*LOGIN, "-w", "x" * 256], "Max password length is 255."),
        ([*LOGIN, "-w", ""], "invalid password"),
    ],
)
def test_what_is_refused_with_exit_code_7(argv: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert words in caught.value.cause
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    "argv",
    [["-w", "canary" * 50], ["--password=canary", "-Z"], ["-wcanary", "--passwor"], ["-h=canary", "-wcanary", "-Z"]],
)
def test_no_message_repeats_a_secret(argv: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse([*LOGIN, *argv])
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_help_names_every_option() -> None:
    text = help_text()
    for option in OPTIONS:
        assert f"--{option.long}" in text


def test_the_manual_page_names_every_option() -> None:
    page = Path(__file__).resolve().parents[3].joinpath("docs/man/iscsistart.8").read_text().replace("\\-", "-")
    for option in OPTIONS:
        assert f"--{option.long}" in page
        assert not option.letter or f"-{option.letter} " in page


def test_without_a_name_the_machine_s_is_taken() -> None:
    assert parse(without("-i")).initiator_name is None
