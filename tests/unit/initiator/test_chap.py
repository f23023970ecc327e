# SPDX-License-Identifier: LGPL-2.1-or-later
"""CHAP against values computed outside this project, and against targets that cheat."""

from __future__ import annotations

import base64
import hashlib

import pytest

from iscsiboot.initiator.chap import (
    OUR_CHALLENGE_BYTES,
    STRONGEST_FIRST,
    AlgorithmsRefused,
    ChapAlgorithm,
    ChapExchange,
    digest,
    retry_algorithm,
    usable,
)
from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.keys import KEYS
from tests.doubles.conversation import OWN, USER, credentials, fixed_entropy

CHALLENGE = bytes(range(50, 66))
OUR_CHALLENGE = fixed_entropy(OUR_CHALLENGE_BYTES)
OUR_IDENTIFIER = 1

# printf '\x17initiator secret' | cat - challenge | openssl dgst -ALGORITHM, challenge being bytes 50 to 65.
EXPECTED = {
    ChapAlgorithm.MD5: "415a6a2d2ada9cc6d9b3839c104cc437",
    ChapAlgorithm.SHA1: "7105782bf0e30a4dac2fe0adcedc3b2d09e48b44",
    ChapAlgorithm.SHA256: "effae0fa36271c0941c0dd0882daa0a6b215207f15ee97456b8098da079e569b",
    ChapAlgorithm.SHA3_256: "ff91d2e2f1125cbb68c3ae66fb9551375ed93f69a19aecf7be66affcd066d715",
}


def exchange(*, mutual: bool = False, algorithms: tuple[ChapAlgorithm, ...] = STRONGEST_FIRST) -> ChapExchange:
    return ChapExchange(credentials(mutual=mutual), algorithms, fixed_entropy)


def challenge(algorithm: ChapAlgorithm = ChapAlgorithm.MD5, /, **changed: str | None) -> dict[str, str]:
    keys: dict[str, str | None] = {"CHAP_A": str(int(algorithm)), "CHAP_I": "23", "CHAP_C": f"0x{CHALLENGE.hex()}"}
    return {name: value for name, value in (keys | changed).items() if value is not None}


def proof(secret: bytes = OWN[1], name: str = OWN[0]) -> dict[str, str]:
    response = hashlib.md5(bytes([OUR_IDENTIFIER]) + secret + OUR_CHALLENGE).hexdigest()
    return {"CHAP_N": name, "CHAP_R": f"0x{response}"}


def test_offer_is_strongest_first() -> None:
    assert exchange().offer() == (("CHAP_A", "8,7,6,5"),)
    assert exchange(algorithms=(ChapAlgorithm.MD5,)).offer() == (("CHAP_A", "5"),)


@pytest.mark.parametrize("algorithm", list(ChapAlgorithm), ids=lambda algorithm: algorithm.name)
def test_response(algorithm: ChapAlgorithm) -> None:
    running = exchange()
    assert running.respond(challenge(algorithm)) == (("CHAP_N", USER[0]), ("CHAP_R", f"0x{EXPECTED[algorithm]}"))
    assert running.algorithm is algorithm


def test_base64_challenge_gives_the_same_response() -> None:
    encoded = base64.b64encode(CHALLENGE).decode()
    assert exchange().respond(challenge(CHAP_C=f"0b{encoded}")) == exchange().respond(challenge())


ENCODINGS = {"hex": lambda data: f"0x{data.hex()}", "base64": lambda data: f"0b{base64.b64encode(data).decode()}"}


@pytest.mark.parametrize("size", [1, 2, 3, 1022, 1023, 1024])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_challenges_of_any_legal_size(size: int, encoding: str) -> None:
    answer = dict(exchange().respond(challenge(CHAP_C=ENCODINGS[encoding](b"\xab" * size))))
    assert answer["CHAP_R"] == "0x" + hashlib.md5(b"\x17" + USER[1] + b"\xab" * size).hexdigest()


@pytest.mark.parametrize("size", [0, 1025, 1026, 2049, 100_000])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_challenges_of_no_legal_size(size: int, encoding: str) -> None:
    with pytest.raises(ProtocolViolation, match=r"more than 1024 bytes|1 to 1024 are allowed|not a well-formed"):
        exchange().respond(challenge(CHAP_C=ENCODINGS[encoding](b"\xab" * size)))


