# SPDX-License-Identifier: LGPL-2.1-or-later
"""rtnetlink: pyroute2's message classes over two plain sockets.

Why not pyroute2's ``IPRoute``: importing it costs half as much again (asyncio, queueing disciplines, request filters;
107 ms against 64 ms on hardware, ten times that in an emulated boot), and it cannot wait in one ``select`` with DHCP
sockets in both series, 0.7 and 0.9. The message classes are the same in both and are what pyroute2 is wanted for.

One socket is subscribed to changes and only ever says "look again"; the other asks and changes. The subscription is
made first, so nothing can happen unseen between it and the first dump. The kernel serves rtnetlink inside ``send``
(net/netlink/af_netlink.c, netlink_unicast_kernel), so an answer is there when ``send`` returns: the timeout on the
asking socket only guards against a kernel that does not keep that.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from iscsiboot.network.drain import drain
from iscsiboot.network.facts import AddressFact, LinkFact, NetworkFacts, RouteFact
from iscsiboot.network.steps import AddAddress, AddRoute, CreateVlan, Device, LinkUp, SetMtu, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# include/uapi/linux/netlink.h, rtnetlink.h, if_link.h
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLM_F_DUMP_INTR = 0x10
_NLM_F_EXCL, _NLM_F_CREATE = 0x200, 0x400
RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
_RTEXT_FILTER_SKIP_STATS = 1 << 3
_GROUPS = (1, 5, 9, 7, 11)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV6_IFADDR, IPV4_ROUTE, IPV6_ROUTE."""
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_RT_TABLE_MAIN, _RTN_UNICAST = 254, 1
_RTPROT_STATIC, _RTPROT_DHCP = 4, 16
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTNH_F_DEAD, _RTNH_F_ONLINK, _RTNH_F_LINKDOWN = 1, 4, 16
_RTM_F_CLONED = 0x200
_IFF_UP = 1

_HEADER = struct.Struct("=IHHII")
_RECEIVE_BYTES = 1 << 16
_ANSWER_SECONDS = 10
_DUMP_TRIES = 5
_OPERSTATES = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")


