# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole life of a guard process: what iscsistart leaves in the initramfs, and what stands behind iscsid.

::

            wait_for given                   the process it stands behind has ended, or says "guard"
    start ----------------> STANDS BEHIND ------------------------------------------> ACTS
      \\                        ^    \\                                                 |   \\
       \\ no wait_for           |     `-- "leave", or a stranger acts: end             |    `-- no session left: end
        `-----> takes over ----|-----------------------------------------------------^|
                               `-- a taker has it: hand-over done ----------------------'

A hand-over is no end but a change of places: the guard then stands behind its taker, and acts again should that one die
before it has said that the guard may leave. Who acts has :attr:`~.rights.Right.ACT`; a guard that cannot get it, though
nobody it stands behind has it, is one too many and ends.

While it stands behind somebody it waits for sockets and a pidfd: no timer, no netlink socket, nothing to wake it up.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from iscsiboot.errors import IscsiBootError
from iscsiboot.keeper import document, endings, handover, meeting
from iscsiboot.keeper.actor import HELLO, VERSION, Actor, Broke, Ended, Event, Retry, Said, Taker, TakerDesk
from iscsiboot.keeper.channel import Garbage, Message
from iscsiboot.keeper.engine import Engine, KeeperEngine, NothingLeft
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.logring import LogRing
from iscsiboot.keeper.rights import Right, Rights
from iscsiboot.keeper.seal import fault_words
from iscsiboot.keeper.values import Known, Role
from iscsiboot.session.forking import ENDING_SIGNALS
from iscsiboot.session.values import Environment

RUN = Path("/run/iscsiboot")
"""Folder of the state files, the locks and the second socket; only root writes to it."""
TAKEN_SECONDS = 3.0
"""From the document to ``taken``: the taker has only to read it. One that stands still (SIGSTOP, a frozen control
group) must not use up the patience of the next (:data:`.handover.SECONDS`); one that was only slow asks again."""
AGAIN_SECONDS = (1.0, 60.0)
"""Before acting is tried again that failed as a whole: doubled from the first to the second."""


def guard(
    known: Mapping[int, Known],
    *,
    environment: Environment,
    log: Log,
    wait_for: int | None = None,
    updates: socket.socket | None = None,
    roles: Mapping[int, Role] | None = None,
    run: Path = RUN,
    name: str = meeting.NAME,
    parent: int = 0,
    engine: Callable[[Environment, Log, Path], Engine] = KeeperEngine,
) -> None:
    """Be a guard process; returns when there is nothing left to do, and the caller ends the process with ``os._exit``.

    The caller has forked, closed what is not ours, locked memory and sealed the imports. ``known`` is by sid.
    ``wait_for`` is a pidfd, ``parent`` its process: the guard sleeps until that process is gone. ``updates`` is a
    stream socket over which that process tells what it knows (:class:`~.standby.Standby`'s other end); without a pidfd
    (before Linux 5.3) its end is the sign. With neither it guards at once, after taking over from whichever guard is
    there already. ``roles``: a session without one counts as carrying
    the system. ``run`` is visible to daemon and guard alike (the same tmpfs; in a mount namespace of its own: bind
    mounted). The descriptors given are closed.
    """

    async def life() -> None:
        if isinstance(log, LogRing):
            log.attach(asyncio.get_running_loop())
        guardian = _Guardian(known, roles or {}, environment=environment, log=log, run=run, name=name, engine=engine)
        actor = None if wait_for is None and updates is None else Actor(parent, wait_for, updates, guardian.events)
        try:
            await guardian.live(actor)
        finally:
            if isinstance(log, LogRing):
                log.detach()
                log.flush()

    asyncio.run(life())


