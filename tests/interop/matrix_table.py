# SPDX-License-Identifier: LGPL-2.1-or-later
"""The peers' matrix as a table: which real targets, which sessions at them, and how each has to end.

Three axes make the sessions that must work: authentication, digests, limits. Next to them stand the controls, each with
the one error it has to end with. What is expected here is what a target was seen to do and the RFC allows or the target
owes us (docs/targets.md); a cell that ends in any other way is a failure, also when it ends well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import product

from iscsiboot.errors import ExitCode
from iscsiboot.model.credentials import Credentials
from iscsiboot.model.params import Digest, SessionParams
from tests.doubles.peers import TargetSpec, account

BASE = "iqn.2026-11.example.iscsiboot"
USER, OWN = ("user", "initiator-secret"), ("tgt", "secret-of-the-target")


class PeerName(Enum):
    """The targets; the value is what the matrix calls them."""

    TGT = "tgt"
    ISTGT = "istgt"
    LIO = "LIO"


class Auth(Enum):
    """What a target asks for, and by the same word what the initiator brings."""

    NONE = "none"
    CHAP = "chap"
    MUTUAL = "mutual"


class Digests(Enum):
    """What the initiator offers; the value is (name, HeaderDigest, DataDigest)."""

    NONE = ("none", Digest.NONE, Digest.NONE)
    HEADER = ("header", Digest.CRC32C, Digest.NONE)
    DATA = ("data", Digest.NONE, Digest.CRC32C)
    BOTH = ("both", Digest.PREFER_CRC32C, Digest.PREFER_CRC32C)


class Limits(Enum):
    """Both sides' sizes. The value names the target's name, too."""

    SMALL = "small"
    DEFAULT = "default"
    LARGE = "large"


TARGET_KEYS: Mapping[Limits, Mapping[str, str]] = {
    Limits.SMALL: {
        "MaxRecvDataSegmentLength": "1024",
        "FirstBurstLength": "2048",
        "MaxBurstLength": "4096",
        "InitialR2T": "Yes",
        "ImmediateData": "No",
    },
    Limits.DEFAULT: {},
    Limits.LARGE: {
        "MaxRecvDataSegmentLength": "262144",
        "FirstBurstLength": "262144",
        "MaxBurstLength": "524288",
        "InitialR2T": "No",
        "ImmediateData": "Yes",
    },
}
"""What the targets of a kind are set to."""

OUR_LIMITS: Mapping[Limits, SessionParams] = {
    Limits.SMALL: SessionParams(
        max_recv_data_segment_length=512, first_burst_length=1024, max_burst_length=2048, initial_r2t=True
    ),
    Limits.DEFAULT: SessionParams(),
    Limits.LARGE: SessionParams(
        max_recv_data_segment_length=1 << 20, first_burst_length=1 << 20, max_burst_length=1 << 21
    ),
}


@dataclass(frozen=True, slots=True)
class Agreed:
    """What has to come out of the negotiation, worked out by hand from both sides' values."""

    segment: int
    """What we may send: the target's MaxRecvDataSegmentLength."""
    first_burst: int
    max_burst: int
    initial_r2t: bool
    immediate: bool


AGREED: Mapping[tuple[PeerName, Limits], Agreed] = {
    (PeerName.TGT, Limits.SMALL): Agreed(1024, 1024, 2048, True, False),
    (PeerName.TGT, Limits.DEFAULT): Agreed(8192, 65536, 262144, True, True),
    (PeerName.TGT, Limits.LARGE): Agreed(262144, 262144, 524288, False, True),
    # istgt treats MaxRecvDataSegmentLength as negotiated: it declares the smaller of its own and ours.
    (PeerName.ISTGT, Limits.SMALL): Agreed(512, 1024, 2048, True, False),
    (PeerName.ISTGT, Limits.DEFAULT): Agreed(65536, 65536, 262144, True, True),
    (PeerName.ISTGT, Limits.LARGE): Agreed(262144, 262144, 524288, True, True),
    (PeerName.LIO, Limits.SMALL): Agreed(1024, 1024, 2048, True, False),
    (PeerName.LIO, Limits.DEFAULT): Agreed(262144, 65536, 262144, True, True),
    (PeerName.LIO, Limits.LARGE): Agreed(262144, 262144, 524288, False, True),
}


