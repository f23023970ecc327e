# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot db check``: each thing it finds, what --fix does about it, and that no record that can be read goes."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from iscsiboot.__main__ import main as iscsiboot
from iscsiboot.admin import db_command
from iscsiboot.admin.context import Paths
from iscsiboot.database.check import check
from iscsiboot.database.failure import failure
from iscsiboot.database.names import Source
from iscsiboot.database.store import Database
from iscsiboot.database.tree import Folder
from iscsiboot.errors import ExitCode, IscsiBootError
from tests.unit.database.samples import TARGET, Quick, filled, node, peer_text, tree, work

RECORD = f"nodes/{TARGET}/10.0.0.1,3260,1/default"
LINK = f"static/{TARGET},10.0.0.1,3260,1,default"
T2 = "nodes/iqn.2000-01.a:t2/10.0.0.1,3260,1"


def write(path: str, data: bytes | str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data if isinstance(data, bytes) else data.encode())

    return change


def unlink(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def link(path: str, to: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).symlink_to(to)

    return change


def fifo(path: str) -> Callable[[Path], None]:
    return lambda root: os.mkfifo(root / path)


def mode(path: str, bits: int) -> Callable[[Path], None]:
    return lambda root: (root / path).chmod(bits)


def folder(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).mkdir(parents=True)


MENDED = [
    ("dangling link", unlink(RECORD), "link", LINK),
    ("link elsewhere", lambda root: (unlink(LINK)(root), link(LINK, "/nowhere")(root)), "link", LINK),
    ("missing link", unlink(LINK), "link", LINK),
    (
        "missing discovery link",
        unlink("send_targets/10.0.0.9,3260/iqn.2000-01.a:t2,10.0.0.1,3260,1,default"),
        "link",
        "t2,",
    ),
    ("empty record", write(RECORD, ""), "damaged", RECORD),
    ("binary record", write(RECORD, bytes(512)), "damaged", RECORD),
    ("pipe", fifo(f"{T2}/pipe"), "damaged", f"{T2}/pipe"),
    ("folder", folder(f"{T2}/folder/below"), "damaged", f"{T2}/folder"),
    ("record is a link", link(f"{T2}/link", "default"), "damaged", f"{T2}/link"),
    ("file with a tag", write("nodes/iqn.x/10.0.0.1,3260,1", "x = y\n"), "damaged", "10.0.0.1,3260,1"),
    ("empty old style", write(f"nodes/{TARGET}/10.0.0.2,3260", ""), "damaged", "10.0.0.2,3260"),
    ("readable by others", mode(RECORD, 0o644), "mode", RECORD),
    ("folder for others", mode(f"nodes/{TARGET}", 0o755), "mode", f"nodes/{TARGET}"),
    ("discovery for others", mode("send_targets/10.0.0.9,3260/st_config", 0o640), "mode", "st_config"),
    ("empty target", folder("nodes/iqn.empty"), "empty", "nodes/iqn.empty"),
    ("empty portal", folder("nodes/iqn.empty/10.0.0.1,3260,1"), "empty", "10.0.0.1,3260,1"),
    ("empty server", folder("send_targets/10.9.9.9,3260"), "empty", "10.9.9.9,3260"),
    ("damaged server", write("isns/10.0.0.9,3205/isns_config", ""), "damaged", "isns_config"),
    ("damaged old server", write("isns/10.0.0.7,3205", ""), "damaged", "isns/10.0.0.7,3205"),
    ("damaged interface", write("ifaces/if4", ""), "damaged", "ifaces/if4"),
    ("temp", write(".iscsiboot/new-3", "half"), "leftover", "new-3"),
    ("temp folder", write(".iscsiboot/new-folder/st_config", "x = y\n"), "leftover", "new-folder"),
]

TOLD = [
    (
        "contradiction",
        write(RECORD, peer_text("node-file").replace(TARGET, "iqn.other")),
        "contradiction",
        RECORD,
        True,
    ),
    ("unknown key", write(RECORD, peer_text("node-file").replace("# END", "x.y = 1\n# END")), "value", RECORD, False),
    ("bad value", write(RECORD, peer_text("node-file").replace("ERL = 0", "ERL = x")), "value", RECORD, False),
    (
        "old beside new",
        write(f"nodes/{TARGET}/10.0.0.1,3260", "node.name = x\n"),
        "old-style",
        "10.0.0.1,3260,1",
        False,
    ),
    ("foreign file", write("nodes/notes", "x\n"), "foreign", "nodes/notes", False),
    ("foreign portal", write(f"nodes/{TARGET}/notes", "x\n"), "foreign", "notes", False),
    ("planted link", link("nodes/iqn.link", "/etc"), "foreign", "iqn.link", False),
    ("file among links", write("static/notes", "x\n"), "foreign", "static/notes", False),
    ("strange link", link("fw/strange", "/etc"), "foreign", "fw/strange", False),
    ("example", write("ifaces/iface.example", "x\n"), "foreign", "iface.example", False),
]


def found(root: Path, *, fix: bool = False) -> list[tuple[str, str, str]]:
    return [(one.kind, one.path, one.mended) for one in check(str(root), fix=fix, run=str(root))[0]]


def readable(root: Path) -> dict[str, str]:
    """Every record that can be read, as it is shown."""
    database = Database(str(root))
    shown = {repr(key): record.display(reveal=True) for key, record in database.nodes()}
    shown |= {record.get("iface.iscsi_ifacename"): record.display() for record in database.ifaces()}
    return shown


def test_a_whole_database_has_nothing_to_tell(tmp_path: Path) -> None:
    filled(tmp_path)
    before = tree(tmp_path)
    assert check(str(tmp_path), fix=True, run=str(tmp_path)) == ([], 6)
    assert tree(tmp_path) == before
    assert check(str(tmp_path / "none"), fix=True, run=str(tmp_path)) == ([], 0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("change", "kind", "path"), [case[1:] for case in MENDED], ids=[case[0] for case in MENDED])
def test_what_is_safe_to_mend_is_found_told_and_mended(
    tmp_path: Path, change: Callable[[Path], object], kind: str, path: str
) -> None:
    filled(tmp_path)
    change(tmp_path)
    before = tree_kinds(tmp_path)
    records = readable(tmp_path)
    assert any(one == kind and path in where and not mended for one, where, mended in found(tmp_path))
    assert tree_kinds(tmp_path) == before
    mended = found(tmp_path, fix=True)
    assert any(one == kind and path in where and did for one, where, did in mended)
    # A link whose record was put aside, a folder that is empty then: the second run finds those, the third nothing.
    found(tmp_path, fix=True)
    found(tmp_path, fix=True)
    assert [one for one in check(str(tmp_path), run=str(tmp_path))[0] if not one.is_note] == []
    assert readable(tmp_path) == records
    if kind == "damaged":
        assert len(work(tmp_path / ".iscsiboot") or list((tmp_path / ".iscsiboot/damaged").iterdir())) == 1


def tree_kinds(root: Path) -> list[tuple[str, int]]:
    return [(str(path), path.lstat().st_mode) for path in sorted(root.rglob("*"))]


@pytest.mark.parametrize(
    ("change", "kind", "path", "fault"), [case[1:] for case in TOLD], ids=[case[0] for case in TOLD]
)
def test_what_is_its_owners_business_is_told_and_left(
    tmp_path: Path, change: Callable[[Path], object], kind: str, path: str, fault: bool
) -> None:
    filled(tmp_path)
    change(tmp_path)
    for place in tmp_path.rglob("*"):
        if not place.is_symlink():
            place.chmod(0o700 if place.is_dir() else 0o600)
    before = tree(tmp_path)
    findings, _ = check(str(tmp_path), fix=True, run=str(tmp_path))
    one = next(one for one in findings if one.kind == kind and path in one.path)
    assert one.mended == ""
    assert one.is_note is not fault
    assert tree(tmp_path) == before


def test_two_damaged_records_of_one_name_are_both_kept(tmp_path: Path) -> None:
    filled(tmp_path)
    for text in ("\n", "\n\n"):
        (tmp_path / RECORD).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / RECORD).write_text(text)
        found(tmp_path, fix=True)
    assert sorted(path.read_text() for path in (tmp_path / ".iscsiboot/damaged").iterdir()) == ["\n", "\n\n"]


