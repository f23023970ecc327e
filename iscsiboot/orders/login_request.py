# SPDX-License-Identifier: LGPL-2.1-or-later
"""A node record as a login: values in range, names checked, secrets wrapped, the interface found.

Records are older than any check and edited by hand, so numbers are put right here in the way open-iscsi's daemon does
it (reference 2.6 and 4.2): a size out of range becomes the default, others the nearest legal value, each with a remark.
What cannot be put right ends the login with the exit code the daemon would give, before a connection is made.

One difference: where the target is to prove itself and a half of that is missing, the login is refused. open-iscsi
logs in *without any authentication* when it is our own half, although somebody asked for it.
"""

from __future__ import annotations

from collections.abc import Callable

from iscsiboot.database.record import Record
from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.credentials import Credentials, HalfChap, SecretsEqual
from iscsiboot.model.names import InvalidName, check_iscsi_name, check_target_name
from iscsiboot.model.params import RANGES, SEGMENT_MAX, SEGMENT_MIN, SEGMENTS, SessionParams
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.model.session_keys import SESSION_KEYS
from iscsiboot.orders.record_values import AUTH, chap_algorithms, credentials_of
from iscsiboot.session.login import UNRESOLVED, LoginOrder
from iscsiboot.session.values import AttachRequest
from iscsiboot.sysfs.netdevs import netdev_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DEFAULTS = SessionParams()
NOOP_DEFAULT = 5
LOGIN_TIMEOUT_DEFAULT = 30

Remark = Callable[[str], None]


def login_order(
    record: Record,
    *,
    initiator_name: str,
    initiator_alias: str = "",
    boot: tuple[str, str, str] = ("", "", ""),
    sysfs: str,
    remark: Remark,
) -> LoginOrder:
    """The login ``record`` asks for; ``initiator_name`` is the machine's, which the record's interface may override.

    ``boot`` is firmware's root, NIC and target; ``remark`` takes a line for each value that was put right.
    IscsiBootError when there is nothing to log in with.
    """
    target = _name(record.get("node.name"), "node.name", ExitCode.FATAL_LOGIN, check_target_name)
    iface = record.get("iface.iscsi_ifacename") or "default"
    transport = record.get("iface.transport_name") or "tcp"
    if transport != "tcp":
        raise _failure(
            f"the transport {quoted(transport)} of interface {quoted(iface)} is not supported",
            target,
            "use an interface with iface.transport_name = tcp",
            ExitCode.TRANS_NOT_FOUND,
        )
    netdev, hwaddress = _interface(record, target, sysfs)
    own = record.get("iface.initiatorname")
    params = session_params(record, remark)
    portal = _portal(record, target)
    request = AttachRequest(
        initiator_name=_name(own, "iface.initiatorname", ExitCode.LOGIN, check_iscsi_name) if own else initiator_name,
        initiator_alias=initiator_alias,
        target_name=target,
        portal=portal if isinstance(portal, Portal) else Portal(address=UNRESOLVED, port=portal.port),
        lun=None,
        params=params,
        credentials=credentials(record, target, remark),
        chap_algorithms=chap_algorithms(record.get(AUTH + "chap_algs"), remark),
        iface_name=iface,
        netdev=netdev,
        hwaddress=hwaddress,
        stored_address=record.get("node.conn[0].address"),
        boot_root=boot[0],
        boot_nic=boot[1],
        boot_target=boot[2],
    )
    return LoginOrder(
        request=request,
        portal=portal,
        scan=record.get("node.session.scan") != "manual",
        give_up=max(0, record.number("node.session.initial_login_retry_max")) * params.login_timeout,
        thread_priority=max(-20, min(19, record.number("node.session.xmit_thread_priority"))),
        reopen_max=max(0, record.number("node.session.reopen_max")),
    )


def _failure(cause: str, subject: str, hint: str, code: ExitCode) -> IscsiBootError:
    return IscsiBootError(cause, stage=Stage.LOGIN, subject=subject, hint=hint, exit_code=code)


def _name(text: str, key: str, code: ExitCode, check: Callable[[str], str]) -> str:
    try:
        return check(text)
    except InvalidName as error:
        hint = "correct the record; a name looks like iqn.2001-04.com.example:disk1"
        raise _failure(f"{key} {quoted(text)} is no iSCSI name: {error}", "record", hint, code) from error


def _portal(record: Record, target: str) -> Portal | NamedPortal:
    address, port = record.get("node.conn[0].address"), record.number("node.conn[0].port")
    try:
        try:
            return Portal(address=parse_ip(address), port=port)
        except ValueError:
            Portal(address=UNRESOLVED, port=port)  # a port that is none has to be told as one
            if not address or not address.replace("-", "").replace(".", "").isalnum() or not address.isascii():
                raise
            return NamedPortal(host=address, port=port)
    except ValueError as error:
        raise _failure(
            f"the record's portal {quoted(f'{address}:{port}')} is none: {error}",
            target,
            "delete the record and discover again",
            ExitCode.TRANS,
        ) from error


def _bound(text: str) -> str:
    """The value of a binding; empty when there is none."""
    return "" if text == "default" else text


