# SPDX-License-Identifier: LGPL-2.1-or-later
"""Objects of ``--json``: each keeps to its kind, and says null for what is not known."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest

from iscsiboot.admin import json_objects as objects
from iscsiboot.admin import json_out
from iscsiboot.admin.context import Context, Paths
from iscsiboot.admin.json_schema import KINDS
from iscsiboot.database.names import NodeKey
from iscsiboot.database.record import iface_defaults, node_defaults
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.sysfs.listing import SessionRow
from tests.unit.admin.json_documents import check

KEY = NodeKey("iqn.2001-04.com.example:a", "10.0.0.1", 3260, 1, "eth1")
PORTAL = {"address": "10.0.0.1", "port": 3260, "tpgt": 1}
FAILURE = IscsiBootError("no", stage=Stage.LOGIN, subject="10.0.0.1:3260", exit_code=ExitCode.LOGIN_AUTH_FAILED)


def row(**changes: Any) -> SessionRow:
    values: dict[str, Any] = {
        "sid": 3,
        "host": 4,
        "transport": "tcp",
        "target": "iqn.2001-04.com.example:a",
        "tpgt": 1,
        "persistent_address": "10.0.0.1",
        "persistent_port": 3260,
        "address": "10.0.0.2",
        "port": 3261,
        "iface_name": "default",
        "initiator_name": "iqn.2001-04.com.example:host",
        "state": "LOGGED_IN",
        "flash": False,
    }
    return SessionRow(**{**values, **changes})


def kept(kind: str, made: dict[str, Any]) -> dict[str, Any]:
    """``made`` after its way through a document, which is checked."""
    out = StringIO()
    context = Context(paths=Paths(), out=out, err=StringIO(), json=True)
    json_out.emit(context, kind, [made])
    json_out.finish(context, 0)
    (found,) = check(out.getvalue())["objects"]
    assert found.pop("kind") == kind
    return dict(found)


EVERY: list[tuple[str, dict[str, Any]]] = [
    ("session", objects.session_object(row())),
    ("node", objects.node_object(KEY)),
    ("node", objects.node_object(KEY, node_defaults())),
    ("iface", objects.iface_object(iface_defaults("eth1"), shown=True, nodes=[KEY])),
    ("discovery", objects.discovery_object("sendtargets", "10.0.0.1", 3260)),
    ("discovery", objects.discovery_object("static", nodes=[KEY, KEY])),
    ("target", objects.target_object(KEY, "sendtargets")),
    ("login", objects.login_object(KEY, "done", sid=3, devices=["/dev/sda"], seconds=0.12345)),
    ("login", objects.login_object(KEY, "failed", exit_code=24, failure=FAILURE)),
    ("logout", objects.logout_object(row(), "done")),
    ("logout", objects.logout_object(row(), "kept", exit_code=28, failure=FAILURE)),
    ("rescan", objects.rescan_object(row(), 31)),
    ("statistics", objects.statistics_object(row(), {"txdata_octets": 5}, {})),
    ("firmware", objects.firmware_object("iqn.2001-04.com.example:a", "10.0.0.1", 3260, {"node.boot_lun": "1"})),
]


@pytest.mark.parametrize(("kind", "made"), EVERY, ids=[kind for kind, _ in EVERY])
def test_each_builder_keeps_to_its_kind(kind: str, made: dict[str, Any]) -> None:
    kept(kind, made)


def test_every_kind_has_a_builder() -> None:
    assert {kind for kind, _ in EVERY} == set(KINDS)


def test_a_session_s_portals_and_what_is_not_asked_for() -> None:
    found = kept("session", objects.session_object(row()))
    assert found["persistent_portal"] == PORTAL
    assert found["portal"] == {"address": "10.0.0.2", "port": 3261, "tpgt": 1}
    assert [name for name, value in found.items() if value is None] == [
        "interface", "connection_state", "internal_state", "timeouts", "chap", "parameters", "host_state", "devices",
    ]  # fmt: skip


@pytest.mark.parametrize("nothing", ["", "<empty>"])
def test_what_is_not_known_of_a_session_is_null(nothing: str) -> None:
    found = kept(
        "session",
        objects.session_object(
            row(
                host=-1,
                transport=nothing,
                target=nothing,
                tpgt=-1,
                persistent_port=-1,
                address=nothing,
                iface_name=nothing,
                initiator_name=nothing,
                state=nothing,
            )
        ),
    )
    assert {name for name, value in found.items() if value is None} >= {
        "host", "transport", "target", "portal", "iface", "initiator_name", "session_state",
    }  # fmt: skip
    assert found["persistent_portal"] == {"address": "10.0.0.1", "port": None, "tpgt": None}


def test_host_zero_is_a_host() -> None:
    assert objects.session_object(row(host=0))["host"] == 0


def test_a_block_with_another_name_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="negotiated"):
        objects.session_object(row(), negotiated={})


@pytest.mark.parametrize("address", ["fd00::1", "[fd00::1]"])
def test_ipv6_has_no_brackets(address: str) -> None:
    assert objects.portal_object(address, 3260)["address"] == "fd00::1"


def test_a_record_has_its_keys_in_order_and_no_secret() -> None:
    record = node_defaults().changed({"node.session.auth.username": "me", "node.session.auth.password": "secret words"})
    shown = kept("node", objects.node_object(KEY, record))["record"]
    lines = [line for line in record.display().splitlines() if not line.startswith("#")]
    assert list(shown) == [line.partition(" = ")[0] for line in lines]
    assert shown["node.session.auth.password"] == "********"
    assert shown["node.session.auth.password_in"] == ""
    assert shown["node.session.auth.username_in"] == ""
    assert shown["node.session.auth.username"] == "me"
    assert shown["node.conn[0].timeo.login_timeout"] == "30"
    assert kept("node", objects.node_object(KEY, record, True))["record"]["node.session.auth.password"] == (
        "secret words"
    )


def test_a_value_may_hold_an_equals_sign_and_a_hash() -> None:
    record = node_defaults().changed({"node.session.auth.username": "a = b # c"})
    assert objects.record_object(record)["node.session.auth.username"] == "a = b # c"


def test_an_iface_in_a_list_has_what_the_line_has() -> None:
    record = iface_defaults("eth1").changed({"iface.net_ifacename": "eth1"})
    assert kept("iface", objects.iface_object(record)) == {
        "name": "eth1",
        "transport": "tcp",
        "hwaddress": None,
        "ipaddress": None,
        "net_ifacename": "eth1",
        "initiatorname": None,
        "record": None,
        "nodes": None,
    }


def test_nodes_that_are_none_and_nodes_that_were_not_asked_for() -> None:
    assert objects.iface_object(iface_defaults("eth1"), nodes=[])["nodes"] == []
    assert objects.iface_object(iface_defaults("eth1"))["nodes"] is None
    assert objects.discovery_object("fw", nodes=[KEY])["nodes"] == [
        {"target": KEY.target, "portal": PORTAL, "iface": "eth1"}
    ]


def test_a_login_s_seconds_are_milliseconds_exact() -> None:
    assert objects.login_object(KEY, "done", seconds=1.23456)["seconds"] == 1.235
    assert objects.login_object(KEY, "sent")["seconds"] is None


def test_odd_line_breaks_in_a_value_do_not_cut_it() -> None:
    """Only the line feed ends a line of a record; str.splitlines knows nine more."""
    record = node_defaults().changed({"node.session.auth.username": "a\u2028node.startup = x\u0085b"})
    shown = objects.record_object(record)
    assert shown["node.session.auth.username"] == "a\u2028node.startup = x\u0085b"
    assert shown["node.startup"] == "manual"
