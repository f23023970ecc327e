# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a BootConfig or a command line to what has to be done: NICs to bring up, logins to make. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.boot.options import Options
from iscsiboot.boot.parameters import BootParameters
from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.boot import BootConfig, BootNic, BootTarget
from iscsiboot.model.credentials import Credentials
from iscsiboot.model.names import InvalidName, check_iscsi_name
from iscsiboot.model.portal import IpAddress, Portal, parse_ip
from iscsiboot.network.bringup import NicRequest
from iscsiboot.session.attach import AttachRequest

FIRMWARE_TPGT = 1
"""A firmware table has no portal group tag; the peer records 1, and sysfs must show the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedPath:
    """One login to make."""

    request: AttachRequest
    boot_selected: bool
    """Firmware booted from this target; the boot succeeds when one of these does."""
    nic: NicRequest | None = None
    """The NIC it needs, None when the source ties it to none."""

    @property
    def subject(self) -> str:
        """How messages name it."""
        return f"{self.request.target_name} at {self.request.portal.endpoint}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BootPlan:
    """What ``-N`` and ``-b`` do, in this order."""

    nics: tuple[NicRequest, ...]
    paths: tuple[PlannedPath, ...]
    notes: tuple[str, ...] = ()


def _firmware_error(cause: str, hint: str) -> IscsiBootError:
    return IscsiBootError(
        cause, stage=Stage.FIRMWARE, subject="boot table", hint=hint, exit_code=ExitCode.NO_OBJS_FOUND
    )


def plan_network(config: BootConfig) -> BootPlan:
    """The NICs of a firmware table that a login needs, and no login."""
    _check(config)
    return BootPlan(nics=tuple(_needed_nics(config).values()), paths=(), notes=_untied(config))


def plan_firmware(config: BootConfig, parameters: BootParameters, initiator_name: str) -> BootPlan:
    """NICs and logins of a firmware table, by this name.

    Every target of the table gets a login, as the peer does: the ones firmware did not boot from are further paths
    or data disks; only those marked as booted from decide over success.
    """
    _check(config)
    nics = _needed_nics(config)
    paths = []
    for target in config.targets:
        nic = config.nic_of(target)
        paths.append(
            PlannedPath(
                request=_firmware_request(initiator_name, target, nic, parameters),
                boot_selected=target.boot_selected,
                nic=nics[nic.index] if nic else None,
            )
        )
    return BootPlan(nics=tuple(nics.values()), paths=tuple(paths), notes=_untied(config))


def _check(config: BootConfig) -> None:
    if not config.targets:
        raise _firmware_error("it names no usable target", "run `iscsiboot explain` to see why each was ignored")
    if not any(target.boot_selected for target in config.targets):
        raise _firmware_error(
            "no target is marked as the one firmware booted from",
            "boot again from the iSCSI disk, or log in with -t, -a and -i",
        )


def _untied(config: BootConfig) -> tuple[str, ...]:
    return tuple(
        f"target {target.index} is tied to no usable NIC of the table, the routes that exist decide"
        for target in config.targets
        if config.nic_of(target) is None
    )


def _needed_nics(config: BootConfig) -> dict[int, NicRequest]:
    """By index: every NIC a target is tied to, with the addresses that must be reachable through it."""
    destinations: dict[int, list[IpAddress]] = {}
    for target in config.targets:
        if (nic := config.nic_of(target)) is not None:
            destinations.setdefault(nic.index, []).append(target.address.value)
    return {
        nic.index: NicRequest(nic=nic, destinations=tuple(destinations[nic.index]))
        for nic in config.nics
        if nic.index in destinations
    }


def _firmware_request(
    initiator_name: str, target: BootTarget, nic: BootNic | None, parameters: BootParameters
) -> AttachRequest:
    kind = target.name.source.kind
    return AttachRequest(
        initiator_name=initiator_name,
        target_name=target.name.value,
        portal=Portal(address=target.address.value, port=target.port.value, tpgt=FIRMWARE_TPGT),
        lun=target.lun.value,
        params=parameters.session,
        credentials=target.credentials.value if target.credentials else None,
        boot_root=kind if kind.startswith("iscsi_boot") else "ibft",
        boot_nic=f"ethernet{nic.index}" if nic else "",
        boot_target=f"target{target.index}",
    )


def plan_arguments(
    options: Options, parameters: BootParameters, initiator_name: str, credentials: Credentials | None
) -> BootPlan:
    """The one login of ``-t -g -a``; every LUN is attached, since the command line names none."""
    assert options.target_name is not None
    assert options.address is not None
    request = AttachRequest(
        initiator_name=initiator_name,
        target_name=_target_name(options.target_name),
        portal=Portal(address=_address(options.address), port=options.port, tpgt=options.tpgt),
        lun=None,
        params=parameters.session,
        credentials=credentials,
    )
    return BootPlan(nics=(), paths=(PlannedPath(request=request, boot_selected=True),))


def _argument_error(subject: str, cause: str, hint: str) -> IscsiBootError:
    return IscsiBootError(cause, stage=Stage.ARGUMENTS, subject=subject, hint=hint, exit_code=ExitCode.INVAL)


def _target_name(text: str) -> str:
    try:
        return check_iscsi_name(text)
    except InvalidName as error:
        raise _argument_error(
            "TargetName", f"{quoted(text)} is no iSCSI name: {error}", "a name looks like iqn.2001-04.com.example:disk1"
        ) from error


def _address(text: str) -> IpAddress:
    try:
        return parse_ip(text)
    except ValueError as error:
        raise _argument_error(
            "address", f"{quoted(text)} is no IP address", "give a number, an initramfs has no name service"
        ) from error
