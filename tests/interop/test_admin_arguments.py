# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line, letter by letter: the real iscsiadm and ours say the same on hundreds of argument vectors.

Everything that is decided before a mode does its work, and modes on a small database so that an option that is accepted
but forgotten shows. What differs on purpose is in :data:`DIFFERENCES`, with the reason; an entry there that no longer
differs fails too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from iscsiboot.admin.options import MODES, OPTIONS, Option
from tests.interop.peer_admin import Program, Result, materialize, run, unavailable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

Argv = tuple[str, ...]

PEERS_OPTIONS = tuple(option for option in OPTIONS if not option.ours)
VALUES = {
    "mode": "node",
    "portal": "192.0.2.1:3260",
    "targetname": "iqn.2000-01.example:a",
    "interface": "if0",
    "op": "show",
    "type": "st",
    "name": "node.startup",
    "value": "manual",
    "host": "3",
    "sid": "7",
    "print": "1",
    "loginall": "bogus",
    "logoutall": "bogus",
    "killiscsid": "1",
    "debug": "0",
    "submode": "nothing",
    "ip": "192.0.2.9",
    "packetsize": "8",
    "count": "2",
    "interval": "1",
    "index": "4",
    "portal_type": "ipv4",
}
"""For each option a value that starts nothing: no login, no discovery."""
STARTS_SOMETHING = {("node", "login")}
"""What an option alone starts in its mode is the business of that mode's tests."""

UNKNOWN = ("-Q", "-9", "-=", "--bogus", "--bogus=1", "--=", "--=x", "--targetnamex", "--mode-", "-\xe9", "--\xe9t\xe9")
LONG_NAME = "i" * 64


def alone(option: Option, value: str) -> Iterator[Argv]:
    """An option in each spelling."""
    if option.takes_value:
        yield (f"-{option.letter}", value)
        yield (f"-{option.letter}{value}",)
        yield (f"--{option.long}", value)
        yield (f"--{option.long}={value}",)
    else:
        yield (f"-{option.letter}",)
        yield (f"--{option.long}",)


def each_option_in_each_mode() -> Iterator[Argv]:
    for mode in MODES:
        for option in PEERS_OPTIONS:
            if (mode, option.long) in STARTS_SOMETHING or option.long == "mode":
                continue
            first, *_, last = alone(option, VALUES.get(option.long, ""))
            yield ("-m", mode, *first)
            if mode not in option.modes and option.long not in ("help", "version"):
                yield (*last, f"--mode={mode}")


def each_option_without_a_mode() -> Iterator[Argv]:
    for option in PEERS_OPTIONS:
        if option.long != "help":
            yield from alone(option, VALUES.get(option.long, ""))


def missing_and_surplus_values() -> Iterator[Argv]:
    for option in PEERS_OPTIONS:
        for word in (f"-{option.letter}", f"--{option.long}") if option.takes_value else (f"--{option.long}=x",):
            yield (word,)
            yield ("-m", "node", word)
            yield (word.removesuffix("=x"), "-m", "bogus")
            yield ("-m", "bogus", word)


def abbreviations() -> Iterator[Argv]:
    names = {option.long[:end] for option in PEERS_OPTIONS for end in range(len(option.long) + 1)}
    for name in sorted(names - {"", *(name for name in names if "help".startswith(name))}):
        yield (f"--{name}",)
        if name != "login":
            yield ("-m", "session", f"--{name}")


def unknown_options() -> Iterator[Argv]:
    for word in UNKNOWN:
        yield (word,)
        yield (word, "-V")
        yield (word, "-m", "session")
        yield ("-m", "session", word, "-T", "x")
        yield ("-m", "session", "-T", "x", word)
        yield (word, "-k", "1")
        yield (word, "-P")
        yield ("-m", "bogus", word)


