# SPDX-License-Identifier: LGPL-2.1-or-later
"""The four secrets of a configuration: each differs from each, and a refusal names two roles and no secret."""

from __future__ import annotations

from itertools import combinations

import pytest

from iscsiboot.model.credentials import Chap, Secret, SecretsEqual, check_secrets_differ

ROLES = ("session outgoing", "session incoming", "discovery outgoing", "discovery incoming")


def secrets(**changed: str) -> dict[str, Secret]:
    return {role: Secret(changed.get(role, f"canary of {role}").encode()) for role in ROLES}


def test_four_different_secrets() -> None:
    check_secrets_differ(secrets())
    check_secrets_differ({})


@pytest.mark.parametrize(("first", "second"), list(combinations(ROLES, 2)), ids=" = ".join)
def test_any_two_equal_ones_are_refused_by_name(first: str, second: str) -> None:
    with pytest.raises(SecretsEqual) as caught:
        check_secrets_differ(secrets(**{first: "canary both", second: "canary both"}))
    assert caught.value.roles == (first, second)
    assert str(caught.value) == f"the CHAP secrets of {first} and {second} are equal and must differ"
    assert isinstance(caught.value, ValueError)
    assert "canary" not in repr(caught.value)
    # Nothing of a secret is reachable from the error by way of what it was raised from either.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_roles_without_a_secret_are_no_matter() -> None:
    some: dict[str, Secret | None] = dict.fromkeys(ROLES)
    check_secrets_differ(some)
    some |= {ROLES[0]: Secret(b"canary"), ROLES[3]: Secret(b"canary")}
    with pytest.raises(SecretsEqual, match="of session outgoing and discovery incoming are equal"):
        check_secrets_differ(some)


def test_the_first_pair_is_told() -> None:
    with pytest.raises(SecretsEqual) as caught:
        check_secrets_differ(dict.fromkeys(ROLES, Secret(b"canary")))
    assert caught.value.roles == ROLES[:2]


def test_a_prefix_is_another_secret() -> None:
    check_secrets_differ({"a": Secret(b"canary"), "b": Secret(b"canary\0"), "c": Secret(b"Canary")})


@pytest.mark.parametrize("length", [0, 256])
def test_the_length_of_a_secret(length: int) -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes") as caught:
        Secret(b"c" * length)
    assert "ccc" not in str(caught.value)


def test_a_secret_equals_secrets_only() -> None:
    assert Secret(b"canary") == Secret(b"canary")
    assert Secret(b"canary") != Secret(b"another")
    assert Secret(b"canary") != b"canary"


@pytest.mark.parametrize(
    ("name", "rule"),
    [("", "1 to 255 bytes"), ("n" * 256, "1 to 255 bytes"), ("a\nb", "printable"), ("a\0", "printable")],
)
def test_a_name_can_stand_in_a_key(name: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Chap(name=name, secret=Secret(b"canary"))
