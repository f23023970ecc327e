# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsid as a process, on a kernel without iSCSI: what others look for (clients.md), its manners, its start and end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from iscsiboot.ipc import legacy
from tests.interop.iscsid_lab import PYTHON, ROOT, Place, rendered

pytestmark = [pytest.mark.interop, pytest.mark.root]

NAME = "iqn.2001-04.com.example:this"


@pytest.fixture(scope="module")
def iscsid(tmp_path_factory: pytest.TempPathFactory) -> str:
    if os.geteuid():
        pytest.skip("needs root")
    return str(rendered(tmp_path_factory.mktemp("sbin")))


@pytest.fixture
def place() -> Iterator[Place]:
    with Place() as made:
        made.run("sh", "-c", f"echo InitiatorName={NAME} > /run/etc/initiatorname.iscsi")
        yield made


FILES = ("-c", "/run/etc/iscsid.conf", "-i", "/run/etc/initiatorname.iscsi")


def until(there: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait for what cannot be waited for otherwise."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def listens(place: Place) -> bool:
    return "@ISCSIADM_ABSTRACT_NAMESPACE" in place.run("cat", "/proc/self/net/unix")[1]


def in_background(place: Place, iscsid: str, *options: str) -> int:
    """Start it as a daemon; its pid."""
    assert place.run(iscsid, *FILES, *options) == (0, "", "")
    return int(place.ask("status")["daemon"]["pid"])


def status_of(pid: int) -> dict[str, str]:
    rows = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value.strip() for name, _, value in rows}


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or status_of(pid)["State"].startswith("Z")


def test_it_listens_when_it_is_started_without_standard_files(place: Place, iscsid: str) -> None:
    """Its socket was descriptor 0 then, and was closed when the daemon let go of its standard files."""
    assert place.run("sh", "-c", '"$@" 0<&- 1>&- 2>&-', "sh", iscsid, *FILES)[0] == 0
    assert place.ask("status")["sessions"] == []


def test_it_may_open_as_many_files_as_it_needs(place: Place, iscsid: str) -> None:
    """The usual bound of 1,024 is less than 512 clients and 200 sessions in recovery take."""
    assert place.run("sh", "-c", 'ulimit -Sn 256 && "$@"', "sh", iscsid, *FILES) == (0, "", "")
    pid = int(place.ask("status")["daemon"]["pid"])
    rows = Path(f"/proc/{pid}/limits").read_text().splitlines()
    soft, hard = next(row for row in rows if row.startswith("Max open files")).split()[3:5]
    assert int(soft) == min(int(hard), 16384)


HUNGRY = (
    "import socket, time\n"
    "links = []\n"
    "for _ in range(200):\n"
    "    s = socket.socket(socket.AF_UNIX); s.connect('\\0ISCSIADM_ABSTRACT_NAMESPACE'); links.append(s)\n"
    "    s.sendall(b'{\"iscsiboot\":1,' + b' ' * 60000)\n"
    "time.sleep(1)\n"
    "print(len(links))\n"
)
"""Half requests, a dozen megabytes together."""


def test_as_another_user_it_still_gets_memory(place: Place, iscsid: str) -> None:
    """Root's memory is locked without bounds; what comes later would be refused to a user with a limit."""
    limited = ("setpriv", "--bounding-set=-sys_resource", "prlimit", f"--memlock={8 << 20}")
    daemon = place.spawn(*limited, iscsid, "-f", "-u", "65534", *FILES)
    until(lambda: listens(place), "the socket")
    pid = int(place.ask("status")["daemon"]["pid"])
    assert status_of(pid)["Uid"].split() == ["65534"] * 4
    assert place.run(PYTHON, "-c", HUNGRY)[1] == "200\n"
    assert len(place.ask("status")["sessions"]) == 0
    daemon.terminate()
    _, err = daemon.communicate(timeout=60)
    assert "MemoryError" not in err
    assert "locked memory is given up: user 65534 may not lock what comes later" in err


def test_paths_are_those_of_where_it_is_started(place: Place, iscsid: str) -> None:
    """A daemon in the background works in /, a client asks it for its file, and a stop looks for its pid."""
    inside = 'cd /run/etc && "$@"'
    options = ("-c", "iscsid.conf", "-i", "./initiatorname.iscsi", "-p", "../own.pid")
    place.run("sh", "-c", "echo node.session.cmds_max = 64 > /run/etc/iscsid.conf")
    assert place.run("sh", "-c", inside, "sh", iscsid, *options) == (0, "", "")
    config = place.ask("config")
    assert (config["initiator_name"], config["config_file"]) == (NAME, "/run/etc/iscsid.conf")
    assert int(place.run("cat", "/run/own.pid")[1]) == place.ask("status")["daemon"]["pid"]


