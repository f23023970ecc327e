# SPDX-License-Identifier: LGPL-2.1-or-later
"""The DHCPv4 client without I/O (RFC 2131 section 4.4): everything that changes its state is in this file.

Theory of operation: calls and datagrams go in with the time (:meth:`DhcpMachine.start`, :meth:`~DhcpMachine.receive`,
:meth:`~DhcpMachine.timeout`); datagrams, events and the next deadline come out. State changes stand in
:data:`TRANSITIONS` and nowhere else; a pair that is not there changes nothing, so a message out of turn is dropped.

Renewal is not done here: a boot lasts seconds, whoever takes the network over renews. Deliberate differences from the
RFC, all because a machine waits for its root disk:

* the first retransmission comes after 2 s, not 4 s, and the back-off ends at 8 s, not 64 s: a server or switch port
  that comes alive late is found within seconds. The jitter of 1 s either way is the RFC's;
* the first usable offer is taken;
* the address is not probed by ARP: firmware used it, or the server just gave it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address

from iscsiboot.errors import quoted
from iscsiboot.network.dhcp_message import (
    ClientMessage,
    MessageType,
    ServerMessage,
    decode_server_message,
    lease_from,
)
from iscsiboot.network.dhcp_options import DhcpError, Option
from iscsiboot.network.lease import DhcpLease

BACKOFF_SECONDS = (2.0, 4.0, 8.0)
"""Before the second, third, and every further transmission of one message."""
JITTER_SECONDS = 1.0
TRIES_MAX = 2
"""Transmissions of a REQUEST before it counts as unanswered (about 6 s); a DISCOVER is repeated for ever."""
EVENTS_MAX = 32
"""Refusals kept between two :meth:`DhcpMachine.take_events`: a flood of garbage costs no memory."""


class State(Enum):
    """RFC 2131 figure 5, as far as a boot goes. INIT is also the pause after a refusal."""

    INIT = "init"
    REBOOTING = "rebooting"
    SELECTING = "selecting"
    REQUESTING = "requesting"
    BOUND = "bound"


class Input(Enum):
    """What can happen."""

    START = "start"
    START_KNOWN = "start with a known address"
    OFFER = "offer"
    ACK = "acknowledgement"
    NAK = "refusal"
    TIMER = "timer"
    EXHAUSTED = "timer after the last try"


class Action(Enum):
    """What is done on the way into the new state."""

    DISCOVER = "ask for offers, new transaction"
    REBOOT = "ask for the known address, new transaction"
    REQUEST = "ask for the offered address"
    RESEND = "send the last message again"
    PAUSE = "wait before the next DISCOVER"
    BIND = "keep the lease"


TRANSITIONS: dict[tuple[State, Input], tuple[State, Action]] = {
    (State.INIT, Input.START): (State.SELECTING, Action.DISCOVER),
    (State.INIT, Input.START_KNOWN): (State.REBOOTING, Action.REBOOT),
    (State.INIT, Input.TIMER): (State.SELECTING, Action.DISCOVER),
    (State.REBOOTING, Input.ACK): (State.BOUND, Action.BIND),
    (State.REBOOTING, Input.NAK): (State.SELECTING, Action.DISCOVER),
    (State.REBOOTING, Input.TIMER): (State.REBOOTING, Action.RESEND),
    (State.REBOOTING, Input.EXHAUSTED): (State.SELECTING, Action.DISCOVER),
    (State.SELECTING, Input.OFFER): (State.REQUESTING, Action.REQUEST),
    (State.SELECTING, Input.TIMER): (State.SELECTING, Action.RESEND),
    (State.REQUESTING, Input.ACK): (State.BOUND, Action.BIND),
    # A pause, or a server that offers and refuses in turn would have us ask at the speed of the wire.
    (State.REQUESTING, Input.NAK): (State.INIT, Action.PAUSE),
    (State.REQUESTING, Input.TIMER): (State.REQUESTING, Action.RESEND),
    (State.REQUESTING, Input.EXHAUSTED): (State.SELECTING, Action.DISCOVER),
}


@dataclass(frozen=True, slots=True)
class Bound:
    """The lease is ours."""

    lease: DhcpLease


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nobody confirmed the known address. RFC 2131 section 3.2 lets the client go on using it; offers are asked for."""

    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Refused:
    """A server's message was not accepted, or a server refused us. ``text`` is safe to print."""

    text: str


Event = Bound | Unanswered | Refused


