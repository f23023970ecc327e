# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's units and init scripts: that they are understood, and that each line that guards a root is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iscsiboot.daemon.holdoff import Lasting
from tests.shell.test_install import ROOT, make

UNITS = ("iscsid.service", "iscsid.socket", "iscsi.service")


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the installed units; the programs they name are there too."""
    place = tmp_path_factory.mktemp("units")
    run = make("install", f"PREFIX={place}")
    assert run.returncode == 0, run.stderr
    return place / "lib/systemd/system"


def lines(path: Path) -> list[str]:
    """Settings without comments."""
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def values(path: Path, name: str) -> list[str]:
    """All words of a setting."""
    return [word for line in lines(path) if line.startswith(f"{name}=") for word in line.partition("=")[2].split()]


def test_systemd_finds_nothing_wrong(units: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    paths = [str(units / unit) for unit in UNITS]
    run = subprocess.run(
        [program, "verify", "--man=no", "--recursive-errors=no", *paths], capture_output=True, text=True, check=False
    )
    complaints = [line for line in run.stderr.splitlines() if any(unit in line for unit in UNITS)]
    assert not complaints


def test_the_test_of_systemd_can_fail(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "iscsid.service"
    unit.write_text("[Service]\nType=notify\nExecStart=/bin/true\nRestart=whenever\nNonsense=1\n")
    run = subprocess.run([program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert "iscsid.service" in run.stderr


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("Type=notify", "ready is when every session is taken over"),
        ("KillMode=process", "the standby guards what the daemon leaves"),
        ("Restart=on-failure", "a daemon that was killed comes back"),
        ("StartLimitIntervalSec=0", "as often as it takes"),
        ("RestartSec=1", "data sessions have no standby"),
        ("TimeoutStartSec=infinity", "it may have to wait for the disk it is read from"),
        ("DefaultDependencies=no", "before the file systems, in an initramfs, to the very end"),
        ("OOMScoreAdjust=-1000", "the full memory of a stalled root must not end it"),
        ("LimitMEMLOCK=infinity", "locked memory"),
    ],
)
def test_the_daemon_is_not_ended_where_a_root_depends_on_it(units: Path, setting: str, why: str) -> None:
    assert setting in lines(units / "iscsid.service"), why


def test_what_only_a_change_of_the_unit_mends_is_not_tried_again(units: Path) -> None:
    assert set(values(units / "iscsid.service", "RestartPreventExitStatus")) == {str(int(item)) for item in Lasting}


def test_no_job_stops_the_daemon_at_a_shutdown(units: Path) -> None:
    """users.md 3: a root is written to until it is mounted read-only, which is after every unit's stop."""
    for unit in ("iscsid.service", "iscsid.socket"):
        assert not values(units / unit, "Conflicts")
        assert not values(units / unit, "PartOf")
        assert not values(units / unit, "BindsTo")
        assert not values(units / unit, "Requires"), "a required unit that stops would stop it"


def test_the_daemon_needs_no_script_and_no_file(units: Path) -> None:
    """clients.md 17: images have no start-up scripts, and dracut removes one by its exact text only."""
    text = (units / "iscsid.service").read_text()
    assert not values(units / "iscsid.service", "ExecStartPre")
    assert not [
        line for line in lines(units / "iscsid.service") if line.startswith(("ConditionPath", "RequiresMounts"))
    ]
    assert "EnvironmentFile" not in text


def test_the_daemon_waits_for_no_network_and_nothing_for_the_daemon(units: Path) -> None:
    """It takes over what is there; "online" may never come on a machine whose network is the one to be healed. And it
    is read from the disk it guards: a boot that waited for it could wait for long.
    """
    assert "network-online.target" not in values(units / "iscsid.service", "After")
    assert not values(units / "iscsid.service", "Before")
    assert "iscsid.service" not in values(units / "iscsi.service", "After")


HARMFUL = (
    *(
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateMounts",
        "RootDirectory",
        "ReadOnlyPaths",
        "TemporaryFileSystem",
    ),
    *("PrivateDevices", "PrivateNetwork", "PrivateUsers", "ProtectKernelModules", "ProtectKernelTunables"),
    *("ProtectControlGroups", "MemoryDenyWriteExecute", "DynamicUser", "User", "RuntimeDirectory", "IPAddressDeny"),
)


