# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a discovery finds: a target's name and where it is served (RFC 7143 appendix C)."""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.model.portal import NamedPortal, Portal


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscoveredTarget:
    """One target of an answer; its name has passed :func:`iscsiboot.model.names.check_target_name`."""

    name: str
    portals: tuple[Portal | NamedPortal, ...]
    """At least one, in the target's order: without an address of its own it has the portal that was asked."""
