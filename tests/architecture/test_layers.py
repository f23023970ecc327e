# SPDX-License-Identifier: LGPL-2.1-or-later
"""The layer rules of ARCHITECTURE.md, held: imports point down, packages on one line never import each other."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "iscsiboot"

SOURCE_FOLDERS = ("iscsiboot", "tests", "benchmarks", "tools")

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("model",),
    ("initiator", "ibft", "cmdline", "isns"),
    ("netlink", "sysfs", "private"),
    ("firmware", "network", "database", "session", "ipc"),
    ("keeper", "orders"),
    ("boot", "daemon", "admin", "initramfs", "toolkit"),
    ("__main__",),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
PURE_PARTS = ("errors", "model", "initiator", "ibft", "cmdline", "isns")
IMPURE_MODULES = frozenset(
    {"os", "socket", "select", "selectors", "subprocess", "time", "random", "secrets", "threading", "asyncio"}
    | {"pyroute2", "pyudev", "signal", "fcntl", "shutil", "tempfile", "io"}
)
LIBRARIES = {"pyroute2": {"network"}, "pyudev": {"session"}, "elftools": {"initramfs"}}
"""Which part may use which library: one place each, so that a library can be replaced."""


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            yield node.lineno, node.module
            if node.module == "iscsiboot":
                for alias in node.names:
                    yield node.lineno, f"iscsiboot.{alias.name}"


def violations(path: Path, text_imports: list[tuple[int, str]]) -> list[str]:
    """What is wrong with the imports of a module of the package."""
    part = part_of(path)
    found = []
    for line, name in text_imports:
        root, _, rest = name.partition(".")
        if root == "iscsiboot" and rest:
            other = rest.split(".", 1)[0]
            if other == "__version__" or other == part:
                continue
            if other not in LEVEL:
                found.append(f"{path.name}:{line}: {name} is in no layer")
            elif LEVEL[other] >= LEVEL[part]:
                found.append(f"{path.name}:{line}: {part} (level {LEVEL[part]}) imports {other} (level {LEVEL[other]})")
        elif root in LIBRARIES and part not in LIBRARIES[root]:
            found.append(f"{path.name}:{line}: {root} belongs to {', '.join(LIBRARIES[root])}")
        elif root != "iscsiboot" and root not in LIBRARIES and root not in sys.stdlib_module_names:
            found.append(f"{path.name}:{line}: {root} is no dependency of this project")
        if part in PURE_PARTS and root in IMPURE_MODULES:
            found.append(f"{path.name}:{line}: {part} is pure but imports {name}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert not violations(path, list(imports(path)))


def test_every_part_of_the_package_has_a_layer() -> None:
    assert {part_of(path) for path in modules()} <= set(LEVEL)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("model/x.py", "iscsiboot.session.attach"),
        ("network/x.py", "iscsiboot.session.attach"),
        ("boot/x.py", "iscsiboot.toolkit.explain"),
        ("initiator/x.py", "socket"),
        ("ibft/x.py", "os.path"),
        ("boot/x.py", "pyroute2.iproute"),
        ("session/x.py", "yaml"),
        ("session/x.py", "iscsiboot.unheard_of"),
    ],
)
def test_the_rules_can_fail(part: str, name: str) -> None:
    assert violations(PACKAGE / part, [(1, name)])


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > 60
    ]
    assert not long


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_sleep_and_no_exit_in_library_code(path: Path) -> None:
    """A sleep is a wait without a reason; an exit takes the process from whoever called."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        called = f"{ast.unparse(node.func.value)}.{node.func.attr}"
        assert called not in ("time.sleep", "asyncio.sleep"), f"line {node.lineno}: {called}"
        if called == "sys.exit":
            assert _under_main_guard(path, node.lineno), f"line {node.lineno}: sys.exit"


def _under_main_guard(path: Path, line: int) -> bool:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) and node.end_lineno is not None:
            return node.lineno <= line <= node.end_lineno
    return False


@pytest.mark.parametrize(
    "path",
    [
        path
        for folder in ("iscsiboot", "tests", "benchmarks", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_file_names_its_licence_first(path: Path) -> None:
    first = path.read_text().split("\n", 2)
    line = first[1] if first[0].startswith("#!") else first[0]
    assert line == "# SPDX-License-Identifier: LGPL-2.1-or-later"


def test_importing_a_module_does_nothing() -> None:
    """Module bodies hold definitions, constants and docstrings; nothing else runs at import."""
    allowed = (
        ast.Import,
        ast.ImportFrom,
        ast.ClassDef,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.Assign,
        ast.AnnAssign,
        ast.If,
    )
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, allowed):
                continue
            assert isinstance(node, ast.Expr), f"{path}:{node.lineno}"
            assert isinstance(node.value, ast.Constant), f"{path}:{node.lineno}: a call at import"
