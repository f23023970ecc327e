# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a node record to a login: every value, every range, every way a record can be no login at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.admin.runner import logout_timeout
from iscsiboot.database.record import Record, node_defaults
from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.orders.login_request import login_order
from iscsiboot.orders.record_values import AUTH, chap_algorithms
from iscsiboot.session.login import UNRESOLVED, LoginOrder

NAME = "iqn.2026-01.org.example:guest"
TARGET = "iqn.2026-01.org.example:disk"
PASSWORD = "a secret of ours"
PASSWORD_IN = "a secret of theirs"


def record(**values: str) -> Record:
    """A record to 10.0.0.1; keys are written with ``__`` for ``.`` and ``conn0`` for ``conn[0]``."""
    named = {name.replace("__", ".").replace("conn0", "conn[0]"): value for name, value in values.items()}
    base = {"node.name": TARGET, "node.conn[0].address": "10.0.0.1", "node.conn[0].port": "3260"}
    return node_defaults().changed({**base, **named})


def convert(made: Record, tmp_path: Path = Path("/nowhere")) -> tuple[LoginOrder, list[str]]:
    remarks: list[str] = []
    order = login_order(made, initiator_name=NAME, initiator_alias="guest", sysfs=str(tmp_path), remark=remarks.append)
    return order, remarks


@pytest.mark.parametrize("name", ["disk1", "iqn.foo:disk", "iqn.2003-01.org.my_host:sn.1", "IQN.2026-11.Example:D"])
def test_a_target_is_called_what_somebody_called_it(name: str) -> None:
    """Targets with such names are served by tgt, and open-iscsi logs in to them."""
    order, _ = convert(record(node__name=name))
    assert order.request.target_name == name


@pytest.mark.parametrize("name", ["", "..", "a b", "a/b", "a" * 224])
def test_a_name_nobody_can_have(name: str) -> None:
    error = refused(record(node__name=name))
    assert error.exit_code is ExitCode.FATAL_LOGIN
    assert "is no iSCSI name" in error.cause


def params(**values: str) -> tuple[SessionParams, list[str]]:
    order, remarks = convert(record(**values))
    return order.request.params, remarks


def refused(made: Record, tmp_path: Path = Path("/nowhere")) -> IscsiBootError:
    with pytest.raises(IscsiBootError) as caught:
        convert(made, tmp_path)
    assert PASSWORD not in caught.value.line()
    return caught.value


def test_a_record_of_defaults() -> None:
    order, remarks = convert(record())
    request = order.request
    assert remarks == []
    assert (request.initiator_name, request.initiator_alias, request.target_name) == (NAME, "guest", TARGET)
    assert request.portal == order.portal == Portal(address=parse_ip("10.0.0.1"), port=3260)
    assert (request.iface_name, request.netdev, request.hwaddress, request.lun) == ("default", None, "", None)
    assert request.stored_address == "10.0.0.1"
    assert request.credentials is None
    assert request.chap_algorithms == (ChapAlgorithm.MD5,)
    assert request.params == SessionParams(login_timeout=30, noop_out_interval=5, noop_out_timeout=5)
    assert (order.scan, order.give_up) == (True, 4 * 30)


