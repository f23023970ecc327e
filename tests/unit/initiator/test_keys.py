# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of keys against RFC 7143 chapter 13, written down a second time."""

from __future__ import annotations

import pytest

from iscsiboot.initiator.keys import CONSTANTS, KEYS, REPEATABLE, Kind, Phase, Relevance, Scope, Sender, Use

# key: use, senders (I, T, IT), scope, rule, range, default; "irrelevant" when SessionType=Discovery.
RFC = """
HeaderDigest              IO    IT  CO  list       -              None
DataDigest                IO    IT  CO  list       -              None
MaxConnections            LO    IT  SW  minimum    1..65535       1        irrelevant
SendTargets               FFPO  I   SW  declared   -              -
TargetName                IO    I   SW  declared   -              -
InitiatorName             IO    I   SW  declared   -              -
TargetAlias               ALL   T   SW  declared   -              -
InitiatorAlias            ALL   I   SW  declared   -              -
TargetAddress             ALL   T   SW  declared   -              -
TargetPortalGroupTag      IO    T   SW  declared   0..65535       -
InitialR2T                LO    IT  SW  or         -              Yes      irrelevant
ImmediateData             LO    IT  SW  and        -              Yes      irrelevant
MaxRecvDataSegmentLength  ALL   IT  CO  declared   512..16777215  8192
MaxBurstLength            LO    IT  SW  minimum    512..16777215  262144   irrelevant
FirstBurstLength          LO    IT  SW  minimum    512..16777215  65536    irrelevant
DefaultTime2Wait          LO    IT  SW  maximum    0..3600        2
DefaultTime2Retain        LO    IT  SW  minimum    0..3600        20
MaxOutstandingR2T         LO    IT  SW  minimum    1..65535       1        irrelevant
DataPDUInOrder            LO    IT  SW  or         -              Yes      irrelevant
DataSequenceInOrder       LO    IT  SW  or         -              Yes      irrelevant
ErrorRecoveryLevel        LO    IT  SW  minimum    0..2           0
SessionType               LO    I   SW  declared   -              Normal
TaskReporting             LO    IT  SW  list       -              RFC3720  irrelevant
iSCSIProtocolLevel        LO    IT  SW  minimum    0..31          1        irrelevant
""".strip().splitlines()

SENDERS = {"I": Sender.INITIATOR, "T": Sender.TARGET, "IT": Sender.BOTH}
SCOPES = {"SW": Scope.SESSION, "CO": Scope.CONNECTION}


@pytest.mark.parametrize("line", RFC, ids=lambda line: line.split()[0])
def test_chapter_13(line: str) -> None:
    name, use, senders, scope, rule, limits, default, *irrelevant = line.split()
    spec = KEYS[name]
    assert spec.use is Use(use)
    assert spec.sender is SENDERS[senders]
    assert spec.scope is SCOPES[scope]
    assert spec.declared if rule == "declared" else spec.kind is Kind(rule)
    assert (f"{spec.low}..{spec.high}" if spec.numeric else "-") == limits
    assert (spec.default or "-") == default
    assert spec.relevance is (Relevance.NORMAL if irrelevant else Relevance.ALWAYS)


def test_chapter_13_and_what_is_not_in_it() -> None:
    others = {name for name, spec in KEYS.items() if spec.phase is not Phase.SECURITY} - {
        line.split()[0] for line in RFC
    }
    assert others == {
        # Section 13.25, obsolete.
        "IFMarker",
        "OFMarker",
        "IFMarkInt",
        "OFMarkInt",
        # RFC 7145.
        "RDMAExtensions",
        "InitiatorRecvDataSegmentLength",
        "TargetRecvDataSegmentLength",
        "MaxAHSLength",
        "TaggedBufferForSolicitedDataOnly",
        "iSERHelloRequired",
        "MaxOutstandingUnexpectedPDUs",
    }
    assert {name for name in others if KEYS[name].relevance is Relevance.ISER} == {
        name for name in others if "Mark" not in name and name != "RDMAExtensions"
    }


def test_the_security_stage_has_chapter_12_and_nothing_else() -> None:
    security = {name for name, spec in KEYS.items() if spec.phase is Phase.SECURITY}
    assert {name for name in security if not name.startswith(("CHAP_", "SRP_", "KRB_"))} == {"AuthMethod", "TargetAuth"}
    assert all(KEYS[name].use is Use.LOGIN for name in security)
    assert {"KRB_AP_REQ", "KRB_AP_REP", "SRP_U", "SRP_HM"} <= security


def test_what_is_never_a_key() -> None:
    assert KEYS.keys() >= REPEATABLE
    assert not CONSTANTS & KEYS.keys()
    assert not {name for name in KEYS if name[:2] in ("X-", "X#", "Y-", "Y#", "Z-", "Z#")}


@pytest.mark.parametrize("spec", KEYS.values(), ids=KEYS)
def test_a_row_is_consistent(spec: object) -> None:
    row = KEYS[getattr(spec, "name", "")]
    assert (row.phase is Phase.NONE) == (row.use is Use.FULL_FEATURE)
    assert not row.choices or row.kind is Kind.LIST
    assert row.use is not Use.LEADING or row.scope is Scope.SESSION
    # The full feature phase renegotiates nothing that needs an answer (initiator.renegotiation relies on it).
    assert row.use is not Use.ALL or row.declared
