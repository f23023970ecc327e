# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of iscsiboot is measured: one login and one discovery, by the calls programs make (``iscsiboot.session``)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from iscsiboot.initiator.chap import STRONGEST_FIRST, ChapAlgorithm
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.discover import discover as session_discover
from iscsiboot.session.discover import discovery_config
from iscsiboot.session.open_link import open_link

INITIATOR = "iqn.2004-01.com.example:host"
ISID = bytes.fromhex("00023d000001")
SECONDS = 120.0
"""For one login or one discovery."""


def login(host: str, port: int, target: str, user: tuple[str, str] | None = None) -> None:
    """Connect, log in to ``target`` (one-way CHAP with MD5 of ``user``), disconnect."""
    known = Credentials(outgoing=Chap(name=user[0], secret=Secret(user[1].encode())), incoming=None) if user else None
    config = LoginConfig(
        initiator_name=INITIATOR,
        target_name=target,
        isid=ISID,
        params=SessionParams(),
        credentials=known,
        # MD5: the one algorithm both tgt and libiscsi know.
        chap_algorithms=(ChapAlgorithm.MD5,) if known else STRONGEST_FIRST,
    )
    link, _ = open_link(_portal(host, port), config, deadline=_deadline("a login"))
    link.close()


def discover(host: str, port: int, on_target: Callable[[DiscoveredTarget], None]) -> int:
    """Connect, discovery login, SendTargets=All, log out; how many targets were handed to ``on_target``."""
    config = discovery_config(initiator_name=INITIATOR, entropy=os.urandom)
    return session_discover(_portal(host, port), config, deadline=_deadline("a discovery"), on_target=on_target).found


def _portal(host: str, port: int) -> Portal:
    return Portal(address=parse_ip(host), port=port)


def _deadline(what: str) -> Deadline:
    return Deadline.after(SECONDS, now=time.monotonic(), reason=what)
