# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tools.manual makes is what is committed, holds every option and setting, and is right for those who read it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from iscsiboot.admin import db_command
from iscsiboot.admin.context import Paths
from iscsiboot.admin.discovery_helper import usage
from iscsiboot.admin.iname import SPECS
from iscsiboot.admin.json_schema import DOCUMENT, KINDS, SHAPES
from iscsiboot.admin.options import MODES, OPTIONS
from iscsiboot.database.config import read_config
from iscsiboot.database.finding import NOTES
from iscsiboot.database.keys import BY_NAME, IFACE, advice, check_value
from iscsiboot.errors import EXIT_TEXT, ExitCode
from tools import completion, manual, manual_db, manual_words
from tools import settings as settings_module
from tools.manual_roff import item, literal, paragraphs, prose
from tools.settings import GROUPS, example, file_keys, grouped

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "docs" / "man"

DEBIAN: dict[str, str] = {
    "iscsid.startup": "/bin/systemctl start iscsid.socket",
    "node.startup": "manual",
    "node.leading_login": "No",
    "node.session.timeo.replacement_timeout": "120",
    "node.conn[0].timeo.login_timeout": "15",
    "node.conn[0].timeo.logout_timeout": "15",
    "node.conn[0].timeo.noop_out_interval": "5",
    "node.conn[0].timeo.noop_out_timeout": "5",
    "node.session.err_timeo.abort_timeout": "15",
    "node.session.err_timeo.lu_reset_timeout": "30",
    "node.session.err_timeo.tgt_reset_timeout": "30",
    "node.session.err_timeo.host_reset_timeout": "60",
    "node.session.initial_login_retry_max": "8",
    "node.session.cmds_max": "128",
    "node.session.queue_depth": "32",
    "node.session.xmit_thread_priority": "-20",
    "node.session.iscsi.InitialR2T": "No",
    "node.session.iscsi.ImmediateData": "Yes",
    "node.session.iscsi.FirstBurstLength": "262144",
    "node.session.iscsi.MaxBurstLength": "16776192",
    "node.conn[0].iscsi.MaxRecvDataSegmentLength": "262144",
    "node.conn[0].iscsi.MaxXmitDataSegmentLength": "0",
    "discovery.sendtargets.iscsi.MaxRecvDataSegmentLength": "32768",
    "node.session.nr_sessions": "1",
    "node.session.reopen_max": "0",
    "node.session.iscsi.FastAbort": "Yes",
    "node.session.scan": "auto",
}
"""What the iscsid.conf of Debian's open-iscsi 2.1.8-1+deb12u1 sets, read from the package."""


@pytest.mark.parametrize("name", manual.FILES)
def test_the_committed_file_is_what_the_generator_makes(name: str) -> None:
    assert (ROOT / name).read_text() == manual.FILES[name](), "run: python3 -m tools.manual"


def test_generating_writes_these_files_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manual, "ROOT", tmp_path)
    manual.main()
    made = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert made == {name: (ROOT / name).read_text() for name in manual.FILES}


# The manual pages


