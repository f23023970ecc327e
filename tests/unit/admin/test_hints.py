# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person at a terminal is told behind open-iscsi's lines, and that nobody else is told anything."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.admin import hints
from iscsiboot.admin.arguments import parse_portal
from iscsiboot.admin.main import main
from iscsiboot.admin.options import MODES, OPTIONS
from iscsiboot.database.keys import BY_KIND, ISCSID
from tests.unit.admin.json_documents import check
from tests.unit.admin.records_kit import Machine
from tests.unit.admin.scripted_runner import Terminal

TARGET = "iqn.2001-04.com.example:a"
NODE = f"-m node -T {TARGET}"
SET = f"{NODE} -o update -n"
SERVER = "-m discoverydb -t st -p 10.0.0.9"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A record of each kind."""
    made = Machine(tmp_path)
    made.good(f"-m node -o new -T {TARGET} -p 10.0.0.1:3260,1")
    made.good("-m iface -o new -I eth1")
    made.good(f"{SERVER} -o new")
    return made


def at_terminal(machine: Machine, line: str) -> list[str]:
    """The lines of stderr at a terminal, without the program's name."""
    err = Terminal()
    main(shlex.split(line), io.StringIO(), err, machine.paths)
    return [text.removeprefix("iscsiadm: ") for text in err.getvalue().splitlines()]


def hint(machine: Machine, line: str) -> list[str]:
    """What is told at a terminal and to nobody else; the rest has to be the same, in the same order."""
    quiet = [text.removeprefix("iscsiadm: ") for text in machine.run(line).err.splitlines()]
    told = at_terminal(machine, line)
    ours = [text for text in told if text not in quiet]
    assert [text for text in told if text not in ours] == quiet
    return ours


NAMES = "{} lists the names, iscsid.conf(5) says what each takes"
NODE_NAMES = NAMES.format("iscsiadm -m node -T TARGET")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            f"{SET} node.session.replacement_timeout -v 5",
            'node records have no setting "node.session.replacement_timeout"; did you mean '
            f"node.session.timeo.replacement_timeout? {NODE_NAMES}",
        ),
        (f"{SET} xyz -v 5", f'node records have no setting "xyz"; {NODE_NAMES}'),
        (
            f"{SET} node.startup -v Automatic",
            "node.startup takes manual, automatic or onboot; the default is manual; iscsid.conf(5) tells what it does",
        ),
        (
            f"{SET} node.session.queue_depth -v many",
            "node.session.queue_depth takes a number from 1 to 1024; the default is 32; iscsid.conf(5) tells what it "
            "does",
        ),
        (f"{SET} node.startup=x -v y", "name and value are two options: -n node.startup -v VALUE"),
        (
            f"{SET} node.name -v y",
            "node records are found by node.name: make another one with -o new and delete this one",
        ),
        (
            f"{SET} discovery.sendtargets.reopen_max -v 1",
            "discovery.sendtargets.reopen_max is a setting of discovery records: iscsiadm -m discoverydb "
            "-t sendtargets -p PORTAL -o update -n discovery.sendtargets.reopen_max -v VALUE",
        ),
        (f"{SET} iscsid.safe_logout -v Yes", "iscsid.safe_logout stands in iscsid.conf alone, no record has it"),
        (
            "-m iface -I eth1 -o update -n iface.netifacename -v eth1",
            'interface records have no setting "iface.netifacename"; did you mean iface.net_ifacename? '
            + NAMES.format("iscsiadm -m iface -I IFACE"),
        ),
        (
            "-m iface -I eth2 -o new -n iface.mtu -v big",
            "iface.mtu takes a number from 0 to 65535; the default is 0; iscsid.conf(5) tells what it does",
        ),
        (
            f"{SERVER} -o update -n discovery.sendtargets.auth.passwd -v x",
            'discovery records have no setting "discovery.sendtargets.auth.passwd"; did you mean '
            "discovery.sendtargets.auth.password",
        ),
        (
            f"{SERVER} -o update -n discovery.sendtargets.use_discoveryd -v yes",
            "discovery.sendtargets.use_discoveryd takes Yes or No",
        ),
    ],
)
def test_a_refused_update_says_what_it_takes(machine: Machine, line: str, told: str) -> None:
    (ours,) = hint(machine, line)
    assert ours.startswith(told.replace("Yes or No", " or ".join(_choices("discovery.sendtargets.use_discoveryd"))))
    assert at_terminal(machine, line)[-1] == ours or "-o new" in line
    assert machine.run(line).status == 7