def test_a_deleted_server_leaves_its_records_without_a_complaint(tmp_path: Path) -> None:
    database = filled(tmp_path)
    with database.change(files=Quick()) as change:
        change.put_node(node("iqn.far"), source=Source("sendtargets", "10.8.8.8", 3260))
    link_name = "send_targets/10.8.8.8,3260/iqn.far,10.0.0.1,3260,1,default"
    (tmp_path / link_name).unlink()
    (tmp_path / link_name).parent.rmdir()
    assert found(tmp_path) == []


def process(proc: Path, pid: int, name: str, ticks: int) -> None:
    (proc / str(pid)).mkdir(parents=True)
    fields = " ".join(["S", *["0"] * 18, str(ticks), "0"])
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {fields}\n")


@pytest.mark.parametrize(
    ("name", "before", "stale"),
    [
        ("iscsiadm", True, False),
        ("iscsid", True, False),
        ("iscsiadm", False, True),
        ("bash", True, True),
        ("a) (iscsid", True, True),
    ],
)
def test_the_peers_lock_is_stale_when_nobody_can_hold_it(tmp_path: Path, name: str, before: bool, stale: bool) -> None:
    lock = tmp_path / "run/lock/iscsi/lock.write"
    lock.parent.mkdir(parents=True)
    lock.touch()
    made = lock.stat().st_ctime
    proc = tmp_path / "proc"
    process(proc, 7, name, 100 if before else 10**9)
    (proc / "stat").write_text(f"cpu 1 2\nbtime {int(made) - 1000}\n")
    (proc / "self").mkdir()
    findings, _ = check(str(tmp_path / "none"), fix=True, run=str(tmp_path / "run"), proc=str(proc))
    assert [(one.kind, one.mended) for one in findings] == ([("lock", "removed")] if stale else [])
    assert lock.exists() is not stale


