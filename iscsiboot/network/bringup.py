# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bring all NICs of a boot up at once: one loop over rtnetlink, the DHCP sockets and their deadlines.

Theory of operation: subscribe to changes, take a picture, let every :class:`.nic.NicTask` act on it, sleep until
something happens, and again. No thread, no polling: whatever a NIC waits for (its driver, its carrier, duplicate
address detection, a router) shows as an rtnetlink event, a datagram or a deadline. A NIC that fails keeps its error and
the others go on.
"""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iscsiboot.errors import IscsiBootError
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import IpAddress
from iscsiboot.model.report import Report
from iscsiboot.network import failures, files
from iscsiboot.network.environment import NetworkEnvironment, RtnlPort
from iscsiboot.network.facts import IpInterface, NetworkFacts
from iscsiboot.network.lease import DhcpLease
from iscsiboot.network.nic import NicTask, Phase
from iscsiboot.network.plan import dns_servers, find_target, plan_resolver
from iscsiboot.network.request import Method, NicRequest, method_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["NetworkEnvironment", "NicRequest", "NicResult", "bring_up"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NicResult:
    """How one NIC fared."""

    request: NicRequest
    netdev: str | None
    """The device that carries the address (the VLAN device when tagged); None when no device was found."""
    addresses: tuple[IpInterface, ...] = ()
    """Its addresses that are not link-local, whoever configured them."""
    dns: tuple[IpAddress, ...] = ()
    changed: bool = False
    """False when everything was in place already."""
    lease: DhcpLease | None = None
    """What DHCP granted, in this run or in an earlier one of this boot."""
    error: IscsiBootError | None = None


def bring_up(
    requests: Sequence[NicRequest], *, environment: NetworkEnvironment, deadline: Deadline, report: Report
) -> tuple[NicResult, ...]:
    """Bring every NIC up by ``deadline``; one result each, in their order. Never raises for what a NIC or server does.

    Once a NIC with destinations is up, the others have ``environment.straggler_seconds`` left at most.
    """
    if not requests:
        return ()
    with contextlib.ExitStack() as stack:
        try:
            rtnl = environment.open_rtnl(environment.sysfs)
            stack.callback(rtnl.close)
            udev = environment.open_udev(environment.run)
            stack.callback(udev.close)
        except (OSError, ImportError) as error:
            return _all_failed(requests, error)
        selector = stack.enter_context(environment.open_selector())
        selector.register(rtnl, selectors.EVENT_READ, None)
        selector.register(udev, selectors.EVENT_READ, udev)
        tasks = [
            NicTask(request, environment=environment, rtnl=rtnl, udev=udev, selector=selector, report=report)
            for request in requests
        ]
        for task in tasks:
            stack.callback(task.close)
        try:
            facts = _run(tasks, rtnl, selector, environment, deadline)
        except OSError as error:
            return _all_failed(requests, error)
    results = _results(tasks, facts, environment)
    _leave_files(results, environment, report)
    return results


def _run(
    tasks: Sequence[NicTask],
    rtnl: RtnlPort,
    selector: selectors.BaseSelector,
    environment: NetworkEnvironment,
    deadline: Deadline,
) -> NetworkFacts:
    """The loop; the picture at its end. OSError when rtnetlink fails."""
    facts = _look(rtnl)
    while True:
        for task in tasks:
            while task.advance(facts):
                facts = _look(rtnl)
        now = environment.now()
        if any(task.phase is Phase.DONE and task.request.destinations for task in tasks):
            deadline = deadline.within(environment.straggler_seconds, now=now, reason=deadline.reason)
        if all(task.finished for task in tasks):
            return facts
        if deadline.passed(now):
            for task in tasks:
                task.expire(facts)
            return facts
        due = [task.next_deadline for task in tasks if task.next_deadline is not None]
        stale = False
        for key, _events in selector.select(max(0.0, min([deadline.at, *due]) - now)):
            if isinstance(key.data, NicTask):
                key.data.readable()
            else:
                stale = True
                if key.data is not None:
                    key.data.drain()
        for task in tasks:
            task.tick()
        if stale:
            facts = _look(rtnl)


def _look(rtnl: RtnlPort) -> NetworkFacts:
    """A new picture, after whatever the pending events were about."""
    rtnl.drain()
    return rtnl.snapshot()


def _results(tasks: Sequence[NicTask], facts: NetworkFacts, environment: NetworkEnvironment) -> tuple[NicResult, ...]:
    earlier: dict[tuple[str, str], DhcpLease] = {}
    if any(task.lease is None and method_of(task.request) is Method.DHCP4 for task in tasks):
        earlier = files.read_leases(environment.run)
    results = []
    for task in tasks:
        target = find_target(task.request, facts) if task.netdev is not None else None
        present = [fact for fact in facts.addresses if target is not None and fact.index == target.index]
        addresses = tuple(fact.address for fact in present if not fact.address.ip.is_link_local)
        netdev = target.name if target is not None else task.netdev
        kept = [earlier[key] for item in addresses if (key := (netdev or "", str(item.ip))) in earlier]
        lease = task.lease or (kept[0] if kept else None)
        results.append(
            NicResult(
                request=task.request,
                netdev=netdev,
                addresses=addresses,
                dns=dns_servers(task.request, lease),
                changed=task.changed,
                lease=lease,
                error=task.error,
            )
        )
    return tuple(results)


def _leave_files(results: Sequence[NicResult], environment: NetworkEnvironment, report: Report) -> None:
    """Write ``resolv.conf`` and ``network.json``; a file that cannot be written is told of and stops nothing."""
    free, why = files.resolver_state(environment.etc)
    named = [(result.dns, result.lease.domain if result.lease else None) for result in results if result.error is None]
    try:
        for step in plan_resolver(named, resolver_free=free):
            report.note(step.describe())
            files.write_resolver(environment.etc, step)
    except OSError as error:
        report.note(f"resolv.conf was not written: {error.strerror}")
    if not free and any(servers for servers, _domain in named):
        report.note(f"resolv.conf is left alone: {why}")
    try:
        files.write_state(environment.run, [_as_json(result) for result in results])
    except OSError as error:
        report.note(f"{files.state_path(environment.run)} was not written: {error.strerror}")


def _as_json(result: NicResult) -> Mapping[str, Any]:
    nic = result.request.nic
    return {
        "mac": result.request.mac,
        "netdev": result.netdev,
        "vlan": nic.vlan.value if nic.vlan is not None else None,
        "method": method_of(result.request).value,
        "addresses": [str(address) for address in result.addresses],
        "dns": [str(server) for server in result.dns],
        "changed": result.changed,
        "lease": result.lease.to_json() if result.lease is not None else None,
        "error": None if result.error is None else result.error.line(),
    }


def _all_failed(requests: Sequence[NicRequest], error: Exception) -> tuple[NicResult, ...]:
    return tuple(
        NicResult(request=request, netdev=None, error=failures.no_rtnetlink(request, error)) for request in requests
    )
