# SPDX-License-Identifier: LGPL-2.1-or-later
"""OpenFirmware's boot path (POWER): one iSCSI target in ``chosen/bootpath`` of the device tree.

``/vdevice/l-lan@30000002:bootp,iscsi,itname=iqn...,iname=iqn...,siaddr=10.0.0.1,ciaddr=10.0.0.2,ilun=0``: the device's
path, a colon, then qualifiers and ``key=value`` pairs (IEEE 1275 device arguments, PAPR's iSCSI boot). The MAC address
is the device's property ``local-mac-address``.

The values are brought into the iBFT's structures, so its rules hold here as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from iscsiboot.errors import quoted
from iscsiboot.firmware.files import ATTRIBUTE_MAX, read_file, why_not
from iscsiboot.firmware.report import FirmwareRoots, SourceResult, SourceState, SourceStatus
from iscsiboot.firmware.text import number_up_to, read_address, read_netmask, read_secret, read_string
from iscsiboot.ibft import layout
from iscsiboot.ibft.convert import Judge, SourceOf
from iscsiboot.ibft.findings import FindingLog
from iscsiboot.ibft.layout import ChapType, Layout, Origin, StructureId
from iscsiboot.ibft.structures import IbftInitiator, IbftNic, IbftTarget
from iscsiboot.model.boot import BootConfig, Source
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import IpAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KIND = "device-tree"
_KEYS: dict[str, tuple[Layout, str]] = {
    "itname": (layout.INITIATOR, "name"),
    "isns": (layout.INITIATOR, "isns_server"),
    "slp": (layout.INITIATOR, "slp_server"),
    "ciaddr": (layout.NIC, "address"),
    "subnet-mask": (layout.NIC, "prefix_len"),
    "giaddr": (layout.NIC, "gateway"),
    "dhcp": (layout.NIC, "dhcp_server"),
    "iname": (layout.TARGET, "name"),
    "siaddr": (layout.TARGET, "address"),
    "iport": (layout.TARGET, "port"),
    "ilun": (layout.TARGET, "lun"),
    "ichapid": (layout.TARGET, "chap_name"),
    "ichappw": (layout.TARGET, "chap_secret"),
    "chapid": (layout.TARGET, "reverse_chap_name"),
    "chappw": (layout.TARGET, "reverse_chap_secret"),
}
"""Key of the boot path, and the field of an iBFT that means the same."""
_SECRETS = ("ichappw", "chappw")
_HEX_LUN = re.compile(r"(?:0x)?([0-9A-Fa-f]{16})")
_SEGMENT = re.compile(r"[A-Za-z0-9,._+@-]+")


@dataclass(slots=True)
class _BootPath:
    """A boot path taken apart."""

    device: str
    qualifiers: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read_device_tree(roots: FirmwareRoots) -> SourceResult:
    """The boot path of ``/proc/device-tree``, or of sysfs where proc has no link to it."""
    places = (roots.proc / "device-tree", roots.sysfs / "firmware" / "devicetree" / "base")
    for tree in places:
        path = tree / "chosen" / "bootpath"
        try:
            raw = read_file(path, ATTRIBUTE_MAX)
        except OSError as error:
            return _result(path, SourceState.UNUSABLE, why_not(error))
        if raw is not None:
            return _read(tree, path, raw)
    return _result(places[0] / "chosen" / "bootpath", SourceState.ABSENT, "")


def _read(tree: Path, path: Path, raw: bytes) -> SourceResult:
    text = raw.rstrip(b"\0").decode("utf-8", "replace")
    parsed = parse_boot_path(text)
    if parsed is None or "iscsi" not in parsed.qualifiers:
        return _result(path, SourceState.ABSENT, "the boot path names no iSCSI disk")
    log, judge = FindingLog(), Judge(KIND)
    for key in parsed.unknown:
        judge.leave_out(
            f"{quoted(key)} of the boot path", "iscsiboot does not use it", Source(kind=KIND, where=str(path))
        )
    config = _config(tree, path, parsed, judge, log)
    why = f"boot path, {len(config.targets)} target(s)"
    status = SourceStatus(kind=KIND, path=path, state=SourceState.PRESENT, why=why)
    return SourceResult(status=status, config=config, ignored=tuple(judge.ignored), findings=log.result())


def parse_boot_path(text: str) -> _BootPath | None:
    """The parts of a boot path, None when it has no arguments. A key given twice counts where it stands first."""
    device, colon, arguments = text.partition(":")
    if not colon:
        return None
    result = _BootPath(device=device)
    # An iSCSI name may contain colons and commas do not occur in it, so the arguments are split at commas only.
    for argument in arguments.split(","):
        key, equals, value = argument.partition("=")
        if not equals:
            result.qualifiers.append(key)
        elif key in _KEYS:
            result.values.setdefault(key, value)
        else:
            result.unknown.append(key)
    return result


def _config(tree: Path, path: Path, parsed: _BootPath, judge: Judge, log: FindingLog) -> BootConfig:
    values: dict[StructureId, dict[str, Any]] = {own.id: {} for own in (layout.INITIATOR, layout.NIC, layout.TARGET)}
    for key, text in parsed.values.items():
        own, attribute = _KEYS[key]
        try:
            values[own.id][attribute] = _DECODERS.get(key, read_string)(text)
        except ValueError as bad:
            shown = "" if key in _SECRETS else f"{quoted(text)}: "
            log.error("boot path", key, f"{shown}{bad}")
    dhcp = "bootp" in parsed.qualifiers or "dhcpv6" in parsed.qualifiers
    origin = Origin.DHCP if dhcp else Origin.OTHER
    nic = IbftNic(**values[StructureId.NIC], origin=origin, mac=_local_mac(tree, parsed.device, log))
    chap = values[StructureId.TARGET]
    reverse, forward = chap.get("reverse_chap_secret"), chap.get("chap_secret")
    chap["chap_type"] = ChapType.MUTUAL if reverse else ChapType.CHAP if forward else ChapType.NONE
    initiator = IbftInitiator(**values[StructureId.INITIATOR])
    boot_nic = judge.nic(nic, _sources(path, layout.NIC))
    boot_target = judge.target(IbftTarget(**chap), {0}, _sources(path, layout.TARGET))
    initiator_source = _sources(path, layout.INITIATOR)
    return BootConfig(
        initiator_name=judge.initiator_name(initiator, initiator_source),
        isns_servers=judge.isns_servers(initiator, initiator_source),
        nics=(boot_nic,) if boot_nic else (),
        targets=(boot_target,) if boot_target else (),
    )


def _sources(path: Path, own: Layout) -> SourceOf:
    """Sources of a boot path: ``/proc/device-tree/chosen/bootpath, siaddr``."""
    keys = {attribute: key for key, (structure, attribute) in _KEYS.items() if structure is own}

    def source(attribute: str) -> Source:
        return Source(kind=KIND, where=f"{path}, {keys.get(attribute, attribute)}")

    return source


def _local_mac(tree: Path, device: str, log: FindingLog) -> bytes | None:
    """The MAC address of the device the path names. Its segments are checked: the text is firmware's, not ours."""
    segments = device.strip("/").split("/")
    if any(segment in (".", "..") or not _SEGMENT.fullmatch(segment) for segment in segments):
        log.error("boot path", "device", f"{quoted(device)} is not a path of the device tree")
        return None
    node = tree.joinpath(*segments)
    for name in ("local-mac-address", "mac-address"):
        try:
            raw = read_file(node / name, ATTRIBUTE_MAX)
        except OSError as error:
            log.error("boot path", name, why_not(error))
            continue
        # PAPR's virtual LAN pads the six bytes to eight, in front.
        if raw is not None and len(raw) in (6, 8) and any(raw[-6:]):
            return raw[-6:]
    log.error("boot path", "local-mac-address", f"not found at {quoted(device)}: the NIC cannot be found")
    return None


def _result(path: Path, state: SourceState, why: str) -> SourceResult:
    return SourceResult(status=SourceStatus(kind=KIND, path=path, state=state, why=why))


def _bracketed(text: str) -> IpAddress | None:
    """An address; IPv6 may stand in brackets."""
    return read_address(text.strip("[]"))


def _lun(text: str) -> Lun:
    match = _HEX_LUN.fullmatch(text)
    return Lun(bytes.fromhex(match[1])) if match else Lun.parse(text)


_DECODERS: dict[str, Callable[[str], Any]] = {
    "ciaddr": _bracketed,
    "subnet-mask": read_netmask,
    "giaddr": _bracketed,
    "dhcp": _bracketed,
    "siaddr": _bracketed,
    "iport": number_up_to(0xFFFF),
    "ilun": _lun,
    "isns": _bracketed,
    "slp": _bracketed,
    "ichappw": read_secret,
    "chappw": read_secret,
}
