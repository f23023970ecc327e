# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of ``iscsiadm``: one table of options, and the peer's way through them.

The peer executes its options from left to right: ``-V`` and ``-h`` end the run where they stand, a bad value is told
where it stands. At ``-m`` it looks at the *whole* command line and refuses every letter that mode does not know; so
``iscsiadm -V -m node`` prints the version and ``iscsiadm -m node -V`` is an error. :func:`parse` does the same with the
same words.

Options of our own have no letter. They obey the same table of modes, and must be written out in full.
"""

from __future__ import annotations

from iscsiboot.admin.arguments import BadArgument, check_iface_name, number, parse_host, parse_index, parse_sid
from iscsiboot.errors import ExitCode
from iscsiboot.model.getopt_long import Found, OptionSpec, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

TRY_HELP = "Try `iscsiadm --help' for more information."
MODES = ("discovery", "discoverydb", "node", "session", "iface", "fw", "host")
OPERATIONS = ("new", "delete", "update", "show", "nonpersistent", "apply", "applyall", "login", "logout")
TYPES = {"sendtargets": "sendtargets", "st": "sendtargets", "isns": "isns", "fw": "fw", "slp": "slp"}
LONGEST_TIMEOUT = 86400

_DISCOVER = "discovery discoverydb"
_RECORDS = "discovery discoverydb node session iface host"
_LOGIN = "discovery discoverydb node session fw"
_ALL = " ".join(MODES)


class Option(OptionSpec):
    """A row of the table: what :class:`OptionSpec` says, and the value's name, the modes it belongs to, its meaning."""

    __slots__ = ("argument", "meaning", "modes", "repeats")

    def __init__(
        self, letter: str, long: str, argument: str, modes: str, meaning: str, *, repeats: bool = False
    ) -> None:
        super().__init__(letter, long, takes_value=bool(argument), ours=not letter)
        self.argument = argument
        """What the value is called in help and manual; empty: none."""
        self.modes = frozenset(modes.split())
        self.meaning = meaning
        self.repeats = repeats

    @property
    def spelled(self) -> str:
        """``-p`` or ``--json``: the short form, where there is one."""
        return f"-{self.letter}" if self.letter else f"--{self.long}"


# In the peer's order, which the message about an ambiguous abbreviation shows.
OPTIONS = (
    Option("m", "mode", "MODE", _ALL, "discovery, discoverydb, node, session, iface, fw or host"),
    Option("p", "portal", "PORTAL", "discovery discoverydb node", "address[:port][,tag]; IPv6 as [address]:port"),
    Option("T", "targetname", "TARGET", "node", "the target's iSCSI name"),
    Option("I", "interface", "IFACE", "discovery discoverydb node iface", "an interface record", repeats=True),
    Option("o", "op", "OPERATION", _RECORDS, "what to do with records: " + ", ".join(OPERATIONS), repeats=True),
    Option("t", "type", "TYPE", f"{_DISCOVER} host", "way of discovery: sendtargets (st), isns or fw"),
    Option("n", "name", "NAME", f"{_RECORDS} fw", "a parameter of a record, with --value", repeats=True),
    Option("v", "value", "VALUE", f"{_RECORDS} fw", "the value of the parameter before it", repeats=True),
    Option("H", "host", "HOST", "iface host", "a SCSI host by number or MAC address"),
    Option("r", "sid", "SID", "session", "a session by number or by its path in sysfs"),
    Option("R", "rescan", "", "node session", "look for new disks and new sizes"),
    Option("P", "print", "LEVEL", _RECORDS, "how much to print: a tree from 1 on"),
    Option("D", "discover", "", _DISCOVER, "discover with a stored record"),
    Option("l", "login", "", "discovery discoverydb node fw", "log in"),
    Option("L", "loginall", "WHICH", "node", "log in to records whose node.startup is WHICH, or all"),
    Option("u", "logout", "", "node session", "log out"),
    Option("U", "logoutall", "WHICH", "node", "log out of sessions whose node.startup is WHICH, or all"),
    Option("s", "stats", "", "node session", "print statistics"),
    Option("k", "killiscsid", "0", "", "stop iscsid at once"),
    Option("d", "debug", "LEVEL", _ALL, "tell the steps on the way: 0 to 8"),
    Option("S", "show", "", "discovery discoverydb node session", "print secrets instead of stars"),
    Option("V", "version", "", "", "print the version"),
    Option("h", "help", "", "", "print this text"),
    Option("C", "submode", "SUBMODE", "iface host", "ping (iface); chap, flashnode or stats (host)"),
    Option("a", "ip", "ADDRESS", "iface", "where a ping goes"),
    Option("b", "packetsize", "BYTES", "iface", "size of a ping"),
    Option("c", "count", "COUNT", "iface", "number of pings"),
    Option("i", "interval", "SECONDS", "iface session", "time between pings"),
    Option("x", "index", "INDEX", "host", "an entry of the CHAP or flashnode table"),
    Option("A", "portal_type", "FAMILY", "host", "ipv4 or ipv6 of a new flashnode entry"),
    Option("W", "no_wait", "", "node fw", "do not wait for the login"),
    Option("", "json", "", _ALL, "print one JSON document"),
    Option("", "wait-device", "", _LOGIN, "end when the disks of a new session are there"),
    Option("", "force", "", "node session", "also end a session the system stands on"),
    Option("", "timeout", "SECONDS", _LOGIN, "give up after this time"),
)
"""Every option. Help, manual and completion are made from it."""


