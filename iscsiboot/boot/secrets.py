# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where CHAP names and secrets of a login given by arguments come from.

argv is public (``/proc/PID/cmdline``), so beside ``-u -w -U -W`` there are three private places. The first that names a
value wins: command line, ``-P``, credentials file, systemd credentials directory, environment, configuration file. A
file with a secret must belong to root (or the caller) and be closed to group and others; an open one is refused
with the command that closes it, because a secret that was readable is no longer one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.boot.options import Options
from iscsiboot.boot.parameters import (
    AUTH_PREFIX,
    BootParameters,
    apply_settings,
    parse_config,
)
from iscsiboot.errors import quoted
from iscsiboot.model.credentials import Credentials, HalfChap, Secret, whole_credentials
from iscsiboot.private import SecretsError, read_private

FILE_MAX_BYTES = 64 * 1024
_FIELDS = ("username", "password", "username_in", "password_in")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One source's share of the four values."""

    username: str | None = None
    password: Secret | None = None
    username_in: str | None = None
    password_in: Secret | None = None


def from_file(path: Path) -> Found:
    """The ``node.session.auth.*`` lines of a credentials file; other lines are refused, a typo would hide there."""
    settings, notes = parse_config(read_private(path, limit=FILE_MAX_BYTES), name=str(path))
    if notes:
        raise SecretsError(
            notes[0].split(": ", 1)[1], subject=str(path), hint=f"write lines {AUTH_PREFIX}username = NAME"
        )
    for name, _ in settings:
        if name.removeprefix(AUTH_PREFIX) not in _FIELDS:
            raise SecretsError(
                f"{quoted(name)} is no credential", subject=str(path), hint="move it to -P or a configuration file"
            )
    return _share(apply_settings(BootParameters(), settings, origin=str(path)).parameters)


def from_environment(environment: Mapping[str, str]) -> Found:
    """``ISCSIBOOT_USERNAME`` and its three siblings; an empty variable is an absent one."""
    values = {name: environment.get(f"ISCSIBOOT_{name.upper()}") for name in _FIELDS}
    return _found({name: text.encode("utf-8", "surrogateescape") for name, text in values.items() if text})


def from_directory(directory: Path) -> Found:
    """A systemd credentials directory (``LoadCredential=``): ``iscsiboot.username``, ``iscsiboot.password``, ..."""
    values: dict[str, bytes] = {}
    for name in _FIELDS:
        path = directory / f"iscsiboot.{name}"
        if path.exists():
            values[name] = read_private(path, limit=FILE_MAX_BYTES).rstrip(b"\n")
    return _found(values)


def _found(values: Mapping[str, bytes]) -> Found:
    texts = {name: value.decode("utf-8", "surrogateescape") for name, value in values.items()}
    try:
        return Found(
            username=texts.get("username"),
            password=Secret(values["password"]) if "password" in values else None,
            username_in=texts.get("username_in"),
            password_in=Secret(values["password_in"]) if "password_in" in values else None,
        )
    except ValueError as error:
        raise SecretsError(str(error), subject="credentials", hint="correct the secret") from error


def _share(parameters: BootParameters) -> Found:
    return Found(
        username=parameters.username,
        password=parameters.password,
        username_in=parameters.username_in,
        password_in=parameters.password_in,
    )


def gather(
    options: Options,
    params: BootParameters,
    config: BootParameters,
    environment: Mapping[str, str],
    *,
    remark: Callable[[str], None],
) -> Credentials | None:
    """The credentials of a login by arguments, None when nobody gave any that can be used, which ``remark`` is told.

    ``params`` is what ``-P`` said, ``config`` what the configuration file said. :class:`SecretsError` for what cannot
    be read, and for half of what the target is to prove itself with.
    """
    sources = [
        Found(
            username=options.username,
            password=options.password,
            username_in=options.username_in,
            password_in=options.password_in,
        ),
        _share(params),
    ]
    if options.credentials is not None:
        sources.append(from_file(Path(options.credentials)))
    if environment.get("CREDENTIALS_DIRECTORY"):
        sources.append(from_directory(Path(environment["CREDENTIALS_DIRECTORY"])))
    sources += [from_environment(environment), _share(config)]
    username = next((found.username for found in sources if found.username), None)
    password = next((found.password for found in sources if found.password), None)
    username_in = next((found.username_in for found in sources if found.username_in), None)
    password_in = next((found.password_in for found in sources if found.password_in), None)
    try:
        return whole_credentials(username, password, username_in, password_in, prefix=AUTH_PREFIX, remark=remark)
    except HalfChap as error:
        raise SecretsError(str(error), subject="credentials", hint=error.hint) from error
    except ValueError as error:
        raise SecretsError(str(error), subject="credentials", hint="correct the credentials") from error
