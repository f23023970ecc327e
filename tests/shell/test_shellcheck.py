# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every shell file of the project passes shellcheck, names its licence, and is in its own shell's grammar."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shell_files() -> list[Path]:
    """Tracked or new files that are shell by name or by first line."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = []
    for name in listed:
        path = ROOT / name
        if not path.is_file() or path.suffix in (".py", ".md", ".bin", ".json"):
            continue
        first = path.read_bytes()[:64].split(b"\n", 1)[0]
        if name.endswith((".sh", ".sh.in")) or (first.startswith(b"#!") and first.rstrip().endswith((b"/sh", b"bash"))):
            found.append(path)
    return found


FILES = shell_files()


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_search_finds_what_must_be_there() -> None:
    assert {
        ".ci/run",
        "dracut-module/95iscsiboot/module-setup.sh",
        "dracut-module/95iscsiboot/iscsiboot-start.sh.in",
        "hooks/mark-root-mounted.sh",
    } <= {named(path) for path in FILES}


def shellcheck(path: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("shellcheck")
    if program is None:
        assert not os.environ.get("CI"), "CI needs shellcheck"
        pytest.skip("shellcheck is not installed")
    return subprocess.run([program, "-x", str(path)], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_shellcheck(path: Path) -> None:
    run = shellcheck(path)
    assert run.returncode == 0, run.stdout


def test_shellcheck_can_fail(tmp_path: Path) -> None:
    (tmp_path / "bad.sh").write_text("#!/bin/sh\necho $1\n")
    assert shellcheck(tmp_path / "bad.sh").returncode == 1


@pytest.mark.parametrize("path", FILES, ids=named)
def test_licence_follows_the_first_line(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert "# SPDX-License-Identifier: LGPL-2.1-or-later" in lines[:2]


@pytest.mark.parametrize("path", FILES, ids=named)
def test_its_own_shell_reads_it(path: Path) -> None:
    shell = "bash" if "bash" in path.read_text().split("\n", 1)[0] else "dash"
    run = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
