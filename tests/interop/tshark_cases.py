# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every PDU kind with a meaning of its own, and how what tshark shows of it is compared with what we meant."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from iscsiboot.initiator.pdu.ahs import encode_list, read_length, split_cdb
from iscsiboot.initiator.pdu.control import (
    AsyncEvent,
    AsyncMessage,
    LogoutReason,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    TextRequest,
    TextResponse,
)
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Pdu
from iscsiboot.initiator.pdu.login import LoginRequest, LoginResponse
from iscsiboot.initiator.pdu.registry import TARGET_PDUS
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.pdu.scsi import (
    Attribute,
    DataIn,
    DataOut,
    ReadyToTransfer,
    ScsiCommand,
    ScsiResponse,
    SnackRequest,
    SnackType,
    TaskFunction,
    TaskManagementRequest,
    TaskManagementResponse,
)
from iscsiboot.initiator.stream import frame
from iscsiboot.initiator.text import encode_pairs
from iscsiboot.model.lun import Lun
from tests.doubles.pcap import Dissected, Piece

LUN = Lun.from_number(5).wire
READ10 = bytes.fromhex("28000000100000000800").ljust(16, b"\0")
WRITE10 = bytes.fromhex("2a000000100000000800").ljust(16, b"\0")
XDWRITEREAD32 = bytes.fromhex("7f000000000000180007") + bytes(range(10, 32))
KEYS = encode_pairs([("InitiatorName", "iqn.2004-01.com.example:host"), ("SessionType", "Discovery")])


@dataclass(frozen=True)
class Case:
    """A PDU and the name of its meaning."""

    name: str
    pdu: Pdu
    data: bytes = b""
    ahs: bytes = b""
    texts: dict[str, list[str]] = field(default_factory=dict)
    """What tshark must show besides the header's fields."""

    @property
    def complete(self) -> Pdu:
        """The PDU with its lengths, unless it brings them."""
        if self.pdu.data_length or self.pdu.ahs_length:
            return self.pdu
        return replace(self.pdu, data_length=len(self.data), ahs_length=len(self.ahs))

    @property
    def from_target(self) -> bool:
        return self.pdu.OPCODE in TARGET_PDUS

    @property
    def is_login(self) -> bool:
        return isinstance(self.pdu, LoginRequest | LoginResponse)

    def wire(self, header: bool = False, data: bool = False) -> bytes:
        """The bytes with these digests, which a login never has."""
        header, data = (header, data) if not self.is_login else (False, False)
        return frame(self.complete.encode(), self.data, self.ahs, header_digest=header, data_digest=data)

    def piece(self, header: bool = False, data: bool = False) -> Piece:
        return Piece(self.wire(header, data), self.from_target)


def command(cdb: bytes, **fields: object) -> ScsiCommand:
    plain: dict[str, object] = {"lun": LUN, "itt": 0x101, "cmdsn": 7, "exp_statsn": 3, "expected_length": 4096}
    return ScsiCommand(cdb=cdb, **(plain | fields))  # type: ignore[arg-type]  # fields by name


def task_management(function: TaskFunction) -> Case:
    tag = 0x101 if function in (TaskFunction.ABORT_TASK, TaskFunction.TASK_REASSIGN) else RESERVED_TAG
    pdu = TaskManagementRequest(
        function=function, lun=LUN, itt=0x200 + function, referenced_tag=tag, cmdsn=9, exp_statsn=4, ref_cmdsn=7
    )
    return Case(f"task-management-{function.name}", pdu)


