# SPDX-License-Identifier: LGPL-2.1-or-later
"""The boot table for commands: read once, and made into node records as open-iscsi makes them.

A record from firmware has the table's names, addresses and CHAP values and iscsid.conf's settings for the rest. CHAP of
iscsid.conf is for other targets: a target without CHAP in the table gets none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.admin.context import Context
from iscsiboot.database.names import NodeKey
from iscsiboot.database.record import Record
from iscsiboot.errors import ExitCode
from iscsiboot.firmware.nic_names import with_netdevs
from iscsiboot.firmware.read import read_firmware
from iscsiboot.firmware.report import FirmwareRoots, SourceState
from iscsiboot.model.boot import BootConfig, BootTarget
from iscsiboot.model.credentials import Credentials
from iscsiboot.orders.record_values import AUTH

TPGT = 1
"""A boot table has no portal group tag; this is what the peer records."""
FROM_TABLE = (
    "iface.initiatorname",
    f"{AUTH}username",
    f"{AUTH}password",
    f"{AUTH}username_in",
    f"{AUTH}password_in",
)
"""Settings of a record that firmware knows and iscsid.conf does not."""
ONBOOT = {"node.startup": "onboot", "node.conn[0].startup": "onboot"}
"""What the machine boots from is logged out of by nobody. open-iscsi does so since 2.1.11, not in 2.1.8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FirmwareNode:
    """One target of the table as a record, and what the kernel is told about its place in the table."""

    key: NodeKey
    record: Record
    boot: tuple[str, str, str]
    """``ibft`` or ``iscsi_bootN``, ``ethernetN`` or nothing, ``targetN``."""


def read_table(context: Context) -> BootConfig | None:
    """The boot table; None, and why on stderr, when there is none to use. See :func:`no_table_code` for the status."""
    roots = FirmwareRoots(sysfs=Path(context.paths.sysfs), proc=Path(context.paths.proc))
    report = read_firmware(roots)
    if report.config is not None and report.config.targets:
        return with_netdevs(report.config, roots.sysfs)
    context.error(f"Could not get list of targets from firmware. (err {int(no_table_code(context))})")
    problem = report.problem()
    # That a machine has no table is no failure: this command is how boot scripts find out.
    if problem is not None and any(source.state is not SourceState.ABSENT for source in report.sources):
        context.error(problem.line(), cause=problem)
    return None


def no_table_code(context: Context) -> ExitCode:
    """The exit status of a command that found no table: 22 where ``/sys/firmware`` itself cannot be read."""
    try:
        os.listdir(f"{context.paths.sysfs}/firmware")  # noqa: PTH208  # whether it can be read
    except OSError:
        return ExitCode.SYSFS_LOOKUP
    return ExitCode.NO_OBJS_FOUND


def firmware_nodes(config: BootConfig, base: Record, iface: Record) -> list[FirmwareNode]:
    """A record for each target of the table. ``base`` has iscsid.conf's settings, ``iface`` is the interface to use."""
    bound = {name: value for name, value in iface.values.items() if name.startswith("iface.")}
    record = base.changed({**bound, "node.discovery_type": "fw"})
    return [_node(config, target, record) for target in config.targets]


def _node(config: BootConfig, target: BootTarget, base: Record) -> FirmwareNode:
    credentials = target.credentials.value if target.credentials else None
    values = {
        "node.name": target.name.value,
        "node.tpgt": str(TPGT),
        "node.conn[0].address": str(target.address.value),
        "node.conn[0].port": str(target.port.value),
        **_auth_values(credentials),
    }
    if config.initiator_name is not None:
        values["iface.initiatorname"] = config.initiator_name.value
    record = base.changed(values)
    return FirmwareNode(key=record.node_key, record=record, boot=_place(config, target))


def _auth_values(credentials: Credentials | None) -> dict[str, str]:
    values = dict.fromkeys(FROM_TABLE[1:], "")
    if credentials is None:
        return values
    outgoing, incoming = credentials.outgoing, credentials.incoming
    values[f"{AUTH}username"] = outgoing.name
    values[f"{AUTH}password"] = _text(outgoing.secret.reveal())
    if incoming is not None:
        values[f"{AUTH}username_in"] = incoming.name
        values[f"{AUTH}password_in"] = _text(incoming.secret.reveal())
    return values


def _text(secret: bytes) -> str:
    return secret.decode("utf-8", "surrogateescape")


def _place(config: BootConfig, target: BootTarget) -> tuple[str, str, str]:
    """Where the table has it, in the kernel's words (its parameters boot_root, boot_nic, boot_target)."""
    kind, nic = target.name.source.kind, config.nic_of(target)
    root = kind if kind.startswith("iscsi_boot") else "ibft"
    return root, f"ethernet{nic.index}" if nic else "", f"target{target.index}"
