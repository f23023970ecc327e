# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers and layouts of the kernel's ``include/scsi/iscsi_if.h``, under the kernel's own names.

Only what a software transport (iscsi_tcp) and its sessions use is here; the tables of host adapters (interface,
flash-node and CHAP records) are not. Numbers the kernel adds later survive decoding as plain integers.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

NETLINK_ISCSI = 8
"""The netlink protocol (``include/uapi/linux/netlink.h``)."""

ISCSI_NL_GRP_ISCSID = 1
"""The multicast group of every event a user of sessions needs."""

NLMSGHDR = struct.Struct("=IHHII")
"""``struct nlmsghdr``: length with this header, type, flags, sequence, port id."""

UEVENT_HEAD = struct.Struct("=IIQ")
"""Start of ``struct iscsi_uevent``: type, iferror, transport_handle; then 24 bytes ``u``, then 16 bytes ``r``."""

UEVENT_REQUEST_SIZE = 24
UEVENT_REPLY_SIZE = 16
UEVENT_SIZE = UEVENT_HEAD.size + UEVENT_REQUEST_SIZE + UEVENT_REPLY_SIZE
BHS_SIZE = 48
"""A basic header segment (RFC 7143 section 11.2)."""


class UEvent(IntEnum):
    """``enum iscsi_uevent_e``, requests: what user space asks of the kernel."""

    ISCSI_UEVENT_CREATE_SESSION = 11
    ISCSI_UEVENT_DESTROY_SESSION = 12
    ISCSI_UEVENT_CREATE_CONN = 13
    ISCSI_UEVENT_DESTROY_CONN = 14
    ISCSI_UEVENT_BIND_CONN = 15
    ISCSI_UEVENT_SET_PARAM = 16
    ISCSI_UEVENT_START_CONN = 17
    ISCSI_UEVENT_STOP_CONN = 18
    ISCSI_UEVENT_SEND_PDU = 19
    ISCSI_UEVENT_GET_STATS = 20
    ISCSI_UEVENT_SET_HOST_PARAM = 26
    ISCSI_UEVENT_UNBIND_SESSION = 27
    ISCSI_UEVENT_DESTROY_SESSION_ASYNC = 43
    """Since Linux 5.6; before it the kernel answers ENOSYS."""


class KEvent(IntEnum):
    """``enum iscsi_uevent_e``, events: what the kernel tells by itself (IF_ERROR marks a refused request)."""

    ISCSI_KEVENT_RECV_PDU = 101
    ISCSI_KEVENT_CONN_ERROR = 102
    ISCSI_KEVENT_IF_ERROR = 103
    ISCSI_KEVENT_DESTROY_SESSION = 104
    ISCSI_KEVENT_UNBIND_SESSION = 105
    ISCSI_KEVENT_CREATE_SESSION = 106
    ISCSI_KEVENT_PATH_REQ = 107
    ISCSI_KEVENT_IF_DOWN = 108
    ISCSI_KEVENT_CONN_LOGIN_STATE = 109
    ISCSI_KEVENT_HOST_EVENT = 110
    ISCSI_KEVENT_PING_COMP = 111


class Param(IntEnum):
    """``enum iscsi_param``: values of SET_PARAM, each sent as text with a trailing NUL."""

    ISCSI_PARAM_MAX_RECV_DLENGTH = 0
    ISCSI_PARAM_MAX_XMIT_DLENGTH = 1
    ISCSI_PARAM_HDRDGST_EN = 2
    ISCSI_PARAM_DATADGST_EN = 3
    ISCSI_PARAM_INITIAL_R2T_EN = 4
    ISCSI_PARAM_MAX_R2T = 5
    ISCSI_PARAM_IMM_DATA_EN = 6
    ISCSI_PARAM_FIRST_BURST = 7
    ISCSI_PARAM_MAX_BURST = 8
    ISCSI_PARAM_PDU_INORDER_EN = 9
    ISCSI_PARAM_DATASEQ_INORDER_EN = 10
    ISCSI_PARAM_ERL = 11
    ISCSI_PARAM_IFMARKER_EN = 12
    ISCSI_PARAM_OFMARKER_EN = 13
    ISCSI_PARAM_EXP_STATSN = 14
    ISCSI_PARAM_TARGET_NAME = 15
    ISCSI_PARAM_TPGT = 16
    ISCSI_PARAM_PERSISTENT_ADDRESS = 17
    ISCSI_PARAM_PERSISTENT_PORT = 18
    ISCSI_PARAM_SESS_RECOVERY_TMO = 19
    ISCSI_PARAM_CONN_PORT = 20
    ISCSI_PARAM_CONN_ADDRESS = 21
    ISCSI_PARAM_USERNAME = 22
    ISCSI_PARAM_USERNAME_IN = 23
    ISCSI_PARAM_PASSWORD = 24
    ISCSI_PARAM_PASSWORD_IN = 25
    ISCSI_PARAM_FAST_ABORT = 26
    ISCSI_PARAM_ABORT_TMO = 27
    ISCSI_PARAM_LU_RESET_TMO = 28
    ISCSI_PARAM_HOST_RESET_TMO = 29
    ISCSI_PARAM_PING_TMO = 30
    ISCSI_PARAM_RECV_TMO = 31
    ISCSI_PARAM_IFACE_NAME = 32
    ISCSI_PARAM_ISID = 33
    ISCSI_PARAM_INITIATOR_NAME = 34
    ISCSI_PARAM_TGT_RESET_TMO = 35
    ISCSI_PARAM_TARGET_ALIAS = 36
    ISCSI_PARAM_CHAP_IN_IDX = 37
    ISCSI_PARAM_CHAP_OUT_IDX = 38
    ISCSI_PARAM_BOOT_ROOT = 39
    ISCSI_PARAM_BOOT_NIC = 40
    ISCSI_PARAM_BOOT_TARGET = 41
    ISCSI_PARAM_AUTO_SND_TGT_DISABLE = 42
    ISCSI_PARAM_DISCOVERY_SESS = 43