SENT = (
    Case(
        "login-security",
        LoginRequest(transit=True, csg=0, nsg=1, isid=bytes.fromhex("00023d000001"), itt=1, cmdsn=1, exp_statsn=0),
        encode_pairs([("InitiatorName", "iqn.2004-01.com.example:host"), ("AuthMethod", "CHAP,None")]),
        texts={"iscsi.keyvalue": ["InitiatorName=iqn.2004-01.com.example:host", "AuthMethod=CHAP,None"]},
    ),
    Case(
        "login-continued",
        LoginRequest(transit=False, cont=True, csg=1, isid=bytes.fromhex("00023d000001"), itt=1, cmdsn=1, exp_statsn=1),
        KEYS,
    ),
    Case("ping", NopOut(itt=0x31, cmdsn=2, exp_statsn=5), b"ping!", texts={"iscsi.pingdata": ["70:69:6e:67:21"]}),
    Case("pong", NopOut(immediate=True, lun=LUN, ttt=0x77, cmdsn=2, exp_statsn=6), b"payload"),
    Case("exp-statsn-only", NopOut(immediate=True, cmdsn=2, exp_statsn=7)),
    Case("read", command(READ10, read=True)),
    Case("test-unit-ready", command(bytes(16), expected_length=0, attribute=Attribute.UNTAGGED)),
    Case("write-immediate", command(WRITE10, write=True, itt=0x102), bytes(range(200)) * 5),
    Case("write-unsolicited", command(WRITE10, write=True, final=False, itt=0x103, attribute=Attribute.ORDERED)),
    Case(
        "bidirectional-32",
        command(split_cdb(XDWRITEREAD32)[0], read=True, write=True, itt=0x104, attribute=Attribute.HEAD_OF_QUEUE),
        ahs=encode_list([*split_cdb(XDWRITEREAD32)[1], read_length(0x1234)]),
        texts={
            "iscsi.ahs.type": ["1", "2"],
            "iscsi.ahs.extended_cdb": [bytes(range(16, 32)).hex(":")],
            "iscsi.ahs.bidir.length": [str(0x1234)],
        },
    ),
    Case("data-out-unsolicited", DataOut(final=True, itt=0x103, exp_statsn=8, datasn=0, buffer_offset=0), bytes(513)),
    Case(
        "data-out-solicited",
        DataOut(final=False, lun=LUN, itt=0x103, ttt=0x88, exp_statsn=8, datasn=3, buffer_offset=0x20000),
        bytes(1024),
    ),
    *(task_management(function) for function in TaskFunction),
    Case("text", TextRequest(itt=0x300, cmdsn=10, exp_statsn=9), b"SendTargets=All\0"),
    Case("text-continued", TextRequest(final=False, cont=True, itt=0x301, cmdsn=11, exp_statsn=9), KEYS),
    Case("text-more", TextRequest(lun=LUN, itt=0x302, ttt=0x99, cmdsn=12, exp_statsn=10)),
    *(
        Case(f"logout-{reason.name}", LogoutRequest(reason=reason, itt=0x400, cid=reason, cmdsn=13, exp_statsn=11))
        for reason in LogoutReason
    ),
    Case(
        "snack",
        SnackRequest(type=SnackType.STATUS, itt=RESERVED_TAG, exp_statsn=12, begrun=5, runlength=6),
    ),
)

_NUMBERS: dict[str, Any] = {"statsn": 0x1001, "exp_cmdsn": 0x2002, "max_cmdsn": 0x3003}
ANSWERED = (
    Case(
        "login-response",
        LoginResponse(transit=True, csg=1, nsg=3, isid=bytes.fromhex("00023d000001"), tsih=9, itt=1, **_NUMBERS),
        encode_pairs([("TargetPortalGroupTag", "1")]),
    ),
    Case("nop-in", NopIn(lun=LUN, ttt=0x77, **_NUMBERS)),
    Case("data-in", DataIn(final=True, itt=0x101, datasn=1, buffer_offset=512, **_NUMBERS), bytes(512)),
    Case(
        "data-in-status",
        DataIn(final=True, underflow=True, status_present=True, itt=0x101, datasn=2, residual=3584, **_NUMBERS),
        bytes(512),
    ),
    Case(
        "r2t",
        ReadyToTransfer(itt=0x103, ttt=0x88, r2tsn=0, buffer_offset=512, desired_length=1024, lun=LUN, **_NUMBERS),
    ),
    Case("scsi-response", ScsiResponse(itt=0x102, exp_datasn=2, overflow=True, residual=7, **_NUMBERS)),
    Case(
        "check-condition",
        ScsiResponse(itt=0x104, status=2, bidi_underflow=True, bidi_residual=5, **_NUMBERS),
        bytes.fromhex("0012 7000050000000000000000002400 000000000000".replace(" ", "")),
    ),
    Case("task-management-response", TaskManagementResponse(response=5, itt=0x201, **_NUMBERS)),
    Case("text-response", TextResponse(itt=0x300, **_NUMBERS), b"TargetName=iqn.2004-01.com.example:disk\0"),
    Case(
        "text-response-more",
        TextResponse(final=False, cont=True, itt=0x301, ttt=0x99, **_NUMBERS),
        b"TargetName=iqn.2004-01.a:b\0",
    ),
    Case("logout-response", LogoutResponse(response=1, itt=0x400, time2wait=2, time2retain=20, **_NUMBERS)),
    Case(
        "async",
        AsyncMessage(event=AsyncEvent.CONNECTION_DROP, vcode=1, parameter1=2, parameter2=3, parameter3=4, **_NUMBERS),
    ),
    Case("reject", Reject(reason=4, **_NUMBERS), NopOut(cmdsn=1, exp_statsn=1).encode()),
)

