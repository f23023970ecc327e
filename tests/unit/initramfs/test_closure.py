# SPDX-License-Identifier: LGPL-2.1-or-later
"""The probe in a real interpreter, its answers, and the manifest's table held against the source."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsiboot.boot import manifest as boot_manifest
from iscsiboot.errors import IscsiBootError
from iscsiboot.initramfs import closure as closure_module
from iscsiboot.initramfs.closure import ABSENT, Closure, ClosureError, Module, find_closure, parse_answer
from iscsiboot.initramfs.facts import Facts
from iscsiboot.initramfs.manifest import Manifest, read_manifest
from iscsiboot.initramfs.sysroot import Sysroot
from tests.unit.initramfs.conftest import ROOT

PYTHON = "/usr/bin/python3"
MAGIC = importlib.util.MAGIC_NUMBER.hex()


def probe(directory: Path, *imports: str) -> Closure:
    return find_closure(PYTHON, imports, front=(str(directory),), back=(), root=Path("/"))


def names(closure: Closure) -> set[str]:
    return {module.name for module in closure.modules}


def test_what_is_imported_is_found_and_nothing_else(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "used.py").write_text("import colorsys\n")
    (package / "unused.py").write_text("import wave\n")
    (package / "late.py").write_text("def f():\n    import sched\n")
    bare = names(probe(tmp_path))
    found = names(probe(tmp_path, "pack.used", "pack.late"))
    assert found - bare == {"pack", "pack.used", "pack.late", "colorsys"}


def test_a_bare_interpreter_needs_encodings_and_nothing_of_site(tmp_path: Path) -> None:
    closure = probe(tmp_path)
    assert names(closure) == {
        "encodings",
        "encodings.aliases",
        "encodings.ascii",
        "encodings.latin_1",
        "encodings.unicode_escape",
        "encodings.utf_8",
    }
    assert "os" not in closure.frozen
    assert {"codecs", "io", "abc"} <= closure.frozen


def test_no_module_sees_metadata_of_installed_packages(tmp_path: Path) -> None:
    (tmp_path / "thing-1.dist-info").mkdir()
    (tmp_path / "thing-1.dist-info/METADATA").write_text("Name: thing\nVersion: 1\n")
    (tmp_path / "thing-1.dist-info/entry_points.txt").write_text("[plugins]\na = wave\n")
    (tmp_path / "asks.py").write_text(
        "from importlib.metadata import entry_points\nfor point in entry_points(group='plugins'):\n    point.load()\n"
    )
    assert "wave" not in names(probe(tmp_path, "asks"))


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_absent_modules_are_absent_to_the_boot_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "tries.py").write_text(f"try:\n    import {name}\n    import wave\nexcept ImportError:\n    pass\n")
    found = names(probe(tmp_path, "tries", "hashlib"))
    assert "wave" not in found
    assert name not in found


def test_an_import_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "breaks.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(ClosureError, match="No module named 'nowhere_to_be_found'"):
        probe(tmp_path, "breaks")


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ClosureError, match="cannot be run"):
        find_closure("/nowhere/python3", (), front=(), back=(), root=Path("/"))


def test_one_file_under_two_names_is_one_module() -> None:
    answer = f"magic\t{MAGIC}\nmodule\talias.of.it\tfile\t/a.py\nmodule\tit\tfile\t/a.py\n"
    assert parse_answer(PYTHON, answer).modules == (Module(name="it", path="/a.py"),)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("", "another Python version"),
        ("magic\t0a0b0d0a\n", "another Python version"),
        (f"magic\t{MAGIC}\nmodule\tx\n", "an answer that is none"),
        (f"magic\t{MAGIC}\nmodule\tx\tfile\t/y.zip/x.egg\n", "no file an image can hold"),
        (f"magic\t{MAGIC}\nmodule\tx\tfile\trelative.py\n", "no file an image can hold"),
    ],
    ids=["empty", "other-version", "short-record", "inside-an-archive", "relative"],
)
def test_answers_that_make_no_sense(answer: str, message: str) -> None:
    with pytest.raises(ClosureError, match=message):
        parse_answer(PYTHON, answer)


def test_libraries_opened_by_name_are_asked_for_only_where_their_module_is() -> None:
    base = Closure(modules=(), frozen=frozenset(), magic=b"", stdlib=())
    assert base.dlopened == ()
    module = Module(name="pyudev._ctypeslib.libudev", path="/x.py")
    with_it = Closure(modules=(module,), frozen=frozenset(), magic=b"", stdlib=())
    assert with_it.dlopened == (("libudev.so.1", "pyudev._ctypeslib.libudev"),)


def test_every_library_our_packages_open_by_name_is_declared() -> None:
    """``CDLL`` and ``load_ctypes_library`` in the closure stand only where DLOPENED says."""
    spec = importlib.util.find_spec("pyudev")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    callers = {path.stem for path in folder.rglob("*.py") if "load_ctypes_library(" in path.read_text()}
    # _os.pipe asks for libc only where os.pipe2 is missing, which no Python 3 on Linux is.
    assert callers == {"core", "pipe", "utils"}
    assert "libudev.so.1" in (folder / "core.py").read_text()
    assert set(closure_module.DLOPENED) == {"pyudev._ctypeslib.libudev"}


def late_imports(path: Path) -> Iterator[str]:
    """Modules imported inside functions of a source file."""
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    yield name if is_module(name) else node.module


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_the_scan_finds_imports_in_functions_only(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text(
        "import os\nif True:\n    import ast\n"
        "def f():\n    import json\n    from email import message, message_from_bytes\n"
        "class C:\n    def g(self):\n        from struct import pack\n"
    )
    assert set(late_imports(source)) == {"json", "email.message", "email", "struct"}


def test_the_manifest_names_every_late_import_of_the_boot_path_and_no_other(facts: Facts) -> None:
    own = f"{facts.layout.libdir}/iscsiboot/"
    sources = [
        ROOT / "iscsiboot" / module.path.removeprefix(own) for module in facts.closure.modules if own in module.path
    ]
    assert ROOT / "iscsiboot/boot/iscsistart.py" in sources
    found = {name for source in sources for name in late_imports(source)}
    assert found == set(boot_manifest.LAZY_IMPORTS)


def manifest(tmp_path: Path, text: str) -> Manifest:
    place = tmp_path / "lib/iscsiboot/boot/manifest.py"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    return read_manifest(Sysroot(tmp_path), "/lib")


def test_the_manifest_is_read_as_data(tmp_path: Path) -> None:
    text = 'ENTRY = "a.b"\nLAZY_IMPORTS: tuple[str, ...] = ("c", "d.e")\nOTHER: int\n'
    assert manifest(tmp_path, text) == Manifest(entry="a.b", lazy=("c", "d.e"))


def test_the_real_manifest_reads_as_it_imports() -> None:
    read = read_manifest(Sysroot(Path("/")), str(ROOT))
    assert (read.entry, read.lazy) == (boot_manifest.ENTRY, boot_manifest.LAZY_IMPORTS)


@pytest.mark.parametrize(
    "text",
    [
        "ENTRY = (",
        'ENTRY = "a"\n',
        'ENTRY = 3\nLAZY_IMPORTS = ("a",)\n',
        'ENTRY = "a"\nLAZY_IMPORTS = "json"\n',
        'ENTRY = "a"\nLAZY_IMPORTS = ("a;b",)\n',
        'ENTRY = "a"\nLAZY_IMPORTS = tuple(["a"])\n',
    ],
    ids=["syntax", "no-table", "entry-no-name", "table-no-tuple", "not-a-module-name", "computed"],
)
def test_a_manifest_that_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(IscsiBootError, match="is no manifest"):
        manifest(tmp_path, text)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(IscsiBootError, match="make install"):
        read_manifest(Sysroot(tmp_path), "/lib")
