# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a target says about targets: SendTargets records, honest and hostile (RFC 7143 appendix C)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

Records = Callable[[str], Iterable[bytes]]
"""From the value of SendTargets to pieces of text; the pieces need not be whole records, nor ever end."""


@dataclass(frozen=True)
class Served:
    """One target and where it is served; without addresses the portal that was asked is meant."""

    name: str
    addresses: Sequence[str] = ()
    """``host[:port][,tag]`` each."""

    def record(self) -> bytes:
        """As it stands on the wire."""
        return record(self.name.encode(), *(address.encode() for address in self.addresses))


def record(name: bytes, *addresses: bytes) -> bytes:
    """A record of any bytes."""
    return b"TargetName=" + name + b"\0" + b"".join(b"TargetAddress=" + address + b"\0" for address in addresses)


def directory(served: Iterable[Served]) -> Records:
    """An honest portal's answers."""
    known = list(served)

    def answer(what: str) -> Iterator[bytes]:
        return (target.record() for target in known if what in ("All", target.name))

    return answer


def numbered(count: int, *, addresses: Sequence[str] = ("192.0.2.1:3260,1",)) -> Records:
    """``count`` targets, made as they are sent."""
    return lambda what: (
        Served(f"iqn.2004-01.com.example:disk{number:05}", addresses).record() for number in range(count)
    )


def always(*pieces: bytes) -> Records:
    """These bytes, whatever is asked."""
    return lambda what: pieces


def endless(piece: bytes) -> Records:
    """The same bytes for ever."""
    return lambda what: itertools.repeat(piece)


def segments(pieces: Iterable[bytes], limit: int, *, whole_pairs: bool = False) -> Iterator[tuple[bytes, bool]]:
    """``pieces`` as data segments of at most ``limit`` bytes, each with whether it is the last; lazily.

    ``whole_pairs`` cuts after a NUL where there is one. One segment ahead is made, to know the last one.
    """
    ready: bytes | None = None
    buffer = b""
    for piece in pieces:
        buffer += piece
        while len(buffer) > limit:
            cut = (buffer.rfind(b"\0", 0, limit) + 1 or limit) if whole_pairs else limit
            if ready is not None:
                yield ready, False
            ready, buffer = buffer[:cut], buffer[cut:]
    if ready is not None:
        yield ready, not buffer
    if buffer or ready is None:
        yield buffer, True
