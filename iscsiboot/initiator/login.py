# SPDX-License-Identifier: LGPL-2.1-or-later
"""The login of a normal or a discovery session, as a machine without I/O (RFC 7143 chapters 6 and 12).

Driven by exactly three things: :meth:`LoginMachine.start`, PDUs given to :meth:`LoginMachine.receive`, and entropy.
After each of them the caller sends what :meth:`LoginMachine.next_request` hands out. Time is the caller's.

Theory of operation: everything that changes the state of a login is in this file, and how it may change is the table in
:mod:`iscsiboot.initiator.states`. :mod:`iscsiboot.initiator.conversation` checks a PDU against the last request and
makes an event of it; the cell of (state, event) names the method here that acts on it and gives the next state. A
broken rule surfaces as ProtocolViolation and leaves as :class:`LoginError`, here and nowhere else.

A redirect is an outcome, not a new login: how many of them are followed is the caller's decision.
"""

from __future__ import annotations

from collections.abc import Callable

from iscsiboot.errors import ExitCode, printable, quoted
from iscsiboot.initiator import status
from iscsiboot.initiator.chap import (
    CHALLENGE_KEYS,
    PROOF_KEYS,
    AlgorithmsRefused,
    ChapAlgorithm,
    ChapExchange,
    Digest,
    digest,
    retry_algorithm,
)
from iscsiboot.initiator.config import LoginConfig, SessionType
from iscsiboot.initiator.conversation import Conversation, Incoming
from iscsiboot.initiator.errors import REPORT_IT, AlgorithmsRejected, LoginError, Misuse, ProtocolViolation
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded, parse_target_address
from iscsiboot.initiator.keys import KEYS, NONE, REPEATABLE, Phase, Use
from iscsiboot.initiator.negotiation import OperationalNegotiation, number_of
from iscsiboot.initiator.pdu.login import LoginStage
from iscsiboot.initiator.states import TRANSITIONS, WAITING, Action, Event, State
from iscsiboot.initiator.text import KEYS_MAX, Pairs, decode_pairs

__all__ = ["LoginConfig", "LoginError", "LoginMachine", "LoginRedirected", "LoginSucceeded"]

ALIAS_MAX = 255
"""Characters kept of a target's alias, which is decoration."""

_SECURITY_STATES = frozenset({State.AUTH_METHOD, State.CHALLENGE, State.PROOF, State.LEAVE_SECURITY})
_WITHOUT_CREDENTIALS = "configure CHAP user name and secret: the target demands authentication and none are set here"
_METHOD_REFUSED = "set up CHAP for this initiator at the target: it refused before it saw a CHAP name or secret"


