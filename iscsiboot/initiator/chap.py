# SPDX-License-Identifier: LGPL-2.1-or-later
"""CHAP, one way and mutual (RFC 7143 section 12.1.3, RFC 1994), as values: no PDU, no stage.

Order on the wire: we offer algorithms; the target picks one and challenges us; we prove ourselves and, for mutual CHAP,
challenge the target in the same message; the target proves itself. What we refuse, and why:

* a target that does not prove itself, or proves it wrongly, when mutual CHAP is configured;
* a challenge equal to the one we are about to send: whoever knows ours wants it answered by us;
* our own response given back as the target's proof. It cannot come out of this connection, but an attacker may have
  had our challenge answered by us on a parallel one; nothing but the secrets tells the two directions apart, which is
  why they have to differ (``model.credentials``);
* an algorithm we did not offer.

``hashlib`` is imported when CHAP is used: it costs a boot without CHAP about 3 ms, ten times that under emulation.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from iscsiboot.errors import quoted
from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.keys import CONSTANTS
from iscsiboot.initiator.text import Pairs, parse_binary, parse_number
from iscsiboot.model.credentials import NAME_MAX_BYTES, Chap, Credentials

CHALLENGE_MAX_BYTES = 1024
OUR_CHALLENGE_BYTES = 16
"""As long as open-iscsi's: every target is known to take it."""

CHALLENGE_KEYS = frozenset({"CHAP_A", "CHAP_I", "CHAP_C"})
PROOF_KEYS = frozenset({"CHAP_N", "CHAP_R"})


class ChapAlgorithm(IntEnum):
    """Numbers of IANA's PPP authentication algorithms that iSCSI uses."""

    MD5 = 5
    SHA1 = 6
    SHA256 = 7
    SHA3_256 = 8

    @property
    def hash_name(self) -> str:
        """The name ``hashlib`` knows it by."""
        return self.name.lower()


STRONGEST_FIRST = (ChapAlgorithm.SHA3_256, ChapAlgorithm.SHA256, ChapAlgorithm.SHA1, ChapAlgorithm.MD5)

Digest = Callable[[ChapAlgorithm, bytes], bytes]


def digest(algorithm: ChapAlgorithm, message: bytes) -> bytes:
    """The hash of ``message``; ValueError when this host's policy (FIPS) has switched the algorithm off."""
    import hashlib

    # RFC 1994 fixes the hash; a FIPS host lets MD5 through, if at all, only when told it is no signature.
    return hashlib.new(algorithm.hash_name, message, usedforsecurity=False).digest()


def usable(algorithms: tuple[ChapAlgorithm, ...], hasher: Digest = digest) -> tuple[ChapAlgorithm, ...]:
    """Those of ``algorithms`` this host can compute, in the same order."""
    return tuple(algorithm for algorithm in algorithms if _computes(algorithm, hasher))


def _computes(algorithm: ChapAlgorithm, hasher: Digest) -> bool:
    try:
        hasher(algorithm, b"")
    except ValueError:
        return False
    return True


def retry_algorithm(rejected: tuple[ChapAlgorithm, ...], picked: ChapAlgorithm | None = None) -> ChapAlgorithm | None:
    """The single algorithm worth one more login after a list was rejected, None after a single one was.

    ``picked`` is what the target chose before it changed its mind. MD5 when it was in the list: it is the one each
    target must have, and the targets that reject a list compare the whole text with ``5`` (LIO before Linux 3.15 and
    the arrays built on it). Otherwise the last, as the least demanding. Whoever accepts no MD5 leaves it out.
    """
    others = [algorithm for algorithm in rejected if algorithm is not picked]
    if len(rejected) < 2 or not others:
        return None
    return ChapAlgorithm.MD5 if ChapAlgorithm.MD5 in others else others[-1]


class AlgorithmsRefused(ProtocolViolation):
    """The target takes none of the algorithms; the machine makes an ``AlgorithmsRejected`` of it."""


