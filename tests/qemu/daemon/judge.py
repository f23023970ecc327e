# SPDX-License-Identifier: LGPL-2.1-or-later
"""On the host: what the tests of all trials have in common, and what a time is compared with.

The issue's figures are a real machine's: root goes on within two seconds of the target's return, and the worst gap
between two writes is at most twice what it is undisturbed. An emulated processor is ten to fifty times slower and
shares the host with whatever else runs there, so a fixed figure is either too strict on a busy host or too loose on a
quiet one. Both are therefore judged against a control of the same trial (:mod:`tests.qemu.daemon.control`):

* **Return**: two seconds, for the pause between two attempts, and :data:`LOGINS` times what a login by hand, which
  nothing of ours has a part in, took just then at the same target machine.
* **Stall**: twice the worst of the load's own first phase, in which programs as heavy as ours start and do nothing.
  While one of ours starts, the writer itself comes late to its next write, with no disk in it. A write is handed on by
  :data:`HANDS` processes (writer, the initiator's worker, the target's thread, the writer again), each of which may be
  as late: that is allowed on top. Below :data:`STALL_SECONDS` nothing is judged: that is a fraction of what the peer's
  login takes there, which the trial in which it logs in shows (``test_the_peer_takes_ours``).
"""

from __future__ import annotations

from typing import Any

from tests.qemu.daemon.guest import Seen

RETURN_SECONDS = 2.0
LOGINS = 4
"""A login of ours is a connection handed to the kernel and some twenty netlink requests more than one by hand."""
HANDS = 4
STALL_SECONDS = 0.3


def said(seen: Seen, name: str) -> dict[str, Any]:
    """What the guest saw in a trial; its own words when the trial could not be made."""
    assert "failed" not in seen[name], seen[name]["failed"]
    return seen[name]


def clean(load: dict[str, Any]) -> None:
    """No I/O error, every block is what was written last."""
    assert (load["errors"], load["wrong"]) == ([], [])
    assert load["writes"] > 0
    assert load["reads"] > 0


def in_time(name: str, healed: float, resumed: float, control: float) -> None:
    """Session and writes were back soon after the target."""
    limit = RETURN_SECONDS + LOGINS * control
    assert max(healed, resumed) < limit, f"{name}: healed after {healed}, writes after {resumed}, limit {limit:.2f} s"


def no_stall(load: dict[str, Any]) -> None:
    """Writes went on in the load's second phase as they did in its first."""
    undisturbed, disturbed = load["phases"]
    limit = max(2 * undisturbed["worst"] + HANDS * disturbed["late"], STALL_SECONDS)
    assert disturbed["worst"] < limit, f"{disturbed} after {undisturbed}"
