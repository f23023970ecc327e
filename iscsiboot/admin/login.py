# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-l``: log in to records, all at once, and tell of each in the order they were given.

The words and the exit code are open-iscsi 2.1.8's: a line for each login that begins, one for each result, the first
error wins. Ours is one more line behind each failure with stage, cause and next step, a progress line at a terminal,
and with ``--wait-device`` the block devices.
"""

from __future__ import annotations

from contextlib import closing

from iscsiboot.admin.matching import Addresses, pattern_of, rows_of, transport_of
from iscsiboot.admin.progress import Progress
from iscsiboot.admin.runner import LoginOrder, Result, the_runner
from iscsiboot.admin.session_state import LOGGED_IN
from iscsiboot.errors import EXIT_TEXT, ExitCode, IscsiBootError
from iscsiboot.sysfs.listing import list_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iscsiboot.admin.context import Context
    from iscsiboot.admin.login_devices import DeviceWatch
    from iscsiboot.admin.options import Options
    from iscsiboot.admin.runner import Runner
    from iscsiboot.database.names import NodeKey
    from iscsiboot.database.record import Record
    from iscsiboot.sysfs.listing import SessionRow

SUMMARY = "Could not log into all portals"


def label(key: NodeKey) -> str:
    """A login as every message names it."""
    return f"[iface: {key.iface}, target: {key.target}, portal: {key.address},{key.port}]"


def login_nodes(
    pairs: Sequence[tuple[NodeKey, Record]],
    context: Context,
    options: Options | None,
    *,
    wait: bool = True,
    multiple: bool = False,
    summary: str = SUMMARY,
    boot: Mapping[NodeKey, tuple[str, str, str]] | None = None,
    runner: Runner | None = None,
) -> int:
    """Log in to each record and print everything; the exit code is the first error's.

    ``multiple`` makes one more session for each, however many there are. Without ``wait`` the logins go on behind the
    command and only what keeps one from beginning is told. ``summary`` is the last line when anything failed; empty,
    there is none. ``boot`` is what firmware calls the place of a record that comes from its table.
    """
    run = _Run(context, options, runner or the_runner(context))
    run.select(pairs, boot or {}, multiple=multiple)
    try:
        if run.orders and wait:
            run.log_in()
        elif run.orders:
            run.send()
        if run.code and summary:
            context.error(summary)
    finally:
        # Interrupted as well: what has been made by then is there.
        if context.json:
            run.emit()
    return run.code


class _Run:
    """One command's logins."""

    def __init__(self, context: Context, options: Options | None, runner: Runner) -> None:
        self._context = context
        self._options = options
        self._runner = runner
        self.orders: list[LoginOrder] = []
        self.code: int = ExitCode.SUCCESS
        self._present: list[NodeKey] = []
        self._sent = False
        self._stopped: int = ExitCode.ERR
        """Exit code of logins that have no result: of what kept them from beginning, or of an interruption."""
        self._results: dict[int, Result] = {}
        self._devices: dict[int, tuple[str, ...]] = {}

    def select(
        self,
        pairs: Sequence[tuple[NodeKey, Record]],
        boot: Mapping[NodeKey, tuple[str, str, str]],
        *,
        multiple: bool,
    ) -> None:
        """One order for each session that is missing, announced; a record with enough of them is an error."""
        rows = self._settled(pairs)
        addresses = Addresses()
        for key, record in pairs:
            wanted, missing = 0, 1
            if not multiple:
                wanted = record.number("node.session.nr_sessions")
                pattern = pattern_of(key, transport_of(record))
                present = len(rows_of(pattern, rows.get(key.target, ()), addresses=addresses))
                missing = wanted - present
                if missing <= 0:
                    plural = "" if wanted == 1 else "s"
                    self._context.error(
                        f"{key.iface}: {wanted} session{plural} requested, but {present} already present."
                    )
                    self._present.append(key)
                    self._fail(ExitCode.SESS_EXISTS)
            for _ in range(missing):
                order = LoginOrder(key, record, wanted, boot=boot.get(key, ("", "", "")))
                self.orders.append(order)
                self._say(f"Logging in to {label(key)}{' (multiple)' if order.multiple else ''}")

    def _settled(self, pairs: Sequence[tuple[NodeKey, Record]]) -> dict[str, list[SessionRow]]:
        """The sessions by target, without those of these records that nobody will complete or recover.

        The kernel keeps what a killed command had half made, and it is no session anybody can use. One that was cut off
        before it had a name may be of any of these records.
        """
        rows = self._rows()
        broken = {target for target, found in rows.items() if any(row.state != LOGGED_IN for row in found)}
        suspects = [pair for pair in pairs if pair[0].target in broken or "" in broken]
        if not suspects:
            return rows
        for line in self._runner.settle(suspects):
            self._context.notice(line)
        return self._rows()

    def _rows(self) -> dict[str, list[SessionRow]]:
        # By target, since thousands of records and sessions may meet here. Also those that have no connection yet: no
        # record's address is theirs, so they do not count, but who made them may be gone.
        rows: dict[str, list[SessionRow]] = {}
        for row in list_rows(self._context.paths.sysfs, whole=False):
            rows.setdefault(row.target, []).append(row)
        return rows

    def send(self) -> None:
        """Begin the logins and do not wait for them."""
        self._context.out.flush()
        self._runner.login_later(self.orders)
        self._sent = True

    def log_in(self) -> None:
        """Log in, tell the results in the orders' order, wait for devices when that was asked for."""
        timeout = self._options.timeout if self._options else None
        watch: DeviceWatch | None = None
        try:
            if self._options and self._options.wait_device:
                from iscsiboot.admin import login_devices  # udev, and what a session is made of

                watch = login_devices.DeviceWatch(self._context, timeout)
            self._follow(timeout)
            if watch is not None:
                self._wait_for_devices(watch)
        except IscsiBootError as error:
            self._context.error(error.line(), error)
            self._stopped = error.exit_code
            self._fail(error.exit_code)
        finally:
            if watch is not None:
                watch.close()

    def _follow(self, timeout: float | None) -> None:
        self._context.out.flush()
        progress = Progress(self._context.err, "Logging in", len(self.orders))
        told = 0
        try:
            progress.show()
            with closing(self._runner.login(self.orders, seconds=timeout, tick=progress.show)) as results:
                for index, result in results:
                    self._results[index] = result
                    progress.count(failed=result.failure is not None)
                    progress.clear()
                    while told in self._results:
                        self._tell(told)
                        told += 1
                    progress.show()
        finally:
            progress.clear()
            # Interrupted: sessions that were made behind one that is not done are there, and that has to be known.
            for index in sorted(index for index in self._results if index >= told):
                self._tell(index)

    def _tell(self, index: int) -> None:
        """One result, in open-iscsi's words and ours."""
        key, result = self.orders[index].key, self._results[index]
        for step in result.steps:
            self._context.trace(1, f"login: {key.target}: {step}")
        for note in result.notes:
            self._context.notice(f"{label(key)}: {note}")
        if result.failure is None:
            self._say(f"Login to {label(key)} successful.")
            self._context.out.flush()
            return
        self._context.error(f"Could not login to {label(key)}.")
        self._context.error(f"initiator reported error ({int(result.code)} - {EXIT_TEXT[result.code]})")
        failure = with_chap(result.failure, self.orders[index].record)
        self._context.error(explanation(key, failure), failure)
        self._fail(result.code)

    def _wait_for_devices(self, watch: DeviceWatch) -> None:
        for index, order in enumerate(self.orders):
            if self._results[index].failure is not None:
                continue
            try:
                self._devices[index] = watch.wait(order, self._results[index].sid)
            except IscsiBootError as error:
                self._context.error(explanation(order.key, error), error)
                self._fail(error.exit_code)
                continue
            for device in self._devices[index]:
                self._say(" ".join((f"Device of {label(order.key)}:", device, *watch.links(device))))

    def _say(self, line: str) -> None:
        # With --json the object tells it.
        if not self._context.json:
            self._context.say(line)

    def _fail(self, code: int) -> None:
        self.code = self.code or code

    def emit(self) -> None:
        """The objects of ``--json``."""
        from iscsiboot.admin.json_objects import login_object
        from iscsiboot.admin.json_out import emit

        objects = [login_object(key, "present", exit_code=ExitCode.SESS_EXISTS) for key in self._present]
        for index, order in enumerate(self.orders):
            result = self._results.get(index)
            if result is None:
                # It goes on behind our back, was interrupted, or not begun for a failure told by itself.
                sent = login_object(order.key, "sent")
                failed = login_object(order.key, "failed", exit_code=self._stopped)
                objects.append(sent if self._sent else failed)
                continue
            objects.append(
                login_object(
                    order.key,
                    "done" if result.failure is None else "failed",
                    sid=result.sid,
                    devices=self._devices.get(index),
                    seconds=result.seconds,
                    exit_code=result.code,
                    failure=result.failure,
                )
            )
        emit(self._context, "login", objects)


def with_chap(failure: IscsiBootError, record: Record) -> IscsiBootError:
    """The failure, with the setting that is missing where the target wants CHAP and the record has half of it."""
    if failure.exit_code != ExitCode.LOGIN_AUTH_FAILED:
        return failure
    from iscsiboot.orders.record_values import AUTH, chap_half, half_hint  # the login engine has it by now

    missing = chap_half(record, AUTH)
    if not missing:
        return failure
    return IscsiBootError(
        failure.cause,
        stage=failure.stage,
        subject=failure.subject,
        hint=half_hint(missing),
        exit_code=failure.exit_code,
        retryable=failure.retryable,
    )


def explanation(key: NodeKey, failure: IscsiBootError) -> str:
    """The failure in one line that names the portal, whatever it was that failed."""
    line = failure.line()
    return line if key.address in line else f"{key.address}:{key.port}: {line}"
