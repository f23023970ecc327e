# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole runs of the program over a made-up machine: what is done in which order, what is said, how it ends."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from iscsiboot import __version__
from iscsiboot.admin.context import Paths
from iscsiboot.admin.main import main as iscsiadm
from iscsiboot.boot import iscsistart, keeper
from iscsiboot.boot.iscsistart import Host, Interrupted, main
from iscsiboot.boot.keeper import Roots, Session
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.report import Report
from iscsiboot.network.bringup import NetworkEnvironment, NicRequest, NicResult
from iscsiboot.session.attach import Attached, AttachRequest, Environment

VECTORS = Path(__file__).resolve().parents[2] / "vectors/ibft"
LOGIN = ["-i", "iqn.2001-04.com.example:i", "-g", "1", "-t", "iqn.2001-04.com.example:t", "-a", "10.0.2.2"]


@dataclass
class Machine:
    """A host below a directory whose network and sessions are recorded instead of made."""

    root: Path
    done: list[str] = field(default_factory=list)
    requests: list[AttachRequest] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    user: int = 0
    nic_error: IscsiBootError | None = None
    attach_error: BaseException | None = None
    left: list[list[Session]] = field(default_factory=list)
    """What each keeper that was left behind was given."""
    environ: dict[str, str] = field(default_factory=dict)
    out: io.StringIO = field(default_factory=io.StringIO)
    err: io.StringIO = field(default_factory=io.StringIO)

    @property
    def host(self) -> Host:
        places = {name: self.root / name for name in ("sysfs", "proc", "run", "etc")}
        return Host(**places, environ=self.environ, now=lambda: 1000.0, entropy=bytes, user=self.user)

    def run(self, *argv: str) -> int:
        return main(argv, self.out, self.err, self.host)

    def bring_up(
        self, requests: Sequence[NicRequest], *, environment: NetworkEnvironment, deadline: Deadline, report: Report
    ) -> tuple[NicResult, ...]:
        self.done += [f"nic {request.nic.index}" for request in requests]
        return tuple(NicResult(request=request, netdev="eth0", error=self.nic_error) for request in requests)

    def attach(
        self, request: AttachRequest, *, environment: Environment, deadline: Deadline, report: Report
    ) -> Attached:
        self.done.append(f"attach {request.target_name}")
        self.requests.append(request)
        self.deadlines.append(deadline.at - 1000.0)
        if self.attach_error is not None:
            raise self.attach_error
        return Attached(sid=1, host=1, portal=request.portal, tpgt=1, reused=False, devices=())

    def leave(self, sessions: Sequence[Session], roots: Roots, *, report: Report, now: Callable[[], float]) -> None:
        self.done.append("keeper")
        self.left.append(list(sessions))
        assert roots.run == self.root / "run"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    (tmp_path / "sysfs/class/iscsi_transport/tcp").mkdir(parents=True)
    (tmp_path / "sysfs/firmware/acpi/tables").mkdir(parents=True)
    for name in ("proc", "run", "etc/iscsi"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(iscsistart, "bring_up", made.bring_up)
    monkeypatch.setattr(iscsistart, "attach", made.attach)
    monkeypatch.setattr(keeper, "leave", made.leave)
    monkeypatch.setattr(iscsistart, "_catch_signals", lambda: None)
    monkeypatch.setattr(iscsistart, "_ignore_ends", lambda: None)
    monkeypatch.setattr(iscsistart, "read_kernel_log", lambda: ())
    return made


def with_table(machine: Machine, name: str) -> None:
    shutil.copy(VECTORS / name, machine.root / "sysfs/firmware/acpi/tables/iBFT")


def test_help_and_version(machine: Machine) -> None:
    assert machine.run("-h") == 0
    assert machine.run("-v") == 0
    assert machine.out.getvalue().endswith(f"iscsistart version {__version__}\n")
    assert not machine.done
    assert not machine.err.getvalue()


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["-Z"], 7, "Try `iscsistart --help' for more information."),
        ([], 7, "InitiatorName not set. Exiting iscsistart"),
        ([*LOGIN, "-P", "foo=1"], 1, 'Unknown parameter "foo".'),
        ([*LOGIN, "-P", "node.session.queue_depth=0"], 7, "outside 1 to 1024"),
        ([*LOGIN, "-c", "/nonexistent"], 7, "arguments: /nonexistent: cannot be read: No such file or directory"),
        ([*LOGIN, "-U", "target"], 7, "node.session.auth.password is not set"),
        ([*LOGIN[:-1], "host.example"], 7, "an initramfs has no name service"),
        ([*LOGIN, "-t", "../../etc"], 7, "is no iSCSI name"),
    ],
)
def test_a_command_line_that_is_wrong_does_nothing(machine: Machine, argv: list[str], status: int, words: str) -> None:
    assert machine.run(*argv) == status
    assert words in machine.err.getvalue()
    assert not machine.done