class _Guardian:
    """The state of a guard process; everything happens in :meth:`live`, one event after the other."""

    def __init__(
        self,
        known: Mapping[int, Known],
        roles: Mapping[int, Role],
        *,
        environment: Environment,
        log: Log,
        run: Path,
        name: str,
        engine: Callable[[Environment, Log, Path], Engine],
    ) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._known = dict(known)
        self._roles = dict(roles)
        self._environment = environment
        self._log = log
        self._run = run
        self._name = name
        self._make_engine = engine
        self._rights = Rights.open(run, log)
        self._actor: Actor | None = None
        self._engine: Engine | None = None
        self._predecessor: handover.Takeover | None = None
        self._told: object = None
        self._owes_word = False
        self._failures = 0
        self._desk = TakerDesk(self.events, status=self._status)

    async def live(self, actor: Actor | None) -> None:
        """Until there is nothing left to do."""
        self._actor = actor
        self._pass_signals_over()
        place = meeting.Place(
            rights=self._rights, run=self._run, name=self._name, log=self._log, arrived=self._desk.arrived
        )
        taking: asyncio.Task[None] | None = None
        try:
            # Before we listen ourselves: it is the guard before us who is to answer.
            begun = actor is not None or await self._take_over()
            if begun and not place.take_now():
                taking = asyncio.get_running_loop().create_task(place.take())
            while begun and await self._stand_behind() and await self._claim():
                if not await self._act():
                    break
        finally:
            if taking is not None:
                taking.cancel()
            place.close()
            self._desk.close()
            if self._actor is not None:
                self._actor.close()
            self._rights.close()

    # Standing behind the process that acts. --------------------------------------------------------------------------

    async def _stand_behind(self) -> bool:
        """Wait until it is our turn; False when we may end."""
        while (actor := self._actor) is not None:
            event = await self.events.get()
            if isinstance(event, Taker):
                self._desk.keep(event)  # answered when we act: so long somebody else may still be at work
            elif isinstance(event, Said) and event.actor is actor:
                if event.message.get("leave") is True:
                    return False
                if self._take_in(event.message):
                    return True
            elif isinstance(event, Ended | Broke) and event.actor is actor and self._is_gone(event):
                return True
        return True

    def _take_in(self, message: Message) -> bool:
        """A word of the process we stand behind; whether it is our turn."""
        actor = self._actor
        if actor is None:
            return False
        if "document" in message:
            self._told = message["document"]  # looked into when it is our turn: a busy daemon sends many
            actor.say({"ready": True})
        if message.get("guard") is True:
            self._owes_word = True
            return True
        return False

    def _look_into_what_was_told(self) -> None:
        told, self._told = self._told, None
        if told is None:
            return
        found = document.read_values(told)
        self._known, self._roles = found.known, found.roles
        for problem in found.problems:
            self._log(Level.WARNING, f"of what the process before us said: {problem}")

    def _is_gone(self, event: Ended | Broke) -> bool:
        """Whether the process acts no more. One that dies loses its connection first, and its rights a moment later: as
        long as it has those, and where there are none, its pidfd tells.
        """
        if isinstance(event, Ended) or not event.actor.is_watched:
            return True
        return self._rights.kept and self._rights.holder(Right.ACT) != event.actor.pid

    # The right to act. -----------------------------------------------------------------------------------------------

    async def _take_over(self) -> bool:
        """At a start of our own: from the guard that is there; False when somebody acts who is none."""
        try:
            taken = await handover.take_over(
                run=self._run, log=self._log, now=self._environment.now, name=self._name, rights=self._rights
            )
        except IscsiBootError as error:
            self._log(Level.WARNING, f"no guard is needed here: {error.cause}")
            return False
        self._known = {**taken.known, **self._known}
        self._roles = {**taken.roles, **self._roles}
        self._predecessor = taken
        return True

    async def _claim(self) -> bool:
        """Whether we may act. It may come to standing behind somebody once more, and then to the end."""
        while not self._rights.claim(Right.ACT):
            holder = self._rights.holder(Right.ACT)
            if holder is None:
                continue  # given back between the two questions
            actor = self._actor
            if actor is None or holder != actor.pid:
                who = f"process {holder}" if holder else "a process of another PID namespace"
                self._log(Level.NOTICE, f"{who} guards the sessions; this guard is one too many and ends")
                return False
            self._give_word(guarding=False)
            if not actor.is_watched:
                await endings.process_end(holder)
            elif not await self._stand_behind():
                return False
        return True

    # Acting. ---------------------------------------------------------------------------------------------------------

    async def _act(self) -> bool:
        """Guard the sessions until a taker has them (True) or nothing is left to do (False)."""
        engine = self._make_engine(self._environment, self._log, self._run)
        try:
            self._look_into_what_was_told()
            await engine.start(self._known, self._roles, self.events)
            self._engine = engine
            self._now_in_charge()
            return await self._serve(engine)
        except Exception as error:  # noqa: BLE001 - a guard that ends for a fault of ours leaves root without one
            words = error.line() if isinstance(error, IscsiBootError) else f"a fault of ours: {fault_words(error)}"
            pause = min(AGAIN_SECONDS[0] * 2 ** min(self._failures, 10), AGAIN_SECONDS[1])
            self._failures += 1
            if self._failures.bit_count() == 1:
                # The first, the second, the fourth: at growing intervals.
                self._log(Level.ERROR, f"guarding failed: {words}; again in {pause:g} s")
        finally:
            self._engine = None
            await self._stop(engine)
        self._give_word(guarding=False)
        # Whoever it stood behind acts no more: to wait for its end a second time would be to wait for ever.
        self._leave_actor()
        # Meanwhile whoever asks may have the sessions, and perhaps do better.
        asyncio.get_running_loop().call_later(pause, self.events.put_nowait, Retry())
        return await self._serve(None)

    async def _stop(self, engine: Engine) -> None:
        try:
            await engine.stop()
        except Exception as error:  # noqa: BLE001 - as above; what it holds ends with its sockets at the latest
            self._log(Level.ERROR, f"a fault of this program: {fault_words(error)}")

    def _now_in_charge(self) -> None:
        """We act: tell who asked us to, and let the guard before us go."""
        self._failures = 0
        self._give_word(guarding=True)
        self._leave_actor()
        predecessor, self._predecessor = self._predecessor, None
        if predecessor is not None:
            predecessor.leave()

    def _leave_actor(self) -> None:
        if self._actor is not None:
            self._actor.close()
            self._actor = None

    async def _serve(self, engine: Engine | None) -> bool:
        """Answer takers, with or without an engine at work, until one has the sessions (True), or none is left."""
        self._desk.bring_back()
        while True:
            event = await self.events.get()
            if isinstance(event, Retry) and engine is None:
                return True
            if isinstance(event, NothingLeft) and event.spell is engine:
                self._log(Level.NOTICE, f"{event.words}; this guard ends")
                return False
            if isinstance(event, Taker) and await self._hand_over(event, engine):
                return True

    async def _hand_over(self, taker: Taker, engine: Engine | None) -> bool:
        """The guard's side of :mod:`.handover`; whether the taker has it now."""
        if engine is not None:
            self._known = engine.guarded()
        whole = document.dump(self._known, self._roles)
        taker.channel.send_json(b'{"%s":%d,"document":%s}' % (HELLO.encode(), VERSION, whole))
        try:
            answer = await asyncio.wait_for(taker.channel.receive(), TAKEN_SECONDS)
        except (Garbage, TimeoutError):
            answer = None
        if answer is None or answer.get("taken") is not True:
            self._log(Level.NOTICE, f"process {taker.pid} asked for the sessions and did not take them")
            taker.channel.close()
            return False
        if engine is not None:
            await self._stop(engine)
        self._actor = Actor.of_taker(taker, self.events)
        self._rights.release(Right.ACT)
        self._actor.say({"done": True})
        self._log(Level.NOTICE, f"process {taker.pid} guards the sessions now; this guard stands behind it")
        return True

    def _give_word(self, *, guarding: bool) -> None:
        if self._owes_word and self._actor is not None:
            self._actor.say({"guarding": guarding})
        self._owes_word = False

    # What people and systems want of it. -----------------------------------------------------------------------------

    def _status(self) -> Message:
        engine = self._engine
        return {
            "acts": engine is not None,
            "behind": None if self._actor is None else self._actor.pid,
            "status": [] if engine is None else engine.status(),
        }

    def _pass_signals_over(self) -> None:
        """systemd, or who stops the daemon by its group, means the daemon: its end is when a guard is needed."""
        loop = asyncio.get_running_loop()
        for number in ENDING_SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        self._log(
            Level.NOTICE,
            f"{number.name} is passed over: sessions would be without a guard; iscsid takes over when it starts",
        )
