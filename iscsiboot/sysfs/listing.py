# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions as ``iscsiadm`` lists them: read in one pass, in open-iscsi's order, with its words for what is missing.

:mod:`iscsiboot.sysfs.sessions` gives the session of a boot as checked values. This module serves a command that has 60
milliseconds and may have a thousand sessions before it: plain classes, text as the kernel wrote it, no import that
costs. Attributes are opened relative to the directory they are in, because the kernel walks eleven directories and a
link to get from ``/sys`` to one of them.

What is read, is read attribute by attribute while sessions come and go, so three rules hold:

* a session that is gone when its last attribute is read is left out, and never shown by halves;
* a session without target name, host or connection 0 is still being built (or taken down) and is left out, as
  open-iscsi's list leaves it out;
* any other attribute that is missing or unreadable has a value that says so (-1, ``""``), and the session is listed.

Text is UTF-8 with surrogateescape: what a target or an administrator put there comes out as it went in.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
UNKNOWN = -1
"""A number the kernel does not tell."""
DEFAULT = "default"
"""What stands for an interface, a MAC address or a NIC nobody chose."""

FIRST_OF_SESSION = "initial_r2t"
FIRST_OF_CONNECTION = "max_recv_dlength"
"""The kernel removes the attributes of an object one by one, in order, and only then its link in the class. It begins
with these, and every driver has them."""

_SESSION = "session"
_DIGITS = frozenset("0123456789")
_WHITE = " \t\n\v\f\r"
UNSET = frozenset({"(null)", "<NULL>"})
"""How kernels print a string that was never set."""
_ATTRIBUTE_BYTES = 4096
"""sysfs gives at most one page, and all of an attribute in one read."""
SEARCHABLE = os.O_RDONLY | os.O_DIRECTORY


class SessionRow:
    """What tells one session from another; the rest is read when it is asked for, by :mod:`.session_details`.

    ``address`` and ``port`` are where the connection really leads, ``persistent_address`` and ``persistent_port`` what
    the login was asked for (they differ after a redirect). Where the kernel knows only one pair, both hold it.
    Unknown text is ``""``, an unknown number -1; ``iface_name`` is then ``default``. ``flash`` is a session an HBA or
    the kernel made. ``state`` and ``connection_state`` are the kernel's (``LOGGED_IN``; ``up``, before kernel 5.14
    ``""``). Frozen by convention.
    """

    __slots__ = (
        "address",
        "connection_state",
        "flash",
        "host",
        "iface_name",
        "initiator_name",
        "persistent_address",
        "persistent_port",
        "port",
        "sid",
        "state",
        "target",
        "tpgt",
        "transport",
    )

    def __init__(
        self,
        *,
        sid: int,
        host: int,
        transport: str,
        target: str,
        tpgt: int,
        persistent_address: str,
        persistent_port: int,
        address: str,
        port: int,
        iface_name: str = DEFAULT,
        initiator_name: str = "",
        state: str = "",
        connection_state: str = "",
        flash: bool = False,
    ) -> None:
        self.sid = sid
        self.host = host
        self.transport = transport
        self.target = target
        self.tpgt = tpgt
        self.persistent_address = persistent_address
        self.persistent_port = persistent_port
        self.address = address
        self.port = port
        self.iface_name = iface_name
        self.initiator_name = initiator_name
        self.state = state
        self.connection_state = connection_state
        self.flash = flash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionRow):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.sid, self.target))

    def __repr__(self) -> str:
        return f"SessionRow({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


class Attributes:
    """The files of one directory, read by name; a context manager that holds the directory open.

    OSError when the directory is not there. An attribute that cannot be read is normal on another kernel or driver; it
    is also the first sign of an object that is going. ``first`` tells the two apart: it names the attribute the kernel
    takes away before all others.
    """

    __slots__ = ("_directory", "_first", "missed")

    def __init__(self, path: str, folder: int | None = None, *, first: str = "") -> None:
        self._directory = os.open(path, SEARCHABLE, dir_fd=folder)
        self._first = first
        self.missed = False

    @property
    def going(self) -> bool:
        """Whether something could not be read because the object is being taken away."""
        return self.missed and not os.access(self._first, os.F_OK, dir_fd=self._directory)

    def __enter__(self) -> Attributes:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._directory)

    def raw(self, name: str) -> str | None:
        """The attribute without its line end; None when it cannot be read."""
        text = read_attribute(name, self._directory)
        if text is None:
            self.missed = True
        return text

    def text(self, name: str) -> str:
        """The attribute; ``""`` when it is missing, unreadable or was never set."""
        text = self.raw(name)
        return "" if text is None or text in UNSET else text

    def number(self, name: str) -> int:
        """The attribute as a number; -1 when it is missing, 0 when it is none (as open-iscsi has it)."""
        text = self.raw(name)
        return UNKNOWN if text is None else c_number(text)


def read_attribute(name: str, folder: int | None = None) -> str | None:
    """One attribute without its line end, its name relative to an open directory; None when it cannot be read.

    A file that is not there, one that only root may read (a password) and one whose object has no answer (the address
    of a connection without a socket, ENOTCONN) come to the same for a list.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    except OSError:
        return None
    try:
        data = os.read(descriptor, _ATTRIBUTE_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return data.decode("utf-8", "surrogateescape").rstrip("\n")


def c_number(text: str) -> int:
    """The decimal number a text begins with, 0 without one: what C's ``strtol`` makes of it."""
    rest = text.lstrip(_WHITE)
    sign = rest[:1]
    digits = rest[1:] if sign and sign in "+-" else rest
    end = 0
    while end < len(digits) and digits[end] in _DIGITS:
        end += 1
    number = int(digits[:end]) if end else 0
    return -number if sign == "-" else number


