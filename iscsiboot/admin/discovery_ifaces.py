# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which interfaces a discovery goes through, and which of those asked for it cannot.

With ``-I`` those that are named; else every stored interface over tcp; else the default one. Adapters that log in by
themselves (offload) need their driver to discover; they are not supported yet and are left out with a line.
"""

from __future__ import annotations

import os

from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from iscsiboot.admin.context import Context
    from iscsiboot.database.record import Record
    from iscsiboot.database.store import Database

SOFTWARE = "tcp"


class Selection:
    """Interfaces to go through, and the status when there is none."""

    __slots__ = ("exit_code", "ifaces")

    def __init__(self, ifaces: list[Record], exit_code: ExitCode = ExitCode.SUCCESS) -> None:
        self.ifaces = ifaces
        self.exit_code = exit_code


def bound_ifaces(database: Database) -> list[Record]:
    """What is used without ``-I``."""
    stored = database.ifaces(stored_only=True)
    return [iface for iface in stored if iface.get("iface.transport_name") == SOFTWARE]


def default_iface(database: Database) -> Record:
    """The interface that binds nothing; it is there in every database."""
    default = database.read_iface("default")
    if default is None:
        raise RuntimeError("the default interface is missing")
    return default


def select_ifaces(names: Sequence[str], context: Context, database: Database) -> Selection:
    """The interfaces of a SendTargets discovery; what cannot be used is told."""
    if not names:
        return Selection(bound_ifaces(database) or [default_iface(database)])
    chosen: list[Record] = []
    exit_code = ExitCode.NO_OBJS_FOUND
    for name in names:
        iface = read_named(name, context, database)
        if iface is None:
            continue
        transport = iface.get("iface.transport_name")
        if transport == SOFTWARE:
            chosen.append(iface)
        elif os.path.isdir(f"{context.paths.sysfs}/class/iscsi_transport/{transport}"):  # noqa: PTH112  # str paths
            context.error(
                f"Discovery through transport {transport} is not supported yet. Dropping interface {name}."
                " Discover through a tcp interface, then log in through this one."
            )
            exit_code = ExitCode.OP_NOT_SUPP
        else:
            context.error(f"Could not load transport {transport}.Dropping interface {name}.")
    return Selection(chosen, ExitCode.SUCCESS if chosen else exit_code)


def read_named(name: str, context: Context, database: Database) -> Record | None:
    """The interface of one ``-I``; None, and a line, when there is no record of that name."""
    iface = database.read_iface(name)
    if iface is None:
        context.error(
            f"Could not read iface info for {name}. Make sure an iface config with the file name and "
            f"iface.iscsi_ifacename {name} is in {database.root}/ifaces."
        )
    return iface