def test_a_login_by_arguments(machine: Machine) -> None:
    assert machine.run(*LOGIN, "-P", "node.session.queue_depth=64", "-u", "user", "-w", "canary-secret") == 0
    (request,) = machine.requests
    assert (request.target_name, str(request.portal)) == ("iqn.2001-04.com.example:t", "10.0.2.2:3260,1")
    assert request.params.queue_depth == 64
    assert request.lun is None
    assert request.credentials is not None
    assert machine.deadlines == [450.0]
    assert machine.out.getvalue() == "iscsistart: Logging into iqn.2001-04.com.example:t 10.0.2.2:3260,1\n"
    assert machine.err.getvalue().splitlines() == [
        f"iscsistart: version {__version__}",
        "iscsistart: initiator name iqn.2001-04.com.example:i, from the command line",
    ]
    assert (machine.root / "run/iscsiboot/timeline.jsonl").exists()


def test_half_of_our_own_proof_is_told_and_not_offered(machine: Machine) -> None:
    """The target may ask for none; that one must not keep a machine from its root."""
    assert machine.run(*LOGIN, "-u", "user") == 0
    assert machine.requests[0].credentials is None
    assert "iscsistart: node.session.auth.password is not set, so no CHAP is offered" in machine.err.getvalue()


def test_a_failed_login_is_told_in_our_words_and_the_peers(machine: Machine) -> None:
    machine.attach_error = IscsiBootError(
        "no", stage=Stage.LOGIN, subject="iqn at portal", hint="look", exit_code=ExitCode.LOGIN_AUTH_FAILED
    )
    assert machine.run(*LOGIN) == 1
    lines = machine.err.getvalue().splitlines()
    assert lines[2] == "iscsistart: login: iqn at portal: no; next: look"
    assert lines[3] == "iscsistart: initiator reported error (24 - iSCSI login failed due to authorization failure)"


def test_a_firmware_boot(machine: Machine) -> None:
    with_table(machine, "built-chap.bin")
    (machine.root / "proc/cmdline").write_text("quiet rd.iscsiboot.timeout=20\n")
    assert machine.run("-N", "-b") == 0
    assert machine.done[0] == "nic 0"
    (request,) = machine.requests
    assert machine.done[1] == f"attach {request.target_name}"
    assert (request.boot_root, request.boot_nic, request.boot_target) == ("ibft", "ethernet0", "target0")
    assert request.portal.tpgt == 1
    assert request.credentials is not None
    assert request.lun is not None
    assert machine.deadlines == [20.0]


def test_without_N_the_network_is_left_alone(machine: Machine) -> None:
    with_table(machine, "built-plain.bin")
    assert machine.run("-b") == 0
    assert [step.split()[0] for step in machine.done] == ["attach"]


def test_N_alone_logs_in_nowhere(machine: Machine) -> None:
    with_table(machine, "built-plain.bin")
    shutil.rmtree(machine.root / "sysfs/class")
    assert machine.run("-N") == 0
    assert machine.done == ["nic 0"]
    assert "Setting up software interface" in machine.out.getvalue()


@pytest.mark.parametrize("argv", [["-N"], ["-N", "-b"]])
def test_a_nic_that_fails(machine: Machine, argv: list[str]) -> None:
    with_table(machine, "built-plain.bin")
    machine.nic_error = IscsiBootError("no carrier", stage=Stage.NETWORK, subject="eth0", hint="the cable")
    assert machine.run(*argv) == 1
    assert "iscsistart: network: eth0: no carrier; next: the cable" in machine.err.getvalue()
    assert not machine.requests


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-b"], "Could not get boot entry.\n"),
        (["-N", "-b"], "Could not get boot entry.\n"),
        (["-N"], "Could not setup fw entries.\n"),
        (["-f"], "Could not get list of targets from firmware.\n"),
    ],
)
@pytest.mark.parametrize(
    ("table", "cause"),
    [
        (None, "no firmware boot table at all"),
        ("broken-bad-checksum.bin", "checksum"),
        ("built-no-targets.bin", "no target that can be used"),
    ],
)
def test_without_a_usable_table(machine: Machine, argv: list[str], words: str, table: str | None, cause: str) -> None:
    if table:
        with_table(machine, table)
    assert machine.run(*argv) == 21
    assert machine.out.getvalue() == words
    assert cause in machine.err.getvalue().splitlines()[-1]
    assert "; next: " in machine.err.getvalue().splitlines()[-1]
    assert not machine.done


