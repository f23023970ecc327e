# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot image`` as installed, and the tree it writes as the root of a process that has nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot import __main__ as program
from iscsiboot import __version__
from iscsiboot.database.initiator_name import choose
from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.initramfs import command
from iscsiboot.initramfs.entries import Entry, Kind, Part
from iscsiboot.initramfs.facts import Facts, carried_name_file, installed_layout, interpreter_of
from iscsiboot.initramfs.plan import make_plan
from iscsiboot.initramfs.render import stage_tree
from iscsiboot.initramfs.report import SizeReport
from iscsiboot.initramfs.sysroot import Sysroot
from tests.unit.admin.test_iname_source import Machine


def run_installed(prefix: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(prefix / "bin/iscsiboot"), *argv], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_list_tells_every_path_and_why(prefix: Path, plan: tuple[Entry, ...]) -> None:
    run = run_installed(prefix, "image", "--list")
    assert run.returncode == 0, run.stderr
    assert [line.split(" ", 1)[0].rstrip("/") for line in run.stdout.splitlines()] == [entry.path for entry in plan]
    records = json.loads(run_installed(prefix, "image", "--list", "--json").stdout)
    assert [record["path"] for record in records] == [entry.path for entry in plan]
    assert all(record["why"] for record in records)


def test_the_boot_path_keeps_the_budget(prefix: Path) -> None:
    """Point 7 of the issue: at most 8 MiB compressed for Python and our code, and the report is the measure."""
    run = run_installed(prefix, "image", "--report", "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(run.stdout)
    assert report["within"] is True
    assert 4 << 20 < report["total"]["gzip"] <= 8 << 20
    assert [part["part"] for part in report["parts"]] == [part.value for part in Part if part is not Part.OTHER]


def test_over_the_budget_is_exit_status_1(monkeypatch: pytest.MonkeyPatch, facts: Facts) -> None:
    monkeypatch.setattr(command, "installed_layout", lambda root, launcher: facts.layout)
    monkeypatch.setattr(command, "measure", lambda entries, root: SizeReport(costs=(), gzip=9 << 20, zstd=None))
    out = io.StringIO()
    assert command.main([], out, io.StringIO()) == ExitCode.ERR
    assert "OVER" in out.getvalue()


def test_stage_needs_a_directory(prefix: Path, tmp_path: Path) -> None:
    run = run_installed(prefix, "image", "--stage", str(tmp_path / "absent"))
    assert run.returncode == 1
    assert "is not a directory" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_reader_that_goes_away_is_no_traceback(prefix: Path) -> None:
    script = f"{prefix}/bin/iscsiboot image --list | head -n 1"
    run = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "make install"), ("echo\n", "does not begin with #!"), ("#!python3\n", "does not begin with #!")],
    ids=["absent", "no-shebang", "relative"],
)
def test_a_launcher_that_is_none(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "launcher").write_text(text)
    with pytest.raises(IscsiBootError, match=message):
        interpreter_of(Sysroot(tmp_path), "/launcher")


def test_the_layout_of_this_checkout() -> None:
    layout = installed_layout(Path("/"), "/x/iscsistart")
    assert layout.launcher == "/x/iscsistart"
    assert Path(layout.libdir, "iscsiboot/__init__.py").is_file()
    assert all(Path(site).is_dir() for site in layout.sites)


