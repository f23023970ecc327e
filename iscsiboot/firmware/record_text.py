# SPDX-License-Identifier: LGPL-2.1-or-later
"""The boot table as records in the peer's words and order (open-iscsi 2.1.8): ``iscsistart -f``, ``iscsiadm -m fw``.

Programs parse this, so it shows what the peer shows, CHAP secrets in the clear included: it is only printed where
somebody asked for it by name, and ``iscsiboot explain`` is the view without secrets.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from iscsiboot.model.boot import BootConfig, BootNic, BootTarget

DHCP_ORIGIN = 3
"""iBFT prefix origin "DHCP"."""


def render(config: BootConfig, version: str) -> str:
    """One record a target, a NIC's values in front of the target's; ``version`` is in each one's first line."""
    return "".join(_record(config, target, version) for target in config.targets)


def record_values(config: BootConfig, target: BootTarget) -> dict[str, str]:
    """Names and values of one target's record in their order; what the table does not say is left out."""
    return {key: value for key, value in _values(config, target) if value}


def _record(config: BootConfig, target: BootTarget, version: str) -> str:
    lines = [f"{key} = {value}" for key, value in record_values(config, target).items()]
    return "\n".join([f"# BEGIN RECORD {version}", *lines, "# END RECORD", ""])


def _values(config: BootConfig, target: BootTarget) -> Iterator[tuple[str, str]]:
    nic = config.nic_of(target)
    if config.initiator_name:
        yield "iface.initiatorname", config.initiator_name.value
    yield "iface.transport_name", "tcp"
    if nic is not None:
        yield from _nic_values(nic)
    yield "node.name", target.name.value
    yield "node.conn[0].address", str(target.address.value)
    yield "node.conn[0].port", str(target.port.value)
    if target.credentials is not None:
        chap = target.credentials.value
        yield "node.session.auth.username", chap.outgoing.name
        yield "node.session.auth.password", chap.outgoing.secret.reveal().decode("utf-8", "backslashreplace")
        if chap.incoming is not None:
            yield "node.session.auth.username_in", chap.incoming.name
            yield "node.session.auth.password_in", chap.incoming.secret.reveal().decode("utf-8", "backslashreplace")
    yield "node.boot_lun", "".join(f"{byte:x}" for byte in target.lun.value.wire)


def _nic_values(nic: BootNic) -> Iterator[tuple[str, str]]:
    yield "iface.hwaddress", nic.mac.value if nic.mac else ""
    yield "iface.bootproto", "DHCP" if nic.dhcp is not None and nic.dhcp.value else "STATIC"
    yield "iface.ipaddress", str(nic.address.value) if nic.address else ""
    if nic.prefix_len is not None:
        yield "iface.prefix_len", str(nic.prefix_len.value)
        if nic.address is not None and nic.address.value.version == 4:
            yield "iface.subnet_mask", str(ipaddress.ip_network(f"0.0.0.0/{nic.prefix_len.value}").netmask)
    yield "iface.gateway", str(nic.gateway.value) if nic.gateway else ""
    for name, server in zip(("iface.primary_dns", "iface.secondary_dns"), nic.dns, strict=False):
        yield name, str(server.value)
    yield "iface.vlan_id", str(nic.vlan.value) if nic.vlan else "0"
    yield "iface.net_ifacename", nic.netdev.value if nic.netdev else ""
