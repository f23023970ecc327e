# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsi_discovery``: asks a portal for its targets, tries a login to each; those that work start by themselves then.

Everything goes through ``iscsiadm``'s own commands, called in this process: it does what an administrator would type.
Options, words and exit statuses are those of open-iscsi 2.1.8's shell script, also its spelling. Different on purpose,
each a mistake of the script nobody can build on:

* a discovery that finds nothing fails with the words written for it and status 2, and no empty target is tried;
* each target is tried with the transport that was asked for, also after another one fell back to tcp;
* a login over tcp that failed is not repeated over tcp;
* with ``-m`` it does not claim an automatic login; with ``-d`` it also says why a login failed;
* IPv6 portals, compared as addresses: a session to 110.0.0.1 is none to 10.0.0.1;
* the daemon need not run yet: it is started by its socket, or not needed.
"""

from __future__ import annotations

import sys
from io import StringIO

from iscsiboot.admin.process import process
from iscsiboot.errors import ExitCode, printable
from iscsiboot.model.portal import ISCSI_PORT, parse_ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TextIO

    Command = Callable[[Sequence[str], TextIO, TextIO], int]
    """``iscsiadm``: arguments without the program's name, stdout, stderr; the exit status."""

PROGRAM = "iscsi_discovery"
FAILED = 2
"""Exit status of a discovery that cannot be made or finds nothing."""

_SETTINGS = {
    # iSER has no digests, RDMA checks what it carries.
    "iser": (("node.conn[0].iscsi.HeaderDigest", "None"), ("node.conn[0].iscsi.DataDigest", "None")),
    # The adapter takes packets of 16 KiB with header and digests.
    "cxgb3i": (("node.conn[0].iscsi.MaxRecvDataSegmentLength", "8192"),),
}
"""What a transport needs beside its name."""


def usage(program: str) -> str:
    """The script's help."""
    return "".join(
        f"{line}\n"
        for line in (
            f"Usage: {program} <IP> [-p <port>] [-d] [-t <tcp|iser> [-f]] [-m] [-l]",
            "Options:",
            "-p\t\tset the port number (default is 3260).",
            "-d\t\tprint debugging information",
            "-t\t\tset transport (default is tcp).",
            "-f\t\tforce specific transport -disable the fallback to tcp (default is fallback enabled).",
            "\t\t\tforce the transport specified by the argument of the -t flag.",
            "-m\t\tmanual startup - will set manual startup (default is automatic startup).",
            "-l\t\tlogin to the new discovered nodes (default is false).",
        )
    )


class Options:
    """A command line that was understood."""

    __slots__ = ("address", "debug", "force", "manual", "port", "stay", "transport")

    def __init__(self, address: str) -> None:
        self.address = address
        """As it was given, without brackets."""
        self.port = ISCSI_PORT
        self.debug = False
        self.transport = "tcp"
        self.force = False
        self.manual = False
        self.stay = False
        """``-l``: sessions are kept."""

    @property
    def portal(self) -> str:
        """As iscsiadm writes and reads it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Refused(Exception):
    """The command line is wrong: words for stdout and stderr. The status is 1."""

    def __init__(self, out: str, err: str = "") -> None:
        super().__init__(out)
        self.out = out
        self.err = err


def parse(argv: Sequence[str], program: str) -> Options:
    """The address comes first; then options as bash's ``getopts`` reads them, up to the first other word."""
    if not argv:
        raise Refused(usage(program))
    try:
        parse_ip(argv[0])
    except ValueError:
        raise Refused(f"{printable(argv[0])} is not a vaild IP address!\n") from None
    options = Options(argv[0].strip("[]"))
    rest = iter(argv[1:])
    for word in rest:
        if len(word) < 2 or not word.startswith("-") or word == "--":
            break
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in "dfml":
                _flag(options, letter)
            elif letter in "tp":
                value = letters or next(rest, None)
                letters = ""
                if value is None:
                    raise Refused(usage(program), f"{program}: option requires an argument -- {letter}\n")
                _value(options, letter, value)
            else:
                raise Refused(usage(program), f"{program}: illegal option -- {printable(letter)}\n")
    return options


def _flag(options: Options, letter: str) -> None:
    if letter == "d":
        options.debug = True
    elif letter == "f":
        options.force = True
    elif letter == "m":
        options.manual = True
    else:
        options.stay = True


def _value(options: Options, letter: str, value: str) -> None:
    if letter == "t":
        options.transport = value
    elif value.isascii() and value.isdigit() and 0 < int(value) <= 65535:
        options.port = int(value)
    else:
        raise Refused(f"{printable(value)} is not a valid port!\n")


