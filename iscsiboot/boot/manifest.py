# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the boot path imports late: the image's closure is the entry point's imports and these.

Heavy packages are imported inside the function that needs them, in the shadow of a wait (pyroute2 costs 100 ms on
hardware, a second under emulation). A closure made by importing the entry point would miss them, so they stand here; a
test compares this table with the imports found in the source.
"""

from __future__ import annotations

ENTRY = "iscsiboot.boot.iscsistart"

LAZY_IMPORTS: tuple[str, ...] = (
    "ctypes.util",
    "hashlib",
    "hmac",
    "iscsiboot.boot.keeper_child",
    "iscsiboot.boot.known",
    "iscsiboot.database.initiator_name",
    "iscsiboot.firmware.nic_names",
    "iscsiboot.network.dhcp_socket",
    "iscsiboot.network.rtnl",
    "iscsiboot.network.udev",
    "iscsiboot.sysfs.disk_use",
    "json",
    "pyroute2.netlink.rtnl.ifaddrmsg",
    "pyroute2.netlink.rtnl.ifinfmsg",
    "pyroute2.netlink.rtnl.rtmsg",
    "pyudev",
    "traceback",
)
