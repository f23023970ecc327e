# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of probe, its secrets, and that its manual page says the same."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.model.credentials import Secret
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import Digest
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.toolkit.media_values import BUDGET
from iscsiboot.toolkit.probe import INTERRUPTED
from iscsiboot.toolkit.probe_options import DEFAULT_TIMEOUT, Options, parse, parse_portal, parser
from iscsiboot.toolkit.probe_secrets import DEFAULT_INITIATOR_NAME, gather, initiator_name, read_secret_file

ROOT = Path(__file__).resolve().parents[3]
NAME = "iqn.2026-11.example:disk"


def parsed(*argv: str) -> Options:
    options = parse(argv)
    assert options is not None
    return options


def refused(*argv: str) -> IscsiBootError:
    with pytest.raises(IscsiBootError) as caught:
        parse(argv)
    assert caught.value.exit_code == ExitCode.INVAL
    assert caught.value.hint
    return caught.value


def portal(address: str, port: int = 3260) -> Portal:
    return Portal(address=parse_ip(address), port=port)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", portal("10.0.0.1")),
        ("10.0.0.1:3261", portal("10.0.0.1", 3261)),
        ("10.0.0.1:3261,1", portal("10.0.0.1", 3261)),
        ("[fd00::1]", portal("fd00::1")),
        ("[fd00::1]:99,65535", portal("fd00::1", 99)),
        ("fd00::1", portal("fd00::1")),
        ("fe80::1%eth0", portal("fe80::1%eth0")),
        ("[fe80::1%eth0]:3261", portal("fe80::1%eth0", 3261)),
        ("[::ffff:10.0.0.1]:1", portal("10.0.0.1", 1)),
        ("storage", NamedPortal(host="storage")),
        ("storage.example.:3261", NamedPortal(host="storage.example.", port=3261)),
        ("my_host", NamedPortal(host="my_host")),
    ],
)
def test_portals(text: str, expected: Portal | NamedPortal) -> None:
    assert parse_portal(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "10.0.0.1:",
        "iscsi://10.0.0.1/iqn.2026-11.example:disk/1",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:99999999999999999999",
        "10.0.0.1:-1",
        "10.0.0.1:٣",
        "10.0.0",
        "10.0.0.256",
        "10.0.0.1,x",
        "10.0.0.1,123456",
        "[fd00::1",
        "[fd00::1]x",
        "fd00:::1",
        "-host",
        "a..b",
        "host name",
        "a" * 64,
        ".".join(["a" * 60] * 5),
        "../etc",
        "http://10.0.0.1:3260",
        "host\n",
        "[]",
        "fe80::1%\x1b[2J",
        "fe80::1%eth0 x",
    ],
)
def test_what_is_no_portal(text: str) -> None:
    with pytest.raises(IscsiBootError) as caught:
        parse_portal(text)
    assert caught.value.exit_code == ExitCode.INVAL
    assert caught.value.line().isprintable()


@given(st.one_of(st.text(max_size=60), st.from_regex(r"\[?[0-9a-f:.%]{1,20}\]?:?[0-9,]{0,8}", fullmatch=True)))
def test_any_text_is_a_portal_or_an_error(text: str) -> None:
    try:
        found = parse_portal(text)
    except IscsiBootError as error:
        line = error.line()
    else:
        line = str(found)
        assert 1 <= found.port <= 65535
    assert line.isprintable()


def test_defaults() -> None:
    options = parsed("10.0.0.1")
    assert options == Options(asked="10.0.0.1", portal=portal("10.0.0.1"))
    assert options.timeout == DEFAULT_TIMEOUT
    assert options.read


def test_all_options_in_any_order() -> None:
    options = parsed(
        *("--json", "10.0.0.1", "--lun", "12", "--all-portals", NAME.upper(), "--timeout", "2.5", "--no-read"),
        *("--digest", "crc32c", "--initiator-name", "iqn.2026-11.example:me", "--user", "u", "--secret-file", "/s"),
        *("--mutual-user", "m", "--discovery-user", "d", "--discovery-mutual-user", "dm"),
    )
    assert options.target == NAME.upper()
    assert (options.json, options.all_portals, options.read) == (True, True, False)
    assert (options.lun, options.timeout, options.digest) == (Lun.from_number(12), 2.5, Digest.CRC32C)
    assert options.initiator_name == "iqn.2026-11.example:me"
    names = [account and (account.name, account.secret_file) for account in options.accounts]
    assert names == [("u", Path("/s")), ("m", None), ("d", None), ("dm", None)]