def test_a_folder_that_is_gone_is_told(place: Place, iscsid: str) -> None:
    script = 'mkdir /run/x && cd /run/x && rmdir /run/x && "$@"'
    status, out, err = place.run("sh", "-c", script, "sh", iscsid, "-c", "iscsid.conf")
    assert (status, out) == (1, "")
    assert err == "iscsid: a path is not whole, and the folder it was started in is gone\n"


# What others look for (clients.md). -----------------------------------------------------------------------------------


def test_its_process_is_called_iscsid(place: Place, iscsid: str) -> None:
    """Line 5: longhorn, democratic-csi and YaST look by comm, OCF agents by the command line, others by pidof."""
    pid = in_background(place, iscsid)
    assert status_of(pid)["Name"] == "iscsid"
    assert str(pid) in place.run("pgrep", "--exact", "iscsid")[1].split()
    assert str(pid) in place.run("pidof", "iscsid")[1].split()
    lines = place.run("ps", "-o", "cmd=", "-p", str(pid))[1]
    assert lines.startswith(f"{iscsid} -c /run/etc/iscsid.conf")


def test_its_pid_is_in_run_while_it_runs(place: Place, iscsid: str) -> None:
    """Line 6: Debian's logout-all.sh takes the first line and asks kill -0."""
    pid = in_background(place, iscsid)
    assert place.run("sed", "-n", "1p", "/run/iscsid.pid")[1] == f"{pid}\n"
    assert place.run("stat", "-c", "%a", "/run/iscsid.pid")[1] == "600\n"
    os.kill(pid, signal.SIGTERM)
    until(lambda: is_gone(pid), "the end")
    assert place.run("cat", "/run/iscsid.pid")[0] != 0


@pytest.mark.parametrize("options", [(), ("-f",)], ids=["in the background", "as a unit"])
def test_a_full_run_keeps_nobody_from_guarding(place: Place, iscsid: str, options: tuple[str, ...]) -> None:
    """The usual pid file is for others' scripts; who names one wants it."""
    place.run("sh", "-c", "mount -o remount,size=64k /run && cat /dev/zero > /run/full")
    assert place.run(iscsid, *FILES, "-p", "/run/other.pid") == (
        1,
        "",
        "iscsid: daemon: /run/other.pid: cannot be written: No space left on device;"
        " next: name another file with -p, or none with -n\n",
    )
    daemon = place.spawn(iscsid, *FILES, *options, environ={"NOTIFY_SOCKET": "/run/nobody"} if options else {})
    until(lambda: listens(place), "the socket")
    pid = int(place.ask("status")["daemon"]["pid"])
    assert place.run("cat", "/run/iscsid.pid")[0] != 0
    status, _, err = place.run(iscsid, *FILES)
    assert (status, f"process {pid}" in err) == (1, True), "nor does it let a second one in"
    os.kill(pid, signal.SIGTERM)
    _, err = daemon.communicate(timeout=60)
    if options:
        assert "/run/iscsid.pid cannot be written: No space left on device: scripts that look for it" in err


def test_the_pid_file_is_where_it_is_wanted_or_nowhere(place: Place, iscsid: str) -> None:
    pid = in_background(place, iscsid, "-p", "/run/other.pid")
    assert place.run("cat", "/run/other.pid")[1] == f"{pid}\n"
    os.kill(pid, signal.SIGTERM)
    until(lambda: is_gone(pid), "the end")
    in_background(place, iscsid, "-n")
    assert place.run("ls", "/run")[1].split() == ["etc"]


def test_it_listens_where_every_client_connects(place: Place, iscsid: str) -> None:
    """Line 7, reference 7: the abstract name without padding, and root alone is served."""
    in_background(place, iscsid)
    rows = [line for line in place.run("cat", "/proc/self/net/unix")[1].splitlines() if "ISCSIADM" in line]
    assert [row.split()[-1] for row in rows if row.split()[3] == "00010000"] == ["@ISCSIADM_ABSTRACT_NAMESPACE"]
    config = place.ask("config")
    assert (config["initiator_name"], config["config_file"]) == (NAME, "/run/etc/iscsid.conf")


