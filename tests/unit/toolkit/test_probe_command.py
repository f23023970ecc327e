# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole command over loopback, against a scripted target: honest, failing at each step, and dead."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from iscsiboot import __main__ as dispatcher
from iscsiboot.errors import ExitCode
from iscsiboot.initiator.pdu.control import AsyncEvent, NopOut
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Opcode
from iscsiboot.initiator.pdu.scsi import DataIn, ScsiResponse
from iscsiboot.toolkit.probe import INTERRUPTED, TerminalProgress, main
from tests.doubles.directory import Records, Served, always, directory
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.faults import Change, closed_before, event, fields, followed_by, on, preceded_by, rejecting
from tests.doubles.scsi import MEDIUM_ERROR, Identity, check_condition
from tests.doubles.server import TargetServer, refusing_port
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script, redirect
from tests.unit.toolkit.probe_support import NAME, bootable

ROOT = Path(__file__).resolve().parents[3]
SECRET = b"a secret of ours"
OWN = b"a secret of theirs"
MEDIUM_ERROR_HERE = check_condition(MEDIUM_ERROR, 0x11)


def plan(**changes: Any) -> Plan:
    """A target with one bootable disk that tells of itself."""
    values: dict[str, Any] = {
        "device": Device({1: LogicalUnit(image=bootable())}),
        "records": directory([Served(NAME)]),
    }
    return Plan(**{**values, **changes})


@contextmanager
def serving(made: Plan, *, host: str = "127.0.0.1") -> Iterator[TargetServer]:
    with TargetServer(lambda: FullTarget(made), host=host) as server:
        yield server


