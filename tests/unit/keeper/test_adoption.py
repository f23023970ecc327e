# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions a guard finds: whose they are, how they stand, what is known of each, from every source."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.keeper import adoption
from iscsiboot.keeper.adoption import Adopted, Verdict
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.values import Known, RecordName, Source
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.session.login import UNRESOLVED
from iscsiboot.session.values import AttachRequest, Environment
from iscsiboot.session.workers import Answer, Ended, Job
from iscsiboot.sysfs.sessions import SessionView
from tests.doubles.sysfs_tree import UNREADABLE, SysfsTree

INITIATOR = "iqn.2026-01.org.example:guest"
TARGET = "iqn.2026-01.org.example:kernel"
CREATOR = 286
"""Those of the tree's sessions."""


class Machine:
    """A /sys and a /proc, and what is read from them."""

    def __init__(self, root: Path) -> None:
        self.tree = SysfsTree(root / "sys")
        self.proc = root / "proc"
        (self.proc / "net").mkdir(parents=True)
        (self.proc / "self" / "fd").mkdir(parents=True)
        self.sockets()
        self.names: dict[str, str] = {}
        self.asked: list[tuple[RecordName, ...]] = []
        self.records: dict[RecordName, Known] = {}
        self.lines: list[tuple[Level, str]] = []
        self.jobs: list[str] = []
        self.removed: list[int] = []
        self.environment = Environment(
            open_netlink=self._no_kernel,
            open_monitor=self._no_kernel,
            sysfs=root / "sys",
            proc=self.proc,
            resolve=self._resolve,
        )

    def sockets(self, *ports: int, ours: int = 0) -> None:
        """Who has a NETLINK_ISCSI socket open now."""
        rows = [f"0 8 {port} 00000001 0 0 0 2 0 {9000 + port}" for port in ports]
        (self.proc / "net" / "netlink").write_text(
            "\n".join(["sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode", *rows])
        )
        if ours:
            (self.proc / "self" / "fd" / "9").symlink_to(f"socket:[{9000 + ours}]")

    def read(
        self, *, handed: Mapping[int, Known] | None = None, state: Mapping[int, Known] | None = None
    ) -> dict[int, Adopted]:
        return {item.sid: item for item in asyncio.run(self._found(handed or {}, state or {}))}

    async def _found(self, handed: Mapping[int, Known], state: Mapping[int, Known]) -> tuple[Adopted, ...]:
        found = adoption.look(self.environment, handed=handed, state=state)
        return await adoption.complete(found, self.environment, self._records)

    def settle(self, **sources: Any) -> dict[int, Known]:
        async def both() -> dict[int, Known]:
            found = await self._found(**({"handed": {}, "state": {}} | sources))
            return await adoption.settle(found, environment=self.environment, hands=self, log=self.log)

        return asyncio.run(both())

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        """Hands that work at once."""
        assert seconds > 0
        self.jobs.append(what)
        return Ended(answer=job())

    def remove(self, view: SessionView, _: Environment) -> Answer:
        """In the place of what asks the kernel."""
        self.removed.append(view.sid)
        return {}

    def log(self, level: Level, text: str) -> None:
        self.lines.append((level, text))

    def said(self, words: str) -> bool:
        return any(words in text for _, text in self.lines)

    async def _records(self, names: Sequence[RecordName]) -> Mapping[RecordName, Known]:
        self.asked.append(tuple(names))
        return {name: self.records[name] for name in names if name in self.records}

    def _resolve(self, name: NamedPortal) -> Portal:
        if name.host not in self.names:
            raise IscsiBootError("no such name", stage=Stage.CONNECT, exit_code=ExitCode.TRANS)
        return Portal(address=parse_ip(self.names[name.host]), port=name.port)

    @staticmethod
    def _no_kernel() -> Any:
        raise IscsiBootError("no kernel here", stage=Stage.HANDOFF)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def description(**changes: Any) -> Known:
    """What somebody might know of the tree's session."""
    values: dict[str, Any] = {
        "initiator_name": INITIATOR,
        "target_name": TARGET,
        "portal": Portal(address=parse_ip("10.0.2.2")),
        "lun": None,
        "params": SessionParams(login_timeout=77),
    }
    return Known(request=AttachRequest(**(values | changes)), source=Source.KEEPER, tpgt=1)


