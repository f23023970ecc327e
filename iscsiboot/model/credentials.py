# SPDX-License-Identifier: LGPL-2.1-or-later
"""CHAP credentials whose secrets cannot be printed by accident (RFC 7143 section 12.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

SECRET_MAX_BYTES = 255
NAME_MAX_BYTES = 255


class Secret:
    """Bytes that show themselves to nobody: ``repr``, ``str`` and ``format`` give a placeholder.

    Compared in constant time, unhashable on purpose (a secret is no dictionary key).
    """

    __slots__ = ("_value",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: bytes) -> None:
        if not 1 <= len(value) <= SECRET_MAX_BYTES:
            raise ValueError(f"a CHAP secret has 1 to {SECRET_MAX_BYTES} bytes")
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The secret itself: for the digest, the kernel parameter and the table builder, nothing else."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        import hmac  # loads OpenSSL: 3 ms, ten times that under emulation, which a boot without CHAP need not pay

        return hmac.compare_digest(self._value, other._value)

    def __repr__(self) -> str:
        return "Secret(********)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True, kw_only=True, slots=True)
class Chap:
    """One direction of CHAP."""

    name: str
    secret: Secret

    def __post_init__(self) -> None:
        if not 1 <= len(self.name.encode()) <= NAME_MAX_BYTES:
            raise ValueError(f"a CHAP name has 1 to {NAME_MAX_BYTES} bytes")
        if any(not char.isprintable() for char in self.name):
            raise ValueError("a CHAP name has printable characters only")


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """How we prove ourselves (``outgoing``) and what we demand of the target (``incoming``, mutual CHAP).

    RFC 7143 section 12.1.3 forbids one secret for both directions: a target could then answer our own challenge with
    our own response.
    """

    outgoing: Chap
    incoming: Chap | None = None

    def __post_init__(self) -> None:
        if self.incoming is not None and self.incoming.secret == self.outgoing.secret:
            raise ValueError("the initiator's and the target's CHAP secret must differ (RFC 7143 section 12.1.3)")


class SecretsEqual(ValueError):
    """One secret stands in two places of a configuration; ``roles`` are the two, and no secret is in the message."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"the CHAP secrets of {first} and {second} are equal and must differ")
        self.roles = (first, second)


def check_secrets_differ(secrets: Mapping[str, Secret | None]) -> None:
    """Refuse a configuration in which one secret serves two ends; None is a role without a secret.

    The keys are the roles as the user knows them: a configuration has four, session and discovery, each outgoing and
    incoming. RFC 7143 section 9.2.1 forbids one secret for an initiator and a target; one outgoing secret for session
    and discovery is refused as well, since discovery portals are often less guarded than the disks.

    Raises :class:`SecretsEqual` for the first two that are equal, in the order of ``secrets``.
    """
    given = [(role, secret) for role, secret in secrets.items() if secret is not None]
    for (first, one), (second, other) in combinations(given, 2):
        if one == other:
            raise SecretsEqual(first, second)


class HalfChap(ValueError):
    """The target is to prove itself, and a setting that takes is not there."""

    def __init__(self, prefix: str, missing: str) -> None:
        super().__init__(f"CHAP is half configured: the target is to prove itself, and {prefix}{missing} is not set")
        self.missing = missing
        """``password``, ``username``, ``username_in`` or ``password_in``: the first that lacks."""
        self.hint = f"set {prefix}{missing}, or empty {prefix}username_in and {prefix}password_in"


def whole_credentials(
    username: str | None,
    password: Secret | None,
    username_in: str | None,
    password_in: Secret | None,
    *,
    prefix: str,
    remark: Callable[[str], None],
) -> Credentials | None:
    """What four settings are good for, None and empty being "not set": the same in logins, discoveries and boots.

    What we prove is the target's to demand: with a half of that nothing is offered, ``remark`` gets a line, and a
    target that wants it says no. What the target proves is ours to demand: whoever set a half of that is not logged in
    without. open-iscsi's programs end the same way, except that its daemon and iscsistart go on without CHAP where the
    target's half stands alone.

    ``prefix`` is what the settings' names begin with, for the words. :class:`HalfChap`, :class:`SecretsEqual`, and
    ValueError for a name that cannot be sent.
    """
    wanted = {"password": password, "username": username, "username_in": username_in, "password_in": password_in}
    if username_in or password_in:
        for name, value in wanted.items():
            if not value:
                raise HalfChap(prefix, name)
    if not username or password is None:
        if username or password is not None:
            remark(f"{prefix}{'password' if username else 'username'} is not set, so no CHAP is offered")
        return None
    check_secrets_differ({f"{prefix}password": password, f"{prefix}password_in": password_in})
    incoming = Chap(name=username_in, secret=password_in) if username_in and password_in else None
    return Credentials(outgoing=Chap(name=username, secret=password), incoming=incoming)
