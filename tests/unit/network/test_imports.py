# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the bring-up imports, and when: as in the image, where pyroute2 is a directory without metadata."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[3]


def modules_after(code: str, *paths: Path) -> set[str]:
    """The names in ``sys.modules`` after ``code`` in a bare interpreter."""
    setup = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}"
    script = f"{setup}\n{code}\nimport json; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_import_is_cheap() -> None:
    found = modules_after("import iscsiboot.network.bringup\nassert 'json' not in sys.modules", ROOT)
    heavy = {"asyncio", "logging", "argparse", "subprocess", "pyroute2", "pyudev", "typing_extensions"}
    assert not found & heavy


def test_pyroute2_without_metadata_and_without_its_sockets(tmp_path: Path) -> None:
    spec = find_spec("pyroute2")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, tmp_path / "pyroute2", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "from pathlib import Path\n"
        "from iscsiboot.network.rtnl import Rtnl\n"
        "rtnl = Rtnl(sysfs=Path('/sys'))\n"
        "assert rtnl.snapshot().named('lo') is not None\n"
        "rtnl.close(); rtnl.close()"
    )
    found = modules_after(code, ROOT, tmp_path)
    assert {name for name in found if name.startswith("pyroute2")} >= {"pyroute2.netlink.rtnl.rtmsg"}
    # In 0.9 the package's front imports everything by itself; nothing may come on top of what it does.
    front = modules_after("import pyroute2", tmp_path)
    assert not (found - front) & {
        "asyncio",
        "pyroute2.iproute",
        "pyroute2.netlink.nlsocket",
        "pyroute2.netlink.rtnl.tcmsg",
    }
