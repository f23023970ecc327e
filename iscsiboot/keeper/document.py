# SPDX-License-Identifier: LGPL-2.1-or-later
"""What guards tell each other of sessions, as JSON: hand-over, standby and state files carry the same text.

::

    {"iscsiboot-sessions": 1, "sessions": {"3": {"request": {...}, "role": {...}, ...}}}

Writer and reader may be of different versions (a keeper from last year's initramfs, today's daemon). So every value is
written, also one that is a default now; a reader passes over keys it does not know and takes its own default for those
it misses. What is damaged costs its own session only, and is told. A later, incompatible form has another number in
front.

Secrets are in it, in base64: it goes to root's processes and to files of mode 0600, nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.keeper.fields import Fields, Unusable
from iscsiboot.keeper.values import Known, RecordName, Role, Source, Timers
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.lun import Lun
from iscsiboot.model.names import check_iscsi_name, check_target_name
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.values import AttachRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Values = dict[str, Any]
else:
    Values = dict

LIMIT = 4 << 20
"""Bytes of a document. A session takes about 1,400: room for three thousand."""
USES_MAX = 32
"""Uses of a session by the system that are told; that there is one is what decides."""
_FORM = "iscsiboot-sessions"
_VERSION = 1
_SID_MAX = (1 << 32) - 1
_TEXTS = ("initiator_alias", "iface_name", "hwaddress", "stored_address", "boot_root", "boot_nic", "boot_target")
_DEFAULTS = SessionParams()
_REQUEST_DEFAULTS = {item.name: item.default for item in dataclasses.fields(AttachRequest) if item.name in _TEXTS}


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """What was read."""

    known: dict[int, Known] = field(default_factory=dict)
    roles: dict[int, Role] = field(default_factory=dict)
    """Of those of ``known`` whose role was told."""
    problems: tuple[str, ...] = ()
    """What could not be used, in words without secrets."""


class Writer:
    """Writes documents, one after the other; what is said of a session again costs next to nothing."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[Known, Role | None, bytes]] = {}

    def dump(self, known: Mapping[int, Known], roles: Mapping[int, Role] | None = None) -> bytes:
        """The document. Where more than :data:`LIMIT` would come together, sessions are left out, those of the system
        last: the state files and sysfs tell of them.
        """
        told = roles or {}
        text = f'{{"{_FORM}":{_VERSION},"sessions":{{'.encode()
        parts: dict[int, tuple[Known, Role | None, bytes]] = {}
        size = len(text) + 2
        for sid in sorted(known, key=lambda sid: (not told.get(sid, Role()).system, sid)):
            parts[sid] = self._part(sid, known[sid], told.get(sid))
            size += len(parts[sid][2]) + 1
            if size > LIMIT:
                del parts[sid]
                break
        self._parts = parts
        return text + b",".join(part for _, _, part in parts.values()) + b"}}"

    def _part(self, sid: int, known: Known, role: Role | None) -> tuple[Known, Role | None, bytes]:
        before = self._parts.get(sid)
        # Both are frozen, so the same object says the same.
        if before is not None and before[0] is known and before[1] == role:
            return before
        return known, role, json.dumps({str(sid): _entry(known, role)}, separators=(",", ":"))[1:-1].encode()


def dump(known: Mapping[int, Known], roles: Mapping[int, Role] | None = None) -> bytes:
    """One document; see :meth:`Writer.dump`."""
    return Writer().dump(known, roles)


def load(data: bytes) -> dict[int, Known]:
    """The sessions of a document, those that can be used; see :func:`read` for what is wrong with the others."""
    return read(data).known


def read(data: bytes, *, source: Source = Source.KEEPER) -> Document:
    """A document with the roles and what is wrong with it. Never raises for what is in it.

    ``source`` is what the sessions are marked with: who hands it on matters, not what that one had it from.
    """
    if len(data) > LIMIT:
        return Document(problems=(f"it has more than {LIMIT} bytes",))
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return Document(problems=("it is no JSON",))
    return read_values(whole, source=source)


