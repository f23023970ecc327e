# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole discoveries by the command: a scripted target, iscsid.conf, the database, what is printed and what is left."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.admin import discovery_run as module
from iscsiboot.admin.context import Context
from iscsiboot.admin.main import main
from iscsiboot.database.names import NodeKey
from iscsiboot.database.record import Record, iface_defaults
from tests.doubles.directory import always, numbered
from tests.doubles.faults import HOSTILE_RECORDS
from tests.doubles.server import TargetServer, refusing_port
from tests.doubles.session import Plan
from tests.doubles.target import Script, redirect, status
from tests.unit.admin.discovery_kit import NAME, A, B, C, Machine, at, offering, serving
from tests.unit.admin.json_documents import check


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def portal(server: TargetServer) -> str:
    return f"[{server.host}]:{server.port}" if ":" in server.host else f"{server.host}:{server.port}"


def add_iface(machine: Machine, name: str, **values: str) -> None:
    given = {f"iface.{setting}": value for setting, value in values.items()}
    with machine.database.change() as change:
        change.put_iface(iface_defaults(name).changed(given))


def key(target: str, address: str = "192.0.2.1", port: int = 3260, tpgt: int = 1, iface: str = "default") -> NodeKey:
    return NodeKey(target, address, port, tpgt, iface)


TWO = offering(at(B, "192.0.2.2:3261,2", "[fd00::2]:3260,3"), at(A))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_discovery(machine: Machine, host: str) -> None:
    with serving(TWO, host=host) as server:
        ran = machine(f"-m discovery -t sendtargets -p {portal(server)}")
        assert server.violations == []
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"192.0.2.2:3261,2 {B}\n[fd00::2]:3260,3 {B}\n192.0.2.1:3260,1 {A}\n"
    assert machine.database.node_keys() == [key(A), key(B, "192.0.2.2", 3261, 2), key(B, "fd00::2", 3260, 3)]
    folder = f"send_targets/{host},{server.port}"
    assert machine.links == [
        f"{folder}/{A},192.0.2.1,3260,1,default",
        f"{folder}/{B},192.0.2.2,3261,2,default",
        f"{folder}/{B},fd00::2,3260,3,default",
    ]
    assert (machine.iscsi / folder / "st_config").stat().st_mode & 0o777 == 0o600
    assert machine("-m discovery").out == f"{host}:{server.port} via sendtargets\n"


@pytest.mark.parametrize(
    ("level", "out"),
    [
        (0, f"192.0.2.1:3260,1 {A}\n"),
        (1, f"Target: {A}\n\tPortal: 192.0.2.1:3260,1\n\t\tIface Name: default\n"),
        (2, ""),
        (7, ""),
    ],
)
def test_print_levels(machine: Machine, level: int, out: str) -> None:
    with serving(offering(at(A))) as server:
        ran = machine(f"-m discovery -t st -p {portal(server)} -P {level}")
    assert (ran.status, ran.out, ran.err) == (0, out, "")


def test_json(machine: Machine) -> None:
    with serving(TWO) as server:
        document = check(machine(f"-m discovery -t st -p {portal(server)} --json").out)
    assert [(item["kind"], item["target"], item["portal"], item["iface"]) for item in document["objects"]] == [
        ("target", B, {"address": "192.0.2.2", "port": 3261, "tpgt": 2}, "default"),
        ("target", B, {"address": "fd00::2", "port": 3260, "tpgt": 3}, "default"),
        ("target", A, {"address": "192.0.2.1", "port": 3260, "tpgt": 1}, "default"),
    ]


def test_records_have_the_settings_of_iscsid_conf(machine: Machine) -> None:
    machine.configure("node.startup = automatic\nnode.session.auth.username = me\nnode.session.scan = manual")
    with serving(offering(at(A))) as server:
        machine(f"-m discovery -t st -p {portal(server)}")
    record = machine.record(key(A))
    assert [record.get(name) for name in ("node.startup", "node.session.auth.username", "node.session.scan")] == [
        "automatic",
        "me",
        "manual",
    ]


def test_a_target_without_an_address_or_tag(machine: Machine) -> None:
    with serving(Plan(records=always(f"TargetName={A}\0".encode()))) as server:
        ran = machine(f"-m discovery -t st -p 127.0.0.1:{server.port}")
    assert ran.out == f"127.0.0.1:{server.port},-1 {A}\n"
    assert machine.database.node_keys() == [key(A, "127.0.0.1", server.port, -1)]
    assert f"Target: {A}\n" in machine("-m discovery -P 1").out


