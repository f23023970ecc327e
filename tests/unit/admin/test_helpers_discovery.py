# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsi_discovery``: words of open-iscsi 2.1.8's script (seen there), the commands it gives, its mistakes gone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.admin.discovery_helper import main, usage

USAGE = """\
Usage: prog <IP> [-p <port>] [-d] [-t <tcp|iser> [-f]] [-m] [-l]
Options:
-p\t\tset the port number (default is 3260).
-d\t\tprint debugging information
-t\t\tset transport (default is tcp).
-f\t\tforce specific transport -disable the fallback to tcp (default is fallback enabled).
\t\t\tforce the transport specified by the argument of the -t flag.
-m\t\tmanual startup - will set manual startup (default is automatic startup).
-l\t\tlogin to the new discovered nodes (default is false).
"""
ROOT = Path(__file__).resolve().parents[3]
A = "iqn.2001-04.com.example:a"
B = "iqn.2001-04.com.example:b"


class Iscsiadm:
    """Stands for the command: knows targets, lets in those that are said to work, writes down what it was asked."""

    def __init__(
        self, found: Sequence[str] = (), *, works: Sequence[tuple[str, str]] = (), sessions: Sequence[str] = ()
    ) -> None:
        self.found = found
        self.works = works
        """Target and transport of the logins that succeed."""
        self.sessions = sessions
        self.calls: list[str] = []
        self.transport: dict[str, str] = {}

    def __call__(self, argv: Sequence[str], out: TextIO, err: TextIO) -> int:
        self.calls.append(" ".join(argv))
        if argv[1] == "session":
            out.writelines(f"{line}\n" for line in self.sessions)
            if not self.sessions:
                err.write("iscsiadm: No active sessions.\n")
            return 0 if self.sessions else 21
        if argv[1] == "discovery":
            if not self.found:
                err.write("iscsiadm: Could not perform SendTargets discovery: iSCSI PDU timed out\n")
                return 11
            out.writelines(f"{line}\n" for line in self.found)
            return 0
        target = argv[argv.index("--targetname") + 1]
        if "--op" in argv:
            if argv[-3] == "iface.transport_name":
                self.transport[target] = argv[-1]
            return 0
        if "--login" in argv:
            if (target, self.transport[target]) in self.works:
                out.write(f"Login to {target} successful.\n")
                return 0
            err.write("iscsiadm: Could not login\n")
            return 8
        out.write(f"Logout of {target} successful.\n")
        return 0

    def changes(self, target: str) -> list[str]:
        """What was done to one target's record, in order."""
        return [
            call.partition(" --op update -n ")[2].replace(" -v ", "=") or call.rpartition(" ")[2]
            for call in self.calls
            if f"--targetname {target} " in call
        ]


def run(command: Iscsiadm, *argv: str) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    return main(argv, out, err, command, program="prog"), out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("argv", "out", "err"),
    [
        ((), USAGE, ""),
        (("foo",), "foo is not a vaild IP address!\n", ""),
        (("-h",), "-h is not a vaild IP address!\n", ""),
        (("1.2.3",), "1.2.3 is not a vaild IP address!\n", ""),
        (("1.2.3.256",), "1.2.3.256 is not a vaild IP address!\n", ""),
        (("1.2.3.a",), "1.2.3.a is not a vaild IP address!\n", ""),
        (("1.2.3.4.5",), "1.2.3.4.5 is not a vaild IP address!\n", ""),
        (("1.2.3.4;reboot",), "1.2.3.4;reboot is not a vaild IP address!\n", ""),
        (("\x1b[2J",), "\\x1b[2J is not a vaild IP address!\n", ""),
        (("1.2.3.4", "-x"), USAGE, "prog: illegal option -- x\n"),
        (("1.2.3.4", "--help"), USAGE, "prog: illegal option -- -\n"),
        (("1.2.3.4", "-dx"), USAGE, "prog: illegal option -- x\n"),
        (("1.2.3.4", "-t"), USAGE, "prog: option requires an argument -- t\n"),
        (("1.2.3.4", "-dp"), USAGE, "prog: option requires an argument -- p\n"),
        (("1.2.3.4", "-p", "0"), "0 is not a valid port!\n", ""),
        (("1.2.3.4", "-p", "65536"), "65536 is not a valid port!\n", ""),
        (("1.2.3.4", "-p", "x"), "x is not a valid port!\n", ""),
    ],
    ids=lambda value: " ".join(value).encode("unicode_escape").decode() if isinstance(value, tuple) else "",
)
def test_a_wrong_command_line_is_told_and_nothing_is_done(argv: Sequence[str], out: str, err: str) -> None:
    command = Iscsiadm()
    assert run(command, *argv) == (1, out, err)
    assert command.calls == []


def test_the_usage_names_the_program_it_was_called_by() -> None:
    assert usage("/sbin/x").startswith("Usage: /sbin/x <IP>")


