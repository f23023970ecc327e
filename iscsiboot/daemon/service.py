# SPDX-License-Identifier: LGPL-2.1-or-later
"""Requests over the socket as what the Keeper does: values checked here, exit codes as open-iscsi's clients know them.

A request that comes before every session is taken over waits for that: its client shall not be told that a session is
not there which is only not looked at yet. Each has the seconds it came with, or those of its kind, so nobody waits for
ever (:mod:`iscsiboot.ipc.serving` ends it then).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any, Protocol

from iscsiboot.daemon.logout_guard import LogoutGuard
from iscsiboot.daemon.records import name_of, order_of
from iscsiboot.daemon.settings import Places, Settings
from iscsiboot.database.initiator_name import InitiatorName
from iscsiboot.database.keys import BY_KIND
from iscsiboot.database.record import Record, compiled
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc.protocol import Request
from iscsiboot.ipc.serving import Reply
from iscsiboot.keeper.keeper import Keeper
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.port import Hands
from iscsiboot.keeper.situation import Phase
from iscsiboot.keeper.values import Status, Timers
from iscsiboot.model.names import InvalidName, check_iscsi_name
from iscsiboot.netlink.statistics import ConnectionStatistics
from iscsiboot.orders.client_failure import client_failure
from iscsiboot.session.values import Attached

Result = dict[str, Any]

_AT_ONCE = frozenset({"stop", "config", "status"})
"""What needs no session; status shows how far the daemon is while it takes over."""
TIMER_MAX = 86400 * 365
"""Seconds; the kernel multiplies by its clock's frequency."""
BOOT_TEXTS = 3
"""Root, NIC and target of the firmware a record is from."""


class Host(Protocol):
    """The daemon around the service."""

    @property
    def settings(self) -> Settings:
        """Those in effect."""

    async def kernel(self) -> None:
        """The kernel's iSCSI is there and listened to; IscsiBootError when it cannot be."""

    def stop(self) -> None:
        """Begin to end."""

    def about(self) -> Result:
        """The daemon itself, for ``status``."""


