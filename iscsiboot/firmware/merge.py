# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several sources to one BootConfig. Nothing is mixed that does not describe the same boot.

1. OpenFirmware's boot path wins alone: open-iscsi reads nothing else then either, and POWER machines have no iBFT.
2. The raw ACPI table and the kernel's ``firmware/ibft`` are usually two views of one table. Then structures are matched
   by index and values by field: the raw table wins (it has the exact LUN and the whole control structure), the
   kernel's view adds what only it knows (the network device's name).
3. They are *not* one table when they disagree on a MAC address or on a target's name, address or port. The kernel
   searches low memory before ACPI (iscsi_ibft_find.c), and low memory is where a boot loader that came after the
   firmware leaves its own: the kernel's view wins as a whole, which is also what open-iscsi would boot from.
4. Without an iBFT the first ``iscsi_bootN`` with a target is used. Beside an iBFT these are an offload adapter's own
   sessions, which are not ours to log in.

What loses is reported as ignored, with the winner named.
"""

from __future__ import annotations

from dataclasses import fields, replace

from iscsiboot.firmware.report import SourceResult
from iscsiboot.model.boot import BootConfig, BootNic, BootTarget, Ignored, Source, Sourced
from iscsiboot.model.credentials import Credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    Entry = TypeVar("Entry", BootNic, BootTarget)

_IDENTITY = {BootNic: ("mac",), BootTarget: ("name", "address", "port")}


def merge(
    device_tree: SourceResult, acpi: SourceResult, view: SourceResult, adapters: list[SourceResult]
) -> tuple[BootConfig | None, tuple[Ignored, ...]]:
    """The configuration to boot from (None when no source has one), and what was left out in favour of what."""
    ibft, ignored = _tables(acpi, view)
    winner: BootConfig | None = None
    winner_kind = ""
    candidates = [(device_tree.config, device_tree), (ibft, view if ibft is view.config else acpi)]
    for config, result in candidates + [(adapter.config, adapter) for adapter in adapters]:
        if config is None:
            continue
        if winner is None or (not winner.targets and config.targets):
            if winner is not None:
                ignored.append(_whole(winner_kind, "it names no target that can be used"))
            winner, winner_kind = config, result.status.kind
        else:
            ignored.append(_whole(result.status.kind, f"{winner_kind} says what this boot is from"))
    return winner, tuple(ignored)


def _tables(acpi: SourceResult, view: SourceResult) -> tuple[BootConfig | None, list[Ignored]]:
    """Rules 2 and 3."""
    raw, shown = acpi.config, view.config
    if raw is None or shown is None:
        return raw or shown, []
    difference = _difference(raw, shown)
    if difference:
        why = f"the kernel shows another table, which it found first: {difference}"
        return shown, [_whole(acpi.status.kind, why)]
    ignored: list[Ignored] = []
    name = _pick("initiator name", raw.initiator_name, shown.initiator_name, ignored)
    merged = BootConfig(
        initiator_name=name,
        isns_servers=raw.isns_servers or shown.isns_servers,
        nics=_entries("NIC", raw.nics, shown.nics, ignored),
        targets=_entries("target", raw.targets, shown.targets, ignored),
    )
    return merged, ignored


def _difference(raw: BootConfig, shown: BootConfig) -> str:
    """What shows that two configurations are of different tables, empty when nothing does."""
    for word, ours, theirs in (("NIC", raw.nics, shown.nics), ("target", raw.targets, shown.targets)):
        others: dict[int, Any] = {entry.index: entry for entry in theirs}
        for entry in ours:
            other = others.get(entry.index)
            for attribute in _IDENTITY[type(entry)] if other is not None else ():
                one, two = getattr(entry, attribute), getattr(other, attribute)
                if one is not None and two is not None and one.value != two.value:
                    return f"{word} {entry.index} {attribute} {two.value} instead of {one.value}"
    return ""


def _entries(
    word: str, ours: tuple[Entry, ...], theirs: tuple[Entry, ...], ignored: list[Ignored]
) -> tuple[Entry, ...]:
    """Structures of both, matched by index, in the raw table's order with additions behind."""
    others: dict[int, Entry] = {entry.index: entry for entry in theirs}
    merged: list[Entry] = []
    for entry in ours:
        other = others.pop(entry.index, None)
        merged.append(entry if other is None else _fill(word, entry, other, ignored))
    merged += [others[index] for index in sorted(others)]
    return tuple(merged)


def _fill(word: str, ours: Entry, theirs: Entry, ignored: list[Ignored]) -> Entry:
    """Our structure with what only the other has."""
    changes: dict[str, Any] = {}
    for spec in fields(ours):
        one, two = getattr(ours, spec.name), getattr(theirs, spec.name)
        if isinstance(one, tuple):
            changes[spec.name] = one or two
        elif one is None or isinstance(one, Sourced):
            changes[spec.name] = _pick(f"{word} {ours.index} {spec.name.replace('_', ' ')}", one, two, ignored)
    return replace(ours, **changes)


def _pick(what: str, one: Sourced[Any] | None, two: Sourced[Any] | None, ignored: list[Ignored]) -> Sourced[Any] | None:
    """The first unless there is only the second; a contradiction is noted."""
    if one is not None and two is not None and one.value != two.value:
        secret = isinstance(one.value, Credentials)
        why = f"{one.source.kind} has others" if secret else f"{one.source.kind} says {one.value}"
        ignored.append(Ignored(what=what if secret else f"{what} {two.value}", why=why, source=two.source))
    return two if one is None else one


def _whole(kind: str, why: str) -> Ignored:
    return Ignored(what=f"everything of {kind}", why=why, source=Source(kind=kind, where=""))