def test_every_setting_arrives() -> None:
    found, remarks = params(
        node__conn0__iscsi__HeaderDigest="CRC32C",
        node__conn0__iscsi__DataDigest="None,CRC32C",
        node__session__iscsi__DefaultTime2Wait="3",
        node__session__iscsi__DefaultTime2Retain="4",
        node__session__iscsi__InitialR2T="Yes",
        node__session__iscsi__ImmediateData="No",
        node__session__iscsi__MaxBurstLength="65536",
        node__session__iscsi__FirstBurstLength="32768",
        node__session__iscsi__MaxOutstandingR2T="2",
        node__conn0__iscsi__MaxRecvDataSegmentLength="16384",
        node__conn0__iscsi__MaxXmitDataSegmentLength="8192",
        node__session__initial_cmdsn="9",
        node__session__cmds_max="64",
        node__session__queue_depth="16",
        node__session__timeo__replacement_timeout="15",
        node__session__iscsi__FastAbort="No",
        node__session__err_timeo__abort_timeout="16",
        node__session__err_timeo__lu_reset_timeout="31",
        node__session__err_timeo__tgt_reset_timeout="32",
        node__conn0__timeo__noop_out_interval="6",
        node__conn0__timeo__noop_out_timeout="7",
        node__conn0__timeo__login_timeout="8",
        node__conn0__tcp__window_size="65536",
    )
    assert remarks == []
    assert found == SessionParams(
        header_digest=Digest.CRC32C,
        data_digest=Digest.PREFER_NONE,
        default_time2wait=3,
        default_time2retain=4,
        initial_r2t=True,
        immediate_data=False,
        max_burst_length=65536,
        first_burst_length=32768,
        max_outstanding_r2t=2,
        max_recv_data_segment_length=16384,
        max_xmit_data_segment_length=8192,
        initial_cmdsn=9,
        cmds_max=64,
        queue_depth=16,
        replacement_timeout=15,
        fast_abort=False,
        abort_timeout=16,
        lu_reset_timeout=31,
        tgt_reset_timeout=32,
        noop_out_interval=6,
        noop_out_timeout=7,
        login_timeout=8,
        tcp_window_size=65536,
    )


def test_beside_the_session() -> None:
    order, _ = convert(
        record(
            node__session__scan="manual",
            node__session__initial_login_retry_max="8",
            node__conn0__timeo__login_timeout="15",
            node__session__xmit_thread_priority="-20",
        )
    )
    assert (order.scan, order.give_up, order.thread_priority) == (False, 120, -20)


# Ranges: reference 2.6 and 4.2.


@pytest.mark.parametrize(
    ("key", "text", "field", "taken"),
    [
        ("node__session__iscsi__MaxBurstLength", "511", "max_burst_length", 16776192),
        ("node__session__iscsi__MaxBurstLength", "16777216", "max_burst_length", 16776192),
        ("node__session__iscsi__FirstBurstLength", "0", "first_burst_length", 262144),
        ("node__conn0__iscsi__MaxRecvDataSegmentLength", "1", "max_recv_data_segment_length", 262144),
        ("node__conn0__iscsi__MaxXmitDataSegmentLength", "100", "max_xmit_data_segment_length", 0),
        ("node__session__cmds_max", "127", "cmds_max", 64),
        ("node__session__cmds_max", "0", "cmds_max", 128),
        ("node__session__cmds_max", "1", "cmds_max", 2),
        ("node__session__cmds_max", "100000", "cmds_max", 2048),
        ("node__session__queue_depth", "0", "queue_depth", 1),
        ("node__session__queue_depth", "5000", "queue_depth", 1024),
        ("node__session__iscsi__MaxOutstandingR2T", "0", "max_outstanding_r2t", 1),
        ("node__session__iscsi__DefaultTime2Wait", "9999", "default_time2wait", 3600),
        ("node__conn0__timeo__login_timeout", "0", "login_timeout", 30),
        ("node__conn0__timeo__noop_out_interval", "0", "noop_out_interval", 5),
        ("node__conn0__timeo__noop_out_timeout", "0", "noop_out_timeout", 5),
    ],
)
def test_out_of_range_is_put_right_and_told(key: str, text: str, field: str, taken: int) -> None:
    found, remarks = params(**{key: text})
    assert getattr(found, field) == taken
    assert len(remarks) == 1


@pytest.mark.parametrize(("text", "taken"), [("65537", 65536), ("65539", 65536), ("512", 512), ("16777215", 16777212)])
def test_sizes_are_whole_words_without_a_remark(text: str, taken: int) -> None:
    found, remarks = params(node__conn0__iscsi__MaxRecvDataSegmentLength=text)
    assert (found.max_recv_data_segment_length, remarks) == (taken, [])


def test_first_burst_is_not_larger_than_max_burst() -> None:
    found, remarks = params(node__session__iscsi__MaxBurstLength="8192")
    assert (found.first_burst_length, len(remarks)) == (8192, 1)


def test_both_pings_off_is_off() -> None:
    found, remarks = params(node__conn0__timeo__noop_out_interval="0", node__conn0__timeo__noop_out_timeout="0")
    assert (found.noop_out_interval, found.noop_out_timeout, remarks) == (0, 0, [])


