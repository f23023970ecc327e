# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's view of boot data: ``firmware/ibft`` and ``firmware/iscsi_bootN`` in sysfs, one format.

Format: drivers/scsi/iscsi_boot_sysfs.c (directories ``initiator``, ``ethernetN``, ``targetN``; one value a file, shown
to root only) and iscsi_ibft.c (how values are printed). For a table in low memory, where iPXE under BIOS leaves it,
this is the only source. Attributes that the table does not set are not there.

The text is brought into the structures of :mod:`iscsiboot.ibft`, so the rules of its ``convert`` hold here as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path

from iscsiboot.errors import quoted
from iscsiboot.firmware.files import ATTRIBUTE_MAX, list_directory, read_file, why_not
from iscsiboot.firmware.kernel_lun import parse_kernel_lun
from iscsiboot.firmware.netdev import find_netdev, pci_number
from iscsiboot.firmware.report import SourceResult, SourceState, SourceStatus
from iscsiboot.firmware.text import number_up_to, read_address, read_mac, read_netmask, read_secret, read_string
from iscsiboot.ibft import layout
from iscsiboot.ibft.convert import Judge, SourceOf
from iscsiboot.ibft.findings import FindingLog
from iscsiboot.ibft.layout import ChapType, Kind, Layout
from iscsiboot.ibft.structures import IbftInitiator, IbftNic, IbftTarget
from iscsiboot.model.boot import BootConfig, BootNic, BootTarget, Source, Sourced
from iscsiboot.model.portal import ISCSI_PORT, IpAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IBFT_KIND = "sysfs-ibft"
INDEX_MAX = 255
"""A structure's index has eight bits."""
_DIRECTORY = re.compile(r"(ethernet|target)([0-9]{1,3})")
_HBA = re.compile(r"iscsi_boot[0-9]{1,5}")

FILES = {
    layout.INITIATOR.id: {
        "isns_server": "isns-server",
        "slp_server": "slp-server",
        "primary_radius": "pri-radius-server",
        "secondary_radius": "sec-radius-server",
        "name": "initiator-name",
    },
    layout.NIC.id: {
        "address": "ip-addr",
        "prefix_len": "prefix-len",
        "origin": "origin",
        "gateway": "gateway",
        "primary_dns": "primary-dns",
        "secondary_dns": "secondary-dns",
        "dhcp_server": "dhcp",
        "vlan": "vlan",
        "mac": "mac",
        "pci": "device",
        "hostname": "hostname",
    },
    layout.TARGET.id: {
        "address": "ip-addr",
        "port": "port",
        "lun": "lun",
        "chap_type": "chap-type",
        "nic_index": "nic-assoc",
        "name": "target-name",
        "chap_name": "chap-name",
        "chap_secret": "chap-secret",
        "reverse_chap_name": "rev-chap-name",
        "reverse_chap_secret": "rev-chap-name-secret",
    },
}
"""The attribute of a structure and the file it is in."""


def read_ibft_view(sysfs: Path) -> SourceResult:
    """``firmware/ibft``, there when the module iscsi_ibft found a table it accepts."""
    return _read_view(sysfs / "firmware" / "ibft", IBFT_KIND)


def read_hba_views(sysfs: Path) -> list[SourceResult]:
    """Every ``firmware/iscsi_bootN``, by number."""
    directory = sysfs / "firmware"
    try:
        names = [name for name in list_directory(directory) if _HBA.fullmatch(name)]
    except OSError:
        return []
    names.sort(key=lambda name: int(name.removeprefix("iscsi_boot")))
    return [_read_view(directory / name, name) for name in names]


def _read_view(directory: Path, kind: str) -> SourceResult:
    log = FindingLog()
    judge = Judge(kind)
    try:
        names = list_directory(directory)
        if not names:
            status = SourceStatus(kind=kind, path=directory, state=SourceState.ABSENT)
            return SourceResult(status=status)
        config = _Reader(directory, kind, judge, log).config(names)
    except OSError as error:
        status = SourceStatus(kind=kind, path=directory, state=SourceState.UNUSABLE, why=why_not(error))
        return SourceResult(status=status, ignored=tuple(judge.ignored), findings=log.result())
    why = f"{len(config.nics)} NIC(s), {len(config.targets)} target(s)"
    status = SourceStatus(kind=kind, path=directory, state=SourceState.PRESENT, why=why)
    return SourceResult(status=status, config=config, ignored=tuple(judge.ignored), findings=log.result())