def _choices(name: str) -> tuple[str, ...]:
    return BY_KIND["sendtargets"][name].choices


def test_words_a_list_does_not_know_are_followed_by_those_it_knows(machine: Machine) -> None:
    (ours,) = hint(machine, f"{SET} node.session.auth.chap_algs -v md5")
    assert ours == (
        "node.session.auth.chap_algs takes a comma separated list of MD5, SHA1, SHA256, SHA3-256; it is empty now"
    )


def test_a_debug_level_and_json_are_told_too(machine: Machine) -> None:
    line = f"{SET} node.startup -v Automatic"
    (ours,) = hint(machine, line)
    assert machine.run(f"{line} -d 1").err.splitlines()[-1] == f"iscsiadm: {ours}"
    document = check(machine.run(f"{line} --json").out)
    assert document["notices"] == [ours]
    assert ours not in [error["text"] for error in document["errors"]]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "-m nodes",
            'there is no mode "nodes"; did you mean node? the modes are discovery, discoverydb, node, session',
        ),
        ("help", "say what it is about with -m: discovery, discoverydb, node, session, iface, fw, host"),
        ("", "say what it is about with -m: "),
        ("-T x -l", "say what it is about with -m: "),
        ("-m session --login", "-l (--login) belongs to discovery, discoverydb, node, fw; session mode takes -o -n"),
        ("-m session --force -P 1 -T x", "-T (--targetname) belongs to node; session mode takes "),
        ("-m node --wait-device -A ipv4", "-A (--portal_type) belongs to host; node mode takes "),
        ("-m node -k 0", "-k (--killiscsid) stands alone, without -m"),
        ("-m node --portall x", 'there is no option "--portall"; did you mean --portal? iscsiadm --help lists them'),
        ("--portall=x", 'there is no option "--portall"; did you mean --portal? iscsiadm --help lists them'),
        ("--jsn -m node", 'there is no option "--jsn"; did you mean --json? iscsiadm --help lists them'),
        ("-Q", 'there is no option "-Q"; iscsiadm --help lists them'),
        ("-m node -o updat", 'there is no operation "updat"; did you mean update? -o takes new, delete, update, '),
    ],
)
def test_a_refused_command_line_says_what_was_meant(machine: Machine, line: str, told: str) -> None:
    (ours,) = hint(machine, line)
    assert ours.startswith(told)
    document = check(machine.run(f"{line} --json").out)
    assert document["notices"] == [ours]


@pytest.mark.parametrize("line", ["-h", "-V", "-Q -V", "-m node -T", "-p", "-I '' -m node"])
def test_where_the_line_says_it_all_nothing_is_added(machine: Machine, line: str) -> None:
    assert hint(machine, line) in ([], ["say what it is about with -m: " + ", ".join(MODES)])
    assert not any("there is no" in text for text in hint(machine, line))


