# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m fw``: print the machine's boot table, or log in to its targets.

A login takes its record from the table and iscsid.conf and writes nothing to the database. Its status is the first
failed login's, where open-iscsi always says 0: dracut and udev take it for the result and only tell it on, and a boot
that hangs should say why. A session that is there already is no failure: udev runs this once for each target.
"""

from __future__ import annotations

from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options
    from iscsiboot.model.boot import BootConfig

NOT_TO_OVERRIDE = ("iface.net_ifacename", "iface.hwaddress", "iface.transport_name")
"""The table says which NIC it was booted through."""
FORCED = {
    "node.session.initial_login_retry_max": "30",
    "node.conn[0].timeo.noop_out_interval": "0",
    "node.conn[0].timeo.noop_out_timeout": "0",
    "node.session.scan": "auto",
}
"""A root disk is waited for, nobody watches its pings while the system starts, and all of its LUNs are wanted."""


def run(options: Options, context: Context) -> int:
    """One command of this mode; the exit status."""
    # Reading the table costs more than the other modes' whole listings.
    from iscsiboot.admin.fw_records import no_table_code, read_table

    context.about("login" if options.login else "firmware")
    table = read_table(context)
    if table is None:
        return no_table_code(context)
    if options.login:
        return _log_in(table, options, context)
    from iscsiboot.database.record import COMPATIBLE
    from iscsiboot.firmware.record_text import record_values, render

    if context.json:
        from iscsiboot.admin.json_objects import firmware_object
        from iscsiboot.admin.json_out import emit

        for target in table.targets:
            place = target.name.value, str(target.address.value), target.port.value
            emit(context, "firmware", [firmware_object(*place, record_values(table, target))])
    else:
        context.say(render(table, COMPATIBLE).removesuffix("\n"))
    return ExitCode.SUCCESS


def _log_in(table: BootConfig, options: Options, context: Context) -> int:
    """``-l``: one target after the other, as the peer; the exit status."""
    from iscsiboot.admin.discovery_config import read_settings
    from iscsiboot.admin.fw_records import firmware_nodes
    from iscsiboot.admin.login import login_nodes
    from iscsiboot.database.record import iface_defaults

    overrides, refused = _overrides(options, context)
    if refused is not None:
        context.error("Could not merge user params")
        if context.attentive:
            from iscsiboot.admin import hints  # only what goes wrong needs it
            from iscsiboot.database.keys import NODE_ALIASES

            booted = NODE_ALIASES.get(refused, refused) in NOT_TO_OVERRIDE
            own = f"{refused} is what the machine was booted through; leave it out"
            context.notice(own if booted else hints.setting("node", refused))
        return ExitCode.INVAL
    base = read_settings(context).node()
    status: int = ExitCode.SUCCESS
    for node in firmware_nodes(table, base, iface_defaults("default")):
        record = node.record.changed({**FORCED, **overrides})
        key = record.node_key
        code = login_nodes(
            [(key, record)], context, options, wait=not options.no_wait, summary="", boot={key: node.boot}
        )
        if code != ExitCode.SESS_EXISTS:
            status = status or code
    return status


def _overrides(options: Options, context: Context) -> tuple[dict[str, str], str | None]:
    """The values of ``-n`` and ``-v``, and the first name that cannot be used, why on stderr; None when all can."""
    from iscsiboot.database.keys import BY_KIND, check_value

    values: dict[str, str] = {}
    for name, text in options.params:
        if name in NOT_TO_OVERRIDE:
            context.error("Cannot override interface parameters for firmware logins")
            return {}, name
        key = BY_KIND["node"].get(name)
        if key is None:
            context.error(f"Unknown parameter {name}.")
            return {}, name
        try:
            values[name] = check_value(key, text)
        except ValueError as error:
            shown = "" if key.secret else f" '{text}'"
            why = "" if key.kind == "enum" else f": {error}"
            context.error(f"unknown value format{shown} for parameter name '{name}'{why}")
            context.error(f"Unknown parameter {name}.")
            return {}, name
    return values, None
