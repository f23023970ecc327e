# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs one or two bring-ups in the network namespace it was started in and tells what happened.

Standard input: JSON, ``{"requests": [...], "seconds": N, "run": DIR, "etc": DIR, "runs": 1 or 2}``. Standard output:
``note TEXT`` and ``mark WORD`` lines as they happen, then one ``result JSON`` line.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

from iscsiboot.model.boot import BootNic, Source, Sourced
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.timeline import Mark
from iscsiboot.network.bringup import NetworkEnvironment, NicRequest, NicResult, bring_up

_SOURCE = Source(kind="arguments", where="test")
_ADDRESSES = ("address", "gateway", "dhcp_server")


def say(*words: str) -> None:
    """One line, at once."""
    sys.stdout.write(" ".join(words).rstrip() + "\n")
    sys.stdout.flush()


class LineReport:
    """Every call one line, at once: the test waits for them."""

    def note(self, text: str) -> None:
        say("note", text)

    def mark(self, mark: Mark, detail: str = "") -> None:
        say("mark", mark.value, detail)


def request(spec: dict[str, Any]) -> NicRequest:
    """A request out of plain JSON."""
    fields: dict[str, Any] = {}
    for key, value in spec.items():
        if key in _ADDRESSES:
            value = ipaddress.ip_address(value)
        if key == "dns":
            fields["dns"] = tuple(Sourced(ipaddress.ip_address(text), _SOURCE) for text in value)
        elif key not in ("destinations", "mtu"):
            fields[key] = Sourced(value, _SOURCE)
    destinations = tuple(ipaddress.ip_address(text) for text in spec.get("destinations", ()))
    return NicRequest(nic=BootNic(index=0, **fields), destinations=destinations, mtu=spec.get("mtu"))


def shown(result: NicResult) -> dict[str, Any]:
    """A result as plain JSON."""
    error = result.error
    return {
        "netdev": result.netdev,
        "addresses": [str(address) for address in result.addresses],
        "dns": [str(server) for server in result.dns],
        "changed": result.changed,
        "lease": result.lease.to_json() if result.lease else None,
        "ignored": list(result.lease.ignored) if result.lease else [],
        "error": error.line() if error else None,
        "retryable": error.retryable if error else None,
    }


def listen() -> socket.socket:
    """A socket that hears every change of links, IPv4 addresses and IPv4 routes (RTMGRP_*)."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    events.bind((0, 0x1 | 0x10 | 0x40))
    return events


def heard(events: socket.socket) -> int:
    """How many notifications waited."""
    count = 0
    while True:
        try:
            events.recv(1 << 16)
        except BlockingIOError:
            return count
        count += 1


def main() -> None:
    spec = json.load(sys.stdin)
    environment = NetworkEnvironment(run=Path(spec["run"]), etc=Path(spec["etc"]), straggler_seconds=2.0)
    requests = [request(item) for item in spec["requests"]]
    runs = []
    for _ in range(spec.get("runs", 1)):
        with listen() as events:
            began = time.monotonic()
            deadline = Deadline.after(spec["seconds"], now=began, reason="the network")
            results = bring_up(requests, environment=environment, deadline=deadline, report=LineReport())
            seconds = time.monotonic() - began
            runs.append({"nics": [shown(item) for item in results], "seconds": seconds, "events": heard(events)})
    say("result", json.dumps(runs))


if __name__ == "__main__":
    main()