@pytest.mark.parametrize("name", HARMFUL)
def test_no_hardening_that_breaks_it(units: Path, name: str) -> None:
    """Mount namespaces hide the system's mounts, sysfs is written to, iscsi_tcp is loaded, ctypes makes a closure;
    a RuntimeDirectory would be removed when the daemon ends, with the state files of its sessions.
    """
    assert not values(units / "iscsid.service", name)


def test_what_it_needs_is_not_taken_from_it(units: Path) -> None:
    kept = set(values(units / "iscsid.service", "CapabilityBoundingSet"))
    assert {
        "CAP_SYS_ADMIN",
        "CAP_NET_ADMIN",
        "CAP_IPC_LOCK",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_NICE",
        "CAP_SYS_MODULE",
    } <= kept
    families = set(values(units / "iscsid.service", "RestrictAddressFamilies"))
    assert families == {"AF_UNIX", "AF_NETLINK", "AF_INET", "AF_INET6"}
    assert "mnt" in values(units / "iscsid.service", "RestrictNamespaces"), (
        "the standby has a mount namespace of its own"
    )


def test_the_socket_is_the_one_every_client_knows(units: Path) -> None:
    assert values(units / "iscsid.socket", "ListenStream") == ["@ISCSIADM_ABSTRACT_NAMESPACE"]
    assert values(units / "iscsid.socket", "WantedBy") == ["sockets.target"]


def test_the_socket_is_there_where_the_service_may_start_and_nowhere_else(units: Path) -> None:
    """A connection to a socket whose service's condition fails triggers it again and again, until both have failed."""
    conditions = [line for line in lines(units / "iscsid.service") if line.startswith("Condition")]
    assert conditions == ["ConditionVirtualization=!private-users"]
    assert [line for line in lines(units / "iscsid.socket") if line.startswith("Condition")] == conditions


def test_the_automatic_nodes_do_not_hold_up_the_boot(units: Path) -> None:
    (start,) = [line for line in lines(units / "iscsi.service") if line.startswith("ExecStart=")]
    assert start.endswith("/sbin/iscsiadm -m node --loginall=automatic -W")
    assert {"15", "21"} <= set(values(units / "iscsi.service", "SuccessExitStatus"))
    assert {"20", "33"} <= set(values(units / "iscsi.service", "RestartForceExitStatus")), "a slow daemon is none lost"
    assert "Type=exec" in lines(units / "iscsi.service"), "the order may have to wait for the daemon"
    assert "RemainAfterExit=yes" in lines(units / "iscsi.service"), "else there is nothing to stop at a shutdown"


def test_the_automatic_nodes_leave_after_the_mounts_and_while_the_daemon_is_there(units: Path) -> None:
    unit = units / "iscsi.service"
    assert "iscsid.socket" in values(unit, "After")
    assert {"remote-fs-pre.target", "remote-fs.target", "shutdown.target"} <= set(values(unit, "Before"))
    stops = [line for line in lines(unit) if line.startswith("ExecStop=")]
    assert [re.sub(r".*/iscsiadm ", "", line) for line in stops] == [
        *("-m node --logoutall=automatic", "-m node --logoutall=manual")
    ]
    assert all(line.startswith("ExecStop=-") for line in stops), "a session that is kept is no failure of the shutdown"
    assert "--force" not in "".join(stops)
    assert int(values(unit, "TimeoutStopSec")[0]) <= 90


# Without systemd. -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sysv")
    run = make("install-init", f"PREFIX={place}", f"SYSCONFDIR={place}/etc")
    assert run.returncode == 0, run.stderr
    return place / "etc/init.d/iscsid"


def process(place: Path, name: str) -> Path:
    """A program that does nothing but have this name: its argument is how many seconds."""
    program = place / "process" / name
    program.parent.mkdir(exist_ok=True)
    shutil.copy("/bin/sleep", program)
    return program


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process that has got the number a killed daemon left behind in its file."""
    running = subprocess.Popen(["sleep", "60"])
    (tmp_path / "pid").write_text(f"{running.pid}\n")
    yield running
    assert running.poll() is None, "it was ended in the daemon's place"
    running.kill()
    running.wait()


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process called as the standby is."""
    running = subprocess.Popen([process(tmp_path, "iscsiboot-keeper"), "60"])
    while Path(f"/proc/{running.pid}/comm").read_text() != "iscsiboot-keepe\n":
        assert running.poll() is None
    yield running
    running.kill()
    running.wait()


