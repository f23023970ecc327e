# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of a node record, ``node.*``, in the order they are shown and stored.

Defaults are open-iscsi 2.1.8's as Debian builds it; ``shipped`` is what Debian's iscsid.conf sets.
"""

from __future__ import annotations

from iscsiboot.database.key import Key

NO_YES = ("No", "Yes")
STARTUP = ("manual", "automatic", "onboot")
AUTH_METHOD = ("None", "CHAP")
CHAP_ALGS = ("MD5", "SHA1", "SHA256", "SHA3-256")
DIGEST = ("None", "CRC32C", "CRC32C,None", "None,CRC32C")
SEGMENT_MIN, SEGMENT_MAX = 512, 2**24 - 1
"""The range RFC 7143 gives the lengths of bursts and data segments, in bytes."""

USER = 255
"""Bytes of a CHAP name or secret."""

CHAP_ALGS_KEY = Key(
    "node.session.auth.chap_algs",
    "list",
    "MD5",
    "CHAP algorithms to offer, the preferred one first.",
    choices=CHAP_ALGS,
)
"""Also a line of a SendTargets record, under this very name."""


def _seconds(name: str, default: str, meaning: str, *, shipped: str | None = None, low: int | None = 0) -> Key:
    return Key(name, "int", default, meaning, shipped=shipped, low=low)


NODE: tuple[Key, ...] = (
    Key("node.name", "str", "", "Name of the target.", length=255, lookup=True),
    Key("node.tpgt", "int", "-1", "Target portal group tag, -1 while unknown.", low=-1, high=65535, lookup=True),
    Key(
        "node.startup",
        "enum",
        "manual",
        "When the session is started: by hand, with the iscsi service, or for the root disk at boot.",
        shipped="manual",
        choices=STARTUP,
    ),
    Key(
        "node.leading_login",
        "enum",
        "No",
        "With automatic startup: Yes tries the interfaces one after the other and stops at the first that works.",
        shipped="No",
        choices=NO_YES,
    ),
    Key("node.discovery_address", "str", "", "Discovery server this record came from.", length=1024, lookup=True),
    Key("node.discovery_port", "int", "0", "TCP port of that server.", low=0, high=65535, lookup=True),
    Key(
        "node.discovery_type",
        "enum",
        "static",
        "How the record came about.",
        choices=("send_targets", "isns", "offload_send_targets", "slp", "static", "fw"),
        lookup=True,
    ),
    Key("node.session.initial_cmdsn", "serial", "0", "First command sequence number.", low=0),
    Key(
        "node.session.initial_login_retry_max",
        "int",
        "4",
        "A first login is given up after this many times login_timeout.",
        shipped="8",
        low=0,
    ),
    Key(
        "node.session.xmit_thread_priority",
        "int",
        "-20",
        "Nice value of the kernel's transmit thread; 0 leaves it alone.",
        shipped="-20",
        low=-20,
        high=20,
    ),
    Key(
        "node.session.cmds_max",
        "int",
        "128",
        "Commands the session queues, a power of two.",
        shipped="128",
        low=2,
        high=2048,
    ),
    Key("node.session.queue_depth", "int", "32", "Commands each disk queues.", shipped="32", low=1, high=1024),
    Key("node.session.nr_sessions", "int", "1", "Sessions a login makes over each interface.", shipped="1", low=1),
    Key(
        "node.session.auth.authmethod",
        "enum",
        "None",
        "Kept for compatibility: CHAP is used when a name and a password are set.",
        choices=AUTH_METHOD,
    ),
    Key("node.session.auth.username", "str", "", "CHAP name of this initiator.", length=USER),
    Key("node.session.auth.password", "str", "", "CHAP secret of this initiator.", length=USER, secret=True),
    Key("node.session.auth.username_in", "str", "", "CHAP name the target must prove (mutual CHAP).", length=USER),
    Key("node.session.auth.password_in", "str", "", "CHAP secret of the target.", length=USER, secret=True),
    CHAP_ALGS_KEY,
    Key(
        "node.session.timeo.replacement_timeout",
        "int",
        "120",
        "Seconds a lost session may take to come back before commands fail; 0 fails them at once, -1 never.",
        shipped="120",
        low=-1,
    ),
    _seconds("node.session.err_timeo.abort_timeout", "15", "Seconds to wait for an abort.", shipped="15"),
    _seconds("node.session.err_timeo.lu_reset_timeout", "30", "Seconds to wait for a LUN reset.", shipped="30"),
    _seconds("node.session.err_timeo.tgt_reset_timeout", "30", "Seconds to wait for a target reset.", shipped="30"),
    _seconds(
        "node.session.err_timeo.host_reset_timeout",
        "60",
        "Seconds to wait for a host reset; stored, the kernel has no use for it.",
        shipped="60",
    ),
    Key(
        "node.session.iscsi.FastAbort",
        "enum",
        "Yes",
        "No goes on answering R2T PDUs after an abort, as some targets want.",
        shipped="Yes",
        choices=NO_YES,
    ),
    Key("node.session.iscsi.InitialR2T", "enum", "No", "Yes waits for R2T first.", shipped="No", choices=NO_YES),
    Key(
        "node.session.iscsi.ImmediateData",
        "enum",
        "Yes",
        "Yes lets data travel with the command.",
        shipped="Yes",
        choices=NO_YES,
    ),
    Key(
        "node.session.iscsi.FirstBurstLength",
        "int",
        "262144",
        "Most unsolicited bytes of one command.",
        shipped="262144",
        low=SEGMENT_MIN,
        high=SEGMENT_MAX,
    ),
    Key(
        "node.session.iscsi.MaxBurstLength",
        "int",
        "16776192",
        "Most bytes of one data sequence.",
        shipped="16776192",
        low=SEGMENT_MIN,
        high=SEGMENT_MAX,
    ),
    _seconds("node.session.iscsi.DefaultTime2Retain", "0", "Seconds the target keeps a lost session's tasks."),
    _seconds("node.session.iscsi.DefaultTime2Wait", "2", "Seconds to wait before a lost session is begun again."),
    Key("node.session.iscsi.MaxConnections", "int", "1", "Stored; a session has one connection.", low=1, high=65535),
    Key("node.session.iscsi.MaxOutstandingR2T", "int", "1", "Most R2T PDUs waiting at once.", low=1, high=65535),
    Key("node.session.iscsi.ERL", "int", "0", "Stored; the error recovery level is always 0.", low=0, high=2),
    Key(
        "node.session.scan",
        "enum",
        "auto",
        "auto looks for all LUNs; manual leaves it to whoever writes to the scan file.",
        shipped="auto",
        choices=("manual", "auto"),
    ),
    Key(
        "node.session.reopen_max",
        "int",
        "0",
        "Attempts to bring a lost session back; 0 never gives up.",
        shipped="0",
        low=0,
    ),
    Key(
        "node.session.sess_reopen_log_freq",
        "int",
        "1",
        "Every how many failed attempts a line is logged.",
        low=1,
        since="2.1.11",
    ),
    Key("node.conn[0].address", "str", "", "Address or name of the portal.", length=1024, lookup=True),
    Key("node.conn[0].port", "int", "3260", "TCP port of the portal.", low=1, high=65535, lookup=True),
    Key("node.conn[0].startup", "enum", "manual", "As node.startup; either one starts the session.", choices=STARTUP),
    Key(
        "node.conn[0].tcp.window_size", "int", "524288", "Bytes of the socket's buffers; 0 leaves the kernel's.", low=0
    ),
    Key("node.conn[0].tcp.type_of_service", "int", "0", "Stored; it was never applied.", low=0, high=255),
    Key(
        "node.conn[0].tcp.congestion_control",
        "str",
        "",
        "TCP congestion control of the connection, by its name in the kernel.",
        length=15,
        since="2.1.12",
    ),
    _seconds("node.conn[0].timeo.logout_timeout", "15", "Seconds to wait for a logout.", shipped="15"),
    _seconds("node.conn[0].timeo.login_timeout", "30", "Seconds to wait for a login.", shipped="15"),
    _seconds("node.conn[0].timeo.auth_timeout", "45", "Seconds an authentication may take (discovery)."),
    _seconds(
        "node.conn[0].timeo.noop_out_interval",
        "5",
        "Seconds between pings of an idle connection; 0 for none.",
        shipped="5",
    ),
    _seconds(
        "node.conn[0].timeo.noop_out_timeout", "5", "Seconds until an unanswered ping ends the connection.", shipped="5"
    ),
    Key(
        "node.conn[0].iscsi.MaxXmitDataSegmentLength",
        "int",
        "0",
        "Most bytes to send in one PDU; 0 takes the target's word.",
        shipped="0",
        low=0,
        high=2**24 - 1,
    ),
    Key(
        "node.conn[0].iscsi.MaxRecvDataSegmentLength",
        "int",
        "262144",
        "Most bytes to take in one PDU.",
        shipped="262144",
        low=SEGMENT_MIN,
        high=SEGMENT_MAX,
    ),
    Key("node.conn[0].iscsi.HeaderDigest", "enum", "None", "Checksum over PDU headers.", choices=DIGEST),
    Key("node.conn[0].iscsi.DataDigest", "enum", "None", "Checksum over PDU data.", choices=DIGEST),
    Key("node.conn[0].iscsi.IFMarker", "enum", "No", "Stored; markers are always off.", choices=NO_YES),
    Key("node.conn[0].iscsi.OFMarker", "enum", "No", "Stored; markers are always off.", choices=NO_YES),
)

IFACE_AFTER = "node.leading_login"
"""The interface's settings stand behind this one, shown and stored."""