BY_HAND = """
|x -m node -T nosuch
|x|-|--|-- -m node|x -V|x -- -V|-V x|-V -Q|-Q -V|-V -m node|-V -m bogus|-m node -V|-m node --version|-m session -h
-m|--mode|-m node|-mnode|--mode=node|--mo node|-m node x|x -m node|-m node -- -P 1|-m node - -P 1|-m node x -P 1 y
-P 1 -m node|x -P 1 -m node|x y -P1 -mnode|-m node -P1 x y|-m node --print=1|-m node --print 1|-m node --pri=1
-m node -P 0|-m node -P 2|-m node -P -1|-m node -P x|-m node -P 1x|-m node -P +1|-m node -P=1|-m node -P 99999999999
-m node -P 4294967297|-m node -P 0x1|-m session -P 4|-m session -P -1|-m session -P 3|-m iface -P 1|-m iface -P 7
-m node -P 2 -P 1|-m node -P 1 -P 2|-m node -m session|-m session -m node|-m node -m bogus|-m bogus -m node
-m discoverydb -m node -T iqn.2000-01.example:a|-m discovery -T x|-m discoverydb -T x|-m bogus|-m NODE|-m nod|-m nodes
-m session -T x -Q|-m session -Q -T|-Q -T x -m session|-T x -m session|-P 1 -T x -m session|-Q --bogus|--bogus -Q
-Q -P x|-p -Q|-p -m node|-p -V|-T|-T -m node|-m node -T|-m node -T -V|-SP1 -mnode|-SPm node|-mnode -SP1 -Q|-VQ|-QV
-SVQ|-SQV|-lx|-Dlx|-DlQx|-m node -SxP1|-m session -i -Q|-m session -i 5|-m session -i 5 -P 1|-W|-W -V|-W -m session
-m fw -W|-m fw|-m fw -n a -v b|-m fw -o new|-m fw -P 1|-m fw -I if0|-m discovery -W|-m discoverydb -W|-m session -l
-m session -L all|-m session -U all|-m node -U bogus|-m node -L bogus|-m node -L|-m node -U onboot|-m node -U
-o bogus|-o bogus -V|-o show -o bogus -V|-o bogus -m node|-m node -o bogus|-m node -o show -o bogus|-m node -o Show
-m node -o sho|-m node -o new,show|-m node -o|-m node -oshow|-m node --op=show|-m node --op show|-m node --o show
-m node -o show -o show|-m node -o show -o new|-m node -o apply|-m node -o applyall|-m node -o login|-m node -o logout
-m node -o nonpersistent|-m node -o show -o delete|-m node -o update|-m node -o update -n node.startup
-m node -o update -v manual|-m node -o update -n -v|-m session -o new|-m session -o show|-m session -o delete
-m discovery -o new|-m discovery -o show|-m discovery -o delete|-m discovery -o update|-m discovery -o nonpersistent
-m discoverydb -o new|-m discoverydb -o show|-m discoverydb -o delete|-m discoverydb -o apply|-m discoverydb -D
-t bogus|-t bogus -V|-m discovery -t bogus|-m discovery -t st|-m discovery -t sendtargets|-m discovery -t isns
-m discovery -t SendTargets|-m discovery -t slp|-m discovery -t s|-m discovery -t st -t bogus|-m discoverydb -t slp
-m discoverydb -t slp -p 192.0.2.1|-m discoverydb -t st|-m discoverydb -t fw|-m discoverydb -p 192.0.2.1|-t slp -m node
-m discoverydb -t st -p 192.0.2.77|-m discoverydb -t bogus -p 192.0.2.1|-m discovery -p 192.0.2.77|-m discovery -t fw
-r 0|-r 0 -V|-r -1 -V|-r 1 -V|-r x -V|-r 1x -V|-r 0x1 -V|-r +1 -V|-r 01 -V|-r -0 -V|-r 1.0 -V|-r 2147483647 -V
-r 2147483648 -V|-r 4294967296 -V|-r 4294967297 -V|-r 99999999999999999999999 -V|-r /sys -V|-r /sys/ -V|-r / -V
-r /etc/passwd -V|-r /tmp -V|-r . -V|-r etc -V|-r /nowhere -V|-m session -r|-m session -r 5|-m session -r 5 -P 1
-m session -r 5 -u|-m session -r 0 -u|-m session -r 5 -r x|-r x -m bogus|-m bogus -r x|-r 0 -Q|-Q -r 0|-r 5 -r 0 -V
-H 1 -V|-H x -V|-H -1 -V|-H 4294967295 -V|-H 4294967296 -V|-H 99999999999999999999999 -V|-H aa:bb -V|-H : -V|-H 0x1 -V
-x y -V|-x -1 -V|-x 18446744073709551615 -V|-x 18446744073709551616 -V|-x 99999999999999999999999 -V
-x -18446744073709551616 -V|-x -99999999999999999999999 -V|-b x -c y -i z -V|-A bogus -V|-C bogus -V|-a x -V
-k 0|-k 00|-k x|-k 0x1|-k 1|-k 7|-k -1|-k -1 -V|-k -1 -m node|-k 1 -V|-k 0 -k 1|-k 1 -k 0|-k 0 -k -1|-k 4294967296
-k 99999999999|-k 0 -m node|-m node -k 0|-m node -k -1|-k 1 -m bogus|-k 1 -o bogus|-k 1 -T x -P 3|-k|-k 0 x|-Q -k 0
-k --bogus|--bogus -k 0|--kill 0|--killiscsid=0|-d x -V|-d 0 -m session|-d -1 -m session|-d|-d 0 -V
-I if0 -V|-m node -I nosuch|-m node -I if0|-m node -I default|-m node -I if0 -I default|-m iface -I if0|-m iface -I
-m iface -I nosuch|-m iface -I if0 -I default|-m iface -o new|-m iface -o delete|-m iface -o update|-m iface -o apply
-n x|-v x|-n x -v y|-m iface -o update -I if0 -n x|-m node -n x|-m node -n x -v y|-m node -o update -n x -v y
-m node -o update -n x -n node.startup -v manual|-m node -o update -v a -v automatic -n node.startup
-m node -S|-m node -R|-m node -s|-m node -u|-m node -lu|-m node -l -u|-m node -u -T iqn.2000-01.example:a|-m session -u
-m session -R|-m session -s|-m session -S|-m session -u -R|-m session -o update -n node.startup -v manual
-m node -T iqn.2000-01.example:a|-m node -T iqn.2000-01.example:nosuch|-m node --target iqn.2000-01.example:a
-m node --targ=iqn.2000-01.example:a|--op=show --mode=node --targetname=iqn.2000-01.example:a|-m node -T a -T b
-m node -T x -T iqn.2000-01.example:a -S|-m session --logout all|-m node --logout all|-m node -o delete stray
-m node -o delete -T iqn.2000-01.example:b stray|-m node --op=update -n node.startup -v automatic|--po=1 -V|--login=1 -V
""".replace("\n", "|")
"""Command lines, | between them, split at blanks."""