def test_a_folder_that_does_not_open_is_told_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: Folder, name: str) -> Folder | None:
        raise failure(PermissionError(errno.EACCES, "denied"), f"{folder.path}/{name}", "opening the folder")

    (tmp_path / "nodes").mkdir(mode=0o700)
    monkeypatch.setattr(Folder, "sub", denied)
    findings, _ = check(str(tmp_path), run=str(tmp_path), proc=str(tmp_path))
    assert findings[0].text == "opening the folder failed: permission denied; run it as root"


def run(root: Path, *argv: str) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    paths = Paths(database=str(root), run=str(root / "none"))
    status = db_command.main(["check", *argv], out, err, paths)
    assert err.getvalue() == ""
    return status, out.getvalue()


def test_the_command_tells_and_mends(tmp_path: Path) -> None:
    filled(tmp_path)
    assert run(tmp_path) == (0, f"{tmp_path}: 6 records, all in order\n")
    (tmp_path / RECORD).write_text("")
    status, text = run(tmp_path)
    assert status == ExitCode.IDBM
    assert (
        text.splitlines()[-1] == f"{tmp_path}: 5 records, 2 findings, 2 to look at (--fix mends what is safe to mend)"
    )
    status, text = run(tmp_path, "--fix", "--json")
    document = json.loads(text)
    assert (status, document["left"], document["schema"]) == (0, 0, "iscsiboot.db-check/1")
    assert [one["kind"] for one in document["findings"]] == ["damaged", "empty", "link"]
    assert run(tmp_path) == (0, f"{tmp_path}: 5 records, all in order\n")
    (tmp_path / "x").mkdir()
    assert run(tmp_path, "--root", str(tmp_path / "x")) == (0, f"{tmp_path}/x: 0 records, all in order\n")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fix"],
        ["check", "--bogus"],
        ["check", "--root"],
        ["check", "--root=x"],
        ["check", "--timeout", "x"],
        ["check", "--fix=1"],
    ],
)
def test_wrong_words_are_refused(argv: list[str]) -> None:
    with pytest.raises(IscsiBootError) as caught:
        db_command.main(argv, io.StringIO(), io.StringIO())
    assert caught.value.exit_code == ExitCode.INVAL


def test_it_is_a_subcommand(tmp_path: Path) -> None:
    out = io.StringIO()
    assert iscsiboot(["db", "--help"], out, io.StringIO()) == 0
    assert out.getvalue() == db_command.usage()
    assert iscsiboot(["db", "check", "--root", str(tmp_path)], out, io.StringIO()) == 0