class Service:
    """The handler of :class:`iscsiboot.ipc.server.Server`."""

    def __init__(self, keeper: Keeper, host: Host, places: Places, *, hands: Hands, log: Log) -> None:
        self._keeper = keeper
        self._host = host
        self._places = places
        self._log = log
        self._guard = LogoutGuard(places=places, hands=hands)
        self._open = asyncio.Event()
        self._actions: dict[str, Callable[[Request, Reply], Awaitable[Result]]] = {
            "login": self._login,
            "logout": self._logout,
            "rescan": self._rescan,
            "stats": self._stats,
            "status": self._status,
            "watch": self._watch,
            "set": self._set,
            "reconnect": self._reconnect,
            "settle": self._settle,
            "stop": self._stop,
            "config": self._config,
        }

    @property
    def actions(self) -> tuple[str, ...]:
        """What can be asked for; the daemon's capabilities."""
        return tuple(self._actions)

    def open(self) -> None:
        """Every session is taken over: begin with the requests that wait."""
        self._open.set()

    async def handle(self, request: Request, reply: Reply) -> Result:
        """Do what is asked; see :class:`iscsiboot.ipc.serving.Handler`."""
        action = self._actions.get(request.action)
        if action is None:
            raise IscsiBootError(
                f"{request.action} is nothing this daemon does",
                stage=Stage.DAEMON,
                subject="iscsid",
                hint="iscsiadm and iscsid should be of one version",
                exit_code=ExitCode.INVALID_MGMT_REQ,
            )
        if request.action not in _AT_ONCE:
            await self._open.wait()
        return await action(request, reply)

    # Orders. ----------------------------------------------------------------------------------------------------------

    async def log_in(
        self,
        record: Record,
        *,
        seconds: float,
        wanted: int = 1,
        boot: tuple[str, str, str] = ("", "", ""),
        settings: Settings | None = None,
        remark: Callable[[str], None],
        prolonged: Callable[[], None] | None = None,
    ) -> Attached:
        """Make a session of ``record``: ``wanted`` of them may be there in all, 0 for one more in any case.

        ``prolonged``: as :meth:`iscsiboot.keeper.keeper.Keeper.login` has it.
        IscsiBootError with the exit code a client of open-iscsi is told.
        """
        order = order_of(record, settings or self._host.settings, self._places, boot=boot, remark=remark)
        await self._host.kernel()
        try:
            made = await self._keeper.login(
                order, record=name_of(record), seconds=seconds, wanted=wanted, prolonged=prolonged
            )
        except IscsiBootError as error:
            raise client_failure(error) from error
        # The peer's words, which people look for in the log.
        self._log(Level.NOTICE, f"Connection{made.sid}:0 to {_place_words(record)} is operational now")
        return made

    async def log_out_unused(self, sid: int, seconds: float) -> None:
        """End a session that has nothing mounted on it; IscsiBootError (exit code 28) when something is."""
        await self._guard.refuse_in_use(sid, safe_logout=True)
        await self._keeper.logout(sid, force=False, seconds=seconds)

    async def _login(self, request: Request, reply: Reply) -> Result:
        record, settings, name = _record_of(request), self._host.settings, request.text("name", "")
        try:
            attached = await self.log_in(
                record,
                seconds=request.seconds,
                wanted=request.integer("wanted", 1),
                boot=_boot_of(request),
                settings=_renamed(request, settings, name) if name else settings,
                remark=reply.note,
                prolonged=reply.count_anew if request.flag("patient") else None,
            )
        except IscsiBootError as error:
            if not request.detach:  # of these the server tells the log itself, nobody else hears of them
                self._log(Level.ERROR, f"login to {_place_words(record)} failed: {error.line()}")
            raise
        return {"sid": attached.sid, "host": attached.host, "portal": attached.portal.endpoint}

    async def _logout(self, request: Request, reply: Reply) -> Result:
        sid, insist = request.integer("sid"), request.flag("insist")
        before = self._status_of(sid)
        if not insist:
            await self._guard.refuse_in_use(sid, safe_logout=self._host.settings.safe_logout)
        if insist and before.phase == Phase.UP.value:
            # A target that answers is told that we leave; one that does not is not waited for longer than this.
            try:
                await self._keeper.logout(sid, force=False, seconds=request.seconds / 2)
            except IscsiBootError as error:
                reply.note(f"{error.line()}; it is ended without the target")
            else:
                return {"sid": sid}
        await self._keeper.logout(sid, force=insist, seconds=request.seconds)
        return {"sid": sid}

    async def _rescan(self, request: Request, reply: Reply) -> Result:
        for line in await self._keeper.rescan(request.integer("sid"), request.seconds):
            reply.note(line)
        return {}

    async def _set(self, request: Request, _reply: Reply) -> Result:
        timers = request.fields.get("timers")
        if not isinstance(timers, Mapping):
            raise request.wrong("timers", "an object of numbers")
        sid = request.integer("sid")
        now = self._status_of(sid)
        values = {
            "recovery": _timer(request, timers, "recovery", now.recovery_tmo, least=-1),
            "noop_interval": _timer(request, timers, "noop_interval", now.noop_interval),
            "noop_timeout": _timer(request, timers, "noop_timeout", now.noop_timeout),
        }
        await self._keeper.set_timers(sid, Timers(**values))
        return {"timers": values}

    async def _reconnect(self, request: Request, _reply: Reply) -> Result:
        await self._keeper.reconnect(request.integer("sid"))
        return {}

    async def _settle(self, _request: Request, _reply: Reply) -> Result:
        """Nothing to do: what others left half made was completed or removed when this daemon began, and what it makes
        itself it takes back itself.
        """
        return {"lines": []}

    async def _stop(self, request: Request, _reply: Reply) -> Result:
        self._log(Level.NOTICE, f"told to stop by a client (user {request.uid}); no session is touched")
        # After the answer is on its way: the server closes when the daemon ends.
        asyncio.get_running_loop().call_soon(self._host.stop)
        return {}

    # Questions. -------------------------------------------------------------------------------------------------------

    async def _stats(self, request: Request, _reply: Reply) -> Result:
        counters: ConnectionStatistics = await self._keeper.statistics(request.integer("sid"))
        return {
            "counters": [[name, value] for name, value in counters.counters],
            "custom": [[name, value] for name, value in counters.custom],
        }

    async def _status(self, request: Request, _reply: Reply) -> Result:
        if "sid" in request.fields:
            return {"sessions": [asdict(self._status_of(request.integer("sid")))]}
        return {"daemon": self._host.about(), "sessions": [asdict(status) for status in self._keeper.statuses()]}

    async def _watch(self, _request: Request, reply: Reply) -> Result:
        """Every status now, each change from then on; the end of the time or of the client is the end of it."""
        async with aclosing(self._keeper.changes()) as changes:
            for status in self._keeper.statuses():
                reply.event({"session": asdict(status)})
            reply.event({"complete": True})
            async for status in changes:
                reply.event({"session": asdict(status)})
        return {}

    async def _config(self, _request: Request, _reply: Reply) -> Result:
        settings = self._host.settings
        initiator = settings.initiator
        return {
            "initiator_name": "" if initiator is None else initiator.name,
            "alias": "" if initiator is None else initiator.alias,
            "config_file": self._places.config,
            "safe_logout": settings.safe_logout,
        }

    def _status_of(self, sid: int) -> Status:
        found = self._keeper.statuses(sid)
        if not found:
            raise IscsiBootError(
                "there is no such session",
                stage=Stage.SESSION,
                subject=f"session {sid}",
                hint="`iscsiboot status` lists them",
                exit_code=ExitCode.SESS_NOT_FOUND,
            )
        return found[0]


def _place_words(record: Record) -> str:
    """Where a record leads, as the peer's log has it."""
    key = record.node_key
    return f"[target: {key.target}, portal: {key.address},{key.port}] through [iface: {key.iface}]"


def _record_of(request: Request) -> Record:
    """The node record a request carries: what it does not say is at its default, what a later release says is left."""
    known = BY_KIND["node"]
    values = {name: text for name, text in request.texts("record").items() if name in known}
    try:
        return Record("node", compiled("node")).changed(values)
    except ValueError:
        # Without the reason: it repeats the value, which may be a secret.
        raise request.wrong("record", "a node record") from None


def _boot_of(request: Request) -> tuple[str, str, str]:
    """Firmware's root, NIC and target; empty for a record that is not its."""
    value = request.fields.get("boot", ["", "", ""])
    if not isinstance(value, list) or len(value) != BOOT_TEXTS or not all(isinstance(text, str) for text in value):
        raise request.wrong("boot", "a list of three texts")
    root, nic, target = value
    return root, nic, target


def _renamed(request: Request, settings: Settings, name: str) -> Settings:
    """With the initiator name a client insists on."""
    alias = "" if settings.initiator is None else settings.initiator.alias
    try:
        return replace(settings, initiator=InitiatorName(check_iscsi_name(name), alias, "the request"))
    except InvalidName as error:
        raise request.wrong("name", f"an iSCSI name: {error}") from error


def _timer(request: Request, timers: Mapping[str, object], name: str, now: int | None, *, least: int = 0) -> int:
    """One of the live values; what is not named stays as it is."""
    value = timers.get(name, now)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= TIMER_MAX:
        raise request.wrong(name, f"a whole number of seconds from {least} to {TIMER_MAX}")
    return value
