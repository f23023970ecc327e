# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which login attempt follows which: redirects and the one retry with a single CHAP algorithm, as a policy without I/O.

The caller makes an attempt at :attr:`LoginRoute.portal` with :attr:`LoginRoute.algorithms`. When the target sends it
elsewhere it tells :meth:`LoginRoute.redirected`, when the target rejects the list of algorithms it tells
:meth:`LoginRoute.rejected`, and makes the next attempt; both raise the error that ends the login when enough was tried.
So the number of attempts is bounded whatever the targets say: REDIRECTS_MAX hops, one retry, and one more where the
login began with the single algorithm an earlier one had ended with.
"""

from __future__ import annotations

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.errors import AlgorithmsRejected, LoginError
from iscsiboot.initiator.events import LoginRedirected
from iscsiboot.model.portal import Portal, on_link_of

REDIRECTS_MAX = 4
"""Hops of one login; who needs more is lost."""


class LoginRoute:
    """The way of one login; ``subject`` names the target in its errors.

    ``algorithm`` is what an earlier login of the session had to offer alone: this one begins with it.
    """

    def __init__(self, portal: Portal, *, subject: str, algorithm: ChapAlgorithm | None = None) -> None:
        self._subject = subject
        self._visited = [portal.endpoint]
        self._settled = True
        self.portal = portal
        """Where to try now."""
        self._remembered = algorithm is not None
        self.algorithms: tuple[ChapAlgorithm, ...] | None = None if algorithm is None else (algorithm,)
        """The CHAP algorithms to offer now; None for the caller's own list."""
        self.final = portal
        """The portal to remember: a permanent redirect moves it, unless a temporary one led there (section 11.13.5)."""

    def redirected(self, redirect: LoginRedirected, there: Portal) -> None:
        """Go to ``there``: the portal of ``redirect``, its name resolved by the caller.

        Raises :class:`~iscsiboot.initiator.errors.LoginError`, retryable since targets that fail over point at each
        other for a moment, when it leads back to where we were or further than :data:`REDIRECTS_MAX` hops.
        """
        portal = Portal(address=on_link_of(there.address, self.portal.address), port=there.port, tpgt=there.tpgt)
        ring = portal.endpoint in self._visited
        if ring or len(self._visited) > REDIRECTS_MAX:
            how = "in a ring" if ring else f"more than {REDIRECTS_MAX} times"
            raise LoginError(
                f"redirected {how}: {' -> '.join([*self._visited, portal.endpoint])}",
                subject=self._subject,
                phase="connection",
                hint="check the redirection at the target",
                exit_code=ExitCode.LOGIN,
                retryable=True,
            )
        self._visited.append(portal.endpoint)
        self.portal = portal
        self._settled = self._settled and redirect.permanent
        if self._settled:
            self.final = portal

    def rejected(self, error: AlgorithmsRejected) -> None:
        """Try the single algorithm the error names; raises ``error`` itself after that, or when it names none.

        One that was remembered is forgotten first, for the whole list: the target is another one now.
        """
        if self._remembered:
            self._remembered = False
            self.algorithms = None
            return
        if self.algorithms is not None or error.retry_with is None:
            raise error
        self.algorithms = (error.retry_with,)
