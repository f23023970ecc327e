# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every way a NIC can fail, as one error each: cause, hint, and whether waiting longer can help. Pure."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.portal import IpAddress
from iscsiboot.network.facts import IpInterface, NetworkFacts
from iscsiboot.network.request import NicRequest
from iscsiboot.network.steps import AddAddress, CreateVlan, LinkUp, SetMtu, Step

_SHOWN_MAX = 8
_VANISHED = frozenset({errno.ENODEV, errno.ENXIO, errno.ENETDOWN})


def is_vanished(error: OSError) -> bool:
    """The device went away or down under us: the next picture shows it, nothing is decided here."""
    return error.errno in _VANISHED


def absent(request: NicRequest, facts: NetworkFacts, waited: float) -> IscsiBootError:
    """No device matches the request."""
    present = [f"{link.name} ({link.mac})" for link in facts.links if link.mac.strip("0:") and link.kind != "vlan"]
    shown = ", ".join(present[:_SHOWN_MAX]) + (", ..." if len(present) > _SHOWN_MAX else "")
    what = f"MAC {request.mac}" if request.mac else "this name or PCI address"
    return _error(
        request,
        "",
        f"no NIC with {what} appeared in {waited:.0f} s; NICs present: {shown or 'none'}",
        "is its driver in the image (and its firmware)? was the card or its MAC exchanged after the table was made?",
        ExitCode.TRANS_TIMEOUT,
    )


def no_carrier(request: NicRequest, name: str, waited: float) -> IscsiBootError:
    """The device is up, the link is not."""
    return _error(
        request,
        name,
        f"{name} has no carrier after {waited:.0f} s: cable or switch port",
        "check the cable, the switch port and the link speed",
        ExitCode.TRANS_TIMEOUT,
    )


def no_lease(request: NicRequest, name: str, waited: float, refusal: str) -> IscsiBootError:
    """No server granted an address."""
    last = f"; the last one: {refusal}" if refusal else ""
    return _error(
        request,
        name,
        f"no {'usable ' if refusal else ''}answer from a DHCP server in {waited:.0f} s{last}",
        "is a DHCP server on this network and VLAN, and does the switch port forward yet (spanning tree)?",
        ExitCode.TRANS_TIMEOUT,
    )


def unfinished_check(request: NicRequest, name: str, waited: float) -> IscsiBootError:
    """Duplicate address detection did not end."""
    return _error(
        request,
        name,
        f"duplicate address detection did not end in {waited:.0f} s",
        "does the link lose its carrier again and again?",
        ExitCode.TRANS_TIMEOUT,
    )


def no_advertisement(request: NicRequest, name: str, waited: float, missing: Sequence[IpAddress]) -> IscsiBootError:
    """IPv6 needs a router that did not speak."""
    lacking = f"no route to {_joined(missing)}" if missing else "no address"
    return _error(
        request,
        name,
        f"{lacking}: no router advertisement in {waited:.0f} s",
        "is an IPv6 router on this network, or give address, prefix and gateway in the firmware's settings",
        ExitCode.TRANS_TIMEOUT,
    )


def no_route(
    request: NicRequest, name: str, missing: Sequence[IpAddress], addresses: Sequence[IpInterface]
) -> IscsiBootError:
    """A destination is off the subnet and there is no gateway that can be used."""
    own = ", ".join(str(address) for address in addresses) or "no address"
    return _error(
        request,
        name,
        f"no route to {_joined(missing)} from {own}: no usable gateway is known",
        "check address, prefix and gateway in the firmware's settings or at the DHCP server",
        ExitCode.TRANS,
        retryable=False,
    )


def duplicate(request: NicRequest, name: str, address: IpAddress) -> IscsiBootError:
    """Another machine has our address."""
    return _error(
        request,
        name,
        f"another machine on the link uses {address}",
        "give this machine or the other one another address",
        ExitCode.TRANS,
        retryable=False,
    )


def refused_step(request: NicRequest, name: str, step: Step, error: OSError) -> IscsiBootError:
    """The kernel refused a step the boot cannot do without."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return _error(request, name, f"cannot {step.describe()}: {reason}", _step_hint(step, error), ExitCode.TRANS)


def name_taken(request: NicRequest, name: str, step: CreateVlan) -> IscsiBootError:
    """The VLAN device's name belongs to something else."""
    return _error(
        request,
        name,
        f"cannot {step.describe()}: a device with this name exists and is not that VLAN",
        "remove or rename that device",
        ExitCode.TRANS,
        retryable=False,
    )


def does_not_hold(request: NicRequest, name: str, step: Step) -> IscsiBootError:
    """A step was done several times and is missing again."""
    return _error(
        request,
        name,
        f"'{step.describe()}' was done several times and undone by somebody each time",
        "does another network manager run in the image?",
        ExitCode.TRANS,
        retryable=False,
    )


def not_ethernet(request: NicRequest, name: str) -> IscsiBootError:
    """DHCP is spoken over Ethernet only."""
    return _error(
        request,
        name,
        f"{name} is no Ethernet device: DHCP is not spoken on it",
        "give a static address in the firmware's settings",
        ExitCode.OP_NOT_SUPP,
        retryable=False,
    )


def no_packet_socket(request: NicRequest, name: str, error: OSError) -> IscsiBootError:
    """DHCP has no way to send."""
    hint = "run as root (CAP_NET_RAW)" if error.errno == errno.EPERM else "is the kernel module af_packet in the image?"
    return _error(request, name, f"no packet socket for DHCP: {error.strerror}", hint, ExitCode.TRANS, retryable=False)


def no_rtnetlink(request: NicRequest, error: Exception) -> IscsiBootError:
    """The kernel's network cannot be read at all."""
    return _error(
        request,
        "",
        f"the kernel's network configuration cannot be read: {error}",
        "is pyroute2 in the image, and are we allowed netlink?",
        ExitCode.INTERNAL,
        retryable=False,
    )


def _step_hint(step: Step, error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        disabled = isinstance(step, AddAddress) and step.address.version == 6 and error.errno == errno.EACCES
        return "IPv6 is disabled there (sysctl disable_ipv6)" if disabled else "run as root (CAP_NET_ADMIN)"
    if isinstance(step, CreateVlan):
        return "is the kernel module 8021q in the image?"
    if isinstance(step, SetMtu):
        return "the device or its base cannot take packets of this size: correct the MTU"
    if isinstance(step, LinkUp):
        return "does the driver miss its firmware file in the image? see the kernel's messages"
    return "see the kernel's messages"


def _joined(addresses: Sequence[IpAddress]) -> str:
    return ", ".join(str(address) for address in addresses[:_SHOWN_MAX])


def _error(
    request: NicRequest, name: str, cause: str, hint: str, exit_code: ExitCode, *, retryable: bool = True
) -> IscsiBootError:
    subject = request.subject
    if name and name not in subject:
        subject += f" ({name})"
    return IscsiBootError(
        cause, stage=Stage.NETWORK, subject=subject, hint=hint, exit_code=exit_code, retryable=retryable
    )
