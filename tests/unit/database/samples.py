# SPDX-License-Identifier: LGPL-2.1-or-later
"""Texts of the real program and small databases for the tests in this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.database import commit
from iscsiboot.database.files import Files
from iscsiboot.database.names import NodeKey, Source
from iscsiboot.database.record import Record, discovery_defaults, iface_defaults, node_defaults
from iscsiboot.database.store import Database

PEER = Path(__file__).parent / "peer"
TARGET = "iqn.2000-01.a:t1"
KEY = NodeKey(TARGET, "10.0.0.1", 3260, 1, "default")


def peer_text(name: str) -> str:
    """What open-iscsi wrote or printed; peer/README says how it was got."""
    return (PEER / f"{name}.txt").read_text()


def node(target: str = TARGET, address: str = "10.0.0.1", tag: int = 1, **more: str) -> Record:
    """A node record. Names in ``more`` have ``__`` for a dot and leave out ``node.``."""
    place = {"node.name": target, "node.conn[0].address": address, "node.tpgt": str(tag)}
    values = {f"node.{name.replace('__', '.')}": text for name, text in more.items()}
    return node_defaults().changed({**place, **values})


def server(kind: str = "sendtargets", address: str = "10.0.0.9", port: int = 3260) -> Record:
    """A discovery record."""
    return discovery_defaults(kind).changed(
        {"discovery.sendtargets.address": address, "discovery.sendtargets.port": str(port)}
    )


class Quick(Files):
    """Waits for no disk: what these tests look at is in the page cache."""

    def create(self, folder: int, name: str, data: bytes, *, durable: bool) -> None:
        super().create(folder, name, data, durable=False)

    def sync(self, fd: int) -> None:
        pass

    def sync_all(self, fd: int) -> bool:
        return True


def filled(root: Path) -> Database:
    """A database with a record of every kind."""
    database = Database(str(root))
    with database.change(files=Quick()) as change:
        change.put_node(node(), source=Source("static"))
        change.put_node(node(address="10.0.0.2", tag=-1), source=Source("static"))
        change.put_node(node("iqn.2000-01.a:t2"), source=Source("sendtargets", "10.0.0.9", 3260))
        change.put_iface(iface_defaults("if4"))
        change.put_discovery(server())
        change.put_discovery(server("isns", port=3205))
    return database


def numbered(root: Path, count: int) -> Database:
    """A database with so many node records, of the targets ``iqn.00``, ``iqn.01``, ..."""
    database = Database(str(root))
    with database.change(files=Quick()) as change:
        for at in range(count):
            change.put_node(node(f"iqn.{at:02}"))
    return database


def batches(monkeypatch: pytest.MonkeyPatch, size: int, *, many: int) -> None:
    """Records go in batches of ``size``; a change of ``many`` is a large one, whose old files are used again."""
    monkeypatch.setattr(commit, "BATCH", size)
    monkeypatch.setattr(commit, "MANY", many)


def tree(root: Path) -> dict[str, str]:
    """Every file, link and folder below ``root`` but our own folder: path -> contents, ``-> target`` or ``/``."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(".iscsiboot"):
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = path.read_text() if path.is_file() else "/"
    return found


def work(root: Path) -> list[str]:
    """What is in our own folder."""
    folder = root / ".iscsiboot"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
