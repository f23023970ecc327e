# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of ``iscsistart``: open-iscsi's options, same letters, same long names, same meanings.

One table (:data:`OPTIONS`) drives the parser and the help text. Values are checked here, so that everything behind
:func:`parse` deals with values that are legal or absent.
"""

from __future__ import annotations

import getopt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.credentials import Secret
from iscsiboot.model.portal import ISCSI_PORT

PROGRAM = "iscsistart"
TRY_HELP = f"Try `{PROGRAM} --help' for more information."


class Action(Enum):
    """What the command line asks for; ``-h`` and ``-v`` win over everything else."""

    HELP = "help"
    VERSION = "version"
    PRINT = "print firmware"
    BOOT = "boot from firmware"
    LOGIN = "log in to the given target"


@dataclass(frozen=True, slots=True)
class _Option:
    letter: str
    long: str
    argument: str
    text: str
    limit: int = 0
    """Longest value in bytes; 0 is unlimited."""

    @property
    def usage(self) -> str:
        long = f"--{self.long}={self.argument}" if self.argument else f"--{self.long}"
        short = f"-{self.letter}, " if self.letter else "    "
        return f"  {short}{long:<28} {self.text}"


_NAME_LIMIT = 223
_AUTH_LIMIT = 255

OPTIONS = (
    _Option("c", "config", "PATH", "take session parameters from this iscsid.conf"),
    _Option(
        "i",
        "initiatorname",
        "NAME",
        "InitiatorName (default: firmware's, initiatorname.iscsi's, the machine's)",
        _NAME_LIMIT,
    ),
    _Option("t", "targetname", "NAME", "TargetName (required without -b)", _NAME_LIMIT),
    _Option("g", "tgpt", "N", "target portal group tag (required without -b)"),
    _Option("a", "address", "ADDRESS", "IPv4 or IPv6 address of the target (required without -b)", 1024),
    _Option("p", "port", "N", f"TCP port (default {ISCSI_PORT})"),
    _Option("u", "username", "NAME", "CHAP name", _AUTH_LIMIT),
    _Option("w", "password", "SECRET", "CHAP secret; visible to everybody in the process list, see --credentials"),
    _Option("U", "username_in", "NAME", "CHAP name the target must show (mutual CHAP)", _AUTH_LIMIT),
    _Option("W", "password_in", "SECRET", "CHAP secret of the target; visible to everybody, see --credentials"),
    _Option("d", "debug", "LEVEL", "0 to 8; from 1 on tell each step and its time"),
    _Option("b", "fwparam_connect", "", "log in to the targets of the firmware's table"),
    _Option("N", "fwparam_network", "", "bring up the network as the firmware's table says; with -b: before the login"),
    _Option("f", "fwparam_print", "", "print the firmware's table"),
    _Option(
        "P", "param", "NAME=VALUE", "set a parameter of the session, e.g. node.session.timeo.replacement_timeout=0"
    ),
    _Option(
        "", "credentials", "PATH", "read CHAP names and secrets (node.session.auth.* lines) from a file of mode 0600"
    ),
    _Option("", "keeper", "", "leave a process that guards the sessions (default: in an initramfs)"),
    _Option("", "no-keeper", "", "leave none; rd.iscsiboot.keeper=0 on the kernel's command line does the same"),
    _Option("", "timeout", "SECONDS", "give up after this long (default: login timeout x initial_login_retry_max)"),
    _Option("h", "help", "", "this text"),
    _Option("v", "version", "", "the version"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """A command line that is legal. Secrets keep themselves out of ``repr``."""

    action: Action
    connect: bool = False
    network: bool = False
    config: str | None = None
    initiator_name: str | None = None
    target_name: str | None = None
    tpgt: int | None = None
    address: str | None = None
    port: int = ISCSI_PORT
    username: str | None = None
    password: Secret | None = None
    username_in: str | None = None
    password_in: Secret | None = None
    debug: int = 0
    params: tuple[tuple[str, str], ...] = field(default=())
    """``-P`` pairs in the order they were given; the last one wins (the peer applies them backwards)."""
    credentials: str | None = None
    timeout: float | None = None
    keeper: bool | None = None
    """``--keeper`` or ``--no-keeper``, the last one given; None for neither."""


class UsageError(IscsiBootError):
    """The command line is not legal: exit code 7 as the peer's."""

    def __init__(self, cause: str, *, exit_code: ExitCode = ExitCode.INVAL) -> None:
        super().__init__(cause, stage=Stage.ARGUMENTS, hint=TRY_HELP, exit_code=exit_code)


