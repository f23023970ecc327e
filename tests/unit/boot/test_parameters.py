# SPDX-License-Identifier: LGPL-2.1-or-later
"""Parameters by record name: every name lands in its field, nonsense is named, secrets stay out of messages."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.boot.parameters import (
    OUTSIDE_SESSION,
    BootParameters,
    ParameterError,
    apply_settings,
    known,
    parse_config,
)
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.model.session_keys import SESSION_KEYS

SAMPLE = {
    "initial_cmdsn": ("7", 7),
    "cmds_max": ("64", 64),
    "queue_depth": ("16", 16),
    "replacement_timeout": ("-1", -1),
    "fast_abort": ("No", False),
    "initial_r2t": ("Yes", True),
    "immediate_data": ("no", False),
    "first_burst_length": ("8192", 8192),
    "max_burst_length": ("1048576", 1048576),
    "header_digest": ("CRC32C,None", Digest.PREFER_CRC32C),
    "data_digest": ("None, CRC32C", Digest.PREFER_NONE),
    "max_recv_data_segment_length": ("65536", 65536),
    "max_xmit_data_segment_length": ("65536", 65536),
}


def test_every_field_of_the_session_has_a_name() -> None:
    assert {row.field for row in SESSION_KEYS.values()} == {field.name for field in fields(SessionParams)}


@pytest.mark.parametrize("name", sorted(SESSION_KEYS))
def test_each_name_sets_its_field(name: str) -> None:
    field = SESSION_KEYS[name].field
    text, value = SAMPLE.get(field, ("9", 9))
    changed = apply_settings(BootParameters(), [(name, text)], origin="test").parameters.session
    assert getattr(changed, field) == value
    others = {item.name for item in fields(SessionParams)} - {field}
    assert all(getattr(changed, other) == getattr(SessionParams(), other) for other in others)


@pytest.mark.parametrize("name", sorted(OUTSIDE_SESSION))
def test_names_outside_the_session(name: str) -> None:
    value = getattr(apply_settings(BootParameters(), [(name, "12")], origin="t").parameters, OUTSIDE_SESSION[name][0])
    assert value in (12, "12") or value.reveal() == b"12"


def test_the_last_setting_wins() -> None:
    settings = [("node.session.queue_depth", "1"), ("node.session.queue_depth", "2")]
    assert apply_settings(BootParameters(), settings, origin="t").parameters.session.queue_depth == 2


def test_the_time_to_give_up_is_the_peers_product() -> None:
    assert BootParameters().give_up_after == 450


@pytest.mark.parametrize(
    ("name", "text", "exit_code", "words"),
    [
        ("foo", "1", 1, 'Unknown parameter "foo".'),
        ("node.session.queue_depth", "many", 7, "it is no whole number"),
        ("node.session.queue_depth", "9" * 5000, 7, "digits"),
        ("node.session.queue_depth", "0", 7, "outside 1 to 1024"),
        ("node.session.iscsi.InitialR2T", "maybe", 7, "neither Yes nor No"),
        ("node.conn[0].iscsi.HeaderDigest", "SHA", 7, "none of None"),
        ("node.session.cmds_max", "100", 7, "power of two"),
        ("node.session.initial_login_retry_max", "0", 7, "outside 1 to"),
    ],
)
def test_what_is_refused(name: str, text: str, exit_code: int, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        apply_settings(BootParameters(), [(name, text)], origin="--param")
    assert caught.value.exit_code == exit_code
    assert words in caught.value.line()


def test_a_bad_secret_is_not_repeated() -> None:
    with pytest.raises(ParameterError) as caught:
        apply_settings(BootParameters(), [("node.session.auth.password", "canary" * 50)], origin="--param")
    assert "canary" not in caught.value.line()


def test_names_without_effect_are_told() -> None:
    applied = apply_settings(BootParameters(), [("node.startup", "automatic"), ("iface.mtu", "9000")], origin="-P")
    assert applied.parameters == BootParameters()
    assert len(applied.notes) == 2


def test_a_configuration_file() -> None:
    text = (
        b"# comment\n\n  node.session.queue_depth = 64 \nnode.startup=manual\niscsid.startup = x\n"
        b"discovery.sendtargets.timeo.login_timeout = 1\nnonsense\nfoo.bar = 1\nnode.session.auth.username =\n"
        b"node.session.cmds_max = 64"
    )
    settings, notes = parse_config(text, name="iscsid.conf")
    assert settings == (
        ("node.session.queue_depth", "64"),
        ("node.startup", "manual"),
        ("node.session.cmds_max", "64"),
    )
    assert notes == (
        "iscsid.conf line 7: no '=' separator, the line is skipped",
        'iscsid.conf line 8: unknown key "foo.bar", the line is skipped',
    )


@given(st.binary(max_size=400))
def test_any_file_is_settings_and_notes(data: bytes) -> None:
    settings, _ = parse_config(data, name="x")
    assert all(known(name) and value for name, value in settings)