WITH_BLANKS: tuple[Argv, ...] = (
    ("",),
    ("-m", ""),
    ("-m", "node", ""),
    ("-m", "node", "-o", ""),
    ("-o", "", "-V"),
    ("-I", "", "-V"),
    ("-m", "node", "-I", ""),
    ("-I", LONG_NAME, "-V"),
    ("-I", LONG_NAME + "i", "-V"),
    ("-I", "\xe9" * 32, "-V"),
    ("-I", "\xe9" * 33, "-V"),
    ("-m", "node", "-I", LONG_NAME + "i"),
    ("-r", "", "-V"),
    ("-r", " 1", "-V"),
    ("-r", "1 ", "-V"),
    ("-P", "", "-m", "node"),
    ("-P", " 1", "-m", "node"),
    ("-k", ""),
    ("-k", " 0"),
    ("-k", "0 "),
    ("-H", "", "-V"),
    ("-d", "", "-V"),
    ("-x", "", "-V"),
    ("-t", "", "-m", "discovery"),
    ("-m", "discovery", "-t", ""),
    ("-m", "node", "-T", ""),
    ("-m", "node", "-L", ""),
    ("-m", "node", "-U", ""),
    ("-m", "node", "-o", "update", "-n", "", "-v", ""),
    ("--mode=",),
    ("--sid=",),
    ("--op=", "-V"),
)

