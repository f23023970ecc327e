# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of ``iscsiboot probe``: one table of options, checked into a value that holds no secret.

Secrets are never arguments: the process list is public. Options name files they are read from
(:mod:`iscsiboot.toolkit.probe_secrets`).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.lun import Lun
from iscsiboot.model.names import InvalidName, check_iscsi_name, check_target_name
from iscsiboot.model.params import Digest
from iscsiboot.model.portal import ISCSI_PORT, NamedPortal, Portal, parse_ip

DEFAULT_TIMEOUT = 10.0
TIMEOUT_MAX = 3600.0
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")
_BRACKETED = re.compile(r"(\[[^\[\]]+\])(?::([0-9]+))?")
_DIGESTS = {"none": Digest.NONE, "crc32c": Digest.CRC32C, "prefer": Digest.PREFER_CRC32C}

ROLES = ("", "mutual-", "discovery-", "discovery-mutual-")
"""The four CHAP accounts, as their options begin: ours and the target's, for a login and for a discovery."""
_ROLE_WORDS = (
    "CHAP user name",
    "what the target has to call itself (mutual CHAP)",
    "CHAP user name for the discovery",
    "what the portal has to call itself",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """Where one CHAP account comes from. ``secret_file`` None asks on the terminal."""

    name: str
    secret_file: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What was asked for."""

    asked: str
    """The portal as it was given, printable."""
    portal: Portal | NamedPortal
    target: str | None = None
    json: bool = False
    all_portals: bool = False
    lun: Lun | None = None
    timeout: float = DEFAULT_TIMEOUT
    """Seconds, for each connection with its login, each discovery, each command."""
    read: bool = True
    digest: Digest = Digest.NONE
    initiator_name: str | None = None
    """None: the machine's own, else the default."""
    accounts: tuple[Account | None, Account | None, Account | None, Account | None] = (None, None, None, None)
    """In the order of :data:`ROLES`."""


def usage_error(cause: str, *, subject: str = "", hint: str = "iscsiboot probe --help") -> IscsiBootError:
    """A command line that cannot be meant: exit code 7."""
    return IscsiBootError(cause, stage=Stage.ARGUMENTS, subject=subject, hint=hint, exit_code=ExitCode.INVAL)


def parser() -> argparse.ArgumentParser:
    """The parser, which the help text and the test of the manual page read too."""
    made = argparse.ArgumentParser(
        prog="iscsiboot probe",
        usage="iscsiboot probe PORTAL [TARGET] [OPTION...]",
        description="Log in to iSCSI targets without the kernel and tell what could be booted from them.",
        epilog="PORTAL is host, host:port or [IPv6]:port. Without TARGET, all targets the portal tells are probed. "
        "The exit status is that of the first failure, numbered as iscsiadm's; 0 says that everything answered.",
        # argparse would print to the process's own streams and end it: errors and --help are handled by the caller.
        exit_on_error=False,
        add_help=False,
        allow_abbrev=False,
    )
    # One list for both: of two optional words argparse would take the second only directly behind the first.
    made.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    made.add_argument("-h", "--help", action="store_true", help="show this help")
    made.add_argument("--json", action="store_true", help="print JSON, schema in docs/probe-json.md")
    made.add_argument("--all-portals", action="store_true", help="every portal the targets are served at, all at once")
    made.add_argument("--lun", metavar="N", help="this LUN alone: a number, or groups as 0001-0002")
    made.add_argument("--timeout", metavar="SECONDS", help=f"patience for each step (default: {DEFAULT_TIMEOUT:g})")
    made.add_argument("--no-read", action="store_true", help="do not read blocks: sizes only, no verdict")
    made.add_argument("--digest", metavar="WORD", help="none, prefer or crc32c (default: none)")
    made.add_argument("--initiator-name", metavar="IQN", help="default: that of /etc/iscsi/initiatorname.iscsi")
    for role, words in zip(ROLES, _ROLE_WORDS, strict=True):
        made.add_argument(f"--{role}user", metavar="NAME", help=words)
        made.add_argument(f"--{role}secret-file", metavar="FILE", help="its secret, mode 0600; else it is asked for")
    return made


def parse(argv: Sequence[str]) -> Options | None:
    """The options, None when help is asked for. :class:`IscsiBootError` with exit code 7 otherwise."""
    try:
        given, left_over = parser().parse_known_intermixed_args(list(argv))
    except argparse.ArgumentError as bad:
        raise usage_error(str(bad)) from bad
    if given.help:
        return None
    unknown = [*left_over, *given.words[2:]]
    if unknown:
        raise usage_error(f"unknown argument {quoted(unknown[0])}")
    if not given.words:
        raise usage_error("no portal is given", hint="iscsiboot probe 10.0.0.1 or iscsiboot probe [fd00::1]:3260")
    values = vars(given)
    asked, target = (*given.words, None)[:2]
    return Options(
        asked=asked,
        portal=parse_portal(asked),
        target=None if target is None else _name(target, "TARGET", check_target_name),
        json=given.json,
        all_portals=given.all_portals,
        lun=None if given.lun is None else _lun(given.lun),
        timeout=DEFAULT_TIMEOUT if given.timeout is None else _seconds(given.timeout),
        read=not given.no_read,
        digest=_digest(given.digest),
        initiator_name=None
        if given.initiator_name is None
        else _name(given.initiator_name, "--initiator-name", check_iscsi_name),
        accounts=_accounts(values),
    )


def parse_portal(text: str) -> Portal | NamedPortal:
    """``host``, ``host:port``, ``address``, ``address:port``, ``[IPv6]``, ``[IPv6]:port``; a bare IPv6 has no port.

    A group tag behind a comma, as iscsiadm prints it, is taken and ignored.
    """
    if "://" in text:
        raise usage_error("a URL", subject=quoted(text), hint="write HOST:PORT, and the target's name behind it")
    if text.lower().startswith(("iqn.", "eui.", "naa.")):
        raise usage_error("a target's name", subject=quoted(text), hint="PORTAL comes first, then TARGET")
    # ipaddress takes anything as the scope of an address; nothing of this kind is an interface.
    if not text.isprintable() or " " in text:
        raise usage_error("it has blanks or control characters", subject=quoted(text))
    place, _, tag = text.partition(",")
    host, port = place, ""
    if match := _BRACKETED.fullmatch(place):
        host, port = match[1], match[2] or ""
    elif "[" in place or "]" in place:
        raise usage_error("its brackets do not match", subject=quoted(text), hint="write [IPv6] or [IPv6]:PORT")
    elif place.count(":") == 1:
        host, _, port = place.partition(":")
        if not port.isascii() or not port.isdigit():
            raise usage_error("its port is no number", subject=quoted(text), hint="write HOST:PORT or [IPv6]:PORT")
    if tag and not (tag.isascii() and tag.isdigit() and len(tag) <= 5):
        raise usage_error("what follows the comma is no portal group tag", subject=quoted(text))
    number = int(port[:6]) if port else ISCSI_PORT
    if not 1 <= number <= 65535:
        raise usage_error("its port is outside 1 to 65535", subject=quoted(text))
    try:
        return Portal(address=parse_ip(host), port=number)
    except ValueError:
        # A last label of digits is no host name: it is an address with a slip in it.
        numeric = host.rstrip(".").rpartition(".")[2].isdigit()
        if numeric or not _HOST.fullmatch(host) or len(host) > 253:
            raise usage_error(
                "neither an address nor a host name", subject=quoted(text), hint="write HOST:PORT or [IPv6]:PORT"
            ) from None
    return NamedPortal(host=host, port=number)


def _name(text: str, what: str, check: Callable[[str], str]) -> str:
    try:
        return check(text)
    except InvalidName as invalid:
        raise usage_error(
            f"{quoted(text)} is no iSCSI name: {invalid}",
            subject=what,
            hint="a name looks like iqn.2001-04.com.example:disk1",
        ) from invalid


def _lun(text: str) -> Lun:
    try:
        return Lun.parse(text) if "-" in text.strip("-") else Lun.from_number(int(text))
    except ValueError:
        raise usage_error(
            f"{quoted(text)} is no LUN", subject="--lun", hint="give a number from 0 to 16383, or groups as 0001-0002"
        ) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    # float() reads "nan" and "inf" too; both comparisons are false for the first.
    if not 0.1 <= seconds <= TIMEOUT_MAX:
        raise usage_error(f"{quoted(text)} is not 0.1 to {TIMEOUT_MAX:g} seconds", subject="--timeout")
    return seconds


def _digest(text: str | None) -> Digest:
    if text is None:
        return Digest.NONE
    if text not in _DIGESTS:
        raise usage_error(f"{quoted(text)} is none of {', '.join(_DIGESTS)}", subject="--digest")
    return _DIGESTS[text]


def _accounts(values: dict[str, str | None]) -> tuple[Account | None, Account | None, Account | None, Account | None]:
    found: list[Account | None] = []
    for role in ROLES:
        attribute = role.replace("-", "_")
        name, secret = values[f"{attribute}user"], values[f"{attribute}secret_file"]
        if secret is not None and name is None:
            raise usage_error(f"--{role}secret-file is given without a name", hint=f"give --{role}user NAME as well")
        found.append(None if name is None else Account(name=name, secret_file=Path(secret) if secret else None))
    ours, mutual, discovery, discovery_mutual = found
    for theirs, own, role in ((mutual, ours, ""), (discovery_mutual, discovery, "discovery-")):
        if theirs is not None and own is None:
            raise usage_error(
                f"--{role}mutual-user is given without --{role}user",
                hint="mutual CHAP proves both sides: give our own account as well",
            )
    return ours, mutual, discovery, discovery_mutual
