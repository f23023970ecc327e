# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program's end of the socket: synchronous, every wait with a bound, as many requests at once as there are.

Before anything is said, the kernel is asked who listens (``SO_PEERCRED``): the name is free to any user while no daemon
has it, and orders carry secrets.

Imported by iscsiadm: nothing that costs; json comes with the first line.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc.protocol import (
    ACTIONS,
    ADDRESS,
    ANSWER_MAX,
    VERSIONS,
    Answer,
    Lines,
    answer_of,
    decode,
    encode,
    failure_of,
    hello_line,
    number_of,
    refusal,
    request_line,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from typing import Any

    Object = dict[str, Any]

CONNECT_SECONDS = 30.0
"""For a place among the daemon's clients, and for its first words: a daemon that has just been started reads first what
sessions there are."""
GRACE_SECONDS = 25.0
"""Beyond a request's own time: the daemon takes back what was half made before it answers that the time is over, and
does not tell each time that it counts anew."""
_TIME = struct.Struct("@ll")
_PEER = struct.Struct("3i")
ROOT = frozenset({0})


class NobodyListens(IscsiBootError):
    """No daemon is there."""


class OtherDaemon(IscsiBootError):
    """A daemon is there that speaks another language; most likely open-iscsi's."""


class _Unheard(OtherDaemon):
    """It ended the connection without a byte."""


def connect(
    address: str = ADDRESS,
    *,
    seconds: float = CONNECT_SECONDS,
    trusted: frozenset[int] = ROOT,
    now: Callable[[], float] = time.monotonic,
) -> Client:
    """The daemon that listens at ``address``, after its first words; all of it within ``seconds``.

    :class:`NobodyListens`, :class:`OtherDaemon`, or another IscsiBootError in the daemon's words (it takes no orders of
    this user) or ours (who listens is none of the ``trusted`` users).
    """
    limit = now() + seconds
    try:
        return _connected(address, seconds, limit, trusted, now)
    except _Unheard:
        # One that ends in this moment leaves us so, too. Whoever does it twice does it to all who speak as we do.
        return _connected(address, max(1.0, limit - now()), limit, trusted, now)


def _connected(address: str, seconds: float, limit: float, trusted: frozenset[int], now: Callable[[], float]) -> Client:
    # Made first: who has a place and says nothing may lose it.
    hello = hello_line()
    link = _link(address, seconds)
    try:
        pid, uid, _ = _PEER.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid not in trusted:
            raise refusal(
                f"user {uid} (process {pid}) listens in its place and is told nothing",
                code=ExitCode.ACCESS,
                hint="end that process",
            )
        return Client(link, hello, limit, pid=pid, now=now)
    except BaseException:
        link.close()
        raise


def who_listens(address: str = ADDRESS) -> int | None:
    """The process that listens at ``address``, 0 when it is in no name space of ours; None when nobody does."""
    try:
        with _link(address, 1.0) as link:
            pid: int = _PEER.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0]
            return pid
    except NobodyListens:
        return None
    except IscsiBootError:
        return 0


def _link(address: str, seconds: float) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # A full queue makes connect(2) wait so long, while a descriptor that does not wait is told EAGAIN at once and has
    # nothing to wait for.
    whole = int(seconds)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(whole, int((seconds - whole) * 1e6) or 1))
    try:
        link.connect(address)
    except OSError as error:
        link.close()
        raise _unconnected(error, seconds) from error
    link.setblocking(False)
    return link


def _unconnected(error: OSError, seconds: float) -> IscsiBootError:
    if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
        absent = NobodyListens(
            f"can not connect to iSCSI daemon ({error.errno})!",
            stage=Stage.DAEMON,
            subject="iscsid",
            hint="start it: systemctl start iscsid.socket",
            exit_code=ExitCode.ISCSID_NOTCONN,
            retryable=True,
        )
        absent.__cause__ = error
        return absent
    words = f"it has no room for another client for {seconds:g} s" if error.errno == errno.EAGAIN else error.strerror
    return refusal(f"can not connect to it: {words}", code=ExitCode.ISCSID_NOTCONN, hint="see what it is doing")


