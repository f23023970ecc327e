# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsistart``: firmware or arguments -> network -> login -> disk, once, in the foreground.

The order of a boot (``-N -b``, what the initramfs runs):

1. start ``modprobe`` for iscsi_ibft and iscsi_tcp, they load while we go on;
2. read the firmware's table into a BootConfig, plan NICs and logins;
3. bring the NICs up; one that fails is told and does not stop the others;
4. log in on every path at once, hand each session to the kernel, wait for the disk;
5. leave a keeper behind, which guards the sessions until a daemon does (:mod:`iscsiboot.boot.keeper`).

Exit status as the peer's: 0 when the boot disk is there, 7 for a wrong command line, 21 or 22 without a table, else 1.
Every failure is one line on standard error: ``iscsistart: stage: subject: cause; next: what to do``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from iscsiboot import __version__
from iscsiboot.boot import keeper, limits
from iscsiboot.boot.console import ConsoleReport, process_start
from iscsiboot.boot.keeper import Roots, Session
from iscsiboot.boot.kernel_log import read_kernel_log
from iscsiboot.boot.lock import exclusive
from iscsiboot.boot.naming import NameRoots, choose_name
from iscsiboot.boot.options import PROGRAM, Action, Options, UsageError, help_text, parse
from iscsiboot.boot.parameters import (
    CONFIG_MAX_BYTES,
    FILE_DEFAULTS_NOT_FOR_BOOT,
    Applied,
    BootParameters,
    ParameterError,
    apply_settings,
    parse_config,
)
from iscsiboot.boot.paths import run_all
from iscsiboot.boot.plan import BootPlan, PlannedPath, plan_arguments, plan_firmware, plan_network
from iscsiboot.boot.readiness import tell_ready
from iscsiboot.boot.secrets import gather
from iscsiboot.errors import EXIT_TEXT, ExitCode, IscsiBootError, Stage
from iscsiboot.firmware.read import machine_name, read_firmware
from iscsiboot.firmware.record_text import render
from iscsiboot.firmware.report import FirmwareReport, FirmwareRoots, SourceState
from iscsiboot.model.boot import BootConfig, Sourced
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.report import Report
from iscsiboot.model.timeline import Mark
from iscsiboot.network.bringup import NetworkEnvironment, NicRequest, bring_up
from iscsiboot.session.attach import Environment, attach, this_machine
from iscsiboot.session.forking import ENDING_SIGNALS
from iscsiboot.session.modules import ISCSI_IBFT, ISCSI_TCP, Loading, ModuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TextIO

CONFIG_DEFAULT = Path("iscsi/iscsid.conf")
"""Below /etc."""
MODULE_TIME = 60.0
"""Seconds a modprobe may take: a module that waits for firmware files gives up after about this long itself."""


