# SPDX-License-Identifier: LGPL-2.1-or-later
"""Process hygiene, seen from outside: /proc of a child that did it, the warnings where the system refuses."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.keeper import hygiene, libc
from iscsiboot.keeper.log import Level

ROOT = Path(__file__).resolve().parents[3]


def child(code: str, *arguments: str) -> dict[str, Any]:
    """Run code in an interpreter of its own; what it leaves in ``answer``."""
    program = (
        "import json, os, resource, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from iscsiboot.keeper import hygiene, libc\n"
        "lines, answer = [], {}\n"
        "def log(level, text): lines.append(text)\n"
        "def status(key):\n"
        "    for line in Path('/proc/self/status').read_text().splitlines():\n"
        "        if line.startswith(key + ':'): return line.split(None, 1)[1]\n"
        f"{code}\n"
        "print(json.dumps(answer | {'lines': lines}))\n"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def test_the_name_is_the_one_pgrep_looks_for() -> None:
    answer = child("hygiene.set_comm('iscsid'); answer['comm'] = Path('/proc/self/comm').read_text()")
    assert answer["comm"] == "iscsid\n"


def test_a_long_name_is_cut() -> None:
    answer = child("hygiene.set_comm('a-name-of-many-letters'); answer['comm'] = Path('/proc/self/comm').read_text()")
    assert answer["comm"] == "a-name-of-many-\n"


TITLE = (
    "hygiene.set_title({words!r})\n"
    "answer['cmdline'] = Path('/proc/self/cmdline').read_bytes().decode().rstrip(chr(0)).split(chr(0))\n"
    "answer['environ'] = os.environ.get('KEPT'), Path('/proc/self/environ').read_bytes().decode('latin-1')\n"
    "answer['argv'] = sys.argv[1:]\n"
)


def test_the_title_is_what_systemd_reads_and_nothing_else_is_touched() -> None:
    answer = child(TITLE.format(words=("@iscsiboot-keeper",)), "one", "two")
    assert answer["cmdline"] == ["@iscsiboot-keeper"]
    assert answer["argv"] == ["one", "two"]
    assert "PATH=" in answer["environ"][1]


def test_a_title_has_words_and_is_cut_to_the_room_there_is() -> None:
    assert child(TITLE.format(words=("iscsid", "-f")))["cmdline"] == ["iscsid", "-f"]
    answer = child(TITLE.format(words=("@" + "x" * 100_000,)))
    assert set(answer["cmdline"][0]) == {"@", "x"}
    assert len(answer["cmdline"]) == 1
    assert "PATH=" in answer["environ"][1]


def stat_line(name: str, start: int, end: int) -> str:
    fields = [str(number) for number in range(1, 53)]
    fields[1] = f"({name})"
    fields[47], fields[48] = str(start), str(end)
    return " ".join(fields)


@pytest.mark.parametrize("name", ["python3", "a b", "x) 1 2 3 (", ")", ""])
def test_where_the_arguments_are(name: str) -> None:
    assert hygiene.argument_area(stat_line(name, 140_000, 140_100)) == (140_000, 140_100)


@pytest.mark.parametrize(
    "text", ["", "1 (x) S 2 3", stat_line("x", 0, 0), stat_line("x", 5, 4), "1 (x) S " + "y " * 60]
)
def test_a_stat_that_does_not_tell_where(text: str) -> None:
    with pytest.raises(OSError, match="command line"):
        hygiene.argument_area(text)


def test_memory_is_locked_now_and_later() -> None:
    answer = child(
        "hygiene.settle_memory()\n"
        "hygiene.lock_memory()\n"
        "answer['size'], answer['locked'] = int(status('VmSize').split()[0]), int(status('VmLck').split()[0])\n"
        "more = bytearray(8 << 20)\n"
        "answer['later'] = int(status('VmLck').split()[0])\n"
    )
    assert answer["locked"] > 0.95 * (answer["size"] - 200)
    assert answer["later"] >= answer["locked"] + 8000


def test_the_collector_rests_while_modules_are_loaded_and_not_longer() -> None:
    answer = child(
        "import gc\n"
        "hygiene.load_quietly()\n"
        "answer['loading'] = gc.isenabled()\n"
        "hygiene.settle_memory()\n"
        "answer['settled'], answer['frozen'] = gc.isenabled(), gc.get_freeze_count()\n"
    )
    assert (answer["loading"], answer["settled"]) == (False, True)
    assert answer["frozen"] > 1000


@pytest.mark.parametrize("flags", [0, 1 << 20])
def test_a_call_the_kernel_refuses_raises_its_errno(flags: int) -> None:
    with pytest.raises(OSError, match="mlockall") as caught:
        libc.mlockall(flags)
    assert caught.value.errno == errno.EINVAL


def test_a_thread_costs_little_once_memory_is_locked() -> None:
    """Its stack is locked whole: eight megabytes if nobody says otherwise."""
    answer = child(
        "import threading\n"
        "hygiene.settle_memory()\n"
        "hygiene.lock_memory()\n"
        "before = int(status('VmLck').split()[0])\n"
        "seen = []\n"
        "thread = threading.Thread(target=lambda: seen.append(int(status('VmLck').split()[0])))\n"
        "thread.start(); thread.join()\n"
        "answer['more'] = seen[0] - before\n"
    )
    assert answer["more"] < 1024


def test_a_fork_does_not_inherit_the_lock_and_can_ask_for_it() -> None:
    answer = child(
        "hygiene.lock_memory()\n"
        "reading, writing = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    before = status('VmLck')\n"
        "    hygiene.again(log)\n"
        "    os.write(writing, f\"{before.split()[0]} {status('VmLck').split()[0]}\".encode())\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "answer['child'] = os.read(reading, 100).decode().split()\n"
    )
    before, after = map(int, answer["child"])
    assert before == 0
    assert after > 5000


@pytest.mark.parametrize("allowed", [True, False])
def test_the_limit_of_locked_memory_is_lifted_or_shut(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    """Below a limit a lock would be granted, and more memory refused later."""
    limits: list[tuple[int, int]] = []

    def set_limit(which: int, limit: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_MEMLOCK
        if limit[1] == resource.RLIM_INFINITY and not allowed:
            raise ValueError("not allowed to raise maximum limit")
        limits.append(limit)

    monkeypatch.setattr(resource, "getrlimit", lambda which: (8 << 20, 64 << 20))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    monkeypatch.setattr(libc, "mlockall", nothing)
    hygiene.lock_memory()
    assert limits == [(resource.RLIM_INFINITY,) * 2 if allowed else (0, 64 << 20)]


@pytest.mark.parametrize("lock", ["lock_memory", "lock_shared_memory"])
def test_a_lock_that_would_not_hold_what_comes_later_is_refused(lock: str) -> None:
    """Root of a container: without CAP_IPC_LOCK, below a limit it fits into today."""
    answer = child(
        "try:\n"
        "    resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 << 20, 64 << 20))\n"
        "except ValueError:\n"
        "    pass  # not even root may raise it here\n"
        "os.setuid(65534)\n"
        "try:\n"
        f"    hygiene.{lock}()\n"
        "except OSError as error:\n"
        "    answer['errno'] = error.errno\n"
        "more = bytearray(128 << 20)\n"
        "answer['later'] = status('VmLck')\n"
    )
    assert (answer["errno"], answer["later"]) == (errno.EPERM, "0 kB")


SHARED = (
    "import mmap\n"
    "heap = bytearray(os.urandom(16 << 20))\n"
    "hygiene.lock_memory()\n"
    "def rollup(key):\n"
    "    for line in Path('/proc/self/smaps_rollup').read_text().splitlines():\n"
    "        if line.startswith(key + ':'): return int(line.split()[1])\n"
    "reading, writing = os.pipe()\n"
    "if os.fork() == 0:\n"
    "    {lock}\n"
    "    text = Path('/proc/self/smaps').read_text().split('VmFlags')\n"
    "    absent = [part for part in text if '.so' in part and ' r-xp ' in part\n"
    "              and part.split('Rss:')[1].split()[0] != part.split('Size:')[1].split()[0]]\n"
    "    found = [int(status('VmLck').split()[0]), rollup('Pss'), rollup('Rss'), len(absent)]\n"
    "    os.write(writing, json.dumps(found).encode())\n"
    "    os._exit(0)\n"
    "os.wait()\n"
    "answer['found'] = json.loads(os.read(reading, 1000))\n"
)


def test_a_standby_is_locked_without_a_second_copy_of_the_heap() -> None:
    locked, share, whole, absent = child(SHARED.format(lock="hygiene.lock_shared_memory()"))["found"]
    assert locked > 16 * 1024
    assert whole > 16 * 1024
    assert share < 0.75 * whole
    # All of the libraries' code is there: nobody but the daemon's lock held it before.
    assert absent == 0
    # The control: locked as a daemon locks itself, the heap is there twice.
    _, copied, _, _ = child(SHARED.format(lock="hygiene.lock_memory()"))["found"]
    assert copied > share + 7 * 1024


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOENT])
def test_a_kernel_that_cannot_read_in_copies_instead(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    asked: list[int] = []

    def unknown(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(libc, "madvise", unknown)
    monkeypatch.setattr(libc, "mlockall", asked.append)
    hygiene.lock_shared_memory()
    assert asked == [libc.MCL_CURRENT | libc.MCL_FUTURE]


def test_a_mapping_that_ends_after_its_file_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def beyond(*_: object) -> None:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    monkeypatch.setattr(libc, "madvise", beyond)
    monkeypatch.setattr(libc, "mlockall", asked.append)
    hygiene.lock_shared_memory()
    assert asked == [libc.MCL_CURRENT | libc.MCL_FUTURE | libc.MCL_ONFAULT]


def test_a_lock_that_is_refused_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libc, "mlockall", refuse)
    with pytest.raises(PermissionError):
        hygiene.lock_shared_memory()


MAPS = """\
00400000-0041f000 r--p 00000000 fe:00 3146 /usr/bin/python3.11
0041f000-006c5000 r-xp 0001f000 fe:00 3146 /usr/bin/python3.11
006c5000-006c6000 ---p 00000000 fe:00 3146 /usr/bin/python3.11
01a1c000-01b6a000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000001000 rw-p 00000000 00:00 0
7f0000002000-7f0000003000 r--s 00000000 fe:00 99 /a name (deleted)
7ffd0a9e4000-7ffd0a9e8000 r--p 00000000 00:00 0 [vvar]
rubbish r--p 0 0 1 x

