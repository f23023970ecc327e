# SPDX-License-Identifier: LGPL-2.1-or-later
"""``make install`` and ``make uninstall``: what lands where, and that it runs from there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = "/usr/lib/python3/dist-packages"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-s", "-C", str(ROOT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package's staging directory, PREFIX /usr."""
    place = tmp_path_factory.mktemp("staged")
    run = make("install", f"DESTDIR={place}", "PREFIX=/usr")
    assert run.returncode == 0, run.stderr
    return place


def files(place: Path) -> dict[str, int]:
    """Path and permission bits of every file that is not part of the Python package."""
    return {
        f"/{path.relative_to(place)}": path.stat().st_mode & 0o777
        for path in place.rglob("*")
        if path.is_file() and "lib/iscsiboot/iscsiboot/" not in str(path)
    }


def test_everything_lands_where_a_package_would_put_it(staged: Path) -> None:
    documents = {path: mode for path, mode in files(staged).items() if path.startswith("/usr/share/")}
    assert set(documents.values()) <= {0o644}
    assert {path: mode for path, mode in files(staged).items() if path not in documents} == {
        "/usr/bin/iscsiboot": 0o755,
        "/usr/bin/iscsiadm": 0o755,
        "/usr/sbin/iscsistart": 0o755,
        **{f"/usr/sbin/{name}": 0o755 for name in ("iscsiadm", "iscsid", "iscsi-iname")},
        **{f"/usr/sbin/{name}": 0o755 for name in ("iscsi_discovery", "iscsi_fw_login")},
        "/usr/lib/udev/rules.d/50-iscsi-firmware-login.rules": 0o644,
        "/etc/iscsi/iscsid.conf": 0o600,
        "/usr/lib/iscsiboot/hooks/mark-root-mounted.sh": 0o755,
        "/usr/lib/iscsiboot/hooks/iscsiboot.modules-load.conf": 0o644,
        "/usr/lib/iscsiboot/hooks/iscsiboot-root.ibft.conf": 0o644,
        "/usr/lib/systemd/system/iscsiboot-root.service": 0o644,
        "/usr/lib/systemd/system/iscsiboot-root-mounted.service": 0o644,
        **{f"/usr/lib/systemd/system/{unit}": 0o644 for unit in ("iscsid.service", "iscsid.socket", "iscsi.service")},
        "/usr/lib/dracut/modules.d/95iscsiboot/module-setup.sh": 0o755,
        "/usr/lib/dracut/modules.d/95iscsiboot/iscsiboot-start.sh": 0o755,
        "/usr/lib/dracut/modules.d/95iscsiboot/iscsiboot-wait.sh": 0o755,
        "/usr/lib/dracut/modules.d/95iscsiboot/iscsiboot-finished.sh": 0o755,
    }


def test_the_whole_package_is_installed_and_compiled(staged: Path) -> None:
    library = staged / "usr/lib/iscsiboot"
    sources = {path.relative_to(ROOT) for path in (ROOT / "iscsiboot").rglob("*.py")}
    assert {path.relative_to(library) for path in library.rglob("*.py")} == sources
    compiled = {path.name.split(".")[0] for path in (library / "iscsiboot/boot/__pycache__").iterdir()}
    assert {path.stem for path in sources if path.parent.name == "boot"} == compiled


def test_no_template_word_is_left_and_no_build_path_got_in(staged: Path) -> None:
    for path in files(staged):
        text = (staged / path.lstrip("/")).read_text()
        if path.startswith("/usr/share/"):
            continue
        assert not [word for word in ("@PYTHON@", "@LIBDIR@", "@SBINDIR@", "@HOOKDIR@", "@SITES@") if word in text]
        assert str(staged) not in text
        assert str(ROOT) not in text


def test_launchers_name_interpreter_library_and_sites(staged: Path) -> None:
    for name in ("sbin/iscsistart", "bin/iscsiboot"):
        lines = (staged / "usr" / name).read_text().splitlines()
        assert lines[0] == "#!/usr/bin/python3 -IS"
        assert f"sys.path[:] = [\"/usr/lib/iscsiboot\", *sys.path, '{SITE}']" in lines