def test_mutual_adds_our_challenge() -> None:
    names = [name for name, _ in exchange(mutual=True).respond(challenge())]
    assert names == ["CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"]
    answer = dict(exchange(mutual=True).respond(challenge()))
    assert (answer["CHAP_I"], answer["CHAP_C"]) == (str(OUR_IDENTIFIER), f"0x{OUR_CHALLENGE.hex()}")


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"CHAP_A": None}, "picked no CHAP algorithm"),
        ({"CHAP_A": "9"}, "algorithm 9, which was not offered"),
        ({"CHAP_A": "5,7"}, "is not a number"),
        ({"CHAP_A": ""}, "is not a number"),
        ({"CHAP_I": None}, "no CHAP identifier"),
        ({"CHAP_I": "256"}, "does not fit one byte"),
        ({"CHAP_I": "-1"}, "is not a number"),
        ({"CHAP_C": None}, "no CHAP challenge"),
        ({"CHAP_C": "Reject"}, "no CHAP challenge"),
        ({"CHAP_C": "0x"}, "not a well-formed|1 to 1024 are allowed"),
        ({"CHAP_C": "0x" + "00" * 1025}, "more than 1024 bytes"),
        ({"CHAP_C": "0123"}, "neither a hexadecimal"),
        ({"CHAP_C": f"0x{OUR_CHALLENGE.hex()}"}, "reflection"),
    ],
)
def test_bad_challenges(changed: dict[str, str | None], rule: str) -> None:
    with pytest.raises(ProtocolViolation, match=rule):
        exchange(mutual=True).respond(challenge(**changed))


@pytest.mark.parametrize("answer", ["Reject", "NotUnderstood", "Irrelevant"])
def test_refused_algorithms_are_their_own_kind(answer: str) -> None:
    with pytest.raises(AlgorithmsRefused, match=f"CHAP_A={answer}"):
        exchange().respond({"CHAP_A": answer})


def test_a_right_proof_is_accepted() -> None:
    running = exchange(mutual=True)
    running.respond(challenge())
    running.verify(proof())


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        pytest.param({}, "did not prove who it is", id="nothing"),
        pytest.param({"CHAP_N": OWN[0]}, "it sent no response", id="name only"),
        pytest.param({"CHAP_R": proof()["CHAP_R"]}, "it sent no name", id="response only"),
        pytest.param(proof(secret=b"another secret"), "a wrong secret", id="wrong secret"),
        pytest.param(proof(secret=USER[1]), "a wrong secret .* with the initiator's own", id="our own secret"),
        pytest.param(proof(secret=USER[1], name="x"), "with the initiator's own", id="our own secret, another name"),
        pytest.param(proof(name="impostor"), 'names itself "impostor" in CHAP, "target" is expected', id="name"),
        pytest.param(proof(name="Target"), 'names itself "Target"', id="case"),
        pytest.param(proof() | {"CHAP_R": "0x00"}, "a wrong secret", id="short response"),
        pytest.param(proof() | {"CHAP_R": proof()["CHAP_R"] + "00"}, "a wrong secret", id="long response"),
        pytest.param(proof() | {"CHAP_R": "Reject"}, "it sent no response", id="reject"),
        pytest.param(proof() | {"CHAP_R": "0xgg"}, "not a well-formed", id="no hexadecimal"),
    ],
)
def test_bad_proofs(keys: dict[str, str], rule: str) -> None:
    running = exchange(mutual=True)
    running.respond(challenge())
    with pytest.raises(ProtocolViolation, match=rule) as caught:
        running.verify(keys)
    assert OWN[1].decode() not in caught.value.cause + caught.value.hint


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_reflection_is_seen_in_any_encoding(encoding: str) -> None:
    with pytest.raises(ProtocolViolation, match="reflection"):
        exchange(mutual=True).respond(challenge(CHAP_C=ENCODINGS[encoding](OUR_CHALLENGE)))


def test_one_way_sends_no_challenge_that_could_be_reflected() -> None:
    assert len(exchange().respond(challenge(CHAP_C=f"0x{OUR_CHALLENGE.hex()}"))) == 2


def test_an_answer_we_gave_on_a_parallel_connection_is_no_proof() -> None:
    """An impostor that knows no secret lets us answer our own challenge on a second connection and plays it back."""
    first, second = (
        exchange(mutual=True),
        ChapExchange(credentials(mutual=True), STRONGEST_FIRST, lambda length: bytes(range(100, 100 + length))),
    )
    asked = dict(first.respond(challenge()))
    lent = dict(second.respond(challenge(CHAP_I=asked["CHAP_I"], CHAP_C=asked["CHAP_C"])))
    with pytest.raises(ProtocolViolation, match="with the initiator's own") as caught:
        first.verify({"CHAP_N": OWN[0], "CHAP_R": lent["CHAP_R"]})
    assert "gives our own answers back" in caught.value.hint


def test_what_was_refused_is_refused_again() -> None:
    running = exchange(mutual=True)
    running.respond(challenge())
    for _ in range(2):
        with pytest.raises(ProtocolViolation, match="a wrong secret"):
            running.verify(proof(secret=b"another secret"))


