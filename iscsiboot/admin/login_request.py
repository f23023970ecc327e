# SPDX-License-Identifier: LGPL-2.1-or-later
"""A node record as a login: values in range, names checked, secrets wrapped, the interface found.

Records are older than any check and edited by hand, so numbers are put right here in the way open-iscsi's daemon does
it (reference 2.6 and 4.2): a size out of range becomes the default, others the nearest legal value, each with a remark.
What cannot be put right ends the login with the exit code the daemon would give, before a connection is made.

One difference: half a CHAP configuration is refused. open-iscsi logs in *without any authentication* then, although
somebody asked for it.
"""

from __future__ import annotations

from collections.abc import Callable

from iscsiboot.admin.netdev import netdev_of
from iscsiboot.admin.record_values import AUTH, chap_algorithms, secret_of
from iscsiboot.database.record import Record
from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.credentials import Chap, Credentials, Secret, SecretsEqual, check_secrets_differ
from iscsiboot.model.names import InvalidName, check_iscsi_name, check_target_name
from iscsiboot.model.params import SEGMENT_MAX, SEGMENT_MIN, Digest, SessionParams
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.session.login import UNRESOLVED, LoginOrder
from iscsiboot.session.values import AttachRequest

_DIGESTS = {digest.value: digest for digest in Digest}
_NUMBERS: dict[str, tuple[str, int, int]] = {
    "default_time2wait": ("node.session.iscsi.DefaultTime2Wait", 0, 3600),
    "default_time2retain": ("node.session.iscsi.DefaultTime2Retain", 0, 3600),
    "max_outstanding_r2t": ("node.session.iscsi.MaxOutstandingR2T", 1, 65535),
    "initial_cmdsn": ("node.session.initial_cmdsn", 0, (1 << 32) - 1),
    "queue_depth": ("node.session.queue_depth", 1, 1024),
    "replacement_timeout": ("node.session.timeo.replacement_timeout", -1, (1 << 31) - 1),
    "abort_timeout": ("node.session.err_timeo.abort_timeout", 0, (1 << 31) - 1),
    "lu_reset_timeout": ("node.session.err_timeo.lu_reset_timeout", 0, (1 << 31) - 1),
    "tgt_reset_timeout": ("node.session.err_timeo.tgt_reset_timeout", 0, (1 << 31) - 1),
    "tcp_window_size": ("node.conn[0].tcp.window_size", 0, (1 << 31) - 1),
}
"""Field of SessionParams: its key, and the range its value is brought into."""
NOOP_DEFAULT = 5
LOGIN_TIMEOUT_DEFAULT = 30
LOGOUT_TIMEOUT_DEFAULT = 15

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
        credentials=credentials(record, target),
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
    login_timeout = record.number("node.conn[0].timeo.login_timeout")
    if login_timeout <= 0:
        remark(f"node.conn[0].timeo.login_timeout {login_timeout} is none, {LOGIN_TIMEOUT_DEFAULT} s are taken")
        login_timeout = LOGIN_TIMEOUT_DEFAULT
    max_burst = _segment(record, "node.session.iscsi.MaxBurstLength", 16776192, remark)
    first_burst = _segment(record, "node.session.iscsi.FirstBurstLength", 262144, remark)
    if first_burst > max_burst:
        remark(f"FirstBurstLength {first_burst} is larger than MaxBurstLength, {max_burst} is taken")
        first_burst = max_burst
    interval, timeout = _noop(record, remark)
    numbers = {name: _number(record, key, low, high, remark) for name, (key, low, high) in _NUMBERS.items()}
    return SessionParams(
        header_digest=_DIGESTS.get(record.get("node.conn[0].iscsi.HeaderDigest"), Digest.NONE),
        data_digest=_DIGESTS.get(record.get("node.conn[0].iscsi.DataDigest"), Digest.NONE),
        initial_r2t=record.get("node.session.iscsi.InitialR2T") == "Yes",
        immediate_data=record.get("node.session.iscsi.ImmediateData") != "No",
        fast_abort=record.get("node.session.iscsi.FastAbort") != "No",
        max_burst_length=max_burst,
        first_burst_length=first_burst,
        max_recv_data_segment_length=_segment(record, "node.conn[0].iscsi.MaxRecvDataSegmentLength", 262144, remark),
        max_xmit_data_segment_length=_segment(record, "node.conn[0].iscsi.MaxXmitDataSegmentLength", 0, remark),
        cmds_max=_cmds_max(record, remark),
        noop_out_interval=interval,
        noop_out_timeout=timeout,
        login_timeout=min(login_timeout, 3600),
        **numbers,
    )