def rendered(path: Path) -> str:
    """A page as a reader sees it, with whatever man complains of behind it."""
    program = shutil.which("man")
    if program is None:
        pytest.skip("man is not installed")
    run = subprocess.run(
        [program, "--warnings", "-l", str(path)],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "200", "MAN_KEEP_FORMATTING": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return re.sub(r"[ \n]+", " ", run.stdout)


@pytest.mark.parametrize("path", sorted(MAN.iterdir()), ids=lambda path: path.name)
def test_every_page_is_shown_without_a_warning(path: Path) -> None:
    text = rendered(path)
    assert path.name.rpartition(".")[0] in text
    assert not re.search(r"\\f[BIPR]|\{[a-z/]|\*[a-z-]", text), "a mark or an escape is left"


def test_the_page_of_iscsiadm_has_every_option_mode_and_exit_status() -> None:
    text = rendered(MAN / "iscsiadm.8")
    for option in OPTIONS:
        spelled = f"--{option.long}" + (f"={option.argument}" if option.argument else "")
        assert (f" -{option.letter}, {spelled} " if option.letter else f" {spelled} ") in text
        assert option.meaning[1:] in text
    for code, words in EXIT_TEXT.items():
        assert f" {int(code)} {manual_words.SITUATIONS[code].split(';')[0][:40]}" in text
        assert words.rstrip(".") in text
    for path, _ in manual_words.FILES:
        assert path in text
    for line, _ in manual_words.EXAMPLES:
        assert line in text


def test_the_words_are_about_what_there_is() -> None:
    assert set(manual_words.MODES) == set(MODES)
    assert set(manual_words.OPTIONS) <= {option.long for option in OPTIONS}
    assert set(manual_words.SITUATIONS) == set(ExitCode)


@pytest.mark.parametrize("line", [line for line, _ in manual_words.EXAMPLES])
def test_the_examples_are_command_lines(line: str) -> None:
    from iscsiboot.admin.options import parse

    options = parse(line.split()[1:])
    assert options.mode in MODES
    assert options.complaints == []
    assert all(name in BY_NAME for name, _ in options.params)


def test_the_page_of_iscsid_conf_has_every_setting_with_its_values_and_default() -> None:
    text = rendered(MAN / "iscsid.conf.5")
    for key in (*file_keys(), *(key for key in IFACE if not key.lookup)):
        # As often as there are keys of that name alone, or a longer name could stand for a shorter one.
        head = f" {key.name} {key.meaning} Takes {key.allowed}"
        assert text.count(head) == 1
        entry = text.partition(head)[2].partition(". ")[0]
        assert not key.default or f"default {key.default}" in entry
    for heading in (group.heading for group in GROUPS):
        assert f" {heading} " in text


def test_the_pages_of_the_helpers_have_every_option() -> None:
    iname = rendered(MAN / "iscsi-iname.8")
    for spec in SPECS:
        assert f"--{spec.long}" in iname
        assert not spec.letter or f" -{spec.letter}" in iname
    discovery = rendered(MAN / "iscsi_discovery.8")
    letters = re.findall(r"^-(.)\t", usage("x"), re.MULTILINE)
    assert letters == ["p", "d", "t", "f", "m", "l"]
    for letter in letters:
        assert re.search(rf"\s-{letter}[ \n]", discovery)


def test_the_page_of_the_check_has_options_findings_statuses_and_fields() -> None:
    text = rendered(MAN / "iscsiboot-db.8")
    for name, value, meaning in db_command.OPTIONS:
        assert f" {name}{f' {value}' if value else ''} {meaning[:1].upper()}{meaning[1:]}. " in text
        assert f"{name}" in db_command.usage()
    for word, meaning in (*db_command.KINDS.items(), *db_command.DOCUMENT, *db_command.FINDING):
        assert f" {word} {meaning}" in text
    for code, meaning in db_command.STATUSES.items():
        assert f" {int(code)} {meaning}" in text
    for line, _ in manual_db.EXAMPLES:
        assert line in text


def test_the_check_finds_what_its_page_has(tmp_path: Path) -> None:
    """Kinds: those the sources make. Fields: those a document has."""
    made: set[str] = set()
    for name in ("database/check.py", "admin/db_configuration.py"):
        source = (ROOT / "iscsiboot" / name).read_text()
        made |= set(re.findall(r'(?:_tell|Finding)\(\s*"([a-z-]+)"', source))
    assert made
    assert made <= set(db_command.KINDS)
    documented = set(re.findall(r"``([a-z-]+)``", (ROOT / "iscsiboot/database/finding.py").read_text())) - {"iscsiboot"}
    assert set(db_command.KINDS) == documented
    assert set(db_command.KINDS) >= NOTES
    for kind, meaning in db_command.KINDS.items():
        assert ("A note" in meaning) is (kind in NOTES)
    (tmp_path / "nodes").mkdir(mode=0o777)
    (tmp_path / "nodes").chmod(0o777)
    out = io.StringIO()
    paths = Paths(database=str(tmp_path), config=str(tmp_path), run=str(tmp_path), proc=str(tmp_path))
    assert db_command.main(["check", "--json"], out, io.StringIO(), paths) == ExitCode.IDBM
    document = json.loads(out.getvalue())
    assert list(document) == ["schema", "root", "records", "findings", "left"]
    assert {name for name, _ in db_command.DOCUMENT} == set(document)
    assert document["findings"]
    for finding in document["findings"]:
        assert list(finding) == [name for name, _ in db_command.FINDING]


def test_a_name_that_is_no_text_is_escaped_in_the_document(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir(mode=0o700)
    (tmp_path / "nodes" / os.fsdecode(b"\xff\x1b")).touch(mode=0o600)
    out = io.StringIO()
    paths = Paths(database=str(tmp_path), config=str(tmp_path), run=str(tmp_path), proc=str(tmp_path))
    db_command.main(["check", "--json"], out, io.StringIO(), paths)
    assert out.getvalue().isascii()
    (found,) = json.loads(out.getvalue())["findings"]
    assert found["path"].endswith("\\udcff\\x1b")


def test_where_it_was_moved_is_escaped_in_the_document(tmp_path: Path) -> None:
    """A file in the place of a portal, below a target of that name: its new name has the old one in it."""
    target = tmp_path / "nodes" / os.fsdecode(b"iqn.2001-04.com.example:\xff\x1b")
    target.mkdir(mode=0o700, parents=True)
    (tmp_path / "nodes").chmod(0o700)
    (target / "192.0.2.1,3260,1").touch(mode=0o600)
    out = io.StringIO()
    paths = Paths(database=str(tmp_path), config=str(tmp_path), run=str(tmp_path), proc=str(tmp_path))
    db_command.main(["check", "--fix", "--json"], out, io.StringIO(), paths)
    moved = json.loads(out.getvalue())["findings"][0]["mended"]
    assert moved.startswith("moved to ")
    assert "\\udcff\\x1b" in moved
    assert moved.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-o", "\\-o"),
        (".conf", "\\&.conf"),
        ("'x'", "\\(aqx\\(aq"),
        ("a\\b", "a\\eb"),
        ("`a`", "\\(gaa\\(ga"),
        ("~/x^", "\\(ti/x\\(ha"),
        ("node.conn[0].x", "node.conn[0].x"),
    ],
)
def test_literal_text_stays_as_it_is(text: str, shown: str) -> None:
    assert literal(text) == shown


