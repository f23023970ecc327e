# SPDX-License-Identifier: LGPL-2.1-or-later
"""A SendTargets discovery from its record to the last line: ask through each interface, store, print, log in.

The record of the server is stored before it is asked and stays when the discovery fails: it is how the administrator
finds out what was tried. What is found is stored by one change at the end, so a discovery that breaks off leaves the
records as they were.
"""

from __future__ import annotations

import os

from iscsiboot.admin.discovery_config import fresh_record, read_settings
from iscsiboot.admin.discovery_ifaces import select_ifaces
from iscsiboot.admin.discovery_save import Plan, Saver
from iscsiboot.admin.discovery_session import Answer, FoundPortal, SendTargets
from iscsiboot.admin.discovery_settings import BadSettings, overall_deadline, settings_of
from iscsiboot.admin.node_list import portal_text, tree_lines
from iscsiboot.database.initiator_name import InitiatorName
from iscsiboot.database.names import NodeKey, Source
from iscsiboot.errors import EXIT_TEXT, ExitCode, IscsiBootError
from iscsiboot.model.credentials import Secret, SecretsEqual, check_secrets_differ
from iscsiboot.orders.discovery import DiscoverySettings
from iscsiboot.orders.initiator import read_initiator_name
from iscsiboot.sysfs.listing import list_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from iscsiboot.admin.context import Context
    from iscsiboot.admin.discovery_save import Saved
    from iscsiboot.admin.options import Options
    from iscsiboot.database.config import Config
    from iscsiboot.database.record import Record
    from iscsiboot.database.store import Database

FLAT = (-1, 0)
TREE = 1
HARMLESS = (ExitCode.TRANS, ExitCode.TRANS_TIMEOUT)
"""What one interface may end with while another one's answer counts, as with the peer."""
SETTINGS_NAMED_MAX = 4


def discover_anew(address: str, port: int, options: Options, context: Context, database: Database) -> int:
    """Discover with the settings of iscsid.conf, whatever is stored; the exit status."""
    config = read_settings(context)
    record = fresh_record(config, "sendtargets", address, port)
    return _Run(record, config, options, context, database).run(store="nonpersistent" not in options.ops)


def discover_stored(record: Record, options: Options, context: Context, database: Database) -> int:
    """Discover with a stored record; the exit status."""
    return _Run(record, read_settings(context), options, context, database).run(store=False)


class _Run:
    """One discovery."""

    def __init__(self, record: Record, config: Config, options: Options, context: Context, database: Database) -> None:
        self._record = record
        self._config = config
        self._options = options
        self._context = context
        self._database = database

    def run(self, *, store: bool) -> int:
        """Everything, with the record of the server stored first if ``store``; the exit status."""
        context = self._context
        selection = select_ifaces(self._options.interfaces, context, self._database)
        if not selection.ifaces:
            return selection.exit_code
        if store:
            try:
                with self._database.change() as change:
                    change.put_discovery(self._record)
            except IscsiBootError as error:
                context.error(error.line(), cause=error)
                context.error("Could not add new discovery record.")
                return error.exit_code
        return self._discover(selection.ifaces)

    def _discover(self, ifaces: Sequence[Record]) -> int:
        context = self._context
        try:
            settings = settings_of(self._record, context.notice)
        except BadSettings as error:
            for line in error.said:
                context.error(line)
            return self._failed(Answer(exit_code=error.exit_code, error=error))
        self._compare_secrets()
        answers: list[tuple[Record, Answer]] = []
        for iface in ifaces:
            answer = self._ask(iface, settings)
            if answer.exit_code not in (ExitCode.SUCCESS, *HARMLESS):
                return self._failed(answer)
            answers.append((iface, answer))
        return self._finish(answers)

    def _ask(self, iface: Record, settings: DiscoverySettings) -> Answer:
        context = self._context
        own = iface.get("iface.initiatorname")
        try:
            initiator = read_initiator_name(context.paths)
        except IscsiBootError as error:
            if not own:
                context.error("Cannot perform discovery. Initiatorname required.")
                return Answer(exit_code=error.exit_code, error=error)
            initiator = InitiatorName(own, os.uname().nodename, "the interface")
        for note in initiator.notes:
            context.notice(note)
        context.trace(1, f"discovery: initiator {own or initiator.name} (from {initiator.source})")
        return SendTargets(
            settings=settings,
            initiator=initiator,
            iface=iface,
            deadline=overall_deadline(settings, self._options.timeout),
            say=context.error,
            notice=context.notice,
            trace=context.trace,
            sysfs=context.paths.sysfs,
        ).run()

    def _compare_secrets(self) -> None:
        """Tell a person when one secret does two things; the peer takes it, and many sites have it so."""
        node, record = self._config.node(), self._record
        roles = {
            "node.session.auth.password": node.get("node.session.auth.password"),
            "node.session.auth.password_in": node.get("node.session.auth.password_in"),
            "discovery.sendtargets.auth.password": record.get("discovery.sendtargets.auth.password"),
            "discovery.sendtargets.auth.password_in": record.get("discovery.sendtargets.auth.password_in"),
        }
        secrets = {role: Secret(text.encode("utf-8", "surrogateescape")) for role, text in roles.items() if text}
        try:
            check_secrets_differ(secrets)
        except SecretsEqual as equal:
            self._context.notice(f"{equal} (RFC 7143 section 9.2.1)")

    def _failed(self, answer: Answer) -> int:
        """The peer's last line, and behind it what a person needs."""
        context = self._context
        context.error(f"Could not perform SendTargets discovery: {EXIT_TEXT[answer.exit_code]}")
        if answer.error is not None:
            context.error(answer.error.line(), cause=answer.error)
        return answer.exit_code

    def _finish(self, answers: Sequence[tuple[Record, Answer]]) -> int:
        context = self._context
        failed = [answer for _, answer in answers if answer.exit_code != ExitCode.SUCCESS]
        if len(failed) == len(answers):
            return self._failed(failed[0])
        for answer in failed:
            if answer.error is not None:
                context.error(answer.error.line(), cause=answer.error)
        nodes = [node for iface, answer in answers for node in self._nodes(iface, answer.found)]
        if not nodes:
            context.error("No portals found")
            return ExitCode.NO_OBJS_FOUND
        source = Source(
            "sendtargets",
            self._record.get("discovery.sendtargets.address"),
            self._record.number("discovery.sendtargets.port"),
        )
        settings = self._config.node()
        found = store_found(nodes, source, settings, self._options, context, self._database, complete=not failed)
        print_found(found, "sendtargets", self._options, context)
        return log_in_found(found, self._options, context)

    def _nodes(self, iface: Record, found: Sequence[FoundPortal]) -> list[Record]:
        """A node record for each portal, with iscsid.conf's settings and the interface's."""
        if not found:
            return []
        base = self._config.node()
        base = base.changed({name: value for name, value in iface.values.items() if name.startswith("iface.")})
        return [base.changed(named(portal)) for portal in found]


