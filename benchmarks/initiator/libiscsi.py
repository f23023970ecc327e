# SPDX-License-Identifier: LGPL-2.1-or-later
"""libiscsi, the C library behind ``iscsi-ls``, called in this process: logins without the cost of starting a program.

Names, numbers and the shape of the calls are those of its public header ``iscsi.h``; the library is Debian's package
``libiscsi7``. One call here is a few microseconds dearer than from C.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

SONAME = "libiscsi.so.7"
NORMAL, DISCOVERY = 2, 1
"""``enum iscsi_session_type``."""
_NO_DIGEST = 0
"""``ISCSI_HEADER_DIGEST_NONE``: ours offers none by default either, and the library's own default offers both."""
_POINTERS = ("iscsi_create_context", "iscsi_discovery_sync")


class LibIscsiError(Exception):
    """The library is not there, or one of its calls failed; the text is its own."""


class _Address(ctypes.Structure):
    """The beginning of ``struct iscsi_discovery_address``: a list linked by its first member."""

    _fields_ = (("next", ctypes.c_void_p),)


class LibIscsi:
    """The loaded library."""

    def __init__(self, soname: str = SONAME) -> None:
        try:
            library = ctypes.CDLL(soname)
        except OSError as error:
            raise LibIscsiError(f"{soname} cannot be loaded (package libiscsi7): {error}") from error
        # As attributes: a function looked up by index is a new object each time, and would forget its result's type.
        self._call: Callable[[str], Any] = partial(getattr, library)
        for name in _POINTERS:
            self._call(name).restype = ctypes.c_void_p
        self._call("iscsi_get_error").restype = ctypes.c_char_p

    def login(self, portal: str, initiator: str, target: str, user: tuple[str, str] | None = None) -> None:
        """Connect, log in to ``target`` (one-way CHAP with ``user``), disconnect."""
        with _Context(self._call, initiator) as context:
            context.do("iscsi_set_targetname", target.encode())
            context.do("iscsi_set_session_type", NORMAL)
            context.do("iscsi_set_header_digest", _NO_DIGEST)
            if user is not None:
                context.do("iscsi_set_initiator_username_pwd", user[0].encode(), user[1].encode())
            context.do("iscsi_connect_sync", portal.encode())
            context.do("iscsi_login_sync")
            context.do("iscsi_disconnect")

    def discover(self, portal: str, initiator: str) -> int:
        """Connect, discovery login, SendTargets=All, log out, disconnect; how many targets the library lists."""
        with _Context(self._call, initiator) as context:
            context.do("iscsi_set_session_type", DISCOVERY)
            context.do("iscsi_connect_sync", portal.encode())
            context.do("iscsi_login_sync")
            first = self._call("iscsi_discovery_sync")(context.pointer)
            if not first:
                raise context.failed("iscsi_discovery_sync")
            count, place = 0, first
            while place:
                count += 1
                place = _Address.from_address(place).next
            self._call("iscsi_free_discovery_data")(context.pointer, ctypes.c_void_p(first))
            context.do("iscsi_logout_sync")
            context.do("iscsi_disconnect")
        return count


class _Context:
    """One ``struct iscsi_context`` for the time of a ``with`` block."""

    def __init__(self, call: Callable[[str], Any], initiator: str) -> None:
        self._call = call
        made = call("iscsi_create_context")(initiator.encode())
        if not made:
            raise LibIscsiError("iscsi_create_context returns nothing")
        self.pointer = ctypes.c_void_p(made)

    def __enter__(self) -> _Context:
        # Else it connects again after an error, and the error that is told is another one.
        self._call("iscsi_set_noautoreconnect")(self.pointer, 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._call("iscsi_destroy_context")(self.pointer)

    def do(self, name: str, *arguments: bytes | int) -> None:
        """A call that returns 0 when it works."""
        if self._call(name)(self.pointer, *arguments) != 0:
            raise self.failed(name)

    def failed(self, name: str) -> LibIscsiError:
        """The error, in the library's words."""
        said = self._call("iscsi_get_error")(self.pointer) or b""
        return LibIscsiError(f"{name}: {said.decode(errors='replace').strip()}")