class Client:
    """A connection to the daemon; a context manager. What it raises is an IscsiBootError, in all cases."""

    def __init__(self, link: socket.socket, hello: bytes, limit: float, *, pid: int, now: Callable[[], float]) -> None:
        """``limit``: when the answer to ``hello`` has to be there. See :func:`connect`."""
        self.pid = pid
        """The process that began to listen: the daemon, or who keeps its socket for it."""
        self._link = link
        self._now = now
        self._poll = select.poll()
        self._lines = Lines(ANSWER_MAX)
        self._unsent = bytearray()
        self._number = 0
        self._ended = False
        welcome = self._welcome(hello, limit)
        self.version = str(welcome.get("version"))
        words = welcome.get("capabilities")
        self.capabilities = frozenset(words) if isinstance(words, list) else frozenset()
        pending = welcome.get("pending")
        # Half of what it reads, so that a cancel is always read.
        self._window = max(1, pending // 2) if isinstance(pending, int) else 1

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it. Requests that only look end with it, orders go on."""
        self._link.close()

    def ask(self, action: str, fields: Mapping[str, Any] | None = None, *, seconds: float | None = None) -> Object:
        """One request; its result. Raises what the daemon says went wrong. ``seconds`` is how long it may take."""
        for _, answer in self.ask_all([(action, fields or {})], seconds=seconds):
            if answer.failure is not None:
                raise answer.failure
            return answer.result
        raise _broken()

    def ask_all(
        self,
        requests: Sequence[tuple[str, Mapping[str, Any]]],
        *,
        seconds: float | None = None,
        tick: Callable[[], None] | None = None,
        event: Callable[[int, Object], None] | None = None,
    ) -> Generator[tuple[int, Answer], None, None]:
        """All at once, as many as the daemon takes; each answer as it comes, with the index of its request.

        ``seconds`` is for each; ``tick`` is called every second, ``event`` with index and event. Leaving the iteration
        early, also by an exception, cancels what is not done and waits until it is taken back; an interruption
        (Ctrl-C) while it waits here does so too, and goes on behind the last of what was done all the same.
        """
        first = self._number + 1
        bounds = [ACTIONS[action] if seconds is None else seconds for action, _ in requests]
        lines = [
            request_line(number, action, {**fields, "seconds": bound})
            for number, ((action, fields), bound) in enumerate(zip(requests, bounds, strict=True), first)
        ]
        self._number += len(lines)
        longest = max(bounds, default=0.0) + GRACE_SECONDS
        limit = self._now() + longest
        begun = 0
        waiting: set[int] = set()
        try:
            while waiting or begun < len(lines):
                while begun < len(lines) and len(waiting) < self._window:
                    self._unsent += lines[begun]
                    waiting.add(first + begun)
                    begun += 1
                item = self._item(limit, tick)
                number = number_of(item)
                if number is None:
                    raise failure_of(item)
                answer = answer_of(item)
                if number not in waiting:
                    continue  # of what was given up
                if answer is not None:
                    waiting.discard(number)
                    # The next one has all its time from here.
                    limit = self._now() + longest
                    yield number - first, answer
                elif isinstance(item.get("event"), dict):
                    # A request that waits behind others' tells so: its time counts from here.
                    limit = max(limit, self._now() + longest)
                    if event is not None:
                        event(number - first, item["event"])
        except IscsiBootError:
            raise  # of the connection: there is nobody to tell
        except KeyboardInterrupt:
            # What was done before the daemon heard of it is there, and whoever asked has to know.
            for number, answer in self._cancel(waiting):
                if answer.failure is None:
                    yield number - first, answer
            raise
        except BaseException:
            for _ in self._cancel(waiting):
                pass
            raise

    def watch(
        self, fields: Mapping[str, Any] | None = None, *, every: float | None = None, reader: int | None = None
    ) -> Iterator[Object | None]:
        """Events, for ever; with ``every`` also None whenever so many seconds passed without one.

        ``reader`` is the descriptor they are written to: BrokenPipeError as soon as nobody reads it any more.
        The daemon ends a watch after an hour, so that none is forgotten; it is asked for again.
        """
        if reader is not None:
            self._poll.register(reader, 0)  # an end is told unasked
        while True:
            self._number += 1
            number = self._number
            seconds = ACTIONS["watch"]
            limit = self._now() + seconds + GRACE_SECONDS
            self._unsent += request_line(number, "watch", {**(fields or {}), "seconds": seconds})
            while True:
                item = self._next(limit if every is None else min(limit, self._now() + every))
                if item is None:
                    if self._now() >= limit:
                        raise _silent()
                    yield None
                    continue
                answer = answer_of(item)
                if answer is None:
                    if number_of(item) == number and isinstance(item.get("event"), dict):
                        yield item["event"]
                elif number_of(item) in (number, None):
                    if answer.failure is not None and answer.failure.exit_code != ExitCode.REQ_TIMEDOUT:
                        raise answer.failure
                    break

    # Below. -----------------------------------------------------------------------------------------------------------

    def _welcome(self, hello: bytes, limit: float) -> Object:
        self._unsent += hello
        try:
            item = self._next(limit)
        except IscsiBootError as error:
            raise _other(self.pid, _Unheard if self._ended and not self._lines.begun else OtherDaemon) from error
        if item is None:
            raise _silent()
        if item.get("ok") is not True:
            raise failure_of(item)
        if item.get("iscsiboot") not in range(VERSIONS[0], VERSIONS[1] + 1):
            raise _other(self.pid)
        return item

    def _cancel(self, waiting: set[int]) -> Iterator[tuple[int, Answer]]:
        """Have the daemon take back what it is doing, and say how each of it ended.

        A second interruption leaves it alone with that.
        """
        if not waiting or self._ended:
            return
        self._number += 1
        self._unsent += encode({"iscsiboot": VERSIONS[1], "id": self._number, "do": "cancel", "of": sorted(waiting)})
        limit = self._now() + GRACE_SECONDS
        try:
            while waiting:
                item = self._next(limit)
                if item is None:
                    return
                number = number_of(item)
                if number is None:
                    return
                answer = answer_of(item)
                if answer is not None and number in waiting:
                    waiting.discard(number)
                    yield number, answer
        except IscsiBootError:
            return  # gone: nobody is left to tell

    def _item(self, limit: float, tick: Callable[[], None] | None) -> Object:
        """The next object, with a call of ``tick`` each second until then."""
        while True:
            item = self._next(min(limit, self._now() + 1.0) if tick else limit)
            if item is not None:
                return item
            if self._now() >= limit:
                raise _silent()
            if tick:
                tick()

    def _next(self, limit: float) -> Object | None:
        """The next object, None when there is none by ``limit``. Sends what is to be sent meanwhile."""
        while True:
            line = self._lines.take()
            if line is not None:
                return decode(line)
            if self._ended:
                raise _broken()
            wanted = select.POLLIN | (select.POLLOUT if self._unsent else 0)
            self._poll.register(self._link, wanted)
            remaining = limit - self._now()
            ready = self._poll.poll(max(0, int(remaining * 1000) + 1) if remaining > 0 else 0)
            if not ready:
                if remaining <= 0:
                    return None
                continue
            moved = dict(ready).get(self._link.fileno())
            if moved is None:
                raise BrokenPipeError(errno.EPIPE, "nobody reads what is written")
            self._move(moved)

    def _move(self, ready: int) -> None:
        """Send and take what can be."""
        if ready & select.POLLOUT and self._unsent:
            try:
                del self._unsent[: self._link.send(self._unsent)]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._unsent.clear()  # it hears no more; why, it may have said
        if ready & ~select.POLLOUT:
            try:
                data = self._link.recv(1 << 18)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            self._ended = not data
            self._lines.feed(data)


def _other(pid: int, kind: type[OtherDaemon] = OtherDaemon) -> IscsiBootError:
    return kind(
        "iscsid is running, but it is not one that this program can talk to",
        stage=Stage.DAEMON,
        subject=f"process {pid}" if pid else "iscsid",
        hint="stop it, and start the one that belongs to this program",
        exit_code=ExitCode.ISCSID_COMM_ERR,
    )


def _broken() -> IscsiBootError:
    return refusal("the connection to it ended, daemon died?", code=ExitCode.ISCSID_COMM_ERR, hint="see its log")


def _silent() -> IscsiBootError:
    return refusal("it does not answer", code=ExitCode.REQ_TIMEDOUT, hint="see its log, and what it is doing")
