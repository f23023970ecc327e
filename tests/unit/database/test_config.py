# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsid.conf: the defaults of records, the daemon's settings, and what is told about a bad line."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.database.config import CONFIG_MAX, Config, read_config
from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.keys import KINDS
from iscsiboot.database.record import discovery_defaults, node_defaults


def config(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "iscsid.conf"
    file.write_text(text)
    return read_config(str(file))


def test_without_a_file_everything_is_as_compiled_in(tmp_path: Path) -> None:
    read = read_config(str(tmp_path / "none" / "iscsid.conf"))
    assert not read.present
    assert read.problems == []
    assert read.node() == node_defaults()
    assert read.sendtargets() == discovery_defaults("sendtargets")
    assert read.isns() == discovery_defaults("isns")
    assert read.iface().get("iface.transport_name") == "tcp"
    assert read.iscsid("iscsid.startup") == ""
    assert read.iscsid("iscsid.safe_logout") == "No"
    with pytest.raises(KeyError):
        read.iscsid("node.startup")


def test_the_shipped_file_sets_what_the_table_says(tmp_path: Path) -> None:
    shipped = {key.name: key.shipped for rows in KINDS.values() for key in rows if key.shipped is not None}
    read = config(tmp_path, "".join(f"{name} = {value}\n" for name, value in shipped.items()))
    assert read.problems == []
    assert read.node().get("node.conn[0].timeo.login_timeout") == "15"
    assert read.node().get("node.session.initial_login_retry_max") == "8"
    assert read.iscsid("iscsid.startup") == "/bin/systemctl start iscsid.socket"


def test_one_name_may_be_a_default_of_several_kinds(tmp_path: Path) -> None:
    read = config(tmp_path, "node.session.auth.chap_algs = SHA256,MD5\niface.mtu = 9000\n")
    assert read.node().get("node.session.auth.chap_algs") == "SHA256,MD5"
    assert read.sendtargets().get("node.session.auth.chap_algs") == "SHA256,MD5"
    assert read.node().get("iface.mtu") == "9000"
    assert read.iface().get("iface.mtu") == "9000"


def test_the_last_line_of_a_record_key_and_the_first_of_the_daemons_counts(tmp_path: Path) -> None:
    read = config(
        tmp_path, "node.startup = manual\nnode.startup = automatic\niscsid.safe_logout = Yes\niscsid.safe_logout = No"
    )
    assert read.node().get("node.startup") == "automatic"
    assert read.iscsid("iscsid.safe_logout") == "Yes"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("node.startup = boot", 'node.startup: it takes manual, automatic or onboot; "manual" is used'),
        ("node.session.queue_depth = 0", "node.session.queue_depth: it takes a number from 1 to 1024"),
        ("node.session.cmds_max = lots", 'node.session.cmds_max: it takes a number from 2 to 2048; "128" is used'),
        ("node.session.Timeo.replacement_timeout = 5", "is node.session.timeo.replacement_timeout meant?"),
        ("node.foo = 1", 'unknown key "node.foo"'),
        ("node.startup", 'it has no "="'),
        ("node.startup =", "node.startup has no value"),
        ("node.startup=automatic", "open-iscsi would not read it"),
        ("iscsid.safe_logout = yes", "iscsid.safe_logout: it takes No or Yes"),
        ("node.session.auth.chap_algs = MD5,SHA512", '"SHA512" is unknown or repeated'),
    ],
)
def test_each_problem_names_file_line_key_and_range(tmp_path: Path, line: str, told: str) -> None:
    read = config(tmp_path, f"# first\n{line}\n")
    assert len(read.problems) == 1
    assert read.problems[0].startswith(f"{tmp_path}/iscsid.conf line 2: ")
    assert told in read.problems[0]


def test_problems_reach_who_asked(tmp_path: Path) -> None:
    file = tmp_path / "c"
    file.write_text("node.foo = 1\nnode.bar = 2\n")
    heard: list[str] = []
    assert read_config(str(file), notice=heard.append).problems == heard
    assert len(heard) == 2


def test_secrets_of_a_bad_line_are_not_told(tmp_path: Path) -> None:
    read = config(tmp_path, f"node.session.auth.password hunter2\nnode.session.auth.password_in = {'hunter2' * 50}\n")
    assert len(read.problems) == 2
    assert "hunter2" not in "".join(read.problems)


def test_links_are_followed_for_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("node.startup = automatic\n")
    (tmp_path / "iscsid.conf").symlink_to("real")
    assert read_config(str(tmp_path / "iscsid.conf")).node().get("node.startup") == "automatic"


def test_what_is_no_configuration_is_refused_in_one_line(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(CONFIG_MAX + 1)
    for path in (tmp_path, big, Path("/dev/zero")):
        with pytest.raises(DatabaseError) as caught:
            read_config(str(path))
        assert str(path) in caught.value.line()


def test_a_bad_last_line_leaves_the_compiled_in_value(tmp_path: Path) -> None:
    """Found by fuzzing: it emptied the interface's name."""
    read = config(
        tmp_path,
        "iface.iscsi_ifacename = i4\niface.iscsi_ifacename = a\x1bb\nnode.startup = onboot\nnode.startup = x\n",
    )
    assert read.node() == node_defaults()
    assert len(read.problems) == 2