class _Reader:
    """Reads one view. A permission that is missing ends it with OSError; everything else is a finding."""

    def __init__(self, directory: Path, kind: str, judge: Judge, log: FindingLog) -> None:
        self.directory = directory
        self.kind = kind
        self.judge = judge
        self.log = log

    def config(self, names: list[str]) -> BootConfig:
        """The view as boot values."""
        numbered = [(match[1], int(match[2]), match[0]) for match in map(_DIRECTORY.fullmatch, names) if match]
        numbered = sorted(entry for entry in numbered if entry[1] <= INDEX_MAX)
        nics = [self._nic(number, name) for word, number, name in numbered if word == "ethernet"]
        good_nics = tuple(nic for nic in nics if nic is not None)
        indexes = {nic.index for nic in good_nics}
        targets = [self._target(number, name, indexes) for word, number, name in numbered if word == "target"]
        initiator_name: Sourced[str] | None = None
        isns: tuple[Sourced[IpAddress], ...] = ()
        # kobject_init_and_add gets the format "initiator" without a number; drivers outside the tree add one.
        for name in [name for name in names if name in ("initiator", "initiator0")][:1]:
            initiator = IbftInitiator(**self._values(name, layout.INITIATOR))
            source = self._sources(name, layout.INITIATOR)
            initiator_name = self.judge.initiator_name(initiator, source)
            isns = self.judge.isns_servers(initiator, source)
        return BootConfig(
            initiator_name=initiator_name,
            isns_servers=isns,
            nics=good_nics,
            targets=tuple(target for target in targets if target is not None),
        )

    def _nic(self, number: int, name: str) -> BootNic | None:
        values = self._values(name, layout.NIC)
        device = self.directory / name / "device"
        values["pci"] = pci_number(device)
        if "prefix_len" not in values and (mask := self._text(name, "subnet-mask")):
            values["prefix_len"] = self._mask(name, mask)  # kernels before 5.9 have no prefix-len
        index, flags = self._header(name, number)
        nic = IbftNic(index=index, flags=flags, **values)
        boot_nic = self.judge.nic(nic, self._sources(name, layout.NIC))
        netdev = find_netdev(device, nic.mac) if boot_nic is not None else None
        if boot_nic is None or netdev is None:
            return boot_nic
        source = Source(kind=self.kind, where=str(netdev))
        return replace(boot_nic, netdev=Sourced(netdev.name, source))

    def _target(self, number: int, name: str, nic_indexes: set[int]) -> BootTarget | None:
        values = self._values(name, layout.TARGET)
        index, flags = self._header(name, number)
        missing = {attribute for attribute in FILES[layout.TARGET.id] if attribute not in values}
        values.setdefault("port", ISCSI_PORT)
        if "chap_type" in missing:  # offload drivers show names and secrets only
            reverse, forward = values.get("reverse_chap_secret"), values.get("chap_secret")
            values["chap_type"] = ChapType.MUTUAL if reverse else ChapType.CHAP if forward else ChapType.NONE
        target = IbftTarget(index=index, flags=flags, **values)
        source = self._sources(name, layout.TARGET, missing)
        lun_text = self._text(name, "lun")
        if lun_text and "lun" in missing:
            self.judge.leave_out(f"target {index}", f"its LUN {quoted(lun_text)} is not clear", source("lun"))
            return None
        return self.judge.target(target, nic_indexes, source)

    def _header(self, name: str, number: int) -> tuple[int, int]:
        """Index and flags; without its own index a structure has its directory's."""
        index = self._value(name, "index", "index", Kind.U8)
        flags = self._value(name, "flags", "flags", Kind.U8)
        return (number if index is None else index), flags or 0

    def _values(self, name: str, own: Layout) -> dict[str, Any]:
        """The fields that are there and readable, ready for the structure's constructor."""
        values = {}
        for spec in own.fields:
            if spec.attribute != "pci":
                value = self._value(name, FILES[own.id][spec.attribute], spec.label, spec.kind)
                if value is not None:
                    values[spec.attribute] = value
        return values

    def _value(self, name: str, file: str, label: str, kind: Kind) -> Any:
        """One value in its structure's type; None when it is not there, or not readable, which is a finding."""
        text = self._text(name, file)
        if text is None or (text == "" and kind is not Kind.STRING):
            return None
        try:
            return _DECODERS[kind](text)
        except ValueError as bad:
            shown = "" if kind is Kind.SECRET else f"{quoted(text)}: "
            self.log.error(name, label, f"{shown}{bad}")
            return None

    def _text(self, name: str, file: str) -> str | None:
        """An attribute without the newline the kernel adds; blanks at the end may belong to a secret and stay."""
        path = self.directory / name / file
        try:
            raw = read_file(path, ATTRIBUTE_MAX)
        except PermissionError:
            raise
        except OSError as error:
            self.log.error(name, file, why_not(error))
            return None
        return None if raw is None else raw.removesuffix(b"\n").decode("utf-8", "surrogateescape")

    def _mask(self, name: str, text: str) -> int:
        try:
            return read_netmask(text)
        except ValueError as bad:
            self.log.error(name, "subnet-mask", f"{quoted(text)}: {bad}")
            return 0

    def _sources(self, name: str, own: Layout, missing: Set[str] = frozenset()) -> SourceOf:
        files = FILES[own.id]

        def source(attribute: str) -> Source:
            where = str(self.directory / name / files.get(attribute, attribute))
            return Source(kind=self.kind, where=f"{where}, not given: default" if attribute in missing else where)

        return source


_DECODERS: dict[Kind, Callable[[str], Any]] = {
    Kind.U8: number_up_to(0xFF),
    Kind.U16: number_up_to(0xFFFF),
    Kind.ADDRESS: read_address,
    Kind.MAC: read_mac,
    Kind.LUN: parse_kernel_lun,
    Kind.STRING: read_string,
    Kind.SECRET: read_secret,
}