def test_prose_marks_and_sentences() -> None:
    assert prose("Use *-o new*. See {file}, or well-known -1.") == [
        "Use \\fB\\-o new\\fP.",
        "See \\fIfile\\fP, or well-known \\-1.",
    ]
    assert paragraphs("One.\n\nTwo.\n\n    # typed -x\n    'more") == [
        "One.", ".PP", "Two.", ".PP", ".nf", "# typed \\-x", "\\(aqmore", ".fi",
    ]  # fmt: skip
    assert item("head", "One.\n\nTwo.") == [".TP", "head", "One.", ".IP", "Two."]
    assert prose(".hidden is no request") == ["\\&.hidden is no request"]


# The file that is installed


def settings(text: str) -> dict[str, str]:
    """Its settings, each of which may stand once."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition(" = ")
            assert name not in found
            found[name] = value
    return found


def test_the_installed_file_sets_what_debian_s_sets() -> None:
    assert settings((ROOT / "etc/iscsid.conf").read_text()) == DEBIAN


def test_the_table_ships_what_debian_ships() -> None:
    assert {key.name: key.shipped for key in BY_NAME.values() if key.shipped is not None} == DEBIAN


def test_the_installed_file_is_read_without_a_word(tmp_path: Path) -> None:
    notices: list[str] = []
    config = read_config(str(ROOT / "etc/iscsid.conf"), notice=notices.append)
    assert (config.problems, notices) == ([], [])
    assert config.node().get("node.session.initial_login_retry_max") == "8"
    assert config.iscsid("iscsid.startup") == DEBIAN["iscsid.startup"]


def test_every_line_that_is_commented_out_would_be_read_too(tmp_path: Path) -> None:
    text = (ROOT / "etc/iscsid.conf").read_text()
    everything = re.sub(r"^#((?:node|discovery|iscsid)\.[^ ]+ = )", r"\1", text, flags=re.MULTILINE)
    (tmp_path / "iscsid.conf").write_text(everything)
    assert set(settings(everything)) == {key.name for key in file_keys()}
    notices: list[str] = []
    config = read_config(str(tmp_path / "iscsid.conf"), notice=notices.append)
    assert (config.problems, notices) == ([], [])


def test_every_shown_value_is_one_the_setting_takes() -> None:
    for key in file_keys():
        assert check_value(key, example(key)) == example(key)
        assert advice(key, example(key)) == ""


def test_the_peer_s_reader_gets_through_the_file() -> None:
    """Its buffers: lines of 2047 bytes, keys of 127, values of 255; it drops a last line without its break."""
    text = (ROOT / "etc/iscsid.conf").read_text()
    assert text.endswith("\n")
    assert text.isascii()
    for line in text.splitlines():
        assert len(line) <= 100
    for name, value in settings(text).items():
        assert len(name) < 127
        assert len(value) < 255
    # It takes the first line that has the text of a daemon's setting anywhere and no # before it.
    for name in ("iscsid.startup", "iscsid.safe_logout", "iscsid.ipc_auth_uid"):
        first = next(line for line in text.splitlines() if f"{name} =" in line)
        assert first.startswith((f"{name} =", f"#{name} ="))


def test_each_setting_stands_in_one_group_and_no_group_is_empty() -> None:
    keys = [key.name for _, keys in grouped() for key in keys]
    assert len(keys) == len(set(keys)) == len(file_keys())
    assert all(keys for _, keys in grouped())


def test_a_setting_that_belongs_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "GROUPS", GROUPS[1:])
    with pytest.raises(LookupError, match=r"iscsid\.safe_logout belongs to no group"):
        grouped()


def test_an_option_nobody_decided_about_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "FREE", ())
    with pytest.raises(LookupError, match="--ip is in no list"):
        completion.check()


# The page of --json


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs/admin-json.md").read_text()


@pytest.mark.parametrize("name", [*KINDS, *SHAPES])
def test_the_page_has_every_kind_and_shape(page: str, name: str) -> None:
    (part,) = re.findall(rf"^## {name}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    rows = KINDS[name][1] if name in KINDS else SHAPES[name]
    for field, kind, meaning in rows:
        assert f"| `{field}` | {kind} | {meaning} |".replace("|  |", "| |") in part


def test_the_page_has_the_document(page: str) -> None:
    for field, kind, meaning in DOCUMENT:
        assert f"| `{field}` | {kind} | {meaning} |" in page


def test_every_table_of_the_page_is_one(page: str) -> None:
    for line in page.splitlines():
        if line.startswith("|"):
            assert line.count("|") == 4, line


_ALL: dict[str, Callable[[], str]] = dict(manual.FILES)


@pytest.mark.parametrize("name", _ALL)
def test_nothing_of_this_machine_is_in_what_is_made(name: str) -> None:
    text = _ALL[name]()
    assert str(ROOT) not in text
    assert text == _ALL[name]()
