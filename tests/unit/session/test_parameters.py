# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two parameter blocks, in the order open-iscsi's were captured in, and the ISID."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.negotiation import Negotiated
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.netlink.uapi import Cap
from iscsiboot.session.parameters import after_login, before_login, isid
from iscsiboot.session.values import AttachRequest

REQUEST = AttachRequest(
    initiator_name="iqn.2026-01.org.example:guest",
    target_name="iqn.2026-01.org.example:disk",
    portal=Portal(address=parse_ip("fd00::7"), port=3261, tpgt=4),
    lun=Lun.from_number(1),
    params=SessionParams(replacement_timeout=-1, noop_out_interval=5, noop_out_timeout=6, fast_abort=False),
    credentials=Credentials(
        outgoing=Chap(name="alice", secret=Secret(b"outgoing secret")),
        incoming=Chap(name="target", secret=Secret(b"incoming secret")),
    ),
    boot_root="iscsi_boot0",
    boot_nic="ethernet0",
    boot_target="target0",
)
OUTCOME = LoginSucceeded(
    negotiated=Negotiated(
        header_digest=True,
        data_digest=False,
        initial_r2t=False,
        immediate_data=True,
        max_burst_length=262144,
        first_burst_length=65536,
        max_outstanding_r2t=2,
        max_recv_data_segment_length=131072,
        max_xmit_data_segment_length=8192,
        default_time2wait=2,
        default_time2retain=0,
        error_recovery_level=0,
        max_connections=1,
        data_pdu_in_order=True,
        data_sequence_in_order=True,
    ),
    tsih=1,
    tpgt=4,
    target_alias=None,
    statsn=41,
    exp_cmdsn=1,
    max_cmdsn=32,
)
ALL = Cap.CAP_HDRDGST | Cap.CAP_DATADGST | Cap.CAP_MULTI_R2T | Cap.CAP_MARKERS


def numbered(values: tuple[tuple[int, str | bytes], ...]) -> list[tuple[int, str | bytes]]:
    return [(int(param), value) for param, value in values]


def test_before_the_login() -> None:
    assert numbered(before_login(REQUEST, has_ping=True)) == [
        (15, "iqn.2026-01.org.example:disk"),
        (17, "fd00::7"),
        (18, "3261"),
        (19, "-1"),
        (22, "alice"),
        (23, "target"),
        (24, b"outgoing secret"),
        (25, b"incoming secret"),
        (26, "0"),
        (27, "15"),
        (28, "30"),
        (35, "30"),
        (30, "6"),
        (31, "5"),
        (32, "default"),
        (34, "iqn.2026-01.org.example:guest"),
        (39, "iscsi_boot0"),
        (40, "ethernet0"),
        (41, "target0"),
        (43, "0"),
    ]


def test_empty_values_are_left_out() -> None:
    bare = replace(REQUEST, credentials=None, boot_root="", boot_nic="", boot_target="")
    left_out = {22, 23, 24, 25, 30, 31, 39, 40, 41}
    assert left_out.isdisjoint(number for number, _ in numbered(before_login(bare, has_ping=False)))


def test_after_the_login() -> None:
    assert numbered(after_login(OUTCOME, caps=ALL)) == [
        (0, "131072"),
        (1, "8192"),
        (2, "1"),
        (3, "0"),
        (4, "0"),
        (5, "2"),
        (6, "1"),
        (7, "65536"),
        (8, "262144"),
        (9, "1"),
        (10, "1"),
        (11, "0"),
        (12, "0"),
        (13, "0"),
        (14, "42"),
        (16, "4"),
    ]


@pytest.mark.parametrize(
    ("missing", "numbers"),
    [
        (Cap.CAP_HDRDGST, {2}),
        (Cap.CAP_DATADGST, {3}),
        (Cap.CAP_MULTI_R2T, {5}),
        (Cap.CAP_MARKERS, {12, 13}),
    ],
    ids=lambda value: str(value),
)
def test_what_the_transport_cannot_is_left_out(missing: Cap, numbers: set[int]) -> None:
    everything = {number for number, _ in numbered(after_login(OUTCOME, caps=ALL))}
    assert {number for number, _ in numbered(after_login(OUTCOME, caps=ALL & ~missing))} == everything - numbers


def test_the_status_number_wraps_and_an_unknown_group_is_left_out() -> None:
    values = dict(numbered(after_login(replace(OUTCOME, statsn=0xFFFFFFFF, tpgt=None), caps=ALL)))
    assert values[14] == "0"
    assert 16 not in values


@pytest.mark.parametrize(("sid", "text"), [(1, "00023d000001"), (0x123456, "00023d123456"), (1 << 24, "00023d000000")])
def test_isid(sid: int, text: str) -> None:
    assert isid(sid).hex() == text