class Usage(Exception):
    """The command line asked for text, or is wrong: what goes to stdout and stderr as it is, and the exit status."""

    def __init__(self, *, out: Sequence[str] = (), err: Sequence[str] = (), exit_code: ExitCode) -> None:
        super().__init__(*out, *err)
        self.out = list(out)
        self.err = list(err)
        self.exit_code = exit_code
        self.wrong: tuple[str, str, str] | None = None
        """Part, word and mode for :func:`iscsiboot.admin.hints.command_line`, where a person may want to know more."""
        self.debug = 0


class Options:
    """A command line after its parse. What was not given is None, False or empty."""

    __slots__ = (
        "complaints", "count", "debug", "discover", "force", "host", "index", "interfaces", "interval", "ip", "json",
        "kill", "login", "loginall", "logout", "logoutall", "mode", "no_wait", "ops", "packet_size", "params",
        "portal", "portal_type", "print_level", "rescan", "show", "sid", "stats", "submode", "target", "timeout",
        "type", "unknown_type", "unpaired", "wait_device", "words",
    )  # fmt: skip

    def __init__(self) -> None:
        self.mode = ""
        self.portal: str | None = None
        """As written; :func:`iscsiboot.admin.arguments.parse_portal` reads it."""
        self.target: str | None = None
        self.interfaces: list[str] = []
        self.ops: frozenset[str] = frozenset()
        self.type: str | None = None
        """sendtargets, isns, fw or slp; None also for a word nobody knows."""
        self.unknown_type = ""
        """The last word of ``-t`` that nobody knows; empty when ``type`` is known or was not given."""
        self.params: list[tuple[str, str]] = []
        """Names and values in the order they were given."""
        self.unpaired = False
        """Whether a name without a value, or the reverse, was left over."""
        self.sid: str | None = None
        """A positive decimal number, also when a path was given."""
        self.host: str | None = None
        """A decimal number, also when a MAC address was given."""
        self.print_level = -1
        self.rescan = False
        self.discover = False
        self.login = False
        self.logout = False
        self.loginall: str | None = None
        self.logoutall: str | None = None
        self.stats = False
        self.kill: int | None = None
        """The priority of ``-k``; then there is no mode."""
        self.debug = 0
        self.show = False
        self.no_wait = False
        self.submode: str | None = None
        self.ip: str | None = None
        self.packet_size = 32
        self.count = 1
        self.interval = 0
        self.index: int | None = None
        self.portal_type: str | None = None
        self.json = False
        self.wait_device = False
        self.force = False
        self.timeout: float | None = None
        """Seconds, 1 to a day."""
        self.complaints: list[str] = []
        """Lines for stderr about mistakes that did not stop the run (``--bogus -k 0``)."""
        self.words: list[str] = []
        """Words that belong to no option; nothing looks at them, as with the peer."""

    @property
    def doubtful(self) -> bool:
        """Whether the line holds something that may come to nothing (:func:`iscsiboot.admin.hints.overlooked`)."""
        return bool(self.words or self.params or self.unpaired or self.unknown_type)

    @property
    def on_sessions(self) -> str:
        """What is to be done to sessions, the first the modes look for: rescan, statistics, logout; empty for none."""
        asked = (("rescan", self.rescan), ("statistics", self.stats), ("logout", self.logout))
        return next((kind for kind, given in asked if given), "")


def parse(argv: Sequence[str], program: str = "iscsiadm", *, sysfs: str = "/sys", in_order: bool = False) -> Options:
    """The options of ``argv`` (without the program's name); :class:`Usage` when the run ends here.

    ``program`` is the name glibc's lines begin with. ``in_order`` is POSIXLY_CORRECT.
    """
    words: list[str] = []
    found = scan(argv, program, OPTIONS, in_order=in_order, words=words)
    run = _Run(found, sysfs)
    run.options.words = words
    try:
        for item in found:
            run.take(item)
        return run.finish()
    except Usage as usage:
        usage.wrong = run.wrong
        usage.debug = max(run.options.debug, *(number(item.value) for item in found if _is_debug(item)), 0)
        raise


def _is_debug(item: Found) -> bool:
    return item.spec is not None and item.spec.long == "debug"