def help_text() -> str:
    """What ``-h`` prints."""
    lines = [f"Usage: {PROGRAM} [OPTION]", "Log in to an iSCSI target from an initramfs and attach its disk.", ""]
    lines += [option.usage for option in OPTIONS]
    lines += [
        "",
        "CHAP may also come from the environment (ISCSIBOOT_USERNAME, ISCSIBOOT_PASSWORD, ISCSIBOOT_USERNAME_IN,",
        "ISCSIBOOT_PASSWORD_IN) or from systemd credentials (iscsiboot.username, iscsiboot.password, ...).",
    ]
    return "\n".join(lines) + "\n"


def parse(argv: Sequence[str]) -> Options:
    """The options of a command line without the program's name. :class:`UsageError` when it is not legal.

    Words that are no options are ignored, as the peer does.
    """
    short = "".join(option.letter + (":" if option.argument else "") for option in OPTIONS if option.letter)
    long = [option.long + ("=" if option.argument else "") for option in OPTIONS]
    try:
        pairs, _ = getopt.gnu_getopt(list(argv), short, long)
    except getopt.GetoptError as error:
        # getopt's own text may repeat a value that follows the option, and that may be a secret.
        raise UsageError(_getopt_cause(error)) from None
    values: dict[str, str] = {}
    params: list[tuple[str, str]] = []
    keeper: bool | None = None
    for spelled, value in pairs:
        option = _find(spelled)
        if option.long in ("help", "version"):
            return Options(action=Action.HELP if option.long == "help" else Action.VERSION)
        if option.limit and len(value.encode("utf-8", "surrogateescape")) > option.limit:
            raise UsageError(f"invalid {option.long} {quoted(value)}. Max {option.long} length is {option.limit}.")
        if option.long == "param":
            params.append(_param(value))
        elif option.long in ("keeper", "no-keeper"):
            keeper = option.long == "keeper"
        else:
            values[option.long] = value
    return replace(_checked(values, tuple(params)), keeper=keeper)


def _getopt_cause(error: getopt.GetoptError) -> str:
    if "requires argument" in error.msg:
        return f"option '{error.opt}' requires an argument"
    if "not a unique prefix" in error.msg:
        return f"option '--{error.opt}' is ambiguous"
    return f"unknown option {quoted(error.opt.split('=', 1)[0], 40)}"


def _find(spelled: str) -> _Option:
    name = spelled.lstrip("-")
    return next(option for option in OPTIONS if name == (option.long if spelled.startswith("--") else option.letter))


def _param(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not value or not name:
        raise UsageError(f"Invalid --param {quoted(name)}. Missing value.")
    return name.strip(), value.strip()


def _checked(values: dict[str, str], params: tuple[tuple[str, str], ...]) -> Options:
    connect, network = "fwparam_connect" in values, "fwparam_network" in values
    if "fwparam_print" in values:
        action = Action.PRINT
    elif connect or network:
        action = Action.BOOT
    else:
        action = Action.LOGIN
    options = Options(
        action=action,
        connect=connect,
        network=network,
        config=values.get("config"),
        initiator_name=values.get("initiatorname"),
        target_name=values.get("targetname"),
        tpgt=_number(values, "tgpt", 0, 65535),
        address=values.get("address"),
        port=_number(values, "port", 1, 65535) or ISCSI_PORT,
        username=values.get("username"),
        password=_secret(values, "password"),
        username_in=values.get("username_in"),
        password_in=_secret(values, "password_in"),
        debug=_number(values, "debug", 0, 8) or 0,
        params=params,
        credentials=values.get("credentials"),
        timeout=_number(values, "timeout", 1, 86400),
    )
    if action is Action.LOGIN:
        _require(options)
    return options


def _require(options: Options) -> None:
    """The values a login needs, missed in the peer's order and words. There the name is one of them; here the machine
    has one, and a command line that lacks nothing else is legal.
    """
    values = {"Portal Group": options.tpgt, "TargetName": options.target_name, "IP Address": options.address}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        first = "InitiatorName" if options.initiator_name is None else missing[0]
        raise UsageError(f"{first} not set. Exiting {PROGRAM}")


def _number(values: dict[str, str], name: str, low: int, high: int) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and low <= int(text[:12]) <= high):
        raise UsageError(f"invalid {name} {quoted(text)}. It is a number from {low} to {high}.")
    return int(text)


def _secret(values: dict[str, str], name: str) -> Secret | None:
    text = values.get(name)
    if text is None:
        return None
    raw = text.encode("utf-8", "surrogateescape")
    if not 1 <= len(raw) <= _AUTH_LIMIT:
        raise UsageError(f"invalid {name}. Max {name} length is {_AUTH_LIMIT}.")
    return Secret(raw)
