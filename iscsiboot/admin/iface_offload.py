# SPDX-License-Identifier: LGPL-2.1-or-later
"""Interface records of adapters that carry iSCSI by themselves (qla4xxx, be2iscsi, bnx2i, cxgb, qedi).

Their driver shows hosts, and the network interfaces of each host, in sysfs. Whoever wants to use one needs a record
that names it, so a record is made from what the driver tells wherever there is none. What is there is never changed: it
is what an administrator configured.

open-iscsi makes such records for hosts of software iSCSI too, once a session is bound to a MAC address; nothing can use
them, and none is made here. Nor is a module loaded because a NIC could have an offload driver.
"""

from __future__ import annotations

from iscsiboot.database.record import Record, iface_defaults
from iscsiboot.sysfs.attributes import names
from iscsiboot.sysfs.listing import Attributes, c_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.database.store import Database

SOFTWARE = frozenset({"", "tcp", "iser"})

IPV4 = {
    "bootproto": "bootproto",
    "gateway": "gateway",
    "subnet_mask": "subnet",
    "dhcp_alt_client_id_state": "dhcp_alt_client_id_en",
    "dhcp_alt_client_id": "dhcp_alt_client_id",
    "dhcp_dns": "dhcp_dns_address_en",
    "dhcp_learn_iqn": "dhcp_learn_iqn_en",
    "dhcp_req_vendor_id_state": "dhcp_req_vendor_id_en",
    "dhcp_vendor_id_state": "dhcp_use_vendor_id_en",
    "dhcp_vendor_id": "dhcp_vendor_id",
    "dhcp_slp_da": "dhcp_slp_da_info_en",
    "fragmentation": "fragment_disable",
    "gratuitous_arp": "grat_arp_en",
    "incoming_forwarding": "incoming_forwarding_en",
    "tos_state": "tos_en",
    "tos": "tos",
    "ttl": "ttl",
}
"""Setting -> attribute of ``ipv4-iface-<host>-<number>`` (drivers/scsi/scsi_transport_iscsi.c)."""
IPV6 = {
    "ipv6_autocfg": "ipaddr_autocfg",
    "ipv6_linklocal": "link_local_addr",
    "linklocal_autocfg": "link_local_autocfg",
    "ipv6_router": "router_addr",
    "router_autocfg": "router_state",
    "gratuitous_neighbor_adv": "grat_neighbor_adv_en",
    "mld": "mld_en",
    "dup_addr_detect_cnt": "dup_addr_detect_cnt",
    "hop_limit": "hop_limit",
    "flow_label": "flow_label",
    "nd_reachable_tmo": "nd_reachable_tmo",
    "nd_rexmit_time": "nd_rexmit_time",
    "nd_stale_tmo": "nd_stale_tmo",
    "router_adv_link_mtu": "router_adv_link_mtu",
    "traffic_class": "traffic_class",
}
BOTH = {
    "port": "port",
    "mtu": "mtu",
    "vlan_id": "vlan_id",
    "vlan_priority": "vlan_priority",
    "vlan_state": "vlan_enabled",
    "state": "enabled",
    "delayed_ack": "delayed_ack_en",
    "tcp_nagle": "tcp_nagle_disable",
    "tcp_wsf_state": "tcp_wsf_disable",
    "tcp_wsf": "tcp_wsf",
    "tcp_timer_scale": "tcp_timer_scale",
    "tcp_timestamp": "tcp_timestamp_en",
    "redirect": "redirect_en",
    "def_task_mgmt_timeout": "def_taskmgmt_tmo",
    "header_digest": "header_digest",
    "data_digest": "data_digest",
    "immediate_data": "immediate_data",
    "initial_r2t": "initial_r2t",
    "data_seq_inorder": "data_seq_in_order",
    "data_pdu_inorder": "data_pdu_in_order",
    "erl": "erl",
    "max_receive_data_len": "max_recv_dlength",
    "first_burst_len": "first_burst_len",
    "max_outstanding_r2t": "max_outstanding_r2t",
    "max_burst_len": "max_burst_len",
    "chap_auth": "chap_auth",
    "bidi_chap": "bidi_chap",
    "strict_login_compliance": "strict_login_comp_en",
    "discovery_auth": "discovery_auth_optional",
    "discovery_logout": "discovery_logout",
}
UNTAGGED = {"iface.vlan_id": "65535", "iface.vlan_priority": "255"}
"""What stands for "the driver does not tell", where 0 would be a VLAN."""


