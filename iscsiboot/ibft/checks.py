# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be said against the values of a table that could be read: findings, no changes.

The rules themselves (what a boot may use) are in :mod:`iscsiboot.ibft.convert`; here stands only what is worth telling
about the table even when nothing of it is used.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from iscsiboot.ibft import layout
from iscsiboot.ibft.findings import FindingLog
from iscsiboot.ibft.layout import ChapType, Layout, Origin
from iscsiboot.ibft.structures import IbftInitiator, IbftNic, IbftTable, IbftTarget
from iscsiboot.model.names import InvalidName, check_iscsi_name
from iscsiboot.model.portal import IpAddress

VLAN_MAX = 4094
"""IEEE 802.1Q: 0 is untagged, 4095 reserved."""


def prefix_max(address: IpAddress) -> int:
    """The longest prefix of the address's family."""
    return 32 if isinstance(address, IPv4Address) else 128


def check_values(table: IbftTable, log: FindingLog) -> None:
    """Add what is odd about the values of ``table`` to ``log``."""
    if table.initiator is None:
        at = layout.CONTROL_OFFSET + layout.INITIATOR_OFFSET
        log.error("control", "initiator offset", "the table has no initiator structure that can be read", at)
    else:
        _check_initiator(table.initiator, log)
    for nic in table.nics:
        _check_nic(nic, log)
    indexes = {nic.index for nic in table.nics}
    for target in table.targets:
        _check_target(target, indexes, log)


def _where(own: Layout, structure: IbftInitiator | IbftNic | IbftTarget, attribute: str) -> tuple[str, str, int]:
    spec = own.field(attribute)
    return f"{own.name} {structure.index}", spec.label, structure.offset + spec.offset


def _check_name(own: Layout, structure: IbftInitiator | IbftTarget, log: FindingLog) -> None:
    name, label, at = _where(own, structure, "name")
    if structure.name == "" and log.about(name, label):
        return  # the parser has said why there is none
    try:
        check_iscsi_name(structure.name)
    except InvalidName as bad:
        log.error(name, label, str(bad), at)


def _check_initiator(initiator: IbftInitiator, log: FindingLog) -> None:
    if not initiator.valid:
        flags_at = initiator.offset + layout.FLAGS_OFFSET
        problem = "not marked valid; used nevertheless, there is only one"
        log.warning(f"initiator {initiator.index}", "flags", problem, flags_at)
    _check_name(layout.INITIATOR, initiator, log)


def _check_nic(nic: IbftNic, log: FindingLog) -> None:
    if not (nic.valid or nic.boot_selected):
        return  # an unused slot may hold anything
    if nic.mac is None:
        log.error(*_where_problem(layout.NIC, nic, "mac", "not set: the NIC cannot be found"))
    elif nic.mac[0] & 1:
        log.error(*_where_problem(layout.NIC, nic, "mac", f"{nic.mac.hex(':')} is a group address"))
    if nic.address is not None and not 1 <= nic.prefix_len <= prefix_max(nic.address):
        problem = f"{nic.prefix_len} is no prefix length for {nic.address}"
        log.error(*_where_problem(layout.NIC, nic, "prefix_len", problem))
    if nic.vlan > VLAN_MAX:
        log.error(*_where_problem(layout.NIC, nic, "vlan", f"{nic.vlan} is outside 0 to {VLAN_MAX}"))
    if nic.origin not in list(Origin):
        log.warning(*_where_problem(layout.NIC, nic, "origin", f"{nic.origin} is not an origin that is defined"))


def _check_target(target: IbftTarget, nic_indexes: set[int], log: FindingLog) -> None:
    if not (target.valid or target.boot_selected):
        return
    _check_name(layout.TARGET, target, log)
    if target.address is None:
        log.error(*_where_problem(layout.TARGET, target, "address", "not set"))
    if target.port == 0:
        log.error(*_where_problem(layout.TARGET, target, "port", "0 is not a TCP port"))
    if target.nic_index not in nic_indexes:
        problem = f"there is no NIC {target.nic_index} that can be read"
        log.error(*_where_problem(layout.TARGET, target, "nic_index", problem))
    if target.chap_type not in list(ChapType):
        problem = f"{target.chap_type} is not defined; decided by the names and secrets there are"
        log.warning(*_where_problem(layout.TARGET, target, "chap_type", problem))


def _where_problem(
    own: Layout, structure: IbftNic | IbftTarget, attribute: str, problem: str
) -> tuple[str, str, str, int]:
    name, label, at = _where(own, structure, attribute)
    return name, label, problem, at