def test_printing(machine: Machine) -> None:
    with_table(machine, "built-plain.bin")
    assert machine.run("-f") == 0
    assert machine.out.getvalue().startswith(f"# BEGIN RECORD {__version__}\niface.initiatorname = ")
    assert not machine.done


@pytest.mark.parametrize(
    ("others", "shown"),
    [
        pytest.param({}, ["iface.net_ifacename = eth7"], id="one"),
        pytest.param({"lo": "00:00:00:00:00:00"}, ["iface.net_ifacename = eth7"], id="and-another"),
        pytest.param({"bond0": "the same"}, [], id="two-have-it"),
    ],
)
def test_printing_names_the_nic_by_its_mac_as_iscsiadm_does(
    machine: Machine, others: dict[str, str], shown: list[str]
) -> None:
    """The raw table has no PCI address that leads to a device here."""
    with_table(machine, "built-plain.bin")
    assert machine.run("-f") == 0
    (mac,) = re.findall(r"^iface.hwaddress = (.*)$", machine.out.getvalue(), re.MULTILINE)
    assert "net_ifacename" not in machine.out.getvalue()
    for name, address in {"eth7": mac, **others}.items():
        (machine.root / "sysfs/class/net" / name).mkdir(parents=True)
        text = mac if address == "the same" else address
        (machine.root / "sysfs/class/net" / name / "address").write_text(f"{text.upper()}\n")
    machine.out = io.StringIO()
    assert machine.run("-f") == 0
    assert [line for line in machine.out.getvalue().splitlines() if "net_ifacename" in line] == shown
    theirs = io.StringIO()
    iscsiadm(["-m", "fw"], theirs, io.StringIO(), Paths(sysfs=f"{machine.root}/sysfs", proc=f"{machine.root}/proc"))
    assert theirs.getvalue().splitlines()[1:] == machine.out.getvalue().splitlines()[1:], "but for the version"


def test_the_standard_file_serves_a_firmware_boot_only(machine: Machine) -> None:
    with_table(machine, "built-plain.bin")
    (machine.root / "etc/iscsi/iscsid.conf").write_text(
        "node.session.queue_depth = 16\nnode.conn[0].timeo.noop_out_interval = 5\nnode.startup = manual\n"
    )
    assert machine.run("-b", "-P", "node.session.cmds_max=64") == 0
    assert machine.run(*LOGIN) == 0
    firmware, by_arguments = machine.requests
    assert (firmware.params.queue_depth, firmware.params.cmds_max, firmware.params.noop_out_interval) == (16, 64, 0)
    assert by_arguments.params.queue_depth == 32


def test_two_paths(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with_table(machine, "built-two-paths.bin")
    marks: list[int] = []

    def attach(request: AttachRequest, **_: object) -> Attached:
        marks.append(os.getpid())
        sid = int(request.boot_target.removeprefix("target")) + 5
        return Attached(sid=sid, host=1, portal=request.portal, tpgt=sid * 10, reused=False, devices=())

    monkeypatch.setattr(iscsistart, "attach", attach)
    assert machine.run("-N", "-b", "--keeper") == 0
    assert machine.out.getvalue().count("Logging into") == 2
    assert not marks, "each path has a process of its own"
    (sessions,) = machine.left
    assert [(one.sid, one.tpgt, one.request.boot_target) for one in sessions] == [
        (5, 50, "target0"),
        (6, 60, "target1"),
    ]
    assert sessions[0].request.portal != sessions[1].request.portal


KEEPERS = [
    (["--keeper"], "", False, True),
    ([], "", False, False),
    ([], "", True, True),
    ([], "quiet rd.iscsiboot.keeper=0", True, False),
    (["--no-keeper"], "", True, False),
]


@pytest.mark.parametrize(("argv", "cmdline", "in_initramfs", "left"), KEEPERS)
def test_a_keeper_is_left_where_it_is_wanted(
    machine: Machine, argv: list[str], cmdline: str, in_initramfs: bool, left: bool
) -> None:
    (machine.root / "proc/cmdline").write_text(cmdline)
    if in_initramfs:
        (machine.root / "etc/initrd-release").touch()
    assert machine.run(*LOGIN, *argv) == 0
    assert machine.done[1:] == (["keeper"] if left else [])
    # Without a keeper the daemon to come has the files alone; with one the keeper writes them.
    files = list((machine.root / "run/iscsiboot/sessions").glob("*.json"))
    assert [file.name for file in files] == ([] if left else ["1.json"])
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)