@pytest.mark.parametrize(("text", "seconds"), [("0", 15), ("7", 7), ("99999", 3600)])
def test_logout_timeout(text: str, seconds: float) -> None:
    assert logout_timeout(record(node__conn0__timeo__logout_timeout=text)) == seconds


def test_logout_timeout_without_a_record() -> None:
    assert logout_timeout(None) == 15


_NUMBERS = st.integers(min_value=-(1 << 31), max_value=(1 << 31) - 1)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "node.session.initial_cmdsn",
                "node.session.cmds_max",
                "node.session.queue_depth",
                "node.session.iscsi.FirstBurstLength",
                "node.session.iscsi.MaxBurstLength",
                "node.session.iscsi.DefaultTime2Wait",
                "node.session.iscsi.DefaultTime2Retain",
                "node.session.iscsi.MaxOutstandingR2T",
                "node.session.timeo.replacement_timeout",
                "node.session.err_timeo.abort_timeout",
                "node.session.initial_login_retry_max",
                "node.session.xmit_thread_priority",
                "node.conn[0].timeo.login_timeout",
                "node.conn[0].timeo.noop_out_interval",
                "node.conn[0].timeo.noop_out_timeout",
                "node.conn[0].tcp.window_size",
                "node.conn[0].iscsi.MaxRecvDataSegmentLength",
                "node.conn[0].iscsi.MaxXmitDataSegmentLength",
            ]
        ),
        _NUMBERS,
    )
)
def test_any_numbers_make_a_login(numbers: dict[str, int]) -> None:
    """Records are edited by hand: whatever stands there, what comes out is legal (SessionParams checks itself)."""
    made = record()
    changed = Record("node", {**made.values, **{name: str(value) for name, value in numbers.items()}})
    order, _ = convert(changed)
    assert order.give_up >= 0
    assert -20 <= order.thread_priority <= 19


# Names and portals.


def test_the_interface_may_have_an_initiator_name_of_its_own() -> None:
    order, _ = convert(record(iface__initiatorname="iqn.2026-01.org.example:other"))
    assert order.request.initiator_name == "iqn.2026-01.org.example:other"


def test_an_initiator_name_that_is_none() -> None:
    error = refused(record(iface__initiatorname="no name"))
    assert (error.exit_code, "iface.initiatorname" in error.cause) == (ExitCode.LOGIN, True)


@pytest.mark.parametrize(
    ("address", "portal"),
    [
        ("10.0.0.9", Portal(address=parse_ip("10.0.0.9"), port=3260)),
        ("fe80::1%eth0", Portal(address=parse_ip("fe80::1%eth0"), port=3260)),
        ("2001:DB8::0001", Portal(address=parse_ip("2001:db8::1"), port=3260)),
        ("disks.example.org", NamedPortal(host="disks.example.org", port=3260)),
        ("localhost", NamedPortal(host="localhost", port=3260)),
    ],
    ids=str,
)
def test_portals(address: str, portal: Portal | NamedPortal) -> None:
    order, _ = convert(record(node__conn0__address=address))
    assert order.portal == portal
    assert order.request.stored_address == address, "sessions are matched with records by this very text"
    if isinstance(portal, NamedPortal):
        assert order.request.portal.address == UNRESOLVED


@pytest.mark.parametrize(("address", "port"), [("", "3260"), ("a b", "3260"), ("10.0.0.1", "0"), ("name", "70000")])
def test_portals_that_are_none_are_error_4(address: str, port: str) -> None:
    made = record()
    values = {**made.values, "node.conn[0].address": address, "node.conn[0].port": port}
    assert refused(Record("node", values)).exit_code is ExitCode.TRANS


def test_other_transports_are_error_12() -> None:
    assert refused(record(iface__transport_name="iser")).exit_code is ExitCode.TRANS_NOT_FOUND


