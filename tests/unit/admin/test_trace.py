# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-d LEVEL``: the steps of a command on stderr, more with each level, and never a secret."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from iscsiboot.admin.context import Context, Paths
from iscsiboot.admin.runner import LoginOrder, the_runner
from iscsiboot.admin.runner_local import LocalRunner
from iscsiboot.admin.runner_steps import Notes
from iscsiboot.database.names import NodeKey
from iscsiboot.model.timeline import Mark
from tests.doubles.server import refusing_port
from tests.doubles.sysfs_tree import SysfsTree
from tests.unit.admin.discovery_kit import NAME, A, B, Machine, at, offering, serving
from tests.unit.admin.test_login_runner import Lab

SECRETS = ("a-secret-of-nodes", "a-secret-of-discovery")
HIGHEST = 8


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """CHAP is set for everything."""
    made = Machine(tmp_path)
    made.configure(
        f"node.session.auth.username = me\nnode.session.auth.password = {SECRETS[0]}",
        auth__username="me",
        auth__password=SECRETS[1],
    )
    return made


def steps(machine: Machine, line: str, level: int) -> list[str]:
    """What stderr has with ``-d`` and does not have without it."""
    quiet, loud = machine(line).errors, machine(f"{line} -d {level}").errors
    return [text for text in loud if text not in quiet]


def place(port: int) -> str:
    return f"127.0.0.1:{port}"


def test_a_discovery_tells_each_stage(machine: Machine) -> None:
    machine.configure()
    with serving(offering(at(A), at(B))) as server:
        told = steps(machine, f"-m discovery -t st -p {place(server.port)}", 1)
    portal, root = place(server.port), machine.iscsi
    assert told == [
        f"discovery: database {root}, settings {root}/iscsid.conf",
        f"reading {root}/iscsid.conf",
        f"discovery: initiator {NAME} (from {root}/initiatorname.iscsi)",
        f"discovery: {portal} is {portal}, through any network device",
        f"discovery: attempt 1 of 1 at {portal}",
        f"discovery: connected {portal}",
        f"discovery: portals {portal} told of: 2",
        f"discovery: portals found: 2, records of them in {root}: 2",
    ]


def test_a_higher_level_says_more_and_nothing_less(machine: Machine) -> None:
    machine.configure()
    with serving(offering(at(A), at(B))) as server:
        line = f"-m discovery -t st -p {place(server.port)}"
        low, high = steps(machine, line, 1), steps(machine, line, 2)
    assert set(low) < set(high)
    assert {f"discovery: portals of {A}: 1", f"discovery: portals of {B}: 1"} <= set(high)
    assert "discovery: without CHAP, attempts: 1, 5 s for a login, 5 s for an answer" in high


def test_the_third_level_tells_what_was_looked_at(machine: Machine) -> None:
    machine.configure()
    with serving(offering(at(A, "192.0.2.1:3260,1", "192.0.2.2:3261,2"))) as server:
        told = steps(machine, f"-m discovery -t st -p {place(server.port)}", 3)
    assert f"discovery: {A} at 192.0.2.2, port 3261, tag 2" in told
    portal = {"address": "192.0.2.1", "persistent_address": "192.0.2.1"}
    SysfsTree(machine.sysfs).add_session(4, targetname=B, tpgt="1", ifacename="default", connection=portal)
    (look,) = [line for line in steps(machine, f"-m node -T {A} -s", 3) if "session 4" in line]
    assert look == f"node: session 4: {B} at 192.0.2.1:3260 through default: not meant"


def test_an_attempt_that_fails_is_told_with_its_cause(machine: Machine) -> None:
    with refusing_port() as port:
        told = steps(machine, f"-m discovery -t st -p {place(port)}", 1)
    assert f"discovery: attempt 1 of 1 at {place(port)}" in told
    assert any(line.startswith("discovery: attempt 1 failed: connect: ") for line in told)


def test_without_d_or_with_0_nothing_is_told(machine: Machine) -> None:
    with serving(offering(at(A))) as server:
        machine.configure()
        for extra in ("", " -d 0", " -d -1"):
            assert machine(f"-m discovery -t st -p {place(server.port)}{extra}").err == ""
    assert machine("-m node -d 0").err == ""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("-m node", "node: records in {root}: 1"),
        ("-m node -T {a} -u", "node: 0 of 0 sessions in {sys}"),
        ("-m node -T {a} -u", "node: target {a}, address any, port any, interface any, operation none"),
        ("-m node -T {a} -o update -n node.startup -v manual", "node: records that get new values of node.startup: 1"),
        ("-m session", "session: sessions in {sys}: 0"),
        (
            "-m node -p 192.0.2.1 -o show",
            "node: target any, address 192.0.2.1, port 3260, interface any, operation show",
        ),
    ],
)
def test_what_is_looked_for_and_found(machine: Machine, line: str, told: str) -> None:
    assert machine(f"-m node -o new -T {A} -p 192.0.2.1").status == 0
    words = {"root": machine.iscsi, "sys": machine.sysfs, "a": A}
    assert told.format(**words) in steps(machine, line.format(**words), 1)