class Interrupted(KeyboardInterrupt):
    """A termination signal; a KeyboardInterrupt, so that nothing that handles failures swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """The machine a run works on; tests hand in another one."""

    sysfs: Path = Path("/sys")
    proc: Path = Path("/proc")
    run: Path = Path("/run")
    etc: Path = Path("/etc")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    user: int = field(default_factory=os.geteuid)
    """Effective user id; 0 is root."""
    now: Callable[[], float] = time.monotonic
    entropy: Callable[[int], bytes] = os.urandom

    @property
    def firmware(self) -> FirmwareRoots:
        """Where firmware tables show."""
        return FirmwareRoots(sysfs=self.sysfs, proc=self.proc)

    @property
    def network(self) -> NetworkEnvironment:
        """Where the network is made."""
        return NetworkEnvironment(sysfs=self.sysfs, run=self.run, etc=self.etc, now=self.now, entropy=self.entropy)

    @property
    def roots(self) -> Roots:
        """Where the keeper finds what it needs."""
        return Roots(run=self.run)

    @property
    def session(self) -> Environment:
        """Where sessions are made."""
        return replace(this_machine(), sysfs=self.sysfs, now=self.now, entropy=self.entropy)


def main(argv: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr, host: Host | None = None) -> int:
    """One run of the program; the exit status."""
    place = host or Host()
    report = ConsoleReport(err, program=PROGRAM)
    try:
        options = parse(argv)
        if options.action is Action.HELP:
            out.write(help_text())
            return ExitCode.SUCCESS
        if options.action is Action.VERSION:
            out.write(f"{PROGRAM} version {__version__}\n")
            return ExitCode.SUCCESS
        report.verbose = options.debug > 0
        _catch_signals()
        began = process_start(place.proc)
        if began is not None:
            report.mark_at(Mark.STARTED, began, f"{PROGRAM} {__version__}")
        report.mark(Mark.IMPORTED, f"{len(sys.modules)} modules")
        return _Run(place, options, report, out).run()
    except UsageError as error:
        report.note(error.cause)
        report.note(error.hint)
        return error.exit_code
    except IscsiBootError as error:
        report.note(error.line())
        return error.exit_code
    except Interrupted as interrupt:
        report.note(f"ended by {interrupt.name}; what was begun is undone")
        return ExitCode.ERR
    finally:
        report.save(place.run)


def _catch_signals() -> None:
    def interrupt(number: int, _frame: object) -> NoReturn:
        # The undo that follows must not be cut short by a second one; it is bounded itself.
        for each in ENDING_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    for number in ENDING_SIGNALS:
        signal.signal(number, interrupt)


def _ignore_ends() -> None:
    """A signal of systemd, which stops the unit at switch-root and waits for its end, is no reason to end now."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class _Run:
    """The steps of one run; what they share is here, what they decide is in plan.py."""

    def __init__(self, host: Host, options: Options, report: ConsoleReport, out: TextIO) -> None:
        self.host = host
        self.options = options
        self.report = report
        self.out = out

    def run(self) -> int:
        self.report.note(f"version {__version__}")
        if self.options.action is Action.PRINT:
            return self._print()
        if self.host.user != 0:
            raise IscsiBootError(
                f"user {self.host.user} may neither set up NICs nor make sessions",
                stage=Stage.ARGUMENTS,
                hint="run it as root; -f and `iscsiboot explain` only look",
            )
        tcp = Loading(ISCSI_TCP, sysfs=self.host.sysfs) if self._logs_in else None
        on_command_line = apply_settings(BootParameters(), self.options.params, origin="--param").parameters
        from_file = self._config_file()
        parameters = apply_settings(from_file, self.options.params, origin="--param")
        self._tell(parameters)
        deadline = self._deadline(parameters.parameters)
        if self.options.action is not Action.BOOT:
            credentials = gather(self.options, on_command_line, from_file, self.host.environ, remark=self.report.note)
            name = self._name(lambda: machine_name(self._firmware(deadline).config))
            plan = plan_arguments(self.options, parameters.parameters, name, credentials)
        elif self._logs_in:
            config = self._config(deadline)
            plan = plan_firmware(config, parameters.parameters, self._name(lambda: config.initiator_name))
        else:
            plan = plan_network(self._config(deadline))
        for note in plan.notes:
            self.report.note(note)
        if self.options.network:
            self._announce(plan.nics)
        if tcp is None:
            return self._network_only(plan, deadline)
        tcp.wait(deadline.within(MODULE_TIME, now=self.host.now(), reason="modprobe iscsi_tcp"), self.host.now)
        return self._attach(plan, deadline)

    def _name(self, firmware: Callable[[], Sourced[str] | None]) -> str:
        """The initiator name, with a line about where it is from; ``firmware`` gives the table's when it is asked."""
        host, given = self.host, self.options.initiator_name
        roots = NameRoots(etc=str(host.etc), sysfs=str(host.sysfs), proc=str(host.proc))
        name = choose_name(given, firmware() if given is None else None, roots)
        self.report.note(f"initiator name {name.text}, from {name.source}")
        for note in name.notes:
            self.report.note(note)
        return name.text

    @property
    def _logs_in(self) -> bool:
        return not (self.options.action is Action.BOOT and self.options.network and not self.options.connect)

    def _deadline(self, parameters: BootParameters) -> Deadline:
        seconds = limits.total_seconds(
            argument=self.options.timeout,
            cmdline=limits.read_cmdline(self.host.proc),
            default=parameters.give_up_after,
        )
        return Deadline.after(seconds, now=self.host.now(), reason="the root disk")

    def _tell(self, applied: Applied) -> None:
        for note in applied.notes:
            self.report.note(note)

    def _config_file(self) -> BootParameters:
        """Parameters of ``-c``, or of the standard file for a firmware boot; that one may be missing, ``-c`` not."""
        if self.options.config is None and self.options.action is not Action.BOOT:
            return BootParameters()
        path = Path(self.options.config) if self.options.config else self.host.etc / CONFIG_DEFAULT
        try:
            with path.open("rb") as file:
                data = file.read(CONFIG_MAX_BYTES)
        except OSError as error:
            if self.options.config is None:
                return BootParameters()
            raise IscsiBootError(
                f"cannot be read: {error.strerror}",
                stage=Stage.ARGUMENTS,
                subject=str(path),
                hint="check the path given with -c",
                exit_code=ExitCode.INVAL,
            ) from error
        settings, notes = parse_config(data, name=str(path))
        for note in notes:
            self.report.note(note)
        usable = [(name, value) for name, value in settings if name not in FILE_DEFAULTS_NOT_FOR_BOOT]
        # A shared file sets many keys a boot cannot use; telling of each would bury what matters.
        try:
            return apply_settings(BootParameters(), usable, origin=str(path)).parameters
        except ParameterError as error:
            if self.options.config is not None:
                raise
            # A slip in a file nobody named must not keep a machine from its root.
            self.report.note(f"{error.line()}; the whole file is left aside")
            return BootParameters()

    def _config(self, deadline: Deadline) -> BootConfig:
        report = self._firmware(deadline)
        problem = report.problem(read_kernel_log())
        if problem is not None or report.config is None:
            self.out.write("Could not get boot entry.\n" if self.options.connect else "Could not setup fw entries.\n")
            raise problem or AssertionError("a report without a config has a problem")
        for ignored in report.ignored:
            self.report.note(f"ignored: {ignored.what}: {ignored.why}")
        used = [source.kind for source in report.sources if source.state is SourceState.PRESENT]
        self.report.mark(Mark.TABLE_READ, ", ".join(used))
        return report.config

    def _firmware(self, deadline: Deadline) -> FirmwareReport:
        ibft = Loading(ISCSI_IBFT, sysfs=self.host.sysfs)
        try:
            ibft.wait(deadline.within(MODULE_TIME, now=self.host.now(), reason="modprobe iscsi_ibft"), self.host.now)
        except ModuleError:
            # The module refuses to load without a table and where the table is broken; the table itself and the
            # kernel's log, read next, say which, in better words than modprobe's.
            pass
        return read_firmware(self.host.firmware)

    def _print(self) -> int:
        report = self._firmware(Deadline.after(MODULE_TIME, now=self.host.now(), reason="modprobe iscsi_ibft"))
        if report.config is None or not report.config.targets:
            self.out.write("Could not get list of targets from firmware.\n")
            problem = report.problem(read_kernel_log())
            if problem is not None:
                self.report.note(problem.line())
                return problem.exit_code
            return ExitCode.NO_OBJS_FOUND
        # A boot needs no names for what it shows.
        from iscsiboot.firmware.nic_names import with_netdevs

        self.out.write(render(with_netdevs(report.config, self.host.sysfs), __version__))
        return ExitCode.SUCCESS

    def _announce(self, nics: Sequence[NicRequest]) -> None:
        for request in nics:
            name = request.nic.netdev or request.nic.mac
            self.out.write(f"Setting up software interface {name.value if name else request.nic.index}\n")
        self.out.flush()

    def _network_only(self, plan: BootPlan, deadline: Deadline) -> int:
        """``-N`` alone: every NIC, all at once."""
        if not plan.nics:
            self.out.write("Could not setup fw entries.\n")
            return ExitCode.NO_OBJS_FOUND
        results = bring_up(plan.nics, environment=self.host.network, deadline=deadline, report=self.report)
        errors = [result.error for result in results if result.error is not None]
        for error in errors:
            self.report.note(error.line())
        return ExitCode.ERR if errors else ExitCode.SUCCESS

    def _attach(self, plan: BootPlan, deadline: Deadline) -> int:
        for path in plan.paths:
            portal = path.request.portal
            self.out.write(
                f"{PROGRAM}: Logging into {path.request.target_name} {portal.address}:{portal.port},{portal.tpgt}\n"
            )
        self.out.flush()

        def attach_path(path: PlannedPath, report: Report) -> Session:
            if self.options.network and path.nic is not None:
                self._bring_up_one(path.nic, deadline, report)
            made = attach(path.request, environment=self.host.session, deadline=deadline, report=report)
            return Session(sid=made.sid, tpgt=made.tpgt, request=path.request, algorithm=made.algorithm)

        results = run_all(plan.paths, attach_path, report=self.report, deadline=deadline, now=self.host.now)
        for result in results:
            if result.error is not None:
                self.report.note(result.error)
                self.report.note(f"initiator reported error ({int(result.exit_code)} - {EXIT_TEXT[result.exit_code]})")
        if not any(result.error is None and result.path.boot_selected for result in results):
            return ExitCode.ERR
        self._hand_on([result.session for result in results if result.session is not None])
        return ExitCode.SUCCESS

    def _hand_on(self, sessions: Sequence[Session]) -> None:
        """The disk is there: whoever waits for it may go on, and what guards it from now on is made.

        From here on nothing is undone, and Ctrl-C ends the wait for the keeper at most.
        """
        _ignore_ends()
        try:
            self.report.save(self.host.run)
            tell_ready(self.host.environ, "the root disk is there")
            cmdline = limits.read_cmdline(self.host.proc)
            in_initramfs = (self.host.etc / keeper.INITRAMFS).exists()
            if keeper.wanted(self.options.keeper, cmdline, in_initramfs=in_initramfs):
                keeper.leave(sessions, self.host.roots, report=self.report, now=self.host.now)
            else:
                keeper.only_save(sessions, self.host.roots, report=self.report)
        except KeyboardInterrupt:
            self.report.note("interrupted while the session was handed on; it stands, perhaps without a keeper")

    def _bring_up_one(self, request: NicRequest, deadline: Deadline, report: Report) -> None:
        """The NIC of one path, inside that path's process: a NIC without a carrier delays nobody else.

        Two paths may share a NIC. The second waits for the first, then finds everything in place.
        """
        with exclusive(self.host.run, f"nic{request.nic.index}"):
            (result,) = bring_up((request,), environment=self.host.network, deadline=deadline, report=report)
        if result.error is not None:
            raise result.error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
