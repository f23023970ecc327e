# SPDX-License-Identifier: LGPL-2.1-or-later
"""SendTargets with the settings of a record, over loopback: attempts, words, bindings, credentials."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.admin import discovery_session as module
from iscsiboot.admin.discovery_session import Answer, FoundPortal, SendTargets
from iscsiboot.admin.discovery_settings import BadSettings, overall_deadline, settings_of
from iscsiboot.database.initiator_name import InitiatorName
from iscsiboot.database.record import discovery_defaults, iface_defaults
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.pdu.control import TextResponse
from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.orders.discovery import DiscoverySettings
from iscsiboot.sysfs.netdevs import netdev_of
from tests.doubles.directory import always, numbered
from tests.doubles.faults import HOSTILE_RECORDS, closed_before, on
from tests.doubles.server import TargetServer, refusing_port
from tests.doubles.session import Plan
from tests.doubles.target import Script, closing, redirect, silent, status
from tests.unit.admin.discovery_kit import NAME, A, B, at, offering, serving
from tests.unit.session.links import LONG, black_hole, nothing_left_open

PREFIX = "discovery.sendtargets."
USER, SECRET, TARGET, PROOF = "user", "secretsecret12", "target", "othersecret123"
MUTUAL = Script(user=(USER, SECRET.encode()), own=(TARGET, PROOF.encode()))


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    with nothing_left_open():
        yield


@dataclass
class Asked:
    """A discovery and the words it was told in."""

    said: list[str] = field(default_factory=list)
    noticed: list[str] = field(default_factory=list)
    paused: list[int] = field(default_factory=list)

    def settings(self, address: str, port: int, **values: str) -> DiscoverySettings:
        """Those of a record with ``values``, by the last parts of their names."""
        given = {"reopen_max": "0", "timeo.login_timeout": "5", "timeo.active_timeout": "5"}
        given |= {name.replace("__", "."): value for name, value in values.items()}
        algorithms = given.pop("chap_algs", "MD5")
        record = discovery_defaults("sendtargets").changed(
            {f"{PREFIX}{name}": value for name, value in given.items()}
            | {f"{PREFIX}address": address, f"{PREFIX}port": str(port), "node.session.auth.chap_algs": algorithms}
        )
        return settings_of(record, self.noticed.append)

    def run(
        self, address: str, port: int, iface: dict[str, str] | None = None, sysfs: str = "/sys", **values: str
    ) -> Answer:
        settings = self.settings(address, port, **values)

        def pause(failures: int) -> float:
            self.paused.append(failures)
            return 0.0

        bound = iface_defaults("i1" if iface else "default").changed(iface or {})
        return SendTargets(
            settings=settings,
            initiator=InitiatorName(NAME, "alias", "test"),
            iface=bound,
            deadline=Deadline.after(LONG, now=time.monotonic(), reason="a test"),
            say=self.said.append,
            notice=self.noticed.append,
            sysfs=sysfs,
            pause_after=pause,
        ).run()

    def of(self, server: TargetServer, **values: Any) -> Answer:
        return self.run(server.host, server.port, **values)


def found(*items: tuple[str, str, int, int]) -> list[FoundPortal]:
    return [FoundPortal(*item) for item in items]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_answer(host: str) -> None:
    asked = Asked()
    addresses = ("10.0.0.2:3260,2", "[fd00::1]:3261,3", "disks.example:3260")
    with serving(offering(at(A, *addresses), at(B))) as server:
        answer = asked.of(server)
        login = server.full_targets[0].login
    assert answer == Answer(
        found=found(
            (A, "10.0.0.2", 3260, 2),
            (A, "fd00::1", 3261, 3),
            (A, "disks.example", 3260, -1),
            (B, "192.0.2.1", 3260, 1),
        )
    )
    assert (asked.said, asked.noticed, asked.paused) == ([], [], [])
    keys = dict(login.received)
    assert (keys["InitiatorName"], keys["InitiatorAlias"], keys["MaxRecvDataSegmentLength"]) == (NAME, "alias", "32768")


@pytest.mark.parametrize("address", ["0:0::1", "::1", "localhost"])
def test_without_an_address_it_is_where_the_administrator_said(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "resolve_all", lambda named: [Portal(address=parse_ip("::1"), port=named.port)])
    with serving(Plan(records=always(f"TargetName={A}\0".encode())), host="::1") as server:
        answer = Asked().run(address, server.port)
    assert answer.found == found((A, address, server.port, -1))


def test_after_a_redirect_it_is_where_the_answer_came_from() -> None:
    asked = Asked()
    with serving(Plan(records=always(f"TargetName={A}\0".encode()))) as last:
        first = Plan(login=Script(faults={0: redirect(f"127.0.0.1:{last.port}")}))
        with serving(first) as server:
            answer = asked.of(server)
    assert answer.found == found((A, "127.0.0.1", last.port, -1))
    assert asked.said == [], "a redirect is no failure"
    assert any("the target is at" in line for line in asked.noticed)


REFUSED = "cannot make connection to 127.0.0.1: Connection refused"


@pytest.mark.parametrize("retries", [0, 2, 5])
def test_refused(retries: int) -> None:
    asked = Asked()
    with refusing_port() as port:
        answer = asked.run("127.0.0.1", port, reopen_max=str(retries))
    assert asked.said == [REFUSED] * (retries + 1) + [f"connection login retries (reopen_max) {retries} exceeded"]
    assert asked.paused == list(range(1, retries + 1))
    assert answer.exit_code is ExitCode.PDU_TIMEOUT
    assert answer.error is not None
    assert answer.error.line() == (
        f"connect: 127.0.0.1:{port}: connection refused: nobody listens on that port; next: is the target running, "
        f"and is the port right; iscsiboot probe 127.0.0.1:{port} shows how far it gets"
    )


def test_a_black_hole() -> None:
    asked = Asked()
    with black_hole() as portal:
        answer = asked.run("127.0.0.1", portal.port, timeo__login_timeout="1")
    assert asked.said == ["connect to 127.0.0.1 timed out", "connection login retries (reopen_max) 0 exceeded"]
    assert answer.exit_code is ExitCode.PDU_TIMEOUT


def test_a_late_target_is_found_by_a_later_attempt() -> None:
    asked = Asked()
    with serving(Plan(login=Script(faults={0: closing})), Plan(records=numbered(2))) as server:
        answer = asked.of(server, reopen_max="3")
    assert (answer.exit_code, len(answer.found), asked.paused) == (ExitCode.SUCCESS, 2, [1])
    assert asked.said == [
        "Connection to Discovery Address 127.0.0.1 closed",
        "Login I/O error, failed to receive a PDU",
        "retrying discovery login to 127.0.0.1",
    ]


def test_a_broken_answer_leaves_nothing_of_itself() -> None:
    """What was told before a connection ended in the middle is no answer."""
    asked = Asked()
    half = Plan(
        records=numbered(40), text_segment=80, whole_pairs=True, faults=[on(TextResponse, closed_before, nth=9)]
    )
    with serving(half) as server:
        answer = asked.of(server, reopen_max="3")
        assert len(server.targets) == 1
    assert (answer.exit_code, answer.found) == (ExitCode.PDU_TIMEOUT, [])
    assert asked.said == ["Connection to Discovery Address 127.0.0.1 closed"]


def test_a_repeated_answer_is_no_sum() -> None:
    """After a time-out in the middle the next attempt begins with nothing."""
    slow = Plan(records=numbered(40), text_segment=80, whole_pairs=True, deaf_to=frozenset({Opcode.TEXT_REQUEST}))
    asked = Asked()
    with serving(slow, Plan(records=numbered(3))) as server:
        answer = asked.of(server, reopen_max="1", timeo__active_timeout="1")
        assert asked.said == [f"Discovery session to 127.0.0.1:{server.port} timed out."]
    assert len(answer.found) == 3


@pytest.mark.parametrize(
    ("fault", "exit_code", "connections"),
    [
        (status(2, 1), ExitCode.LOGIN_AUTH_FAILED, 1),
        (status(2, 3), ExitCode.FATAL_LOGIN, 1),
        (status(3, 1), ExitCode.PDU_TIMEOUT, 3),
        (silent, ExitCode.FATAL_LOGIN, 1),
    ],
    ids=["auth", "not-found", "unavailable", "silent"],
)
def test_logins_that_fail(fault: Any, exit_code: ExitCode, connections: int) -> None:
    asked = Asked()
    with serving(Plan(login=Script(faults={0: fault}))) as server:
        answer = asked.of(server, reopen_max="2", timeo__login_timeout="1")
        assert len(server.targets) == connections
    assert (answer.exit_code, answer.found) == (exit_code, [])
    assert answer.error is not None
    assert f"127.0.0.1:{server.port}" in answer.error.line()


def test_bad_records_cost_themselves() -> None:
    asked = Asked()
    records = always(at(A).record(), HOSTILE_RECORDS["path"], at(B).record())
    with serving(Plan(records=records)) as server:
        answer = asked.of(server)
    assert [item.target for item in answer.found] == [A, B]
    assert len(asked.said) == 1
    assert asked.said[0].startswith(f"ignored in the answer of 127.0.0.1:{server.port}: ")
    assert asked.said[0].isprintable()


def test_the_deadline_of_the_command_ends_the_attempts() -> None:
    asked = Asked()
    with refusing_port() as port:
        settings = asked.settings("127.0.0.1", port, reopen_max="50")
        began = time.monotonic()
        answer = SendTargets(
            settings=settings,
            initiator=InitiatorName(NAME, "alias", "test"),
            iface=iface_defaults("default"),
            deadline=overall_deadline(settings, 0.5),
            say=asked.said.append,
            notice=asked.noticed.append,
        ).run()
    assert time.monotonic() - began < 5
    assert answer.exit_code is ExitCode.PDU_TIMEOUT
    assert asked.said.count(REFUSED) == 1, "a pause of one second does not fit"


# Time-outs: a target that falls silent before its nth answer. CHAP has three, then comes the operational stage.


@pytest.mark.parametrize(
    ("answer", "waits", "seconds"),
    [
        pytest.param(1, {"auth": "1", "login": "9"}, 1, id="challenge"),
        pytest.param(2, {"auth": "1", "login": "9"}, 1, id="proof"),
        pytest.param(3, {"auth": "1", "login": "2"}, 2, id="operational: authenticated by then"),
        pytest.param(1, {"auth": "9", "login": "1"}, 1, id="the login's own limit is sooner"),
    ],
)
def test_the_authentication_has_a_time_out_of_its_own(answer: int, waits: dict[str, str], seconds: int) -> None:
    asked = Asked()
    times = {f"timeo__{name}_timeout": value for name, value in waits.items()}
    with serving(Plan(login=replace(MUTUAL, faults={answer: silent}))) as server:
        began = time.monotonic()
        result = asked.of(server, **times, **BOTH)
        took = time.monotonic() - began
        assert len(server.full_targets[0].login.requests) == answer + 1
    assert seconds <= took < seconds + 0.9
    assert asked.said[0] == f"Login response timeout. Waited {seconds} seconds and did not get response PDU."
    assert result.exit_code is ExitCode.FATAL_LOGIN
    assert result.error is not None
    assert f"waited {seconds} s for" in result.error.line()
    assert ("the authentication at" in result.error.line()) is (answer < 3 and waits["auth"] == "1")


def test_without_chap_there_is_no_authentication_to_wait_for() -> None:
    asked = Asked()
    with serving(Plan(login=Script(faults={0: silent}))) as server:
        asked.of(server, timeo__auth_timeout="1", timeo__login_timeout="2")
    assert asked.said[0] == "Login response timeout. Waited 2 seconds and did not get response PDU."


# Names.

UNKNOWN = "Name or service not known"
NO_SERVER = "Temporary failure in name resolution"


def test_every_address_of_a_name_gets_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(offering(at(A))) as server, refusing_port() as dead:
        portals = [Portal(address=parse_ip("127.0.0.1"), port=port) for port in (dead, server.port)]
        monkeypatch.setattr(module, "resolve_all", lambda named: portals)
        asked = Asked()
        answer = asked.run("disks.example", 3260, reopen_max="1")
    assert len(answer.found) == 1
    assert asked.said == [REFUSED]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, UNKNOWN), UNKNOWN),
        (socket.gaierror(socket.EAI_AGAIN, NO_SERVER), NO_SERVER),
        (UnicodeError("label too long"), UNKNOWN),
    ],
    ids=["unknown", "no-server", "no-name"],
)  # fmt: skip
def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch, reason: Exception, words: str) -> None:
    def resolve(named: NamedPortal) -> list[Portal]:
        raise IscsiBootError("no address", stage=Stage.CONNECT, exit_code=ExitCode.TRANS) from reason

    monkeypatch.setattr(module, "resolve_all", resolve)
    asked = Asked()
    answer = asked.run("disks.example", 3260, reopen_max="5")
    assert asked.said == [
        f"Cannot resolve host disks.example. getaddrinfo error: [{words}]",
        "cannot resolve host name disks.example",
        "cannot resolve host name disks.example",
    ]
    assert answer.exit_code is ExitCode.TRANS


def test_a_port_that_is_none() -> None:
    settings = replace(Asked().settings("10.0.0.1", 3260), port=99999)
    asked = Asked()
    answer = SendTargets(
        settings=settings,
        initiator=InitiatorName(NAME, "alias", "test"),
        iface=iface_defaults("default"),
        deadline=overall_deadline(settings, None),
        say=asked.said.append,
        notice=asked.noticed.append,
    ).run()
    assert answer.exit_code is ExitCode.INVAL
    assert answer.error is not None
    assert "99999" in answer.error.line()


# Interfaces.


def test_the_name_of_an_interface_counts() -> None:
    with serving(offering(at(A))) as server:
        Asked().of(server, iface={"iface.initiatorname": "iqn.2004-01.com.example:other"})
        assert dict(server.full_targets[0].login.received)["InitiatorName"] == "iqn.2004-01.com.example:other"


def test_an_interface_with_a_name_that_is_none() -> None:
    asked = Asked()
    answer = asked.run("127.0.0.1", 9, iface={"iface.initiatorname": "../x"})
    assert asked.said == ["Cannot perform discovery. Invalid Initiatorname."]
    assert answer.exit_code is ExitCode.INVAL


@pytest.mark.root
def test_bound_to_a_network_interface() -> None:
    with serving(offering(at(A))) as server:
        assert len(Asked().of(server, iface={"iface.net_ifacename": "lo"}).found) == 1
        asked = Asked()
        answer = asked.of(server, iface={"iface.net_ifacename": "nope0"})
    assert answer.exit_code is ExitCode.PDU_TIMEOUT
    assert asked.said[:2] == [
        "Could not bind connection 0 to nope0",
        "cannot make connection to 127.0.0.1: No such device",
    ]


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Two network interfaces."""
    for name, mac in (("lo", "00:00:00:00:00:00"), ("eth0", "52:54:00:12:34:56")):
        (tmp_path / "class/net" / name).mkdir(parents=True)
        (tmp_path / "class/net" / name / "address").write_text(f"{mac}\n")
    (tmp_path / "class/net/bonding_masters").write_text("\n")
    return tmp_path


