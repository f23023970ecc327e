# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one netlink socket of a guard process on its event loop: requests at once, events to the session they name.

A request is done by the kernel inside ``sendto``, so asking is no waiting and needs no task. Events are handed out from
the loop and never from inside a request: who asks is not called back in the middle of it.

Who gets an event of a session: the :class:`Inbox` of the work at hand (a login, a logout) while there is one, else the
session's listener. An error of a connection nobody listens for is kept, since a guard may adopt the session a moment
later: the kernel tells of a break before its state in sysfs shows it. It is kept until a target's word follows that the
session is logged in again: the kernel tells every socket of all sessions' logins, each socket in order, so that error
was about a connection that is no more. How the new one fares sysfs tells, which does not show it up before it is
started, or an error that comes behind.

How long the kernel may take for a request (Linux 6.1, drivers/scsi). It does one at a time, whoever asks: iscsi_if_rx
holds ``rx_queue_mutex``. So a STOP_CONN made in a child would keep our next request waiting just the same. It need not:
what is asked for here ends without the target, the disks or the error handler.

* STOP_CONN, or its wait for the kernel's own (flush_work of ``cleanup_work``, many at a time on a queue with a
  rescuer): iscsi_sw_tcp_conn_stop sets ``sk_err`` and wakes the sender first, so that iscsi_suspend_tx waits for a
  sendmsg that returns at once and not for its 15 s of ``sk_sndtimeo``; what is being received is a soft interrupt
  (sk_callback_lock), or what the socket holds. iscsi_conn_stop takes ``eh_mutex``, which the error handler gives back
  while it waits for a target (iscsi_exec_task_mgmt_fn, iscsi_eh_session_reset). fail_scsi_tasks is as long as the
  queue of commands, and the devices are blocked by a work of the session's own (iscsi_block_session). A scan holds
  none of these locks; its commands are among those that fail, or wait in their queue.
* START_CONN waits for that work and its opposite (iscsi_unblock_session): the state of each device, one grace period of
  RCU. DESTROY_CONN waits for as much as STOP_CONN.
* DESTROY_SESSION waits for scans, disks and whoever uses them, so a session that has worked is destroyed by
  DESTROY_SESSION_ASYNC (:mod:`.leave`).
* Memory: CREATE_SESSION and DESTROY_SESSION ask for some with the mutex held. PR_SET_IO_FLUSHER keeps them from waiting
  for a write to a disk that only the next request could bring back; a child that makes requests sets it, too.

What is left is another program's request, or a fault of the kernel: one that takes long is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from iscsiboot.errors import Stage
from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.login import LoginResponse, LoginStage
from iscsiboot.initiator.status import SUCCESS_CLASS
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.seal import fault_words
from iscsiboot.model.deadline import Deadline
from iscsiboot.netlink import messages
from iscsiboot.netlink.messages import ConnError, Event, EventsLost, RecvPdu, Reply, Request, SessionEvent
from iscsiboot.netlink.socket import FULL, IscsiNetlink, NetlinkError, RequestRefused
from iscsiboot.netlink.statistics import ConnectionStatistics, decode_statistics
from iscsiboot.netlink.uapi import KEvent
from iscsiboot.session.machine import TRANSPORT, no_transport
from iscsiboot.session.steps import CID, GONE
from iscsiboot.session.values import Environment
from iscsiboot.session.workers import Ended, Job
from iscsiboot.sysfs.sessions import TransportView, read_transport

ANSWER_SECONDS = 2.0
"""For an answer the kernel has queued before ``sendto`` returned: only one that was lost is waited for."""

UNCLAIMED_MAX = 4096
"""Errors kept of sessions nobody listens for; more sessions than a machine has."""

LOOK_SECONDS = 1.0
"""After a fault of ours in taking an event: then the session reads from sysfs what the event was about."""

REOPEN_SECONDS = 1.0
"""Before a new socket is asked for again that the kernel refused."""

SLOW_SECONDS = 1.0
"""A request that takes longer is worth a line; the next one is when it takes twice as long."""

AT_ONCE = 512
"""Events handed out in one turn of the loop. A target that floods us with messages costs the others time, not their
turn; what the socket cannot hold meanwhile is lost and read from sysfs."""

LOST_APART_SECONDS = 600.0
"""Between two lines about events that were lost."""

Listener = Callable[[Event], None]


class Hands(Protocol):
    """Where work that may block is done: :class:`iscsiboot.keeper.hands.Hands`."""

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        """Do ``job`` in a child process, for so many seconds at most."""