_LONG_READS = r"the target sends bursts of more than MaxBurstLength=\d+"
HABITS: Mapping[PeerName, tuple[str, ...]] = {
    PeerName.TGT: (_LONG_READS,),
    PeerName.ISTGT: (_LONG_READS, r"the target expects CmdSN \d+, and the next command has \d+: ignored"),
    PeerName.LIO: (),
}
"""What a target does against the RFC without harm, told once a session as a remark, in this order."""

SILENT_LOGOUT = frozenset({PeerName.ISTGT})
"""Peers that now and then close before their Logout Response is out; the last habit is in that response then."""

DISCOVERY_DIGESTS = frozenset({PeerName.ISTGT, PeerName.LIO})
"""Peers that agree to digests in discovery sessions; tgt takes none there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """The one error a control ends with."""

    words: str
    """A regular expression found in the error's cause."""
    exit_code: ExitCode
    retryable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One session at one target. ``control`` names what is wrong in it; empty where it has to work."""

    peer: PeerName
    target: str
    auth: Auth = Auth.NONE
    """What the target asks for."""
    digests: Digests = Digests.NONE
    limits: Limits = Limits.DEFAULT
    credentials: Credentials | None = None
    control: str = ""
    refused: Refused | None = None
    remark: str = ""
    """Words that must be among the login's remarks; empty: there must be none."""

    @property
    def identity(self) -> str:
        """The cell's name in a test run."""
        axes = self.control or f"{self.auth.value}-{self.digests.value[0]}-{self.limits.value}"
        return f"{self.peer.value}-{axes}"

    @property
    def params(self) -> SessionParams:
        """What the initiator offers."""
        ours = OUR_LIMITS[self.limits]
        _, header, data = self.digests.value
        return SessionParams(
            header_digest=header,
            data_digest=data,
            initial_r2t=ours.initial_r2t,
            first_burst_length=ours.first_burst_length,
            max_burst_length=ours.max_burst_length,
            max_recv_data_segment_length=ours.max_recv_data_segment_length,
        )


def credentials(auth: Auth, *, secret: str = USER[1], own: str = OWN[1], user: str = USER[0]) -> Credentials | None:
    """What the initiator brings, right unless told otherwise."""
    if auth is Auth.NONE:
        return None
    incoming = account((OWN[0], own)) if auth is Auth.MUTUAL else None
    return Credentials(outgoing=account((user, secret)), incoming=incoming)


def target_name(auth: Auth, limits: Limits) -> str:
    """The target of these two axes."""
    return f"{BASE}:{auth.value}-{limits.value}"


NO_DIGEST, ONLY_DIGEST = f"{BASE}:no-digest", f"{BASE}:only-digest"


def specs(limits: Limits) -> list[TargetSpec]:
    """The three targets of one kind of limits, without a disk yet."""
    return [
        TargetSpec(
            name=target_name(auth, limits),
            chap=account(USER) if auth is not Auth.NONE else None,
            mutual=account(OWN) if auth is Auth.MUTUAL else None,
            keys=TARGET_KEYS[limits],
        )
        for auth in Auth
    ]


def digest_specs() -> list[TargetSpec]:
    """Targets that allow no digest, and that allow nothing else; for peers that can be set to it."""
    return [
        TargetSpec(name=name, keys={"HeaderDigest": value, "DataDigest": value})
        for name, value in ((NO_DIGEST, "None"), (ONLY_DIGEST, "CRC32C"))
    ]


