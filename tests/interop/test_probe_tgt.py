# SPDX-License-Identifier: LGPL-2.1-or-later
"""`iscsiboot probe` as a program of its own, run by nobody, against tgt: what a user sees, what tgt is left with."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.toolkit.probe_secrets import DEFAULT_INITIATOR_NAME
from tests.doubles.istgt import ISTGT, Istgt
from tests.doubles.peers import TargetSpec
from tests.doubles.server import refusing_port
from tests.doubles.tgt import TGTD, TgtTarget
from tests.unit.toolkit.probe_support import bootable

pytestmark = [
    pytest.mark.root,
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="tgtd needs root"),
    pytest.mark.skipif(TGTD is None or shutil.which("tgtadm") is None, reason="tgt is not installed"),
]

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
NAME = "iqn.2026-11.example.iscsiboot:probe"
USER, OWN = ("user", "initiator-secret"), ("tgt", "secret-of-the-target")
NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probe") / "disk.img"
    path.write_bytes(bootable())
    return path


@pytest.fixture(scope="module")
def open_target(disk: Path) -> Iterator[TgtTarget]:
    with TgtTarget(name=NAME, backing=disk, luns=(1, 2)) as target:
        yield target


@pytest.fixture(scope="module")
def mutual_target(disk: Path) -> Iterator[TgtTarget]:
    with TgtTarget(name=NAME, backing=disk, chap=USER, mutual=OWN) as target:
        yield target


@pytest.fixture(scope="module")
def secrets() -> Iterator[dict[str, str]]:
    """Files of nobody's own: pytest's directories are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        paths = {}
        for role, secret in (("ours", USER[1]), ("theirs", OWN[1]), ("wrong", "not-the-right-one")):
            path = directory / role
            path.write_text(secret + "\n")
            path.chmod(0o600)
            os.chown(path, NOBODY, -1)
            paths[role] = str(path)
        yield paths


def as_nobody(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-B", "-m", "iscsiboot", "probe", *argv],
        cwd=ROOT,
        user=NOBODY,
        group=pwd.getpwnam("nobody").pw_gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def _nobody_can_run_it() -> None:
    done = as_nobody("--help")
    if done.returncode:
        pytest.skip(f"nobody cannot read this checkout: {done.stderr.strip().splitlines()[-1]}")


def probe(target: TgtTarget, *argv: str) -> tuple[int, dict[str, Any]]:
    done = as_nobody(f"{target.address}:{target.port}", *argv, "--json", "--timeout", "5")
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_what_a_user_sees(open_target: TgtTarget) -> None:
    done = as_nobody(f"127.0.0.1:{open_target.port}", "--initiator-name", "iqn.2026-11.example.iscsiboot:tests")
    assert (done.returncode, done.stderr) == (0, "")
    assert 'gpt    UEFI, kernel  1 vfat "ESP" (EFI system), 2 ext4 "root"' in done.stdout
    assert "boots by UEFI: yes: EFI/BOOT/BOOTX64.EFI (x64) in EFI system partition 1" in done.stdout
    assert "LUN 0: controller IET Controller" in done.stdout
    # The sessions are gone, logged out and not dropped: tgt would keep a dropped one for a while.
    assert open_target.initiators() == []


def test_every_step_has_its_time(open_target: TgtTarget) -> None:
    status, document = probe(open_target)
    assert status == ExitCode.SUCCESS
    (path,) = document["paths"]
    assert [step["step"] for step in path["steps"]] == ["connect", "login", "REPORT LUNS", "logout"]
    assert [lun["lun"] for lun in path["luns"]] == ["0", "1", "2"]
    names = [step["step"] for step in path["luns"][1]["steps"]]
    assert names[0] == "INQUIRY"
    assert {"TEST UNIT READY", "READ CAPACITY(10)", "READ(10)"} <= set(names)
    assert all(step["seconds"] > 0 for step in path["steps"] + path["luns"][1]["steps"])
    assert path["luns"][1]["size"] == 4 << 20


def test_a_probe_does_not_take_a_session_over(open_target: TgtTarget) -> None:
    """Two probes at once under one initiator name, each finding everything."""
    argv = [PYTHON, "-B", "-m", "iscsiboot", "probe", f"127.0.0.1:{open_target.port}", NAME, "--json"]
    both = [subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        outputs = [process.communicate(timeout=60)[0] for process in both]
    finally:
        for process in both:
            process.kill()
            process.wait()
    for output in outputs:
        document = json.loads(output)
        assert document["exit_code"] == 0
        assert document["paths"][0]["steps"][1] | {"seconds": 0} == {"step": "login", "seconds": 0, "times": 1}


@pytest.mark.parametrize("digest", ["none", "prefer", "crc32c"])
def test_digests(disk: Path, digest: str) -> None:
    keys = {"HeaderDigest": "CRC32C,None", "DataDigest": "CRC32C,None"}
    with TgtTarget(name=NAME, backing=disk, parameters=keys) as target:
        status, document = probe(target, "--digest", digest)
    assert status == ExitCode.SUCCESS
    assert document["paths"][0]["luns"][1]["media"]["boots_by"]["kernel"]["outcome"] == "yes"


def test_digests_the_target_does_not_have(open_target: TgtTarget) -> None:
    status, document = probe(open_target, "--digest", "crc32c")
    assert status == ExitCode.FATAL_LOGIN
    assert "HeaderDigest" in document["paths"][0]["failure"]["cause"]
    assert probe(open_target, "--digest", "prefer")[0] == ExitCode.SUCCESS


def test_mutual_chap(mutual_target: TgtTarget, secrets: dict[str, str]) -> None:
    ours = ("--user", USER[0], "--secret-file", secrets["ours"])
    status, document = probe(
        mutual_target, NAME, *ours, "--mutual-user", OWN[0], "--mutual-secret-file", secrets["theirs"]
    )
    assert status == ExitCode.SUCCESS
    assert document["paths"][0]["authentication"].startswith("mutual CHAP ")
    status, document = probe(mutual_target, NAME, *ours)
    assert (status, document["paths"][0]["authentication"][:5]) == (0, "CHAP ")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        pytest.param((), "configure CHAP user name and secret", id="missing"),
        pytest.param(("--user", USER[0], "--secret-file", "wrong"), "compare CHAP user name and secret", id="secret"),
        pytest.param(("--user", "other", "--secret-file", "ours"), "compare CHAP user name and secret", id="name"),
    ],
)
def test_chap_that_does_not_fit(
    mutual_target: TgtTarget, secrets: dict[str, str], argv: tuple[str, ...], words: str
) -> None:
    status, document = probe(mutual_target, NAME, *(secrets.get(word, word) for word in argv))
    assert status == ExitCode.LOGIN_AUTH_FAILED
    assert words in document["paths"][0]["failure"]["hint"]
    assert not [secret for secret in (USER[1], OWN[1], "not-the-right-one") if secret in json.dumps(document)]