def test_the_debug_level_counts_wherever_it_stands(machine: Machine) -> None:
    for line in ("-m nodes -d 1", "-d 1 -m nodes"):
        assert "did you mean node?" in machine.run(line).err
    assert "did you mean" not in machine.run("-m nodes -d 0").err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("-m node login", "not looked at, since no option stands before it: login; did you mean --login?"),
        ("-m node delete", "not looked at, since no option stands before it: delete; did you mean -o delete?"),
        ("session -m node", "not looked at, since no option stands before it: session; did you mean -m session?"),
        (
            f"{NODE} -o update node.startup manual",
            "not looked at, since no option stands before it: node.startup; did you mean -n node.startup -v VALUE?",
        ),
        (
            f"{SET} node.session.auth.password -v two words",
            "not looked at, since no option stands before it: 1 word; a value with blanks stands in quotes",
        ),
        ("-m node a b", "not looked at, since no option stands before it: 2 words"),
        (f"{SET} node.startup=manual", "-n and -v come in pairs, -n NAME -v VALUE; one of them is left over"),
        (f"{NODE} -n node.startup -v manual", "-n and -v change nothing here: they belong to -o update"),
        (
            "-m discovery -p 10.0.0.9 -n discovery.startup -v manual",
            "-n and -v change nothing here: -m discoverydb -o update takes them",
        ),
        ("-m iface -I eth1 -n iface.mtu -v 1", "-n and -v change nothing here: they belong to -o new and -o update"),
        (
            "-m discovery -t sendtarget -p 10.0.0.9",
            'there is no type of discovery "sendtarget"; did you mean sendtargets? -t takes sendtargets (st), isns or '
            "fw, and anything else counts as no -t at all",
        ),
    ],
)
def test_what_comes_to_nothing_is_told(machine: Machine, line: str, told: str) -> None:
    assert hint(machine, line) == [told]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("-m node -p http://10.0.0.1", '-p "http://10.0.0.1" is a URL; a portal has no "http://": -p 10.0.0.1'),
        ("-m node -p iscsi://10.0.0.1/x", '-p "iscsi://10.0.0.1/x" is a URL; a portal has no "iscsi://": -p 10.0.0.1'),
        (
            "-m node -p 10.0.0.1/24",
            '-p "10.0.0.1/24" is a network or a path; a portal is one address: -p 10.0.0.1',
        ),
        (
            f"-m node -p {TARGET} -l",
            f'-p "{TARGET}" is a target\'s name; it goes behind -T, its portal behind -p',
        ),
        (
            "-m node -T 10.0.0.1 -l",
            '-T "10.0.0.1" is an address; the portal goes behind -p, the target\'s name behind -T',
        ),
        (
            "-m node -T [fd00::1]:3260 -u",
            '-T "[fd00::1]:3260" is an address; the portal goes behind -p, the target\'s name behind -T',
        ),
        ("-m node -T disk1", '-T "disk1" is no target name: those begin with iqn., eui. or naa.'),
        ("-m node -p 10.0.0.1:iscsi", '-p "10.0.0.1:iscsi" has no port behind the colon: -p 10.0.0.1:3260'),
        ("-m node -p 10.0.0.1:99999", '-p "10.0.0.1:99999" has no port behind the colon: -p 10.0.0.1:3260'),
        (
            "-m node -p fd00::1:3260",
            '-p "fd00::1:3260" is an address without a port; with one: -p [fd00::1]:3260',
        ),
        ("-m node -p 10.0.0.256", '-p "10.0.0.256" is no IPv4 address: that is four numbers from 0 to 255'),
        ("-m node -p 10.0.1", '-p "10.0.1" is no IPv4 address: that is four numbers from 0 to 255'),
        ("-m node -p me:pw@10.0.0.7", "-p names a user; names and secrets of CHAP are settings, see iscsid.conf(5)"),
        (
            "-m discovery -p http://10.0.0.1",
            '-p "http://10.0.0.1" is a URL; a portal has no "http://": -p 10.0.0.1',
        ),
        (
            "-m discoverydb -t st -p 10.0.0.1/24 -D",
            '-p "10.0.0.1/24" is a network or a path; a portal is one address: -p 10.0.0.1',
        ),
    ],
)
def test_a_mistaken_portal_or_target_is_named(machine: Machine, line: str, told: str) -> None:
    assert hint(machine, line) == [told]
    assert machine.run(line).status != 0


@pytest.mark.parametrize("where", ["-m node -u", "-m discovery -t st", f"{NODE} -o new"])
def test_a_bracket_that_is_not_closed_is_refused_with_the_right_form(machine: Machine, where: str) -> None:
    """The peer forgets the portal then, and means every record: that is not accepted here."""
    answer = machine.run(f"{where} -p [fd00::1")
    assert answer.status == 7
    assert 'invalid portal "[fd00::1": the bracket is not closed; next: write an IPv6 portal as' in answer.err


def test_what_the_peer_takes_is_taken_and_told(machine: Machine) -> None:
    """A record of a portal that cannot be: it is made, as there, and a person hears of it."""
    answer = machine.run(f"-m node -o new -T {TARGET} -p http://10.0.0.5")
    assert (answer.status, answer.err) == (0, "")
    assert hint(machine, f"-m node -o new -T {TARGET} -p http://10.0.0.5")[0].endswith('"http://": -p 10.0.0.5')
    assert hint(machine, "-m node -o new -T disk1 -p 10.0.0.5") == [
        '-T "disk1" is no target name: those begin with iqn., eui. or naa.'
    ]


def test_where_it_succeeds_nothing_is_told(machine: Machine) -> None:
    for line in (NODE, f"{NODE} -p 10.0.0.1", f"{SET} node.startup -v manual", SERVER, "-m iface -I eth1"):
        assert hint(machine, line) == []


LISTS = "iscsiadm -m node lists the records"


