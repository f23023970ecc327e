# SPDX-License-Identifier: LGPL-2.1-or-later
"""Interface and discovery records in the tree, and the links of discoveries to node records. No lock."""

from __future__ import annotations

from iscsiboot.database.names import NodeKey, parse_link_name, parse_portal_dir, usable
from iscsiboot.database.record import Record
from iscsiboot.database.tree import Folder, descend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WORK = ".iscsiboot"
"""Our folder in the root: temps, memories, what ``db check --fix`` puts aside. No program looks for records there."""

REMEMBERED = "discovered"
"""Folder in it for what a discovery found last; losing it loses no record."""

IFACES = "ifaces"
STATIC = "static"
FIRMWARE = "fw"
DISCOVERY = {"sendtargets": ("send_targets", "st_config"), "isns": ("isns", "isns_config")}
"""Kind of discovery record -> its folder, and the file in a server's folder."""

EXAMPLE = "iface.example"
"""What old releases put into ``ifaces/``; it is no interface."""


def iface_names(root: Folder, tell: Callable[[str], None]) -> list[str]:
    """Names of the stored interface records, sorted."""
    folder = root.sub(IFACES)
    if folder is None:
        return []
    names = []
    with folder:
        for entry in folder.entries():
            if entry.name == EXAMPLE:
                tell(f'Skipping deprecated "{folder.path}/{EXAMPLE}". Please remove it.')
            elif entry.kind == "file":
                names.append(entry.name)
            else:
                tell(f"{folder.path}/{entry.name}: a {entry.kind} is no interface and is passed over")
    return names


def read_iface(root: Folder, name: str) -> tuple[Record, list[str]] | None:
    """One stored interface record, None when there is none."""
    folder = root.sub(IFACES) if usable(name) else None
    if folder is None:
        return None
    with folder:
        data = folder.read(name)
    if data is None:
        return None
    record, notices = Record.parse("iface", data, path=f"{folder.path}/{name}")
    return record.changed({"iface.iscsi_ifacename": name}), notices


def discoveries(root: Folder, kind: str, tell: Callable[[str], None]) -> list[tuple[str, int]]:
    """Address and port of each server a discovery record is kept for, sorted."""
    where, config = DISCOVERY[kind]
    folder = root.sub(where)
    if folder is None:
        return []
    servers = []
    with folder:
        for entry in folder.entries():
            server = parse_portal_dir(entry.name)
            if server is None or server[2] >= 0:
                if parse_link_name(entry.name) is None:
                    tell(f"{folder.path}/{entry.name}: this is no discovery record and is passed over")
            elif entry.kind == "file" or (entry.kind == "folder" and _has(folder, entry.name, config)):
                servers.append(server[:2])
    return servers


def _has(folder: Folder, name: str, config: str) -> bool:
    below = folder.sub(name)
    if below is None:
        return False
    with below:
        return below.kind_of(config) == "file"


def read_discovery(root: Folder, kind: str, address: str, port: int) -> tuple[Record, list[str]] | None:
    """One discovery record, None when there is none. The first releases kept a file where the folder is now."""
    where, config = DISCOVERY[kind]
    server = f"{address},{port}"
    folder = root.sub(where) if usable(server) else None
    if folder is None:
        return None
    with folder:
        path = f"{folder.path}/{server}"
        if folder.kind_of(server) == "file":
            data = folder.read(server)
        else:
            below = folder.sub(server)
            if below is None:
                return None
            with below:
                path = f"{path}/{config}"
                data = below.read(config)
    if data is None:
        return None
    record, notices = Record.parse(kind, data, path=path)
    place = {"discovery.sendtargets.address": address, "discovery.sendtargets.port": str(port), "discovery.type": kind}
    return record.changed(place), notices


def links(root: Folder, *where: str) -> list[NodeKey]:
    """The records a folder of links names, sorted; links that lead to no record included."""
    if not all(usable(name) for name in where):
        return []
    folder = descend(root, *where)
    if folder is None:
        return []
    with folder:
        found = (parse_link_name(entry.name) for entry in folder.entries() if entry.kind == "link")
        return sorted(key for key in found if key is not None)


def read_remembered(root: Folder, name: str) -> Record | None:
    """A node record a discovery remembers by ``name``, None when there is none."""
    folder = descend(root, WORK, REMEMBERED) if usable(name) else None
    if folder is None:
        return None
    with folder:
        data = folder.read(name)
    return None if data is None else Record.parse("node", data, path=f"{folder.path}/{name}")[0]