def test_a_target_of_another_name(open_target: TgtTarget) -> None:
    status, document = probe(open_target, NAME + "-absent")
    assert status == ExitCode.FATAL_LOGIN
    assert "no target of this name" in document["paths"][0]["failure"]["cause"]


def test_a_target_without_a_disk() -> None:
    with TgtTarget(name=NAME) as target:
        status, document = probe(target)
    assert status == ExitCode.NO_OBJS_FOUND
    failure = document["paths"][0]["failure"]
    assert failure["cause"].endswith(f"shows {DEFAULT_INITIATOR_NAME} no disk (only: a controller)")
    assert failure["hint"] == "map a LUN to this initiator at the target"


def test_a_secret_of_root_s_is_out_of_reach_and_told(open_target: TgtTarget, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("a secret")
    path.chmod(0o600)
    done = as_nobody(f"127.0.0.1:{open_target.port}", "--user", "u", "--secret-file", str(path))
    assert done.returncode == ExitCode.INVAL
    assert "cannot be read: Permission denied; next: run this as the file's owner" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_target_is_off() -> None:
    with refusing_port() as port:
        done = as_nobody(f"127.0.0.1:{port}", NAME)
    assert done.returncode == ExitCode.TRANS_TIMEOUT
    assert "connection refused: nobody listens on that port; next: is the target running" in done.stderr


def test_a_host_name(open_target: TgtTarget) -> None:
    done = as_nobody(f"localhost:{open_target.port}", NAME, "--no-read")
    assert done.returncode == 0
    done = as_nobody("no-such-host.invalid", "--timeout", "1")
    assert done.returncode == ExitCode.TRANS
    assert "the name has no address" in done.stderr


@pytest.mark.skipif(ISTGT is None, reason="istgt is not installed")
def test_istgt_with_several_targets(disk: Path, tmp_path: Path) -> None:
    names = [f"{NAME}-{number}" for number in range(3)]
    specs = []
    for name in names:
        copy = tmp_path / name.replace(":", "-")
        copy.write_bytes(disk.read_bytes())
        specs.append(TargetSpec(name=name, disk=copy))
    with Istgt(*specs) as target:
        done = as_nobody(f"{target.address}:{target.port}", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == ExitCode.SUCCESS
    assert [path["target"] for path in document["paths"]] == names
    # istgt exports whole MiB: the disk is there with everything on it.
    assert all(path["luns"][0]["media"]["boots_by"]["uefi"]["outcome"] == "yes" for path in document["paths"])


def test_ipv6(disk: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe_socket:
            probe_socket.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with TgtTarget(name=NAME, backing=disk, address="::1") as target:
        done = as_nobody(f"[::1]:{target.port}")
    assert done.returncode == 0
    assert f"{NAME}  [::1]:{target.port},1" in done.stdout