class LoginMachine:
    """One login on one connection; used once."""

    def __init__(self, config: LoginConfig, *, entropy: Callable[[int], bytes], hasher: Digest = digest) -> None:
        self._config = config
        self._entropy = entropy
        self._hasher = hasher
        self._state = State.READY
        self._conversation = Conversation(config)
        discovery = config.session_type is SessionType.DISCOVERY
        self._negotiation = OperationalNegotiation(config.params, discovery=discovery, session=config.session)
        self._chap: ChapExchange | None = None
        self._answers: list[tuple[str, str]] = []
        self._seen: dict[str, str] = {}
        self._outcome: LoginSucceeded | LoginRedirected | None = None
        self._actions: dict[Action, Callable[[Incoming], State]] = {
            Action.METHOD: self._act_on_method,
            Action.RESPOND: self._respond,
            Action.VERIFY: self._verify,
            Action.LEAVE: self._leave,
            Action.OPERATE: self._operate,
            Action.ENTER: self._enter,
            Action.ASK_MORE: self._ask_more,
            Action.REDIRECT: self._redirect,
            Action.REFUSE: self._refuse,
        }

    @property
    def state(self) -> State:
        """Where the login stands."""
        return self._state

    @property
    def authenticating(self) -> bool:
        """Whether the login is in its security stage."""
        return self._state in _SECURITY_STATES

    @property
    def outcome(self) -> LoginSucceeded | LoginRedirected | None:
        """The good end, None while the login goes on (and after it failed)."""
        return self._outcome

    def start(self) -> None:
        """Queue the first request."""
        if self._state is not State.READY:
            raise Misuse(f"start(): the login {self._state.value}")
        config = self._config
        told = (
            ("InitiatorName", config.initiator_name),
            ("InitiatorAlias", config.initiator_alias),
            ("TargetName", config.target_name),
            ("SessionType", config.session_type.value),
        )
        names: Pairs = tuple((name, value) for name, value in told if value and self._may_tell(name))
        if config.credentials is None:
            self._state = State.OPERATIONAL
            self._say((*names, *self._negotiation.offer), LoginStage.OPERATIONAL, LoginStage.FULL_FEATURE)
        elif config.credentials.incoming is None:
            # None is offered as open-iscsi does: one-way CHAP protects the target, and one that wants no proof takes
            # nothing from us. With mutual CHAP we would lose the proof of who answers, so None is not offered.
            self._state = State.AUTH_METHOD
            self._say((*names, ("AuthMethod", "CHAP,None")), LoginStage.SECURITY, LoginStage.OPERATIONAL)
        else:
            self._state = State.AUTH_METHOD
            self._say((*names, ("AuthMethod", "CHAP")), LoginStage.SECURITY, None)

    def next_request(self) -> tuple[bytes, bytes] | None:
        """The next PDU to send: its 48-byte header and its data padded with NUL; None when there is none."""
        return self._conversation.next_request()

    def following(self, bhs: bytes) -> int:
        """How many bytes follow this header on a stream; refuses before anything of a hostile length is read."""
        self._require_waiting()
        try:
            return self._conversation.header(bhs).following
        except ProtocolViolation as violation:
            raise self._violated(violation) from violation

    def receive(self, bhs: bytes, data: bytes) -> None:
        """Take one whole PDU. ``data`` may carry padding or not: DataSegmentLength decides.

        Raises :class:`LoginError` when the login has failed by it, :class:`Misuse` when none is due.
        """
        self._require_waiting()
        try:
            incoming = self._conversation.take(bhs, data)
            if incoming is None:
                return
            cell = TRANSITIONS[self._state].get(incoming.event)
            if cell is None:
                raise ProtocolViolation(f"the target {incoming.event.value}, and the login {self._state.value}")
            self._state = self._actions[cell.action](incoming)
        except ProtocolViolation as violation:
            raise self._violated(violation) from violation

    def abandon(self, cause: str, *, hint: str = "", exit_code: ExitCode, retryable: bool = True) -> LoginError:
        """End the login because its connection failed; gives the error to raise."""
        return self._fail(cause, hint=hint, exit_code=exit_code, retryable=retryable)

    # What is done: one method per action of the table.

    def _act_on_method(self, incoming: Incoming) -> State:
        method = self._route(incoming.pairs, frozenset({"AuthMethod"})).get("AuthMethod")
        moved = incoming.event is Event.MOVED
        credentials = self._config.credentials
        # CHAP chosen and the stage left before it (LIO without authentication) is a target that wants no proof.
        if method == "CHAP" and credentials is not None and not moved:
            self._chap = ChapExchange(credentials, self._config.chap_algorithms, self._entropy, self._hasher)
            self._say(self._chap.offer(), LoginStage.SECURITY, None)
            return State.CHALLENGE
        if credentials is not None and credentials.incoming is not None:
            raise ProtocolViolation(
                f"the target wants no CHAP (AuthMethod={quoted(method or NONE)}), and mutual CHAP is configured",
                hint="set up mutual CHAP at the target; without it nothing proves that this is the right target",
            )
        if method is None and not moved:
            raise ProtocolViolation("the target chose no authentication method")
        if method is not None and method != NONE and not (method == "CHAP" and moved):
            raise ProtocolViolation(
                f"the target answered AuthMethod={quoted(method)} to our CHAP,None",
                hint="check which authentication methods the target allows",
            )
        self._conversation.remark("CHAP is configured, the target wanted no authentication")
        return self._go_on(moved)

    def _respond(self, incoming: Incoming) -> State:
        proof = self._running_chap().respond(self._route(incoming.pairs, CHALLENGE_KEYS))
        self._say(proof, LoginStage.SECURITY, LoginStage.OPERATIONAL)
        return State.PROOF

    def _verify(self, incoming: Incoming) -> State:
        self._running_chap().verify(self._route(incoming.pairs, PROOF_KEYS))
        return self._go_on(incoming.event is Event.MOVED)

    def _leave(self, incoming: Incoming) -> State:
        self._route(incoming.pairs, frozenset())
        return self._go_on(incoming.event is Event.MOVED)

    def _go_on(self, moved: bool) -> State:
        """Authentication is settled: begin with the operational keys, or ask once more to be let there."""
        if not moved:
            self._say((), LoginStage.SECURITY, LoginStage.OPERATIONAL)
            return State.LEAVE_SECURITY
        self._say(self._negotiation.offer, LoginStage.OPERATIONAL, LoginStage.FULL_FEATURE)
        return State.OPERATIONAL

    def _operate(self, incoming: Incoming) -> State:
        self._route(incoming.pairs, frozenset())
        self._say((), LoginStage.OPERATIONAL, LoginStage.FULL_FEATURE)
        return State.OPERATIONAL

    def _enter(self, incoming: Incoming) -> State:
        self._route(incoming.pairs, frozenset())
        remark = self._conversation.remark
        for name, _ in self._answers:
            remark(f"the target offered {quoted(name)} in its last answer: its default holds")
        negotiated = self._negotiation.finish()
        for odd in self._negotiation.remarks:
            remark(odd)
        config = self._config
        known = config.portal.tpgt if config.portal else None
        tag = self._negotiation.declared("TargetPortalGroupTag")
        tpgt = known if tag is None else number_of(KEYS["TargetPortalGroupTag"], tag)
        if known is not None and tpgt != known:
            remark(f"the target says portal group {tpgt}, {known} was configured")
        response = incoming.response
        if config.tsih not in (0, response.tsih):
            raise ProtocolViolation(f"the target put us into session {response.tsih:#x}, we asked for {config.tsih:#x}")
        if response.tsih == 0:
            remark("the target gave the session no handle (TSIH 0)")
        alias = self._negotiation.declared("TargetAlias")
        self._outcome = LoginSucceeded(
            negotiated=negotiated,
            tsih=response.tsih,
            tpgt=tpgt,
            target_alias=None if alias is None else printable(alias[:ALIAS_MAX]),
            statsn=response.statsn,
            exp_cmdsn=response.exp_cmdsn,
            max_cmdsn=response.max_cmdsn,
            algorithm=self._chap.algorithm if self._chap else None,
            mutual=self._chap is not None and self._chap.mutual,
            remarks=self._conversation.remarks,
        )
        return State.SUCCEEDED

    def _ask_more(self, _: Incoming) -> State:
        self._conversation.ask_more()
        return self._state

    def _redirect(self, incoming: Incoming) -> State:
        addresses = [value for name, value in decode_pairs(incoming.data) if name == "TargetAddress"]
        if not addresses:
            raise ProtocolViolation("the target sends us elsewhere and does not say where (no TargetAddress)")
        answered = (incoming.response.status_class, incoming.response.status_detail)
        permanent = answered == status.MOVED_PERMANENTLY
        self._outcome = LoginRedirected(portal=parse_target_address(addresses[0]), permanent=permanent)
        return State.REDIRECTED

    def _refuse(self, incoming: Incoming) -> State:
        answered = (incoming.response.status_class, incoming.response.status_detail)
        spec = status.lookup(*answered)
        cause = f"the target answered {answered[0]:02x}/{answered[1]:02x} ({spec.words}): {spec.cause}"
        if self._state is State.CHALLENGE and answered in status.DISLIKES_REQUEST:
            # It failed us before it saw a response, so the secret cannot be what it dislikes: it is the list.
            raise self._algorithms_rejected(f"{cause}; it had been offered CHAP algorithms only", answered)
        picked = self._chap.algorithm if self._chap else None
        if (
            self._state is State.PROOF
            and answered == status.INITIATOR_ERROR
            and picked not in (None, ChapAlgorithm.MD5)
        ):
            # A wrong secret would be 02/01. tgt means SHA1 by 7 (RFC 7143's SHA256), picks it out of a list and then
            # cannot read a response of 32 bytes.
            raise self._algorithms_rejected(f"{cause}, when it saw the response it had asked for", answered)
        hint = spec.hint
        if answered == status.AUTHENTICATION_FAILURE and self._config.credentials is None:
            hint = _WITHOUT_CREDENTIALS
        elif answered == status.AUTHENTICATION_FAILURE and self._state is State.AUTH_METHOD:
            hint = _METHOD_REFUSED
        raise self._fail(cause, hint=hint, exit_code=spec.exit_code, retryable=spec.retryable, answered=answered)

    # What the actions share.

    def _may_tell(self, name: str) -> bool:
        """The type of a session is told once, by its leading connection (section 13.21)."""
        return self._config.tsih == 0 or KEYS[name].use is not Use.LEADING

    def _say(self, pairs: Pairs, csg: LoginStage, nsg: LoginStage | None) -> None:
        """Send keys, preceded by the answers still owed to keys the target offered."""
        answers, self._answers = self._answers, []
        self._conversation.say((*answers, *pairs), csg, nsg)

    def _route(self, pairs: Pairs, wanted: frozenset[str]) -> dict[str, str]:
        """Give each key to whom it concerns; those of security negotiation that are due now are returned."""
        due: dict[str, str] = {}
        security = self.authenticating
        for name, value in pairs:
            spec = KEYS.get(name)
            if name in self._seen and name not in REPEATABLE:
                # Section 6.3 wants the connection dropped; open-iscsi never looked. What is said again in the same
                # words leaves nothing open, except in an authentication, where nothing odd is let pass.
                if self._seen[name] != value or (spec is not None and spec.phase is Phase.SECURITY):
                    raise ProtocolViolation(f"the target sent the key {quoted(name)} twice in one login")
                self._conversation.remark(f"the target sent {quoted(name)} twice with one value")
                continue
            self._seen[name] = value
            if len(self._seen) > KEYS_MAX:
                raise ProtocolViolation(f"the target sent more than {KEYS_MAX} keys in one login")
            if name in wanted:
                due[name] = value
            elif spec is not None and spec.phase is Phase.SECURITY:
                raise ProtocolViolation(f"the target sent {name} when it was not due")
            elif spec is not None and spec.phase is Phase.OPERATIONAL and security:
                raise ProtocolViolation(f"the target sent {name} during security negotiation")
            else:
                answer = self._negotiation.take(name, value)
                if answer is not None:
                    self._answers.append((name, answer))
        return due

    def _running_chap(self) -> ChapExchange:
        if self._chap is None:
            raise Misuse("CHAP goes on that never began")
        return self._chap

    def _require_waiting(self) -> None:
        if self._state not in WAITING:
            raise Misuse(f"no PDU is due: the login {self._state.value}")

    def _violated(self, violation: ProtocolViolation) -> LoginError:
        if isinstance(violation, AlgorithmsRefused):
            return self._algorithms_rejected(violation.cause, None)
        return self._fail(violation.cause, hint=violation.hint or REPORT_IT)

    def _algorithms_rejected(self, cause: str, answered: tuple[int, int] | None) -> AlgorithmsRejected:
        retry = retry_algorithm(self._chap.algorithms, self._chap.algorithm) if self._chap else None
        error = AlgorithmsRejected(
            cause,
            subject=self._subject(),
            phase=self._phase(),
            hint=f"offer {retry.name} alone" if retry else "find out which CHAP algorithms the target has",
            exit_code=status.lookup(*answered).exit_code if answered else ExitCode.FATAL_LOGIN,
            retry_with=retry,
            status=answered,
        )
        self._state = State.FAILED
        return error

    def _fail(
        self,
        cause: str,
        *,
        hint: str = "",
        exit_code: ExitCode = ExitCode.FATAL_LOGIN,
        retryable: bool = False,
        answered: tuple[int, int] | None = None,
    ) -> LoginError:
        error = LoginError(
            cause,
            subject=self._subject(),
            phase=self._phase(),
            hint=hint,
            exit_code=exit_code,
            retryable=retryable,
            status=answered,
        )
        self._state = State.FAILED
        return error

    def _phase(self) -> str:
        return "security negotiation" if self.authenticating else "operational negotiation"

    def _subject(self) -> str:
        target, portal = self._config.target_name, self._config.portal
        if portal is None:
            return target
        return f"{target} at {portal.endpoint}" if target else portal.endpoint
