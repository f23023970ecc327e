# SPDX-License-Identifier: LGPL-2.1-or-later
"""A SendTargets record as a discovery: its settings, the login they ask for, the NIC it leaves by, the words for what
is found. The command and the discovery daemon read it in the same way; attempts and pauses are their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from iscsiboot.database.record import Record
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.model.credentials import Credentials
from iscsiboot.model.params import SEGMENT_MAX, SEGMENT_MIN
from iscsiboot.model.portal import NamedPortal, Portal
from iscsiboot.orders.record_values import AUTH, chap_algorithms, chap_half, credentials_of
from iscsiboot.session.discover import DISCOVERY_PARAMS, discovery_config
from iscsiboot.sysfs.netdevs import netdev_of

PREFIX = "discovery.sendtargets."
LONGEST_WAIT = 3600
"""Seconds: the most a time-out of a record may be, and how long one whole answer may take."""
DEFAULT_LOGIN_TIMEOUT = 30
"""What the peer takes for a time-out of 0."""
_ANY = ("", "default")


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscoverySettings:
    """What one discovery uses, taken from its record."""

    address: str
    """As the administrator wrote it: an address or a host name."""
    port: int
    attempts: int
    login_timeout: int
    auth_timeout: int
    """Seconds of a login until the authentication is over; 0: ``login_timeout`` alone holds."""
    text_timeout: float
    segment_length: int
    credentials: Credentials | None
    algorithms: tuple[ChapAlgorithm, ...]
    missing: str = ""
    """The half of our CHAP settings that is not set while the other one is."""

    @property
    def endpoint(self) -> str:
        """For messages and commands: ``host:port``, IPv6 in brackets."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def login(self, *, initiator_name: str, initiator_alias: str) -> LoginConfig:
        """The login it begins with."""
        return discovery_config(
            initiator_name=initiator_name,
            initiator_alias=initiator_alias,
            entropy=os.urandom,
            credentials=self.credentials,
            chap_algorithms=self.algorithms,
            params=replace(
                DISCOVERY_PARAMS,
                max_recv_data_segment_length=self.segment_length,
                login_timeout=self.login_timeout,
            ),
        )

    def address_of(self, portal: Portal | NamedPortal, asked: Portal) -> str:
        """The address of a portal that was found, as records have it: without brackets; the server's own, which may
        be a target's for want of another, in the administrator's words.
        """
        if portal == asked:
            return self.address
        return portal.host if isinstance(portal, NamedPortal) else str(portal.address)


def discovery_settings(record: Record, remark: Callable[[str], None]) -> DiscoverySettings:
    """The settings in a SendTargets record; what is not used is told.

    Of credentials that contradict each other: what :func:`~.record_values.credentials_of` raises.
    """
    length = record.number(f"{PREFIX}iscsi.MaxRecvDataSegmentLength")
    if not SEGMENT_MIN <= length <= SEGMENT_MAX:
        remark(
            f"{PREFIX}iscsi.MaxRecvDataSegmentLength {length} is outside {SEGMENT_MIN} to {SEGMENT_MAX}, "
            f"{DISCOVERY_PARAMS.max_recv_data_segment_length} is used"
        )
        length = DISCOVERY_PARAMS.max_recv_data_segment_length
    login = record.number(f"{PREFIX}timeo.login_timeout")
    active = record.number(f"{PREFIX}timeo.active_timeout")
    return DiscoverySettings(
        address=record.get(f"{PREFIX}address"),
        port=record.number(f"{PREFIX}port"),
        attempts=max(0, record.number(f"{PREFIX}reopen_max")) + 1,
        login_timeout=min(login, LONGEST_WAIT) if login > 0 else DEFAULT_LOGIN_TIMEOUT,
        auth_timeout=min(max(record.number(f"{PREFIX}timeo.auth_timeout"), 0), LONGEST_WAIT),
        text_timeout=float(min(max(active, 0), LONGEST_WAIT)),
        segment_length=length,
        # As with the peer ``authmethod`` decides nothing: what is set is used.
        credentials=credentials_of(record, f"{PREFIX}auth.", remark),
        algorithms=chap_algorithms(record.get(f"{AUTH}chap_algs"), remark),
        missing=chap_half(record, f"{PREFIX}auth."),
    )


def bound_netdev(iface: Record, sysfs: str) -> str:
    """The network device an interface record binds a discovery to, empty for any. IscsiBootError when there is none of
    its hardware address.
    """
    netdev, mac = iface.get("iface.net_ifacename"), iface.get("iface.hwaddress")
    if netdev not in _ANY:
        return netdev
    if mac in _ANY:
        return ""
    found = netdev_of(mac, sysfs)
    if found is None:
        raise IscsiBootError(
            "no network interface of this machine has this hardware address",
            stage=Stage.CONNECT,
            subject=mac,
            hint="correct iface.hwaddress with iscsiadm -m iface; ip link shows the addresses",
            exit_code=ExitCode.PDU_TIMEOUT,
        )
    return found
