# SPDX-License-Identifier: LGPL-2.1-or-later
"""What this machine calls itself: a file's ``InitiatorName=``, else a name made from the machine's identity.

Targets let machines in by this name, so it must be there, stay, and be nobody else's. The first of these that has one
gives it (:func:`choose`):

1. firmware: the name the machine booted with. Whoever calls reads it, this module knows no firmware;
2. ``initiatorname.iscsi``: ``InitiatorName=``, ``InitiatorAlias=``; with Debian's ``GenerateName=yes`` it asks for 3;
3. made from the machine's identity: the same in the initramfs and later, and nothing has to be written for it.

The identity is the first of SMBIOS product UUID, device tree serial number and machine-id. machine-id is last although
it is the usual one: it lies on the disk, so a cloned disk carries it to another machine, and in an initramfs it is
missing or made up at each boot. A made name shows that it is one (``:machine.`` and sixteen hexadecimal digits), so
that a file with such a name that came from another machine is noticed.

Imported by commands that log in and by the daemon; LEAN like all of this package.
"""

from __future__ import annotations

import errno
import os
import re

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.names import InvalidName, check_iscsi_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class NamePaths(Protocol):
        """Where to look; ``iscsiboot.admin.context.Paths`` is one."""

        @property
        def initiator_name(self) -> str:
            """The file, ``/etc/iscsi/initiatorname.iscsi``."""

        @property
        def etc(self) -> str:
            """``/etc``."""

        @property
        def sysfs(self) -> str:
            """``/sys``."""

        @property
        def proc(self) -> str:
            """``/proc``."""


PREFIX = "iqn.2016-04.com.open-iscsi"
"""What open-iscsi's iscsi-iname puts before a name; a site's access lists may go by it."""
DEBIAN_PREFIX = "iqn.1993-08.org.debian:01"
"""What Debian puts before the name it makes for ``GenerateName=yes``."""
ALIAS_MAX_BYTES = 255
"""RFC 7143 section 13.2: text values are at most 255 bytes unless said otherwise."""
FILE_MAX_BYTES = 1 << 16

_MADE = re.compile(r"(.*):machine\.([0-9a-f]{16})")
_APPLICATION = b"iscsiboot initiator name 1"
"""Keyed into each made name: machine-id(5) must not be shown, and other programs must not come to the same digits."""
_NO_UUIDS = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
        "12345678-1234-5678-90ab-cddeefaabbcc",
        "fefefefe-fefe-fefe-fefe-fefefefefefe",
    }
)
"""Product UUIDs that mean nobody filled one in; the third is AMI's sample, on boards of many makers."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")


class InitiatorName:
    """The answer; frozen by convention."""

    __slots__ = ("alias", "name", "notes", "source")

    def __init__(self, name: str, alias: str, source: str, notes: tuple[str, ...] = ()) -> None:
        self.name = name
        """An iSCSI name, in whichever case it was written."""
        self.alias = alias
        """``InitiatorAlias``; the host name when the file gives none."""
        self.source = source
        """Where the name is from: ``firmware``, the file's path, or which identity of the machine."""
        self.notes = notes
        """What somebody should know, a line each; nothing here keeps anyone from using the name."""

    def __repr__(self) -> str:
        return f"InitiatorName({self.name!r}, {self.alias!r}, {self.source!r}, {self.notes!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InitiatorName):
            return NotImplemented
        return (self.name, self.alias, self.source, self.notes) == (other.name, other.alias, other.source, other.notes)

    def __hash__(self) -> int:
        return hash((self.name, self.alias, self.source, self.notes))


class NameFile:
    """What ``initiatorname.iscsi`` says, unchecked; empty texts where it says nothing."""

    __slots__ = ("alias", "generate", "name", "notes", "path", "there")

    def __init__(
        self,
        path: str,
        name: str = "",
        alias: str = "",
        generate: bool = False,
        notes: tuple[str, ...] = (),
        there: bool = False,
    ) -> None:
        self.path = path
        self.name = name
        self.alias = alias
        self.generate = generate
        """``GenerateName=yes``: Debian makes a name at the first start of the daemon."""
        self.notes = notes
        self.there = there


class Identity:
    """What tells this machine from others: a text that stays, and where it is from."""

    __slots__ = ("source", "text")

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source


def _error(cause: str, subject: str, hint: str) -> IscsiBootError:
    return IscsiBootError(cause, stage=Stage.ARGUMENTS, subject=subject, hint=hint, exit_code=ExitCode.INVAL)


def choose(paths: NamePaths, firmware: str | None = None) -> InitiatorName:
    """Name and alias of this machine, ``firmware`` being the one its firmware booted with (None or empty: it has none).

    IscsiBootError when the file cannot be read or holds something that is no iSCSI name, or when nothing names the
    machine at all. A name of the file that is not used is not checked.
    """
    file = read_name_file(paths.initiator_name)
    alias, notes = _alias(file)
    if firmware:
        if file.name and file.name != firmware:
            notes.append(f"firmware's initiator name {firmware} is used, not {quoted(file.name)} of {file.path}")
        return InitiatorName(firmware, alias, "firmware", tuple(notes))
    if file.name:
        name = _checked(file)
        notes.extend(_clone_note(paths, file.path, name))
        return InitiatorName(name, alias, file.path, tuple(notes))
    identity = find_identity(paths)
    made = made_name(identity, DEBIAN_PREFIX if file.generate else PREFIX)
    if file.there and not file.generate:
        # A slip in the word, or another file: targets would refuse a name nobody has told them.
        notes.append(f"{file.path} has no line InitiatorName=: {made} is used, made of {identity.source}")
    return InitiatorName(made, alias, identity.source, tuple(notes))