def working(peer: PeerName) -> Iterator[Cell]:
    """The product of the axes."""
    for auth, digests, limits in product(Auth, Digests, Limits):
        yield Cell(
            peer=peer,
            target=target_name(auth, limits),
            auth=auth,
            digests=digests,
            limits=limits,
            credentials=credentials(auth),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """What is wrong with a session, at which target, and how each peer ends it."""

    name: str
    target: str
    auth: Auth = Auth.NONE
    credentials: Credentials | None = None
    digests: Digests = Digests.NONE
    ends: Refused | None = None
    """None: it works, with ``remark``."""
    remark: str = ""
    differs: Mapping[PeerName, Refused | None] = field(default_factory=dict)
    """Peers that end it otherwise."""
    without: frozenset[PeerName] = frozenset()
    """Peers that cannot be set to this."""


AUTH_FAILED = Refused(words=r"02/01", exit_code=ExitCode.LOGIN_AUTH_FAILED)
INITIATOR_ERROR = Refused(words=r"02/00", exit_code=ExitCode.FATAL_LOGIN)
CONTROLS = (
    Control(
        name="wrong-secret",
        target=target_name(Auth.CHAP, Limits.DEFAULT),
        auth=Auth.CHAP,
        credentials=credentials(Auth.CHAP, secret="not-the-secret-at-all"),
        ends=AUTH_FAILED,
    ),
    Control(
        name="wrong-user",
        target=target_name(Auth.CHAP, Limits.DEFAULT),
        auth=Auth.CHAP,
        credentials=credentials(Auth.CHAP, user="nobody"),
        ends=AUTH_FAILED,
    ),
    Control(
        name="no-credentials",
        target=target_name(Auth.CHAP, Limits.DEFAULT),
        auth=Auth.CHAP,
        ends=AUTH_FAILED,
    ),
    Control(
        name="wrong-mutual-secret",
        target=target_name(Auth.MUTUAL, Limits.DEFAULT),
        auth=Auth.MUTUAL,
        credentials=credentials(Auth.MUTUAL, own="not-the-targets-own"),
        ends=Refused(words="proved itself with a wrong secret", exit_code=ExitCode.FATAL_LOGIN),
    ),
    Control(
        name="mutual-at-one-way-target",
        target=target_name(Auth.CHAP, Limits.DEFAULT),
        auth=Auth.CHAP,
        credentials=credentials(Auth.MUTUAL),
        ends=AUTH_FAILED,
        # LIO takes our proof and keeps silent about its own.
        differs={PeerName.LIO: Refused(words="did not prove who it is", exit_code=ExitCode.FATAL_LOGIN)},
    ),
    Control(
        name="mutual-at-open-target",
        target=target_name(Auth.NONE, Limits.DEFAULT),
        credentials=credentials(Auth.MUTUAL),
        ends=AUTH_FAILED,
        differs={PeerName.ISTGT: Refused(words='AuthMethod="Reject"', exit_code=ExitCode.FATAL_LOGIN)},
    ),
    Control(
        name="chap-at-open-target",
        target=target_name(Auth.NONE, Limits.DEFAULT),
        credentials=credentials(Auth.CHAP),
        remark="the target wanted no authentication",
    ),
    Control(
        name="unknown-target",
        target=f"{BASE}:absent",
        ends=Refused(words=r"02/03", exit_code=ExitCode.FATAL_LOGIN),
        differs={PeerName.LIO: Refused(words=r"03/01", exit_code=ExitCode.LOGIN, retryable=True)},
    ),
    Control(
        name="digest-demanded-of-target-without",
        target=NO_DIGEST,
        digests=Digests.HEADER,
        ends=Refused(words='answered HeaderDigest="None" to our CRC32C', exit_code=ExitCode.FATAL_LOGIN),
        differs={PeerName.LIO: INITIATOR_ERROR},
        without=frozenset({PeerName.ISTGT}),
    ),
    Control(
        name="target-demands-digest",
        target=ONLY_DIGEST,
        ends=INITIATOR_ERROR,
        # tgt gives way: what it is set to is a wish.
        differs={PeerName.TGT: None},
        without=frozenset({PeerName.ISTGT}),
    ),
)


def controls(peer: PeerName) -> Iterator[Cell]:
    """Sessions with something wrong."""
    for control in CONTROLS:
        if peer not in control.without:
            yield Cell(
                peer=peer,
                target=control.target,
                auth=control.auth,
                digests=control.digests,
                credentials=control.credentials,
                control=control.name,
                refused=control.differs.get(peer, control.ends),
                remark=control.remark,
            )


def cells(peer: PeerName) -> list[Cell]:
    """The whole row of a peer."""
    return [*working(peer), *controls(peer)]
