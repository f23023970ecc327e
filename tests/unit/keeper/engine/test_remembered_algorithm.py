# SPDX-License-Identifier: LGPL-2.1-or-later
"""A target that refuses our list of CHAP algorithms costs two connections once, not at every recovery."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.keeper import document
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.session.values import AttachRequest
from tests.doubles.iscsi_kernel import Pdu, granting, login_response
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import SYSTEM, World

LIST = (ChapAlgorithm.SHA256, ChapAlgorithm.SHA1, ChapAlgorithm.MD5)


class Picky:
    """Takes one algorithm, offered alone, and fails every login that offers anything else."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.offers: list[str] = []

    def __call__(self, bhs: bytes, data: bytes) -> list[Pdu]:
        keys = dict(item.split("=", 1) for item in data.decode().split("\0") if "=" in item)
        if "AuthMethod" in keys:
            return [login_response(bhs, b"AuthMethod=CHAP\0TargetPortalGroupTag=3\0", flags=0)]
        if "CHAP_A" in keys:
            self.offers.append(keys["CHAP_A"])
            if keys["CHAP_A"] != str(self.wanted):
                return [login_response(bhs, status=(2, 0))]
            challenge = f"CHAP_A={self.wanted}\0CHAP_I=1\0CHAP_C=0x{'ab' * 16}\0"
            return [login_response(bhs, challenge.encode(), flags=0)]
        if "CHAP_N" in keys:
            return [login_response(bhs, flags=0x81)]
        return granting(bhs, data)


def secured(world: World, secret: bytes = b"a secret of ours") -> AttachRequest:
    return world.request(
        credentials=Credentials(outgoing=Chap(name="user", secret=Secret(secret))), chap_algorithms=LIST
    )


async def recover(world: World, target: Picky) -> list[str]:
    """Break it; what the target was offered until it was back."""
    target.offers.clear()
    times = world.status().recoveries + 1
    world.kernel.break_connection(1)
    await world.until_healed(times=times, seconds=30)
    return list(target.offers)


async def guarded(world: World, target: Picky) -> None:
    world.kernel.target = target
    world.session()
    await world.adopt(1, role=SYSTEM, known=world.known(secured(world)))
    await asyncio.sleep(5)


def test_the_second_recovery_begins_with_what_the_first_ended_with(run: Run) -> None:
    async def test(world: World) -> None:
        target = Picky(5)
        await guarded(world, target)
        assert await recover(world, target) == ["7,6,5", "5"]
        known = world.keeper.guarded()[1]
        assert (known.algorithm, known.request.chap_algorithms) == (ChapAlgorithm.MD5, LIST)
        assert await recover(world, target) == ["5"]
        assert sum("trying MD5 alone" in text for _, text in world.lines) == 1
        # Whoever guards next knows it as well.
        assert document.load(document.dump(world.keeper.guarded()))[1].algorithm is ChapAlgorithm.MD5

    run(test)


def test_a_first_login_is_remembered(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iscsiboot.keeper.units.scan_whole_host", lambda sysfs, host: None)

    async def test(world: World) -> None:
        world.kernel.target = target = Picky(5)
        order = world.order(request=secured(world))
        await world.keeper.login(order, record=None, seconds=60.0, wanted=1)
        assert target.offers == ["7,6,5", "5"]
        assert await recover(world, target) == ["5"]

    run(test)


def test_a_target_that_takes_the_list_leaves_nothing_to_remember(run: Run) -> None:
    class Broad(Picky):
        def __call__(self, bhs: bytes, data: bytes) -> list[Pdu]:
            return super().__call__(bhs, data.replace(b"CHAP_A=7,6,5\0", b"CHAP_A=7\0"))

    async def test(world: World) -> None:
        target = Broad(7)
        await guarded(world, target)
        assert await recover(world, target) == ["7"]
        assert world.keeper.guarded()[1].algorithm is None

    run(test)


def test_a_target_that_is_another_one_now_is_offered_the_whole_list(run: Run) -> None:
    class Broad(Picky):
        def __call__(self, bhs: bytes, data: bytes) -> list[Pdu]:
            return super().__call__(bhs, data.replace(b"CHAP_A=7,6,5\0", b"CHAP_A=7\0"))

    async def test(world: World) -> None:
        target = Picky(5)
        await guarded(world, target)
        await recover(world, target)
        world.kernel.target = other = Broad(7)
        assert await recover(world, other) == ["5", "7"]
        assert world.keeper.guarded()[1].algorithm is None
        assert await recover(world, other) == ["7"]

    run(test)


@pytest.mark.parametrize("changed", [False, True])
def test_a_record_that_changed_is_believed_before_the_memory(run: Run, changed: bool) -> None:
    async def test(world: World) -> None:
        target = Picky(5)
        await guarded(world, target)
        await recover(world, target)
        request = secured(world, b"a newer secret...") if changed else secured(world)
        world.renewals.append(lambda known: replace(known, request=request, scan=False))
        await world.keeper.renew(1)
        await asyncio.sleep(1)
        known = world.keeper.guarded()[1]
        assert (known.scan, known.algorithm) == (False, None if changed else ChapAlgorithm.MD5)
        assert await recover(world, target) == (["7,6,5", "5"] if changed else ["5"])

    run(test)
