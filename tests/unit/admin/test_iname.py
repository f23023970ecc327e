# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsi-iname``: what open-iscsi 2.1.8's says (rows seen there), and twelve digits always."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.admin.context import Paths
from iscsiboot.admin.iname import PREFIX_MAX_BYTES, main
from iscsiboot.database.initiator_name import choose
from iscsiboot.model.names import check_iscsi_name

USAGE = """\
Usage: iscsi-iname [OPTIONS]
Where OPTIONS are from:
    -p/--prefix <prefix>          -- set IQN prefix [iqn.2016-04.com.open-iscsi]
    -g/--generate-iname-prefix    -- generate the InitiatorName= prefix
where <prefix> has max length of 210
"""
"""As the real program prints it."""
BYTES = bytes([0, 1, 0x0A, 0xFF, 0, 0x10])


def run(*argv: str, paths: Paths | None = None) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    status = main(argv, out, err, program="./iscsi-iname", entropy=lambda count: BYTES[:count], paths=paths)
    return status, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ((), "iqn.2016-04.com.open-iscsi:00010aff0010"),
        (("-g",), "InitiatorName=iqn.2016-04.com.open-iscsi:00010aff0010"),
        (("--gen",), "InitiatorName=iqn.2016-04.com.open-iscsi:00010aff0010"),
        (("-p", "foo"), "foo:00010aff0010"),
        (("-pfoo",), "foo:00010aff0010"),
        (("--prefix=foo",), "foo:00010aff0010"),
        (("--pre", "foo"), "foo:00010aff0010"),
        (("-g", "-p", "foo"), "InitiatorName=foo:00010aff0010"),
        (("-gp", "foo"), "InitiatorName=foo:00010aff0010"),
        (("-p", "foo", "-p", "bar"), "bar:00010aff0010"),
        (("-p", ""), ":00010aff0010"),
        (("-p", "x" * 210), "x" * 210 + ":00010aff0010"),
        (("--",), "iqn.2016-04.com.open-iscsi:00010aff0010"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else "",
)
def test_a_name_on_stdout(argv: Sequence[str], line: str) -> None:
    assert run(*argv) == (0, line + "\n", "")


@pytest.mark.parametrize(
    ("argv", "line", "status"),
    [
        (("-h",), "", 0),
        (("--help",), "", 0),
        (("--h",), "", 0),
        (("-gh",), "", 0),
        (("-h", "-x"), "", 0),
        (("-h", "word"), "", 0),
        (("-p",), "./iscsi-iname: option requires an argument -- 'p'", 1),
        (("--prefix",), "./iscsi-iname: option '--prefix' requires an argument", 1),
        (("-x",), "./iscsi-iname: invalid option -- 'x'", 1),
        (("-x", "-h"), "./iscsi-iname: invalid option -- 'x'", 1),
        (("--bogus",), "./iscsi-iname: unrecognized option '--bogus'", 1),
        (("--help=3",), "./iscsi-iname: option '--help' doesn't allow an argument", 1),
        (("--stabl",), "./iscsi-iname: unrecognized option '--stabl'", 1),
        (("foo",), "unknown argument(s)", 1),
        (("-",), "unknown argument(s)", 1),
        (("--", "-p"), "unknown argument(s)", 1),
        (("-p", "foo", "bar"), "unknown argument(s)", 1),
        (("foo", "-p", "x"), "unknown argument(s)", 1),
        (("-p", "x" * 211), "error: prefix too long", 1),
        (("-p", "\u00fc" * 106), "error: prefix too long", 1),
        (("-p", "x" * 211, "-h"), "error: prefix too long", 1),
        (("-h", "-p", "x" * 211), "", 0),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else "",
)
def test_the_usage_is_on_stderr(argv: Sequence[str], line: str, status: int) -> None:
    assert run(*argv) == (status, "", f"{line}\n{USAGE}" if line else USAGE)


@given(st.binary(min_size=6, max_size=6))
def test_always_twelve_digits(data: bytes) -> None:
    out = StringIO()
    assert main([], out, StringIO(), entropy=lambda _: data) == 0
    assert re.fullmatch(r"iqn\.2016-04\.com\.open-iscsi:[0-9a-f]{12}\n", out.getvalue())
    assert bytes.fromhex(out.getvalue().strip().rpartition(":")[2]) == data
    check_iscsi_name(out.getvalue().strip())


def test_two_names_differ() -> None:
    names = set()
    for _ in range(100):
        out = StringIO()
        assert main([], out, StringIO()) == 0
        names.add(out.getvalue())
    assert len(names) == 100


def test_the_longest_prefix_still_makes_a_name() -> None:
    prefix = "iqn.2001-04.com.example:".ljust(PREFIX_MAX_BYTES, "x")
    status, out, _ = run("-p", prefix)
    assert status == 0
    check_iscsi_name(out.strip())


def machine(root: Path) -> Paths:
    (root / "machine-id").write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    return Paths(config=str(root / "iscsi"), etc=str(root), sysfs=str(root / "sys"), proc=str(root / "proc"))


def test_the_stable_name_is_the_one_the_machine_uses(tmp_path: Path) -> None:
    paths = machine(tmp_path)
    name = choose(paths).name
    assert run("--stable", paths=paths) == (0, f"{name}\n", "")
    assert run("--stable", "-g", paths=paths) == (0, f"InitiatorName={name}\n", "")
    digits = name.rpartition(":")[2]
    assert run("--stable", "-p", "iqn.2001-04.com.example", paths=paths)[1] == f"iqn.2001-04.com.example:{digits}\n"


def test_the_stable_name_is_not_that_of_the_file(tmp_path: Path) -> None:
    """It is for making the file anew, on a machine that was copied with it."""
    paths = machine(tmp_path)
    (tmp_path / "iscsi").mkdir()
    (tmp_path / "iscsi/initiatorname.iscsi").write_text("InitiatorName=iqn.2001-04.com.example:old\n")
    assert "machine." in run("--stable", paths=paths)[1]


def test_a_machine_without_an_identity_has_no_stable_name(tmp_path: Path) -> None:
    paths = machine(tmp_path)
    (tmp_path / "machine-id").write_text("uninitialized\n")
    status, out, err = run("--stable", paths=paths)
    assert (status, out) == (1, "")
    assert err.startswith("iscsi-iname: ")
    assert err.count("\n") == 1