@pytest.mark.parametrize("argv", [[*LOGIN, "--keeper"], ["-N", "--keeper"], ["-f", "--keeper"], ["-b", "--keeper"]])
def test_without_a_session_there_is_no_keeper(machine: Machine, argv: list[str]) -> None:
    with_table(machine, "built-two-paths.bin")
    machine.attach_error = IscsiBootError("no", stage=Stage.LOGIN, subject="x")
    machine.run(*argv)
    assert not machine.left


def test_systemd_is_told_when_everything_the_mount_needs_is_there(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit that adds "root mounted" looks for the timeline, and the keeper is what the mount does not wait for."""
    timeline = machine.root / "run/iscsiboot/timeline.jsonl"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        machine.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")

        def leave(*_: object, **__: object) -> None:
            assert systemd.recv(100).startswith(b"READY=1\n")
            assert '"imported"' in timeline.read_text()
            machine.done.append("keeper")

        monkeypatch.setattr(keeper, "leave", leave)
        assert machine.run(*LOGIN, "--keeper") == 0
        assert machine.done[-1] == "keeper"
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
        machine.attach_error = IscsiBootError("no", stage=Stage.LOGIN, subject="x")
        assert machine.run(*LOGIN, "--keeper") == 1
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


def test_an_end_by_systemd_does_not_cut_the_wait_for_the_keeper_short() -> None:
    """switch-root stops the unit and waits for it."""
    ends = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in ends}
    try:
        iscsistart._ignore_ends()
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in ends)
        assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_is_told_and_undoes(machine: Machine) -> None:
    machine.attach_error = Interrupted(signal.SIGTERM)
    assert machine.run(*LOGIN) == 1
    assert "iscsistart: ended by SIGTERM; what was begun is undone" in machine.err.getvalue()


def test_no_secret_is_ever_printed(machine: Machine) -> None:
    machine.attach_error = IscsiBootError("no", stage=Stage.LOGIN, subject="x")
    machine.run(*LOGIN, "-d", "8", "-u", "user", "-w", "canary-one", "-U", "peer", "-W", "canary-two")
    machine.run(*LOGIN, "-d", "8", "-P", "node.session.auth.password=canary-three")
    everything = machine.out.getvalue() + machine.err.getvalue()
    everything += (machine.root / "run/iscsiboot/timeline.jsonl").read_text()
    assert "canary" not in everything


@pytest.mark.parametrize("step", ["leave", "only_save"])
def test_a_ctrl_c_while_the_session_is_handed_on_undoes_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(keeper, step, interrupted)
    assert machine.run(*LOGIN, "--keeper" if step == "leave" else "--no-keeper") == 0
    assert "it stands, perhaps without a keeper" in machine.err.getvalue()
    assert "undone" not in machine.err.getvalue()


def test_a_second_signal_does_not_cut_the_undo_short() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        iscsistart._catch_signals()
        with pytest.raises(Interrupted, match="15"):
            os.kill(os.getpid(), signal.SIGTERM)
        for number in before:
            os.kill(os.getpid(), number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("argv", [LOGIN, ["-b"], ["-N"], ["-N", "-b"]], ids=" ".join)
def test_without_root_nothing_is_tried(machine: Machine, argv: list[str]) -> None:
    with_table(machine, "built-plain.bin")
    machine.user = 1000
    assert machine.run(*argv) == 1
    assert (
        "arguments: user 1000 may neither set up NICs nor make sessions; next: run it as root" in machine.err.getvalue()
    )
    assert not machine.done


def test_without_root_the_table_can_be_looked_at(machine: Machine) -> None:
    with_table(machine, "built-plain.bin")
    machine.user = 1000
    assert machine.run("-f") == 0


def test_a_slip_in_the_standard_file_stops_no_boot(machine: Machine) -> None:
    with_table(machine, "built-plain.bin")
    conf = machine.root / "etc/iscsi/iscsid.conf"
    conf.write_text("node.session.cmds_max = 100\nnode.session.queue_depth = 16\n")
    assert machine.run("-b") == 0
    assert "power of two" in machine.err.getvalue()
    assert machine.requests[0].params.queue_depth == 32
    assert machine.run("-b", "-c", str(conf)) == 7
    assert len(machine.requests) == 1
