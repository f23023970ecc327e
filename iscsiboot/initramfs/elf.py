# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the dynamic loader reads in an ELF file, as a value (gABI chapter 5, read by pyelftools)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iscsiboot.errors import IscsiBootError, Stage

_PROGRAM_HEADER = {32: 32, 64: 56}
"""Bytes of one program header, by class (gABI figure 5-1)."""
_HEADERS_MAX = 256
_SECTIONS_MAX = 4096
"""More program headers or sections than any program or library has: pyelftools walks them all, many times over, and a
file that lies about their number would keep it busy for minutes."""

DF_1_NODEFLIB = 0x800
"""DT_FLAGS_1: do not look in the default directories (elf.h)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ElfInfo:
    """The dynamic section of one file."""

    bits: int
    """32 or 64: ELFCLASS. A process takes libraries of its own class only."""
    machine: str
    """``EM_X86_64``."""
    interpreter: str = ""
    """PT_INTERP, the path of the dynamic loader; empty for libraries."""
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    """DT_RPATH, empty when DT_RUNPATH is there: the loader then ignores it (elf/get-dynamic-info.h of glibc)."""
    runpath: tuple[str, ...] | None = None
    """DT_RUNPATH; None when absent, which lets the RPATH of those who loaded this file apply."""
    nodeflib: bool = False

    def fits(self, other: ElfInfo) -> bool:
        """Whether both can live in one process."""
        return (self.bits, self.machine) == (other.bits, other.machine)


class BrokenElf(IscsiBootError):
    """The file is not a usable ELF file."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(cause, stage=Stage.IMAGE, subject=str(path), hint="reinstall the package that owns it")


def is_elf(path: Path) -> bool:
    """Whether the file begins like an ELF file; False when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def read_elf(path: Path) -> ElfInfo:
    """Read ``path``; :class:`BrokenElf` when it is no ELF file or contradicts itself."""
    from elftools.common.exceptions import ELFError
    from elftools.construct.core import ConstructError

    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise BrokenElf(path, f"cannot be read: {error.strerror}") from error
    # pyelftools checks little: a lying offset ends in a struct, index, attribute or decoding error of its own.
    except (ELFError, ConstructError, ValueError, LookupError, AttributeError, TypeError, AssertionError) as error:
        raise BrokenElf(path, f"is not a sound ELF file: {error}") from error


def _read(file: object) -> ElfInfo:
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile
    from elftools.elf.segments import InterpSegment

    elf = ELFFile(file)
    header = elf.header
    if header["e_phentsize"] != _PROGRAM_HEADER[elf.elfclass] or header["e_phnum"] > _HEADERS_MAX:
        raise ELFError("its program headers have no possible size or number")
    # Where e_shnum is 0, the number is the size field of section 0 (gABI), up to 2^64: num_sections looks there.
    if max(header["e_shnum"], elf.num_sections()) > _SECTIONS_MAX:
        raise ELFError("it has more sections than any program")
    interpreter = soname = ""
    needed: list[str] = []
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] | None = None
    nodeflib = False
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            interpreter = str(segment.get_interp_name())
        if not isinstance(segment, DynamicSegment):
            continue
        for tag in segment.iter_tags():
            match tag.entry.d_tag:
                case "DT_NEEDED":
                    needed.append(str(tag.needed))
                case "DT_SONAME":
                    soname = str(tag.soname)
                case "DT_RPATH":
                    rpath = _directories(str(tag.rpath))
                case "DT_RUNPATH":
                    runpath = _directories(str(tag.runpath))
                case "DT_FLAGS_1":
                    nodeflib = bool(tag.entry.d_val & DF_1_NODEFLIB)
    return ElfInfo(
        bits=int(elf.elfclass),
        machine=str(elf["e_machine"]),
        interpreter=interpreter,
        soname=soname,
        needed=tuple(needed),
        rpath=() if runpath is not None else rpath,
        runpath=runpath,
        nodeflib=nodeflib,
    )


def _directories(text: str) -> tuple[str, ...]:
    """The list's directories. An empty one means the current directory, which an initramfs has no sensible one of."""
    return tuple(part for part in text.split(":") if part)
