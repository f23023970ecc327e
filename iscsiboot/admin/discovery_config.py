# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsid.conf as discovery uses it: read once, and made into the records of servers."""

from __future__ import annotations

from iscsiboot.database.config import read_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.database.config import Config
    from iscsiboot.database.record import Record


def read_settings(context: Context) -> Config:
    """iscsid.conf, for a command that makes records; what is wrong with it is told to a person."""
    context.trace(1, f"reading {context.paths.iscsid_conf}")
    return read_config(context.paths.iscsid_conf, notice=context.notice)


def fresh_record(config: Config, kind: str, address: str, port: int) -> Record:
    """The record of one server with nothing but the settings of iscsid.conf."""
    defaults = config.isns() if kind == "isns" else config.sendtargets()
    return defaults.changed(
        {
            "discovery.type": kind,
            "discovery.sendtargets.address": address,
            "discovery.sendtargets.port": str(port),
        }
    )
