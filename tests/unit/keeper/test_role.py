# SPDX-License-Identifier: LGPL-2.1-or-later
"""What sessions carry, and which time-outs follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.keeper.role import FOR_EVER, role_words, roles, timers
from iscsiboot.keeper.values import Role, Timers
from iscsiboot.model.params import SessionParams
from iscsiboot.sysfs.block_stack import SYSTEM_MOUNTS, Use

ROOT_ON_LVM = Use("sda", "mount", "/", ("dm-0", "sda2", "sda"))
SWAP = Use("sda", "swap", "/dev/sda3", ("sda3", "sda"))
DATA = Use("sdb", "mount", "/srv/data", ("sdb1", "sdb"))
ROOT_ON_TWO = (Use("sda", "mount", "/", ("dm-1", "dm-0", "sda")), Use("sdb", "mount", "/", ("dm-1", "dm-0", "sdb")))
NO_PATHS: frozenset[str] = frozenset()


def test_each_session_gets_the_role_of_its_own_disks() -> None:
    found = roles((ROOT_ON_LVM, SWAP, DATA), {1: ["sda"], 2: ["sdb", "sdc"], 3: []}, NO_PATHS)
    assert found == {
        1: Role(
            system=("dm-0 on sda2 on sda is mounted on /", "sda3 on sda is swap"),
            carries=("/", "swap"),
            multipath=False,
        ),
        2: Role(),
        3: Role(),
    }
    assert found[1].waits_for_ever
    assert not found[2].waits_for_ever


@pytest.mark.parametrize("where", sorted(SYSTEM_MOUNTS))
def test_a_mount_of_the_system_makes_a_system_session(where: str) -> None:
    role = roles((Use("sda", "mount", where, ("sda",)),), {1: ["sda"]}, NO_PATHS)[1]
    assert role.system == (f"sda is mounted on {where}",)
    assert role_words(role) == ("root" if where == "/" else where)


@pytest.mark.parametrize(
    "where",
    ["/home", "/srv", "/var/lib/kubelet/pods/x/volumes/y", "/usr/share/data", "/data/usr", "/media/boot", ""],
)
def test_a_volume_below_a_system_directory_is_data(where: str) -> None:
    """Containers have theirs below /var/lib; an endless wait there would hang what only wanted an error."""
    assert roles((Use("sda", "mount", where, ("sda",)),), {1: ["sda"]}, NO_PATHS)[1] == Role()


def test_the_same_use_is_told_once() -> None:
    role = roles((ROOT_ON_LVM, ROOT_ON_LVM), {1: ["sda"]}, NO_PATHS)[1]
    assert len(role.system) == len(role.carries) == 1


def test_multipath_counts_when_it_is_below_all_the_system_uses() -> None:
    both = roles(ROOT_ON_TWO, {1: ["sda"], 2: ["sdb"]}, frozenset({"sda", "sdb"}))
    assert all(role.multipath and role.system and not role.waits_for_ever for role in both.values())
    assert not any(role.multipath for role in roles(ROOT_ON_TWO, {1: ["sda"], 2: ["sdb"]}, NO_PATHS).values())


def test_a_part_of_the_system_without_another_path_waits_for_ever() -> None:
    """Root on a multipath device, swap on a disk of the same session that has no other path."""
    uses = (*ROOT_ON_TWO, Use("sdc", "swap", "/dev/sdc", ("sdc",)))
    role = roles(uses, {1: ["sda", "sdc"]}, frozenset({"sda", "sdb"}))[1]
    assert role.waits_for_ever


def test_a_disk_the_system_does_not_use_says_nothing_about_its_paths() -> None:
    role = roles(ROOT_ON_TWO, {1: ["sda", "sdd"]}, frozenset({"sda", "sdb"}))[1]
    assert role.multipath


@pytest.mark.parametrize(("paths", "multipath"), [({"sda", "sdb"}, True), ({"sda"}, False), (set(), False)])
def test_data_fails_fast_when_each_disk_has_another_path(paths: set[str], multipath: bool) -> None:
    assert roles((), {1: ["sda", "sdb"]}, frozenset(paths))[1] == Role(multipath=multipath)


ROOT_ROLE = Role(system=("sda is mounted on /",), carries=("/",))
MULTIPATH_ROLE = Role(system=("dm-0 on sda is mounted on /",), carries=("/",), multipath=True)


@pytest.mark.parametrize(
    ("role", "asked", "given"),
    [
        # What iscsistart leaves: no pings, because nobody hears them.
        (ROOT_ROLE, (120, 0, 0), (FOR_EVER, 5, 10)),
        (ROOT_ROLE, (120, 5, 5), (FOR_EVER, 5, 5)),
        (ROOT_ROLE, (0, 30, 60), (FOR_EVER, 30, 60)),
        (ROOT_ROLE, (86400, 5, 0), (FOR_EVER, 5, 10)),
        (MULTIPATH_ROLE, (120, 5, 5), (5, 2, 2)),
        (MULTIPATH_ROLE, (-1, 0, 0), (5, 2, 2)),
        (MULTIPATH_ROLE, (0, 1, 1), (0, 1, 1)),
        (MULTIPATH_ROLE, (3, 5, 1), (3, 2, 1)),
        (Role(multipath=True), (86400, 5, 5), (5, 2, 2)),
        (Role(), (120, 5, 5), (120, 5, 5)),
        (Role(), (-1, 0, 0), (-1, 0, 0)),
    ],
)
def test_the_timers_of_a_role(role: Role, asked: tuple[int, int, int], given: tuple[int, int, int]) -> None:
    params = SessionParams(replacement_timeout=asked[0], noop_out_interval=asked[1], noop_out_timeout=asked[2])
    assert timers(role, params) == Timers(recovery=given[0], noop_interval=given[1], noop_timeout=given[2])


@given(st.builds(Role, system=st.sampled_from([(), ("x",)]), multipath=st.booleans()), *[st.integers(0, 1000)] * 3)
def test_the_kernel_never_gets_half_of_a_ping(role: Role, recovery: int, interval: int, timeout: int) -> None:
    """Interval or timeout alone is a slip the kernel acts on badly; a record's own slip was put right before."""
    if bool(interval) == bool(timeout):
        params = SessionParams(replacement_timeout=recovery, noop_out_interval=interval, noop_out_timeout=timeout)
        found = timers(role, params)
        assert bool(found.noop_interval) == bool(found.noop_timeout)
        if role.multipath:
            assert found.recovery + found.noop_interval + found.noop_timeout < 10


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (Role(), "data"),
        (Role(multipath=True), "data, multipath"),
        (ROOT_ROLE, "root"),
        (MULTIPATH_ROLE, "root, multipath"),
        (Role(system=("x",), carries=("/", "/usr", "swap")), "root, /usr, swap"),
        (Role(system=("the boot disk",)), "system"),
    ],
)
def test_a_role_in_words(role: Role, words: str) -> None:
    assert role_words(role) == words