@pytest.fixture
def call(script: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the plain script with a daemon and an iscsiadm that write down how they are called."""
    process(tmp_path, "iscsid")
    for name, body in (
        ("iscsid", '"$PLACE/process/iscsid" 60 > /dev/null 2>&1 & echo $! > "$PLACE/pid"'),
        ("iscsiadm", ":"),
    ):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "$PLACE/calls"\n{body}\n')
        program.chmod(0o755)

    environ = {"PATH": "/usr/bin:/bin", "PLACE": str(tmp_path), "ISCSID_PIDFILE": str(tmp_path / "pid")}
    environ |= {"ISCSID": str(tmp_path / "iscsid"), "ISCSIADM": str(tmp_path / "iscsiadm")}
    environ |= {"ISCSID_OMITDIR": str(tmp_path / "omit")}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["dash", str(script), *words],
            capture_output=True,
            text=True,
            check=False,
            env=environ,
        )

    return call


def test_the_plain_script_starts_stops_and_tells(
    call: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert call("status").returncode == 3
    assert call("start").returncode == 0
    assert call("status").stdout.startswith("iscsid is running, pid ")
    first = (tmp_path / "pid").read_text()
    assert call("start").stdout.startswith("iscsid is running already")
    assert call("restart").returncode == 0
    assert (tmp_path / "pid").read_text() != first
    assert call("stop").returncode == 0
    assert call("status").returncode == 3
    assert call("stop").returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls.count("iscsid ") == 2
    assert calls[1] == "iscsiadm -m node --loginall=automatic -W"
    assert calls[-2:] == ["iscsiadm -m node --logoutall=automatic", "iscsiadm -m node --logoutall=manual"]


def test_the_plain_script_takes_no_other_process_for_the_daemon(
    call: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    left = (tmp_path / "pid").read_text()
    assert call("status").returncode == 3
    assert call("stop").returncode == 0
    assert call("reload").returncode != 0
    assert call("start").returncode == 0
    assert (tmp_path / "pid").read_text() != left
    assert stranger.poll() is None
    assert call("stop").returncode == 0


def test_the_plain_script_has_daemon_and_guard_spared_at_a_shutdown(
    call: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, guard: subprocess.Popen[bytes]
) -> None:
    """Debian's sendsigs puts every number in every file of /run/sendsigs.omit.d behind killall5's -o."""
    assert call("start").returncode == 0
    assert not (tmp_path / "omit").exists(), "no folder, no sendsigs"
    (tmp_path / "omit").mkdir()
    assert call("start").returncode == 0
    daemon = (tmp_path / "pid").read_text()
    assert omitted(tmp_path / "omit") >= {int(daemon), guard.pid}
    (tmp_path / "omit/iscsid-standby").unlink()
    assert call("stop").returncode == 0
    (tmp_path / "pid").unlink()  # as the daemon does
    assert guard.pid in omitted(tmp_path / "omit")
    (tmp_path / "omit/iscsid-standby").unlink()
    assert call("stop").returncode == 0
    assert guard.pid in omitted(tmp_path / "omit"), "a guard without a daemon, the keeper of the initramfs perhaps"


def omitted(folder: Path) -> set[int]:
    """What sendsigs reads: plain files and what links lead to."""
    return {int(word) for path in folder.iterdir() if path.is_file() for word in path.read_text().split()}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_user_is_not_spared_by_the_name_of_his_process(
    call: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "omit").mkdir()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where he may read it
        Path(folder).chmod(0o755)
        program = shutil.copy(process(tmp_path, "iscsiboot-keeper"), folder)
        with subprocess.Popen(["setpriv", "--reuid=65534", "--clear-groups", program, "60"]) as running:
            while Path(f"/proc/{running.pid}/comm").read_text() != "iscsiboot-keepe\n":
                assert running.poll() is None
            assert call("stop").returncode == 0
            assert running.pid not in omitted(tmp_path / "omit")
            running.kill()


SHUTDOWN = """setsid "$PLACE/process/iscsiboot-keeper" 60 &
setsid "$PLACE/process/another" 60 &
sleep 0.2
if [ "$SPARING" ]; then dash "$SCRIPT" stop; fi
omit=
for number in $(cat "$ISCSID_OMITDIR"/* 2> /dev/null); do omit="$omit -o $number"; done
killall5 -9 $omit
sleep 0.2
cat /proc/[0-9]*/comm
"""
"""A shutdown as sendsigs does it, in a process namespace."""


@pytest.mark.interop
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("killall5") is None, reason="needs root and killall5")
@pytest.mark.parametrize("sparing", [True, False])
def test_a_shutdown_ends_the_guard_unless_it_is_spared(script: Path, tmp_path: Path, sparing: bool) -> None:
    process(tmp_path, "iscsiboot-keeper")
    process(tmp_path, "another")
    (tmp_path / "omit").mkdir()
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PLACE": str(tmp_path), "ISCSID_PIDFILE": str(tmp_path / "pid")}
    environ |= {"ISCSID_OMITDIR": str(tmp_path / "omit"), "SCRIPT": str(script), "SPARING": "1" if sparing else ""}
    run = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "dash", "-c", SHUTDOWN],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
    )
    left = run.stdout.splitlines()
    assert "dash" in left, run.stderr
    assert "another" not in left
    assert ("iscsiboot-keepe" in left) is sparing


def test_the_plain_script_knows_its_words(call: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert call("nonsense").returncode == 2
    assert "start|stop|restart|reload|status" in call().stderr


OPENRC = """\
ebegin() { echo "$*"; }
einfo() { echo "$*"; }
eerror() { echo "$*"; }
ewarn() { echo "$*"; }
eend() { [ "$1" = 0 ] || echo "FAILED $2"; return "$1"; }
service_started() { [ -e "$PLACE/started" ]; }
. "$SCRIPT"
rundir=$PLACE/run
killprocs=$PLACE/killprocs
case $RC_CMD in
    restart) stop && start ;;
    *) "$RC_CMD" ;;