def list_rows(sysfs: str, *, whole: bool = True) -> list[SessionRow]:
    """Every session there is, by the bytes of its directory name as open-iscsi has them: 1, 10, 2.

    ``whole`` as in :func:`read_row`.
    """
    try:
        with Sessions(sysfs) as sessions:
            rows = [sessions.read(sid, whole=whole) for sid in sessions.numbers()]
    except OSError:
        # No class: the module was never loaded.
        return []
    return [row for row in rows if row is not None]


def read_row(sysfs: str, sid: int, *, whole: bool = True) -> SessionRow | None:
    """One session; None when it is not there.

    Without ``whole`` a session that has no connection is one too: half built, or left by a program that was killed. Its
    portals are ``("", -1)``. A list leaves it out, but it can be ended by its number.
    """
    try:
        with Sessions(sysfs) as sessions:
            return sessions.read(sid, whole=whole)
    except OSError:
        return None


class Sessions:
    """The classes sessions are made of, held open for one pass; a context manager.

    OSError when the kernel has no such classes.
    """

    __slots__ = ("_connections", "_folder", "_hosts", "_transports")

    def __init__(self, sysfs: str) -> None:
        self._folder = os.open(f"{sysfs}/class/iscsi_session", SEARCHABLE)
        try:
            self._connections = os.open(f"{sysfs}/class/iscsi_connection", SEARCHABLE)
        except OSError:
            os.close(self._folder)
            raise
        self._hosts = f"{sysfs}/class/scsi_host"
        self._transports: dict[int, str] = {}

    def __enter__(self) -> Sessions:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._connections)
        os.close(self._folder)

    def numbers(self) -> list[int]:
        """The session ids there are, in open-iscsi's order."""
        with os.scandir(self._folder) as entries:
            names = sorted(entry.name for entry in entries)
        digits = (name[len(_SESSION) :] for name in names if name.startswith(_SESSION))
        # No other digits than ASCII's, and no leading zero: a number has one name, and a name one number.
        return [int(text) for text in digits if text and text[0] != "0" and _DIGITS.issuperset(text)]

    def read(self, sid: int, *, whole: bool = True) -> SessionRow | None:
        """One session; None when it is not there, or ``whole`` is asked for and it has no connection."""
        name = f"{_SESSION}{sid}"
        try:
            host = _host_of(os.readlink(name, dir_fd=self._folder))
            with Attributes(name, self._folder, first=FIRST_OF_SESSION) as session:
                portals = self._portals(sid, whole)
                row = None if portals is None else _row(sid, host, self._transport(host), session, portals)
                missed, going = session.missed, session.going
        except (OSError, ValueError):
            return None
        return None if going or (missed and not os.access(name, os.F_OK, dir_fd=self._folder)) else row

    def _portals(self, sid: int, whole: bool) -> Portals | None:
        """None when the connection is going; OSError when there is none and there must be one."""
        name = f"connection{sid}:0"
        try:
            with Attributes(name, self._connections, first=FIRST_OF_CONNECTION) as connection:
                portals = Portals(connection)
                missed, going = connection.missed, connection.going
        except FileNotFoundError:
            if whole:
                raise
            return Portals(None)
        return None if going or (missed and not os.access(name, os.F_OK, dir_fd=self._connections)) else portals

    def _transport(self, host: int) -> str:
        """``iscsi_tcp`` -> ``tcp``; other drivers are named as their transport. OSError when the host is gone."""
        if host not in self._transports:
            with Attributes(f"{self._hosts}/host{host}") as attributes:
                self._transports[host] = attributes.text("proc_name").removeprefix("iscsi_")
        return self._transports[host]


class Portals:
    """What a connection adds to a row; nothing is known without one. Where one pair is missing, both hold the other."""

    __slots__ = ("address", "persistent_address", "persistent_port", "port", "state")

    def __init__(self, connection: Attributes | None) -> None:
        self.address = self.persistent_address = self.state = ""
        self.port = self.persistent_port = UNKNOWN
        if connection is None:
            return
        persistent_address, address = connection.text("persistent_address"), connection.text("address")
        persistent_port, port = connection.number("persistent_port"), connection.number("port")
        self.persistent_address = persistent_address or address
        self.persistent_port = port if persistent_port == UNKNOWN else persistent_port
        self.address = address or persistent_address
        self.port = persistent_port if port == UNKNOWN else port
        self.state = connection.text("state")


def _row(sid: int, host: int, transport: str, session: Attributes, portals: Portals) -> SessionRow | None:
    target = session.raw("targetname")
    if target is None:
        return None
    return SessionRow(
        sid=sid,
        host=host,
        transport=transport,
        target="" if target in UNSET else target,
        tpgt=session.number("tpgt"),
        persistent_address=portals.persistent_address,
        persistent_port=portals.persistent_port,
        address=portals.address,
        port=portals.port,
        iface_name=session.text("ifacename") or DEFAULT,
        initiator_name=session.text("initiatorname"),
        state=session.text("state"),
        connection_state=portals.state,
        flash=session.raw("creator") == "-1",
    )


def _host_of(link: str) -> int:
    """``../../devices/platform/host2/session1/iscsi_session/session1`` -> 2. ValueError when it is no such path."""
    name = link.rsplit("/", 4)[1]
    if not name.startswith("host"):
        raise ValueError(f"{link} names no host")
    return int(name[4:])