class Inbox:
    """The events of one session while somebody works on it, in order."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """Add one."""
        self._events.append(event)
        _wake(self._waiter)

    async def next(self, deadline: Deadline) -> Event | None:
        """The oldest not yet taken; None when the deadline passes first."""
        loop = asyncio.get_running_loop()
        while not self._events:
            remaining = deadline.remaining(self._now())
            if not remaining:
                return None
            self._waiter = loop.create_future()
            timer = loop.call_later(remaining, _wake, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self._events.popleft()

    def rest(self) -> list[Event]:
        """Those nobody has taken."""
        return list(self._events)


def apart(log: Log, sid: int, act: Callable[[], None]) -> bool:
    """Do it for one session of many: a fault of ours is told, and costs the others nothing.

    False when there was one.
    """
    try:
        act()
    except Exception as error:  # noqa: BLE001 - as above
        log(Level.ERROR, f"session {sid}: a fault of this program: {fault_words(error)}")
        return False
    return True


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class KernelPort:
    """Requests to the kernel's iSCSI and its events. Open it inside the loop; :meth:`close` is idempotent."""

    def __init__(self, environment: Environment, *, log: Log, strangers: Callable[[int], None] | None = None) -> None:
        self._environment = environment
        self._log = log
        self._strangers = strangers
        self._listeners: dict[int, Listener] = {}
        self._inboxes: dict[int, Inbox] = {}
        self._unclaimed: dict[int, ConnError] = {}
        self._netlink: IscsiNetlink | None = None
        self._transport: TransportView | None = None
        self._due = False
        self._say_after = float("-inf")
        self._slow = SLOW_SECONDS
        self._reopening: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Subscribe to the kernel's events. NetlinkError when this kernel has no iSCSI."""
        self._netlink = self._environment.open_netlink()
        asyncio.get_running_loop().add_reader(self._netlink.fileno(), self._hand_out)

    def close(self) -> None:
        """Hear and ask no more."""
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        netlink, self._netlink = self._netlink, None
        if netlink is not None:
            asyncio.get_running_loop().remove_reader(netlink.fileno())
            netlink.close()

    @property
    def number(self) -> int:
        """Our port id: the ``creator`` of the sessions made here."""
        return self._socket().port

    @property
    def sysfs(self) -> Path:
        """The root of sysfs."""
        return self._environment.sysfs

    def transport(self) -> TransportView:
        """The software transport, read when it is needed first; IscsiBootError while its module is not loaded."""
        if self._transport is None:
            self._transport = read_transport(self._environment.sysfs, TRANSPORT)
        if self._transport is None:
            raise no_transport(self._environment)
        return self._transport

    @property
    def handle(self) -> int:
        """The transport's, which every request names."""
        return self.transport().handle

    def forget_transport(self) -> None:
        """Read it again next time: the module may have been loaded anew while there were no sessions."""
        self._transport = None

    # Requests.

    def ask(self, request: Request) -> Reply:
        """The kernel's answer. RequestRefused when it says no, NetlinkError when its answer was lost."""
        netlink = self._socket()
        began = self._environment.now()
        deadline = Deadline.after(ANSWER_SECONDS, now=began, reason="the kernel's answer")
        try:
            return netlink.request(request, deadline)
        finally:
            self._say_slow(request, self._environment.now() - began)
            self._schedule(netlink)

    def take_away(self, request: Request) -> None:
        """Send a request that removes something; that it is gone already is success."""
        try:
            self.ask(request)
        except RequestRefused as refusal:
            if refusal.errno not in GONE:
                raise

    def statistics(self, sid: int) -> ConnectionStatistics:
        """The counters of a session's connection; IscsiBootError as :meth:`ask`, ValueError for what is none."""
        netlink = self._socket()
        deadline = Deadline.after(ANSWER_SECONDS, now=self._environment.now(), reason="the kernel's counters")
        try:
            return decode_statistics(
                netlink.statistics(messages.get_stats(self.handle, sid=sid, cid=CID), deadline).data
            )
        finally:
            self._schedule(netlink)

    # Events.

    def listen(self, sid: int, listener: Listener) -> None:
        """Give ``listener`` the events of a session, beginning with an error that is known of already."""
        self._listeners[sid] = listener
        kept = self._unclaimed.pop(sid, None)
        if kept is not None:
            self._call(sid, listener, kept)

    def hear(self) -> None:
        """Hand out now what waits in the socket, rather than when the loop comes to it."""
        self._hand_out(FULL)

    def has_listener(self, sid: int) -> bool:
        """Whether somebody listens for this session."""
        return sid in self._listeners

    def forget(self, sid: int) -> None:
        """Nobody listens for this session any more."""
        self._listeners.pop(sid, None)
        self._unclaimed.pop(sid, None)

    @contextmanager
    def inbox(self, sid: int) -> Iterator[Inbox]:
        """The session's events for the work at hand. What it has not taken when it is done goes to the listener; of a
        work that failed it goes nowhere, being about a connection that is no more.
        """
        if sid in self._inboxes:
            raise RuntimeError(f"session {sid} is being worked on already")
        inbox = self._inboxes[sid] = Inbox(self._environment.now)
        done = False
        try:
            yield inbox
            done = True
        finally:
            del self._inboxes[sid]
            # By the loop, so that what the work has come to is told first.
            for event in inbox.rest() if done else ():
                asyncio.get_running_loop().call_soon(self._hand, event)

    def _socket(self) -> IscsiNetlink:
        if self._reopening is not None:
            raise NetlinkError(
                "the socket failed, and the kernel has refused another one so far",
                stage=Stage.HANDOFF,
                subject="NETLINK_ISCSI",
                hint="see dmesg; it is asked for again every second",
            )
        if self._netlink is None:
            raise RuntimeError("the port is not open")
        return self._netlink

    def _schedule(self, netlink: IscsiNetlink) -> None:
        """A request has read the socket: what came with its answer is not announced by the descriptor any more."""
        if netlink.pending and not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._hand_out)

    def _hand_out(self, at_most: int = AT_ONCE) -> None:
        self._due = False
        if self._netlink is None:
            return
        try:
            events = self._netlink.take_events(at_most)
        except NetlinkError as error:
            self._log(Level.ERROR, f"the kernel's events cannot be read: {error.line()}; asking with a new socket")
            self.close()
            self._reopen()
            return
        # All of them are older than what sysfs shows now, so one look makes good for every loss among them.
        losses = events.count(EventsLost())
        for event in events:
            if isinstance(event, EventsLost) and (losses := losses - 1):
                continue
            self._hand(event)

    def _reopen(self) -> None:
        """A socket that failed in reading is replaced by a new one; what was in it is lost."""
        self._reopening = None
        try:
            self.open()
        except NetlinkError:
            self._reopening = asyncio.get_running_loop().call_later(REOPEN_SECONDS, self._reopen)
        else:
            self._hand(EventsLost())

    def _hand(self, event: Event) -> None:
        if isinstance(event, EventsLost):
            self._say_lost()
            for inbox in list(self._inboxes.values()):
                inbox.put(event)
            for sid, listener in list(self._listeners.items()):
                if sid not in self._inboxes:
                    self._call(sid, listener, event)
            return
        if not isinstance(event, RecvPdu | ConnError | SessionEvent):
            return
        if event.sid in self._inboxes:
            self._inboxes[event.sid].put(event)
        elif event.sid in self._listeners:
            self._call(event.sid, self._listeners[event.sid], event)
        else:
            self._keep(event)

    def _call(self, sid: int, listener: Listener, event: Event) -> None:
        if not apart(self._log, sid, partial(listener, event)) and not isinstance(event, EventsLost):
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look, sid)

    def _look(self, sid: int) -> None:
        if sid in self._listeners and self._netlink is not None:
            self._call(sid, self._listeners[sid], EventsLost())

    def _say_slow(self, request: Request, seconds: float) -> None:
        """All sessions have waited with this one."""
        if seconds >= self._slow:
            self._slow = 2 * seconds
            self._log(
                Level.WARNING,
                f"the kernel took {seconds:.1f} s for {request.describe()}, and for no other request meanwhile;"
                " next: see dmesg, and whether another program is at work on its sessions",
            )

    def _say_lost(self) -> None:
        """Once for a storm of events."""
        now = self._environment.now()
        if now >= self._say_after:
            self._say_after = now + LOST_APART_SECONDS
            self._log(Level.WARNING, "the kernel had more events than the socket could hold: reading every state again")

    def _keep(self, event: RecvPdu | ConnError | SessionEvent) -> None:
        if isinstance(event, ConnError) and len(self._unclaimed) < UNCLAIMED_MAX:
            self._unclaimed[event.sid] = event
        elif isinstance(event, SessionEvent) and event.kind is KEvent.ISCSI_KEVENT_DESTROY_SESSION:
            self._unclaimed.pop(event.sid, None)
        elif isinstance(event, RecvPdu) and event.sid in self._unclaimed and _is_last_of_login(event):
            del self._unclaimed[event.sid]
        elif isinstance(event, SessionEvent) and event.kind is KEvent.ISCSI_KEVENT_CREATE_SESSION and self._strangers:
            self._strangers(event.sid)


def _is_last_of_login(pdu: RecvPdu) -> bool:
    """Whether a target says that a login has succeeded."""
    try:
        said = LoginResponse.decode(pdu.bhs)
    except ProtocolViolation:
        return False
    return said.status_class == SUCCESS_CLASS and said.transit and said.nsg == LoginStage.FULL_FEATURE