def named(portal: FoundPortal) -> dict[str, str]:
    """What a node record says about which portal it is."""
    return {
        "node.name": portal.target,
        "node.tpgt": str(portal.tpgt),
        "node.conn[0].address": portal.address,
        "node.conn[0].port": str(portal.port),
    }


def store_found(
    nodes: Sequence[Record],
    source: Source,
    settings: Record,
    options: Options,
    context: Context,
    database: Database,
    *,
    complete: bool = True,
    known_better: Sequence[str] = (),
) -> list[tuple[NodeKey, Record]]:
    """Store what was found as ``-o`` says (:class:`Saver`); places and records as they are now, in the same order."""
    # With `nonpersistent` and `new` there are node records and no discovery record for a link to be made from.
    linked = source.kind == "fw" or "nonpersistent" not in options.ops
    saver = Saver(
        database,
        source,
        Plan(options.ops),
        tell=context.error,
        rows=lambda: list_rows(context.paths.sysfs),
        settings=settings,
        known_better=known_better,
        linked=linked,
    )
    saved = saver.save(nodes, complete=complete)
    context.trace(1, f"discovery: portals found: {len(nodes)}, records of them in {database.root}: {len(saved.nodes)}")
    _tell_kept(saved, context)
    return saved.nodes


def _tell_kept(saved: Saved, context: Context) -> None:
    """What somebody who has just changed iscsid.conf would otherwise look for."""
    if saved.kept:
        names = list(saved.kept)
        more = ", ..." if len(names) > SETTINGS_NAMED_MAX else ""
        context.notice(
            f"records that were there keep their settings ({', '.join(names[:SETTINGS_NAMED_MAX])}{more} differ from "
            f"{context.paths.iscsid_conf}); -o update gives them those of the file"
        )


def print_found(found: Sequence[tuple[NodeKey, Record]], kind: str, options: Options, context: Context) -> None:
    """One line for each portal and interface, or the tree of ``-P 1``; other levels print nothing, as with the peer."""
    keys = [key for key, _ in found]
    if context.json:
        from iscsiboot.admin.json_objects import target_object
        from iscsiboot.admin.json_out import emit

        emit(context, "target", [target_object(key, kind) for key in keys])
    elif options.print_level in FLAT:
        # An unknown tag is -1 here, unlike in the list of -m node.
        context.say("\n".join(f"{portal_text(key.address, key.port)},{key.tpgt} {key.target}" for key in keys))
    elif options.print_level == TREE:
        context.say("\n".join(tree_lines(keys)))


def log_in_found(found: Sequence[tuple[NodeKey, Record]], options: Options, context: Context) -> int:
    """``-l``: log in to everything found; the exit status."""
    if not options.login:
        return ExitCode.SUCCESS
    # Sessions need the kernel's interfaces, a discovery does not.
    from iscsiboot.admin.login import login_nodes

    # A target may name one portal twice.
    pairs = list({key: (key, record) for key, record in found}.values())
    return login_nodes(pairs, context, options, summary="")
