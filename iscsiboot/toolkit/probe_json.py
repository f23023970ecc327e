# SPDX-License-Identifier: LGPL-2.1-or-later
"""A probe's report for programs; docs/probe-json.md is its schema, and a test compares the two. Pure.

Within a schema version fields may be added, none is removed or changes its meaning. What is not known is null. All
texts are printable.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from iscsiboot.errors import IscsiBootError, printable_values
from iscsiboot.initiator.scsi import DeviceType
from iscsiboot.toolkit.media_values import Content, Media, Partition, Verdict
from iscsiboot.toolkit.probe_report import DiscoveryReport, PathReport, ProbeReport, Step, UnitReport
from iscsiboot.toolkit.probe_words import lun_text

SCHEMA = "iscsiboot.probe/1"

Object = dict[str, Any]


def render_json(report: ProbeReport) -> str:
    """The whole report; ends with a newline."""
    document = {
        "schema": SCHEMA,
        "portal": report.asked,
        "initiator_name": report.initiator_name,
        "exit_code": int(report.exit_code),
        "failure": _failure(report.failure),
        "discovery": None if report.discovery is None else _discovery(report.discovery),
        "paths": [_path(path) for path in report.paths],
    }
    return json.dumps(printable_values(document), indent=2) + "\n"


def _failure(failure: IscsiBootError | None) -> dict[str, object] | None:
    return None if failure is None else failure.parts()


def _steps(steps: tuple[Step, ...]) -> list[Object]:
    return [{"step": step.name, "seconds": round(step.seconds, 6), "times": step.times} for step in steps]


def _discovery(report: DiscoveryReport) -> Object:
    return {
        "portal": report.portal.endpoint,
        "targets": report.targets,
        "refused": list(report.refused),
        "remarks": list(report.remarks),
        "steps": _steps(report.steps),
        "failure": _failure(report.failure),
    }


def _path(path: PathReport) -> Object:
    return {
        "target": path.path.target,
        "portal": str(path.path.portal).partition(",")[0],
        "reached": None if path.portal is None else path.portal.endpoint,
        "portal_group": path.tpgt,
        "alias": path.alias or None,
        "authentication": path.authentication or None,
        "remarks": list(path.remarks),
        "steps": _steps(path.steps),
        "failure": _failure(path.failure),
        "luns": [_unit(unit) for unit in path.units],
    }


def _unit(unit: UnitReport) -> Object:
    made: Object = {"lun": lun_text(unit.lun), "lun_wire": unit.lun.wire.hex(), "device": None}
    if unit.identity is not None:
        inquiry = unit.identity.inquiry
        made["device"] = {
            "present": inquiry.present,
            "type": DeviceType.words(inquiry.device_type),
            "removable": inquiry.removable,
            "vendor": inquiry.vendor,
            "product": inquiry.product,
            "revision": inquiry.revision,
            "serial": unit.identity.serial or None,
            "identifiers": [asdict(item) for item in unit.identity.identifiers],
        }
    capacity = unit.capacity
    made |= {
        "size": None if capacity is None else capacity.size,
        "block_size": None if capacity is None else capacity.block_size,
        "physical_block_size": None if capacity is None else capacity.physical_block_size,
        "thin": None if capacity is None else capacity.thin,
        "media": None if unit.media is None else _media(unit.media),
        "steps": _steps(unit.steps),
        "failure": _failure(unit.failure),
    }
    return made


def _media(media: Media) -> Object:
    found = media.found
    table = found.table
    return {
        "partition_table": None
        if table is None
        else {
            "type": table.kind,
            "uuid": table.uuid or None,
            "block_size": table.unit,
            "partitions": [_partition(item) for item in table.partitions],
        },
        "content": _content(found.content),
        "boot_code": (found.sector.program or "unknown") if found.sector.signature and found.sector.code else None,
        "findings": list(found.findings),
        "boots_by": {
            "bios": _verdict(media.bios),
            "uefi": _verdict(media.uefi),
            "kernel": _verdict(media.kernel),
        },
    }


def _partition(partition: Partition) -> Object:
    return {
        "number": partition.number,
        "start": partition.start,
        "size": partition.size,
        "type": partition.type_id,
        "type_name": partition.type_name,
        "name": partition.name or None,
        "uuid": partition.uuid or None,
        "active": partition.active,
        "content": _content(partition.content),
        "efi_loaders": None if partition.efi is None else list(partition.efi.loaders),
    }


def _content(content: Content | None) -> Object | None:
    if content is None:
        return None
    return {
        "type": content.kind,
        "role": content.role.value,
        "label": content.label or None,
        "uuid": content.uuid or None,
        "detail": content.detail or None,
    }


def _verdict(verdict: Verdict) -> Object:
    return {"outcome": verdict.outcome.value, "reason": verdict.reason}
