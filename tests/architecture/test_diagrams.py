# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pages of docs/ that show state tables are what the generator makes of the tables today, and show all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iscsiboot.initiator.states import TRANSITIONS, Event, State
from tools import diagrams
from tools.diagrams import DOCS, PAGES, Move, Page, Table


@pytest.mark.parametrize("make", PAGES, ids=lambda make: make.__name__)
def test_the_committed_page_is_what_the_generator_makes(make: Callable[[], Page]) -> None:
    page = make()
    assert (DOCS / page.file).read_text() == page.text(), "run: python3 -m tools.diagrams"


def test_the_login_shows_every_cell_and_every_gap() -> None:
    text = diagrams.login().text()
    rows = {line.split("`")[1]: line.split(" | ")[1:] for line in text.splitlines() if line.startswith("| `")}
    assert set(rows) == {state.name for state in TRANSITIONS}
    for state, row in TRANSITIONS.items():
        for event, shown in zip(Event, rows[state.name], strict=True):
            cell = row.get(event)
            words, _, states = shown.removesuffix(" |").partition(" → ")
            assert words == ("refused" if cell is None else cell.action.value)
            assert set(states.replace("`", "").split(", ")) == (
                {""} if cell is None else {there.name for there in cell.leads_to}
            )
            for there in cell.leads_to if cell else ():
                assert any(
                    line.strip().startswith(f"{state.name} --> {there.name}: ") and event.name in line
                    for line in text.splitlines()
                )
    for state in State:
        assert f"- `{state.name}`: the login {state.value}" in text
    for event in Event:
        assert f"- `{event.name}`: the target {event.value}" in text


def test_a_page_of_two_rows() -> None:
    table = Table(
        heading="H",
        text="T",
        rows={"OFF": "it is off", "ON": "it is on", "BROKEN": "it is broken"},
        columns={"PRESS": "somebody presses", "HIT": "somebody hits"},
        cells={
            ("OFF", "PRESS"): Move(what="switch", leads_to=("ON",)),
            ("ON", "PRESS"): Move(what="switch", leads_to=("OFF", "BROKEN")),
            ("ON", "HIT"): Move(what="bear it"),
        },
        begins={"START": ("OFF",)},
    )
    text = Page(file="f.md", title="Light", source="light.py", tables=(table,)).text()
    assert " ".join(text.split("```")[1].split()) == (
        "mermaid stateDiagram-v2 [*] --> START START --> OFF OFF --> ON: PRESS ON --> OFF: PRESS "
        "ON --> BROKEN: PRESS BROKEN --> [*]"
    )
    assert "- `ON`: it is on\n- `BROKEN`: it is broken\n\n- `PRESS`: somebody presses\n- `HIT`" in text
    assert "| `OFF` | switch → `ON` | refused |\n| `ON` | switch → `OFF`, `BROKEN` | bear it |\n\n" in text


def test_a_table_that_leads_nowhere_has_no_diagram() -> None:
    table = Table(
        heading="H",
        text="T",
        rows={"NONE": "no task", "PING": "a ping"},
        columns={"PONG": "an answer"},
        cells={("PING", "PONG"): Move(what="finish the ping")},
    )
    text = Page(file="f.md", title="Tasks", source="tasks.py", tables=(table,)).text()
    assert "mermaid" not in text
    assert "| | `PONG` |\n|---|---|\n| `NONE` | refused |\n| `PING` | finish the ping |\n" in text
