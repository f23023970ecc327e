# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsistart's settings are rows of the one table of keys: the same names, none forgotten, the same defaults."""

from __future__ import annotations

import pytest

from iscsiboot.boot.parameters import OUTSIDE_SESSION, SETTINGS, WITHOUT_EFFECT, known
from iscsiboot.database.keys import BY_KIND, NODE
from iscsiboot.model.params import SessionParams

OURS_AT_BOOT = {
    # iscsistart forces no pings, since nobody listens yet, and Debian's file sets the login timeout to 15.
    "node.conn[0].timeo.noop_out_interval": 0,
    "node.conn[0].timeo.noop_out_timeout": 0,
    "node.conn[0].timeo.login_timeout": 15,
}


def test_every_key_of_a_record_is_known_and_nothing_else() -> None:
    keys = {key.name for key in NODE if not key.name.startswith("iface.")}
    assert set(SETTINGS) | set(OUTSIDE_SESSION) | WITHOUT_EFFECT == keys
    assert all(known(key.name) for key in NODE)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_defaults_are_those_of_a_record(name: str) -> None:
    field, read = SETTINGS[name]
    expected = OURS_AT_BOOT.get(name, read(BY_KIND["node"][name].default))
    assert getattr(SessionParams(), field) == expected
