# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot db check`` on iscsid.conf and initiatorname.iscsi."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest

from iscsiboot.admin.context import Paths
from iscsiboot.admin.db_command import main
from iscsiboot.admin.db_configuration import check_configuration
from iscsiboot.errors import ExitCode, IscsiBootError

ROOT = Path(__file__).resolve().parents[3]
NAME = "InitiatorName=iqn.2001-04.com.example:host\n"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    (tmp_path / "iscsi").mkdir(mode=0o700)
    (tmp_path / "iscsi/initiatorname.iscsi").write_text(NAME)
    (tmp_path / "run").mkdir()
    return Paths(
        config=str(tmp_path / "iscsi"),
        database=str(tmp_path / "iscsi"),
        etc=str(tmp_path),
        sysfs=str(tmp_path / "sys"),
        proc=str(tmp_path / "proc"),
        run=str(tmp_path / "run"),
    )


def conf(paths: Paths, text: str, mode: int = 0o600) -> None:
    Path(paths.iscsid_conf).write_text(text)
    Path(paths.iscsid_conf).chmod(mode)


def lines(paths: Paths) -> list[str]:
    return [finding.line() for finding in check_configuration(paths)]


def test_the_installed_file_and_a_good_name_have_nothing_wrong(paths: Paths) -> None:
    conf(paths, (ROOT / "etc/iscsid.conf").read_text(), 0o644)
    assert lines(paths) == []


def test_no_file_has_nothing_wrong(paths: Paths) -> None:
    assert lines(paths) == []


def test_each_bad_line_names_file_line_key_and_what_it_takes(paths: Paths) -> None:
    conf(
        paths, "node.startup = sometimes\n\nnode.bogus = 1\nnode.session.queue_depth = 2000\nnode.session.scan = auto\n"
    )
    found = lines(paths)
    assert len(found) == 3
    path = paths.iscsid_conf
    assert found[0].startswith(f"{path}: line 1: ")
    assert "node.startup" in found[0]
    assert "manual, automatic or onboot" in found[0]
    assert found[1].startswith(f"{path}: line 3: ")
    assert "node.bogus" in found[1]
    assert found[2].startswith(f"{path}: line 4: ")
    assert "1 to 1024" in found[2]


@pytest.mark.parametrize(
    ("key", "mode", "told"),
    [
        ("node.session.auth.password", 0o600, False),
        ("node.session.auth.password", 0o640, True),
        ("node.session.auth.password_in", 0o644, True),
        ("discovery.sendtargets.auth.password", 0o604, True),
        ("node.session.auth.username", 0o644, False),
        ("#node.session.auth.password", 0o644, False),
    ],
)
def test_secrets_that_others_can_read(paths: Paths, key: str, mode: int, told: bool) -> None:
    conf(paths, f"{key} = secret words\n", mode)
    found = check_configuration(paths)
    assert [finding.kind for finding in found] == (["mode"] if told else [])
    assert all("secret words" not in finding.line() for finding in found)
    assert all(f": mode {mode:04o} lets others" in finding.line() for finding in found)


def test_a_file_that_cannot_be_read_is_told(paths: Paths) -> None:
    Path(paths.iscsid_conf).mkdir()
    (finding,) = check_configuration(paths)
    assert (finding.kind, finding.path) == ("damaged", paths.iscsid_conf)


def test_a_name_that_is_none_is_told_where_it_stands(paths: Paths) -> None:
    Path(paths.initiator_name).write_text("InitiatorName=host one\n")
    (line,) = lines(paths)
    assert line.startswith(f'{paths.initiator_name}: InitiatorName="host one" is no iSCSI name: ')


def test_two_names_are_told(paths: Paths) -> None:
    Path(paths.initiator_name).write_text(NAME + NAME)
    (line,) = lines(paths)
    assert line == f"{paths.initiator_name}: gives InitiatorName more than once, the first counts"


@pytest.mark.parametrize(
    ("text", "mode", "name", "kind", "status"),
    [
        ("node.startup = sometimes\n", 0o600, NAME, "value", 0),
        ("node.session.auth.password = secret words\n", 0o644, NAME, "mode", 6),
        ("", 0o600, "InitiatorName=host one\n", "damaged", 6),
    ],
    ids=["value", "secret", "name"],
)
def test_the_command_tells_them(paths: Paths, text: str, mode: int, name: str, kind: str, status: int) -> None:
    conf(paths, text, mode)
    Path(paths.initiator_name).write_text(name)
    (wrong,) = check_configuration(paths)
    out = StringIO()
    assert main(["check"], out, StringIO(), paths) == status
    assert wrong.line() in out.getvalue()
    out = StringIO()
    assert main(["check", "--json"], out, StringIO(), paths) == status
    (finding,) = json.loads(out.getvalue())["findings"]
    assert (finding["kind"], finding["path"], finding["text"], finding["mended"]) == (kind, wrong.path, wrong.text, "")


def test_a_root_that_is_not_there_is_not_in_order(paths: Paths, tmp_path: Path) -> None:
    out = StringIO()
    with pytest.raises(IscsiBootError, match="no such folder") as caught:
        main(["check", "--root", str(tmp_path / "mistyped")], out, StringIO(), paths)
    assert caught.value.exit_code is ExitCode.IDBM
    assert out.getvalue() == ""


def test_another_database_is_looked_at_alone(paths: Paths, tmp_path: Path) -> None:
    conf(paths, "node.startup = sometimes\n")
    (tmp_path / "other").mkdir(mode=0o700)
    out = StringIO()
    assert main(["check", "--root", str(tmp_path / "other")], out, StringIO(), paths) == 0