@pytest.mark.parametrize("directory", ["plain", "with blank"])
def test_an_installation_runs_from_any_prefix(tmp_path: Path, directory: str) -> None:
    prefix = tmp_path / directory
    run = make("install", f"PREFIX={prefix}")
    assert run.returncode == 0, run.stderr
    for program in ("sbin/iscsistart", "sbin/iscsid", "bin/iscsiboot"):
        answer = subprocess.run(
            [str(prefix / program), "--version"], capture_output=True, text=True, check=False, cwd="/", env={}
        )
        assert (answer.returncode, answer.stderr) == (0, "")
        assert program.split("/")[1] in answer.stdout


def test_the_environment_cannot_change_what_a_launcher_loads(tmp_path: Path) -> None:
    prefix = tmp_path / "usr"
    assert make("install", f"PREFIX={prefix}").returncode == 0
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("os.py", "enum.py", "iscsiboot.py", "sitecustomize.py"):
        (evil / name).write_text("raise SystemExit('taken over')\n")
    answer = subprocess.run(
        [str(prefix / "sbin/iscsistart"), "-v"],
        capture_output=True,
        text=True,
        check=False,
        cwd=evil,
        env={"PYTHONPATH": str(evil), "PYTHONHOME": str(evil), "PYTHONSTARTUP": str(evil / "os.py")},
    )
    assert (answer.returncode, answer.stderr) == (0, "")