class ChapExchange:
    """One run of CHAP from the initiator's side. Every method raises :class:`ProtocolViolation`."""

    def __init__(
        self,
        credentials: Credentials,
        algorithms: tuple[ChapAlgorithm, ...],
        entropy: Callable[[int], bytes],
        hasher: Digest = digest,
    ) -> None:
        self._credentials = credentials
        self._hasher = hasher
        self.algorithms = usable(algorithms, hasher)
        """What is offered."""
        self.algorithm: ChapAlgorithm | None = None
        """What the target picked."""
        if not self.algorithms:
            names = ", ".join(algorithm.name for algorithm in algorithms)
            raise ProtocolViolation(
                f"this host cannot compute any of the CHAP algorithms {names}", hint="allow a stronger CHAP algorithm"
            )
        # Drawn before anything of the target's was seen, so that an equal challenge cannot be our doing.
        self._identifier = entropy(1)[0] if credentials.incoming is not None else 0
        self._challenge = entropy(OUR_CHALLENGE_BYTES) if credentials.incoming is not None else b""

    @property
    def mutual(self) -> bool:
        """Whether the target has to prove itself."""
        return self._credentials.incoming is not None

    def offer(self) -> Pairs:
        """``CHAP_A`` with every algorithm, in order of preference."""
        return (("CHAP_A", ",".join(str(int(algorithm)) for algorithm in self.algorithms)),)

    def respond(self, keys: dict[str, str]) -> Pairs:
        """Our proof (and our challenge, for mutual CHAP) in answer to the target's CHAP_A, CHAP_I and CHAP_C."""
        self.algorithm = self._picked(keys.get("CHAP_A"))
        identifier = parse_number(_needed(keys, "CHAP_I", "the target sent no CHAP identifier"))
        if identifier > 255:
            raise ProtocolViolation(f"the CHAP identifier {identifier} does not fit one byte")
        challenge = parse_binary(_needed(keys, "CHAP_C", "the target sent no CHAP challenge"), CHALLENGE_MAX_BYTES)
        if self._challenge and challenge == self._challenge:
            raise ProtocolViolation(
                "the target sent our own CHAP challenge back (reflection)",
                hint="something between here and the target is attacking the login; do not retry before it is found",
            )
        outgoing = self._credentials.outgoing
        proof = (("CHAP_N", outgoing.name), ("CHAP_R", _hexadecimal(self._hash(identifier, outgoing, challenge))))
        if self._credentials.incoming is None:
            return proof
        return (*proof, ("CHAP_I", str(self._identifier)), ("CHAP_C", _hexadecimal(self._challenge)))

    def verify(self, keys: dict[str, str]) -> None:
        """Check the target's CHAP_N and CHAP_R when mutual CHAP demands them."""
        import hmac

        incoming = self._credentials.incoming
        if incoming is None:
            if keys:
                raise ProtocolViolation(f"the target sent {', '.join(sorted(keys))}, and no proof was asked of it")
            return
        hint = "compare the secret and name of mutual CHAP (incoming) here with those set at the target"
        skipped = "the target did not prove who it is, and mutual CHAP is configured"
        if not keys:
            raise ProtocolViolation(skipped, hint="set up mutual CHAP at the target, or suspect who answers there")
        name = _needed(keys, "CHAP_N", f"{skipped}: it sent no name")
        response = parse_binary(_needed(keys, "CHAP_R", f"{skipped}: it sent no response"), CHALLENGE_MAX_BYTES)
        expected = self._hash(self._identifier, incoming, self._challenge)
        ours = self._hash(self._identifier, self._credentials.outgoing, self._challenge)
        # All are computed before one is judged: the time taken tells nobody which one was wrong.
        right_response = hmac.compare_digest(expected, response)
        reflected = hmac.compare_digest(ours, response)
        right_name = hmac.compare_digest(name.encode(), incoming.name.encode())
        if reflected:
            raise ProtocolViolation(
                "the target proved itself with a wrong secret (mutual CHAP): with the initiator's own",
                hint="set two different secrets at the target; if they do differ, somebody gives our own answers back",
            )
        if not right_name:
            raise ProtocolViolation(
                f"the target names itself {quoted(name[:NAME_MAX_BYTES])} in CHAP, {quoted(incoming.name)} is expected",
                hint=hint,
            )
        if not right_response:
            raise ProtocolViolation("the target proved itself with a wrong secret (mutual CHAP)", hint=hint)

    def _picked(self, value: str | None) -> ChapAlgorithm:
        if value is None:
            raise ProtocolViolation("the target picked no CHAP algorithm")
        if value in CONSTANTS:
            raise AlgorithmsRefused(f"the target answered CHAP_A={value}: it takes none of the offered CHAP algorithms")
        number = parse_number(value)
        for algorithm in self.algorithms:
            if algorithm == number:
                return algorithm
        raise ProtocolViolation(f"the target picked CHAP algorithm {number}, which was not offered")

    def _hash(self, identifier: int, chap: Chap, challenge: bytes) -> bytes:
        if self.algorithm is None:
            raise ProtocolViolation("a CHAP response before an algorithm was picked")
        try:
            return self._hasher(self.algorithm, bytes([identifier]) + chap.secret.reveal() + challenge)
        except ValueError:
            # Its policy changed since the offer. The cause is not chained: it may come from code that shows its input.
            raise ProtocolViolation(
                f"this host no longer computes {self.algorithm.name}", hint="allow a stronger CHAP algorithm"
            ) from None


def _needed(keys: dict[str, str], name: str, otherwise: str) -> str:
    value = keys.get(name)
    if value is None or value in CONSTANTS:
        raise ProtocolViolation(otherwise)
    return value


def _hexadecimal(data: bytes) -> str:
    return f"0x{data.hex()}"
