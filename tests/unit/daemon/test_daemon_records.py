# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records as what a guard knows: found for sessions, read again for secrets, by a hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.daemon.records import Records
from iscsiboot.daemon.settings import Places, Settings, read_files, read_settings, settings_from
from iscsiboot.database.names import NodeKey
from iscsiboot.database.record import Record, compiled
from iscsiboot.database.store import Database
from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.keeper.hands import Hands
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.values import Known, RecordName, Source
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.session.login import UNRESOLVED
from iscsiboot.session.workers import Ended, Job

TARGET = "iqn.2001-04.com.example:disk"
NAME = RecordName(target=TARGET, tpgt=1, address="10.0.0.1", port=3260, iface="default")
AUTH = "node.session.auth."


class Lab:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "iscsi").mkdir()
        (root / "iscsi" / "initiatorname.iscsi").write_text("InitiatorName=iqn.2001-04.com.example:this\n")
        self.places = Places(
            config=str(root / "iscsi/iscsid.conf"),
            initiator_name=str(root / "iscsi/initiatorname.iscsi"),
            database=str(root / "iscsi"),
            etc=str(root),
            sysfs=str(root),
            proc=str(root),
            run=str(root),
        )
        self.lines: list[tuple[Level, str]] = []
        self.broken: Ended | None = None

    def settings(self) -> Settings:
        return read_settings(self.places, lambda _: None)

    def put(self, **changes: str) -> None:
        values = {
            **compiled("node"),
            "node.name": TARGET,
            "node.tpgt": "1",
            "node.conn[0].address": "10.0.0.1",
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
        with Database(self.places.database).change() as change:
            change.put_node(Record("node", {}).changed(values))

    def log(self, level: Level, text: str) -> None:
        self.lines.append((level, text))

    def records(self) -> Records:
        lab = self

        class Real:
            """Real forks, or what a test wants to have come of them."""

            def __init__(self) -> None:
                self.hands = Hands(log=lab.log)

            async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
                return lab.broken or await self.hands.run(job, seconds=seconds, what=what)

        return Records(self.places, self.settings, hands=Real(), log=self.log)

    def renew(self, known: Known) -> Known | None:
        async def inside() -> Known | None:
            return await self.records().renew(known)

        return asyncio.run(inside())

    def find(self, *names: RecordName) -> dict[RecordName, Known]:
        async def inside() -> dict[RecordName, Known]:
            return dict(await self.records().of_sessions(names))

        return asyncio.run(inside())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_session_finds_its_record_with_its_secrets(lab: Lab) -> None:
    lab.put(
        **{
            f"{AUTH}username": "us",
            f"{AUTH}password": "s3cret-s3cret",
            "node.session.reopen_max": "7",
            "node.session.scan": "manual",
            "node.session.timeo.replacement_timeout": "33",
        }
    )
    (known,) = lab.find(NAME).values()
    assert known.request.credentials == Credentials(outgoing=Chap(name="us", secret=Secret(b"s3cret-s3cret")))
    assert (known.source, known.record, known.tpgt, known.reopen_max, known.scan) == (Source.RECORD, NAME, 1, 7, False)
    assert known.request.params.replacement_timeout == 33
    assert "s3cret" not in repr(lab.lines)


def test_a_session_whose_tag_is_unknown_finds_the_record_of_its_interface(lab: Lab) -> None:
    lab.put()
    assert set(lab.find(replace(NAME, tpgt=-1))) == {replace(NAME, tpgt=-1)}
    assert lab.find(replace(NAME, iface="other")) == {}
    assert lab.find(replace(NAME, address="10.0.0.2")) == {}
    assert lab.find(replace(NAME, tpgt=2)) == {}
    assert lab.find() == {}


def test_one_bad_record_costs_itself_only(lab: Lab) -> None:
    lab.put(**{"iface.transport_name": "iser"})
    lab.put(**{"node.conn[0].address": "10.0.0.2"})
    other = replace(NAME, address="10.0.0.2")
    assert set(lab.find(NAME, other)) == {other}
    assert any("transport" in text for _, text in lab.lines)


def test_a_portal_by_name_is_left_to_the_adoption(lab: Lab) -> None:
    """The name service may be as far away as the disk: where the connection leads now is the better answer."""
    lab.put(**{"node.conn[0].address": "disk.example"})
    (known,) = lab.find(replace(NAME, address="disk.example")).values()
    assert known.request.portal.address == UNRESOLVED
    assert known.request.stored_address == "disk.example"


def test_a_machine_that_lost_its_name_still_knows_its_sessions(lab: Lab) -> None:
    lab.put()
    (lab.root / "iscsi" / "initiatorname.iscsi").write_text("InitiatorName=nonsense\n")
    assert lab.settings().initiator is None
    assert set(lab.find(NAME)) == {NAME}


@pytest.mark.parametrize("problem", ["it hangs in the kernel and cannot be ended", "it was not done after 10 s"])
def test_a_disk_that_is_gone_costs_the_adoption_nothing(lab: Lab, problem: str) -> None:
    lab.put()
    lab.broken = Ended(answer=None, problem=problem, late=True)
    assert lab.find(NAME) == {}
    assert any(problem in text for _, text in lab.lines)


def test_changed_secrets_come_and_what_was_negotiated_stays(lab: Lab) -> None:
    lab.put(**{f"{AUTH}username": "us", f"{AUTH}password": "old-old-old-old"})
    (known,) = lab.find(NAME).values()
    known = replace(known, time2wait=9.0, tpgt=5, source=Source.KEEPER)
    changed = {f"{AUTH}username": "us", f"{AUTH}password": "new-new-new-new"}
    lab.put(**changed, **{"node.session.iscsi.FirstBurstLength": "512"})
    fresh = lab.renew(known)
    assert fresh is not None
    assert fresh.request.credentials == Credentials(outgoing=Chap(name="us", secret=Secret(b"new-new-new-new")))
    assert fresh == replace(known, request=replace(known.request, credentials=fresh.request.credentials))


def test_what_is_odd_in_a_record_is_told_once_while_it_stays(lab: Lab) -> None:
    def told() -> int:
        return sum("FOO" in text for _, text in lab.lines)

    def write(before: str, after: str) -> None:
        """By hand: what writes records takes no such word."""
        for path in Path(lab.places.database).rglob("*"):
            if path.is_file() and f"{AUTH}chap_algs" in path.read_text():
                path.write_text(path.read_text().replace(f"chap_algs = {before}", f"chap_algs = {after}"))

    lab.put(**{f"{AUTH}chap_algs": "MD5"})
    (known,) = lab.find(NAME).values()
    write("MD5", "MD5,FOO")

    async def test() -> None:
        records = lab.records()
        for _ in range(3):
            await records.renew(known)
        assert told() == 1
        write("MD5,FOO", "MD5")
        await records.renew(known)
        write("MD5", "MD5,FOO")
        await records.renew(known)
        assert told() == 2

    asyncio.run(test())


def test_nothing_is_renewed_without_a_record(lab: Lab) -> None:
    lab.put()
    (known,) = lab.find(NAME).values()
    assert lab.renew(replace(known, record=None)) is None
    assert lab.renew(replace(known, record=replace(NAME, target="iqn.2001-04.com.example:gone"))) is None


def test_a_reading_that_fails_says_why(lab: Lab) -> None:
    lab.put()
    (known,) = lab.find(NAME).values()
    lab.broken = Ended(answer=None, problem="it hangs", late=True)
    with pytest.raises(IscsiBootError, match="it hangs") as caught:
        lab.renew(known)
    assert caught.value.exit_code is ExitCode.IDBM
    lab.broken = None
    lab.put(**{"iface.transport_name": "iser"})
    with pytest.raises(IscsiBootError, match="iser"):
        lab.renew(known)


def test_the_record_that_is_read_is_that_of_the_name(lab: Lab) -> None:
    lab.put(**{"node.tpgt": "2", f"{AUTH}username": "other", f"{AUTH}password": "other-other-other"})
    lab.put()
    (known,) = lab.find(NAME).values()
    assert known.request.credentials is None
    assert Database(lab.places.database).read_node(NodeKey(TARGET, "10.0.0.1", 3260, 1)) is not None


# Settings. ---------------------------------------------------------------------------------------------


def test_settings_come_through_a_hand_as_they_are(lab: Lab) -> None:
    """What SIGHUP reads is what a start reads."""
    Path(lab.places.config).write_text("iscsid.safe_logout = Yes\nnode.session.cmds_max = 64\n")
    told: list[str] = []
    again = settings_from(read_files(lab.places), lab.places, told.append)
    assert again.safe_logout
    assert again.config.node().get("node.session.cmds_max") == "64"
    assert again.initiator == lab.settings().initiator
    assert told == []


def test_what_is_wrong_in_the_files_is_told_and_stops_nothing(lab: Lab) -> None:
    Path(lab.places.config).write_text("node.session.cmds_max = many\n")
    Path(lab.places.initiator_name).write_text("InitiatorName=nonsense\n")
    told: list[str] = []
    settings = read_settings(lab.places, told.append)
    assert settings.initiator is None
    assert settings.unnamed is not None
    assert settings.config.node().get("node.session.cmds_max") == "128"
    assert len(told) == 2


def test_a_config_that_cannot_be_read_is_as_none(lab: Lab) -> None:
    Path(lab.places.config).mkdir()
    told: list[str] = []
    assert not read_settings(lab.places, told.append).safe_logout
    assert "the built-in settings are used" in told[0]