@pytest.mark.parametrize("what", ["", " -l", " -u", " -o delete", " -R", " -o update -n node.startup -v manual"])
def test_a_target_nobody_knows_gets_those_that_are_near(machine: Machine, what: str) -> None:
    told = f'no record is of target "{TARGET}b"; did you mean {TARGET}? {LISTS}'
    assert hint(machine, f"-m node -T {TARGET}b{what}") == [told]
    far = "iqn.1999-12.org.elsewhere:storage"
    assert hint(machine, f"-m node -T {far}{what}") == [f'no record is of target "{far}"; {LISTS}']


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"{NODE} -p 10.0.0.2", f'no record is of portal "10.0.0.2"; target "{TARGET}" is at 10.0.0.1:3260'),
        (f"{NODE} -p 10.0.0.1:860 -l", f'no record is of portal "10.0.0.1:860"; target "{TARGET}" is at 10.0.0.1:3260'),
        ("-m node -p 10.0.0.2 -u", 'no record is of portal "10.0.0.2"; the known targets are at 10.0.0.1:3260'),
    ],
)
def test_a_portal_nobody_knows_gets_those_that_are_known(machine: Machine, line: str, told: str) -> None:
    assert hint(machine, line) == [told]


def test_another_spelling_of_an_address_is_the_same_and_no_name_is_looked_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.good(f"-m node -o new -T {TARGET} -p [fd00::1]:3260,1")
    machine.good(f"-m node -o new -T {TARGET} -p storage:3260,1")

    def looked_up(*_: object, **__: object) -> None:
        raise AssertionError("the name service was asked")

    monkeypatch.setattr("socket.getaddrinfo", looked_up)
    monkeypatch.setattr("iscsiboot.admin.matching._resolve", lambda address: None)
    assert hint(machine, f"{NODE} -p [fd00:0::1]:3260 -u") == []
    assert hint(machine, f"{NODE} -p elsewhere -u") == []
    (told,) = hint(machine, f"{NODE} -p fd00::2 -u")
    assert told.endswith("is at 10.0.0.1:3260, [fd00::1]:3260, [storage]:3260")


def test_a_fault_of_the_help_changes_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise ZeroDivisionError("x")

    monkeypatch.setattr(hints, "place", fail)
    monkeypatch.setattr(hints, "overlooked", fail)
    for line, status in ((f"-m node -T {TARGET}x", 21), (f"{NODE} word", 0)):
        err = Terminal()
        assert main(shlex.split(line), io.StringIO(), err, machine.paths) == status
        assert "internal error: ZeroDivisionError" in err.getvalue()


def test_only_some_of_many_portals(machine: Machine) -> None:
    for number in range(2, 9):
        machine.good(f"-m node -o new -T {TARGET} -p 10.0.0.{number},1")
    (told,) = hint(machine, f"{NODE} -p 10.0.0.99")
    assert told.endswith("is at 10.0.0.1:3260, 10.0.0.2:3260, 10.0.0.3:3260, 10.0.0.4:3260, ...")


def test_a_record_without_a_session_needs_no_word(machine: Machine) -> None:
    for line in (f"{NODE} -u", f"{NODE} -p 10.0.0.1:3260 -R", "-m node -u", "-m session"):
        assert hint(machine, line) == []


def test_an_empty_database_points_to_discovery(tmp_path: Path) -> None:
    empty = Machine(tmp_path)
    told = "no target is known yet: iscsiadm -m discovery -t sendtargets -p PORTAL asks a portal for its targets"
    for line in ("-m node", NODE, "-m node -L all", "-m node -l", f"{NODE} -p 10.0.0.1 -o delete"):
        assert hint(empty, line) == [told]
    assert list(empty.root.iterdir()) == []


def test_a_database_that_cannot_be_read_is_told_once(machine: Machine) -> None:
    for path in (machine.root / "nodes").rglob("default"):
        path.unlink()
    (machine.root / "nodes").rename(machine.root / "elsewhere")
    (machine.root / "nodes").write_text("no folder")
    assert hint(machine, NODE) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("-m iface -I eht1", 'there is no interface "eht1"; did you mean eth1? iscsiadm -m iface lists them'),
        ("-m iface -I eth9 -o delete", 'there is no interface "eth9"; did you mean eth1? iscsiadm -m iface lists them'),
        ("-m node -I nosuch -l", 'there is no interface "nosuch"; iscsiadm -m iface lists them'),
        (
            "-m discovery -t st -p 10.0.0.9 -I default -I nosuch -I eht1",
            'there is no interface "nosuch"; iscsiadm -m iface lists them',
        ),
        ("-m session -r 7 -u", "there is no session 7; iscsiadm -m session lists them"),
        (
            "-m discoverydb -t st -p 10.0.0.8",
            "no record is of a discovery at 10.0.0.8:3260; iscsiadm -m discovery lists those there are, with "
            "-t sendtargets -p 10.0.0.8:3260 it asks that portal",
        ),
        (
            "-m discovery -p [fd00::8]",
            "no record is of a discovery at [fd00::8]:3260; iscsiadm -m discovery lists those there are, with "
            "-t sendtargets -p [fd00::8]:3260 it asks that portal",
        ),
        (
            "-m node -L automatic",
            "no record has node.startup automatic; -o update -n node.startup -v automatic gives it to some",
        ),
        ("-m node -L automat", "-L takes all, manual, automatic or onboot"),
        ("-m node -U onboot", "-U takes all, manual or automatic"),
    ],
)
def test_what_is_not_there_is_named(machine: Machine, line: str, told: str) -> None:
    (ours,) = hint(machine, line)
    assert ours == told
    assert machine.run(line).status != 0