@pytest.mark.root
def test_bound_by_hardware_address(sysfs: Path) -> None:
    with serving(offering(at(A))) as server:
        answer = Asked().of(server, iface={"iface.hwaddress": "00:00:00:00:00:00"}, sysfs=str(sysfs))
    assert len(answer.found) == 1


def test_a_hardware_address_nobody_has(sysfs: Path) -> None:
    asked = Asked()
    answer = asked.run("127.0.0.1", 9, iface={"iface.hwaddress": "52:54:00:00:00:01"}, sysfs=str(sysfs))
    assert asked.said == ["Cannot match 52:54:00:00:00:01 to net/scsi interface."]
    assert answer.exit_code is ExitCode.PDU_TIMEOUT


def test_finding_a_network_interface(sysfs: Path) -> None:
    assert netdev_of("52:54:00:12:34:56".upper(), str(sysfs)) == "eth0"
    assert netdev_of("52:54:00:12:34:57", str(sysfs)) is None
    assert netdev_of("52:54:00:12:34:56", "/nonexistent") is None


def test_a_bond_with_its_devices_address_is_not_meant(tmp_path: Path) -> None:
    """A login binds to the device; a discovery through the same interface has to leave by the same one."""
    for name in ("bond0", "eth0", "eth0.5"):
        (tmp_path / "class/net" / name).mkdir(parents=True)
        (tmp_path / "class/net" / name / "address").write_text("52:54:00:12:34:56\n")
    assert netdev_of("52:54:00:12:34:56", str(tmp_path)) == "bond0"
    (tmp_path / "class/net/eth0/device").mkdir()
    assert netdev_of("52:54:00:12:34:56", str(tmp_path)) == "eth0"