def run(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = main(argv, out, err)
    return status, out.getvalue(), err.getvalue()


def probe(server: TargetServer, *argv: str) -> tuple[int, dict[str, Any]]:
    status, out, _ = run(f"127.0.0.1:{server.port}", *argv, "--json", "--timeout", "5")
    return status, json.loads(out)


def test_a_target_is_probed_and_left_in_good_order() -> None:
    with serving(plan()) as server:
        status, out, err = run(f"127.0.0.1:{server.port}")
        run(f"127.0.0.1:{server.port}", NAME)
        assert server.violations == []
        discovery, session, again = server.full_targets
    assert (status, err) == (ExitCode.SUCCESS, "")
    assert "UEFI, kernel" in out
    assert (discovery.logged_out, session.logged_out) == (True, True)
    # RFC 7143 section 11.12.5: an ISID of type 10b, and another one for each session.
    isids = [target.login.requests[0].isid for target in (discovery, session, again)]
    assert [isid[0] for isid in isids] == [0x80] * 3
    assert len(set(isids)) == 3


@pytest.mark.parametrize("digest", ["none", "prefer", "crc32c"])
def test_digests(digest: str) -> None:
    with serving(plan()) as server:
        status, document = probe(server, "--digest", digest)
        assert server.violations == []
    assert status == ExitCode.SUCCESS
    assert document["paths"][0]["luns"][0]["media"]["boots_by"]["uefi"]["outcome"] == "yes"


def test_chap_and_mutual_chap(tmp_path: Path) -> None:
    script = Script(user=("x", SECRET), own=("target", OWN))
    files = []
    for name, secret in (("ours", SECRET), ("theirs", OWN)):
        path = tmp_path / name
        path.write_bytes(secret + b"\n")
        path.chmod(0o600)
        files.append(str(path))
    ours = ["--user", "x", "--secret-file", files[0]]
    theirs = ["--mutual-user", "target", "--mutual-secret-file", files[1]]
    with serving(plan(login=script)) as server:
        status, document = probe(server, NAME, *ours)
        assert (status, document["paths"][0]["authentication"][:5]) == (0, "CHAP ")
        status, document = probe(server, NAME, *ours, *theirs)
        assert (status, document["paths"][0]["authentication"][:12]) == (0, "mutual CHAP ")
        status, document = probe(server, NAME, "--user", "x", "--secret-file", files[1])
        assert (status, document["paths"][0]["failure"]["stage"]) == (ExitCode.LOGIN_AUTH_FAILED, "login")
        status, document = probe(server, NAME)
        assert status == ExitCode.LOGIN_AUTH_FAILED
        assert "configure CHAP" in document["paths"][0]["failure"]["hint"]


@pytest.mark.parametrize(
    ("records", "refused"),
    [
        pytest.param(always(b"TargetName=iqn.2026-11.example:../../etc\0"), 1, id="path"),
        pytest.param(always(b"TargetName=\x1b[2J\xff\0"), 1, id="control-characters"),
    ],
)
def test_hostile_names_go_no_further(records: Records, refused: int) -> None:
    with serving(plan(records=records)) as server:
        status, out, err = run(f"127.0.0.1:{server.port}")
    assert status == ExitCode.NO_OBJS_FOUND
    assert out.count("not used:") == refused
    assert all(line.isprintable() for line in (out + err).splitlines())
    assert "shows no target to" in err


def test_a_dead_lun_costs_one_timeout_and_its_row() -> None:
    units = {1: LogicalUnit(dead=True, image=bytes(512)), 2: LogicalUnit(image=bootable())}
    with serving(plan(device=Device(units))) as server:
        began = time.monotonic()
        status, out, _ = run(f"127.0.0.1:{server.port}", NAME, "--timeout", "0.5", "--json")
        took = time.monotonic() - began
    first, second = json.loads(out)["paths"][0]["luns"]
    assert status == ExitCode.PDU_TIMEOUT
    assert first["failure"]["cause"] == "waited 0.5 s for the answer to INQUIRY"
    assert first["failure"]["subject"].endswith(", LUN 1")
    assert "look at this LUN" in first["failure"]["hint"]
    assert second["media"]["boots_by"]["uefi"]["outcome"] == "yes"
    assert 0.5 <= took < 5


def test_nobody_listens() -> None:
    with refusing_port() as port:
        status, out, err = run(f"127.0.0.1:{port}")
        told = run(f"127.0.0.1:{port}", NAME)
    assert status == ExitCode.TRANS_TIMEOUT
    assert out == "", "nothing to report on: one line on stderr says why"
    assert err.count("\n") == 1
    assert err.startswith(f"iscsiboot probe: connect: 127.0.0.1:{port}: connection refused")
    assert "next: is the target running" in err
    assert told == (status, out, err), "with a target's name too"


def test_a_portal_that_is_dead_for_all_targets_is_told_once() -> None:
    with refusing_port() as port:
        names = [Served(f"{NAME}{number}", [f"127.0.0.1:{port},1"]) for number in range(5)]
        with serving(plan(records=directory(names))) as server:
            status, out, err = run(f"127.0.0.1:{server.port}")
    assert (status, err) == (ExitCode.TRANS_TIMEOUT, "")
    assert [line for line in out.splitlines() if "refused" in line] == [
        f"failed: connect: 127.0.0.1:{port}: connection refused: nobody listens on that port; "
        "next: is the target running, and is the port right? (5 times)"
    ]


def test_a_port_that_answers_nothing() -> None:
    with TargetServer(accept=False) as server:
        status, _, err = run(f"127.0.0.1:{server.port}", "--timeout", "0.3")
    assert status == ExitCode.PDU_TIMEOUT
    assert "its port took the connection" in err


@contextmanager
def black_hole() -> Iterator[int]:
    """A port on every loopback address that drops what wants to connect: its queue is full and nobody accepts."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("0.0.0.0", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for number in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((f"127.0.9.{number + 1}", port))
        yield port


def test_a_black_hole_ends_with_the_timeout() -> None:
    with black_hole() as port:
        began = time.monotonic()
        status, _, err = run(f"127.0.2.1:{port}", "--timeout", "1")
        took = time.monotonic() - began
    assert status == ExitCode.TRANS_TIMEOUT
    assert "packets are dropped" in err
    assert 0.9 <= took < 4


def test_half_of_64_portals_are_black_holes_and_cost_one_timeout() -> None:
    with ExitStack() as stack:
        hole = stack.enter_context(black_hole())
        addresses: list[str] = []
        records = directory([Served(NAME, addresses)])
        server = stack.enter_context(serving(plan(records=records), host="0.0.0.0"))
        addresses += [f"127.0.1.{n}:{server.port},1" for n in range(1, 33)]
        addresses += [f"127.0.2.{n}:{hole},1" for n in range(1, 33)]
        began = time.monotonic()
        status, out, _ = run(f"127.0.0.1:{server.port}", "--all-portals", "--timeout", "3", "--json")
        took = time.monotonic() - began
    document = json.loads(out)
    assert [path["failure"] is None for path in document["paths"]] == [True] * 32 + [False] * 32
    assert status == ExitCode.TRANS_TIMEOUT
    assert 3 <= took < 3 + 3


def test_ipv6() -> None:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(serving(plan(), host="::1"))
        except OSError:
            pytest.skip("no IPv6 here")
        status, out, _ = run(f"[::1]:{server.port}")
    assert status == ExitCode.SUCCESS
    assert f"[::1]:{server.port}" in out


SEVERAL = {1: LogicalUnit(image=bootable()), 2: LogicalUnit(image=bootable())}


@pytest.mark.parametrize("where", [preceded_by, followed_by], ids=["command-waits", "between-commands"])
@pytest.mark.parametrize("number", [AsyncEvent.CONNECTION_DROP, AsyncEvent.SESSION_DROP])
def test_a_target_that_drops_the_session_gets_another(number: int, where: Callable[..., Change]) -> None:
    """Dropped once in the middle of a LUN; the next connection serves the rest."""
    first = plan(device=Device(SEVERAL), faults=(on(DataIn, where(event(number)), nth=8),))
    plans = iter([first, plan(device=Device(SEVERAL))])
    with TargetServer(lambda: FullTarget(next(plans))) as server:
        status, document = probe(server, NAME)
    one, two = document["paths"][0]["luns"]
    assert status == ExitCode.TRANS
    assert one["failure"]["cause"].startswith("the connection was dropped by the target")
    assert one["failure"]["hint"]
    assert two["failure"] is None
    assert two["media"]["boots_by"]["uefi"]["outcome"] == "yes"


def test_what_a_target_says_meanwhile_is_a_remark() -> None:
    # The Reject is of a NOP-Out that answered a ping, as far as anybody can tell: no command of ours ends by it.
    refused = rejecting(0x05, NopOut(itt=RESERVED_TAG, ttt=1, cmdsn=1, exp_statsn=1).encode())
    greeting = (event(AsyncEvent.LOGOUT_REQUESTED, parameters=(0, 0, 30)), event(99), event(99), refused)
    with serving(plan(greeting=greeting)) as server:
        status, document = probe(server, NAME)
    assert status == ExitCode.SUCCESS
    assert "the target asked us to log out" in document["paths"][0]["remarks"]
    assert "the target rejected a PDU of ours: command not supported" in document["paths"][0]["remarks"]
    assert len(document["paths"][0]["remarks"]) == len(set(document["paths"][0]["remarks"]))


def test_a_command_the_target_gives_up_is_an_error_of_its_lun() -> None:
    refusal = fields(response=1)
    units = {1: LogicalUnit(image=bootable(), identity=Identity(device_type=0)), 2: LogicalUnit(image=bootable())}
    with serving(plan(device=Device(units), faults=(on(ScsiResponse, refusal, nth=0),))) as server:
        status, document = probe(server, NAME)
    one, two = document["paths"][0]["luns"]
    assert status == one["failure"]["exit_code"] != 0
    assert one["failure"]["cause"].startswith("TEST UNIT READY: ")
    assert two["failure"] is None


def test_a_connection_that_breaks_in_the_middle() -> None:
    with serving(plan(faults=(on(DataIn, closed_before, nth=3),))) as server:
        status, document = probe(server, NAME)
    assert status == ExitCode.TRANS
    assert "the target closed the connection" in document["paths"][0]["luns"][0]["failure"]["cause"]


def test_a_logout_that_is_not_answered_costs_little() -> None:
    with serving(plan(deaf_to=frozenset({Opcode.LOGOUT_REQUEST}))) as server:
        status, out, _ = run(f"127.0.0.1:{server.port}", NAME, "--timeout", "0.5", "--json")
    assert status == ExitCode.SUCCESS
    assert json.loads(out)["paths"][0]["remarks"][0].startswith("logout: waited")


def test_without_a_lun_list_the_session_is_logged_out_all_the_same() -> None:
    unit = LogicalUnit(image=bootable(), instead={0xA0: MEDIUM_ERROR_HERE})
    with serving(plan(device=Device({0: unit}))) as server:
        status, document = probe(server, NAME)
        assert server.full_targets[0].logged_out
    assert status == ExitCode.ERR
    assert "REPORT LUNS was answered with CHECK CONDITION, MEDIUM ERROR" in document["paths"][0]["failure"]["cause"]


def test_a_redirected_login() -> None:
    with (
        serving(plan()) as there,
        TargetServer(lambda: FullTarget(plan(login=Script(faults={0: redirect(f"127.0.0.1:{there.port}")})))) as here,
    ):
        status, document = probe(here, NAME)
    (path,) = document["paths"]
    assert status == ExitCode.SUCCESS
    assert path["reached"] == f"127.0.0.1:{there.port}"
    assert path["steps"][0] | {"seconds": 0} == {"step": "connect", "seconds": 0, "times": 2}


@pytest.mark.parametrize("block", [512, 4096])
def test_a_disk_beyond_two_tebibytes(block: int) -> None:
    unit = LogicalUnit(image=bootable(), block=block, blocks=1 << 33)
    with serving(plan(device=Device({1: unit}))) as server:
        status, document = probe(server, NAME)
    (lun,) = document["paths"][0]["luns"]
    assert (status, lun["size"]) == (0, block << 33)
    assert {"READ CAPACITY(16)", "READ(10)", "READ(16)"} <= {step["step"] for step in lun["steps"]}
    told = " ".join(lun["media"]["findings"])
    assert ("backup GPT is not at the end" in told) == (block == 512)
    assert ("written for blocks of 512 bytes, the unit has 4096" in told) == (block == 4096)


def test_names_that_do_not_resolve() -> None:
    status, out, err = run("no-such-host.invalid", "--timeout", "1")
    assert status == ExitCode.TRANS
    assert "the name has no address" in err
    assert out == ""


@pytest.mark.parametrize("typed", [KeyboardInterrupt, EOFError])
def test_no_answer_to_the_question_for_a_secret(monkeypatch: pytest.MonkeyPatch, typed: type[BaseException]) -> None:
    def ask(prompt: str) -> str:
        raise typed

    monkeypatch.setattr("getpass.getpass", ask)
    monkeypatch.setattr("sys.stdin", Terminal())
    status, out, err = run("127.0.0.1", "--user", "u")
    assert (status, out) == (INTERRUPTED, "")
    assert "interrupted" in err


def test_an_interruption_inside_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("iscsiboot.toolkit.probe.run", interrupted)
    status, out, err = run("127.0.0.1")
    assert (status, out) == (INTERRUPTED, "")
    assert err.count("\n") == 1


def test_help_and_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    assert "--all-portals" in out
    status, out, err = run("--json")
    assert (status, out) == (ExitCode.INVAL, "")
    assert err.count("\n") == 1
    assert capsys.readouterr() == ("", "")


def test_the_dispatcher_knows_probe() -> None:
    out = io.StringIO()
    assert dispatcher.main(["probe", "--help"], out, io.StringIO()) == 0
    assert "PORTAL" in out.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_report_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    out = Terminal()
    with serving(plan()) as server:
        main([f"127.0.0.1:{server.port}"], out, io.StringIO())
        _, piped, _ = run(f"127.0.0.1:{server.port}")
    table = out.getvalue().split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= 72
    assert table[1] == f"{NAME} at 127.0.0.1:{server.port}"
    assert max(map(len, piped.split("\n\n")[0].splitlines())) > 72


def test_progress_is_for_terminals_alone() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        progress = TerminalProgress(stream)
        progress.stage("asking \x1b[31m" + "x" * 200)
        progress.paths(3, 64, 1)
        progress.paths(1, 1, 0)
        progress.clear()
    assert pipe.getvalue() == ""
    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown[0] == shown[-1] == ""
    assert shown[1].startswith("asking \\x1b[31mxxx")
    assert shown[2:-1] == ["3 of 64 paths done, 1 failed ..."]


def test_progress_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    terminal = Terminal()
    TerminalProgress(terminal).stage("\x1b" * 40)
    assert len(terminal.getvalue().removeprefix("\r\x1b[K")) == 29


def test_ctrl_c_ends_it_at_once() -> None:
    with TargetServer(accept=False) as server:
        argv: Sequence[str] = ["-m", "iscsiboot", "probe", f"127.0.0.1:{server.port}", "--timeout", "60"]
        # A shell ignores SIGINT in what it runs in the background, tests too, and a program inherits that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            [sys.executable, *argv], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        signal.signal(signal.SIGINT, before)
        try:
            # It is under way when its connection is there to be taken.
            server._listener.settimeout(30)
            taken, _ = server._listener.accept()
            with taken:
                taken.settimeout(30)
                assert taken.recv(48)
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=30)
                took = time.monotonic() - began
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, out) == (INTERRUPTED, "")
    assert "interrupted" in err
    assert "Traceback" not in err
    assert took < 2


def test_imports_leave_the_boot_path_alone() -> None:
    """The boot path must not load what only probe needs."""
    code = "import sys, iscsiboot.boot.iscsistart; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ}
    )
    loaded = [name for name in done.stdout.split() if name.startswith("iscsiboot.")]
    assert "iscsiboot.boot.iscsistart" in loaded
    assert not [
        name for name in loaded if ".toolkit" in name or ".scsi" in name.removeprefix("iscsiboot.initiator.pdu")
    ]
