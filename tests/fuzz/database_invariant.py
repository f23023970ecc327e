# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariants of the record database's parsers.

A record: any bytes are a record or refused; every number in effect is one; what is written is read as the same record
and written again as the same bytes; both ways of reading agree; no notice moves the cursor or tells a password; lines
nobody understood are all still there. A configuration: any text is read, and its records are values of their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iscsiboot.database import record as module
from iscsiboot.database.config import Config
from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.key import check_value
from iscsiboot.database.keys import BY_KIND
from iscsiboot.database.lines import read_lines
from iscsiboot.database.names import check_component, parse_link_name, parse_portal_dir
from iscsiboot.database.record import Record, compiled
from iscsiboot.errors import printable
from tests.fuzz.wire_invariants import ACCEPTED, REFUSED

PEER = Path(__file__).resolve().parents[1] / "unit" / "database" / "peer"
KINDS = ("node", "iface", "sendtargets", "isns")
HAND_EDITED = b"# mine\r\nnode.startup=automatic\nnode.session.queue_depth = many\nnew.key = 1\nfoo\nnode.name = t"


def records() -> Sequence[bytes]:
    """The peer's files, and one as people write them, behind the byte that says which kind they are."""
    files = [
        bytes([number]) + path.read_bytes()
        for number, kind in enumerate(KINDS)
        for path in sorted(PEER.glob(f"{kind}*file.txt"))
    ]
    return [*files, b"\0" + HAND_EDITED]


def _refused(error: DatabaseError) -> str:
    """A refusal is one line."""
    assert printable(error.line()) == error.line()
    return REFUSED


def _in_effect(record: Record) -> None:
    for name, text in record.values.items():
        key = BY_KIND[record.kind][name]
        assert check_value(key, text) == text or not text, name
        if key.numeric:
            assert record.number(name) == int(text)


def record_file(data: bytes) -> str:
    """One file of a record."""
    kind = KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    try:
        record, notices = Record.parse(kind, data[1:], path="FILE")
    except DatabaseError as refusal:
        return _refused(refusal)
    assert all(printable(notice) == notice for notice in notices)
    _in_effect(record)
    slow, _ = module._read_carefully(kind, data[1:].decode("utf-8", "surrogateescape"), "", compiled(kind))
    assert slow == record
    text = record.file_text()
    again, _ = Record.parse(kind, text)
    assert again == record
    assert again.file_text() == text
    assert all(f"\n{line}\n".encode("utf-8", "surrogateescape") in text for line in record.unknown)
    if "node.startup" in BY_KIND[kind]:
        changed = again.changed({"node.startup": "onboot"})
        assert changed == slow.changed({"node.startup": "onboot"})
        assert changed.file_text() == slow.changed({"node.startup": "onboot"}).file_text()
    return ACCEPTED


def configurations() -> Sequence[bytes]:
    """What iscsid.conf may look like."""
    lines = [line for path in sorted(PEER.glob("*-file.txt")) for line in path.read_bytes().splitlines(keepends=True)]
    return [b"".join(lines), HAND_EDITED, b"iscsid.startup = /bin/true\niscsid.safe_logout = Yes\n"]


def configuration(data: bytes) -> str:
    """One iscsid.conf."""
    config = Config("FILE", read_lines(data.decode("utf-8", "surrogateescape")))
    for record in (config.node(), config.iface(), config.sendtargets(), config.isns()):
        _in_effect(record)
        assert Record.parse(record.kind, record.file_text())[0] == record
    assert all(printable(problem) == problem for problem in config.problems)
    return REFUSED if config.problems else ACCEPTED


def place_names() -> Sequence[bytes]:
    """Names of folders and links."""
    return [
        b"10.0.0.1,3260,1",
        b"fe80::1%eth0,3260",
        b"iqn.2000-01.a:t1,10.0.0.1,3260,1,default",
        b"t,h,1,-1,i,f",
        b"../x",
    ]


def place_name(data: bytes) -> str:
    """One name: what is read back from it makes the same name again, and no name leads out of a folder."""
    text = data.decode("utf-8", "surrogateescape")
    portal, key = parse_portal_dir(text), parse_link_name(text)
    if portal is not None:
        assert ",".join([portal[0], *(str(number) for number in portal[1:] if number >= 0)]) == text
    if key is not None:
        assert key.link_name == text
    try:
        check_component(text, "name")
    except DatabaseError as refusal:
        return _refused(refusal)
    assert "/" not in text
    assert text not in (".", "..")
    assert "\0" not in text
    return ACCEPTED
