# SPDX-License-Identifier: LGPL-2.1-or-later
"""The loop and its tasks on a kernel, a DHCP server and a clock in memory."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.timeline import Mark
from iscsiboot.network.bringup import NicResult, bring_up
from iscsiboot.network.dhcp_message import MessageType
from iscsiboot.network.dhcp_options import Option
from iscsiboot.network.environment import NetworkEnvironment
from iscsiboot.network.facts import IFA_F_DADFAILED, IFA_F_TENTATIVE, IFF_UP, NetworkFacts
from iscsiboot.network.request import NicRequest
from iscsiboot.network.steps import AddAddress, AddRoute, CreateVlan, LinkUp, SetMtu
from tests.unit.network.support import (
    READY,
    FakeDhcpPort,
    FakeKernel,
    Lines,
    address,
    link,
    request,
    route,
    server_message,
    world,
)

STATIC: dict[str, Any] = {"address": "10.0.0.9", "prefix_len": 24, "gateway": "10.0.0.1"}


def run(
    environment: NetworkEnvironment, *wanted: NicRequest, seconds: float = 60.0, lines: Lines | None = None
) -> tuple[NicResult, ...]:
    deadline = Deadline.after(seconds, now=environment.now(), reason="the network")
    return bring_up(wanted, environment=environment, deadline=deadline, report=lines or Lines())


def generous(payload: bytes) -> Iterable[bytes]:
    """A DHCP server that says yes to everything, with one DNS server and one router."""
    xid = int.from_bytes(payload[4:8], "big")
    options: dict[int, bytes] = {Option.DNS: bytes((10, 0, 0, 53)), Option.ROUTER: bytes((10, 0, 0, 1))}
    kind = MessageType.OFFER if payload[242] == MessageType.DISCOVER else MessageType.ACK
    yield server_message(kind, xid, options=options)


def fault(result: NicResult) -> IscsiBootError:
    assert result.error is not None
    assert result.error.stage is Stage.NETWORK
    assert result.error.subject.startswith("NIC ")
    assert result.error.hint
    return result.error


def test_static(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(flags=0),)))
    environment, _clock, ports = world(tmp_path, kernel)
    lines = Lines()
    (result,) = run(environment, request(**STATIC, dns=["10.0.0.53"]), lines=lines)
    assert (result.error, result.netdev, result.changed) == (None, "eth0", True)
    assert [str(item) for item in result.addresses] == ["10.0.0.9/24"]
    assert [type(step) for step in kernel.steps] == [LinkUp, AddAddress, AddRoute]
    assert lines.marks == [(Mark.LINK, "eth0"), (Mark.ADDRESS, "eth0 10.0.0.9/24")]
    assert "nameserver 10.0.0.53" in (tmp_path / "resolv.conf").read_text()
    assert kernel.closed
    assert ports == []


def test_in_place_takes_one_look_and_no_step(tmp_path: Path) -> None:
    default = route("0.0.0.0/0", gateway="10.0.0.1")
    kernel = FakeKernel(NetworkFacts(links=(link(),), addresses=(address("10.0.0.9/24"),), routes=(default,)))
    environment, _clock, _ports = world(tmp_path, kernel)
    (result,) = run(environment, request(**STATIC))
    assert (result.error, result.changed, kernel.steps, kernel.snapshots) == (None, False, [], 1)


def test_dhcp_and_a_second_run_that_remembers(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(flags=0),)))
    environment, _clock, ports = world(tmp_path, kernel, answer=generous)
    (result,) = run(environment, request(dhcp=True, destinations=["10.9.9.9"]))
    assert result.error is None
    assert result.lease is not None
    assert [str(item) for item in (*result.addresses, *result.dns)] == ["10.0.0.5/24", "10.0.0.53"]
    assert [port.closed for port in ports] == [True]
    again = FakeKernel(kernel.facts)
    environment, _clock, ports = world(tmp_path, again)
    (second,) = run(environment, request(dhcp=True, destinations=["10.9.9.9"]))
    assert (second.changed, second.lease, ports) == (False, result.lease, [])


@pytest.mark.parametrize(
    "text", ["", "{", '{"version": 2, "nics": []}', '{"version": 1, "nics": [{"lease": {}}, 5]}', "[]"]
)
def test_a_damaged_state_file_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / "run/iscsiboot").mkdir(parents=True)
    (tmp_path / "run/iscsiboot/network.json").write_text(text)
    kernel = FakeKernel(NetworkFacts(links=(link(),), addresses=(address("10.0.0.5/24"),)))
    (result,) = run(world(tmp_path, kernel)[0], request(dhcp=True))
    assert (result.error, result.lease) == (None, None)
    assert json.loads((tmp_path / "run/iscsiboot/network.json").read_text())["version"] == 1


def test_everything_comes_late(tmp_path: Path) -> None:
    """Driver after 5 s, carrier after 10 s, DHCP server after 30 s: the end is at most one retransmission later."""
    kernel = FakeKernel(NetworkFacts())
    served: list[bool] = []

    def answer(payload: bytes) -> Iterable[bytes]:
        return generous(payload) if served else ()

    script = [
        (105.0, lambda: kernel.change(NetworkFacts(links=(link(flags=0),)))),
        (130.0, lambda: served.append(True)),
    ]
    environment, clock, _ports = world(tmp_path, kernel, answer=answer, script=script)
    (result,) = run(environment, request(dhcp=True))
    assert result.error is None
    assert 130.0 <= clock.now <= 139.0


def test_carrier_comes_late(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(flags=IFF_UP),)))
    script = [(120.0, lambda: kernel.change(NetworkFacts(links=(link(flags=READY),))))]
    environment, clock, _ports = world(tmp_path, kernel, script=script)
    (result,) = run(environment, request(**STATIC))
    assert (result.error, clock.now) == (None, 120.0)


def test_nic_renamed_in_the_middle(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(flags=IFF_UP),)))
    script = [(101.0, lambda: kernel.change(NetworkFacts(links=(link(name="enp3s0"),))))]
    environment, _clock, _ports = world(tmp_path, kernel, script=script)
    (result,) = run(environment, request(**STATIC))
    assert (result.error, result.netdev) == (None, "enp3s0")


def test_device_that_comes_back_with_another_index_gets_a_new_dhcp_client(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(2),)))
    script = [
        (101.0, lambda: kernel.change(NetworkFacts())),
        (102.0, lambda: kernel.change(NetworkFacts(links=(link(7),)))),
    ]
    environment, _clock, ports = world(tmp_path, kernel, script=script)
    (result,) = run(environment, request(dhcp=True), seconds=10)
    assert fault(result).retryable
    assert [port.closed for port in ports] == [True, True]


@pytest.mark.parametrize(
    ("facts", "wanted", "words"),
    [
        (NetworkFacts(links=(link(mac="52:54:00:00:00:07"),)), request(), "NICs present: eth0 (52:54:00:00:00:07)"),
        (NetworkFacts(), request(), "NICs present: none"),
        (NetworkFacts(links=(link(flags=IFF_UP),)), request(), "eth0 has no carrier"),
        (NetworkFacts(links=(link(),)), request(dhcp=True), "no answer from a DHCP server in 30 s"),
        (NetworkFacts(links=(link(),)), request(origin=4), "no address: no router advertisement in 30 s"),
        (
            NetworkFacts(links=(link(),), addresses=(address("fd00::9/64", flags=IFA_F_TENTATIVE),)),
            request(address="fd00::9"),
            "duplicate address detection did not end",
        ),
    ],
    ids=["other-nic", "no-nic", "no-carrier", "no-server", "no-router", "endless-check"],
)
def test_deadline_names_what_was_waited_for(
    tmp_path: Path, facts: NetworkFacts, wanted: NicRequest, words: str
) -> None:
    environment, clock, _ports = world(tmp_path, FakeKernel(facts))
    (result,) = run(environment, wanted, seconds=30)
    error = fault(result)
    assert words in error.cause
    assert (error.retryable, error.exit_code, clock.now) == (True, ExitCode.TRANS_TIMEOUT, 130.0)


def test_refusals_of_a_server_are_in_the_error(tmp_path: Path) -> None:
    def lie(payload: bytes) -> Iterable[bytes]:
        yield server_message(MessageType.OFFER, int.from_bytes(payload[4:8], "big"), yiaddr="224.0.0.1")

    environment, _clock, _ports = world(tmp_path, FakeKernel(NetworkFacts(links=(link(),))), answer=lie)
    (result,) = run(environment, request(dhcp=True), seconds=5)
    assert "no usable answer from a DHCP server" in fault(result).cause
    assert "it offers 224.0.0.1" in fault(result).cause


def test_unconfirmed_address_is_used_when_its_prefix_is_known(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(),)))
    environment, clock, _ports = world(tmp_path, kernel)
    (result,) = run(environment, request(**STATIC, dhcp=True))
    assert (result.error, [str(item) for item in result.addresses]) == (None, ["10.0.0.9/24"])
    assert clock.now < 110
    assert result.request.nic.dhcp is not None


def test_unconfirmed_address_without_prefix_is_not_used(tmp_path: Path) -> None:
    environment, _clock, _ports = world(tmp_path, FakeKernel(NetworkFacts(links=(link(),))))
    (result,) = run(environment, request(address="10.0.0.9", dhcp=True), seconds=30)
    assert "no answer from a DHCP server" in fault(result).cause


def test_duplicate_address(tmp_path: Path) -> None:
    taken = address("fd00::9/64", flags=IFA_F_DADFAILED | IFA_F_TENTATIVE)
    environment, _clock, _ports = world(tmp_path, FakeKernel(NetworkFacts(links=(link(),), addresses=(taken,))))
    (result,) = run(environment, request(address="fd00::9"))
    assert "another machine on the link uses fd00::9" in fault(result).cause
    assert not fault(result).retryable


def test_ipv4_does_not_wait_for_the_link_local_check(tmp_path: Path) -> None:
    facts = NetworkFacts(links=(link(),), addresses=(address("fe80::1/64", flags=IFA_F_TENTATIVE),))
    environment, clock, _ports = world(tmp_path, FakeKernel(facts))
    (result,) = run(environment, request(**STATIC))
    assert (result.error, clock.now) == (None, 100.0)


@pytest.mark.parametrize(
    ("step", "code", "wanted", "words", "hint"),
    [
        (LinkUp, errno.EPERM, request(**STATIC), "cannot set eth0 up: Operation not permitted", "root"),
        (LinkUp, errno.EIO, request(**STATIC), "cannot set eth0 up", "firmware"),
        (CreateVlan, errno.EOPNOTSUPP, request(**STATIC, vlan=5), "cannot create VLAN device eth0.5", "8021q"),
        (SetMtu, errno.EINVAL, request(**STATIC, mtu=9000), "cannot set MTU of eth0 to 9000", "MTU"),
        (AddAddress, errno.EACCES, request(address="fd00::9"), "cannot add address fd00::9/64", "disable_ipv6"),
        (AddAddress, errno.ENOBUFS, request(**STATIC), "cannot add address 10.0.0.9/24", "kernel"),
        (LinkUp, errno.ENODEV, request(**STATIC), "cannot set eth0 up: No such device", "firmware"),
    ],
)
def test_a_refused_step_is_told(
    tmp_path: Path, step: type, code: int, wanted: NicRequest, words: str, hint: str
) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(flags=0),)))
    kernel.refuse[step] = OSError(code, os.strerror(code))
    (result,) = run(world(tmp_path, kernel)[0], wanted)
    assert words in fault(result).cause
    assert hint in fault(result).hint


def test_a_refused_route_stops_nothing_that_needs_it_not(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(),)))
    kernel.refuse[AddRoute] = OSError(errno.ENETUNREACH, "Network is unreachable")
    lines = Lines()
    (result,) = run(world(tmp_path, kernel)[0], request(**STATIC), lines=lines)
    assert result.error is None
    assert any("going on without" in note for note in lines.notes)
    kernel = FakeKernel(NetworkFacts(links=(link(),)))
    kernel.refuse[AddRoute] = OSError(errno.ENETUNREACH, "Network is unreachable")
    (result,) = run(world(tmp_path, kernel)[0], request(**STATIC, destinations=["10.9.9.9"]))
    assert "no route to 10.9.9.9 from 10.0.0.9/24" in fault(result).cause


def test_somebody_was_quicker(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(),), addresses=(address("10.0.0.9/24"),)))
    kernel.exists.add(AddRoute)
    (result,) = run(world(tmp_path, kernel)[0], request(**STATIC))
    assert (result.error, result.changed) == (None, False)


def test_taken_vlan_name(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(),)))
    kernel.exists.add(CreateVlan)
    (result,) = run(world(tmp_path, kernel)[0], request(**STATIC, vlan=5))
    assert "a device with this name exists" in fault(result).cause


def test_a_step_that_does_not_hold_ends(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(flags=0),)))
    kernel.forget.add(LinkUp)
    (result,) = run(world(tmp_path, kernel)[0], request(**STATIC))
    assert "undone by somebody each time" in fault(result).cause
    assert len(kernel.steps) == 3


def test_dead_nic_leaves_the_others_and_has_only_the_grace(tmp_path: Path) -> None:
    other = "52:54:00:aa:00:02"
    kernel = FakeKernel(NetworkFacts(links=(link(), link(3, "eth1", mac=other, flags=IFF_UP))))
    environment, clock, _ports = world(tmp_path, kernel)
    dead = request(mac=other, address="10.1.0.9", prefix_len=24)
    results = run(environment, dead, request(**STATIC, destinations=["10.0.0.1"]), seconds=300)
    assert "eth1 has no carrier" in fault(results[0]).cause
    assert (results[1].error, clock.now) == (None, 100.0 + environment.straggler_seconds)


def test_no_grace_runs_for_a_nic_that_reaches_no_target(tmp_path: Path) -> None:
    other = "52:54:00:aa:00:02"
    kernel = FakeKernel(NetworkFacts(links=(link(), link(3, "eth1", mac=other, flags=IFF_UP))))
    environment, clock, _ports = world(tmp_path, kernel)
    run(environment, request(mac=other, address="10.1.0.9"), request(**STATIC), seconds=300)
    assert clock.now == 400.0


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (request(mac=None), "neither a MAC nor a device"),
        (request(mac="52:54:00:aa:00"), "not six hexadecimal bytes"),
        (request(mac="x\n\x1b[31m"), "not six hexadecimal bytes"),
        (request(mac="01:00:5e:00:00:01"), "group address"),
        (request(vlan=4095), "VLAN 4095"),
        (request(vlan=0), "VLAN 0"),
        (request(mtu=68), "MTU 68"),
        (request(mtu=70000), "MTU 70000"),
        (request(address="224.0.0.1"), "224.0.0.1 is not an address a NIC can have"),
        (request(address="127.0.0.1"), "127.0.0.1"),
        (request(address="255.255.255.255"), "255.255.255.255"),
        (request(address="10.0.0.9", prefix_len=33), "prefix /33"),
    ],
)
def test_impossible_requests_are_refused_untouched(tmp_path: Path, wanted: NicRequest, words: str) -> None:
    kernel = FakeKernel(NetworkFacts(links=(link(flags=0),)))
    (result,) = run(world(tmp_path, kernel)[0], wanted)
    error = fault(result)
    assert words in error.cause
    assert (error.retryable, error.exit_code, kernel.steps) == (False, ExitCode.INVAL, [])
    assert error.line().isprintable()


@pytest.mark.parametrize("error", [OSError(errno.EPERM, "no"), ImportError("No module named 'pyroute2'")])
def test_no_rtnetlink_fails_every_nic(tmp_path: Path, error: Exception) -> None:
    def refuse(sysfs: Path) -> FakeKernel:
        raise error

    environment = replace(world(tmp_path, FakeKernel(NetworkFacts()))[0], open_rtnl=refuse)
    results = run(environment, request(), request(netdev="eth1"))
    assert len([fault(result) for result in results]) == 2


def test_no_packet_socket_and_no_ethernet(tmp_path: Path) -> None:
    def refuse(index: int) -> Any:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported")

    environment = replace(world(tmp_path, FakeKernel(NetworkFacts(links=(link(),))))[0], open_dhcp=refuse)
    assert "af_packet" in fault(run(environment, request(dhcp=True))[0]).hint
    infiniband = link(mac="80:00:" + ":".join(["01"] * 18))
    environment = world(tmp_path, FakeKernel(NetworkFacts(links=(infiniband,))))[0]
    assert "no Ethernet" in fault(run(environment, request(mac=None, netdev="eth0"))[0]).cause


def test_nothing_asked_nothing_touched(tmp_path: Path) -> None:
    kernel = FakeKernel(NetworkFacts())
    assert run(world(tmp_path, kernel)[0]) == ()
    assert (kernel.snapshots, list(tmp_path.iterdir())) == (0, [])
    kernel.close()


def test_unwritable_roots_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a directory should be")
    kernel = FakeKernel(NetworkFacts(links=(link(),)))
    environment = replace(world(tmp_path, kernel)[0], etc=tmp_path / "absent")
    lines = Lines()
    (result,) = run(environment, request(**STATIC, dns=["10.0.0.53"]), lines=lines)
    assert result.error is None
    assert len([note for note in lines.notes if "was not written" in note]) == 2


def test_rtnetlink_that_fails_later_fails_every_nic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKernel(NetworkFacts())

    def refuse() -> NetworkFacts:
        raise OSError(errno.EAGAIN, "the kernel's network tables changed during every dump")

    monkeypatch.setattr(kernel, "snapshot", refuse)
    (result,) = run(world(tmp_path, kernel)[0], request())
    assert "changed during every dump" in fault(result).cause
    assert kernel.closed


@pytest.mark.parametrize("call", ["send", "receive"])
def test_a_dhcp_socket_that_fails_once_is_survived(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, clock, ports = world(tmp_path, FakeKernel(NetworkFacts(links=(link(),))), answer=generous)
    whole = getattr(FakeDhcpPort, call)
    failed: list[bool] = []

    def once(port: FakeDhcpPort, *arguments: bytes) -> bytes | None:
        if not failed:
            failed.append(True)
            if call == "receive":
                whole(port)  # the datagram is lost
            raise OSError(errno.ENETDOWN, "Network is down")
        answer: bytes | None = whole(port, *arguments)
        return answer

    monkeypatch.setattr(FakeDhcpPort, call, once)
    lines = Lines()
    (result,) = run(environment, request(dhcp=True), lines=lines)
    assert (result.error, len(ports)) == (None, 1)
    assert 101.0 <= clock.now <= 103.0, "one retransmission"
    assert any("Network is down" in note for note in lines.notes)
