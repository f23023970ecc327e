# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tasks of a session by their initiator task tags (RFC 7143 section 11.2.1.8).

A tag is not used again while its task lives, and the tags of commands that ended without their answer are remembered
for a while: the answer may have been under way.
"""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.initiator import serial
from iscsiboot.initiator.fullfeature_states import TaskKind
from iscsiboot.initiator.pdu.header import RESERVED_TAG
from iscsiboot.initiator.pdu.scsi_codes import TaskFunction
from iscsiboot.initiator.text_exchange import TextExchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from iscsiboot.initiator.transfer import Transfer
    from iscsiboot.model.lun import Lun

TASKS_MAX = 4096
"""Tasks at a time beyond which no command is taken; those that wait for the command window are counted."""
ENDED_MAX = 1024
"""Tags of ended commands that are remembered; the oldest is forgotten first."""


@dataclass(kw_only=True, slots=True, eq=False)
class Task:
    """What all tasks have."""

    if TYPE_CHECKING:
        KIND: ClassVar[TaskKind]

    itt: int
    sent: bool = False
    """Its last request was handed out."""
    timeout: float = 0
    """Seconds to wait for an answer; 0: no limit."""
    started: float = 0
    """When that wait began; for a command, when it was asked for."""

    @property
    def kind(self) -> TaskKind:
        """Its row in the table."""
        return self.KIND if self.sent else TaskKind.WAITING


@dataclass(kw_only=True, slots=True, eq=False)
class CommandTask(Task):
    """A SCSI command."""

    KIND = TaskKind.COMMAND

    lun: Lun
    cdb: bytes
    attribute: int
    transfer: Transfer
    cmdsn: int = 0
    """Once it is sent."""


@dataclass(kw_only=True, slots=True, eq=False)
class PingTask(Task):
    """A NOP-Out that wants an answer."""

    KIND = TaskKind.PING

    data: bytes
    ours: bool = False
    """The timer's, which nobody is told about."""


@dataclass(kw_only=True, slots=True, eq=False)
class TextTask(Task):
    """A Text Request and all its continuations."""

    KIND = TaskKind.TEXT

    exchange: TextExchange


@dataclass(kw_only=True, slots=True, eq=False)
class ManagementTask(Task):
    """A task management function."""

    KIND = TaskKind.MANAGEMENT

    function: TaskFunction
    lun: Lun | None
    referenced: int = RESERVED_TAG
    """The tag of the task to abort."""
    cmdsn: int = 0
    """Once it is sent: what was sent before it has a CmdSN before this one."""

    def ends(self, task: CommandTask) -> bool:
        """Whether the function, carried out, has ended ``task`` (section 4.2.3.1)."""
        if not task.sent or not serial.before(task.cmdsn, self.cmdsn):
            return False
        if self.function is TaskFunction.ABORT_TASK:
            return task.itt == self.referenced
        if self.function in _OF_LUN:
            return task.lun == self.lun
        return self.function in _OF_TARGET


_OF_LUN = frozenset({TaskFunction.ABORT_TASK_SET, TaskFunction.CLEAR_TASK_SET, TaskFunction.LOGICAL_UNIT_RESET})
_OF_TARGET = frozenset({TaskFunction.TARGET_WARM_RESET, TaskFunction.TARGET_COLD_RESET})
RESETS = _OF_TARGET | {TaskFunction.LOGICAL_UNIT_RESET}
"""Functions that take a target longer than an abort does."""
NEEDS_LUN = _OF_LUN | {TaskFunction.CLEAR_ACA}
"""Functions of one logical unit; ABORT TASK has that of its task."""


@dataclass(kw_only=True, slots=True, eq=False)
class LogoutTask(Task):
    """A Logout Request."""

    KIND = TaskKind.LOGOUT


AnyTask = CommandTask | PingTask | TextTask | ManagementTask | LogoutTask


class TaskTable:
    """Tasks by tag."""

    def __init__(self, *, first_tag: int = 1) -> None:
        self._next_tag = first_tag
        self._tasks: dict[int, AnyTask] = {}
        self._ended: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def new_tag(self) -> int:
        """A tag that stands for nothing else and did not lately."""
        while self._next_tag == RESERVED_TAG or self._next_tag in self._tasks or self._next_tag in self._ended:
            self._next_tag = serial.add(self._next_tag, 1)
        tag = self._next_tag
        self._next_tag = serial.add(tag, 1)
        return tag

    def add(self, task: AnyTask) -> None:
        """Enter a task under its tag."""
        self._tasks[task.itt] = task

    def get(self, tag: int) -> AnyTask | None:
        """The living task of a tag."""
        return self._tasks.get(tag)

    def kind(self, tag: int) -> TaskKind:
        """The row of the table for a PDU that names this tag."""
        if tag == RESERVED_TAG:
            return TaskKind.NONE
        task = self._tasks.get(tag)
        if task is not None:
            return task.kind
        return TaskKind.ENDED if tag in self._ended else TaskKind.NEVER

    def end(self, task: AnyTask, *, remember: bool) -> None:
        """Take a task out; ``remember`` its tag when the target may still answer."""
        del self._tasks[task.itt]
        if remember:
            self._ended[task.itt] = None
            if len(self._ended) > ENDED_MAX:
                del self._ended[next(iter(self._ended))]

    def commands(self) -> list[CommandTask]:
        """The living SCSI commands, oldest first."""
        return [task for task in self._tasks.values() if isinstance(task, CommandTask)]

    def clear(self) -> None:
        """Forget everything."""
        self._tasks.clear()
        self._ended.clear()
