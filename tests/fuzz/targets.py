# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything a long run can throw bytes at, as one table.

Adding a parser is adding a row to :data:`TARGETS`: a function from (random.Random, bytes) to a word for what became of
the input, ``accepted`` or ``refused`` for most, which raises when its invariant is broken; and a function that gives
the corpus, valid inputs to mutate. It must depend on nothing else, so that a failure can be replayed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from iscsiboot.initiator.pdu.ahs import encode_list, read_length, split_cdb
from iscsiboot.initiator.pdu.scsi import DataIn
from iscsiboot.initiator.stream import frame
from tests.fuzz import (
    database_invariant,
    discovery_invariant,
    fuzz_ibft_invariant,
    ipc_invariant,
    media_invariant,
    mutations,
    scsi_invariant,
    session_invariant,
    uevent_invariant,
    wire_invariants,
)
from tests.unit.initiator.pdu_figures import FIGURES
from tests.vectors.ibft import make
from tests.vectors.login.replay import HERE, OWN, USER, Recording

Run = Callable[[random.Random, bytes], str]


@dataclass(frozen=True)
class Target:
    """One row."""

    run: Run
    corpus: Callable[[], Sequence[bytes]]
    mutate: Callable[[Sequence[bytes], random.Random], bytes] = mutations.mutate
    """For inputs with a checksum, which damage alone would never get past."""


def _plain(check: Callable[[bytes], str]) -> Run:
    """A check that needs no chance."""
    return lambda _, data: check(data)


def _headers() -> list[bytes]:
    return [figure.bhs for figure in FIGURES]


def _ahs() -> list[bytes]:
    extended = [split_cdb(bytes(range(length)))[1] for length in (17, 20, 32, 255)]
    return [b"", encode_list([read_length(512)]), *(encode_list([*one, read_length(1)]) for one in extended)]


def _streams() -> list[bytes]:
    """Two or three PDUs behind the byte that says which digests they have."""
    found = []
    for rules in range(4):
        for length in (0, 1, 48, 513):
            ahs = encode_list([read_length(length)]) if length % 2 else b""
            bhs = DataIn(itt=length, data_length=length, ahs_length=len(ahs)).encode()
            wire = frame(bhs, bytes(length), ahs, header_digest=bool(rules & 1), data_digest=bool(rules & 2))
            found.append(bytes([rules]) + wire * (2 + length % 2))
    return found


def _texts() -> list[bytes]:
    return [
        b"",
        b"SendTargets=All\0",
        b"InitiatorName=iqn.2004-01.com.example:host\0SessionType=Normal\0AuthMethod=CHAP,None\0",
        b"MaxRecvDataSegmentLength=262144\0HeaderDigest=CRC32C,None\0iSCSIProtocolLevel=1\0X-com.example.key=\xc3\xa4\0",
        b"TargetName=iqn.2004-01.com.example:disk\0TargetAddress=[2001:db8::1]:3260,1\0" * 20,
        b"".join(b"K%d=v\0" % number for number in range(256)),
    ]


def _numbers() -> list[bytes]:
    return [b"0", b"1", b"16777215", b"0x0", b"0Xffff", b"18446744073709551615", b"0x" + b"f" * 16]


def _binaries() -> list[bytes]:
    return [b"0x00", b"0X" + b"0f" * 16, b"0xabc", b"0b" + b"QUJD" * 4, b"0bQQ==", b"0x" + b"ff" * 1024]


def _addresses() -> list[bytes]:
    return [
        b"192.0.2.1",
        b"192.0.2.1:3260,1",
        b"[2001:db8::1]:860,65535",
        b"[fe80::1]",
        b"disk.example.com:3260,2",
        b"[::ffff:192.0.2.1],1",
    ]


@cache
def _recordings() -> tuple[Recording, ...]:
    return tuple(Recording.load(path) for path in sorted(HERE.glob("tgt-*.txt")))


def _logins() -> list[bytes]:
    """What the target sent in each recording, behind the recording's number."""
    return [
        bytes([number]) + b"".join(answer for _, answer in recording.exchanges)
        for number, recording in enumerate(_recordings())
    ]


def _login(_: random.Random, data: bytes) -> str:
    recordings = _recordings()
    recording = recordings[data[0] % len(recordings)] if data else recordings[0]
    return wire_invariants.login(recording.machine(), data[1:], (USER[1], OWN[1]))


def _ibft(rng: random.Random, data: bytes) -> str:
    # The invariants that parse twice more are held for some inputs alone.
    result = fuzz_ibft_invariant.check(data, rebuild=rng.random() < 1 / 16)
    if result.table is None:
        return wire_invariants.REFUSED
    return wire_invariants.ACCEPTED if result.intact else "read, not intact"


@cache
def _tables() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(make.HERE.glob("*.bin")) if path.stat().st_size > 120)


def _mutate_table(corpus: Sequence[bytes], rng: random.Random) -> bytes:
    kind = rng.random()
    data = rng.randbytes(rng.randrange(700)) if kind < 0.05 else fuzz_ibft_invariant.mutate(rng.choice(corpus), rng)
    return b"iBFT" + data if kind < 0.025 else data


TARGETS: dict[str, Target] = {
    "pdu": Target(_plain(wire_invariants.pdu), _headers),
    "stream": Target(lambda rng, data: wire_invariants.stream(data, rng), _streams),
    "ahs": Target(_plain(wire_invariants.ahs), _ahs),
    "text": Target(lambda rng, data: wire_invariants.text(data, rng), _texts),
    "number": Target(_plain(wire_invariants.parse_number), _numbers),
    "binary": Target(lambda rng, data: wire_invariants.parse_binary(data, rng), _binaries),
    "address": Target(_plain(wire_invariants.target_address), _addresses),
    "login": Target(_login, _logins),
    "discovery": Target(lambda rng, data: discovery_invariant.answer(data, rng), discovery_invariant.answers),
    "connection": Target(lambda rng, data: discovery_invariant.connection(data, rng), discovery_invariant.connections),
    "session": Target(_plain(session_invariant.play), session_invariant.corpus),
    "scsi": Target(_plain(scsi_invariant.conversation), scsi_invariant.conversations),
    "sense": Target(_plain(scsi_invariant.sense_data), scsi_invariant.senses),
    "media": Target(_plain(media_invariant.medium), media_invariant.media),
    "record": Target(_plain(database_invariant.record_file), database_invariant.records),
    "configuration": Target(_plain(database_invariant.configuration), database_invariant.configurations),
    "place": Target(_plain(database_invariant.place_name), database_invariant.place_names),
    "client": Target(lambda rng, data: ipc_invariant.client(data, rng), ipc_invariant.clients),
    "daemon": Target(lambda rng, data: ipc_invariant.daemon(data, rng), ipc_invariant.daemons),
    "uevent": Target(_plain(uevent_invariant.announcement), uevent_invariant.datagrams),
    "ibft": Target(_ibft, _tables, _mutate_table),
}