def test_default_binds_nothing() -> None:
    with serving(offering(at(A))) as server:
        iface = {"iface.net_ifacename": "default", "iface.hwaddress": "default"}
        assert len(Asked().of(server, iface=iface).found) == 1


# Credentials.


def chap(**values: str) -> dict[str, str]:
    return {f"auth__{name}": value for name, value in values.items()}


ONE_WAY = chap(username=USER, password=SECRET)
BOTH = ONE_WAY | chap(username_in=TARGET, password_in=PROOF)


@pytest.mark.parametrize("method", ["None", "CHAP"], ids=str)
@pytest.mark.parametrize("values", [ONE_WAY, BOTH], ids=["one-way", "mutual"])
def test_chap(values: dict[str, str], method: str) -> None:
    """As with the peer it is the secrets that decide, not authmethod."""
    with serving(Plan(login=MUTUAL, records=numbered(1))) as server:
        answer = Asked().of(server, auth__authmethod=method, **values)
        login = server.full_targets[0].login
    assert (len(answer.found), login.authenticated) == (1, True)
    assert dict(login.received)["CHAP_A"] == "5"


def test_algorithms_in_the_order_of_the_record() -> None:
    with serving(Plan(login=MUTUAL, records=numbered(1))) as server:
        Asked().of(server, chap_algs="SHA256,SHA1,MD5", **ONE_WAY)
        assert dict(server.full_targets[0].login.received)["CHAP_A"] == "7,6,5"