def test_a_target_that_works_starts_by_itself_and_is_logged_out() -> None:
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}"], works=[(A, "tcp")])
    assert run(command, "10.0.0.1") == (
        0,
        f"Set target {A} to automatic login over tcp to portal 10.0.0.1:3260\n"
        f"Logout of {A} successful.\n"
        "discovered 1 targets at 10.0.0.1\n",
        "",
    )
    place = f"-m node --targetname {A} --portal 10.0.0.1:3260"
    assert command.calls == [
        "-m session",
        "-m discovery --type sendtargets --portal 10.0.0.1:3260",
        f"{place} --op update -n iface.transport_name -v tcp",
        f"{place} --op update -n node.conn[0].startup -v automatic",
        f"{place} --login",
        f"{place} --logout",
    ]


def test_l_keeps_the_session() -> None:
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}"], works=[(A, "tcp")])
    status, out, _ = run(command, "10.0.0.1", "-l")
    assert (status, "Logout" in out) == (0, False)
    assert not any("--logout" in call for call in command.calls)


def test_m_leaves_the_start_to_people_and_does_not_claim_otherwise() -> None:
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}"], works=[(A, "tcp")])
    status, out, _ = run(command, "10.0.0.1", "-m", "-l")
    assert (status, out.splitlines()[0]) == (0, f"Set target {A} to manual login over tcp to portal 10.0.0.1:3260")
    assert not any("startup" in call for call in command.calls)


def test_a_failed_login_over_tcp_is_told_once_and_starts_by_hand() -> None:
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}"])
    assert run(command, "10.0.0.1") == (
        0,
        "Cannot login over tcp to portal 10.0.0.1:3260\ndiscovered 1 targets at 10.0.0.1\n",
        "",
    )
    assert command.changes(A) == [
        "iface.transport_name=tcp",
        "node.conn[0].startup=automatic",
        "--login",
        "node.conn[0].startup=manual",
    ]


def test_iser_falls_back_to_tcp_for_each_target_by_itself() -> None:
    """The script goes on with tcp after the first that needs it."""
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}", f"10.0.0.1:3260,1 {B}"], works=[(A, "tcp"), (B, "iser")])
    status, out, _ = run(command, "10.0.0.1", "-t", "iser", "-l")
    assert status == 0
    assert out.splitlines() == [
        "Cannot login over iser to portal 10.0.0.1:3260",
        f"Set target {A} to automatic login over tcp to portal 10.0.0.1:3260",
        f"Set target {B} to automatic login over iser to portal 10.0.0.1:3260",
        "discovered 2 targets at 10.0.0.1",
    ]
    assert command.changes(A) == [
        "node.conn[0].iscsi.HeaderDigest=None",
        "node.conn[0].iscsi.DataDigest=None",
        "iface.transport_name=iser",
        "node.conn[0].startup=automatic",
        "--login",
        "node.conn[0].startup=manual",
        "iface.transport_name=tcp",
        "node.conn[0].startup=automatic",
        "--login",
    ]
    assert command.transport == {A: "tcp", B: "iser"}


def test_f_keeps_the_transport() -> None:
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}"], works=[(A, "tcp")])
    status, out, _ = run(command, "10.0.0.1", "-t", "iser", "-f")
    assert (status, out.splitlines()[0]) == (0, "Cannot login over iser to portal 10.0.0.1:3260")
    assert command.transport == {A: "iser"}
    assert len([call for call in command.calls if "--login" in call]) == 1


def test_cxgb3i_has_small_segments() -> None:
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}"], works=[(A, "cxgb3i")])
    assert run(command, "10.0.0.1", "-tcxgb3i", "-l")[0] == 0
    assert command.changes(A)[:2] == [
        "node.conn[0].iscsi.MaxRecvDataSegmentLength=8192",
        "iface.transport_name=cxgb3i",
    ]


@pytest.mark.parametrize(
    ("session", "refused"),
    [
        ("tcp: [1] 10.0.0.1:3260,1 iqn.2001-04.com.example:x (non-flash)", True),
        ("tcp: [1] 110.0.0.1:3260,1 iqn.2001-04.com.example:x (non-flash)", False),
        ("tcp: [1] 10.0.0.1:32600,1 iqn.2001-04.com.example:x (non-flash)", False),
        ("tcp: [1] 10.0.0.2:3260,1 iqn.2001-04.com.example:10.0.0.1:3260 (non-flash)", False),
        ("tcp: [1] storage.example:3260,1 iqn.2001-04.com.example:x (non-flash)", False),
        ("tcp: [1] [fe80::1]:3260,1 iqn.2001-04.com.example:x (non-flash)", False),
        ("words", False),
    ],
    ids=["same", "longer address", "longer port", "in a name", "host name", "other family", "words"],
)  # fmt: skip
def test_sessions_to_the_portal_stop_it_and_no_other(session: str, refused: bool) -> None:
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}"], sessions=[session])
    status, out, err = run(command, "10.0.0.1")
    line = "Please logout from all targets on 10.0.0.1:3260 before trying to run discovery on that portal\n"
    assert (status, out == line, err) == ((2, True, "") if refused else (0, False, ""))
    assert (len(command.calls) == 1) is refused


