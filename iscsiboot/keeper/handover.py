# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the right to act on sessions passes from a guard to the next process; this is the side that takes.

===================================================  =======================================================
the taker                                            the guard (:mod:`.guardian`)
===================================================  =======================================================
``{"iscsiboot-keeper": 1, "want": "sessions"}``
\\                                                    ``{"iscsiboot-keeper": 1, "document": {...}}``, acts on
``{"taken": true}``                                  stops acting, gives the right to act back
\\                                                    ``{"done": true}``, stands behind the taker
takes the right, acts
``{"leave": true}``                                  ends
===================================================  =======================================================

Nothing is said of breaks. Both hear every one, the taker from before its first line, and the taker hears each login of
the guard's, too: a break with a login behind it is healed, any other one is the taker's to heal (:mod:`.port`).

A connection that breaks before ``taken`` changes nothing. One that breaks later without ``leave`` is a taker that died:
the guard acts again. So from the first line to the last there is a process that acts or is about to. Two never act,
because acting needs :attr:`~.rights.Right.ACT`, which the kernel gives to one process.

Who stands still instead of dying (SIGSTOP, a frozen control group): a taker before ``taken`` is passed over after
:data:`.guardian.TAKEN_SECONDS`; a guard that is asked is ended by the taker. A taker that stands still after ``taken``
is a daemon that stands still: nobody acts until its service manager's watchdog ends it, then the guard does.

Other users can bind the abstract name and connect to it. The kernel tells both ends who the other is (SO_PEERCRED): a
guard answers nobody but root, a taker asks nobody but root's processes, and passes on to the socket in the folder.

While it stands behind a process, a guard takes ``{"document": ...}`` (what there is to guard; answered by
``{"ready": true}``) and ``{"guard": true}`` (act now; answered by ``{"guarding": true}`` or false).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.keeper import document, endings, meeting
from iscsiboot.keeper.actor import HELLO, VERSION
from iscsiboot.keeper.channel import LINE_LIMIT, Channel, Garbage, Message
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.rights import Right, Rights
from iscsiboot.keeper.values import Known, Role
from iscsiboot.model.deadline import Deadline

SECONDS = 10.0
"""For a guard to answer. It is busy with nothing that takes longer than a request to the kernel."""
STOP_SECONDS = 10.0
"""From ``taken`` to ``done``: attempts are cancelled and taken back."""
KILL_SECONDS = 2.0
PAUSES = (0.02, 0.5)
"""Seconds before a guard is looked for again that has the right to act and does not listen yet; first and longest."""
STATUS_SECONDS = 2.0