x
"""


def test_which_mappings_are_files() -> None:
    assert hygiene.file_mappings(MAPS) == [
        (0x400000, 0x41F000),
        (0x41F000, 0x6C5000),
        (0x7F0000002000, 0x7F0000003000),
    ]


def test_a_minimal_loop_is_small() -> None:
    """The budget of the whole daemon with a hundred sessions is 46 MB, and its standby belongs to it."""
    answer = child(
        "hygiene.without_openssl()\n"
        "import asyncio, hashlib\n"
        "from iscsiboot.keeper import hands, logring, seal\n"
        "seal.preload()\n"
        "hygiene.harden(log, comm='iscsid')\n"
        "asyncio.run(asyncio.sleep(0))\n"
        "answer['locked'] = int(status('VmLck').split()[0])\n"
        "answer['maps'] = 'libcrypto' in Path('/proc/self/maps').read_text()\n"
        "answer['hash'] = hashlib.new('sha3_256', b'', usedforsecurity=False).hexdigest()[:8]\n"
        "answer['md5'] = hashlib.new('md5', b'', usedforsecurity=False).hexdigest()[:8]\n"
    )
    assert answer["locked"] < 26 * 1024
    assert not answer["maps"]
    assert (answer["hash"], answer["md5"]) == ("a7ffc6f8", "d41d8cd9")


def test_a_certified_machine_keeps_its_openssl(tmp_path: Path) -> None:
    (tmp_path / "sys" / "crypto").mkdir(parents=True)
    (tmp_path / "sys" / "crypto" / "fips_enabled").write_text("1\n")
    answer = child(f"hygiene.without_openssl(proc=Path({str(tmp_path)!r})); answer['h'] = '_hashlib' in sys.modules")
    assert not answer["h"]


def test_without_its_own_hashes_python_keeps_openssl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hygiene, "find_spec", lambda name: None if name == "_md5" else object())
    monkeypatch.setattr(sys, "modules", {})
    hygiene.without_openssl(proc=tmp_path)
    assert "_hashlib" not in sys.modules
    assert sys.modules["ssl"] is None


def test_oom_score_is_written_where_the_kernel_reads_it(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    path = tmp_path / "self" / "oom_score_adj"
    path.touch()
    hygiene.protect_from_oom(proc=tmp_path)
    assert path.read_text() == "-1000"


REFUSED = OSError(errno.EPERM, os.strerror(errno.EPERM))


def refuse(*_: object, **__: object) -> None:
    raise REFUSED


def nothing(*_: object, **__: object) -> None:
    pass


STEPS = ("raise_priority", "protect_from_oom", "lock_shared_memory", "set_io_flusher")


@pytest.mark.parametrize("refused", STEPS)
def test_each_refusal_is_one_warning_and_the_rest_is_done(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    done: list[str] = []
    for step in STEPS:
        work: Callable[..., None] = refuse if step == refused else lambda *_, step=step, **__: done.append(step)
        monkeypatch.setattr(hygiene, step, work)
    lines: list[tuple[Level, str]] = []
    hygiene.again(lambda level, text: lines.append((level, text)))
    assert done == [step for step in STEPS if step != refused]
    assert [level for level, _ in lines] == [Level.WARNING]
    assert "Operation not permitted; " in lines[0][1]


def test_a_title_that_cannot_be_written_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for step in (*STEPS, "lock_memory", "settle_memory", "set_comm"):
        monkeypatch.setattr(hygiene, step, nothing)
    lines: list[str] = []
    hygiene.harden(lambda _, text: lines.append(text), comm="x", title=("@x",), proc=tmp_path)
    assert len(lines) == 1
    assert lines[0].startswith("the name in the process list was refused: ")


def test_a_child_that_works_for_a_guard_gives_the_mark_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int | bytes]] = []
    monkeypatch.setattr(libc, "prctl", lambda option, argument=0: asked.append((option, argument)))
    hygiene.for_child()
    assert asked == [(libc.PR_SET_IO_FLUSHER, 0)]
    monkeypatch.setattr(libc, "prctl", refuse)
    hygiene.for_child()


def test_a_child_that_works_for_a_guard_is_no_more_urgent_than_others() -> None:
    answer = child(
        "if os.geteuid() == 0: os.setpriority(os.PRIO_PROCESS, 0, -10)\n"
        "hygiene.for_child(); answer['nice'] = os.getpriority(os.PRIO_PROCESS, 0)\n"
        "os.setpriority(os.PRIO_PROCESS, 0, 5)\n"
        "hygiene.for_child(); answer['less'] = os.getpriority(os.PRIO_PROCESS, 0)"
    )
    assert (answer["nice"], answer["less"]) == (0, 5)


def test_descriptors_are_closed_but_those_to_keep() -> None:
    answer = child(
        "mine, other = os.pipe()\n"
        "hygiene.close_descriptors({0, 1, 2, mine})\n"
        "answer['open'] = [n for n in (0, 1, 2, mine, other) if os.path.exists(f'/proc/self/fd/{n}')]\n"
        "answer['want'] = [0, 1, 2, mine]\n"
    )
    assert answer["open"] == answer["want"]


def test_pivot_root_is_unknown_on_an_unknown_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    result = os.uname_result(("Linux", "host", "6", "1", "pdp11"))
    monkeypatch.setattr(os, "uname", lambda: result)
    with pytest.raises(OSError, match="pdp11") as caught:
        libc.pivot_root("/", "/")
    assert caught.value.errno == errno.ENOSYS


def test_mounts_that_are_refused_name_themselves() -> None:
    with pytest.raises(OSError, match="mount tmpfs on /no/such/place"):
        libc.mount("none", "/no/such/place", "tmpfs")
    with pytest.raises(OSError, match="umount /no/such/place"):
        libc.umount("/no/such/place")