def test_a_client_that_is_not_root_is_told_why(place: Place, iscsid: str) -> None:
    in_background(place, iscsid)
    answer = place.ask("status", uid=65534)
    assert answer["code"] == 13
    assert "root only" in answer["line"]


@pytest.mark.parametrize("by", ["systemd-socket-activate", "by hand"])
def test_the_socket_of_a_service_manager_is_used(place: Place, iscsid: str, by: str) -> None:
    """Line 7: iscsid.socket listens, and the first client starts the daemon."""
    if by == "by hand":
        script = (
            "import os, socket\n"
            "s = socket.socket(socket.AF_UNIX); s.bind('\\0ISCSIADM_ABSTRACT_NAMESPACE'); s.listen()\n"
            "os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
            f"os.execv({iscsid!r}, [{iscsid!r}, '-f'])\n"
        )
        daemon = place.spawn(PYTHON, "-c", script)
    else:
        program = shutil.which(by)
        if program is None:
            pytest.skip("systemd-socket-activate is not installed")
        daemon = place.spawn(program, "--listen=@ISCSIADM_ABSTRACT_NAMESPACE", iscsid, "-f")
    until(lambda: listens(place), "the socket")
    assert place.ask("status")["daemon"]["pid"] == daemon.pid
    daemon.terminate()
    assert daemon.wait(60) == 0


def test_two_sockets_of_a_service_manager_are_refused(place: Place, iscsid: str) -> None:
    script = (
        "import os\n"
        "os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()))\n"
        f"os.execv({iscsid!r}, [{iscsid!r}, '-f'])\n"
    )
    status, out, err = place.run(PYTHON, "-c", script)
    assert (status, out) == (1, "")
    assert "Did not receive exactly one IPC socket from systemd" in err


def test_it_runs_without_iscsid_conf_and_without_a_name_file(place: Place, iscsid: str) -> None:
    """Line 17: a general image has neither."""
    assert place.run(iscsid, "-c", "/run/none/iscsid.conf", "-i", "/run/none/initiatorname.iscsi")[0] == 0
    config = place.ask("config")
    assert config["config_file"] == "/run/none/iscsid.conf"
    assert config["initiator_name"].startswith("iqn.2016-04.com.open-iscsi:machine.") or config["initiator_name"] == ""


def test_what_is_wrong_in_its_files_is_told_and_stops_nothing(place: Place, iscsid: str) -> None:
    place.run("sh", "-c", "echo node.startup = often > /run/etc/iscsid.conf")
    place.run("sh", "-c", "echo InitiatorName=nonsense > /run/etc/initiatorname.iscsi")
    daemon = place.spawn(iscsid, "-f", *FILES)
    until(lambda: listens(place), "the socket")
    assert place.ask("config")["initiator_name"] == ""
    refused = place.ask("login", {"record": {"node.name": NAME, "node.conn[0].address": "127.0.0.1"}})
    assert refused["code"] == 5
    daemon.terminate()
    err = daemon.communicate(timeout=60)[1]
    assert "/run/etc/iscsid.conf line 1: node.startup" in err
    assert "is no iSCSI name" in err


# One daemon. ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("-f",), ("-n",), ("-p", "/run/second.pid")], ids=" ".join)
def test_a_second_one_says_who_runs(place: Place, iscsid: str, options: tuple[str, ...]) -> None:
    pid = in_background(place, iscsid)
    status, out, err = place.run(iscsid, *options)
    assert (status, out) == (1, "")
    assert err.startswith(f'iscsid: daemon: Can not bind IPC socket: process {pid} ("iscsid") listens there already;')
    assert err.count("\n") == 1
    assert place.ask("status")["daemon"]["pid"] == pid


def test_in_another_network_the_pid_file_tells_who_runs(place: Place, iscsid: str) -> None:
    """The socket's name is the network namespace's own, the pid file is the machine's."""
    pid = in_background(place, iscsid)
    status, _, err = place.run("unshare", "--net", iscsid)
    assert status == 1
    assert f"process {pid}" in err


def test_a_pid_file_left_by_a_killed_one_is_no_obstacle(place: Place, iscsid: str) -> None:
    first = in_background(place, iscsid)
    os.kill(first, signal.SIGKILL)
    until(lambda: is_gone(first), "the end")
    assert place.run("cat", "/run/iscsid.pid")[1] == f"{first}\n"
    assert in_background(place, iscsid) != first


# Start and end. -------------------------------------------------------------------------------------------------------


SUPERVISED = {"NOTIFY_SOCKET": "/run/notify"}