def read_values(whole: object, *, source: Source = Source.KEEPER) -> Document:
    """The same of JSON already taken apart (a document inside a message)."""
    try:
        top = Fields(whole)
        if top.number(_FORM, low=0, high=1 << 16) != _VERSION:
            return Document(problems=(f"it is of another form than {_FORM} {_VERSION}",))
        entries = top.folder("sessions").items()
    except Unusable as error:
        return Document(problems=(f"it is no list of sessions: {error}",))
    known: dict[int, Known] = {}
    roles: dict[int, Role] = {}
    problems = []
    for name, value in entries:
        try:
            sid = _sid(name)
            entry = Fields(value)
            known[sid] = _known(entry, source)
        except ValueError as error:
            problems.append(f"session {name[:20]!r} cannot be used: {error}")
            continue
        try:
            role = entry.part("role")
            if role is not None:
                roles[sid] = read_role(role)
        except ValueError as error:
            problems.append(f"the role of session {sid} cannot be used: {error}")
    return Document(known=known, roles=roles, problems=tuple(problems))


def _sid(name: str) -> int:
    if not (name.isascii() and name.isdecimal()) or int(name[:20]) > _SID_MAX or str(int(name[:20])) != name:
        raise Unusable("that is no session number")
    return int(name)


# Writing. -------------------------------------------------------------------------------------------------------------


def _entry(known: Known, role: Role | None) -> Values:
    entry: Values = {
        "request": _request(known.request),
        "source": known.source.value,
        "unknown": list(known.unknown),
        "record": None if known.record is None else dataclasses.asdict(known.record),
        "tpgt": known.tpgt,
        "time2wait": known.time2wait,
        "reopen_max": known.reopen_max,
        "scan": known.scan,
        "pinned": None if known.pinned is None else dataclasses.asdict(known.pinned),
        "algorithm": None if known.algorithm is None else int(known.algorithm),
        "retries": None if known.retries is None else dict(known.retries),
    }
    if role is not None:
        entry["role"] = role_values(role)
    return entry


def role_values(role: Role) -> Values:
    """A role as JSON has it; :func:`read_role` is the other way round."""
    # Words for people: a machine with hundreds of mounts needs not all of them on each of its paths.
    return {
        "system": list(role.system[:USES_MAX]),
        "multipath": role.multipath,
        "carries": list(role.carries[:USES_MAX]),
    }


def _request(request: AttachRequest) -> Values:
    algorithms = request.chap_algorithms
    credentials = request.credentials
    return {
        "initiator_name": request.initiator_name,
        "target_name": request.target_name,
        "portal": {
            "address": str(request.portal.address),
            "port": request.portal.port,
            "tpgt": request.portal.tpgt,
        },
        "lun": None if request.lun is None else request.lun.wire.hex(),
        "params": {
            item.name: _plain(getattr(request.params, item.name)) for item in dataclasses.fields(request.params)
        },
        "credentials": None
        if credentials is None
        else {"outgoing": _chap(credentials.outgoing), "incoming": _chap(credentials.incoming)},
        "chap_algorithms": None if algorithms is None else [int(algorithm) for algorithm in algorithms],
        "netdev": request.netdev,
        **{name: getattr(request, name) for name in _TEXTS},
    }


def _plain(value: object) -> object:
    return value.value if isinstance(value, Digest) else value


def _chap(chap: Chap | None) -> Values | None:
    if chap is None:
        return None
    return {"name": chap.name, "secret": base64.b64encode(chap.secret.reveal()).decode("ascii")}


# Reading: each raises ValueError, with words that hold no secret. -----------------------------------------------------


def _known(entry: Fields, source: Source) -> Known:
    record = entry.part("record")
    pinned = entry.part("pinned")
    tpgt = entry.number_or_none("tpgt", low=0, high=0xFFFF)
    return Known(
        request=_read_request(entry.needed("request")),
        source=source,
        unknown=entry.texts("unknown"),
        record=None if record is None else _read_record(record),
        tpgt=tpgt,
        time2wait=entry.real("time2wait", default=2.0, high=3600.0),
        reopen_max=entry.number("reopen_max", default=0, low=0, high=(1 << 31) - 1),
        scan=entry.flag("scan", default=True),
        pinned=None if pinned is None else _read_timers(pinned),
        algorithm=_algorithm(entry.number_or_none("algorithm", low=0, high=255)),
        retries=_read_retries(entry),
    )