NAME = RecordName(target=TARGET, tpgt=1, address="10.0.2.2", port=3260, iface="default")


# How they stand. ------------------------------------------------------------------------------------------------------

WORKED: dict[str, Any] = {}
NEVER: dict[str, Any] = {"state": "FREE", "tpgt": "0"}
UNNAMED: dict[str, Any] = NEVER | {"targetname": "(null)", "initiatorname": "(null)", "ifacename": "(null)"}


@pytest.mark.parametrize(
    ("session", "connection", "units", "verdict"),
    [
        pytest.param(WORKED, {}, 1, Verdict.HEALTHY, id="healthy"),
        pytest.param(WORKED, {}, 0, Verdict.HEALTHY, id="healthy-without-units"),
        pytest.param(WORKED, {"state": None}, 1, Verdict.HEALTHY, id="old-kernel"),
        pytest.param(WORKED, {"state": "down"}, 1, Verdict.DOWN, id="breaking-just-now"),
        pytest.param(WORKED, {"state": "failed"}, 1, Verdict.DOWN, id="failed-just-now"),
        pytest.param(WORKED, {"state": "bound"}, 1, Verdict.DOWN, id="cut-off-in-a-recovery"),
        pytest.param({"state": "FAILED"}, {"state": "failed"}, 1, Verdict.DOWN, id="broken"),
        pytest.param({"state": "FAILED"}, {"state": None}, 0, Verdict.DOWN, id="broken-old-kernel"),
        pytest.param({"state": "FREE"}, {"state": "down"}, 1, Verdict.DOWN, id="recovery-time-out-passed"),
        pytest.param({"state": "FREE"}, {"state": "down"}, 0, Verdict.DOWN, id="recovery-time-out-passed-no-units"),
        pytest.param(
            {"state": "FREE", "tpgt": "0"}, {"state": "down"}, 1, Verdict.DOWN, id="units-tell-that-it-worked"
        ),
        pytest.param(NEVER, {"state": "bound"}, 0, Verdict.HALF_MADE, id="half-made"),
        pytest.param(NEVER, None, 0, Verdict.HALF_MADE, id="half-made-without-connection"),
        pytest.param(UNNAMED, None, 0, Verdict.HALF_MADE, id="bare"),
        pytest.param(UNNAMED, {"persistent_address": None}, 0, Verdict.HALF_MADE, id="unnamed"),
        pytest.param({"creator": "-1"}, {}, 1, Verdict.FOREIGN, id="made-by-firmware"),
        pytest.param({"state": None}, {}, 1, Verdict.FOREIGN, id="state-unreadable"),
        pytest.param({"targetname": "(null)"}, {}, 1, Verdict.FOREIGN, id="works-without-a-name"),
        pytest.param({"initiatorname": "(null)"}, {}, 1, Verdict.FOREIGN, id="works-without-an-initiator"),
        pytest.param({}, {"persistent_address": None, "address": UNREADABLE}, 1, Verdict.FOREIGN, id="leads-nowhere"),
        pytest.param(WORKED, None, 1, Verdict.FOREIGN, id="works-without-a-connection"),
    ],
)
def test_how_a_session_stands(
    machine: Machine, session: dict[str, Any], connection: dict[str, Any] | None, units: int, verdict: Verdict
) -> None:
    machine.tree.add_session(1, connection=connection, **session)
    for lun in range(units):
        machine.tree.add_unit(1, lun)
    found = machine.read()[1]
    assert found.verdict is verdict
    assert (found.known is None) == (verdict is Verdict.FOREIGN or connection is None or "targetname" in session)