class Takeover:
    """The right to act, held until :meth:`release`, and the guard it came from, which now stands behind us."""

    def __init__(self, rights: Rights, *, own: bool, found: document.Document, channel: Channel | None) -> None:
        self.known: dict[int, Known] = found.known
        """What the guard before us knew; empty when there was none."""
        self.roles: dict[int, Role] = found.roles
        self._rights = rights
        self._own = own
        self._channel = channel
        self._goodbye: asyncio.Task[None] | None = None

    def leave(self) -> None:
        """The guard before us may end: a standby of our own is ready, or nothing needs one. Twice is fine."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.send({"leave": True})
            self._goodbye = asyncio.get_running_loop().create_task(_see_off(channel))

    def release(self) -> None:
        """Give the right back; after Keeper.stop_acting, before Standby.take_over. Twice is fine."""
        if self._own:
            # Everything of this process's: a standby that acts shall find nothing in its way.
            self._rights.close()
        else:
            self._rights.release(Right.ACT)


async def _see_off(channel: Channel) -> None:
    """Until the guard has read it and closed: closing first could take the word back."""
    try:
        while await channel.receive() is not None:
            pass
    except Garbage:
        pass
    finally:
        channel.close()


async def take_over(
    *,
    run: Path,
    log: Log,
    now: Callable[[], float],
    seconds: float | None = None,
    name: str = meeting.NAME,
    rights: Rights | None = None,
) -> Takeover:
    """Get the right to act, from the guard that has it if there is one. Subscribe to netlink before (Keeper.start).

    A guard that has the right and does not answer for ``seconds`` (None: :data:`SECONDS`) is ended: it guards nothing.
    ``rights``: those of this process when it has some. IscsiBootError (exit code BUSY) with the process that has it
    when that is no guard.
    """
    held = Rights.open(run, log) if rights is None else rights
    taker = _Taker(held, run=run, log=log, now=now, name=name)
    try:
        patience = SECONDS if seconds is None else seconds
        await taker.take(Deadline.after(patience, now=now(), reason="the guard before us"))
    except BaseException:
        taker.close()
        if rights is None:
            held.close()
        raise
    return Takeover(held, own=rights is None, found=taker.found, channel=taker.channel)


class _Taker:
    """One hand-over, however many tries it takes."""

    def __init__(
        self,
        rights: Rights,
        *,
        run: Path,
        log: Log,
        now: Callable[[], float],
        name: str,
    ) -> None:
        self._rights = rights
        self._run = run
        self._log = log
        self._now = now
        self._name = name
        self.found = document.Document()
        self.channel: Channel | None = None

    async def take(self, deadline: Deadline) -> None:
        pause, longest = PAUSES
        while True:
            reached = meeting.reach(run=self._run, name=self._name, log=self._log)
            if reached is not None:
                await self._ask(reached[0], deadline)
            if self._rights.claim(Right.ACT):
                return
            holder = self._rights.holder(Right.ACT)
            if holder is None:
                continue  # given back just now
            if deadline.passed(self._now()):
                if not await self._end_hung(holder):
                    raise _busy(holder)
                continue
            # It ends, or listens in a moment: the kernel tells the one, not the other.
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    endings.process_end(holder), min(pause, deadline.remaining(self._now())) or PAUSES[0]
                )
            pause = min(2 * pause, longest)

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    async def _ask(self, sock: socket.socket, deadline: Deadline) -> None:
        """One conversation. What it gave is in ``found``; ``channel`` is there when the guard said that it stopped."""
        self.close()
        channel = Channel(sock)
        try:
            if await self._talk(channel, deadline):
                self.channel = channel
        except Garbage as error:
            self._log(Level.WARNING, f"the guard at @{self._name} is not understood: {error}")
        except TimeoutError:
            self._log(Level.WARNING, f"the guard at @{self._name} does not answer")
        finally:
            if self.channel is None:
                channel.close()

    async def _talk(self, channel: Channel, deadline: Deadline) -> bool:
        channel.send({HELLO: VERSION, "want": "sessions"})
        answer = await asyncio.wait_for(channel.receive(), deadline.remaining(self._now()) or PAUSES[0])
        if answer is None:
            return False
        if answer.get(HELLO) != VERSION or "document" not in answer:
            raise Garbage(f"it answered {_words(answer)}")
        self.found = document.read_values(answer["document"])
        for problem in self.found.problems:
            self._log(Level.WARNING, f"of what the guard before us says: {problem}")
        channel.send({"taken": True})
        done = await asyncio.wait_for(channel.receive(), STOP_SECONDS)
        return done is not None and done.get("done") is True

    async def _end_hung(self, holder: int) -> bool:
        """End the process that has the right when it is a guard (it has the place too); whether it was one."""
        if holder <= 0 or self._rights.holder(Right.PLACE) != holder:
            return False
        descriptor = endings.watch(holder)
        if descriptor is None:
            # Gone meanwhile, or (before Linux 5.3) not to be ended without the risk of ending another one.
            return self._rights.holder(Right.ACT) != holder
        try:
            # Once more, now that the number cannot become another process's.
            if self._rights.holder(Right.PLACE) != holder:
                return True
            self._log(Level.WARNING, f"process {holder}, the guard before us, does not answer and is ended")
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            await asyncio.wait_for(endings.process_end(holder), KILL_SECONDS)
        except (OSError, TimeoutError):
            return False
        finally:
            os.close(descriptor)
        return True


def _busy(holder: int) -> IscsiBootError:
    who = f"process {holder}" if holder > 0 else "a process of another PID namespace"
    return IscsiBootError(
        f"{who} guards the sessions of this machine and does not hand them over",
        stage=Stage.SESSION,
        subject="iscsid",
        hint="end that process first",
        exit_code=ExitCode.BUSY,
    )


def _words(message: Message) -> str:
    """A message's keys: its values may be secrets."""
    return ", ".join(sorted(str(key)[:20] for key in message)[:5]) or "nothing"


def ask_status(*, run: Path, log: Log, name: str = meeting.NAME) -> Message | None:
    """What the guard process says of itself, without a loop; None when there is none, or it does not answer.

    ``{"pid": 1, "acts": true, "behind": null, "status": [one dictionary of keeper.values.Status a session]}``.
    """
    reached = meeting.reach(run=run, name=name, log=log)
    if reached is None:
        return None
    sock, _ = reached
    received = bytearray()
    with sock:
        sock.settimeout(STATUS_SECONDS)
        try:
            sock.sendall(json.dumps({HELLO: VERSION, "want": "status"}).encode() + b"\n")
            while not received.endswith(b"\n") and len(received) < LINE_LIMIT:
                chunk = sock.recv(1 << 16)
                if not chunk:
                    return None
                received += chunk
            answer = json.loads(received)
        except (OSError, ValueError, RecursionError):
            return None
    return answer if isinstance(answer, dict) and answer.get(HELLO) == VERSION else None
