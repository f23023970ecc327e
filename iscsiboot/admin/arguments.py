# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the values of options mean: numbers, portals, session ids, interface names, hosts.

The peer reads numbers with C's functions and checks nothing; scripts pass what these accept (``-P ""``, ``-p host:``),
so numbers are read the same way here. Where the peer loses a value that a person meant, this says so instead: a bracket
that is not closed makes the peer forget the portal, and act on all of them.
"""

from __future__ import annotations

import os

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted

_DEVICE_TREES = ("/devices/", "/class/", "/block/", "/bus/", "/module/", "/subsystem/")
IFACE_NAME_BYTES = 64
"""Longest name of an interface."""
_LONG = 2**63
_WHITE = " \t\n\v\f\r"


class BadArgument(Exception):
    """A value the peer refuses, with the lines it prints (on stderr, or bare on stdout) and its exit status."""

    def __init__(self, *lines: str, exit_code: ExitCode = ExitCode.INVAL, stdout: bool = False) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.exit_code = exit_code
        self.stdout = stdout


def _leading_number(text: str) -> tuple[int, int]:
    """The decimal number ``text`` begins with and where it ends; (0, 0) without one."""
    place = len(text) - len(text.lstrip(_WHITE))
    negative = text[place : place + 1] == "-"
    if text[place : place + 1] in ("-", "+"):
        place += 1
    end = place
    while end < len(text) and text[end] in "0123456789":
        end += 1
    if end == place:
        return 0, 0
    # int() refuses very long numbers; these are out of range anyway, whatever their value.
    value = int(text[place:end]) if end - place < 40 else 2**128
    return (-value if negative else value), end


def _as_int(value: int) -> int:
    """A number as it arrives in a C int of 32 bits."""
    return (value + 2**31) % 2**32 - 2**31


def number(text: str) -> int:
    """``atoi``: the number a text begins with, 0 without one; what does not fit wraps as it does in C."""
    value, _ = _leading_number(text)
    return _as_int(max(-_LONG, min(_LONG - 1, value)))


def unsigned_number(text: str) -> int:
    """``strtoul`` stored in an int: as :func:`number`, but what is too large is all ones, so -1."""
    value, _ = _leading_number(text)
    return _as_int(value if abs(value) < 2 * _LONG else -1)


def parse_portal(text: str) -> tuple[str, int, int]:
    """Host, port and portal group tag of ``host[:port][,tag]``; -1 for what is not given, "" for any host.

    IPv6 is in brackets, or bare and then has no port. An :class:`IscsiBootError` for a bracket that is not closed.
    The peer cuts an IPv6 address that holds a dot (``[::ffff:192.0.2.1]:3260``) at its first colon; it is kept here.
    """
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed:
            raise IscsiBootError(
                f"invalid portal {quoted(text)}: the bracket is not closed",
                stage=Stage.ARGUMENTS,
                hint="write an IPv6 portal as [address]:port",
                exit_code=ExitCode.INVAL,
            )
        _, colon, after = rest.partition(":")
        return host, unsigned_number(after) if colon else -1, _tag(after if colon else rest)
    colons = text.partition(",")[0].count(":")
    if colons > 1 and "." not in text.partition(":")[0]:
        host = text.partition(",")[0]
        return host, -1, _tag(text)
    host, colon, after = text.partition(":")
    if colon and (colons or "." in host):
        return host, unsigned_number(after), _tag(after)
    return text.partition(",")[0], -1, _tag(text)


def _tag(text: str) -> int:
    """The portal group tag behind the first comma."""
    _, comma, tag = text.partition(",")
    return unsigned_number(tag) if comma else -1


def check_iface_name(text: str) -> str:
    """``text`` when it is 1 to 64 bytes long; :class:`BadArgument` with the peer's line on stdout."""
    if not 1 <= len(os.fsencode(text)) <= IFACE_NAME_BYTES:
        line = f"Invalid iface name {text}. Must be from 1 to {IFACE_NAME_BYTES} characters."
        raise BadArgument(line, stdout=True)
    return text


def parse_sid(text: str, sysfs: str = "/sys") -> int:
    """The session id of ``-r``: a positive number, or a path in sysfs that is a session or lies below one.

    :class:`BadArgument` otherwise, with status 1 for what is neither a number nor a directory, as the peer.
    """
    value, end = _leading_number(text)
    sid = _as_int(max(-_LONG, min(_LONG - 1, value)))
    if end == len(text) and sid > 0:
        return sid
    try:
        status = os.lstat(text)
    except (OSError, ValueError):
        raise BadArgument(f"{text} is an invalid session ID or path", exit_code=ExitCode.ERR) from None
    kind = status.st_mode & 0o170000
    if kind not in (0o040000, 0o120000):
        raise BadArgument(f"{text} is not a directory", exit_code=ExitCode.ERR)
    inside = text.startswith(sysfs)
    place = os.path.realpath(text)
    # A directory has to lie below one of these (seen in 2.1.8); the peer follows a link without asking.
    if not inside or (kind == 0o040000 and not text[len(sysfs) :].startswith(_DEVICE_TREES)):
        shown = text[len(sysfs) :] if inside else text
        first = f"Could not get dev for {shown}. Possible sysfs incompatibility."
        raise BadArgument(first, f"invalid sid '{text}'")
    for name in reversed(place.split("/")):
        if name.startswith("session"):
            return number(name[len("session") :])
    raise BadArgument(f"Unable to find sid in path {text}", f"invalid sid '{text}'")


def parse_host(text: str, sysfs: str = "/sys") -> int:
    """The host number of ``-H``: a number, or the MAC address of a host that sysfs shows."""
    if ":" in text:
        return _host_of_mac(text, f"{sysfs}/class/iscsi_host")
    value, _ = _leading_number(text)
    if not 0 <= value < 2**32:
        raise BadArgument(f"Invalid host no {text}. Numerical result out of range.")
    return value


def _host_of_mac(mac: str, directory: str) -> int:
    try:
        with os.scandir(directory) as entries:
            hosts = sorted(entry.name for entry in entries if entry.name.startswith("host"))
    except FileNotFoundError:
        hosts = []
    for host in hosts:
        try:
            descriptor = os.open(f"{directory}/{host}/hwaddress", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            found = os.read(descriptor, 64)
        finally:
            os.close(descriptor)
        if found.strip().lower() == os.fsencode(mac).lower():
            return number(host[len("host") :])
    raise BadArgument("Could not match MAC to host.")


def parse_index(text: str) -> int:
    """The table index of ``-x``; :class:`BadArgument` when it does not fit 64 bits."""
    value, _ = _leading_number(text)
    if abs(value) >= 2 * _LONG:
        raise BadArgument(f"Invalid index {text}. Numerical result out of range.")
    return value % (2 * _LONG)