def test_a_session_somebody_is_making_is_left_alone(machine: Machine) -> None:
    machine.tree.add_session(1, **NEVER)
    machine.tree.add_session(2, connection=None, **UNNAMED)
    machine.sockets(CREATOR)
    assert [item.verdict for item in machine.read().values()] == [Verdict.FOREIGN] * 2
    machine.sockets(CREATOR + 1)
    assert [item.verdict for item in machine.read().values()] == [Verdict.HALF_MADE] * 2


def test_a_session_this_process_is_making_is_left_alone(machine: Machine) -> None:
    machine.tree.add_session(1, **NEVER)
    machine.sockets(CREATOR, ours=CREATOR)
    assert machine.read()[1].verdict is Verdict.FOREIGN


def test_nothing_half_made_is_touched_when_its_maker_cannot_be_told(machine: Machine) -> None:
    machine.tree.add_session(1, **NEVER)
    machine.tree.add_session(2)
    (machine.proc / "net" / "netlink").unlink()
    found = machine.read()
    assert found[1].verdict is Verdict.FOREIGN
    assert found[2].verdict is Verdict.HEALTHY


def test_a_session_of_a_living_maker_that_works_is_guarded_all_the_same(machine: Machine) -> None:
    """Its maker may be a command that waits for the disk still, or the guard that has just handed over."""
    machine.tree.add_session(1)
    machine.tree.add_session(2, connection={"state": "down"}, state="FAILED")
    machine.sockets(CREATOR)
    assert [item.verdict for item in machine.read().values()] == [Verdict.HEALTHY, Verdict.DOWN]


def test_sessions_of_other_drivers_are_not_ours(machine: Machine) -> None:
    machine.tree.add_host(2, scsi={"proc_name": "qla4xxx"})
    machine.tree.add_session(1, host=2)
    machine.tree.add_host(3, scsi={"proc_name": None})
    machine.tree.add_session(2, host=3)
    assert [item.words for item in machine.read().values()] == [
        "it is of the driver qla4xxx",
        "it is of the driver nobody knows which",
    ]


def test_a_machine_without_sessions(machine: Machine) -> None:
    assert machine.read() == {}
    assert machine.asked == []


