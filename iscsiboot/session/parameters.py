# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel is told about a session by SET_PARAM, in the order open-iscsi tells it.

Every value is text. An empty one is left out: the kernel would keep an empty string where it now shows ``(null)``.
"""

from __future__ import annotations

from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.netlink.uapi import Cap, Param
from iscsiboot.session.values import AttachRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

Values: TypeAlias = tuple[tuple[Param, str | bytes], ...]

_ISID_BASE = bytes.fromhex("00023d")
"""Type 00b (an OUI), the OUI's 22 bits: the prefix of every open-iscsi ISID (RFC 7143 section 11.12.5)."""


def isid(sid: int) -> bytes:
    """The six ISID bytes of kernel session ``sid``: unique among the sessions of this machine while it runs."""
    return _ISID_BASE + (sid & 0xFFFFFF).to_bytes(3, "big")


def before_login(request: AttachRequest, *, has_ping: bool) -> Values:
    """Names, secrets and timers: what recovery by a daemon will read back. ``has_ping``: the kernel sends its own NOPs.

    The portal is the one asked for, not the one a redirect led to: that is where a recovery has to begin.
    """
    params, credentials = request.params, request.credentials
    outgoing = credentials.outgoing if credentials else None
    incoming = credentials.incoming if credentials else None
    values: list[tuple[Param, str | bytes]] = [
        (Param.ISCSI_PARAM_TARGET_NAME, request.target_name),
        (Param.ISCSI_PARAM_PERSISTENT_ADDRESS, request.stored_address or str(request.portal.address)),
        (Param.ISCSI_PARAM_PERSISTENT_PORT, str(request.portal.port)),
        (Param.ISCSI_PARAM_SESS_RECOVERY_TMO, str(params.replacement_timeout)),
        (Param.ISCSI_PARAM_USERNAME, outgoing.name if outgoing else ""),
        (Param.ISCSI_PARAM_USERNAME_IN, incoming.name if incoming else ""),
        (Param.ISCSI_PARAM_PASSWORD, outgoing.secret.reveal() if outgoing else b""),
        (Param.ISCSI_PARAM_PASSWORD_IN, incoming.secret.reveal() if incoming else b""),
        (Param.ISCSI_PARAM_FAST_ABORT, _flag(params.fast_abort)),
        (Param.ISCSI_PARAM_ABORT_TMO, str(params.abort_timeout)),
        (Param.ISCSI_PARAM_LU_RESET_TMO, str(params.lu_reset_timeout)),
        (Param.ISCSI_PARAM_TGT_RESET_TMO, str(params.tgt_reset_timeout)),
    ]
    if has_ping:
        values += [
            (Param.ISCSI_PARAM_PING_TMO, str(params.noop_out_timeout)),
            (Param.ISCSI_PARAM_RECV_TMO, str(params.noop_out_interval)),
        ]
    values += [
        (Param.ISCSI_PARAM_IFACE_NAME, request.iface_name),
        (Param.ISCSI_PARAM_INITIATOR_NAME, request.initiator_name),
        (Param.ISCSI_PARAM_BOOT_ROOT, request.boot_root),
        (Param.ISCSI_PARAM_BOOT_NIC, request.boot_nic),
        (Param.ISCSI_PARAM_BOOT_TARGET, request.boot_target),
        (Param.ISCSI_PARAM_DISCOVERY_SESS, "0"),
    ]
    return tuple((param, value) for param, value in values if value)


def after_login(outcome: LoginSucceeded, *, caps: int) -> Values:
    """What was negotiated, then the next StatSN and the portal group; values of abilities the
    transport lacks are left out: it answers EINVAL to them.
    """
    agreed = outcome.negotiated
    values: list[tuple[Param, str | bytes]] = [
        (Param.ISCSI_PARAM_MAX_RECV_DLENGTH, str(agreed.max_recv_data_segment_length)),
        (Param.ISCSI_PARAM_MAX_XMIT_DLENGTH, str(agreed.max_xmit_data_segment_length)),
    ]
    if caps & Cap.CAP_HDRDGST:
        values.append((Param.ISCSI_PARAM_HDRDGST_EN, _flag(agreed.header_digest)))
    if caps & Cap.CAP_DATADGST:
        values.append((Param.ISCSI_PARAM_DATADGST_EN, _flag(agreed.data_digest)))
    values.append((Param.ISCSI_PARAM_INITIAL_R2T_EN, _flag(agreed.initial_r2t)))
    if caps & Cap.CAP_MULTI_R2T:
        values.append((Param.ISCSI_PARAM_MAX_R2T, str(agreed.max_outstanding_r2t)))
    values += [
        (Param.ISCSI_PARAM_IMM_DATA_EN, _flag(agreed.immediate_data)),
        (Param.ISCSI_PARAM_FIRST_BURST, str(agreed.first_burst_length)),
        (Param.ISCSI_PARAM_MAX_BURST, str(agreed.max_burst_length)),
        (Param.ISCSI_PARAM_PDU_INORDER_EN, "1"),
        (Param.ISCSI_PARAM_DATASEQ_INORDER_EN, "1"),
        (Param.ISCSI_PARAM_ERL, "0"),
    ]
    if caps & Cap.CAP_MARKERS:
        values += [(Param.ISCSI_PARAM_IFMARKER_EN, "0"), (Param.ISCSI_PARAM_OFMARKER_EN, "0")]
    values.append((Param.ISCSI_PARAM_EXP_STATSN, str((outcome.statsn + 1) & 0xFFFFFFFF)))
    if outcome.tpgt is not None:
        values.append((Param.ISCSI_PARAM_TPGT, str(outcome.tpgt)))
    return tuple(values)


def _flag(value: bool) -> str:
    return "1" if value else "0"
