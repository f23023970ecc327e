# SPDX-License-Identifier: LGPL-2.1-or-later
"""Words for breaks and lengths of time."""

from __future__ import annotations

import pytest

from iscsiboot.keeper.break_words import Cause, break_cause, duration, wish_cause
from iscsiboot.keeper.situation import Asked, TargetWish
from iscsiboot.netlink.uapi import IscsiErr


@pytest.mark.parametrize("error", [error for error in IscsiErr if error], ids=lambda error: str(error.name))
def test_every_error_of_the_kernel_has_words_and_its_number(error: IscsiErr) -> None:
    head = break_cause(error).head
    assert head.startswith(f"Kernel reported iSCSI connection {{sid}}:0 error ({error.value} - {error.name}: ")
    assert "the kernel gave it up" not in head
    assert head.format(sid=1, place="[x]").isprintable()


def test_an_error_nobody_knows_keeps_its_number() -> None:
    assert break_cause(1099).head == (
        "Kernel reported iSCSI connection {sid}:0 error (1099 - the kernel gave it up) state (3) {place}"
    )


def test_no_error_is_what_sysfs_shows() -> None:
    assert break_cause(0) == Cause(words="the kernel has no connection any more")


def test_what_helps_is_said() -> None:
    assert break_cause(1022).hint == "check the network and the target"


def test_every_wish_has_words_of_its_own() -> None:
    assert [wish_cause(Asked(wish, wait=2.0, within=20.0)).words for wish in TargetWish] == [
        "Target requests logout within 20 seconds",
        "Target dropping connection 0, reconnect min 2 max 20",
        "Target dropping all connections, reconnect min 2 max 20",
        "the target asks for a new negotiation",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0.0 s"),
        (0.04, "0.0 s"),
        (0.26, "0.3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (63.4, "63 s"),
        (119.4, "119 s"),
        (119.6, "120 s"),
        (120.0, "2 min"),
        (7199.0, "120 min"),
        (7200.0, "2 h"),
        (172800.0, "2 days"),
        (864000.0, "10 days"),
    ],
)
def test_a_length_of_time(seconds: float, text: str) -> None:
    assert duration(seconds) == text