def test_a_proof_before_the_challenge_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="before an algorithm was picked"):
        exchange(mutual=True).verify(proof())


def test_one_way_asks_for_no_proof_and_takes_none() -> None:
    running = exchange()
    running.respond(challenge())
    running.verify({})
    with pytest.raises(ProtocolViolation, match="no proof was asked"):
        running.verify(proof())


def without_md5(algorithm: ChapAlgorithm, message: bytes) -> bytes:
    if algorithm is ChapAlgorithm.MD5:
        raise ValueError("[digital envelope routines] unsupported")
    return digest(algorithm, message)


def test_a_fips_host_does_not_offer_what_it_cannot_compute() -> None:
    assert usable(STRONGEST_FIRST, without_md5) == STRONGEST_FIRST[:-1]
    running = ChapExchange(credentials(), STRONGEST_FIRST, fixed_entropy, without_md5)
    assert running.offer() == (("CHAP_A", "8,7,6"),)
    with pytest.raises(ProtocolViolation, match="was not offered"):
        running.respond(challenge(ChapAlgorithm.MD5))
    with pytest.raises(ProtocolViolation, match="cannot compute any of the CHAP algorithms MD5"):
        ChapExchange(credentials(), (ChapAlgorithm.MD5,), fixed_entropy, without_md5)


@pytest.mark.parametrize(
    "error",
    [
        # What hashlib raises in a FIPS host (OpenSSL 3 and 1.1), without an algorithm, and in a build without it.
        ValueError("[digital envelope routines] unsupported"),
        ValueError("[digital envelope routines: EVP_DigestInit_ex] disabled for FIPS"),
        ValueError("unsupported hash type md5"),
        type("UnsupportedDigestmodError", (ValueError,), {})("[digital envelope routines] unsupported"),
    ],
    ids=["openssl 3", "openssl 1.1", "no such hash", "subclass"],
)
def test_every_way_a_host_refuses_a_hash(error: ValueError) -> None:
    def refuses(algorithm: ChapAlgorithm, message: bytes) -> bytes:
        if algorithm is ChapAlgorithm.MD5:
            raise error
        return digest(algorithm, message)

    assert usable(STRONGEST_FIRST, refuses) == STRONGEST_FIRST[:-1]


def test_hashlib_itself_without_md5(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of the product on a host whose OpenSSL has none; our flag for FIPS is what it is asked with."""
    asked: list[tuple[str, bool]] = []
    real = hashlib.new

    def new(name: str, data: bytes = b"", *, usedforsecurity: bool = True) -> hashlib._Hash:
        asked.append((name, usedforsecurity))
        if name == "md5":
            raise ValueError("[digital envelope routines] unsupported")
        return real(name, data, usedforsecurity=usedforsecurity)

    monkeypatch.setattr(hashlib, "new", new)
    assert exchange().offer() == (("CHAP_A", "8,7,6"),)
    assert asked == [("sha3_256", False), ("sha256", False), ("sha1", False), ("md5", False)]


def test_a_hash_that_is_taken_away_during_the_login() -> None:
    calls = iter(range(100))

    def fading(algorithm: ChapAlgorithm, message: bytes) -> bytes:
        if next(calls) >= len(STRONGEST_FIRST):
            raise ValueError(f"cannot hash {message!r}")
        return digest(algorithm, message)

    running = ChapExchange(credentials(), STRONGEST_FIRST, fixed_entropy, fading)
    with pytest.raises(ProtocolViolation, match="no longer computes MD5") as caught:
        running.respond(challenge())
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("offered", "picked", "retry"),
    [
        (STRONGEST_FIRST, None, ChapAlgorithm.MD5),
        (STRONGEST_FIRST, ChapAlgorithm.SHA256, ChapAlgorithm.MD5),
        ((ChapAlgorithm.MD5, ChapAlgorithm.SHA256), None, ChapAlgorithm.MD5),
        ((ChapAlgorithm.SHA3_256, ChapAlgorithm.SHA256), None, ChapAlgorithm.SHA256),
        ((ChapAlgorithm.SHA3_256, ChapAlgorithm.SHA256), ChapAlgorithm.SHA256, ChapAlgorithm.SHA3_256),
        ((ChapAlgorithm.SHA256,), None, None),
        ((ChapAlgorithm.SHA256,), ChapAlgorithm.SHA256, None),
        ((ChapAlgorithm.MD5,), None, None),
    ],
)
def test_one_retry_with_one_algorithm(
    offered: tuple[ChapAlgorithm, ...], picked: ChapAlgorithm | None, retry: ChapAlgorithm | None
) -> None:
    assert retry_algorithm(offered, picked) is retry


def test_every_key_of_chap_is_in_the_table() -> None:
    assert {name for name in KEYS if name.startswith("CHAP_")} == {"CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R"}
