# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``iscsiboot db check`` tells about the files beside the database: iscsid.conf and initiatorname.iscsi.

Nothing here is mended: the files are an administrator's own. A value that is not used is worth knowing; a name nobody
can log in with, or a secret others can read, needs somebody.
"""

from __future__ import annotations

import os

from iscsiboot.database.config import read_config
from iscsiboot.database.finding import Finding
from iscsiboot.database.initiator_name import choose
from iscsiboot.database.keys import KINDS
from iscsiboot.errors import IscsiBootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Paths
    from iscsiboot.database.config import Config

_OTHERS = 0o077
"""Permission bits of group and others."""


def check_configuration(paths: Paths) -> list[Finding]:
    """What is wrong with both files, in the order of their lines; a file that is not there has nothing wrong."""
    return [*_iscsid_conf(paths.iscsid_conf), *_initiator_name(paths)]


def _iscsid_conf(path: str) -> list[Finding]:
    try:
        config = read_config(path)
    except IscsiBootError as error:
        return [Finding("damaged", path, error.cause)]
    findings = [Finding("value", path, problem.removeprefix(f"{path} ")) for problem in config.problems]
    if _has_secret(config) and (mode := os.stat(path).st_mode) & _OTHERS:  # noqa: PTH116 - paths are text here
        text = f"mode {mode & 0o7777:04o} lets others at the secrets in it; chmod 600 {path}"
        findings.append(Finding("mode", path, text))
    return findings


def _has_secret(config: Config) -> bool:
    records = {"node": config.node, "sendtargets": config.sendtargets}
    return any(record().get(key.name) for kind, record in records.items() for key in KINDS[kind] if key.secret)


def _initiator_name(paths: Paths) -> list[Finding]:
    try:
        notes = choose(paths).notes
    except IscsiBootError as error:
        return [Finding("damaged", error.subject, error.cause)]
    return [Finding("value", paths.initiator_name, note.removeprefix(f"{paths.initiator_name} ")) for note in notes]
