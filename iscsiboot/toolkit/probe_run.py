# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole probe: discovery, the choice of paths, and all of them at once. What it needs of the machine is injected.

A dead portal, target or LUN costs its own row of the report and nothing else: every path is a job of its own, with its
own connection, and they share nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.portal import NamedPortal, Portal, on_link_of
from iscsiboot.toolkit.probe_options import Options
from iscsiboot.toolkit.probe_path import DeadPortals, Environment, PathProbe, Stopwatch
from iscsiboot.toolkit.probe_pool import run_all
from iscsiboot.toolkit.probe_report import DiscoveryReport, Path, PathReport, ProbeReport

PATHS_MAX = 4096
"""Paths of one run: more than that is an inventory, not a probe."""


class Progress(Protocol):
    """Told how far the run is."""

    def stage(self, text: str) -> None:
        """What is being done now."""

    def paths(self, done: int, total: int, failed: int) -> None:
        """So many paths have an answer."""


def run(options: Options, initiator_name: str, *, environment: Environment, progress: Progress) -> ProbeReport:
    """Probe everything that was asked for; failures are in the report. Only an interruption is raised."""
    discovery: DiscoveryReport | None = None
    failure: IscsiBootError | None = None
    paths: list[Path] = []
    try:
        if options.target is not None and not options.all_portals:
            paths = [Path(target=options.target, portal=options.portal)]
        else:
            progress.stage(f"asking {options.asked} for its targets")
            jobs = [lambda: _discover(environment.addresses(options.portal), options.target, environment)]
            discovery, targets = run_all(
                jobs, now=environment.now, cancel=environment.cancel, done=lambda _: None, workers=1
            )[0]
            paths = choose_paths(targets, discovery.portal, all_portals=options.all_portals)
            if not paths and discovery.failure is None:
                failure = _nothing(options, initiator_name)
    except IscsiBootError as error:
        failure = error
    if len(paths) > PATHS_MAX and discovery is not None:
        left = f"{len(paths) - PATHS_MAX} paths beyond the first {PATHS_MAX} are not probed"
        discovery = replace(discovery, refused=(*discovery.refused, left))
    reports = _probe_all(paths[:PATHS_MAX], options, initiator_name, environment, progress)
    return ProbeReport(
        asked=options.asked,
        initiator_name=initiator_name,
        discovery=discovery,
        paths=tuple(reports),
        failure=failure,
    )


def _nothing(options: Options, initiator_name: str) -> IscsiBootError:
    what = f"no target {options.target}" if options.target else "no target"
    return IscsiBootError(
        f"the portal shows {what} to {initiator_name}",
        stage=Stage.DISCOVERY,
        subject=options.asked,
        hint="check the target's access list, and try --initiator-name",
        exit_code=ExitCode.NO_OBJS_FOUND,
    )


def _discover(
    portals: Sequence[Portal], target: str | None, environment: Environment
) -> tuple[DiscoveryReport, list[DiscoveredTarget]]:
    """Ask the addresses of a portal in turn until one takes a connection; the first failure is the one that is told."""
    failed: DiscoveryReport | None = None
    for portal in portals:
        watch = Stopwatch(environment.now)
        try:
            targets, refused = environment.discover(portal, target, watch)
        except IscsiBootError as error:
            report = DiscoveryReport(portal=portal, steps=watch.steps, failure=error)
            if error.stage is not Stage.CONNECT:
                return report, []
            failed = failed or report
            continue
        report = DiscoveryReport(
            portal=portal,
            targets=len(targets),
            refused=tuple(refused),
            remarks=tuple(watch.remarks),
            steps=watch.steps,
        )
        return report, targets
    if failed is None:
        raise RuntimeError("a portal without an address")
    return failed, []


def choose_paths(targets: Iterable[DiscoveredTarget], asked: Portal, *, all_portals: bool) -> list[Path]:
    """The paths to probe: of each target the portal that was asked, if it is one of them, else the first; or all."""
    chosen: dict[tuple[str, str], Path] = {}
    named: set[str] = set()
    for target in targets:
        portals: Sequence[Portal | NamedPortal] = [reachable(portal, asked) for portal in target.portals]
        if not all_portals:
            if target.name in named:
                continue
            named.add(target.name)
            here = [item for item in portals if isinstance(item, Portal) and item.endpoint == asked.endpoint]
            portals = (here or portals)[:1]
        for portal in portals:
            chosen.setdefault((target.name, str(portal).partition(",")[0]), Path(target=target.name, portal=portal))
    return list(chosen.values())


def reachable(portal: Portal | NamedPortal, asked: Portal) -> Portal | NamedPortal:
    """A portal as it can be reached from here.

    A link-local address is on the link of the portal that told it: a target cannot know what we call our interfaces.
    The unspecified address, which some targets give when they listen everywhere, means where we asked.
    """
    if isinstance(portal, NamedPortal):
        return portal
    if portal.address.is_unspecified:
        return Portal(address=asked.address, port=portal.port, tpgt=portal.tpgt)
    return replace(portal, address=on_link_of(portal.address, asked.address))


def _probe_all(
    paths: Sequence[Path], options: Options, initiator_name: str, environment: Environment, progress: Progress
) -> list[PathReport]:
    finished = failed = 0

    def done(report: PathReport) -> None:
        nonlocal finished, failed
        finished += 1
        failed += report.failure is not None
        progress.paths(finished, len(paths), failed)

    progress.paths(0, len(paths), 0)
    dead = DeadPortals()
    jobs = [PathProbe(path, options, initiator_name, environment, dead).run for path in paths]
    places = [str(path.portal) for path in paths]
    return run_all(jobs, places=places, now=environment.now, cancel=environment.cancel, done=done)
