# SPDX-License-Identifier: LGPL-2.1-or-later
"""The requests of full feature phase, except for the numbers they get when they leave.

Each function gives a :data:`Make`: CmdSN and ExpStatSN in, the PDU out.
"""

from __future__ import annotations

from collections.abc import Callable

from iscsiboot.initiator.pdu.control import LogoutRequest, NopOut, TextRequest
from iscsiboot.initiator.pdu.header import NO_LUN, Pdu
from iscsiboot.initiator.tasks import ManagementTask
from iscsiboot.initiator.text_exchange import Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.initiator.pdu.scsi import TaskManagementRequest

Make = Callable[[int, int], Pdu]
"""Gives the PDU for a CmdSN and an ExpStatSN."""


def ping(itt: int, length: int) -> Make:
    """A NOP-Out with ``length`` bytes of data that wants an answer (section 11.18)."""

    def make(cmdsn: int, exp_statsn: int) -> NopOut:
        return NopOut(immediate=True, itt=itt, cmdsn=cmdsn, exp_statsn=exp_statsn, data_length=length)

    return make


def pong(lun: bytes, ttt: int, length: int) -> Make:
    """The NOP-Out that answers a NOP-In: its LUN and tag, no tag of ours."""

    def make(cmdsn: int, exp_statsn: int) -> NopOut:
        return NopOut(immediate=True, lun=lun, ttt=ttt, cmdsn=cmdsn, exp_statsn=exp_statsn, data_length=length)

    return make


def text(itt: int, turn: Turn) -> Make:
    """A Text Request (section 11.10). Immediate, as open-iscsi's: targets in the field have met nothing else."""

    def make(cmdsn: int, exp_statsn: int) -> TextRequest:
        return TextRequest(
            immediate=True,
            final=turn.final,
            cont=turn.cont,
            lun=turn.lun,
            itt=itt,
            ttt=turn.ttt,
            cmdsn=cmdsn,
            exp_statsn=exp_statsn,
            data_length=len(turn.data),
        )

    return make


def management(task: ManagementTask, ref_cmdsn: int) -> Make:
    """A Task Management Function Request (section 11.5); ``ref_cmdsn`` is 0 unless it aborts a task."""
    from iscsiboot.initiator.pdu.scsi import TaskManagementRequest  # for sessions with disks alone

    def make(cmdsn: int, exp_statsn: int) -> TaskManagementRequest:
        return TaskManagementRequest(
            function=task.function,
            lun=task.lun.wire if task.lun else NO_LUN,
            itt=task.itt,
            referenced_tag=task.referenced,
            cmdsn=cmdsn,
            exp_statsn=exp_statsn,
            ref_cmdsn=ref_cmdsn,
        )

    return make


def logout(itt: int, reason: int, cid: int, *, immediate: bool) -> Make:
    """A Logout Request (section 11.14)."""

    def make(cmdsn: int, exp_statsn: int) -> LogoutRequest:
        return LogoutRequest(immediate=immediate, reason=reason, itt=itt, cid=cid, cmdsn=cmdsn, exp_statsn=exp_statsn)

    return make
