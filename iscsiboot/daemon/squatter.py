# SPDX-License-Identifier: LGPL-2.1-or-later
"""A user's process on the daemon's address, which is an abstract name and so anybody's who comes first.

It must not keep root's daemon from guarding sessions: the daemon begins without the address, says who has it, and takes
it when that process has ended. Nothing is told to it meanwhile: iscsiadm asks the kernel who listens before it says
anything (:mod:`iscsiboot.ipc.client`). A process of root's is another matter: a second daemon, and one too many.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass

from iscsiboot.daemon.holder import descriptors
from iscsiboot.ipc.protocol import ADDRESS
from iscsiboot.ipc.server import Server, listening_socket
from iscsiboot.keeper import endings
from iscsiboot.keeper.log import Level, Log

BACKLOG = 1024
"""Clients that wait unseen: as many as ``iscsiadm -m node -L all`` of a large site makes."""


@dataclass(frozen=True, slots=True)
class Squatter:
    """Whose process has the address."""

    pid: int
    user: int


def squatter(*, proc: str = "/proc", address: str = ADDRESS) -> Squatter | None:
    """Who has ``address``, when the socket was made by a user. None also when nobody can tell.

    It counts who made it (the owner of its inode), not who has it now: a daemon of root's may go on as another user,
    and a user may have a program of root's inherit it (su, which waits for a password). Nobody is connected to, since a
    connection to systemd's socket would start a daemon.
    """
    for pid, path in sorted(descriptors(proc, address, bound=True).items()):
        try:
            user = os.stat(path).st_uid  # noqa: PTH116  # str paths, as in holder
        except OSError:
            continue  # it has ended
        return Squatter(pid, user) if user else None
    return None


async def when_free(log: Log, *, address: str = ADDRESS) -> socket.socket:
    """A socket that listens there, as soon as that can be; meanwhile a line for each who keeps us from it. OSError for
    any other reason.
    """
    told: Squatter | None = None
    while True:
        try:
            return listening_socket(address, backlog=BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        found = squatter(address=address)
        if found is not None and found != told:
            told = found
            log(
                Level.ERROR,
                f"process {found.pid} of user {found.user} sits on the socket of iscsid: sessions are guarded, but no"
                f" orders are taken until it ends; next: kill {found.pid}",
            )
        await endings.process_end(0 if found is None else found.pid)


async def serve_when_free(server: Server, log: Log, *, address: str = ADDRESS) -> None:
    """Have ``server`` take its clients there, from then on."""
    try:
        listener = await when_free(log, address=address)
    except OSError as error:
        log(Level.ERROR, f"no orders can be taken: {error.strerror}; next: restart iscsid")
        return
    await server.start(listener)
    log(Level.NOTICE, "the socket of iscsid is free, and orders are taken now")