@pytest.mark.parametrize(
    ("text", "lun"),
    [
        ("0", "0000000000000000"),
        ("300", "412c000000000000"),
        ("0001-0002", "0001000200000000"),
        ("1-0", "0001" + "0" * 12),
    ],
)
def test_luns(text: str, lun: str) -> None:
    options = parsed("10.0.0.1", "--lun", text)
    assert options.lun == Lun(bytes.fromhex(lun))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        pytest.param((), "no portal", id="nothing"),
        pytest.param(("10.0.0.1", "disk/1"), '"disk/1" is no iSCSI name', id="target"),
        pytest.param((NAME, "10.0.0.1"), "PORTAL comes first, then TARGET", id="wrong-order"),
        pytest.param(("10.0.0.1", NAME, "more"), 'unknown argument "more"', id="too-many"),
        pytest.param(("10.0.0.1", "--jsn"), 'unknown argument "--jsn"', id="misspelt"),
        pytest.param(("10.0.0.1", "--js"), "unknown argument", id="abbreviated"),
        pytest.param(("10.0.0.1", "--lun"), "expected one argument", id="no-value"),
        pytest.param(("10.0.0.1", "--lun", "x"), '"x" is no LUN', id="lun"),
        pytest.param(("10.0.0.1", "--lun", "16384"), "is no LUN", id="lun-too-large"),
        pytest.param(("10.0.0.1", "--lun=-1"), "is no LUN", id="lun-negative"),
        pytest.param(("10.0.0.1", "--timeout", "0"), "seconds", id="timeout-0"),
        pytest.param(("10.0.0.1", "--timeout", "nan"), "seconds", id="timeout-nan"),
        pytest.param(("10.0.0.1", "--timeout", "inf"), "seconds", id="timeout-inf"),
        pytest.param(("10.0.0.1", "--timeout", "soon"), "seconds", id="timeout-word"),
        pytest.param(("10.0.0.1", "--digest", "md5"), "none of none, crc32c, prefer", id="digest"),
        pytest.param(("10.0.0.1", "--initiator-name", "me"), "no iSCSI name", id="initiator-name"),
        pytest.param(("10.0.0.1", "--secret-file", "f"), "without a name", id="secret-alone"),
        pytest.param(("10.0.0.1", "--mutual-user", "m"), "without --user", id="mutual-alone"),
        pytest.param(("10.0.0.1", "--discovery-mutual-user", "m"), "without --discovery-user", id="discovery-mutual"),
        pytest.param(("10.0.0.1", "--password", "secret"), 'unknown argument "--password"', id="secret-in-argv"),
        pytest.param(("10.0.0.1\x1b2J",), "control characters", id="control-characters"),
    ],
)
def test_command_lines_that_are_refused(argv: tuple[str, ...], words: str) -> None:
    error = refused(*argv)
    assert words in error.line()
    assert error.line().isprintable()


def test_help_is_asked_for() -> None:
    assert parse(["--help"]) is None
    assert parse(["10.0.0.1", "-h"]) is None


# The manual page and README say what the parser does.


def flags() -> set[str]:
    return {text for action in parser()._actions for text in action.option_strings if text.startswith("--")}


def test_the_manual_page_has_every_option_and_no_other() -> None:
    page = (ROOT / "docs" / "man" / "iscsiboot-probe.8").read_text().replace("\\-", "-")
    headings = re.findall(r"^\.TP\n\.(?:BR|B|BI) (?:-h \", \" )?(--[a-z-]+)", page, re.MULTILINE)
    assert set(headings) == flags()
    assert len(headings) == len(set(headings))


def test_the_manual_page_says_the_defaults() -> None:
    page = (ROOT / "docs" / "man" / "iscsiboot-probe.8").read_text().replace("\\-", "-")
    assert DEFAULT_INITIATOR_NAME in page
    assert f"default is {DEFAULT_TIMEOUT:g}" in page
    assert f"at most {BUDGET >> 20} MiB of a disk" in page


def test_the_manual_page_has_iscsiadm_s_exit_codes() -> None:
    page = (ROOT / "docs" / "man" / "iscsiboot-probe.8").read_text().replace("\\-", "-")
    section = page.split(".SH EXIT STATUS")[1].split(".SH EXAMPLES")[0]
    codes = {
        int(number)
        for line in re.findall(r"^\.TP\n\.BR? (.*)$", section, re.MULTILINE)
        for number in re.findall(r"\d+", line)
    }
    assert codes - {INTERRUPTED} <= {int(code) for code in ExitCode}
    assert {0, 7, 8, 21, 24, INTERRUPTED} <= codes


def test_readme_uses_options_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    calls = re.findall(r"iscsiboot probe ([^`\n]*)", text)
    assert calls
    for call in calls:
        assert set(re.findall(r"--[a-z-]+", call)) <= flags()


# Secrets.


def secret_file(tmp_path: Path, content: bytes = b"a secret of ours", mode: int = 0o600, name: str = "secret") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"plain", b"plain"),
        (b"plain\n", b"plain"),
        (b"plain\r\n", b"plain"),
        (b" blanks \n", b" blanks "),
        (b"two\n\n", b"two\n"),
        (b"\xff\0\xfe", b"\xff\0\xfe"),
    ],
)
def test_a_secret_file_holds_the_secret_and_nothing_else(tmp_path: Path, content: bytes, secret: bytes) -> None:
    assert read_secret_file(secret_file(tmp_path, content)) == secret


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620])
def test_a_secret_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path, mode=mode)
    with pytest.raises(IscsiBootError, match="others may read it") as caught:
        read_secret_file(path)
    assert f"chmod 0600 {path}" in caught.value.hint
    assert "secret of ours" not in caught.value.line()


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the owner needs root")
def test_a_secret_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    os.chown(path, 12345, -1)
    with pytest.raises(IscsiBootError, match="belongs to user 12345"):
        read_secret_file(path)


