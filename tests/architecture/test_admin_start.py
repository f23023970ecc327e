# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the start of ``iscsiadm`` costs, counted in modules: a listing loads what it needs and nothing else.

A stopwatch would fail on a busy machine; a module that should not be there is found on any. Times are in
docs/performance.md. The allow-lists are frozen: whoever adds a module here has looked at what it costs
(``python3 -X importtime``).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.directory import numbered
from tests.doubles.session import Plan
from tests.doubles.target import Script
from tests.unit.admin.discovery_kit import serving

ROOT = Path(__file__).resolve().parents[2]

INTERPRETER = frozenset(
    {"__future__", "__main__", "builtins", "marshal", "sys", "time", "warnings", "zipimport", "types", "errno"}
    | {"_abc", "_codecs", "_frozen_importlib", "_frozen_importlib_external", "_imp", "_io", "_signal", "_stat"}
    | {"_thread", "_warnings", "_weakref", "abc", "codecs", "encodings", "encodings.aliases", "encodings.utf_8", "io"}
    | {"genericpath", "os", "os.path", "posix", "posixpath", "stat", "_collections_abc"}
)
"""What the interpreter loads by itself, and ``os``."""
ENUM = frozenset({"enum", "functools", "collections", "keyword", "operator", "reprlib", "itertools"})
"""``enum`` and what it needs; the exit codes are one."""
BUILT_IN = frozenset({"_collections", "_functools", "_operator", "gc", "itertools"})
"""Compiled into the interpreter, so no file is read."""
REGULAR_EXPRESSIONS = frozenset({"re", "re._casefix", "re._compiler", "re._constants", "re._parser", "_sre", "copyreg"})
STANDARD = INTERPRETER | ENUM | BUILT_IN | REGULAR_EXPRESSIONS

FRONT = frozenset(
    {"iscsiboot", "iscsiboot.errors", "iscsiboot.admin", "iscsiboot.model", "iscsiboot.model.getopt_long"}
    | {f"iscsiboot.admin.{name}" for name in ("arguments", "context", "main", "options", "process")}
)
SESSIONS = frozenset({"iscsiboot.admin.session_mode", "iscsiboot.sysfs", "iscsiboot.sysfs.listing"})
NODES = frozenset(
    {"iscsiboot.admin.node_mode", "iscsiboot.admin.node_list", "iscsiboot.database"}
    | {
        f"iscsiboot.database.{name}"
        for name in (
            *("body", "failure", "key", "keys", "keys_iface", "keys_node", "lines", "names", "nodes", "reading"),
            *("record", "store", "tree"),
        )
    }
)

RUN = """
import io, sys
sys.path[:0] = [sys.argv.pop(1)]
from iscsiboot.admin.context import Paths
from iscsiboot.admin.main import main
root = sys.argv.pop(1)
paths = Paths(config=root, database=root, etc=root, sysfs=f"{root}/sys", proc=f"{root}/proc", run=f"{root}/run")
out, err = io.StringIO(), io.StringIO()
status = main(sys.argv[1:], out, err, paths)
loaded = sorted(sys.modules)
import json
json.dump([status, out.getvalue(), err.getvalue(), loaded], sys.stdout)
"""


def run(argv: str, root: Path) -> tuple[int, str, str, set[str]]:
    """Status, stdout, stderr of a command line in a fresh interpreter, and every module it loaded."""
    done = subprocess.run(
        [sys.executable, "-ISBXutf8", "-c", RUN, str(ROOT), str(root), *argv.split()],
        capture_output=True,
        text=True,
        check=True,
    )
    status, out, err, loaded = json.loads(done.stdout)
    return status, out, err, set(loaded)


@pytest.mark.parametrize(
    ("argv", "allowed", "error"),
    [
        ("-m session", FRONT | SESSIONS, "iscsiadm: No active sessions.\n"),
        ("-m node", FRONT | NODES, "iscsiadm: No records found\n"),
        ("-m node -T x -p y", FRONT | NODES, "iscsiadm: No records found\n"),
        ("-m node -P 1", FRONT | NODES, "iscsiadm: No records found\n"),
    ],
)
def test_a_listing_loads_what_it_needs(argv: str, allowed: frozenset[str], error: str, tmp_path: Path) -> None:
    status, out, err, loaded = run(argv, tmp_path)
    assert (status, out, err) == (21, "", error)
    assert loaded - STANDARD - allowed == set()
    # A name nobody loads any more hides the next one that should not be there.
    assert {name for name in allowed if name not in loaded} == set()


HEAVY = frozenset(
    {"typing", "logging", "subprocess", "asyncio", "multiprocessing", "concurrent", "argparse", "tempfile", "shutil"}
    | {"random", "secrets", "hashlib", "_hashlib", "hmac", "ctypes", "traceback", "email", "http", "pyroute2", "pyudev"}
    | {"encodings.idna", "importlib.metadata"}
)
"""Of the standard library and of others: nothing any login or discovery without CHAP needs."""
SCSI = frozenset(f"iscsiboot.initiator.{name}" for name in ("pdu.scsi", "pdu.ahs", "pdu.registry", "scsi", "transfer"))
ENGINE = frozenset(
    {f"iscsiboot.initiator.{name}" for name in ("chap", "conversation", "keys", "login", "negotiation", "pdu.login")}
    | {f"iscsiboot.session.{name}" for name in ("attach", "connector", "handoff", "login")}
    | {"iscsiboot.orders.login_request"}
)
FULL_FEATURE = frozenset(f"iscsiboot.initiator.{name}" for name in ("connection", "discovery", "fullfeature"))
BELOW = ("iscsiboot.firmware", "iscsiboot.ibft", "iscsiboot.network", "iscsiboot.boot", "iscsiboot.toolkit")


