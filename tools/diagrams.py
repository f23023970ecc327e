# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the pages of docs/ that show the state tables, from the tables: ``python3 -m tools.diagrams``.

A page is one function that turns a table of the product into :class:`Table` values; a machine more is one entry more in
:data:`PAGES`. tests/architecture/test_diagrams.py holds that what is committed is what this makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from iscsiboot.initiator import fullfeature_states, states
from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.initiator.pdu.registry import TARGET_PDUS
from iscsiboot.keeper import backoff, policy, situation

DOCS = Path(__file__).resolve().parents[1] / "docs"


@dataclass(frozen=True, kw_only=True)
class Move:
    """One cell: what is done, and the rows it may lead to (none: it stays)."""

    what: str
    leads_to: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """One state table; it has a diagram when its cells lead anywhere. Rows and columns with words that explain them."""

    heading: str
    text: str
    rows: Mapping[str, str]
    columns: Mapping[str, str]
    cells: Mapping[tuple[str, str], Move]
    """By row and column; what is missing is refused."""
    begins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The states that a call leaves and no event does: name, and where the call leads."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One file of docs/."""

    file: str
    title: str
    source: str
    """The module the tables are in."""
    tables: tuple[Table, ...]

    def text(self) -> str:
        """The whole file."""
        parts = [
            f"# {self.title}",
            f"Made from `{self.source}` by `python3 -m tools.diagrams`; change the table, not this page.",
            *(part for table in self.tables for part in _sections(table)),
        ]
        return "\n\n".join(parts) + "\n"


def _sections(table: Table) -> Iterator[str]:
    yield f"## {table.heading}"
    yield table.text
    if any(move.leads_to for move in table.cells.values()):
        yield "\n".join(["```mermaid", "stateDiagram-v2", *_edges(table), "```"])
    yield "\n".join(_grid(table))
    for words in (table.rows, table.columns):
        yield "\n".join(f"- `{name}`: {meaning}" for name, meaning in words.items())


def _edges(table: Table) -> Iterator[str]:
    """One arrow for each pair of states, labelled with every event that takes it."""
    left = {row for row, _ in table.cells} | set(table.begins)
    reached = {there for move in table.cells.values() for there in move.leads_to}
    for name, starts in table.begins.items():
        yield f"    [*] --> {name}"
        yield from (f"    {name} --> {there}" for there in starts)
    arrows: dict[tuple[str, str], list[str]] = {}
    for (row, column), move in table.cells.items():
        for there in move.leads_to:
            arrows.setdefault((row, there), []).append(column)
    for (row, there), columns in arrows.items():
        yield f"    {row} --> {there}: {', '.join(columns)}"
    yield from (f"    {name} --> [*]" for name in table.rows if name in reached - left)


def _grid(table: Table) -> Iterator[str]:
    yield f"| | {' | '.join(f'`{column}`' for column in table.columns)} |"
    yield f"|---|{'---|' * len(table.columns)}"
    moves = any(move.leads_to for move in table.cells.values())
    for row in table.rows:
        # A state that no event leaves takes none: it is an end, which the diagram shows.
        if not moves or any((row, column) in table.cells for column in table.columns):
            cells = (_cell(table.cells.get((row, column))) for column in table.columns)
            yield f"| `{row}` | {' | '.join(cells)} |"


def _cell(move: Move | None) -> str:
    if move is None:
        return "refused"
    return f"{move.what} → {', '.join(f'`{there}`' for there in move.leads_to)}" if move.leads_to else move.what


def login() -> Page:
    """The login."""
    order = list(states.State)
    table = Table(
        heading="States of a login",
        text="A state is named after what was asked last; an event is what one PDU of the target amounts to. A cell "
        "says what is done and which states may follow. An event without a cell ends the login, as does a PDU that is "
        "no Login Response, whatever the action finds wrong, and a connection that ends; all of these lead to `FAILED` "
        "and are not drawn.",
        rows={state.name: f"the login {state.value}" for state in order},
        columns={event.name: f"the target {event.value}" for event in states.Event},
        cells={
            (state.name, event.name): Move(
                what=row[event].action.value,
                leads_to=tuple(there.name for there in order if there in row[event].leads_to),
            )
            for state, row in states.TRANSITIONS.items()
            for event in states.Event
            if event in row
        },
        begins={states.State.READY.name: tuple(state.name for state in order if state in states.STARTS)},
    )
    return Page(file="login-states.md", title="Login", source="iscsiboot/initiator/states.py", tables=(table,))