PORTALS = (
    *("192.0.2.1", "192.0.2.1:3260", "192.0.2.1:3260,1", "192.0.2.1,1", "192.0.2.1:3261", "192.0.2.1:", "192.0.2.1,"),
    *("192.0.2.1:x", "192.0.2.1:3260x", "192.0.2.1:+3260", "192.0.2.1: 3260", "192.0.2.1:03260", "192.0.2.1:-1"),
    *("192.0.2.1:4294970556", "192.0.2.1:99999999999999999999999", "192.0.2.1:3260,7", "192.0.2.1,x", "192.0.2.1,1,2"),
    *("192.0.2.1:3260:1", "192.0.2.77", "192.0.2.1:0", " 192.0.2.1", "192.0.2.01", "192.0.2.1:,1", "192.0.2.1:0x10"),
    *("2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:3260", "[2001:db8::1]:3260,1", "[2001:db8::1],1", "2001:db8::1,1"),
    *("[2001:db8::1]:3261", "[2001:db8::1]x", "[2001:db8::1]x:3260", "[2001:db8::1]:", "[2001:db8::1],", "2001:DB8::1"),
    *("[2001:db8::1]:3260:1", "[2001:db8::1%lo]:3260", "2001:db8::1%lo", "[2001:db8:0::1]", "::1", "::"),
    *("storage", "storage:3260", "storage:3260,1", "storage,1", "storage:", "storage:3261", "stor", "[storage]:3260"),
    *("storage.example", "storage.example:3260", "storage.example:3260,1", "", ":", ":3260", ":3261", ",", ",1", "."),
    *(".:3260", "[]", "[]:3260", "[]:3261", "[]x"),
    *("[", "[2001:db8::1", "[2001:db8::1,1", "[::ffff:192.0.2.9]:3260", "::ffff:192.0.2.9", "[::ffff:192.0.2.9]"),
    *("storage,1:3260", "192.0.2.1,1:3260", "[storage]:3260.1"),
)

RECORDS = (
    "-m iface -I if0 -o new",
    "-m node -o new -T iqn.2000-01.example:a -p 192.0.2.1:3260,1",
    "-m node -o new -T iqn.2000-01.example:a -p 192.0.2.1:3260,1 -I if0",
    "-m node -o new -T iqn.2000-01.example:a -p [2001:db8::1]:3260,1",
    "-m node -o new -T iqn.2000-01.example:b -p 192.0.2.1:3261",
    "-m node -o new -T iqn.2000-01.example:b -p storage:3260,1",
    "-m node -o new -T iqn.2000-01.example:b -p storage.example:3260,1",
    "-m discoverydb -t st -p 192.0.2.1 -o new",
)
"""Command lines for the peer that make the database of these tests."""


def vectors() -> list[Argv]:
    """Every command line that both programs get, each once."""
    by_hand = [tuple(line.split()) for line in BY_HAND.strip().split("|")]
    portals = [("-m", "node", "-p", portal) for portal in PORTALS]
    parts = (
        each_option_in_each_mode(),
        each_option_without_a_mode(),
        missing_and_surplus_values(),
        abbreviations(),
        unknown_options(),
        by_hand,
        WITH_BLANKS,
        portals,
    )
    return list(dict.fromkeys(argv for part in parts for argv in part))


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Command lines on which we differ on purpose."""

    reason: str
    concerns: Callable[[Argv], bool]
    holds: Callable[[Result, Result], bool]
    """What must be true of the peer's answer and ours."""


def _says(status: int, text: str = "", *, stdout: str = "") -> Callable[[Result, Result], bool]:
    return lambda _, ours: ours.status == status and text.encode() in ours.stderr and stdout.encode() in ours.stdout


def _is(*lines: str) -> Callable[[Argv], bool]:
    return lambda argv: " ".join(argv) in lines