def read_name_file(path: str) -> NameFile:
    """The file's settings; none when there is no file. IscsiBootError when it is there and cannot be read.

    As open-iscsi reads it: ``KEY=VALUE``, blanks around both trimmed, the first line of a key counts, a line with
    ``#`` in front says nothing. Unlike there a key is a whole word: ``OldInitiatorName=`` is another one.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return NameFile(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        data = os.read(descriptor, FILE_MAX_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    found: dict[str, str] = {}
    notes: list[str] = []
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            continue
        if key in found and key == "InitiatorName":
            notes.append(f"{path} gives InitiatorName more than once, the first counts")
        found.setdefault(key, value)
    return NameFile(
        path,
        name=found.get("InitiatorName", ""),
        alias=found.get("InitiatorAlias", ""),
        generate=found.get("GenerateName", "") == "yes",
        notes=tuple(dict.fromkeys(notes)),
        there=True,
    )


def _unreadable(path: str, error: OSError) -> IscsiBootError:
    refused = error.errno in (errno.EACCES, errno.EPERM)
    hint = "only root may read it" if refused else "put a file with a line InitiatorName= there"
    return _error(f"cannot be read: {error.strerror}", path, hint)


def _checked(file: NameFile) -> str:
    try:
        return check_iscsi_name(file.name)
    except InvalidName as error:
        raise _error(
            f"InitiatorName={quoted(file.name)} is no iSCSI name: {error}",
            file.path,
            "`iscsi-iname -g` prints a right line",
        ) from error


def _alias(file: NameFile) -> tuple[str, list[str]]:
    notes = list(file.notes)
    if not file.alias:
        return os.uname().nodename, notes
    if len(file.alias.encode("utf-8", "surrogateescape")) > ALIAS_MAX_BYTES or not file.alias.isprintable():
        notes.append(f"InitiatorAlias of {file.path} is left out: it has over {ALIAS_MAX_BYTES} bytes or is no text")
        return os.uname().nodename, notes
    return file.alias, notes


def made_name(identity: Identity, prefix: str = PREFIX) -> str:
    """The name made for a machine: the same whenever and wherever it is made."""
    # hashlib costs as much as all of a listing; few commands need a made name.
    import hmac

    digest = hmac.digest(identity.text.encode(), _APPLICATION, "sha256")
    return f"{prefix}:machine.{digest[:8].hex()}"


def _clone_note(paths: NamePaths, path: str, name: str) -> list[str]:
    """A line when ``name`` was made for another machine: the disk it lies on was copied here."""
    made = _MADE.fullmatch(name)
    if made is None:
        return []
    try:
        mine = made_name(find_identity(paths), made[1])
    except IscsiBootError:
        return []
    if mine == name:
        return []
    return [
        f"{path} was copied from another machine: its name was made there, here it would be {mine}; "
        "two machines with one name disturb each other's sessions"
    ]


def find_identity(paths: NamePaths) -> Identity:
    """What tells this machine from others; IscsiBootError when there is nothing, or only for root to see."""
    for find in (_product_uuid, _device_tree_serial, _machine_id):
        identity = find(paths)
        if identity is not None:
            return identity
    raise _error(
        "no name is set, and nothing tells this machine from others: no product UUID, no serial number, no machine-id",
        paths.initiator_name,
        "write one: `iscsi-iname -g` prints the line",
    )


def _text(path: str) -> str | None:
    """A small file's text without blanks and zero bytes around it; None when it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        # Going on with another identity would give one machine two names, by who asks.
        raise _unreadable(path, error) from error
    try:
        return os.read(descriptor, 4096).decode("utf-8", "replace").strip("\0 \t\r\n")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _product_uuid(paths: NamePaths) -> Identity | None:
    text = (_text(f"{paths.sysfs}/class/dmi/id/product_uuid") or "").lower()
    if not _UUID.fullmatch(text) or text in _NO_UUIDS:
        return None
    return Identity(text, "SMBIOS product UUID")


def _device_tree_serial(paths: NamePaths) -> Identity | None:
    text = _text(f"{paths.proc}/device-tree/serial-number") or ""
    if len(text) < 4 or not text.isprintable() or not text.strip("0 -"):
        return None
    return Identity(text, "device tree serial number")


def _machine_id(paths: NamePaths) -> Identity | None:
    """machine-id(5), but not in an initramfs: systemd makes one up there that nobody sees again.

    ``uninitialized`` (the first boot is still on), an empty file (an image that is to be copied) and zeros are none.
    """
    if os.access(f"{paths.etc}/initrd-release", os.F_OK):
        return None
    text = (_text(f"{paths.etc}/machine-id") or "").lower()
    if not _MACHINE_ID.fullmatch(text) or not text.strip("0"):
        return None
    return Identity(text, "machine-id")
