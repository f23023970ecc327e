# SPDX-License-Identifier: LGPL-2.1-or-later
"""The boot table as records in the peer's words.

The expected records are what Debian's iscsistart 2.1.8 printed (2026-11-21) over a directory with the same values
bind-mounted on /sys/firmware; only the version in the first line is ours.
"""

from __future__ import annotations

from dataclasses import replace

from iscsiboot import __version__
from iscsiboot.firmware.record_text import render
from iscsiboot.model.boot import BootConfig, BootNic, BootTarget, Source, Sourced
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import parse_ip

HERE = Source(kind="sysfs-ibft", where="test")


def nic() -> BootNic:
    return BootNic(
        index=0,
        boot_selected=True,
        mac=Sourced("52:54:00:12:34:56", HERE),
        address=Sourced(parse_ip("10.0.2.15"), HERE),
        prefix_len=Sourced(24, HERE),
        gateway=Sourced(parse_ip("10.0.2.2"), HERE),
        dns=(Sourced(parse_ip("10.0.2.3"), HERE), Sourced(parse_ip("8.8.8.8"), HERE)),
        dhcp=Sourced(True, HERE),
    )


def target(credentials: Credentials | None = None) -> BootTarget:
    return BootTarget(
        index=0,
        boot_selected=True,
        name=Sourced("iqn.2001-04.com.example:t", HERE),
        address=Sourced(parse_ip("10.0.2.2"), HERE),
        port=Sourced(3260, HERE),
        lun=Sourced(Lun.from_number(1), HERE),
        nic_index=Sourced(0, HERE),
        credentials=Sourced(credentials, HERE) if credentials else None,
    )


def config(*targets: BootTarget, nics: tuple[BootNic, ...] | None = None) -> BootConfig:
    return BootConfig(initiator_name=Sourced("iqn.2001-04.com.example:i", HERE), nics=nics or (nic(),), targets=targets)


MUTUAL = Credentials(
    outgoing=Chap(name="user", secret=Secret(b"secretsecret")),
    incoming=Chap(name="tuser", secret=Secret(b"rsecret12345")),
)


def test_dhcp_and_mutual_chap() -> None:
    assert render(config(target(MUTUAL)), __version__) == (
        f"""\
# BEGIN RECORD {__version__}
iface.initiatorname = iqn.2001-04.com.example:i
iface.transport_name = tcp
iface.hwaddress = 52:54:00:12:34:56
iface.bootproto = DHCP
iface.ipaddress = 10.0.2.15
iface.prefix_len = 24
iface.subnet_mask = 255.255.255.0
iface.gateway = 10.0.2.2
iface.primary_dns = 10.0.2.3
iface.secondary_dns = 8.8.8.8
iface.vlan_id = 0
node.name = iqn.2001-04.com.example:t
node.conn[0].address = 10.0.2.2
node.conn[0].port = 3260
node.session.auth.username = user
node.session.auth.password = secretsecret
node.session.auth.username_in = tuser
node.session.auth.password_in = rsecret12345
node.boot_lun = 01000000
# END RECORD
"""
    )


def test_static_with_a_vlan() -> None:
    tagged = replace(nic(), dhcp=Sourced(False, HERE), vlan=Sourced(100, HERE), dns=(), gateway=None)
    lines = render(config(target(), nics=(tagged,)), __version__).splitlines()
    assert "iface.bootproto = STATIC" in lines
    assert "iface.vlan_id = 100" in lines
    assert not any(line.startswith(("iface.gateway", "iface.primary_dns", "node.session.auth")) for line in lines)


def test_a_record_for_each_target() -> None:
    assert render(config(target(), target()), __version__).count("# BEGIN RECORD") == 2
    assert render(config(), __version__) == ""


def test_a_target_without_its_nic_is_still_shown() -> None:
    text = render(config(replace(target(), nic_index=Sourced(7, HERE))), __version__)
    assert "iface.hwaddress" not in text
    assert "node.name = iqn.2001-04.com.example:t" in text
