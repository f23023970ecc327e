# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host facts made by hand, and the entries that must come of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.initramfs.closure import Closure, Module
from iscsiboot.initramfs.entries import Entry, Kind, Part
from iscsiboot.initramfs.facts import Facts, Layout
from iscsiboot.initramfs.loader import Library
from iscsiboot.initramfs.plan import make_plan
from iscsiboot.initramfs.sysroot import Link, Located

STDLIB = "/usr/lib/python3.11"


def located(path: str, real: str = "", *links: tuple[str, str]) -> Located:
    return Located(asked=path, real=real or path, links=tuple(Link(*entry) for entry in links))


def make_facts(files: list[Located], libraries: tuple[Library, ...] = ()) -> Facts:
    landmark = located(f"{STDLIB}/os.py")
    modules = tuple(Module(name=place.asked.rsplit("/", 1)[-1], path=place.asked) for place in files)
    return Facts(
        layout=Layout(launcher="/usr/sbin/iscsistart", libdir="/usr/lib/iscsiboot", sites=("/site",)),
        interpreter=located("/usr/bin/python3", "/usr/bin/python3.11", ("/usr/bin/python3", "python3.11")),
        launcher=located("/usr/sbin/iscsistart"),
        closure=Closure(modules=modules, frozen=frozenset({"os"}), magic=b"", stdlib=(STDLIB, f"{STDLIB}/lib-dynload")),
        files={place.asked: place for place in [*files, landmark]},
        directories={path: located(path) for path in (STDLIB, f"{STDLIB}/lib-dynload")},
        libraries=libraries,
    )


def test_the_initiator_name_s_file_is_for_root_s_eyes_and_keeps_its_links() -> None:
    place = located("/etc/iscsi/initiatorname.iscsi", "/srv/name", ("/etc/iscsi/initiatorname.iscsi", "../../srv/name"))
    plan = {entry.path: entry for entry in make_plan(replace(make_facts([]), name_file=place))}
    assert (plan["/srv/name"].kind, plan["/srv/name"].mode) == (Kind.FILE, 0o600)
    assert plan["/etc/iscsi/initiatorname.iscsi"].target == "../../srv/name"
    assert "/etc/iscsi" not in planned([])


def planned(files: list[Located], libraries: tuple[Library, ...] = ()) -> dict[str, Entry]:
    return {entry.path: entry for entry in make_plan(make_facts(files, libraries))}


def test_the_smallest_plan_is_program_interpreter_and_landmarks() -> None:
    plan = planned([])
    assert {path for path, entry in plan.items() if entry.kind is not Kind.DIRECTORY} == {
        "/usr/sbin/iscsistart",
        "/usr/bin/python3",
        "/usr/bin/python3.11",
        f"{STDLIB}/os.pyc",
    }
    assert plan["/usr/bin/python3"].target == "python3.11"
    assert plan["/usr/bin/python3.11"].mode == plan["/usr/sbin/iscsistart"].mode == 0o755
    assert plan[f"{STDLIB}/lib-dynload"].kind is Kind.DIRECTORY


@pytest.mark.parametrize(
    ("path", "part"),
    [
        (f"{STDLIB}/enum.py", Part.STDLIB),
        (f"{STDLIB}/lib-dynload/_json.so", Part.STDLIB),
        ("/usr/lib/iscsiboot/iscsiboot/errors.py", Part.OWN),
        ("/site/pyroute2/common.py", Part.PYROUTE2),
        ("/site/pyudev/core.py", Part.PYUDEV),
        ("/site/six.py", Part.OTHER),
        ("/somewhere/else.py", Part.OTHER),
    ],
)
def test_who_is_charged(path: str, part: Part) -> None:
    entry = planned([located(path)])[path if path.endswith(".so") else path + "c"]
    assert entry.part is part
    assert entry.source == path
    assert entry.why.startswith("import of ")


def test_a_source_becomes_bytecode_where_python_looks() -> None:
    plan = planned([located("/site/a.py", "/other/b.py", ("/site/a.py", "../other/b.py"))])
    assert plan["/site/a.pyc"].kind is Kind.BYTECODE
    assert plan["/site/a.pyc"].source == "/other/b.py"
    assert not {"/site/a.py", "/other/b.py", "/other/b.pyc", "/other"} & set(plan)


def test_links_on_the_way_to_a_module_are_kept() -> None:
    place = located("/lib/x/a.py", "/usr/lib/x/a.py", ("/lib", "usr/lib"))
    plan = planned([place])
    assert plan["/lib"].target == "usr/lib"
    assert plan["/usr/lib/x/a.pyc"].source == "/usr/lib/x/a.py"


def test_sourceless_and_extension_modules_are_copied() -> None:
    plan = planned([located("/site/a.pyc"), located("/site/b.so")])
    assert plan["/site/a.pyc"].kind is plan["/site/b.so"].kind is Kind.FILE


def test_libraries_and_the_loader() -> None:
    libraries = (
        Library(located("/lib64/ld.so.2", "/usr/lib64/ld.so.2", ("/lib64", "usr/lib64")), "/usr/bin/python3.11", True),
        Library(located("/usr/lib/libz.so.1", "/usr/lib/libz.so.1.2", ("/usr/lib/libz.so.1", "libz.so.1.2")), "/x.so"),
    )
    plan = planned([], libraries)
    assert plan["/usr/lib64/ld.so.2"].mode == 0o755
    assert plan["/usr/lib/libz.so.1.2"].mode == 0o644
    assert plan["/usr/lib/libz.so.1"].target == "libz.so.1.2"
    assert plan["/usr/lib/libz.so.1.2"].why == "needed by /x.so"
    assert plan["/usr/lib/libz.so.1.2"].part is Part.LIBRARIES


def test_an_extension_is_planned_once_and_charged_to_its_package() -> None:
    place = located("/site/pyudev/fast.so")
    assert planned([place], (Library(place, "import of fast"),))["/site/pyudev/fast.so"].part is Part.PYUDEV


def test_the_real_plan_is_whole(plan: tuple[Entry, ...], prefix: Path) -> None:
    paths = {entry.path for entry in plan}
    assert f"{prefix}/sbin/iscsistart" in paths
    assert f"{prefix}/lib/iscsiboot/iscsiboot/boot/iscsistart.pyc" in paths
    assert not [path for path in paths if path.endswith(".py") or "__pycache__" in path]
    assert not [path for path in paths if "-info" in path], "no package metadata: pyroute2 would load every plugin"
    assert not [path for path in paths if "libcrypto" in path or "libssl" in path]
    assert "/lib64" in paths or "/lib64/" in "".join(paths)
    assert all(entry.part is not Part.OTHER for entry in plan)