def test_no_targets(machine: Machine) -> None:
    with serving(offering()) as server:
        ran = machine(f"-m discovery -t st -p {portal(server)}")
    assert (ran.status, ran.out, ran.errors) == (21, "", ["No portals found"])
    assert machine.database.discoveries("sendtargets") == [("127.0.0.1", server.port)]


def test_targets_that_are_gone_lose_their_records_and_no_targets_at_all_do_not(machine: Machine) -> None:
    """An empty answer is what a target gives that has just started; the peer ends there too."""
    with serving(offering(at(A), at(B)), offering(at(B), at(C)), offering()) as server:
        for _ in range(3):
            machine(f"-m discovery -t st -p {portal(server)}")
    assert machine.targets == [B, C]


# What stays and what goes.


def test_settings_of_records_stay_without_o(machine: Machine) -> None:
    with serving(offering(at(A), at(B)), offering(at(A), at(C))) as server:
        machine(f"-m discovery -t st -p {portal(server)}")
        machine(f"-m node -T {A} -o update -n node.startup -v automatic")
        ran = machine(f"-m discovery -t st -p {portal(server)}")
        assert (ran.status, ran.err) == (0, "")
        assert machine.targets == [A, C]
        assert machine.record(key(A)).get("node.startup") == "automatic"
        machine(f"-m discovery -t st -p {portal(server)} -o update")
        assert machine.record(key(A)).get("node.startup") == "manual"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_is_told_what_was_kept(machine: Machine) -> None:
    with serving(offering(at(A))) as server:
        line = f"-m discovery -t st -p {portal(server)}"
        machine(line)
        machine(f"-m node -T {A} -o update -n node.session.auth.password -v ownsecret1234")
        machine.configure("node.session.auth.username = new\nnode.session.auth.password = newsecret12345")
        assert machine(line).err == ""
        err = Terminal()
        main(line.split(), io.StringIO(), err, machine.paths)
    assert "-o update gives them those of the file" in err.getvalue()
    assert "(node.session.auth.password differ" in err.getvalue()
    assert "secret1" not in err.getvalue()


def test_a_new_secret_in_iscsid_conf_reaches_untouched_records(machine: Machine) -> None:
    """What every guide says: change iscsid.conf, discover again. The administrator's own settings stay all the same."""
    with serving(offering(at(A), at(B))) as server:
        line = f"-m discovery -t st -p {portal(server)}"
        machine(line)
        machine(f"-m node -T {A} -o update -n node.startup -v automatic")
        machine.configure("node.session.auth.username = me\nnode.session.auth.password = newsecret12345")
        machine(line)
    for target, startup in ((A, "automatic"), (B, "manual")):
        record = machine.record(key(target))
        assert record.get("node.session.auth.password") == "newsecret12345"
        assert record.get("node.startup") == startup


def test_nonpersistent_leaves_nothing(machine: Machine) -> None:
    before = sorted(machine.iscsi.rglob("*"))
    with serving(TWO) as server:
        ran = machine(f"-m discovery -t st -p {portal(server)} -o nonpersistent")
    assert (ran.status, len(ran.out.splitlines())) == (0, 3)
    assert sorted(machine.iscsi.rglob("*")) == before


@pytest.mark.parametrize("mode", ["discovery", "discoverydb"])
def test_with_a_stored_record(machine: Machine, mode: str) -> None:
    """Its own settings count, not those of iscsid.conf."""
    with serving(Plan(login=Script(user=("me", b"secretsecret12")), records=numbered(2))) as server:
        base = f"-m discoverydb -t st -p {portal(server)}"
        machine(f"{base} -o new")
        machine(
            f"{base} -o update -n discovery.sendtargets.auth.username -v me"
            " -n discovery.sendtargets.auth.password -v secretsecret12"
        )
        line = f"-m discovery -p {portal(server)} -D" if mode == "discovery" else f"{base} -D"
        ran = machine(line)
        assert (ran.status, len(ran.out.splitlines())) == (0, 2)
        assert "username = me\n" in machine(f"-m discovery -p {portal(server)}").out, "the record stays as it was"
        assert machine(f"-m discovery -t st -p {portal(server)}").status == 24, "-t takes iscsid.conf's"


