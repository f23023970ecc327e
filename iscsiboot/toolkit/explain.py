# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot explain``: every value this boot would use and where it came from, what was ignored and why.

Reads only. Secrets are shown as ``********``, in the table and in JSON. :func:`render_text` and :func:`render_json`
are pure; :func:`main` reads and prints.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, printable, quoted
from iscsiboot.firmware.acpi import explain_table
from iscsiboot.firmware.files import TABLE_MAX, read_file, why_not
from iscsiboot.firmware.read import read_firmware, report_of
from iscsiboot.firmware.report import FirmwareReport, FirmwareRoots
from iscsiboot.model.boot import BootConfig, BootNic, BootTarget, Sourced
from iscsiboot.model.credentials import Credentials

SCHEMA = "iscsiboot.explain/1"
FILE_KIND = "ibft-file"
HIDDEN = "********"

_NIC_ROWS = (
    ("mac", "MAC address"),
    ("netdev", "network device"),
    ("address", "IP address"),
    ("prefix_len", "prefix length"),
    ("gateway", "gateway"),
    ("dhcp", "DHCP"),
    ("dhcp_server", "DHCP server"),
    ("origin", "origin"),
    ("vlan", "VLAN"),
    ("pci", "PCI address"),
    ("hostname", "host name"),
)
_TARGET_ROWS = (
    ("name", "target name"),
    ("address", "IP address"),
    ("port", "port"),
    ("lun", "LUN"),
    ("nic_index", "NIC"),
)

Row = tuple[str, str, str]
"""What, value, source."""


