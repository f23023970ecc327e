# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a target can do, and what that makes of an initiator's offers: RFC 7143 chapter 13, written a second time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

YES, NO, REJECT = "Yes", "No", "Reject"

DEFAULTS: Mapping[str, str] = {
    "HeaderDigest": "None",
    "DataDigest": "None",
    "MaxConnections": "1",
    "InitialR2T": YES,
    "ImmediateData": YES,
    "MaxRecvDataSegmentLength": "8192",
    "MaxBurstLength": "262144",
    "FirstBurstLength": "65536",
    "MaxOutstandingR2T": "1",
    "DataPDUInOrder": YES,
    "DataSequenceInOrder": YES,
    "ErrorRecoveryLevel": "0",
}
"""What holds for a key nobody mentions."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What this target can do. Sizes in bytes, times in seconds."""

    max_burst_length: int = 262144
    first_burst_length: int = 65536
    max_outstanding_r2t: int = 1
    max_recv_data_segment_length: int = 8192
    initial_r2t: bool = True
    """It insists on R2T when True; False leaves the choice to the initiator."""
    immediate_data: bool = True
    header_digests: tuple[str, ...] = ("None", "CRC32C")
    data_digests: tuple[str, ...] = ("None", "CRC32C")

    def answer(self, key: str, offered: str) -> str | None:
        """The honest answer to an operational key; None: nothing is due."""
        if offered in ("NotUnderstood", "Irrelevant", REJECT):
            return None  # an answer to a key of ours, no offer
        smaller = {
            "MaxBurstLength": self.max_burst_length,
            "FirstBurstLength": self.first_burst_length,
            "MaxOutstandingR2T": self.max_outstanding_r2t,
            "MaxConnections": 1,
            "ErrorRecoveryLevel": 0,
        }
        digests = {"HeaderDigest": self.header_digests, "DataDigest": self.data_digests}
        if key in smaller:
            return str(min(smaller[key], int(offered)))
        if key in digests:
            return next((item for item in offered.split(",") if item in digests[key]), REJECT)
        if key in ("DefaultTime2Wait", "DefaultTime2Retain"):
            return offered
        if key in ("DataPDUInOrder", "DataSequenceInOrder"):
            return YES
        if key == "InitialR2T":
            return YES if self.initial_r2t or offered == YES else NO
        if key == "ImmediateData":
            return YES if self.immediate_data and offered == YES else NO
        if key in ("IFMarker", "OFMarker"):
            return REJECT
        return str(self.max_recv_data_segment_length) if key == "MaxRecvDataSegmentLength" else None


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """What both sides have said once login is over, as the target understood it."""

    header_digest: bool
    data_digest: bool
    initial_r2t: bool
    immediate_data: bool
    max_burst_length: int
    first_burst_length: int
    max_outstanding_r2t: int
    we_take: int
    """Bytes of data the target takes in one PDU."""
    initiator_takes: int

    @classmethod
    def from_keys(cls, offered: Mapping[str, str], answered: Mapping[str, str]) -> Agreed:
        """From the last value each side gave for each key; Reject and silence leave the default."""
        value = {**DEFAULTS, **{key: text for key, text in answered.items() if text != REJECT}}
        burst = int(value["MaxBurstLength"], 0)
        return cls(
            header_digest=value["HeaderDigest"] == "CRC32C",
            data_digest=value["DataDigest"] == "CRC32C",
            initial_r2t=value["InitialR2T"] == YES,
            immediate_data=value["ImmediateData"] == YES,
            max_burst_length=burst,
            # Section 13.14: the first burst never exceeds a burst, whatever the order of the keys made of it.
            first_burst_length=min(burst, int(value["FirstBurstLength"], 0)),
            max_outstanding_r2t=int(value["MaxOutstandingR2T"], 0),
            we_take=int(value["MaxRecvDataSegmentLength"], 0),
            initiator_takes=int(offered.get("MaxRecvDataSegmentLength", DEFAULTS["MaxRecvDataSegmentLength"]), 0),
        )
