# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each of the sixteen ways to set CHAP's four values, in a login, a discovery and iscsistart: one rule, the same words.

The exit codes are those of open-iscsi 2.1.8 where it refuses, too (tests/interop compares them).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from iscsiboot.admin.discovery_settings import BadSettings, settings_of
from iscsiboot.boot.options import parse
from iscsiboot.boot.parameters import BootParameters, apply_settings
from iscsiboot.boot.secrets import gather
from iscsiboot.database.record import discovery_defaults, node_defaults
from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.model.credentials import Chap, Credentials, HalfChap, Secret, SecretsEqual, whole_credentials
from iscsiboot.orders.login_request import credentials

VALUES = {"username": "user", "password": "our secret 12", "username_in": "target", "password_in": "their secret 3"}
WAYS = [
    frozenset(name for name, given in zip(VALUES, row, strict=True) if given)
    for row in itertools.product((False, True), repeat=4)
]
OUR_HALF = Chap(name="user", secret=Secret(b"our secret 12"))
THEIR_HALF = Chap(name="target", secret=Secret(b"their secret 3"))
LOGIN = ["-i", "iqn.2001-04.com.example:i", "-g", "1", "-t", "iqn.2001-04.com.example:t", "-a", "10.0.2.2"]


@dataclass
class Outcome:
    """What became of one way to set the values."""

    credentials: Credentials | None = None
    error: IscsiBootError | None = None
    remarks: list[str] = field(default_factory=list)


def in_a_login(given: Iterable[str]) -> Outcome:
    made = Outcome()
    record = node_defaults().changed({f"node.session.auth.{name}": VALUES[name] for name in given})
    try:
        made.credentials = credentials(record, "a target", made.remarks.append)
    except IscsiBootError as error:
        made.error = error
    return made


def in_a_discovery(given: Iterable[str]) -> Outcome:
    made = Outcome()
    values = {f"discovery.sendtargets.auth.{name}": VALUES[name] for name in given}
    record = discovery_defaults("sendtargets").changed({"discovery.sendtargets.address": "10.0.0.1", **values})
    try:
        made.credentials = settings_of(record, made.remarks.append).credentials
    except BadSettings as error:
        made.error = error
    return made


def in_a_boot(given: Iterable[str]) -> Outcome:
    made = Outcome()
    pairs = [(f"node.session.auth.{name}", VALUES[name]) for name in given]
    params = apply_settings(BootParameters(), pairs, origin="-P").parameters
    try:
        made.credentials = gather(parse(LOGIN), params, BootParameters(), {}, remark=made.remarks.append)
    except IscsiBootError as error:
        made.error = error
    return made


@pytest.mark.parametrize(
    ("run", "prefix"),
    [
        (in_a_login, "node.session.auth."),
        (in_a_discovery, "discovery.sendtargets.auth."),
        (in_a_boot, "node.session.auth."),
    ],
)
@pytest.mark.parametrize("given", WAYS, ids=lambda given: "+".join(sorted(given)) or "nothing")
def test_every_way(run: Callable[[Iterable[str]], Outcome], prefix: str, given: frozenset[str]) -> None:
    made = run(given)
    lacks = [name for name in ("password", "username", "username_in", "password_in") if name not in given]
    if {"username_in", "password_in"} & given and lacks:
        assert made.error is not None
        assert made.error.cause == (
            f"CHAP is half configured: the target is to prove itself, and {prefix}{lacks[0]} is not set"
        )
        assert made.error.hint == f"set {prefix}{lacks[0]}, or empty {prefix}username_in and {prefix}password_in"
        assert (made.credentials, made.remarks) == (None, [])
        return
    assert made.error is None
    ours = {"username", "password"} & given
    if len(ours) == 1:
        assert made.credentials is None
        assert made.remarks == [f"{prefix}{lacks[0]} is not set, so no CHAP is offered"]
        return
    expected = None
    if ours:
        expected = Credentials(outgoing=OUR_HALF, incoming=None if lacks else THEIR_HALF)
    assert (made.credentials, made.remarks) == (expected, [])


@pytest.mark.parametrize(
    ("run", "own_secret", "others"),
    [
        (in_a_login, ExitCode.LOGIN_AUTH_FAILED, ExitCode.FATAL_LOGIN),
        (in_a_discovery, ExitCode.SYSFS_LOOKUP, ExitCode.FATAL_LOGIN),
        (in_a_boot, ExitCode.INVAL, ExitCode.INVAL),
    ],
)
def test_the_status_by_what_lacks(
    run: Callable[[Iterable[str]], Outcome], own_secret: ExitCode, others: ExitCode
) -> None:
    for given in WAYS:
        error = run(given).error
        if error is not None:
            assert error.exit_code is (others if "password" in given else own_secret), given


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"username", "username_in"},
            "CHAP configuration has incoming authentication credentials but has no outgoing credentials configured.",
        ),
        (
            {"username", "password", "username_in"},
            "failing authentication, no incoming password configured to authenticate target ",
        ),
        (
            {"username", "password", "password_in"},
            "failing authentication, no incoming username configured to authenticate target ",
        ),
        (
            {"password", "username_in", "password_in"},
            "Login authentication failed with target , Authentication request failed",
        ),
    ],
)
def test_a_discovery_says_it_in_the_peer_s_words_first(given: set[str], said: str) -> None:
    error = in_a_discovery(given).error
    assert isinstance(error, BadSettings)
    assert error.said[0] == said


def test_one_secret_for_both_ends_is_refused_by_the_names_of_its_places() -> None:
    twin = Secret(b"one secret for both")
    with pytest.raises(SecretsEqual) as caught:
        whole_credentials("user", twin, "target", twin, prefix="a.", remark=pytest.fail)
    assert caught.value.roles == ("a.password", "a.password_in")


def test_empty_is_not_set() -> None:
    assert whole_credentials("", None, "", None, prefix="", remark=pytest.fail) is None
    with pytest.raises(HalfChap, match="username_in is not set"):
        whole_credentials("user", OUR_HALF.secret, "", THEIR_HALF.secret, prefix="", remark=pytest.fail)