def test_what_is_no_secret_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path, words in (
        (tmp_path / "absent", "No such file"),
        (tmp_path, "no regular file"),
        (tmp_path / "fifo", "no regular file"),
        (Path("nul\0byte"), "cannot be read"),
    ):
        with pytest.raises(IscsiBootError, match=words) as caught:
            read_secret_file(path)
        assert caught.value.exit_code == ExitCode.INVAL


def test_secrets_come_from_files(tmp_path: Path) -> None:
    paths = [secret_file(tmp_path, f"secret number {n}".encode(), name=f"s{n}") for n in range(4)]
    options = parsed(
        *("10.0.0.1", "--user", "u", "--secret-file", str(paths[0]), "--mutual-user", "m"),
        *("--mutual-secret-file", str(paths[1]), "--discovery-user", "d", "--discovery-secret-file", str(paths[2])),
        *("--discovery-mutual-user", "dm", "--discovery-mutual-secret-file", str(paths[3])),
    )
    logins = gather(options, None)
    assert logins.session is not None
    assert logins.session.incoming is not None
    assert logins.discovery is not None
    assert logins.discovery.incoming is not None
    assert logins.session.outgoing.secret == Secret(b"secret number 0")
    assert (logins.session.incoming.name, logins.discovery.outgoing.name) == ("m", "d")
    assert logins.discovery.incoming.secret == Secret(b"secret number 3")
    assert "secret number" not in repr(logins)


def test_secrets_are_asked_for_on_a_terminal() -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "typed secret"

    logins = gather(parsed("10.0.0.1", "--user", "u"), ask)
    assert logins.session is not None
    assert logins.session.outgoing.secret == Secret(b"typed secret")
    assert asked == ['Secret of --user "u": ']


def test_without_a_terminal_nobody_is_asked() -> None:
    with pytest.raises(IscsiBootError, match="no terminal to ask") as caught:
        gather(parsed("10.0.0.1", "--discovery-user", "u"), None)
    assert "--discovery-secret-file" in caught.value.hint


def test_equal_secrets_are_named_by_their_options(tmp_path: Path) -> None:
    path = str(secret_file(tmp_path))
    options = parsed(
        *("10.0.0.1", "--user", "u", "--secret-file", path, "--mutual-user", "m", "--mutual-secret-file", path)
    )
    with pytest.raises(IscsiBootError, match="--user and --mutual-user are equal") as caught:
        gather(options, None)
    assert caught.value.exit_code == ExitCode.INVAL
    assert "a secret of ours" not in caught.value.line()


@pytest.mark.parametrize(
    ("content", "name"), [(b"", "u"), (b"\n", "u"), (b"x" * 256, "u"), (b"good enough", "\x07"), (b"good", "n" * 256)]
)
def test_accounts_that_cannot_be(tmp_path: Path, content: bytes, name: str) -> None:
    path = secret_file(tmp_path, content)
    with pytest.raises(IscsiBootError) as caught:
        gather(parsed("10.0.0.1", "--user", name, "--secret-file", str(path)), None)
    assert caught.value.exit_code == ExitCode.INVAL
    assert caught.value.line().isprintable()


def test_nobody_named_nobody_proved() -> None:
    logins = gather(parsed("10.0.0.1"), None)
    assert (logins.session, logins.discovery) == (None, None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"InitiatorName=iqn.1993-08.org.debian:01:abc\n", "iqn.1993-08.org.debian:01:abc"),
        (b"## comment\n InitiatorName = IQN.1993-08.org.debian:X \n", "IQN.1993-08.org.debian:X"),
        (b"GenerateName=yes\n", DEFAULT_INITIATOR_NAME),
        (b"", DEFAULT_INITIATOR_NAME),
    ],
)
def test_the_machine_s_own_name(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "initiatorname.iscsi"
    path.write_bytes(content)
    assert initiator_name(parsed("10.0.0.1"), path) == expected


def test_the_name_given_is_the_name_used(tmp_path: Path) -> None:
    assert initiator_name(parsed("10.0.0.1", "--initiator-name", NAME), tmp_path / "absent") == NAME
    assert initiator_name(parsed("10.0.0.1"), tmp_path / "absent") == DEFAULT_INITIATOR_NAME


def test_a_broken_name_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "initiatorname.iscsi"
    path.write_bytes(b"InitiatorName=\x1b[31m\xff\n")
    with pytest.raises(IscsiBootError, match="its InitiatorName is none") as caught:
        initiator_name(parsed("10.0.0.1"), path)
    assert caught.value.line().isprintable()