def test_no_level_tells_a_secret(machine: Machine) -> None:
    """Each command that handles one, at a level beyond all others."""
    machine.configure(
        f"node.session.auth.username = me\nnode.session.auth.password = {SECRETS[0]}",
        auth__username="me",
        auth__password=SECRETS[1],
    )
    with serving(offering(at(A))) as server:
        lines = [
            f"-m discovery -t st -p {place(server.port)}",
            f"-m discovery -t st -p {place(server.port)} -l",
            f"-m node -T {A} -o update -n node.session.auth.password -v {SECRETS[0]}",
            f"-m node -T {A} -o update -n node.session.auth.password={SECRETS[0]} -v x",
            f"-m node -T {A} -o update -n node.session.auth.password_in -v {SECRETS[0]} {SECRETS[1]}",
            f"-m node -T {A} {SECRETS[0]}",
            f"-m node -T {A}",
            f"-m node -T {A} -l",
            "-m discoverydb -t st -p 192.0.2.7 -o new",
            f"-m discoverydb -t st -p 192.0.2.7 -o update -n discovery.sendtargets.auth.password -v {SECRETS[1]}",
            f"-m node -p iscsi://me:{SECRETS[0]}@192.0.2.7",
        ]
        told = {line: machine(f"{line} -d {HIGHEST}") for line in lines}
    for line, ran in told.items():
        assert ran.err, line
        # open-iscsi's own line repeats a name that is none, with what was taken for a part of it.
        errors = [error for error in ran.errors if not error.startswith("Cannot modify ")]
        assert not any(secret in error for secret in SECRETS for error in errors), line
        assert not any(secret in ran.out for secret in SECRETS), line


def test_steps_come_in_order_with_other_words_and_are_printable(tmp_path: Path) -> None:
    err = io.StringIO()
    context = Context(paths=Paths(), out=io.StringIO(), err=err, debug=2)
    context.trace(1, "one\x1b[2J")
    context.error("two")
    context.trace(2, "three")
    context.trace(3, "too much")
    assert err.getvalue() == "iscsiadm: one\\x1b[2J\niscsiadm: two\niscsiadm: three\n"
    assert context.notices == []


# Logins


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        made = Lab(tmp_path, listener.getsockname()[1])
        scan = made.kernel.scan
        monkeypatch.setattr("iscsiboot.session.login.scan_whole_host", lambda sysfs, host: scan(sysfs, host, None))
        yield made


def followed(lab: Lab, order: LoginOrder) -> tuple[list[tuple[int, str]], tuple[str, ...]]:
    """What a runner traces of one login, and the steps of its result."""
    told: list[tuple[int, str]] = []
    runner = LocalRunner(lab.paths, lab.environment, trace=lambda level, line: told.append((level, line)))
    with closing(runner.login([order])) as results:
        ((_, result),) = results
    return told, result.steps


def test_a_login_tells_where_it_goes_and_when_it_got_there(lab: Lab) -> None:
    order = lab.order("a", node__session__auth__username="me", node__session__auth__password=SECRETS[0])
    told, done = followed(lab, order)
    here = f"127.0.0.1:{lab.port}"
    assert [level for level, _ in told] == [1, 1, 2]
    assert told[0][1].startswith("login: initiator iqn.2026-01.org.example:guest (from ")
    assert f"{order.key.target} at {here} through any network device" in told[1][1]
    assert "with CHAP, digests None and None, with a scan" in told[2][1]
    assert done[0].startswith(f"connected {here} after 0.")
    assert not any(SECRETS[0] in line for line in (*done, *(text for _, text in told)))


def test_a_login_that_fails_tells_how_far_it_came(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lab.port = listener.getsockname()[1]
    _, done = followed(lab, lab.order())
    assert len(done) == 1
    assert done[0].startswith("failed: connect: ")


def test_nobody_asks_nothing_is_kept(lab: Lab, tmp_path: Path) -> None:
    (result,) = lab.login(lab.order())
    assert (result.failure, result.steps) == (None, ())
    notes = Notes()
    notes.mark(Mark.CONNECTED, "10.0.0.1")
    assert notes.steps == []
    quiet = Context(paths=lab.paths, out=io.StringIO(), err=io.StringIO())
    runner = the_runner(quiet)
    assert isinstance(runner, LocalRunner)
    assert runner._trace is None


def test_the_label_of_a_record_is_in_the_second_level(machine: Machine) -> None:
    assert machine(f"-m node -o new -T {A} -p 192.0.2.1:3260,1").status == 0
    key = NodeKey(A, "192.0.2.1", 3260, 1, "default")
    (step,) = set(steps(machine, f"-m node -T {A} -o update -n node.startup -v manual", 2)) - set(
        steps(machine, f"-m node -T {A} -o update -n node.startup -v manual", 1)
    )
    assert step == f"node: {key.target} at {key.address}:{key.port},{key.tpgt} through {key.iface}"