def logout_timeout(record: Record | None) -> float:
    """Seconds the target's answer to a logout is waited for."""
    seconds = 0 if record is None else record.number("node.conn[0].timeo.logout_timeout")
    return float(min(seconds, 3600) if seconds > 0 else LOGOUT_TIMEOUT_DEFAULT)


def _number(record: Record, key: str, low: int, high: int, remark: Remark) -> int:
    value = record.number(key)
    if low <= value <= high:
        return value
    taken = max(low, min(high, value))
    remark(f"{key} {value} is outside {low} to {high}, {taken} is taken")
    return taken


def _segment(record: Record, key: str, default: int, remark: Remark) -> int:
    """A size in bytes: whole words; 0 only where the default is 0 (take what the target declares)."""
    value = record.number(key)
    if value == 0 and default == 0:
        return 0
    if not SEGMENT_MIN <= value <= SEGMENT_MAX:
        remark(f"{key} {value} is outside {SEGMENT_MIN} to {SEGMENT_MAX}, {default} is taken")
        return default
    return value & ~3


def _noop(record: Record, remark: Remark) -> tuple[int, int]:
    """Interval and timeout of the kernel's pings: both 0 is off, one alone is a slip."""
    interval = max(0, record.number("node.conn[0].timeo.noop_out_interval"))
    timeout = max(0, record.number("node.conn[0].timeo.noop_out_timeout"))
    if bool(interval) == bool(timeout):
        return interval, timeout
    remark(
        f"one of noop_out_interval and noop_out_timeout is 0 and the other is not, {NOOP_DEFAULT} s are taken for it"
    )
    return interval or NOOP_DEFAULT, timeout or NOOP_DEFAULT


def _cmds_max(record: Record, remark: Remark) -> int:
    """The kernel takes powers of two and rounds down by itself; 2 to 2048."""
    value = record.number("node.session.cmds_max")
    taken = 1 << max(1, min(11, value.bit_length() - 1)) if value > 0 else 128
    if taken != value:
        remark(f"node.session.cmds_max {value} is no power of two from 2 to 2048, {taken} is taken")
    return taken


def credentials(record: Record, target: str) -> Credentials | None:
    """CHAP of a record, None without any: used whenever a password is set, whatever ``authmethod`` says, as there."""
    values = {name: record.get(AUTH + name) for name in ("username", "password", "username_in", "password_in")}
    if not any(values.values()):
        return None
    for present, absent in (("password_in", "password"), ("password", "username"), ("password_in", "username_in")):
        if values[present] and not values[absent]:
            raise _failure(
                f"CHAP is half configured: {AUTH}{present} is set and {AUTH}{absent} is not",
                target,
                f"set {AUTH}{absent}, or empty {AUTH}{present}",
                ExitCode.LOGIN_AUTH_FAILED,
            )
    if not values["password"]:
        return None  # names alone ask for nothing
    return _wrapped(values, target)


def _wrapped(values: dict[str, str], target: str) -> Credentials:
    def secret(name: str) -> Secret | None:
        return secret_of(values[name]) if values[name] else None

    try:
        outgoing, incoming = secret("password"), secret("password_in")
        check_secrets_differ({AUTH + "password": outgoing, AUTH + "password_in": incoming})
        assert outgoing is not None
        return Credentials(
            outgoing=Chap(name=values["username"], secret=outgoing),
            incoming=None if incoming is None else Chap(name=values["username_in"], secret=incoming),
        )
    except SecretsEqual as error:
        raise _failure(
            str(error), target, "give the target a secret of its own, there and here", ExitCode.FATAL_LOGIN
        ) from error
    except ValueError as error:
        raise _failure(
            f"the CHAP settings cannot be used: {error}", target, "correct the record", ExitCode.LOGIN_AUTH_FAILED
        ) from error