def test_a_session_that_was_finished_while_we_looked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maker set it LOGGED_IN and closed its socket after we had listed it: only the second look shows that."""
    machine.tree.add_session(1, **NEVER)

    def finish(proc: Path) -> tuple[Any, ...]:
        machine.tree.add_session(1, state="LOGGED_IN", tpgt="1")
        return ()

    monkeypatch.setattr(adoption, "open_ports", finish)
    assert machine.read()[1].verdict is Verdict.HEALTHY


def test_a_session_that_goes_while_we_look_is_left_out(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.tree.add_session(1, **NEVER)
    machine.tree.add_session(2)

    def go(proc: Path) -> tuple[Any, ...]:
        machine.tree.remove_session(1)
        return ()

    monkeypatch.setattr(adoption, "open_ports", go)
    assert set(machine.read()) == {2}


# What is known. -------------------------------------------------------------------------------------------------------


def test_who_guarded_it_knows_best(machine: Machine) -> None:
    machine.tree.add_session(1)
    handed, state = description(), replace(description(iface_name="default"), source=Source.STATE)
    machine.records[NAME] = replace(description(), source=Source.RECORD)
    assert machine.read(handed={1: handed}, state={1: state})[1].known is handed
    assert machine.read(state={1: state})[1].known is state
    assert machine.asked == [], "nobody reads a disk for what is known"
    assert machine.read()[1].known == replace(
        machine.records[NAME],
        request=replace(machine.records[NAME].request, stored_address="10.0.2.2"),
        record=NAME,
    )
    assert machine.asked == [(NAME,)]


def test_records_are_asked_for_once_and_for_those_nobody_told_of(machine: Machine) -> None:
    for sid in range(1, 6):
        machine.tree.add_session(sid, targetname=f"{TARGET}{sid}")
    told = {sid: description(target_name=f"{TARGET}{sid}") for sid in (1, 3, 5)}
    machine.read(handed={1: told[1]}, state={3: told[3], 5: told[5]})
    assert [[name.target for name in names] for names in machine.asked] == [[f"{TARGET}2", f"{TARGET}4"]]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"target_name": "iqn.2026-01.org.example:other"}, "the target"),
        ({"initiator_name": "iqn.2026-01.org.example:other"}, "the initiator"),
        ({"iface_name": "iface1"}, "the interface"),
        ({"portal": Portal(address=parse_ip("10.0.2.3"))}, "the address"),
        ({"portal": Portal(address=parse_ip("10.0.2.2"), port=3261)}, "the port"),
        ({"stored_address": "a.name"}, "the address"),
    ],
)
def test_what_is_about_another_session_of_that_number_is_not_used(
    machine: Machine, changes: dict[str, Any], what: str
) -> None:
    machine.tree.add_session(1)
    right = description()
    found = machine.read(handed={1: description(**changes)}, state={1: right})[1]
    assert found.known is right
    assert found.notes == (f"what the guard before us says is about another session ({what} differs) and is not used",)


def test_what_the_kernel_does_not_tell_fits(machine: Machine) -> None:
    machine.tree.add_session(1, initiatorname="(null)", ifacename="(null)")
    handed = description()
    assert machine.read(handed={1: handed})[1].known is handed


def test_one_address_in_two_spellings_is_one(machine: Machine) -> None:
    machine.tree.add_session(1, connection={"persistent_address": "2001:DB8:0::1", "address": "2001:db8::1"})
    handed = description(portal=Portal(address=parse_ip("2001:db8::1")))
    assert machine.read(handed={1: handed})[1].known is handed


def test_the_portal_group_comes_from_the_kernel_when_nobody_told(machine: Machine) -> None:
    machine.tree.add_session(1, tpgt="7")
    known = machine.read(handed={1: replace(description(), tpgt=None)})[1].known
    assert known is not None
    assert known.tpgt == 7


def test_sysfs_alone(machine: Machine) -> None:
    """A session of the real iscsistart, of which nobody has a record."""
    machine.tree.add_session(
        1,
        username="guest",
        password="the secret",
        username_in="target",
        password_in="the other",
        boot_root="iscsi_boot0",
        boot_nic="ethernet0",
        boot_target="target0",
        initial_r2t="1",
        immediate_data="0",
        max_burst_len="65536",
        first_burst_len="4096",
        max_outstanding_r2t="3",
        abort_tmo="16",
        lu_reset_tmo="31",
        tgt_reset_tmo="32",
        recovery_tmo="off",
        tpgt="5",
        ifacename="iface0",
        connection={
            "header_digest": "1",
            "data_digest": "0",
            "max_recv_dlength": "131072",
            "ping_tmo": "6",
            "recv_tmo": "4",
            "persistent_address": "10.9.9.9",
            "persistent_port": "3261",
            "address": "10.0.2.2",
        },
    )
    machine.tree.add_host(2, netdev="eth7")
    known = machine.read()[1].known
    assert known == Known(
        request=AttachRequest(
            initiator_name=INITIATOR,
            target_name=TARGET,
            portal=Portal(address=parse_ip("10.9.9.9"), port=3261),
            lun=None,
            params=SessionParams(
                header_digest=Digest.PREFER_CRC32C,
                data_digest=Digest.NONE,
                initial_r2t=True,
                immediate_data=False,
                max_burst_length=65536,
                first_burst_length=4096,
                max_outstanding_r2t=3,
                max_recv_data_segment_length=131072,
                abort_timeout=16,
                lu_reset_timeout=31,
                tgt_reset_timeout=32,
                replacement_timeout=-1,
                noop_out_interval=4,
                noop_out_timeout=6,
            ),
            credentials=Credentials(
                outgoing=Chap(name="guest", secret=Secret(b"the secret")),
                incoming=Chap(name="target", secret=Secret(b"the other")),
            ),
            iface_name="iface0",
            netdev="eth7",
            stored_address="10.9.9.9",
            boot_root="iscsi_boot0",
            boot_nic="ethernet0",
            boot_target="target0",
        ),
        source=Source.SYSFS,
        unknown=("the login timeout", "whether new units are to be looked for", "the CHAP algorithms"),
        record=RecordName(target=TARGET, tpgt=5, address="10.9.9.9", port=3261, iface="iface0"),
        tpgt=5,
        time2wait=2.0,
    )


def only(machine: Machine, **session: Any) -> Known:
    machine.tree.add_session(1, **session)
    known = machine.read()[1].known
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("session", "words"),
    [
        ({"username": "guest", "password": UNREADABLE}, "our CHAP secret"),
        ({"password": "hushhush"}, "our CHAP secret"),
        ({"username": "guest", "password": "x" * 256}, "our CHAP secret"),
        (
            {"username": "guest", "password": "hushhush", "username_in": "t", "password_in": None},
            "the CHAP secret of the target",
        ),
        (
            {"username": "guest", "password": "hushhush", "username_in": "t", "password_in": "hushhush"},
            "the target's CHAP secret (it is our own, which proves nothing)",
        ),
    ],
)
def test_secrets_the_kernel_does_not_give_are_said_to_be_unknown(
    machine: Machine, session: dict[str, Any], words: str
) -> None:
    known = only(machine, **session)
    assert words in known.unknown
    assert "hushhush" not in repr(known)


def test_values_out_of_range_are_left_at_their_defaults(machine: Machine) -> None:
    known = only(
        machine,
        max_burst_len="0",
        first_burst_len="99999999",
        max_outstanding_r2t="0",
        abort_tmo="-5",
        recovery_tmo="x",
        connection={"max_recv_dlength": "1", "ping_tmo": None, "recv_tmo": None, "header_digest": None},
    )
    assert known.request.params == SessionParams()


def test_a_first_burst_that_is_longer_than_a_burst_is_cut(machine: Machine) -> None:
    params = only(machine, max_burst_len="4096", first_burst_len="65536").request.params
    assert (params.first_burst_length, params.max_burst_length) == (4096, 4096)


def test_the_interface_is_found_by_its_hardware_address(machine: Machine) -> None:
    """It was eth0 in the initramfs and is ens3 now."""
    machine.tree.add_host(2, netdev="eth0", hwaddress="52:54:00:12:34:56")
    (machine.tree.root / "class" / "net" / "ens3").mkdir(parents=True)
    (machine.tree.root / "class" / "net" / "ens3" / "address").write_text("52:54:00:12:34:56\n")
    request = only(machine).request
    assert (request.netdev, request.hwaddress) == ("ens3", "52:54:00:12:34:56")


@pytest.mark.parametrize("netdev", ["(null)", "default"])
def test_no_interface_is_none(machine: Machine, netdev: str) -> None:
    machine.tree.add_host(2, netdev=netdev)
    assert only(machine).request.netdev is None


def test_a_portal_by_name_leads_where_it_led(machine: Machine) -> None:
    request = only(machine, connection={"persistent_address": "target.example.org"}).request
    assert request.portal == Portal(address=parse_ip("10.0.2.2"))
    assert request.stored_address == "target.example.org"


def test_a_driver_that_shows_one_portal_only(machine: Machine) -> None:
    request = only(machine, connection={"persistent_address": None, "persistent_port": None}).request
    assert request.portal == Portal(address=parse_ip("10.0.2.2"))


def test_a_record_is_used_under_the_names_the_session_runs_under(machine: Machine) -> None:
    name = replace(NAME, address="target.example.org")
    machine.records[name] = Known(
        request=AttachRequest(
            initiator_name="iqn.2026-01.org.example:new-name",
            target_name=TARGET,
            portal=Portal(address=UNRESOLVED),
            lun=None,
            params=SessionParams(login_timeout=44),
            iface_name="default",
            netdev="eth1",
        ),
        source=Source.RECORD,
        reopen_max=5,
        scan=False,
    )
    known = only(
        machine,
        boot_root="iscsi_boot0",
        username="guest",
        password="secret",
        connection={"persistent_address": "target.example.org"},
    )
    assert known.source is Source.RECORD
    assert known.request.initiator_name == INITIATOR, "another name would be another session to the target"
    assert known.request.portal == Portal(address=parse_ip("10.0.2.2"))
    assert known.request.stored_address == "target.example.org"
    assert known.request.boot_root == "iscsi_boot0"
    assert known.request.credentials == Credentials(outgoing=Chap(name="guest", secret=Secret(b"secret")))
    assert (known.request.netdev, known.request.params.login_timeout) == ("eth1", 44)
    assert (known.reopen_max, known.scan, known.tpgt, known.record) == (5, False, 1, name)
    assert known.unknown == ()


def test_a_records_own_secrets_go_before_the_kernels(machine: Machine) -> None:
    own = Credentials(outgoing=Chap(name="new", secret=Secret(b"changed")))
    machine.records[NAME] = replace(description(credentials=own), source=Source.RECORD)
    assert only(machine, username="guest", password="old").request.credentials == own


# What follows. --------------------------------------------------------------------------------------------------------


def test_healthy_and_broken_sessions_are_to_be_guarded_and_nothing_is_done(machine: Machine) -> None:
    machine.tree.add_session(1)
    machine.tree.add_session(2, connection={"state": "down"}, state="FAILED")
    machine.tree.add_session(3, creator="-1")
    assert set(machine.settle()) == {1, 2}
    assert machine.jobs == []
    assert machine.said("session 3 is left alone: firmware or the kernel made it")


def test_a_unit_that_is_offline_in_a_session_that_works_is_told(machine: Machine) -> None:
    """A hand-over right after a recovery loses the order to set it running; that of an administrator must stay."""
    machine.tree.add_session(1)
    for lun, state in ((1, "running"), (2, "offline"), (3, "transport-offline")):
        machine.tree.add_unit(1, lun, state=state)
    machine.tree.add_session(2, connection={"state": "down"}, state="FAILED")
    machine.tree.add_unit(2, 1, state="transport-offline")
    machine.settle()
    assert [text for level, text in machine.lines if level is Level.WARNING and "offline" in text] == [
        "session 1: it works, but its unit 2:0:0:2 and 1 more is offline; next: echo running > "
        "/sys/bus/scsi/devices/2:0:0:2/state"
    ], "the recovery of session 2 mends its own"


def test_what_is_assumed_is_said(machine: Machine) -> None:
    machine.tree.add_session(1, username="guest", password=UNREADABLE)
    machine.settle()
    assert (
        Level.WARNING,
        "session 1: known from sysfs; assumed: the login timeout, whether new units are to be looked for,"
        " our CHAP secret; next: make the node record, then have iscsid read it (systemctl reload iscsid)",
    ) in machine.lines


def test_what_is_assumed_alike_of_many_is_said_once(machine: Machine) -> None:
    for sid in (1, 2, 3, 5):
        machine.tree.add_session(sid)
    machine.settle()
    (line,) = [text for _, text in machine.lines if "assumed: " in text]
    assert line.startswith("sessions 1-3, 5: known from sysfs; assumed: the login timeout, ")


def test_what_was_handed_over_needs_no_word(machine: Machine) -> None:
    machine.tree.add_session(1)
    machine.settle(handed={1: description()})
    assert machine.lines == []


def test_what_is_told_of_waits_for_no_record_no_name_and_no_removal(machine: Machine) -> None:
    """1 works, 2 is down, of 3 only a name is known, 4 is half made, of 5 nobody has told."""
    machine.tree.add_session(1)
    machine.tree.add_session(2, state="FAILED", connection={"state": "failed"})
    machine.tree.add_session(3)
    machine.tree.add_session(4, connection=None, **NEVER)
    machine.tree.add_session(5)
    by_name = description(portal=Portal(address=UNRESOLVED), stored_address="storage.example.org")
    told = {1: description(), 2: description(), 3: by_name, 4: description()}
    found = adoption.look(machine.environment, handed=told, state={})
    assert set(adoption.at_once(found)) == {1, 2}
    assert not machine.asked
    completed = asyncio.run(adoption.complete(found, machine.environment, machine._records))
    assert machine.asked, "for the last one"
    assert {1, 2, 3, 5} <= {item.sid for item in completed if item.known is not None}


def test_a_half_made_session_somebody_knows_of_is_completed(machine: Machine) -> None:
    machine.tree.add_session(1, connection={"state": "bound"}, **NEVER)
    machine.tree.add_session(2, connection={"state": "bound"}, targetname=f"{TARGET}2", **NEVER)
    other = RecordName(target=f"{TARGET}2", tpgt=0, address="10.0.2.2", port=3260, iface="default")
    machine.records[other] = replace(description(target_name=f"{TARGET}2"), source=Source.RECORD)
    assert set(machine.settle(state={1: description()})) == {1, 2}
    assert machine.jobs == []


@pytest.mark.parametrize("connection", [None, {"state": "bound"}])
def test_a_half_made_session_nobody_knows_of_is_removed(
    machine: Machine, connection: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.tree.add_session(1, connection=connection, **NEVER)
    machine.tree.add_session(2)
    monkeypatch.setattr(adoption, "_remove", machine.remove)
    assert set(machine.settle()) == {2}
    assert machine.removed == [1]
    assert machine.jobs == ["removal of session 1"]
    assert machine.said("session 1 was left half made by a process that is gone, and is removed")


def test_one_without_a_connection_cannot_be_completed_whoever_knows_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.tree.add_session(1, connection=None, **NEVER)
    monkeypatch.setattr(adoption, "_remove", machine.remove)
    assert machine.settle(state={1: description()}) == {}
    assert machine.removed == [1]


def test_a_removal_that_fails_is_told(machine: Machine) -> None:
    machine.tree.add_session(1, **NEVER)
    assert machine.settle() == {}
    assert machine.said("session 1, left half made by a process that is gone, stays: handoff: no kernel here")


def test_a_removal_waits_for_no_memory_while_it_keeps_others_from_asking_the_kernel(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[bool] = []
    monkeypatch.setattr("iscsiboot.keeper.hygiene.set_io_flusher", marks.append)
    machine.tree.add_session(1, **NEVER)
    machine.settle()
    assert marks == [True]


def named(machine: Machine, sid: int, host: str) -> None:
    machine.tree.add_session(
        sid,
        state="FAILED",
        targetname=f"{TARGET}{sid}",
        connection={"persistent_address": host, "address": UNREADABLE, "state": "down"},
    )


def test_names_are_looked_up_in_hands_and_a_failure_costs_its_own_session(machine: Machine) -> None:
    named(machine, 1, "one.example.org")
    named(machine, 2, "two.example.org")
    machine.names["one.example.org"] = "10.1.1.1"
    known = machine.settle()
    assert {sid: str(item.request.portal) for sid, item in known.items()} == {1: "10.1.1.1:3260"}
    assert known[1].request.stored_address == "one.example.org"
    assert machine.jobs == ["look-up of session 1's portal", "look-up of session 2's portal"]
    assert machine.said("session 2 is not guarded: its portal two.example.org:3260 has no address: no such name")
