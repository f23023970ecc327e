# SPDX-License-Identifier: LGPL-2.1-or-later
"""One NIC on its way up: looks at each new picture of the machine and does what is missing.

:class:`NicTask` has no memory of what the network should look like by now: each :meth:`NicTask.advance` starts from the
facts. A NIC that vanishes, is renamed or loses its carrier in the middle therefore just goes back a phase. What it does
remember: the lease, the steps it has done (so that a step that does not hold is noticed), and the last refusal.
"""

from __future__ import annotations

import selectors
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from ipaddress import IPv4Address

from iscsiboot.errors import IscsiBootError
from iscsiboot.model.portal import IpAddress
from iscsiboot.model.report import Report
from iscsiboot.model.timeline import Mark
from iscsiboot.network import failures
from iscsiboot.network.dhcp_machine import Bound, DhcpMachine, Unanswered
from iscsiboot.network.environment import DhcpPort, NetworkEnvironment, RtnlPort, UdevPort
from iscsiboot.network.facts import AddressFact, LinkFact, NetworkFacts
from iscsiboot.network.lease import DhcpLease
from iscsiboot.network.plan import find_base, find_target, plan_nic, unreachable, wanted_address_present
from iscsiboot.network.request import (
    Method,
    NicRequest,
    check_request,
    firmware_address,
    firmware_interface,
    method_of,
)
from iscsiboot.network.steps import AddRoute, CreateVlan, LinkUp, SetMtu, Step

REPEATS_MAX = 3
"""How often one step is done before somebody else must be undoing it."""


class Phase(Enum):
    """What is waited for."""

    START = "the first look"
    NIC = "the NIC to appear"
    UDEV = "udev to handle the NIC"
    CARRIER = "carrier"
    DHCP = "a DHCP server"
    DUPLICATE_CHECK = "duplicate address detection"
    ADVERTISEMENT = "a router advertisement"
    DONE = "nothing"


