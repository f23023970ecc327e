# SPDX-License-Identifier: LGPL-2.1-or-later
"""The policy of login attempts: how far redirects are followed, what is remembered, the one retry."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.errors import ExitCode, Stage
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.errors import AlgorithmsRejected, LoginError
from iscsiboot.initiator.events import LoginRedirected, parse_target_address
from iscsiboot.initiator.route import REDIRECTS_MAX, LoginRoute
from iscsiboot.model.portal import NamedPortal, Portal

TARGET = "iqn.2004-01.com.example:disk"


def portal(address: str, port: int = 3260) -> Portal:
    return Portal(address=ip_address(address), port=port)


A, B, C = portal("192.0.2.1"), portal("192.0.2.2"), portal("192.0.2.3")


def go(route: LoginRoute, *hops: tuple[Portal, bool]) -> LoginRoute:
    for there, permanent in hops:
        route.redirected(LoginRedirected(portal=there, permanent=permanent), there)
    return route


def rejected(retry: ChapAlgorithm | None) -> AlgorithmsRejected:
    return AlgorithmsRejected(
        "no", subject=TARGET, phase="security negotiation", hint="", exit_code=ExitCode.FATAL_LOGIN, retry_with=retry
    )


def test_the_first_attempt_is_what_was_asked() -> None:
    route = LoginRoute(A, subject=TARGET)
    assert (route.portal, route.final, route.algorithms) == (A, A, None)


def test_what_was_remembered_is_tried_first_and_then_everything() -> None:
    route = LoginRoute(A, subject=TARGET, algorithm=ChapAlgorithm.MD5)
    offered = [route.algorithms]
    for error in (rejected(None), rejected(ChapAlgorithm.SHA1)):
        route.rejected(error)
        offered.append(route.algorithms)
    assert offered == [(ChapAlgorithm.MD5,), None, (ChapAlgorithm.SHA1,)]
    with pytest.raises(AlgorithmsRejected):
        route.rejected(rejected(ChapAlgorithm.MD5))


@pytest.mark.parametrize(
    ("hops", "final"),
    [
        ([(B, False)], A),
        ([(B, True)], B),
        ([(B, True), (C, True)], C),
        ([(B, True), (C, False)], B),
        # B is where the target is for now only, so that it moved from there for good says nothing about A.
        ([(B, False), (C, True)], A),
    ],
    ids=["temporary", "permanent", "both permanent", "then temporary", "then permanent"],
)
def test_what_is_remembered(hops: list[tuple[Portal, bool]], final: Portal) -> None:
    route = go(LoginRoute(A, subject=TARGET), *hops)
    assert (route.portal, route.final) == (hops[-1][0], final)


@pytest.mark.parametrize(
    ("way", "ring"),
    [
        ([A], "192.0.2.1:3260 -> 192.0.2.1:3260"),
        ([B, A], "192.0.2.1:3260 -> 192.0.2.2:3260 -> 192.0.2.1:3260"),
        ([B, C, B], "192.0.2.1:3260 -> 192.0.2.2:3260 -> 192.0.2.3:3260 -> 192.0.2.2:3260"),
        ([B, Portal(address=A.address, tpgt=9)], "192.0.2.1:3260 -> 192.0.2.2:3260 -> 192.0.2.1:3260"),
    ],
    ids=["itself", "two", "later", "another group"],
)
def test_a_ring_is_named(way: list[Portal], ring: str) -> None:
    route = go(LoginRoute(A, subject=TARGET), *((there, False) for there in way[:-1]))
    with pytest.raises(LoginError) as caught:
        go(route, (way[-1], True))
    error = caught.value
    assert error.cause == f"connection: redirected in a ring: {ring}"
    assert error.subject == TARGET
    assert (error.stage, error.exit_code, error.retryable) == (Stage.LOGIN, ExitCode.LOGIN, True)
    assert error.hint
    assert route.final == A, "a refused hop moves nothing"


def test_another_port_is_another_portal() -> None:
    route = go(LoginRoute(A, subject=TARGET), (portal("192.0.2.1", 3261), False))
    assert route.portal.port == 3261


def test_the_portal_group_of_the_address_is_kept() -> None:
    there = Portal(address=B.address, tpgt=9)
    assert go(LoginRoute(A, subject=TARGET), (there, True)).final == there


def test_the_number_of_hops_is_bounded() -> None:
    chain = [portal(f"192.0.2.{number}") for number in range(2, 100)]
    route = go(LoginRoute(A, subject=TARGET), *((there, True) for there in chain[:REDIRECTS_MAX]))
    assert route.portal == route.final == chain[REDIRECTS_MAX - 1]
    with pytest.raises(LoginError, match=f"redirected more than {REDIRECTS_MAX} times: 192.0.2.1:3260 -> ") as caught:
        go(route, (chain[REDIRECTS_MAX], True))
    assert caught.value.cause.endswith("192.0.2.6:3260")


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=40))
def test_no_sequence_of_redirects_goes_on_for_ever(hops: list[tuple[int, bool]]) -> None:
    route, followed = LoginRoute(A, subject=TARGET), 0
    for number, permanent in hops:
        try:
            go(route, (portal(f"192.0.2.{number}"), permanent))
        except LoginError:
            break
        followed += 1
    assert followed <= REDIRECTS_MAX


# IPv6.


@pytest.mark.parametrize(
    ("spelling", "endpoint"),
    [
        ("[2001:DB8:0:0::1]:3260", "[2001:db8::1]:3260"),
        ("[2001:db8::1]", "[2001:db8::1]:3260"),
        ("[::ffff:192.0.2.7]", "192.0.2.7:3260"),
    ],
)
def test_one_address_in_any_spelling(spelling: str, endpoint: str) -> None:
    there = parse_target_address(spelling)
    assert isinstance(there, Portal)
    route = go(LoginRoute(A, subject=TARGET), (there, False))
    assert route.portal.endpoint == endpoint
    with pytest.raises(LoginError, match="in a ring"):
        go(route, (there, False))


@pytest.mark.parametrize(
    ("here", "there", "reached"),
    [
        ("fe80::1%eth0", "fe80::2", "fe80::2%eth0"),
        ("fe80::1%eth0", "2001:db8::2", "2001:db8::2"),
        ("fe80::1%eth0", "192.0.2.2", "192.0.2.2"),
        ("2001:db8::1", "fe80::2", "fe80::2"),
        ("192.0.2.1", "fe80::2", "fe80::2"),
        ("fe80::1%eth0", "fe80::2%eth1", "fe80::2%eth1"),
    ],
)
def test_a_link_local_address_is_on_our_link(here: str, there: str, reached: str) -> None:
    """A target cannot name our interfaces, and without a name connect() has nowhere to go."""
    route = go(LoginRoute(portal(here), subject=TARGET), (portal(there), True))
    assert route.portal == route.final == portal(reached)


def test_a_link_local_ring_is_seen() -> None:
    route = go(LoginRoute(portal("fe80::1%eth0"), subject=TARGET), (portal("fe80::2"), False))
    with pytest.raises(LoginError, match=r"\[fe80::2%eth0\]:3260 -> \[fe80::1%eth0\]:3260"):
        go(route, (portal("fe80::1"), False))


def test_a_name_is_judged_by_its_address() -> None:
    named = LoginRedirected(portal=NamedPortal(host="storage.example"), permanent=True)
    route = LoginRoute(A, subject=TARGET)
    route.redirected(named, B)
    assert route.final == B


# Algorithms.


def test_one_retry_with_the_single_algorithm() -> None:
    route = LoginRoute(A, subject=TARGET)
    route.rejected(rejected(ChapAlgorithm.MD5))
    assert (route.algorithms, route.portal) == ((ChapAlgorithm.MD5,), A)
    again = rejected(ChapAlgorithm.SHA1)
    with pytest.raises(AlgorithmsRejected) as caught:
        route.rejected(again)
    assert caught.value is again


def test_nothing_to_retry_with() -> None:
    error = rejected(None)
    with pytest.raises(AlgorithmsRejected) as caught:
        LoginRoute(A, subject=TARGET).rejected(error)
    assert caught.value is error


def test_the_retry_is_one_for_the_whole_route() -> None:
    """Else a ring of targets that reject and redirect could keep us busy."""
    route = LoginRoute(A, subject=TARGET)
    route.rejected(rejected(ChapAlgorithm.MD5))
    go(route, (B, False))
    assert route.algorithms == (ChapAlgorithm.MD5,)
    with pytest.raises(AlgorithmsRejected):
        route.rejected(rejected(ChapAlgorithm.MD5))
