# SPDX-License-Identifier: LGPL-2.1-or-later
"""KVM has to prove itself; the emulator proves the probe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.qemu.harness import kvm
from tests.qemu.harness.kvm import KVM, TCG, accelerator, boot_sector, probe


def test_boot_sector_is_one() -> None:
    sector = boot_sector()
    assert len(sector) == 512
    assert sector[-2:] == b"\x55\xaa"


def test_the_probe_guest_finishes_under_emulation(tmp_path: Path) -> None:
    assert probe(tmp_path, accel=TCG, seconds=60)


def test_a_guest_that_does_nothing_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "boot_sector", lambda: b"\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa")
    assert not probe(tmp_path, accel=TCG, seconds=3)


@pytest.fixture
def boot_id(tmp_path: Path) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("one\n")
    return path


def test_no_device_no_probe(tmp_path: Path, boot_id: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "probe", lambda runtime: pytest.fail("probed"))
    assert accelerator(tmp_path, tmp_path, device=tmp_path / "none", boot_id=boot_id) == TCG


@pytest.mark.parametrize(("works", "expected"), [(True, KVM), (False, TCG)], ids=["works", "hangs"])
def test_the_answer_is_asked_for_once_a_host_boot(
    tmp_path: Path, boot_id: Path, monkeypatch: pytest.MonkeyPatch, works: bool, expected: tuple[str, ...]
) -> None:
    device = tmp_path / "kvm-device"
    device.touch()
    asked: list[Path] = []

    def answer(runtime: Path) -> bool:
        asked.append(runtime)
        return works

    monkeypatch.setattr(kvm, "probe", answer)
    cache = tmp_path / "cache"
    cache.mkdir()
    for _ in range(3):
        assert accelerator(cache, tmp_path, device=device, boot_id=boot_id) == expected
    assert len(asked) == 1
    boot_id.write_text("two\n")
    assert accelerator(cache, tmp_path, device=device, boot_id=boot_id) == expected
    assert len(asked) == 2
    assert [path.name for path in cache.iterdir()] == ["kvm-two"]