class Run:
    """One run: the options, the command, and where words go."""

    def __init__(self, options: Options, command: Command, out: TextIO, err: TextIO) -> None:
        self.options = options
        self.command = command
        self.out = out
        self.err = err

    def discover(self) -> int:
        """All of it; the exit status. Logins that fail do not change it, they are told."""
        if self._has_sessions():
            portal = self.options.portal
            self._say(f"Please logout from all targets on {portal} before trying to run discovery on that portal")
            return FAILED
        self._debug(f"starting discovery to {self.options.address}")
        answer = StringIO()
        arguments = ("-m", "discovery", "--type", "sendtargets", "--portal", self.options.portal)
        self.command(arguments, answer, self.err)
        # One line for each iface: the same target at the same portal is tried once.
        found = dict.fromkeys(line for line in answer.getvalue().splitlines() if line.strip())
        if not found:
            self._say(f"failed to discover targets at {self.options.address}")
            return FAILED
        for line in found:
            portal, _, target = line.partition(" ")
            self._try(target.strip(), portal.rpartition(",")[0])
        self._say(f"discovered {len(found)} targets at {self.options.address}")
        return ExitCode.SUCCESS

    def _has_sessions(self) -> bool:
        sessions = StringIO()
        # No session is the usual case and no failure here, so the words about it are dropped.
        self.command(("-m", "session"), sessions, StringIO())
        wanted = (parse_ip(self.options.address), self.options.port)
        for line in sessions.getvalue().splitlines():
            words = line.split()
            if len(words) < 3:
                continue
            address, _, port = words[2].rpartition(",")[0].rpartition(":")
            try:
                if (parse_ip(address), int(port)) == wanted:
                    return True
            except ValueError:
                # A portal that is known by name: it is not the address we were given.
                continue
        return False

    def _try(self, target: str, portal: str) -> None:
        wanted = self.options.transport
        self._use(target, portal, wanted)
        self._debug(f"Testing {wanted}-login to target {target} portal {portal}")
        if self._login(target, portal, wanted) or self.options.force or wanted == "tcp":
            return
        self._use(target, portal, "tcp")
        self._debug(f"starting to test tcp-login to target {target} portal {portal}")
        self._login(target, portal, "tcp")

    def _use(self, target: str, portal: str, transport: str) -> None:
        for name, value in (*_SETTINGS.get(transport, ()), ("iface.transport_name", transport)):
            self._update(target, portal, name, value)

    def _login(self, target: str, portal: str, transport: str) -> bool:
        """Try one login; the record starts by itself afterwards when it worked."""
        start = "manual" if self.options.manual else "automatic"
        if not self.options.manual:
            self._update(target, portal, "node.conn[0].startup", start)
        words = self.err if self.options.debug else StringIO()
        if self._node(target, portal, "--login", out=StringIO(), err=words) != 0:
            self._say(f"Cannot login over {transport} to portal {portal}")
            self._update(target, portal, "node.conn[0].startup", "manual")
            return False
        self._say(f"Set target {target} to {start} login over {transport} to portal {portal}")
        if not self.options.stay:
            self._node(target, portal, "--logout")
        return True

    def _update(self, target: str, portal: str, name: str, value: str) -> None:
        self._node(target, portal, "--op", "update", "-n", name, "-v", value)

    def _node(
        self, target: str, portal: str, *arguments: str, out: TextIO | None = None, err: TextIO | None = None
    ) -> int:
        place = ("-m", "node", "--targetname", target, "--portal", portal)
        return self.command((*place, *arguments), out or self.out, err or self.err)

    def _say(self, line: str) -> None:
        self.out.write(f"{line}\n")

    def _debug(self, line: str) -> None:
        if self.options.debug:
            self._say(line)


def main(argv: Sequence[str], out: TextIO, err: TextIO, command: Command, *, program: str = PROGRAM) -> int:
    """One run; ``command`` runs iscsiadm, ``program`` is the name the caller gave this one."""
    try:
        options = parse(argv, program)
    except Refused as refused:
        err.write(refused.err)
        out.write(refused.out)
        return ExitCode.ERR
    return Run(options, command, out, err).discover()


class _Interrupted(BaseException):
    """Ctrl-C. Not a KeyboardInterrupt: iscsiadm would take that for the end of one of its commands alone."""


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise _Interrupted


def run() -> NoReturn:
    """The process ``iscsi_discovery``."""
    import signal

    from iscsiboot.admin.main import main as iscsiadm  # the functions above are for any command

    def helper(argv: Sequence[str], out: TextIO, err: TextIO, _: str) -> int:
        signal.signal(signal.SIGINT, _interrupt)
        try:
            # A shell script's name for itself is its path.
            return main(argv, out, err, iscsiadm, program=sys.argv[0])
        except _Interrupted:
            return 128 + signal.SIGINT

    process(helper, PROGRAM)
