# SPDX-License-Identifier: LGPL-2.1-or-later
"""The boots this project proves, by name: those that must reach multi-user, and the controls that must fail.

A control says at which stage ``iscsistart`` has to stop and which words its line must have, so that a boot that fails
for another reason does not pass for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from iscsiboot.errors import Stage
from iscsiboot.model.credentials import Chap, Credentials, Secret
from tests.qemu.harness.disk import Variant
from tests.qemu.harness.firmware import Lane

INITIATOR = "iqn.2025-01.org.example:machine-under-test"
TARGET = "iqn.2025-01.org.example:root"

OUTGOING = Chap(name="machine", secret=Secret(b"initiator-secret-16"))
INCOMING = Chap(name="storage", secret=Secret(b"target-secret-14"))
CHAP = Credentials(outgoing=OUTGOING)
MUTUAL = Credentials(outgoing=OUTGOING, incoming=INCOMING)


class Fault(Enum):
    """What is wrong in a control; the value reads after "a machine with"."""

    TARGET_OFF = "its target switched off"
    PORT_CLOSED = "its target's port closed"
    WRONG_NAME = "a wrong target name"
    WRONG_SECRET = "a wrong CHAP secret"
    WRONG_MUTUAL_SECRET = "a target that gives a wrong mutual secret"
    LUN_ABSENT = "a LUN the target does not have"
    NIC_ABSENT = "a table that names a NIC it does not have"
    BAD_CHECKSUM = "a table with a bad checksum"
    NO_ISCSI_TCP = "a kernel without iscsi_tcp"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The one line on the console a control must end with."""

    stage: Stage
    words: str
    """A regular expression searched in the line's subject and cause."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BootCase:
    """One boot."""

    name: str
    lane: Lane = Lane.TABLE
    variant: Variant = Variant.SYSTEMD
    dhcp: bool = False
    credentials: Credentials | None = None
    fault: Fault | None = None
    failure: Failure | None = None
    """Set with ``fault``."""
    seconds: float = 300.0
    """The bound on the whole run, generous for a busy machine; a control that needs it has hung."""


ATTACH_SECONDS = 20
"""rd.iscsiboot.timeout of the controls: the bound on everything iscsistart does."""


def _control(
    fault: Fault,
    stage: Stage,
    words: str,
    *,
    lane: Lane = Lane.TABLE,
    variant: Variant = Variant.SYSTEMD,
    credentials: Credentials | None = None,
) -> BootCase:
    return BootCase(
        name=f"control-{fault.name.lower().replace('_', '-')}",
        lane=lane,
        variant=variant,
        credentials=credentials,
        fault=fault,
        failure=Failure(stage=stage, words=words),
        seconds=180.0,
    )


BOOTS = (
    BootCase(name="ipxe-bios", lane=Lane.IPXE_BIOS),
    BootCase(name="table-static-chap", credentials=CHAP),
    BootCase(name="table-dhcp-mutual-chap", dhcp=True, credentials=MUTUAL),
    BootCase(name="table-without-systemd", variant=Variant.SHELL),
)

CONTROLS = (
    _control(Fault.TARGET_OFF, Stage.CONNECT, r"10\.0\.2\.77.*(no route to host|waited|timed out|unreachable)"),
    _control(Fault.PORT_CLOSED, Stage.CONNECT, r"10\.0\.2\.2:\d+.*refused"),
    _control(Fault.WRONG_NAME, Stage.LOGIN, r"root-wrong at .*not found"),
    _control(Fault.WRONG_SECRET, Stage.LOGIN, r"authentication failure", credentials=CHAP),
    _control(Fault.WRONG_MUTUAL_SECRET, Stage.LOGIN, r"target .*wrong secret \(mutual CHAP\)", credentials=MUTUAL),
    _control(Fault.LUN_ABSENT, Stage.SCAN, r"no LUN 7\b"),
    _control(Fault.NIC_ABSENT, Stage.NETWORK, r"52:54:00:00:ab:5e"),
    _control(Fault.BAD_CHECKSUM, Stage.FIRMWARE, r"incorrect checksum", lane=Lane.LOWMEM),
    _control(Fault.NO_ISCSI_TCP, Stage.MODULES, r"iscsi_tcp", variant=Variant.WITHOUT_ISCSI_TCP),
)

CASES = {case.name: case for case in (*BOOTS, *CONTROLS)}
