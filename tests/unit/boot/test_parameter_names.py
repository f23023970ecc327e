# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keys a session is made of: the same in the database's table, in iscsistart and in iscsiadm's logins."""

from __future__ import annotations

from dataclasses import fields

import pytest

from iscsiboot.boot.parameters import OUTSIDE_SESSION, WITHOUT_EFFECT, BootParameters, apply_settings, known
from iscsiboot.database.keys import BY_KIND, NODE
from iscsiboot.database.record import node_defaults
from iscsiboot.model.params import RANGES, SessionParams
from iscsiboot.model.session_keys import SESSION_KEYS, SessionKey
from iscsiboot.orders.login_request import session_params

OURS_AT_BOOT = {
    # iscsistart forces no pings, since nobody listens yet, and Debian's file sets the login timeout to 15.
    "node.conn[0].timeo.noop_out_interval": 0,
    "node.conn[0].timeo.noop_out_timeout": 0,
    "node.conn[0].timeo.login_timeout": 15,
}
ANOTHER = {
    # For each key a legal value that is not its default.
    "initial_cmdsn": "7",
    "cmds_max": "64",
    "fast_abort": "No",
    "initial_r2t": "Yes",
    "immediate_data": "No",
    "first_burst_length": "8192",
    "max_burst_length": "1048576",
    "header_digest": "CRC32C,None",
    "data_digest": "None,CRC32C",
    "max_recv_data_segment_length": "65536",
    "max_xmit_data_segment_length": "65536",
}


def test_every_key_of_a_record_is_known_and_nothing_else() -> None:
    keys = {key.name for key in NODE if not key.name.startswith("iface.")}
    assert set(SESSION_KEYS) | set(OUTSIDE_SESSION) | WITHOUT_EFFECT == keys
    assert all(known(key.name) for key in NODE)


def test_no_key_has_two_meanings() -> None:
    assert not set(SESSION_KEYS) & set(OUTSIDE_SESSION)
    assert not (set(SESSION_KEYS) | set(OUTSIDE_SESSION)) & WITHOUT_EFFECT
    assert sorted(row.field for row in SESSION_KEYS.values()) == sorted(item.name for item in fields(SessionParams))


@pytest.mark.parametrize("name", SESSION_KEYS)
def test_the_defaults_are_those_of_a_record(name: str) -> None:
    row = SESSION_KEYS[name]
    expected = OURS_AT_BOOT.get(name, row.read(BY_KIND["node"][name].default))
    assert getattr(SessionParams(), row.field) == expected


@pytest.mark.parametrize("name", SESSION_KEYS)
def test_a_boot_and_a_login_take_the_same_from_a_text(name: str) -> None:
    row = SESSION_KEYS[name]
    text = ANOTHER.get(row.field, "9")
    assert text != BY_KIND["node"][name].default
    at_boot = apply_settings(BootParameters(), [(name, text)], origin="-P").parameters.session
    remarks: list[str] = []
    in_a_login = session_params(node_defaults().changed({name: text}), remarks.append)
    assert remarks == []
    assert getattr(at_boot, row.field) == getattr(in_a_login, row.field) == row.read(text)


@pytest.mark.parametrize(("name", "row"), [item for item in SESSION_KEYS.items() if item[1].field in RANGES])
def test_a_login_takes_what_the_key_s_documentation_allows(name: str, row: SessionKey) -> None:
    """What -o update sets without a word must not be put right by the login that follows."""
    key, (low, high) = BY_KIND["node"][name], RANGES[row.field]
    if row.field == "login_timeout":
        low = 0  # it is documented, and means 30
    assert key.low is None or low <= key.low
    assert key.high is None or key.high <= high