def test_discoverydb_makes_the_record_it_needs(machine: Machine) -> None:
    with serving(TWO) as server:
        assert machine(f"-m discoverydb -t st -p {portal(server)} -D").status == 0
        assert len(machine.database.discoveries("sendtargets")) == 1


# Interfaces.


def test_through_every_stored_interface(machine: Machine) -> None:
    add_iface(machine, "i1")
    add_iface(machine, "i2", initiatorname="iqn.2004-01.com.example:other")
    add_iface(machine, "hba", transport_name="bnx2i")
    with serving(offering(at(A))) as server:
        ran = machine(f"-m discovery -t st -p {portal(server)}")
        names = [dict(target.login.received)["InitiatorName"] for target in server.full_targets]
    assert ran.out == f"192.0.2.1:3260,1 {A}\n" * 2
    assert names == [NAME, "iqn.2004-01.com.example:other"]
    assert machine.database.node_keys() == [key(A, iface="i1"), key(A, iface="i2")]
    record = machine.record(key(A, iface="i2"))
    assert record.get("iface.initiatorname") == "iqn.2004-01.com.example:other"


def test_through_chosen_interfaces(machine: Machine) -> None:
    add_iface(machine, "10.99.0.1:3260:pv0")
    with serving(offering(at(A))) as server:
        line = f"-m discovery -t st -p {portal(server)} -I 10.99.0.1:3260:pv0 -I default -I nosuch -P 1"
        ran = machine(line)
    assert ran.status == 0
    assert ran.errors == [
        "Could not read iface info for nosuch. Make sure an iface config with the file name and "
        f"iface.iscsi_ifacename nosuch is in {machine.iscsi}/ifaces."
    ]
    assert ran.out == (
        f"Target: {A}\n\tPortal: 192.0.2.1:3260,1\n\t\tIface Name: 10.99.0.1:3260:pv0\n"
        "\tPortal: 192.0.2.1:3260,1\n\t\tIface Name: default\n"
    )


@pytest.mark.parametrize("there", [False, True], ids=["no-driver", "driver"])
def test_adapters_are_left_out(machine: Machine, there: bool) -> None:
    add_iface(machine, "hba", transport_name="bnx2i")
    if there:
        (machine.sysfs / "class/iscsi_transport/bnx2i").mkdir(parents=True)
    with serving(offering(at(A))) as server:
        alone = machine(f"-m discovery -t st -p {portal(server)} -I hba")
        both = machine(f"-m discovery -t st -p {portal(server)} -I hba -I default")
        assert len(server.targets) == 1
    assert (alone.status, alone.out) == (27 if there else 21, "")
    if there:
        assert "bnx2i is not supported yet" in alone.err
    else:
        assert alone.errors == ["Could not load transport bnx2i.Dropping interface hba."]
    assert (both.status, both.err) == (0, alone.err)


def test_one_interface_that_fails_ends_it(machine: Machine) -> None:
    """As with the peer; what is known stays."""
    add_iface(machine, "i1")
    add_iface(machine, "i2", hwaddress="52:54:00:00:00:01")
    with serving(offering(at(A))) as server:
        machine(f"-m discovery -t st -p {portal(server)} -I i1")
        ran = machine(f"-m discovery -t st -p {portal(server)}")
    assert (ran.status, ran.out) == (11, "")
    assert machine.database.node_keys() == [key(A, iface="i1")]


# Failures.


def test_a_failure(machine: Machine) -> None:
    with refusing_port() as port:
        ran = machine(f"-m discovery -t st -p 127.0.0.1:{port}")
    assert (ran.status, ran.out) == (11, "")
    assert ran.errors[:3] == [
        "cannot make connection to 127.0.0.1: Connection refused",
        "connection login retries (reopen_max) 0 exceeded",
        "Could not perform SendTargets discovery: iSCSI PDU timed out",
    ]
    assert len(ran.errors) == 4
    assert ran.errors[3].startswith(f"connect: 127.0.0.1:{port}: connection refused")
    assert machine.database.discoveries("sendtargets") == [("127.0.0.1", port)], "the record stays, as with the peer"


