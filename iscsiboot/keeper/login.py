# SPDX-License-Identifier: LGPL-2.1-or-later
"""A new session by order, on the event loop: attempts with the retries of a record, any number of orders at once.

The retries are those of :func:`iscsiboot.session.login.log_in`, to the second; an attempt is the one of a recovery.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from iscsiboot.errors import IscsiBootError
from iscsiboot.keeper.attempt import Attempt, Made, Tools, resolve
from iscsiboot.keeper.patience import Patience
from iscsiboot.keeper.port import Inbox
from iscsiboot.keeper.values import Known, RecordName, Source
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import NamedPortal
from iscsiboot.session.login import LoginOrder, Retries, unresolved
from iscsiboot.session.values import AttachRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedIn:
    """A new session that works; its units are not looked for yet."""

    made: Made
    attempt: Attempt
    known: Known


async def addressed(order: LoginOrder, tools: Tools) -> AttachRequest:
    """The order's request with an address to go to; IscsiBootError with exit code 4 when the name has none."""
    if not isinstance(order.portal, NamedPortal):
        return replace(order.request, portal=order.portal)
    try:
        return replace(order.request, portal=await resolve(order.portal, tools))
    except IscsiBootError as error:
        raise unresolved(order.portal, error) from error


async def log_in(
    request: AttachRequest, order: LoginOrder, record: RecordName | None, tools: Tools, patience: Patience
) -> LoggedIn:
    """Make the session; IscsiBootError of the last attempt, each of which leaves nothing behind."""
    now = tools.environment.now
    retries: Retries | None = None
    while True:
        attempt = Attempt(tools=tools, request=request, patience=patience)
        try:
            made = await attempt.run()
        except IscsiBootError as error:
            if retries is None:
                # From its first turn: in a crowd the time to try again in would be over before the first try.
                began = now() if attempt.began is None else attempt.began
                retries = Retries(order, request.params.default_time2wait, began)
            number, pause = retries.number, retries.pause(error, now())
            if pause is None:
                raise
            tools.note(f"attempt {number}: {error.line()}; again in {pause:g} s")
            # Nobody writes to it: what ends the pause is the deadline, or a cancellation.
            await Inbox(now).next(Deadline.after(pause, now=now(), reason="the next attempt"))
        else:
            known = Known(
                request=request,
                source=Source.ORDER,
                record=record,
                tpgt=made.outcome.tpgt,
                time2wait=float(made.outcome.negotiated.default_time2wait),
                reopen_max=order.reopen_max,
                scan=order.scan,
                algorithm=made.algorithm,
                retries=(),
            )
            return LoggedIn(made=made, attempt=attempt, known=known)