def _interface(record: Record, target: str, sysfs: str) -> tuple[str | None, str]:
    """The network interface a record is bound to, None for the routes' choice, and the MAC address it is bound by."""
    netdev, hwaddress = _bound(record.get("iface.net_ifacename")), _bound(record.get("iface.hwaddress")).lower()
    if hwaddress:
        return _by_hwaddress(hwaddress, target, sysfs), hwaddress
    if netdev:
        return netdev, ""
    address = _bound(record.get("iface.ipaddress"))
    if address:
        raise _failure(
            f"the interface is bound by address ({quoted(address)}), which sessions over iscsi_tcp cannot be",
            target,
            "bind it by iface.net_ifacename or iface.hwaddress (iscsiadm -m iface -o update)",
            ExitCode.TRANS_TIMEOUT,
        )
    return None, ""


def _by_hwaddress(wanted: str, target: str, sysfs: str) -> str:
    found = netdev_of(wanted, sysfs)
    if found is not None:
        return found
    raise _failure(
        f"no network interface has the address {quoted(wanted)} the iface is bound to",
        target,
        "compare iface.hwaddress with `ip link`",
        ExitCode.TRANS_TIMEOUT,
    )


def session_params(record: Record, remark: Remark) -> SessionParams:
    """Everything negotiated and every timer, in range."""
    values: dict[str, Any] = {row.field: row.read(record.get(key)) for key, row in SESSION_KEYS.items()}
    for key, row in SESSION_KEYS.items():
        value = values[row.field]
        if row.field == "login_timeout":
            values[row.field] = _login_timeout(key, value, remark)
        elif row.field == "cmds_max":
            values[row.field] = _cmds_max(key, value, remark)
        elif row.field in RANGES:
            values[row.field] = _number(key, value, *RANGES[row.field], remark)
        elif row.field in SEGMENTS or row.field == "max_xmit_data_segment_length":
            values[row.field] = _segment(key, value, getattr(_DEFAULTS, row.field), remark)
    if values["first_burst_length"] > values["max_burst_length"]:
        remark(
            f"FirstBurstLength {values['first_burst_length']} is larger than MaxBurstLength, "
            f"{values['max_burst_length']} is taken"
        )
        values["first_burst_length"] = values["max_burst_length"]
    interval, timeout = _noop(values["noop_out_interval"], values["noop_out_timeout"], remark)
    return SessionParams(**{**values, "noop_out_interval": interval, "noop_out_timeout": timeout})


def _login_timeout(key: str, value: int, remark: Remark) -> int:
    if value <= 0:
        remark(f"{key} {value} is none, {LOGIN_TIMEOUT_DEFAULT} s are taken")
        return LOGIN_TIMEOUT_DEFAULT
    return min(value, RANGES["login_timeout"][1])


def _number(key: str, value: int, low: int, high: int, remark: Remark) -> int:
    taken = max(low, min(high, value))
    if taken != value:
        remark(f"{key} {value} is outside {low} to {high}, {taken} is taken")
    return taken


def _segment(key: str, value: int, default: int, remark: Remark) -> int:
    """A size in bytes: whole words; 0 only where the default is 0 (take what the target declares)."""
    if value == 0 and default == 0:
        return 0
    if not SEGMENT_MIN <= value <= SEGMENT_MAX:
        remark(f"{key} {value} is outside {SEGMENT_MIN} to {SEGMENT_MAX}, {default} is taken")
        return default
    return value & ~3


def _noop(interval: int, timeout: int, remark: Remark) -> tuple[int, int]:
    """Interval and timeout of the kernel's pings: both 0 is off, one alone is a slip."""
    interval, timeout = max(0, interval), max(0, timeout)
    if bool(interval) == bool(timeout):
        return interval, timeout
    remark(
        f"one of noop_out_interval and noop_out_timeout is 0 and the other is not, {NOOP_DEFAULT} s are taken for it"
    )
    return interval or NOOP_DEFAULT, timeout or NOOP_DEFAULT


def _cmds_max(key: str, value: int, remark: Remark) -> int:
    """The kernel takes powers of two and rounds down by itself; 2 to 2048."""
    taken = 1 << max(1, min(11, value.bit_length() - 1)) if value > 0 else _DEFAULTS.cmds_max
    if taken != value:
        remark(f"{key} {value} is no power of two from 2 to 2048, {taken} is taken")
    return taken


def credentials(record: Record, target: str, remark: Remark) -> Credentials | None:
    """CHAP of a record, None without any."""
    try:
        return credentials_of(record, AUTH, remark)
    except HalfChap as error:
        # The status of the peer's: a login with half a configuration of the target's proof is fatal there.
        code = ExitCode.LOGIN_AUTH_FAILED if error.missing == "password" else ExitCode.FATAL_LOGIN
        raise _failure(str(error), target, error.hint, code) from error
    except SecretsEqual as error:
        hint = "give the target a secret of its own, there and here"
        raise _failure(str(error), target, hint, ExitCode.FATAL_LOGIN) from error
    except ValueError as error:
        raise _failure(
            f"the CHAP settings cannot be used: {error}", target, "correct the record", ExitCode.LOGIN_AUTH_FAILED
        ) from error
