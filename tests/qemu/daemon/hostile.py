# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: clients that mean harm, or are broken, against the daemon that guards a session under load."""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from tests.qemu.daemon.bench import Bench, Seen, Trial
from tests.qemu.daemon.daemons import SOCKET, Daemon, ours
from tests.qemu.daemon.load import load
from tests.qemu.daemon.sessions import OURS, disk_of, good, healthy, node, record, tool

CONNECTIONS = 1000
NOBODY = 65534
HELD_SECONDS = 3.0
ANSWER_SECONDS = 60.0
MIB = 1 << 20


def connected() -> socket.socket:
    """A connection to the daemon."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    peer.settimeout(ANSWER_SECONDS)
    try:
        peer.connect(SOCKET)
    except OSError:
        peer.close()
        raise
    return peer


def ask(**said: Any) -> dict[str, Any]:
    """One request of a well-behaved client; its last answer."""
    with connected() as peer:
        peer.sendall(json.dumps({"iscsiboot": 1, "id": 1, **said}).encode() + b"\n")
        with peer.makefile("rb") as answers:
            for line in answers:
                answer: dict[str, Any] = json.loads(line)
                if "ok" in answer:
                    return answer
    raise RuntimeError("the daemon hung up without an answer")


def answer_to(data: bytes) -> str:
    """What the daemon says to these bytes until it hangs up, it says nothing more, or a little while has passed.

    An answer of ours ends with a newline; nothing comes after it.
    """
    with connected() as peer:
        peer.settimeout(HELD_SECONDS)
        said = b""
        with suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
            peer.sendall(data)
            while len(said) < MIB and not said.endswith(b"\n") and (part := peer.recv(65536)):
                said += part
        return said.replace(b"\0", b"")[:400].decode(errors="replace")


GARBAGE: dict[str, bytes] = {
    "noise": bytes(range(1, 256)) * 8 + b"\n",
    "nulls": bytes(16128),
    "not json": b"{{{{\n",
    "a number": b"1\n",
    "a list": b"[" * 4000 + b"\n",
    "no such thing": b'{"iscsiboot":1,"id":1,"do":"explode"}\n',
    "no such session": b'{"iscsiboot":1,"id":1,"do":"logout","sid":987654,"seconds":5}\n',
    "wrong types": b'{"iscsiboot":1,"id":1,"do":"logout","sid":"one","insist":[],"seconds":"x"}\n',
    "another version": b'{"iscsiboot":99,"id":1,"do":"status"}\n',
    "too long": b'{"iscsiboot":1,"id":1,"do":"' + b"x" * (2 * MIB),
    "deep": b'{"iscsiboot":1,"id":1,"do":"status","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    "bad text": b'{"iscsiboot":1,"id":1,"do":"\xff\xfe"}\n',
    "peer's request, cut off": struct.pack("<I", 1) + bytes(100),
    "peer's request, unknown": struct.pack("<I", 9999) + bytes(16124),
}


def garbage(daemon: Daemon) -> Seen:
    """Everything of GARBAGE, one connection each."""
    return {name: answer_to(data) for name, data in GARBAGE.items()}


def half_requests(daemon: Daemon) -> Seen:
    """Dozens of clients begin a request and never end it; a well-behaved one asks meanwhile."""
    with ExitStack() as stack:
        for _ in range(50):
            peer = stack.enter_context(connected())
            peer.sendall(b'{"iscsiboot":1,"id":1,')
        began = time.monotonic()
        return {"ok": ask(do="status")["ok"], "seconds": round(time.monotonic() - began, 2)}


def a_thousand(daemon: Daemon) -> Seen:
    """As many connections as one process may have, silent; a well-behaved client while they are there, and after."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    refused = 0
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            stack.callback(peer.close)
            try:
                peer.connect(SOCKET)
            except OSError:
                refused += 1
        began = time.monotonic()
        seen: Seen = {"refused": refused, "ok": ask_patiently(), "seconds": round(time.monotonic() - began, 2)}
    began = time.monotonic()
    return {**seen, "ok after": ask_patiently(), "seconds after": round(time.monotonic() - began, 2)}


def ask_patiently() -> bool:
    """Whether a client that tries again is answered within a minute."""
    ends = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < ends:
        with suppress(OSError, RuntimeError):
            return bool(ask(do="status")["ok"])
        time.sleep(0.1)  # full: nothing tells when there is room
    return False


def slow_readers(daemon: Daemon) -> Seen:
    """Clients that ask much and read nothing."""
    request = b'{"iscsiboot":1,"id":1,"do":"status"}\n'
    with ExitStack() as stack:
        for _ in range(10):
            peer = stack.enter_context(connected())
            peer.setblocking(False)
            with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                for _ in range(2000):
                    peer.sendall(request)
        began = time.monotonic()
        return {"ok": ask(do="status")["ok"], "seconds": round(time.monotonic() - began, 2)}


def leavers(daemon: Daemon) -> Seen:
    """Clients that are gone before their answer comes, in the middle of a request, in the middle of an answer."""
    for number in range(200):
        with connected() as peer:
            request = b'{"iscsiboot":1,"id":1,"do":"status"}\n'
            peer.sendall(request if number % 2 else request[: 1 + number % 30])
    return {"ok": ask(do="status")["ok"]}


def stranger(daemon: Daemon) -> Seen:
    """A user who is not root asks for what only root may, also with the peer's own request to stop."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            stop = answer_to(b'{"iscsiboot":1,"id":1,"do":"stop"}\n')
            legacy = answer_to(struct.pack("<I", 9) + bytes(16124))  # MGMT_IPC_IMMEDIATE_STOP
            os.write(writing, json.dumps({"stop": stop, "legacy": legacy}).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        text = said.read()
    os.waitpid(child, 0)
    found: Seen = json.loads(text)
    return found


ATTACKS: tuple[Callable[[Daemon], Seen], ...] = (garbage, half_requests, a_thousand, slow_readers, leavers, stranger)


def attacked(daemon: Daemon) -> Seen:
    """Each attack; after it the daemon is the same process, answers, and holds the memory it held."""
    seen: Seen = {"pid": daemon.pid, "memory": daemon.status()}
    for attack in ATTACKS:
        said = attack(daemon)
        began = time.monotonic()
        then = bool(ask(do="status")["ok"])
        said |= {"then": then, "then seconds": round(time.monotonic() - began, 2)}
        said |= {"pid": daemon.pid, "memory": daemon.status(), "healthy": healthy()}
        seen[attack.__name__] = said
    return seen


def hostile(bench: Bench) -> Seen:
    """All of it under load; then the target goes and comes: the daemon still guards."""
    record("one", pings=2)
    with ours() as daemon:
        good(OURS + "iscsiadm", *node("one", "-l"))
        seen: Seen = {}
        before = bench.one.logins()
        with load(disk_of("one"), seen):
            seen |= attacked(daemon)
        seen |= {"logins": bench.one.logins() - before, "lines": daemon.lines()}
        seen["logout"] = tool(OURS + "iscsiadm", *node("one", "-u"))
        return seen


TRIALS: tuple[Trial, ...] = (hostile,)