class HostParam(IntEnum):
    """``enum iscsi_host_param``: values of SET_HOST_PARAM."""

    ISCSI_HOST_PARAM_HWADDRESS = 0
    ISCSI_HOST_PARAM_INITIATOR_NAME = 1
    ISCSI_HOST_PARAM_NETDEV_NAME = 2
    ISCSI_HOST_PARAM_IPADDRESS = 3


class StopFlag(IntEnum):
    """Why STOP_CONN is sent: for good, or to recover the connection later."""

    STOP_CONN_TERM = 1
    STOP_CONN_SUSPEND = 2
    STOP_CONN_RECOVER = 3


class Cap(IntFlag):
    """Capabilities of a transport (``caps`` in sysfs) that decide which parameters it takes."""

    CAP_RECOVERY_L0 = 0x1
    CAP_MULTI_R2T = 0x8
    CAP_HDRDGST = 0x10
    CAP_DATADGST = 0x20
    CAP_MARKERS = 0x100


class IscsiErr(IntEnum):
    """``enum iscsi_err``: why the kernel gave a connection up."""

    ISCSI_OK = 0
    ISCSI_ERR_DATASN = 1001
    ISCSI_ERR_DATA_OFFSET = 1002
    ISCSI_ERR_MAX_CMDSN = 1003
    ISCSI_ERR_EXP_CMDSN = 1004
    ISCSI_ERR_BAD_OPCODE = 1005
    ISCSI_ERR_DATALEN = 1006
    ISCSI_ERR_AHSLEN = 1007
    ISCSI_ERR_PROTO = 1008
    ISCSI_ERR_LUN = 1009
    ISCSI_ERR_BAD_ITT = 1010
    ISCSI_ERR_CONN_FAILED = 1011
    ISCSI_ERR_R2TSN = 1012
    ISCSI_ERR_SESSION_FAILED = 1013
    ISCSI_ERR_HDR_DGST = 1014
    ISCSI_ERR_DATA_DGST = 1015
    ISCSI_ERR_PARAM_NOT_FOUND = 1016
    ISCSI_ERR_NO_SCSI_CMD = 1017
    ISCSI_ERR_INVALID_HOST = 1018
    ISCSI_ERR_XMIT_FAILED = 1019
    ISCSI_ERR_TCP_CONN_CLOSE = 1020
    ISCSI_ERR_SCSI_EH_SESSION_RST = 1021
    ISCSI_ERR_NOP_TIMEDOUT = 1022


def name_of(enum: type[IntEnum], number: int) -> str:
    """The kernel's name of ``number``, or the number itself when this table does not know it."""
    try:
        return enum(number).name
    except ValueError:
        return str(number)


REQUEST_LAYOUTS: dict[UEvent, tuple[struct.Struct, tuple[str, ...]]] = {
    UEvent.ISCSI_UEVENT_CREATE_SESSION: (struct.Struct("=IHH"), ("initial_cmdsn", "cmds_max", "queue_depth")),
    UEvent.ISCSI_UEVENT_DESTROY_SESSION: (struct.Struct("=I"), ("sid",)),
    UEvent.ISCSI_UEVENT_UNBIND_SESSION: (struct.Struct("=I"), ("sid",)),
    UEvent.ISCSI_UEVENT_DESTROY_SESSION_ASYNC: (struct.Struct("=I"), ("sid",)),
    UEvent.ISCSI_UEVENT_CREATE_CONN: (struct.Struct("=II"), ("sid", "cid")),
    UEvent.ISCSI_UEVENT_DESTROY_CONN: (struct.Struct("=II"), ("sid", "cid")),
    UEvent.ISCSI_UEVENT_START_CONN: (struct.Struct("=II"), ("sid", "cid")),
    UEvent.ISCSI_UEVENT_GET_STATS: (struct.Struct("=II"), ("sid", "cid")),
    UEvent.ISCSI_UEVENT_BIND_CONN: (struct.Struct("=IIQI"), ("sid", "cid", "transport_eph", "is_leading")),
    UEvent.ISCSI_UEVENT_STOP_CONN: (struct.Struct("=IIQI"), ("sid", "cid", "conn_handle", "flag")),
    UEvent.ISCSI_UEVENT_SET_PARAM: (struct.Struct("=IIII"), ("sid", "cid", "param", "len")),
    UEvent.ISCSI_UEVENT_SEND_PDU: (struct.Struct("=IIII"), ("sid", "cid", "hdr_size", "data_size")),
    UEvent.ISCSI_UEVENT_SET_HOST_PARAM: (struct.Struct("=III"), ("host_no", "param", "len")),
}
"""The member of the union ``u`` each request uses, and its field names in order. ``=`` because every field already
stands at its natural alignment, so the layout is the same on every 64-bit and 32-bit machine."""