def make_records(database: Database, context: Context, wanted: str = "") -> None:
    """Store a record for each interface of each such adapter that has none.

    ``wanted`` is a name somebody asked for and nobody has: ``<driver>.<MAC address>``, as older releases called an
    adapter's interface, is made then as well. DatabaseError when a record cannot be written.
    """
    sysfs = context.paths.sysfs
    records = [record for host in offload_hosts(sysfs) for record in _records_of(sysfs, *host, wanted)]
    if not records:
        return
    known = set(database.iface_names())
    missing = [record for record in records if record.get("iface.iscsi_ifacename") not in known]
    if missing:
        with database.change() as change:
            for record in missing:
                change.put_iface(record)


def offload_hosts(sysfs: str) -> list[tuple[int, str]]:
    """Number and transport of each host whose driver carries iSCSI by itself, by number."""
    hosts = []
    for name in names(f"{sysfs}/class/iscsi_host"):
        transport = _attribute(f"{sysfs}/class/scsi_host/{name}", "proc_name").removeprefix("iscsi_")
        if transport not in SOFTWARE:
            hosts.append((c_number(name.removeprefix("host")), transport))
    return sorted(hosts)


def _attribute(directory: str, name: str) -> str:
    try:
        with Attributes(directory) as attributes:
            return attributes.text(name)
    except OSError:
        return ""


def _records_of(sysfs: str, number: int, transport: str, wanted: str) -> list[Record]:
    """The records for one host; none when it has no MAC address, which is what it is found again by."""
    directory = f"{sysfs}/class/iscsi_host/host{number}"
    hwaddress = _attribute(directory, "hwaddress")
    if not hwaddress:
        return []
    common = {
        "iface.hwaddress": hwaddress,
        "iface.net_ifacename": _attribute(directory, "netdev") or "default",
        "iface.initiatorname": _attribute(directory, "initiatorname"),
    }
    records = []
    for name in names(f"{sysfs}/class/iscsi_iface"):
        # ipv4-iface-7-0: IP version, host, number of the interface on it.
        family, _, of_host = name.partition("-iface-")
        host, _, interface = of_host.partition("-")
        if family in ("ipv4", "ipv6") and host == str(number):
            values = _settings(f"{sysfs}/class/iscsi_iface/{name}", IPV4 if family == "ipv4" else IPV6)
            values["iface.iface_num"] = interface
            label = f"{transport}.{hwaddress}.{family}.{interface}"
            records.append(_with(iface_defaults(label, transport), {**common, **values}))
    if not records:
        address = _attribute(directory, "ipaddress") or "default"
        family = "ipv6" if address.count(":") > 1 else "ipv4"
        record = iface_defaults(f"{transport}.{hwaddress}.{family}.0", transport)
        records.append(_with(record, {**common, "iface.ipaddress": address}))
        if wanted == f"{transport}.{hwaddress}":
            records.append(_with(iface_defaults(wanted, transport), {"iface.hwaddress": hwaddress}))
    return records


def _with(record: Record, values: dict[str, str]) -> Record:
    """The record with those of the values it takes: an odd word of one driver must not fail every list."""
    for name, text in values.items():
        try:
            record = record.changed({name: text})
        except ValueError:
            continue
    return record


def _settings(directory: str, of_family: dict[str, str]) -> dict[str, str]:
    """What a driver tells about one of its interfaces. A number it does not tell is 0, or :data:`UNTAGGED`."""
    values = {"iface.ipaddress": _attribute(directory, "ipaddress") or "default"}
    numbers = iface_defaults("default").values
    for setting, attribute in {**of_family, **BOTH}.items():
        name = f"iface.{setting}"
        text = _attribute(directory, attribute)
        if numbers[name] == "0":
            text = str(c_number(text)) if text else UNTAGGED.get(name, "0")
        values[name] = text
    return values
