# SPDX-License-Identifier: LGPL-2.1-or-later
"""The model's values: grammar at the wire, spellings of one thing that compare equal, secrets that stay hidden."""

from __future__ import annotations

import pickle
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.model.names import InvalidName, check_iscsi_name, check_target_name
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal, parse_ip


@pytest.mark.parametrize(
    "name",
    [
        "iqn.2001-04.com.example:storage:diskarrays-sn-a8675309",
        "iqn.2001-04.com.example",
        "iqn.2010-10.org.openstack:volume-1_a",
        "iqn.2003-01.org.linux-iscsi.my_host.x8664:sn.0123456789ab",
        "eui.02004567a425678d",
        "naa.52004567ba64678d",
        "naa.62004567ba64678d0123456789abcdef",
    ],
)
def test_names_of_the_rfc_pass(name: str) -> None:
    assert check_iscsi_name(name) == name


@pytest.mark.parametrize("name", ["disk1", "iqn.foo:disk", "iqn.2001-13.com.example:month", "0"])
def test_a_target_needs_no_form(name: str) -> None:
    assert check_target_name(name) == name
    with pytest.raises(InvalidName, match="neither the form"):
        check_iscsi_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "-l", "a/b", "a b", "a\n", "a\x1b[2J", "a" * 224, "a\u202eb"])
def test_a_targets_name_is_safe_all_the_same(name: str) -> None:
    with pytest.raises(InvalidName):
        check_target_name(name)


def test_upper_case_is_a_name_and_kept_as_it_is() -> None:
    assert check_iscsi_name("IQN.2001-04.COM.Example:A") == "IQN.2001-04.COM.Example:A"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../../etc/passwd",
        "iqn.2001-04.com.example:a/b",
        "iqn.2001-04.com.example:a\nb",
        "iqn.2001-04.com.example:a b",
        "iqn.2001-04.com.example:\x1b[2J",
        "iqn.2001-13.com.example:month",
        "iqn.01-04.com.example:year",
        "eui.0200",
        "naa.xyz",
        "iqn.2001-04.com.example:" + "a" * 223,
        "iqn.2001-04.com.example:\ud800",
        "iqn.2001-04.com.example:" + "\u212a" * 70,
        "iqn.2001-04.\u212aom.example:a",
        "iqn.2001-04.com.example:\u2028",
    ],
)
def test_what_is_no_name_is_refused_without_repeating_it(name: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_iscsi_name(name)
    assert not name or name not in str(caught.value)


@given(st.text(max_size=300))
def test_any_text_is_a_safe_name_or_an_error(text: str) -> None:
    try:
        name = check_target_name(text)
    except InvalidName:
        return
    assert "/" not in name
    assert name[0].isalnum()
    assert name.isprintable()
    assert len(name.encode()) <= 223


def test_mapped_ipv6_is_ipv4() -> None:
    assert parse_ip("::ffff:10.0.2.2") == IPv4Address("10.0.2.2")


def test_portal_texts() -> None:
    assert str(Portal(address=parse_ip("10.0.2.2"), tpgt=1)) == "10.0.2.2:3260,1"
    assert str(Portal(address=parse_ip("[fe80::1%eth0]"), port=3261)) == "[fe80::1%eth0]:3261"


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_outside_tcp_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        Portal(address=parse_ip("10.0.2.2"), port=port)


@pytest.mark.parametrize(
    ("text", "wire", "kernel", "shown"),
    [
        ("0", "0000000000000000", 0, "0"),
        ("1", "0001000000000000", 1, "1"),
        ("4752-3A4F-6b7e-2F99", "47523a4f6b7e2f99", 0x2F996B7E3A4F4752, "4752-3a4f-6b7e-2f99"),
        ("0001-0002", "0001000200000000", 0x20001, "0001-0002"),
        ("a", "000a000000000000", 10, "a"),
    ],
)
def test_three_spellings_of_a_lun(text: str, wire: str, kernel: int, shown: str) -> None:
    lun = Lun.parse(text)
    assert lun.wire.hex() == wire
    assert lun.kernel == kernel
    assert str(lun) == shown
    assert Lun.from_kernel(kernel) == lun
    assert Lun.parse(str(lun)) == lun


def test_flat_space_lun() -> None:
    assert Lun.from_number(300).kernel == 0x412C


@pytest.mark.parametrize("text", ["", "-", "g", "12345", "1-2-3-4-5", "1--2", " 1", "1 "])
def test_what_is_no_lun_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="LUN"):
        Lun.parse(text)


def test_a_secret_shows_itself_to_nobody() -> None:
    chap = Chap(name="user", secret=Secret(b"canary-secret"))
    credentials = Credentials(outgoing=chap)
    for text in (repr(credentials), str(chap.secret), f"{chap.secret:>20}", f"{credentials}"):
        assert "canary" not in text
    with pytest.raises(TypeError):
        pickle.dumps(chap.secret)
    with pytest.raises(TypeError):
        hash(chap.secret)
    assert chap.secret.reveal() == b"canary-secret"


def test_one_secret_for_both_directions_is_refused() -> None:
    same = Secret(b"the-same-secret")
    with pytest.raises(ValueError, match="must differ"):
        Credentials(outgoing=Chap(name="a", secret=same), incoming=Chap(name="b", secret=Secret(b"the-same-secret")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_burst_length": 511},
        {"first_burst_length": 1 << 24},
        {"max_burst_length": 65536, "first_burst_length": 131072},
        {"cmds_max": 100},
        {"queue_depth": 0},
        {"login_timeout": 0},
        {"default_time2wait": -1},
        {"max_outstanding_r2t": 0},
        {"max_xmit_data_segment_length": 17},
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="is"):
        SessionParams(**wrong)  # type: ignore[arg-type]


def test_an_error_is_one_line_with_all_four_parts() -> None:
    error = IscsiBootError(
        "refused\nby the target",
        stage=Stage.LOGIN,
        subject="iqn.2001-04.com.example:a at 10.0.2.2:3260",
        hint="check the ACL",
        exit_code=ExitCode.LOGIN_AUTH_FAILED,
    )
    expected = "login: iqn.2001-04.com.example:a at 10.0.2.2:3260: refused\\nby the target; next: check the ACL"
    assert error.line() == expected == str(error)


def test_untrusted_text_is_quoted_and_cut() -> None:
    assert quoted(b'a"\x1b\xff') == '"a\\"\\x1b\\xff"'
    assert quoted("x" * 100, limit=10) == '"xxxxxxxxxx..." (100 characters)'


def test_deadlines() -> None:
    whole = Deadline.after(10, now=100, reason="everything")
    step = whole.within(30, now=105, reason="one step")
    assert step.at == 110
    assert step.remaining(104) == 6
    assert step.remaining(111) == 0
    assert step.passed(110)
    assert not step.passed(109.9)