class _Run:
    """The way through one command line."""

    def __init__(self, found: list[Found], sysfs: str) -> None:
        self.found = found
        self.sysfs = sysfs
        self.options = Options()
        self.err = self.options.complaints
        self.unknown = ""
        """The letter of the last mistake; it ends a run without a mode."""
        self.wrong: tuple[str, str, str] | None = None
        """What ends the run, see :attr:`Usage.wrong`."""
        self.name: str | None = None
        self.value: str | None = None

    def take(self, item: Found) -> None:
        """One option: what ends the run raises :class:`Usage`."""
        if item.spec is None:
            self.err.append(item.complaint)
            self.unknown = item.character or ""
            self.wrong = self._unknown_option(item)
            return
        try:
            self._store(item.spec.long, item.value)
        except BadArgument as error:
            if error.stdout:
                raise Usage(out=error.lines, err=self.err, exit_code=error.exit_code) from None
            raise self._end(*error.lines, exit_code=error.exit_code) from None

    def finish(self) -> Options:
        """The options, when the line holds together as a whole."""
        if self.unknown:
            raise self._end(f"unrecognized character '{self.unknown}'")
        if not self.options.mode and self.options.kill is None:
            self.wrong = self.wrong or ("none", "", "")
            raise Usage(err=[*self.err, TRY_HELP], exit_code=ExitCode.INVAL)
        self.options.unpaired = self.name is not None or self.value is not None
        return self.options

    def _end(self, *lines: str, exit_code: ExitCode = ExitCode.INVAL) -> Usage:
        return Usage(err=[*self.err, *(f"iscsiadm: {line}" for line in lines)], exit_code=exit_code)

    def _store(self, name: str, value: str) -> None:
        """Act on one option with a good spelling."""
        options = self.options
        if name in _PLAIN:
            setattr(options, _PLAIN[name], value)
        elif name in _FLAGS:
            setattr(options, _FLAGS[name], True)
        elif name in _NUMBERS:
            setattr(options, _NUMBERS[name], number(value))
        elif name in ("name", "value"):
            setattr(self, name, value)
            if self.name is not None and self.value is not None:
                options.params.append((self.name, self.value))
                self.name = self.value = None
        else:
            getattr(self, f"_{name}")(value)

    def _mode(self, mode: str) -> None:
        if mode not in MODES:
            self.wrong = ("mode", mode, "")
            raise BadArgument("mode -1 is not yet supported")
        self.options.mode = mode
        for item in self.found:
            if item.spec is None:
                self.err.append(item.complaint)
                self.wrong = self._unknown_option(item)
                refused = "-?"
            else:
                option = BY_LONG[item.spec.long]
                if mode in option.modes:
                    continue
                self.wrong = ("option", option.long, mode)
                refused = option.spelled
            # The peer's table knows both discovery modes under one name.
            shown = "discovery" if mode == "discoverydb" else mode
            raise BadArgument(f"{shown} mode: option '{refused}' is not allowed/supported")

    @staticmethod
    def _unknown_option(item: Found) -> tuple[str, str, str] | None:
        """A name that is none; a good one without its value is told by its complaint."""
        return ("unknown", item.word, "") if item.word else None

    def _op(self, word: str) -> None:
        if word in OPERATIONS:
            self.options.ops |= {word}
        elif not self.options.ops:
            self.wrong = ("operation", word, "")
            raise BadArgument(f"can not recognize operation: '{word}'")

    def _type(self, word: str) -> None:
        self.options.type = TYPES.get(word)
        self.options.unknown_type = "" if word in TYPES else word

    def _interface(self, name: str) -> None:
        self.options.interfaces.append(check_iface_name(name))

    def _sid(self, text: str) -> None:
        self.options.sid = str(parse_sid(text, self.sysfs))

    def _host(self, text: str) -> None:
        self.options.host = str(parse_host(text, self.sysfs))

    def _index(self, text: str) -> None:
        self.options.index = parse_index(text)

    def _killiscsid(self, text: str) -> None:
        priority = number(text)
        if priority < 0:
            line = f"Invalid killiscsid priority {priority} Priority must be greater than or equal to zero."
            raise BadArgument(line)
        self.options.kill = priority

    def _timeout(self, text: str) -> None:
        if not (text.isascii() and text.isdigit() and 1 <= number(text) <= LONGEST_TIMEOUT):
            raise BadArgument(f"Invalid timeout {text}. Must be from 1 to {LONGEST_TIMEOUT} seconds.")
        self.options.timeout = float(text)

    def _version(self, _: str) -> None:
        from iscsiboot.database.record import COMPATIBLE  # only this option needs it here

        raise Usage(out=[f"iscsiadm version {COMPATIBLE}"], err=self.err, exit_code=ExitCode.SUCCESS)

    def _help(self, _: str) -> None:
        from iscsiboot.admin.usage import help_lines  # few runs print it

        raise Usage(out=help_lines(), err=self.err, exit_code=ExitCode.SUCCESS)


BY_LONG = {option.long: option for option in OPTIONS}

_PLAIN = {
    "portal": "portal", "targetname": "target", "loginall": "loginall", "logoutall": "logoutall",
    "submode": "submode", "ip": "ip", "portal_type": "portal_type",
}  # fmt: skip
_FLAGS = {
    "rescan": "rescan", "discover": "discover", "login": "login", "logout": "logout", "stats": "stats", "show": "show",
    "no_wait": "no_wait", "json": "json", "wait-device": "wait_device", "force": "force",
}  # fmt: skip
_NUMBERS = {
    "print": "print_level", "debug": "debug", "packetsize": "packet_size", "count": "count", "interval": "interval",
}  # fmt: skip