DIFFERENCES = (
    Difference(
        reason="The help is in our own words and tells of our own options.",
        concerns=lambda argv: argv[:1] in (("--help",), ("-h",)),
        holds=_says(0, stdout="iscsiadm -m discoverydb "),
    ),
    Difference(
        reason="--portal_type without '=' makes the peer read a null pointer and crash; ours takes the next word.",
        concerns=lambda argv: any(word.startswith("--portal_") and "=" not in word for word in argv),
        holds=lambda _, ours: ours.status in (0, 7),
    ),
    Difference(
        reason="glibc tells of a letter byte by byte, and half a letter is no text; ours tells of the letter.",
        concerns=lambda argv: any(word.startswith("-\xe9") for word in argv),
        holds=lambda _, ours: b"invalid option -- '\xc3\xa9'" in ours.stderr,
    ),
    Difference(
        reason="Host mode comes with its own issue. It lists nothing rather than a part.",
        concerns=lambda argv: argv[:2] == ("-m", "host"),
        holds=_says(27, "host mode"),
    ),
    Difference(
        reason="A bracket that is not closed makes the peer forget the portal and act on every record.",
        concerns=_is("-m node -p [", "-m node -p [2001:db8::1", "-m node -p [2001:db8::1,1"),
        holds=_says(7, "the bracket is not closed"),
    ),
    Difference(
        reason="The peer cuts an IPv6 address that holds a dot at its first colon: any host, port 0.",
        concerns=_is(*(f"-m node -p {text}" for text in PORTALS if "::ffff:" in text)),
        holds=_says(21, "No records found"),
    ),
    Difference(
        reason="A comma belongs to no host name: what stands behind it is the tag, also where a colon follows.",
        concerns=_is("-m node -p storage,1:3260"),
        holds=_says(0, stdout="node.conn[0].address = storage\n"),
    ),
    Difference(
        reason="The peer keeps the brackets when a dot stands anywhere behind them.",
        concerns=_is("-m node -p [storage]:3260.1"),
        holds=_says(0, stdout="node.conn[0].address = storage\n"),
    ),
    Difference(
        reason="A word before -m makes the peer forget options behind it: its second look at the line sorts the words.",
        concerns=_is("x -m node -P 1", "x -m node -T nosuch"),
        holds=lambda _, ours: b"4294967295" not in ours.stdout,
    ),
    Difference(
        reason="The peer takes an empty name for one of the settings a record is found by. It is no setting.",
        concerns=lambda argv: argv[-4:] == ("-n", "", "-v", ""),
        holds=_says(7, "Cannot modify . Invalid param name."),
    ),
    Difference(
        reason="The peer lists the interfaces of a portal as the folder happens to hold them; ours by name.",
        concerns=_is("-m discovery -P 1", "-m discoverydb -P 1"),
        holds=lambda theirs, ours: sorted(theirs.stdout.splitlines()) == sorted(ours.stdout.splitlines()),
    ),
    Difference(
        reason="The peer's library adds a place in its source to the line.",
        concerns=_is("-m iface -I nosuch"),
        holds=_says(6, "Failed to open /etc/iscsi/ifaces/nosuch using read mode: 2 No such file or directory"),
    ),
)


@pytest.fixture(scope="module")
def answers(
    peer_admin: Program, our_admin: Program, tmp_path_factory: pytest.TempPathFactory
) -> dict[Argv, tuple[Result, Result]]:
    """What the peer and we answer to every command line, each on a fresh copy of the same tree."""
    made = run(peer_admin, [line.split() for line in RECORDS], daemon=0)
    assert [result.status for result in made.results] == [0] * len(RECORDS), made.results
    tree = materialize(made.tree, tmp_path_factory.mktemp("admin") / "tree")
    with ThreadPoolExecutor() as pool:
        both = pool.map(lambda program: run(program, vectors(), tree=tree, fresh=True).results, (peer_admin, our_admin))
        return {theirs.argv: (theirs, mine) for theirs, mine in zip(*both, strict=True)}


def same(theirs: Result, mine: Result) -> bool:
    return (theirs.stdout, theirs.stderr, theirs.status) == (mine.stdout, mine.stderr, mine.status)


@pytest.mark.parametrize("argv", vectors(), ids=" ".join)
def test_both_answer_the_same(argv: Argv, answers: dict[Argv, tuple[Result, Result]]) -> None:
    theirs, mine = answers[argv]
    differences = [difference for difference in DIFFERENCES if difference.concerns(argv)]
    assert len(differences) <= 1
    if same(theirs, mine):
        return
    assert differences, f"{theirs.shown()}\nours:\n{mine.shown()}"
    assert differences[0].holds(theirs, mine), f"{theirs.shown()}\nours, not as described:\n{mine.shown()}"


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.reason)
def test_every_known_difference_is_one(difference: Difference, answers: dict[Argv, tuple[Result, Result]]) -> None:
    concerned = [pair for argv, pair in answers.items() if difference.concerns(argv)]
    assert any(not same(*pair) for pair in concerned)


def test_what_is_refused_changes_nothing(answers: dict[Argv, tuple[Result, Result]]) -> None:
    """A wrong command line, and one that only lists, leaves the tree alone: the peer makes folders, ours does not."""
    trees = {argv: mine.tree for argv, (_, mine) in answers.items() if mine.status == 7}
    before = trees.pop(("-m", "bogus"))
    assert len(trees) > 500
    assert [argv for argv, tree in trees.items() if tree != before] == []


def test_there_are_enough_to_mean_something() -> None:
    assert len(vectors()) > 1000
