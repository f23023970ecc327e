# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot db check``: what in the tree is not as it should be, and mending what is safe to mend.

Safe means that no record that can be read is lost: a link that leads nowhere, an empty folder, a leftover of a killed
program are removed, modes are tightened, a missing link is made; what is no record is moved to
``<root>/.iscsiboot/damaged/``, never deleted. Everything else is told and left to its owner.
"""

from __future__ import annotations

import os
import stat

from iscsiboot.database import nodes, reading
from iscsiboot.database.change import DISCOVERY_TYPE
from iscsiboot.database.commit import Commit
from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.files import FILE_MODE, FOLDER_MODE, Files
from iscsiboot.database.finding import Finding
from iscsiboot.database.lock import is_locked, lock
from iscsiboot.database.names import NodeKey, parse_link_name, parse_portal_dir
from iscsiboot.database.peer_lock import remove_lock, stale_lock
from iscsiboot.database.record import SPECIAL_IFACES, Record
from iscsiboot.database.temps import TEMP
from iscsiboot.database.tree import Entry, Folder, descend, open_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DAMAGED = "damaged"
"""Where what is no record is put, in our folder."""


class Checker:
    """One walk over the tree below an open root; with ``fix`` the writers' lock must be held."""

    def __init__(self, root: Folder, *, fix: bool = False, files: Files | None = None) -> None:
        self._root = root
        self._fix = fix
        self._files = files or Files()
        self.findings: list[Finding] = []
        self.records = 0
        """How many records were read."""
        self._linked: set[tuple[str, ...]] = set()

    def run(self) -> list[Finding]:
        """Look at everything; what was found, in the order of the tree."""
        self._leftovers()
        found = self._nodes()
        self._ifaces()
        for kind in reading.DISCOVERY:
            self._servers(kind, found)
        for name in (reading.STATIC, reading.FIRMWARE):
            self._links((name,), found)
        self._missing_links(found)
        return self.findings

    def _tell(self, kind: str, path: str, text: str, mend: Callable[[], str] | None = None) -> None:
        """One finding; ``mend`` does something about it and says what. A repair that fails is told."""
        mended = ""
        if mend is not None and self._fix:
            try:
                mended = mend()
            except (OSError, DatabaseError) as error:
                text += f"; it could not be mended: {error.strerror if isinstance(error, OSError) else error.cause}"
        self.findings.append(Finding(kind, path, text, mended))

    def _sub(self, folder: Folder, name: str) -> Folder | None:
        """A folder below one, None when it is missing or something else, which is told."""
        try:
            return folder.sub(name)
        except DatabaseError as error:
            text = f"{error.cause}; {error.hint}" if error.hint else error.cause
            self._tell("damaged", f"{folder.path}/{name}", text)
            return None

    def _mode(self, folder: Folder, entry: Entry) -> None:
        """Nobody but the owner may read records: they hold secrets."""
        try:
            mode = stat.S_IMODE(os.stat(entry.name, dir_fd=folder.fd, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return
        wanted = FOLDER_MODE if entry.kind == "folder" else FILE_MODE
        if entry.kind in ("file", "folder") and mode & 0o077:

            def mend() -> str:
                self._files.chmod(folder.fd, entry.name, wanted)
                return f"now {wanted:04o}"

            self._tell("mode", f"{folder.path}/{entry.name}", f"its mode is {mode:04o}, others may read it", mend)

    def _set_aside(self, folder: Folder, name: str) -> Callable[[], str]:
        """What moves something that is no record out of the way."""

        def mend() -> str:
            with self._damaged() as place:
                relative = f"{folder.path}/{name}".removeprefix(f"{self._root.path}/").replace("/", "_")[:200]
                number = 1
                while place.kind_of(f"{number}-{relative}"):
                    number += 1
                self._files.rename(folder.fd, name, place.fd, f"{number}-{relative}")
                return f"moved to {place.path}/{number}-{relative}"

        return mend

    def _damaged(self) -> Folder:
        """The open folder for what is set aside, made where missing."""
        if not self._root.kind_of(reading.WORK):
            self._files.mkdir(self._root.fd, reading.WORK)
        work = self._root.sub(reading.WORK)
        if work is None:
            raise DatabaseError("our folder went away", subject=f"{self._root.path}/{reading.WORK}")
        with work:
            if not work.kind_of(DAMAGED):
                self._files.mkdir(work.fd, DAMAGED)
            place = work.sub(DAMAGED)
        if place is None:
            raise DatabaseError("the folder for damaged records went away", subject=f"{work.path}/{DAMAGED}")
        return place

    def _empty(self, above: Folder, folder: Folder, name: str) -> None:
        """Tell a folder with nothing in it."""
        if not folder.entries():

            def mend() -> str:
                self._files.rmdir(above.fd, name)
                return "removed"

            self._tell("empty", folder.path, "nothing is in this folder", mend)

    # Nodes

    def _nodes(self) -> dict[NodeKey, Record]:
        """Every node record; those that can be read are handed back."""
        found: dict[NodeKey, Record] = {}
        top = self._sub(self._root, nodes.NODES)
        if top is None:
            return found
        with top:
            self._mode(self._root, Entry(nodes.NODES, "folder"))
            for entry in top.entries():
                target = self._sub(top, entry.name) if entry.kind == "folder" else None
                if target is None:
                    self._tell("foreign", f"{top.path}/{entry.name}", f"a {entry.kind} has no place here")
                    continue
                with target:
                    self._mode(top, entry)
                    self._portals(target, entry.name, found)
                    self._empty(top, target, entry.name)
        return found

    def _portals(self, folder: Folder, target: str, found: dict[NodeKey, Record]) -> None:
        entries = folder.entries()
        files = {entry.name for entry in entries if entry.kind == "file"}
        for entry in entries:
            portal = parse_portal_dir(entry.name)
            path = f"{folder.path}/{entry.name}"
            if portal is None or entry.kind == "link":
                self._tell("foreign", path, "this is no portal")
            elif entry.kind == "folder":
                self._mode(folder, entry)
                if f"{portal[0]},{portal[1]}" in files:
                    self._tell(
                        "old-style", path, f"the same portal has a record without a tag: {portal[0]},{portal[1]}"
                    )
                below = self._sub(folder, entry.name)
                if below is not None:
                    with below:
                        for file in below.entries():
                            self._node(below, file, NodeKey(target, *portal, file.name), found)
                        self._empty(folder, below, entry.name)
            elif portal[2] >= 0:
                self._tell("damaged", path, f"a {entry.kind} has a portal's place", self._set_aside(folder, entry.name))
            else:
                key = nodes.old_style_key(self._root, NodeKey(target, *portal)) or NodeKey(target, *portal)
                self._node(folder, entry, key, found)

    def _node(self, folder: Folder, entry: Entry, key: NodeKey, found: dict[NodeKey, Record]) -> None:
        path = f"{folder.path}/{entry.name}"
        self._mode(folder, entry)
        try:
            if entry.kind != "file":
                raise DatabaseError(f"a {entry.kind} is no record")
            record = nodes.read_node(self._root, key)
        except DatabaseError as error:
            self._tell("damaged", path, error.cause, self._set_aside(folder, entry.name))
            return
        if record is not None:
            self.records += 1
            self._notices(record.notices, path)
            found[key] = record.record

    def _notices(self, notices: list[str], path: str) -> None:
        """What reading a record told."""
        for notice in notices:
            kind = "contradiction" if "its place says" in notice else "value"
            self._tell(kind, path, notice.removeprefix(path).lstrip(": "))

    # Interfaces and discoveries

    def _ifaces(self) -> None:
        folder = self._sub(self._root, reading.IFACES)
        if folder is None:
            return
        with folder:
            self._mode(self._root, Entry(reading.IFACES, "folder"))
            for entry in folder.entries():
                path = f"{folder.path}/{entry.name}"
                if entry.name in SPECIAL_IFACES or entry.name == reading.EXAMPLE:
                    self._tell("foreign", path, "no program reads an interface of this name from a file")
                    continue
                self._mode(folder, entry)
                try:
                    found = None if entry.kind == "folder" else reading.read_iface(self._root, entry.name)
                    if found is None:
                        raise DatabaseError(f"a {entry.kind} is no record")
                except DatabaseError as error:
                    self._tell("damaged", path, error.cause, self._set_aside(folder, entry.name))
                    continue
                self.records += 1
                self._notices(found[1], path)

    def _servers(self, kind: str, found: dict[NodeKey, Record]) -> None:
        """The discovery records of one kind, and the links beside them."""
        where, config = reading.DISCOVERY[kind]
        folder = self._sub(self._root, where)
        if folder is None:
            return
        with folder:
            self._mode(self._root, Entry(where, "folder"))
            for entry in folder.entries():
                portal = parse_portal_dir(entry.name)
                if entry.kind == "link":
                    continue
                if portal is None or portal[2] >= 0:
                    self._tell("foreign", f"{folder.path}/{entry.name}", "this is no server")
                    continue
                self._mode(folder, entry)
                try:
                    record = reading.read_discovery(self._root, kind, portal[0], portal[1])
                except DatabaseError as error:
                    self._damaged_server(folder, entry, config, error)
                    continue
                if record is not None:
                    self.records += 1
                    self._notices(record[1], f"{folder.path}/{entry.name}")
                self._server(folder, entry, config, found)
        self._links((where,), found, servers=True)

    def _damaged_server(self, folder: Folder, entry: Entry, config: str, error: DatabaseError) -> None:
        """A server whose record is none: the record goes, a folder with its links stays."""
        below = self._sub(folder, entry.name) if entry.kind == "folder" else None
        if below is None:
            self._tell("damaged", f"{folder.path}/{entry.name}", error.cause, self._set_aside(folder, entry.name))
            return
        with below:
            self._tell("damaged", f"{below.path}/{config}", error.cause, self._set_aside(below, config))

    def _server(self, folder: Folder, entry: Entry, config: str, found: dict[NodeKey, Record]) -> None:
        below = self._sub(folder, entry.name) if entry.kind == "folder" else None
        if below is None:
            return
        with below:
            if below.kind_of(config) == "file":
                self._mode(below, Entry(config, "file"))
            self._links((folder.path.rpartition("/")[2], entry.name), found, config=config)
            self._empty(folder, below, entry.name)

    # Links

    def _links(
        self, where: tuple[str, ...], found: dict[NodeKey, Record], *, config: str = "", servers: bool = False
    ) -> None:
        """The links in one folder. ``servers`` when folders stand beside them, ``config`` when a record does."""
        try:
            folder = descend(self._root, *where)
        except DatabaseError:
            return
        if folder is None:
            return
        with folder:
            if not config and not servers:
                self._mode(self._root, Entry(where[0], "folder"))
            for entry in folder.entries():
                if entry.kind == "link":
                    self._link(folder, where, entry.name, found)
                elif entry.name != config and not servers:
                    self._tell("foreign", f"{folder.path}/{entry.name}", f"a {entry.kind} has no place here")

    def _link(self, folder: Folder, where: tuple[str, ...], name: str, found: dict[NodeKey, Record]) -> None:
        path, key = f"{folder.path}/{name}", parse_link_name(name)
        if key is None:
            self._tell("foreign", path, "its name says no node record")
            return
        self._linked.add((*where, name))

        def remove() -> str:
            self._files.unlink(folder.fd, name)
            return "removed"

        if key not in found:
            self._tell("link", path, "the record it is for does not exist", remove)
        elif os.readlink(name, dir_fd=folder.fd) != self._place(key):

            def lead() -> str:
                self._files.unlink(folder.fd, name)
                self._files.symlink(folder.fd, name, self._place(key))
                return "now it does"

            self._tell("link", path, f"it does not lead to {self._place(key)}", lead)

    def _place(self, key: NodeKey) -> str:
        return f"{self._root.path}/{nodes.NODES}/{key.target}/{key.portal_dir}"

    def _missing_links(self, found: dict[NodeKey, Record]) -> None:
        """Records whose discovery does not lead to them: a program stopped between the two."""
        kinds = {value: kind for kind, value in DISCOVERY_TYPE.items()}
        for key, record in found.items():
            kind = kinds.get(record.get("node.discovery_type"), "")
            where: tuple[str, ...] = {"static": (reading.STATIC,), "fw": (reading.FIRMWARE,)}.get(kind, ())
            if kind in reading.DISCOVERY:
                server = f"{record.get('node.discovery_address')},{record.number('node.discovery_port')}"
                where = (reading.DISCOVERY[kind][0], server)
            if not where or key.tpgt < 0 or (*where, key.link_name) in self._linked:
                continue
            folder = self._root.sub(where[0]) if len(where) == 1 else descend(self._root, *where)
            # A server that was forgotten keeps its nodes.
            if folder is None:
                continue
            with folder:
                self._missing_link(folder, key)

    def _missing_link(self, folder: Folder, key: NodeKey) -> None:
        def mend() -> str:
            self._files.symlink(folder.fd, key.link_name, self._place(key))
            return "made"

        self._tell("link", f"{folder.path}/{key.link_name}", "the link to this record is missing", mend)

    # What programs leave behind

    def _leftovers(self) -> None:
        """Temps of a killed run. While somebody holds the lock they are in use."""
        work = self._sub(self._root, reading.WORK)
        if work is None:
            return
        with work:
            if not self._fix and is_locked(self._root.path):
                return
            for entry in work.entries():
                if entry.name.startswith(TEMP):
                    self._leftover(work, entry.name)

    def _leftover(self, work: Folder, name: str) -> None:
        def mend() -> str:
            # All of them at once, as the next change would.
            with Commit(self._root, self._files) as commit:
                commit.clean()
            return "removed"

        self._tell("leftover", f"{work.path}/{name}", "a program was ended while it wrote", mend)


def check(
    root: str, *, fix: bool = False, run: str = "/run", proc: str = "/proc", timeout: float = 30.0
) -> tuple[list[Finding], int]:
    """Look at the database at ``root``: what was found, and how many records were read. A missing one is in order.

    With ``fix`` the writers' lock is held meanwhile, and what was mended is on the disk afterwards. DatabaseError when
    the tree cannot be read or the lock does not come.
    """
    findings: list[Finding] = []
    folder = open_root(root)
    records = 0
    if folder is not None:
        with folder:
            if fix:
                lock(folder.fd, root, timeout=timeout, proc=proc)
            checker = Checker(folder, fix=fix)
            findings = checker.run()
            records = checker.records
            if any(finding.mended for finding in findings) and not Files().sync_all(folder.fd):
                os.sync()
    stale = stale_lock(run, proc)
    if stale:
        text = "open-iscsi's lock was left behind; its programs wait 30 s for it and fail"
        findings.append(Finding("lock", stale, text, remove_lock(stale) if fix else ""))
    return findings, records