@pytest.mark.parametrize(
    ("values", "exit_code", "words"),
    [
        ({}, 24, "Login failed to authenticate with target "),
        (ONE_WAY | chap(password="wrongwrong1234"), 24, "Login failed to authenticate with target "),
        (BOTH | chap(password_in="wrongwrong1234"), 19, "discovery login to 127.0.0.1 failed, giving up 5"),
        (BOTH | chap(username_in="other"), 19, "discovery login to 127.0.0.1 failed, giving up 5"),
    ],
    ids=["none", "wrong", "wrong-proof", "wrong-prover"],
)  # fmt: skip
def test_chap_that_fails(values: dict[str, str], exit_code: int, words: str) -> None:
    asked = Asked()
    with serving(Plan(login=MUTUAL, records=numbered(1))) as server:
        answer = asked.of(server, reopen_max="3", **values)
        assert len(server.targets) == 1
    assert answer.exit_code == exit_code
    assert words in asked.said
    assert answer.error is not None
    for secret in (SECRET, PROOF, "wrongwrong1234"):
        assert secret not in answer.error.line() + repr(asked)


@pytest.mark.parametrize(("name", "missing"), [("username", "password"), ("password", "username")])
def test_a_refusal_names_the_missing_half_of_chap(name: str, missing: str) -> None:
    """A target that wants CHAP, and settings that have half of it: none is offered."""
    asked = Asked()
    with serving(Plan(login=MUTUAL, records=numbered(1))) as server:
        answer = asked.of(server, **chap(**{name: SECRET}))
    assert answer.exit_code == ExitCode.LOGIN_AUTH_FAILED
    assert answer.error is not None
    told = f"set discovery.sendtargets.auth.{missing}: without it no CHAP is offered, though its other half is set"
    assert answer.error.hint.endswith(told)
    assert SECRET not in answer.error.line()