def needless(loaded: set[str], *forbidden: frozenset[str]) -> set[str]:
    """What is loaded in vain: of these modules, and of the packages no session needs."""
    wanted = HEAVY.union(*forbidden)
    return {name for name in loaded if name in wanted or name.startswith(BELOW)}


def test_a_discovery_loads_nothing_of_disks(tmp_path: Path) -> None:
    """A whole one, so that what is imported on the way counts as well."""
    (tmp_path / "initiatorname.iscsi").write_text("InitiatorName=iqn.2004-01.com.example:i\n")
    with serving(Plan(records=numbered(3))) as server:
        status, out, err, loaded = run(f"-m discovery -t st -p 127.0.0.1:{server.port}", tmp_path)
    assert (status, len(out.splitlines()), err) == (0, 3, "")
    assert needless(loaded, SCSI, frozenset({"pathlib", "json", "iscsiboot.model.lun"})) == set()
    assert not {name for name in loaded if name.startswith("iscsiboot.netlink")}
    assert loaded >= FULL_FEATURE


def test_chap_brings_what_it_needs(tmp_path: Path) -> None:
    """The list above can fail."""
    (tmp_path / "initiatorname.iscsi").write_text("InitiatorName=iqn.2004-01.com.example:i\n")
    chap = "discovery.sendtargets.auth"
    settings = f"{chap}.authmethod = CHAP\n{chap}.username = user\n{chap}.password = secretsecret12\n"
    (tmp_path / "iscsid.conf").write_text(settings)
    plan = Plan(login=Script(user=("user", b"secretsecret12")), records=numbered(1))
    with serving(plan) as server:
        status, _, _, loaded = run(f"-m discovery -t st -p 127.0.0.1:{server.port}", tmp_path)
    assert status == 0
    assert {"hashlib", "_hashlib"} <= needless(loaded)


IMPORTS = "import sys; sys.path[:0] = [sys.argv[1]]; import {}; print(*sys.modules)"


def imported(*modules: str) -> set[str]:
    """Every module that importing these brings into a fresh interpreter."""
    command = [sys.executable, "-ISBXutf8", "-c", IMPORTS.format(", ".join(f"iscsiboot.{name}" for name in modules))]
    return set(subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=True).stdout.split())


LOGIN = ("admin.node_mode", "admin.login", "admin.runner_local", "orders.login_request", "session.login")


def test_a_login_loads_nothing_of_full_feature_phase() -> None:
    """That is the kernel's, as are the disks; a login itself needs a kernel, so its modules are imported here."""
    loaded = imported(*LOGIN, "session.modules", "session.workers")
    assert needless(loaded, SCSI, FULL_FEATURE, frozenset({"iscsiboot.initiator.pdu.control"})) == set()
    assert loaded >= ENGINE


def test_a_logout_loads_nothing_of_the_login_engine() -> None:
    loaded = imported("admin.node_mode", "admin.logout", "admin.runner_local", "session.logout", "session.workers")
    assert needless(loaded, SCSI, FULL_FEATURE, ENGINE) == set()


def test_a_rescan_loads_nothing_of_the_protocol() -> None:
    loaded = imported("admin.session_mode", "admin.rescan")
    assert needless(loaded, SCSI, FULL_FEATURE, ENGINE, frozenset({"socket"})) == set()
    assert not {name for name in loaded if name.startswith(("iscsiboot.initiator", "iscsiboot.netlink"))}


def test_the_place_of_a_login_lock_needs_no_openssl() -> None:
    """A login takes its lock each time; hashlib would bring OpenSSL along."""
    code = "import sys; sys.path[:0] = [sys.argv[1]]; from iscsiboot.admin.login_lock import _offset; "
    code += "at = _offset('place'); mine = set(sys.modules); import hashlib; "
    code += "theirs = hashlib.blake2b(b'place', digest_size=8).digest(); "
    code += "print(at == int.from_bytes(theirs, 'big') >> 2, *{'hashlib', '_hashlib'} & mine)"
    command = [sys.executable, "-ISBXutf8", "-c", code, str(ROOT)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


def test_listing_writes_nothing(tmp_path: Path) -> None:
    """The peer makes the root of the database even to list it; ours must list on a disk mounted read-only."""
    root = tmp_path / "absent"
    assert run("-m node", root)[0] == 21
    assert not root.exists()


def test_the_test_can_fail(tmp_path: Path) -> None:
    loaded = run("-m node --json", tmp_path)[3]
    assert "json" in loaded - STANDARD - FRONT - NODES
