# SPDX-License-Identifier: LGPL-2.1-or-later
"""The loader's cache and configuration, against ldconfig's own view of this host and against broken bytes."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iscsiboot.initramfs.ldcache import BrokenCache, CacheEntry, conf_directories, parse_cache
from iscsiboot.initramfs.sysroot import Sysroot
from tests.unit.initramfs.elfmaker import cache

TWO = [("liba.so.1", "/lib/liba.so.1", 0), ("libb.so.2", "/opt/libb.so.2", 1 << 62)]


@pytest.mark.parametrize("old_format_first", [False, True], ids=["new-format", "behind-old-format"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_both_layouts_and_byte_orders(old_format_first: bool, order: str) -> None:
    data = cache(TWO, old_format_first=old_format_first, order=order)
    assert parse_cache(data) == tuple(CacheEntry(*entry) for entry in TWO)


def test_a_cache_without_the_byte_order_flag() -> None:
    """Before glibc 2.33 ldconfig left the flag zero."""
    for order in "<>":
        data = bytearray(cache(TWO, order=order))
        data[28] = 0
        assert [entry.soname for entry in parse_cache(bytes(data))] == ["liba.so.1", "libb.so.2"]


def test_this_hosts_cache_is_what_ldconfig_prints() -> None:
    printed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    theirs = []
    for line in printed.splitlines():
        if " => " in line:
            name, path = line.strip().split(" => ")
            theirs.append((name.split(" (")[0], path))
    ours = [(entry.soname, entry.path) for entry in parse_cache(Path("/etc/ld.so.cache").read_bytes())]
    assert theirs
    assert ours == theirs


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "neither magic"),
        (b"ld.so-1.7.0", "neither magic"),
        (b"ld.so-1.7.0\0" + bytes(4), "before 2.2"),
        (b"glibc-ld.so.cache1.1", "cut short"),
        (cache(TWO)[:-1], "announces"),
        (cache(TWO)[:60], "announces"),
    ],
    ids=["empty", "old-magic-only", "old-format-only", "magic-only", "text-cut", "table-cut"],
)
def test_broken_caches_name_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(BrokenCache, match=message):
        parse_cache(data)


@pytest.mark.parametrize("field", [4, 8], ids=["name", "path"])
def test_a_text_outside_the_file(field: int) -> None:
    data = bytearray(cache(TWO))
    struct.pack_into("<I", data, 48 + field, len(data) + 5)
    with pytest.raises(BrokenCache, match="library 0 at offset"):
        parse_cache(bytes(data))


@settings(deadline=None)
@given(st.data())
def test_any_change_gives_entries_or_a_finding(data: st.DataObject) -> None:
    raw = bytearray(cache(TWO, old_format_first=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_cache(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    except BrokenCache:
        pass


def tree(root: Path, files: dict[str, str]) -> Sysroot:
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return Sysroot(root)


def test_conf_follows_includes_in_order(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "etc/ld.so.conf": "# first\n/opt/first/\ninclude ld.so.conf.d/*.conf\n/opt/last /opt/first\nhwcap 1 x\n",
            "etc/ld.so.conf.d/b.conf": "/opt/b # trailing\n",
            "etc/ld.so.conf.d/a.conf": "/opt/a1:/opt/a2,/opt/a3\nrelative/path\n",
            "etc/ld.so.conf.d/c.txt": "/opt/never\n",
        },
    )
    assert conf_directories(root) == ("/opt/first", "/opt/a1", "/opt/a2", "/opt/a3", "/opt/b", "/opt/last")


def test_conf_that_includes_itself_ends(tmp_path: Path) -> None:
    assert conf_directories(tree(tmp_path, {"etc/ld.so.conf": "include /etc/ld.so.conf\n/opt/x\n"})) == ("/opt/x",)


def test_no_conf_is_no_directories(tmp_path: Path) -> None:
    assert conf_directories(Sysroot(tmp_path)) == ()
