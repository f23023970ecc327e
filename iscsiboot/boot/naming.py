# SPDX-License-Identifier: LGPL-2.1-or-later
"""By which initiator name a boot logs in: the command line's, firmware's, the file's, one made from the machine.

The last two are :func:`iscsiboot.database.initiator_name.choose`, which iscsiadm asks, too: a machine has one name, in
the initramfs and later. The table decides alone where it has a name: a file that cannot be read keeps nobody from root.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.boot import Sourced
from iscsiboot.model.names import InvalidName, check_iscsi_name

NAME_FILE = Path("iscsi/initiatorname.iscsi")
"""Below /etc."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """An initiator name and where it is from, both for the console."""

    text: str
    source: str
    notes: tuple[str, ...] = ()
    """What somebody should know about it, a line each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NameRoots:
    """Where :mod:`iscsiboot.database.initiator_name` looks, as texts."""

    etc: str
    sysfs: str
    proc: str

    @property
    def initiator_name(self) -> str:
        """The file."""
        return f"{self.etc}/{NAME_FILE}"


def choose_name(given: str | None, firmware: Sourced[str] | None, roots: NameRoots) -> Name:
    """The name for a login; ``given`` is ``-i``, ``firmware`` the table's.

    IscsiBootError when ``-i`` or the file holds something else than an iSCSI name, and when nothing names the machine.
    """
    if given is not None:
        return Name(text=_checked(given), source="the command line")
    if firmware is not None:
        return Name(text=firmware.value, source=f"firmware ({firmware.source.kind})")
    # Most boots have the table's name and do without this.
    from iscsiboot.database.initiator_name import choose

    found = choose(roots)
    return Name(text=found.name, source=found.source, notes=found.notes)


def _checked(text: str) -> str:
    try:
        return check_iscsi_name(text)
    except InvalidName as error:
        raise IscsiBootError(
            f"{quoted(text)} is no iSCSI name: {error}",
            stage=Stage.ARGUMENTS,
            subject="InitiatorName",
            hint="a name looks like iqn.2001-04.com.example:disk1",
            exit_code=ExitCode.INVAL,
        ) from error
