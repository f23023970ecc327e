# SPDX-License-Identifier: LGPL-2.1-or-later
"""One cell of the peers' matrix, carried out through the real stack: discovery, login, NOP, SCSI, data, logout."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Sequence
from typing import TypeVar

from iscsiboot.initiator import scsi
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.connection import Event
from iscsiboot.initiator.discovery import ALL
from iscsiboot.initiator.errors import LoginError
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.negotiation import Negotiated
from iscsiboot.initiator.session_events import GOOD, CommandFinished, LoggedOut, Pong, Remark, ScsiResult
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import Digest
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.discover import DISCOVERY_PARAMS, discover, discovery_config
from iscsiboot.session.open_link import open_link
from iscsiboot.session.tcp import TcpLink
from tests.doubles.peers import Peer
from tests.interop.matrix_table import AGREED, DISCOVERY_DIGESTS, HABITS, SILENT_LOGOUT, Agreed, Auth, Cell, Refused

T = TypeVar("T")

INITIATOR = "iqn.2026-11.example.iscsiboot:tests"
CELL_SECONDS = 60.0
BLOCK = 512
ATTENTIONS = 8
"""Unit attentions a fresh session may have waiting, at most."""


class Unexpected(AssertionError):
    """A cell did not do what its table says."""


def carry_out(cell: Cell, peer: Peer, names: Sequence[str]) -> str:
    """Do everything the cell is about; what the matrix shows of it. :class:`Unexpected` says what went wrong.

    ``names`` are all targets of the peer.
    """
    deadline = Deadline.after(CELL_SECONDS, now=time.monotonic(), reason=f"the cell {cell.identity}")
    portal = Portal(address=parse_ip(peer.address), port=peer.port)
    config = LoginConfig(
        initiator_name=INITIATOR,
        target_name=cell.target,
        isid=b"\x80" + os.urandom(5),
        params=cell.params,
        credentials=cell.credentials,
    )
    if cell.refused is not None:
        return _refused(cell, cell.refused, portal, config, deadline)
    if not cell.control:
        _discover(cell, portal, names, deadline)
    link, login = open_link(portal, config, deadline=deadline)
    with link:
        _check_login(cell, login)
        session = Session(link, Lun.from_number(peer.lun), deadline)
        session.exercise(login.negotiated, seed=cell.identity)
        answered = session.log_out()
    habits = HABITS[cell.peer]
    if not answered:
        if cell.peer not in SILENT_LOGOUT:
            raise Unexpected("the target closed the connection instead of answering the Logout Request")
        habits = habits[:-1]
    if len(session.remarks) != len(habits) or not all(map(re.fullmatch, habits, session.remarks)):
        raise Unexpected(f"remarks: {session.remarks}")
    if cell.remark:
        return f"works: {login.remarks[0]}"
    algorithm = f", {login.algorithm.name}" if login.algorithm else ""
    return f"works{algorithm}"


def _refused(cell: Cell, refused: Refused, portal: Portal, config: LoginConfig, deadline: Deadline) -> str:
    try:
        link, _ = open_link(portal, config, deadline=deadline)
    except LoginError as error:
        if not re.search(refused.words, error.cause) or error.exit_code != refused.exit_code:
            raise Unexpected(f"{error.line()} (exit code {int(error.exit_code)})") from error
        if error.retryable is not refused.retryable:
            raise Unexpected(f"retryable: {error.retryable}: {error.line()}") from error
        return f"refused: {error.cause}"
    link.close()
    raise Unexpected(f"the login succeeded in spite of: {cell.control}")


def _discover(cell: Cell, portal: Portal, names: Sequence[str], deadline: Deadline) -> None:
    params = cell.params if cell.peer in DISCOVERY_DIGESTS else DISCOVERY_PARAMS
    config = discovery_config(initiator_name=INITIATOR, entropy=os.urandom, params=params)
    for what, expected in ((ALL, sorted(names)), (cell.target, [cell.target])):
        found: list[str] = []
        refused: list[str] = []
        done = discover(
            portal,
            config,
            what=what,
            deadline=deadline,
            on_target=lambda target, found=found: found.append(target.name),  # type: ignore[misc]  # a bound default
            on_refused=refused.append,
        )
        if sorted(found) != expected or refused or not done.logged_out:
            raise Unexpected(f"SendTargets={what}: {found}, refused {refused}, logged out: {done.logged_out}")


def _check_login(cell: Cell, login: LoginSucceeded) -> None:
    agreed = login.negotiated
    seen = Agreed(
        segment=agreed.max_xmit_data_segment_length,
        first_burst=agreed.first_burst_length,
        max_burst=agreed.max_burst_length,
        initial_r2t=agreed.initial_r2t,
        immediate=agreed.immediate_data,
    )
    if seen != AGREED[cell.peer, cell.limits]:
        raise Unexpected(f"agreed on {seen}")
    _, header, data = cell.digests.value
    if (agreed.header_digest, agreed.data_digest) != (header is not Digest.NONE, data is not Digest.NONE):
        raise Unexpected(f"digests: header {agreed.header_digest}, data {agreed.data_digest}")
    if (login.algorithm is not None) != (cell.auth is not Auth.NONE) or login.mutual != (cell.auth is Auth.MUTUAL):
        raise Unexpected(f"authentication: {login.algorithm}, mutual {login.mutual}")
    if cell.remark not in "".join(login.remarks) or bool(cell.remark) != bool(login.remarks):
        raise Unexpected(f"remarks of the login: {login.remarks}")


class Session:
    """A session in full feature phase and what was asked of it."""

    def __init__(self, link: TcpLink, lun: Lun, deadline: Deadline) -> None:
        self._link = link
        self._lun = lun
        self._deadline = deadline
        self.remarks: list[str] = []

    def exercise(self, agreed: Negotiated, *, seed: str) -> None:
        """Pings, a look at the disk, then random data of sizes around each limit, written and read back."""
        chance = random.Random(seed)
        for length in (0, 1, 509, min(agreed.max_xmit_data_segment_length, agreed.max_recv_data_segment_length)):
            self._ping(chance.randbytes(length))
        self._attentions()
        if self._ask(scsi.inquiry()).device_type != scsi.DeviceType.DISK:
            raise Unexpected("the LUN is no disk")
        capacity = self._ask(scsi.read_capacity_10())
        if capacity is None or capacity.block_size != BLOCK:
            raise Unexpected(f"capacity: {capacity}")
        if self._ask(scsi.read_capacity_16()).size != capacity.size:
            raise Unexpected("the two READ CAPACITY commands differ")
        for number, blocks in enumerate(sizes(agreed)):
            lba = 1 + number * 8192 + chance.randrange(64)
            data = chance.randbytes(blocks * BLOCK)
            cdb = bytes([0x2A, 0, *lba.to_bytes(4, "big"), 0, *blocks.to_bytes(2, "big"), 0])
            self._good(cdb, data_out=data)
            if self._ask(scsi.read(lba, blocks, BLOCK)) != data:
                raise Unexpected(f"{len(data)} bytes at block {lba} came back as others")

    def log_out(self) -> bool:
        """Leave in order; False when the target took the request and closed the connection without an answer."""
        tag = self._link.session().logout(time.monotonic())
        event = self._next()
        if not isinstance(event, LoggedOut) or event.tag != tag or event.response not in (0, None):
            raise Unexpected(f"logout: {event}")
        return event.response is not None

    def _ping(self, data: bytes) -> None:
        tag = self._link.session().ping(time.monotonic(), data)
        if (event := self._next()) != Pong(tag=tag, data=data):
            raise Unexpected(f"ping of {len(data)} bytes: {event}")

    def _attentions(self) -> None:
        for _ in range(ATTENTIONS):
            if self._command(bytes(6)).status == GOOD:
                return
        raise Unexpected("the LUN does not become ready")

    def _ask(self, request: scsi.Request[T]) -> T:
        return request.parse(self._good(request.cdb, read_length=request.length).data)

    def _good(self, cdb: bytes, *, read_length: int = 0, data_out: bytes = b"") -> ScsiResult:
        result = self._command(cdb, read_length=read_length, data_out=data_out)
        if result.status != GOOD or result.overflow or (data_out and result.residual):
            raise Unexpected(f"command {cdb.hex()}: {result}")
        return result

    def _command(self, cdb: bytes, *, read_length: int = 0, data_out: bytes = b"") -> ScsiResult:
        connection = self._link.session()
        tag = connection.command(self._lun, cdb, now=time.monotonic(), read_length=read_length, data_out=data_out)
        event = self._next()
        if not isinstance(event, CommandFinished) or event.tag != tag:
            raise Unexpected(f"command {cdb.hex()}: {event}")
        return event.result

    def _next(self) -> Event:
        while isinstance(event := self._link.next_event(self._deadline), Remark):
            self.remarks.append(event.text)
        return event


def sizes(agreed: Negotiated) -> list[int]:
    """Numbers of blocks far below, at and above FirstBurstLength, and above MaxBurstLength."""
    first, most = agreed.first_burst_length // BLOCK, agreed.max_burst_length // BLOCK
    return [1, first, first + 1, most + 3]
