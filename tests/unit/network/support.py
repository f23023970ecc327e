# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builders and fakes for the network tests: requests from keywords, a kernel and a DHCP server in memory."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_interface
from pathlib import Path
from typing import Any

from iscsiboot.model.boot import BootNic, Source, Sourced
from iscsiboot.model.timeline import Mark
from iscsiboot.network.dhcp_message import MessageType
from iscsiboot.network.dhcp_options import Option, join_options
from iscsiboot.network.environment import NetworkEnvironment
from iscsiboot.network.facts import IFF_LOWER_UP, IFF_RUNNING, IFF_UP, AddressFact, LinkFact, NetworkFacts, RouteFact
from iscsiboot.network.lease import DhcpLease
from iscsiboot.network.request import NicRequest
from iscsiboot.network.steps import AddAddress, AddRoute, CreateVlan, Device, LinkUp, SetMtu, Step

MAC = "52:54:00:aa:00:01"
MAC_BYTES = bytes.fromhex(MAC.replace(":", ""))
READY = IFF_UP | IFF_LOWER_UP | IFF_RUNNING
SOURCE = Source(kind="arguments", where="test")


def given(value: Any) -> Sourced[Any]:
    return Sourced(value, SOURCE)


def request(
    *, destinations: Iterable[str] = (), mtu: int | None = None, dns: Iterable[str] = (), **fields: Any
) -> NicRequest:
    """A request; addresses as text, MAC preset."""
    fields.setdefault("mac", MAC)
    values: dict[str, Any] = {
        key: given(ip_address(value) if key in ("address", "gateway") else value)
        for key, value in fields.items()
        if value is not None
    }
    nic = BootNic(index=0, dns=tuple(given(ip_address(text)) for text in dns), **values)
    return NicRequest(nic=nic, destinations=tuple(ip_address(text) for text in destinations), mtu=mtu)


def link(index: int = 2, name: str = "eth0", **fields: Any) -> LinkFact:
    fields.setdefault("mac", MAC)
    fields.setdefault("flags", READY)
    return LinkFact(index=index, name=name, **fields)


def address(text: str, index: int = 2, flags: int = 0) -> AddressFact:
    return AddressFact(index=index, address=ip_interface(text), flags=flags)


def route(text: str, index: int | None = 2, gateway: str | None = None, metric: int = 0) -> RouteFact:
    return RouteFact(
        destination=ip_interface(text).network,
        index=index,
        gateway=ip_address(gateway) if gateway else None,
        metric=metric,
    )


def lease(text: str = "10.0.0.5/24", **fields: Any) -> DhcpLease:
    fields.setdefault("server", IPv4Address("10.0.0.1"))
    fields.setdefault("client_id", b"\1" + MAC_BYTES)
    fields.setdefault("lease_seconds", 3600)
    fields.setdefault("obtained", 0.0)
    return DhcpLease(address=IPv4Interface(text), **fields)


def server_message(
    kind: MessageType | int,
    xid: int,
    *,
    yiaddr: str = "10.0.0.5",
    mac: bytes = MAC_BYTES,
    options: Mapping[int, bytes] | None = None,
    server: str | None = "10.0.0.1",
    op: int = 2,
    sname: bytes = b"",
    file: bytes = b"",
) -> bytes:
    """A reply of a DHCP server, byte for byte, with a mask of /24 and an hour's lease unless told otherwise."""
    parts: dict[int, bytes] = {Option.MESSAGE_TYPE: bytes((kind,))}
    if server is not None:
        parts[Option.SERVER_ID] = IPv4Address(server).packed
    if kind != MessageType.NAK:
        parts |= {Option.SUBNET_MASK: b"\xff\xff\xff\0", Option.LEASE_TIME: (3600).to_bytes(4, "big")}
    parts |= options or {}
    head = bytes((op, 1, 6, 0)) + xid.to_bytes(4, "big") + bytes(8) + IPv4Address(yiaddr).packed + bytes(8)
    body = mac.ljust(16, b"\0") + sname.ljust(64, b"\0") + file.ljust(128, b"\0") + b"\x63\x82\x53\x63"
    return head + body + join_options(parts.items())


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeSelector(selectors.SelectSelector):
    """Never waits: what is not readable at once makes the clock jump, and the script run, to the next moment."""

    def __init__(self, clock: Clock, script: list[tuple[float, Callable[[], None]]]) -> None:
        super().__init__()
        self._clock = clock
        self._script = script

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found:
            return found
        until = self._clock.now + (timeout or 0.0)
        if self._script and self._script[0][0] <= until:
            self._clock.now, happen = self._script.pop(0)
            happen()
            return super().select(0)
        self._clock.now = until
        return []


