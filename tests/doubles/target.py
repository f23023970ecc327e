# SPDX-License-Identifier: LGPL-2.1-or-later
"""A target's login, without I/O: one request in, one answer out, and lies on command.

Honest unless its :class:`Script` says otherwise. It shares the header codec with the product (which vectors, tgt and
tshark check) and nothing else: text, negotiation and CHAP are written here a second time, from the RFC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from iscsiboot.initiator.pdu.login import LoginRequest, LoginResponse
from tests.doubles.limits import Agreed, Limits

HASHES = {5: "md5", 6: "sha1", 7: "sha256", 8: "sha3_256"}
SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer, before it is put into bytes; a fault turns it into a worse one."""

    response: LoginResponse
    text: bytes = b""
    pdu: bytes | None = None
    """Sent instead of response and text: any bytes."""
    silent: bool = False
    """Send nothing and keep the connection."""
    close: bool = False
    """Close the connection after whatever is sent."""

    def wire(self) -> bytes:
        """The bytes on the connection."""
        if self.silent:
            return b""
        if self.pdu is not None:
            return self.pdu
        header = replace(self.response, data_length=len(self.text)).encode()
        return header + self.text.ljust(-(-len(self.text) // 4) * 4, b"\0")

    def changed(self, **fields: object) -> Reply:
        """The same with other header fields."""
        return replace(self, response=replace(self.response, **fields))  # type: ignore[arg-type]  # any field


Fault = Callable[[Reply], Reply]


@dataclass(frozen=True, kw_only=True)
class Script:
    """What the target wants and how it misbehaves."""

    user: tuple[str, bytes] | None = None
    """CHAP name and secret demanded of the initiator; None: no authentication."""
    own: tuple[str, bytes] | None = None
    """Name and secret the target proves itself with when challenged."""
    algorithms: tuple[int, ...] = (8, 7, 6, 5)
    """CHAP algorithms it can do."""
    list_hater: str = ""
    """``reject``: answer a list with CHAP_A=Reject; ``status``: with 02/01; empty: pick from it."""
    challenge: bytes = bytes(range(100, 116))
    encode: str = "0x"
    """How binary values are written: ``0x`` or ``0b``."""
    skip_proof: bool = False
    limits: Limits = field(default_factory=Limits)
    keys: Mapping[str, str] = field(default_factory=dict)
    """Replaces the honest answers of operational negotiation, or adds keys; an empty value leaves the key out."""
    tsih: int = 7
    """Its handle of the session."""
    hesitate: int = 0
    """Answers of each stage before it agrees to the transition."""
    segment: int = 8192
    """Longest data segment it sends; longer texts are continued with the C bit."""
    faults: Mapping[int, Fault] = field(default_factory=dict)
    """By number of the answer from 0; -1 is every answer."""


def pairs_of(text: bytes) -> Pairs:
    """Split by the book."""
    items = [item.decode().partition("=") for item in text.split(b"\0") if item]
    return [(key, value) for key, _, value in items]


def text_of(pairs: Pairs) -> bytes:
    """Join by the book."""
    return b"".join(f"{key}={value}\0".encode() for key, value in pairs)


class ScriptedTarget:
    """One connection's worth of target."""

    def __init__(self, script: Script = Script(), *, depth: int = 32) -> None:  # noqa: B008 (frozen)
        """``depth`` is how many commands the target takes at once, which a Login Response tells already."""
        self._script = script
        self._depth = depth
        self._statsn = 1000
        self._answered = 0
        self._incoming = b""
        self._outgoing: list[bytes] = []
        self._hesitated = 0
        self._greeted = False
        self._agreed = False
        self._algorithm = 0
        self.requests: list[LoginRequest] = []
        self.received: Pairs = []
        self.authenticated = False
        """Whether the initiator has proved itself."""
        self._answers: dict[str, str] = {}

    @property
    def next_statsn(self) -> int:
        """StatSN of the answer that comes next."""
        return self._statsn

    @property
    def discovery(self) -> bool:
        """Whether the initiator asked for a discovery session."""
        return ("SessionType", "Discovery") in self.received

    @property
    def agreed(self) -> Agreed:
        """What holds in full feature phase."""
        return Agreed.from_keys(dict(self.received), self._answers)

    def receive(self, bhs: bytes, data: bytes) -> Reply:
        """One request in, one answer out."""
        request = LoginRequest.decode(bhs)
        self.requests.append(request)
        reply = self._answer(request, data[: request.data_length])
        for number in (self._answered, -1):
            if number in self._script.faults:
                reply = self._script.faults[number](reply)
        self._answered += 1
        return reply

    def _answer(self, request: LoginRequest, data: bytes) -> Reply:
        base = LoginResponse(
            csg=request.csg,
            isid=request.isid,
            itt=request.itt,
            statsn=self._statsn,
            exp_cmdsn=request.cmdsn,
            max_cmdsn=(request.cmdsn + self._depth - 1) % (1 << 32),
        )
        self._statsn += 1
        self._incoming += data
        if request.cont:
            return Reply(response=base)
        if self._outgoing:
            return self._continue(base)
        pairs, self._incoming = pairs_of(self._incoming), b""
        self.received += pairs
        answer, status = (self._security if request.csg == SECURITY else self._operational)(pairs)
        if status is not None:
            return Reply(response=replace(base, status_class=status[0], status_detail=status[1]))
        if not self._greeted:
            # A portal group is what a session belongs to; a discovery session belongs to none (section 13.9).
            answer += [] if self.discovery else [("TargetPortalGroupTag", "1")]
            self._greeted = True
        ready = request.transit and self._may_leave(request.csg)
        if ready:
            tsih = (request.tsih or self._script.tsih) if request.nsg == FULL_FEATURE else 0
            base = replace(base, transit=True, nsg=request.nsg, tsih=tsih)
        text = text_of(answer)
        self._outgoing = [text[at : at + self._script.segment] for at in range(0, len(text), self._script.segment)]
        if len(self._outgoing) > 1:
            base = replace(base, transit=False, nsg=0, tsih=0)
        return self._continue(base)

    def _continue(self, base: LoginResponse) -> Reply:
        chunk = self._outgoing.pop(0) if self._outgoing else b""
        return Reply(response=replace(base, cont=bool(self._outgoing)), text=chunk)

    def _may_leave(self, csg: int) -> bool:
        if csg == SECURITY and self._script.user is not None and not self.authenticated:
            return False
        if self._hesitated < self._script.hesitate:
            self._hesitated += 1
            return False
        self._hesitated = 0
        return True

    def _security(self, pairs: Pairs) -> tuple[Pairs, tuple[int, int] | None]:
        keys = dict(pairs)
        answer: Pairs = []
        if "AuthMethod" in keys:
            chosen = "CHAP" if self._script.user else "None"
            answer.append(("AuthMethod", chosen if chosen in keys["AuthMethod"].split(",") else "Reject"))
        if "CHAP_A" in keys:
            return self._challenge(keys["CHAP_A"])
        if "CHAP_R" in keys:
            return self._judge(keys)
        return self._with_extra(answer), None

    def _challenge(self, offered: str) -> tuple[Pairs, tuple[int, int] | None]:
        if "," in offered and self._script.list_hater:
            return [("CHAP_A", "Reject")], (2, 1) if self._script.list_hater == "status" else None
        common = [int(number) for number in offered.split(",") if int(number) in self._script.algorithms]
        if not common:
            return [("CHAP_A", "Reject")], None
        self._algorithm = common[0]
        return [
            ("CHAP_A", str(self._algorithm)),
            ("CHAP_I", "23"),
            ("CHAP_C", self._binary(self._script.challenge)),
        ], None

    def _judge(self, keys: dict[str, str]) -> tuple[Pairs, tuple[int, int] | None]:
        assert self._script.user is not None
        name, secret = self._script.user
        expected = self._hash(bytes([23]) + secret + self._script.challenge)
        if keys["CHAP_N"] != name or bytes.fromhex(keys["CHAP_R"][2:]) != expected:
            return [], (2, 1)
        self.authenticated = True
        if "CHAP_C" not in keys or self._script.own is None or self._script.skip_proof:
            return [], None
        own_name, own_secret = self._script.own
        response = self._hash(bytes([int(keys["CHAP_I"])]) + own_secret + bytes.fromhex(keys["CHAP_C"][2:]))
        return [("CHAP_N", own_name), ("CHAP_R", self._binary(response))], None

    def _operational(self, pairs: Pairs) -> tuple[Pairs, tuple[int, int] | None]:
        if self._script.user is not None and not self.authenticated:
            return [], (2, 1)
        answers = [(key, self._script.limits.answer(key, value)) for key, value in pairs]
        answer = [(key, self._script.keys.get(key, value)) for key, value in answers if value is not None]
        told = self._with_extra([(key, value) for key, value in answer if value])
        self._answers.update(told)
        return told, None

    def _with_extra(self, answer: Pairs) -> Pairs:
        """The keys of the script that no offer brought up, once, in the first answer."""
        if self._greeted:
            return answer
        known = {key for key, _ in answer}
        absent = {key for key, value in self._script.keys.items() if not value}
        return answer + [(key, value) for key, value in self._script.keys.items() if key not in known | absent]

    def _binary(self, data: bytes) -> str:
        if self._script.encode == "0x":
            return f"0x{data.hex().upper()}"
        import base64

        return f"0b{base64.b64encode(data).decode()}"

    def _hash(self, data: bytes) -> bytes:
        return hashlib.new(HASHES[self._algorithm], data).digest()


# Faults, each a function of an honest reply.


def status(status_class: int, detail: int, text: bytes = b"") -> Fault:
    """End the login with this status."""
    return lambda reply: replace(
        reply,
        response=replace(reply.response, status_class=status_class, status_detail=detail, transit=False),
        text=text,
    )


def redirect(address: str, detail: int = 1) -> Fault:
    """Send the initiator elsewhere."""
    return status(1, detail, text_of([("TargetAddress", address)]))


def header(**fields: object) -> Fault:
    """Other header fields."""
    return lambda reply: reply.changed(**fields)


def text(data: bytes) -> Fault:
    """Another data segment."""
    return lambda reply: replace(reply, text=data)


def with_keys(*pairs: tuple[str, str]) -> Fault:
    """More keys than the honest ones."""
    return lambda reply: replace(reply, text=reply.text + text_of(list(pairs)))


def raw(pdu: bytes) -> Fault:
    """These bytes instead of a PDU."""
    return lambda reply: replace(reply, pdu=pdu)


def silent(reply: Reply) -> Reply:
    """No answer, ever."""
    return replace(reply, silent=True)


def closing(reply: Reply) -> Reply:
    """Close instead of answering."""
    return replace(reply, silent=True, close=True)


def endless(reply: Reply) -> Reply:
    """One more PDU is always announced."""
    return replace(reply.changed(cont=True, transit=False), text=b"X-endless=" + b"a" * 400)