esac
"""
"""OpenRC's own part: its words, and what it does with the functions of a script (openrc-run(8), RC_CMD)."""

SLOW_DAEMON = """\
if [ -e "$PLACE/pid" ] && kill -0 "$(cat "$PLACE/pid")" 2> /dev/null; then exit 1; fi
python3 -c 'import ctypes, os, signal, sys, time
ctypes.CDLL(None).prctl(15, b"iscsid")
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1.5), os._exit(0)))
open(sys.argv[1], "w").write(f"{os.getpid()}\\n")
while True: signal.pause()' "$PLACE/pid" > /dev/null 2>&1 &
while [ "$(cat "$PLACE/pid" 2> /dev/null)" != "$!" ]; do sleep 0.05; done
"""
"""A daemon that takes a while to end, and that does not start beside another."""


@pytest.fixture
def rc_service(tmp_path: Path) -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    """Run OpenRC's script as rc-service does."""
    run = make("install-init", f"PREFIX={tmp_path}", f"SYSCONFDIR={tmp_path}/etc", "INIT=openrc")
    assert run.returncode == 0, run.stderr
    (tmp_path / "sbin").mkdir(exist_ok=True)
    for name, body in (("iscsid", SLOW_DAEMON), ("iscsiadm", "")):
        program = tmp_path / "sbin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "$PLACE/calls"\n{body}\n')
        program.chmod(0o755)

    def rc_service(word: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": "/usr/bin:/bin", "PLACE": str(tmp_path), "RC_CMD": word}
        environ |= {"SCRIPT": str(tmp_path / "etc/init.d/iscsid"), "ISCSID_PIDFILE": str(tmp_path / "pid")}
        return subprocess.run(["dash", "-c", OPENRC], capture_output=True, text=True, check=False, env=environ)

    yield rc_service
    rc_service("stop")


def test_a_restart_by_openrc_waits_for_the_end_and_keeps_the_sessions(
    rc_service: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert rc_service("start").returncode == 0
    first = (tmp_path / "pid").read_text()
    (tmp_path / "calls").unlink()
    restart = rc_service("restart")
    assert restart.returncode == 0, restart.stdout + restart.stderr
    assert (tmp_path / "pid").read_text() != first
    assert rc_service("status").returncode == 0
    assert (tmp_path / "calls").read_text().splitlines() == ["iscsid ", "iscsiadm -m node --loginall=automatic -W"]


def test_a_stop_by_openrc_ends_the_daemon_and_the_sessions(
    rc_service: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert rc_service("start").returncode == 0
    (tmp_path / "calls").unlink()
    assert rc_service("stop").returncode == 0
    assert rc_service("status").returncode == 3, "it is over when stop is"
    logouts = [f"iscsiadm -m node --logoutall={which}" for which in ("automatic", "manual")]
    assert (tmp_path / "calls").read_text().splitlines() == logouts
    assert rc_service("stop").returncode == 0, "there is nothing to stop"
    assert rc_service("restart").returncode == 0


def test_a_start_by_openrc_beside_a_running_daemon_is_none_and_no_failure(
    rc_service: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Somebody has started it by hand, or a boot script before OpenRC's."""
    assert rc_service("start").returncode == 0
    daemon = (tmp_path / "pid").read_text().strip()
    (tmp_path / "calls").unlink()
    again = rc_service("start")
    assert (again.returncode, again.stdout) == (0, f"iscsid is running already, pid {daemon}\n")
    assert (tmp_path / "calls").read_text().splitlines() == ["iscsiadm -m node --loginall=automatic -W"]
    assert rc_service("status").stdout == f"iscsid is running, pid {daemon}\n"


def test_openrcs_status_tells_stopped_from_crashed(
    rc_service: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert rc_service("status").returncode == 3
    (tmp_path / "started").touch()
    assert rc_service("status").returncode == 32


def test_openrcs_script_takes_no_other_process_for_the_daemon(
    rc_service: Callable[[str], subprocess.CompletedProcess[str]], stranger: subprocess.Popen[bytes]
) -> None:
    assert rc_service("status").returncode == 3
    assert rc_service("stop").returncode == 0
    assert stranger.poll() is None


def test_openrcs_script_names_the_guard_for_killprocs_and_warns_where_that_is_not_read(
    rc_service: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path, guard: subprocess.Popen[bytes]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "killprocs").write_text('#killall5_opts="$(cat run/killall5_opts)"\nkillall5_opts=""\n')
    started = rc_service("start")
    assert started.returncode == 0
    line = f'killall5_opts="$(cat {tmp_path}/run/killall5_opts 2>/dev/null)"'
    assert line in started.stdout.splitlines()
    with (tmp_path / "killprocs").open("a") as settings:
        settings.write(line + "\n")
    (tmp_path / "run/killall5_opts").unlink()
    stopped = rc_service("stop")
    assert stopped.returncode == 0
    assert "killall5_opts" not in stopped.stdout
    command = f'. "{tmp_path}/killprocs"; echo "$killall5_opts"'
    said = subprocess.run(["dash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert f"-o {guard.pid} " in said.replace("\n", " "), "as killprocs gives them to kill_all"


@pytest.mark.parametrize("init", ["sysv", "openrc"])
def test_init_scripts_are_installed_on_request_only(tmp_path: Path, init: str) -> None:
    place = (f"DESTDIR={tmp_path}", "PREFIX=/usr", f"INIT={init}")
    assert make("install-init", *place).returncode == 0
    text = (tmp_path / "etc/init.d/iscsid").read_text()
    assert "@SBINDIR@" not in text
    assert "/usr/sbin/iscsid" in text
    assert subprocess.run(["dash", "-n", str(tmp_path / "etc/init.d/iscsid")], check=False).returncode == 0
    assert make("uninstall", *place).returncode == 0
    assert not (tmp_path / "etc/init.d/iscsid").exists()


def test_another_init_is_refused(tmp_path: Path) -> None:
    run = make("install-init", f"DESTDIR={tmp_path}", "PREFIX=/usr", "INIT=runit")
    assert run.returncode != 0
    assert "INIT is openrc or sysv, not runit" in run.stderr


@pytest.mark.parametrize("name", ["iscsid.sysv.in", "iscsid.openrc.in"])
def test_shellcheck_passes_them(name: str, tmp_path: Path) -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    script = tmp_path / "script.sh"
    script.write_text((ROOT / "init" / name).read_text().replace("#!/sbin/openrc-run", "#!/bin/sh", 1))
    run = subprocess.run([program, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
