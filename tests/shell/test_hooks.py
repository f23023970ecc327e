# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hooks of a dracut image without systemd, sourced one after the other as dracut's init does, in dash and bash."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "dracut-module/95iscsiboot"
MARK = ROOT / "hooks/mark-root-mounted.sh"

# getargbool DEFAULT KEY: true unless the key is 0, no or off; an absent key is the default (dracut-lib.sh).
INIT = r"""
getargbool() {
    _value=$1
    for _word in $CMDLINE; do
        case $_word in "$2") _value=1 ;; "$2"=*) _value=${_word#*=} ;; esac
    done
    [ "$_value" != 0 ]
}
modprobe() {
    case "$*" in
        "-n -q iscsi_ibft") [ "$MODPROBE" != absent ] ;;
        "-q iscsi_ibft") echo loaded >> "$RECORD"; [ "$MODPROBE" != refuses ] ;;
        *) echo "modprobe $*" >> "$RECORD" ;;
    esac
}
emergency_shell() { echo "emergency: $*" >> "$RECORD"; }
finished() { ( . "$FINISHED" ) && echo finished >> "$RECORD"; return 0; }
. "$START"
echo "started" >> "$RECORD"
finished
. "$WAIT"
finished
. "$WAIT"
"""


@pytest.fixture(params=["dash", "bash"])
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def boot(
    shell: str, place: Path, *, cmdline: str = "", modprobe: str = "loads", sign: str = "", status: int = 0
) -> list[str]:
    """What happened, in order; ``sign`` is a path below a /sys/firmware of the test's own."""
    record = place / "record"
    record.write_text("")
    program = place / "iscsistart"
    # It is slower than the hooks that follow, so whoever does not wait for it is seen.
    program.write_text(f'#!/bin/sh\nread -r _ < "$GATE"\necho "iscsistart $*" >> "$RECORD"\nexit {status}\n')
    program.chmod(0o755)
    gate = place / "gate"
    if not gate.exists():
        subprocess.run(["mkfifo", str(gate)], check=True)
    firmware = place / "firmware"
    firmware.mkdir(exist_ok=True)
    if sign:
        (firmware / sign).mkdir(parents=True)
    start = place / "start.sh"
    text = (MODULE / "iscsiboot-start.sh.in").read_text()
    start.write_text(text.replace("@SBINDIR@", str(place)).replace("/sys/firmware", str(firmware)))
    # The gate opens when init waits: a writer in the background that ends when nobody reads.
    script = INIT.replace('. "$WAIT"', '[ -n "$iscsiboot_pid" ] && { echo go > "$GATE" & }\n. "$WAIT"', 1)
    run = subprocess.run(
        [shell, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        stdin=subprocess.DEVNULL,
        env={
            "PATH": "/usr/bin:/bin",
            "RECORD": str(record),
            "GATE": str(gate),
            "CMDLINE": cmdline,
            "MODPROBE": modprobe,
            "START": str(start),
            "WAIT": str(MODULE / "iscsiboot-wait.sh"),
            "FINISHED": str(MODULE / "iscsiboot-finished.sh"),
        },
    )
    assert run.stderr == ""
    return record.read_text().splitlines()


def test_a_machine_without_a_table_starts_nothing(shell: str, tmp_path: Path) -> None:
    assert boot(shell, tmp_path) == ["loaded", "started", "finished", "finished"]


@pytest.mark.parametrize(
    "sign", ["ibft/initiator", "acpi/tables/iBFT", "acpi/tables/IBFT1", "acpi/tables/BIFT", "iscsi_boot2"]
)
def test_each_sign_of_firmware_starts_it_once_and_the_queue_waits(shell: str, tmp_path: Path, sign: str) -> None:
    assert boot(shell, tmp_path, sign=sign) == ["loaded", "started", "iscsistart -N -b", "finished"]


def test_a_table_the_kernel_refuses_is_told_of(shell: str, tmp_path: Path) -> None:
    assert "iscsistart -N -b" in boot(shell, tmp_path, modprobe="refuses")


def test_a_kernel_without_the_module_does_not_count_as_refusal(shell: str, tmp_path: Path) -> None:
    assert boot(shell, tmp_path, modprobe="absent") == ["started", "finished", "finished"]


@pytest.mark.parametrize("key", ["rd.iscsiboot", "rd.iscsi.ibft", "rd.iscsi.firmware"])
def test_the_command_line_forces_and_forbids(shell: str, tmp_path: Path, key: str) -> None:
    assert "iscsistart -N -b" in boot(shell, tmp_path, cmdline=f"quiet {key}=1")
    assert "iscsistart -N -b" in boot(shell, tmp_path, cmdline=f"quiet {key}")
    assert boot(shell, tmp_path, cmdline=f"{key}=0", sign="ibft/initiator") == ["started", "finished", "finished"]


def test_failure_ends_in_the_emergency_path_once(shell: str, tmp_path: Path) -> None:
    assert boot(shell, tmp_path, sign="iscsi_boot0", status=21) == [
        "loaded",
        "started",
        "iscsistart -N -b",
        "emergency: iscsiboot: no root disk (iscsistart ended with status 21)",
        "finished",
    ]


def mark(shell: str, place: Path, *, how: str) -> subprocess.CompletedProcess[str]:
    (place / "uptime").write_text("12.34 20.00\n")
    command = [shell, str(MARK)] if how == "run" else [shell, "-c", f". {MARK}; echo went on"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"ISCSIBOOT_TIMELINE": str(place / "timeline.jsonl"), "ISCSIBOOT_UPTIME": str(place / "uptime")},
    )


@pytest.mark.parametrize("how", ["run", "sourced"])
def test_the_mark_is_added_to_a_timeline_that_was_begun(shell: str, tmp_path: Path, how: str) -> None:
    timeline = tmp_path / "timeline.jsonl"
    timeline.write_text('{"mark": "disk", "at": 9.9, "detail": "sda"}\n')
    run = mark(shell, tmp_path, how=how)
    assert (run.returncode, run.stderr, run.stdout) == (0, "", "" if how == "run" else "went on\n")
    lines = timeline.read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1]) == {"mark": "root mounted", "at": 12.34, "detail": ""}


@pytest.mark.parametrize("how", ["run", "sourced"])
def test_without_a_timeline_nothing_is_made(shell: str, tmp_path: Path, how: str) -> None:
    run = mark(shell, tmp_path, how=how)
    assert (run.returncode, run.stderr) == (0, "")
    assert not (tmp_path / "timeline.jsonl").exists()


def test_the_mark_is_one_the_timeline_knows() -> None:
    from iscsiboot.model.timeline import Mark

    assert f'"{Mark.ROOT_MOUNTED.value}"' in MARK.read_text()
    assert "$(" not in MARK.read_text(), "builtins only: a process costs 0.1 s under emulation"