class TestDispatcher:
    def call(self, *argv: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        return program.main(argv, out, err), out.getvalue(), err.getvalue()

    def test_help_names_every_subcommand(self) -> None:
        status, out, err = self.call("--help")
        assert (status, err) == (0, "")
        assert all(name in out for name in program.SUBCOMMANDS)

    def test_version(self) -> None:
        assert self.call("-V") == (0, f"iscsiboot {__version__}\n", "")

    @pytest.mark.parametrize("argv", [(), ("nonsense",), ("--nonsense",)])
    def test_anything_else_is_a_usage_error(self, argv: tuple[str, ...]) -> None:
        status, out, err = self.call(*argv)
        assert (status, out) == (ExitCode.INVAL, "")
        assert err.startswith("usage:")

    def test_failures_are_one_line(self, tmp_path: Path) -> None:
        status, out, err = self.call("image", "--launcher", str(tmp_path / "none"))
        assert (status, out) == (ExitCode.ERR, "")
        assert err.startswith("iscsiboot image: image: ")
        assert err.count("\n") == 1

    @pytest.mark.parametrize("name", sorted(program.SUBCOMMANDS))
    def test_every_subcommand_has_its_function(self, name: str) -> None:
        module = __import__(program.SUBCOMMANDS[name].module, fromlist=["main"])
        assert callable(module.main)


NAMED = "InitiatorName=iqn.2001-04.com.example:host\n"


@pytest.mark.parametrize(
    ("text", "host_only", "general"),
    [
        (None, False, False),
        (NAMED, True, False),
        (f"GenerateName=yes\n{NAMED}", True, False),
        ("GenerateName=yes\n", True, True),
        (f"#{NAMED}", True, True),
        ("", True, True),
    ],
    ids=["absent", "named", "named, generate", "generate", "comment", "empty"],
)
def test_a_name_goes_into_the_image_of_its_machine_alone(
    tmp_path: Path, text: str | None, host_only: bool, general: bool
) -> None:
    """What only says how a name is made belongs everywhere: the initramfs would else make another one."""
    (tmp_path / "etc/iscsi").mkdir(parents=True)
    if text is not None:
        (tmp_path / "etc/iscsi/initiatorname.iscsi").write_text(text)
    root = Sysroot(tmp_path)
    assert (carried_name_file(root, host_only=True) is not None) is host_only
    assert (carried_name_file(root, host_only=False) is not None) is general


def test_the_name_file_is_looked_for_inside_the_sysroot(tmp_path: Path) -> None:
    (tmp_path / "etc/iscsi").mkdir(parents=True)
    (tmp_path / "etc/iscsi/initiatorname.iscsi").symlink_to("/srv/name")
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/name").write_text(NAMED)
    found = carried_name_file(Sysroot(tmp_path), host_only=True)
    assert found is not None
    assert (found.real, [link.target for link in found.links]) == ("/srv/name", ["/srv/name"])


def test_a_name_file_that_is_a_directory_is_none(tmp_path: Path) -> None:
    (tmp_path / "etc/iscsi/initiatorname.iscsi").mkdir(parents=True)
    assert carried_name_file(Sysroot(tmp_path), host_only=True) is None


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o600), (0o700, 0o644)], ids=["file", "folder"])
def test_who_may_not_read_the_name_file_still_sees_what_is_in_an_image(folder: int, file: int) -> None:
    """An ordinary user asks for --list or --report; Debian gives the file 0600, and a folder may be 0700."""
    with tempfile.TemporaryDirectory() as directory:
        root, place = Path(directory), Path(directory, "etc/iscsi/initiatorname.iscsi")
        place.parent.mkdir(parents=True)
        place.write_text("GenerateName=yes\n")
        place.chmod(file)
        place.parent.chmod(folder)
        root.chmod(0o755)
        told: list[str] = []
        with an_ordinary_user():
            assert carried_name_file(Sysroot(root), host_only=False, note=told.append) is None
            with pytest.raises(IscsiBootError, match="cannot be read: Permission denied"):
                carried_name_file(Sysroot(root), host_only=True)
    (line,) = told
    assert str(place) in line
    assert line.endswith("; it is left out")


@contextlib.contextmanager
def an_ordinary_user() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_host_only_reaches_the_facts(monkeypatch: pytest.MonkeyPatch, facts: Facts) -> None:
    asked: list[bool] = []

    def gathered(*_: object, host_only: bool) -> Facts:
        asked.append(host_only)
        return facts

    monkeypatch.setattr(command, "installed_layout", lambda root, launcher: facts.layout)
    monkeypatch.setattr(command, "gather", gathered)
    for argv in (["--list"], ["--list", "--host-only"]):
        assert command.main(argv, io.StringIO(), io.StringIO()) == 0
    assert asked == [False, True]