# Interfaces.


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Two NICs; a VLAN on the first has its address."""
    for name, address, device in (
        ("eth0", "52:54:00:aa:aa:aa", True),
        ("a-vlan", "52:54:00:aa:aa:aa", False),
        ("eth1", "52:54:00:BB:bb:bb", True),
    ):
        path = tmp_path / "class" / "net" / name
        path.mkdir(parents=True)
        (path / "address").write_text(f"{address}\n")
        if device:
            (path / "device").mkdir()
    return tmp_path


def test_bound_to_a_nic(net: Path) -> None:
    order, _ = convert(record(iface__net_ifacename="eth1", iface__iscsi_ifacename="storage"), net)
    assert (order.request.netdev, order.request.hwaddress, order.request.iface_name) == ("eth1", "", "storage")


@pytest.mark.parametrize(
    ("address", "netdev"), [("52:54:00:bb:bb:bb", "eth1"), ("52:54:00:BB:BB:BB", "eth1"), ("52:54:00:aa:aa:aa", "eth0")]
)
def test_bound_by_address_of_the_nic(net: Path, address: str, netdev: str) -> None:
    order, _ = convert(record(iface__hwaddress=address), net)
    assert (order.request.netdev, order.request.hwaddress) == (netdev, address.lower())


def test_a_nic_that_is_not_there_is_error_8(net: Path) -> None:
    error = refused(record(iface__hwaddress="52:54:00:cc:cc:cc"), net)
    assert (error.exit_code, "ip link" in error.hint) == (ExitCode.TRANS_TIMEOUT, True)


def test_default_is_no_binding(net: Path) -> None:
    order, _ = convert(
        record(iface__hwaddress="default", iface__net_ifacename="default", iface__ipaddress="default"), net
    )
    assert (order.request.netdev, order.request.hwaddress) == (None, "")


def test_bound_by_ip_address_is_refused(net: Path) -> None:
    error = refused(record(iface__ipaddress="10.0.0.5"), net)
    assert (error.exit_code, "10.0.0.5" in error.cause) == (ExitCode.TRANS_TIMEOUT, True)


# CHAP.


def chap(**values: str) -> Record:
    return record(**{f"node__session__auth__{name}": value for name, value in values.items()})


def test_one_way_whatever_authmethod_says() -> None:
    for method in ("None", "CHAP"):
        found = convert(chap(authmethod=method, username="user", password=PASSWORD))[0].request.credentials
        assert found is not None
        assert (found.outgoing.name, found.outgoing.secret.reveal()) == ("user", PASSWORD.encode())
        assert found.incoming is None


def test_mutual() -> None:
    made = chap(username="user", password=PASSWORD, username_in="target", password_in=PASSWORD_IN)
    found = convert(made)[0].request.credentials
    assert found is not None
    assert found.incoming is not None
    assert (found.incoming.name, found.incoming.secret.reveal()) == ("target", PASSWORD_IN.encode())


# Half a configuration: tests/unit/test_half_chap.py.


def test_equal_secrets_are_refused_without_showing_them() -> None:
    error = refused(chap(username="user", password=PASSWORD, username_in="target", password_in=PASSWORD))
    assert error.exit_code is ExitCode.FATAL_LOGIN
    assert f"{AUTH}password and {AUTH}password_in are equal" in error.cause


def test_a_name_that_cannot_be_sent() -> None:
    made = chap(username="user", password=PASSWORD)
    error = refused(Record("node", {**made.values, f"{AUTH}username": "us\x07er"}))
    assert error.exit_code is ExitCode.LOGIN_AUTH_FAILED


@pytest.mark.parametrize(
    ("text", "found", "left_out"),
    [
        ("MD5", (ChapAlgorithm.MD5,), 0),
        ("SHA3-256,SHA256,SHA1,MD5", tuple(sorted(ChapAlgorithm, reverse=True)), 0),
        ("SHA1 MD5", (ChapAlgorithm.SHA1, ChapAlgorithm.MD5), 0),
        ("SHA256,SHA256,MD5", (ChapAlgorithm.SHA256, ChapAlgorithm.MD5), 0),
        ("rot13,SHA256", (ChapAlgorithm.SHA256,), 1),
        ("", (ChapAlgorithm.MD5,), 0),
        ("rot13", (ChapAlgorithm.MD5,), 1),
    ],
    ids=repr,
)
def test_algorithms(text: str, found: tuple[ChapAlgorithm, ...], left_out: int) -> None:
    remarks: list[str] = []
    assert chap_algorithms(text, remarks.append) == found
    assert len(remarks) == left_out