def manager(place: Place) -> Iterator[dict[str, str]]:
    """A service manager, there from now on: what it is told, message by message."""
    script = (
        "import json, socket\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('/run/notify'); print('ready', flush=True)\n"
        "while True: print(json.dumps(s.recv(4096).decode()), flush=True)\n"
    )
    process = place.spawn(PYTHON, "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    texts = map(json.loads, process.stdout)
    return (dict(line.split("=", 1) for line in text.split("\n")) for text in texts)


def notified(place: Place, iscsid: str, *options: str, environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """What a daemon tells its service manager, message by message, until it ends."""
    told = manager(place)
    daemon = place.spawn(iscsid, *options, environ=SUPERVISED | environ)
    ended = False
    while not ended:
        values = next(told)
        ended = "STOPPING" in values
        yield {**values, "pid": str(daemon.pid)}
    assert daemon.wait(60) == 0


def test_a_service_manager_hears_of_start_life_reload_and_end(place: Place, iscsid: str) -> None:
    seen: list[dict[str, str]] = []
    for values in notified(place, iscsid, "-f", *FILES, environ={"WATCHDOG_USEC": "400000"}):
        seen.append(values)
        pid = int(values["pid"])
        if values.get("READY") and not any("RELOADING" in item for item in seen):
            # Debian's scripts look for the file, and the unit runs in the foreground.
            assert place.run("cat", "/run/iscsid.pid")[1] == f"{pid}\n"
            os.kill(pid, signal.SIGHUP)
        elif values.get("READY"):
            os.kill(pid, signal.SIGTERM)
    kinds = [name for item in seen for name in item if name in ("READY", "RELOADING", "STOPPING")]
    assert kinds == ["READY", "RELOADING", "READY", "STOPPING"]
    assert any("WATCHDOG" in item for item in seen)
    ready = next(item for item in seen if "READY" in item)
    assert ready["STATUS"] == "No iSCSI in the kernel yet; waiting for orders"


def test_a_daemon_that_fails_again_and_again_ends_ever_later(place: Place, iscsid: str) -> None:
    """The unit starts it a second after each failure, for ever: the journal is not to be filled with it."""
    in_background(place, iscsid)
    manager_hears = manager(place)
    status, _, err = place.run(iscsid, "-f", environ=SUPERVISED)
    assert (status, err.count("\n")) == (1, 1)
    place.run("sh", "-c", 'sed -i "s/\\"first\\": [0-9]*/\\"first\\": 1/" /run/iscsiboot/failing')
    second = place.spawn(iscsid, "-f", environ=SUPERVISED)
    told = next(manager_hears)
    assert told.keys() == {"STATUS", "EXTEND_TIMEOUT_USEC"}
    assert re.fullmatch(r"It failed, see the log\. The next try is in \d+ s", told["STATUS"])
    assert told["EXTEND_TIMEOUT_USEC"].isdigit()
    assert second.poll() is None
    second.terminate()
    assert second.wait(30) == 1
    assert place.run("ls", "/run/iscsiboot")[1].split().count("failing") == 0


def test_the_watchdog_hears_from_it_in_time(place: Place, iscsid: str) -> None:
    times = []
    for values in notified(place, iscsid, "-f", *FILES, environ={"WATCHDOG_USEC": "2000000"}):
        if "WATCHDOG" in values:
            times.append(time.monotonic())
        if len(times) == 5:
            os.kill(int(values["pid"]), signal.SIGTERM)
            times.append(0.0)
    gaps = [late - early for early, late in pairwise(times[1:5])]
    assert max(gaps) < 2.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_the_foreground(place: Place, iscsid: str, number: signal.Signals) -> None:
    daemon = place.spawn(iscsid, "-f", *FILES)
    until(lambda: listens(place), "the socket")
    place.ask("status")
    daemon.send_signal(number)
    out, err = daemon.communicate(timeout=60)
    assert daemon.returncode == 0
    assert out == "" or "iscsi_tcp" in out
    assert err.endswith("iscsid: iscsid shutting down.\n")
    assert not listens(place)


@pytest.mark.parametrize("how", ["request", "open-iscsi's request"])
def test_a_client_ends_it(place: Place, iscsid: str, how: str) -> None:
    pid = in_background(place, iscsid)
    if how == "request":
        assert place.ask("stop") == {}
    else:
        script = (
            "import socket, sys\n"
            "s = socket.socket(socket.AF_UNIX); s.connect('\\0ISCSIADM_ABSTRACT_NAMESPACE')\n"
            "s.sendall((11).to_bytes(4, sys.byteorder) + bytes(16124))\n"
            "data = b''\n"
            "while piece := s.recv(65536): data += piece\n"
            "print(len(data), int.from_bytes(data[:4], sys.byteorder), int.from_bytes(data[4:8], sys.byteorder))\n"
        )
        assert place.run(PYTHON, "-c", script)[1] == f"{legacy.REPLY_BYTES} 11 0\n"
    until(lambda: is_gone(pid), "the end")


def test_who_comes_while_it_starts_is_served(place: Place, iscsid: str) -> None:
    """A client is not refused between the first instruction and the last of a start."""
    daemon = place.spawn(iscsid, "-f", *FILES)
    until(lambda: listens(place), "the socket")
    assert place.ask("config")["initiator_name"] == NAME
    daemon.terminate()
    assert daemon.wait(60) == 0


def test_nobody_but_root_runs_it(place: Place, iscsid: str, tmp_path: Path) -> None:
    status, out, err = place.run("setpriv", "--reuid=65534", "--clear-groups", PYTHON, "-c", _AS_USER)
    assert (status, out) == (1, "")
    assert err == "iscsid: only root may run it; next: use sudo, or systemctl start iscsid\n"


_AS_USER = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from iscsiboot.daemon.program import run; run()"


def test_what_fails_in_the_background_is_told_in_the_foreground(place: Place, iscsid: str) -> None:
    status, out, err = place.run(iscsid, "-p", "/run/none/iscsid.pid")
    assert (status, out) == (1, "")
    assert err == (
        "iscsid: daemon: /run/none/iscsid.pid: cannot be written: No such file or directory;"
        " next: name another file with -p, or none with -n\n"
    )
    assert not listens(place)


# At work. -------------------------------------------------------------------------------------------------------------

EVERYTHING: tuple[tuple[str, dict[str, object], int], ...] = (
    ("status", {}, 0),
    ("status", {"sid": 1}, 2),
    ("config", {}, 0),
    ("login", {"record": {"node.name": NAME, "node.conn[0].address": "127.0.0.1"}}, 12),
    ("login", {"record": {"node.name": "a name", "node.conn[0].address": "127.0.0.1"}}, 19),
    ("login", {"record": {"node.name": NAME, "node.conn[0].address": "127.0.0.1"}, "wanted": -1}, 7),
    ("login", {"record": {"node.session.cmds_max": "many"}}, 7),
    ("login", {"record": 1}, 7),
    ("login", {"record": {"node.name": NAME}, "boot": ["one"]}, 7),
    ("logout", {"sid": 1}, 2),
    ("logout", {}, 7),
    ("rescan", {"sid": 1}, 2),
    ("stats", {"sid": 1}, 2),
    ("set", {"sid": 1, "timers": {}}, 2),
    ("set", {"sid": 1, "timers": []}, 7),
    ("reconnect", {"sid": 1}, 2),
    ("settle", {}, 0),
    ("nonsense", {}, 16),
)


def test_nothing_is_imported_late_and_every_request_is_answered(place: Place, iscsid: str) -> None:
    """What would be read from a disk that is gone is read at the start; a refused import is a line of the log."""
    daemon = place.spawn(iscsid, "-f", "-d", "8", *FILES)
    until(lambda: listens(place), "the socket")
    answers = [(action, fields, place.ask(action, fields)) for action, fields, _ in EVERYTHING]
    place.run("sh", "-c", f"kill -HUP {daemon.pid}")
    place.ask("status")
    daemon.terminate()
    out, err = daemon.communicate(timeout=60)
    assert [(action, fields, answer.get("code", 0)) for action, fields, answer in answers] == list(EVERYTHING)
    assert "was not loaded at the start" not in out + err
    assert "fault of this program" not in out + err


def is_quiet(pid: int) -> bool:
    """For half a second at least."""
    before = status_of(pid)["voluntary_ctxt_switches"]
    time.sleep(0.5)
    return status_of(pid)["voluntary_ctxt_switches"] == before


def test_it_holds_still_and_small(place: Place, iscsid: str) -> None:
    """Idle: no wake-ups without a watchdog, one thread, no child; memory below the peer's 46 MB."""
    daemon = place.spawn(iscsid, "-f", *FILES)  # in the background it would look for the syslog this place has not
    until(lambda: listens(place), "the socket")
    pid = place.ask("status")["daemon"]["pid"]
    assert pid == daemon.pid
    until(lambda: is_quiet(pid), "it has seen its client off")
    before = status_of(pid)["voluntary_ctxt_switches"]
    time.sleep(3)
    now = status_of(pid)
    assert now["voluntary_ctxt_switches"] == before
    assert now["Threads"] == "1"
    assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
    assert int(now["VmRSS"].split()[0]) < 40_000
    if int(now["CapEff"], 16) >> 14 & 1:
        assert int(now["VmLck"].split()[0]) > 0


def test_it_holds_no_file_but_its_own(place: Place, iscsid: str) -> None:
    pid = in_background(place, iscsid)
    leads = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
    assert {re.sub(r"\d+", "N", lead) for lead in leads} <= {
        *("/dev/null", "/run/iscsid.pid", "socket:[N]", "anon_inode:[eventpoll]")
    }
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


def test_the_background_daemon_is_nobodys_child_and_has_no_terminal(place: Place, iscsid: str) -> None:
    pid = in_background(place, iscsid)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    session, terminal = int(fields[3]), int(fields[4])
    assert session == pid
    assert terminal == 0


def test_hundred_clients_at_once_are_all_answered(place: Place, iscsid: str) -> None:
    in_background(place, iscsid)
    script = (
        "import socket\n"
        "links = []\n"
        "for _ in range(100):\n"
        "    s = socket.socket(socket.AF_UNIX); s.connect('\\0ISCSIADM_ABSTRACT_NAMESPACE'); links.append(s)\n"
        '    s.sendall(b\'{"iscsiboot":1,"id":1,"do":"status"}\\n\')\n'
        "    s.shutdown(socket.SHUT_WR)\n"
        "done = 0\n"
        "for s in links:\n"
        "    data = b''\n"
        "    while piece := s.recv(65536): data += piece\n"
        "    done += b'\"ok\":true' in data\n"
        "print(done)\n"
    )
    began = time.monotonic()
    assert place.run(PYTHON, "-c", script)[1] == "100\n"
    assert time.monotonic() - began < 40


def test_killed_and_started_again_and_again(place: Place, iscsid: str) -> None:
    """The address, the pid file and /run are free each time, whatever the last one was at."""
    for _ in range(5):
        pid = in_background(place, iscsid)
        os.kill(pid, signal.SIGKILL)
        until(partial(is_gone, pid), "the end")


SQUAT = """
import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(chr(0) + "ISCSIADM_ABSTRACT_NAMESPACE")
if sys.argv[1] != "bind":
    s.listen(0 if sys.argv[1] == "full" else 8)
held = []
for _ in range(3 if sys.argv[1] == "full" else 0):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].setblocking(False)
    held[-1].connect_ex(chr(0) + "ISCSIADM_ABSTRACT_NAMESPACE")
print("there", flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("how", ["listen", "bind", "full"])
def test_a_user_on_its_name_keeps_it_from_orders_and_from_nothing_else(place: Place, iscsid: str, how: str) -> None:
    """It guards all the same, says who it is, and takes orders as soon as that process has ended."""
    squatter = place.spawn("setpriv", "--reuid=65534", "--clear-groups", PYTHON, "-c", SQUAT, how)
    assert squatter.stdout is not None
    assert squatter.stdout.readline() == "there\n"
    place.spawn("sh", "-c", f"exec {iscsid} -f {' '.join(FILES)} > /run/lines 2>&1")
    until(lambda: "started!" in place.run("cat", "/run/lines")[1], "it guards")
    words = f"process {squatter.pid} of user 65534 sits on the socket of iscsid"
    until(lambda: words in place.run("cat", "/run/lines")[1], "a line about it")
    # Nothing is said to the user's process: who asks looks first.
    answer = place.ask("status")
    assert "daemon" not in answer
    if how == "listen":
        assert f"user 65534 (process {squatter.pid}) listens in its place and is told nothing" in answer["line"]
    squatter.kill()
    squatter.wait()
    until(lambda: "daemon" in place.ask("status"), "orders")
    assert "orders are taken now" in place.run("cat", "/run/lines")[1]


def test_a_daemon_of_roots_that_goes_on_as_another_user_is_no_squatter(place: Place, iscsid: str) -> None:
    other = place.spawn(PYTHON, "-c", SQUAT.replace("time.sleep", "import os; os.setuid(65534); time.sleep"), "listen")
    until(lambda: listens(place), "the socket")
    until(lambda: status_of(other.pid)["Uid"].split()[0] == "65534", "its other user")
    status, _, err = place.run(iscsid, *FILES)
    assert status == 1
    assert f"process {other.pid} (" in err
