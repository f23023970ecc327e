# SPDX-License-Identifier: LGPL-2.1-or-later
"""The disk's recipe: what is in it, what is never in it, what its keys depend on. Building it is the boot tests'."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.qemu.harness import disk
from tests.qemu.harness.disk import DRACUT_ARGUMENTS, Variant, apt_sources, mmdebstrap_command, one
from tests.qemu.harness.errors import HarnessError


def test_no_peer_is_installed() -> None:
    assert not {"open-iscsi", "initramfs-tools", "dracut-network"} & set(disk.PACKAGES)


def test_the_projects_own_dependencies_are() -> None:
    assert {"python3-pyroute2", "python3-pyudev", "python3-pyelftools", "dracut"} <= set(disk.PACKAGES)


def test_command() -> None:
    argv = mmdebstrap_command(Path("/t"), [Path("/a.list"), Path("/b.sources")], "")
    assert argv[0] == "mmdebstrap"
    assert argv[-4:] == ["bookworm", "/t", "/a.list", "/b.sources"]
    assert f"--include={','.join(disk.PACKAGES)}" in argv
    assert not any(word.startswith("--aptopt") for word in argv)


def test_filters_keep_what_stands_in_both_lists() -> None:
    filters = [word for word in mmdebstrap_command(Path("/t"), [], "") if "path-" in word]
    last_exclude = max(place for place, word in enumerate(filters) if "path-exclude" in word)
    first_include = min(place for place, word in enumerate(filters) if "path-include" in word)
    assert last_exclude < first_include, "dpkg goes by the last filter that matches"
    assert any(word.endswith("kernel/drivers/scsi/*iscsi**") for word in filters)


def test_proxy_of_the_host_is_used() -> None:
    argv = mmdebstrap_command(Path("/t"), [], "http://localhost:3142/")
    assert '--aptopt=Acquire::http::Proxy "http://localhost:3142/"' in argv


def test_sources_of_this_suite_only(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://somewhere bookworm main\n")
    (parts / "debian.sources").write_text("Types: deb\nSuites: bookworm bookworm-updates\n")
    (parts / "other.list").write_text("deb http://elsewhere nodistro main\n")
    (parts / "old.sources.disabled").write_text("Suites: bookworm\n")
    assert apt_sources(tmp_path) == [tmp_path / "sources.list", parts / "debian.sources"]


def test_no_sources_is_no_error(tmp_path: Path) -> None:
    assert apt_sources(tmp_path / "none") == []


def test_every_variant_is_made_by_our_module_but_the_plain_one() -> None:
    assert set(DRACUT_ARGUMENTS) == set(Variant)
    for variant, arguments in DRACUT_ARGUMENTS.items():
        assert ("iscsiboot" in arguments) is (variant is not Variant.PLAIN)


def test_the_control_without_the_kernel_module_differs_in_that_only() -> None:
    normal, control = DRACUT_ARGUMENTS[Variant.SYSTEMD], DRACUT_ARGUMENTS[Variant.WITHOUT_ISCSI_TCP]
    assert control == (*normal, "--omit-drivers", "iscsi_tcp")


def test_the_shell_variant_has_no_systemd() -> None:
    arguments = DRACUT_ARGUMENTS[Variant.SHELL]
    assert "systemd" in arguments[arguments.index("--omit") + 1].split()


def test_base_key_changes_with_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    before = disk.base_key()
    assert before == disk.base_key()
    monkeypatch.setattr(disk, "PACKAGES", (*disk.PACKAGES, "less"))
    assert disk.base_key() != before


@pytest.mark.parametrize("names", [[], ["vmlinuz-1", "vmlinuz-2"]], ids=["none", "two"])
def test_one_file_is_expected(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(HarnessError, match=f"{len(names)} files match"):
        one(tmp_path, "vmlinuz-*")


def test_guest_files_exist() -> None:
    for source, target, mode in disk._GUEST_FILES:
        assert (Path(disk.__file__).parents[1] / "guest" / source).is_file()
        assert not target.startswith("/")
        assert mode in (0o644, 0o755)