def _read_retries(entry: Fields) -> tuple[tuple[str, int], ...] | None:
    """As many as the session has disks. Their addresses are compared with those there are, and go nowhere else."""
    numbers = entry.part("retries")
    if numbers is None:
        return None
    # -1 is the lowest the kernel takes.
    return tuple((name, numbers.number(name, low=-1, high=(1 << 31) - 1)) for name in sorted(entry.folder("retries")))


def read_role(role: Fields) -> Role:
    """What :func:`role_values` wrote, also that of another version."""
    return Role(
        system=role.texts("system"),
        multipath=role.flag("multipath", default=False),
        carries=role.texts("carries"),
    )


def _read_record(record: Fields) -> RecordName:
    return RecordName(
        target=record.text("target"),
        tpgt=record.number("tpgt", low=-1, high=0xFFFF),
        address=record.text("address"),
        port=record.number("port", low=1, high=0xFFFF),
        iface=record.text("iface"),
    )


def _read_timers(timers: Fields) -> Timers:
    top = (1 << 31) - 1
    return Timers(
        recovery=timers.number("recovery", low=-1, high=top),
        noop_interval=timers.number("noop_interval", low=0, high=top),
        noop_timeout=timers.number("noop_timeout", low=0, high=top),
    )


def _read_request(request: Fields) -> AttachRequest:
    lun = request.text_or_none("lun")
    portal = request.needed("portal")
    netdev = request.text_or_none("netdev")
    values: Values = {name: request.text(name, default=str(_REQUEST_DEFAULTS[name])) for name in _TEXTS}
    return AttachRequest(
        initiator_name=_checked(request.text("initiator_name"), check_iscsi_name),
        target_name=_checked(request.text("target_name"), check_target_name),
        portal=Portal(
            address=parse_ip(portal.text("address")),
            port=portal.number("port", low=1, high=0xFFFF),
            tpgt=portal.number_or_none("tpgt", low=0, high=0xFFFF),
        ),
        lun=None if lun is None else Lun(bytes.fromhex(lun)),
        params=_read_params(request.part("params")),
        credentials=_read_credentials(request.part("credentials")),
        chap_algorithms=_read_algorithms(request),
        netdev=netdev,
        **values,
    )


def _checked(name: str, check: Callable[[str], str]) -> str:
    return check(name)


def _read_params(params: Fields | None) -> SessionParams:
    """Values of fields this version knows; SessionParams looks at ranges itself."""
    if params is None:
        return _DEFAULTS
    values: Values = {}
    for item in dataclasses.fields(SessionParams):
        default = getattr(_DEFAULTS, item.name)
        if isinstance(default, Digest):
            values[item.name] = Digest(params.text(item.name, default=default.value))
        elif isinstance(default, bool):
            values[item.name] = params.flag(item.name, default=default)
        else:
            values[item.name] = params.number(item.name, default=default, low=-(1 << 31), high=(1 << 32) - 1)
    return SessionParams(**values)


def _read_credentials(credentials: Fields | None) -> Credentials | None:
    if credentials is None:
        return None
    incoming = credentials.part("incoming")
    return Credentials(
        outgoing=_read_chap(credentials.needed("outgoing")),
        incoming=None if incoming is None else _read_chap(incoming),
    )


def _read_chap(chap: Fields) -> Chap:
    try:
        secret = base64.b64decode(chap.text("secret"), validate=True)
    except binascii.Error as error:
        raise Unusable("a secret is not in base64") from error
    return Chap(name=chap.text("name"), secret=Secret(secret))


def _algorithm(number: int | None) -> ChapAlgorithm | None:
    """None for one this version does not know: then the whole list is offered."""
    return next((algorithm for algorithm in ChapAlgorithm if algorithm == number), None)


def _read_algorithms(request: Fields) -> tuple[ChapAlgorithm, ...] | None:
    """Numbers this version cannot compute are left out; None, our own choice, when nothing is left."""
    known = {int(algorithm) for algorithm in ChapAlgorithm}
    numbers = request.numbers_or_none("chap_algorithms")
    if numbers is None:
        return None
    return tuple(ChapAlgorithm(number) for number in numbers if number in known) or None