class Rtnl:
    """The kernel's links, addresses and routes in the network namespace of the caller."""

    def __init__(self, *, sysfs: Path) -> None:
        """Subscribe. OSError when netlink is refused."""
        # Submodules, not the package's front: see the import budget. Untyped third-party classes.
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        from pyroute2.netlink.rtnl.rtmsg import rtmsg

        self._link_message: Any = ifinfmsg
        self._address_message: Any = ifaddrmsg
        self._route_message: Any = rtmsg
        self._sysfs = sysfs
        self._sequence = 0
        self._created: dict[str, int] = {}
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._events = socket.socket(socket.AF_NETLINK, kind | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        try:
            self._events.bind((0, 0))
            for group in _GROUPS:
                self._events.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
            self._requests = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        except OSError:
            self._events.close()
            raise
        self._requests.settimeout(_ANSWER_SECONDS)

    def fileno(self) -> int:
        """Readable when something changed."""
        return self._events.fileno()

    def drain(self) -> None:
        """Read all notifications away."""
        drain(self._events)

    def snapshot(self) -> NetworkFacts:
        """Links, addresses, and the main table's unicast routes as they are now."""
        links = tuple(self._link_fact(message) for message in self._dump(RTM_GETLINK, self._link_request()))
        addresses = self._dump(RTM_GETADDR, _every_family(self._address_message()))
        routes = self._dump(RTM_GETROUTE, _every_family(self._route_message()))
        return NetworkFacts(
            links=links,
            addresses=tuple(fact for fact in map(_address_fact, addresses) if fact is not None),
            routes=tuple(fact for fact in map(_route_fact, routes) if fact is not None),
        )

    def execute(self, step: Step) -> bool:
        """Carry one step out; False when the kernel says it exists already. OSError when it refuses otherwise."""
        message, kind, flags = self._encode(step)
        try:
            self._change(message, kind, flags)
        except FileExistsError:
            return False
        if isinstance(step, CreateVlan):
            self._created[step.name] = socket.if_nametoindex(step.name)
        return True

    def close(self) -> None:
        """Close both sockets; again is harmless."""
        self._events.close()
        self._requests.close()

    def _link_request(self) -> Any:
        message = self._link_message()
        message["attrs"] = [("IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS)]
        return message

    def _encode(self, step: Step) -> tuple[Any, int, int]:
        """The message, its type and its extra flags."""
        create = _NLM_F_CREATE | _NLM_F_EXCL
        if isinstance(step, CreateVlan):
            message = self._link_message()
            data = {"attrs": [("IFLA_VLAN_ID", step.vlan_id)]}
            info = {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", data)]}
            message["attrs"] = [
                ("IFLA_IFNAME", step.name),
                ("IFLA_LINK", self._index(step.base)),
                ("IFLA_LINKINFO", info),
            ]
            return message, RTM_NEWLINK, create
        if isinstance(step, SetMtu | LinkUp):
            message = self._link_message()
            message["index"] = self._index(step.device)
            if isinstance(step, SetMtu):
                message["attrs"] = [("IFLA_MTU", step.mtu)]
            else:
                message["flags"], message["change"] = _IFF_UP, _IFF_UP
            return message, RTM_NEWLINK, 0
        if isinstance(step, AddAddress):
            return self._encode_address(step), RTM_NEWADDR, create
        return self._encode_route(step), RTM_NEWROUTE, create

    def _encode_address(self, step: AddAddress) -> Any:
        message = self._address_message()
        address, network = str(step.address.ip), step.address.network
        message["family"] = socket.AF_INET if step.address.version == 4 else socket.AF_INET6
        message["prefixlen"] = network.prefixlen
        message["index"] = self._index(step.device)
        message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
        if network.version == 4 and network.prefixlen < 31:
            message["attrs"].append(("IFA_BROADCAST", str(network.broadcast_address)))
        return message

    def _encode_route(self, step: AddRoute) -> Any:
        message = self._route_message()
        on_link = step.gateway is None
        message["family"] = socket.AF_INET if step.destination.version == 4 else socket.AF_INET6
        message["dst_len"] = step.destination.prefixlen
        message["table"] = _RT_TABLE_MAIN
        message["proto"] = _RTPROT_DHCP if step.dhcp else _RTPROT_STATIC
        # IPv6 ignores the scope; IPv4 wants "link" where no router is between (net/ipv4/fib_semantics.c).
        message["scope"] = _RT_SCOPE_LINK if on_link else _RT_SCOPE_UNIVERSE
        message["type"] = _RTN_UNICAST
        message["flags"] = _RTNH_F_ONLINK if step.onlink else 0
        message["attrs"] = [("RTA_OIF", self._index(step.device))]
        if step.destination.prefixlen:
            message["attrs"].append(("RTA_DST", str(step.destination.network_address)))
        if step.gateway is not None:
            message["attrs"].append(("RTA_GATEWAY", str(step.gateway).partition("%")[0]))
        if step.metric:
            message["attrs"].append(("RTA_PRIORITY", step.metric))
        return message

    def _index(self, device: Device) -> int:
        """A device's index; one made by an earlier step is known from there. OSError when there is none."""
        if device.index is not None:
            return device.index
        return self._created.get(device.name) or socket.if_nametoindex(device.name)

    def _send(self, message: Any, kind: int, flags: int) -> int:
        self._sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = flags | _NLM_F_REQUEST
        message["header"]["sequence_number"] = self._sequence
        message["header"]["pid"] = 0
        message.encode()
        self._requests.sendto(bytes(message.data), (0, 0))
        return self._sequence

    def _change(self, message: Any, kind: int, flags: int) -> None:
        sequence = self._send(message, kind, flags | _NLM_F_ACK)
        for kind_back, _flags, body in self._answers(sequence):
            if kind_back == _NLMSG_ERROR:
                _raise_error(body)
                return

    def _dump(self, kind: int, request: Any) -> list[Any]:
        """All messages of a dump, decoded lazily; asked again when the kernel says it changed underneath."""
        wanted = {RTM_GETLINK: self._link_message, RTM_GETADDR: self._address_message}.get(kind, self._route_message)
        for _ in range(_DUMP_TRIES):
            found: list[Any] = []
            torn = False
            for kind_back, flags, data in self._answers(self._send(request, kind, _NLM_F_DUMP)):
                torn = torn or bool(flags & _NLM_F_DUMP_INTR)
                if kind_back == _NLMSG_ERROR:
                    _raise_error(data)
                if kind_back == _NLMSG_DONE:
                    break
                message = wanted(data)
                message.decode()
                found.append(message)
            if not torn:
                return found
            request.reset()
        raise OSError(errno.EAGAIN, "the kernel's network tables changed during every dump")

    def _answers(self, sequence: int) -> Iterator[tuple[int, int, bytes]]:
        """Type, flags and whole message of each answer to one request; remains of earlier ones are passed over."""
        while True:
            data = self._requests.recv(_RECEIVE_BYTES)
            position = 0
            while position + _HEADER.size <= len(data):
                length, kind, flags, number, _pid = _HEADER.unpack_from(data, position)
                if not _HEADER.size <= length <= len(data) - position:
                    raise OSError(errno.EBADMSG, "the kernel sent a netlink message of impossible length")
                if number == sequence:
                    yield kind, flags, data[position : position + length]
                position += (length + 3) & ~3

    def _link_fact(self, message: Any) -> LinkFact:
        name = str(message.get_attr("IFLA_IFNAME"))
        info = message.get_attr("IFLA_LINKINFO")
        kind = str(info.get_attr("IFLA_INFO_KIND") or "") if info is not None else ""
        data = info.get_attr("IFLA_INFO_DATA") if kind == "vlan" else None
        device = self._sysfs / "class/net" / name / "device"
        return LinkFact(
            index=int(message["index"]),
            name=name,
            mac=_mac(message.get_attr("IFLA_ADDRESS")),
            permanent_mac=_mac(message.get_attr("IFLA_PERM_ADDRESS")),
            flags=int(message["flags"]),
            operstate=_operstate(message.get_attr("IFLA_OPERSTATE")),
            mtu=int(message.get_attr("IFLA_MTU") or 0),
            min_mtu=int(message.get_attr("IFLA_MIN_MTU") or 0),
            max_mtu=int(message.get_attr("IFLA_MAX_MTU") or 0),
            kind=kind,
            master=message.get_attr("IFLA_MASTER"),
            link=message.get_attr("IFLA_LINK"),
            vlan_id=data.get_attr("IFLA_VLAN_ID") if data is not None else None,
            device_path=os.path.realpath(device) if device.is_symlink() else "",
        )


def _every_family(message: Any) -> Any:
    """A dump request for IPv4 and IPv6 alike: pyroute2 0.9 presets IPv4 in a route message, 0.7 presets nothing."""
    message["family"] = socket.AF_UNSPEC
    return message


def _mac(value: object) -> str:
    """pyroute2 gives text in one release and for one attribute, plain hexadecimal in another."""
    return value.lower() if isinstance(value, str) else ""


def _operstate(value: object) -> str:
    if isinstance(value, int):
        return _OPERSTATES[value] if value < len(_OPERSTATES) else "UNKNOWN"
    return str(value or "UNKNOWN")


def _address_fact(message: Any) -> AddressFact | None:
    """None for families that are not IP. IFA_LOCAL is ours; IFA_ADDRESS is the peer's on point-to-point links."""
    if message["family"] not in (socket.AF_INET, socket.AF_INET6):
        return None
    address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    if address is None:
        return None
    # IFA_FLAGS holds all 32 bits; the header's byte only the lower eight.
    flags = message.get_attr("IFA_FLAGS")
    return AddressFact(
        index=int(message["index"]),
        address=ip_interface(f"{address}/{message['prefixlen']}"),
        flags=int(message["flags"] if flags is None else flags),
    )


def _route_fact(message: Any) -> RouteFact | None:
    """None for what is no living unicast route of the main table."""
    if message["family"] not in (socket.AF_INET, socket.AF_INET6):
        return None
    if message["table"] != _RT_TABLE_MAIN or message["type"] != _RTN_UNICAST:
        return None
    if message["flags"] & (_RTNH_F_DEAD | _RTM_F_CLONED):
        return None
    zero = "0.0.0.0" if message["family"] == socket.AF_INET else "::"  # noqa: S104 - the default route, no listener
    gateway = message.get_attr("RTA_GATEWAY")
    return RouteFact(
        destination=ip_network(f"{message.get_attr('RTA_DST') or zero}/{message['dst_len']}", strict=False),
        index=message.get_attr("RTA_OIF"),
        gateway=None if gateway is None else ip_address(gateway),
        metric=int(message.get_attr("RTA_PRIORITY") or 0),
    )


def _raise_error(data: bytes) -> None:
    """NLMSG_ERROR: zero is an acknowledgement, else a negative errno."""
    (code,) = struct.unpack_from("=i", data, _HEADER.size)
    if code:
        raise OSError(-code, os.strerror(-code))
