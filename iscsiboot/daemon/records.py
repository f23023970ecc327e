# SPDX-License-Identifier: LGPL-2.1-or-later
"""Node records as what a guard knows of a session: found at an adoption, read again when a secret was refused.

A record lies on a disk that may be the very one that is gone, and its portal may be a name that the name service, on a
network that is gone, is asked for. So each reading is a hand's (:mod:`iscsiboot.keeper.hands`); what it found comes
back as a document of :mod:`iscsiboot.keeper.document`, secrets included, over a pipe of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from iscsiboot.daemon.settings import Places, Settings
from iscsiboot.database.initiator_name import InitiatorName
from iscsiboot.database.names import UNKNOWN_TAG, NodeKey, Pattern
from iscsiboot.database.record import Record
from iscsiboot.database.store import Database
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc.protocol import failure_members, failure_of
from iscsiboot.keeper import document
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.port import Hands
from iscsiboot.keeper.values import Known, RecordName, Source
from iscsiboot.model.portal import NamedPortal, Portal
from iscsiboot.orders.login_request import login_order
from iscsiboot.session.login import LoginOrder
from iscsiboot.session.resolve import resolve
from iscsiboot.session.workers import Answer

READ_SECONDS = 30.0
"""For one record, its name's resolution included."""
ALL_SECONDS = 10.0
"""For the records of every session at an adoption: after it they are guarded with what sysfs tells. Longer would keep
the very session waiting that carries the disk the records lie on."""
REOPEN_MAX = "node.session.reopen_max"
NAMELESS = "iqn.2016-04.com.open-iscsi:nameless"
"""Stands where a session's own name will."""

Remark = Callable[[str], None]
Resolve = Callable[[NamedPortal], Portal]


def order_of(
    record: Record, settings: Settings, places: Places, *, boot: tuple[str, str, str], remark: Remark
) -> LoginOrder:
    """The login a record asks for, under this machine's name; IscsiBootError when there is nothing to log in with."""
    initiator = settings.initiator
    if initiator is None:
        raise _unnamed(settings)
    return login_order(
        record,
        initiator_name=initiator.name,
        initiator_alias=initiator.alias,
        boot=boot,
        sysfs=places.sysfs,
        remark=remark,
    )


def _unnamed(settings: Settings) -> IscsiBootError:
    """Open-iscsi's daemon answers 5 when it has no name."""
    why = settings.unnamed
    return IscsiBootError(
        "this machine has no initiator name" if why is None else why.cause,
        stage=Stage.LOGIN,
        subject="" if why is None else why.subject,
        hint="`iscsi-iname -g` prints a line for /etc/iscsi/initiatorname.iscsi; then have the daemon read it (SIGHUP)",
        exit_code=ExitCode.LOGIN,
    )


def name_of(record: Record) -> RecordName:
    """Where a record is, by what it says."""
    key = record.node_key
    return RecordName(target=key.target, tpgt=key.tpgt, address=key.address, port=key.port, iface=key.iface)


def known_of(record: Record, settings: Settings, places: Places, *, remark: Remark, resolve: Resolve | None) -> Known:
    """What a record tells of its session. ``resolve`` asks the name service, so it is for hands alone; without it the
    address of a name stays :data:`~iscsiboot.session.login.UNRESOLVED`.
    """
    order = order_of(record, settings, places, boot=("", "", ""), remark=remark)
    request = order.request
    if resolve is not None and isinstance(order.portal, NamedPortal):
        request = replace(request, portal=resolve(order.portal))
    name = name_of(record)
    return Known(
        request=request,
        source=Source.RECORD,
        record=name,
        tpgt=None if name.tpgt == UNKNOWN_TAG else name.tpgt,
        reopen_max=max(0, record.number(REOPEN_MAX)),
        scan=order.scan,
    )


def renewed(old: Known, fresh: Known) -> Known:
    """``old`` with what may change under a session that lives: secrets, and where its portal's name leads.

    Sizes and digests stay: the session has negotiated them, and its commands in the queue count on them.
    """
    changed = replace(
        old.request,
        credentials=fresh.request.credentials,
        chap_algorithms=fresh.request.chap_algorithms,
        portal=fresh.request.portal,
    )
    return replace(
        old, request=changed, reopen_max=fresh.reopen_max, unknown=() if fresh.request.credentials else old.unknown
    )


