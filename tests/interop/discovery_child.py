# SPDX-License-Identifier: LGPL-2.1-or-later
"""Inside the namespaces of :mod:`tests.interop.peer_admin`, with targets to discover: a scripted one for each scenario.

One JSON request on stdin as for :mod:`tests.interop.peer_admin_child`, with ``scenarios`` beside it: names of
:data:`SCENARIOS`, whose port each command says as ``@NAME``. Ports are drawn anew in each run, so outputs and tree
come back with ``@NAME`` in their place.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from iscsiboot.initiator.pdu.control import TextResponse
from iscsiboot.initiator.pdu.header import Opcode
from tests.doubles.directory import Served, always, directory, numbered
from tests.doubles.faults import closed_before, on
from tests.doubles.server import TargetServer, refusing_port
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script, closing, raw, redirect, silent, status
from tests.interop.peer_admin_child import ISCSI, execute, set_up, snapshot
from tests.unit.session.links import black_hole

A, B, C = (f"iqn.2004-01.com.example:{letter}" for letter in "abc")
USER = ("user", b"secretsecret12")
OWN = ("target", b"othersecret123")
FAR = ("192.0.2.1:3260,1",)


def refusing(status_class: int, detail: int) -> Plan:
    """A target that ends each login with this status."""
    return Plan(login=Script(faults={0: status(status_class, detail)}))


SCENARIOS: dict[str, Sequence[Plan]] = {
    "two": [
        Plan(
            records=directory([Served(B, ["192.0.2.2:3260,2", "192.0.2.2:3261,1", "[fd00::2]:3260,3"]), Served(A, FAR)])
        )
    ],
    "bare": [Plan(records=always(f"TargetName={A}\0TargetName={B}\0".encode()))],
    "names": [Plan(records=directory([Served(A, ["localhost:3260,1"]), Served(B, ["localhost,2"])]))],
    "none": [Plan(records=directory([]))],
    "many": [Plan(records=numbered(120), text_segment=700)],
    "pieces": [Plan(records=numbered(20), text_segment=60, whole_pairs=True)],
    "changing": [
        Plan(records=directory([Served(A, FAR), Served(B, FAR)])),
        Plan(records=directory([Served(A, FAR), Served(C, FAR)])),
    ],
    "chap": [Plan(login=Script(user=USER), records=numbered(2))],
    "mutual": [Plan(login=Script(user=USER, own=OWN), records=numbered(2))],
    "twin": [Plan(login=Script(user=USER, own=(OWN[0], USER[1])), records=numbered(2))],
    "closing": [Plan(login=Script(faults={0: closing}))],
    "silent": [Plan(login=Script(faults={0: silent}))],
    "garbage": [Plan(login=Script(faults={0: raw(bytes(48))}))],
    "deaf": [Plan(deaf_to=frozenset({Opcode.TEXT_REQUEST}))],
    "cut": [Plan(faults=[on(TextResponse, closed_before)])],
    **{f"s{one}{two}": [refusing(one, two)] for one, two in ((2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1))},
}


ZONED = {
    "zoned": [Plan(records=directory([Served(A, FAR)]))],
    "linklocal": [Plan(records=directory([Served(A, ["[fe80::77]:3260,1"])]))],
}
"""Targets asked at a link-local address, :data:`ZONE`."""
ZONE = "fe80::77%v0"


def add_link() -> None:
    """A network interface with that address; a pair, so that it has a carrier."""
    for command in ("link add v0 type veth peer name v1", "link set v0 up", "link set v1 up"):
        subprocess.run(["ip", *command.split()], check=True)
    subprocess.run(["ip", "addr", "add", f"{ZONE.partition('%')[0]}/64", "dev", "v0", "nodad"], check=True)


def serve(stack: ExitStack, name: str, ports: dict[str, int]) -> int:
    """Begin a scenario; its port. ``redirect`` leads to ``two``, ``refused`` refuses, ``hole`` never answers."""
    if name == "refused":
        return stack.enter_context(refusing_port())
    if name == "hole":
        return stack.enter_context(black_hole()).port
    if name == "redirect":
        plans: Sequence[Plan] = [Plan(login=Script(faults={0: redirect(f"127.0.0.1:{ports['two']}")}))]
    else:
        plans = SCENARIOS.get(name) or ZONED[name]
    turn = itertools.chain(plans, itertools.repeat(plans[-1]))
    host = "::" if name in ZONED else "127.0.0.1"
    return stack.enter_context(TargetServer(lambda: FullTarget(next(turn)), host=host)).port


def main() -> None:
    """Answer the one request on stdin."""
    request: dict[str, Any] = json.load(sys.stdin)
    set_up(request)
    ports: dict[str, int] = {}
    if not ZONED.keys().isdisjoint(request["scenarios"]):
        add_link()
    with ExitStack() as stack:
        for name in request["scenarios"]:
            ports[name] = serve(stack, name, ports)
        before = snapshot(ISCSI)
        commands = [[_with(word, ports) for word in argv] for argv in request["commands"]]
        results = [execute(argv, request, before) for argv in commands]
        answer = {"results": results, "tree": snapshot(ISCSI)}
    json.dump(_named(answer, ports), sys.stdout)


def _named(value: Any, ports: dict[str, int]) -> Any:
    """A JSON value with names for ports in its texts. Its numbers stay: the digits of a port may be within a time."""
    if isinstance(value, str):
        for name, port in ports.items():
            value = value.replace(str(port), f"@{name}")
        return value
    if isinstance(value, dict):
        return {_named(key, ports): _named(below, ports) for key, below in value.items()}
    return [_named(below, ports) for below in value] if isinstance(value, list | tuple) else value


def _with(word: str, ports: dict[str, int]) -> str:
    for name, port in ports.items():
        word = word.replace(f"@{name}", str(port))
    return word


if __name__ == "__main__":
    main()
