# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel modules: nothing is run when they are there, modprobe's words are in the error, its time is bounded."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from iscsiboot.model.deadline import Deadline
from iscsiboot.session.modules import Loading, Module, ModuleError

MODULE = Module(name="iscsi_tcp", shows_at="class/iscsi_transport/tcp")


def program(tmp_path: Path, body: str) -> str:
    path = tmp_path / "modprobe"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def soon(seconds: float = 20) -> Deadline:
    return Deadline.after(seconds, now=time.monotonic(), reason="test")


def test_a_module_that_is_there_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / MODULE.shows_at).mkdir(parents=True)
    Loading(MODULE, sysfs=tmp_path, programs=["/nonexistent"]).wait(soon(), time.monotonic)


def test_modprobe_gets_the_name(tmp_path: Path) -> None:
    path = program(tmp_path, f"echo $1 >{tmp_path}/asked")
    Loading(MODULE, sysfs=tmp_path, programs=["/nonexistent", path]).wait(soon(), time.monotonic)
    assert (tmp_path / "asked").read_text() == "iscsi_tcp\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo FATAL: Module iscsi_tcp not found >&2; exit 1", 'says "FATAL: Module iscsi_tcp not found"'),
        ("exit 3", 'says "exit status 3"'),
        ("kill -9 $$", "killed by signal 9"),
        ("head -c 100000 /dev/zero; exit 1", "(4096 characters)"),
    ],
)
def test_the_words_of_a_failure(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(ModuleError) as caught:
        Loading(MODULE, sysfs=tmp_path, programs=[program(tmp_path, body)]).wait(soon(), time.monotonic)
    assert words in caught.value.line()
    assert caught.value.exit_code == 12
    assert "put iscsi_tcp of kernel" in caught.value.line()


def test_outside_an_image_there_is_another_next_step(tmp_path: Path) -> None:
    with pytest.raises(ModuleError, match="install iscsi_tcp of kernel"):
        Loading(MODULE, sysfs=tmp_path, programs=[], in_image=False).wait(soon(), time.monotonic)


def test_a_failure_for_a_module_that_came_otherwise_is_none(tmp_path: Path) -> None:
    path = program(tmp_path, f"mkdir -p {tmp_path}/{MODULE.shows_at}; exit 1")
    Loading(MODULE, sysfs=tmp_path, programs=[path]).wait(soon(), time.monotonic)


def test_a_modprobe_that_hangs_is_ended(tmp_path: Path) -> None:
    loading = Loading(MODULE, sysfs=tmp_path, programs=[program(tmp_path, "exec tail -f /dev/null")])
    with pytest.raises(ModuleError, match="killed by signal 9"):
        loading.wait(soon(0.2), time.monotonic)


def test_no_modprobe_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModuleError, match="no modprobe"):
        Loading(MODULE, sysfs=tmp_path, programs=["/nonexistent"]).wait(soon(), time.monotonic)