class DhcpMachine:
    """One client on one device."""

    def __init__(self, mac: bytes, *, known: IPv4Address | None, entropy: Callable[[int], bytes]) -> None:
        """``mac`` has six bytes; ``known`` is the address firmware had; ``entropy`` gives n random bytes."""
        if len(mac) != 6:
            raise ValueError("DHCP here is for Ethernet: six bytes of MAC")
        self.state = State.INIT
        self._mac = mac
        self._known = known
        self._entropy = entropy
        self._xid = 0
        self._began = 0.0
        self._tries = 0
        self._refusals = 0
        self._pending: ClientMessage | None = None
        self._offer: DhcpLease | None = None
        self._deadline: float | None = None
        self._datagrams: list[bytes] = []
        self._events: list[Event] = []

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`timeout` is due; None when nothing is waited for."""
        return self._deadline

    def start(self, now: float) -> None:
        """Begin. ValueError when begun already."""
        if self.state is not State.INIT or self._deadline is not None:
            raise ValueError("the client has been started already")
        self._began = now
        self._step(Input.START if self._known is None else Input.START_KNOWN, now)

    def timeout(self, now: float) -> None:
        """Time has passed; nothing happens before :attr:`next_deadline`."""
        if self._deadline is None or now < self._deadline:
            return
        limited = self.state in (State.REBOOTING, State.REQUESTING)
        self._step(Input.EXHAUSTED if limited and self._tries >= TRIES_MAX else Input.TIMER, now)

    def receive(self, payload: bytes, now: float) -> None:
        """Take the payload of one UDP datagram; whatever it holds, the outcome is a state or an event."""
        try:
            message = decode_server_message(payload)
            if message.xid != self._xid or message.mac != self._mac:
                return  # somebody else's: broadcast reaches every client
            if (self.state, Input[message.kind.name]) in TRANSITIONS:
                self._accept(message, now)
        except DhcpError as error:
            self._emit(Refused(f"a message was not usable: {error}"))

    def take_datagrams(self) -> list[bytes]:
        """Payloads to broadcast, in order; each is given once."""
        taken, self._datagrams = self._datagrams, []
        return taken

    def take_events(self) -> list[Event]:
        """What happened since the last call."""
        taken, self._events = self._events, []
        return taken

    def _accept(self, message: ServerMessage, now: float) -> None:
        """Judge a message that is for us and in turn."""
        if message.server is None:
            raise DhcpError("it names no server (option 54)")
        expected = self._pending.server if self._pending is not None else None
        if expected is not None and message.server != expected:
            return  # the server whose offer was not taken
        if message.kind is MessageType.NAK:
            reason = message.options.get(Option.MESSAGE, b"")
            said = f": {quoted(reason)}" if reason else ""
            self._emit(Refused(f"DHCP server {message.server} refused the address{said}"))
            self._step(Input.NAK, now)
            return
        lease = lease_from(message, now=now)
        asked = self._pending.requested if self._pending is not None else None
        if message.kind is MessageType.ACK and lease.address.ip != asked:
            raise DhcpError(f"{message.server} acknowledged {lease.address.ip} where {asked} was asked for")
        self._offer = lease
        self._step(Input[message.kind.name], now)

    def _step(self, happened: Input, now: float) -> None:
        """Look the change up and do what the table says."""
        state, action = TRANSITIONS[self.state, happened]
        if (self.state, happened) == (State.REBOOTING, Input.EXHAUSTED) and self._known is not None:
            self._emit(Unanswered(self._known))
        self.state = state
        if action is Action.BIND:
            self._deadline = None
            if self._offer is not None:
                self._emit(Bound(self._offer))
        elif action is Action.PAUSE:
            self._refusals += 1
            self._pending = None
            self._deadline = now + self._delay(self._refusals)
        elif action is Action.RESEND:
            self._send(self._again(now), now)
        else:
            self._tries = 0
            self._send(self._compose(action, now), now)

    def _compose(self, action: Action, now: float) -> ClientMessage:
        """A new message. Which of ``requested`` and ``server`` it has is RFC 2131 section 4.3.2 and table 5."""
        seconds = int(now - self._began)
        if action is Action.REQUEST and self._offer is not None and self._pending is not None:
            offer, seconds = self._offer, self._pending.seconds  # table 5: the DISCOVER's
            return ClientMessage(
                kind=MessageType.REQUEST,
                xid=self._xid,
                mac=self._mac,
                seconds=seconds,
                requested=offer.address.ip,
                server=offer.server,
            )
        self._xid = int.from_bytes(self._entropy(4), "big")
        kind = MessageType.REQUEST if action is Action.REBOOT else MessageType.DISCOVER
        requested = self._known if action is Action.REBOOT else None
        return ClientMessage(kind=kind, xid=self._xid, mac=self._mac, seconds=seconds, requested=requested)

    def _again(self, now: float) -> ClientMessage:
        """The last message; a DISCOVER says how long it has been by now, which some relays wait for."""
        if self._pending is None:
            raise ValueError("nothing was sent that could be sent again")
        if self._pending.kind is MessageType.DISCOVER:
            return replace(self._pending, seconds=int(now - self._began))
        return self._pending

    def _send(self, message: ClientMessage, now: float) -> None:
        self._pending = message
        self._tries += 1
        self._datagrams.append(message.encode())
        self._deadline = now + self._delay(self._tries)

    def _delay(self, count: int) -> float:
        """Seconds to wait after the ``count``-th transmission, jitter of up to JITTER_SECONDS either way included."""
        base = BACKOFF_SECONDS[min(count, len(BACKOFF_SECONDS)) - 1]
        unit = int.from_bytes(self._entropy(2), "big") / 0xFFFF
        return base + (2 * unit - 1) * JITTER_SECONDS

    def _emit(self, event: Event) -> None:
        if len(self._events) < EVENTS_MAX or not isinstance(event, Refused):
            self._events.append(event)
