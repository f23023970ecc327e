# SPDX-License-Identifier: LGPL-2.1-or-later
"""A probe's report for people: a table of all units, each failure in a line, then each path in words. Pure.

A table wider than the terminal would be wrapped into something nobody can read: there, target and portal stand on a
line of their own above their units, and the last column is cut, since all of it comes again below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from iscsiboot.errors import printable
from iscsiboot.initiator.scsi import DeviceType
from iscsiboot.toolkit.media_values import Partition, PartitionRole
from iscsiboot.toolkit.probe_report import DiscoveryReport, PathReport, ProbeReport, Step, UnitReport
from iscsiboot.toolkit.probe_words import content_text, lun_text, size_text, step_text, summary, time_text

Row = tuple[str, ...]
HEAD: Row = ("TARGET", "PORTAL", "LUN", "SIZE", "TABLE", "BOOTS BY", "CONTENT")
CONTENT_MIN = 12
"""Columns the content keeps, however narrow the terminal is."""
_PLACE = 2
"""Cells of a row that say where: a group's heading on a narrow terminal."""


def render_text(report: ProbeReport, width: int | None = None) -> str:
    """The report; ends with a newline, or is empty when there is nothing to tell. Every line is printable.

    ``width`` is the terminal's, in columns; None is no terminal: nothing is cut or wrapped then. What left nothing to
    report on (:attr:`ProbeReport.nothing_because`) is not in it: it belongs on stderr.
    """
    alone = report.nothing_because
    paths = [path for path in report.paths if not any(path.failure is failure for failure in alone)]
    rows = [row for path in paths for row in _rows(path)]
    blocks: list[list[str]] = [_table(rows, width)] if rows else []
    blocks.append(list(_failures(paths)))
    if report.discovery is not None:
        blocks.append(list(_discovery(report.discovery)))
    told: list[tuple[PathReport, UnitReport]] = []
    for path in report.paths:
        # A path that failed before anything was learnt is told in full by its failure.
        if path.portal is not None:
            blocks.append(list(_path(path, told)))
    return "\n".join("".join(f"{printable(line)}\n" for line in block) for block in blocks if block)


def _rows(path: PathReport) -> Iterator[Row]:
    where = path.path.target, str(path.portal or path.path.portal)
    for unit in path.units:
        size = size_text(unit.capacity.size) if unit.capacity else "-"
        table, content, boots = summary(unit)
        if unit.failure is not None:
            boots = f"failed: {unit.failure.stage.value}"
        yield (*where, lun_text(unit.lun), size, table, boots, content)
    if path.failure is not None:
        yield (*where, "-", "-", "-", f"failed: {path.failure.stage.value}", "-")


def _failures(paths: Sequence[PathReport]) -> Iterator[str]:
    """Each failure in its one line; what a thousand targets of a dead portal have in common is told once."""
    failures = [failure for path in paths for failure in (*(unit.failure for unit in path.units), path.failure)]
    for line, times in Counter(failure.line() for failure in failures if failure is not None).items():
        yield f"failed: {line}{f' ({times} times)' if times > 1 else ''}"


def _table(rows: Sequence[Row], width: int | None) -> list[str]:
    """All cells of a row in one line where there is room for it, else the rows in groups by place."""
    cells = [tuple(printable(cell) for cell in row) for row in rows]
    lines = _aligned([HEAD, *cells])
    if width is None or max(map(len, lines)) <= width:
        return lines
    head, *body = (f"  {line}" for line in _aligned([row[_PLACE:] for row in (HEAD, *cells)], width - 2))
    grouped = [head]
    for place, group in groupby(zip(cells, body, strict=True), key=lambda item: item[0][:_PLACE]):
        grouped += [" at ".join(place), *(line for _, line in group)]
    return grouped


def _aligned(cells: Sequence[Row], width: int | None = None) -> list[str]:
    """Columns as wide as their widest cell; the last is not padded, and cut where a line would pass ``width``."""
    widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:-1]]
    room = None if width is None else max(width - sum(widths) - 2 * len(widths), CONTENT_MIN)
    return ["  ".join([*map(str.ljust, row, widths), _cut(row[-1], room)]).rstrip() for row in cells]


def _cut(text: str, room: int | None) -> str:
    return text if room is None or len(text) <= room else f"{text[: room - 3]}..."


def _discovery(report: DiscoveryReport) -> Iterator[str]:
    if report.failure is not None and not report.steps:
        return
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
        kind = DeviceType.words(inquiry.device_type)
        whole = (kind, inquiry.vendor, inquiry.product, inquiry.revision) if inquiry.present else ("no device",)
        parts.append(" ".join(filter(None, whole)))
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