def main(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """The command without its name; an :class:`ExitCode`. 21 when there is nothing to boot from, as iscsistart."""
    parser = _parser()
    try:
        options, left_over = parser.parse_known_args(list(argv))
        if left_over:
            raise argparse.ArgumentError(None, f"unknown argument {quoted(left_over[0])}")
    except argparse.ArgumentError as bad:
        err.write(f"iscsiboot explain: {printable(str(bad))}; next: iscsiboot explain --help\n")
        return ExitCode.INVAL
    if options.help:
        out.write(parser.format_help())
        return ExitCode.SUCCESS
    try:
        report = _report(options.table, FirmwareRoots(sysfs=options.sysfs_root, proc=options.proc_root))
    except IscsiBootError as error:
        err.write(f"iscsiboot explain: {error.line()}\n")
        return error.exit_code
    out.write(render_json(report) if options.json else render_text(report))
    problem = report.problem()
    if problem is None:
        return ExitCode.SUCCESS
    err.write(f"iscsiboot explain: {problem.line()}\n")
    return problem.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iscsiboot explain",
        description="Show each value of this machine's iSCSI boot and where it came from.",
        # argparse would print to the process's own streams and end it: errors and --help are handled in main.
        exit_on_error=False,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this help")
    parser.add_argument("--json", action="store_true", help=f"print JSON, schema {SCHEMA}")
    parser.add_argument("--table", type=Path, metavar="FILE", help="explain an iBFT captured to a file instead")
    parser.add_argument("--sysfs-root", type=Path, default=Path("/sys"), metavar="P", help="where sysfs is (/sys)")
    parser.add_argument("--proc-root", type=Path, default=Path("/proc"), metavar="P", help="where proc is (/proc)")
    return parser


def _report(table: Path | None, roots: FirmwareRoots) -> FirmwareReport:
    """The report on this machine, or on a table in a file."""
    if table is None:
        return read_firmware(roots)
    try:
        # A dump of low memory is allowed to be longer than a table: bytes behind it do no harm.
        data = read_file(table, 16 * TABLE_MAX)
        reason = "no such file"
    except OSError as error:
        data, reason = None, why_not(error)
    if data is None:
        raise IscsiBootError(reason, stage=Stage.ARGUMENTS, subject=str(table), exit_code=ExitCode.INVAL)
    result = explain_table(data, table, FILE_KIND)
    return report_of([result], result.config, ())


def render_text(report: FirmwareReport) -> str:
    """The report for people: values, what was ignored, findings, sources. Ends with a newline."""
    blocks = ["Boot configuration", _table(("what", "value", "source"), list(_rows(report.config)))]
    if report.ignored:
        rows = [(item.what, item.why, str(item.source)) for item in report.ignored]
        blocks += ["", "Ignored", _table(("what", "why", "source"), rows)]
    if report.findings:
        blocks += ["", "Findings", *(f"  {printable(str(finding))}" for finding in report.findings)]
    sources = [(status.kind, status.state.value, f"{status.path} {status.why}".rstrip()) for status in report.sources]
    blocks += ["", "Sources looked at", _table(("source", "state", "where"), sources)]
    return "\n".join(blocks) + "\n"


def _table(head: Row, rows: list[Row]) -> str:
    """Columns as wide as their widest cell; the last is not padded."""
    cells = [head, *(tuple(printable(cell) for cell in row) for row in rows)] if rows else [("none", "", "")]
    widths = [max(len(row[column]) for row in cells) for column in range(2)]
    lines = [f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in cells]
    if rows:
        lines.insert(1, "  " + "  ".join("-" * width for width in (*widths, len(head[2]))))
    return "\n".join(lines)


def _rows(config: BootConfig | None) -> Iterator[Row]:
    """Every value there is."""
    if config is None:
        return
    if config.initiator_name is not None:
        yield _row("initiator name", config.initiator_name)
    for server in config.isns_servers:
        yield _row("iSNS server", server)
    for nic in config.nics:
        yield from _structure_rows("NIC", nic, _NIC_ROWS)
        for number, dns in enumerate(nic.dns, start=1):
            yield _row(f"NIC {nic.index} DNS {number}", dns)
    for target in config.targets:
        yield from _structure_rows("target", target, _TARGET_ROWS)
        if target.credentials is not None:
            yield from _credential_rows(target.index, target.credentials)


def _structure_rows(word: str, entry: BootNic | BootTarget, names: tuple[tuple[str, str], ...]) -> Iterator[Row]:
    yield f"{word} {entry.index}", "boot selected" if entry.boot_selected else "valid", ""
    for attribute, label in names:
        value: Sourced[Any] | None = getattr(entry, attribute)
        if value is not None:
            yield _row(f"{word} {entry.index} {label}", value)


def _credential_rows(index: int, sourced: Sourced[Credentials]) -> Iterator[Row]:
    """CHAP names, and that there are secrets."""
    source, credentials = str(sourced.source), sourced.value
    yield f"target {index} CHAP name", credentials.outgoing.name, source
    yield f"target {index} CHAP secret", HIDDEN, source
    if credentials.incoming is not None:
        yield f"target {index} reverse CHAP name", credentials.incoming.name, source
        yield f"target {index} reverse CHAP secret", HIDDEN, source


def _row(what: str, value: Sourced[Any]) -> Row:
    return what, _plain(value.value), str(value.source)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def render_json(report: FirmwareReport) -> str:
    """The report for programs. Fields may be added within a schema version, none removed or changed in meaning."""
    import json

    document = {
        "schema": SCHEMA,
        "config": None if report.config is None else _json_config(report.config),
        "ignored": [{"what": item.what, "why": item.why, "source": _json_source(item)} for item in report.ignored],
        "findings": [
            {
                "source": item.kind,
                "severity": item.finding.severity.value,
                "structure": item.finding.structure,
                "field": item.finding.field,
                "offset": item.finding.offset,
                "problem": item.finding.problem,
            }
            for item in report.findings
        ],
        "sources": [
            {"kind": status.kind, "path": str(status.path), "state": status.state.value, "why": status.why}
            for status in report.sources
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _json_config(config: BootConfig) -> dict[str, Any]:
    return {
        "initiator_name": _json_value(config.initiator_name),
        "isns_servers": [_json_value(server) for server in config.isns_servers],
        "nics": [
            {
                "index": nic.index,
                "boot_selected": nic.boot_selected,
                **{attribute: _json_value(getattr(nic, attribute)) for attribute, _ in _NIC_ROWS},
                "dns": [_json_value(server) for server in nic.dns],
            }
            for nic in config.nics
        ],
        "targets": [
            {
                "index": target.index,
                "boot_selected": target.boot_selected,
                **{attribute: _json_value(getattr(target, attribute)) for attribute, _ in _TARGET_ROWS},
                "credentials": _json_credentials(target.credentials),
            }
            for target in config.targets
        ],
    }


def _json_value(value: Sourced[Any] | None) -> dict[str, Any] | None:
    """Numbers and truth values stay what they are; names, addresses and LUNs are text."""
    if value is None:
        return None
    plain = value.value if isinstance(value.value, (bool, int, str)) else str(value.value)
    return {"value": plain, "source": _json_source(value)}


def _json_source(item: Any) -> dict[str, str]:
    return {"kind": item.source.kind, "where": item.source.where}


def _json_credentials(value: Sourced[Credentials] | None) -> dict[str, Any] | None:
    if value is None:
        return None
    result: dict[str, Any] = {"chap_name": value.value.outgoing.name, "chap_secret": HIDDEN}
    if value.value.incoming is not None:
        result |= {"reverse_chap_name": value.value.incoming.name, "reverse_chap_secret": HIDDEN}
    return {**result, "source": _json_source(value)}