def test_iscsistart_runs_where_init_has_no_standard_files(tmp_path: Path) -> None:
    """A kernel that finds no console starts init without any; Python then has no streams, and a note was the end."""
    assert make("install", f"PREFIX={tmp_path}/usr").returncode == 0
    command = ["sh", "-c", '"$@" 0<&- 1>&- 2>&-', "sh", str(tmp_path / "usr/sbin/iscsistart"), "-v"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0


def test_uninstall_leaves_nothing(tmp_path: Path) -> None:
    assert make("install", f"DESTDIR={tmp_path}", "PREFIX=/usr").returncode == 0
    assert make("uninstall", f"DESTDIR={tmp_path}", "PREFIX=/usr").returncode == 0
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("init", ["sysv", "openrc"])
def test_uninstall_takes_an_init_script_unless_it_was_changed(tmp_path: Path, init: str) -> None:
    place = (f"DESTDIR={tmp_path}", "PREFIX=/usr")
    script = tmp_path / "etc/init.d/iscsid"
    for change, stays in (("", False), ("# mine\n", True)):
        assert make("install-init", f"INIT={init}", *place).returncode == 0
        script.write_text(script.read_text() + change)
        ended = make("uninstall", *place)
        assert (ended.returncode, ended.stderr, script.exists()) == (0, "", stays)


def test_a_python_without_the_packages_is_named(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\nexec /usr/bin/python3 -I -S "$@"\n')
    python.chmod(0o755)
    run = make("install", f"PREFIX={tmp_path}/usr", f"PYTHON={python}")
    assert run.returncode != 0
    assert "has no package pyroute2; install python3-pyroute2" in run.stderr


def test_systemd_understands_the_units(staged: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    units = [str(path) for path in (staged / "usr/lib/systemd/system").iterdir()]
    run = subprocess.run(
        [program, "verify", "--man=no", "--recursive-errors=no", *units], capture_output=True, text=True, check=False
    )
    # The programs are in the staging directory and not on this host; everything else must be right.
    complaints = [line for line in run.stderr.splitlines() if "is not executable" not in line and "iscsiboot" in line]
    assert not complaints


def test_the_boot_unit_ends_in_emergency_at_once_and_is_not_timed_by_systemd(staged: Path) -> None:
    text = (staged / "usr/lib/systemd/system/iscsiboot-root.service").read_text()
    lines = set(text.splitlines())
    assert {
        "ExecStart=/usr/sbin/iscsistart -N -b",
        "OnFailure=emergency.target",
        "OnFailureJobMode=replace-irreversibly",
        "TimeoutStartSec=infinity",
        "StandardError=journal+console",
        "DefaultDependencies=no",
    } <= lines
    # The keeper: the mount goes on when iscsistart says so, and switch-root when its process has ended.
    assert {"Type=notify", "Before=initrd-switch-root.target initrd-switch-root.service", "KillMode=process"} <= lines
    assert "settle" not in text
    assert "network-online" not in text


def test_without_a_sign_of_firmware_the_boot_unit_starts_no_process(staged: Path) -> None:
    """A condition that is not a trigger (|) and not about the command line would run it on every machine."""
    conditions = [
        line
        for line in (staged / "usr/lib/systemd/system/iscsiboot-root.service").read_text().splitlines()
        if line.startswith("Condition")
    ]
    plain = [line for line in conditions if "=|" not in line]
    assert plain == [
        "ConditionPathExists=/etc/initrd-release",
        "ConditionKernelCommandLine=!rd.iscsiboot=0",
        "ConditionKernelCommandLine=!rd.iscsi.ibft=0",
        "ConditionKernelCommandLine=!rd.iscsi.firmware=0",
    ]
    assert len(conditions) > len(plain)


def test_the_helpers_run_from_where_they_are_installed(tmp_path: Path) -> None:
    prefix = tmp_path / "with blank"
    assert make("install", f"PREFIX={prefix}").returncode == 0

    def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(prefix / "sbin" / command[0]), *command[1:]],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd="/",
            env={},
            **{"stdout": subprocess.PIPE, **options},
        )

    name = run("iscsi-iname", "-g", "-p", "iqn.2001-04.com.example")
    assert (name.returncode, name.stderr) == (0, "")
    assert re.fullmatch(r"InitiatorName=iqn\.2001-04\.com\.example:[0-9a-f]{12}\n", name.stdout)
    wrong = run("iscsi-iname", "-x")
    assert (wrong.returncode, wrong.stderr.splitlines()[0]) == (1, "iscsi-iname: invalid option -- 'x'")
    with Path("/dev/full").open("w") as full:
        lost = run("iscsi-iname", stdout=full)
    assert lost.returncode == 1
    assert lost.stderr == "iscsi-iname: could not write to standard output: No space left on device\n"
    helped = run("iscsi_discovery")
    assert (helped.returncode, helped.stderr) == (1, "")
    # A shell script calls itself what it was started as; so does this.
    assert helped.stdout.startswith(f"Usage: {prefix}/sbin/iscsi_discovery <IP>")


def test_a_configuration_somebody_wrote_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    place = (f"DESTDIR={tmp_path}", "PREFIX=/usr")
    conf = tmp_path / "etc/iscsi/iscsid.conf"
    assert make("install", *place).returncode == 0
    assert conf.read_bytes() == (ROOT / "etc/iscsid.conf").read_bytes()
    conf.write_text("node.startup = automatic\n")
    assert make("install", *place).returncode == 0
    assert make("uninstall", *place).returncode == 0
    assert conf.read_text() == "node.startup = automatic\n"
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [conf]


def test_outside_usr_nothing_is_put_into_etc(tmp_path: Path) -> None:
    assert make("install", f"DESTDIR={tmp_path}", "PREFIX=/opt/iscsiboot").returncode == 0
    assert not (tmp_path / "etc").exists()
    assert (tmp_path / "opt/iscsiboot/etc/iscsi/iscsid.conf").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("script", "installed"),
    [
        ("iscsiadm.bash", "usr/share/bash-completion/completions/iscsiadm"),
        ("iscsiadm.zsh", "usr/share/zsh/site-functions/_iscsiadm"),
        ("iscsiadm.fish", "usr/share/fish/vendor_completions.d/iscsiadm.fish"),
        ("iscsiboot.bash", "usr/share/bash-completion/completions/iscsiboot"),
        ("iscsiboot.zsh", "usr/share/zsh/site-functions/_iscsiboot"),
        ("iscsiboot.fish", "usr/share/fish/vendor_completions.d/iscsiboot.fish"),
    ],
)
def test_each_shell_finds_its_completion(staged: Path, script: str, installed: str) -> None:
    assert (staged / installed).read_bytes() == (ROOT / "programs/completion" / script).read_bytes()


def test_every_manual_page_is_installed_in_its_section(staged: Path) -> None:
    pages = {path.name for path in (ROOT / "docs/man").iterdir()}
    assert {path.name for path in (staged / "usr/share/man").rglob("*") if path.is_file()} == pages
    assert all((staged / f"usr/share/man/man{name[-1]}/{name}").exists() for name in pages)


def test_the_udev_rule_names_the_program_that_is_installed(staged: Path) -> None:
    rule = (staged / "usr/lib/udev/rules.d/50-iscsi-firmware-login.rules").read_text()
    programs = set(re.findall(r"/[\w/.-]*iscsi_fw_login", rule))
    assert programs == {"/usr/sbin/iscsi_fw_login"}
    assert all((staged / program.lstrip("/")).stat().st_mode & 0o111 for program in programs)
