# SPDX-License-Identifier: LGPL-2.1-or-later
"""The numbers in PDUs of SCSI; :mod:`iscsiboot.initiator.pdu.scsi` gives them again.

Apart from the PDUs, whose classes cost several milliseconds to make: every session can be asked for a command or a task
management function, a discovery never is.
"""

from __future__ import annotations

from enum import IntEnum

CDB_LENGTH_MAX = 260
"""Bytes of the longest CDB there is (SPC-3 section 4.3.3, a variable length CDB)."""
CDB_LENGTH = 16
"""Bytes of a CDB in the header; a shorter one is filled up with zeros, a longer one goes on in an additional header."""


class Attribute(IntEnum):
    """Task attributes (section 11.3.1)."""

    UNTAGGED = 0
    SIMPLE = 1
    ORDERED = 2
    HEAD_OF_QUEUE = 3
    ACA = 4


class ScsiAnswer(IntEnum):
    """The response field: whether the command came through to the SCSI layer (section 11.4.3)."""

    COMPLETED = 0
    TARGET_FAILURE = 1


class TaskFunction(IntEnum):
    """Task management functions (section 11.5.1)."""

    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_ACA = 3
    CLEAR_TASK_SET = 4
    LOGICAL_UNIT_RESET = 5
    TARGET_WARM_RESET = 6
    TARGET_COLD_RESET = 7
    TASK_REASSIGN = 8
    """Error recovery level 2 alone."""


class TaskAnswer(IntEnum):
    """Responses to task management (section 11.6.1)."""

    COMPLETE = 0
    NO_TASK = 1
    NO_LUN = 2
    STILL_ALLEGIANT = 3
    REASSIGN_NOT_SUPPORTED = 4
    NOT_SUPPORTED = 5
    AUTHORIZATION_FAILED = 6
    REJECTED = 255


class SnackType(IntEnum):
    """What a SNACK asks for again (section 11.16.1)."""

    DATA_OR_R2T = 0
    STATUS = 1
    DATA_ACK = 2
    R_DATA = 3
