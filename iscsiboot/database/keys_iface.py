# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of an interface, ``iface.*``, in the order they are shown and stored in ``ifaces/``.

Software iSCSI (tcp) uses the first seven; the rest configures network adapters that carry iSCSI by themselves.
"""

from __future__ import annotations

from iscsiboot.database.key import Key

TEXT = 79
"""Bytes of a setting for which nothing else is said: the peer keeps it in 80 with a final NUL."""

_SWITCH = "enable or disable."


def _text(name: str, meaning: str, *, length: int = TEXT, family: int = 0) -> Key:
    return Key(f"iface.{name}", "str", "", meaning, length=length, family=family)


def _number(name: str, kind: str, meaning: str, *, family: int = 0) -> Key:
    return Key(f"iface.{name}", kind, "0", meaning, family=family)


IFACE: tuple[Key, ...] = (
    Key("iface.iscsi_ifacename", "str", "", "Name of this interface record.", length=64, lookup=True),
    _text("net_ifacename", "Network device sessions are bound to, such as eth1.", length=15),
    _text("ipaddress", "Address of the interface; offload adapters use it as their own.", length=1024),
    _number("prefix_len", "u8", "Bits of the network prefix."),
    _text("hwaddress", "MAC address sessions are bound to; it survives a renamed device.", length=17),
    Key("iface.transport_name", "str", "tcp", "Driver that carries the session: tcp, iser or an adapter's.", length=15),
    _text("initiatorname", "Initiator name of sessions over this interface, instead of the machine's.", length=255),
    _text("state", f"The network interface of the adapter: {_SWITCH}"),
    _number("vlan_id", "u16", "VLAN number."),
    _number("vlan_priority", "u8", "VLAN priority, 0 to 7."),
    _text("vlan_state", f"VLAN tagging: {_SWITCH}"),
    _number("iface_num", "int", "Number of the interface on its adapter."),
    _number("mtu", "u16", "Largest packet in bytes."),
    _number("port", "u16", "TCP port the adapter listens on."),
    _text("bootproto", "How the IPv4 address is found: dhcp or static.", family=4),
    _text("subnet_mask", "IPv4 network mask.", family=4),
    _text("gateway", "IPv4 gateway.", family=4),
    _text("dhcp_alt_client_id_state", f"Alternative DHCP client id: {_SWITCH}", family=4),
    _text("dhcp_alt_client_id", "The alternative DHCP client id.", family=4),
    _text("dhcp_dns", f"DNS servers from DHCP: {_SWITCH}", family=4),
    _text("dhcp_learn_iqn", f"Initiator name from DHCP: {_SWITCH}", family=4),
    _text("dhcp_req_vendor_id_state", f"Require the DHCP server's vendor id: {_SWITCH}", family=4),
    _text("dhcp_vendor_id_state", f"Send a DHCP vendor id: {_SWITCH}", family=4),
    _text("dhcp_vendor_id", "The DHCP vendor id.", family=4),
    _text("dhcp_slp_da", f"SLP directory agents from DHCP: {_SWITCH}", family=4),
    _text("fragmentation", f"IPv4 fragmentation: {_SWITCH}", family=4),
    _text("gratuitous_arp", f"Gratuitous ARP: {_SWITCH}", family=4),
    _text("incoming_forwarding", f"Forwarding of incoming packets: {_SWITCH}", family=4),
    _text("tos_state", f"IPv4 type of service: {_SWITCH}", family=4),
    _number("tos", "u8", "IPv4 type of service.", family=4),
    _number("ttl", "u8", "IPv4 time to live.", family=4),
    _text("ipv6_autocfg", "How the IPv6 address is found: nd, dhcpv6, or anything else for not at all.", family=6),
    _text("linklocal_autocfg", "Link-local address: auto, or anything else for the one given.", family=6),
    _text("router_autocfg", "Default router: auto, or anything else for the one given.", family=6),
    _text("ipv6_linklocal", "Link-local address.", family=6),
    _text("ipv6_router", "Default router.", family=6),
    _number("dup_addr_detect_cnt", "u8", "Probes for duplicate addresses.", family=6),
    _number("flow_label", "u32", "IPv6 flow label.", family=6),
    _text("gratuitous_neighbor_adv", f"Gratuitous neighbour advertisements: {_SWITCH}", family=6),
    _number("hop_limit", "u8", "IPv6 hop limit.", family=6),
    _text("mld", f"Multicast listener discovery: {_SWITCH}", family=6),
    _number("nd_reachable_tmo", "u32", "Neighbour discovery: milliseconds a neighbour counts as reachable.", family=6),
    _number("nd_rexmit_time", "u32", "Neighbour discovery: milliseconds between solicitations.", family=6),
    _number("nd_stale_tmo", "u32", "Neighbour discovery: milliseconds until an entry is stale.", family=6),
    _number("router_adv_link_mtu", "u32", "Link MTU told by router advertisements.", family=6),
    _number("traffic_class", "u8", "IPv6 traffic class.", family=6),
    _text("delayed_ack", f"TCP delayed acknowledgements: {_SWITCH}"),
    _text("tcp_nagle", f"TCP's Nagle algorithm: {_SWITCH}"),
    _text("tcp_wsf_state", f"TCP window scaling: {_SWITCH}"),
    _number("tcp_wsf", "u8", "TCP window scale."),
    _number("tcp_timer_scale", "u8", "TCP timer scale."),
    _text("tcp_timestamp", f"TCP timestamps: {_SWITCH}"),
    _text("redirect", f"ICMP redirects: {_SWITCH}"),
    _number("def_task_mgmt_timeout", "u16", "Seconds the adapter waits for a task management response."),
    _text("header_digest", f"Header digests: {_SWITCH}"),
    _text("data_digest", f"Data digests: {_SWITCH}"),
    _text("immediate_data", f"Immediate data: {_SWITCH}"),
    _text("initial_r2t", f"Initial R2T: {_SWITCH}"),
    _text("data_seq_inorder", f"Data sequences in order: {_SWITCH}"),
    _text("data_pdu_inorder", f"Data PDUs in order: {_SWITCH}"),
    _number("erl", "u8", "Error recovery level."),
    _number("max_receive_data_len", "u32", "Most bytes the adapter takes in one PDU."),
    _number("first_burst_len", "u32", "Most unsolicited bytes of one command."),
    _number("max_outstanding_r2t", "u16", "Most R2T PDUs waiting at once."),
    _number("max_burst_len", "u32", "Most bytes of one data sequence."),
    _text("chap_auth", f"CHAP: {_SWITCH}"),
    _text("bidi_chap", f"Mutual CHAP: {_SWITCH}"),
    _text("strict_login_compliance", f"Strict login: {_SWITCH}"),
    _text("discovery_auth", f"Authentication of discovery sessions: {_SWITCH}"),
    _text("discovery_logout", f"Logout of discovery sessions: {_SWITCH}"),
)

NODE_FILE_HEAD = (
    "iface.hwaddress",
    "iface.ipaddress",
    "iface.iscsi_ifacename",
    "iface.net_ifacename",
    "iface.gateway",
    "iface.subnet_mask",
    "iface.prefix_len",
    "iface.transport_name",
)
"""A node record's file begins its interface part in this order and goes on as :data:`IFACE`."""
