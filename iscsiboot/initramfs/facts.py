# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything about the host that decides what an image holds, gathered in one place so that the plan is pure."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import iscsiboot
from iscsiboot.database.initiator_name import NameFile, read_name_file
from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.initramfs.closure import Closure, find_closure
from iscsiboot.initramfs.loader import Library, Process
from iscsiboot.initramfs.manifest import read_manifest
from iscsiboot.initramfs.sysroot import Located, Sysroot

SITE_PACKAGES = ("pyroute2", "pyudev")
NAME_FILE = "/etc/iscsi/initiatorname.iscsi"
_LAUNCHER_LIMIT = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where the boot path is installed. All paths are inside the root (``/`` or a sysroot)."""

    launcher: str
    """``/usr/sbin/iscsistart``; its first line names the interpreter."""
    libdir: str
    """The directory that holds the package ``iscsiboot``."""
    sites: tuple[str, ...]
    """Directories that hold pyroute2 and pyudev."""
    root: Path = Path("/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What :func:`gather` found out."""

    layout: Layout
    interpreter: Located
    launcher: Located
    closure: Closure
    files: dict[str, Located]
    """Where each module's file really is, by the path Python gave."""
    directories: dict[str, Located]
    """The same for the directories of the interpreter's module path that exist."""
    libraries: tuple[Library, ...]
    name_file: Located | None = None
    """The machine's initiator name file, when the image is to have it."""


def installed_layout(root: Path, launcher: str | None) -> Layout:
    """The layout of the running installation: this package's own place, its launcher beside it.

    ``make install`` puts the package into PREFIX/lib/iscsiboot and the launcher into PREFIX/sbin.
    """
    libdir = Path(iscsiboot.__file__).resolve().parents[1]
    sites = dict.fromkeys(_site_of(name) for name in SITE_PACKAGES)
    sites.pop(str(libdir), None)
    return Layout(
        launcher=launcher or str(libdir.parents[1] / "sbin" / "iscsistart"),
        libdir=str(libdir),
        sites=tuple(sites),
        root=root,
    )


def _site_of(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise IscsiBootError(
            "is not installed", stage=Stage.IMAGE, subject=f"Python package {name}", hint=f"install python3-{name}"
        )
    return str(PurePosixPath(spec.submodule_search_locations[0]).parent)


def interpreter_of(sysroot: Sysroot, launcher: str) -> str:
    """The interpreter in the launcher's first line: the same one must be in the image, under the same path."""
    text = sysroot.read(launcher, _LAUNCHER_LIMIT)
    if text is None:
        raise IscsiBootError(
            "is not there", stage=Stage.IMAGE, subject=launcher, hint="run make install, or name it with --launcher"
        )
    words = text.split(b"\n", 1)[0].decode("utf-8", "replace").split()
    if not words or not words[0].startswith("#!/"):
        raise IscsiBootError(
            "does not begin with #! and an absolute path", stage=Stage.IMAGE, subject=launcher, hint="run make install"
        )
    return words[0][2:]


def _nobody(_text: str) -> None:
    pass


def carried_name_file(sysroot: Sysroot, *, host_only: bool, note: Callable[[str], None] = _nobody) -> Located | None:
    """``initiatorname.iscsi`` when it belongs into an image for this machine alone, or for any.

    A general image serves many machines, and a name belongs to one. A file that names nobody (Debian's
    ``GenerateName=yes``) says how each machine makes its own: it goes into every image, so that the name is the same in
    the initramfs and later. IscsiBootError when this machine's is to go in and cannot be read. A general image does
    without, which ``note`` is told: whoever may not read the file makes no image and only wants to know what is in one.
    """
    place = sysroot.locate(NAME_FILE)
    path = sysroot.host(place.real)
    try:
        file = _read_name_file(path)
    except IscsiBootError as error:
        if host_only:
            raise
        note(f"{error.line()}; it is left out")
        return None
    return None if file is None or (file.name and not host_only) else place


def _read_name_file(path: Path) -> NameFile | None:
    try:
        is_file = path.is_file()
    except PermissionError as error:
        raise IscsiBootError(
            f"cannot be read: {error.strerror}", stage=Stage.IMAGE, subject=str(path), hint="run it as root"
        ) from error
    return read_name_file(str(path)) if is_file else None


def gather(layout: Layout, note: Callable[[str], None] | None = None, *, host_only: bool = False) -> Facts:
    """Look at the host; IscsiBootError (stage ``image``) names what is missing. ``note`` takes progress.

    ``host_only``: the image is for this machine and no other.
    """
    note = note or _nobody
    sysroot = Sysroot(layout.root)
    python = interpreter_of(sysroot, layout.launcher)
    note(f"asking {python} what the boot path imports")
    manifest = read_manifest(sysroot, layout.libdir)
    imports = (manifest.entry, *manifest.lazy)
    closure = find_closure(python, imports, front=(layout.libdir,), back=layout.sites, root=layout.root)
    note("following shared libraries")
    process = Process(sysroot, python)
    for module in closure.modules:
        if module.is_extension:
            process.open(module.path, f"import of {module.name}")
    for soname, module_name in closure.dlopened:
        process.open(soname, module_name)
    paths = {module.path for module in closure.modules}
    present = [path for path in closure.stdlib if sysroot.host(sysroot.locate(path).real).is_dir()]
    landmark = {f"{directory}/os.py" for directory in present if sysroot.is_file(f"{directory}/os.py")}
    return Facts(
        layout=layout,
        interpreter=sysroot.locate(python),
        launcher=sysroot.locate(layout.launcher),
        closure=closure,
        files={path: sysroot.locate(path) for path in sorted(paths | landmark)},
        directories={path: sysroot.locate(path) for path in present},
        libraries=tuple(process.libraries),
        name_file=carried_name_file(sysroot, host_only=host_only, note=note),
    )
