# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which key of a record sets which field of :class:`~iscsiboot.model.params.SessionParams`, and how its text is read.

The one table of that: iscsistart's ``-P`` and configuration file go by it, and iscsiadm's logins by a node record. What
a value may be stands with the fields; what is done with one that may not be differs: a word on a command line is
refused, a record that somebody edited is put right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from iscsiboot.model.params import Digest

Value = int | bool | Digest


@dataclass(frozen=True, slots=True)
class SessionKey:
    """One row."""

    field: str
    """Of SessionParams."""
    read: Callable[[str], Value]
    """From the record's text; ValueError with a clause ("it is no ...") for text that is none."""


def read_integer(text: str) -> int:
    """A whole number of at most 12 digits; ValueError else."""
    if len(text) > 12:
        raise ValueError("it is no number of at most 12 digits")
    return int(text, 10)


def read_yes_no(text: str) -> bool:
    """Yes or No in any case; ValueError else."""
    try:
        return {"yes": True, "no": False}[text.lower()]
    except KeyError:
        raise ValueError("it is neither Yes nor No") from None


def read_digest(text: str) -> Digest:
    """``None``, ``CRC32C`` or both with a comma; ValueError else."""
    try:
        return Digest(text.replace(" ", ""))
    except ValueError:
        raise ValueError(f"it is none of {', '.join(digest.value for digest in Digest)}") from None


SESSION_KEYS: Mapping[str, SessionKey] = {
    "node.session.initial_cmdsn": SessionKey("initial_cmdsn", read_integer),
    "node.session.cmds_max": SessionKey("cmds_max", read_integer),
    "node.session.queue_depth": SessionKey("queue_depth", read_integer),
    "node.session.timeo.replacement_timeout": SessionKey("replacement_timeout", read_integer),
    "node.session.err_timeo.abort_timeout": SessionKey("abort_timeout", read_integer),
    "node.session.err_timeo.lu_reset_timeout": SessionKey("lu_reset_timeout", read_integer),
    "node.session.err_timeo.tgt_reset_timeout": SessionKey("tgt_reset_timeout", read_integer),
    "node.session.iscsi.FastAbort": SessionKey("fast_abort", read_yes_no),
    "node.session.iscsi.InitialR2T": SessionKey("initial_r2t", read_yes_no),
    "node.session.iscsi.ImmediateData": SessionKey("immediate_data", read_yes_no),
    "node.session.iscsi.FirstBurstLength": SessionKey("first_burst_length", read_integer),
    "node.session.iscsi.MaxBurstLength": SessionKey("max_burst_length", read_integer),
    "node.session.iscsi.DefaultTime2Retain": SessionKey("default_time2retain", read_integer),
    "node.session.iscsi.DefaultTime2Wait": SessionKey("default_time2wait", read_integer),
    "node.session.iscsi.MaxOutstandingR2T": SessionKey("max_outstanding_r2t", read_integer),
    "node.conn[0].tcp.window_size": SessionKey("tcp_window_size", read_integer),
    "node.conn[0].timeo.login_timeout": SessionKey("login_timeout", read_integer),
    "node.conn[0].timeo.noop_out_interval": SessionKey("noop_out_interval", read_integer),
    "node.conn[0].timeo.noop_out_timeout": SessionKey("noop_out_timeout", read_integer),
    "node.conn[0].iscsi.MaxRecvDataSegmentLength": SessionKey("max_recv_data_segment_length", read_integer),
    "node.conn[0].iscsi.MaxXmitDataSegmentLength": SessionKey("max_xmit_data_segment_length", read_integer),
    "node.conn[0].iscsi.HeaderDigest": SessionKey("header_digest", read_digest),
    "node.conn[0].iscsi.DataDigest": SessionKey("data_digest", read_digest),
}
"""By the record's key."""
