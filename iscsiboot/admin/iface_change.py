# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m iface -o new``, ``update`` and ``delete``.

An interface is a file of its own, and each node record bound to it holds a copy of its settings. Both change in one
:class:`~iscsiboot.database.store.Change`. Sessions keep what they were made with: an update says so.

open-iscsi exits with status 0 after an update it refused, and says an interface was added whose settings it refused.
Here the status is that of the failure, and nothing is written.
"""

from __future__ import annotations

from iscsiboot.admin.iface_list import BUILT_IN
from iscsiboot.admin.matching import records_of, rows_of, transport_of
from iscsiboot.admin.node_change import unused
from iscsiboot.admin.node_mode import read_iface
from iscsiboot.admin.node_values import Checked, check_pairs
from iscsiboot.database.keys import BY_KIND
from iscsiboot.database.names import Pattern
from iscsiboot.database.record import Record, iface_defaults
from iscsiboot.errors import EXIT_TEXT, ExitCode
from iscsiboot.sysfs.listing import Attributes, list_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iscsiboot.admin.context import Context
    from iscsiboot.database.keys import Key
    from iscsiboot.database.names import NodeKey
    from iscsiboot.database.store import Database

    Pairs = Sequence[tuple[str, str]]

NAME_KEY = "iface.iscsi_ifacename"
NETDEV_KEY = "iface.net_ifacename"
HWADDRESS_KEY = "iface.hwaddress"
IN_USE = (
    "Updating iface while iscsi sessions are using it. You must logout the running sessions then log back in "
    "for the new settings to take affect."
)
TRANSPORTS = frozenset({"tcp", "iser", "bnx2i", "cxgb3i", "cxgb4i", "qla4xxx", "be2iscsi", "ocs", "qedi"})
"""Drivers the peer knows and would load. A changed record needs none of them, so none is loaded for it."""
SHARED_VLAN = frozenset({"be2iscsi"})
"""Transports whose interfaces on one port have one VLAN: ``iface.vlan*`` goes to all of them."""


class _Step:
    """One interface and what it is to become."""

    __slots__ = ("checked", "fresh", "pairs", "record")

    def __init__(self, record: Record, pairs: Pairs, *, fresh: bool = False) -> None:
        self.record = record
        self.fresh = fresh
        """Whether the record takes the place of what is stored, instead of being made from it."""
        self.pairs = pairs
        self.checked = Checked()

    @property
    def name(self) -> str:
        return self.record.get(NAME_KEY)


def new_iface(database: Database, context: Context, name: str, pairs: Pairs) -> int:
    """``-o new -I NAME``: a fresh record in the place of one that is there, with ``pairs``. Returns the exit status."""
    old = database.read_iface(name)
    if old is not None and _sessions_of(old, context):
        return _not_created(context, name, ExitCode.SESS_EXISTS)
    if name in BUILT_IN:
        context.error(f"iface {name} is a special interface and is not stored in {context.paths.database}/ifaces.")
        return _not_created(context, name, ExitCode.INVAL)
    step = _Step(iface_defaults(name), pairs, fresh=True)
    if not _check(step, context):
        return _not_created(context, name, ExitCode.INVAL)
    _store(database, [step], context)
    context.say(f"New interface {name} added")
    return ExitCode.SUCCESS


def _not_created(context: Context, name: str, status: ExitCode) -> int:
    context.error(f"Could not create new interface {name}.")
    return status


def update_iface(database: Database, context: Context, name: str, pairs: Pairs) -> int:
    """``-o update -I NAME``: the record and those of the nodes bound to it. Returns the exit status."""
    record = read_iface(database, context, name)
    if record is None:
        context.error(f"Could not read iface info for {name}.")
        return ExitCode.INVAL
    if not transport_exists(transport_of(record), context.paths.sysfs):
        # The peer's spelling; programs may look for it.
        context.error(f"Cound not locate transport for iface {name}")
        return ExitCode.INVAL
    steps = []
    if transport_of(record) in SHARED_VLAN:
        vlan = [pair for pair in pairs if pair[0].startswith("iface.vlan")]
        pairs = [pair for pair in pairs if pair not in vlan]
        steps = [_Step(other, vlan) for other in database.ifaces() if _on_same_port(other, record)]
    steps.append(_Step(record, pairs))
    # Every step is looked at, so that everything that is wrong is told.
    good = [_check(step, context) for step in steps]
    if not all(good):
        return ExitCode.INVAL
    _store(database, steps, context)
    return ExitCode.SUCCESS


def _on_same_port(one: Record, other: Record) -> bool:
    names = ("iface.transport_name", HWADDRESS_KEY, "iface.iface_num")
    return all(one.get(name) == other.get(name) for name in names)


def _check(step: _Step, context: Context) -> bool:
    """Look at a step's pairs before anything is written; what is wrong is told."""
    if _sessions_of(step.record, context):
        context.error(IN_USE)
    refusal = _refusal(step)
    if not refusal:
        step.checked = check_pairs(step.pairs, keys_of(step.record), closing=False)
        for line in step.checked.lines:
            context.error(line)
    else:
        context.error(refusal)
    if refusal or step.checked.refused:
        context.error(f"Could not update iface {step.name}: {EXIT_TEXT[ExitCode.INVAL]}")
        step.checked.explain("iface", context)
        return False
    for line in step.checked.advice:
        context.notice(line)
    return True