class FakeKernel:
    """rtnetlink in memory: carries steps out on its facts. ``refuse`` maps a step's class to the error it gives."""

    def __init__(self, facts: NetworkFacts) -> None:
        self.facts = facts
        self.steps: list[Step] = []
        self.refuse: dict[type, OSError] = {}
        self.forget: set[type] = set()
        self.exists: set[type] = set()
        self.snapshots = 0
        self.closed = False
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)

    def fileno(self) -> int:
        return self._ours.fileno()

    def drain(self) -> None:
        try:
            while True:
                self._ours.recv(16)
        except BlockingIOError:
            return

    def snapshot(self) -> NetworkFacts:
        self.snapshots += 1
        return self.facts

    def close(self) -> None:
        self.closed = True
        self._ours.close()
        self._theirs.close()

    def change(self, facts: NetworkFacts) -> None:
        """Something outside happened."""
        self.facts = facts
        self._theirs.send(b"!")

    def execute(self, step: Step) -> bool:
        if type(step) in self.refuse:
            raise self.refuse[type(step)]
        if type(step) in self.exists:
            return False
        self.steps.append(step)
        if type(step) not in self.forget:
            self.facts = self._after(step)
        return True

    def _index(self, device: Device) -> int:
        if device.index is not None:
            return device.index
        found = self.facts.named(device.name)
        assert found is not None, f"{device.name} was not created"
        return found.index

    def _after(self, step: Step) -> NetworkFacts:
        facts = self.facts
        if isinstance(step, CreateVlan):
            base = facts.link(self._index(step.base))
            assert base is not None
            index = max(item.index for item in facts.links) + 1
            made = LinkFact(index=index, name=step.name, mac=base.mac, kind="vlan", link=base.index,
                            vlan_id=step.vlan_id, mtu=base.mtu)  # fmt: skip
            return replace(facts, links=(*facts.links, made))
        index = self._index(step.device)
        if isinstance(step, SetMtu):
            return self._with_link(index, mtu=step.mtu)
        if isinstance(step, LinkUp):
            return self._with_link(index, flags=READY)
        if isinstance(step, AddAddress):
            facts = replace(facts, addresses=(*facts.addresses, AddressFact(index=index, address=step.address)))
            if step.address.network.prefixlen == step.address.max_prefixlen:
                return facts
            return replace(facts, routes=(*facts.routes, RouteFact(destination=step.address.network, index=index)))
        assert isinstance(step, AddRoute)
        made_route = RouteFact(destination=step.destination, index=index, gateway=step.gateway, metric=step.metric)
        return replace(facts, routes=(*facts.routes, made_route))

    def _with_link(self, index: int, **fields: Any) -> NetworkFacts:
        links = tuple(replace(item, **fields) if item.index == index else item for item in self.facts.links)
        return replace(self.facts, links=links)


class FakeDhcpPort:
    """A DHCP socket whose server is a function from a client's payload to replies."""

    def __init__(self, answer: Callable[[bytes], Iterable[bytes]]) -> None:
        self.sent: list[bytes] = []
        self.closed = False
        self._answer = answer
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)

    def fileno(self) -> int:
        return self._ours.fileno()

    def send(self, payload: bytes) -> None:
        self.sent.append(payload)
        for reply in self._answer(payload):
            self._theirs.send(reply)

    def receive(self) -> bytes | None:
        return self._ours.recv(1 << 16)

    def close(self) -> None:
        self.closed = True
        self._ours.close()
        self._theirs.close()


class Lines:
    """A report that keeps everything."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.marks: list[tuple[Mark, str]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def mark(self, mark: Mark, detail: str = "") -> None:
        self.marks.append((mark, detail))


def world(
    directory: Path,
    kernel: FakeKernel,
    *,
    answer: Callable[[bytes], Iterable[bytes]] = lambda payload: (),
    script: Iterable[tuple[float, Callable[[], None]]] = (),
) -> tuple[NetworkEnvironment, Clock, list[FakeDhcpPort]]:
    """An environment of fakes. ``script`` is what happens at which time (the clock starts at 100)."""
    clock = Clock()
    ports: list[FakeDhcpPort] = []
    moments = list(script)

    def open_dhcp(index: int) -> FakeDhcpPort:
        ports.append(FakeDhcpPort(answer))
        return ports[-1]

    environment = NetworkEnvironment(
        sysfs=directory / "sys",
        run=directory / "run",
        etc=directory,
        now=clock,
        entropy=lambda count: b"\x80" * count,
        open_rtnl=lambda sysfs: kernel,
        open_dhcp=open_dhcp,
        open_selector=lambda: FakeSelector(clock, moments),
    )
    return environment, clock, ports