class NicTask:
    """Brings one NIC up. ``error`` or ``phase`` DONE ends it."""

    def __init__(
        self,
        request: NicRequest,
        *,
        environment: NetworkEnvironment,
        rtnl: RtnlPort,
        udev: UdevPort,
        selector: selectors.BaseSelector,
        report: Report,
    ) -> None:
        """Nothing is touched yet; a request that can never succeed is an error from the start."""
        self.request = request
        self.phase = Phase.START
        self.error: IscsiBootError | None = None
        self.lease: DhcpLease | None = None
        self.changed = False
        self.netdev: str | None = None
        self._effective = request
        """The request, or with a static address instead when DHCP did not confirm firmware's."""
        self._environment = environment
        self._rtnl = rtnl
        self._udev = udev
        self._udev_limit: float | None = None
        self._selector = selector
        self._report = report
        self._began = environment.now()
        self._done: Counter[Step] = Counter()
        self._settled: set[Step] = set()
        self._link_marked = False
        self._machine: DhcpMachine | None = None
        self._port: DhcpPort | None = None
        self._port_index: int | None = None
        self._refusal = ""
        try:
            check_request(request)
        except IscsiBootError as error:
            self.error = error

    @property
    def finished(self) -> bool:
        """Nothing more will happen."""
        return self.error is not None or self.phase is Phase.DONE

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`tick` is due, on the environment's clock."""
        if self.phase is Phase.UDEV and not self.finished:
            return self._udev_limit
        waiting = self._machine is not None and self.phase is Phase.DHCP and not self.finished
        return self._machine.next_deadline if waiting and self._machine is not None else None

    def advance(self, facts: NetworkFacts) -> bool:
        """Look and act; True when something was changed, so that a new picture is needed before anything else."""
        if self.finished:
            return False
        base = find_base(self._effective, facts)
        if base is None:
            self._enter(Phase.NIC, f"{self.request.subject}: waiting for it to appear")
            self._close_dhcp()
            return False
        self.netdev = base.name
        if not self._may_touch(base):
            return False
        steps = [step for step in plan_nic(self._effective, facts, self.lease) if step not in self._settled]
        links = [step for step in steps if isinstance(step, CreateVlan | SetMtu | LinkUp)]
        if links:
            return self._execute(links)
        target = find_target(self._effective, facts)
        if target is None or not target.ready:
            self._enter(Phase.CARRIER, f"{(target or base).name}: waiting for carrier")
            return False
        self._have_link(target)
        present = [fact for fact in facts.addresses if fact.index == target.index]
        if self._needs_lease(present):
            self._ask_for_lease(target)
            return False
        if steps:
            return self._execute(steps)
        self._judge(target, present, facts)
        return False

    def readable(self) -> None:
        """The DHCP socket has something."""
        if self._port is None or self._machine is None:
            return
        try:
            payload = self._port.receive()
        except OSError as error:
            # ENETDOWN: rtnetlink tells of it too, and advance goes back a phase.
            self._report.note(f"{self.netdev}: {error.strerror}")
            return
        if payload is not None:
            self._machine.receive(payload, self._environment.now())
            self._pump()

    def tick(self) -> None:
        """Time has passed."""
        if self._machine is not None and self.phase is Phase.DHCP and not self.finished:
            self._machine.timeout(self._environment.now())
            self._pump()

    def expire(self, facts: NetworkFacts) -> None:
        """No time is left: the error says what was being waited for."""
        if self.finished:
            return
        waited = self._environment.now() - self._began
        name = self.netdev or ""
        if self.phase is Phase.NIC:
            self.error = failures.absent(self.request, facts, waited)
        elif self.phase is Phase.CARRIER:
            self.error = failures.no_carrier(self.request, name, waited)
        elif self.phase is Phase.DHCP:
            self.error = failures.no_lease(self.request, name, waited, self._refusal)
        elif self.phase is Phase.DUPLICATE_CHECK:
            self.error = failures.unfinished_check(self.request, name, waited)
        else:
            self.error = failures.no_advertisement(self.request, name, waited, unreachable(self._effective, facts))

    def close(self) -> None:
        """Give the sockets back; again is harmless."""
        self._close_dhcp()

    def _execute(self, steps: Sequence[Step]) -> bool:
        """Do steps until one fails; True when the picture is stale now."""
        for step in steps:
            self._done[step] += 1
            if self._done[step] > REPEATS_MAX:
                self.error = failures.does_not_hold(self.request, self.netdev or "", step)
                return False
            try:
                fresh = self._rtnl.execute(step)
            except OSError as error:
                return self._failed(step, error)
            if fresh:
                self.changed = True
                self._report.note(step.describe())
            elif isinstance(step, CreateVlan):
                self.error = failures.name_taken(self.request, self.netdev or "", step)
                return False
            else:
                self._settled.add(step)  # somebody else did it between our look and our step
        return True

    def _failed(self, step: Step, error: OSError) -> bool:
        """Decide what a refused step means: look again, go on without it, or give up."""
        if failures.is_vanished(error) and self._done[step] < REPEATS_MAX:
            return True
        dispensable = isinstance(step, AddRoute) or (isinstance(step, SetMtu) and self.request.mtu is None)
        if dispensable:
            # A destination that stays unreachable for it is told of by _judge.
            self._report.note(f"could not {step.describe()}: {error.strerror}; going on without")
            self._settled.add(step)
            return True
        self.error = failures.refused_step(self.request, self.netdev or "", step, error)
        return False

    def _may_touch(self, base: LinkFact) -> bool:
        """Whether udev is done with the device, is not there, or has had its time (see :mod:`.udev`)."""
        if base.up or self._udev.done_with(base.index):
            return True
        now = self._environment.now()
        if self._udev_limit is None:
            self._udev_limit = now + self._environment.udev_seconds
        if now < self._udev_limit:
            self._enter(Phase.UDEV, "")
            return False
        if self.phase is Phase.UDEV:
            self._enter(Phase.START, f"{base.name}: udev has not handled it in time; using it under this name")
        return True

    def _have_link(self, target: LinkFact) -> None:
        self.netdev = target.name
        if not self._link_marked:
            self._link_marked = True
            self._report.mark(Mark.LINK, target.name)

    def _needs_lease(self, present: list[AddressFact]) -> bool:
        asks = method_of(self._effective) is Method.DHCP4 and self.lease is None
        return asks and not wanted_address_present(self._effective, present)

    def _ask_for_lease(self, target: LinkFact) -> None:
        """Start the DHCP client on this device, once."""
        self._enter(Phase.DHCP, f"{target.name}: asking for an address by DHCP")
        if self._machine is not None and self._port_index == target.index:
            return
        self._close_dhcp()
        mac = bytes.fromhex(target.mac.replace(":", ""))
        if len(mac) != 6:
            self.error = failures.not_ethernet(self.request, target.name)
            return
        known = firmware_address(self.request)
        try:
            self._port = self._environment.open_dhcp(target.index)
        except OSError as error:
            if not failures.is_vanished(error):
                self.error = failures.no_packet_socket(self.request, target.name, error)
            return
        self._port_index = target.index
        self._selector.register(self._port, selectors.EVENT_READ, self)
        self._machine = DhcpMachine(
            mac, known=known if isinstance(known, IPv4Address) else None, entropy=self._environment.entropy
        )
        self._machine.start(self._environment.now())
        self._pump()

    def _pump(self) -> None:
        """Send what the machine wants sent, take what it tells."""
        if self._machine is None or self._port is None:
            return
        for payload in self._machine.take_datagrams():
            try:
                self._port.send(payload)
            except OSError as error:
                # The retransmission is the remedy: the device may be going down, or a queue is full.
                self._report.note(f"{self.netdev}: cannot send to DHCP servers: {error.strerror}")
        for event in self._machine.take_events():
            if isinstance(event, Bound):
                self._bind(event.lease)
            elif isinstance(event, Unanswered):
                self._fall_back(event.address)
            else:
                self._refusal = event.text
                self._report.note(f"{self.netdev}: {event.text}")

    def _bind(self, lease: DhcpLease) -> None:
        self.lease = lease
        for text in lease.ignored:
            self._report.note(f"{self.netdev}: DHCP server {lease.server}: ignored {text}")
        self._report.note(f"{self.netdev}: DHCP server {lease.server} granted {lease.address}")
        self._close_dhcp()

    def _fall_back(self, address: IPv4Address) -> None:
        """Nobody confirmed the address firmware obtained moments ago: RFC 2131 section 3.2 lets us use it on.

        Only when firmware gave its prefix too; otherwise the machine goes on asking for offers.
        """
        prefix = self.request.nic.prefix_len
        if prefix is None or prefix.value == 0 or self.lease is not None:
            return
        self._report.note(f"{self.netdev}: no DHCP server confirmed {address}; using it as firmware obtained it")
        self._effective = replace(self.request, nic=replace(self.request.nic, dhcp=None))
        self._close_dhcp()

    def _judge(self, target: LinkFact, present: list[AddressFact], facts: NetworkFacts) -> None:
        """Nothing is left to do: done, or something must happen first, or it never will."""
        wanted: set[IpAddress] = {self.lease.address.ip} if self.lease is not None else set()
        interface = firmware_interface(self._effective)
        if interface is not None:
            wanted.add(interface.ip)
        duplicate = next((fact for fact in present if fact.duplicate and fact.address.ip in wanted), None)
        if duplicate is not None:
            self.error = failures.duplicate(self.request, target.name, duplicate.address.ip)
            return
        # A link-local address is needed only where IPv6 is: an IPv4 boot does not wait a second for its check.
        ipv6 = any(address.version == 6 for address in (*wanted, *self.request.destinations))
        awaited = (fact for fact in present if fact.address.ip in wanted or (ipv6 and fact.address.ip.is_link_local))
        if any(fact.tentative for fact in awaited):
            self._enter(Phase.DUPLICATE_CHECK, f"{target.name}: waiting for duplicate address detection")
            return
        usable = [fact for fact in present if not fact.tentative and not fact.duplicate]
        missing = unreachable(self._effective, facts)
        if any(destination.version == 4 for destination in missing):
            self.error = failures.no_route(self.request, target.name, missing, [fact.address for fact in usable])
            return
        if missing or not wanted_address_present(self._effective, usable):
            self._enter(Phase.ADVERTISEMENT, f"{target.name}: waiting for a router advertisement")
            return
        shown = [str(fact.address) for fact in usable if not fact.address.ip.is_link_local]
        self._enter(Phase.DONE, "")
        self._close_dhcp()
        self._report.mark(Mark.ADDRESS, f"{target.name} {' '.join(shown)}")

    def _enter(self, phase: Phase, text: str) -> None:
        if phase is not self.phase:
            if text:
                self._report.note(text)
            self.phase = phase

    def _close_dhcp(self) -> None:
        if self._port is not None:
            self._selector.unregister(self._port)
            self._port.close()
        self._port = self._port_index = self._machine = None