# Our names -> tshark's. What is in no table here tshark does not show as a field of its own.
COMMON = {
    "itt": "iscsi.initiatortasktag",
    "ttt": "iscsi.targettransfertag",
    "cmdsn": "iscsi.cmdsn",
    "exp_statsn": "iscsi.expstatsn",
    "statsn": "iscsi.statsn",
    "exp_cmdsn": "iscsi.expcmdsn",
    "max_cmdsn": "iscsi.maxcmdsn",
    "data_length": "iscsi.datasegmentlength",
    "immediate": "iscsi.I",
    "cid": "iscsi.cid",
    "tsih": "iscsi.tsih",
    "datasn": "iscsi.datasn",
    "exp_datasn": "iscsi.expdatasn",
    "buffer_offset": "iscsi.bufferOffset",
    "version_max": "iscsi.versionmax",
    "version_min": "iscsi.versionmin",
    "version_active": "iscsi.versionactive",
    "csg": "iscsi.login.csg",
    "time2wait": "iscsi.time2wait",
    "time2retain": "iscsi.time2retain",
    "r2tsn": "iscsi.r2tsn",
    "desired_length": "iscsi.desireddatalength",
    "referenced_tag": "iscsi.taskmanfun.referencedtasktag",
    "ref_cmdsn": "iscsi.refcmdsn",
    "function": "iscsi.taskmanfun.function",
    "event": "iscsi.asyncevent",
    "vcode": "iscsi.eventvendorcode",
    "parameter1": "iscsi.parameter1",
    "parameter2": "iscsi.parameter2",
    "parameter3": "iscsi.parameter3",
    "begrun": "iscsi.snack.begrun",
    "runlength": "iscsi.snack.runlength",
    "type": "iscsi.snack.type",
    "bidi_residual": "iscsi.scsiresponse.bidireadresidualcount",
    "expected_length": "iscsi.scsicommand.expecteddatatransferlength",
    "attribute": "iscsi.scsicommand.attr",
    "read": "iscsi.scsicommand.R",
    "write": "iscsi.scsicommand.W",
}
OWN: dict[type[Pdu], dict[str, str]] = {
    ScsiCommand: {"final": "iscsi.scsicommand.F"},
    DataOut: {"final": "iscsi.scsidata.F"},
    DataIn: {
        "final": "iscsi.scsidata.F",
        "acknowledge": "iscsi.scsidata.A",
        "status_present": "iscsi.scsidata.S",
        "overflow": "iscsi.scsidata.O",
        "underflow": "iscsi.scsidata.U",
        "residual": "iscsi.scsidata.readresidualcount",
        "status": "iscsi.scsiresponse.status",
    },
    ScsiResponse: {
        "overflow": "iscsi.scsiresponse.O",
        "underflow": "iscsi.scsiresponse.U",
        "bidi_overflow": "iscsi.scsiresponse.o",
        "bidi_underflow": "iscsi.scsiresponse.u",
        "residual": "iscsi.scsiresponse.residualcount",
        "status": "iscsi.scsiresponse.status",
        "response": "iscsi.scsiresponse.response",
    },
    TextRequest: {"final": "iscsi.text.F", "cont": "iscsi.text.C"},
    TextResponse: {"final": "iscsi.text.F", "cont": "iscsi.text.C"},
    LoginRequest: {"transit": "iscsi.login.T", "cont": "iscsi.login.C"},
    LoginResponse: {"transit": "iscsi.login.T", "cont": "iscsi.login.C"},
    LogoutRequest: {"reason": "iscsi.logout.reason"},
    LogoutResponse: {"response": "iscsi.logout.response"},
    TaskManagementResponse: {"response": "iscsi.taskmanfun.response"},
    Reject: {"reason": "iscsi.reject.reason"},
}


def compare(case: Case, seen: Dissected) -> int:
    """Every field both know must be equal; gives how many there were."""
    pdu, compared = case.complete, 1
    assert seen.numbers("iscsi.opcode")[0] == pdu.OPCODE
    names = COMMON | OWN.get(type(pdu), {})
    for name in (*(item.name for item in pdu.FIELDS), "data_length"):
        if name in names and (shown := seen.numbers(names[name])):
            # A Reject holds the header it refuses, which tshark dissects inside it.
            assert shown[0] == int(getattr(pdu, name)), f"{case.name}: {name}"
            compared += 1
    if "scsi.lun" in seen.fields:
        lun: bytes = getattr(pdu, "lun", bytes(8))
        assert seen.numbers("scsi.lun")[0] == int.from_bytes(lun[:2], "big"), f"{case.name}: lun"
    # Not shown for every kind, but for each that has additional headers.
    assert (seen.numbers("iscsi.totalahslength") or [0])[0] * 4 == pdu.ahs_length, case.name
    for name, texts in case.texts.items():
        assert seen.fields[name] == texts, case.name
    return compared
