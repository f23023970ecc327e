# SPDX-License-Identifier: LGPL-2.1-or-later
"""A probe's report for people: a table of all units, then each path with its units in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from iscsiboot.errors import IscsiBootError, printable
from iscsiboot.initiator.scsi import DeviceType
from iscsiboot.toolkit.media_values import Partition, PartitionRole
from iscsiboot.toolkit.probe_report import DiscoveryReport, PathReport, ProbeReport, Step, UnitReport
from iscsiboot.toolkit.probe_words import content_text, lun_text, size_text, step_text, summary, time_text

Row = tuple[str, ...]
HEAD: Row = ("TARGET", "PORTAL", "LUN", "SIZE", "TABLE", "CONTENT", "BOOTS BY")


def render_text(report: ProbeReport) -> str:
    """The report; ends with a newline, or is empty when there is nothing to tell. Every line is printable.

    What left nothing to report on (``failure`` of the report and of its discovery) is not in it: it belongs on stderr.
    """
    rows = [row for path in report.paths for row in _rows(path)]
    blocks: list[list[str]] = [_table(rows)] if rows else []
    if report.discovery is not None:
        blocks.append(list(_discovery(report.discovery)))
    told: list[tuple[PathReport, UnitReport]] = []
    for path in report.paths:
        # A path that failed before anything was learnt is told in full by its row.
        if path.portal is not None:
            blocks.append(list(_path(path, told)))
    return "\n".join("".join(f"{printable(line)}\n" for line in block) for block in blocks)


def _rows(path: PathReport) -> Iterator[Row]:
    where = path.path.target, str(path.portal or path.path.portal)
    for unit in path.units:
        size = size_text(unit.capacity.size) if unit.capacity else "-"
        table, content, boots = summary(unit)
        if unit.failure is not None:
            boots = _failed(unit.failure)
        yield (*where, lun_text(unit.lun), size, table, content, boots)
    if path.failure is not None:
        yield (*where, "-", "-", "-", "-", _failed(path.failure))


def _failed(failure: IscsiBootError) -> str:
    """Stage, cause and next step; what it happened to stands in the row. The last column may be long."""
    hint = f"; next: {failure.hint}" if failure.hint else ""
    return f"failed: {failure.stage.value}: {failure.cause}{hint}"


def _table(rows: Sequence[Row]) -> list[str]:
    """Columns as wide as their widest cell; the last is not padded."""
    cells = [HEAD, *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD) - 1)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[-1]] for row in cells)
    return ["  ".join(row).rstrip() for row in padded]


def _discovery(report: DiscoveryReport) -> Iterator[str]:
    count = f"{report.targets} target{'' if report.targets == 1 else 's'}"
    yield f"Discovery at {report.portal.endpoint}: {'failed' if report.failure else count}"
    yield from _times(report.steps)
    for cause in report.refused:
        yield f"  not used: {cause}"
    for remark in report.remarks:
        yield f"  remark: {remark}"


def _path(path: PathReport, told: list[tuple[PathReport, UnitReport]]) -> Iterator[str]:
    """One path in words. Units that another path has shown already are named only."""
    yield str(path.path)
    if path.portal is not None and path.portal.endpoint != getattr(path.path.portal, "endpoint", ""):
        yield f"  redirected to {path.portal.endpoint}"
    if path.authentication:
        alias = f", alias {path.alias}" if path.alias else ""
        yield f"  authentication: {path.authentication}{alias}"
    yield from _times(path.steps)
    for remark in path.remarks:
        yield f"  remark: {remark}"
    for unit in path.units:
        before = next(
            (other for other, shown in told if other.path.target == path.path.target and unit.same_as(shown)), None
        )
        if before is not None:
            yield f"  LUN {lun_text(unit.lun)}: the same as at {before.path.portal}"
            yield from _times(unit.steps, "    ")
            continue
        told.append((path, unit))
        yield from _unit(unit)


def _unit(unit: UnitReport) -> Iterator[str]:
    parts = []
    if unit.identity is not None:
        inquiry = unit.identity.inquiry
        kind = DeviceType.words(inquiry.device_type) if inquiry.present else "no device"
        parts.append(" ".join(text for text in (kind, inquiry.vendor, inquiry.product, inquiry.revision) if text))
        if unit.identity.serial:
            parts.append(f"serial {unit.identity.serial}")
        parts += [f"{item.kind} {item.text}" for item in unit.identity.identifiers if item.kind in ("naa", "eui")]
    if unit.capacity is not None:
        thin = ", thin" if unit.capacity.thin else ""
        parts.append(f"{size_text(unit.capacity.size)} in blocks of {unit.capacity.block_size}{thin}")
    yield f"  LUN {lun_text(unit.lun)}: {', '.join(parts) or 'nothing known'}"
    if unit.media is not None:
        found = unit.media.found
        if found.table is not None:
            yield f"    {found.table.kind} partition table{f' {found.table.uuid}' if found.table.uuid else ''}"
            for partition in found.table.partitions:
                yield f"      {_partition(partition)}"
        if found.content is not None:
            uuid = f" {found.content.uuid}" if found.content.uuid else ""
            yield f"    whole disk: {content_text(found.content)}{uuid}"
        for finding in found.findings:
            yield f"    note: {finding}"
        for name, verdict in (("BIOS", unit.media.bios), ("UEFI", unit.media.uefi), ("kernel", unit.media.kernel)):
            yield f"    boots by {name}: {verdict.outcome.value}: {verdict.reason}"
    yield from _times(unit.steps, "    ")


def _partition(partition: Partition) -> str:
    parts = [f"{partition.number}: {size_text(partition.size)} at {size_text(partition.start)}", partition.type_name]
    if partition.name:
        parts.append(f'named "{partition.name}"')
    if partition.active:
        parts.append("active")
    if partition.content is not None:
        uuid = f" {partition.content.uuid}" if partition.content.uuid else ""
        parts.append(f"{content_text(partition.content)}{uuid}")
    elif partition.role is PartitionRole.OTHER:
        parts.append("content unknown")
    return ", ".join(parts)


def _times(steps: Sequence[Step], indent: str = "  ") -> Iterator[str]:
    if steps:
        yield f"{indent}{time_text(sum(step.seconds for step in steps))}: {', '.join(map(step_text, steps))}"
