# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-s``: byte for byte what 2.1.8 printed of counters a scripted daemon gave it."""

from __future__ import annotations

import json
from pathlib import Path

from iscsiboot.admin.json_out import finish
from iscsiboot.admin.stats import print_stats
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from tests.unit.admin.scripted_runner import ScriptedRunner, Streams, statistics
from tests.unit.admin.test_logout import row

SEEN = """\
Stats for session [sid: 2, target: iqn.2000-01.a:t3, portal: 10.0.0.1,3299]
iSCSI SNMP:
\ttxdata_octets: 0
\trxdata_octets: 1
\tnoptx_pdus: 2
\tscsicmd_pdus: 3
\ttmfcmd_pdus: 4
\tlogin_pdus: 5
\ttext_pdus: 6
\tdataout_pdus: 7
\tlogout_pdus: 8
\tsnack_pdus: 9
\tnoprx_pdus: 10
\tscsirsp_pdus: 11
\ttmfrsp_pdus: 12
\ttextrsp_pdus: 13
\tdatain_pdus: 14
\tlogoutrsp_pdus: 15
\tr2t_pdus: 16
\tasync_pdus: 17
\trjt_pdus: 18
\tdigest_err: 19
\ttimeout_err: 20
iSCSI Extended:
\ttx_sendpage_failures: 5
\teh_abort_cnt: 7
"""


def test_the_layout(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    runner = ScriptedRunner()
    runner.counters[2] = statistics(("tx_sendpage_failures", 5), ("eh_abort_cnt", 7))
    made = row(2, "iqn.2000-01.a:t3", port=3299)
    assert print_stats([made], streams.context, runner=runner) == 0
    assert streams.out.getvalue() == SEEN
    assert streams.err.getvalue() == ""


def test_without_counters_of_the_drivers_own_there_is_no_heading(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    print_stats([row(1, "t")], streams.context, runner=ScriptedRunner())
    assert "Extended" not in streams.out.getvalue()


def test_one_that_is_gone_does_not_hide_the_others(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    runner = ScriptedRunner()
    gone = {"stage": Stage.SESSION, "subject": "session 1"}
    runner.counters[1] = IscsiBootError("the session is gone", exit_code=ExitCode.SESS_NOT_FOUND, **gone)  # type: ignore[arg-type]
    runner.counters[3] = IscsiBootError("odd", exit_code=ExitCode.INTERNAL, **gone)  # type: ignore[arg-type]
    rows = [row(1, "t1"), row(2, "t2"), row(3, "t3")]
    assert print_stats(rows, streams.context, runner=runner) == 2
    assert streams.out.getvalue().count("Stats for session") == 1
    assert streams.lines[0] == (
        "E iscsiadm: [sid: 1, target: t1, portal: 10.0.0.1,3260]: session: session 1: the session is gone"
    )
    assert streams.lines[-1] == "E iscsiadm: Could not execute operation on all sessions: session not found"


def test_json(tmp_path: Path) -> None:
    streams = Streams(tmp_path, json=True)
    runner = ScriptedRunner()
    runner.counters[2] = statistics(("eh_abort_cnt", 7))
    code = print_stats([row(2, "t")], streams.context, runner=runner)
    finish(streams.context, code)
    made = json.loads(streams.out.getvalue())
    (item,) = made["objects"]
    assert (made["kind"], item["snmp"]["timeout_err"], item["extended"]) == ("statistics", 20, {"eh_abort_cnt": 7})