class Records:
    """Reads records for the daemon's guards."""

    def __init__(self, places: Places, settings: Callable[[], Settings], *, hands: Hands, log: Log) -> None:
        """``settings`` are those in effect: SIGHUP makes others."""
        self._places = places
        self._settings = settings
        self._hands = hands
        self._log = log
        self._noted: dict[RecordName | None, frozenset[str]] = {}
        """What was remarked when a record was read last; None for all of them together."""

    async def renew(self, known: Known) -> Known | None:
        """The same session with the secrets its record has now; None when it has none, or is not there any more."""
        name = known.record
        if name is None:
            return None
        job = partial(_read_one, name, self._settings(), self._places)
        found = await self._found(job, READ_SECONDS, f"reading the record of {name.target}", name)
        fresh = found.get(0)
        return None if fresh is None else renewed(known, fresh)

    async def of_sessions(self, names: Sequence[RecordName]) -> Mapping[RecordName, Known]:
        """What records tell of the sessions of these names, whose tag is -1 where the kernel does not tell it; those
        without a record are left out. One hand for all of them, and no name is resolved: the adoption prefers the
        address the connection leads to.

        Never fails: what cannot be read is told, and the sessions are guarded by what sysfs tells.
        """
        if not names:
            return {}
        job = partial(_read_all, tuple(names), self._settings(), self._places)
        try:
            found = await self._found(job, ALL_SECONDS, "reading the records of the sessions")
        except IscsiBootError as error:
            self._log(Level.WARNING, error.line())
            return {}
        return {names[index]: known for index, known in found.items() if index < len(names)}

    async def _found(
        self, job: Callable[[], Answer], seconds: float, what: str, name: RecordName | None = None
    ) -> dict[int, Known]:
        ended = await self._hands.run(job, seconds=seconds, what=what)
        if ended.answer is None:
            raise IscsiBootError(
                ended.problem,
                stage=Stage.DATABASE,
                subject=what,
                hint=f"look at {self._places.database}: is its disk there",
                exit_code=ExitCode.IDBM,
                retryable=True,
            )
        # A target that refuses us has its record read again every half minute, and told about once.
        notes = ended.answer["notes"]
        for note in notes:
            if note not in self._noted.get(name, ()):
                self._log(Level.NOTICE, note)
        self._noted.pop(name, None)
        if notes:
            self._noted[name] = frozenset(notes)
        if "message" in ended.answer:
            raise failure_of(ended.answer)
        return document.read(ended.answer["known"].encode(), source=Source.RECORD).known


def _answer(known: Mapping[int, Known], notes: Sequence[str]) -> Answer:
    return {"known": document.dump(known).decode(), "notes": list(dict.fromkeys(notes))}


def _read_one(name: RecordName, settings: Settings, places: Places) -> Answer:
    """A hand's job: one record."""
    notes: list[str] = []
    key = NodeKey(name.target, name.address, name.port, name.tpgt, name.iface)
    try:
        record = Database(places.database, notice=notes.append).read_node(key)
        if record is None:
            return _answer({}, notes)
        return _answer({0: known_of(record, settings, places, remark=notes.append, resolve=resolve)}, notes)
    except IscsiBootError as error:
        return {**failure_members(error), "notes": notes}


def _read_all(names: Sequence[RecordName], settings: Settings, places: Places) -> Answer:
    """A hand's job: the record of each session, by its place in ``names``. A bad one costs itself only."""
    notes: list[str] = []
    found: dict[int, Known] = {}
    database = Database(places.database, notice=notes.append)
    for index, name in enumerate(names):
        try:
            record = record_of(name, database)
            if record is not None:
                found[index] = known_of(record, _named(settings), places, remark=notes.append, resolve=None)
        except IscsiBootError as error:
            notes.append(error.line())
    return _answer(found, notes)


def _named(settings: Settings) -> Settings:
    """A session goes on under the name it has, which the adoption knows; a machine without one is no obstacle here."""
    if settings.initiator is not None:
        return settings
    return replace(settings, initiator=InitiatorName(NAMELESS, "", "nobody"))


def record_of(name: RecordName, database: Database) -> Record | None:
    """The record a session was made from: that of its portal, tag and interface, or one without a tag at its portal.

    By the text of the address the login was asked for, which the kernel keeps letter by letter.
    """
    portal = Pattern(target=name.target, address=name.address, port=name.port)
    for key in database.node_keys(portal):
        if key.tpgt == UNKNOWN_TAG or (key.iface == name.iface and name.tpgt in (UNKNOWN_TAG, key.tpgt)):
            return database.read_node(key)
    return None