@pytest.mark.parametrize(
    ("values", "exit_code", "said"),
    [
        (
            chap(username_in=TARGET, password_in=PROOF),
            ExitCode.SYSFS_LOOKUP,
            "CHAP configuration has incoming authentication credentials but has no outgoing credentials configured.",
        ),
        (
            ONE_WAY | chap(username_in=TARGET, password_in=SECRET),
            ExitCode.FATAL_LOGIN,
            "Login authentication failed with target , Local password same as remote",
        ),
    ],
    ids=["incoming-alone", "same"],
)
def test_credentials_that_contradict_each_other(values: dict[str, str], exit_code: ExitCode, said: str) -> None:
    with pytest.raises(BadSettings) as caught:
        Asked().settings("10.0.0.1", 3260, **values)
    assert (caught.value.exit_code, caught.value.said[0]) == (exit_code, said)
    for secret in (SECRET, PROOF):
        assert secret not in caught.value.line()


def test_settings() -> None:
    asked = Asked()
    values = {
        "reopen_max": "7",
        "timeo__login_timeout": "0",
        "timeo__active_timeout": "99999",
        "timeo__auth_timeout": "99999",
        "iscsi__MaxRecvDataSegmentLength": "100",
        "chap_algs": "SHA3-256,MD5",
    }
    settings = asked.settings("fd00::1", 3261, **values)
    assert (settings.attempts, settings.login_timeout, settings.text_timeout) == (8, 30, 3600)
    assert settings.auth_timeout == 3600
    assert asked.settings("fd00::1", 3261, timeo__auth_timeout="-3").auth_timeout == 0
    assert asked.settings("fd00::1", 3261).auth_timeout == 45
    asked.noticed.clear()
    asked.settings("fd00::1", 3261, **values)
    assert settings.segment_length == 32768
    assert settings.algorithms == (ChapAlgorithm.SHA3_256, ChapAlgorithm.MD5)
    assert settings.endpoint == "[fd00::1]:3261"
    assert len(asked.noticed) == 1
    assert "100 is outside" in asked.noticed[0]


def test_the_time_for_everything() -> None:
    settings = Asked().settings("10.0.0.1", 3260, reopen_max="5")
    assert overall_deadline(settings, 3.0, now=lambda: 100.0).at == 103.0
    assert overall_deadline(settings, None, now=lambda: 0.0).at == 6 * (5 + 3600) + 5