def _refusal(step: _Step) -> str:
    """What no interface, or not this one, can be updated with; empty when nothing is in the way."""
    bound_by_hwaddress = step.record.get(HWADDRESS_KEY) not in ("", "default")
    bound_by_netdev = step.record.get(NETDEV_KEY) not in ("", "default")
    move = "Can not update interface binding from {} to {}. You must delete the interface and create a new one"
    for name, _ in step.pairs:
        if name == NAME_KEY:
            return "Can not update iface.iscsi_ifacename. Delete it, and then create a new one."
        if name == NETDEV_KEY and bound_by_hwaddress:
            return move.format("hwaddress", "net_ifacename")
        if name == HWADDRESS_KEY and bound_by_netdev:
            return move.format("net_ifacename", "hwaddress")
    if step.name in BUILT_IN:
        return f"iface {step.name} is a special interface and cannot be modified."
    return ""


def keys_of(record: Record) -> Mapping[str, Key]:
    """The keys an update takes: those of the interface's IP version, and those that belong to neither.

    The peer's command goes by the address here and its library by the name: an interface that has an IPv6 address and
    another name than ``ipv6`` gets a file the library cannot read, and every list of interfaces fails. The name counts.
    """
    other = 10 - record.family
    return {name: key for name, key in BY_KIND["iface"].items() if key.family != other}


def _store(database: Database, steps: Sequence[_Step], context: Context) -> None:
    """Write every step and the node records bound to it, all at once."""
    records: dict[str, Record] = {}
    with database.change() as change:
        for step in steps:
            # Two steps may be for one interface: what its port shares, and the rest.
            old = records.get(step.name)
            if old is None:
                # Read again now that nobody else can change it.
                old = step.record if step.fresh else database.read_iface(step.name) or step.record
            records[step.name] = old.changed(step.checked.values)
            change.put_iface(records[step.name])
            if step.checked.values:
                change.update_nodes(_bound_nodes(database, step), step.checked.values)
    for step in steps:
        context.say(f"{step.name} updated.")
    _emit(context, list(records.values()))


def _emit(context: Context, records: list[Record]) -> None:
    """The interfaces that were changed, for ``--json``."""
    if context.json:
        from iscsiboot.admin.json_objects import iface_object
        from iscsiboot.admin.json_out import emit

        emit(context, "iface", [iface_object(record) for record in records])


def _bound_nodes(database: Database, step: _Step) -> list[NodeKey]:
    """The records that are to follow. The peer looks for the new transport alone, so a changed one never got there."""
    transports = {transport_of(step.record), step.checked.values.get("iface.transport_name", "")}
    found = []
    for key, record in database.nodes(Pattern(iface=step.name)):
        if transport_of(record) in transports:
            found.append(key)
    return found


def delete_iface(database: Database, context: Context, name: str) -> int:
    """``-o delete -I NAME``: the record, and before it those of the nodes bound to it. Returns the exit status.

    open-iscsi deletes the node records of ``default`` and then says that ``default`` cannot be deleted; here it is said
    first.
    """
    record = read_iface(database, context, name)
    if record is None:
        context.error(f"Could not read iface info for {name}.")
        return _not_deleted(context, name, ExitCode.INVAL)
    if name in BUILT_IN:
        context.error(f"iface {name} is a special interface and cannot be deleted.")
        return _not_deleted(context, name, ExitCode.INVAL)
    pattern = Pattern(iface=name, transport=transport_of(record))
    keys = records_of(database, pattern)
    free = unused(database, context, keys)
    with database.change() as change:
        for key in free:
            change.delete_node(key)
        if len(free) == len(keys):
            change.delete_iface(name)
    if len(free) < len(keys):
        return _not_deleted(context, name, ExitCode.SESS_EXISTS)
    _emit(context, [record])
    context.say(f"{name} unbound and deleted.")
    return ExitCode.SUCCESS


def _not_deleted(context: Context, name: str, status: ExitCode) -> int:
    context.error(f"Could not delete iface {name}: {EXIT_TEXT[status]}")
    return status


def _sessions_of(record: Record, context: Context) -> bool:
    pattern = Pattern(iface=record.get(NAME_KEY), transport=transport_of(record))
    return bool(rows_of(pattern, list_rows(context.paths.sysfs)))


def transport_exists(name: str, sysfs: str) -> bool:
    """Whether the kernel has a driver of this name, or would have once it is loaded."""
    if not name or name in TRANSPORTS:
        return bool(name)
    try:
        with Attributes(f"{sysfs}/class/iscsi_transport/{name}"):
            return True
    except OSError:
        return False
