# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person meant who typed something that is refused or finds nothing: one line, in words of ours. Pure.

open-iscsi's lines stay as they are, because programs read them. These come behind them, at a terminal, with ``-d`` and
in ``--json`` only (:meth:`iscsiboot.admin.context.Context.notice`), and say which part is wrong, what it may be, and
where to look. Only a command that goes wrong imports this.

A word is repeated only where it is a name. What somebody typed in the wrong place may be a secret.
"""

from __future__ import annotations

import difflib

from iscsiboot.admin.options import MODES, OPERATIONS, OPTIONS, TYPES, Option
from iscsiboot.database.keys import BY_KIND, ISCSID, NODE_ALIASES
from iscsiboot.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from iscsiboot.admin.options import Options

NAMES_MAX = 3
_ENOUGH = 0.75
"""How alike two words are that one may be taken for the other: 1 is the same (:mod:`difflib`)."""
_NEARLY = 0.1
_SHORTEST_PART = 4
OWNERS = {
    "node": ("node records", "iscsiadm -m node -T TARGET"),
    "iface": ("interface records", "iscsiadm -m iface -I IFACE"),
    "sendtargets": ("discovery records", "iscsiadm -m discoverydb -t sendtargets -p PORTAL"),
    "isns": ("discovery records", "iscsiadm -m discoverydb -t isns -p PORTAL"),
}
"""Kind of record: what has its settings, and the command that shows and with ``-o update`` changes them."""
ISCSI_PORT = 3260
_NAME_PREFIXES = ("iqn.", "eui.", "naa.")
_CHANGED = {
    **{mode: frozenset({"update"}) for mode in ("discoverydb", "node", "session")},
    "iface": frozenset({"new", "update"}),
}
"""Mode: the operations that look at names and values."""
_DIGITS_AND_DOTS = frozenset("0123456789.")
_OF_IPV6 = frozenset("0123456789abcdef:.%")
LONG = tuple(option.long for option in OPTIONS)
_RECORD_OPERATIONS = tuple(word for word in OPERATIONS if word not in LONG)
"""Those that do something; two more are only read."""
ISCSID_CONF = "iscsid.conf(5)"


def near(word: str, names: Iterable[str]) -> list[str]:
    """The names somebody may have meant by ``word``, the likeliest first, at most :data:`NAMES_MAX`.

    The first of these that finds any: another case; the same last part; ``word`` within the name; a slip of the finger,
    in the whole or in the last part.
    """
    known = list(dict.fromkeys(names))
    low = word.lower()
    last = _last(low)
    tiers = (
        [name for name in known if name.lower() == low],
        [name for name in known if last and _last(name.lower()) == last],
        [name for name in known if len(low) >= _SHORTEST_PART and low in name.lower()],
        _alike(low, known),
    )
    return next((tier for tier in tiers if tier), [])[:NAMES_MAX]


def _last(name: str) -> str:
    """What stands behind the last dot."""
    return name.rpartition(".")[2]


def _alike(low: str, names: Iterable[str]) -> list[str]:
    """By how alike they are, in whole or in the last part; only those not much less alike than the best."""
    found = []
    for name in names:
        pairs = ((low, name.lower()), (_last(low), _last(name.lower())))
        found.append((max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs), name))
    best = max((ratio for ratio, _ in found), default=0.0)
    good = [(ratio, name) for ratio, name in found if ratio >= max(_ENOUGH, best - _NEARLY)]
    return [name for _, name in sorted(good, key=lambda item: -item[0])]


def sentence(wrong: str, word: str, names: Iterable[str], rest: str, *, before: str = "") -> str:
    """``wrong; did you mean a or b? rest``, or ``wrong; rest`` without an idea. ``before`` stands before each name."""
    found = [before + name for name in near(word, names)]
    if not found:
        return f"{wrong}; {rest}"
    meant = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"
    return f"{wrong}; did you mean {meant}? {rest}"


def setting(kind: str, name: str) -> str:
    """Why ``name`` is refused in an update of a record of ``kind``, or what its values are."""
    what, _ = OWNERS[kind]
    key = BY_KIND[kind].get(NODE_ALIASES.get(name, name) if kind == "node" else name)
    if key is None:
        return _no_setting(kind, name)
    if key.lookup:
        return f"{what} are found by {name}: make another one with -o new and delete this one"
    default = f"; the default is {key.default}" if key.default else ""
    return f"{name} takes {key.allowed}{default}; {ISCSID_CONF} tells what it does"


def _no_setting(kind: str, name: str) -> str:
    what, command = OWNERS[kind]
    before, equals, _ = name.partition("=")
    if equals and before.strip() in BY_KIND[kind]:
        return f"name and value are two options: -n {before.strip()} -v VALUE"
    for other, (owner, change) in OWNERS.items():
        if other != kind and name in BY_KIND[other]:
            return f"{name} is a setting of {owner}: {change} -o update -n {name} -v VALUE"
    if name in {key.name for key in ISCSID}:
        return f"{name} stands in iscsid.conf alone, no record has it"
    can_change = [key.name for key in BY_KIND[kind].values() if not key.lookup]
    # What stands behind an equals sign may be a secret.
    wrong = f"{what} have no setting {quoted(before)}"
    return sentence(wrong, before, can_change, f"{command} lists the names, {ISCSID_CONF} says what each takes")


def command_line(part: str, word: str, mode: str = "") -> str:
    """What is wrong with a command line the parser refused; empty when the peer's line says it all.

    ``part`` is which part of it: ``mode``, ``operation``, ``option`` (a good one in the wrong ``mode``), ``unknown``
    (one that does not exist), ``none`` (no mode at all). ``word`` is what was given for it.
    """
    if part == "mode":
        return sentence(f"there is no mode {quoted(word)}", word, MODES, f"the modes are {', '.join(MODES)}")
    if part == "operation":
        said = f"there is no operation {quoted(word)}"
        return sentence(said, word, _RECORD_OPERATIONS, f"-o takes {', '.join(_RECORD_OPERATIONS)}")
    if part == "option":
        return _misplaced(word, mode)
    if part == "unknown":
        name = word.partition("=")[0]
        rest = "iscsiadm --help lists them"
        return sentence(f"there is no option {quoted(name)}", name.lstrip("-"), LONG, rest, before="--")
    return f"say what it is about with -m: {', '.join(MODES)}"


def _misplaced(long: str, mode: str) -> str:
    option = next(option for option in OPTIONS if option.long == long)
    modes = [name for name in MODES if name in option.modes]
    if not modes:
        return f"{_both(option)} stands alone, without -m"
    return f"{_both(option)} belongs to {', '.join(modes)}; {_of(mode)}"


def _both(option: Option) -> str:
    return f"-{option.letter} (--{option.long})" if option.letter else f"--{option.long}"


def _of(mode: str) -> str:
    """The options of a mode, in short."""
    return f"{mode} mode takes {' '.join(option.spelled for option in OPTIONS[1:] if mode in option.modes)}"


def overlooked(options: Options) -> list[str]:
    """What of a good command line has no effect, as in the peer, which says nothing of it."""
    found = []
    if options.words:
        found.append(_loose(options.words))
    if options.unknown_type:
        found.append(_no_type(options.unknown_type))
    if options.unpaired:
        found.append("-n and -v come in pairs, -n NAME -v VALUE; one of them is left over")
    elif options.params and options.mode == "discovery":
        found.append("-n and -v change nothing here: -m discoverydb -o update takes them")
    elif options.params and options.mode in _CHANGED and not options.ops & _CHANGED[options.mode]:
        operations = " and -o ".join(sorted(_CHANGED[options.mode]))
        found.append(f"-n and -v change nothing here: they belong to -o {operations}")
    return found


def _loose(words: Sequence[str]) -> str:
    """Words that belong to no option: the peer overlooks them, so ``-m node login`` is a list."""
    names = {*MODES, *OPERATIONS, *TYPES, *LONG, *(name for keys in BY_KIND.values() for name in keys)}
    first = words[0]
    shown = first if first in names else f"{len(words)} word{'' if len(words) == 1 else 's'}"
    flags = {option.long: option for option in OPTIONS if not option.takes_value}
    if first in flags:
        meant = f"; did you mean --{first}?"
    elif first in OPERATIONS:
        meant = f"; did you mean -o {first}?"
    elif first in MODES:
        meant = f"; did you mean -m {first}?"
    elif first in names and first not in TYPES:
        meant = f"; did you mean -n {first} -v VALUE?"
    else:
        meant = "; a value with blanks stands in quotes" if len(words) == 1 else ""
    return f"not looked at, since no option stands before it: {shown}{meant}"


def _no_type(word: str) -> str:
    """``-t`` with a word that is no type: the peer goes on as if there were no ``-t``."""
    rest = "-t takes sendtargets (st), isns or fw, and anything else counts as no -t at all"
    return sentence(f"there is no type of discovery {quoted(word)}", word, TYPES, rest)


def place(portal: str | None, target: str | None) -> str:
    """What is likely wrong with ``-p`` and ``-T`` that lead nowhere; empty when they look right."""
    if portal is not None and (said := _portal(portal)):
        return said
    if target and not target.lower().startswith(_NAME_PREFIXES):
        if is_address(target):
            return f"-T {quoted(target)} is an address; the portal goes behind -p, the target's name behind -T"
        return f"-T {quoted(target)} is no target name: those begin with iqn., eui. or naa."
    return ""


def _portal(portal: str) -> str:
    low = portal.strip().lower()
    if low.startswith(_NAME_PREFIXES):
        return f"-p {quoted(portal)} is a target's name; it goes behind -T, its portal behind -p"
    if "@" in portal:
        # A secret may stand there.
        return f"-p names a user; names and secrets of CHAP are settings, see {ISCSID_CONF}"
    scheme, slashes, rest = portal.partition("://")
    if slashes:
        return f"-p {quoted(portal)} is a URL; a portal has no {quoted(f'{scheme}://')}: -p {_bare(rest)}"
    if "/" in portal:
        return f"-p {quoted(portal)} is a network or a path; a portal is one address: -p {_bare(portal)}"
    if portal.count(":") > 1 and portal.endswith(f":{ISCSI_PORT}") and not portal.startswith("["):
        return f"-p {quoted(portal)} is an address without a port; with one: -p [{_bare(portal[:-5])}]:{ISCSI_PORT}"
    host, colon, after = portal.partition(":")
    if colon and ":" not in after and _port_of(after) is None:
        return f"-p {quoted(portal)} has no port behind the colon: -p {_bare(host)}:{ISCSI_PORT}"
    if _looks_like_quad(host) and not _is_quad(host):
        return f"-p {quoted(portal)} is no IPv4 address: that is four numbers from 0 to 255"
    return ""


def _bare(text: str) -> str:
    """The part of ``text`` that can be a portal, or a word that stands for one."""
    host = text.partition("/")[0]
    return host if host.isprintable() and host and " " not in host else "PORTAL"


def _port_of(text: str) -> int | None:
    number = text.partition(",")[0]
    if number.isascii() and number.isdigit() and len(number) <= 5 and 0 < int(number) < 65536:
        return int(number)
    return None


def _looks_like_quad(host: str) -> bool:
    return host.count(".") >= 2 and _DIGITS_AND_DOTS.issuperset(host.partition(",")[0])


def _is_quad(host: str) -> bool:
    parts = host.partition(",")[0].split(".")
    return len(parts) == 4 and all(
        part.isascii() and part.isdigit() and len(part) <= 3 and int(part) < 256 for part in parts
    )


def is_address(text: str) -> bool:
    """Whether ``text`` is an IPv4 or IPv6 address, with or without brackets and a port."""
    host = text.lstrip("[").partition("]")[0].lower()
    return _is_quad(host.partition(":")[0]) or (host.count(":") > 1 and _OF_IPV6.issuperset(host))