GOOD_PORTALS = (
    *("10.0.0.1", "10.0.0.1:3260", "10.0.0.1:3260,1", "10.0.0.1,1", "storage", "storage:3260", "storage.example.com"),
    *("storage.example.com:860,2", "[fd00::1]", "[fd00::1]:3260", "[fd00::1]:3260,1", "fd00::1", "fe80::1%eth0", "::1"),
    *("[fe80::1%eth0]:3260", "1.example.com", "10.0.0.1.example.com", "0.0.0.0", "eui", "iqn-server"),
)


@pytest.mark.parametrize("portal", GOOD_PORTALS)
def test_a_good_portal_is_no_mistake(portal: str) -> None:
    parse_portal(portal)
    assert hints.place(portal, TARGET) == ""
    assert hints.place(portal, None) == ""


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_has_an_answer_of_one_line(portal: str, target: str) -> None:
    said = hints.place(portal, target)
    assert said.isprintable()
    for part in ("mode", "operation", "unknown", "none"):
        assert hints.command_line(part, target).isprintable()
    for kind in hints.OWNERS:
        assert hints.setting(kind, target).isprintable()


@given(st.text(min_size=6, max_size=30).filter(lambda text: not text.isspace()))
def test_words_nobody_knows_are_not_repeated(word: str) -> None:
    """What stands where nothing belongs may be a secret, as may what follows an equals sign."""
    secret = f"s3cr3t{word}"
    machine_words = hints.setting("node", f"node.session.auth.password={secret}")
    assert "s3cr3t" not in machine_words
    assert "s3cr3t" not in hints.setting("node", f"node.bogus={secret}")
    assert "s3cr3t" not in hints.place(f"iscsi://me:{secret}@10.0.0.1", None)
    assert "s3cr3t" not in hints._loose([secret])


def test_every_option_can_be_explained_in_every_mode() -> None:
    for mode in MODES:
        for option in OPTIONS:
            if mode not in option.modes:
                said = hints.command_line("option", option.long, mode)
                assert said.startswith((f"-{option.letter} (--{option.long}) ", f"--{option.long} "))


def test_every_setting_can_be_explained_where_it_belongs_and_where_it_does_not() -> None:
    names = {name for keys in BY_KIND.values() for name in keys} | {key.name for key in ISCSID}
    for kind, keys in BY_KIND.items():
        if kind not in hints.OWNERS:
            continue
        for name in names:
            said = hints.setting(kind, name)
            assert name in said
            assert ("no setting" in said) is False
            if name in keys and not keys[name].lookup:
                assert said.startswith(f"{name} takes {keys[name].allowed}")


@pytest.mark.parametrize(
    ("word", "names", "found"),
    [
        ("NODE.STARTUP", ["node.startup", "node.start"], ["node.startup"]),
        ("startup", ["a.startup", "b.x", "c.startup"], ["a.startup", "c.startup"]),
        ("burst", ["x.MaxBurstLength", "x.FirstBurstLength", "x.y"], ["x.MaxBurstLength", "x.FirstBurstLength"]),
        ("a.pasword", ["a.b.password", "a.user"], ["a.b.password"]),
        ("", ["a", "b"], []),
        ("zz", ["a.zzz", "b"], ["a.zzz"]),
        ("x.y.z", ["q"], []),
        ("u", [f"a{number}.u" for number in range(9)], ["a0.u", "a1.u", "a2.u"]),
    ],
)
def test_near_names(word: str, names: list[str], found: list[str]) -> None:
    assert hints.near(word, names) == found