def test_a_failure_as_json(machine: Machine) -> None:
    with refusing_port() as port:
        ran = machine(f"-m discovery -t st -p 127.0.0.1:{port} --json")
    document = check(ran.out)
    assert document["exit_code"] == ran.status == 11
    told = document["errors"][-1]["failure"]
    assert (told["stage"], told["subject"], told["exit_code"]) == ("connect", f"127.0.0.1:{port}", 11)


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (status(2, 1), 24, "iSCSI login failed due to authorization failure"),
        (status(2, 3), 19, "encountered non-retryable iSCSI login failure"),
        (status(3, 1), 11, "iSCSI PDU timed out"),
    ],
    ids=["24", "19", "11"],
)
def test_exit_codes(machine: Machine, fault: Any, code: int, text: str) -> None:
    with serving(Plan(login=Script(faults={0: fault}))) as server:
        ran = machine(f"-m discovery -t st -p {portal(server)}")
    assert ran.status == code
    assert f"Could not perform SendTargets discovery: {text}" in ran.errors


def test_a_name_nobody_knows(machine: Machine) -> None:
    ran = machine("-m discovery -t st -p disks.invalid")
    assert ran.status == 4
    assert ran.errors[1:4] == [
        "cannot resolve host name disks.invalid",
        "cannot resolve host name disks.invalid",
        "Could not perform SendTargets discovery: encountered connection failure",
    ]
    assert machine.database.discoveries("sendtargets") == [("disks.invalid", 3260)]


def test_credentials_that_cannot_be_used(machine: Machine) -> None:
    machine.configure(auth__username_in="target", auth__password_in="othersecret123")
    ran = machine("-m discovery -t st -p 10.0.0.1")
    assert (ran.status, ran.out) == (22, "")
    assert ran.errors[1] == "Could not perform SendTargets discovery: sysfs lookup failure"


def test_without_an_initiator_name(machine: Machine) -> None:
    (machine.iscsi / "initiatorname.iscsi").unlink()
    ran = machine("-m discovery -t st -p 10.0.0.1")
    assert ran.status == 7
    assert ran.errors[:2] == [
        "Cannot perform discovery. Initiatorname required.",
        "Could not perform SendTargets discovery: invalid parameter",
    ]


def test_an_interface_with_a_name_needs_no_other(machine: Machine) -> None:
    (machine.iscsi / "initiatorname.iscsi").unlink()
    add_iface(machine, "i1", initiatorname="iqn.2004-01.com.example:own")
    with serving(offering(at(A))) as server:
        ran = machine(f"-m discovery -t st -p {portal(server)}")
        assert dict(server.full_targets[0].login.received)["InitiatorName"] == "iqn.2004-01.com.example:own"
    assert (ran.status, ran.err) == (0, "")


def test_a_database_that_cannot_be_written(machine: Machine) -> None:
    (machine.iscsi / "send_targets").write_text("a file has the folder's place")
    with serving(TWO) as server:
        ran = machine(f"-m discovery -t st -p {portal(server)}")
        assert server.targets == [], "nobody is asked when the answer cannot be kept"
    assert (ran.status, ran.out) == (6, "")
    assert ran.errors[-1] == "Could not add new discovery record."


def test_one_bad_record_of_an_answer_costs_itself(machine: Machine) -> None:
    with serving(Plan(records=always(at(A).record(), HOSTILE_RECORDS["path"], at(B).record()))) as server:
        ran = machine(f"-m discovery -t st -p {portal(server)}")
    assert (ran.status, machine.targets) == (0, [A, B])
    assert len(ran.errors) == 1
    assert not any(".." in str(path.relative_to(machine.root)) for path in machine.root.rglob("*"))


def test_a_redirect_is_no_word_on_stderr(machine: Machine) -> None:
    with serving(TWO) as last, serving(Plan(login=Script(faults={0: redirect(portal(last))}))) as first:
        ran = machine(f"-m discovery -t st -p {portal(first)}")
    assert (ran.status, ran.err, machine.targets) == (0, "", [A, B])


# Logins.


