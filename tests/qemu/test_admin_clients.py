# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real clients with our iscsiadm in a guest: os-brick from PyPI on one path and on two, libvirt's iSCSI pool."""

from __future__ import annotations

from typing import Any

import pytest

from tests.qemu.admin.clients import run_clients
from tests.qemu.admin.clients_agent import CHAP_TARGET, POOL_INITIATOR, PORTALS, TARGET
from tests.qemu.admin.guest import INITIATOR
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory

pytestmark = [pytest.mark.boot, pytest.mark.root]

SECONDS = 900.0
DISK_BYTES = 8 << 20
ADDRESSES = [portal.rpartition(":")[0] for portal in PORTALS]


@pytest.fixture(scope="module")
def seen(laboratory: Laboratory) -> dict[str, dict[str, Any]]:
    """One guest for all clients."""
    return run_clients(laboratory.cache, seconds=SECONDS, log=laboratory.log_path("admin-clients"), tell=tell_stderr)


def said(seen: dict[str, dict[str, Any]], check: str) -> dict[str, Any]:
    """What the guest saw in a check; the client's own words when it failed."""
    assert "failed" not in seen[check], seen[check]["failed"]
    return seen[check]


def test_os_brick_finds_the_word_it_greps_for(seen: dict[str, dict[str, Any]]) -> None:
    assert said(seen, "os_brick_manual_scan")["manual scan"] is True


@pytest.mark.parametrize(
    ("check", "target"),
    [pytest.param("os_brick_single", TARGET, id="open"), pytest.param("os_brick_chap", CHAP_TARGET, id="chap")],
)
def test_os_brick_attaches_and_detaches_one_path(seen: dict[str, dict[str, Any]], check: str, target: str) -> None:
    """With a scan by hand only the asked LUN comes; nothing is left when it is gone."""
    found = said(seen, check)
    assert found["sessions"] == [f"{target} {ADDRESSES[0]}"]
    assert found["disks"] == [found["real"].removeprefix("/dev/")]
    assert found["size"] == DISK_BYTES
    assert found["paths"]
    assert found["records"] == [f"/etc/iscsi/nodes/{target}/{ADDRESSES[0]},3260"], "it gives no tag: the old layout"
    assert found["sessions after"] == []
    assert found["records after"] == []


def test_os_brick_attaches_and_detaches_two_paths(seen: dict[str, dict[str, Any]]) -> None:
    found = said(seen, "os_brick_multipath")
    assert sorted(found["sessions"]) == [f"{TARGET} {address}" for address in ADDRESSES]
    assert found["real"].startswith("/dev/dm-")
    assert len(found["disks"]) == len(PORTALS)
    assert found["size"] == DISK_BYTES
    assert found["sessions after"] == []
    assert found["records after"] == []


@pytest.mark.parametrize(
    ("check", "initiator"),
    [
        pytest.param("libvirt_pool", INITIATOR, id="plain"),
        pytest.param("libvirt_pool_initiator", POOL_INITIATOR, id="own-initiator"),
    ],
)
def test_libvirt_runs_an_iscsi_pool(seen: dict[str, dict[str, Any]], check: str, initiator: str) -> None:
    """Discovery, a session by the shortened option names libvirt uses, the volume, a refresh, the end."""
    found = said(seen, check)
    assert f"<device path='{TARGET}'/>" in found["found"]
    assert found["sessions"] == [f"{TARGET} {ADDRESSES[0]}"]
    assert found["names"] == [initiator]
    assert f"ip-{PORTALS[0]}-iscsi-{TARGET}-lun-1" in found["volumes"]
    assert found["refreshed"] == found["volumes"]
    assert found["sessions after"] == []
