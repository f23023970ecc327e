# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m iface -o apply``, ``applyall`` and ``-C ping``: what an adapter is told to do with its own network.

Software interfaces have no network of their own: the machine's is used, and there is nothing to configure. The kernel's
drivers for tcp and iser know neither request; what they would answer is said without asking them. Configuring an
adapter's network is not supported yet, and told so.
"""

from __future__ import annotations

from iscsiboot.admin.iface_change import NAME_KEY, transport_exists
from iscsiboot.admin.matching import transport_of
from iscsiboot.admin.node_mode import read_iface
from iscsiboot.errors import EXIT_TEXT, ExitCode
from iscsiboot.sysfs.listing import Attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options
    from iscsiboot.database.record import Record
    from iscsiboot.database.store import Database


def apply(database: Database, context: Context, name: str) -> int:
    """``-o apply -I NAME``; returns the exit status."""
    record = read_iface(database, context, name)
    if record is None:
        return _unreadable(context, name)
    if has_settings(record):
        return _unsupported(context)
    context.error("Nothing to configure.")
    context.say(f"{name} applied.")
    return ExitCode.SUCCESS


def apply_all(database: Database, context: Context, host: int) -> int:
    """``-o applyall -H HOST``: every interface with the host's MAC address. Returns the exit status.

    A host that is not there has no MAC address, like the interfaces of software iSCSI; the peer goes on with those.
    """
    hwaddress = ""
    try:
        with Attributes(f"{context.paths.sysfs}/class/iscsi_host/host{host}") as attributes:
            hwaddress = attributes.text("hwaddress")
    except OSError:
        context.error(f"Could not read proc_name for host{host} rc 5.")
    records = [record for record in database.ifaces() if record.get("iface.hwaddress") == hwaddress]
    if any(map(has_settings, records)):
        return _unsupported(context)
    context.error("Nothing to configure.")
    context.say(f"Applied settings to ifaces attached to host{host}.")
    return ExitCode.SUCCESS


def has_settings(record: Record) -> bool:
    """Whether a record configures a network: one that is switched off, or has an address or a way to find one."""

    def has(name: str, *words: str) -> bool:
        return any(word in record.get(f"iface.{name}") for word in words)

    if record.get("iface.state") == "disable":
        return True
    if ip_version(record) == 4:
        return has("bootproto", "dhcp") or has("ipaddress", ".")
    return (
        has("ipv6_autocfg", "nd", "dhcpv6")
        or has("ipaddress", ":")
        or has("linklocal_autocfg", "auto")
        or has("ipv6_linklocal", ":")
        or has("router_autocfg", "auto")
        or has("ipv6_router", ":")
    )


def ip_version(record: Record) -> int:
    """4 or 6: by the address, or by the name of an interface that has none."""
    address = record.get("iface.ipaddress")
    if address in ("", "<empty>"):
        return 6 if "ipv6" in record.get(NAME_KEY) else 4
    return 4 if "." in address or record.get("iface.bootproto") == "dhcp" else 6


def _unsupported(context: Context) -> int:
    context.error(f"Could not apply net configuration: {EXIT_TEXT[ExitCode.OP_NOT_SUPP]}")
    return ExitCode.ERR


def _unreadable(context: Context, name: str) -> int:
    context.error(f"Could not read iface {name} ({int(ExitCode.IDBM)}).")
    return ExitCode.IDBM


def ping(database: Database, context: Context, name: str | None, options: Options) -> int:
    """``-C ping -I NAME -a ADDRESS``; returns the exit status, that of the last attempt."""
    if name is None or options.ip is None:
        context.error("Ping requires iface." if name is None else "Ping requires destination ipaddress.")
        return ExitCode.INVAL
    for number, least, line in (
        (options.packet_size, 1, "Invalid packet size"),
        (options.count, 1, "Invalid number of packets to transmit"),
        (options.interval, 0, "Invalid timing interval"),
    ):
        if number < least:
            context.error(f"{line}: {number}.")
            return ExitCode.INVAL
    record = read_iface(database, context, name)
    if record is None:
        return _unreadable(context, name)
    if not transport_exists(transport_of(record), context.paths.sysfs):
        context.error("Can't find transport.")
        return ExitCode.INVAL
    if not _resolves(options.ip, context):
        context.error("Invalid IP address.")
        return ExitCode.INVAL
    # No driver answers, so there is nothing to wait for between the attempts.
    for attempt in range(1, options.count + 1):
        context.say(f"Ping {attempt} failed: {EXIT_TEXT[ExitCode.OP_NOT_SUPP]}")
    return ExitCode.OP_NOT_SUPP


def _resolves(address: str, context: Context) -> bool:
    # Costs more than the rest of this command.
    import socket

    try:
        socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        context.error(f"Cannot resolve host {address}. getaddrinfo error: [{error.strerror}]")
        return False
    except (OSError, UnicodeError):
        return False
    return True
