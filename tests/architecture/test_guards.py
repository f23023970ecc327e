# SPDX-License-Identifier: LGPL-2.1-or-later
"""The picture of docs/daemon.md is what the generator makes of the recorded boot, which shows what it is for."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from tools import guards


@pytest.fixture
def facts() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(guards.RECORD.read_text())
    return found


def test_the_committed_picture_is_what_the_generator_makes(facts: dict[str, Any]) -> None:
    assert guards.PICTURE.read_text() == guards.render(facts), "run: python3 -m tools.guards"


def test_the_recorded_boot_shows_what_it_is_for(facts: dict[str, Any]) -> None:
    """Two cuts cost a login each, the hand-over and the kill none; somebody guards at every moment."""
    order = [facts[name] for name in ("kernel", "keeper", "switched", "ready", "killed", "ready again", "end")]
    assert order == sorted(order)
    (first, first_end), (second, second_end) = facts["cuts"]
    assert first == facts["switched"]
    assert first_end < facts["ready"]
    assert facts["ready again"] < second
    login, healed, healed_again = facts["logins"]
    assert login < facts["keeper"]
    assert first_end < healed < first_end + 2
    assert second_end < healed_again < second_end + 2
    assert facts["errors"] == []
    assert not [moment for moment in facts["logins"] if facts["ready"] - 1 < moment < second]


def test_it_is_one_drawing_with_every_lane_and_moment(facts: dict[str, Any]) -> None:
    text = guards.render(facts)
    drawing = ElementTree.fromstring(text)
    words = {"".join(part.itertext()) for part in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {"keeper", "iscsid", "standby", "logins", "writes", *guards.MOMENTS.values()} <= words
    places = [float(place) for place in re.findall(r' x="(-?[0-9.]+)"', text)]
    assert 0 <= min(places) <= max(places) <= guards.WIDTH