class Logins:
    """In place of the part that makes sessions."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.pairs: list[tuple[NodeKey, Record]] = []
        self.summary: str | None = None

    def __call__(
        self, pairs: Sequence[tuple[NodeKey, Record]], context: Context, options: object, *, summary: str
    ) -> int:
        self.pairs, self.summary = list(pairs), summary
        context.say("logged in")
        return self.code


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> Logins:
    made = Logins()
    monkeypatch.setattr("iscsiboot.admin.login.login_nodes", made)
    return made


def test_log_in_to_all(machine: Machine, logins: Logins) -> None:
    twice = Plan(records=always(at(A).record(), at(B).record(), at(A).record()))
    with serving(twice) as server:
        machine(f"-m discovery -t st -p {portal(server)}")
        machine(f"-m node -T {B} -o update -n node.session.nr_sessions -v 2")
        logins.code = 15
        ran = machine(f"-m discovery -t st -p {portal(server)} -l")
    assert ran.status == 15
    assert ran.out.splitlines()[-1] == "logged in", "what was found stands before what came of it"
    assert [place for place, _ in logins.pairs] == [key(A), key(B)], "once for each portal"
    assert logins.pairs[1][1].get("node.session.nr_sessions") == "2", "with what is stored"
    assert logins.summary == "", "the peer has no last line here"


def test_log_in_without_storing(machine: Machine, logins: Logins) -> None:
    with serving(offering(at(A))) as server:
        machine(f"-m discovery -t st -p {portal(server)} -l -o nonpersistent")
    assert [place for place, _ in logins.pairs] == [key(A)]
    assert machine.targets == []


# Secrets.


@pytest.mark.parametrize(
    ("session", "discovery", "told"),
    [("onesecret1234", "onesecret1234", True), ("onesecret1234", "twosecret1234", False), ("", "onesecret1234", False)],
    ids=["same", "different", "one"],
)
def test_one_secret_for_two_things_is_told_and_works(
    machine: Machine, session: str, discovery: str, told: bool
) -> None:
    """The wiki's example has the same secret for sessions and discovery."""
    machine.configure(
        f"node.session.auth.username = me\nnode.session.auth.password = {session}" if session else "",
        auth__username="me",
        auth__password=discovery,
    )
    err = Terminal()
    with serving(Plan(login=Script(user=("me", discovery.encode())), records=numbered(1))) as server:
        line = f"-m discovery -t st -p {portal(server)}"
        assert main(line.split(), io.StringIO(), err, machine.paths) == 0
        assert machine(line).err == ""
    assert ("must differ" in err.getvalue()) == told
    assert "secret1234" not in err.getvalue()


def test_the_wiki_path(machine: Machine, logins: Logins) -> None:
    """Four settings for sessions, four for discovery, discover, delete obsolete targets, list, log in."""
    session, discovery = "node.session.auth", "discovery.sendtargets.auth"
    machine.configure(
        f"{session}.authmethod = CHAP\n{session}.username = client\n{session}.password = clientsecret1\n"
        f"{session}.chap_algs = SHA3-256,SHA256,SHA1,MD5\n{discovery}.authmethod = CHAP\n"
        f"{discovery}.username = client\n{discovery}.password = clientsecret1"
    )
    script = Script(user=("client", b"clientsecret1"))
    with serving(Plan(login=script, records=numbered(3))) as server:
        found = machine(f"-m discovery -t sendtargets -p {portal(server)}")
        assert (found.status, len(found.out.splitlines()), found.err) == (0, 3, "")
        assert machine(f"-m node -T {machine.targets[0]} -o delete").status == 0
        assert len(machine("-m node").out.splitlines()) == 2
        shown = machine(f"-m node -T {machine.targets[0]}").out
        assert "node.session.auth.authmethod = CHAP\n" in shown
        assert "node.session.auth.password = ********\n" in shown
        assert machine("-m discovery -P 1").out.count("Target: ") == 2


# Size.


def test_many_targets(machine: Machine) -> None:
    """All are stored by one change; a record takes some kilobytes until it is there."""
    count = 1000
    with serving(Plan(records=numbered(count))) as server:
        tracemalloc.start()
        try:
            ran = machine(f"-m discovery -t st -p {portal(server)}")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert ran.status == 0
    assert ran.out.count("\n") == count == len(machine.database.node_keys())
    assert peak < 30_000_000
    assert machine("-m discovery -P 1").out.count("Target: ") == count


def test_nothing_but_a_document_with_json(machine: Machine) -> None:
    with serving(TWO) as server:
        json.loads(machine(f"-m discovery -t st -p {portal(server)} --json").out)


def test_levels_are_the_modules_own() -> None:
    assert module.TREE not in module.FLAT


def test_without_an_interface_nothing_is_left(machine: Machine) -> None:
    ran = machine("-m discovery -t st -p 10.0.0.1 -I nosuch")
    assert (ran.status, ran.out, len(ran.errors)) == (21, "", 1)
    assert machine.database.discoveries("sendtargets") == []