def test_a_discovery_that_fails_says_so_and_tries_no_empty_target() -> None:
    command = Iscsiadm()
    assert run(command, "10.0.0.9") == (
        2,
        "failed to discover targets at 10.0.0.9\n",
        "iscsiadm: Could not perform SendTargets discovery: iSCSI PDU timed out\n",
    )
    assert len(command.calls) == 2


def test_the_same_target_through_two_ifaces_is_tried_once() -> None:
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}"] * 2, works=[(A, "tcp")])
    assert run(command, "10.0.0.1", "-l")[1].splitlines()[-1] == "discovered 1 targets at 10.0.0.1"
    assert len([call for call in command.calls if "--login" in call]) == 1


@pytest.mark.parametrize("given_address", ["fd00::1", "[fd00::1]"])
def test_ipv6(given_address: str) -> None:
    command = Iscsiadm([f"[fd00::1]:3261,1 {A}"], works=[(A, "tcp")])
    status, out, err = run(command, given_address, "-p", "3261", "-l")
    assert (status, err) == (0, "")
    assert out == (
        f"Set target {A} to automatic login over tcp to portal [fd00::1]:3261\ndiscovered 1 targets at fd00::1\n"
    )
    assert command.calls[1] == "-m discovery --type sendtargets --portal [fd00::1]:3261"


def test_an_ipv6_session_in_another_spelling_is_the_same_portal() -> None:
    command = Iscsiadm(sessions=["tcp: [1] [fd00:0:0::1]:3260,1 iqn.2001-04.com.example:x (non-flash)"])
    status, out, _ = run(command, "fd00::1")
    assert (status, out.split(" before ")[0]) == (2, "Please logout from all targets on [fd00::1]:3260")


def test_d_tells_each_step_and_why_a_login_failed() -> None:
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}"], works=[(A, "tcp")])
    status, out, err = run(command, "10.0.0.1", "-d", "-t", "iser", "-l")
    assert status == 0
    assert out.splitlines() == [
        "starting discovery to 10.0.0.1",
        f"Testing iser-login to target {A} portal 10.0.0.1:3260",
        "Cannot login over iser to portal 10.0.0.1:3260",
        f"starting to test tcp-login to target {A} portal 10.0.0.1:3260",
        f"Set target {A} to automatic login over tcp to portal 10.0.0.1:3260",
        "discovered 1 targets at 10.0.0.1",
    ]
    assert err == "iscsiadm: Could not login\n"


def test_options_end_at_the_first_other_word() -> None:
    """As bash's getopts: what follows is not looked at."""
    command = Iscsiadm([f"10.0.0.1:3260,1 {A}"], works=[(A, "tcp")])
    status, out, err = run(command, "10.0.0.1", "word", "-x", "-p", "0")
    assert (status, err) == (0, "")
    assert out.endswith("discovered 1 targets at 10.0.0.1\n")


@given(st.lists(st.text(alphabet="-dfmltp x1.:[]/", max_size=6), max_size=5))
def test_any_command_line_ends_in_a_status(argv: list[str]) -> None:
    command = Iscsiadm()
    status, _, _ = run(command, *argv)
    assert status in (1, 2)
    assert (status == 2) is bool(command.calls)


PROCESS = """
import os, signal, sys
sys.path.insert(0, {root!r})
import iscsiboot.admin.main as iscsiadm

def false(argv, out, err, paths=None):
    '''iscsiadm as it is: Ctrl-C ends its own command and no more.'''
    try:
        if argv[1] == "discovery":
            out.write("10.0.0.1:3260,1 iqn.2001-04.com.example:a\\n10.0.0.1:3260,1 iqn.2001-04.com.example:b\\n")
        if "--login" in argv:
            err.write("login\\n")
            os.kill(os.getpid(), signal.SIGINT)
        return 0
    except KeyboardInterrupt:
        return 1

iscsiadm.main = false
from iscsiboot.admin.discovery_helper import run
sys.argv = ["/sbin/iscsi_discovery", *{argv!r}]
run()
"""


def test_ctrl_c_ends_the_whole_run_and_not_one_login() -> None:
    code = PROCESS.format(root=str(ROOT), argv=["10.0.0.1", "-d"])
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "login\n"
    assert done.stdout == (
        "starting discovery to 10.0.0.1\nTesting tcp-login to target iqn.2001-04.com.example:a portal 10.0.0.1:3260\n"
    )


def test_the_process_is_called_by_its_path() -> None:
    code = PROCESS.format(root=str(ROOT), argv=[])
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[0].split()[1]) == (1, "/sbin/iscsi_discovery")
