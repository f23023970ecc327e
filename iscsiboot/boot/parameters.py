# SPDX-License-Identifier: LGPL-2.1-or-later
"""Session parameters by their open-iscsi record names: ``-P NAME=VALUE`` and the lines of an ``iscsid.conf``.

Which name sets which field is in :mod:`iscsiboot.model.session_keys`. Names open-iscsi knows and a boot login cannot
use (:data:`WITHOUT_EFFECT`) are accepted and told, since a configuration file is shared with other programs; any
other name is an error on the command line and a note in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.credentials import Secret
from iscsiboot.model.params import SessionParams
from iscsiboot.model.session_keys import SESSION_KEYS, read_integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AUTH_PREFIX = "node.session.auth."
CONFIG_MAX_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class BootParameters:
    """What a login at boot uses beside names and addresses."""

    session: SessionParams = field(default_factory=SessionParams)
    initial_login_retry_max: int = 30
    """iscsistart's own default; times ``login_timeout`` it is the time after which a login is given up."""
    username: str | None = None
    password: Secret | None = None
    username_in: str | None = None
    password_in: Secret | None = None

    @property
    def give_up_after(self) -> float:
        """Seconds."""
        return float(self.initial_login_retry_max * self.session.login_timeout)


def _secret(text: str) -> Secret:
    return Secret(text.encode("utf-8", "surrogateescape"))


OUTSIDE_SESSION: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "node.session.initial_login_retry_max": ("initial_login_retry_max", read_integer),
    AUTH_PREFIX + "username": ("username", str),
    AUTH_PREFIX + "password": ("password", _secret),
    AUTH_PREFIX + "username_in": ("username_in", str),
    AUTH_PREFIX + "password_in": ("password_in", _secret),
}
"""Record name -> field of BootParameters."""

FILE_DEFAULTS_NOT_FOR_BOOT = frozenset(
    {
        "node.session.initial_login_retry_max",
        "node.conn[0].timeo.noop_out_interval",
        "node.conn[0].timeo.noop_out_timeout",
    }
)
"""iscsistart forces its own values for these over those of iscsid.conf; only ``-P`` changes them (as the peer)."""

WITHOUT_EFFECT = frozenset(
    {
        "node.name",
        "node.tpgt",
        "node.startup",
        "node.leading_login",
        "node.discovery_address",
        "node.discovery_port",
        "node.discovery_type",
        "node.session.xmit_thread_priority",
        "node.session.nr_sessions",
        AUTH_PREFIX + "authmethod",
        AUTH_PREFIX + "chap_algs",
        "node.session.err_timeo.host_reset_timeout",
        "node.session.iscsi.MaxConnections",
        "node.session.iscsi.ERL",
        "node.session.scan",
        "node.session.reopen_max",
        "node.session.sess_reopen_log_freq",
        "node.conn[0].address",
        "node.conn[0].port",
        "node.conn[0].startup",
        "node.conn[0].tcp.type_of_service",
        "node.conn[0].tcp.congestion_control",
        "node.conn[0].timeo.logout_timeout",
        "node.conn[0].timeo.auth_timeout",
        "node.conn[0].iscsi.IFMarker",
        "node.conn[0].iscsi.OFMarker",
    }
)


class ParameterError(IscsiBootError):
    """A parameter whose value is not legal, or a name nobody knows."""

    def __init__(self, name: str, cause: str, *, exit_code: ExitCode, hint: str) -> None:
        super().__init__(cause, stage=Stage.ARGUMENTS, subject=name, exit_code=exit_code, hint=hint)


@dataclass(frozen=True, slots=True)
class Applied:
    """The parameters after a list of settings, and what is worth telling about them."""

    parameters: BootParameters
    notes: tuple[str, ...]


def known(name: str) -> bool:
    """Whether open-iscsi has a record key of this name that can stand in a node record."""
    return name in SESSION_KEYS or name in OUTSIDE_SESSION or name in WITHOUT_EFFECT or name.startswith("iface.")


def apply_settings(start: BootParameters, settings: Iterable[tuple[str, str]], *, origin: str) -> Applied:
    """``start`` with the settings of a command line; unknown names and bad values raise :class:`ParameterError`."""
    notes: list[str] = []
    session: dict[str, Any] = {}
    outside: dict[str, Any] = {}
    for name, text in settings:
        if name in SESSION_KEYS:
            row = SESSION_KEYS[name]
            session[row.field] = _read(name, text, row.read, origin)
        elif name in OUTSIDE_SESSION:
            field_name, read = OUTSIDE_SESSION[name]
            outside[field_name] = _read(name, text, read, origin)
        elif known(name):
            notes.append(f"{origin}: {name} has no effect on a login at boot")
        else:
            raise ParameterError(
                quoted(name),
                f"Unknown parameter {quoted(name)}.",
                exit_code=ExitCode.ERR,
                hint=f"use a node.session.* or node.conn[0].* name of iscsid.conf ({origin})",
            )
    try:
        merged = replace(start, session=replace(start.session, **session), **outside)
    except ValueError as error:
        raise ParameterError(origin, str(error), exit_code=ExitCode.INVAL, hint="correct the value") from error
    if not 1 <= merged.initial_login_retry_max <= 100000:
        raise ParameterError(
            "node.session.initial_login_retry_max",
            "the value is outside 1 to 100000",
            exit_code=ExitCode.INVAL,
            hint="correct the value",
        )
    return Applied(merged, tuple(notes))


def _read(name: str, text: str, read: Callable[[str], object], origin: str) -> object:
    try:
        return read(text)
    except ValueError as error:
        shown = "" if name.startswith(AUTH_PREFIX) else f" {quoted(text)}"
        reason = str(error) if "invalid literal" not in str(error) else "it is no whole number"
        raise ParameterError(
            name, f"the value{shown} is not legal: {reason}", exit_code=ExitCode.INVAL, hint=f"correct it ({origin})"
        ) from error


def parse_config(data: bytes, *, name: str) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The ``key = value`` lines of an iscsid.conf or credentials file, and notes about lines nobody understands.

    Same grammar as the peer's reader (blank lines, ``#`` comments, blanks around ``=``), except that a last line
    without its line break counts. Keys of other programs in the file (``iscsid.*``, ``discovery.*``) are skipped.
    """
    settings: list[tuple[str, str]] = []
    notes: list[str] = []
    for number, raw in enumerate(data[:CONFIG_MAX_BYTES].split(b"\n"), start=1):
        line = raw.decode("utf-8", "surrogateescape").strip()
        if not line or line.startswith("#"):
            continue
        key, separator, value = (part.strip() for part in line.partition("="))
        if not separator:
            notes.append(f"{name} line {number}: no '=' separator, the line is skipped")
        elif key.startswith(("iscsid.", "discovery.")):
            continue
        elif not known(key):
            notes.append(f"{name} line {number}: unknown key {quoted(key, 60)}, the line is skipped")
        elif value:
            settings.append((key, value))
    return tuple(settings), tuple(notes)
