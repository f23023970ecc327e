# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where probe's CHAP secrets come from: files nobody else may read, or the terminal. Never argv, never the environment.

Also the initiator's name, which targets decide by whether they let us in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.errors import quoted
from iscsiboot.model.credentials import SECRET_MAX_BYTES, Chap, Credentials, Secret, SecretsEqual, check_secrets_differ
from iscsiboot.model.names import InvalidName, check_iscsi_name
from iscsiboot.private import read_private
from iscsiboot.toolkit.probe_options import ROLES, Account, Options, usage_error

INITIATOR_NAME_FILE = Path("/etc/iscsi/initiatorname.iscsi")
DEFAULT_INITIATOR_NAME = "iqn.2026-11.org.iscsiboot:probe"
"""For machines and users that have none; the same everywhere, so that an access list can name it."""
_NAME_FILE_MAX = 4096

Ask = Callable[[str], str]
"""Asks for a secret on the terminal without showing it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Logins:
    """The credentials of both kinds of session."""

    session: Credentials | None = None
    discovery: Credentials | None = None


def gather(options: Options, ask: Ask | None) -> Logins:
    """Read or ask for every secret that is named. ``ask`` None: there is no terminal. Errors have exit code 7."""
    chaps = [
        None if item is None else _chap(item, role, ask) for item, role in zip(options.accounts, ROLES, strict=True)
    ]
    try:
        check_secrets_differ({f"--{role}user": chap.secret for role, chap in zip(ROLES, chaps, strict=True) if chap})
    except SecretsEqual as equal:
        raise usage_error(
            str(equal), hint="give each direction, of login and of discovery, a secret of its own (RFC 7143 9.2.1)"
        ) from equal
    ours, mutual, discovery, discovery_mutual = chaps
    return Logins(session=_credentials(ours, mutual), discovery=_credentials(discovery, discovery_mutual))


def _credentials(outgoing: Chap | None, incoming: Chap | None) -> Credentials | None:
    return None if outgoing is None else Credentials(outgoing=outgoing, incoming=incoming)


def _chap(account: Account, role: str, ask: Ask | None) -> Chap:
    option = f"--{role}user"
    if account.secret_file is not None:
        raw = read_secret_file(account.secret_file)
        subject = str(account.secret_file)
    elif ask is not None:
        raw, subject = ask(f"Secret of {option} {quoted(account.name)}: ").encode("utf-8", "surrogateescape"), option
    else:
        raise usage_error(
            "no secret, and no terminal to ask for it", subject=option, hint=f"give --{role}secret-file FILE"
        )
    try:
        return Chap(name=account.name, secret=Secret(raw))
    except ValueError as error:
        raise usage_error(str(error), subject=subject, hint="correct it") from error


def read_secret_file(path: Path) -> bytes:
    """The secret in a file, without the line break at its end."""
    content = read_private(path, limit=SECRET_MAX_BYTES + len("\r\n"))
    return content.removesuffix(b"\n").removesuffix(b"\r")


def initiator_name(options: Options, path: Path = INITIATOR_NAME_FILE) -> str:
    """The name given, else the machine's, else :data:`DEFAULT_INITIATOR_NAME`.

    The machine's file is often root's alone, and probe runs as anybody: what cannot be read is not there.
    """
    if options.initiator_name is not None:
        return options.initiator_name
    try:
        with path.open("rb") as file:
            text = file.read(_NAME_FILE_MAX).decode("utf-8", "replace")
    except OSError:
        return DEFAULT_INITIATOR_NAME
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "InitiatorName":
            try:
                return check_iscsi_name(value.strip())
            except InvalidName as invalid:
                raise usage_error(
                    f"its InitiatorName is none: {invalid}",
                    subject=str(path),
                    hint="correct the file, or give --initiator-name",
                ) from invalid
    return DEFAULT_INITIATOR_NAME