LOADED = """
import sys
sys.path[:] = [FRONT, *sys.path, *BACK]
for name in NAMES:
    __import__(name)
files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
sys.stdout.write("\\n".join(sorted(files - {""})))
"""


KEEPER = """
import sys
sys.path[:] = [FRONT, *sys.path, *BACK]
import asyncio, json, os, socket
from iscsiboot.boot import keeper_child
from iscsiboot.errors import printable
lines = []
keeper_child.seal.preload()
keeper_child.seal.seal(lambda level, text: lines.append(text))

async def live():
    loop, told = asyncio.get_running_loop(), {}
    with socket.socket() as outside:
        outside.setblocking(False)
        try:
            await asyncio.wait_for(loop.sock_connect(outside, ("127.0.0.1", 1)), 5)
        except OSError as error:
            told["refused"] = type(error).__name__
    async def answer(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    name = chr(0) + "iscsiboot-test-%d" % os.getpid()
    async with await asyncio.start_unix_server(answer, name):
        reader, writer = await asyncio.open_unix_connection(name)
        writer.write(b"x" + bytes([10]))
        told["asked"] = (await reader.readline()).decode().strip()
        writer.close()
    told["words"] = printable("a" + chr(10) + "b")
    return told

told = asyncio.run(live())
told["lines"] = lines
sys.stdout.write(json.dumps(told))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, plan: tuple[Entry, ...]) -> Path:
    """The staged tree, and nothing else in it."""
    tree = tmp_path_factory.mktemp("image")
    stage_tree(plan, Sysroot(Path("/")), tree)
    return tree


def run_in(image: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["chroot", str(image), *command],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin"},
    )


def import_everything(image: Path, facts: Facts) -> subprocess.CompletedProcess[str]:
    names = [module.name for module in facts.closure.modules]
    code = LOADED.replace("FRONT", repr(facts.layout.libdir)).replace("BACK", repr(facts.layout.sites))
    return run_in(image, "/usr/bin/python3", "-I", "-S", "-c", code.replace("NAMES", repr(names)))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
class TestInAnEmptyRoot:
    def test_the_program_starts_without_a_word_of_complaint(self, image: Path, facts: Facts) -> None:
        run = run_in(image, facts.launcher.asked, "--version")
        assert (run.returncode, run.stdout, run.stderr) == (0, f"iscsistart version {__version__}\n", "")

    def test_what_cannot_be_printed_is_told(self, image: Path, facts: Facts) -> None:
        """A codec is looked up by name: no import shows that it is needed."""
        run = run_in(
            image, facts.launcher.asked, "-i", "iqn.2001-04.com.example:i", "-g", "1", "-a", "10.0.0.1", "-t", "a\nb"
        )
        assert run.returncode == ExitCode.INVAL
        assert 'TargetName: "a\\nb" is no iSCSI name' in run.stderr
        assert "Traceback" not in run.stderr
        shutil.rmtree(image / "run")  # the timeline of this run

    def test_a_sealed_keeper_has_all_it_needs(self, image: Path, facts: Facts) -> None:
        """Sockets, time, JSON and words, with nothing imported after the seal."""
        code = KEEPER.replace("FRONT", repr(facts.layout.libdir)).replace("BACK", repr(facts.layout.sites))
        run = run_in(image, "/usr/bin/python3", "-I", "-S", "-c", code)
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout) == {
            "refused": "ConnectionRefusedError",
            "words": "a\\nb",
            "asked": "x",
            "lines": [],
        }

    def test_every_module_imports_and_no_file_is_idle(self, image: Path, facts: Facts, plan: tuple[Entry, ...]) -> None:
        run = import_everything(image, facts)
        assert run.returncode == 0, run.stderr
        loaded = {str(Path("/") / path) for path in run.stdout.splitlines()}
        modules = {entry.path for entry in plan if entry.path.endswith((".pyc", ".so"))}
        # os is frozen, its file is the landmark the interpreter finds its library by.
        idle = modules - loaded - {f"{facts.closure.stdlib[1]}/os.pyc"}
        assert not idle

    @pytest.mark.parametrize(
        "text", [None, "GenerateName=yes\n", NAMED], ids=["made", "made, Debian's way", "of the file"]
    )
    def test_the_initiator_name_is_the_host_s(
        self, facts: Facts, plan: tuple[Entry, ...], tmp_path: Path, text: str | None
    ) -> None:
        """Hash included: the image of this very machine, and the hardware it sees there, make the name made here."""
        host = Machine(tmp_path / "host").uuid().machine_id()
        entries = plan
        if text is not None:
            host.file(text)
            place = carried_name_file(Sysroot(host.root), host_only=True)
            entries = make_plan(replace(facts, name_file=place))
        tree = tmp_path / "image"
        tree.mkdir()
        # The name's file is the made-up host's; all others are this one's.
        theirs = tuple(entry for entry in entries if entry.path.startswith("/etc"))
        stage_tree(tuple(entry for entry in entries if entry not in theirs), Sysroot(Path("/")), tree)
        stage_tree(theirs, Sysroot(host.root), tree)
        Machine(tree).uuid().put("etc/initrd-release", "").put("proc/x", "").put("etc/machine-id", "f" * 31 + "0\n")
        code = (
            f"import sys; sys.path[:] = [{facts.layout.libdir!r}, *sys.path]; "
            "from iscsiboot.boot.naming import NameRoots, choose_name; "
            "print(choose_name(None, None, NameRoots(etc='/etc', sysfs='/sys', proc='/proc')).text)"
        )
        run = run_in(tree, "/usr/bin/python3", "-I", "-S", "-c", code)
        assert (run.stdout, run.stderr) == (f"{choose(host.paths).name}\n", "")

    def test_libudev_is_opened_by_name(self, image: Path, facts: Facts) -> None:
        code = f"import sys; sys.path += {[*facts.layout.sites]!r}; import pyudev; pyudev.Context()"
        run = run_in(image, "/usr/bin/python3", "-I", "-S", "-c", code)
        assert (run.returncode, run.stderr) == (0, "")

    def test_no_library_can_be_left_out(self, image: Path, facts: Facts) -> None:
        code = f"import sys; sys.path += {[*facts.layout.sites]!r}; import pyudev; pyudev.Context()"
        for library in facts.libraries:
            place = image / library.place.real.lstrip("/")
            away = place.with_name("away")
            place.rename(away)
            try:
                idle = (
                    run_in(image, "/usr/bin/python3", "-I", "-S", "-c", code).returncode == 0
                    and import_everything(image, facts).returncode == 0
                )
            finally:
                away.rename(place)
            assert not idle, library

    def test_os_pyc_is_needed(self, image: Path, facts: Facts) -> None:
        place = image / f"{facts.closure.stdlib[1]}/os.pyc".lstrip("/")
        away = place.with_name("away")
        place.rename(away)
        try:
            run = run_in(image, facts.launcher.asked, "--version")
        finally:
            away.rename(place)
        assert (run.returncode, run.stderr) != (0, "")

    def test_a_sysroot_gives_the_same_plan_as_the_running_system(
        self, prefix: Path, image: Path, plan: tuple[Entry, ...]
    ) -> None:
        """``--sysroot /`` of another name: a bind of the host's own tree is what dracut --sysroot sees."""
        script = 'mkdir "$1/r" && mount --rbind / "$1/r" && shift && exec "$@"'
        holder = image.parent / "sysroot"
        holder.mkdir(exist_ok=True)
        run = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script, "sh", str(holder), str(prefix / "bin/iscsiboot"),
             "image", "--list", "--json", "--sysroot", str(holder / "r")],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert [record["path"] for record in json.loads(run.stdout)] == [entry.path for entry in plan]

    def test_every_file_of_the_tree_was_planned(self, image: Path, plan: tuple[Entry, ...]) -> None:
        found = {f"/{path.relative_to(image)}" for path in image.rglob("*")}
        assert found == {entry.path for entry in plan}
        assert not [entry for entry in plan if entry.kind is Kind.FILE and entry.path.endswith(".py")]
