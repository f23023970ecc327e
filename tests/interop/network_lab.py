# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two network namespaces with a cable between them: a client that boots, a server with dnsmasq."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MAC = "52:54:00:aa:00:01"
_COUNTER = itertools.count()


def run(*argv: str) -> str:
    """A command that must succeed; its output."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout


@dataclass
class Boot:
    """A bring-up that is running in the client's namespace."""

    process: subprocess.Popen[bytes]
    lines: list[str] = field(default_factory=list)

    def wait_for(self, text: str, seconds: float = 20.0) -> str:
        """The first line from now on that holds ``text``."""
        assert self.process.stdout is not None
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, until - time.monotonic())):
                line = self.process.stdout.readline().decode()
                if not line:
                    break
                self.lines.append(line.rstrip("\n"))
                if text in line:
                    return self.lines[-1]
        raise AssertionError(f"no {text!r} in: {self.lines} {self.process.poll()}")

    def result(self, seconds: float = 40.0) -> dict[str, Any]:
        """The only run's outcome."""
        return self.results(seconds)[0]

    def results(self, seconds: float = 40.0) -> list[dict[str, Any]]:
        """All runs' outcomes."""
        runs: list[dict[str, Any]] = json.loads(self.wait_for("result ", seconds).removeprefix("result "))
        return runs


class Lab:
    """Makes namespaces, cables and servers; :meth:`close` removes all of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        number = next(_COUNTER)
        self.client, self.server = (f"ibt{os.getpid()}-{number}{side}" for side in "cs")
        self._stack = contextlib.ExitStack()
        (directory / "etc").mkdir()
        (directory / "run").mkdir()
        for namespace in (self.client, self.server):
            run("ip", "netns", "add", namespace)
            self._stack.callback(subprocess.run, ["ip", "netns", "del", namespace], check=False, timeout=20)
            self.on(namespace, "link", "set", "lo", "up")

    def close(self) -> None:
        self._stack.close()

    def on(self, namespace: str, *argv: str) -> str:
        """``ip -n NAMESPACE ARGV``."""
        return run("ip", "-n", namespace, *argv)

    def inside(self, namespace: str, *argv: str) -> str:
        """A command in a namespace."""
        return run("ip", "netns", "exec", namespace, *argv)

    def cable(self, name: str = "eth0", *, mac: str = MAC, up: bool = True, address: str = "10.77.0.1/24") -> None:
        """A veth pair: ``name`` in the client (down, as after boot), ``s-NAME`` in the server."""
        self.on(self.server, "link", "add", f"s-{name}", "type", "veth", "peer", "name", name, "address", mac,
                "netns", self.client)  # fmt: skip
        if address:
            self.on(self.server, "addr", "add", address, "dev", f"s-{name}")
        if up:
            self.on(self.server, "link", "set", f"s-{name}", "up")

    def reaches(self, address: str) -> bool:
        """Whether packets from the client come back: a refused connection is an answer."""
        code = f"import socket; print(socket.socket({'socket.AF_INET6' if ':' in address else ''}).connect_ex"
        return (
            self.inside(self.client, "timeout", "5", sys.executable, "-c", f"{code}(({address!r}, 9)))").strip()
            == "111"
        )

    def no_ipv6(self) -> None:
        """IPv6 makes events of its own; a test that counts events does without."""
        for what in ("all", "default"):
            self.inside(self.client, "sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{what}/disable_ipv6")

    def dnsmasq(self, *options: str, interface: str = "s-eth0") -> subprocess.Popen[str]:
        """A DHCP server; ready when this returns."""
        log = self.directory / "dnsmasq.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.server, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
                 "--port=0", "--user=root", "--no-ping", "--log-facility=-", "--log-dhcp", "--pid-file",
                 f"--dhcp-leasefile={self.directory}/leases", f"--interface={interface}", "--bind-interfaces",
                 *options],
                stderr=output, stdout=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        self._stack.callback(_end, process)
        return process

    def boot(self, *requests: dict[str, Any], seconds: float = 15.0, runs: int = 1) -> Boot:
        """Start a bring-up in the client's namespace."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.client, sys.executable, "-m", "tests.interop.network_child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=ROOT,
        )  # fmt: skip
        self._stack.callback(_end, process)
        spec = {
            "requests": list(requests),
            "seconds": seconds,
            "runs": runs,
            "run": str(self.directory / "run"),
            "etc": str(self.directory / "etc"),
        }
        assert process.stdin is not None
        process.stdin.write(json.dumps(spec).encode())
        process.stdin.close()
        return Boot(process)

    def routes(self, *selection: str, version: int = 4) -> list[dict[str, Any]]:
        """The client's routes."""
        found: list[dict[str, Any]] = json.loads(self.on(self.client, "-j", f"-{version}", "route", "show", *selection))
        return found

    def link(self, name: str) -> dict[str, Any]:
        """One of the client's links."""
        found: list[dict[str, Any]] = json.loads(self.on(self.client, "-j", "-d", "link", "show", name))
        return found[0]


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


@contextlib.contextmanager
def lab(directory: Path) -> Iterator[Lab]:
    """A laboratory, cleaned up whatever happens."""
    made = Lab(directory)
    try:
        yield made
    finally:
        made.close()


def has_link_kind(kind: str) -> bool:
    """Whether this kernel can make such devices; asked in a namespace of its own."""
    script = f"ip link add x0 type {kind}"
    if kind == "vlan":
        # Not on lo: it refuses VLANs (NETIF_F_VLAN_CHALLENGED).
        script = "ip link add b0 type veth && ip link add link b0 name x0 type vlan id 1"
    command = ["unshare", "-n", "sh", "-c", script]
    return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0


def find(lines: Sequence[str], text: str) -> bool:
    """Whether a line holds ``text``."""
    return any(text in line for line in lines)