def full_feature() -> Page:
    """The full feature phase: its phases, and what a PDU does to the task it names."""
    phases, kinds = fullfeature_states.Phase, fullfeature_states.TaskKind
    opcodes = {opcode.name: Opcode.words(opcode) for opcode in Opcode if opcode in TARGET_PDUS}
    connection = Table(
        heading="Phases of a connection",
        text="An event is the opcode of a PDU of the target. A cell says how the PDU is taken, and the phases it may "
        "lead to when it may lead to another. A PDU without a cell ends the session, as does any rule it breaks and an "
        "answer that does not come in time; all of these lead to `FAILED` and are not drawn. A call, logout, leads "
        "from `FULL_FEATURE` to `LOGGING_OUT`.",
        rows={phase.name: f"the session {phase.value}" for phase in phases},
        columns=opcodes,
        cells={
            (phase.name, opcode.name): Move(
                what=cell.handling.value,
                leads_to=tuple(there.name for there in phases if there in cell.leads_to - {phase}),
            )
            for phase, row in fullfeature_states.PHASES.items()
            for opcode, cell in row.items()
        },
        begins={phases.FULL_FEATURE.name: (phases.LOGGING_OUT.name,)},
    )
    tasks = Table(
        heading="PDUs and tasks",
        text="What a PDU does, by the kind of task that its initiator task tag names. Asynchronous Message, Reject and "
        "a NOP-In with the reserved tag name none. What is refused ends the session.",
        rows={kind.name: kind.value for kind in kinds},
        columns=opcodes,
        cells={
            (kind.name, opcode.name): Move(what=action.value)
            for kind, actions in fullfeature_states.TASKS.items()
            for opcode, action in actions.items()
        },
    )
    return Page(
        file="full-feature-states.md",
        title="Full feature phase",
        source="iscsiboot/initiator/fullfeature_states.py",
        tables=(connection, tasks),
    )


_CONNECTION = (situation.Broke, situation.Asked, situation.Stopped, situation.StopFailed, situation.Vanished)
_ATTEMPTS = (situation.Due, situation.Succeeded, situation.Failed, situation.LeavingFailed)
_AROUND = (
    situation.OrderedToLeave,
    situation.OrderedToReconnect,
    situation.NetworkChanged,
    situation.SecretsChanged,
    situation.RoleChanged,
)


def recovery() -> Page:
    """What a guard does about a session, by the kind of happening so that a table fits a page; and the back-off."""
    phases = {phase.name: f"the session {words}" for phase, words in policy.PHASES.items()}

    def table(heading: str, text: str, kinds: tuple[type[situation.Happening], ...]) -> Table:
        return Table(
            heading=heading,
            text=text,
            rows=phases,
            columns={kind.__name__: policy.COLUMNS[kind].what for kind in kinds},
            cells={
                (phase.name, kind.__name__): Move(
                    what=cell.what,
                    leads_to=tuple(there.name for there in situation.Phase if there in cell.leads_to),
                )
                for phase in situation.Phase
                for kind in kinds
                for cell in (policy.COLUMNS[kind].cells[phase],)
            },
        )

    pauses = Table(
        heading="Pauses between attempts",
        text="Seconds from a failed attempt to the next one: spans, because every figure is spread so that many "
        "sessions of one target do not knock together. The count begins anew with another kind of failure. The first "
        "attempt after a break is made at once.",
        rows={failure.name: words for failure, words in policy.FAILURES.items()},
        columns={
            "system": "the session carries root or another part of the system",
            "data": "it carries anything else",
        },
        cells={
            (failure.name, name): Move(what=curves[failure].words)
            for failure in situation.Failure
            for name, curves in (("system", backoff.SYSTEM), ("data", backoff.DATA))
        },
    )
    return Page(
        file="recovery-states.md",
        title="Recovery",
        source="iscsiboot/keeper/policy.py",
        tables=(
            table(
                "The connection",
                "What the kernel and the target do. Rows are the phases of a session. An arrow is drawn for each phase "
                "a cell may lead to; without one the session stays in its phase.",
                _CONNECTION,
            ),
            table("Attempts", "What becomes of the work under way, and time.", _ATTEMPTS),
            table("Orders and changes", "What people want, and what changes around a session.", _AROUND),
            pauses,
        ),
    )


PAGES: tuple[Callable[[], Page], ...] = (login, full_feature, recovery)
"""Every page, one function each."""


def main() -> None:
    """Write all of them."""
    for make in PAGES:
        page = make()
        (DOCS / page.file).write_text(page.text())
        print(f"docs/{page.file}")


if __name__ == "__main__":
    main()
